"""`lbcheck sweep`: its refusals, its words, and one small sweep."""

import json
import math
import re
import subprocess
import sys

import pytest

from lbcheck.instruments import noise_scale
from lbcheck.instruments import sweep
from lbcheck.instruments import sweep_page
from tests import programs


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
        sweep.Point(b, curve.steps(b), {"learning_rate": 0.1}, 5, 3)
        for b in (16, 64, 256)
    ]
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
        )
    ):
        result = found(curve, noise(20.0, 0.0, math.inf))
        paths = sweep_page.draw(result, tmp_path / str(i))
        assert all(path.stat().st_size > 5_000 for path in paths)
        table = sweep_page.text(result)
        assert re.search(r"16 +3 of 5 .*learning_rate=0.1", table)


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
