"""BERT's flagfiles resolve to the numbers that the papers print."""

import pathlib
import re
import unittest

from absl import flags

from bert import families
from bert import settings
from lbcheck import published
from lbcheck.schedules import scaling
from lbcheck.settings import command_line
from lbcheck.settings import optimizer
from lbcheck.settings import schedule

_FOLDER = pathlib.Path(__file__).parents[2] / "flags/bert"
_PUBLISHED = sorted(
    path.stem for path in _FOLDER.glob("*.flags") if "20" in path.stem
)
_EXCLUDED = ["LayerNorm", "layer_norm", "bias"]


def text(name):
    """A flagfile with its comment in one line."""
    content = (_FOLDER / f"{name}.flags").read_text()
    return re.sub(r"\n# ", " ", content)


def phases(name):
    """The flags of both phases, checked as the program checks them."""
    found = flags.FlagValues()
    settings.define(found)
    command_line.parse(
        found, ["pretrain", f"--flagfile={_FOLDER}/{name}.flags"]
    )
    settings.check(found)
    return settings.phase(found, 1), settings.phase(found, 2)


def values(phase, names):
    """{name: value} of some flags."""
    return {name: phase[name].value for name in names}


class NadoTest(unittest.TestCase):
    def test_table_7_with_the_doubtful_rows_as_printed(self):
        rows = published.load("nado2021_table7")["rows"]
        for name, of_phases, updates in (
            ("32k", (0, 1), 15_625),
            ("65k_32k", (2, 3), 8_599),
            ("65k", (2, 4), 7_818),
        ):
            both = phases(f"nado2021_{name}")
            for phase, row in zip(both, (rows[i] for i in of_phases)):
                printed = {n: row[n] for n in row if n in phase}
                del printed["phase"]  # of both, a flag of the program
                printed["train_steps"] = row["steps"]
                self.assertEqual(len(printed), 8)
                self.assertEqual(values(phase, printed), printed)
                length = f"wiki_books_{row['sequence_length']}/"
                self.assertIn(length, phase.train_data[0])
                self.assertIn(length, phase.validation_data[0])
                self.assertEqual(phase.optimizer, "adamw")
                self.assertEqual(phase.epsilon, 1e-11)
                self.assertTrue(phase.bias_correction)
                self.assertEqual(phase.schedule, "fixed")
            self.assertEqual(sum(p.train_steps for p in both), updates)
            doubtful = "opposite columns" in text(f"nado2021_{name}")
            self.assertEqual(doubtful, name != "65k")
        swapped = [phases(f"nado2021_{n}")[1] for n in ("32k", "65k_32k")]
        self.assertEqual(swapped[0].beta_1, swapped[1].beta_2)
        self.assertEqual(swapped[0].beta_2, swapped[1].beta_1)

    def test_table_3_is_in_the_comments(self):
        for name, f1 in (("32k", 91.58), ("65k_32k", 91.04), ("65k", 90.46)):
            self.assertIn(f"F1 {f1}", text(f"nado2021_{name}"))


class YouTest(unittest.TestCase):
    def test_the_rule_at_every_batch(self):
        for row in published.load("you2019_table4")["rows"]:
            batch = row["batch_size"]
            name = f"you2019_lamb_{batch}"
            first, second = phases(name)
            rule = scaling.lamb_bert(batch)
            total = first.train_steps + second.train_steps
            self.assertEqual(total, rule.total_steps)
            self.assertEqual(first.warmup_steps, rule.warmup_steps)
            for phase in (first, second):
                rate = phase.learning_rate
                self.assertAlmostEqual(rate, rule.peak_rate, delta=1e-9 * rate)
                self.assertEqual(phase.batch_size, batch)
            self.assertIn(
                f"F1 {row['f1']:.3f}, exact match {row['exact_match']:.3f}.",
                text(name),
            )

    def test_warm_ups_are_those_that_nado_et_al_took_over(self):
        rows = published.load("nado2021_table7")["rows"]
        for name, printed in (("32768", rows[:2]), ("65536_32768", rows[2:4])):
            for phase, row in zip(phases(f"you2019_lamb_{name}"), printed):
                self.assertEqual(phase.warmup_steps, row["warmup_steps"])
                self.assertEqual(phase.train_steps, row["steps"])
                self.assertEqual(phase.batch_size, row["batch_size"])
        mixed = phases("you2019_lamb_65536_32768")[0]
        rate = scaling.lamb_bert(65_536).peak_rate
        self.assertAlmostEqual(mixed.learning_rate, rate, delta=1e-11)

    def test_lambs_defaults(self):
        for name in _PUBLISHED:
            if "lamb" in name:
                for phase in phases(name):
                    want = {
                        "optimizer": "lamb",
                        "beta_1": 0.9,
                        "beta_2": 0.999,
                        "epsilon": 1e-6,
                        "weight_decay": 0.01,
                        "exclude_from_layer_adaptation": _EXCLUDED,
                    }
                    self.assertEqual(values(phase, want), want)

    def test_table_8(self):
        rows = published.load("you2019_table8")["rows"]
        self.assertEqual(len(rows), 9)
        for row in rows:
            ratio, rate = row["warmup_ratio"], row["learning_rate"]
            name = (
                f"you2019_adamw_warmup_{round(100 * ratio)}_rate_"
                f"{round(1e4 * rate)}e-4"
            )
            first, second = phases(name)
            self.assertEqual(first.train_steps + second.train_steps, 31_250)
            # Three runs diverged at update 28,126, the first of phase 2.
            self.assertEqual(first.train_steps, 28_125)
            self.assertEqual(first.warmup_steps, int(ratio * 31_250))
            self.assertEqual(second.warmup_steps, int(ratio * 3_125))
            for phase in (first, second):
                self.assertEqual(phase.learning_rate, rate)
                self.assertEqual(phase.batch_size, 16_384)
                self.assertEqual(phase.optimizer, "adamw")
                self.assertFalse(phase.bias_correction)
            if row["f1"] == "diverged":
                self.assertIn("Published: diverged", text(name))
            else:
                self.assertIn(f"F1 {row['f1']:.3f}", text(name))

    def test_the_baseline_of_table_1(self):
        row = published.load("you2019_table1")["rows"][0]
        first, second = phases("you2019_baseline")
        for phase in (first, second):
            self.assertEqual(phase.batch_size, row["batch_size"])
            self.assertEqual(phase.learning_rate, 1e-4)
            self.assertFalse(phase.bias_correction)
        self.assertEqual(first.train_steps, 900_000)
        self.assertEqual(first.train_steps + second.train_steps, row["steps"])


class AllTest(unittest.TestCase):
    def test_none_is_missing(self):
        self.assertEqual(len(_PUBLISHED), 3 + 8 + 9 + 1)

    def test_what_all_share(self):
        for name in _PUBLISHED:
            with self.subTest(name):
                for number, phase in enumerate(phases(name), 1):
                    self.assertEqual(phase.bert_config, "large")
                    self.assertEqual(phase.global_clipnorm, 1.0)
                    self.assertEqual(phase.clip, "after_averaging")
                    self.assertEqual(phase.exclude_from_weight_decay, _EXCLUDED)
                    self.assertFalse(phase.batch_size % phase.microbatch_size)
                    folder = f"records/{name}/phase{number}"
                    self.assertEqual(phase.output_dir, folder)
                    optimizer.check(phase)

    def test_the_rate_falls_at_the_boundary_where_the_comment_says_so(self):
        for name in _PUBLISHED:
            for phase in phases(name):
                rate = schedule.make(
                    phase, phase.train_steps, families.FAMILIES
                )
                w, peak = phase.warmup_steps, phase.learning_rate
                drops = rate(w) < peak * (1 - 1e-9)
                self.assertEqual(
                    drops, "drop" in text(name).split("no drop")[0]
                )
                self.assertEqual(drops, name.startswith("you2019"))
                self.assertEqual(rate(0), 0)
                self.assertAlmostEqual(rate(phase.train_steps), 0)


if __name__ == "__main__":
    unittest.main()
