"""What a figure holds: the numbers that are drawn, and what is said of them.

A figure is data until it is painted, so what `--format=json` prints is what
the picture shows.
"""

from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

PUBLISHED = "published data"
RECORDS = "your records"
MINIATURE = "a shipped miniature"


class Line(NamedTuple):
    """Points of one kind.

    Attributes:
        label: In the legend; of one colour wherever it appears.
        across: Where, of each point.
        up: Its number; None where there is none.
        style: "line", "dotted", "dots" (no line), "both", "steps" (each
            number holds until the next) or "lost" (crosses at the upper edge:
            no number).
        shade: None, or from 0 to 1: a place in a row of shades, for what has
            an order.
    """

    label: str
    across: Sequence[float]
    up: Sequence[float | None]
    style: str = "line"
    shade: float | None = None


class Box(NamedTuple):
    """Runs that differ by chance: a box of quartiles, and every run a dot.

    Attributes:
        label: Under the box.
        values: One number a run; a single one is only a dot.
        note: Under the label.
        diverged: Runs that have no number.
    """

    label: str
    values: Sequence[float]
    note: str = ""
    diverged: int = 0


class Rule(NamedTuple):
    """A dotted line across, such as a target."""

    label: str
    value: float


Mark = Line | Box | Rule


class Panel(NamedTuple):
    """One pair of axes.

    Attributes:
        title: Over them.
        horizontal, vertical: Their labels.
        marks: What is drawn.
        logarithmic: Which axes are logarithmic: "", "x", "y" or "xy".
        names: What stands at 1, 2, .. across in place of these numbers.
    """

    title: str
    horizontal: str
    vertical: str
    marks: Sequence[Mark]
    logarithmic: str = ""
    names: tuple[str, ...] = ()


class Drawn(NamedTuple):
    """Panels, and what they show, in sentences."""

    panels: Sequence[Panel]
    said: list[str]


class Figure(NamedTuple):
    """A figure of a paper.

    Attributes:
        name: Such as "nado2021_figure4".
        title: Over all panels.
        source: Where the paper has it.
        numbers_from: `PUBLISHED`, `RECORDS` or `MINIATURE`.
        caption: Where the numbers come from and what they show, in sentences.
        panels: From left to right, and line by line.
    """

    name: str
    title: str
    source: str
    numbers_from: str
    caption: list[str]
    panels: Sequence[Panel]

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON can hold it; a mark says what it is."""
        panels = [
            panel._asdict()
            | {
                "marks": [
                    {"kind": type(mark).__name__.lower()} | mark._asdict()
                    for mark in panel.marks
                ],
            }
            for panel in self.panels
        ]
        return self._asdict() | {"panels": panels}
