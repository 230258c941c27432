"""`lbcheck schedule`: the schedule doctor from the command line.

    lbcheck schedule my.module:make_schedule --total_steps=14063
    lbcheck schedule my.module:rate --total_steps=1562 --warmup_steps=781
    lbcheck schedule training_log.csv --total_steps=1562

What is named is a schedule, a function of the step, or a function without
arguments that returns either. Exit code 0: nothing is wrong; 1: an error is
found; 2: bad input.
"""

import inspect
import numbers
import pathlib

from absl import app
from absl import flags

from lbcheck.naming import load
from lbcheck.schedules import doctor

FLAGS = flags.FlagValues()
_TOTAL = flags.DEFINE_integer(
    "total_steps",
    None,
    "Updates of the run; needed unless a CSV is given.",
    flag_values=FLAGS,
)
_PEAK = flags.DEFINE_float(
    "peak_rate", None, "The highest rate as meant.", flag_values=FLAGS
)
_WARMUP = flags.DEFINE_integer(
    "warmup_steps", None, "Updates of warm-up as meant.", flag_values=FLAGS
)
_EPOCH = flags.DEFINE_integer(
    "steps_per_epoch", None, "Updates of an epoch.", flag_values=FLAGS
)
_PHASES = flags.DEFINE_list(
    "phase_starts",
    [],
    "Steps at which a new phase warms up again.",
    flag_values=FLAGS,
)
_JSON = flags.DEFINE_bool(
    "json", False, "Print JSON instead of text.", flag_values=FLAGS
)
_FIGURE = flags.DEFINE_string(
    "figure",
    None,
    "File for a figure: .png, .svg or .pdf.",
    flag_values=FLAGS,
)


def find_schedule(name: str):
    """The schedule that a command line names: a CSV path or module:name."""
    if name.lower().endswith(".csv"):
        return pathlib.Path(name)
    found = load(name)
    if isinstance(found, type) or (callable(found) and not _needs_step(found)):
        try:
            made = found()
        except Exception as error:
            raise ValueError(
                f"{name!r} raised {type(error).__name__}: {error}"
            ) from error
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


def main(argv):
    """Prints the findings; exit code 1 where an error is found."""
    if len(argv) != 1:
        raise app.UsageError(
            "lbcheck schedule takes one schedule, as module:function or a "
            f"CSV file; received {argv}."
        )
    try:
        examination = doctor.examine(
            find_schedule(argv[0]),
            _TOTAL.value,
            peak_rate=_PEAK.value,
            warmup_steps=_WARMUP.value,
            steps_per_epoch=_EPOCH.value,
            phase_starts=tuple(int(step) for step in _PHASES.value),
        )
        if _FIGURE.value:
            examination.save_figure(_FIGURE.value)
    except (OSError, TypeError, ValueError) as error:
        raise app.UsageError(str(error)) from error
    print(examination.to_json() if _JSON.value else examination)
    return 1 if examination.errors else 0
