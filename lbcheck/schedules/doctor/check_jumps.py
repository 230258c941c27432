"""Checks of the jumps of a schedule, seen and hidden."""

import numpy as np

from lbcheck.schedules.doctor import segments
from lbcheck.schedules.doctor.evidence import Case
from lbcheck.schedules.doctor.findings import ERROR
from lbcheck.schedules.doctor.findings import NOTE
from lbcheck.schedules.doctor.findings import Finding

_LEAST_GAP = 2e-3
"""Smallest difference between two rates that is reported, relative."""


def jumps(case: Case) -> list[Finding]:
    """Jumps: defects at the end of a warm-up or plateau, else notes."""
    found, steps_down, restarts = [], [], []
    spikes = _spikes(case)
    for jump in case.jumps:
        down = jump.after < jump.before
        sides = (jump.left, jump.right)
        if jump.index in spikes:
            found.append(_spike_finding(jump))
        elif jump.index - 1 in spikes or (down and -jump.change < _LEAST_GAP):
            continue
        elif down and _is_defect(case, jump):
            found.append(_jump_finding(jump, "falls"))
        elif not down and _is_cut_short(case, jump):
            found.append(_jump_finding(jump, "leaps up"))
        elif down and segments.RISING not in sides:
            steps_down.append(jump)
        elif jump.step == case.total - 1 and case.gap == 1 and not down:
            found.append(_late_restart(jump))
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
        f"one update has the rate {jump.after:.6g}, its neighbours are near "
        f"{jump.before:.6g}.",
        jump.step,
        abs(jump.change) * 100,
        "%",
        "the boundary of two pieces of the schedule belongs to neither or to "
        "both.",
        "use t < w for the one piece and t >= w for the other.",
    )


def _late_restart(jump):
    return Finding(
        "off_by_one",
        ERROR,
        f"the last update alone starts again, at {jump.after:.6g}: the piece "
        "of the schedule before it ends one update too early.",
        jump.step,
        1.0,
        "updates",
        "the weights that are kept are those after this update.",
        "divide the run so that its pieces are T updates together.",
    )


def _is_defect(case, jump) -> bool:
    """Whether a fall contradicts what came before it."""
    if len(case.rates) - jump.index < 4:
        # A decay of three updates may be that steep.
        return False
    if jump.left == segments.RISING:
        # A sawtooth or a new phase falls back to where it rose from.
        rise = case.rates[: jump.index]
        again = jump.right == segments.RISING and jump.after <= 0.1 * rise.max()
        return not again and not _one_of_equal_steps(case, jump)
    # A plateau or a decay that goes on elsewhere; steps end on plateaus.
    return jump.right == segments.FALLING and not _decays_in_steps(case)


def _one_of_equal_steps(case, jump) -> bool:
    """Whether all later jumps are falls by the same part: a staircase.

    By the same part of the rate before, or of what that was heading for, as
    where the stairs come down while a warm-up still rises.
    """
    later = [j for j in case.jumps if j.index >= jump.index]
    index = np.array([j.index for j in later])
    parts = case.rates[index] / case.rates[index - 1]
    changes = [j.change for j in later]
    equal = min(np.ptp(parts), np.ptp(changes)) < 1e-3
    return len(later) > 2 and bool(equal)


def _is_cut_short(case, jump) -> bool:
    """Whether a warm-up leaps to its peak; three updates show no shape."""
    rising = jump.left == segments.RISING != jump.right
    return rising and jump.samples > 3 and not _is_stair(case, jump)


def _is_stair(case, jump) -> bool:
    """Whether a leap is the next stair of a rise that holds between them."""
    rises = np.diff(case.rates[: jump.index])
    rises = rises[max([-1, *np.flatnonzero(rises < 0)]) + 1 :]
    stairs = rises[rises > 0]
    leap = jump.after - case.rates[jump.index - 1]
    return (
        0 < len(stairs) < len(rises)
        and stairs.min() > 0.4 * stairs.max()
        and leap <= 1.1 * stairs.max()
    )


def _decays_in_steps(case) -> bool:
    """Whether falls are the habit of this schedule, as in warm restarts."""
    return len(case.jumps) > 2


def _jump_finding(jump, verb):
    size = abs(jump.change) * 100
    place = {
        segments.RISING: "the moment warm-up ends",
        segments.FLAT: "at the end of a plateau",
        segments.FALLING: "in the middle of the decay",
    }[jump.left]
    return Finding(
        "jump",
        ERROR,
        f"the rate {verb} from {jump.before:.6g} to {jump.after:.6g} {place}.",
        jump.step,
        size,
        "%",
        "the rate leaves the peak at once: most of the run has a lower rate "
        "than the one that was tuned."
        if verb == "falls"
        else "this is the shock that warm-up should avoid.",
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
            "momentum that was built up at the old rate acts at the new one.",
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
    start = segments.decay_at_start(
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
        if 1 - shown / top < max(_LEAST_GAP, _between_rows(case)):
            continue
        found = [_hidden_decay(step, shown, top)]
        if (top, step) in hidden:
            ends = (segments.RISING, segments.FALLING)
            jump = segments.Jump(part.start, step, top, shown, *ends, 0)
            found.insert(0, _jump_finding(jump, "falls"))
        return found
    return []


def _hidden_limits(case):
    """What a warm-up was heading for, where the fall is within one update.

    One update further is only looked at where warm-up is said to end there,
    the fall would be larger than that update's rise, or the decay does not
    start at the highest rate: a clean warm-up of w updates before
    T = w (w + 1) could be read as a fall.
    """
    index = case.rise.index
    if index < 3 or index + 1 >= len(case.rates) or case.gap > 1:
        return []
    limits = []
    for last in (index, index + 1):
        limit = segments.heading(case.steps, case.rates, last)
        if limit is None:
            continue
        rise = limit - case.rates[last - 1]
        steep = limit - case.rates[last] > 1.2 * rise
        step = int(case.steps[last])
        told = last == index or step == case.warmup
        if told or steep or _breaks(case.rates, last, rise):
            limits.append((limit, step))
    return limits


def _breaks(rates, start, rise) -> bool:
    """Whether the decay from `start` on does not pass the rate before."""
    if start + 3 > len(rates):
        return False
    first, second, third = rates[start : start + 3]
    passes = 3 * first - 3 * second + third
    return abs(passes - rates[start - 1]) > 0.02 * rise + 1e-5 * first


def _between_rows(case) -> float:
    """By which part a rate falls unseen between two rows of a log."""
    if not case.is_log or case.gap == 1:
        return 0.0
    changes = np.abs(np.diff(case.rates[case.rise.index :]))
    return 1.5 * float(changes[:2].max(initial=0.0)) / case.rise.limit


def told_peak(case: Case) -> list[Finding]:
    """A warm-up to the given peak, whose end is below it."""
    limit = case.told_limit
    if limit is None:
        return []
    index = int(np.searchsorted(case.steps, case.warmup))
    shown = case.rates[index : index + 2]
    if len(shown) < 2 or index + 4 > len(case.rates):
        return []
    one_update = 1.5 * abs(shown[1] - shown[0])
    if limit - shown[0] < max(_LEAST_GAP * limit, one_update):
        return []
    ends = (segments.RISING, segments.FALLING)
    step = int(case.steps[index])
    jump = segments.Jump(index, step, limit, float(shown[0]), *ends, 0)
    return [_jump_finding(jump, "falls")]


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


CHECKS = (jumps, decay_during_warmup, told_peak)
"""Each takes a `Case` and returns its findings."""
