"""What a run would do, as text: for --dry_run of every program.

The memory estimate adds, for one replica:

* parameters: all weights of the model, moving statistics included;
* optimizer state: all variables of the optimizer, built on the model;
* gradients: the trainable weights once, and once more for the accumulators
  where an update takes several microbatches;
* activations: the outputs of all layers for one microbatch, in the type the
  network computes in, where their shapes are known. It is what the backward
  pass may keep; the kernels' own buffers are not in it.
"""

import importlib
import math

import numpy as np

from lbcheck import schedules
from lbcheck.support import kerases

_MEBIBYTE = 2**20


def report(
    flagfile: str, options, plan: dict, checks, build, rate: schedules.Schedule
) -> str:
    """The text of a dry run; builds model and optimizer, writes nothing.

    Args:
        flagfile: The resolved settings as flags.
        options: `lbcheck.training.Options`.
        plan: What `lbcheck.training.plan` returned, with the keys
            "microbatch_size" and "microbatches".
        checks: Lines on the data, what `source.check()` returned.
        build: (keras, optimizers) -> workload, as for `training.run`.
        rate: The schedule.
    """
    workload = build(
        importlib.import_module(kerases.LIBRARIES[options.keras]),
        importlib.import_module(f"lbcheck.{options.keras}"),
    )
    sections = {
        "Settings": flagfile.splitlines(),
        "Data": checks,
        "Optimizer": _optimizer(workload),
        "Learning rate": _rates(rate, options.total_steps),
        "Plan": [f"{key}: {value}" for key, value in plan.items()],
        "Memory of a replica, estimated": _memory(workload, options, plan),
    }
    return listing(sections)


def listing(sections: dict[str, list[str]]) -> str:
    """Titles with their lines below, indented."""
    return "\n".join(
        "\n".join([f"{title}:", *(f"  {line}" for line in lines)])
        for title, lines in sections.items()
    )


def _optimizer(workload):
    optimizer = workload.optimizer
    optimizer.build(workload.model.trainable_variables)
    variables = optimizer.assignments
    decayed = sum(v.decay and v.rule.weight_decay > 0 for v in variables)
    adapted = sum(v.adapt for v in variables)
    lines = [
        repr(optimizer),
        f"{len(variables)} variables: {decayed} decayed by the rule, "
        f"{adapted} with a trust ratio, {len(workload.model.losses)} under "
        "L2 in the loss",
    ]
    fallbacks = [v.rule for v in variables if v.fallback]
    if fallbacks:
        lines.append(f"{len(fallbacks)} variables by {fallbacks[0]}")
    return lines


def _rates(rate, total_steps):
    steps = {0, total_steps // 2, total_steps - 1}
    warmup = getattr(rate, "warmup_steps", None)
    if warmup is not None:
        steps.add(min(warmup, total_steps - 1))
    return [
        f"update {step}: {rate(step):.6g}"
        + (" (warm-up ends)" if step == warmup else "")
        for step in sorted(steps)
    ]


def _memory(workload, options, plan):
    model = workload.model
    microbatch = plan["microbatch_size"]
    compute = 2 if options.mixed_precision else 4
    trainable = _bytes(model.trainable_variables)
    parts = {
        "parameters": _bytes(model.weights),
        "optimizer state": _bytes(workload.optimizer.variables),
        "gradients": trainable,
        "accumulators": trainable if plan["microbatches"] > 1 else 0,
    }
    outputs = _outputs(model)
    if outputs is not None:
        activations = outputs * microbatch * compute
        parts[f"activations of {microbatch} examples"] = activations
        parts["sum"] = sum(parts.values())
    else:
        parts["sum without activations"] = sum(parts.values())
    return [
        f"{name}: {size / _MEBIBYTE:,.1f} MiB" for name, size in parts.items()
    ]


def _outputs(model):
    """Numbers that all layers give for an example; None: no way to tell."""
    if not getattr(model, "_is_graph_network", hasattr(model, "operations")):
        return None
    outputs = [layer.output for layer in model.layers[1:]]
    shapes = [getattr(output, "shape", [None, None]) for output in outputs]
    if any(None in shape[1:] for shape in shapes):
        return None
    return sum(math.prod(shape[1:]) for shape in shapes)


def _bytes(variables):
    return sum(
        math.prod(variable.shape) * _itemsize(variable.dtype)
        for variable in variables
    )


def _itemsize(dtype):
    """Bytes of an element; TensorFlow's types know, Keras 3's are names."""
    name = getattr(dtype, "name", dtype)
    return 2 if name == "bfloat16" else np.dtype(name).itemsize
