"""Flags of the optimizers; their signatures say which flag goes with which.

A flag that is not set leaves the rule's own default.
"""

import functools

from absl import app
from absl import flags

from lbcheck import optimizers as room
from lbcheck.optimizers import manual
from lbcheck.optimizers.base import SAME
from lbcheck.settings import flag_usage
from lbcheck.support import schema

FALLBACKS = {n: o for n, o in room.BY_NAME.items() if not o.adapts()}
"""{value of --fallback: optimizer}."""

_real = functools.partial(
    flags.DEFINE_float, lower_bound=0.0, upper_bound=flag_usage.LARGEST
)
_below_one = functools.partial(_real, upper_bound=1.0)
_count = functools.partial(
    flags.DEFINE_integer, lower_bound=0, upper_bound=schema.COUNT
)


def _enum(*values):
    return functools.partial(flags.DEFINE_enum, enum_values=values)


_FORMS = ("first", "both")

_NOT_FLAGS = ("l2",)
"""Numbers that a program has a flag of its own for, for every optimizer."""


def _numbers(optimizers):
    """{flag: (how it is defined, help)} of all numbers of these.

    The help is what the manual of the first that has it says first.
    """
    found = {}
    for optimizer in optimizers.values():
        for number, bound in optimizer.rule_class.numbers().items():
            if number not in (*found, *_NOT_FLAGS):
                kind = _below_one if bound.high <= 1 else _real
                found[number] = (kind, manual.about(optimizer, number))
    return found


_ARGUMENTS = {
    **_numbers(room.BY_NAME),
    "nesterov_form": (
        _enum(*_FORMS),
        "LAMB's moments with a Nesterov step: N-LAMB or NN-LAMB.",
    ),
    "norm": (_enum("l1", "l2", "linf"), "Norm in LAMB's trust ratio."),
    "bias_correction": (
        flags.DEFINE_bool,
        "Whether the moments are divided by 1 - beta^t; unset: the dialect's.",
    ),
    "dialect": (
        flags.DEFINE_string,
        "Library whose form of the rule is computed: paper, flax, mlperf, ...",
    ),
    "exclude_from_weight_decay": (
        flags.DEFINE_list,
        "Patterns of variables without weight decay; empty: every one decays.",
    ),
    "exclude_from_layer_adaptation": (
        flags.DEFINE_list,
        "Patterns of variables without a trust ratio; same: without decay.",
    ),
    "diagnostics_every": (
        _count,
        "Updates between two records of trust ratios, >= 0; 0: none.",
    ),
    "global_clipnorm": (
        _real,
        "Norm to which the gradient of all variables is clipped, > 0.",
    ),
    "fallback": (
        _enum(*FALLBACKS),
        "Rule of the variables without a trust ratio, at the same rate.",
    ),
}
"""{flag: (how it is defined, help)}; a flag is called as its argument.

Of the switches only those that no dialect is there for."""

_RENAMED = {"nesterov_form": "nesterov"}

_FALLBACK_ARGUMENTS = (*_numbers(FALLBACKS), "bias_correction")


def define(flag_values: flags.FlagValues) -> None:
    """Defines --optimizer and one flag for each of its arguments."""
    flags.DEFINE_enum(
        "optimizer",
        None,
        sorted(room.BY_NAME),
        "The update rule.",
        flag_values=flag_values,
    )
    for name, (kind, text) in _ARGUMENTS.items():
        kind(name, None, help=text, flag_values=flag_values)
    for name in _FALLBACK_ARGUMENTS:
        kind, text = _ARGUMENTS[name]
        kind(
            f"fallback_{name}",
            None,
            help=f"Fallback: {text}",
            flag_values=flag_values,
        )


def check(flag_values: flags.FlagValues) -> None:
    """Refuses flags and values that --optimizer or --fallback do not take.

    Raises:
        app.UsageError: Names the flag, the choice and what would use it, or
            the value that the optimizer refuses.
    """
    name = flag_values["optimizer"].value
    if name is None:
        raise app.UsageError(
            f"--optimizer is needed, one of {'|'.join(sorted(room.BY_NAME))}."
        )
    users = flag_usage.users(_ARGUMENTS, room.BY_NAME)
    users |= {
        "global_clipnorm": tuple(room.BY_NAME),  # Keras's, for any of them
        "nesterov_form": tuple(
            n for n, o in room.BY_NAME.items() if _forms(o.rule_class)
        ),
    }
    flag_usage.check(flag_values, "optimizer", users)
    flag_usage.check(
        flag_values,
        "fallback",
        {
            f"fallback_{argument}": choices
            for argument, choices in flag_usage.users(
                _FALLBACK_ARGUMENTS, FALLBACKS
            ).items()
        },
    )
    for chooser, prefix in (("optimizer", ""), ("fallback", "fallback_")):
        choice = flag_values[chooser].value
        if choice is None:
            continue
        try:
            room.BY_NAME[choice].check(arguments(flag_values, prefix))
        except (TypeError, ValueError) as error:
            raise app.UsageError(f"--{chooser}={choice}: {error}") from error


def make(flag_values: flags.FlagValues, optimizers, learning_rate):
    """The optimizer that the flags describe.

    Args:
        flag_values: Parsed flags.
        optimizers: The module `lbcheck.tf_keras` or `lbcheck.keras3`.
        learning_rate: A schedule of `lbcheck.schedules`, or a number.

    Returns:
        A new optimizer.

    Raises:
        app.UsageError: A flag that the optimizer does not use, or a value
            that it refuses.

    Example:
        >>> flag_values = flags.FlagValues()
        >>> define(flag_values)
        >>> _ = flag_values(["program", "--optimizer=lars", "--momentum=0.5"])
        >>> arguments(flag_values)
        {'momentum': 0.5}
    """
    check(flag_values)
    given = arguments(flag_values)
    if "fallback" in given:
        fallback = room.BY_NAME[given["fallback"]].__name__
        given["fallback"] = getattr(optimizers, fallback)(
            **arguments(flag_values, "fallback_")
        )
    name = room.BY_NAME[flag_values["optimizer"].value].__name__
    return getattr(optimizers, name)(learning_rate=learning_rate, **given)


def _forms(rule):
    """The values of --nesterov_form that a rule has."""
    return [form for form in rule.choices.get("nesterov", ()) if form in _FORMS]


def arguments(flag_values: flags.FlagValues, prefix: str = "") -> dict:
    """{constructor argument: value} of the flags that are set.

    Args:
        flag_values: Parsed flags.
        prefix: "" for the optimizer, "fallback_" for its fallback.
    """
    names = _FALLBACK_ARGUMENTS if prefix else _ARGUMENTS
    given = flag_usage.given(flag_values, [prefix + name for name in names])
    named = {flag.removeprefix(prefix): given[flag] for flag in given}
    if named.get("exclude_from_layer_adaptation") == [SAME]:
        named["exclude_from_layer_adaptation"] = SAME
    return {_RENAMED.get(name, name): value for name, value in named.items()}
