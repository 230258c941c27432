"""Checks of the values, the warm-up and the peak."""

import numpy as np

from lbcheck.schedules.case import Case
from lbcheck.schedules.case import whole_ratio
from lbcheck.schedules.findings import ERROR
from lbcheck.schedules.findings import NOTE
from lbcheck.schedules.findings import Finding


def values(samples) -> list[Finding]:
    """Rates that are no rates: negative, infinite or not a number."""
    found = []
    kinds = (
        ("not_finite", ~np.isfinite(samples.rates), "not a finite number"),
        ("negative", samples.rates < 0, "negative"),
    )
    for code, bad, words in kinds:
        if not np.any(bad):
            continue
        first = int(np.argmax(bad))
        found.append(
            Finding(
                code,
                ERROR,
                f"the rate is {words} ({samples.rates[first]:g}).",
                int(samples.steps[first]),
                float(np.count_nonzero(bad)),
                "updates",
                "such an update climbs the loss or destroys the weights.",
                "clamp T - t at 0 before any power, and the rate at 0.",
            )
        )
    return found


def first_update(case: Case) -> list[Finding]:
    """The rate of update 0: zero, or full without warm-up."""
    if case.highest == 0:
        return []
    if case.rates[0] == 0:
        return [
            Finding(
                "first_update_zero",
                NOTE,
                "the first update has rate 0 and changes nothing.",
                int(case.steps[0]),
                1.0,
                "updates",
                "a momentum buffer still takes in its gradient.",
                "none needed; (t + 1) / (w + 1) would use it.",
            )
        ]
    if case.rise is not None or case.rates[0] < 0.999 * case.highest:
        return []
    # A warm-up of one update from 1 / 1 is none to see.
    meant = bool(case.warmup and case.warmup > 1)
    words = f", though {case.warmup:,} updates are meant" if meant else ""
    return [
        Finding(
            "no_warmup",
            ERROR if meant else NOTE,
            f"the first update is at the full rate: there is no warm-up{words}"
            ".",
            int(case.steps[0]),
            100.0,
            "%",
            "large batches often diverge in the first updates without it.",
            "put lbcheck.schedules.Warmup around the schedule.",
        )
    ]


def warmup_length(case: Case) -> list[Finding]:
    """A warm-up that is not as long as meant."""
    rise, meant = case.rise, case.warmup
    if rise is None or not meant:
        return []
    if abs(rise.steps - meant) <= 1 + (case.gap if case.gap > 1 else 0):
        return []
    long, short = max(rise.steps, meant), min(rise.steps, meant)
    epoch = case.steps_per_epoch
    if epoch and abs(long - short * epoch) <= epoch:
        code, words = "epochs_for_steps", f"epochs of {epoch:,} updates"
    elif whole_ratio(long, short):
        code = "micro_steps"
        words = f"micro-steps, {whole_ratio(long, short)} to an update,"
    elif long >= 65 * short:
        code, words = "epochs_for_steps", "epochs"
    else:
        code, words = "warmup_length", None
    what = (
        f"warm-up ends at step {rise.steps:,}, {rise.steps / meant:.4g} times "
        f"the {meant:,} that are meant"
    )
    if words:
        what += f": {words} are taken for updates"
    return [
        Finding(
            code,
            ERROR,
            what + ".",
            rise.steps,
            rise.steps / meant,
            "x",
            "the whole schedule runs at another speed than the training.",
            f"count updates: warmup_steps={meant}, in the unit in which the "
            "optimizer counts.",
        )
    ]


def warmup_never_ends(case: Case) -> list[Finding]:
    """A warm-up that is still under way at the last update."""
    rise, evaluate = case.rise, case.samples.evaluate
    if rise is None or rise.index < len(case.rates) - 1 or evaluate is None:
        return []
    later = case.total * np.unique(np.geomspace(1, 2048, 200))
    later = np.unique(later.astype(np.int64))
    try:
        rates = evaluate(later)
    except ValueError:
        return []
    top = int(np.argmax(rates))
    falls = rates[-1] < 0.99 * rates[top]
    if not falls or rates[top] < 1.01 * rise.limit:
        return []
    return [
        Finding(
            "warmup_unfinished",
            ERROR,
            f"the rate still rises at the last update; it would peak near "
            f"step {later[top]:,}, {later[top] / case.total:.3g} times the "
            "run, and decay after.",
            int(case.steps[-1]),
            float(rise.limit / rates[top]) * 100,
            "%",
            "the run ends before the schedule begins: epochs were counted "
            "where the schedule counts updates, or the run is too short.",
            "give the schedule the number of updates of this run.",
        )
    ]


def peak(case: Case) -> list[Finding]:
    """A highest rate that is not the one that is meant."""
    meant, told = case.peak, "peak_rate"
    if meant is None:
        meant, told = case.configured_peak, "the schedule's own setting"
    if meant is None:
        return []
    ratio = case.highest / meant
    one_update = 0.0
    if case.rise is not None:
        index = case.rise.index
        one_update = abs(case.rates[index] - case.rates[index - 1]) / meant
    tolerance = 1e-3 + 1.5 * one_update
    known = case.peak is not None
    if abs(ratio - 1) <= tolerance or (
        not known and (ratio > 1 or case.rise is None)
    ):
        return []
    low = ratio < 1
    return [
        Finding(
            "peak_low" if low else "peak_high",
            ERROR,
            f"the highest rate is {case.highest:.6g}, {ratio:.3f} times the "
            f"{meant:.6g} of {told}.",
            int(case.steps[int(np.argmax(case.rates))]),
            ratio,
            "x",
            "the rate that was tuned is not the rate that is used.",
            "let the decay start at the end of warm-up, at the peak rate."
            if low
            else "warm up to the peak rate, not to the decay's start.",
        )
    ]


CHECKS = (
    first_update,
    warmup_length,
    warmup_never_ends,
    peak,
)
"""Each takes a `Case` and returns its findings."""
