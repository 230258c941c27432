"""Hyperparameters as scalar TensorFlow variables; see `guard`.

An optimizer of this package computes with a variable and never looks at its
value, so that only what build_model gets is guarded.
"""

import functools

import numpy as np
import tensorflow as tf

from lbcheck.trials import guard


def variable(name: str, value, guarded: bool):
    """A scalar variable: int64 for a Python int, else float32."""
    dtype = _dtype(value)
    make = _guarded() if guarded else tf.Variable
    return make(value, trainable=False, dtype=dtype, name=name)


def fits(scalar, value) -> bool:
    """Whether `value` has the type of `scalar` and answers alike."""
    return scalar.dtype == _dtype(value) and guard.agrees(scalar, value)


def _dtype(value):
    return tf.int64 if isinstance(value, int) else tf.float32


@functools.cache
def _guarded():
    """The class of guarded variables, made when TensorFlow is first used."""

    class Guarded(_Guard, type(tf.Variable(0.0))):
        """A variable that remembers what it was asked."""

    return Guarded


class _Guard(guard.Guard):
    """A guard of what TensorFlow calls."""

    def assign(self, value, *args, **kwargs):
        """As of any variable."""
        self.now = value
        return super().assign(value, *args, **kwargs)

    def value(self):
        """As of any variable."""
        if self.building and tf.executing_eagerly():
            self.answer(float)
        return super().value()

    def numpy(self):
        """The value, asked for."""
        return np.asarray(self.answer(float), self.dtype.as_numpy_dtype)
