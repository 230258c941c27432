"""The ablation ladder: which settings that differ between A and B matter.

From A, each setting is taken back to B's value alone. What that costs is
compared with a margin, over several seeds; the settings that cannot be taken
back without loss are the minimal set, and it is run against A once more, with
fresh seeds, before it is believed.

Source: Nado et al. 2021, Appendix C, where configuration B came from A so.
"""

import math
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import numpy as np

from lbcheck.verdict import decision
from lbcheck.verdict import statistics
from lbcheck.verdict.difference import Shift

ERROR = 0.05
"""Of all decisions on the settings together, and of all confirmations."""
BEST, OTHER = "A", "B"
NEEDED, NOT_NEEDED, UNDECIDED = "needed", "not needed", "undecided"
_LEAST_SEEDS = 2

Settings = Mapping[str, Any]
"""{name of a setting: its value}; one that is left out has its default."""
Evaluate = Callable[[str, dict[str, Any], int], float | None]
"""(name of a rung, its settings, number of a seed) -> score, None: diverged."""


class Factor(NamedTuple):
    """Settings that are taken back together; mostly it is one.

    Attributes:
        name: Their names, joined by "+".
        names: Their names.
    """

    name: str
    names: tuple[str, ...]


class Rung(NamedTuple):
    """Settings that were run, and what came out.

    Attributes:
        name: "A", "B", "without X", or of a confirmation "A again" and
            "minimal".
        settings: {name: value}.
        scores: Greater is better, an entry a seed; None diverged.
    """

    name: str
    settings: dict[str, Any]
    scores: tuple[float | None, ...]


class Decision(NamedTuple):
    """Whether a factor is needed.

    Attributes:
        factor: What was taken back.
        rung: The runs without it.
        loss: What A is ahead by, the Hodges-Lehmann estimate; not finite
            where most runs diverged.
        interval: Of the loss, of this factor alone: 90 %; open where runs
            diverged.
        answer: "needed": the loss is above the margin; "not needed": it is
            below; or "undecided".
        failures: Runs that failed, of A and without the factor.
        failing: Whether it is undecided because what the scores favour may
            fail more often.
    """

    factor: Factor
    rung: Rung
    loss: float
    interval: statistics.Interval
    answer: str
    failures: tuple[int, int]
    failing: bool


class Confirmation(NamedTuple):
    """A set of settings run against A with fresh seeds.

    Attributes:
        kept: Names of the factors that keep A's values.
        rung: Its runs.
        best: A's runs with the same seeds.
        loss: What A is ahead by, as of a `Decision`.
        interval: Of the loss, 90 %.
        holds: Whether the loss is shown to be below the margin, and failures
            to be no more.
    """

    kept: tuple[str, ...]
    rung: Rung
    best: Rung
    loss: float
    interval: statistics.Interval
    holds: bool


class Ladder(NamedTuple):
    """What a ladder found.

    Attributes:
        best: The runs of A.
        other: The runs of B.
        decisions: One a factor.
        confirmations: One a set that was tried, the last one counts.
        margin: Losses below it do not matter.
    """

    best: Rung
    other: Rung
    decisions: tuple[Decision, ...]
    confirmations: tuple[Confirmation, ...]
    margin: float

    @property
    def needed(self) -> tuple[str, ...]:
        """Names of the factors that are needed."""
        return self._answered(NEEDED)

    @property
    def undecided(self) -> tuple[str, ...]:
        """Names of the factors that are not decided."""
        return self._answered(UNDECIDED)

    @property
    def minimal(self) -> tuple[str, ...] | None:
        """Names of the factors of a set that is as good as A; None: none."""
        last = self.confirmations[-1]
        return last.kept if last.holds else None

    def _answered(self, answer):
        return tuple(
            d.factor.name for d in self.decisions if d.answer == answer
        )


def factors(
    best: Settings, other: Settings, together: Iterable[Sequence[str]] = ()
) -> list[Factor]:
    """What differs between two settings, in the order of A and then of B.

    Args:
        best: Of A.
        other: Of B.
        together: Groups of names that are taken back as one, since one of
            them alone means nothing.

    Example:
        >>> [f.name for f in factors({"l2": 1, "a": 2, "b": 3}, {"b": 3})]
        ['l2', 'a']
        >>> factors({"l2": 1, "a": 2, "b": 3}, {}, [["a", "b"]])[1]
        Factor(name='a+b', names=('a', 'b'))

    Raises:
        ValueError: Nothing differs, or a group names what does not.
    """
    names = [n for n in {**best, **other} if not _same(best, other, n)]
    if not names:
        raise ValueError("A and B have the same settings: nothing to ablate.")
    groups: dict[str, tuple[str, ...]] = {}
    for group in together:
        for name in group:
            if name not in names or name in groups:
                why = "is in two groups" if name in groups else "is the same"
                raise ValueError(
                    f"together: {name!r} {why}; expected groups of settings "
                    f"that differ between A and B: {', '.join(names)}."
                )
            groups[name] = tuple(group)
    found = dict.fromkeys(groups.get(name, (name,)) for name in names)
    return [Factor("+".join(group), group) for group in found]


def reverted(
    best: Settings, other: Settings, back: Iterable[Factor]
) -> dict[str, Any]:
    """A's settings with those of some factors as in B.

    >>> reverted({"a": 1, "b": 2}, {"a": 3}, [Factor("b", ("b",))])
    {'a': 1}
    """
    settings = dict(best)
    for factor in back:
        for name in factor.names:
            settings.pop(name, None)
            if name in other:
                settings[name] = other[name]
    return settings


def rungs(
    best: Settings, other: Settings, found: Iterable[Factor]
) -> dict[str, dict[str, Any]]:
    """{name of a rung: its settings}: A, B, and A without each factor."""
    return {
        BEST: dict(best),
        OTHER: dict(other),
        **{
            f"without {factor.name}": reverted(best, other, [factor])
            for factor in found
        },
    }


def climb(
    best: Settings,
    other: Settings,
    evaluate: Evaluate,
    margin: float,
    seeds: int,
    together: Iterable[Sequence[str]] = (),
    over: Callable[..., Iterable[Any]] = map,
) -> Ladder:
    r"""Finds which of the settings that differ between A and B are needed.

    With l_i the loss by taking back factor i alone, from n seeds of A and n
    without i,

        needed      l_i > margin   not needed  l_i < margin

    each by the two tests of `lbcheck.verdict`'s `Shift`, of ranks and of
    means, and by Holm's procedure over all factors: of k factors, the one
    with the i-th smallest p-value is tested with an error of 5 % / (k - i +
    1), until one fails. Wrong answers of any of them together then have a
    probability of at most 5 % on either side of the margin. And the side that
    an answer favours, A where it is "needed", may not fail more often than the
    other by the test of `lbcheck.verdict`; a run that diverged has failed.

    What is not shown to be dispensable is kept: the needed and the undecided
    factors. Factors may stand in for one another, though, so that each alone
    is dispensable and both are not. So that set is run against A, with fresh
    seeds. If it is not shown to be as good, the factor whose
    loss was greatest of those left out is taken in as well, and so on; the
    i-th attempt has an error of 5 % / 2^i.

    Args:
        best: {name: value} of A, the better settings.
        other: Of B.
        evaluate: Score of (name of the rung, settings, seed), greater is
            better; None or not finite: the run diverged. Called with seeds
            0 .. n - 1, for the confirmation with those that follow.
        margin: Smallest loss that matters, above 0, in the score's unit.
        seeds: Runs of each rung, n, at least 2.
        together: Groups of names that are taken back as one.
        over: Like `map`: for instance of a pool of threads.

    Returns:
        A `Ladder`.

    Raises:
        ValueError: Nothing differs; `margin` or `seeds` is out of range; every
            run of A diverged.

    Example:
        >>> def evaluate(rung, settings, seed):
        ...     effects = {"rate": 0.03, "warmup": 0.02}
        ...     score = sum(e for n, e in effects.items() if settings.get(n))
        ...     return 0.7 + score + 0.0005 * (seed % 5)
        >>> ladder = climb(dict.fromkeys(["rate", "warmup", "l2"], 1), {},
        ...     evaluate, margin=0.005, seeds=8)
        >>> ladder.needed, ladder.minimal
        (('rate', 'warmup'), ('rate', 'warmup'))

    Source: Nado et al. 2021, Appendix C; Holm 1979.
    """
    if not 0 < margin < math.inf:
        raise ValueError(f"margin must be above 0, received {margin}.")
    if seeds < _LEAST_SEEDS:
        raise ValueError(
            f"seeds must be at least {_LEAST_SEEDS}, received {seeds}: a loss "
            "is judged by its spread."
        )
    found = factors(best, other, together)
    runner = _Runner(evaluate, over)
    wanted = rungs(best, other, found)
    top, bottom, *without = runner.run(wanted, range(seeds))
    if not np.isfinite(ranked(top.scores)).any():
        raise ValueError("every run of A diverged; there is nothing to ablate.")
    decisions = decide(top, list(zip(found, without)), margin)
    confirmations = _confirm(best, other, decisions, runner, margin, seeds)
    return Ladder(top, bottom, decisions, tuple(confirmations), margin)


def decide(
    best: Rung, without: Sequence[tuple[Factor, Rung]], margin: float
) -> tuple[Decision, ...]:
    """Which factors are needed, from the runs of A and of A without each."""
    pairs = [_Pair(best, rung, margin) for _, rung in without]
    needed = holm([pair.p_needed for pair in pairs])
    spare = holm([pair.p_not_needed for pair in pairs])
    decisions = []
    for i, (factor, rung) in enumerate(without):
        pair, answer = pairs[i], UNDECIDED
        if needed[i]:
            answer = NEEDED
        elif spare[i]:
            answer = NOT_NEEDED
        failing = answer != UNDECIDED and pair.is_failing(answer)
        decisions.append(
            Decision(
                factor,
                rung,
                pair.loss,
                pair.interval,
                UNDECIDED if failing else answer,
                pair.failures,
                failing,
            )
        )
    return tuple(decisions)


def _confirm(best, other, decisions, runner, margin, seeds):
    """Yields the sets that are run against A, until one is as good."""
    left_out = sorted(
        (d for d in decisions if d.answer == NOT_NEEDED),
        key=lambda d: np.nan_to_num(d.loss),
    )
    fresh = range(seeds, 2 * seeds)
    (top,) = runner.run({"A again": dict(best)}, fresh)
    for attempt in range(1, len(left_out) + 2):
        back = [d.factor for d in left_out]
        kept = tuple(d.factor.name for d in decisions if d.factor not in back)
        if not left_out:  # A itself
            yield Confirmation(
                kept, top, top, 0.0, statistics.Interval(0.0, 0.0), True
            )
            return
        name = "minimal" if attempt == 1 else f"minimal {attempt}"
        (rung,) = runner.run({name: reverted(best, other, back)}, fresh)
        pair = _Pair(top, rung, margin)
        below = pair.p_not_needed <= ERROR / 2**attempt
        holds = below and not pair.is_failing(NOT_NEEDED)
        yield Confirmation(kept, rung, top, pair.loss, pair.interval, holds)
        if holds:
            return
        left_out.pop()


class _Runner:
    """Evaluates rungs, all of their seeds at once."""

    def __init__(self, evaluate, over):
        self._evaluate, self._over = evaluate, over

    def run(self, wanted, seeds) -> list[Rung]:
        """The rungs of {name: settings}."""
        # A rung that cannot be run is met with the first seed.
        tasks = [(name, wanted[name], s) for s in seeds for name in wanted]
        scores = list(self._over(lambda task: self._evaluate(*task), tasks))
        return [
            Rung(name, settings, tuple(scores[i :: len(wanted)]))
            for i, (name, settings) in enumerate(wanted.items())
        ]


class _Pair:
    """A and a rung."""

    def __init__(self, best, rung, margin):
        x, y = (ranked(one.scores) for one in (best, rung))
        finite = [run[np.isfinite(run)] for run in (x, y)]
        both = np.concatenate(finite)
        # What diverged is worse than every run.
        worst = (both.min() if len(both) else 0.0) - 2 * margin
        shift = Shift(np.maximum(x, worst), np.maximum(y, worst), margin)
        self.loss = statistics.median(x) - statistics.median(y)
        low, high = -math.inf, math.inf
        if math.isfinite(self.loss):
            self.loss = shift.estimate
            low = shift.interval.low if len(finite[0]) == len(x) else low
            high = shift.interval.high if len(finite[1]) == len(y) else high
        self.interval = statistics.Interval(low, high)
        self.p_needed = max(shift.p_above(0.0), shift.p_reached(margin))
        self.p_not_needed = shift.p_below(margin) if len(finite[1]) else 1.0
        self.failures = decision.failures(x, y, margin)
        self._runs = len(x), len(y)

    def is_failing(self, answer):
        """Whether the side that an answer favours may fail more often."""
        best, rung = zip(self.failures, self._runs)
        sides = (best, rung) if answer == NEEDED else (rung, best)
        return decision.may_fail_more(*sides)


def holm(p_values: Sequence[float], error: float = ERROR) -> list[bool]:
    """Whether each hypothesis is rejected, with one error for all together.

    Args:
        p_values: One a hypothesis, in any order and of any dependence.
        error: Most probability that any is rejected that holds.

    Example:
        >>> holm([0.04, 0.02, 0.001]), holm([0.04, 0.03])
        ([True, True, True], [False, False])

    Source: Holm 1979.
    """
    rejected = [False] * len(p_values)
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        if p_values[index] > error / (len(p_values) - rank):
            break
        rejected[index] = True
    return rejected


def _same(best, other, name):
    return name in best and name in other and best[name] == other[name]


def ranked(scores: Iterable[float | None]) -> np.ndarray:
    """The scores; of a run that diverged minus infinity.

    >>> ranked([0.5, None, math.nan]).tolist()
    [0.5, -inf, -inf]
    """
    numbers = np.array([*scores], float)
    return np.where(np.isfinite(numbers), numbers, -math.inf)
