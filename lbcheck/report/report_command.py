"""`lbcheck report`: the report of a study, from its records alone.

    lbcheck report lbcheck_study

Reads study.json and trials.jsonl in that folder and writes report.html,
results.json, results.csv, tables.md and tables.tex beside them; the same
records give the same bytes. Exit code 2: bad input.
"""

from absl import app
from absl import flags

from lbcheck import report

FLAGS = flags.FlagValues()


def main(argv):
    """Writes the report and prints where."""
    if len(argv) != 1:
        raise app.UsageError(
            f"lbcheck report takes the folder of one study; received {argv}."
        )
    try:
        path = report.write(argv[0])
    except (OSError, ValueError) as error:
        raise app.UsageError(str(error)) from error
    print(path)
    return 0
