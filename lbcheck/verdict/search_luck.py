"""How much of an answer is the luck of which hyperparameters were tried."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lbcheck.study import challenge
from lbcheck.verdict import statistics

_NEEDED, _NOT_NEEDED = 0.9, 0.2
"""Least share of sub-searches that "needed" is given at, and greatest one for
"not needed": one good setting of a baseline shows that, where "needed" says
that there is none."""
_NEEDED_CHALLENGED, _NOT_NEEDED_CHALLENGED = 0.75, 0.44
"""The same of an answer that more trials could not turn."""


def bounds(course: Sequence[Any]) -> tuple[float, float]:
    """Least share for "needed" and greatest for "not needed".

    Args:
        course: Steps of a challenge, `ChallengeStep`s; empty without one. One
            that is shorter than the usual one does not count.
    """
    needed, not_needed = _NEEDED, _NOT_NEEDED
    if course:
        trials, last = course[0].baselines, course[-1]
        if last.baselines >= challenge.DENIED * trials:
            needed = _NEEDED_CHALLENGED
        if last.challengers >= int(challenge.DOUBTED * trials):
            not_needed = _NOT_NEEDED_CHALLENGED
    return needed, not_needed


def share(
    challengers: Sequence[Sequence[float]],
    baselines: Sequence[tuple[float, Sequence[float]]],
) -> float:
    r"""Share of sub-searches whose best challenger is ahead by the margin.

    Every arm draws half, k, of its n trials without replacement. Their best is
    at most the trial of rank i with probability

    $$ F(i) = \binom{i}{k} / \binom{n}{k} $$

    and the share is \(\sum_v (F_c(v) - F_c(v-)) \prod_b F_b(v - m_b)\), over
    the values v of all challengers' trials, with F_c the product over them.
    At k = n it is 0 or 1, whatever luck the search had; half of the trials
    show it.

    Args:
        challengers: Trials of each challenger, greater is better; minus
            infinity where a trial diverged.
        baselines: (margin, trials) of each baseline.

    Returns:
        Between 0 and 1.

    Example:
        >>> share([[1.0, 2.0]], [(0.5, [1.0, 1.0])])
        0.5

    Source: after Dodge et al. 2019; Bouthillier et al. 2021 for why.
    """
    every = shares(challengers, baselines)
    return every[half(len(every)) - 1]


def sure_since(
    found: Sequence[float], needed: float, not_needed: float
) -> int | None:
    """Least number of trials from which up to half of them the share is sure.

    Args:
        found: As `shares` gives them.
        needed, not_needed: As `bounds` gives them.

    Returns:
        None where half of the trials do not make it sure.

    Example:
        >>> sure_since([0.5, 0.1, 0.3, 0.2, 0.1, 0.0, 0.0, 0.0], 0.9, 0.2)
        4
    """
    short = found[: half(len(found))]
    for is_sure in (
        [value >= needed for value in short],
        [value <= not_needed for value in short],
    ):
        if is_sure[-1]:
            doubtful = [k for k, sure in enumerate(is_sure, 1) if not sure]
            return max(doubtful, default=0) + 1
    return None


def half(trials: int) -> int:
    """Trials that a sub-search draws."""
    return max(1, trials // 2)


def shares(
    challengers: Sequence[Sequence[float]],
    baselines: Sequence[tuple[float, Sequence[float]]],
) -> list[float]:
    """As `share`, of sub-searches that draw 1, 2, .. trials of each arm.

    Example:
        >>> shares([[1.0, 2.0]], [(0.5, [1.0, 1.0])])
        [0.5, 1.0]
    """
    values = np.unique(np.concatenate([[-np.inf], *challengers]))
    own = [_below(arm, values) for arm in challengers]
    others = []
    for margin, arm in baselines:
        margin = statistics.less_rounding(margin, [*values, *arm])
        others.append(_below(arm, values[1:] - margin))
    return [
        float(np.sum(np.diff(np.prod(ahead, axis=0)) * np.prod(behind, axis=0)))
        for ahead, behind in zip(zip(*own), zip(*others))
    ]


def spread(
    challenger: Sequence[float], baseline: Sequence[float], inside: float = 0.9
) -> tuple[float, float] | None:
    """Ends between which the lead lies in sub-searches of half of the trials.

    Args:
        challenger: As one of `shares`, and so `baseline`; a trial that
            diverged counts as the worst of both arms.
        inside: Part of the sub-searches.

    Returns:
        None without a trial that did not diverge.

    Example:
        >>> spread([1.0, 2.0], [1.0, 1.0])
        (0.0, 1.0)
    """
    arms = [np.sort(np.asarray(arm, float)) for arm in (challenger, baseline)]
    known = np.concatenate(arms)
    known = known[np.isfinite(known)]
    if not len(known) or not all(map(len, arms)):
        return None
    k = half(min(map(len, arms)))
    bests = []
    for arm in arms:
        below = np.exp(
            statistics.log_choose(np.arange(1, len(arm) + 1), k)
            - statistics.log_choose(len(arm), k)
        )
        chances = np.diff(below, prepend=0)
        likely = chances > 1e-15  # a few dozen, however many trials there are
        bests.append((np.maximum(arm, known.min())[likely], chances[likely]))
    (x, of_x), (y, of_y) = bests
    leads = (x[:, None] - y).ravel()
    order = np.argsort(leads, kind="stable")
    until = np.cumsum(np.outer(of_x, of_y).ravel()[order])
    tails = np.array([1 - inside, 1 + inside]) / 2
    places = np.searchsorted(until, tails - 1e-9)
    low, high = leads[order][np.minimum(places, len(leads) - 1)]
    return float(low), float(high)


def _below(trials, values):
    """P(best of k drawn trials <= v) for each v; yields k = 1, 2, .."""
    ordered = np.sort(np.asarray(trials, float))
    ranks = np.searchsorted(ordered, values, side="right")
    found = np.ones(len(values))
    for drawn in range(len(ordered)):
        found = found * np.maximum(ranks - drawn, 0) / (len(ordered) - drawn)
        yield found
