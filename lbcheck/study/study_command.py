"""`lbcheck study`: how far a study is.

lbcheck study status FOLDER
"""

import pathlib

from absl import app
from absl import flags

from lbcheck.study import records
from lbcheck.study import text_table

FLAGS = flags.FlagValues()
_STORAGE = flags.DEFINE_string(
    "storage",
    None,
    "URL of the database that the study was given; unset: its own file.",
    flag_values=FLAGS,
)

_STATES = ("finished", "diverged", "running", "waiting")


def status(folder, storage: str | None = None) -> str:
    """A table of arms and stages, with the number of trials in each state.

    Args:
        folder: Of the study.
        storage: URL for Optuna; None is the file in the folder.

    Raises:
        records.StudyError: There is no study, or no ledger to read.
    """
    from lbcheck.study import ledger
    from lbcheck.study import protocol

    study = records.read(folder)
    if storage is None and not (pathlib.Path(folder) / records.LEDGER).exists():
        raise records.StudyError(
            f"{folder} has no {records.LEDGER}: give the --storage that its "
            "study was given."
        )
    counts = ledger.Ledger(
        storage or records.storage_url(folder), study
    ).counts()
    plan = protocol.Protocol(study)
    for (_, stage), count in counts.items():
        # Also those that are not in the ledger yet, or not any more.
        taken = sum(count.values()) - count["waiting"]
        count["waiting"] = plan.sizes[stage] - taken
    total = plan.total
    done = sum(n["finished"] + n["diverged"] for n in counts.values())
    table = text_table.text_table(
        ["arm", "stage", *_STATES],
        [
            [arm, stage, *(str(n[state]) for state in _STATES)]
            for (arm, stage), n in counts.items()
        ],
        numeric=range(2, 6),
    )
    return f"{study['name']}: {done} of {total} trials are done.\n\n{table}"


def main(argv):
    """Prints the status of one study."""
    if len(argv) != 2 or argv[0] != "status":
        raise app.UsageError(
            f"lbcheck study takes `status` and a folder; received {argv}."
        )
    try:
        print(status(argv[1], _STORAGE.value))
    except (OSError, ValueError) as error:
        raise app.UsageError(str(error)) from error
    return 0
