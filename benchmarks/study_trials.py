"""The trials of benchmarks/study.py, one way of running them a process.

    python benchmarks/study_trials.py bare|ours|rebuild|kerastuner TRIALS

Prints a line of JSON: seconds a trial, of the later trials (median), of the
processors, growth of resident memory in MB a trial, best accuracy, and the
resident memory after each trial.
"""

import json
import os
import pathlib
import statistics
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

_BATCH, _STEPS = 512, 100
_SPACE = {
    "learning_rate": {"min": 0.003, "max": 0.3, "scale": "log"},
    "momentum": {"values": [0.0, 0.9, 0.95]},
    "weight_decay": {"min": 1e-5, "max": 1e-3, "scale": "log"},
}


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

    from lbcheck.data import pipeline

    examples = tf.data.Dataset.from_tensor_slices(train).cache()
    batches = examples.shuffle(2000).repeat().batch(_BATCH).prefetch(2)
    return pipeline.untuned(batches)  # or the peers would wait where we do not


def _arm():
    from lbcheck.search import arm

    return arm.Arm("momentum", "momentum", _SPACE, "constant")


def bare(trials, after):
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

    for point in _arm().space.points(0, 0, trials, _STEPS):
        numbers = [tf.constant(point[n], tf.float32) for n in _SPACE]
        after(float(trial(*numbers)))


def ours(trials, after):
    """A study in a ledger, by its worker."""
    import tf_keras

    return {"traces": in_ledger(tf_keras, trials, after).traces}


def in_ledger(keras, trials, after, at_once=1, changed=lambda runs: None):
    """The trainer of a study that a worker has done, `at_once` trials a time.

    `changed` may alter the trainer before.
    """
    from lbcheck.study import ledger
    from lbcheck.study import protocol
    from lbcheck.study import study_folder
    from lbcheck.study import worker
    from lbcheck.trials import trainer
    from lbcheck.trials import workload

    def build_model():
        model = _network(keras)
        model.compile(loss=_loss(keras), metrics=["accuracy"])
        return model

    arm = _arm()
    runs = trainer.Trainer(
        workload.Workload(build_model, *_data(), _BATCH, _STEPS),
        {arm.name: arm},
    )
    changed(runs)
    study = {
        "name": "benchmark",
        "seed": 0,
        "steps": _STEPS,
        "metric": {"name": runs.metric, "mode": runs.mode},
        "selection": "validation",
        "target": None,
        "trials": trials,
        "refined_trials": 0,
        "seeds": 0,
        "arms": {arm.name: arm.describe()},
    }
    with tempfile.TemporaryDirectory() as folder:
        book = ledger.Ledger(study_folder.storage_url(folder), study)
        worker.work(
            book,
            protocol.Protocol(study),
            runs,
            lambda record: after(record["metrics"]["validation"]["accuracy"]),
            at_once,
        )
        book.close()
    return runs


def rebuild(trials, after):
    """tf_keras: build, compile and fit for every trial."""
    import tf_keras

    train, validation = _data()
    for point in _arm().space.points(0, 0, trials, _STEPS):
        model = _compiled(tf_keras, **point)
        model.fit(_dataset(train), steps_per_epoch=_STEPS, verbose=0)
        after(model.evaluate(*validation, batch_size=_BATCH, verbose=0)[1])


def kerastuner(trials, after):
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
            max_trials=trials,
            directory=folder,
        ).search(
            _dataset(train),
            steps_per_epoch=_STEPS,
            validation_data=validation,
            verbose=0,
        )


_WAYS = {way.__name__: way for way in (bare, ours, rebuild, kerastuner)}


def main(name, trials):
    """Measures one of the above and prints it."""
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
        from lbcheck.study import optuna_storage
        from lbcheck.trials import trainer  # noqa: F401

        del ledger, optuna_storage
        import alembic.command  # noqa: F401
        import optuna  # noqa: F401
        import scipy.stats  # noqa: F401
        import sqlalchemy.orm  # noqa: F401
    ends, sizes, scores = [time.perf_counter()], [], []

    def after(score):
        ends.append(time.perf_counter())
        sizes.append(_resident())
        scores.append(score)

    began = time.process_time()
    more = _WAYS[name](trials, after) or {}
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
                "resident": sizes,
                **more,
            }
        )
    )


def _resident():
    """Resident memory of this process in MB."""
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
