"""Steps to a target against the batch size, and the knee of that curve.

Where the batch is small, twice the examples need half the steps: perfect
scaling. Where it is large, more examples save none. The knee, the critical
batch size, is where a run takes twice the steps of perfect scaling.
"""

import math
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import numpy as np

CONFIDENCE = 0.95
LEAST = 3
"""Fewest batch sizes of a curve that a knee can be told from."""
_BEYOND = 6
"""Octaves beyond the sweep in which a knee is looked for."""
_PER_OCTAVE = 32


class Run(NamedTuple):
    """A trial of a search at one batch size.

    Attributes:
        batch_size: Examples of an update.
        steps: Updates to the target, of `steps_to_target`; None: not
            reached.
        hyperparameters: What the trial was tuned to.
        seed: Of its initial weights and the order of its data.
        at_first: Whether it had the target at its first evaluation, so that
            it may have taken any fewer steps.
    """

    batch_size: int
    steps: float | None
    hyperparameters: Mapping[str, Any]
    seed: int | None = None
    at_first: bool = False


class Point(NamedTuple):
    """The best of the trials at one batch size.

    Attributes:
        batch_size: Examples of an update.
        steps: Fewest updates to the target; None: no trial reached it.
        hyperparameters: Of that trial.
        trials: How many there were.
        reached: How many reached the target.
        seed: Of that trial.
        at_first: Whether that trial had the target at its first evaluation.
    """

    batch_size: int
    steps: float | None
    hyperparameters: Mapping[str, Any] | None
    trials: int
    reached: int
    seed: int | None = None
    at_first: bool = False


class Curve(NamedTuple):
    """steps(B) = least_steps (1 + knee / B), as fitted.

    Attributes:
        knee: Critical batch size, in examples; infinite where the sweep ends
            before it, 0 where it begins after it.
        low, high: Its interval, 95 %.
        least_steps: Updates that no batch, however large, gets below; 0 where
            the sweep does not tell.
        examples: Fewest examples, batch times steps: those of perfect
            scaling; 0 where the sweep does not tell.
    """

    knee: float
    low: float
    high: float
    least_steps: float
    examples: float

    def steps(self, batch_size: float) -> float:
        """The fitted updates at a batch size."""
        scaling = self.examples / batch_size if self.examples else 0.0
        return self.least_steps + scaling

    def place(self, batch_size: float) -> str:
        """Where a batch size lies: "inside" perfect scaling, below the knee's
        interval, "beyond" it, or "at the knee"."""
        if batch_size < self.low:
            return "inside"
        return "beyond" if batch_size > self.high else "at the knee"


def steps_to_target(
    curve: Sequence[tuple[int, float | None]], target: float, mode: str
) -> float | None:
    """Updates after which a run has the target for good, to its end.

    Where the loss is noisy a run with too large a rate touches the target now
    and then, and at small batches first of all: to count the first touch puts
    the knee too low. Between two evaluations the metric counts as a straight
    line.

    Args:
        curve: (updates, metric) of each evaluation, in order.
        target: Value of the metric to reach.
        mode: "max" or "min": which values are better.

    Returns:
        None: the target is not held at the end.

    Example:
        >>> curve = [(10, 0.5), (20, 0.8), (30, 0.6), (40, 0.8), (50, 0.9)]
        >>> round(steps_to_target(curve, 0.7, "max"), 6)
        35.0
    """
    sign = 1.0 if mode == "max" else -1.0
    leads = [
        -math.inf if value is None else sign * (value - target)
        for _, value in curve
    ]
    held = 0
    for lead in reversed(leads):
        if not lead >= 0:
            break
        held += 1
    if not held:
        return None
    at = len(curve) - held
    if not at or not math.isfinite(leads[at - 1]):
        return float(curve[at][0])
    before, after = curve[at - 1][0], curve[at][0]
    part = -leads[at - 1] / (leads[at] - leads[at - 1])
    return before + part * (after - before)


def best(runs: Iterable[Run]) -> list[Point]:
    """The trial with the fewest steps at each batch size, small ones first.

    >>> [p.steps for p in best([Run(8, 90, {}), Run(8, 60, {}),
    ...     Run(4, None, {})])]
    [None, 60]
    """
    trials: dict[int, list[Run]] = {}
    for run in runs:
        trials.setdefault(run.batch_size, []).append(run)
    found = []
    for size, those in sorted(trials.items()):
        reached = [run for run in those if run.steps is not None]
        first = min(reached, key=lambda run: run.steps or 0, default=None)
        found.append(
            Point(
                size,
                first and first.steps,
                first and first.hyperparameters,
                len(those),
                len(reached),
                first and first.seed,
                first is not None and first.at_first,
            )
        )
    return found


def usable(points: Iterable[Point]) -> list[Point]:
    """Those whose steps are known: reached, and not at the first evaluation."""
    return [p for p in points if p.steps is not None and not p.at_first]


def fit(points: Sequence[Point]) -> Curve:
    r"""The curve through the best of each batch size, and its knee.

    $$ S(B) = S_{min} (1 + B_{crit} / B) $$

    by least squares of log S, so \(S_{min} B_{crit} / B\) is the line of
    perfect scaling that small batches approach, and at \(B = B_{crit}\) a run
    takes twice its steps. With s the sum of squares and n batch sizes, the
    interval holds every knee with

    $$ s(B) \le s_{min} (1 + F_{0.95}(1, n - 2) / (n - 2)) $$

    It is open where the sweep does not show the bend.

    Args:
        points: Of `best`; those that are not `usable` are left out.

    Returns:
        A `Curve`.

    Raises:
        ValueError: Fewer than three batch sizes are usable.

    Example:
        >>> points = [Point(b, round(100 * (1 + 64 / b)), {}, 1, 1)
        ...     for b in (8, 16, 32, 64, 128, 256, 512)]
        >>> curve = fit(points)
        >>> round(curve.knee), round(curve.least_steps)
        (64, 100)
        >>> [curve.place(b) for b in (32, 512)]
        ['inside', 'beyond']

    Source: McCandlish et al. 2018, Equation 2.11; Shallue et al. 2019 for
        steps to a target of the best of a search at each batch size.
    """
    known = usable(points)
    if len(known) < LEAST:
        raise ValueError(
            f"points must have at least {LEAST} batch sizes that reached the "
            f"target after their first evaluation, received {len(known)} of "
            f"{len(points)}."
        )
    sizes = np.array([p.batch_size for p in known], float)
    logs = np.log([p.steps for p in known])
    knees = _candidates(sizes)
    # The two ends are pure perfect scaling, and no scaling at all.
    shapes = np.stack(
        [np.zeros_like(sizes)]
        + [np.log1p(knee / sizes) for knee in knees[1:-1]]
        + [-np.log(sizes)]
    )
    offsets = (logs - shapes).mean(axis=1)
    squares = ((logs - shapes - offsets[:, None]) ** 2).sum(axis=1)
    at = int(np.argmin(squares))
    inside = knees[squares <= _limit(squares[at], len(known))]
    # Between an end alone and the next that was tried there are knees, too.
    low = min(float(inside[0]), float(knees[-2]))
    high = max(float(inside[-1]), float(knees[1]))
    return _curve(float(knees[at]), low, high, math.exp(offsets[at]))


def _candidates(sizes):
    """Knees that are tried, 0 and infinity at the ends."""
    low, high = np.log2(sizes.min()) - _BEYOND, np.log2(sizes.max()) + _BEYOND
    count = round((high - low) * _PER_OCTAVE) + 1
    return np.array([0.0, *np.exp2(np.linspace(low, high, count)), np.inf])


def _limit(least, count):
    """Greatest sum of squares of the interval."""
    from scipy import stats

    freedom = count - 2
    ratio = stats.f.ppf(CONFIDENCE, 1, freedom) / freedom
    return least * (1 + ratio) + 1e-12


def _curve(knee, low, high, scale):
    if knee == 0:
        return Curve(knee, low, high, scale, 0.0)
    if knee == math.inf:
        return Curve(knee, low, high, 0.0, scale)
    return Curve(knee, low, high, scale, scale * knee)
