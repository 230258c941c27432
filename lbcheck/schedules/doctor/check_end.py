"""Checks of how, and when, a schedule ends."""

import dataclasses

import numpy as np

from lbcheck.schedules.doctor import segments
from lbcheck.schedules.doctor.evidence import Case
from lbcheck.schedules.doctor.evidence import End
from lbcheck.schedules.doctor.evidence import whole_ratio
from lbcheck.schedules.doctor.findings import ERROR
from lbcheck.schedules.doctor.findings import NOTE
from lbcheck.schedules.doctor.findings import Finding

_FAR = 16
"""How many runs beyond the run the schedule's own end is looked for."""
_WASTE = 0.01
"""Part of a run at rate 0 that is no rounding."""
_EARLY = 0.01
"""A schedule over in this part of the run was counted in epochs."""


_FOOT = 3
"""Units of its last digit below which a rounded rate may be a decay's foot."""
_STEEP = 3
"""Power of the steepest foot that is taken for one."""
_FIT = 0.03
"""Part of what is left of a run by which a fitted decay may be off."""
_LOW = 1e-3
"""Part of the peak below which a last rate is held by no one on purpose."""
_VANISHED = 1e-6
"""Part of the peak below which a rate trains nothing."""


def own_end(samples, total: int) -> End | None:
    """The first step after which the rate is constant, if there is one.

    Looked for in the run and, where the schedule can be evaluated, up to
    16 times further.
    """
    steps, rates = samples.steps, samples.rates
    same = np.flatnonzero(rates != rates[-1])
    if not same.size:
        return None
    if samples.evaluate is None:
        if same[-1] + 2 >= len(rates):
            return None
        return End(int(steps[same[-1] + 1]), float(rates[-1]))
    # No multiple of a period: the points of a cycle would all agree.
    far = total * np.array([_FAR, _FAR + 0.37, 2.77 * _FAR, 3.1 * _FAR])
    try:
        last = samples.evaluate(far.astype(np.int64))
        if not np.all(np.isfinite(last)) or np.ptp(last) > 0:
            return None
        low, high = 0, int(far[0])
        if rates[-1] == last[0]:
            low, high = int(steps[same[-1]]), int(steps[same[-1]]) + 1
        while high - low > 1:
            grid = np.linspace(low, high, 17).astype(np.int64)
            differs = np.flatnonzero(samples.evaluate(grid) != last[0])
            index = differs[-1] if differs.size else 0
            low, high = int(grid[index]), int(grid[min(index + 1, 16)])
    except ValueError:
        # A schedule need not be defined beyond the run.
        return None
    return End(high, float(last[0]))


def _reaches(case: Case, offset: int | None) -> bool:
    """Whether the decay comes as close to zero as its last update can."""
    rates = case.rates
    if offset is not None or rates[-1] == 0:
        return True
    return rates[-1] <= 3 * abs(rates[-2] - rates[-1])


def end_of_run(case: Case) -> list[Finding]:
    """How the schedule stands at the last update."""
    if case.highest == 0:
        return [_always_zero(case)]
    last = int(case.steps[-1]) + 1
    if case.samples.evaluate is None and last + case.gap < case.total:
        return []
    zeros = _zero_tail(case)
    if zeros and not _rounding(case, zeros):
        if _fades(case):
            return [_rounded_to_zero(case, last - zeros)]
        return [_over_early(case, last - zeros)]
    held = _held_early(case)
    if held and held[0].severity == ERROR:
        return held
    over = _counted_in_epochs(case) or _vanished(case)
    if over:
        return over
    final = case.end.rate if case.end else 0.0
    offset = None
    if final < 0.5 * case.highest:
        offset = segments.decay_end_offset(
            case.steps, case.rates, case.total, min(final, case.rates[-1])
        )
    later = case.end.step > case.total if case.end else _is_zero_later(case)
    if offset == 1 and later:
        return [_one_late(case, final)] + _never_zero(case, final, offset)
    return held + (_too_long(case) or _never_zero(case, final, offset))


def _is_zero_later(case) -> bool:
    """Whether what has no end, such as 1 - t / (T + 1), is 0 one update late.

    A decay to a rate of about its last change passes 0 elsewhere.
    """
    if case.is_log:
        return False
    try:
        (later,) = case.samples.evaluate(np.array([case.total + 1]))
    except ValueError:
        return True  # nothing else is known than the run
    return bool(abs(later) <= 0.05 * abs(case.rates[-1] - case.rates[-2]))


def _always_zero(case):
    return Finding(
        "always_zero",
        ERROR,
        "the rate is 0 in every update.",
        0,
        float(case.total),
        "updates",
        "nothing is trained: a schedule that is over when the run starts, "
        "such as phase 2 on the step counter of phase 1.",
        "start the step counter of the phase at 0, or use "
        "lbcheck.schedules.Phases.",
    )


def _zero_tail(case) -> int:
    positive = np.flatnonzero(case.rates > 0)
    return int(case.steps[-1] - case.steps[positive[-1]])


def _rounding(case, zeros) -> bool:
    """Zeros that float32 makes of the foot of a cosine or of a power."""
    last = np.flatnonzero(case.rates > 0)[-1]
    foot = case.rates[last]
    if foot < 1e-20 * case.highest:
        return True
    if case.gap > 1:
        # What a steep foot has between two rows, below half of a last digit.
        left = case.total - case.steps[last : last + 2]
        if foot * (left[1] / left[0]) ** _STEEP < case.units[last] / 2:
            return True
    if zeros < 5 * _WASTE * case.total and foot < _FOOT * case.units[last]:
        return True
    if case.gap == 1 and segments.is_power(case.rates[: last + 1]):
        return False
    return zeros < _WASTE * case.total and foot < 1e-6 * case.highest


def _fades(case) -> bool:
    """Whether rounded rates may end in zeros and still decay to the end.

    The steps at which the rate falls below 1, 2, .. units of its last digit
    lie, at the foot of a power (T - t)^p, on a line over their logarithms;
    those of an exponential decay do so themselves.
    """
    last = np.flatnonzero(case.rates > 0)[-1]
    unit = case.units[last]
    if case.rates[last] >= _FOOT * unit:
        return False
    top = int(np.argmax(case.rates))
    steps, counts = case.steps[top:], np.round(case.rates[top:] / unit)
    if counts[0] < 3:
        return True  # too few digits to tell
    most = max(3.0, counts[0] / 4)
    levels = np.unique(np.geomspace(1, most, 12).round())
    rows = np.array([np.flatnonzero(counts >= n)[-1] for n in levels])
    below = (steps[rows] + steps[rows + 1]) / 2
    left = case.total - below
    for final in np.arange(0.0, 0.5, 0.05):  # units that it may end at
        logarithms = np.log(levels - 0.5 - final)
        line = np.polyfit(logarithms, np.log(left), 1)
        power = np.exp(np.polyval(line, logarithms))
        if np.all(abs(power - left) <= case.gap + _FIT * left):
            return True
    logarithms = np.log(levels - 0.5)
    line = np.polyfit(logarithms, below, 1)
    off = abs(np.polyval(line, logarithms) - below)
    return bool(np.all(off <= case.gap + _FIT * np.ptp(below)))


def _rounded_to_zero(case, step):
    return Finding(
        "rounded_to_zero",
        NOTE,
        f"the log says 0 from step {step:,} on, which may be its rounding: "
        "the rate before it fades as towards the end of the run.",
        step,
        100.0 * (case.total - step) / case.total,
        "%",
        "whether the schedule ends there cannot be told.",
        "log the rate with more digits, as the format .3e prints it.",
    )


def _over_early(case, end, rate=0.0):
    """The finding for a schedule at its last rate from step `end` on."""
    wasted = case.total - end
    ratio = whole_ratio(case.total, end)
    epochs = case.steps_per_epoch
    phase = [s for s in case.phase_starts if abs(s - end) <= 1]
    what = (
        f"the rate is {rate:.4g} from step {end:,} on: {wasted:,} of "
        f"{case.total:,} updates change " + ("little" if rate else "nothing")
    )
    fix = f"give the schedule total_steps={case.total}."
    if phase:
        code = "phase_restart_missing"
        what += "; the schedule does not start again with the new phase"
        fix = "use lbcheck.schedules.Phases, with a warm-up in each phase."
    elif (epochs and abs(case.total - end * epochs) <= 2 * epochs) or (
        end <= _EARLY * case.total
    ):
        code = "epochs_for_steps"
        what += "; it was made for epochs and is asked for updates"
        fix = "multiply its lengths by the updates of an epoch."
    elif ratio:
        code = "micro_steps"
        what += f"; it runs {ratio} times too fast, as if micro-steps counted"
        fix = (
            "count updates, not micro-batches, in the optimizer's step "
            f"counter; or make the schedule {ratio} times as long."
        )
    elif wasted == 1:
        code = "off_by_one"
        what = f"the rate reaches {rate:.4g} at the last update, one too early"
        fix = "decay over T, not T - 1: the last update has t = T - 1."
    else:
        code = "ends_early"
        what += "; a second phase that never starts, or a wrong total"
    return Finding(
        code,
        ERROR,
        what + ".",
        end,
        100.0 * wasted / case.total if wasted > 1 else 1.0,
        "%" if wasted > 1 else "updates",
        "these updates cost time and train nothing.",
        fix,
    )


def _held_early(case):
    """A decay over in the run, to a last rate above 0."""
    end = case.end
    if end is None or not case.steps[0] + 4 < end.step < case.total:
        return []
    if end.rate == 0 or end.rate > 0.5 * case.highest or case.gap > 1:
        return []
    index = end.step - int(case.steps[0])
    # Steps, and plateaus of rounding, end nowhere in particular.
    slopes = np.diff(case.rates[index - 4 : index + 1])
    if np.any(slopes >= 0) or any(j.index == index for j in case.jumps):
        return []
    if -slopes[-1] <= 1e-5 * end.rate + case.units[index]:
        return []
    finding = _over_early(case, end.step, end.rate)
    low = end.rate < _LOW * case.highest
    if low and finding.code != "ends_early":
        return [finding]
    # Further up a rate is held on purpose, unless a ratio says otherwise.
    one_piece = np.all(np.diff(case.rates[np.argmax(case.rates) : index]) <= 0)
    if finding.code == "micro_steps" and one_piece and not case.jumps:
        return [finding]
    if finding.code == "phase_restart_missing":
        return []
    code = "off_by_one" if finding.code == "off_by_one" else "ends_early"
    return [
        dataclasses.replace(
            finding,
            code=code,
            severity=NOTE,
            what=f"the decay ends at step {end.step:,} of {case.total:,}, "
            f"{end.rate:.4g} is held from there.",
            fix="none needed if that is meant.",
        )
    ]


def _vanished(case):
    """A schedule that is next to nothing for most of the run."""
    top = int(np.argmax(case.rates))
    low = case.rates[top:] < _VANISHED * case.highest
    if case.total < 200 or 2 * np.count_nonzero(low) <= len(case.rates):
        return []
    step = int(case.steps[top + np.argmax(low)])
    return [
        Finding(
            "epochs_for_steps",
            ERROR,
            f"from step {step:,} on the rate is below 1e-6 of its peak: the "
            "schedule was made for epochs and is asked for updates.",
            step,
            100.0 * (case.total - step) / case.total,
            "%",
            "these updates cost time and train nothing.",
            "multiply its lengths by the updates of an epoch.",
        )
    ]


def _counted_in_epochs(case):
    """A schedule that has done all its changes at once, at a low rate."""
    end = case.end
    if end is None or end.step > _EARLY * case.total or case.total < 200:
        return []
    changes = np.count_nonzero(np.diff(case.rates[: end.step + 1]))
    if changes < 2 or end.rate > 0.9 * case.highest:
        return []
    return [
        Finding(
            "epochs_for_steps",
            ERROR,
            f"all changes are over by step {end.step:,} of {case.total:,}; "
            f"the rest is at {end.rate:.4g}: it was made for epochs and is "
            "asked for updates.",
            end.step,
            100.0 * (case.total - end.step) / case.total,
            "%",
            "nearly the whole run is at the last rate.",
            "multiply its lengths by the updates of an epoch.",
        )
    ]


def _one_late(case, end):
    last = float(case.rates[-1])
    return Finding(
        "off_by_one",
        ERROR,
        f"the decay ends at step {case.total + 1:,}, one update after the "
        f"run: the last rate is {last:.4g}.",
        int(case.steps[-1]),
        1.0,
        "updates",
        f"the rate stops short of its end, {end:.4g}; small, but two codes "
        "that differ by it are not the same schedule.",
        "decay over T - w updates, not T - w + 1.",
    )


def _too_long(case):
    """A schedule whose own end lies a whole number of runs away."""
    end = case.end
    if end is None or end.step <= case.total + 1:
        return []
    left = (case.rates[-1] - end.rate) / case.highest
    warmup = case.rise.steps if case.rise else 0
    ratio = whole_ratio(end.step, case.total)
    if left < 0.02:
        return []
    if ratio and (not case.jumps or _plateau(case.rates) == ratio):
        return [
            Finding(
                "micro_steps",
                ERROR,
                f"the schedule ends at step {end.step:,}, {ratio} times the "
                f"run of {case.total:,} updates: it was made for micro-steps "
                "and is asked for updates.",
                int(case.steps[-1]),
                float(ratio),
                "x",
                f"the last rate is {100 * left:.0f} % of the peak above the "
                "end of the decay.",
                f"give the schedule total_steps={case.total}.",
            )
        ]
    cause = ""
    if warmup and abs(end.step - case.total - warmup) <= 1:
        cause = ": the decay after the warm-up was given all T updates"
    return [
        Finding(
            "never_zero",
            NOTE,
            f"the schedule ends at step {end.step:,}, after the run{cause}.",
            int(case.steps[-1]),
            float(100 * case.rates[-1] / case.highest),
            "%",
            "the last rate is that part of the peak, and never reaches zero.",
            f"let the decay end at step {case.total}.",
        )
    ]


def _plateau(rates) -> int | None:
    """The number of updates that every rate is held for, if it is one."""
    ends = np.flatnonzero(np.diff(rates))
    lengths = np.unique(np.diff(ends))
    return int(lengths[0]) if len(lengths) == 1 else None


def _never_zero(case, final, offset):
    if final < 1e-9 * case.highest and _reaches(case, offset):
        return []
    part = case.rates[-1] / case.highest
    return [
        Finding(
            "never_zero",
            NOTE,
            f"the rate does not reach zero: the last is {case.rates[-1]:.4g}.",
            int(case.steps[-1]),
            float(100 * part),
            "%",
            "the last rate is that part of the peak; the weights keep moving.",
            "none needed; a decay to zero often gains a little.",
        )
    ]


def phases(case: Case) -> list[Finding]:
    """Phases that should warm up again and do not."""
    found = []
    for start in case.phase_starts:
        index = int(np.searchsorted(case.steps, start))
        if not 1 <= index < len(case.rates) - 2:
            continue
        window = case.rates[index : index + max(8, len(case.rates) // 50)]
        ended = len(case.rates) - _zero_tail(case)
        low = window[0]
        if case.gap > 1:  # a short warm-up lies between two rows of a log
            low = min(low, case.rates[index - 1])
        if np.max(window) > 1.01 * low:
            continue
        if not np.any(window) and abs(ended - index) <= 1:
            # The zeros up to the end of the run are reported there.
            continue
        found.append(
            Finding(
                "phase_restart_missing",
                ERROR,
                f"the rate does not rise at step {start:,}, where a new phase "
                f"starts: it is {window[0]:.4g} and goes on.",
                start,
                float(100 * window[0] / case.highest),
                "%",
                "each phase has its own peak and its own warm-up from zero.",
                "use lbcheck.schedules.Phases, with a warm-up in each phase.",
            )
        )
    return found


CHECKS = (end_of_run, phases)
"""Each takes a `Case` and returns its findings."""
