"""Rules that turn a batch size into the settings of a schedule."""

import fractions
import math
from typing import NamedTuple

from lbcheck.schedules import base

IMAGENET_EXAMPLES = 1_281_167
"""Training images of ImageNet, ILSVRC 2012."""

_BERT_EXAMPLES = 32_768 * 15_625
_RULES = ("floor", "ceil", "mlperf4")


class Settings(NamedTuple):
    """What a scaling rule says about one batch size.

    Attributes:
        peak_rate: Rate at the end of warm-up.
        warmup_steps: Updates of warm-up.
        total_steps: Updates of the run.
        warmup: Warm-up in the rule's own unit: a fraction of the run for
            `lamb_bert`, epochs for the ImageNet rules.
        boundaries: Steps at which the rate falls, for `goyal_imagenet`.
    """

    peak_rate: float
    warmup_steps: int
    total_steps: int
    warmup: float
    boundaries: tuple[int, ...] = ()


def _check_batch(owner, name, value):
    return base.check_count(owner, name, value, 1)


def linear_rule(rate: float, batch_size: int, new_batch_size: int) -> float:
    """The rate for another batch size: rate * new / old.

    Args:
        rate: Rate at `batch_size`, at least 0.
        batch_size: Examples of one update, at least 1.
        new_batch_size: The same, for which a rate is wanted.

    Returns:
        The rate.

    Raises:
        TypeError, ValueError: If an argument is outside its range.

    Example:
        >>> linear_rule(0.1, 256, 8192)
        3.2

    Source: Goyal et al. 2017, Section 2.1.
    """
    rate = base.check_real("linear_rule", "rate", rate)
    old = _check_batch("linear_rule", "batch_size", batch_size)
    new = _check_batch("linear_rule", "new_batch_size", new_batch_size)
    return rate * (new / old)


def square_root_rule(
    rate: float, batch_size: int, new_batch_size: int
) -> float:
    """The rate for another batch size: rate * sqrt(new / old).

    Args:
        rate: Rate at `batch_size`, at least 0.
        batch_size: Examples of one update, at least 1.
        new_batch_size: The same, for which a rate is wanted.

    Returns:
        The rate.

    Raises:
        TypeError, ValueError: If an argument is outside its range.

    Example:
        >>> square_root_rule(0.005, 32768, 8192)
        0.0025

    Source: You et al. 2019, Section 4.1.
    """
    rate = base.check_real("square_root_rule", "rate", rate)
    old = _check_batch("square_root_rule", "batch_size", batch_size)
    new = _check_batch("square_root_rule", "new_batch_size", new_batch_size)
    return rate * math.sqrt(new / old)


def epochs_to_steps(
    epochs: float,
    batch_size: int,
    examples: int = IMAGENET_EXAMPLES,
    rule: str = "floor",
) -> int:
    """Updates of a number of epochs, by the three rules of the papers.

        floor:   floor(epochs * examples / batch_size)
        ceil:    ceil(epochs * examples / batch_size)
        mlperf4: floor(epochs / 4 * ceil(4 * examples / batch_size))

    The third counts four epochs, the interval of MLPerf's evaluations, as a
    whole number of updates.

    Args:
        epochs: Passes over the data, at least 0.
        batch_size: Examples of one update, at least 1.
        examples: Examples of one epoch, at least 1.
        rule: "floor", "ceil" or "mlperf4".

    Returns:
        The updates.

    Raises:
        TypeError, ValueError: If an argument is outside its range.

    Example:
        >>> epochs_to_steps(64, 32768, rule="mlperf4")
        2512
        >>> [epochs_to_steps(n, 32768) for n in (68, 72)]
        [2658, 2815]
        >>> epochs_to_steps(90, 16384, rule="ceil")
        7038

    Source: Nado et al. 2021: 2,512 (Table 5) by "mlperf4", 2,658 and 2,815
    (Tables 9 to 19) by "floor"; You et al. 2019: 7,038 (Tables 9 to 25) by
    "ceil"; the rules are inferred from the numbers.
    """
    owner = "epochs_to_steps"
    base.check_real(owner, "epochs", epochs)
    batch = _check_batch(owner, "batch_size", batch_size)
    count = _check_batch(owner, "examples", examples)
    if rule not in _RULES:
        raise ValueError(
            f"{owner}: `rule` must be one of {list(_RULES)}, received {rule!r}."
        )
    # Exact: 0.1 epochs is the decimal number, not its binary neighbour.
    exact = fractions.Fraction(str(epochs))
    if rule == "mlperf4":
        return math.floor(exact * -(-4 * count // batch) / 4)
    updates = exact * count / batch
    return math.ceil(updates) if rule == "ceil" else math.floor(updates)


def lamb_bert(batch_size: int) -> Settings:
    """LAMB's rate and warm-up for BERT, at a fixed number of epochs.

        peak = 5e-3 sqrt(B / 32768),    warm-up = T / 5 * B / 32768

    Args:
        batch_size: B, examples of one update, 1 to 163,840.

    Returns:
        Settings over all T = 512,000,000 / B updates of both phases, of
        which 9/10 at sequence length 128; `warmup` is a fraction of T.

    Raises:
        TypeError, ValueError: If the batch size is outside its range.

    Example:
        >>> lamb_bert(8192)[:3]
        (0.0025, 3125, 62500)

    Source: You et al. 2019, Section 4.1 and Table 4.
    """
    batch = _check_batch("lamb_bert", "batch_size", batch_size)
    ratio = batch / 163_840
    if ratio > 1:
        raise ValueError(
            "lamb_bert: `batch_size` must be at most 163840, where the rule's "
            f"warm-up fills the run, received {batch_size!r}."
        )
    total = _BERT_EXAMPLES // batch
    return Settings(
        peak_rate=square_root_rule(5e-3, 32_768, batch),
        warmup_steps=min(round(ratio * total), total),
        total_steps=total,
        warmup=ratio,
    )


def lamb_imagenet(batch_size: int, rule: str = "ceil") -> Settings:
    """LAMB's rate and warm-up for ResNet-50, 90 epochs of ImageNet.

        peak = 4e-2 sqrt(B / 32768),    warm-up = 20 B / 32768 epochs

    Args:
        batch_size: B, examples of one update, 1 to 147,456.
        rule: As for `epochs_to_steps`.

    Returns:
        Settings; `warmup` is in epochs.

    Raises:
        TypeError, ValueError: If an argument is outside its range.

    Example:
        >>> lamb_imagenet(8192)[:3], lamb_imagenet(8192).warmup
        ((0.02, 782, 14076), 5.0)

    Source: You et al. 2019, Section 4.2 and Table 5.
    """
    batch = _check_batch("lamb_imagenet", "batch_size", batch_size)
    epochs = 20 * batch / 32_768
    if epochs > 90:
        raise ValueError(
            "lamb_imagenet: `batch_size` must be at most 147456, where the "
            f"rule's warm-up fills the run, received {batch_size!r}."
        )
    return Settings(
        peak_rate=square_root_rule(4e-2, 32_768, batch),
        warmup_steps=epochs_to_steps(epochs, batch, rule=rule),
        total_steps=epochs_to_steps(90, batch, rule=rule),
        warmup=epochs,
    )


def goyal_imagenet(batch_size: int, rule: str = "ceil") -> Settings:
    """Goyal's linear rule for ResNet-50, 90 epochs of ImageNet.

        peak = 0.1 B / 256,    warm-up = 5 epochs, x0.1 at 30, 60 and 80

    Args:
        batch_size: B, examples of one update, at least 1.
        rule: As for `epochs_to_steps`.

    Returns:
        Settings for `GoyalSteps`; `warmup` is in epochs.

    Raises:
        TypeError, ValueError: If an argument is outside its range.

    Example:
        >>> goyal = goyal_imagenet(8192)
        >>> goyal.peak_rate, goyal.warmup_steps, goyal.boundaries
        (3.2, 782, (4692, 9384, 12512))

    Source: Goyal et al. 2017, Sections 2.1, 2.2 and 5.1.
    """
    batch = _check_batch("goyal_imagenet", "batch_size", batch_size)
    return Settings(
        peak_rate=linear_rule(0.1, 256, batch),
        warmup_steps=epochs_to_steps(5, batch, rule=rule),
        total_steps=epochs_to_steps(90, batch, rule=rule),
        warmup=5.0,
        boundaries=tuple(
            epochs_to_steps(epoch, batch, rule=rule) for epoch in (30, 60, 80)
        ),
    )
