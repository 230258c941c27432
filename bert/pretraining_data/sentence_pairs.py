"""Which stretches of tokens become a pair of segments, A and B.

The rules of the original: sentences are collected until a target length,
cut into A and B between two of them, and half of the time B is replaced by a
stretch of another document, the sentences of the old B being used again. A
segment is a stretch of the tokens of one document throughout, truncation
included, so that a pair is four numbers and a label.

Source: google-research/bert, create_pretraining_data.py,
create_instances_from_document and truncate_seq_pair.
"""

import random
from array import array
from bisect import bisect_left
from typing import NamedTuple

import numpy as np


class Documents(NamedTuple):
    """Tokenized documents, one after another.

    Args:
        tokens: Ids of all tokens.
        ends: For each sentence, the number of tokens up to its end.
        bounds: For each document and one more, the number of sentences up
            to its begin.
    """

    tokens: np.ndarray
    ends: list[int]
    bounds: list[int]


class Pairs(NamedTuple):
    """Columns, a row for each pair: segments begin, begin + length."""

    a_begin: np.ndarray
    a_length: np.ndarray
    b_begin: np.ndarray
    b_length: np.ndarray
    is_random: np.ndarray


def lay_out(
    documents: Documents,
    max_seq_length: int,
    short_seq_prob: float,
    dupe_factor: int,
    generator: random.Random,
) -> Pairs:
    """The pairs of all documents, `dupe_factor` times, each time anew.

    Args:
        documents: At least two.
        max_seq_length: Tokens of a pair with its three special ones, >= 5.
        short_seq_prob: Chance of a shorter target length, drawn once for a
            document and duplication.
        dupe_factor: How often each document is gone through, >= 1.
        generator: Random generator of all choices.
    """
    rows = array("q")
    for _ in range(dupe_factor):
        for index in range(len(documents.bounds) - 1):
            target = max_seq_length - 3
            if generator.random() < short_seq_prob:
                target = 2 + _below(max_seq_length - 4, generator)
            _go_through(documents, index, target, generator, rows)
    table = np.frombuffer(rows, np.int64).reshape(-1, 5)
    pairs = Pairs(*table.T)
    return _truncated(pairs, max_seq_length - 3, generator)


def _below(limit: int, generator: random.Random) -> int:
    """A whole number >= 0 below `limit`."""
    return int(generator.random() * limit)


def _go_through(documents, index, target, generator, rows: array) -> None:
    """Appends the pairs of one document."""
    _, ends, bounds = documents
    first, last = bounds[index], bounds[index + 1] - 1
    while first <= last:
        begin = ends[first - 1] if first else 0
        full = bisect_left(ends, begin + target, first, last)
        split = first + 1 + _below(max(full - first, 1), generator)
        a_end = b_begin = ends[split - 1]
        is_random = full == first or generator.random() < 0.5
        if is_random:
            b_begin, b_end = _elsewhere(
                documents, index, target - (a_end - begin), generator
            )
            first = split
        else:
            b_end = ends[full]
            first = full + 1
        rows.extend((begin, a_end - begin, b_begin, b_end - b_begin, is_random))


def _elsewhere(documents, index, target, generator) -> tuple[int, int]:
    """Sentences of another document, from any of them on."""
    _, ends, bounds = documents
    other = _below(len(bounds) - 2, generator)
    other += other >= index
    first, beyond = bounds[other], bounds[other + 1]
    first += _below(beyond - first, generator)
    begin = ends[first - 1] if first else 0
    return begin, ends[bisect_left(ends, begin + target, first, beyond - 1)]


def _truncated(pairs: Pairs, room: int, generator: random.Random) -> Pairs:
    """Pairs of at most `room` tokens.

    The original takes tokens off the longer segment, B where both are equal,
    one by one, each from the front or the back: how many each segment loses
    follows from the lengths, and how many of them in front is binomial.
    """
    a, b = pairs.a_length, pairs.b_length
    half = (room + 1) // 2
    a_kept = np.where(a > b, np.maximum(room - b, half), np.minimum(a, half))
    a_kept = np.where(a + b > room, a_kept, a)
    b_kept = np.minimum(b, room - a_kept)
    return pairs._replace(
        a_begin=pairs.a_begin + _in_front(a - a_kept, generator),
        a_length=a_kept,
        b_begin=pairs.b_begin + _in_front(b - b_kept, generator),
        b_length=b_kept,
    )


def _in_front(lost: np.ndarray, generator: random.Random) -> np.ndarray:
    """How many of the lost tokens stood in front: heads of as many coins."""
    heads = np.zeros_like(lost)
    for row in np.flatnonzero(lost).tolist():
        heads[row] = generator.getrandbits(int(lost[row])).bit_count()
    return heads
