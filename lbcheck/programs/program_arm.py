"""An arm of a study of a program: its flags, and what is searched of them.

Importing this module imports no framework.
"""

import pathlib
from typing import Any
from typing import NamedTuple

from lbcheck import optimizers
from lbcheck.programs import command_lines
from lbcheck.search import space as spaces
from lbcheck.support import flagfiles
from lbcheck.support import schema
from lbcheck.support import shipped

_KEYS = ("space", "flagfile", "layer_wise")
_OF_ALL_ARMS = ("batch_size", "train_steps", "train_epochs")


class ProgramArm(NamedTuple):
    """A flagfile with a search space over flags, or a flagfile alone.

    Attributes:
        name: What tables and figures call it.
        flags: {flag: the argument that sets it} of every trial.
        space: What is searched: names of its parameters are names of flags.
        optimizer: Value of --optimizer.
        schedule: Value of --schedule.
        layer_wise: Whether the rates are layer-wise.

    Example: the file my_lars.json

        {"flagfile": "flags/resnet/lars.flags",
         "space": {"points": "halton", "parameters": {
           "learning_rate": {"min": 5, "max": 50, "scale": "log"}}}}
    """

    name: str
    flags: dict[str, str]
    space: spaces.Space
    optimizer: str
    schedule: str
    layer_wise: bool

    def describe(self) -> dict[str, Any]:
        """The arm as JSON-able values, for study.json."""
        searched = self.space.parameters
        return {
            "optimizer": self.optimizer,
            "space": self.space.to_dict(),
            "schedule": self.schedule,
            "layer_wise": self.layer_wise,
            "fallback": None,
            "fixed": {
                name: command_lines.setting(argument)
                for name, argument in sorted(self.flags.items())
                if name not in searched
            },
        }

    def with_space(self, space: spaces.Space) -> "ProgramArm":
        """The same arm, which searches another space."""
        return self._replace(space=space)

    def arguments(self, point: dict[str, Any]) -> list[str]:
        """The program's arguments for a point of the space."""
        tuned = {n: command_lines.argument(n, v) for n, v in point.items()}
        return [*command_lines.merged(self.flags, tuned).values()]

    def __str__(self):
        return f"Arm {self.name}"


def load(
    text: str, base: command_lines.Flags, explicit: command_lines.Flags
) -> ProgramArm:
    """The arm that a word of a command line names.

    Args:
        text: A flagfile, such as lars.flags: an arm without a search; or a
            JSON file with "space" (an object or the name of a file) and
            optionally "flagfile" and "layer_wise"; or builtin:NAME for either
            that comes with lbcheck. The arm is called as the file.
        base: Flags of an arm that has no flagfile of its own.
        explicit: Flags that win over those of every flagfile.

    Raises:
        ValueError, OSError, absl.app.UsageError: A file cannot be read or is
            no arm; names it.
    """
    text = shipped.resolved(text)
    path = pathlib.Path(text)
    if path.suffix not in (".flags", ".json"):
        raise ValueError(
            f"Arm {text!r}: an arm of a program is a flagfile, such as "
            "lars.flags, or a JSON file with a space, such as lars.json."
        )
    described: dict[str, Any] = {"flagfile": text}
    if path.suffix == ".json":
        described = schema.read(path, dict[str, Any])
    unknown = sorted(set(described) - set(_KEYS))
    if unknown or (path.suffix == ".json" and "space" not in described):
        raise ValueError(
            f'{path}: expected "space" and optionally "flagfile" and '
            f'"layer_wise", received {", ".join(sorted(described)) or "{}"}.'
        )
    if "flagfile" in described:
        base = _of_file(described["flagfile"], path)
    flags = command_lines.merged(base, explicit)
    for name in ("optimizer", "schedule"):
        if command_lines.value(flags, name) is None:
            raise ValueError(
                f"{path}: no --{name}; put it into the arm's flagfile."
            )
    return _made(path, flags, described)


def _of_file(name, path):
    """The flags of an arm's flagfile, which may lie beside the arm's file."""
    if not isinstance(name, str):
        raise ValueError(
            f'{path}: "flagfile" must be the name of a file, received '
            f"{schema.shown(name)}."
        )
    found = pathlib.Path(shipped.resolved(name))
    if not found.exists() and (path.parent / name).exists():
        found = path.parent / name
    return command_lines.of_run(flagfiles.expanded([f"--flagfile={found}"]))


def _made(path, flags, described):
    optimizer = command_lines.value(flags, "optimizer")
    known = optimizers.BY_NAME.get(optimizer)
    layer_wise = described.get("layer_wise", known and known.adapts())
    if not isinstance(layer_wise, bool):
        raise ValueError(
            f'{path}: "layer_wise" must be true or false for the optimizer '
            f"{schema.shown(optimizer)}, received {schema.shown(layer_wise)}."
        )
    space = _space(path, described.get("space"), flags)
    for name in (*command_lines.OF_THE_STUDY, *_OF_ALL_ARMS):
        if name in space.parameters:
            raise ValueError(
                f"{path}: {name} cannot be searched: it is the study's, and "
                "the same for all trials that are compared."
            )
    return ProgramArm(
        path.stem,
        flags,
        space,
        optimizer,
        command_lines.value(flags, "schedule"),
        layer_wise,
    )


def _space(path, described, flags):
    if described is None:
        return _constant(path, flags)
    if isinstance(described, str):
        file = pathlib.Path(described)
        beside = path.parent / described
        return spaces.Space.load(beside if beside.exists() else file)
    if isinstance(described, dict) and "parameters" not in described:
        described = {"points": "halton", "parameters": described}
    return spaces.Space.from_dict(described, origin=str(path))


def _constant(path, flags):
    """The space of one point, the learning rate that the flags have."""
    text = command_lines.value(flags, "learning_rate")
    try:
        rate = float(text)
    except (TypeError, ValueError):
        raise ValueError(
            f"{path}: an arm without a space needs --learning_rate, received "
            f"{schema.shown(text)}."
        ) from None
    return spaces.Space.from_dict(
        {"points": "halton", "parameters": {"learning_rate": {"value": rate}}},
        origin=str(path),
    )
