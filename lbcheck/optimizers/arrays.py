"""The array namespace that a rule computes in, and its NumPy instance.

A namespace is any object with the functions of ``NumPyArrays`` below. Arrays
carry their own dtype; Python numbers take the dtype of the array they meet.
"""

import functools

import numpy as np

NORMS = ("l2", "l1", "linf")


class NumPyArrays:
    """NumPy in the dtype of its inputs: float64 makes it the reference."""

    sqrt = staticmethod(np.sqrt)
    exp = staticmethod(np.exp)
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

    sum = staticmethod(np.sum)
    reshape = staticmethod(np.reshape)
    moveaxis = staticmethod(np.moveaxis)
    take = staticmethod(np.take)
    argsort = staticmethod(functools.partial(np.argsort, kind="stable"))
    matmul = staticmethod(np.matmul)

    @staticmethod
    def transposed(array):
        """The last two axes of a matrix, or of many, changed."""
        return np.swapaxes(array, -1, -2)

    @staticmethod
    def matrix_norm(array):
        """Norm over the last two axes, which stay, of length 1."""
        return np.sqrt(np.sum(np.square(array), (-2, -1), keepdims=True))

    @staticmethod
    def eigenvectors(matrix):
        """Columns of a symmetric matrix's basis, by falling eigenvalue."""
        return np.linalg.eigh(finite(np, matrix))[1][:, ::-1]

    @staticmethod
    def orthonormal(matrix):
        """Q of the matrix's QR decomposition."""
        return np.linalg.qr(matrix)[0]

    @staticmethod
    def cond(condition, yes, no):
        """yes() or no(), which return lists of like arrays."""
        return yes() if condition else no()


def has_16_bits(array) -> bool:
    """Whether an array or variable of any framework is float16 or bfloat16."""
    return "float16" in str(getattr(array, "dtype", ""))


def finite(library, matrix):
    """The matrix, or one that an algorithm ends with."""
    usable = library.all(library.isfinite(matrix))
    return library.where(usable, matrix, library.zeros_like(matrix))


NUMPY = NumPyArrays()
