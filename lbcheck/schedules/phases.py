"""Several schedules one after another."""

import dataclasses

from lbcheck.schedules import base


@dataclasses.dataclass(frozen=True)
class Phases(base.Schedule):
    """One schedule after another, each counting from its own start.

        schedules[k](t - s_k)    for s_k <= t < s_(k+1)

    with s_k the sum of the lengths before k. A schedule with a warm-up warms
    up again when its phase starts. After the last phase its schedule goes on.

    Args:
        schedules: Schedules of this package, at least one.
        lengths: Updates of each phase, at least 1 each.

    Returns:
        A schedule; `schedule(step)` is the rate.

    Raises:
        TypeError, ValueError: If a field is outside its range, or a phase
            is shorter than the warm-up of its schedule.

    Example:
        >>> from lbcheck.schedules import Linear
        >>> two = Phases((Linear(1.0, 4), Linear(0.5, 2)), (4, 2))
        >>> [two(t) for t in range(6)]
        [1.0, 0.75, 0.5, 0.25, 0.5, 0.25]

    Source: You et al. 2019, Section 4.1 (mixed-batch training, re-warm-up);
    Nado et al. 2021, Table 7.
    """

    schedules: tuple
    lengths: tuple

    def __post_init__(self):
        super().__post_init__()
        owner = type(self).__name__
        for name in ("schedules", "lengths"):
            value = getattr(self, name)
            if not isinstance(value, (list, tuple)) or not value:
                raise TypeError(
                    f"{owner}: `{name}` must be a tuple of at least one, "
                    f"received {value!r}."
                )
            self._set(name, tuple(value))
        if len(self.schedules) != len(self.lengths):
            raise ValueError(
                f"{owner}: `lengths` must have one number for each of the "
                f"{len(self.schedules)} schedules, received {self.lengths!r}."
            )
        for schedule, length in zip(self.schedules, self.lengths):
            base.check_schedule(owner, "schedules", schedule)
            base.check_order(
                owner,
                "warmup_steps of a phase",
                getattr(schedule, "warmup_steps", 0),
                "its length",
                base.check_count(owner, "lengths", length, 1),
            )
        lengths = (
            base.check_count(owner, "lengths", n, 1) for n in self.lengths
        )
        self._set("lengths", tuple(lengths))

    def rate(self, xp, step):
        rate = self.schedules[0].rate(xp, step)
        # Steps left over after the phases so far: negative while in them.
        local = step
        for schedule, length in zip(self.schedules[1:], self.lengths):
            local = xp.subtract(local, length)
            later = schedule.rate(xp, xp.maximum(local, 0))
            rate = xp.where(local >= 0, later, rate)
        return rate
