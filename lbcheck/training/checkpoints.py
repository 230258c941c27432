"""Checkpoints: whole or not there, and the newest whole one is found.

A checkpoint is a NumPy .npz file, `step-000000120.npz`, written next to its
place and renamed into it. Each array in it carries a CRC-32, so that a file
that was cut short or damaged is noticed when it is read.
"""

import json
import logging
import pathlib
import re
from typing import TypedDict

import numpy as np

from lbcheck.support import files
from lbcheck.support import npz
from lbcheck.support import schema

_NAME = re.compile(r"step-(\d{9})\.npz")
_DESCRIPTION = "description"


class _Description(TypedDict):
    step: schema.Index
    names: list[str]


class Checkpoints:
    """The checkpoints of one folder.

    Args:
        folder: Where they lie; made when the first is saved.
        keep: How many of the newest are kept. After a signal's checkpoint the
            two before it stay, too, as the last of these may miss its
            measurements.
    """

    def __init__(self, folder, keep: int = 3):
        self._folder = pathlib.Path(folder)
        self._keep = keep

    def save(self, step: int, arrays: dict[str, np.ndarray]) -> None:
        """Writes the state after `step` updates and drops old ones."""
        self._folder.mkdir(parents=True, exist_ok=True)
        description = json.dumps({"step": step, "names": list(arrays)})
        numbered = {f"array_{i}": a for i, a in enumerate(arrays.values())}
        numbered[_DESCRIPTION] = np.array(description)
        with files.replacing(self._folder / f"step-{step:09d}.npz") as file:
            np.savez(file, **numbered)
        for old in self._paths()[self._keep :]:
            old.unlink(missing_ok=True)

    def newest(self, usable=lambda step: True):
        """(step, {name: array}) of the newest whole checkpoint, or None.

        Args:
            usable: Which to look at, by the number of updates.
        """
        for path in self._paths():
            if not usable(_step(path)):
                continue
            try:
                return _read(path)
            except (OSError, ValueError) as error:
                logging.warning(
                    "Checkpoint %s is damaged (%s); the one before it is used.",
                    path,
                    error,
                )
        return None

    def oldest_step(self) -> int | None:
        """Updates before the oldest checkpoint; None without any."""
        paths = self._paths()
        return _step(paths[-1]) if paths else None

    def _paths(self):
        if not self._folder.is_dir():
            return []
        found = (p for p in self._folder.iterdir() if _NAME.fullmatch(p.name))
        return sorted(found, reverse=True)


def of(output_dir) -> Checkpoints:
    """The checkpoints of a run's folder."""
    return Checkpoints(pathlib.Path(output_dir) / "checkpoints")


def _step(path):
    return int(_NAME.fullmatch(path.name)[1])


def _read(path):
    arrays = npz.read(path)
    if _DESCRIPTION not in arrays:
        raise ValueError(f"{path}: no checkpoint: it has no {_DESCRIPTION!r}.")
    text = str(arrays.pop(_DESCRIPTION))
    found = schema.parse(text, _Description, f"{path}: {_DESCRIPTION}")
    names = found["names"]
    expected = [f"array_{index}" for index in range(len(names))]
    if sorted(arrays) != sorted(expected) or found["step"] != _step(path):
        raise ValueError(
            f"{path}: its description lists {len(expected)} arrays after "
            f"{found['step']} updates, but it has {len(arrays)}."
        )
    return found["step"], {n: arrays[e] for n, e in zip(names, expected)}


def assign(variables: dict, arrays: dict[str, np.ndarray], where) -> None:
    """Assigns a checkpoint's arrays to the variables of the same names.

    Args:
        variables: {name: Keras or TensorFlow variable}.
        arrays: {name: array}.
        where: What to call the checkpoint in an error.

    Raises:
        ValueError: A name is on one side only, or a shape differs.
    """
    for names, problem in (
        (variables.keys() - arrays.keys(), "is missing"),
        (arrays.keys() - variables.keys(), "belongs to no variable here"),
    ):
        if names:
            raise ValueError(
                f"{where}: {sorted(names)[0]!r} {problem} ({len(names)} in "
                "all); the checkpoint is of another model or optimizer."
            )
    for name, variable in variables.items():
        if tuple(variable.shape) != arrays[name].shape:
            path = getattr(variable, "path", variable.name)
            raise ValueError(
                f"{where}: {name!r} has shape {arrays[name].shape}, here it "
                f"is {path} with {tuple(variable.shape)}."
            )
        variable.assign(arrays[name])
