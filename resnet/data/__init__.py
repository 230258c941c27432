"""The image data sets by name.

    source = load("digits", seed=0)
    for images, labels in source.train(batch_size=256, start=0):
        ...

A source has ``name``, ``image_shape``, ``num_classes``, ``num_train``,
``num_validation`` and three methods:

``train(batch_size, start=0, shard=0, num_shards=1)``
    The endless training stream, a function of the seed alone. It is cut into
    blocks of ``batch_size * num_shards`` examples; element k is the shard-th
    contiguous part of block ``start + k``. Images are float32 NHWC, labels
    int32.
``validation(batch_size, shard=0, num_shards=1)``
    Every example once, as (images, labels, float32 weights); the last blocks
    are filled with zero images of weight 0, so that all shards yield
    ``ceil(num_validation / (batch_size * num_shards))`` full batches.
``check()``
    One line a thing found, for a dry run.

The small sets are NumPy arrays and import no TensorFlow, unless they come
from TFDS; ImageNet is a ``tf.data.Dataset``.
"""

import importlib
import os

NAMES = ("digits", "mnist", "cifar10", "imagenet")
TFDS = "tfds"
IMAGE_SIZE = 224
_FOLDERS = {
    "mnist": "mnist",
    "cifar10": "cifar10",
    "imagenet": "imagenet-sample",
}


def load(
    name,
    *,
    data_dir=None,
    seed=0,
    image_size=IMAGE_SIZE,
    preprocessing="paper",
    augment=None,
    max_bad_records=0,
    num_train_examples=None,
):
    """The source of a data set.

    Args:
        name: One of `NAMES`.
        data_dir: Folder of the files; "tfds" for TFDS's own folder, or
            "tfds:/path" for another. None: the set's folder under
            $LBCHECK_DATA if that is set, else "tfds". digits takes none.
        seed: Seed of the order and of the augmentation, an integer of at
            least 0.
        image_size: Height and width in pixels, imagenet only.
        preprocessing: "paper" or "mlperf", imagenet only.
        augment: "none" or "davidnet", array sources only; None is the set's
            own: "davidnet" for cifar10, "none" for digits and mnist.
        max_bad_records: Broken JPEGs to skip before that is an error.
        num_train_examples: Training records of imagenet; None counts them.

    Returns:
        The source, see the module.

    Raises:
        ValueError: A setting is unknown or a file is missing or broken; the
            message names it.

    Example:
        >>> load("digits").num_train
        1437
    """
    if name not in NAMES:
        raise ValueError(
            f"unknown data set {name!r}; expected one of {', '.join(NAMES)}."
        )
    for setting, value in (
        ("seed", seed),
        ("max_bad_records", max_bad_records),
    ):
        if not isinstance(value, int) or value < 0:
            raise ValueError(
                f"`{setting}` must be an integer of at least 0, received "
                f"{value!r}."
            )
    module = importlib.import_module(f"resnet.data.{name}")
    if name == "digits":
        if data_dir is not None:
            raise ValueError(
                "digits comes with scikit-learn and takes no `data_dir`, "
                f"received {data_dir!r}."
            )
        return module.source(seed, augment)
    if data_dir is None:
        root = os.environ.get("LBCHECK_DATA")
        data_dir = os.path.join(root, _FOLDERS[name]) if root else TFDS
    if name == "mnist":
        return module.source(data_dir, seed, augment)
    if name == "cifar10":
        return module.source(data_dir, seed, augment, max_bad_records)
    if augment is not None:
        raise ValueError(
            "imagenet's augmentation is part of `preprocessing` and takes no "
            f"`augment`, received {augment!r}."
        )
    return module.source(
        data_dir,
        seed=seed,
        image_size=image_size,
        preprocessing=preprocessing,
        max_bad_records=max_bad_records,
        num_train_examples=num_train_examples,
    )
