"""Which variables decay and which take the trust ratio, decided once.

Patterns are resolved when the optimizer is built, on the clean full path of
each variable, never inside the update, where names differ by Keras and by
replica.
"""

import itertools
import math
import operator
import os
import re
import warnings
from collections.abc import Sequence
from typing import NamedTuple

RANK_BELOW_2 = "rank<2"

_RANK = re.compile(r"rank(<|>|!=)(\d+)")

NO_MATRIX = "no matrix"
"""Selects variables that are one row or one column, whatever their rank."""

LAST = "last matrix"
"""Selects the outputs: those by their names, the model's last kernel unless a
named one may take what it gives, and those beside a last column that take the
same. Of several kernels of a named layer, one that gives to a later is none."""

EMBEDDING = "embedding matrix"
"""Selects what is called an embedding, in any spelling, below the model."""

EVERYTHING = ".*"

_BIAS_OR_NORM = r"(^|/)(bias|gamma|beta|scale)$"

BIAS_AND_NORM = (_BIAS_OR_NORM, RANK_BELOW_2)
"""Biases and normalisation parameters, by the last part of the path, and
every variable of rank below 2. The rank alone would keep the rank-2 biases of
attention layers; the name alone would keep a norm layer's own names."""

_OUTPUT = (
    r"(^|/)(logits|predictions(?!/transform/dense/)|classifier"
    r"|(classification_|lm_)?head|next_sentence|seq_relationship)(?=/|$)"
)
"""BERT's predictions/transform/dense comes before its output, which is the
table of the embeddings."""

NOT_HIDDEN = (*BIAS_AND_NORM, NO_MATRIX, EMBEDDING, LAST)
"""What Muon leaves to its fallback: no matrices, embeddings, the output."""


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
    if pattern == EMBEDDING:
        return [_is_embedding(path) for path in _below_model(paths)]
    if pattern == LAST:
        return _outputs(_below_model(paths), shapes)
    return [re.search(pattern, path) is not None for path in paths]


def _below_model(paths):
    """The paths without the layers that all are in, whose names tell nothing
    of one: the model, and models around it."""
    parts = [path.split("/") for path in paths]
    shared = len(os.path.commonprefix([part[:-1] for part in parts]))
    return ["/".join(part[shared:]) for part in parts]


def _is_embedding(path):
    return "embedding" in path.lower()


def _outputs(paths, shapes):
    """As `LAST`; a bias of several rows, a row by itself and an embedding are
    no kernels."""
    kernels = [
        index
        for index, (path, shape) in enumerate(zip(paths, shapes))
        if len(shape) > 1
        and math.prod(shape[:-1]) > 1
        and not re.search(_BIAS_OR_NORM, path)
        and not _is_embedding(path)
    ]
    if not kernels:
        return [False] * len(shapes)
    *others, last = kernels
    # Inputs and outputs, the product of several axes in attention; those of a
    # recurrent kernel are its units, whatever gates it has.
    takes = {i: {shapes[i][-2], math.prod(shapes[i][:-1])} for i in kernels}
    gives = {
        i: takes[i]
        if paths[i].endswith("recurrent_kernel")
        else {shapes[i][-1], math.prod(shapes[i][1:])}
        for i in kernels
    }

    def feeds(kernel, others):
        return any(gives[kernel] & takes[other] for other in others)

    layers = {}
    for index in kernels:
        if named := re.search(_OUTPUT, paths[index]):
            name = paths[index][: named.end()]
            layers.setdefault(name, []).append(index)
    chosen = {
        index
        for own in layers.values()
        for place, index in enumerate(own)
        if not feeds(index, own[place + 1 :])
    }
    if not feeds(last, chosen):
        chosen.add(last)
    if shapes[last][-1] == 1:
        inputs = shapes[last][-2]
        chosen.update(
            itertools.takewhile(
                lambda i: shapes[i][-2] == inputs and not feeds(i, [last]),
                reversed(others),
            )
        )
    return [i in chosen and is_matrix(s) for i, s in enumerate(shapes)]


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
