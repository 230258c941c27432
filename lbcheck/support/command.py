"""How every command and program starts, and how it ends."""

import contextlib
import io
import math
import os
import re
import signal
import sys
import threading
from collections.abc import Callable
from typing import NoReturn

from absl import app
from absl import flags

from lbcheck.support import errors
from lbcheck.support import exit_codes
from lbcheck.support import flagfiles
from lbcheck.support import schema


def run(name: str, main: Callable[[], int]) -> NoReturn:
    """Calls `main` and exits with its code, or with the code of its error.

    Refusals end with one sentence on standard error, so does Ctrl-C; a reader
    that closes the pipe, as `head` does, ends nothing and is no error. Faults
    of this package keep their traceback.

    Args:
        name: Stands before the message.
        main: The command; its value is the exit code.
    """
    sys.stdout, sys.stderr = _Pipe(sys.stdout), _Pipe(sys.stderr)
    try:
        with errors.explained():
            code = main()
            sys.stdout.flush()
    except (flags.Error, app.UsageError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        code = exit_codes.REFUSED
    except errors.Unavailable as error:
        print(f"{name}: {error}", file=sys.stderr)
        code = exit_codes.UNAVAILABLE
    except FloatingPointError as error:
        print(f"{name}: {error}", file=sys.stderr)
        code = exit_codes.DIVERGED
    except KeyboardInterrupt:
        _end_at_once_when_interrupted()
        print(f"{name}: interrupted.", file=sys.stderr)
        code = exit_codes.INTERRUPTED
    _end_at_once_when_interrupted()
    sys.stdout.flush()
    sys.exit(code)


def interrupted(
    message: str = "Interrupted; run the same command again to continue.",
) -> int:
    """Says so on standard error; the exit code."""
    print(message, file=sys.stderr)
    return exit_codes.INTERRUPTED


def _end_at_once_when_interrupted():
    """From here on Ctrl-C ends the process without a traceback."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def parse(flag_values: flags.FlagValues, argv: list[str]) -> list[str]:
    """Parses a command line, flagfiles included.

    Args:
        flag_values: The flags of the command, not yet parsed.
        argv: The command and its arguments.

    Returns:
        The arguments that are no flags.

    Raises:
        flags.Error, app.UsageError: An unknown flag, with what may be meant;
            a bad value, such as nan; a flagfile that cannot be read. Names
            the flagfile and its line.
    """
    return parse_expanded(flag_values, argv[0], flagfiles.expanded(argv[1:]))


def parse_expanded(
    flag_values: flags.FlagValues, name: str, expanded: flagfiles.Arguments
) -> list[str]:
    """As `parse`, of a command of that name whose flagfiles are read."""
    try:
        rest = flag_values([name, *(argument for argument, _ in expanded)])
        _check_finite(flag_values)
    except (flags.Error, ValueError) as error:
        where = _origin(error, expanded)
        if not where and isinstance(error, flags.Error):
            raise
        message = schema.printable(str(error))
        raise app.UsageError(f"{where}{message}") from error
    return rest[1:]


def _check_finite(flag_values):
    for name in flag_values:
        value = flag_values[name].value
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"flag --{name}={value}: expected a finite number")


def _origin(error, expanded):
    """ "file:line: " if the flag that an error is about is of a flagfile."""
    named = getattr(error, "flagname", None)
    if named is None:
        found = re.search(r"--?([\w-]+)", str(error))
        named = found[1] if found else ""
    found = []
    for argument, where in expanded:
        name, _, value = re.sub("^--?", "", argument).partition("=")
        if name.lstrip("-") in (named.lstrip("-"), f"no{named}"):
            # Of a flag that is given twice, the value that is complained of.
            found.append((value in str(error), where))
    where = max(reversed(found), key=lambda f: f[0], default=(0, ""))[1]
    return f"{where}: " if where else ""


def define_format(flag_values: flags.FlagValues) -> flags.FlagHolder:
    """Defines --format of a command that prints a result."""
    return flags.DEFINE_enum(
        "format",
        "text",
        ["text", "json"],
        "How the result is printed.",
        flag_values=flag_values,
    )


class _Pipe:
    """A stream whose reader may leave; what is written then is dropped.

    A stream that is closed from the start drops everything, and what its
    encoding cannot say is escaped.
    """

    def __init__(self, stream):
        if stream is None:
            stream = open(os.devnull, "w")
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
        self._stream = stream

    def __getattr__(self, name):
        return getattr(self._stream, name)

    def write(self, text):
        with self._dropping():
            self._stream.write(text)
        return len(text)

    def flush(self):
        with self._dropping():
            self._stream.flush()

    @contextlib.contextmanager
    def _dropping(self):
        try:
            yield
        except OSError as error:
            self._drop()
            if not isinstance(error, BrokenPipeError):
                name = getattr(self._stream, "name", "output")
                raise OSError(error.errno, error.strerror, name) from error

    def _drop(self):
        # What is buffered goes there, now and when the interpreter ends.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)
