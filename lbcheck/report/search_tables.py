"""Tables of the search: trials, budget, failures, targets, rates by decay.

A table is a list of flat rows; a figure draws what a table holds.
"""

import math
from typing import Any

import numpy as np

from lbcheck.report.folder import PARTS

_NUM_BINS = 3
_MOST_VALUES = 4
_NUM_TARGETS = 61


def value(record, part: str, study) -> float | None:
    """A record's metric on a part; None where the trial diverged."""
    if record["status"] != "finished":
        return None
    return record["metrics"][part][study["metric"]["name"]]


def of(records, arm: str, *stages: str) -> list[dict[str, Any]]:
    """The records of an arm in these stages."""
    return [r for r in records if r["arm"] == arm and r["stage"] in stages]


def better(study):
    """The comparison of the metric: (a, b) -> whether a is better."""
    if study["metric"]["mode"] == "max":
        return lambda a, b: a > b
    return lambda a, b: a < b


def trials(study, records) -> list[dict]:
    """Every trial with its hyperparameters and both metrics."""
    return [
        {
            "arm": record["arm"],
            "stage": record["stage"],
            "index": record["index"],
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


def budget(study, records) -> list[dict]:
    """What each arm and stage spent; feasible trials counted apart."""
    planned = {
        "broad": study["trials"],
        "refined": study["refined_trials"],
        "confirm": study["seeds"],
    }
    rows = []
    for arm in study["arms"]:
        for stage, number in planned.items():
            found = of(records, arm, stage)
            feasible = [r for r in found if r["status"] == "finished"]
            if not number and not found:
                continue
            rows.append(
                {
                    "arm": arm,
                    "stage": stage,
                    "planned": number,
                    "total": len(found),
                    "feasible": len(feasible),
                    "steps": sum(r["steps"] for r in found),
                    "examples": sum(r["examples"] for r in found),
                    "seconds": math.fsum(r["seconds"] for r in found),
                }
            )
    return rows


def spaces(study) -> list[dict]:
    """What each arm searched, one row a hyperparameter."""
    from lbcheck.study.space import Space

    rows = []
    for name, arm in study["arms"].items():
        space = Space.from_dict(arm["space"], f"study.json: arm {name}")
        widths = space.volume()
        for parameter, spec in arm["space"]["parameters"].items():
            rows.append(
                {
                    "arm": name,
                    "parameter": parameter,
                    "searched": parameter in widths,
                    "width": widths.get(parameter, 0.0),
                    "unit": _unit(spec),
                    "range": _range(spec),
                    "scale": spec.get("scale"),
                    "one_minus": spec.get("one_minus", False),
                    "of": spec.get("of"),
                }
            )
        for parameter, fixed in (arm["fixed"] or {}).items():
            rows.append(
                {
                    "arm": name,
                    "parameter": parameter,
                    "searched": False,
                    "width": 0.0,
                    "unit": "values",
                    "range": _text(fixed),
                    "scale": None,
                    "one_minus": False,
                    "of": None,
                }
            )
    return rows


def _unit(spec):
    if "min" not in spec:
        return "values"
    return "decades" if spec.get("scale") == "log" else "range"


def _range(spec):
    if "min" in spec:
        return f"[{_text(spec['min'])}, {_text(spec['max'])}]"
    if "values" in spec:
        return "{" + ", ".join(_text(v) for v in spec["values"]) + "}"
    return _text(spec["value"])


def _text(value):
    return f"{value:g}" if isinstance(value, float) else str(value)


def failures(records) -> list[dict]:
    """Every trial that diverged: where, at what setting."""
    rows = []
    for record in records:
        if record["status"] == "finished":
            continue
        bad = record.get("bad") or {}
        rows.append(
            {
                "arm": record["arm"],
                "stage": record["stage"],
                "index": record["index"],
                "seed": record["seed"],
                "step": bad.get("step"),
                "variable": bad.get("variable"),
                **{
                    f"hyperparameters/{name}": number
                    for name, number in record["hyperparameters"].items()
                },
            }
        )
    return rows


def best_trial(study, records, arm: str) -> dict[str, Any] | None:
    """The search trial that is best by the study's selection, or None."""
    is_better, best = better(study), None
    for record in of(records, arm, "broad", "refined"):
        number = value(record, study["selection"], study)
        if number is not None and (
            best is None
            or is_better(number, value(best, study["selection"], study))
        ):
            best = record
    return best


def best_so_far(study, records) -> list[dict]:
    """Expected best metric after k trials of the broad space, with a band.

    A trial that diverged counts as the worst value that any arm has.
    """
    from lbcheck.report import statistics

    mode = study["metric"]["mode"]
    rows = []
    for part in PARTS:
        for arm, values, worst in _broad(study, records, part):
            found = statistics.expected_best(values, mode, worst)
            rows += [
                {
                    "arm": arm,
                    "part": part,
                    "trials": trials,
                    "expected": expected,
                    "low": low,
                    "high": high,
                }
                for trials, expected, low, high in zip(
                    *(column.tolist() for column in found)
                )
            ]
    return rows


def targets(study, records) -> list[dict]:
    """Fraction of an arm's settings that reach a target, for a row of them.

    The settings of the broad space; one that diverged reaches nothing. The
    targets run from the median of all settings to the best.

    Source: Nado et al. 2021 (ICLR submission), Figures 6 and 7.
    """
    from lbcheck.report import statistics

    mode = study["metric"]["mode"]
    rows = []
    for part in PARTS:
        found = _broad(study, records, part)
        everything = [v for _, values, _ in found for v in values]
        numbers = sorted(v for v in everything if v is not None)
        if not numbers:
            continue
        best = numbers[-1] if mode == "max" else numbers[0]
        shown = np.linspace(np.median(numbers), best, _NUM_TARGETS)
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
        (arm, [value(r, part, study) for r in of(records, arm, "broad")])
        for arm in study["arms"]
    ]
    numbers = [v for _, values in found for v in values if v is not None]
    if not numbers:
        return []
    worst = min(numbers) if study["metric"]["mode"] == "max" else max(numbers)
    return [(arm, values, worst) for arm, values in found if values]


def rates(study, records) -> list[dict]:
    """Learning rate, weight decay, decay bin and metrics of every setting.

    Quasi-random points have no common decay, so they are cut into bins of
    equal counts, from weak to strong; few values are a bin each.

    Source: Nado et al. 2021 (ICLR submission), Figures 8 to 12.
    """
    rows = []
    for arm in study["arms"]:
        found = [
            record
            for record in of(records, arm, "broad", "refined")
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
    is_better, found = better(study), {}
    for row in rate_rows:
        found.setdefault((row["arm"], row["bin"]), []).append(row)
    rows = []
    for (arm, number), members in found.items():
        decays = [row["weight_decay"] for row in members]
        best = None
        for row in members:
            if row["validation"] is not None and (
                best is None or is_better(row["validation"], best["validation"])
            ):
                best = row
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
    """The bin of each decay, from 0; all 0 where a setting has none."""
    if None in decays:
        return [0] * len(decays)
    distinct = sorted(set(decays))
    if len(distinct) <= _MOST_VALUES:
        return [distinct.index(decay) for decay in decays]
    order = np.argsort(decays, kind="stable")
    numbers = np.empty(len(decays), int)
    numbers[order] = np.arange(len(decays)) * _NUM_BINS // len(decays)
    return [int(number) for number in numbers]
