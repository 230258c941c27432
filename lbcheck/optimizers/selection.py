"""Which variables decay and which take the trust ratio, decided once.

Patterns are resolved when the optimizer is built, on the clean full path of
each variable, never inside the update, where names differ by Keras and by
replica.
"""

import re
import warnings
from collections.abc import Sequence
from typing import NamedTuple

RANK_BELOW_2 = "rank<2"

EVERYTHING = ".*"

BIAS_AND_NORM = (r"(^|/)(bias|gamma|beta|scale)$", RANK_BELOW_2)
"""Biases and normalisation parameters, by the last part of the path, and
every variable of rank below 2. The rank alone would keep the rank-2 biases of
attention layers; the name alone would keep a norm layer's own names."""


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

    def selects(pattern, path, shape):
        if pattern == RANK_BELOW_2:
            return len(shape) < 2
        return re.search(pattern, path) is not None

    hits = [
        [selects(pattern, path, shape) for path, shape in zip(paths, shapes)]
        for pattern in patterns
    ]
    flags = tuple(
        any(row[index] for row in hits) for index in range(len(paths))
    )
    unmatched = tuple(
        pattern for pattern, row in zip(patterns, hits) if not any(row)
    )
    return Matches(flags, unmatched)


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
