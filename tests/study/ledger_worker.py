"""A small study, a trainer that only pretends, and a worker process of both."""

import os
import random
import sys
import time
import types

from lbcheck.comparison import tensorboard
from lbcheck.study import formats
from lbcheck.study import ledger
from lbcheck.study import protocol
from lbcheck.study import study_folder
from lbcheck.study import worker

RATES = {"min": 0.01, "max": 10.0, "scale": "log"}
POWERS = {"values": [1, 2, 4]}


def make_study(arms=("nesterov", "lars"), **changes):
    space = {
        "points": "halton",
        "parameters": {
            "learning_rate": RATES,
            "momentum": {**RATES, "max": 0.5, "one_minus": True},
            "warmup_steps": {
                "min": 0.0,
                "max": 0.5,
                "scale": "linear",
                "of": "steps",
            },
            "decay_power": POWERS,
            "nesterov": {"value": True},
        },
    }
    return {
        "format": 1,
        "name": "pretended",
        "lbcheck": "0",
        "command": ["lbcheck", "compare"],
        "flagfile": None,
        "workload": "tests:pretended",
        "facts": {"model": [["kernel", [3, 4]]], "data": "a1"},
        "batch_size": 512,
        "steps": 100,
        "seed": 7,
        "metric": {"name": "accuracy", "mode": "max"},
        "selection": "validation",
        "margin": 0.005,
        "target": None,
        "trials": 6,
        "refined_trials": 4,
        "seeds": 3,
        "arms": {
            name: {
                "optimizer": name,
                "schedule": "warmup_polynomial",
                "layer_wise": name in ("lars", "lamb"),
                "fixed": {},
                "space": space,
                "audit": [],
            }
            for name in arms
        },
        "environment": {"python": "3"},
        **changes,
    }


def make_record(task, **changes):
    """What training a task gives: a function of the task, but for seconds."""
    number = random.Random(repr(sorted(task.items())))
    diverged = task["hyperparameters"]["learning_rate"] > 5
    metrics = {
        part: {"accuracy": number.random(), "loss": number.random()}
        for part in ("validation", "training")
    }
    return {
        **task,
        "status": "diverged" if diverged else "finished",
        "bad": {"step": 3, "variable": "kernel"} if diverged else None,
        "steps": 3 if diverged else 100,
        "examples": 3 * 512 if diverged else 100 * 512,
        "seconds": time.monotonic(),
        "metrics": None if diverged else metrics,
        "curve": [],
        "diagnostics": None,
        **changes,
    }


class Trainer:
    """Pretends to train.

    Args:
        seconds: How long a trial takes.
        begun: Called when a trial begins.
    """

    def __init__(self, seconds=lambda: 0, begun=lambda: None):
        self._seconds = seconds
        self._begun = begun

    def run(self, task, evaluate_at, diagnostics_every):
        self._begun()
        time.sleep(self._seconds())
        measured = {part: {"accuracy": 0.5} for part in formats.PARTS}
        curve = [{"step": step, **measured} for step in evaluate_at]
        return make_record(task, curve=curve)


def run_study(folder, study, heartbeat, trainer):
    """What a worker does, from opening the folder to the export."""
    study = study_folder.open_study(folder, study)
    shared = ledger.Ledger(study_folder.storage_url(folder), study, heartbeat)
    worker.work(shared, protocol.Protocol(study), trainer)
    study_folder.export(folder, study, shared.records())
    shared.close()


def run_in_storage(folder, study, url, seconds):
    """The same with a storage apart from the folder."""
    study = study_folder.open_study(folder, study)
    shared = ledger.Ledger(url, study)
    trainer = Trainer(lambda: seconds)
    worker.work(shared, protocol.Protocol(study), trainer)
    study_folder.export(folder, study, shared.records())
    shared.close()


def run_process(folder, study, heartbeat, flags, seconds):
    """The same in a process of its own.

    Args:
        flags: Folder in which the file PID says that PID trains, and the
            file "hurry" that a trial no longer takes `seconds`.
    """
    trainer = Trainer(
        lambda: 0 if (flags / "hurry").exists() else seconds,
        (flags / str(os.getpid())).touch,
    )
    run_study(folder, study, heartbeat, trainer)


def claim_all(folder, study, workers):
    """Adds and claims as fast as it can; the tasks that it got.

    Args:
        workers: Processes that do the same, and begin at the same time.
    """
    shared = ledger.Ledger(
        study_folder.storage_url(folder), study, heartbeat=60
    )
    tasks = protocol.Protocol(study).next_tasks([])
    (folder / f"{os.getpid()}.ready").touch()
    while len(list(folder.glob("*.ready"))) < workers:
        time.sleep(0.001)
    while shared.add(tasks):  # a call may leave some to the others
        pass
    claims = []
    while claim := shared.claim():
        claims.append(claim)
    for claim in claims:
        claim.finish(make_record(claim.task))
    shared.close()
    return [claim.task for claim in claims]


def export_often(folder, study, records, times):
    """Exports again and again, as a session does, at each turn new trials.

    Args:
        records: Of which each turn exports some more.
        times: How often.
    """
    # TensorBoard's own sign that it shall do without TensorFlow.
    sys.modules["tensorboard.compat.notf"] = types.ModuleType("notf")
    for turn in range(times):
        done = records[: len(records) * (turn + 1) // times]
        study_folder.export(folder, study, done)
        tensorboard.write(folder, done)


def open_new(folder, study):
    """Opens the folder of a study as one of many; what is said of it."""
    try:
        return study_folder.open_study(folder, study)
    except study_folder.StudyError as error:
        return str(error)
