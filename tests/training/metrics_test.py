"""What a run measures of its own: metrics that are no numbers."""

import json

import numpy as np
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


def options(folder, **more):
    return training.Options(
        folder, 4, 4, log_every=2, keras="keras3", progress=False, **more
    )


def test_a_held_out_metric_that_is_no_number_ends_the_run(tmp_path):
    """Its line was no JSON, so that nothing could read the record again."""
    given = options(tmp_path / "run", evaluate_every=2)
    code = training.run(given, build, Source(), "", {})
    assert code == exit_codes.DIVERGED
    status = json.loads((tmp_path / "run/status.json").read_text())
    assert status["first_non_finite_step"] == 1
    assert status["first_non_finite_variable"] == "the metric validation_error"


def test_the_rate_is_that_of_the_last_update_that_was_made(tmp_path):
    """Keras 3's schedule does not go on where float16 skips an update."""
    rate = schedules.Linear(0.1, 4)

    def steep(keras, optimizers):
        def loss(y, predicted):
            return 1e4 * keras.ops.mean(predicted, -1)

        return build(keras, optimizers, rate, loss)

    class Endless(Source):
        parts = ()

    given = options(tmp_path, mixed_precision="float16")
    assert training.run(given, steep, Endless(), "", {}) == exit_codes.FINISHED
    lines = (tmp_path / "measurements.jsonl").read_text().splitlines()
    found = [json.loads(line)["learning_rate"] for line in lines]
    assert found == [rate(0), rate(0)]  # the loss scale is still too great


if __name__ == "__main__":
    absltest.main()
