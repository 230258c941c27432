"""A shard: the documents dealt to it, made into records in random order."""

import functools
import os
import random
from array import array
from typing import NamedTuple

import numpy as np

from bert.pretraining_data import masking
from bert.pretraining_data import records
from bert.pretraining_data import sentence_pairs
from bert.pretraining_data import token_blocks
from lbcheck.support import files

SHORTEST = 5
"""Tokens of a record at least: one of each sentence, and three special ones."""
LONGEST = 2**14
"""Tokens of a record at most; published BERTs have positions for 512."""
MOST_PASSES = 1000
"""Passes over the text at most, all of which are in memory at once."""

_ROWS_TIMES_LENGTH = 2**16  # of a batch that is masked at once


class Settings(NamedTuple):
    """What the records are made with; see `bert.create_pretraining_data`."""

    vocab_file: str
    lower_case: bool
    whole_word_masking: bool
    max_seq_length: int
    max_predictions_per_seq: int
    masked_lm_prob: float
    short_seq_prob: float
    dupe_factor: int
    seed: int


def check_lengths(max_seq_length: int, max_predictions_per_seq: int) -> None:
    """Refuses records of no length, and more predictions than tokens to mask.

    Raises:
        ValueError: Says what was received.
    """
    if not SHORTEST <= max_seq_length <= LONGEST:
        raise ValueError(
            f"max_seq_length must be {SHORTEST} to {LONGEST} tokens, received "
            f"{max_seq_length}."
        )
    room = max_seq_length - 3
    if max_predictions_per_seq > room:
        raise ValueError(
            f"max_predictions_per_seq={max_predictions_per_seq}: of "
            f"max_seq_length={max_seq_length} tokens at most {room} can be "
            "masked, all but [CLS] and two [SEP]."
        )


class Counts(NamedTuple):
    """What a shard holds."""

    documents: int
    instances: int
    random_next: int
    tokens: int
    predictions: int
    bytes: int


def deal(count: int, num_shards: int, shard: int, seed: int) -> np.ndarray:
    """Which documents a shard gets: one of each `num_shards` successive ones.

    Args:
        count: Documents of the corpus.
        num_shards: At least 1.
        shard: Index of the shard.
        seed: Which one it is is drawn from this.
    """
    rounds = -(-count // num_shards)
    shifts = np.random.Generator(np.random.PCG64([seed, 0])).random(rounds)
    shifts = (shifts * num_shards).astype(np.int64)
    found = np.arange(rounds) * num_shards + (shard - shifts) % num_shards
    return found[found < count]


def write(
    path: str,
    part: str,
    shard: int,
    num_shards: int,
    sources: list[tuple[str, int]],
    settings: Settings,
) -> Counts:
    """Writes one shard; a function of its arguments only.

    Args:
        path: The TFRecord file.
        part: Where it is until it is whole, on the same disk.
        shard: Index of the shard.
        num_shards: Shards of the whole corpus.
        sources: (file, number of documents) of each block, in order.
        settings: As above.
    """
    generator = random.Random(f"{settings.seed}/{shard}")
    documents = _documents(shard, num_shards, sources, settings.seed)
    layout = sentence_pairs.lay_out(
        documents,
        settings.max_seq_length,
        settings.short_seq_prob,
        settings.dupe_factor,
        generator,
    )
    numbers = np.random.Generator(np.random.PCG64([settings.seed, 1, shard]))
    order = np.argsort(numbers.random(len(layout.a_begin)))
    layout = sentence_pairs.Pairs(*(column[order] for column in layout))
    rows = max(1, _ROWS_TIMES_LENGTH // settings.max_seq_length)
    predictions = 0
    with files.replacing(part) as file:
        for begin in range(0, len(order), rows):
            batch = (column[begin : begin + rows] for column in layout)
            features = masking.features(
                documents.tokens,
                sentence_pairs.Pairs(*batch),
                _alphabet(settings.vocab_file, settings.lower_case),
                settings.max_seq_length,
                settings.max_predictions_per_seq,
                settings.masked_lm_prob,
                settings.whole_word_masking,
                numbers,
            )
            predictions += int(features["masked_lm_weights"].sum())
            examples = records.examples(features)
            file.write(b"".join(map(records.frame, examples)))
    os.replace(part, path)
    return Counts(
        documents=len(documents.bounds) - 1,
        instances=len(order),
        random_next=int(layout.is_random.sum()),
        tokens=int((layout.a_length + layout.b_length + 3).sum()),
        predictions=predictions,
        bytes=os.path.getsize(path),
    )


def _documents(shard, num_shards, sources, seed) -> sentence_pairs.Documents:
    """The documents of a shard, in the corpus's order."""
    begins = np.cumsum([0, *(count for _, count in sources)])
    wanted = deal(int(begins[-1]), num_shards, shard, seed)
    cuts = np.searchsorted(wanted, begins)
    # One growing buffer each: thousands of small arrays would leave holes in
    # the memory of a worker that makes one shard after another.
    tokens, lengths, counts = array("i"), array("i"), [0]
    for (path, _), begin, first, last in zip(sources, begins, cuts, cuts[1:]):
        if last == first:
            continue
        for sizes, ids in token_blocks.read(path, wanted[first:last] - begin):
            tokens.frombytes(ids.astype("i").tobytes())
            lengths.frombytes(sizes.astype("i").tobytes())
            counts.append(len(sizes))
    return sentence_pairs.Documents(
        tokens=np.frombuffer(tokens, "i"),
        ends=np.cumsum(np.frombuffer(lengths, "i"), dtype=np.int64).tolist(),
        bounds=np.cumsum(counts).tolist(),
    )


@functools.lru_cache(maxsize=1)
def _alphabet(vocab_file: str, lower_case: bool) -> masking.Alphabet:
    tokenizer = token_blocks.tokenizer(vocab_file, lower_case)
    vocab = tokenizer.vocab
    return masking.Alphabet(
        size=len(vocab),
        cls=tokenizer.id("[CLS]"),
        sep=tokenizer.id("[SEP]"),
        mask=tokenizer.id("[MASK]"),
        continues=np.array([token.startswith("##") for token in vocab]),
    )
