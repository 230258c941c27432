"""Trajectories: a reference stepped through a problem, and distances.

A problem is (weights, gradients of each update, rate of each update).
"""

import numpy as np


def run_reference(function, problem, treatments, **arguments):
    """Weights after each update by a float64 reference.

    Args:
        function: One of `reference.py`.
        problem: (weights, gradients, rates).
        treatments: (whether it decays, whether it takes a trust ratio) of
            each variable.
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
                step + 1,
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


def distance(weights, exact, start) -> float:
    """Largest difference over all variables, relative to the movement."""
    return max(
        np.abs(np.float64(a) - b).max() / np.abs(b - np.float64(c)).max()
        for a, b, c in zip(weights, exact, start)
    )
