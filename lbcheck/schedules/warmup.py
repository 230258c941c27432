"""Warm-up put before, or over, any other schedule."""

import dataclasses
from typing import Any

from lbcheck.schedules import base


@dataclasses.dataclass(frozen=True)
class Warmup(base.Schedule):
    """Polynomial warm-up and then another schedule.

        t < w:  initial + (target - initial) (t / w)^power
        t >= w: after(t - w) if shift, else after(t)

    With `shift=True` the other schedule starts when warm-up ends: give it
    the steps that remain. With `shift=False` it runs from step 0 and warm-up
    overrides its first w updates: it has decayed behind the scenes, and
    the rate drops at step w unless the target is lowered, too.

    Args:
        after: Schedule of this package that follows.
        warmup_steps: w, updates of warm-up, at least 0.
        power: Power of the warm-up, at least 0.
        initial_rate: Rate at step 0, at least 0.
        target_rate: What the warm-up rises to at step w, at least 0; None
            for the rate of `after` at that step, which is continuous.
        shift: Whether `after` counts from the end of warm-up.

    Returns:
        A schedule; `schedule(step)` is the rate.

    Raises:
        TypeError, ValueError: If a field is outside its range, or warm-up is
            longer than the schedule that it overrides.

    Example:
        >>> from lbcheck.schedules import Linear
        >>> fixed = Warmup(Linear(1.0, total_steps=8), warmup_steps=2)
        >>> [fixed(t) for t in (0, 1, 2, 6)]
        [0.0, 0.5, 1.0, 0.5]
        >>> over = Warmup(Linear(1.0, 10), 2, target_rate=1.0, shift=False)
        >>> [over(t) for t in (0, 1, 2, 6)]
        [0.0, 0.5, 0.8, 0.4]

    Source: Nado et al. 2021, Appendix B, for the difference between the
    two; Goyal et al. 2017, Section 2.2, for gradual warm-up.
    """

    after: base.Schedule
    warmup_steps: Any
    power: Any = 1.0
    initial_rate: Any = 0.0
    target_rate: Any = None
    shift: bool = True

    reals = ("power", "initial_rate")
    counts = {"warmup_steps": 0}

    def __post_init__(self):
        super().__post_init__()
        owner = type(self).__name__
        base.check_schedule(owner, "after", self.after)
        if self.target_rate is not None:
            target = base.check_real(owner, "target_rate", self.target_rate)
            self._set("target_rate", target)
        if not isinstance(self.shift, bool):
            raise TypeError(
                f"{owner}: `shift` must be True or False, received "
                f"{self.shift!r}."
            )
        total = getattr(self.after, "total_steps", None)
        if not self.shift and total is not None:
            base.check_order(
                owner,
                "warmup_steps",
                self.warmup_steps,
                "after.total_steps",
                total,
            )

    def rate(self, xp, step):
        origin = self.warmup_steps if self.shift else 0
        joined = xp.subtract(self.warmup_steps, origin)
        target = self.target_rate
        if target is None:
            target = self.after.rate(xp, xp.count(joined))
        width = xp.maximum(xp.number(self.warmup_steps), 1.0)
        done = xp.minimum(xp.number(step) / width, 1.0)
        rising = xp.between(
            self.initial_rate, target, xp.power(done, self.power)
        )
        later = self.after.rate(xp, xp.maximum(xp.subtract(step, origin), 0))
        warming = xp.subtract(step, self.warmup_steps) < 0
        return xp.where(warming, rising, later)
