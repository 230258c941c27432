"""Figures of final numbers: boxes of runs that differ by their seed, dots."""

from typing import Annotated

from msgspec import Meta
from typing_extensions import TypedDict

from lbcheck import published
from lbcheck.figures import sources
from lbcheck.figures.content import Box
from lbcheck.figures.content import Drawn
from lbcheck.figures.content import Panel
from lbcheck.figures.content import Rule
from lbcheck.report import results
from lbcheck.report.tables import interval
from lbcheck.report.tables import metric as shown
from lbcheck.support import schema

_STABILITY = "stability.json"


class _Scores(TypedDict):
    values: Annotated[list[schema.Number], Meta(min_length=1)]


class _Stability(TypedDict):
    f1: _Scores


def of_study(path) -> Drawn:
    """A box an arm, of its confirming runs; hit rates and the verdict.

    Args:
        path: Folder of a study, whose arms are constant or searched.

    Source: Nado et al. 2021, Figure 4, of 50 runs each.
    """
    folder = sources.study(path)
    found = results.collect(folder)
    facts, tables = found["study"], found["tables"]
    part = facts["parts"][0]
    name, target = facts["metric"]["name"], facts["target"]
    arms = [row for row in tables["arms"] if row["part"] == part]
    marks = [_box(row, tables["seeds"]) for row in arms]
    if not any(box.values for box in marks):
        raise ValueError(
            f"{path}: no arm has a confirming run that ended; expected a study "
            "of several seeds that is finished."
        )
    rules = [] if target is None else [Rule(f"target {target:g}", target)]
    return Drawn(
        [Panel("", "", f"{part} {name}", [*marks, *rules])],
        [
            *(_said(row, target) for row in arms),
            found["verdict"]["sentence"],
            _published_medians(),
        ],
    )


def _box(row, seeds):
    values = [
        run["metric"]
        for run in seeds
        if (run["arm"], run["part"]) == (row["arm"], row["part"])
        and run["metric"] is not None
    ]
    hits = "" if row["hits"] is None else f"{row['hits']} of {row['runs']} hits"
    return Box(row["arm"], values, hits, row["diverged"])


def _said(row, target):
    text = f"{row['arm']}: median {shown(row['median'])}"
    if found := interval(row["low"], row["high"]):
        text += f" {found}"
    if row["hits"] is not None:
        text += (
            f", {row['hits']} of {row['runs']} runs reach {target:g} "
            f"({row['hit_low']:.0%} to {row['hit_high']:.0%})"
        )
    if row["diverged"]:
        text += f", {row['diverged']} diverged"
    return f"{text}."


def _published_medians():
    rows = published.load("nado2021_figure4")["rows"]
    above, below = (
        ", ".join(r["name"] for r in rows if r["median_above_target"] == word)
        for word in ("yes", "no")
    )
    return (
        f"Published, 50 runs each on ImageNet: the median is above the target "
        f"of 75.9 % for {above}; below it for {below}."
    )


def fine_tuning(path) -> Drawn:
    """The F1 of fine-tuning runs from one checkpoint, a box a setting.

    Args:
        path: Folder that has folders of `bert.squad --num_seeds=6`, one for
            each setting, or is one.

    Source: Nado et al. 2021, Figure 3, of 6 runs each.
    """
    found = sources.below(path, _STABILITY)
    if not found:
        raise ValueError(
            f"{path}: no {_STABILITY} in it or below; expected the folders of "
            "`python -m bert.squad --num_seeds=6`, one for each setting."
        )
    boxes = [
        Box(label, schema.read(file / _STABILITY, _Stability)["f1"]["values"])
        for label, file in zip(sources.labels(path, found), found)
    ]
    said = [
        f"{box.label}: {len(box.values)} runs, F1 {min(box.values):.2f} to "
        f"{max(box.values):.2f}."
        for box in boxes
    ]
    return Drawn(
        [Panel("", "", "SQuAD v1.1 dev F1", boxes)],
        [*said, _published_f1()],
    )


def _published_f1():
    rows = published.load("nado2021_table3")["rows"]
    numbers = ", ".join(f"{r['adam_f1']} ({r['batch_size']})" for r in rows)
    return f"Published (Table 3, Adam): {numbers}."


def cifar10() -> Drawn:
    """Test accuracy of five optimizers, tuned: Table 6.

    Source: You et al. 2019, Figure 4 and Table 6.
    """
    rows = published.load("you2019_table6")["rows"]
    boxes = [Box(row["optimizer"], [row["test_accuracy"]]) for row in rows]
    return Drawn(
        [Panel("", "", "test accuracy", boxes)],
        [
            "DavidNet, batch 512, 24 epochs (Table 6): one number each, "
            "without a spread; the curves are only drawn in the paper."
        ],
    )
