"""How the verdict follows from runs: pairs first, then all pairs together."""

import dataclasses
import itertools
import math
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from lbcheck.verdict import sentences
from lbcheck.verdict import statistics
from lbcheck.verdict.difference import Plan
from lbcheck.verdict.difference import Shift
from lbcheck.verdict.results import ArmSummary
from lbcheck.verdict.results import PairVerdict
from lbcheck.verdict.results import Verdict

LEAST_SEEDS = 6
ARMS_A_SIDE = 5
ACCURACY_MARGIN = 0.005
RELATIVE_MARGIN = 0.01
HITS_ERROR = 0.05

Runs = Mapping[str, Sequence[float | None]]


def judge(
    values: Mapping[str, Runs],
    layer_wise: set[str],
    metric: str,
    mode: str,
    margin: float | None,
    target: float | None = None,
    steps: Runs | None = None,
    notes: Sequence[str] = (),
) -> Verdict:
    """The verdict on {part: {arm: runs}}; see `verdict.compare_arms`."""
    if mode not in ("max", "min"):
        raise ValueError(f'mode is {mode!r}; expected "max" or "min".')
    if margin is not None and not 0 < margin < math.inf:
        raise ValueError(f"margin is {margin}; expected a positive number.")
    sign = 1.0 if mode == "max" else -1.0
    sides = [
        [arm for arm in values["validation"] if (arm in layer_wise) is side]
        for side in (True, False)
    ]
    scale = min(1.0, ARMS_A_SIDE / max(1, *map(len, sides)))
    arms, pairs, plans = [], [], {}
    for part, arm_values in values.items():
        ranked = {a: _ranked(v, sign) for a, v in arm_values.items()}
        known = np.concatenate([[], *ranked.values()])
        known = known[np.isfinite(known)]
        hits = {}
        for arm, runs in ranked.items():
            more = {}
            if part == "validation" and target is not None:
                hits[arm] = int(np.count_nonzero(runs >= sign * target))
                more |= hit_rate(hits[arm], len(runs))
            if part == "validation" and steps is not None:
                more |= _steps_to_target(steps[arm])
            arms.append(_arm(arm, arm in layer_wise, part, runs, sign, more))
        for arm, other in itertools.product(*sides):
            if arm not in ranked or other not in ranked:
                continue
            x, y = ranked[arm], ranked[other]
            least = default_margin(
                margin, sign * known, sign * _middle(y), mode
            )
            pair = PairVerdict(arm, other, part, len(x), len(y), least)
            if len(known) and len(x) and len(y):
                pair, plan = _compare(pair, x, y, known.min(), scale)
                if part == "validation":
                    plans[arm, other] = plan
            if hits and len(x) and len(y):
                p = statistics.rates_p_value(
                    hits[arm], len(x), hits[other], len(y)
                )
                pair = dataclasses.replace(pair, hits_p=p)
            pairs.append(pair)
    more_seeds = _more_seeds(sides, pairs, plans)
    return conclude(pairs, arms, metric, notes, more_seeds)


def conclude(
    pairs: Sequence[PairVerdict],
    arms: Sequence[ArmSummary],
    metric: str,
    notes: Sequence[str],
    more_seeds: int | None,
) -> Verdict:
    """The verdict of all pairs; `more_seeds` counts if it is undecided."""
    answer, deciding = overall([p for p in pairs if p.part == "validation"])
    training = [p for p in pairs if p.part == "training"]
    more_seeds = more_seeds if answer == "undecided" else 0
    return Verdict(
        answer=answer,
        more_seeds=more_seeds,
        sentence=sentences.sentence(
            answer, more_seeds, deciding, pairs, arms, metric
        ),
        training_answer=overall(training)[0] if training else None,
        pairs=tuple(pairs),
        arms=tuple(arms),
        notes=(*notes, *sentences.notes(pairs, arms, metric, LEAST_SEEDS)),
    )


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


def default_margin(
    margin: float | None,
    values: Sequence[float],
    generic_median: float,
    mode: str,
) -> float:
    """The margin given, else one that suits the metric's values."""
    if margin is not None:
        return margin
    values = np.asarray(values, float)
    if not len(values):
        return ACCURACY_MARGIN
    if mode == "max" and np.all((values >= 0) & (values <= 1)):
        return ACCURACY_MARGIN
    if not math.isfinite(generic_median) or generic_median == 0:
        generic_median = np.abs(values).max()
    return RELATIVE_MARGIN * abs(float(generic_median)) or ACCURACY_MARGIN


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


def _arm(name, layer_wise, part, runs, sign, more):
    if len(runs):
        more["median"] = sign * statistics.median(runs)
        interval = statistics.median_interval(runs)
        if interval:
            more["low"], more["high"] = sorted(sign * e for e in interval)
    return ArmSummary(
        arm=name,
        layer_wise=layer_wise,
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


def _compare(pair, x, y, worst, scale):
    """The pair with its numbers, and what more seeds would show."""
    margin = pair.margin
    median_difference = statistics.median(x) - statistics.median(y)
    # A run that diverged is worse than every run, by what matters at least.
    x, y = (np.where(np.isinf(v), worst - margin, v) for v in (x, y))
    shift = Shift(x, y, margin, scale)
    low, high = shift.interval
    chance, (chance_low, chance_high) = statistics.improvement(x, y)
    runs = min(len(x), len(y))
    plan = Plan(shift, runs, margin, scale) if runs > 1 else None
    answer = "undecided"
    if runs >= LEAST_SEEDS:
        if low > 0 and shift.estimate >= margin:
            answer = "needed"
        elif high < margin:
            answer = "not needed"
    more = 0 if answer != "undecided" else LEAST_SEEDS - runs
    if answer == "undecided" and plan:
        more = _first(plan.runs, plan.needed | plan.not_needed, runs)
    return dataclasses.replace(
        pair,
        answer=answer,
        relation=_relation(low, high, shift.estimate, margin, runs),
        median_difference=median_difference,
        difference=shift.estimate,
        low=low,
        high=high,
        p_superior=shift.p_above(0.0),
        p_not_needed=shift.p_below(margin),
        p_equivalent=max(shift.p_below(margin), shift.p_above(-margin)),
        improvement=chance,
        improvement_low=chance_low,
        improvement_high=chance_high,
        detectable=plan.detectable if plan else None,
        more_seeds=more,
    ), plan


def _relation(low, high, estimate, margin, runs):
    if runs < LEAST_SEEDS:
        return "unclear"
    if -margin < low and high < margin:
        return "equal"
    if low > 0 and estimate >= margin:
        return "layer-wise better"
    if high < 0 and estimate <= -margin:
        return "generic better"
    return "generic not worse" if high < margin else "unclear"


def _first(runs, found, now):
    """Seeds to add until `found`, at least as many as any answer needs."""
    enough = runs[found & (runs > now) & (runs >= LEAST_SEEDS)]
    return int(enough[0]) - now if len(enough) else None


def _more_seeds(sides, pairs, plans):
    """Seeds an arm after which all pairs together can be expected to decide.

    None if no number up to 1,000 does, 0 if seeds are not what is missing.
    """
    validation = [p for p in pairs if p.part == "validation"]
    if not validation:
        return 0
    now = min(min(p.runs, p.other_runs) for p in validation)
    if any(plans.get((p.arm, p.other_arm)) is None for p in validation):
        return max(LEAST_SEEDS - now, 0)
    layer_wise, generic = sides
    needed = np.any(
        [
            np.all([plans[a, b].needed for b in generic], axis=0)
            for a in layer_wise
        ],
        axis=0,
    )
    not_needed = np.any(
        [
            np.all([plans[a, b].not_needed for a in layer_wise], axis=0)
            for b in generic
        ],
        axis=0,
    )
    runs = next(iter(plans.values())).runs
    return _first(runs, needed | not_needed, now)
