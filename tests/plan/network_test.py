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


def run(model, shape, labels=((), "int32"), mixed_precision=None):
    """A run of a model that is built while it is traced."""

    def build(keras, optimizers):
        entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        return training.Workload(
            model(keras), optimizers.LAMB(0.1), entropy, []
        )

    return Run(
        "a run",
        training.Options("none", 8, 1, mixed_precision=mixed_precision),
        build,
        lambda size: (
            ((size, *shape), "float32"),
            ((size, *labels[0]), labels[1]),
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


@pytest.mark.parametrize("name", optimizers.BY_NAME)
def test_slots_are_those_of_the_built_optimizer(name):
    class_name = optimizers.BY_NAME[name].__name__
    model = tf_keras.Sequential(
        [
            tf_keras.layers.Dense(48, input_shape=(32,)),
            tf_keras.layers.LayerNormalization(),
            tf_keras.layers.Dense(40),
            tf_keras.layers.Dense(16),
        ]
    )
    optimizer = getattr(lbcheck.tf_keras, class_name)(0.1)
    planned = network.slot_bytes(optimizer, model.trainable_variables)
    optimizer.build(model.trainable_variables)
    built = sum(math.prod(v.shape) * v.dtype.size for v in optimizer.variables)
    # Beside them a count of updates, a rate and a few switches.
    assert 0 <= built - planned <= 32
