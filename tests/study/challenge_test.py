"""The challenge: its steps, its tasks, and the verdicts that it turns."""

import itertools
import random

import pytest

from lbcheck import verdict
from lbcheck.report import results
from lbcheck.search import space
from lbcheck.study import challenge
from lbcheck.study import ledger
from lbcheck.study import protocol
from lbcheck.study import study_command
from lbcheck.study import study_folder
from lbcheck.study import worker
from tests.study.ledger_worker import make_record
from tests.study.ledger_worker import make_study

NOISE = 0.002


def study_of(**changes):
    usual = {"trials": 4, "refined_trials": 0, "seeds": 8, "margin": 0.01}
    usual["challenge_trials"] = challenge.most_trials(4)
    return make_study(**{**usual, **changes})


def scored(good, seed=0, confirmed=()):
    """A trainer: accuracy by arm and index of the trial, with noise.

    Args:
        good: {arm: {index of a trial: accuracy}}; others have 0.8.
        seed: Of the noise.
        confirmed: {(arm, index): accuracy} of confirming runs, if another.
    """
    confirmed = dict(confirmed)

    def run(task, numbers):
        number = task.get("trial", task["index"])
        if task["stage"] == "confirm" and "trial" not in task:
            number = numbers[task["arm"]]
        noise = random.Random(f"{seed}{task['arm']}{number}{task['seed']}")
        accuracy = good[task["arm"]].get(number, 0.8)
        if task["stage"] == "confirm":
            accuracy = confirmed.get((task["arm"], number), accuracy)
            accuracy += NOISE * noise.gauss(0, 1)
        found = {"accuracy": accuracy, "loss": 1 - accuracy}
        return make_record(
            task,
            status="finished",
            bad=None,
            steps=100,
            metrics={"validation": found, "training": found},
        )

    return run


def run(study, trainer, order=None, records=()):
    """All records; tasks one at a time, in any order, after those given."""
    plan, records = challenge.plan(study, verdict.answer), [*records]
    while tasks := plan.next_tasks(records):
        task = order.choice(tasks) if order else tasks[0]
        first = protocol.before_challenge(records)
        numbers = {}
        if task["stage"] == "confirm":
            best = protocol.best(study, first, task["arm"])
            numbers[task["arm"]] = best["index"]
        records.append(trainer(task, numbers))
    assert plan.is_done(records)
    return records


def steps(found):
    return [(s.challengers, s.baselines, s.answer) for s in found.challenge]


NEEDED, NOT, UNDECIDED = "needed", "not needed", "undecided"
AHEAD = {"lars": {0: 0.9}, "nesterov": {}}
EQUAL = {"lars": {0: 0.9}, "nesterov": {1: 0.9}}


@pytest.mark.parametrize("good, expected, answer", [
    (AHEAD, [(4, n, NEEDED) for n in (4, 8, 16, 32, 64, 112)], NEEDED),
    (EQUAL, [(4, 4, NOT), (6, 4, NOT)], NOT),
    # The challenger's sixth trial turns it; the seventh comes too late.
    ({"lars": {5: 0.93}, "nesterov": {}}, [(4, 4, NOT), (6, 4, NEEDED)],
     "undecided (search)"),
    ({"lars": {6: 0.93}, "nesterov": {}}, [(4, 4, NOT), (6, 4, NOT)], NOT),
    # A baseline's 12th trial turns it, and no further challenger restores it.
    ({"lars": {0: 0.9}, "nesterov": {11: 0.9}},
     [(4, 4, NEEDED), (4, 8, NEEDED), (4, 16, NOT), (8, 16, NOT),
      (16, 16, NOT), (24, 16, NOT)],
     "undecided (search)"),
    # One does, and the challenge goes on.
    ({"lars": {0: 0.9, 7: 0.93}, "nesterov": {11: 0.9}},
     [(4, 4, NEEDED), (4, 8, NEEDED), (4, 16, NOT),
      *((8, n, NEEDED) for n in (16, 32, 64, 112))],
     NEEDED),
    # The last trial of all.
    ({"lars": {0: 0.9}, "nesterov": {111: 0.9}},
     [*((4, n, NEEDED) for n in (4, 8, 16, 32, 64)), (4, 112, NOT),
      (8, 112, NOT), (16, 112, NOT), (24, 112, NOT)],
     "undecided (search)"),
    ({"lars": {0: 0.9}, "nesterov": {112: 0.9}},
     [(4, n, NEEDED) for n in (4, 8, 16, 32, 64, 112)], NEEDED),
])  # fmt: skip
def test_steps(good, expected, answer):
    study = study_of()
    records = run(study, scored(good))
    found = verdict.decide(study, records)
    assert steps(found) == expected
    # Half of 4 trials are 2: a single good one is lucky in half of them.
    share = found.search_share
    if answer == NEEDED and share < 0.75 or answer == NOT and share > 0.44:
        answer = "undecided (search)"
    assert str(found) == answer, found.sentence
    counts = {
        arm: sum(r["arm"] == arm and r["stage"] == "challenge" for r in records)
        for arm in study["arms"]
    }
    challengers, baselines, _ = expected[-1]
    assert counts == {"lars": challengers - 4, "nesterov": baselines - 4}


ALL_GOOD = dict.fromkeys(range(120), 0.9)


def test_the_sentence_names_what_the_answer_survived():
    study = study_of()
    found = verdict.decide(
        study, run(study, scored({"lars": ALL_GOOD, "nesterov": {}}))
    )
    assert found.answer == "needed"
    told = "holds with 112 search trials for nesterov against 4 for lars."
    assert told in found.sentence
    found = verdict.decide(
        study, run(study, scored({"lars": ALL_GOOD, "nesterov": ALL_GOOD}))
    )
    assert found.answer == "not needed"
    told = "holds with 6 search trials for lars against 4 for nesterov."
    assert told in found.sentence
    found = verdict.decide(
        study, run(study, scored({"lars": ALL_GOOD, "nesterov": {11: 0.9}}))
    )
    assert found.doubt == "search"
    told = (
        "(search): needed with 4 search trials per arm, but no longer with 24 "
        "search trials for lars against 16 for nesterov."
    )
    assert told in found.sentence


@pytest.mark.parametrize(
    "second, third, kept",
    [
        (0.70, 0.82, 0),  # Both are luck of one run each.
        (0.87, 0.82, 5),  # The second is luck, but better than the first.
        (0.70, 0.88, 20),
        (0.87, 0.88, 20),
    ],
)
def test_more_trials_make_no_arm_worse(second, third, kept):
    study = study_of()
    good = {"lars": ALL_GOOD, "nesterov": {0: 0.85, 5: 0.94, 20: 0.95}}
    luck = {("nesterov", 5): second, ("nesterov", 20): third}
    truth = {0: 0.85, 5: second, 20: third}[kept]
    records = run(study, scored(good, confirmed=luck))
    for order in (records, records[::-1]):
        judged = verdict.judged(study, order).records
        values = [
            r["metrics"]["validation"]["accuracy"]
            for r in judged
            if (r["arm"], r["stage"]) == ("nesterov", "confirm")
        ]
        assert len(values) == study["seeds"]
        assert abs(sorted(values)[4] - truth) < 3 * NOISE
        best = protocol.confirmed(study, judged, "nesterov")
        assert best["index"] == kept


def test_only_trials_on_the_way_count():
    # Up to 10 trials of a baseline, trial 9 is the best and confirmed; on the
    # way of 4, 8, 16, 30 trial 15 is, and 9 is not, however it began.
    good = {"lars": ALL_GOOD, "nesterov": {0: 0.85, 9: 0.94, 15: 0.95}}
    luck = {("nesterov", 9): 0.88, ("nesterov", 15): 0.86}
    trainer = scored(good, confirmed=luck)
    longer = study_of(challenge_trials=26)
    first = run(study_of(challenge_trials=6), trainer)
    assert any(r.get("trial") == 9 for r in first)
    records = run(longer, trainer, records=first)
    direct = run(longer, trainer)
    for found in (records, direct):
        judged = verdict.judged(longer, found).records
        assert protocol.confirmed(longer, judged, "nesterov")["index"] == 15


def test_of_equal_medians_the_lower_loss_is_judged():
    study = study_of()
    plain = scored({"lars": ALL_GOOD, "nesterov": {0: 0.85, 5: 0.94}})

    def trainer(task, numbers):
        record = plain(task, numbers)
        if task["arm"] == "nesterov" and task["stage"] == "confirm":
            loss = 0.1 if "trial" in task else 0.2
            found = {"accuracy": 0.85, "loss": loss}
            record["metrics"] = {"validation": found, "training": found}
        return record

    judged = verdict.judged(study, run(study, trainer)).records
    assert protocol.confirmed(study, judged, "nesterov")["index"] == 5


def test_a_shorter_challenge_and_none():
    good = {"lars": {0: 0.9}, "nesterov": {30: 0.9}}
    for further, last in ((0, 4), (3, 7), (5, 9), (26, 30), (27, 31)):
        study = study_of(challenge_trials=further)
        found = verdict.decide(study, run(study, scored(good)))
        assert found.search_share is not None
        if not further:
            assert found.challenge == ()
            continue
        answers = [answer for *_, answer in steps(found)]
        is_turned = last == 31
        assert (set(answers) == {"needed"}) is not is_turned
        assert max(s.baselines for s in found.challenge) == last
        # It did not reach what "needed" takes, so the share must be 90 %.
        assert found.doubt == "search"


def test_an_undecided_answer_is_not_challenged():
    study = study_of(seeds=5)
    records = run(study, scored(AHEAD))
    assert len(records) == protocol.Protocol(study).total
    found = verdict.decide(study, records)
    assert (found.answer, found.doubt) == ("undecided", "seeds")


def test_tasks_go_on_where_the_search_ended():
    good = {"lars": {0: 0.9, 7: 0.93}, "nesterov": {11: 0.9}}
    study = study_of()
    records = run(study, scored(good))
    for arm, described in study["arms"].items():
        seed = protocol.derived_seed(study["seed"], "points", arm)
        points = space.Space.from_dict(described["space"]).points(
            seed, 0, 112, study["steps"]
        )
        own = [r for r in records if r["arm"] == arm]
        for record in own:
            if record["stage"] == "challenge":
                assert record["hyperparameters"] == points[record["index"]]
        search = {r["seed"] for r in own if r["stage"] != "confirm"}
        assert len(search) == 1
        again = [r for r in own if "trial" in r]
        assert {r["trial"] for r in again} == {7 if arm == "lars" else 11}
        assert all(r["hyperparameters"] == points[r["trial"]] for r in again)
        first = [r for r in own if r["stage"] == "confirm" and "trial" not in r]
        assert [r["seed"] for r in again] == [r["seed"] for r in first]
        assert len(again) == study["seeds"]


@pytest.mark.slow
def test_the_order_of_tasks_does_not_matter():
    good = {"lars": {0: 0.9, 7: 0.93}, "nesterov": {11: 0.9}}
    study = study_of()

    def plain(records):
        ordered = study_folder.canonical(study, records)
        return [{**r, "seconds": 0} for r in ordered]

    expected = run(study, scored(good))
    shuffled = run(study, scored(good), random.Random(3))
    assert plain(shuffled) == plain(expected)
    # What an earlier run did with fewer seeds and no challenge is kept.
    short = {**study, "seeds": 6, "challenge_trials": 0}
    records = run(short, scored(good))
    plan = challenge.plan(study, verdict.answer)
    trainer = scored(good)
    while tasks := plan.next_tasks(records):
        best = {
            arm: protocol.best(study, protocol.before_challenge(records), arm)[
                "index"
            ]
            for arm in study["arms"]
        }
        records.append(trainer(tasks[-1], best))
    assert plain(records) == plain(expected)


def test_records_are_cut_to_the_steps_that_count():
    good = {"lars": {0: 0.9}, "nesterov": {11: 0.9, 40: 0.95}}
    study = study_of()
    records = run(study, scored(good))
    kept = verdict.judged(study, records).records
    assert max(r["index"] for r in kept if r["arm"] == "nesterov") == 15
    confirmed = [r for r in kept if r["stage"] == "confirm"]
    assert len(confirmed) == 16
    assert {r.get("trial") for r in confirmed} == {None, 11}
    unfinished = [r for r in records if r["stage"] != "challenge"]
    found = verdict.decide(study, unfinished)
    assert found.doubt == "search"
    assert "the challenge by further trials has not ended" in found.sentence


def test_a_grid_has_no_more_points_than_it_has():
    grid = {
        "points": "grid",
        "parameters": {
            "learning_rate": {"values": [0.1, 0.2, 0.3, 0.4, 0.5]},
            "momentum": {"value": 0.9},
        },
    }
    study = study_of()
    study["arms"]["nesterov"]["space"] = grid
    records = run(study, scored({"lars": ALL_GOOD, "nesterov": {}}))
    own = [r for r in records if r["arm"] == "nesterov"]
    tried = [r["hyperparameters"]["learning_rate"] for r in own]
    assert set(tried) == {0.1, 0.2, 0.3, 0.4, 0.5}
    assert sum(r["stage"] == "challenge" for r in own) == 1
    found = verdict.decide(study, records)
    assert found.answer == "needed"
    assert (
        "112 search trials for nesterov (which has 5 in all) against 4 for"
        in (found.sentence)
    )


def test_arms_of_neither_side_are_left_alone():
    names = ("lars", "nesterov", "adamw")
    study = study_of(arms=names, challengers=["lars"], baselines=["nesterov"])
    good = {"lars": ALL_GOOD, "nesterov": {}, "adamw": {}}
    records = run(study, scored(good))
    own = [r for r in records if r["arm"] == "adamw"]
    assert len(own) == 4 + 8
    assert verdict.decide(study, records).answer == "needed"


def test_through_ledger_folder_and_report(tmp_path):
    good = {"lars": ALL_GOOD, "nesterov": {11: 0.85}}
    study = study_folder.open_study(tmp_path, study_of())
    plan = challenge.plan(study, verdict.answer)
    shared = ledger.Ledger(study_folder.storage_url(tmp_path), study)
    trainer = scored(good)

    class Trainer:
        def run(self, task, evaluate_at, diagnostics_every):
            first = protocol.before_challenge(shared.records())
            numbers = {}
            if task["stage"] == "confirm":
                best = protocol.best(study, first, task["arm"])
                numbers[task["arm"]] = best["index"]
            return trainer(task, numbers)

    worker.work(shared, plan, Trainer())
    study_folder.export(tmp_path, study, shared.records())
    shared.close()
    read = study_folder.load(tmp_path)
    again = {r.get("trial") for r in read.records if r["arm"] == "nesterov"}
    assert again == {None, 11}
    collected = results.collect(read)
    assert collected["finished"]
    assert collected["verdict"]["answer"] == "needed"
    assert collected["verdict"]["challenge"][-1] == {
        "challengers": 4, "baselines": 112, "answer": "needed",
    }  # fmt: skip
    seeds = [r for r in collected["tables"]["seeds"] if r["arm"] == "nesterov"]
    assert len(seeds) == 2 * 8
    spent = {
        (r["arm"], r["stage"]): r["total"]
        for r in collected["tables"]["budget"]
    }
    assert spent["nesterov", "challenge"] == 108
    assert spent["nesterov", "confirm"] == 16
    said = study_command.status(tmp_path)
    assert said["done"] == said["total"] == len(read.records)


@pytest.mark.parametrize("change, message", [
    ({"index": 112}, "index must be at least 4 and below 112 in stage 'chall"),
    ({"index": 3}, "index must be at least 4 .*received 3"),
    ({"trial": 5}, "trial must be at least 0 and below 0 in stage 'chall"),
    ({"stage": "confirm", "index": 0, "trial": 112}, "trial must be at least"),
    ({"stage": "broad", "index": 0, "trial": 5}, "trial must be .*'broad'"),
])  # fmt: skip
def test_damaged_records_are_refused(tmp_path, change, message):
    study = study_folder.open_study(tmp_path, study_of())
    task = next(
        r
        for r in run(study, scored(AHEAD))
        if r["stage"] == "challenge" and r["arm"] == "nesterov"
    )
    task["metrics"]["training"] = task["metrics"]["validation"]
    study_folder.export(tmp_path, study, [{**task, **change}])
    with pytest.raises(study_folder.StudyError, match=message):
        study_folder.load(tmp_path)


@pytest.mark.slow
def test_the_most_that_a_challenge_takes():
    """The bound that is shown beforehand is met, and by nothing exceeded."""
    study = study_of()
    seen = []
    for lars, nesterov in itertools.product((3, 7), (7, 31, 111)):
        good = {"lars": {0: 0.9, lars: 0.95}, "nesterov": {nesterov: 0.96}}
        records = run(study, scored(good))
        seen.append(len(records) - protocol.Protocol(study).total)
    assert max(seen) <= challenge.most_runs(study)
    rising = dict(enumerate(0.5 + 0.001 * n for n in range(120)))
    good = {"lars": {**ALL_GOOD, 0: 0.99}, "nesterov": rising}
    records = run(study, scored(good))
    more = len(records) - protocol.Protocol(study).total
    assert max(*seen, more) <= challenge.most_runs(study) <= 2 * more
