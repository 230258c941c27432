"""Hyperparameters as scalar TensorFlow variables, and what a build asks them.

An optimizer of this package computes with a variable and never looks at its
value. A user's build_model, or Keras's own losses, may: `if label_smoothing:`
decides what is traced. A guarded variable remembers every such question, and
the trace holds for all values that give the same answers.
"""

import functools
import numbers
import operator

import numpy as np
import tensorflow as tf


def variable(name: str, value, guarded: bool):
    """A scalar: int64 for a Python int, else float32."""
    dtype = tf.int64 if isinstance(value, int) else tf.float32
    make = _guarded() if guarded else tf.Variable
    return make(value, trainable=False, dtype=dtype, name=name)


def fits(scalar, value) -> bool:
    """Whether what was asked of `scalar` is answered the same by `value`."""
    questions = getattr(scalar, "questions", {})
    return all(ask(value) == answer for ask, answer in questions.items())


@functools.cache
def _guarded():
    """The class of guarded variables; made when TensorFlow is first used."""

    class Guarded(type(tf.Variable(0.0))):
        """A variable that remembers what it was asked."""

        def __init__(self, value, **kwargs):
            super().__init__(value, **kwargs)
            self._now = value
            self.questions = {}

        def assign(self, value, *args, **kwargs):
            """As of any variable."""
            self._now = value
            return super().assign(value, *args, **kwargs)

        def _answer(self, function, *others):
            def ask(value):
                return function(value, *others)

            answer = ask(self._now)
            self.questions[ask] = answer
            return answer

        def __bool__(self):
            return self._answer(bool)

        def __float__(self):
            return self._answer(float)

        def __int__(self):
            return self._answer(int)

        def numpy(self):
            """Its value, which the trace then depends on."""
            return self._answer(float)

        def __array__(self, dtype=None, copy=None):
            return np.asarray(self._answer(float), dtype)

        __hash__ = object.__hash__

    def compared(name):
        function = getattr(operator, name)

        def compare(self, other):
            if not isinstance(other, numbers.Real):
                return NotImplemented
            return self._answer(function, other)

        return compare

    for name in ("__lt__", "__le__", "__gt__", "__ge__", "__eq__", "__ne__"):
        setattr(Guarded, name, compared(name))
    return Guarded
