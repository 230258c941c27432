"""Final metrics of runs from anywhere, one file or folder a run.

Read are folders of `resnet.train`, `bert.pretrain` and `bert.squad`, files of
Keras's CSVLogger, scalars that TensorBoard exports as CSV, and logs of
modded-nanogpt, which print `val_loss:3.28` at steps; and of a table of runs or
of a chart that Weights & Biases exports as CSV, the runs whose names fit a
pattern. Pickles are not: reading one runs what it holds.
"""

import collections
import fnmatch
import glob
import os
import pathlib
import re
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

from lbcheck.programs import run_folder
from lbcheck.support import schema
from lbcheck.training import record
from lbcheck.verdict import run_tables
from lbcheck.verdict.run_tables import RunTable

_PREFIXES = {
    "test": ("test_", "test/"),
    "validation": (
        "validation_",
        "val_",
        "eval_",
        "val/",
        "validation/",
        "eval/",
    ),
    "training": ("train_", "training_", "train/", "training/", ""),
}
_TENSORBOARD = ["Wall time", "Step", "Value"]
_PRINTED = re.compile(
    r"(?:\bstep:(\d+)/(\d+)\s+)?\bval_loss:\s*"
    r"(nan|[-+]?inf|[-+]?[\d.]+(?:e[-+]?\d+)?)(?![\w.])",
    re.IGNORECASE,
)
_RANGES = ("__MIN", "__MAX")
"""What ends the columns that Weights & Biases puts beside a chart's."""
_NOT_MEASURED = ("", "NA")
_COUNTERS = {"epoch", "step", ""}
_STEPS_OF = "steps of phase {}"
_KINDS = (
    "a folder of lbcheck's programs, a CSV file of Keras's CSVLogger or of "
    "TensorBoard, or a log of modded-nanogpt"
)


def read(patterns: Sequence[str], metric: str | None = None) -> RunTable:
    """The final metrics of runs.

    Args:
        patterns: "arm=path" each; a path may be a pattern such as
            "runs/lars_*", and an arm may come several times. Of a file that
            holds several runs "arm=path:names", such as "wandb.csv:lars-*".
        metric: Its name, such as "accuracy"; with a prefix, such as
            "val_accuracy", test data are left alone. None: "val_loss" of
            logs, "metric" of TensorBoard's files, which name none.

    Raises:
        OSError: A file cannot be read.
        ValueError: An argument that is no such pair, matches nothing, or a
            run that is none or not finished; names it.
    """
    found: list[tuple[str, _Run]] = []
    arms: dict[tuple[pathlib.Path, str | None], str] = {}
    called = None
    for pattern in patterns:
        arm, _, where = pattern.partition("=")
        if not arm or not where:
            raise ValueError(
                "several files of runs are given as ARM=PATH, received "
                f"{schema.shown(pattern)}."
            )
        for run in _runs(arm, where, metric or called):
            path, name, called = run.path, run.name, run.metric or called
            key = path.resolve(), name
            if key in arms:
                which = "" if name is None else f": {schema.shown(name)}"
                raise ValueError(
                    f"{path}{which} comes twice, as a run of {arms[key]} and "
                    f"of {arm}."
                )
            arms[key] = arm
            found.append((arm, run))
    if called is None:
        raise ValueError(
            "name the metric by --metric; every run diverged, and says none."
        )
    runs = _by_part(found)
    run_tables.check_size("The runs", runs)
    run_tables.check_unit("The runs", runs, called)
    notes = []
    ended = [
        run for _, run in found if run.end and None not in run.metrics.values()
    ]
    units = sorted({run.unit for run in ended})
    for unit in units:
        ends = [run.end for run in ended if run.unit == unit]
        notes += run_tables.early(ends, unit)
    if {*map(_STEPS_OF.format, (1, 2))} <= {*units}:
        notes.append("Some runs end with phase 1, others with phase 2.")
    cut = [run.path for _, run in found if run.is_cut]
    if cut:
        notes.append(
            f"{cut[0]} {f'and {len(cut) - 1} more end' if cut[1:] else 'ends'} "
            "within a line. Where a file was cut short its last number may be, "
            "too."
        )
    return RunTable(runs, called, None, tuple(notes))


class _Run(NamedTuple):
    """One run.

    Attributes:
        path: Where it stands.
        name: Which of those that stand there; None: the only one.
        metrics: {part: final metric, None where it diverged}; empty of a run
            that diverged whatever the part.
        metric: Name of the metric; None: a run that diverged says none.
        end: Where it ends, if that tells whether it was stopped.
        unit: What that counts.
        is_cut: Whether the file ends within a line, which loggers end.
    """

    path: pathlib.Path
    name: str | None
    metrics: dict[str, float | None]
    metric: str | None
    end: float | None = None
    unit: str = "steps"
    is_cut: bool = False


def _by_part(found):
    """{part: {arm: metrics}} of the parts that all runs have."""
    parts = dict.fromkeys(part for _, run in found for part in run.metrics)
    runs = {}
    for part in parts or ("validation",):
        lacking = [r for _, r in found if r.metrics and part not in r.metrics]
        if lacking and part == "test":
            path, name, _, metric, *_ = lacking[0]
            which = f"{path}" if name is None else f"{path}: {name}"
            raise ValueError(
                f"{which} has no test {metric}, which other runs have."
            )
        if not lacking:  # else it says nothing on the others
            arms = runs.setdefault(part, {})
            for arm, run in found:
                arms.setdefault(arm, []).append(run.metrics.get(part))
    if not {"test", "validation"} & set(runs):
        raise ValueError(
            "the runs have a test or a validation metric in part only; "
            "expected one that all of them have."
        )
    return runs


def _runs(arm, where, metric):
    """Every `_Run` of an arm."""
    there = [where] if os.path.exists(where) else glob.glob(where)
    paths = sorted(map(pathlib.Path, there))
    paths = [path for path in paths if not _is_beside(path, paths)]
    file, colon, names = where.rpartition(":")
    if not paths and colon and pathlib.Path(file).is_file():
        path = pathlib.Path(file)
        found = list(_of_export(path, names, metric))
        if not found:
            raise ValueError(f"{arm}: no run of {path} is called {names}.")
        yield from (_Run(path, *run) for run in found)
        return
    if not paths:
        raise ValueError(f"{arm}: no file or folder matches {where}.")
    for path in paths:
        run = _run(path, metric)
        metric = metric or run.metric
        yield run


def _is_beside(path, paths):
    """Whether it is what a study keeps of a run, such as confirm-0.lock."""
    run = path.with_suffix("")
    return path.suffix in (".lock", ".log") and run in paths and run.is_dir()


def _of_export(path, names, metric):
    """(name, {part: final metric}, metric) of the runs of W&B's CSV files.

    A table has a row for each run and a column "Name"; a chart has a column
    "Step" and one for each run, called "name - metric".
    """
    rows = _rows(path)
    columns = list(rows[0][1])
    if "Name" in columns:
        yield from _of_table(rows, names, metric)
        return
    charted: dict[str, list[tuple[str, str]]] = {}
    for column in columns:
        name, dash, what = column.rpartition(" - ")
        if dash and not what.startswith("_") and not what.endswith(_RANGES):
            charted.setdefault(what, []).append((name, column))
    if "Step" not in columns or not charted:
        raise ValueError(
            f"{path}: is no table of runs and no chart of Weights & Biases."
        )
    what = _charted(path, list(charted), metric)
    part, base = _part(what)
    if part == "training":
        part = "validation"  # the one thing that there is
    last = {
        name: [row for row in rows if str(row[1][column]).strip()][-1:]
        for name, column in charted[what]
    }
    ends = {name: _step(*row[0]) for name, row in last.items() if row}
    for name, column in charted[what]:
        if not fnmatch.fnmatchcase(name, names):
            continue
        if not last[name]:
            yield name, {part: None}, base
            continue
        if ends[name] < run_tables.ENDS_ALIKE * max(ends.values()):
            raise ValueError(
                f"{path}: the run {schema.shown(name)} ends at step "
                f"{ends[name]:g}, another at {max(ends.values()):g}; a run "
                "that was stopped has no final metric."
            )
        value = run_tables.value(*last[name][0], column)
        yield name, {part: value}, base


def _of_table(rows, names, metric):
    """The runs of a table; of several with one name each has its line."""
    counts = collections.Counter(row["Name"] for _, row in rows)
    lines: dict[str, str] = {}
    for where, row in rows:
        name, state = row["Name"], row.get("State", "finished")
        if not fnmatch.fnmatchcase(name, names):
            continue
        if state != "finished":
            raise ValueError(
                f"{where}: the run {schema.shown(name)} is "
                f"{schema.shown(state)}, expected one that is finished."
            )
        line = where.rpartition(":")[2]
        first = lines.setdefault(repr(row), line)
        if first != line:
            raise ValueError(
                f"{where}: is the same as line {first}; leave out a run that "
                "is there twice, and export a column that tells two runs "
                "apart, such as Created."
            )
        found = _of_row(where, row, metric)
        if counts[name] > 1:
            name = f"{name}, line {line}"
        yield name, found, _part(metric)[1]


def _charted(path, there, metric):
    """Which of the metrics of a chart is meant."""
    wanted = [what for what in there if metric in (None, what, _part(what)[1])]
    if len(wanted) != 1:
        what = (
            "name one" if metric is None else f"has no {metric} alone, name it"
        )
        raise ValueError(
            f"{path}: {what} by --metric; the chart has "
            f"{', '.join(map(schema.shown, there))}."
        )
    return wanted[0]


def _part(name):
    """(part, metric) of a metric's name with a prefix."""
    for part, prefixes in _PREFIXES.items():
        for prefix in prefixes:
            if name.startswith(prefix):
                return part, name[len(prefix) :]
    raise AssertionError(name)


def _run(path, metric):
    """The run of a file or folder."""
    if path.is_dir():
        return _of_folder(path, metric)
    content = schema.read_bytes(path)
    if path.suffix in (".pkl", ".pickle") or content[:1] == b"\x80":
        raise ValueError(
            f"{path}: is a pickle, and reading one runs what it holds; "
            f"expected {_KINDS}."
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: is no UTF-8 text; expected {_KINDS}."
        ) from error
    names = run_tables.header(path, text)
    is_cut = not text.endswith(("\n", "\r"))
    if names == _TENSORBOARD:
        # Of a step that comes again after a restart the later row counts.
        rows = _rows(path)[::-1]
        where, last = max(rows, key=lambda row: _step(*row))
        value = run_tables.value(where, last, "Value")
        end = _step(where, last)
        name = metric or "metric"
        found = {"validation": value}
        return _Run(path, None, found, name, end, is_cut=is_cut)
    if "epoch" in names:
        rows = _rows(path)
        where, last = rows[-1][0], _last_values(rows)
        found = _of_row(where, last, metric)
        name, end = _part(metric)[1], _number(where, last, "epoch") + 1
        return _Run(path, None, found, name, end, "epochs", is_cut)
    printed = _PRINTED.findall(text)
    if not printed:
        raise ValueError(f"{path}: is no run; expected {_KINDS}.")
    step, steps, last = printed[-1]
    if step != steps:
        raise ValueError(
            f"{path}: ends at step {step} of {steps}; a run that was stopped "
            "has no final metric."
        )
    name = metric or "val_loss"
    if name not in ("val_loss", "loss"):
        raise ValueError(
            f"{path}: has no {name}, only val_loss; leave --metric out."
        )
    where = f"{path}: val_loss"
    found = run_tables.value(where, {"val_loss": last}, "val_loss")
    return _Run(path, None, {"validation": found}, name)


def _rows(path):
    rows = run_tables.rows_of(path)
    if not rows:
        raise ValueError(f"{path}: has no row.")
    return rows


def _step(where, row):
    return _number(where, row, "Step")


def _number(where, row, column):
    found = run_tables.value(where, row, column)
    if found is None:
        raise ValueError(f"{where}: {column} must be a number.")
    return found


def _is_measured(cell):
    """Whether a row has a value: some have training or validation alone."""
    return cell is not None and str(cell).strip() not in _NOT_MEASURED


def _last_values(rows):
    """{column: its last value} of a run that is several rows.

    What all rows but the last have, and it has not though it is no row of
    other columns, is nan there: so pandas writes it.
    """
    found, counts = {}, collections.Counter()
    for _, row in rows:
        measured = {c: cell for c, cell in row.items() if _is_measured(cell)}
        found |= measured
        counts.update(measured.keys())
    last = rows[-1][1].keys() - _COUNTERS
    there = last & measured.keys()
    if there and not any(counts[column] == len(rows) for column in there):
        return found
    lost = [c for c in last - there if counts[c] == len(rows) - 1 > 1]
    return found | dict.fromkeys(lost, "nan")


def _of_folder(path, metric):
    """A run of lbcheck's own programs; its last phase, if it has any."""
    folder = record.phases(path)[-1]
    if not (folder / record.STATUS).exists():
        raise ValueError(f"{folder}: has no status.json; expected {_KINDS}.")
    ended = record.read(folder)
    status, base = ended.status["status"], metric and _part(metric)[1]
    if status == "diverged":
        return _Run(folder, None, {}, base)
    if status != "finished":
        raise ValueError(
            f"{folder}: is {schema.shown(status)}, expected a run that is "
            "finished or diverged."
        )
    last, scores = ended.final(), path / run_folder.SCORES
    row = schema.read(scores, dict[str, Any]) if scores.exists() else {}
    if metric in row:
        value = run_tables.value(f"{scores}", row, metric)
        found, base = {"validation": value}, metric
    else:
        found = _of_row(f"{folder}", last, metric)
    unit = "steps"
    if folder != path:
        unit = _STEPS_OF.format(folder.name.removeprefix("phase"))
    return _Run(folder, None, found, base, last["step"], unit)


def _of_row(where, row, metric):
    """All parts of a row that has the metric with and without a prefix.

    With a prefix it is of that part. A run whose loss is not finite has
    diverged, whatever a metric of it makes of the network's nan.
    """
    row = {column: cell for column, cell in row.items() if _is_measured(cell)}
    if metric is None:
        raise ValueError(
            f"{where}: name the metric by --metric; it has "
            f"{', '.join(map(schema.shown, row))}."
        )
    named, base = _part(metric)
    is_named = base != metric
    if is_named and named == "training":
        raise ValueError(
            f"--metric={metric} is of training data, which are not judged; "
            f"expected {base}, or val_{base}."
        )
    wanted = (named, "training") if is_named else _PREFIXES
    found = {}
    for part in wanted:
        for prefix in _PREFIXES[part]:
            if prefix + base in row and part not in found:
                found[part] = run_tables.value(where, row, prefix + base)
    if not {"test", "validation"} & set(found):
        which = named if is_named else "test or validation"
        raise ValueError(
            f"{where}: has no {which} {schema.shown(base)}; it has values "
            f"of {', '.join(map(schema.shown, row))}."
        )
    losses = (f"{p}loss" for part in wanted for p in _PREFIXES[part])
    if any(run_tables.is_not_finite(row.get(loss)) for loss in losses):
        return dict.fromkeys(found)
    return found
