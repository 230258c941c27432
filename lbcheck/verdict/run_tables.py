"""Final metrics of runs from anywhere, read from a table of one run a row."""

import csv
import io
import itertools
import json
import math
import pathlib
import re
import statistics
from typing import Any
from typing import NamedTuple

from lbcheck.study import formats
from lbcheck.support import checks
from lbcheck.support import metric_names
from lbcheck.support import schema

_KEYS = ("arm", "seed", "part", "step", "trial")
ENDS_ALIKE = 0.9
"""Part of the longest run that a run has, unless it was stopped."""
_NEAR = 0.15
_NO_TRIAL = ("", "none", "null", "nan")
_DIVERGED = ("none", "null", "nan", "inf", "-inf", "diverged")


class RunTable(NamedTuple):
    """What a table holds.

    Attributes:
        runs: {part: {arm: one metric per seed, None where it diverged}}.
        metric: Name of the column.
        searched: {arm: one metric per search trial, the median over its
            seeds}, where the table has them.
        notes: What a reader must know of the runs.
    """

    runs: dict[str, dict[str, list[float | None]]]
    metric: str
    searched: dict[str, list[float | None]] | None = None
    notes: tuple[str, ...] = ()


def read(path, metric: str | None = None) -> RunTable:
    """The runs of a CSV file, or of a file with one JSON object a line.

    Columns are `arm`, `seed`, the metric, and if there are, `part`
    ("validation", which it is without, "training", or "test", which is then
    judged), `step`: of the rows of one run the last step counts, and `trial`:
    where it is not empty, the run is one of a search, which is not judged; of
    a trial with several seeds the median counts, if none diverged. A metric
    that is empty, null, nan or "diverged" is of a run that diverged; one that
    is empty at the last step alone is refused, since it may not have been
    measured there. Others are left alone.

    Args:
        path: The file.
        metric: Column of the metric; None: "metric", or the only column left.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no such table; names the line, what was received
            and what was expected.
    """
    path = pathlib.Path(path)
    rows = rows_of(path)
    if not rows:
        raise ValueError(f"{path}: has no row.")
    names = list(rows[0][1])
    metric = _metric(path, names, metric)
    last = _last_steps(rows, metric)
    runs: dict[str, dict[str, list[float | None]]] = {}
    trials: dict[str, dict[str, list[float | None]]] = {}
    for (part, arm, _, trial), (_, found, _) in last.items():
        if trial is None:
            runs.setdefault(part, {}).setdefault(arm, []).append(found)
        else:
            seeds = trials.setdefault(arm, {}).setdefault(trial, [])
            seeds.append(found)
    searched = {
        arm: [_median(seeds) for seeds in own.values()]
        for arm, own in trials.items()
    }
    check_size(path, runs)
    check_size(path, {"validation": searched}, formats.MOST_POINTS)
    check_unit(path, runs, metric)
    if not {"validation", "test"} & set(runs):
        raise ValueError(
            f"{path}: has no run of part 'validation' or 'test' without a "
            "trial, which could be judged."
        )
    notes = _early(last) if "step" in names else ()
    return RunTable(runs, metric, searched or None, notes)


def _early(last):
    """As `early`; each part may be measured at steps of its own."""
    ends: dict[str, list[float]] = {}
    for (part, _, _, trial), (end, found, _) in last.items():
        if trial is None and found is not None:
            ends.setdefault(part, []).append(end)
    notes = (early(own, "steps") for own in ends.values())
    return tuple(dict.fromkeys(itertools.chain(*notes)))


def _last_steps(rows, metric):
    """{(part, arm, seed, trial): (last step, its metric, where it stands)}."""
    last: dict[tuple, tuple] = {}
    measured, empty = set(), set()
    for where, row in rows:
        part, arm = _part(where, row), _text(where, row, "arm")
        seed, trial = _label(where, row, "seed"), None
        # Runs that are judged have none: pandas and json write nan for it.
        if str(row.get("trial", "")).strip().lower() not in _NO_TRIAL:
            trial = _label(where, row, "trial")
        if trial is not None and part != "validation":
            raise ValueError(
                f"{where}: a trial of a search counts by its validation "
                f"metric, received one of part {part!r}."
            )
        run = part, arm, seed, trial
        step = _step(where, row)
        before = last.get(run)
        if before and step == before[0]:
            again, expected = "", "one row a run, or a column `step`"
            if row.get("step") is not None:
                again, expected = f" with step {step:g}", "each step once"
            raise ValueError(
                f"{where}: the run of arm {schema.shown(arm)}, seed "
                f"{schema.printable(seed)}, {part} stands in {before[2]} as "
                f"well{again}; expected {expected}."
            )
        found = value(where, row, metric)
        if found is not None:
            measured.add(run)
        if before is None or step > before[0]:
            last[run] = step, found, where
            empty.discard(run)
            if _is_empty(row[metric]):
                empty.add(run)
    for run in last:
        # So a logger says "not measured here", and pandas "nan".
        if run in measured and run in empty:
            raise ValueError(
                f"{last[run][2]}: the run's last step has no "
                f"{schema.shown(metric)}, and an earlier one has; write nan "
                "where it diverged, else leave the row out."
            )
    return last


def _median(seeds):
    """What a search trial counts, as in a study: one that diverged is none."""
    return None if None in seeds else statistics.median(seeds)


def early(ends, unit: str) -> tuple[str, ...]:
    """What a reader must know of runs that end early, if any do.

    Args:
        ends: Where each run ends.
        unit: What that counts.
    """
    least, most = min(ends), max(ends)
    if least >= ENDS_ALIKE * most:
        return ()
    return (
        f"The runs end after {least:g} to {most:g} {unit}. One that was "
        "stopped early has no final metric; here its last one counts.",
    )


def check_unit(path, runs, metric) -> None:
    """Refuses fractions beside per cent, also on another part.

    A value counts as a fraction if others are per cent and a hundred times it
    is near their median; a run at chance level is not.

    Args:
        path, runs: As for `check_size`.
        metric: Its name.
    """
    _check_printable(path, "the metric's name", metric)
    if not metric_names.is_part(metric):
        return
    for arms in runs.values():
        found = [(a, v) for a, vs in arms.items() for v in vs if v is not None]
        large = [v for _, v in found if 1.5 < v <= 100]
        if not large or max(v for _, v in found) > 100:
            continue
        middle = statistics.median(large)
        for arm, value in found:
            if 0 < value < 1 and abs(100 * value - middle) <= _NEAR * middle:
                raise ValueError(
                    f"{path}: {schema.shown(metric)} of arm "
                    f"{schema.shown(arm)} is {value:g}, and others are about "
                    f"{middle:g}; give all as fractions, or all as per cent."
                )
    known = {
        part: numbers
        for part, arms in runs.items()
        if (numbers := [v for vs in arms.values() for v in vs if v is not None])
    }
    for part, other in itertools.permutations(known, 2):
        most, middle = max(known[part]), statistics.median(known[other])
        if 0 < most <= 1 and 1.5 < middle and max(known[other]) <= 100:
            raise ValueError(
                f"{path}: {schema.shown(metric)} is at most {most:g} on "
                f"{part}, and about {middle:g} on {other}; give both as "
                "fractions, or both as per cent."
            )


def check_target(runs, metric: str, target: float | None) -> None:
    """Refuses a target as a fraction of runs in per cent, or the reverse.

    Args:
        runs: As for `check_size`.
        metric: Its name.
        target: The target.
    """
    if target is None or not metric_names.is_part(metric):
        return
    found = [
        v
        for arms in runs.values()
        for vs in arms.values()
        for v in vs
        if v is not None
    ]
    least, most = min(found, default=0), max(found, default=0)
    if (target > 1.5 and 0 < most <= 1) or (0 < target < 1 and least > 1.5):
        raise ValueError(
            f"--target={target:g}: {schema.shown(metric)} is {least:g} to "
            f"{most:g}; give both as fractions, or both as per cent."
        )


def check_size(path, runs, most: int = formats.MOST_SEEDS) -> None:
    """Refuses too many arms or runs: every one is compared with every other.

    Args:
        path: Where they are from, for messages.
        runs: {part: {arm: values}}.
        most: Runs of an arm.
    """
    for arms in runs.values():
        if len(arms) > formats.MOST_ARMS:
            raise ValueError(
                f"{path}: has {len(arms):,} arms, expected at most "
                f"{formats.MOST_ARMS}; is `arm` the right column?"
            )
        for arm, values in arms.items():
            _check_printable(path, "an arm's name", arm)
            if len(values) > most:
                raise ValueError(
                    f"{path}: arm {schema.shown(arm)} has {len(values):,} "
                    f"runs, expected at most {most:,}."
                )


def _check_printable(path, what, name):
    if not name.isprintable():
        raise ValueError(
            f"{path}: {what} has control characters: {schema.shown(name)}."
        )


def rows_of(path: pathlib.Path) -> list[tuple[str, dict[str, Any]]]:
    """[("file:line", {column: cell})] of a table, CSV or JSON objects.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no such table, or a line has other columns.
    """
    content = schema.read_bytes(path)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise ValueError(
            f"{path}: is no UTF-8 text; expected CSV, or a JSON object a line."
        )
    if text.lstrip().startswith("{"):
        return [
            (where, _object(where, line)) for where, line in _lines(path, text)
        ]
    if text.lstrip().startswith("["):
        raise ValueError(
            f"{path}: is a JSON list; expected CSV, or a JSON object a line."
        )
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        lines = (cells for cells in reader if any(map(str.strip, cells)))
        names = [name.strip() for name in next(lines, [])]
        _check_commas(path, names)
        found = []
        for cells in lines:
            where = f"{path}:{reader.line_num}"
            if len(cells) != len(names):
                raise ValueError(
                    f"{where}: has {len(cells)} cells, expected "
                    f"{len(names)}, as many as the first line names."
                )
            found.append((where, dict(zip(names, cells))))
    except csv.Error as error:
        raise ValueError(f"{path}:{reader.line_num}: {error}.") from error
    if len(set(names)) < len(names):
        raise ValueError(f"{path}:1: a column's name comes twice.")
    return found


def header(path: pathlib.Path, text: str) -> list[str]:
    """Names in the first line of a CSV file; [] of other text."""
    try:
        cells = next(csv.reader(io.StringIO(text, newline="")), [])
    except csv.Error:
        return []
    names = [name.strip() for name in cells]
    if "epoch" in re.split("[;\t]", names[0] if len(names) == 1 else ""):
        _check_commas(path, names)
    return names


def _check_commas(path, names):
    mark = re.search("[;\t]", names[0]) if len(names) == 1 else None
    if mark:
        raise ValueError(
            f"{path}:1: the columns are separated by {mark.group()!r}; "
            "expected commas, and decimal points."
        )


def _object(where, line):
    """A line of JSON; Python's NaN and Infinity are numbers of it, too."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: no JSON: {error}.") from error
    if not isinstance(found, dict):
        raise ValueError(f"{where}: expected a JSON object.")
    return found


def _lines(path, text):
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield f"{path}:{number}", line


def _metric(path, names, metric):
    for name in ("arm", "seed"):
        if name not in names:
            raise ValueError(
                f"{path}: has no column {name!r}; it has {_listed(names)}."
            )
    rest = [n for n in names if n not in _KEYS]
    if metric is None:
        metric = "metric" if "metric" in rest or len(rest) != 1 else rest[0]
    if metric not in rest:
        raise ValueError(
            f"{path}: has no metric {schema.shown(metric)}; name one of its "
            f"columns by --metric: {_listed(rest)}."
        )
    return metric


def _listed(names):
    return ", ".join(map(schema.shown, names[:12])) or "no other"


def _text(where, row, column):
    text = str(row.get(column, "")).strip()
    if not text or row[column] is None:
        raise ValueError(f"{where}: expected the {column}, received nothing.")
    return text


def _label(where, row, column):
    """A seed or trial, of which 1, 01 and 1.0 are one."""
    text = _text(where, row, column)
    if re.fullmatch(r"\d+(\.0*)?", text):
        return text.partition(".")[0].lstrip("0") or "0"
    return text


def _part(where, row):
    part = str(row.get("part", "validation")).strip()
    if part not in formats.ALL_PARTS:
        raise ValueError(
            f"{where}: part must be one of {', '.join(formats.ALL_PARTS)}, "
            f"received {schema.shown(part)}."
        )
    return part


def _step(where, row):
    if row.get("step") is None:
        return 0.0
    step = _number(where, row["step"], "step")
    if not math.isfinite(step):
        raise ValueError(f"{where}: step must be a number, received {step}.")
    return step


def value(where: str, row: dict[str, Any], metric: str) -> float | None:
    """A run's metric; None where it diverged.

    Raises:
        ValueError: The row has none, or it is no number.
    """
    if metric not in row:
        raise ValueError(f"{where}: has no {schema.shown(metric)}.")
    cell = row[metric]
    if _is_empty(cell) or str(cell).strip().lower() in _DIVERGED:
        return None
    found = _number(where, cell, metric)
    is_sound = math.isfinite(found) and abs(found) <= schema.LARGEST_METRIC
    return found if is_sound else None


def _is_empty(cell):
    return cell is None or not str(cell).strip()


def is_not_finite(cell) -> bool:
    """Whether a cell is a number that is none: nan, or infinite."""
    try:
        return not math.isfinite(float(cell))
    except (TypeError, ValueError):
        return False


def _number(where, cell, column):
    try:
        if isinstance(cell, str) and "_" not in cell:
            return float(cell)
        if checks.is_number(cell, (int, float)):
            return float(cell)
    except (ValueError, OverflowError):
        pass
    raise ValueError(
        f"{where}: {schema.shown(column)} must be a number, received "
        f"{schema.shown(cell)}."
    )
