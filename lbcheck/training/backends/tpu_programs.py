"""What a TPU compiles of a train function, found on a machine without one.

`stand_in` is TensorFlow's own TPUStrategy on cores that are not there: its
variables lie on the CPU and nothing runs, but it traces what a TPU would be
given. Every `strategy.run` of it becomes one program for all cores, which
`of` finds, `Program.stablehlo` lowers by tf2xla, and `problems` judges:

* every operation is one that tensorflow-tpu compiles, in these types; else
  it would run on the host, in the middle of the step;
* no shape is dynamic, which a TPU pads or compiles again for every size;
* nothing is float64, which a TPU emulates;
* nothing is sent to or from the host within the step.

tpu_operations.json are the kernels that tensorflow-tpu 2.20.0 registers for
XLA_TPU_JIT (benchmarks/tpu_operations.py writes it).
"""

import functools
import json
import pathlib
import re
from typing import NamedTuple

import tensorflow as tf

# None of these has a public name: this module is imported where it is used.
from tensorflow.python.framework import importer
from tensorflow.python.ops import handle_data_util
from tensorflow.python.tpu import tpu_system_metadata

KERNELS = pathlib.Path(__file__).with_name("tpu_operations.json")
_CLUSTER = "_tpu_replicate"
_OUTPUT = "_tpu_output_identity"
_OUTSIDE = "_xla_outside_compilation"
_OF_TPU = (_CLUSTER, _OUTPUT, "_tpu_input_identity", "_class")
"""Attributes of an operation of a TPU that no other device knows."""

_EXPANDED = frozenset(
    {"Eigh", "Qr", "ProductOfElementaryHouseholderReflectors"}
)
"""Custom calls that every XLA compiler replaces by operations of its own."""

_PYTHON = {"EagerPyFunc", "PyFunc", "PyFuncStateless", "PrintV2"}
"""Operations of the host that a train function waits for."""

_FORBIDDEN = {
    "a dynamic shape": re.compile(r"tensor<[^>]*\?"),
    "float64": re.compile(r"tensor<(?:\d+x)*f64[>,]"),
    "an exchange with the host": re.compile(
        r"stablehlo\.(?:infeed|outfeed|send|recv)\b"
    ),
}
"""{what: its pattern in StableHLO}."""


class _Core(NamedTuple):
    name: str


class _Resolver:
    """The cores of one host that is not there, for TPUStrategy."""

    task_type = None
    task_id = None

    def __init__(self, cores):
        self._cores = cores

    def get_tpu_system_metadata(self):
        """Names of the cores."""
        host = "/job:localhost/replica:0/task:0/device:TPU"
        return tpu_system_metadata.TPUSystemMetadata(
            num_cores=self._cores,
            num_hosts=1,
            num_of_cores_per_host=self._cores,
            topology=None,
            devices=[_Core(f"{host}:{core}") for core in range(self._cores)],
        )


def stand_in(cores: int):
    """A tf.distribute.TPUStrategy on cores that are not there.

    Args:
        cores: Their number, at least 1.
    """
    tf.config.set_soft_device_placement(True)  # variables go to the CPU
    return tf.distribute.TPUStrategy(_Resolver(cores))


class Program(NamedTuple):
    """What all cores compile of one `strategy.run`.

    Attributes:
        name: Where it stands in the train function.
        graph: Its operations and the functions that they call.
        arguments: {name: tf.TensorSpec} of what the host gives each time.
        variables: {name: tf.TensorSpec} of what stays on the cores.
        outputs: Tensors that the host is given back.
    """

    name: str
    graph: tf.compat.v1.GraphDef
    arguments: dict[str, tf.TensorSpec]
    variables: dict[str, tf.TensorSpec]
    outputs: list[str]

    def stablehlo(self) -> str:
        """The program as tf2xla makes it, as text.

        Raises:
            ValueError: An operation or a shape cannot be compiled.
        """
        variables = {
            name: tf.Variable(tf.zeros(spec.shape, spec.dtype))
            for name, spec in self.variables.items()
        }
        function = tf.function(
            functools.partial(self._import, variables),
            jit_compile=True,
            autograph=False,
        )
        arguments = list(self.arguments.values())
        return function.experimental_get_compiler_ir(*arguments)(
            stage="stablehlo"
        )

    def _import(self, variables, *arguments):
        graph = tf.compat.v1.get_default_graph()
        given = dict(zip(self.arguments, arguments))
        for name, variable in variables.items():
            given[name] = graph.capture(variable.handle)
        importer.import_graph_def(
            _for_any_compiler(self.graph),
            input_map={f"{name}:0": tensor for name, tensor in given.items()},
            name="program",
        )
        made = [
            operation
            for operation in graph.get_operations()
            if operation.name.startswith("program/")
            and operation.op_def.is_stateful
        ]
        with tf.control_dependencies(made):
            return [
                tf.identity(graph.get_tensor_by_name(f"program/{output}"))
                for output in self.outputs
            ]


def of(function) -> list[Program]:
    """The programs of a train function, in the order of its graph.

    Args:
        function: Concrete tf.function, traced under a TPUStrategy.
    """
    found = []
    for graph in _graphs(function.graph, set()):
        clusters: dict = {}
        for operation in graph.get_operations():
            attributes = operation.node_def.attr
            if _CLUSTER in attributes:
                name = attributes[_CLUSTER].s.decode()
                clusters.setdefault(name, []).append(operation)
        found += [_program(name, graph, ops) for name, ops in clusters.items()]
    return found


def problems(function) -> list[str]:
    """What a TPU would not do of a train function, one line each.

    Args:
        function: Concrete tf.function, traced under a TPUStrategy.
    """
    asked = sorted(_PYTHON & host_operations(function))
    found = [f"{kind} calls Python on the host between steps" for kind in asked]
    for number, program in enumerate(of(function), 1):
        found += [f"program {number}: {p}" for p in _problems_of(program)]
    return found


def _problems_of(program):
    found = {_misplaced(node): None for node in _nodes(program.graph)}
    for name, spec in (program.arguments | program.variables).items():
        if not spec.shape.is_fully_defined():
            found[f"{name} has the shape {spec.shape}"] = None
    found.pop(None, None)
    return list(found) or list(_of_text(program))


def host_operations(function) -> set[str]:
    """Types of the operations that stay on the host."""
    return {
        operation.type
        for graph in _graphs(function.graph, set())
        for operation in _on_host(graph)
    }


def _on_host(graph):
    """The operations of a graph that are in no program."""
    for operation in graph.get_operations():
        if _CLUSTER not in operation.node_def.attr:
            yield operation


def _graphs(graph, seen):
    """The graph and those of the functions that the host calls, each once."""
    yield graph
    for operation in _on_host(graph):
        for name in _called(operation.node_def):
            inner = getattr(graph._get_function(name), "graph", None)
            if name not in seen and inner is not None:
                seen.add(name)
                yield from _graphs(inner, seen)


def _called(node):
    """Names of the functions that an operation may call."""
    yield node.op
    for attribute in node.attr.values():
        for function in (attribute.func, *attribute.list.func):
            yield function.name


def _program(name, graph, operations):
    """The program of a cluster, cut out of its graph."""
    whole = graph.as_graph_def()
    cut = tf.compat.v1.GraphDef(versions=whole.versions)
    inside = {operation.name for operation in operations}
    outside = {}
    for operation in operations:
        node = cut.node.add()
        node.CopyFrom(operation.node_def)
        node.device = ""
        del node.input[:]
        node.input.extend(_inputs(operation, inside, outside))
        for attribute in _OF_TPU:
            node.attr.pop(attribute, None)
        if node.op == "TPUReplicateMetadata":
            node.op = "NoOp"
            node.attr.clear()
    functions = {f.signature.name: f for f in whole.library.function}
    for name in _reachable(cut.node, functions):
        cut.library.function.add().CopyFrom(functions[name])
    dense = {k: t for k, t in outside.items() if t.dtype != tf.resource}
    outputs = [
        operation.outputs[0].name
        for operation in operations
        if _OUTPUT in operation.node_def.attr
    ]
    return Program(
        name,
        cut,
        {k: tf.TensorSpec(t.shape, t.dtype) for k, t in dense.items()},
        {k: _behind(t) for k, t in outside.items() if k not in dense},
        outputs,
    )


def _for_any_compiler(graph):
    """The graph with sums over the cores that the CPU's tf2xla knows."""
    graph = type(graph).FromString(graph.SerializeToString())
    for node in _nodes(graph):
        if node.op == "CrossReplicaSum":
            node.op = "XlaAllReduce"
            node.attr["reduce_op"].s = b"Add"
            node.attr["mode"].s = b"CrossReplica"
    return graph


def _nodes(graph):
    """All operations, those of functions as well."""
    yield from graph.node
    for function in graph.library.function:
        yield from function.node_def


def _inputs(operation, inside, outside):
    """The inputs as a node names them; adds those from outside."""
    for tensor in operation.inputs:
        if tensor.op.name in inside:
            yield tensor.name
        else:
            name = "outside_" + re.sub(r"\W", "_", tensor.name)
            outside[name] = tensor
            yield name
    for other in operation.control_inputs:
        if other.name in inside:
            yield f"^{other.name}"


def _reachable(nodes, functions):
    """Names of the functions that the nodes call, and those in turn."""
    found, waiting = {}, list(nodes)
    while waiting:
        for name in _called(waiting.pop()):
            if name in functions and name not in found:
                found[name] = None
                waiting.extend(functions[name].node_def)
    return found


def _behind(handle):
    """Shape and dtype of the variable behind a handle, if it is one."""
    for tensor in (handle, *handle.op.inputs[:1]):
        data = handle_data_util.get_resource_handle_data(tensor)
        if data is not None and data.shape_and_type:
            (known,) = data.shape_and_type
            return tf.TensorSpec(known.shape, tf.as_dtype(known.dtype))
    return tf.TensorSpec(None, tf.resource)


@functools.cache
def _kernels():
    """{operation: {attribute: names of the types}} that a TPU compiles."""
    table = json.loads(KERNELS.read_text())
    types = [names.split() for names in table["types"]]
    return {
        operation: {name: types[kind] for name, kind in kinds.items()}
        for operation, kinds in table["operations"].items()
    }


def _misplaced(node):
    """Why a node would run on the host; None: it would not."""
    if _OUTSIDE in node.attr:
        return f"{node.op} is placed on the host ({node.name})"
    kernel = _kernels().get(node.op)
    if kernel is None:
        return f"{node.op} is no operation of a TPU ({node.name})"
    for attribute, types in kernel.items():
        given = node.attr[attribute]
        for number in filter(None, (given.type, *given.list.type)):
            name = tf.as_dtype(number).name
            if name not in types:
                return (
                    f"{node.op} of {name} is no operation of a TPU "
                    f"({node.name})"
                )
    return None


def _of_text(program):
    """What StableHLO shows, or why there is none."""
    try:
        text = program.stablehlo()
    except (ValueError, tf.errors.OpError) as error:
        yield "tf2xla refuses it: " + str(error).partition("\n")[0]
        return
    for what, pattern in _FORBIDDEN.items():
        found = pattern.search(text)
        if found:
            line = text[: found.end()].rpartition("\n")[2].strip()
            yield f"it has {what}: {line}"
    called = set(re.findall(r"stablehlo\.custom_call @(\w+)", text))
    for target in sorted(called - _EXPANDED):
        yield f"it calls {target}, which is none of XLA's operations"
