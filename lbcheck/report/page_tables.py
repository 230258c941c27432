"""Which tables the report has, made of the results and of nothing else."""

from lbcheck.report import study_tables
from lbcheck.report.tables import Table
from lbcheck.report.tables import interval
from lbcheck.report.tables import metric
from lbcheck.report.tables import number

_DOUBTS = ("ceiling", "examples")


def make(results: dict) -> list[Table]:
    """The tables that have rows, in the page's order."""
    made = (
        arms(results),
        pairs(results),
        differences(results),
        challenge(results),
        searches(results),
        control(results),
        best_points(results),
        optimism(results),
        bins(results),
        findings(results),
        study_tables.spaces(results),
        study_tables.budget(results),
        study_tables.failures(results),
        study_tables.audit(results),
        study_tables.environment(results),
    )
    return [table for table in made if table.rows]


def for_papers(results: dict) -> list[Table]:
    """The tables that a paper prints: Nado et al. 2021, Appendix D.4."""
    made = (
        arms,
        pairs,
        challenge,
        searches,
        control,
        study_tables.spaces,
        best_points,
        study_tables.budget,
    )
    tables = [make_one(results) for make_one in made]
    return [table for table in tables if table.rows]


def arms(results) -> Table:
    """What each arm reached, with which hyperparameters and how many trials."""
    tables, target = results["tables"], results["study"]["target"]
    parts = results["study"]["parts"]
    medians = {(row["arm"], row["part"]): row for row in tables["arms"]}
    rows = []
    for arm in results["study"]["arms"]:
        budget_rows = [r for r in tables["budget"] if r["arm"] == arm]
        search = [
            r for r in budget_rows if r["stage"] not in ("confirm", "control")
        ]
        runs = [
            row["metric"]
            for row in tables["seeds"]
            if (row["arm"], row["part"]) == (arm, parts[0])
        ]
        finished = sum(run is not None for run in runs)
        point = [r for r in tables["best_points"] if r["arm"] == arm]
        row = [arm]
        for part in parts:
            row.append(_median(medians.get((arm, part))))
        if target is not None:
            row.append(hits(medians.get((arm, parts[0]))))
        row.append(f"{finished:,} of {len(runs):,}")
        if tables["budget"]:
            row += [_feasible(search), _setting(point)]
        rows.append(row)
    name = results["study"]["metric"]["name"]
    caption = ""
    if medians:
        caption = (
            f"Median {name} over the {_units(results)} of each arm's best "
            "hyperparameters, with its 95 % interval. "
        )
    if target is not None:
        caption += (
            f"Target hits: how many seeds end at {metric(target)} or better, "
            "the 95 % interval of that fraction, and the median step of the "
            "first evaluation that shows it. "
        )
    return Table(
        "arms",
        "Arms",
        f"{caption}{_units(results).capitalize()}"
        f"{' and search trials' if tables['budget'] else ''}: how many of all "
        "did not diverge.",
        [
            "arm",
            *parts,
            *(["target hits"] if target is not None else []),
            _units(results),
            *(
                ["search trials", "best hyperparameters"]
                if tables["budget"]
                else []
            ),
        ],
        rows,
    )


def _of_first(results):
    """That a table is of the first of several searches."""
    return ", of the first search" if results["tables"]["searches"] else ""


def _units(results):
    """What an arm has several of."""
    return "searches" if results["tables"]["searches"] else "seeds"


def _median(row):
    if row is None or row["median"] is None:
        return "–"
    return f"{metric(row['median'])} {interval(row['low'], row['high'])}"


def hits(row) -> str:
    """How many runs reached the target, with the rate's interval."""
    if row is None or row["hits"] is None:
        return "–"
    steps = row["steps_to_target"]
    after = "" if steps is None else f", step {number(steps)}"
    return (
        f"{row['hits']} of {row['runs']} "
        f"[{row['hit_low']:.0%}, {row['hit_high']:.0%}]{after}"
    )


def _feasible(budget_rows):
    feasible = sum(row["feasible"] for row in budget_rows)
    return f"{feasible:,} of {sum(row['total'] for row in budget_rows):,}"


def _setting(rows):
    """What was searched; of an arm of one point, that point."""
    searched = [row for row in rows if row["searched"]]
    return ", ".join(
        f"{row['parameter']} {number(row['setting'])}"
        for row in searched or rows
    )


def pairs(results) -> Table:
    """Each challenger compared with each baseline, on both parts."""
    study = results["study"]
    return Table(
        "pairs",
        "Challengers against baselines",
        f"How much better the challenger's {study['metric']['name']} is: "
        "the median of all differences between seeds, with the interval of "
        "those that ranks (error 5 % a side) and means (1 % a side) do not "
        "rule out together: it holds the true one in about 98 % of studies. "
        "Three one-sided p-values, each to be compared with 5 %: better than "
        "0 and than the margin, better by less than the margin, equivalent "
        "within the margin. Last, the probability that a seed of the "
        "challenger beats one of the baseline, with its 95 % interval."
        + _unchallenged(results["verdict"]),
        [
            "pair",
            "on",
            "answer",
            "relation",
            "better by",
            "margin",
            "p needed",
            "p not needed",
            "p equal",
            "improvement",
        ],
        [
            [
                f"{row['arm']} – {row['other_arm']}",
                row["part"],
                row["answer"] + _doubt(row),
                row["relation"],
                _difference(row),
                number(row["margin"], 2),
                number(row["p_needed"], 2),
                number(row["p_not_needed"], 2),
                number(row["p_equivalent"], 2),
                _probability(row),
            ]
            for row in results["tables"]["pairs"]
        ],
    )


def _unchallenged(verdict):
    """What answers of pairs lack where the study has not been challenged."""
    if verdict is None or len(verdict["challenge"] or ()) > 1:
        return ""
    return " None of these answers was challenged with further trials."


def _doubt(row):
    """What forbids an answer that the difference would give."""
    if row["doubt"] == "failures":
        return (
            f" ({row['arm']} failed in {row['failures']} of {row['runs']} "
            f"runs, {row['other_arm']} in {row['other_failures']} of "
            f"{row['other_runs']})"
        )
    return f" ({row['doubt']})" if row["doubt"] in _DOUBTS else ""


def _difference(row):
    if row["difference"] is None:
        return "–"
    ends = [
        "unbounded" if end is None else metric(end, "+")
        for end in (row["low"], row["high"])
    ]
    return f"{metric(row['difference'], '+')} [{', '.join(ends)}]"


def _probability(row):
    if row["improvement"] is None:
        return "–"
    low, high = row["improvement_low"], row["improvement_high"]
    return f"{row['improvement']:.2f} [{low:.2f}, {high:.2f}]"


def differences(results) -> Table:
    """What the difference of a pair rests on, and what more would show."""
    rows = results["tables"]["differences"]
    has_examples = any(row["example_error"] is not None for row in rows)
    return Table(
        "differences",
        "What more seeds would buy",
        "Half of the width of the interval, as it is and as it would be about "
        "with twice the seeds"
        + (", or with twice the test examples" if has_examples else "")
        + "; it is to be compared with the margin.",
        [
            "pair",
            "better by",
            "margin",
            "half width",
            "twice the seeds",
            *(["twice the examples"] if has_examples else []),
        ],
        [
            [
                f"{row['arm']} – {row['other_arm']}",
                metric(row["difference"], "+"),
                number(row["margin"], 2),
                number(row["half"], 2),
                number(row["half_with_seeds"], 2),
                *(
                    [number(row["half_with_examples"], 2)]
                    if has_examples
                    else []
                ),
            ]
            for row in rows
        ],
        (1, 2, 3, 4, 5)[: 5 if has_examples else 4],
    )


def optimism(results) -> Table:
    """How much of an arm's best trial was luck."""
    study = results["study"]
    return Table(
        "optimism",
        "Luck of the best trial",
        f"The best {study['selection']} {study['metric']['name']} that the "
        f"{'first ' if _of_first(results) else ''}search saw, and the median "
        "over fresh seeds of the same hyperparameters. What is lost was luck, "
        "and may be more for one arm than for another. A seed that diverged "
        "counts as worse than every other. Where a challenge has "
        "confirmed several trials, another may be judged.",
        ["arm", "search", "fresh seeds", "lost"],
        [
            [
                row["arm"],
                metric(row["searched"]),
                metric(row["confirmed"]),
                metric(row["optimism"], "+"),
            ]
            for row in results["tables"]["optimism"]
        ],
        (1, 2, 3),
    )


def challenge(results) -> Table:
    """What the confirming runs said at each number of search trials."""
    steps = (results["verdict"] or {"challenge": []})["challenge"]
    return Table(
        "challenge",
        "Challenge",
        "An answer is given only if it holds while the side that it goes "
        "against gets more search trials, or all that a grid has. What the "
        "confirming runs of each "
        "arm say, of those of its trials that were confirmed by then the best "
        "one by the median of its seeds:",
        ["trials per challenger", "trials per baseline", "answer"],
        [
            [
                number(step["challengers"]),
                number(step["baselines"]),
                step["answer"] or "running",
            ]
            for step in steps
            if len(steps) > 1
        ],
        (0, 1),
    )


def searches(results) -> Table:
    """What each arm reached in each of several searches."""
    part, arms = results["study"]["parts"][0], results["study"]["arms"]
    found = {
        (row["search"], row["arm"]): row["metric"]
        for row in results["tables"]["searches"]
        if row["part"] == part
    }
    return Table(
        "searches",
        "Searches",
        f"Mean {part} {results['study']['metric']['name']} over the seeds of "
        "each arm's best hyperparameters, of each search.",
        ["search", *arms],
        [
            [number(search), *(metric(found.get((search, a))) for a in arms)]
            for search in sorted({search for search, _ in found})
        ],
        tuple(range(1 + len(arms))),
    )


def control(results) -> Table:
    """The best baseline at a small batch, against itself at the large one."""
    study = results["study"]
    return Table(
        "control",
        "Control at a small batch",
        f"Batch {number(study['control_batch_size'])} against batch "
        f"{number(study['batch_size'])}, with as many examples and its own "
        "search: how much better the small batch is.",
        ["on", "better by", "margin", "large batch"],
        [
            [
                row["part"],
                _difference(row),
                number(row["margin"], 2),
                _costs(row),
            ]
            for row in results["tables"]["control"]
        ],
    )


def _costs(row):
    """What the sentence of a control says, too."""
    if row["answer"] == "needed":
        return "costs the margin or more"
    if row["answer"] == "not needed" or row["doubt"] == "ceiling":
        return "costs less than the margin"
    return f"undecided ({row['doubt']})"


def best_points(results) -> Table:
    """The hyperparameters that each arm is judged by."""
    rows = results["tables"]["best_points"]
    arms = [
        a for a in results["study"]["arms"] if any(r["arm"] == a for r in rows)
    ]
    names = list(dict.fromkeys(row["parameter"] for row in rows))
    found = {(row["arm"], row["parameter"]): row["setting"] for row in rows}
    return Table(
        "best-points",
        "Best hyperparameters",
        f"Each arm's search trial of best {results['study']['selection']} "
        f"{results['study']['metric']['name']}{_of_first(results)}, after a "
        "challenge by the median of its seeds.",
        ["hyperparameter", *arms],
        [
            [name, *(number(found.get((arm, name))) for arm in arms)]
            for name in names
        ]
        if arms
        else [],
        tuple(range(1, len(arms) + 1)),
    )


def bins(results) -> Table:
    """The best learning rate at each strength of weight decay."""
    return Table(
        "bins",
        "Best rate at each weight decay",
        "One row for each ring in the figure above.",
        ["arm", "weight decay or L2", "trials", "best rate", "validation"],
        [
            [
                row["arm"],
                _span(row["decay_low"], row["decay_high"]),
                number(row["settings"]),
                number(row["best_rate"], 3),
                metric(row["best_validation"]),
            ]
            for row in results["tables"]["bins"]
        ],
        (2, 3, 4),
    )


def _span(low, high):
    if low == high:
        return number(low, 2)
    return f"{number(low, 2)} to {number(high, 2)}"


def findings(results) -> Table:
    """What the schedule doctor finds in the schedules of the best trials."""
    return Table(
        "findings",
        "Findings of the schedule doctor",
        "",
        ["arm", "finding", "at step", "size", "what", "fix"],
        [
            [
                row["arm"],
                f"{row['severity']}: {row['code']}",
                number(row["step"]),
                row["size"],
                row["what"],
                row["fix"],
            ]
            for row in results["tables"]["findings"]
        ],
        (2, 3),
    )
