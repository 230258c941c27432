"""Pairs of segments filled in and masked, a batch at a time.

Source: google-research/bert, create_pretraining_data.py,
create_masked_lm_predictions; what a whole word is replaced by is decided
once for the word, as in Model Garden.
"""

from typing import NamedTuple

import numpy as np

from bert.pretraining_data import sentence_pairs as layout


class Alphabet(NamedTuple):
    """What masking knows of the vocabulary.

    Args:
        size: Number of tokens; the random ones are drawn from all of them.
        cls: Id of [CLS].
        sep: Id of [SEP].
        mask: Id of [MASK].
        continues: For each token, whether it goes on with a word (`##`).
    """

    size: int
    cls: int
    sep: int
    mask: int
    continues: np.ndarray


def features(
    tokens: np.ndarray,
    pairs: layout.Pairs,
    alphabet: Alphabet,
    max_seq_length: int,
    max_predictions_per_seq: int,
    masked_lm_prob: float,
    whole_word_masking: bool,
    generator: np.random.Generator,
) -> dict[str, np.ndarray]:
    """The features of the records, a row for each pair.

    Args:
        tokens: What the pairs point into.
        pairs: The stretches; none empty, together at most
            `max_seq_length` - 3 tokens.
        alphabet: The special tokens.
        max_seq_length: Columns of the sequences.
        max_predictions_per_seq: Columns of the predictions, at least 1.
        masked_lm_prob: Part of the tokens, special ones counted, that is
            predicted, in (0, 1].
        whole_word_masking: Never divide a word; one that would be too much
            is left out.
        generator: Random generator of all choices; only uniform numbers are
            drawn.

    Returns:
        {feature: matrix}, with the original's names.
    """
    ids, segments, inside = _sequences(tokens, pairs, alphabet, max_seq_length)
    lengths = (pairs.a_length + pairs.b_length + 3)[:, None]
    wanted = np.rint(lengths[:, 0] * masked_lm_prob).astype(np.int64)
    wanted = np.clip(wanted, 1, max_predictions_per_seq)
    begins = inside
    if whole_word_masking:
        begins = inside & ~(np.roll(inside, 1, 1) & alphabet.continues[ids])
    words = np.cumsum(begins, 1) - 1
    chosen = inside & _chosen(words, inside, wanted, generator)
    rows, columns = np.nonzero(chosen)
    counts = np.count_nonzero(chosen, 1)
    slots = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    predictions = np.zeros((3, len(ids), max_predictions_per_seq), np.int64)
    labels = ids[rows, columns]
    predictions[:, rows, slots] = columns, labels, np.ones_like(labels)
    ids[rows, columns] = _replaced(
        labels,
        rows * max_seq_length + words[rows, columns],
        alphabet,
        generator,
    )
    positions, labels, weights = predictions
    return {
        "input_ids": ids,
        "input_mask": (np.arange(max_seq_length) < lengths).view(np.uint8),
        "segment_ids": segments.view(np.uint8),
        "masked_lm_positions": positions,
        "masked_lm_ids": labels,
        "masked_lm_weights": weights.astype(np.float32),
        "next_sentence_labels": pairs.is_random[:, None],
    }


def _sequences(tokens, pairs: layout.Pairs, alphabet: Alphabet, length: int):
    """[CLS] A [SEP] B [SEP]: ids, which belong to B, which are text."""
    a, b = pairs.a_length[:, None], pairs.b_length[:, None]
    column = np.arange(length)
    segments = (column > a + 1) & (column <= a + b + 2)
    inside = (column > 0) & (column < a + b + 2) & (column != a + 1)
    places = column + np.where(
        segments, (pairs.b_begin - 2)[:, None] - a, (pairs.a_begin - 1)[:, None]
    )
    ids = np.where(inside, tokens[np.where(inside, places, 0)], 0)
    rows = np.arange(len(ids))
    ids[:, 0] = alphabet.cls
    ids[rows, pairs.a_length + 1] = alphabet.sep
    ids[rows, pairs.a_length + pairs.b_length + 2] = alphabet.sep
    return ids, segments, inside


def _chosen(words, inside, wanted, generator) -> np.ndarray:
    """Whether the word of each token is predicted.

    The words of a row are gone through in random order; one is taken where
    it leaves at most `wanted` tokens.
    """
    count, length = words.shape
    cells = (words + np.arange(count)[:, None] * length)[inside]
    sizes = np.bincount(cells, minlength=count * length).reshape(words.shape)
    keys = np.where(sizes > 0, generator.random(words.shape), 2.0)
    order = np.argsort(keys, 1)
    sizes = np.ascontiguousarray(np.take_along_axis(sizes, order, 1).T)
    taken = np.zeros(sizes.shape, bool)
    left = wanted.copy()
    for rank in range(int(words.max()) + 1):
        taken[rank] = sizes[rank] <= left
        left -= sizes[rank] * taken[rank]
        if not left.any():
            break
    picked = np.empty(words.shape, bool)
    np.put_along_axis(picked, order, taken.T, 1)
    return np.take_along_axis(picked, np.maximum(words, 0), 1)


def _replaced(labels, words, alphabet: Alphabet, generator) -> np.ndarray:
    """80 % [MASK], 10 % as they are, 10 % any tokens; the same for a word."""
    first = np.r_[True, words[1:] != words[:-1]]
    first = np.maximum.accumulate(np.arange(len(words)) * first)
    choice = generator.random(len(words))[first]
    anything = generator.random(len(words)) * alphabet.size
    found = np.where(choice < 0.9, labels, anything.astype(np.int64))
    return np.where(choice < 0.8, alphabet.mask, found)
