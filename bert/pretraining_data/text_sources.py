"""Where text comes from, cut into blocks of whole documents.

A source is lines: one sentence (or paragraph) each, a blank line after every
document. A block is what a worker tokenizes at once; where blocks end
depends on the text alone.
"""

import functools
import hashlib
import io
import os
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from typing import NamedTuple

from bert import text
from bert.pretraining_data import inputs

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
        name: Name of the source.
        line: Number of the first line, from 1.
        data: The lines.
    """

    name: str
    line: int
    data: bytes


def sources(names: list[str]) -> list[Source]:
    """What --input names, in its order, files of a pattern sorted.

    Args:
        names: Each a file, plain, gzip, bzip2 or xz, a pattern of files,
            "embedded", or "tfds:NAME[:SPLIT]" for a text set of TFDS, by name
            or folder.

    Raises:
        ValueError: Names a pattern without files, or a file that is named
            twice.
        OSError: A file cannot be read.
    """
    files = [name for name in names if not _special(name)]
    found = []
    for name in names:
        if name == "embedded":
            found.append(_embedded())
        elif _special(name):
            found.append(_data_set(name))
        else:
            paths = inputs.named("input", name, files)
            found.extend(_file(path) for path in paths)
    inputs.check_once("input", [source.name for source in found])
    return found


def _special(name: str) -> bool:
    return name == "embedded" or name.startswith("tfds:")


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
                f"(0x{line[error.start]:02x}). Text in another encoding must "
                "be converted, for instance with iconv."
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
    except inputs.BROKEN as error:
        raise ValueError(
            f"{source.name}, after line {number}: cannot be read on, perhaps "
            f"it is cut short ({error})."
        ) from error


def _file(path: str) -> Source:
    compression, opener = inputs.compression(path)
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    size = os.path.getsize(path)
    identity = {
        "file": os.path.basename(path),
        "bytes": size,
        "sha256": digest.hexdigest(),
    }
    lines = functools.partial(
        inputs.lines, path, opener, longest=MAX_DOCUMENT_BYTES + 1
    )
    return Source(path, identity, lines, None if compression else size)


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

    _, wanted, *rest = name.split(":", 2)
    split = rest[0] if rest else "train"
    there = os.path.isdir(wanted)
    try:
        make = tfds.builder_from_directory if there else tfds.builder
        builder = make(wanted)
        builder.info.splits[split]
    except (ImportError, LookupError, OSError, ValueError) as error:
        raise ValueError(
            f"--input={name}: there is no prepared data set {wanted!r} with "
            f"the split {split!r} ({type(error).__name__})."
        ) from error
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
