"""The trainer of studies: a trial is what one gets by hand, whatever ran
before it."""

import functools
import gc
import itertools
import json
import os
import pathlib
import random
import re
import subprocess
import sys
import warnings
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from absl.testing import parameterized

from lbcheck.search import arm as arms
from lbcheck.support import metric_names
from lbcheck.support import random_state
from lbcheck.trials import traced_step
from lbcheck.trials import trainer as trainers
from lbcheck.trials import trial_data
from lbcheck.trials import workload as workloads
from tests.trials import user_models

_ROOT = pathlib.Path(__file__).parents[2]
_KERASES = {"tf_keras": tf_keras, "keras3": keras}
_BATCH, _STEPS = 32, 12
_POINTS = {
    "nesterov": {"learning_rate": 0.05, "momentum": 0.9, "l2": 1e-2},
    "momentum": {"learning_rate": 0.05, "momentum": 0.8, "l2": 1e-2},
    "lars": {"learning_rate": 0.5, "momentum": 0.9, "weight_decay": 1e-3},
    "adamw": {"learning_rate": 0.01, "beta_1": 0.9, "weight_decay": 0.1},
    "lamb": {"learning_rate": 0.02, "beta_1": 0.8, "weight_decay": 0.1},
    "adagrad": {"learning_rate": 0.05, "l2": 1e-3},
    "ademamix": {"learning_rate": 0.01, "beta_3": 0.99, "alpha": 3.0},
    "lion": {"learning_rate": 0.003, "beta_1": 0.9, "weight_decay": 0.5},
    "muon": {"learning_rate": 0.02, "momentum": 0.9, "weight_decay": 0.1},
    "nadamw": {"learning_rate": 0.01, "beta_1": 0.9, "weight_decay": 0.1},
    "schedulefreeadamw": {"learning_rate": 0.02, "beta_1": 0.9},
}
"""All but SOAP, whose first bases rounding chooses in part; see its manual."""
_COMPILED = {*user_models.EIGHT} - {user_models.functional}
_NO_LOSS = {"loss": None, "metrics": None}
"""Of a workload whose `build_model` compiles the model."""


def point(name, **changes):
    return {**_POINTS[name], "warmup_steps": 3, **changes}


def task(name, seed=3, **hyperparameters):
    return {
        "arm": name,
        "stage": "broad",
        "index": 0,
        "seed": seed,
        "hyperparameters": point(name, **hyperparameters),
    }


def arm_of(name, *more, **settings):
    """An arm that takes its whole point, whatever it searches."""
    values = {n: {"value": v} for n, v in point(name).items()}
    values |= {n: {"values": [0.0, 0.1]} for n in more}
    return arms.Arm(name, name, values, **settings)


def make(keras_name, user_model, *sides, **changes):
    """A trainer of arms, or of what `arm_of` makes of their names.

    Models that are not among `_COMPILED` have a loss of the workload.
    """
    module = _KERASES[keras_name]
    build_model, train, validation = user_model(module)
    workload = workloads.Workload(
        build_model, train, validation, _BATCH, _STEPS
    )
    if user_model not in _COMPILED:
        loss = module.losses.SparseCategoricalCrossentropy(from_logits=True)
        workload = workload._replace(loss=loss, metrics=["accuracy"])
    workload = workload._replace(**changes)
    sides = [arm_of(s) if isinstance(s, str) else s for s in sides]
    return trainers.Trainer(workload, {side.name: side for side in sides})


def outcome(trainer, *arguments, **settings):
    """A record without what may differ: its seconds."""
    record = trainer.run(*arguments, **settings)
    del record["seconds"]
    return record


def weights(trainer, name):
    return [np.array(w) for w in trainer._runners[name].model.get_weights()]


def batches(data, seed):
    """The batches of a trial, in the words of the manual."""
    count = len(data[0])
    order = np.concatenate(
        [
            np.random.default_rng([seed, epoch]).permutation(count)
            for epoch in range(_STEPS * _BATCH // count + 1)
        ]
    )
    for step in range(_STEPS):
        chosen = order[step * _BATCH :][:_BATCH]
        yield tuple(array[chosen] for array in data)


def trained_by_keras(module, optimizer):
    """The functional model after 3 updates at seed 3, and validation data."""
    build_model, train, validation = user_models.functional(module)
    tf_keras.backend.experimental.enable_tf_random_generator()
    module.utils.set_random_seed(3)
    model = build_model()
    loss = module.losses.SparseCategoricalCrossentropy(True)
    model.compile(optimizer, loss, jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    for data in batches(train, 3):
        model.train_on_batch(*data)
    return model, validation


def by_hand(
    keras_name,
    user_model,
    name,
    seed=3,
    steps=None,
    build_model=None,
    jit_compile=False,
    **changes,
):
    """(first, last weights) of a plain loop, with Python numbers."""
    module = _KERASES[keras_name]
    made, train, _ = user_model(module)
    with random_state.kept():
        tf_keras.backend.experimental.enable_tf_random_generator()
        module.utils.set_random_seed(seed)
        model = (build_model or made)()
        loss = module.losses.SparseCategoricalCrossentropy(from_logits=True)
        loss = getattr(model, "loss", None) or loss
        optimizer = arm_of(name).make(
            keras_name, point(name, **changes), _STEPS
        )
        model.compile(optimizer, loss, jit_compile=jit_compile)
        if not model.built:  # traced, since a call would draw and count
            tf.function(model).get_concrete_function(tf.constant(train[0][:2]))
        first = [np.array(w) for w in model.get_weights()]
        for data in itertools.islice(batches(train, seed), steps):
            model.train_on_batch(*data)
        return first, model.get_weights()


class ByHandTest(tf.test.TestCase, parameterized.TestCase):
    def assertSameRun(self, first, want, got):
        """Equal to a millionth of the movement, and the weights' rounding."""
        self.assertLen(got, len(want))
        for a, w, g in zip(first, want, got):
            moved, size = (np.linalg.norm(np.ravel(x)) for x in (w - a, w))
            self.assertGreater(moved, 1e-3)
            error = np.linalg.norm(np.ravel(w - g))
            self.assertLessEqual(error, 1e-6 * moved + 6e-8 * size)

    @parameterized.named_parameters(*zip(_KERASES, _KERASES))
    def test_arms_are_a_plain_keras_loop(self, keras_name):
        # Every arm in one Keras, and below in both.
        second = keras_name == "keras3"
        self.assert_by_hand(keras_name, list(_POINTS)[second::2])

    @parameterized.named_parameters(*zip(_KERASES, _KERASES))
    @pytest.mark.slow  # the other half of each, half a minute
    def test_every_arm_is_a_plain_keras_loop(self, keras_name):
        self.assert_by_hand(keras_name, list(_POINTS))

    def assert_by_hand(self, keras_name, names):
        # With dropout, running statistics and batches across epochs.
        model = user_models.batch_norm
        trainer = make(keras_name, model, *names)
        for name in names:
            first, want = by_hand(keras_name, model, name)
            trainer.run(task(name, seed=9, learning_rate=0.3))
            trainer.run(task(name))
            self.assertSameRun(first, want, weights(trainer, name))
        self.assertEqual(trainer.traces, dict.fromkeys(names, 1))

    @parameterized.product(
        keras_name=list(_KERASES),
        model=[user_models.subclassed, user_models.mixed_precision],
    )
    def test_models_that_are_built_or_scaled_late(self, keras_name, model):
        trainer = make(keras_name, model, "lars")
        first, want = by_hand(keras_name, model, "lars")
        trainer.run(task("lars", seed=9))
        trainer.run(task("lars"))
        self.assertSameRun(first, want, weights(trainer, "lars"))

    @parameterized.named_parameters(*zip(_KERASES, _KERASES))
    def test_numbers_of_the_model_are_variables_too(self, keras_name):
        module = _KERASES[keras_name]

        def build_model(label_smoothing, rate=0.1):
            if not 0 <= label_smoothing < 1:
                raise ValueError(label_smoothing)
            model = module.Sequential(
                [
                    module.layers.Input((6,)),
                    module.layers.Dense(16, activation="relu"),
                    module.layers.Dropout(rate),
                    module.layers.Dense(3),
                ]
            )
            model.compile(
                "sgd",
                module.losses.CategoricalCrossentropy(
                    from_logits=True, label_smoothing=label_smoothing
                ),
            )
            return model

        def user_model(module):
            _, (x, y), (x_test, y_test) = user_models.functional(module)
            one_hot = np.eye(3, dtype="float32")
            return build_model, (x, one_hot[y]), (x_test, one_hot[y_test])

        arm = arm_of("lars", "label_smoothing")
        trainer = make(keras_name, user_model, arm, **_NO_LOSS)
        for smoothing in (0.2, 0.05, 0.2):
            trainer.run(task("lars", label_smoothing=smoothing))
        first, want = by_hand(
            keras_name,
            user_model,
            "lars",
            build_model=lambda: build_model(0.2),
        )
        self.assertSameRun(first, want, weights(trainer, "lars"))
        # The loss of tf_keras takes no variable: there, a trace a value.
        several = keras_name == "tf_keras"
        self.assertEqual(trainer.traces, {"lars": 1 + several})
        # Keras asks whether there is smoothing at all.
        trainer.run(task("lars", label_smoothing=0.0))
        first, want = by_hand(
            keras_name,
            user_model,
            "lars",
            build_model=lambda: build_model(0.0),
        )
        self.assertSameRun(first, want, weights(trainer, "lars"))
        self.assertEqual(trainer.traces, {"lars": 2 + several})

    def test_a_number_that_the_model_reads_is_traced_anew(self):
        def build_model(hidden):
            model = keras.Sequential(
                [
                    keras.layers.Input((6,)),
                    keras.layers.Dense(4 + int(40 * hidden)),
                    keras.layers.Dense(3),
                ]
            )
            model.compile("sgd", user_models.cross_entropy(keras))
            return model

        trainer = make(
            "keras3",
            user_models.functional,
            arm_of("lars", "hidden"),
            build_model=build_model,
            **_NO_LOSS,
        )
        records = []
        for hidden in (0.0, 0.1, 0.0, 0.1):
            records.append(outcome(trainer, task("lars", hidden=hidden)))
            self.assertLen(weights(trainer, "lars")[1], 4 + 40 * hidden)
        self.assertEqual(trainer.traces, {"lars": 2})
        self.assertEqual(records[:2], records[2:])

    @parameterized.named_parameters(*zip(_KERASES, _KERASES))
    def test_a_whole_number_of_a_rule(self, keras_name):
        values = {n: {"value": v} for n, v in point("lamb").items()}
        values["weight_decay"] = {"values": [1, 2]}
        model = user_models.functional
        trainer = make(keras_name, model, arms.Arm("lamb", "lamb", values))
        for decay in (1, 2):
            trainer.run(task("lamb", weight_decay=decay))
            first, want = by_hand(keras_name, model, "lamb", weight_decay=decay)
            self.assertSameRun(first, want, weights(trainer, "lamb"))

    def assert_built_by_hand(self, trainer, build_model, **argument):
        """With each of two numbers that only build_model takes."""
        ((name, values),) = argument.items()
        for value in values:
            trainer.run(task("lars", **{name: value}))
            first, want = by_hand(
                "keras3",
                user_models.functional,
                "lars",
                build_model=functools.partial(build_model, value),
            )
            self.assertSameRun(first, want, weights(trainer, "lars"))

    def test_a_number_that_only_training_uses(self):
        def build_model(rate=0.0):
            rate = rate if isinstance(rate, float) else 0.5
            model = keras.Sequential(
                [
                    keras.layers.Input((6,)),
                    keras.layers.Dense(8),
                    keras.layers.Dropout(rate, seed=3),
                    keras.layers.Dense(3),
                ]
            )
            model.compile("sgd", user_models.cross_entropy(keras))
            return model

        trainer = make(
            "keras3",
            user_models.functional,
            arm_of("lars", "rate"),
            build_model=build_model,
            **_NO_LOSS,
        )
        self.assert_built_by_hand(trainer, build_model, rate=(0.1, 0.0))

    @parameterized.named_parameters(
        ("type", lambda k: k if isinstance(k, (int, float)) else 1.0),
        ("set", lambda k: 3.0 if k in {2, 3} else 1.0),
    )
    def test_a_number_that_is_looked_up(self, scale):
        """What a variable in its place would be taken for is not trained."""

        def build_model(kind):
            model = keras.Sequential(
                [
                    keras.layers.Input((6,)),
                    keras.layers.Dense(4, "tanh"),
                    keras.layers.Rescaling(scale(kind)),
                    keras.layers.Dense(3),
                ]
            )
            model.compile("sgd", user_models.cross_entropy(keras))
            return model

        values = {n: {"value": v} for n, v in point("lars").items()}
        values["kind"] = {"values": [1, 2]}
        trainer = make(
            "keras3",
            user_models.functional,
            arms.Arm("lars", "lars", values),
            build_model=build_model,
            **_NO_LOSS,
        )
        self.assert_built_by_hand(trainer, build_model, kind=(1, 2))

    @parameterized.named_parameters(
        ("tensorflow", "keras3", tf.random.normal),
        ("keras", "keras3", lambda shape: keras.random.normal(shape)),
        ("backend", "tf_keras", tf_keras.backend.random_normal),
        ("numpy", "keras3", None),
        ("numpy_in_training", "keras3", False),
    )
    def test_noise_of_no_generator_is_of_the_seed(self, keras_name, draw):
        module = _KERASES[keras_name]

        class Noise(module.layers.Layer):
            def __init__(self):
                super().__init__()
                self.fixed = np.random.normal(size=4).astype("float32")

            def call(self, x, training=None):
                if draw:
                    return x + draw(tf.shape(x))
                return x + self.fixed if draw is None or training else x

        def build_model():
            return module.Sequential(
                [
                    module.layers.Input((6,)),
                    module.layers.Dense(4),
                    Noise(),
                    module.layers.Dense(3),
                ]
            )

        trainer = make(
            keras_name,
            user_models.functional,
            "lars",
            build_model=build_model,
        )
        for seed in (3, 4):
            trainer.run(task("lars", seed=seed))
            first, want = by_hand(
                keras_name,
                user_models.functional,
                "lars",
                seed,
                build_model=build_model,
            )
            self.assertSameRun(first, want, weights(trainer, "lars"))

    @parameterized.named_parameters(*zip(_KERASES, _KERASES))
    def test_large_numbers_are_no_divergence(self, keras_name):
        module = _KERASES[keras_name]
        least = np.finfo("float32").min

        class Masked(module.layers.Layer):
            def build(self, shape):
                self.mask = self.add_weight(
                    name="mask",
                    shape=(shape[-1],),
                    initializer=module.initializers.Constant(least),
                    trainable=False,
                )

            def call(self, x):
                return tf.maximum(x, self.mask)

        def build_model():
            return module.Sequential(
                [module.layers.Input((6,)), Masked(), module.layers.Dense(3)]
            )

        trainer = make(
            keras_name,
            user_models.functional,
            "lars",
            build_model=build_model,
        )
        self.assertEqual(trainer.run(task("lars"))["status"], "finished")
        bad = trainer.run(task("lars", learning_rate=1e38))
        self.assertEqual(bad["status"], "diverged")
        self.assertIn("kernel", bad["bad"]["variable"])

    @parameterized.named_parameters(*zip(_KERASES, _KERASES))
    def test_weights_that_no_seed_decides_are_seen(self, keras_name):
        module = _KERASES[keras_name]
        trainer = make(keras_name, user_models.functional, "lars")
        self.assertNotIn("same_initial_weights", trainer.facts())
        build_model, *_ = user_models.functional(module)

        def fixed():
            module.utils.set_random_seed(1)
            return build_model()

        trainer = make(
            keras_name, user_models.functional, "lars", build_model=fixed
        )
        self.assertIs(trainer.facts()["same_initial_weights"], True)

    def test_a_build_may_be_the_first_to_import_its_keras(self):
        def build_model():
            layers = sys.modules.setdefault("tf_keras", tf_keras).layers
            stem = [layers.Input((6,)), layers.Dense(8), layers.Dropout(0.5)]
            return tf_keras.Sequential([*stem, layers.Dense(3)])

        arguments = "tf_keras", user_models.functional, "lars"
        as_at_first = tf_keras.backend.experimental.disable_tf_random_generator
        self.addCleanup(as_at_first)
        with mock.patch.dict(sys.modules):
            del sys.modules["tf_keras"]
            as_at_first()
            trainer = make(*arguments, build_model=build_model)
        trainer.run(task("lars"))
        first, want = by_hand(*arguments, build_model=build_model)
        self.assertSameRun(first, want, weights(trainer, "lars"))

    @parameterized.product(keras_name=list(_KERASES), run_eagerly=(False, True))
    def test_nothing_is_drawn_or_counted_before(self, keras_name, run_eagerly):
        layers = _KERASES[keras_name].layers

        class Noise(layers.GaussianNoise):
            """Of every call, and more with every call; built by the first."""

            def build(self, shape):
                self.calls = self.add_weight(
                    name="calls", shape=(), initializer="zeros", trainable=False
                )
                super().build(shape)

            def call(self, x, training=None):
                self.calls.assign(self.calls + 1.0)
                noisy = super().call(x, training=True)
                return noisy * (1.0 + 0.1 * tf.convert_to_tensor(self.calls))

        def build_model():
            model = _KERASES[keras_name].Sequential(
                [layers.Dense(4), Noise(0.5), layers.Dense(3)]
            )
            loss = user_models.cross_entropy(_KERASES[keras_name])
            model.compile("sgd", loss, run_eagerly=run_eagerly)
            return model

        given = {"build_model": build_model}
        trainer = make(
            keras_name, user_models.functional, "lars", **given, **_NO_LOSS
        )
        trainer.run(task("lars"))
        first, want = by_hand(
            keras_name, user_models.functional, "lars", **given
        )
        self.assertSameRun(first, want, weights(trainer, "lars"))

    def test_a_variable_of_tensorflow_begins_as_by_hand(self):
        class Counting(keras.layers.Layer):
            def __init__(self):
                super().__init__()
                self.calls = tf.Variable(0.0, trainable=False)

            def call(self, x):
                self.calls.assign_add(1.0)
                return x * (1.0 + 1.0 / tf.convert_to_tensor(self.calls))

        def build_model():
            layers = [keras.layers.Input((6,)), keras.layers.Dense(4)]
            return keras.Sequential(
                [*layers, Counting(), keras.layers.Dense(3)]
            )

        given = {"build_model": build_model}
        trainer = make("keras3", user_models.functional, "lars", **given)
        trainer.run(task("lars"))
        first, want = by_hand("keras3", user_models.functional, "lars", **given)
        self.assertSameRun(first, want, weights(trainer, "lars"))

    def test_noise_of_evaluation_alone_begins_anew(self):
        class Noise(keras.layers.Layer):
            def call(self, x, training=None):
                return x if training else x + tf.random.normal(tf.shape(x))

        def build_model():
            layers = [keras.layers.Input((6,)), keras.layers.Dense(3)]
            return keras.Sequential([*layers, Noise()])

        given = {"build_model": build_model}
        trainer = make("keras3", user_models.functional, "lars", **given)
        first = outcome(trainer, task("lars"))
        self.assertEqual(outcome(trainer, task("lars")), first)

    def test_noise_of_xla_where_the_model_is_compiled_so(self):
        def build_model():
            model, *_ = user_models.functional(keras)
            model = model()
            loss = user_models.cross_entropy(keras)
            model.compile("sgd", loss, jit_compile=True)
            return model

        given = {"build_model": build_model}
        trainer = make(
            "keras3", user_models.functional, "lars", **given, **_NO_LOSS
        )
        trainer.run(task("lars"))
        first, want = by_hand(
            "keras3", user_models.functional, "lars", jit_compile=True, **given
        )
        self.assertSameRun(first, want, weights(trainer, "lars"))
        self.assertNotAllClose(
            want[0], by_hand("keras3", user_models.functional, "lars")[1][0]
        )

    @parameterized.named_parameters(*zip(_KERASES, _KERASES))
    def test_recurrent_state_begins_at_zero(self, keras_name):
        layers = _KERASES[keras_name].layers

        def recurrent(module):
            def build_model():
                return module.Sequential(
                    [
                        layers.InputLayer(batch_input_shape=(_BATCH, 6))
                        if keras_name == "tf_keras"
                        else layers.Input(batch_shape=(_BATCH, 6)),
                        layers.Reshape((3, 2)),
                        layers.LSTM(4, stateful=True),
                        layers.Dense(3),
                    ]
                )

            _, (x, y), _ = user_models.functional(module)
            return build_model, (x[:64], y[:64]), (x[:64], y[:64])

        trainer = make(keras_name, recurrent, "lamb")
        trainer.run(task("lamb", seed=9))
        trainer.run(task("lamb"))
        _, last = by_hand(keras_name, recurrent, "lamb")
        for ours, hand in zip(weights(trainer, "lamb"), last):
            np.testing.assert_allclose(ours, hand, rtol=1e-4, atol=1e-5)


class IndependenceTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(*user_models.EIGHT)
    def test_eight_models_in_any_order(self, model):
        self.assert_independent("tf_keras", model)

    @parameterized.parameters(*user_models.EIGHT)
    @pytest.mark.slow  # the same of Keras 3, half a minute
    def test_eight_models_in_any_order_in_keras3(self, model):
        self.assert_independent("keras3", model)

    def assert_independent(self, keras_name, model):
        trainer = make(keras_name, model, "lamb")
        first = outcome(trainer, task("lamb"))
        self.assertEqual(first["status"], "finished")
        self.assertEqual(first["examples"], _BATCH * _STEPS)
        # Another seed and rate, then one that diverges.
        trainer.run(task("lamb", seed=4, learning_rate=0.3), evaluate_at=(2,))
        last = weights(trainer, "lamb")
        trainer.run(task("lamb", learning_rate=1e38))
        again = outcome(trainer, task("lamb"), evaluate_at=(5,))
        self.assertEqual(again["metrics"], first["metrics"])
        trainer.run(task("lamb", seed=4, learning_rate=0.3))
        for before, after in zip(last, weights(trainer, "lamb")):
            self.assertAllEqual(before, after)
        # Whose noise is of no generator has a trace for each of two seeds.
        draws = model is user_models.own_train_step
        self.assertEqual(trainer.traces, {"lamb": 1 + draws})
        facts = trainer.facts()
        self.assertEqual(facts["keras"], keras_name)
        self.assertEqual(json.loads(json.dumps(facts)), facts)

    def test_another_process_gives_the_same(self):
        code = (
            "import json; from tests.trials import trainer_test as t; "
            "trainer = t.make('tf_keras', t.user_models.subclassed, 'adamw'); "
            "print(json.dumps([trainer.facts(), "
            "t.outcome(trainer, t.task('adamw'))]))"
        )
        output = subprocess.run(
            [sys.executable, "-c", code],
            cwd=_ROOT,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
            stdout=subprocess.PIPE,
            check=True,
            text=True,
        ).stdout
        trainer = make("tf_keras", user_models.subclassed, "lamb", "adamw")
        trainer.run(task("lamb", seed=8))
        here = [trainer.facts(), outcome(trainer, task("adamw"))]
        self.assertEqual(json.loads(output.splitlines()[-1]), here)

    @parameterized.named_parameters(
        ("slots", "momentum|velocity", "nesterov"),
        ("statistics", "moving_mean", "nesterov"),
        ("steps", "update_count|iteration", "nesterov"),
        ("generators", "StateVar|seed_generator", "nesterov"),
        ("moments", "first_moment", "adamw"),
    )
    def test_what_is_not_set_back_is_noticed(self, pattern, name):
        def forgetful(self, values):
            for variable, value in zip(self._variables, values):
                if not re.search(pattern, variable.name):
                    variable.assign(value)

        for keras_name in _KERASES:
            trainer = make(keras_name, user_models.batch_norm, name)
            before = outcome(trainer, task(name))
            with mock.patch.object(traced_step.Program, "_set", forgetful):
                after = outcome(trainer, task(name))
            self.assertNotEqual(before["metrics"], after["metrics"])
            self.assertEqual(outcome(trainer, task(name)), before)

    def test_metrics_that_are_not_reset_are_noticed(self):
        for keras_name in _KERASES:
            trainer = make(keras_name, user_models.batch_norm, "lars")
            before = outcome(trainer, task("lars"))
            runner = trainer._runners["lars"]
            with mock.patch.object(runner.model, "reset_metrics"):
                after = outcome(trainer, task("lars"))
            self.assertNotEqual(before["metrics"], after["metrics"])

    @parameterized.named_parameters(*zip(_KERASES, _KERASES))
    def test_random_state_of_the_caller_is_kept(self, keras_name):
        def draw():
            return [
                random.random(),
                np.random.random(),
                float(tf.random.uniform([])),
                float(tf.random.get_global_generator().uniform([])),
                float(keras.random.uniform([])),
                keras.layers.Dense(1).name,
                np.array(
                    keras.layers.Dense(2, kernel_initializer="normal")(
                        np.ones((1, 2))
                    )
                ).tolist(),
                tf_keras.layers.Dense(1).name,
                tf_keras.layers.Dense(2)(np.ones((1, 2))).numpy().tolist(),
                keras.config.dtype_policy().name,
                tf_keras.mixed_precision.global_policy().name,
            ]

        def drawn(between):
            keras.utils.set_random_seed(11)
            tf_keras.utils.set_random_seed(11)
            keras.backend.clear_session()
            tf_keras.backend.reset_uids()
            keras.utils.set_random_seed(11)
            tf.random.set_global_generator(tf.random.Generator.from_seed(1))
            first = draw()
            between()
            return first, draw()

        def run():
            trainer = make(keras_name, user_models.mixed_precision, "lars")
            trainer.run(task("lars"))

        self.assertEqual(drawn(run), drawn(lambda: None))

    @pytest.mark.slow
    def test_memory_stays_flat(self):
        trainer = make("keras3", user_models.functional, "adamw")
        status = pathlib.Path("/proc/self/status")
        if not status.exists():
            self.skipTest("There is no /proc here.")

        def megabytes():
            gc.collect()
            found = re.search(r"VmRSS:\s+(\d+)", status.read_text())
            return int(found[1]) / 1024

        for seed in range(10):
            trainer.run(task("adamw", seed=seed))
        before = megabytes()
        for index in range(60):
            rate = (index + 1) / 100
            trainer.run(task("adamw", seed=index // 4, learning_rate=rate))
        self.assertLess((megabytes() - before) / 60, 0.3)
        self.assertEqual(trainer.traces, {"adamw": 1})


class RecordTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.product(
        keras_name=list(_KERASES), name=["nesterov", "schedulefreeadamw"]
    )
    def test_metrics_are_exact_means_over_examples(self, keras_name, name):
        # 20 examples of validation and batches of 8; weights in training.
        module = _KERASES[keras_name]
        trainer = make(keras_name, user_models.batch_norm, name, batch_size=8)
        record = trainer.run(task(name), evaluate_at=(5, _STEPS))
        runner = trainer._runners[name]
        trained = [np.array(w) for w in runner.model.get_weights()]
        with runner.optimizer.evaluation_point():
            self._check_metrics(module, runner.model, record)
            moved = any(
                (a != b).any()
                for a, b in zip(trained, runner.model.get_weights())
            )
        self.assertEqual(moved, name == "schedulefreeadamw")

    def _check_metrics(self, module, model, record):
        _, train, (x, y) = user_models.batch_norm(module)
        # As many training examples, drawn once and for all.
        drawn = np.random.default_rng(0).permutation(70)[:20]
        for part, (inputs, labels) in {
            "validation": (x, y),
            "training": (train[0][drawn], train[1][drawn]),
        }.items():
            logits = np.array(model(inputs.astype("float32"), training=False))
            got = record["metrics"][part]
            accuracy = np.mean(logits.argmax(-1) == labels)
            self.assertAllClose(got["accuracy"], accuracy, rtol=1e-6)
        logits = np.array(model(x, training=False), "float64")
        shares = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        loss = -shares[np.arange(20), y].mean()
        got = record["metrics"]["validation"]
        self.assertAllClose(got["loss"], loss, rtol=1e-5)
        self.assertEqual([p["step"] for p in record["curve"]], [5, _STEPS])
        self.assertEqual(record["curve"][-1]["validation"], got)
        self.assertNotEqual(record["curve"][0]["validation"], got)

    def test_the_first_update_that_is_not_finite_is_named(self):
        def user_model(module):
            build_model, (x, y), validation = user_models.functional(module)
            return build_model, (x * 1e3, y), validation

        found = []
        for keras_name in _KERASES:
            trainer = make(keras_name, user_model, "nesterov")
            clean = outcome(trainer, task("nesterov", learning_rate=1e-4))
            record = outcome(trainer, task("nesterov", learning_rate=1e18))
            self.assertEqual(record["status"], "diverged")
            self.assertIsNone(record["metrics"])
            step = record["bad"]["step"]
            self.assertEqual(record["steps"], step + 1)
            self.assertLess(step, _STEPS - 1)
            for count in (step, step + 1):
                _, loop = by_hand(
                    keras_name,
                    user_model,
                    "nesterov",
                    steps=count,
                    learning_rate=1e18,
                )
                healthy = [bool(np.isfinite(w).all()) for w in loop]
                self.assertEqual(all(healthy), count == step)
            names = [path for path, _ in trainer.facts()["model"]]
            self.assertEqual(
                record["bad"]["variable"], names[healthy.index(False)]
            )
            found.append(step)
            again = outcome(trainer, task("nesterov", learning_rate=1e-4))
            self.assertEqual(again, clean)
        self.assertEqual(*found)

    @parameterized.named_parameters(*zip(_KERASES, _KERASES))
    def test_diagnostics_are_of_the_updates_they_name(self, keras_name):
        trainer = make(keras_name, user_models.functional, "lars", "adamw")
        plain = outcome(trainer, task("lars"))
        record = outcome(trainer, task("lars"), diagnostics_every=5)
        table = record.pop("diagnostics")
        self.assertEqual(record["metrics"], plain["metrics"])
        self.assertIsNone(plain["schedule"])
        self.assertEqual(table["steps"], [0, 5, 10])
        kernel, bias = table["variables"][:2]
        self.assertEqual(kernel["shape"], [6, 16])
        self.assertEqual(bias["trust_ratio"], [1.0, 1.0, 1.0])
        schedule = trainer._arms["lars"].schedule_of(point("lars"), _STEPS)
        rates = [float(schedule(step)) for step in range(_STEPS)]
        self.assertEqual(record["schedule"]["rates"], rates)
        for index, step in enumerate(table["steps"]):
            self.assertAllClose(
                kernel["effective_rate"][index],
                schedule(step) * kernel["trust_ratio"][index],
                rtol=1e-6,
            )
        self.assertEqual(kernel["relative_update"][0], 0.0)
        self.assertGreater(kernel["relative_update"][1], 0.0)
        self.assertEqual(json.loads(json.dumps(table)), table)
        rows = {row["variable"]: row for row in trainer.audit("lars")}
        self.assertEqual(
            [rows[v["path"]]["adapt"] for v in table["variables"]],
            [True, False, True, False],
        )

    def test_an_optimizer_of_keras(self):
        space = {"learning_rate": {"value": 0.1}, "momentum": {"value": 0.9}}
        arm = arms.Arm("sgd", keras.optimizers.SGD, space)
        trainer = make("keras3", user_models.functional, arm)
        records = []
        for momentum, rate in ((0.9, 0.1), (0.5, 0.1), (0.9, 0.2), (0.9, 0.1)):
            numbers = {"learning_rate": rate, "momentum": momentum}
            record = outcome(
                trainer,
                {**task("lars"), "arm": "sgd", "hyperparameters": numbers},
                diagnostics_every=4,
            )
            records.append(record)
        self.assertEqual(records[0], records[3])
        self.assertNotEqual(records[0]["metrics"], records[1]["metrics"])
        self.assertNotEqual(records[0]["metrics"], records[2]["metrics"])
        self.assertEqual(trainer.traces, {"sgd": 2})
        self.assertIsNone(records[0]["diagnostics"])
        self.assertEqual(max(records[0]["schedule"]["rates"]), 0.1)
        self.assertEqual(trainer.audit("sgd"), [])

    @parameterized.named_parameters(*zip(_KERASES, _KERASES))
    def test_averaged_weights_are_what_is_judged(self, keras_name):
        module = _KERASES[keras_name]
        adam = functools.partial(
            module.optimizers.Adam, use_ema=True, ema_momentum=0.8
        )
        space = {"learning_rate": {"value": 0.02}}
        arm = arms.Arm("ema", adam, space, schedule="constant")
        trainer = make(keras_name, user_models.functional, arm)
        numbers = {"learning_rate": 0.02}
        of_arm = {"arm": "ema", "hyperparameters": numbers}
        trainer.run({**task("lars", seed=9), **of_arm})
        record = trainer.run({**task("lars"), **of_arm})
        with random_state.kept():
            model, validation = trained_by_keras(module, adam(0.02))
            last = model.evaluate(*validation, verbose=0)
            model.optimizer.finalize_variable_values(model.trainable_variables)
            averaged = model.evaluate(*validation, verbose=0)
        found = record["metrics"]["validation"]["loss"]
        self.assertGreater(abs(last - averaged), 1e-2 * averaged)
        self.assertAllClose(found, averaged, rtol=1e-5, atol=0)

    @parameterized.named_parameters(*zip(_KERASES, _KERASES))
    def test_state_of_an_optimizer_may_begin_at_the_weights(self, keras_name):
        module = _KERASES[keras_name]

        class Anchored(module.optimizers.SGD):
            """Its momentum is at first where its weights are."""

            def build(self, variables):
                super().build(variables)
                for slot, variable in zip(self.momentums, variables):
                    slot.assign(variable)

        space = {"learning_rate": {"value": 0.1}}
        make_optimizer = functools.partial(Anchored, momentum=0.9)
        arm = arms.Arm("own", make_optimizer, space, schedule="constant")
        trainer = make(keras_name, user_models.functional, arm)
        of_arm = {"arm": "own", "hyperparameters": {"learning_rate": 0.1}}
        trainer.run({**task("lars", seed=9), **of_arm})
        trainer.run({**task("lars"), **of_arm})
        self.assertEqual(trainer.traces, {"own": 1})
        with random_state.kept():
            model, _ = trained_by_keras(module, make_optimizer(0.1))
        for ours, hand in zip(weights(trainer, "own"), model.get_weights()):
            np.testing.assert_allclose(ours, hand, rtol=1e-4, atol=1e-5)

    def test_data_may_be_a_function_of_the_seed(self):
        build_model, train, validation = user_models.functional(keras)
        seeds = []

        def of_seed(seed):
            seeds.append(seed)
            return train[0] + seed, train[1]

        trainer = make(
            "keras3", lambda _: (build_model, of_seed, validation), "lars"
        )
        first = outcome(trainer, task("lars", seed=5))
        trainer.run(task("lars", seed=6))
        self.assertEqual(outcome(trainer, task("lars", seed=5)), first)
        self.assertEqual(seeds, [0, 5, 6, 5])
        self.assertEqual(trainer.traces, {"lars": 1})


class RefusalTest(tf.test.TestCase, parameterized.TestCase):
    def assertRefused(self, message, **changes):
        with self.assertRaisesRegex((TypeError, ValueError), message):
            make("keras3", user_models.functional, "lars", **changes)

    def test_workloads_that_no_trial_could_run(self):
        build_model, (x, y), _ = user_models.functional(keras)
        self.assertRefused("batch_size=71 is more than the 70", batch_size=71)
        self.assertRefused("`batch_size` must be a whole", batch_size=0)
        self.assertRefused("`steps` must be a whole", steps=1.5)
        self.assertRefused("one number of examples.*69, 70", train=(x, y[1:]))
        self.assertRefused("`train` must be", train=x)
        self.assertRefused("no 'auc'; set `metric`", metric="auc")
        self.assertRefused("not compiled", loss=None)
        compiled, _, _ = user_models.subclassed(keras)
        for name, given in (("loss", "mse"), ("metrics", ["mae"])):
            self.assertRefused(
                f"`{name}` is for a model that is not compiled.*{name}=.*m",
                build_model=compiled,
                **_NO_LOSS | {name: given},
            )
        self.assertRefused(
            "`build_model` failed: .*trainer_test.py:[0-9]+: ZeroDivisionError",
            build_model=lambda: 1 / 0,
        )
        self.assertRefused("must return a Keras model", build_model=lambda: 3)

        def of_a_random_size():
            size = np.random.randint(4, 4000)
            model = keras.Sequential(
                [keras.layers.Input((6,)), keras.layers.Dense(size)]
            )
            model.compile("sgd", user_models.cross_entropy(keras))
            return model

        self.assertRefused(
            "models of other shapes for other seeds",
            build_model=of_a_random_size,
            **_NO_LOSS,
        )

    @parameterized.named_parameters(*zip(_KERASES, _KERASES))
    def test_the_same_model_every_time(self, keras_name):
        module = _KERASES[keras_name]
        build_model, train, validation = user_models.functional(module)
        model = build_model()
        with self.assertRaisesRegex(ValueError, "the same model every time"):
            make(
                keras_name, lambda _: (lambda: model, train, validation), "lars"
            )

    @parameterized.product(
        keras_name=tuple(_KERASES),
        kind=("trained", "of one arm", "statistics", "subclassed"),
    )
    def test_what_an_earlier_model_has_changed(self, keras_name, kind):
        module = _KERASES[keras_name]
        layers = module.layers
        base = layers.Dense(6, name="base")
        if kind == "statistics":
            base = layers.BatchNormalization(
                center=False, scale=False, name="base"
            )

        class Net(module.Model):
            def __init__(self):
                super().__init__()
                self.base, self.out = base, layers.Dense(3)

            def call(self, x):
                return self.out(self.base(x))

        def build_model(tuned=0.0):
            if kind == "subclassed":
                return Net()
            base.trainable = kind != "of one arm" or float(tuned) > 0
            inputs = module.Input((6,))
            return module.Model(inputs, layers.Dense(3)(base(inputs)))

        with self.assertRaisesRegex(
            ValueError, "`build_model` uses the layer 'base' again"
        ):
            trainer = make(
                keras_name,
                user_models.functional,
                arm_of("lamb", "tuned"),
                build_model=build_model,
            )
            self.assertIn(kind, ("of one arm", "statistics"))
            trainer.run(task("lamb", tuned=0.0))
            trainer.run(task("lamb", seed=4, tuned=0.1))

    def test_frozen_layers_may_be_shared(self):
        layers = keras.layers
        base = keras.Sequential(
            [
                layers.Input((6,)),
                layers.Dense(8),
                layers.BatchNormalization(momentum=0.5),
            ]
        )
        base.trainable = False
        scaled = layers.Normalization()
        scaled.adapt(user_models.functional(keras)[1][0])

        def build_model():
            inputs = keras.Input((6,))
            x = base(scaled(inputs), training=False)
            return keras.Model(inputs, layers.Dense(3)(x))

        settings = {"build_model": build_model}
        make("keras3", user_models.functional, "lamb", **settings)
        # Of a study before, they may have had other values.
        base.set_weights([2 * w for w in base.get_weights()])
        before = base.get_weights()
        trainer = make("keras3", user_models.functional, "lamb", **settings)
        found = [outcome(trainer, task("lamb", s)) for s in (3, 4, 3)]
        self.assertEqual(found[0], found[2])
        self.assertNotEqual(found[0]["metrics"], found[1]["metrics"])
        for now, then in zip(base.get_weights(), before):
            np.testing.assert_array_equal(now, then)
        _, last = by_hand("keras3", user_models.functional, "lamb", **settings)
        for ours, hand in zip(weights(trainer, "lamb"), last):
            np.testing.assert_allclose(ours, hand, rtol=1e-4, atol=1e-6)

    @parameterized.named_parameters(*zip(_KERASES, _KERASES))
    def test_shared_noise_is_of_the_seed(self, keras_name):
        module = _KERASES[keras_name]

        def looked(seed):
            with random_state.kept():
                random_state.begin(seed)
                noise = module.layers.GaussianNoise(0.9)

            def build_model():
                inputs = module.Input((6,))
                x = module.layers.Dense(3)(noise(inputs))
                return module.Model(inputs, x)

            trainer = make(
                keras_name,
                user_models.functional,
                "lamb",
                build_model=build_model,
            )
            return trainer, trainer.fingerprint(0)["numbers"]

        (trainer, numbers), (_, others) = looked(1), looked(2)
        self.assertNotIn(None, numbers["loss"])
        self.assertEqual(numbers, others)
        found = [outcome(trainer, task("lamb", s)) for s in (3, 4, 3)]
        self.assertEqual(found[0], found[2])
        self.assertNotEqual(found[0]["metrics"], found[1]["metrics"])

    @parameterized.named_parameters(
        ("keras3", "keras3", tf_keras), ("tf_keras", "tf_keras", keras)
    )
    def test_an_optimizer_of_the_other_keras(self, keras_name, other):
        space = {"learning_rate": {"value": 0.1}}
        arm = arms.Arm("adam", other.optimizers.Adam, space)
        numbers = {"learning_rate": 0.1}
        with self.assertRaisesRegex(TypeError, f"of {keras_name}.*is not"):
            make(keras_name, user_models.functional, arm).run(
                {**task("lars"), "arm": "adam", "hyperparameters": numbers}
            )

    @parameterized.parameters(False, True)
    def test_a_model_with_another_optimizer_inside(self, run_eagerly):
        class Net(keras.Model):
            def __init__(self):
                super().__init__()
                self.out = keras.layers.Dense(3)
                self.inner = keras.optimizers.SGD(0.1)

            def call(self, x):
                return self.out(x)

            def train_step(self, data):
                x, y = data
                with tf.GradientTape() as tape:
                    loss = tf.reduce_mean(
                        keras.losses.sparse_categorical_crossentropy(
                            y, self(x), from_logits=True
                        )
                    )
                variables = self.trainable_variables
                self.inner.apply(tape.gradient(loss, variables), variables)
                return {"loss": loss}

        def build_model():
            model = Net()
            loss = user_models.cross_entropy(keras)
            model.compile("sgd", loss, run_eagerly=run_eagerly)
            return model

        trainer = make(
            "keras3",
            user_models.functional,
            "lars",
            build_model=build_model,
            **_NO_LOSS,
        )
        with self.assertRaisesRegex(ValueError, "use self.optimizer"):
            trainer.run(task("lars"))

    def test_tasks_that_no_arm_could_run(self):
        trainer = make("keras3", user_models.functional, "lars")
        with self.assertRaisesRegex(ValueError, "Unknown arm 'sgd'.*lars"):
            trainer.run({**task("lars"), "arm": "sgd"})
        with self.assertRaisesRegex(ValueError, "Arm lars.*momentum"):
            trainer.run(task("lars", momentum=1.5))

    @parameterized.named_parameters(*zip(_KERASES, _KERASES))
    def test_a_model_that_is_trained_in_another_way(self, keras_name):
        module = _KERASES[keras_name]

        class Own(module.Model):
            def fit(self, *arguments, **settings):
                return super().fit(*arguments, **settings)

        made = functools.partial(
            make, keras_name, user_models.functional, "lars"
        )
        with self.assertRaisesRegex(ValueError, "Own, .* its own `fit`"):
            made(build_model=lambda: Own())
        strategy = tf.distribute.MirroredStrategy(["/cpu:0"])

        def mirrored():
            with strategy.scope():
                return user_models.functional(module)[0]()

        with self.assertRaisesRegex(ValueError, "for MirroredStrategy, but a"):
            made(build_model=mirrored)

    def test_an_arm_that_would_take_fewer_updates(self):
        arm = arms.Arm(
            "sgd",
            keras.optimizers.SGD,
            {"learning_rate": {"value": 0.1}},
            gradient_accumulation_steps=4,
        )
        with self.assertRaisesRegex(ValueError, "Arm sgd: gradient_accumul"):
            make("keras3", user_models.functional, arm)


class BackendTest(parameterized.TestCase):
    @parameterized.parameters("jax", "torch")
    @pytest.mark.slow
    def test_keras_3_on_other_backends(self, backend):
        code = (
            "import json; from tests.trials import trainer_test as t; "
            "trainer = t.make('keras3', t.user_models.subclassed, 'lars'); "
            "t.outcome(trainer, t.task('lars', seed=8)); "
            "print(json.dumps([t.outcome(trainer, t.task('lars'),"
            " evaluate_at=e, diagnostics_every=d)"
            " for e, d in (((), 0), ((4,), 5))]"
            "+ [t.outcome(trainer, t.task('lars', learning_rate=1e38))]))"
        )
        output = subprocess.run(
            [sys.executable, "-c", code],
            cwd=_ROOT,
            env={
                **os.environ,
                "KERAS_BACKEND": backend,
                "TF_CPP_MIN_LOG_LEVEL": "3",
            },
            stdout=subprocess.PIPE,
            check=True,
            text=True,
        ).stdout
        plain, watched, diverged = json.loads(output.splitlines()[-1])
        self.assertEqual(plain["status"], "finished")
        self.assertEqual(plain["metrics"], watched["metrics"])
        self.assertEqual([p["step"] for p in watched["curve"]], [4])
        self.assertEqual(watched["diagnostics"]["steps"], [0, 5, 10])
        self.assertEqual(diverged["status"], "diverged")


class WorkloadTest(parameterized.TestCase):
    @parameterized.parameters(
        ("accuracy", "max"),
        ("top_k_categorical_accuracy", "max"),
        ("auc", "max"),
        ("mean_io_u", "max"),
        ("valAccuracy", "max"),
        ("head_1_acc", "max"),
        ("categorical_crossentropy", "min"),
        ("root_mse", "min"),
        ("loss", "min"),
        ("mse", "min"),
        ("mean_absolute_error", "min"),
        ("perplexity", "min"),
        ("f1_negative", "max"),
    )
    def test_mode_is_told_by_the_name(self, metric, mode):
        self.assertEqual(metric_names.mode_of(metric), mode)

    def test_names_that_tell_nothing_are_refused(self):
        for metric in (
            "score",
            "accuracy_loss",
            "steps_to_accuracy",
            "seconds_to_accuracy_0.75",
            "inaccuracy",
            "accuracy_gap",
            "memory_access_time",
            "loss_reduction",
            "neg_mean_squared_error",
            "negative_loss",
        ):
            with self.assertRaisesRegex(ValueError, "Set `mode`"):
                metric_names.mode_of(metric)

    def test_examples_that_are_not_finite_are_told_of(self):
        x = np.zeros((5, 2, 3), np.float32)
        x[3, 1, 2], x[4, 0, 0] = np.nan, np.inf
        data = x, np.zeros(5)
        said = "`train`: 2 of 5 examples .* first example 3 "

        def made(data):
            trial_data.make(
                lambda seed: data, False, 0, 2, "train", tf_keras, True
            )

        with self.assertWarnsRegex(UserWarning, said):
            made(data)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            made((np.zeros(5, np.int32), np.arange(5.0)))
