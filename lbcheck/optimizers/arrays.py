"""The array namespace that a rule computes in, and its NumPy instance.

A namespace is any object with the functions of ``NumPyArrays`` below. Arrays
carry their own dtype; Python numbers take the dtype of the array they meet.
"""

import numpy as np

NORMS = ("l2", "l1", "linf")


class NumPyArrays:
    """NumPy in the dtype of its inputs: float64 makes it the reference."""

    sqrt = staticmethod(np.sqrt)
    square = staticmethod(np.square)
    abs = staticmethod(np.abs)
    sign = staticmethod(np.sign)
    log = staticmethod(np.log)
    expm1 = staticmethod(np.expm1)
    maximum = staticmethod(np.maximum)
    minimum = staticmethod(np.minimum)

    @staticmethod
    def where(condition, yes, no):
        """``np.where`` that drops the warnings of the branch not taken."""
        return np.where(condition, yes, no)

    @staticmethod
    def norm(array, kind="l2"):
        """Norm over the whole array, as a scalar; `kind` is one of NORMS."""
        order = {"l2": 2, "l1": 1, "linf": np.inf}[kind]
        return np.linalg.norm(np.ravel(array), order)


NUMPY = NumPyArrays()
