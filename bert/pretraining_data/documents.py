"""Where text comes from, cut into blocks of whole documents.

A source is lines: one sentence (or paragraph) each, a blank line after every
document. A block is what a worker tokenizes at once; where blocks end
depends on the text alone.
"""

import functools
import glob
import gzip
import hashlib
import io
import os
import zlib
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from typing import NamedTuple

from bert import text

BLOCK_BYTES = 2**21
"""A block ends with the first document that reaches this size."""
MAX_DOCUMENT_BYTES = 2**26
"""Where a larger document is met, blank lines have been forgotten."""

_CHUNK_BYTES = 2**20


class Source(NamedTuple):
    """A file or a data set.

    Args:
        name: For messages.
        identity: What tells the content from any other, JSON-able.
        lines: Opens it; its lines, with or without line ends.
        size: Bytes of its lines, or None where that is not known.
    """

    name: str
    identity: dict
    lines: Callable[[], Iterable[bytes]]
    size: int | None


class Piece(NamedTuple):
    """Successive lines of a source.

    Args:
        name: Of the source.
        line: Number of the first line, from 1.
        data: The lines.
    """

    name: str
    line: int
    data: bytes


def sources(inputs: list[str]) -> list[Source]:
    """What --input names, in its order, files of a pattern sorted.

    Args:
        inputs: Each a file, plain or gzip, a pattern of files, "embedded",
            or "tfds:NAME[:SPLIT]" for a text set of TFDS, by name or folder.

    Raises:
        ValueError: Names a pattern without files.
        OSError: A file cannot be read.
    """
    found = []
    for name in inputs:
        if name == "embedded":
            found.append(_embedded())
        elif name.startswith("tfds:"):
            found.append(_data_set(name))
        else:
            paths = [name] if os.path.exists(name) else sorted(glob.glob(name))
            if not paths:
                raise ValueError(f"--input={name}: there is no such file.")
            found.extend(_file(path) for path in paths)
    return found


def blocks(origins: list[Source]) -> Iterator[list[Piece]]:
    """The text of all sources, in blocks; the end of a source ends a document.

    Raises:
        ValueError: A broken file, or a document without end; names the
            source and the line.
    """
    block, size = [], 0
    for source in origins:
        lines, first, length = [], 1, 0
        for number, line in enumerate(_checked(source), 1):
            lines.append(line)
            length += len(line)
            blank = not line.strip()
            if blank and size + length >= BLOCK_BYTES:
                yield [*block, Piece(source.name, first, b"".join(lines))]
                block, size, lines, length = [], 0, [], 0
                first = number + 1
            elif length > MAX_DOCUMENT_BYTES:
                raise ValueError(
                    f"{source.name}, line {number}: no blank line in the "
                    f"last {MAX_DOCUMENT_BYTES >> 20} MB; there must be one "
                    "between documents."
                )
        block.append(Piece(source.name, first, b"".join(lines)))
        size += length
        if size >= BLOCK_BYTES:
            yield block
            block, size = [], 0
    if size:
        yield block


def lines(piece: Piece) -> Iterator[str]:
    """The lines of a piece, without blanks at their ends.

    Raises:
        ValueError: One is not UTF-8; names the source and the line.
    """
    for number, line in enumerate(io.BytesIO(piece.data), piece.line):
        try:
            yield line.decode("utf-8").strip()
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{piece.name}, line {number}: not UTF-8, {error.reason} "
                f"(0x{line[error.start]:02x}). Convert the file, for instance "
                "with iconv."
            ) from error


def names(origins: list[Source]) -> str:
    """The sources' names, the first few of them, for messages."""
    shown = ", ".join(source.name for source in origins[:3])
    more = len(origins) - 3
    return f"{shown} and {more} more" if more > 0 else shown


def _checked(source: Source) -> Iterator[bytes]:
    number = 0
    try:
        for line in source.lines():
            number += 1
            yield line
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(
            f"{source.name}, after line {number}: broken gzip file ({error})."
        ) from error


def _file(path: str) -> Source:
    with open(path, "rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        digest = hashlib.sha256()
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    size = os.path.getsize(path)
    identity = {
        "file": os.path.basename(path),
        "bytes": size,
        "sha256": digest.hexdigest(),
    }
    opener = gzip.open if zipped else open
    lines = functools.partial(opener, path, "rb")
    return Source(path, identity, lines, None if zipped else size)


def _embedded() -> Source:
    lines = []
    for sentences in text.embedded().values():
        lines.extend(f"{sentence}\n".encode() for sentence in sentences)
        lines.append(b"\n")
    content = b"".join(lines)
    identity = {
        "file": "embedded",
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    return Source("embedded", identity, lambda: lines, len(content))


def _data_set(name: str) -> Source:
    import tensorflow_datasets as tfds

    _, wanted, split = f"{name}:train".split(":")[:3]
    there = os.path.isdir(wanted)
    builder = (tfds.builder_from_directory if there else tfds.builder)(wanted)
    if "text" not in (builder.info.features or {}):
        raise ValueError(
            f"--input={name}: the data set has no feature 'text', only "
            f"{sorted(builder.info.features or {})}."
        )
    identity = {"tfds": builder.info.full_name, "split": split}

    def lines():
        config = tfds.ReadConfig(interleave_cycle_length=1)
        data = builder.as_dataset(split=split, read_config=config)
        for example in tfds.as_numpy(data):
            filled = (line for line in example["text"].split(b"\n"))
            yield from (line + b"\n" for line in filled if line.strip())
            yield b"\n"

    return Source(name, identity, lines, None)
