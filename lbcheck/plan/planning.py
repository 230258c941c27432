"""Memory, microbatches, hours and dollars of a run on a topology.

    memory of a replica = weights + optimizer state + accumulators
                          + gradients + activations + working set
    seconds = updates x batch x FLOPs of an example
              / (replicas x peak FLOP/s of a replica x utilisation)
    dollars = hours x chips x price of a chip for an hour

Gradients are as large as the trainable weights; accumulators are so once more
where an update takes several microbatches. Activations are what the forward
pass leaves for the backward pass; on a compiled device they are at least
`least_activations` and at most `activations` (see `lbcheck.plan.graph`).
"""

from collections.abc import Callable
from typing import NamedTuple

from lbcheck.plan import network
from lbcheck.plan.run import Run
from lbcheck.plan.topologies import Topology
from lbcheck.plan.topologies import counted
from lbcheck.training.backends import engines

FITS = "fits"
COMPILED = "fits if XLA fuses"
TOO_LARGE = "does not fit"


class Memory(NamedTuple):
    """Bytes of one replica, see the module."""

    weights: int
    optimizer_state: int
    accumulators: int
    gradients: int
    activations: int
    least_activations: int
    working_set: int

    @property
    def most(self) -> int:
        """Where nothing is computed again."""
        return sum(self) - self.least_activations

    @property
    def least(self) -> int:
        """Where every elementwise operation is."""
        return sum(self) - self.activations


class Plan(NamedTuple):
    """A run on a topology.

    Attributes:
        title: Of the run.
        batch_size: Examples of an update.
        steps: Updates.
        replica_batch: Examples of one replica in an update.
        microbatch_size: Examples of a replica at once.
        microbatches: How many of them an update takes.
        ghost_batch: Examples of a ghost batch, or None.
        ghost_batches: Ghost batches of one replica's microbatch, or None.
        parameters: Trainable weights.
        memory: Of one replica.
        available: Bytes that it has.
        verdict: `FITS`, `COMPILED` or `TOO_LARGE`.
        fitting: The largest microbatch that is sure to fit, where this one
            is not; None: there is none, or this one is.
        forward_flops: Of one example, forward.
        flops: Of one example, forward and backward.
        peak: FLOP/s of one replica.
        utilization: Part of the peak that is reached.
        hours: At that utilisation.
        dollars: None without a price.
        microbatch_flag: The flag of the program that sets the microbatch.
        assumed: What the run's program does not know.
    """

    title: str
    batch_size: int
    steps: int
    replica_batch: int
    microbatch_size: int
    microbatches: int
    ghost_batch: int | None
    ghost_batches: int | None
    parameters: int
    memory: Memory
    available: int
    verdict: str
    fitting: int | None
    forward_flops: float
    flops: float
    peak: float
    utilization: float
    hours: float
    dollars: float | None
    microbatch_flag: str
    assumed: tuple[str, ...]

    @property
    def total_flops(self) -> float:
        """Of the whole run."""
        return self.steps * self.batch_size * self.flops


def plan(
    run: Run,
    topology: Topology,
    utilization: float,
    price_per_chip_hour: float | None = None,
    trace: Callable[[Run, int], network.Network] = network.trace,
) -> Plan:
    """Plans a run.

    Args:
        run: What its program said.
        topology: Where it is to run.
        utilization: Part of the peak that is reached, in (0, 1].
        price_per_chip_hour: Dollars, or None.
        trace: (run, microbatch) -> `Network`.

    Raises:
        ValueError: The options do not train on all replicas, the batch does
            not divide among them, the ghost batch does not divide it, or the
            device has no such type.
    """
    options = run.options
    _check_trains(options, topology)
    layout = engines.layout(options, topology.replicas)
    engines.check_ghost_batches(options, layout)
    ghost = engines.ghost_batch(options, layout)
    peak = _peak(topology, options.mixed_precision)
    traced = trace(run, layout.element)
    memory = memory_of(traced, layout.microbatches)
    verdict = _verdict(memory, topology)
    flops = traced.found.flops / traced.examples
    examples = options.total_steps * options.batch_size
    reached = topology.replicas * peak * utilization
    hours = examples * flops / reached / 3600
    price = price_per_chip_hour
    return Plan(
        title=run.title,
        batch_size=options.batch_size,
        steps=options.total_steps,
        replica_batch=layout.replica_batch,
        microbatch_size=layout.element,
        microbatches=layout.microbatches,
        ghost_batch=ghost,
        ghost_batches=ghost and layout.element // ghost,
        parameters=traced.parameters,
        memory=memory,
        available=topology.memory,
        verdict=verdict,
        fitting=None
        if verdict == FITS
        else _fitting(run, traced, layout, topology, trace),
        forward_flops=traced.found.forward_flops / traced.examples,
        flops=flops,
        peak=peak,
        utilization=utilization,
        hours=hours,
        dollars=None if price is None else hours * topology.chips * price,
        microbatch_flag=run.microbatch_flag,
        assumed=run.assumed,
    )


def memory_of(
    traced: network.Network, microbatches: int, examples: int | None = None
) -> Memory:
    """The memory of a replica.

    Args:
        traced: The network.
        microbatches: Of an update.
        examples: Of a microbatch, of which it takes so much at least; None:
            those that were traced.
    """
    part = 1 if examples is None else examples / traced.examples
    found = traced.found
    return Memory(
        weights=traced.weight_bytes,
        optimizer_state=traced.slot_bytes,
        accumulators=traced.trainable_bytes if microbatches > 1 else 0,
        gradients=traced.trainable_bytes,
        activations=round(found.kept * part),
        least_activations=round(found.least * part),
        working_set=round(found.working * part),
    )


def _verdict(memory, topology):
    if memory.most <= topology.memory:
        return FITS
    if topology.compiled and memory.least <= topology.memory:
        return COMPILED
    return TOO_LARGE


def _fitting(run, traced, layout, topology, trace):
    """The largest smaller microbatch that fits in any case."""
    ghost = engines.ghost_batch(run.options, layout)
    for size in range(layout.element - 1, 0, -1):
        count, rest = divmod(layout.replica_batch, size)
        if rest or size % (ghost or 1):
            continue
        # At least so much: weights in half precision, for one, do not shrink.
        least = memory_of(traced, count, size)
        if (
            _verdict(least, topology) == FITS
            and _verdict(memory_of(trace(run, size), count), topology) == FITS
        ):
            return size
    return None


def _check_trains(options, topology):
    """Refuses options that would leave a replica without work."""
    devices = (
        f"{topology.name}, {counted(topology.replicas, 'replica')} on "
        f"{counted(topology.hosts, 'host')}"
    )
    tpu = topology.accelerator == "tpu"
    if options.keras == "keras3" and (tpu or topology.replicas > 1):
        raise ValueError(
            "keras='keras3' trains on one GPU or CPU, not on all of "
            f"{devices}; expected keras='tf_keras'."
        )
    if tpu:
        expected = ("auto", "tpu")
    elif topology.hosts > 1:
        expected = ("auto", "multi_worker")
    elif topology.replicas > 1:
        expected = ("auto", "mirrored", "multi_worker")
    else:
        expected = ("auto", "one_device", "mirrored", "multi_worker")
    if options.distribution not in expected:
        raise ValueError(
            f"distribution={options.distribution!r} does not train on all of "
            f"{devices}; expected {' or '.join(map(repr, expected))}."
        )
    if options.tpu is not None and not tpu:
        raise ValueError(
            f"tpu={options.tpu!r} does not train on {devices}, which is no TPU."
        )


def _peak(topology, precision):
    if precision not in topology.peak:
        types = ", ".join(name or "float32" for name in topology.peak)
        raise ValueError(
            f"mixed_precision={precision!r}: {topology.title} computes in "
            f"{types}."
        )
    return topology.peak[precision]
