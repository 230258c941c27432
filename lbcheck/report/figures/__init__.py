"""The figures of the report: each draws tables of the results, and no more.

A figure is a few small panels; on a phone they stand one below the other.
"""

from lbcheck.report.figures import drawing
from lbcheck.report.figures import layers
from lbcheck.report.figures import runs
from lbcheck.report.figures import search
from lbcheck.report.figures.figure import Figure
from lbcheck.report.figures.figure import Results


def draw(results: dict) -> list[Figure]:
    """All figures that the results have something for."""
    view = Results(results)
    makers = (
        runs.seeds,
        search.best_so_far,
        search.targets,
        search.rates,
        runs.schedules,
        runs.curves,
        layers.trust_ratios,
        layers.relative_updates,
        layers.effective_rates,
    )
    with drawing.settings():
        figures = [make(view) for make in makers]
    return [figure for figure in figures if figure.panels]
