"""Compiles a program's steps for a TPU by the TPU's own compiler, libtpu.

Needs no TPU: `pip install 'jax[tpu]'` beside what lbcheck needs. All data are
zeros in the shapes that the flags ask for.

    python benchmarks/tpu_compile.py --chip=v3:2x2 --cores=128 \
      --program=resnet.train --flagfile=flags/resnet/nesterov_b.flags

prints for each program of the update what one core holds: arguments are the
model, the optimizer and the data, temporary is what lies beside them while
it runs.
"""

import dataclasses
import functools
import importlib
import os
import sys
import time

import common
import tensorflow as tf
from absl import app
from absl import flags
from jax._src import compiler
from jax._src.interpreters import mlir
from jax._src.lib import xla_client
from jax._src.lib.mlir import ir
from jax.experimental import topologies

from lbcheck.settings import schedule
from lbcheck.settings import training as training_flags
from lbcheck.training.backends import engines
from lbcheck.training.backends import tpu_programs

_OWN = flags.FlagValues()
flags.DEFINE_enum(
    "program",
    None,
    ["resnet.train", "bert.pretrain"],
    "Whose flags follow.",
    flag_values=_OWN,
)
flags.DEFINE_string(
    "chip", "v3:2x2", "Topology that is compiled for.", flag_values=_OWN
)
flags.DEFINE_integer(
    "cores", 128, "Cores that share the batch.", flag_values=_OWN
)
flags.DEFINE_integer(
    "phase", 1, "Phase of bert.pretrain.", 1, 2, flag_values=_OWN
)
_MIB = 2**20
_LENGTHS = {1: (128, 20), 2: (512, 76)}
"""{phase: tokens and predictions of a record}."""


class Zeros:
    """A source of zeros."""

    num_train = 10**9
    parts = ()

    def __init__(self, element):
        self._element = element

    def train(self, batch_size, start=0, shard=0, num_shards=1):
        element = tf.nest.map_structure(
            lambda spec: tf.zeros((batch_size, *spec.shape), spec.dtype),
            self._element,
        )
        return tf.data.Dataset.from_tensors(element).repeat()


def images(program, arguments):
    """(options, build, source) of resnet.train."""
    values = program.FLAGS
    values(arguments)
    size = values.image_size or 224
    source = Zeros(
        (tf.TensorSpec((size, size, 3)), tf.TensorSpec((), tf.int32))
    )
    source.image_shape, source.num_classes = (size, size, 3), 1000
    made = training_flags.options(values, 1_281_167)
    rate = schedule.make(values, made.total_steps)
    return made, functools.partial(program.build, source, rate), source


def sentences(program, arguments):
    """(options, build, source) of a phase of bert.pretrain."""
    program.FLAGS(arguments)
    program.FLAGS.dry_run = True  # the records may be missing
    phase = program.Phase(_OWN.phase, None)
    length, predictions = _LENGTHS[_OWN.phase]
    tokens = tf.TensorSpec((length,), tf.int32)
    masked = tf.TensorSpec((predictions,), tf.int32)
    names = ("input_word_ids", "input_mask", "input_type_ids")
    labels = {
        "masked_lm_ids": masked,
        "masked_lm_weights": tf.TensorSpec((predictions,)),
        "next_sentence_labels": tf.TensorSpec((1,), tf.int32),
        "masked_lm_weight_per_example": tf.TensorSpec(()),
    }
    inputs = dict.fromkeys(names, tokens) | {"masked_lm_positions": masked}
    build = functools.partial(phase.build, begins=False)
    return phase.options, build, Zeros((inputs, labels))


def compiled(text, chip):
    """What libtpu says of the program's memory."""
    devices = topologies.get_topology_desc(
        platform="tpu", topology_name=chip
    ).devices
    # The dialect of XLA itself has a name for what changes nothing.
    text = text.replace("mhlo.copy", "stablehlo.optimization_barrier")
    return (
        devices[0]
        .client.compile(
            ir.Module.parse(text, mlir.make_ir_context()),
            xla_client.DeviceList((devices[0],)),
            compiler.get_compile_options(num_replicas=1, num_partitions=1),
        )
        .get_compiled_memory_stats()
    )


def main(arguments):
    program = importlib.import_module(_OWN.program)
    describe = images if _OWN.program == "resnet.train" else sentences
    given, build, source = describe(program, arguments)
    given = dataclasses.replace(
        given,
        batch_size=given.batch_size // _OWN.cores,
        evaluation_batch_size=None,
        distribution="tpu",
        tpu="none:1",
    )
    engine = engines.make(given)
    engine.build(build)
    function = engine.functions(source)["train"]
    print(
        f"{given.batch_size} examples a core, {engine.layout.microbatches} "
        f"passes of {engine.layout.element}, {_OWN.chip}",
        flush=True,
    )
    for problem in tpu_programs.problems(function):
        print("problem:", problem)
    for number, one in enumerate(tpu_programs.of(function), 1):
        begin = time.monotonic()
        found = compiled(one.stablehlo(), _OWN.chip)
        print(
            f"program {number}: arguments "
            f"{found.argument_size_in_bytes / _MIB:,.0f} MiB, temporary "
            f"{found.temp_size_in_bytes / _MIB:,.0f} MiB, code "
            f"{found.generated_code_size_in_bytes / _MIB:,.0f} MiB, compiled "
            f"in {time.monotonic() - begin:.0f} s",
            flush=True,
        )
        common.tell(
            f"program {number} of {_OWN.program} on {_OWN.chip}, temporary",
            found.temp_size_in_bytes / _MIB,
            "MiB",
        )


def _start():
    """Own flags first, all others are the program's."""
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    rest = _OWN(sys.argv, known_only=True)
    if _OWN.program is None:
        raise app.UsageError("--program is needed.")
    common.need("libtpu", "pip install 'jax[tpu]'")
    main(rest)


if __name__ == "__main__":
    flags.FLAGS(sys.argv[:1])  # those of common; all others are a program's
    common.or_say_why_not(_start)
