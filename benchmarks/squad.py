"""SQuAD's data against Model Garden's functions, and its memory.

    LBCHECK_DATA=... python benchmarks/squad.py

On the dev set of v1.1 (10,570 questions; 384, 128, 64 tokens), in rounds, one
after another in one process, imports not counted: splitting into windows
(squad_lib.convert_examples_to_features; ours with one worker and with two),
n-best decoding of random logits (postprocess_output) and evaluation of the
predictions of real submissions (squad_evaluate_v1_1). Printed: wall and
processor seconds, and the ratios of the medians; the bars are 6 for windows
with two workers, 4 for decoding and 1 for evaluation. Two workers need two
free cores.

Then the memory that windows take, in a process of its own, for the set once
and eight times over, beyond that of the questions; and which of TensorFlow's
modules evaluation imports.
"""

import atexit
import collections
import concurrent.futures
import functools
import gzip
import json
import multiprocessing
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

import common
import numpy as np
from absl import flags
from absl import logging

from bert import squad_data
from bert import tokenization

_ROUNDS = flags.DEFINE_integer("rounds", 3, "Runs of each.", 1)
_COPIES = flags.DEFINE_list(
    "copies", ["1", "8"], "Copies of the data set, for memory."
)


@functools.cache
def dev():
    """The dev set; of --smoke its first article, in a file of its own."""
    path = common.data("squad", "dev-v1.1.json.gz")
    if not common.is_smoke():
        return str(path)
    content = json.load(gzip.open(path))
    content["data"] = content["data"][:1]
    _, short = tempfile.mkstemp(suffix=".json.gz")
    atexit.register(os.remove, short)
    with gzip.open(short, "wt", encoding="utf-8") as file:
        json.dump(content, file)
    return short


def predictions():
    return sorted(common.data("squad", "predictions").glob("*.json.gz"))


def tokenizer():
    return tokenization.Tokenizer(str(common.data("bert", "vocab.txt")))


class Garden:
    """Model Garden's functions on the dev set."""

    def __init__(self):
        from official.nlp.data import squad_lib
        from official.nlp.tools import squad_evaluate_v1_1
        from official.nlp.tools import tokenization as garden_tokenization

        self._lib, self._metric = squad_lib, squad_evaluate_v1_1
        self._tokenizer = garden_tokenization.FullTokenizer(
            str(common.data("bert", "vocab.txt"))
        )
        self._articles = json.load(gzip.open(dev()))["data"]
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump({"data": self._articles}, file)
            file.flush()
            self._examples = squad_lib.read_squad_examples(
                file.name, is_training=False, version_2_with_negative=False
            )
        self._predictions = [json.load(gzip.open(p)) for p in predictions()]

    def windows(self):
        self._features = []
        self._lib.convert_examples_to_features(
            self._examples,
            self._tokenizer,
            384,
            128,
            64,
            False,
            lambda feature, is_padding: self._features.append(feature),
            batch_size=1,
        )

    def give(self, logits):
        result = collections.namedtuple(
            "R", "unique_id start_logits end_logits"
        )
        self._results = [
            result(feature.unique_id, *map(np.ndarray.tolist, rows))
            for feature, *rows in zip(self._features, *logits)
        ]

    def decode(self):
        self._lib.postprocess_output(
            self._examples, self._features, self._results, 20, 30, True
        )

    def evaluate(self):
        for found in self._predictions:
            self._metric.evaluate(self._articles, found)


class Ours:
    """The same of `bert.squad_data`."""

    def __init__(self):
        self._dataset = squad_data.read(dev())
        self._tokenizer = tokenizer()
        self._predictions = [
            squad_data.read_predictions(str(p)) for p in predictions()
        ]

    def windows(self, num_workers=1):
        self.features = squad_data.features(
            self._dataset, self._tokenizer, num_workers=num_workers
        )

    def give(self, logits):
        self._logits = logits

    def decode(self):
        squad_data.decode(self._dataset, self.features, *self._logits)

    def evaluate(self):
        for found in self._predictions:
            squad_data.evaluate(self._dataset, found)


def seconds(call):
    """(wall, processor) seconds of a call, ended processes included."""
    (times,) = common.in_turn({"call": call}, 1).values()
    return times.wall[0], times.processor[0]


def speed():
    logging.set_verbosity(logging.FATAL)  # Model Garden shows each example
    garden, ours = Garden(), Ours()
    found = collections.defaultdict(list)

    def take(name, call):
        found[name].append(seconds(call))
        print(
            "{:28} {:6.2f} s wall {:6.2f} s processor".format(
                name, *found[name][-1]
            ),
            flush=True,
        )

    for turn in common.rounds_in_time(_ROUNDS.value):
        take("windows, Model Garden", garden.windows)
        take("windows, 1 worker", ours.windows)
        take("windows, 2 workers", lambda: ours.windows(num_workers=2))
        generator = np.random.default_rng(turn)
        shape = 2, len(ours.features), 384
        logits = generator.normal(size=shape).astype(np.float32)
        for name in ("decode", "evaluate"):
            for who, what in (("Model Garden", garden), ("ours", ours)):
                what.give(logits)
                take(f"{name}, {who}", getattr(what, name))
    medians = {
        name: [statistics.median(column) for column in zip(*rows)]
        for name, rows in found.items()
    }
    for name, (wall, used) in medians.items():
        task = name.partition(",")[0]
        base = medians[f"{task}, Model Garden"]
        print(
            f"{name}: {base[0] / wall:.1f}x, by processor time "
            f"{base[1] / used:.1f}x"
        )
    for name, rows in found.items():
        task, _, who = name.partition(", ")
        if who != "Model Garden":
            common.tell(
                f"SQuAD {task}" + (f", {who}" if who != "ours" else ""),
                [wall for wall, _ in rows],
                "s",
                [wall for wall, _ in found[f"{task}, Model Garden"]],
                "Model Garden",
            )


def memory(copies):
    """(windows, MB of the process without them, MB they add, MB of files)."""
    dataset = squad_data.read(dev())
    count = len(dataset.contexts)
    dataset = dataset._replace(
        contexts=[f"{c} {i}" for i in range(copies) for c in dataset.contexts],
        questions=[
            q._replace(id=f"{q.id}-{i}", context=q.context + i * count)
            for i in range(copies)
            for q in dataset.questions
        ],
    )
    words = tokenizer()
    before = resident("RssAnon")
    features = squad_data.features(dataset, words)
    for first in range(0, len(features), 64):
        features.inputs(slice(first, first + 64))
    added = resident("RssAnon") - before
    return len(features), before, added, resident("RssFile")


def resident(kind):
    """Memory of this process, in MB; RssFile can be taken from it any time."""
    status = pathlib.Path("/proc/self/status").read_text()
    lines = dict(line.split(":", 1) for line in status.splitlines())
    return int(lines[kind].split()[0]) / 1000


def main(argv):
    del argv
    common.need("official", "pip install '.[bert]'")
    speed()
    for copies in map(int, _COPIES.value):
        context = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(1, context) as pool:
            count, before, added, mapped = pool.submit(memory, copies).result()
        print(
            f"{count} windows: {before:.0f} MB and {added:.1f} MB for the "
            f"windows, {added / count * 1000:.2f} KB each; {mapped:.0f} MB of "
            "mapped files"
        )
        common.tell(
            f"memory of a window of SQuAD, {count} windows",
            1000 * added / count,
            "KB",
        )
    code = (
        "import sys; from bert import squad_data as squad;"
        "squad.evaluate(squad.read(sys.argv[1]),"
        " squad.read_predictions(sys.argv[2]));"
        "print('evaluation imports', sorted({'tensorflow', 'tf_keras', 'keras'}"
        " & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, dev(), str(predictions()[0])]
    subprocess.run(command, check=True)


if __name__ == "__main__":
    common.start(main, rounds=1, copies=["1"])
