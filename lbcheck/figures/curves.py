"""Figures of curves over the updates of runs."""

from lbcheck.figures import sources
from lbcheck.figures.content import Drawn
from lbcheck.figures.content import Line
from lbcheck.figures.content import Panel

_STEP = "step (updates completed)"


def accuracy(path) -> Drawn:
    """Validation accuracy of every arm or run over its updates.

    Source: You et al. 2019, Figures 1, 3 and 4.
    """
    found = sources.curves(path, "validation", "accuracy")
    ends = sorted(
        ((c.values[-1], label) for label, c in _finished(found).items()),
        key=lambda end: -end[0],
    )
    listed = ", ".join(f"{label} {value:.4f}" for value, label in ends)
    said = [f"At the end: {listed}."] if ends else []
    return Drawn(
        [_panel("", "validation accuracy", found)],
        [*said, *_left_out(path, found)],
    )


def loss_against_accuracy(path) -> Drawn:
    """Validation loss beside validation accuracy, over the updates.

    Says of which pairs the one with the lower final loss has the lower
    accuracy.

    Source: You et al. 2019, Figure 5.
    """
    losses = sources.curves(path, "validation", "loss")
    accuracies = sources.curves(path, "validation", "accuracy")
    ends = {
        label: (losses[label].values[-1], accuracies[label].values[-1])
        for label in _finished(losses)
        if label in accuracies
    }
    reversed_pairs = [
        f"{low} ({ends[low][0]:.4g}; {ends[low][1]:.4f}) against {high} "
        f"({ends[high][0]:.4g}; {ends[high][1]:.4f})"
        for low in ends
        for high in ends
        if ends[low][0] < ends[high][0] and ends[low][1] < ends[high][1]
    ]
    said = []
    if reversed_pairs:
        said = [
            "A lower validation loss with a lower accuracy, at the end: "
            f"{'; '.join(reversed_pairs)}."
        ]
    elif len(ends) > 1:
        said = [
            "No arm with a lower validation loss has a lower accuracy here."
        ]
    return Drawn(
        [
            _panel("Loss", "validation loss", losses, "y"),
            _panel("Accuracy", "validation accuracy", accuracies),
        ],
        [*said, *_left_out(path, losses)],
    )


def loss_by_batch_size(path) -> Drawn:
    """Training loss over the part of each run that is done.

    Runs of a fixed number of epochs have read as many examples at the same
    part, whatever their batch. Of a run that is not finished the part is not
    known, and it is left out.

    Source: You et al. 2019, Figure 6.

    Raises:
        ValueError: No run is finished, or there is none.
    """
    every = sources.curves(path, "training", "loss", "masked_lm_loss")
    found = _finished(every)
    if not found:
        raise ValueError(f"{path}: no finished run. {_unfinished(every)[0]}")
    lines = [
        Line(
            label,
            [step / curve.steps[-1] for step in curve.steps],
            list(curve.values),
        )
        for label, curve in found.items()
    ]
    return Drawn(
        [Panel("", "part of the run", "training loss", lines)],
        _final_losses(path, every),
    )


def mixed_batch_loss(path) -> Drawn:
    """Training loss over the updates, one phase after another.

    Source: You et al. 2019, Figure 7.
    """
    found = sources.curves(path, "training", "loss", "masked_lm_loss")
    said = _final_losses(path, found)
    return Drawn([_panel("", "training loss", found)], said)


def _final_losses(path, found):
    ends = ", ".join(
        f"{label} {curve.values[-1]:.4g}"
        for label, curve in _finished(found).items()
    )
    said = [f"Training loss at the end: {ends}."] if ends else []
    return [*said, *_left_out(path, found)]


def _finished(found):
    return {k: c for k, c in found.items() if c.status == "finished"}


def _left_out(path, found):
    """What a reader must know of runs that no number at the end is of."""
    lost = ", ".join(
        f"{arm} {count} of {runs}"
        for arm, (count, runs) in sources.diverged(path).items()
    )
    said = _unfinished(found)
    return (
        [f"Seeds that diverged, in no median: {lost}.", *said] if lost else said
    )


def _unfinished(found):
    """What a reader must know of runs that are not finished, if any are."""
    others = ", ".join(
        f"{label} ({curve.status}, step {curve.steps[-1]:,})"
        for label, curve in found.items()
        if curve.status != "finished"
    )
    return [f"Not finished: {others}."] if others else []


def _panel(title, vertical, found, logarithmic=""):
    lines = [
        Line(label, list(curve.steps), list(curve.values))
        for label, curve in found.items()
    ]
    return Panel(title, _STEP, vertical, lines, logarithmic)
