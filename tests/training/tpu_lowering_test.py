"""What a TPU would compile of every program's steps, without one."""

import re

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tensorflow.compiler.tf2xla.python import xla

from bert import clipping
from bert import models
from bert import pretrainer
from bert import span_labeler
from lbcheck import optimizers as definitions
from lbcheck import training
from lbcheck.training.backends import engines
from lbcheck.training.backends import tpu_programs
from resnet import ghost_batch_norm
from resnet import losses
from resnet.models import build as network

PUBLISHED = ("LARS", "LAMB", "Nesterov", "Momentum", "AdamW")
"""What rows of the two papers train with."""
CORES = 2
KERNEL = 2**16
"""Elements from which an update has kernels of its own off a TPU."""


class Source:
    """One element again and again, as a program's sources give it."""

    num_train = num_validation = 64

    def __init__(self, element, parts=("validation",)):
        self._element = element
        self.parts = parts

    def train(self, batch_size, start=0, shard=0, num_shards=1):
        return tf.data.Dataset.from_tensors(self._of(batch_size)).repeat()

    def validation(self, batch_size, shard=0, num_shards=1):
        whole = (*self._of(batch_size), tf.ones(batch_size))
        return tf.data.Dataset.from_tensors(whole)

    def _of(self, batch_size):
        return tf.nest.map_structure(
            lambda spec: tf.zeros((batch_size, *spec.shape), spec.dtype),
            self._element,
        )


def images(side, channels=3):
    spec = tf.TensorSpec((side, side, channels))
    return Source((spec, tf.TensorSpec((), tf.int32)))


def sentences(length, predictions):
    tokens = tf.TensorSpec((length,), tf.int32)
    masked = tf.TensorSpec((predictions,), tf.int32)
    inputs = dict.fromkeys(
        ("input_word_ids", "input_mask", "input_type_ids"), tokens
    )
    labels = {
        "masked_lm_ids": masked,
        "masked_lm_weights": tf.TensorSpec((predictions,)),
        "next_sentence_labels": tf.TensorSpec((1,), tf.int32),
        pretrainer.PER_EXAMPLE: tf.TensorSpec(()),
    }
    return Source((inputs | {"masked_lm_positions": masked}, labels))


def windows(length):
    tokens = tf.TensorSpec((length,), tf.int32)
    inputs = dict.fromkeys(
        ("input_word_ids", "input_mask", "input_type_ids"), tokens
    )
    return Source((inputs, tf.TensorSpec((2,), tf.int32)), parts=())


def options(batch_size, **changes):
    settings = {
        "output_dir": "unwritten",
        "total_steps": 4,
        "log_every": 2,
        "steps_per_execution": 2,
        "progress": False,
    }
    return training.Options(batch_size=batch_size, **(settings | changes))


def small(optimizer):
    """A network with ghost batches, an embedding, and a large and a small
    matrix, and its optimizer."""

    def workload(keras, optimizers):
        layers = keras.layers
        norm = ghost_batch_norm.of(keras)(virtual_batch_size=4)
        model = keras.Sequential(
            [
                layers.Input((4, 4, 3)),
                layers.Conv2D(4, 3),
                norm,
                layers.Flatten(),
                layers.Dropout(0.1),
                layers.Dense(KERNEL // 16),
                layers.Dense(10),
            ]
        )
        accuracy = keras.metrics.SparseCategoricalAccuracy(name="accuracy")
        made = optimizer(optimizers)
        loss = losses.cross_entropy(keras, 0.1)
        return training.Workload(model, made, loss, [accuracy])

    return workload


def recorded(name, **settings):
    return lambda optimizers: getattr(optimizers, name)(
        0.01, diagnostics_every=2, **settings
    )


def functions(given, build, source):
    """The traced functions on cores that are not there."""
    changed = {"distribution": "tpu", "tpu": f"none:{CORES}"}
    engine = engines.make(training.Options(**(vars(given) | changed)))
    engine.build(build)
    return engine.functions(source)


@pytest.mark.parametrize(
    "name",
    [
        name
        if name == "LARS"  # LAMB's is BERT's below
        else pytest.param(name, marks=pytest.mark.slow)
        for name in (d.__name__ for d in definitions.ALL)
    ],
)
def test_every_optimizer_accumulates_and_records(name):
    """Microbatches of ghost batches, clipping, diagnostics, two updates a
    call, and evaluation."""
    build = small(recorded(name, global_clipnorm=1.0))
    given = options(16 * CORES, microbatch_size=8)
    assert training.tpu_problems(given, build, images(4), CORES) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", [d.__name__ for d in definitions.ALL])
def test_every_optimizer_takes_the_whole_batch(name):
    build = small(recorded(name))
    given = options(8 * CORES, mixed_precision="bfloat16")
    assert training.tpu_problems(given, build, images(4), CORES) == []


def of_types(program):
    nodes = [*program.graph.node]
    for function in program.graph.library.function:
        nodes.extend(function.node_def)
    return [node.op for node in nodes]


@pytest.fixture(scope="module")
def accumulated():
    build = small(lambda optimizers: optimizers.Nesterov(0.1))
    given = options(16 * CORES, microbatch_size=8)
    return functions(given, build, images(4))["train"]


def test_an_update_is_one_program_for_microbatches_and_one_for_the_rest(
    accumulated,
):
    begin, apply, microbatch = tpu_programs.of(accumulated)
    assert "Conv2DBackpropFilter" in of_types(microbatch)
    assert not {"Conv2D", "Conv2DBackpropFilter"} & {*of_types(apply)}
    specs = [*microbatch.arguments.values()]
    assert tf.TensorSpec((8, 4, 4, 3)) in specs
    # Gradients of 6 weights and 2 statistics are summed over the cores once
    # an update; of a microbatch only the metrics' four numbers are.
    assert of_types(apply).count("CrossReplicaSum") == 8 + 2
    assert of_types(microbatch).count("CrossReplicaSum") == 4
    text = apply.stablehlo()
    assert len(re.findall('"stablehlo.all_reduce"', text)) == 8 + 2
    assert not begin.outputs


def test_the_host_counts_and_reads_data_only(accumulated):
    graphs = [*tpu_programs._graphs(accumulated.graph, set())]
    loops = [
        operation.type
        for graph in graphs
        for operation in graph.get_operations()
        if operation.type in ("While", "StatelessWhile")
    ]
    assert loops == ["While"] * 2  # over updates, over microbatches
    host = tpu_programs.host_operations(accumulated)
    assert "IteratorGetNext" in host
    assert not {"Conv2D", "MatMul", "PyFunc"} & host
    (read,) = [
        operation.outputs[0]
        for graph in graphs
        for operation in tpu_programs._on_host(graph)
        if operation.type == "ReadVariableOp"
    ]
    assert (read.shape, read.dtype) == ((), tf.int64)  # updates in this call


def test_no_program_within_the_program():
    """A compiled function of its own is for devices that do not compile the
    whole step."""
    build = small(lambda optimizers: optimizers.AdamW(0.01))
    found = functions(options(8 * CORES), build, images(4))["train"]
    (program,) = tpu_programs.of(found)
    kernels = {"ResourceApplyAdam", "ResourceApplyGradientDescent"}
    assert not kernels & {*of_types(program)}
    assert "_XlaMustCompile" not in str(program.graph)


def mutant(body, *specs):
    """The problems of a step that is wrong in one way."""
    strategy = tpu_programs.stand_in(CORES)
    specs = specs or (tf.TensorSpec((8, 3)),)

    @tf.function
    def train_function(*arguments):
        return strategy.run(body, args=arguments)

    found = train_function.get_concrete_function(*specs)
    return " ".join(tpu_programs.problems(found))


def printed(x):
    tf.print("loss", x)
    return x + 1.0


def branched(x):
    return tf.cond(x[0, 0] > 0.0, lambda: printed(x), lambda: tf.identity(x))


@pytest.mark.parametrize(
    "body, expected",
    [
        (lambda x: x * 2.0, ""),
        (lambda x: tf.where(x > 0.0, x, 0.0), ""),
        (printed, "StringFormat is no operation of a TPU"),
        (branched, "StringFormat is no operation of a TPU"),
        (lambda x: tf.py_function(tf.sqrt, [x], x.dtype), "EagerPyFunc is no"),
        (lambda x: tf.numpy_function(np.sqrt, [x], x.dtype), "PyFunc is no"),
        (lambda x: tf.strings.length(tf.strings.as_string(x)), "AsString"),
        (lambda x: tf.reduce_sum(tf.where(x > 0.0)), "a dynamic shape"),
        (lambda x: tf.unique(x[:, 0])[0], "a dynamic shape"),
        (lambda x: tf.boolean_mask(x, x[:, 0] > 0), "a dynamic shape"),
        (lambda x: tf.reduce_sum(tf.cast(x, tf.float64)), "float64"),
        (lambda x: (x, tf.constant("a")), "Identity of string is no"),
        (lambda x: xla.send(x, "x"), "an exchange with the host"),
        (
            lambda x: tf.linalg.eigvals(x[:3]),
            "Eig is no operation of a TPU",
        ),
    ],
)
def test_a_wrong_step_is_refused(body, expected):
    found = mutant(body)
    assert expected in found
    assert bool(found) == bool(expected)


def test_a_batch_of_unknown_size_is_refused():
    found = mutant(lambda x: x * 2.0, tf.TensorSpec((None, 3)))
    assert "has the shape (None, 3)" in found


def test_a_summary_is_refused(tmp_path):
    """TensorFlow itself places it on the host."""
    writer = tf.summary.create_file_writer(str(tmp_path))

    def body(x):
        with writer.as_default(0):
            tf.summary.scalar("mean", tf.reduce_mean(x))
        return x + 1.0

    assert "WriteSummary is no operation of a TPU" in mutant(body)


def test_python_between_steps_is_refused():
    strategy = tpu_programs.stand_in(CORES)

    @tf.function
    def train_function(x):
        x = tf.numpy_function(np.sqrt, [x], x.dtype)
        return strategy.run(tf.square, args=(tf.ensure_shape(x, (8, 3)),))

    found = train_function.get_concrete_function(tf.TensorSpec((8, 3)))
    (problem,) = tpu_programs.problems(found)
    assert "calls Python on the host" in problem


def test_a_workload_that_prints_is_refused():
    """Through `tpu_problems`, in a layer."""

    def workload(keras, optimizers):
        made = small(recorded("LARS"))(keras, optimizers)
        output = keras.layers.Lambda(printed)(made.model.output)
        return made._replace(model=keras.Model(made.model.input, output))

    found = training.tpu_problems(options(8), workload, images(4), CORES)
    assert found[0].startswith("train: program 1: StringFormat is no operation")
    assert [line for line in found if line.startswith("validation: ")]


def test_nothing_runs_on_a_tpu_that_is_not_there(tmp_path):
    given = options(8, distribution="tpu", tpu="none:4")
    plan = training.plan(given, images(4), "")
    assert (plan["replicas"], plan["replica_batch"]) == (4, 2)
    build = small(recorded("LARS"))
    with pytest.raises(ValueError, match="tpu='none:4' is a TPU that is not"):
        training.run(given, build, images(4), "", {})
    with pytest.raises(ValueError, match="tpu='none:4' is a TPU that is not"):
        training.evaluate(given, build, images(4), "")


def pretraining(size, optimizer, per_replica=False):
    settings = models.config(**size)

    def workload(keras, optimizers):
        made = optimizer(optimizers)
        if per_replica:
            clipping.per_replica(made)
        return training.Workload(models.pretrainer(settings), made, None, [])

    return workload


def lamb(optimizers):
    return optimizers.LAMB(0.01, weight_decay=0.01, global_clipnorm=1.0)


TINY = {"name": "1x64", "vocab_size": 100}


@pytest.mark.parametrize(
    "per_replica", [False, pytest.param(True, marks=pytest.mark.slow)]
)
def test_bert(per_replica):
    given = options(8 * CORES, microbatch_size=4 if per_replica else None)
    build = pretraining(TINY, lamb, per_replica)
    assert training.tpu_problems(given, build, sentences(16, 3), CORES) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", [d.__name__ for d in definitions.ALL])
def test_bert_by_every_optimizer(name):
    given = options(8 * CORES, microbatch_size=4)
    build = pretraining(TINY, recorded(name))
    assert training.tpu_problems(given, build, sentences(16, 3), CORES) == []


def test_squad():
    settings = models.config(**TINY)

    def workload(keras, optimizers):
        return training.Workload(
            span_labeler.build(settings),
            optimizers.AdamW(3e-5, weight_decay=0.01, global_clipnorm=1.0),
            span_labeler.loss(),
            span_labeler.metrics(),
        )

    given = options(4 * CORES, microbatch_size=2)
    assert training.tpu_problems(given, workload, windows(16), CORES) == []


def resnet50(optimizer):
    def workload(keras, optimizers):
        model = network(
            "resnet50",
            keras,
            image_shape=(224, 224, 3),
            num_classes=1000,
            seed=0,
            virtual_batch_size=64,
            l2=5.8e-5,
        )
        loss = losses.cross_entropy(keras, 0.15)
        accuracy = keras.metrics.SparseCategoricalAccuracy(name="accuracy")
        return training.Workload(model, optimizer(optimizers), loss, [accuracy])

    return workload


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_resnet_50_whole(name):
    """As on v3-128 at batch 32,768: 256 examples a core, ghost batches of
    64."""
    build = resnet50(lambda optimizers: getattr(optimizers, name)(0.1))
    given = options(256, mixed_precision="bfloat16")
    assert training.tpu_problems(given, build, images(224), 1) == []


@pytest.mark.slow
@pytest.mark.parametrize("length, predictions", [(128, 20), (512, 76)])
def test_bert_large_whole(length, predictions):
    build = pretraining({"name": "large"}, lamb)
    given = options(32, microbatch_size=16, mixed_precision="bfloat16")
    source = sentences(length, predictions)
    assert training.tpu_problems(given, build, source, 1) == []


def test_the_stand_in_is_tensorflows_own_strategy():
    strategy = tpu_programs.stand_in(3)
    assert isinstance(strategy, tf.distribute.TPUStrategy)
    assert strategy.num_replicas_in_sync == 3
    assert tf_keras.mixed_precision.global_policy().name == "float32"
