"""The warm-up that hides in Adam's bias correction."""

import dataclasses
from typing import Any

from lbcheck.schedules import base


@dataclasses.dataclass(frozen=True)
class BiasCorrected(base.Schedule):
    """What bias correction makes of a schedule.

        after(t) * sqrt(1 - beta_2^(t+1)) / (1 - beta_1^(t+1))

    Adam and LAMB without bias correction on this schedule move as with it
    on `after`, epsilon aside.

    Args:
        after: Schedule of this package.
        beta_1: Decay of the first moment, in [0, 1).
        beta_2: Decay of the second moment, in [0, 1).

    Returns:
        A schedule; `schedule(step)` is the rate.

    Raises:
        TypeError, ValueError: If a field is outside its range.

    Example:
        >>> from lbcheck.schedules import Constant
        >>> implicit = BiasCorrected(Constant(1.0), 0.9, 0.999)
        >>> round(implicit(0), 5), round(implicit(999), 5)
        (0.31623, 0.79518)

    Source: You et al. 2019, Appendix E and Figure 2, with the root over the
    numerator only (the printed one covers the fraction); Kingma and Ba 2015,
    Section 2.
    """

    after: base.Schedule
    beta_1: Any
    beta_2: Any

    reals = ("beta_1", "beta_2")

    def __post_init__(self):
        super().__post_init__()
        owner = type(self).__name__
        base.check_schedule(owner, "after", self.after)
        for name in self.reals:
            value = getattr(self, name)
            if not base.is_array(value) and value >= 1:
                raise ValueError(
                    f"{owner}: `{name}` must lie in [0, 1), received {value!r}."
                )

    def rate(self, xp, step):
        count = xp.number(step) + 1.0
        root = xp.sqrt(xp.one_minus_power(self.beta_2, count))
        mean = xp.one_minus_power(self.beta_1, count)
        return self.after.rate(xp, step) * root / mean
