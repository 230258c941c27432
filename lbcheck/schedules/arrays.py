"""The array namespaces that a schedule computes in, found from its inputs.

A schedule counts in integers and only then computes in floating point:
``T - t`` of two float32 numbers is exact to 2**24 only, and ``t / T`` close
to 1 keeps few digits of what is left. Python numbers and NumPy arrays
compute in float64; tensors of other frameworks in float32, or in float64
where the step is a float64 tensor. No framework is imported before one of
its tensors arrives.
"""

import importlib
import math
import numbers

import numpy as np


class Arrays:
    """What a schedule needs of a framework, written once over its module.

    Attributes:
        integer: The dtype that steps are counted in.
        real: The dtype of the rate.
    """

    def __init__(self, module, integer, real):
        self._module = module
        self.integer = integer
        self.real = real
        for name in ("where", "sin", "sqrt"):
            setattr(self, name, getattr(module, name))

    def convert(self, value, dtype=None):
        """`value` as an array, of `dtype` or in the dtype that it has."""
        return self._module.asarray(value, dtype=dtype)

    def cast(self, array, dtype):
        """`array` in another dtype."""
        return array.astype(dtype)

    def is_integer(self, array) -> bool:
        """Whether the array counts in whole numbers."""
        return np.dtype(array.dtype).kind in "iu"

    def is_bool(self, array) -> bool:
        """Whether the array holds truth values."""
        return np.dtype(array.dtype).kind == "b"

    def count(self, value):
        """A step or a number of steps: signed integers stay integers."""
        array = self.convert(unwrap(value))
        if self.is_bool(array):
            raise TypeError(
                "A step must be a number of updates of at least 0, received "
                f"{value!r}."
            )
        integer = self.is_integer(array)
        return self.cast(array, self.integer if integer else self.real)

    def subtract(self, left, right):
        """left - right in integers where both are."""
        left, right = self.count(left), self.count(right)
        if not (self.is_integer(left) and self.is_integer(right)):
            left, right = self.number(left), self.number(right)
        return left - right

    def number(self, value):
        """`value` in the dtype of the rate."""
        if isinstance(value, numbers.Number):
            # At once: by way of float32 a float64 would lose its digits.
            return self.convert(value, self.real)
        return self.cast(self.convert(unwrap(value)), self.real)

    def between(self, start, end, part):
        """start + (end - start) * part, exact at part 0 and at part 1."""
        return self.number(start) * (1.0 - part) + self.number(end) * part

    def maximum(self, left, right):
        """The larger of an array and a number or array."""
        return self._module.maximum(left, self._like(right, left))

    def minimum(self, left, right):
        """The smaller of an array and a number or array."""
        return self._module.minimum(left, self._like(right, left))

    def _like(self, value, array):
        return self.cast(self.convert(value), array.dtype)

    def power(self, base, exponent):
        """base ** exponent for a base of at least 0."""
        return base ** self.number(exponent)

    def one_minus_power(self, base, count):
        """1 - base**count, with no cancellation for a base close to 1."""
        return -self.expm1(count * self._log(base))

    def expm1(self, array):
        """exp(array) - 1."""
        return self._module.expm1(array)

    def _log(self, base):
        """Logarithm of a number in float64, of a variable as it is."""
        if isinstance(base, numbers.Number):
            return math.log(base) if base else -math.inf
        return self.log(self.number(base))

    def log(self, array):
        """Natural logarithm."""
        return self._module.log(array)


class TensorFlowArrays(Arrays):
    """The same names where TensorFlow has others."""

    def convert(self, value, dtype=None):
        return self._module.convert_to_tensor(value, dtype)

    def cast(self, array, dtype):
        return self._module.cast(array, dtype)

    def is_integer(self, array):
        return array.dtype.is_integer

    def is_bool(self, array):
        return array.dtype.is_bool

    def expm1(self, array):
        return self._module.math.expm1(array)

    def log(self, array):
        return self._module.math.log(array)


class TorchArrays(Arrays):
    """The same names where torch has others."""

    def cast(self, array, dtype):
        return array.to(dtype)

    def is_integer(self, array):
        return not (array.is_floating_point() or self.is_bool(array))

    def is_bool(self, array):
        return array.dtype == self._module.bool


class NumPyArrays(Arrays):
    """NumPy: refuses what can be seen to be no step."""

    def count(self, value):
        array = super().count(value)
        if not np.all(array >= 0):
            raise ValueError(
                "A step must be a number of updates of at least 0, received "
                f"{value!r}."
            )
        return array

    def subtract(self, left, right):
        # A difference may be negative, so it is no step to be checked.
        return np.asarray(left) - np.asarray(right)


NUMPY = NumPyArrays(np, np.int64, np.float64)


def unwrap(value):
    """The backend tensor of a Keras 3 variable; anything else as it is."""
    return value.value if root(value) == "keras" else value


def root(value) -> str:
    """The framework that an object belongs to; empty for plain numbers."""
    if isinstance(value, (numbers.Number, np.ndarray, np.generic)):
        return ""
    for klass in type(value).__mro__:
        package = klass.__module__.partition(".")[0]
        if package in ("tensorflow", "torch", "keras"):
            return package
        if package in ("jax", "jaxlib"):
            return "jax"
    return ""


def namespace(step, fields) -> Arrays:
    """The namespace for a step and the fields of a schedule.

    >>> namespace(3, (0.1, 100)).real.__name__
    'float64'
    """
    for value in (step, *fields):
        framework = root(value)
        if not framework:
            continue
        module = importlib.import_module(
            "jax.numpy" if framework == "jax" else framework
        )
        double = str(getattr(step, "dtype", "")).endswith("float64")
        double = double or "'float64'" in str(getattr(step, "dtype", ""))
        real = module.float64 if double else module.float32
        if framework == "tensorflow":
            return TensorFlowArrays(module, module.int64, real)
        if framework == "torch":
            return TorchArrays(module, module.int64, real)
        return Arrays(module, module.int32, real)
    return NUMPY
