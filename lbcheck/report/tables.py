"""The tables of the report, each in HTML, Markdown and LaTeX from one form."""

from typing import Any
from typing import NamedTuple

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "–": "--",
    "×": r"$\times$",
    "\n": " ",
}
_MARKDOWN = {c: f"\\{c}" for c in "\\|*_`<>[]#"} | {"\n": " "}


class Table(NamedTuple):
    """A table of the report.

    Attributes:
        name: Its anchor.
        title: Its heading.
        caption: What it says.
        columns: Heads of the columns.
        rows: Cells, as text.
        numeric: Numbers of the columns that hold numbers.
    """

    name: str
    title: str
    caption: str
    columns: list[str]
    rows: list[list[str]]
    numeric: tuple[int, ...] = ()


def number(value: Any, digits: int = 4) -> str:
    """A number for people: significant digits, a dash for None."""
    if value is None:
        return "–"
    if isinstance(value, bool) or isinstance(value, str):
        return str(value)
    if isinstance(value, int) or 10**digits <= abs(value) < 1e9:
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def metric(value: float | None, sign: str = "") -> str:
    """A metric: four decimals below 10, else four significant digits.

    So are numbers of which four decimals show nothing, such as a loss of 2e-5.

    Args:
        value: None where there is none.
        sign: "+": of a difference, which always has its sign.
    """
    if value is None:
        return "–"
    has_decimals = value == 0 or 5e-5 <= abs(value) < 10
    return format(value, f"{sign}.4{'f' if has_decimals else 'g'}")


def interval(low, high) -> str:
    """[low, high] of a metric; nothing where there is none."""
    if low is None or high is None:
        return ""
    return f"[{metric(low)}, {metric(high)}]"


def to_markdown(tables: list[Table]) -> str:
    """The tables as GitHub Markdown."""
    return "\n".join(_markdown(table) for table in tables)


def _markdown(table):
    lines = [
        f"## {table.title}",
        "",
        *([_escaped(table.caption, _MARKDOWN), ""] if table.caption else []),
    ]
    return "\n".join(lines) + "\n" + markdown_rows(table)


def markdown_rows(table: Table) -> str:
    """A table as GitHub Markdown without title and caption."""
    rules = [
        "---:" if column in table.numeric else "---"
        for column in range(len(table.columns))
    ]
    lines = [
        _markdown_row(_escaped(cell, _MARKDOWN) for cell in table.columns),
        _markdown_row(rules),
        *(
            _markdown_row(_escaped(cell, _MARKDOWN) for cell in row)
            for row in table.rows
        ),
    ]
    return "\n".join(lines) + "\n"


def _markdown_row(cells):
    return f"| {' | '.join(cells)} |"


def to_latex(tables: list[Table]) -> str:
    """The tables as LaTeX, for the package booktabs."""
    return "\n".join(_latex(table) for table in tables)


def _latex(table):
    columns = "".join(
        "r" if column in table.numeric else "l"
        for column in range(len(table.columns))
    )
    caption = f"{table.title}. {table.caption}".strip()
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_escaped(caption, _LATEX)}}}",
        rf"\label{{tab:{table.name}}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        _latex_row(table.columns),
        r"\midrule",
        *(_latex_row(row) for row in table.rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _latex_row(cells):
    return " & ".join(_escaped(cell, _LATEX) for cell in cells) + r" \\"


def _escaped(text, replacements):
    return "".join(replacements.get(c, c) for c in text)
