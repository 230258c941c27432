"""How often a whole study errs, with its training replaced by a surface.

    python benchmarks/verdict_errors.py --surface=steep --draws=2000

Points of the arms' real spaces, search, confirmation, challenge and decision
are those of `lbcheck compare`, by the same code: only the metric of a run comes
from `surface(arm, unit)`, the expected metric at points of the unit cube,
(n, d), nan where they diverge, and from `noise(rng, mean)`, one run's, nan
where that run diverges. Prints the fraction of each answer and doubt, how often
two studies of one question contradict each other, and the trials spent.
"""

import collections
import json
import time

import common
import numpy as np
from absl import flags

from lbcheck import verdict
from lbcheck.search import arm as arms
from lbcheck.search import space
from lbcheck.study import challenge
from lbcheck.study import protocol
from lbcheck.support import load_object

_SURFACE = flags.DEFINE_string(
    "surface",
    "steep",
    "One of mild, steep, very_steep, narrow, very_narrow, or module:function.",
)
_NOISE = flags.DEFINE_string(
    "noise",
    "normal",
    "One of normal, skewed, heavy_tailed, bimodal, or module:function.",
)
_ARMS = flags.DEFINE_list(
    "arms", ["lars", "lamb", "nesterov", "adamw"], "Arms by name."
)
_CHALLENGERS = flags.DEFINE_list(
    "challengers", ["lars", "lamb"], "Which of them challenge the others."
)
_AHEAD = flags.DEFINE_float(
    "ahead", 0.0, "Margins that the challengers are truly ahead by."
)
_TRIALS = flags.DEFINE_integer("trials", 20, "Search trials of an arm.")
_CHALLENGE_TRIALS = flags.DEFINE_integer(
    "challenge_trials", None, "Further trials of an arm; unset: the usual."
)
_SEEDS = flags.DEFINE_integer("seeds", 20, "Confirming runs of an arm.")
_MARGIN = flags.DEFINE_float("margin", 0.01, "Margin of the study.")
_DRAWS = flags.DEFINE_integer("draws", 2000, "Studies.")
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the first study.")
_FORMAT = flags.DEFINE_enum(
    "format", "text", ["text", "json"], "How the result is printed."
)

_BEST, _SPREAD = 0.9, 0.003
_STEPS = 100


def _bowl(unit, depth, center=0.6):
    """A quadratic bowl; the largest tenth of the first dimension diverges."""
    off = np.sum((unit - center) ** 2, axis=1)
    return np.where(unit[:, 0] > 0.9, np.nan, _BEST - depth * off)


def mild(arm, unit):
    """The whole space is good."""
    return _bowl(unit, 0.03)


def steep(arm, unit):
    """Within a margin of 0.01 of the best at a distance of 0.18."""
    return _bowl(unit, 0.3)


def very_steep(arm, unit):
    """Within a margin of 0.01 of the best at a distance of 0.06."""
    return _bowl(unit, 3.0)


def narrow(arm, unit):
    """`steep`, and three times as steep for those that do not challenge.

    Their good region has a ninth of the volume.
    """
    return _bowl(unit, 0.3 if arm in _CHALLENGERS.value else 0.9)


def very_narrow(arm, unit):
    """`steep`, and nine times as steep for those that do not challenge.

    Their good region has a third of the width in each of four dimensions, an
    81st of the volume.
    """
    return _bowl(unit, 0.3 if arm in _CHALLENGERS.value else 2.7)


def normal(rng, mean):
    return mean + _SPREAD * rng.normal()


def skewed(rng, mean):
    return mean + _SPREAD * (1 - rng.exponential())


def heavy_tailed(rng, mean):
    return mean + _SPREAD * rng.standard_t(3) / 3**0.5


def bimodal(rng, mean):
    return mean + _SPREAD * (rng.choice([-1, 1]) + 0.3 * rng.normal()) / 1.044


def _function(name):
    """module:function, or a function of this file."""
    return load_object.load(name) if ":" in name else globals()[name]


def _study(seed):
    further = _CHALLENGE_TRIALS.value
    if further is None:
        further = challenge.most_trials(_TRIALS.value)
    return {
        "name": "simulated",
        "facts": {},
        "steps": _STEPS,
        "seed": seed,
        "metric": {"name": "accuracy", "mode": "max"},
        "selection": "validation",
        "margin": _MARGIN.value,
        "target": None,
        "trials": _TRIALS.value,
        "refined_trials": 0,
        "challenge_trials": further,
        "seeds": _SEEDS.value,
        "arms": {
            name: arms.load(name).describe()
            | {"layer_wise": name in _CHALLENGERS.value}
            for name in _ARMS.value
        },
    }


def _records(study, surface, noise):
    """All records of a study whose trials take no time."""
    plan, records = challenge.plan(study, verdict.answer), []
    rng = np.random.default_rng([study["seed"], 1])
    spaces = {
        name: space.Space.from_dict(arm["space"])
        for name, arm in study["arms"].items()
    }
    means = {name: np.zeros(0) for name in spaces}

    def mean(arm, number):
        known = len(means[arm])
        if number >= known:
            seed = protocol.derived_seed(study["seed"], "points", arm)
            count = max(study["trials"], known)
            units = spaces[arm].unit_points(seed, known, count)
            found = np.asarray(surface(arm, units), float)
            if arm in _CHALLENGERS.value:
                found = found + _AHEAD.value * study["margin"]
            means[arm] = np.append(means[arm], found)
            return mean(arm, number)
        return means[arm][number]

    while tasks := plan.next_tasks(records):
        numbers = {}
        for task in tasks:
            number = task.get("trial", task["index"])
            if task["stage"] == "confirm" and "trial" not in task:
                if task["arm"] not in numbers:
                    first = protocol.before_challenge(records)
                    best = protocol.best(study, first, task["arm"])
                    numbers[task["arm"]] = best["index"]
                number = numbers[task["arm"]]
            found, metrics = mean(task["arm"], number), None
            if np.isfinite(found):
                found = float(noise(rng, found))
            if np.isfinite(found):
                value = {"accuracy": found}
                metrics = {"validation": value, "training": value}
            status = "diverged" if metrics is None else "finished"
            records.append(
                task | {"status": status, "metrics": metrics, "curve": []}
            )
    return records


def _is_right(word):
    """Whether a study should say so."""
    return (word == "needed") == (_AHEAD.value > 1)


def main(argv):
    """Simulates the studies and prints what they answer."""
    del argv
    surface, noise = _function(_SURFACE.value), _function(_NOISE.value)
    begun, answers, trials = time.perf_counter(), collections.Counter(), 0
    for draw in range(_DRAWS.value):
        study = _study(_SEED.value * 1_000_003 + draw)
        records = _records(study, surface, noise)
        decided = verdict.decide(study, records)
        trials += len(records)
        word = decided.answer
        answers[f"{word} ({decided.doubt})" if decided.doubt else word] += 1
    draws = _DRAWS.value
    fractions = {key: count / draws for key, count in sorted(answers.items())}
    result = {
        "fractions": fractions,
        "contradictions": 2
        * fractions.get("needed", 0.0)
        * fractions.get("not needed", 0.0),
        "trials": trials / draws,
        "draws": draws,
        "seconds": round(time.perf_counter() - begun, 1),
    }
    if _FORMAT.value == "json":
        print(json.dumps(result))
        return
    where = f"{_SURFACE.value}, {_NOISE.value}, {_AHEAD.value:g} margins ahead"
    for word in ("needed", "not needed"):
        common.tell(
            f'"{word}" of {where}',
            fractions.get(word, 0.0),
            "of the studies",
            better="more" if _is_right(word) else "less",
            draws=draws,
        )
    common.tell(
        f"one simulated study of {where}", result["seconds"] / draws, "s"
    )
    for key, fraction in fractions.items():
        print(f"{key:24} {fraction:.4f}")
    print(f"{'contradictions':24} {result['contradictions']:.4f}")
    print(f"{'trials of a study':24} {result['trials']:.0f}")


if __name__ == "__main__":
    common.start(main, draws=2, trials=4, seeds=6)
