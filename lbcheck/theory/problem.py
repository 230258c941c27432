"""A problem whose constants are known exactly, for any number of layers."""

import dataclasses
from typing import Any

import numpy as np

from lbcheck.theory import constants as _constants
from lbcheck.theory.constants import Constants


def _huber(x):
    inside = np.clip(x, -1, 1)
    return inside * (x - inside / 2)


SHAPES = {
    "huber": (_huber, lambda x: np.clip(x, -1, 1)),
    "cosine": (lambda x: 1 - np.cos(x), np.sin),
}
"""{name: (u, its slope)}: slope and curvature within [-1, 1], both reached.

Huber's is convex: x^2 / 2 up to |x| = 1, a line from there on. 1 - cos(x) is
not convex.
"""

_LARGEST_BATCH = np.iinfo(np.int64).max
"""The most examples of which NumPy draws a sum."""


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    """A separable, L-smooth function with bounded noise, all on R^d.

        loss(x, s) = sum_j c_j u(x_j) + sigma~_j s_j x_j,   s_j = -1 or 1

    with equal chances, so that, exactly and for all x: f(x) = sum_j c_j
    u(x_j), f(x*) = 0, L_i is the largest c_j of layer i, the deviation of an
    example's gradient is sigma~_j, and G = max_j (c_j + sigma~_j).

    Args:
        shape: Which u, a key of `SHAPES`.
        curvature: c, shape (h, d/h), at least 0.
        deviations: sigma~, of the same shape, at least 0.
        start: x_1, of the same shape.

    Raises:
        TypeError, ValueError: An argument outside its range; names it.

    Example:
        >>> start = [[1.0, 3.0]]
        >>> problem = Problem("huber", [[1.0, 2.0]], [[0.5, 0.25]], start)
        >>> print(problem.value(problem.start), problem.gradient(problem.start))
        5.5 [[1. 2.]]
        >>> known = problem.constants(steps=10, batch_size=10)
        >>> print(known.smoothness, known.initial_gap, known.gradient_bound)
        [2.] 5.5 2.25
    """

    shape: str
    curvature: Any
    deviations: Any
    start: Any

    def __post_init__(self):
        _constants.check_choice("Problem", "shape", self.shape, SHAPES)
        for name in ("curvature", "deviations", "start"):
            value = getattr(self, name)
            array = _constants.check_array("Problem", name, value, "h", "d/h")
            object.__setattr__(self, name, array)
            if array.shape != self.curvature.shape:
                raise ValueError(
                    f"Problem: `{name}` must have the shape of `curvature`, "
                    f"{self.curvature.shape}, received {array.shape}."
                )
            if name != "start":
                _constants.check_not_negative("Problem", name, array)

    @classmethod
    def random(
        cls,
        shape: str,
        layers: int,
        layer_size: int,
        noise: float = 1.0,
        seed: int = 0,
    ) -> "Problem":
        """A problem whose layers differ.

        Curvatures are log-uniform in [0.1, 1] for a layer, times a uniform
        number in [0.5, 1] for each parameter.

        Args:
            shape: Which u, a key of `SHAPES`.
            layers: h, at least 1.
            layer_size: d/h, at least 1.
            noise: Deviations are uniform below this multiple of the curvature.
            seed: Of the generator, which is its own.

        Returns:
            The problem; x_1 is uniform in [-3, 3].

        Raises:
            TypeError, ValueError: An argument outside its range; names it.
        """
        owner = "Problem.random"
        size = (
            _constants.check_count(owner, "layers", layers),
            _constants.check_count(owner, "layer_size", layer_size),
        )
        noise = _constants.check_real(owner, "noise", noise, or_zero=True)
        seed = _constants.check_count(owner, "seed", seed, least=0)
        rng = np.random.default_rng(seed)
        curvature = 10 ** rng.uniform(-1, 0, (size[0], 1))
        curvature = curvature * rng.uniform(0.5, 1, size)
        deviations = noise * curvature * rng.uniform(0, 1, size)
        return cls(shape, curvature, deviations, rng.uniform(-3, 3, size))

    def value(self, x: np.ndarray) -> np.ndarray:
        """f at points (..., h, d/h)."""
        value, _ = SHAPES[self.shape]
        return np.sum(self.curvature * value(x), axis=(-2, -1))

    def gradient(self, x: np.ndarray) -> np.ndarray:
        """The gradient of f at points (..., h, d/h)."""
        _, slope = SHAPES[self.shape]
        return self.curvature * slope(x)

    def batch_gradient(
        self, x: np.ndarray, batch_size: int, rng: np.random.Generator
    ) -> np.ndarray:
        """The mean gradient of a fresh batch at each point (..., h, d/h).

        Raises:
            TypeError, ValueError: `batch_size` is no whole number of at least
                1, or too large to be drawn.
        """
        batch_size = _constants.check_count(
            "Problem.batch_gradient",
            "batch_size",
            batch_size,
            most=_LARGEST_BATCH,
        )
        ones = rng.binomial(batch_size, 0.5, x.shape)
        mean = 2 * (ones / batch_size) - 1
        return self.gradient(x) + self.deviations * mean

    def constants(self, steps: int, batch_size: int, **others) -> Constants:
        """What is known of the problem, and the settings of a run.

        Args:
            steps: T, updates.
            batch_size: b, examples of an update.
            **others: alpha_l, alpha_u and beta_2 of `Constants`.
        """
        return Constants(
            smoothness=self.curvature.max(axis=1),
            deviations=self.deviations,
            initial_gap=float(self.value(self.start)),
            steps=steps,
            batch_size=batch_size,
            gradient_bound=float((self.curvature + self.deviations).max()),
            **others,
        )
