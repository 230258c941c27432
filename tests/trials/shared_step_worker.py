"""Trials on JAX in every way, and a study, for `shared_step_test`.

    KERAS_BACKEND=jax python -m tests.trials.shared_step_worker FOLDER PART..

Prints one line of JSON; what a study writes is in FOLDER.
"""

import json
import pathlib
import sys
from unittest import mock

import keras
import numpy as np

import lbcheck
from lbcheck.search import arm as arms
from lbcheck.support import random_state
from lbcheck.trials import rebuilt_model
from lbcheck.trials import scalar_argument
from lbcheck.trials import shared_step
from lbcheck.trials import trainer as trainers
from lbcheck.trials import workload as workloads

BATCH, STEPS = 32, 12
_RNG = np.random.default_rng([2021, 13])
_X = _RNG.normal(size=(90, 4, 4, 1)).astype("float32")
_Y = (np.abs(_X).sum((1, 2, 3)) > 12.6).astype("int32") + (_X[:, 0, 0, 0] > 0)
POINT = {"learning_rate": 0.02, "weight_decay": 0.1, "warmup_steps": 3}
_OWN = {
    "lamb": {"beta_1": 0.8},
    "nesterov": {"momentum": 0.9},
    "schedulefreeadamw": {"beta_1": 0.9},
}


def build_model(convolution=False, label_smoothing=0.0):
    """With statistics that move and dropout."""
    layers = keras.layers
    stem = [layers.Flatten(), layers.Dense(16, use_bias=False)]
    if convolution:
        stem = [layers.Conv2D(4, 3, use_bias=False), layers.Flatten()]
    model = keras.Sequential(
        [
            keras.Input((4, 4, 1)),
            *stem,
            layers.BatchNormalization(momentum=0.9),
            layers.ReLU(),
            layers.Dropout(0.25),
            layers.Dense(3),
        ]
    )
    from resnet import losses

    loss = losses.cross_entropy(keras, label_smoothing)
    accuracy = keras.metrics.SparseCategoricalAccuracy(name="accuracy")
    model.compile("adam", loss, metrics=[accuracy])
    return model


def convolutional(label_smoothing=0.0):
    """One with a convolution."""
    return build_model(True, label_smoothing)


def plain():
    """One that takes no hyperparameter."""
    return build_model()


def point(name, **changes):
    """Hyperparameters of an arm."""
    of_arm = {} if name == "schedulefreeadamw" else POINT
    rate = {"learning_rate": 0.02, "warmup_steps": 3}
    return {**rate, **of_arm, **_OWN[name], **changes}


def arm_of(name, **more):
    """The arm of an optimizer."""
    values = {n: {"value": v} for n, v in {**point(name), **more}.items()}
    if name == "nesterov":
        values["l2"] = values.pop("weight_decay")
    return arms.Arm(name, name, values)


def task(name, index=0, seed=3, **changes):
    """A task of it."""
    hyperparameters = point(name, **changes)
    if name == "nesterov":
        hyperparameters["l2"] = hyperparameters.pop("weight_decay")
    return {
        "arm": name,
        "stage": "broad",
        "index": index,
        "seed": seed,
        "hyperparameters": hyperparameters,
    }


def trainer_of(arm, model=plain, **changes):
    """A trainer of one arm."""
    data = (_X[:70], _Y[:70]), (_X[70:], _Y[70:])
    workload = workloads.Workload(model, *data, BATCH, STEPS)
    return trainers.Trainer(workload._replace(**changes), {arm.name: arm})


def rebuilt(trainer):
    """The same trainer, whose trials are built anew."""
    (name,) = trainer.arms
    arm = trainer.arms[name]
    trainer._runners = {name: rebuilt_model.Rebuilt(trainer._workload, arm)}
    return trainer


def by_hand(one):
    """(first, last weights) of a plain loop of a task."""
    with random_state.kept():
        keras.utils.set_random_seed(one["seed"])
        model = plain()
        optimizer = arm_of(one["arm"]).make(
            "keras3", one["hyperparameters"], STEPS
        )
        model.compile(optimizer, model.loss)
        first = model.get_weights()
        order = [
            np.random.default_rng([one["seed"], epoch]).permutation(70)
            for epoch in range(STEPS * BATCH // 70 + 1)
        ]
        for chosen in np.concatenate(order)[: STEPS * BATCH].reshape(STEPS, -1):
            model.train_on_batch(_X[:70][chosen], _Y[:70][chosen])
        return first, model.get_weights()


def distance(weights, first, last):
    """Of the weights that training gave, in parts of what moved by hand."""
    return max(
        float(np.linalg.norm(w - b) / np.linalg.norm(b - a))
        for w, a, b in zip(weights, first, last)
    )


def weights(trainer, name):
    """Those of the model, after `show`."""
    return trainer._runners[name].model.get_weights()


def _ways(found):
    """LAMB: one after the other, at once, rebuilt and by hand."""
    tasks = [
        task("lamb"),
        task("lamb", 1, learning_rate=0.3, warmup_steps=5),
        task("lamb", 2, learning_rate=1e38),
        task("lamb", 3, seed=9, weight_decay=0.0, beta_1=0.95),
    ]
    watched = {"evaluate_at": (5,)}
    trainer = trainer_of(arm_of("lamb"))
    hand = by_hand(tasks[0])
    found["sequential"] = [trainer.run(t, **watched) for t in tasks]
    trainer._runners["lamb"].show(0)
    found["distances"] = {"other": distance(weights(trainer, "lamb"), *hand)}
    found["together"] = trainer.run_together(tasks, **watched)
    for place in (0, 3):
        trainer._runners["lamb"].show(place)
        far = distance(weights(trainer, "lamb"), *hand)
        found["distances"][f"together {place}"] = far
    found["fewer"] = trainer.run_together(tasks[:3], **watched)
    found["traces"] = trainer.traces
    found["looked"] = trainer.run(tasks[0], diagnostics_every=5, **watched)
    found["rebuilt"] = rebuilt(trainer_of(arm_of("lamb"))).run(
        tasks[3], **watched
    )


def _mutants(found):
    """How far from training by hand a mistake in the step leads."""
    one = task("lamb")
    hand = by_hand(one)
    mistakes = {
        "rates": (
            scalar_argument.Rates,
            "__call__",
            lambda self, step: 0.0 if self.given is None else self.given[5],
        ),
        "state": (
            shared_step.Program,
            "_all",
            lambda self, others: [
                v.value for v in self.model.non_trainable_variables
            ],
        ),
    }
    mistakes["none"] = (trainers, "_ACCURACIES", trainers._ACCURACIES)
    found["mutants"] = {}
    for name, mistake in mistakes.items():
        with mock.patch.object(*mistake):
            trainer = trainer_of(arm_of("lamb"))
            trainer.run(one)
            trainer._runners["lamb"].show(0)
            far = distance(weights(trainer, "lamb"), *hand)
            found["mutants"][name] = far


def _convolutions(found):
    """A convolution, a model's number, ways of evaluation, short memory."""
    arm = arm_of("nesterov", label_smoothing=0.1)
    tasks = [
        task("nesterov", i, label_smoothing=tau)
        for i, tau in enumerate((0.1, 0.0, 0.3))
    ]
    tasks.insert(
        1, task("nesterov", 3, learning_rate=1e38, label_smoothing=0.1)
    )
    trainer = trainer_of(arm, convolutional)
    found["smoothed"] = [trainer.run(t) for t in tasks]
    found["smoothed together"] = trainer.run_together(tasks)
    found["smoothed rebuilt"] = rebuilt(trainer_of(arm, convolutional)).run(
        tasks[3]
    )
    found["smoothed traces"] = trainer.traces
    average = arm_of("schedulefreeadamw")
    one = task("schedulefreeadamw")
    with mock.patch.object(shared_step, "_free_memory", lambda: 1):
        found["average"] = trainer_of(average).run_together([one, one])
    found["average rebuilt"] = rebuilt(trainer_of(average)).run(one)


class _Masked(keras.layers.Layer):
    """A mask of numbers whose sum no float holds."""

    def build(self, shape):
        """As of any layer."""
        least = keras.initializers.Constant(np.finfo("float32").min)
        self.mask = self.add_weight(
            shape=shape[1:], initializer=least, trainable=False
        )

    def call(self, x):
        """As of any layer."""
        return keras.ops.maximum(x, self.mask)


def looked_up(kind=1):
    """One that looks its number up, and takes a variable for another."""
    is_number = isinstance(kind, (int, float))
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((4, 4, 1)),
            layers.Flatten(),
            _Masked(),
            layers.Dense(8, "tanh"),
            layers.Rescaling(3.0 if kind in {2, 3} else 1.0),
            layers.Rescaling(2.0 if is_number else 1.0),
            layers.Dense(3),
        ]
    )
    model.compile("sgd", plain().loss, metrics=["accuracy"])
    return model


def _looked_up(found):
    values = {n: {"value": v} for n, v in point("lamb").items()}
    values["kind"] = {"values": [1, 2]}
    arm = arms.Arm("lamb", "lamb", values)
    tasks = [task("lamb", kind=kind) for kind in (1, 2)]
    found["looked up"] = trainer_of(arm, looked_up).run_together(tasks)
    by_itself = rebuilt(trainer_of(arm, looked_up))
    found["looked up rebuilt"] = [by_itself.run(one) for one in tasks]


class _OwnStep(keras.Sequential):
    def train_step(self, state, data):
        """As of any model."""
        return super().train_step(state, data)


def tiny(sequential=keras.Sequential, **more):
    """The least that can be compiled, where numbers do not matter."""
    layers = keras.layers
    model = sequential(
        [keras.Input((4, 4, 1)), layers.Flatten(), layers.Dense(3)]
    )
    model.compile("sgd", plain().loss, metrics=["accuracy"], **more)
    return model


def _facts(found):
    """Of workloads and arms that cannot share a step."""
    lamb = arm_of("lamb")

    def own_step():
        return tiny(_OwnStep)

    def eager():
        return tiny(run_eagerly=True)

    def batches():
        while True:
            yield _X[:BATCH], _Y[:BATCH]

    space = {
        "momentum": {"min": 0.1, "max": 0.9, "scale": "linear"},
        "learning_rate": {"value": 0.1},
    }
    constant = arms.Arm("sgd", keras.optimizers.SGD, space)
    found["facts"] = {
        "own": trainer_of(lamb, own_step).facts(),
        "eager": trainer_of(lamb, eager).facts(),
        "stream": trainer_of(lamb, tiny, train=batches).facts(),
        "constant": trainer_of(constant, tiny).facts(),
    }


class _Decoder(keras.Model):
    """Learns to give what it gets; by a loss of its own without labels."""

    def __init__(self, labelled):
        super().__init__()
        self.dense = keras.layers.Dense(16, use_bias=False)
        self.calls = self.add_weight(
            name="calls", initializer="zeros", trainable=False
        )
        self.labelled = labelled

    def call(self, x):
        """As of any model."""
        x = x["x"] if isinstance(x, dict) else x
        self.calls.assign(self.calls + 1)
        decoded = self.dense(x)
        if not self.labelled:
            self.add_loss(keras.ops.mean((decoded - x) ** 2))
        return decoded


def _streams(found):
    """Weights after training on batches, and those of NumPy in float64."""
    import tensorflow as tf

    x = _X[:90].reshape(-1, 16)
    slices = tf.data.Dataset.from_tensor_slices
    data = {
        "dataset": slices((x, x)).batch(30),
        "dicts": slices({"x": x}).batch(30),
    }
    rate = {"learning_rate": 0.5, "momentum": 0.0}
    arm = arms.Arm(
        "sgd", "momentum", {n: {"value": v} for n, v in rate.items()}
    )
    one = {**task("lamb"), "arm": "sgd", "hyperparameters": rate}
    rates = arm.schedule_of(rate, STEPS)(np.arange(STEPS))
    found["streams"] = {}
    for name, batches in data.items():

        def build(labelled=name == "dataset"):
            model = _Decoder(labelled)
            model.compile("sgd", "mse" if labelled else None)
            return model

        both = {"train": batches, "validation": batches, "batch_size": 30}
        trainer = trainer_of(arm, build, **both)
        record = trainer.run(one)
        trained = trainer._runners["sgd"].model
        ours = trained.trainable_variables[0].numpy()
        with random_state.kept():
            random_state.begin(one["seed"])
            model = build()
            model(x[:2])
            hand = model.trainable_variables[0].numpy()
        for step in range(STEPS):
            part = np.split(x, 3)[step % 3].astype("float64")
            gradient = 2 / part.size * part.T @ (part @ hand - part)
            hand = hand - rates[step] * gradient
        found["streams"][name] = {
            "far": float(abs(ours - hand).max()),
            "calls": float(trained.calls.value),
            "loss": record["metrics"]["validation"]["loss"],
            "by hand": float(np.mean((x @ hand - x) ** 2)),
        }
    found["streams"]["seen"] = trainer.fingerprint(0)["numbers"]["loss"]


def _shared_layers(found):
    """Of a base of all models: trained, or frozen."""
    layers = keras.layers
    base = keras.Sequential(
        [
            keras.Input((4, 4, 1)),
            layers.Flatten(),
            layers.Dense(8, name="base"),
            layers.BatchNormalization(),
        ],
        name="base",
    )

    def build():
        model = keras.Sequential([base, layers.Dense(3)])
        model.compile("sgd", plain().loss)
        return model

    def of_seed(seed):
        return _X[: 60 + seed], _Y[: 60 + seed]

    trainer = trainer_of(arm_of("lamb"), train=of_seed, batch_size=8)
    found["lengths"] = [
        trainer.run(task("lamb", seed=seed))["status"] for seed in (1, 2)
    ]
    try:
        trainer_of(arm_of("lamb"), build)
    except ValueError as error:
        found["trained base"] = str(error)
    base.trainable = False
    trainer = trainer_of(arm_of("lamb"), build)
    first = trainer.run(task("lamb"))
    # Keras's steps delete the values that they are given.
    trainer.fingerprint(3)
    found["frozen base"] = [first, trainer.run(task("lamb"))]


def _study(found, folder):
    """A study in a ledger, two trials at once."""
    comparison = lbcheck.compare(
        tiny,
        (_X[:70], _Y[:70]),
        (_X[70:], _Y[70:]),
        batch_size=BATCH,
        steps=3,
        arms=["nesterov"],
        trials=2,
        seeds=1,
        batched_trials=2,
        output_dir=str(pathlib.Path(folder) / "study"),
    )
    found["study"] = comparison.records
    # Before training by hand: Keras's set_random_seed imports TensorFlow.
    found["modules"] = sorted(
        {"tensorflow", "tf_keras", "torch"} & set(sys.modules)
    )


_PARTS = {
    "ways": _ways,
    "convolutions": _convolutions,
    "facts": _facts,
    "streams": _streams,
    "shared_layers": _shared_layers,
    "looked_up": _looked_up,
    "mutants": _mutants,
}


def main(folder, *parts):
    """Does those parts, or a study."""
    found = {}
    for part in parts:
        if part == "study":
            _study(found, folder)
        else:
            _PARTS[part](found)
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
