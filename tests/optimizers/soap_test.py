"""SOAP: each variable's own count, and gradients of any size in float32."""

import numpy as np
import pytest
import tensorflow as tf

import lbcheck
from lbcheck import rules
from lbcheck.conform import reference
from lbcheck.optimizers import tensorflow_update
from tests.optimizers import trajectory
from tests.optimizers.optimizers_test import KERAS
from tests.optimizers.optimizers_test import make_variable
from tests.optimizers.rules_test import step_rule

EXACT, CLOSE = 1e-12, 1e-4
SHAPES = ((6, 6), (6, 6), (5,))
NAMES = ("a/kernel", "b/kernel", "b/bias")


def problem(steps, size=1.0, dtype=np.float32, shapes=SHAPES):
    """Gradients of full rank, so that rounding chooses no basis."""
    generator = np.random.default_rng(0)
    weights = [generator.normal(size=shape).astype(dtype) for shape in shapes]
    gradients = [
        [(size * generator.normal(size=s)).astype(dtype) for s in shapes]
        for _ in range(steps)
    ]
    return weights, gradients, [0.01] * steps


def step(kind, optimizer, case, chosen=lambda t: slice(None), count=0):
    """Weights after all updates, of the variables chosen at each."""
    variables = [
        make_variable(kind, weight, name)
        for weight, name in zip(case[0], NAMES[-len(case[0]) :])
    ]
    optimizer.build(variables)
    optimizer.update_count.assign(count)
    for t, gradients in enumerate(case[1]):
        pairs = list(zip(map(tf.constant, gradients), variables))[chosen(t)]
        optimizer.apply_gradients(pairs)
    return [variable.numpy() for variable in variables]


def make(kind, **given):
    return getattr(lbcheck, kind).SOAP(
        0.01, precondition_frequency=4, weight_decay=0.0, **given
    )


def exact(case, **given):
    return trajectory.step_reference(
        reference.soap,
        case,
        (True,) * len(case[0]),
        precondition_frequency=4,
        weight_decay=0.0,
        **given,
    )


@pytest.mark.parametrize("kind", KERAS)
def test_a_variable_that_comes_late_is_as_one_alone(kind):
    """Its bases, bias correction and turns come at its own updates."""
    case = problem(15)
    together = step(
        kind, make(kind), case, lambda t: slice(1) if t < 3 else slice(None)
    )
    late = (case[0][1:], [row[1:] for row in case[1][3:]], case[2][3:])
    for a, b in zip(together[1:], step(kind, make(kind), late)):
        np.testing.assert_array_equal(a, b)
    assert trajectory.distance(together[1:], exact(late), late[0]) < CLOSE


@pytest.mark.parametrize("epsilon", [1e-8, 0.0])
@pytest.mark.parametrize("kind", KERAS)
def test_a_count_set_by_hand_is_the_schedules_alone(kind, epsilon):
    case = problem(9)
    expected = step(kind, make(kind, epsilon=epsilon), case)
    found = step(kind, make(kind, epsilon=epsilon), case, count=1001)
    for a, b in zip(found, expected):
        np.testing.assert_array_equal(a, b)


def test_the_rule_in_float64_begins_at_any_update():
    case = problem(30, dtype=np.float64, shapes=((4, 3), (2, 3, 4), (5,)))
    rule = rules.SOAP(precondition_frequency=4, weight_decay=0.0)

    def update(xp, w, g, slots, rate, step, **flags):
        return rule.update(xp, w, g, slots, rate, step + 17, **flags)

    found = step_rule(rule, case, (True,) * 3, update=update)
    assert trajectory.distance(found, exact(case), case[0]) < EXACT


@pytest.mark.parametrize("size", [1e-12, 1e-10, 3e9, 1e10, "one of 1e10"])
@pytest.mark.parametrize("kind", KERAS)
def test_gradients_of_any_size(kind, size):
    """A square of a square in float32 is 0, or infinite, beside these."""
    spike = isinstance(size, str)
    case = problem(13, 1.0 if spike else size, shapes=SHAPES[:2])
    epsilon = 1e-8 if spike else 1e-8 * min(1.0, size)
    if spike:
        case[1][5] = [np.float32(1e10) * g for g in case[1][5]]
    found = step(kind, make(kind, epsilon=epsilon), case)
    expected = exact(case, epsilon=epsilon)
    assert trajectory.distance(found, expected, case[0]) < CLOSE


def test_columns_of_all_sizes_are_made_orthonormal():
    generator = np.random.default_rng(0)
    matrix = generator.normal(size=(5, 5))
    expected = np.linalg.qr(matrix)[0]
    sizes = np.float32([1e30, 1.0, 1e-30, 1e25, 1e-25])
    arrays = tensorflow_update.ARRAYS
    found = arrays.orthonormal(tf.constant(np.float32(matrix) * sizes))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    none = arrays.orthonormal(tf.zeros((3, 3))).numpy()
    np.testing.assert_allclose(none @ none.T, np.eye(3), atol=1e-6)
