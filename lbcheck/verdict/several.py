"""The numbers of several studies of one question: searches, and a control."""

import collections
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from lbcheck.study import companions
from lbcheck.study import formats
from lbcheck.study import protocol
from lbcheck.study.study_folder import Folder
from lbcheck.verdict import decision
from lbcheck.verdict import parts
from lbcheck.verdict.results import PairVerdict

Values = dict[str, dict[str, list[float | None]]]
LARGE, SMALL = "large batch", "small batch"


def searches(
    study: Mapping[str, Any],
    records: list[dict],
    beside: Mapping[str, Folder],
) -> list[tuple[Mapping[str, Any], list[dict]]]:
    """(study, records) of every search that is done, the study's own first."""
    return [
        (study, records),
        *(
            (beside[name].study, beside[name].records)
            for name in companions.searches(study)
            if name in done(study, beside)
        ),
    ]


def done(study: Mapping[str, Any], beside: Mapping[str, Folder]) -> set[str]:
    """Names of the further searches and the control that lack no trial.

    They get the seeds of the study itself, and may not have them all yet.
    """
    seeds = study["seeds"]
    return {
        name
        for name, (own, records, _) in beside.items()
        if protocol.Protocol({**own, "seeds": seeds}).is_done(records)
    }


def mean(runs: Sequence[float | None]) -> float | None:
    """A search's result; None where half of its seeds or more diverged.

    >>> mean([0.5, 0.7, None]), mean([0.5, None])
    (0.6, None)
    """
    found = [value for value in runs if value is not None]
    if 2 * len(found) <= len(runs):
        return None
    return float(np.mean(found))


def means(confirmed: Sequence[Values], part: str, arm: str) -> list:
    """`mean` of an arm's runs in each search; none of those without runs."""
    runs = [values[part].get(arm, [None]) for values in confirmed]
    return [mean(own) for own in runs if own]


def mean_groups(found: Sequence[Mapping[str, Any]]) -> dict[str, list]:
    """{arm: one row of its metrics on groups of test examples a search}.

    Of the searches that have such rows of the arm.
    """
    sizes = [len(rows[0]) for groups in found for rows in groups.values()]
    usual = max(set(sizes), key=sizes.count, default=0)
    rows = {}
    for groups in found:
        for arm, runs in groups.items():
            if len(runs[0]) == usual:
                rows.setdefault(arm, []).append(np.mean(runs, axis=0))
    return rows


def common_edges(found: Sequence[Mapping[str, Any]]) -> dict[str, dict]:
    """{arm: {hyperparameter: searches}} of edges likely in most searches.

    Args:
        found: {arm: its edges} of each search.
    """
    counts: dict[str, collections.Counter] = {}
    for edges in found:
        for arm, own in edges.items():
            names = [edge.name for edge in own if edge.is_likely]
            counts.setdefault(arm, collections.Counter()).update(names)
    return {
        arm: {n: count for n, count in own.items() if 2 * count > len(found)}
        for arm, own in counts.items()
    }


def control(
    study: Mapping[str, Any],
    large: Values,
    small: Values,
    groups: Sequence[Mapping[str, Any]],
) -> PairVerdict | None:
    """The control's arm at its small batch against itself at the large one.

    Args:
        study: The study at the large batch.
        large: {part: {arm: confirming runs}} of its arms.
        small: The same of the control, which has one arm.
        groups: {arm: metrics on groups of the test examples} of both.

    Returns:
        Positive differences: the small batch is better. None without runs.
    """
    part = formats.parts_of(study)[0]
    (arm,) = small[part] or [None]
    if arm not in large[part]:
        return None
    metric = study["metric"]
    (pair,) = parts.judged(
        decision.judge(
            {part: {SMALL: small[part][arm], LARGE: large[part][arm]}},
            {SMALL},
            {LARGE},
            metric["name"],
            metric["mode"],
            study.get("margin"),
            groups={
                name: own[arm]
                for name, own in zip((LARGE, SMALL), groups)
                if arm in own
            },
        ).pairs
    )
    return pair


def leading(study: Mapping[str, Any], arms) -> str:
    """The baseline with the best median, or the only arm.

    Args:
        study: As in study.json.
        arms: `ArmSummary`s of its verdict.
    """
    sign = 1 if study["metric"]["mode"] == "max" else -1
    named = [
        arm
        for arm in parts.judged(arms)
        if arm.median is not None
        and (arm.side == "baseline" or len(study["arms"]) == 1)
    ]
    _, baselines = protocol.sides(study)
    first = min(baselines, default=next(iter(study["arms"])))
    best = max(named, key=lambda arm: sign * arm.median, default=None)
    return best.arm if best else first
