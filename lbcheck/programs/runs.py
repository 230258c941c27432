"""Runs the trials of a study of a program, each in a process of its own."""

import collections
import contextlib
import copy
import json
import pathlib
import shlex
import shutil
import signal
import time
from collections.abc import Mapping
from typing import Any

from lbcheck.programs import child
from lbcheck.programs import pod
from lbcheck.programs import run_folder
from lbcheck.programs import source
from lbcheck.support import errors
from lbcheck.support import exit_codes
from lbcheck.support import files
from lbcheck.support import processes
from lbcheck.support import schema

_PAUSE = 0.1


class Runs:
    """A study's trainer whose trials are runs of a program.

    A run that was stopped, or whose worker died, goes on in its folder after
    its last checkpoint; one that is finished is only read. Its checkpoints go
    then, weights and measurements stay.

    Args:
        program: A `Program`.
        arms: {name: `ProgramArm`}.
        folder: Of the study.

    Example:

        runs = Runs(program, {"lars": arm}, "lbcheck_study")
        record = runs.run(task)
    """

    def __init__(self, program, arms: Mapping[str, Any], folder="."):
        self._program = program
        self._arms = dict(arms)
        self._folder = pathlib.Path(folder)
        self._source = source.digests(program.module)

    def within(self, folder) -> "Runs":
        """The same, for a study in that folder."""
        other = copy.copy(self)
        other._folder = pathlib.Path(folder)
        return other

    @property
    def arms(self) -> dict:
        """name -> `ProgramArm`."""
        return dict(self._arms)

    def facts(self) -> dict:
        """What study.json says of the program; JSON-able."""
        only_validation = self._program.only_validation
        return {
            "program": self._program.module,
            "batch_sizes": list(self._program.batch_sizes),
            "phase_steps": list(self._program.phase_steps),
            "metric": self._program.metric,
            "mode": self._program.mode,
            **({"only_validation": True} if only_validation else {}),
        }

    def fingerprint(self, seed: int) -> dict:
        """What study.json says of the program's source; JSON-able."""
        del seed
        return {"code": self._source}

    def audit(self, arm_name: str) -> list[dict]:
        """Nothing: what is decayed stands in selection.txt of every run."""
        del arm_name
        return []

    def command(self, task: dict) -> list[str]:
        """The module and the arguments of a trial, as after `python -m`."""
        arm = self._arms[task["arm"]]
        return [
            self._program.module,
            *arm.arguments(task["hyperparameters"]),
            f"--seed={task['seed']}",
            f"--output_dir={self._place(task)}",
        ]

    def run(
        self, task: dict, evaluate_at=(), diagnostics_every: int = 0
    ) -> dict:
        """Runs a trial, or goes on with it.

        Args:
            task: {"arm", "stage", "index", "seed", "hyperparameters"}.
            evaluate_at: Not used: the program's flags say when it evaluates.
            diagnostics_every: Not used, likewise.

        Returns:
            The record: the task and what came out, JSON-able.

        Raises:
            ValueError: The program refused its flags, or failed, or was
                edited meanwhile.
            errors.Unavailable: The program was killed, or another worker of
                it is gone.
        """
        del evaluate_at, diagnostics_every
        self._check_source()
        place = self._place(task)
        place.parent.mkdir(parents=True, exist_ok=True)
        command = self.command(task)
        pod.announce(self._folder, command)
        log, lock, began_by = (
            place.with_suffix(f".{end}") for end in ("log", "lock", "source")
        )
        self._check_begun(place, began_by)
        begun = time.monotonic()
        code = _execute(command, lock, log)
        if code not in (exit_codes.FINISHED, exit_codes.DIVERGED):
            error = _failure(code, log, command)
            if not place.exists():  # refused before anything was written
                self._take_back(place.parent, lock, log, began_by)
            raise error
        outcome = run_folder.outcome(
            place, self._program.batch_sizes, self._program.phase_steps
        )
        self._check(outcome, place)
        if not outcome["seconds"]:  # it keeps no timing.jsonl
            outcome["seconds"] = time.monotonic() - begun
        outcome["curve"] = self._measured(outcome["curve"])
        if outcome["status"] == "finished":
            # One that diverged may have to be run again from them, should
            # this worker die before its record is counted.
            for checkpoints in place.glob("**/checkpoints"):
                shutil.rmtree(checkpoints, ignore_errors=True)
        return {**task, **outcome}

    def _check_source(self):
        now = source.digests(self._program.module)
        if name := source.edited(self._source, now):
            raise ValueError(
                f"The code of {name} was edited while the study ran; no "
                "trial of the new code is mixed with the others. Choose "
                "another --output_dir, or undo the edit."
            )

    def _check_begun(self, place, began_by):
        """Refuses what other code began, of a study that was taken back."""
        if place.exists() and began_by.exists():
            there = schema.read(began_by, dict[str, str])
            if name := source.edited(self._source, there):
                raise ValueError(
                    f"{place}: the code of {name} was edited since this run "
                    "began. Remove the folder, or undo the edit."
                )
        files.write_text(began_by, json.dumps(self._source) + "\n")

    def _take_back(self, arm, *written):
        for path in written:
            path.unlink(missing_ok=True)
        for folder in (arm, arm.parent):
            with contextlib.suppress(OSError):  # there are other runs
                folder.rmdir()

    def _check(self, outcome, place):
        if outcome["status"] == "diverged":
            return
        parts = ("validation", "training")
        for part in parts[:1] if self._program.only_validation else parts:
            metrics = outcome["metrics"][part]
            if self._program.metric not in metrics:
                known = ", ".join(sorted(metrics)) or "none"
                raise ValueError(
                    f"{place}: the run has no {part} metric "
                    f"{self._program.metric!r} that is a number of at most "
                    f"{schema.LARGEST_METRIC:g}; it has {known}."
                )

    def _measured(self, curve):
        """The points with what trials are judged by, and nothing else."""
        parts = ("validation", "training")
        found = [
            {"step": point["step"]}
            | {p: point[p] for p in parts if self._program.metric in point[p]}
            for point in curve
        ]
        return [point for point in found if "validation" in point]

    def _place(self, task):
        numbers = [task[key] for key in ("trial", "index") if key in task]
        name = "-".join([task["stage"], *map(str, numbers)])
        return self._folder / run_folder.RUNS / task["arm"] / name


def _execute(command, lock, log) -> int:
    """The exit code of the program; a signal to this process stops it too."""
    with open(log, "ab") as output:
        process = child.start(command, lock, output)
    try:
        while process.poll() is None:
            processes.check_interrupted()
            time.sleep(_PAUSE)
    except BaseException:
        process.terminate()  # it saves and stops
        process.wait()
        raise
    if process.returncode == exit_codes.INTERRUPTED:
        raise KeyboardInterrupt
    return process.returncode


def _failure(code, log, command):
    """The error of a program that neither finished nor diverged."""
    lines = log.read_bytes().decode(errors="replace").splitlines()
    words = collections.deque((line for line in lines if line.strip()), 1)
    said = schema.printable(words[0]) if words else "it said nothing."
    shown = shlex.join(["python", "-m", *command])
    if code < 0:
        name = signal.Signals(-code).name
        return errors.Unavailable(
            f"A trial was killed by {name}; the same command continues the "
            f"study. The trial: {shown}"
        )
    if code == exit_codes.UNAVAILABLE:
        return errors.Unavailable(said)
    return ValueError(f"A trial failed: {said} The trial: {shown}")
