"""Compares `lbcheck plan` with what is measured on this machine.

    python benchmarks/plan_measured.py
    python benchmarks/plan_measured.py --case='BERT mini, 128 tokens, 32'

Each case, or the one that is named, is planned and then run, in processes of
its own:

* memory: bytes of the variables, the optimizer's too, and by how much the
  resident set grows in the first pass forward and backward, which is traced
  before. TensorFlow's own working memory (about 50 MiB) is in it;
* FLOPs: XLA's cost analysis of the forward and backward pass, before XLA
  optimizes it, for one example and for two: their difference is an example's.
  It counts elementwise operations, too. For the forward pass of an image model
  also TensorFlow's profiler (float_operation);
* what XLA assigns: temporaries and results of the compiled pass.
"""

import ctypes
import gc
import json
import math
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import common
import tensorflow as tf
from absl import app
from absl import flags

import lbcheck
from lbcheck.plan import plan_command
from lbcheck.plan import planning
from lbcheck.plan import topologies
from lbcheck.support import flagfiles
from lbcheck.support import text_table

_CASE = flags.DEFINE_string("case", None, "The only one; unset: all.")
_MEASURE = flags.DEFINE_enum(
    "measure",
    None,
    ["measure_memory", "measure_flops", "measure_xla"],
    "Print this of the case and no table.",
)

CASES = {
    "ResNet-50, 224 pixels, 8": (
        "resnet.train --flagfile=flags/resnet/nesterov_b.flags "
        "--virtual_batch_size=8 --microbatch_size=8 --batch_size=8"
    ),
    "ResNet-50, 224 pixels, 32": (
        "resnet.train --flagfile=flags/resnet/nesterov_b.flags "
        "--virtual_batch_size=32 --microbatch_size=32 --batch_size=32"
    ),
    "BERT mini, 128 tokens, 32": (
        "bert.pretrain --flagfile=flags/bert/you2019_lamb_32768.flags "
        "--phase=1 --bert_config=mini --microbatch_size=32 --batch_size=32"
    ),
    "BERT base, 128 tokens, 8": (
        "bert.pretrain --flagfile=flags/bert/you2019_lamb_32768.flags "
        "--phase=1 --bert_config=base --microbatch_size=8 --batch_size=8"
    ),
    "BERT mini, 512 tokens, 8": (
        "bert.pretrain --flagfile=flags/bert/you2019_lamb_32768.flags "
        "--phase=2 --bert_config=mini --phase2_microbatch_size=8 "
        "--phase2_batch_size=8"
    ),
}

COMPILED = ("ResNet-50, 224 pixels, 8", "BERT mini, 128 tokens, 32")
"""Cases that XLA compiles here in minutes."""


def run_of(case):
    """The run of a case, as `lbcheck plan` gets it."""
    program, *arguments = CASES[case].split()
    expanded = flagfiles.expanded(arguments)
    return plan_command.described(program, expanded)[0]


def planned(case):
    """The plan of a case on this machine."""
    return planning.plan(run_of(case), topologies.find("cpu"), 0.3)


def zeros(nested):
    """Arrays of the shapes of `Run.example`."""
    if isinstance(nested, dict):
        return {name: zeros(value) for name, value in nested.items()}
    return tf.zeros(*nested)


def built(run):
    """The compiled model of a run, the run's optimizer with it."""
    import tf_keras

    workload = run.build(tf_keras, lbcheck.tf_keras)
    workload.optimizer.build(workload.model.trainable_variables)
    workload.model.compile(workload.optimizer, workload.loss)
    return workload.model


def passes(model):
    """The gradients as a function of inputs and labels."""

    def step(inputs, labels):
        with tf.GradientTape() as tape:
            predicted = model(inputs, training=True)
            loss = model.compute_loss(inputs, labels, predicted, None)
        gradients = tape.gradient(loss, model.trainable_variables)
        return [tf.convert_to_tensor(g) for g in gradients if g is not None]

    return step


def resident(key):
    """A number of /proc/self/status, in bytes."""
    text = pathlib.Path("/proc/self/status").read_text()
    return int(re.search(rf"{key}:\s+(\d+)", text)[1]) * 1024


def measure_memory(case):
    """Bytes of the variables, and what a traced pass adds to the process."""
    run = run_of(case)
    example = zeros_of(run, run.options.batch_size)
    model = built(run)
    variables = [*model.weights, *model.optimizer.variables]
    step = tf.function(passes(model)).get_concrete_function(*example)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    before = resident("VmRSS")
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # forgets the peak
    step(*example)
    held = sum(math.prod(v.shape) * v.dtype.size for v in variables)
    return {"memory": held + resident("VmHWM") - before}


def zeros_of(run, examples):
    """Inputs and labels."""
    return tuple(map(zeros, run.example(examples)))


def measure_flops(case):
    """FLOPs of an example: XLA's of both passes, TensorFlow's of the first."""
    run = run_of(case)
    model = built(run)
    ghost = run.options.virtual_batch_size or 1
    counts = [cost(model, run, n * ghost) for n in (1, 2)]
    found = {"xla": (counts[1] - counts[0]) / ghost}
    forward = tf.function(lambda x: model(x, training=True))
    specs = tf.nest.map_structure(
        lambda a: tf.TensorSpec(a.shape, a.dtype), zeros_of(run, ghost)[0]
    )
    graph = forward.get_concrete_function(specs).graph
    profiler = tf.compat.v1.profiler
    options = profiler.ProfileOptionBuilder.float_operation()
    options["output"] = "none"
    counted = profiler.profile(graph, options=options)
    return found | {"profiler": counted.total_float_ops / ghost}


def cost(model, run, examples):
    """XLA's count of a pass forward and backward."""
    import jax
    from jaxlib import _hlo
    from jaxlib import _jax

    step = tf.function(passes(model), jit_compile=True)
    text = step.experimental_get_compiler_ir(*zeros_of(run, examples))("hlo")
    module = _hlo.hlo_module_from_text(text)
    client = jax.devices("cpu")[0].client
    return _jax.hlo_module_cost_analysis(client, module)["flops"]


def measure_xla(case):
    """Bytes of XLA's temporaries and results."""
    run = run_of(case)
    step = tf.function(passes(built(run)), jit_compile=True)
    step(*zeros_of(run, run.options.batch_size))
    (folder,) = re.findall(r"--xla_dump_to=(\S+)", _flags())
    found = 0
    for path in pathlib.Path(folder).glob("*step*buffer-assignment.txt"):
        lines = path.read_text().splitlines()
        sizes = (re.search(r"allocation.*size (\d+), (.*)", x) for x in lines)
        for line in filter(None, sizes):
            if "temp" in line[2] or "live-out" in line[2]:
                found += int(line[1])
    return {"assigned": found}


def _flags():
    return os.environ["XLA_FLAGS"]


def apart(name, case):
    """What a measurement gives in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        dump = f"--xla_dump_to={folder} --xla_dump_hlo_as_text"
        extra = {"XLA_FLAGS": dump} if name == "measure_xla" else {}
        done = subprocess.run(
            [sys.executable, __file__, f"--measure={name}", f"--case={case}"],
            env=os.environ | extra | {"TF_CPP_MIN_LOG_LEVEL": "3"},
            stdout=subprocess.PIPE,
            check=True,
        )
    return json.loads(done.stdout.splitlines()[-1])


def rows_of(case):
    """Lines of the table."""
    plan = planned(case)
    flops = measure_flops(case)
    compared = [
        ("GFLOP, both passes", plan.flops, flops["xla"], 1e9),
        (
            "MiB of a replica",
            plan.memory.most,
            apart("measure_memory", case)["memory"],
            2**20,
        ),
    ]
    if case.startswith("ResNet"):  # the profiler does not know einsum
        forward = plan.forward_flops, flops["profiler"]
        compared.append(("GFLOP, forward", *forward, 1e9))
    if case in COMPILED:
        memory = plan.memory
        passed = memory.gradients + memory.activations + memory.working_set
        found = apart("measure_xla", case)["assigned"]
        compared.append(("MiB of a pass, by XLA", passed, found, 2**20))
    for what, expected, found, unit in compared:
        numbers = [f"{n / unit:,.2f}" for n in (expected, found)]
        common.tell(
            f"planned {what}: {case}",
            expected / unit,
            what.partition(" ")[0].rstrip(","),
            found / unit,
            "measured",
        )
        yield case, what, *numbers, f"{100 * (expected / found - 1):+.1f} %"


def main(argv):
    """Prints the table, or one measurement for it."""
    del argv
    if _CASE.value not in (None, *CASES):
        raise app.UsageError(
            f"--case={_CASE.value!r}; expected one of {[*CASES]}."
        )
    chosen = [_CASE.value] if _CASE.value else [*CASES]
    if _MEASURE.value:
        print(json.dumps(globals()[_MEASURE.value](chosen[0])))
        return
    heads = ["case", "what", "planned", "measured", "difference"]
    for case in chosen:
        rows = list(rows_of(case))
        print(text_table.text_table(heads, rows, (2, 3, 4)), flush=True)


if __name__ == "__main__":
    common.start(main, case="BERT mini, 128 tokens, 32")
