"""The left side of each theorem, measured, beside its bound.

    python benchmarks/theory_bounds.py

First the problems that come nearest to the bounds, then problems whose layers
differ, with b = T as in the theorems: `anywhere` is the largest left side that
the problem has at any x at all; a bound above it says nothing.
"""

import common
from absl import flags

from lbcheck import theory
from lbcheck.support import text_table

_STEPS = flags.DEFINE_multi_integer(
    "steps", [64, 1024], "Updates, and examples of one; may come several times."
)
_RUNS = flags.DEFINE_integer("runs", 32, "Runs that are averaged.")
_SEED = flags.DEFINE_integer("seed", 0, "Of problems and runs.")

_CASES = {
    "sgd": ("sgd", 0.999, 1.0),
    "lars": ("lars", 0.999, 1.0),
    "lamb, beta_2 = 0": ("lamb", 0.0, 1.0),
    "lamb, beta_2 = 0.9": ("lamb", 0.9, 1.0),
    "lamb, beta_2 = 0.999": ("lamb", 0.999, 1.0),
    "adam, beta_2 = 0.9": ("adam", 0.9, 1.0),
    "adam, beta_2 = 0.999": ("adam", 0.999, 1.0),
    "  0.03 times the rate": ("adam", 0.999, 0.03),
    "  0.001 times the rate": ("adam", 0.999, 0.001),
}
"""{name: algorithm, beta_2, rate as a multiple of the theorem's}."""

_LAYERS, _LAYER_SIZE = 4, 16
_COLUMNS = ("measured", "error", "bound", "ratio", "anywhere")


def _row(problem, algorithm, constants, factor=1.0):
    """(numbers of a row as text, what they are of)."""
    rate = factor * theory.ALGORITHMS[algorithm](constants).learning_rate
    found = theory.measure(
        problem, algorithm, constants, _RUNS.value, _SEED.value, rate
    )
    side = found.bound.left_side
    anywhere = side.of_gradient(problem.curvature) ** side.power
    numbers = (
        found.left_side,
        found.standard_error,
        found.bound.value,
        found.ratio,
        anywhere,
    )
    return [f"{number:.3g}" for number in numbers], found


def _worst():
    """Rows of the problems that come nearest."""
    for case in theory.WORST_CASES:
        for steps in _STEPS.value:
            # A square number of steps would reach the minimum itself.
            problem, constants = theory.worst_case(case, steps - 1)
            algorithm, _, _ = case.partition("_")
            row, found = _row(problem, algorithm, constants)
            _tell(f"{case}, T = {steps - 1}", [found])
            yield [case, str(steps - 1), *row]


def _usual(shape):
    """Rows of a problem whose layers differ."""
    problem = theory.Problem.random(
        shape, _LAYERS, _LAYER_SIZE, seed=_SEED.value
    )
    measured = []
    for name, (algorithm, beta_2, factor) in _CASES.items():
        for steps in _STEPS.value:
            constants = problem.constants(
                steps, steps, alpha_l=0.5, alpha_u=2.0, beta_2=beta_2
            )
            row, found = _row(problem, algorithm, constants, factor)
            measured.append(found)
            yield [name, str(steps), *row]
    _tell(f"nearest case of {shape}", measured)


def _tell(name, measured):
    """The measure that comes nearest to its bound."""
    nearest = max(measured, key=lambda found: found.ratio)
    common.tell(
        f"left side of the theorem: {name}",
        nearest.left_side,
        "of its unit",
        nearest.bound.value,
        "the bound",
    )


def _print(title, rows):
    columns = (title, "T", *_COLUMNS)
    numeric = range(1, len(columns))
    print(text_table.text_table(columns, rows, numeric), end="\n\n")


def main(argv):
    """Prints a table of the worst cases and one for each shape."""
    del argv
    _print("worst case", [*_worst()])
    for shape in theory.SHAPES:
        _print(shape, [*_usual(shape)])


if __name__ == "__main__":
    common.start(main, steps=[16], runs=2)
