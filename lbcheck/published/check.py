"""Whether the index of published rows is whole: `lbcheck published --check`."""

import math

from absl import app
from absl import flags

from lbcheck import published
from lbcheck import schedules
from lbcheck.published import flagged
from lbcheck.published import miniature
from lbcheck.published import plans
from lbcheck.published import rows as index
from lbcheck.search.space import Space
from lbcheck.support import command
from lbcheck.support import load_object

_SETTINGS = {
    "bert.pretrain": "bert.settings",
    "bert.squad": "bert.squad_settings",
    "resnet.train": "resnet.settings",
}
"""{program: the module that defines and checks its flags}."""

_ROUNDINGS = ("floor", "ceil", "mlperf4")

_SEQUENCES = 512_000_000
"""Of BERT: 1,000,000 updates of 512, in every row (You et al. 2019, 4.1)."""
_NEAR = 1e-3
"""Their part by which rounded phases may miss that number."""

_REFUSED = (flags.Error, app.UsageError, ValueError, OSError)


def check() -> dict:
    """Everything that can be wrong without running anything.

    Returns:
        "rows", "tables", "printed_rows", "runs" and "files", how many there
        are, and "problems", a line each.

    Raises:
        ValueError: rows.json itself is damaged.
    """
    rows = [*index.load().values()]
    runs = {row.run: row for row in rows if row.no_run is None}
    problems = [*_uncovered(rows), *_unused(rows)]
    for row in runs.values():
        problems += _of_run(row)
    for row in rows:
        problems += _length(row)
    tables = published.index()
    return {
        "rows": len(rows),
        "tables": len(tables),
        "printed_rows": sum(len(published.texts(name)) for name in tables),
        "runs": len(runs),
        "files": len(_files()),
        "problems": problems,
    }


def _uncovered(rows):
    """Printed rows that no row of the index has."""
    for table in published.index():
        found = [
            cells for row in rows if row.table == table for cells in row.cells
        ]
        for number, cells in enumerate(published.texts(table), 2):
            if cells not in found:
                yield (
                    f"{published.path(table)}:{number}: no row of "
                    f"{index.INDEX.name} has {','.join(cells.values())}"
                )


def _unused(rows):
    """Files of runs and spaces that no row is run by."""
    used = {name for row in rows for name in (row.flagfile, row.space)}
    used |= {plans.SQUAD, *index.ours()}
    for name in _files():
        if name not in used:
            yield f"{flagged.path(name)}: no published row has it"


def _files():
    """All of them; what else lies under flags/ is of comparisons."""
    runs = (f"{folder}/*.flags" for folder in index.PROGRAMS)
    return [n for p in (*runs, "spaces/*.json") for n in flagged.names(p)]


def _of_run(row):
    """Flags that a program refuses, at either scale."""
    try:
        settings = row.settings()
        space = row.space and flagged.space(row.space)
        yield from _refused(row.name, row, settings, space)
        small = miniature.settings(row.program, settings)
        if row.space is not None:
            space = miniature.space(space, settings)
        yield from _refused(f"{row.name}, mini", row, small, space)
    except _REFUSED as error:
        yield f"{row.name}: {error}"


def _refused(name, row, settings, space):
    """A line if the program refuses the flags, with a point of a space."""
    module = _SETTINGS[row.program]
    defined = flags.FlagValues()
    load_object.load(f"{module}:define")(defined)
    if space is not None:
        steps = miniature.total_steps(settings)
        made = Space.from_dict(space, origin=name)
        settings = (
            settings | made.points(seed=0, start=0, count=1, steps=steps)[0]
        )
    given = [f"--{flag}={value}" for flag, value in settings.items()]
    try:
        command.parse(defined, [name, *given])
        load_object.load(f"{module}:check")(defined)
    except _REFUSED as error:
        yield f"{name}: {' '.join(str(error).split())}"


def _length(row):
    """Updates times batch that are not the epochs the paper states."""
    if row.flagfile is None:
        return
    try:
        settings = row.settings()
    except _REFUSED:
        return  # told already
    if row.program == "bert.pretrain" and row.space is None:
        seen = sum(
            int(settings[f"{phase}train_steps"])
            * int(settings.get(f"{phase}batch_size", settings["batch_size"]))
            for phase in ("", "phase2_")
            if f"{phase}train_steps" in settings
        )
        if not math.isclose(seen, _SEQUENCES, rel_tol=_NEAR):
            yield (
                f"{row.name}: updates times batch are {seen:,} sequences, "
                f"stated are {_SEQUENCES:,}"
            )
    elif row.epochs is not None:
        yield from _epochs(row, settings)


def _epochs(row, settings):
    batch, data = int(settings["batch_size"]), settings["data"]
    steps = miniature.total_steps(settings)
    stated = {
        schedules.epochs_to_steps(
            row.epochs, batch, miniature.EXAMPLES[data], rule
        )
        for rule in _ROUNDINGS
    }
    if steps not in stated:
        yield (
            f"{row.name}: {steps} updates of {batch}, expected "
            f"{' or '.join(map(str, sorted(stated)))} for the {row.epochs} "
            f"epochs of the paper"
        )
