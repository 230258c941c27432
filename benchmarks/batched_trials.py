"""Trials of a small network on digits with Keras 3 on JAX, against peers.

    python benchmarks/batched_trials.py --trials=40 --rounds=3

Every way in turn in each round, in a process of its own: a study in a ledger
by its worker, whose trials share a compiled step, several at once and one after
the other; the same with a model that is built and compiled for every trial, as
before; KerasTuner's RandomSearch and a loop with Optuna's
RandomSampler, which build, compile and fit. 100 updates of 512 examples a
trial, in an order of one's own, and one evaluation.

Of each peer the seconds a trial, and the processors', which other work on the
machine disturbs less; a ratio of 0.2 is five times the trials an hour.
Without KerasTuner (`pip install keras-tuner`) it is left out.
"""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time

os.environ["KERAS_BACKEND"] = "jax"

import common
import numpy as np
import study_trials
from absl import flags

_BATCH, _STEPS = study_trials._BATCH, study_trials._STEPS
_AT_ONCE = 4


_TRIALS = flags.DEFINE_integer("trials", 40, "Trials of each way.", 1)
_OF_PEERS = flags.DEFINE_integer(
    "trials_of_peers",
    None,
    "The same of those ways whose trials share nothing; unset: as many.",
    1,
)
_ROUNDS = flags.DEFINE_integer("rounds", 3, "Rounds.", 1)
_WAY = flags.DEFINE_string("way", None, "Measure this one here.")


def _build_model():
    import keras

    model = study_trials._network(keras)
    model.compile(loss=study_trials._loss(keras), metrics=["accuracy"])
    return model


def _study(trials, after, at_once, changed=lambda runs: None):
    """A study in a ledger, by its worker."""
    import keras

    study_trials.in_ledger(keras, trials, after, at_once, changed)


def shared(trials, after):
    """One after the other through one compiled step."""
    _study(trials, after, 1)


def batched(trials, after):
    """Several at once."""
    _study(trials, after, _AT_ONCE)


def rebuild(trials, after):
    """A model for each trial, as all trials on JAX had it."""
    from lbcheck.trials import rebuilt_model

    def changed(runs):
        runs._runners = {
            name: rebuilt_model.Rebuilt(runs._workload, arm)
            for name, arm in runs.arms.items()
        }

    _study(trials, after, 1, changed)


def _batches(x, y):
    rng = np.random.default_rng(0)
    while True:
        order = rng.permutation(len(x))
        for start in range(0, len(x) - _BATCH + 1, _BATCH):
            chosen = order[start : start + _BATCH]
            yield x[chosen], y[chosen]


def _fitted(point, train, validation):
    import keras

    keras.utils.clear_session()
    model = study_trials._compiled(keras, **point)
    model.fit(_batches(*train), steps_per_epoch=_STEPS, verbose=0)
    return model.evaluate(*validation, batch_size=_BATCH, verbose=0)[1]


def optuna(trials, after):
    """Optuna's RandomSampler around build, compile and fit."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    train, validation = study_trials._data()

    def objective(trial):
        space = study_trials._SPACE
        decay, rate = space["weight_decay"], space["learning_rate"]
        score = _fitted(
            {
                "learning_rate": trial.suggest_float(
                    "rate", rate["min"], rate["max"], log=True
                ),
                "momentum": trial.suggest_categorical(
                    "momentum", space["momentum"]["values"]
                ),
                "weight_decay": trial.suggest_float(
                    "decay", decay["min"], decay["max"], log=True
                ),
            },
            train,
            validation,
        )
        after(score)
        return score

    sampler = optuna.samplers.RandomSampler(seed=0)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.optimize(objective, n_trials=trials)


def kerastuner(trials, after):
    """KerasTuner's RandomSearch."""
    import keras
    import keras_tuner

    train, validation = study_trials._data()
    rate = study_trials._SPACE["learning_rate"]
    decay = study_trials._SPACE["weight_decay"]

    def build(choice):
        return study_trials._compiled(
            keras,
            choice.Float("rate", rate["min"], rate["max"], sampling="log"),
            choice.Choice(
                "momentum", study_trials._SPACE["momentum"]["values"]
            ),
            choice.Float("decay", decay["min"], decay["max"], sampling="log"),
        )

    class Search(keras_tuner.RandomSearch):
        """Tells when a trial is over."""

        def on_trial_end(self, trial):
            """As of any tuner."""
            super().on_trial_end(trial)
            after(trial.score)

    with tempfile.TemporaryDirectory() as folder:
        tuner = Search(
            build,
            objective="val_accuracy",
            max_trials=trials,
            directory=folder,
        )
        tuner.search(
            _batches(*train),
            steps_per_epoch=_STEPS,
            validation_data=validation,
            verbose=0,
        )


_WAYS = {
    way.__name__: way for way in (shared, batched, rebuild, optuna, kerastuner)
}
_SHARE = ("shared", "batched")


def _one(name, trials):
    """Measures one way in this process and prints it; imports not counted."""
    import scipy.stats  # noqa: F401
    import sqlalchemy.orm  # noqa: F401
    from sklearn import datasets  # noqa: F401

    import lbcheck.trials.trainer  # noqa: F401
    import resnet.data.digits  # noqa: F401

    scores = []
    begun = time.perf_counter(), time.process_time()
    _WAYS[name](trials, scores.append)
    ended = time.perf_counter(), time.process_time()
    assert len(scores) == trials, scores
    assert "tensorflow" not in sys.modules
    wall, processor = ((b - a) / trials for a, b in zip(begun, ended))
    print(
        json.dumps(
            {
                "seconds": wall,
                "processor": processor,
                "best": max(scores),
            }
        )
    )


def _measured(name, trials):
    command = [sys.executable, "-W", "ignore", __file__, f"--way={name}"]
    output = subprocess.run(
        [*command, f"--trials={trials}"],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    ).stdout
    return json.loads(output.splitlines()[-1])


def main(argv):
    """All ways in turn, or one of them."""
    del argv
    if _WAY.value:
        _one(_WAY.value, _TRIALS.value)
        return
    trials = common.sized(_TRIALS.value, 2)
    of_peers = common.sized(_OF_PEERS.value or trials, 2)
    found = {name: [] for name in _WAYS}
    if not importlib.util.find_spec("keras_tuner"):
        del found["kerastuner"]
        print("kerastuner: not installed (pip install keras-tuner).")
    for _ in common.rounds_in_time(common.sized(_ROUNDS.value, 1)):
        for name, rounds in found.items():
            count = trials if name in _SHARE else of_peers
            rounds.append(_measured(name, count))
            print(name, rounds[-1], flush=True)
    ours = found.pop("batched")
    for name, rounds in found.items():
        for key in ("seconds", "processor"):
            common.tell(
                f"a trial of 100 updates, digits on JAX, batch {_BATCH}, of "
                f"{trials}, {_AT_ONCE} at once, {key}",
                [result[key] for result in ours],
                "s",
                [result[key] for result in rounds],
                name,
            )


if __name__ == "__main__":
    common.start(main)
