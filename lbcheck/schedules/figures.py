"""Figures of schedules: axes, files, and what the doctor finds."""

import pathlib

from lbcheck.support import files


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
