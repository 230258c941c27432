"""The tokens of contexts and questions, kept in memory-mapped files.

A context is tokenized once, however many questions it has. All numbers are
32-bit integers, one file for each field of `Tokens`.
"""

import bisect
import hashlib
import itertools
import os
import pathlib
import re
import tempfile
import unicodedata
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from bert import tokenization
from bert.pretraining_data import token_blocks
from bert.pretraining_data import workers
from bert.squad_data import reading
from lbcheck.support import files

_FORMAT = 1
_CONTEXTS = 64  # of a block, what a worker does at a time
_INTEGER = "<i4"
_BLANKS = " \t\r\n\u202f"  # what the original splits words at
_REST = re.compile(f"[^{_BLANKS}]*")


class Tokens(NamedTuple):
    """The tokens of a data set.

    Attributes:
        ids: Token ids of all contexts, end to end.
        begins: Where each token begins in its context, in characters.
        ends: Where it ends.
        lengths: Tokens of each context.
        question_ids: Token ids of all questions, end to end.
        question_lengths: Tokens of each question.
        answers: First and last token of each question's first answer that
            stands at its offset, two numbers a question; -1 where there is
            none.
    """

    ids: np.ndarray
    begins: np.ndarray
    ends: np.ndarray
    lengths: np.ndarray
    question_ids: np.ndarray
    question_lengths: np.ndarray
    answers: np.ndarray


def tokenize(
    dataset: reading.Dataset,
    tokenizer: tokenization.Tokenizer,
    num_workers: int = 1,
    cache_dir: str | None = None,
) -> Tokens:
    """Tokenizes all contexts and questions; see `windows.features`."""
    if cache_dir is None:
        with tempfile.TemporaryDirectory() as folder:
            _write(folder, dataset, tokenizer, num_workers)
            # The files live on, without names, as long as they are mapped.
            return _read(folder, dataset)
    made = pathlib.Path(cache_dir, f"squad-{_digest(dataset, tokenizer)}")
    if not made.exists():
        with files.making_folder(made) as part:
            _write(part, dataset, tokenizer, num_workers)
    return _read(made, dataset)


def _digest(dataset: reading.Dataset, tokenizer: tokenization.Tokenizer) -> str:
    """What decides the tokens."""
    made_of = itertools.chain(
        (_FORMAT, unicodedata.unidata_version),
        (tokenizer.lower_case, tokenizer.vocab),
        dataset.contexts,
        ((q.text, q.context, q.answers) for q in dataset.questions),
    )
    hasher = hashlib.sha256()
    for part in made_of:
        hasher.update(repr(part).encode() + b"\0")
    return hasher.hexdigest()[:32]


def _write(folder, dataset, tokenizer, num_workers) -> None:
    """One file for each field, written block by block."""
    written = [open(pathlib.Path(folder, n), "wb") for n in Tokens._fields]
    calls = (
        (*block, tokenizer.vocab_file, tokenizer.lower_case)
        for block in _blocks(dataset)
    )
    try:
        for arrays in workers.in_order(_block, calls, num_workers):
            for file, array in zip(written, arrays):
                file.write(array.tobytes())
        for file in written:
            file.flush()
            os.fsync(file.fileno())
    finally:
        for file in written:
            file.close()


def _read(folder, dataset: reading.Dataset) -> Tokens:
    paths = [pathlib.Path(folder, name) for name in Tokens._fields]
    found = Tokens(*map(_map, paths))
    agree = (
        len(found.lengths) == len(dataset.contexts)
        and len(found.question_lengths) == len(dataset.questions)
        and len(found.answers) == 2 * len(dataset.questions)
        and len(found.question_ids) == found.question_lengths.sum()
        and {len(found.ids), len(found.begins), len(found.ends)}
        == {found.lengths.sum()}
    )
    if not agree:
        raise ValueError(f"{folder}: the files are damaged; delete the folder.")
    return found._replace(answers=found.answers.reshape(-1, 2))


def _map(path: pathlib.Path) -> np.ndarray:
    if not path.exists() or not path.stat().st_size:
        return np.zeros(0, _INTEGER)  # an empty file cannot be mapped
    if path.stat().st_size % 4:
        raise ValueError(f"{path}: the file is damaged; delete its folder.")
    return np.memmap(path, _INTEGER, "r")


def _blocks(dataset: reading.Dataset) -> Iterator[tuple[list, list]]:
    """(contexts, their questions) in turn."""
    place = 0
    for first in range(0, len(dataset.contexts), _CONTEXTS):
        contexts = dataset.contexts[first : first + _CONTEXTS]
        questions = []
        while place < len(dataset.questions):
            question = dataset.questions[place]
            if question.context >= first + _CONTEXTS:
                break
            questions.append(
                question._replace(context=question.context - first)
            )
            place += 1
        yield contexts, questions


def _block(
    contexts: list[str],
    questions: list[reading.Question],
    vocab_file: str,
    lower_case: bool,
) -> Tokens:
    tokenizer = token_blocks.tokenizer(vocab_file, lower_case)
    located = [tokenizer.ids_with_offsets(text) for text in contexts]
    asked = [tokenizer.ids(question.text) for question in questions]
    bounds = [tuple(zip(*places)) or ((), ()) for _, places in located]
    answers = [
        _answer(
            question,
            contexts[question.context],
            tokenizer,
            located[question.context][0],
            bounds[question.context],
        )
        for question in questions
    ]
    return Tokens(
        ids=_flat(ids for ids, _ in located),
        begins=_flat(begins for begins, _ in bounds),
        ends=_flat(ends for _, ends in bounds),
        lengths=np.array([len(ids) for ids, _ in located], _INTEGER),
        question_ids=_flat(asked),
        question_lengths=np.array([len(ids) for ids in asked], _INTEGER),
        answers=_flat(answers),
    )


def _answer(question: reading.Question, context: str, tokenizer, ids, bounds):
    """(first, last) token of the answer.

    Those that have characters of it, if they are its tokens; else all those of
    the words, between blanks, that it has characters of, as in the original.
    """
    for answer in question.answers:
        if not reading.stands(answer, context):
            continue
        begin, end = answer.start, answer.start + len(answer.text)
        first, last = _cover(bounds, begin, end)
        if tokenizer.ids(answer.text) != ids[first : last + 1]:
            begin = 1 + max(context.rfind(c, 0, begin) for c in _BLANKS)
            first, last = _cover(bounds, begin, _REST.match(context, end).end())
        if first <= last:
            return first, last
    return -1, -1


def _cover(bounds, begin: int, end: int) -> tuple[int, int]:
    """(first, last) of the tokens that have characters of context[begin:end].

    The last is before the first where there are none.
    """
    begins, ends = bounds
    return bisect.bisect_right(ends, begin), bisect.bisect_left(begins, end) - 1


def _flat(rows) -> np.ndarray:
    return np.array([number for row in rows for number in row], _INTEGER)
