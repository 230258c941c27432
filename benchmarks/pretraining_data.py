"""Pretraining data against Model Garden's script, and its memory.

    LBCHECK_DATA=... python benchmarks/pretraining_data.py
    python benchmarks/pretraining_data.py --text=a.txt,b.txt --vocab_file=v.txt

Each row is a process of its own, from start to end, imports included: Model
Garden's create_pretraining_data and `python -m bert.create_pretraining_data`
with one worker and with two, same text, vocabulary and settings, one after
another, in rounds. Printed: wall seconds, MB of text a second, processor
seconds of all its processes, and the ratios of the medians; the bars are 4
with one worker and 7 with two. Processor time hardly feels what else runs on
the machine; the wall time of two workers needs two free cores.

Then the memory: the largest resident set of any of the program's processes
for 10 MB and 100 MB of text, the same text over and over with other documents
first; the bars are a ratio of 1.1 and 400 MB.
"""

import gzip
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import common
from absl import flags

_TEXT = flags.DEFINE_list("text", None, "Text files; unset: LBCHECK_DATA's.")
_VOCABULARY = flags.DEFINE_string("vocab_file", None, "As for the program.")
_DUPLICATIONS = flags.DEFINE_integer("dupe_factor", 5, "As for the program.", 1)
_ROUNDS = flags.DEFINE_integer("rounds", 3, "Runs of each.", 1)
_MEMORY = flags.DEFINE_list("memory", ["10", "100"], "MB of text; none: 0.")
_SETTINGS = [
    "--max_seq_length=128",
    "--max_predictions_per_seq=20",
    "--masked_lm_prob=0.15",
]


def commands(text, vocabulary, folder):
    """{name: command}."""
    common = [*_SETTINGS, f"--vocab_file={vocabulary}"]
    common.append(f"--dupe_factor={_DUPLICATIONS.value}")
    garden = [sys.executable, "-m", "official.nlp.data.create_pretraining_data"]
    garden += [f"--input_file={text}", f"--output_file={folder}/garden"]
    ours = [sys.executable, "-m", "bert.create_pretraining_data"]
    ours += [f"--input={text}", f"--output_prefix={folder}/ours"]
    return {
        "Model Garden": garden + common,
        # Four shards, that two workers have something to share.
        "1 worker": [*ours, *common, "--num_shards=4"],
        "2 workers": [*ours, *common, "--num_shards=4", "--num_workers=2"],
    }


def measure(command):
    """(wall seconds, processor seconds of it and its processes)."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    wall = time.perf_counter() - begin
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, used


def peak(command):
    """Largest resident set of any process of the command, in MB."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    largest = 0

    def watch():
        nonlocal largest
        while process.poll() is None:
            for pid in [process.pid, *children(process.pid)]:
                largest = max(largest, high_water_mark(pid))
            time.sleep(0.02)

    watcher = threading.Thread(target=watch)
    watcher.start()
    watcher.join()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return largest / 1000


def children(pid):
    """The processes that `pid` started."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append(int(path.parent.name))
    return found


def high_water_mark(pid):
    """VmHWM in kB, 0 of a process that is gone."""
    try:
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    lines = dict(line.split(":", 1) for line in status.splitlines())
    return int(lines.get("VmHWM", "0").split()[0])


def clean(folder):
    for path in pathlib.Path(folder).glob("ours*"):
        path.unlink()


def speed(text, vocabulary, folder):
    size = sum(os.path.getsize(path) for path in text) / 1e6
    print(f"{size:.2f} MB of text, dupe_factor {_DUPLICATIONS.value}")
    found = {}
    for _ in common.rounds_in_time(_ROUNDS.value):
        for name, command in commands(
            ",".join(text), vocabulary, folder
        ).items():
            clean(folder)
            found.setdefault(name, []).append(measure(command))
            wall, used = found[name][-1]
            print(
                f"{name:13} {wall:6.2f} s wall {size / wall:6.2f} MB/s "
                f"{used:6.2f} s processor",
                flush=True,
            )
    medians = {
        name: [statistics.median(column) for column in zip(*rows)]
        for name, rows in found.items()
    }
    garden = medians.pop("Model Garden")
    for name in medians:
        common.tell(
            f"pretraining data, {name}",
            [size / wall for wall, _ in found[name]],
            "MB/s",
            [size / wall for wall, _ in found["Model Garden"]],
            "Model Garden",
            better="more",
        )
    for name, (wall, used) in medians.items():
        print(
            f"{name}: {garden[0] / wall:.1f}x the MB/s of Model Garden, "
            f"{garden[1] / used:.1f}x by processor time"
        )


def memory(text, vocabulary, folder):
    content = b"".join(pathlib.Path(path).read_bytes() for path in text)
    documents = content.split(b"\n\n")
    peaks = []
    for megabytes in map(int, _MEMORY.value):
        path = pathlib.Path(folder, "long.txt")
        with open(path, "wb") as file:
            turn = 0
            while file.tell() < megabytes * 10**6:
                shift = 37 * turn % len(documents)
                turned = documents[shift:] + documents[:shift]
                left = megabytes * 10**6 - file.tell()
                file.write((b"\n\n".join(turned) + b"\n\n")[:left])
                turn += 1
        for workers in (1, 2):
            clean(folder)
            command = [
                *(sys.executable, "-m", "bert.create_pretraining_data"),
                *_SETTINGS,
                f"--vocab_file={vocabulary}",
                f"--input={path}",
                f"--output_prefix={folder}/ours",
                f"--dupe_factor={_DUPLICATIONS.value}",
                f"--num_workers={workers}",
            ]
            peaks.append((megabytes, workers, peak(command)))
            print(
                "{} MB, num_workers {}: {:.0f} MB".format(*peaks[-1]),
                flush=True,
            )
    for workers in (1, 2):
        (least, _, small), *_, (most, _, large) = (
            peak for peak in peaks if peak[1] == workers
        )
        common.tell(
            f"peak memory of any process, {most} MB of text, {workers} workers",
            large,
            "MB",
            small,
            f"{least} MB of text",
        )


def main(argv):
    del argv
    common.need("official", "pip install '.[bert]'")
    with tempfile.TemporaryDirectory() as folder:
        text, vocabulary = _TEXT.value, _VOCABULARY.value
        if text is None:
            vocabulary = vocabulary or str(common.data("bert", "vocab.txt"))
            text = []
            for name in ("wiki.txt", "books.txt"):
                content = gzip.open(common.data("text", f"{name}.gz")).read()
                if common.is_smoke():
                    content = content[:400_000].rpartition(b"\n")[0]
                text.append(f"{folder}/{name}")
                pathlib.Path(text[-1]).write_bytes(content)
        speed(text, vocabulary, folder)
        if not common.is_smoke():
            memory(text, vocabulary, folder)


if __name__ == "__main__":
    common.start(main, dupe_factor=1, rounds=1)
