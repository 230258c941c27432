"""English text that needs no download, and sentences of running text."""

from bert.text.sentences import split as split_sentences
from bert.text.topics import documents as embedded

__all__ = ["embedded", "split_sentences"]
