"""Hyperparameters that remember what a build asks them.

A user's build_model, or a loss of Keras, may look at a value: `if
label_smoothing:` decides what is traced. A guarded scalar remembers every such
question, and the trace holds for all values that give the same answers.
"""

import numbers
import operator
from typing import Any

import numpy as np


def agrees(scalar: Any, value) -> bool:
    """Whether `value` answers as the scalar did, if it was asked."""
    questions = getattr(scalar, "questions", ())
    return all(ask(value) == answer for ask, answer in questions)


def release(scalar: Any) -> None:
    """Says that build_model is done with `scalar`, if it is guarded."""
    if hasattr(scalar, "building"):
        scalar.building = False


class Guard:
    """Mixed with a framework's variable; what makes it remember.

    Args:
        value: The number that it stands for.

    Attributes:
        now: That number.
        building: Whether build_model has it, so that to compute with it
            outside of a trace is to ask for its value.
        questions: [(function of a number, its answer)].
    """

    def __init__(self, value, **kwargs):
        self.now = value
        self.building = False
        self.questions = []
        self._hash = hash(value)
        super().__init__(value, **kwargs)
        self.building = True

    def answer(self, function, *others):
        """What a function of the number gives, remembered."""

        def ask(value):
            return function(value, *others)

        found = ask(self.now)
        self.questions.append((ask, found))
        return found

    def __bool__(self):
        return self.answer(bool)

    def __float__(self):
        return self.answer(float)

    def __int__(self):
        return self.answer(int)

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.answer(float), dtype)

    def __hash__(self):
        # To look it up in a set or dict is to ask which number it is.
        return self.answer(hash) if self.building else self._hash


def _comparison(name):
    function = getattr(operator, name)

    def compare(self, other):
        if isinstance(other, numbers.Real):
            return self.answer(function, other)
        return NotImplemented

    return compare


for _name in ("__lt__", "__le__", "__gt__", "__ge__", "__eq__", "__ne__"):
    setattr(Guard, _name, _comparison(_name))
