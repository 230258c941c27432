"""An error as one sentence, with the user's own line where there is one."""

import contextlib
import pathlib
import re
import sys
import traceback

from absl import app
from absl import flags

from lbcheck.support import extras

_LBCHECK = pathlib.Path(__file__).parents[1]
_OURS = tuple(
    f"{_LBCHECK.parent / room}/" for room in ("lbcheck", "bert", "resnet")
)
REFUSALS = (ImportError, ValueError, TypeError)
"""What this package raises for bad input; the rest are its own faults."""

_FAULTS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NameError,
)
"""Without a line of the user's among the callers, a fault of this package."""

_NOT_THEIRS = (*_OURS, sys.prefix, sys.base_prefix, "<")
_GRAPH = re.compile(r"\{\{.*?\}\} ?| ?\[Op:\w+\].*|\x1b\[\d*m", re.DOTALL)
"""TensorFlow's names for where it was, and Keras's colours."""


_FILE = re.compile(r'\n?\s*File "([^"]+)", line (\d+).*\n( {8}.*\n)*')
"""A place in an account that a message holds, with the line of code."""

_ACCOUNTS = (
    "Graph execution error",
    "Detected at node",
    "<stack traces",
    "in user code",
    "[[",
)
_PIPELINE = re.compile(
    r"Error in user-defined function passed to .*Iterator::\S+ "
)
_ARGUMENTS = re.compile(r"\n\s*\n\s*(?:Call a|A)rguments received")
_NAMED = re.compile(r"\w+(Error|Exception): ")


class Unavailable(Exception):
    """Another worker or the storage is not there; the message says which."""


@contextlib.contextmanager
def explained():
    """Errors within become refusals that say where they came from.

    Raises:
        app.UsageError: In place of every `Exception` but those that only a
            fault of this package can be, or its own FloatingPointError.
    """
    try:
        yield
    except Exception as error:
        message = sentence(error)
        if message is None:
            raise
        raise app.UsageError(message) from error


@contextlib.contextmanager
def named(what: str):
    """Errors of code that is not ours become one sentence about `what`.

    Raises:
        ValueError: Says what failed, where in the user's code, and how.
    """
    try:
        yield
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        message = sentence(error)
        # Two frames: the call itself, of a function that takes other arguments.
        not_theirs = frames[-1].filename.startswith(_OURS) and len(frames) > 2
        if not_theirs or message is None:
            raise
        raise ValueError(f"{what} failed: {message}") from error


def sentence(error: Exception) -> str | None:
    """What to tell the user of an error; None where it is our own fault."""
    if isinstance(error, (flags.Error, app.UsageError)):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if f.filename.startswith(_OURS)]
    theirs = [
        f
        for f in frames
        if not f.filename.startswith(_NOT_THEIRS)
        and "__autograph" not in f.filename
    ]
    raised_here = bool(frames) and frames[-1].filename.startswith(_OURS)
    if isinstance(error, ModuleNotFoundError) and not theirs:
        missing = extras.missing(error)
        if missing:
            return missing
    if isinstance(error, SyntaxError) and error.filename:
        return (
            f"{error.filename}:{error.lineno}: {type(error).__name__}: "
            f"{error.msg}"
        )
    told = [
        f"{name}:{line}: "
        for name, line, _ in _FILE.findall(str(error))
        if not name.startswith(_NOT_THEIRS)
    ]
    if (theirs or told) and not raised_here:
        where = f"{theirs[-1].filename}:{theirs[-1].lineno}: " if theirs else ""
        return (told[-1] if told else where) + _typed(error)
    if isinstance(error, OSError):
        return of_system(error)
    if raised_here:
        return str(error) if isinstance(error, REFUSALS) else None
    if isinstance(error, _FAULTS):
        return None
    at = ""
    if ours:
        name = pathlib.Path(ours[-1].filename).relative_to(_LBCHECK.parent)
        at = f" (in {name}:{ours[-1].lineno})"
    return f"{_typed(error)}{at}"


def _typed(error):
    """The message after the type, Python's before TensorFlow's for it."""
    message = cleaned(error)
    if hasattr(error, "node_def") and _NAMED.match(message):
        return message
    return f"{type(error).__name__}: {message}"


def of_system(error: OSError) -> str:
    """An OSError, file first.

    >>> of_system(FileNotFoundError(2, "No such file or directory", "a.txt"))
    'a.txt: No such file or directory'
    """
    if error.strerror is None:
        return str(error)
    if error.filename is None:
        return error.strerror
    name = error.filename if error.filename2 is None else error.filename2
    if isinstance(name, bytes):
        name = name.decode(errors="replace")
    return f"{name}: {error.strerror}"


def brief(error: Exception) -> str:
    """The message of a library in one printable line of 300 characters."""
    return ascii(cleaned(error))[1:-1][:300]


def cleaned(error: BaseException) -> str:
    """The message without TensorFlow's and Keras's accounts of the graph."""
    text = _ARGUMENTS.split(_GRAPH.sub("", str(error)))[0]
    if not any(account in text for account in _ACCOUNTS):
        return text.strip()
    text = text.partition("\nTraceback (most recent call last)")[0]
    text = _PIPELINE.sub("", text)
    lines = [line.strip() for line in _FILE.split(text)[-1].splitlines()]
    said = [line for line in lines if line and not line.startswith(_ACCOUNTS)]
    return " ".join(said).removeprefix(f"{type(error).__name__}: ")
