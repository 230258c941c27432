"""`lbcheck reproductions`: published claims run again, with their records.

lbcheck reproductions list            what there is, and the answers
lbcheck reproductions tables table7   the numbers of a page, from the records
lbcheck reproductions verify table7   one recorded seed, run again here

Exit codes: 0 done or confirmed, 1 the record is not confirmed, 2 refused.
"""

from absl import app
from absl import flags

from lbcheck.support import command
from lbcheck.support import exit_codes
from lbcheck.support import text_table

FLAGS = flags.FlagValues()


def main(argv):
    """Does what the words ask for; returns the exit code."""
    verb, *names = argv or ["list"]
    if verb == "list" and not names:
        print(_listed())
        return exit_codes.FINISHED
    if verb not in _VERBS or len(names) != 1:
        raise app.UsageError(
            "lbcheck reproductions takes `list`, `tables NAME` or `verify "
            f"NAME`; received {' '.join(argv)}."
        )
    from lbcheck.reproductions import index

    return _VERBS[verb](index.find(names[0]))


def _listed():
    from lbcheck.reproductions import index
    from lbcheck.reproductions import tables

    rows = [
        [found.name, study.name, tables.answer(study)]
        for found in index.load().values()
        for study in found.studies.values()
    ]
    return text_table.text_table(["name", "study", "answer"], rows)


def _tables(reproduction):
    from lbcheck.reproductions import tables

    for study in reproduction.studies.values():
        print(f"{study.name}\n{tables.block(study)}")
    return exit_codes.FINISHED


def _verify(reproduction):
    from lbcheck.reproductions import verify

    try:
        found = verify.verify(reproduction)
    except KeyboardInterrupt:
        return command.interrupted()
    print(found)
    return exit_codes.FINISHED if found.holds else exit_codes.FINDING


_VERBS = {"tables": _tables, "verify": _verify}
