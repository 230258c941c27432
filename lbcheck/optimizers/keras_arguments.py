"""Keras's own keywords of an optimizer: known, in range, and not in vain."""

import difflib
import inspect
import numbers
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

from lbcheck.optimizers import rule

CLIPS = ("clipnorm", "clipvalue", "global_clipnorm")
_AVERAGE = ("ema_momentum", "ema_overwrite_frequency")
ALL = (*CLIPS, "use_ema", *_AVERAGE)
"""What both Kerases take; the adapters add their own."""

_FORMER = {"lr": "learning_rate"}
"""A keyword that Keras once had, which tf_keras drops without an error."""
_UNSAID = ("args", "kwargs", "is_legacy_optimizer")


def check(
    optimizer: type, given: Mapping[str, Any], own: tuple[str, ...] = ()
) -> dict[str, Any]:
    """The keywords that an optimizer hands on to its Keras.

    Args:
        optimizer: Class of the optimizer.
        given: {keyword: value}.
        own: Keywords that only this Keras has.

    Returns:
        The same, scalars of NumPy and of frameworks as Python numbers.

    Raises:
        TypeError: A keyword that there is not, or a value of another type.
        ValueError: A number out of range, or a keyword without effect.
    """
    owner = optimizer.__name__
    for name in given:
        if name not in (*ALL, *own):
            raise TypeError(unknown(optimizer, name, own))
    given = {name: rule.plain(value) for name, value in given.items()}
    for name, value in given.items():
        if value is not None and name in _KINDS:
            what, accepts = _KINDS[name]
            if not accepts(value):
                kind = ValueError if rule.is_number(value) else TypeError
                raise kind(
                    f"{owner}: `{name}` must be {what}, received {value!r}."
                )
    clips = [name for name in CLIPS if given.get(name) is not None]
    if len(clips) > 1:
        raise ValueError(
            f"{owner}: at most one of {', '.join(CLIPS)} can be set, received "
            + " and ".join(f"{name}={given[name]!r}" for name in clips)
            + "."
        )
    if not given.get("use_ema"):
        _check_no_average(owner, given)
    return given


def unknown(optimizer: type, name: str, own: tuple[str, ...] = ()) -> str:
    """What to tell who gives an argument that an optimizer has not."""
    parameters = (*inspect.signature(optimizer).parameters, *ALL, *own)
    known = [p for p in parameters if p not in _UNSAID]
    near = difflib.get_close_matches(name, known, 1)
    meant = _FORMER.get(name, *near[:1] or (None,))
    advice = (
        f"did you mean `{meant}`?"
        if meant
        else f"expected one of {', '.join(known)}."
    )
    return f"{optimizer.__name__}: unknown argument `{name}`; {advice}"


def _check_no_average(owner, given):
    """Keras's default of `ema_momentum` is in every configuration."""
    for name in _AVERAGE:
        if given.get(name) not in (None, 0.99):
            raise ValueError(
                f"{owner}: `{name}` has no effect without use_ema=True, "
                f"received {given[name]!r}."
            )


def _is_positive(value):
    return rule.is_number(value) and value > 0 and rule.is_finite(value)


def _whole_from(low: int) -> tuple[str, Callable[[Any], bool]]:
    def accepts(value):
        return (
            isinstance(value, numbers.Integral)
            and not isinstance(value, bool)
            and value >= low
        )

    return f"None or a whole number of at least {low}", accepts


_POSITIVE = ("None or a finite number above 0", _is_positive)
_SWITCH = ("True or False", lambda value: isinstance(value, bool))
_KINDS = {
    **dict.fromkeys(CLIPS, _POSITIVE),
    "loss_scale_factor": _POSITIVE,
    "use_ema": _SWITCH,
    "jit_compile": _SWITCH,
    "ema_momentum": (
        "a number in [0, 1]",
        lambda value: rule.is_number(value) and 0 <= value <= 1,
    ),
    "ema_overwrite_frequency": _whole_from(1),
    "gradient_accumulation_steps": _whole_from(2),
}
"""{keyword: (what it must be, whether a value is that)}."""
