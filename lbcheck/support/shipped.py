"""Where the project's own data files are: in a checkout, or in the package.

The folders flags and docs/reproductions are at the top of a checkout; setup.py
puts them into an installed package. Names are relative to that top. On command
lines `builtin:NAME` is the file of that name under flags/, wherever it is.
"""

import difflib
import os
import pathlib

_PACKAGE = pathlib.Path(__file__).parents[1]
ROOT = next(
    folder
    for folder in (_PACKAGE / "shipped", _PACKAGE.parent)
    if folder.is_dir()
)
"""The folder that they are in."""

BUILTIN = "builtin:"
"""Begins what names a file under flags/ on a command line."""
_FLAGS = "flags"
_SUFFIXES = ("", ".flags", ".json")


def path(name: str) -> pathlib.Path:
    """A file or folder that comes with lbcheck.

    Args:
        name: From the top of a checkout, as "flags/quick.flags".

    Raises:
        ValueError: There is none; says where it was looked for.
    """
    found = ROOT / name
    if not found.exists():
        raise ValueError(
            f"{found}: no such file or folder. It comes with lbcheck; this "
            "copy is not whole: install the wheel, or the whole checkout."
        )
    return found


def resolved(text: str) -> str:
    """The path that a word of a command line means; others stay as they are.

    >>> resolved("mine.flags")
    'mine.flags'
    >>> pathlib.Path(resolved("builtin:quick")).name
    'quick.flags'

    Raises:
        ValueError: No file under flags/ has the name; says what may be meant.
    """
    if not text.startswith(BUILTIN):
        return text
    folder, name = path(_FLAGS), text.removeprefix(BUILTIN)
    names = [str(f.relative_to(folder)) for f in sorted(folder.rglob("*.*"))]
    for suffix in _SUFFIXES:
        if f"{name}{suffix}" in names:
            return str(folder / f"{name}{suffix}")
    close = difflib.get_close_matches(name, names, 3, 0.5)
    meant = ", ".join(f"{BUILTIN}{other}" for other in close or names[:3])
    raise ValueError(
        f"{text}: lbcheck comes with no such file; there are {meant} and "
        f"others in {folder}."
    )


def named(file: os.PathLike[str]) -> str:
    """How a command line names a file under flags/, from the working folder.

    Args:
        file: What `path` returned.

    Returns:
        The path from the working folder where it is in it, else builtin:NAME.
    """
    here, file = pathlib.Path.cwd(), pathlib.Path(file)
    if file.is_relative_to(here):
        return str(file.relative_to(here))
    return f"{BUILTIN}{file.relative_to(ROOT / _FLAGS)}"
