"""What a figure is, and what every figure asks of the results."""

from typing import NamedTuple

from lbcheck.report.figures import drawing
from lbcheck.study.formats import ALL_PARTS

_LONGEST_LABEL = 16


class Figure(NamedTuple):
    """A figure of the page.

    Attributes:
        title: Its heading.
        caption: What it shows and what to see in it.
        panels: SVG elements; a figure without any is not shown.
        keys: Its legend: (kind, number of the color, text), the kind one of
            "solid", "dashed" and "dot".
        absence: What the page says in place of a figure that is not shown.
    """

    title: str
    caption: str
    panels: list[str]
    keys: list[tuple[str, int, str]]
    absence: str = ""


class Results:
    """The results with what every figure asks of them."""

    def __init__(self, results: dict):
        self.study = results["study"]
        self.tables = results["tables"]
        self.arms = list(self.study["arms"])
        self.metric = self.study["metric"]["name"]
        self.sign = 1 if self.study["metric"]["mode"] == "max" else -1

    def rows(self, table: str, **match) -> list[dict]:
        """The rows of a table whose entries equal those given."""
        return [
            row
            for row in self.tables[table]
            if all(row[key] == wanted for key, wanted in match.items())
        ]

    def is_on(self, side: str, arm: str) -> bool:
        """Whether the arm is a "challenger", or a "baseline"."""
        return self.study["arms"][arm]["side"] == side

    def line(self, arm: str) -> dict:
        """How a line of this arm looks."""
        style = "-" if self.is_on("challenger", arm) else (0, (4, 1.5))
        color = drawing.arm_color(self.arms.index(arm))
        return {"color": color, "linestyle": style}

    def lost(self, place: str) -> str:
        """A sentence on what diverged, which is in no box or line; or none.

        Args:
            place: What it is not in, such as "box".
        """
        unit = "Searches" if self.tables["searches"] else "Seeds"
        found = ", ".join(
            f"{row['arm']} {row['diverged']} of {row['runs']}"
            for row in self.rows("arms", part=self.study["parts"][0])
            if row["diverged"]
        )
        if not found:
            return ""
        return f" {unit} that diverged are in no {place}: {found}."

    def keys(self, table: str) -> list[tuple[str, int, str]]:
        """The legend of the arms that a table has rows of."""
        found = {row["arm"] for row in self.tables[table]}
        return [
            (
                "solid" if self.is_on("challenger", arm) else "dashed",
                self.arms.index(arm) % drawing.NUM_COLORS,
                arm,
            )
            for arm in self.arms
            if arm in found
        ]


def part_panels(
    view,
    table,
    name,
    draw_arm,
    horizontal,
    what,
    vertical=None,
    finish=None,
    logarithmic="",
):
    """A panel for each part that the table has rows for.

    Args:
        view: The results.
        table: Whose rows are drawn; name: of the panels.
        draw_arm: Function of axes, arm and its rows.
        horizontal, vertical, logarithmic: As for a panel; vertical None is
            the metric.
        what: For the text alternative.
        finish: Function of axes and part, called last.
    """
    panels = []
    for part in ALL_PARTS:
        arms = [a for a in view.arms if view.rows(table, arm=a, part=part)]
        if not arms:
            continue
        panel = drawing.Panel(
            f"{name}-{part}",
            f"{what} of {', '.join(arms)} on {part}; the numbers are in the "
            f"table {table} of results.json.",
            title=part.capitalize(),
            horizontal=horizontal,
            vertical=view.metric if vertical is None else vertical,
            logarithmic=logarithmic,
        )
        for arm in arms:
            draw_arm(panel.axes, arm, view.rows(table, arm=arm, part=part))
        if finish:
            finish(panel.axes, part)
        panels.append(panel.svg())
    return panels


def short(name: str) -> str:
    """A name that fits beside a panel."""
    if len(name) <= _LONGEST_LABEL:
        return name
    return name[: _LONGEST_LABEL - 1] + "…"


def is_wide(values, sign) -> bool:
    """Whether a metric, such as a loss, needs a logarithmic axis."""
    return sign < 0 and 0 < 100 * min(values) < max(values)


def competitive(values, sign, logarithmic: bool) -> tuple[float, float]:
    """Limits of an axis that show the better values apart.

    As far below the worst quarter as that is below the best; a logarithmic
    axis shows everything.
    """
    ordered = sorted(values, key=lambda value: sign * value)
    if logarithmic:
        return limits(values, True)
    quartile, best = ordered[len(ordered) // 4], ordered[-1]
    least = 2 * quartile - best
    shown = [v for v in ordered if sign * v >= sign * least]
    return limits([*shown, best])


def limits(values, logarithmic: bool = False) -> tuple[float, float]:
    """Limits of an axis over finite values, with a little room."""
    low, high = min(values), max(values)
    if logarithmic:
        room = (high / low) ** 0.05
        return low / room, high * room
    room = 0.05 * (high - low) or 0.01 * abs(high) or 0.01
    return low - room, high + room
