"""A ladder as JSON, as a table and as a box plot."""

import math
import pathlib
from typing import Any

from lbcheck.instruments.ladder import Ladder
from lbcheck.instruments.ladder import ranked
from lbcheck.schedules import figures
from lbcheck.support.text_table import text_table
from lbcheck.verdict import statistics

FIGURE = "ladder"


def result(
    ladder: Ladder, names: list[str], metric: str, mode: str
) -> dict[str, Any]:
    """What was found, JSON-able; None stands for what is not finite.

    Args:
        ladder: Whose scores are greater where they are better.
        names: Of A and B.
        metric: What the scores are of.
        mode: "max"; "min": a score is the metric's negative.
    """
    sign = 1 if mode == "max" else -1
    confirmed = ladder.confirmations[-1]
    rows = [
        _row(ladder.best, sign),
        *(
            _row(d.rung, sign)
            | {"factor": list(d.factor.names), "answer": d.answer}
            | {"failures": list(d.failures), "failing": d.failing}
            | _loss(d)
            for d in ladder.decisions
        ),
        _row(ladder.other, sign),
        _row(confirmed.best, sign),
        *(
            _row(c.rung, sign) | _confirmed(c)
            for c in ladder.confirmations
            if c.rung is not c.best
        ),
    ]
    return {
        "A": names[0],
        "B": names[1],
        "metric": metric,
        "mode": mode,
        "margin": ladder.margin,
        "needed": list(ladder.needed),
        "undecided": list(ladder.undecided),
        "minimal": ladder.minimal and list(ladder.minimal),
        "kept": list(confirmed.kept),
        "sentence": _sentence(ladder, metric),
        "rungs": rows,
    }


def text(found: dict[str, Any]) -> str:
    """The sentence and a table with a line a rung."""
    rows = [
        [
            row["rung"],
            f"{len(row['values'])}",
            f"{row['diverged']}",
            _number(row["median"]),
            _number(row.get("loss")),
            _interval(row),
            _answer(row),
        ]
        for row in found["rungs"]
    ]
    columns = ["rung", "runs", "diverged", found["metric"], "loss", "90 %", ""]
    return "\n\n".join(
        [
            found["sentence"],
            f"A is {found['A']}, B is {found['B']}.",
            text_table(columns, rows, (1, 2, 3, 4)),
        ]
    )


def draw(found: dict[str, Any], folder) -> list[pathlib.Path]:
    """Writes ladder.png and ladder.svg: a box of the runs of each rung."""
    rows = found["rungs"]
    figure, axes = figures.new_axes(
        f"From {pathlib.Path(found['A']).stem}, one setting at a time taken "
        "back",
        f"validation {found['metric']}",
    )
    axes.boxplot([_finite(row) for row in rows], widths=0.6)
    axes.set_xticks(
        range(1, len(rows) + 1),
        [row["rung"] + _diverged(row) for row in rows],
        rotation=30,
        ha="right",
    )
    axes.set_xlabel("")
    sign = 1 if found["mode"] == "max" else -1
    if rows[0]["median"] is not None:
        axes.axhline(
            rows[0]["median"] - sign * found["margin"],
            color="tab:red",
            linestyle="--",
            label="A's median less the margin",
        )
        axes.legend()
    return figures.save_both(figure, folder, FIGURE)


def _row(rung, sign):
    scores = ranked(rung.scores)
    values = [_known(sign * score) for score in scores.tolist()]
    return {
        "rung": rung.name,
        "settings": rung.settings,
        "values": values,
        "diverged": values.count(None),
        "median": _known(sign * statistics.median(scores)),
    }


def _loss(one):
    return {
        "loss": _known(one.loss),
        "low": _known(one.interval.low),
        "high": _known(one.interval.high),
    }


def _known(value):
    return value if math.isfinite(value) else None


def _confirmed(confirmation):
    answer = "as good as A" if confirmation.holds else "not shown as good"
    return {
        "kept": list(confirmation.kept),
        "answer": answer,
        **_loss(confirmation),
    }


def _sentence(ladder, metric):
    count = len(ladder.decisions)
    named = ", ".join(ladder.needed) or "none"
    parts = [
        f"Needed of {count} settings, each worth more than {ladder.margin:g} "
        f"of {metric}: {named}."
    ]
    failing = [d for d in ladder.decisions if d.failing]
    names = [d.factor.name for d in failing]
    if seeds := [n for n in ladder.undecided if n not in names]:
        parts.append(
            f"Undecided, and kept: {', '.join(seeds)}; more --seeds would "
            "decide."
        )
    if failing:
        said = ", ".join(map(_failed, failing))
        parts.append(f"Undecided because of failures, and kept: {said}.")
    *failed, last = ladder.confirmations
    if failed:
        parts.append(
            "With these alone it is not shown to be as good as A: others may "
            "stand in for one another."
        )
    if last.rung is last.best:
        parts.append("So all of A's settings are kept.")
    else:
        with_kept = f" with A's {', '.join(last.kept)}" if last.kept else ""
        parts.append(f"B{with_kept} is as good as A, with fresh seeds.")
    return " ".join(parts)


def _answer(row):
    answer = row.get("answer", "")
    return f"{answer} (failures)" if row.get("failing") else answer


def _failed(decision):
    best, without = decision.failures
    runs = len(decision.rung.scores)
    return (
        f"{decision.factor.name} ({without} of {runs} runs fail without it, "
        f"{best} of A's)"
    )


def _diverged(row):
    return f"\n{row['diverged']} diverged" if row["diverged"] else ""


def _finite(row):
    return [value for value in row["values"] if value is not None]


def _number(value):
    return "" if value is None else f"{value:.5g}"


def _interval(row):
    if row.get("loss") is None:
        return ""
    low, high = row["low"], row["high"]
    return (
        f"{'-infinity' if low is None else f'{low:.4g}'} to "
        f"{'infinity' if high is None else f'{high:.4g}'}"
    )
