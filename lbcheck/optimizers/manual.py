"""Manuals of optimizers: the docstring of each and what all have in common."""

import inspect
import re
import textwrap

_SELECTION = """
exclude_from_weight_decay: List of regular expressions, searched
    (`re.search`) in each variable's full path such as
    `encoder/layer_0/query/kernel` when the optimizer is built; the entry
    `"rank<2"` selects every variable of rank 0 or 1. What is selected does
    not decay. `()` excludes nothing. A pattern that matches nothing warns.
    Defaults to `lbcheck.BIAS_AND_NORM`: biases, gamma, beta, scale and all
    of rank below 2.
"""

_ADAPTATION = """
exclude_from_layer_adaptation: The same kind of list for the trust ratio,
    or "same" as `exclude_from_weight_decay`. None (default): the dialect's,
    {usual}.
fallback: An lbcheck optimizer for the variables without trust ratio, with
    its own hyperparameters and lists. It takes this optimizer's rate or
    schedule unless it was given one itself, which is fixed when this
    optimizer is built. None (default):
    {fallback}
"""

_DIALECT = """
dialect: Whose reading of the rule, one of
    {dialects}.
    It sets the switches of the rule that its library leaves no choice of,
    so that they can be left out; a value that contradicts it is an error.
    Numbers stay as given. "paper" (default) takes every switch as given.
    `lbcheck conform` shows each beside its library.
"""

_KERAS = """
diagnostics_every: Record trust ratio, norms and rate of every variable at
    updates 0, k, 2k, ...; 0, the default, records nothing and costs
    nothing. See `diagnostics()`.
name: Name of the optimizer. None: its class's, in lower case.
**kwargs: Keras's own keywords: `clipnorm`, `clipvalue`, `global_clipnorm`
    (over all variables, after averaging over replicas and before the
    update), `use_ema` and its companions, and in Keras 3
    `gradient_accumulation_steps` (schedule, bias correction and averages
    count updates) and `loss_scale_factor`.
"""

_RAISES = """
Raises:
    TypeError: A string or other non-number for a number, a bare string for a
        list of patterns, a schedule or fallback of the other Keras, an
        argument that there is not.
    ValueError: A negative rate, a beta outside [0, 1), an unknown dialect or
        option, an argument that contradicts the dialect or another argument.

"""


def of(cls) -> str | None:
    """The docstring, with what all optimizers have in common filled in.

    `{shared}` stands for the entries of selection and dialect, `{arguments}`
    for all the arguments of the class above.
    """
    if cls.__doc__ is None:  # python -OO
        return None
    text = inspect.cleandoc(cls.__doc__)
    if "{arguments}\n" in text:
        above = next(c for c in cls.__mro__[1:] if "example" in vars(c))
        _, begin, rest = above.__doc__.partition("Args:\n")
        return text.replace(
            "{arguments}\n", begin + rest.partition("Example:")[0]
        )
    readings = cls.rule_class.dialects
    shared = _SELECTION
    if cls.fallback_note is not None:
        shared += _ADAPTATION.format(
            usual=_usual_adaptation(readings), fallback=cls.fallback_note
        )
    shared += _DIALECT.format(dialects=", ".join(readings))
    before, after = text.split("{shared}\n")
    own, _, example = after.partition("Example:")
    return "".join(
        [
            before,
            _indented(shared),
            own.rstrip("\n") + "\n" if own.strip() else "",
            _indented(_KERAS),
            _RAISES,
            "Example:",
            example,
        ]
    )


def _usual_adaptation(readings):
    """What the dialects leave out where nothing is said."""
    everything = [d for d, r in readings.items() if r.adapts_excluded]
    if everything:
        return (
            'which is "same", or () where every variable has a ratio:\n    '
            + ", ".join(everything)
        )
    return (
        "which for the paper is `lbcheck.NOT_HIDDEN`: biases, norms,\n"
        '    "no matrix" (one row or column), "embedding matrix" and\n'
        '    "last matrix", the outputs: by their usual names, and the\n'
        "    model's last kernel unless a named one can take what it gives"
    )


def _indented(text):
    """Entries of the Args section, without blank lines between them."""
    lines = [line for line in text.splitlines() if line]
    return textwrap.indent("\n".join(lines), "    ") + "\n"


def about(cls, argument: str) -> str:
    """The first sentence that a manual says of an argument.

    Args:
        cls: An optimizer.
        argument: One of its arguments.
    """
    entry = re.search(
        rf"^    {argument}: (.+?\.)(?=\s)", cls.__doc__ or "", re.M | re.S
    )
    return " ".join(entry[1].split()) if entry else ""
