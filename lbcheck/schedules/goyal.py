"""The step schedule of "Accurate, Large Minibatch SGD"."""

import dataclasses
from typing import Any

from lbcheck.schedules import base


@dataclasses.dataclass(frozen=True)
class GoyalSteps(base.Schedule):
    """Linear warm-up, then a constant rate that falls by steps.

        t < w:  initial + (peak - initial) t / w
        t >= w: peak * factor^(number of boundaries b with b <= t)

    Boundaries count from the start of the run, warm-up included: the update
    with t = b is the first at the lower rate.

    Args:
        peak_rate: Rate after warm-up, at least 0.
        warmup_steps: w, updates of warm-up, at least 0.
        boundaries: Increasing steps, each at least warmup_steps.
        factor: What each boundary multiplies the rate by, at least 0.
        initial_rate: Rate at step 0: 0, or the rate of the base batch size
            as in the paper; at least 0.

    Returns:
        A schedule; `schedule(step)` is the rate.

    Raises:
        TypeError, ValueError: If a field is outside its range.

    Example:
        >>> steps = GoyalSteps(3.2, 10, (30, 60), initial_rate=0.1)
        >>> [round(steps(t), 6) for t in (0, 5, 29, 30, 60)]
        [0.1, 1.65, 3.2, 0.32, 0.032]

    Source: Goyal et al. 2017, Sections 2.2 and 5.1; You et al. 2019, the "+"
    of Table 3.
    """

    peak_rate: Any
    warmup_steps: Any
    boundaries: tuple
    factor: Any = 0.1
    initial_rate: Any = 0.0

    reals = ("peak_rate", "factor", "initial_rate")
    counts = {"warmup_steps": 0}

    def __post_init__(self):
        super().__post_init__()
        owner = type(self).__name__
        if not isinstance(self.boundaries, (list, tuple)):
            raise TypeError(
                f"{owner}: `boundaries` must be a tuple of steps, received "
                f"{self.boundaries!r}."
            )
        boundaries = tuple(
            base.check_count(owner, "boundaries", boundary, 0)
            for boundary in self.boundaries
        )
        self._set("boundaries", boundaries)
        known = [
            value
            for value in (self.warmup_steps, *boundaries)
            if not base.is_array(value)
        ]
        if known != sorted(known):
            raise ValueError(
                f"{owner}: `boundaries` must increase and be at least "
                f"`warmup_steps`, received boundaries={boundaries!r} and "
                f"warmup_steps={self.warmup_steps!r}."
            )

    def rate(self, xp, step):
        rate = xp.number(step) * 0.0 + xp.number(self.peak_rate)
        for boundary in self.boundaries:
            passed = xp.subtract(step, boundary) >= 0
            rate = xp.where(passed, rate * xp.number(self.factor), rate)
        width = xp.maximum(xp.number(self.warmup_steps), 1.0)
        done = xp.minimum(xp.number(step) / width, 1.0)
        rising = xp.between(self.initial_rate, self.peak_rate, done)
        warming = xp.subtract(step, self.warmup_steps) < 0
        return xp.where(warming, rising, rate)
