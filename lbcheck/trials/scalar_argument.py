"""Hyperparameters and rates as arguments of a compiled step: Keras 3 on JAX.

A `Scalar` is a variable of Keras wherever it is looked at, so that optimizers
and losses take it; while a step is traced its value is what the step was
given. Neither it nor a `Rates` holds anything that a trial has to set back.
"""

import contextlib

import keras
import numpy as np
from keras import ops

from lbcheck.trials import guard


class Rates(keras.optimizers.schedules.LearningRateSchedule):
    """The learning rate of each update, from an array that a step is given.

    Attributes:
        given: float32 array, (steps,); None outside of a step.
    """

    def __init__(self):
        super().__init__()
        self.given = None

    def __call__(self, step):
        if self.given is None:
            return ops.zeros((), "float32")  # Keras may ask when it is made
        return ops.take(self.given, ops.cast(step, "int32"))


class Scalar(keras.Variable):
    """A number that a step is given.

    Args:
        name: Of the hyperparameter.
        value: The number: int32 for a Python int, else float32.

    Attributes:
        given: The argument while a step is traced, else None.
    """

    given = None

    def __init__(self, value, name):
        super().__init__(
            np.asarray(value, dtype(value)),
            trainable=False,
            autocast=False,
            name=name,
        )

    @property
    def value(self):
        """The argument, or the number outside of a step."""
        return super().value if self.given is None else self.given


class Guarded(guard.Guard, Scalar):
    """One for build_model, which may ask for the number; see `guard`."""

    @property
    def value(self):
        """As of a `Scalar`; asked for while the model is built."""
        if self.building:
            self.answer(float)
        return super().value


def dtype(value) -> str:
    """Type of the argument for a Python number."""
    return "int32" if isinstance(value, int) else "float32"


def fits(scalar, value) -> bool:
    """Whether `value` has the type of `scalar` and answers alike."""
    return scalar.dtype == dtype(value) and guard.agrees(scalar, value)


@contextlib.contextmanager
def given(holders, values):
    """Within, each `Scalar` or `Rates` has the value that goes with it."""
    try:
        for holder, value in zip(holders, values, strict=True):
            holder.given = value
        yield
    finally:
        for holder in holders:
            holder.given = None
