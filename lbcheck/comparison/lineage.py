"""A chain of studies: a grid, then a range around its best, then a finer one.

study.json of a study that follows another says of which, by the digest of its
study.json, and what was best there. Nado et al. 2021, Appendix D.4, is such a
chain.
"""

import hashlib
import pathlib
from typing import Any

from lbcheck import verdict
from lbcheck.search.space import Space
from lbcheck.study import protocol
from lbcheck.study import study_folder


def parent(folder: str | pathlib.Path) -> dict[str, Any]:
    """What study.json of a study says of the one that it follows.

    Args:
        folder: Of the earlier study.

    Returns:
        {"name", "digest": SHA-256 of its study.json, "steps", "best": {arm:
        hyperparameters of the search trial that it is judged by, until there
        is one of its best; no arm without any}}.

    Raises:
        study_folder.StudyError: There is no study that is finished, or it is
            damaged.
    """
    read = study_folder.load(folder)
    if not verdict.is_finished(*read):
        raise study_folder.StudyError(
            f"{folder}: a study follows one that is finished, received one "
            f"with trials to run after {len(read.records)}; its own command "
            "goes on with it."
        )
    path = pathlib.Path(folder) / study_folder.STUDY
    return {
        "name": read.study["name"],
        "digest": hashlib.sha256(path.read_bytes()).hexdigest(),
        "steps": read.study["steps"],
        "best": _best(read),
    }


def _best(read):
    judged = verdict.judged(read.study, read.records).records
    best = {
        arm: protocol.confirmed(read.study, judged, arm)
        for arm in read.study["arms"]
    }
    return {
        arm: record["hyperparameters"]
        for arm, record in best.items()
        if record is not None
    }


def refined(folder: str | pathlib.Path, arm: str, width: float) -> Space:
    """The space around what was best for an arm of an earlier study.

    Args:
        folder: Of the earlier study.
        arm: Name of an arm of it.
        width: Width over that of the earlier space, in decades on a log
            scale, in (0, 1).

    Raises:
        study_folder.StudyError: There is no study, or it is damaged.
        ValueError: It has no such arm, or all trials of it diverged.
    """
    read = study_folder.load(folder)
    best = _best(read)
    if arm not in best:
        raise ValueError(
            f"{folder}: no best trial of an arm {arm!r} to refine; there are "
            f"{', '.join(best) or 'none'}."
        )
    described = read.study["arms"][arm]["space"]
    return Space.from_dict(described, f"{folder}: arm {arm!r}").refined(
        best[arm], width, read.study["steps"]
    )
