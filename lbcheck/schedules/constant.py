"""A rate that does not change."""

import dataclasses
from typing import Any

from lbcheck.schedules import base


@dataclasses.dataclass(frozen=True)
class Constant(base.Schedule):
    """One rate for every update.

    Args:
        constant_rate: The rate, at least 0.

    Returns:
        A schedule; `schedule(step)` is the rate, in the shape of `step`.

    Raises:
        TypeError, ValueError: If the rate is no finite number of at least 0.

    Example:
        >>> Constant(0.25)(7)
        0.25

    Source: none needed; eta_t = eta.
    """

    constant_rate: Any

    reals = ("constant_rate",)

    def rate(self, xp, step):
        return xp.number(step) * 0.0 + xp.number(self.constant_rate)
