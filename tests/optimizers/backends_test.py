"""The optimizers on jax and torch, without TensorFlow, in a process each."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from lbcheck import optimizers
from lbcheck.conform import reference
from tests.optimizers import backend_worker
from tests.optimizers import trajectory
from tests.optimizers.trajectory import ADAPTED

ROOT = str(pathlib.Path(__file__).parents[2])
CLOSE = 1e-5


@pytest.fixture(
    scope="module",
    params=["jax", pytest.param("torch", marks=pytest.mark.slow)],
)
def results(request, tmp_path_factory):
    output = tmp_path_factory.mktemp(request.param) / "results.json"
    finished = subprocess.run(
        [sys.executable, "-m", "tests.optimizers.backend_worker", str(output)],
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": request.param},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    found = json.loads(output.read_text())
    assert found["backend"] == request.param
    return found


@pytest.mark.parametrize("name", sorted(backend_worker.CASES))
def test_equals_reference(results, name):
    definition = optimizers.BY_NAME[name.lower()]
    title = definition.rule_class.title
    function, _ = reference.REFERENCES[title, "paper"]
    settings = backend_worker.CASES[name] | definition.fixed
    for keras_only in ("diagnostics_every", "global_clipnorm"):
        settings.pop(keras_only, None)
    peak = settings.pop("learning_rate")
    case = trajectory.problem(40, peak, dtype=np.float32)
    adapt = ADAPTED.get(name, trajectory.DECAY)
    exact = trajectory.step_reference(function, case, adapt=adapt, **settings)
    found = [np.array(weights) for weights in results[name]["weights"]]
    assert trajectory.distance(found, exact, case[0]) < CLOSE


@pytest.mark.parametrize("name", sorted(backend_worker.CASES))
def test_a_later_update_compiles_nothing(results, name):
    """As SOAP's did, of a step that nobody compiled, for every branch."""
    if results["backend"] != "jax":
        pytest.skip("torch compiles nothing at all")
    assert results[name]["compiled"] == []


@pytest.mark.parametrize("case", ["fit", "fit accumulated"])
def test_fit_learns_and_records(results, case):
    before, after, ratios = results[case]
    assert after < 0.8 * before
    assert ratios[0] == 1.0 or ratios[-1] == 1.0
    assert len(set(ratios)) == 3
    assert all(np.isfinite(ratios))
