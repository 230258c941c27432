"""The schedule doctor on shipped bugs, clean schedules and bad input."""

import json
import math
import subprocess
import sys
import types

import keras
import numpy as np
import optax
import pytest
import tensorflow as tf
import tf_keras
from absl.testing import parameterized
from official.modeling.optimization import lr_schedule
from official.nlp import optimization

import lbcheck
from bert import schedule as bert_schedule
from lbcheck import schedules
from lbcheck.schedules import Cosine
from lbcheck.schedules import GoyalSteps
from lbcheck.schedules import Linear
from lbcheck.schedules import Phases
from lbcheck.schedules import Polynomial
from lbcheck.schedules import PolynomialWarmupDecay
from lbcheck.schedules import Warmup
from lbcheck.schedules import examine
from lbcheck.schedules import schedule_command

PolynomialDecay = tf_keras.optimizers.schedules.PolynomialDecay


def errors(*arguments, **meant):
    """{code: size} of the errors."""
    return {f.code: f.size for f in examine(*arguments, **meant).errors}


def codes(*arguments, **meant):
    """The codes of all findings."""
    return [f.code for f in examine(*arguments, **meant).findings]


class ShippedBugsTest(parameterized.TestCase, tf.test.TestCase):
    @parameterized.product(
        row=[(3125, 14063, 22.2), (781, 1562, 50.0), (2000, 7037, 28.4)],
        told=[True, False],
    )
    def test_installed_model_garden_warmup(self, row, told):
        w, total, drop = row
        installed = optimization.create_optimizer(6e-4, total, w).learning_rate
        meant = dict(peak_rate=6e-4, warmup_steps=w) if told else {}
        examination = examine(installed, total, **meant)
        found = {f.code: f for f in examination.errors}
        self.assertCountEqual(found, ["jump", "decay_during_warmup"])
        for finding in found.values():
            self.assertEqual(finding.size, f"{drop:.1f} %")
            self.assertEqual(finding.step, w)

    @parameterized.product(
        row=[(3125, 14063, 0.778), (781, 1562, 0.5), (2000, 7037, 0.716)],
        kind=["LinearWarmup", "PolynomialWarmUp"],
        told=[True, False],
    )
    def test_installed_model_garden_lowered_peak(self, row, kind, told):
        w, total, ratio = row
        decay = PolynomialDecay(1.0, total, 0.0)
        if kind == "LinearWarmup":
            installed = lr_schedule.LinearWarmup(decay, w, 0.0)
        else:
            installed = lr_schedule.PolynomialWarmUp(decay, w)
        meant = dict(peak_rate=1.0) if told else {}
        examination = examine(installed, total, **meant)
        found = {f.code: f for f in examination.errors}
        self.assertCountEqual(found, ["peak_low", "decay_during_warmup"])
        self.assertAlmostEqual(found["peak_low"].amount, ratio, 3)
        lost = found["decay_during_warmup"].amount
        self.assertAlmostEqual(lost, 100 * w / total, 2)

    @parameterized.parameters((2000, 5774, "19.2 %"), (200, 642, "17.0 %"))
    def test_nvidia_lamb(self, w, total, drop):
        found = errors(bert_schedule.nvidia_lamb(6e-3, w, total), total)
        self.assertEqual(found["jump"], drop)

    def test_nvidia_adam_overshoots(self):
        bug = bert_schedule.nvidia_adam(6e-3, 2000, 5774)
        found = errors(bug, 5774, peak_rate=6e-3)
        self.assertEqual(found["peak_high"], "1.529x")
        self.assertEqual(found["jump"], "34.6 %")
        self.assertEqual(errors(bug, 5774)["jump"], "34.6 %")

    def test_default_of_bert_loses_one_per_cent(self):
        bug = bert_schedule.original(1e-4, 10_000, 1_000_000)
        self.assertEqual(errors(bug, 1_000_000)["jump"], "1.0 %")

    def test_random_settings_of_the_bug_and_of_the_fix(self):
        generator = np.random.default_rng(5)
        for _ in range(150):
            total = int(generator.integers(60, 3000))
            w = int(generator.integers(total // 20 + 3, total - 20))
            peak = float(10 ** generator.uniform(-5, 1))
            power = int(generator.integers(1, 3))
            meant = dict(peak_rate=peak, warmup_steps=w)
            fixed = bert_schedule.fixed(peak, w, total, power)
            for known in (meant, {}):
                self.assertEqual(errors(fixed, total, **known), {})
            legacy = bert_schedule.model_garden_legacy(peak, w, total, power)
            drop = 100 * (1 - (1 - w / total) ** power)
            for known in (meant, {}):
                found = {
                    f.code: f for f in examine(legacy, total, **known).errors
                }
                self.assertEqual(found["jump"].step, w)
                self.assertAlmostEqual(found["jump"].amount, drop, delta=0.05)
                self.assertIn("decay_during_warmup", found)

    def test_jump_hidden_in_one_update(self):
        bug = bert_schedule.original(1.0, 30, 1000)
        self.assertEqual(
            errors(bug, 1000), {"jump": "3.0 %", "decay_during_warmup": "3.0 %"}
        )


class OtherBugsTest(parameterized.TestCase, tf.test.TestCase):
    @parameterized.named_parameters(
        (
            "cosine_not_shifted",
            lambda t: (
                t / 200 if t < 200 else 0.5 + 0.5 * math.cos(t * math.pi / 1000)
            ),
            {"jump": "9.5 %", "decay_during_warmup": "9.5 %"},
        ),
        (
            "exponential_not_shifted",
            lambda t: t / 200 if t < 200 else 0.999**t,
            {"jump": "18.1 %", "decay_during_warmup": "18.1 %"},
        ),
        (
            "inverse_root_not_shifted",
            lambda t: t / 200 if t < 200 else 1 / math.sqrt(1 + 0.01 * t),
            {"jump": "42.3 %"},
        ),
        (
            "warmup_to_a_tenth",
            lambda t: 0.1 * t / 200 if t < 200 else (1000 - t) / 800,
            {"jump": "900.0 %"},
        ),
        (
            "plateau_then_decay_not_shifted",
            lambda t: 1.0 if t < 800 else 1 - t / 1000,
            {"jump": "80.0 %"},
        ),
        (
            "boundary_left_out",
            lambda t: t / 100 if t < 100 else (1000 - t) / 900 * (t > 100),
            {"jump": "100.0 %"},
        ),
        (
            "negative",
            lambda t: 1 - t / 500,
            {"negative": "499 updates", "micro_steps": "50.0 %"},
        ),
        (
            "not_a_number",
            lambda t: math.sqrt(990 - t) if t <= 990 else math.nan,
            {"not_finite": "9 updates"},
        ),
        (
            "infinite",
            lambda t: math.inf if t == 0 else 1 / t,
            {"not_finite": "1 update"},
        ),
    )
    def test_found_with_its_size(self, schedule, want):
        self.assertEqual(errors(schedule, 1000), want)

    @parameterized.product(
        family=[Linear, Cosine, lambda p, n: Polynomial(p, n, power=2.0)],
        offset=[-1, 1],
        warmup=[0, 100],
    )
    def test_off_by_one_at_the_end(self, family, offset, warmup):
        bug = Warmup(family(0.3, 1000 - warmup + offset), warmup)
        self.assertEqual(errors(bug, 1000), {"off_by_one": "1 update"})
        clean = Warmup(family(0.3, 1000 - warmup), warmup)
        self.assertEqual(errors(clean, 1000), {})

    @parameterized.parameters(60, 10_000, 100_000)
    def test_off_by_one_of_a_run(self, total):
        found = {"off_by_one": "1 update"}
        early = errors(lambda t: (1 - t / (total - 1)) ** 2, total)
        late = errors(lambda t: (1 - t / (total + 1)) ** 2, total)
        self.assertEqual((early, late), (found, found))
        angle = math.pi / (total - 1)
        self.assertEqual(
            errors(lambda t: 1 + math.cos(angle * t), total), found
        )

    @parameterized.parameters(10_000, 100_000)
    def test_zeros_of_float32_are_no_error(self, total):
        angle = np.float32(math.pi) / np.float32(total)
        found = errors(lambda t: 1 + np.cos(angle * np.float32(t)), total)
        self.assertEqual(found, {})

    def test_a_cycle_that_begins_at_the_last_update(self):
        def restarts(step):
            return 1 + math.cos(math.pi * (step % 3333) / 3333)

        self.assertEqual(errors(restarts, 10_000), {"off_by_one": "1 update"})
        self.assertEqual(errors(restarts, 9_999), {})

    @parameterized.parameters((6, 30), (100, 10_000))
    def test_a_fall_as_large_as_the_rise_of_an_update(self, warmup, total):
        """The rate of the last update of warm-up twice: the hint tells."""

        def bug(t):
            return t / warmup if t < warmup else 1 - t / total

        def right(t):
            rest = (total - t) / (total - warmup)
            return t / warmup if t < warmup else rest

        found = errors(bug, total, warmup_steps=warmup)
        self.assertEqual(set(found), {"jump", "decay_during_warmup"})
        self.assertEqual(errors(right, total, warmup_steps=warmup), {})

    def test_off_by_one_of_mlperf_with_a_final_rate(self):
        row = (0.0, 29.0, 1e-4, 706, 2512, 1.0, 2.0)
        bug = PolynomialWarmupDecay(*row, decay_steps_offset=1)
        self.assertEqual(errors(bug, 2512), {"off_by_one": "1 update"})
        self.assertEqual(errors(PolynomialWarmupDecay(*row), 2512), {})

    def test_micro_steps_counted_as_updates(self):
        clean = bert_schedule.fixed(1.0, 100, 1000)
        self.assertEqual(
            errors(lambda t: clean(4 * t), 1000), {"micro_steps": "75.0 %"}
        )
        for slow in (
            bert_schedule.fixed(1.0, 400, 4000),
            lambda t: clean(t // 4),
        ):
            self.assertEqual(errors(slow, 1000), {"micro_steps": "4x"})
        found = examine(lambda t: clean(8 * t), 1000, warmup_steps=96).errors
        self.assertIn("micro_steps", [f.code for f in found])

    def test_keras_counts_micro_steps_where_it_accumulates(self):
        decay = keras.optimizers.schedules.PolynomialDecay
        for total, found in ((1000, {"micro_steps": "75.0 %"}), (4000, {})):
            optimizer = keras.optimizers.Adam(
                decay(0.1, total, 0.0), gradient_accumulation_steps=4
            )
            self.assertEqual(errors(optimizer, 1000), found)
            scaled = keras.optimizers.LossScaleOptimizer(optimizer)
            self.assertEqual(errors(scaled, 1000), found)
        ours = lbcheck.AdamW(Linear(0.1, 1000), gradient_accumulation_steps=4)
        self.assertEqual(errors(ours, 1000), {})

    def test_epochs_taken_for_steps(self):
        goyal = GoyalSteps(3.2, 5, (30, 60, 80))
        cosine = Warmup(Cosine(1.0, 85), 5)
        for bug in (goyal, cosine):
            self.assertEqual(errors(bug, 28140), {"epochs_for_steps": "99.7 %"})
        found = errors(cosine, 900, warmup_steps=50, steps_per_epoch=10)
        self.assertEqual(list(found), ["epochs_for_steps"])
        late = bert_schedule.fixed(1.0, 1000, 28140)
        self.assertIn("warmup_unfinished", errors(late, 90))

    def test_phases(self):
        parts = [
            bert_schedule.fixed(6e-4, 3125, 14063),
            bert_schedule.fixed(2.8e-4, 781, 1562),
        ]
        lengths = (14063, 1562)
        both = Phases(parts, lengths)
        self.assertEqual(errors(both, 15625, phase_starts=(14063,)), {})
        bugs = (
            parts[0],
            bert_schedule.fixed(6e-4, 3125, 15625),
            Phases((parts[0], Linear(2.8e-4, 1562)), lengths),
        )
        for bug in bugs:
            found = errors(bug, 15625, phase_starts=(14063,))
            self.assertEqual(list(found), ["phase_restart_missing"])
        self.assertEqual(errors(parts[0], 15625), {"ends_early": "10.0 %"})
        original = [
            bert_schedule.original(6e-4, 3125, 14063),
            bert_schedule.original(2.8e-4, 781, 1562),
        ]
        found = examine(Phases(original, lengths), 15625).errors
        self.assertEqual(
            [(f.code, f.step, f.size) for f in found],
            [("jump", 3125, "22.2 %"), ("jump", 14844, "50.0 %")],
        )
        late = examine(lambda t: parts[1](t + 14063), 1562).errors
        self.assertEqual([f.code for f in late], ["always_zero"])

    def test_warmup_that_is_not_as_meant(self):
        clean = bert_schedule.fixed(1.0, 100, 1000)
        self.assertEqual(
            errors(clean, 1000, warmup_steps=130), {"warmup_length": "0.7692x"}
        )
        found = errors(Linear(1.0, 1000), 1000, warmup_steps=100)
        self.assertEqual(list(found), ["no_warmup"])

    def test_peak_that_is_not_as_meant(self):
        clean = bert_schedule.fixed(1.0, 100, 1000)
        low = errors(clean, 1000, peak_rate=1.1)
        high = errors(clean, 1000, peak_rate=0.9)
        self.assertEqual(low, {"peak_low": "0.9091x"})
        self.assertEqual(high, {"peak_high": "1.111x"})

    def test_notes_are_no_errors(self):
        self.assertEqual(
            codes(bert_schedule.fixed(1.0, 9, 99), 99), ["first_update_zero"]
        )
        self.assertEqual(codes(Linear(1.0, 100), 100), ["no_warmup"])
        constant = schedules.Constant(0.1)
        self.assertEqual(codes(constant, 100), ["no_warmup", "never_zero"])
        goyal = examine(GoyalSteps(3.2, 781, (4691, 9383, 12511)), 14075)
        self.assertEqual(goyal.errors, ())
        step = next(f for f in goyal.findings if f.code == "step_decay")
        self.assertEqual((step.step, step.size), (4691, "90.0 %"))
        long = examine(Warmup(Linear(1.0, 1000), 100), 1000)
        self.assertEqual(long.errors, ())
        self.assertIn("all T updates", str(long))


class ReviewTest(parameterized.TestCase, tf.test.TestCase):
    """Defects that were once missed, or seen where there were none."""

    @parameterized.parameters(
        (10.0, 1, "peak_high", "10x"),
        (1.1, 10, "peak_high", "1.1x"),
        (1.01, 100, "peak_high", "1.01x"),
        (0.7, 3, "peak_low", "0.7x"),
        (0.5, 1, "peak_low", "0.5x"),
    )
    def test_peak_told(self, peak, w, code, size):
        bug = bert_schedule.fixed(peak, w, 1000)
        self.assertEqual(errors(bug, 1000, peak_rate=1.0), {code: size})

    @parameterized.product(
        row=[
            (0.0, 29.0, 1e-4, 706, 2512, 1.0, 2.0),
            (0.12, 7.05, 6e-6, 638, 2512, 2.497, 1.955),
            (0.0, 7.05, 6e-6, 706, 2512, 2.0, 2.0),
        ],
        ratio=[2, 4, 8],
    )
    def test_end_above_zero_inside_the_run(self, row, ratio):
        clean = PolynomialWarmupDecay(*row)
        self.assertEqual(errors(clean, 2512), {})
        size = f"{100 - 100 / ratio:.1f} %"
        self.assertEqual(
            errors(lambda t: clean(ratio * t), 2512), {"micro_steps": size}
        )
        early = PolynomialWarmupDecay(*row[:4], 2511, *row[5:])
        self.assertEqual(errors(early, 2512), {"off_by_one": "1 update"})

    def test_ends_of_keras_and_optax_inside_the_run(self):
        for library in (keras, tf_keras):
            decay = library.optimizers.schedules.PolynomialDecay(0.1, 250)
            self.assertEqual(errors(decay, 1000), {"micro_steps": "75.0 %"})
        # Under jit the end of optax's is -5e-9.
        self.assertEqual(
            errors(optax.linear_schedule(0.1, 0.0, 250), 1000),
            {"micro_steps": "75.0 %"},
        )
        self.assertEqual(
            errors(optax.linear_schedule(0.1, 0.0, 999), 1000),
            {"off_by_one": "1 update"},
        )
        self.assertEqual(
            errors(optax.linear_schedule(0.1, 0.0, 900), 1000),
            {"ends_early": "10.0 %"},
        )

    def test_rate_held_on_purpose(self):
        held = PolynomialWarmupDecay(0, 3.0, 3e-4, 977, 2658, 1, 2, 2400)
        self.assertEqual(errors(held, 2658), {})
        self.assertIn("ends_early", codes(held, 2658))
        self.assertEqual(
            errors(lambda t: 0.1 + 0.9 * max(0, 1 - t / 250), 1000),
            {"micro_steps": "75.0 %"},
        )

    @parameterized.product(
        row=[(10, 100, 1), (10, 500, 2), (25, 500, 2), (10, 100, 2)],
        told=[True, False],
    )
    def test_drop_after_short_warmup(self, row, told):
        w, total, power = row
        bug = bert_schedule.original(1.0, w, total, power)
        meant = dict(peak_rate=1.0, warmup_steps=w) if told else {}
        found = {f.code: f for f in examine(bug, total, **meant).errors}
        self.assertCountEqual(found, ["jump", "decay_during_warmup"])
        drop = 100 * (1 - (1 - w / total) ** power)
        self.assertAlmostEqual(found["jump"].amount, drop, delta=0.01)
        self.assertEqual(found["jump"].step, w)

    @parameterized.product(
        w=[5, 20, 100], after=[0.95, 0.5, 1.2], power=[0.5, 1.0, 2.0]
    )
    def test_what_is_told_is_used(self, w, after, power):
        def bug(t):
            if t < w:
                return (t / w) ** power
            return after * (1000 - t) / (1000 - w)

        found = errors(bug, 1000, peak_rate=1.0, warmup_steps=w)
        if after > 1:
            self.assertEqual(found["peak_high"], "1.2x")
        else:
            self.assertEqual(found["jump"], f"{100 - 100 * after:.1f} %")

    def test_phase_that_starts_late(self):
        def late(t):
            return max(0, 1 - t / 500) if t < 600 else (1000 - t) / 400

        found = examine(late, 1000, phase_starts=(500,)).errors
        self.assertEqual(
            [(f.code, f.step) for f in found], [("phase_restart_missing", 500)]
        )
        with self.assertRaisesRegex(ValueError, "phase_starts.*1000"):
            examine(late, 1000, phase_starts=(1000,))

    def test_schedule_of_epochs_asked_for_steps(self):
        found = errors(lambda e: 0.1 * 0.1 ** (e // 30), 28140)
        self.assertEqual(list(found), ["epochs_for_steps"])

    def test_bad_values_hide_nothing(self):
        def negative(t):
            return t / 100 if t < 100 else 0.5 - (t - 100) / 800

        found = errors(negative, 1000)
        self.assertEqual(found["negative"], "499 updates")
        self.assertEqual(found["jump"], "50.0 %")
        bug = bert_schedule.original(1.0, 300, 1000)
        found = errors(lambda t: math.nan if t == 600 else bug(t), 1000)
        self.assertEqual(found["not_finite"], "1 update")
        self.assertEqual(found["jump"], "30.0 %")

    @parameterized.parameters(20, 100, 1000, 20000)
    def test_clean_schedules_that_fall_fast_at_first(self, total):
        w, hold = total // 20, 0.9 * total

        def root(t):
            rest = max(0, t - hold) / (total - hold)
            return min(1, t / w) * (1 - math.sqrt(rest))

        def exponential(t):
            return math.exp(-60 * max(0, t - hold) / total)

        meant = dict(peak_rate=1.0, warmup_steps=w)
        for clean in (
            root,
            exponential,
            lambda t: max(t, 1) ** -0.5,
            lambda t: 1 / max(t, 1),
            lambda t: (
                min(1, (t + 1) / (total / 10)) * 0.94 ** (t * 20 // total)
            ),
        ):
            self.assertEqual(errors(clean, total), {})
        self.assertEqual(errors(root, total, **meant), {})


def clean_schedule(generator, library, total):
    """A random schedule without a defect."""
    peak = float(10 ** generator.uniform(-5, 1.5))
    w = int(generator.integers(1, total // 2))
    span = int(generator.integers(1, total))
    factor = float(generator.uniform(0.1, 0.99))
    # Else it is next to nothing for half the run: a schedule of epochs.
    factor = max(factor, 1e-3 ** (span / total))
    stairs = bool(generator.integers(2))
    places = np.sort(generator.choice(np.arange(1, total), 3, replace=False))
    power = float(generator.choice([0.5, 1.0, 1.7, 3.0]))
    if library is optax:
        return generator.choice(
            [
                lambda: optax.cosine_decay_schedule(peak, total),
                lambda: optax.warmup_cosine_decay_schedule(0.0, peak, w, total),
                lambda: optax.polynomial_schedule(
                    peak, 0.0, power, total - w, w
                ),
                lambda: optax.exponential_decay(
                    peak, span, factor, transition_begin=w, staircase=stairs
                ),
                lambda: optax.piecewise_constant_schedule(
                    peak, {int(place): 0.1 for place in places}
                ),
                lambda: optax.linear_onecycle_schedule(total, peak),
                lambda: optax.cosine_onecycle_schedule(total, peak),
                lambda: optax.warmup_exponential_decay_schedule(
                    0.0, peak, w, span, factor
                ),
            ]
        )()
    library = library.optimizers.schedules
    return generator.choice(
        [
            lambda: library.CosineDecay(peak, total, alpha=0.1 * stairs),
            lambda: library.CosineDecay(
                0.0, total - w, warmup_target=peak, warmup_steps=w
            ),
            lambda: library.PolynomialDecay(
                peak, total, end_learning_rate=0.01 * peak * stairs, power=power
            ),
            lambda: library.ExponentialDecay(peak, span, factor, stairs),
            lambda: library.PiecewiseConstantDecay(
                places.tolist(), [peak, peak / 10, peak / 100, peak / 1000]
            ),
            lambda: library.InverseTimeDecay(peak, span, 5 * factor, stairs),
            lambda: library.CosineDecayRestarts(peak, span + 10, 2.0, 0.8),
        ]
    )()


class CleanSchedulesTest(parameterized.TestCase, tf.test.TestCase):
    @parameterized.parameters((keras, 23), (tf_keras, 22), (optax, 22))
    def test_no_error_on_random_clean_schedules(self, library, number):
        self.assert_no_error(library, number)

    @parameterized.parameters((keras, 67), (tf_keras, 67), (optax, 66))
    @pytest.mark.slow  # a minute; every rate is computed by the library
    def test_no_error_on_200_random_clean_schedules(self, library, number):
        self.assert_no_error(library, number)

    def assert_no_error(self, library, number):
        generator = np.random.default_rng(number)
        for index in range(number):
            total = int(generator.integers(60, 1500))
            schedule = clean_schedule(generator, library, total)
            found = examine(schedule, total)
            self.assertEqual(found.errors, (), f"{index}: {found}")

    def test_no_error_on_clean_schedules_of_any_shape(self):
        generator = np.random.default_rng(11)
        for index in range(600):
            total = int(generator.integers(20, 4000))
            w = int(
                generator.integers(
                    0, min(total - 2, 30 if index % 2 else total)
                )
            )
            peak = float(10 ** generator.uniform(-5, 1))
            p_w, p_d = generator.uniform(0.4, 4, 2)
            t, rest = np.arange(total), total - w
            early = np.where(w > t, (t + 1) / (w + 1), 1.0)
            held = w + rest // 2
            schedule = (
                PolynomialWarmupDecay(0, peak, 0, w, total, p_w, p_d),
                PolynomialWarmupDecay(
                    peak / 9, peak, peak / 99, w, total, p_w, p_d
                ),
                Warmup(Cosine(peak, rest), w, p_w),
                Warmup(schedules.Constant(peak), w, p_w),
                peak * np.where(t < w, early, (total - t) / rest),
                peak * early / np.sqrt(1 + np.maximum(t - w, 0) / max(w, 10)),
                peak * early * np.exp(-p_d * np.maximum(t - w, 0) / rest),
                peak * early * np.minimum(1, (total - t) / (total - held)),
            )[index % 8]
            if index % 3 == 0 and isinstance(schedule, np.ndarray):
                schedule = schedule.astype(np.float32)
            for meant in ({}, dict(peak_rate=peak, warmup_steps=w)):
                found = examine(schedule, total, **meant)
                self.assertEqual(found.errors, (), f"{index}: {found}")

    def test_common_schedules_of_others(self):
        for schedule in (
            lambda t: min((t + 1) ** -0.5, (t + 1) * 400**-1.5),
            lambda t: 1.0 if t < 800 else (1000 - t) / 200,
            lambda t: abs(t % 100 - 50) / 50,
            lambda t: (t % 100) / 100,
            lambda t: min((t + 1) / 100, (10100 - t) / 10001),
            lambda t: 0.97 ** (t // 30),
            # Torch's ChainedScheduler of a warm-up and of an epoch's decay.
            lambda t: min(1, (t + 1) / 250) * 0.97 ** (t // 60),
            # To 0.00115; the last updates change the rate by about that.
            lambda t: 1 - 0.99885 * t / 1000,
        ):
            self.assertEqual(errors(schedule, 1000), {})
        self.assertEqual(
            errors(bert_schedule.fixed(1.0, 100, 10100), 10100), {}
        )


class LogTest(parameterized.TestCase, tf.test.TestCase):
    def write(self, rows, header="step,learning_rate"):
        path = self.get_temp_dir() + "/log.csv"
        with open(path, "w") as file:
            file.write("\n".join([header, *(f"{s},{r}" for s, r in rows)]))
        return path

    @parameterized.parameters(1, 10, 50)
    def test_log_of_the_bug(self, every):
        bug = bert_schedule.original(6e-4, 3125, 14063)
        path = self.write([(t, bug(t)) for t in range(0, 14063, every)])
        meant = dict(peak_rate=6e-4, warmup_steps=3125)
        found = {f.code: f for f in examine(path, 14063, **meant).errors}
        self.assertAlmostEqual(found["jump"].amount, 22.2, delta=0.3)
        self.assertLessEqual(abs(found["jump"].step - 3125), every)
        clean = bert_schedule.fixed(6e-4, 3125, 14063)
        path = self.write([(t, clean(t)) for t in range(0, 14063, every)])
        self.assertEqual(errors(path, 14063, **meant), {})

    @parameterized.product(digits=[".1e", ".3g", ".4g"], every=[3, 10, 50])
    def test_rounded_logs_of_the_bug_and_of_clean_schedules(
        self, digits, every
    ):
        """What is rounded is no jump, and hides none."""
        rise = schedules.Cosine(0.0301, 9000 - 700)
        clean = (
            bert_schedule.fixed(3.3e-4, 1500, 9000),
            PolynomialWarmupDecay(0.1, 0.7, 0.01, 2500, 9000, 1.7, 2.3),
            Warmup(rise, 700, 1.0),
            Warmup(schedules.Constant(2.6e-4), 1650, 0.9),
        )
        for schedule, peak, w in zip(
            clean, (3.3e-4, 0.7, 0.0301, 2.6e-4), (1500, 2500, 700, 1650)
        ):
            rows = [
                (t, f"{schedule(t):{digits}}") for t in range(0, 9000, every)
            ]
            path = self.write(rows)
            for meant in ({}, dict(peak_rate=peak, warmup_steps=w)):
                self.assertEqual(errors(path, 9000, **meant), {}, schedule)
        bug = bert_schedule.original(3.3e-4, 2000, 9000)
        rows = [(t, f"{bug(t):{digits}}") for t in range(0, 9000, every)]
        found = {f.code: f for f in examine(self.write(rows), 9000).errors}
        self.assertLessEqual(abs(found["jump"].step - 2000), every)

    @parameterized.parameters(".2e", ".3g", ".4g", ".5f")
    def test_rounded_logs_of_schedules_that_end_early(self, digits):
        """The last digit of the peak is not that of the end."""
        for end in (1940, 1900, 1800):
            decay = schedules.Linear(0.7, end)
            rows = [
                (t, f"{decay(t) if t < end else 0.0:{digits}}")
                for t in range(2000)
            ]
            found = {f.code: f for f in examine(self.write(rows), 2000).errors}
            self.assertEqual(list(found), ["ends_early"], end)
            self.assertEqual(found["ends_early"].step, end)
        for power in (1.0, 2.0, 3.0):
            foot = schedules.Polynomial(0.7, 2000, power=power)
            rows = [(t, f"{foot(t):{digits}}") for t in range(2000)]
            self.assertEqual(errors(self.write(rows), 2000), {}, power)

    @parameterized.parameters((1, ".5f"), (10, ".5f"), (1, ".3f"), (10, ".1f"))
    def test_zeros_of_fixed_decimals(self, every, digits):
        """A foot that is printed as 0 is no end; a decay that is over is."""
        digit = 10.0 ** -int(digits[1])
        for units in (12, 35, 150):
            peak = units * digit
            for decay in (
                schedules.Polynomial(peak, 4000, power=3.0),
                Cosine(peak, 4000),
                lambda t, peak=peak: peak * np.exp(-t / 500),
            ):
                rows = [
                    (t, f"{float(decay(t)):{digits}}")
                    for t in range(0, 4000, every)
                ]
                found = examine(self.write(rows), 4000)
                self.assertEqual(found.errors, (), (units, decay))
        over = schedules.Linear(peak, 3000)
        rows = [
            (t, f"{float(over(t)):{digits}}") for t in range(0, 4000, every)
        ]
        (found,) = examine(self.write(rows), 4000).errors
        self.assertEqual(found.code, "ends_early")
        # Of 12 units a square foot that is over at 0.8 looks like one to T.
        short = schedules.Polynomial(12 * digit, 3200, power=2.0)
        rows = [
            (t, f"{float(short(t)):{digits}}") for t in range(0, 4000, every)
        ]
        codes = [f.code for f in examine(self.write(rows), 4000).findings]
        self.assertIn("rounded_to_zero", codes)

    def test_zeros_of_irregular_and_cut_logs(self):
        """Rows at any steps, and a run that has but few units of a log."""
        rows = [
            (t, f"{1e-3 * (1 - t / 2000):.5f}") for t in range(0, 1000, 500)
        ]
        rows += [
            (t, f"{2e-5 * (1999 - t) / 99:.5f}") for t in range(1900, 2000)
        ]
        codes = [f.code for f in examine(self.write(rows), 2000).findings]
        self.assertNotIn("ends_early", codes)
        low = [(t, "0.00002" if t < 5 else "0.00000") for t in range(100)]
        rows = low + [(t, "0.00100") for t in range(100, 200)]
        codes = [f.code for f in examine(self.write(rows), 100).findings]
        self.assertIn("rounded_to_zero", codes)

    def test_logs_of_one_digit_are_refused(self):
        """Where rounding hides the schedule; not where rates are exact."""
        for peak, digits in (
            (1e-5, ".5f"), (4.4e-5, ".5f"), (0.1, ".1f"), (0.003, ".3f"),
            (3e-4, ".0e"), (0.2, ".1g"),
        ):  # fmt: skip
            clean = Warmup(schedules.Linear(peak, 1500), 500)
            rows = [(t, f"{float(clean(t)):{digits}}") for t in range(2000)]
            with self.assertRaisesRegex(ValueError, "one digit"):
                examine(self.write(rows), 2000)
        with self.assertRaisesRegex(ValueError, "one digit, 0 at most"):
            examine(self.write([(t, "0.00000") for t in range(99)]), 99)
        # Of a peak with more digits than the log shows.
        held = [(t, f"{min(1.25e-4, t * 1e-6):.1e}") for t in range(0, 990, 99)]
        held = examine(self.write(held), 990, peak_rate=1.25e-4)
        self.assertEqual(held.errors, ())
        steps = [0.1] * 300 + [0.01] * 300 + [0.001] * 300
        constant = [0.1] * 900
        one_zero = [0.0] + [1e-5] * 899
        over = [2e-5] * 600 + [0.0] * 300
        per_epoch = [0.1, 0.2, 0.3, 0.4, 0.5, 0.5, 0.5]
        for rates in (steps, constant, one_zero, over, per_epoch):
            examine(self.write(list(enumerate(rates))), len(rates))
        (found,) = examine(self.write(list(enumerate(over))), 900).errors
        self.assertEqual(found.code, "ends_early")

    def test_clean_logs_sampled_shifted_and_rounded(self):
        meant = dict(peak_rate=6e-4, warmup_steps=781)
        clean = bert_schedule.fixed(6e-4, 781, 1562)
        for every in (1, 10, 50, 100):
            for first in {0, 1, every - 1}:
                steps = range(first, 1563, every)
                path = self.write([(t, clean(t)) for t in steps])
                self.assertEqual(errors(path, 1562, **meant), {})
        path = self.write([(t + 1, clean(t)) for t in range(1562)])
        self.assertEqual(errors(path, 1562, **meant), {})
        for digits in (".5f", ".6f", ".7f", ".1e", ".2e"):
            rows = [(t, f"{clean(t):{digits}}") for t in range(1562)]
            self.assertEqual(
                errors(self.write(rows), 1562, **meant), {}, digits
            )
        short = bert_schedule.fixed(1.0, 5, 1000)
        path = self.write([(t, short(t)) for t in range(9, 1000, 10)])
        told = errors(path, 1000, peak_rate=1.0, warmup_steps=5)
        self.assertEqual(told, {})

    def test_log_in_micro_steps_and_after_a_wrong_resume(self):
        clean = bert_schedule.fixed(1.0, 100, 1000)
        rows = [(t, clean(t // 4)) for t in range(4000)]
        self.assertIn("micro_steps", errors(self.write(rows), 1000))
        rows = [(t, clean(t)) for t in range(500)]
        rows += [(t, clean(t - 400)) for t in range(400, 1000)]
        self.assertIn("resume_mismatch", errors(self.write(rows), 1000))

    def test_log_that_ends_before_the_run(self):
        clean = bert_schedule.fixed(1.0, 10, 90)
        path = self.write([(t, clean(t)) for t in range(91)])
        found = examine(path, 28140)
        self.assertEqual([f.code for f in found.errors], ["epochs_for_steps"])
        path = self.write([(t, clean(t)) for t in range(60)], "0,0.0")
        found = examine(path, 90)
        self.assertEqual(found.errors, ())
        self.assertIn("log_incomplete", [f.code for f in found.findings])
        self.assertEqual(examine(path).total_steps, 60)

    def test_bad_files_are_named_by_line(self):
        path = self.write([(0, 1.0), (1, "x"), (2, 0.5)])
        with self.assertRaisesRegex(ValueError, "line 3.*'1,x'"):
            examine(path)
        with self.assertRaisesRegex(ValueError, "at least 3 steps"):
            examine(self.write([(0, 1.0)]))
        with self.assertRaisesRegex(ValueError, "nowhere.csv"):
            examine("nowhere.csv")


def raises_late(step):
    """A schedule that fails in the middle of the run."""
    return [1.0] * 50 + [0.5] if step < 0 else ([1.0] * 50)[step]


class InputTest(parameterized.TestCase, tf.test.TestCase):
    @parameterized.parameters(
        (dict(total_steps=0), "total_steps.*0"),
        (dict(total_steps=-3), "total_steps.*-3"),
        (dict(total_steps=None), "total_steps.*None"),
        (dict(total_steps=10.5), "total_steps.*10.5"),
        (dict(peak_rate=float("nan")), "peak_rate.*nan"),
        (dict(peak_rate=0), "peak_rate.*0"),
        (dict(warmup_steps=101), "warmup_steps=101"),
        (dict(warmup_steps=-1), "warmup_steps.*-1"),
        (dict(steps_per_epoch=0), "steps_per_epoch.*0"),
        (dict(phase_starts=(0.5,)), "phase_starts.*0.5"),
    )
    def test_bad_arguments_are_named(self, change, message):
        meant = dict(total_steps=100) | change
        with self.assertRaisesRegex(ValueError, message):
            examine(Linear(1.0, 100), **meant)

    def test_bad_schedules_are_named(self):
        with self.assertRaisesRegex(ValueError, "IndexError at step 50"):
            examine(raises_late, 100)
        with self.assertRaisesRegex(ValueError, "one number.*'a'"):
            examine(lambda t: "a", 100)
        with self.assertRaisesRegex(ValueError, "one number.*None"):
            examine(lambda t: None, 100)
        with self.assertRaisesRegex(TypeError, "schedule.*0.1"):
            examine(0.1, 100)

    def test_schedule_that_cannot_be_traced(self):
        def eager(step):
            return tf.constant(1.0 if int(step) < 5 else 0.5)

        found = examine(eager, 10)
        self.assertAllEqual(found.rates, [1.0] * 5 + [0.5] * 5)

    def test_json_text_and_figure(self):
        found = examine(bert_schedule.original(1.0, 50, 100), 100)
        described = json.loads(found.to_json())
        self.assertEqual(described["errors"], 2)
        self.assertEqual(described["findings"][0]["code"], "jump")
        self.assertEqual(described["findings"][0]["size"], "50.0 %")
        self.assertIn("ERROR jump at step 50 (50.0 %)", str(found))
        path = self.get_temp_dir() + "/figure.svg"
        found.save_figure(path)
        with open(path) as file:
            self.assertIn("<svg", file.read())


MODULE = """
from bert.schedule import fixed, original
def bug(): return original(1.0, 781, 1562)
def clean(): return fixed(1.0, 781, 1562)
def rate(step): return 1.0 - step / 1562
def default(step=0): return 1.0 - step / 1562
def broken(): raise RuntimeError("no data")
"""


class CommandTest(parameterized.TestCase, tf.test.TestCase):
    def run_command(self, *arguments):
        folder = self.get_temp_dir()
        with open(folder + "/my_module.py", "w") as file:
            file.write(MODULE)
        code = "from lbcheck import cli; cli.main()"
        return subprocess.run(
            [sys.executable, "-c", code, "schedule", *arguments],
            capture_output=True,
            text=True,
            cwd=folder,
        )

    def test_exit_codes(self):
        for name, code in (
            ("bug", 1),
            ("clean", 0),
            ("rate", 0),
            ("default", 0),
        ):
            done = self.run_command(f"my_module:{name}", "--total_steps=1562")
            self.assertEqual(done.returncode, code, name + done.stderr)
        for arguments in (
            ["my_module:broken", "--total_steps=1562"],
            ["my_module:missing", "--total_steps=1562"],
            ["my_module:clean"],
            ["my_module:clean", "--total_steps=-1"],
            ["missing.csv"],
        ):
            done = self.run_command(*arguments)
            self.assertEqual(done.returncode, 2, done.stdout)
            self.assertNotIn("Traceback", done.stderr)
            self.assertIn("lbcheck schedule:", done.stderr)

    def test_a_model_may_be_named(self):
        model = keras.Sequential([keras.layers.Dense(1)])
        decay = keras.optimizers.schedules.PolynomialDecay(0.1, 100, 0.0)
        model.compile(keras.optimizers.SGD(decay), "mse")
        sys.modules["of_model"] = types.SimpleNamespace(model=model)
        self.addCleanup(sys.modules.pop, "of_model")
        found = schedule_command.find_schedule("of_model:model")
        self.assertEqual(errors(found, 100), {})

    def test_json_and_figure(self):
        done = self.run_command(
            "my_module:bug",
            "--total_steps=1562",
            "--format=json",
            "--figure=figure.png",
        )
        self.assertEqual(done.returncode, 1)
        finding = json.loads(done.stdout)["findings"][0]
        self.assertEqual((finding["size"], finding["step"]), ("50.0 %", 781))
        with open(self.get_temp_dir() + "/figure.png", "rb") as file:
            self.assertEqual(file.read(4), b"\x89PNG")


if __name__ == "__main__":
    tf.test.main()


def test_a_warmup_that_is_not_meant():
    def rate(step):
        return 0.1 * min(step / 100, (1000 - step) / 900)

    found = {f.code: f for f in examine(rate, 1000, warmup_steps=0).errors}
    assert found["warmup_length"].step == 100
    plain = schedules.Cosine(0.1, 1000)
    codes = {f.code for f in examine(plain, 1000, warmup_steps=0).errors}
    assert "warmup_length" not in codes
