"""What is counted in a traced step, against numbers worked out by hand."""

import math

import pytest
import tensorflow as tf
import tf_keras

import lbcheck.tf_keras
from lbcheck import optimizers
from lbcheck import training
from lbcheck.plan import Run
from lbcheck.plan import network


def lamb(keras, optimizers):
    del keras
    return optimizers.LAMB(0.1)


def run(model, shape, mixed_precision=None, optimizer=lamb):
    """A run of a model that is built while it is traced."""

    def build(keras, optimizers):
        entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        return training.Workload(
            model(keras), optimizer(keras, optimizers), entropy, []
        )

    return Run(
        "a run",
        training.Options("none", 8, 1, mixed_precision=mixed_precision),
        build,
        lambda size: (
            ((size, *shape), "float32"),
            ((size,), "int32"),
        ),
    )


def convolutional(keras):
    layers = keras.layers
    return keras.Sequential(
        [
            layers.Conv2D(4, 3, use_bias=False, input_shape=(8, 8, 3)),
            layers.GlobalAveragePooling2D(),
            layers.Dense(2),
        ]
    )


def test_a_convolution_and_a_product():
    found = network.trace(run(convolutional, (8, 8, 3)), 5)
    assert found.parameters == 3 * 3 * 3 * 4 + 4 * 2 + 2
    assert found.trainable_bytes == found.weight_bytes == 4 * 118
    assert found.slot_bytes == 2 * 4 * 118
    convolution, product = 6 * 6 * 4 * 27, 4 * 2
    forward = 2 * (convolution + product)
    assert found.found.forward_flops == 5 * forward
    # No gradient of the images; two products for those of the dense layer.
    assert found.found.flops == 5 * (
        forward + 2 * convolution + 2 * 2 * product
    )
    # Images and means, and of the loss its gradient by the logits; a scalar.
    assert found.found.kept == 5 * 4 * (8 * 8 * 3 + 4 + 2) + 4
    # The gradient of the kernel reads the convolution's, and writes itself.
    assert found.found.working >= 5 * 4 * 6 * 6 * 4 + 4 * 108


def gelu(keras):
    layers = keras.layers
    return keras.Sequential(
        [
            layers.Dense(64, input_shape=(16,)),
            layers.Lambda(lambda x: tf.nn.gelu(x, approximate=True)),
            layers.Dense(2),
        ]
    )


def test_what_a_compiler_computes_again_is_not_kept():
    found = network.trace(run(gelu, (16,)), 10).found
    # The inputs, the first product and the gradient of the loss.
    assert found.least == 10 * 4 * (16 + 64 + 2)
    # Several stages of gelu between them.
    assert found.kept >= found.least + 2 * 10 * 4 * 64
    assert found.flops == found.forward_flops * 3 - 10 * 2 * 16 * 64


@pytest.mark.parametrize(
    "function",
    [
        tf.nn.softsign,
        tf.sin,
        lambda x: tf.math.xlogy(x, tf.floor(x)),
        lambda x: tf.reverse(tf.stack(tf.unstack(tf.tanh(x), axis=1), 1), [1]),
    ],
)
def test_any_elementwise_operation_is_one_that_is_computed_again(function):
    def model(keras):
        layers = keras.layers
        first = layers.Dense(64, input_shape=(16,))
        return keras.Sequential(
            [first, layers.Lambda(function), layers.Dense(2)]
        )

    found = network.trace(run(model, (16,)), 10).found
    assert found.least == 10 * 4 * (16 + 64 + 2)


def test_half_the_bytes_in_bfloat16():
    whole = network.trace(run(gelu, (16,)), 1000)
    half = network.trace(run(gelu, (16,), mixed_precision="bfloat16"), 1000)
    assert half.weight_bytes == whole.weight_bytes
    assert whole.found.least == 1000 * 4 * (16 + 64 + 2)
    assert half.found.least == 1000 * (4 * 16 + 2 * 64 + 2 * 2)
    assert math.isclose(half.found.kept, whole.found.kept / 2, rel_tol=1e-3)
    assert half.found.flops == whole.found.flops
    assert tf_keras.mixed_precision.global_policy().name == "float32"


def test_all_grows_with_the_microbatch():
    few, many = (network.trace(run(gelu, (16,)), n).found for n in (10, 40))
    for name in ("flops", "forward_flops", "kept", "least"):
        # Scalars do not grow.
        assert abs(getattr(many, name) - 4 * getattr(few, name)) <= 16


def test_no_weights_are_made():
    def large(keras):
        # 400 GB of weights.
        layers = [
            keras.layers.Dense(100_000, use_bias=False, input_shape=(100_000,))
            for _ in range(10)
        ]
        return keras.Sequential([*layers, keras.layers.Dense(2)])

    found = network.trace(run(large, (100_000,)), 1)
    assert found.parameters == 10 * 100_000**2 + 100_000 * 2 + 2
    assert found.slot_bytes == 2 * found.weight_bytes


def test_einsum_counts_all_its_letters():
    def attention(keras):
        inputs = keras.Input((6, 8))
        heads = keras.layers.MultiHeadAttention(2, 4)(inputs, inputs)
        mean = keras.layers.GlobalAveragePooling1D()(heads)
        return keras.Model(inputs, keras.layers.Dense(2)(mean))

    found = network.trace(run(attention, (6, 8)), 3).found
    projections = 4 * 6 * 8 * 8  # query, key, value and output
    products = 2 * 6 * 6 * 8  # of queries and keys, of those and values
    assert found.forward_flops == 3 * 2 * (projections + products + 8 * 2)


UNITS, STEPS, WIDTH = 11, 7, 5
SEQUENCE = (STEPS, WIDTH)


def recurrent(keras, *layers):
    return keras.Sequential(
        [keras.layers.Input(SEQUENCE), *layers, keras.layers.Dense(2)]
    )


def spatial(keras, shape, *layers):
    last = [keras.layers.Flatten(), keras.layers.Dense(2)]
    return keras.Sequential([keras.layers.Input(shape), *layers, *last])


def simple(keras):
    return recurrent(keras, keras.layers.SimpleRNN(UNITS))


def lstm(keras):
    return recurrent(keras, keras.layers.LSTM(UNITS))


def masked(keras):
    layers = keras.layers
    both_ways = layers.Bidirectional(layers.GRU(UNITS))
    return recurrent(keras, layers.Masking(0.0), both_ways)


def stacked(keras):
    layers = keras.layers
    return recurrent(
        keras,
        layers.RNN(layers.LSTMCell(UNITS), return_sequences=True),
        layers.GRU(UNITS, reset_after=False),
    )


def time_distributed(keras):
    layers = keras.layers
    each = layers.TimeDistributed(layers.Conv2D(4, 3, padding="same"))
    return spatial(keras, (STEPS, 6, 6, 2), each)


class Repeated(tf_keras.layers.Layer):
    """A loop that AutoGraph makes of Python's."""

    def build(self, shape):
        self.kernel = self.add_weight("kernel", (shape[-1], shape[-1]))

    def call(self, inputs):
        for _ in tf.range(STEPS):
            inputs = tf.tanh(inputs @ self.kernel)
        return inputs


def repeated(keras):
    return keras.Sequential(
        [keras.layers.Input((UNITS,)), Repeated(), keras.layers.Dense(2)]
    )


def recurrent_gates(gates, width=WIDTH, inner=False):
    """Multiply-adds of a recurrent layer: forward, and both passes.

    Backward are the gradients of both kernels and of the state before, and
    of the inputs where they are no data.
    """
    forward = STEPS * gates * UNITS * (width + UNITS)
    inputs = STEPS * gates * UNITS * width if inner else 0
    return forward, 2 * forward + STEPS * gates * UNITS**2 + inputs


def convolution(each, positions):
    """Multiply-adds of a convolution of data, and of its kernel's gradient."""
    return each * positions, 2 * each * positions


LAYERS = {
    "SimpleRNN": (simple, SEQUENCE, [recurrent_gates(1)], UNITS),
    "LSTM": (lstm, SEQUENCE, [recurrent_gates(4)], UNITS),
    "Bidirectional of a masked GRU": (
        masked,
        SEQUENCE,
        [recurrent_gates(3)] * 2,
        2 * UNITS,
    ),
    "GRU over an RNN of cells": (
        stacked,
        SEQUENCE,
        [recurrent_gates(4), recurrent_gates(3, UNITS, inner=True)],
        UNITS,
    ),
    "a layer with a Python loop": (
        repeated,
        (UNITS,),
        [(STEPS * UNITS**2, 3 * STEPS * UNITS**2)],
        UNITS,
    ),
    "TimeDistributed": (
        time_distributed,
        (STEPS, 6, 6, 2),
        [convolution(9 * 2 * 4, STEPS * 36)],
        STEPS * 36 * 4,
    ),
    "Conv2D in groups": (
        lambda keras: spatial(
            keras, (8, 8, 16), keras.layers.Conv2D(32, 3, groups=4)
        ),
        (8, 8, 16),
        [convolution(9 * 4 * 32, 36)],
        36 * 32,
    ),
    "Conv3D in groups": (
        lambda keras: spatial(
            keras, (4, 5, 6, 4), keras.layers.Conv3D(8, 3, groups=2)
        ),
        (4, 5, 6, 4),
        [convolution(27 * 2 * 8, 2 * 3 * 4)],
        2 * 3 * 4 * 8,
    ),
    "Conv3DTranspose": (
        lambda keras: spatial(
            keras,
            (2, 3, 4, 4),
            keras.layers.Conv3DTranspose(8, 3, strides=2, padding="same"),
        ),
        (2, 3, 4, 4),
        [convolution(27 * 4 * 8, 2 * 3 * 4)],
        4 * 6 * 8 * 8,
    ),
    "Conv3D": (
        lambda keras: spatial(
            keras,
            (4, 5, 6, 3),
            keras.layers.Conv3D(4, (1, 2, 3), strides=(1, 2, 1)),
        ),
        (4, 5, 6, 3),
        [convolution(6 * 3 * 4, 4 * 2 * 4)],
        4 * 2 * 4 * 4,
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_of_loops_functions_and_three_dimensions(name):
    model, shape, parts, width = LAYERS[name]
    found = network.trace(run(model, shape), 3).found
    last = 2 * width  # of the dense layer, whose inputs have a gradient
    forward = sum(part for part, _ in parts) + last
    both = sum(part for _, part in parts) + 3 * last
    assert found.forward_flops == 3 * 2 * forward
    assert found.flops == 3 * 2 * both


@pytest.mark.parametrize(
    "model, arrays",
    [
        # Of every step the state.
        (simple, 1),
        # i, f, o, the candidate, the cell, its tanh and the state.
        (lstm, 7),
    ],
)
def test_a_loop_keeps_its_arrays_of_every_step(model, arrays):
    found = network.trace(run(model, SEQUENCE), 1000).found
    sequence, last_state, loss = STEPS * WIDTH, UNITS, 2
    states = STEPS * arrays * UNITS
    kept = 4 * 1000 * (sequence + states + last_state + loss)
    # Beside them a few numbers of every step.
    assert kept <= found.least <= found.kept <= kept + 400 * STEPS


def of_lbcheck(name):
    class_name = optimizers.BY_NAME[name].__name__
    return lambda _, ours: getattr(ours, class_name)(0.1)


OPTIMIZERS = {
    **{name: of_lbcheck(name) for name in optimizers.BY_NAME},
    "an average of the weights": lambda _, ours: ours.LAMB(0.1, use_ema=True),
    "Keras's SGD": lambda keras, _: keras.optimizers.SGD(0.1),
    "Keras's momentum": lambda keras, _: keras.optimizers.SGD(
        0.1, momentum=0.9
    ),
    "Keras's Adam": lambda keras, _: keras.optimizers.Adam(
        keras.optimizers.schedules.CosineDecay(0.1, 10), amsgrad=True
    ),
    "Keras's Adafactor": lambda keras, _: keras.optimizers.Adafactor(0.1),
    "a name": lambda keras, _: "rmsprop",
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_slots_are_those_of_the_built_optimizer(name):
    def model(keras):
        layers = keras.layers
        return keras.Sequential(
            [
                layers.Dense(48, input_shape=(32,)),
                layers.LayerNormalization(),
                layers.Dense(40),
                layers.Dense(16),
            ]
        )

    make = OPTIMIZERS[name]
    planned = network.trace(run(model, (32,), optimizer=make), 1).slot_bytes
    compiled = model(tf_keras)
    compiled.compile(make(tf_keras, lbcheck.tf_keras), "mse")
    optimizer = compiled.optimizer
    optimizer.build(compiled.trainable_variables)
    built = sum(math.prod(v.shape) * v.dtype.size for v in optimizer.variables)
    # Beside them a count of updates, a rate and single numbers of variables.
    assert 0 <= built - planned <= 100


def test_what_is_no_workload_is_refused():
    no_workload = run(gelu, (16,))._replace(build=lambda *_: ("model", None))
    with pytest.raises(ValueError, match="build: expected an .*Workload"):
        network.trace(no_workload, 1)


def test_an_optimizer_that_cannot_be_built_is_named():
    def legacy(keras, optimizers):
        del optimizers
        return keras.optimizers.legacy.SGD()

    said = r"optimizer: expected .* received tf_keras\..*gradient_descent\.SGD"
    with pytest.raises(ValueError, match=said):
        network.trace(run(gelu, (16,), optimizer=legacy), 1)
