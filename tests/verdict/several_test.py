"""Several searches of one question, and a control at a small batch."""

import json

import numpy as np
import pytest

from lbcheck import report
from lbcheck import verdict
from lbcheck.comparison import compare
from lbcheck.report import page_tables
from lbcheck.study import companions
from lbcheck.study import study_command
from lbcheck.study import study_folder
from lbcheck.study.settings import Settings
from lbcheck.verdict import several
from tests.report import synthetic_study

ARMS = ("nesterov", "lars")


def confirming(study, means, spread=0.0, part="validation"):
    """Records of a search without trials: each arm's runs around its mean."""
    random = np.random.default_rng(study["seed"])
    records = []
    for arm, mean in means.items():
        for index in range(study["seeds"]):
            value = None
            if mean is not None:
                value = mean + spread * random.normal()
            record = {
                "arm": arm,
                "stage": "confirm",
                "index": index,
                "seed": index,
                "hyperparameters": {},
                "status": "finished" if mean is not None else "diverged",
                "metrics": value
                and {
                    name: {"accuracy": value}
                    for name in (part, "validation", "training")
                },
                "steps": 1,
                "examples": 1,
                "seconds": 0.0,
                "curve": [],
            }
            records.append(record)
    return records


def searched(*differences, seeds=3, **changes):
    """(study, records, beside): one search a difference lars - nesterov."""
    found = []
    for number, difference in enumerate(differences):
        study = synthetic_study.make_study(
            ARMS, trials=1, seeds=seeds, target=None, seed=number, **changes
        )
        means = {"nesterov": 0.9, "lars": difference}
        if difference is not None:
            means["lars"] += 0.9
        trials = [
            record | {"stage": "broad"}
            for record in confirming(study, means)
            if record["index"] == 0
        ]
        records = trials + confirming(study, means, 0.0001)
        found.append(study_folder.Folder(study, records, {}))
    study = found[0].study
    if len(found) > 1:
        study["searches"] = len(found)
    names = companions.searches(study)
    return study, found[0].records, dict(zip(names, found[1:]))


def test_the_unit_is_the_search():
    """Many seeds cannot make up for searches that differ."""
    differences = [0.02, -0.01, 0.03, 0.0, 0.02, 0.01, -0.02, 0.03]
    study, records, beside = searched(*differences, seeds=20, margin=0.01)
    decided = verdict.decide(study, records, beside)
    assert decided.unit == "search"
    assert (decided.answer, decided.doubt) == ("undecided", "seeds")
    assert str(decided) == f"undecided ({decided.more_seeds} more searches)"
    assert "8 searches per arm" in decided.sentence
    found = verdict.search_means(study, records, beside)
    expected = verdict.compare_arms(
        found["validation"], ["lars"], found["training"], margin=0.01
    )
    assert decided.pairs == expected.pairs
    lead = np.subtract(
        found["validation"]["lars"], found["validation"]["nesterov"]
    )
    np.testing.assert_allclose(lead, differences, atol=1e-4)
    # One of them alone is as sure as can be.
    alone = dict(study)
    del alone["searches"]
    assert verdict.decide(alone, records).answer == "needed"
    assert any("Each of 8 independent searches" in n for n in decided.notes)


@pytest.mark.parametrize("differences, answer", [
    ([0.03, 0.031, 0.029, 0.03, 0.032, 0.03], "needed"),
    ([0.001, 0.0, -0.001, 0.002, 0.0, -0.002], "not needed"),
    ([0.03] * 5, "undecided (1 more search)"),
    # Every trial of a search diverged: so it counts.
    ([0.03, 0.031, 0.029, 0.03, 0.032, 0.03] * 3 + [None, None],
     "undecided (failures)"),
])  # fmt: skip
def test_answers_of_searches(differences, answer):
    study, records, beside = searched(*differences, margin=0.01)
    assert str(verdict.decide(study, records, beside)) == answer


def test_searches_that_are_not_done_do_not_count():
    study, records, beside = searched(*[0.03] * 7, margin=0.01)
    beside["search_3"] = beside["search_3"]._replace(records=[])
    del beside["search_5"]
    decided = verdict.decide(study, records, beside)
    assert {pair.runs for pair in decided.pairs} == {5}


def test_a_search_with_fewer_seeds_than_the_study_is_not_done():
    study, records, beside = searched(*[0.03] * 7, seeds=3, margin=0.01)
    fewer, own, _ = searched(0.03, seeds=2, margin=0.01)
    beside["search_2"] = study_folder.Folder(fewer, own, {})
    decided = verdict.decide(study, records, beside)
    assert {pair.runs for pair in decided.pairs} == {6}


def test_a_search_is_the_mean_of_its_seeds():
    assert several.mean([0.5, 0.6, None]) == pytest.approx(0.55)
    assert several.mean([0.5, None]) is None
    assert several.mean([0.5]) == 0.5
    groups = [
        {"a": [[1.0, 2.0], [3.0, 4.0]], "b": [[0.0, 0.0]]},
        {"a": [[5.0, 6.0]], "b": [[1.0, 1.0]]},
    ]
    found = several.mean_groups(groups)
    np.testing.assert_array_equal(found["a"], [[2.0, 3.0], [5.0, 6.0]])
    # A search in which an arm has none does not take them from the others.
    found = several.mean_groups([*groups, {"a": [[1.0, 2.0]]}, {"b": [[3.0]]}])
    assert {arm: len(rows) for arm, rows in found.items()} == {"a": 3, "b": 2}


def with_control(ahead, part="validation"):
    """A study whose nesterov is `ahead` at its small batch."""
    study, records, beside = searched(0.0, seeds=8, margin=0.01)
    study["control_batch_size"] = 64
    small = synthetic_study.make_study(
        ("nesterov",), trials=1, seeds=8, target=None, seed=5, batch_size=64
    )
    means = {"nesterov": 0.9 + ahead}
    own = [r | {"stage": "broad"} for r in confirming(small, means)][:1]
    own += confirming(small, means, 0.0001)
    beside["control"] = study_folder.Folder(small, own, {})
    return study, records, beside


@pytest.mark.parametrize("ahead, answer, told", [
    (0.03, "needed", "the large batch of 512 costs that."),
    (0.0, "not needed", "costs nothing that matters here, so it is not in"),
    (0.01, "undecided", "whether the large batch of 512 costs the margin"),
])  # fmt: skip
def test_the_control_says_what_the_large_batch_costs(ahead, answer, told):
    decided = verdict.decide(*with_control(ahead))
    assert decided.answer == "not needed"  # of lars against nesterov
    assert decided.control.answer == answer
    assert decided.control.difference == pytest.approx(ahead, abs=2e-4)
    assert told in decided.sentence
    assert "at batch 64, with as many examples" in decided.sentence


def test_the_control_is_compared_at_equal_trials():
    """Not with what the challenge found in 28 times the trials."""
    study, records, beside = with_control(0.025)
    study["challenge_trials"] = 27

    def metrics(value):
        found = {"accuracy": value}
        return {"validation": found, "training": found}

    for record in records:
        if record["arm"] == "lars":
            record["metrics"] = metrics(0.95)
    first, *_ = [r for r in records if r["arm"] == "nesterov"]
    runs = [r for r in records if r["arm"] == "nesterov"]
    for number in range(1, 28):
        value = 0.925 if number == 9 else 0.5
        task = {"stage": "challenge", "index": number}
        records.append(first | task | {"metrics": metrics(value)})
    records += [
        run | {"trial": 9, "metrics": metrics(0.925)}
        for run in runs
        if run["stage"] == "confirm"
    ]
    decided = verdict.decide(study, records, beside)
    (pair, *_) = decided.pairs
    # The challenge did find it, and the answer is against it,
    assert decided.challenge[-1].baselines == 28
    assert pair.difference == pytest.approx(0.025)
    # but the control had one trial, as the first search.
    assert decided.control.difference == pytest.approx(0.025, abs=2e-4)
    assert decided.control.answer == "needed"


def test_a_control_at_the_edge_of_its_space_says_so():
    study, records, beside = with_control(0.0)
    control = beside["control"]
    low = [
        r | {"index": index, "hyperparameters": {"learning_rate": 0.0101}}
        for index, r in enumerate([control.records[0]] * 3)
    ]
    small = dict(control.study, trials=3)
    confirm = [r for r in control.records if r["stage"] == "confirm"]
    beside["control"] = study_folder.Folder(small, low + confirm, {})
    decided = verdict.decide(study, records, beside)
    assert "best learning_rate lie at an end of the range" in decided.sentence
    assert "nothing that matters" not in decided.sentence
    assert costs_of(decided) == "undecided (edge)"


def costs_of(decided):
    """What the page's table says of the control."""
    tables = {"control": [decided.to_dict()["control"]]}
    study = {"control_batch_size": 64, "batch_size": 512}
    (row,) = page_tables.control({"study": study, "tables": tables}).rows
    return row[-1]


def test_a_control_that_the_large_batch_leaves_no_room():
    study, records, beside = with_control(0.0)
    study["margin"] = 0.2
    decided = verdict.decide(study, records, beside)
    assert decided.control.doubt == "ceiling"
    assert "costs nothing that matters here" in decided.sentence
    assert costs_of(decided) == "costs less than the margin"


def test_edges_and_a_changed_margin_count_in_several_searches():
    study, records, beside = searched(*[0.03] * 6, margin=0.01)
    study["first_margin"] = 0.1
    assert verdict.decide(study, records, beside).answer == "needed"
    own_studies = [(study, records), *(f[:2] for f in beside.values())]
    for one, own in own_studies:
        one["trials"] = 2
        for record in own:
            if record["arm"] == "nesterov":
                record["hyperparameters"] = {"learning_rate": 9.9}
        extra = [r for r in own if r["stage"] == "broad"]
        own += [r | {"index": 1} for r in extra]
    decided = verdict.decide(study, records, beside)
    assert str(decided) == "undecided (edge)"
    told = "nesterov: the best learning_rate lie at an end of its range in 6 of"
    assert any(told in note for note in decided.notes)
    assert any("has been changed since" in note for note in decided.notes)


def test_one_arm_with_several_searches_has_no_verdict():
    study = synthetic_study.make_study(("lars",), trials=1, seeds=3)
    study["searches"] = 6
    own = confirming(study, {"lars": 0.9}, 0.001)
    own.append(own[0] | {"stage": "broad"})
    beside = {
        name: study_folder.Folder(study, own, {})
        for name in companions.searches(study)
    }
    decided = verdict.decide(study, own, beside)
    assert decided.answer == "no verdict"
    assert "only arm of this study" in decided.sentence
    assert "over 6 searches" in decided.sentence


def test_another_control_is_refused(tmp_path):
    study, *_ = searched(0.0)
    study_folder.open_study(tmp_path, study | {"control_batch_size": 64})
    with pytest.raises(study_folder.StudyError, match="control at batch 64"):
        study_folder.open_study(tmp_path, study | {"control_batch_size": 8})


def test_a_challenged_study_that_gets_more_searches_is_cut():
    study, records, beside = searched(*[0.03] * 6, margin=0.01)
    study["challenge_trials"] = 27
    better = {"accuracy": 0.99}
    records.append(
        records[0]
        | {
            "stage": "challenge",
            "index": 1,
            "metrics": {"validation": better, "training": better},
        }
    )
    found = verdict.search_means(study, records, beside)
    assert max(found["validation"]["nesterov"]) < 0.91
    assert verdict.decide(study, records, beside).answer == "needed"


def test_the_control_tunes_the_best_baseline():
    names = ("adamw", "nesterov", "lars")
    study = synthetic_study.make_study(names, trials=1, seeds=6, target=None)
    means = {"adamw": 0.9, "nesterov": 0.91, "lars": 0.95}
    records = confirming(study, means)
    assert verdict.leading(study, records) == "nesterov"
    loss = study | {"metric": {"name": "accuracy", "mode": "min"}}
    assert verdict.leading(loss, records) == "adamw"
    alone = synthetic_study.make_study(("lars",), trials=1, seeds=6)
    assert verdict.leading(alone, confirming(alone, {"lars": 0.9})) == "lars"


def written(folder, study, records, beside):
    synthetic_study.write(folder, study, records)
    for name, found in beside.items():
        synthetic_study.write(folder / name, found.study, found.records)
    return folder


def test_folder_report_and_status(tmp_path):
    whole = searched(*[0.03] * 6, seeds=8, margin=0.01)
    control = with_control(0.03)
    whole[0]["control_batch_size"] = 64
    whole[2]["control"] = control[2]["control"]
    folder = written(tmp_path, *whole)
    read = study_folder.load(folder)
    assert list(read.companions) == [
        *(f"search_{n}" for n in range(1, 6)),
        "control",
    ]
    page = report.write(folder).read_text()
    assert 'id="searches"' in page and 'id="control"' in page
    assert "costs the margin or more" in page
    found = json.loads((folder / "results.json").read_text())
    assert found["finished"] and found["verdict"]["unit"] == "search"
    rows = [
        row
        for row in found["tables"]["searches"]
        if (row["arm"], row["part"]) == ("lars", "validation")
    ]
    assert [row["search"] for row in rows] == list(range(6))
    assert compare.Comparison(folder).verdict.answer == "needed"
    said = study_command.status(folder)
    assert [other["done"] for other in said["beside"]] == [18] * 5 + [9]
    (folder / "control/trials.jsonl").unlink()
    report.write(folder)
    found = json.loads((folder / "results.json").read_text())
    assert not found["finished"] and found["verdict"] is None
    page = (folder / "report.html").read_text()
    assert "the study is still running" in page


@pytest.mark.parametrize("given, message", [
    ({"searches": 0}, "searches must be a whole number of at least 1"),
    ({"searches": 2, "challenge_trials": 5}, "leave out challenge_trials"),
    ({"control_batch_size": 0}, "control_batch_size must be a whole number"),
])  # fmt: skip
def test_settings_that_do_not_fit(given, message):
    with pytest.raises(ValueError, match=message):
        Settings(**given)


def test_searches_grow_and_a_control_is_added(tmp_path):
    study, *_ = searched(0.0)
    study_folder.open_study(tmp_path, study)
    more = study_folder.open_study(tmp_path, study | {"searches": 6})
    assert more["searches"] == 6
    more = study_folder.open_study(tmp_path, study | {"control_batch_size": 64})
    assert (more["searches"], more["control_batch_size"]) == (6, 64)
    assert study_folder.open_study(tmp_path, study) == more
