"""Figures of LAMB's trust ratios, layer by layer, one iteration a figure."""

import numpy as np

from lbcheck.figures import sources
from lbcheck.figures.content import Drawn
from lbcheck.figures.content import Line
from lbcheck.figures.content import Panel

ITERATIONS = 6
"""Figures 9 to 14: from the first recorded iteration to the last."""


def at_iteration(path, number: int) -> Drawn:
    """Trust ratios of the adapted variables at one of six iterations.

    The iterations are those of the records that are nearest to equal
    distances from the first to the last; the paper does not print its own.

    Args:
        path: Of a study whose records have diagnostics, or of runs that wrote
            them.
        number: 0 to 5.

    Raises:
        ValueError: Fewer than six iterations are recorded.

    Source: You et al. 2019, Figures 9 to 14.
    """
    panels, said = [], []
    for label, ratios in sources.trust_ratios(path).items():
        count = len(ratios.steps)
        if count < ITERATIONS:
            raise ValueError(
                f"{path}: {label} has trust ratios of {count} iterations; "
                f"expected at least {ITERATIONS}."
            )
        row = round(number * (count - 1) / (ITERATIONS - 1))
        values = ratios.values[row]
        step = ratios.steps[row]
        line = Line(
            f"iteration {step}",
            list(range(1, len(values) + 1)),
            [None if np.isnan(v) else float(v) for v in values],
            "dots",
        )
        panels.append(
            Panel(
                f"{label}, iteration {step}",
                "variable, in the model's order",
                "trust ratio",
                [line],
                "y",
                tuple(ratios.variables),
            )
        )
        low, high = np.nanmin(values), np.nanmax(values)
        said.append(
            f"{label}, iteration {step}: from {low:.3g} to {high:.3g} over "
            f"{len(values)} adapted variables."
        )
    return Drawn(panels, said)
