"""Where optimizers go wrong unseen: options at size, counts, fallbacks."""

import functools

import keras
import numpy as np
import tensorflow as tf
import tf_keras
from absl.testing import parameterized

import lbcheck
from lbcheck import optimizers
from lbcheck.optimizers import keras_arrays
from lbcheck.optimizers import tensorflow_update
from tests.optimizers import trajectory
from tests.optimizers.optimizers_test import BOTH
from tests.optimizers.optimizers_test import CLOSE
from tests.optimizers.optimizers_test import KERAS
from tests.optimizers.optimizers_test import make_schedule
from tests.optimizers.optimizers_test import make_variable
from tests.optimizers.optimizers_test import room
from tests.optimizers.optimizers_test import step_optimizer
from tests.optimizers.rules_test import BASE
from tests.optimizers.rules_test import FUNCTIONS
from tests.optimizers.rules_test import PEAK
from tests.optimizers.rules_test import reference_settings


def make_16_bits(kind, value, dtype, name="kernel"):
    """A variable of either Keras of this type."""
    if kind == "keras3":
        return keras.Variable(value, dtype=dtype, name=name)
    return tf.Variable(tf.cast(value, dtype), name=name)


class LargeVariablesTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.product(
        kind=list(KERAS),
        change=[
            ("LAMB", {"bias_correction": False}),
            ("LAMB", {"norm": "l1"}),
            ("LAMB", {"nesterov": "both"}),
            ("LAMB", {"nesterov": "first", "phi_bounds": (50.0, 200.0)}),
            ("LAMB", {"dialect": "keras"}),
            ("LARS", {"denominator": "joint", "nesterov": True}),
            ("LARS", {"rate_in_buffer": False}),
            ("LARS", {"normalize": "momentum", "rate_in_buffer": False}),
            ("AdamW", {"bias_correction": False}),
            ("AdamW", {"l2": 0.3}),
            ("AdamW", {"dialect": "keras"}),
            ("Momentum", {"nesterov": True, "rate_in_buffer": True}),
        ],
    )
    def test_option(self, kind, change):
        """Each equals its reference, and fails against the one unchanged."""
        name, options = change
        side = int(np.ceil(np.sqrt(tensorflow_update.LARGE)))
        case = trajectory.problem(
            12, PEAK[name], dtype=np.float32, shapes=((side, side), (3, 2))
        )
        settings = {**BASE[name], **options}
        optimizer = getattr(room(kind), name)(1.0, **settings)
        found = step_optimizer(kind, optimizer, case, ("a", "b"))
        if settings.pop("dialect", None):
            key, value = {
                "LAMB": ("decay_placement", "decoupled"),
                "AdamW": ("epsilon_hat", True),
            }[name]
            settings[key] = value
        distances = []
        for words in (settings, BASE[name]):
            exact = trajectory.step_reference(
                FUNCTIONS[name],
                case,
                decay=(True, True),
                adapt=(True, True),
                **reference_settings(name, words),
            )
            distances.append(trajectory.distance(found, exact, case[0]))
        self.assertLess(distances[0], CLOSE)
        self.assertGreater(distances[1], 1e-3)

    @parameterized.named_parameters(*BOTH)
    def test_long_run_of_the_fused_kernel(self, kind):
        """A constant gradient makes every step the rate, at any count."""
        variable = make_variable(kind, np.float32([[0.0]]), "kernel")
        optimizer = room(kind).AdamW(1.0, beta_2=0.999, weight_decay=0.0)
        optimizer.build([variable])

        @tf.function
        def run(count):
            for _ in tf.range(count):
                optimizer.apply_gradients([(tf.constant([[1.0]]), variable)])

        run(6000)
        before = float(variable.numpy()[0, 0])
        variable.assign([[0.0]])
        run(1)
        self.assertLess(before, -5999.0)
        self.assertAllClose(variable.numpy(), [[-1.0]], rtol=2e-6)

    @parameterized.product(
        kind=list(KERAS),
        betas=[(0.9, 1 - 2e-8), (1 - 2e-8, 0.999), (0.0, 0.0), (0.5, 0.01)],
    )
    def test_betas_that_the_fused_kernel_rounds_away(self, kind, betas):
        """Gradients that fall by 1e4, beside which v is to be forgotten."""
        side = int(np.ceil(np.sqrt(tensorflow_update.LARGE)))
        weights, gradients, rates = trajectory.problem(
            6, 0.1, dtype=np.float32, shapes=((side, side), (3, 2))
        )
        for row in gradients[1::2]:
            row[:] = [np.float32(1e-4) * gradient for gradient in row]
        case = (weights, gradients, rates)
        settings = {"beta_1": betas[0], "beta_2": betas[1], "epsilon": 1e-12}
        optimizer = room(kind).AdamW(1.0, weight_decay=0.1, **settings)
        found = step_optimizer(kind, optimizer, case, ("a", "b"))
        exact = trajectory.step_reference(
            FUNCTIONS["AdamW"], case, weight_decay=0.1, **settings
        )
        self.assertLess(trajectory.distance(found, exact, weights), CLOSE)

    @parameterized.product(kind=list(KERAS), name=["AdamW", "Nesterov"])
    def test_norms_of_what_nothing_is_left_of_are_no_numbers(self, kind, name):
        """Of a weight times 0 the norm cannot be told, and is not made up."""
        for rate, told in ((1.0, False), (1 - 1e-6, False), (0.5, True)):
            optimizer = getattr(room(kind), name)(
                rate, weight_decay=1.0, diagnostics_every=1
            )
            start = np.random.default_rng(0).normal(size=(300, 300))
            variable = make_variable(kind, np.float32(start), "kernel")
            optimizer.apply_gradients([(tf.cos(variable + 0.0), variable)])
            (values,) = optimizer.diagnostics().values()
            norms = [
                np.linalg.norm(start),
                np.linalg.norm(variable.numpy() - start),
            ]
            self.assertAllClose(
                [values.weight_norm, values.update_norm],
                norms if told else [np.nan] * 2,
                rtol=1e-4,
            )
            self.assertTrue(np.isfinite(values.gradient_norm))

    @parameterized.product(kind=list(KERAS), dtype=["float16", "bfloat16"])
    def test_moments_of_16_bit_variables_are_float32(self, kind, dtype):
        value = tf.zeros([2, 2], dtype)
        variable = (
            keras.Variable(value, dtype=dtype, name="kernel")
            if kind == "keras3"
            else tf.Variable(value, name="kernel")
        )
        optimizer = room(kind).AdamW(1.0, weight_decay=0.0)
        gradient = tf.fill([2, 2], tf.cast(1e-4, dtype))
        for _ in range(300):
            variable.assign(tf.zeros([2, 2], dtype))
            optimizer.apply_gradients([(gradient, variable)])
        self.assertAllClose(
            tf.cast(variable, "float32"), -np.ones((2, 2)), rtol=1e-2
        )

    @parameterized.product(
        kind=list(KERAS),
        clip=["clipnorm", "global_clipnorm"],
        sparse=[False, True],
    )
    def test_float16_gradients_are_clipped_in_float32(self, kind, clip, sparse):
        """Their squares are beyond float16 from 256 on: 0 or no numbers."""
        variable = make_16_bits(kind, np.zeros((4, 1)), "float16")
        gradient = tf.constant([[300.0], [0], [400], [0]], tf.float16)
        if sparse:
            gradient = tf.IndexedSlices(
                tf.constant([[300.0], [500], [-100]], tf.float16),
                tf.constant([0, 2, 2]),
                tf.constant([4, 1]),
            )
        optimizer = room(kind).Momentum(1.0, momentum=0.0, **{clip: 1.0})
        optimizer.apply_gradients([(gradient, variable)])
        self.assertAllClose(
            tf.cast(variable, "float32"), [[-0.6], [0], [-0.8], [0]], rtol=1e-3
        )

    def test_sums_of_16_bit_gradients_are_float32(self):
        variable = make_16_bits("keras3", np.zeros((1,)), "float16")
        optimizer = lbcheck.keras3.Momentum(
            2.0**-14, momentum=0.0, gradient_accumulation_steps=4
        )
        for _ in range(4):
            optimizer.apply([tf.constant([2.0**15], tf.float16)], [variable])
        self.assertAllEqual(tf.cast(variable, "float32"), [-2.0])

    @parameterized.product(kind=list(KERAS), dtype=["float16", "bfloat16"])
    def test_averages_of_16_bit_variables_are_refused(self, kind, dtype):
        variable = make_16_bits(kind, np.zeros((1,)), dtype)
        with self.assertRaisesRegex(ValueError, f"use_ema.*kernel of.*{dtype}"):
            room(kind).LAMB(use_ema=True).build([variable])

    @parameterized.product(
        kind=list(KERAS),
        name=[definition.__name__ for definition in optimizers.ALL],
    )
    def test_state_has_names_of_its_own(self, kind, name):
        """Keras's state trees and HDF5 files are by name."""
        variables = [
            make_16_bits(kind, np.ones((2, 3)), dtype, f"{dtype}_{i}")
            for dtype in ("bfloat16", "float32")
            for i in range(2)
        ]
        optimizer = getattr(room(kind), name)()
        optimizer.build(variables)
        path = "path" if kind == "keras3" else "name"
        paths = [getattr(v, path) for v in optimizer.variables]
        self.assertLen(set(paths), len(paths))

    @parameterized.product(
        kind=list(KERAS),
        name=[definition.__name__ for definition in optimizers.ALL],
        shape=[(0, 4), (4, 0)],
    )
    def test_variables_without_elements(self, kind, name, shape):
        empty = make_variable(kind, np.ones(shape, "f"), "empty/kernel")
        optimizer = getattr(room(kind), name)(0.1)
        for _ in range(2):
            optimizer.apply_gradients([(tf.ones(shape), empty)])
        self.assertEqual(optimizer.completed_updates(), 2)
        largest = keras_arrays.ARRAYS.norm(tf.ones(shape), "linf")
        self.assertEqual(float(largest), 0.0)

    def test_adagrad_of_float64_variables_is_exact(self):
        case = trajectory.problem(20, 1.0)
        variables = [
            keras.Variable(w, dtype="float64", name=f"k{i}")
            for i, w in enumerate(case[0])
        ]
        optimizer = lbcheck.keras3.Adagrad(0.5, exclude_from_weight_decay=())
        for row in case[1]:
            optimizer.apply([tf.constant(g) for g in row], variables)
        exact = trajectory.step_reference(
            FUNCTIONS["Adagrad"], (*case[:2], [0.5] * 20)
        )
        found = [variable.numpy() for variable in variables]
        self.assertLess(trajectory.distance(found, exact, case[0]), 1e-12)


class CountingTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters("Nesterov", "LAMB", "AdamW")
    def test_accumulation_is_the_mean_and_counts_updates(self, name):
        """Keras 3 asks the schedule for micro-steps; we may not."""
        rates = [0.1, 0.02, 0.3, 0.04] + [9.0] * 16
        spread = np.float32([0.2, -0.5, 1.5, 2.8])  # of mean 1
        results = []
        for accumulate in (None, 4):
            variable = make_variable("keras3", np.float32([[1.0, 2.0]]), "k")
            optimizer = getattr(lbcheck.keras3, name)(
                make_schedule("keras3", rates),
                gradient_accumulation_steps=accumulate,
                global_clipnorm=1.5,
            )
            for gradient in ([[1.0, 0.5]], [[-2.0, 1.0]], [[0.5, 0.5]]):
                for share in spread if accumulate else [1.0]:
                    optimizer.apply([share * tf.constant(gradient)], [variable])
            results.append(variable.numpy())
        self.assertAllClose(*results, rtol=1e-6)

    @parameterized.named_parameters(*BOTH)
    def test_overflow_steps_do_not_count(self, kind):
        """Four steps skipped by loss scaling, then one: w moves by -rate."""
        variable = make_variable(kind, np.float32([[1.0]]), "kernel")
        rates = [1.0] + [0.25] * 9
        optimizer = room(kind).AdamW(
            make_schedule(kind, rates), weight_decay=0.0, beta_2=0.9
        )
        if kind == "keras3":
            scaled = keras.optimizers.LossScaleOptimizer(optimizer)
        else:
            scaled = tf_keras.mixed_precision.LossScaleOptimizer(optimizer)
        scaled.build([variable])

        @tf.function
        def update(gradient):
            scaled.apply_gradients([(gradient, variable)])

        for value in [np.inf] * 4 + [3.0]:
            update(tf.constant([[value]], tf.float32))
        self.assertEqual(optimizer.completed_updates(), 1)
        self.assertAllClose(variable.numpy(), [[0.0]], atol=1e-5)

    @parameterized.named_parameters(*BOTH)
    def test_callable_rate_is_asked_at_every_update(self, kind):
        rate = tf.Variable(0.1)
        variable = make_variable(kind, np.float32([[1.0]]), "kernel")
        optimizer = room(kind).Momentum(lambda: rate.value(), momentum=0.0)
        for value in (0.1, 0.2):
            rate.assign(value)
            optimizer.apply_gradients([(tf.constant([[1.0]]), variable)])
        self.assertAllClose(variable.numpy(), [[0.7]])

    @parameterized.named_parameters(*BOTH)
    def test_a_schedule_that_a_traced_step_does_not_notice_warns(self, kind):
        variable = make_variable(kind, np.float32([[1.0]]), "kernel")
        optimizer = room(kind).Momentum(make_schedule(kind, [0.1, 0.2]))
        optimizer.learning_rate = make_schedule(kind, [0.3, 0.4])
        optimizer.build([variable])
        with self.assertWarnsRegex(UserWarning, "Momentum: a step .* traced"):
            optimizer.learning_rate = make_schedule(kind, [0.5, 0.6])

    @parameterized.named_parameters(*BOTH)
    def test_weight_average(self, kind):
        """With momentum 0 the path is known: w = -1, -2, -3."""
        variable = make_variable(kind, np.float32([[0.0]]), "kernel")
        optimizer = room(kind).Momentum(
            1.0, momentum=0.0, use_ema=True, ema_momentum=0.5
        )
        for _ in range(3):
            optimizer.apply_gradients([(tf.constant([[1.0]]), variable)])
        optimizer.finalize_variable_values([variable])
        # Keras 3 starts the average at the first weight, tf_keras at 0.
        expected = {"keras3": -2.25, "tf_keras": -2.125}[kind]
        self.assertAllClose(variable.numpy(), [[expected]], rtol=1e-5)

    @parameterized.named_parameters(*BOTH)
    def test_a_variable_that_is_frozen_shifts_no_average(self, kind):
        frozen, other = (
            make_variable(kind, np.float32([[weight]]), f"{name}/kernel")
            for name, weight in (("frozen", 0.0), ("other", 5.0))
        )
        optimizer = room(kind).Momentum(
            1.0, momentum=0.0, use_ema=True, ema_momentum=0.5
        )
        ones = tf.constant([[1.0]])
        for _ in range(2):
            optimizer.apply_gradients([(ones, frozen), (ones, other)])
        optimizer.finalize_variable_values([other])
        expected = {"keras3": 3.5, "tf_keras": 3.75}[kind]
        self.assertAllClose(other.numpy(), [[expected]], rtol=1e-6)
        self.assertAllClose(frozen.numpy(), [[-2.0]])

    @parameterized.parameters((None, -4.0625), (4, -3.625))
    def test_averages_count_updates_where_gradients_add_up(
        self, frequency, final
    ):
        """Keras 3 has one for each micro-batch; three of 1 are one of 1."""
        results = []
        for accumulate in (None, 3):
            variable = make_variable("keras3", np.float32([[0.0]]), "kernel")
            optimizer = lbcheck.keras3.Momentum(
                1.0,
                momentum=0.0,
                use_ema=True,
                ema_momentum=0.5,
                ema_overwrite_frequency=frequency,
                gradient_accumulation_steps=accumulate,
            )
            path = []
            for step in range(5 * (accumulate or 1)):
                optimizer.apply([tf.constant([[1.0]])], [variable])
                if (step + 1) % (accumulate or 1) == 0:
                    path.append(float(variable.numpy().item()))
            optimizer.finalize_variable_values([variable])
            results.append([*path, float(variable.numpy().item())])
        self.assertEqual(*results)
        self.assertEqual(results[0][-1], final)

    def test_scales_of_float8_have_no_average(self):
        layers = [keras.layers.Input((4,)), keras.layers.Dense(5)]
        model = keras.Sequential(layers)
        model.quantize("float8")
        scales = model.trainable_variables[2:]
        before = [scale.numpy() for scale in scales]
        optimizer = lbcheck.keras3.AdamW(use_ema=True)
        optimizer.build(model.trainable_variables)
        optimizer.finalize_variable_values(model.trainable_variables)
        self.assertNotEmpty(before)
        for scale, old in zip(scales, before):
            self.assertAllEqual(scale.numpy(), old)


class FallbackEdgesTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.product(kind=list(KERAS), jit=[False, True])
    def test_keeps_its_own_lists_and_fallback(self, kind, jit):
        shapes = ((6, 5), (300, 300), (5,), (3,))
        case = trajectory.problem(12, 0.1, dtype=np.float32, shapes=shapes)
        names = ("a/kernel", "b/special", "a/bias", "norm/gamma")
        settings = {"exclude_from_weight_decay": ["gamma"], "weight_decay": 0.2}
        main = room(kind).LAMB(
            1.0,
            exclude_from_layer_adaptation=["bias", "gamma", "special"],
            fallback=room(kind).LARS(**settings),
        )
        together = step_optimizer(kind, main, case, names, jit=jit)
        only = step_optimizer(
            kind,
            room(kind).LARS(1.0, **settings),
            (case[0][1:], [row[1:] for row in case[1]], case[2]),
            names[1:],
            jit=jit,
        )
        for a, b in zip(together[1:], only):
            self.assertAllEqual(a, b)

    @parameterized.named_parameters(*BOTH)
    def test_refuses_what_a_part_cannot_do(self, kind):
        other = {"keras3": "tf_keras", "tf_keras": "keras3"}[kind]
        with self.assertRaisesRegex(TypeError, "fallback"):
            room(kind).LAMB(fallback=room(other).AdamW())
        for setting in ({"clipnorm": 1.0}, {"use_ema": True}):
            with self.assertRaisesRegex(ValueError, next(iter(setting))):
                room(kind).LAMB(fallback=room(kind).AdamW(**setting))
        averages = room(kind).LARS(fallback=room(kind).ScheduleFreeAdamW())
        for fallback in (averages, room(kind).ScheduleFreeAdamW()):
            with self.assertRaisesRegex(
                ValueError, "LAMB: .* of ScheduleFreeAdamW .*use_ema=True"
            ):
                room(kind).LAMB(fallback=fallback, use_ema=True)

    @parameterized.named_parameters(*BOTH)
    def test_rate_assigned_to_it_is_its_own(self, kind):
        fallback = room(kind).Momentum(momentum=0.0)
        main = room(kind).LARS(0.5, fallback=fallback)
        self.assertIsNone(fallback.own_rate())
        fallback.learning_rate = 0.125
        variable = make_variable(kind, np.float32([1.0]), "bias")
        main.apply_gradients([(tf.constant([1.0]), variable)])
        self.assertAllClose(variable.numpy(), [0.875])

    @parameterized.named_parameters(*BOTH)
    def test_a_rate_that_keras_rounds_is_not_assigned(self, kind):
        """Its variable is of Keras's floatx."""
        backend = KERAS[kind].backend
        backend.set_floatx("float16")
        self.addCleanup(backend.set_floatx, "float32")
        fallback = room(kind).AdamW()
        self.assertIsNone(fallback.own_rate())
        fallback.learning_rate = 0.125
        self.assertEqual(fallback.own_rate(), 0.125)

    @parameterized.named_parameters(*BOTH)
    def test_its_own_rate_is_fixed_when_it_is_built(self, kind):
        """What is assigned would be saved and not done."""
        inner = room(kind).Momentum(0.25, momentum=0.0)
        fallback = room(kind).LARS(fallback=inner)
        main = room(kind).LAMB(0.5, fallback=fallback)
        inner.learning_rate.assign(0.125)
        variable = make_variable(kind, np.float32([1.0]), "bias")
        main.apply_gradients([(tf.constant([1.0]), variable)])
        for part, rate in ((fallback, 0.01), (inner, 0.125)):
            with self.assertRaisesRegex(
                AttributeError,
                "`fallback` of LAMB.*received 0.0.* new LAMB a new "
                + type(part).__name__,
            ):
                part.learning_rate = 0.0
            self.assertAlmostEqual(part.learning_rate, rate, 6)
            self.assertIsInstance(part.learning_rate, float)
        main.apply_gradients([(tf.constant([1.0]), variable)])
        self.assertAllClose(variable.numpy(), [0.75])
        saved = main.get_config()["fallback"]["config"]
        self.assertEqual(saved["fallback"]["config"]["learning_rate"], 0.125)
        main.learning_rate = 0.0

    def moved(self, kind, optimizer):
        """How far a gradient of 1 moves a bias."""
        kernels = [
            make_variable(kind, np.ones((3, 2), np.float32), name)
            for name in ("a/kernel", "b/kernel")
        ]
        variables = [*kernels, make_variable(kind, np.zeros(2, "f"), "b/bias")]
        optimizer.apply_gradients([(tf.ones(v.shape), v) for v in variables])
        return -variables[-1].numpy()

    @parameterized.named_parameters(*BOTH)
    def test_ratios_of_the_rate_multiply(self, kind):
        def muon(*arguments, **given):
            return room(kind).Muon(
                *arguments, weight_decay=0.0, fallback_rate_ratio=0.1, **given
            )

        schedule = make_schedule(kind, [0.5] * 2)
        for optimizer, expected in (
            (muon(0.5), 0.05),
            (room(kind).LARS(0.5, fallback=muon()), 0.05),
            (room(kind).LARS(9.0, fallback=muon(0.5)), 0.05),
            (room(kind).LARS(9.0, fallback=muon(schedule)), 0.05),
            (room(kind).LARS(9.0, fallback=muon(lambda: 0.5)), 0.05),
            (muon(0.5, fallback=muon()), 0.005),
        ):
            self.assertAllClose(
                self.moved(kind, optimizer), [expected] * 2, rtol=1e-5
            )

    @parameterized.product(kind=list(KERAS), compiled=[False, True])
    def test_a_ratio_that_is_a_variable_has_its_value_of_now(
        self, kind, compiled
    ):
        """As in a study, whose trials assign theirs to one traced step."""
        ratio = tf.Variable(0.5)

        def muon(*arguments, **given):
            return room(kind).Muon(
                *arguments, weight_decay=0.0, fallback_rate_ratio=ratio, **given
            )

        adamw = room(kind).AdamW(weight_decay=0.0)
        for optimizer, power in (
            (muon(0.5), 1),
            (muon(0.5, fallback=adamw), 1),
            (room(kind).LARS(9.0, fallback=muon(0.5)), 1),
            (muon(0.5, fallback=muon()), 2),
        ):
            variable = make_variable(kind, np.zeros(2, "f"), "bias")

            optimizer.build([variable])
            update = functools.partial(
                optimizer.apply_gradients, [(tf.ones(2), variable)]
            )
            if compiled:
                update = tf.function(update)
            for value in (0.5, 0.1, 0.0):
                ratio.assign(value)
                before = variable.numpy()
                update()
                self.assertAllClose(
                    before - variable.numpy(),
                    [0.5 * value**power] * 2,
                    rtol=1e-5,
                )

    @parameterized.named_parameters(*BOTH)
    def test_a_ratio_beside_a_rate_is_refused(self, kind):
        own = room(kind).AdamW(0.25)
        for fallback in (own, room(kind).LAMB(fallback=own)):
            room(kind).Muon(fallback=fallback)
            with self.assertRaisesRegex(
                ValueError, "fallback_rate_ratio=0.1 .* 0.25 of AdamW"
            ):
                room(kind).Muon(fallback=fallback, fallback_rate_ratio=0.1)
        later = room(kind).AdamW()
        main = room(kind).Muon(fallback=later, fallback_rate_ratio=0.1)
        later.learning_rate = 0.25
        with self.assertRaisesRegex(ValueError, "fallback_rate_ratio=0.1"):
            self.moved(kind, main)

    @parameterized.named_parameters(*BOTH)
    def test_subclass_with_fallback_comes_back(self, kind):
        class Mine(room(kind).LAMB):
            pass

        mine = Mine(fallback=room(kind).AdamW(beta_1=0.5))
        again = Mine.from_config(mine.get_config())
        self.assertEqual(again.plan(["bias"], [(3,)])[0].rule.beta_1, 0.5)


class AroundTheListsTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.named_parameters(*BOTH)
    def test_keras_ways_are_errors(self, kind):
        optimizer = room(kind).AdamW(weight_decay=0.1)
        with self.assertRaisesRegex(TypeError, "exclude_from_weight_decay="):
            optimizer.exclude_from_weight_decay(var_names=["bias"])
        with self.assertRaisesRegex(AttributeError, "when you make"):
            optimizer.weight_decay = 0.5
        self.assertEqual(optimizer.weight_decay, 0.1)

    @parameterized.named_parameters(*BOTH)
    def test_equal_paths_stay_apart(self, kind):
        optimizer = room(kind).LAMB(diagnostics_every=1)
        variables = [make_variable(kind, [[1.0]], "kernel") for _ in range(2)]
        optimizer.apply_gradients(
            [(tf.constant([[2.0]]), variable) for variable in variables]
        )
        self.assertLen(optimizer.trust_ratios(), 2)


class RegularizersTest(tf.test.TestCase, parameterized.TestCase):
    """The audit sees what layers decay by themselves."""

    def decays(self, keras, optimizer):
        class Scale(keras.layers.Layer):
            def build(self, shape):
                self.bias = self.add_weight(
                    name="bias",
                    shape=(shape[-1],),
                    regularizer=keras.regularizers.L1(0.1),
                )

            def call(self, inputs):
                return inputs * self.bias

        l2 = keras.regularizers.L2
        inner = keras.Sequential(
            [
                keras.layers.Dense(4, kernel_regularizer=l2(0.0), name="none"),
                Scale(name="scale"),
            ]
        )
        inputs = keras.layers.Input((3, 6))
        hidden = keras.layers.Bidirectional(
            keras.layers.GRU(2, recurrent_regularizer=l2(0.1)), name="both"
        )(inputs)
        hidden = keras.layers.LayerNormalization(
            beta_regularizer=lambda x: 0.0 * x[0], name="ln"
        )(inner(hidden))
        hidden = keras.layers.Dense(
            2, kernel_constraint="max_norm", name="held"
        )(hidden)
        found = lbcheck.audit(keras.Model(inputs, hidden), optimizer)
        decay = {}
        for row in found.rows:
            decay["/".join(row.path.split("/")[-2:])] = row.decay
        return decay, found.findings

    @parameterized.named_parameters(*BOTH)
    def test_layers_of_all_kinds(self, kind):
        adamw = room(kind).AdamW(weight_decay=0.01)
        decay, findings = self.decays(KERAS[kind], adamw)
        self.assertEqual(decay["none/kernel"], "yes")
        self.assertEqual(decay["scale/bias"], "by its layer")
        self.assertEqual(decay["ln/beta"], "by its layer")
        self.assertEqual(decay["ln/gamma"], "no")
        self.assertEqual(decay["held/kernel"], "yes")
        twice = [path for path, how in decay.items() if how == "twice"]
        self.assertTrue(twice)
        self.assertTrue(all("recurrent_kernel" in path for path in twice))
        text = "\n".join(findings)
        self.assertRegex(text, "scale/bias.*regularizer: it is a bias")
        self.assertRegex(text, "ln/beta.*normalisation layer")
        self.assertLen(findings, 4)

    def test_an_empty_pattern_is_a_finding(self):
        model = keras.Sequential([keras.layers.Dense(2)])
        model.build((None, 3))
        adamw = keras.optimizers.AdamW(weight_decay=0.1)
        adamw.exclude_from_weight_decay(var_names=[""])
        (finding,) = lbcheck.audit(model, adamw).findings
        self.assertIn("every variable", finding)
        model.trainable = False
        with self.assertRaisesRegex(ValueError, "frozen"):
            lbcheck.audit(model, adamw)
        with self.assertRaisesRegex(TypeError, "text 'adam'"):
            lbcheck.audit(model, "adam")

    def test_what_has_no_weights_is_told_from_what_is_not_built(self):
        inputs = keras.Input((3,))
        flat = keras.Model(inputs, keras.layers.Flatten()(inputs))
        lamb = lbcheck.LAMB()
        with self.assertRaisesRegex(ValueError, "no weights to decay"):
            lbcheck.audit(flat, lamb)
        with self.assertRaisesRegex(ValueError, "build it first"):
            lbcheck.audit(keras.Sequential([keras.layers.Dense(2)]), lamb)
        module = tf.Module()
        module.kernel = tf.Variable([1.0])
        with self.assertRaisesRegex(TypeError, "Keras model is needed"):
            lbcheck.audit(module, lamb)


if __name__ == "__main__":
    tf.test.main()
