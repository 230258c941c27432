"""Answers from logits, in the characters of the context.

As squad_lib of TensorFlow Model Garden, after google-research/bert: the best
starts and ends of each window are combined, spans that cannot be are thrown
out, the rest is ranked by start logit + end logit. But an answer is cut out of
the context where its tokens stand, not found again by comparing texts.
"""

import math
from typing import NamedTuple

import numpy as np

from bert.squad_data import reading
from bert.squad_data import windows

_QUESTIONS = 256  # decoded at a time


class Decoded(NamedTuple):
    """What a model answers; each is JSON-able as it stands.

    Attributes:
        predictions: {question id: answer}; "empty" where no span could be,
            as in the original.
        nbest: {question id: [{"text", "probability", "start_logit",
            "end_logit"}, ...]}, best first.
        null_odds: {question id: score of no answer less that of the best
            answer}; v2.0 only, else empty.
    """

    predictions: dict[str, str]
    nbest: dict[str, list[dict]]
    null_odds: dict[str, float]


def decode(
    dataset: reading.Dataset,
    features: windows.Features,
    start_logits: np.ndarray,
    end_logits: np.ndarray,
    n_best_size: int = 20,
    max_answer_length: int = 30,
    null_score_diff_threshold: float = 0.0,
) -> Decoded:
    """The best answers to each question.

    Args:
        dataset: The questions.
        features: Their windows.
        start_logits: (windows, max_seq_length), one row for each window.
        end_logits: The same.
        n_best_size: Answers kept, and positions tried of each kind in each
            window, >= 1.
        max_answer_length: Tokens, >= 1.
        null_score_diff_threshold: v2.0 only: a question has no answer where
            its null odds are greater.

    Raises:
        ValueError: Logits of another shape, or not finite.
    """
    logits = {"start_logits": start_logits, "end_logits": end_logits}
    shape = len(features), features.max_seq_length
    for name, found in logits.items():
        if np.shape(found) != shape:
            raise ValueError(
                f"`{name}` must have a row for each window, {shape}, received "
                f"{np.shape(found)}."
            )
    decoded = Decoded({}, {}, {})
    count = len(dataset.questions)
    bounds = np.searchsorted(features.questions, np.arange(count + 1))
    for first in range(0, count, _QUESTIONS):
        numbers = np.arange(first, min(first + _QUESTIONS, count) + 1)
        spans = _spans(
            features,
            slice(bounds[first], bounds[numbers[-1]]),
            logits,
            n_best_size,
            max_answer_length,
            dataset.version_2,
        )
        cuts = np.searchsorted(spans.questions, numbers)
        columns = [column.tolist() for column in spans[1:]]
        for number, begin, end in zip(numbers.tolist(), cuts, cuts[1:]):
            question = dataset.questions[number]
            texts = _distinct(
                dataset.contexts[question.context],
                zip(*(column[begin:end] for column in columns)),
                n_best_size,
            )
            if not texts:
                texts = {"" if dataset.version_2 else "empty": (0.0, 0.0)}
            decoded.nbest[question.id] = _entries(texts)
            answer = next(iter(texts))
            if dataset.version_2:
                answer, odds = _answer(texts, null_score_diff_threshold)
                decoded.null_odds[question.id] = odds
            decoded.predictions[question.id] = answer
    return decoded


class _Spans(NamedTuple):
    """Candidates, those of a question together, best first."""

    questions: np.ndarray
    begins: np.ndarray
    ends: np.ndarray
    start_logits: np.ndarray
    end_logits: np.ndarray


def _spans(
    features, part, logits, n_best_size, max_answer_length, version_2
) -> _Spans:
    """Candidates of some windows, all those of their questions."""
    found = []
    for name, values in logits.items():
        found.append(np.asarray(values[part], np.float64))
        _check_finite(name, found[-1], part.start)
    starts, ends = (_best(values, n_best_size) for values in found)
    questions, firsts, lengths, places = (c[part] for c in features.windows)
    window = np.arange(len(questions))[:, None]
    inside = np.arange(features.max_seq_length) - places[:, None]
    inside = (0 <= inside) & (inside < lengths[:, None])
    allowed = inside & _most_context(questions, firsts, lengths, places, inside)
    length = ends[:, None, :] - starts[:, :, None]
    window, start, end = np.nonzero(
        allowed[window, starts][:, :, None]
        & inside[window, ends][:, None, :]
        & (0 <= length)
        & (length < max_answer_length)
    )
    starts, ends = starts[window, start], ends[window, end]
    begins, stops = features.characters(part.start + window, starts, ends)
    spans = _Spans(
        questions[window],
        begins,
        stops,
        found[0][window, starts],
        found[1][window, ends],
    )
    if version_2:
        spans = _with_null(spans, questions, *(f[:, 0] for f in found))
    order = np.lexsort(
        (-(spans.start_logits + spans.end_logits), spans.questions)
    )
    return _Spans(*(column[order] for column in spans))


def _check_finite(name, values, start) -> None:
    wrong = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(wrong):
        raise ValueError(
            f"`{name}` of window {start + wrong[0]} are not all finite; has "
            "the training diverged?"
        )


def _best(logits: np.ndarray, count: int) -> np.ndarray:
    """Positions of the greatest logits of each row, the first of equals."""
    return np.argsort(-logits, axis=1, kind="stable")[:, :count]


def _most_context(questions, firsts, lengths, places, inside) -> np.ndarray:
    """Where a window, of all of its question's, shows most around a token.

    That is the most of the lesser side, with 0.01 of the window's length
    added; the first of equals.
    """
    found = inside.copy()
    _, begins, counts = np.unique(
        questions, return_index=True, return_counts=True
    )
    for begin, count in zip(begins[counts > 1], counts[counts > 1]):
        rows = slice(begin, begin + count)
        first, length = firsts[rows, None], lengths[rows, None]
        tokens = np.arange(first[-1, 0] + length[-1, 0])
        score = np.minimum(tokens - first, first + length - 1 - tokens)
        score = np.where(score < 0, -np.inf, score + 0.01 * length)
        most = score.argmax(axis=0) == np.arange(count)[:, None]
        found[rows][inside[rows]] = most[score >= 0]
    return found


def _with_null(spans, questions, start_logits, end_logits) -> _Spans:
    """The spans and, of each question, the empty one.

    Its logits are those of [CLS] in the window where their sum is least; it
    comes after spans of the same score.
    """
    order = np.lexsort((start_logits + end_logits, questions))
    questions, first = np.unique(questions[order], return_index=True)
    least = order[first]
    nowhere = np.zeros(len(least), np.int32)
    null = (
        questions,
        nowhere,
        nowhere,
        start_logits[least],
        end_logits[least],
    )
    return _Spans(*map(np.append, spans, null))


def _distinct(context: str, spans, count: int) -> dict:
    """{text: (start logit, end logit)}, `count` of them and the empty one."""
    found = {}
    for begin, end, *logits in spans:
        if len(found) < count or begin == end:
            found.setdefault(context[begin:end], logits)
    return found


def _entries(texts: dict) -> list[dict]:
    best = max(map(sum, texts.values()))
    weights = [math.exp(sum(logits) - best) for logits in texts.values()]
    total = sum(weights)
    return [
        {
            "text": text,
            "probability": weight / total,
            "start_logit": start,
            "end_logit": end,
        }
        for (text, (start, end)), weight in zip(texts.items(), weights)
    ]


def _answer(texts: dict, threshold: float) -> tuple[str, float]:
    """(the answer or "", null odds) of a question of v2.0."""
    null = sum(texts[""])
    best = next(filter(None, texts), "")
    if not best:
        return "", null
    odds = null - texts[best][0] - texts[best][1]
    return "" if odds > threshold else best, odds
