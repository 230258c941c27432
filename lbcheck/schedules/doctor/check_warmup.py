"""Checks of the values, the warm-up and the peak."""

import numpy as np

from lbcheck.schedules.doctor import segments
from lbcheck.schedules.doctor.evidence import Case
from lbcheck.schedules.doctor.evidence import whole_ratio
from lbcheck.schedules.doctor.findings import ERROR
from lbcheck.schedules.doctor.findings import NOTE
from lbcheck.schedules.doctor.findings import Finding

_ROUNDING = 1e-6
"""Part of the highest rate by which float32 may miss 0."""
_SURE = 0.98
"""Part of the given peak by which two rows of rounded rates may miss it."""


def values(samples) -> list[Finding]:
    """Rates that are no rates: negative, infinite or not a number."""
    found = []
    finite = np.isfinite(samples.rates)
    highest = np.max(samples.rates[finite], initial=0.0)
    kinds = (
        ("not_finite", ~finite, "not a finite number"),
        ("negative", samples.rates < -_ROUNDING * highest, "negative"),
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


def usable(samples):
    """The samples with what is no rate put right, for the other checks.

    Negative rates become 0; those that are no numbers are drawn through.
    Beyond the run only the negative zeros of float32 are put right.
    """
    finite = np.isfinite(samples.rates)
    rates = np.interp(
        samples.steps, samples.steps[finite], samples.rates[finite]
    )
    least = -_ROUNDING * rates.max()

    def evaluate(steps):
        found = samples.evaluate(steps)
        return np.where((found < 0) & (found >= least), 0.0, found)

    return samples._replace(
        rates=np.maximum(rates, 0.0),
        evaluate=samples.evaluate and evaluate,
    )


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
    if case.steps[0] > 0:
        # A log may start after warm-up.
        return []
    # A warm-up of one update from 1 / 1 is none to see.
    meant = bool(case.warmup and case.warmup > 1)
    words = f", though {case.warmup:,} updates are intended" if meant else ""
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
    """A warm-up that is not as long as intended."""
    rise, meant = case.rise, case.warmup
    if rise is None or meant is None:
        return []
    tolerance = 1 + (case.gap if case.gap > 1 else 0)
    top = case.rates >= case.highest - 1.5 * case.quantum
    rows = int(np.count_nonzero(top))
    if case.is_log and 1 < rows < 0.1 * len(case.rates):
        # Rounding makes a plateau of the peak.
        tolerance += rows * case.gap
    earliest = min(rise.steps, int(case.steps[int(np.argmax(top))]))
    # Rounding up shows the peak as much too early as 1.5 units take.
    latest = 2 * rise.steps - earliest
    if earliest - tolerance <= meant <= latest + tolerance:
        return []
    if meant == 0:
        return [
            Finding(
                "warmup_length",
                ERROR,
                f"warm-up ends at step {rise.steps:,}, and none is intended.",
                rise.steps,
                float(rise.steps),
                "updates",
                "the first updates are smaller than they were meant to be.",
                "leave the warm-up out, or say how long it is meant to be.",
            )
        ]
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
        f"the intended {meant:,}"
    )
    if words:
        what += f": {words} are mistaken for updates"
    return [
        Finding(
            code,
            ERROR,
            what + ".",
            rise.steps,
            rise.steps / meant,
            "x",
            "the whole schedule runs faster or slower than the training.",
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
    """A highest rate that is not the intended one."""
    meant, source = case.peak, "peak_rate"
    if meant is None:
        meant, source = case.configured_peak, "the schedule's own peak rate"
    if meant is None:
        return []
    ratio = case.highest / meant
    low = ratio < 1
    tolerance = 1e-3 + case.quantum / meant
    known = case.peak is not None
    if (abs(ratio - 1) <= tolerance or case.is_printed(meant)) or (
        not known and (not low or case.rise is None)
    ):
        return []
    if low and (_between_updates(case, meant) or _between_rows(case, meant)):
        return []
    return [
        Finding(
            "peak_low" if low else "peak_high",
            ERROR,
            f"the highest rate is {case.highest:.6g}, {ratio:.3f} times the "
            f"{meant:.6g} of {source}.",
            int(case.steps[int(np.argmax(case.rates))]),
            ratio,
            "x",
            "the rate that was tuned is not the rate that is used.",
            "let the decay start at the end of warm-up, at the peak rate."
            if low
            else "warm up to the peak rate, not to the decay's start.",
        )
    ]


def _between_updates(case, meant) -> bool:
    """Whether the peak is what the warm-up would reach one update on."""
    if case.told_limit is not None:
        return True
    if case.rise is None or case.warmup not in (None, case.rise.index + 1):
        return False
    limits = (case.rise.limit, _next(case))
    return any(abs(limit / meant - 1) <= 1e-3 for limit in limits)


def _next(case) -> float:
    index = case.rise.index
    if index < 2:
        return 0.0
    limit = segments.heading(
        case.steps, case.rates, min(index + 1, len(case.steps) - 1)
    )
    return limit or 0.0


def _between_rows(case, meant) -> bool:
    """Whether the peak may lie unseen between two rows of a log."""
    if not case.is_log or case.gap == 1:
        return False
    if case.warmup and case.warmup in case.steps:
        # That row is at the peak, or one update off.
        return case.highest > meant * (1 - 2 / case.warmup)
    top = int(np.argmax(case.rates))
    after = int(np.searchsorted(case.steps, case.warmup or 0))
    if case.warmup and top in (after - 1, after) and not case.phase_starts:
        reached = max(_warmed_up(case, after), _before_decay(case, after))
        return reached > _SURE * meant - 2 * case.quantum
    beside = np.abs(np.diff(case.rates[max(top - 1, 0) : top + 2]))
    return case.highest > meant * (1 - 2 * beside.max() / case.highest)


def _warmed_up(case, after) -> float:
    """What the row before `after` is heading for, at the pace from 0."""
    if after == 0 or case.steps[after - 1] == 0:
        return 0.0
    pace = case.rates[after - 1] / case.steps[after - 1]
    return float(pace * case.warmup)


def _before_decay(case, after) -> float:
    """The most that a decay to the rows from `after` on can start at.

    That of an inverse square root, (c / (t - w + c))^0.5, through two rows:
    of the decays in use it falls the most before them.
    """
    if after + 2 > len(case.rates):
        return np.inf
    first, second = case.rates[after : after + 2]
    near, far = case.steps[after : after + 2] - case.warmup
    if first == second:
        return float(first)
    if not 0 < second < first:
        return np.inf
    square = (first / second) ** 2
    scale = (far - square * near) / (square - 1)
    return float(first * (1 + near / scale) ** 0.5) if scale > 0 else np.inf


CHECKS = (
    first_update,
    warmup_length,
    warmup_never_ends,
    peak,
)
"""Each takes a `Case` and returns its findings."""
