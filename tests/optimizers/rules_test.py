"""The rules in float64 against references that share no code with them."""

import dataclasses
import decimal
import fractions

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies

from lbcheck import optimizers
from lbcheck import rules
from lbcheck.conform import reference
from tests.optimizers import dialects
from tests.optimizers import trajectory

STEPS = 200
EXACT = 1e-12
MUTANT = 1e-3
PEAK = {o.rule_class.title: o.example["learning_rate"] for o in optimizers.ALL}
PEAK |= {"Momentum": 0.1, "LARS": 20.0}
LAMB_TURNS = {"beta_1": 0.9, "beta_2": 0.99, "weight_decay": 0.3}


def beta_schedule(t):
    """A momentum schedule as in Nadam: rises with t."""
    return 0.95 * (1.0 - 0.5 * 0.96 ** (t / 20.0))


OPTIONS = [
    ("Momentum", {"nesterov": False}),
    ("Momentum", {"nesterov": True, "momentum": 0.97}),
    ("Momentum", {"nesterov": True, "l2": 0.1, "weight_decay": 0.2}),
    ("Momentum", {"weight_decay": 0.2, "rate_in_buffer": True}),
    ("Momentum", {"nesterov": True, "rate_in_buffer": True, "l2": 0.1}),
    ("LARS", {"weight_decay": 0.3}),
    ("LARS", {"weight_decay": 0.3, "nesterov": True}),
    ("LARS", {"weight_decay": 0.3, "epsilon": 0.5}),
    ("LARS", {"weight_decay": 0.3, "denominator": "joint"}),
    ("LARS", {"weight_decay": 0.3, "rate_in_buffer": False}),
    (
        "LARS",
        {
            "weight_decay": 0.3,
            "normalize": "momentum",
            "rate_in_buffer": False,
        },
    ),
    (
        "LARS",
        {
            "weight_decay": 0.3,
            "normalize": "momentum",
            "rate_in_buffer": False,
            "nesterov": True,
            "epsilon": 0.1,
        },
    ),
    ("LAMB", LAMB_TURNS),
    ("LAMB", {**LAMB_TURNS, "bias_correction": False}),
    ("LAMB", {**LAMB_TURNS, "nesterov": "first"}),
    ("LAMB", {**LAMB_TURNS, "nesterov": "both"}),
    ("LAMB", {**LAMB_TURNS, "nesterov": "both", "beta_1": beta_schedule}),
    ("LAMB", {**LAMB_TURNS, "nesterov": "first", "beta_1": beta_schedule}),
    ("LAMB", {**LAMB_TURNS, "beta_1": beta_schedule}),
    (
        "LAMB",
        {**LAMB_TURNS, "nesterov": "both", "bias_correction": False},
    ),
    ("LAMB", {**LAMB_TURNS, "norm": "l1"}),
    ("LAMB", {**LAMB_TURNS, "norm": "linf"}),
    ("LAMB", {**LAMB_TURNS, "phi_bounds": (0.5, 2.0)}),
    ("LAMB", {**LAMB_TURNS, "decay_placement": "decoupled"}),
    ("LAMB", {**LAMB_TURNS, "zero_norm": "flax"}),
    ("LAMB", {**LAMB_TURNS, "constant_norm": True}),
    ("LAMB", {"constant_norm": True, "weight_decay": 0.0}),
    ("AdamW", {"weight_decay": 0.3, "beta_2": 0.99}),
    ("AdamW", {"weight_decay": 0.3, "l2": 0.1}),
    ("AdamW", {"weight_decay": 0.3, "bias_correction": False}),
    ("AdamW", {"weight_decay": 0.3, "epsilon_hat": True, "epsilon": 0.1}),
    ("AdamW", {"weight_decay": 0.01, "decay_times_rate": False}),
    ("AdamW", {"weight_decay": 0.1, "beta_1": 0.0, "epsilon": 1e-3}),
    ("Adagrad", {"weight_decay": 0.3, "l2": 0.1, "epsilon": 0.1}),
    ("Adagrad", {"epsilon_hat": True, "epsilon": 0.1}),
]

RENAMED = {
    "rate_in_buffer": {
        "Momentum": lambda value: {"keras_form": value},
        "LARS": lambda value: {"rate_outside": not value},
    },
    "denominator": {"LARS": lambda value: {"joint": value == "joint"}},
    "normalize": {
        "LARS": lambda value: {"normalize_momentum": value == "momentum"}
    },
    "decay_placement": {
        "LAMB": lambda value: {"keras_decay": value == "decoupled"}
    },
    "zero_norm": {"LAMB": lambda value: {"flax_zero": value == "flax"}},
    "epsilon_hat": {
        "AdamW": lambda value: {"keras_epsilon": value},
        "Adagrad": lambda value: {"epsilon_under_root": value},
    },
    "decay_times_rate": {
        "AdamW": lambda value: {"decay_without_rate": not value}
    },
}
FUNCTIONS = {
    "Momentum": reference.momentum,
    "LARS": reference.lars,
    "LAMB": reference.lamb,
    "AdamW": reference.adamw,
    "Adagrad": reference.adagrad,
}


def reference_settings(name, options):
    """The reference's words for a rule's options."""
    translated = {"excluded": "same"} if name == "LARS" else {}
    for key, value in options.items():
        rename = RENAMED.get(key, {}).get(name)
        translated.update(rename(value) if rename else {key: value})
    return translated


def step_rule(rule, case, decay=trajectory.DECAY, adapt=trajectory.DECAY, **kw):
    """Weights after all updates by `rule`, and its last ratios."""
    weights, gradients, rates = case
    update = kw.get("update", rule.update)
    states = [
        tuple(
            np.full(slot.shape_for(weight.shape), slot.initial)
            for slot in rule.slots_of(weight.shape)
        )
        for weight in weights
    ]
    weights = list(weights)
    for step, rate in enumerate(rates):
        for i, gradient in enumerate(gradients[step]):
            weights[i], states[i], _ = update(
                rules.NUMPY,
                weights[i],
                gradient,
                states[i],
                rate,
                step,
                decay=decay[i],
                adapt=adapt[i],
            )
    return weights


def identify(value):
    return "-".join(
        f"{k}={getattr(v, '__name__', v)}" for k, v in value.items()
    )


@pytest.mark.parametrize(
    ("name", "options"),
    OPTIONS,
    ids=lambda value: value if isinstance(value, str) else identify(value),
)
def test_option_equals_reference(name, options):
    case = trajectory.problem(STEPS, PEAK[name])
    rule = getattr(rules, name)(**options)
    exact = trajectory.step_reference(
        FUNCTIONS[name], case, **reference_settings(name, options)
    )
    assert trajectory.distance(step_rule(rule, case), exact, case[0]) < EXACT


@pytest.mark.parametrize(("name", "dialect"), sorted(reference.REFERENCES))
def test_dialect_equals_reference(name, dialect):
    """The preset as the optimizer resolves it, ratio flags included."""
    case = trajectory.problem(STEPS, PEAK[name])
    reading = getattr(rules, name).dialect(dialect)
    adapts_all = (name, dialect) in reference.ADAPTS_ALL
    assert reading.adapts_excluded == adapts_all
    adapt = tuple(d or adapts_all for d in trajectory.DECAY)
    decayed = {"Momentum": "l2"}.get(name, "weight_decay")
    rule = getattr(rules, name).resolve(dialect, {decayed: 0.02})
    function, settings_ = reference.REFERENCES[name, dialect]
    exact = trajectory.step_reference(
        function, case, adapt=adapt, **{decayed: 0.02}, **settings_
    )
    if reading.fallback is not None:
        found = step_rule(rule, case)
        fallen = step_rule(rule.fallback(reading.fallback), case)
        found = [
            a if adapts else b for a, b, adapts in zip(found, fallen, adapt)
        ]
    else:
        found = step_rule(rule, case, adapt=adapt)
    assert trajectory.distance(found, exact, case[0]) < EXACT


def test_every_dialect_has_a_reference():
    registered = {
        (name, dialect)
        for name, rule in rules.ALL.items()
        for dialect in rule.dialects
    }
    assert registered == set(reference.REFERENCES)


def late(rule):
    """Off by one: counts the first update as the second."""

    def update(xp, w, g, slots, rate, step, **flags):
        return rule.update(xp, w, g, slots, rate, step + 1, **flags)

    return update


def previous_rate(rule, rates):
    """Uses the rate of the update before."""

    def update(xp, w, g, slots, rate, step, **flags):
        return rule.update(
            xp, w, g, slots, rates[max(step - 1, 0)], step, **flags
        )

    return update


def stale_state(rule):
    """Steps along the state before the gradient entered it."""

    def update(xp, w, g, slots, rate, step, **flags):
        _, new_slots, _ = rule.update(xp, w, g, slots, rate, step, **flags)
        new, _, ratio = rule.update(xp, w, 0 * g, slots, rate, step, **flags)
        return new, new_slots, ratio

    return update


MUTANTS = {
    "LAMB without bias correction": ("LAMB", {"bias_correction": False}, None),
    "LAMB with decay outside the ratio": (
        "LAMB",
        {"decay_placement": "decoupled"},
        None,
    ),
    "LAMB with Nesterov": ("LAMB", {"nesterov": "first"}, None),
    "LAMB with another norm": ("LAMB", {"norm": "l1"}, None),
    "LAMB with phi clipped": ("LAMB", {"phi_bounds": (0.0, 0.5)}, None),
    "LAMB off by one step": ("LAMB", {}, late),
    "LAMB with stale moments": ("LAMB", {}, stale_state),
    "LAMB with beta_2 off": ("LAMB", {"beta_2": 0.98}, None),
    "LARS with the joint norm": ("LARS", {"denominator": "joint"}, None),
    "LARS with the rate outside": ("LARS", {"rate_in_buffer": False}, None),
    "LARS with Nesterov": ("LARS", {"nesterov": True}, None),
    "LARS without trust coefficient": ("LARS", {"trust_coefficient": 1}, None),
    "Momentum with the rate inside": (
        "Momentum",
        {"rate_in_buffer": True},
        None,
    ),
    "Momentum with Nesterov": ("Momentum", {"nesterov": True}, None),
    "Momentum with L2 as decay": (
        "Momentum",
        {"l2": 0, "weight_decay": 0.3},
        None,
    ),
    "AdamW without bias correction": (
        "AdamW",
        {"bias_correction": False},
        None,
    ),
    "AdamW with decay as L2": ("AdamW", {"weight_decay": 0, "l2": 0.3}, None),
    "AdamW off by one step": ("AdamW", {}, late),
    "AdamW with epsilon hat": ("AdamW", {"epsilon_hat": True}, None),
    "Adagrad with epsilon under the root": (
        "Adagrad",
        {"epsilon_hat": True},
        None,
    ),
}
BASE = {
    "Momentum": {"l2": 0.3},
    "LARS": {"weight_decay": 0.3},
    "LAMB": LAMB_TURNS,
    "AdamW": {"weight_decay": 0.3, "epsilon": 0.01},
    "Adagrad": {"epsilon": 0.1},
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_mutant_fails(mutant):
    """The comparison of the tests above tells each named error apart."""
    name, change, wrap = MUTANTS[mutant]
    case = trajectory.problem(40, PEAK[name])
    rule = getattr(rules, name)(**{**BASE[name], **change})
    exact = trajectory.step_reference(
        FUNCTIONS[name], case, **reference_settings(name, BASE[name])
    )
    update = wrap(rule) if wrap else rule.update
    found = step_rule(rule, case, update=update)
    assert trajectory.distance(found, exact, case[0]) > MUTANT


@pytest.mark.parametrize("name", sorted(BASE))
def test_rate_of_the_update_before_fails(name):
    case = trajectory.problem(40, PEAK[name])
    rule = getattr(rules, name)(**BASE[name])
    exact = trajectory.step_reference(
        FUNCTIONS[name], case, **reference_settings(name, BASE[name])
    )
    update = previous_rate(rule, case[2])
    found = step_rule(rule, case, update=update)
    assert trajectory.distance(found, exact, case[0]) > MUTANT


def test_published_numbers():
    """One step by hand: users of the peers have seen these differ."""
    w, g = np.array([1.0, 2, 3, 4]), np.array([0.1, -0.2, 0.3, 0.4])
    zeros = (np.zeros(4), np.zeros(4))
    paper = rules.LAMB(weight_decay=0.1)
    keras = rules.LAMB(weight_decay=0.1, decay_placement="decoupled")
    np.testing.assert_allclose(
        paper.update(rules.NUMPY, w, g, zeros, 0.1, 0)[0],
        [0.7431, 2.1868, 2.6964, 3.6730],
        atol=5e-5,
    )
    np.testing.assert_allclose(
        keras.update(rules.NUMPY, w, g, zeros, 0.1, 0)[0],
        [0.7189, 2.2511, 2.6989, 3.6889],
        atol=5e-5,
    )


def test_zero_norms():
    """A zero weight or gradient gives ratio 1; flax freezes, or is NaN."""
    zero, some = np.zeros(3), np.ones(3)
    pair = (zero, zero)
    for w, g in ((zero, some), (some, zero)):
        lars = rules.LARS(weight_decay=0.0)
        assert lars.update(rules.NUMPY, w, g, (zero,), 1.0, 0)[2] == 1.0
        lamb = rules.LAMB(weight_decay=0.0)
        assert lamb.update(rules.NUMPY, w, g, pair, 1.0, 0)[2] == 1.0
    flax = rules.LAMB(weight_decay=0.0, zero_norm="flax")
    new, _, ratio = flax.update(rules.NUMPY, zero, some, pair, 1.0, 0)
    assert ratio == 0.0
    np.testing.assert_array_equal(new, zero)
    with np.errstate(divide="ignore", invalid="ignore"):
        new, _, _ = flax.update(rules.NUMPY, some, zero, pair, 1.0, 0)
    assert np.isnan(new).all()


def test_lars_honours_epsilon_zero():
    """1e-7 in its place would show on a gradient of that size."""
    w, g = np.ones(4), np.full(4, 1e-8)
    ratio = rules.LARS().update(rules.NUMPY, w, g, (0 * w,), 1.0, 0)[2]
    np.testing.assert_allclose(ratio, 0.001 * 2.0 / 2e-8, rtol=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    scale=strategies.floats(1e-3, 1e3),
    rate=strategies.floats(1e-4, 1.0),
    seed=strategies.integers(0, 2**16),
)
def test_lamb_moves_by_the_rate(scale, rate, seed):
    """||w' - w|| = rate * ||w||, whatever the gradient's scale."""
    generator = np.random.default_rng(seed)
    w, g = generator.normal(size=7), scale * generator.normal(size=7)
    new, _, _ = rules.LAMB().update(rules.NUMPY, w, g, (0 * w, 0 * w), rate, 0)
    moved = np.linalg.norm(new - w) / np.linalg.norm(w)
    np.testing.assert_allclose(moved, rate, rtol=1e-9)


@settings(max_examples=60, deadline=None)
@given(scale=strategies.floats(1e-3, 1e3), seed=strategies.integers(0, 2**16))
def test_lars_ignores_the_scale_of_the_gradient(scale, seed):
    generator = np.random.default_rng(seed)
    w, g = generator.normal(size=7), generator.normal(size=7)
    rule = rules.LARS()
    one, _, _ = rule.update(rules.NUMPY, w, g, (0 * w,), 3.0, 0)
    other, _, _ = rule.update(rules.NUMPY, w, scale * g, (0 * w,), 3.0, 0)
    np.testing.assert_allclose(other - w, one - w, rtol=1e-9)


def test_constant_rate_makes_both_momentum_forms_equal():
    weights, gradients, rates = trajectory.problem(60, 0.1)
    case = (weights, gradients, [0.1] * len(rates))
    for nesterov in (False, True):
        outside = rules.Momentum(nesterov=nesterov)
        inside = rules.Momentum(nesterov=nesterov, rate_in_buffer=True)
        found = step_rule(outside, case)
        assert trajectory.distance(found, step_rule(inside, case), weights) < (
            EXACT
        )


BAD = [
    ("LAMB", {"beta_1": 1.0}, ValueError, r"beta_1.*\[0, 1\).*1\.0"),
    ("LAMB", {"beta_2": -0.1}, ValueError, "beta_2"),
    ("LAMB", {"norm": "l3"}, ValueError, "norm.*l3"),
    ("LAMB", {"nesterov": True}, ValueError, "nesterov"),
    ("LAMB", {"phi_bounds": 3.0}, TypeError, "phi_bounds"),
    ("LAMB", {"phi_bounds": (2.0, 1.0)}, ValueError, "low <= high"),
    ("LAMB", {"epsilon": float("nan")}, ValueError, "epsilon"),
    ("LARS", {"momentum": "0.9"}, TypeError, "momentum.*'0.9'"),
    ("LARS", {"weight_decay": -1e-4}, ValueError, "weight_decay"),
    ("LARS", {"normalize": "momentum"}, ValueError, "rate_in_buffer=False"),
    ("LARS", {"denominator": "product"}, ValueError, "denominator"),
    (
        "LARS",
        {
            "normalize": "momentum",
            "rate_in_buffer": False,
            "denominator": "joint",
        },
        ValueError,
        "no effect with normalize='momentum'.*denominator='joint'",
    ),
    ("AdamW", {"epsilon": None}, TypeError, "epsilon"),
    ("AdamW", {"weight_decay": float("inf")}, ValueError, "weight_decay"),
    ("Momentum", {"momentum": True}, TypeError, "momentum"),
    ("Adagrad", {"initial_accumulator_value": -1}, ValueError, "initial"),
]


@pytest.mark.parametrize(("name", "options", "error", "message"), BAD)
def test_bad_input(name, options, error, message):
    with pytest.raises(error, match=message):
        getattr(rules, name)(**options)


def wrongs(resolve):
    """What `resolve` gets wrong of every rule, dialect, switch and value."""
    found = []
    for name, dialect, switch, value, refused in dialects.cases():
        rule, given = getattr(rules, name), {switch: value}
        if given == {"normalize": "momentum"}:  # which needs it
            given["rate_in_buffer"] = False
        try:
            made = resolve(rule, dialect, given)
        except ValueError as error:
            both = (repr(dialect), f"{switch}={value!r}")
            if not refused or not all(part in str(error) for part in both):
                found.append((name, dialect, switch, value, str(error)))
            continue
        expected = dialects.computed(name, dialect, given)
        if refused or expected != {n: getattr(made, n) for n in expected}:
            found.append((name, dialect, switch, value, made))
    return found


def test_a_switch_is_the_dialects_or_refused():
    assert not wrongs(_resolve)
    for name, values in dialects.VALUES.items():
        assert set(values) == set(getattr(rules, name).switches())


def _resolve(rule, dialect, given):
    return rule.resolve(dialect, given)


def _dialect_overrides(rule, dialect, given):
    return rule(**{**given, **rule.fixed(dialect)})


def _argument_overrides(rule, dialect, given):
    return rule(**{**rule.fixed(dialect), **given})


def _default_counts_as_left_out(rule, dialect, given):
    left = {n: v for n, v in given.items() if v != getattr(rule, n)}
    return rule.resolve(dialect, left)


def _paper_is_fixed(rule, dialect, given):
    if any(v != getattr(rule, n) for n, v in given.items()):
        raise ValueError(f"{dialect!r}: {given}")
    return rule.resolve(dialect, given)


def _only_what_differs_from_the_paper(rule, dialect, given):
    switches = rule.dialect(dialect).switches
    for name in given.keys() & switches:
        if given[name] != switches[name]:
            raise ValueError(f"{dialect!r}: {name}={given[name]!r}")
    return rule(**{**switches, **given})


@pytest.mark.parametrize(
    "resolve",
    [
        _dialect_overrides,
        _argument_overrides,
        _default_counts_as_left_out,
        _paper_is_fixed,
        _only_what_differs_from_the_paper,
    ],
)
def test_another_reading_of_arguments_and_dialect_fails(resolve):
    assert wrongs(resolve)


@pytest.mark.parametrize("zero", [0, 0.0, -0.0, np.float32(0), np.array(0.0)])
def test_mlperf_takes_no_epsilon_of_zero(zero):
    assert rules.LARS.resolve("mlperf", {}).epsilon == 1e-7
    assert rules.LARS.resolve("mlperf", {"epsilon": 0.5}).epsilon == 0.5
    assert rules.LARS.resolve("flax", {"epsilon": zero}).epsilon == 0
    with pytest.raises(ValueError, match="mlperf.*epsilon=1e-07; received"):
        rules.LARS.resolve("mlperf", {"epsilon": zero})


NO_NUMBERS = [
    True,
    np.bool_(False),
    "0.5",
    b"1",
    None,
    [0.5],
    (0.5,),
    {},
    object,
    np.array([0.5]),
    np.array(True),
    np.array("0.5"),
    0.5 + 0j,
    decimal.Decimal("0.5"),
]
OUT_OF_RANGE = [
    float("nan"),
    float("inf"),
    -float("inf"),
    -1e-30,
    10**400,
    -(10**400),
    np.float32("nan"),
    np.array(-0.5),
    np.int64(-1),
    fractions.Fraction(-1, 2),
]


@pytest.mark.parametrize(
    ("name", "argument"),
    [
        (name, argument)
        for name, rule in rules.ALL.items()
        for argument in rule.numbers()
    ],
)
def test_every_number_is_one_and_in_its_range(name, argument):
    rule = getattr(rules, name)
    for bad, error in [
        *((value, TypeError) for value in NO_NUMBERS),
        *((value, ValueError) for value in OUT_OF_RANGE),
    ]:
        with pytest.raises(
            error, match=f"^{name}: `{argument}` must "
        ) as caught:
            rule(**{argument: bad})
        assert "\n" not in str(caught.value)
    zero = 0 in rule.numbers()[argument]
    half = 0.5 if 0.5 in rule.numbers()[argument] else 1.5
    for good in (
        *((0, np.int8(0)) if zero else ()),
        half,
        np.float32(half),
        np.array(half),
        fractions.Fraction(half),
    ):
        held = getattr(rule(**{argument: good}), argument)
        assert type(held) in (int, float) and held == good
    if "beta" in argument or argument == "momentum":
        opening = r"\[" if zero else r"\("
        with pytest.raises(ValueError, match=rf"{opening}0, 1\), received 1"):
            rule(**{argument: 1})


def test_slow_average_is_exact_in_float32():
    """1 - beta_3 would lose most of its digits beside a beta_3 of nearly 1."""
    rule = rules.AdEMAMix(beta_3=0.999999, slow_warmup_steps=2)
    slow = {}
    for dtype in (np.float32, np.float64):
        state = tuple(np.zeros(1, dtype) for _ in rule.slots)
        weight = np.zeros(1, dtype)
        for step in range(5):
            weight, state, _ = rule.update(
                rules.NUMPY, weight, np.ones(1, dtype), state, 0.1, dtype(step)
            )
        slow[dtype] = float(state[1][0])
    assert slow[np.float32] == pytest.approx(slow[np.float64], rel=1e-5)


def test_a_beta_below_the_fast_one_does_not_fall():
    rule = rules.AdEMAMix(beta_1=0.95, beta_3=0.5, slow_warmup_steps=10)
    assert [rule.mixture(rules.NUMPY, t)[0] for t in (0, 5, 20)] == [0.5] * 3


def test_unknown_dialect_lists_the_known_ones():
    with pytest.raises(ValueError, match="'caffe'.*paper.*mlperf"):
        rules.LARS.resolve("caffe", {})


def test_rules_are_immutable():
    with pytest.raises(dataclasses.FrozenInstanceError):
        rules.LAMB().epsilon = 1.0
