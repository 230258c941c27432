"""BERT's schedules against the formulas of the code that they come from."""

import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import tensorflow as tf
import tf_keras
from absl.testing import parameterized
from official.modeling.optimization import lr_schedule
from official.nlp import optimization

from bert import schedule as bert_schedule
from lbcheck import schedules
from lbcheck.schedules.doctor import sampling

# Warm-up, total and what is lost at the boundary, in per cent.
DROPS = (
    (3125, 14063, 22.2),
    (781, 1562, 50.0),
    (2000, 7037, 28.4),
    (390, 781, 49.9),
    (10_000, 1_000_000, 1.0),
)


def released(t, peak, w, total):
    """google-research/bert: decay from step 0, warm-up mixed in by a flag."""
    decayed = peak * (1.0 - min(t, total) / total)
    is_warmup = float(t < w)
    return (1.0 - is_warmup) * decayed + is_warmup * (peak * (t / w))


class FormulasTest(parameterized.TestCase, tf.test.TestCase):
    @parameterized.parameters(*DROPS[:4])
    def test_original_equals_the_released_code_at_every_step(self, w, total, _):
        schedule = bert_schedule.original(6e-4, w, total)
        want = [released(t, 6e-4, w, total) for t in range(total + 10)]
        got = schedule(np.arange(total + 10))
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-20)
        fixed = bert_schedule.fixed(6e-4, w, total)(np.arange(total + 10))
        self.assertGreater(np.max(np.abs(fixed - want)), 1e-4)

    @parameterized.parameters(*DROPS)
    def test_drop_in_per_cent(self, w, total, drop):
        original = bert_schedule.original(1.0, w, total)
        fixed = bert_schedule.fixed(1.0, w, total)
        got = bert_schedule.drop_at_boundary(original, w)
        self.assertEqual(f"{got:.1f}", f"{drop:.1f}")
        self.assertEqual(bert_schedule.drop_at_boundary(fixed, w), 0.0)

    def test_fixed_is_continuous_for_1000_settings(self):
        generator = np.random.default_rng(3)
        for _ in range(1000):
            total = int(generator.integers(2, 3000))
            w = int(generator.integers(0, total))
            power = float(generator.choice([1, 2, generator.uniform(1, 4)]))
            peak = float(10 ** generator.uniform(-5, 1))
            rates = bert_schedule.fixed(peak, w, total, power)(
                np.arange(total + 1)
            )
            # With p >= 1 no update moves the rate by more than p times what
            # a straight line over that piece does.
            limits = np.full(total, power * peak / (total - w))
            limits[:w] = power * peak / max(w, 1)
            changes = np.abs(np.diff(rates))
            self.assertTrue(np.all(changes <= limits * (1 + 1e-9)))
            self.assertEqual(rates[w], peak)
            if total - w > 20 and w > total // 10 and w > 20:
                broken = bert_schedule.original(peak, w, total, power)(
                    np.arange(total + 1)
                )
                changes = np.abs(np.diff(broken))
                self.assertFalse(np.all(changes <= limits * 1.5))

    def test_nvidia_adam_and_lamb(self):
        adam = bert_schedule.nvidia_adam(6e-3, 2000, 5774)(np.arange(5774))
        raised = 6e-3 * 6e-3 / (6e-3 * (1.0 - 2000.0 / 5774.0))
        want = [
            raised * t / 2000 if t < 2000 else raised * (1 - t / 5774)
            for t in range(5774)
        ]
        np.testing.assert_allclose(adam, want, rtol=1e-12)
        self.assertAlmostEqual(adam.max() / 6e-3, 1.529, 3)
        for w, total, drop in ((2000, 5774, 19.2), (200, 642, 17.0)):
            lamb = bert_schedule.nvidia_lamb(1.0, w, total)
            want = [
                t / w if t < w else (1 - t / total) ** 0.5 for t in range(total)
            ]
            np.testing.assert_allclose(lamb(np.arange(total)), want, rtol=1e-12)
            lost = bert_schedule.drop_at_boundary(lamb, w)
            self.assertEqual(f"{lost:.1f}", f"{drop:.1f}")

    def test_implicit_warmup(self):
        constant = schedules.Constant(2.0)
        got = bert_schedule.implicit_warmup(constant, 0.9, 0.999)
        t = np.arange(1, 5001, dtype=np.float64)
        want = 2.0 * np.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        np.testing.assert_allclose(got(np.arange(5000)), want, rtol=1e-10)
        # The printed formula, with the root over the whole fraction.
        printed = 2.0 * np.sqrt((1 - 0.999**t) / (1 - 0.9**t))
        self.assertGreater(np.max(np.abs(printed / want - 1)), 0.5)
        bare = bert_schedule.implicit_warmup(constant, 0.0, 0.0)
        self.assertEqual(bare(0), 2.0)

    def test_bad_input_is_named(self):
        for make in bert_schedule.VARIANTS.values():
            with self.assertRaisesRegex(ValueError, "warmup_steps.*11"):
                make(1.0, 11, 10)
            with self.assertRaisesRegex(ValueError, "nan"):
                make(float("nan"), 1, 10)
            with self.assertRaisesRegex(ValueError, "total_steps.*0"):
                make(1.0, 0, 0)
        with self.assertRaisesRegex(ValueError, "warmup_steps.*10"):
            bert_schedule.nvidia_adam(1.0, 10, 10)


class InstalledModelGardenTest(parameterized.TestCase, tf.test.TestCase):
    @parameterized.product(shape=[d[:2] for d in DROPS[:3]], power=[1.0, 2.0])
    def test_legacy_equals_what_is_installed(self, shape, power):
        w, total = shape
        installed = optimization.create_optimizer(
            6e-4, total, w, poly_power=power
        ).learning_rate
        want = sampling.evaluator(installed)(np.arange(total))
        ours = bert_schedule.model_garden_legacy(6e-4, w, total, power)
        np.testing.assert_allclose(
            ours(np.arange(total)), want, rtol=2e-6, atol=6e-4 * 3e-7
        )

    def test_lowered_peak_equals_what_is_installed(self):
        decay = tf_keras.optimizers.schedules.PolynomialDecay(1.0, 14063, 0.0)
        installed = lr_schedule.LinearWarmup(decay, 3125, 0.0)
        want = sampling.evaluator(installed)(np.arange(14063))
        ours = bert_schedule.model_garden_lowered_peak(1.0, 3125, 14063)
        np.testing.assert_allclose(ours(np.arange(14063)), want, atol=3e-7)
        self.assertAlmostEqual(want.max(), 0.778, 3)


class CommandTest(parameterized.TestCase, tf.test.TestCase):
    def run_module(self, module, *arguments):
        return subprocess.run(
            [sys.executable, "-m", module, *arguments],
            capture_output=True,
            text=True,
        )

    def test_prints_the_drop_and_writes_figure_2(self):
        folder = self.make_folder()
        done = self.run_module(
            "bert.schedule",
            "--peak=5.9415e-4",
            "--warmup_steps=3125",
            "--total_steps=14063",
            f"--output_dir={folder}",
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        lines = {
            line.split()[0]: line.split()[1:]
            for line in done.stdout.splitlines()
        }
        self.assertEqual(lines["original"][2], "22.2")
        self.assertEqual(lines["fixed"][2], "0.0")
        self.check_figures(folder, "figure_2", "bias_correction")

    def make_folder(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        return folder.name

    def check_figures(self, folder, *stems):
        names = {p.name for p in pathlib.Path(folder).iterdir()}
        kinds = (".png", ".svg")
        self.assertEqual(names, {s + kind for s in stems for kind in kinds})
        for path in pathlib.Path(folder).iterdir():
            start = path.read_bytes()[:8]
            png = start == b"\x89PNG\r\n\x1a\n"
            self.assertEqual(png, path.suffix == ".png")

    def test_json_has_the_numbers_of_the_text(self):
        folder = self.make_folder()
        done = self.run_module(
            "bert.schedule",
            "--peak=2e-3",
            "--warmup_steps=10",
            "--total_steps=40",
            "--format=json",
            f"--output_dir={folder}",
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        found = json.loads(done.stdout)
        self.assertEqual(set(found["schedules"]), set(bert_schedule.VARIANTS))
        self.assertEqual(
            found["schedules"]["original"],
            {"highest": 1.8e-3, "at_w": 1.5e-3, "drop_percent": 25.0},
        )
        self.assertTrue(
            all(pathlib.Path(p).is_file() for p in found["figures"])
        )

    @parameterized.parameters(
        ("--warmup_steps=9000", "`warmup_steps` must be at most"),
        ("--peak=nan", "--peak=nan: expected a finite number"),
        ("--power=inf", "--power=inf: expected a finite number"),
        ("--peak=-0.1", "--peak=-0.1"),
        ("--total_steps=3000000000", "--total_steps=3000000000"),
        ("--output_dir=/proc/none/figures", "/proc/none"),
        ("--output_dir=/dev/null", "/dev/null"),
    )
    def test_bad_input_is_one_clear_line(self, argument, message):
        done = self.run_module(
            "bert.schedule",
            "--peak=1",
            "--warmup_steps=2",
            "--total_steps=5",
            argument,
        )
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn(message, done.stderr)
        self.assertLen(done.stderr.splitlines(), 1)
        self.assertEqual(done.stdout, "")

    def test_the_highest_rate_of_a_long_run_is_that_of_every_update(self):
        late = schedules.Warmup(schedules.Constant(1.0), 3_000_000)
        found = bert_schedule.highest(late, 2_500_000)
        self.assertEqual(found, late(2_499_999))


if __name__ == "__main__":
    tf.test.main()
