"""By how much one arm is ahead of another, and what more seeds would show."""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

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
LEAST_GROUPS = 6


class ExampleError(NamedTuple):
    """Standard error of a difference over the examples, degrees of freedom."""

    error: float
    freedom: int


NO_EXAMPLES = ExampleError(0.0, 1)


def example_error(
    x: Sequence[Sequence[float]], y: Sequence[Sequence[float]]
) -> ExampleError:
    r"""What the choice of the examples adds to the error of a difference.

    Both arms are judged on the same G groups of examples, so with \(d_g\) the
    difference of the arms' means on a group, the variance is

    $$ \mathrm{var}(d_g) / G - \sum_{arm} M_{arm} / (n_{arm} G) $$

    and at least 0; M is the mean square of what neither the run nor the group
    explains, which the spread of the runs holds already.

    Args:
        x: Metrics of each run of an arm on each group, (n, G), finite.
        y: Of the other arm, (m, G).

    Returns:
        NO_EXAMPLES of fewer than 6 groups, of which too little is known.

    Example:
        >>> found = example_error([[0.9, 0.7] * 3] * 2, [[0.8, 0.7] * 3] * 2)
        >>> round(found.error, 6), found.freedom
        (0.022361, 5)

    Source: Searle, Casella and McCulloch 1992, the two-way random model.
    """
    arms = [np.asarray(runs, float) for runs in (x, y)]
    groups = arms[0].shape[1]
    if groups < LEAST_GROUPS:
        return NO_EXAMPLES
    means, others = (runs.mean(axis=0) for runs in arms)
    variance = float(np.var(means - others, ddof=1)) / groups
    for runs in arms:
        if len(runs) > 1:
            rest = runs - runs.mean(axis=0) - runs.mean(axis=1)[:, None]
            square = np.sum((rest + runs.mean()) ** 2)
            square /= (len(runs) - 1) * (groups - 1)
            variance -= square / (len(runs) * groups)
    return ExampleError(math.sqrt(max(variance, 0.0)), groups - 1)


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

    With test examples each test allows for their choice as well. The standard
    error of means is known, that of ranks is the distance of the estimate from
    the interval's end over its quantile; their squares and that of the
    examples are added, the degrees of freedom are Satterthwaite's.

    Args:
        x: Runs of one arm, at least one, finite.
        y: Runs of the other.
        least: Least distance from the quartiles at which a run is pulled in.
        scale: Multiplies both errors; below 1 for many comparisons.
        examples: What the choice of the examples adds.

    Source: Hodges and Lehmann 1963; Brunner and Munzel 2000; Welch 1947; Zou
        and Donner 2008 for the interval of a sum.
    """

    def __init__(
        self,
        x: Sequence[float],
        y: Sequence[float],
        least: float = 0.0,
        scale: float = 1.0,
        examples: ExampleError = NO_EXAMPLES,
    ):
        x, y = np.asarray(x, float), np.asarray(y, float)
        self._scale = scale
        self.examples = examples
        self._differences = np.sort((x[:, None] - y).ravel())
        self.estimate = statistics.middle(self._differences)
        self._num_runs = min(len(x), len(y))
        self._rank_error, self._rank_freedom = self._rank(x, y)
        self._mean, self._seeds_error = _means(x, y, least)
        self._rank_ends = self._by_ranks()
        self.seeds_interval = statistics.Interval(*self._ends())
        self.interval = self.seeds_interval
        if examples.error > 0:
            low, high = self.seeds_interval
            self.interval = statistics.Interval(
                min(low, self.estimate - self._reach(1)),
                max(high, self.estimate + self._reach(-1)),
            )

    def _rank(self, x, y):
        """Standard error of P(x > y) at the estimate; degrees of freedom."""
        n, m = len(x), len(y)
        if self._num_runs < 2:
            return math.inf, 1.0
        leads = x[:, None] - y - self.estimate
        tie = min(statistics.rounding([*x, *y]), 0.01 * float(leads.std()))
        wins = (leads > tie) + 0.5 * (np.abs(leads) <= tie)
        a = wins.mean(axis=1).var(ddof=1) / n
        b = wins.mean(axis=0).var(ddof=1) / m
        freedom = (a + b) ** 2 / max(
            a**2 / (n - 1) + b**2 / (m - 1), np.finfo(float).tiny
        )
        return math.sqrt(a + b), max(freedom, 1.0)

    def ranks_can_tell(self, runs, num_runs: int):
        """Whether arms of so many runs can differ enough for the test of ranks.

        Args:
            runs: Array of numbers of runs an arm.
            num_runs: Runs an arm that there are, at least 2.
        """
        error = self._rank_error * np.sqrt(num_runs / runs)
        freedom = self._rank_freedom * (runs - 1) / (num_runs - 1)
        level = 1 - RANK_ERROR * self._scale
        return error * special.stdtrit(np.maximum(freedom, 1), level) < 0.5

    def _by_ranks(self):
        """Ends of the shifts that ranks do not rule out."""
        count = len(self._differences)
        t = special.stdtrit(self._rank_freedom, 1 - RANK_ERROR * self._scale)
        outside = count * (0.5 - t * self._rank_error)
        if not outside >= 0:
            return -math.inf, math.inf
        ends = int(outside), count - 1 - int(outside)
        return tuple(float(self._differences[end]) for end in ends)

    def _ends(self):
        low, high = self._rank_ends
        half = self.mean_half
        return min(low, self._mean - half), max(high, self._mean + half)

    def _errors(self, sign):
        """Of ranks and of means: standard error with that of the examples,
        and its degrees of freedom; of ranks on the side of the lower end if
        the sign is positive.
        """
        freedom = self._rank_freedom
        t = special.stdtrit(freedom, 1 - RANK_ERROR * self._scale)
        end = self._rank_ends[0 if sign > 0 else 1]
        return (
            _sum((abs(self.estimate - end) / t, freedom), self.examples),
            _sum((self._seeds_error, self._num_runs - 1), self.examples),
        )

    def _reach(self, sign):
        """From the estimate to an end of the interval with the examples."""
        ranks, means = (
            error * special.stdtrit(freedom, 1 - level * self._scale)
            for (error, freedom), level in zip(
                self._errors(sign), (RANK_ERROR, MEAN_ERROR)
            )
        )
        return float(max(ranks, means + sign * (self.estimate - self._mean)))

    @property
    def mean_half(self) -> float:
        """Half the width of the interval of means."""
        if self._num_runs < 2:
            return math.inf
        return self._seeds_error * t_quantile(self._num_runs, self._scale)

    def p_above(self, d: float) -> float:
        """P-value of "the shift is more than d", to be compared with 5 %."""
        return self._p_value(d, 1, MEAN_ERROR)

    def p_reached(self, d: float) -> float:
        """P-value of "the shift is more than d" with an error of 5 % in both
        tests: of a margin, where no difference at all is ruled out already.
        """
        return self._p_value(d, 1, RANK_ERROR)

    def p_below(self, d: float) -> float:
        """P-value of "the shift is less than d", to be compared with 5 %."""
        return self._p_value(d, -1, MEAN_ERROR)

    def _p_value(self, d, sign, mean_error):
        if self._num_runs < 2:
            return 1.0
        mean = sign * (self._mean - d)
        beyond = np.mean(sign * (self._differences - d) > 0) - 0.5
        ranks = _t_test(beyond, self._rank_error, self._rank_freedom)
        means = _t_test(mean, self._seeds_error, self._num_runs - 1)
        if self.examples.error > 0:
            # More degrees of freedom must not make a difference surer.
            lead = sign * (self.estimate - d)
            by_ranks, by_means = self._errors(sign)
            ranks = max(ranks, _t_test(lead, *by_ranks))
            means = max(means, _t_test(mean, *by_means))
        worst = max(ranks, means * RANK_ERROR / mean_error)
        return float(min(worst / self._scale, 1.0))


def _sum(one, other):
    """Standard error of a sum, and its degrees of freedom; of (error, n)s."""
    error = math.hypot(one[0], other[0])
    if not math.isfinite(error):
        return error, 1.0
    freedom = sum(((e / error) ** 2) ** 2 / n for e, n in (one, other))
    return error, 1 / freedom


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
        least_runs: Runs an arm below which there is no answer.

    Attributes:
        runs: 2 .. 1,000 runs per arm.
        needed: For each of them, the probability that "needed" is found;
            0 up to `num_runs`, and where not even arms of which every run beats
            every other would pass the test of ranks.
        not_needed: The same of "not needed".

    Source: O'Hagan, Stevens and Campbell 2005, for assurance.
    """

    def __init__(
        self,
        shift: Shift,
        num_runs: int,
        margin: float,
        scale: float = 1.0,
        least_runs: int = 2,
    ):
        low, high = shift.seeds_interval
        half = max(shift.estimate - low, high - shift.estimate)
        if not math.isfinite(half):
            half = shift.mean_half
        self._margin, self._estimate = margin, shift.estimate
        self._example_error = shift.examples.error
        self._t = t_quantile(num_runs, scale)
        self._error = half / self._t
        self._now = math.hypot(self._error, self._example_error)
        self._t_reached = t_quantile(num_runs, scale, RANK_ERROR)
        self.runs, quantiles = _quantiles(scale)
        _, reached = _quantiles(scale, RANK_ERROR)
        share = np.minimum(num_runs / self.runs, 1.0)
        errors = np.hypot(self._error * np.sqrt(share), self._example_error)
        spread = self._error * np.sqrt(1 - share)
        more = self.runs > num_runs
        enough = np.maximum(quantiles * errors, margin + reached * errors)
        possible = (more & (self.runs >= least_runs)) & shift.ranks_can_tell(
            self.runs, num_runs
        )
        self._possible = num_runs >= least_runs and bool(
            shift.ranks_can_tell(num_runs, num_runs)
        )
        self.needed = possible * _above(shift.estimate - enough, spread)
        self.not_needed = possible * _above(
            margin - quantiles * errors - shift.estimate, spread
        )

    @property
    def detectable(self) -> float:
        """Least true difference called "needed" with 80 % at these runs.

        Infinite where there is none.
        """
        if not self._possible:
            return math.inf
        return float(
            special.ndtri(POWER) * self._now
            + max(
                self._t * self._now,
                self._margin + self._t_reached * self._now,
            )
        )

    def times_examples(self, answer: str) -> float | None:
        """How many times the test examples an answer can be expected to take.

        Args:
            answer: "needed" or "not needed".

        Returns:
            None where no number of examples is enough for these seeds.
        """
        leads = [(self._margin - self._estimate) / self._t]
        if answer == "needed":
            leads = [
                self._estimate / self._t,
                (self._estimate - self._margin) / self._t_reached,
            ]
        left = min(leads) ** 2 - self._error**2
        if min(leads) <= 0 or left <= 0:
            return None
        return max(1.0, self._example_error**2 / left)


def _above(lead, spread):
    """P(lead + spread * normal > 0); without a spread the lead decides."""
    known = np.where(spread > 0, spread, 1.0)
    return np.where(spread > 0, special.ndtr(lead / known), lead > 0)


@functools.lru_cache(maxsize=64)
def _quantiles(scale, error=MEAN_ERROR):
    runs = np.arange(2, MOST_SEEDS + 1)
    return runs, t_quantile(runs, scale, error)
