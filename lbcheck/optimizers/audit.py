"""The exclusion audit: what decays, what is adapted, and by which rule."""

import re
import warnings
from typing import Any
from typing import NamedTuple

from lbcheck.optimizers import regularizers
from lbcheck.optimizers import selection
from lbcheck.optimizers.base import Optimizer
from lbcheck.optimizers.base import unique
from lbcheck.support.text_table import text_table

_NORM_LAYER = re.compile(r"norm", re.IGNORECASE)
_NORM_PARAMETER = re.compile(r"(^|/)(gamma|beta|scale)$")
_BIAS = re.compile(r"(^|/|_)bias$")


class AuditRow(NamedTuple):
    """One trainable variable.

    Attributes:
        path: Clean full path.
        shape: Shape.
        layer: Class name of the layer that owns it, "" if none does.
        decayed: Whether the optimizer's weight decay or L2 acts on it.
        regularized: Whether a regularizer of its layer decays it.
        adapted: Whether a trust ratio scales its rate.
        rule: Name of its update rule; "(fallback)" where that is meant.
    """

    path: str
    shape: tuple[int, ...]
    layer: str
    decayed: bool
    adapted: bool
    rule: str
    regularized: bool = False

    @property
    def decay(self) -> str:
        """What decays it: "yes", "no", "by its layer" or "twice"."""
        if self.regularized:
            return "twice" if self.decayed else "by its layer"
        return "yes" if self.decayed else "no"


class Audit(NamedTuple):
    """The table and what is suspicious in it; `str()` prints both.

    Attributes:
        rows: One `AuditRow` a variable.
        findings: Sentences; empty when nothing is suspicious.
    """

    rows: tuple[AuditRow, ...]
    findings: tuple[str, ...]

    def __str__(self):
        header = ("path", "shape", "layer", "decayed", "adapted", "rule")
        cells = [
            (
                row.path,
                "x".join(map(str, row.shape)) or "scalar",
                row.layer,
                row.decay,
                "yes" if row.adapted else "no",
                row.rule,
            )
            for row in self.rows
        ]
        findings = [f"- {finding}" for finding in self.findings] or [
            "nothing suspicious"
        ]
        return "\n".join(
            [text_table(header, cells), "", "findings:", *findings]
        )


def audit(model: Any, optimizer: Any = None) -> Audit:
    """What an optimizer decays and adapts in a model.

    Args:
        model: A built Keras 3 or tf_keras model.
        optimizer: An lbcheck optimizer, or any optimizer of either Keras
            or of Model Garden; None takes `model.optimizer`.

    Returns:
        An `Audit`: biases and parameters of normalisation layers that decay,
        weights that both the optimizer and a regularizer decay, and exclusion
        patterns that match nothing or everything, are findings. Losses of
        `add_loss` cannot be seen.

    Raises:
        TypeError: If `model` is no model or `optimizer` none whose decay
            is known.
        ValueError: If the model has no variables yet or no optimizer.

    Example:

    >>> import keras
    >>> model = keras.Sequential([keras.layers.LayerNormalization(name="ln")])
    >>> model.build((None, 3))
    >>> optimizer = keras.optimizers.AdamW(weight_decay=0.01)
    >>> optimizer.exclude_from_weight_decay(var_names=["ln"])
    >>> print(audit(model, optimizer).findings[0].partition("/")[2])
    ln/gamma (LayerNormalization) decays: it belongs to a normalisation layer
    """
    if optimizer is None:
        optimizer = getattr(model, "optimizer", None)
        if optimizer is None:
            raise ValueError(
                "No optimizer to audit: pass one, or a compiled model."
            )
    if isinstance(optimizer, str):
        raise TypeError(
            "An optimizer of lbcheck, Keras 3, tf_keras or Model Garden is "
            f"needed, received the text {optimizer!r}."
        )
    for wrapped in ("inner_optimizer", "_optimizer"):
        optimizer = getattr(optimizer, wrapped, optimizer)
    variables = getattr(model, "trainable_variables", None)
    if variables is None or not hasattr(model, "_flatten_layers"):
        raise TypeError(f"A Keras model is needed, received {model!r}.")
    if not variables and getattr(model, "variables", None):
        raise ValueError(
            f"Model {model.name!r} has no trainable variables: all its layers "
            "are frozen."
        )
    if not variables and model.built:
        raise ValueError(f"Model {model.name!r} has no weights to decay.")
    if not variables:
        raise ValueError(
            f"Model {model.name!r} has no trainable variables yet: give it "
            "layers and build it first, for instance with "
            "model.build(input_shape)."
        )
    paths = unique([selection.clean_path(v) for v in variables])
    shapes = [tuple(variable.shape) for variable in variables]
    layers = _owners(model)
    owned = [layers.get(id(variable), "") for variable in variables]
    if isinstance(optimizer, Optimizer):
        treatments, unmatched = _of_lbcheck(optimizer, paths, shapes)
    elif isinstance(optimizer, type):
        raise TypeError(
            "An optimizer of lbcheck, Keras 3, tf_keras or Model Garden is "
            f"needed, received the class {optimizer.__name__}: call it first."
        )
    elif hasattr(optimizer, "weight_decay_rate"):
        treatments, unmatched = _of_model_garden(optimizer, variables)
    elif hasattr(optimizer, "_use_weight_decay"):
        treatments, unmatched = _of_keras(optimizer, variables)
    else:
        raise TypeError(
            "An optimizer of lbcheck, Keras 3, tf_keras or Model Garden is "
            f"needed, received {optimizer!r}."
        )
    regularized = regularizers.of_model(model)
    rows = tuple(
        AuditRow(path, shape, layer, decays, adapts, by, id(v) in regularized)
        for path, shape, layer, (decays, adapts, by), v in zip(
            paths, shapes, owned, treatments, variables
        )
    )
    findings = [found for row in rows for found in _of_row(row)]
    return Audit(rows, (*findings, *unmatched))


def _of_row(row):
    """The findings about one variable."""
    what = f"{row.path} ({row.layer or 'no layer'}) decays"
    by = " by its layer's regularizer" if row.regularized else ""
    if (row.decayed or row.regularized) and (why := _suspicion(row)):
        yield f"{what}{by}: {why}"
    if row.decayed and row.regularized:
        yield f"{what} twice: by the optimizer and by its layer's regularizer"


def _suspicion(row):
    """Why a decayed variable is suspicious, or ''."""
    if _BIAS.search(row.path):
        return "it is a bias"
    of_norm_layer = _NORM_LAYER.search(row.layer) and len(row.shape) < 2
    if of_norm_layer or _NORM_PARAMETER.search(row.path):
        return "it belongs to a normalisation layer"
    return ""


def _owners(model):
    """{id of variable: class name of the innermost layer that owns it}."""
    owners = {}
    for layer in model._flatten_layers():
        for variable in layer.trainable_variables:
            owners[id(variable)] = type(layer).__name__
    return owners


def _of_lbcheck(optimizer, paths, shapes):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assignments = optimizer.plan(paths, shapes)
    treatments = [
        (
            a.rule.shrinks(a.decay),
            a.adapt and a.rule.normalizes is not None,
            a.rule.title + (" (fallback)" if a.fallback else ""),
        )
        for a in assignments
    ]
    return treatments, [str(warning.message) for warning in caught]


def _unmatched(name, patterns, searched):
    """Findings for the patterns that select none of the names searched."""
    found = [
        f"{name}: pattern {pattern!r} matches no variable; this optimizer "
        f"searches names such as {searched[0]!r}."
        for pattern in patterns
        if not any(re.search(pattern, candidate) for candidate in searched)
    ]
    return found + [
        f"{name}: pattern {pattern!r} matches the empty text and so every "
        "variable: nothing decays."
        for pattern in patterns
        if re.search(pattern, "")
    ]


def _alternatives(joined):
    """The patterns that were joined by |, if each is one by itself."""
    parts = sorted(joined.split("|"))
    try:
        for part in parts:
            re.compile(part)
    except re.error:
        return [joined]
    return parts


def _of_keras(optimizer, variables):
    """Keras 3 searches `variable.name`, the last part of the path only."""
    name = type(optimizer).__name__
    decay = optimizer.weight_decay
    decays = [bool(decay and optimizer._use_weight_decay(v)) for v in variables]
    compiled = getattr(optimizer, "_exclude_from_weight_decay_pattern", None)
    patterns = getattr(optimizer, "_exclude_from_weight_decay_names", ())
    if compiled is not None:  # Keras 3 joins its patterns into one
        patterns = _alternatives(compiled.pattern)
    searched = [variable.name for variable in variables]
    treatments = [(decayed, name == "Lamb", name) for decayed in decays]
    return treatments, _unmatched(name, patterns, searched)


def _of_model_garden(optimizer, variables):
    """Model Garden's three optimizers, each with names of its own.

    LAMB strips the `:0` of a TensorFlow name before it searches; LARS and
    AdamWeightDecay do not, so a pattern such as `bias$` selects nothing there.
    """
    name = type(optimizer).__name__
    searched = [variable.name for variable in variables]
    if name == "LAMB":
        searched = [re.sub(r":\d+$", "", candidate) for candidate in searched]
    uses = getattr(optimizer, "_do_use_weight_decay", None)
    uses = uses or optimizer._use_weight_decay
    adapts = getattr(optimizer, "_do_layer_adaptation", lambda name: False)
    treatments = [
        (
            bool(optimizer.weight_decay_rate and uses(candidate)),
            bool(adapts(candidate)),
            name,
        )
        for candidate in searched
    ]
    patterns = getattr(optimizer, "exclude_from_weight_decay", None)
    if patterns is None or callable(patterns):
        patterns = getattr(optimizer, "_exclude_from_weight_decay", None)
    return treatments, _unmatched(name, patterns or (), searched)
