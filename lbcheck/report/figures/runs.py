"""Figures of the confirmation runs: seeds, schedules, curves."""

import functools

import numpy as np

from lbcheck.report.figures import drawing
from lbcheck.report.figures.figure import Figure
from lbcheck.report.figures.figure import competitive
from lbcheck.report.figures.figure import limits
from lbcheck.report.figures.figure import part_panels
from lbcheck.report.figures.figure import short
from lbcheck.report.tables import metric


def differences(view) -> Figure:
    """Each difference that is judged, with what makes it uncertain."""
    rows = view.tables["differences"]
    panels = []
    if rows:
        panel = drawing.Panel(
            "difference",
            "How much better each challenger is than each baseline; the "
            "numbers are in the table differences of results.json.",
            horizontal=f"lead of the challenger in {rows[0]['part']} "
            f"{view.metric}",
        )
        _draw_differences(view, panel.axes, rows)
        panels.append(panel.svg())
    return Figure(
        "The difference and what makes it uncertain",
        "How much better each challenger is (point). Thick: the interval over "
        "the seeds. Thin: with the choice of the test examples as well, where "
        "runs say how well they did on which. Dotted below: where the lead "
        "lies in 90 % of searches with half of the trials, by the metric of "
        'the first search. The band is the margin: "not needed" ends before '
        'its right edge; for "needed" ranks and means must both be beyond it '
        "with an error of 5 %, where the interval's means have 1 %.",
        panels,
        [],
    )


def _draw_differences(view, axes, rows):
    margin = min(row["margin"] for row in rows)
    axes.axvspan(
        -margin, margin, color=drawing.RULE, alpha=0.55, linewidth=0, zorder=0
    )
    axes.axvline(0, color=drawing.MUTED, linewidth=0.8)
    for place, row in enumerate(rows):
        color = view.line(row["arm"])["color"]
        for low, high, width in (
            ("low", "high", 1.2),
            ("seeds_low", "seeds_high", 4.5),
        ):
            if None not in (row[low], row[high]):
                axes.plot(
                    [row[low], row[high]],
                    [-place] * 2,
                    color=color,
                    linewidth=width,
                    solid_capstyle="butt",
                )
        if row["search_low"] is not None:
            axes.plot(
                [row["search_low"], row["search_high"]],
                [-place - 0.25] * 2,
                color=color,
                linewidth=1.2,
                linestyle=":",
            )
        axes.plot(row["difference"], -place, "o", color=drawing.INK)
    names = [f"{short(r['arm'])} – {short(r['other_arm'])}" for r in rows]
    _name_rows(axes, names)
    shown = [
        row[end]
        for row in rows
        for end in ("low", "high", "difference")
        if row[end] is not None
    ]
    axes.set_xlim(*limits([*shown, -margin, margin]))


def _name_rows(axes, names):
    """Names at the left, from top to bottom, with room for the longest."""
    places = [-place for place in range(len(names))]
    axes.set_yticks(places, names)
    axes.set_ylim(places[-1] - 0.5, 0.5)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    left = 0.05 + 0.0185 * max(len(name) for name in names)
    axes.set_position((left, 0.16, 0.97 - left, 0.74))


def seeds(view) -> Figure:
    """Box and points of each arm over its seeds."""
    reference = _reference(view, view.study["parts"][0])
    band = (
        " The band is the margin to both sides of the best baseline's median: "
        "a challenger's median inside it makes no difference that matters."
        if reference and _margin(view, reference) is not None
        else ""
    )
    target = view.study.get("target")
    dotted = "" if target is None else f" Dotted: the target, {metric(target)}."
    return Figure(
        "Seeds",
        f"{_points(view)}, box from quartile to quartile, line at the median, "
        f"whiskers to the extremes.{view.lost('box')}{band}{dotted}",
        part_panels(
            view,
            "boxes",
            "seeds",
            functools.partial(_draw_box, view),
            view.metric,
            "Box plots over seeds",
            vertical="",
            finish=functools.partial(_finish_boxes, view),
        ),
        [],
    )


def _points(view):
    """What a point is."""
    if view.tables["searches"]:
        return (
            "Each arm's result in each of several searches, the mean over "
            "fresh seeds of its best setting: one point a search"
        )
    return (
        "Each arm's best setting, run again with fresh seeds: one point a seed"
    )


def _draw_box(view, axes, arm, rows):
    (box,) = rows
    place = -view.arms.index(arm)
    color = view.line(arm)["color"]
    axes.barh(
        place,
        box["quartile_3"] - box["quartile_1"],
        left=box["quartile_1"],
        height=0.42,
        color=color,
        alpha=0.2,
    )
    for end, quartile in (("least", "quartile_1"), ("most", "quartile_3")):
        axes.plot(
            [box[end], box[quartile]], [place] * 2, color=color, linewidth=1
        )
    axes.plot(
        [box["median"]] * 2,
        [place - 0.21, place + 0.21],
        color=color,
        linewidth=2.4,
        solid_capstyle="butt",
    )
    values = [
        row["metric"]
        for row in view.rows("seeds", arm=arm, part=box["part"])
        if row["metric"] is not None
    ]
    # Spread by the golden ratio: even, and the same each time.
    offsets = (np.arange(len(values)) * 0.6180339887) % 1 * 0.3 - 0.15
    axes.plot(
        values,
        place + offsets,
        "o",
        color=color,
        markersize=3.2,
        alpha=0.75,
        markeredgewidth=0,
    )


def _finish_boxes(view, axes, part):
    _name_rows(axes, [short(arm) for arm in view.arms])
    _draw_margin(axes, view, part)
    _draw_target(axes, view, part)


def _reference(view, part):
    """The box of the best baseline."""
    boxes = [
        row
        for row in view.rows("boxes", part=part)
        if view.is_on("baseline", row["arm"])
    ]
    return max(boxes, key=lambda b: view.sign * b["median"], default=None)


def _margin(view, reference):
    """The verdict's margin against a baseline; None without one."""
    match = {"part": reference["part"], "other_arm": reference["arm"]}
    for row in view.rows("pairs", **match):
        return row["margin"]
    return None


def _draw_margin(axes, view, part):
    reference = _reference(view, part)
    margin = _margin(view, reference) if reference else None
    if margin is not None:
        axes.axvspan(
            reference["median"] - margin,
            reference["median"] + margin,
            color=drawing.RULE,
            alpha=0.55,
            linewidth=0,
            zorder=0,
        )


def _draw_target(axes, view, part):
    target = view.study.get("target")
    if target is not None and part == view.study["parts"][0]:
        axes.axvline(target, color=drawing.INK, linewidth=1, linestyle=":")


def schedules(view) -> Figure:
    """The learning rates of the best trials: Nado et al. 2021, Figure 1."""
    panels = []
    arms = [arm for arm in view.arms if view.rows("schedules", arm=arm)]
    for name, title, logarithmic in (
        ("relative", "Rate over its peak", ""),
        ("rate", "Rate", "y"),
    ):
        drawn = {}
        for arm in arms:
            rows = view.rows("schedules", arm=arm)
            rates = np.array([row["learning_rate"] for row in rows])
            if name == "relative":
                rates = rates / (rates.max() or 1.0)
            else:
                # A logarithm has no zero; a rate a millionth of the peak
                # says nothing either.
                rates = np.where(rates > 1e-4 * rates.max(), rates, np.nan)
            if np.isfinite(rates).any():
                drawn[arm] = [row["step"] for row in rows], rates
        if not drawn:
            continue
        panel = drawing.Panel(
            f"schedules-{name}",
            f"Learning rate over the steps for {', '.join(drawn)}; the numbers "
            "are in the table schedules of results.json.",
            title=title,
            horizontal="step",
            vertical="learning rate" + " / peak" * (name == "relative"),
            logarithmic=logarithmic,
        )
        for arm, (steps, rates) in drawn.items():
            panel.axes.plot(steps, rates, **view.line(arm))
        panels.append(panel.svg())
    found = view.tables["findings"]
    errors = sum(row["severity"] == "error" for row in found)
    said = (
        "the schedule doctor finds nothing wrong"
        if not errors
        else f"the schedule doctor finds {errors} "
        + ("error" if errors == 1 else "errors")
        + ", listed below"
    )
    return Figure(
        "Learning rate schedules",
        "The schedule of each arm's best setting, over its peak (left) and as "
        f"it is (right, logarithmic); {said}.",
        panels,
        view.keys("schedules"),
        "These records hold no learning rates: an earlier version of lbcheck "
        "wrote them. A study that is run again has this figure."
        if view.tables["seeds"] and view.tables["budget"]
        else "",
    )


def curves(view) -> Figure:
    """The metric over the steps of the confirmation runs."""

    def draw_arm(axes, arm, rows):
        steps = [row["step"] for row in rows]
        axes.plot(steps, [row["median"] for row in rows], **view.line(arm))
        axes.fill_between(
            steps,
            [row["least"] for row in rows],
            [row["most"] for row in rows],
            color=view.line(arm)["color"],
            alpha=0.13,
            linewidth=0,
        )

    def finish(axes, part):
        rows = view.rows("curves", part=part)
        ends = [row[end] for row in rows for end in ("least", "most")]
        axes.set_ylim(*competitive(ends, view.sign, False))

    of_searches = bool(view.tables["searches"])
    return Figure(
        "Training curves",
        "Median over the seeds (line) and their range (band) at each "
        "evaluation; what is far from the best is cut off. Training is "
        "evaluated on examples of the training set, as validation is: an arm "
        "that leads there but not on validation optimizes better and "
        f"generalizes no better.{'' if of_searches else view.lost('line')}",
        part_panels(
            view,
            "curves",
            "curves",
            draw_arm,
            "step",
            "Curves over the steps",
            finish=finish,
        ),
        view.keys("curves"),
    )
