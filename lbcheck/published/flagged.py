"""Flagfiles and search spaces of published rows, read as data."""

import pathlib
import re
from typing import Any

from typing_extensions import TypedDict

from lbcheck.support import flagfiles
from lbcheck.support import schema
from lbcheck.support import shipped

Settings = dict[str, str]
"""{flag: the text of its value}."""

_SAYS = ("Published", "Inferred", "In doubt", "Ours", "Data")
"""What a paragraph or sentence of a flagfile's comment begins with."""


class _Space(TypedDict):
    parameters: dict[schema.Name, dict[str, Any]]


def names(pattern: str) -> list[str]:
    """Files under flags/ of a pattern, such as "resnet/*.flags".

    Raises:
        ValueError: There is no such folder.
    """
    folder = shipped.path("flags")
    found = folder.glob(pattern)
    return sorted(str(file.relative_to(folder)) for file in found)


def path(name: str) -> pathlib.Path:
    """A file under flags/.

    Raises:
        ValueError: It is not there; says where it was looked for.
    """
    found = shipped.path("flags") / name
    if not found.is_file():
        raise ValueError(f"{found}: no such file, which a published row names.")
    return found


def settings(name: str) -> Settings:
    """{flag: value} of a flagfile; a switch has "true" or "false".

    Raises:
        ValueError, app.UsageError: It is not there, or no flagfile.
    """
    found = {}
    for argument, _ in flagfiles.expanded([f"--flagfile={path(name)}"]):
        flag, equals, value = argument.lstrip("-").partition("=")
        if not equals:
            value = str(not flag.startswith("no")).lower()
            flag = flag.removeprefix("no")
        found[flag] = value
    return found


def text(found: Settings) -> str:
    """The flagfile that sets these."""
    return "".join(f"--{flag}={value}\n" for flag, value in found.items())


def space(name: str) -> dict[str, Any]:
    """The content of a search space's file.

    Raises:
        ValueError: It is not there, or no space.
    """
    return schema.read(path(name), _Space)


def comment(name: str) -> str:
    """The comment of a flagfile, or the note of a space, as one paragraph."""
    if name.endswith(".json"):
        return space(name).get("note", "")
    lines = path(name).read_text(encoding="utf-8").splitlines()
    return " ".join(n.lstrip("# ") for n in lines if n.startswith("#"))


def says(name: str, what: str) -> str:
    """The part of a flagfile's comment that begins with a word.

    Args:
        name: Of the flagfile.
        what: "Published", "Inferred", "In doubt", "Ours" or "Data".

    Returns:
        The texts up to the next such word; "" where there is none.
    """
    parts = re.split(rf"\b({'|'.join(_SAYS)}): ", comment(name))
    return " ".join(
        part.strip()
        for word, part in zip(parts[1::2], parts[2::2])
        if word == what
    )
