"""MNIST from its idx files, plain or gzip, or from TFDS."""

import gzip
import math
import os
import struct

import numpy as np

from resnet.data import arrays
from resnet.data import tfds

_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


def source(data_dir, seed, augment=None):
    """60,000 training and 10,000 validation images of 28x28x1."""
    if tfds.names(data_dir):
        train, test = tfds.splits("mnist", data_dir, ("train", "test"))
    else:
        train, test = (_split(data_dir, kind) for kind in ("train", "test"))
    return arrays.ArraySource(
        "mnist",
        train,
        test,
        num_classes=10,
        seed=seed,
        augment=augment or "none",
    )


def _split(folder, kind):
    images_file, labels_file = (_find(folder, name) for name in _FILES[kind])
    images = read_idx(images_file, 3)
    labels = read_idx(labels_file, 1)
    if len(images) != len(labels):
        raise ValueError(
            f"{images_file} holds {len(images)} images, {labels_file} "
            f"{len(labels)} labels; expected equally many."
        )
    return arrays.Split(images[..., None], labels, labels_file)


def _find(folder, name):
    for path in (os.path.join(folder, name + end) for end in ("", ".gz")):
        if os.path.isfile(path):
            return path
    state = "has no" if os.path.isdir(folder) else "is no folder; expected"
    raise ValueError(
        f"mnist: {folder} {state} {name} or {name}.gz. Expected the four "
        f"idx files {', '.join(sum(_FILES.values(), ()))} there, plain or .gz."
    )


def read_idx(path, dimensions):
    """The uint8 array of an idx file.

    Args:
        path: File, gzip if its name ends in .gz.
        dimensions: Expected number of axes.

    Returns:
        uint8 array of that many axes.

    Raises:
        ValueError: It is not such a file, or is cut short.

    Source: LeCun, Cortes, Burges, "The MNIST database", format of the files.
    """
    try:
        with (gzip.open if path.endswith(".gz") else open)(path, "rb") as file:
            content = file.read()
    except (EOFError, OSError) as error:
        raise ValueError(f"{path}: broken gzip file: {error}") from error
    header = 4 + 4 * dimensions
    magic = bytes([0, 0, 8, dimensions])
    if content[:4] != magic:
        raise ValueError(
            f"{path}: starts with {content[:4].hex()}, expected "
            f"{magic.hex()}: an idx file of bytes with {dimensions} axes."
        )
    padded = content.ljust(header, b"\0")
    shape = struct.unpack_from(f">{dimensions}I", padded, offset=4)
    expected = header + math.prod(shape)
    if len(content) != expected:
        raise ValueError(
            f"{path}: has {len(content)} bytes, expected {expected} by its "
            f"header {shape}: cut short or padded."
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)
