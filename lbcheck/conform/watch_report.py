"""`lbcheck conform --library=keras`: the watch of other libraries, as a table.

lbcheck conform --library=keras
lbcheck conform --library=tf_keras --optimizers=Adam,SGD --format=json
"""

import json
from importlib import metadata

from absl import app

from lbcheck import optimizers
from lbcheck import rules
from lbcheck.conform import libraries
from lbcheck.conform import reference
from lbcheck.conform import subjects
from lbcheck.conform import trajectory
from lbcheck.conform import watch

KERASES = {"keras": "keras3", "tf_keras": "tf_keras"}
OTHERS = {"model_garden": "official ", "optax": "optax "}
NAMES = (*KERASES, *OTHERS)
_DISTRIBUTIONS = {"model_garden": "tf-models-official"}
_SHAPES = ((6, 5), (4, 3), (5,), (3,))
_DECAYS = (True, True, False, False)
_FORMS = {"AdamW": ("paper", "keras"), "Adagrad": ("paper", "keras")}
"""Dialects whose form stands in the paper too, for the place of epsilon."""


def _of_others(library, names, seed, tolerance):
    """Rows of a library that ``libraries.py`` knows how to step."""
    for name, (rule, dialect, make) in libraries.LIBRARIES.items():
        short = name.removeprefix(OTHERS[library])
        if short == name or (names and short not in names):
            continue
        run = make()
        decayed = "l2" if name == "optax sgd" else "weight_decay"
        for condition in ("constant rate", "changing rate", "weight decay"):
            changes = condition != "constant rate"
            case = watch.make_case(seed, changes, _SHAPES)
            hyper = {**optimizers.BY_NAME[rule.lower()].example}
            peak = hyper.pop("learning_rate") / watch.PEAK
            case = case._replace(rates=[peak * rate for rate in case.rates])
            hyper["weight_decay"] = 0.0
            if condition == "weight decay":
                hyper[decayed] = 0.1
                case = case._replace(decays=_DECAYS)
            difference, finding = _compared(
                run, rule, dialect, case, hyper, tolerance
            )
            yield watch.Row(short, condition, library, difference, finding)


def _compared(run, rule, dialect, case, hyper, tolerance):
    """(difference from the paper's nearest form, finding)."""
    everything = (rule, dialect) in reference.ADAPTS_ALL
    adapts = tuple(d or everything for d in _DECAYS)
    problem = (case.weights, case.gradients, case.rates)
    found = run(*problem, hyper, case.decays, adapts)[-1]

    def far(which):
        function, switches = reference.REFERENCES[rule, which]
        treatments = list(zip(case.decays, adapts))
        exact = trajectory.run_reference(
            function, problem, treatments, **hyper, **switches
        )
        return trajectory.distance(found, exact[-1], case.weights)

    difference = min(map(far, _FORMS.get(rule, ("paper",))))
    if difference <= tolerance:
        return difference, ""
    if far(dialect) <= tolerance:
        return difference, _computed(rule, dialect)
    return difference, "equals no reading that is known here"


def _computed(rule, dialect):
    """How a dialect is not the paper's."""
    paper = rules.ALL[rule].resolve("paper", {})
    other = rules.ALL[rule].resolve(dialect, {})
    parts = [
        f"{name}={getattr(other, name)!r}"
        for name in rules.ALL[rule].switches()
        if getattr(other, name) != getattr(paper, name)
    ]
    readings = [rules.ALL[rule].dialect(d) for d in ("paper", dialect)]
    if readings[0].fallback != readings[1].fallback:
        parts.append("another rule for what has no trust ratio")
    return "computes " + ", ".join(parts or [f"the dialect {dialect!r}"])


def _check(library, names):
    if library in KERASES:
        known = [s.name for s in subjects.SUBJECTS]
    else:
        known = [
            name.removeprefix(OTHERS[library])
            for name in libraries.LIBRARIES
            if name.startswith(OTHERS[library])
        ]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise app.UsageError(
            f"--optimizers: unknown optimizer {unknown[0]!r} of {library}; "
            f"known are {', '.join(known)}."
        )


def rows_of(library: str, names, seed: int, tolerance: float):
    """Yields the rows of a library.

    Args:
        library: One of `NAMES`.
        names: Optimizers as the table calls them; empty: all.
        seed: Seed of weights, gradients and rates.
        tolerance: Largest difference that agrees, relative to the movement.
    """
    _check(library, names)
    if library in KERASES:
        yield from watch.rows(KERASES[library], names, seed, tolerance)
    else:
        yield from _of_others(library, names, seed, tolerance)


def report(library, names, seed, tolerance, as_json) -> bool:
    """Prints the rows; whether anything differs."""
    distribution = _DISTRIBUTIONS.get(library, library.replace("_", "-"))
    try:
        version = metadata.version(distribution)
    except metadata.PackageNotFoundError as error:
        raise app.UsageError(
            f"--library={library}: {distribution} is not installed."
        ) from error
    found = []
    if not as_json:
        print(
            f"{distribution} {version}: largest difference from the papers' "
            f"float64 references,\nrelative to the movement, after "
            f"{watch.STEPS} updates; up to {tolerance:g} agrees.\n"
        )
        print(f"{'optimizer':19}{'condition':20}{'on':11}{'difference':>11}")
    for row in rows_of(library, names, seed, tolerance):
        found.append(row)
        if not as_json:
            number = "" if row.difference is None else f"{row.difference:.1e}"
            print(
                f"{row.optimizer:19}{row.condition:20}{row.backend:11}"
                f"{number:>11}  {row.finding or 'agrees'}",
                flush=True,
            )
    differing = [row for row in found if row.finding]
    if as_json:
        described = {
            "library": distribution,
            "version": version,
            "seed": seed,
            "tolerance": tolerance,
            "rows": [_as_json(row) for row in found],
        }
        print(json.dumps(described, indent=2))
    else:
        print(f"\n{len(differing)} of {len(found)} rows differ:")
        for name in dict.fromkeys(row.optimizer for row in differing):
            for why, where in _reasons(name, differing).items():
                print(f"- {name}: {why} ({'; '.join(where)})")
    return bool(differing)


def _as_json(row):
    difference = row.difference
    known = None if difference is None else trajectory.finite(difference)
    return row._asdict() | {"difference": known}


def _reasons(name, rows):
    """{what differs: where} of one optimizer."""
    reasons = {}
    for row in rows:
        if row.optimizer == name:
            where = reasons.setdefault(row.finding, [])
            where.append(f"{row.condition} on {row.backend}")
    return reasons
