"""What a page says in numbers, from the records alone.

A page holds the text of `block` for each of its studies, between
`<!-- records: STUDY -->` and `<!-- end of records -->`; a test makes it anew.
"""

import re
from typing import Any

import numpy as np
from scipy import stats

from lbcheck.report import page_tables
from lbcheck.report import results
from lbcheck.report import tables
from lbcheck.reproductions.index import Study

BEGIN = "<!-- records: {} -->\n"
END = "<!-- end of records -->\n"
_BLOCK = re.compile(
    re.escape(BEGIN).replace(r"\{\}", r"(\w+)") + "(.*?)" + re.escape(END),
    re.DOTALL,
)


def blocks(page: str) -> dict[str, str]:
    """{study: what stands in a page of its records}."""
    return {m[1]: m[2] for m in _BLOCK.finditer(page)}


def replaced(page: str, made: dict[str, str]) -> str:
    """The page with these blocks, by study, in place of what stands there."""

    def block(match):
        text = made.get(match[1], match[2])
        return f"{BEGIN.format(match[1])}{text}{END}"

    return _BLOCK.sub(block, page)


def block(study: Study) -> str:
    """The answer and the tables of a study, as Markdown."""
    folder = study.load()
    found = results.collect(folder)
    ended = any(row["stage"] == "confirm" for row in found["tables"]["trials"])
    made = _arms(study, found) if ended else _trials(study, found)
    arms = tables.markdown_rows(made)
    pairs = page_tables.pairs(found)
    keep = ("pair", "on", "answer", "better by", "margin", "improvement")
    places = [pairs.columns.index(name) for name in keep]
    judged = [
        [row[place] for place in places]
        for row in pairs.rows
        if row[1] == found["study"]["parts"][0]
    ]
    parts = [f"**{_answer(found)}**", _effort(folder, found), arms]
    if judged:
        short = tables.Table("pairs", "", "", list(keep), judged)
        parts.append(tables.markdown_rows(short))
    return "\n" + "\n\n".join(part.strip("\n") for part in parts) + "\n\n"


def answer(study: Study) -> str:
    """What a study answers, in a sentence."""
    return _answer(results.collect(study.load()))


def _answer(found):
    if found["verdict"] is None:
        return "Not finished."
    return found["verdict"]["sentence"]


def _effort(folder, found):
    """Trials, hours, and what the records say of how they were made."""
    facts = found["study"]
    counts: dict[tuple[int, int], int] = {}
    seconds = 0.0
    for part in (folder, *folder.companions.values()):
        size = part.study["steps"], part.study["batch_size"]
        counts[size] = counts.get(size, 0) + len(part.records)
        seconds += sum(record["seconds"] for record in part.records)
    trials = " and ".join(
        f"{count:,} trials of {steps:,} updates at batch {batch:,}"
        for (steps, batch), count in counts.items()
    )
    environment = facts["environment"]
    return (
        f"{trials}, {_time(seconds, environment)}; "
        f"commit {(environment['commit'] or 'unknown')[:12]}, Python "
        f"{environment['python']}. Judged on {facts['parts'][0]} "
        f"{facts['metric']['name']}, margin {facts['margin']:g}."
    )


def _time(seconds, environment):
    for device in environment["devices"]:
        if "cpu" not in device.lower():
            return f"{seconds / 60:.1f} minutes of {device}, summed over trials"
    return f"{seconds / 3600:.1f} hours of one core"


def _arms(study, found) -> tables.Table:
    part = found["study"]["parts"][0]
    diverged = any(row["metric"] is None for row in found["tables"]["seeds"])
    which = "the seeds that ended" if diverged else "the seeds"
    heads = ["arm", f"mean of {which}", "median", "quartiles"]
    # Curves are of the data that may be looked at while it trains.
    curve = "best on the curve" + (" (validation)" if part == "test" else "")
    heads += [curve, "seeds", "best hyperparameters"]
    if study.published:
        heads.insert(1, "published")
    rows = [_arm(study, found, arm, part) for arm in found["study"]["arms"]]
    return tables.Table("arms", "", "", heads, rows)


def _trials(study, found) -> tables.Table:
    """The trials of the search, of a study that no run has confirmed yet."""
    searched = [
        row["parameter"]
        for row in found["tables"]["best_points"]
        if row["searched"]
    ]
    names = list(dict.fromkeys(searched))
    heads = ["arm", *names, "validation", "training"]
    if study.published:
        heads.insert(1, "published")
    rows = []
    for row in found["tables"]["trials"]:
        point = [row.get(f"hyperparameters/{name}") for name in names]
        expected = study.expected(row["arm"]) or "–"
        rows.append(
            [
                row["arm"],
                *([expected] if study.published else []),
                *(tables.number(value) for value in point),
                *(tables.metric(row[n]) for n in ("validation", "training")),
            ]
        )
    return tables.Table("trials", "", "", heads, rows)


def _arm(study, found, arm, part) -> list[str]:
    kept = found["tables"]
    values = [
        row["metric"]
        for row in kept["seeds"]
        if (row["arm"], row["part"]) == (arm, part)
    ]
    finished = [value for value in values if value is not None]
    row: list[Any] = [arm]
    if study.published:
        row.append(study.expected(arm) or "–")
    row += [mean(finished), *_middle(finished), _best(found, arm, part)]
    points = [r for r in kept["best_points"] if r["arm"] == arm]
    point = ", ".join(
        f"{r['parameter']} {tables.number(r['setting'])}"
        for r in points
        if r["searched"]
    )
    return [*row, f"{len(finished)} of {len(values)}", point or "–"]


def mean(values) -> str:
    """Mean and Student's 95 % interval of it.

    >>> mean([0.99, 0.992, 0.994])
    '0.9920 [0.9870, 0.9970]'
    """
    if not values:
        return "–"
    center = float(np.mean(values))
    if len(values) < 2:
        return tables.metric(center)
    error = stats.sem(values)
    reach = float(stats.t.ppf(0.975, len(values) - 1) * error)
    low, high = (tables.metric(center + s * reach) for s in (-1, 1))
    return f"{tables.metric(center)} [{low}, {high}]"


def _middle(values):
    if not values:
        return "–", "–"
    low, median, high = np.percentile(values, [25, 50, 75])
    return (
        tables.metric(float(median)),
        f"{tables.metric(float(low))} to {tables.metric(float(high))}",
    )


def _best(found, arm, part):
    """The highest median of the evaluations along the runs."""
    seen = "validation" if part == "test" else part
    curve = [
        row["median"]
        for row in found["tables"]["curves"]
        if row["arm"] == arm and row["part"] == seen
    ]
    if not curve:
        return "–"
    choose = max if found["study"]["metric"]["mode"] == "max" else min
    return tables.metric(choose(curve))
