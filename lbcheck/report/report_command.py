"""`lbcheck report`: the report of a study, from its records alone.

    lbcheck report lbcheck_study
    lbcheck report lbcheck_study --format=json

Reads study.json and trials.jsonl in that folder and writes report.html,
results.json, results.csv, tables.md and tables.tex next to them; the same
records give the same bytes. With --format=json the verdict and what each
arm reached are printed as well.
Exit code 2: bad input.
"""

import json

from absl import app
from absl import flags

from lbcheck import report
from lbcheck.report import results
from lbcheck.support import command

FLAGS = flags.FlagValues()
command.define_format(FLAGS)


def main(argv):
    """Writes the report and prints where."""
    if len(argv) != 1:
        raise app.UsageError(
            f"expected the folder of one study, received {argv}."
        )
    path = report.write(argv[0])
    if FLAGS.format == "json":
        found = json.loads(path.with_name("results.json").read_text())
        print(json.dumps(results.summary(found, path), indent=2))
    else:
        print(path)
    return 0
