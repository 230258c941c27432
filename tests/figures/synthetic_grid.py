"""A study of a 10 x 10 grid without any training, with a smooth response.

LARS's best learning rate is the same at every decay, Nesterov's is inversely
proportional to it, as Nado et al. 2021 (ICLR submission) find.
"""

import math
import pathlib

import numpy as np

from tests.report import synthetic_study

RATES = {
    "nesterov": np.geomspace(1e-2, 10, 10),
    "lars": np.geomspace(0.1, 100, 10),
}
DECAYS = np.geomspace(1e-5, 1e-2, 10)
DIVERGES = 2.4
"""Nesterov diverges where its rate is further above the best, in decades."""


def distance(arm, rate, decay):
    """Decades between a rate and the best one."""
    best = 10.0 if arm == "lars" else 1e-4 / decay
    return math.log10(rate / best)


def error(arm, rate, decay):
    """The error of a setting on validation; None where it diverged."""
    beyond = distance(arm, rate, decay)
    if arm == "nesterov" and beyond > DIVERGES:
        return None
    floor = 0.230 if arm == "lars" else 0.232
    return floor + 0.03 * beyond**2 + 0.004 * math.log10(decay / 3e-4) ** 2


def training_error(arm, rate, decay):
    """Of a setting that ended: Nesterov is ahead."""
    ahead = 0.04 if arm == "nesterov" else 0.01
    return error(arm, rate, decay) - ahead


def write(folder) -> pathlib.Path:
    """Writes the study; returns its folder."""
    study = synthetic_study.make_study(("nesterov", "lars"), 100, seeds=1)
    for arm, described in study["arms"].items():
        decay = "l2" if arm == "nesterov" else "weight_decay"
        described["space"] = {
            "points": "grid",
            "parameters": {
                "learning_rate": _grid(RATES[arm]),
                decay: _grid(DECAYS),
            },
        }
    points = [(r, d) for r in range(10) for d in range(10)]
    order = np.random.default_rng(0).permutation(len(points))
    records = [
        _record(study, arm, index, *points[number])
        for arm in study["arms"]
        for index, number in enumerate(order)
    ]
    return synthetic_study.write(folder, study, records)


def _grid(numbers):
    return {
        "min": numbers[0],
        "max": numbers[-1],
        "scale": "log",
        "count": len(numbers),
    }


def _record(study, arm, index, row, column):
    rate, decay = float(RATES[arm][row]), float(DECAYS[column])
    found = error(arm, rate, decay)
    record = {
        "arm": arm,
        "stage": "broad",
        "index": index,
        "seed": 0,
        "hyperparameters": {
            "learning_rate": rate,
            "l2" if arm == "nesterov" else "weight_decay": decay,
        },
        "status": "diverged" if found is None else "finished",
        "steps": 7 if found is None else study["steps"],
        "examples": 512,
        "seconds": 1.0,
        "bad": {"step": 7, "variable": None} if found is None else None,
        "metrics": None,
        "curve": [],
        "diagnostics": None,
    }
    if found is not None:
        record["metrics"] = {
            "validation": {"accuracy": 1 - found},
            "training": {"accuracy": 1 - training_error(arm, rate, decay)},
        }
    return record
