"""Edges of a search space, where something lies beyond them."""

import pytest

from lbcheck.search import edges
from lbcheck.search import space


@pytest.mark.parametrize("spec, best, is_edge", [
    ({"min": 0.0, "max": 0.5, "scale": "linear"}, 0.01, False),
    ({"min": 0.0, "max": 0.5, "scale": "linear"}, 0.49, True),
    ({"min": 0.1, "max": 0.5, "scale": "linear"}, 0.11, True),
    ({"min": -1.0, "max": 0.0, "scale": "linear"}, -0.01, True),
    ({"min": 0.01, "max": 1.0, "scale": "log"}, 0.98, True),
    # Without momentum, and with a warm-up of the whole run.
    ({"min": 0.01, "max": 1.0, "scale": "log", "one_minus": True}, 0.02, False),
    ({"min": 0.01, "max": 0.5, "scale": "log", "one_minus": True}, 0.51, True),
    ({"min": 0.5, "max": 1.0, "scale": "linear", "of": "steps"}, 99, False),
    ({"min": 0.0, "max": 0.5, "scale": "linear", "of": "steps"}, 1, False),
    ({"min": 0.0, "max": 0.5, "scale": "linear", "of": "steps"}, 49, True),
])  # fmt: skip
def test_an_end_that_nothing_lies_beyond_is_none(spec, best, is_edge):
    searched = space.Space.from_dict(
        {"points": "halton", "parameters": {"x": spec}}
    )
    found = edges.find(searched, [{"x": best}] * 2, steps=100)
    assert [edge.is_likely for edge in found] == [True] * is_edge
