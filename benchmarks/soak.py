"""Long and large: 500 trials, 16 workers, a report of 10,000 records.

    python benchmarks/soak.py
    python benchmarks/soak.py --parts=report

Parts:

trials   A study in one process: the memory after each trial, and by how much
         it grows after the first 50.
workers  16 workers on one PostgreSQL, whose trials take half a second and no
         processor: trials a second beside what they are without a ledger.
         Every worker must find every trial, once.
report   `lbcheck report` of four arms and of two, 10,000 records each.
"""

import concurrent.futures
import json
import multiprocessing
import pathlib
import subprocess
import sys
import tempfile
import time

import common
from absl import flags

_SELECTED = flags.DEFINE_list(
    "parts", ["trials", "workers", "report"], "What to measure."
)
_TRIALS = flags.DEFINE_integer("trials", 500, "Of part trials.", 2)
_WORKERS = flags.DEFINE_integer("workers", 16, "Of part workers.", 1)
_RECORDS = flags.DEFINE_integer("records", 10_000, "Of part report.", 100)
_FIRST = 50
"""Trials after which memory is to stay as it is."""
_SECONDS = 0.5
"""What a pretended trial takes."""
_POSTGRESQL = "/usr/lib/postgresql"


def trials():
    """Memory after each of many trials of one process."""
    count, first = common.sized((_TRIALS.value, _FIRST), (4, 1))
    done = subprocess.run(
        [
            sys.executable,
            pathlib.Path(__file__).with_name("study_trials.py"),
            "ours",
            str(count),
        ],
        env=common.environment(),
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    series = json.loads(done.stdout.splitlines()[-1])["resident"]
    every = max(1, count // 50)
    common.tell(
        f"memory after {count} trials in one process",
        max(series[first:]),
        "MB",
        series[first - 1],
        f"after {first}",
        series=[round(size, 1) for size in series[::every]],
    )


def server():
    """A PostgreSQL of its own, as a context."""
    found = sorted(pathlib.Path(_POSTGRESQL).glob("*/bin/initdb"))
    if not found:
        raise common.Skipped("Debian's package postgresql is not installed.")
    for module in ("psycopg", "pytest"):
        common.need(module, "pip install '.[test]'")
    from tests.study import postgresql_test

    return postgresql_test.Server(found[-1].parent)


def workers():
    """Trials a second of many workers on one database."""
    count = common.sized(_WORKERS.value, 2)
    with server() as database, tempfile.TemporaryDirectory() as home:
        from lbcheck.study import protocol
        from lbcheck.study import study_folder
        from tests.study import ledger_worker

        study = ledger_worker.make_study(
            trials=common.sized(20 * count, 2), refined_trials=0, seeds=1
        )
        total = protocol.Protocol(study).total
        processes = multiprocessing.get_context("forkserver")
        processes.set_forkserver_preload(["tests.study.ledger_worker"])
        began = time.perf_counter()
        with concurrent.futures.ProcessPoolExecutor(count, processes) as pool:
            runs = [
                pool.submit(
                    ledger_worker.run_in_storage,
                    pathlib.Path(home, str(number)),
                    study,
                    database.url(),
                    _SECONDS,
                )
                for number in range(count)
            ]
            for run in runs:
                run.result()
        seconds = time.perf_counter() - began
        texts = {
            pathlib.Path(home, str(number), study_folder.TRIALS).read_bytes()
            for number in range(count)
        }
    (text,) = texts  # all workers have found the same
    keys = {
        (record["arm"], record["stage"], record["index"])
        for record in map(json.loads, text.splitlines())
    }
    if not len(keys) == len(text.splitlines()) == total:
        raise RuntimeError(f"{len(keys)} trials of {total} are there.")
    common.tell(
        f"{count} workers on one PostgreSQL, {total} trials",
        total / seconds,
        "trials/s",
        count / _SECONDS,
        "without a ledger",
        better="more",
    )


def report():
    """Seconds and size of the report of many records."""
    from tests.report import synthetic_study

    records = common.sized(_RECORDS.value, 100)
    for arms in (("nesterov", "lars", "adamw", "lamb"), ("nesterov", "lars")):
        share = records // len(arms) // 5
        study = synthetic_study.make_study(arms, 4 * share, share)
        with tempfile.TemporaryDirectory() as home:
            folder = synthetic_study.write(
                f"{home}/study", study, synthetic_study.make_records(study)
            )
            began = common.processor_seconds()
            seconds = common.lbcheck("report", folder)
            used = common.processor_seconds() - began
            size = (folder / "report.html").stat().st_size / 1e6
        what = f"{records:,} records of {len(arms)} arms"
        common.tell(
            f"`lbcheck report`, {what}", seconds, "s", processor_seconds=used
        )
        common.tell(f"report.html, {what}", size, "MB")


def main(argv):
    """Runs the parts asked for; says what could not be measured."""
    del argv
    common.run_parts(
        _SELECTED.value,
        {"trials": trials, "workers": workers, "report": report},
    )


if __name__ == "__main__":
    common.start(main)
