"""What the checks of the doctor look at."""

import decimal
from typing import NamedTuple

import numpy as np

from lbcheck.schedules.doctor import sampling
from lbcheck.schedules.doctor import segments

SMALLEST_RATIO = 2
LARGEST_RATIO = 64
"""Ratios of step counts in which micro-batches per update are suspected."""

_MOST_DIGITS = 8
"""More than float32 has; what has more is not rounded for print."""
_FEWEST_ROUNDED = 10
"""With fewer rates a schedule of steps may be meant."""


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
        units: What the last digit of each rate of a log is worth, 0 where
            the rates are not rounded.
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
    units: np.ndarray
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
        """The last digit of a log's highest rate; 0 where rates are exact."""
        return float(self.units[int(np.argmax(self.rates))])

    def is_printed(self, rate: float) -> bool:
        """Whether a log of so many digits, two or more, shows it as its
        highest rate."""
        digits, _ = _most_digits(np.unique(self.rates[self.rates > 0]))
        if not self.is_log or digits < 2:
            return False
        return float(f"{rate:.{digits - 1}e}") == self.highest

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


def units_of(rates: np.ndarray, unit: float = 0.0) -> np.ndarray:
    """What the last digit of each rate is worth in a log of few digits.

    `unit` is that of all, where a log says so by the decimals it prints.

    A log whose rates have more digits than float32, or that has so few rates
    that they may be meant so, counts as exact: zeros.

    Example:
        >>> rates = np.array([float(f"{1e-3 / t:.3g}") for t in range(1, 20)])
        >>> units_of(rates)[[0, 2]]  # of 0.001 and 0.000333
        array([1.e-05, 1.e-06])
    """
    exact = np.zeros(len(rates))
    if unit > 10.0**-_MOST_DIGITS * rates.max():
        return exact + unit
    values = np.unique(rates[rates > 0])
    if len(values) < _FEWEST_ROUNDED:
        return exact
    digits, decimals = _most_digits(values)
    if digits > _MOST_DIGITS:
        return exact
    shown = np.where(rates > 0, rates, values[0])
    places = np.floor(np.log10(shown) + 1e-9) - digits + 1
    return np.maximum(10.0**places, 10.0**-decimals)


def _most_digits(values) -> tuple[int, int]:
    """(significant digits, decimals) of numbers as they are printed."""
    digits, decimals = 0, 0
    for value in values.tolist():
        number = decimal.Decimal(repr(value)).normalize().as_tuple()
        digits = max(digits, len(number.digits))
        decimals = max(decimals, -number.exponent)
        if digits > _MOST_DIGITS:
            break
    return digits, decimals


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
