"""The folder of a study, which is all that a report needs.

study.json    what is studied; written once, before anything is trained
ledger.db     the ledger, unless another storage was asked for
trials.jsonl  the record of every trial, one a line, in canonical order; a
              ledger that lacks one of them is given it
.lock         held by who makes the folder or writes into it

Further searches and a control are folders in it of the same kind, see
`companions`.
"""

import contextlib
import datetime
import errno
import json
import os
import pathlib
import reprlib
from typing import Any
from typing import NamedTuple

from lbcheck.programs import run_folder
from lbcheck.study import companions
from lbcheck.study import formats
from lbcheck.support import errors
from lbcheck.support import files
from lbcheck.support import schema
from lbcheck.trials import fingerprint_difference

STUDY = "study.json"
TRIALS = "trials.jsonl"
LEDGER = "ledger.db"
LOCK = ".lock"
STAGES = ("broad", "replacement", "refined", "challenge", "confirm")

_INCIDENTAL = ("lbcheck", "command", "flagfile", "environment", "fingerprint")
_LARGEST = ("seeds", "challenge_trials", "searches")
_GROWING = ("margin", "first_margin", "control_batch_size", *_LARGEST)
_VERSIONS = ("python", "tensorflow", "tf-keras", "keras", "jax", "numpy")


class StudyError(ValueError):
    """A folder or a storage cannot serve this study; says which and why."""


class Folder(NamedTuple):
    """What a study's folder holds.

    Attributes:
        study: The content of study.json.
        records: One dict per line of trials.jsonl, by arm (as the study lists
            them), stage and index.
        companions: {name: Folder} of its further searches and its control, as
            far as they are there.
    """

    study: dict[str, Any]
    records: list[dict[str, Any]]
    companions: dict[str, Any]


def open_study(folder, study: dict) -> dict:
    """Makes the folder for this study, or checks that it is this study's.

    Any number of processes may open one folder at the same time. What was
    written first stays as it is; only `margin` may change, `seeds`,
    `challenge_trials` and `searches` grow and a control be added, since none
    of these makes a trial worthless. The margin
    that the study was begun with is kept as `first_margin`.

    Args:
        folder: Made if it is not there.
        study: As in study.json, JSON-able.

    Returns:
        The study as it stands in the folder: use this one from here on.

    Raises:
        StudyError: The folder holds another study (names the first setting
            that differs), other things, or cannot be written.
    """
    folder = pathlib.Path(folder)
    study = json.loads(json.dumps(study))  # as it will be read again
    formats.check_study(study, "This study")
    with _of_study(folder):
        folder.mkdir(parents=True, exist_ok=True)
        _check_empty(folder)
        with files.lock(folder / LOCK):
            there, study = _continued(folder, study)
            if study != there:
                text = json.dumps(study, indent=2) + "\n"
                files.write_text(folder / STUDY, text)
            return study


def check_place(folder, study: dict) -> None:
    """Refuses what `open_study` would, but writes nothing.

    Args:
        folder: Need not be there.
        study: As in study.json, as it is read.

    Raises:
        StudyError: As of `open_study`.
    """
    folder = pathlib.Path(folder)
    formats.check_study(study, "This study")
    with _of_study(folder):
        if folder.exists():
            _check_empty(folder)
            _continued(folder, study)
            return
        above = next(p for p in folder.absolute().parents if p.exists())
        os.scandir(above).close()
        if not os.access(above, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


@contextlib.contextmanager
def _of_study(folder):
    """What the system refuses there is a StudyError."""
    try:
        yield
    except OSError as error:
        raise StudyError(
            f"{folder}: cannot be used as the study's folder: "
            f"{error.strerror}. Choose another --output_dir."
        ) from error


def _continued(folder, study):
    """(the study in the folder or None, what this one makes of it)."""
    if not (folder / STUDY).exists():
        return None, study
    there = read(folder)
    if differs := another(there, study):
        raise StudyError(
            f"{folder} holds another study: {differs}. "
            f"{_other_versions(there, study)}Choose another --output_dir, or "
            "give the same settings to continue it."
        )
    grown = {"margin": study["margin"]}
    if study["margin"] != there["margin"] or "first_margin" in there:
        grown["first_margin"] = there.get("first_margin", there["margin"])
    for name in _LARGEST:
        if most := max(s.get(name, 0) for s in (there, study)):
            grown[name] = most
    control = "control_batch_size"
    batches = {s[control] for s in (there, study) if s.get(control)}
    if len(batches) > 1:
        raise StudyError(
            f"{folder} has a control at batch {there[control]}, received "
            f"{control} {study[control]}. Choose another --output_dir, or "
            "the same control."
        )
    if batches:
        grown[control] = batches.pop()
    return there, {**there, **grown}


def _other_versions(there, here):
    """What else may be why they differ, as a newer Keras describes layers."""
    before, now = (study.get("environment", {}) for study in (there, here))
    found = [
        f"{name} {before[name]} there, {now.get(name)} here"
        for name in _VERSIONS
        if name in before and before[name] != now.get(name)
    ]
    return f"Versions differ: {', '.join(found)}. " if found else ""


def _check_empty(folder):
    """Refuses a folder of other things, before anything is put there."""
    strange = sorted(
        path.name
        for path in folder.iterdir()
        if path.suffix != files.PART
        # Runs of a study that was taken back, which check whose they are.
        and path.name not in (LOCK, STUDY, run_folder.RUNS)
    )
    # In this order: another process may write it meanwhile, as its first file.
    if strange and not (folder / STUDY).exists():
        raise StudyError(
            f"{folder} is not empty and holds no study: there is "
            f"{strange[0]}, and no {STUDY}. Choose another --output_dir."
        )


def load(folder) -> Folder:
    """Reads and checks study.json and trials.jsonl.

    Nothing that these files name is imported, called or made.

    Raises:
        StudyError: Names the file, the line and what is wrong there.
    """
    study = read(folder)
    there = {
        name: pathlib.Path(folder) / name for name in companions.names(study)
    }
    return Folder(
        study,
        read_trials(folder, study),
        {
            name: load(path)
            for name, path in there.items()
            if (path / STUDY).exists()
        },
    )


def read(folder) -> dict:
    """What study.json says, checked.

    Raises:
        StudyError: There is none, or it is damaged.
    """
    path = pathlib.Path(folder) / STUDY
    try:
        return formats.check_study(schema.read(path), str(path))
    except FileNotFoundError as error:
        what = f"holds no study: there is no {STUDY}"
        if not path.parent.exists():
            what = "there is no such folder"
        raise StudyError(
            f"{folder}: {what}; expected a folder that `lbcheck compare` wrote."
        ) from error
    except OSError as error:
        raise StudyError(errors.of_system(error)) from error
    except ValueError as error:
        raise StudyError(str(error)) from error


def read_trials(folder, study: dict) -> list[dict]:
    """The records of trials.jsonl in canonical order, checked; [] without it.

    Args:
        folder: Folder of the study.
        study: As `read` returns it.

    Raises:
        StudyError: It is damaged or cannot be read; names file and line.
    """
    path = pathlib.Path(folder) / TRIALS
    records, places = [], {}
    try:
        for where, record in schema.read_lines(path):
            formats.check_record(record, study, where)
            trial = key(record)
            if trial in places:
                raise ValueError(
                    f"{where}: arm {record['arm']!r}, {record['stage']} trial "
                    f"{record['index']} appears at {places[trial]} already."
                )
            places[trial] = where
            records.append(record)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StudyError(errors.of_system(error)) from error
    except ValueError as error:
        raise StudyError(str(error)) from error
    return canonical(study, records)


def written(folder) -> datetime.datetime:
    """When trials.jsonl was written, by this machine's clock."""
    path = pathlib.Path(folder) / TRIALS
    return datetime.datetime.fromtimestamp(path.stat().st_mtime)


def another(there: dict, here: dict) -> str | None:
    """Why these are two studies, in words; None if they are one."""
    seen = there.get("fingerprint"), here.get("fingerprint")
    return fingerprint_difference.difference(*seen) or difference(
        settings(there), settings(here)
    )


def identity(study: dict) -> dict:
    """What `another` looks at."""
    return settings(study) | {"fingerprint": study.get("fingerprint")}


def settings(study: dict) -> dict:
    """What makes two studies the same: all that bears on a trial's record."""
    kept = {
        key: value
        for key, value in study.items()
        if key not in (*_INCIDENTAL, *_GROWING)
    }
    # Seen at every start; studies of before have not looked.
    kept["facts"] = {
        key: value
        for key, value in study.get("facts", {}).items()
        if key != "same_initial_weights"
    }
    # As it was when this one began; it may have got more seeds since.
    if parent := study.get("parent"):
        kept["parent"] = {"name": parent["name"], "steps": parent["steps"]}
    kept["arms"] = {
        name: {key: value for key, value in arm.items() if key != "audit"}
        for name, arm in study["arms"].items()
    }
    return kept


def difference(there, here, path: str = "") -> str | None:
    """The first setting that differs, with both values; None if none does."""
    if isinstance(there, list) and isinstance(here, list):
        there, here = dict(enumerate(there)), dict(enumerate(here))
    if isinstance(there, dict) and isinstance(here, dict):
        for key in [*there, *(key for key in here if key not in there)]:
            inner = f"{path}.{key}" if path else str(key)
            if key not in there or key not in here:
                where = "there" if key in there else "here"
                return f"{inner} is set only {where}"
            if found := difference(there[key], here[key], inner):
                return found
        return None
    if there == here:
        return None
    return f"{path} is {reprlib.repr(there)} there, {reprlib.repr(here)} here"


def storage_url(folder) -> str:
    """The default storage: an SQLite file in the study's folder.

    For processes of one machine; many machines need a server's database.

    Raises:
        StudyError: No URL can hold the folder's name.
    """
    path = pathlib.Path(folder).resolve() / LEDGER
    if "?" in str(path) or not str(path).isprintable():
        raise StudyError(
            f"{str(folder)!r}: the name of a study's folder cannot have a '?' "
            "or control characters. Choose another --output_dir."
        )
    return f"sqlite:///{path}"


def export(folder, study: dict, records: list[dict]) -> None:
    """Writes trials.jsonl: one record per line, canonical order, sorted keys.

    Raises:
        StudyError: The folder cannot be written.
    """
    path = pathlib.Path(folder) / TRIALS
    lines = [
        json.dumps(record, sort_keys=True, allow_nan=False) + "\n"
        for record in canonical(study, records)
    ]
    try:
        files.write_text(path, "".join(lines))
    except OSError as error:
        raise StudyError(
            f"{path}: cannot be written: {error.strerror}."
        ) from error


def remove(folder: pathlib.Path) -> None:
    """Takes back a study without trials, and its folder if that is empty."""
    for path in folder.glob(f"{LEDGER}*"):
        path.unlink(missing_ok=True)
    (folder / STUDY).unlink()
    (folder / LOCK).unlink()
    if not any(folder.iterdir()):
        folder.rmdir()


def canonical(study: dict, records: list[dict]) -> list[dict]:
    """Records ordered by arm (as in the study), stage and index."""
    arms = list(study["arms"])
    return sorted(
        records,
        key=lambda record: (arms.index(record["arm"]), *place(record)),
    )


def key(task: dict) -> tuple[str, int, int, int]:
    """What tells a task from all others of its study."""
    return (task["arm"], *place(task))


def place(task: dict) -> tuple[int, int, int]:
    """What tells a task from all others of its arm, in their order.

    Stage, then the trial that a run confirms, if it is one of a challenge,
    then the index.
    """
    return (
        STAGES.index(task["stage"]),
        task.get("trial", -1),
        task["index"],
    )
