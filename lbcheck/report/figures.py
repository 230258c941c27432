"""The figures of the report: each draws tables of the results, and no more.

A figure is a few small panels; on a phone they stand one below the other.
"""

from typing import NamedTuple

from lbcheck.report import drawing
from lbcheck.report.folder import PARTS
from lbcheck.report.tables import metric

_LONGEST_LABEL = 16
_MARKERS = ("o", "s", "^", "D")


class Figure(NamedTuple):
    """A figure of the page.

    Attributes:
        name: Its anchor.
        title: Its heading.
        caption: What it shows and what to see in it.
        panels: SVG elements.
        keys: Its legend: (kind, number of the color, text), the kind one of
            "solid", "dashed", "dot" and "ring".
    """

    name: str
    title: str
    caption: str
    panels: list[str]
    keys: list[tuple[str, int, str]]


class Results:
    """The results with what every figure asks of them."""

    def __init__(self, results: dict):
        self.study = results["study"]
        self.tables = results["tables"]
        self.arms = list(self.study["arms"])
        self.metric = self.study["metric"]["name"]
        self.sign = 1 if self.study["metric"]["mode"] == "max" else -1

    def rows(self, table: str, **match) -> list[dict]:
        """The rows of a table whose entries equal those given."""
        return [
            row
            for row in self.tables[table]
            if all(row[key] == wanted for key, wanted in match.items())
        ]

    def layer_wise(self, arm: str) -> bool:
        """Whether the arm takes layer-wise rates."""
        return self.study["arms"][arm]["layer_wise"]

    def line(self, arm: str) -> dict:
        """How a line of this arm looks."""
        style = "-" if self.layer_wise(arm) else (0, (4, 1.5))
        color = drawing.arm_color(self.arms.index(arm))
        return {"color": color, "linestyle": style}

    def keys(self, arms) -> list[tuple[str, int, str]]:
        """The legend of these arms."""
        return [
            (
                "solid" if self.layer_wise(arm) else "dashed",
                self.arms.index(arm) % drawing.NUM_COLORS,
                arm,
            )
            for arm in self.arms
            if arm in arms
        ]


def draw(results: dict) -> list[Figure]:
    """All figures that the results have something for."""
    from lbcheck.report import run_figures

    view = Results(results)
    makers = (
        run_figures.seeds,
        best_so_far,
        targets,
        rates,
        run_figures.schedules,
        run_figures.curves,
        run_figures.trust_ratios,
        run_figures.relative_updates,
        run_figures.effective_rates,
    )
    with drawing.settings():
        figures = [make(view) for make in makers]
    return [figure for figure in figures if figure.panels]


def part_panels(view, table, name, draw_arm, horizontal, what, **options):
    """A panel for each part that the table has rows for."""
    panels = []
    for part in PARTS:
        arms = [a for a in view.arms if view.rows(table, arm=a, part=part)]
        if not arms:
            continue
        panel = drawing.Panel(
            f"{name}-{part}",
            f"{what} of {', '.join(arms)} on {part}; the numbers are in the "
            f"table {table} of results.json.",
            title=part.capitalize(),
            horizontal=horizontal,
            vertical=options.get("vertical", view.metric),
        )
        for arm in arms:
            draw_arm(panel.axes, arm, view.rows(table, arm=arm, part=part))
        options.get("finish", lambda axes, part: None)(panel.axes, part)
        panels.append(panel.svg())
    return panels


def best_so_far(view) -> Figure:
    """The best metric that k trials of the search can be expected to find."""

    def draw_arm(axes, arm, rows):
        trials = [row["trials"] for row in rows]
        axes.plot(trials, [row["expected"] for row in rows], **view.line(arm))
        axes.fill_between(
            trials,
            [row["low"] for row in rows],
            [row["high"] for row in rows],
            color=view.line(arm)["color"],
            alpha=0.13,
            linewidth=0,
        )

    def finish(axes, part):
        # The band of one trial reaches to the worst: it is cut off.
        rows = view.rows("best_so_far", part=part)
        ends = ("expected", "high") if view.sign > 0 else ("expected", "low")
        axes.set_ylim(*limits([row[end] for row in rows for end in ends]))

    return Figure(
        "best-so-far",
        "Best so far against trials",
        "The line is the expected best metric of an arm after k trials of "
        "its broad space, drawn at random from those that it ran; the band "
        "holds 90 % of the draws. An arm whose line is high on the left is "
        "easy to tune.",
        part_panels(
            view,
            "best_so_far",
            "best-so-far",
            draw_arm,
            "trials",
            "Expected best metric so far",
            finish=finish,
        ),
        view.keys(view.arms),
    )


def targets(view) -> Figure:
    """Fraction of settings that reach a target: Figures 6 and 7 of ICLR."""
    wanted = view.study["target"]

    def draw_arm(axes, arm, rows):
        rows = sorted(rows, key=lambda row: row["target"])
        axes.plot(
            [row["target"] for row in rows],
            [row["fraction"] for row in rows],
            **view.line(arm),
        )

    def finish(axes, part):
        axes.set_ylim(bottom=0)
        if wanted is not None and part == "validation":
            axes.axvline(wanted, color=drawing.INK, linewidth=1, linestyle=":")

    said = ", ".join(
        f"{row['arm']} {row['fraction']:.0%}"
        for row in view.rows("targets", part="validation", target=wanted)
    )
    return Figure(
        "targets",
        "How many settings reach a target",
        "The fraction of the settings of the broad space that are at least "
        "as good as the target across, from the median of all settings to the "
        "best; a diverged setting reaches nothing. A higher line is an arm "
        "that forgives more (Nado et al. 2021, ICLR submission, Figures 6 "
        "and 7)."
        + (f" Dotted: the target of {metric(wanted)}; {said}." if said else ""),
        part_panels(
            view,
            "targets",
            "targets",
            draw_arm,
            f"target {view.metric}",
            "Fraction of settings that reach a target",
            vertical="fraction of settings",
            finish=finish,
        ),
        view.keys(view.arms),
    )


def rates(view) -> Figure:
    """Metric against learning rate by weight decay: ICLR Figures 8 to 12."""
    found = [
        row["validation"]
        for row in view.tables["rates"]
        if row["validation"] is not None
    ]
    panels, most = [], 0
    for arm in view.arms:
        rows = view.rows("rates", arm=arm)
        if not rows or not found:
            continue
        most = max(most, *(row["bin"] for row in rows))
        panel = drawing.Panel(
            f"rates-{view.arms.index(arm)}",
            f"Validation {view.metric} of {arm} against the learning rate, "
            "by weight decay; the numbers are in the table rates of "
            "results.json.",
            title=arm,
            horizontal="learning rate",
            vertical=f"validation {view.metric}",
            logarithmic="x",
        )
        _draw_rates(panel.axes, view, arm, rows, found)
        panels.append(panel.svg())
    names = ("weakest", "weak", "strong", "strongest")
    if most < 3:
        names = (
            ("all",),
            ("weaker", "stronger"),
            ("weak", "middle", "strong"),
        )[most]
    return Figure(
        "rates",
        "Metric against learning rate, by weight decay",
        "One point a setting, shaded by its weight decay (or L2); the ring "
        "is the best of each shade, a cross at the bottom a diverged setting. "
        "Rings that move left as decay gets stronger mean that rate and decay "
        "must be tuned together (Nado et al. 2021, ICLR submission, Figures "
        "8 to 12).",
        panels,
        [("dot", i, f"{name} decay") for i, name in enumerate(names)]
        if most
        else [],
    )


def _draw_rates(axes, view, arm, rows, found):
    low, high = min(found), max(found)
    room = 0.06 * (high - low) or 1e-3
    for shade in sorted({row["bin"] for row in rows}):
        members = [r for r in rows if r["bin"] == shade]
        feasible = [r for r in members if r["validation"] is not None]
        axes.plot(
            [row["learning_rate"] for row in feasible],
            [row["validation"] for row in feasible],
            _MARKERS[shade],
            color=drawing.shade(shade),
            markeredgewidth=0,
            clip_on=False,
        )
        lost = [r["learning_rate"] for r in members if r["validation"] is None]
        floor = low - room if view.sign > 0 else high + room
        axes.plot(
            lost,
            [floor] * len(lost),
            "x",
            color=drawing.shade(shade),
            clip_on=False,
        )
    for row in view.rows("bins", arm=arm):
        if row["best_rate"] is not None:
            axes.plot(
                [row["best_rate"]],
                [row["best_validation"]],
                "o",
                markersize=8,
                fillstyle="none",
                color=drawing.INK,
                markeredgewidth=1.2,
            )
    axes.set_ylim(low - room, high + room)


def short(name: str) -> str:
    """A name that fits beside a panel."""
    if len(name) <= _LONGEST_LABEL:
        return name
    return name[: _LONGEST_LABEL - 1] + "…"


def limits(values) -> tuple[float, float]:
    """Limits of an axis over finite values, with a little room."""
    low, high = min(values), max(values)
    room = 0.05 * (high - low) or 0.01 * abs(high) or 0.01
    return low - room, high + room
