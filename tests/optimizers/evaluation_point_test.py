"""The weights of evaluation: given and taken back, saved and gone on with."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

import lbcheck
from lbcheck import rules
from lbcheck.conform import reference
from tests.optimizers import trajectory
from tests.optimizers.optimizers_test import KERAS
from tests.optimizers.optimizers_test import make_variable
from tests.optimizers.optimizers_test import small_data
from tests.optimizers.optimizers_test import small_model

CLOSE = 1e-5


def averages(case, **given):
    """The x of the reference after all updates."""
    weights, gradients, rates = case
    current = [np.float64(weight) for weight in weights]
    states = [{} for _ in weights]
    for step, rate in enumerate(rates):
        current = [
            reference.schedule_free_adamw(
                weight,
                np.float64(gradient),
                state,
                rate,
                step + 1,
                decays,
                **given,
            )
            for weight, gradient, state, decays in zip(
                current, gradients[step], states, trajectory.DECAY
            )
        ]
    return [state["x"] for state in states]


def trained(kind, case, **given):
    """(optimizer, variables) after all updates."""
    weights, gradients, rates = case
    variables = [
        make_variable(kind, weight, name)
        for weight, name in zip(weights, trajectory.NAMES)
    ]
    optimizer = getattr(lbcheck, kind).ScheduleFreeAdamW(1.0, **given)
    optimizer.build(variables)
    for rate, row in zip(rates, gradients):
        optimizer.learning_rate.assign(rate)
        optimizer.apply_gradients(
            [(tf.constant(g), v) for g, v in zip(row, variables)]
        )
    return optimizer, variables


def values(variables):
    return [np.array(variable.numpy()) for variable in variables]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", KERAS)
def test_the_point_is_the_average_and_goes_back_bit_by_bit(kind, dtype):
    given = {"weight_decay": 0.1, "beta_1": 0.8}
    case = trajectory.problem(40, 0.1, dtype=np.float32)
    if dtype == "bfloat16":
        weights = [tf.cast(w, dtype).numpy() for w in case[0]]
        case = (weights, *case[1:])
    optimizer, variables = trained(kind, case, **given)
    before, state = values(variables), values(optimizer._state())
    with optimizer.evaluation_point():
        found = values(variables)
        with optimizer.evaluation_point():  # does not end the outer one
            pass
        for a, b in zip(found, values(variables)):
            np.testing.assert_array_equal(a, b)
    if dtype == "float32":
        expected = averages(case, **given)
        assert trajectory.distance(found, expected, case[0]) < CLOSE
    for a, b in zip(before, values(variables)):
        np.testing.assert_array_equal(a, b)
    assert trajectory.distance(before, found, case[0]) > 1e-2
    # Nothing else has changed, but what is kept for the way back.
    for variable, a in zip(optimizer._state(), state):
        if "training_point" not in (
            variable.path if kind == "keras3" else variable.name
        ):
            np.testing.assert_array_equal(a, variable.numpy())


def test_mutants_of_the_point_fail():
    """z, y, and y with the sign of the interpolation changed."""
    case = trajectory.problem(40, 0.1)
    rule = rules.ScheduleFreeAdamW(beta_1=0.8)
    expected = averages(case, beta_1=0.8)
    weights, states = (
        list(case[0]),
        [
            tuple(np.zeros(s.shape_for(w.shape)) for s in rule.slots)
            for w in case[0]
        ],
    )
    for step, rate in enumerate(case[2]):
        for i, gradient in enumerate(case[1][step]):
            weights[i], states[i], _ = rule.update(
                rules.NUMPY, weights[i], gradient, states[i], rate, step
            )
    points = {
        "x": [rule.evaluation_point(w, s) for w, s in zip(weights, states)],
        "y": weights,
        "z": [w + s[0] for w, s in zip(weights, states)],
        "sign": [w + 0.25 * s[0] for w, s in zip(weights, states)],
    }
    far = {
        name: trajectory.distance(found, expected, case[0])
        for name, found in points.items()
    }
    assert far.pop("x") < 1e-12
    assert min(far.values()) > 1e-3, far


@pytest.mark.parametrize("kind", KERAS)
def test_an_update_at_the_point_is_an_error(kind):
    case = trajectory.problem(2, 0.1, dtype=np.float32)
    optimizer, variables = trained(kind, case)
    row = [(tf.constant(g), v) for g, v in zip(case[1][0], variables)]
    with optimizer.evaluation_point():
        with pytest.raises(
            tf.errors.InvalidArgumentError, match="at the evaluation point"
        ):
            optimizer.apply_gradients(row)
    optimizer.apply_gradients(row)


@pytest.mark.parametrize("kind", KERAS)
def test_others_have_no_point(kind):
    optimizer = getattr(lbcheck, kind).AdamW()
    variable = make_variable(kind, np.ones(2, np.float32), "a/kernel")
    optimizer.build([variable])
    with optimizer.evaluation_point():
        np.testing.assert_array_equal(variable.numpy(), 1.0)
    assert not any(
        "point" in getattr(v, "path", v.name) for v in optimizer.variables
    )


def _fit(kind, model, callbacks, epochs=1, initial=0):
    x, y = small_data()
    return model.fit(
        x,
        y,
        batch_size=16,
        epochs=initial + epochs,
        initial_epoch=initial,
        shuffle=False,
        verbose=0,
        validation_data=(x, y),
        callbacks=callbacks,
    )


@pytest.mark.parametrize("kind", KERAS)
def test_callback_validates_and_saves_the_average(kind, tmp_path):
    room, library = getattr(lbcheck, kind), KERAS[kind]
    seen = []

    class Look(library.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append((self.model.get_weights(), logs["val_loss"]))

    made = {}
    for with_callback in (True, False):
        model = small_model(kind, optimizer=room.ScheduleFreeAdamW(0.05))
        callbacks = [room.EvaluationPoint(), Look()] if with_callback else []
        _fit(kind, model, callbacks, epochs=3)
        made[with_callback] = model
    x, y = small_data()
    model = made[True]
    # What other callbacks saw is the point, and its loss is the validation's.
    for a, b in zip(seen[-1][0], model.get_weights()):
        np.testing.assert_array_equal(a, b)
    loss = model.evaluate(x, y, verbose=0)
    loss = loss[0] if isinstance(loss, list) else loss
    assert seen[-1][1] == pytest.approx(loss, rel=1e-5)
    # Validation has changed nothing of the training.
    plain = made[False]
    assert not np.allclose(plain.get_weights()[0], model.get_weights()[0])
    with plain.optimizer.evaluation_point():
        for a, b in zip(plain.get_weights(), model.get_weights()):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("where", ["training", "evaluation", "fit"])
@pytest.mark.parametrize("kind", KERAS)
def test_saved_it_goes_on_bit_by_bit(kind, where, tmp_path):
    """Saved in training, in a block, or by the end of fit."""
    room, library = getattr(lbcheck, kind), KERAS[kind]
    path = str(tmp_path / "model.keras")
    callbacks = [room.EvaluationPoint()]
    model = small_model(kind, optimizer=room.ScheduleFreeAdamW(0.05))
    _fit(kind, model, callbacks if where == "fit" else [], epochs=2)
    if where == "evaluation":
        with model.optimizer.evaluation_point():
            model.save(path)
    else:
        model.save(path)
    loaded = library.models.load_model(path)
    if where != "training":  # what was saved is the average
        x, _ = small_data()
        with model.optimizer.evaluation_point():
            np.testing.assert_array_equal(
                model.predict(x, verbose=0), loaded.predict(x, verbose=0)
            )
    for each in (model, loaded):
        _fit(kind, each, [room.EvaluationPoint()], epochs=2, initial=2)
    for a, b in zip(model.get_weights(), loaded.get_weights()):
        np.testing.assert_array_equal(a, b)


def test_a_checkpoint_restored_before_the_first_update_goes_on(tmp_path):
    """tf_keras makes the optimizer's variables in the first update only."""
    room, path = lbcheck.tf_keras, str(tmp_path / "weights")
    model, loaded = (
        small_model("tf_keras", optimizer=room.ScheduleFreeAdamW(0.05))
        for _ in range(2)
    )
    _fit("tf_keras", model, [room.EvaluationPoint()])
    model.save_weights(path, save_format="tf")
    loaded.load_weights(path)
    for each in (model, loaded):
        _fit("tf_keras", each, [room.EvaluationPoint()], initial=1)
    for a, b in zip(model.get_weights(), loaded.get_weights()):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("kind", KERAS)
def test_a_checkpoint_is_restored_where_diagnostics_are_on(kind, tmp_path):
    case = trajectory.problem(3, 0.1, dtype=np.float32)
    optimizer, variables = trained(kind, case)
    path = tf.train.Checkpoint(optimizer=optimizer).save(str(tmp_path / "at"))
    again = getattr(lbcheck, kind).ScheduleFreeAdamW(1.0, diagnostics_every=2)
    again.build(variables)
    tf.train.Checkpoint(optimizer=again).restore(path)
    for a, b in zip(optimizer._state(), again._state(), strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


@pytest.mark.parametrize("kind", KERAS)
def test_float64_variables_are_trained_too(kind):
    case = trajectory.problem(10, 0.1)
    optimizer, variables = trained(kind, case)
    with optimizer.evaluation_point():
        found = values(variables)
    assert found[0].dtype == np.float64
    assert trajectory.distance(found, averages(case), case[0]) < CLOSE


@pytest.mark.parametrize("kind", KERAS)
def test_weights_changed_at_the_point_are_kept(kind):
    room = getattr(lbcheck, kind)
    model = small_model(kind, optimizer=room.ScheduleFreeAdamW(0.05))
    _fit(kind, model, [room.EvaluationPoint()])
    given = [weight + 1.0 for weight in model.get_weights()]
    model.set_weights(given)
    model.optimizer.learning_rate = 0.0
    with pytest.warns(UserWarning, match="changed at the evaluation point"):
        _fit(kind, model, [room.EvaluationPoint()])
    # A rate of 0 only lets y follow the average a little.
    assert np.abs(model.get_weights()[0] - given[0]).max() < 0.3


@pytest.mark.parametrize("kind", KERAS)
def test_an_average_of_averages_is_refused(kind):
    with pytest.raises(ValueError, match="an average already.*use_ema=True"):
        getattr(lbcheck, kind).ScheduleFreeAdamW(use_ema=True)
    getattr(lbcheck, kind).AdamW(use_ema=True)


def _wrapped(kind, which):
    """(compiled model, the Schedule-Free optimizer inside)."""
    room, library = getattr(lbcheck, kind), KERAS[kind]
    inner = room.ScheduleFreeAdamW(0.05)
    if which == "several":
        outer = library.optimizers.MultiOptimizer(
            library.optimizers.OptimizerMap(inner, {".*bias": room.Lion()})
        )
    elif kind == "keras3":
        outer = library.optimizers.LossScaleOptimizer(inner)
    else:
        outer = library.mixed_precision.LossScaleOptimizer(inner)
    model = small_model(kind, optimizer=outer)
    return model, inner


@pytest.mark.parametrize(
    ("kind", "which"),
    [("keras3", "scaled"), ("tf_keras", "scaled"), ("keras3", "several")],
)
def test_an_optimizer_inside_others_is_switched(kind, which):
    model, inner = _wrapped(kind, which)
    x, y = small_data()
    model.fit(x, y, batch_size=16, verbose=0)
    before = model.get_weights()
    with lbcheck.evaluation_point(model):
        inside = model.get_weights()
    assert any((a != b).any() for a, b in zip(before, inside))
    for a, b in zip(before, model.get_weights()):
        np.testing.assert_array_equal(a, b)
    assert not float(np.asarray(inner.at_evaluation_point))


@pytest.mark.parametrize("kind", KERAS)
def test_the_callback_goes_back_after_an_interruption(kind):
    room, library = getattr(lbcheck, kind), KERAS[kind]

    class Stop(library.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise KeyboardInterrupt

    model = small_model(kind, optimizer=room.ScheduleFreeAdamW(0.05))
    callback = room.EvaluationPoint()
    with pytest.raises(KeyboardInterrupt):
        _fit(kind, model, [callback, Stop()])
    before = model.get_weights()
    x, y = small_data()
    model.evaluate(x, y, verbose=0, callbacks=[callback])
    for a, b in zip(before, model.get_weights()):
        np.testing.assert_array_equal(a, b)
    assert not float(np.asarray(model.optimizer.at_evaluation_point))


ON_JAX = """
import json, sys
import numpy as np, keras, lbcheck
generator = np.random.default_rng(0)
x = generator.normal(size=(64, 6)).astype("float32")
y = (x[:, 0] > 0).astype("int64")
def run(callbacks, epochs):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.layers.Input((6,)), keras.layers.Dense(4)])
    model.compile(lbcheck.ScheduleFreeAdamW(0.05),
                  keras.losses.SparseCategoricalCrossentropy(True))
    logs = model.fit(x, y, epochs=epochs, batch_size=16, shuffle=False,
                     verbose=0, validation_data=(x, y), callbacks=callbacks)
    return model, logs.history["val_loss"][-1]
switched, loss = run([lbcheck.EvaluationPoint()], 3)
plain, other = run([], 3)
with plain.optimizer.evaluation_point():
    same = all((a == b).all() for a, b in
               zip(plain.get_weights(), switched.get_weights()))
    there = plain.evaluate(x, y, verbose=0)
print(json.dumps([bool(same), loss, there, other]))
"""


def test_callback_on_jax():
    """Between epochs jax keeps the state elsewhere."""
    ran = subprocess.run(
        [sys.executable, "-c", ON_JAX],
        env={**os.environ, "KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    same, loss, there, other = json.loads(ran.stdout.splitlines()[-1])
    assert same
    assert loss == pytest.approx(there, rel=1e-5)
    assert abs(loss - other) > 1e-4
