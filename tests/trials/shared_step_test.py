"""Trials on JAX: one compiled step, one trial or several at once, by hand.

All of it is computed by `shared_step_worker` in one process without
TensorFlow, since a process has one backend.
"""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from lbcheck.comparison import compare

_ROOT = pathlib.Path(__file__).parents[2]
_NOT = {"seconds", "schedule", "diagnostics"}


def computed(folder, *parts):
    """What the worker finds, with what it says besides."""
    command = [sys.executable, "-m", "tests.trials.shared_step_worker"]
    done = subprocess.run(
        [*command, str(folder), *parts],
        cwd=_ROOT,
        env={**os.environ, "KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    last = json.loads(done.stdout.splitlines()[-1])
    return last | {"stderr": done.stderr, "folder": folder / "study"}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("jax")
    parts = ("study", "facts", "convolutions", "looked_up", "ways")
    return computed(folder, *parts, "shared_layers", "streams")


def same(one, other):
    """Asserts that two records differ by 1e-5 of their numbers at most."""
    assert one.keys() == other.keys()
    for key in one.keys() - _NOT:
        assert close(one[key], other[key]), (key, one[key], other[key])


def close(one, other):
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(
            close(one[key], other[key]) for key in one
        )
    if isinstance(one, list):
        return len(one) == len(other) and all(map(close, one, other))
    if isinstance(one, float):
        return one == pytest.approx(other, rel=1e-5)
    return one == other


def test_a_trial_is_what_training_by_hand_gives(found):
    # With dropout and statistics that move; in parts of what the weights move.
    assert found["distances"]["together 0"] < 1e-5
    assert found["distances"]["together 3"] > 0.1  # another seed
    assert found["distances"]["other"] > 0.1


@pytest.mark.slow
def test_mistakes_in_the_step_would_be_noticed(tmp_path):
    mutants = computed(tmp_path, "mutants")["mutants"]
    assert mutants.pop("none") < 1e-5
    for name, distance in mutants.items():
        assert distance > 1e-3, name


def test_at_once_or_one_after_the_other_is_the_same(found):
    for one, other in zip(found["sequential"], found["together"], strict=True):
        same(one, other)
    for one, other in zip(found["sequential"], found["fewer"]):
        same(one, other)
    assert found["traces"] == {"lamb": 2}  # of one trial, and of several


def test_a_model_built_for_each_trial_gives_the_same(found):
    same(found["rebuilt"], found["together"][3])
    losses = [
        r["metrics"]["validation"]["loss"] for r in found["together"][::3]
    ]
    assert abs(losses[0] - losses[1]) > 1e-3


def test_a_trial_that_diverges_disturbs_no_other(found):
    alone, beside = (found[way][2] for way in ("sequential", "together"))
    assert alone["status"] == beside["status"] == "diverged"
    assert alone["bad"] == beside["bad"] and alone["bad"]["variable"]
    assert alone["steps"] == beside["steps"] < 12
    assert beside["metrics"] is None


def test_diagnostics_take_a_step_of_their_own(found):
    looked, plain = found["looked"], found["sequential"][0]
    assert looked["metrics"] == plain["metrics"]
    assert looked["diagnostics"]["steps"] == [0, 5, 10]
    ratios = looked["diagnostics"]["variables"][0]["trust_ratio"]
    assert len(set(ratios)) == 3
    assert looked["schedule"]["rates"]


def test_numbers_of_the_model_are_arguments_where_it_does_not_ask(found):
    same(found["smoothed rebuilt"], found["smoothed"][3])
    losses = {
        r["metrics"]["training"]["loss"]
        for r in found["smoothed"]
        if r["metrics"]
    }
    assert len(losses) == 3
    assert found["smoothed traces"] == {"nesterov": 2}


def test_a_number_that_is_looked_up_is_none_of_a_variable(found):
    for one, other in zip(found["looked up"], found["looked up rebuilt"]):
        same(one, other)
        assert one["status"] == "finished"
    losses = [r["metrics"]["training"]["loss"] for r in found["looked up"]]
    assert abs(losses[0] - losses[1]) > 1e-3


def test_convolutions_at_once_are_the_same_to_the_bit(found):
    # On a CPU each has a thread, and all call one compiled update.
    one, other = (
        [{k: v for k, v in r.items() if k != "seconds"} for r in found[way]]
        for way in ("smoothed", "smoothed together")
    )
    assert one == other
    status = [record["status"] for record in other]
    assert status == ["finished", "diverged", "finished", "finished"]


def test_weights_of_evaluation_are_those_that_are_judged(found):
    one, other = found["average"]
    same(one, other)
    same(one, found["average rebuilt"])


@pytest.mark.parametrize("kind", ["dataset", "dicts"])
def test_streams_train_as_by_hand(found, kind):
    stream = found["streams"][kind]
    assert stream["far"] < 1e-6
    assert stream["loss"] == pytest.approx(stream["by hand"], rel=1e-5)
    assert stream["calls"] == 12  # those of its updates
    before, during, after = found["streams"]["seen"]
    assert before == pytest.approx(during, rel=1e-5) and after < before


def test_a_base_of_all_models_is_frozen_or_refused(found):
    assert "`build_model` uses the layer 'base' again" in found["trained base"]
    first, again = found["frozen base"]
    same(first, again)


def test_data_of_another_seed_may_have_another_length(found):
    assert found["lengths"] == ["finished", "finished"]


def test_short_memory_makes_it_fewer(found):
    assert "Arm schedulefreeadamw: 2 trials at once take" in found["stderr"]
    assert "1 at once." in found["stderr"]


def test_who_cannot_share_is_told(found):
    told = {
        name: facts.get("compiled_for_each_trial")
        for name, facts in found["facts"].items()
    }
    assert told == {
        "own": "lamb (the model has a train_step of its own)",
        "eager": "lamb (the model is not compiled)",
        "stream": "lamb (the data come in batches, not in arrays)",
        "constant": "sgd (its optimizer takes momentum as a constant)",
    }


def test_a_study_at_once_says_what_could_not_be(found):
    assert [r["stage"] for r in found["study"]] == ["broad", "broad", "confirm"]
    assert {r["status"] for r in found["study"]} == {"finished"}
    path = found["folder"] / "study.json"
    study = json.loads(path.read_text())
    assert study["facts"]["backend"] == "jax"
    assert "compiled for every" not in str(compare.Comparison(path.parent))
    study["facts"]["compiled_for_each_trial"] = "sgd (why)"
    path.write_text(json.dumps(study))
    said = str(compare.Comparison(path.parent))
    assert "A step was compiled for every trial of sgd (why)." in said


def test_keras_has_nothing_to_warn_of(found):
    assert "ran out of data" not in found["stderr"]


def test_no_other_framework_is_imported(found):
    assert found["modules"] == []
