"""Loops, branches and functions of a graph, against counts by hand."""

import pytest
import tensorflow as tf

from lbcheck.plan import counts
from lbcheck.plan import graph

ROWS, WIDTH = 3, 11
PRODUCT = 2 * ROWS * WIDTH * WIDTH  # FLOPs of `layer`; its gradient has two
STATE, WEIGHTS = 4 * ROWS * WIDTH, 4 * WIDTH * WIDTH  # bytes


def examined(function):
    """What is found of a function of states and weights, and its gradients."""
    traced = {}

    def step(state, weights):
        with tf.GradientTape() as tape:
            tape.watch([state, weights])
            result = function(state, weights)
        made = tf.compat.v1.get_default_graph().get_operations()
        traced["forward"] = len(made)
        return tape.gradient(result, [state, weights])

    specs = [tf.TensorSpec((n, WIDTH)) for n in (ROWS, WIDTH)]
    function_graph = (
        tf.function(step, autograph=False).get_concrete_function(*specs).graph
    )
    return graph.examine(
        function_graph, function_graph.outputs, traced["forward"]
    )


def assert_products(function, products):
    """Of a forward pass; the backward pass has two for each of them."""
    found = examined(function)
    assert found.forward_flops == products * PRODUCT
    assert found.flops == 3 * products * PRODUCT


def layer(state, weights):
    return tf.tanh(state @ weights)


def loop(goes_on, step, start=0, body=layer):
    """A loop with a counter, which `step` moves on."""

    def run(state, weights):
        return tf.while_loop(
            lambda count, _: goes_on(count),
            lambda count, state: (step(count), body(state, weights)),
            (tf.constant(start), state),
        )[1]

    return run


def times(number, body=layer):
    return loop(lambda count: count < number, lambda count: count + 1, 0, body)


@tf.function
def converted(state, weights):
    for _ in tf.range(tf.shape(weights)[0] // 2):
        state = layer(state, weights)
    return state


def mapped(state, weights):
    return tf.map_fn(lambda row: layer(row[None], weights), state)


def scanned(state, weights):
    def step(before, row):
        return layer(before + row[None], weights)

    return tf.scan(step, state, tf.zeros((1, WIDTH)))


@pytest.mark.parametrize(
    "function, products",
    [
        (times(6), 6),
        (times(1), 1),
        (loop(lambda n: n > 1, lambda n: n // 2, 100), 6),
        (loop(lambda n: (n < 40) & (n < 30), lambda n: n + 10), 3),
        (times(3, times(4)), 12),
        (converted, 5),
        (mapped, 1),  # of one row, three times
        (scanned, 1),
    ],
    ids="six one halved both nested converted mapped scanned".split(),
)
def test_a_loop_counts_as_often_as_it_runs(function, products):
    assert_products(function, products)


def test_what_loops_keep_grows_with_the_product_of_their_times():
    for function, states in ((times(6), 6), (times(3, times(4)), 12)):
        found = examined(function)
        # Beside them the counters of the inner loop.
        assert states * STATE + WEIGHTS <= found.least <= found.kept
        assert found.kept < (states + 1) * STATE + WEIGHTS


def two_layers(state, weights):
    return layer(layer(state, weights), weights)


def positive(state, weights):
    return tf.cond(
        tf.reduce_sum(state) > 0,
        lambda: state,
        lambda: two_layers(state, weights),
    )


def decided(state, weights):
    return tf.cond(
        tf.constant(1) > 2,
        lambda: two_layers(state, weights),
        lambda: layer(state, weights),
    )


def case(state, weights):
    return tf.switch_case(
        tf.cast(tf.reduce_sum(state), "int32"),
        [
            lambda: layer(state, weights),
            lambda: two_layers(state, weights),
            lambda: tf.sin(state),
        ],
    )


@pytest.mark.parametrize(
    "function, products",
    [(positive, 2), (decided, 1), (case, 2), (times(5, positive), 10)],
    ids="positive decided case in_a_loop".split(),
)
def test_of_branches_the_one_that_computes_most_counts(function, products):
    assert_products(function, products)


def test_a_function_that_was_traced_for_any_shape():
    any_rows = tf.TensorSpec((None, WIDTH))
    called = tf.function(two_layers, input_signature=[any_rows] * 2)
    compiled = tf.function(two_layers, jit_compile=True)
    for function in (called, compiled):
        found = examined(function)
        assert found.forward_flops == 2 * PRODUCT
        assert found.flops == 6 * PRODUCT
        # Both states after a layer, and the one before.
        assert found.kept == 3 * STATE + WEIGHTS


def until_small(state, weights):
    return tf.while_loop(
        lambda state: tf.reduce_sum(state) > 0.5,
        lambda state: (layer(state, weights),),
        (state,),
    )[0]


def uneven(count):
    """A count that a branch moves on, which is not looked into."""
    return tf.cond(count < 3, lambda: count + 1, lambda: count + 2)


def outside(state, weights):
    def function(state):
        return state

    state = tf.py_function(function, [layer(state, weights)], "float32")
    return tf.ensure_shape(state, (ROWS, WIDTH))


def sparse(state, weights):
    rows = tf.sparse.from_dense(state)
    return tf.sparse.sparse_dense_matmul(rows, weights)


def some_rows(state, weights):
    return layer(tf.boolean_mask(state, state[:, 0] > 0), weights)


@pytest.mark.parametrize(
    "function, said",
    [
        (
            until_small,
            "loop while cannot be planned: values of the data decide",
        ),
        (
            loop(lambda n: n < 1, lambda n: n * 1),
            "loop while cannot be planned: .* not ended after 10,000",
        ),
        (loop(lambda n: n < 9, uneven), "values of the data decide"),
        (outside, "EagerPyFunc of type EagerPyFunc cannot be planned"),
        (sparse, "of type SparseTensorDenseMatMul cannot be planned"),
        (some_rows, r"expected a known shape, received \(None, 11\)"),
    ],
    ids="until_small endless uneven outside sparse some_rows".split(),
)
def test_what_is_not_known_before_it_runs_is_refused(function, said):
    with pytest.raises(ValueError, match=said):
        examined(function)


def operation(name, shapes, **given):
    """An operation of arrays of these shapes."""
    with tf.Graph().as_default():
        arrays = [tf.compat.v1.placeholder("float32", s) for s in shapes]
        return getattr(tf.raw_ops, name)(**given, inputs=arrays).op


@pytest.mark.parametrize(
    "equation, shapes, expected",
    [
        ("ab,bc->ac", [(2, 3), (3, 5)], 2 * 3 * 5),
        ("...x,xy->...y", [(7, 16, 32), (32, 48)], 7 * 16 * 32 * 48),
        ("a...b,b...c->a...c", [(2, 7, 3), (3, 7, 5)], 2 * 7 * 3 * 5),
        # The axes of "..." are those from behind, and one is repeated.
        ("...ab,...bc->...ac", [(6, 1, 2, 3), (7, 3, 5)], 6 * 7 * 2 * 3 * 5),
        ("x,...->x...", [(4,), (2, 3)], 4 * 2 * 3),
        # a is summed before.
        ("ab,bc->c", [(2, 3), (3, 5)], 3 * 5),
        ("aab,b->a", [(2, 2, 3), (3,)], 2 * 3),
        ("ab->ba", [(2, 3)], 0),
    ],
)
def test_axes_of_an_einsum(equation, shapes, expected):
    made = operation("Einsum", shapes, equation=equation)
    assert counts.multiply_adds(made) == expected
