"""Results and tables of the two papers, as data.

    >>> table = load("nado2021_table2_right")
    >>> table["rows"][1]
    {'optimizer': 'LARS', 'train_accuracy': 78.07, 'test_accuracy': 75.97}

A table is NAME.csv, with the numbers as printed, and an entry in tables.json:
title, source, what the columns mean, notes on doubts and misprints. What runs
a row is in rows.json; see `lbcheck.published.rows`.
"""

import csv
import difflib
import json
import pathlib
from collections.abc import Collection

_FOLDER = pathlib.Path(__file__).parent


def index() -> dict[str, dict]:
    """{name of a table: its title, source, columns and notes}."""
    return json.loads((_FOLDER / "tables.json").read_text(encoding="utf-8"))


def find(name: str) -> str:
    """The full name of a table, of which the paper can be left out.

    >>> find("table2_right")
    'nado2021_table2_right'

    Raises:
        ValueError: No table or more than one has that name.
    """
    return named(name, index(), "table")


def named(name: str, names: Collection[str], what: str) -> str:
    """The full name among these that is meant.

    Raises:
        ValueError: None or more than one has that name; says which are near.
    """
    if name in names:
        return name
    found = [full for full in names if full.partition("_")[2] == name]
    if len(found) == 1:
        return found[0]
    short = {full: full.partition("_")[2] for full in names}
    close = difflib.get_close_matches(name, {*short, *short.values()}, 3)
    near = found or [full for full in names if {full, short[full]} & {*close}]
    expected = (
        f"expected {'one of ' * (len(near) > 1)}{', '.join(near)}"
        if near
        else f"`lbcheck published{' rows' * (what == 'row')}` lists them"
    )
    raise ValueError(
        f"{name!r} is {'more than one' if found else 'no'} published {what}; "
        f"{expected}."
    )


def path(name: str) -> pathlib.Path:
    """The CSV file of a table, numbers as printed."""
    return _FOLDER / f"{find(name)}.csv"


def texts(name: str) -> list[dict[str, str]]:
    """The rows of a table as printed, {column: text}."""
    with path(name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def load(name: str) -> dict:
    """One table.

    Args:
        name: As in `lbcheck published`; the paper can be left out where that
            is unique.

    Returns:
        "name", "title", "source", "columns" ({column: what it means}),
        "rows" (one dict per row; numbers as int or float, None where the paper
        has nothing) and "notes".

    Raises:
        ValueError: No table or more than one has that name.
    """
    full = find(name)
    rows = [
        {column: _parsed(cell) for column, cell in row.items()}
        for row in texts(full)
    ]
    about = index()[full]
    return {
        "name": full,
        "title": about["title"],
        "source": about["source"],
        "columns": about["columns"],
        "rows": rows,
        "notes": about["notes"],
    }


def _parsed(cell):
    for kind in (int, float):
        try:
            return kind(cell)
        except ValueError:
            pass
    return cell or None
