"""ImageNet's training input against the same bare tf.data chain.

    LBCHECK_DATA=... python benchmarks/jpeg_input.py
    python benchmarks/jpeg_input.py --data_dir=/path/to/tfrecords

Both read TFRecords, decode a distorted crop, resize to 224 pixels, flip and
normalise, in batches of 64. The bare chain has random operations without a
seed, no shuffle, no names of records and no care for broken ones. The windows
alternate in one process, one pipeline alive at a time. Printed: images a second
and images a second of processor time (all threads), best and median, and
the ratios; the bar is 0.95. Processor time hardly feels what else runs on the
machine; wall time needs a machine of its own.

What --data_dir holds is a small sample, as in LBCHECK_DATA: it is repeated in a
temporary folder (16 files, each the sample twice), for files of 20 records
would measure how a file is opened. ImageNet's hold 1,251.
"""

import glob
import os
import pathlib
import statistics
import tempfile
import time

import common
from absl import app
from absl import flags

_DATA = flags.DEFINE_string(
    "data_dir", None, "Folder of a few hundred TFRecords."
)
_CHAIN = flags.DEFINE_enum(
    "preprocessing", "mlperf", ["mlperf", "paper"], "Which chain."
)
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Windows of each.", 1)
_BATCHES = flags.DEFINE_integer("batches", 40, "Batches a window.", 1)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 64, "Images a batch.", 1)
_FILES = 16
_LENGTH = 2


def bare(folder, chain):
    """The chain as one would write it down."""
    import tensorflow as tf

    features = {
        "image/encoded": tf.io.FixedLenFeature([], tf.string),
        "image/class/label": tf.io.FixedLenFeature([], tf.int64),
    }
    paper = chain == "paper"

    def prepare(record):
        example = tf.io.parse_single_example(record, features)
        encoded = example["image/encoded"]
        begin, size, _ = tf.image.sample_distorted_bounding_box(
            tf.image.extract_jpeg_shape(encoded),
            tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
            min_object_covered=0.1,
            aspect_ratio_range=(0.75, 1.33),
            area_range=(0.05, 1.0),
            max_attempts=10 if paper else 100,
            use_image_if_no_bounding_boxes=True,
        )
        window = tf.stack([begin[0], begin[1], size[0], size[1]])
        image = tf.image.decode_and_crop_jpeg(encoded, window, channels=3)
        if paper:
            image = tf.image.resize(image, [224, 224], method="bicubic")
            image = tf.image.random_flip_left_right(image)
            image -= tf.constant([123.675, 116.28, 103.53])
            image /= tf.constant([58.395, 57.12, 57.375])
        else:
            image = tf.image.random_flip_left_right(image)
            image = tf.compat.v1.image.resize(image, [224, 224])
            image -= tf.constant([123.68, 116.78, 103.94])
        return image, tf.cast(example["image/class/label"] - 1, tf.int32)

    files = sorted(glob.glob(os.path.join(folder, "train-*-of-*")))
    return (
        tf.data.TFRecordDataset(files, num_parallel_reads=2)
        .repeat()
        .map(prepare, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(_BATCH_SIZE.value, drop_remainder=True)
        .prefetch(tf.data.AUTOTUNE)
    )


def lengthened(folder, target):
    """The TFRecords of a folder, in fewer and longer files.

    TFRecord files that are joined are a TFRecord file.
    """
    for split, joined in (("train", _LENGTH), ("validation", 1)):
        files = sorted(glob.glob(os.path.join(folder, f"{split}-*-of-*")))
        if not files:
            raise app.UsageError(f"{folder} has no {split}-*-of-* files.")
        whole = b"".join(pathlib.Path(file).read_bytes() for file in files)
        for number in range(_FILES):
            name = f"{split}-{number:05}-of-{_FILES:05}"
            pathlib.Path(target, name).write_bytes(whole * joined)


def window(dataset):
    """(images a second, images a second of processor time)."""
    iterator = iter(dataset)
    for _ in range(10):
        next(iterator)
    wall, processor = time.perf_counter(), time.process_time()
    for _ in range(_BATCHES.value):
        next(iterator)
    images = _BATCHES.value * _BATCH_SIZE.value
    return (
        images / (time.perf_counter() - wall),
        images / (time.process_time() - processor),
    )


def main(argv):
    del argv
    folder = _DATA.value or str(common.data("imagenet-sample"))
    from lbcheck.training import streams
    from resnet import data

    with tempfile.TemporaryDirectory() as target:
        lengthened(folder, target)
        source = data.load(
            "imagenet", data_dir=target, preprocessing=_CHAIN.value
        )
        ways = {
            "bare": bare(target, _CHAIN.value),
            "lbcheck": streams.dataset(source.train, _BATCH_SIZE.value, 0),
        }
        rates = {name: [] for name in ways}
        for _ in common.rounds_in_time(_ROUNDS.value):
            for name, dataset in ways.items():
                rates[name].append(window(dataset))
    print(f"{_CHAIN.value}, batch {_BATCH_SIZE.value}, images a second")
    figures = {}
    for name, windows in rates.items():
        for kind, values in zip(("wall", "processor"), zip(*windows)):
            figures[name, kind] = max(values), statistics.median(values)
            print(
                f"{name:8} {kind:10} best {max(values):7.0f}  "
                f"median {statistics.median(values):7.0f}"
            )
    for kind in ("wall", "processor"):
        best, median = (
            ours / theirs
            for ours, theirs in zip(
                figures["lbcheck", kind], figures["bare", kind]
            )
        )
        print(f"lbcheck / bare, {kind:10} best {best:.3f}  median {median:.3f}")
    ours, theirs = (list(zip(*rates[name])) for name in ("lbcheck", "bare"))
    for number, kind in enumerate(("wall", "processor")):
        common.tell(
            f"input of ImageNet, {_CHAIN.value}, batch {_BATCH_SIZE.value}, "
            f"by {kind} time",
            list(ours[number]),
            "images/s",
            list(theirs[number]),
            "the bare tf.data chain",
            better="more",
        )


if __name__ == "__main__":
    common.start(main, rounds=2, batches=2, batch_size=4)
