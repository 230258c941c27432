"""How a search went: the spaces of several studies, in their order.

As Nado et al. 2021 print theirs in Appendix D.4, a table each, with what was
best and which study a study follows.
"""

import hashlib
import pathlib
from collections.abc import Sequence

from lbcheck import verdict
from lbcheck.report import tables
from lbcheck.report.rows import budget
from lbcheck.study import protocol
from lbcheck.study import study_folder
from lbcheck.support import schema


def printed(folders: Sequence[str]) -> list[tables.Table]:
    """A table for every arm of every study.

    Args:
        folders: Of studies, the first one first.

    Raises:
        study_folder.StudyError: No study, or a damaged one.
        ValueError: A study that stands before the one that it follows.
    """
    found: list[tables.Table] = []
    numbers: dict[str, str] = {}
    all_digests = {_digest(folder): folder for folder in folders}
    for folder in folders:
        read = study_folder.load(folder)
        parent = read.study.get("parent")
        if parent and parent["digest"] in all_digests:
            earlier = all_digests[parent["digest"]]
            if parent["digest"] not in numbers:
                raise ValueError(
                    f"{folder} follows {earlier}, which must stand before it."
                )
        first = len(found) + 1
        judged = verdict.judged(read.study, read.records).records
        for arm in read.study["arms"]:
            best = protocol.confirmed(read.study, judged, arm)
            found.append(_table(len(found) + 1, read, arm, best, numbers))
        numbers[_digest(folder)] = _plural("table", first, len(found))
    return found


def _digest(folder):
    content = schema.read_bytes(pathlib.Path(folder) / study_folder.STUDY)
    return hashlib.sha256(content).hexdigest()


def _plural(word, first, last):
    return f"{word} {first}" if first == last else f"{word}s {first} to {last}"


def _table(number, read, arm, best, numbers):
    study, records, _ = read
    point = best["hyperparameters"] if best else {}
    rows = [
        [
            row["parameter"],
            row["range"],
            row["scale"] or ("list" if row["searched"] else "constant"),
            tables.number(point[row["parameter"]])
            if row["parameter"] in point and row["searched"]
            else "",
        ]
        for row in budget.spaces(study)
        if row["arm"] == arm
    ]
    return tables.Table(
        f"chronology-{number}",
        f"{study['name']}: {arm}",
        _caption(study, records, arm, best, numbers),
        ["hyperparameter", "range", "scale", "best"],
        rows,
    )


def _caption(study, records, arm, best, numbers):
    own = [
        r
        for r in protocol.trials(study, records)
        if r["arm"] == arm and r["stage"] != "confirm"
    ]
    feasible = sum(r["status"] == "finished" for r in own)
    metric = study["metric"]["name"]
    said = [
        f"{len(own)} trials, {feasible} of them feasible, of "
        f"{study['steps']:,} steps at batch size {study['batch_size']:,}."
    ]
    if best is not None:
        value = tables.metric(protocol.score(study, best))
        said.append(f"Best {study['selection']} {metric}: {value}.")
    parent = study.get("parent")
    if parent:
        which = numbers.get(parent["digest"], parent["name"])
        said.append(f"It follows {which}.")
    return " ".join(said)
