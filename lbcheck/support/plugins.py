"""Names that installed distributions add, by their entry points.

A distribution adds an arm or a workload with an entry point in the group
`lbcheck.arms` or `lbcheck.workloads`. Finding the names reads what is written
about the distributions and imports nothing; only the one that is asked for is
imported.

Source: the entry points specification of the Python Packaging Authority.
"""

import importlib.metadata
from collections.abc import Collection
from typing import Any

from absl import app

from lbcheck.support import errors
from lbcheck.support import load_object

ARMS = "lbcheck.arms"
WORKLOADS = "lbcheck.workloads"


def names(group: str) -> list[str]:
    """The names that distributions add to a group, sorted."""
    return sorted({entry.name for entry in _entries(group)})


def load(group: str, name: str, own: Collection[str] = ()) -> Any:
    """What a name means; None where no distribution adds it.

    Args:
        group: `ARMS` or `WORKLOADS`.
        name: As on the command line.
        own: Names of lbcheck itself, which none may take.

    Raises:
        ValueError: Its module cannot be imported or lacks it, or the name is
            taken by lbcheck or another distribution; names the distributions.
    """
    found = [entry for entry in _entries(group) if entry.name == name]
    if not found:
        return None
    said = " and ".join(sorted(_said(entry) for entry in found))
    if name in own:
        raise ValueError(
            f"{group}: {name!r} is a name of lbcheck, and is added by {said}, "
            "too: uninstall that, or have it renamed."
        )
    if len(found) > 1:
        raise ValueError(
            f"{group}: {name!r} is added more than once, by {said}: uninstall "
            "all but one."
        )
    what = f"{group}: {name!r}, which is added by {said},"
    try:
        with errors.named(what):
            # What follows in brackets is for pip.
            value = found[0].value.partition("[")[0].replace(" ", "")
            return load_object.load(value)
    except app.UsageError as error:  # there is nothing of that name
        raise ValueError(f"{what} failed: {error}") from error


def _entries(group):
    # A distribution that is found twice on the path, as one that is installed
    # and its build folder, counts once.
    found = importlib.metadata.entry_points(group=group)
    return {(_said(entry), entry.name): entry for entry in found}.values()


def _said(entry):
    """The distribution of an entry point, and what it names."""
    name = entry.dist.metadata["Name"] if entry.dist else "?"
    return f"{name} as {entry.value}"
