"""Flags of the training room, resolved to its options."""

import dataclasses
import os

from absl import app
from absl import flags

from lbcheck import schedules
from lbcheck.support import schema
from lbcheck.training import options as room

_CHOICES = {
    "distribution": (
        room.DISTRIBUTIONS,
        "How the work is divided among devices.",
    ),
    "mixed_precision": (
        room.PRECISIONS,
        "Number type to compute in; unset: float32.",
    ),
    "keras": (
        room.KERASES,
        "Which Keras trains; keras3 trains on one device only.",
    ),
}
_COUNTS = {
    "batch_size": "Examples per update over all replicas, >= 1.",
    "evaluation_batch_size": "Examples per evaluation step, >= 1.",
    "microbatch_size": "Examples that a replica computes at once, >= 1.",
    "log_every": "Updates between two measurements, >= 1.",
    "evaluate_every": "Updates between two evaluations; unset: at the end.",
    "checkpoint_every": "Updates between two checkpoints; unset: as log_every.",
    "steps_per_execution": "Updates per call of the compiled step, >= 1.",
}
_SWITCHES = {
    "xla": "Compile the step with XLA; unset: only on a TPU and on jax.",
    "deterministic": "Give bit-identical results in every run; slower.",
    "progress": "Show a progress bar.",
}
_TEXTS = {
    "output_dir": "Folder of the run's record; the same command continues it.",
    "tpu": "Name of a TPU; local on its own machine; none:8 in a dry run.",
}


def define(flag_values: flags.FlagValues) -> None:
    """Defines the flags of `lbcheck.training.Options` and of the length."""
    default = {f.name: f.default for f in dataclasses.fields(room.Options)}
    for name in ("output_dir", "batch_size"):
        default[name] = None
    for name, (choices, text) in _CHOICES.items():
        flags.DEFINE_enum(
            name, default[name], choices, text, flag_values=flag_values
        )
    for name, text in _COUNTS.items():
        _count(name, default[name], text, flag_values)
    for name, text in _SWITCHES.items():
        flags.DEFINE_bool(name, default[name], text, flag_values=flag_values)
    for name, text in _TEXTS.items():
        flags.DEFINE_string(name, default[name], text, flag_values=flag_values)
    flags.register_validator(
        "output_dir",
        lambda path: path is None or not os.path.isfile(path),
        "is a file; expected a folder",
        flag_values,
    )
    flags.DEFINE_integer(
        "seed",
        default["seed"],
        "Seed of data order, weights and augmentation, 0 to 2^32 - 1.",
        lower_bound=0,
        upper_bound=2**32 - 1,
        flag_values=flag_values,
    )
    _define_length(flag_values)


def _count(name, default, text, flag_values):
    flags.DEFINE_integer(
        name,
        default,
        text,
        lower_bound=1,
        upper_bound=schema.COUNT,
        flag_values=flag_values,
    )


def _define_length(flag_values):
    _count(
        "train_steps",
        None,
        "Updates of the run, >= 1; or give --train_epochs.",
        flag_values,
    )
    flags.DEFINE_float(
        "train_epochs",
        None,
        "Passes over the data, > 0; or give --train_steps.",
        lower_bound=0.0,
        upper_bound=1e6,
        flag_values=flag_values,
    )
    flags.DEFINE_enum(
        "epoch_rule",
        None,
        ["floor", "mlperf4"],
        "Rounding of epochs to updates: floor (default) or mlperf4, by fours.",
        flag_values=flag_values,
    )


def total_steps(flag_values: flags.FlagValues, num_train: int) -> int:
    """Updates of the run, from --train_steps or --train_epochs.

    Args:
        flag_values: Parsed flags.
        num_train: Training examples of the data set, at least 1.

    Raises:
        app.UsageError: Neither or both are given, or less than one update.
    """
    steps = flag_values["train_steps"].value
    epochs = flag_values["train_epochs"].value
    rule = flag_values["epoch_rule"].value
    if (steps is None) == (epochs is None):
        raise app.UsageError(
            "Give one of --train_steps and --train_epochs; received "
            f"train_steps={steps} and train_epochs={epochs}."
        )
    if steps is not None:
        if rule is not None:
            raise app.UsageError(
                "--epoch_rule does not apply to --train_steps; only "
                f"--train_epochs uses it (received {rule})."
            )
        return steps
    batch = _needed(flag_values, "batch_size")
    steps = schedules.epochs_to_steps(epochs, batch, num_train, rule or "floor")
    if steps < 1:
        raise app.UsageError(
            f"--train_epochs={epochs} of {num_train} examples is less than "
            f"one update of --batch_size={batch}."
        )
    if steps > schema.COUNT:
        raise app.UsageError(
            f"--train_epochs={epochs} of {num_train} examples are {steps:,} "
            f"updates; expected at most {schema.COUNT:,}."
        )
    return steps


def options(flag_values: flags.FlagValues, num_train: int) -> room.Options:
    """The training room's options.

    Args:
        flag_values: Parsed flags, with those of `optimizer.define`.
        num_train: Training examples of the data set, at least 1.

    Raises:
        app.UsageError, ValueError: A flag is missing or out of range.
    """
    for name in ("output_dir", "batch_size"):
        _needed(flag_values, name)
    names = (*_CHOICES, *_COUNTS, *_SWITCHES, *_TEXTS, "seed")
    return room.Options(
        total_steps=total_steps(flag_values, num_train),
        diagnostics=bool(flag_values["diagnostics_every"].value),
        **{name: flag_values[name].value for name in names},
    )


def _needed(flag_values, name):
    value = flag_values[name].value
    if value is None:
        raise app.UsageError(f"--{name} is needed.")
    return value
