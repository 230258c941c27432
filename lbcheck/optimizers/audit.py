"""The exclusion audit: what decays, what is adapted, and by which rule."""

import re
from typing import Any
from typing import NamedTuple

from lbcheck.optimizers import regularizers
from lbcheck.optimizers import selection
from lbcheck.optimizers import treatment
from lbcheck.optimizers.base import Optimizer
from lbcheck.optimizers.base import unique
from lbcheck.support import kerases
from lbcheck.support.kerases import LIBRARIES
from lbcheck.support.text_table import text_table

_NORM_LAYER = re.compile(r"norm", re.IGNORECASE)
_NORM_PARAMETER = re.compile(r"(^|/)(gamma|beta|scale)$")
_BIAS = re.compile(r"(^|/|_)bias$")
_EMBEDDING = re.compile(r"embedding", re.IGNORECASE)
_ATTENTION = re.compile(r"attention|EinsumDense", re.IGNORECASE)
_MUON = "Muon"
"""Rule of what is orthogonalised, whose Muon it may be."""


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
        weights that both the optimizer and a regularizer decay, layers that are
        not built, and exclusion patterns that match nothing or everything, are
        findings. Losses of
        `add_loss` cannot be seen. Where Muon trains some, so are biases,
        embeddings and the output layer that it orthogonalises, and kernels of
        attention that it leaves out; and a Muon that trains none.

    Raises:
        TypeError: If `model` is no model or `optimizer` none whose decay
            is known, or one of another Keras.
        ValueError: If the model has no variables yet or no optimizer, or the
            optimizer a pattern that is no regular expression.

    Example:

    >>> import keras
    >>> model = keras.Sequential([keras.layers.LayerNormalization(name="ln")])
    >>> model.build((None, 3))
    >>> optimizer = keras.optimizers.AdamW(weight_decay=0.01)
    >>> optimizer.exclude_from_weight_decay(var_names=["beta"])
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
    if not isinstance(optimizer, Optimizer):
        _check_keras(model, optimizer)
    # The scales of float8 are replaced, before any rule or decay.
    variables = [
        variable
        for variable in variables
        if not getattr(variable, "overwrite_with_gradient", False)
    ]
    paths = unique([selection.clean_path(v) for v in variables])
    shapes = [tuple(variable.shape) for variable in variables]
    layers = _owners(model)
    owned = [layers.get(id(variable), "") for variable in variables]
    treatments, unmatched = treatment.of(optimizer, variables, paths, shapes)
    regularized = regularizers.of_model(model)
    rows = tuple(
        AuditRow(path, shape, layer, decays, adapts, by, id(v) in regularized)
        for path, shape, layer, (decays, adapts, by), v in zip(
            paths, shapes, owned, treatments, variables
        )
    )
    findings = [found for row in rows for found in _of_row(row)]
    findings += _not_built(model)
    if any(row.rule == _MUON for row in rows):
        outputs = {id(v) for v in _variables_of_outputs(model)}
        findings += [
            found
            for row, v in zip(rows, variables)
            for found in _of_muon(row, id(v) in outputs)
        ]
    return Audit(rows, (*findings, *unmatched))


def _check_keras(model, optimizer):
    """Refuses an optimizer that cannot train the model."""
    found = [LIBRARIES[kerases.of(thing)] for thing in (model, optimizer)]
    if found[0] != found[1]:
        raise TypeError(
            f"The model is of {found[0]} and the optimizer, "
            f"{type(optimizer).__name__}, of {found[1]}."
        )


def _not_built(model):
    """Findings about layers whose weights are not there yet."""
    for layer in model._flatten_layers(include_self=False):
        base = next(c for c in type(layer).__mro__ if c.__name__ == "Layer")
        if not layer.built and type(layer).build is not base.build:
            yield (
                f"{layer.name} ({type(layer).__name__}) is not built, so that "
                "its weights are not audited: call the model on a batch first"
            )


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


def _of_muon(row, is_output):
    """Findings about one variable of a model that Muon trains."""
    if row.rule != _MUON:
        if (
            len(row.shape) == 3
            and row.path.endswith("kernel")
            and (_ATTENTION.search(f"{row.layer} {row.path}"))
        ):
            yield (
                f"{row.path} ({row.layer}) is left to {row.rule}: it is a "
                "kernel of attention, a hidden matrix that Muon is for"
            )
        return
    why = ""
    if _BIAS.search(row.path):
        why = "it is a bias"
    elif _EMBEDDING.search(f"{row.layer} {row.path}"):
        why = "it is an embedding"
    elif is_output:
        why = "it is of the output layer"
    elif not selection.is_matrix(row.shape):
        why = "it is no matrix"
    if why:
        yield f"{row.path} ({row.layer}) is orthogonalised by Muon: {why}"


def _variables_of_outputs(model):
    """The variables of the last layers that have some, before each output."""
    found, seen = [], set()
    waiting = list(_leaves(getattr(model, "outputs", None) or ()))
    while waiting:
        history = getattr(waiting.pop(), "_keras_history", None)
        if history is None or id(history[0]) in seen:
            continue
        layer = history[0]
        seen.add(id(layer))
        inner = getattr(layer, "outputs", None)  # of a nested model
        if inner:
            waiting += _leaves(inner)
            continue
        own = list(getattr(layer, "trainable_variables", ()))
        found += own
        if not own:
            for node in getattr(layer, "_inbound_nodes", ())[:1]:
                waiting += _leaves(getattr(node, "input_tensors", ()))
    return found


def _leaves(structure):
    """The leaves of lists, tuples and dicts."""
    if isinstance(structure, dict):
        structure = list(structure.values())
    if not isinstance(structure, (list, tuple)):
        return [structure]
    return [leaf for part in structure for leaf in _leaves(part)]


def _owners(model):
    """{id of variable: class name of the innermost layer that owns it}."""
    owners = {}
    for layer in model._flatten_layers():
        for variable in layer.trainable_variables:
            owners[id(variable)] = type(layer).__name__
    return owners
