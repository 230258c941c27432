"""What an optimizer does with each variable, whatever library it is of.

For the audit. A treatment is (whether its weight decay or L2 acts, whether a
trust ratio or Muon does, name of the rule); every function gives one for each
variable, and findings about the optimizer itself.
"""

import re
import sys
import warnings

from lbcheck.optimizers.base import Optimizer
from lbcheck.support import kerases

_FTRL_L2 = (
    "l2_regularization_strength",
    "l2_shrinkage_regularization_strength",
)


def of(optimizer, variables, paths, shapes):
    """(treatments, findings) of any optimizer that is known.

    Args:
        optimizer: The optimizer, which may be wrapped.
        variables: Trainable variables.
        paths: Their clean full paths.
        shapes: Their shapes.

    Raises:
        TypeError: An optimizer whose decay is not known, or a class.
        ValueError: One with a pattern that is no regular expression.
    """
    optimizer = unwrapped(optimizer)
    try:
        return _of_one(optimizer, variables, paths, shapes)
    except re.error as error:  # as its library will, when it trains
        raise ValueError(
            f"{type(optimizer).__name__} searches names for "
            f"{error.pattern!r}, which is no regular expression: {error}."
        ) from error


def _of_one(optimizer, variables, paths, shapes):
    """As `of`, of one that is not wrapped."""
    if isinstance(optimizer, Optimizer):
        return _of_lbcheck(optimizer, paths, shapes)
    if isinstance(optimizer, type):
        raise TypeError(
            "An optimizer of lbcheck, Keras 3, tf_keras or Model Garden is "
            f"needed, received the class {optimizer.__name__}: call it first."
        )
    if hasattr(optimizer, "_optimizer_map"):
        return _of_several(optimizer, variables, paths, shapes)
    if hasattr(optimizer, "weight_decay_rate"):
        return _of_model_garden(optimizer, variables)
    if hasattr(optimizer, "_use_weight_decay"):
        return _of_keras(optimizer, variables)
    former = "tf_keras.src.optimizers.legacy."
    if type(optimizer).__module__.startswith(former):
        return _of_former(optimizer, variables)
    raise TypeError(
        "An optimizer of lbcheck, Keras 3, tf_keras or Model Garden is "
        f"needed, received {optimizer!r}."
    )


def unwrapped(optimizer):
    """The optimizer inside those that scale the loss."""
    for wrapped in ("inner_optimizer", "_optimizer"):
        optimizer = getattr(optimizer, wrapped, optimizer)
    return optimizer


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


def _of_several(optimizer, variables, paths, shapes):
    """Keras's MultiOptimizer: each variable as its own optimizer has it."""
    chosen, findings = [], []
    for variable, path in zip(variables, paths):
        try:
            chosen.append(optimizer._optimizer_map(variable))
        except ValueError:  # as Keras will, when it trains
            if not hasattr(optimizer._optimizer_map, "keys"):
                raise  # a user's function
            keys = [
                key
                for key in optimizer._optimizer_map
                if re.fullmatch(key, variable.path)
            ]
            findings.append(
                f"{path} has {len(keys)} rules: the patterns "
                f"{', '.join(map(repr, keys))} of MultiOptimizer match it."
            )
            chosen.append(None)
    treatments = [(False, False, "several")] * len(variables)
    for one in {id(o): o for o in chosen if o is not None}.values():
        places = [place for place, o in enumerate(chosen) if o is one]
        found, more = of(
            one,
            *([some[i] for i in places] for some in (variables, paths, shapes)),
        )
        findings += more
        for place, treatment in zip(places, found):
            treatments[place] = treatment
    return treatments, findings


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


def _as_decayed(optimizer, variables):
    """What the optimizer's weight decay is given of these variables.

    Keras 3 searches patterns in `variable.name`. On TensorFlow it asks that of
    the tf.Variable, whose name is the whole path; elsewhere, and where a class
    has a decay of its own, of Keras's variable, whose name is the last part.
    """
    if kerases.of(optimizer) != "keras3":
        return variables
    keras = sys.modules["keras"]
    usual = keras.optimizers.Optimizer._apply_weight_decay
    if (
        keras.backend.backend() != "tensorflow"
        or type(optimizer)._apply_weight_decay is not usual
    ):
        return variables
    return [getattr(variable, "value", variable) for variable in variables]


def _uses_decay(optimizer, variables):
    """One bool a variable; what Keras keeps of the answers stays as it was."""
    kept = "_exclude_from_weight_decay_cache"
    before = dict(getattr(optimizer, kept, {}))
    uses = [bool(optimizer._use_weight_decay(v)) for v in variables]
    if hasattr(optimizer, kept):
        setattr(optimizer, kept, before)
    return uses


def _of_keras(optimizer, variables):
    """An optimizer of Keras 3 or tf_keras; Muon has AdamW as a second rule."""
    name = type(optimizer).__name__
    asked = _as_decayed(optimizer, variables)
    by_adam = [False] * len(variables)
    if hasattr(optimizer, "_should_use_adamw"):
        by_adam = [optimizer._should_use_adamw(v) for v in variables]
    own = optimizer.weight_decay
    other = getattr(optimizer, "adam_weight_decay", own)
    l2 = any(getattr(optimizer, argument, 0) for argument in _FTRL_L2)
    decays = [
        l2 or bool((other if adam else own) and uses)
        for adam, uses in zip(by_adam, _uses_decay(optimizer, asked))
    ]
    compiled = getattr(optimizer, "_exclude_from_weight_decay_pattern", None)
    patterns = getattr(optimizer, "_exclude_from_weight_decay_names", ())
    if compiled is not None:  # Keras 3 joins its patterns into one
        patterns = _alternatives(compiled.pattern)
    searched = [variable.name for variable in asked]
    adapts = name in ("Lamb", "Muon")
    treatments = [
        (decayed, adapts and not adam, f"AdamW (in {name})" if adam else name)
        for decayed, adam in zip(decays, by_adam)
    ]
    findings = _unmatched(name, patterns, searched)
    if name == "Muon" and all(by_adam):
        findings.append(
            "Muon orthogonalises nothing: AdamW trains every variable."
        )
    return treatments, findings


def _of_former(optimizer, variables):
    """One of `tf_keras.optimizers.legacy`, of which Ftrl alone decays."""
    config = optimizer.get_config()
    decays = any(config.get(argument) for argument in _FTRL_L2)
    return [(decays, False, type(optimizer).__name__)] * len(variables), []


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
