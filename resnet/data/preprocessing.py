"""The two ImageNet preprocessing chains, as TensorFlow functions of a JPEG.

| | paper | mlperf |
|---|---|---|
| box to crop from | the whole image | the annotated boxes, else the image |
| attempts at a crop | 10 | 100 |
| resize | bicubic | bilinear, TensorFlow 1's |
| flip | after the resize | before |
| normalise | (x - mean) / deviation | x - mean |
| evaluate | central crop, then resize | resize, then central crop |

Both crop at least 0.1 of a box, at aspect ratios 0.75 to 1.33 and 0.05 to 1
of the area. Images are float32 throughout; the published code of the paper
casts to bfloat16 before it normalises, which mixed precision does after.
JPEGs in grey or CMYK become RGB. Any other format is a broken JPEG: the usual
scripts that write the records convert ImageNet's one PNG.

Source: Nado et al., "A Large Batch Optimizer Reality Check" (2021), B.1, and
its code, google/init2winit, mlperf_input_pipeline.py; MLPerf Training,
ResNet-50 reference, imagenet_preprocessing.py.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

_MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
_DEVIATION = (0.229 * 255, 0.224 * 255, 0.225 * 255)
WHOLE_IMAGE = ((0.0, 0.0, 1.0, 1.0),)
_MLPERF_MEAN = (123.68, 116.78, 103.94)
_SMALLER_SIDE = 256 / 224  # To resize to, over the size of the crop.


class Chain(NamedTuple):
    """One way of preprocessing.

    Attributes:
        boxes: Whether it crops from the annotated boxes.
        train: (encoded, boxes, key, size) -> float32 (size, size, 3), where
            boxes are (1, boxes, 4) as ymin, xmin, ymax, xmax in 0..1 and key
            is two int64 of which all randomness is a function.
        evaluate: (encoded, size) -> float32 (size, size, 3).
    """

    boxes: bool
    train: Callable
    evaluate: Callable


def _distorted_crop(encoded, boxes, key, attempts):
    begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.image.extract_jpeg_shape(encoded),
        boxes,
        seed=key,
        min_object_covered=0.1,
        aspect_ratio_range=(0.75, 1.33),
        area_range=(0.05, 1.0),
        max_attempts=attempts,
        use_image_if_no_bounding_boxes=True,
    )
    window = tf.concat([begin[:2], size[:2]], 0)
    return tf.image.decode_and_crop_jpeg(encoded, window, channels=3)


def _flip(image, key):
    # A key of its own, so that it does not follow from the crop's draws.
    return tf.image.stateless_random_flip_left_right(image, ~key)


def _normalise_paper(image):
    return (image - tf.constant(_MEAN)) / tf.constant(_DEVIATION)


def _train_paper(encoded, boxes, key, size):
    image = _distorted_crop(encoded, boxes, key, attempts=10)
    image = tf.image.resize(image, [size, size], method="bicubic")
    return _normalise_paper(_flip(image, key))


def _evaluate_paper(encoded, size):
    height, width = tf.unstack(tf.image.extract_jpeg_shape(encoded)[:2])
    smaller = tf.cast(tf.minimum(height, width), tf.float32)
    crop = tf.maximum(tf.cast(size / (size + 32) * smaller, tf.int32), 1)
    window = [(height - crop + 1) // 2, (width - crop + 1) // 2, crop, crop]
    image = tf.image.decode_and_crop_jpeg(encoded, window, channels=3)
    image = tf.image.resize(image, [size, size], method="bicubic")
    return _normalise_paper(image)


def _resize_mlperf(image, height, width):
    resized = tf.compat.v1.image.resize(
        image, [height, width], method="bilinear", align_corners=False
    )
    return tf.cast(resized, tf.float32)  # the image itself if of that size


def _train_mlperf(encoded, boxes, key, size):
    image = _flip(_distorted_crop(encoded, boxes, key, attempts=100), key)
    return _resize_mlperf(image, size, size) - tf.constant(_MLPERF_MEAN)


def _evaluate_mlperf(encoded, size):
    # Of a JPEG only, while `decode_jpeg` takes other formats too.
    sides = tf.cast(tf.image.extract_jpeg_shape(encoded)[:2], tf.float32)
    image = tf.image.decode_jpeg(encoded, channels=3)
    scale = round(size * _SMALLER_SIDE) / tf.reduce_min(sides)
    # In float32, 41 * (3 / 41) is below 3.
    sides = tf.maximum(tf.cast(sides * scale, tf.int32), size)
    height, width = tf.unstack(sides)
    image = _resize_mlperf(image, height, width)
    top, left = (height - size) // 2, (width - size) // 2
    image = tf.slice(image, [top, left, 0], [size, size, 3])
    return image - tf.constant(_MLPERF_MEAN)


CHAINS = {
    "paper": Chain(False, _train_paper, _evaluate_paper),
    "mlperf": Chain(True, _train_mlperf, _evaluate_mlperf),
}
