"""Runs every script of this folder; `make bench`.

    python benchmarks/run.py
    python benchmarks/run.py --only=squad,study
    python benchmarks/run.py --smoke --results=/tmp/lines.jsonl

One after another, each with its arguments and its budget in `SCRIPTS`, that all
of them take less than an hour on two idle cores. Their lines of JSON are
appended to benchmarks/results.jsonl, of which docs/benchmarks.md is made. A
script that cannot measure here gives the reason, and so does one that its
budget did not suffice for. Exit code 1: a script failed.
"""

import datetime
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from typing import NamedTuple

import common
import page
from absl import app
from absl import flags

_OUTPUT = flags.DEFINE_string(
    "results", str(page.LINES), "File that the lines are appended to."
)
_ONLY = flags.DEFINE_list("only", None, "Scripts by name; unset: all.")
_MINUTES = flags.DEFINE_integer(
    "minutes", 58, "For all; what is left of them limits a script, too.", 1
)
_FOLDER = pathlib.Path(__file__).parent
_FOR_ROUNDS = 0.75
"""Part of a script's budget after which it begins no further round."""


class Script(NamedTuple):
    """How a script is run.

    Attributes:
        runs: Its arguments, for each time that it is run.
        budget: Seconds for each of them, at most.
    """

    runs: tuple = ((),)
    budget: int = 300


SCRIPTS = {
    "gpu": Script(budget=720),
    "tpu_compile": Script(
        (
            (
                "--program=resnet.train",
                "--flagfile=flags/resnet/nesterov_b.flags",
            ),
        ),
        300,
    ),
    "theory_bounds": Script(budget=120),
    "interval_coverage": Script((("--draws=200",),), 240),
    "verdict_errors": Script(
        (
            ("--surface=steep", "--draws=100"),
            ("--surface=steep", "--ahead=4", "--draws=40"),
        ),
        180,
    ),
    "plan_published": Script(budget=120),
    "plan_measured": Script((("--case=BERT mini, 128 tokens, 32",),), 180),
    "optimizer_step": Script(
        (
            ("--model=resnet", "--repeats=5", "--rules=AdamW,LAMB,LARS"),
            ("--model=bert", "--repeats=5", "--rules=AdamW,LAMB,LARS"),
            ("--model=resnet", "--repeats=3", "--rules=Lion,NAdamW,Muon"),
            (
                "--model=resnet",
                "--backend=jax",
                "--repeats=5",
                "--rules=LAMB,Lion,NAdamW,AdEMAMix,ScheduleFreeAdamW",
            ),
        ),
        480,
    ),
    "study": Script(
        (("--parts=trials",), ("--parts=memory,workers,start,report",)), 360
    ),
    "bert_step": Script(
        (
            ("--rounds=5",),
            (
                "--bert_config=base",
                "--batch_size=8",
                "--rounds=3",
                "--optimizer=lamb",
            ),
        ),
        240,
    ),
    "resnet_step": Script((("--rounds=3",),), 240),
    "jpeg_input": Script((("--rounds=7",),), 150),
    "accumulation_memory": Script((("--batch_sizes=512,2048",),), 240),
    "pretraining_data": Script((("--rounds=2", "--memory=10,40"),), 300),
    "squad": Script((("--rounds=2", "--copies=1,4"),), 240),
    "batched_trials": Script((("--rounds=1", "--trials_of_peers=20"),), 480),
    "scaling": Script(budget=300),
    "soak": Script((("--parts=trials",), ("--parts=workers,report",)), 360),
}
OTHERS = ("common", "page", "run", "study_trials", "tpu_operations")
"""What measures nothing by itself; tpu_operations writes a table of lbcheck."""


def scripts():
    """{name: Script} of all that are here; a new one has the usual budget."""
    names = {path.stem for path in _FOLDER.glob("*.py")} - {*OTHERS}
    known = [name for name in SCRIPTS if name in names]
    return {
        name: SCRIPTS.get(name, Script())
        for name in [*known, *sorted(names - {*SCRIPTS})]
    }


def run(name, arguments, budget):
    """Runs a script: (its lines, why it failed or None)."""
    command = [sys.executable, str(_FOLDER / f"{name}.py"), *arguments]
    until = time.time() + _FOR_ROUNDS * budget
    process = subprocess.Popen(
        command,
        cwd=common.ROOT,
        env=common.environment() | {common.UNTIL: str(until)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # its processes end with it
    )
    try:
        output, errors = process.communicate(timeout=budget)
        failed = None
        if process.returncode:
            last = (errors.strip() or output.strip()).splitlines()[-1:]
            failed = f"exit code {process.returncode}: {' '.join(last)}"
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, errors = process.communicate()
        failed = f"did not end within its budget of {budget} s"
    for text in output.splitlines():
        if not text.startswith('{"benchmark"'):
            print(f"  {text}")
    return [x for x in output.splitlines() if x.startswith('{"benchmark"')], (
        failed
    )


def failure(name, arguments, reason):
    """The line of a script that failed."""
    line = {
        "benchmark": name,
        "arguments": list(arguments),
        "machine": common.machine(),
        "date": datetime.date.today().isoformat(),
        "skipped": reason,
    }
    return json.dumps(line | ({"smoke": True} if common.is_smoke() else {}))


def main(argv):
    """Runs the scripts and makes the page; returns the exit code."""
    chosen = scripts()
    unknown = sorted({*(_ONLY.value or ())} - {*chosen})
    if unknown:
        raise app.UsageError(f"--only: no {unknown}; there are {[*chosen]}.")
    if _ONLY.value:
        chosen = {name: chosen[name] for name in _ONLY.value}
    begun, failed = time.monotonic(), []
    end = begun + 60 * _MINUTES.value
    for name, script in chosen.items():
        for arguments in script.runs:
            print(f"== {name} {' '.join(arguments)}", flush=True)
            start = time.monotonic()
            left = max(1, min(script.budget, round(end - start)))
            lines, reason = run(name, arguments, left)
            if reason:
                failed.append(name)
                lines.append(failure(name, arguments, reason))
                print(f"  failed: {reason}")
            with open(_OUTPUT.value, "a", encoding="utf-8") as file:
                file.writelines(f"{line}\n" for line in lines)
            print(f"  {time.monotonic() - start:.0f} s", flush=True)
    print(f"all: {(time.monotonic() - begun) / 60:.1f} minutes")
    if _OUTPUT.value == str(page.LINES):
        page.main([])
    if failed:
        print(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    common.start(main)
