"""Initial weights that depend on a seed and the variable's name alone.

Drawn with NumPy, so that both Kerases, any backend and any order in which a
model makes its variables give the same numbers.
"""

import functools
import math

import numpy as np


class VarianceScaling:
    """Kernels of mean 0 and variance scale / fan_in.

    Args:
        seed: Whole number, at least 0.
        name: Name of the variable; another name gives other numbers.
        scale: Above 0.
        distribution: "truncated_normal" (cut at two standard deviations of
            the uncut normal, as Keras and flax do) or "uniform".

    Example: `VarianceScaling(0, "stem_conv/kernel")` is lecun_normal.

    Source: LeCun, Bottou, Orr and Müller 1998, "Efficient BackProp", 4.6.
    """

    def __init__(self, seed, name, scale=1.0, distribution="truncated_normal"):
        if distribution not in ("truncated_normal", "uniform"):
            raise ValueError(
                f"Initializer of {name!r}: `distribution` must be "
                f"'truncated_normal' or 'uniform', received {distribution!r}."
            )
        self.seed = seed
        self.name = name
        self.scale = scale
        self.distribution = distribution

    def __call__(self, shape, dtype=None, **kwargs):
        generator = _generator(self.seed, self.name)
        deviation = math.sqrt(self.scale / math.prod(shape[:-1]))
        if self.distribution == "uniform":
            limit = math.sqrt(3) * deviation
            return _typed(generator.uniform(-limit, limit, shape), dtype)
        values = generator.standard_normal(shape)
        while (outside := np.abs(values) > 2).any():
            values[outside] = generator.standard_normal(outside.sum())
        return _typed(deviation / _CUT_DEVIATION * values, dtype)

    def get_config(self):
        """The arguments."""
        return {
            "seed": self.seed,
            "name": self.name,
            "scale": self.scale,
            "distribution": self.distribution,
        }


class Normal:
    """Values from N(0, stddev^2).

    Args:
        seed: Whole number, at least 0.
        name: Name of the variable; another name gives other numbers.
        stddev: At least 0.
    """

    def __init__(self, seed, name, stddev):
        self.seed = seed
        self.name = name
        self.stddev = stddev

    def __call__(self, shape, dtype=None, **kwargs):
        values = _generator(self.seed, self.name).standard_normal(shape)
        return _typed(self.stddev * values, dtype)

    def get_config(self):
        """The arguments."""
        return {"seed": self.seed, "name": self.name, "stddev": self.stddev}


# Standard deviation of a standard normal cut at -2 and 2.
_CUT_DEVIATION = math.sqrt(
    1 - 4 * math.exp(-2) / math.sqrt(2 * math.pi) / math.erf(math.sqrt(2))
)


def _generator(seed, name):
    return np.random.default_rng([seed, *name.encode()])


def _typed(values, dtype):
    return values.astype(getattr(dtype, "as_numpy_dtype", dtype or "float32"))


@functools.cache
def of(keras):
    """`VarianceScaling` and `Normal` as initializers of a Keras, registered.

    Args:
        keras: The module `keras` or `tf_keras`.
    """
    register = keras.saving.register_keras_serializable(package="resnet")
    return tuple(
        register(type(one.__name__, (one, keras.initializers.Initializer), {}))
        for one in (VarianceScaling, Normal)
    )
