"""Answers from logits, in the characters of the context."""

from typing import NamedTuple

import numpy as np

from bert.squad_data import reading
from bert.squad_data import windows


class Decoded(NamedTuple):
    """What a model answers; each is JSON-able as it stands.

    Attributes:
        predictions: {question id: answer}.
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
    raise NotImplementedError
