"""Flags of the optimizers; their signatures say which flag goes with which.

A flag that is not set leaves the rule's own default.
"""

import functools

from absl import app
from absl import flags

from lbcheck.optimizers import definitions
from lbcheck.optimizers.core import SAME
from lbcheck.settings import flag_usage
from lbcheck.support import kerases
from lbcheck.support import schema

CLASSES = {name.lower(): name for name in kerases.OPTIMIZERS}
"""{value of --optimizer: class name in lbcheck.tf_keras and lbcheck.keras3}."""

FALLBACKS = ("adamw", "momentum", "nesterov")

_DEFINITIONS = {
    name: getattr(definitions, title) for name, title in CLASSES.items()
}

_real = functools.partial(
    flags.DEFINE_float, lower_bound=0.0, upper_bound=flag_usage.LARGEST
)
_below_one = functools.partial(_real, upper_bound=1.0)
_count = functools.partial(
    flags.DEFINE_integer, lower_bound=0, upper_bound=schema.COUNT
)


def _enum(*values):
    return functools.partial(flags.DEFINE_enum, enum_values=values)


_ARGUMENTS = {
    "momentum": (_below_one, "Momentum of the buffer, in [0, 1)."),
    "beta_1": (_below_one, "Decay of the first moment, in [0, 1)."),
    "beta_2": (_below_one, "Decay of the second moment, in [0, 1)."),
    "epsilon": (_real, "Added to the rule's denominator, >= 0."),
    "weight_decay": (_real, "Decay in the rule itself, times the rate, >= 0."),
    "trust_coefficient": (_real, "Factor of LARS's trust ratio, >= 0."),
    "nesterov_form": (
        _enum("first", "both"),
        "LAMB's moments with a Nesterov step: N-LAMB or NN-LAMB.",
    ),
    "norm": (_enum("l1", "l2", "linf"), "Norm in LAMB's trust ratio."),
    "bias_correction": (
        flags.DEFINE_bool,
        "Whether the moments are divided by 1 - beta^t; unset: the dialect's.",
    ),
    "initial_accumulator_value": (
        _real,
        "Initial value of Adagrad's sum of squares, >= 0.",
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
"""{flag: (how it is defined, help)}; a flag is called as its argument."""

_RENAMED = {"nesterov_form": "nesterov"}

_FALLBACK_ARGUMENTS = (
    "momentum",
    "beta_1",
    "beta_2",
    "epsilon",
    "weight_decay",
    "bias_correction",
)


def define(flag_values: flags.FlagValues) -> None:
    """Defines --optimizer and one flag for each of its arguments."""
    flags.DEFINE_enum(
        "optimizer",
        None,
        sorted(CLASSES),
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
            f"--optimizer is needed, one of {'|'.join(sorted(CLASSES))}."
        )
    users = flag_usage.users(_ARGUMENTS, _DEFINITIONS)
    # Any optimizer takes the first; LARS's `nesterov` is another thing.
    users |= {"global_clipnorm": tuple(CLASSES), "nesterov_form": ("lamb",)}
    flag_usage.check(flag_values, "optimizer", users)
    fallbacks = {name: _DEFINITIONS[name] for name in FALLBACKS}
    flag_usage.check(
        flag_values,
        "fallback",
        {
            f"fallback_{argument}": choices
            for argument, choices in flag_usage.users(
                _FALLBACK_ARGUMENTS, fallbacks
            ).items()
        },
    )
    for chooser, prefix in (("optimizer", ""), ("fallback", "fallback_")):
        choice = flag_values[chooser].value
        if choice is None:
            continue
        try:
            _DEFINITIONS[choice].check(arguments(flag_values, prefix))
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
        given["fallback"] = getattr(optimizers, CLASSES[given["fallback"]])(
            **arguments(flag_values, "fallback_")
        )
    cls = getattr(optimizers, CLASSES[flag_values["optimizer"].value])
    return cls(learning_rate=learning_rate, **given)


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
