"""What a traced train step computes, and what it keeps for its backward pass.

Multiply-adds are counted where nearly all of them are: in convolutions and
products of matrices, 2 for each multiply-add. Elementwise operations, norms,
softmax and the optimizer are not counted.

Of the forward pass, whatever an operation of the backward pass reads stays in
memory between the two. `kept` is the sum of these arrays, as TensorFlow keeps
them operation by operation. `least` is what is left of them where a compiler
computes every elementwise operation again inside the operation that needs it:
the results of convolutions, products, sums, pools and comparisons.
"""

import math
from typing import NamedTuple

VIEWS = frozenset(
    "Identity IdentityN Reshape Squeeze ExpandDims StopGradient "
    "PreventGradient CheckNumerics EnsureShape".split()
)
"""Operations whose result is the memory of their first input."""

SOURCES = frozenset("Const VarHandleOp ReadVariableOp NoOp".split())
"""Operations whose results are not of the pass: they are the weights."""

FUSED = frozenset(
    "Add AddV2 AddN Sub Mul RealDiv DivNoNan Neg Abs Sign Square Sqrt Rsqrt "
    "SquaredDifference Pow Exp Log Log1p Erf Tanh Sigmoid Softplus Relu Relu6 "
    "LeakyRelu Elu Selu Maximum Minimum SelectV2 Cast BiasAdd ZerosLike "
    "OnesLike Fill Tile BroadcastTo Pad PadV2 MirrorPad RandomUniform "
    "RandomStandardNormal StatelessRandomUniformV2 Split SplitV Slice "
    "StridedSlice ConcatV2 Pack Transpose FusedBatchNormV3".split()
)
"""Operations that a compiler can compute again where their result is read; of
batch norm, whose statistics are kept, the first result is such a one."""


class Found(NamedTuple):
    """What `examine` finds of one pass forward and backward.

    Attributes:
        forward_flops: Floating-point operations of the forward pass.
        flops: Those of both passes.
        kept: Bytes between the passes; see the module.
        least: The same, with every elementwise operation computed again.
        working: Bytes that the largest operation reads and writes beside
            what is kept.
    """

    forward_flops: int
    flops: int
    kept: int
    least: int
    working: int


def examine(graph, gradients, forward: int) -> Found:
    """Counts a traced step.

    Args:
        graph: A `tf.Graph` with known shapes.
        gradients: The tensors that it is traced for.
        forward: How many of its operations are the forward pass.
    """
    operations = graph.get_operations()
    early = set(operations[:forward])
    needed = _needed(operations, gradients)
    read = {
        tensor.ref()
        for operation in needed
        if operation not in early and operation.type not in VIEWS
        for tensor in _arrays(operation.inputs)
        if tensor.op in early
    }
    least = _roots([t.deref() for t in read])
    flops = {operation: multiply_adds(operation) * 2 for operation in needed}
    kept = sum(size(tensor.deref()) for tensor in read)
    again = sum(size(tensor.deref()) for tensor in least)
    return Found(
        forward_flops=sum(n for op, n in flops.items() if op in early),
        flops=sum(flops.values()),
        kept=kept,
        least=min(kept, again),
        working=max(_beside(operation, read) for operation in needed),
    )


def _needed(operations, outputs):
    """The operations that the outputs are computed from, in their order."""
    found, rest = set(), [tensor.op for tensor in outputs]
    while rest:
        operation = rest.pop()
        if operation not in found:
            found.add(operation)
            rest.extend(tensor.op for tensor in operation.inputs)
    return [operation for operation in operations if operation in found]


def _arrays(tensors):
    """The arrays in memory that tensors are, apart from weights."""
    for tensor in tensors:
        while _is_view(tensor.op):
            tensor = tensor.op.inputs[0 if tensor.op.type != "Split" else 1]
        if tensor.op.type not in SOURCES and tensor.dtype.name != "resource":
            yield tensor


def _is_view(operation):
    """Also of a split into one part, and of parts of one that are joined."""
    if operation.type == "Split":
        return len(operation.outputs) == 1
    if operation.type in ("Pack", "ConcatV2"):
        return size(operation.inputs[0]) == size(operation.outputs[0]) > 0
    return operation.type in VIEWS and bool(operation.inputs)


def _roots(tensors):
    """The arrays that are kept where these are computed again from them."""
    rest, seen, found = list(tensors), set(), set()
    while rest:
        tensor = rest.pop()
        if tensor.ref() in seen:
            continue
        seen.add(tensor.ref())
        statistic = tensor.op.type.startswith("FusedBatchNorm")
        statistic &= tensor.value_index > 0
        if tensor.op.type in FUSED and not statistic:
            rest.extend(_arrays(tensor.op.inputs))
        else:
            found.add(tensor.ref())
    return found


def _beside(operation, kept):
    """Bytes that an operation reads and writes and that are not kept.

    An elementwise one writes over what it reads, where that is not kept.
    """
    if operation.type in VIEWS or operation.type in SOURCES:
        return 0
    inputs = {tensor.ref() for tensor in _arrays(operation.inputs)} - kept
    outputs = {tensor.ref() for tensor in _arrays(operation.outputs)} - kept
    read = [size(tensor.deref()) for tensor in inputs]
    written = sum(size(tensor.deref()) for tensor in outputs - inputs)
    if operation.type in FUSED and written in read:
        written = 0
    return sum(read) + written


def size(tensor) -> int:
    """Bytes of a tensor; 0 where its shape is not known.

    TensorFlow knows the shapes of all arrays but of the space that batch norm
    reserves on a GPU, and of index arithmetic.
    """
    shape = tensor.shape
    if not shape.is_fully_defined() or tensor.dtype.name == "resource":
        return 0
    return math.prod(shape.as_list()) * tensor.dtype.size


def multiply_adds(operation) -> int:
    """Multiply-adds of an operation; 0 of those that are not counted."""
    count = _COUNTS.get(operation.type)
    return count(operation) if count else 0


def _numbers(tensor):
    return math.prod(tensor.shape.as_list())


def _of_convolution(kernel, outputs):
    """A kernel (height, width, in, out) at every output position."""
    return _numbers(outputs) * math.prod(kernel.shape.as_list()[:3])


def _of_depthwise(kernel, outputs):
    return _numbers(outputs) * math.prod(kernel.shape.as_list()[:2])


def _of_product(transposed):
    def count(operation):
        shape = operation.inputs[0].shape.as_list()
        summed = shape[-2 if operation.get_attr(transposed) else -1]
        return _numbers(operation.outputs[0]) * summed

    return count


def _of_einsum(operation):
    """The product of the lengths of all its letters."""
    terms = operation.get_attr("equation").decode().split("->")[0].split(",")
    lengths = {}
    for letters, tensor in zip(terms, operation.inputs):
        lengths.update(zip(letters, tensor.shape.as_list()))
    return math.prod(lengths.values()) if len(terms) > 1 else 0


_COUNTS = {
    "Conv2D": lambda op: _of_convolution(op.inputs[1], op.outputs[0]),
    "Conv2DBackpropInput": lambda op: _of_convolution(
        op.inputs[1], op.inputs[2]
    ),
    "Conv2DBackpropFilter": lambda op: _of_convolution(
        op.outputs[0], op.inputs[2]
    ),
    "DepthwiseConv2dNative": lambda op: _of_depthwise(
        op.inputs[1], op.outputs[0]
    ),
    "DepthwiseConv2dNativeBackpropInput": lambda op: _of_depthwise(
        op.inputs[1], op.inputs[2]
    ),
    "DepthwiseConv2dNativeBackpropFilter": lambda op: _of_depthwise(
        op.outputs[0], op.inputs[2]
    ),
    "MatMul": _of_product("transpose_a"),
    "BatchMatMulV2": _of_product("adj_x"),
    "BatchMatMulV3": _of_product("adj_x"),
    "Einsum": _of_einsum,
}
