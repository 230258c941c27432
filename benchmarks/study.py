"""What a study costs beyond its arithmetic, and against its peers.

    python benchmarks/study.py
    python benchmarks/study.py --parts=trials --rounds=3
    python benchmarks/study.py --parts=workers --flagfile_of_study=...

Parts:

trials    A small network on digits, batch 512, 100 updates a trial; rate,
          momentum and weight decay vary. Ours is a whole study: ledger,
          protocol, trainer, metrics of both parts of the data. Beside it:
          "bare", one traced function of the same updates and nothing else;
          "rebuild", tf_keras built, compiled and fitted for every trial;
          "kerastuner", its RandomSearch, where it is installed. Each in a
          process of its own, in turn, round after round.
memory    Ours over 60 trials: what the process grows by.
workers   `lbcheck compare` with one worker and with two.
start     Commands that need no TensorFlow.
report    The report of a study of 500 trials.

Printed: seconds (the least of the rounds) and the ratios that matter, each to
a peer of the same round: the median over the rounds, and the range. Processor
seconds are shown, too, as other programs disturb them less. Imports are not in
the seconds.
"""

import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

import common
from absl import app
from absl import flags

_PARTS = ("trials", "memory", "workers", "start", "report")
_BARE = "its updates in one traced function"
_PEERS = ("bare", "ours", "rebuild", "kerastuner")

_SELECTED = flags.DEFINE_list("parts", list(_PARTS), "What to measure.")
_TRIALS = flags.DEFINE_integer("trials", 20, "Trials of a study.", 2)
_ROUNDS = flags.DEFINE_integer("rounds", 3, "Rounds of part trials.", 1)
_STUDY = flags.DEFINE_string(
    "flagfile_of_study", "flags/quick.flags", "Study of part workers."
)
_SEEDS = flags.DEFINE_integer("seeds", 5, "Its seeds.", 1)


def _measured(name, trials):
    script = pathlib.Path(__file__).with_name("study_trials.py")
    done = subprocess.run(
        [sys.executable, script, name, str(trials)],
        env=common.environment(),
        capture_output=True,
        text=True,
    )
    if done.returncode and name == "kerastuner":
        print(f"{name}: not measured: {done.stderr.splitlines()[-1:]}")
        return None
    if done.returncode:
        raise RuntimeError(f"{name}: {done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def trials():
    """Seconds a trial of ours, of the bare updates and of the peers."""
    found = {}
    for _ in common.rounds_in_time(_ROUNDS.value):
        for name in _PEERS:
            result = _measured(name, _TRIALS.value)
            if result:
                found.setdefault(name, []).append(result)

    def ratio(name, other, key="seconds"):
        rounds = sorted(
            a[key] / b[key] for a, b in zip(found[name], found[other])
        )
        middle = statistics.median(rounds)
        return f"{middle:.2f} ({rounds[0]:.2f} to {rounds[-1]:.2f})"

    print(f"{_TRIALS.value} trials of 100 updates, batch 512")
    keys = ("seconds", "later", "processor", "growth", "best")
    titles = ("s/trial", "s/later trial", "CPU s/trial", "MB/trial", "best")
    print(f"{'':12}" + "".join(f"{title:>15}" for title in titles))
    for name in found:
        row = [
            (max if key == "best" else min)(r[key] for r in found[name])
            for key in keys
        ]
        print(f"{name:12}" + "".join(f"{number:15.3f}" for number in row))
    print(f"traces of ours: {found['ours'][0]['traces']}")
    for key, title in (("seconds", "time"), ("processor", "processor time")):
        for name in found:
            if name != "ours":
                print(f"{title}: {name} / ours = {ratio(name, 'ours', key)}")
    ours = found.pop("ours")
    for name, rounds in found.items():
        common.tell(
            "a trial of 100 updates, digits, batch 512",
            [result["seconds"] for result in ours],
            "s",
            [result["seconds"] for result in rounds],
            {"bare": _BARE}.get(name, name),
        )
    common.tell(
        f"a later trial, above {_BARE}",
        [a["later"] - b["later"] for a, b in zip(ours, found["bare"])],
        "s",
    )


def memory():
    """Growth of ours over 60 trials."""
    trials = common.sized(60, 3)
    result = _measured("ours", trials)
    common.tell("growth of memory a trial", result["growth"], "MB")
    common.tell(
        f"traces of the training step in {trials} trials of one arm",
        sum(result["traces"].values()),
        "traces",
    )


def _compare(folder, workers):
    return common.lbcheck(
        "compare",
        f"--flagfile={_STUDY.value}",
        f"--trials={_TRIALS.value}",
        f"--seeds={_SEEDS.value}",
        f"--num_workers={workers}",
        "--challenge_trials=0",
        f"--output_dir={folder}",
        "--noprogress",
    )


def _rate(folder):
    """Trials per second while all workers work: from the 20th part of 100 of
    the trials that are done to the 80th."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    from lbcheck.study import study_folder

    url = study_folder.storage_url(folder)
    ends = sorted(
        trial.datetime_complete.timestamp()
        for name in optuna.get_all_study_names(url)
        for trial in optuna.load_study(study_name=name, storage=url).trials
        if trial.datetime_complete
    )
    first, last = len(ends) // 5, len(ends) * 4 // 5
    return (last - first) / (ends[last] - ends[first])


def workers(folder):
    """`lbcheck compare` with one worker and with two."""
    walls, rates = [], []
    for count in (1, 2):
        one = folder / f"workers{count}"
        walls.append(_compare(one, count))
        rates.append(_rate(one))
    print(
        f"lbcheck compare, {_TRIALS.value} trials and {_SEEDS.value} seeds an "
        f"arm, start and report included: {walls[0]:.0f} s by one worker, "
        f"{walls[1]:.0f} s by two"
    )
    common.tell(
        "trials of `lbcheck compare` by two workers",
        3600 * rates[1],
        "an hour",
        3600 * rates[0],
        "one worker",
        better="more",
    )


def _study(folder):
    """A folder with a study; that of part workers, or a small one."""
    for made in (folder / "workers2", folder / "small"):
        if made.exists():
            return made
    common.lbcheck(
        "compare",
        f"--flagfile={_STUDY.value}",
        "--trials=3",
        "--seeds=3",
        "--num_workers=1",
        f"--output_dir={made}",
        "--noprogress",
    )
    return made


def start(folder):
    """Commands that need no TensorFlow."""
    study = _study(folder)
    for arguments in (
        ["--help"],
        ["published"],
        ["study", "status", study],
        ["report", "--help"],
    ):
        least = min(
            common.lbcheck(*arguments) for _ in range(common.sized(3, 1))
        )
        words = " ".join(map(str, arguments)).replace(str(study), "FOLDER")
        common.tell(f"`lbcheck {words}`", least, "s")


def report(folder):
    """The report of 500 trials, made of a real study's."""
    import random

    source, target = _study(folder), folder / "report"
    target.mkdir()
    study = json.loads((source / "study.json").read_text())
    done = [
        json.loads(line)
        for line in (source / "trials.jsonl").read_text().splitlines()
    ]
    generator = random.Random(0)
    study["trials"], study["seeds"] = 105, 20
    lines = []
    for arm in study["arms"]:
        for stage, count in (("broad", 105), ("confirm", 20)):
            models = [
                r for r in done if r["arm"] == arm and r["stage"] == stage
            ]
            for index in range(count):
                record = json.loads(json.dumps(models[index % len(models)]))
                confirms = stage == "confirm"
                record |= {"index": index, "seed": index + 1 if confirms else 0}
                if index >= len(models):
                    record["diagnostics"] = None
                    if not confirms:
                        record["hyperparameters"]["learning_rate"] *= (
                            generator.uniform(0.8, 1.2)
                        )
                lines.append(json.dumps(record, sort_keys=True))
    (target / "study.json").write_text(json.dumps(study))
    (target / "trials.jsonl").write_text("\n".join(lines) + "\n")
    seconds = min(common.lbcheck("report", target) for _ in range(2))
    size = (target / "report.html").stat().st_size / 1e6
    common.tell(f"`lbcheck report` of {len(lines)} trials", seconds, "s")
    common.tell(f"report.html of {len(lines)} trials", size, "MB")


def main(argv):
    """Runs the parts asked for."""
    del argv
    unknown = sorted(set(_SELECTED.value) - set(_PARTS))
    if unknown:
        raise app.UsageError(f"--parts: unknown {unknown}; there are {_PARTS}.")
    with tempfile.TemporaryDirectory() as folder:
        for part in _SELECTED.value:
            print(f"== {part}", flush=True)
            if part in ("trials", "memory"):
                globals()[part]()
            else:
                globals()[part](pathlib.Path(folder))


if __name__ == "__main__":
    common.start(main, parts=["trials", "memory"], trials=2, rounds=1, seeds=2)
