"""Every number of the report, as tables: what results.json and .csv hold."""

import csv
import io
import json
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import lbcheck
from lbcheck.report.rows import budget
from lbcheck.report.rows import runs
from lbcheck.report.rows import search
from lbcheck.study import protocol
from lbcheck.study.formats import parts_of
from lbcheck.study.study_folder import Folder

_FACTS = (
    "name",
    "lbcheck",
    "workload",
    "facts",
    "batch_size",
    "steps",
    "seed",
    "metric",
    "selection",
    "margin",
    "target",
    "trials",
    "refined_trials",
    "challenge_trials",
    "searches",
    "control_batch_size",
    "seeds",
    "environment",
)
_TABLES = (
    "arms",
    "pairs",
    "differences",
    "optimism",
    "control",
    "searches",
    "best_points",
    "boxes",
    "seeds",
    "search_shares",
    "best_so_far",
    "targets",
    "rates",
    "bins",
    "schedules",
    "findings",
    "curves",
    "layers",
    "layer_summary",
    "step_sizes",
    "audit",
    "spaces",
    "budget",
    "failures",
    "trials",
)
_KEYS = (
    "table",
    "arm",
    "other_arm",
    "part",
    "stage",
    "index",
    "seed",
    "step",
    "variable",
    "parameter",
    "quantity",
    "trials",
    "bin",
)


def collect(folder: Folder) -> dict[str, Any]:
    """The verdict and every table of the report.

    Args:
        folder: What `study_folder.load` returned.

    Returns:
        {"format", "study": settings and facts, "finished", "verdict": None
        while trials are missing, "tables": {name: flat rows}}, JSON-able.
    """
    from lbcheck import verdict

    study, records, _ = folder
    finished = verdict.is_finished(*folder)
    judged = verdict.judged(study, records).records
    decided = verdict.decide(*folder).to_dict() if finished else {}
    arms, pairs = decided.pop("arms", []), decided.pop("pairs", [])
    control = decided.pop("control", None)
    searched = runs.searches(folder)
    seeds = runs.seeds(study, judged)
    if searched:
        seeds = [
            {
                "seed" if key == "search" else key: entry
                for key, entry in r.items()
            }
            for r in searched
        ]
    tried = protocol.trials(study, records)
    rates = search.rates(study, tried)
    layers = runs.layers(study, judged)
    summary = runs.layer_summary(layers)
    schedules, findings = runs.schedules(study, judged)
    facts = {key: study.get(key) for key in _FACTS}
    facts["parts"] = list(parts_of(study))
    facts["arms"] = {
        name: {key: arm[key] for key in ("optimizer", "layer_wise", "schedule")}
        | {"side": verdict.side(study, name)}
        for name, arm in study["arms"].items()
    }
    shares = _shares(decided.pop("search_shares", []))
    return {
        "format": 1,
        "study": facts,
        "finished": finished,
        "verdict": decided or None,
        "tables": {
            "arms": arms,
            "pairs": pairs,
            "differences": search.differences(
                pairs, facts["parts"][0], search.scores(study, judged)
            ),
            "optimism": search.optimism(study, judged, records),
            "control": [control] if control else [],
            "searches": searched,
            "best_points": runs.best_points(study, judged),
            "boxes": runs.boxes(seeds),
            "seeds": seeds,
            "search_shares": shares,
            "best_so_far": search.best_so_far(study, tried),
            "targets": search.targets(study, tried),
            "rates": rates,
            "bins": search.bins(study, rates),
            "schedules": schedules,
            "findings": findings,
            "curves": runs.curves(study, judged),
            "layers": layers,
            "layer_summary": summary,
            "step_sizes": runs.step_sizes(study, summary),
            "audit": runs.audit(study),
            "spaces": budget.spaces(study),
            "budget": budget.budget(folder),
            "failures": budget.failures(records),
            "trials": search.trials(study, records),
        },
    }


def _shares(found):
    return [
        {"trials": trials, "share": share}
        for trials, share in enumerate(found, 1)
    ]


def of_runs(
    decided: Any,
    values: Mapping[str, Mapping[str, Sequence[float | None]]],
    metric: str,
    mode: str,
    margin: float | None,
    target: float | None,
) -> dict[str, Any]:
    """As `collect`, of runs that no study made: most tables have no row.

    Args:
        decided: The `Verdict` on them.
        values: {part: {arm: metric of each run, None where it diverged}}; the
            first part is judged.
        metric: Its name, and so mode, margin and target as they were judged.
    """
    found = decided.to_dict()
    arms, pairs = found.pop("arms"), found.pop("pairs")
    sides = {row["arm"]: row["side"] for row in arms}
    seeds = [
        {"arm": arm, "part": part, "seed": number, "metric": value}
        for part, runs_of in values.items()
        for arm, run in runs_of.items()
        for number, value in enumerate(run)
    ]
    facts = dict.fromkeys(_FACTS) | {
        "name": "Runs of any origin",
        "lbcheck": lbcheck.__version__,
        "metric": {"name": metric, "mode": mode},
        "margin": margin,
        "target": target,
        "parts": list(values),
        "arms": {arm: {"side": side} for arm, side in sides.items()},
    }
    tables = {
        "arms": arms,
        "pairs": pairs,
        "boxes": runs.boxes(seeds),
        "seeds": seeds,
        "differences": search.differences(pairs, facts["parts"][0], {}),
        "search_shares": _shares(found.pop("search_shares")),
    }
    return {
        "format": 1,
        "study": facts,
        "finished": True,
        "verdict": found,
        "tables": {name: tables.get(name, []) for name in _TABLES},
    }


def summary(results: dict[str, Any], report_path) -> dict[str, Any]:
    """What a command prints of the results as JSON.

    Args:
        results: As `collect` returns them.
        report_path: The page.
    """
    from lbcheck.report import page

    keys = ("answer", "doubt", "more_seeds", "search_share", "challenge")
    verdict = results["verdict"] or dict.fromkeys(keys)
    return {
        "finished": results["finished"],
        **{key: verdict[key] for key in keys},
        "sentence": page.sentence(results),
        "arms": results["tables"]["arms"],
        "best_points": results["tables"]["best_points"],
        "budget": results["tables"]["budget"],
        "report": str(report_path),
    }


def to_json(results: dict[str, Any]) -> str:
    """The results as JSON, with one row of a table per line."""
    entries = [
        f" {json.dumps(key)}: {json.dumps(entry, allow_nan=False)}"
        for key, entry in results.items()
        if key != "tables"
    ]
    tables = [
        f"  {json.dumps(name)}: [\n"
        + ",\n".join(f"   {json.dumps(row, allow_nan=False)}" for row in rows)
        + "\n  ]"
        for name, rows in results["tables"].items()
    ]
    entries.append(' "tables": {\n' + ",\n".join(tables) + "\n }")
    return "{\n" + ",\n".join(entries) + "\n}\n"


def to_csv(results: dict[str, Any]) -> str:
    """The same tables as one long CSV: keys, then a name and its value."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*_KEYS, "name", "value"])
    for table, rows in results["tables"].items():
        for row in rows:
            keys = [table, *(_cell(row.get(key, "")) for key in _KEYS[1:])]
            writer.writerows(
                [*keys, _cell(name), _cell(value)]
                for name, value in row.items()
                if name not in _KEYS and value is not None
            )
    return file.getvalue()


def _cell(value):
    """The value; a text that a spreadsheet would compute is quoted."""
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t")):
        return f"'{value}"
    return value
