"""Files that a flag names, and what their first bytes say they are."""

import bz2
import glob
import gzip
import io
import itertools
import lzma
import os
import zlib
from collections.abc import Iterator

_COMPRESSED = {
    b"\x1f\x8b": ("gzip", gzip.open),
    b"BZh": ("bzip2", bz2.open),
    b"\xfd7zXZ\x00": ("xz", lzma.open),
}
BROKEN = (OSError, EOFError, zlib.error, lzma.LZMAError)
"""What reading a damaged compressed file raises."""

_NO_TEXT = {
    b"PK\x03\x04": "a zip archive (.zip, .docx, .xlsx, .npz)",
    b"PK\x05\x06": "an empty zip archive",
    b"\x28\xb5\x2f\xfd": "Zstandard-compressed",
    b"\x04\x22\x4d\x18": "LZ4-compressed",
    b"\x1f\x9d": "compressed by `compress`",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!": "a RAR archive",
    b"%PDF": "a PDF document",
    b"{\\rtf": "an RTF document",
    b"\xd0\xcf\x11\xe0": "an Office document",
    b"PAR1": "a Parquet table",
    b"ARROW1": "an Arrow table",
    b"Obj\x01": "an Avro file",
    b"\x89HDF": "an HDF5 file",
    b"\x93NUMPY": "a NumPy array",
    b"SQLite format 3": "an SQLite database",
    **{magic: f"{n}-compressed twice" for magic, (n, _) in _COMPRESSED.items()},
}
_UTF_MARKS = (
    (b"\xff\xfe\x00\x00", "UTF-32"),
    (b"\x00\x00\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)
_MARKUP = {
    b"<mediawiki": "a MediaWiki dump in XML",
    b"<doc ": "text with the <doc> tags of WikiExtractor",
    b"<?xml": "XML",
    b"<!doctype html": "HTML",
    b"<html": "HTML",
    b'{"': "JSON",
    b"[{": "JSON",
}
_HEAD_BYTES = 4096
_TAR = (257, b"ustar")


class Missing(ValueError):
    """There is no file of that name."""


def named(flag: str, name: str, names: list[str]) -> list[str]:
    """The file or the files of a pattern, sorted, that a flag names.

    Args:
        flag: The flag, for messages.
        name: A file or a pattern; `**` is any number of folders.
        names: All that the flag names, of which it is one.

    Raises:
        Missing: There is no such file.
        ValueError: There is a folder or a device in its place.
    """
    paths = [name]
    if not os.path.exists(name):
        paths = sorted(glob.glob(name, recursive=True))
        if "**" in name:
            paths = [path for path in paths if not os.path.isdir(path)]
    if not paths:
        raise Missing(f"--{flag}={name}: {_missing(name, names)}")
    for path in paths:
        _check_regular(flag, path)
    return paths


def check_once(flag: str, paths: list[str]) -> None:
    """Refuses a file that several names of a flag mean, which counts twice.

    Raises:
        ValueError: Names the flag and the file.
    """
    seen = set()
    for path in paths:
        real = os.path.realpath(path)
        if real in seen:
            raise ValueError(f"--{flag}: {path} is named twice.")
        seen.add(real)


def _missing(name, names):
    place = names.index(name)
    near = range(max(0, place - 3), place + 1), range(place + 1, place + 5)
    for first, last in itertools.product(*near):
        for comma in (",", ", "):
            whole = comma.join(names[first:last])
            if comma in whole and os.path.exists(whole):
                return (
                    "there is no such file. A comma separates files, and "
                    f"{whole} has one in its name: write "
                    f"{whole.replace(',', '?')}."
                )
    if glob.has_magic(name):
        return "no file matches this pattern."
    return "there is no such file."


def _check_regular(flag, path):
    if os.path.isdir(path):
        raise ValueError(
            f"--{flag}: {path} is a folder; name its files, for instance "
            f"{os.path.join(path, '*')}."
        )
    if not os.path.isfile(path):
        raise ValueError(f"--{flag}: {path} is no regular file.")


def compression(path: str) -> tuple[str | None, object]:
    """(name of a file's compression or None, what opens it)."""
    with open(path, "rb") as file:
        head = file.read(_HEAD_BYTES)
    for magic, (name, opener) in _COMPRESSED.items():
        if head.startswith(magic):
            return name, opener
    return None, open


def lines(path: str, opener, longest: int) -> Iterator[bytes]:
    """The lines of a text file; one that is longer comes in parts.

    Raises:
        ValueError: It is no plain text; says what it is instead.
        One of `BROKEN`: It is damaged.
    """
    with opener(path, "rb") as file:
        head = file.read(_HEAD_BYTES)
        what = _no_text(head)
        if what:
            raise ValueError(f"{path}: {what}")
        begin = io.BytesIO(head)
        while line := begin.readline():
            if not line.endswith(b"\n"):
                line += file.readline(longest)
            yield line
        while line := file.readline(longest):
            yield line


def _no_text(head: bytes) -> str | None:
    """Why a file that begins so is no text to train on; see `binary`."""
    what = binary(head)
    if what:
        return what
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for begin, what in _MARKUP.items():
        if start.startswith(begin):
            return f"is {what}, expected plain text without markup."
    if b"\r" in head and b"\n" not in head:
        return (
            "has lines that end with a carriage return alone, expected a line "
            "feed."
        )
    return None


def binary(head: bytes) -> str | None:
    """Why a file that begins so is not UTF-8, as the end of a sentence.

    >>> binary(b"%PDF-1.7")
    'is a PDF document, expected plain text in UTF-8.'
    """
    for mark, name in _UTF_MARKS:
        if head.startswith(mark):
            return (
                f"is in {name}, expected UTF-8; convert it, for instance with "
                f"`iconv -f {name} -t UTF-8`."
            )
    for magic, what in _NO_TEXT.items():
        if head.startswith(magic):
            return f"is {what}, expected plain text in UTF-8."
    if head[_TAR[0] :].startswith(_TAR[1]):
        return "is a tar archive, expected plain text in UTF-8."
    if 10 * head.count(0) > len(head):
        return (
            "has many NUL bytes, as of UTF-16 without its mark or of a binary "
            "file; expected plain text in UTF-8."
        )
    return None
