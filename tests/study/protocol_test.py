"""The protocol: which trials, with equal budgets, and what counts."""

import copy
import math
import random
import statistics
import subprocess
import sys

import pytest

from lbcheck.search import space
from lbcheck.study import protocol
from tests.study.ledger_worker import make_record
from tests.study.ledger_worker import make_study


def score_by_rate(task):
    """A metric that is best at a rate of 0.3; rates above 5 diverge."""
    rate = task["hyperparameters"]["learning_rate"]
    if rate > 5:
        return make_record(task)
    accuracy = 1 - abs(math.log10(rate / 0.3)) / 4 + 0.001 * (task["seed"] % 8)
    return make_record(
        task,
        metrics={
            "validation": {"accuracy": accuracy, "loss": 1 - accuracy},
            "training": {"accuracy": rate / 10, "loss": 1.0},
        },
    )


def run(study, score=score_by_rate, order=None):
    """All records of a study, trained one task at a time."""
    plan, records = protocol.Protocol(study), []
    while tasks := plan.next_tasks(records):
        task = order.choice(tasks) if order else tasks[0]
        records.append(score(task))
    return records


def of(records, arm, stage):
    found = [r for r in records if (r["arm"], r["stage"]) == (arm, stage)]
    return sorted(found, key=lambda record: record["index"])


def point(record):
    return record["hyperparameters"]


def test_stages():
    study = make_study(trials=6, refined_trials=4, seeds=3)
    records = run(study)
    described = study["arms"]["lars"]["space"]
    search = {r["seed"] for r in records if r["stage"] != "confirm"}
    assert len(search) == 1
    fresh = [r["seed"] for r in of(records, "lars", "confirm")]
    assert len(search | set(fresh)) == 4
    for arm in study["arms"]:
        own = protocol.derived_seed(7, "points", arm)
        broad = space.Space.from_dict(described).points(own, 0, 6, 100)
        searched = of(records, arm, "broad")
        assert [point(r) for r in searched] == broad
        distance = [
            abs(math.log10(p["learning_rate"] / 0.3))
            if p["learning_rate"] <= 5
            else math.inf
            for p in broad
        ]
        center = broad[distance.index(min(distance))]
        finer = space.Space.from_dict(described).refined(center, 0.3, 100)
        center = center["learning_rate"]
        refined = of(records, arm, "refined")
        # The sequence goes on where the broad one ended.
        assert [point(r) for r in refined] == finer.points(own, 6, 4, 100)
        for record in refined:  # 0.3 of three decades around the center
            assert (
                abs(math.log10(point(record)["learning_rate"] / center))
                <= 0.4501
            )
        rates = [point(r)["learning_rate"] for r in searched + refined]
        best = min(rates, key=lambda rate: abs(math.log10(rate / 0.3)))
        confirmed = of(records, arm, "confirm")
        assert [r["seed"] for r in confirmed] == fresh
        assert {point(r)["learning_rate"] for r in confirmed} == {best}
    assert len(records) == protocol.Protocol(study).total == 26


def test_studies_of_other_seeds_have_no_run_in_common():
    """Else `--seed=1` would be no second opinion on `--seed=0`."""

    def runs(seed):
        study = make_study(trials=2, refined_trials=0, seeds=20) | {
            "seed": seed
        }
        return {r["seed"] for r in run(study)}

    found = [runs(seed) for seed in range(10)]
    assert len(set.union(*found)) == sum(map(len, found)) == 10 * 21


def test_arms_draw_independently_of_one_another():
    study = make_study(trials=6, refined_trials=0, seeds=1)
    arms = study["arms"]

    def points(arms):
        tasks = protocol.Protocol({**study, "arms": arms}).next_tasks([])
        return {
            name: [point(t) for t in tasks if t["arm"] == name] for name in arms
        }

    found = points(arms)
    assert found["nesterov"] != found["lars"]  # of one space
    more = points({"another": arms["lars"], **dict(reversed(arms.items()))})
    assert more["nesterov"] == found["nesterov"]
    assert more["lars"] == found["lars"] != more["another"]


@pytest.mark.parametrize("mode", ["max", "min"])
def test_ties_are_broken_by_the_loss(mode):
    study = make_study(trials=4, refined_trials=0, seeds=1)
    study["metric"]["mode"] = mode
    tasks = protocol.Protocol(study).next_tasks([])[:4]
    better = 0.9 if mode == "max" else 0.1
    values = [(0.5, 0.1), (better, 0.7), (better, 0.3), (better, 0.3)]
    records = [
        make_record(
            task,
            metrics={
                part: {"accuracy": value, "loss": loss}
                for part in ("validation", "training")
            },
        )
        for task, (value, loss) in zip(tasks, values)
    ]
    assert protocol.best(study, records, "nesterov")["index"] == 2


def test_any_order_gives_the_same_trials():
    study = make_study(trials=5, refined_trials=3, seeds=2)

    def strip(records):
        return sorted(
            (r["arm"], r["stage"], r["index"], str(point(r))) for r in records
        )

    expected = strip(run(study))
    for seed in range(3):
        assert strip(run(study, order=random.Random(seed))) == expected


def test_tasks_are_a_function_of_study_and_records():
    study = make_study()
    frozen = copy.deepcopy(study)
    tasks = protocol.Protocol(study).next_tasks([])
    assert protocol.Protocol(study).next_tasks([]) == tasks
    assert study == frozen
    assert set(tasks[0]) == {
        "arm",
        "stage",
        "index",
        "seed",
        "hyperparameters",
    }
    more = protocol.Protocol({**study, "trials": 9}).next_tasks([])
    assert [t for t in more if t["index"] < 6] == tasks


def test_arms_do_not_wait_for_one_another():
    study = make_study(trials=2, refined_trials=0, seeds=2)
    tasks = protocol.Protocol(study).next_tasks([])
    assert [t["arm"] for t in tasks] == ["nesterov"] * 2 + ["lars"] * 2
    done = [score_by_rate(task) for task in tasks[2:]]
    tasks = protocol.Protocol(study).next_tasks(done)
    assert [(t["arm"], t["stage"]) for t in tasks] == [
        ("nesterov", "broad")
    ] * 2 + [("lars", "confirm")] * 2


def test_more_seeds_go_on():
    study = make_study(trials=3, refined_trials=2, seeds=2)
    records = run(study)
    tasks = protocol.Protocol({**study, "seeds": 4}).next_tasks(records)
    assert [t["index"] for t in tasks] == [2, 3] * 2
    seeds = [r["seed"] for r in of(records, "lars", "confirm")]
    assert len({*seeds, *(t["seed"] for t in tasks)}) == 4
    assert point(tasks[0]) == point(of(records, "nesterov", "confirm")[0])


@pytest.mark.parametrize(
    "mode, part, values, chosen",
    [
        ("max", "validation", [0.1, 0.9, 0.9, None], 1),  # the earlier of two
        ("min", "validation", [0.4, None, 0.2, 0.2], 2),
        ("max", "training", [None, -1.0, -2.0, 0.0], 3),
        ("max", "validation", [None] * 4, None),
    ],
)
def test_best(mode, part, values, chosen):
    study = make_study(
        metric={"name": "score", "mode": mode},
        selection=part,
        trials=2,
        refined_trials=2,
    )
    records = []
    for i, value in enumerate(values):
        task = {
            "arm": "lars",
            "stage": "broad" if i < 2 else "refined",
            "index": i % 2,
            "seed": 7,
            "hyperparameters": {"learning_rate": 1.0 + i},
        }
        other = {"validation": "training", "training": "validation"}[part]
        metrics = {part: {"score": value}, other: {"score": -i}}
        records.append(
            make_record(
                task,
                status="finished" if value is not None else "diverged",
                metrics=metrics if value is not None else None,
            )
        )
    # Neither other arms nor confirming runs are candidates.
    extreme = {"max": 99.0, "min": -99.0}[mode]
    good = {"validation": {"score": extreme}, "training": {"score": extreme}}
    records.append({**records[0], "metrics": good, "stage": "confirm"})
    records.append({**records[0], "metrics": good, "arm": "nesterov"})
    for order in (records, records[::-1]):
        best = protocol.best(study, order, "lars")
        assert best is (None if chosen is None else records[chosen])


def test_an_arm_that_only_diverges():
    study = make_study(trials=3, refined_trials=2, seeds=2)

    def score(task):
        if task["arm"] == "lars":
            return make_record(task, status="diverged", metrics=None)
        return score_by_rate(task)

    records = run(study, score)
    assert [r["stage"] for r in records if r["arm"] == "lars"] == ["broad"] * 3
    assert len(of(records, "nesterov", "confirm")) == 2
    reasons = protocol.excluded(study, records)
    assert reasons == {"lars": "all 3 search trials diverged"}
    assert protocol.excluded(study, records[:-6]) == {}
    # It is not what the other arm is cut to.
    assert protocol.cut_to_common(study, records) == (records, None)


def test_no_confirming_runs_of_a_failed_study():
    study = make_study(trials=2, refined_trials=0)
    records = run(
        study, lambda t: make_record(t, status="diverged", metrics=None)
    )
    assert len(records) == 4
    assert set(protocol.excluded(study, records)) == {"nesterov", "lars"}


def test_unequal_trials_are_refused():
    study = make_study(trials=6, refined_trials=0)
    grid = {"points": "grid", "parameters": {"a": {"values": [1, 2, 3, 4]}}}
    study["arms"]["lars"]["space"] = grid
    with pytest.raises(ValueError, match="'lars': .* 4 points.* 6 trials"):
        protocol.Protocol(study)
    protocol.Protocol({**study, "trials": 4})
    with pytest.raises(ValueError, match="'lars': a grid has no finer points"):
        protocol.Protocol({**study, "trials": 4, "refined_trials": 1})
    study["arms"]["lars"]["space"] = {
        "points": "halton",
        "parameters": {"a": {"value": 1}},
    }
    with pytest.raises(ValueError, match="'lars': its space has 1 points"):
        protocol.Protocol(study)


@pytest.mark.parametrize(
    "stage, index, target, curve, diagnostics",
    [
        ("broad", 0, None, False, False),
        ("refined", 3, 0.9, True, False),
        ("confirm", 0, None, True, True),
        ("confirm", 1, None, True, False),
    ],
)
@pytest.mark.parametrize("steps", [7, 100, 1000])
def test_observation(stage, index, target, curve, diagnostics, steps):
    study = make_study(target=target, steps=steps)
    seen = protocol.Protocol(study).observation(
        {"stage": stage, "index": index}
    )
    expected = {
        7: (1, 2, 3, 4, 5, 6, 7),
        100: tuple(range(5, 101, 5)),
        1000: tuple(range(50, 1001, 50)),
    }[steps]
    every = {7: 1, 100: 2, 1000: 20}[steps]
    assert seen == {
        "evaluate_at": expected if curve else (),
        "diagnostics_every": every if diagnostics else 0,
    }


def test_equal_budgets_are_not_cut():
    study = make_study()
    records = run(study)
    assert protocol.cut_to_common(study, records) == (records, None)


def interrupted(study, arm, missing):
    """Records without some of one arm's, and what came after them."""
    records = run(study)
    return [
        r
        for r in records
        if r["arm"] != arm
        or (r["stage"] == "broad" and r["index"] not in missing)
    ]


def test_cut_to_common():
    # A seed at which Nesterov's best of eight is not its best of three.
    study = make_study(trials=6, refined_trials=2, seeds=2) | {"seed": 3}
    records = interrupted(study, "lars", {3, 5})
    kept, note = protocol.cut_to_common(study, records)
    for arm in study["arms"]:
        assert [r["index"] for r in of(kept, arm, "broad")] == [0, 1, 2]
        assert of(kept, arm, "refined") == []
    best = protocol.best(study, kept, "nesterov")
    assert point(best) != point(of(records, "nesterov", "confirm")[0])
    assert of(kept, "nesterov", "confirm") == []
    assert note == (
        "Unequal numbers of search trials (nesterov 8, lars 4): every arm is "
        "cut to its first 3. The confirming runs of nesterov used a later "
        "trial's hyperparameters and are left out."
    )


def test_cut_keeps_confirming_runs_of_the_best():
    study = make_study(trials=6, refined_trials=0, seeds=2)
    records = run(study)
    best = protocol.best(study, records, "nesterov")["index"]
    missing = set(range(best + 1, 6))
    assert missing
    records = interrupted(study, "lars", missing)
    kept, note = protocol.cut_to_common(study, records)
    assert of(kept, "nesterov", "confirm") == of(records, "nesterov", "confirm")
    assert len(of(kept, "nesterov", "broad")) == best + 1
    assert note.endswith(f"every arm is cut to its first {best + 1}.")


def test_cut_to_nothing():
    study = make_study()
    records = [r for r in run(study) if r["arm"] == "nesterov"]
    kept, note = protocol.cut_to_common(study, records)
    assert kept == []
    assert "(nesterov 10, lars 0)" in note and "first 0" in note
    assert protocol.cut_to_common(study, []) == ([], None)


def test_imports_no_framework():
    code = (
        "import sys, lbcheck.study.ledger, lbcheck.study.worker; "
        "heavy = {'tensorflow', 'keras', 'tf_keras', 'scipy', 'optuna', "
        "'sqlalchemy'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# Trials that count only if they do not diverge (Table 8 of Nado et al. 2021).


def diverged(task):
    return make_record(task, status="diverged", metrics=None, seconds=0)


def above(limit):
    """A score by which rates above the limit diverge."""

    def score(task):
        rate = task["hyperparameters"]["learning_rate"]
        found = diverged(task) if rate > limit else score_by_rate(task)
        return found | {"seconds": 0}

    return score


def feasible_study(**settings):
    return make_study(trials=8, seeds=2, **settings) | {"feasible": True}


def test_trials_that_diverge_are_replaced():
    study = feasible_study()
    records = run(study, above(0.2))
    for arm in study["arms"]:
        broad, further = (
            of(records, arm, stage) for stage in ("broad", "replacement")
        )
        finished = [r for r in broad + further if r["status"] == "finished"]
        assert len(broad) == len(finished) == 8 and further
        # The sequence goes on, and ends with a trial that counts.
        sequence = space.Space.from_dict(study["arms"][arm]["space"]).points(
            protocol.derived_seed(7, "points", arm),
            0,
            8 + len(further),
            study["steps"],
        )
        assert [point(r) for r in broad + further] == sequence
        assert further[-1]["status"] == "finished"
        best = protocol.best(study, records, arm)
        assert best in finished
        confirmed = of(records, arm, "confirm")
        assert [point(r) for r in confirmed] == [point(best)] * 2
    assert protocol.Protocol(study).is_done(records)
    assert protocol.cut_to_common(study, records).note is None


def test_replacements_in_any_order_are_the_same():
    study, score = feasible_study(refined_trials=2), above(0.2)
    plain = run(study, score)
    for seed in range(3):
        shuffled = run(study, score, random.Random(seed))
        assert sorted(map(str, shuffled)) == sorted(map(str, plain))
    without = {k: v for k, v in study.items() if k != "feasible"}
    assert not any(r["stage"] == "replacement" for r in run(without, score))


def test_an_arm_that_always_diverges_gets_three_times_the_trials():
    study = feasible_study()
    records = run(study, diverged)
    for arm in study["arms"]:
        assert len(of(records, arm, "replacement")) == 16
    assert set(protocol.excluded(study, records)) == set(study["arms"])
    assert protocol.Protocol(study).is_done(records)


def test_replacements_of_an_interrupted_study_are_cut():
    study = feasible_study()
    arm, other = list(study["arms"])[:2]
    records = [
        r
        for r in run(study, above(0.2))
        if not (r["arm"] == other and (r["stage"], r["index"]) > ("broad", 4))
    ]
    left = protocol.cut_to_common(study, records).records
    assert len(of(left, arm, "broad")) == len(of(left, other, "broad")) == 5
    assert not of(left, arm, "replacement")


# Several seeds a search trial (Table 16 of Nado et al. 2021).


def test_the_median_of_the_seeds_selects():
    whole = make_study(trials=5, refined_trials=0, seeds=2)
    arm = list(whole["arms"])[0]
    study = whole | {
        "arms": {arm: whole["arms"][arm]},
        "search_seeds": 3,
    }
    plan = protocol.Protocol(study)
    seeds = [t["seed"] for t in plan.next_tasks([])][:3]
    assert len(set(seeds)) == 3
    assert seeds[0] == protocol.derived_seed(7, "search")

    def score(task):
        rate = task["hyperparameters"]["learning_rate"]
        # The first run of a trial says little.
        luck = math.log10(rate) if task["seed"] == seeds[0] else 0.0
        accuracy = 1 - abs(math.log10(rate / 0.3)) / 9 + luck
        part = {"accuracy": accuracy, "loss": 1.0}
        metrics = {"validation": part, "training": part}
        changes = {"status": "finished", "bad": None, "metrics": metrics}
        return make_record(task, **changes)

    records = run(study, score)
    broad = of(records, arm, "broad")
    rates = [point(r)["learning_rate"] for r in broad]
    assert len(broad) == 15 and rates[0::3] == rates[1::3] == rates[2::3]
    assert [r["seed"] for r in broad] == seeds * 5
    nearest = min(rates, key=lambda rate: abs(math.log10(rate / 0.3)))
    assert point(protocol.best(study, records, arm))["learning_rate"] == nearest
    # By its first runs alone another one is best: the mutant is seen.
    by_first = max(
        broad[0::3], key=lambda r: r["metrics"]["validation"]["accuracy"]
    )
    assert point(by_first)["learning_rate"] != nearest
    # A trial one of whose runs diverged is none.
    for record in broad:
        if point(record)["learning_rate"] == nearest:
            record |= {"status": "diverged", "metrics": None}
            break
    other = protocol.best(study, records, arm)
    assert point(other)["learning_rate"] != nearest


def test_arms_with_several_seeds_a_trial_are_cut_to_whole_trials():
    study = make_study(trials=4, refined_trials=0, seeds=2, search_seeds=3)
    records = [r for r in run(study) if r["arm"] == "lars" or r["index"] < 7]
    kept, note = protocol.cut_to_common(study, records)
    assert "nesterov 2, lars 4" in note and "first 2" in note
    for arm in study["arms"]:
        broad = of(kept, arm, "broad")
        runs = of(records, arm, "broad")
        assert [r["index"] for r in broad] == [0, 1]
        for trial, record in enumerate(broad):
            own = runs[3 * trial :][:3]
            assert record["seconds"] == sum(r["seconds"] for r in own)
            if any(r["status"] == "diverged" for r in own):
                assert record["status"] == "diverged"
                continue
            assert record["metrics"]["validation"] == {
                name: statistics.median(
                    r["metrics"]["validation"][name] for r in own
                )
                for name in ("accuracy", "loss")
            }
    # Whoever takes what was taken already takes the same.
    assert protocol.trials(study, kept) == kept


def test_an_arm_all_of_whose_trials_have_a_run_that_diverged_is_left_out():
    study = make_study(trials=3, refined_trials=0, seeds=2, search_seeds=2)
    last = protocol.Protocol(study).next_tasks([])[1]["seed"]

    def score(task):
        failed = task["arm"] == "lars" and task["seed"] == last
        return diverged(task) if failed else score_by_rate(task)

    records = run(study, score)
    assert not of(records, "lars", "confirm")
    assert protocol.excluded(study, records) == {
        "lars": "all 3 search trials diverged"
    }
