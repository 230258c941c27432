"""Schedules on tensors and inside real optimizers of both Kerases."""

import os
import tempfile

import jax
import jax.numpy as jnp
import keras
import numpy as np
import tensorflow as tf
import tf_keras
from absl.testing import parameterized

from lbcheck import schedules
from tests.schedules import schedules_test as pure

KERASES = {"keras3": keras, "tf_keras": tf_keras}
LARS = schedules.PolynomialWarmupDecay(*pure.RESNET["lars"])
A = schedules.PolynomialWarmupDecay(*pure.RESNET["nesterov_a"])


def used_rates(optimizer, steps, modern):
    """The rates that an optimizer of plain gradient descent really uses."""
    variable = (keras.Variable if modern else tf.Variable)(np.zeros(1, "f4"))
    optimizer.build([variable])

    @tf.function(jit_compile=True)
    def update(step):
        optimizer.iterations.assign(step)
        variable.assign(tf.zeros(1))
        optimizer.apply_gradients([(tf.ones(1), variable)])
        return -tf.convert_to_tensor(variable)[0]

    return np.array(
        [update(tf.constant(step, tf.int64)).numpy() for step in steps]
    )


class TensorsTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(*pure.EXAMPLES)
    def test_tensorflow_jax_and_numpy_agree(self, schedule):
        steps = np.arange(30)
        want = schedule(steps)
        traced = tf.function(schedule, jit_compile=True)
        for dtype in (tf.int64, tf.int32, tf.float32, tf.uint8):
            got = traced(tf.constant(steps, dtype))
            self.assertEqual(got.dtype, tf.float32)
            self.assertAllClose(got, want, rtol=3e-6, atol=1e-9)
        precise = schedule(tf.constant(steps, tf.float64))
        self.assertEqual(precise.dtype, tf.float64)
        self.assertAllClose(precise, want, rtol=1e-12, atol=0)
        got = jax.jit(schedule)(jnp.arange(30))
        self.assertEqual(got.dtype, jnp.float32)
        self.assertAllClose(np.asarray(got), want, rtol=3e-6, atol=1e-9)

    def test_no_loss_in_the_counter_to_a_million_steps(self):
        total = 1_000_000
        schedule = schedules.PolynomialWarmupDecay(
            0.0, 1.0, 0.0, 10_000, total, 1.0, 2.0
        )
        steps = np.r_[1, 9_999, 10_000, 500_001, total - 3 : total]
        want = schedule(steps)
        for counter in (tf.int64, tf.int32, tf.float32):
            got = schedule(tf.constant(steps, counter)).numpy()
            np.testing.assert_allclose(got, want, rtol=5e-7)
        # The mutant with the counter divided in float32 first.
        ratio = tf.constant(steps, tf.float32) / tf.constant(1e6, tf.float32)
        mutant = ((1.0 - ratio) * 1e6 / 990_000).numpy() ** 2
        self.assertGreater(np.max(np.abs(mutant / want - 1)[-3:]), 1e-3)

    @parameterized.parameters(tf.float32, tf.int32, tf.int64)
    def test_variables_share_one_trace(self, counts):
        peak, power = tf.Variable(2.0), tf.Variable(1.0)
        warmup = tf.Variable(4, dtype=counts)
        total = tf.Variable(10, dtype=counts)
        schedule = schedules.PolynomialWarmupDecay(
            0.0, peak, 0.0, warmup, total, 1.0, power
        )
        traces = []

        @tf.function(jit_compile=True)
        def rate(step):
            traces.append(step)
            return schedule(step)

        step = tf.constant(7, tf.int64)
        self.assertAllClose(rate(step), 1.0)
        peak.assign(8.0), power.assign(2.0), total.assign(10)
        self.assertAllClose(rate(step), 2.0)
        warmup.assign(8)
        self.assertAllClose(rate(step), 7.0)
        self.assertLen(traces, 1)
        config = schedule.get_config()
        self.assertEqual((config["peak_rate"], config["warmup_steps"]), (8, 8))
        self.assertAllClose(schedule(7), 7.0)

    def test_variables_in_jax(self):
        def rate(peak, warmup, step):
            return schedules.Warmup(schedules.Linear(peak, 10), warmup)(step)

        got = jax.jit(rate)(jnp.float32(2.0), jnp.int32(4), jnp.int32(9))
        self.assertAllClose(float(got), 1.0)


class OptimizersTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.product(
        name=["keras3", "tf_keras"],
        row=list(pure.PUBLISHED),
    )
    def test_float32_precision_in_an_optimizer(self, name, row):
        fields = pure.PUBLISHED[row]
        schedule = schedules.PolynomialWarmupDecay(*fields)
        optimizer = KERASES[name].optimizers.SGD(schedule.as_keras(name))
        w, total = fields[3:5]
        near = [1, w // 2, w - 1, w, w + 1, (w + total) // 2, total - 2]
        steps = [0, *near, total - 1]
        got = used_rates(optimizer, steps, name == "keras3")
        want = [pure.piecewise(t, *fields) for t in steps]
        self.assertAllClose(got, want, rtol=1e-6, atol=0)

    @parameterized.parameters("keras3", "tf_keras")
    def test_every_step_of_a_run_as_keras_asks_for_it(self, name):
        for schedule in (LARS, A):
            keras_schedule = schedule.as_keras(name)
            ask = tf.function(
                lambda steps, ask=keras_schedule: tf.map_fn(
                    ask, steps, fn_output_signature=tf.float32
                )
            )
            got = ask(tf.range(2512, dtype=tf.int64))
            want = schedule(np.arange(2512))
            self.assertAllClose(got, want, rtol=1e-6, atol=0)

    @parameterized.product(
        name=["keras3", "tf_keras"], schedule=list(pure.EXAMPLES)
    )
    def test_keras_configuration(self, name, schedule):
        module = KERASES[name].optimizers.schedules
        keras_schedule = schedule.as_keras(name)
        self.assertIsInstance(keras_schedule, module.LearningRateSchedule)
        again = module.deserialize(module.serialize(keras_schedule))
        self.assertEqual(again.schedule, schedule)

    @parameterized.parameters("keras3", "tf_keras")
    def test_model_file_keeps_the_schedule(self, name):
        library = KERASES[name]
        layer = library.layers.Dense(1)
        model = library.Sequential([library.layers.Input((2,)), layer])
        model.compile(library.optimizers.SGD(A.as_keras(name)), "mse")
        model.fit(np.ones((4, 2)), np.ones((4, 1)), verbose=0)
        path = os.path.join(tempfile.mkdtemp(), "model.keras")
        model.save(path)
        loaded = library.models.load_model(path).optimizer
        self.assertEqual(loaded._learning_rate.schedule, A)
        self.assertEqual(int(loaded.iterations), 1)

    def test_default_is_the_keras_of_this_process(self):
        want = keras.optimizers.schedules.LearningRateSchedule
        if os.environ.get("TF_USE_LEGACY_KERAS") == "1":
            want = tf_keras.optimizers.schedules.LearningRateSchedule
        self.assertIsInstance(A.as_keras(), want)


if __name__ == "__main__":
    tf.test.main()
