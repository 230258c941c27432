"""Figures of what the layers take: trust ratios, steps, effective rates."""

import numpy as np

from lbcheck.report.figures import drawing
from lbcheck.report.figures.figure import Figure
from lbcheck.report.figures.figure import limits
from lbcheck.report.tables import number

_MOST_LINES = 60
_RATIO_STEPS = 5
_SPREAD = (
    f"one thin line a variable (beyond {_MOST_LINES} variables, the band from "
    "the 10th to the 90th percentile) and the median in bold"
)


def trust_ratios(view) -> Figure:
    """Trust ratio by layer at five steps: You et al. 2019, Figures 9 to 14."""
    panels, shown = [], []
    for arm in view.arms:
        found = {}
        for row in view.rows("layers", arm=arm):
            found.setdefault(row["variable"], {})[row["step"]] = row
        adapted = {
            variable: rows
            for variable, rows in found.items()
            if any(
                row["trust_ratio"] not in (None, 1.0) for row in rows.values()
            )
        }
        if not adapted:
            continue
        steps = list(next(iter(adapted.values())))
        picked = np.linspace(0, len(steps) - 1, _RATIO_STEPS).round()
        shown = [steps[int(number)] for number in np.unique(picked)]
        panel = drawing.Panel(
            f"trust-ratios-{view.arms.index(arm)}",
            f"Trust ratio of each adapted variable of {arm} at steps "
            f"{', '.join(map(str, shown))}; the numbers are in the table "
            "layers of results.json.",
            title=arm,
            horizontal="variable, in the model's order",
            vertical="trust ratio",
            logarithmic="y",
        )
        for shade, step in enumerate(shown):
            values = [rows[step]["trust_ratio"] for rows in adapted.values()]
            panel.axes.plot(
                np.arange(1, len(values) + 1),
                [value if value else np.nan for value in values],
                "o-",
                color=drawing.shade(shade),
                linewidth=0.8,
                markersize=3.5,
                markeredgewidth=0,
            )
        panels.append(panel.svg())
    return Figure(
        "Trust ratios",
        "What a layer-wise arm multiplies the learning rate of each variable "
        "by, at steps of its first confirmation run; variables without "
        "adaptation are left out. Where the lines of all steps are parallel, "
        "fixed rates per layer would do the same (You et al. 2019, Figures 9 "
        "to 14).",
        panels,
        [("dot", i, f"step {step}") for i, step in enumerate(shown)],
    )


def relative_updates(view) -> Figure:
    """Implicit step size: norm of the update over norm of the weights."""
    said = ", ".join(
        f"{row['arm']} {number(row['median'], 2)} and "
        f"{number(row['spread'], 2)}x"
        for row in view.tables["step_sizes"]
    )
    return Figure(
        "Implicit step sizes",
        f"Norm of the update over norm of the weights, {_SPREAD}, on the same "
        "axis for layer-wise and generic arms. Layer-wise adaptation is to "
        "bring the variables together; where those of a generic arm lie as "
        "close, there is little left to do. Median, and spread as 90th over "
        f"10th percentile of the variables: {said}.",
        _layer_panels(
            view, "relative_update", "norm of update / weights", True
        ),
        [],
    )


def effective_rates(view) -> Figure:
    """Learning rate times trust ratio of each variable."""
    return Figure(
        "Effective learning rates",
        f"Learning rate times trust ratio, {_SPREAD}. A generic arm has one "
        "rate for all variables; in a layer-wise arm the bold median is of the "
        "adapted ones. Rates of different optimizers have no common scale, so "
        "each panel has its own axis.",
        _layer_panels(view, "effective_rate", "learning rate × ratio", False),
        [],
    )


def _summary(view, arm, quantity):
    return [
        row
        for row in view.rows("layer_summary", arm=arm, quantity=quantity)
        if row["median"] > 0
    ]


def _layer_panels(view, quantity, vertical, shared):
    from matplotlib.collections import LineCollection

    panels = []
    everything = _positive(view.tables["layers"], quantity)
    for arm in view.arms:
        rows, summary = (
            view.rows("layers", arm=arm),
            _summary(view, arm, quantity),
        )
        own = _positive(rows, quantity)
        if not own:
            continue
        panel = drawing.Panel(
            f"{quantity}-{view.arms.index(arm)}".replace("_", "-"),
            f"{vertical} of each variable of {arm} over the steps; the numbers "
            "are in the table layers of results.json.",
            title=arm,
            horizontal="step",
            vertical=vertical,
            logarithmic="y",
        )
        color = view.line(arm)["color"]
        lines = {}
        for row in rows:
            value = row[quantity] or np.nan
            lines.setdefault(row["variable"], []).append((row["step"], value))
        if len(lines) <= _MOST_LINES:
            panel.axes.add_collection(
                LineCollection(
                    list(lines.values()),
                    colors=color,
                    alpha=0.45,
                    linewidths=0.8,
                )
            )
        else:
            panel.axes.fill_between(
                [row["step"] for row in summary],
                [row["low"] for row in summary],
                [row["high"] for row in summary],
                color=color,
                alpha=0.2,
                linewidth=0,
            )
        panel.axes.plot(
            [row["step"] for row in summary],
            [row["median"] for row in summary],
            color=color,
            linewidth=2.2,
        )
        panel.axes.set_xlim(*limits([row["step"] for row in rows]))
        chosen = everything if shared else own
        panel.axes.set_ylim(0.8 * min(chosen), 1.25 * max(chosen))
        panels.append(panel.svg())
    return panels


def _positive(rows, quantity):
    return [row[quantity] for row in rows if row[quantity]]
