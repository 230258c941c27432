"""What the name of a metric tells: which way is better, what it is at most."""

import re

_HIGH = (
    r"acc|accuracy|auc|auroc|precision|recall|f1|f_?beta|io_?u|top_?k|r2|dice"
    r"|exact_match"
)
_LOW = (
    r"loss|error|r?mse|mae|mape|msle|perplexity|(?:cross_?)?entropy|divergence"
)
_PARTS = rf"{_HIGH}|top_?\d+|map|bleu|rouge|sensitivity|specificity|hit_rate"
_NOTHING = ("metric", "value", "score")
_AT_MOST_1 = (
    r"r2|r_squared|explained_variance|matthews|mcc|kappa|correlation|cosine"
)
_OTHERS = (
    r"time|seconds|minutes|hours|steps|epochs|memory|gap|drop|gain|difference"
    r"|improvement|reduction|ratio"
)
"""Words with which a name is of another quantity: steps_to_accuracy."""
_NEGATIVE = "neg|negative"
"""Of a loss, what scikit-learn turns around, or the loss of negative pairs."""


def mode_of(metric: str) -> str:
    """Whether a metric is best "max" or "min", by its name.

    >>> mode_of("sparse_categorical_accuracy"), mode_of("val_loss")
    ('max', 'min')

    Raises:
        ValueError: If the name tells neither.
    """
    low, high = _has(_LOW, metric), _has(_HIGH, metric)
    turned = low and _has(_NEGATIVE, metric)
    if low == high or turned or _has(_OTHERS, metric):
        raise ValueError(
            f"Is a high or a low {metric!r} good? Set `mode` to 'max' or 'min'."
        )
    return "min" if low else "max"


def is_part(metric: str) -> bool:
    """Whether values of a metric are fractions of 1, or per cent.

    So are those of a name that tells nothing, if they are in range.

    >>> is_part("val_accuracy"), is_part("score"), is_part("speedup")
    (True, True, False)
    """
    if _has(_OTHERS, metric) or _has(_LOW, metric):
        return False
    return _has(_PARTS, metric) or metric.lower() in _NOTHING


def is_at_most_1(metric: str) -> bool:
    """Whether a metric that can be negative is at most 1, as R squared is.

    >>> is_at_most_1("r2_score"), is_at_most_1("accuracy")
    (True, False)
    """
    return _has(_AT_MOST_1, metric)


def _has(words, metric):
    """Whether one of the words stands in a name; CamelCase has words, too."""
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", metric).lower()
    return bool(
        re.search(
            rf"(?<![a-z])(?:val|valid|test|train|eval|dev|mean)?(?:{words})"
            r"(?![a-z])",
            name,
        )
    )
