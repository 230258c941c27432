"""The rungs of a ladder as runs of a program, and the folder they lie in.

    OUTPUT/ladder.json          what is ablated
    OUTPUT/runs.jsonl           a record a run, in the order in which they ended
    OUTPUT/runs/RUNG/seed-0     the program's own folder

A run that is in runs.jsonl is not run again, one that was stopped goes on.
"""

import json
import os
import pathlib
import threading
from typing import Any

from typing_extensions import TypedDict

from lbcheck.instruments import ladder
from lbcheck.programs import source
from lbcheck.programs.program import Program
from lbcheck.programs.program_arm import ProgramArm
from lbcheck.programs.runs import Runs
from lbcheck.study import protocol
from lbcheck.study import study_folder
from lbcheck.support import checks
from lbcheck.support import files
from lbcheck.support import schema

ABOUT, RECORDS = "ladder.json", "runs.jsonl"
_STAGE = "seed"


class _Metrics(TypedDict):
    validation: dict[str, Any]


class _Record(TypedDict):
    arm: schema.Name
    index: schema.Index
    metrics: _Metrics | None


class LadderFolder:
    """Scores of rungs, from a folder or else from runs of the program.

    Args:
        folder: Made if need be.
        program: What a rung is a run of.
        best: The arm A, whose name and flags a rung takes the place of.
        about: What ladder.json says: the flags of A and B and all that a run
            depends on; JSON-able.
        seed: What the seeds of the runs are derived from.

    Raises:
        ValueError, OSError: The folder holds another ladder, or is damaged.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        program: Program,
        best: ProgramArm,
        about: dict[str, Any],
        seed: int,
    ):
        self._folder = pathlib.Path(folder)
        self._program, self._best, self._seed = program, best, seed
        self._sign = 1 if program.mode == "max" else -1
        self._writing = threading.Lock()
        self._folder.mkdir(parents=True, exist_ok=True)
        self._about = about
        self._check_same()
        self._scores = self._read()

    def score(
        self, rung: str, settings: ladder.Settings, index: int
    ) -> float | None:
        """The score of a run, greater is better; as `ladder.climb` calls it.

        Raises:
            ValueError: The program refuses the flags, or failed, or was
                edited meanwhile.
        """
        if (rung, index) not in self._scores:
            self._check_same()  # a run reads the program's source anew
            runs, task = self._run_of(rung, settings, index)
            try:
                record = runs.run(task)
            except ValueError as error:
                raise ValueError(f"{rung}, seed {index}: {error}") from error
            self._keep(record)
        return self._scores[rung, index]

    def command(
        self, rung: str, settings: ladder.Settings, index: int
    ) -> list[str]:
        """The module and the arguments of a run, as after `python -m`."""
        runs, task = self._run_of(rung, settings, index)
        return runs.command(task)

    def _check_same(self):
        code = source.digests(self._program.module)
        _same_ladder(self._folder / ABOUT, self._about | {"code": code})

    def _run_of(self, rung, settings, index):
        arm = self._best._replace(name=rung, flags=dict(settings))
        task = {
            "arm": rung,
            "stage": _STAGE,
            "index": index,
            "seed": protocol.derived_seed(self._seed, "ladder", str(index)),
            "hyperparameters": {},
        }
        return Runs(self._program, {rung: arm}, self._folder), task

    def _keep(self, record):
        line = json.dumps(record) + "\n"
        with self._writing, (self._folder / RECORDS).open("a") as file:
            self._count(record, f"{record['arm']}, seed {record['index']}")
            file.write(line)

    def _count(self, record, where):
        metrics, name = record["metrics"], self._program.metric
        score = None
        if metrics is not None:
            value = metrics["validation"].get(name)
            if not checks.is_number(value):
                raise ValueError(
                    f"{where}: a run that is finished has a number in "
                    f"metrics, validation, {name!r}; received "
                    f"{schema.shown(value)}."
                )
            score = self._sign * value
        self._scores[record["arm"], record["index"]] = score

    def _read(self):
        """The scores that are there; a line that was cut short is dropped."""
        path = self._folder / RECORDS
        if not path.exists():
            return {}
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            files.write_text(path, whole.decode())
        self._scores = {}
        for where, record in schema.read_lines(path, _Record):
            self._count(record, where)
        return self._scores


def _same_ladder(path, about):
    about = json.loads(json.dumps(about))  # as it will be read again
    if not path.exists():
        files.write_text(path, json.dumps(about, indent=1) + "\n")
        return
    there = schema.read(path, dict[str, Any])
    if differs := study_folder.difference(there, about):
        raise ValueError(
            f"{path} is of another ladder: {differs}. Choose another "
            "--output_dir."
        )
