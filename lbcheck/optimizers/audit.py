"""The exclusion audit: what decays, what is adapted, and by which rule."""

import re
import warnings
from typing import NamedTuple

from lbcheck.optimizers import selection
from lbcheck.optimizers.core import Core

_NORM_LAYER = re.compile(r"norm", re.IGNORECASE)
_NORM_PARAMETER = re.compile(r"(^|/)(gamma|beta|scale)$")
_BIAS = re.compile(r"(^|/|_)bias$")


class AuditRow(NamedTuple):
    """One trainable variable.

    Attributes:
        path: Clean full path.
        shape: Shape.
        layer: Class name of the layer that owns it, "" if none does.
        decayed: Whether weight decay or L2 acts on it.
        adapted: Whether a trust ratio scales its rate.
        rule: Name of its update rule; "(fallback)" where that is meant.
    """

    path: str
    shape: tuple[int, ...]
    layer: str
    decayed: bool
    adapted: bool
    rule: str


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
        cells = [header] + [
            (
                row.path,
                "x".join(map(str, row.shape)) or "scalar",
                row.layer,
                "yes" if row.decayed else "no",
                "yes" if row.adapted else "no",
                row.rule,
            )
            for row in self.rows
        ]
        widths = [max(map(len, column)) for column in zip(*cells)]
        lines = [
            "  ".join(c.ljust(w) for c, w in zip(row, widths)).rstrip()
            for row in cells
        ]
        findings = [f"- {finding}" for finding in self.findings] or [
            "nothing suspicious"
        ]
        return "\n".join([*lines, "", "findings:", *findings])


def audit(model, optimizer=None) -> Audit:
    """What an optimizer decays and adapts in a model.

    Args:
        model: A built Keras 3 or tf_keras model.
        optimizer: An lbcheck optimizer, or any optimizer of either Keras
            that has its weight decay; None takes `model.optimizer`.

    Returns:
        An `Audit`: biases and parameters of normalisation layers that decay,
        and exclusion patterns that match nothing, are findings.

    Raises:
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
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    variables = model.trainable_variables
    if not variables:
        raise ValueError(
            f"Model {model.name!r} has no trainable variables yet: build it "
            "first, for instance with model.build(input_shape)."
        )
    paths = [selection.clean_path(variable) for variable in variables]
    shapes = [tuple(variable.shape) for variable in variables]
    layers = _owners(model)
    owned = [layers.get(id(variable), "") for variable in variables]
    if isinstance(optimizer, Core):
        treatments, unmatched = _of_lbcheck(optimizer, paths, shapes)
    else:
        treatments, unmatched = _of_keras(optimizer, variables, paths)
    rows = tuple(
        AuditRow(path, shape, layer, *treatment)
        for path, shape, layer, treatment in zip(
            paths, shapes, owned, treatments
        )
    )
    findings = [
        f"{row.path} ({row.layer or 'no layer'}) decays: {why}"
        for row in rows
        if row.decayed and (why := _suspicion(row))
    ]
    return Audit(rows, (*findings, *unmatched))


def _suspicion(row):
    """Why a decayed variable is suspicious, or ''."""
    if _BIAS.search(row.path):
        return "it is a bias"
    if _NORM_LAYER.search(row.layer) or _NORM_PARAMETER.search(row.path):
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
            type(a.rule).__name__ + (" (fallback)" if a.fallback else ""),
        )
        for a in assignments
    ]
    return treatments, [str(warning.message) for warning in caught]


def _of_keras(optimizer, variables, paths):
    """Keras's, tf_keras's and Model Garden's own exclusion machinery."""
    name = type(optimizer).__name__
    if hasattr(optimizer, "_do_use_weight_decay"):  # Model Garden
        decay = optimizer.weight_decay_rate
        decays = [
            bool(decay and optimizer._do_use_weight_decay(p)) for p in paths
        ]
        adapts = [optimizer._do_layer_adaptation(p) for p in paths]
        patterns = optimizer.exclude_from_weight_decay or ()
    else:
        decay = getattr(optimizer, "weight_decay", None)
        decays = [
            bool(decay and optimizer._use_weight_decay(v)) for v in variables
        ]
        adapts = [name == "Lamb"] * len(variables)
        pattern = getattr(optimizer, "_exclude_from_weight_decay_pattern", None)
        patterns = getattr(
            optimizer,
            "_exclude_from_weight_decay_names",
            pattern.pattern.split("|") if pattern else (),
        )
    searched = [variable.name for variable in variables]
    unmatched = [
        f"{name}: pattern {pattern!r} matches no variable; this optimizer "
        f"searches names such as {searched[0]!r}."
        for pattern in patterns
        if not any(re.search(pattern, candidate) for candidate in searched)
    ]
    treatments = [(d, a, name) for d, a in zip(decays, adapts)]
    return treatments, unmatched
