"""Workers killed at random moments: nothing lost, nothing counted twice."""

import json
import multiprocessing
import pathlib
import random
import time

import optuna
import pytest

from lbcheck.study import records
from tests import ledger_worker

_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(
    ["tests.ledger_worker", "optuna", "scipy.stats"]
)
_HEARTBEAT = 0.4
_TRIAL = 0.5
"""Seconds of a trial, after which the ledger is written."""


def lines_of(folder):
    """trials.jsonl without the seconds, which no two runs share."""
    lines = (pathlib.Path(folder) / records.TRIALS).read_text().splitlines()
    parsed = [json.loads(line) for line in lines]
    for record in parsed:
        del record["seconds"]
    return [json.dumps(record) for record in parsed]


def start(*arguments):
    process = _PROCESSES.Process(
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
        records.storage_url(tmp_path / "killed")
    )
    states = [
        trial.state.name
        for found in studies
        for trial in optuna.load_study(
            study_name=found.study_name,
            storage=records.storage_url(tmp_path / "killed"),
        ).trials
    ]
    assert states.count("FAIL") >= kills // 10  # killed during a trial
    assert "RUNNING" not in states
