"""Flags of the learning rate schedules.

One function a schedule: its parameters are the flags that it uses, those
without a default are needed. Steps count updates and the schedule ends with
the run.
"""

import inspect
from collections.abc import Callable
from collections.abc import Mapping

from absl import app
from absl import flags

from lbcheck import schedules
from lbcheck.schedules import base
from lbcheck.settings import flag_usage
from lbcheck.support import load_object
from lbcheck.support import schema


def warmup_polynomial(
    total_steps,
    learning_rate,
    warmup_steps,
    initial_learning_rate=0.0,
    final_learning_rate=0.0,
    warmup_power=1.0,
    decay_power=1.0,
    decay_end_step=None,
):
    """Polynomial warm-up to the peak, then polynomial decay."""
    return schedules.PolynomialWarmupDecay(
        initial_learning_rate,
        learning_rate,
        final_learning_rate,
        warmup_steps,
        total_steps,
        warmup_power,
        decay_power,
        decay_end_step,
    )


def cosine(total_steps, learning_rate, final_learning_rate=0.0):
    """Half a cosine from the first update on."""
    return schedules.Cosine(learning_rate, total_steps, final_learning_rate)


def warmup_cosine(
    total_steps,
    learning_rate,
    warmup_steps,
    initial_learning_rate=0.0,
    final_learning_rate=0.0,
    warmup_power=1.0,
):
    """Polynomial warm-up, then half a cosine over the updates that remain."""
    if not base.is_array(warmup_steps) and warmup_steps >= total_steps:
        raise ValueError(
            f"warmup_steps={warmup_steps} leaves nothing of the "
            f"{total_steps} updates of the run for the cosine."
        )
    after = cosine(
        total_steps - warmup_steps, learning_rate, final_learning_rate
    )
    return schedules.Warmup(
        after, warmup_steps, warmup_power, initial_learning_rate
    )


def constant(total_steps, learning_rate, warmup_steps=0):
    """One rate, after a linear warm-up if there is to be one."""
    rate = schedules.Constant(learning_rate)
    if not base.is_array(warmup_steps) and warmup_steps == 0:
        return rate
    return _within(schedules.Warmup(rate, warmup_steps), total_steps)


def goyal(
    total_steps,
    learning_rate,
    warmup_steps,
    boundaries,
    boundary_factor=0.1,
    initial_learning_rate=0.0,
):
    """Linear warm-up, then a rate that falls at the boundaries."""
    if not all(str(step).isdecimal() for step in boundaries):
        raise ValueError(f"boundaries must be steps, received {boundaries}.")
    steps = tuple(int(step) for step in boundaries)
    if steps and steps[-1] >= total_steps:
        raise ValueError(
            f"boundaries: step {steps[-1]} is not before the end of the run, "
            f"{total_steps} updates."
        )
    made = schedules.GoyalSteps(
        learning_rate,
        warmup_steps,
        steps,
        boundary_factor,
        initial_learning_rate,
    )
    return _within(made, total_steps)


def _within(made, total_steps):
    """The schedule; refuses a warm-up that is longer than the run."""
    owner, warmup = type(made).__name__, made.warmup_steps
    base.check_order(owner, "warmup_steps", warmup, "total_steps", total_steps)
    return made


FAMILIES = {
    family.__name__: family
    for family in (
        warmup_polynomial,
        cosine,
        warmup_cosine,
        constant,
        goyal,
    )
}
"""{value of --schedule: function of total_steps and of its flags}."""

Families = Mapping[str, Callable[..., schedules.Schedule]]


def family(name: str) -> Callable[..., schedules.Schedule]:
    """One of `FAMILIES`, or such a function elsewhere, as "module:function".

    Raises:
        app.UsageError: There is none of that name.
    """
    if ":" in name:
        return load_object.load(name)
    if name not in FAMILIES:
        raise app.UsageError(
            f"unknown schedule {name!r}; expected one of "
            f"{', '.join(FAMILIES)}, or module:function."
        )
    return FAMILIES[name]


_REALS = {
    "learning_rate": "Peak learning rate, >= 0.",
    "initial_learning_rate": "Learning rate of the first update, >= 0.",
    "final_learning_rate": "Learning rate after the last update, >= 0.",
    "warmup_power": "Power of the warm-up, >= 0; 1 is linear.",
    "decay_power": "Power of the decay, >= 0; 1 is linear.",
    "power": "Power of warm-up and decay, >= 0; 1 is linear.",
    "boundary_factor": "Factor on the learning rate at a boundary, >= 0.",
}
_COUNTS = {
    "warmup_steps": "Warm-up steps, 0 to the whole run.",
    "decay_end_step": "Step at which the decay ends; unset: the run's end.",
}
_LISTS = {
    "boundaries": "Steps at which the learning rate falls, increasing, "
    "separated by commas."
}
_FLAGS = (*_REALS, *_COUNTS, *_LISTS)


def define(
    flag_values: flags.FlagValues,
    families: Families = FAMILIES,
    default: str = "constant",
) -> None:
    """Defines --schedule and the flags of its families.

    Args:
        flag_values: Where they are defined.
        families: {value of --schedule: function}, as `FAMILIES`.
        default: The family that is used if --schedule is not set.
    """
    own = {"flag_values": flag_values}
    flags.DEFINE_enum(
        "schedule",
        default,
        list(families),
        "Learning rate schedule.",
        **own,
    )
    for name, used_by in _users(families).items():
        if not used_by:
            continue
        if name in _REALS:
            flags.DEFINE_float(
                name, None, _REALS[name], 0.0, flag_usage.LARGEST, **own
            )
        elif name in _COUNTS:
            flags.DEFINE_integer(
                name, None, _COUNTS[name], 0, schema.COUNT, **own
            )
        else:
            flags.DEFINE_list(name, None, _LISTS[name], **own)


def names(families: Families = FAMILIES) -> tuple[str, ...]:
    """Names of the flags that `define` defines."""
    return "schedule", *(name for name, by in _users(families).items() if by)


def check(flag_values: flags.FlagValues, families: Families = FAMILIES) -> None:
    """Refuses flags that --schedule does not use, and those it misses.

    Raises:
        app.UsageError: Names the flag and the schedule.
    """
    users = {name: by for name, by in _users(families).items() if by}
    flag_usage.check(flag_values, "schedule", users)
    name = flag_values["schedule"].value
    given = {"total_steps", *flag_usage.given(flag_values, users)}
    for flag, parameter in inspect.signature(families[name]).parameters.items():
        if parameter.default is parameter.empty and flag not in given:
            raise app.UsageError(f"--schedule={name} needs --{flag}.")


def make(
    flag_values: flags.FlagValues,
    total_steps: int,
    families: Families = FAMILIES,
):
    """The schedule that the flags describe.

    Args:
        flag_values: Parsed flags.
        total_steps: Updates of the run, at least 1.
        families: As for `define`.

    Returns:
        A schedule of `lbcheck.schedules`.

    Raises:
        app.UsageError: A flag that the schedule does not use or that it
            needs and has not, or a value that it refuses.

    Example:
        >>> flag_values = flags.FlagValues()
        >>> define(flag_values)
        >>> line = "program --schedule=cosine --learning_rate=2"
        >>> _ = flag_values(line.split())
        >>> round(make(flag_values, total_steps=6)(2), 12)
        1.5
    """
    check(flag_values, families)
    name = flag_values["schedule"].value
    given = flag_usage.given(flag_values, names(families)[1:])
    try:
        return families[name](total_steps, **given)
    except ValueError as error:
        raise app.UsageError(f"--schedule={name}: {error}") from error


def _users(families):
    return flag_usage.users(_FLAGS, families)
