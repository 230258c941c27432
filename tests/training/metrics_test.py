"""What a run measures of its own: metrics that are no numbers."""

import json
import random

import numpy as np
import pytest
import tensorflow as tf
from absl.testing import absltest

from lbcheck import schedules
from lbcheck import training
from lbcheck.support import exit_codes


class Source:
    """Training data that are ones, and a held-out example that is none."""

    num_train = num_validation = 4

    def train(self, size, start=0, shard=0, num_shards=1):
        ones = np.ones((size, 1), np.float32)
        while True:
            yield ones, ones

    def validation(self, size, shard=0, num_shards=1):
        ones = np.ones((size, 1), np.float32)
        yield np.nan * ones, ones, np.ones(size, np.float32)


def build(keras, optimizers, rate=0.1, loss="mse"):
    return training.Workload(
        keras.Sequential([keras.layers.Input((1,)), keras.layers.Dense(1)]),
        optimizers.Momentum(rate),
        loss,
        [keras.metrics.MeanSquaredError(name="error")],
    )


def options(folder, keras="keras3", **more):
    return training.Options(
        folder, 4, 4, log_every=2, keras=keras, progress=False, **more
    )


def test_a_held_out_metric_that_is_no_number_ends_the_run(tmp_path):
    """Its line was no JSON, so that nothing could read the record again."""
    given = options(tmp_path / "run", evaluate_every=2)
    code = training.run(given, build, Source(), "", {})
    assert code == exit_codes.DIVERGED
    status = json.loads((tmp_path / "run/status.json").read_text())
    assert status["first_non_finite_step"] == 1
    assert status["first_non_finite_variable"] == "the metric validation_error"


class Endless(Source):
    """Nothing is held out; one batch may be of no numbers."""

    parts = ()

    def __init__(self, broken_at=None):
        self._broken_at = broken_at

    def train(self, size, start=0, shard=0, num_shards=1):
        for batch, (x, y) in enumerate(super().train(size), start):
            yield (x * np.float32("nan") if batch == self._broken_at else x), y


def steep(rate, slope):
    """A workload whose gradient is `slope`; float16 skips the first updates:
    its loss scale of 2^15 is too great for it, and halves with each."""

    def made(keras, optimizers):
        mean = getattr(keras, "ops", keras.backend).mean

        def loss(y, predicted):
            return slope * mean(predicted, -1)

        return build(keras, optimizers, rate, loss)

    return made


@pytest.mark.parametrize("keras", ["tf_keras", "keras3"])
def test_the_rate_is_that_of_the_last_update_that_was_made(tmp_path, keras):
    """A schedule does not go on where float16 skips an update."""
    rate = schedules.Linear(0.1, 4)
    half = {"mixed_precision": "float16", "keras": keras}
    for slope, expected in (
        (1e4, [rate(0), rate(0)]),  # the loss scale is still too great
        (3.0, [rate(0), rate(2)]),  # and was too great once
    ):
        folder = tmp_path / str(slope)
        given = options(folder, **half)
        code = training.run(given, steep(rate, slope), Endless(), "", {})
        assert code == exit_codes.FINISHED
        lines = (folder / "measurements.jsonl").read_text().splitlines()
        found = [json.loads(line)["learning_rate"] for line in lines]
        assert found == expected, slope


@pytest.mark.parametrize("keras", ["tf_keras", "keras3"])
def test_updates_that_were_skipped_count_until_the_first_bad_one(
    tmp_path, keras
):
    """The optimizer of Keras 3 does not count them, the run does."""
    given = options(tmp_path, mixed_precision="float16", keras=keras)
    code = training.run(given, steep(0.1, 3.0), Endless(2), "", {})
    assert code == exit_codes.DIVERGED
    status = json.loads((tmp_path / "status.json").read_text())
    assert status["first_non_finite_step"] == 2
    assert status["first_non_finite_variable"] is None


@pytest.mark.parametrize("keras", ["tf_keras", "keras3"])
def test_weights_whose_sum_is_beyond_float16_are_finite(tmp_path, keras):
    def wide(keras, optimizers):
        class Wide(keras.layers.Layer):
            def build(self, shape):
                self.add_weight(
                    name="wide",
                    shape=(70_000,),
                    initializer="ones",
                    dtype="float16",
                    trainable=False,
                )
                self.built = True

            def call(self, x):
                return x

        made = build(keras, optimizers)
        layers = [keras.layers.Input((1,)), Wide(), *made.model.layers[-1:]]
        return made._replace(model=keras.Sequential(layers))

    given = options(tmp_path, keras)
    code = training.run(given, wide, Endless(), "", {})
    assert code == exit_codes.FINISHED


def test_the_callers_random_state_stays(tmp_path):
    """A search that draws a rate before each run drew the same ones again."""
    given = options(tmp_path / "run", "tf_keras")

    def draws():
        return random.random(), np.random.rand(), float(tf.random.uniform(()))

    def begin():
        random.seed(3)
        np.random.seed(3)
        tf.random.set_seed(3)

    begin()
    expected = draws()
    for call in (
        lambda: training.plan(given, Endless(), ""),
        lambda: training.run(given, build, Endless(), "", {}),
        lambda: training.evaluate(given, build, Endless(), ""),
        lambda: training.tpu_problems(given, build, Endless()),
    ):
        begin()
        call()
        assert draws() == expected


if __name__ == "__main__":
    absltest.main()
