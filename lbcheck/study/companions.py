"""Studies that a study takes besides itself, each in a folder of its folder.

search_1, search_2, ..  the same search with other points and seeds
control                 a baseline at a small batch, with as many examples
"""

from collections.abc import Mapping
from typing import Any

from lbcheck.support import schema

CONTROL = "control"


def searches(study: Mapping[str, Any]) -> list[str]:
    """The folders of further searches.

    >>> searches({"searches": 3}), searches({})
    (['search_1', 'search_2'], [])
    """
    return [f"search_{n}" for n in range(1, study.get("searches", 1))]


def names(study: Mapping[str, Any]) -> list[str]:
    """The folders of all of them, in the order in which they are run."""
    control = [CONTROL] if study.get("control_batch_size") else []
    return searches(study) + control


def title(study: Mapping[str, Any], name: str) -> str:
    """What one of them is called, as short as a name must be.

    >>> title({"name": "digits"}, "search_1")
    'digits, search_1'
    """
    end = f", {name}"
    return study["name"][: schema.LONGEST_NAME - len(end)] + end


def control_steps(study: Mapping[str, Any]) -> int:
    """Updates of the small batch that see as many examples, or a few more.

    >>> control_steps({"steps": 3, "batch_size": 5, "control_batch_size": 2})
    8
    """
    examples = study["steps"] * study["batch_size"]
    return -(-examples // study["control_batch_size"])
