"""Hyperparameters as scalar TensorFlow variables, and what a build asks them.

An optimizer of this package computes with a variable and never looks at its
value. A user's build_model, or a loss of Keras, may: `if label_smoothing:`
decides what is traced. A guarded variable remembers every such question, and
the trace holds for all values that give the same answers.
"""

import functools
import numbers
import operator

import numpy as np
import tensorflow as tf


def variable(name: str, value, guarded: bool):
    """A scalar variable: int64 for a Python int, else float32."""
    dtype = _dtype(value)
    make = _guarded() if guarded else tf.Variable
    return make(value, trainable=False, dtype=dtype, name=name)


def fits(scalar, value) -> bool:
    """Whether `value` has the type of `scalar` and answers alike."""
    questions = getattr(scalar, "questions", ())
    return scalar.dtype == _dtype(value) and all(
        ask(value) == answer for ask, answer in questions
    )


def _dtype(value):
    return tf.int64 if isinstance(value, int) else tf.float32


def release(scalar) -> None:
    """Says that build_model is done with `scalar`, if it is guarded."""
    if hasattr(scalar, "building"):
        scalar.building = False


@functools.cache
def _guarded():
    """The class of guarded variables, made when TensorFlow is first used."""

    class Guarded(_Guard, type(tf.Variable(0.0))):
        """A variable that remembers what it was asked."""

    return Guarded


class _Guard:
    """What makes a variable remember what it was asked.

    While `building`, to compute with it outside of a graph is to ask for
    its value.
    """

    def __init__(self, value, **kwargs):
        self.now = value
        self.building = False
        self.questions = []
        super().__init__(value, **kwargs)
        self.building = True

    def _answer(self, function, *others):
        def ask(value):
            return function(value, *others)

        answer = ask(self.now)
        self.questions.append((ask, answer))
        return answer

    def assign(self, value, *args, **kwargs):
        """As of any variable."""
        self.now = value
        return super().assign(value, *args, **kwargs)

    def value(self):
        """As of any variable."""
        if self.building and tf.executing_eagerly():
            self._answer(float)
        return super().value()

    def numpy(self):
        """The value, asked for."""
        return np.asarray(self._answer(float), self.dtype.as_numpy_dtype)

    def __bool__(self):
        return self._answer(bool)

    def __float__(self):
        return self._answer(float)

    def __int__(self):
        return self._answer(int)

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self._answer(float), dtype)

    __hash__ = object.__hash__


def _comparison(name):
    function = getattr(operator, name)

    def compare(self, other):
        if isinstance(other, numbers.Real):
            return self._answer(function, other)
        return NotImplemented

    return compare


for _name in ("__lt__", "__le__", "__gt__", "__ge__", "__eq__", "__ne__"):
    setattr(_Guard, _name, _comparison(_name))
