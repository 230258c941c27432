"""Which trials a study consists of: a pure function of study and records.

Every arm gets the same number of points of its own broad space; if asked for,
the same number of points of a refined space around the best of them; and its
best point is run again with fresh seeds, the same seeds for every arm. Nado
et al. 2021, appendix B.
"""

from typing import NamedTuple


class Cut(NamedTuple):
    """Records of equal search budgets, and what was left out (or None)."""

    records: list[dict]
    note: str | None


class Protocol:
    """The trials of one study.

    Args:
        study: As in study.json.

    Raises:
        ValueError: An arm's grid has fewer points than trials are asked for.
    """

    def __init__(self, study: dict):
        raise NotImplementedError

    @property
    def total(self) -> int:
        """Number of trials if no arm fails: broad, refined and confirm."""
        raise NotImplementedError

    def next_tasks(self, records: list[dict]) -> list[dict]:
        """Tasks that can run now and have no record yet; [] when done.

        Arms do not wait for one another: one is confirmed while another is
        still searched. The same records give the same tasks, so a task that
        another worker runs at this moment is among them.
        """
        raise NotImplementedError

    def observation(self, task: dict) -> dict:
        """What to look at during a task: keyword arguments of `Trainer.run`.

        Returns:
            {"evaluate_at": steps, "diagnostics_every": steps or 0}.
        """
        raise NotImplementedError


def score(study: dict, record: dict) -> float | None:
    """The number that selects: the study's metric, None if diverged."""
    raise NotImplementedError


def best(study: dict, records: list[dict], arm: str) -> dict | None:
    """The arm's best search trial; the earliest of equals, None if none."""
    raise NotImplementedError


def excluded(study: dict, records: list[dict]) -> dict[str, str]:
    """Arms that are not confirmed because every trial diverged: name -> why."""
    raise NotImplementedError


def budget(study: dict, records: list[dict]) -> dict[str, dict]:
    """What each arm was given.

    Returns:
        arm -> {"dimensions": searched ones, "search": SUMS, "confirm": SUMS},
        SUMS = {"trials": all, "feasible": the finished ones, "steps",
        "examples", "seconds"}.
    """
    raise NotImplementedError


def cut_to_common(study: dict, records: list[dict]) -> Cut:
    """Cuts every arm to the first search trials that all arms have.

    Confirming runs of a point that is no longer its arm's best go as well.
    """
    raise NotImplementedError
