"""What runs a published row, as command lines, at either scale.

A run is one command; BERT's score is that of SQuAD, so pretraining is followed
by fine-tuning. A space is a study whose trials are runs of the program.
"""

import json
import pathlib
import shlex
from typing import NamedTuple

from lbcheck.published import flagged
from lbcheck.published import miniature
from lbcheck.published.rows import Row
from lbcheck.support import shipped

SCALES = ("mini", "paper")

SQUAD = "squad/large.flags"
"""What every score of BERT is fine-tuned by."""
_VOCABULARY = "records/vocab-1000.txt"
"""Where a miniature of pretraining leaves its vocabulary."""
_SEARCHED = ("trials", "search_seeds", "feasible", "seeds")
"""Facts of a space that are flags of its search."""
_MINI_STUDY = {"trials": 2, "seeds": 1}

_METRICS = {
    "resnet.train": "validation accuracy",
    "bert.pretrain": "SQuAD F1 after fine-tuning",
}
"""What the score of a run of each program is."""


class Plan(NamedTuple):
    """How a row is run in a folder.

    Attributes:
        files: {name of a file in the folder: its text}, written before.
        commands: One after the other; each is `python` with these arguments.
        records: Folders of runs, in the folder, in the order of the commands.
    """

    files: dict[str, str]
    commands: list[list[str]]
    records: list[str]

    def lines(self) -> list[str]:
        """The commands as they can be typed."""
        return [shlex.join(["python", *command]) for command in self.commands]


def metric(row: Row) -> str:
    """What the score of a row's run is."""
    if row.space is not None and row.program == "bert.pretrain":
        return "masked-LM accuracy"
    return _METRICS[row.program]


def plan(row: Row, scale: str, folder: pathlib.Path) -> Plan:
    """What runs a row.

    Args:
        row: One that has a run.
        scale: "mini" or "paper".
        folder: Where its files and records lie; nothing is written.

    Raises:
        ValueError, app.UsageError: A flagfile is not there or damaged; the
            row has no run, and says why.
    """
    if row.no_run is not None:
        raise ValueError(f"{row.name} has no run: {row.no_run}.")
    if row.space is not None:
        return _study(row, scale, folder)
    parts = [("run", row.program, row.flagfile, {})]
    if row.program == "bert.pretrain":
        parts.append(_fine_tuning(row, scale, folder / "run"))
    files, commands = {}, []
    for record, program, flagfile, further in parts:
        further = {**further, "output_dir": str(folder / record)}
        if scale == "paper":
            name, given = shipped.named(flagged.path(flagfile)), further
        else:
            small = miniature.settings(program, flagged.settings(flagfile))
            files[f"{record}.flags"] = flagged.text(small | further)
            name, given = folder / f"{record}.flags", {}
        commands.append(
            ["-m", program, f"--flagfile={name}"]
            + [f"--{flag}={value}" for flag, value in given.items()]
        )
    return Plan(files, commands, [record for record, *_ in parts])


def _fine_tuning(row, scale, pretrained):
    """SQuAD from what a run of pretraining leaves."""
    two = "phase2_train_steps" in row.settings()
    start = pretrained / ("phase2" if two else "phase1")
    further = {"init_checkpoint": str(start)}
    if scale == "mini":
        further["vocab_file"] = str(pretrained / _VOCABULARY)
    return "squad", "bert.squad", SQUAD, further


def _study(row, scale, folder):
    """A study of the program, whose arm has the row's space."""
    settings, space = row.settings(), flagged.space(row.space)
    wanted = {name: space[name] for name in _SEARCHED if name in space}
    described = space
    if scale == "mini":
        described = miniature.space(space, settings)
        settings = miniature.settings(row.program, settings)
        wanted = _MINI_STUDY
    settings.pop("output_dir", None)
    arm = {"flagfile": "base.flags", "space": described}
    files = {
        "base.flags": flagged.text(settings),
        f"{row.name}.json": json.dumps(arm, indent=1) + "\n",
    }
    command = [
        *("-m", "lbcheck", "compare"),
        f"--program={row.program}",
        f"--arms={folder / row.name}.json",
        *(f"--{name}={value}".lower() for name, value in wanted.items()),
        "--noprogress",
        f"--output_dir={folder / 'study'}",
    ]
    return Plan(files, [command], ["study"])
