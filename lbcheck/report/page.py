"""The HTML page: the answer first, then what it rests on."""

import pathlib
import shlex
from typing import NamedTuple

from lbcheck.report import figures
from lbcheck.report import page_tables
from lbcheck.report.tables import Table
from lbcheck.report.tables import metric
from lbcheck.report.tables import number

_FOLDER = pathlib.Path(__file__).parent


class Text(NamedTuple):
    """Verbatim text of the page, such as commands."""

    title: str
    caption: str
    text: str


class Group(NamedTuple):
    """A section of the page: named figures, tables and texts, in order."""

    name: str
    title: str
    items: list[tuple[str, figures.Figure | Table | Text]]


# The sections, and what stands above the figures of each.
_SECTIONS = (
    (
        "result",
        "Result",
        ("difference", "arms", "pairs", "challenge", "searches", "control"),
    ),
    ("tuning", "Tuning", ("best-points", "optimism")),
    ("steps", "Steps taken", ()),
    (
        "budget-and-failures",
        "Budget and failures",
        ("budget", "spaces", "failures"),
    ),
    ("reproduce", "Selection and reproduction", ("audit", "environment")),
)


def render(results: dict, study: dict) -> str:
    """The page.

    Args:
        results: What `lbcheck.report.results.collect` returned.
        study: The content of study.json, or only its "command" for runs that
            no study made.

    Returns:
        One HTML file without scripts and without anything to load.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    verdict = results["verdict"]
    return environment.get_template("report.html").render(
        study=results["study"],
        style=(_FOLDER / "report.css").read_text(encoding="utf-8"),
        sentence=_parts(sentence(results)),
        answer=verdict["answer"] if verdict else "running",
        notes=verdict["notes"] if verdict else [],
        facts=_facts(results),
        groups=_groups(results, study),
        stacked=("arms", "pairs"),
        version=results["study"]["lbcheck"],
    )


def sentence(results: dict) -> str:
    """The first line: the verdict, or that there is none yet."""
    if results["finished"]:
        return results["verdict"]["sentence"]
    rows = results["tables"]["budget"]
    done = sum(row["total"] for row in rows)
    planned = sum(row["planned"] for row in rows)
    if done >= planned:
        return (
            "No verdict yet: the challenge, further searches or the control "
            "are still running."
        )
    return (
        f"No verdict yet: the study is still running, {done:,} of {planned:,} "
        "trials are done."
    )


def _parts(text):
    """The first sentence and what follows it."""
    first, stop, rest = text.partition(". ")
    return (first + ".", rest) if stop else (text, "")


def _facts(results):
    study = results["study"]
    facts = [study["name"]]
    if study["trials"] is not None:
        trials = study["trials"] + study["refined_trials"]
        facts += [
            f"batch size {number(study['batch_size'])}",
            f"{number(study['steps'])} steps",
            f"{len(study['arms'])} arms",
            f"{number(trials)} search trials per arm",
            f"{number(study['seeds'])} seeds",
        ]
    if study["searches"]:
        facts.append(f"{number(study['searches'])} searches")
    if study["margin"] is not None:
        facts.append(f"margin {study['margin']:g} of {study['metric']['name']}")
    if study["target"] is not None:
        facts.append(f"target {metric(study['target'])}")
    return facts


def _groups(results, study):
    items = {table.name: table for table in page_tables.make(results)}
    for name, figure in figures.draw(results).items():
        if figure.panels:
            items[name] = figure
        elif figure.absence:
            items[name] = Text(figure.title, figure.absence, "")
    groups = []
    for section, title, names in _SECTIONS:
        for entry in figures.ALL:
            if entry.section == section:
                names += (entry.name, *entry.tables)
        names = dict.fromkeys(names)
        found = [(name, items[name]) for name in names if name in items]
        groups.append(Group(section, title, found))
    groups[-1].items.extend(("", text) for text in _commands(study))
    return [group for group in groups if group.items]


def _commands(study):
    command = study["command"]
    if not isinstance(command, str):
        program = pathlib.PurePath(command[0]).name
        command = shlex.join([program, *command[1:]])
    if "arms" not in study:  # of runs that no study made
        return [Text("Command", "", command)]
    texts = [
        Text(
            "Commands",
            "The first command runs the study again. The second, given in the "
            "study's folder, rebuilds this page from the records.",
            f"{command}\nlbcheck report .",
        )
    ]
    if study.get("flagfile"):
        texts.append(Text("Flagfile", "", study["flagfile"].rstrip()))
    return texts
