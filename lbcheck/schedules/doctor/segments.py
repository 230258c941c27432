"""Where a sampled schedule jumps, and what it does on either side.

A step is a jump when the rate changes by much more than in the updates
around it. Whether that is a defect is decided by the trends on both sides:
a plateau that falls to a plateau is a step schedule, a warm-up that falls
is a bug.
"""

from typing import NamedTuple

import numpy as np

_STEEPER = 2.5
"""A jump is this many times the change of the updates around: more than
the first change of sqrt(t), sqrt(2) - 1 = 1 / 2.41 of the one before."""
_LEAST = 1e-3
"""Smallest jump, relative to the neighbouring rate."""
_NOISE = 4e-7
"""Relative change that float32 cannot tell from none."""
_POWER = 0.02
"""Relative error of a decay that is a power of what is left."""

RISING = "rising"
FLAT = "flat"
FALLING = "falling"


class Jump(NamedTuple):
    """A discontinuity between two samples.

    Attributes:
        index: Index of the sample after it.
        step: Its step.
        before: Limit of the rate from the left, at `step`.
        after: The rate at `step`.
        left: Trend just before: "rising", "flat" or "falling".
        right: Trend after.
        samples: How many samples lie before it, back to the last jump.
    """

    index: int
    step: int
    before: float
    after: float
    left: str
    right: str
    samples: int

    @property
    def change(self) -> float:
        """(after - before) / before, infinite where before is 0."""
        if self.before == 0:
            return float("inf")
        return (self.after - self.before) / self.before


def find_jumps(steps, rates, warmup_steps=None, units=None) -> list[Jump]:
    """The jumps of a schedule sampled at increasing steps.

    Args:
        steps: Integers, increasing.
        rates: Finite rates at these steps.
        warmup_steps: Where warm-up ends, if that is known; else it is taken
            to end at the sample after the jump.
        units: What the last digit of each rate is worth, where they are
            rounded; None: they are not.

    Returns:
        The jumps, in order.

    Example:
        >>> steps = np.arange(30)
        >>> rates = np.where(steps < 10, steps / 10, 0.6 - steps / 100)
        >>> (jump,) = find_jumps(steps, rates)
        >>> jump.step, round(jump.before, 9), jump.after, jump.left, jump.right
        (10, 1.0, 0.5, 'rising', 'falling')
    """
    if len(steps) < 4:
        return []
    units = np.zeros(len(rates)) if units is None else units
    gaps = np.diff(steps)
    changes = np.diff(rates)
    slopes = changes / gaps
    beside = np.maximum(np.abs(rates[1:]), np.abs(rates[:-1]))
    usual = _STEEPER * _usual_slopes(np.abs(slopes))
    # A rise that turns into a fall has no reason to fall faster than after.
    turns = np.flatnonzero((slopes[:-2] > 0) & (slopes[1:-1] < 0)) + 1
    after = 4 * np.abs(slopes[turns + 1])
    usual[turns] = np.minimum(usual[turns], after)
    limit = usual * gaps + _LEAST * beside + 1e-6 * np.max(np.abs(rates))
    # In a pause, rounding hides a unit for each row that it leaves out.
    rows = np.maximum(gaps * _usual_slopes(1 / gaps), 1)
    limit += 1.5 * rows * np.maximum(units[1:], units[:-1])
    found = [
        index + 1
        for index in np.flatnonzero(np.abs(changes) > limit)
        if 0 < index < len(changes)
        and not _accelerates(slopes, index)
        and not _eases(slopes, index)
    ]
    bounds = [0, *found, len(rates)]
    wide = max(6, len(rates) // 20)
    jumps = []
    for number, index in enumerate(found):
        left = slice(bounds[number], index)
        right = slice(index, bounds[number + 2])
        # The last two rates of a rounded rise may well be the same.
        alike = abs(rates[index - 1] - rates[index - 2]) < 2 * units[index - 1]
        near = wide if alike else 2
        before = _limit(
            steps[left], rates[left], int(steps[index]), warmup_steps
        )
        trend = _trend(rates[left][-near:], units[left][-near:])
        if trend == RISING:  # by stairs, a curve through them may fall
            before = max(before, float(rates[index - 1]))
        jumps.append(
            Jump(
                index=index,
                step=int(steps[index]),
                before=before,
                after=float(rates[index]),
                left=trend,
                right=_trend(rates[right][:wide], units[right][:wide]),
                samples=index - bounds[number],
            )
        )
    return jumps


def _usual_slopes(slopes):
    """For each interval, the steeper of the medians of 3 on either side."""
    nothing = np.full(3, np.nan)
    padded = np.concatenate([nothing, slopes, nothing])
    windows = np.lib.stride_tricks.sliding_window_view(padded, 3)
    left, right = windows[: len(slopes)].copy(), windows[4:].copy()
    # At the ends only one side exists.
    left[0], right[-1] = right[0], left[-1]
    return np.maximum(np.nanmedian(left, 1), np.nanmedian(right, 1))


def _accelerates(slopes, index) -> bool:
    """Whether the change goes on with the growth of the two before it."""
    if index < 2 or slopes[index - 1] * slopes[index] <= 0:
        return False
    before, last = abs(slopes[index - 2]), abs(slopes[index - 1])
    if before == 0 or last <= before * 1.2:
        return False
    return abs(slopes[index]) <= 1.5 * last * (last / before)


def _eases(slopes, index) -> bool:
    """Whether the change starts a fall that slows down: sqrt, exponential."""
    after = slopes[index : index + 4]
    if len(after) < 4 or np.any(after * after[0] <= 0):
        return False
    ratios = after[1:] / after[:-1]
    # A row of a log may hold only a part of the first change.
    geometric = abs(ratios[2] - ratios[1]) < 0.02 * ratios[1]
    if geometric and ratios[0] >= 0.95 * ratios[1]:
        return True
    slowing = np.all(np.diff(ratios) > 1e-3) and ratios[-1] < 1
    # 1 / t, the steepest in use, has 1 / 3 first.
    return bool(slowing and ratios[0] > 0.32)


def heading(steps, rates, index: int) -> float | None:
    """The rate that a warm-up of one power was heading for at a sample.

    Args:
        steps: Steps, from 0.
        rates: Their rates.
        index: Index of the sample; those before it are the warm-up.

    Returns:
        The rate, or None where the samples before are no power of the step
        and no straight line.

    Example:
        >>> steps = np.arange(9)
        >>> round(heading(steps, (steps / 8) ** 2.0, 8), 9)
        1.0
    """
    if index < 2:
        return None
    if rates[0] == 0 and steps[0] == 0 and index >= 4:
        if np.any(rates[1:index] <= 0):
            return None
        x, y = np.log(steps[1:index]), np.log(rates[1:index])
        line = np.polyfit(x, y, 1)
        if np.max(np.abs(np.polyval(line, x) - y)) > 2e-6:
            return None
        return float(np.exp(np.polyval(line, np.log(steps[index]))))
    rise = rates[index - 1] - rates[index - 2]
    before = rates[index - 2] - rates[index - 3] if index > 2 else rise
    if abs(rise - before) > 1e-5 * rates[index - 1]:
        return None
    return float(rates[index - 1] + rise)


def _limit(steps, rates, step, warmup_steps):
    """The rate that the samples before a jump were heading for."""
    if len(rates) < 2:
        return float(rates[-1])
    if warmup_steps is not None and steps[-1] < warmup_steps < step:
        step = warmup_steps
    if warmup := heading(np.append(steps, step), rates, len(rates)):
        return warmup
    count = min(3, len(rates))
    # Through the last three points: exact for linear and quadratic warm-up.
    x = (steps[-count:] - steps[-1]) / (step - steps[-1])
    return float(np.polyval(np.polyfit(x, rates[-count:], count - 1), 1.0))


def _trend(rates, units):
    change = rates[-1] - rates[0]
    if abs(change) <= _NOISE * np.max(np.abs(rates)) + units.max():
        return FLAT
    return RISING if change > 0 else FALLING


class Warmup(NamedTuple):
    """The rise that a schedule starts with.

    Attributes:
        index: Index of its highest sample.
        steps: Where it ends: the step of that sample, or the next where a
            jump follows.
        limit: Rate that it rises to.
    """

    index: int
    steps: int
    limit: float


def find_warmup(steps, rates, jumps) -> Warmup | None:
    """The rise from the first update on; None where there is none.

    Example:
        >>> rates = np.array([0, 0.5, 1.0, 0.9, 0.8, 0.7])
        >>> find_warmup(np.arange(6), rates, [])
        Warmup(index=2, steps=2, limit=1.0)
    """
    falls = np.flatnonzero(np.diff(rates) < -_NOISE * np.abs(rates[:-1]))
    last = falls[0] if falls.size else len(rates) - 1
    top = rates[: last + 1].max()
    index = int(np.argmax(rates >= top * (1 - _NOISE / 2)))
    if index == 0 or rates[index] <= rates[0] * 1.001:
        return None
    for jump in jumps:
        if jump.index == index + 1 and jump.left == RISING:
            return Warmup(index, jump.step, jump.before)
    return Warmup(index, int(steps[index]), float(rates[index]))


def decay_at_start(steps, rates, end: int, final: float) -> float | None:
    """The rate at step 0 of the decay that these samples belong to.

    Tries a polynomial and a cosine that end at `end`, and an exponential;
    takes the one that fits best.

    Args:
        steps: Steps of the decaying part.
        rates: Its rates.
        end: Step at which it reaches `final`.
        final: Its final rate.

    Returns:
        The rate at step 0, or None where none of the three fits.

    Example:
        >>> steps = np.arange(20, 100)
        >>> round(decay_at_start(steps, 3 * (1 - steps / 100) ** 2, 100, 0), 9)
        3.0
    """
    heights = rates - final
    use = (heights > 1e-3 * np.max(heights)) & (steps < end)
    if np.count_nonzero(use) < 8 or np.ptp(heights[use]) < 0.02 * rates.max():
        return None
    picked = np.flatnonzero(use)
    picked = picked[np.linspace(0, len(picked) - 1, 64).astype(int)]
    t, log = steps[picked].astype(float), np.log(heights[picked])
    fits = []
    for x, origin in ((np.log(end - t), np.log(end)), (t, 0.0)):
        line = np.polyfit(x, log, 1)
        error = np.max(np.abs(np.polyval(line, x) - log))
        fits.append((error, np.polyval(line, origin)))
    curve = log - 2 * np.log(np.cos(np.pi * t / (2 * end)))
    fits.append((np.ptp(curve) / 2, np.mean(curve)))
    error, start = min(fits)
    if error > 1e-3 or start > 700:
        return None
    return float(np.exp(start) + final)


def is_power(rates) -> bool:
    """Whether rates end as a power of the updates to the one after them.

    Those that float32 rounds on their way to zero do not.

    >>> is_power(1e-9 * np.arange(20, 0, -1) ** 2.0)
    True
    """
    left = np.arange(1, 9)
    if len(rates) < len(left) or np.any(rates[-left] <= 0):
        return False
    return _off_power(left, rates[-left]) < _POWER


def _off_power(left, heights) -> float:
    """How far the logarithms of heights lie off a power of `left`, at most."""
    x, y = np.log(left), np.log(heights)
    line = np.polyfit(x, y, 1)
    return float(np.max(np.abs(np.polyval(line, x) - y)))


def decay_end_offset(steps, rates, total: int, final: float) -> int | None:
    """How many updates after `total` a decay ends: -1, 0, 1, or None.

    Close to its end E every polynomial and cosine decay is a power of E - t,
    so the right E is the one for which log rate is linear in log (E - t).

    Example:
        >>> steps = np.arange(100)
        >>> decay_end_offset(steps, (101 - steps) / 101, 100, 0.0)
        1
    """
    errors = {}
    left = np.array([2, 3, 4, 6, 8, 12, 16, 24])
    if len(steps) < 48 or steps[-1] != total - 1:
        return None
    if np.any(np.diff(steps[-32:]) != 1):
        return None
    heights = rates[-left] - final
    if np.any(heights <= 0) or np.any(np.diff(heights) <= 0):
        return None
    for offset in (-1, 0, 1):
        errors[offset] = _off_power(left + offset, heights)
    best, second = sorted(errors, key=errors.get)[:2]
    if errors[best] > _POWER or errors[best] > errors[second] / 4:
        return None
    return best
