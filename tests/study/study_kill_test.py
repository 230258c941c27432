"""Workers killed at random moments: nothing lost, nothing counted twice."""

import json
import pathlib
import random
import signal
import subprocess
import sys
import time

import optuna
import pytest

from lbcheck.study import study_folder
from lbcheck.support import processes
from tests import programs
from tests.study import ledger_worker

_HEARTBEAT = 0.4
_TRIAL = 0.5
"""Seconds of a trial, after which the ledger is written."""


def lines_of(folder):
    """trials.jsonl without the seconds, which no two runs share."""
    lines = (
        (pathlib.Path(folder) / study_folder.TRIALS).read_text().splitlines()
    )
    parsed = [json.loads(line) for line in lines]
    for record in parsed:
        del record["seconds"]
    return [json.dumps(record) for record in parsed]


def start(*arguments):
    process = programs.PROCESSES.Process(
        target=ledger_worker.run_process, args=arguments, daemon=True
    )
    process.start()
    return process


def wait_for(path):
    deadline = time.monotonic() + 60
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.01)


@pytest.mark.parametrize(
    "kills, trials",
    [(6, 8), pytest.param(100, 100, marks=pytest.mark.slow)],
)
def test_killed_workers(tmp_path, kills, trials):
    study = ledger_worker.make_study(
        arms=("nesterov", "lars", "adamw", "lamb"),
        trials=trials,
        refined_trials=trials // 2,
        seeds=trials // 2,
    )
    ledger_worker.run_study(
        tmp_path / "calm", study, 3, ledger_worker.Trainer()
    )

    flags = tmp_path / "flags"
    flags.mkdir()
    arguments = tmp_path / "killed", study, _HEARTBEAT, flags, _TRIAL
    workers = [start(*arguments), start(*arguments)]
    moments = random.Random(1)
    for kill in range(kills):
        victim = moments.randrange(2)
        process = workers[victim]
        if kill % 5 == 0:  # while it opens or makes the ledger
            time.sleep(moments.uniform(0.0, 0.3))
        else:
            wait_for(flags / str(process.pid))
            # In a trial, or while its record is written.
            first = moments.choice([0.0, _TRIAL])
            time.sleep(moments.uniform(first, first + 0.1))
        assert process.is_alive(), "the study was over too soon"
        process.kill()
        process.join()
        workers[victim] = start(*arguments)
    (flags / "hurry").touch()
    for process in workers:
        process.join(600)
        assert process.exitcode == 0

    calm = lines_of(tmp_path / "calm")
    assert len(calm) == 4 * 2 * trials
    assert lines_of(tmp_path / "killed") == calm
    studies = optuna.get_all_study_summaries(
        study_folder.storage_url(tmp_path / "killed")
    )
    states = [
        trial.state.name
        for found in studies
        for trial in optuna.load_study(
            study_name=found.study_name,
            storage=study_folder.storage_url(tmp_path / "killed"),
        ).trials
    ]
    assert states.count("FAIL") >= kills // 10  # killed during a trial
    assert "RUNNING" not in states


def test_dead_helper_is_reported_and_replaced(tmp_path, capfd):
    """At once, with its reason, and not without end."""
    code = (
        "import pathlib, sys\n"
        f"pathlib.Path({str(tmp_path)!r}, str(id(sys))).touch()\n"
        "print('much', file=sys.stderr)\n"
        "sys.exit('no disk left')\n"
    )
    with processes.Helpers([sys.executable, "-c", code], 1):
        told, deadline = "", time.monotonic() + 60
        while "go on without" not in told and time.monotonic() < deadline:
            time.sleep(0.05)
            told += capfd.readouterr().err
    again = "Worker 2 ended: no disk left (exit code 1). It is started again."
    assert told.splitlines() == [
        again,
        again,
        "Worker 2 ended: no disk left (exit code 1). It ended 3 times; the "
        "others go on without it.",
    ]


@pytest.mark.parametrize(
    "code", ["import sys; sys.stdin.read()", "import time; time.sleep(600)"]
)
def test_helpers_that_are_well_say_nothing(code, capfd):
    with processes.Helpers([sys.executable, "-c", code], 2):
        time.sleep(0.5)
    assert capfd.readouterr() == ("", "")


_SWALLOWS = """
import time
from lbcheck.support import processes
try:
    with processes.interruptible():
        for turn in range(3):
            {check}
            try:
                if not turn:
                    print("ready", flush=True)
                time.sleep(30)
            except BaseException:  # as libraries do
                print("swallowed", flush=True)
                {after}
except KeyboardInterrupt:
    print("interrupted")
"""


_CALLED_BACK = """
import weakref
from lbcheck.support import processes
class Thing:
    pass
try:
    with processes.interruptible():
        print("ready", flush=True)
        for _ in range(10**9):
            processes.check_interrupted()
            for _ in range(100):
                weakref.finalize(Thing(), int)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_a_signal_raises_at_safe_points_only():
    """Not in what an interpreter or a library calls back, which drops it."""
    for _ in range(5):
        process = subprocess.Popen(
            [sys.executable, "-c", _CALLED_BACK],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        assert process.communicate() == ("interrupted\n", "")


@pytest.mark.parametrize(
    "check, after, signals",
    [
        ("processes.check_interrupted()", "pass", 1),
        ("pass", "raise ValueError('a consequence')", 1),
        ("pass", "if turn: break", 0),
    ],
)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_swallowed_signal_counts(check, after, signals, number):
    process = subprocess.Popen(
        [sys.executable, "-c", _SWALLOWS.format(check=check, after=after)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    assert process.stdout.readline() == "swallowed\n"
    if not signals:  # the next one is raised again
        time.sleep(1.2)
        process.send_signal(number)
        assert process.stdout.read() == "swallowed\n"
        return
    assert process.stdout.read() == "interrupted\n"
