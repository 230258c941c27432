"""Studies whose trials are runs of a program."""

import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest
from absl import app

from lbcheck.comparison import lineage
from lbcheck.comparison import session
from lbcheck.programs import command_lines
from lbcheck.programs import pod
from lbcheck.programs import program
from lbcheck.programs import program_arm
from lbcheck.programs import run_folder
from lbcheck.programs import source
from lbcheck.study import companions
from lbcheck.study import study_folder
from lbcheck.study.settings import Settings
from lbcheck.support import errors
from lbcheck.support import processes
from lbcheck.training import cluster
from tests import programs

FAKE = "tests.comparison.fake_program"
BASE = ("--optimizer=lars", "--schedule=constant", "--batch_size=10")


def write_arms(folder):
    (folder / "tuned.json").write_text(
        json.dumps(
            {
                "flagfile": "of_a_run.flags",
                "space": {
                    "learning_rate": {"min": 0.5, "max": 9, "scale": "log"}
                },
            }
        )
    )
    (folder / "of_a_run.flags").write_text(
        "\n".join([*BASE, "--train_steps=3", "--seed=99", "--output_dir=no"])
    )
    (folder / "fixed.flags").write_text(
        "--optimizer=nesterov\n--schedule=constant\n--batch_size=10\n"
        "--learning_rate=0.5\n--train_steps=3\n"
    )
    return folder / "tuned.json", folder / "fixed.flags"


def compare(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "lbcheck", "compare", *map(str, arguments)],
        cwd=programs.ROOT,
        capture_output=True,
        text=True,
        **options,
    )


def study_of(folder, arms, *further):
    return (
        f"--program={FAKE}",
        "--metric=accuracy",
        f"--arms={','.join(map(str, arms))}",
        "--challenge_trials=0",
        f"--output_dir={folder}",
        "--noprogress",
        *further,
    )


def session_of(arms, *flags, module=FAKE, **settings):
    """The study of `calm` in this process, unless told otherwise."""
    explicit = command_lines.of_run([(flag, None) for flag in flags])
    loaded = [program_arm.load(str(path), {}, explicit) for path in arms]
    made = program.make(module, loaded, metric="accuracy")
    origin = {
        "name": module,
        "workload": module,
        "command": ["lbcheck"],
        "flagfile": None,
    }
    given = {"trials": 1, "seeds": 3, "challenge_trials": 0} | settings
    return session.Session(made, loaded, Settings(**given), origin)


def records_of(folder):
    """trials.jsonl without the seconds that no two runs share."""
    lines = (folder / "trials.jsonl").read_text().splitlines()
    return [{**json.loads(line), "seconds": None} for line in lines]


# Which flags are whose.


def split(*arguments):
    return command_lines.split(
        list(arguments), {"program", "seeds", "seed", "progress", "batch_size"}
    )


def test_a_flagfile_of_a_run_is_the_programs():
    found = split(
        ("--program=a", None),
        ("--seeds=3", None),
        ("--seed=7", "run.flags:1"),
        ("--momentum=0.8", "run.flags:2"),
        ("--batch_size=64", None),
        ("--noprogress", None),
        ("--l2", None),
        ("0.5", None),
    )
    assert found.own == ["--program=a", "--seeds=3", "--noprogress"]
    assert found.base == {"momentum": "--momentum=0.8"}
    assert found.explicit == {"batch_size": "--batch_size=64", "l2": "--l2=0.5"}


def test_a_flagfile_that_names_the_program_is_the_studys():
    found = split(
        ("--program=a", "study.flags:1"),
        ("--seed=7", "study.flags:2"),
        ("--momentum=0.8", "study.flags:3"),
        ("--momentum=0.7", "run.flags:1"),
        ("--seed=8", "run.flags:2"),
    )
    assert found.own == ["--program=a", "--seed=7"]
    assert found.explicit == {"momentum": "--momentum=0.8"}
    assert found.base == {"momentum": "--momentum=0.7"}


def test_of_two_lengths_the_last_counts():
    merged = command_lines.merged(
        {"train_epochs": "--train_epochs=9", "xla": "--xla"},
        {"train_steps": "--train_steps=5"},
    )
    assert merged == {"xla": "--xla", "train_steps": "--train_steps=5"}


def test_a_switch_and_its_opposite():
    flags = [("--xla", None), ("--normalize", None), ("--noxla", None)]
    merged = command_lines.merged(
        command_lines.of_run(flags), {"nonormalize": "--nonormalize"}
    )
    assert [*merged.values()] == ["--noxla", "--nonormalize"]
    assert command_lines.of_run([("--noprogress", None)]) == {}


def test_a_word_that_is_no_flag_is_refused():
    with pytest.raises(app.UsageError, match="received 'lars'"):
        split(("--program=a", None), ("--momentum=1", None), ("lars", None))


# Arms and the program.


def test_explicit_flags_win_over_the_arms(tmp_path):
    tuned, _ = write_arms(tmp_path)
    base = {"train_steps": "--train_steps=1", "l2": "--l2=1"}
    explicit = {"batch_size": "--batch_size=20"}
    arm = program_arm.load(str(tuned), base, explicit)
    assert arm.layer_wise and arm.optimizer == "lars" and arm.name == "tuned"
    # Its own flagfile takes the place of the base, not of what is explicit.
    assert arm.arguments({"learning_rate": 2.5}) == [
        "--optimizer=lars",
        "--schedule=constant",
        "--batch_size=20",
        "--train_steps=3",
        "--learning_rate=2.5",
    ]


@pytest.mark.parametrize(
    "text, message",
    [
        (
            '{"space": {"parameters": {}, "points": "halton"}, "flagfile": '
            '"of_a_run.flags"}',
            "at least one",
        ),
        ('{"flagfile": "of_a_run.flags"}', 'expected "space"'),
        ('{"space": {"a": {"value": 1}}, "spaces": 1}', "spaces"),
        ('{"space": {"a": {"value": 1}}}', "no --optimizer"),
        (
            '{"space": {"seed": {"value": 1}}, "flagfile": "of_a_run.flags"}',
            "seed cannot be searched",
        ),
        ('{"space": {"a": {"value": 1}}, "flagfile": 3}', "name of a file"),
        (
            '{"space": {"a": {"value": 1}}, "flagfile": "of_a_run.flags", '
            '"layer_wise": "yes"}',
            "true or false",
        ),
    ],
)
def test_no_arm(tmp_path, text, message):
    write_arms(tmp_path)
    path = tmp_path / "mine.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"mine.json.*{message}"):
        program_arm.load(str(path), {}, {})


def test_arms_of_unequal_length_are_refused(tmp_path):
    tuned, fixed = write_arms(tmp_path)
    arms = [program_arm.load(str(path), {}, {}) for path in (tuned, fixed)]
    made = program.make("resnet.train", arms)
    assert (made.steps, made.batch_size, made.mode) == (3, 10, "max")
    fixed.write_text(fixed.read_text() + "--train_steps=4\n")
    arms[1] = program_arm.load(str(fixed), {}, {})
    with pytest.raises(ValueError, match="fixed has 4 updates of 10, Arm tun"):
        program.make("resnet.train", arms)
    with pytest.raises(app.UsageError, match="--metric is needed"):
        program.make(FAKE, arms[:1])
    with pytest.raises(app.UsageError, match="resnet.trian: no such module"):
        program.make("resnet.trian", arms[:1])


def test_two_phases_are_one_trial(tmp_path):
    _, fixed = write_arms(tmp_path)
    fixed.write_text(fixed.read_text() + "--phase2_train_steps=2\n")
    arm = program_arm.load(str(fixed), {}, {})
    made = program.make("bert.pretrain", [arm])
    assert made.phase_steps == (3, 2) and made.batch_sizes == (10, 10)
    assert made.steps == 5 and made.metric == "masked_lm_accuracy"
    for alone, steps in (("all", (3, 2)), ("1", (3,)), ("2", (2,))):
        explicit = {"phase": f"--phase={alone}"}
        arm = program_arm.load(str(fixed), {}, explicit)
        assert program.make("bert.pretrain", [arm]).phase_steps == steps
    fixed.write_text(
        fixed.read_text().replace("2_train_steps", "2_train_epochs")
    )
    arm = program_arm.load(str(fixed), {}, {})
    with pytest.raises(ValueError, match="--phase2_train_steps is needed"):
        program.make("bert.pretrain", [arm])


# What a folder says.


def write_run(folder, lines, status="finished", **details):
    folder.mkdir(parents=True)
    step = lines[-1]["step"]
    (folder / "status.json").write_text(
        json.dumps({"status": status, "step": step, **details})
    )
    for name, content in (
        ("measurements.jsonl", lines),
        (
            "timing.jsonl",
            [
                {"step": n["step"], "examples_per_second": 10.0 * (i + 1)}
                for i, n in enumerate(lines)
            ],
        ),
    ):
        text = "".join(json.dumps(line) + "\n" for line in content)
        (folder / name).write_text(text)


def test_a_finished_run(tmp_path):
    write_run(
        tmp_path / "run",
        [
            {"step": 4, "loss": 2.0, "accuracy": 0.1, "learning_rate": 1.0},
            {"step": 6, "accuracy": 0.3, "validation_accuracy": 0.2},
        ],
    )
    found = run_folder.outcome(tmp_path / "run", (5,), (6,))
    assert found["metrics"] == {
        "training": {"accuracy": 0.3},
        "validation": {"accuracy": 0.2},
    }
    assert found["steps"] == 6 and found["examples"] == 30
    assert found["seconds"] == pytest.approx(4 * 5 / 10 + 2 * 5 / 20)
    assert [point["step"] for point in found["curve"]] == [6]
    assert found["status"] == "finished" and found["bad"] is None


def test_the_last_phase_counts_and_selection_is_training(tmp_path):
    one = {"step": 3, "validation_x": 0.1, "selection_x": 0.2}
    two = {"step": 2, "validation_x": 0.3, "selection_x": 0.4, "x": 0.9}
    write_run(tmp_path / "run" / "phase1", [one])
    write_run(tmp_path / "run" / "phase2", [two])
    found = run_folder.outcome(tmp_path / "run", (10, 100), (3, 2))
    assert found["metrics"] == {
        "training": {"x": 0.4},
        "validation": {"x": 0.3},
    }
    assert found["steps"] == 5 and found["examples"] == 230
    assert [point["step"] for point in found["curve"]] == [5]


def test_the_only_phase_of_a_program_that_has_phases(tmp_path):
    write_run(tmp_path / "run" / "phase1", [{"step": 3, "validation_x": 0.1}])
    found = run_folder.outcome(tmp_path / "run", (10,), (3,))
    assert found["metrics"]["validation"] == {"x": 0.1}
    assert found["steps"] == 3 and found["examples"] == 30


def test_a_diverged_run(tmp_path):
    where = {"first_non_finite_step": 7, "first_non_finite_variable": "k"}
    write_run(tmp_path / "run", [{"step": 4}], "diverged", **where)
    found = run_folder.outcome(tmp_path / "run", (5,), (20,))
    assert found["status"] == "diverged" and found["metrics"] is None
    assert found["bad"] == {"step": 7, "variable": "k"}
    assert found["steps"] == 8 and found["examples"] == 40


def test_answers_are_validation(tmp_path):
    write_run(tmp_path / "run", [{"step": 4, "loss": 1.0}])
    (tmp_path / "run" / "eval_results.json").write_text('{"f1": 80.5}')
    metrics = run_folder.outcome(tmp_path / "run", (5,), (4,))["metrics"]
    assert metrics["validation"] == {"f1": 80.5}


def test_a_run_that_has_not_ended_is_refused(tmp_path):
    write_run(tmp_path / "run", [{"step": 4}], "running")
    with pytest.raises(ValueError, match="run/status.json: .* 'running'"):
        run_folder.outcome(tmp_path / "run", (5,), (4,))
    (tmp_path / "run" / "timing.jsonl").write_text('{"step": 4}\n')
    with pytest.raises(ValueError, match="timing.jsonl:1.*examples_per_second"):
        run_folder.outcome(tmp_path / "run", (5,), (4,))


LINE = '{"step": 2, "validation_x": 0.1}\n'


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("status.json", '{"status": "finished"}', 'updates as "step"'),
        ("status.json", '{"status": "finished", "step": 2}', "says 2"),
        ("status.json", '{"status": "finished", "step": 8}', "says 8"),
        ("status.json", '{"status": "finished", "step": "4"}', "received '4'"),
        ("status.json", '{"status": "diverged"}', 'updates as "step"'),
        (
            "status.json",
            '{"status": "diverged", "step": 1, "first_non_finite_variable": 7}',
            "first_non_finite_variable: .* received 7",
        ),
        ("measurements.jsonl", LINE, "jsonl: .* received 2, and 4 there"),
        ("measurements.jsonl", "", "received no line, and 4 there"),
        ("measurements.jsonl", f'{LINE}{{"step": 4', "jsonl:2: not JSON"),
        ("measurements.jsonl", LINE + LINE, "jsonl:2: step .* received 2"),
        ("timing.jsonl", LINE, "timing.jsonl:1: .*examples_per_second"),
        ("eval_results.json", "[80.5]", "eval_results.json: expected"),
    ],
)
def test_a_finished_run_says_all_that_it_measured(
    tmp_path, name, content, message
):
    lines = [{"step": n, "validation_x": n / 10} for n in (2, 4)]
    write_run(tmp_path / "run", lines)
    (tmp_path / "run" / name).write_text(content)
    with pytest.raises(ValueError, match=f"{tmp_path}/run.*{message}"):
        run_folder.outcome(tmp_path / "run", (5,), (4,))


def test_a_run_without_measurements_is_refused(tmp_path):
    write_run(tmp_path / "run", [{"step": 4}])
    (tmp_path / "run" / "measurements.jsonl").unlink()
    with pytest.raises(ValueError, match="measurements.jsonl: .* no line"):
        run_folder.outcome(tmp_path / "run", (5,), (4,))


def test_a_second_phase_that_is_missing_is_noticed(tmp_path):
    write_run(tmp_path / "run" / "phase1", [{"step": 3, "validation_x": 0.1}])
    with pytest.raises(ValueError, match=r"after 3 \+ 2 updates, .*says 3\."):
        run_folder.outcome(tmp_path / "run", (5, 5), (3, 2))
    write_run(tmp_path / "run" / "phase2", [{"step": 2, "validation_x": 0.1}])
    with pytest.raises(ValueError, match=r"after 3 updates, .*says 3 \+ 2\."):
        run_folder.outcome(tmp_path / "run", (5,), (3,))


def test_the_new_line_of_a_last_line_may_be_missing(tmp_path):
    write_run(tmp_path / "run", [{"step": 4}, {"step": 6, "validation_x": 0.5}])
    for name in ("measurements.jsonl", "timing.jsonl"):
        path = tmp_path / "run" / name
        path.write_text(path.read_text().removesuffix("\n"))
    found = run_folder.outcome(tmp_path / "run", (5,), (6,))
    assert found["metrics"]["validation"] == {"x": 0.5}
    assert found["seconds"] == pytest.approx(4 * 5 / 10 + 2 * 5 / 20)


def test_only_numbers_are_metrics(tmp_path):
    other = {"note": "a", "validation_y": [1, 2], "z": None, "w": True}
    other |= {"validation_z": 1e150}
    write_run(
        tmp_path / "run", [{"step": 4, "x": 1, "validation_x": 2} | other]
    )
    found = run_folder.outcome(tmp_path / "run", (5,), (4,))
    numbers = {"training": {"x": 1}, "validation": {"x": 2}}
    assert found["metrics"] == numbers
    scores = tmp_path / "run" / "eval_results.json"
    scores.write_text('{"f1": 80.5, "best": null, "by": "me"}')
    read = run_folder.outcome(tmp_path / "run", (5,), (4,))["metrics"]
    assert read["validation"] == {"x": 2, "f1": 80.5}
    assert found["curve"] == [{"step": 4, **numbers}]


# Whole studies.


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    """A study that nothing disturbs: (folder, arms, further flags)."""
    folder = tmp_path_factory.mktemp("calm")
    arms = write_arms(folder)
    further = ("--trials=1", "--seeds=3", "--pause=0.05")
    done = compare(*study_of(folder / "study", arms, *further))
    assert done.returncode == 0, done.stderr
    return folder / "study", arms, further


def test_records_and_report(calm):
    folder, *_ = calm
    records = records_of(folder)
    runs = [("broad", 0), *(("confirm", i) for i in range(3))]
    assert [(r["arm"], r["stage"], r["index"]) for r in records] == [
        (arm, *run) for arm in ("tuned", "fixed") for run in runs
    ]
    for record in records:
        if record["status"] == "finished":
            rate = record["hyperparameters"]["learning_rate"]
            score = 1 / (1 + abs(rate - 1)) - record["seed"] % 7 / 1e3
            found = record["metrics"]["validation"]["accuracy"]
            assert found == pytest.approx(score - 0.1)
    # Confirming runs of both arms have the same seeds, other than the search.
    seeds = [r["seed"] for r in records if r["stage"] == "confirm"]
    assert seeds[:3] == seeds[3:] and len(set(seeds)) == 3
    page = (folder / "report.html").read_text()
    assert "tuned" in page and FAKE in page
    assert not [*folder.glob("runs/**/checkpoints")]


def test_a_finished_study_runs_nothing_again(calm):
    folder, arms, further = calm
    starts = [*folder.glob("runs/*/*/starts")]
    again = compare(*study_of(folder, arms, *further))
    assert again.returncode == 0 and "all 8 are from" in again.stdout
    assert {path.read_text() for path in starts} == {"0\n"}
    other = compare(*study_of(folder, arms, *further, "--l2=1"))
    assert other.returncode == 2 and "holds another study" in other.stderr


def test_without_its_ledger_nothing_is_lost_or_run_again(calm, tmp_path):
    folder, arms, further = calm
    lines = (folder / "trials.jsonl").read_text().splitlines(keepends=True)
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copy(folder / "study.json", copy)
    kept = "".join(lines[:5])
    (copy / "trials.jsonl").write_text(kept)
    one = session_of(arms, further[-1])
    with one.opened(copy, f"sqlite:///{tmp_path}/other.db"):
        assert "Interrupted after 5 of 8 trials" in one.interrupted()
    assert (copy / "trials.jsonl").read_text() == kept
    assert not (copy / "runs").exists()
    one = session_of(arms, further[-1])
    with one.opened(copy):
        assert len(one.ends().earlier) == 5
        one.work(lambda count: None)
        one.export()
    assert (copy / "trials.jsonl").read_text().startswith(kept)
    assert records_of(copy) == records_of(folder)
    begun = {path.parent.name for path in copy.glob("runs/*/*/starts")}
    assert begun == {"confirm-0", "confirm-1", "confirm-2"}
    assert len([*copy.glob("runs/*/*/starts")]) == 3


def test_what_grew_meanwhile_is_kept(tmp_path):
    arms = write_arms(tmp_path)
    one = session_of(arms[1:], seeds=1)
    with one.opened(tmp_path / "s"):
        one.work(lambda count: None)
        broad, confirm = one.export()
        study = study_folder.read(tmp_path / "s")
        study_folder.open_study(
            tmp_path / "s", study | {"seeds": 2, "challenge_trials": 4}
        )
        challenge = broad | {"stage": "challenge", "index": 1}
        grown = [broad, challenge, confirm, confirm | {"index": 1}]
        study_folder.export(tmp_path / "s", study, grown)
        one.export()
    assert study_folder.load(tmp_path / "s").records == grown


def test_results_that_differ_from_the_ledgers_are_kept(calm, tmp_path):
    folder, arms, further = calm
    copy = shutil.copytree(folder, tmp_path / "copy")
    records = (copy / "trials.jsonl").read_text().splitlines()
    first = json.loads(records[0])
    first["metrics"]["validation"]["accuracy"] += 0.25
    other = "\n".join([json.dumps(first), *records[1:], ""])
    (copy / "trials.jsonl").write_text(other)
    message = "ledger.db hold different results of tuned broad 0: give the"
    with (
        pytest.raises(study_folder.StudyError, match=message),
        session_of(arms, further[-1]).opened(copy),
    ):
        pass
    assert (copy / "trials.jsonl").read_text() == other


def test_a_search_that_is_added_has_the_seeds_of_the_study(
    tmp_path, monkeypatch
):
    arms = write_arms(tmp_path)
    variable = "TF_ENABLE_ONEDNN_OPTS"
    monkeypatch.setenv(variable, "0")  # by which numbers change
    with session_of(arms, searches=2, seeds=4).opened(tmp_path / "s"):
        pass
    more = session_of(arms, searches=3, seeds=2, margin=0.1)
    with more.opened(tmp_path / "s"):
        names, found = zip(*more.companions())
    assert names == ("search_1", "search_2")
    assert [one.study["seeds"] for one in found] == [4, 4]
    environment = more.study["environment"]
    assert f"{variable}=0" in environment["variables"]
    assert [one.study["margin"] for one in found] == [0.1, 0.1]
    with pytest.raises(ValueError, match="no 'search_3'.*search_1, search_2"):
        more.companion("search_3", tmp_path / "s")
    with pytest.raises(ValueError, match="no 'control' besides"):
        more.companion("control", tmp_path / "s")
    long = {"name": 200 * "x"}
    assert len(companions.title(long, "search_99")) == 200


def test_behind_a_link_the_reason_is_said_as_well(tmp_path):
    arms = write_arms(tmp_path)[1:]
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    one = session_of(arms, "--learning_rate=200")
    with (
        pytest.raises(ValueError, match="learning_rate must be at most 100"),
        one.opened(tmp_path / "link"),
    ):
        one.work(lambda count: None)
    assert not [*(tmp_path / "real").iterdir()]


def test_an_edit_of_the_program_is_not_mixed_in(tmp_path, monkeypatch):
    fake = (programs.ROOT / "tests/comparison/fake_program.py").read_text()
    late = "def late():\n    from score import parts\n\n\n"
    fake = fake.replace("timing.jsonl", "speeds")  # which it need not have
    (tmp_path / "mine.py").write_text(late + fake)
    parts = tmp_path / "score/parts.py"  # in a folder without __init__.py
    parts.parent.mkdir()
    parts.write_text("OFFSET = 0.1\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    arms = write_arms(tmp_path)[1:]

    def work(seeds, progress=lambda count: None):
        one = session_of(arms, module="mine", seeds=seeds)
        with one.opened("s"):
            one.work(progress)
            return one.export()

    assert [record["seconds"] > 0 for record in work(seeds=1)] == [True, True]
    parts.write_text("OFFSET = (\n    0.1  # of the paper\n)\n")
    assert len(work(seeds=2)) == 3
    parts.write_text("OFFSET = 0.2\n")
    refused = "s holds another study: the code of score.parts was edited. Ch"
    with pytest.raises(study_folder.StudyError, match=refused):
        work(seeds=3)
    parts.write_text("OFFSET = 0.1\n")
    with pytest.raises(ValueError, match="score.parts was edited while the"):
        work(4, lambda counts: parts.write_text("OFFSET = 0.2\n"))
    assert len([*(tmp_path / "s/runs/fixed").glob("*/starts")]) == 3
    # Nor what a study began that was taken back.
    for path in (tmp_path / "s").iterdir():
        if path.is_file():
            path.unlink()
        elif path.name != "runs":
            shutil.rmtree(path)
    with pytest.raises(ValueError, match="broad-0: .*score.parts was edited"):
        work(seeds=1)


def test_the_source_is_what_python_imports(tmp_path, monkeypatch):
    """And is read without importing it."""
    for name, text in {
        "tool/__init__.py": "",
        "tool/__main__.py": "import json, numpy\nfrom .inner import deep as d",
        "tool/inner/__init__.py": "from .. import beside",
        "tool/inner/deep.py": "from ..beside import *\nimport far.away as f",
        "tool/beside.py": "try:\n    import gone\nexcept ImportError: pass",
        "tool/unused.py": "raise ValueError",
        "far/away.py": "import mended\nfrom aside import library\n'\\d'",
        "mended.py": "VALUE = 1",
        "aside/library.py": "",
        "aside-1.0.dist-info/RECORD": "aside/library.py,,\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    loaded = subprocess.run(
        [sys.executable, "-c", _LOADED, tmp_path],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    expected = {*json.loads(loaded.stdout), "tool.__main__"}
    assert "far.away" in expected
    found = source.digests("tool")
    assert {*found} == expected - {"aside.library"}
    assert not {"tool", "mended"} & {*sys.modules}
    for broken in ("VALUE = 2", "VALUE ="):
        (tmp_path / "mended.py").write_text(broken)
        now = source.digests("tool")
        assert {n for n in found if now[n] != found[n]} == {"mended"}


_LOADED = """
import json, runpy, sys
runpy.run_module("tool", run_name="__main__")
files = {n: getattr(m, "__file__", None) for n, m in sys.modules.items()}
ours = [n for n, f in files.items() if f and f.startswith(sys.argv[1])]
print(json.dumps(ours))
"""


def test_killed_and_with_two_workers_it_is_the_same_study(calm, tmp_path):
    folder, arms, further = calm
    moments = random.Random(3)
    line = study_of(tmp_path / "s", arms, *further, "--num_workers=2")
    command = [sys.executable, "-m", "lbcheck", "compare", *line]
    for _ in range(4):
        worker = subprocess.Popen(
            command,
            cwd=programs.ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(moments.uniform(1.5, 3.5))
        worker.kill()
        worker.wait()
    done = compare(*line, timeout=120)
    assert done.returncode == 0, done.stderr
    assert records_of(tmp_path / "s") == records_of(folder)


def test_interrupted_it_says_so_and_the_run_goes_on(calm, tmp_path):
    _, arms, _ = calm
    line = study_of(tmp_path / "s", arms[1:], "--trials=1", "--seeds=1")
    command = [sys.executable, "-m", "lbcheck", "compare", *line]
    worker = subprocess.Popen(
        [*command, "--pause=1"],
        cwd=programs.ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    measured = tmp_path / "s/runs/fixed/broad-0/measurements.jsonl"
    wait_for(measured)
    worker.send_signal(signal.SIGTERM)
    _, said = worker.communicate(timeout=30)
    assert worker.returncode == 75, said
    assert "Interrupted after 0 of 2 trials" in said
    status = json.loads((measured.parent / "status.json").read_text())
    assert status["status"] == "interrupted"
    done = compare(*line, "--pause=1")
    assert done.returncode == 0, done.stderr
    starts = (measured.parent / "starts").read_text().split()
    assert starts == ["0", str(status["step"])]


def wait_for(path):
    deadline = time.monotonic() + 60
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(
    "further, message",
    [
        (("--learning_rate=200",), "fake: learning_rate must be at most 100"),
        (("--steps=5",), "--steps does not apply to --program"),
        (("--workload=a:b",), "received both"),
        (("--metric=f2",), "no validation metric 'f2' .*; it has accuracy"),
        (("--train_steps=many",), "whole number of at least 1.*'many'"),
        (("--join=study",), "there is no such folder; expected a folder"),
    ],
)
def test_refused(calm, tmp_path, further, message):
    _, arms, _ = calm
    if further[0].startswith("--metric"):
        further = (*further, "--mode=max")
    done = compare(
        *study_of(tmp_path / "s", arms[1:], "--trials=1", "--seeds=1"),
        *further,
    )
    assert done.returncode == 2
    assert re.search(message, done.stderr), done.stderr
    if "f2" not in message:  # which only a run that ended shows
        assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    "flag, message",
    [
        ("--made=2", "broad-0: .* after 3 updates, as its flags say; .*says 2"),
        ("--made=5", "broad-0: .* after 3 updates, as its flags say; .*says 5"),
        (
            '--line={"accuracy": null}',
            "broad-0: .*no training metric 'accuracy' that is a number .*loss",
        ),
        (
            '--line={"validation_accuracy": "0.5"}',
            "broad-0: .*no validation metric 'accuracy' .*it has none",
        ),
        (
            '--line={"validation_accuracy": 1e150}',
            "broad-0: .*no validation metric 'accuracy' .* at most 1e.100; it",
        ),
    ],
)
def test_a_run_that_no_report_takes_leaves_no_study(
    calm, tmp_path, flag, message
):
    _, arms, _ = calm
    done = compare(
        *study_of(tmp_path / "s", arms[1:], "--trials=1", "--seeds=1", flag)
    )
    assert done.returncode == 2
    assert re.search(message, done.stderr), done.stderr
    assert [path.name for path in (tmp_path / "s").iterdir()] == ["runs"]


def test_dry_run_shows_the_commands(calm, tmp_path):
    _, arms, further = calm
    done = compare(*study_of(tmp_path / "s", arms, *further, "--dry_run"))
    assert done.returncode == 0 and not (tmp_path / "s").exists()
    assert f"--output_dir={tmp_path}/s/runs/fixed/broad-0" in done.stdout
    assert "8 trials before a challenge" in done.stdout


@pytest.mark.slow
def test_a_chain_of_studies_and_its_chronology(tmp_path):
    space = {
        "learning_rate": {"min": 0.1, "max": 9, "scale": "log", "count": 3},
        "l2": {"values": [0.001, 0.01]},
    }
    (tmp_path / "arm.json").write_text(
        json.dumps({"space": {"points": "grid", "parameters": space}})
    )
    line = (
        *study_of(tmp_path / "grid", [tmp_path / "arm.json"]),
        *BASE,
        "--train_steps=3",
        "--seeds=2",
    )
    assert compare(*line, "--trials=6", "--name=grid").returncode == 0
    fine = (*line, f"--output_dir={tmp_path}/fine", "--name=fine")
    orphan = compare(*fine, "--refine=0.4")
    assert orphan.returncode == 2 and "--refine needs --parent" in orphan.stderr
    done = compare(
        *fine, f"--parent={tmp_path}/grid", "--refine=0.4", "--trials=3"
    )
    assert done.returncode == 0, done.stderr
    study = json.loads((tmp_path / "fine/study.json").read_text())
    grid = json.loads((tmp_path / "grid/study.json").read_text())
    best = study["parent"]["best"]["arm"]["learning_rate"]
    assert best == pytest.approx((0.1 * 9) ** 0.5)  # the middle of three
    searched = study["arms"]["arm"]["space"]["parameters"]["learning_rate"]
    assert searched["max"] / searched["min"] == pytest.approx(90**0.4)
    assert searched["max"] * searched["min"] == pytest.approx(best**2)
    assert grid["arms"]["arm"]["space"]["parameters"] == space

    def chronology(*words):
        return subprocess.run(
            [sys.executable, "-m", "lbcheck", "report", *words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )

    said = chronology("grid", "fine", "--chronology=markdown").stdout
    assert "3 values of \\[0.1, 9\\] | log | 0.9487 |" in said
    assert "6 trials, 6 of them feasible, of 3 steps at batch size 10" in said
    assert said.count("It follows table 1.") == 1
    latex = chronology("grid", "fine", "--chronology=latex").stdout
    assert latex.count(r"\begin{table}") == 2 and r"learning\_rate" in latex
    turned = chronology("fine", "grid", "--chronology=latex")
    assert turned.returncode == 2 and "must stand before it" in turned.stderr


def test_a_study_follows_one_that_is_finished(calm, tmp_path):
    folder, arms, further = calm
    assert set(lineage.parent(folder)["best"]) == {"tuned", "fixed"}
    with session_of(arms, further[-1]).opened(tmp_path):
        pass
    with pytest.raises(study_folder.StudyError, match="finished, .* after 0;"):
        lineage.parent(tmp_path)


def test_scores_of_answers_have_no_training_part(tmp_path, calm):
    _, arms, _ = calm
    line = study_of(tmp_path / "s", arms, "--trials=1", "--seeds=6")
    done = compare(*line, "--metric=f1", "--answers=yes", "--format=json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert "training" not in found["sentence"]
    study = json.loads((tmp_path / "s/study.json").read_text())
    assert study["metric"] == {"name": "f1", "mode": "max"}
    for record in records_of(tmp_path / "s"):
        rate = record["hyperparameters"]["learning_rate"]
        score = 1 / (1 + abs(rate - 1)) - record["seed"] % 7 / 1e3
        f1 = record["metrics"]["validation"]["f1"]
        assert f1 == pytest.approx(100 * score)
    refused = compare(*line, "--metric=f1", "--answers=yes", "--mode=min")
    assert refused.returncode == 2


@pytest.mark.slow  # the protocol's own tests have it, too
def test_several_seeds_a_trial(tmp_path, calm):
    _, arms, _ = calm
    line = study_of(tmp_path / "s", arms[:1], "--trials=2", "--seeds=1")
    done = compare(*line, "--search_seeds=3")
    assert done.returncode == 0, done.stderr
    broad = [r for r in records_of(tmp_path / "s") if r["stage"] == "broad"]
    assert len(broad) == 6 and len({r["seed"] for r in broad}) == 3
    assert len({str(r["hyperparameters"]) for r in broad}) == 2
    refused = compare(*line, "--search_seeds=3", "--challenge_trials=5")
    assert refused.returncode == 2 and "not challenged" in refused.stderr
    line = study_of(tmp_path / "t", arms, "--trials=1", "--seeds=2")
    line = [a for a in line if not a.startswith("--challenge_trials")]
    done = compare(*line, "--search_seeds=3")
    assert done.returncode in (0, 1), done.stderr
    found = json.loads((tmp_path / "t/results.json").read_text())["tables"]
    curves = {(row["arm"], row["trials"]) for row in found["best_so_far"]}
    spent = {row["total"] for row in found["budget"] if row["stage"] == "broad"}
    assert len(curves) == len(arms) > 1 and spent == {3}


@pytest.mark.slow
def test_what_diverges_is_replaced(tmp_path):
    space = {"learning_rate": {"min": 3, "max": 90, "scale": "log"}}
    (tmp_path / "arm.json").write_text(json.dumps({"space": space}))
    line = (
        *study_of(tmp_path / "s", [tmp_path / "arm.json"]),
        *BASE,
        "--train_steps=3",
        "--trials=3",
        "--seeds=1",
        "--feasible",
    )
    line = [a for a in line if not a.startswith("--challenge_trials")]
    done = compare(*line)
    assert done.returncode == 0, done.stderr
    search = [r for r in records_of(tmp_path / "s") if r["stage"] != "confirm"]
    assert sum(r["status"] == "finished" for r in search) == 3
    assert {r["stage"] for r in search} == {"broad", "replacement"}
    refused = compare(*line, "--challenge_trials=5")
    assert refused.returncode == 2 and "not challenged" in refused.stderr


# The real programs.


def digits(tmp_path):
    """Arguments of a study of resnet.train on digits."""
    for name, rates in (("lars", (1, 20)), ("nesterov", (0.02, 2))):
        low, high = rates
        space = {"min": low, "max": high, "scale": "log"}
        (tmp_path / f"{name}.json").write_text(
            json.dumps(
                {
                    "flagfile": str(
                        programs.ROOT / f"flags/resnet/digits_{name}.flags"
                    ),
                    "space": {"learning_rate": space},
                }
            )
        )
    return [
        "--program=resnet.train",
        f"--arms={tmp_path}/nesterov.json",
        "--train_steps=6",
        "--warmup_steps=2",
        "--log_every=2",
        "--evaluate_every=2",
        "--trials=1",
        "--seeds=1",
        "--noprogress",
        "--deterministic",
    ]


@pytest.mark.slow
def test_a_trial_has_the_bits_of_the_program_alone(tmp_path):
    line = digits(tmp_path)
    done = compare(*line, f"--output_dir={tmp_path}/s")
    assert done.returncode == 0, done.stderr
    run = tmp_path / "s/runs/nesterov/confirm-0"
    flags = (run / "flags.txt").read_text()
    (tmp_path / "again.flags").write_text(flags)
    alone = programs.Program(
        "resnet.train",
        [
            f"--flagfile={tmp_path}/again.flags",
            f"--output_dir={tmp_path}/alone",
        ],
    )
    _, said = alone.communicate(timeout=300)
    assert alone.returncode == 0, said
    name = "measurements.jsonl"
    assert (tmp_path / "alone" / name).read_text() == (run / name).read_text()
    record = records_of(tmp_path / "s")[-1]
    last = json.loads((run / name).read_text().splitlines()[-1])
    assert (
        record["metrics"]["validation"]["accuracy"]
        == last["validation_accuracy"]
    )
    assert [point["step"] for point in record["curve"]] == [2, 4, 6]


@pytest.mark.slow
def test_thirty_kills_of_a_real_study(tmp_path):
    line = digits(tmp_path)
    line[1] = f"--arms={tmp_path}/lars.json,{tmp_path}/nesterov.json"
    line[6:8] = ["--trials=2", "--seeds=2", "--challenge_trials=0"]
    line = [*line, "--train_steps=40", "--num_workers=2"]
    calm = compare(*line, f"--output_dir={tmp_path}/calm")
    assert calm.returncode == 0, calm.stderr
    command = [sys.executable, "-m", "lbcheck", "compare", *line]
    moments = random.Random(0)
    for _ in range(30):
        worker = subprocess.Popen(
            [*command, f"--output_dir={tmp_path}/killed"],
            cwd=programs.ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        time.sleep(moments.uniform(2, 12))
        os.kill(worker.pid, signal.SIGKILL)
        worker.wait()
    done = compare(*line, f"--output_dir={tmp_path}/killed")
    assert done.returncode == 0, done.stderr
    assert records_of(tmp_path / "killed") == records_of(tmp_path / "calm")


def free_port():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


def as_second_host(monkeypatch):
    """TF_CONFIG of the second of two hosts."""
    config = {
        "cluster": {"worker": ["a:1", "b:1"]},
        "task": {"type": "worker", "index": 1},
    }
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))


def test_a_host_does_not_wait_for_a_study_that_is_done(tmp_path, monkeypatch):
    as_second_host(monkeypatch)
    monkeypatch.setattr(cluster, "WAITING_SECONDS", 0.1)
    pod.announce(tmp_path, None)
    with pytest.raises(errors.Unavailable, match="a:1 announced nothing for"):
        pod.follow(tmp_path)


def test_a_host_says_why_its_part_of_a_trial_failed(
    tmp_path, monkeypatch, capfd
):
    as_second_host(monkeypatch)
    pod.announce(tmp_path, ["lbcheck.no_such_module"])
    said = ""

    def look():
        nonlocal said
        said += capfd.readouterr().err
        if "b:1: a trial ended" in said:
            pod.announce(tmp_path, None)

    monkeypatch.setattr(processes, "check_interrupted", look)
    pod.follow(tmp_path)
    assert "b:1: a trial ended: " in said and "no_such_module" in said


@pytest.mark.slow
def test_hosts_of_a_pod_run_one_trial(tmp_path):
    line = digits(tmp_path)
    cluster = {"worker": [f"localhost:{free_port()}" for _ in range(2)]}
    hosts = []
    for index in (1, 0):
        task = {"type": "worker", "index": index}
        config = json.dumps({"cluster": cluster, "task": task})
        hosts.append(
            subprocess.Popen(
                [sys.executable, "-m", "lbcheck", "compare", *line]
                + ["--distribution=multi_worker", f"--output_dir={tmp_path}/s"],
                cwd=programs.ROOT,
                env={**os.environ, "TF_CONFIG": config},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    for host in hosts:
        _, said = host.communicate(timeout=300)
        assert host.returncode == 0, said
    assert len(records_of(tmp_path / "s")) == 2
    run = json.loads(
        (tmp_path / "s/runs/nesterov/confirm-0/run.json").read_text()
    )
    assert len(run["starts"][0]["devices"][1:]) == 2  # after the strategy
