"""What every schedule is: checked fields, a rate for a step, a config.

A step is the number of updates completed before this one, from 0: the first
update of a run takes ``schedule(0)`` and the last ``schedule(total_steps -
1)``. An update is one change of the weights, not one micro-batch.
"""

import dataclasses
import importlib
import math
import numbers
from typing import Any
from typing import ClassVar
from typing import overload

import numpy as np

import lbcheck
from lbcheck.schedules import arrays
from lbcheck.support import checks


def is_array(value: Any) -> bool:
    """Whether a field holds an array or a variable: it is not checked."""
    return hasattr(value, "dtype") and not isinstance(value, np.generic)


def check_real(owner: str, name: str, value: Any) -> Any:
    """`value` as a Python float, refused unless finite and at least 0."""
    if is_array(value):
        return value
    if not checks.is_number(value):
        raise TypeError(
            f"{owner}: `{name}` must be a number of at least 0, received "
            f"{value!r}."
        )
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(
            f"{owner}: `{name}` must be a finite number of at least 0, "
            f"received {value!r}."
        )
    return float(value)


def check_count(owner: str, name: str, value: Any, least: int) -> Any:
    """`value` as a Python int, refused unless whole and at least `least`."""
    if is_array(value):
        return value
    if not checks.is_number(value):
        raise TypeError(
            f"{owner}: `{name}` must be a whole number, received {value!r}."
        )
    if not math.isfinite(value) or value != int(value) or value < least:
        raise ValueError(
            f"{owner}: `{name}` must be a whole number of at least {least}, "
            f"received {value!r}."
        )
    return int(value)


def check_order(
    owner: str, small: str, smaller: Any, large: str, larger: Any
) -> None:
    """Refuses smaller > larger where both are known."""
    if is_array(smaller) or is_array(larger):
        return
    if smaller > larger:
        raise ValueError(
            f"{owner}: `{small}` must be at most `{large}`, received "
            f"{small}={smaller!r} and {large}={larger!r}."
        )


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Base of the schedules: a frozen object that maps a step to a rate.

    A number field may hold an array scalar or a variable instead, so that
    many settings share one traced step; such a field is not checked.
    """

    reals: ClassVar[tuple[str, ...]] = ()
    counts: ClassVar[dict[str, int]] = {}

    def __post_init__(self):
        owner = type(self).__name__
        for name in self.reals:
            self._set(name, check_real(owner, name, getattr(self, name)))
        for name, least in self.counts.items():
            value = check_count(owner, name, getattr(self, name), least)
            self._set(name, value)

    def _set(self, name, value):
        object.__setattr__(self, name, value)

    def rate(self, xp: Any, step: Any) -> Any:
        """The rate at `step`, both arrays of the namespace `xp`."""
        raise NotImplementedError

    @overload
    def __call__(self, step: float) -> float: ...

    @overload
    def __call__(self, step: Any) -> Any: ...

    def __call__(self, step: Any) -> Any:
        """The rate of the update that follows `step` completed ones.

        Args:
            step: Updates completed before this one, at least 0: a Python
                number, a NumPy array, or a TensorFlow, JAX or torch tensor.

        Returns:
            The rate, in float64 for Python numbers and NumPy arrays and in
            float32 for tensors (float64 for a float64 tensor).

        Raises:
            TypeError, ValueError: If a Python or NumPy step is no number of
                at least 0.
        """
        step = arrays.unwrap(step)
        xp = arrays.namespace(step, self.leaves())
        rate = self.rate(xp, xp.count(step))
        if xp is arrays.NUMPY and isinstance(step, numbers.Number):
            return float(rate)
        return rate

    def leaves(self) -> tuple[Any, ...]:
        """The values of all fields, those of inner schedules included."""
        values = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            for part in value if isinstance(value, tuple) else (value,):
                inner = isinstance(part, Schedule)
                values.extend(part.leaves() if inner else (part,))
        return tuple(values)

    def get_config(self) -> dict[str, Any]:
        """The fields as plain Python values, inner schedules included."""
        return {
            field.name: _plain(getattr(self, field.name))
            for field in dataclasses.fields(self)
            if field.init
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Schedule":
        """The schedule that `get_config` described."""
        return cls(**{k: _rebuilt(value) for k, value in config.items()})

    def as_keras(self, keras: str | None = None) -> Any:
        """This schedule as a `LearningRateSchedule` of a Keras.

        Args:
            keras: "keras3" or "tf_keras"; None for what `tf.keras` is in
                this process.

        Returns:
            An object that any optimizer of that Keras takes as
            `learning_rate` and that is saved with the model.

        Raises:
            ValueError: If `keras` names no Keras.
        """
        keras = keras or lbcheck.default_keras()
        if keras not in ("keras3", "tf_keras"):
            raise ValueError(
                "as_keras: `keras` must be 'keras3' or 'tf_keras', received "
                f"{keras!r}."
            )
        module = f"lbcheck.schedules.{keras}_schedule"
        return importlib.import_module(module).KerasSchedule(self)


def serialize(schedule: Schedule) -> dict[str, Any]:
    """A schedule as {"class_name", "config"} of plain Python values."""
    return {
        "class_name": type(schedule).__name__,
        "config": schedule.get_config(),
    }


def deserialize(described: dict[str, Any]) -> Schedule:
    """The schedule that `serialize` described.

    Raises:
        ValueError: If the class is no schedule of this package.
    """
    package = importlib.import_module("lbcheck.schedules")
    name = described["class_name"]
    if name not in package.FAMILIES:
        raise ValueError(
            f"Unknown schedule {name!r}; known are {sorted(package.FAMILIES)}."
        )
    return package.FAMILIES[name].from_config(described["config"])


def check_schedule(owner: str, name: str, value: Any) -> None:
    """Refuses what is no schedule of this package."""
    if not isinstance(value, Schedule):
        raise TypeError(
            f"{owner}: `{name}` must be a schedule of lbcheck.schedules, such "
            f"as Constant(0.1), received {value!r}."
        )


def _plain(value):
    if isinstance(value, Schedule):
        return serialize(value)
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    if is_array(value):
        return np.asarray(arrays.unwrap(value)).item()
    return value


def _rebuilt(value):
    if isinstance(value, dict) and "class_name" in value:
        return deserialize(value)
    if isinstance(value, (list, tuple)):
        return tuple(_rebuilt(part) for part in value)
    return value
