"""A part of a source as a tf.data.Dataset."""

import functools

import tensorflow as tf

from lbcheck.data import pipeline


def dataset(part, size, *start, replicas=1, shard=0, num_shards=1):
    """The shard's stream of batches, one for each of its replicas in turn.

    Args:
        part: Method of the source (see `lbcheck.training.run`), which gives
            a tf.data.Dataset or an iterable of tuples of arrays.
        size: Examples of a batch.
        *start: First batch of a training stream; nothing for evaluation.
        replicas: Devices that the shard feeds.
        shard: Which part of the examples, 0 to num_shards - 1.
        num_shards: How many parts there are.
    """
    whole = size * replicas
    make = functools.partial(
        part, whole, *start, shard=shard, num_shards=num_shards
    )
    data = make()
    if not isinstance(data, tf.data.Dataset):
        signature = tf.nest.map_structure(_specification, next(iter(data)))
        data = tf.data.Dataset.from_generator(make, output_signature=signature)
    if replicas > 1:
        data = data.rebatch(size)
    return pipeline.untuned(data.prefetch(tf.data.AUTOTUNE))


def _specification(array):
    return tf.TensorSpec(array.shape, array.dtype)
