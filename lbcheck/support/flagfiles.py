"""Command lines with their flagfiles, read as data.

A flagfile has one flag per line, empty lines, and comments that begin with # or
//. What it names, another flagfile or an arm's JSON file, may lie next to it.
`--flagfile=builtin:quick` is flags/quick.flags, which comes with lbcheck. A ~
that begins a value is the user's folder.
"""

import os
import pathlib
import re
from collections.abc import Sequence

from absl import app

from lbcheck.support import errors
from lbcheck.support import schema
from lbcheck.support import shipped

_LARGEST = 2**20
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f]")
"""What no line can hold."""
_DIRECTIVE = re.compile(r"--?flagfile(?:=(.*))?", re.DOTALL)

Arguments = list[tuple[str, str | None]]
"""(argument, "file:line" if it is of a flagfile)."""


def expanded(arguments: Sequence[str]) -> Arguments:
    """The arguments with those of flagfiles in the place of --flagfile.

    Args:
        arguments: Arguments of a command line, without the program.

    Raises:
        app.UsageError: A flagfile that cannot be read, is no flagfile or
            includes itself; names the file, and the line that includes it.
    """
    found, rest = [], list(arguments)
    while rest:
        argument = rest.pop(0)
        if argument == "--":
            return [*found, *((text, None) for text in (argument, *rest))]
        directive = _DIRECTIVE.fullmatch(argument)
        if not directive:
            name, equals, value = argument.partition("=")
            found.append((f"{name}{equals}{_at_home(value)}", None))
            continue
        name = directive[1] or (rest.pop(0) if rest else "")
        if not name.strip():
            raise app.UsageError(f"{argument}: expected the name of a file.")
        found += _read(_path(name), ())
    return found


def _path(name):
    """The file that the value of --flagfile means."""
    try:
        return pathlib.Path(shipped.resolved(name.strip())).expanduser()
    except ValueError as error:
        raise app.UsageError(f"--flagfile: {error}") from error


def _read(path, including):
    """The arguments in a flagfile that those in `including` include."""
    inside = (*including, path.resolve())
    if inside[-1] in including:
        chain = " -> ".join(entry.name for entry in inside)
        raise app.UsageError(f"{path}: the flagfile includes itself: {chain}.")
    try:
        text = schema.read_bytes(path, _LARGEST).decode("utf-8-sig")
    except UnicodeError as error:
        raise app.UsageError(
            f"{path}: expected a flagfile, which has one flag per line; this "
            f"is no UTF-8 text ({error.reason})."
        ) from error
    except OSError as error:
        raise app.UsageError(
            f"--flagfile: {errors.of_system(error)}."
        ) from error
    except ValueError as error:
        raise app.UsageError(f"--flagfile: {error}") from error
    found = []
    for number, line in enumerate(re.split(r"\r\n?|\n", text), 1):
        line, where = line.strip(), f"{path}:{number}"
        if line and not line.startswith(("#", "//")):
            found += _arguments(line, where, path.parent, inside)
    return found


def _arguments(line, where, folder, inside):
    if not line.startswith("-") or CONTROL.search(line):
        # Not all of it, which may hold a password.
        begins = schema.shown(re.split(r"[=:\s]", line)[0])
        raise app.UsageError(
            f"{where}: expected a flag such as --seed=1, received a line that "
            f"begins with {begins}."
        )
    directive = _DIRECTIVE.fullmatch(line)
    if directive:
        if not directive[1]:
            raise app.UsageError(f"{where}: expected --flagfile=FILE.")
        return _read(_path(_beside(directive[1], folder)), inside)
    name, equals, value = line.partition("=")
    items = [
        _beside(item, folder) if item.endswith(".json") else item
        for item in _at_home(value).split(",")
    ]
    return [(f"{name}{equals}{','.join(items)}", where)]


def _at_home(value):
    """With the user's folder for ~, which no shell puts after an = sign."""
    home = os.path.expanduser("~")
    return re.sub("(?:^|(?<=,))~(?=/|,|$)", lambda _: home, value)


def _beside(name, folder):
    """The file of that name here, else next to the flagfile."""
    if pathlib.Path(name).exists() or not (folder / name).exists():
        return name
    return str(folder / name)
