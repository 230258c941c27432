"""`lbcheck study`: how far a study is.

lbcheck study status FOLDER
"""

import collections
import json
import pathlib
import time

from absl import app
from absl import flags

from lbcheck.study import protocol
from lbcheck.study import records
from lbcheck.study import text_table

FLAGS = flags.FlagValues()


def status(folder) -> str:
    """A table of arms and stages, with the number of trials in each state.

    It reads what the workers write into the folder every few seconds, not
    the ledger, so that it is quick and disturbs nobody.

    Args:
        folder: Of the study.

    Raises:
        records.StudyError: There is no study, or its records are damaged.
    """
    study = records.read(folder)
    sizes = protocol.Protocol(study).sizes
    path = pathlib.Path(folder) / records.TRIALS
    found, when = collections.Counter(), "No trial is done yet."
    if path.exists():
        found = _count(path)
        age = max(0, time.time() - path.stat().st_mtime)
        when = f"Written {age:,.0f} seconds ago."
    rows = []
    for arm in study["arms"]:
        for stage, size in sizes.items():
            ended = [found[arm, stage, s] for s in ("finished", "diverged")]
            if size:
                rows.append([arm, stage, *ended, size - sum(ended)])
    done, total = sum(found.values()), sum(sum(row[2:]) for row in rows)
    table = text_table.text_table(
        ["arm", "stage", "finished", "diverged", "to do"],
        [[str(cell) for cell in row] for row in rows],
        numeric=range(2, 5),
    )
    return (
        f"{study['name']}: {done} of {total} trials are done. {when}\n\n{table}"
    )


def _count(path):
    """{(arm, stage, status): records}."""
    try:
        found = map(json.loads, path.read_text(encoding="utf-8").splitlines())
        return collections.Counter(
            (record["arm"], record["stage"], record["status"])
            for record in found
        )
    except (ValueError, KeyError) as error:
        raise records.StudyError(f"{path}: damaged: {error!r}.") from error


def main(argv):
    """Prints the status of one study."""
    if len(argv) != 2 or argv[0] != "status":
        raise app.UsageError(
            f"lbcheck study takes `status` and a folder; received {argv}."
        )
    try:
        print(status(argv[1]))
    except (OSError, ValueError) as error:
        raise app.UsageError(str(error)) from error
    return 0
