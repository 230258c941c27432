"""Multiply-adds of an operation.

They are counted in convolutions and products of matrices, einsums among them.
An operation of that kind that has no count here is refused.
"""

import itertools
import math
import re


def multiply_adds(operation) -> int:
    """Multiply-adds of an operation; 0 of those that are not counted.

    Args:
        operation: A `tf.Operation`.

    Raises:
        ValueError: How many it does is not known before it runs.
    """
    count = _COUNTS.get(operation.type)
    if count:
        return count(operation)
    calls = any("func" in setting.type for setting in operation.op_def.attr)
    if calls or _UNCOUNTED.search(operation.type):
        raise ValueError(
            f"The operation {operation.name} of type {operation.type} cannot "
            "be planned, as what it computes is not in the graph; expected "
            "TensorFlow's own convolutions, products, einsums and loops."
        )
    return 0


def _lengths(tensor):
    if not tensor.shape.is_fully_defined():
        raise ValueError(
            f"The operation {tensor.op.name} of type {tensor.op.type} cannot "
            f"be planned: expected a known shape, received {tensor.shape}."
        )
    return tensor.shape.as_list()


def _forward(operation):
    return operation.inputs[1], operation.outputs[0]


def _to_inputs(operation):
    return operation.inputs[1], operation.inputs[2]


def _to_kernel(operation):
    return operation.outputs[0], operation.inputs[2]


def _convolution(arrays, unread=1):
    """A kernel (.., in, out) at every position of what it gives forward.

    Args:
        arrays: (operation) -> the kernel and the array of those positions.
        unread: How many of the kernel's last lengths that array has.
    """

    def count(operation):
        kernel, outputs = map(_lengths, arrays(operation))
        return math.prod(outputs) * math.prod(kernel[:-unread])

    return count


def _product(transposed):
    def count(operation):
        lengths = _lengths(operation.inputs[0])
        summed = lengths[-2 if operation.get_attr(transposed) else -1]
        return math.prod(_lengths(operation.outputs[0])) * summed

    return count


def _einsum(operation):
    """The product of the lengths of its axes.

    An axis that only one array has, and not the result, is summed before.
    """
    terms, result = operation.get_attr("equation").decode().split("->")
    arrays = [
        _axes(term, _lengths(tensor))
        for term, tensor in zip(terms.split(","), operation.inputs)
    ]
    if len(arrays) == 1:
        return 0
    lengths = {}
    for one, other in itertools.permutations(arrays):
        for axis, length in one.items():
            if isinstance(axis, int) or axis in result or axis in other:
                lengths[axis] = max(length, lengths.get(axis, 1))
    return math.prod(lengths.values())


def _axes(term, lengths):
    """Length of each letter; axes of "..." are numbered from behind."""
    before, dots, after = term.partition("...")
    hidden = len(lengths) - len(before) - len(after) if dots else 0
    return dict(zip([*before, *range(-hidden, 0), *after], lengths))


_COUNTS = {
    "Conv2D": _convolution(_forward),
    "Conv2DBackpropInput": _convolution(_to_inputs),
    "Conv2DBackpropFilter": _convolution(_to_kernel),
    "Conv3D": _convolution(_forward),
    "Conv3DBackpropInputV2": _convolution(_to_inputs),
    "Conv3DBackpropFilterV2": _convolution(_to_kernel),
    "DepthwiseConv2dNative": _convolution(_forward, 2),
    "DepthwiseConv2dNativeBackpropInput": _convolution(_to_inputs, 2),
    "DepthwiseConv2dNativeBackpropFilter": _convolution(_to_kernel, 2),
    "MatMul": _product("transpose_a"),
    "SparseMatMul": _product("transpose_a"),
    "BatchMatMul": _product("adj_x"),
    "BatchMatMulV2": _product("adj_x"),
    "BatchMatMulV3": _product("adj_x"),
    "Einsum": _einsum,
}

_UNCOUNTED = re.compile(
    "Conv(?!ert)|MatMul|Einsum|XlaDot|QuantizedDot|RNN|LSTM|GRU|PyFunc"
)
