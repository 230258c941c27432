"""Arithmetic of `lbcheck plan` against numbers worked out by hand."""

import json
import math

import pytest

from lbcheck import training
from lbcheck.plan import Run
from lbcheck.plan import network
from lbcheck.plan import page
from lbcheck.plan import plan_command
from lbcheck.plan import planning
from lbcheck.plan import topologies

GIB = 2**30


class Found:
    """Of 4 examples: 2 GiB between the passes, or 1; 100 FLOPs each."""

    forward_flops, flops, kept, least, working = 120, 400, 2 * GIB, GIB, GIB


def traced(run, examples):
    """A network of 1 GiB whose passes grow with the microbatch."""
    del run
    part = examples / 4
    found = Found()
    for name in ("forward_flops", "flops", "kept", "least", "working"):
        setattr(found, name, round(getattr(Found, name) * part))
    return network.Network(
        examples=examples,
        parameters=7,
        trainable_bytes=GIB,
        weight_bytes=GIB + 8,
        slot_bytes=2 * GIB,
        found=found,
    )


def run(batch_size=64, **options):
    chosen = training.Options(
        output_dir="none",
        batch_size=batch_size,
        total_steps=10,
        **options,
    )
    return Run("a run", chosen, None, None)


def device(gib, replicas=4, compiled=False):
    return topologies.Topology(
        name="made-up",
        title="a machine",
        replicas=replicas,
        chips=2,
        hosts=1,
        memory=gib * GIB,
        peak={None: 1000.0},
        compiled=compiled,
        accelerator="gpu",
    )


def plan(run, topology, utilization=0.5, price=None):
    return planning.plan(run, topology, utilization, price, traced)


def test_batch_memory_time_and_money():
    found = plan(run(microbatch_size=4), device(80), price=3.0)
    assert (found.replica_batch, found.microbatches) == (16, 4)
    assert found.memory == planning.Memory(
        weights=GIB + 8,
        optimizer_state=2 * GIB,
        accumulators=GIB,
        gradients=GIB,
        activations=2 * GIB,
        least_activations=GIB,
        working_set=GIB,
    )
    assert found.memory.most == 8 * GIB + 8
    assert found.memory.least == 7 * GIB + 8
    assert (found.forward_flops, found.flops) == (30, 100)
    # 10 updates of 64 examples of 100 FLOPs by 4 devices at half of 1000.
    assert found.total_flops == 64_000
    assert math.isclose(found.hours, 64_000 / (4 * 1000 * 0.5) / 3600)
    assert math.isclose(found.dollars, 32 / 3600 * 2 * 3.0)


def test_one_microbatch_has_no_accumulators_and_no_price_no_dollars():
    found = plan(run(), device(80))
    assert found.microbatches == 1 and found.memory.accumulators == 0
    assert found.memory.activations == 8 * GIB  # of 16 examples
    assert found.dollars is None and found.verdict == planning.FITS


@pytest.mark.parametrize(
    "ghost, gib, fitting",
    [
        (None, 17, None),  # fits: 4 + 8 + 4 GiB
        (None, 16, 8),  # 8 at once: 5 + 4 + 2 GiB
        (None, 10, 4),  # 5 + 2 + 1
        (8, 10, None),  # 4 is no multiple of the ghost batch
        (4, 10, 4),
        (0, 10, None),  # all 16 of a replica
        (None, 5, None),  # not even 1
    ],
)
def test_the_largest_microbatch_that_fits(ghost, gib, fitting):
    found = plan(run(virtual_batch_size=ghost), device(gib))
    assert found.fitting == fitting
    assert (found.verdict == planning.FITS) == (gib == 17)


def test_what_does_not_shrink_with_the_microbatch_counts():
    def cast(run, examples):
        """With 3 GiB more of any examples, as weights in half precision."""
        found = traced(run, examples)
        found.found.kept += 3 * GIB
        return found

    # 8 at once take 5 + 3 + 4 + 2 GiB; in proportion to 16 it would be 12.5.
    found = planning.plan(run(), device(13), 0.5, None, cast)
    assert found.fitting == 4


def test_only_a_compiled_device_may_do_with_less():
    # 16 at once: at most 16 GiB and a little, at least 12.
    for gib, compiled, verdict in (
        (13, True, planning.COMPILED),
        (13, False, planning.TOO_LARGE),
        (12, True, planning.TOO_LARGE),
        (17, True, planning.FITS),
    ):
        found = plan(run(), device(gib, compiled=compiled))
        assert found.verdict == verdict


def test_ghost_batches():
    found = plan(run(microbatch_size=8, virtual_batch_size=4), device(80))
    assert found.ghost_batches == 2
    text = page.text([found], device(80), "a.program")
    assert "ghost batches of 4: 2 at once, 16 in an update" in text
    found = plan(run(microbatch_size=16, virtual_batch_size=0), device(80))
    assert (found.ghost_batch, found.ghost_batches) == (16, 1)


def test_what_cannot_be_divided_is_refused():
    with pytest.raises(ValueError, match="batch_size=63 does not divide"):
        plan(run(63), device(80))
    with pytest.raises(ValueError, match="microbatch_size=5 does not divide"):
        plan(run(microbatch_size=5), device(80))
    said = "_size=32 does not divide the 16 examples of a replica .*=64, 4 rep"
    with pytest.raises(ValueError, match=said):
        plan(run(virtual_batch_size=32), device(80))
    said = "virtual_batch_size=8 does not divide microbatch_size=4"
    with pytest.raises(ValueError, match=said):
        plan(run(microbatch_size=4, virtual_batch_size=8), device(80))
    said = "=0 takes all 16 examples of a replica together, which microb.*=4 d"
    with pytest.raises(ValueError, match=said):
        plan(run(microbatch_size=4, virtual_batch_size=0), device(80))
    with pytest.raises(ValueError, match="'float16': a machine computes in fl"):
        plan(run(mixed_precision="float16"), device(80))


@pytest.mark.parametrize(
    "name, options, said",
    [
        ("8xH100", {"keras": "keras3"}, "keras='keras3' trains on one GPU or"),
        ("v5e-1", {"keras": "keras3"}, "not on all of v5e-1, 1 replica on 1 h"),
        (
            "8xH100",
            {"distribution": "one_device"},
            "of 8xH100, 8 replicas on 1 host; expected 'auto' or 'mirrored'",
        ),
        (
            "16xH100",
            {"distribution": "mirrored"},
            "16 replicas on 2 hosts; expected 'auto' or 'multi_worker'",
        ),
        ("v3-8", {"distribution": "mirrored"}, "expected 'auto' or 'tpu'"),
        ("1xH100", {"distribution": "tpu"}, "distribution='tpu' does not"),
        ("1xH100", {"tpu": "local"}, "tpu='local' does not train on 1xH100"),
    ],
)
def test_options_that_leave_a_replica_idle_are_refused(name, options, said):
    with pytest.raises(ValueError, match=said):
        plan(run(**options), topologies.find(name))


@pytest.mark.parametrize(
    "name, options",
    [
        ("1xH100", {"keras": "keras3", "distribution": "one_device"}),
        ("8xH100", {"distribution": "mirrored"}),
        ("16xH100", {"distribution": "multi_worker"}),
        ("v3-8", {"distribution": "tpu", "tpu": "none:8"}),
    ],
)
def test_options_that_train_on_all_replicas_are_planned(name, options):
    assert plan(run(**options), topologies.find(name)).steps == 10


def test_a_refusal_says_what_fits():
    found = plan(run(), device(10))
    said = page.refusal(found, device(10))
    assert said == (
        "a run: 16 examples at once need 16.00 GiB, a replica of made-up has "
        "10.00 GiB; --microbatch_size=4 fits."
    )
    compiled = device(10, compiled=True)
    said = page.refusal(plan(run(virtual_batch_size=8), compiled), compiled)
    assert "need at least 12.00 GiB" in said
    assert said.endswith(
        "no microbatch that divides the 16 examples of a replica fits and is "
        "a multiple of the ghost batch of 8."
    )


def test_the_formula_in_the_text_gives_the_hours():
    found = plan(run(), device(80), price=3.0)
    text = page.text([found, found], device(80), "a.program")
    line = next(x for x in text.splitlines() if "updates x" in x)
    assert (
        line.split()
        == (
            "0.0089 h = 10 updates x 64 examples x 100 FLOP / (4 replicas x "
            "1000 FLOP/s x utilisation 0.5) / 3600"
        ).split()
    )
    assert "Together: 0.018 h, 0.11 dollars" in text


def test_json_is_the_plan():
    found = plan(run(microbatch_size=4), device(80))
    read = json.loads(json.dumps(plan_command.as_json([found], device(80))))
    (one,) = read["runs"]
    assert one["memory"]["most"] == 8 * GIB + 8
    assert one["verdict"] == "fits" and one["fitting"] is None
    assert read["dollars"] is None
    assert read["hours"] == found.hours == one["hours"]
    assert read["topology"]["peak"] == {"float32": 1000.0}


def test_no_time_where_nothing_is_multiplied():
    def nothing(run, examples):
        found = traced(run, examples)
        found.found.flops = found.found.forward_flops = 0
        return found

    found = planning.plan(run(), device(80), 0.5, 3.0, nothing)
    assert found.hours == found.dollars == 0
    text = page.text([found], device(80), "a.program")
    assert "no convolution, product or einsum, so no time is planned" in text
    assert "a second" not in text
