"""What the second phase takes over from the first: done, and listed."""

import textwrap

from bert import schedule
from bert import settings
from lbcheck.optimizers import rule
from lbcheck.optimizers.arrays import NUMPY
from lbcheck.settings import command_line
from lbcheck.settings import optimizer
from lbcheck.support import text_table
from lbcheck.training import checkpoints

_MOMENTS = {"first_moment": "beta_1", "second_moment": "beta_2"}
_OF_THE_RUN = ("bert_config", "clip", "mixed_precision", "output_dir", "seed")


def without_correction(flag_values, optimizers) -> dict[bool, bool]:
    """Turns bias correction off in the flags.

    The count of updates, on which it depends, starts anew in phase 2, where
    moments that are kept must not be corrected as if they were new.

    Returns:
        {whether of the fallback: whether it was on}.
    """
    made = optimizer.make(flag_values, optimizers, 0.0)
    corrected = {
        of_fallback: getattr(used, "bias_correction", False)
        for of_fallback, used in _rules(made).items()
    }
    for of_fallback, was_on in corrected.items():
        if was_on:
            prefix = "fallback_" if of_fallback else ""
            flag_values[f"{prefix}bias_correction"].value = False
    return corrected


def _rules(made):
    """{whether of the fallback: rule}."""
    fallback = made._fallback.optimizer
    return {False: made.rule} | ({True: fallback.rule} if fallback else {})


def keep_state(made, folder, first, corrected: dict[bool, bool]) -> None:
    """Gives a new optimizer the moments that phase 1 ended with.

    If they are to be bias-corrected, they are so once, here, with the betas
    of phase 1:

        m = m_T / (1 - beta_1^T),  v = v_T / (1 - beta_2^T)

    From then on they remain means with weights of sum 1 without correction.

    Args:
        made: The optimizer, built; of the class and model of phase 1.
        folder: Record of phase 1, which made T updates: those that float16
            skipped moved no moment.
        first: The optimizer of phase 1; it need not be built.
        corrected: Whether they are, as `without_correction` returned.

    Raises:
        ValueError: There is no checkpoint, or its state is another one's.
    """
    found = checkpoints.of(folder).newest()
    if found is None:
        raise ValueError(f"{folder} holds no whole checkpoint.")
    _, arrays = found
    names = {
        id(variable): f"optimizer/{index}"
        for index, variable in enumerate(made.variables)
    }
    # Of no update at all the moments are 0, corrected or not.
    updates = max(1, int(arrays[names[id(made.update_count)]]))
    rules = _rules(first)
    for assignment, slots in zip(made.assignments, made._slots):
        of_slots = assignment.rule.slots_of(assignment.shape)
        for slot, variable in zip(of_slots, slots):
            kept = arrays.get(names[id(variable)])
            if kept is None or kept.shape != tuple(variable.shape):
                raise ValueError(
                    f"{folder}: no {slot.name} of {assignment.path} with "
                    f"shape {tuple(variable.shape)} in its checkpoint."
                )
            beta = _MOMENTS.get(slot.name)
            if corrected[assignment.fallback] and beta is not None:
                beta = getattr(rules[assignment.fallback], beta)
                kept = kept / rule.one_minus_power(NUMPY, beta, updates)
            variable.assign(kept)


def table(first, second, steps: tuple[int, int], rates) -> str:
    """What changes at the start of phase 2, as text.

    Args:
        first, second: Flags of the phases, see `bert.settings.phase`, with
            the initial checkpoint of phase 2.
        steps: Updates of both phases.
        rates: Their schedules.
    """
    rows = [
        ("weights", first.init_checkpoint or "random", second.init_checkpoint),
        ("update counter", f"0 to {steps[0]}", f"0 to {steps[1]}"),
        (
            "optimizer state",
            "zero",
            "of phase 1" if second.keep_optimizer_state else "zero",
        ),
        *(
            (name, *(f"{value:.6g}" for value in values))
            for name, values in (
                ("rate of the first update", [rate(0) for rate in rates]),
                ("highest rate", map(schedule.highest, rates, steps)),
                (
                    "rate of the last update",
                    [rate(count - 1) for rate, count in zip(rates, steps)],
                ),
            )
        ),
        *_differences(first, second),
    ]
    table = text_table.text_table(("", "phase 1", "phase 2"), rows)
    return "Hand-over:\n" + textwrap.indent(table, "  ")


def _differences(first, second):
    """Rows of the phases' flags that are not shown otherwise."""
    values = [command_line.values(flags) for flags in (first, second)]
    skipped = {*_OF_THE_RUN, "init_checkpoint"}
    for name in settings.phase_flags():
        shown = [_text(found.get(name)) for found in values]
        if name not in skipped and shown != ["", ""]:
            yield (name, *shown)


def _text(value):
    if isinstance(value, list):
        return ",".join(value) or "none"
    return "" if value is None else str(value)
