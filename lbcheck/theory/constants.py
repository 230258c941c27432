"""What the theorems assume to be known about a problem and a run."""

import dataclasses
import math
import reprlib
import sys
from collections.abc import Iterable
from typing import Any

import numpy as np

from lbcheck.support import checks


def check_choice(
    owner: str, name: str, value: Any, choices: Iterable[str]
) -> None:
    """Refuses what is none of the choices."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(
            f"{owner}: `{name}` must be one of {list(choices)}, received "
            f"{value!r}."
        )


def check_real(
    owner: str, name: str, value: Any, or_zero: bool = False
) -> float:
    """`value` as a float, refused unless finite and above 0, or 0 itself."""
    where = "of at least 0" if or_zero else "above 0"
    if not checks.is_number(value):
        raise TypeError(
            f"{owner}: `{name}` must be a number {where}, received {value!r} "
            f"of type {type(value).__name__}."
        )
    number = _as_float(value)
    if not 0 <= number <= sys.float_info.max or not (number or or_zero):
        raise ValueError(
            f"{owner}: `{name}` must be a finite number {where}, received "
            f"{reprlib.repr(value)}."
        )
    return number


def _as_float(value) -> float:
    """Infinite where it is larger than a float can hold."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def check_count(
    owner: str, name: str, value: Any, least: int = 1, most: float = math.inf
) -> int:
    """`value` as an int, refused unless whole and from `least` to `most`."""
    if not checks.is_number(value):
        raise TypeError(
            f"{owner}: `{name}` must be a whole number, received {value!r} "
            f"of type {type(value).__name__}."
        )
    number = _as_float(value)
    if not least <= number <= sys.float_info.max or number % 1:
        raise ValueError(
            f"{owner}: `{name}` must be a whole number of at least {least}, "
            f"received {reprlib.repr(value)}"
            f"{', more than a float can hold' if number == math.inf else ''}."
        )
    if value > most:
        raise ValueError(
            f"{owner}: `{name}` must be at most {most}, received {value!r}."
        )
    return int(value)


def check_array(owner: str, name: str, value: Any, *axes: str) -> np.ndarray:
    """A copy in float64 that cannot be written to.

    Args:
        owner: Who has it, for messages.
        name: Its name.
        value: Numbers, nested as deep as there are axes.
        *axes: The length of each, such as "h" and "d/h".

    Raises:
        ValueError: Not of this depth, empty, or with an element that is not
            a finite number.
    """
    try:
        array = np.array(value, np.float64)
    except (TypeError, ValueError):
        array = np.zeros(0)
    proper = array.ndim == len(axes) and array.size
    if not (proper and np.isfinite(array).all()):
        raise ValueError(
            f"{owner}: `{name}` must be an array of shape "
            f"({', '.join(axes)}) of finite numbers, received "
            f"{reprlib.repr(value)}."
        )
    array.flags.writeable = False
    return array


def check_not_negative(owner: str, name: str, array: np.ndarray) -> None:
    """Refuses an array with an element below 0."""
    if (array < 0).any():
        raise ValueError(
            f"{owner}: `{name}` must be at least 0, received {array.min():g} "
            f"among its elements."
        )


_ARRAYS = {"smoothness": ("h",), "deviations": ("h", "d/h")}


@dataclasses.dataclass(frozen=True, eq=False)
class Constants:
    """The constants of a problem and of a run that the bounds are made of.

    The objective is f(x) = E loss(x, s), of d parameters in h layers of d/h
    parameters each. Units: [f] is that of the loss, [x] that of a parameter.

    Args:
        smoothness: L_1 ... L_h, shape (h,), at least 0 and not all 0, in
            [f]/[x]^2, with, for all x and y,

                f(y) <= f(x) + <grad f(x), y - x>
                        + sum_i L_i/2 ||y_i - x_i||^2

            This is what every proof starts from. You et al. (Equation 2)
            derive it from ||grad_i f(x) - grad_i f(y)|| <= L_i ||x_i - y_i||,
            which says that the gradient of a layer depends on that layer
            alone: true of separable functions, and of no network with a
            hidden layer. Where layers interact, L_i that belong to one layer
            with the others held fixed are not enough: f = x_1 x_2 has L = 0.
        deviations: Standard deviation of the gradient of one example, for
            each parameter (sigma~), shape (h, d/h), at least 0, in [f]/[x].
            A layer's deviation (sigma) is the root of its sum of squares.
            Where only that is known, sigma_i / sqrt(d/h) for each parameter
            of the layer gives bounds that are no smaller.
        initial_gap: f(x_1) - f(x*), above 0, in [f].
        steps: T, updates, at least 1. The bounds are about x_1 ... x_T.
        batch_size: b, independent examples an update, at least 1. The
            theorems take b = T.
        gradient_bound: G, the most that the absolute value of an element of
            an example's gradient reaches, above 0, in [f]/[x]. Needed by
            LAMB with beta_2 above 0 and by Adam. (You et al. leave out the
            absolute value.)
        alpha_l: The least that phi(||x_i||) reaches, above 0, in [x]. With
            phi(z) = z there is none: a norm can come near 0.
        alpha_u: The most that phi(||x_i||) reaches, at least alpha_l.
        beta_2: Decay of the second moment, in [0, 1).

    Raises:
        TypeError, ValueError: An argument outside its range; names it.

    Example:
        >>> known = Constants([1.0, 3.0], [[3.0, 4.0], [0.0, 1.0]], 2.0, 10, 5)
        >>> print(known.layers, known.parameters, known.layer_deviations)
        2 4 [5. 1.]

    Source: You et al. 2019, Section 2; Nado et al. 2021, Appendix A.
    """

    smoothness: Any
    deviations: Any
    initial_gap: float
    steps: int
    batch_size: int
    gradient_bound: float | None = None
    alpha_l: float = 1.0
    alpha_u: float = 1.0
    beta_2: float = 0.999

    def __post_init__(self):
        for name, value in self._checked().items():
            object.__setattr__(self, name, value)
        if not self.smoothness.any():
            raise ValueError(
                "Constants: `smoothness` must be above 0 in one layer at "
                f"least, received {self.smoothness.tolist()}."
            )
        if len(self.deviations) != len(self.smoothness):
            raise ValueError(
                "Constants: `deviations` must have a row for each layer, "
                f"received {len(self.deviations)} rows and "
                f"{len(self.smoothness)} layers in `smoothness`."
            )
        if self.alpha_u < self.alpha_l:
            raise ValueError(
                "Constants: `alpha_l` must be at most `alpha_u`, received "
                f"alpha_l={self.alpha_l!r} and alpha_u={self.alpha_u!r}."
            )
        if not (checks.is_number(self.beta_2) and 0 <= self.beta_2 < 1):
            raise ValueError(
                "Constants: `beta_2` must be a number in [0, 1), received "
                f"{self.beta_2!r}."
            )

    def _checked(self):
        """{field: its value as it is kept}."""
        owner = "Constants"
        kept = {}
        for name, axes in _ARRAYS.items():
            kept[name] = check_array(owner, name, getattr(self, name), *axes)
            check_not_negative(owner, name, kept[name])
        for name in ("initial_gap", "alpha_l", "alpha_u"):
            kept[name] = check_real(owner, name, getattr(self, name))
        for name in ("steps", "batch_size"):
            kept[name] = check_count(owner, name, getattr(self, name))
        if self.gradient_bound is not None:
            name = "gradient_bound"
            kept[name] = check_real(owner, name, self.gradient_bound)
        return kept

    @property
    def layers(self) -> int:
        """The number of layers, h."""
        return self.deviations.shape[0]

    @property
    def parameters(self) -> int:
        """The number of parameters, d."""
        return self.deviations.size

    @property
    def layer_deviations(self) -> np.ndarray:
        """Standard deviation of each layer's gradient, sigma, (h,)."""
        return np.linalg.norm(self.deviations, axis=1)
