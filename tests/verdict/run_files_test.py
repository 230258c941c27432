"""Runs that are a file or a folder each, and what is refused of them."""

import json
import pickle

import numpy as np
import pytest

from lbcheck import verdict
from lbcheck.verdict import run_files
from tests.report.judge_command_test import RUNS
from tests.report.judge_command_test import run


def logger(path, value, training=0.99):
    """As keras.callbacks.CSVLogger writes it."""
    path.write_text(
        "epoch,accuracy,loss,val_accuracy,val_loss\r\n"
        "0,0.1,2.0,0.2,2.1\r\n"
        f"1,{training},0.1,{value!r},0.3\r\n"
    )


def tensorboard(path, value):
    path.write_text(
        "Wall time,Step,Value\n1698.5,0,0.1\n"
        f"1700.5,20,{value!r}\n1699.5,10,0.2\n"
    )


def nanogpt(path, value):
    path.write_text(
        "import torch\nclass Muon: ...\n====\n"
        "step:0/1750 val_loss:10.8258 train_time:0ms\n"
        "step:1/1750 train_time:96ms step_avg:96.01ms\n"
        f"step:1750/1750 val_loss:{value!r} train_time:1ms\n"
    )


def folder(path, value, status="finished"):
    """As resnet.train writes it."""
    path.mkdir(parents=True)
    ended = {"status": status, "step": 20}
    (path / "status.json").write_text(json.dumps(ended))
    lines = [
        {"step": 10, "loss": 2.0, "accuracy": 0.2},
        {"step": 20, "loss": 0.1, "accuracy": 0.99}
        | {"validation_loss": 0.3, "validation_accuracy": value},
    ]
    (path / "measurements.jsonl").write_text(
        "".join(f"{json.dumps(line)}\n" for line in lines)
    )


@pytest.mark.parametrize("write, metric", [
    (logger, "accuracy"),
    (tensorboard, None),
    (nanogpt, None),
    (folder, "accuracy"),
])  # fmt: skip
def test_final_metrics(tmp_path, write, metric):
    for arm, values in RUNS.items():
        for seed, value in enumerate(values):
            write(tmp_path / f"{arm}_{seed}", value)
    patterns = [f"{arm}={tmp_path}/{arm}_*" for arm in RUNS]
    found = run_files.read(patterns, metric)
    read = found.runs["validation"]
    assert {a: sorted(v) for a, v in read.items()} == {
        a: sorted(v) for a, v in RUNS.items()
    }
    assert ("training" in found.runs) == (metric == "accuracy")
    named = {tensorboard: "metric", nanogpt: "val_loss"}
    assert found.metric == named.get(write, "accuracy")


def test_the_command(tmp_path):
    for arm, values in RUNS.items():
        for seed, value in enumerate(values):
            logger(tmp_path / f"{arm}={seed}.csv", value, 0.9 + value / 100)
    patterns = [f"{arm}={tmp_path}/{arm}=*" for arm in RUNS]
    flags = ("--challengers=muon", "--margin=0.005", "--metric=accuracy")
    printed = run(*patterns, *flags, "--format=json")
    assert (printed.returncode, printed.stderr) == (0, "")
    decided = json.loads(printed.stdout)
    expected = verdict.compare_arms(RUNS, ["muon"], margin=0.005)
    assert decided["answer"] == expected.answer == "needed"
    assert decided["training_answer"] == "not needed"
    printed = run(*patterns[:2], *flags[:2])
    assert printed.returncode == 2
    assert "name the metric by --metric; it has 'epoch'" in printed.stderr


def test_a_run_that_diverged(tmp_path):
    folder(tmp_path / "a", 0.5, "diverged")
    (tmp_path / "a" / "measurements.jsonl").unlink()
    folder(tmp_path / "b", 0.5)
    logger(tmp_path / "c", float("nan"))
    found = run_files.read([f"x={tmp_path}/?"], "accuracy")
    assert found.runs["validation"] == {"x": [None, 0.5, None]}


@pytest.mark.parametrize("rows, values", [
    # Training and validation in rows of their own; every second epoch.
    (["epoch,step,loss,val_accuracy,val_loss",
      "0,9,2,,", "0,9,,0.5,2", "1,19,1,,", "1,19,,0.7,1", "1,24,1,,"], 0.7),
    (["epoch,loss,val_accuracy,val_loss",
      "0,2,NA,NA", "1,2,0.5,3", "2,1,NA,NA"], 0.5),
    # TerminateOnNaN; the accuracy of nan is that of the first class.
    (["epoch,loss,val_accuracy,val_loss", "0,2,0.5,2", "1,nan,NA,NA"], None),
    (["epoch,loss,val_accuracy,val_loss", "0,2,0.5,2", "1,2,0.9,nan"], None),
    (["epoch,loss,val_accuracy,val_loss", "0,inf,0.5,2", "1,2,0.9,1"], 0.9),
    # As pandas writes nan.
    (["epoch,loss,accuracy,val_loss,val_accuracy",
      "0,2,0.5,2,0.5", "1,2,0.5,2,0.7", "2,,0.1,,0.1"], None),
    (["epoch,val_accuracy", "0,0.5", "1,0.5", "2,"], None),
    # A last row of something else, without its epoch.
    (["epoch,step,lr,val_accuracy", "0,1,,0.5", "1,2,,0.7", ",3,0.1,"], 0.7),
    # Test data are left alone, of which there are none here.
    (["epoch,val_accuracy,loss,val_loss", "0,0.5,1,-inf"], None),
    # A restart.
    (["Wall time,Step,Value", "1,0,0.1", "2,1,0.2", "3,2,0.3", "4,1,0.4",
      "5,2,0.5"], 0.5),
])  # fmt: skip
def test_the_last_value_of_a_file_counts(tmp_path, rows, values):
    (tmp_path / "x").write_text("\n".join(rows) + "\n")
    found = run_files.read([f"x={tmp_path}/x"], "accuracy")
    assert found.runs["validation"] == {"x": [values]}


def test_epochs_of_an_appended_file_are_counted_once(tmp_path):
    logger(tmp_path / "a", 0.5)
    logger(tmp_path / "b", 0.5)
    text = (tmp_path / "b").read_text()
    (tmp_path / "b").write_text(text + text.partition("\n")[2])
    found = run_files.read([f"x={tmp_path}/?"], "accuracy")
    assert found.notes == ()


def test_a_prefix_names_the_part(tmp_path):
    (tmp_path / "x").write_text(
        "epoch,accuracy,val_accuracy,test_accuracy\n0,0.9,0.5,0.4\n"
    )
    for metric, parts in (
        ("accuracy", {"test": 0.4, "validation": 0.5, "training": 0.9}),
        ("val_accuracy", {"validation": 0.5, "training": 0.9}),
        ("test_accuracy", {"test": 0.4, "training": 0.9}),
    ):
        found = run_files.read([f"x={tmp_path}/x"], metric)
        assert found.metric == "accuracy"
        assert found.runs == {p: {"x": [v]} for p, v in parts.items()}
    (tmp_path / "y").write_text(
        "epoch,accuracy,val_accuracy,test_accuracy,test_loss\n"
        "0,0.9,0.7,0.4,nan\n"
    )
    patterns = [f"x={tmp_path}/x", f"y={tmp_path}/y"]
    found = run_files.read(patterns, "val_accuracy")
    assert found.runs["validation"] == {"x": [0.5], "y": [0.7]}
    assert found.runs.keys() == {"validation", "training"}
    with pytest.raises(ValueError, match="training data, which are not judged"):
        run_files.read([f"x={tmp_path}/x"], "train_accuracy")


def test_the_metric_is_asked_for_whichever_run_is_first(tmp_path):
    folder(tmp_path / "a", 0.5, "diverged")
    folder(tmp_path / "b", 0.5)
    for paths in (["a", "b"], ["b", "a"], ["a"]):
        with pytest.raises(ValueError, match="name the metric by --metric"):
            run_files.read([f"{x}={tmp_path}/{x}" for x in paths])


def test_scores_of_squad(tmp_path):
    folder(tmp_path / "a", 0.5)
    scores = {"exact_match": 81.5, "f1": 88.25, "total": 7}
    (tmp_path / "a" / "eval_results.json").write_text(json.dumps(scores))
    found = run_files.read([f"x={tmp_path}/a"], "f1")
    assert found.runs == {"validation": {"x": [88.25]}}


def phases(path, *values, status="finished"):
    """As bert.pretrain writes them."""
    for number, value in enumerate(values, 1):
        last = number == len(values)
        folder(path / f"phase{number}", value, status if last else "finished")


def test_the_last_phase_counts(tmp_path):
    phases(tmp_path / "a", 0.25, 0.5)
    phases(tmp_path / "b", 0.75)
    for paths, values in (("a", [0.5]), ("b", [0.75]), ("a/phase1", [0.25])):
        found = run_files.read([f"x={tmp_path}/{paths}"], "accuracy")
        assert found.runs["validation"] == {"x": values}
        assert found.notes == ()
    found = run_files.read([f"x={tmp_path}/?"], "accuracy")
    assert found.runs["validation"] == {"x": [0.5, 0.75]}
    assert "end with phase 1, others with phase 2" in found.notes[0]
    with pytest.raises(ValueError, match="b/phase1 comes twice, as a run"):
        run_files.read(
            [f"x={tmp_path}/b", f"y={tmp_path}/b/phase1"], "accuracy"
        )
    # Phase 2 was begun, so that of phase 1 is no final metric.
    phases(tmp_path / "c", 0.25, 0.5, status="interrupted")
    with pytest.raises(ValueError, match="c/phase2: is 'interrupted'"):
        run_files.read([f"x={tmp_path}/c"], "accuracy")
    (tmp_path / "c" / "phase2" / "status.json").unlink()
    with pytest.raises(ValueError, match="c/phase2: has no status.json"):
        run_files.read([f"x={tmp_path}/c"], "accuracy")


def cut(path, change):
    """A folder of which a file is changed."""
    folder(path, 0.5)
    lines = path / "measurements.jsonl"
    lines.write_text(change(lines.read_text()))


def test_what_a_study_keeps_beside_its_runs_is_no_run(tmp_path):
    for name, value in (("confirm-0", 0.5), ("confirm-1", 0.25)):
        folder(tmp_path / name, value)
        for suffix in ("lock", "log"):
            (tmp_path / f"{name}.{suffix}").touch()
    found = run_files.read([f"x={tmp_path}/confirm-*"], "accuracy")
    assert found.runs["validation"] == {"x": [0.5, 0.25]}
    nanogpt(tmp_path / "a.log", 3.25)
    found = run_files.read([f"x={tmp_path}/a*"])
    assert found.runs["validation"] == {"x": [3.25]}
    with pytest.raises(ValueError, match="confirm-0.log: is no run"):
        run_files.read([f"x={tmp_path}/*.log"])


@pytest.mark.parametrize("write, message", [
    (lambda p: p.write_bytes(pickle.dumps({"acc": [1]})), "is a pickle"),
    (lambda p: p.write_bytes(b"\xff\xfe"), "no UTF-8"),
    (lambda p: p.write_text(""), "is no run"),
    (lambda p: p.write_text("epoch,accuracy,val_accuracy\n"), "has no row"),
    (lambda p: p.write_text("epoch,val_accuracy\n0,0.5\n1\n"),
     "x:3: has 1 cells, expected 2"),
    (lambda p: p.write_text("epoch,val_accuracy\n0,NA\n"),
     "no test or validation 'accuracy'; it has values of 'epoch'"),
    (lambda p: p.write_text("epoch;val_accuracy\n0;0.5\n"),
     "separated by ';'"),
    (lambda p: p.write_text("epoch,accuracy\n0,0.5\n"),
     "has no test or validation 'accuracy'"),
    (lambda p: p.write_text("Wall time,Step,Value\n1,nan,0.5\n"),
     "Step must be a number"),
    (lambda p: nanogpt(p, 3.28), "has no accuracy, only val_loss"),
    (lambda p: p.write_text("print(f'val_loss:{val_loss:.4f}')\n"),
     "is no run"),
    (lambda p: p.write_text("step:750/1000 val_loss:3.7 train_time:1ms\n"),
     "ends at step 750 of 1000"),
    (lambda p: p.mkdir(), "has no status.json"),
    (lambda p: folder(p, 0.5, "interrupted"), "is 'interrupted', expected"),
    (lambda p: cut(p, lambda lines: lines[:-9]),
     "measurements.jsonl:2: not JSON"),
    (lambda p: cut(p, lambda lines: lines.splitlines()[0]),
     "measurements.jsonl: a finished run .* received 10, and 20 there"),
    (lambda p: cut(p, lambda lines: ""), "received no line, and 20 there"),
    (lambda p: cut(p, lambda lines: lines + '{"step": 4}\n'),
     "measurements.jsonl:3: step must be more .*, 20, received 4"),
])  # fmt: skip
def test_runs_that_are_refused(tmp_path, write, message):
    write(tmp_path / "x")
    with pytest.raises(ValueError, match=message):
        run_files.read([f"x={tmp_path}/x"], "accuracy")


@pytest.mark.parametrize("patterns, message", [
    (["{0}/a", "y={0}/b"], "given as ARM=PATH, received"),
    (["x={0}/none*"], "no file or folder matches"),
    (["x={0}/a", "y={0}/a"], "comes twice, as a run of x and of y"),
    (["x={0}/?", "x={0}/b"], "comes twice"),
])  # fmt: skip
def test_arguments_that_are_refused(tmp_path, patterns, message):
    for name in "ab":
        logger(tmp_path / name, 0.5)
    with pytest.raises(ValueError, match=message):
        run_files.read([p.format(tmp_path) for p in patterns], "accuracy")


def test_a_test_metric_that_some_lack_is_no_silence(tmp_path):
    for name in "ab":
        (tmp_path / name).write_text(
            "epoch,val_accuracy,test_accuracy\n0,0.5,0.4\n"
        )
    logger(tmp_path / "c", 0.5)
    found = run_files.read([f"x={tmp_path}/[ab]"], "accuracy")
    assert found.runs["test"] == {"x": [0.4, 0.4]}
    with pytest.raises(ValueError, match="c has no test accuracy, which other"):
        run_files.read([f"x={tmp_path}/?"], "accuracy")
    # One that diverged has diverged on every part.
    (tmp_path / "c").unlink()
    folder(tmp_path / "c", 0.5, "diverged")
    found = run_files.read([f"x={tmp_path}/?"], "accuracy")
    assert found.runs["test"] == {"x": [0.4, 0.4, None]}


def test_runs_that_end_early_are_told_of(tmp_path):
    for name, epochs in (("a", 10), ("b", 7)):
        rows = "".join(f"{i},0.5\n" for i in range(epochs))
        (tmp_path / name).write_text(f"epoch,val_accuracy\n{rows}")
    found = run_files.read([f"x={tmp_path}/?"], "accuracy")
    assert "end after 7 to 10 epochs" in found.notes[0]
    assert not run_files.read([f"x={tmp_path}/a"], "accuracy").notes
    for name, steps in (("c", 8), ("d", 4)):
        cut(tmp_path / name, lambda _, n=steps: row_of(n))
        status = {"status": "finished", "step": steps}
        (tmp_path / name / "status.json").write_text(json.dumps(status))
    found = run_files.read([f"x={tmp_path}/[cd]"], "accuracy")
    assert "end after 4 to 8 steps" in found.notes[0]


@pytest.mark.parametrize("write", [logger, tensorboard])
def test_a_file_that_ends_within_a_line_is_told_of(tmp_path, write):
    """Its last number may be 0.7 of 0.7361."""
    for name in "abc":
        write(tmp_path / name, 0.7361)
        assert not run_files.read([f"x={tmp_path}/{name}"], "loss").notes
    for name, told in (("a", "a ends within"), ("b", "a and 1 more end")):
        path = tmp_path / name
        text = path.read_text().rstrip()
        path.write_text(text[: text.rindex("0.") + 3])
        found = run_files.read([f"x={tmp_path}/?"], "loss")
        assert told in found.notes[-1]


def row_of(step):
    # Without the new line that JSON Lines does not ask for, either.
    return json.dumps({"step": step, "validation_accuracy": 0.5})


def test_fractions_beside_per_cent_are_refused(tmp_path):
    for name, value in (("a", 0.76), ("b", 75.0), ("c", 0.1)):
        logger(tmp_path / name, value, value)
    with pytest.raises(
        ValueError, match="arm 'x' is 0.76, and others are abou"
    ):
        run_files.read([f"x={tmp_path}/a", f"y={tmp_path}/b"], "accuracy")
    # A tenth of a per cent is chance of a thousand classes.
    found = run_files.read([f"x={tmp_path}/c", f"y={tmp_path}/b"], "accuracy")
    assert found.runs["validation"] == {"x": [0.1], "y": [75.0]}


def test_random_damage_is_refused_or_read(tmp_path):
    random = np.random.default_rng(0)
    path = tmp_path / "x"
    for write in (logger, tensorboard, nanogpt):
        write(path, 0.5)
        sound = path.read_bytes()
        for _ in range(300):
            damaged = bytearray(sound)
            for place in random.integers(len(damaged), size=3):
                damaged[place] = random.integers(256)
            path.write_bytes(bytes(damaged[: random.integers(1, 400)]))
            try:
                found = run_files.read([f"x={path}"], "loss")
            except ValueError as error:
                assert str(path) in str(error)
            else:
                assert set(found.runs) >= {"validation"}


def table_of_runs(path, rows):
    lines = ["Name,State,Created,lr,val_accuracy,accuracy"]
    lines += [f'"{name}",{state},,0.1,{v},{v}' for name, state, v in rows]
    path.write_text("\n".join(lines))


def test_a_table_of_weights_and_biases(tmp_path):
    path = tmp_path / "wandb.csv"
    runs = [(f"{arm}-{n}", 0.9 + n / 100) for arm in "ab" for n in range(6)]
    table_of_runs(path, [(name, "finished", v) for name, v in runs])
    found = run_files.read([f"x={path}:a-*", f"y={path}:b-*"], "accuracy")
    values = [0.9 + n / 100 for n in range(6)]
    arms = {"x": pytest.approx(values), "y": pytest.approx(values)}
    assert found.runs == {"validation": arms, "training": arms}
    for patterns, message in (
        ([f"x={path}:c-*"], "x: no run of .*wandb.csv is called c-."),
        ([f"x={path}:a-*", f"y={path}:a-1"], "'a-1' comes twice, as a run of"),
        ([f"x={tmp_path}/none.csv:a"], "no file or folder matches"),
    ):
        with pytest.raises(ValueError, match=message):
            run_files.read(patterns, "accuracy")
    table_of_runs(path, [("a-0", "finished", 1), ("a-1", "running", 0.5)])
    with pytest.raises(ValueError, match="'a-1' is 'running', expected one"):
        run_files.read([f"x={path}:a-*"], "accuracy")
    found = run_files.read([f"x={path}:a-0"], "accuracy")
    assert found.runs["validation"] == {"x": [1.0]}


def test_runs_of_one_name_in_a_table_are_runs_of_their_own(tmp_path):
    path = tmp_path / "wandb.csv"
    runs = [("a", "finished", 0.9), ("a", "finished", 0.8)]
    table_of_runs(path, runs)
    found = run_files.read([f"x={path}:a"], "accuracy")
    assert found.runs["validation"] == {"x": [0.9, 0.8]}
    with pytest.raises(ValueError, match="'a, line 2' comes twice"):
        run_files.read([f"x={path}:a", f"y={path}:?"], "accuracy")
    table_of_runs(path, [*runs, runs[0]])
    with pytest.raises(ValueError, match="csv:4: is the same as line 2; "):
        run_files.read([f"x={path}:a"], "accuracy")


def test_what_is_named_like_a_range_or_a_pattern(tmp_path):
    path = tmp_path / "chart[lr=0.1].csv"
    path.write_text("Step,a - val__MAE,a - val__MAE__MIN\n1,0.5,0.4\n")
    found = run_files.read([f"x={path}:a"])
    assert found.runs == {"validation": {"x": [0.5]}}
    logger(path, 0.5)
    found = run_files.read([f"x={path}"], "accuracy")
    assert found.runs["validation"] == {"x": [0.5]}


def test_a_chart_of_weights_and_biases(tmp_path):
    path = tmp_path / "chart.csv"
    header = ["Step"]
    for name in ("a - 0", "a-1", "b-0"):
        header += [
            f"{name} - {m}" for m in ("_step", "val/loss", "val/loss__MIN")
        ]
    # The first run is a little shorter; the last diverged.
    rows = [
        [10, 10, 3.0, 2.9, 10, 3.5, 3.4, 10, 9.0, 8.0],
        [28, 20, 2.5, 2.4, 20, 3.1, 3.0, 20, 9.5, 8.0],
        [30, "", "", "", 30, 2.75, 2.7, 30, "NaN", ""],
    ]
    lines = [",".join(map(str, row)) for row in rows]
    path.write_text("\n".join([",".join(f'"{h}"' for h in header), *lines]))
    for metric in (None, "loss", "val/loss"):
        found = run_files.read([f"a={path}:a*", f"b={path}:b-0"], metric)
        assert found.runs == {"validation": {"a": [2.5, 2.75], "b": [None]}}
        assert found.metric == "loss"
    for name in ("loss", "train/loss", "eval/loss"):
        renamed = [h.replace("val/loss", name) for h in header]
        text = ",".join(f'"{h}"' for h in renamed)
        other = tmp_path / "other.csv"
        other.write_text("\n".join([text, *lines]))
        patterns = [f"a={other}:a*", f"b={other}:b-0"]
        for metric in (None, name):
            assert run_files.read(patterns, metric).runs == found.runs
    with pytest.raises(ValueError, match="has no accuracy .*'val/loss'"):
        run_files.read([f"a={path}:a*"], "accuracy")
    # A run that was stopped has no final metric, one without any diverged.
    stopped = [[*row[:1], "", "", "", *row[4:]] for row in rows[1:]]
    lines = [",".join(map(str, row)) for row in [rows[0], *stopped]]
    path.write_text("\n".join([",".join(f'"{h}"' for h in header), *lines]))
    with pytest.raises(ValueError, match="'a - 0' ends at step 10, another"):
        run_files.read([f"a={path}:a*"])
    path.write_text(path.read_text().replace("10,10,3.0,2.9", "10,,,"))
    found = run_files.read([f"a={path}:a*"])
    assert found.runs == {"validation": {"a": [None, 2.75]}}
    path.write_text(path.read_text().replace("val/loss", "test/loss"))
    assert set(run_files.read([f"a={path}:a-1"], "loss").runs) == {"test"}
    path.write_text("x,y\n1,2\n")
    with pytest.raises(ValueError, match="no table of runs and no chart of"):
        run_files.read([f"a={path}:a*"])
