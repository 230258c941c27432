"""`lbcheck report`: the report of a study, from its records alone.

    lbcheck report lbcheck_study
    lbcheck report lbcheck_study --format=json
    lbcheck report grid refined --chronology=latex

Reads study.json and trials.jsonl in that folder and writes report.html,
results.json, results.csv, tables.md and tables.tex next to them; the same
records give the same bytes. With --format=json the verdict and what each
arm reached are printed as well. --chronology prints the search spaces of one
study or several, in their order, with what was best.
Exit code 2: bad input.
"""

import json

from absl import app
from absl import flags

from lbcheck import report
from lbcheck.report import chronology
from lbcheck.report import results
from lbcheck.report import tables
from lbcheck.support import command

FLAGS = flags.FlagValues()
command.define_format(FLAGS)
flags.DEFINE_enum(
    "chronology",
    None,
    ["markdown", "latex"],
    "Print the search spaces and the best points of the studies, in this form.",
    flag_values=FLAGS,
)


def main(argv):
    """Writes the report and prints where."""
    if FLAGS.chronology and argv:
        found = chronology.printed(argv)
        form = {"markdown": tables.to_markdown, "latex": tables.to_latex}
        print(form[FLAGS.chronology](found), end="")
        return 0
    if FLAGS.chronology:
        raise app.UsageError(
            "--chronology needs the folders of studies, the first one first."
        )
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
