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


def lines_of(folder):
    """trials.jsonl without the seconds, which no two runs share."""
    lines = (pathlib.Path(folder) / records.TRIALS).read_text().splitlines()
    parsed = [json.loads(line) for line in lines]
    for record in parsed:
        del record["seconds"]
    return [json.dumps(record) for record in parsed]


def start(*arguments):
    """A worker process, and the event that it has begun to train."""
    working = _PROCESSES.Event()
    process = _PROCESSES.Process(
        target=ledger_worker.run_process,
        args=(*arguments, working),
        daemon=True,
    )
    process.start()
    return process, working


@pytest.mark.parametrize(
    "kills, trials",
    [(6, 8), pytest.param(100, 60, marks=pytest.mark.slow)],
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

    moments = random.Random(1)
    arguments = tmp_path / "killed", study, _HEARTBEAT, 0.1
    workers = [start(*arguments), start(*arguments)]
    for kill in range(kills):
        victim = moments.randrange(2)
        process, working = workers[victim]
        if kill % 5:  # else perhaps while it opens or makes the ledger
            working.wait(60)
        time.sleep(moments.uniform(0.0, 0.4))
        assert process.is_alive(), "the study was over too soon"
        process.kill()
        process.join()
        workers[victim] = start(*arguments)
    for process, _ in workers:
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
