"""`lbcheck judge`: the verdict on runs that were made anywhere.

    lbcheck judge runs.csv --challengers=muon --margin=0.002
    lbcheck judge runs.jsonl --challengers=lamb --metric=val_loss --format=json
    lbcheck judge "lars=runs/lars_*" "sgd=runs/sgd_*" --challengers=lars \
        --metric=accuracy

One file is a table with a row for each run: its arm, its seed and its metric,
if wanted a part ("validation", "training", or "test", which is then judged), a
step, of which the last counts, and a trial, for runs of a search: these show
how much luck it had, and of a trial with several seeds the median counts. A
metric that is empty or nan is of a run that diverged.

Pairs of an arm and a pattern name a file or folder for each run: folders of
resnet.train, bert.pretrain and bert.squad, files of Keras's CSVLogger, scalars
that TensorBoard exports as CSV, logs of modded-nanogpt; "lars=wandb.csv:lars-*"
names runs of a table or chart that Weights & Biases exports. Of these the last
value counts; one whose loss is nan at the end has diverged. Where no search is
shown its luck is not judged.

--look_every=5 --planned_seeds=30 lets you judge after 5, 10, .. 30 seeds, and
stop at the first answer, with no more error than one look has.

Exit codes: 0 decided, 1 undecided, 2 refused.
"""

import dataclasses
import json
import os
import sys

from absl import app
from absl import flags

from lbcheck.report import page_tables
from lbcheck.study import formats
from lbcheck.support import command
from lbcheck.support import exit_codes
from lbcheck.support import files
from lbcheck.support import metric_names
from lbcheck.support.text_table import text_table
from lbcheck.verdict import judge
from lbcheck.verdict import run_files
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
    'Column of the metric; unset: "metric", or the only one left. Of runs '
    "that are files, its name, such as accuracy; val_accuracy leaves test data "
    "alone.",
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
flags.DEFINE_integer(
    "look_every",
    None,
    "Seeds an arm between two looks, if you look repeatedly.",
    lower_bound=1,
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "planned_seeds",
    None,
    "Seeds an arm at the last look.",
    lower_bound=1,
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "report",
    None,
    "HTML file to write the report to.",
    flag_values=FLAGS,
)
command.define_format(FLAGS)


def main(argv):
    """Prints the verdict; returns the exit code."""
    if not argv:
        raise app.UsageError(
            "expected a table of runs, or ARM=PATH for each arm."
        )
    if not FLAGS.challengers:
        raise app.UsageError("--challengers=ARM,.. is needed.")
    if FLAGS.report is not None:
        _check_report(argv)
    if len(argv) == 1 and ("=" not in argv[0] or os.path.exists(argv[0])):
        found = run_tables.read(argv[0], FLAGS.metric)
    else:
        found = run_files.read(argv, FLAGS.metric)
    run_tables.check_target(found.runs, found.metric, FLAGS.target)
    test, validation = (found.runs.get(p) for p in ("test", "validation"))
    arms = test or validation
    whole = set(validation or ()) <= set(arms)
    alone = whole and set(arms) <= set(FLAGS.challengers)
    if FLAGS.baselines is None and alone:
        raise app.UsageError(
            "--challengers must leave an arm to compare with, received all "
            f"of {', '.join(sorted(arms))}."
        )
    mode = FLAGS.mode or metric_names.mode_of(found.metric)
    verdict = judge.compare_arms(
        validation,
        FLAGS.challengers,
        found.runs.get("training"),
        found.metric,
        mode,
        FLAGS.margin,
        FLAGS.target,
        FLAGS.baselines,
        FLAGS.look_every,
        FLAGS.planned_seeds,
        test,
        found.searched,
    )
    verdict = dataclasses.replace(verdict, notes=(*found.notes, *verdict.notes))
    if FLAGS.format == "json":
        print(json.dumps(verdict.to_dict(), indent=2))
    else:
        print(_text(verdict))
    if FLAGS.report:
        _report(verdict, found, mode)
    decided = verdict.answer in ("needed", "not needed")
    return exit_codes.FINISHED if decided else exit_codes.FINDING


def _check_report(argv):
    """Refuses a page without a name, or in the place of what is read."""
    if not FLAGS.report:
        raise app.UsageError("--report=FILE.html has no name of a file.")
    page = os.path.realpath(FLAGS.report)
    for argument in argv:
        read = (argument, argument.partition("=")[2].partition(":")[0])
        if page in map(os.path.realpath, filter(None, read)):
            raise app.UsageError(
                f"--report={FLAGS.report} is a file of runs, which it would "
                "replace."
            )


def _report(verdict, found, mode):
    """Writes the page, whose libraries take a second to import."""
    from lbcheck.report import page
    from lbcheck.report import results

    values = {
        part: found.runs[part]
        for part in formats.ALL_PARTS
        if part in found.runs
    }
    collected = results.of_runs(
        verdict, values, found.metric, mode, FLAGS.margin, FLAGS.target
    )
    words = {"command": ["lbcheck", "judge", *sys.argv[2:]]}
    try:
        files.write_text(FLAGS.report, page.render(collected, words))
    except OSError as error:
        raise app.UsageError(
            f"--report={FLAGS.report}: {error.strerror}."
        ) from error


def _text(verdict):
    columns = ["arm", "side", "part", "runs", "diverged", "median", "95 %"]
    has_target = FLAGS.target is not None
    if has_target:
        columns.append("target hits")
    rows = [
        [
            arm.arm,
            arm.side or "-",
            arm.part,
            f"{arm.runs}",
            f"{arm.diverged}",
            _number(arm.median),
            f"{_number(arm.low)} to {_number(arm.high)}",
            *([page_tables.hits(vars(arm))] if has_target else []),
        ]
        for arm in verdict.arms
    ]
    notes = [f"- {note}" for note in verdict.notes]
    table = text_table(columns, rows, (3, 4, 5))
    return "\n\n".join([verdict.sentence, table, "\n".join(notes)])


def _number(value):
    return "-" if value is None else f"{value:.5g}"
