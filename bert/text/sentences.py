"""Sentences of English prose by rule, for text with one paragraph per line."""

import re

_END = re.compile(r"[.!?]+[\"'”’)\]]*\s+(?=[\"'“‘(\[]*([^\W_]))")
_LAST_WORD = re.compile(r"[^\s(\[\"'“‘]*$")
_ABBREVIATIONS = frozenset(
    "mr mrs ms dr prof st rev gen col capt lt sgt gov sen rep hon messrs "
    "jr sr vs cf e.g i.e al fig no vol pp p ch sec ed eds approx ca "
    "jan feb mar apr jun jul aug sep sept oct nov dec".split()
)


def split(paragraph: str) -> list[str]:
    """The sentences of a paragraph, without blanks at their ends.

    A sentence ends at a full stop, question or exclamation mark before a
    blank and a digit or a letter that is not in lower case, but not after an
    abbreviation or an initial.

    >>> split('Dr. A. Bell came. "Where?" he asked. It was 5 p.m. then.')
    ['Dr. A. Bell came.', '"Where?" he asked.', 'It was 5 p.m. then.']
    """
    found, start = [], 0
    for match in _END.finditer(paragraph):
        if match[1].islower():
            continue
        if match[0][0] == "." and _abbreviated(
            paragraph[start : match.start()]
        ):
            continue
        found.append(paragraph[start : match.end()].strip())
        start = match.end()
    found.append(paragraph[start:].strip())
    return [sentence for sentence in found if sentence]


def _abbreviated(sentence: str) -> bool:
    word = _LAST_WORD.search(sentence)[0]
    initial = len(word) == 1 and word.isalpha() and word not in "aI"
    return initial or word.lower() in _ABBREVIATIONS
