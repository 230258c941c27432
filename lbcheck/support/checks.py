"""What counts as a number, and which numbers are finite."""

import numbers
from collections.abc import Callable
from collections.abc import Iterable
from typing import Any

import numpy as np


def is_number(value: Any, kind: Any = numbers.Real) -> bool:
    """Whether a value is a number of a kind; True and False are none.

    Args:
        value: Anything.
        kind: A class or several, such as numbers.Integral, or (int, float)
            where NumPy's numbers are to be left out.
    """
    return isinstance(value, kind) and not isinstance(value, bool)


def first_not_finite(
    variables: Iterable[Any], read: Callable[[Any], np.ndarray]
) -> Any:
    """The first variable with an element that is not finite; None if none has.

    Args:
        variables: Of any framework.
        read: Gives a variable's array.
    """
    return next((v for v in variables if not np.isfinite(read(v)).all()), None)
