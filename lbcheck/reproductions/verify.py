"""Runs one recorded seed of a reproduction again, and compares.

A trial is the same to the last bit on the same kind of machine with the same
versions. Elsewhere sums are rounded in another order, and training makes a
difference of it that is like that of another seed: there the metric must be
within the interval in which one more seed would be in 95 of 100 cases.
"""

import importlib.metadata
import json
import pathlib
import statistics
from typing import NamedTuple

from scipy import stats

from lbcheck.comparison import compare_command
from lbcheck.reproductions.index import Reproduction
from lbcheck.reproductions.index import Study
from lbcheck.study import formats
from lbcheck.study import threads
from lbcheck.support import shipped

_COMPUTING = ("tensorflow", "tf-keras", "keras", "jax", "numpy")
"""Distributions on whose versions the bits depend, where they are used."""
_INCIDENTAL = ("seconds", "schedule", "diagnostics")


class Verified(NamedTuple):
    """What a second run of a recorded trial gave.

    Attributes:
        study: Its name.
        arm: Of the trial.
        seed: Of the trial.
        recorded: The metric in the record.
        found: The metric now; None if the run diverged.
        low: Of the interval for one more seed of the arm.
        high: Of it.
        changed: What of the record is not the same, to the last bit.
        differs: How this machine differs from that of the record; "" if it
            does not.
    """

    study: str
    arm: str
    seed: int
    recorded: float
    found: float | None
    low: float
    high: float
    changed: tuple[str, ...]
    differs: str

    @property
    def same_bits(self) -> bool:
        """Whether everything that was recorded is the same."""
        return not self.changed

    @property
    def holds(self) -> bool:
        """Whether the record is confirmed, as well as this machine can."""
        if self.same_bits or not self.differs:
            return self.same_bits
        return self.found is not None and self.low <= self.found <= self.high

    def __str__(self):
        what = (
            f"{self.study}, {self.arm}, seed {self.seed}: recorded "
            f"{self.recorded!r}, now {self.found!r}"
        )
        if self.same_bits:
            return f"{what}: the same, bit for bit, as is all of the record."
        if not self.differs:
            return (
                f"{what}: {', '.join(self.changed)} of the record not the "
                "same, on a machine and with versions like its own."
            )
        inside = "within" if self.holds else "NOT within"
        return (
            f"{what}: {inside} [{self.low:.4f}, {self.high:.4f}], where one "
            f"more seed is expected in 95 of 100 cases. Not bit for bit: "
            f"{self.differs}."
        )


def verify(reproduction: Reproduction) -> Verified:
    """Runs the first confirming seed of a study's best arm again.

    Args:
        reproduction: As of `index.find`.

    Raises:
        ValueError: A file is missing or damaged, or the data are others than
            the record's.
    """
    study = reproduction.studies[reproduction.verify]
    there = study.load()
    recorded = first_seed(study, there.records)
    session = _session(study, there.study)
    task = {
        name: recorded[name]
        for name in ("arm", "stage", "index", "seed", "hyperparameters")
    }
    now = session.trainer.run(task, **session.protocol.observation(task))
    return compared(
        there, recorded, json.loads(json.dumps(now)), reproduction.processor
    )


def first_seed(study: Study, records: list[dict]) -> dict:
    """The first finished confirming run of the first arm that has one.

    Raises:
        ValueError: No run was confirmed yet.
    """
    for record in records:
        if record["stage"] == "confirm" and record["status"] == "finished":
            return record
    raise ValueError(f"{study.path}: no confirming run is finished yet.")


def compared(there, recorded: dict, now: dict, processor: str) -> Verified:
    """What came out beside what was recorded.

    Args:
        there: The study's `Folder`.
        recorded: One of its records.
        now: That of the same task, of another run.
        processor: Of the machine of the records.
    """
    part, name = formats.parts_of(there.study)[0], there.study["metric"]["name"]
    seeds = [
        record["metrics"][part][name]
        for record in there.records
        if (record["arm"], record["stage"]) == (recorded["arm"], "confirm")
        and record["status"] == "finished"
    ]
    low, high = one_more(seeds)
    found = now["metrics"][part][name] if now["metrics"] else None
    return Verified(
        there.study["name"],
        recorded["arm"],
        recorded["seed"],
        recorded["metrics"][part][name],
        found,
        low,
        high,
        _changed(recorded, now),
        differs(there.study["environment"], processor),
    )


def one_more(values: list[float]) -> tuple[float, float]:
    """The 95 % prediction interval of one more normal value.

    mean +- t_{0.975, n-1} s sqrt(1 + 1/n)

    >>> low, high = one_more([0.0, 1.0, 2.0])
    >>> round(low, 3), round(high, 3)  # 1 +- 4.303 * 1 * sqrt(4/3)
    (-3.968, 5.968)
    """
    if len(values) < 2:
        return float("-inf"), float("inf")
    mean, spread = statistics.mean(values), statistics.stdev(values)
    quantile = float(stats.t.ppf(0.975, len(values) - 1))
    reach = quantile * spread * (1 + 1 / len(values)) ** 0.5
    return mean - reach, mean + reach


def _changed(recorded, now):
    names = sorted((recorded.keys() | now.keys()) - {*_INCIDENTAL})
    return tuple(n for n in names if recorded.get(n) != now.get(n))


def differs(environment: dict, processor: str) -> str:
    """How this machine is not that of a record; "" if it is alike."""
    found = []
    for name in _COMPUTING:
        if name not in environment:
            continue
        try:
            here = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            here = "none"
        if here != environment[name]:
            found.append(f"{name} {here}, there {environment[name]}")
    if (here := this_processor()) != processor:
        found.append(f"{here}, there {processor}")
    return "; ".join(found)


def this_processor() -> str:
    """Model and vector instructions of this machine's processor."""
    try:
        text = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return "a processor without /proc/cpuinfo"
    parts = [line.partition(":") for line in text.splitlines()]
    lines = {name.strip(): value.strip() for name, _, value in parts}
    flags = lines.get("flags", "").split()
    kinds = [flag for flag in ("avx2", "avx512f", "amx_tile") if flag in flags]
    model = lines.get("model name", "a processor without a name")
    return " ".join([model, *kinds])


def _session(study: Study, recorded: dict):
    """What runs a trial of a study, and that it is the one that was recorded.

    Raises:
        ValueError: The flagfile or the data are not those of the record.
    """
    flagfile = shipped.path(study.flagfile)
    compare_command.parse(["lbcheck compare", f"--flagfile={flagfile}"])
    compare_command.FLAGS.arms = [
        # Files in it are from the top of a checkout, which may be elsewhere.
        str(shipped.path(arm)) if arm.endswith(".json") else arm
        for arm in compare_command.FLAGS.arms
    ]
    threads.limit(recorded["threads"])
    session = compare_command.in_process()
    if session.study["facts"] != recorded["facts"]:
        wrong = [
            name
            for name, value in recorded["facts"].items()
            if session.study["facts"].get(name) != value
        ]
        raise ValueError(
            f"{study.name}: {', '.join(wrong)} of the workload are not those "
            "of the record; expected the same data and the same model."
        )
    return session
