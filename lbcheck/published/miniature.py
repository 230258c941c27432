"""A published run in miniature: minutes at most, on two cores, without a file.

One rule for each program, none for a row. What the papers are about stays as
it is: the optimizer with its exclusions, the form of the schedule, decay, label
smoothing, the ghost batches. Small are the data, the model, the batch and the
number of updates, and steps of the schedule are the same part of them. The
rates of momentum and Nesterov are in proportion to the batch; those of
adaptive and layer-wise methods, whose update does not grow with the gradient,
are as published. Its score cannot be compared with the paper's.

Source: Goyal et al. 2017, Section 2.1, for the rates.
"""

import fnmatch
from collections.abc import Mapping
from typing import Any

from lbcheck import schedules
from lbcheck.published.flagged import Settings

STEPS = 60
"""Updates of all phases together."""
_EVERY = 20
_BATCH = {"resnet.train": 256, "bert.pretrain": 128}
_FEWEST = 4
"""Updates of a phase."""

EXAMPLES = {"imagenet": 1_281_167, "cifar10": 50_000, "mnist": 60_000}
"""Training images of the published runs."""

_SET = {
    "resnet.train": {"data": "digits", "model": "resnet_small"},
    "bert.pretrain": {
        "bert_config": "1x64",
        "train_data": "embedded",
        "train_vocab": "1000",
        "max_seq_length": "32",
        "max_predictions_per_seq": "5",
        "dupe_factor": "2",
        "num_selection_examples": "256",
    },
    "bert.squad": {
        "train_file": "embedded",
        "predict_file": "embedded",
        "bert_config": "1x64",
        "max_seq_length": "64",
        "doc_stride": "32",
        "max_query_length": "24",
        "train_epochs": "4",
        "num_seeds": "1",
    },
}
_SECOND_PHASE = {
    "phase2_max_seq_length": "64",
    "phase2_max_predictions_per_seq": "10",
}
_WITHOUT = {
    "resnet.train": (
        "augment",
        "evaluation_batch_size",
        "preprocessing",
        "resnet_version",
    ),
    "bert.pretrain": ("*_data", "microbatch_size", "phase2_microbatch_size"),
    "bert.squad": (),
}
"""Flags of what is not in the miniature: files, ResNet-50, devices."""
_OF_THE_RUN = ("evaluate_every", "init_checkpoint", "train_epochs")

_STEPS = ("warmup_steps", "decay_end_step", "boundaries")
_RATES = ("learning_rate", "initial_learning_rate", "final_learning_rate")
_IN_PROPORTION = ("momentum", "nesterov")
"""Optimizers whose update is the rate times an average of gradients."""


def total_steps(found: Mapping[str, str]) -> int:
    """Updates of a run of `resnet.train`, or of a first phase, from its flags.

    >>> total_steps({"train_epochs": "30", "batch_size": "1024",
    ...              "data": "mnist"})
    1757
    """
    if "train_steps" in found:
        return int(found["train_steps"])
    return schedules.epochs_to_steps(
        float(found["train_epochs"]),
        int(found["batch_size"]),
        EXAMPLES[found["data"]],
        found.get("epoch_rule", "floor"),
    )


def settings(program: str, found: Settings) -> Settings:
    """The flags of the miniature.

    Args:
        program: Such as "resnet.train".
        found: {flag: value} at the scale of the paper.

    Example:
        >>> small = settings("resnet.train", {"optimizer": "lars",
        ...     "learning_rate": "29.0", "warmup_steps": "706",
        ...     "train_steps": "2512", "batch_size": "32768"})
        >>> [small[n] for n in ("learning_rate", "warmup_steps", "batch_size")]
        ['29.0', '17', '256']
    """
    scheduled = {} if program == "bert.squad" else _phases(program, found)
    dropped = (*_WITHOUT[program], *_OF_THE_RUN)
    kept = {
        flag: value
        for flag, value in found.items()
        if not any(fnmatch.fnmatch(flag, pattern) for pattern in dropped)
    }
    second = "phase2_train_steps" in found
    return {
        **kept,
        **_SET[program],
        **(_SECOND_PHASE if second else {}),
        **scheduled,
        "log_every": str(_EVERY),
        "checkpoint_every": str(_EVERY),
    }


def _phases(program, found):
    """Lengths, batches, steps of the schedule and rates, phase by phase."""
    batch = _BATCH[program]
    ratio = min(1.0, batch / int(found["batch_size"]))
    lengths = {"": total_steps(found)}
    if "phase2_train_steps" in found:
        lengths["phase2_"] = int(found["phase2_train_steps"])
    part = STEPS / sum(lengths.values())
    small = {}
    for phase, length in lengths.items():
        steps = max(_FEWEST, round(length * part))
        small[f"{phase}train_steps"] = str(steps)
        for name in _STEPS:
            if f"{phase}{name}" in found:
                small[f"{phase}{name}"] = _scaled_steps(
                    found[f"{phase}{name}"], steps / length
                )
        if f"{phase}batch_size" in found:
            own = int(found[f"{phase}batch_size"])
            small[f"{phase}batch_size"] = str(round(own * ratio))
        if found["optimizer"] in _IN_PROPORTION:
            small |= {
                phase + name: repr(float(found[phase + name]) * ratio)
                for name in _RATES
                if phase + name in found
            }
    return small


def _scaled_steps(text, part):
    """Steps, separated by commas, at that part of them; none becomes 0."""
    steps = [int(step) for step in text.split(",")]
    return ",".join(
        str(max(int(step > 0), round(step * part))) for step in steps
    )


def space(found: Mapping[str, Any], base: Mapping[str, str]) -> dict[str, Any]:
    """A search space for the miniature of the run that it starts from.

    Args:
        found: The content of the space's file.
        base: {flag: value} of the run at the scale of the paper.
    """
    ratio = min(1.0, _BATCH["resnet.train"] / int(base["batch_size"]))
    part = STEPS / total_steps(base)
    proportional = base["optimizer"] in _IN_PROPORTION
    parameters = {}
    for name, spec in found["parameters"].items():
        if "of" not in spec and name in _RATES and proportional:
            spec = _times(spec, ratio)
        if "of" not in spec and name in _STEPS:
            spec = _times(spec, part, round)
        parameters[name] = spec
    return {"points": found["points"], "parameters": parameters}


def _times(spec, factor, kind=float):
    """A specification whose numbers are multiplied."""
    numbers = {
        key: [kind(one * factor) for one in value]
        if isinstance(value, list)
        else kind(value * factor)
        for key, value in spec.items()
        if key in ("min", "max", "value", "values")
    }
    return spec | numbers
