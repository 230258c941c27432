"""The record of a run: one folder that says what was run and what came out.

flags.txt            the flagfile that runs it again
run.json             versions, commit, devices, seed, resolved settings
selection.txt        what is decayed and adapted, variable by variable
measurements.jsonl   one line an interval; the same bits at every rerun
measurements.csv     the same as a table
timing.jsonl         examples per second of each interval
status.json          running, finished, diverged, interrupted or refused
checkpoints/         see checkpoints.py
tensorboard/         event files
model.weights.h5     Keras weights, when finished
"""

import csv
import fcntl
import importlib.metadata
import io
import json
import pathlib
import platform
import subprocess
import sys

import lbcheck
from lbcheck.support import files
from lbcheck.training import checkpoints

FLAGS = "flags.txt"
STATUS = "status.json"
_MEASUREMENTS = "measurements.jsonl"
_TIMING = "timing.jsonl"


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
        self._lock = None
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
        self._lock = open(self.folder / "lock", "w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(
                f"{self.folder}: another process is writing this record."
            ) from error
        self._write(FLAGS, self._flagfile)
        run = self.folder / "run.json"
        starts = json.loads(run.read_text())["starts"] if run.exists() else []
        self._write(run.name, _json({**settings, "starts": [*starts, start]}))
        self._write("selection.txt", selection + "\n")
        self.set_status("running")

    def release(self) -> None:
        """Lets another process write; the last call."""
        if self._lock:
            self._lock.close()

    def set_status(self, status: str, **details) -> None:
        """Replaces status.json."""
        self._write(STATUS, _json({"status": status, **details}))

    def status(self) -> dict:
        """What status.json says; {} before `begin`."""
        try:
            return json.loads((self.folder / STATUS).read_text())
        except FileNotFoundError:
            return {}

    def measurements(self) -> list[dict]:
        """All lines of measurements so far."""
        return _lines(self.folder / _MEASUREMENTS)

    def measure(self, line: dict, timing: dict) -> None:
        """Adds one interval's numbers."""
        for name, numbers in ((_MEASUREMENTS, line), (_TIMING, timing)):
            with open(self.folder / name, "a") as file:
                file.write(json.dumps(numbers) + "\n")

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

    def _check_owner(self):
        flags = self.folder / FLAGS
        if flags.exists():
            theirs, ours = flags.read_text(), self._flagfile
            if _identity(theirs) != _identity(ours):
                raise ValueError(
                    f"{self.folder} holds another run; it differs in "
                    f"{_difference(theirs, ours)}. Choose another "
                    "--output_dir, or give the same flags to go on with it."
                )
        elif self.folder.exists() and (
            not self.folder.is_dir()
            or any(
                p.suffix != files.PART and p.name != "lock"
                for p in self.folder.iterdir()
            )
        ):
            raise ValueError(
                f"{self.folder} is not empty and holds no record of a run "
                f"(no {FLAGS}). Choose another --output_dir."
            )

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


def _difference(theirs, ours):
    theirs, ours = _identity(theirs), _identity(ours)
    changed = [f"{line} (there)" for line in sorted(theirs - ours)]
    changed += [f"{line} (here)" for line in sorted(ours - theirs)]
    return ", ".join(changed)


def _json(value):
    return json.dumps(value, indent=2, default=str) + "\n"


def _lines(path):
    """The whole lines of a JSONL file; one cut short by a kill is left out."""
    if not path.exists():
        return []
    whole = path.read_text().rpartition("\n")[0]
    return [json.loads(line) for line in whole.splitlines()]
