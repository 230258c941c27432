"""How every command and program starts, and how it ends."""

import os
import sys
from collections.abc import Callable
from typing import NoReturn

from absl import app
from absl import flags

from lbcheck.support import errors
from lbcheck.support import exit_codes


def run(name: str, main: Callable[[], int]) -> NoReturn:
    """Calls `main` and exits with its code, or with the code of its error.

    Refusals end with one sentence on standard error, so does Ctrl-C; a reader
    that closes the pipe, as `head` does, ends nothing and is no error. Faults
    of this package keep their traceback.

    Args:
        name: Stands before the message.
        main: The command; its value is the exit code.
    """
    sys.stdout = _Pipe(sys.stdout)
    try:
        with errors.explained():
            code = main()
    except (flags.Error, app.UsageError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        code = exit_codes.REFUSED
    except FloatingPointError as error:
        print(f"{name}: {error}", file=sys.stderr)
        code = exit_codes.DIVERGED
    except KeyboardInterrupt:
        print(f"{name}: interrupted.", file=sys.stderr)
        code = exit_codes.INTERRUPTED
    sys.stdout.flush()
    sys.exit(code)


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
    """A stream whose reader may leave; what is written then is dropped."""

    def __init__(self, stream):
        self._stream = stream

    def __getattr__(self, name):
        return getattr(self._stream, name)

    def write(self, text):
        try:
            return self._stream.write(text)
        except BrokenPipeError:
            self._drop()
            return len(text)

    def flush(self):
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._drop()

    def _drop(self):
        # What is buffered goes there, now and when the interpreter ends.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)
