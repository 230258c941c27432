"""Workloads and an arm for the tests of `lbcheck compare`."""

import importlib

import numpy as np

import lbcheck


def data(count, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 8)).astype("float32")
    return x, (x[:, :4].sum(1) > x[:, 4:].sum(1)).astype("int32")


def keras_of(name):
    return importlib.import_module(
        {"keras3": "keras", "tf_keras": "tf_keras"}[name]
    )


def build(keras):
    model = keras.Sequential(
        [
            keras.layers.Input((8,)),
            keras.layers.Dense(8, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(2),
        ]
    )
    model.compile(
        "sgd",
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def small(keras="tf_keras", steps=12, **changes):
    room = keras_of(keras)
    given = {
        "build_model": lambda: build(room),
        "train": data(256, 0),
        "validation": data(128, 1),
        "batch_size": 64,
        "steps": steps,
        "name": "small",
    }
    return lbcheck.Workload(**given | changes)


class Broken:
    def __call__(self):
        model = build(keras_of("tf_keras"))
        model.train_step = lambda data: {}["no such loss"]
        return model


def broken():
    return small(build_model=Broken())


def not_a_number():
    x, y = data(256, 0)
    x[::2] = np.nan
    return small(train=(x, y))


def metric_not_a_number():
    keras = keras_of("tf_keras")

    def build_model():
        model = build(keras)

        def ratio(y, predicted):
            return predicted[:, 0] * float("nan")

        model.compile(loss=model.loss, metrics=[ratio])
        return model

    return small(build_model=build_model, metric="ratio", mode="max")


def of_one_batch_size():
    keras = keras_of("tf_keras")

    def build_model():
        model = keras.Sequential(
            [
                keras.layers.InputLayer((8,), batch_size=64),
                keras.layers.Dense(2),
            ]
        )
        model.compile("sgd", "mse")
        return model

    return small(build_model=build_model)


def too_short():
    return small(batch_size=512)


def fails():
    raise RuntimeError("no data today")


def fails_to_build():
    def build_model():
        raise RuntimeError("no model today")

    return small(build_model=build_model)


def a_number():
    return 3


MINE = lbcheck.Arm(
    "mine",
    "lbcheck.tf_keras:Momentum",
    {"learning_rate": {"min": 0.01, "max": 1.0, "scale": "log"}},
)
