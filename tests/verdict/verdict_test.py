"""The verdict: calibrated on simulated runs, right on published numbers."""

import collections
import contextlib
import dataclasses
import fractions
import itertools
import json
import math
import pathlib
import re
import subprocess
import sys
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from scipy import stats

from lbcheck import published
from lbcheck import verdict
from lbcheck.verdict import decision
from lbcheck.verdict import difference
from lbcheck.verdict import judge
from lbcheck.verdict import search_luck
from lbcheck.verdict import statistics
from tests.report import synthetic_study

MARGIN = 0.005


def bimodal(random, n):
    return random.choice([-1.0, 1.0], n) + 0.3 * random.normal(size=n)


# Each with median 0 and standard deviation 1.
NOISE = {
    "normal": lambda random, n: random.normal(size=n),
    "exponential": lambda random, n: random.exponential(size=n) - math.log(2),
    "mirrored": lambda random, n: math.log(2) - random.exponential(size=n),
    "lognormal": lambda random, n: (random.lognormal(size=n) - 1) / 2.1612,
    "gamma": lambda random, n: (random.gamma(2, size=n) - 1.67835) / 2**0.5,
    "bimodal": lambda random, n: bimodal(random, n) / 1.09**0.5,
}


def drawn(noise, seeds, spread, ahead, draws, arms=4, ratio=1.0):
    """Answers on runs of which one layer-wise arm is `ahead` by margins.

    `spread` is the standard deviation in margins, of the generic arms times
    `ratio`.
    """
    random = np.random.default_rng([list(NOISE).index(noise), seeds, draws])
    names = ["lars", "nesterov", "lamb", "adamw"][:arms]
    answers = []
    for _ in range(draws):
        runs = {}
        for name in names:
            width = spread * (1.0 if name in ("lars", "lamb") else ratio)
            values = width * NOISE[noise](random, seeds)
            runs[name] = 0.8 + MARGIN * (values + ahead * (name == "lars"))
        layer_wise = {"lars", "lamb"} & set(names)
        decided = verdict.compare_arms(runs, layer_wise, margin=MARGIN)
        answers.append(decided.answer)
    return answers


def at_most(answers, word, fraction):
    """Fails if `word` is said more often than chance allows."""
    draws = len(answers)
    limit = stats.binom.ppf(0.999, draws, fraction)
    assert answers.count(word) <= limit, (word, answers.count(word) / draws)


def at_least(answers, word, fraction):
    draws = len(answers)
    limit = stats.binom.ppf(0.001, draws, fraction)
    assert answers.count(word) >= limit, (word, answers.count(word) / draws)


# --- calibration ----------------------------------------------------------


def check_no_difference(noise="normal", seeds=6, draws=600, **setting):
    setting = dict(spread=5.0, arms=2) | setting
    at_most(
        drawn(noise, seeds, ahead=0, draws=draws, **setting), "needed", 0.05
    )


def check_found(noise="normal", spread=1.5, draws=200, **setting):
    setting = dict(arms=2) | setting
    answers = drawn(noise, 20, spread, ahead=2, draws=draws, **setting)
    at_least(answers, "needed", 0.55)


def check_not_equivalent(noise="normal", seeds=20, draws=300, **setting):
    setting = dict(spread=0.8, arms=2) | setting
    answers = drawn(noise, seeds, ahead=1, draws=draws, **setting)
    at_most(answers, "not needed", 0.05)


def check_equal(noise="normal", draws=100, **setting):
    answers = drawn(noise, 20, 0.4, ahead=0, draws=draws, **setting)
    at_least(answers, "not needed", 0.9)


def check_small_difference_does_not_matter():
    answers = drawn("normal", 20, 0.2, ahead=0.5, draws=50, arms=2)
    at_most(answers, "needed", 0.01)


def check_few_seeds():
    for seeds in range(1, 6):
        answers = drawn("normal", seeds, 0.1, ahead=4, draws=20)
        assert set(answers) == {"undecided"}, answers


@pytest.mark.parametrize("noise", NOISE)
@pytest.mark.parametrize("seeds", [6, 50])
def test_needed_is_rare_without_a_difference(noise, seeds):
    check_no_difference(noise, seeds)
    check_no_difference(noise, seeds, ratio=2.0)
    check_no_difference(noise, seeds, draws=200, spread=1.0, arms=4)


@pytest.mark.parametrize("noise", NOISE)
def test_twice_the_margin_is_found(noise):
    check_found(noise, arms=2)
    check_found(noise, spread=1.0, arms=4)


@pytest.mark.parametrize("noise", NOISE)
def test_equivalence_is_rarely_wrong_and_found(noise):
    check_not_equivalent(noise)
    check_not_equivalent(noise, ratio=2.0)
    check_equal(noise)


def test_chance_alone_is_never_needed():
    runs = {"lars": [0.5, 0.9] * 5, "sgd": [0.5, 0.9] * 4 + [0.5, 0.5]}
    decided = verdict.compare_arms(runs, ["lars"])
    assert decided.pairs[0].improvement > 0.5
    runs["lars"] = [v + 2 * MARGIN for v in runs["lars"]]
    decided = verdict.compare_arms(runs, ["lars"])
    assert decided.pairs[0].difference > MARGIN
    assert decided.answer == "undecided"


def test_a_difference_within_the_margin_is_not_needed():
    check_small_difference_does_not_matter()


def test_few_seeds_are_undecided_and_say_how_many_are_lacking():
    check_few_seeds()
    runs = {"lars": [0.9, 0.901, 0.899], "nesterov": [0.9, 0.8995, 0.9005]}
    decided = verdict.compare_arms(runs, ["lars"])
    assert str(decided) == "undecided (3 more seeds)"
    assert "3 more seeds" in decided.sentence


@pytest.mark.slow
@pytest.mark.parametrize("arms", [2, 4])
@pytest.mark.parametrize("noise", NOISE)
def test_calibration_at_length(noise, arms):
    common = dict(noise=noise, draws=2000, arms=arms)
    for seeds, spread in itertools.product((6, 10, 20, 50), (1.0, 20.0)):
        for ratio in (0.5, 1.0, 2.0):
            check_no_difference(
                seeds=seeds, spread=spread, ratio=ratio, **common
            )
    for spread in (0.5, 1.0, 1.5):
        # Of two baselines, both must be beaten.
        if spread < 1.5 or arms == 2:
            check_found(spread=spread, **common)
    at_most(
        drawn(noise, 20, 0.5, ahead=0.9, draws=2000, arms=arms),
        "needed",
        0.05,
    )
    for seeds, spread in itertools.product((6, 20, 50), (0.3, 1.0)):
        check_not_equivalent(seeds=seeds, spread=spread, **common)


# What must not pass: each mutant, and a check that it fails.


class Mirrored(difference.Shift):
    def __init__(self, x, y, *args):
        super().__init__(y, x, *args)


class SixRuns(difference.Shift):
    def __init__(self, x, y, *args):
        super().__init__(x[:6], y[:6], *args)


MUTANTS = {
    "sign swapped": (check_found, [(decision, "Shift", Mirrored)]),
    "number of runs ignored": (check_found, [(decision, "Shift", SixRuns)]),
    "margin ignored": (
        check_small_difference_does_not_matter,
        [(decision, "default_margin", lambda *_: 1e-9)],
    ),
    "no small-n guard": (check_few_seeds, [(decision, "LEAST_SEEDS", 0)]),
    "needed without a test": (
        check_no_difference,
        [
            (
                decision,
                "_answer",
                lambda p, m: "needed" if p.difference > m else "undecided",
            )
        ],
    ),
    "equivalence without a test": (
        check_not_equivalent,
        [(difference.Shift, "_ends", lambda self: (self._mean, self._mean))],
    ),
    "everything is undecided": (
        check_equal,
        [(difference.Shift, "_ends", lambda self: (-math.inf, math.inf))],
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_fails(name):
    check, patches = MUTANTS[name]
    check()
    with contextlib.ExitStack() as stack:
        for patch in patches:
            stack.enter_context(mock.patch.object(*patch))
        with pytest.raises(AssertionError):
            check()


# --- published numbers ----------------------------------------------------


def table2_right():
    rows = published.load("nado2021_table2_right")["rows"]
    return {
        row["optimizer"]: {
            "validation": row["test_accuracy"],
            "training": row["train_accuracy"],
        }
        for row in rows
    }


def test_table_2_is_equal_on_validation_and_better_on_training():
    decided = verdict.from_summaries(table2_right(), ["LARS"], runs=50)
    assert decided.answer == "not needed"
    assert (
        "equal on validation, Nesterov better on training: "
        "regularization rather than optimization" in decided.sentence
    )
    assert any("no interval" in note for note in decided.notes)


def test_table_2_in_fractions_says_the_same():
    fractions = {
        arm: {part: value / 100 for part, value in medians.items()}
        for arm, medians in table2_right().items()
    }
    percent = verdict.from_summaries(table2_right(), ["LARS"], 50)
    decided = verdict.from_summaries(fractions, ["LARS"], 50)
    assert [p.relation for p in decided.pairs] == ["equal", "baseline better"]
    assert decided.sentence.split(". ")[1] == percent.sentence.split(". ")[1]


def test_published_hit_rates_do_not_differ():
    rows = published.load("nado2021_target_hits")["rows"]
    hits = {row["configuration"]: row["hits"] for row in rows}
    medians = {
        row["configuration"]: {"validation": row["test_accuracy"]}
        for row in rows
    }
    decided = verdict.from_summaries(medians, ["LARS"], 50, hits)
    found = {pair.other_arm: pair.hits_p for pair in decided.pairs}
    assert found["Nesterov A"] == pytest.approx(1.0)
    assert found["Nesterov B"] == pytest.approx(0.2976, abs=5e-4)
    assert decided.answer == "not needed"
    rates = {arm.arm: (arm.hit_low, arm.hit_high) for arm in decided.arms}
    exact = stats.binomtest(35, 50).proportion_ci(0.95, "exact")
    assert rates["LARS"] == pytest.approx((exact.low, exact.high))


def test_medians_alone_never_say_needed():
    medians = {"LARS": {"validation": 0.8}, "SGD": {"validation": 0.7}}
    decided = verdict.from_summaries(medians, ["LARS"], 50)
    assert decided.answer == "undecided"
    hits = {"LARS": 45, "SGD": 5}
    decided = verdict.from_summaries(medians, ["LARS"], 50, hits)
    assert decided.answer == "needed"


# --- the pairs and the whole ----------------------------------------------

# Seeds that are alike, so that every pair is decided.
STEADY = np.linspace(-0.1, 0.1, 12) * MARGIN


def steady(**ahead):
    return {arm: 0.8 + STEADY + MARGIN * by for arm, by in ahead.items()}


@pytest.mark.parametrize(
    "ahead,answer",
    [
        (dict(lars=3, lamb=0, sgd=0, adamw=0), "needed"),
        (dict(lars=3, lamb=0, sgd=3, adamw=0), "not needed"),
        (dict(lars=3, lamb=0, sgd=0, adamw=3), "not needed"),
        (dict(lars=-3, lamb=-3, sgd=0, adamw=-9), "not needed"),
        (dict(lars=-3, lamb=3, sgd=0, adamw=0), "needed"),
        # Each generic arm is beaten, but by another layer-wise arm.
        (dict(lars=0, lamb=-9, sgd=-9, adamw=-9), "needed"),
        (dict(lars=0.5, lamb=0, sgd=0, adamw=0), "not needed"),
    ],
)
def test_all_pairs_make_one_answer(ahead, answer):
    decided = verdict.compare_arms(steady(**ahead), ["lars", "lamb"])
    assert decided.answer == answer
    assert decided.more_seeds == 0
    assert decided.sentence.lower().startswith(answer)


def test_the_sentence_names_the_arm_that_does_best():
    generic = steady(lars=0, sgd=0, adamw=3)
    decided = verdict.compare_arms(generic, ["lars"])
    assert "adamw" in decided.sentence and "sgd" not in decided.sentence
    layer_wise = steady(lars=3, lamb=6, sgd=0)
    decided = verdict.compare_arms(layer_wise, ["lars", "lamb"])
    assert "lamb" in decided.sentence and "lars" not in decided.sentence


@pytest.mark.parametrize(
    "validation,training,label",
    [
        (3, 0, "regularization rather than optimization"),
        (3, -3, "regularization rather than optimization"),
        (0, -3, "regularization rather than optimization"),
        (0, 3, "optimization rather than generalization"),
        (3, 3, None),
        (0, 0, None),
        (-3, -3, None),
    ],
)
def test_training_and_validation_disagree(validation, training, label):
    decided = verdict.compare_arms(
        steady(lars=validation, sgd=0),
        ["lars"],
        training=steady(lars=training, sgd=0),
    )
    assert (" rather than " in decided.sentence) == (label is not None)
    assert label is None or label in decided.sentence
    expected = "needed" if training > 0 else "not needed"
    assert decided.training_answer == expected


def runs_strategy():
    values = st.integers(0, 2**10).map(lambda v: v / 2**11)
    return st.lists(values, min_size=2, max_size=12)


@settings(max_examples=60, deadline=None, database=None)
@given(runs_strategy(), runs_strategy())
def test_a_loss_is_judged_like_its_negative(lars, sgd):
    gain = verdict.compare_arms(
        {"lars": lars, "sgd": sgd}, ["lars"], margin=2**-6
    )
    loss = verdict.compare_arms(
        {"lars": [-v for v in lars], "sgd": [-v for v in sgd]},
        ["lars"],
        mode="min",
        margin=2**-6,
    )
    # A loss has no end that would leave something to gain.
    pairs = [dataclasses.replace(p, margin_share=None) for p in gain.pairs]
    assert tuple(pairs) == loss.pairs
    # Nor one that makes a difference impossible to have.
    plain, other = (
        re.sub(", enough at this noise [^;]*", "", found.sentence)
        for found in (gain, loss)
    )
    assert plain == other
    for a, b in zip(gain.arms, loss.arms):
        assert a.median == -b.median
        assert (a.low, a.high) == (b.high and -b.high, b.low and -b.low)


@settings(max_examples=60, deadline=None, database=None)
@given(runs_strategy(), runs_strategy())
def test_what_the_pair_says_hangs_together(lars, sgd):
    runs = {"lars": lars, "sgd": sgd}
    (pair,) = verdict.compare_arms(runs, ["lars"], margin=2**-6).pairs
    assert pair.low <= pair.difference <= pair.high
    assert pair.improvement_low <= pair.improvement <= pair.improvement_high
    assert (pair.p_superior <= 0.05) == (pair.low > 0)
    assert (pair.p_not_needed <= 0.05) == (pair.high < pair.margin)
    within = -pair.margin < pair.low and pair.high < pair.margin
    assert (pair.p_equivalent <= 0.05) == within
    (other,) = verdict.compare_arms(runs, ["sgd"], margin=2**-6).pairs
    assert other.difference == pytest.approx(-pair.difference, abs=1e-15)
    assert (other.low, other.high) == pytest.approx((-pair.high, -pair.low))


def test_diverged_runs_rank_last_and_are_not_dropped():
    runs = steady(lars=3, sgd=0)
    lars = list(runs["lars"])
    for bad in (None, math.nan, math.inf, -math.inf):
        one = verdict.compare_arms(runs | {"lars": [bad, *lars[1:]]}, ["lars"])
        assert one.arms[0].diverged == 1
        assert one.pairs[0].runs == 12
        assert one.pairs[0].improvement == pytest.approx(11 / 12)
        assert any("1 of 12 seeds of lars" in note for note in one.notes)
        assert one == verdict.compare_arms(
            runs | {"lars": [None, *lars[1:]]}, ["lars"]
        )
    most = {"lars": [None] * 10 + lars[10:]}
    decided = verdict.compare_arms(runs | most, ["lars"])
    assert decided.answer == "not needed"
    assert decided.arms[0].median == -math.inf
    assert decided.to_dict()["arms"][0]["median"] is None
    for mode in ("max", "min"):
        every = verdict.compare_arms(
            {"lars": [None] * 6, "sgd": [None] * 6}, ["lars"], mode=mode
        )
        assert str(every) == "undecided"


def test_a_collapsed_run_leaves_the_others_their_say():
    runs = steady(lars=0, sgd=0)
    runs["lars"][3] = 0.1
    decided = verdict.compare_arms(runs, ["lars"])
    assert decided.answer == "not needed"
    # Also where the others tie, as accuracies of few examples do.
    decided = verdict.compare_arms(
        {"lars": [0.9] * 19 + [0.1], "sgd": [0.9] * 20}, ["lars"]
    )
    assert decided.answer == "not needed"
    runs = steady(lars=4, sgd=0)
    runs["sgd"][3] = 0.1
    assert verdict.compare_arms(runs, ["lars"]).answer == "needed"


@pytest.mark.parametrize("mode", ["max", "min"])
@pytest.mark.parametrize("failure", [None, 0.1])
@pytest.mark.parametrize("seeds, failing, decided", [
    (20, 4, False), (20, 1, False), (60, 1, True), (50, 15, False),
])  # fmt: skip
def test_an_arm_that_fails_more_often_is_not_as_good(
    seeds, failing, decided, failure, mode
):
    sign = 1 if mode == "max" else -1
    steady = [0.5 + sign * (0.4 + 1e-4 * (i % 7)) for i in range(seeds)]
    if failure is not None:
        failure = 0.5 + sign * (failure - 0.5)
    failing_runs = [failure] * failing + steady[failing:]
    runs = {"lars": steady, "sgd": failing_runs}
    found = verdict.compare_arms(runs, ["lars"], mode=mode, margin=0.005)
    assert (found.answer == "not needed") is decided
    # Of 15 in 50 the interval is too wide by itself.
    if not decided and failing < 10:
        assert found.doubt == "failures"
        assert f"sgd failed in {failing} of {seeds} seeds" in found.sentence
        assert str(found) == "undecided (failures)"
    # An arm that is ahead where it does not fail is not needed either.
    ahead = [v and v + sign * 0.05 for v in failing_runs]
    runs = {"lars": ahead, "sgd": steady}
    found = verdict.compare_arms(runs, ["lars"], mode=mode, margin=0.005)
    assert found.answer == ("needed" if decided else "undecided")
    # As many failures of the other are no reason to doubt.
    even = verdict.compare_arms(
        {"lars": failing_runs, "sgd": failing_runs}, ["lars"], mode=mode
    )
    assert even.doubt != "failures"


def test_needed_takes_more_than_the_margin():
    answers = drawn("normal", 20, 0.5, ahead=0.9, draws=300, arms=2)
    at_most(answers, "needed", 0.05)
    answers = drawn("normal", 20, 1.0, ahead=4.0, draws=100)
    at_least(answers, "needed", 0.95)


def test_per_cent_and_fractions_get_the_same_answer():
    for left, right in ((0.762, 0.769), (0.765, 0.766), (0.9917, 1.0)):
        for margin in (None, 0.01):
            fractions = {
                "sgd": [left + 1e-4 * i for i in range(-6, 7)],
                "lars": [min(1, right + 1e-4 * i) for i in range(-6, 7)],
            }
            per_cent = {a: [100 * v for v in r] for a, r in fractions.items()}
            found = verdict.compare_arms(fractions, ["lars"], margin=margin)
            other = verdict.compare_arms(
                per_cent, ["lars"], margin=margin and 100 * margin
            )
            assert (found.answer, found.doubt) == (other.answer, other.doubt)
    assert found.doubt == "ceiling"
    assert "sgd reaches a validation accuracy of 0.9917" in found.sentence
    # A baseline that leaves room, and is as good, decides it all the same.
    more = {"adamw": [0.9889] * 8, "sgd": [0.9917] * 8, "lars": [0.99] * 8}
    assert verdict.compare_arms(more, ["lars"], margin=0.01).answer == (
        "not needed"
    )


def test_a_baseline_at_its_ceiling_can_be_better():
    for best, margin in (([1.0] * 8, None), ([0.998] * 8, 0.005)):
        runs = {"lars": [0.9 + 1e-3 * i for i in range(8)], "sgd": best}
        found = verdict.compare_arms(runs, ["lars"], runs, margin=margin)
        assert found.sentence.startswith("Not needed: sgd is better than lars")
        assert "sgd better on training" in found.sentence
    # What is as good at the ceiling as below it is still not known.
    runs["lars"] = [0.997] * 8
    found = verdict.compare_arms(runs, ["lars"], margin=0.005)
    assert found.doubt == "ceiling"


@pytest.mark.parametrize("few", ["lars", "sgd"])
def test_the_smaller_arm_does_not_fail_for_being_worse(few):
    runs = {
        arm: [level + 1e-4 * (i % 7) for i in range(9 if arm == few else 60)]
        for arm, level in (("lars", 0.9), ("sgd", 0.8))
    }
    for challenger, answer in (("lars", "needed"), ("sgd", "not needed")):
        found = verdict.compare_arms(runs, [challenger], margin=0.005)
        assert found.answer == answer
        assert "failed" not in found.sentence
    # One of its runs still can.
    runs[few][0] = 0.1
    found = verdict.compare_arms(runs, [few], margin=0.005)
    assert found.pairs[0].failures == 1


def test_training_at_its_ceiling_says_nothing():
    validation = {"lars": [0.95] * 8, "sgd": [0.8] * 8}
    training = {"lars": [1.0] * 8, "sgd": [1.0] * 8}
    found = verdict.compare_arms(validation, ["lars"], training)
    assert found.answer == "needed"
    assert "regularization" not in found.sentence
    assert "saturated on training" in found.sentence


def test_rounding_moves_no_p_value():
    """Of runs that tie many differences are just the margin."""
    sgd = [5.0, 5.0, 6.0, 7.0, 6.0, 7.0, 8.0, 6.0, 5.0, 7.0]
    lars = [6.0, 7.0, 6.0, 5.0, 6.0, 8.0, 6.0, 7.0, 6.0, 5.0]
    found = [
        verdict.compare_arms(
            {"lars": [v * unit for v in lars], "sgd": [v * unit for v in sgd]},
            ["lars"],
            margin=unit,
            metric="speed",
        ).pairs[0]
        for unit in (1.0, 0.001, 0.1, 3.7)
    ]
    for name in ("p_needed", "p_not_needed", "p_equivalent"):
        ps = [getattr(pair, name) for pair in found]
        assert ps == pytest.approx([ps[0]] * 4, rel=1e-4), name


def test_the_arm_that_fails_more_often_is_the_one_named():
    """By rates, of arms of unequal numbers of runs."""
    few = [0.9 + 1e-4 * (i % 7) for i in range(17)] + [None] * 3
    many = [0.9 + 1e-4 * (i % 7) for i in range(96)] + [None] * 4
    runs = {"lars": many, "sgd": few}
    found = verdict.compare_arms(runs, ["lars"], margin=0.01)
    assert found.doubt == "failures"
    told = "sgd failed in 3 of 20 seeds, lars in 4 of 100: it diverged"
    assert told in found.sentence


def test_rounding_of_float32_decides_nothing():
    runs = {"sgd": np.float32([0.8] * 8), "lars": np.float32([0.9] * 8)}
    difference = float(runs["lars"][0]) - float(runs["sgd"][0])
    assert difference != 0.1
    # A difference of the margin itself is not below it.
    decided = verdict.compare_arms(runs, ["lars"], margin=0.1)
    assert decided.answer != "not needed"


def test_float32_and_decimals_say_the_same():
    random, margin = np.random.default_rng(0), 0.002

    def drawn_twice(mean, count):
        found = np.round(random.normal(mean, 2 * margin, count), 3)
        return found, np.float32(found).astype(float)

    for _ in range(40):
        mean = random.uniform(0.6, 0.95)
        pairs = zip(drawn_twice(mean + margin, 12), drawn_twice(mean, 12))
        answers, shares = [], []
        for lars, sgd in pairs:
            runs = {"lars": lars, "sgd": sgd}
            decided = verdict.compare_arms(runs, ["lars"], margin=margin)
            answers.append((decided.answer, decided.pairs[0].relation))
            shares.append(search_luck.share([lars], [(margin, sgd)]))
        assert answers[0] == answers[1]
        assert shares[0] == pytest.approx(shares[1], abs=1e-12)
    # 565 and 560 of 1,000 in float64, and a target in float32.
    assert search_luck.share([[0.565]], [(0.005, [0.56])]) == 1
    runs = {"lars": np.float32([0.9] * 8), "sgd": np.float32([0.9] * 8)}
    found = verdict.compare_arms(runs, ["lars"], target=0.9)
    assert [arm.hits for arm in found.arms] == [8, 8]
    ((reached, _),) = statistics.fraction_reaching(runs["sgd"], [0.9], "max")
    assert reached == 1


def test_share_is_that_of_all_pairs_of_sub_searches():
    random = np.random.default_rng(5)
    own = [random.normal(size=6).round(1) for _ in range(2)]
    others = [(0.3, random.normal(size=6).round(1)) for _ in range(2)]

    def bests(values):
        return [max(c) for c in itertools.combinations(values, 3)]

    cases = [
        max(a, b) >= max(c + 0.3, d + 0.3) - 1e-9
        for a, b, c, d in itertools.product(
            bests(own[0]), bests(own[1]), bests(others[0][1]),
            bests(others[1][1]),
        )
    ]  # fmt: skip
    assert search_luck.share(own, others) == pytest.approx(np.mean(cases))
    assert search_luck.share(own, [(9.0, v) for _, v in others]) == 0


def test_spread_is_that_of_all_pairs_of_sub_searches():
    random = np.random.default_rng(12)
    x = random.integers(0, 6, 6) / 10
    y = np.append(random.integers(0, 6, 4) / 10, -np.inf)
    known = np.where(np.isinf(y), min(*x, *y[:-1]), y)
    leads = [
        max(one) - max(other)
        for one in itertools.combinations(x, 2)
        for other in itertools.combinations(known, 2)
    ]
    for inside in (0.5, 0.9):
        ends = search_luck.spread(x, y, inside)
        tails = [(1 - inside) / 2, (1 + inside) / 2]
        expected = np.quantile(leads, tails, method="inverted_cdf")
        np.testing.assert_allclose(ends, expected, atol=1e-12)
    assert search_luck.spread([-np.inf], [-np.inf]) is None


def test_margins_by_default():
    def margin(values, mode):
        runs = {"lars": values, "sgd": values}
        return verdict.compare_arms(runs, ["lars"], mode=mode).pairs[0].margin

    assert margin([0.7, 0.8, 0.9], "max") == 0.005
    assert margin([70.0, 80.0, 90.0], "max") == 0.5
    assert margin([0.7, 0.8, 0.9], "min") == pytest.approx(0.008)
    assert margin([-2.0, -2.0], "max") == pytest.approx(0.02)
    # At most a quarter of what is left to gain.
    assert margin([0.989, 0.99, 0.991], "max") == pytest.approx(0.0025)
    assert margin([98.9, 99.0, 99.1], "max") == pytest.approx(0.25)
    assert margin([0.99, 1.0, 1.0], "max") == 0.005  # nothing is left
    assert margin([-0.1, 0.0, 0.2], "max") != 0.005
    values = {"lars": [-0.1, 0.0, 0.2], "sgd": [-0.1, 0.0, 0.2]}
    found = verdict.compare_arms(values, ["lars"], metric="r2_score")
    assert found.pairs[0].margin == 0.005


@pytest.mark.parametrize("metric", ["accuracy", "metric", "top1", "dice"])
def test_whatever_its_name_per_cent_and_fractions_are_one(metric):
    answers = set()
    for unit in (1, 100):
        runs = {a: [v * unit] * 6 for a, v in (("n", 0.769), ("o", 0.762))}
        answers.add(str(verdict.compare_arms(runs, ["n"], metric=metric)))
    assert answers == {"needed"}


def test_what_is_no_part_of_a_whole_has_no_top():
    for metric in ("reward", "speedup", "tokens_per_second"):
        runs = {"n": [0.002] * 8, "o": [0.001] * 8}
        found = verdict.compare_arms(runs, ["n"], metric=metric)
        assert found.answer == "needed"
        assert found.pairs[0].margin == pytest.approx(1e-5)
        same = verdict.compare_arms({"n": [1.0] * 8, "o": [1.0] * 8}, ["n"],
                                    metric=metric)  # fmt: skip
        assert same.answer == "not needed"


def test_rounding_above_the_top_changes_nothing():
    runs = {"n": [0.98] * 7 + [1.0000001], "o": [0.95] * 8}
    found = verdict.compare_arms(runs, ["n"])
    assert found.answer == "needed" and found.pairs[0].margin == 0.005


def test_what_diverged_throughout_is_not_measured():
    runs = {"n": [0.9, 0.91, 0.92, 0.9, 0.91, 0.92, 0.9, 0.91], "o": [None] * 8}
    found = verdict.compare_arms(runs, ["n"])
    assert found.answer == "needed" and "interval" not in found.sentence
    assert not any("0% of what" in note for note in found.notes)
    runs["n"] = [None] * 8
    found = verdict.compare_arms(runs, ["n"])
    assert found.sentence.startswith("Undecided: every run of every arm")


def test_a_margin_is_printed_as_it_was_given():
    runs = {"n": [0.9] * 6, "o": [0.9] * 6}
    found = verdict.compare_arms(runs, ["n"], margin=0.0125)
    assert "margin of 0.0125" in found.sentence
    decided = verdict.compare_arms(steady(lars=0, sgd=0), ["lars"])
    assert any("0.005" in note and "margin" in note for note in decided.notes)


@pytest.mark.parametrize("margin", [0.0, -1.0, math.nan, math.inf])
def test_refuses_a_margin_that_is_none(margin):
    with pytest.raises(ValueError, match="margin is"):
        verdict.compare_arms(steady(lars=0, sgd=0), ["lars"], margin=margin)


def test_refuses_unknown_arms_and_modes():
    with pytest.raises(ValueError, match="lamb"):
        verdict.compare_arms(steady(lars=0, sgd=0), ["lamb"])
    with pytest.raises(ValueError, match="upward"):
        verdict.compare_arms(steady(lars=0, sgd=0), ["lars"], mode="upward")


def test_many_arms_widen_the_intervals():
    few = verdict.compare_arms(
        steady(sgd=0, **{f"l{i}": 0 for i in range(5)}),
        [f"l{i}" for i in range(5)],
    )
    many = verdict.compare_arms(
        steady(sgd=0, **{f"l{i}": 0 for i in range(10)}),
        [f"l{i}" for i in range(10)],
    )
    one = verdict.compare_arms(steady(sgd=0, l0=0), ["l0"])
    assert few.pairs[0].high == one.pairs[0].high
    # Half the error: Student's quantiles at 1 % and 0.5 %.
    ratio = stats.t.ppf(0.995, 11) / stats.t.ppf(0.99, 11)
    assert many.pairs[0].high == pytest.approx(ratio * one.pairs[0].high)


# --- several looks --------------------------------------------------------


def looked(random, ahead, looks=(6, 12, 18, 24, 30), **several):
    """The first answer of repeated looks, "undecided" if there is none."""
    runs = {a: 0.5 + MARGIN * random.normal(size=30) for a in ("l", "g")}
    runs["l"] += ahead * MARGIN
    for seeds in looks:
        now = {arm: values[:seeds] for arm, values in runs.items()}
        found = verdict.compare_arms(now, ["l"], margin=MARGIN, **several)
        if found.answer != "undecided":
            return found.answer
    return "undecided"


def test_repeated_looks_err_no_more_than_one():
    several = {"look_every": 6, "planned_seeds": 30}

    def wrong(answer, ahead, **how):
        random = np.random.default_rng(8)
        found = [looked(random, ahead, **how) for _ in range(500)]
        return found.count(answer) / 500

    # Both are wrong at a difference of the margin.
    naive = wrong("needed", 1.0)
    held = wrong("needed", 1.0, **several)
    assert held <= 0.05 < 0.08 < naive
    assert wrong("not needed", 1.0, **several) <= 0.01
    # It still finds what is there.
    assert wrong("needed", 3.0, **several) > 0.9
    assert wrong("not needed", -2.0, **several) > 0.9


def test_looks_spend_the_whole_error_and_no_more():
    spent = [
        judge._spent({"a": [0.0] * n}, 6, 31)[0]
        for n in (6, 12, 18, 24, 30, 31)
    ]
    assert sum(spent) == pytest.approx(1.0)
    assert spent[0] == pytest.approx((6 / 31) ** 2)
    runs = steady(lars=0, sgd=0)  # 12 seeds
    for wrong, told in (
        ({"look_every": 5, "planned_seeds": 30}, "multiples of it; .* 12"),
        ({"look_every": 6, "planned_seeds": 10}, "an arm has 12 runs"),
        ({"look_every": 6}, "planned_seeds must be a whole number"),
        ({"planned_seeds": 12}, "look_every must be a whole number"),
        ({"look_every": True, "planned_seeds": 12}, "look_every must be"),
    ):
        with pytest.raises(ValueError, match=told):
            verdict.compare_arms(runs, ["lars"], **wrong)
    found = verdict.compare_arms(runs, ["lars"], look_every=6, planned_seeds=24)
    (note,) = [n for n in found.notes if "look" in n]
    assert "every 6 of 24 planned seeds: this one spends 18.8%" in note
    runs["sgd"] = runs["sgd"][:6]
    with pytest.raises(ValueError, match="received lars 12, sgd 6"):
        verdict.compare_arms(runs, ["lars"], look_every=6, planned_seeds=24)


def test_what_more_seeds_show_of_looks_and_of_ranks():
    # Six runs of each cannot pass the test of ranks with so little error.
    random = np.random.default_rng(0)
    runs = {a: random.normal(v, 1e-4, 6) for a, v in (("l", 0.9), ("g", 0.8))}
    several = {"look_every": 6, "planned_seeds": 30}
    found = verdict.compare_arms(runs, ["l"], **several)
    assert str(found) == "undecided (6 more seeds)"
    assert found.pairs[0].detectable is None
    assert "true difference" not in " ".join([found.sentence, *found.notes])
    more = {a: [*v, *(v + 1e-5)] for a, v in runs.items()}
    assert verdict.compare_arms(more, ["l"], **several).answer == "needed"
    # At the last look nothing is left to add.
    equal = {a: random.normal(0.8, MARGIN * 3, 30) for a in "lg"}
    last = verdict.compare_arms(equal, ["l"], margin=MARGIN, **several)
    assert str(last) == "undecided" and last.more_seeds == 0
    # Below six seeds there is no answer, whatever the difference.
    few = {arm: values[:5] for arm, values in runs.items()}
    found = verdict.compare_arms(few, ["l"])
    assert str(found) == "undecided (1 more seed)"
    assert found.pairs[0].detectable is None


def test_many_arms_take_more_seeds_by_ranks():
    random = np.random.default_rng(1)
    runs = {f"b{i}": random.normal(0.8, 1e-4, 6) for i in range(99)}
    runs["l"] = random.normal(0.9, 1e-4, 6)
    found = verdict.compare_arms(runs, ["l"])
    more = found.more_seeds
    assert found.answer == "undecided" and more > 1
    runs = {a: random.normal(v.mean(), 1e-4, 6 + more) for a, v in runs.items()}
    assert verdict.compare_arms(runs, ["l"]).answer == "needed"


# --- planning -------------------------------------------------------------


def test_the_detectable_difference_falls_as_the_root_of_any_number_of_runs():
    random = np.random.default_rng(3)
    found = []
    for count in (400, 1_600):  # more than a study plans
        runs = dict(zip("lg", random.normal(size=(2, count)).tolist()))
        pair = verdict.compare_arms(runs, ["l"], margin=0.001).pairs[0]
        found.append(pair.detectable)
    assert found[0] / found[1] == pytest.approx(2, rel=0.05)


def test_the_detectable_difference_is_found_as_often_as_said():
    random = np.random.default_rng(7)
    draws, said, found = 300, [], 0
    for _ in range(draws):
        runs = {a: 0.5 + MARGIN * random.normal(size=12) for a in ("l", "g")}
        said.append(verdict.compare_arms(runs, ["l"]).pairs[0].detectable)
    ahead = float(np.median(said))
    for _ in range(draws):
        runs = {a: 0.5 + MARGIN * random.normal(size=12) for a in ("l", "g")}
        runs["l"] += ahead
        found += verdict.compare_arms(runs, ["l"]).answer == "needed"
    # Conservative: 80 % is promised.
    assert 0.78 < found / draws < 0.95


@pytest.mark.parametrize("seeds, spread", [(6, 3.0), (10, 3.0), (20, 4.0)])
def test_the_seeds_that_are_lacking_are_enough(seeds, spread):
    """Over true differences of any size, not at the one that was estimated."""
    random = np.random.default_rng(seeds)
    answers = []
    while len(answers) < 250:
        truth = random.uniform(-8, 10) * MARGIN
        ahead = {"l": truth, "g": 0.0}

        def more(count, ahead=ahead):
            noise = {a: random.normal(size=count) for a in ahead}
            return {
                a: 0.5 + ahead[a] + spread * MARGIN * noise[a] for a in ahead
            }

        runs = more(seeds)
        decided = verdict.compare_arms(runs, ["l"], margin=MARGIN)
        if decided.doubt != "seeds" or decided.more_seeds is None:
            continue
        added = more(decided.more_seeds)
        runs = {a: np.append(runs[a], added[a]) for a in runs}
        answers.append(verdict.compare_arms(runs, ["l"], margin=MARGIN).answer)
    promised = 1 - answers.count("undecided") / len(answers)
    # 80 % is promised; without the error of the estimate 71 to 78 % are kept.
    assert 0.78 < promised < 0.97


def test_a_difference_of_the_margin_is_not_planned_for():
    runs = steady(l=1, g=0)
    runs["l"] = runs["l"] - (np.median(runs["l"]) - 0.8 - 0.99999 * MARGIN)
    runs["l"] += np.linspace(-3, 3, 12) * MARGIN
    decided = verdict.compare_arms(runs, ["l"])
    assert str(decided) == "undecided (more than 1,000 more seeds)"


# --- statistics -----------------------------------------------------------


def test_median_interval_has_the_coverage_it_claims():
    assert statistics.median_interval(range(5)) is None
    assert statistics.median_interval(range(6)) == (0, 5)
    assert statistics.median_interval(range(1, 51)) == (18, 33)
    for n in range(6, 80):
        low, high = statistics.median_interval(range(n))
        assert low + high == n - 1

        def coverage(rank, n=n):
            outside = sum(math.comb(n, k) for k in range(int(rank) + 1))
            return 1 - 2 * outside / 2**n

        assert coverage(low) >= 0.95 > coverage(low + 1)


@pytest.mark.parametrize("n,m", [(6, 6), (9, 14), (20, 20)])
def test_shift_is_made_of_its_two_tests(n, m):
    random = np.random.default_rng([n, m])
    x, y = random.normal(size=n) + 0.7, 2 * random.normal(size=m)
    made = difference.Shift(x, y)
    differences = np.subtract.outer(x, y).ravel()
    assert made.estimate == pytest.approx(np.median(differences))
    # Brunner and Munzel by ranks, as in their paper, of the aligned runs.
    z = x - made.estimate
    ranks = stats.rankdata(np.concatenate([z, y]))
    a = (ranks[:n] - stats.rankdata(z)).var(ddof=1) / (m * m * n)
    b = (ranks[n:] - stats.rankdata(y)).var(ddof=1) / (n * n * m)
    freedom = (a + b) ** 2 / (a * a / (n - 1) + b * b / (m - 1))
    error = np.sqrt(x.var(ddof=1) / n + y.var(ddof=1) / m)
    for d in (-0.5, 0.0, 0.4):
        t = (np.mean(differences > d) - 0.5) / math.sqrt(a + b)
        by_ranks = stats.t.sf(t, freedom)
        t = (x.mean() - y.mean() - d) / error
        by_means = stats.t.sf(t, min(n, m) - 1)
        expected = min(max(by_ranks, 5 * by_means), 1.0)
        assert made.p_above(d) == pytest.approx(expected, rel=1e-9)
    for end, inside in zip(made.interval, (1e-9, -1e-9)):
        p = [made.p_above, made.p_below][inside < 0]
        assert p(end - inside) <= 0.05 < p(end + inside)


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_interval_ends_where_the_tests_do(scale):
    random = np.random.default_rng(2)
    by_ranks = 0
    for _ in range(40):
        # Two modes and ties: here ranks say less than means.
        x, y = (np.round(4 * bimodal(random, 10)) / 4 for _ in "xy")
        made = difference.Shift(x, y, scale=scale)
        differences = np.unique(np.subtract.outer(x, y))
        for test, end, sign in zip(
            (made.p_above, made.p_below), made.interval, (1, -1)
        ):
            assert test(end - sign * 1e-9) <= 0.05 < test(end + sign * 1e-9)
            if end in differences:
                by_ranks += 1
                assert test(end) > 0.05
    assert by_ranks > 10


@pytest.mark.parametrize("noise", NOISE)
def test_interval_covers_a_shift(noise):
    random = np.random.default_rng(5)
    inside = 0
    for _ in range(400):
        x, y = (NOISE[noise](random, 12) for _ in "xy")
        low, high = difference.Shift(x + 3, y).interval
        inside += low <= 3 <= high
    assert 0.96 < inside / 400 < 1.0


def judged_on_groups(random, seeds, groups, examples, spread, rest):
    """Metrics of the runs of two equal arms on groups of examples."""
    return [
        random.normal(0, examples, groups)
        + random.normal(0, spread, (seeds, 1))
        + random.normal(0, rest, (seeds, groups))
        for _ in range(2)
    ]


def test_the_interval_holds_seeds_and_examples():
    random = np.random.default_rng(6)
    inside, by_seeds, variances, draws = 0, 0, [], 500
    for _ in range(draws):
        x, y = judged_on_groups(random, 20, 40, 0.03, 0.003, 0.05)
        found = difference.example_error(x, y)
        variances.append(found.error**2)
        made = difference.Shift(x.mean(1), y.mean(1), 0.01, 1.0, found)
        inside += made.interval.low <= 0 <= made.interval.high
        by_seeds += made.seeds_interval.low <= 0 <= made.seeds_interval.high
    assert 0.96 < inside / draws < 1.0
    assert by_seeds / draws < 0.8  # else the examples would not matter here
    # Of the choice of the examples alone, neither seeds nor the rest.
    assert np.mean(variances) == pytest.approx(2 * 0.03**2 / 40, rel=0.04)


def test_example_error_is_that_of_the_mean_squares():
    random = np.random.default_rng(7)
    x, y = judged_on_groups(random, 3, 7, 1.0, 0.3, 0.2)
    n, groups = x.shape
    # Mean squares of the analysis of variance, one sum after the other.
    differences = x.sum(0) / n - y.sum(0) / n
    total = sum((d - sum(differences) / groups) ** 2 for d in differences)
    variance = total / (groups - 1) / groups
    for runs in (x, y):
        rest = sum(
            (
                runs[i, g]
                - runs[i].sum() / groups
                - runs[:, g].sum() / n
                + runs.sum() / (n * groups)
            )
            ** 2
            for i in range(n)
            for g in range(groups)
        )
        variance -= rest / ((n - 1) * (groups - 1)) / (n * groups)
    found = difference.example_error(x, y)
    assert found == (pytest.approx(variance**0.5), groups - 1)
    assert difference.example_error(x, x).error == 0.0
    # Fewer than six groups say too little.
    assert difference.example_error(x[:, :5], y[:, :5]).error == 0.0


def test_interval_with_examples_ends_where_the_tests_do():
    random = np.random.default_rng(8)
    for error in (1e-6, 0.1, 10.0):
        x, y = (np.round(4 * bimodal(random, 10)) / 4 for _ in "xy")
        examples = difference.ExampleError(error, 30)
        made = difference.Shift(x, y, examples=examples)
        assert made.interval.low < made.seeds_interval.low
        assert made.interval.high > made.seeds_interval.high
        for test, end, sign in zip(
            (made.p_above, made.p_below), made.interval, (1, -1)
        ):
            inside = sign * 1e-6 * max(1.0, abs(end))
            assert test(end - inside) <= 0.05 < test(end + inside)


def test_normal_runs_and_examples_add_their_variances():
    """Many of both: the interval of means is that of the normal sum."""
    random = np.random.default_rng(9)
    x, y = random.normal(size=(2, 1500))
    error = (2 / 1500) ** 0.5
    examples = difference.ExampleError(2 * error, 10_000)
    made = difference.Shift(x, y, examples=examples)
    half = stats.norm.ppf(0.99) * math.hypot(error, 2 * error)
    low, high = made.interval
    assert (high - low) / 2 == pytest.approx(half, rel=0.03)


def test_runs_that_are_less_than_the_margin_off_have_not_collapsed():
    x, y = [0.9] * 10 + [0.904] * 2, [0.9] * 12
    made = difference.Shift(x, y, least=0.005)
    error = np.std(x, ddof=1) / 12**0.5
    high = np.mean(x) - 0.9 + stats.t.ppf(0.99, 11) * error
    assert made.interval.high == pytest.approx(high)


def test_shift_of_runs_that_are_all_alike():
    made = difference.Shift([0.9] * 6, [0.8] * 7)
    assert made.interval == pytest.approx((0.1, 0.1))
    assert made.p_above(0.0) < 1e-9 and made.p_below(0.0) == 1
    same = difference.Shift([0.9] * 6, [0.9] * 6)
    assert same.interval == (0, 0)
    assert same.p_above(0.0) == same.p_below(0.0) == 1


@pytest.mark.parametrize("n,m,ahead", [(6, 6, 0), (10, 25, 1), (20, 20, 9)])
def test_improvement_is_mann_whitney_with_an_interval(n, m, ahead):
    random = np.random.default_rng([n, m])
    x, y = np.round(random.normal(size=n) + ahead, 1), random.normal(size=m)
    y[:2] = x[:2]
    p, (low, high) = statistics.improvement(x, y)
    assert p == pytest.approx(stats.mannwhitneyu(x, y).statistic / (n * m))
    assert low < p < high or (p == high == 1 and 0 < low < 1)
    flipped, ends = statistics.improvement(y, x)
    assert flipped == pytest.approx(1 - p)
    assert ends == pytest.approx((1 - high, 1 - low))


def test_improvement_interval_covers():
    random = np.random.default_rng(11)
    for ahead in (0.0, 1.0, 2.0):
        truth = stats.norm.cdf(ahead / 2**0.5)
        inside = 0
        for _ in range(400):
            x, y = random.normal(size=10) + ahead, random.normal(size=10)
            low, high = statistics.improvement(x, y)[1]
            inside += low <= truth <= high
        assert 0.92 < inside / 400 <= 1.0


@pytest.mark.parametrize("mode", ["max", "min"])
@pytest.mark.parametrize(
    "values",
    [
        [0.3, 0.1, 0.4, 0.1, 0.5, 0.9, 0.2],
        [0.3, None, 0.4, math.nan, 0.5, math.inf],
        [1.0],
        [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
        [0.1] * 9,
    ],
)
def test_tuning_curve_is_that_of_all_subsets(values, mode):
    curve = statistics.tuning_curve(values, mode)
    sign = 1 if mode == "max" else -1
    numbers = statistics.finite(values)
    worst = numbers.min() if mode == "max" else numbers.max()
    filled = [worst if v is None or not math.isfinite(v) else v for v in values]
    for k in range(1, len(values) + 1):
        best = sorted(
            max(sign * v for v in subset)
            for subset in itertools.combinations(filled, k)
        )
        assert curve.trials[k - 1] == k
        middle = best[math.ceil(len(best) / 2) - 1]
        assert curve.median[k - 1] == sign * middle
    assert curve.median[-1] == sign * max(sign * v for v in filled)
    assert np.all(curve.low <= curve.median)
    assert np.all(curve.median <= curve.high)
    other = statistics.tuning_curve(
        [v if v is None else -v for v in values],
        {"max": "min", "min": "max"}[mode],
    )
    assert list(other.high) == list(-curve.low)


@pytest.mark.parametrize("points", ["independent", "halton"])
@pytest.mark.parametrize("trials", [5, 20, 60])
def test_the_band_holds_the_whole_tuning_curve(points, trials):
    """Also of quasi-random points, which are more even than the proof asks."""
    rng = np.random.default_rng(trials)

    def metric(unit):
        return 0.9 - 0.5 * np.sum((unit - 0.6) ** 2, axis=1)

    everything = np.sort(metric(rng.random((200_000, 4))))
    parts = 0.5 ** (1 / np.arange(1, trials + 1))
    truth = everything[(parts * len(everything)).astype(int)]
    held = draws = 0
    while draws < 300:
        draws += 1
        unit = rng.random((trials, 4))
        if points == "halton":
            unit = stats.qmc.Halton(4, rng=rng).random(trials)
        curve = statistics.tuning_curve(metric(unit).tolist(), "max")
        held += bool(np.all((curve.low <= truth) & (truth <= curve.high)))
    # At least 90 %; more, since no quantile below the median is asked for.
    assert held / draws >= 0.94
    if points == "independent":
        assert held / draws <= 0.99  # no wider than it must be


def test_tuning_curve_of_many_trials_and_of_none():
    values = np.random.default_rng(0).normal(size=501)
    curve = statistics.tuning_curve(values, "min")
    assert curve.median[-1] == values.min()
    assert curve.median[0] == np.median(values)
    assert np.all(np.diff(curve.median) <= 0)
    assert statistics.tuning_curve([None, None], "max") is None
    floor = statistics.tuning_curve([None, 0.5], "max", worst=0.1)
    assert list(floor.median) == [0.1, 0.5]


def test_fraction_reaching_counts_what_diverged():
    values = [0.5, None, 0.7, 0.9]
    found = statistics.fraction_reaching(values, [0.6, 0.7, 0.95], "max")
    assert [fraction for fraction, _ in found] == [0.5, 0.5, 0.0]
    exact = stats.binomtest(2, 4).proportion_ci(0.95, "exact")
    assert found[0][1] == pytest.approx((exact.low, exact.high))
    found = statistics.fraction_reaching(values, [0.6, 0.9], "min")
    assert [fraction for fraction, _ in found] == [0.25, 0.75]


# --- studies --------------------------------------------------------------


def confirmed(study, runs, training=None):
    """Records of confirming runs with these values, None diverged."""
    records = []
    for arm, values in runs.items():
        for index, value in enumerate(values):
            metrics = {
                "validation": {"accuracy": value},
                "training": {"accuracy": (training or runs)[arm][index]},
            }
            curve = [
                {"step": step, "validation": {"accuracy": value * part}}
                for step, part in ((40, 0.5), (80, 0.99), (100, 1.0))
                if value is not None
            ]
            records.append(
                {
                    "arm": arm,
                    "stage": "confirm",
                    "index": index,
                    "seed": index + 1,
                    "hyperparameters": {},
                    "status": "diverged" if value is None else "finished",
                    "metrics": None if value is None else metrics,
                    "curve": curve,
                }
            )
    return records


def study_of(**changes):
    return synthetic_study.make_study(arms=("nesterov", "lars"), **changes)


def on_test_data(records, groups):
    """The records with test data on which the runs do as on validation.

    `groups(arm)` are what the groups of test examples differ from them by.
    """
    for record in records:
        if record["metrics"] is not None:
            validation = record["metrics"]["validation"]
            record["metrics"]["test"] = dict(validation)
            off = groups(record["arm"])
            record["test_groups"] = [validation["accuracy"] + d for d in off]
            validation["accuracy"] = 0.5
    return records


def test_runs_are_judged_on_the_test_data():
    runs = {arm: list(v) for arm, v in steady(nesterov=0, lars=3).items()}
    study = study_of(target=None)
    study["facts"]["num_test"] = 400
    records = on_test_data(confirmed(study, runs), lambda arm: [0.1, -0.1] * 20)
    decided = verdict.decide(study, records)
    assert str(decided) == "needed"
    assert "lars beats nesterov in test accuracy by" in decided.sentence
    assert any("400 test examples" in note for note in decided.notes)
    parts = {pair.part: pair for pair in decided.pairs}
    assert list(parts) == ["test", "validation", "training"]
    # The same examples are hard for both arms, which decides nothing.
    assert parts["test"].example_error == pytest.approx(0.0, abs=1e-9)
    assert parts["validation"].example_error is None
    assert verdict.answer(study, records) == "needed"


def test_few_test_examples_are_a_doubt_of_their_own():
    runs = {arm: list(v) for arm, v in steady(nesterov=0, lars=3).items()}
    study = study_of(target=None)
    study["facts"]["num_test"] = 400
    random = np.random.default_rng(3)
    off = {arm: random.normal(0, 0.08, 40) for arm in study["arms"]}
    records = on_test_data(confirmed(study, runs), off.get)
    decided = verdict.decide(study, records)
    assert (decided.answer, decided.doubt) == ("undecided", "examples")
    assert str(decided) == "undecided (examples)"
    (pair, *_) = decided.pairs
    assert pair.seeds_answer == "needed" and pair.doubt == "examples"
    assert pair.example_error == pytest.approx(
        np.std(off["lars"] - off["nesterov"], ddof=1) / 40**0.5
    )
    times = math.ceil(decided.times_examples)
    assert f"About {times} times as many examples" in decided.sentence
    # So many times the examples, and a little for rounding, do decide.
    records = on_test_data(
        confirmed(study, runs),
        lambda arm: off[arm] / (1.1 * decided.times_examples) ** 0.5,
    )
    assert verdict.decide(study, records).answer == "needed"
    # Runs that do not say on which examples they err have no such error.
    for record in records:
        del record["test_groups"]
    without = verdict.decide(study, records)
    assert without.answer == "needed"
    assert any("hold seeds only" in note for note in without.notes)


def test_with_examples_nothing_is_surer_than_without():
    random = np.random.default_rng(11)
    for _ in range(200):
        x, y = random.normal(size=(2, 6))
        examples = difference.ExampleError(0.1 * random.random(), 49)
        made = difference.Shift(x, y, examples=examples)
        assert made.interval.low <= made.seeds_interval.low
        assert made.interval.high >= made.seeds_interval.high
        plain = difference.Shift(x, y)
        assert made.p_below(1.0) >= plain.p_below(1.0)
        assert made.p_above(-1.0) >= plain.p_above(-1.0)


def test_arms_that_always_diverge_do_not_crash_the_others():
    runs = {
        "lars": [None] * 6,
        "adamw": [None] * 6,
        "nesterov": [0.9, 0.91, 0.92, 0.9, 0.91, 0.9],
    }
    for mode in ("max", "min"):
        decided = verdict.compare_arms(runs, ["lars"], mode=mode, margin=0.01)
        assert decided.answer == "not needed"
        json.dumps(decided.to_dict(), allow_nan=False)


def test_trials_that_all_diverged_are_not_ahead():
    """Of 4 pairs of single trials, one is ahead: finite against diverged."""
    ends = [-np.inf, 0.9]
    assert search_luck.share([ends], [(0.005, ends)]) == pytest.approx(0.25)
    assert search_luck.share([[-np.inf] * 4], [(0.005, ends * 2)]) == 0.0


def test_runs_that_say_less_than_it_seems_are_told_of():
    runs = {"a": [0.9] * 6, "b": [0.8 + i / 100 for i in range(6)]}
    searched = {"a": [0.8] * 9, "b": [0.8] * 4}
    notes = verdict.compare_arms(runs, ["a"], searched=searched).notes
    assert "Unequal numbers of search trials (a 9, b 4): " in notes[0]
    assert notes[1].startswith("All 6 runs of a are equal. ")
    assert not any("runs of b are equal" in note for note in notes)


@pytest.mark.parametrize("lars, sgd, told", [
    ([0.95] * 5, [0.9] * 5, "Undecided (1 more seed): "),
    ([0.9] * 2, [0.95] * 5, "Undecided (4 more seeds): "),
    ([], [], "Undecided (6 more seeds): "),
    ([None] * 8, [None] * 8, "Undecided: every run of every arm diverged."),
])  # fmt: skip
def test_runs_without_a_spread_and_no_runs(lars, sgd, told):
    runs = {"lars": lars, "sgd": sgd}
    found = verdict.compare_arms(runs, ["lars"], margin=0.005)
    assert found.sentence.startswith(told)


def test_a_small_margin_is_no_margin_of_nothing():
    runs = steady(lars=0, sgd=0)
    per_cent = {arm: [100 * v for v in own] for arm, own in runs.items()}
    notes = verdict.compare_arms(per_cent, ["lars"], margin=0.005).notes
    assert any("The margin is 0.0" in note for note in notes)


def test_search_trials_of_some_arms_only_are_refused():
    runs = steady(nesterov=0, adamw=0, lars=3)
    searched = {"lars": [0.9] * 5, "adamw": [0.8] * 5}
    with pytest.raises(ValueError, match="searched lacks .'nesterov'."):
        verdict.compare_arms(runs, ["lars"], margin=0.005, searched=searched)


def test_no_floor_where_everything_diverged():
    study = study_of(target=None)
    study["facts"]["chance"] = 0.12
    runs = {arm: [None] * 8 for arm in ("nesterov", "lars")}
    records = confirmed(study, runs)
    records[0]["status"] = "finished"
    records[0]["metrics"] = {
        part: {"accuracy": 0.9} for part in ("validation", "training")
    }
    assert "inf" not in verdict.decide(study, records).sentence


def test_a_study_is_judged_like_its_numbers():
    runs = {arm: list(v) for arm, v in steady(nesterov=0, lars=3).items()}
    training = {a: list(v) for a, v in steady(nesterov=3, lars=0).items()}
    runs["nesterov"][2] = training["nesterov"][2] = None
    study = study_of(target=None)
    del study["facts"]["num_validation"]  # plain numbers do not have one
    decided = verdict.decide(study, confirmed(study, runs, training))
    expected = verdict.compare_arms(
        runs, ["lars"], training, margin=study["margin"]
    )
    assert decided == expected
    assert decided.answer == "needed"
    assert "regularization rather than optimization" in decided.sentence


@pytest.mark.parametrize("lars, nesterov, ahead, answer, share", [
    ([0.9] * 20, [0.85] * 20, 4, "needed", 1.0),
    ([0.85] * 19 + [0.9], [0.85] * 20, 4, "undecided (search)", 0.5),
    ([0.85] * 20, [0.85] * 20, 0, "not needed", 0.0),
    ([0.85] * 20, [0.8] * 19 + [0.85], 0, "undecided (search)", 0.5),
    ([None] * 19 + [0.9], [0.85] * 20, 4, "undecided (search)", 0.5),
])  # fmt: skip
def test_a_lucky_trial_does_not_decide(lars, nesterov, ahead, answer, share):
    runs = {a: list(v) for a, v in steady(nesterov=0, lars=ahead).items()}
    study = study_of(target=None, trials=20, seeds=12)
    records = confirmed(study, runs)
    for arm, scores in (("lars", lars), ("nesterov", nesterov)):
        for index, value in enumerate(scores):
            record = next(r for r in records if r["arm"] == arm)
            metrics = {"validation": {"accuracy": value, "loss": 0.1}}
            records.append(
                record
                | {"stage": "broad", "index": index, "curve": []}
                | {"status": "diverged" if value is None else "finished"}
                | {"metrics": None if value is None else metrics}
            )
    found = verdict.decide(study, records)
    assert str(found) == answer, found.sentence
    assert found.search_share == pytest.approx(share)
    (note,) = [n for n in found.notes if "half of the trials of this" in n]
    assert f"{share:.0%} would have put a challenger ahead" in note
    if found.doubt == "search":
        assert f"{share:.0%} would have put" in found.sentence
        assert found.more_seeds == 0


def test_shares_of_fewer_trials_are_those_of_all_subsets():
    """Kills: with replacement; the margin on the wrong side; k off by one."""
    random = np.random.default_rng(5)
    lars, lamb, sgd, adamw = random.normal(size=(4, 5)).round(1)
    found = search_luck.shares([lars, lamb], [(0.5, sgd), (0.2, adamw)])
    for k in range(1, 6):
        ways = [
            [max(s) for s in itertools.combinations(arm, k)]
            for arm in (lars, lamb, sgd, adamw)
        ]
        ahead = [
            max(a, b) >= c + 0.5 - 1e-9 and max(a, b) >= d + 0.2 - 1e-9
            for a, b, c, d in itertools.product(*ways)
        ]
        assert found[k - 1] == pytest.approx(np.mean(ahead))
    assert 0 < found[1] < 1


def with_trials(study, records, arm, points):
    """The records, and a broad trial for each point, best first."""
    template = next(r for r in records if r["arm"] == arm)
    for index, point in enumerate(points):
        metrics = {"accuracy": 0.9 - 0.01 * index, "loss": 0.1}
        records.append(
            template
            | {"stage": "broad", "index": index, "hyperparameters": point}
            | {"status": "finished", "curve": []}
            | {"metrics": {"validation": metrics, "training": metrics}}
        )


@pytest.mark.parametrize("rates, told, answer", [
    ((9.0, 8.0, 1.0, 1.0), "and so does another", "undecided (edge)"),
    ((1.0, 8.0, 9.0, 1.0), "two of the best three", "undecided (edge)"),
    ((9.0, 1.0, 1.0, 8.0), "the best learning_rate, 9, lies", "needed"),
    ((1.0, 1.0, 1.0, 9.0), "", "needed"),
    ((0.011, 0.012, 1.0, 1.0), "at the lower end", "undecided (edge)"),
])  # fmt: skip
def test_a_baseline_at_the_edge_of_its_space(rates, told, answer):
    runs = {a: list(v) for a, v in steady(nesterov=0, lars=4).items()}
    study = study_of(target=None, trials=4, seeds=12)
    parameters = study["arms"]["nesterov"]["space"]["parameters"]
    assert parameters["learning_rate"] == {
        "min": 0.01, "max": 10.0, "scale": "log",
    }  # fmt: skip
    records = confirmed(study, runs)
    inside = {"l2": 1e-4, "weight_decay": 1e-4, "warmup_steps": 0}
    for arm, all_rates in (("lars", [3.0] * 4), ("nesterov", rates)):
        with_trials(
            study, records, arm,
            [inside | {"learning_rate": rate} for rate in all_rates],
        )  # fmt: skip
    study["margin"] = 1e-9  # equal searches: not a matter of luck
    for record in records:
        if record["stage"] == "broad" and record["arm"] == "lars":
            record["metrics"]["validation"] = {"accuracy": 0.95, "loss": 0.1}
    found = verdict.decide(study, records)
    assert str(found) == answer, found.sentence
    notes = [n for n in found.notes if "range" in n]
    assert len(notes) == bool(told)
    assert all(n.startswith("nesterov") and told in n for n in notes)
    if answer != "needed":
        assert "space of nesterov.learning_rate" in found.sentence


@pytest.mark.parametrize("first, told", [
    (None, "was not given when"),
    (0.02, "was 0.02 when"),
    (0.01, ""),
])  # fmt: skip
def test_a_margin_that_was_changed_is_named(first, told):
    runs = {a: list(v) for a, v in steady(nesterov=0, lars=4).items()}
    study = study_of(target=None, seeds=12) | {"margin": 0.01}
    notes = verdict.decide(study, confirmed(study, runs)).notes
    assert not [n for n in notes if "has been changed" in n]
    study["first_margin"] = first
    notes = verdict.decide(study, confirmed(study, runs)).notes
    changed = [n for n in notes if "has been changed" in n]
    assert len(changed) == bool(told)
    assert all(told in note for note in changed)


@pytest.mark.parametrize("median, answer", [
    (0.1, "undecided (floor)"),
    (0.124, "undecided (floor)"),
    (0.127, "not needed"),
])  # fmt: skip
def test_arms_that_learn_nothing_are_not_as_good(median, answer):
    runs = {arm: [median] * 8 for arm in ("nesterov", "lars")}
    study = study_of(target=None)
    study["facts"]["chance"] = 0.12
    decided = verdict.decide(study, confirmed(study, runs))
    assert str(decided) == answer
    if decided.doubt:
        assert "always predicting the commonest label 0.12" in decided.sentence
    del study["facts"]["chance"]
    assert verdict.decide(study, confirmed(study, runs)).answer == "not needed"


def test_sides_are_as_the_study_names_them():
    runs = {"muon": 4, "adamw": 0, "sgd": 8}
    runs = {a: list(v) for a, v in steady(**runs).items()}
    study = synthetic_study.make_study(arms=tuple(runs), target=None)
    usual = verdict.decide(study, confirmed(study, runs))
    assert not usual.pairs  # none of them is layer-wise
    sides = {"challengers": ["muon"], "baselines": ["adamw"]}
    found = verdict.decide(study | sides, confirmed(study, runs))
    assert found.answer == "needed"
    assert found.sentence.startswith("Needed: muon beats adamw")
    told = {a.arm: a.side for a in found.arms}
    assert told == {"muon": "challenger", "adamw": "baseline", "sgd": None}
    expected = verdict.compare_arms(
        runs, ["muon"], margin=study["margin"], baselines=["adamw"]
    )
    assert expected.pairs == tuple(
        p for p in found.pairs if p.part == "validation"
    )
    sides = {"challengers": ["muon"], "baselines": ["adamw", "sgd"]}
    found = verdict.decide(study | sides, confirmed(study, runs))
    assert found.answer == "not needed"
    assert verdict.side(study | sides, "sgd") == "baseline"


def test_what_seeds_do_not_vary_is_said():
    runs = {"nesterov": [0.98] * 6, "lars": [0.98] * 6}
    study = study_of(target=None)
    study["facts"]["num_validation"] = 400  # sqrt(0.98 * 0.02 / 400) = 0.007
    study["selection"] = "validation"
    [said] = [
        note
        for note in verdict.decide(study, confirmed(study, runs)).notes
        if "400 validation examples" in note
    ]
    assert "0.98 over that many examples is 0.007." in said
    assert "selected" in said
    study["selection"] = "training"
    study["metric"]["name"] = "score"
    for record in (records := confirmed(study, runs)):
        for part in record["metrics"].values():
            part["score"] = part.pop("accuracy")
        for point in record["curve"]:
            point["validation"]["score"] = point["validation"].pop("accuracy")
    notes = verdict.decide(study, records).notes
    assert any(
        note.endswith("not the 400 validation examples.") for note in notes
    )


def test_target_hits_and_steps():
    runs = {"nesterov": [0.99] * 6, "lars": [0.97] * 4 + [0.9, None]}
    study = study_of(target=0.965)
    decided = verdict.decide(study, confirmed(study, runs))
    nesterov, lars = decided.arms[:2]
    assert (nesterov.hits, lars.hits) == (6, 4)
    assert (nesterov.steps_to_target, nesterov.steps_high) == (80, 80)
    assert (lars.steps_to_target, lars.steps_low) == (100, 100)
    assert decided.to_dict()["arms"][1]["steps_high"] is None
    table = [[4, 2], [6, 0]]
    expected = stats.fisher_exact(table).pvalue
    assert decided.pairs[0].hits_p == pytest.approx(expected)
    assert decided.arms[2].hits is None
    study["metric"]["mode"] = "min"
    lars = verdict.decide(study, confirmed(study, runs)).arms[1]
    assert (lars.hits, lars.steps_to_target) == (1, 40)


def test_runs_whose_seeds_decide_nothing_count_as_one():
    study = synthetic_study.make_study(target=None)
    records = synthetic_study.make_records(study)
    same = {
        arm: next(
            r for r in records if (r["arm"], r["stage"]) == (arm, "confirm")
        )["metrics"]
        for arm in study["arms"]
    }
    repeated = [
        r | {"metrics": same[r["arm"]]} if r["stage"] == "confirm" else r
        for r in records
    ]
    counted = verdict.decide(study, repeated)
    assert {a.runs for a in counted.arms} == {20}
    # Only where nothing but the seeds could have made them differ.
    study["facts"]["same_initial_weights"] = True
    once = verdict.decide(study, repeated)
    assert {a.runs for a in once.arms} == {1}
    assert (once.answer, once.doubt) == ("undecided", "seeds")
    assert any(
        "equal but for rounding, and count as one" in n for n in once.notes
    )
    varied = verdict.decide(study, records)
    assert {a.runs for a in varied.arms} == {20}
    assert any("hold for these weights." in note for note in varied.notes)


def test_unequal_budgets_are_cut_and_said():
    study = synthetic_study.make_study(target=None)
    records = synthetic_study.make_records(study)
    equal = verdict.decide(study, records)
    assert not any("Unequal" in note for note in equal.notes)
    dropped = [
        r
        for r in records
        if not (
            r["arm"] == "lars" and r["stage"] == "broad" and r["index"] > 12
        )
    ]
    cut = verdict.decide(study, dropped)
    assert "Unequal numbers" in cut.notes[0]
    before, after = (
        {a.arm: a.runs for a in v.arms if a.part == "validation"}
        for v in (equal, cut)
    )
    assert set(before.values()) == {20}
    assert 0 in after.values() and cut.answer == "undecided"


def test_an_arm_that_never_trained_is_left_out():
    study = synthetic_study.make_study(target=None)
    records = synthetic_study.make_records(study)
    records = [
        r | {"status": "diverged", "metrics": None} if r["arm"] == "lamb" else r
        for r in records
        if r["arm"] != "lamb" or r["stage"] == "broad"
    ]
    decided = verdict.decide(study, records)
    assert {p.arm for p in decided.pairs} == {"lars"}
    assert any("lamb is left out" in note for note in decided.notes)


def test_an_arm_without_runs_is_waited_for():
    study = study_of(target=0.9)
    runs = {"nesterov": [0.9] * 10, "lars": []}
    decided = verdict.decide(study, confirmed(study, runs))
    assert str(decided) == "undecided (6 more seeds)"
    decided = verdict.decide(study, [])
    assert str(decided) == "undecided (6 more seeds)"
    json.dumps(decided.to_dict(), allow_nan=False)


def test_no_challenger_no_verdict():
    decided = verdict.compare_arms(steady(sgd=0, adamw=1), [])
    assert str(decided) == "undecided"
    assert "no challenger" in decided.sentence


def test_a_record_without_the_metric_is_named():
    study = study_of(target=None)
    records = confirmed(study, {"lars": [0.9], "nesterov": [0.9]})
    study["metric"]["name"] = "auc"
    with pytest.raises(ValueError, match="nesterov, confirm trial 0.*'auc'"):
        verdict.decide(study, records)


def test_an_arm_alone_has_no_verdict():
    study = synthetic_study.make_study(arms=("nesterov",))
    records = synthetic_study.make_records(study)
    found = verdict.decide(study, records)
    assert str(found) == found.answer == "no verdict"
    (arm,) = [a for a in found.arms if a.part == "validation"]
    assert found.sentence == (
        "No verdict: nesterov is the only arm of this study; its best "
        f"hyperparameters reach a median validation accuracy of "
        f"{arm.median:.4g} over 20 seeds (95 %: {arm.low:.4g} to "
        f"{arm.high:.4g})."
    )
    assert not [n for n in found.notes if "verdict" in n]
    none = verdict.decide(study, [])
    assert none.sentence == (
        "No verdict: nesterov is the only arm of this study."
    )


def test_the_verdict_is_json_and_always_the_same():
    study = synthetic_study.make_study()
    records = synthetic_study.make_records(study)
    once, twice = (
        json.dumps(verdict.decide(study, records).to_dict(), allow_nan=False)
        for _ in range(2)
    )
    assert once == twice
    loaded = json.loads(once)
    fields = {f.name for f in dataclasses.fields(verdict.PairVerdict)}
    assert set(loaded["pairs"][0]) == fields
    assert len(loaded["pairs"]) == 8 and len(loaded["arms"]) == 8


_SIX = [0.9, 0.91, 0.92, 0.93, 0.9, 0.91]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"validation": [_SIX, _SIX]}, "validation must be {arm: one number"),
        ({"validation": {"a": 0.9}}, "validation: a: must be a list"),
        ({"validation": {"a": "0.9"}}, "validation: a: must be a list"),
        ({"validation": {"a": set(_SIX)}}, "validation: a: must be a list"),
        ({"validation": {"a": ["x"]}}, "a: run 0 must be a number.*'x'"),
        ({"validation": {"a": [0.9, True]}}, "a: run 1 must be a number.*True"),
        ({"validation": {"a": np.ones((6, 2))}}, "a: run 0 must be a number"),
        ({"training": {"a": ["x"]}}, "training: a: run 0 must be a number"),
        ({"validation": {"a": [1e200]}}, "a: run 0 must be at most 1e.100"),
        ({"validation": {"a": [0, 10**400]}}, "a: run 1 must be at most"),
        ({"target": math.nan}, "target is nan; expected a finite"),
        ({"challengers": "a"}, "challengers must be a list of arms.*'a'"),
        ({"challengers": iter("a")}, "challengers must be a list of arms"),
        ({"baselines": "b"}, "baselines must be a list of arms.*'b'"),
        ({"baselines": ["d"]}, r"baselines has \['d'\]"),
        ({"baselines": ["a", "b"]}, r"both have \['a'\]"),
        ({"challengers": ["c"]}, r"challengers has \['c'\]"),
        ({"margin": "1"}, "margin must be a number or None.*'1'"),
        ({"margin": 0}, "margin is 0; expected a positive"),
        ({"target": "1"}, "target must be a number or None.*'1'"),
        ({"mode": "up"}, "mode is 'up'"),
    ],
)
def test_runs_that_cannot_be_judged(given, message):
    usual = {"validation": {"a": _SIX, "b": _SIX}, "challengers": ["a"]}
    verdict.compare_arms(**usual)
    with pytest.raises((TypeError, ValueError), match=message):
        verdict.compare_arms(**usual | given)


def test_runs_may_be_what_holds_numbers():
    expected = verdict.compare_arms({"a": _SIX, "b": _SIX[::-1]}, ["a"])
    for kind in (tuple, np.array, collections.deque):
        runs = {"a": kind(_SIX), "b": kind(_SIX[::-1])}
        assert verdict.compare_arms(runs, ["a"]) == expected


@pytest.mark.parametrize("kind", [np.float32, np.float64, fractions.Fraction])
def test_settings_may_be_any_numbers(kind):
    runs = {"a": _SIX[:5], "b": _SIX[4::-1]}
    looks = {"look_every": np.int64(5), "planned_seeds": np.int32(10)}
    given = {"margin": kind(0.25), "target": kind(0.5)}
    found = verdict.compare_arms(runs, ["a"], **given, **looks).to_dict()
    plain = {"margin": 0.25, "target": 0.5, "look_every": 5}
    expected = verdict.compare_arms(runs, ["a"], **plain, planned_seeds=10)
    assert json.loads(json.dumps(found)) == expected.to_dict()


def test_the_example_of_the_manual(capsys):
    manual = pathlib.Path(__file__).parents[2] / "docs/report.md"
    (code,) = re.findall(r"```python\n(.*?)```", manual.read_text(), re.DOTALL)
    exec(code, {})
    (expected,) = re.findall(r"# (.*)", code)
    assert capsys.readouterr().out.splitlines()[0] == expected


def test_needs_no_framework():
    code = (
        "import sys; from lbcheck import verdict; "
        "print({'tensorflow', 'keras', 'tf_keras'} & set(sys.modules))"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert printed.strip() == "set()"
