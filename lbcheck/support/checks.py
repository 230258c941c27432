"""What counts as a number."""

import numbers
from typing import Any


def is_number(value: Any, kind: Any = numbers.Real) -> bool:
    """Whether a value is a number of a kind; True and False are none.

    Args:
        value: Anything.
        kind: A class or several, such as numbers.Integral, or (int, float)
            where NumPy's numbers are to be left out.
    """
    return isinstance(value, kind) and not isinstance(value, bool)
