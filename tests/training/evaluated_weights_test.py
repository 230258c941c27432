"""The weights that are measured are those that a run hands on."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys

import h5py
import numpy as np
import pytest

from lbcheck import training
from lbcheck.conform import reference
from lbcheck.support import exit_codes
from lbcheck.training import checkpoints
from tests import programs
from tests.training import training_test

AVERAGING = ("Momentum", "ScheduleFreeAdamW", "Momentum use_ema")


def averaged(folder, keras, how, terminate_at=-1):
    """10 updates of the weight w with the loss w x, x = 1, 2, ..., 10."""
    rule, *average = how.split()

    class Source:
        num_train = num_validation = 8

        def train(self, size, start=0, shard=0, num_shards=1):
            ones = np.ones((size, 1), np.float32)
            for batch in itertools.count(start):
                if batch == terminate_at:
                    os.kill(os.getpid(), signal.SIGTERM)
                yield (batch + 1) * ones, ones

        def validation(self, size, shard=0, num_shards=1):
            ones = np.ones((size, 1), np.float32)
            yield ones, ones, np.ones(size, np.float32)

    def build(keras, optimizers):
        dense = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")

        def predicted(y, w):
            return w

        return training.Workload(
            keras.Sequential([keras.layers.Input((1,)), dense]),
            getattr(optimizers, rule)(
                0.1,
                **dict.fromkeys(average, True),
                **({"ema_momentum": 0.75} if average else {}),
            ),
            predicted,
            [keras.metrics.MeanMetricWrapper(predicted, "weight")],
        )

    options = training.Options(
        folder, 8, 10, log_every=4, keras=keras, progress=False
    )
    return training.run(options, build, Source(), f"--how={how}\n", {})


def averaged_by_hand(keras, how):
    """(weight of training, weight to evaluate) after the 10 updates."""
    w = average = 1.0
    state = {}
    for step in range(1, 11):
        if how == "ScheduleFreeAdamW":
            w = reference.schedule_free_adamw(w, float(step), state, 0.1, step)
            average = state["x"]
            continue
        state["m"] = 0.9 * state.get("m", 0.0) + step
        w -= 0.1 * state["m"]
        if "use_ema" not in how or (keras == "keras3" and step == 1):
            average = w  # Keras 3 begins the average with its first weight
        else:
            average = 0.75 * average + 0.25 * w
    return w, average


@pytest.mark.parametrize("how", AVERAGING)
@pytest.mark.parametrize("keras", ["tf_keras", "keras3"])
def test_what_is_measured_is_handed_on(tmp_path, keras, how):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert averaged(whole, keras, how) == exit_codes.FINISHED
    assert averaged(parts, keras, how, 5) == exit_codes.INTERRUPTED
    older = tmp_path / "older"
    shutil.copytree(parts, older)
    step, state = checkpoints.of(older).newest()
    state = {n: a for n, a in state.items() if "evaluation/" not in n}
    checkpoints.of(older).save(step, state)  # as it was without them
    for folder in (parts, older):
        assert averaged(folder, keras, how) == exit_codes.FINISHED
        assert_averaged(whole, folder, keras, how)


@pytest.mark.slow  # the jax of Keras 3 needs its own processes
@pytest.mark.parametrize("how", AVERAGING)
def test_what_is_measured_is_handed_on_by_jax(tmp_path, how):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder, more, code in (
        (whole, "", exit_codes.FINISHED),
        (parts, ", 5", exit_codes.INTERRUPTED),
        (parts, "", exit_codes.FINISHED),
    ):
        script = (
            "import sys; from tests.training import evaluated_weights_test; "
            f"sys.exit(evaluated_weights_test.averaged("
            f"{str(folder)!r}, 'keras3', {how!r}{more}))"
        )
        done = subprocess.run(
            [sys.executable, "-c", script],
            cwd=programs.ROOT,
            env={**os.environ, "KERAS_BACKEND": "jax"},
            stderr=subprocess.PIPE,
        )
        assert done.returncode == code, done.stderr
    assert_averaged(whole, parts, "keras3", how)


def assert_averaged(whole, parts, keras, how):
    training_test.assert_same_run(parts, whole)
    _, arrays, lines = training_test.final_state(whole)
    w, average = averaged_by_hand(keras, how)
    assert arrays["model/0"] == pytest.approx(w, rel=1e-5)
    assert json.loads(lines.splitlines()[-1])[
        "validation_weight"
    ] == pytest.approx(average, rel=1e-5)
    if how == "Momentum":
        assert "evaluation/0" not in arrays
    else:
        assert w != pytest.approx(average, rel=1e-3)
        assert arrays["evaluation/0"] == pytest.approx(average, rel=1e-5)
    for folder in (whole, parts):
        with h5py.File(folder / "model.weights.h5") as file:
            final = file["layers/dense/vars/0"][()]
        assert final == arrays.get("evaluation/0", arrays["model/0"])
