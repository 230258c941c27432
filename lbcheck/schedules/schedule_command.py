"""`lbcheck schedule`: the schedule doctor from the command line.

    lbcheck schedule my.module:make_schedule --total_steps=14063
    lbcheck schedule my.module:rate --total_steps=1562 --warmup_steps=781
    lbcheck schedule training_log.csv --total_steps=1562
    lbcheck schedule trainer_state.json --peak_rate=5e-5 --format=json

What is named is a schedule, a function of the step, an optimizer with a
schedule, or a function without arguments that returns one of them; or a log:
CSV, JSON, JSON lines or TensorBoard's event files. Exit code 0: nothing is
wrong; 1: an error is found; 2: bad input.
"""

import contextlib
import inspect
import numbers
import pathlib
import sys

from absl import app
from absl import flags

from lbcheck.schedules import doctor
from lbcheck.schedules.doctor import log_files
from lbcheck.support import command
from lbcheck.support import errors
from lbcheck.support import exit_codes
from lbcheck.support.load_object import load

FLAGS = flags.FlagValues()
_TOTAL = flags.DEFINE_integer(
    "total_steps",
    None,
    "Updates of the run; required unless a log is given.",
    flag_values=FLAGS,
)
_PEAK = flags.DEFINE_float(
    "peak_rate", None, "Intended peak learning rate.", flag_values=FLAGS
)
_WARMUP = flags.DEFINE_integer(
    "warmup_steps",
    None,
    "Intended number of warm-up steps.",
    flag_values=FLAGS,
)
_EPOCH = flags.DEFINE_integer(
    "steps_per_epoch", None, "Updates per epoch.", flag_values=FLAGS
)
_PHASES = flags.DEFINE_list(
    "phase_starts",
    [],
    "Steps at which a new phase begins with a warm-up of its own.",
    flag_values=FLAGS,
)
_COLUMN = flags.DEFINE_string(
    "column",
    None,
    "Column of the log that holds the learning rate, if several could.",
    flag_values=FLAGS,
)
_FORMAT = command.define_format(FLAGS)
_FIGURE = flags.DEFINE_string(
    "figure",
    None,
    "File to draw the schedule into: .png, .svg or .pdf.",
    flag_values=FLAGS,
)


def find_schedule(name: str):
    """The schedule that a command line names: a log's path or module:name."""
    path = pathlib.Path(name)
    if path.exists() or name.lower().endswith(log_files.SUFFIXES):
        return path
    if ":" not in name:
        raise app.UsageError(
            f"{name!r} must be module:function, for instance "
            "my_module:make_schedule, or the file of a log; there is no such "
            "file."
        )
    found = load(name)
    if isinstance(found, type) or (
        callable(found)
        and not hasattr(found, "trainable_variables")  # a model
        and not _needs_step(found)
    ):
        with errors.named(name):
            made = found()
        # A function of step=0 is a schedule, and no maker of one.
        return found if isinstance(made, numbers.Number) else made
    return found


def _needs_step(function) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return True
    return any(
        parameter.default is parameter.empty
        and parameter.kind
        in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        for parameter in parameters
    )


def _phase_starts():
    try:
        return tuple(int(step) for step in _PHASES.value)
    except ValueError:
        raise app.UsageError(
            "--phase_starts: expected whole numbers of updates, separated by "
            f"commas; received {','.join(_PHASES.value)!r}."
        ) from None


def main(argv):
    """Prints the findings; exit code 1 where an error is found."""
    if len(argv) != 1:
        raise app.UsageError(
            "lbcheck schedule takes one schedule, as module:function or the "
            f"file of a log; received {argv}."
        )
    if _FIGURE.value and not _FIGURE.value.endswith((".png", ".svg", ".pdf")):
        raise app.UsageError(
            f"--figure={_FIGURE.value}: must end with .png, .svg or .pdf."
        )
    # What a user's code prints is no part of the result.
    with contextlib.redirect_stdout(sys.stderr):
        examination = doctor.examine(
            find_schedule(argv[0]),
            _TOTAL.value,
            peak_rate=_PEAK.value,
            warmup_steps=_WARMUP.value,
            steps_per_epoch=_EPOCH.value,
            phase_starts=_phase_starts(),
            column=_COLUMN.value,
        )
        if _FIGURE.value:
            examination.save_figure(_FIGURE.value)
    json_wanted = _FORMAT.value == "json"
    print(examination.to_json() if json_wanted else examination)
    return exit_codes.FINDING if examination.errors else exit_codes.FINISHED
