"""The schedule doctor: finds the bugs in anybody's learning rate schedule.

sampling     the rates: of a schedule, given, or read from a log
log_files    logs of learning rates as loggers write them
segments     where the rates jump, and what they do on either side
evidence     what the checks look at
check_*      the checks: values and warm-up, jumps, end, the log's steps
findings     what is said, as text, JSON and a figure
"""

from typing import Any

import numpy as np

from lbcheck.schedules import base
from lbcheck.schedules.doctor import check_end
from lbcheck.schedules.doctor import check_jumps
from lbcheck.schedules.doctor import check_log
from lbcheck.schedules.doctor import check_warmup
from lbcheck.schedules.doctor import findings
from lbcheck.schedules.doctor import sampling
from lbcheck.schedules.doctor import segments
from lbcheck.schedules.doctor.evidence import Case
from lbcheck.schedules.doctor.evidence import units_of


def examine(
    schedule: Any,
    total_steps: int | None = None,
    peak_rate: float | None = None,
    warmup_steps: int | None = None,
    *,
    steps_per_epoch: int | None = None,
    phase_starts: tuple[int, ...] = (),
    column: str | None = None,
) -> findings.Examination:
    """Examines a schedule over a run of `total_steps` updates.

    The rate is taken at every update t = 0 ... T - 1, cut into pieces at its
    jumps, and each piece is compared with what was meant: what the arguments
    say, else what the schedule itself shows.

    Args:
        schedule: A schedule of lbcheck, Keras 3, tf_keras or optax, an
            optimizer that has one, any other function of the step, the rates
            themselves, or the path of a log: CSV, JSON, JSON lines or
            TensorBoard's event files, as loggers write them.
        total_steps: T, updates of the run, 4 to 5,000,000. May be left out
            for a log, which then ends with the run.
        peak_rate: The rate that is meant to be reached, if known; positive.
        warmup_steps: Updates of warm-up that are meant, 0 to T, if known.
        steps_per_epoch: Updates of one epoch, at least 1, if known; finds
            epochs taken for steps with certainty, and turns a log's epochs
            into steps.
        phase_starts: Steps at which a new phase should warm up again.
        column: Name of the column of the rate, in a log with several.

    Returns:
        The examination: `.findings`, `.errors`, text by `str()`,
        `.to_json()` and `.save_figure(path)`.

    Raises:
        TypeError, ValueError: If an argument is outside its range, or the
            schedule raises or returns no number.

    Example:
        >>> from lbcheck.schedules import Linear, Warmup
        >>> bug = Warmup(Linear(1.0, 1562), 781, target_rate=1.0, shift=False)
        >>> [(f.code, f.step, f.size) for f in examine(bug, 1562).errors]
        [('jump', 781, '50.0 %'), ('decay_during_warmup', 781, '50.0 %')]
        >>> examine(Warmup(Linear(1.0, 781), 781), 1562).errors
        ()

    Source: Nado et al. 2021, Section 3 and Appendix B, Figure 2, for the
    jump; the others are bugs of public code.
    """
    schedule = sampling.unwrapped(schedule)
    total_steps, peak_rate, warmup_steps = _check(
        total_steps, peak_rate, warmup_steps, schedule
    )
    if steps_per_epoch is not None:
        steps_per_epoch = base.check_count(
            "examine", "steps_per_epoch", steps_per_epoch, 1
        )
    phase_starts = tuple(
        base.check_count("examine", "phase_starts", start, 1)
        for start in phase_starts
    )
    samples = sampling.sample(schedule, total_steps, column, steps_per_epoch)
    if total_steps is None:
        total_steps = _length(samples)
        _check_warmup(warmup_steps, total_steps)
    if max(phase_starts, default=0) >= total_steps:
        raise ValueError(
            f"examine: `phase_starts` must be below total_steps={total_steps}, "
            f"received {phase_starts!r}."
        )
    found = check_warmup.values(samples)
    if not found or np.any(samples.rates[np.isfinite(samples.rates)] > 0):
        case = _case(
            _inside(check_warmup.usable(samples), total_steps),
            total_steps,
            peak_rate,
            warmup_steps,
            steps_per_epoch,
            phase_starts,
            _configured_peak(schedule),
        )
        for room in (check_warmup, check_jumps, check_end, check_log):
            for check in room.CHECKS:
                found.extend(check(case))
    found = _once(found)
    found.sort(key=lambda f: (f.severity != findings.ERROR, f.step))
    return findings.Examination(
        tuple(found), total_steps, samples.steps, samples.rates
    )


def _length(samples):
    """Updates of the run that a log ends with.

    A single 0 at its end is the rate of no update where rows are left out, or
    it begins after the first with a rate, as Hugging Face's Trainer does.
    """
    steps, rates = samples.steps, samples.rates
    sparse = np.max(np.diff(steps), initial=1) > 1 or (
        steps[0] > 0 and rates[0] > 0
    )
    after = sparse and rates[-1] == 0 and rates[-2] > 0
    return int(steps[-1]) + (not after)


def _inside(samples, total):
    """A log that counts from 1, or holds one row too many, put right."""
    if samples.evaluate is not None or samples.steps[-1] != total:
        return samples
    # A row for step 0 that was left out instead has its end at T.
    ends = samples.rates[0] > 0 and samples.rates[-1] == 0
    if samples.steps[0] == 1 and not ends:
        return samples._replace(steps=samples.steps - 1)
    return samples._replace(steps=samples.steps[:-1], rates=samples.rates[:-1])


def _once(found):
    """The findings without those that repeat another.

    The same code at the same step comes from what is told and from what is
    seen; rates that are no rates end the schedule where they begin.
    """
    bad = {f.code for f in found} & {"negative", "not_finite"}
    kept = {}
    for finding in found:
        if not bad or finding.code not in ("ends_early", "off_by_one"):
            kept.setdefault((finding.code, finding.step), finding)
    return list(kept.values())


def _check(total_steps, peak_rate, warmup_steps, schedule):
    owner = "examine"
    if total_steps is not None:
        total_steps = base.check_count(owner, "total_steps", total_steps, 4)
    elif callable(schedule):
        raise ValueError(
            f"{owner}: `total_steps` must be the number of updates of the "
            "run, received None; only a log may leave it out."
        )
    if peak_rate is not None:
        peak_rate = base.check_real(owner, "peak_rate", peak_rate)
        if peak_rate == 0:
            raise ValueError(
                f"{owner}: `peak_rate` must be above 0, received {peak_rate!r}."
            )
    if warmup_steps is not None:
        warmup_steps = base.check_count(owner, "warmup_steps", warmup_steps, 0)
        if total_steps is not None:
            _check_warmup(warmup_steps, total_steps)
    return total_steps, peak_rate, warmup_steps


def _check_warmup(warmup_steps, total_steps):
    if warmup_steps is not None:
        base.check_order(
            "examine", "warmup_steps", warmup_steps, "total_steps", total_steps
        )


def _case(samples, total, peak, warmup, epoch, phase_starts, configured):
    steps, rates = samples.steps, samples.rates
    inside = steps < total
    if np.count_nonzero(inside) < 4:
        raise ValueError(
            "examine: at least 4 rates before `total_steps` are needed, "
            f"received {np.count_nonzero(inside)} with total_steps={total!r}."
        )
    rounded = samples.evaluate is None
    units = np.zeros(inside.sum())
    if rounded:
        units = units_of(rates[inside], samples.unit)
    found = segments.find_jumps(steps[inside], rates[inside], warmup, units)
    return Case(
        samples=samples,
        steps=steps[inside],
        rates=rates[inside],
        total=total,
        peak=peak,
        warmup=warmup,
        steps_per_epoch=epoch,
        phase_starts=phase_starts,
        configured_peak=configured,
        units=units,
        jumps=found,
        rise=segments.find_warmup(steps[inside], rates[inside], found),
        end=check_end.own_end(samples, total),
    )


def _configured_peak(schedule):
    """The rate that a Keras warm-up's inner schedule says it starts at.

    Only from a warm-up around another schedule: elsewhere the initial rate
    need not be the highest.
    """
    if isinstance(schedule, base.Schedule):
        return None
    config = _config(schedule)
    if "warmup_steps" not in config:
        return None
    for inner in config.values():
        inner = inner if isinstance(inner, dict) else _config(inner)
        inner = inner.get("config", inner)
        rate = isinstance(inner, dict) and inner.get("initial_learning_rate")
        if isinstance(rate, (int, float)) and rate > 0:
            return float(rate)
    return None


def _config(schedule):
    """What `get_config` gives; empty where it is not there or raises."""
    try:
        config = schedule.get_config()
    except Exception:
        # Keras's own raises, and many schedules do without.
        return {}
    return config if isinstance(config, dict) else {}
