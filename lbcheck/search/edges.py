"""Hyperparameters at the edge of their space: a wider one may hold better."""

from collections.abc import Sequence
from typing import NamedTuple

from lbcheck.search.space import Space

_OUTER = 0.1
"""Part of a range, at each end, that is its edge."""
_BEST = 3
"""Best trials that are looked at; two of them make an edge likely."""


class Edge(NamedTuple):
    """A hyperparameter whose best values lie at one end of its range.

    Attributes:
        name: Its name.
        end: Value of the range at that end.
        other_end: Value at the other.
        value: The best trial's.
        is_best: Whether that one lies at the edge itself.
        is_likely: Whether two of the best three trials lie there; the best
            alone does so by chance in a tenth of all searches.
    """

    name: str
    end: float
    other_end: float
    value: float
    is_best: bool
    is_likely: bool


def find(space: Space, points: Sequence[dict], steps: int) -> list[Edge]:
    """The edges that the best points lie at.

    Where nothing lies beyond, as below no warm-up, no decay or no momentum, the
    end of a range is no edge.

    Args:
        space: Where the points are from.
        points: Hyperparameters of an arm's trials, best first.
        steps: Updates of a run.

    Example:
        >>> space = Space.from_dict({"points": "halton", "parameters": {
        ...     "l2": {"min": 1e-4, "max": 0.1, "scale": "log"}}})
        >>> (edge,) = find(space, [{"l2": 0.09}, {"l2": 0.01}], 100)
        >>> edge.name, round(edge.end, 4), edge.value, edge.is_likely
        ('l2', 0.1, 0.09, False)
    """
    places = [space.places(point, steps) for point in points[:_BEST]]
    found = []
    # Records from elsewhere may lack a hyperparameter.
    known = [
        name
        for name in (places[0] if places else ())
        if all(name in place for place in places)
    ]
    for name in known:
        parameter = space.parameters[name]
        base = space.base(name, points[0], steps)
        ends = [parameter.value(u, base) for u in (0, 1)]
        for end, sign in ((0, -1), (1, 1)):
            if _is_last(parameter, end):
                continue
            outer = [sign * (p[name] - 0.5) > 0.5 - _OUTER for p in places]
            if outer[0] or sum(outer) > 1:
                edge = Edge(
                    name,
                    ends[end],
                    ends[1 - end],
                    points[0][name],
                    outer[0],
                    sum(outer) > 1,
                )
                found.append(edge)
    return found


def _is_last(parameter, end):
    """Whether nothing that can be tried lies beyond this end of a range."""
    if end == 0:
        return parameter.min == 0
    return parameter.within_one and parameter.max == 1
