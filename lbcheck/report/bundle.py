"""A study in one file, and whether such a file holds what it says.

A bundle is a zip file of bundle.json, study.json and trials.jsonl, the latter
two also of further searches and of a control, in their folders. Nothing is
compressed and no time is kept, so that the same records give the same bytes
everywhere. bundle.json has the digest of every file and the answer.

A bundle may come from anybody: members that a study does not have are refused
before anything is read, and reading one imports and calls nothing it names.
"""

import hashlib
import io
import json
import math
import os
import pathlib
import re
import stat
import tempfile
import zipfile
from typing import Annotated
from typing import Any
from typing import Literal

from msgspec import Meta
from typing_extensions import TypedDict

import lbcheck
from lbcheck.report import results
from lbcheck.study import companions
from lbcheck.study import study_folder
from lbcheck.support import files
from lbcheck.support import schema

MANIFEST = "bundle.json"
_LARGEST = 2**30
"""Bytes of a bundle."""
_MOST_MEMBERS = 2_100
"""A study has at most 999 further searches and a control, two files each."""
_MEMBER = re.compile(
    rf"{re.escape(MANIFEST)}|((search_[1-9]\d{{0,2}}|{companions.CONTROL})/)?"
    rf"({re.escape(study_folder.STUDY)}|{re.escape(study_folder.TRIALS)})"
)
_SAME = 1e-6
"""Relative difference of numbers that another machine may compute."""


class _File(TypedDict):
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    bytes: schema.Whole


class _Manifest(TypedDict):
    format: Literal[1]
    lbcheck: schema.Name
    answer: dict[str, Any]
    files: dict[schema.Name, _File]


class Verified(TypedDict):
    """What `verify` found.

    Keys:
        sha256: Of the bundle.
        lbcheck: The version that wrote it.
        files: {name: digest and length}, as recorded.
        finished, sentence: The answer, computed anew from the records.
        problems: A sentence for each thing that is not as recorded.
    """

    sha256: str
    lbcheck: str
    files: dict[str, _File]
    finished: bool
    sentence: str
    problems: list[str]


def write(folder, path) -> pathlib.Path:
    """Writes the bundle of a study.

    Args:
        folder: Folder with study.json and trials.jsonl; finished or not.
        path: The file; another bundle is replaced as a whole.

    Returns:
        `path`.

    Raises:
        OSError: A file that cannot be read or written.
        ValueError: A file of the study that is damaged; names file and line.
            Or `path` is a file that is no bundle.

    Example:

        write("lbcheck_study", "lbcheck_study.zip")
    """
    folder, path = pathlib.Path(folder), pathlib.Path(path)
    if path.is_file() and not _is_bundle(path):
        raise ValueError(f"{path}: is there, and no bundle to be replaced.")
    contents = _contents(folder)
    manifest = {
        "format": 1,
        "lbcheck": lbcheck.__version__,
        "answer": _answer(_collected(contents, f"{folder}{os.sep}")[1]),
        "files": {
            name: {"sha256": _digest(content), "bytes": len(content)}
            for name, content in contents.items()
        },
    }
    first = {MANIFEST: (json.dumps(manifest, indent=1) + "\n").encode()}
    with (
        files.replacing(path) as file,
        zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive,
    ):
        for name, content in (first | contents).items():
            archive.writestr(_entry(name), content)
    return path


def _is_bundle(path):
    """Whether it is one, and no other zip file, such as a document."""
    try:
        with zipfile.ZipFile(path) as archive:
            return MANIFEST in archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError):
        return False


def _contents(folder):
    """{name: bytes} of the study's files and of those of its companions."""
    study = study_folder.read(folder)
    found = {}
    for beside in ("", *(f"{name}/" for name in companions.names(study))):
        for name in (study_folder.STUDY, study_folder.TRIALS):
            path = folder / beside / name
            if path.exists():
                found[f"{beside}{name}"] = schema.read_bytes(path)
    return found


def _entry(name):
    """A member without a time or a system of its own."""
    entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    entry.create_system = 3
    entry.external_attr = (stat.S_IFREG | 0o644) << 16
    return entry


def verify(path) -> Verified:
    """Reads a bundle, and computes its answer anew.

    Args:
        path: A file, of any origin.

    Returns:
        What was found; "problems" is empty where all is as recorded.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no bundle, or holds what no study has; names the
            member. Nothing of it has been used then.

    Example:

        verify("lbcheck_study.zip")["problems"]  # []
    """
    content = schema.read_bytes(path, _LARGEST)
    members = _members(content, path)
    if MANIFEST not in members:
        raise ValueError(f"{path}: is no bundle: it has no {MANIFEST}.")
    where = f"{path}: {MANIFEST}"
    manifest = schema.parse(members.pop(MANIFEST), _Manifest, where)
    problems = _differences(manifest["files"], members)
    if study_folder.STUDY not in members:
        raise ValueError(f"{path}: is no bundle: no {study_folder.STUDY}.")
    study, found = _collected(members, "the bundle's ")
    beside = {"", *(f"{name}/" for name in companions.names(study))}
    problems += [
        f"{name} is of no search that the study has."
        for name in members
        if name.rpartition("/")[0] + "/" * ("/" in name) not in beside
    ]
    answer = json.loads(json.dumps(_answer(found)))
    recorded = manifest["answer"]
    wrong = [
        name
        for name in answer | recorded
        if not _same(recorded.get(name), answer.get(name))
    ]
    version = schema.printable(manifest["lbcheck"])
    if wrong:
        names = ", ".join(map(schema.printable, wrong))
        problems.append(
            f"the answer is not that of the records, in {names}: recorded is "
            f"{_shown(recorded)}, computed from them {_shown(answer)} "
            f"(recorded by lbcheck {version}, computed by "
            f"{lbcheck.__version__})."
        )
    return {
        "sha256": _digest(content),
        "lbcheck": version,
        "files": manifest["files"],
        "finished": found["finished"],
        "sentence": answer["sentence"],
        "problems": problems,
    }


def _members(content, path):
    """{name: bytes} of an archive, which is refused as a whole."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
            for entry in entries[: _MOST_MEMBERS + 1]:
                _check(entry, path)
            _check_all(entries, len(content), path)
            return {entry.filename: archive.read(entry) for entry in entries}
    except (
        zipfile.BadZipFile,
        EOFError,
        NotImplementedError,
        OSError,
        OverflowError,
        RuntimeError,
    ) as error:
        raise ValueError(f"{path}: is no bundle: {error}.") from error


def _check(entry, path):
    """Refuses a member that `write` would not have written."""
    where = f"{path}: {schema.shown(entry.orig_filename)}"
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        raise ValueError(f"{where}: expected a file, received a link or other.")
    # From Python 3.12 on an extra field may say another name.
    renamed = entry.filename != entry.orig_filename
    if renamed or not _MEMBER.fullmatch(entry.filename):
        raise ValueError(
            f"{where}: a bundle has no such member; expected {MANIFEST}, "
            f"{study_folder.STUDY} and {study_folder.TRIALS}, the latter also "
            "in search_1, search_2, .. and control."
        )
    if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
        raise ValueError(
            f"{where}: is compressed or encrypted, which no member of a bundle "
            "is."
        )
    if entry.file_size != entry.compress_size:
        raise ValueError(f"{where}: its two lengths differ.")


def _check_all(entries, size, path):
    names = {entry.filename for entry in entries}
    if len(entries) > _MOST_MEMBERS or len(names) < len(entries):
        raise ValueError(
            f"{path}: expected at most {_MOST_MEMBERS:,} members of different "
            f"names, received {len(entries):,} of {len(names):,} names."
        )
    # A header and an entry of the directory each, and the directory's end.
    names = [len(entry.filename.encode()) for entry in entries]
    whole = sum(entry.file_size for entry in entries) + 22
    whole += sum(30 + 46 + 2 * length for length in names)
    if whole != size:
        raise ValueError(
            f"{path}: is no bundle: has {size:,} bytes, its members take "
            f"{whole:,}."
        )


def _differences(recorded, members):
    """A sentence for each file that is not as recorded."""
    found = []
    for name in sorted(recorded.keys() | members.keys()):
        if name not in members:
            found.append(f"{schema.shown(name)} is recorded and missing.")
        elif name not in recorded:
            found.append(f"{name} is there and not recorded.")
        elif (digest := _digest(members[name])) != recorded[name]["sha256"]:
            found.append(
                f"{name}: its digest is {digest}, recorded is "
                f"{recorded[name]['sha256']}."
            )
        elif (size := len(members[name])) != recorded[name]["bytes"]:
            found.append(
                f"{name}: has {size:,} bytes, recorded are "
                f"{recorded[name]['bytes']:,}."
            )
    return found


def _collected(contents, where):
    """(study, verdict and tables) of these files, which are `where`."""
    with tempfile.TemporaryDirectory() as folder:
        for name, content in contents.items():
            path = pathlib.Path(folder, name)
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
        try:
            loaded = study_folder.load(folder)
            return loaded.study, results.collect(loaded)
        except ValueError as error:
            said = str(error).replace(f"{folder}{os.sep}", "")
            raise ValueError(f"{where}{said}") from error


def _answer(found):
    """What the records say: the verdict in full, and what each arm reached."""
    from lbcheck.report import page

    return {
        "finished": found["finished"],
        "sentence": page.sentence(found),
        "verdict": found["verdict"],
        "arms": found["tables"]["arms"],
    }


def _same(one, other):
    """Whether two JSON values are equal but for the last digits of numbers."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(
            _same(value, other[key]) for key, value in one.items()
        )
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=_SAME, abs_tol=_SAME**2)
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _shown(answer):
    return schema.printable(str(answer.get("sentence")))[:300]


def _digest(content):
    return hashlib.sha256(content).hexdigest()
