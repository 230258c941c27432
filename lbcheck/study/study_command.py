"""`lbcheck study`: how far a study is.

    lbcheck study status FOLDER
    lbcheck study status FOLDER --format=json

Exit code 2: there is no study in the folder, or its records are damaged.
"""

import collections
import json
import pathlib
import time

from absl import app
from absl import flags

from lbcheck.study import challenge
from lbcheck.study import protocol
from lbcheck.study import study_folder
from lbcheck.support import command
from lbcheck.support import text_table

FLAGS = flags.FlagValues()
command.define_format(FLAGS)

_ENDS = ("finished", "diverged")


def status(folder) -> dict:
    """How many trials of each arm and stage are in which state.

    It reads what the workers write into the folder every few seconds, not
    the ledger, so that it is quick and disturbs nobody.

    Args:
        folder: Folder of the study.

    Returns:
        {"name", "done": trials, "total": trials, "challenge": trials that
        the challenge of an answer can add at most, "age": seconds since the
        workers wrote, None if they have not, "stages": one dict per arm and
        stage: "arm", "stage", "finished", "diverged", "to_do", "beside": the
        same of further searches and a control that have begun}, JSON-able.

    Raises:
        records.StudyError: There is no study, or its records are damaged.
    """
    return _status(pathlib.Path(folder), study_folder.load(folder))


def _status(folder, read):
    study, done, beside = read
    found = collections.Counter(
        (record["arm"], record["stage"], record["status"]) for record in done
    )
    stages, sizes = [], protocol.Protocol(study).sizes
    failed = protocol.excluded(study, done)
    for arm in study["arms"]:
        sizes["replacement"] = protocol.replacements(study, done, arm)
        for stage in study_folder.STAGES:
            ended = {end: found[arm, stage, end] for end in _ENDS}
            done_here = sum(ended.values())
            planned = 0 if arm in failed else sizes.get(stage, 0)
            to_do = max(0, planned - done_here)
            if to_do or done_here:
                stages.append(
                    {"arm": arm, "stage": stage, **ended, "to_do": to_do}
                )
    return {
        "name": study["name"],
        "done": len(done),
        "total": sum(row["to_do"] for row in stages) + len(done),
        "challenge": challenge.most_runs(study),
        "age": _age(folder / study_folder.TRIALS),
        "stages": stages,
        "beside": [
            _status(folder / name, other) for name, other in beside.items()
        ],
    }


def _age(path):
    return max(0, time.time() - path.stat().st_mtime) if path.exists() else None


def as_text(found: dict) -> str:
    """What `status` returns, for people."""
    when = "No trial is done yet."
    if found["age"] is not None:
        when = f"Written {found['age']:,.0f} seconds ago."
    table = text_table.text_table(
        ["arm", "stage", *_ENDS, "to do"],
        [[str(cell) for cell in row.values()] for row in found["stages"]],
        numeric=range(2, 5),
    )
    further = ""
    if found["challenge"]:
        further = (
            f" The challenge of an answer takes up to {found['challenge']:,} "
            "in all."
        )
    text = (
        f"{found['name']}: {found['done']} of {found['total']} trials are "
        f"done.{further} {when}\n\n{table}"
    )
    return "\n\n".join([text, *map(as_text, found["beside"])])


def main(argv):
    """Prints the status of one study."""
    if len(argv) != 2 or argv[0] != "status":
        raise app.UsageError(
            f"expected `status` and the folder of a study, received {argv}."
        )
    found = status(argv[1])
    print(
        json.dumps(found, indent=2)
        if FLAGS.format == "json"
        else as_text(found)
    )
    return 0
