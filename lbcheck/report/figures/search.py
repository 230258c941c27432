"""Figures of the search: best so far, targets, rates by weight decay."""

from lbcheck.report.figures import drawing
from lbcheck.report.figures.figure import Figure
from lbcheck.report.figures.figure import competitive
from lbcheck.report.figures.figure import is_wide
from lbcheck.report.figures.figure import part_panels
from lbcheck.report.tables import metric
from lbcheck.verdict import search_luck

_MARKERS = ("o", "s", "^", "D")


def best_so_far(view) -> Figure:
    """The best metric that k trials of the search can be expected to find."""
    return Figure(
        "Best so far against trials and their seconds",
        "The line is the median of the best of k trials, drawn at random "
        "from those that an arm ran in its broad space. The band is for the "
        "trials that were not run: in at least 90 % of searches it holds the "
        "medians of the whole space for all k at once (Lourie et al. 2023); "
        "where it reaches the edge, these trials set no bound. What is far "
        "from the best is cut off. An arm whose line is good after few trials "
        "needs little tuning. Seconds are k times those of an average trial.",
        [
            *_tuning_curves(view, "best-so-far", "trials", "trials"),
            *_tuning_curves(
                view, "best-so-far-in-time", "seconds", "seconds of training"
            ),
        ],
        view.keys("best_so_far"),
    )


def _tuning_curves(view, name, column, horizontal):
    """Panels of the tuning curves against a column of their table."""

    def draw_arm(axes, arm, rows):
        across = [row[column] for row in rows]
        axes.plot(across, [row["median"] for row in rows], **view.line(arm))

    def finish(axes, part):
        rows = view.rows("best_so_far", part=part)
        best = "high" if view.sign > 0 else "low"
        shown = [row[end] for row in rows for end in ("median", best)]
        logarithmic = axes.get_yscale() == "log"
        shown = [value for value in shown if value is not None]
        low, high = competitive(shown, view.sign, logarithmic)
        axes.set_ylim(low, high)
        for arm in view.arms:
            own = [row for row in rows if row["arm"] == arm]
            axes.fill_between(
                [row[column] for row in own],
                [low if row["low"] is None else row["low"] for row in own],
                [high if row["high"] is None else row["high"] for row in own],
                color=view.line(arm)["color"],
                alpha=0.08,
                linewidth=0,
            )

    found = [row["median"] for row in view.tables["best_so_far"]]
    wide = bool(found) and is_wide(found, view.sign)
    return part_panels(
        view,
        "best_so_far",
        name,
        draw_arm,
        horizontal,
        "Median of the best metric so far",
        finish=finish,
        logarithmic="y" if wide else "",
    )


def shares(view) -> Figure:
    """Searches with k trials whose best challenger is ahead by the margin."""
    rows = view.tables["search_shares"]
    panels = []
    if len(rows) > 1:
        panel = drawing.Panel(
            "search-shares",
            "Share of searches with k trials per arm whose best challenger is "
            "ahead by the margin; the numbers are in the table search_shares "
            "of results.json.",
            horizontal="trials",
            vertical="share of searches",
        )
        panel.axes.plot(
            [row["trials"] for row in rows],
            [row["share"] for row in rows],
            color=drawing.INK,
        )
        panel.axes.axvline(
            search_luck.half(len(rows)),
            color=drawing.INK,
            linewidth=1,
            linestyle=":",
        )
        panel.axes.set_ylim(-0.03, 1.03)
        panels.append(panel.svg())
    return Figure(
        "Would another search have turned it?",
        "Of all ways to draw k trials of each arm from those that were run, "
        "the share in which the best challenger is ahead of every baseline by "
        "the margin, by the metric of the search. Near 1 or near 0 from few "
        "trials on, the answer does not hang on lucky ones. It is read at "
        "half of the trials (dotted): with all of them only one way is left.",
        panels,
        [],
    )


def targets(view) -> Figure:
    """Trials that reach a target: Nado et al. 2021 (ICLR), Figures 6 and 7."""
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
        view.keys("targets"),
    )


def rates(view) -> Figure:
    """Metric by rate and decay: Nado et al. 2021 (ICLR), Figures 8 to 12."""
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
            logarithmic="xy" if is_wide(found, view.sign) else "x",
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
        "Metric against learning rate, by weight decay",
        "One point a setting, shaded by its weight decay (or L2); the ring "
        "is the best of each shade. On the edge: a hollow point is a setting "
        "beyond it, a cross one that diverged. "
        "Rings that move left as decay gets stronger mean that rate and decay "
        "must be tuned together (Nado et al. 2021, ICLR submission, Figures "
        "8 to 12).",
        panels,
        [("dot", i, f"{name} decay") for i, name in enumerate(names)]
        if most
        else [],
    )


def _draw_rates(axes, view, arm, rows, found):
    low, high = competitive(found, view.sign, axes.get_yscale() == "log")
    axes.set_ylim(low, high)
    floor = low if view.sign > 0 else high
    for shade in sorted({row["bin"] for row in rows}):
        members = [r for r in rows if r["bin"] == shade]
        feasible = [r for r in members if r["validation"] is not None]
        for beyond in (False, True):
            there = [
                row
                for row in feasible
                if (not low <= row["validation"] <= high) == beyond
            ]
            axes.plot(
                [row["learning_rate"] for row in there],
                [floor if beyond else row["validation"] for row in there],
                _MARKERS[shade],
                color=drawing.shade(shade),
                fillstyle="none" if beyond else "full",
                markeredgewidth=0.8 if beyond else 0,
                clip_on=False,
            )
        lost = [r["learning_rate"] for r in members if r["validation"] is None]
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
