"""Paints the data of a figure: PNG, SVG or PDF, in the report's colours."""

import collections
import functools
import pathlib
import re
import textwrap

from lbcheck import report
from lbcheck.figures.content import Box
from lbcheck.figures.content import Figure
from lbcheck.figures.content import Line
from lbcheck.figures.content import Rule
from lbcheck.report.figures import drawing
from lbcheck.support import files

FORMATS = (".pdf", ".png", ".svg")
_STYLE_SHEET = pathlib.Path(report.__file__).with_name("report.css")
_PANEL = (5.4, 4.0)
"""Inches of one panel."""
_COLUMNS = 2
_CHARACTERS = 13.5
"""Of the caption, in an inch."""
_LINE = 0.175
"""Inches of a line of the caption."""
_LONG_LEGEND = 5
_LABEL = 50
"""Characters of a line of the legend."""
_MOST_NAMES = 40
_APART = 0.045
"""Between dots of one number, in boxes."""
_STYLES = {
    "line": {"linestyle": "-"},
    "dotted": {"linestyle": ":"},
    "dots": {"linestyle": "", "marker": "o", "markersize": 5},
    "both": {"linestyle": "-", "marker": "o"},
    "steps": {"linestyle": "-", "drawstyle": "steps-post"},
}


def write(figure: Figure, path) -> None:
    """Writes the picture, whole or not at all.

    Args:
        figure: What `index.make` returned.
        path: File to write; its ending, one of `FORMATS`, gives the format.

    Raises:
        ValueError: Another ending, or there is no such folder.
        OSError: It cannot be written.
    """
    path = pathlib.Path(path)
    kind = check_path(path)
    with drawing.settings():
        painted = _painted(figure)
        with files.replacing(path) as file:
            painted.savefig(
                file, format=kind, dpi=150, metadata=_metadata(kind)
            )


def check_path(path: pathlib.Path) -> str:
    """The format that a file's ending names.

    Raises:
        ValueError: None that is known, or there is no such folder.
    """
    if path.suffix not in FORMATS:
        raise ValueError(
            f"{path}: expected a file that ends with one of "
            f"{', '.join(FORMATS)}."
        )
    if not path.parent.is_dir():
        raise ValueError(f"{path}: there is no folder {path.parent}.")
    return path.suffix[1:]


def _metadata(kind):
    """Without the time, so that equal numbers give equal files."""
    return {
        "png": None,
        "svg": {"Date": None},
        "pdf": {"CreationDate": None},
    }[kind]


@functools.cache
def _colors(name):
    """The light page's colours of that name: arm-0, .. or shade-0, .."""
    style = _STYLE_SHEET.read_text(encoding="utf-8")
    light = style.partition("@media")[0]
    return re.findall(rf"--{name}(?:-\d)?: (#\w+)", light)


def _painted(figure):
    import matplotlib
    from matplotlib.figure import Figure as Canvas

    ((ink,), (muted,), (rule,)) = map(_colors, ("ink", "muted", "rule"))
    matplotlib.rcParams.update(
        {
            "axes.edgecolor": muted,
            "axes.labelcolor": ink,
            "axes.titlecolor": ink,
            "figure.facecolor": "white",
            "grid.color": rule,
            "text.color": ink,
            "xtick.color": muted,
            "xtick.labelcolor": ink,
            "ytick.color": muted,
            "ytick.labelcolor": ink,
        }
    )
    columns = min(_COLUMNS, len(figure.panels))
    lines = -(-len(figure.panels) // columns)
    width = _width(figure, columns)
    text = _wrapped(figure.caption, width)
    below = _LINE * (text.count("\n") + 1) + 0.2
    above = 0.62
    height = lines * _PANEL[1] + below + above
    canvas = Canvas(figsize=(width, height))
    room = (0, below / height, 1, 1 - (below + above) / height)
    canvas.set_layout_engine("constrained", rect=room)
    canvas.text(
        0.12 / width, 1 - 0.08 / height, figure.title, size=13, va="top"
    )
    canvas.text(
        0.12 / width,
        1 - 0.36 / height,
        f"{figure.source}. Numbers from: {figure.numbers_from}.",
        size=9,
        va="top",
        color=muted,
    )
    canvas.text(0.12 / width, 0.1 / height, text, size=9, linespacing=1.25)
    same: dict[str, object] = {}
    for number, panel in enumerate(figure.panels, 1):
        axes = canvas.add_subplot(
            lines, columns, number, sharey=same.get(panel.vertical)
        )
        same.setdefault(panel.vertical, axes)
        _paint(axes, panel, figure)
    return canvas


def _width(figure, columns):
    """Wider where one panel is many boxes, or its legend is beside it."""
    most = max(
        sum(isinstance(mark, Box) for mark in panel.marks)
        for panel in figure.panels
    )
    beside = any(len(_labels(p)) > _LONG_LEGEND for p in figure.panels)
    first = 7.4 if columns == 1 else columns * _PANEL[0]
    return max(first, 1.5 * most) + (1.3 * columns if beside else 0)


def _wrapped(caption, width):
    return "\n".join(
        textwrap.fill(sentence, int(width * _CHARACTERS))
        for sentence in caption
    )


def _labels(panel):
    return list(dict.fromkeys(m.label for m in panel.marks if _is_line(m)))


def _is_line(mark):
    return isinstance(mark, Line) and mark.style != "lost"


def _paint(axes, panel, figure):
    axes.set_title(panel.title)
    axes.set_xlabel(panel.horizontal)
    axes.set_ylabel(panel.vertical)
    if "x" in panel.logarithmic:
        axes.set_xscale("log")
    if "y" in panel.logarithmic:
        axes.set_yscale("log")
    boxes = [mark for mark in panel.marks if isinstance(mark, Box)]
    known = _known(figure)
    for mark in panel.marks:
        if isinstance(mark, Line):
            _paint_line(axes, mark, known)
        elif isinstance(mark, Rule):
            axes.axhline(mark.value, linestyle=":", color=_colors("muted")[0])
            axes.annotate(
                mark.label,
                (1, mark.value),
                xycoords=axes.get_yaxis_transform(),
                ha="right",
                va="bottom",
                size=9,
            )
    if boxes:
        _paint_boxes(axes, boxes, known)
    if 0 < len(panel.names) <= _MOST_NAMES:
        axes.set_xticks(
            range(1, len(panel.names) + 1),
            panel.names,
            rotation=40,
            ha="right",
            size=8,
        )
    _label_decades(axes)
    _legend(axes, _labels(panel))


def _known(figure):
    """Labels in the order of their colours, the same in every panel."""
    marks = [mark for panel in figure.panels for mark in panel.marks]
    return list(
        dict.fromkeys(
            mark.label
            for mark in marks
            if isinstance(mark, Box)
            or (isinstance(mark, Line) and mark.shade is None)
        )
    )


def _color(mark, known):
    if isinstance(mark, Line) and mark.shade is not None:
        from matplotlib.colors import LinearSegmentedColormap

        shades = LinearSegmentedColormap.from_list("", _colors("shade"))
        return shades(mark.shade)
    colors = _colors("arm")
    return colors[known.index(mark.label) % len(colors)]


def _paint_line(axes, line, known):
    color = _color(line, known)
    if line.style == "lost":
        axes.plot(
            line.across,
            [0.985] * len(line.across),
            "x",
            color=color,
            markersize=6,
            transform=axes.get_xaxis_transform(),
        )
        return
    up = [float("nan") if number is None else number for number in line.up]
    # A line of one point would not be seen.
    style = _STYLES["dots" if len(up) == 1 else line.style]
    label = textwrap.fill(line.label, _LABEL)
    axes.plot(line.across, up, label=label, color=color, **style)


def _paint_boxes(axes, boxes, known):
    for place, box in enumerate(boxes, 1):
        color = _color(box, known)
        if len(box.values) > 1:
            axes.boxplot(
                [box.values],
                positions=[place],
                widths=0.5,
                whis=(0, 100),
                showfliers=False,
                boxprops={"color": color},
                medianprops={"color": color, "linewidth": 2.2},
                whiskerprops={"color": color},
                capprops={"color": color},
                manage_ticks=False,
            )
        axes.plot(
            _beside(place, box.values),
            box.values,
            "o",
            color=color,
            alpha=0.5 if len(box.values) > 1 else 1.0,
            markersize=4 if len(box.values) > 1 else 7,
            markeredgewidth=0,
        )
    axes.set_xticks(range(1, len(boxes) + 1), [_under(box) for box in boxes])
    # To the right there is room for the name of a rule.
    axes.set_xlim(0.4, len(boxes) + 0.95)
    axes.grid(visible=False, axis="x")


def _beside(place, values):
    """Where across the dots stand: equal values beside one another."""
    seen = collections.Counter()
    across = []
    for value in values:
        others = (values.count(value) - 1) / 2
        across.append(place + _APART * (seen[value] - others))
        seen[value] += 1
    return across


def _under(box):
    diverged = f"{box.diverged} diverged" if box.diverged else ""
    lines = [textwrap.fill(box.label, 18), box.note, diverged]
    return "\n".join(line for line in lines if line)


def _label_decades(axes):
    for axis in (axes.xaxis, axes.yaxis):
        if axis.get_scale() == "log":
            drawing.label_decades(axis)


def _legend(axes, labels):
    if len(labels) > _LONG_LEGEND:
        axes.legend(
            loc="upper left",
            bbox_to_anchor=(1.01, 1.0),
            fontsize=8,
            frameon=False,
        )
    elif len(labels) > 1:
        axes.legend(fontsize=9, frameon=False)
