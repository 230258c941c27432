"""What `lbcheck published` prints, as data and as text."""

import csv
import difflib
import io
import pathlib
import sys
import textwrap

from lbcheck import published
from lbcheck.published import differences
from lbcheck.published import flagged
from lbcheck.published import miniature
from lbcheck.published import plans
from lbcheck.published import rows as index
from lbcheck.support import text_table

_EXAMPLE = "records/published"
"""Where the runs lie in commands that are shown."""
_WIDTH = 79


def say(line: str) -> None:
    """A line on how a run goes, beside the result."""
    print(line, file=sys.stderr, flush=True)


def tables_text() -> str:
    """Names and titles of all tables."""
    tables = published.index()
    width = max(map(len, tables))
    return "\n".join(
        f"{name:{width}}  {about['title']}" for name, about in tables.items()
    )


def table_text(name: str) -> str:
    """A table for the eye, with its source, its notes and its rows' names."""
    full = published.find(name)
    about = published.index()[full]
    with published.path(full).open(encoding="utf-8", newline="") as file:
        heads, *cells = csv.reader(file)
    widths = [max(map(len, column)) for column in zip(heads, *cells)]
    rule = ["-" * width for width in widths]
    meanings = [
        f"{column}: {meaning}"
        for column, meaning in about["columns"].items()
        if meaning
    ]
    names = [row.name for row in index.load().values() if row.table == full]
    return "\n".join(
        [
            f"{about['title']} ({about['source']})",
            "",
            text_table.text_table(heads, [rule, *cells]),
            "",
            *meanings,
            *about["notes"],
            "",
            "Rows:",
            *(f"  {name}" for name in names),
        ]
    ).rstrip()


def is_row(name: str) -> bool:
    """Whether a name, which may be mistyped, is a row's and no table's."""
    full = {
        **dict.fromkeys(index.load(), True),
        **dict.fromkeys(published.index(), False),
    }
    short = {name.partition("_")[2]: is_one for name, is_one in full.items()}
    (nearest,) = difflib.get_close_matches(name, short | full, 1, cutoff=0)
    return (short | full)[nearest]


def rows() -> list[dict]:
    """Every row: its name, what runs it or why nothing does, and its score."""
    return [
        {
            "row": row.name,
            "score": row.expected(),
            "flagfile": row.flagfile,
            "space": row.space,
            "no_run": row.no_run,
        }
        for row in index.load().values()
    ]


def rows_text(found: list[dict]) -> str:
    """The same as a table."""
    lines = [
        [
            line["row"],
            line["score"],
            line["space"] or line["flagfile"] or f"no run: {line['no_run']}",
        ]
        for line in found
    ]
    return text_table.text_table(["row", "score", "by"], lines)


def rows_csv(found: list[dict]) -> str:
    """The same as CSV, an empty cell for what a row does not have."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(found[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(found)
    return text.getvalue().rstrip("\n")


def row(name: str) -> dict:
    """All that is known of a row.

    Raises:
        ValueError, app.UsageError: No such row; a flagfile that is missing or
            damaged.
    """
    found = index.find(name)
    about = {
        "row": found.name,
        "source": published.index()[found.table]["source"],
        "printed": found.printed(),
        "expected": {"score": found.expected(), **found.about}
        if found.score
        else None,
        "flagfile": found.flagfile,
        "space": found.space,
        "no_run": found.no_run,
    }
    if found.no_run is not None:
        return about
    folder = pathlib.Path(_EXAMPLE, found.run)
    described = found.space or found.flagfile
    small = miniature.settings(found.program, found.settings())
    return about | {
        "settings": found.settings(),
        "space_parameters": flagged.space(found.space)["parameters"]
        if found.space
        else None,
        "inferred": flagged.says(found.flagfile, "Inferred"),
        "in_doubt": flagged.says(found.flagfile, "In doubt"),
        "comment": flagged.comment(described),
        "commands": _commands(found, "paper", folder),
        "miniature": [
            f"lbcheck published run {found.name} --output_dir={_EXAMPLE}"
        ],
        "miniature_settings": small,
    }


def _commands(found, scale, folder):
    """The command lines; of a study, that which writes its files first."""
    if found.space is not None:
        return [
            f"lbcheck published run {found.name} --scale={scale} "
            f"--output_dir={_EXAMPLE}"
        ]
    return plans.plan(found, scale, folder).lines()


def row_text(found: dict) -> str:
    """The same for the eye."""
    heads = [*found["printed"][0]]
    cells = [[line[head] for head in heads] for line in found["printed"]]
    parts = [
        f"{found['row']} ({found['source']})",
        text_table.text_table(heads, cells),
    ]
    if found["expected"]:
        parts.append(_expected(found["expected"]))
    if found["no_run"]:
        return "\n\n".join([*parts, f"No run: {found['no_run']}."])
    settings, small = found["settings"], found["miniature_settings"]
    sections = {
        f"Settings, flags/{found['flagfile']}": _flags(settings),
        f"Space, flags/{found['space']}": [
            f"{name}: {spec}"
            for name, spec in (found["space_parameters"] or {}).items()
        ],
        "What the file says": textwrap.wrap(found["comment"], _WIDTH),
        "At the scale of the paper": found["commands"],
        "In miniature": found["miniature"],
        "Other settings there": _flags(
            {n: v for n, v in small.items() if settings.get(n) != v}
        ),
        "Without": [", ".join(n for n in settings if n not in small)],
    }
    parts += [
        "\n".join([f"{title}:", *(f"  {line}" for line in lines)])
        for title, lines in sections.items()
        if any(lines)
    ]
    return "\n\n".join(parts)


def _expected(about):
    seeds = about.get("seeds")
    of = f" of {seeds} runs" if seeds else ""
    return (
        f"Expected: {about['score']} ({about['unit']}; {about['statistic']}"
        f"{of}; spread: {about['spread']})"
    )


def _flags(settings):
    return [f"--{flag}={value}" for flag, value in settings.items()]


def difference(one: str, other: str) -> dict:
    """`differences.compare` of two rows by name."""
    return differences.compare(index.find(one), index.find(other))


def difference_text(found: dict) -> str:
    """The same, a line for each setting."""
    lines = differences.lines(found)
    if not lines:
        return f"{found['a']} and {found['b']} have the same settings."
    heads = ["setting", "symbol", found["a"], found["b"]]
    return text_table.text_table(heads, lines)


def runs_text(found: dict) -> str:
    """Paper beside miniature."""
    scale = found["scale"]
    heads = ["row", "paper", "unit", scale, "metric", "seconds", "run"]
    lines = [
        [
            line["row"],
            line["paper"],
            line["unit"],
            line["status"] if line["score"] is None else f"{line['score']:.4g}",
            line["metric"],
            "" if line["seconds"] is None else f"{line['seconds']:.0f}",
            line["run"] or "",
        ]
        for line in found["rows"]
    ]
    took = {n["run"]: n["seconds"] or 0 for n in found["rows"] if n["run"]}
    parts = [
        *([found["note"]] if found["note"] else []),
        text_table.text_table(heads, lines, [5]),
        f"runs: {len(took)}, minutes: {sum(took.values()) / 60:.1f}",
    ]
    return "\n\n".join(parts)


def check_text(found: dict) -> str:
    """What a check found, a line each."""
    counts = (
        f"{found['rows']} rows of {found['tables']} tables, "
        f"{found['printed_rows']} printed rows, {found['runs']} runs, "
        f"{found['files']} files: "
    )
    problems = found["problems"]
    end = f"problems: {len(problems)}" if problems else "nothing is wrong"
    return "\n".join([*problems, counts + end])
