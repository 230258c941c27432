"""BERT's learning rate schedules: the original, the fixed, the others shipped.

    python -m bert.schedule --peak=5.9415e-4 --warmup_steps=3125 \
      --total_steps=14063 --output_dir=figures

prints by how much each drops when warm-up ends and draws the contrast, which
is Figure 2 of "A Large Batch Optimizer Reality Check" (Nado et al. 2021);
--format=json prints the same numbers as JSON. Exit codes: 0 done, 2 refused.
Every function returns a schedule of `lbcheck.schedules`.
"""

import json

import numpy as np
from absl import app
from absl import flags

from lbcheck.schedules import BiasCorrected
from lbcheck.schedules import Linear
from lbcheck.schedules import Polynomial
from lbcheck.schedules import PolynomialWarmupDecay
from lbcheck.schedules import Schedule
from lbcheck.schedules import Warmup
from lbcheck.schedules import figures
from lbcheck.settings import command_line
from lbcheck.support import command
from lbcheck.support import exit_codes

FLAGS = flags.FlagValues()

_AT_ONCE = 2**20  # updates
_DRAWN = 2000

_own = {"flag_values": FLAGS, "module_name": "bert.schedule"}
flags.DEFINE_float("peak", None, "Peak learning rate.", 0.0, **_own)
flags.DEFINE_integer("warmup_steps", None, "Warm-up steps.", 0, **_own)
flags.DEFINE_integer(
    "total_steps",
    None,
    "Updates of the run, 1 to 10 million.",
    1,
    10**7,
    **_own,
)
flags.DEFINE_float("power", 1.0, "Power of warm-up and decay.", 0.0, **_own)
flags.DEFINE_string("output_dir", "figures", "Folder of the figures.", **_own)
command.define_format(FLAGS)


def _over_decay(
    rate, warmup_steps, total_steps, power, target_rate, warmup_power=1
):
    """A decay from step 0 on, whose first updates a warm-up overrides."""
    return Warmup(
        Polynomial(rate, total_steps, power=power),
        warmup_steps,
        power=warmup_power,
        target_rate=target_rate,
        shift=False,
    )


def original(
    peak_rate: float, warmup_steps: int, total_steps: int, power: float = 1
) -> Schedule:
    """The schedule of BERT's released code, which drops after warm-up.

        t < w:  peak (t / w)^p
        t >= w: peak (1 - t / T)^p

    Args:
        peak_rate: Rate that the warm-up rises to, at least 0.
        warmup_steps: w, updates of warm-up, 0 to total_steps.
        total_steps: T, updates of the run, at least 1.
        power: p of warm-up and decay, at least 0; the released code has 1.

    Returns:
        A schedule.

    Raises:
        TypeError, ValueError: If an argument is outside its range.

    Example:
        >>> [original(1.0, 781, 1562)(t) for t in (0, 781)]
        [0.0, 0.5]

    Source: google-research/bert, optimization.py, create_optimizer; Nado et
    al. 2021, Appendix B, Figure 2.
    """
    return _over_decay(
        peak_rate, warmup_steps, total_steps, power, peak_rate, power
    )


def fixed(
    peak_rate: float, warmup_steps: int, total_steps: int, power: float = 1
) -> Schedule:
    """The schedule without the drop, with which the paper trains BERT.

        t < w:  peak (t / w)^p
        t >= w: peak ((T - t) / (T - w))^p

    Args:
        peak_rate: Rate at the end of warm-up, at least 0.
        warmup_steps: w, updates of warm-up, 0 to total_steps.
        total_steps: T, updates of the run, at least 1.
        power: p of warm-up and decay, at least 0.

    Returns:
        A schedule.

    Raises:
        TypeError, ValueError: If an argument is outside its range.

    Example:
        >>> [fixed(1.0, 781, 1562)(t) for t in (0, 781)]
        [0.0, 1.0]

    Source: Nado et al. 2021, Section 3 and Tables 6 and 7.
    """
    return PolynomialWarmupDecay(
        initial_rate=0.0,
        peak_rate=peak_rate,
        final_rate=0.0,
        warmup_steps=warmup_steps,
        total_steps=total_steps,
        warmup_power=power,
        decay_power=power,
    )


def model_garden_legacy(
    peak_rate: float, warmup_steps: int, total_steps: int, power: float = 1
) -> Schedule:
    """Model Garden's `official.nlp.optimization`: the drop is still there.

        t < w:  peak t / w
        t >= w: peak (1 - t / T)^p

    Args:
        peak_rate: Rate that the warm-up rises to, at least 0.
        warmup_steps: w, updates of warm-up, 0 to total_steps.
        total_steps: T, updates of the run, at least 1.
        power: p of the decay alone (`poly_power`), at least 0.

    Returns:
        A schedule.

    Raises:
        TypeError, ValueError: If an argument is outside its range.

    Example:
        >>> model_garden_legacy(1.0, 50, 100, power=2)(50)
        0.25

    Source: tf-models-official 2.20, official/nlp/optimization.py, WarmUp and
    create_optimizer.
    """
    return _over_decay(peak_rate, warmup_steps, total_steps, power, peak_rate)


def model_garden_lowered_peak(
    peak_rate: float, warmup_steps: int, total_steps: int, power: float = 1
) -> Schedule:
    """Model Garden's `LinearWarmup`: no drop, but the peak is never reached.

        t < w:  peak (1 - w / T)^p t / w
        t >= w: peak (1 - t / T)^p

    Args:
        peak_rate: Rate that the decay starts from at step 0, at least 0.
        warmup_steps: w, updates of warm-up, 0 to total_steps.
        total_steps: T, updates of the run, at least 1.
        power: p of the decay alone, at least 0.

    Returns:
        A schedule.

    Raises:
        TypeError, ValueError: If an argument is outside its range.

    Example:
        >>> round(model_garden_lowered_peak(1.0, 3125, 14063)(3125), 3)
        0.778

    Source: tf-models-official 2.20,
    official/modeling/optimization/lr_schedule.py, LinearWarmup over
    PolynomialDecay with its default offset of 0.
    """
    return _over_decay(peak_rate, warmup_steps, total_steps, power, None)


def nvidia_adam(
    peak_rate: float, warmup_steps: int, total_steps: int
) -> Schedule:
    """NVIDIA's TensorFlow 2 BERT with Adam: overshoots, then drops.

        t < w:  raised t / w,    raised = peak / (1 - w / T)
        t >= w: raised (1 - t / T)

    The raised rate makes the decay pass through the peak at step w, but
    warm-up rises to the raised rate, too.

    Args:
        peak_rate: Rate at step w, at least 0.
        warmup_steps: w, updates of warm-up, 0 to total_steps - 1.
        total_steps: T, updates of the run, at least 1.

    Returns:
        A schedule.

    Raises:
        TypeError, ValueError: If an argument is outside its range.

    Example:
        >>> overshoots = nvidia_adam(1.0, 2000, 5774)
        >>> round(overshoots(1999), 3), round(overshoots(2000), 3)
        (1.529, 1.0)

    Source: NVIDIA DeepLearningExamples,
    TensorFlow2/LanguageModeling/BERT/optimization.py, create_optimizer.
    """
    fixed(peak_rate, warmup_steps, total_steps)
    if warmup_steps == total_steps:
        raise ValueError(
            "nvidia_adam: `warmup_steps` must be below `total_steps`, "
            f"received {warmup_steps!r} for both."
        )
    raised = peak_rate / (1 - warmup_steps / total_steps)
    return _over_decay(raised, warmup_steps, total_steps, 1, raised)


def nvidia_lamb(
    peak_rate: float, warmup_steps: int, total_steps: int
) -> Schedule:
    """NVIDIA's TensorFlow 2 BERT with LAMB: a square root decay that drops.

        t < w:  peak t / w
        t >= w: peak sqrt(1 - t / T)

    Args:
        peak_rate: Rate that the warm-up rises to, at least 0.
        warmup_steps: w, updates of warm-up, 0 to total_steps.
        total_steps: T, updates of the run, at least 1.

    Returns:
        A schedule.

    Raises:
        TypeError, ValueError: If an argument is outside its range.

    Example:
        >>> round(1 - nvidia_lamb(1.0, 2000, 5774)(2000), 4)
        0.1915

    Source: NVIDIA DeepLearningExamples,
    TensorFlow2/LanguageModeling/BERT/optimization.py, create_optimizer.
    """
    return _over_decay(peak_rate, warmup_steps, total_steps, 0.5, peak_rate)


def implicit_warmup(
    schedule: Schedule, beta_1: float = 0.9, beta_2: float = 0.999
) -> Schedule:
    """The schedule that Adam's bias correction makes of another.

        schedule(t) sqrt(1 - beta_2^(t+1)) / (1 - beta_1^(t+1))

    Args:
        schedule: Schedule of `lbcheck.schedules`.
        beta_1: Decay of the first moment, in [0, 1).
        beta_2: Decay of the second moment, in [0, 1).

    Returns:
        A schedule.

    Raises:
        TypeError, ValueError: If an argument is outside its range.

    Example:
        >>> constant = PolynomialWarmupDecay(1, 1, 1, 0, 100)
        >>> round(implicit_warmup(constant)(9), 5)
        0.15319

    Source: You et al. 2019, Appendix E and Figure 2.
    """
    return BiasCorrected(schedule, beta_1, beta_2)


VARIANTS = {
    "original": original,
    "fixed": fixed,
    "model_garden_legacy": model_garden_legacy,
    "model_garden_lowered_peak": model_garden_lowered_peak,
    "nvidia_adam": nvidia_adam,
    "nvidia_lamb": nvidia_lamb,
}
"""The schedules by name; each takes (peak_rate, warmup_steps, total_steps)."""

POWERED = (
    "original",
    "fixed",
    "model_garden_legacy",
    "model_garden_lowered_peak",
)
"""Those that take a power too; NVIDIA's have theirs built in."""


def drop_at_boundary(schedule: Schedule, warmup_steps: int) -> float:
    """How far the rate falls where warm-up ends, in per cent.

        100 (1 - schedule(w) / limit)

    with `limit` what the warm-up rises to. Args: a schedule of this module
    and its w, at least 1. Returns 0 for a continuous one.

    >>> round(drop_at_boundary(original(1.0, 3125, 14063), 3125), 1)
    22.2
    """
    target = getattr(schedule, "target_rate", None)
    after = schedule(warmup_steps)
    return 0.0 if target in (None, 0) else 100.0 * (1.0 - after / target)


def highest(schedule: Schedule, total_steps: int) -> float:
    """The highest rate of a run; not all of it is in memory at once.

    >>> highest(fixed(1.0, 781, 1562), 1562)
    1.0
    """
    ends = np.arange(0, total_steps, _AT_ONCE) + _AT_ONCE
    return max(
        float(schedule(np.arange(end - _AT_ONCE, min(end, total_steps))).max())
        for end in ends
    )


def _drawn(warmup_steps, total_steps):
    """The steps of a figure, those around the end of warm-up included."""
    steps = np.linspace(0, total_steps - 1, min(total_steps, _DRAWN))
    boundary = [max(warmup_steps - 1, 0), min(warmup_steps, total_steps - 1)]
    return np.union1d(steps.round().astype(np.int64), boundary)


def figure_2(peak_rate, warmup_steps, total_steps, folder, power=1.0):
    """Writes Figure 2, the original schedule against the fixed one.

    Args:
        peak_rate: Rate at the end of warm-up, at least 0.
        warmup_steps: Updates of warm-up.
        total_steps: Updates of the run.
        folder: Where figure_2.png and figure_2.svg go; made if need be.
        power: Power of warm-up and decay, at least 0.

    Returns:
        The two paths.

    Source: Nado et al. 2021, Figure 2.
    """
    figure, axes = figures.new_axes(
        "BERT's schedule (Nado et al. 2021, Figure 2)", "learning rate"
    )
    steps = _drawn(warmup_steps, total_steps)
    for name in ("original", "fixed"):
        schedule = VARIANTS[name](
            peak_rate, warmup_steps, total_steps, power=power
        )
        axes.plot(steps, schedule(steps), label=name)
    axes.legend()
    return figures.save_both(figure, folder, "figure_2")


def bias_correction_figure(
    peak_rate, warmup_steps, total_steps, folder, beta_1=0.9, beta_2=0.999
):
    """Writes what bias correction does to a constant rate, next to warm-up.

    Args:
        peak_rate: The constant rate, at least 0.
        warmup_steps: Steps of the explicit warm-up drawn for comparison.
        total_steps: Updates of the run.
        folder: Where bias_correction.png and .svg go; made if need be.
        beta_1: Decay of the first moment, in [0, 1).
        beta_2: Decay of the second moment, in [0, 1).

    Returns:
        The two paths.

    Source: You et al. 2019, Appendix E and Figure 2.
    """
    figure, axes = figures.new_axes(
        f"Adam's implicit warm-up, beta_1={beta_1:g}, beta_2={beta_2:g}",
        "learning rate",
    )
    steps = _drawn(warmup_steps, total_steps)
    constant = Linear(peak_rate, total_steps, final_rate=peak_rate)
    implicit = implicit_warmup(constant, beta_1, beta_2)
    axes.plot(steps, implicit(steps), label="constant, bias correction")
    explicit = Warmup(constant, warmup_steps)
    axes.plot(steps, explicit(steps), label="constant, linear warm-up")
    axes.legend()
    return figures.save_both(figure, folder, "bias_correction")


def contrast(
    peak_rate: float, warmup_steps: int, total_steps: int, power: float = 1
) -> dict[str, dict]:
    """The highest rate of every variant, that at w, and the drop there.

    Args:
        peak_rate: Rate at the end of warm-up, at least 0.
        warmup_steps: w, updates of warm-up, 0 to total_steps - 1.
        total_steps: Updates of the run, at least 1.
        power: Power of warm-up and decay, at least 0, where a variant has one.

    Returns:
        {name: {"highest": rate, "at_w": rate, "drop_percent": number}}.

    Raises:
        TypeError, ValueError: If an argument is outside its range.
    """
    shape = (peak_rate, warmup_steps, total_steps)
    found = {}
    for name, make in VARIANTS.items():
        schedule = make(*shape, *([power] if name in POWERED else []))
        found[name] = {
            "highest": highest(schedule, total_steps),
            "at_w": float(schedule(warmup_steps)),
            "drop_percent": drop_at_boundary(schedule, warmup_steps),
        }
    return found


def main() -> int:
    """Prints the contrast and writes the figures; returns the exit code."""
    for name in ("peak", "warmup_steps", "total_steps"):
        if FLAGS[name].value is None:
            raise app.UsageError(f"--{name} is needed.")
    shape = (FLAGS.peak, FLAGS.warmup_steps, FLAGS.total_steps)
    found = contrast(*shape, FLAGS.power)
    paths = figure_2(*shape, FLAGS.output_dir, FLAGS.power)
    paths += bias_correction_figure(*shape, FLAGS.output_dir)
    if FLAGS.format == "json":
        drawn = [str(path) for path in paths]
        print(json.dumps({"schedules": found, "figures": drawn}, indent=2))
        return exit_codes.FINISHED
    print(f"{'schedule':26}{'highest':>12}{'at w':>12}{'drop':>9}")
    for name, row in found.items():
        peak, after, drop = row.values()
        print(f"{name:26}{peak:12.6g}{after:12.6g}{drop:7.1f} %")
    print(*paths, sep="\n")
    return exit_codes.FINISHED


if __name__ == "__main__":
    command_line.start(main, FLAGS, __doc__)
