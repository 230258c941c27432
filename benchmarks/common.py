"""What every benchmark shares: ways in turn, and one line of JSON a measure.

A script asks `in_turn` for the times of its ways, all of them in every round,
so that a machine that slows down slows all; tells each measure to `tell`; and
ends with `start(main)`. `benchmarks/run.py` (`make bench`) keeps the lines, of
which `benchmarks/page.py` makes docs/benchmarks.md.
"""

import datetime
import functools
import gc
import importlib.util
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time
from typing import NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from absl import app
from absl import flags

_VARIABLE = "LBCHECK_SMOKE"
UNTIL = "LBCHECK_BENCHMARK_UNTIL"
"""Environment variable: seconds since the epoch from which on no round begins
that is not expected to end by then."""
_SMOKE = flags.DEFINE_bool(
    "smoke",
    False,
    "Sizes that take seconds: shows that the script runs, measures nothing.",
)


class Skipped(Exception):
    """The script cannot measure here; the message is a sentence."""


class Times(NamedTuple):
    """Seconds of each round.

    Attributes:
        wall: As a clock on the wall shows them.
        processor: Of all threads of this process, and of the processes that
            it started and that ended; disturbed least by other programs.
    """

    wall: list
    processor: list


def start(main, **smoke):
    """Runs `main(argv)`; a script that cannot measure says why, exit code 0.

    Args:
        main: Returns the exit code or None.
        **smoke: Values that flags have under --smoke.
    """

    def run(argv):
        if len(argv) > 1:
            raise app.UsageError(f"unexpected arguments: {argv[1:]}")
        if _SMOKE.value:
            os.environ[_VARIABLE] = "1"  # of its processes, too
        if is_smoke():
            for name, value in smoke.items():
                setattr(flags.FLAGS, name, value)
        return or_say_why_not(functools.partial(main, argv))

    app.run(run)


def or_say_why_not(function):
    """Calls it; `Skipped` becomes a sentence and a line, and exit code 0."""
    try:
        return function()
    except Skipped as reason:
        print(f"not measured: {reason}")
        _print_line({"skipped": str(reason)})
        return 0


def run_parts(selected, parts):
    """Runs parts of a script; one that cannot measure does not stop the rest.

    Args:
        selected: Names.
        parts: {name: function without arguments} of all that there are.
    """
    unknown = sorted({*selected} - {*parts})
    if unknown:
        raise app.UsageError(
            f"--parts: unknown {unknown}; there are {[*parts]}."
        )
    reasons = []
    for name in selected:
        try:
            parts[name]()
        except Skipped as reason:
            reasons.append(f"{name}: {reason}")
    if reasons:
        raise Skipped(" ".join(reasons))


def data(*parts):
    """A path under LBCHECK_DATA."""
    root = os.environ.get("LBCHECK_DATA")
    path = pathlib.Path(root or "", *parts)
    if not root:
        raise Skipped(
            "the environment variable LBCHECK_DATA is not set; it names the "
            f"folder of the data sets, of which {os.path.join(*parts)} is "
            "needed."
        )
    if not path.exists():
        raise Skipped(f"LBCHECK_DATA is {root}, where there is no {path}.")
    return path


def need(module, how):
    """Skips without a module that the script needs."""
    top = module.partition(".")[0]
    if importlib.util.find_spec(top) is None:
        raise Skipped(f"{top} is not installed: {how}.")


def is_smoke():
    """Whether this run only shows that the script runs."""
    return _VARIABLE in os.environ


def sized(usual, smoke):
    """`usual`, or under --smoke `smoke`."""
    return smoke if is_smoke() else usual


def environment():
    """That of a process that finds this checkout, and what this one finds."""
    found = [str(ROOT), os.environ.get("PYTHONPATH")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, found))}


def lbcheck(*arguments):
    """Seconds of an `lbcheck` command, from start to end."""
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "lbcheck", *map(str, arguments)],
        env=environment(),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return time.perf_counter() - began


def processor_seconds():
    """Of this process and of those that it started and that ended."""
    return time.process_time() + sum(os.times()[2:4])


def rounds_in_time(count):
    """0, 1, .. of at most `count` rounds; the first is always run.

    `benchmarks/run.py` says until when. A round is expected to take as long as
    the longest before it, so that a slow machine has fewer, not none.
    """
    until, longest = float(os.environ.get(UNTIL, "inf")), 0.0
    for number in range(count):
        began = time.time()
        if number and began + longest > until:
            return
        yield number
        longest = max(longest, time.time() - began)


def in_turn(ways, rounds, warm_up=0):
    """Runs every way once a round.

    Args:
        ways: {name: function without arguments}.
        rounds: How often each is timed, at most; see `rounds_in_time`.
        warm_up: How often each is run before.

    Returns:
        {name: Times}.
    """
    for way in ways.values():
        for _ in range(warm_up):
            way()
    found = {name: Times([], []) for name in ways}
    for _ in rounds_in_time(rounds):
        for name, way in ways.items():
            gc.collect()
            began, processor = time.perf_counter(), processor_seconds()
            way()
            found[name].wall.append(time.perf_counter() - began)
            found[name].processor.append(processor_seconds() - processor)
    return found


def tell(measure, ours, unit, peer=None, peer_name=None, better="less", **more):
    """Prints a measure and its line of JSON.

    The ratio is that of ours to the peer's in the same round: the median over
    the rounds, and the range.

    Args:
        measure: What was measured, the same words in every run.
        ours: A number, or those of all rounds.
        unit: Of both.
        peer: As `ours`, in the same rounds.
        peer_name: Who that is.
        better: "less" or "more".
        **more: Further entries of the line, or others in their place: the
            `range` of an estimate, the `machine` of another processor.
    """
    line = summary(ours, peer) | {
        "measure": measure,
        "unit": unit,
        "peer_name": peer_name,
        "better": better,
        **more,
    }
    text = f"{measure}: {line['ours']:.4g} {unit}"
    if peer is not None:
        text += f", {line['ratio']:.3g} times {peer_name}"
    if line["range"]:
        text += " ({:.3g} to {:.3g})".format(*line["range"])
    print(text)
    _print_line(line)


def summary(ours, peer=None):
    """Medians, ratio and range of `tell`; a range takes two rounds.

    >>> summary([2.0, 3.0, 8.0], [1.0, 2.0, 2.0])["ratio"]
    2.0
    """
    mine, theirs = _rounds(ours), None if peer is None else _rounds(peer)
    compared = mine
    if theirs:
        if len(mine) != len(theirs):
            raise ValueError(f"{len(mine)} rounds beside {len(theirs)}")
        compared = [a / b for a, b in zip(mine, theirs)]
    return {
        "ours": statistics.median(mine),
        "peer": theirs and statistics.median(theirs),
        "ratio": theirs and statistics.median(compared),
        "range": (
            [min(compared), max(compared)] if len(compared) > 1 else None
        ),
        "rounds": len(mine),
    }


def _rounds(numbers):
    listed = numbers if isinstance(numbers, (list, tuple)) else [numbers]
    return [float(number) for number in listed]


def _print_line(line):
    print(json.dumps(_about() | line), flush=True)


def _about():
    """What every line says of its run."""
    now = datetime.datetime.now(datetime.timezone.utc)
    return {
        "benchmark": pathlib.Path(sys.argv[0]).stem,
        "arguments": sys.argv[1:],
        "machine": machine(),
        "date": now.date().isoformat(),
    } | ({"smoke": True} if is_smoke() else {})


@functools.cache
def machine():
    """This machine in a few words."""
    return f"{len(os.sched_getaffinity(0))} cores, {_processor()}"


def _processor():
    try:
        text = pathlib.Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.machine()
    lines = [x for x in text.splitlines() if x.startswith("model name")]
    return lines[0].partition(": ")[2] if lines else platform.machine()
