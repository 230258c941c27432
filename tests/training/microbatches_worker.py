"""Keras 3 in microbatches on one backend; run by microbatches_test.

KERAS_BACKEND=jax python -m tests.training.microbatches_worker FILE.json
"""

import json
import sys

import keras
import numpy as np
from keras import ops

from lbcheck import training
from lbcheck.training.backends import engines

UPDATES = 6


class Source:
    """Random inputs and their sums, or ones."""

    def __init__(self, ones=False):
        self._ones = ones

    def train(self, batch_size, start, shard, num_shards):
        stream = np.random.default_rng(0).normal(size=(UPDATES * 16, 3))
        for first in range(start * batch_size, len(stream), batch_size):
            x = stream[first : first + batch_size].astype("float32")
            if self._ones:
                x = np.ones_like(x)
            yield x, x.sum(-1, keepdims=True)


def dropout():
    return [
        keras.layers.Input((3,)),
        keras.layers.Dropout(0.5, seed=3),
        keras.layers.Dense(1, use_bias=False, kernel_initializer="ones"),
    ]


def frozen():
    return [
        keras.layers.Input((3,)),
        keras.layers.Dense(7, trainable=False),
        keras.layers.BatchNormalization(trainable=False),
        keras.layers.BatchNormalization(),
        keras.layers.Dense(1),
    ]


def dense():
    return [
        keras.layers.Input((3,)),
        keras.layers.Dense(
            4, "tanh", kernel_initializer=keras.initializers.GlorotUniform(1)
        ),
        keras.layers.Dense(
            1, kernel_initializer=keras.initializers.GlorotUniform(2)
        ),
    ]


class OwnStep(keras.Sequential):
    def train_step(self, *arguments):
        return super().train_step(*arguments)


def engine(layers, model=keras.Sequential, loss="mse", **options):
    made = engines.make(
        training.Options(
            "unwritten",
            total_steps=UPDATES,
            keras="keras3",
            **{"batch_size": 12, "microbatch_size": 4, **options},
        )
    )

    def build(keras, optimizers):
        return training.Workload(
            model(layers()), optimizers.Momentum(0.1, momentum=0.0), loss, []
        )

    made.build(build)
    return made


def mean(y, predicted):
    return ops.mean(predicted)


def small(y, predicted):
    # 16 bits hold its gradients at the scale that Keras begins with.
    return 0.05 * ops.mean(ops.square(y - predicted))


def first_weight(one):
    return float(np.ravel(one._read(one.model.weights[0]))[0])


def masks():
    """What an input weighs after each update; its gradient is the part of
    the batch that dropout kept, doubled."""
    options = {"loss": mean, "batch_size": 16, "microbatch_size": 2}
    source = Source(ones=True)
    straight, parts = engine(dropout, **options), engine(dropout, **options)
    weights = [first_weight(straight)]
    for step in range(UPDATES):
        straight.fit(source, step, 1, 1, [])
        weights.append(first_weight(straight))
    parts.fit(source, 0, 1, 3, [])
    resumed = engine(dropout, **options)
    resumed.restore(3, parts.state(with_metrics=False), source)
    resumed.fit(source, 3, 1, 3, [])
    return (
        weights,
        first_weight(resumed),
        int(resumed.model.optimizer.iterations),
    )


def untouched():
    """{variable: largest change} of a model with frozen layers."""
    one = engine(frozen)
    random = np.random.default_rng(5)
    for layer in one.model.layers[:2]:  # of numbers that rounding would change
        shapes = [weight.shape for weight in layer.get_weights()]
        layer.set_weights([random.uniform(0.1, 1.0, s) for s in shapes])
    before = [one._read(v) for v in one.model.variables]
    one.fit(Source(), 0, 1, UPDATES, [])
    return {
        variable.path.partition("/")[2]: float(
            np.abs(one._read(variable) - start).max()
        )
        for variable, start in zip(one.model.variables, before)
        if "seed" not in variable.path
    }


def half():
    """How far 16-bit microbatches are from the whole 16-bit batch, as part of
    how far that moved; updates that loss scaling did not skip."""
    ends = []
    for size in (12, 4):
        one = engine(
            dense,
            loss=small,
            microbatch_size=size,
            mixed_precision="float16",
        )
        before = one._read(one.model.weights[0])
        one.fit(Source(), 0, 1, UPDATES, [])
        ends.append(one._read(one.model.weights[0]))
    apart, moved = ends[1] - ends[0], ends[0] - before
    return (
        float(np.linalg.norm(apart) / np.linalg.norm(moved)),
        int(one.model.optimizer.inner_optimizer.iterations),
    )


def sixteen():
    """A gradient of 1 in 16 bits, of which each of 96 parts gives its part."""

    def layers():
        zeros = {"kernel_initializer": "zeros", "dtype": "bfloat16"}
        return [
            keras.layers.Input((3,)),
            keras.layers.Dense(1, use_bias=False, **zeros),
        ]

    one = engine(layers, loss=mean, batch_size=96, microbatch_size=1)
    one.fit(Source(ones=True), 0, 1, 1, [])
    return first_weight(one) / -0.1


def refusal(**arguments):
    try:
        engine(dense, **arguments)
    except ValueError as error:
        return str(error)
    return None


def main(path):
    """Writes what happened as JSON."""
    found = {"backend": keras.backend.backend()}
    found["divided"] = refusal()
    if found["backend"] != "torch":
        found["own step"] = refusal(model=OwnStep)
        found["own step, whole batch"] = refusal(
            model=OwnStep, microbatch_size=12
        )
        found["masks"] = masks()
        found["frozen"] = untouched()
        found["float16"] = half()
        found["bfloat16"] = sixteen()
    with open(path, "w", encoding="utf-8") as file:
        json.dump(found, file)


if __name__ == "__main__":
    main(sys.argv[1])
