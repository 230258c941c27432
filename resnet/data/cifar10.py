"""CIFAR-10 from its official files, from packed JPEGs, or from TFDS."""

import io
import logging
import os
import pickle

import numpy as np

from lbcheck.support import npz
from lbcheck.support import schema
from resnet.data import arrays
from resnet.data import missing
from resnet.data import tfds

_SHAPE = (32, 32, 3)
_TRAIN = tuple(f"data_batch_{number}" for number in range(1, 6))
_TEST = ("test_batch",)
_JPEG = "cifar10_jpeg.npz"


def source(data_dir, seed, augment=None, max_bad_records=0):
    """50,000 training and 10,000 validation images of 32x32x3."""
    if tfds.names(data_dir):
        splits = tfds.splits("cifar10", data_dir, ("train", "test"))
    else:
        splits = _read(data_dir, max_bad_records)
    return arrays.ArraySource(
        "cifar10",
        *splits,
        num_classes=10,
        seed=seed,
        augment=augment or "davidnet",
    )


def _read(folder, max_bad_records):
    """(train, validation) from whichever form the folder holds."""
    packed = os.path.join(folder, _JPEG)
    if os.path.isfile(packed):
        return _read_jpegs(packed, max_bad_records)
    forms = (
        ("cifar-10-batches-py", "", _read_pickle),
        ("cifar-10-batches-bin", ".bin", _read_binary),
    )
    for subfolder, ending, read in forms:
        for place in (folder, os.path.join(folder, subfolder)):
            if os.path.isfile(os.path.join(place, _TRAIN[0] + ending)):
                return [
                    _join(place, [name + ending for name in names], read)
                    for names in (_TRAIN, _TEST)
                ]
    state = "holds none" if os.path.isdir(folder) else "is no folder; expected"
    raise missing.Missing(
        f"cifar10: {folder} {state} of: {_JPEG}; data_batch_1 to data_batch_5 "
        "and test_batch (or a folder cifar-10-batches-py with them); the same "
        "names with .bin (or a folder cifar-10-batches-bin with them)."
    )


def _join(folder, names, read):
    parts = []
    for name in names:
        path = os.path.join(folder, name)
        if not os.path.isfile(path):
            raise missing.Missing(f"cifar10: {folder} has no {name}.")
        pixels, labels = read(path)
        if pixels.shape != (len(labels), int(np.prod(_SHAPE))):
            raise ValueError(
                f"{path}: {len(labels)} labels and pixels of shape "
                f"{pixels.shape}; expected 3,072 bytes per label."
            )
        arrays.check_labels(labels, 10, path)
        parts.append((pixels, labels))
    pixels, labels = (np.concatenate(column) for column in zip(*parts))
    images = pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return arrays.Split(np.ascontiguousarray(images), labels, folder)


# The one in Python: the one in C allocates what a damaged file promises.
class _Unpickler(pickle._Unpickler):
    """Reads arrays and plain values only: a pickle can run any code."""

    _ALLOWED = ("ndarray", "dtype", "_reconstruct", "_frombuffer", "encode")

    def find_class(self, module, name):
        if module.split(".")[0] in ("numpy", "_codecs") and (
            name in self._ALLOWED
        ):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"holds a {module}.{name}")


def _read_pickle(path):
    content = schema.read_bytes(path)
    try:
        found = _Unpickler(io.BytesIO(content), encoding="bytes").load()
        pixels, labels = found[b"data"], np.array(found[b"labels"])
        if pixels.dtype != np.uint8 or labels.dtype.kind not in "iu":
            raise TypeError(f"holds {pixels.dtype} and {labels.dtype}")
        return pixels, labels
    except Exception as error:  # a damaged pickle may raise any
        what = schema.shown(str(error))
        raise ValueError(
            f"{path}: not a batch of the official Python version: "
            f"{type(error).__name__}({what})."
        ) from error


def _read_binary(path):
    content = np.fromfile(path, np.uint8)
    record = 1 + int(np.prod(_SHAPE))
    if not len(content) or len(content) % record:
        raise ValueError(
            f"{path}: has {len(content)} bytes, expected a multiple of "
            f"{record}: record {len(content) // record} is cut short."
        )
    rows = content.reshape(-1, record)
    return rows[:, 1:], rows[:, 0]


def _read_jpegs(path, max_bad_records):
    """Both splits of a file of JPEGs; at most max_bad_records are left out."""
    content = npz.read(path)
    bad = []
    splits = []
    for kind in ("train", "test"):
        stream, offsets, labels = _packed(path, content, kind)
        images = np.empty((len(labels), *_SHAPE), np.uint8)
        kept = np.ones(len(labels), bool)
        for index, (begin, end) in enumerate(zip(offsets, offsets[1:])):
            try:
                images[index] = _decode(stream[begin:end].tobytes())
            except Exception as error:  # a damaged JPEG may raise any
                kept[index] = False
                bad.append(f"{path}: {kind} record {index}: {error}")
                if len(bad) > max_bad_records:
                    raise ValueError(
                        f"{bad[-1]}. That is broken JPEG number {len(bad)}; "
                        f"max_bad_records is {max_bad_records}."
                    ) from error
                logging.warning("left out a broken JPEG: %s", bad[-1])
        origin = f"{path} ({kind})"
        splits.append(arrays.Split(images[kept], labels[kept], origin))
    return splits


def _packed(path, content, kind):
    """(bytes of all JPEGs, where each begins and the last ends, labels)."""
    names = [f"{kind}_{part}" for part in ("jpeg", "offsets", "labels")]
    for name in names:
        if name not in content:
            raise ValueError(
                f"{path}: has no array {name!r}, only "
                f"{schema.shown(sorted(content))}."
            )
        if content[name].ndim != 1 or content[name].dtype.kind not in "iu":
            raise ValueError(
                f"{path}: {name}: expected a row of whole numbers, received "
                f"{content[name].shape} of {content[name].dtype}."
            )
    stream, offsets, labels = (content[name] for name in names)
    if stream.dtype != np.uint8 or len(offsets) != len(labels) + 1:
        raise ValueError(
            f"{path}: expected {names[0]} in bytes and one of {names[1]} more "
            f"than labels, received {stream.dtype}, {len(offsets)} and "
            f"{len(labels)}."
        )
    ordered = (offsets[:-1] <= offsets[1:]).all()
    if offsets[0] != 0 or offsets[-1] != len(stream) or not ordered:
        raise ValueError(
            f"{path}: {names[1]}: expected to rise from 0 to the "
            f"{len(stream)} bytes of {names[0]}."
        )
    return stream, offsets, labels


def _decode(encoded):
    from PIL import Image

    with Image.open(io.BytesIO(encoded), formats=["JPEG"]) as image:
        if image.size != _SHAPE[:2]:
            raise ValueError(f"has {image.size} pixels, expected 32x32")
        return image.convert("RGB")
