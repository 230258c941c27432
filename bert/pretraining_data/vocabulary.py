"""A WordPiece vocabulary learned from the text itself."""

import collections

from bert import tokenization
from bert.pretraining_data import text_sources
from lbcheck.support import files

_RESERVED = ["[PAD]", *tokenization.SPECIAL]


def train(
    path: str, origins: list[text_sources.Source], size: int, lower_case: bool
) -> None:
    """Writes a vocabulary of about `size` tokens.

    The words are counted as the tokenizer splits them; the pieces are those
    that tensorflow-text's trainer learns. The memory grows with the number of
    different words.

    Args:
        path: The file; one token per line.
        origins: The text.
        size: At most so many tokens, special ones included.
        lower_case: As for the tokenizer.

    Raises:
        ValueError: There are no words, text that is not UTF-8, or a size that
            holds nothing but special tokens.
    """
    if size <= len(_RESERVED):
        raise ValueError(
            f"train_vocab must be at least {len(_RESERVED) + 1} tokens, of "
            f"which {len(_RESERVED)} are special, received {size}."
        )
    counts = collections.Counter()
    for block in text_sources.blocks(origins):
        for piece in block:
            for line in text_sources.lines(piece):
                counts.update(tokenization.split_words(line, lower_case))
    if not counts:
        raise ValueError(
            f"--train_vocab: {text_sources.names(origins)}: no words."
        )
    from tensorflow_text.tools.wordpiece_vocab import (
        wordpiece_tokenizer_learner_lib as learner,
    )

    # In order of their names: what equal counts do must not depend on the
    # order in which the words were met.
    words = sorted(counts.items())
    learned = learner.learn(words, size, _RESERVED, lower_thresh=2)
    files.write_text(path, "".join(f"{token}\n" for token in learned))
