"""Flags of the image programs, and what they resolve to."""

import dataclasses
import functools
import inspect

from absl import app
from absl import flags

from lbcheck.settings import flag_usage
from lbcheck.settings import optimizer
from lbcheck.settings import schedule
from lbcheck.settings import training
from lbcheck.support import schema
from resnet import data
from resnet import models
from resnet.data import augmentation
from resnet.data import missing

_enum = flags.DEFINE_enum
_text = flags.DEFINE_string
_real = functools.partial(
    flags.DEFINE_float, lower_bound=0.0, upper_bound=flag_usage.LARGEST
)
_part = functools.partial(_real, upper_bound=1.0)
_count = functools.partial(
    flags.DEFINE_integer, lower_bound=0, upper_bound=schema.COUNT
)
_positive = functools.partial(_count, lower_bound=1)

_RESNETS = tuple(name for name in models.NAMES if name.startswith("resnet"))
_NORMED = (*_RESNETS, "davidnet")

_MODEL = {
    "virtual_batch_size": (
        _count,
        "Examples of a ghost batch, >= 0; 0: the whole batch of a replica.",
        _NORMED,
    ),
    "batch_norm_momentum": (
        _part,
        "Part of the moving statistics that an update keeps, in [0, 1).",
        _NORMED,
    ),
    "batch_norm_epsilon": (
        _real,
        "Number added to the variance, > 0.",
        _NORMED,
    ),
    "running_variance": (
        functools.partial(_enum, enum_values=["within", "total"]),
        "Moving variance: mean within the ghost batches, or the whole batch's.",
        _NORMED,
    ),
    "final_gamma": (
        functools.partial(
            flags.DEFINE_float, lower_bound=-10.0, upper_bound=10.0
        ),
        "Initial gamma of each residual block's last norm, -10 to 10.",
        _RESNETS,
    ),
    "padding": (
        functools.partial(_enum, enum_values=["paper", "same", "symmetric"]),
        "Padding of strided convolutions: see resnet.models.build.",
        _RESNETS,
    ),
    "resnet_version": (
        functools.partial(_enum, enum_values=["1.0", "1.5"]),
        "Which convolution of a bottleneck strides: the first or the 3x3.",
        ("resnet50", "resnet101", "resnet152"),
    ),
}
"""{flag: (how it is defined, help, models that use it)}."""

_DATA = {
    "data_dir": (
        _text,
        "Folder of the files, or tfds or tfds:/folder; unset: $LBCHECK_DATA.",
        ("mnist", "cifar10", "imagenet"),
    ),
    "augment": (
        functools.partial(_enum, enum_values=list(augmentation.NAMES)),
        "Augmentation in training; unset: the data set's own.",
        ("digits", "mnist", "cifar10"),
    ),
    "max_bad_records": (
        _count,
        "Broken images to skip, >= 0; one more is an error.",
        ("cifar10", "imagenet"),
    ),
    "image_size": (
        functools.partial(_positive, upper_bound=4096),
        "Height and width in pixels, 1 to 4096.",
        ("imagenet",),
    ),
    "preprocessing": (
        functools.partial(_enum, enum_values=["paper", "mlperf"]),
        "Image preprocessing: the paper's or MLPerf's.",
        ("imagenet",),
    ),
    "num_train_examples": (
        _positive,
        "Number of training records, >= 1; unset: they are counted.",
        ("imagenet",),
    ),
}
"""{flag: (how it is defined, help, data sets that use it)}."""


def define(flag_values: flags.FlagValues) -> None:
    """Defines all flags of an image program."""
    optimizer.define(flag_values)
    schedule.define(flag_values)
    training.define(flag_values)
    own = {"flag_values": flag_values}
    _enum("data", "digits", data.NAMES, "Data set.", **own)
    _enum("model", "resnet_small", models.NAMES, "Network.", **own)
    for name, (kind, text, _) in (_MODEL | _DATA).items():
        kind(name, None, help=text, **own)
    _part(
        "label_smoothing",
        0.0,
        help="Label smoothing of the loss, in [0, 1).",
        **own,
    )
    _real("l2", 0.0, help="Coefficient of l2/2 |w|^2 in the loss, >= 0.", **own)
    _enum(
        "l2_on",
        None,
        ["kernels", "all"],
        "Weights that --l2 applies to; unset: kernels.",
        **own,
    )


def check(flag_values: flags.FlagValues) -> None:
    """Refuses flags that no choice made uses, and those that are missing.

    Raises:
        app.UsageError: Names the flag, the choice and what would use it.
        ValueError: An unknown dialect.
    """
    optimizer.check(flag_values)
    schedule.check(flag_values)
    for chooser, table in (("model", _MODEL), ("data", _DATA)):
        users = {name: choices for name, (_, _, choices) in table.items()}
        flag_usage.check(flag_values, chooser, users)
    if flag_values["batch_norm_momentum"].value == 1:
        raise app.UsageError(
            "--batch_norm_momentum=1 leaves the moving statistics as they "
            "begin; expected a number in [0, 1)."
        )
    if flag_values["batch_norm_epsilon"].value == 0:
        raise app.UsageError(
            "--batch_norm_epsilon=0 divides by zero where a channel does not "
            "vary; expected a number above 0."
        )
    if flag_values["l2_on"].value and not flag_values["l2"].value:
        raise app.UsageError(
            "--l2_on does not apply to --l2=0; only an --l2 above 0 uses it "
            f"(received {flag_values['l2_on'].value})."
        )


def load(flag_values: flags.FlagValues):
    """The source of data that the flags describe.

    Raises:
        ValueError: A file is missing or broken; the message names it.
    """
    return data.load(
        flag_values["data"].value,
        seed=flag_values["seed"].value,
        **flag_usage.given(flag_values, _DATA),
    )


def load_or_published(flag_values: flags.FlagValues):
    """The source, or the data set as published where there are no files.

    Raises:
        ValueError: A file is broken; the message names it.
    """
    try:
        return load(flag_values)
    except missing.Missing as error:
        size = flag_values["image_size"].value or data.IMAGE_SIZE
        return missing.published(flag_values["data"].value, size, str(error))


def model(flag_values: flags.FlagValues, keras, source):
    """The model that the flags describe, for the images of `source`.

    Args:
        flag_values: Parsed flags.
        keras: The module `keras` or `tf_keras`.
        source: What `load` returned.
    """
    return models.build(
        flag_values["model"].value,
        keras,
        image_shape=source.image_shape,
        num_classes=source.num_classes,
        seed=flag_values["seed"].value,
        **model_settings(flag_values),
    )


def model_settings(flag_values: flags.FlagValues) -> dict:
    """Arguments of `resnet.models.build`, apart from name, data and seed."""
    given = flag_usage.given(flag_values, (*_MODEL, "l2", "l2_on"))
    if "resnet_version" in given:
        given["version"] = given.pop("resnet_version")
    if given.get("virtual_batch_size") == 0:
        given["virtual_batch_size"] = None
    return given


def options(flag_values: flags.FlagValues, source):
    """The `lbcheck.training.Options` of a run on `source`.

    Raises:
        app.UsageError, ValueError: A flag is missing or out of range.
    """
    return dataclasses.replace(
        training.options(flag_values, source.num_train),
        virtual_batch_size=_ghost_batch(flag_values),
    )


def _ghost_batch(flag_values):
    """Examples of a ghost batch; 0: those of a replica; None: no norm."""
    if flag_values["model"].value not in _NORMED:
        return None
    default = inspect.signature(models.build).parameters["virtual_batch_size"]
    given = flag_values["virtual_batch_size"].value
    return default.default if given is None else given
