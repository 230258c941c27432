"""TFRecord files: which there are, and how many records each holds."""

import os
import re
import struct
from concurrent import futures

_NAME = re.compile(r".*-(\d{5})-of-(\d{5})")
_HEADER = 12  # Eight bytes of length and their checksum of four.
_FOOTER = 4


def find(folder, split):
    """The files `split-00000-of-00008` and so on of a folder, in order.

    Args:
        folder: Local folder, or one that tf.io.gfile reads.
        split: Beginning of their names.

    Returns:
        List of paths.

    Raises:
        ValueError: The folder or one of its files is missing.
    """
    import tensorflow as tf

    expected = f"TFRecord files named {split}-00000-of-00008 and so on"
    if not tf.io.gfile.isdir(folder):
        raise ValueError(f"{folder} is no folder; expected {expected} there.")
    paths = sorted(tf.io.gfile.glob(os.path.join(folder, f"{split}-*-of-*")))
    if not paths:
        raise ValueError(f"{folder} has no {split} files; expected {expected}.")
    matches = [_NAME.fullmatch(path) for path in paths]
    numbers = [match and tuple(map(int, match.groups())) for match in matches]
    wanted = [(number, len(paths)) for number in range(len(paths))]
    if numbers != wanted:
        raise ValueError(
            f"{folder}: expected each of {split}-00000-of-{len(paths):05} to "
            f"{split}-{len(paths) - 1:05}-of-{len(paths):05} once, found "
            f"{', '.join(os.path.basename(path) for path in paths[:8])}"
            f"{', ...' if len(paths) > 8 else '.'}"
        )
    return paths


def count(paths):
    """Records of each file, by the lengths in their headers.

    Args:
        paths: Files. One that tf.io.gfile has to read (gs://) is read whole.

    Returns:
        List of numbers of records.

    Raises:
        ValueError: A file is cut short or is no TFRecord file.
    """
    with futures.ThreadPoolExecutor(16) as pool:
        return list(pool.map(_count, paths))


def _count(path):
    if "://" in path:
        return _count_remote(path)
    size = os.path.getsize(path)
    records = position = 0
    # Unbuffered: a buffer would be filled anew at each record.
    with open(path, "rb", buffering=0) as file:
        while position < size:
            header = os.pread(file.fileno(), _HEADER, position)
            begin = position
            if len(header) == _HEADER:
                position += _HEADER + struct.unpack("<Q", header[:8])[0]
                position += _FOOTER
            if len(header) < _HEADER or position > size:
                raise ValueError(
                    f"{path}: record {records}, at byte {begin}, is cut short "
                    f"or damaged: the file ends at byte {size}."
                )
            records += 1
    return records


def _count_remote(path):
    import tensorflow as tf

    records = 0
    try:
        for _ in tf.data.TFRecordDataset(path):
            records += 1
    except tf.errors.DataLossError as error:
        raise ValueError(
            f"{path}: record {records} is cut short or damaged: {error.message}"
        ) from error
    return records
