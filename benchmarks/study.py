"""What a study costs beside its arithmetic, and beside its peers.

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
a peer of the same run. Processor seconds stand beside, as other programs
disturb them less. Imports are not in the seconds.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from absl import app
from absl import flags

_PARTS = ("trials", "memory", "workers", "start", "report")
_PEERS = ("bare", "ours", "rebuild", "kerastuner")

_SELECTED = flags.DEFINE_list("parts", list(_PARTS), "What to measure.")
_TRIALS = flags.DEFINE_integer("trials", 20, "Trials of a study.", 2)
_ROUNDS = flags.DEFINE_integer("rounds", 2, "Rounds of part trials.", 1)
_STUDY = flags.DEFINE_string(
    "flagfile_of_study", "flags/quick.flags", "Study of part workers."
)
_SEEDS = flags.DEFINE_integer("seeds", 5, "Its seeds.", 1)
_CHILD = flags.DEFINE_enum(
    "child", None, _PEERS, "Measure this alone, in this process."
)

_BATCH, _STEPS = 512, 100
_SPACE = {
    "learning_rate": {"min": 0.003, "max": 0.3, "scale": "log"},
    "momentum": {"values": [0.0, 0.9, 0.95]},
    "weight_decay": {"min": 1e-5, "max": 1e-3, "scale": "log"},
}


# --- one process ------------------------------------------------------------


def _network(keras):
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(16, 3, padding="same", activation="relu"),
            layers.Conv2D(32, 3, strides=2, padding="same", activation="relu"),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(10),
        ]
    )


def _loss(keras):
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def _compiled(keras, learning_rate, momentum, weight_decay):
    model = _network(keras)
    model.compile(
        keras.optimizers.SGD(
            learning_rate, momentum=momentum, weight_decay=weight_decay
        ),
        _loss(keras),
        metrics=["accuracy"],
    )
    return model


def _data():
    from resnet import data

    source = data.load("digits")
    train = next(source.train(source.num_train))
    return train, next(source.validation(source.num_validation))[:2]


def _dataset(train):
    import tensorflow as tf

    examples = tf.data.Dataset.from_tensor_slices(train).cache()
    return examples.shuffle(2000).repeat().batch(_BATCH).prefetch(2)


def _arm():
    from lbcheck.study import arm

    return arm.Arm("momentum", "momentum", _SPACE, "constant")


def bare(after):
    """One traced function; what varies are its arguments."""
    import tensorflow as tf
    import tf_keras

    (x, y), (x_validation, y_validation) = _data()
    images, labels = tf.constant(x), tf.constant(y)
    model = _network(tf_keras)
    loss_of = _loss(tf_keras)
    weights = model.trainable_variables
    buffers = [tf.Variable(tf.zeros_like(w)) for w in weights]
    initial = [tf.constant(w) for w in weights]

    @tf.function
    def trial(rate, momentum, decay):
        for weight, buffer, start in zip(weights, buffers, initial):
            weight.assign(start)
            buffer.assign(tf.zeros_like(buffer))
        for _ in tf.range(_STEPS):
            chosen = tf.random.uniform([_BATCH], 0, len(x), tf.int32)
            with tf.GradientTape() as tape:
                logits = model(tf.gather(images, chosen), training=True)
                loss = loss_of(tf.gather(labels, chosen), logits)
            gradients = tape.gradient(loss, weights)
            for weight, buffer, gradient in zip(weights, buffers, gradients):
                buffer.assign(momentum * buffer + gradient)
                weight.assign((1 - rate * decay) * weight - rate * buffer)
        found = tf.argmax(model(x_validation), -1, tf.int32)
        return tf.reduce_mean(tf.cast(found == y_validation, tf.float32))

    for point in _arm().space.points(0, 0, _TRIALS.value, _STEPS):
        numbers = [tf.constant(point[n], tf.float32) for n in _SPACE]
        after(float(trial(*numbers)))


def ours(after):
    """A study in a ledger, by its worker."""
    import tf_keras

    from lbcheck.study import ledger
    from lbcheck.study import protocol
    from lbcheck.study import records
    from lbcheck.study import trainer
    from lbcheck.study import worker
    from lbcheck.study import workload

    def build_model():
        model = _network(tf_keras)
        model.compile(loss=_loss(tf_keras), metrics=["accuracy"])
        return model

    arm = _arm()
    train, validation = _data()
    runs = trainer.Trainer(
        workload.Workload(build_model, train, validation, _BATCH, _STEPS),
        {arm.name: arm},
    )
    study = {
        "name": "benchmark",
        "seed": 0,
        "steps": _STEPS,
        "metric": {"name": runs.metric, "mode": runs.mode},
        "selection": "validation",
        "target": None,
        "trials": _TRIALS.value,
        "refined_trials": 0,
        "seeds": 0,
        "arms": {arm.name: arm.describe()},
    }
    with tempfile.TemporaryDirectory() as folder:
        book = ledger.Ledger(records.storage_url(folder), study)
        worker.work(
            book,
            protocol.Protocol(study),
            runs,
            lambda record: after(record["metrics"]["validation"]["accuracy"]),
        )
        book.close()
    return {"traces": runs.traces}


def rebuild(after):
    """tf_keras: build, compile and fit for every trial."""
    import tf_keras

    train, validation = _data()
    for point in _arm().space.points(0, 0, _TRIALS.value, _STEPS):
        model = _compiled(tf_keras, **point)
        model.fit(_dataset(train), steps_per_epoch=_STEPS, verbose=0)
        after(model.evaluate(*validation, batch_size=_BATCH, verbose=0)[1])


def kerastuner(after):
    """KerasTuner's RandomSearch, on Keras 3."""
    import keras
    import keras_tuner

    train, validation = _data()

    def build(choice):
        rate, decay = _SPACE["learning_rate"], _SPACE["weight_decay"]
        return _compiled(
            keras,
            choice.Float("rate", rate["min"], rate["max"], sampling="log"),
            choice.Choice("momentum", _SPACE["momentum"]["values"]),
            choice.Float("decay", decay["min"], decay["max"], sampling="log"),
        )

    class Search(keras_tuner.RandomSearch):
        """Tells when a trial is over."""

        def on_trial_end(self, trial):
            """As of any tuner."""
            super().on_trial_end(trial)
            after(trial.score)

    with tempfile.TemporaryDirectory() as folder:
        Search(
            build,
            objective="val_accuracy",
            max_trials=_TRIALS.value,
            directory=folder,
        ).search(
            _dataset(train),
            steps_per_epoch=_STEPS,
            validation_data=validation,
            verbose=0,
        )


def _child(name):
    """Measures one of the above and prints it as a line of JSON."""
    import tensorflow  # noqa: F401
    from sklearn import datasets  # noqa: F401
    from sklearn import model_selection  # noqa: F401

    import resnet.data.digits  # noqa: F401  imports are not counted

    if name == "kerastuner":
        import keras_tuner  # noqa: F401
    else:
        import tf_keras  # noqa: F401
    if name == "ours":
        from lbcheck.study import ledger
        from lbcheck.study import storage
        from lbcheck.study import trainer  # noqa: F401

        del ledger, storage
        import optuna  # noqa: F401
        import scipy.stats  # noqa: F401
    ends, sizes, scores = [time.perf_counter()], [], []

    def after(score):
        ends.append(time.perf_counter())
        sizes.append(_resident())
        scores.append(score)

    began = time.process_time()
    more = globals()[name](after) or {}
    spent = time.process_time() - began
    durations = [b - a for a, b in zip(ends, ends[1:])]
    print(
        json.dumps(
            {
                "seconds": (ends[-1] - ends[0]) / len(durations),
                "later": statistics.median(durations[1:]),
                "processor": spent / len(durations),
                "growth": (sizes[-1] - sizes[0]) / (len(sizes) - 1),
                "best": max(scores),
                **more,
            }
        )
    )


def _resident():
    """Resident memory of this process in MB."""
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024


# --- parts ----------------------------------------------------------------


def _measured(name, trials):
    command = [sys.executable, __file__, f"--child={name}"]
    done = subprocess.run(
        [*command, f"--trials={trials}"],
        env=os.environ | {"PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        print(f"{name}: not measured: {done.stderr.strip()[-300:]}")
        return None
    return json.loads(done.stdout.splitlines()[-1])


def trials():
    """Seconds a trial of ours, of the bare updates and of the peers."""
    found = {}
    for _ in range(_ROUNDS.value):
        for name in _PEERS:
            result = _measured(name, _TRIALS.value)
            if result:
                found.setdefault(name, []).append(result)

    def least(name, key):
        return min(result[key] for result in found[name])

    print(f"{_TRIALS.value} trials of {_STEPS} updates, batch {_BATCH}")
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
                ratio = least(name, key) / least("ours", key)
                print(f"{title}: {name} / ours = {ratio:.2f}")
    ratio = least("ours", "seconds") / least("bare", "seconds")
    extra = least("ours", "later") - least("bare", "later")
    print(f"time: ours / bare = {ratio:.2f} (bar: at most 1.15)")
    print(f"overhead of a later trial: {extra:.3f} s (bar: at most 0.08)")


def memory():
    """Growth of ours over 60 trials."""
    result = _measured("ours", 60)
    print(
        f"growth over 60 trials: {result['growth']:.2f} MB a trial (bar: "
        f"0.3); traces {result['traces']}"
    )


def _command(*arguments):
    """Seconds of an `lbcheck` command, from start to end."""
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "lbcheck.cli", *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": os.getcwd()},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return time.perf_counter() - began


def _compare(folder, workers):
    return _command(
        "compare",
        f"--flagfile={_STUDY.value}",
        f"--trials={_TRIALS.value}",
        f"--seeds={_SEEDS.value}",
        f"--num_workers={workers}",
        f"--output_dir={folder}",
        "--noprogress",
    )


def _rate(folder):
    """Trials per second while all workers work: from the 20th part of 100 of
    the trials that are done to the 80th."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    from lbcheck.study import records

    url = records.storage_url(folder)
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
    print(
        f"trials per hour: {3600 * rates[0]:.0f} by one worker, "
        f"{3600 * rates[1]:.0f} by two: {rates[1] / rates[0]:.2f} times "
        "(bar: 1.6)"
    )


def _study(folder):
    """A folder with a study; that of part workers, or a small one."""
    for made in (folder / "workers2", folder / "small"):
        if made.exists():
            return made
    _command(
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
        least = min(_command(*arguments) for _ in range(3))
        words = " ".join(map(str, arguments)).replace(str(study), "FOLDER")
        print(f"lbcheck {words}: {least:.2f} s (bar: 1)")


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
    seconds = min(_command("report", target) for _ in range(2))
    size = (target / "report.html").stat().st_size / 1e6
    print(
        f"report of {len(lines)} trials: {seconds:.1f} s (bar: 5), "
        f"{size:.2f} MB (bar: 3)"
    )


def main(argv):
    """Runs the parts asked for."""
    del argv
    if _CHILD.value:
        _child(_CHILD.value)
        return
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
    app.run(main)
