"""How often the intervals that a report prints hold the truth.

    python benchmarks/interval_coverage.py --draws=1500

Two equal arms whose runs have one of several laws: prints, by law and number of
seeds, the fraction of draws in which the interval of a pair's difference holds
0, that of a median the law's median, and that of the probability of improvement
one half. Then the interval of a pair that is judged on groups of test examples
whose choice errs more than the seeds do, with and without that error.
"""

import common
import numpy as np
from absl import flags

from lbcheck.verdict import difference
from lbcheck.verdict import statistics

_DRAWS = flags.DEFINE_integer("draws", 1500, "Pairs of arms a line.")
_SEEDS = flags.DEFINE_multi_integer(
    "seeds", [6, 12, 20, 50], "Runs of an arm; may come several times."
)

_CENTER, _SPREAD, _EXAMPLES = 0.95, 0.003, 360
_GROUPS = 50
_ROUNDING = 1e-12
_WITH_EXAMPLES = "the interval of a pair, with test examples"
_CLAIMS = {
    "the interval of a pair": 0.98,
    "the interval of a median": 0.95,
    "the interval of the probability of improvement": 0.95,
    _WITH_EXAMPLES: 0.98,
}
"""{interval: how often it claims to hold the truth}."""
LAWS = {
    "normal": lambda rng, n: rng.normal(size=n),
    "exponential": lambda rng, n: 1 - rng.exponential(size=n),
    "student_t_3": lambda rng, n: rng.standard_t(3, size=n) / 3**0.5,
    "bimodal": lambda rng, n: (
        (rng.choice([-1, 1], n) + 0.3 * rng.normal(size=n)) / 1.044
    ),
    "counts": lambda rng, n: (
        (rng.binomial(_EXAMPLES, _CENTER, n) / _EXAMPLES - _CENTER) / _SPREAD
    ),
}


def main(argv):
    """Prints a line for each law and number of seeds."""
    del argv
    found = {name: [] for name in _CLAIMS}
    print(f"{'law':12} {'seeds':>5} {'pair':>7} {'median':>7} improvement")
    for law, draw in LAWS.items():
        rng = np.random.default_rng(0)
        median = np.median(_CENTER + _SPREAD * draw(rng, 1_000_001))
        for seeds in _SEEDS.value:
            held = np.zeros(3)
            for _ in range(_DRAWS.value):
                x, y = (_CENTER + _SPREAD * draw(rng, seeds) for _ in "xy")
                shift = difference.Shift(x, y, _SPREAD).interval
                _, improvement = statistics.improvement(x, y)
                held += [
                    low - _ROUNDING <= truth <= high + _ROUNDING
                    for (low, high), truth in (
                        (shift, 0.0),
                        (statistics.median_interval(x), median),
                        (improvement, 0.5),
                    )
                ]
            pair, middle, chance = held / _DRAWS.value
            for parts, part in zip(found.values(), (pair, middle, chance)):
                parts.append(part)
            print(
                f"{law:12} {seeds:5} {pair:7.3f} {middle:7.3f} {chance:11.3f}"
            )
    print(f"\n{'test examples':12} {'seeds':>5} {'with':>6} without")
    for seeds in _SEEDS.value:
        held, alone = _with_examples(seeds)
        print(f"{_GROUPS:6} groups {seeds:5} {held:7.3f} {alone:7.3f}")
        found[_WITH_EXAMPLES].append(held)
    for name, parts in found.items():
        common.tell(
            f"least coverage of {name}",
            min(parts),
            "of the draws",
            _CLAIMS[name],
            "its claim",
            better="more",
            range=[min(parts) / _CLAIMS[name], max(parts) / _CLAIMS[name]],
        )


def _with_examples(seeds):
    """How often intervals with and without the examples hold the truth."""
    rng, held = np.random.default_rng(1), np.zeros(2)
    for _ in range(_DRAWS.value):
        # Effects of the groups on an arm, of the seeds, and of both together.
        x, y = (
            rng.normal(0, 10 * _SPREAD, _GROUPS)
            + rng.normal(0, _SPREAD, (seeds, 1))
            + rng.normal(0, 17 * _SPREAD, (seeds, _GROUPS))
            for _ in "xy"
        )
        examples = difference.example_error(x, y)
        shift = difference.Shift(
            x.mean(axis=1), y.mean(axis=1), _SPREAD, examples=examples
        )
        held += [
            low <= 0 <= high
            for low, high in (shift.interval, shift.seeds_interval)
        ]
    return held / _DRAWS.value


if __name__ == "__main__":
    common.start(main, draws=5, seeds=[6])
