"""Runs published rows, and sets paper beside miniature.

A run that has ended is not run again, and one that was stopped goes on: its
programs continue what they find. Rows of several tables share one run.
"""

import concurrent.futures
import json
import os
import pathlib
import shlex
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from collections.abc import Iterable

from typing_extensions import NotRequired
from typing_extensions import TypedDict

from lbcheck.published import plans
from lbcheck.published.rows import Row
from lbcheck.support import exit_codes
from lbcheck.support import files
from lbcheck.support import processes
from lbcheck.support import schema

_RESULT = "result.json"
LOG = "log.txt"
_MEASUREMENTS = "measurements.jsonl"
_SCORES = "eval_results.json"
_STUDY = "results.json"
_BREATH = 0.2
"""Seconds between two looks at whether to stop."""

_NOT_COMPARABLE = (
    "The two scores of a row are not comparable: the miniature has other "
    "data, another model, a smaller batch and fewer updates."
)


class Result(TypedDict):
    """How a run ended: result.json in its folder."""

    status: schema.Name
    folder: NotRequired[str]  # as it was spelled; newer than the others
    commands: list[str]
    files: dict[str, str]
    seconds: schema.Seconds
    metric: schema.Name
    score: schema.Number | None


class Runner:
    """Runs rows in folders below one, several at a time.

    Args:
        folder: Where each run has a folder.
        scale: "mini" or "paper".
        num_workers: Runs at a time, at least 1.
        say: Is told what ends, as it ends.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        scale: str,
        num_workers: int = 1,
        say: Callable[[str], None] = print,
    ):
        self._folder, self._scale = pathlib.Path(folder), scale
        self._num_workers, self._say = num_workers, say
        self._running: set[subprocess.Popen] = set()
        self._stopped = False
        self._starting = threading.Lock()

    def run(self, rows: Iterable[Row]) -> dict[str, Result]:
        """Runs the rows that have a run, each run once.

        Returns:
            {name of a run: how it ended}, status "finished", "diverged" or
            "failed".

        Raises:
            ValueError, app.UsageError: A flagfile is not there or damaged, or
                a folder holds another run.
            KeyboardInterrupt: SIGTERM or Ctrl-C; what ran has been stopped.
        """
        wanted = {row.run: row for row in rows if row.no_run is None}
        made = {
            name: plans.plan(row, self._scale, self._folder / name)
            for name, row in wanted.items()
        }
        found = {name: self._earlier(name, made[name]) for name in made}
        with (
            processes.interruptible(),
            concurrent.futures.ThreadPoolExecutor(self._num_workers) as pool,
        ):
            futures = {
                name: pool.submit(self._work, row, made[name])
                for name, row in wanted.items()
                if found[name] is None
            }
            try:
                self._wait(futures.values())
            except BaseException:
                self._stop()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return found | {name: f.result() for name, f in futures.items()}

    def _wait(self, futures):
        left = set(futures)
        while left:
            processes.check_interrupted()
            done, left = concurrent.futures.wait(left, _BREATH)
            for future in done:
                future.result()

    def _stop(self):
        with self._starting:
            self._stopped = True
            for process in self._running:
                process.terminate()

    def _earlier(self, name, plan):
        """The result of a run that has ended; None: there is more to do."""
        folder = self._folder / name
        path = folder / _RESULT
        if not path.exists():
            return None
        found = schema.read(path, Result)
        there = found.get("folder", str(folder))
        theirs = _settings(found["files"], found["commands"], there)
        if theirs != _settings(plan.files, plan.lines(), str(folder)):
            raise ValueError(
                f"{folder} holds a run with other settings. Choose another "
                "--output_dir, or remove that folder."
            )
        return None if found["status"] == "failed" else found

    def _work(self, row, plan):
        folder = self._folder / row.run
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in plan.files.items():
            files.write_text(folder / name, text)
        start = time.monotonic()
        status = self._execute(plan.commands, folder / LOG)
        record = folder / plan.records[-1]
        result: Result = {
            "status": status,
            "folder": str(folder),
            "commands": plan.lines(),
            "files": plan.files,
            "seconds": time.monotonic() - start,
            "metric": plans.metric(row),
            "score": _score(record) if status == "finished" else None,
        }
        if not self._stopped:
            files.write_text(
                folder / _RESULT, json.dumps(result, indent=1) + "\n"
            )
            self._say(f"{row.run}: {status}, {result['seconds']:.0f} s")
        return result

    def _execute(self, commands, log):
        """Runs commands until one fails; what became of it."""
        for command in commands:
            with open(log, "ab") as file:
                process = self._start(command, file)
                code = process.wait()
            with self._starting:
                self._running.discard(process)
            if code != exit_codes.FINISHED:
                diverged = code == exit_codes.DIVERGED
                return "diverged" if diverged else "failed"
        return "finished"

    def _start(self, command, log):
        with self._starting:
            if self._stopped:
                raise KeyboardInterrupt
            process = subprocess.Popen(
                [sys.executable, *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for this process
            )
            self._running.add(process)
            return process


def _settings(files, commands, folder):
    """What decides a run, wherever its folder lies and however it is named."""
    words = [word for line in commands for word in shlex.split(line)]
    texts = [*files, *files.values(), *words]
    return [text.replace(folder, "") for text in texts]


def _score(record):
    """The score of a finished run: of a study, of fine-tuning, of training."""
    study = record / _STUDY
    if study.exists():
        arm = schema.read(study)["tables"]["arms"][0]
        return arm["median"]
    scores = [
        schema.read(path, dict[str, schema.Number])["f1"]
        for path in sorted(record.rglob(_SCORES))
    ]
    if scores:
        return statistics.median(scores)
    *_, (_, last) = schema.read_lines(record / _MEASUREMENTS, dict)
    return last["validation_accuracy"]


def table(rows: Iterable[Row], scale: str, results: dict[str, Result]) -> dict:
    """Paper beside miniature, a line for each row.

    Args:
        rows: The rows.
        scale: "mini" or "paper".
        results: What `Runner.run` returned.

    Returns:
        "scale"; "note", that scores of a miniature are not comparable; and
        "rows": "row", "paper" and "unit", the score as printed, "run",
        "status", "metric", "score" and "seconds" of its run; of a row without
        a run "status" says why.
    """
    return {
        "scale": scale,
        "note": _NOT_COMPARABLE if scale == "mini" else "",
        "rows": [_line(row, results.get(row.run)) for row in rows],
    }


def _line(row, result):
    line = {
        "row": row.name,
        "paper": row.expected(),
        "unit": row.about.get("unit", "") if row.expected() else "",
        "run": row.run,
        "status": f"no run: {row.no_run}",
        "metric": "",
        "score": None,
        "seconds": None,
    }
    if result is None:
        return line
    return line | {key: result[key] for key in line.keys() & result.keys()}
