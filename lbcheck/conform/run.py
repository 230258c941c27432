"""`lbcheck conform`: steps every dialect and prints how far apart they are.

lbcheck conform
lbcheck conform --rules=LAMB --seed=7 --format=json
lbcheck conform --library=keras

A dialect is the update of an optimizer as a paper or a library computes it.
Each is stepped beside a float64 reference that shares no code with it, and so
is the library, where it is installed. The last looks at another library's own
optimizers; see watch_report.py.

Exit codes: 0 agrees; 1 a dialect of lbcheck is beyond --tolerance, or with
--strict the other library is; 2 bad input.
"""

import json

import numpy as np
from absl import app
from absl import flags

from lbcheck import optimizers
from lbcheck import rules
from lbcheck.conform import libraries
from lbcheck.conform import reference
from lbcheck.conform import trajectory
from lbcheck.conform import watch_report
from lbcheck.support import command
from lbcheck.support import exit_codes

FLAGS = flags.FlagValues()
_RULES = flags.DEFINE_list(
    "rules", sorted(rules.ALL), "Rules.", flag_values=FLAGS
)
_SEED = flags.DEFINE_integer(
    "seed",
    0,
    "Seed of weights and gradients.",
    lower_bound=0,
    flag_values=FLAGS,
)
_TOLERANCE = flags.DEFINE_float(
    "tolerance",
    1e-5,
    "Largest difference allowed to lbcheck, relative to the movement.",
    lower_bound=0.0,
    flag_values=FLAGS,
)
_LIBRARY = flags.DEFINE_enum(
    "library",
    None,
    watch_report.NAMES,
    "Watch all optimizers of this library; the tolerance is ten times that.",
    flag_values=FLAGS,
)
_OPTIMIZERS = flags.DEFINE_list(
    "optimizers", [], "With --library: only these.", flag_values=FLAGS
)
_STRICT = flags.DEFINE_bool(
    "strict",
    False,
    "With --library: exit 1 if anything differs.",
    flag_values=FLAGS,
)
_FORMAT = command.define_format(FLAGS)

STEPS = 40
REPORTED = (1, STEPS)
DECAY = (True, True, False, False)


def problem(seed, peak):
    """Weights of different norm, turning gradients, a rate that changes."""
    generator = np.random.default_rng(seed)
    shapes = ((6, 5), (4, 3), (5,), (3,))
    weights = [
        np.float32(generator.normal(size=shape) * 10.0**-k)
        for k, shape in enumerate(shapes)
    ]
    gradients = [
        [np.float32(generator.normal(size=shape)) for shape in shapes]
        for _ in range(STEPS)
    ]
    rates = [
        peak * (0.5 + 0.5 * np.sin(1.0 + 0.3 * step)) for step in range(STEPS)
    ]
    return weights, gradients, rates


def adapted(rule, dialect):
    """Which variables take a trust ratio in this dialect."""
    everything = (rule, dialect) in reference.ADAPTS_ALL
    return tuple(d or everything for d in DECAY)


def selection(rule, dialect):
    """Arguments that let a dialect adapt what decays, if it would not."""
    if rules.ALL[rule].dialect(dialect).unadapted is None:
        return {}
    return {"exclude_from_layer_adaptation": "same"}


def run_reference(rule, dialect, case, hyper, decay=DECAY):
    """The float64 reference's weights after each update."""
    function, switches = reference.REFERENCES[rule, dialect]
    everything = (rule, dialect) in reference.ADAPTS_ALL
    return trajectory.run_reference(
        function,
        case,
        [(d, d or everything) for d in decay],
        **hyper,
        **switches,
    )


def run_optimizer(rule, dialect, case, hyper):
    """The Keras 3 optimizer's weights after each update, in float32."""
    import keras

    from lbcheck import keras3

    weights, gradients, rates = case
    names = [f"v{i}_{'' if d else 'nodecay'}" for i, d in enumerate(DECAY)]
    variables = [
        keras.Variable(weight, name=name)
        for weight, name in zip(weights, names)
    ]
    optimizer = getattr(keras3, rule)(
        learning_rate=1.0,
        dialect=dialect,
        exclude_from_weight_decay=["nodecay"],
        **hyper,
        **selection(rule, dialect),
    )
    optimizer.build(variables)
    found = []
    for step, rate in enumerate(rates):
        optimizer.learning_rate = rate
        optimizer.apply(
            [keras.ops.convert_to_tensor(g) for g in gradients[step]],
            variables,
        )
        found.append(
            [np.float64(keras.ops.convert_to_numpy(v)) for v in variables]
        )
    return found


def differences(found, exact, start):
    """Distance after each of `REPORTED` updates."""
    return tuple(
        trajectory.distance(found[step - 1], exact[step - 1], start)
        for step in REPORTED
    )


def compare(rule, dialect, seed):
    """[(what, (difference after each of REPORTED) or None if missing)]."""
    hyper = dict(optimizers.BY_NAME[rule.lower()].example)
    case = problem(seed, hyper.pop("learning_rate"))
    exact = run_reference(rule, dialect, case, hyper)
    ours = run_optimizer(rule, dialect, case, hyper)
    rows = [("lbcheck", differences(ours, exact, case[0]))]
    for name, (its_rule, its_dialect, make) in libraries.LIBRARIES.items():
        if (its_rule, its_dialect) != (rule, dialect):
            continue
        try:
            run = make()
        except ImportError:
            rows.append((name, None))
            continue
        theirs = run(*case, hyper, DECAY, adapted(rule, dialect))
        rows.append((name, differences(theirs, exact, case[0])))
    if (rule, dialect) == ("LAMB", "tfa"):
        rows.append(("tensorflow-addons LAMB", recorded_addons()))
    return rows


def recorded_addons():
    """Differences of the recorded tensorflow-addons LAMB, on its own case."""
    recorded, decay, hyper = libraries.recorded_addons(0)
    exact = run_reference("LAMB", "tfa", recorded[:3], hyper, decay)
    return differences(recorded[3], exact, recorded[0])


def _check_rules():
    known = sorted(rules.ALL)
    unknown = [rule for rule in _RULES.value if rule not in known]
    if unknown:
        raise app.UsageError(
            f"--rules: unknown rule {unknown[0]!r}; known are {known}."
        )
    if not _RULES.value:
        raise app.UsageError(f"--rules: expected at least one of {known}.")


def _rows():
    """Yields (rule, dialect, who, differences or None), each rule once."""
    for rule in dict.fromkeys(_RULES.value):
        for dialect in rules.ALL[rule].dialects:
            for who, found in compare(rule, dialect, _SEED.value):
                yield rule, dialect, who, found


def _print_row(rule, dialect, who, found):
    if found is None:
        print(f"{rule:18}{dialect:15}{who:24}{'not installed':>20}")
        return
    numbers = "".join(f"{value:10.1e}" for value in found)
    print(f"{rule:18}{dialect:15}{who:24}{numbers}", flush=True)


def _described(rows, worst):
    """The matrix as an object for JSON."""
    return {
        "seed": _SEED.value,
        "tolerance": _TOLERANCE.value,
        "worst": trajectory.finite(worst),
        "within": worst <= _TOLERANCE.value,
        "rows": [
            {
                "rule": rule,
                "dialect": dialect,
                "who": who,
                "differences": found
                and dict(zip(REPORTED, map(trajectory.finite, found))),
            }
            for rule, dialect, who, found in rows
        ],
    }


def _watch():
    """The table of another library; exit code 1 if strict and it differs."""
    if FLAGS["rules"].present:
        raise app.UsageError("--rules does not go with --library.")
    differs = watch_report.report(
        _LIBRARY.value,
        _OPTIMIZERS.value,
        _SEED.value,
        10 * _TOLERANCE.value,
        _FORMAT.value == "json",
    )
    found = differs and _STRICT.value
    return exit_codes.FINDING if found else exit_codes.FINISHED


def main(argv):
    """Prints the matrix; exit code 1 if lbcheck is beyond the tolerance."""
    if argv:
        raise app.UsageError(f"lbcheck conform takes flags only, not {argv}.")
    if _LIBRARY.value:
        return _watch()
    for flag in (_OPTIMIZERS, _STRICT):
        if flag.value:
            raise app.UsageError(f"--{flag.name} goes with --library.")
    _check_rules()
    as_text = _FORMAT.value == "text"
    if as_text:
        print(
            "Largest difference from the float64 reference, relative to the "
            f"movement,\nafter {REPORTED[0]} and {REPORTED[1]} updates under "
            "a changing rate.\n"
        )
        print(f"{'rule':18}{'dialect':15}{'who':24}{'1':>10}{STEPS:>10}")
    rows = []
    for row in _rows():
        rows.append(row)
        if as_text:
            _print_row(*row)
    worst = float(
        max(max(found) for *_, who, found in rows if who == "lbcheck")
    )
    if as_text:
        verdict = "within" if worst <= _TOLERANCE.value else "BEYOND"
        print(f"\nworst of lbcheck {worst:.1e}: {verdict} {_TOLERANCE.value:g}")
    else:
        print(json.dumps(_described(rows, worst), indent=2))
    within = worst <= _TOLERANCE.value
    return exit_codes.FINISHED if within else exit_codes.FINDING
