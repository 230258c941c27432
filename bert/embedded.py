"""Records of the text that ships with Python, for runs that need no download.

Topics of Python's help that make a tenth of its text are held out. Topics
quote each other now and then, so what is held out is not all unseen.
"""

import collections
import contextlib
import itertools
import os
import pathlib
import time
from typing import NamedTuple

import numpy as np

from bert import text
from bert import tokenization
from bert.pretraining_data import pipeline
from bert.pretraining_data import shards
from bert.pretraining_data import text_sources
from lbcheck.support import errors
from lbcheck.support import files

_HELD_OUT = 0.1
_SHARDS = 4
_LONGEST_WAIT = 1800  # seconds


class Corpus(NamedTuple):
    """Text files with a vocabulary of their own.

    Attributes:
        folder: Where they lie.
        train: File of the training text.
        validation: File of the held-out text.
        vocab_file: One token per line, learned from the training text.
        tokens: Size of the vocabulary.
        entropy: Unigram entropy of the training text's tokens, in nats.
    """

    folder: pathlib.Path
    train: str
    validation: str
    vocab_file: str
    tokens: int
    entropy: float


def corpus(folder, train_vocab: int) -> Corpus:
    """Writes the text and its vocabulary, if they are not there.

    Args:
        folder: Where to; made if need be.
        train_vocab: Most tokens of the vocabulary, at least 6.

    Raises:
        Unavailable: Another process writes there, for too long.
    """
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    parts = _split(text.embedded().values())
    paths = {part: str(folder / f"{part}.txt") for part in parts}
    vocab_file = str(folder / f"vocab-{train_vocab}.txt")
    with _alone(folder):
        for part, found in parts.items():
            content = "".join("\n".join([*lines, "", ""]) for lines in found)
            _write(paths[part], content)
        if not os.path.exists(vocab_file):
            from bert.pretraining_data import vocabulary

            origins = text_sources.sources([paths["train"]])
            vocabulary.train(vocab_file, origins, train_vocab, lower_case=True)
    tokenizer = tokenization.Tokenizer(vocab_file)
    counts = collections.Counter()
    for sentences in parts["train"]:
        for sentence in sentences:
            counts.update(tokenizer.ids(sentence))
    return Corpus(
        folder,
        paths["train"],
        paths["validation"],
        vocab_file,
        len(tokenizer.vocab),
        entropy(list(counts.values())),
    )


@contextlib.contextmanager
def _alone(folder):
    """The folder for this process only; the others wait and find all there."""
    begun = time.monotonic()
    with contextlib.ExitStack() as stack:
        for attempt in itertools.count():
            try:
                stack.enter_context(files.lock(folder / "lock", wait=False))
                break
            except BlockingIOError:
                if not attempt:
                    print(
                        f"{folder}: another process makes the records; waits "
                        f"for it, {_LONGEST_WAIT // 60} minutes at most.",
                        flush=True,
                    )
                if time.monotonic() - begun > _LONGEST_WAIT:
                    raise errors.Unavailable(
                        f"{folder}: another process has been making the "
                        f"records for {_LONGEST_WAIT // 60} minutes."
                    ) from None
                time.sleep(0.2)
        yield


def _split(topics) -> dict[str, list]:
    """A topic is held out where the part that is then stays below a tenth."""
    parts, total, held_out = {"train": [], "validation": []}, 0, 0
    for sentences in topics:
        size = sum(map(len, sentences))
        total += size
        if held_out + size <= _HELD_OUT * total:
            held_out += size
            parts["validation"].append(sentences)
        else:
            parts["train"].append(sentences)
    return parts


def _write(path, content):
    if not os.path.exists(path) or (
        pathlib.Path(path).read_bytes() != content.encode()
    ):
        files.write_text(path, content)


def entropy(counts) -> float:
    """Entropy in nats of the distribution that the counts are of.

    >>> round(entropy([1, 1, 2]), 4)  # 1.5 bits
    1.0397
    """
    part = np.asarray(counts, np.float64)
    part = part[part > 0] / part.sum()
    return float(-(part * np.log(part)).sum())


def records(
    made: Corpus,
    name: str,
    max_seq_length: int,
    max_predictions_per_seq: int,
    dupe_factor: int,
    seed: int,
) -> tuple[str, str]:
    """Makes the records of a phase, if they are not there.

    Args:
        made: What `corpus` returned.
        name: Name of the phase; the file names begin with it.
        max_seq_length, max_predictions_per_seq, dupe_factor, seed: As the
            flags of `bert.create_pretraining_data`.

    Returns:
        (pattern of the training records, pattern of the held-out ones).

    Raises:
        Unavailable: Another process writes there, for too long.
        ValueError: A number that those flags would refuse.
    """
    shards.check_lengths(max_seq_length, max_predictions_per_seq)
    if not 1 <= dupe_factor <= shards.MOST_PASSES:
        raise ValueError(
            f"dupe_factor must be 1 to {shards.MOST_PASSES} passes over the "
            f"text, received {dupe_factor}."
        )
    patterns = []
    with _alone(made.folder):
        for part, source in (
            ("train", made.train),
            ("validation", made.validation),
        ):
            prefix = str(made.folder / f"{name}-{part}")
            settings = shards.Settings(
                vocab_file=made.vocab_file,
                lower_case=True,
                whole_word_masking=False,
                max_seq_length=max_seq_length,
                max_predictions_per_seq=max_predictions_per_seq,
                masked_lm_prob=0.15,
                short_seq_prob=0.1,
                dupe_factor=dupe_factor,
                seed=seed,
            )
            pipeline.run(
                text_sources.sources([source]),
                settings,
                prefix,
                num_shards=_SHARDS if part == "train" else 1,
            )
            patterns.append(f"{prefix}-*-of-*")
    return tuple(patterns)
