"""Which variables a layer's own regularizer decays, in either Keras."""

import functools
import inspect

_FACTORS = ("l1", "l2", "factor")
"""Strengths of Keras's own regularizers; all 0 is none."""


def of_model(model) -> set[int]:
    """The ids of the variables that a regularizer of a layer decays."""
    found = set()
    for layer in model._flatten_layers():
        for variable in layer.trainable_variables:
            if _acts(getattr(variable, "regularizer", None)):
                found.add(id(variable))
        for variable, regularizer in _of_tf_keras(layer):
            if _acts(regularizer):
                found.add(id(variable))
    return found


def _of_tf_keras(layer):
    """(variable, regularizer) pairs, which tf_keras keeps as losses."""
    for tagged in getattr(layer, "_callable_losses", ()):
        loss = tagged.args[0] if isinstance(tagged, functools.partial) else None
        if not isinstance(loss, functools.partial) or not loss.args:
            continue
        if getattr(loss.func, "__name__", "") == "_loss_for_variable":
            seen = inspect.getclosurevars(loss.func).nonlocals
            yield loss.args[0], seen.get("regularizer")


def _acts(regularizer) -> bool:
    """Whether there is one and its strength is not 0.

    >>> _acts(None)
    False
    """
    if regularizer is None:
        return False
    known = [
        float(getattr(regularizer, name))
        for name in _FACTORS
        if "keras" in type(regularizer).__module__
        and hasattr(regularizer, name)
    ]
    return not known or any(known)
