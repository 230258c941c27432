"""Logs of learning rates as loggers write them, read as (step, rate) samples.

Every format becomes one table of named columns; which of them hold the step
and the rate is then decided in one place. Read are: delimited text (Keras,
Lightning, W&B, MLflow, TensorBoard's download), JSON and JSON lines (Hugging
Face's trainer_state.json, Keras's history), and TensorBoard's event files; all
but the last also packed by gzip.
"""

import collections
import csv
import gzip
import itertools
import json
import math
import pathlib
import re
import zlib
from typing import Any
from typing import NamedTuple

import numpy as np

from lbcheck.support import checks
from lbcheck.support import errors
from lbcheck.support import event_file
from lbcheck.support import schema

SUFFIXES = (".csv", ".tsv", ".txt", ".json", ".jsonl", ".ndjson", ".log", ".gz")
"""Names that end so are taken for a log's, though it may not be there."""

_LARGEST = 2**28
_MISSING = ("", "none", "null", "n/a", "na", "-", "--")
_COMMENT = re.compile(r"\s*(#|sep=)", re.IGNORECASE)
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+(e[+-]?\d+)?", re.IGNORECASE)
_FIXED = re.compile(r"\d+[.,](\d+)")
_FEWEST_UNITS = 10
"""In units of the last digit, the least that a highest rate must be."""
_GROUPS_OF_THREE = re.compile(r"[+-]?[1-9]\d{0,2}([.,]\d{3})+")


class Log(NamedTuple):
    """What a log holds.

    Attributes:
        steps: Integers, increasing.
        rates: float64, one for each step.
        resumed: Steps that come more than once, with other rates.
        epochs: Whether the steps were epochs, and still are.
        unit: What the last digit of all rates is worth, where they are
            printed with one number of decimals; else 0.
    """

    steps: np.ndarray
    rates: np.ndarray
    resumed: tuple[int, ...]
    epochs: bool
    unit: float


class _Table(NamedTuple):
    """Columns by name, in rows of (place in the file, cells)."""

    path: pathlib.Path
    names: list[str]
    rows: list[tuple[str, list[Any]]]
    commas: bool = False


def read(
    path, column: str | None = None, steps_per_epoch: int | None = None
) -> Log:
    """The steps and rates of a log.

    The step is the column named global_step, step, iteration or update, else
    epoch; the rate the one named learning_rate or lr, with whatever the logger
    puts around it, else value. Equal columns, such as parameter groups of one
    rate, count as one. Rows without a rate are left out. A step may come again
    after a resume; its last rate counts.

    Args:
        path: A file, or a folder with TensorBoard's event files.
        column: Name of the rate's column, where several differ.
        steps_per_epoch: What turns epochs into steps where a log has only
            those; None leaves epochs.

    Raises:
        ValueError: It cannot be read; names the file and the cure.
    """
    path = pathlib.Path(path)
    table = _table(path)
    if not table.rows:
        raise ValueError(f"{path}: has no row of numbers.")
    rate, cells = _rates(table, column)
    steps, epochs = _steps(table, rate, cells)
    scale = steps_per_epoch if epochs else None
    epochs = epochs and not scale
    found, resumed = {}, []
    for row, step in steps.items():
        step, value = (
            _whole(table.rows[row][0], step, scale, epochs),
            cells[row],
        )
        before = found.get(step, value)
        if abs(before - value) > 1e-4 * max(abs(before), abs(value)):
            resumed.append(step)
        found[step] = value
    if len(found) < 3:
        raise ValueError(
            f"{path}: must hold at least 3 steps with their rates, received "
            f"{len(found)}."
        )
    order = sorted(found)
    rates = np.array([found[step] for step in order])
    unit = _unit([table.rows[row][1][rate : rate + 1] for row in cells])
    _check_digits(path, rates, unit)
    return Log(np.array(order), rates, tuple(resumed), epochs, unit)


def _unit(texts):
    """What the last of a fixed number of decimals is worth, or 0.

    Of cells, each alone in a list. One of them at least must end with a 0
    that only such a format prints.
    """
    decimals = set()
    for text in texts:
        found = [_FIXED.fullmatch(str(cell).strip()) for cell in text]
        decimals.add(len(found[0][1]) if found and found[0] else 0)
    if len(decimals) > 1 or decimals <= {0, 1}:
        return 0.0
    padded = any(str(cell).strip().endswith("0") for (cell,) in texts)
    return 10.0 ** -decimals.pop() if padded else 0.0


def _check_digits(path, rates, unit):
    """Refuses rates of one digit, whose rounding hides what they do.

    Without a unit they are known by the steps in which they climb or fall.
    """
    highest = rates.max()
    constant = highest > 0 and np.ptp(rates) == 0
    if not np.all(rates >= 0) or constant or not (unit or highest):
        return
    if unit:
        one_digit = round(highest / unit) < _FEWEST_UNITS
    else:
        shown = rates[rates > 0]
        digit = shown / 10.0 ** np.floor(np.log10(shown) + 1e-9)
        one_digit = np.all(abs(digit - np.round(digit)) < 1e-6) and (
            len(np.unique(shown)) >= _FEWEST_UNITS or _is_staircase(rates)
        )
    if one_digit:
        raise ValueError(
            f"{path}: the learning rates have one digit, {highest:g} at most, "
            "and a schedule cannot be told from its rounding; expected two or "
            "more, as the formats .3e and .8f print them. Rates that are "
            "exact so can be given as a list."
        )


def _is_staircase(rates):
    """Whether rates climb by held rates, or fall by neighbouring ones."""
    held = rates[1:] == rates[:-1]
    top = int(np.argmax(rates))
    if np.any(held[:top] & (rates[:top] < rates[top])):
        return True
    power = 10.0 ** np.floor(np.log10(np.where(rates > 0, rates, 1)) + 1e-9)
    unit = np.minimum(power[1:], power[:-1])
    fall = (rates[:-1] - rates[1:])[top:]
    single = fall[fall != 0] < 1.01 * unit[top:][fall != 0]
    return len(single) > 1 and bool(np.all(single)) and bool(np.any(held[top:]))


def _whole(where, step, scale, epochs):
    if scale and math.isfinite(step):
        step = round(step * scale)
    if 0 <= step <= 2**53 and step == int(step):
        return int(step)
    unit, cure = "step", ""
    if epochs:
        unit, cure = "epoch", ", or steps_per_epoch to count updates"
    raise ValueError(
        f"{where}: expected a whole {unit} of at least 0{cure}; received "
        f"{step:g}."
    )


# Which column is which.

_RATE = (
    r"(lr|learning_?rate|rate)",
    r"(.*/)?(lr|learning_?rate|rate)",
    r"(.*[/_])?(lr|learning_?rate)\d*([/_].*)?",
    r"(.*/)?values?",
)
_NO_RATE = re.compile(r"momentum|decay|__min$|__max$|loss|grad|scale|mult")
_STEP = (
    r"(.*/)?(global_steps?|n(um)?_updates|updates?)",
    r"_?(steps?|iter(ation)?s?)",
    r"(.*[/_])?(steps?|updates?|iter(ation)?s?)(_(num|id|count|no))?",
    r"(.*[/_])?epochs?",
)
"""What a column may be called, best first; see `_plain` for the names."""
_NO_STEP = re.compile(r"per_|time|loss|rate|lr$")
_EPOCH = re.compile(r"(.*[/_])?epochs?")
_RATE_BY_EPOCH = re.compile(r"(.*/)?epoch_(lr|learning_?rate)")


def _plain(name):
    """A column's name without the run that W&B puts before it.

    >>> _plain("my run - train/Learning Rate"), _plain("lr-AdamW/pg1")
    ('train/learning_rate', 'lr_adamw/pg1')
    """
    name = name.rpartition(" - ")[2].strip().lower()
    return re.sub(r"[^a-z0-9_/]+", "_", name)


def _matching(names, patterns, excluded):
    """Columns by how good their name is, best first: a list of lists."""
    plain = [_plain(name) for name in names]
    return [
        [
            index
            for index, name in enumerate(plain)
            if re.fullmatch(pattern, name) and not excluded.search(name)
        ]
        for pattern in patterns
    ]


def _rates(table, column):
    """(index of the rate's column, {row: rate})."""
    if column is not None:
        hits = [i for i, name in enumerate(table.names) if name == column]
        if not hits:
            raise ValueError(
                f"{table.path}: has no column {column!r}; it has "
                f"{_listed(table.names)}."
            )
        return hits[0], _required(table, hits[0])
    for hits in _matching(table.names, _RATE, _NO_RATE):
        columns = {hit: _numbers(table, hit) for hit in hits}
        columns = {hit: cells for hit, cells in columns.items() if cells}
        if columns:
            return _one_of(table, columns)
    raise ValueError(
        f"{table.path}: must have a column named learning_rate or lr, received "
        f"{_listed(table.names)}; if another holds the rate, name it by "
        "`column`."
    )


def _required(table, column):
    cells = _numbers(table, column)
    if not cells:
        raise ValueError(
            f"{table.path}: column {table.names[column]!r} holds no number."
        )
    return cells


def _one_of(table, columns):
    """The only one of some columns, or all where they hold the same."""
    first, *others = sorted(columns, key=lambda hit: -len(columns[hit]))
    cells = dict(columns[first])
    for other in others:
        shared = cells.keys() & columns[other].keys()
        if len(shared) < 3 or any(
            not np.isclose(
                cells[row], columns[other][row], 1e-6, 0.0, equal_nan=True
            )
            for row in shared
        ):
            names = [table.names[hit] for hit in sorted(columns)]
            raise ValueError(
                f"{table.path}: cannot tell which column is meant, "
                f"{_listed(names)}; name one by `column` (--column)."
            )
        cells = columns[other] | cells
    return first, dict(sorted(cells.items()))


def _steps(table, rate, cells):
    """({row: step} for every row with a rate, whether they are epochs)."""
    by_epoch = _RATE_BY_EPOCH.fullmatch(_plain(table.names[rate])) is not None
    hits = itertools.chain(*_matching(table.names, _STEP, _NO_STEP))
    candidates = [hit for hit in hits if hit != rate]
    without = None
    for hit in candidates:
        found = _numbers(table, hit)
        if found.keys() >= cells.keys():
            epochs = bool(_EPOCH.fullmatch(_plain(table.names[hit])))
            return {row: found[row] for row in cells}, by_epoch or epochs
        without = without or (hit, min(cells.keys() - found.keys()))
    if without:
        hit, row = without
        raise ValueError(
            f"{table.rows[row][0]}: has a rate, and no number in the column "
            f"{table.names[hit]!r}."
        )
    raise ValueError(
        f"{table.path}: must have a column named step, global_step, iteration "
        f"or epoch, received {_listed(table.names)}."
    )


def _listed(names):
    shown = ", ".join(map(schema.shown, names[:12]))
    return shown + ", ..." * (len(names) > 12)


def _numbers(table, column):
    """{row: number} of a column; cells that are missing are left out.

    Raises:
        ValueError: A cell is no number; names the line.
    """
    texts = {}
    for row, (_, cells) in enumerate(table.rows):
        cell = cells[column] if column < len(cells) else None
        if cell is not None and str(cell).strip().lower() not in _MISSING:
            texts[row] = cell
    commas = table.commas or any(
        isinstance(cell, str)
        and _DECIMAL_COMMA.fullmatch(cell)
        and not _GROUPS_OF_THREE.fullmatch(cell)
        for cell in texts.values()
    )
    found = {}
    for row, cell in texts.items():
        try:
            found[row] = _number(cell, commas)
        except (TypeError, ValueError, OverflowError):
            where, cells = table.rows[row]
            raise ValueError(
                f"{where}: expected a number in column "
                f"{table.names[column]!r}, received {schema.shown(cell)} in "
                f"{schema.shown(','.join(map(str, cells)))}."
            ) from None
    return found


def _number(cell, commas):
    """A cell as a float: 0.1, 1e-3, "1,000", and 0,1 where commas are meant."""
    if not isinstance(cell, str):
        if isinstance(cell, bool):
            raise TypeError
        return float(cell)
    if "_" in cell:
        raise ValueError
    if commas:
        whole, comma, part = cell.partition(",")
        if "." in whole and not _GROUPS_OF_THREE.fullmatch(whole):
            raise ValueError
        return float(whole.replace(".", "") + comma.replace(",", ".") + part)
    if "," in cell and _GROUPS_OF_THREE.fullmatch(cell):
        return float(cell.replace(",", ""))
    return float(cell)


# Formats, each as a table.


def _table(path):
    if path.is_dir() or "tfevents" in path.name:
        return _of_events(path)
    text = _text(path)
    if text.lstrip()[:1] in ("{", "["):
        return _of_json(path, text)
    return _long(_of_lines(path, text))


def _text(path):
    try:
        content = schema.read_bytes(path, _LARGEST)
        if content.startswith(b"\x1f\x8b"):
            with gzip.open(path) as file:
                content = file.read(_LARGEST + 1)
    except OSError as error:
        raise ValueError(f"{errors.of_system(error)}.") from error
    except (EOFError, zlib.error) as error:
        raise ValueError(f"{path}: is damaged: {error}.") from error
    if len(content) > _LARGEST:
        raise ValueError(f"{path}: expected at most {_LARGEST:,} bytes.")
    wide = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        text = content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise ValueError(
            f"{path}: is no UTF-8 text; save or export the log as CSV or JSON "
            "in UTF-8."
        )
    return text


def _of_lines(path, text):
    """Delimited text, with a header or without."""
    lines = [
        (number, line)
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip()
    ]
    said = [line for _, line in lines if _COMMENT.match(line)]
    lines = [line for line in lines if not _COMMENT.match(line[1])]
    if not lines:
        return _Table(path, [], [])
    split, commas = _splitter(path, lines[0][1])
    rows = [(f"{path}, line {number}", split(line)) for number, line in lines]
    commas = commas and any(
        _DECIMAL_COMMA.fullmatch(cell) for _, cells in rows for cell in cells
    )
    if _is_number(rows[0][1][0]):
        names = _guessed(path, rows, said, split)
        return _Table(path, names, rows, commas)
    names = rows[0][1]
    for where, cells in rows[1:]:
        if len(cells) > len(names) and any(cells[len(names) :]):
            raise ValueError(
                f"{where}: has {len(cells)} cells, and the header "
                f"{len(names)}; numbers with decimal commas must be quoted or "
                "separated by semicolons."
            )
    # A logger that starts again writes its header again.
    rows = [row for row in rows[1:] if row[1] != names]
    return _Table(path, names, rows, commas)


def _splitter(path, line):
    """(line -> cells, whether commas within them are decimal ones)."""
    words = line.split()
    numbers = len(words) > 1 and all(map(_is_number, words))
    for delimiter in "\t;,":
        if delimiter in line and not numbers:
            break
    else:
        return str.split, True

    def split(line):
        try:
            (cells,) = csv.reader(
                [line], delimiter=delimiter, skipinitialspace=True
            )
        except (csv.Error, ValueError) as error:
            raise ValueError(f"{path}: is no CSV: {error}.") from error
        return [cell.strip() for cell in cells]

    return split, delimiter != ","


def _is_number(cell):
    try:
        _number(cell, _DECIMAL_COMMA.fullmatch(cell) is not None)
    except ValueError:
        return False
    return True


def _guessed(path, rows, said, split):
    """Names of columns without a header, or of the one in a comment."""
    width = len(rows[0][1])
    for comment in said:
        names = split(comment.strip().lstrip("#").strip())
        if len(names) == width and any(_matching(names, _STEP, _NO_STEP)):
            return names
    if width == 2:
        return ["step", "rate"]
    first = rows[0][1]
    if width == 3 and float(first[0]) > 1e11:
        return ["timestamp", "value", "step"]  # MLflow's metric files
    if width == 3 and float(first[0]) > 1e9:
        return ["wall time", "step", "value"]  # TensorBoard's download
    raise ValueError(
        f"{path}: has {width} columns without names; begin it with a line such "
        "as step,learning_rate."
    )


_KEYS = ("key", "tag", "metric", "metric_key", "metric_name")
_RUNS = ("run", "run_id", "run_name", "run_uuid")


def _long(table):
    """A table with a metric a row, as MLflow exports it, as one of columns."""
    plain = [_plain(name) for name in table.names]
    keys = [i for i, name in enumerate(plain) if name in _KEYS]
    values = [i for i, name in enumerate(plain) if name == "value"]
    if not keys or not values:
        return table
    runs = [i for i, name in enumerate(plain) if name in _RUNS]

    def tag(cells):
        run = [cells[i] for i in runs[:1] if several]
        return " - ".join([*run, cells[keys[0]]])

    several = len({c[i] for _, c in table.rows for i in runs[:1]}) > 1
    tags = list(dict.fromkeys(tag(cells) for _, cells in table.rows))
    # Not "value" itself, which would be taken for the rate.
    names = ["" if i in values else name for i, name in enumerate(table.names)]
    rows = [
        (where, [*cells, *_at(tags, tag(cells), cells[values[0]])])
        for where, cells in table.rows
    ]
    return table._replace(names=[*names, *tags], rows=rows)


def _at(tags, tag, value):
    return [value if tag == other else None for other in tags]


def _of_json(path, text):
    """A JSON document, or one object a line."""
    try:
        return _of_records(path, _records(path, _loaded(path, text)))
    except json.JSONDecodeError as error:
        lines = [
            (i, s) for i, s in enumerate(text.splitlines(), 1) if s.strip()
        ]
        if len(lines) < 2:
            raise _not_json(path, error) from error
    records = []
    for number, line in lines:
        try:
            records.append((f"{path}, line {number}", _loaded(path, line)))
        except json.JSONDecodeError as error:
            # What a killed run was writing.
            if number != lines[-1][0] or text.endswith("\n"):
                where = f"{path}, line {number}"
                raise _not_json(where, error) from error
    return _of_records(path, records)


def _not_json(where, error):
    return ValueError(f"{where}: not JSON: {error.msg}, column {error.colno}.")


def _loaded(path, text):
    # Not support.schema, which rightly refuses NaN: losses of loggers are.
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise
    except (RecursionError, ValueError) as error:
        raise ValueError(f"{path}: is no log in JSON: {error}.") from error


def _records(path, content) -> list[tuple[str, Any]]:
    """The entries of a JSON document with their places."""
    if isinstance(content, dict):
        for history in ("log_history", "history"):
            if isinstance(content.get(history), (list, dict)):
                return _records(path, content[history])
        columns = {
            name: list(value.values()) if isinstance(value, dict) else value
            for name, value in content.items()
        }
        columns = {k: v for k, v in columns.items() if isinstance(v, list)}
        length = max(map(len, columns.values()), default=0)
        content = [
            # Keras's history has a number an epoch, and no column for it.
            {"epoch": i} | {k: v[i] for k, v in columns.items() if i < len(v)}
            for i in range(length)
        ]
    return [(f"{path}, entry {i}", entry) for i, entry in enumerate(content)]


_LISTS = {2: ("step", "value"), 3: ("wall time", "step", "value")}


def _of_records(path, records):
    """Objects, TensorBoard's lists of three, or rates, as a table."""
    flat = []
    for index, (where, entry) in enumerate(records):
        if isinstance(entry, list) and len(entry) in _LISTS:
            entry = dict(zip(_LISTS[len(entry)], entry))
        elif checks.is_number(entry, (int, float)):
            entry = {"step": index, "value": entry}
        if not isinstance(entry, dict):
            raise ValueError(
                f"{where}: expected an object with step and learning_rate, "
                f"received {schema.shown(entry)}."
            )
        flat.append((where, dict(_flattened(entry))))
    names = list(dict.fromkeys(name for _, entry in flat for name in entry))
    rows = [(w, [entry.get(name) for name in names]) for w, entry in flat]
    return _long(_Table(path, names, rows))


def _flattened(entry, prefix=""):
    """(name, value) of an object, of what is nested with / between."""
    for name, value in entry.items():
        name = f"{prefix}{name}"
        if isinstance(value, list):
            value = dict(enumerate(value))
        if isinstance(value, dict):
            yield from _flattened(value, f"{name}/")
        else:
            yield name, value


def _of_events(path):
    """TensorBoard's event files, those of all runs below a folder."""
    files = [path]
    if path.is_dir():
        files = sorted(path.rglob("*tfevents*"))
    if not files:
        raise ValueError(
            f"{path}: is a folder without TensorBoard's event files; name the "
            "log's file."
        )
    several = len({file.parent for file in files}) > 1
    scalars = []
    for file in files:
        run = f"{file.parent.relative_to(path)} - " if several else ""
        scalars += [
            (step, run + tag, v) for step, tag, v in event_file.scalars(file)
        ]
    tags = list(dict.fromkeys(tag for _, tag, _ in scalars))
    at = {tag: index for index, tag in enumerate(tags)}
    rows, visits = {}, collections.Counter()
    for step, tag, value in scalars:
        # A resume visits a step again.
        visits[step, tag] += 1
        place = step, visits[step, tag]
        rows.setdefault(place, [step, *[None] * len(at)])[1 + at[tag]] = value
    rows = [(f"{path}, step {step}", row) for (step, _), row in rows.items()]
    return _Table(path, ["step", *tags], rows)
