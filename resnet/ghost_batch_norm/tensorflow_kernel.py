"""The arithmetic of ghost batch normalisation in TensorFlow.

All of it goes through TensorFlow's fused kernel, which reads its input half
as often as a chain of simple operations and computes in float32.
"""

import tensorflow as tf

_FUSED_TYPES = (tf.float32, tf.bfloat16, tf.float16)
_MOST_SLICES = 16
"""Beyond, one kernel on transposed groups: the graph stays small."""


def normalize(x, gamma, beta, virtual_batch_size, epsilon):
    """Normalises each group of examples by its own statistics.

    Args:
        x: Inputs (batch, ..., channels).
        gamma: Scale (channels,), float32.
        beta: Offset (channels,), float32.
        virtual_batch_size: Examples in a group, None for the whole batch.
        epsilon: Added to the variance.

    Returns:
        Normalised x, means (groups, channels) and biased variances (groups,
        channels), the latter two in float32.
    """
    if virtual_batch_size is None:
        y, mean, variance = _normalize_one(x, gamma, beta, epsilon)
        return y, mean[tf.newaxis], variance[tf.newaxis]
    batch = x.shape[0]
    if batch is None or batch > _MOST_SLICES * virtual_batch_size:
        return _normalize_transposed(
            x, gamma, beta, virtual_batch_size, epsilon
        )
    rows = [
        _normalize_one(part, gamma, beta, epsilon)
        for part in tf.split(x, batch // virtual_batch_size)
    ]
    y, means, variances = zip(*rows)
    return tf.concat(y, 0), tf.stack(means), tf.stack(variances)


def _normalize_one(x, gamma, beta, epsilon):
    y, mean, variance = _fused(x, gamma, beta, epsilon)
    # The kernel returns n / (n - 1) times the variance it divides by.
    samples = tf.size(x, tf.int64) // tf.size(gamma, tf.int64)
    samples = tf.cast(samples, tf.float32)
    return y, mean, variance * (tf.maximum(samples - 1, 1) / samples)


def _normalize_transposed(x, gamma, beta, virtual_batch_size, epsilon):
    """The groups as more channels of one batch of `virtual_batch_size`."""
    shape = tf.shape(x)
    channels = x.shape[-1]
    check = tf.debugging.Assert(
        tf.equal(shape[0] % virtual_batch_size, 0),
        [
            f"virtual_batch_size={virtual_batch_size} does not divide the "
            "examples that one replica sees in a call:",
            shape[0],
        ],
    )
    with tf.control_dependencies([check]):
        # XLA drops the check; this shape then fails on the same batches.
        samples = virtual_batch_size * tf.reduce_prod(shape[1:-1])
        grouped = tf.reshape(x, [-1, samples, channels])
    groups = tf.shape(grouped)[0]
    y, means, variances = _normalize_one(
        tf.reshape(
            tf.transpose(grouped, [1, 0, 2]), [samples, 1, 1, groups * channels]
        ),
        tf.tile(gamma, [groups]),
        tf.tile(beta, [groups]),
        epsilon,
    )
    y = tf.transpose(tf.reshape(y, [samples, groups, channels]), [1, 0, 2])
    y = tf.ensure_shape(tf.reshape(y, shape), x.shape)
    return (
        y,
        tf.reshape(means, [groups, channels]),
        tf.reshape(variances, [groups, channels]),
    )


def infer(x, gamma, beta, mean, variance, epsilon):
    """x normalised by a given mean and variance."""
    return _fused(x, gamma, beta, epsilon, mean, variance)[0]


def _fused(x, gamma, beta, epsilon, mean=None, variance=None):
    """TensorFlow's kernel: y, mean and corrected variance.

    Not `tf.nn`'s wrapper of it, which raises epsilon to 1.001e-5.
    """
    fused_type = x.dtype if x.dtype in _FUSED_TYPES else tf.float32
    y, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=tf.cast(_rank_4(x), fused_type),
        scale=gamma,
        offset=beta,
        mean=[] if mean is None else mean,
        variance=[] if variance is None else variance,
        epsilon=epsilon,
        is_training=mean is None,
    )
    return _like(tf.cast(y, x.dtype), x), mean, variance


def _rank_4(x):
    if x.shape.rank == 4:
        return x
    return tf.reshape(x, [-1, 1, 1, x.shape[-1]])


def _like(y, x):
    if x.shape.rank == 4:
        return y
    return tf.ensure_shape(tf.reshape(y, tf.shape(x)), x.shape)


def average(per_group):
    """Mean over the groups."""
    return tf.reduce_mean(per_group, 0)
