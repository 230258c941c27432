"""A task and its record as a trial of Optuna's."""

import json

from lbcheck.study import study_folder
from lbcheck.support import checks

_PIECE = 30_000
"""Characters of a record in one attribute: MySQL's hold 65,535 bytes."""


def of_task(task, space, state="WAITING", value=None, further=None):
    """A trial; what is a number stands among its parameters.

    Args:
        state: Of the trial, WAITING, or COMPLETE or PRUNED of one that ended.
        value: That it ended with, if any.
        further: Attributes beside the task.
    """
    import optuna

    numbers = {
        name: value
        for name, value in task["hyperparameters"].items()
        if checks.is_number(value, (int, float))
    }
    return optuna.create_trial(
        state=optuna.trial.TrialState[state],
        value=value,
        params=numbers,
        distributions={
            name: _distribution(value, space["parameters"].get(name, {}))
            for name, value in numbers.items()
        },
        user_attrs={"task": task, **(further or {})},
    )


def _distribution(value, spec):
    """Range and scale for a dashboard's axes."""
    import optuna

    low, high, scale = value, value, None
    if {"one_minus", "integer", "of"}.isdisjoint(spec) and "min" in spec:
        low, high, scale = spec["min"], spec["max"], spec["scale"]
    return optuna.distributions.FloatDistribution(
        min(low, value), max(high, value), log=scale == "log"
    )


def counts(trial) -> bool:
    """Whether it stands for a task: no failed one, and none of others'."""
    needed = {"task", _key(0)} if trial.state.is_finished() else {"task"}
    return trial.state.name != "FAIL" and needed <= trial.user_attrs.keys()


def place(trial) -> tuple[int, int, int]:
    """What tells its task from all others of its arm."""
    return study_folder.place(trial.user_attrs["task"])


def attributes(text: str) -> dict[str, str]:
    """The attributes that hold a record, given as JSON."""
    return {
        _key(start): text[start : start + _PIECE]
        for start in range(0, len(text), _PIECE)
    }


def record(trial) -> dict:
    """The record that a trial's attributes hold."""
    pieces, start = [], 0
    while piece := trial.user_attrs.get(_key(start)):
        pieces.append(piece)
        start += len(piece)
    return json.loads("".join(pieces))


def _key(start):
    return f"record from {start}" if start else "record"
