"""TFRecord files: how many records they hold, and streams of them.

A record's name is the index of its file times `FILE`, plus its own. The
order of a stream is a function of its arguments alone. Importing this module
imports no TensorFlow.
"""

import os
import struct
from concurrent import futures

from lbcheck.support import errors

FILE = 1 << 32
"""More records than a file has."""

_HEADER = 12  # Eight bytes of length and their checksum of four.
_FOOTER = 4
_GZIP = b"\x1f\x8b"
_SHUFFLE_BUFFER = 16_384
_OPEN_FILES = 10


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
        return read_whole(path)
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
                if not begin and header.startswith(_GZIP):
                    raise ValueError(
                        f"{path}: is compressed by gzip, expected a plain "
                        "TFRecord file; unpack it, for instance with gunzip."
                    )
                raise ValueError(
                    f"{path}: record {records}, at byte {begin}, is cut short "
                    f"or damaged: the file ends at byte {size}."
                )
            records += 1
    return records


def read_whole(path) -> int:
    """Reads a file with its checksums; how many records it has.

    Raises:
        ValueError: Names the file and the record that is damaged.
    """
    import tensorflow as tf

    records = 0
    try:
        for _ in tf.data.TFRecordDataset(path):
            records += 1
    except tf.errors.DataLossError as error:
        raise ValueError(
            f"{path}: record {records} is cut short or damaged "
            f"({errors.cleaned(error)})."
        ) from error
    return records


def first(path) -> bytes:
    """The first record of a file that has one, its checksum unread.

    TensorFlow's devices are left alone, which strategies configure first.

    Raises:
        ValueError: It is cut short or damaged.
    """
    import tensorflow as tf

    with tf.io.gfile.GFile(path, "rb") as file:
        header, size = file.read(_HEADER), file.size()
        if len(header) == _HEADER:
            length = struct.unpack("<Q", header[:8])[0]
            if _HEADER + length + _FOOTER <= size:
                return file.read(length)
    raise ValueError(
        f"{path}: record 0 is cut short or damaged: the file has {size} bytes."
    )


def read(paths, order):
    """(name, example) of the records of the files, some open at a time.

    Args:
        paths: Files.
        order: int64 tensor, indices of the files to read.
    """
    import tensorflow as tf

    paths = tf.constant(paths)
    return tf.data.Dataset.from_tensor_slices(order).interleave(
        lambda file: tf.data.TFRecordDataset(paths[file]).enumerate(
            file * FILE
        ),
        cycle_length=_OPEN_FILES,
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )


def shuffle(dataset, seed, part):
    """Dataset.shuffle whose order is a function of (seed, part) alone.

    Dataset.shuffle itself also depends on tf.random.set_seed.

    Args:
        dataset: tf.data.Dataset of tuples of tensors.
        seed: At least 0.
        part: int64 tensor; what tells this dataset from others of the seed.
    """
    import tensorflow as tf

    element = dataset.element_spec
    shuffled = tf.raw_ops.ShuffleDataset(
        input_dataset=tf.data.experimental.to_variant(dataset),
        buffer_size=_SHUFFLE_BUFFER,
        seed=seed,
        seed2=part + 1,  # Both zero would mean any order.
        output_types=[part.dtype for part in element],
        output_shapes=[part.shape for part in element],
        reshuffle_each_iteration=False,
    )
    return tf.data.experimental.from_variant(shuffled, element)


def finish(dataset):
    """The dataset in its own order and shards, prefetched."""
    import tensorflow as tf

    options = tf.data.Options()
    options.deterministic = True
    # The shards are cut here.
    options.experimental_distribute.auto_shard_policy = (
        tf.data.experimental.AutoShardPolicy.OFF
    )
    return dataset.with_options(options).prefetch(tf.data.AUTOTUNE)
