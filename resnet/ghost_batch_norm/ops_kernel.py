"""The arithmetic of ghost batch normalisation in `keras.ops`."""

from keras import ops


def normalize(x, gamma, beta, virtual_batch_size, epsilon):
    """Each group by its own statistics; see `tensorflow_kernel.normalize`."""
    channels = x.shape[-1]
    groups = x.shape[0] // (virtual_batch_size or x.shape[0])
    grouped = ops.cast(ops.reshape(x, (groups, -1, channels)), "float32")
    means = ops.mean(grouped, axis=1, keepdims=True)
    centred = grouped - means
    variances = ops.mean(ops.square(centred), axis=1, keepdims=True)
    y = centred * (ops.rsqrt(variances + epsilon) * gamma) + beta
    return (
        ops.cast(ops.reshape(y, x.shape), x.dtype),
        ops.reshape(means, (groups, channels)),
        ops.reshape(variances, (groups, channels)),
    )


def infer(x, gamma, beta, mean, variance, epsilon):
    """x normalised by a given mean and variance."""
    scale = ops.rsqrt(variance + epsilon) * gamma
    y = (ops.cast(x, "float32") - mean) * scale + beta
    return ops.cast(y, x.dtype)


def average(per_group):
    """Mean over the groups."""
    return ops.mean(per_group, axis=0)
