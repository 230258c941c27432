"""Figures of schedules, and Figure 1 of the paper by one command:

python -m lbcheck.schedules.figures --output_dir=figures
"""

import pathlib

import numpy as np
from absl import app
from absl import flags

from lbcheck.schedules.warmup_decay import PolynomialWarmupDecay
from lbcheck.support import files

LARS = PolynomialWarmupDecay(
    initial_rate=0.0,
    peak_rate=29.0,
    final_rate=1e-4,
    warmup_steps=706,
    total_steps=2512,
    warmup_power=1.0,
    decay_power=2.0,
)
"""Schedule of LARS, Nado et al. 2021, Table 5."""

NESTEROV_B = PolynomialWarmupDecay(
    initial_rate=0.0,
    peak_rate=7.05,
    final_rate=6e-6,
    warmup_steps=706,
    total_steps=2512,
    warmup_power=2.0,
    decay_power=2.0,
)
"""Schedule of Nesterov, configuration B, Nado et al. 2021, Table 5."""


def new_axes(title: str, vertical: str):
    """(figure, axes) without a display, steps across."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_title(title)
    axes.set_xlabel("step (updates completed)")
    axes.set_ylabel(vertical)
    axes.grid(alpha=0.3)
    return figure, axes


def save_both(figure, folder, stem: str) -> list[pathlib.Path]:
    """Writes stem.png and stem.svg into `folder`; returns their paths."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{stem}.{kind}" for kind in ("png", "svg")]
    for path in paths:
        with files.replacing(path) as file:
            figure.savefig(file, format=path.suffix[1:], dpi=150)
    return paths


def figure_1(folder) -> list[pathlib.Path]:
    """Writes Figure 1: the two schedules, each relative to its peak.

    Args:
        folder: Where figure_1.png and figure_1.svg go; made if need be.

    Returns:
        The two paths.

    Source: Nado et al. 2021, Figure 1.
    """
    figure, axes = new_axes(
        "Learning rate schedules (Nado et al. 2021, Figure 1)",
        "rate / peak rate",
    )
    for name, schedule in (("LARS", LARS), ("Nesterov (B)", NESTEROV_B)):
        steps = np.arange(schedule.total_steps)
        axes.plot(steps, schedule(steps) / schedule.peak_rate, label=name)
    axes.legend()
    return save_both(figure, folder, "figure_1")


def draw_examination(examination, path) -> None:
    """Draws the sampled rates with every finding marked.

    Args:
        examination: What `examine` returned.
        path: File to write; its ending gives the format.
    """
    figure, axes = new_axes("Schedule", "learning rate")
    axes.plot(examination.steps, examination.rates, color="black")
    for finding in examination.findings:
        color = "tab:red" if finding.severity == "error" else "tab:blue"
        axes.axvline(
            finding.step,
            color=color,
            linestyle="--",
            label=f"{finding.code}: {finding.size}",
        )
    if examination.findings:
        axes.legend()
    figure.savefig(path, dpi=150)


def main(argv) -> None:
    """Writes Figure 1 and prints where."""
    if len(argv) > 1:
        raise app.UsageError(f"No arguments are taken, received {argv[1:]}.")
    for path in figure_1(flags.FLAGS.output_dir):
        print(path)


if __name__ == "__main__":
    flags.DEFINE_string("output_dir", "figures", "Folder of the figures.")
    app.run(main)
