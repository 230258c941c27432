"""The learning rates of a trial for its record, from which reports draw."""

import math

import numpy as np

from lbcheck import schedules
from lbcheck.support import checks

_MOST_STEPS = 200
_LEAST_EXAMINED = 4
"""Updates that the schedule doctor needs."""


def describe(schedule, steps: int, hyperparameters: dict) -> dict:
    """Rates at up to 200 steps, and what the schedule doctor says of all.

    Args:
        schedule: Function step -> rate.
        steps: Updates of the run, at least 1.
        hyperparameters: The trial's hyperparameters; "learning_rate" and
            "warmup_steps", where given, are what the schedule should do.

    Returns:
        {"steps", "rates", "findings"}, JSON-able; see `formats.Schedule`.

    Example:

        describe(arm.schedule_of(point, 100), 100, point)["rates"]
    """
    shown = np.linspace(0, steps - 1, min(steps, _MOST_STEPS)).round()
    shown = np.unique(shown).astype(int).tolist()
    rates = [float(schedule(step)) for step in shown]
    return {
        "steps": shown,
        "rates": [rate if math.isfinite(rate) else None for rate in rates],
        "findings": _findings(schedule, steps, hyperparameters),
    }


def _findings(schedule, steps, hyperparameters):
    if steps < _LEAST_EXAMINED:
        return []
    peak = hyperparameters.get("learning_rate")
    warmup = hyperparameters.get("warmup_steps")
    examination = schedules.examine(
        schedule,
        steps,
        # A schedule of the user's may mean other things by these names.
        peak_rate=peak if _is_in(peak, float, 1e-300, 1e300) else None,
        warmup_steps=warmup if _is_in(warmup, int, 0, steps) else None,
    )
    return [
        {
            key: getattr(finding, key)
            for key in ("step", "severity", "code", "size", "what", "fix")
        }
        for finding in examination.findings
    ]


def _is_in(value, kind, low, high):
    return checks.is_number(value, (int, kind)) and low <= value <= high
