"""MNIST from its idx files, plain or gzip, or from TFDS."""

import gzip
import math
import os
import struct
import zlib

import numpy as np

from resnet.data import arrays
from resnet.data import missing
from resnet.data import tfds

_LARGEST = 2**28
"""Bytes of a file; MNIST's have at most 47 million."""

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
    raise missing.Missing(
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
    opener = gzip.open if path.endswith(".gz") else open
    try:
        with opener(path, "rb") as file:
            shape = _shape(path, file, dimensions)
            expected = math.prod(shape)
            content = file.read(expected + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path}: broken gzip file: {error}") from error
    if len(content) != expected:
        size = "more" if len(content) > expected else f"{len(content):,}"
        raise ValueError(
            f"{path}: has {size} bytes after its header, expected "
            f"{expected:,} by its shape {shape}: cut short or padded."
        )
    return np.frombuffer(content, np.uint8).reshape(shape)


def _shape(path, file, dimensions):
    magic, wanted = file.read(4), bytes([0, 0, 8, dimensions])
    if magic != wanted:
        raise ValueError(
            f"{path}: starts with {magic.hex()!r}, expected {wanted.hex()}: "
            f"an idx file of bytes with {dimensions} axes."
        )
    header = file.read(4 * dimensions)
    if len(header) < 4 * dimensions:
        raise ValueError(f"{path}: its header is cut short.")
    shape = struct.unpack(f">{dimensions}I", header)
    if math.prod(shape) > _LARGEST:
        raise ValueError(
            f"{path}: its header promises {math.prod(shape):,} bytes, expected "
            f"at most {_LARGEST:,}."
        )
    return shape
