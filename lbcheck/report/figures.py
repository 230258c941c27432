"""The figures of the report: each draws tables of the results, and no more.

A figure is a few small panels; on a phone they stand one below the other.
"""

from lbcheck.report import drawing
from lbcheck.report import layer_figures
from lbcheck.report import run_figures
from lbcheck.report import search_figures
from lbcheck.report.figure import Figure
from lbcheck.report.figure import Results


def draw(results: dict) -> list[Figure]:
    """All figures that the results have something for."""
    view = Results(results)
    makers = (
        run_figures.seeds,
        search_figures.best_so_far,
        search_figures.targets,
        search_figures.rates,
        run_figures.schedules,
        run_figures.curves,
        layer_figures.trust_ratios,
        layer_figures.relative_updates,
        layer_figures.effective_rates,
    )
    with drawing.settings():
        figures = [make(view) for make in makers]
    return [figure for figure in figures if figure.panels]
