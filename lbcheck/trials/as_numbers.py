"""Whether a step that has hyperparameters as variables does what numbers do.

A user's build_model may make something else of a variable than of its number:
`scale if isinstance(scale, float) else 1.0`. So a step with variables is
compared with one made from numbers, before its trials are believed.
"""

import itertools

import numpy as np

from lbcheck.trials import user_model as models

UPDATES = 4
"""Updates to compare; the rate of the first may be 0."""
_POINTS = 16
"""Points of an arm among which one with other arguments is looked for."""
_ALIKE = {16: 1e-2, 32: 2e-5}
"""{bits: relative difference of metrics that rounding leaves}."""


def agree(arm, program, point: dict, steps: int, make, seen) -> bool:
    """Whether a program with variables does what those of numbers do.

    It is asked at two points, since one may be right by chance: its own, and
    another that it fits and whose arguments of build_model differ, if there
    is one.

    Args:
        arm: `Arm`.
        program: Made for the point; says what it `fits`.
        point: Hyperparameters.
        steps: Updates of a run.
        make: Gives the program with the numbers of a point.
        seen: Gives the metrics of a program at a point, as for `alike`.
    """
    return all(
        alike(
            seen(program, one),
            seen(make(one), one),
            models.bits(program.model),
        )
        for one in _points(arm, program, point, steps)
    )


def _points(arm, program, point, steps):
    space, names = arm.space, arm.resolve(point).model
    size = space.size if space.searched else 1
    count = _POINTS if size is None else min(size, _POINTS)
    others = (
        other
        for other in space.points(0, 0, count, steps)
        if any(other.get(name) != point.get(name) for name in names)
        and program.fits(other)
    )
    return [point, *itertools.islice(others, 1)]


def alike(one: list[dict], other: list[dict], bits: int = 32) -> bool:
    """Whether metrics, around an update, are equal but for rounding.

    Args:
        one: Metrics at some points.
        other: Those of the other step.
        bits: Of the narrowest type that the model computes in.
    """
    seen = [
        [value for metrics in found for value in metrics.values()]
        for found in (one, other)
    ]
    return len(seen[0]) == len(seen[1]) and np.allclose(
        *seen, rtol=_ALIKE[bits], atol=1e-12, equal_nan=True
    )
