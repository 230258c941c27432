"""The folder of a study, which is all that a report needs.

study.json    what is studied; written once, before anything is trained
ledger.db     the ledger, unless another storage was asked for
trials.jsonl  the record of every trial, one a line, in canonical order
"""

STUDY = "study.json"
TRIALS = "trials.jsonl"
LEDGER = "ledger.db"
STAGES = ("broad", "refined", "confirm")


class StudyError(ValueError):
    """A folder or a storage cannot serve this study; says which and why."""


def open_study(folder, study: dict) -> dict:
    """Makes the folder for this study, or checks that it is this study's.

    Any number of processes may open one folder at the same time. What was
    written first stays as it is; only `margin` may change and `seeds` grow.

    Returns:
        The study as it stands in the folder: use this one from here on.

    Raises:
        StudyError: The folder holds another study (names the first setting
            that differs), other things, or cannot be written.
    """
    raise NotImplementedError


def storage_url(folder) -> str:
    """The default storage: an SQLite file in the study's folder."""
    raise NotImplementedError


def export(folder, study: dict, records: list[dict]) -> None:
    """Writes trials.jsonl: one record a line, canonical order, sorted keys."""
    raise NotImplementedError


def load(folder) -> tuple[dict, list[dict]]:
    """What study.json and trials.jsonl say.

    Returns:
        (study, records in canonical order).

    Raises:
        StudyError: The folder holds no study, or a file is damaged.
    """
    raise NotImplementedError


def canonical(study: dict, records: list[dict]) -> list[dict]:
    """Records ordered by arm (as in the study), stage and index."""
    raise NotImplementedError
