"""The watch of other libraries: known defects found, no false alarms."""

import json
import os
import pathlib
import subprocess
import sys

import pytest
import tf_keras

from lbcheck.conform import papers
from lbcheck.conform import subjects
from lbcheck.conform import watch
from lbcheck.conform import watch_report

DEFECTS = pathlib.Path(__file__).parents[2] / "docs/defects"
TOLERANCE = 1e-4
CLEAN = ("Adam", "SGD", "RMSprop", "Adagrad")
WATCHED = (
    *CLEAN,
    "SGD(nesterov)",
    "AdamW",
    "Lamb",
    "Muon",
    "ScheduleFreeAdamW",
)


@pytest.fixture(
    scope="module",
    params=["tensorflow", pytest.param("jax", marks=pytest.mark.slow)],
)
def found(request):
    """{(optimizer, condition): finding} of Keras 3, on a seed of its own."""
    seed = {"tensorflow": 11, "jax": 12}[request.param]
    ran = subprocess.run(
        [
            sys.executable,
            "-m",
            "lbcheck.conform.watch",
            "keras3",
            ",".join(WATCHED),
            str(seed),
            str(TOLERANCE),
        ],
        env={**os.environ, "KERAS_BACKEND": request.param},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    rows = [
        watch.Row(**json.loads(line))
        for line in ran.stdout.splitlines()
        if line.startswith("{")
    ]
    assert {row.backend for row in rows} == {request.param}
    for row in rows:
        if row.difference is not None and not row.finding:
            assert row.difference <= TOLERANCE, row
    return {(row.optimizer, row.condition): row.finding for row in rows}


def test_no_false_alarms(found):
    for (optimizer, condition), finding in found.items():
        if optimizer in CLEAN:
            assert not finding, (optimizer, condition, finding)


def test_the_known_defects_are_found(found):
    on_tensorflow = "z is read" in found["ScheduleFreeAdamW", "constant rate"]
    nesterov = found["SGD(nesterov)", "changing rate"]
    assert "inside the momentum buffer" in nesterov
    assert not found["SGD(nesterov)", "constant rate"]
    assert "outside the trust ratio" in found["Lamb", "weight decay"]
    assert not found["Lamb", "changing rate"]
    wrong = found["Muon", "selection"]
    for name in ("query/bias is", "logits/kernel is", "query/kernel is not"):
        assert name in wrong
    assert not found["Muon", "changing rate"]
    free = "ScheduleFreeAdamW"
    assert bool(found[free, "effect of beta_1"]) == on_tensorflow
    assert not found[free, "effect of beta_2"]
    assert "never reaches z" in found[free, "weight decay"]
    assert "no evaluation point" in found[free, "evaluation point"]
    every = {c: f for (o, c), f in found.items() if o == watch.EVERY}
    assert "micro-steps" in every["accumulation"]
    # By the backend: on TensorFlow a layer's name does exclude.
    assert ("exclusion" in every) != on_tensorflow


def test_tf_keras_has_its_own(tmp_path):
    rows = list(watch_report.rows_of("tf_keras", ["Adam", "SGD"], 5, TOLERANCE))
    every = {r.condition: r.finding for r in rows if r.optimizer == watch.EVERY}
    assert list(every) == ["loss scaling"] and "skipped step" in str(every)
    assert not [r for r in rows if r.optimizer != watch.EVERY and r.finding]


def test_a_defect_that_is_mended_is_no_finding():
    """The reading, not the name, decides."""
    library = watch.Library("tf_keras")
    subject = next(s for s in subjects.SUBJECTS if s.name == "RMSprop")
    constant = watch.CONDITIONS[0]
    row = watch.compared(library, subject, constant, 3, TOLERANCE)
    assert not row.finding
    wrong = subject._replace(readings=(subjects.Reading(papers.adadelta),))
    row = watch.compared(library, wrong, constant, 3, TOLERANCE)
    assert row.finding == "equals no reading that is known here"
    assert row.difference > 0.01


class WrongOfARank(tf_keras.optimizers.SGD):
    """Half a step too far for arrays of one rank."""

    rank = 0

    def update_step(self, gradient, variable):
        factor = 1.5 if variable.shape.rank == self.rank else 1.0
        super().update_step(factor * gradient, variable)


class DecaysAtThePeak(tf_keras.optimizers.SGD):
    """Its decay has the peak rate, whatever the schedule says."""

    def _apply_weight_decay(self, variables):
        for variable in variables:
            part = (self.weight_decay or 0.0) * watch.PEAK
            variable.assign_sub(part * variable)


@pytest.mark.parametrize("rank", [None, 0, 1, 2, 3, 4])
def test_a_planted_defect_is_found(rank, monkeypatch):
    wrong = DecaysAtThePeak if rank is None else WrongOfARank
    condition = watch.CONDITIONS[0 if rank is not None else 2]
    monkeypatch.setattr(WrongOfARank, "rank", rank)
    library, sgd = watch.Library("tf_keras"), subjects.SUBJECTS[0]
    assert not watch.compared(library, sgd, condition, 6, TOLERANCE).finding
    monkeypatch.setattr(tf_keras.optimizers, "SGD", wrong)
    assert watch.compared(library, sgd, condition, 6, TOLERANCE).finding


@pytest.mark.parametrize("library", ["optax", "model_garden"])
def test_other_libraries(library):
    rows = list(watch_report.rows_of(library, [], 4, TOLERANCE))
    found = {(r.optimizer, r.condition): r.finding for r in rows}
    if library == "optax":
        assert not found["lion", "weight decay"]
        assert "bias_correction=True" in found["muon", "changing rate"]
    else:
        assert not found["LAMB", "weight decay"]
        assert "denominator='joint'" in found["LARS", "weight decay"]
    assert "equals no reading that is known here" not in found.values()


def test_unknown_optimizers_are_refused():
    with pytest.raises(Exception, match="unknown optimizer 'Adan' of keras"):
        list(watch_report.rows_of("keras", ["Adan"], 0, TOLERANCE))


@pytest.mark.slow
@pytest.mark.parametrize("script", sorted(p.name for p in DEFECTS.glob("*.py")))
def test_scripts_show_their_defect(script):
    backend = "jax" if "exclusion_by_name" in script else "tensorflow"
    ran = subprocess.run(
        [sys.executable, DEFECTS / script],
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert ran.stdout.rstrip().endswith("defect: True"), ran.stdout
