"""A batch-size sweep as JSON, as a table and as a figure."""

import json
import math
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

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
    curve: Curve,
    noise: NoiseScale | None,
    metric: str,
    target: float,
    own: int,
) -> dict[str, Any]:
    """What was found, JSON-able; None stands for infinite.

    Args:
        points: The best of each batch size.
        curve: The fit.
        noise: The gradient-noise scale, if it was measured.
        metric: What was to reach the target.
        target: The target.
        own: Batch size of the workload.
    """
    return {
        "metric": metric,
        "target": target,
        "batch_size": own,
        "place": curve.place(own),
        "sentences": [
            _knee_sentence(curve, metric, target),
            _own_sentence(curve, own),
            *([_noise_sentence(curve, noise)] if noise else []),
        ],
        "knee": _finite(curve._asdict()),
        "noise_scale": noise and _finite(noise._asdict()),
        "points": [
            p._asdict() | {"place": curve.place(p.batch_size)} for p in points
        ],
    }


def text(found: dict[str, Any]) -> str:
    """The sentences and a table with a line a batch size."""
    examples = found["knee"]["examples"]
    rows = [
        [
            f"{p['batch_size']}",
            f"{p['reached']} of {p['trials']}",
            _number(p["steps"]),
            _number(examples / p["batch_size"] if examples else None),
            p["place"],
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
    known = [p for p in found["points"] if p["steps"] is not None]
    sizes = [p["batch_size"] for p in known]
    axes.set_xticks(sizes, [f"{size}" for size in sizes])
    axes.plot(sizes, [p["steps"] for p in known], "o", label="best of a search")
    across = np.geomspace(sizes[0], sizes[-1], 100)
    knee, noise = found["knee"], found["noise_scale"]
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
    steps = [p["steps"] for p in known]
    axes.set_ylim(min(steps) / 2, max(steps) * 2)
    rungs = np.geomspace(min(steps), max(steps), 5)
    axes.set_yticks(rungs, [f"{rung:.3g}" for rung in rungs])
    axes.minorticks_off()
    axes.legend()
    return figures.save_both(figure, folder, FIGURE)


def _knee_sentence(curve, metric, target):
    aim = f"Steps to {metric} {target:g}"
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
    return (
        f"{aim}: the knee, where they are twice those of perfect scaling, is "
        f"at a batch of {curve.knee:.3g} ({_range(curve)}). Perfect scaling "
        f"takes {curve.examples:.3g} examples, and no batch fewer than "
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
    return {n: None if v == math.inf else v for n, v in values.items()}


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
