"""Tables of how a study was made: spaces, budget, selection, environment."""

from lbcheck.report.tables import Table
from lbcheck.report.tables import number


def spaces(results) -> Table:
    """The search spaces, as Nado et al. 2021 print them."""
    return Table(
        "spaces",
        "Search spaces",
        "Volume: decades on a logarithmic scale, the length of the range on a "
        "linear one, the number of values of a list.",
        ["arm", "hyperparameter", "range", "scale", "volume"],
        [
            [
                row["arm"],
                _parameter(row),
                row["range"],
                row["scale"] or ("listed" if row["searched"] else "constant"),
                f"{number(row['width'], 3)} {row['unit']}".strip()
                if row["searched"]
                else "",
            ]
            for row in results["tables"]["spaces"]
        ],
    )


def _parameter(row):
    name = f"1 - {row['parameter']}" if row["one_minus"] else row["parameter"]
    return f"{name} / {row['of']}" if row["of"] else name


def budget(results) -> Table:
    """What each arm was given."""
    dimensions = {}
    for row in results["tables"]["spaces"]:
        dimensions.setdefault(row["arm"], []).append(row["searched"])
    return Table(
        "budget",
        "Budget",
        "Feasible trials are those that did not diverge.",
        [
            "arm",
            "stage",
            "dimensions",
            "planned",
            "trials",
            "feasible",
            "steps",
            "examples",
            "seconds",
        ],
        [
            [
                row["arm"],
                row["stage"],
                "–"
                if row["stage"] in ("confirm", "control")
                else number(sum(dimensions[row["arm"]])),
                *(
                    number(row[key])
                    for key in (
                        "planned",
                        "total",
                        "feasible",
                        "steps",
                        "examples",
                    )
                ),
                f"{row['seconds']:,.1f}",
            ]
            for row in results["tables"]["budget"]
        ],
        tuple(range(2, 9)),
    )


def failures(results) -> Table:
    """Every trial that diverged."""
    searched = {
        (row["arm"], f"hyperparameters/{row['parameter']}")
        for row in results["tables"]["spaces"]
        if row["searched"]
    }
    return Table(
        "failures",
        "Failures",
        "Trials that diverged: the first update without a finite loss, the "
        "first variable that was not finite, and the hyperparameters.",
        [
            "arm",
            "stage",
            "trial",
            "seed",
            "step",
            "variable",
            "hyperparameters",
        ],
        [
            [
                row["arm"],
                row["stage"],
                number(row["index"]),
                str(row["seed"]),
                number(row["step"]),
                number(row["variable"]),
                ", ".join(
                    f"{key.split('/', 1)[1]} {number(entry)}"
                    for key, entry in row.items()
                    if (row["arm"], key) in searched
                ),
            ]
            for row in results["tables"]["failures"]
        ],
        (2, 3, 4),
    )


def audit(results) -> Table:
    """What each arm's optimizer does to each variable."""
    found, arms = {}, []
    for row in results["tables"]["audit"]:
        if row["arm"] not in arms:
            arms.append(row["arm"])
        key = row["variable"], row["shape"]
        found.setdefault(key, {})[row["arm"]] = row
    return Table(
        "audit",
        "Selection audit",
        "Which variables each arm decays and adapts layer-wise, and by which "
        "rule they are updated. Normalization and biases are usually neither "
        "decayed nor adapted.",
        ["variable", "shape", *arms],
        [
            [*key, *(_selection(rows.get(arm)) for arm in arms)]
            for key, rows in found.items()
        ],
    )


def _selection(row):
    if row is None:
        return "–"
    done = [word for word in ("decay", "adapt") if row[word]]
    return f"{row['rule']}: {', '.join(done) or 'neither'}"


def environment(results) -> Table:
    """Versions, devices, model and data."""
    study = results["study"]
    entries = {
        "workload": study["workload"],
        "seed": None if study["seed"] is None else str(study["seed"]),
        **{
            key.replace("num_", "examples of ").replace("_", " "): entry
            for key, entry in (study["facts"] or {}).items()
            if isinstance(entry, (str, int))
        },
        "lbcheck": study["lbcheck"],
        **(study["environment"] or {}),
    }
    return Table(
        "environment",
        "Environment",
        "",
        ["what", "value"],
        [
            [
                key,
                ", ".join(map(str, entry))
                if isinstance(entry, list)
                else number(entry),
            ]
            for key, entry in entries.items()
            if entry is not None
        ],
    )
