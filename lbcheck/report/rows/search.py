"""Tables of the search: trials, best so far, targets, rates by decay.

A table is a list of flat rows; a figure draws what a table holds.
"""

from typing import Any

import numpy as np

from lbcheck.study import protocol
from lbcheck.study.formats import PARTS

_NUM_BINS = 3
_MOST_VALUES = 4
_NUM_TARGETS = 61


def value(record, part: str, study) -> float | None:
    """A record's metric on a part; None where the trial diverged."""
    if record["status"] != "finished":
        return None
    return (record["metrics"].get(part) or {}).get(study["metric"]["name"])


def of(records, arm: str, *stages: str) -> list[dict[str, Any]]:
    """The records of an arm in these stages."""
    return [r for r in records if r["arm"] == arm and r["stage"] in stages]


def trials(study, records) -> list[dict]:
    """Every trial with its hyperparameters and both metrics."""
    return [
        {
            "arm": record["arm"],
            "stage": record["stage"],
            "index": record["index"],
            "trial": record.get("trial"),
            "seed": record["seed"],
            "status": record["status"],
            "steps": record["steps"],
            "seconds": record["seconds"],
            **{part: value(record, part, study) for part in PARTS},
            **{
                f"hyperparameters/{name}": number
                for name, number in record["hyperparameters"].items()
            },
        }
        for record in records
    ]


def best_so_far(study, records) -> list[dict]:
    """Median of the best of k trials of the broad space, with a band.

    The seconds are k times what a trial of the arm takes on average. A trial
    that diverged counts as the worst value that any arm has. An end of the band
    without bound is None.
    """
    from lbcheck.verdict import statistics

    mode = study["metric"]["mode"]
    rows = []
    for part in PARTS:
        for arm, values, worst in _broad(study, records, part):
            found = statistics.tuning_curve(values, mode, worst)
            trial = np.mean(
                [r["seconds"] for r in of(records, arm, "broad", "replacement")]
            )
            rows += [
                {
                    "arm": arm,
                    "part": part,
                    "trials": trials,
                    "seconds": float(trials * trial),
                    "median": median,
                    "low": low if np.isfinite(low) else None,
                    "high": high if np.isfinite(high) else None,
                }
                for trials, median, low, high in zip(
                    *(column.tolist() for column in found)
                )
            ]
    return rows


def scores(study, records) -> dict[str, list[float]]:
    """{arm: what selects its trials, greater is better}; diverged: -inf."""
    sign = 1 if study["metric"]["mode"] == "max" else -1
    found = {}
    for arm in study["arms"]:
        selecting = [
            protocol.score(study, r)
            for r in of(records, arm, "broad", "replacement", "challenge")
        ]
        found[arm] = [-np.inf if s is None else sign * s for s in selecting]
    return found


def differences(pairs, part: str, searched) -> list[dict]:
    """What the difference of each pair that is judged rests on.

    Its interval, the part of it that is of the seeds, the ends between which
    it lies in 90 % of searches with half of the trials, and half of the
    interval's width as it would be with twice the seeds or test examples.

    Args:
        pairs: Rows of all pairs.
        part: Which is judged.
        searched: As `scores` gives them.
    """
    from lbcheck.verdict import search_luck

    rows = []
    for pair in pairs:
        if pair["part"] != part or pair["difference"] is None:
            continue
        sides = [searched.get(pair[side], []) for side in ("arm", "other_arm")]
        ends = search_luck.spread(*sides) or (None, None)
        rows.append(
            {
                key: pair[key]
                for key in (
                    "arm",
                    "other_arm",
                    "part",
                    "margin",
                    "difference",
                    "low",
                    "high",
                    "seeds_low",
                    "seeds_high",
                    "example_error",
                )
            }
            | {"search_low": ends[0], "search_high": ends[1]}
            | _with_more(pair)
        )
    return rows


def _with_more(pair):
    """Half of the interval's width, now and with twice of either."""
    names = ("half", "half_with_seeds", "half_with_examples")
    ends = [pair[name] for name in ("low", "high", "seeds_low", "seeds_high")]
    if None in ends:
        return dict.fromkeys(names)
    low, high, seeds_low, seeds_high = ends
    whole, seeds = ((high - low) / 2) ** 2, ((seeds_high - seeds_low) / 2) ** 2
    examples = max(whole - seeds, 0.0)
    return dict(
        zip(
            names,
            (
                whole**0.5,
                (seeds / 2 + examples) ** 0.5,
                (seeds + examples / 2) ** 0.5,
            ),
        )
    )


def optimism(study, judged, records) -> list[dict]:
    """How much better an arm's search saw its best trial than its seeds do.

    Both by the metric that selects; positive: the search saw it better. A run
    that diverged counts as the worst, as for the arm's median; None where half
    of them did.

    Args:
        study: As in study.json.
        judged: The records that are judged, whose search it is.
        records: All records, which have the runs of every confirmed trial.
    """
    from lbcheck.verdict import statistics

    sign = 1 if study["metric"]["mode"] == "max" else -1
    rows = []
    for arm in study["arms"]:
        best = protocol.best(study, judged, arm)
        if best is None:
            continue
        runs = [
            protocol.score(study, r)
            for r in of(records, arm, "confirm")
            if r.get("trial") == protocol.number(best)
        ]
        if runs:
            found = protocol.score(study, best)
            ranked = [-np.inf if run is None else sign * run for run in runs]
            confirmed = sign * statistics.median(ranked)
            is_known = bool(np.isfinite(confirmed))
            rows.append(
                {
                    "arm": arm,
                    "part": study["selection"],
                    "searched": found,
                    "confirmed": confirmed if is_known else None,
                    "optimism": sign * (found - confirmed)
                    if is_known
                    else None,
                }
            )
    return rows


def targets(study, records) -> list[dict]:
    """Fraction of an arm's trials that reach each of a row of targets.

    Trials of the broad space; one that diverged reaches nothing. The targets
    run from the median of all trials to the best; from the worst if
    half of them are the best.

    Source: Nado et al. 2021 (ICLR submission), Figures 6 and 7.
    """
    from lbcheck.verdict import statistics

    mode = study["metric"]["mode"]
    rows = []
    for part in PARTS:
        found = _broad(study, records, part)
        everything = [v for _, values, _ in found for v in values]
        numbers = [v for v in everything if v is not None]
        if not numbers:
            continue
        worst, best = sorted(
            (min(numbers), max(numbers)), reverse=mode == "min"
        )
        middle = float(np.median(numbers))
        shown = np.linspace(
            worst if middle == best else middle, best, _NUM_TARGETS
        )
        if part == "validation" and study["target"] is not None:
            shown = np.append(shown, study["target"])
        for arm, values, _ in found:
            reached = statistics.fraction_reaching(values, shown, mode)
            rows += [
                {
                    "arm": arm,
                    "part": part,
                    "target": target,
                    "fraction": fraction,
                    "low": interval.low,
                    "high": interval.high,
                }
                for target, (fraction, interval) in zip(shown.tolist(), reached)
            ]
    return rows


def _broad(study, records, part):
    """(arm, metric of each trial of its broad space, worst of all arms)."""
    found = [
        (
            arm,
            [
                value(r, part, study)
                for r in of(records, arm, "broad", "replacement")
            ],
        )
        for arm in study["arms"]
    ]
    numbers = [v for _, values in found for v in values if v is not None]
    if not numbers:
        return []
    worst = min(numbers) if study["metric"]["mode"] == "max" else max(numbers)
    return [(arm, values, worst) for arm, values in found if values]


def rates(study, records) -> list[dict]:
    """Learning rate, weight decay, decay bin and metrics of every trial.

    Quasi-random points have no common decay, so they are cut into bins of
    equal counts, from weak to strong; few values are a bin each.

    Source: Nado et al. 2021 (ICLR submission), Figures 8 to 12.
    """
    rows = []
    for arm in study["arms"]:
        found = [
            record
            for record in of(
                records, arm, "broad", "replacement", "refined", "challenge"
            )
            if _is_positive(record["hyperparameters"].get("learning_rate"))
        ]
        decays = [decay_of(record["hyperparameters"])[1] for record in found]
        for record, decay, number in zip(found, decays, _bins(decays)):
            rows.append(
                {
                    "arm": arm,
                    "stage": record["stage"],
                    "index": record["index"],
                    "learning_rate": record["hyperparameters"]["learning_rate"],
                    "weight_decay": decay,
                    "bin": number,
                    **{part: value(record, part, study) for part in PARTS},
                }
            )
    return rows


def decay_of(hyperparameters) -> tuple[str | None, float | None]:
    """(name, number) of the weight decay or L2 coefficient, if any."""
    for name in ("weight_decay", "l2"):
        if isinstance(hyperparameters.get(name), (int, float)):
            return name, hyperparameters[name]
    return None, None


def bins(study, rate_rows) -> list[dict]:
    """Each decay bin with its best rate: Figures 8 and 9 of the submission."""
    sign, found = 1 if study["metric"]["mode"] == "max" else -1, {}
    for row in rate_rows:
        found.setdefault((row["arm"], row["bin"]), []).append(row)
    rows = []
    for (arm, number), members in found.items():
        decays = [row["weight_decay"] for row in members]
        feasible = [row for row in members if row["validation"] is not None]
        best = max(
            feasible, key=lambda row: sign * row["validation"], default=None
        )
        rows.append(
            {
                "arm": arm,
                "bin": number,
                "decay_low": None if None in decays else min(decays),
                "decay_high": None if None in decays else max(decays),
                "settings": len(members),
                "best_rate": best and best["learning_rate"],
                "best_validation": best and best["validation"],
            }
        )
    return sorted(
        rows, key=lambda r: (list(study["arms"]).index(r["arm"]), r["bin"])
    )


def _is_positive(number):
    return isinstance(number, (int, float)) and number > 0


def _bins(decays):
    """The bin of each decay, from 0; all 0 where a trial has none."""
    if None in decays:
        return [0] * len(decays)
    distinct = sorted(set(decays))
    if len(distinct) <= _MOST_VALUES:
        return [distinct.index(decay) for decay in decays]
    order = np.argsort(decays, kind="stable")
    numbers = np.empty(len(decays), int)
    numbers[order] = np.arange(len(decays)) * _NUM_BINS // len(decays)
    return [int(number) for number in numbers]
