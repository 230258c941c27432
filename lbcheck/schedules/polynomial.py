"""Polynomial and linear decay from the first update on."""

import dataclasses
from typing import Any

from lbcheck.schedules import base


@dataclasses.dataclass(frozen=True)
class Polynomial(base.Schedule):
    """Polynomial decay over the whole run.

        final + (initial - final) ((T - t) / T)^power,    final from T on

    Args:
        initial_rate: Rate at step 0, at least 0.
        total_steps: T, the updates until the final rate, at least 1.
        final_rate: Rate from step T on, at least 0.
        power: Power of the decay, at least 0; 0: `initial_rate` throughout.

    Returns:
        A schedule; `schedule(step)` is the rate.

    Raises:
        TypeError, ValueError: If a field is outside its range.

    Example:
        >>> Polynomial(8.0, total_steps=10, power=2.0)(5)
        2.0

    Source: TensorFlow's polynomial_decay; the decay of LAMB, You et al.
    2019, Section 4 (power 1).
    """

    initial_rate: Any
    total_steps: Any
    final_rate: Any = 0.0
    power: Any = 1.0

    reals = ("initial_rate", "final_rate", "power")
    counts = {"total_steps": 1}

    def rate(self, xp, step):
        left = xp.number(xp.maximum(xp.subtract(self.total_steps, step), 0))
        decayed = xp.power(left / xp.number(self.total_steps), self.power)
        return xp.between(self.final_rate, self.initial_rate, decayed)


@dataclasses.dataclass(frozen=True)
class Linear(Polynomial):
    """Linear decay over the whole run.

        final + (initial - final) (T - t) / T,    final from T on

    Args:
        initial_rate: Rate at step 0, at least 0.
        total_steps: T, the updates until the final rate, at least 1.
        final_rate: Rate from step T on, at least 0.

    Returns:
        A schedule; `schedule(step)` is the rate.

    Raises:
        TypeError, ValueError: If a field is outside its range.

    Example:
        >>> Linear(8.0, total_steps=10, final_rate=4.0)(5)
        6.0

    Source: Nado et al. 2021, Tables 9 and 10.
    """

    power: Any = dataclasses.field(default=1.0, init=False)
