"""`lbcheck sweep`: its refusals, its words, and one small sweep."""

import json
import math
import re
import subprocess
import sys
import types

import numpy as np
import pytest
from absl import app
from absl.testing import flagsaver

from lbcheck.instruments import noise_scale
from lbcheck.instruments import sweep
from lbcheck.instruments import sweep_command
from lbcheck.instruments import sweep_page
from lbcheck.study import threads
from tests import programs
from tests.instruments import sweep_workload


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "lbcheck", "sweep", *map(str, arguments)],
        cwd=programs.ROOT,
        capture_output=True,
        text=True,
    )


def noise(value, low, high):
    return noise_scale.NoiseScale(value, low, high, 1.0, value, 4, 8, 2)


def found(curve, scale=None, own=64):
    points = [
        sweep.Point(b, s, {"learning_rate": 0.1}, 5, 3 if s else 0)
        for b, s in (
            (b, curve.steps(b) if curve else None) for b in (16, 64, 256)
        )
    ]
    points.append(sweep.Point(512, 7.0, {"learning_rate": 0.2}, 5, 3, 1, True))
    return sweep_page.result(points, curve, scale, "loss", 0.5, own)


def test_where_knee_and_noise_scale_disagree_it_says_so():
    curve = sweep.Curve(100.0, 60.0, 150.0, 10.0, 1000.0)
    for scale, words in (
        (noise(180.0, 120.0, 300.0), "within an octave of the knee"),
        (noise(300.0, 200.0, 400.0), "which it is 3 times."),
        (noise(20.0, 5.0, 70.0), "0.2 times, though their intervals meet"),
        (noise(math.inf, 9.0, math.inf), "cannot be compared"),
    ):
        assert words in found(curve, scale)["sentences"][-1]
    pages = found(None, noise(100.0, 50.0, 150.0))["sentences"]
    assert pages[-1].endswith("of 4 steps with 8 microbatches of 2.")
    open_end = sweep.Curve(math.inf, 300.0, math.inf, 0.0, 1000.0)
    result = found(open_end, noise(100.0, 50.0, 150.0))
    assert "the knee is above 300" in result["sentences"][0]
    assert "inside perfect scaling" in result["sentences"][1]
    assert result["knee"]["knee"] is None
    json.dumps(result, allow_nan=False)


def test_a_figure_is_drawn_of_every_kind(tmp_path):
    for i, curve in enumerate(
        (
            sweep.Curve(100.0, 60.0, 150.0, 10.0, 1000.0),
            sweep.Curve(math.inf, 300.0, math.inf, 0.0, 1000.0),
            sweep.Curve(0.0, 0.0, 4.0, 10.0, 0.0),
            None,
        )
    ):
        result = found(curve, noise(20.0, 0.0, math.inf))
        paths = sweep_page.draw(result, tmp_path / str(i))
        assert all(path.stat().st_size > 5_000 for path in paths)
        table = sweep_page.text(result)
        line = r"16 +3 of 5 .*learning_rate=0.1" if curve else r"16 +0 of 5 +-"
        assert re.search(line, table)
        assert re.search(r"512 +3 of 5 +at most 7 ", table)


def test_steps_that_tell_no_knee_say_so():
    for curve, words in (
        (sweep.Curve(math.inf, 0.0, math.inf, 0.0, 1000.0), "0 to infinity"),
        (sweep.Curve(math.inf, 15.0, math.inf, 0.0, 1000.0), "15 to infinity"),
        (sweep.Curve(0.0, 0.0, 257.0, 10.0, 0.0), "0 to 257"),
    ):
        told = found(curve)["sentences"][0]
        assert told.endswith(f"too much to tell a knee (95 %: {words}).")


@pytest.fixture
def of_runs(monkeypatch, tmp_path):
    """The command with runs in place of studies; (exit code, result)."""
    workload = types.SimpleNamespace(batch_size=64)
    study = {"metric": {"name": "accuracy"}}
    for name, value in {
        "_loaded": lambda: (None, workload),
        "_session": lambda *_: types.SimpleNamespace(study=study),
        "_work": lambda *_: None,
    }.items():
        monkeypatch.setattr(sweep_command, name, value)
    kept = flagsaver.save_flag_values(sweep_command.FLAGS)

    def call(steps):
        def runs(session, folder, size):
            return [sweep.Run(size, steps(size), {})]

        monkeypatch.setattr(sweep_command, "_runs", runs)
        sweep_command.FLAGS(
            [
                "",
                "--workload=a:b",
                "--arm=a",
                "--target=0.9",
                "--examples=9",
                "--batch_sizes=8,16,32,64",
                "--noise_steps=0",
                f"--output_dir={tmp_path}",
            ]
        )
        code = sweep_command.main([])
        return code, json.loads((tmp_path / "result.json").read_text())

    yield call
    flagsaver.restore_flag_values(kept, sweep_command.FLAGS)


@pytest.mark.parametrize("knee, code", [(4, 1), (20, 0), (1000, 1)])
def test_the_exit_code_says_whether_the_knee_is_in_the_sweep(
    of_runs, knee, code
):
    noise = np.random.default_rng(0)
    ended, result = of_runs(
        lambda b: 100 * (1 + knee / b) * (1 + 0.001 * noise.standard_normal())
    )
    assert result["knee"]["knee"] == pytest.approx(knee, rel=0.1)
    assert ended == code
    said = "outside the sweep of 8 to 64" in result["sentences"][0]
    assert said is bool(code)


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    (folder / "arm.json").write_text(
        json.dumps(
            {
                "optimizer": "nesterov",
                "schedule": "constant",
                "space": {
                    "points": "halton",
                    "parameters": {
                        "learning_rate": {
                            "min": 0.01,
                            "max": 0.2,
                            "scale": "log",
                        },
                        "momentum": {"value": 0.0},
                    },
                },
            }
        )
    )
    line = (
        "--workload=tests.instruments.sweep_workload:linear",
        f"--arm={folder}/arm.json",
        "--batch_sizes=4,32,256",
        "--target=0.15",
        "--examples=400",
        "--least_steps=30",
        "--trials=2",
        "--noprogress",
        # As those of this process, where parts of it are run again.
        f"--threads={threads.in_force('tensorflow', None)}",
        f"--output_dir={folder}/sweep",
    )
    done = run(*line)
    assert done.returncode in (0, 1), done.stderr
    return folder / "sweep", line, done


def test_a_small_sweep(swept):
    folder, _, done = swept
    result = json.loads((folder / "result.json").read_text())
    points = result["points"]
    assert [p["batch_size"] for p in points] == [4, 32, 256]
    assert all(p["trials"] == 3 for p in points)
    assert points[0]["steps"] >= points[-1]["steps"]
    study = json.loads((folder / "batch_4" / "study.json").read_text())
    assert study["steps"] == 100 and study["batch_size"] == 4
    assert result["noise_scale"]["microbatches"] == 16
    assert result["noise_scale"]["microbatch_size"] == 16
    assert "gradient-noise scale" in done.stdout
    assert (folder / "sweep.png").exists()


def in_process(line, *further):
    """The exit code of the same sweep, with further flags."""
    kept = flagsaver.save_flag_values(sweep_command.FLAGS)
    try:
        sweep_command.FLAGS(["", *line, *further])
        return sweep_command.main([])
    finally:
        flagsaver.restore_flag_values(kept, sweep_command.FLAGS)


@pytest.mark.parametrize(
    "target, said",
    [
        (50, "Of batches 4, 32, 256 the best trial had the target at its fi"),
        (0.001, "No trial of batches 4, 32, 256 reached the target"),
    ],
)
def test_another_target_is_told_from_the_same_runs(swept, target, said):
    folder, line, _ = swept
    files = [folder / f"batch_{size}" / "trials.jsonl" for size in (4, 32, 256)]
    records = [path.read_bytes() for path in files]
    assert in_process(line, f"--target={target}", "--noise_steps=0") == 1
    result = json.loads((folder / "result.json").read_text())
    assert "there are 0" in result["sentences"][0]
    assert result["sentences"][1].startswith(said)
    assert result["knee"] is None and len(result["points"]) == 3
    assert [path.read_bytes() for path in files] == records


def test_the_noise_scale_is_of_the_best_run(swept, monkeypatch):
    """At each evaluation of that run the weights are those of its record."""
    folder, line, _ = swept
    (data, targets) = sweep_workload.linear().validation
    seen = {}

    def measure(model, updates, microbatch_size, every):
        for step, batch in enumerate(updates, 1):
            model.train_on_batch(*batch)
            predicted = model.predict(data, verbose=0)
            seen[step] = float(np.mean((predicted - targets) ** 2))
        seen["measured"] = len(range(0, step, every))
        return noise(1.0, 0.5, 2.0)

    monkeypatch.setattr(noise_scale, "measure", measure)
    in_process(line, "--noise_steps=2")
    point = json.loads((folder / "result.json").read_text())["points"][-1]
    measured = seen.pop("measured")
    assert max(seen) == math.ceil(point["steps"]) > 2 >= measured
    lines = (folder / "batch_256" / "trials.jsonl").read_text().splitlines()
    (record,) = [
        r
        for r in map(json.loads, lines)
        if r["seed"] == point["seed"]
        and r["hyperparameters"] == point["hyperparameters"]
    ]
    known = {p["step"]: p["validation"]["loss"] for p in record["curve"]}
    both = seen.keys() & known.keys()
    assert len(both) > 2
    assert {s: seen[s] for s in both} == pytest.approx(
        {s: known[s] for s in both}, rel=1e-4
    )


def test_the_noise_scale_is_of_a_batch_that_reached(swept, monkeypatch):
    folder, line, _ = swept
    runs = sweep_command._runs
    monkeypatch.setattr(
        sweep_command,
        "_runs",
        lambda session, place, size: [
            run._replace(steps=None if size == 256 else run.steps)
            for run in runs(session, place, size)
        ],
    )
    in_process(line, "--noise_steps=2")
    result = json.loads((folder / "result.json").read_text())
    assert result["noise_scale"]["microbatch_size"] == 2  # a 16th of 32
    assert "No trial of batch 256 reached" in result["sentences"][1]


def test_a_batch_of_one_example_has_no_noise_scale():
    kept = flagsaver.save_flag_values(sweep_command.FLAGS)
    try:
        sweep_command.FLAGS([""])
        points = [sweep.Point(1, 30.0, {}, 2, 2, 0)]
        assert sweep_command._noise(None, None, points, None) is None
    finally:
        flagsaver.restore_flag_values(kept, sweep_command.FLAGS)


def test_a_model_without_a_noise_scale_is_refused_before_it_trains(
    swept, tmp_path
):
    _, line, _ = swept
    own = ("--workload_arguments=own_step=True", f"--output_dir={tmp_path}")
    with pytest.raises(
        app.UsageError, match="own train_step.* --noise_steps=0"
    ):
        in_process(line, *own)
    assert not [*tmp_path.iterdir()]


def test_a_batch_larger_than_the_data_is_refused_before_others_train(
    swept, tmp_path
):
    _, line, _ = swept
    own = ("--batch_sizes=4,32,100000", f"--output_dir={tmp_path}")
    with pytest.raises(app.UsageError, match="batch_size=100000 is more than"):
        in_process(line, *own)
    assert not [*tmp_path.iterdir()]


@pytest.mark.slow
def test_it_trains_nothing_again(swept):
    folder, line, done = swept
    records = (folder / "batch_4" / "trials.jsonl").read_bytes()
    again = run(*line)
    assert again.stdout == done.stdout
    assert (folder / "batch_4" / "trials.jsonl").read_bytes() == records


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("--workload=a:b",), "--arm is needed"),
        (("--batch_sizes=8,8,16",), "at least 3 different"),
        (("--batch_sizes=8,08,16",), "at least 3 different"),
        (("--batch_sizes=8,x,16",), "received 8,x,16"),
    ],
)
def test_refused(arguments, message):
    line = ["--workload=a:b", "--target=1", "--examples=9", *arguments]
    if "arm" not in message:
        line.append("--arm=nesterov")
    done = run(*line)
    assert done.returncode == 2
    assert re.search(message, done.stderr), done.stderr
