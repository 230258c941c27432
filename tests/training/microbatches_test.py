"""Microbatches in Keras 3: random numbers, frozen layers, loss scaling."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from tests import programs


def facts(backend, folder):
    output = folder / "facts.json"
    module = "tests.training.microbatches_worker"
    if backend == "tensorflow":
        worker = programs.Program(module, [str(output)])
    else:
        worker = subprocess.Popen(
            [sys.executable, "-m", module, str(output)],
            cwd=programs.ROOT,
            env={**os.environ, "KERAS_BACKEND": backend},
            stderr=subprocess.PIPE,
            text=True,
        )
    _, said = worker.communicate(timeout=300)
    assert worker.returncode == 0, said[-3000:]
    found = json.loads(output.read_text())
    assert found["backend"] == backend
    return found


@pytest.fixture(scope="module", params=["tensorflow", "jax"])
def found(request, tmp_path_factory):
    return facts(request.param, tmp_path_factory.mktemp(request.param))


def test_random_numbers_differ_between_microbatches_and_updates(found):
    weights, _, updates = found["masks"]
    assert updates == 6
    gradients = -np.diff(weights) / 0.1  # twice the part that was kept
    assert (gradients >= 0).all() and (gradients <= 2).all()
    # The same numbers in each of the eight would keep 0, 1 or 2 of its 2.
    assert np.abs(gradients - np.rint(gradients)).max() > 0.1
    assert len(set(np.rint(gradients * 8))) > 2


def test_random_numbers_go_on_where_a_run_was_resumed(found):
    weights, resumed, _ = found["masks"]
    assert resumed == weights[-1]


def test_frozen_variables_stay_as_they_are(found):
    changes = found["frozen"]
    frozen = ("dense_", "batch_normalization/")
    moving = "batch_normalization_1/"
    kept = [c for path, c in changes.items() if path.startswith(frozen)]
    assert kept[:6] == [0.0] * 6
    for name in ("gamma", "beta", "moving_mean", "moving_variance"):
        assert changes[moving + name] > 1e-3


def test_scaled_losses(found):
    distance, updates = found["float16"]
    assert updates == 6
    assert distance < 1e-2


def test_many_parts_are_summed_in_32_bits(found):
    assert found["bfloat16"] == pytest.approx(1.0, abs=0.005)


def test_own_train_step_is_not_divided(found):
    assert found["divided"] is None
    assert "OwnStep has its own train_step" in found["own step"]
    assert found["own step, whole batch"] is None


@pytest.mark.slow  # torch is installed by `make test-all`
def test_torch_is_refused(tmp_path):
    message = facts("torch", tmp_path)["divided"]
    assert "microbatch_size=4 needs Keras 3 on tensorflow or jax" in message
