"""Instruments on real models of both Kerases: transplant and noise scale."""

import importlib
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

import lbcheck
from lbcheck.instruments import noise_scale
from lbcheck.instruments import transplant
from lbcheck.support import random_state

KERASES = {"keras3": "keras", "tf_keras": "tf_keras"}
STEPS = 25


def rooms(name="keras3"):
    """(Keras, lbcheck's optimizers for it)."""
    return (
        importlib.import_module(KERASES[name]),
        importlib.import_module(f"lbcheck.{name}"),
    )


def model_of(keras, seed, optimizer):
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Input((6,)),
            layers.Dense(16, activation="relu", name="first"),
            layers.LayerNormalization(name="norm"),
            layers.Dense(3, name="second"),
        ]
    )
    model.compile(optimizer, loss="mse")
    return model


def batches(seed=0):
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(STEPS, 32, 6)).astype("float32")
    target = generator.normal(size=(6, 3))
    y = np.tanh(x @ target).astype("float32")
    return [*zip(x, y)]


def schedule():
    return lbcheck.schedules.PolynomialWarmupDecay(
        initial_rate=0.0,
        peak_rate=0.05,
        final_rate=0.001,
        warmup_steps=5,
        total_steps=STEPS,
    )


def lamb_of(room, **settings):
    return room.LAMB(
        schedule(), weight_decay=0.1, diagnostics_every=1, **settings
    )


def apart(model, other):
    """Relative distance of two models' weights."""
    w, v = (
        np.concatenate([array.ravel() for array in one.get_weights()])
        for one in (model, other)
    )
    return np.linalg.norm(w - v) / np.linalg.norm(v)


def train(model, data):
    for batch in data:
        model.train_on_batch(*batch)
    return model


@pytest.mark.parametrize(
    "name, settings",
    [
        pytest.param("tf_keras", {}, marks=pytest.mark.slow),
        (
            "keras3",
            {"bias_correction": False, "global_clipnorm": 0.5, "epsilon": 1e-3},
        ),
    ],
)
def test_replayed_ratios_give_lambs_weights(name, settings):
    keras, room = rooms(name)
    data = batches()
    lamb = model_of(keras, 0, lamb_of(room, **settings))
    recording = transplant.record(lamb, data)
    assert recording.ratios.shape == (STEPS, 6)
    assert np.ptp(recording.ratios[:, 0]) > 0.1  # kernels have ratios
    assert (recording.ratios[:, 1:4] == 1).all()  # biases and gains none
    rates = [schedule()(t) for t in range(STEPS)]
    np.testing.assert_allclose(recording.learning_rates, rates, rtol=1e-6)

    same = transplant.replay(recording, lamb.optimizer)
    replayed = train(model_of(keras, 0, same), data)
    assert apart(replayed, lamb) < 1e-5
    # The medians alone are another run, so the ratios do matter.
    medians = transplant.replay(recording.median(), lamb.optimizer)
    other = train(model_of(keras, 0, medians), data)
    assert 1e-3 < apart(other, lamb) < 1


def test_transplanted_to_another_seed_it_trains(tmp_path):
    keras, room = rooms()
    lamb = model_of(keras, 0, lamb_of(room))
    transplant.record(lamb, batches()).save(tmp_path / "lamb.npz")
    recording = transplant.load(tmp_path / "lamb.npz")
    assert recording.shapes == ((6, 16), (16,), (16,), (16,), (16, 3), (3,))
    assert recording.paths[0].endswith("first/kernel")
    optimizer = transplant.replay(recording.median(), lamb.optimizer)
    other = model_of(keras, 1, optimizer)
    losses = [other.evaluate(*b, verbose=0) for b in batches()[:1]]
    train(other, batches() * 2)  # beyond the recording the last rate holds
    assert other.evaluate(*batches()[0], verbose=0) < losses[0] / 2
    # Its own rate takes the place of the recorded one.
    still = transplant.replay(recording, lamb.optimizer, learning_rate=0.0)
    unmoved = train(model_of(keras, 1, still), batches()[:2])
    fresh = model_of(keras, 1, "sgd")
    assert apart(unmoved, fresh) == 0


def steps_of(keras, optimizer, gradients, look=lambda: None):
    """The values of one variable "w", from 1s on."""
    tensorflow = importlib.import_module("tensorflow")
    first = np.ones_like(gradients[0], np.float32)
    made = getattr(keras, "Variable", tensorflow.Variable)(first, name="w")
    values = [first]
    for gradient in gradients:
        given = tensorflow.constant(gradient, "float32")
        optimizer.apply_gradients([(given, made)])
        look()
        values.append(made.numpy())
    return np.array(values)


@pytest.mark.parametrize("name", KERASES)
def test_averaged_and_clipped_weights_are_replayed(name):
    keras, room = rooms(name)
    lamb = room.LAMB(
        0.1,
        weight_decay=0.1,
        diagnostics_every=1,
        clipvalue=0.5,
        use_ema=True,
        ema_momentum=0.9,
        ema_overwrite_frequency=3,
    )
    recorder = transplant.Recorder(lamb)
    gradients = np.random.default_rng(0).normal(size=(8, 4))
    weights = steps_of(keras, lamb, gradients, recorder.look)
    same = transplant.replay(recorder.recording(), lamb)
    replayed = steps_of(keras, same, gradients)
    np.testing.assert_allclose(replayed, weights, rtol=1e-5)


@pytest.mark.parametrize("name", KERASES)
def test_a_given_rate_goes_on_after_the_recording(name):
    """Where every gradient is 1, AdamW's step is the rate times the ratio."""
    keras, room = rooms(name)
    recording = transplant.Recording(
        np.array([0.5, 0.25], np.float32),
        ("w",),
        ((),),
        np.array([[2.0], [3.0]], np.float32),
    )
    falling = keras.optimizers.schedules.PolynomialDecay(0.4, 4, 0.0)
    warm = lbcheck.schedules.PolynomialWarmupDecay(
        initial_rate=0.1,
        peak_rate=0.4,
        final_rate=0.2,
        warmup_steps=1,
        total_steps=3,
    )
    for given, rates in (
        (None, [0.5, 0.25, 0.25, 0.25]),
        (0.1, [0.1, 0.1, 0.1, 0.1]),
        (lambda: 0.1, [0.1, 0.1, 0.1, 0.1]),
        (falling, [0.4, 0.3, 0.2, 0.1]),
        (warm, [0.1, 0.4, 0.3, 0.2]),
    ):
        lamb = room.LAMB(weight_decay=0.0, diagnostics_every=1)
        optimizer = transplant.replay(recording, lamb, given)
        weights = steps_of(keras, optimizer, np.ones(4))
        steps = np.multiply(rates, [2.0, 3.0, 3.0, 3.0])
        np.testing.assert_allclose(-np.diff(weights), steps, rtol=1e-5)


@pytest.mark.parametrize(
    "rate", ["0.1", True, -1.0, np.nan, [0.1] * 2, lambda t: 0.1]
)
def test_what_is_no_rate_of_a_transplant(rate):
    _, room = rooms()
    recording = transplant.Recording(
        np.ones(2, np.float32), ("w",), ((),), np.ones((2, 1), np.float32)
    )
    lamb = room.LAMB(diagnostics_every=1)
    with pytest.raises((TypeError, ValueError), match="`learning_rate`"):
        transplant.replay(recording, lamb, rate)


def test_what_cannot_be_transplanted(tmp_path):
    keras, room = rooms()
    with pytest.raises(TypeError, match="records lbcheck.LAMB"):
        transplant.Recorder(room.AdamW(diagnostics_every=1))
    with pytest.raises(ValueError, match="must be 1, received 0"):
        transplant.Recorder(room.LAMB())
    for settings in (
        {"dialect": "keras"},
        {"nesterov": "first"},
        {"fallback": room.AdamW()},
        {"gradient_accumulation_steps": 2},
    ):
        lamb = room.LAMB(diagnostics_every=1, **settings)
        with pytest.raises(ValueError, match="A transplant needs LAMB"):
            transplant.Recorder(lamb)
    lamb = model_of(keras, 0, lamb_of(room))
    recording = transplant.record(lamb, batches()[:2])
    with pytest.raises(ValueError, match="expected update 1, received 3"):
        transplant.record(lamb, batches()[:1])
    optimizer = transplant.replay(recording, lamb.optimizer)
    with pytest.raises(TypeError, match="cannot be saved"):
        optimizer.get_config()
    wrong = recording._replace(shapes=recording.shapes[::-1])
    optimizer = transplant.replay(wrong, lamb.optimizer)
    with pytest.raises(ValueError, match="recorded shapes"):
        train(model_of(keras, 0, optimizer), batches()[:1])
    np.savez(tmp_path / "no.npz", a=np.zeros(3))
    with pytest.raises(ValueError, match="no.npz: expected a recording"):
        transplant.load(tmp_path / "no.npz")


JAX = """
import keras, lbcheck, numpy as np
from lbcheck.instruments import noise_scale, transplant

def made():
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential([layers.Input((3,)), layers.Dense(2)])
    model.compile(lbcheck.LAMB(0.1, diagnostics_every=1), loss="mse")
    return model

def recorded(model, before):
    recorder = transplant.Recorder(model.optimizer)
    look = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: (before(), recorder.look()))
    model.fit(x, y, batch_size=8, shuffle=False, callbacks=[look], verbose=0)
    return recorder.recording().ratios

data = np.random.default_rng(0).normal(size=(3, 8, 5)).astype("float32")
x, y = data[:, :, :3].reshape(24, 3), data[:, :, 3:].reshape(24, 2)
expected = transplant.record(made(), [(d[:, :3], d[:, 3:]) for d in data])
model = made()
found = recorded(model, lambda: model.jax_state_sync())
np.testing.assert_allclose(found, expected.ratios, rtol=1e-5)
for refused in (
    lambda: recorded(made(), lambda: None),
    lambda: noise_scale.gram(made(), (x, y), 8),
):
    try:
        refused()
    except ValueError as error:
        print(error)
"""


@pytest.mark.slow
def test_on_jax():
    """`Recorder` beside `fit` has what `record` has, once it is told how."""
    finished = subprocess.run(
        [sys.executable, "-c", JAX],
        cwd=pathlib.Path(__file__).parents[2],
        env={**os.environ, "KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    beside, noise = finished.stdout.splitlines()
    assert "call model.jax_state_sync() before look()" in beside
    assert noise.endswith("on TensorFlow, received a model on jax.")


# The noise scale.


@pytest.mark.parametrize(
    "name", ["tf_keras", pytest.param("keras3", marks=pytest.mark.slow)]
)
def test_noise_scale_of_a_linear_model(name):
    """With x normal and y = x w exactly, g = x x^T (v - w) of one example has
    tr(Sigma) / |G|^2 = d + 1, whatever the weights: 9 of 8 inputs."""
    keras, _ = rooms(name)
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Input((8,)),
            layers.Dense(1, use_bias=False),
        ]
    )
    model.compile(keras.optimizers.SGD(1e-3), loss="mse")
    generator = np.random.default_rng(0)
    x = generator.normal(size=(2, 1024, 8)).astype("float32")
    y = np.ones((2, 1024, 1), "float32") * x.sum(axis=-1, keepdims=True)
    before = model.get_weights()[0]
    found = noise_scale.measure(model, [*zip(x, y)], 32)
    assert found.low <= 9 <= found.high and found.high / found.low < 2
    assert found.value == pytest.approx(9, rel=0.2)
    # In float64 by NumPy, of the first step.
    first = noise_scale.gram(model, (x[0], y[0]), 32)
    v = model.get_weights()[0].astype(float)
    parts = x[0].reshape(32, 32, 8).astype(float)
    residual = parts @ v - parts.sum(axis=-1, keepdims=True)
    gradients = 2 * (parts * residual).mean(axis=1)
    np.testing.assert_allclose(first, gradients @ gradients.T, rtol=1e-4)
    assert not np.array_equal(before, model.get_weights()[0])  # it trains


@pytest.mark.parametrize("name", sorted(KERASES))
@pytest.mark.parametrize("size", [1e-4, 1e3])
def test_float16_is_scaled_as_in_training(name, size):
    """Its gradients underflow, or overflow at the scale that training tries."""
    keras, _ = rooms(name)
    layers = keras.layers
    generator = np.random.default_rng(0)
    x = generator.normal(size=(64, 6)).astype("float32")
    y = size * generator.normal(size=(64, 1)).astype("float32")
    found = []
    for policy in ("float32", "mixed_float16"):
        keras.utils.set_random_seed(1)
        given = {"dtype": policy}
        model = keras.Sequential(
            [
                layers.Input((6,)),
                layers.Dense(8, **given),
                layers.Dense(1, kernel_initializer="zeros", **given),
                layers.Rescaling(0.01, **given),
            ]
        )
        optimizer = keras.optimizers.SGD(0.1)
        if policy == "mixed_float16":
            room = keras.optimizers if name == "keras3" else None
            room = room or keras.mixed_precision
            optimizer = room.LossScaleOptimizer(optimizer)
        model.compile(optimizer, "mse")
        found.append(noise_scale.gram(model, (x, y), 8))
    exact, half = (noise_scale.estimate([g], 8) for g in found)
    assert half.value == pytest.approx(exact.value, rel=2e-3)
    assert half.trace == pytest.approx(exact.trace, rel=2e-3)


def test_what_is_frozen_has_no_noise_scale():
    keras, _ = rooms()
    model = linear(keras)
    model.trainable = False
    with pytest.raises(ValueError, match="nothing can be trained"):
        noise_scale.gram(model, batches()[0], 8)


def test_a_gradient_leaves_the_model_as_it_was():
    keras, _ = rooms()
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential(
        [layers.Input((6,)), layers.BatchNormalization(), layers.Dense(3)]
    )
    model.compile("sgd", loss="mse")
    before = model.get_weights()
    x, y = batches()[0]
    assert noise_scale.gram(model, (x, y), 8).shape == (4, 4)
    for old, new in zip(before, model.get_weights()):
        np.testing.assert_array_equal(old, new)


def linear(keras, kind=None):
    """One layer that is trained for the mean squared error."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = (kind or keras.Sequential)(
        [layers.Input((6,)), layers.Dense(3, name="only")]
    )
    model.compile(keras.optimizers.SGD(0.01), loss="mse")
    return model


@pytest.mark.parametrize("name", KERASES)
def test_dropout_goes_on_as_if_nothing_was_measured(name):
    keras, _ = rooms(name)

    def model():
        random_state.begin(3)  # as a trial does
        layers = keras.layers
        drops = [layers.Dense(8), layers.Dropout(0.5), layers.Dense(3)]
        made = keras.Sequential([layers.Input((6,)), *drops])
        made.compile(keras.optimizers.SGD(0.1), loss="mse")
        return made

    few = batches()[:3]
    with random_state.kept():
        alone, measured = model(), model()
        for batch in few:
            alone.train_on_batch(*batch)
        noise_scale.measure(measured, few, 8)
    assert apart(alone, measured) == 0


@pytest.mark.parametrize("name", KERASES)
def test_a_loss_of_the_models_own_is_called_as_keras_calls_it(name):
    """Whatever it calls its arguments, and without `training`."""
    keras, _ = rooms(name)
    tensorflow = importlib.import_module("tensorflow")

    class Own(keras.Sequential):
        def compute_loss(self, inputs, label, output, weight):
            return tensorflow.reduce_mean((label - output) ** 2)

    x, y = batches()[0]
    expected = noise_scale.gram(linear(keras), (x, y), 8)
    found = noise_scale.gram(linear(keras, Own), (x, y), 8)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("name", KERASES)
def test_a_train_step_of_the_models_own_has_no_known_loss(name):
    keras, _ = rooms(name)

    class Own(keras.Sequential):
        def train_step(self, data):
            raise AssertionError

    with pytest.raises(ValueError, match="Own has its own train_step"):
        noise_scale.gram(linear(keras, Own), batches()[0], 8)


def test_a_short_batch_takes_part_in_training_alone():
    keras, _ = rooms()
    whole, short = batches()[:2], [array[:20] for array in batches()[2]]
    expected = noise_scale.measure(linear(keras), whole, 8)
    model = linear(keras)
    found = noise_scale.measure(model, [*whole, short], 8)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    trained = train(linear(keras), [*whole, short])
    assert apart(model, trained) < 1e-6
    with pytest.raises(ValueError, match="at least 2 microbatches"):
        noise_scale.measure(model, whole, 20)


def test_a_weight_of_none_is_none():
    keras, _ = rooms()
    x, y = batches()[0]
    expected = noise_scale.gram(linear(keras), (x, y), 8)
    for batch in ((x, y, None), [x, y, np.ones(32)]):
        found = noise_scale.gram(linear(keras), batch, 8)
        np.testing.assert_allclose(found, expected, rtol=1e-5)


X, Y = batches()[0]


@pytest.mark.parametrize(
    "batch, size, every, message",
    [
        (
            {"x": X, "y": Y},
            8,
            1,
            r"a batch must be \(x, y\) or .* \{'x'",
        ),
        (X, 8, 1, "a batch must be"),
        ((X, Y, None, None), 8, 1, "a batch must be"),
        ((X, Y[:8]), 8, 1, r"as many examples .* \[\(8, 3\), \(32, 6\)\]"),
        ((X.tolist(), Y), 8, 1, r"as many examples .* \[\(\), "),
        ((X, Y), 0, 1, "`microbatch_size` must be .* received 0"),
        ((X, Y), 8.0, 1, "`microbatch_size` must be .* received 8.0"),
        ((X, Y), 8, 0, "`every` must be .* received 0"),
        ((X, Y), 8, -1, "`every` must be .* received -1"),
        ((X * np.nan, Y), 8, 1, "finite gradients, .* step 0"),
    ],
)
def test_what_has_no_noise_scale(batch, size, every, message):
    keras, _ = rooms()
    with pytest.raises(ValueError, match=message):
        noise_scale.measure(linear(keras), [batch], size, every)
