"""Where the numbers of a figure are read: studies, and folders of runs.

Files are data: nothing that they name is imported, called or made.
"""

import collections
import pathlib
import re
from typing import Annotated
from typing import NamedTuple
from typing import TypedDict

import numpy as np
from msgspec import Meta

from lbcheck.report.rows import runs as rows
from lbcheck.study import study_folder
from lbcheck.support import event_file
from lbcheck.support import schema
from lbcheck.training import record

_PHASE = re.compile(r"phase\d+")
_EVENTS = "events.out.tfevents.*"
_TRUST_RATIO = "trust_ratio/"


class Curve(NamedTuple):
    """A metric over the updates of a run, or its median over runs.

    Attributes:
        steps: Updates.
        values: The metric after each.
        status: "finished", or what the run or its first unfinished phase is.
    """

    steps: list[int]
    values: list[float]
    status: str = "finished"


def study(path) -> study_folder.Folder:
    """A study's folder.

    Raises:
        ValueError: It is none; names the file and what is wrong.
    """
    return study_folder.load(path)


def is_study(path) -> bool:
    """Whether a folder is a study's."""
    return (pathlib.Path(path) / study_folder.STUDY).exists()


class _Start(TypedDict):
    commit: str


class _Run(TypedDict):
    starts: Annotated[list[_Start], Meta(min_length=1)]


def commit(path) -> str:
    """The commit that a study, or the first of the runs below, was made at."""
    if is_study(path):
        return study_folder.read(path)["environment"]["commit"]
    first = below(path, record.RUN)[0]
    return schema.read(first / record.RUN, _Run)["starts"][0]["commit"]


def below(path, name: str) -> list[pathlib.Path]:
    """The folders at or below a path that hold a file of that name.

    Raises:
        ValueError: There is no such path.
    """
    root = pathlib.Path(path)
    if not root.is_dir():
        raise ValueError(f"{root}: no such folder; expected one of records.")
    return sorted((file.parent for file in root.rglob(name)), key=_natural)


def _natural(path):
    """Orders 512 before 1024."""
    parts = re.split(r"(\d+)", str(path))
    return [int(p) if p.isdigit() else p for p in parts]


def labels(root, folders) -> list[str]:
    """What tells each folder's path from those of the others."""
    parts = [folder.relative_to(root).parts for folder in folders]
    common = set.intersection(*map(set, parts)) if len(parts) > 1 else set()
    short = [
        "/".join(part for part in own if part not in common)
        or folder.resolve().name
        for own, folder in zip(parts, folders)
    ]
    if len(set(short)) < len(short):
        return ["/".join(own) for own in parts]
    return short


def curves(
    path, part: str, metric: str, beside: str | None = None
) -> dict[str, Curve]:
    """{arm or run: its curve} of a study or of folders of runs.

    Phases of a run, phase1 and so on, are one after another. Of a study the
    medians over the confirming runs are taken.

    Args:
        path: Of a study, or a folder that has runs at or below it.
        part: "training" or "validation".
        metric: Such as "loss".
        beside: What a run must measure as well to count; fine-tuning has no
            masked_lm_loss beside its loss.

    Raises:
        ValueError: There is no such curve; says where it was looked for.
    """
    if is_study(path):
        found = _study_curves(path, part, metric)
    else:
        found = _run_curves(path, part, metric, beside)
    if not found:
        raise ValueError(
            f"{path}: no curve of the {part} {metric} in it; expected a study "
            "with confirming runs, or folders of runs that measure it."
        )
    return found


def _study_curves(path, part, metric):
    described, records, _ = study(path)
    named = described | {"metric": {"name": metric, "mode": "max"}}
    found: dict[str, Curve] = {}
    for row in rows.curves(named, records):
        if row["part"] == part:
            curve = found.setdefault(row["arm"], Curve([], []))
            curve.steps.append(row["step"])
            curve.values.append(row["median"])
    return found


def diverged(path) -> dict[str, tuple[int, int]]:
    """{arm: confirming runs that diverged, and of how many}, where any did."""
    if not is_study(path):
        return {}
    confirmed = [r for r in study(path).records if r["stage"] == "confirm"]
    runs = collections.Counter(r["arm"] for r in confirmed)
    lost = collections.Counter(
        r["arm"] for r in confirmed if r["status"] != "finished"
    )
    return {arm: (count, runs[arm]) for arm, count in lost.items()}


def _run_curves(path, part, metric, beside):
    name = metric if part == "training" else f"{part}_{metric}"
    names = [name] if beside is None else [name, beside]
    phases: dict[pathlib.Path, list[pathlib.Path]] = {}
    for folder in below(path, record.STATUS):
        run = folder.parent if _PHASE.fullmatch(folder.name) else folder
        phases.setdefault(run, []).append(folder)
    found = {
        run: curve
        for run, folders in phases.items()
        if (curve := _joined(folders, names)).steps
    }
    return dict(zip(labels(path, found), found.values()))


def _joined(folders, names):
    """The curve of a run whose phases follow one another: the first name's.

    Lines that lack any of the names are left out.
    """
    curve, before = Curve([], []), 0
    for folder in folders:
        ended = record.read(folder)
        if curve.status == "finished":
            curve = curve._replace(status=ended.status["status"])
        lines = ended.measurements
        for line in lines:
            numbers = [line.get(name) for name in names]
            if all(isinstance(number, (int, float)) for number in numbers):
                curve.steps.append(before + line["step"])
                curve.values.append(float(numbers[0]))
        before += lines[-1]["step"] if lines else 0
    return curve


class Ratios(NamedTuple):
    """Trust ratios of the variables that are adapted.

    Attributes:
        variables: Their names, in the model's order.
        steps: Those recorded.
        values: One row a step, one number a variable; nan where there is none.
    """

    variables: list[str]
    steps: list[int]
    values: np.ndarray


def trust_ratios(path) -> dict[str, Ratios]:
    """{arm or run: its trust ratios}, of those that have any.

    Args:
        path: Of a study whose records have diagnostics, or a folder with runs
            of a program with --diagnostics_every, whose event files are read.

    Raises:
        ValueError: There are none, or event files are to be read without
            tensorboard.
    """
    layers = _of_study(path) if is_study(path) else []
    # A study of a program leaves them in the event files of its runs.
    layers = layers or _of_event_files(path)
    by_run: dict[str, list] = {}
    for run, *entry in layers:
        by_run.setdefault(run, []).append(entry)
    found = {run: _adapted(entries) for run, entries in by_run.items()}
    found = {run: one for run, one in found.items() if one.variables}
    if not found:
        raise ValueError(
            f"{path}: no trust ratios in it; expected a study of LARS or LAMB, "
            "or a run with --optimizer=lamb --diagnostics_every=100."
        )
    return found


def _adapted(entries):
    """Of (variable, step, ratio); a ratio of 1 throughout is no adaptation."""
    by_variable: dict[str, dict[int, float]] = {}
    for variable, step, ratio in entries:
        number = np.nan if ratio is None else float(ratio)
        by_variable.setdefault(variable, {})[step] = number
    kept = {
        variable: ratios
        for variable, ratios in by_variable.items()
        if any(n != 1.0 and not np.isnan(n) for n in ratios.values())
    }
    steps = sorted({step for ratios in kept.values() for step in ratios})
    values = [[r.get(step, np.nan) for r in kept.values()] for step in steps]
    return Ratios(list(kept), steps, np.array(values))


def _of_study(path):
    """(arm, variable, step, ratio) of the records of a study."""
    described, records, _ = study(path)
    return [
        (row["arm"], row["variable"], row["step"], row["trust_ratio"])
        for row in rows.layers(described, records)
    ]


def _of_event_files(path):
    """(run, variable, step, ratio) of the event files below a path."""
    folders = list(dict.fromkeys(below(path, _EVENTS)))
    return [
        (label, name.removeprefix(_TRUST_RATIO), step, value)
        for label, folder in zip(labels(path, folders), folders)
        for file in sorted(folder.glob(_EVENTS))
        for step, name, value in event_file.scalars(file)
        if name.startswith(_TRUST_RATIO)
    ]
