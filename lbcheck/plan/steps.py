"""The operations of a traced graph where they run.

A call of a function, a conditional or a loop is no step: what it calls stands
in its place and reads what it is called with. A step of a loop has the number
of times that it runs.

Of a conditional the branch that computes most is taken, and the same one
wherever its predicate decides again, as it does in the backward pass.
"""

import functools
from collections.abc import Callable
from collections.abc import Iterable
from typing import NamedTuple

from lbcheck.plan.counts import multiply_adds

VIEWS = {
    **dict.fromkeys(
        "Identity Reshape Squeeze ExpandDims StopGradient PreventGradient "
        "CheckNumerics EnsureShape OptionalFromValue OptionalGetValue "
        "TensorListFromTensor TensorListSplit TensorListScatterV2 "
        "TensorListResize TensorListGetItem TensorListPopBack".split(),
        0,
    ),
    "TensorListPushBack": 1,
    "TensorListScatterIntoExistingList": 1,
    "TensorListSetItem": 2,
}
"""Operations whose result is the memory of one of their inputs, and of which:
a list is what was put on it, and so is what is taken from it."""

LONGEST = 10_000
"""Iterations of a loop after which its end is not waited for."""

_SMALL = 512


class Value(NamedTuple):
    """One result of a step."""

    step: "Step"
    position: int

    @property
    def tensor(self):
        """The tensor in the graph of its step, with shape and type."""
        return self.step.operation.outputs[self.position]

    @property
    def is_handle(self) -> bool:
        """Whether it only names arrays: a variable or a list."""
        return self.tensor.dtype.name in ("resource", "variant")

    @property
    def size(self) -> int:
        """Bytes; 0 where the shape is not known.

        TensorFlow knows the shapes of all arrays but of the space that batch
        norm reserves on a GPU, and of index arithmetic.
        """
        if self.is_handle or not self.tensor.shape.is_fully_defined():
            return 0
        return self.tensor.shape.num_elements() * self.tensor.dtype.size


class Step:
    """An operation where it runs.

    Attributes:
        operation: The `tf.Operation`.
        place: Where it runs.
        type: Of the operation.
        outputs: What it gives.
    """

    def __init__(self, operation, place: "Place"):
        self.operation = operation
        self.place = place
        self.type = operation.type
        self.outputs = [Value(self, i) for i in range(len(operation.outputs))]

    @functools.cached_property
    def inputs(self) -> list[Value]:
        """What it reads."""
        return [self.place.value(tensor) for tensor in self.operation.inputs]

    @functools.cached_property
    def fixed(self) -> list:
        """Which of its results TensorFlow knows while it traces, else None."""
        import tensorflow as tf

        found = [
            tf.get_static_value(value.tensor) if value.size <= _SMALL else None
            for value in self.outputs
        ]
        return [None if x is None else tf.constant(x) for x in found]

    @functools.cached_property
    def settings(self) -> tuple:
        """Name and value of each of its attributes."""
        settings = []
        for attribute in self.operation.op_def.attr:
            setting = self.operation.get_attr(attribute.name)
            setting = getattr(setting, "as_datatype_enum", setting)
            settings += [attribute.name, setting]
        return tuple(settings)

    @property
    def early(self) -> bool:
        """Whether it is of the forward pass."""
        return self.place.early(self.operation)

    def flops(self, place: "Place | None" = None) -> int:
        """Of all the times that it runs; 2 for each multiply-add.

        Args:
            place: Those while this runs once; None: the whole graph.
        """
        return 2 * multiply_adds(self.operation) * self.place.times(place)


class Handed(Step):
    """What a loop or a branch hands on, which computes nothing itself.

    Its type is "Carried" from one iteration to the next and "Left" at the end
    of a loop, with what an iteration hands on and what the first is given as
    its inputs; and "Taken" of a branch that only the data decide for.
    """

    def __init__(self, tensor, place, kind: str, given: Callable, loop=None):
        super().__init__(tensor.op, place)
        self.type = kind
        self.outputs = [Value(self, tensor.value_index)]
        self.loop: Loop = loop
        self._given = given

    @functools.cached_property
    def inputs(self) -> list[Value]:
        return self._given()

    def flops(self, place: "Place | None" = None) -> int:
        return 0


class Place:
    """A graph where it runs.

    Attributes:
        graph: A `tf.Graph`.
        library: One that has the functions which it calls.
        early: (operation) -> whether it is of the forward pass.
        in_loop: Whether a loop runs it.
        outer: The place that calls it, or None.
        chosen: Which branch is taken where a value decides.
    """

    in_loop = False
    outer: "Place | None" = None

    def __init__(self, graph, early: Callable, library=None):
        self.graph = graph
        self.library = library or graph
        self.early = early
        self.chosen: dict[Value, int] = {}
        self._steps: dict = {}
        self._called: dict = {}

    def times(self, place: "Place | None" = None) -> int:
        """How often it runs while a place that it is in runs once."""
        return 1

    def value(self, tensor) -> Value:
        """What a tensor of the graph is."""
        operation = tensor.op
        call = _CALLS.get(operation.type)
        if call:
            if operation not in self._called:
                self._called[operation] = call(self, operation)
            return self._called[operation].result(tensor.value_index)
        if operation not in self._steps:
            self._steps[operation] = Step(operation, self)
        return Value(self._steps[operation], tensor.value_index)

    def function(self, attribute):
        """The graph of a function that an attribute names."""
        # It has no public name.
        return self.library._get_function(attribute.name).graph

    def is_in(self, place: "Place") -> bool:
        """Whether it is a place, or is called there."""
        return self is place or bool(self.outer and self.outer.is_in(place))


class Call(Place):
    """A function where an operation calls it.

    Attributes:
        given: What it is called with, of the graph of `outer`.
    """

    outer: Place

    def __init__(self, outer: Place, operation, graph, given, library=None):
        super().__init__(graph, lambda _: outer.early(operation), library)
        self.outer = outer
        self.given = given
        self.in_loop = outer.in_loop
        self.chosen = outer.chosen
        self._arguments = {t.ref(): i for i, t in enumerate(graph.inputs)}

    def times(self, place: Place | None = None) -> int:
        return 1 if self is place else self.outer.times(place)

    def value(self, tensor) -> Value:
        index = self._arguments.get(tensor.ref())
        return super().value(tensor) if index is None else self.argument(index)

    def argument(self, index: int) -> Value:
        """What an input of the function is."""
        return self.outer.value(self.given[index])

    def result(self, index: int) -> Value:
        """What an output of the function is."""
        return self.value(self.graph.outputs[index])

    def cost(self) -> tuple[int, int]:
        """FLOPs and the number of steps."""
        steps = needed(map(self.value, self.graph.outputs), self)
        return sum(step.flops(self) for step in steps), len(steps)


class Loop(Call):
    """The body of a loop.

    Raises:
        ValueError: Of `times`: it is not known before the loop runs.
    """

    def __init__(self, outer: Place, operation):
        body = outer.function(operation.get_attr("body"))
        condition = outer.function(operation.get_attr("cond"))
        super().__init__(outer, operation, body, operation.inputs)
        self.in_loop = True
        self._operation = operation
        pairs = enumerate(zip(self.graph.inputs, self.graph.outputs))
        changed = [index for index, (one, other) in pairs if one is not other]
        self._carried, self._left = {}, {}
        for i in changed:
            hands = functools.partial(self._hands, i)
            self._carried[i] = Handed(body.inputs[i], self, "Carried", hands)
            self._left[i] = Handed(
                operation.outputs[i], outer, "Left", hands, self
            )
        self._condition = Call(self, operation, condition, self.graph.inputs)

    def _hands(self, index):
        return [
            self.value(self.graph.outputs[index]),
            self.outer.value(self.given[index]),
        ]

    def argument(self, index: int) -> Value:
        if index not in self._carried:
            return super().argument(index)
        return self._carried[index].outputs[0]

    def result(self, index: int) -> Value:
        if index not in self._left:
            return super().argument(index)
        return self._left[index].outputs[0]

    def times(self, place: Place | None = None) -> int:
        return self.run[0] * super().times(place)

    @functools.cached_property
    def run(self) -> tuple[int, dict]:
        """Iterations, and what is known of what the loop leaves."""
        state = {
            index: constant(step.inputs[1], {})
            for index, step in self._carried.items()
        }
        for iteration in range(LONGEST):
            known = {
                self._carried[index].outputs[0]: number
                for index, number in state.items()
            }
            goes_on = constant(self._condition.result(0), known)
            if goes_on is None:
                raise self._refused("values of the data decide when it ends")
            if not goes_on:
                return iteration, state
            state = {
                index: None
                if number is None
                else constant(self._carried[index].inputs[0], known)
                for index, number in state.items()
            }
        raise self._refused(f"it has not ended after {LONGEST:,} iterations")

    def _refused(self, why):
        return ValueError(
            f"The loop {self._operation.name} cannot be planned: {why}; "
            "expected a number of iterations that shapes or constants give."
        )


class Guess:
    """The dearest of the branches that an operation may take."""

    def __init__(self, outer: Place, operation, branch: Call):
        self._taken = [
            Handed(tensor, outer, "Taken", lambda i=i: [branch.result(i)])
            for i, tensor in enumerate(operation.outputs)
        ]

    def result(self, index: int) -> Value:
        """What an output of the branch is."""
        return self._taken[index].outputs[0]


def _called(outer, operation, attribute, given):
    """A function where it is called, with the shapes of this call.

    It may have been traced for several, such as any number of examples.
    """
    import tensorflow as tf

    # They have no public name.
    from tensorflow.python.framework import func_graph
    from tensorflow.python.ops import handle_data_util

    traced = outer.function(attribute)
    if all(tensor.shape.is_fully_defined() for tensor in traced.inputs):
        return Call(outer, operation, traced, given)
    graph = func_graph.FuncGraph(traced.name)
    with graph.as_default():
        for tensor, value in zip(traced.inputs, map(outer.value, given)):
            argument = tf.compat.v1.placeholder(
                tensor.dtype, value.tensor.shape
            )
            handle_data_util.copy_handle_data(tensor, argument)
            graph.inputs.append(argument)
        graph.outputs = tf.graph_util.import_graph_def(
            traced.as_graph_def(),
            {t.name: new for t, new in zip(traced.inputs, graph.inputs)},
            [tensor.name for tensor in traced.outputs],
            name="",
        )
    return Call(outer, operation, graph, given, traced)


def _branch(outer, operation, functions):
    """The branch that is taken; `functions` in the order of what decides."""
    branches = [
        _called(outer, operation, function, operation.inputs[1:])
        for function in functions
    ]
    decides = array(outer.value(operation.inputs[0]))
    number = constant(decides, {})
    if number is not None:
        return branches[
            int(number) if int(number) in range(len(branches)) else -1
        ]
    if decides not in outer.chosen:
        costs = [branch.cost() for branch in branches]
        outer.chosen[decides] = costs.index(max(costs))
    return Guess(outer, operation, branches[outer.chosen[decides]])


def _function(outer, operation):
    return _called(outer, operation, operation.get_attr("f"), operation.inputs)


def _if(outer, operation):
    names = ("else_branch", "then_branch")
    return _branch(outer, operation, [operation.get_attr(n) for n in names])


def _case(outer, operation):
    return _branch(outer, operation, operation.get_attr("branches"))


_CALLS = {
    "PartitionedCall": _function,
    "StatefulPartitionedCall": _function,
    "If": _if,
    "StatelessIf": _if,
    "Case": _case,
    "StatelessCase": _case,
    "While": Loop,
    "StatelessWhile": Loop,
}


def needed(values: Iterable[Value], place: Place) -> list[Step]:
    """The steps in a place that values are computed from."""
    found, rest = {}, [value.step for value in values]
    while rest:
        step = rest.pop()
        if step not in found and step.place.is_in(place):
            found[step] = True
            rest.extend(value.step for value in step.inputs)
    return list(found)


def viewed(value: Value) -> int | None:
    """Which input of its step has the memory of a value; None: no one has."""
    step, operation = value.step, value.step.operation
    if step.type == "Split":  # into one part
        return 1 if len(operation.outputs) == 1 else None
    if step.type in ("Pack", "ConcatV2"):  # of one part
        return 0 if step.inputs[0].size == value.size > 0 else None
    if step.type == "IdentityN":
        return value.position
    if step.type == "Taken":
        return 0
    if step.type == "Left":
        return 0 if value.is_handle else None
    return VIEWS.get(step.type)


def array(value: Value) -> Value:
    """The array in memory that a value is.

    What a loop carries is what its iterations hand on; where they hand on
    what they were given, it is what the first was given.
    """
    passed, given = set(), []
    while True:
        index = viewed(value)
        if index is not None:
            value = value.step.inputs[index]
        elif value.step.type != "Carried":
            return value
        elif value in passed:
            value = given.pop()
        else:
            passed.add(value)
            value, first = value.step.inputs
            given.append(first)


def constant(value: Value, known: dict):
    """What a count is, where the graph decides it; None: where it does not.

    Args:
        value: Any, but only of whole numbers and of truths it is known.
        known: What values are, those that are found on the way included.
    """
    if value not in known:
        known[value] = _computed(value, known)
    return known[value]


def _computed(value, known):
    # They have no public name.
    from tensorflow.python.eager import context
    from tensorflow.python.eager import execute

    step, dtype = value.step, value.tensor.dtype
    counts = dtype.is_integer or dtype.is_bool
    if not counts or value.size > _SMALL or step.type in ("Carried", "Taken"):
        return None
    if step.type == "Left":
        return step.loop.run[1][value.position]
    if step.type in ("TensorListPopBack", "OptionalGetValue"):
        taken = array(value)  # the same in all iterations, where it is known
        same = taken.tensor.shape == value.tensor.shape
        return constant(taken, {}) if same else None
    if step.fixed[value.position] is not None:
        return step.fixed[value.position]
    if step.operation.op_def.is_stateful:
        return None
    inputs = [constant(each, known) for each in step.inputs]
    if not inputs or any(each is None for each in inputs):
        return None
    return execute.quick_execute(
        step.type, len(step.outputs), inputs, step.settings, context.context()
    )[value.position]
