"""The spread of fine-tuning from one checkpoint: numbers, table, figure."""

import json
import pathlib

import numpy as np

from lbcheck.schedules import figures
from lbcheck.support import files
from lbcheck.verdict import statistics

METRICS = ("exact_match", "f1")

RECORD = "stability.json"


def summary(scores: dict[int, dict[str, float]]) -> dict:
    """The box of each metric over the runs.

    Args:
        scores: {seed: scores of its run}.

    Returns:
        {metric: {"values": in the order of the seeds, "median",
        "median_interval": [low, high] at 95 % or None (fewer than 6 runs),
        "quartiles", "min", "max", "mean", "standard_deviation" (of one run,
        None for a single one)}}.

    Example:
        >>> summary({0: {"exact_match": 1.0, "f1": 2.0}})["f1"]["median"]
        2.0

    Source: Nado et al. 2021, Figure 3.
    """
    return {m: _box([s[m] for s in scores.values()]) for m in METRICS}


def _box(values):
    interval = statistics.median_interval(values)
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {
        "values": values,
        "median": statistics.median(values),
        "median_interval": list(interval) if interval else None,
        "quartiles": np.quantile(values, [0.25, 0.75]).tolist(),
        "min": min(values),
        "max": max(values),
        "mean": float(np.mean(values)),
        "standard_deviation": spread,
    }


def lines(boxes: dict, runs: int) -> list[str]:
    """What `summary` returned, as text."""
    told = [f"{runs} runs"]
    for metric, box in boxes.items():
        interval = box["median_interval"]
        between = (
            f"95 % interval {interval[0]:.2f} to {interval[1]:.2f}"
            if interval
            else "no 95 % interval below 6 runs"
        )
        low, high = box["quartiles"]
        told.append(
            f"{metric}: median {box['median']:.2f} ({between}), quartiles "
            f"{low:.2f} to {high:.2f}, all {box['min']:.2f} to "
            f"{box['max']:.2f}"
        )
    return told


def write(folder, scores: dict[int, dict[str, float]]) -> list[str]:
    """Writes stability.json, .png and .svg into `folder`; the text lines."""
    boxes = summary(scores)
    record = {"seeds": list(scores), **boxes}
    text = json.dumps(record, indent=2) + "\n"
    files.write_text(pathlib.Path(folder) / RECORD, text)
    draw(boxes, folder)
    return lines(boxes, len(scores))


def draw(boxes: dict, folder) -> None:
    """Draws one box per metric, with every run as a point."""
    figure, axes = figures.new_axes("Fine-tuning from one checkpoint", "%")
    axes.boxplot(
        [box["values"] for box in boxes.values()],
        whis=(0, 100),  # to the furthest run: all are drawn
        showfliers=False,
    )
    for place, box in enumerate(boxes.values(), 1):
        count = len(box["values"])
        axes.plot([place] * count, box["values"], "o", alpha=0.5)
    axes.set_xticks(range(1, len(boxes) + 1), list(boxes))
    axes.set_xlabel("")
    figures.save_both(figure, folder, "stability")
