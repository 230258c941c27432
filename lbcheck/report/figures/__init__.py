"""The figures of the report: each draws tables of the results, and no more.

A figure is a few small panels; on a phone they stand one below the other.
To add one, write a function of `Results` here that returns a `Figure`, give
it an entry in `ALL`, and copy the first line of its docstring into the table
of docs/report.md. The page places it and the tests test it from its entry.
"""

from collections.abc import Callable
from typing import NamedTuple

from lbcheck.report.figures import drawing
from lbcheck.report.figures import layers
from lbcheck.report.figures import runs
from lbcheck.report.figures import search
from lbcheck.report.figures.figure import Figure
from lbcheck.report.figures.figure import Results


class Entry(NamedTuple):
    """A figure's place on the page.

    Attributes:
        name: Its anchor.
        make: The function that makes it.
        section: Anchor of the section in which it is placed.
        tables: Names of the tables that are placed right below it.
    """

    name: str
    make: Callable[[Results], Figure]
    section: str
    tables: tuple[str, ...] = ()


ALL = (
    Entry("difference", runs.differences, "result", ("differences",)),
    Entry("seeds", runs.seeds, "result"),
    Entry("curves", runs.curves, "result"),
    Entry("search-shares", search.shares, "tuning"),
    Entry("best-so-far", search.best_so_far, "tuning"),
    Entry("targets", search.targets, "tuning"),
    Entry("rates", search.rates, "tuning", ("bins",)),
    Entry("schedules", runs.schedules, "steps", ("findings",)),
    Entry("trust-ratios", layers.trust_ratios, "steps"),
    Entry("relative-updates", layers.relative_updates, "steps"),
    Entry("effective-rates", layers.effective_rates, "steps"),
)


def draw(results: dict) -> dict[str, Figure]:
    """All figures by name, those without panels, too."""
    view = Results(results)
    with drawing.settings():
        return {entry.name: entry.make(view) for entry in ALL}
