"""Tokenized blocks of text, kept in files until their documents are dealt out.

A block's file is one array of 32-bit integers: the number of documents D,
D + 1 places where the documents begin and end, and for each document the
number of its sentences, their lengths and their tokens.
"""

import functools
from array import array
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from bert import text
from bert import tokenization
from bert.pretraining_data import text_sources
from lbcheck.support import files


class Counts(NamedTuple):
    """What a block holds."""

    bytes: int
    documents: int
    sentences: int
    tokens: int
    unknown_tokens: int


@functools.lru_cache(maxsize=1)
def tokenizer(vocab_file: str, lower_case: bool) -> tokenization.Tokenizer:
    """The tokenizer of this process."""
    return tokenization.Tokenizer(vocab_file, lower_case)


def write(
    path: str,
    block: list[text_sources.Piece],
    vocab_file: str,
    lower_case: bool,
    split_sentences: bool,
) -> Counts:
    """Tokenizes a block into a file.

    Raises:
        ValueError: Text that is not UTF-8; names the source and the line.
    """
    tokens = tokenizer(vocab_file, lower_case)
    found, lengths, numbers = [], [], []
    sentences, ids = array("i"), array("i")

    def end_document():
        if sentences:
            found.append(array("i", (len(sentences),)) + sentences + ids)
            lengths.append(len(ids))
            numbers.append(len(sentences))
            del sentences[:], ids[:]

    for piece in block:
        for line in text_sources.lines(piece):
            if not line:
                end_document()
            parts = text.split_sentences(line) if split_sentences else (line,)
            for sentence in parts:
                pieces = tokens.ids(sentence)
                if pieces:
                    ids.extend(pieces)
                    sentences.append(len(pieces))
        end_document()
    places = np.cumsum([len(found) + 2, *map(len, found)])
    content = [np.array([len(found)]), places, *found]
    content = np.concatenate(content).astype("<i4")
    with files.replacing(path) as file:
        np.save(file, content)
    unknown = tokens.id("[UNK]")
    return Counts(
        bytes=sum(len(piece.data) for piece in block),
        documents=len(found),
        sentences=sum(numbers),
        tokens=sum(lengths),
        unknown_tokens=sum(
            document[1 + document[0] :].count(unknown) for document in found
        ),
    )


def holds(path: str, documents: int) -> bool:
    """Whether a block's file is there, whole, with so many documents."""
    try:
        content = np.load(path, mmap_mode="r")
        end = content[1 + documents]
        return content[0] == documents and end == len(content)
    except (OSError, ValueError, EOFError, IndexError):
        return False


def read(
    path: str, numbers: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(lengths of its sentences, tokens) of some documents of a block."""
    content = np.load(path, mmap_mode="r")
    for number in numbers.tolist():
        begin, end = content[1 + number : 3 + number].tolist()
        middle = begin + 1 + int(content[begin])
        yield content[begin + 1 : middle], content[middle:end]
