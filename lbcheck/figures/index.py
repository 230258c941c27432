"""Every figure of both papers: what it is, where its numbers come from.

A figure is drawn from published data where the paper printed them, else from
records, else from a shipped miniature of them, and says which.
"""

import difflib
import functools
import pathlib
from collections.abc import Callable
from typing import NamedTuple

from lbcheck.figures import boxes
from lbcheck.figures import curves
from lbcheck.figures import grid
from lbcheck.figures import ratios
from lbcheck.figures import scaling
from lbcheck.figures import schedules
from lbcheck.figures import sources
from lbcheck.figures.content import MINIATURE
from lbcheck.figures.content import PUBLISHED
from lbcheck.figures.content import RECORDS
from lbcheck.figures.content import Drawn
from lbcheck.figures.content import Figure
from lbcheck.figures.content import Line

MINIATURES = pathlib.Path(__file__).parent / "miniatures"


class Entry(NamedTuple):
    """How a figure is made.

    Attributes:
        title: What it shows.
        source: Where the papers have it.
        published: Draws it from published data; None where only drawn there.
        records: Draws it from a folder of records; None where it takes none.
        needs: What that folder is.
        command: What makes such records.
        miniature: Name of a shipped folder, of `MADE_BY`; of all that are not
            drawn from published data.
    """

    title: str
    source: str
    published: Callable[[], Drawn] | None = None
    records: Callable[[pathlib.Path], Drawn] | None = None
    needs: str = ""
    command: str = ""
    miniature: str = ""

    def numbers_from(self) -> str:
        """Where the numbers come from when no records are given."""
        return PUBLISHED if self.published else MINIATURE


MADE_BY = {
    name: f"lbcheck compare --flagfile=flags/{name}.flags"
    for name in (
        "challengers_mnist",
        "figure1_mini",
        "figure3_mini",
        "figure4_mini",
        "grid_mini",
    )
} | {
    "figure6_mini": "for batch in 32 64 128 256 512 1024 2048; do python -m "
    "bert.pretrain --flagfile=flags/figure6_mini/$batch.flags; done",
    "figure7_mini": "python -m bert.pretrain "
    "--flagfile=flags/figure7_mini.flags",
    "fine_tuning_mini": "for run in 512 2048 512_256; do python -m bert.squad "
    "--flagfile=flags/fine_tuning_mini/$run.flags; done",
}
"""{shipped miniature: the command that made it}."""
_ROWS = "lbcheck published run {} --scale=paper --output_dir=records/{}"
_BATCHES = (512, 1024, 2048, 4096, 8192, 16384, 32768)


def _nado(title, number, iclr, **how):
    source = f"Nado et al. 2021, Figure {number} (ICLR submission: {iclr})"
    return Entry(title, source, **how)


def _grid(title, number, draw, **arguments):
    return Entry(
        title,
        f"Nado et al. 2021 (ICLR submission), Figure {number}",
        records=functools.partial(draw, **arguments),
        needs='a study with "points": "grid"',
        command=MADE_BY["grid_mini"],
        miniature="grid_mini",
    )


def _you(title, number, **how):
    return Entry(title, f"You et al. 2019, Figure {number}", **how)


def _rows(names, folder, needs="a study, or folders of runs"):
    command = _ROWS.format(" ".join(names), folder)
    return {"needs": needs, "command": command}


def _trust_ratios(number):
    return _you(
        "LAMB's trust ratio by layer, at one of six iterations",
        number,
        records=functools.partial(ratios.at_iteration, number=number - 9),
        needs="a study with LAMB, or runs with --diagnostics_every",
        command=MADE_BY["challengers_mnist"],
        miniature="challengers_mnist",
    )


ENTRIES: dict[str, Entry] = {
    "nado2021_figure1": _nado(
        "Learning rate schedules of LARS and of Nesterov, configuration B",
        1,
        2,
        published=schedules.relative_to_peak,
    ),
    "nado2021_figure2": _nado(
        "The sudden drop in BERT's original schedule",
        2,
        3,
        published=schedules.sudden_drop,
    ),
    "nado2021_figure3": _nado(
        "Fine-tuning runs from one checkpoint",
        3,
        4,
        records=boxes.fine_tuning,
        needs="folders of bert.squad --num_seeds=6, one for each setting",
        command="python -m bert.squad --flagfile=flags/squad/large.flags "
        "--num_seeds=6 --output_dir=records/figure3/32k, and so for 65k_32k "
        "and 65k, each with its --init_checkpoint",
        miniature="fine_tuning_mini",
    ),
    "nado2021_figure4": _nado(
        "Ablations of configuration A",
        4,
        5,
        records=boxes.of_study,
        needs="a study whose arms are flagfiles, with several seeds",
        command=MADE_BY["figure4_mini"],
        miniature="figure4_mini",
    ),
    "nado2021_iclr_figure6": _grid(
        "Settings that reach a validation error",
        6,
        grid.fractions,
        part="validation",
    ),
    "nado2021_iclr_figure7": _grid(
        "Settings that reach a training error",
        7,
        grid.fractions,
        part="training",
    ),
    "nado2021_iclr_figure8": _grid(
        "Validation error by weight decay", 8, grid.by_decay
    ),
    "nado2021_iclr_figure9": _grid(
        "The best learning rate for each weight decay", 9, grid.best_rates
    ),
    **{
        f"nado2021_iclr_figure{number}": _grid(
            f"Validation error against learning rate at decay {decay:g}",
            number,
            grid.at_decay,
            decay=decay,
        )
        for number, decay in ((10, 1e-3), (11, 3e-4), (12, 1e-4))
    },
    "you2019_figure1": _you(
        "N-LAMB and NN-LAMB against LAMB, momentum and Nadam",
        1,
        records=curves.accuracy,
        **_rows(
            [
                f"you2019_figure1_{name}"
                for name in ("lamb", "n_lamb", "nn_lamb", "momentum", "nadam")
            ],
            "figure1",
        ),
        miniature="figure1_mini",
    ),
    "you2019_figure2": _you(
        "Bias correction acts as a warm-up",
        2,
        published=schedules.correction_as_warmup,
    ),
    "you2019_figure3": _you(
        "LAMB with other norms",
        3,
        records=curves.accuracy,
        **_rows(
            [f"you2019_figure3_{name}" for name in ("l2", "l1", "linf")],
            "figure3_norms",
        ),
        miniature="figure3_mini",
    ),
    "you2019_figure4": _you(
        "CIFAR-10 with DavidNet",
        4,
        published=boxes.cifar10,
        records=curves.accuracy,
        **_rows(
            [
                f"you2019_table6_{name}"
                for name in ("adagrad", "adam", "adamw", "momentum", "lamb")
            ],
            "cifar10",
        ),
    ),
    "you2019_figure5": _you(
        "Validation loss and validation accuracy",
        5,
        records=curves.loss_against_accuracy,
        needs="a study with confirming runs",
        command=MADE_BY["challengers_mnist"],
        miniature="challengers_mnist",
    ),
    "you2019_figure6": _you(
        "Training loss of BERT with LAMB, by batch size",
        6,
        records=curves.loss_by_batch_size,
        **_rows([f"you2019_table1_lamb_{b}" for b in _BATCHES], "figure6"),
        miniature="figure6_mini",
    ),
    "you2019_figure7": _you(
        "Training loss of BERT with LAMB and a mixed batch",
        7,
        records=curves.mixed_batch_loss,
        **_rows(["you2019_table1_lamb_65536_32768"], "figure7"),
        miniature="figure7_mini",
    ),
    "you2019_figure8": _you(
        "Scaling efficiency of BERT with LAMB",
        8,
        published=scaling.efficiency,
    ),
    **{f"you2019_figure{n}": _trust_ratios(n) for n in range(9, 15)},
}
"""{name: how it is made}, paper by paper."""


def find(name: str) -> str:
    """The full name of a figure, of which the paper can be left out.

    >>> find("iclr_figure8")
    'nado2021_iclr_figure8'

    Raises:
        ValueError: No figure or more than one has that name.
    """
    if name in ENTRIES:
        return name
    found = [full for full in ENTRIES if full.partition("_")[2] == name]
    if len(found) == 1:
        return found[0]
    near = found or difflib.get_close_matches(name, ENTRIES, 3)
    expected = f"expected {' or '.join(near)}; " if near else ""
    raise ValueError(
        f"{name!r} is {'more than one' if found else 'no'} figure; {expected}"
        "`lbcheck figure` lists them."
    )


def make(name: str, records=None) -> Figure:
    """A figure, as data.

    Args:
        name: As in `lbcheck figure`.
        records: Folder of a study or of runs; None: published data, or the
            shipped miniature.

    Raises:
        ValueError: There is no such figure, or the records do not fit.

    Example:
        >>> figure = make("you2019_figure8")
        >>> figure.numbers_from, round(figure.panels[0].marks[0].up[-1], 1)
        ('published data', 49.1)
    """
    name = find(name)
    entry = ENTRIES[name]
    if records is not None:
        drawn, numbers_from, told = _of_records(name, entry, records)
    elif entry.published:
        drawn, numbers_from = entry.published(), PUBLISHED
        told = "Drawn from published data."
    else:
        drawn, numbers_from, told = _of_miniature(entry)
    caption = [told, *drawn.said, *_not_drawn(drawn.panels)]
    return Figure(
        name, entry.title, entry.source, numbers_from, caption, drawn.panels
    )


def _not_drawn(panels):
    """How many points a logarithmic axis has no place for, if any."""
    count = sum(
        ("x" in panel.logarithmic and across <= 0)
        or ("y" in panel.logarithmic and up is not None and up <= 0)
        for panel in panels
        for mark in panel.marks
        if isinstance(mark, Line)
        for across, up in zip(mark.across, mark.up)
    )
    if count:
        yield (
            "A logarithmic axis has no place for 0 or less: points that are "
            f"not drawn, {count}."
        )


def _of_records(name, entry, records):
    if entry.records is None:
        raise ValueError(
            f"{name} is drawn from published data; records do not apply "
            f"(received {str(records)!r})."
        )
    told = f"Drawn from your records in {records}, not from the paper's runs."
    return entry.records(pathlib.Path(records)), RECORDS, told


def _of_miniature(entry):
    folder = MINIATURES / entry.miniature
    told = (
        "Drawn from a shipped miniature, not comparable with the paper: "
        f"`{MADE_BY[entry.miniature]}`, commit {sources.commit(folder)[:7]}."
    )
    return entry.records(folder), MINIATURE, told
