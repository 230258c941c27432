"""Statistics of few, noisy runs: what the verdict and the figures rest on.

Greater is better, except where a function has a `mode`. Nothing is random.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import numpy as np
from scipy import special


class Interval(NamedTuple):
    """An interval; an infinite end says that it has no bound there."""

    low: float
    high: float


def median_interval(
    values: Sequence[float], confidence: float = 0.95
) -> Interval | None:
    """Interval of the median by order statistics: right for any distribution.

    Args:
        values: Runs; infinite ones keep their rank.
        confidence: Least probability to cover the median.

    Returns:
        None where even the smallest and the largest value cover too little:
        95 % needs 6 runs. 50 runs give ranks 18 and 33, 96.7 %.
    """
    rank = _median_rank(len(values), confidence)
    if rank is None:
        return None
    ordered = np.sort(np.asarray(values, float))
    return Interval(float(ordered[rank]), float(ordered[-1 - rank]))


@functools.cache
def _median_rank(count, confidence):
    """0-based rank of the low end, or None."""
    from scipy import stats

    beyond = stats.binom.cdf(np.arange(count), count, 0.5)
    inside = np.flatnonzero(beyond <= (1 - confidence) / 2)
    return int(inside[-1]) if len(inside) else None


def median(values: Sequence[float]) -> float:
    """The median; infinite values keep their rank."""
    return middle(np.sort(np.asarray(values, float)))


def middle(ordered: np.ndarray) -> float:
    """The median of sorted values; infinite values keep their rank."""
    half = len(ordered) // 2
    if len(ordered) % 2:
        return float(ordered[half])
    if ordered[half - 1] == ordered[half]:
        return float(ordered[half])
    return float((ordered[half - 1] + ordered[half]) / 2)


def wins(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Whether x[i] beats y[j], a row an i; 0.5 where they tie."""
    return (x[:, None] > y) + 0.5 * (x[:, None] == y)


def improvement(
    x: Sequence[float], y: Sequence[float], confidence: float = 0.95
) -> tuple[float, Interval]:
    r"""Probability that a run of `x` beats a run of `y`, ties half.

    $$ \hat p = U / (n m) $$

    with Mann and Whitney's U; the interval solves
    \(|p - \hat p| = z \sqrt{V(p)}\), which has a width at \(\hat p = 1\) too.

    Returns:
        The probability and its interval.

    Source: Agarwal et al. 2021; Newcombe 2006, method 5.
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    observed = float(wins(x, y).mean())
    z = float(special.ndtri((1 + confidence) / 2))
    cells, equal = len(x) * len(y), (len(x) + len(y)) / 2 - 1

    def excess(p):
        spread = 1 + equal * ((1 - p) / (2 - p) + p / (1 + p))
        return (p - observed) ** 2 - z**2 * p * (1 - p) * spread / cells

    return observed, Interval(
        _root(excess, 0.0, observed), _root(excess, 1.0, observed)
    )


def _root(function, outside, inside):
    """Where `function` turns from positive (outside) to negative."""
    if function(outside) <= 0:
        return outside
    for _ in range(40):
        middle = (outside + inside) / 2
        if function(middle) > 0:
            outside = middle
        else:
            inside = middle
    return outside


@functools.cache
def rate_interval(hits: int, runs: int, confidence: float = 0.95) -> Interval:
    """Exact (Clopper and Pearson) interval of a rate."""
    from scipy import stats

    found = stats.binomtest(hits, runs).proportion_ci(confidence, "exact")
    return Interval(float(found.low), float(found.high))


@functools.cache
def rates_p_value(
    hits: int, runs: int, other_hits: int, other_runs: int
) -> float:
    """Two-sided p-value of Fisher's exact test that two rates are equal."""
    from scipy import stats

    table = [[hits, runs - hits], [other_hits, other_runs - other_hits]]
    return float(stats.fisher_exact(table).pvalue)


def rates_bound(
    hits: int,
    runs: int,
    other_hits: int,
    other_runs: int,
    confidence: float = 0.95,
) -> float:
    """One-sided upper bound of the difference of two rates.

    Example:
        >>> round(rates_bound(4, 20, 0, 20), 3)
        0.378

    Source: Newcombe 1998, method 10, of Wilson's score intervals.
    """
    from scipy import stats

    ends = [
        stats.binomtest(k, n).proportion_ci(2 * confidence - 1, "wilson")
        for k, n in ((hits, runs), (other_hits, other_runs))
    ]
    high, low = ends[0].high, ends[1].low
    rate, other = hits / runs, other_hits / other_runs
    return rate - other + math.hypot(high - rate, other - low)


class TuningCurve(NamedTuple):
    """The best of k trials, for k = 1 .. n; one entry a k."""

    trials: np.ndarray
    median: np.ndarray
    low: np.ndarray
    high: np.ndarray


def tuning_curve(
    values: Sequence[float | None],
    mode: str,
    worst: float | None = None,
    confidence: float = 0.9,
) -> TuningCurve | None:
    r"""Median of the best of k trials, with a band for all k at once.

    The median is that of the best of k drawn without replacement from the n
    trials that were run: the least value of a rank i with

    $$ \binom{i}{k} / \binom{n}{k} \ge 1/2 $$

    The band is for the trials that a space has, of which those were drawn.
    Their best of k has the median \(F^{-1}(2^{-1/k})\), and with the given
    probability the distribution F lies within \(\epsilon\) of the observed
    one, \(\epsilon\) being Kolmogorov and Smirnov's, whatever F is. So the
    band holds the medians of all k together. It is open, infinite, where n
    trials say nothing.

    Args:
        values: Metric of each trial; None or not finite: diverged.
        mode: "max" or "min": which values are better.
        worst: What a diverged trial counts as; the worst finite value unless
            said. Give curves that are compared the same one.
        confidence: Least probability that the band holds every median.

    Returns:
        None without trials, or if every one diverged and `worst` does not say
        what that counts as.

    Example:
        >>> curve = tuning_curve([1, 2, 4, 8, 16, 32, 64, 128], "max")
        >>> curve.median[:3].tolist(), curve.low[:3].tolist()
        ([8.0, 32.0, 64.0], [1.0, 4.0, 8.0])
        >>> curve.high[:3].tolist()
        [128.0, inf, inf]

    Source: Lourie, Cho and He 2023, with the band of Kolmogorov 1933; Dodge
        et al. 2019, without replacement.
    """
    from scipy import stats  # takes a second to import

    ordered = _ordered(values, mode, worst)
    if ordered is None:
        return None
    n = len(ordered)
    trials = np.arange(1, n + 1)
    median = ordered[_median_ranks(n) - 1]
    reach = stats.kstwo.ppf(confidence, n)
    parts = 0.5 ** (1 / trials)
    known = np.concatenate([[-math.inf], ordered, [math.inf]])
    low, high = (
        known[np.clip(np.ceil(n * part - 1e-9), 0, n + 1).astype(int)]
        for part in (parts - reach, parts + reach)
    )
    sign = _sign(mode)
    low, high = (low, high) if sign > 0 else (high, low)
    return TuningCurve(trials, sign * median, sign * low, sign * high)


def _median_ranks(n):
    """Least ranks i with C(i, k) / C(n, k) >= 1/2, for k = 1 .. n."""
    k = np.arange(1, n + 1)
    low, high = np.zeros(n, int), np.full(n, n)
    for _ in range(n.bit_length()):  # halved until one rank is left
        middle = (low + high) // 2
        part = np.exp(log_choose(middle, k) - log_choose(n, k))
        reached = part >= 0.5 - 1e-12
        low = np.where(reached, low, middle)
        high = np.where(reached, middle, high)
    return high


def fraction_reaching(
    values: Sequence[float | None],
    targets: Sequence[float],
    mode: str,
    confidence: float = 0.95,
) -> list[tuple[float, Interval]]:
    """Fraction of trials at least as good as each target.

    Args:
        values: Metric of each trial; None or not finite: diverged, which
            reaches nothing.
        targets: In the metric's unit.
        mode: "max" or "min": which values are better.
        confidence: Confidence level of the exact interval.

    Returns:
        (fraction, interval) a target.
    """
    sign = _sign(mode)
    reached = np.sort(sign * finite(values))
    least = [less_rounding(sign * target, [target]) for target in targets]
    hits = len(reached) - np.searchsorted(reached, least)
    return [
        (int(k) / len(values), rate_interval(int(k), len(values), confidence))
        for k in hits
    ]


def finite(values: Sequence[float | None]) -> np.ndarray:
    """The finite values; None counts as not finite."""
    numbers = np.asarray([math.nan if v is None else v for v in values], float)
    return numbers[np.isfinite(numbers)]


def rounding(values: Sequence[float | None]) -> float:
    """By how much float32 may have rounded a difference of two of these."""
    return 2.0**-23 * float(np.abs(finite(values)).max(initial=0.0))


def less_rounding(amount: float, values: Sequence[float | None]) -> float:
    """The amount, less what float32 may have rounded these values by.

    Differences of exactly the margin are common among accuracies of a few
    hundred examples: rounding is not to say which of them reach it.

    Example:
        >>> 0.565 - 0.56 >= 0.005
        False
        >>> 0.565 - 0.56 >= less_rounding(0.005, [0.565, 0.56])
        True
    """
    return amount - min(rounding(values), 0.01 * abs(amount))


def _ordered(values, mode, worst):
    """From worst to best, greater is better; None without any number."""
    numbers = _sign(mode) * finite(values)
    if not len(values) or (worst is None and not len(numbers)):
        return None
    floor = numbers.min() if worst is None else _sign(mode) * worst
    diverged = np.full(len(values) - len(numbers), floor)
    return np.sort(np.concatenate([numbers, diverged]))


def log_choose(n: Any, k: Any) -> np.ndarray:
    """Logarithm of n over k; minus infinity where k > n."""
    n, k = np.broadcast_arrays(n, k)
    inside = special.gammaln(n + 1) - special.gammaln(k + 1)
    inside = inside - special.gammaln(np.maximum(n - k, 0) + 1)
    return np.where(k <= n, inside, -np.inf)


def _sign(mode):
    if mode not in ("max", "min"):
        raise ValueError(f'mode is {mode!r}; expected "max" or "min".')
    return 1.0 if mode == "max" else -1.0
