"""Problems on which a bound is nearly reached, so that it is not vacuous."""

import numpy as np

from lbcheck.theory import constants as _constants
from lbcheck.theory.constants import Constants
from lbcheck.theory.problem import Problem

WORST_CASES = ("sgd", "lars", "lamb_0", "lamb", "adam")
"""The algorithms; `lamb_0` is LAMB with beta_2 = 0, `lamb` above it."""

_LAYERS = 3
_BETA_2 = 1e-3
"""Small, for the bound of beta_2 above 0 has 1 / sqrt(1 - beta_2)."""


def _quadratic(layer_size, noise=0.0):
    """The quadratic part of Huber's function, from the same x everywhere."""
    ones = np.ones((_LAYERS, layer_size))
    return Problem("huber", ones, noise * ones, ones)


def _slope(steps):
    """A line that takes half of the steps, and the valley at its end."""
    return Problem("huber", [[1.0]], [[0.0]], [[steps / 2]])


def worst_case(algorithm: str, steps: int) -> tuple[Problem, Constants]:
    """A problem and a run that come near to the bound of an algorithm.

    `measure` finds, as a fraction of the bound with many steps,

        sgd     1     a quadratic with noise and b = 1: after one step grad f
                      is the noise
        lars    1     a quadratic without noise: sqrt(T) steps into the
                      valley, the rest of them from side to side
        lamb_0  1     the same, for LAMB with beta_2 = 0
        lamb    0.66  a line without noise, whose slope is G, and the valley
                      at its end; beta_2 = 0.001
        adam    0.66  the same with beta_2 = 0

    Args:
        algorithm: One of these.
        steps: T, at least 1; no square number, from which LARS and LAMB would
            reach the minimum itself.

    Returns:
        The problem and its constants, for `measure`.

    Raises:
        TypeError, ValueError: An argument outside its range; names it.

    Example:
        >>> from lbcheck import theory
        >>> problem, known = worst_case("lars", 1000)
        >>> print(round(theory.measure(problem, "lars", known).ratio, 4))
        0.9999
    """
    _constants.check_choice("worst_case", "algorithm", algorithm, WORST_CASES)
    steps = _constants.check_count("worst_case", "steps", steps)
    if algorithm in ("lamb", "adam"):
        problem = _slope(steps)
    else:
        problem = _quadratic(
            layer_size=1 if algorithm == "lars" else 2,
            noise=0.5 if algorithm == "sgd" else 0.0,
        )
    beta_2 = _BETA_2 if algorithm == "lamb" else 0.0
    return problem, problem.constants(steps, batch_size=1, beta_2=beta_2)
