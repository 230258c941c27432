"""`lbcheck published` in this process."""

import contextlib
import io

from lbcheck.published import published_command


def run(*arguments):
    """(exit code, what it prints)."""
    flag_values = published_command.FLAGS
    printed = io.StringIO()
    try:
        words = flag_values(["published", *arguments])[1:]
        with contextlib.redirect_stdout(printed):
            return published_command.main(words), printed.getvalue()
    finally:
        for name in flag_values:
            flag_values[name].unparse()
