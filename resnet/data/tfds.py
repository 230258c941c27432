"""Data sets that TensorFlow Datasets (TFDS) has prepared on a disk.

The only module that knows TFDS; nothing is downloaded.
"""

import os

import numpy as np

from resnet.data import arrays
from resnet.data import missing

_PREFIX = "tfds"


def names(data_dir):
    """Whether a data_dir means TFDS: "tfds" or "tfds:/path"."""
    return data_dir == _PREFIX or data_dir.startswith(_PREFIX + ":")


def builder(name, data_dir):
    """The TFDS builder of a prepared data set.

    Args:
        name: TFDS's name of it, such as "imagenet2012".
        data_dir: "tfds", or "tfds:/path" where path is a TFDS root folder or
            the folder of one version, the one with dataset_info.json.

    Returns:
        The builder.

    Raises:
        ValueError: It is not prepared there.
    """
    try:
        import tensorflow_datasets
    except ImportError as error:
        raise missing.Missing(
            f"{name}: give the folder of the files as data_dir or the folder "
            "above it as the environment variable LBCHECK_DATA; TFDS's data "
            "need the package tensorflow-datasets."
        ) from error

    _, _, path = data_dir.partition(":")
    path = os.path.expanduser(path)
    if os.path.isfile(os.path.join(path, "dataset_info.json")):
        found = tensorflow_datasets.builder_from_directory(path)
        if found.name != name:
            raise ValueError(
                f"{path} holds TFDS's {found.name!r}, expected {name!r}."
            )
        return found
    found = tensorflow_datasets.builder(name, data_dir=path or None)
    if not found.is_prepared():
        raise missing.Missing(
            f"{found.data_path} holds no data set prepared by TFDS. Run `tfds "
            f"build {name}`, or give the folder of the files as data_dir or "
            "the folder above it as the environment variable LBCHECK_DATA."
        )
    return found


def splits(name, data_dir, kinds):
    """The splits of an image data set as arrays, a `Split` each."""
    import tensorflow_datasets

    found = builder(name, data_dir)
    parts = []
    for kind in kinds:
        examples = list(
            tensorflow_datasets.as_numpy(
                found.as_dataset(split=kind, shuffle_files=False)
            )
        )
        images, labels = (
            np.stack([example[feature] for example in examples])
            for feature in ("image", "label")
        )
        origin = f"{found.data_path} ({kind})"
        parts.append(arrays.Split(images, labels, origin))
    return parts


def files(name, data_dir, kinds):
    """(paths, records of each) of the TFRecord files of each split."""
    found = builder(name, data_dir)
    file_format = found.info.file_format.value
    if file_format != "tfrecord":
        raise ValueError(
            f"{found.data_path} is in the format {file_format!r}, expected "
            "'tfrecord'."
        )
    splits = [found.info.splits[kind] for kind in kinds]
    return [
        ([str(path) for path in split.filepaths], list(split.shard_lengths))
        for split in splits
    ]
