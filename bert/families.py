"""BERT's schedules by the flags of a program, as `lbcheck.settings.schedule`
has the others."""

from bert import schedule
from lbcheck.settings.schedule import FAMILIES as _GENERAL


def _powered(variant):
    def family(total_steps, learning_rate, warmup_steps, power=1.0):
        return variant(learning_rate, warmup_steps, total_steps, power)

    return family


def _plain(variant):
    def family(total_steps, learning_rate, warmup_steps):
        return variant(learning_rate, warmup_steps, total_steps)

    return family


FAMILIES = {
    name: (_powered if name in schedule.POWERED else _plain)(variant)
    for name, variant in schedule.VARIANTS.items()
} | _GENERAL
"""{value of --schedule: function of total_steps and of its flags}."""


fixed = FAMILIES["fixed"]
"""For arms of a study: "bert.families:fixed"."""

original = FAMILIES["original"]
"""The schedule whose rate drops after warm-up: "bert.families:original"."""
