"""What the folder of a run says came out, for the record of a trial.

A program writes into its folder, one that has phases into phase1, phase2, ..
there, be it one phase or more; the last phase counts. Metrics of the line of
measurements are called validation_X and selection_X, the latter of a fixed set
of training examples; X alone is of the interval's training batches. What is no
number is no metric. Scores of a task, such as SQuAD's, are in
eval_results.json.
"""

import pathlib
from collections.abc import Sequence
from typing import Any

from lbcheck.support import checks
from lbcheck.support import schema
from lbcheck.training import record

RUNS = "runs"
"""Folder of a study's folder that its runs lie in."""
SCORES = "eval_results.json"
_PREFIXES = {"validation_": "validation", "selection_": "training"}
_NOT_METRICS = ("step", "epoch", "learning_rate")


def outcome(
    folder: pathlib.Path,
    batch_sizes: Sequence[int],
    phase_steps: Sequence[int],
) -> dict:
    """What a trial's record has beside its task.

    Args:
        folder: Of a run that is finished or diverged.
        batch_sizes: Examples of one update, of each phase.
        phase_steps: Updates of a run that is finished, of each phase.

    Returns:
        "status", "bad", "steps", "examples", "seconds" of training,
        "metrics" and "curve".

    Raises:
        ValueError, OSError: The folder does not say how the run ended, or
            that it was finished after other updates.
    """
    runs = [record.read(phase) for phase in record.phases(folder)]
    last = runs[-1]
    state = last.status.get("status")
    if state not in ("finished", "diverged") or "step" not in last.status:
        raise ValueError(
            f"{last.folder / record.STATUS}: expected a run that is finished "
            'or diverged, and its updates as "step"; received '
            f"{schema.shown(last.status)}."
        )
    if state == "finished":
        _check_whole(folder, runs, phase_steps)
    steps = [_steps(run) for run in runs]
    before = sum(steps[:-1])
    curve = [
        {"step": before + line["step"], **_metrics(line)}
        for line in last.measurements
        if any(name.startswith("validation_") for name in line)
    ]
    diverged = state == "diverged"
    return {
        "status": state,
        "bad": _bad(last, before) if diverged else None,
        "steps": sum(steps),
        "examples": sum(n * size for n, size in zip(steps, batch_sizes)),
        "seconds": sum(
            map(_seconds, runs, batch_sizes),
        ),
        "metrics": None if diverged else _final(folder, last),
        "curve": curve,
        "diagnostics": None,
        "schedule": None,
    }


def _check_whole(folder, runs, phase_steps):
    made = [run.status.get("step") for run in runs]
    if made != [*phase_steps]:
        expected, received = (
            " + ".join(map(str, steps)) for steps in (phase_steps, made)
        )
        raise ValueError(
            f"{folder}: expected a run that is finished after {expected} "
            f"updates, as its flags say; {record.STATUS} says {received}."
        )
    for run in runs:
        run.final()


def _steps(run):
    """Updates that were made, the one that failed included."""
    first_bad = run.status.get("first_non_finite_step")
    step = run.status["step"]
    return step if first_bad is None else max(step, first_bad + 1)


def _bad(run, before):
    step = run.status.get("first_non_finite_step", run.status["step"])
    return {
        "step": before + step,
        "variable": run.status.get("first_non_finite_variable"),
    }


def _final(folder, run):
    metrics = _metrics(run.measurements[-1])
    if (folder / SCORES).exists():
        scores = schema.read(folder / SCORES, dict[str, Any])
        metrics["validation"] |= _numbers(scores)
    return metrics


def _numbers(values):
    """Those of {name: value} that a metric can be."""
    return {
        name: value
        for name, value in values.items()
        if checks.is_number(value) and abs(value) <= schema.LARGEST_METRIC
    }


def _metrics(line):
    """{"validation": {name: value}, "training": ..} of a line."""
    found: dict[str, dict[str, float]] = {"training": {}, "validation": {}}
    fixed = {}
    for name, value in _numbers(line).items():
        prefix = next((p for p in _PREFIXES if name.startswith(p)), None)
        if prefix == "selection_":
            fixed[name.removeprefix(prefix)] = value
        elif prefix:
            found["validation"][name.removeprefix(prefix)] = value
        elif name not in _NOT_METRICS:
            found["training"][name] = value
    found["training"] |= fixed
    return found


def _seconds(run, batch_size):
    """Seconds of training, of all starts together."""
    seconds, before = 0.0, 0
    for line in run.timing:
        examples = (line["step"] - before) * batch_size
        seconds += examples / line["examples_per_second"]
        before = line["step"]
    return seconds
