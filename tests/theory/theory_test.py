"""The bounds: by other formulas, on problems that must obey them, in units."""

import dataclasses
import doctest
import math
import pathlib
import pickle
import warnings

import numpy as np
import pytest

from lbcheck import rules
from lbcheck import theory
from lbcheck.theory.constants import Constants

CASES = {
    "sgd": ("sgd", 0.999),
    "lars": ("lars", 0.999),
    "lamb_0": ("lamb", 0.0),
    "lamb": ("lamb", 0.9),
    "adam": ("adam", 0.7),
    "adam_slow": ("adam", 0.8),
}
"""{name: algorithm and beta_2}; what Adam's noise is depends on beta_2."""


def known(**changes):
    """Constants of three layers that share no number."""
    values = {
        "smoothness": [0.5, 2.0, 3.5],
        "deviations": [[8.0, 7.0], [11.0, 9.0], [0.0, 25.0]],
        "initial_gap": 80.0,
        "steps": 50,
        "batch_size": 20,
        "gradient_bound": 36.5,
        "alpha_l": 0.4,
        "alpha_u": 1.7,
        "beta_2": 0.9,
    }
    return Constants(**(values | changes))


def bound(name, **changes):
    algorithm, beta_2 = CASES[name]
    constants = known(**({"beta_2": beta_2} | changes))
    return theory.ALGORITHMS[algorithm](constants)


def numbers(constants):
    """What the theorems are written in, element by element."""
    rows = constants.deviations.tolist()
    layers = [math.sqrt(sum(s * s for s in row)) for row in rows]
    smoothness = constants.smoothness.tolist()
    return {
        "gap": constants.initial_gap,
        "T": constants.steps,
        "sqrt_b": constants.batch_size**0.5,
        "h": len(rows),
        "d": sum(len(row) for row in rows),
        "L_max": max(smoothness),
        "L_avg": sum(smoothness) / len(smoothness),
        "L_1": sum(smoothness),
        "sigma_squared": sum(s * s for s in layers),
        "sigma_1": sum(layers),
        "tilde_1": sum(sum(row) for row in rows),
        "G": constants.gradient_bound,
        "alphas": constants.alpha_u / constants.alpha_l,
        "left": 1 - constants.beta_2,
    }


def oracle(name, n):
    """The theorems at their own rates, as they are printed and expanded."""
    root = math.sqrt(2 * n["gap"] * n["L_1"] / n["T"])
    average = math.sqrt(2 * n["gap"] * n["L_avg"] / n["T"])
    if name == "sgd":
        noise = n["sigma_squared"] / n["sqrt_b"] ** 2
        return 2 * n["gap"] * n["L_max"] / n["T"] + noise
    if name == "lars":
        noise = 2 * n["sigma_1"] / (n["sqrt_b"] * math.sqrt(n["h"]))
        return n["alphas"] ** 2 * (average + noise) ** 2
    if name == "lamb_0":
        noise = n["tilde_1"] / (n["sqrt_b"] * math.sqrt(n["h"]))
        return n["alphas"] ** 2 * (average + noise) ** 2
    noise = n["tilde_1"] / n["sqrt_b"]
    if name == "lamb":
        factor = math.sqrt(n["G"] ** 2 * n["d"] / (n["h"] * n["left"]))
        return factor * n["alphas"] * (root + noise)
    least = 1.0 if name == "adam" else 0.5 * n["left"] ** -0.5
    first = root * math.sqrt(n["d"]) * (1 + n["left"] ** -2) / 2
    return n["G"] * (first + least * noise)


@pytest.mark.parametrize("name", CASES)
def test_bounds_are_those_of_the_papers(name):
    constants = known(beta_2=CASES[name][1])
    expected = oracle(name, numbers(constants))
    assert bound(name).value == pytest.approx(expected, rel=1e-12)


MUTANTS = {
    "the mean for the largest smoothness": {"L_max": "L_avg"},
    "the largest for the mean smoothness": {"L_avg": "L_max"},
    "the mean for the sum of smoothness": {"L_1": "L_avg"},
    "a deviation that is not squared": {"sigma_squared": "sigma_1"},
    "layers for parameters": {"sigma_1": "tilde_1"},
    "parameters for layers": {"tilde_1": "sigma_1"},
    "all parameters for those of a layer": {"h": "one"},
    "as many parameters as layers": {"d": "h"},
    "b for its root": {"sqrt_b": "b"},
    "T for its root": {"T": "sqrt_T"},
    "no ratio of the alphas": {"alphas": "one"},
    "the root of 1 - beta_2": {"left": "sqrt_left"},
    "no bound of the gradients": {"G": "one"},
}
USES = {
    "sgd": "gap T sqrt_b L_max sigma_squared",
    "lars": "gap T sqrt_b h L_avg sigma_1 alphas",
    "lamb_0": "gap T sqrt_b h L_avg tilde_1 alphas",
    "lamb": "gap T sqrt_b h d L_1 tilde_1 alphas G left",
    "adam": "gap T sqrt_b d L_1 tilde_1 G left",
    "adam_slow": "gap T sqrt_b d L_1 tilde_1 G left",
}


@pytest.mark.parametrize("mutant", MUTANTS)
@pytest.mark.parametrize("name", CASES)
def test_a_wrong_constant_is_noticed(name, mutant):
    """The comparison above would fail by 1 % at least."""
    right = numbers(known(beta_2=CASES[name][1]))
    others = {
        "one": 1.0,
        "b": right["sqrt_b"] ** 2,
        "sqrt_T": right["T"] ** 0.5,
        "sqrt_left": right["left"] ** 0.5,
    }
    ((key, other),) = MUTANTS[mutant].items()
    wrong = right | {key: (right | others)[other]}
    changed = abs(oracle(name, wrong) / bound(name).value - 1) > 0.01
    assert changed == (key in USES[name].split())


@pytest.mark.parametrize("name", CASES)
def test_the_rate_is_the_theorems(name):
    """Given as a rate it changes nothing; another one does."""
    algorithm, beta_2 = CASES[name]
    constants = known(beta_2=beta_2)
    of = theory.ALGORITHMS[algorithm]
    own = of(constants)
    n = numbers(constants)
    expected = {
        "sgd": 1 / n["L_max"],
        "adam": (2 * n["gap"] / (n["T"] * n["L_1"] * n["left"] * n["d"]))
        ** 0.5,
    }.get(algorithm, (2 * n["gap"] / (n["L_1"] * n["T"])) ** 0.5 / 1.7)
    assert own.learning_rate == pytest.approx(expected, rel=1e-12)
    again = of(constants, own.learning_rate)
    assert again.value == pytest.approx(own.value, rel=1e-12)
    assert again.left_side is own.left_side
    for factor in (0.5, 1.5):
        other = of(constants, factor * own.learning_rate)
        assert other.learning_rate == factor * own.learning_rate
        assert abs(other.value / own.value - 1) > 0.01


def test_the_layerwise_rate_is_the_best_and_adams_is_not():
    """Adam's best has 1 - beta_2 above the line, and gains what is said."""
    quiet = known(deviations=np.zeros((3, 2)), batch_size=1)
    for of in (theory.lars, theory.lamb):
        own = of(quiet)
        for factor in (0.9, 1.1):
            assert of(quiet, factor * own.learning_rate).value > own.value
    left = 1 - quiet.beta_2
    own = theory.adam(quiet)
    best = theory.adam(quiet, own.learning_rate * left)
    expected = (1 / left) / ((1 + left**-2) / 2)
    assert best.value / own.value == pytest.approx(expected, rel=1e-12)
    for factor in (0.9, 1.1):
        rate = factor * best.learning_rate
        assert theory.adam(quiet, rate).value > best.value


@pytest.mark.parametrize("name", CASES)
def test_bounds_have_the_unit_of_a_squared_gradient(name):
    """[f] and [x] in other units: the bound changes as (f / x)^2."""
    f, x = 7.0, 0.3
    changed = bound(
        name,
        smoothness=np.array([0.5, 2.0, 3.5]) * f / x**2,
        deviations=known().deviations * f / x,
        initial_gap=80.0 * f,
        gradient_bound=36.5 * f / x,
        alpha_l=0.4 * x,
        alpha_u=1.7 * x,
    )
    assert changed.value / bound(name).value == pytest.approx((f / x) ** 2)


@pytest.mark.parametrize("name", CASES)
def test_bounds_fall_with_steps_as_the_theorems_say(name):
    """T and b = T four times as large."""
    fall = bound(name, steps=200, batch_size=200).value
    fall /= bound(name, steps=50, batch_size=50).value
    power = 0.5 if name in ("lamb", "adam", "adam_slow") else 1
    assert fall == pytest.approx(4**-power, rel=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_bounds_grow_with_layers_and_parameters_as_the_theorems_say(name):
    """The same layers once more; the same parameters once more in a layer."""
    once = known(beta_2=CASES[name][1], deviations=np.zeros((3, 2)))
    of = theory.ALGORITHMS[CASES[name][0]]
    twice = dataclasses.replace(
        once,
        smoothness=np.tile(once.smoothness, 2),
        deviations=np.zeros((6, 2)),
    )
    wider = dataclasses.replace(once, deviations=np.zeros((3, 4)))
    by_layers = {"lamb": 2**0.5, "adam": 2.0, "adam_slow": 2.0}.get(name, 1.0)
    by_width = {"lamb": 2**0.5, "adam": 2**0.5, "adam_slow": 2**0.5}
    assert of(twice).value / of(once).value == pytest.approx(by_layers)
    expected = by_width.get(name, 1.0)
    assert of(wider).value / of(once).value == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("size", [(1, 1), (2, 30), (5, 4)])
@pytest.mark.parametrize("shape", theory.SHAPES)
@pytest.mark.parametrize("name", CASES)
def test_bounds_hold(name, shape, size, seed):
    algorithm, beta_2 = CASES[name]
    for steps, batch_size, noise in ((60, 60, 1.0), (200, 1, 3.0)):
        problem = theory.Problem.random(shape, *size, noise, seed)
        constants = problem.constants(
            steps, batch_size, alpha_l=0.5, alpha_u=2.0, beta_2=beta_2
        )
        found = theory.measure(problem, algorithm, constants, 16, seed)
        assert 0 < found.left_side
        assert found.left_side + 4 * found.standard_error < found.bound.value


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["sgd", "lars"])
def test_bounds_hold_at_other_rates(name, seed):
    problem = theory.Problem.random("cosine", 3, 4, seed=seed)
    constants = problem.constants(50, 50)
    own = theory.ALGORITHMS[name](constants).learning_rate
    for factor in (0.1, 1.8):
        found = theory.measure(problem, name, constants, 16, seed, factor * own)
        assert found.ratio + 4 * found.standard_error < 1


@pytest.mark.parametrize("steps", [63, 999])
def test_bounds_are_nearly_reached(steps):
    """A bound that was smaller by as much as is left would be false."""
    least = dict(sgd=0.98, lars=0.98, lamb_0=0.98, lamb=0.64, adam=0.64)
    assert set(least) == set(theory.WORST_CASES)
    for case, ratio in least.items():
        problem, constants = theory.worst_case(case, steps)
        algorithm = case.removesuffix("_0")
        found = theory.measure(problem, algorithm, constants, runs=2)
        assert ratio < found.ratio <= 1, case


def test_sgd_reaches_its_bound_but_for_the_first_step():
    """2 L gap / T + (1 - 1 / T) ||sigma||^2 / b, to the last digit."""
    problem, constants = theory.worst_case("sgd", 40)
    found = theory.measure(problem, "sgd", constants, runs=2)
    variance = np.sum(problem.deviations**2)
    missing = found.bound.value - found.left_side
    assert missing == pytest.approx(variance / 40, rel=1e-12)


RULES = {
    "sgd": rules.ALL["Momentum"](momentum=0.0),
    "lars": rules.ALL["LARS"](momentum=0.0, trust_coefficient=1.0),
    "lamb": rules.ALL["LAMB"](
        beta_1=0.0,
        beta_2=0.9,
        epsilon=0.0,
        weight_decay=0.0,
        phi_bounds=(0.5, 2.0),
    ),
    "adam": rules.ALL["AdamW"](beta_1=0.0, beta_2=0.9, epsilon=0.0),
}


@pytest.mark.parametrize("algorithm", RULES)
def test_the_algorithms_are_the_optimizers(algorithm):
    """The left side along the trajectory of the rule of lbcheck itself."""
    rule, rate = RULES[algorithm], 0.07
    problem = theory.Problem.random("cosine", 3, 5, noise=0.0, seed=4)
    bounds = {"alpha_l": 0.5, "alpha_u": 2.0}
    if algorithm == "lars":  # its rule has phi(z) = z
        bounds = {"alpha_l": 1e-9, "alpha_u": 1e9}
    constants = problem.constants(30, 1, beta_2=0.9, **bounds)
    found = theory.measure(
        problem, algorithm, constants, runs=2, learning_rate=rate
    )
    layers = [np.array(row) for row in problem.start]
    slots = [[np.zeros(5) for _ in rule.slots] for _ in layers]
    total = 0.0
    for step in range(30):
        gradients = problem.gradient(np.stack(layers))
        total += found.bound.left_side.of_gradient(gradients)
        for i, gradient in enumerate(gradients):
            layers[i], slots[i], _ = rule.update(
                rules.NUMPY, layers[i], gradient, slots[i], rate, step
            )
    expected = (total / 30) ** found.bound.left_side.power
    assert found.left_side == pytest.approx(expected, rel=1e-10)


def test_a_bound_can_be_sent_to_another_process():
    for name in CASES:
        assert pickle.loads(pickle.dumps(bound(name))) == bound(name)


def test_left_sides():
    gradient = np.array([[3.0, 4.0], [0.0, 2.0]])
    assert theory.SQUARED_NORM.of_gradient(gradient) == 29
    layers = theory.LAYER_NORMS.of_gradient(gradient)
    assert layers == pytest.approx(7 / 2**0.5)
    assert theory.ONE_NORM.of_gradient(gradient) == 4.5


@pytest.mark.parametrize("shape", theory.SHAPES)
def test_the_constants_of_the_problem_are_exact(shape):
    problem = theory.Problem.random(shape, 3, 4, noise=0.7, seed=1)
    constants = problem.constants(10, 10)
    rng = np.random.default_rng(0)
    x, y = rng.uniform(-6, 6, (2, 4000, 3, 4))
    step = y - x
    quadratic = np.sum(constants.smoothness * np.sum(step**2, axis=-1), axis=-1)
    linear = np.sum(problem.gradient(x) * step, axis=(-2, -1))
    above = problem.value(x) + linear + quadratic / 2 - problem.value(y)
    assert above.min() > 0
    slope = (
        problem.gradient(np.full((3, 4), 1e-4)) - problem.gradient(0 * x[0])
    ) / 1e-4
    assert np.allclose(slope.max(axis=1), constants.smoothness, rtol=1e-6)
    assert problem.value(0 * x[0]) == 0 <= problem.value(x).min()
    difference = problem.value(x + 1e-6) - problem.value(x - 1e-6)
    along = problem.gradient(x).sum(axis=(-2, -1))
    assert np.allclose(difference / 2e-6, along, atol=1e-6)


def test_the_noise_of_the_problem_is_what_it_says():
    problem = theory.Problem.random("huber", 2, 3, noise=0.7, seed=1)
    constants = problem.constants(10, 10)
    rng = np.random.default_rng(0)
    x = np.broadcast_to(problem.start, (40000, 2, 3))
    one = problem.batch_gradient(x, 1, rng)
    assert np.abs(one).max() <= constants.gradient_bound
    assert np.allclose(
        np.abs(one - problem.gradient(x)), problem.deviations, rtol=1e-12
    )
    batch = problem.batch_gradient(x, 9, rng) - problem.gradient(x)
    assert np.allclose(batch.std(axis=0), problem.deviations / 3, rtol=0.02)
    assert (np.abs(batch.mean(axis=0)) < 0.02 * problem.deviations).all()
    layers = np.sum((one - problem.gradient(x)) ** 2, axis=-1).mean(axis=0)
    assert np.allclose(layers, constants.layer_deviations**2)


def law(rng):
    """Two gradients, their chances, mean above 0, deviation and G."""
    while True:
        values, chance = rng.normal(size=2) * 10 ** rng.normal(), rng.uniform()
        chances = np.array([chance, 1 - chance])
        mean = values @ chances
        if mean > 0:
            deviation = math.sqrt(chances @ (values - mean) ** 2)
            return values, chances, mean, deviation, np.abs(values).max()


def test_what_the_bounds_rest_on_for_any_law_of_the_gradients():
    """|grad f| P(signs differ) <= sigma / 2, and Adam's step by it.

    One parameter, known moment v of the past, t large: what a step of Adam
    loses is E[-grad f g / sqrt(v')].
    """
    rng, printed_fails, nearest = np.random.default_rng(0), 0, 0.0
    for _ in range(2000):
        values, chances, mean, deviation, largest = law(rng)
        beta_2, past = rng.uniform(), rng.choice([0, rng.uniform()])
        differ = chances @ (values <= 0)
        assert mean * differ <= deviation / 2 * (1 + 1e-12)
        nearest = max(nearest, mean * differ / (deviation / 2))
        second = beta_2 * past * largest**2 + (1 - beta_2) * values**2
        lost = -mean * chances @ (values / np.sqrt(second))
        left = math.sqrt(1 - beta_2)
        proven = -(mean**2) / largest + deviation / (2 * left)
        assert lost <= proven + 1e-12 * largest
        printed = left * (-(mean**2) / largest + deviation)
        printed_fails += lost > printed
    assert nearest > 0.97
    assert printed_fails > 0


def test_the_step_that_lamb_prints_for_beta_2_of_0_is_false():
    """One parameter whose gradient has the wrong sign: T_1 is +|grad f|."""
    gradient, ratio, phi = 2.0, -1.0, 1.0
    actual = -phi * gradient * ratio
    printed = -phi * abs(gradient) - phi * gradient * ratio
    assert actual == 2.0 > printed == 0.0


def test_the_same_seed_gives_the_same_numbers():
    problem = theory.Problem.random("cosine", 2, 3, seed=5)
    same = theory.Problem.random("cosine", 2, 3, seed=5)
    other = theory.Problem.random("cosine", 2, 3, seed=6)
    assert np.array_equal(problem.start, same.start)
    assert not np.array_equal(problem.start, other.start)
    constants = problem.constants(20, 4)
    first, second, third = (
        theory.measure(problem, "lamb", constants, runs=3, seed=seed).left_side
        for seed in (1, 1, 2)
    )
    assert first == second != third


@pytest.mark.parametrize("algorithm", ["sgd", "lars"])
def test_the_standard_error_is_that_of_the_left_side(algorithm):
    """100 measurements of 16 runs spread as each of them says."""
    problem = theory.Problem.random("huber", 2, 3, noise=2.0, seed=7)
    constants = problem.constants(100, 16)
    found = [
        theory.measure(problem, algorithm, constants, 16, seed)
        for seed in range(100)
    ]
    spread = np.std([one.left_side for one in found], ddof=1)
    said = np.mean([one.standard_error for one in found])
    assert spread == pytest.approx(said, rel=0.25)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"smoothness": []}, ValueError, r"`smoothness` .* \(h\) .* \[\]"),
        ({"smoothness": [[1.0]]}, ValueError, "`smoothness` must be an array"),
        ({"smoothness": [0, 0, 0]}, ValueError, "above 0 in one layer"),
        ({"smoothness": [1, -2, 3]}, ValueError, "at least 0, received -2"),
        ({"smoothness": "many"}, ValueError, "finite numbers, received 'many'"),
        (
            {"smoothness": [1.0, 2.0]},
            ValueError,
            "received 3 rows and 2 layers",
        ),
        ({"deviations": [1.0]}, ValueError, r"shape \(h, d/h\)"),
        ({"deviations": [[1.0], [2, 3]]}, ValueError, "`deviations` must be"),
        ({"deviations": [[math.nan]]}, ValueError, "finite numbers"),
        ({"deviations": [[-1.0]] * 3}, ValueError, "received -1"),
        (
            {"initial_gap": 0},
            ValueError,
            "`initial_gap` .* above 0, received 0",
        ),
        ({"initial_gap": None}, TypeError, "`initial_gap` .* NoneType"),
        (
            {"steps": 1.5},
            ValueError,
            "whole number of at least 1, received 1.5",
        ),
        ({"steps": True}, TypeError, "`steps` must be a whole number"),
        ({"batch_size": 0}, ValueError, "`batch_size` .* received 0"),
        ({"batch_size": 10**400}, ValueError, "`batch_size` must be"),
        ({"gradient_bound": -1.0}, ValueError, "`gradient_bound` .* -1.0"),
        ({"alpha_l": 2.0}, ValueError, "alpha_l=2.0 and alpha_u=1.7"),
        ({"alpha_l": 0.0}, ValueError, "`alpha_l` must be a finite"),
        ({"beta_2": 1.0}, ValueError, r"\[0, 1\), received 1.0"),
        ({"beta_2": "0.9"}, ValueError, "`beta_2` .* received '0.9'"),
    ],
)
def test_bad_constants(changes, error, message):
    with pytest.raises(error, match=f"Constants: .*{message}"):
        known(**changes)


def test_numbers_of_numpy_are_taken_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = known(initial_gap=np.float32(3), batch_size=np.int32(8))
    assert (found.initial_gap, found.batch_size) == (3.0, 8)


def test_a_count_that_no_float_holds_is_told_shortly():
    with pytest.raises(ValueError, match="more than a float can hold") as error:
        known(batch_size=10**400)
    assert len(str(error.value)) < 200


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: theory.sgd(known(), 0.6), "sgd: .* below 2 .* received 0.6"),
        (lambda: theory.lars(known(), 0.0), "lars: `learning_rate` .* 0.0"),
        (
            lambda: theory.lamb(known(gradient_bound=None)),
            "lamb with beta_2 above 0: `gradient_bound`",
        ),
        (
            lambda: theory.adam(known(gradient_bound=None)),
            "adam: `gradient_bound` .* received None",
        ),
        (
            lambda: theory.Problem("bowl", [[1]], [[1]], [[1]]),
            "`shape` must be one of .*'bowl'",
        ),
        (
            lambda: theory.Problem("huber", [[1]], [[1, 2]], [[1]]),
            r"`deviations` must have the shape .*\(1, 1\), received \(1, 2\)",
        ),
        (
            lambda: theory.Problem("huber", [[1]], [[-1]], [[1]]),
            "`deviations` must be at least 0",
        ),
        (
            lambda: theory.Problem.random("huber", 0, 1),
            "`layers` .* received 0",
        ),
        (
            lambda: theory.Problem(["huber"], [[1]], [[1]], [[1]]),
            r"`shape` must be one of .* received \['huber'\]",
        ),
        (
            lambda: theory.Problem.random("huber", 1, 1, -0.5),
            "random: `noise` .* at least 0, received -0.5",
        ),
        (
            lambda: theory.Problem.random("huber", 1, 1, math.nan),
            "random: `noise` .* received nan",
        ),
        (
            lambda: theory.Problem.random("huber", 1, 1, seed=-1),
            "random: `seed` .* at least 0, received -1",
        ),
        (lambda: theory.worst_case("adagrad", 3), "'adagrad'"),
        (lambda: theory.worst_case(["sgd"], 3), r"received \['sgd'\]"),
        (lambda: theory.worst_case("sgd", 0), "`steps` .* received 0"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("adagrad",), "`algorithm` must be one of .* received 'adagrad'"),
        ((["sgd"],), r"`algorithm` must be one of .* received \['sgd'\]"),
        (("sgd", 1), "`runs` .* at least 2, received 1"),
        (("sgd", 2, -1), "`seed` .* at least 0, received -1"),
    ],
)
def test_bad_measurements(arguments, message):
    problem, constants = theory.worst_case("sgd", 3)
    name, *runs = arguments
    with pytest.raises(ValueError, match=f"measure: {message}"):
        theory.measure(problem, name, constants, *runs)


@pytest.mark.parametrize("batch_size", [2**62 + 1, 2**63 - 1, 2**63, 10**30])
def test_a_batch_has_no_noise_or_is_too_large_to_be_drawn(batch_size):
    problem = theory.Problem.random("huber", 2, 3, noise=1.0)
    constants = problem.constants(20, batch_size)
    if batch_size >= 2**63:
        with pytest.raises(ValueError, match="`batch_size` must be at most 9"):
            theory.measure(problem, "sgd", constants)
        return
    quiet = theory.Problem.random("huber", 2, 3, noise=0.0)
    expected = theory.measure(quiet, "sgd", quiet.constants(20, 1))
    found = theory.measure(problem, "sgd", constants)
    assert found.left_side == pytest.approx(expected.left_side, rel=1e-6)


def test_whole_numbers_may_be_floats():
    found = theory.Problem.random("huber", 2.0, np.float64(3), 1, np.int64(4))
    expected = theory.Problem.random("huber", 2, 3, 1.0, 4)
    np.testing.assert_array_equal(found.start, expected.start)


def test_the_example_of_the_manual():
    manual = pathlib.Path(__file__).parents[2] / "docs" / "theory.md"
    found = doctest.testfile(str(manual), module_relative=False)
    assert found.attempted and not found.failed


def test_what_is_known_cannot_be_written_to():
    constants, mine = known(), np.ones(3)
    changed = dataclasses.replace(constants, smoothness=mine)
    mine[0] = 5.0
    assert changed.smoothness[0] == 1.0
    with pytest.raises(ValueError, match="read-only"):
        changed.smoothness[0] = 2.0
