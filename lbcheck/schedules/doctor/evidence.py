"""What the checks of the doctor look at."""

from typing import NamedTuple

import numpy as np

from lbcheck.schedules.doctor import sampling
from lbcheck.schedules.doctor import segments

SMALLEST_RATIO = 2
LARGEST_RATIO = 64
"""Ratios of step counts in which micro-batches per update are suspected."""


class End(NamedTuple):
    """Where a schedule stops changing.

    Attributes:
        step: First step of the constant rest.
        rate: Its rate.
    """

    step: int
    rate: float


class Case(NamedTuple):
    """A sampled schedule, and what is known of what was meant.

    Attributes:
        samples: All samples, those beyond the run included.
        steps: Steps of the run.
        rates: Their rates.
        total: Updates of the run.
        peak: Rate that is meant to be reached, or None.
        warmup: Updates of warm-up that are meant, or None.
        steps_per_epoch: Updates of one epoch, or None.
        phase_starts: Steps at which the schedule should start again.
        configured_peak: Peak that the schedule itself names, or None.
        jumps: Its jumps.
        rise: Its warm-up, or None.
        end: Where it stops changing, inside the run or beyond, or None.
    """

    samples: sampling.Samples
    steps: np.ndarray
    rates: np.ndarray
    total: int
    peak: float | None
    warmup: int | None
    steps_per_epoch: int | None
    phase_starts: tuple[int, ...]
    configured_peak: float | None
    jumps: list[segments.Jump]
    rise: segments.Warmup | None
    end: End | None

    @property
    def highest(self) -> float:
        """The highest rate of the run."""
        return float(self.rates.max())

    @property
    def gap(self) -> int:
        """Steps between two samples; 1 but for a log."""
        return int(np.max(np.diff(self.steps)))

    @property
    def is_log(self) -> bool:
        """Whether the rates are given and cannot be evaluated elsewhere."""
        return self.samples.evaluate is None

    @property
    def quantum(self) -> float:
        """The step of a log's rounded rates; 0 where they look exact."""
        changes = np.abs(np.diff(self.rates))
        held = np.count_nonzero(changes == 0)
        if not self.is_log or not 0.05 * len(changes) < held < len(changes):
            return 0.0
        smallest = float(changes[changes > 1e-9 * self.highest].min())
        multiples = self.rates / smallest
        rounded = np.abs(multiples - np.round(multiples)) < 1e-3
        return smallest if np.all(rounded) else 0.0

    @property
    def told_limit(self) -> float | None:
        """The given peak, if warm-up was heading for it at its given end."""
        if not self.warmup or not self.peak or self.gap > 1:
            return None
        index = int(np.searchsorted(self.steps, self.warmup))
        if index >= len(self.steps):
            return None
        limit = segments.heading(self.steps, self.rates, index)
        if limit is None or abs(limit / self.peak - 1) > 1e-3:
            return None
        return limit


def whole_ratio(large: float, small: float) -> int | None:
    """large / small where that is a plausible number of micro-batches.

    Example:
        >>> whole_ratio(3125, 781), whole_ratio(3125, 1000)
        (4, None)
    """
    if small < 1:
        return None
    ratio = round(large / small)
    if not SMALLEST_RATIO <= ratio <= LARGEST_RATIO:
        return None
    return ratio if abs(large - ratio * small) <= ratio else None
