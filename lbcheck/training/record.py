"""The record of a run: one folder that says what was run and what came out.

flags.txt            the flagfile that runs it again
run.json             versions, commit, devices, seed, resolved settings
selection.txt        what is decayed and adapted, variable by variable
measurements.jsonl   one line per interval; the same bits at every rerun
measurements.csv     the same as a table
timing.jsonl         examples per second of each interval
status.json          running, finished, diverged, interrupted or refused
checkpoints/         see checkpoints.py
tensorboard/         event files
model.weights.h5     Keras weights, when finished
"""

import contextlib
import csv
import errno
import importlib.metadata
import io
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
from typing import Annotated
from typing import NamedTuple

import msgspec
from typing_extensions import NotRequired
from typing_extensions import TypedDict

import lbcheck
from lbcheck.support import files
from lbcheck.support import schema
from lbcheck.training import checkpoints

FLAGS = "flags.txt"
STATUS = "status.json"
RUN = "run.json"
_MEASUREMENTS = "measurements.jsonl"
_TIMING = "timing.jsonl"
_LOCK = "lock"
_FOLDERS = ("checkpoints", "tensorboard")
_ENDED = ("finished", "diverged")
_LARGEST_FLAGFILE = 2**20
_VARIABLES = (
    "CUBLAS_WORKSPACE_CONFIG",
    "DNNL_MAX_CPU_ISA",
    "JAX_DEFAULT_MATMUL_PRECISION",
    "JAX_DEFAULT_PRNG_IMPL",
    "JAX_ENABLE_X64",
    "JAX_THREEFRY_PARTITIONABLE",
    "NVIDIA_TF32_OVERRIDE",
    "ONEDNN_MAX_CPU_ISA",
    "TF_CUDNN_DETERMINISTIC",
    "TF_DETERMINISTIC_OPS",
    "TF_ENABLE_ONEDNN_OPTS",
    "TF_XLA_FLAGS",
    "XLA_FLAGS",
)
"""Of the environment, by which numbers change."""


class _Run(TypedDict):
    starts: list[dict]
    examples: NotRequired[dict[str, schema.Index]]
    settings: NotRequired[dict]


class _Status(TypedDict):
    status: schema.Name
    step: NotRequired[schema.Index]
    first_non_finite_step: NotRequired[
        Annotated[int, msgspec.Meta(ge=-1, le=schema.COUNT)]
    ]
    first_non_finite_variable: NotRequired[str | None]


class _Line(TypedDict):
    step: schema.Count


class _Timing(_Line):
    examples_per_second: Annotated[float, msgspec.Meta(gt=0)]


class Ended(NamedTuple):
    """What the folder of a run says, for those who only read it.

    Attributes:
        folder: Where it lies.
        status: The content of status.json; {} if there is none.
        measurements: One dict per line.
        timing: One dict per line.
    """

    folder: pathlib.Path
    status: dict
    measurements: list[dict]
    timing: list[dict]

    def final(self) -> dict:
        """The last line of a finished run, after all of its updates.

        Raises:
            ValueError: There is none; names the file.
        """
        step = self.status.get("step")
        last = self.measurements[-1]["step"] if self.measurements else None
        if last is None or last != step:
            raise ValueError(
                f"{self.folder / _MEASUREMENTS}: a finished run has a last "
                f'line of the "step" that {STATUS} has; received '
                f"{'no line' if last is None else last}, and {step} there."
            )
        return self.measurements[-1]


def read(folder) -> Ended:
    """What the folder of a run says.

    Raises:
        ValueError, OSError: A file is damaged; names it.
    """
    folder = pathlib.Path(folder)
    status = _status(folder)
    ended = status.get("status") in _ENDED
    return Ended(
        folder,
        status,
        _lines(folder / _MEASUREMENTS, ended=ended),
        _lines(folder / _TIMING, _Timing, ended=ended),
    )


def phases(folder) -> list[pathlib.Path]:
    """The folders of the phases of a run that were begun; else its own."""
    found = [pathlib.Path(folder, f"phase{number}") for number in (1, 2)]
    return [p for p in found if p.exists()] or [pathlib.Path(folder)]


class Record:
    """The folder of one run. Nothing is written before `begin`.

    Args:
        folder: Where it lies.
        flagfile: Text of the flagfile that runs it again.

    Raises:
        ValueError: The folder holds another run, or other things.
    """

    def __init__(self, folder, flagfile: str):
        self.folder = pathlib.Path(folder)
        self._flagfile = flagfile
        self.checkpoints = checkpoints.of(self.folder)
        self._held = contextlib.ExitStack()
        self._check_owner()

    def begin(self, settings: dict, start: dict, selection: str) -> None:
        """Makes the folder with all that is known before training.

        Args:
            settings: What stays the same however often the run is resumed.
            start: What `describe_start` says of this start.
            selection: Table of what is decayed and adapted.

        Raises:
            ValueError: Another process has begun and not ended.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._held.enter_context(
                files.lock(self.folder / _LOCK, wait=False)
            )
        except BlockingIOError as error:
            raise ValueError(
                f"{self.folder}: another process is writing this record."
            ) from error
        self._write(FLAGS, self._flagfile)
        starts = [*self._known().get("starts", []), start]
        self._write(RUN, _json({**settings, "starts": starts}))
        self._write("selection.txt", selection + "\n")
        self.set_status("running")

    def release(self) -> None:
        """Lets another process write; the last call."""
        self._held.close()

    def set_status(self, status: str, **details) -> None:
        """Replaces status.json."""
        self._write(STATUS, _json({"status": status, **details}))

    def status(self) -> dict:
        """What status.json says; {} before `begin`."""
        return _status(self.folder)

    def measurements(self) -> list[dict]:
        """All lines of measurements so far."""
        return _lines(self.folder / _MEASUREMENTS)

    def resumable(self, every: int, total: int):
        """The newest whole checkpoint whose measurements are all there.

        Where the last line is cut short, the checkpoint before it; the
        updates in between give the line again.

        Args:
            every: Updates between two lines.
            total: Updates of the run, after which is the last line.

        Returns:
            (step, {name: array}), or None.

        Raises:
            ValueError: Lines are missing that no checkpoint can give again.
        """
        lines = self.measurements()
        measured = lines[-1]["step"] if lines else 0

        def usable(step):
            last_line = step if step == total else step // every * every
            return last_line <= measured

        oldest = self.checkpoints.oldest_step()
        if oldest is not None and not usable(oldest):
            raise ValueError(
                f"{self.folder / _MEASUREMENTS} ends after {measured} updates, "
                f"the oldest checkpoint is after {oldest}: lines are missing. "
                "Choose another --output_dir."
            )
        return self.checkpoints.newest(usable)

    def check_place(self) -> None:
        """Refuses a folder in which nothing can be written.

        Raises:
            OSError: It is no folder or read-only.
        """
        place = self.folder.absolute()
        while not os.path.lexists(place):
            place = place.parent
        if not place.is_dir():
            reason = os.strerror(errno.ENOTDIR)
            raise NotADirectoryError(errno.ENOTDIR, reason, str(place))
        try:
            tempfile.TemporaryDirectory(dir=place, prefix=".").cleanup()
        except OSError as error:
            what = f"nothing can be written there ({error.strerror})"
            raise OSError(error.errno, what, str(place)) from error

    def measure(self, line: dict, timing: dict) -> None:
        """Adds one interval's numbers; they stay if the machine fails."""
        for name, numbers in ((_MEASUREMENTS, line), (_TIMING, timing)):
            with open(self.folder / name, "a") as file:
                file.write(json.dumps(numbers) + "\n")
                file.flush()
                os.fsync(file.fileno())

    def forget_after(self, step: int) -> None:
        """Drops what was measured later than a checkpoint that is resumed."""
        for name in (_MEASUREMENTS, _TIMING):
            lines = _lines(self.folder / name)
            kept = [line for line in lines if line["step"] <= step]
            self._write(name, "".join(json.dumps(n) + "\n" for n in kept))

    def tabulate(self) -> None:
        """Writes the measurements as a table."""
        lines = self.measurements()
        names = list(dict.fromkeys(name for line in lines for name in line))
        table = io.StringIO()
        writer = csv.DictWriter(table, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
        self._write("measurements.csv", table.getvalue())

    def check_continues(self, examples: dict, settings: dict) -> None:
        """Refuses other data or another model than the run began with.

        The flags are equal by now; the files that they name may not be.

        Args:
            examples: {part of the data: number of examples}.
            settings: What `begin` is to write, of which objects count: no
                flag holds one, so that they follow from flags and files.

        Raises:
            ValueError: Names the file and what differs.
        """
        known = self._known()
        before = known.get("settings", {})
        pairs = [("examples", known.get("examples"), examples)]
        pairs += [
            (name, before.get(name), now) for name, now in settings.items()
        ]
        for name, there, here in json.loads(_json(pairs)):
            if not (isinstance(there, dict) and isinstance(here, dict)):
                continue
            for key, value in here.items():
                if there.get(key, value) != value:
                    raise ValueError(
                        f"{self.folder / RUN}: the run began with {name}: "
                        f"{key} {schema.shown(there[key])}, now it is "
                        f"{schema.shown(value)}: a file that its flags name "
                        "was changed. Choose another --output_dir, or undo it."
                    )

    def _known(self):
        """What run.json says; {} before `begin`."""
        path = self.folder / RUN
        return schema.read(path, _Run) if path.exists() else {}

    def _check_owner(self):
        flags = self.folder / FLAGS
        if flags.exists():
            self._check_contents()
            theirs, ours = _text(flags), self._flagfile
            if _identity(theirs) != _identity(ours):
                raise ValueError(
                    f"{self.folder} holds another run; it differs in "
                    f"{difference(theirs, ours)}. Choose another "
                    "--output_dir, or give the same flags to go on with it."
                )
        elif self.folder.exists() and (
            not self.folder.is_dir()
            or any(
                p.suffix != files.PART and p.name != _LOCK
                for p in self.folder.iterdir()
            )
        ):
            raise ValueError(
                f"{self.folder} is not empty and holds no record of a run "
                f"(no {FLAGS}). Choose another --output_dir."
            )

    def _check_contents(self):
        """Refuses a damaged record before anything is computed."""
        for name in _FOLDERS:
            path = self.folder / name
            if path.exists() and not path.is_dir():
                raise ValueError(f"{path}: expected a folder.")
        self.status()
        self._known()
        for name in (_MEASUREMENTS, _TIMING):
            _lines(self.folder / name)

    def _write(self, name, text):
        files.write_text(self.folder / name, text)


def describe_start(step: int, devices: list[str]) -> dict:
    """With what the updates after `step` are computed."""
    return {
        "after_step": step,
        "command": sys.argv,
        "devices": devices,
        "versions": {
            "lbcheck": lbcheck.__version__,
            "python": platform.python_version(),
            **_versions("tensorflow", "tf-keras", "keras", "jax", "numpy"),
        },
        "variables": [
            f"{name}={os.environ[name]}"
            for name in _VARIABLES
            if name in os.environ
        ],
        "machine": platform.platform(),
        "commit": _commit(),
    }


def _versions(*packages):
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _commit():
    """Commit of lbcheck's own checkout, "+" if it was changed; or None."""
    here = pathlib.Path(lbcheck.__file__).parent

    def git(*arguments):
        return subprocess.run(
            ["git", "-C", str(here), *arguments],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()

    try:
        if not git("ls-files", "__init__.py"):
            return None  # installed into somebody else's repository
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _identity(flagfile):
    """Its lines; the same folder may be spelled in many ways."""
    lines = flagfile.splitlines()
    return {line for line in lines if not line.startswith("--output_dir=")}


def difference(theirs: str, ours: str) -> str:
    """In which lines two flagfiles differ, apart from --output_dir; or ""."""
    theirs, ours = _identity(theirs), _identity(ours)
    changed = [f"{line} (there)" for line in sorted(theirs - ours)]
    changed += [f"{line} (here)" for line in sorted(ours - theirs)]
    return ", ".join(changed)


def _json(value):
    return json.dumps(value, indent=2, default=str) + "\n"


def _text(path):
    """A flagfile; one that is damaged is another run's."""
    content = schema.read_bytes(path, _LARGEST_FLAGFILE)
    try:
        return content.decode()
    except UnicodeError as error:
        raise ValueError(f"{path}: not UTF-8: {error.reason}.") from error


def _status(folder):
    path = folder / STATUS
    return schema.read(path, _Status) if path.exists() else {}


def _lines(path, kind=_Line, *, ended=False):
    """The lines of a JSONL file, whose steps increase.

    Of a run that has not ended a last line that a kill cut short is missing.
    """
    if not path.exists():
        return []
    *lines, rest = schema.read_bytes(path).split(b"\n")
    if rest and ended:
        lines.append(rest)
    found, before = [], 0
    for number, line in enumerate(lines, 1):
        where = f"{path}:{number}"
        numbers = schema.parse(line, kind, where)
        if numbers["step"] <= before:
            raise ValueError(
                f"{where}: step must be more than that of the line before, "
                f"{before}, received {numbers['step']}. Where a run began "
                "anew below its old lines, remove its folder."
            )
        before = numbers["step"]
        found.append(numbers)
    return found
