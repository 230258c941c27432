"""Trajectories: a reference stepped through a problem, and distances.

A problem is (weights, gradients of each update, rate of each update).
"""

import numpy as np


def run_reference(function, problem, treatments, counts=None, **arguments):
    """Weights after each update by a float64 reference.

    Args:
        function: One of `reference.py`.
        problem: (weights, gradients, rates).
        treatments: (whether it decays, whether it takes a trust ratio) of
            each variable.
        counts: Number of each update, from 1; None: 1, 2, 3, ...
        **arguments: Hyperparameters and switches of the function.
    """
    weights, gradients, rates = problem
    current = [np.float64(weight) for weight in weights]
    states = [{} for _ in weights]
    trajectory = []
    for step, rate in enumerate(rates):
        current = [
            function(
                weight,
                np.float64(gradient),
                state,
                rate,
                step + 1 if counts is None else counts[step],
                decays,
                adapts,
                **arguments,
            )
            for weight, gradient, state, (decays, adapts) in zip(
                current, gradients[step], states, treatments
            )
        ]
        trajectory.append(current)
    return trajectory


def finite(difference: float) -> float | None:
    """A difference for JSON, which has no infinity: None stands for it."""
    return float(difference) if np.isfinite(difference) else None


def distance(weights, exact, start) -> float:
    """Largest difference over all variables, relative to the movement.

    Where nothing is to move, 0 if nothing did, else infinite; so it is where a
    weight is no number.
    """
    found = []
    for a, b, c in zip(weights, exact, start):
        far = np.abs(np.float64(a) - b).max()
        moved = np.abs(b - np.float64(c)).max()
        if np.isnan(far):
            far = np.inf
        found.append(far / moved if moved else (np.inf if far else 0.0))
    return max(found)
