"""Figures of schedules: exact formulas with the published settings."""

from typing import Any

import numpy as np

from lbcheck import published
from lbcheck import schedules
from lbcheck.figures.content import Drawn
from lbcheck.figures.content import Line
from lbcheck.figures.content import Panel

_POINTS = 400
_LENGTHS: dict[str, Any] = {
    "warmup_steps": 706,
    "total_steps": 2512,
    "decay_power": 2.0,
}
_TABLE_5 = {
    "LARS": schedules.PolynomialWarmupDecay(
        initial_rate=0.0,
        peak_rate=29.0,
        final_rate=1e-4,
        warmup_power=1.0,
        **_LENGTHS,
    ),
    "Nesterov (B)": schedules.PolynomialWarmupDecay(
        initial_rate=0.0,
        peak_rate=7.05,
        final_rate=6e-6,
        warmup_power=2.0,
        **_LENGTHS,
    ),
}
"""Nado et al. 2021, Table 5."""


def relative_to_peak() -> Drawn:
    """LARS's and Nesterov B's schedule over their peaks: Table 5's settings.

    Source: Nado et al. 2021, Figure 1.
    """
    marks = [
        _line(name, schedule, _steps(schedule), schedule.peak_rate)
        for name, schedule in _TABLE_5.items()
    ]
    said = (
        "Apart from the peaks (29.0 and 7.05) and the final rates, only the "
        "power of the warm-up differs: 1 for LARS, 2 for Nesterov."
    )
    return Drawn(
        [Panel("", "step (updates completed)", "rate / peak rate", marks)],
        [said],
    )


def sudden_drop() -> Drawn:
    """BERT's original schedule, whose decay runs while warm-up overrides it.

    Source: Nado et al. 2021, Figure 2, with phase 1 at batch 32,768 of
    Table 7.
    """
    row = published.load("nado2021_table7")["rows"][0]
    peak, warmup = row["learning_rate"], row["warmup_steps"]
    total = row["steps"]
    original = schedules.Warmup(
        schedules.Linear(peak, total), warmup, target_rate=peak, shift=False
    )
    fixed = schedules.Warmup(schedules.Linear(peak, total - warmup), warmup)
    steps = np.union1d(
        np.linspace(0, total, _POINTS).round().astype(int),
        [warmup - 1, warmup],
    )
    drop = 1 - original(warmup) / peak
    return Drawn(
        [
            Panel(
                "",
                "step (updates completed)",
                "learning rate",
                [
                    _line("original code", original, steps),
                    _line("without the drop", fixed, steps),
                ],
            )
        ],
        [
            f"Phase 1 at batch 32,768: peak {peak:g}, {warmup:,} steps of "
            f"warm-up of {total:,}. When warm-up ends the original code's rate "
            f"falls by {drop:.1%} within one update."
        ],
    )


def correction_as_warmup() -> Drawn:
    """What bias correction makes of a constant rate, beside a warm-up.

    Source: You et al. 2019, Appendix E and Figure 2; see
    `schedules.BiasCorrected` for the root.
    """
    correction = schedules.BiasCorrected(schedules.Constant(1.0), 0.9, 0.999)
    warmup = schedules.Warmup(schedules.Constant(1.0), 3125)
    steps = np.unique(np.geomspace(1, 20_000, _POINTS).round().astype(int)) - 1
    counts = (steps + 1).tolist()
    marks = [
        Line(label, counts, schedule(steps).tolist())
        for label, schedule in (
            ("bias correction, beta 0.9 and 0.999", correction),
            ("linear warm-up of 3,125 steps (BERT, batch 32,768)", warmup),
        )
    ]
    least = int(np.argmin(correction(steps)))
    return Drawn(
        [
            Panel(
                "",
                "update",
                "factor of the learning rate",
                marks,
                "x",
            )
        ],
        [
            "sqrt(1 - beta_2^t) / (1 - beta_1^t), which bias correction "
            f"multiplies the rate by: {correction(0):.3f} at the first update, "
            f"{correction(steps[least]):.3f} at update {counts[least]}, its "
            f"least, and {correction(3124):.3f} at update 3,125."
        ],
    )


def _steps(schedule):
    steps = np.linspace(0, schedule.total_steps, _POINTS)
    return np.unique(steps.round().astype(int))


def _line(label, schedule, steps, peak=1.0):
    return Line(label, steps.tolist(), (schedule(steps) / peak).tolist())
