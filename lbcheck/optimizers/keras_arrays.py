"""`keras.ops` as the array namespace of a rule, for the jax and torch
backends; and how a rule is applied there."""

from keras import ops

from lbcheck.optimizers.arrays import finite
from lbcheck.optimizers.arrays import has_16_bits


class KerasArrays:
    """The functions of `lbcheck.rules.NUMPY` on any Keras 3 backend."""

    sqrt = staticmethod(ops.sqrt)
    exp = staticmethod(ops.exp)
    square = staticmethod(ops.square)
    abs = staticmethod(ops.abs)
    sign = staticmethod(ops.sign)
    log = staticmethod(ops.log)
    expm1 = staticmethod(ops.expm1)
    maximum = staticmethod(ops.maximum)
    minimum = staticmethod(ops.minimum)
    where = staticmethod(ops.where)

    @staticmethod
    def norm(array, kind="l2"):
        """Norm over the whole array, as a scalar."""
        if kind == "l2":
            return ops.sqrt(ops.sum(ops.square(array)))
        if kind == "l1":
            return ops.sum(ops.abs(array))
        return ops.max(ops.abs(array), initial=0.0)  # of no elements too

    sum = staticmethod(ops.sum)
    reshape = staticmethod(ops.reshape)
    moveaxis = staticmethod(ops.moveaxis)
    take = staticmethod(ops.take)
    argsort = staticmethod(ops.argsort)
    matmul = staticmethod(ops.matmul)

    @staticmethod
    def cond(condition, yes, no):
        """What one of two functions returns; outside of a compiled step the
        other is not looked at, where JAX would compile both at every call."""
        try:
            decided = bool(condition)
        except TypeError:  # a tracer, which has no value
            return ops.cond(condition, yes, no)
        return yes() if decided else no()

    @staticmethod
    def transposed(array):
        """The last two axes of a matrix, or of many, changed."""
        return ops.swapaxes(array, -1, -2)

    @staticmethod
    def matrix_norm(array):
        """Norm over the last two axes, which stay, of length 1."""
        return ops.sqrt(ops.sum(ops.square(array), (-2, -1), keepdims=True))

    @staticmethod
    def eigenvectors(matrix):
        """Columns of a symmetric matrix's basis, by falling eigenvalue."""
        return ops.flip(ops.eigh(finite(ops, matrix))[1], 1)

    @staticmethod
    def orthonormal(matrix):
        """Q of the matrix's QR decomposition."""
        return ops.qr(matrix)[0]


ARRAYS = KerasArrays()


def densify(gradient):
    """A tensor of 32 bits at least; it is dense on these backends."""
    return ops.cast(gradient, "float32") if has_16_bits(gradient) else gradient


class KerasUpdate:
    """Applies one rule to Keras variables through `keras.ops`."""

    def __init__(self, rule):
        self._rule = rule

    def __call__(
        self, variable, gradient, slots, rate, step, decay, adapt, record=None
    ):
        """As `TensorFlowUpdate.__call__`, with Keras variables."""
        dtype = "float32" if has_16_bits(variable) else variable.dtype
        weight = ops.cast(variable, dtype)
        gradient = ops.cast(gradient, dtype)
        rate = ops.cast(rate, dtype)
        new, new_slots, ratio = self._rule.update(
            ARRAYS,
            weight,
            gradient,
            tuple(ops.cast(slot, dtype) for slot in slots),
            rate,
            ops.cast(step, dtype),
            decay=decay,
            adapt=adapt,
        )
        if record is not None:
            row, period = record

            def measured():
                numbers = (
                    ratio,
                    ARRAYS.norm(weight),
                    ARRAYS.norm(gradient),
                    ARRAYS.norm(new - weight),
                    rate,
                )
                return ops.stack([ops.cast(x, "float32") for x in numbers])

            due = ops.equal(ops.mod(step, period), 0)
            kept = ops.convert_to_tensor(row)
            row.assign(ARRAYS.cond(due, measured, lambda: kept))
        variable.assign(ops.cast(new, variable.dtype))
        for slot, value in zip(slots, new_slots):
            slot.assign(ops.cast(value, slot.dtype))
