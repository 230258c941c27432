"""What every program does: parse, answer --help, refuse cleanly, exit."""

import pathlib
import signal
import sys
from collections.abc import Callable

from absl import app
from absl import flags

from lbcheck.settings import flag_usage
from lbcheck.support import command


def start(
    main: Callable[[], int], flag_values: flags.FlagValues, manual: str
) -> None:
    """Parses the command line, calls `main` and exits with its code.

    What is refused ends the program with code 2 and one message, SIGTERM and
    Ctrl-C with 75; other errors keep their traceback.

    Args:
        main: The program; its value is the exit code.
        flag_values: The program's flags, not yet parsed.
        manual: Printed above the flags by --help.
    """

    def program():
        if {"--help", "-h"} & set(sys.argv[1:]):
            print(f"{manual}\n{flag_values.get_help()}")
            return 0
        parse(flag_values, sys.argv)
        # As Ctrl-C, but while something runs that first saves what it has.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            return main()
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    command.run(pathlib.PurePath(sys.argv[0]).name, program)


def parse(flag_values: flags.FlagValues, argv: list[str]) -> None:
    """Parses all arguments, flagfiles included.

    Raises:
        app.UsageError: As of `command.parse`; or an argument that is no flag.
    """
    rest = command.parse(flag_values, argv)
    if rest:
        raise app.UsageError(
            f"Arguments must be flags such as --seed=1, received {rest}."
        )


_OF_THE_CALL = ("dry_run", "mode", "progress")
"""Flags of one call of a program; the run is the same whatever they say."""


def flagfile(
    flag_values: flags.FlagValues, of_the_call: tuple[str, ...] = _OF_THE_CALL
) -> str:
    """The flagfile that sets every flag of the run as it is now, one a line.

    Flags without a value are left out, and those that decide nothing of the
    run; `--flagfile` of this text in a file gives identical settings.

    Args:
        flag_values: The program's flags, parsed.
        of_the_call: Names of those that decide nothing of the run.

    Raises:
        ValueError: A value that no line of a flagfile can hold.
    """
    for name in flag_values:
        value = flag_values[name].value
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and text.strip() != text:
                raise ValueError(f"--{name}: {text!r} has blanks at its ends.")
            if isinstance(text, str) and len(text.splitlines()) > 1:
                raise ValueError(f"--{name}: {text!r} has more than one line.")
    lines = flag_values.flags_into_string().splitlines(keepends=True)
    apart = {f"--{no}{n}" for n in of_the_call for no in ("", "no")}
    return "".join(
        line for line in lines if line.strip().partition("=")[0] not in apart
    )


def values(flag_values: flags.FlagValues) -> dict:
    """{flag name: value} of every flag that has a value."""
    return flag_usage.given(flag_values, sorted(flag_values))
