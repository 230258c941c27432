"""The ablation ladder, on responses whose active settings are known."""

import concurrent.futures
import json
import math
import re

import numpy as np
import pytest

from lbcheck.instruments import ladder
from lbcheck.instruments import ladder_page

NAMES = tuple("abcdefgh")
BEST = dict.fromkeys(NAMES, "new")
OTHER = dict.fromkeys(NAMES[:6], "old")  # g and h are not set at all
MARGIN = 0.005
NOISE = 0.002


class Response:
    """A score with main effects, and noise that depends on rung and seed."""

    def __init__(self, effects, draw, noise=NOISE):
        self.effects, self.draw, self.noise = effects, draw, noise
        self.calls = []

    def __call__(self, rung, settings, seed):
        self.calls.append((rung, seed))
        words = [self.draw, seed, *map(ord, rung)]
        generator = np.random.default_rng(words)
        if self.draw % 2:  # skewed, of the same spread
            noise = generator.exponential() - 1
        else:
            noise = generator.standard_normal()
        return self.mean(settings) + self.noise * noise

    def mean(self, settings):
        return 0.7 + sum(
            effect
            for name, effect in self.effects.items()
            if settings.get(name) == "new"
        )


def climb(response, seeds=20, **options):
    return ladder.climb(BEST, OTHER, response, MARGIN, seeds, **options)


def page_of(found):
    return ladder_page.result(found, ["a.flags", "b.flags"], "f1", "max")


def test_it_finds_the_three_active_of_eight():
    hits = confirmed = 0
    for draw in range(100):
        chosen = np.random.default_rng(draw).permutation(NAMES)
        active = dict(zip(chosen[:3], (0.012, 0.02, 0.03)))
        small = {chosen[3]: 0.001, chosen[4]: -0.001}
        found = climb(Response(active | small, draw))
        hits += set(found.needed) == set(active) and not found.undecided
        confirmed += found.minimal is not None and (
            set(found.minimal) == set(active)
        )
    assert hits >= 95 and confirmed >= 95, (hits, confirmed)


def test_of_many_that_lose_just_the_margin_few_are_called_needed():
    """The error is of all factors together; 5 % each would be 34 %."""
    effects = dict.fromkeys(NAMES, MARGIN)
    wrong = {"needed": 0, "not needed": 0}
    for draw in range(0, 400, 2):
        response = Response(effects, draw)
        rungs = [
            ladder.Rung(
                name,
                settings,
                tuple(response(name, settings, s) for s in range(20)),
            )
            for name, settings in {
                "A": BEST,
                **{n: {**BEST, n: "old"} for n in NAMES},
            }.items()
        ]
        pairs = [(ladder.Factor(n, (n,)), r) for n, r in zip(NAMES, rungs[1:])]
        answers = {d.answer for d in ladder.decide(rungs[0], pairs, MARGIN)}
        for answer in wrong:
            wrong[answer] += answer in answers
    # 200 draws: 5 % are 10, and 17 are 2 standard deviations more.
    assert max(wrong.values()) <= 17, wrong


def test_settings_that_stand_in_for_one_another_are_noticed():
    class Redundant(Response):
        def mean(self, settings):
            either = "new" in (settings.get("a"), settings.get("b"))
            return super().mean(settings) + 0.03 * either

    found = climb(Redundant({"a": 0.002, "c": 0.03}, 0, noise=0.001))
    assert found.needed == ("c",)
    first, last = found.confirmations
    assert not first.holds and first.kept == ("c",)
    assert first.loss == pytest.approx(0.032, abs=0.002)
    # The one whose loss was greatest is taken in, and b is not.
    assert last.holds and found.minimal == ("a", "c")


def test_the_confirmation_has_seeds_of_its_own():
    response = Response({"a": 0.03}, 0, noise=0.001)
    found = climb(response, seeds=10)
    rungs = {}
    for name, seed in response.calls:
        rungs.setdefault(name, []).append(seed)
    assert rungs["A"] == rungs["without h"] == [*range(10)]
    assert rungs["A again"] == rungs["minimal"] == [*range(10, 20)]
    assert len(response.calls) == 10 * (1 + 1 + 8 + 2)
    (last,) = found.confirmations
    assert last.rung.settings == {"a": "new"} | {
        name: "old" for name in NAMES[1:6]
    }


def test_a_pool_gives_the_same_ladder():
    plain = climb(Response({"a": 0.03}, 4))
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        pooled = climb(Response({"a": 0.03}, 4), over=pool.map)
    assert pooled == plain


def test_few_noisy_seeds_decide_nothing_and_all_is_kept():
    found = climb(Response({"a": 0.006}, 2, noise=0.02), seeds=3)
    assert set(found.undecided) == set(NAMES)
    (last,) = found.confirmations
    assert last.kept == NAMES and last.rung.name == "A again"
    assert found.minimal == NAMES


def test_without_a_setting_every_run_diverges():
    def evaluate(rung, settings, seed):
        if settings.get("a") != "new":
            return None if seed % 2 else math.nan
        return 0.7 + 0.0005 * (seed % 3)

    found = climb(evaluate)
    assert found.needed == ("a",) == found.minimal
    assert found.other.scores.count(None) == 10
    # How much is lost, no run says.
    assert found.decisions[0].loss == math.inf
    row = page_of(found)["rungs"][1]
    assert row["rung"] == "without a" and row["diverged"] == 20
    assert {row[k] for k in ("median", "loss", "low", "high")} == {None}
    line = re.search("without a .*", ladder_page.text(page_of(found)))[0]
    assert line.split() == ["without", "a", "20", "20", "needed"]


class Failing(Response):
    """Runs without a, or with it, diverge in the first seeds of each batch."""

    def __init__(self, without, best, effects):
        super().__init__(effects, 0, noise=0.001)
        self.without, self.best = without, best

    def __call__(self, rung, settings, seed):
        failing = self.best if settings.get("a") == "new" else self.without
        if seed % 20 < failing:
            return None
        return super().__call__(rung, settings, seed)


# The upper bounds of 2, 4 and 20 of 20 against none of 20 are 0.25, 0.38 and 1.
@pytest.mark.parametrize("failing", [2, 4])
def test_a_setting_without_which_runs_fail_is_kept(failing):
    found = climb(Failing(failing, 0, {"b": 0.03}))
    first, *others = found.decisions
    assert first.answer == "undecided" and first.failing
    assert first.failures == (0, failing)
    assert [d.answer for d in others] == ["needed"] + ["not needed"] * 6
    assert found.minimal == ("a", "b")
    assert first.interval.high == math.inf
    assert -MARGIN < first.interval.low < first.loss < MARGIN
    said = page_of(found)["sentence"]
    assert (
        f"Undecided because of failures, and kept: a ({failing} of 20 runs "
        "fail without it, 0 of A's)." in said
    )
    assert "more --seeds" not in said
    assert "undecided (failures)" in ladder_page.text(page_of(found))


def test_where_a_fails_more_often_nothing_is_needed():
    found = climb(Failing(0, 4, {"a": 0.03}))
    first = found.decisions[0]
    assert first.answer == "undecided" and first.failing
    assert first.failures == (4, 0)


def test_where_both_fail_alike_the_scores_decide():
    found = climb(Failing(4, 4, {"b": 0.03}))
    assert found.needed == ("b",)
    assert not any(decision.failing for decision in found.decisions)
    assert found.decisions[0].interval == (-math.inf, math.inf)


def test_a_set_that_fails_is_not_as_good():
    """Without a or without b no run fails, without both 4 of 20 do."""

    def evaluate(rung, settings, seed):
        either = "new" in (settings.get("a"), settings.get("b"))
        return 0.7 if either or seed % 20 >= 4 else None

    found = climb(evaluate)
    assert not found.needed and not found.undecided
    first, *_, last = found.confirmations
    assert first.kept == () and not first.holds
    assert last.holds and set(last.kept) & {"a", "b"}


def test_what_diverges_throughout_is_not_as_good():
    """Also where A does, of the fresh seeds."""
    found = climb(lambda rung, settings, seed: 0.7 if seed < 20 else None)
    assert not any(c.holds for c in found.confirmations[:-1])
    assert found.minimal == NAMES
    json.dumps(page_of(found), allow_nan=False)


def test_groups_are_taken_back_as_one():
    response = Response({"a": 0.02, "h": 0.02}, 0)
    found = climb(response, together=[("h", "a"), ("b", "c")])
    assert [d.factor.name for d in found.decisions] == [
        "h+a",
        "b+c",
        "d",
        "e",
        "f",
        "g",
    ]
    assert found.needed == ("h+a",)
    assert found.decisions[0].rung.settings == {
        **dict.fromkeys(NAMES[1:7], "new"),
        "a": "old",
    }
    assert found.decisions[0].loss == pytest.approx(0.04, abs=0.003)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"margin": 0.0}, "margin must be above 0, received 0"),
        ({"margin": math.inf}, "margin must be above 0, received inf"),
        ({"seeds": 1}, "seeds must be at least 2, received 1"),
        ({"other": BEST}, "the same settings"),
        ({"together": [("a", "x")]}, "'x' is the same; .* a, b, c"),
        ({"together": [("a", "b"), ("b",)]}, "'b' is in two groups"),
        ({"evaluate": lambda *_: None}, "every run of A diverged"),
    ],
)
def test_refused(options, message):
    usual = {
        "best": BEST,
        "other": OTHER,
        "evaluate": Response({}, 0),
        "margin": MARGIN,
        "seeds": 3,
    }
    with pytest.raises(ValueError, match=message):
        ladder.climb(**usual | options)


def test_the_words_say_which_set_is_as_good():
    def page(response, **options):
        return page_of(climb(response, **options))

    said = page(Response({"a": 0.03}, 0))
    assert said["sentence"].endswith(
        "of f1: a. B with A's a is as good as A, with fresh seeds."
    )
    nothing = page(Response({}, 0))
    assert "none. B is as good as A" in nothing["sentence"]
    few = page(Response({"a": 0.006}, 2, noise=0.02), seeds=3)
    assert few["sentence"].endswith("So all of A's settings are kept.")
    assert [row["rung"] for row in few["rungs"]][-2:] == ["B", "A again"]


def test_what_is_open_is_no_number_of_json():
    """Of three seeds no interval has an end."""
    page = page_of(climb(Response({"a": 0.03}, 0), seeds=3))
    row = json.loads(json.dumps(page, allow_nan=False))["rungs"][1]
    assert row["low"] is None and row["high"] is None
    assert row["loss"] == pytest.approx(0.03, abs=0.005)
    assert "-infinity to infinity" in ladder_page.text(page)


def test_the_figure_says_what_diverged(tmp_path):
    page = page_of(climb(Failing(20, 0, {})))
    _, path = ladder_page.draw(page, tmp_path)
    assert path.suffix == ".svg" and "20 diverged" in path.read_text()
