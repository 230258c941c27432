"""What a study of a program trains: in place of a `Workload`.

Importing this module imports no framework, and no program.
"""

import importlib.util
import os
import re
import sys
from collections.abc import Mapping
from collections.abc import Sequence
from typing import NamedTuple

from absl import app

from lbcheck.programs import command_lines
from lbcheck.programs import runs
from lbcheck.programs.program_arm import ProgramArm
from lbcheck.support import metric_names

_METRICS = {
    "resnet.train": "accuracy",
    "bert.pretrain": "masked_lm_accuracy",
    "bert.squad": "f1",
}
"""What the trials of the programs are judged by, unless told otherwise."""
_OF_ANSWERS = ("f1", "exact_match")
"""Metrics that only the answers to held-out questions have."""
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_SECOND = "phase2_"
"""Before the name of a flag that is the second phase's."""


class Program(NamedTuple):
    """A program, and what its trials have in common.

    Attributes:
        module: Such as "resnet.train".
        name: What the study's files call it.
        batch_sizes: Examples of one update, of each phase.
        phase_steps: Updates of each phase.
        metric: Name of the metric that trials are judged by.
        mode: "max" or "min".
    """

    module: str
    name: str
    batch_sizes: tuple[int, ...]
    phase_steps: tuple[int, ...]
    metric: str
    mode: str

    @property
    def only_validation(self) -> bool:
        """Whether nothing measures the metric on training examples."""
        return self.metric in _OF_ANSWERS

    @property
    def batch_size(self) -> int:
        """Examples of one update, of the first phase."""
        return self.batch_sizes[0]

    @property
    def steps(self) -> int:
        """Updates of one trial, of all phases."""
        return sum(self.phase_steps)

    def trainer(self, arms: Mapping[str, ProgramArm]) -> runs.Runs:
        """What runs the trials."""
        return runs.Runs(self, arms)


def make(
    module: str,
    arms: Sequence[ProgramArm],
    name: str | None = None,
    metric: str | None = None,
    mode: str | None = None,
) -> Program:
    """The program, whose length and batch the flags of its arms say.

    Args:
        module: Such as "resnet.train", as after `python -m`.
        arms: At least one.
        name: What the study's files call it; None: `module`.
        metric: Name of a validation metric of the program; None: the usual.
        mode: "max" or "min"; None to infer it from the metric's name.

    Raises:
        ValueError, app.UsageError: A length or a batch that is missing, or
            that differs between the arms; a metric that must be named.
    """
    if not _MODULE.fullmatch(module):
        raise app.UsageError(
            "--program must be a module such as resnet.train, received "
            f"{module!r}."
        )
    _check_there(module)
    first, expected = arms[0], _sizes(arms[0])
    for arm in arms[1:]:
        found = _sizes(arm)
        if found != expected:
            raise ValueError(
                f"{arm} has {_said(found)}, {first} {_said(expected)}; the "
                "arms of a study have one batch size and one length."
            )
    metric = metric or _METRICS.get(module)
    if metric is None:
        raise app.UsageError(
            f"--metric is needed for --program={module}: the validation "
            "metric that trials are judged by."
        )
    batch_sizes, steps = zip(*expected)
    return Program(
        module,
        name or module,
        batch_sizes,
        steps,
        metric,
        mode or metric_names.mode_of(metric),
    )


def _check_there(module):
    """Refuses a module that is not there; only its package is imported."""
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        found = None
    if found is None:
        raise app.UsageError(
            f"--program={module}: no such module in {here} or in the "
            "installed packages."
        )


def _sizes(arm) -> list[tuple[int, int]]:
    """(batch size, updates) of each phase that is trained."""
    batch_size = command_lines.count(arm.flags, "batch_size", str(arm))
    steps = command_lines.count(arm.flags, "train_steps", str(arm))
    for name, value in (("batch_size", batch_size), ("train_steps", steps)):
        if value is None:
            raise ValueError(
                f"{arm}: --{name} is needed, in its flagfile or on the "
                "command line: a study must know it beforehand."
            )
    found = [(batch_size, steps)]
    alone = command_lines.value(arm.flags, "phase")
    if alone == "1":
        return found
    second = f"{_SECOND}train_steps"
    steps = command_lines.count(arm.flags, second, str(arm))
    if steps is None and f"{_SECOND}train_epochs" in arm.flags:
        raise ValueError(
            f"{arm}: --{second} is needed in place of --{_SECOND}train_epochs: "
            "a study must know it beforehand."
        )
    if steps is not None:
        name = f"{_SECOND}batch_size"
        other = command_lines.count(arm.flags, name, str(arm))
        found.append((other or batch_size, steps))
    return found[-1:] if alone == "2" else found


def _said(sizes):
    return " and ".join(f"{steps} updates of {b}" for b, steps in sizes)
