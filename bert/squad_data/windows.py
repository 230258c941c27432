"""Questions and contexts as the model sees them, in windows of fixed length."""

import numpy as np

from bert import tokenization
from bert.squad_data import reading


class Features:
    """Windows [CLS] question [SEP] part of the context [SEP] padding.

    Tokens are kept once for each question and context, in memory-mapped
    files; `inputs` lays out the windows that are asked for.

    Attributes:
        max_seq_length: Tokens of a window, padding included.
        questions: Of each window, the index of its question (windows,);
            ascending.
        start_positions: Of each window, where the first token of the answer
            stands in it (windows,); 0, that is [CLS], where the window does
            not hold the whole answer.
        end_positions: The last token of the answer, the same.
        diagnostics: {name: number} of "questions", "windows",
            "truncated_questions" (longer than max_query_length),
            "unusable_answers" (questions none of whose answers stands at its
            offset), "without_answer_window" (questions whose answer no window
            holds whole), "cut_answers" (windows that hold a part of it only),
            "tokens", "unknown_tokens".
    """

    def __len__(self) -> int:
        """The number of windows."""
        raise NotImplementedError

    def inputs(self, windows) -> dict[str, np.ndarray]:
        """What the encoder takes of some windows.

        Args:
            windows: Indices, or a slice.

        Returns:
            {"input_word_ids", "input_mask", "input_type_ids"}, int32 (number
            of windows, max_seq_length) each.
        """
        raise NotImplementedError


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
        tokenizer: Of the encoder's vocabulary.
        max_seq_length: Tokens of a window, at least max_query_length + 4.
        doc_stride: Tokens of the context from one window to the next, >= 1.
        max_query_length: Tokens of a question beyond which it is cut, >= 1.
        training: Leave out questions whose answer cannot be found; the first
            answer that stands at its offset is trained.
        num_workers: Processes; they change nothing but the time.
        cache_dir: Folder where the result is kept, and found again by its
            content: questions, vocabulary and settings.

    Raises:
        ValueError: Settings that leave no room for a context.
    """
    raise NotImplementedError
