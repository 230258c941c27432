"""A batch-size sweep as JSON, as a table and as a figure."""

import json
import math
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from lbcheck.instruments import sweep
from lbcheck.instruments.noise_scale import NoiseScale
from lbcheck.instruments.sweep import Curve
from lbcheck.instruments.sweep import Point
from lbcheck.schedules import figures
from lbcheck.support.text_table import text_table

FIGURE = "sweep"
OCTAVE = 2.0
"""The knee and the noise scale disagree where they are further apart."""


def result(
    points: Sequence[Point],
    curve: Curve | None,
    noise: NoiseScale | None,
    metric: str,
    target: float,
    own: int,
) -> dict[str, Any]:
    """What was found, JSON-able; None stands for what is not finite.

    Args:
        points: The best of each batch size.
        curve: The fit, if enough of them are usable.
        noise: The gradient-noise scale, if it was measured.
        metric: What was to reach the target.
        target: The target.
        own: Batch size of the workload.
    """
    sizes = [point.batch_size for point in sweep.usable(points)]
    within = curve is not None and sizes[0] <= curve.knee <= sizes[-1]
    aim = f"{metric} {target:g}"
    if curve is None:
        told = [_no_knee_sentence(sizes, aim)]
    else:
        told = [
            _knee_sentence(curve, aim, sizes, within),
            _own_sentence(curve, own),
        ]
    return {
        "metric": metric,
        "target": target,
        "batch_size": own,
        "place": curve and curve.place(own),
        "in_sweep": within,
        "sentences": [
            *told,
            *_left_out_sentences(points),
            *([_noise_sentence(curve, noise)] if noise else []),
        ],
        "knee": curve and _finite(curve._asdict()),
        "noise_scale": noise and _finite(noise._asdict()),
        "points": [
            p._asdict() | {"place": curve and curve.place(p.batch_size)}
            for p in points
        ],
    }


def text(found: dict[str, Any]) -> str:
    """The sentences and a table with a line a batch size."""
    knee = found["knee"]
    examples = knee and knee["examples"]
    rows = [
        [
            f"{p['batch_size']}",
            f"{p['reached']} of {p['trials']}",
            ("at most " if p["at_first"] else "") + _number(p["steps"]),
            _number(examples / p["batch_size"] if examples else None),
            p["place"] or "",
            _point(p["hyperparameters"]),
        ]
        for p in found["points"]
    ]
    columns = ["batch", "reached", "steps", "perfect", "", "best"]
    table = text_table(columns, rows, (0, 2, 3))
    return "\n".join([*found["sentences"], "", table])


def draw(found: dict[str, Any], folder) -> list[pathlib.Path]:
    """Writes sweep.png and sweep.svg: steps against batch, both logarithmic."""
    figure, axes = figures.new_axes(
        f"Steps to {found['metric']} {found['target']:g}", "steps"
    )
    axes.set(xlabel="batch size", xscale="log", yscale="log")
    sizes = [p["batch_size"] for p in found["points"]]
    axes.set_xticks(sizes, [f"{size}" for size in sizes])
    reached = [p for p in found["points"] if p["steps"] is not None]
    known = _drawn(axes, reached, False, "o", "best of a search")
    _drawn(axes, reached, True, "v", "at most")
    knee, noise = found["knee"], found["noise_scale"]
    if knee:
        across = np.geomspace(known[0], known[-1], 100)
        fitted = knee["least_steps"] + knee["examples"] / across
        axes.plot(across, fitted, color="tab:blue", label="fit")
        if knee["examples"]:
            perfect = knee["examples"] / across
            axes.plot(across, perfect, "k--", label="perfect scaling")
    for values, name, color, key in (
        (knee, "knee", "tab:blue", "knee"),
        (noise, "noise scale", "tab:orange", "value"),
    ):
        if values and values[key]:
            axes.axvline(values[key], color=color, linestyle=":", label=name)
            if values["high"]:
                axes.axvspan(
                    max(values["low"], sizes[0] / 4),
                    min(values["high"], sizes[-1] * 4),
                    color=color,
                    alpha=0.1,
                )
    axes.set_xlim(sizes[0] / 1.5, sizes[-1] * 1.5)
    if reached:
        steps = [p["steps"] for p in reached]
        axes.set_ylim(min(steps) / 2, max(steps) * 2)
        rungs = np.geomspace(min(steps), max(steps), 5)
        axes.set_yticks(rungs, [f"{rung:.3g}" for rung in rungs])
        axes.legend()
    axes.minorticks_off()
    return figures.save_both(figure, folder, FIGURE)


def _drawn(axes, reached, at_first, style, label):
    """Draws the points that are exact, or at most so; their batch sizes."""
    those = [p for p in reached if p["at_first"] is at_first]
    sizes = [p["batch_size"] for p in those]
    if those:
        steps = [p["steps"] for p in those]
        axes.plot(sizes, steps, style, color="tab:blue", label=label)
    return sizes


def _no_knee_sentence(sizes, aim):
    return (
        f"No knee is told from the steps to {aim}: it takes {sweep.LEAST} "
        "batch sizes that reach it after their first evaluation, and there "
        f"{'is' if len(sizes) == 1 else 'are'} {len(sizes)}."
    )


def _left_out_sentences(points):
    """Which points the knee is not told from, and why."""
    missed = [p.batch_size for p in points if p.steps is None]
    if missed:
        yield (
            f"No trial of {_batches(missed)} reached the target: give an "
            "easier --target, or more --examples."
        )
    first = [p.batch_size for p in points if p.at_first]
    if first:
        yield (
            f"Of {_batches(first)} the best trial had the target at its first "
            "evaluation: its steps are an upper bound, which no knee is told "
            "from. Give a harder --target."
        )


def _batches(sizes):
    several = "es" if len(sizes) > 1 else ""
    return f"batch{several} {', '.join(map(str, sizes))}"


def _knee_sentence(curve, aim, sizes, within):
    aim = f"Steps to {aim}"
    # An end of the fit that the other end of the sweep is not ruled out for.
    if (curve.knee == math.inf and curve.low < sizes[0]) or (
        curve.knee == 0 and curve.high > sizes[-1]
    ):
        return f"{aim} scatter too much to tell a knee ({_range(curve)})."
    if curve.knee == math.inf:
        return (
            f"{aim} fall in proportion over the whole sweep; the knee is above "
            f"{curve.low:.3g} (95 %)."
        )
    if curve.knee == 0:
        return (
            f"{aim} do not fall with the batch; the knee is below "
            f"{curve.high:.3g} (95 %)."
        )
    outside = (
        "" if within else f", outside the sweep of {sizes[0]} to {sizes[-1]}"
    )
    return (
        f"{aim}: the knee, where they are twice those of perfect scaling, is "
        f"at a batch of {curve.knee:.3g} ({_range(curve)}){outside}. Perfect "
        f"scaling takes {curve.examples:.3g} examples, and no batch fewer than "
        f"{curve.least_steps:.3g} updates."
    )


def _own_sentence(curve, own):
    words = {
        "inside": "inside perfect scaling: twice the batch needs about half "
        "the steps",
        "at the knee": "within the knee's interval",
        "beyond": "beyond perfect scaling: a larger batch saves few steps",
    }
    return f"The workload's batch of {own} is {words[curve.place(own)]}."


def _noise_sentence(curve, noise):
    told = (
        f"The gradient-noise scale is {noise.value:.3g} ({_range(noise)}), of "
        f"{noise.steps} steps with {noise.microbatches} microbatches of "
        f"{noise.microbatch_size}"
    )
    if curve is None:
        return f"{told}."
    pair = (curve.knee, noise.value)
    if not all(0 < number < math.inf for number in pair):
        return f"{told}; it cannot be compared with this knee."
    ratio = noise.value / curve.knee
    if max(ratio, 1 / ratio) <= OCTAVE:
        return f"{told}: within an octave of the knee."
    apart = noise.low > curve.high or noise.high < curve.low
    tail = "" if apart else ", though their intervals meet"
    return (
        f"{told}: it disagrees with the knee, which it is {ratio:.2g} times"
        f"{tail}."
    )


def _range(one):
    high = "infinity" if one.high == math.inf else f"{one.high:.3g}"
    return f"95 %: {one.low:.3g} to {high}"


def _finite(values):
    return {n: v if math.isfinite(v) else None for n, v in values.items()}


def _number(value):
    return "-" if value is None else f"{value:.4g}"


def _point(hyperparameters):
    if hyperparameters is None:
        return "-"
    return ", ".join(
        f"{name}={value:.3g}"
        if isinstance(value, float)
        else f"{name}={json.dumps(value)}"
        for name, value in hyperparameters.items()
    )
