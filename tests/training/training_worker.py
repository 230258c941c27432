"""A small program around lbcheck.training; run by the training tests.

    python -m tests.training.training_worker --output_dir=DIR --total_steps=40
    python -m tests.training.training_worker --cases=FILE.npz --rules=LARS,LAMB

The first form trains a convolution with ghost batch norm and dropout on
digits and ends with the run's exit code. The second runs the exactness cases
of one Keras, for tf_keras on one and two logical CPUs, and stores {case:
final variables}.
"""

import contextlib
import os
import signal
import sys
import time
from unittest import mock

import numpy as np
from absl import flags

from lbcheck import schedules
from lbcheck import training
from lbcheck.support import command
from resnet import data
from resnet import ghost_batch_norm

_FLAGS = flags.FlagValues()  # the tests import this beside other workers
_CASES = flags.DEFINE_string(
    "cases", None, "Run the exactness cases.", flag_values=_FLAGS
)
_RULES = flags.DEFINE_list(
    "rules", [], "Rules of the exactness cases.", flag_values=_FLAGS
)
_OUTPUT = flags.DEFINE_string(
    "output_dir", None, "Record of the run.", flag_values=_FLAGS
)
_STEPS = flags.DEFINE_integer("total_steps", 40, "Updates.", flag_values=_FLAGS)
_MICROBATCH = flags.DEFINE_integer(
    "microbatch_size", None, "Of a replica.", flag_values=_FLAGS
)
_KERAS = flags.DEFINE_string(
    "keras", "tf_keras", "tf_keras or keras3.", flag_values=_FLAGS
)
_DISTRIBUTION = flags.DEFINE_string(
    "distribution", "auto", "Strategy.", flag_values=_FLAGS
)
_EXECUTION = flags.DEFINE_integer(
    "steps_per_execution", 1, "Updates a call.", flag_values=_FLAGS
)
_RATE = flags.DEFINE_float("learning_rate", 2.0, "Rate.", flag_values=_FLAGS)
_PAUSE = flags.DEFINE_float(
    "pause", 0.0, "Seconds a batch of data takes.", flag_values=_FLAGS
)
_TERMINATE_AT = flags.DEFINE_integer(
    "terminate_at", -1, "SIGTERM at batch.", flag_values=_FLAGS
)
_BREAK_AT = flags.DEFINE_integer(
    "break_at", -1, "NaN in this batch.", flag_values=_FLAGS
)
_DROPOUT = flags.DEFINE_bool(
    "dropout", True, "Whether the model has one.", flag_values=_FLAGS
)
_LOG_EVERY = flags.DEFINE_integer(
    "log_every", 10, "Updates in an interval.", flag_values=_FLAGS
)
_FAIL_AT = flags.DEFINE_integer(
    "fail_at", -1, "Data error in this batch.", flag_values=_FLAGS
)

RULES = {
    "Nesterov": {
        "learning_rate": schedules.Cosine(0.1, total_steps=10),
        "l2": 1e-3,
    },
    "Momentum": {"learning_rate": 0.05},
    "LARS": {"learning_rate": 2.0, "weight_decay": 1e-3},
    "LAMB": {"learning_rate": 0.01},
    "AdamW": {"learning_rate": 0.003, "epsilon": 1e-4},
    "Adagrad": {"learning_rate": 0.01},
}


WAYS = {
    "whole": {},
    "microbatches": {"microbatch_size": 64},
    "replicas": {"distribution": "mirrored"},
    "both": {"distribution": "mirrored", "microbatch_size": 128},
    "compiled": {"microbatch_size": 64, "xla": True},
}
KERAS3_WAYS = {
    "tensorflow": ("whole", "microbatches", "compiled"),
    "jax": ("whole", "microbatches"),  # compiled as it is
}
MUTANTS = ("statistics of one microbatch after the other", "last microbatch")


class Source:
    """Digits, slowed down or spoiled where the flags say so."""

    def __init__(self):
        self._digits = data.load("digits")

    def __getattr__(self, name):
        return getattr(self._digits, name)

    def train(self, batch_size, start=0, shard=0, num_shards=1):
        stream = self._digits.train(batch_size, start, shard, num_shards)
        for batch, (images, labels) in enumerate(stream, start):
            time.sleep(_PAUSE.value)
            if batch == _TERMINATE_AT.value:
                os.kill(os.getpid(), signal.SIGTERM)
            if batch == _BREAK_AT.value:
                images = images * np.float32("nan")
            if batch == _FAIL_AT.value:
                raise ValueError("images.bin: record 17 is not an image.")
            yield images, labels


def builder(rule, settings, dropout):
    """What `training.run` takes."""

    def build(keras, optimizers):
        layers, glorot = keras.layers, keras.initializers.GlorotUniform
        ghost = ghost_batch_norm.of(keras)
        norm = [ghost(virtual_batch_size=64) for _ in range(2)]
        model = keras.Sequential(
            [
                layers.Input((8, 8, 1)),
                layers.Conv2D(
                    8, 3, use_bias=False, kernel_initializer=glorot(1)
                ),
                norm[0],
                layers.ReLU(),
                layers.Flatten(),
                layers.Dense(32, use_bias=False, kernel_initializer=glorot(2)),
                norm[1],
                layers.ReLU(),
                *([layers.Dropout(0.1)] if dropout else []),
                layers.Dense(10, kernel_initializer=glorot(3)),
            ]
        )
        return training.Workload(
            model,
            getattr(optimizers, rule)(**settings),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            [keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
        )

    return build


@contextlib.contextmanager
def mutation(engine, way):
    """Breaks what a mutant breaks, as long as it is entered."""
    with contextlib.ExitStack() as changes:
        on_jax = os.environ["KERAS_BACKEND"] == "jax"
        if on_jax and way in MUTANTS:
            from lbcheck.training.backends import keras3_jax_updates as module

            name, broken = {
                MUTANTS[0]: ("_is_statistic", lambda array: False),
                MUTANTS[1]: ("_add", lambda total, part: part),
            }[way]
            changes.enter_context(mock.patch.object(module, name, broken))
        elif way == MUTANTS[0]:
            engine._update._statistics = []
        elif way == MUTANTS[1]:
            for total in engine._update._gradients:
                total.assign_add = total.assign
        yield


def divide_cpu():
    """Two logical CPUs, which "mirrored" trains on."""
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * 2
    )


def exactness_cases():
    """One step of 512, 8 x 64 accumulated and 2 replicas x 256."""
    from lbcheck.training.backends import engines

    ways = WAYS
    if _KERAS.value == "tf_keras":
        divide_cpu()
    else:
        names = KERAS3_WAYS[os.environ["KERAS_BACKEND"]]
        ways = {name: WAYS[name] for name in names}
    results = {}

    def keep(engine, *names):
        state = engine.state(with_metrics="end" in names)
        for name, array in state.items():
            if array.dtype.kind == "f":
                results["|".join([*names, name])] = array

    for rule in _RULES.value:
        for way in (*ways, *(MUTANTS if rule == "Nesterov" else ())):
            how = ways.get(way, ways["microbatches"])
            engine = engines.make(
                training.Options(
                    output_dir="unwritten",
                    batch_size=512,
                    total_steps=10,
                    keras=_KERAS.value,
                    **{"distribution": "one_device", **how},
                )
            )
            engine.build(builder(rule, RULES[rule], dropout=False))
            keep(engine, rule, way, "start")
            with mutation(engine, way):
                engine.fit(Source(), 0, 1, 10, [])
            keep(engine, rule, way, "end")
    np.savez(_CASES.value, **results)


def main():
    """Runs what the flags say."""
    _FLAGS(sys.argv)
    if _CASES.value:
        return exactness_cases()
    if _DISTRIBUTION.value == "mirrored":
        divide_cpu()
    options = training.Options(
        output_dir=_OUTPUT.value,
        batch_size=256,
        total_steps=_STEPS.value,
        microbatch_size=_MICROBATCH.value,
        log_every=_LOG_EVERY.value,
        evaluate_every=20,
        deterministic=True,
        distribution=_DISTRIBUTION.value,
        keras=_KERAS.value,
        steps_per_execution=_EXECUTION.value,
        progress=False,
    )
    build = builder(
        "LARS", {"learning_rate": _RATE.value}, dropout=_DROPOUT.value
    )
    return training.run(
        options, build, Source(), f"--rate={_RATE.value}\n", {"rule": 1}
    )


if __name__ == "__main__":
    command.run("training_worker", main)
