"""How the verdict follows from runs: pairs first, then all pairs together."""

import dataclasses
import itertools
import math
import types
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import numpy as np

from lbcheck.support import metric_names
from lbcheck.verdict import difference
from lbcheck.verdict import parts
from lbcheck.verdict import search_luck
from lbcheck.verdict import sentences
from lbcheck.verdict import statistics
from lbcheck.verdict.difference import Plan
from lbcheck.verdict.difference import Shift
from lbcheck.verdict.results import ArmSummary
from lbcheck.verdict.results import ChallengeStep
from lbcheck.verdict.results import PairVerdict
from lbcheck.verdict.results import Verdict

LEAST_SEEDS = 6
ARMS_A_SIDE = 5
ACCURACY_MARGIN, PART_LEFT = 0.005, 0.25
RELATIVE_MARGIN = 0.01
HITS_ERROR = 0.05
MOST_FAILURES = 0.1
"""An arm that may fail in so many more runs than another is not as good."""
_TIE = 1e-6
"""Part of a number that is rounding, as of float32."""

Runs = Mapping[str, Sequence[float | None]]
Groups = Mapping[str, Sequence[Sequence[float]]]


def judge(
    values: Mapping[str, Runs],
    challengers: set[str],
    baselines: set[str] | None,
    metric: str,
    mode: str,
    margin: float | None,
    target: float | None = None,
    steps: Runs | None = None,
    searched: Runs | None = None,
    error: float = 1.0,
    looks: tuple[int, int] | None = None,
    groups: Groups = types.MappingProxyType({}),
    **known: Any,
) -> Verdict:
    """The verdict on {part: {arm: runs}}; see `verdict.compare_arms`.

    The first part is judged. Without `baselines`, those that do not challenge
    are. `searched` are the metrics of each arm's search trials, for the share
    of sub-searches that agree; `error` is the part of the usual errors to
    spend, at one of the `looks`, (every so many seeds, until so many);
    `groups` are the metrics of each arm's runs on groups of the test examples;
    what else is `known` is for `conclude`.
    """
    if mode not in ("max", "min"):
        raise ValueError(f'mode is {mode!r}; expected "max" or "min".')
    if margin is not None and not 0 < margin < math.inf:
        raise ValueError(f"margin is {margin:g}; expected a positive number.")
    judged_part = next(iter(values))
    if baselines is None:
        baselines = set(values[judged_part]) - challengers
    sides = [
        [arm for arm in values[judged_part] if arm in side]
        for side in (challengers, baselines)
    ]
    top = ceiling(values.values(), metric, mode)
    scale = error * min(1.0, ARMS_A_SIDE / max(1, *map(len, sides)))
    question = _Question(
        mode, margin, target, top, scale, sides[0], sides[1], looks
    )
    arms, pairs, plans = [], [], {}
    for part, arm_values in values.items():
        ranked = {a: _ranked(v, question.sign) for a, v in arm_values.items()}
        is_judged = part == judged_part
        arms += _summaries(question, part, ranked, steps, is_judged)
        for arm, other in itertools.product(*sides):
            if arm in ranked and other in ranked:
                pair, plans[part, arm, other] = _pair(
                    question,
                    PairVerdict(arm, other, part, 0, 0, 0.0),
                    ranked,
                    groups if is_judged else {},
                )
                if is_judged and target is not None:
                    pair = _with_hits(question, pair, ranked)
                pairs.append(pair)
    deciding = parts.judged(pairs)
    return conclude(
        pairs,
        arms,
        metric,
        more_seeds=_more_seeds(question, deciding, plans),
        shares=_shares(question, searched or {}, deciding),
        times_examples=_times_examples(deciding, plans),
        **known,
    )


class _Question(NamedTuple):
    """What is asked of all parts and pairs."""

    mode: str
    margin: float | None
    target: float | None
    top: float | None
    scale: float
    challengers: list[str]
    baselines: list[str]
    looks: tuple[int, int] | None = None

    @property
    def sign(self) -> float:
        """What makes greater values better."""
        return 1.0 if self.mode == "max" else -1.0

    def side(self, arm: str) -> str | None:
        """ "challenger", "baseline" or None of an arm that is not judged."""
        if arm in self.challengers:
            return "challenger"
        return "baseline" if arm in self.baselines else None


def _summaries(question, part, ranked, steps, is_judged):
    """The arms on one part."""
    for arm, runs in ranked.items():
        more = {}
        if is_judged and question.target is not None:
            more |= hit_rate(_hits(question, runs), len(runs))
        if is_judged and steps is not None:
            more |= _steps_to_target(steps[arm])
        yield _arm(arm, question.side(arm), part, runs, question.sign, more)


def _pair(question, pair, ranked, groups):
    """(the pair with its answer, what more seeds would show or None)."""
    arm, other, sign = pair.arm, pair.other_arm, question.sign
    x, y = ranked[arm], ranked[other]
    known = np.concatenate([[], *ranked.values()])
    known = known[np.isfinite(known)]
    least = default_margin(
        question.margin,
        sign * known,
        sign * _middle(y),
        question.mode,
        question.top,
    )
    left = 0.0 if question.top is None else question.top - sign * _middle(y)
    left = left if math.isfinite(left) else 0.0  # diverged throughout
    pair = dataclasses.replace(
        pair,
        runs=len(x),
        other_runs=len(y),
        margin=least,
        margin_share=least / left if left > 0 else None,
    )
    if not (len(known) and len(x) and len(y)):
        return pair, None
    examples = difference.NO_EXAMPLES
    if arm in groups and other in groups:
        examples = difference.example_error(groups[arm], groups[other])
    pair, plan = _compare(question, pair, x, y, known.min(), examples)
    return _doubted(pair, question.top, statistics.median(y)), plan


def _with_hits(question, pair, ranked):
    """The pair with the p-value of equal target hit rates."""
    runs = ranked[pair.arm], ranked[pair.other_arm]
    if not all(map(len, runs)):
        return pair
    counts = [n for own in runs for n in (_hits(question, own), len(own))]
    p = statistics.rates_p_value(*counts)
    return dataclasses.replace(pair, hits_p=p)


def _hits(question, runs):
    target = question.sign * question.target
    least = statistics.less_rounding(target, [target])
    return int(np.count_nonzero(runs >= least))


def conclude(
    pairs: Sequence[PairVerdict],
    arms: Sequence[ArmSummary],
    metric: str,
    more_seeds: int | None,
    shares: Sequence[float] = (),
    times_examples: float | None = None,
    notes: Sequence[str] = (),
    edges: Mapping[str, Sequence[str]] = types.MappingProxyType({}),
    challenge: Sequence[ChallengeStep] = (),
    unit: str = "seed",
    chance: float | None = None,
    points: Mapping[str, int] = types.MappingProxyType({}),
) -> Verdict:
    """The verdict of all pairs.

    Args:
        pairs: On every part; those of the first one decide.
        arms: On every part.
        metric: Its name.
        more_seeds: Seeds that are lacking, if seeds are.
        shares: Of sub-searches of 1, 2, .. trials with a challenger ahead.
        times_examples: Test examples that are lacking, if these are.
        notes: What else a reader must know.
        edges: {arm: its hyperparameters whose best values lie at an end}.
        challenge: Its steps, if the runs are of the last one.
        unit: What a run is, a "seed" or a "search".
        chance: What is reached without having learnt anything.
        points: {arm: all points of its space}, where that has an end.
    """
    answer, deciding = overall(parts.judged(pairs))
    training = [p for p in pairs if p.part == "training"]
    others = dict.fromkeys(p.other_arm for p in deciding)
    narrow = [name for arm in others for name in edges.get(arm, ())]
    share = shares[search_luck.half(len(shares)) - 1] if shares else None
    doubt = _doubt(answer, pairs, share, challenge)
    if answer == "needed" and narrow:
        doubt = "edge"
    if chance is not None and _learnt_nothing(pairs, arms, chance):
        doubt = "floor"
    luck = []
    if share is not None:
        bounds = search_luck.bounds(challenge)
        since = search_luck.sure_since(shares, *bounds)
        luck = [sentences.luck(share, *bounds, since)]
    found = Verdict(
        answer="undecided" if doubt else answer,
        doubt=doubt,
        more_seeds=more_seeds if doubt == "seeds" else 0,
        sentence="",
        search_share=share,
        search_shares=tuple(shares),
        challenge=tuple(challenge),
        times_examples=times_examples if doubt == "examples" else None,
        unit=unit,
        control=None,
        training_answer=overall(training)[0] if training else None,
        pairs=tuple(pairs),
        arms=tuple(arms),
        notes=(
            *notes,
            *luck,
            *sentences.notes(pairs, arms, metric, LEAST_SEEDS, unit),
        ),
    )
    text = sentences.sentence(found, deciding, narrow, metric, chance, points)
    return dataclasses.replace(found, sentence=text)


def _doubt(answer, pairs, share, challenge):
    """What an answer lacks, None where it is given."""
    if challenge and answer != challenge[0].answer:
        return "search"
    if answer != "undecided":
        if challenge and challenge[-1].answer is None:
            return "search"
        needed, not_needed = search_luck.bounds(challenge)
        sure = share is None or (
            share >= needed if answer == "needed" else share <= not_needed
        )
        return None if sure else "search"
    judged_pairs = parts.judged(pairs)
    for doubt in ("ceiling", "failures", "examples"):
        certain = [
            dataclasses.replace(p, answer=p.seeds_answer)
            if p.doubt == doubt
            else p
            for p in judged_pairs
        ]
        if overall(certain)[0] != "undecided":
            return doubt
    found = {p.doubt for p in judged_pairs} - {None}
    return "ceiling" if found == {"ceiling"} else "seeds"


def _learnt_nothing(pairs, arms, chance):
    """Whether no arm is above chance by more than the margin."""
    margins = [pair.margin for pair in parts.judged(pairs)]
    medians = [
        arm.median
        for arm in parts.judged(arms)
        if arm.median is not None and math.isfinite(arm.median)
    ]
    if not margins or not medians:
        return False
    return max(medians) <= chance + min(margins)


def overall(
    pairs: Sequence[PairVerdict],
) -> tuple[str, list[PairVerdict]]:
    """The answer of all pairs on one part, and the pairs that decide it.

    Where several arms would do, those of the one that does best at its worst.
    """
    for answer, side, sign in (
        ("needed", "arm", 1),
        ("not needed", "other_arm", -1),
    ):
        own = {}
        for pair in pairs:
            own.setdefault(getattr(pair, side), []).append(pair)
        enough = [
            found
            for found in own.values()
            if all(pair.answer == answer for pair in found)
        ]
        if enough:
            return answer, max(
                enough, key=lambda found: min(sign * _lead(p) for p in found)
            )
    return "undecided", []


def _lead(pair):
    """The difference; of medians, where there is nothing else."""
    if pair.difference is None:
        return pair.median_difference
    return pair.difference


def ceiling(parts: Iterable[Runs], metric: str, mode: str) -> float | None:
    """What no run can exceed: 1 of fractions, 100 of per cent, else None.

    Fractions are values between 0 and 1 and per cent those up to 100, both of a
    metric whose name says that it is a part of a whole, such as an accuracy,
    or nothing. R squared and the like are at most 1 and can be negative.
    """
    values = statistics.finite(
        [v for runs in parts for a in runs.values() for v in a]
    )
    if mode != "max" or not len(values):
        return None
    least, most = values.min(), values.max() * (1 - _TIE)
    if most <= 1 and metric_names.is_at_most_1(metric):
        return 1.0
    if least < 0 or most > 100 or not metric_names.is_part(metric):
        return None
    return 1.0 if most <= 1 else 100.0


def default_margin(
    margin: float | None,
    values: Sequence[float],
    baseline_median: float,
    mode: str,
    top: float | None,
) -> float:
    """The margin given, else one that suits the metric's values.

    Where the metric has a top, a quarter of what the baseline leaves to gain
    at most: 0.005 of 0.76, and 0.0025 of 0.99.
    """
    if margin is not None:
        return margin
    values = np.asarray(values, float)
    if top is not None or not len(values):
        usual = ACCURACY_MARGIN * (top or 1.0)
        part = PART_LEFT * ((top or 1.0) - baseline_median)
        return min(usual, part) if part > 0 else usual
    if not math.isfinite(baseline_median) or baseline_median == 0:
        baseline_median = np.abs(values).max()
    return RELATIVE_MARGIN * abs(float(baseline_median)) or ACCURACY_MARGIN


def hit_rate(hits: int, runs: int) -> dict[str, Any]:
    """Fields of `ArmSummary` about reaching the target."""
    if not runs:
        return {}
    low, high = statistics.rate_interval(hits, runs)
    return {
        "hits": hits,
        "hit_rate": hits / runs,
        "hit_low": low,
        "hit_high": high,
    }


def _ranked(values, sign):
    """Greater is better; what diverged is minus infinity."""
    numbers = np.asarray([math.nan if v is None else v for v in values], float)
    return np.where(np.isfinite(numbers), sign * numbers, -math.inf)


def _middle(runs):
    return statistics.median(runs) if len(runs) else math.nan


def _arm(name, side, part, runs, sign, more):
    if len(runs):
        more["median"] = sign * statistics.median(runs)
        interval = statistics.median_interval(runs)
        if interval:
            more["low"], more["high"] = sorted(sign * e for e in interval)
    return ArmSummary(
        arm=name,
        side=side,
        part=part,
        runs=len(runs),
        diverged=int(np.count_nonzero(np.isinf(runs))),
        **more,
    )


def _steps_to_target(steps):
    if not steps:
        return {}
    numbers = [math.inf if step is None else step for step in steps]
    fields = {"steps_to_target": statistics.median(numbers)}
    interval = statistics.median_interval(numbers)
    if interval:
        fields["steps_low"], fields["steps_high"] = interval
    return fields


def _compare(question, pair, x, y, worst, examples):
    """The pair with its numbers, and what more seeds would show."""
    margin, scale = pair.margin, question.scale
    medians = statistics.median(x), statistics.median(y)
    median_difference = None
    if np.isfinite(medians).all():
        median_difference = medians[0] - medians[1]
    failed, other_failed = failures(x, y, margin)
    # A run that diverged is worse than every run, by what matters at least.
    x, y = (np.where(np.isinf(v), worst - margin, v) for v in (x, y))
    reached = statistics.less_rounding(margin, np.concatenate([x, y]))
    shift = Shift(x, y, margin, scale, examples)
    chance, (chance_low, chance_high) = statistics.improvement(x, y)
    runs = min(len(x), len(y))
    plan = Plan(shift, runs, margin, scale, LEAST_SEEDS) if runs > 1 else None
    without = shift
    if examples.error > 0:
        without = Shift(x, y, margin, scale)
    pair = dataclasses.replace(
        pair,
        relation=_relation(*shift.interval, shift.estimate, reached, runs),
        median_difference=median_difference,
        p_superior=shift.p_above(0.0),
        p_equivalent=max(shift.p_below(reached), shift.p_above(-reached)),
        improvement=chance,
        improvement_low=chance_low,
        improvement_high=chance_high,
        detectable=(
            plan.detectable if plan and math.isfinite(plan.detectable) else None
        ),
        failures=failed,
        other_failures=other_failed,
        seeds_low=shift.seeds_interval.low,
        seeds_high=shift.seeds_interval.high,
        example_error=(
            None if examples is difference.NO_EXAMPLES else examples.error
        ),
        seeds_answer=_answer(
            dataclasses.replace(pair, **_of_shift(without, reached)),
            reached,
        ),
        **_of_shift(shift, reached),
    )
    answer, doubt = _answer(pair, reached), None
    more = 0 if answer != "undecided" else LEAST_SEEDS - runs
    if answer == "undecided":
        doubt = "seeds" if pair.seeds_answer == answer else "examples"
        if plan:
            chance = plan.needed + plan.not_needed
            more = _first(plan.runs, chance, runs, question.looks)
    pair = dataclasses.replace(
        pair, answer=answer, more_seeds=more, doubt=doubt
    )
    return pair, plan


def _answer(pair, margin):
    """What the runs of a pair say, of a margin less what rounding makes."""
    if min(pair.runs, pair.other_runs) < LEAST_SEEDS:
        return "undecided"
    if pair.low > 0 and pair.p_needed <= difference.RANK_ERROR:
        return "needed"
    return "not needed" if pair.high < margin else "undecided"


def _of_shift(shift, reached):
    """The numbers of a pair that its answer rests on.

    `reached` is the margin less what rounding makes of differences.
    """
    low, high = shift.interval
    return {
        "difference": shift.estimate,
        "low": low,
        "high": high,
        "p_needed": max(shift.p_above(0.0), shift.p_reached(reached)),
        "p_not_needed": shift.p_below(reached),
    }


def failures(
    x: Sequence[float], y: Sequence[float], margin: float
) -> tuple[int, int]:
    """Runs of each arm that diverged or lie far below the pooled median.

    Args:
        x: Runs of one arm, greater is better; minus infinity: it diverged.
        y: Of the other.
        margin: Differences below it do not matter.

    Example:
        >>> failures([0.9, 0.8, -math.inf], [0.9, 0.8, 0.1], margin=0.01)
        (1, 1)
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    known = [own[np.isfinite(own)] for own in (x, y)]
    known = [own for own in known if len(own)]
    if not known:
        return len(x), len(y)
    # Each arm is half of the pool: the smaller is no outlier of the larger.
    size = math.lcm(*map(len, known))
    pool = np.concatenate([np.repeat(own, size // len(own)) for own in known])
    low, middle, high = np.quantile(pool, [0.25, 0.5, 0.75])
    far = middle - difference.FENCE * max(high - low, margin)
    return int(np.sum(x < far)), int(np.sum(y < far))


def may_fail_more(favoured: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether an arm may fail so much more often that it is not as good.

    Args:
        favoured: (runs that failed, all runs) of the arm whose favour an
            answer would be in.
        other: Of the other arm.

    Example:
        >>> may_fail_more((2, 20), (0, 20)), may_fail_more((2, 20), (2, 20))
        (True, False)
    """
    # Without more failures there is nothing to be sure of.
    if favoured[0] * other[1] <= other[0] * favoured[1]:
        return False
    return statistics.rates_bound(*favoured, *other) >= MOST_FAILURES


def _doubted(pair, top, median):
    """The pair, without an answer that failures or a ceiling forbid."""
    doubt = None
    has_ceiling = top is not None and top - median <= pair.margin * (1 + _TIE)
    # An arm that is behind lacks no room.
    if has_ceiling and pair.relation != "baseline better":
        doubt = "ceiling"
    elif pair.answer != "undecided":
        favoured = (pair.failures, pair.runs)
        other = (pair.other_failures, pair.other_runs)
        if pair.answer == "not needed":
            favoured, other = other, favoured
        doubt = "failures" if may_fail_more(favoured, other) else None
    if doubt is None:
        return pair
    relation = pair.relation
    if doubt == "ceiling" and pair.part == "training":
        relation = "saturated"
    return dataclasses.replace(
        pair, answer="undecided", doubt=doubt, relation=relation, more_seeds=0
    )


def _times_examples(pairs, plans):
    """As `Verdict.times_examples`, of the pair that takes the most."""
    found = [
        plans[p.part, p.arm, p.other_arm].times_examples(p.seeds_answer)
        for p in pairs
        if p.doubt == "examples"
    ]
    return None if not found or None in found else max(found)


def _shares(question, searched, pairs):
    """Shares of sub-searches of 1, 2, .. trials with a challenger ahead."""
    margins = {}
    for pair in pairs:
        least = margins.get(pair.other_arm, pair.margin)
        margins[pair.other_arm] = min(least, pair.margin)
    ranked = {a: _ranked(v, question.sign) for a, v in searched.items()}
    own = [ranked[arm] for arm in question.challengers if arm in ranked]
    others = [
        (margins[arm], ranked[arm])
        for arm in question.baselines
        if arm in ranked and arm in margins
    ]
    whole = len(own) == len(question.challengers)
    whole &= len(others) == len(question.baselines)
    if not (own and others and whole and all(map(len, own))):
        return []
    return search_luck.shares(own, others)


def _relation(low, high, estimate, margin, runs):
    if runs < LEAST_SEEDS:
        return "unclear"
    if -margin < low and high < margin:
        return "equal"
    if low > 0 and estimate >= margin:
        return "challenger better"
    if high < 0 and estimate <= -margin:
        return "baseline better"
    return "baseline not worse" if high < margin else "unclear"


def _first(runs, chance, now, looks):
    """Seeds to add until an answer can be expected, as many as any needs.

    With repeated looks those to the next look that can be expected to give
    one, or to the last; 0 after it.
    """
    expected = (chance >= difference.ASSURANCE) & (runs > now)
    if looks is not None:
        every, last = looks
        expected &= ((runs % every == 0) | (runs == last)) & (runs <= last)
    enough = runs[expected]
    if len(enough):
        return int(enough[0]) - now
    return None if looks is None else last - now


def _more_seeds(question, pairs, plans):
    """Seeds an arm after which all pairs together can be expected to decide.

    None if no number up to 1,000 does, 0 if seeds are not what is missing.
    """
    if not pairs:
        return 0
    now = min(min(p.runs, p.other_runs) for p in pairs)
    if any(plans.get((p.part, p.arm, p.other_arm)) is None for p in pairs):
        return max(LEAST_SEEDS - now, 0)
    challengers, baselines = question.challengers, question.baselines
    part = pairs[0].part
    needed = np.max(
        [
            np.min([plans[part, a, b].needed for b in baselines], axis=0)
            for a in challengers
        ],
        axis=0,
    )
    not_needed = np.max(
        [
            np.min([plans[part, a, b].not_needed for a in challengers], axis=0)
            for b in baselines
        ],
        axis=0,
    )
    runs = plans[part, challengers[0], baselines[0]].runs
    return _first(runs, needed + not_needed, now, question.looks)
