"""What a traced train step computes, and what it keeps for its backward pass.

Multiply-adds are counted where nearly all of them are: in convolutions and
products of matrices, 2 for each multiply-add. Elementwise operations, norms,
softmax and the optimizer are not counted.

Of the forward pass, whatever an operation of the backward pass reads stays in
memory between the two. `kept` is the sum of these arrays, as TensorFlow keeps
them operation by operation. `least` is what is left of them where a compiler
computes every elementwise operation again inside the operation that needs it:
the results of convolutions, products, sums, pools and comparisons. A loop
keeps its arrays on lists, of each iteration one, and computes none again.
"""

from typing import NamedTuple

from lbcheck.plan import steps
from lbcheck.plan.steps import Place

SOURCES = frozenset("Const VarHandleOp ReadVariableOp NoOp".split())
"""Operations whose results are not of the pass: they are the weights."""

FUSED = frozenset(
    "Abs Acos Acosh Add AddN AddV2 Asin Asinh Atan Atan2 Atanh BatchToSpaceND "
    "BiasAdd BroadcastTo Cast Ceil ClipByValue ConcatV2 Cos Cosh DepthToSpace "
    "Digamma Div DivNoNan Elu Erf Erfc Exp Expm1 Fill Floor FloorDiv FloorMod "
    "FusedBatchNormV3 Inv LeakyRelu Lgamma Log Log1p Maximum Minimum MirrorPad "
    "Mod Mul MulNoNan Neg OnesLike Pack Pad PadV2 Pow RandomStandardNormal "
    "RandomUniform RealDiv Reciprocal Relu Relu6 ReverseV2 Rint Roll Round "
    "Rsqrt Select SelectV2 Selu Sigmoid Sign Sin Sinh Slice Softplus Softsign "
    "SpaceToBatchND SpaceToDepth Split SplitV Sqrt Square SquaredDifference "
    "StatelessRandomNormalV2 StatelessRandomUniformV2 StridedSlice Sub Tan "
    "Tanh Tile Transpose Unpack Xdivy Xlog1py Xlogy ZerosLike".split()
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

    Raises:
        ValueError: What an operation computes is not known before it runs.
    """
    early = set(graph.get_operations()[:forward])
    place = Place(graph, early.__contains__)
    needed = steps.needed(map(place.value, gradients), place)
    read = {
        value
        for step in needed
        if not step.early
        for value in _read(step)
        if value.step.early
    }
    # What is refused is then named as the model has it, not its gradient.
    needed.sort(key=lambda step: not step.early)
    flops = {step: step.flops() for step in needed}
    kept = sum(map(_all, read))
    return Found(
        forward_flops=sum(n for step, n in flops.items() if step.early),
        flops=sum(flops.values()),
        kept=kept,
        least=min(kept, sum(map(_all, _roots(read)))),
        working=max((_beside(step, read) for step in needed), default=0),
    )


def _all(value):
    """Bytes of an array from all iterations of its loop."""
    return value.size * value.step.place.times()


def _is_array(value):
    """Apart from weights."""
    return value.step.type not in SOURCES and not value.is_handle


def _read(step):
    """The arrays that a step reads, where it computes anything."""
    if _makes_none(step):
        return set()
    return set(filter(_is_array, map(steps.array, step.inputs)))


def _makes_none(step):
    return step.type in SOURCES or all(
        value.is_handle or steps.viewed(value) is not None
        for value in step.outputs
    )


def _roots(values):
    """The arrays that are kept where these are computed again from them.

    Those of a loop, which are on its lists, are not computed again.
    """
    rest, seen, found = list(values), set(), set()
    while rest:
        value = rest.pop()
        if value in seen:
            continue
        seen.add(value)
        step = value.step
        statistic = (
            step.type.startswith("FusedBatchNorm") and value.position > 0
        )
        if step.type in FUSED and not statistic and not step.place.in_loop:
            rest.extend(_read(step))
        else:
            found.add(value)
    return found


def _beside(step, kept):
    """Bytes that a step reads and writes and that are not kept.

    An elementwise one writes over what it reads, where that is not kept. Of a
    list all is read, of other arrays of a loop those of one iteration.
    """
    if _makes_none(step) or isinstance(step, steps.Handed):
        return 0
    read = {}
    for value in step.inputs:
        array = steps.array(value)
        if _is_array(array) and array not in kept:
            read[array] = _all(array) if value.is_handle else value.size
    written = sum(v.size for v in step.outputs if v not in kept)
    if step.type in FUSED and written in read.values():
        written = 0
    return sum(read.values()) + written
