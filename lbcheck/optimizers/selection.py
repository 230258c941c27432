"""Which variables decay and which take the trust ratio, decided once.

Patterns are resolved when the optimizer is built, on the clean full path of
each variable, never inside the update, where names differ by Keras and by
replica.
"""

import math
import operator
import re
import warnings
from collections.abc import Sequence
from typing import NamedTuple

RANK_BELOW_2 = "rank<2"

_RANK = re.compile(r"rank(<|>|!=)(\d+)")

NO_MATRIX = "no matrix"
"""Selects variables that are one row or one column, whatever their rank."""

LAST = "last matrix"
"""Selects the kernels that are called an output or, where none is, the last
kernel of the model; not one of one column, which is no matrix."""

EVERYTHING = ".*"

_BIAS_OR_NORM = r"(^|/)(bias|gamma|beta|scale)$"

BIAS_AND_NORM = (_BIAS_OR_NORM, RANK_BELOW_2)
"""Biases and normalisation parameters, by the last part of the path, and
every variable of rank below 2. The rank alone would keep the rank-2 biases of
attention layers; the name alone would keep a norm layer's own names."""

_OUTPUT = (
    r"(^|/)(logits|predictions|classifier|(classification_|lm_)?head"
    r"|next_sentence|seq_relationship)(/|$)"
)

NOT_HIDDEN = (*BIAS_AND_NORM, NO_MATRIX, r"(?i)embedding", _OUTPUT, LAST)
"""What Muon leaves to its fallback: no matrices, embeddings, the output.

"last matrix" selects the last kernel, but where a name says what is an output,
or where that kernel is one column: an output too, and no matrix."""


class Matches(NamedTuple):
    """What a list of patterns selects.

    Attributes:
        flags: One bool for each variable, in order.
        unmatched: The patterns that match no variable.
    """

    flags: tuple[bool, ...]
    unmatched: tuple[str, ...]


def check_patterns(owner: str, name: str, patterns) -> tuple[str, ...]:
    """The patterns as a tuple, or an error that names the argument."""
    if isinstance(patterns, (str, bytes)) or not isinstance(patterns, Sequence):
        advice = "for no pattern write ()"
        if isinstance(patterns, str):
            advice = f"for one pattern write [{patterns!r}]"
        raise TypeError(
            f"{owner}: `{name}` must be a list of regular expressions, "
            f"received {patterns!r}; {advice}."
        )
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise TypeError(
                f"{owner}: `{name}` must hold strings, received {pattern!r}."
            )
        try:
            matches_empty = re.search(pattern, "")
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(
                f"{owner}: `{name}` holds {pattern!r}, which is no regular "
                f"expression: {error}."
            ) from None
        if matches_empty and pattern != EVERYTHING:
            raise ValueError(
                f"{owner}: `{name}` holds {pattern!r}, which matches the empty "
                f"text and so every variable; for that write {EVERYTHING!r}."
            )
    return tuple(patterns)


def clean_path(variable) -> str:
    """Full path of a variable without the marks of TensorFlow or replicas.

    Keras 3 variables have it as `.path`; tf_keras and TensorFlow variables
    have a name such as `dense/kernel:0` or `dense/kernel/replica_1:0`.
    """
    path = getattr(variable, "path", None) or variable.name
    return re.sub(r"(/replica_\d+)?(:\d+)?$", "", path)


def match(
    patterns: Sequence[str],
    paths: Sequence[str],
    shapes: Sequence[tuple[int, ...]],
) -> Matches:
    """Which variables any pattern selects (`re.search` on the path).

    >>> match(["bias"], ["dense/kernel", "dense/bias"], [(2, 3), (3,)])
    Matches(flags=(False, True), unmatched=())
    """

    hits = [_selected(pattern, paths, shapes) for pattern in patterns]
    flags = tuple(
        any(row[index] for row in hits) for index in range(len(paths))
    )
    unmatched = tuple(
        pattern for pattern, row in zip(patterns, hits) if not any(row)
    )
    return Matches(flags, unmatched)


def is_matrix(shape: tuple[int, ...]) -> bool:
    """Whether it has more than one row and more than one column.

    >>> is_matrix((3, 3, 8, 1)), is_matrix((1, 1, 8, 4)), is_matrix((5,))
    (False, True, False)
    """
    return len(shape) > 1 and shape[-1] > 1 and math.prod(shape[:-1]) > 1


def _selected(pattern, paths, shapes):
    """One bool for each variable."""
    if found := _RANK.fullmatch(pattern):
        compare, rank = _COMPARISONS[found[1]], int(found[2])
        return [compare(len(shape), rank) for shape in shapes]
    if pattern == NO_MATRIX:
        return [not is_matrix(shape) for shape in shapes]
    if pattern == LAST:
        return _outputs(paths, shapes)
    return [re.search(pattern, path) is not None for path in paths]


def _outputs(paths, shapes):
    """As `LAST`; a bias of several rows and a row by itself are no kernels."""
    kernels = [
        index
        for index, (path, shape) in enumerate(zip(paths, shapes))
        if len(shape) > 1
        and math.prod(shape[:-1]) > 1
        and not re.search(_BIAS_OR_NORM, path)
    ]
    named = [index for index in kernels if re.search(_OUTPUT, paths[index])]
    chosen = {i for i in named or kernels[-1:] if is_matrix(shapes[i])}
    return [index in chosen for index in range(len(shapes))]


_COMPARISONS = {"<": operator.lt, ">": operator.gt, "!=": operator.ne}


def warn_unmatched(owner: str, name: str, matches: Matches, patterns) -> None:
    """Says which patterns select nothing; the default list may be vain."""
    if tuple(patterns) == BIAS_AND_NORM:
        return
    for pattern in matches.unmatched:
        warnings.warn(
            f"{owner}: `{name}` pattern {pattern!r} matches no variable. "
            "Patterns are searched in the full path, for instance "
            "'encoder/layer_0/attention/query/kernel'.",
            stacklevel=2,
        )
