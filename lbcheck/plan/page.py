"""A plan as text."""

from lbcheck.plan import planning
from lbcheck.plan.planning import Plan
from lbcheck.plan.topologies import Topology
from lbcheck.plan.topologies import counted

_MIB = 2**20
_GIB = 2**30


def text(plans: list[Plan], topology: Topology, program: str) -> str:
    """All of a plan for the eye.

    Args:
        plans: One for each run of the program.
        topology: Where they run.
        program: Name of the program's module.
    """
    parts = [_machine(topology), *(_run(plan, topology) for plan in plans)]
    if len(plans) > 1:
        parts.append(_together(plans))
    return "\n\n".join([*parts, _start(topology, program)])


def refusal(plan: Plan, topology: Topology) -> str:
    """Why a plan cannot run, and what could."""
    needed = plan.memory.least if topology.compiled else plan.memory.most
    at_least = "at least " if topology.compiled else ""
    said = (
        f"{plan.title}: {plan.microbatch_size} examples at once need "
        f"{at_least}{_size(needed)}, a replica of {topology.name} has "
        f"{_size(plan.available)}; "
    )
    if plan.fitting:
        return f"{said}--{plan.microbatch_flag}={plan.fitting} fits."
    few = plan.ghost_batch or 1
    return (
        f"{said}no microbatch that divides the {plan.replica_batch} examples "
        f"of a replica fits{_of_ghosts(few)}."
    )


def _of_ghosts(few):
    return f" and is a multiple of the ghost batch of {few}" if few > 1 else ""


def _machine(topology):
    return (
        f"{topology.name}: {topology.title} on "
        f"{counted(topology.hosts, 'host')}, "
        f"{counted(topology.replicas, 'replica')} of {_size(topology.memory)}"
    )


def _run(plan, topology):
    sections = {
        "Batch": _batch(plan),
        "Memory of a replica": _memory(plan, topology),
        "Computation": _computation(plan, topology),
    }
    if plan.assumed:
        sections["Assumed"] = plan.assumed
    lines = [plan.title]
    for title, rows in sections.items():
        lines += [f"  {title}:", *(f"    {row}" for row in rows)]
    return "\n".join(lines)


def _batch(plan):
    rows = [
        f"{plan.steps:,} updates of {plan.batch_size:,} examples",
        f"{plan.replica_batch:,} examples a replica, in "
        f"{plan.microbatches:,} x {plan.microbatch_size:,}",
    ]
    if plan.ghost_batch:
        rows.append(
            f"ghost batches of {plan.ghost_batch:,}: {plan.ghost_batches:,} at "
            f"once, {plan.batch_size // plan.ghost_batch:,} in an update"
        )
    return rows


def _memory(plan, topology):
    memory = plan.memory
    rows = [
        ("weights", memory.weights, f"{plan.parameters:,} trained"),
        ("optimizer state", memory.optimizer_state, ""),
        ("accumulators", memory.accumulators, ""),
        ("gradients", memory.gradients, ""),
        ("activations", memory.activations, _least(plan, topology)),
        ("working set", memory.working_set, ""),
        ("sum", memory.most, _least_sum(plan, topology)),
    ]
    found = [
        f"{name:16}{size / _MIB:>12,.1f} MiB  {note}".rstrip()
        for name, size, note in rows
    ]
    return [*found, _said(plan)]


def _least(plan, topology):
    if not topology.compiled:
        return ""
    return f"at least {plan.memory.least_activations / _MIB:,.1f} by XLA"


def _least_sum(plan, topology):
    if not topology.compiled:
        return ""
    return f"at least {plan.memory.least / _MIB:,.1f}"


def _said(plan):
    said = f"{plan.verdict} {_size(plan.available)}"
    if plan.verdict == planning.FITS:
        return said.replace("fits", "fits in")
    if plan.verdict == planning.TOO_LARGE:
        said = said.replace("fit", "fit in")
    else:
        said = f"fits in {_size(plan.available)} only where XLA fuses"
    flag = f"--{plan.microbatch_flag}={plan.fitting}"
    sure = f"{flag} fits" if plan.fitting else ""
    return f"{said}; {sure or 'no smaller microbatch is sure to fit'}"


def _computation(plan, topology):
    if not plan.flops:
        return ["no convolution, product or einsum, so no time is planned"]
    seconds = plan.hours * 3600
    times = ""
    if plan.forward_flops:
        times = f" ({plan.flops / plan.forward_flops:.2f} times)"
    rows = [
        f"{plan.forward_flops / 1e9:,.3f} GFLOP an example forward, "
        f"{plan.flops / 1e9:,.3f} with the backward pass{times}",
        f"{plan.total_flops:.3e} FLOP in all",
        f"{_hours(plan.hours)} = {plan.steps:,} updates x "
        f"{plan.batch_size:,} examples x {plan.flops:.4g} FLOP / "
        f"({topology.replicas:,} replicas x {plan.peak:.4g} FLOP/s x "
        f"utilisation {plan.utilization:g}) / 3600",
        f"{seconds / plan.steps:,.3f} s an update, "
        f"{plan.batch_size * plan.steps / seconds:,.0f} examples a second",
    ]
    if plan.dollars is not None:
        price = plan.dollars / plan.hours / topology.chips
        rows.append(
            f"{plan.dollars:,.2f} dollars = {_hours(plan.hours)} x "
            f"{topology.chips:,} chips x {price:,.4g} dollars"
        )
    return rows


def _hours(hours):
    return f"{hours:,.2f} h" if hours >= 0.1 else f"{hours:.2g} h"


def _together(plans):
    hours = sum(plan.hours for plan in plans)
    said = f"Together: {_hours(hours)}"
    if plans[0].dollars is not None:
        said += f", {sum(plan.dollars for plan in plans):,.2f} dollars"
    return said


def _start(topology, program):
    return "\n".join(
        ["To start it:", *(f"  {line}" for line in commands(topology, program))]
    )


def commands(topology: Topology, program: str) -> list[str]:
    """What is run on which host; docs/plan.md has the whole of it."""
    line = f"python -m {program} --flagfile=FILE"
    if topology.accelerator == "tpu" and topology.hosts == 1:
        return [f"{line} --distribution=tpu --tpu=local"]
    if topology.accelerator == "tpu":
        return [
            f"on worker 0 of the {topology.hosts:,} hosts, which drives the "
            "others' devices:",
            f"TPU_LOAD_LIBRARY=0 {line} --distribution=tpu --tpu=NAME_OF_TPU",
        ]
    if topology.hosts > 1:
        return [
            f"on each of the {topology.hosts:,} hosts, with TF_CONFIG saying "
            "which one it is:",
            f"{line} --distribution=multi_worker",
        ]
    return [line]


def _size(number):
    return f"{number / _GIB:,.2f} GiB"
