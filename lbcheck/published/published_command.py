"""`lbcheck published`: results and tables of the two papers.

lbcheck published
lbcheck published nado2021_table5
lbcheck published table2_right --format=json

Without a name it lists the tables. The paper can be left out of a name that
is unique without it.
"""

import csv
import json

from absl import app
from absl import flags

from lbcheck import published
from lbcheck.support import text_table

FLAGS = flags.FlagValues()
_FORMAT = flags.DEFINE_enum(
    "format",
    "text",
    ["text", "csv", "json"],
    "How a table is printed.",
    flag_values=FLAGS,
)


def listing() -> str:
    """Names and titles of all tables."""
    tables = published.index()
    width = max(map(len, tables))
    return "\n".join(
        f"{name:{width}}  {about['title']}" for name, about in tables.items()
    )


def text(name: str) -> str:
    """A table for the eye, with its source and notes."""
    about = published.index()[published.find(name)]
    with published.path(name).open(encoding="utf-8", newline="") as file:
        heads, *rows = csv.reader(file)
    widths = [max(map(len, column)) for column in zip(heads, *rows)]
    rule = ["-" * width for width in widths]
    meanings = [
        f"{column}: {meaning}"
        for column, meaning in about["columns"].items()
        if meaning
    ]
    return "\n".join(
        [
            f"{about['title']} ({about['source']})",
            "",
            text_table.text_table(heads, [rule, *rows]),
            "",
            *meanings,
            *about["notes"],
        ]
    ).rstrip()


def main(argv):
    """Prints the list, or one table."""
    if len(argv) > 1:
        raise app.UsageError(
            f"lbcheck published takes one table; received {argv}."
        )
    try:
        if not argv and _FORMAT.value == "text":
            print(listing())
        elif not argv:
            raise ValueError(f"--format={_FORMAT.value} needs a table.")
        elif _FORMAT.value == "text":
            print(text(argv[0]))
        elif _FORMAT.value == "csv":
            print(published.path(argv[0]).read_text(encoding="utf-8"), end="")
        else:
            print(json.dumps(published.load(argv[0]), indent=2))
    except ValueError as error:
        raise app.UsageError(str(error)) from error
    return 0
