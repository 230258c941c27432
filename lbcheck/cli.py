"""The `lbcheck` command: finds the command's module and runs its main."""

import importlib
import sys

import lbcheck
from lbcheck.support import command

COMMANDS = {
    "audit": (
        "lbcheck.optimizers.audit_command",
        "what an optimizer decays and adapts in your model",
    ),
    "compare": (
        "lbcheck.study.compare_command",
        "whether your model needs LARS or LAMB at its batch size",
    ),
    "conform": (
        "lbcheck.conform.run",
        "every dialect beside a float64 reference and its library",
    ),
    "published": (
        "lbcheck.published.published_command",
        "settings, spaces and results of the papers",
    ),
    "report": (
        "lbcheck.report.report_command",
        "the report of a study's folder, from its records",
    ),
    "schedule": (
        "lbcheck.schedules.schedule_command",
        "the schedule doctor: jumps and other bugs of a learning rate",
    ),
    "study": (
        "lbcheck.study.study_command",
        "how far a study is",
    ),
}
"""name -> (module with `main(arguments)` and its own FLAGS, what it does).

A command's flags are apart from absl's global ones, so that a user's program,
which the command imports, can define flags of the same names."""


def usage() -> str:
    """The list of commands."""
    lines = [f"  {name:11}{what}" for name, (_, what) in COMMANDS.items()]
    return "\n".join(
        [
            f"lbcheck {lbcheck.__version__}: the large-batch optimizer "
            "reality check",
            "",
            "usage: lbcheck COMMAND [ARGUMENTS] [--FLAGS]",
            "",
            *lines,
            "",
            "lbcheck COMMAND --help lists its flags.",
        ]
    )


def main() -> None:
    """Entry point of the console script."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        sys.exit(0)
    name, *rest = arguments
    if name == "--version":
        print(lbcheck.__version__)
        sys.exit(0)
    if name not in COMMANDS:
        print(
            f"lbcheck: unknown command {name!r}\n\n{usage()}", file=sys.stderr
        )
        sys.exit(2)
    module = importlib.import_module(COMMANDS[name][0])
    if "--help" in rest or "-h" in rest:
        print(module.__doc__)
        print(module.FLAGS.get_help())
        sys.exit(0)
    command.run(
        f"lbcheck {name}",
        lambda: module.main(module.FLAGS([f"lbcheck {name}", *rest])[1:]),
    )


if __name__ == "__main__":
    main()
