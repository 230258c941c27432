"""The corpus that ships with CPython: the topics of its `help()`.

Half a megabyte of English prose, tables and code, of the running Python's
version: another version of Python has other words here and there.
"""

import itertools
import re

from bert.text import sentences

_UNDERLINE = re.compile(r"[=*~^#+\-\"]{3,}")


def documents() -> dict[str, list[str]]:
    """{topic: its sentences}, by name.

    Headings and the lines of code and grammar are a sentence each.
    """
    from pydoc_data import topics

    found = {name: _sentences(topics.topics[name]) for name in topics.topics}
    return dict(sorted(found.items()))


def _sentences(text: str) -> list[str]:
    lines = [line.rstrip() for line in text.split("\n")]
    lines = [line for line in lines if not _UNDERLINE.fullmatch(line.strip())]
    found = []
    for filled, group in itertools.groupby(lines, key=bool):
        if filled:
            for paragraph in _paragraphs(list(group)):
                found.extend(sentences.split(paragraph))
    return found


def _paragraphs(lines: list[str]) -> list[str]:
    """The lines of a paragraph as one, those of code one by one."""
    indents = {len(line) - len(line.lstrip()) for line in lines}
    if min(indents) > 2 or len(indents) > 2:
        return [line.strip() for line in lines]
    return [" ".join(line.strip() for line in lines)]
