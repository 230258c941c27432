"""`lbcheck ablate`: which of the settings of a better run matter.

    lbcheck ablate a.flags b.flags --program=resnet.train --margin=0.005

A is the better run of a program, B the other. From A each flag that differs
is taken back to B's value alone, over --seeds seeds; it is needed if that
loses more than --margin. The flags that cannot be taken back are the minimal
set, which is run against A with fresh seeds. Flags that this command does not
have are the program's and hold for all runs. --together=l2,l2_on takes flags
back as one that mean nothing alone. The same command continues where it was
stopped.

Exit codes: 0 every flag is decided and the minimal set is as good as A, 1 not
so, 2 refused, 75 interrupted; the same command continues.
"""

import concurrent.futures
import itertools
import json
import pathlib
import shlex

from absl import app
from absl import flags

import lbcheck
from lbcheck.instruments import ladder
from lbcheck.instruments import ladder_folder
from lbcheck.instruments import ladder_page
from lbcheck.programs import command_lines
from lbcheck.programs import program
from lbcheck.programs import program_arm
from lbcheck.support import command
from lbcheck.support import errors
from lbcheck.support import exit_codes
from lbcheck.support import files
from lbcheck.support import flagfiles
from lbcheck.support import processes
from lbcheck.support import shipped

FLAGS = flags.FlagValues()
RESULT = "result.json"

flags.DEFINE_string(
    "program",
    None,
    "Program that every run is of, such as resnet.train.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "output_dir",
    "lbcheck_ladder",
    "Folder of the runs, the table and the figure.",
    flag_values=FLAGS,
)
flags.DEFINE_float(
    "margin",
    None,
    "Smallest loss of the metric that matters to you, above 0.",
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "seeds", 20, "Runs of every rung.", lower_bound=2, flag_values=FLAGS
)
flags.DEFINE_integer(
    "seed",
    0,
    "What the seeds of the runs are derived from.",
    lower_bound=0,
    flag_values=FLAGS,
)
flags.DEFINE_multi_string(
    "together",
    [],
    "Flags that are taken back as one, such as l2,l2_on; may be repeated.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "metric",
    None,
    "Validation metric that runs are judged by; unset: the program's.",
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
flags.DEFINE_integer(
    "num_workers", 1, "Runs at a time.", lower_bound=1, flag_values=FLAGS
)
flags.DEFINE_bool(
    "dry_run",
    False,
    "Print the commands of every rung's first run, and stop.",
    flag_values=FLAGS,
)
command.define_format(FLAGS)


def parse(argv):
    """The two arms' files, and the flags of the program.

    Raises:
        flags.Error, app.UsageError: As of `command.parse`.
    """
    words = [*itertools.takewhile(lambda a: not a.startswith("-"), argv[1:])]
    expanded = flagfiles.expanded(argv[1 + len(words) :])
    given = command_lines.split(expanded, set(FLAGS))
    rest = command.parse(FLAGS, [argv[0], *given.own])
    return [*words, *rest], given


def main(parsed):
    """Does what the flags ask for; returns the exit code."""
    words, given = parsed
    if len(words) != 2:
        raise app.UsageError(
            "expected two flagfiles, A.flags and B.flags, before the flags; "
            f"received {' '.join(words) or 'none'}."
        )
    for word in words:
        if not shipped.resolved(word).endswith(".flags"):
            raise app.UsageError(
                f"{word}: expected a flagfile, such as a.flags: of a search "
                "space no run is known."
            )
    for name in ("program", "margin"):
        if FLAGS[name].value in (None, ""):
            raise app.UsageError(
                f"--{name} is needed: {FLAGS[name].help} Received "
                f"{FLAGS[name].value}."
            )
    if not FLAGS.margin > 0:
        raise app.UsageError(
            f"--margin must be above 0, received {FLAGS.margin:g}."
        )
    try:
        with processes.interruptible(), errors.explained():
            return _run(words, given)
    except KeyboardInterrupt:
        return command.interrupted()


def _run(words, given):
    best, other = (
        program_arm.load(word, given.base, given.explicit)._replace(name=word)
        for word in words
    )
    made = program.make(
        FLAGS.program, [best, other], metric=FLAGS.metric, mode=FLAGS.mode
    )
    best, other = (
        arm._replace(flags=flags)
        for arm, flags in zip(
            (best, other), command_lines.alike(best.flags, other.flags)
        )
    )
    together = [group.split(",") for group in FLAGS.together]
    factors = ladder.factors(best.flags, other.flags, together)
    if FLAGS.dry_run:
        print(_dry_run(made, best, other, factors))
        return exit_codes.FINISHED
    runs = ladder_folder.LadderFolder(
        FLAGS.output_dir,
        made,
        best,
        _about(words, made, best, other, together),
        FLAGS.seed,
    )
    with concurrent.futures.ThreadPoolExecutor(FLAGS.num_workers) as pool:
        found = ladder.climb(
            best.flags,
            other.flags,
            runs.score,
            FLAGS.margin,
            FLAGS.seeds,
            together,
            pool.map,
        )
    _write(found, words, made)
    decided = not found.undecided and found.minimal is not None
    return exit_codes.FINISHED if decided else exit_codes.FINDING


def _about(words, made, best, other, together):
    return {
        "lbcheck": lbcheck.__version__,
        "program": made.module,
        "metric": made.metric,
        "mode": made.mode,
        "margin": FLAGS.margin,
        "seeds": FLAGS.seeds,
        "seed": FLAGS.seed,
        "together": together,
        "A": best.flags,
        "B": other.flags,
        "files": words,
    }


def _dry_run(made, best, other, factors):
    """The rungs' first commands, and how many runs there are."""
    rungs = ladder.rungs(best.flags, other.flags, factors)
    lines = [
        f"{name}: "
        + shlex.join(
            [
                "python",
                "-m",
                made.module,
                *command_lines.merged(settings).values(),
            ]
        )
        for name, settings in rungs.items()
    ]
    return "\n\n".join(
        [
            *lines,
            f"{len(rungs) * FLAGS.seeds} runs of {made.steps} updates, and at "
            f"least {2 * FLAGS.seeds} to confirm the minimal set.",
        ]
    )


def _write(found, words, made):
    """Writes the result and the figure, and prints the result."""
    folder = pathlib.Path(FLAGS.output_dir)
    result = ladder_page.result(found, words, made.metric, made.mode)
    text = json.dumps(result, indent=1)
    files.write_text(folder / RESULT, text + "\n")
    paths = ladder_page.draw(result, folder)
    if FLAGS.format == "json":
        print(text)
    else:
        print(ladder_page.text(result))
        print(f"\n{paths[0]}")
