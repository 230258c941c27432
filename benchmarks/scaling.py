"""How costs grow: with parameters, tensors, trials, corpus and seeds.

    LBCHECK_DATA=... python benchmarks/scaling.py
    python benchmarks/scaling.py --parts=trials,seeds --rounds=5

The sizes come in turn, round after round, and the exponent is the slope of the
logarithm of the seconds over that of the size, by least squares, with its 95 %
interval. Parts:

parameters  An update of LAMB in a TensorFlow graph, 32 tensors.
tensors     The same, 4 million parameters in ever more tensors.
trials      The ledger alone: trials that take no time, by its worker.
records     The report of ever more trials.
corpus      Pretraining data of ever more text, in this process.
seeds       The judge on two arms of ever more runs.
"""

import functools
import gzip
import pathlib
import tempfile

import common
import numpy as np
from absl import flags

_PARTS = ("parameters", "tensors", "trials", "records", "corpus", "seeds")
_SELECTED = flags.DEFINE_list("parts", list(_PARTS), "What to measure.")
_ROUNDS = flags.DEFINE_integer("rounds", 3, "Rounds of each part.", 2)


def fit(sizes, seconds):
    """Slope of log seconds over log size.

    Args:
        sizes: {name of a way: its size}.
        seconds: {name: seconds of each round}.

    Returns:
        (slope, low, high), the ends of its 95 % interval.

    >>> fit({"a": 1, "b": 10, "c": 100}, dict(a=[2.0], b=[20.0], c=[200.0]))[0]
    1.0
    """
    from scipy import stats

    points = [(sizes[name], s) for name, row in seconds.items() for s in row]
    found = stats.linregress(*np.log(points).T)
    reach = stats.t.ppf(0.975, len(points) - 2) * found.stderr
    return tuple(
        round(float(found.slope + side * reach), 6) for side in (0, -1, 1)
    )


def measure(what, ways, unit="", warm_up=1):
    """Times ways of ever greater size and tells the exponent.

    Args:
        what: What is done; ends with what grows.
        ways: {size: function}.
        unit: Of the sizes.
        warm_up: Runs of each before.
    """
    rounds = common.sized(_ROUNDS.value, 2)
    times = common.in_turn(ways, rounds, warm_up)
    seconds = {size: found.wall for size, found in times.items()}
    for size, row in seconds.items():
        print(f"{what}, {f'{size:,} {unit}'.rstrip()}: {min(row):.4f} s")
    slope, low, high = fit({size: size for size in ways}, seconds)
    least, *_, most = ways
    common.tell(
        f"{what}, {least:,} to {most:,} {unit}".rstrip(),
        slope,
        "as exponent",
        range=[low, high],
        sizes=list(ways),
        seconds=list(seconds.values()),
    )


def lamb(tensors, parameters):
    """An update of LAMB, whose parameters are spread over so many tensors."""
    import tensorflow as tf

    import lbcheck

    side = max(1, parameters // tensors // 64)
    weights = [tf.Variable(tf.ones((side, 64))) for _ in range(tensors)]
    gradients = [tf.fill(weight.shape, 0.1) for weight in weights]
    optimizer = lbcheck.keras3.LAMB(1e-4)
    optimizer.build(weights)

    @tf.function
    def update():
        optimizer.apply_gradients(list(zip(gradients, weights)))

    def run():
        update()
        return weights[-1].numpy()  # waits for the update

    return run


def parameters():
    sizes = common.sized((2**18, 2**20, 2**22, 2**24), (2**12, 2**14, 2**16))
    ways = {size: lamb(32, size) for size in sizes}
    measure("an update of LAMB, with the parameters of 32 tensors", ways)


def tensors():
    total = common.sized(2**22, 2**12)
    sizes = common.sized((8, 32, 128, 512), (2, 4, 8))
    ways = {size: lamb(size, total) for size in sizes}
    measure(
        f"an update of LAMB, with the tensors of {total:,} parameters", ways
    )


def trials():
    from tests.study import ledger_worker

    def run(count):
        study = ledger_worker.make_study(
            arms=("nesterov",), trials=count, refined_trials=0, seeds=1
        )
        with tempfile.TemporaryDirectory() as folder:
            ledger_worker.run_study(folder, study, 60, ledger_worker.Trainer())

    sizes = common.sized((25, 50, 100, 200), (2, 3, 4))
    ways = {size: functools.partial(run, size) for size in sizes}
    measure("the ledger of a study, with its trials", ways, warm_up=0)


def records():
    from lbcheck import report
    from tests.report import synthetic_study

    sizes = common.sized((500, 1000, 2000, 4000), (20, 40, 80))
    with tempfile.TemporaryDirectory() as home:
        ways = {}
        for size in sizes:
            study = synthetic_study.make_study(
                trials=size // 5, seeds=size // 20
            )
            folder = synthetic_study.write(
                pathlib.Path(home, str(size)),
                study,
                synthetic_study.make_records(study),
            )
            ways[size] = functools.partial(report.write, folder)
        measure("the report of a study, with its records", ways, warm_up=0)


def corpus():
    from bert.pretraining_data import pipeline
    from bert.pretraining_data import shards
    from bert.pretraining_data import text_sources

    content = gzip.open(common.data("text", "books.txt.gz")).read()
    settings = shards.Settings(
        vocab_file=str(common.data("bert", "vocab.txt")),
        lower_case=True,
        whole_word_masking=False,
        max_seq_length=128,
        max_predictions_per_seq=20,
        masked_lm_prob=0.15,
        short_seq_prob=0.1,
        dupe_factor=5,
        seed=0,
    )
    sizes = common.sized(
        (250_000, 500_000, 1_000_000, 2_000_000), (50_000, 100_000, 200_000)
    )

    def run(path):
        with tempfile.TemporaryDirectory() as folder:
            pipeline.run(
                text_sources.sources([str(path)]), settings, f"{folder}/records"
            )

    with tempfile.TemporaryDirectory() as home:
        ways = {}
        for size in sizes:
            path = pathlib.Path(home, f"{size}.txt")
            times = size // len(content) + 1
            # To the end of a line, and so of a character.
            path.write_bytes((content * times)[:size].rpartition(b"\n")[0])
            ways[size] = functools.partial(run, path)
        measure("pretraining data, with the text", ways, "bytes")


def seeds():
    from lbcheck import verdict

    generator = np.random.default_rng(0)

    def judge(count):
        runs = generator.normal(0.9, 0.003, (2, count)).tolist()
        verdict.compare_arms(dict(zip(("lamb", "adamw"), runs)), ["lamb"])

    sizes = common.sized((50, 200, 800, 3200), (6, 12, 24))
    ways = {size: functools.partial(judge, size) for size in sizes}
    measure("the judge, with the seeds of two arms", ways)


def main(argv):
    """Runs the parts asked for."""
    del argv
    common.run_parts(
        _SELECTED.value, {name: globals()[name] for name in _PARTS}
    )


if __name__ == "__main__":
    common.start(main)
