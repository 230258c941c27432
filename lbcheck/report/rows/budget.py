"""Tables of what a study spent: budget, search spaces, failures."""

import math

from lbcheck.report.rows.search import of
from lbcheck.study import companions
from lbcheck.study import protocol

CONTROL_STAGE = "control"


def budget(folder) -> list[dict]:
    """What each arm and stage spent; feasible trials counted apart.

    Several searches are counted together, a control is a stage of its arm. A
    challenge and replacements are not planned: they run what the answers and
    the trials so far ask for.
    """
    study, records, beside = folder
    names = companions.searches(study)
    for name in names:
        records = records + (beside[name].records if name in beside else [])
    planned = {
        "broad": study["trials"] * protocol.runs_of_a_trial(study),
        "replacement": 0,
        "refined": study["refined_trials"],
        "challenge": 0,
        "confirm": study["seeds"],
    }
    rows = []
    for arm in study["arms"]:
        for stage, number in planned.items():
            found = of(records, arm, stage)
            number *= 1 + len(names)
            if number or found:
                rows.append(_spent(arm, stage, number or len(found), found))
    control = beside.get(companions.CONTROL)
    if control is not None:
        (arm,) = control.study["arms"]
        number = sum(planned.values())
        rows.append(_spent(arm, CONTROL_STAGE, number, control.records))
    return rows


def _spent(arm, stage, planned, found):
    return {
        "arm": arm,
        "stage": stage,
        "planned": planned,
        "total": len(found),
        "feasible": sum(r["status"] == "finished" for r in found),
        "steps": sum(r["steps"] for r in found),
        "examples": sum(r["examples"] for r in found),
        "seconds": math.fsum(r["seconds"] for r in found),
    }


def spaces(study) -> list[dict]:
    """What each arm searched, one row per hyperparameter."""
    from lbcheck.search.space import Space

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
        for parameter, fixed in arm["fixed"].items():
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
    return "decades" if spec.get("scale") == "log" else ""


def _range(spec):
    if "min" in spec:
        text = f"[{_text(spec['min'])}, {_text(spec['max'])}]"
        if "count" in spec:
            text = f"{spec['count']} values of {text}"
    elif "values" in spec:
        text = "{" + ", ".join(_text(v) for v in spec["values"]) + "}"
    else:
        text = _text(spec["value"])
    return f"{text} / {spec['per']}" if "per" in spec else text


def _text(value):
    return f"{value:g}" if isinstance(value, float) else str(value)


def failures(records) -> list[dict]:
    """Every trial that diverged: where, and with which hyperparameters."""
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
