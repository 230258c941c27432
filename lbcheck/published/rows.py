"""Every row of the papers' tables, and what runs it.

    >>> row = find("nado2021_table1_lars")
    >>> row.flagfile, row.program
    ('resnet/lars.flags', 'resnet.train')

rows.json is the index: a row names its cells in a table of this package and
the flagfile, or the search space besides, that runs it. Numbers are nowhere
twice: scores are the table's, settings the flagfile's, doubts its comment's.
"""

import fnmatch
import math
import pathlib
from typing import NamedTuple

from typing_extensions import NotRequired
from typing_extensions import TypedDict

from lbcheck import published
from lbcheck.published import flagged
from lbcheck.support import schema

INDEX = pathlib.Path(__file__).with_name("rows.json")

PROGRAMS = {
    "bert": "bert.pretrain",
    "resnet": "resnet.train",
    "squad": "bert.squad",
}
"""{folder of a flagfile: the program that it is of}."""


class _Entry(TypedDict):
    where: NotRequired[dict[schema.Name, schema.Name | list[schema.Name]]]
    column: NotRequired[schema.Name]
    score: NotRequired[schema.Name]
    flags: NotRequired[schema.Name]
    space: NotRequired[schema.Name]
    set: NotRequired[dict[schema.Name, str]]
    without: NotRequired[list[schema.Name]]
    no_run: NotRequired[schema.Name]
    epochs: NotRequired[schema.Count]


class _Table(TypedDict):
    score: NotRequired[schema.Name]
    unit: NotRequired[schema.Name]
    seeds: NotRequired[schema.Count | None]
    statistic: NotRequired[schema.Name]
    spread: NotRequired[schema.Name]
    epochs: NotRequired[schema.Count]
    rows: dict[schema.Name, dict]


class _Index(TypedDict):
    ours: dict[schema.Name, schema.Name]
    tables: dict[schema.Name, dict]


class Row(NamedTuple):
    """A row of a table, or several that one run or one study is of.

    Attributes:
        name: Of the row, the table's before it.
        table: The table's name.
        cells: The rows of its CSV file, as printed.
        column: The column that has its values, where a column is a run.
        score: The column of its score; None where the table has settings.
        about: What the score is: "unit", "seeds", "statistic", "spread".
        flagfile: Under flags/, that of the run or that a study starts from.
        space: Under flags/, the space that is searched; None for a run.
        changes: Flags that a study sets in the flagfile.
        without: Patterns of flags that it leaves out.
        no_run: Why there is no run.
        epochs: As stated in the paper, or None.
    """

    name: str
    table: str
    cells: list[dict[str, str]]
    column: str | None
    score: str | None
    about: dict
    flagfile: str | None
    space: str | None
    changes: dict[str, str]
    without: list[str]
    no_run: str | None
    epochs: int | None

    @property
    def program(self) -> str | None:
        """The module that runs it, as after `python -m`."""
        if self.flagfile is None:
            return None
        return PROGRAMS[self.flagfile.partition("/")[0]]

    @property
    def run(self) -> str | None:
        """The name of its run, which rows of several tables may share."""
        if self.space is not None:
            return f"studies/{self.name}"
        return self.flagfile and self.flagfile.removesuffix(".flags")

    def settings(self) -> flagged.Settings:
        """{flag: value} at the scale of the paper; of a study, its base's.

        Raises:
            ValueError, app.UsageError: A file is missing or damaged.
        """
        found = flagged.settings(self.flagfile)
        if self.space is None:
            return found
        space = flagged.space(self.space)
        for flag, fact in (("train_steps", "steps"), ("batch_size",) * 2):
            if fact in space:
                found[flag] = str(space[fact])
        if "steps" in space:
            found.pop("train_epochs", None)
        dropped = [*space["parameters"], *self.without]
        kept = {
            name: value
            for name, value in found.items()
            if not any(fnmatch.fnmatch(name, pattern) for pattern in dropped)
        }
        return kept | self.changes

    def printed(self) -> list[dict[str, str]]:
        """What the table prints of it: whole rows, or its one column."""
        if self.column is None:
            return self.cells
        rest = [
            {c: text for c, text in row.items() if c in ("parameter", "symbol")}
            for row in self.cells
        ]
        return [
            kept | {self.column: row[self.column]}
            for kept, row in zip(rest, self.cells)
        ]

    def expected(self) -> str:
        """The score as printed; of several rows the best; "" without one."""
        if self.score is None:
            return ""
        texts = [row[self.score] for row in self.cells]
        return texts[0] if len(texts) == 1 else max(texts, key=_number)


def _number(text):
    """A score that can be ordered; a run that diverged is the worst."""
    try:
        return float(text)
    except ValueError:
        return -math.inf


def load() -> dict[str, Row]:
    """{name: row} of all tables.

    Raises:
        ValueError: rows.json is damaged, or does not fit the tables; names
            the file, the row and what was expected.
    """
    tables = _index()["tables"]
    unknown = sorted(set(tables) - set(published.index()))
    if unknown:
        raise ValueError(f"{INDEX}: no table is called {', '.join(unknown)}.")
    found = {}
    for table, about in tables.items():
        schema.check(about, _Table, f"{INDEX}: {table}")
        printed = published.texts(table)
        for name, entry in about["rows"].items():
            where = f"{INDEX}: {table}: row {name!r}"
            schema.check(entry, _Entry, where)
            found[f"{table}_{name}"] = _row(
                table, name, about, entry, printed, where
            )
    return found


def ours() -> dict[str, str]:
    """{flagfile of no published row: what it is of}."""
    return _index()["ours"]


def find(name: str) -> Row:
    """The row of a name, of which the paper can be left out.

    Raises:
        ValueError: No row or more than one has that name; says which may be
            meant. Or as of `load`.
    """
    rows = load()
    return rows[published.named(name, rows, "row")]


def _index():
    return schema.read(INDEX, _Index)


def _row(table, name, about, entry, printed, where):
    unknown = sorted(set(entry) - set(_Entry.__annotations__))
    if unknown:
        raise ValueError(f"{where}: unknown {', '.join(unknown)}.")
    if ("flags" in entry) == ("no_run" in entry):
        raise ValueError(
            f'{where}: expected either "flags" or "no_run", why there is no '
            f"run; received {', '.join(entry)}."
        )
    flagfile = entry.get("flags")
    if flagfile and flagfile.partition("/")[0] not in PROGRAMS:
        raise ValueError(
            f"{where}: expected a flagfile in one of {', '.join(PROGRAMS)}, "
            f"received {flagfile!r}."
        )
    column, score = entry.get("column"), entry.get("score", about.get("score"))
    return Row(
        f"{table}_{name}",
        table,
        _cells(printed, entry.get("where", {}), [column, score], where),
        column,
        score,
        {k: about[k] for k in _ABOUT if k in about} if score else {},
        flagfile,
        entry.get("space"),
        entry.get("set", {}),
        entry.get("without", []),
        entry.get("no_run"),
        entry.get("epochs", about.get("epochs")),
    )


_ABOUT = ("unit", "seeds", "statistic", "spread")


def _cells(rows, wanted, columns, where):
    """Those of a table's rows that have these texts."""
    heads = list(rows[0])
    for column in [*wanted, *filter(None, columns)]:
        if column not in heads:
            raise ValueError(
                f"{where}: the table has no column {column!r}; expected one "
                f"of {', '.join(heads)}."
            )
    found = [
        row
        for row in rows
        if all(
            row[column] in (text if isinstance(text, list) else [text])
            for column, text in wanted.items()
        )
    ]
    if not found:
        raise ValueError(f"{where}: the table has no row with {wanted}.")
    return found
