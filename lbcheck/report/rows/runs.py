"""Tables of the confirmation runs: seeds, schedules, curves, layers.

A table is a list of flat rows; a figure draws what a table holds.
"""

import numpy as np

from lbcheck.report.rows.search import of
from lbcheck.report.rows.search import value
from lbcheck.study import companions
from lbcheck.study import protocol
from lbcheck.study.formats import PARTS
from lbcheck.study.formats import parts_of

_MOST_STEPS = 60
QUANTITIES = ("trust_ratio", "effective_rate", "relative_update")


def best_points(study, records) -> list[dict]:
    """Hyperparameters of each arm's best trial, one row per hyperparameter."""
    rows = []
    for name, arm in study["arms"].items():
        specs = arm["space"]["parameters"]
        for parameter, setting in _best_point(study, records, name).items():
            rows.append(
                {
                    "arm": name,
                    "parameter": parameter,
                    "setting": setting,
                    "searched": "value" not in specs.get(parameter, {}),
                }
            )
    return rows


def _best_point(study, records, arm):
    confirm = of(records, arm, "confirm")
    chosen = confirm[0] if confirm else protocol.best(study, records, arm)
    return chosen["hyperparameters"] if chosen else {}


def seeds(study, records) -> list[dict]:
    """The metric of each confirmation run; none where it diverged."""
    return [
        {
            "arm": record["arm"],
            "part": part,
            "seed": record["seed"],
            "metric": value(record, part, study),
        }
        for part in parts_of(study)
        for record in records
        if record["stage"] == "confirm"
    ]


def searches(folder) -> list[dict]:
    """What each of several searches found: an arm's mean over its seeds."""
    from lbcheck.verdict import search_means

    if not companions.searches(folder.study):
        return []
    return [
        {"arm": arm, "part": part, "search": number, "metric": metric}
        for part, arms in search_means(*folder).items()
        for arm, metrics in arms.items()
        for number, metric in enumerate(metrics)
    ]


def boxes(seed_rows) -> list[dict]:
    """Least, quartiles and greatest metric over an arm's seeds."""
    rows = []
    by_arm = {}
    for row in seed_rows:
        if row["metric"] is not None:
            key = row["arm"], row["part"]
            by_arm.setdefault(key, []).append(row["metric"])
    for (arm, part), found in by_arm.items():
        numbers = np.percentile(found, [0, 25, 50, 75, 100])
        names = ("least", "quartile_1", "median", "quartile_3", "most")
        rows.append(
            {"arm": arm, "part": part, "seeds": len(found)}
            | dict(zip(names, numbers.tolist()))
        )
    return rows


def schedules(study, records) -> tuple[list[dict], list[dict]]:
    """The learning rates of each arm's best trial, and what is wrong there.

    Both are as recorded by the first confirmation run, since a schedule may
    be a function of the user's, which no report calls.

    Returns:
        Rows of the rates, and rows of the schedule doctor's findings.
    """
    rows, findings = [], []
    for arm in study["arms"]:
        recorded = [
            record["schedule"]
            for record in of(records, arm, "confirm")
            if record.get("schedule")
        ]
        for found in recorded[:1]:
            rows += [
                {"arm": arm, "step": step, "learning_rate": rate}
                for step, rate in zip(found["steps"], found["rates"])
                if rate is not None
            ]
            findings += [{"arm": arm} | row for row in found["findings"]]
    return rows, findings


def curves(study, records) -> list[dict]:
    """Median and range over the seeds at each evaluation of the runs."""
    name = study["metric"]["name"]
    rows = []
    for arm in study["arms"]:
        for part in PARTS:
            found = {}
            for record in of(records, arm, "confirm"):
                if record["status"] != "finished":
                    continue
                for point in record["curve"]:
                    number = (point.get(part) or {}).get(name)
                    if number is not None:
                        found.setdefault(point["step"], []).append(number)
            rows += [
                {
                    "arm": arm,
                    "part": part,
                    "step": step,
                    "median": float(np.median(numbers)),
                    "least": min(numbers),
                    "most": max(numbers),
                    "seeds": len(numbers),
                }
                for step, numbers in sorted(found.items())
            ]
    return rows


def layers(study, records) -> list[dict]:
    """Trust ratio, effective rate and relative update of each variable.

    Taken from the first confirmation run that recorded them, at 60 steps or
    fewer.

    Source: You et al. 2019, Figures 9 to 14, for the trust ratios.
    """
    rows = []
    for arm in study["arms"]:
        recorded = [
            record["diagnostics"]
            for record in of(records, arm, "confirm")
            if record.get("diagnostics")
        ]
        for found in recorded[:1]:
            rows += _layer_rows(arm, found)
    return rows


def _layer_rows(arm, found):
    count = len(found["steps"])
    kept = np.unique(
        np.linspace(0, count - 1, min(count, _MOST_STEPS)).round().astype(int)
    ).tolist()
    return [
        {
            "arm": arm,
            "variable": variable["path"],
            "step": found["steps"][number],
            **{name: variable[name][number] for name in QUANTITIES},
        }
        for variable in found["variables"]
        for number in kept
    ]


def layer_summary(layer_rows) -> list[dict]:
    """Over an arm's variables at a step: median, 10th and 90th percentile.

    Trust ratios and effective rates of a layer-wise arm are summarized over
    the variables that it adapts only.
    """
    adapted = {
        (row["arm"], row["variable"])
        for row in layer_rows
        if row["trust_ratio"] not in (None, 1.0)
    }
    adapting = {arm for arm, _ in adapted}
    found = {}
    for row in layer_rows:
        left_out = (
            row["arm"] in adapting
            and (row["arm"], row["variable"]) not in adapted
        )
        for name in QUANTITIES:
            if left_out and name != "relative_update":
                continue
            if row[name] is not None:
                key = row["arm"], name, row["step"]
                found.setdefault(key, []).append(row[name])
    rows = []
    for (arm, quantity, step), numbers in found.items():
        low, median, high = np.percentile(numbers, [10, 50, 90]).tolist()
        rows.append(
            {
                "arm": arm,
                "quantity": quantity,
                "step": step,
                "low": low,
                "median": median,
                "high": high,
            }
        )
    return rows


def step_sizes(study, summary_rows) -> list[dict]:
    """An arm's relative updates over the run: median, and spread over layers.

    The spread is the 90th over the 10th percentile over the variables; both
    are medians over the steps.
    """
    rows = []
    for arm in study["arms"]:
        own = [
            row
            for row in summary_rows
            if (row["arm"], row["quantity"]) == (arm, "relative_update")
            and row["low"] > 0
        ]
        if own:
            spreads = [row["high"] / row["low"] for row in own]
            rows.append(
                {
                    "arm": arm,
                    "median": float(np.median([r["median"] for r in own])),
                    "spread": float(np.median(spreads)),
                }
            )
    return rows


def audit(study) -> list[dict]:
    """What each arm's optimizer decays and adapts, one row per variable."""
    return [
        {
            "arm": name,
            "variable": row["variable"],
            "shape": "x".join(str(length) for length in row["shape"]),
            "decay": row["decay"],
            "adapt": row["adapt"],
            "rule": row["rule"],
        }
        for name, arm in study["arms"].items()
        for row in arm.get("audit") or []
    ]
