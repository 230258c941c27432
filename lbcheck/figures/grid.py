"""Figures of a grid over learning rate and weight decay (or L2).

Source: Nado et al. 2021 (ICLR submission), Appendix D, Figures 6 to 12, with
10 x 10 settings of LARS and of Nesterov.
"""

import math
from typing import NamedTuple

import numpy as np

from lbcheck.figures import sources
from lbcheck.figures.content import Drawn
from lbcheck.figures.content import Line
from lbcheck.figures.content import Panel
from lbcheck.figures.content import Rule
from lbcheck.report.rows import search

_NEAR = 2.0
"""A decay within this factor stands for the one that is asked for."""


class Setting(NamedTuple):
    """A point of the grid; the error is None where it diverged."""

    rate: float
    decay: float
    error: float | None


def settings(path, part: str = "validation") -> dict[str, list[Setting]]:
    """{arm: its settings} of a study, by decay and rate.

    The error is 1 - accuracy, or the metric itself where a low one is better.

    Args:
        path: Folder of the study.
        part: "validation" or "training".

    Raises:
        ValueError: The study has another metric, or an arm has no decay.
    """
    described, records, _ = sources.study(path)
    metric = described["metric"]
    if metric["mode"] == "max" and "accuracy" not in metric["name"]:
        raise ValueError(
            f"{path}: expected a study of an accuracy, or of a metric that is "
            f"better when low, received {metric['name']!r}."
        )
    found: dict[str, list[Setting]] = {}
    for row in search.rates(described, records):
        if row["stage"] != "broad":
            continue
        if row["weight_decay"] is None:
            raise ValueError(
                f"{path}: arm {row['arm']!r} has no weight_decay or l2; "
                "expected a grid over it and learning_rate."
            )
        error = row[part]
        if error is not None and metric["mode"] == "max":
            error = 1 - error
        setting = Setting(row["learning_rate"], row["weight_decay"], error)
        found.setdefault(row["arm"], []).append(setting)
    if not found:
        raise ValueError(
            f"{path}: no trial with a learning_rate; expected a study with "
            '"points": "grid".'
        )
    return {arm: sorted(own) for arm, own in found.items()}


def fractions(path, part: str) -> Drawn:
    """Fraction of settings whose error is at most that across.

    A setting that diverged reaches nothing.
    """
    found = settings(path, part)
    greatest = max(
        (s.error for own in found.values() for s in own if s.error is not None),
        default=0.0,
    )
    lines, said = [], []
    for arm, own in found.items():
        errors = sorted(s.error for s in own if s.error is not None)
        up = [(number + 1) / len(own) for number in range(len(errors))]
        best = f"best error {errors[0]:.4g}, " if errors else ""
        said.append(
            f"{arm}: {len(own)} settings, {best}"
            f"{len(own) - len(errors)} diverged."
        )
        if errors:
            # No more are reached from the arm's worst to the plot's end.
            across, up = [*errors, greatest], [*up, up[-1]]
            lines.append(Line(arm, across, up, "steps"))
    panel = Panel(
        "", f"target {part} error", "fraction of settings", lines, "x"
    )
    return Drawn([panel], said)


def by_decay(path) -> Drawn:
    """The error of every setting, by its decay, shaded by its rate."""
    panels = []
    for arm, own in settings(path).items():
        rates = sorted({setting.rate for setting in own})
        best = _best(own)
        marks = [_with_rate(own, rate, rates) for rate in rates]
        marks.append(
            Line(
                "best rate of each",
                [setting.decay for setting in best],
                [setting.error for setting in best],
            )
        )
        lost = [setting.decay for setting in own if setting.error is None]
        if lost:
            marks.append(Line("diverged", lost, [None] * len(lost), "lost"))
        panels.append(
            Panel(arm, "weight decay or L2", "validation error", marks, "xy")
        )
    return Drawn(
        panels,
        [
            "One dot a setting, at its decay, shaded by learning rate; a cross "
            "at the upper edge diverged."
        ],
    )


def _with_rate(own, rate, rates):
    there = [s for s in own if s.rate == rate and s.error is not None]
    return Line(
        f"rate {rate:.3g}",
        [setting.decay for setting in there],
        [setting.error for setting in there],
        "dots",
        rates.index(rate) / max(1, len(rates) - 1),
    )


def _best(own):
    """The best setting of each decay, from weak to strong."""
    by_decay: dict[float, Setting] = {}
    for setting in own:
        if setting.error is None:
            continue
        best = by_decay.get(setting.decay)
        if best is None or setting.error < best.error:
            by_decay[setting.decay] = setting
    return [by_decay[decay] for decay in sorted(by_decay)]


def best_rates(path) -> Drawn:
    """The best learning rate of each decay, and how it depends on it."""
    lines, said, ends = [], [], {}
    for arm, own in settings(path).items():
        best = _best(own)
        tried = [setting.rate for setting in own]
        for end in (min(tried), max(tried)):
            ends.setdefault(end, []).append(arm)
        decays = [setting.decay for setting in best]
        rates = [setting.rate for setting in best]
        lines.append(Line(arm, decays, rates, "both"))
        above = [s for s in best if s.decay > 0 and s.rate > 0]
        if len(above) > 2:
            slope = np.polyfit(
                [math.log(s.decay) for s in above],
                [math.log(s.rate) for s in above],
                1,
            )[0]
            said.append(
                f"{arm}: best rate in proportion to decay^"
                f"{round(slope, 2) + 0.0:g}; at "
                f"{sum(r in (min(tried), max(tried)) for r in rates)} of "
                f"{len(rates)} decays it is the least or the greatest tried."
            )
    rules = [
        Rule(f"end of the rates tried ({', '.join(arms)})", end)
        for end, arms in ends.items()
    ]
    panel = Panel(
        "",
        "weight decay or L2",
        "best learning rate",
        [*lines, *rules],
        "xy",
    )
    meaning = (
        "The power is 0 where the best rate does not depend on the decay, as "
        "is published of LARS, and -1 where it is inversely proportional to "
        "it, as of Nesterov."
    )
    return Drawn([panel], [*said, meaning])


def at_decay(path, decay: float) -> Drawn:
    """Error against learning rate at the decay nearest to one.

    Raises:
        ValueError: No arm has a decay within a factor of two; names theirs.
    """
    marks, known = [], set()
    for arm, own in settings(path).items():
        decays = sorted({s.decay for s in own if s.decay > 0})
        known |= set(decays)
        near = min(
            decays, key=lambda d: abs(math.log(d / decay)), default=math.inf
        )
        if abs(math.log(near / decay)) > math.log(_NEAR):
            continue
        there = [s for s in own if s.decay == near]
        ended = [s for s in there if s.error is not None]
        label = f"{arm}, decay {near:.3g}"
        marks.append(
            Line(
                label, [s.rate for s in ended], [s.error for s in ended], "both"
            )
        )
        lost = [s.rate for s in there if s.error is None]
        if lost:
            marks.append(Line(label, lost, [None] * len(lost), "lost"))
    if not marks:
        raise ValueError(
            f"{path}: no setting has a weight decay or L2 within a factor of "
            f"{_NEAR:g} of {decay:g}; there are "
            f"{', '.join(f'{d:.3g}' for d in sorted(known)) or 'none'}."
        )
    panel = Panel("", "learning rate", "validation error", marks, "xy")
    return Drawn(
        [panel],
        [
            f"The decay nearest to {decay:g} of each arm; a cross at the upper "
            "edge is a setting that diverged."
        ],
    )
