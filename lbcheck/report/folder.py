"""Reads a study's folder: study.json and trials.jsonl, checked line by line."""

import json
import math
import pathlib
from typing import Any
from typing import NamedTuple

from lbcheck.study import records as files
from lbcheck.study.space import Space

FORMAT = 1
PARTS = ("validation", "training")

_NUMBER = (int, float)
_PERHAPS_NUMBER = (int, float, type(None))
_STUDY = {
    "name": str,
    "workload": str,
    "metric": dict,
    "arms": dict,
    "batch_size": int,
    "steps": int,
    "seed": int,
    "selection": str,
    "trials": int,
    "refined_trials": int,
    "seeds": int,
    "margin": _PERHAPS_NUMBER,
    "target": _PERHAPS_NUMBER,
    "command": (list, str),
}
_ARM = {"schedule": str, "space": dict, "fixed": dict}
_RECORD = {
    "arm": str,
    "stage": str,
    "index": int,
    "seed": int,
    "hyperparameters": dict,
    "status": str,
    "steps": int,
    "examples": int,
    "seconds": _NUMBER,
    "curve": list,
}


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

    Args:
        folder: Path of a folder that a study wrote.

    Returns:
        The study and its records.

    Raises:
        OSError: A file that cannot be read.
        ValueError: Names the file, the line and what is wrong there.
    """
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: there is no such folder.")
    study = _read_study(folder / files.STUDY)
    records = _read_records(folder / files.TRIALS, study)
    return Folder(study, files.canonical(study, records))


def _read_study(path):
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: there is no such file; a folder that `lbcheck compare` "
            "wrote holds one."
        )
    try:
        study = _parse(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path}:{error.lineno}: not JSON: {error.msg}."
        ) from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if not isinstance(study, dict) or study.get("format") != FORMAT:
        found = study.get("format") if isinstance(study, dict) else study
        raise ValueError(
            f"{path}: the format of the study must be {FORMAT}, received "
            f"{found!r}; it was written by another version of lbcheck."
        )
    _check(study, _STUDY, path)
    for name, arm in study["arms"].items():
        _check(arm, _ARM, f"{path}: arm {name}")
        Space.from_dict(arm["space"], f"{path}: arm {name}")
    for key in ("name", "mode"):
        if not isinstance(study["metric"].get(key), str):
            raise ValueError(f"{path}: metric has no {key!r}.")
    return study


def _read_records(path, study):
    if not path.is_file():
        return []
    records, lines = [], {}
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            where = f"{path}:{number}"
            try:
                record = _parse(line)
            except ValueError as error:
                raise ValueError(
                    f"{where}: not a JSON object on a line of its own"
                    f"{'' if line.endswith(chr(10)) else ' (cut short)'}: "
                    f"{error}"
                ) from error
            _check_record(record, study, where)
            task = record["arm"], record["stage"], record["index"]
            if task in lines:
                raise ValueError(
                    f"{where}: trial {task} was recorded on line "
                    f"{lines[task]} already."
                )
            lines[task] = number
            records.append(record)
    return records


def _parse(text):
    def refuse(constant):
        raise ValueError(f"{constant} is not JSON; expected null")

    return json.loads(text, parse_constant=refuse)


def _check(found, expected, where):
    for key, kind in expected.items():
        if key not in found:
            raise ValueError(f"{where}: {key!r} is missing.")
        if not isinstance(found[key], kind) or isinstance(found[key], bool):
            kinds = kind if isinstance(kind, tuple) else (kind,)
            raise ValueError(
                f"{where}: {key!r} must be "
                f"{' or '.join(k.__name__ for k in kinds)}, received "
                f"{found[key]!r}."
            )


def _check_record(record, study, where):
    if not isinstance(record, dict):
        raise ValueError(f"{where}: expected an object, received {record!r}.")
    _check(record, _RECORD, where)
    for key, known in (
        ("arm", list(study["arms"])),
        ("stage", list(files.STAGES)),
        ("status", ["finished", "diverged"]),
    ):
        if record[key] not in known:
            raise ValueError(
                f"{where}: {key!r} must be one of {known}, received "
                f"{record[key]!r}."
            )
    if record["status"] == "finished":
        _check_metrics(record.get("metrics"), study["metric"]["name"], where)


def _check_metrics(metrics, name, where):
    for part in PARTS:
        value = ((metrics or {}).get(part) or {}).get(name)
        if not isinstance(value, _NUMBER) or not math.isfinite(value):
            raise ValueError(
                f"{where}: a finished trial has a number in metrics, {part}, "
                f"{name}; received {value!r}."
            )
