"""The piecewise polynomial of "A Large Batch Optimizer Reality Check"."""

import dataclasses
from typing import Any

from lbcheck.schedules import base


@dataclasses.dataclass(frozen=True)
class PolynomialWarmupDecay(base.Schedule):
    """Polynomial warm-up to a peak, then polynomial decay.

        t <= w: initial + (peak - initial) (t / w)^warmup_power
        t >  w: final + (peak - final) ((E - t) / (E - w))^decay_power

    with w = warmup_steps, E = (decay_end_step or total_steps) +
    decay_steps_offset, and the rate final from E on. The last update takes
    t = total_steps - 1, so the final rate itself is not reached in a run
    with E = total_steps.

    Args:
        initial_rate: Rate at step 0, at least 0.
        peak_rate: Rate at step w, at least 0.
        final_rate: Rate that the decay tends to, at least 0.
        warmup_steps: Updates of warm-up, 0 to total_steps; 0 starts at peak.
        total_steps: Updates of the run, at least 1.
        warmup_power: Power of the warm-up, at least 0.
        decay_power: Power of the decay, at least 0; 0: `peak_rate` from w on.
        decay_end_step: Step at which the decay is over, warmup_steps to
            total_steps; None for total_steps.
        decay_steps_offset: 1 makes the decay one update longer, as the
            MLPerf reference code does; 0 or 1.

    Returns:
        A schedule; `schedule(step)` is the rate.

    Raises:
        TypeError, ValueError: If a field is outside its range.

    Example:
        >>> lars = PolynomialWarmupDecay(0.0, 29.0, 1e-4, 706, 2512, 1.0, 2.0)
        >>> lars(706), round(lars(353), 6), round(lars(1500), 6)
        (29.0, 14.5, 9.105982)

    Source: Nado et al. 2021, Section 2.1.4 and Tables 1 and 5;
    `decay_end_step` as in Tables 11 to 19.
    """

    initial_rate: Any
    peak_rate: Any
    final_rate: Any
    warmup_steps: Any
    total_steps: Any
    warmup_power: Any = 1.0
    decay_power: Any = 1.0
    decay_end_step: Any = None
    decay_steps_offset: int = 0

    reals = (
        "initial_rate",
        "peak_rate",
        "final_rate",
        "warmup_power",
        "decay_power",
    )
    counts = {"warmup_steps": 0, "total_steps": 1, "decay_steps_offset": 0}

    def __post_init__(self):
        super().__post_init__()
        owner = type(self).__name__
        if self.decay_steps_offset not in (0, 1):
            raise ValueError(
                f"{owner}: `decay_steps_offset` must be 0 or 1, received "
                f"{self.decay_steps_offset!r}."
            )
        pairs = [("warmup_steps", "total_steps")]
        if self.decay_end_step is not None:
            end = base.check_count(
                owner, "decay_end_step", self.decay_end_step, 0
            )
            self._set("decay_end_step", end)
            pairs = [
                ("warmup_steps", "decay_end_step"),
                ("decay_end_step", "total_steps"),
            ]
        for small, large in pairs:
            base.check_order(
                owner, small, getattr(self, small), large, getattr(self, large)
            )

    def rate(self, xp, step):
        end = self.decay_end_step
        end = self.total_steps if end is None else end
        # Written as end - (t - offset), so that a variable keeps its dtype.
        late = xp.subtract(step, self.decay_steps_offset)
        left = xp.number(xp.maximum(xp.subtract(end, late), 0))
        length = xp.number(xp.subtract(end, self.warmup_steps))
        length = xp.maximum(length + self.decay_steps_offset, 1.0)
        decayed = xp.power(xp.minimum(left / length, 1.0), self.decay_power)
        width = xp.maximum(xp.number(self.warmup_steps), 1.0)
        done = xp.minimum(xp.number(step) / width, 1.0)
        risen = xp.power(done, self.warmup_power)
        return xp.where(
            xp.subtract(step, self.warmup_steps) < 0,
            xp.between(self.initial_rate, self.peak_rate, risen),
            xp.between(self.final_rate, self.peak_rate, decayed),
        )
