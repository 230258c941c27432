"""The `lbcheck` command: finds the command's module and runs its main."""

import importlib
import sys

import lbcheck

COMMANDS = {
    "ablate": (
        "lbcheck.instruments.ablate_command",
        "which of the settings that differ between two runs matter",
    ),
    "audit": (
        "lbcheck.optimizers.audit_command",
        "what an optimizer decays and adapts in your model",
    ),
    "bundle": (
        "lbcheck.report.bundle_command",
        "a study in one file, for somebody else to verify",
    ),
    "compare": (
        "lbcheck.comparison.compare_command",
        "whether your model needs LARS or LAMB at its batch size",
    ),
    "completion": (
        "lbcheck.completion",
        "the completion of these commands for bash, zsh or fish",
    ),
    "conform": (
        "lbcheck.conform.run",
        "every dialect against a float64 reference and its library",
    ),
    "figure": (
        "lbcheck.figures.figure_command",
        "every figure of the papers, from published data or from records",
    ),
    "judge": (
        "lbcheck.report.judge_command",
        "the verdict on runs of your own, from a table",
    ),
    "plan": (
        "lbcheck.plan.plan_command",
        "memory, hours and dollars of a run before there is a machine",
    ),
    "published": (
        "lbcheck.published.published_command",
        "settings, spaces and results of the papers",
    ),
    "report": (
        "lbcheck.report.report_command",
        "the report of a study's folder, from its records",
    ),
    "reproductions": (
        "lbcheck.reproductions.reproductions_command",
        "published claims that were run again, with their records",
    ),
    "schedule": (
        "lbcheck.schedules.schedule_command",
        "the schedule doctor: jumps and other bugs of a learning rate",
    ),
    "study": (
        "lbcheck.study.study_command",
        "how far a study is",
    ),
    "sweep": (
        "lbcheck.instruments.sweep_command",
        "steps to a target against the batch size, and the critical one",
    ),
    "verify": (
        "lbcheck.report.verify_command",
        "whether a bundle of a study holds what it says",
    ),
}
"""name -> (module with `main(arguments)` and its own FLAGS, what it does).

A command's flags are apart from absl's global ones, so that a user's program,
which the command imports, can define flags of the same names."""


def usage() -> str:
    """The list of commands."""
    lines = [f"  {name:14}{what}" for name, (_, what) in COMMANDS.items()]
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
    try:
        from lbcheck.support import command
    except KeyboardInterrupt:
        sys.exit("lbcheck: interrupted.")
    name, *arguments = sys.argv[1:] or ["--help"]
    known = name if name in COMMANDS else ""
    command.run(f"lbcheck {known}".strip(), lambda: _run(name, arguments))


def _run(name, arguments):
    if name in ("-h", "--help", "help", "--version"):
        print(lbcheck.__version__ if name == "--version" else usage())
        return 0
    if name not in COMMANDS:
        raise ValueError(f"unknown command {name!r}; {_meant(name)}")
    from lbcheck.support import command

    module = importlib.import_module(COMMANDS[name][0])
    if "--help" in arguments or "-h" in arguments:
        print(f"{module.__doc__}\n{module.FLAGS.get_help()}")
        return 0
    line = [f"lbcheck {name}", *arguments]
    if hasattr(module, "parse"):
        return module.main(module.parse(line))
    return module.main(command.parse(module.FLAGS, line))


def _meant(name):
    import difflib

    close = difflib.get_close_matches(name, COMMANDS, 1)
    if close:
        return f"did you mean `lbcheck {close[0]}`?"
    return f"expected one of {', '.join(COMMANDS)}."
