"""The algorithms of the theorems on a problem whose constants are known."""

import dataclasses
import math

import numpy as np

from lbcheck.theory import bounds
from lbcheck.theory import constants as _constants
from lbcheck.theory.bounds import Bound
from lbcheck.theory.constants import Constants
from lbcheck.theory.problem import Problem

ALGORITHMS = {
    "sgd": bounds.sgd,
    "lars": bounds.lars,
    "lamb": bounds.lamb,
    "adam": bounds.adam,
}
"""{name: the function that bounds it}."""


@dataclasses.dataclass(frozen=True)
class Measurement:
    """A bound beside what was measured.

    Attributes:
        bound: What the theorem says.
        left_side: The mean over the runs, in the unit of the bound.
        standard_error: Of `left_side`, by the spread of the runs.
    """

    bound: Bound
    left_side: float
    standard_error: float

    @property
    def ratio(self) -> float:
        """Left side over bound: at most 1, and the nearer the tighter."""
        return self.left_side / self.bound.value


def measure(
    problem: Problem,
    algorithm: str,
    constants: Constants,
    runs: int = 32,
    seed: int = 0,
    learning_rate: float | None = None,
) -> Measurement:
    """Runs an algorithm of the theorems and measures what its bound is about.

    All in float64, beta_1 = 0, weight_decay = 0, epsilon = 0 and, in LARS and
    LAMB, phi(z) = min(max(z, alpha_l), alpha_u).

    Args:
        problem: What is minimized.
        algorithm: "sgd", "lars", "lamb" or "adam".
        constants: Those of the problem, by `problem.constants(...)`, or any
            that hold for it.
        runs: Independent runs, at least 2.
        seed: Of the generator, which is its own.
        learning_rate: As the algorithm's bound takes it.

    Returns:
        The measurement; the same arguments give the same numbers.

    Raises:
        TypeError, ValueError: An argument outside its range; names it.

    Example:
        >>> problem = Problem("huber", [[1.0]], [[0.5]], [[1.0]])
        >>> known = problem.constants(steps=100, batch_size=1)
        >>> found = measure(problem, "sgd", known)
        >>> print(round(found.left_side, 4), round(found.bound.value, 4))
        0.2575 0.26
    """
    _constants.check_choice("measure", "algorithm", algorithm, ALGORITHMS)
    runs = _constants.check_count("measure", "runs", runs, least=2)
    seed = _constants.check_count("measure", "seed", seed, least=0)
    bound = ALGORITHMS[algorithm](constants, learning_rate)
    rng = np.random.default_rng(seed)
    x = np.repeat(problem.start[None], runs, axis=0)
    moment, total = np.zeros_like(x), np.zeros(runs)
    for step in range(1, constants.steps + 1):
        total += bound.left_side.of_gradient(problem.gradient(x))
        gradient = problem.batch_gradient(x, constants.batch_size, rng)
        moment += (1 - constants.beta_2) * (gradient**2 - moment)
        second = moment / (1 - constants.beta_2**step)
        x = x - bound.learning_rate * _update(
            algorithm, constants, x, gradient, second
        )
    return _measurement(bound, total / constants.steps)


def _update(algorithm, constants, x, gradient, second):
    """What the learning rate is multiplied by."""
    if algorithm in ("lamb", "adam"):
        gradient = _over(gradient, np.sqrt(second))
    if algorithm in ("lars", "lamb"):
        phi = np.clip(_norms(x), constants.alpha_l, constants.alpha_u)
        gradient = phi * _over(gradient, _norms(gradient))
    return gradient


def _norms(array):
    """The norm of each layer."""
    return np.linalg.norm(array, axis=-1, keepdims=True)


def _over(array, divisor):
    """A quotient that is 0 where both are."""
    divisor = np.broadcast_to(divisor, array.shape)
    return np.divide(
        array, divisor, out=np.zeros_like(array), where=divisor > 0
    )


def _measurement(bound, by_run):
    power, mean = bound.left_side.power, by_run.mean()
    error = by_run.std(ddof=1) / math.sqrt(len(by_run))
    slope = power * mean ** (power - 1)
    return Measurement(bound, float(mean**power), float(slope * error))
