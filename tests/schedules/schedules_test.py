"""Every schedule against an independent float64 formula; no framework."""

import dataclasses
import doctest
import importlib
import json
import math
import pkgutil
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from lbcheck import schedules
from lbcheck.schedules import Constant
from lbcheck.schedules import Cosine
from lbcheck.schedules import GoyalSteps
from lbcheck.schedules import Linear
from lbcheck.schedules import Phases
from lbcheck.schedules import Polynomial
from lbcheck.schedules import PolynomialWarmupDecay
from lbcheck.schedules import Warmup

# Nado et al. 2021, Tables 1 and 5: initial, peak, final, w, T, p_w, p_d.
RESNET = {
    "lars": (0.0, 29.0, 1e-4, 706, 2512, 1.0, 2.0),
    "nesterov_a": (0.12, 7.05, 6e-6, 638, 2512, 2.497, 1.955),
    "nesterov_b": (0.0, 7.05, 6e-6, 706, 2512, 2.0, 2.0),
    "nesterov_p1": (0.0, 7.05, 6e-6, 706, 2512, 1.0, 2.0),
    "lars_p2": (0.0, 29.0, 1e-4, 706, 2512, 2.0, 2.0),
}
# Table 7: peak, w, T, p.
BERT = {
    "32k_phase1": (5.9415e-4, 3125, 14063, 1),
    "32k_phase2": (2.8464e-4, 781, 1562, 1),
    "65k_phase1": (1.3653e-3, 2000, 7037, 2),
    "65k_phase2": (6.1951e-5, 390, 781, 2),
}
PUBLISHED = RESNET | {
    name: (0.0, peak, 0.0, w, total, power, power)
    for name, (peak, w, total, power) in BERT.items()
}


def piecewise(t, initial, peak, final, w, total, p_w, p_d):
    """Section 2.1.4, one step at a time, by `math` alone."""
    if t <= w and w > 0:
        return initial + (peak - initial) * math.pow(t / w, p_w)
    return final + (peak - final) * math.pow((total - t) / (total - w), p_d)


def error_against(schedule, oracle, total):
    """Largest relative error over every step of a run."""
    got = schedule(np.arange(total))
    want = np.array([oracle(t) for t in range(total)])
    return float(np.max(np.abs(got - want) / np.maximum(np.abs(want), 1e-300)))


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_settings_at_every_step(name):
    row = PUBLISHED[name]
    schedule = PolynomialWarmupDecay(*row)
    assert error_against(schedule, lambda t: piecewise(t, *row), row[4]) < 1e-12


@pytest.mark.parametrize(
    "mutant",
    [
        lambda t, *row: piecewise(t + 1, *row),
        lambda t, *row: piecewise(max(t - 1, 0), *row),
        # The decay counts from step 0: warm-up not shifted.
        lambda t, i, p, f, w, total, pw, pd: (
            piecewise(t, i, p, f, w, total, pw, pd)
            if t < w
            else f + (p - f) * (1 - t / total) ** pd
        ),
        # The power on the wrong side of the affine map.
        lambda t, i, p, f, w, total, pw, pd: (
            (i + (p - i) * (t / w)) ** pw
            if t <= w
            else f + (p - f) * ((total - t) / (total - w)) ** pd
        ),
        # The powers exchanged.
        lambda t, i, p, f, w, total, pw, pd: piecewise(
            t, i, p, f, w, total, pd, pw
        ),
        # MLPerf's decay of one update more.
        lambda t, i, p, f, w, total, pw, pd: (
            piecewise(t, i, p, f, w, total, pw, pd)
            if t <= w
            else piecewise(t, i, p, f, w, total + 1, pw, pd)
        ),
    ],
)
def test_the_oracle_tells_mutants_apart(mutant):
    row = PUBLISHED["nesterov_a"]
    schedule = PolynomialWarmupDecay(*row)
    assert error_against(schedule, lambda t: mutant(t, *row), 2512) > 1e-4


@pytest.mark.parametrize("batch", [2**k for k in range(9, 16)])
def test_lamb_tables_4_and_5_at_every_batch_size(batch):
    exponent = 3.0 - (math.log2(batch) - 9) / 2
    bert = schedules.lamb_bert(batch)
    assert bert.peak_rate == pytest.approx(5 / (2**exponent * 1e3), rel=1e-12)
    assert bert.warmup == pytest.approx(1 / (320 / 2 ** (math.log2(batch) - 9)))
    assert bert.total_steps == 1_000_000 // (batch // 512)
    assert bert.warmup_steps == 3125
    imagenet = schedules.lamb_imagenet(batch)
    assert imagenet.peak_rate == pytest.approx(
        4 / (2**exponent * 1e2), rel=1e-12
    )
    assert imagenet.warmup == 0.3125 * 2 ** (math.log2(batch) - 9)
    assert imagenet.total_steps == -(-90 * 1_281_167 // batch)
    for setting in (bert, imagenet):
        row = (0.0, setting.peak_rate, 0.0, *setting[1:3], 1.0, 1.0)
        schedule = PolynomialWarmupDecay(*row)
        steps = np.arange(setting.total_steps)
        w, total = setting[1:3]
        want = np.where(
            steps < w, steps / w, (total - steps) / (total - w)
        ) * float(setting.peak_rate)
        np.testing.assert_allclose(schedule(steps), want, rtol=1e-12)


def sampled_spaces():
    """Points of Tables 9 to 23: (row of `piecewise`, end of the decay)."""
    generator = np.random.default_rng(7)

    def log(low, high):
        return float(np.exp(generator.uniform(np.log(low), np.log(high))))

    for total, low in ((2658, 2392), (2815, 2533), (2815, 2100)):
        for warmup in (0, 250, 500, 977):
            peak = log(0.1, 32)
            end = int(generator.integers(low, total + 1))
            final = peak * log(3e-5, 3e-4)
            power = 2.0 if warmup else 1.0
            yield (0.0, peak, final, warmup, total, 1.0, power), end
    for _ in range(8):
        yield (
            (
                log(0.1, 1.0),
                generator.uniform(5, 9),
                log(1e-6, 5e-4),
                int(generator.integers(300, 801)),
                2512,
                generator.uniform(0.7, 3.0),
                generator.uniform(1.5, 2.5),
            ),
            2512,
        )


@pytest.mark.parametrize("row,end", list(sampled_spaces()))
def test_tables_9_to_23_at_sampled_points(row, end):
    schedule = PolynomialWarmupDecay(*row, decay_end_step=end)

    def oracle(t):
        if t >= end:
            return row[2]
        return piecewise(t, *row[:4], end, *row[5:])

    assert error_against(schedule, oracle, row[4]) < 1e-12


def test_tables_9_and_10_decay_linearly_to_a_part_of_the_rate():
    schedule = Linear(3.0, total_steps=2815, final_rate=3e-3)
    error = error_against(
        schedule, lambda t: 3.0 + (3e-3 - 3.0) * t / 2815, 2815
    )
    assert error < 1e-12


def test_offset_of_mlperf_gives_the_published_last_rates():
    lars = PolynomialWarmupDecay(*RESNET["lars"])
    longer = dataclasses.replace(lars, decay_steps_offset=1)
    assert lars(2511) == pytest.approx(1.0889e-4, rel=1e-4)
    assert longer(2511) == pytest.approx(1.3552e-4, rel=1e-4)
    assert longer(1500) == pytest.approx(9.1139, rel=1e-5)
    assert longer(706) == 29.0


def test_cosine_and_polynomial_against_their_formulas():
    cosine = Cosine(1.173, 6000, final_rate=0.1)
    error = error_against(
        cosine,
        lambda t: 0.1 + (1.173 - 0.1) * (1 + math.cos(math.pi * t / 6000)) / 2,
        6000,
    )
    assert error < 1e-12
    power = Polynomial(2.0, 300, final_rate=0.5, power=0.5)
    error = error_against(
        power, lambda t: 0.5 + 1.5 * math.sqrt(1 - t / 300), 300
    )
    assert error < 1e-12
    assert power(10_000) == 0.5 and cosine(10_000) == 0.1


@pytest.mark.parametrize("initial", [0.0, 0.1])
def test_goyal_at_every_step(initial):
    setting = schedules.goyal_imagenet(8192)
    schedule = GoyalSteps(
        setting.peak_rate,
        setting.warmup_steps,
        setting.boundaries,
        initial_rate=initial,
    )

    def oracle(t):
        if t < 782:
            return initial + (3.2 - initial) * t / 782
        return 3.2 * 0.1 ** sum(t >= b for b in (4692, 9384, 12512))

    assert error_against(schedule, oracle, setting.total_steps) < 1e-12


def test_warmup_and_phases_at_every_step():
    rows = [PUBLISHED["32k_phase1"], PUBLISHED["32k_phase2"]]
    parts = [
        Warmup(Linear(row[1], row[4] - row[3]), warmup_steps=row[3])
        for row in rows
    ]
    both = Phases(parts, (14063, 1562))

    def oracle(t):
        late = t >= 14063
        return piecewise(t - 14063 * late, *rows[late])

    assert error_against(both, oracle, 15625) < 1e-12
    third = Phases((*parts, Constant(0.5)), (14063, 1562, 10))
    assert third(15624) == both(15624) and third(15625) == 0.5


def test_epochs_to_steps_gives_the_published_numbers():
    steps = schedules.epochs_to_steps
    assert steps(64, 32768, rule="mlperf4") == 2512
    assert steps(18, 32768, rule="mlperf4") == 706
    assert steps(68, 32768) == 2658
    assert steps(72, 32768) == 2815
    assert steps(25, 32768) == 977
    assert steps(0.1, 10, examples=1000) == 10
    for recipe in (schedules.lamb_imagenet, schedules.goyal_imagenet):
        assert recipe(16_384).total_steps == 7038


def test_square_root_and_linear_rules():
    assert schedules.square_root_rule(4e-2, 32768, 512) == 4e-2 / 8
    assert schedules.linear_rule(0.1, 256, 8192) == 3.2


ROWS = st.tuples(
    st.floats(0, 1),
    st.floats(0.5, 50),
    st.floats(0, 0.4),
    st.integers(0, 400),
    st.integers(1, 400),
    st.floats(0.1, 4),
    st.floats(0.1, 4),
)


@settings(max_examples=150, deadline=None)
@given(ROWS)
def test_properties_of_the_piecewise_polynomial(row):
    initial, peak, final, w, rest, p_w, p_d = row
    total = w + rest
    schedule = PolynomialWarmupDecay(initial, peak, final, w, total, p_w, p_d)
    rates = schedule(np.arange(total + 50))
    assert np.all(rates >= 0)
    rising = np.diff(rates[: w + 1]) * np.sign(peak - initial)
    assert np.all(rising >= -1e-12 * peak)
    assert np.all(np.diff(rates[w:]) <= 1e-12 * peak)
    assert rates[0] == pytest.approx(initial if w else peak, rel=1e-12)
    assert rates[w] == peak
    last = final + (peak - final) * (1 / rest) ** p_d
    if w < total:
        assert rates[total - 1] == pytest.approx(last, rel=1e-12)
    assert np.all(rates[total:] == final)
    # Continuous: close to w on the left and right, as on a finer grid.
    for side in (-1e-9, 1e-9):
        near = schedule(max(w + side, 0.0))
        tolerance = 1e-5 + 1e-9 ** min(p_w, p_d, 1.0)
        assert abs(near - peak) <= tolerance * 4 * peak or w == 0 or rest == 1


@settings(max_examples=50, deadline=None)
@given(
    st.sampled_from([Linear, Cosine, Polynomial]),
    st.floats(0.01, 10),
    st.integers(2, 300),
    st.integers(0, 100),
    st.floats(0.2, 3),
)
def test_properties_of_warmup_over_any_decay(family, peak, total, w, power):
    schedule = Warmup(family(peak, total), w, power=power)
    rates = schedule(np.arange(w + total + 1))
    assert np.all(rates >= 0) and rates[w] == pytest.approx(peak, rel=1e-12)
    assert np.all(np.diff(rates[: w + 1]) >= 0)
    assert np.all(np.diff(rates[w:]) <= 1e-12 * peak)
    assert rates[0] == (0.0 if w else pytest.approx(peak, rel=1e-12))
    assert rates[w + total] == 0.0


EXAMPLES = (
    PolynomialWarmupDecay(0.1, 2.0, 0.01, 5, 20, 1.5, 2.5, 18, 1),
    Polynomial(2.0, 20, 0.1, 0.5),
    Linear(2.0, 20, 0.1),
    Cosine(2.0, 20, 0.1),
    Constant(0.3),
    GoyalSteps(3.2, 4, (6, 12), 0.2, 0.1),
    Warmup(Cosine(2.0, 20), 5, 2.0, 0.1, 1.5, False),
    Phases((Warmup(Linear(1.0, 5), 3), Cosine(0.5, 4)), (8, 4)),
    schedules.BiasCorrected(Cosine(2.0, 20), 0.8, 0.99),
)


@pytest.mark.parametrize("schedule", EXAMPLES, ids=lambda s: type(s).__name__)
def test_config_round_trip_through_json(schedule):
    described = json.loads(json.dumps(schedules.serialize(schedule)))
    again = schedules.deserialize(described)
    assert again == schedule
    steps = np.arange(30)
    np.testing.assert_array_equal(again(steps), schedule(steps))


def test_every_family_has_an_example():
    assert {type(s).__name__ for s in EXAMPLES} == set(schedules.FAMILIES)


@pytest.mark.parametrize("schedule", EXAMPLES, ids=lambda s: type(s).__name__)
def test_numbers_and_arrays_agree(schedule):
    steps = np.arange(30, dtype=np.uint16)
    rates = schedule(steps)
    assert rates.dtype == np.float64 and rates.shape == (30,)
    assert [schedule(int(t)) for t in steps] == list(rates)
    assert type(schedule(3)) is float
    np.testing.assert_array_equal(schedule(steps.astype(np.float32)), rates)


BAD = [
    (dict(warmup_steps=101), ValueError, "warmup_steps.*101"),
    (dict(total_steps=0), ValueError, "total_steps.*0"),
    (dict(total_steps=-5), ValueError, "total_steps.*-5"),
    (dict(total_steps=99.5), ValueError, "total_steps.*99.5"),
    (dict(peak_rate=float("nan")), ValueError, "peak_rate.*nan"),
    (dict(peak_rate=-1.0), ValueError, "peak_rate.*-1"),
    (dict(peak_rate="1"), TypeError, "peak_rate.*'1'"),
    (dict(warmup_power=-0.5), ValueError, "warmup_power.*-0.5"),
    (dict(decay_power=-2), ValueError, "decay_power.*-2"),
    (dict(decay_end_step=5), ValueError, "decay_end_step=5"),
    (dict(decay_end_step=101), ValueError, "decay_end_step=101"),
    (dict(decay_steps_offset=2), ValueError, "decay_steps_offset.*2"),
    (dict(total_steps=float("inf")), ValueError, "total_steps.*inf"),
]


@pytest.mark.parametrize("change,kind,message", BAD)
def test_bad_fields_are_named(change, kind, message):
    fields = dict(
        initial_rate=0.0,
        peak_rate=1.0,
        final_rate=0.0,
        warmup_steps=10,
        total_steps=100,
    )
    with pytest.raises(kind, match=message):
        PolynomialWarmupDecay(**fields | change)


def test_other_bad_input_is_named():
    with pytest.raises(TypeError, match="after.*0.1"):
        Warmup(0.1, 5)
    with pytest.raises(ValueError, match="warmup_steps=11"):
        Warmup(Linear(1.0, 10), 11, shift=False)
    with pytest.raises(ValueError, match="its length"):
        Phases((PolynomialWarmupDecay(0, 1, 0, 9, 10),), (8,))
    with pytest.raises(ValueError, match="boundaries"):
        GoyalSteps(1.0, 5, (20, 10))
    with pytest.raises(ValueError, match="at least 0.*-1"):
        Constant(0.1)(-1)
    with pytest.raises(ValueError, match="nan"):
        Constant(0.1)(float("nan"))
    with pytest.raises(TypeError, match="True"):
        Constant(0.1)(True)
    with pytest.raises(ValueError, match="rule.*'round'"):
        schedules.epochs_to_steps(1, 10, rule="round")
    with pytest.raises(ValueError, match="163840"):
        schedules.lamb_bert(200_000)
    with pytest.raises(ValueError, match="keras.*'keras2'"):
        Constant(0.1).as_keras("keras2")
    with pytest.raises(ValueError, match="Unknown schedule 'os'"):
        schedules.deserialize({"class_name": "os", "config": {}})


def test_examples_in_docstrings():
    names = [
        module.name
        for module in pkgutil.walk_packages(
            schedules.__path__, "lbcheck.schedules."
        )
        if not module.name.endswith(("keras_schedule", "keras3_schedule"))
    ]
    tried = 0
    for name in [*names, "bert.schedule"]:
        result = doctest.testmod(importlib.import_module(name))
        assert result.failed == 0, name
        tried += result.attempted
    assert tried > 50


def test_no_framework_is_imported():
    code = (
        "import sys; from lbcheck import schedules as s; import bert.schedule;"
        "s.examine(s.Linear(1.0, 50), 50);"
        "assert not {'tensorflow', 'jax', 'keras', 'tf_keras', 'torch', "
        "'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
