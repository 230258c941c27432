"""What a study's folder holds: the study and its records."""

from typing import Any
from typing import NamedTuple

from lbcheck.study import study_folder as files


class Folder(NamedTuple):
    """What a study's folder holds.

    Attributes:
        study: The content of study.json.
        records: One dict a line of trials.jsonl, by arm (as the study lists
            them), stage and index.
    """

    study: dict[str, Any]
    records: list[dict[str, Any]]


def read(folder) -> Folder:
    """Reads and checks study.json and trials.jsonl.

    Nothing that these files name is imported, called or made.

    Args:
        folder: Path of a folder that a study wrote.

    Returns:
        The study and its records.

    Raises:
        ValueError: Names the file, the line and what is wrong there.
    """
    study = files.read(folder)
    return Folder(study, files.read_trials(folder, study))
