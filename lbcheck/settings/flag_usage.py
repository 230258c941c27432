"""Which flags have a value, and whether the choice made uses them."""

import inspect
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping

from absl import app
from absl import flags

LARGEST = 1e9
"""A rate, a decay or an epsilon beyond this is a mistake."""


def check(
    flag_values: flags.FlagValues,
    chooser: str,
    users: Mapping[str, tuple[str, ...]],
) -> None:
    """Refuses a set flag that the choice does not use.

    Args:
        flag_values: Parsed flags.
        chooser: Name of the flag that chooses, such as "optimizer".
        users: {flag name: the choices that use it}; those flags have the
            default None.

    Raises:
        app.UsageError: Names all such flags, the choice and what would use
            them.
    """
    choice = flag_values[chooser].value
    set_here = given(flag_values, users)
    made = f"without --{chooser}"
    if choice is not None:
        made = f"to --{chooser}={choice}"
    unused = [
        f"--{name} does not apply {made}; {_only(choices)} it (received "
        f"{_shown(set_here[name])})."
        for name, choices in users.items()
        if name in set_here and choice not in choices
    ]
    if unused:
        raise app.UsageError("\n".join(unused))


def _shown(value):
    return ",".join(value) if isinstance(value, list) else value


def _only(choices):
    """'only lars and momentum use', of the choices that use a flag."""
    *others, last = choices
    if not others:
        return f"only {last} uses"
    return f"only {', '.join(others)} and {last} use"


def users(
    names: Iterable[str], choices: Mapping[str, Callable]
) -> dict[str, tuple[str, ...]]:
    """{name: the choices whose signature has a parameter of that name}.

    >>> users(["base"], {"int": lambda x, base: 0, "float": lambda x: 0})
    {'base': ('int',)}
    """
    accepted = {c: inspect.signature(f).parameters for c, f in choices.items()}
    return {
        name: tuple(c for c in choices if name in accepted[c]) for name in names
    }


def given(flag_values: flags.FlagValues, names: Iterable[str]) -> dict:
    """{name: value} of those flags that have a value."""
    values = {name: flag_values[name].value for name in names}
    return {name: v for name, v in values.items() if v is not None}
