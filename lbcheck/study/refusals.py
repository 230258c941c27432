"""Errors in a user's own code, as one message of a command."""

import contextlib
import pathlib
import re
import sys
import traceback

from absl import app
from absl import flags

import lbcheck

_OURS = str(pathlib.Path(lbcheck.__file__).parent)
_REFUSALS = (
    flags.Error,
    app.UsageError,
    ImportError,
    OSError,
    ValueError,
    TypeError,
)
"""What this package raises for bad input; the rest are its own faults."""

_NOT_THEIRS = (_OURS, sys.prefix, sys.base_prefix, "<")
_GRAPH = re.compile(r"\{\{.*?\}\} ?| ?\[Op:\w+\].*|\x1b\[\d*m", re.DOTALL)
"""TensorFlow's names for where it was, and Keras's colours."""


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
        frames = traceback.extract_tb(error.__traceback__)
        if not frames[-1].filename.startswith(_OURS):
            raise app.UsageError(_message(error, frames)) from error
        if isinstance(error, _REFUSALS):
            raise app.UsageError(str(error)) from error
        raise


def _message(error, frames):
    theirs = [
        f"{frame.filename}:{frame.lineno}: "
        for frame in frames
        if not frame.filename.startswith(_NOT_THEIRS)
        and "__autograph" not in frame.filename
    ]
    text = _GRAPH.sub("", str(error)).partition("\n\nArguments received")[0]
    return f"{''.join(theirs[-1:])}{type(error).__name__}: {text.strip()}"
