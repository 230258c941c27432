"""Half a cosine."""

import dataclasses
import math
from typing import Any

from lbcheck.schedules import base


@dataclasses.dataclass(frozen=True)
class Cosine(base.Schedule):
    """Decay along half a cosine.

        final + (initial - final) sin^2(pi (T - t) / (2 T)),    final from T on

    which is final + (initial - final) (1 + cos(pi t / T)) / 2 without its
    cancellation near T.

    Args:
        initial_rate, total_steps, final_rate: As of `Linear`.

    Returns:
        A schedule; `schedule(step)` is the rate.

    Raises:
        TypeError, ValueError: If a field is outside its range.

    Example:
        >>> round(Cosine(2.0, total_steps=6)(2), 12)
        1.5

    Source: Loshchilov and Hutter 2017, Equation 5 with one cycle; Nado et
    al. 2021, Section 4 and Table 8.
    """

    initial_rate: Any
    total_steps: Any
    final_rate: Any = 0.0

    reals = ("initial_rate", "final_rate")
    counts = {"total_steps": 1}

    def rate(self, xp, step):
        total = xp.number(self.total_steps)
        left = xp.number(xp.maximum(xp.subtract(self.total_steps, step), 0))
        # Both halves keep their relative precision in float32: close to T
        # the sine is small, close to 0 the cosine is 1.
        sine = xp.sin(left / total * (math.pi / 2))
        return xp.between(self.final_rate, self.initial_rate, sine * sine)
