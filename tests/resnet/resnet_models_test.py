"""The image models: sizes, initial weights, parity with their peers."""

import functools
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from resnet import augmentation_layer
from resnet import initializers
from resnet import losses
from resnet import models
from tests.resnet import resnet_models_worker as worker

ROOT = str(pathlib.Path(__file__).parents[2])
CLOSE = 1e-5
BOTH = pytest.mark.parametrize(
    "kind", [keras, tf_keras], ids=["keras3", "tf_keras"]
)
IMAGE = (64, 64, 3)
SHAPES = {
    **{name: IMAGE for name in models.NAMES},
    "resnet_small": (8, 8, 1),
    "davidnet": (32, 32, 3),
    "lenet5": (28, 28, 1),
    "lenet_wide": (28, 28, 1),
}
PARAMETERS = {  # those of the papers, torchvision and other programs
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "davidnet": 6_573_120,
    "lenet5": 61_706,
    "lenet_wide": 3_274_634,
}
RECORDED = [[-0.2585877478, -1.5574972630], [-0.5102207661, 1.3338422775]]
SMALL = ["resnet_small", "davidnet", "lenet5", "lenet_wide"]


def build(name, kind=tf_keras, **settings):
    classes = 1000 if name in PARAMETERS and name[-1] in "01248" else 10
    settings.setdefault("num_classes", classes)
    return models.build(name, kind, image_shape=SHAPES[name], **settings)


def images(shape=IMAGE, batch=4):
    generator = np.random.default_rng(batch)
    return generator.normal(size=(batch, *shape)).astype("float32")


def weights(model):
    """{layer/index: value} of all weights."""
    return {
        f"{layer.name}/{index}": value
        for layer in model.layers
        for index, value in enumerate(layer.get_weights())
    }


def copy_weights(targets, sources):
    """Copies layer by layer; a peer's bias stays out and must be zero.

    First, norm layers of the source get parameters and statistics that are
    not those they start with.
    """
    generator = np.random.default_rng(0)
    for target, source in zip(targets, sources, strict=True):
        values = source.get_weights()
        if len(values) == 4:
            values = [generator.uniform(0.5, 1.5, v.shape) for v in values]
            source.set_weights(values)
        if len(values) > len(target.get_weights()):
            assert not values.pop().any()
        target.set_weights(values)


def weighted(model):
    return [layer for layer in model.layers if layer.get_weights()]


SLOW = ("resnet101", "resnet152")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW))
        for name in PARAMETERS
    ],
)
def test_parameter_counts(name):
    classes = 1000 if "resnet" in name else 10
    model = build(name, num_classes=classes)
    count = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    assert count == PARAMETERS[name]


@BOTH
def test_l2_reaches_exactly_54_kernels_of_resnet50(kind):
    model = build("resnet50", kind, l2=0.25)
    kernels = [v for v in model.trainable_variables if len(v.shape) > 1]
    assert len(kernels) == 54
    assert len(model.losses) == 54
    exact = sum(
        0.125 * np.sum(np.square(v.numpy(), dtype="f8")) for v in kernels
    )
    np.testing.assert_allclose(float(sum(model.losses)), exact, rtol=1e-5)


@BOTH
@pytest.mark.parametrize("name", ["resnet_small", "davidnet", "lenet5"])
@pytest.mark.parametrize("l2_on", ["kernels", "all"])
def test_l2_gradient_is_lambda_w(kind, name, l2_on):
    model = build(name, kind, l2=0.25, l2_on=l2_on)
    for variable in model.trainable_variables:
        variable.assign(variable + 0.5)
    sources = [
        v if kind is tf_keras else v.value for v in model.trainable_variables
    ]
    with tf.GradientTape() as tape:
        loss = tf.add_n(model.losses)
    gradients = tape.gradient(loss, sources, unconnected_gradients="zero")
    for variable, gradient in zip(model.trainable_variables, gradients):
        decays = l2_on == "all" or len(variable.shape) > 1
        np.testing.assert_allclose(
            gradient, 0.25 * variable.numpy() * decays, rtol=1e-6
        )


@BOTH
def test_initial_weights(kind):
    """lecun_normal, cut at two deviations; N(0, 0.01); gamma_0."""
    model = build("resnet50", kind, final_gamma=0.4138)
    lasts = 0
    for layer in weighted(model):
        first, *others = layer.get_weights()
        if first.ndim == 4:
            deviation = np.prod(first.shape[:3]) ** -0.5
            few = 5 / np.sqrt(first.size)
            assert abs(first.std() / deviation - 1) < few
            assert abs(first.mean()) < few * deviation
            cut = 2 * deviation / 0.87962566  # published in Keras, flax
            assert 0.97 * cut < np.abs(first).max() <= cut * (1 + 1e-6)
        elif layer.name == "logits":
            assert abs(first.std() / 0.01 - 1) < 0.005
            assert np.abs(first).max() > 0.04  # not cut
            assert not others[0].any()
        else:
            last = layer.name.endswith("bn3")
            lasts += last
            np.testing.assert_array_equal(
                first, np.float32(0.4138 if last else 1)
            )
            beta, mean, variance = others
            assert not beta.any() and not mean.any() and (variance == 1).all()
    assert lasts == 16


def test_davidnet_starts_as_in_pytorch():
    for layer in weighted(build("davidnet")):
        kernel = layer.get_weights()[0]
        if kernel.ndim > 1:
            limit = np.prod(kernel.shape[:-1]) ** -0.5
            cut = np.abs(kernel).max() / limit
            assert 0.99 < cut <= 1 + 1e-6
            few = 5 / np.sqrt(kernel.size)
            assert abs(kernel.std() / limit * np.sqrt(3) - 1) < few


@pytest.mark.parametrize("name", SMALL)
def test_initial_weights_are_a_function_of_seed_and_name(name):
    """Whatever Keras, order, or global random state."""
    tf_keras.utils.set_random_seed(1)
    first = weights(build(name, tf_keras, seed=3))
    tf_keras.utils.set_random_seed(2)
    build("resnet18", keras)
    second = weights(build(name, keras, seed=3))
    other = weights(build(name, tf_keras, seed=4))
    assert first.keys() == second.keys()
    kernels = {}
    for path, value in first.items():
        np.testing.assert_array_equal(value, second[path])
        if value.ndim > 1:
            assert np.abs(value - other[path]).max() > 0.01
            kernels.setdefault(value.shape, []).append(value)
    for same_shape in kernels.values():
        for one, next_one in zip(same_shape, same_shape[1:]):
            assert np.abs(one - next_one).max() > 0.01


def test_initial_numbers_do_not_change():
    """As recorded: a record's seed must mean the same weights later."""
    drawn = initializers.VarianceScaling(3, "stem_conv/kernel")((2, 2))
    np.testing.assert_allclose(drawn, RECORDED, rtol=1e-6)


@functools.cache
def train_once(kind, name, jit=False):
    """Logits, weights and loss before a step, and weights after it."""
    settings = {} if "lenet" in name else {"virtual_batch_size": 4}
    if "resnet" in name:
        settings["final_gamma"] = 0.5
    model = build(name, kind, l2=1e-3, seed=1, **settings)
    x = images(SHAPES[name], 8)
    y = np.arange(8, dtype="int32")
    logits, before = np.asarray(model(x)), weights(model)
    model.compile(
        kind.optimizers.SGD(0.1),
        losses.cross_entropy(kind, 0.1),
        jit_compile=jit,
    )
    return logits, before, model.train_on_batch(x, y), weights(model)


@pytest.mark.parametrize("name", SMALL)
def test_both_kerases_train_alike(name):
    """Outputs, loss, and the gradients as far as a step shows them."""
    logits, _, loss, after = train_once(tf_keras, name)
    logits_3, _, loss_3, after_3 = train_once(keras, name)
    np.testing.assert_allclose(logits, logits_3, atol=CLOSE)
    np.testing.assert_allclose(loss, loss_3, rtol=CLOSE)
    for path, value in after.items():
        np.testing.assert_allclose(value, after_3[path], atol=CLOSE)


@BOTH
@pytest.mark.parametrize(
    "name",
    [
        "resnet_small",
        "lenet5",
        pytest.param("lenet_wide", marks=pytest.mark.slow),
        pytest.param("davidnet", marks=pytest.mark.slow),
        pytest.param("resnet18", marks=pytest.mark.slow),
        pytest.param("resnet50", marks=pytest.mark.slow),
    ],
)
def test_train_step_compiles_under_xla(kind, name):
    _, before, loss, after = train_once(kind, name, jit=False)
    *_, loss_xla, after_xla = train_once(kind, name, jit=True)
    np.testing.assert_allclose(loss, loss_xla, rtol=1e-4)
    # Over all weights: a relu that flips in one kernel of fifty layers moves
    # single weights by more, with plain batch norm too.
    moved = sum(np.sum((after[path] - before[path]) ** 2) for path in after)
    apart = sum(np.sum((after[path] - after_xla[path]) ** 2) for path in after)
    assert apart**0.5 < 0.01 * moved**0.5


def test_equals_keras_applications_resnet50_v1():
    peer = tf_keras.applications.ResNet50(
        weights=None, input_shape=IMAGE, classifier_activation=None
    )
    ours = build(
        "resnet50",
        version="1.0",
        padding="symmetric",
        batch_norm_epsilon=1.001e-5,
        virtual_batch_size=None,
    )
    copy_weights(
        [ours.get_layer(_applications_name(layer)) for layer in weighted(peer)],
        weighted(peer),
    )
    _assert_same_outputs(ours, peer)


def _applications_name(layer):
    """conv3_block1_2_bn is our stage2_block1_bn2, 0 the shortcut."""
    if layer.name.startswith("conv1_"):
        return layer.name.replace("conv1", "stem")
    if layer.name == "predictions":
        return "logits"
    stage, block, number, form = layer.name.split("_")
    last = f"{form}{number}" if number != "0" else f"shortcut_{form}"
    return f"stage{int(stage[-1]) - 1}_{block}_{last}"


def test_equals_model_garden_resnet50_v1_5():
    from official.vision.modeling import backbones
    from official.vision.modeling import classification_model

    specs = tf_keras.layers.InputSpec(shape=[None, *IMAGE])
    peer = classification_model.ClassificationModel(
        backbones.ResNet(50, input_specs=specs, norm_epsilon=1e-5),
        1000,
        input_specs=specs,
    )
    ours = build("resnet50", padding="same", virtual_batch_size=None)
    backbone, *_, head = weighted(peer)
    stem_conv, stem_bn, *blocks = weighted(backbone)
    sources = [stem_conv, stem_bn]
    for block in blocks:
        if hasattr(block, "_shortcut"):
            sources += [block._shortcut, block._norm0]
        for number in (1, 2, 3):
            sources += [
                getattr(block, f"_conv{number}"),
                getattr(block, f"_norm{number}"),
            ]
    layers = {layer.name: layer for layer in weighted(ours)}
    names = ["stem_conv", "stem_bn"]
    for stage, count in enumerate((3, 4, 6, 3), 1):
        for index in range(1, count + 1):
            block = f"stage{stage}_block{index}"
            if index == 1:
                names += [f"{block}_shortcut_conv", f"{block}_shortcut_bn"]
            for number in (1, 2, 3):
                names += [f"{block}_conv{number}", f"{block}_bn{number}"]
    copy_weights(
        [layers[name] for name in [*names, "logits"]], [*sources, head]
    )
    _assert_same_outputs(ours, peer)


def _assert_same_outputs(ours, peer):
    x = images()
    for training in (False, True):
        expected = peer(x, training=training).numpy()
        scale = np.abs(expected - expected.mean(0)).max()
        found = ours(x, training=training).numpy()
        assert np.abs(found - expected).max() < 1e-4 * scale


@functools.cache
def resnet50_outputs(**settings):
    model = build(
        "resnet50", **{"final_gamma": 0.5, "num_classes": 10} | settings
    )
    return model(images()).numpy()


@pytest.mark.parametrize(
    "settings",
    [
        {"version": "1.0"},
        {"padding": "same"},
        {"padding": "symmetric"},
        {"final_gamma": 1.0},
        {"batch_norm_epsilon": 1e-2},
    ],
    ids=str,
)
def test_each_setting_changes_the_outputs(settings):
    expected, found = resnet50_outputs(), resnet50_outputs(**settings)
    assert np.abs(found - expected).max() > 1e-3 * np.abs(expected).max()


@BOTH
@pytest.mark.parametrize(
    "name, settings, message",
    [
        ("resnet51", {}, "Unknown model 'resnet51'.*resnet50"),
        ("lenet5", {"final_gamma": 0.5}, "'lenet5'.*`final_gamma`.*0.5"),
        ("resnet18", {"version": "1.0"}, "'resnet18'.*`version`.*'1.0'"),
        ("davidnet", {"padding": "same"}, "'davidnet'.*`padding`.*'same'"),
        ("resnet50", {"version": "2"}, "`version`.*'1.0'.*received '2'"),
        ("resnet50", {"padding": "full"}, "`padding`.*received 'full'"),
        ("resnet50", {"l2": -1.0}, "`l2`.*received -1.0"),
        ("resnet50", {"l2_on": "bias"}, "`l2_on`.*received 'bias'"),
        ("resnet50", {"num_classes": 1}, "`num_classes`.*received 1"),
        ("resnet50", {"image_shape": (8, 8)}, r"`image_shape`.*\(8, 8\)"),
        ("resnet50", {"seed": -1}, "`seed`.*received -1"),
    ],
)
def test_bad_settings(kind, name, settings, message):
    given = {"image_shape": IMAGE, "num_classes": 10} | settings
    with pytest.raises(ValueError, match=message):
        models.build(name, kind, **given)


@BOTH
@pytest.mark.parametrize(
    "name, smallest",
    [("lenet5", 12), ("lenet_caffe", 16), ("lenet_wide", 4), ("davidnet", 8)],
)
def test_images_of_which_nothing_is_left_are_refused(kind, name, smallest):
    small = functools.partial(models.build, name, kind, num_classes=10)
    small(image_shape=(smallest, smallest, 1))
    less = smallest - 1
    said = f"{name}.* {smallest} x {smallest} pixels.* have {smallest} x {less}"
    with pytest.raises(ValueError, match=said):
        small(image_shape=(smallest, less, 1))


@pytest.mark.parametrize("padding", ["paper", "same", "symmetric"])
def test_a_resnet_takes_a_pixel(padding):
    given = {"image_shape": (1, 1, 3), "num_classes": 2, "padding": padding}
    models.build("resnet18", tf_keras, **given)


@BOTH
def test_mixed_precision(kind):
    before = kind.mixed_precision.global_policy if kind is tf_keras else None
    assert before is None or before().name == "float32"
    set_policy = kind.mixed_precision.set_global_policy
    try:
        set_policy("mixed_bfloat16")
        model = build("resnet_small", kind, seed=1, final_gamma=0.5)
    finally:
        set_policy("float32")
    x = images((8, 8, 1))
    logits = model(x)
    exact = build("resnet_small", kind, seed=1, final_gamma=0.5)(x)
    difference = np.abs(np.asarray(logits) - np.asarray(exact)).max()
    assert tf.as_dtype(logits.dtype) == tf.float32
    assert 0 < difference < 0.03 * np.abs(exact).max()


@BOTH
def test_saved_and_loaded(kind, tmp_path):
    model = build("resnet_small", kind, l2=0.1, l2_on="all")
    model.compile("sgd", losses.cross_entropy(kind, 0.1))
    model.save(tmp_path / "model.keras")
    loaded = kind.models.load_model(tmp_path / "model.keras")
    x = images((8, 8, 1))
    np.testing.assert_array_equal(loaded(x), model(x))
    assert len(loaded.losses) == len(model.trainable_variables)
    fresh = kind.models.clone_model(loaded)
    for path, value in weights(model).items():
        np.testing.assert_array_equal(weights(fresh)[path], value)
    assert loaded.loss.get_config() == model.loss.get_config()


@BOTH
@pytest.mark.parametrize("tau", [0.0, 0.15])
def test_cross_entropy(kind, tau):
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(6, 5))
    labels = np.array([0, 4, 2, 2, 1, 3])
    target = np.eye(5)[labels] * (1 - tau) + tau / 5
    log = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    exact = -(target * log).sum(1)
    loss = losses.cross_entropy(kind, tau)
    for shape in ((6,), (6, 1)):
        found = loss(labels.reshape(shape), logits.astype("float32"))
        np.testing.assert_allclose(found, exact.mean(), rtol=1e-6)
    share = np.array([1, 1, 0, 1, 0, 2.0], "float32")
    found = loss(labels, logits.astype("float32"), sample_weight=share)
    np.testing.assert_allclose(found, (exact * share).mean(), rtol=1e-6)
    with pytest.raises(ValueError, match="label_smoothing.*received 1.0"):
        losses.cross_entropy(kind, 1.0)


@pytest.mark.slow
def test_small_resnet_learns_digits():
    from sklearn import datasets

    digits = datasets.load_digits()
    x = (digits.images[..., np.newaxis] / 16).astype("float32")
    y = digits.target.astype("int32")
    order = np.random.default_rng(0).permutation(len(x))
    train, test = order[:1280], order[1280:]
    model = build("resnet_small", l2=5e-4)
    model.compile(
        tf_keras.optimizers.SGD(0.2, momentum=0.9, nesterov=True),
        losses.cross_entropy(tf_keras, 0.1),
        metrics=["accuracy"],
    )
    model.fit(x[train], y[train], batch_size=128, epochs=12, verbose=0)
    assert model.evaluate(x[test], y[test], verbose=0)[1] > 0.97


def test_jax_without_tensorflow_trains_alike(tmp_path):
    augment = augmentation_layer.of(keras)(name="augment")
    model = models.build(
        "resnet_small", keras, **worker.SETTINGS, augment=augment
    )
    model.compile("sgd", losses.cross_entropy(keras, 0.1))
    model.save(tmp_path / "model.keras")
    finished = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.resnet.resnet_models_worker",
            "jax",
            str(tmp_path),
        ],
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    found = np.load(tmp_path / "results.npz")
    expected = worker.step(tf_keras)
    expected["loaded"] = expected["logits"]
    assert set(found) == set(expected)
    for path, value in expected.items():
        np.testing.assert_allclose(found[path], value, atol=CLOSE)
