"""Checks of the values, the warm-up, the peak and the jumps."""

import numpy as np

from lbcheck.schedules import pieces
from lbcheck.schedules.case import Case
from lbcheck.schedules.case import whole_ratio
from lbcheck.schedules.findings import ERROR
from lbcheck.schedules.findings import NOTE
from lbcheck.schedules.findings import Finding

_LEAST_GAP = 2e-3
"""Smallest difference between two rates that is reported, relative."""


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


def jumps(case: Case) -> list[Finding]:
    """Jumps: defects at the end of a warm-up or plateau, else notes."""
    found, steps_down, restarts = [], [], []
    spikes = _spikes(case)
    for jump in case.jumps:
        down = jump.after < jump.before
        sides = (jump.left, jump.right)
        if jump.index in spikes:
            found.append(_spike_finding(jump))
        elif jump.index - 1 in spikes:
            continue
        elif down and _is_defect(case, jump):
            found.append(_jump_finding(jump, "falls"))
        elif not down and _is_cut_short(jump):
            found.append(_jump_finding(jump, "leaps up"))
        elif down and pieces.RISING not in sides:
            steps_down.append(jump)
        else:
            restarts.append(jump)
    found.extend(
        _summary(
            "step_decay",
            steps_down,
            "the rate falls in steps",
            "none needed if this is a step schedule.",
        )
    )
    found.extend(
        _summary(
            "restart",
            restarts,
            "the rate leaps up or starts again",
            "none needed for warm restarts; else warm up again.",
        )
    )
    return found


def _spikes(case) -> set[int]:
    """Samples that leap away for one update and back."""
    indices = {jump.index for jump in case.jumps}
    spikes = set()
    for index in indices:
        if index + 1 not in indices:
            continue
        around = sorted(case.rates[[index - 1, index + 1]])
        apart = case.rates[index]
        if apart > 1.1 * around[1] or apart < 0.9 * around[0]:
            if around[1] - around[0] < 0.1 * abs(apart - around[0]):
                spikes.add(index)
    return spikes


def _spike_finding(jump):
    return Finding(
        "jump",
        ERROR,
        f"one update is at {jump.after:.6g}, those beside it are near "
        f"{jump.before:.6g}.",
        jump.step,
        abs(jump.change) * 100,
        "%",
        "the pieces of the schedule leave out, or both take, their boundary.",
        "use t < w for the one piece and t >= w for the other.",
    )


def _is_defect(case, jump) -> bool:
    """Whether a fall contradicts what came before it."""
    if len(case.rates) - jump.index < 4:
        # A decay of three updates may be that steep.
        return False
    if jump.left == pieces.RISING:
        # A sawtooth or a new phase falls back to where it rose from.
        rise = case.rates[: jump.index]
        again = jump.right == pieces.RISING and jump.after <= 0.1 * rise.max()
        return not again
    # A plateau or a decay that goes on elsewhere; steps end on plateaus.
    return jump.right == pieces.FALLING and not _decays_in_steps(case)


def _is_cut_short(jump) -> bool:
    """Whether a warm-up leaps to its peak; three updates show no shape."""
    rising = jump.left == pieces.RISING != jump.right
    return rising and jump.samples > 3


def _decays_in_steps(case) -> bool:
    """Whether falls are the habit of this schedule, as in warm restarts."""
    return len(case.jumps) > 2


def _jump_finding(jump, verb):
    size = abs(jump.change) * 100
    place = {
        pieces.RISING: "the moment warm-up ends",
        pieces.FLAT: "at the end of a plateau",
        pieces.FALLING: "in the middle of the decay",
    }[jump.left]
    return Finding(
        "jump",
        ERROR,
        f"the rate {verb} from {jump.before:.6g} to {jump.after:.6g} {place}.",
        jump.step,
        size,
        "%",
        "the peak is left at once: most of the run is at a lower rate than "
        "the one that was tuned."
        if verb == "falls"
        else "the shock that warm-up is to avoid.",
        "join the pieces: decay by ((T - t) / (T - w))^p from the peak at "
        "t = w, as lbcheck.schedules.PolynomialWarmupDecay.",
    )


def _summary(code, jumps, words, fix):
    if not jumps:
        return []
    listed = ", ".join(f"{jump.step:,}" for jump in jumps[:6])
    listed += ", ..." * (len(jumps) > 6)
    largest = max(
        abs(j.after - j.before) / max(abs(j.after), abs(j.before))
        for j in jumps
    )
    return [
        Finding(
            code,
            NOTE,
            f"{words} at {listed}.",
            jumps[0].step,
            largest * 100,
            "%",
            "momentum built at the old rate goes on at the new one.",
            fix,
        )
    ]


def decay_during_warmup(case: Case) -> list[Finding]:
    """A decay that was under way since step 0, hidden by the warm-up."""
    rise = case.rise
    if rise is None or rise.steps < 2:
        return []
    after = rise.index + 1
    stops = [jump.index for jump in case.jumps if jump.index > after]
    part = slice(after, stops[0] if stops else len(case.rates))
    if part.stop - part.start < 8:
        return []
    end, final = case.total, 0.0
    if case.end is not None and case.end.step > rise.steps:
        end, final = case.end
    start = pieces.decay_at_start(
        case.steps[part], case.rates[part], end, min(final, case.rates[-1])
    )
    if start is None:
        return []
    jumped = any(jump.index == part.start for jump in case.jumps)
    hidden = []
    # A warm-up from 0 passes through (0, 0): its limit is no coincidence.
    if not jumped and case.rates[0] <= 1e-3 * rise.limit:
        hidden = _hidden_limits(case)
    seen = [
        (top, rise.steps)
        for top in (rise.limit, case.peak, case.configured_peak)
    ]
    for top, step in [*hidden, *seen]:
        if not top or abs(start / top - 1) > 2e-3:
            continue
        shown = float(case.rates[np.searchsorted(case.steps, step)])
        if 1 - shown / top < _LEAST_GAP:
            continue
        found = [_hidden_decay(step, shown, top)]
        if (top, step) in hidden:
            ends = (pieces.RISING, pieces.FALLING)
            jump = pieces.Jump(part.start, step, top, shown, *ends, 0)
            found.insert(0, _jump_finding(jump, "falls"))
        return found
    return []


def _hidden_limits(case):
    """What a warm-up was heading for, where the fall is within one update.

    Only a straight warm-up says so well where it was heading. One update
    further is only looked at where the fall would be larger than
    that update's rise: a clean warm-up of w updates before T = w (w + 1)
    could be read as such a fall.
    """
    index = case.rise.index
    if index < 3 or index + 1 >= len(case.rates) or case.gap > 1:
        return []
    limits = []
    for last in (index, index + 1):
        first, second, third = case.rates[last - 3 : last]
        if abs(first - 2 * second + third) > 1e-5 * third:
            continue
        rise = third - second
        limit = float(third + rise)
        if last == index or limit - case.rates[last] > 1.2 * rise:
            limits.append((limit, int(case.steps[last])))
    return limits


def _hidden_decay(step, shown, top):
    return Finding(
        "decay_during_warmup",
        ERROR,
        f"the decay starts at step 0, not at the end of warm-up: at step "
        f"{step:,} it is down to {shown:.6g} of {top:.6g}.",
        step,
        (1 - shown / top) * 100,
        "%",
        "the peak rate is never held; the more warm-up, the lower the rate "
        "after it.",
        "shift the decay by the warm-up: decay(t - w) over T - w updates.",
    )


CHECKS = (
    first_update,
    warmup_length,
    warmup_never_ends,
    peak,
    jumps,
    decay_during_warmup,
)
"""Each takes a `Case` and returns its findings."""
