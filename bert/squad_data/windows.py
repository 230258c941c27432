"""Questions and contexts as the model sees them, in windows of fixed length."""

from typing import NamedTuple

import numpy as np

from bert import tokenization
from bert.squad_data import reading
from bert.squad_data import tokens as squad_tokens

_SPECIAL = 3  # [CLS], [SEP], [SEP]


class Windows(NamedTuple):
    """Where each window lies; columns of equal length.

    Attributes:
        questions: Index of its question; ascending.
        firsts: First token of the context that it holds, from 0.
        lengths: How many it holds.
        places: Where the first of them stands in the window.
    """

    questions: np.ndarray
    firsts: np.ndarray
    lengths: np.ndarray
    places: np.ndarray


class Features:
    """Windows [CLS] question [SEP] part of the context [SEP] padding.

    Tokens are kept once for each question and context, in memory-mapped
    files; `inputs` lays out the windows that are asked for.

    Attributes:
        max_seq_length: Tokens of a window, padding included.
        windows: Where they lie.
        questions: Index of each window's question (windows,); ascending.
        start_positions: Position of the answer's first token in each window,
            int32 (windows,); 0, that is [CLS], where the window does not hold
            the whole answer.
        end_positions: The last token of the answer, the same.
        diagnostics: {name: number} of "questions", "windows",
            "truncated_questions" (longer than max_query_length),
            "unusable_answers" (questions none of whose answers stands at its
            offset), "without_answer_window" (questions whose answer no window
            holds whole), "cut_answers" (windows that hold a part of it only),
            "tokens", "unknown_tokens".
    """

    def __init__(
        self,
        dataset: reading.Dataset,
        tokens: squad_tokens.Tokens,
        tokenizer: tokenization.Tokenizer,
        max_seq_length: int,
        doc_stride: int,
        max_query_length: int,
        training: bool,
    ):
        self.max_seq_length = max_seq_length
        self._tokens = tokens
        self._cls, self._sep = map(tokenizer.id, ("[CLS]", "[SEP]"))
        self._query_begins = _begins(tokens.question_lengths)
        contexts = np.array([q.context for q in dataset.questions])
        self._context_begins = _begins(tokens.lengths)[contexts]
        found = tokens.answers[:, 0] >= 0
        impossible = np.array([q.impossible for q in dataset.questions])
        answered = np.array([bool(q.answers) for q in dataset.questions])
        self.windows = _split(
            np.flatnonzero(found | impossible | (not training)),
            tokens.lengths[contexts],
            np.minimum(tokens.question_lengths, max_query_length),
            max_seq_length,
            doc_stride,
        )
        questions, firsts, lengths, places = self.windows
        self.questions = questions
        first, last = tokens.answers[questions].T
        ends = firsts + lengths
        has = first >= 0
        whole = has & (firsts <= first) & (last < ends)
        shift = places - firsts
        self.start_positions = np.where(whole, first + shift, 0).astype("i4")
        self.end_positions = np.where(whole, last + shift, 0).astype("i4")
        touched = has & (firsts <= last) & (first < ends)
        unknown = tokenizer.id("[UNK]")
        counts = {
            "questions": len(found),
            "windows": len(questions),
            "truncated_questions": tokens.question_lengths > max_query_length,
            "unusable_answers": answered & ~found,
            "without_answer_window": np.setdiff1d(
                np.flatnonzero(found), questions[whole]
            ).size,
            "cut_answers": touched & ~whole,
            "tokens": len(tokens.ids) + len(tokens.question_ids),
            "unknown_tokens": [
                np.count_nonzero(ids == unknown)
                for ids in (tokens.ids, tokens.question_ids)
            ],
        }
        self.diagnostics = {n: int(np.sum(x)) for n, x in counts.items()}

    def __len__(self) -> int:
        """The number of windows."""
        return len(self.windows.questions)

    def inputs(self, windows) -> dict[str, np.ndarray]:
        """What the encoder takes of some windows.

        Args:
            windows: Indices, or a slice.

        Returns:
            {"input_word_ids", "input_mask", "input_type_ids"}, int32 (number
            of windows, max_seq_length) each.
        """
        columns = [column[windows] for column in self.windows]
        shape = len(columns[0]), self.max_seq_length
        ids, mask, types = np.zeros((3, *shape), np.int32)
        for row, numbers in enumerate(zip(*(c.tolist() for c in columns))):
            question, first, length, place = numbers
            query = self._query_begins[question]
            begin = self._context_begins[question] + first
            end = place + length
            ids[row, 0] = self._cls
            ids[row, 1 : place - 1] = self._tokens.question_ids[
                query : query + place - 2
            ]
            ids[row, [place - 1, end]] = self._sep
            ids[row, place:end] = self._tokens.ids[begin : begin + length]
            mask[row, : end + 1] = 1
            types[row, place : end + 1] = 1
        return {
            "input_word_ids": ids,
            "input_mask": mask,
            "input_type_ids": types,
        }

    def characters(
        self, windows: np.ndarray, starts: np.ndarray, ends: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Where spans of tokens lie in their contexts.

        Args:
            windows: Index of the window of each span.
            starts: Its first token's position in the window, a token of the
                context.
            ends: Its last token's, the same.

        Returns:
            (begins, ends) such that context[begin:end] is the text.
        """
        questions, firsts, _, places = (c[windows] for c in self.windows)
        shift = self._context_begins[questions] + firsts - places
        return self._tokens.begins[starts + shift], self._tokens.ends[
            ends + shift
        ]

    def trained(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Where the answers that are trained lie in their contexts.

        Returns:
            (questions that have one, begins, ends) such that
            context[begin:end] is the text.
        """
        questions = np.flatnonzero(self._tokens.answers[:, 0] >= 0)
        shift = self._context_begins[questions]
        first, last = self._tokens.answers[questions].T + shift
        return questions, self._tokens.begins[first], self._tokens.ends[last]


def features(
    dataset: reading.Dataset,
    tokenizer: tokenization.Tokenizer,
    max_seq_length: int = 384,
    doc_stride: int = 128,
    max_query_length: int = 64,
    training: bool = False,
    num_workers: int = 1,
    cache_dir: str | None = None,
) -> Features:
    """Splits questions and contexts into windows.

    Args:
        dataset: The questions.
        tokenizer: Tokenizer of the encoder's vocabulary.
        max_seq_length: Tokens of a window, at least max_query_length + 4.
        doc_stride: Tokens of the context from one window to the next, >= 1.
        max_query_length: Tokens of a question beyond which it is cut, >= 1.
        training: Leave out questions whose answer cannot be found; the first
            answer that stands at its offset is trained.
        num_workers: Processes; they change nothing but the time.
        cache_dir: Folder where the tokens are kept, and found again by what
            they are made of: contexts, questions, answers and vocabulary.

    Raises:
        ValueError: Settings that leave no room for a context.
    """
    for name, value in (
        ("doc_stride", doc_stride),
        ("max_query_length", max_query_length),
        ("num_workers", num_workers),
    ):
        if value < 1:
            raise ValueError(f"`{name}` must be at least 1, received {value}.")
    if max_seq_length < max_query_length + _SPECIAL + 1:
        raise ValueError(
            f"`max_seq_length` {max_seq_length} leaves no room for a context "
            f"next to {max_query_length} tokens of a question "
            f"(`max_query_length`) and {_SPECIAL} special ones."
        )
    tokens = squad_tokens.tokenize(dataset, tokenizer, num_workers, cache_dir)
    return Features(
        dataset,
        tokens,
        tokenizer,
        max_seq_length,
        doc_stride,
        max_query_length,
        training,
    )


def _split(
    wanted: np.ndarray,
    context_lengths: np.ndarray,
    query_lengths: np.ndarray,
    max_seq_length: int,
    doc_stride: int,
) -> Windows:
    """Windows that overlap, the last one ending where the context does.

    Args:
        wanted: Indices of questions.
        context_lengths: Tokens of each question's context.
        query_lengths: Tokens of each question, at most max_query_length.
        max_seq_length: As above.
        doc_stride: As above.
    """
    lengths, queries = context_lengths[wanted], query_lengths[wanted]
    room = max_seq_length - _SPECIAL - queries
    step = np.minimum(room, doc_stride)
    counts = 1 + np.maximum(-(-(lengths - room) // step), 0)
    counts[lengths == 0] = 0
    row = np.repeat(np.arange(len(wanted)), counts)
    firsts = (np.arange(len(row)) - _begins(counts)[row]) * step[row]
    return Windows(
        questions=wanted[row],
        firsts=firsts,
        lengths=np.minimum(room[row], lengths[row] - firsts),
        places=queries[row] + 2,
    )


def _begins(lengths: np.ndarray) -> np.ndarray:
    """Where rows of these lengths begin, laid end to end."""
    return np.cumsum(lengths, dtype=np.int64) - lengths
