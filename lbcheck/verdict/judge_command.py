"""`lbcheck judge`: the verdict on runs that were made anywhere.

    lbcheck judge runs.csv --challengers=muon --margin=0.002
    lbcheck judge runs.jsonl --challengers=lamb --metric=val_loss --format=json

The file is a table with a row for each run: its arm, its seed and its metric,
if wanted a part ("validation" or "training") and a step, of which the last
counts. A metric that is empty or nan is of a run that diverged. The runs are
judged as those of a study, but for the luck of the search, which a table of
final runs does not show.

Exit codes: 0 decided, 1 undecided, 2 refused.
"""

import json

from absl import app
from absl import flags

from lbcheck.support import command
from lbcheck.support import exit_codes
from lbcheck.support.text_table import text_table
from lbcheck.trials import workload
from lbcheck.verdict import judge
from lbcheck.verdict import run_tables

FLAGS = flags.FlagValues()
flags.DEFINE_list(
    "challengers",
    None,
    "Arms that are asked whether they are needed.",
    flag_values=FLAGS,
)
flags.DEFINE_list(
    "baselines",
    None,
    "Arms that they are compared with; unset: all others.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "metric",
    None,
    'Column of the metric; unset: "metric", or the only one left.',
    flag_values=FLAGS,
)
flags.DEFINE_enum(
    "mode",
    None,
    ["max", "min"],
    "Whether a high (max) or a low (min) metric is better; unset: as its "
    "name says.",
    flag_values=FLAGS,
)
flags.DEFINE_float(
    "margin",
    None,
    "Smallest difference of the metric that matters to you.",
    flag_values=FLAGS,
)
flags.DEFINE_float(
    "target",
    None,
    "Value of the metric to reach, for hit rates.",
    flag_values=FLAGS,
)
command.define_format(FLAGS)


def main(argv):
    """Prints the verdict; returns the exit code."""
    if len(argv) != 1:
        raise app.UsageError(f"expected one file of runs, received {argv}.")
    if not FLAGS.challengers:
        raise app.UsageError("--challengers=ARM,.. is needed.")
    found = run_tables.read(argv[0], FLAGS.metric)
    arms = found.runs["validation"]
    if FLAGS.baselines is None and set(arms) <= set(FLAGS.challengers):
        raise app.UsageError(
            "--challengers must leave an arm to compare with, received all "
            f"of {', '.join(sorted(arms))}."
        )
    verdict = judge.compare_arms(
        arms,
        FLAGS.challengers,
        found.runs.get("training"),
        found.metric,
        FLAGS.mode or workload.mode_of(found.metric),
        FLAGS.margin,
        FLAGS.target,
        FLAGS.baselines,
    )
    if FLAGS.format == "json":
        print(json.dumps(verdict.to_dict(), indent=2))
    else:
        print(_text(verdict))
    decided = verdict.answer != "undecided"
    return exit_codes.FINISHED if decided else exit_codes.FINDING


def _text(verdict):
    rows = [
        [
            arm.arm,
            arm.side or "-",
            arm.part,
            f"{arm.runs}",
            f"{arm.diverged}",
            _number(arm.median),
            f"{_number(arm.low)} to {_number(arm.high)}",
        ]
        for arm in verdict.arms
    ]
    columns = ["arm", "side", "part", "runs", "diverged", "median", "95 %"]
    notes = [f"- {note}" for note in verdict.notes]
    table = text_table(columns, rows, (3, 4, 5))
    return "\n\n".join([verdict.sentence, table, "\n".join(notes)])


def _number(value):
    return "-" if value is None else f"{value:.5g}"
