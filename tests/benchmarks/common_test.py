"""What all benchmarks share: ratios by rounds, lines, skips, the runner."""

import json
import os
import subprocess
import sys

import common
import numpy as np
import pytest
import run
import scaling

SCRIPT = """
import common

def main(argv):
    common.data("squad")
    common.tell("a measure", [1.0, 2.0], "s", [2.0, 2.0], "a peer")

if __name__ == "__main__":
    common.start(main)
"""


@pytest.fixture
def start(tmp_path):
    """Runs a script of a folder of its own."""

    def started(text, *arguments, **environment):
        path = tmp_path / "example.py"
        path.write_text(text)
        kept = {k: v for k, v in os.environ.items() if k != "LBCHECK_DATA"}
        paths = os.pathsep.join(
            [str(common.ROOT / "benchmarks"), str(common.ROOT)]
        )
        return subprocess.run(
            [sys.executable, path, *arguments],
            env=kept | {"PYTHONPATH": paths} | environment,
            capture_output=True,
            text=True,
        )

    return started


def lines(output):
    return [json.loads(x) for x in output.splitlines() if x.startswith("{")]


def test_a_ratio_is_the_median_over_the_rounds():
    ours, peer = [2.0, 9.0, 4.0], [1.0, 3.0, 8.0]
    found = common.summary(ours, peer)
    ratios = np.divide(ours, peer)
    assert found["ratio"] == np.median(ratios) == 2.0
    assert found["range"] == [ratios.min(), ratios.max()]
    assert (found["ours"], found["peer"], found["rounds"]) == (4.0, 3.0, 3)


def test_a_range_takes_two_rounds_and_a_ratio_a_peer():
    assert common.summary(3, 2) == {
        "ours": 3.0, "peer": 2.0, "ratio": 1.5, "range": None, "rounds": 1
    }  # fmt: skip
    assert common.summary([3, 5])["range"] == [3.0, 5.0]
    assert common.summary([3, 5])["ratio"] is None
    with pytest.raises(ValueError, match="2 rounds beside 1"):
        common.summary([1, 2], [1])


def test_ways_come_in_turn_and_warm_up_first():
    order = []
    ways = {name: lambda name=name: order.append(name) for name in "ab"}
    found = common.in_turn(ways, 2, warm_up=1)
    assert order == ["a", "b", "a", "b", "a", "b"]
    assert [len(times.wall) for times in found.values()] == [2, 2]


def test_a_slow_machine_has_fewer_rounds_and_one_at_least(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(common.time, "time", lambda: now[0])

    def rounds(until, seconds):
        now[0] = 100.0
        monkeypatch.setenv(common.UNTIL, str(until))
        done = []
        for number in common.rounds_in_time(4):
            done.append(number)
            now[0] += seconds
        return len(done)

    assert rounds(130, 10) == 3  # a fourth would end at 140
    assert rounds(200, 10) == 4
    assert rounds(99, 10) == 1
    monkeypatch.delenv(common.UNTIL)
    assert len(list(common.rounds_in_time(3))) == 3


def test_without_data_a_script_says_so_in_a_sentence(start):
    done = start(SCRIPT)
    assert done.returncode == 0, done.stderr
    (line,) = lines(done.stdout)
    assert line["skipped"].startswith(
        "the environment variable LBCHECK_DATA is not set"
    )
    assert "squad" in line["skipped"]


def test_a_measure_is_one_line(start, tmp_path):
    (tmp_path / "squad").mkdir()
    done = start(SCRIPT, "--smoke", LBCHECK_DATA=str(tmp_path))
    assert done.returncode == 0, done.stderr
    (line,) = lines(done.stdout)
    assert line["benchmark"] == "example" and line["smoke"] is True
    assert (line["measure"], line["peer_name"]) == ("a measure", "a peer")
    assert (line["ratio"], line["range"]) == (0.75, [0.5, 1.0])


def test_a_part_that_cannot_measure_does_not_stop_the_rest():
    done = []

    def missing():
        raise common.Skipped("no server.")

    parts = {"one": missing, "two": lambda: done.append(2)}
    with pytest.raises(common.Skipped, match="^one: no server.$"):
        common.run_parts(["one", "two"], parts)
    assert done == [2]
    with pytest.raises(common.app.UsageError, match="unknown .'three'.; .*two"):
        common.run_parts(["three"], parts)


def test_an_exponent_is_that_of_a_power_with_its_interval():
    generator = np.random.default_rng(0)
    sizes, held = {n: n for n in (10, 40, 160, 640)}, 0
    for _ in range(200):
        noise = np.exp(generator.normal(0, 0.2, (4, 3)))
        seconds = {n: 3e-4 * n**1.5 * row for n, row in zip(sizes, noise)}
        slope, low, high = scaling.fit(sizes, seconds)
        line = np.polyfit(
            np.log(np.repeat([*sizes], 3)),
            np.log(np.concatenate([*seconds.values()])),
            1,
        )
        assert slope == pytest.approx(line[0], abs=1e-6)
        held += low <= 1.5 <= high
    assert 180 <= held <= 199  # 190 expected


def test_the_runner_knows_every_script_and_takes_new_ones(monkeypatch):
    found = run.scripts()
    folder = common.ROOT / "benchmarks"
    names = {path.stem for path in folder.glob("*.py")}
    assert {*found} == names - {*run.OTHERS}
    assert {*run.SCRIPTS} <= {*found}
    monkeypatch.delitem(run.SCRIPTS, "squad")
    assert run.scripts()["squad"] == run.Script()


def test_the_runner_ends_what_takes_too_long(monkeypatch, tmp_path):
    monkeypatch.setattr(run, "_FOLDER", tmp_path)
    script = (
        "print('{\"benchmark\": 1}', flush=True); import time; time.sleep(60)"
    )
    (tmp_path / "long.py").write_text(script)
    (tmp_path / "wrong.py").write_text("raise ValueError('no vocabulary')")
    lines, reason = run.run("long", [], 3)
    assert lines == ['{"benchmark": 1}']
    assert reason == "did not end within its budget of 3 s"
    _, reason = run.run("wrong", [], 60)
    assert reason == "exit code 1: ValueError: no vocabulary"
