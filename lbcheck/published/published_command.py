"""`lbcheck published`: every row of the papers' tables, and what runs it.

lbcheck published                          the tables
lbcheck published rows                     their rows
lbcheck published nado2021_table5          a table
lbcheck published nado2021_table5_lars     a row: settings, commands, score
lbcheck published diff table1_nesterov_b table1_lars
lbcheck published run table1_lars --output_dir=records/published
lbcheck published run --all --num_workers=2 --output_dir=records/published
lbcheck published --check

The paper can be left out of a name that is unique without it. `run` runs rows
in miniature, with --scale=paper as published; the same command continues where
it was stopped. --check says whether every printed row has a run or a reason
why not, every flagfile belongs to a row and is accepted, and updates times
batch are the stated epochs.

Exit codes: 0 done; 1 a run failed, or --check found something; 2 bad input; 75
interrupted, and the same command continues.
"""

import json

from absl import app
from absl import flags

from lbcheck import published
from lbcheck.published import pages
from lbcheck.support import command
from lbcheck.support import exit_codes

FLAGS = flags.FlagValues()
_OF_CSV = "--format=csv needs a table, or rows."
_FORMAT = flags.DEFINE_enum(
    "format",
    "text",
    ["text", "csv", "json"],
    "How a result is printed; csv is for a table, or rows.",
    flag_values=FLAGS,
)
_CHECK = flags.DEFINE_bool(
    "check",
    False,
    "Check the index of rows against tables and flagfiles.",
    flag_values=FLAGS,
)
_ALL = flags.DEFINE_bool("all", False, "Run every row.", flag_values=FLAGS)
_SCALE = flags.DEFINE_enum(
    "scale",
    "mini",
    ["mini", "paper"],
    "Size of a run: a miniature for two cores, or as published.",
    flag_values=FLAGS,
)
_OUTPUT_DIR = flags.DEFINE_string(
    "output_dir",
    None,
    "Folder of the runs; the same command continues them.",
    flag_values=FLAGS,
)
_NUM_WORKERS = flags.DEFINE_integer(
    "num_workers", 1, "Runs at a time.", lower_bound=1, flag_values=FLAGS
)


def main(argv):
    """Does what the words ask for; returns the exit code."""
    verb, *names = argv or [""]
    try:
        _check_flags(verb)
        if _CHECK.value:
            return _check(argv)
        if verb == "run":
            return _run(names)
        print(_shown(verb, names))
    except ValueError as error:
        raise app.UsageError(str(error)) from error
    return exit_codes.FINISHED


def _check_flags(verb):
    """Refuses flags of which what is asked for would take no notice."""
    runs = verb == "run" and not _CHECK.value
    if _FORMAT.value == "csv" and (runs or _CHECK.value):
        raise app.UsageError(_OF_CSV)
    for flag in (_ALL, _SCALE, _OUTPUT_DIR, _NUM_WORKERS):
        if FLAGS[flag.name].present and not runs:
            raise app.UsageError(
                f"--{flag.name} goes with `lbcheck published run`."
            )


def _shown(verb, names):
    """What is asked for, as text."""
    if _FORMAT.value == "csv":
        return _csv(verb, names)
    as_text = _FORMAT.value == "text"
    if verb == "diff":
        if len(names) != 2:
            raise app.UsageError(
                "lbcheck published diff takes two rows; received "
                f"{' '.join(names) or 'none'}."
            )
        found = pages.difference(*names)
        return pages.difference_text(found) if as_text else _json(found)
    if names:
        raise app.UsageError(
            "lbcheck published takes one table or row; received "
            f"{' '.join([verb, *names])}."
        )
    if verb == "rows":
        found = pages.rows()
        return pages.rows_text(found) if as_text else _json(found)
    if not verb:
        return pages.tables_text() if as_text else _json(published.index())
    if pages.is_row(verb):
        found = pages.row(verb)
        return pages.row_text(found) if as_text else _json(found)
    return pages.table_text(verb) if as_text else _json(published.load(verb))


def _json(found):
    return json.dumps(found, indent=2)


def _csv(verb, names):
    if not verb or names:
        raise ValueError(_OF_CSV)
    if verb == "rows":
        return pages.rows_csv(pages.rows())
    return published.path(verb).read_text(encoding="utf-8").rstrip("\n")


def _run(names):
    """Runs rows, and prints paper beside miniature."""
    from lbcheck.published import rows
    from lbcheck.published import runs

    if bool(names) == _ALL.value:
        raise app.UsageError(
            "lbcheck published run takes rows, or --all for every one; "
            f"received {' '.join(names) or 'neither'}."
        )
    if not _OUTPUT_DIR.value:
        raise app.UsageError("lbcheck published run needs --output_dir.")
    wanted = [rows.find(name) for name in names] or [*rows.load().values()]
    runner = runs.Runner(
        _OUTPUT_DIR.value, _SCALE.value, _NUM_WORKERS.value, pages.say
    )
    try:
        found = runs.table(wanted, _SCALE.value, runner.run(wanted))
    except KeyboardInterrupt:
        return command.interrupted()
    as_text = _FORMAT.value == "text"
    print(pages.runs_text(found) if as_text else _json(found))
    failed = any(line["status"] == "failed" for line in found["rows"])
    return exit_codes.FINDING if failed else exit_codes.FINISHED


def _check(argv):
    """Prints what is wrong, and 1 if anything is."""
    from lbcheck.published import check

    if argv:
        raise app.UsageError(
            f"--check takes no name; received {' '.join(argv)}."
        )
    found = check.check()
    as_text = _FORMAT.value == "text"
    print(pages.check_text(found) if as_text else _json(found))
    return exit_codes.FINDING if found["problems"] else exit_codes.FINISHED
