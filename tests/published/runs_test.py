"""Runs of published rows: what is run again, stopped, and how they compare."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import pytest

from lbcheck.published import plans
from lbcheck.published import rows
from lbcheck.published import runs
from tests.published import published_cli

ROOT = pathlib.Path(__file__).resolve().parents[2]

# What a program does for the runner: counts its starts, waits where it is told
# to, measures, and ends with a code.
_PROGRAM = """
import json, os, pathlib, sys, time
folder, score, code, seconds = sys.argv[1:]
folder = pathlib.Path(folder)
folder.mkdir(exist_ok=True)
(folder / "pid").write_text(str(os.getpid()))
starts = folder / "starts"
starts.write_text((starts.read_text() if starts.exists() else "") + "x")
time.sleep(float(seconds) if len(starts.read_text()) == 1 else 0)
line = json.dumps({"step": 1, "validation_accuracy": float(score)})
(folder / "measurements.jsonl").write_text(line + "\\n")
sys.exit(int(code) if len(starts.read_text()) == 1 else 0)
"""


@pytest.fixture
def programs(monkeypatch):
    """{name of a run: (score, first exit code, seconds)}, all 0.5 at first."""
    wanted = {}

    def plan(row, scale, folder):
        score, code, seconds = wanted.get(row.run, (0.5, 0, 0))
        words = [str(n) for n in (folder / "run", score, code, seconds)]
        return plans.Plan(
            {"run.flags": f"--seed=0 {score}\n"},
            [["-c", _PROGRAM, *words]],
            ["run"],
        )

    monkeypatch.setattr(plans, "plan", plan)
    return wanted


def starts(folder, run):
    return len((folder / run / "run" / "starts").read_text())


def test_rows_share_a_run_and_a_finished_one_is_not_run_again(
    programs, tmp_path
):
    programs["resnet/lars"] = (0.75, 0, 0)
    wanted = [
        rows.find(name)
        for name in ("table1_lars", "target_hits_lars", "table4_lars")
    ]
    wanted.append(rows.find("you2019_table2_lars_512"))
    said = []
    for _ in range(2):
        runner = runs.Runner(tmp_path, "mini", 2, said.append)
        results = runner.run(wanted)
    assert sorted(results) == ["resnet/lars", "resnet/table4_lars"]
    assert starts(tmp_path, "resnet/lars") == 1
    assert len(said) == 2
    one, other, third, none = runs.table(wanted, "mini", results)["rows"]
    assert (one["paper"], one["score"]) == ("", 0.75)
    assert (other["paper"], other["unit"]) == ("75.97", "top-1, %")
    assert (third["paper"], third["score"]) == ("76.9", 0.5)
    assert none["score"] is None
    assert none["status"].startswith("no run: LARS was tuned")


def test_a_failed_run_is_run_again_and_a_diverged_one_is_not(
    programs, tmp_path
):
    programs["resnet/lars"] = (0.75, 2, 0)
    programs["resnet/nesterov_b"] = (0.75, 3, 0)
    wanted = [rows.find("table1_lars"), rows.find("table1_nesterov_b")]
    first = runs.Runner(tmp_path, "mini", say=lambda line: None).run(wanted)
    assert [first[row.run]["status"] for row in wanted] == [
        "failed",
        "diverged",
    ]
    assert [first[row.run]["score"] for row in wanted] == [None, None]
    again = runs.Runner(tmp_path, "mini", say=lambda line: None).run(wanted)
    assert again["resnet/lars"]["score"] == 0.75
    assert again["resnet/nesterov_b"]["status"] == "diverged"
    assert starts(tmp_path, "resnet/nesterov_b") == 1


def test_other_settings_are_refused(programs, tmp_path):
    row = rows.find("table1_lars")
    runs.Runner(tmp_path, "mini", say=lambda line: None).run([row])
    programs["resnet/lars"] = (0.25, 0, 0)
    with pytest.raises(ValueError, match="resnet/lars holds a run with other"):
        runs.Runner(tmp_path, "mini").run([row])
    (tmp_path / "resnet/lars/result.json").write_text('{"status": 3}')
    with pytest.raises(ValueError, match="result.json"):
        runs.Runner(tmp_path, "mini").run([row])


def test_a_finished_run_is_known_wherever_its_folder_is(
    programs, tmp_path, monkeypatch
):
    """Named from elsewhere, and moved, it was a run with other settings."""
    row = rows.find("table1_lars")
    (tmp_path / "my runs").mkdir()
    monkeypatch.chdir(tmp_path)
    for folder in ("my runs", tmp_path / "my runs"):
        found = runs.Runner(folder, "mini", say=lambda line: None).run([row])
        assert found["resnet/lars"]["score"] == 0.5
    os.rename("my runs", "moved")
    runs.Runner("moved", "mini").run([row])
    assert starts(tmp_path / "moved", "resnet/lars") == 1


def test_a_stopped_one_goes_on(programs, tmp_path):
    """The run that is in work ends, those that wait do not begin."""
    programs["resnet/lars"] = (0.75, 0, 60)
    wanted = [rows.find("table1_lars"), rows.find("table4_lars")]
    begun = tmp_path / "resnet/lars/run/starts"

    def stop():
        while not begun.exists() or not begun.read_text():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    stopper = threading.Thread(target=stop)
    stopper.start()
    with pytest.raises(KeyboardInterrupt):
        runs.Runner(tmp_path, "mini", say=lambda line: None).run(wanted)
    stopper.join()
    assert not (tmp_path / "resnet/lars/result.json").exists()
    assert not (tmp_path / "resnet/table4_lars").exists()
    with pytest.raises(ProcessLookupError):
        os.kill(int((begun.parent / "pid").read_text()), 0)
    found = runs.Runner(tmp_path, "mini", say=lambda line: None).run(wanted)
    assert found["resnet/lars"]["score"] == 0.75
    assert starts(tmp_path, "resnet/lars") == 2


def test_the_command_prints_paper_beside_miniature(programs, tmp_path, capfd):
    programs["resnet/lars"] = (0.75, 0, 0)
    words = ("run", "target_hits_lars", f"--output_dir={tmp_path}")
    code, printed = published_cli.run(*words)
    assert code == 0
    first, _, heads, line, _, count = printed.splitlines()
    assert first.startswith("The two scores of a row are not comparable")
    assert heads.split()[:2] == ["row", "paper"]
    assert line.split()[:2] == ["nado2021_target_hits_lars", "75.97"]
    assert " 0.75 " in line and count.startswith("runs: 1, minutes: 0.")
    assert "resnet/lars: finished" in capfd.readouterr().err
    found = json.loads(published_cli.run(*words, "--format=json")[1])
    assert found["note"] == first
    (line,) = found["rows"]
    assert line["score"] == 0.75 and line["paper"] == "75.97"
    programs["resnet/table4_lars"] = (0.75, 2, 0)
    code, printed = published_cli.run("run", "table4_lars", words[-1])
    assert code == 1 and " failed " in printed


def test_refusals(tmp_path):
    for words, message in (
        (["run"], "takes rows, or --all"),
        (["run", "table1_lars", "--all"], "takes rows, or --all"),
        (["run", "table1_lars"], "needs --output_dir"),
        (["run", "table1_lar", f"--output_dir={tmp_path}"], "table1_lars"),
        (["--check", "table1_lars"], "--check takes no name"),
        (["--check", "--format=csv"], "csv needs a table"),
        (["run", "table1_lars", "--format=csv"], "csv needs a table"),
        (["rows", "--all"], "--all goes with `lbcheck published run`"),
        (["table4", "--scale=paper"], "--scale goes with"),
    ):
        with pytest.raises(Exception, match=message):
            published_cli.run(*words)


@pytest.mark.slow
def test_a_killed_row_gives_the_same_score(tmp_path):
    """A real miniature, all its processes killed after its first checkpoint."""

    def start(folder):
        return subprocess.Popen(
            [sys.executable, "-m", "lbcheck", "published", "run"]
            + ["table1_lars", "--format=json", f"--output_dir={folder}"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    expected = json.loads(start(undisturbed).communicate()[0])
    process = start(killed)
    run = killed / "resnet/lars/run"
    while not [*run.glob("checkpoints/*20*")]:
        assert process.poll() is None
        time.sleep(0.05)
    tasks = pathlib.Path(f"/proc/{process.pid}/task")
    (child,) = (
        int(number)
        for children in tasks.glob("*/children")
        for number in children.read_text().split()
    )
    process.kill()
    os.kill(child, signal.SIGKILL)
    process.wait()
    assert not (killed / "resnet/lars/result.json").exists()
    out, err = start(killed).communicate()
    found = json.loads(out)
    (one,), (other,) = found["rows"], expected["rows"]
    assert one["score"] == other["score"], err
    after = [
        s["after_step"]
        for s in json.loads((run / "run.json").read_text())["starts"]
    ]
    assert after[0] == 0 and after[1] >= 20
