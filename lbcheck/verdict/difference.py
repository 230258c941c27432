"""By how much one arm is ahead of another, and what more seeds would show."""

import functools
import math
from collections.abc import Sequence

import numpy as np
from scipy import special

from lbcheck.verdict import statistics

RANK_ERROR = 0.05
MEAN_ERROR = 0.01
POWER = 0.85
"""Of each of two tests, so that both pass in 80 %."""
ASSURANCE = 0.85
"""The same of more seeds."""
MOST_SEEDS = 1000
FENCE = 5.0


class Shift:
    r"""How much greater the runs `x` are than the runs `y`, with intervals.

    The estimate is Hodges and Lehmann's, the median of all \(x_i - y_j\). For
    arms that differ by a shift it estimates the difference of medians, and
    needs a third fewer runs for the same precision under normal noise.

    A shift of more than d is established only if two tests agree:

    * ranks: \(P(x > y + d) > 1/2\), with the variance of Brunner and Munzel at
      the estimate, so the arms' spread may differ; error 5 %;
    * means: Welch's t test with min(n, m) - 1 degrees of freedom; error 1 %,
      as skewed noise of unequal spread makes it err more often at few runs.

    Each guards where the other errs: ranks drift if skewed arms of one mean
    differ in spread, means if those of one median do. A run that lies off its
    arm's quartiles by more than 5 interquartile ranges (at least `least`) has
    collapsed and counts in the mean as if it lay there. The interval holds
    every shift that is not ruled out, so it is the union of both intervals.

    Args:
        x: Runs of one arm, at least one, finite.
        y: Runs of the other.
        least: Least distance from the quartiles at which a run is pulled in.
        scale: Multiplies both errors; below 1 for many comparisons.

    Source: Hodges and Lehmann 1963; Brunner and Munzel 2000; Welch 1947.
    """

    def __init__(
        self,
        x: Sequence[float],
        y: Sequence[float],
        least: float = 0.0,
        scale: float = 1.0,
    ):
        x, y = np.asarray(x, float), np.asarray(y, float)
        self._scale = scale
        self._differences = np.sort((x[:, None] - y).ravel())
        self.estimate = statistics.middle(self._differences)
        self._num_runs = min(len(x), len(y))
        self._rank_error, self._rank_freedom = self._rank(x, y)
        self._mean, self._mean_error = _means(x, y, least)
        self.interval = statistics.Interval(*self._ends())

    def _rank(self, x, y):
        """Standard error of P(x > y) at the estimate; degrees of freedom."""
        n, m = len(x), len(y)
        if self._num_runs < 2:
            return math.inf, 1.0
        aligned = x - self.estimate
        wins = statistics.wins(aligned, y)
        a = wins.mean(axis=1).var(ddof=1) / n
        b = wins.mean(axis=0).var(ddof=1) / m
        freedom = (a + b) ** 2 / max(
            a**2 / (n - 1) + b**2 / (m - 1), np.finfo(float).tiny
        )
        return math.sqrt(a + b), max(freedom, 1.0)

    def _ends(self):
        count = len(self._differences)
        t = special.stdtrit(self._rank_freedom, 1 - RANK_ERROR * self._scale)
        outside = count * (0.5 - t * self._rank_error)
        low, high = -math.inf, math.inf
        if outside >= 0:
            low = self._differences[int(outside)]
            high = self._differences[count - 1 - int(outside)]
        half = self.mean_half
        return (
            float(min(low, self._mean - half)),
            float(max(high, self._mean + half)),
        )

    @property
    def mean_half(self) -> float:
        """Half the width of the interval of means."""
        if self._num_runs < 2:
            return math.inf
        return self._mean_error * t_quantile(self._num_runs, self._scale)

    def p_above(self, d: float) -> float:
        """P-value of "the shift is more than d", to be compared with 5 %."""
        above = np.mean(self._differences > d)
        return self._p_value(above - 0.5, self._mean - d)

    def p_reached(self, d: float) -> float:
        """P-value of "the shift is more than d" with an error of 5 % in both
        tests: of a margin, where no difference at all is ruled out already.
        """
        above = np.mean(self._differences > d)
        return self._p_value(above - 0.5, self._mean - d, RANK_ERROR)

    def p_below(self, d: float) -> float:
        """P-value of "the shift is less than d", to be compared with 5 %."""
        below = np.mean(self._differences < d)
        return self._p_value(below - 0.5, d - self._mean)

    def _p_value(self, rank, mean, mean_error=MEAN_ERROR):
        if self._num_runs < 2:
            return 1.0
        ranks = _t_test(rank, self._rank_error, self._rank_freedom)
        means = _t_test(mean, self._mean_error, self._num_runs - 1)
        worst = max(ranks, means * RANK_ERROR / mean_error)
        return float(min(worst / self._scale, 1.0))


def _t_test(difference, error, freedom):
    if error > 0:
        return special.stdtr(freedom, -difference / error)
    return 0.0 if difference > 0 else 1.0


def _means(x, y, least):
    """Difference of means and its standard error, collapses pulled in."""
    x, y = _pulled_in(x, least), _pulled_in(y, least)
    if min(len(x), len(y)) < 2:
        return x.mean() - y.mean(), math.inf
    variance = x.var(ddof=1) / len(x) + y.var(ddof=1) / len(y)
    return x.mean() - y.mean(), math.sqrt(variance)


def _pulled_in(values, least):
    ordered = np.sort(values)
    quarter = (len(ordered) - 1) // 4
    low, high = ordered[quarter], ordered[-1 - quarter]
    reach = max(FENCE * (high - low), least)
    return np.clip(values, low - reach, high + reach)


def t_quantile(num_runs, scale: float = 1.0, error: float = MEAN_ERROR):
    """Quantile by which an error of the mean becomes half an interval."""
    return special.stdtrit(num_runs - 1, 1 - error * scale)


class Plan:
    r"""What more seeds can be expected to show of a shift.

    The shift of the runs so far is known up to its standard error s, so the
    estimate of N runs, n of which there are, is expected around the present
    one with a variance of \(s^2 (1 - n / N)\): the assurance of a test that
    fails where the estimate of N runs is too low is the part of that normal
    distribution above what the test takes.

    Args:
        shift: From at least 2 runs per arm.
        num_runs: Runs an arm that it rests on.
        margin: Differences below it do not matter.
        scale: As in `Shift`.

    Attributes:
        runs: 2 .. 1,000 runs per arm.
        needed: For each of them, the probability that "needed" is found;
            0 up to `num_runs`.
        not_needed: The same of "not needed".

    Source: O'Hagan, Stevens and Campbell 2005, for assurance.
    """

    def __init__(
        self, shift: Shift, num_runs: int, margin: float, scale: float = 1.0
    ):
        low, high = shift.interval
        half = max(shift.estimate - low, high - shift.estimate)
        if not math.isfinite(half):
            half = shift.mean_half
        self._margin = margin
        self._t = t_quantile(num_runs, scale)
        self._error = half / self._t
        self._t_reached = t_quantile(num_runs, scale, RANK_ERROR)
        self.runs, quantiles = _quantiles(scale)
        _, reached = _quantiles(scale, RANK_ERROR)
        share = np.minimum(num_runs / self.runs, 1.0)
        errors = self._error * np.sqrt(share)
        spread = self._error * np.sqrt(1 - share)
        enough = np.maximum(quantiles * errors, margin + reached * errors)
        self.needed = _above(shift.estimate - enough, spread)
        self.not_needed = _above(
            margin - quantiles * errors - shift.estimate, spread
        )

    @property
    def detectable(self) -> float:
        """Least true difference called "needed" with 80 % at these runs."""
        return float(
            special.ndtri(POWER) * self._error
            + max(
                self._t * self._error,
                self._margin + self._t_reached * self._error,
            )
        )


def _above(lead, spread):
    """P(lead + spread * normal > 0), 0 without a spread."""
    known = np.where(spread > 0, spread, 1.0)
    return np.where(spread > 0, special.ndtr(lead / known), 0.0)


@functools.lru_cache(maxsize=64)
def _quantiles(scale, error=MEAN_ERROR):
    runs = np.arange(2, MOST_SEEDS + 1)
    return runs, t_quantile(runs, scale, error)
