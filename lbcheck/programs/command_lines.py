"""Which flags of a command line are a program's, and which the study's."""

from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Mapping
from typing import NamedTuple

from absl import app

from lbcheck.support import flagfiles

Flags = Mapping[str, str]
"""{name of a flag: the argument that sets it}, such as {"l2": "--l2=0.1"}."""

_SHARED = ("batch_size", "keras")
"""Flags of `lbcheck compare` that are the program's, where there is one."""
OF_THE_STUDY = (
    "output_dir",
    "seed",
    "num_seeds",
    "dry_run",
    "progress",
    "format",
)
"""Flags of a program that the study sets itself."""
_LENGTHS = ("train_steps", "train_epochs")
"""Of these the one that is given last counts."""
_SWITCHED = {"true": True, "t": True, "false": False, "f": False}
"""Words of absl that set a switch, besides 1 and 0."""


class Given(NamedTuple):
    """What a command line gives.

    Attributes:
        own: Arguments for the study's own flags.
        base: Flags of the program from flagfiles.
        explicit: Flags of the program from the command line itself, or from
            the flagfile of the study, which win over those of an arm.
    """

    own: list[str]
    base: Flags
    explicit: Flags


def split(arguments: flagfiles.Arguments, own: Collection[str]) -> Given:
    """Divides the arguments between the study and its program.

    A flag that the study does not have is the program's. So is every flag of
    a flagfile that does not name a --program itself: it is one of a run.

    Args:
        arguments: As `flagfiles.expanded` returns them.
        own: Names of the study's flags.

    Example:
        >>> line = [("--program=resnet.train", None), ("--seeds=5", None),
        ...     ("--l2=0.1", "a.flags:1"), ("--seed=3", "a.flags:2"),
        ...     ("--momentum=0.9", None)]
        >>> split(line, ["program", "seeds", "seed"])
        ... # doctest: +NORMALIZE_WHITESPACE
        Given(own=['--program=resnet.train', '--seeds=5'],
              base={'l2': '--l2=0.1'},
              explicit={'momentum': '--momentum=0.9'})

    Raises:
        app.UsageError: An argument of the program that is no flag.
    """
    of_study = {
        _file(where)
        for argument, where in arguments
        if where and _name(argument) == "program"
    }
    own = set(own) - set(_SHARED)
    found = Given([], {}, {})
    is_own = False
    for argument, where in _joined(arguments, own):
        name = _name(argument)
        is_own = (name in own or name.removeprefix("no") in own) and (
            where is None or _file(where) in of_study
        )
        if is_own:
            found.own.append(argument)
        elif where is None or _file(where) in of_study:
            _set(found.explicit, argument)
        else:
            _set(found.base, argument)
    return found


def of_run(flags: Iterable[tuple[str, str | None]]) -> Flags:
    """The flags of a flagfile, as `flagfiles.expanded` returns them."""
    found: dict[str, str] = {}
    for argument, _ in flags:
        _set(found, argument)
    return found


def merged(*layers: Flags) -> dict[str, str]:
    """All flags; of one that is set in several layers, the last one's."""
    found: dict[str, str] = {}
    for layer in layers:
        for argument in layer.values():
            _set(found, argument)
    return found


def argument(name: str, value) -> str:
    """The argument that gives a flag a value.

    >>> argument("xla", False), argument("l2", 1e-4), argument("model", "a")
    ('--noxla', '--l2=0.0001', '--model=a')
    """
    if isinstance(value, bool):
        return f"--{'' if value else 'no'}{name}"
    return f"--{name}={value}"


def setting(argument: str) -> str | bool:
    """What an argument sets its flag to, as text; True of a switch.

    >>> setting("--l2=0.0001"), setting("--noxla")
    ('0.0001', True)
    """
    _, equals, text = argument.partition("=")
    return text if equals else True


def alike(one: Flags, other: Flags) -> tuple[Flags, Flags]:
    """Both with the same names, and the words of one for what means the same.

    Numbers and switches can be written in several ways; --noema sets ema
    where that is a switch of either.

    >>> alike({"l2": "--l2=0.0001", "ema": "--ema=true"},
    ...     {"l2": "--l2=1e-4", "noema": "--noema"})
    ... # doctest: +NORMALIZE_WHITESPACE
    ({'l2': '--l2=0.0001', 'ema': '--ema=true'},
     {'l2': '--l2=0.0001', 'ema': '--noema'})
    """
    switches = {
        name
        for flags in (one, other)
        for name, argument in flags.items()
        if _meaning(name, argument) in ([True], [False])
    }
    one, other = (
        {
            _switch(name, argument, switches): argument
            for name, argument in flags.items()
        }
        for flags in (one, other)
    )
    return one, {
        name: one[name]
        if name in one and _meaning(name, one[name]) == _meaning(name, argument)
        else argument
        for name, argument in other.items()
    }


def _switch(name, argument, switches):
    """The name of the switch that an argument such as --noema sets."""
    switch = name.removeprefix("no")
    return switch if switch in switches and "=" not in argument else name


def _meaning(name, argument):
    """What an argument sets the flag of that name to, item by item."""
    given, equals, text = argument.lstrip("-").partition("=")
    if not equals:
        return [given == name]
    return [*map(_item, text.split(","))]


def _item(word):
    if word.lower() in _SWITCHED:
        return _SWITCHED[word.lower()]
    try:
        return float(word)
    except ValueError:
        return word


def value(flags: Flags, name: str) -> str | None:
    """The text that a flag is set to; None where it is not set."""
    if name not in flags:
        return None
    return flags[name].partition("=")[2]


def count(flags: Flags, name: str, where: str) -> int | None:
    """The whole number that a flag is set to; None where it is not set.

    Raises:
        ValueError: It is none of at least 1; names `where`.
    """
    text = value(flags, name)
    if text is None:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(
            f"{where}: --{name} must be a whole number of at least 1, "
            f"received {text!r}."
        )
    return int(text)


def _joined(arguments, own):
    """The program's `--name value` as one argument; the study's as they are.

    absl joins those of the study itself.
    """
    rest = list(arguments)
    while rest:
        argument, where = rest.pop(0)
        has_value = rest and not rest[0][0].startswith("-") and where is None
        if argument.startswith("-") and "=" not in argument and has_value:
            argument = f"{argument}={rest.pop(0)[0]}"
        yield argument, where


def _set(flags, argument):
    if not argument.startswith("-"):
        raise app.UsageError(
            f"a program takes flags such as --train_steps=100, received "
            f"{argument!r}."
        )
    name = _name(argument)
    # A switch and its opposite; what begins with "no" may be a name, too.
    for other in {f"no{name}", name.removeprefix("no")} - {name}:
        flags.pop(other, None)
    if name in _LENGTHS:
        for other in _LENGTHS:
            flags.pop(other, None)
    if not {name, name.removeprefix("no")} & set(OF_THE_STUDY):
        flags[name] = argument


def _name(argument):
    return argument.lstrip("-").partition("=")[0]


def _file(where):
    return where.rpartition(":")[0]
