"""BERT's WordPiece tokenization, token for token that of the reference.

The reference is `tokenization.FullTokenizer` of google-research/bert and of
TensorFlow Model Garden. Its rules are kept, not its speed: a word is looked
up in a cache of bounded size, and plain ASCII takes a regular expression
instead of a loop over characters. Imports no TensorFlow.
"""

import hashlib
import itertools
import re
import unicodedata

from lbcheck.support import schema

SPECIAL = ("[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""What the programs need in addition to words; [PAD] is id 0, by any name."""

_LARGEST_FILE = 10**7
"""Bytes; the multilingual vocabulary has 10**6."""
_MAX_WORD = 400  # characters; longer words are [UNK]
_CACHED_WORDS = 2**15
_IDEOGRAPHS = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)
_ASCII_WORD = re.compile("[A-Za-z0-9]+|[^ A-Za-z0-9]")
_FOREIGN = re.compile("[^ -~]+")
_WORD = re.compile(r"\S+")


class Tokenizer:
    """Splits text into the pieces of a vocabulary.

    Args:
        vocab_file: One token per line, UTF-8; the id is the line's number
            from 0. Blank lines at the end are none.
        lower_case: Lower-case and strip accents, as for uncased models.

    Attributes:
        identity: What tells the vocabulary from any other, "tokens" and the
            "sha256" of the file.

    Raises:
        ValueError: Not UTF-8, too large, or without one of `SPECIAL`, or
            with two of it. Of another token that stands twice the last one
            counts, as in the reference.

    >>> Tokenizer("vocab.txt").tokenize("unaffable!")  # doctest: +SKIP
    ['una', '##ffa', '##ble', '!']
    """

    def __init__(self, vocab_file: str, lower_case: bool = True):
        self.vocab_file = vocab_file
        self.vocab, self.identity = read(vocab_file)
        self.lower_case = lower_case
        self._id = {token: i for i, token in enumerate(self.vocab)}
        missing = [token for token in SPECIAL if token not in self._id]
        if missing:
            raise ValueError(
                f"{vocab_file}: no {', '.join(missing)} among its "
                f"{len(self.vocab)} tokens; it must have all of "
                f"{', '.join(SPECIAL)}, each on a line of its own."
            )
        for token in SPECIAL:
            if self.vocab.count(token) > 1:
                raise ValueError(f"{vocab_file}: {token} stands in it twice.")
        self._words = _Words(self._id)

    def id(self, token: str) -> int:
        """The number of a token; KeyError where the vocabulary lacks it."""
        return self._id[token]

    def ids(self, text: str) -> list[int]:
        """The numbers of the pieces of `text`."""
        words = split_words(text, self.lower_case)
        return list(
            itertools.chain.from_iterable(map(self._words.__getitem__, words))
        )

    def tokenize(self, text: str) -> list[str]:
        """The pieces of `text`."""
        return [self.vocab[i] for i in self.ids(text)]

    def ids_with_offsets(
        self, text: str
    ) -> tuple[list[int], list[tuple[int, int]]]:
        """The ids of `text`, and where each piece stands in it.

        Returns:
            (ids, [(start, end) of each in characters of `text`]); a piece
            of an accented letter has the bounds of the whole letter, marks
            that follow it included.
        """
        ids, bounds = [], []
        for word, places in self._located(text):
            pieces = self._words[word]
            ids.extend(pieces)
            begin = 0
            for piece in pieces[:-1]:
                end = begin + len(self.vocab[piece].removeprefix("##"))
                bounds.append((places[begin], places[end - 1] + 1))
                begin = end
            bounds.append((places[begin], places[-1] + 1))
        if self.lower_case and len(text.translate(_UNACCENTED)) < len(text):
            bounds = [(begin, _with_marks(text, end)) for begin, end in bounds]
        return ids, bounds

    def _located(self, text: str):
        """(word, where in `text` each of its characters comes from)."""
        done = 0
        for match in _FOREIGN.finditer(text):
            if match.start() < done:
                continue
            begin = max(done, text.rfind(" ", done, match.start()) + 1)
            end = text.find(" ", match.end())
            yield from self._ascii(text, done, begin)
            done = len(text) if end < 0 else end
            yield from self._any(text, begin, done)
        yield from self._ascii(text, done, len(text))

    def _ascii(self, text: str, begin: int, end: int):
        """The words of a part of `text` that is plain ASCII."""
        part = text[begin:end].lower() if self.lower_case else text[begin:end]
        for match in _ASCII_WORD.finditer(part):
            yield match[0], range(begin + match.start(), begin + match.end())

    def _any(self, text: str, begin: int, end: int):
        """The words of a part of `text` with blanks, or an end, around it."""
        characters, places = _spread(text[begin:end], range(begin, end), _CLEAN)
        for match in _WORD.finditer(characters):
            word, begins = match[0], places[slice(*match.span())]
            if self.lower_case:
                word, begins = _lowered(word, begins)
                word, begins = _spread(word, begins, _UNACCENTED)
            word, begins = _spread(word, begins, _SPLIT)
            for part in _WORD.finditer(word):
                yield part[0], begins[slice(*part.span())]


def check_size(vocab_file: str, found: int, vocab_size: int) -> None:
    """Refuses a vocabulary of which an encoder has not all tokens.

    Args:
        vocab_file: For the message.
        found: Its tokens.
        vocab_size: Tokens that the encoder has embeddings for.

    Raises:
        ValueError: Names the file and both numbers.
    """
    if found > vocab_size:
        raise ValueError(
            f"{vocab_file} has {found} tokens, the encoder {vocab_size} "
            "(vocab_size): it is the vocabulary of another model."
        )


def split_words(text: str, lower_case: bool) -> list[str]:
    """The normalised words and punctuation marks, before WordPiece."""
    if text.isascii() and text.isprintable():
        return _ASCII_WORD.findall(text.lower() if lower_case else text)
    text = text.translate(_CLEAN)
    if lower_case:
        text = unicodedata.normalize("NFD", text.lower())
        text = text.translate(_UNACCENTED)
    return text.translate(_SPLIT).split()


def read(vocab_file: str) -> tuple[list[str], dict]:
    """(tokens of a vocabulary, what tells it from any other).

    Raises:
        ValueError: Not UTF-8, or too large.
    """
    content = schema.read_bytes(vocab_file, _LARGEST_FILE)
    try:
        lines = content.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{vocab_file}, line {line}: not UTF-8 ({error.reason})."
        ) from error
    while lines and not lines[-1].strip():
        lines.pop()
    digest = hashlib.sha256(content).hexdigest()
    tokens = [line.strip() for line in lines]
    return tokens, {"tokens": len(tokens), "sha256": digest}


class _Words(dict):
    """{word: ids of its pieces}, by longest match first; forgets when full."""

    def __init__(self, ids: dict[str, int]):
        super().__init__()
        self._ids = ids
        self._longest = max(map(len, ids))

    def __missing__(self, word: str) -> tuple[int, ...]:
        if len(self) >= _CACHED_WORDS:
            self.clear()
        self[word] = pieces = self._pieces(word)
        return pieces

    def _pieces(self, word: str) -> tuple[int, ...]:
        unknown = (self._ids["[UNK]"],)
        if len(word) > _MAX_WORD:
            return unknown
        pieces, start = [], 0
        while start < len(word):
            prefix = "##" if start else ""
            for end in range(min(len(word), start + self._longest), start, -1):
                piece = self._ids.get(prefix + word[start:end])
                if piece is not None:
                    break
            else:
                return unknown
            pieces.append(piece)
            start = end
        return tuple(pieces)


class _Table(dict):
    """A table for str.translate that asks `rule` once for each character."""

    def __init__(self, rule):
        super().__init__()
        self._rule = rule

    def __missing__(self, code: int) -> str:
        self[code] = text = self._rule(chr(code))
        return text


def _clean(character: str) -> str:
    if character in "\t\n\r":
        return " "
    category = unicodedata.category(character)
    if character in "\0\ufffd" or category in ("Cc", "Cf"):
        return ""
    if category == "Zs":
        return " "
    code = ord(character)
    if any(first <= code <= last for first, last in _IDEOGRAPHS):
        return f" {character} "
    return character


def _without_accent(character: str) -> str:
    return "" if unicodedata.category(character) == "Mn" else character


def _apart(character: str) -> str:
    symbol = character.isascii() and character in "$+<=>^`|~"
    if symbol or unicodedata.category(character).startswith("P"):
        return f" {character} "
    return character


_CLEAN = _Table(_clean)
_UNACCENTED = _Table(_without_accent)
_SPLIT = _Table(_apart)


def _with_marks(text: str, end: int) -> int:
    """`end`, past the combining marks that stand there."""
    while end < len(text) and not _UNACCENTED[ord(text[end])]:
        end += 1
    return end


def _spread(text: str, places, table: _Table) -> tuple[str, list[int]]:
    """`text` translated, with the place of each character of the result."""
    parts = [table[ord(character)] for character in text]
    found = [p for part, p in zip(parts, places) for _ in part]
    return "".join(parts), found


def _lowered(word: str, places) -> tuple[str, list[int]]:
    """`word` in lower case and decomposed.

    Both are asked of the whole word (a sigma depends on its neighbours), and
    have as many characters as if asked one by one.
    """
    parts = [unicodedata.normalize("NFD", c.lower()) for c in word]
    found = [p for part, p in zip(parts, places) for _ in part]
    return unicodedata.normalize("NFD", word.lower()), found
