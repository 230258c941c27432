"""The GitHub action: its run scripts, as a runner would start them."""

import os
import pathlib
import re
import subprocess
import sys

import pytest
import yaml

FOLDER = pathlib.Path(__file__).parents[2] / "docs/action"
ACTION = yaml.safe_load((FOLDER / "action.yml").read_text())

SCHEDULES = """
def good(step):
    return 0.1 * min(step + 1, 10) / 10

def jumps(step):
    return 0.1 * step / 50 if step < 50 else 0.02
"""
RUNS = "arm,seed,accuracy\n" + "".join(
    f"{arm},{seed},{value + 0.001 * seed}\n"
    for arm, value in (("mine", 0.9), ("theirs", 0.7))
    for seed in range(8)
)
MODEL = """
import keras

def build():
    return keras.Sequential(
        [keras.layers.Input((4,)), keras.layers.Dense(3, name="dense")]
    )

def optimizer():
    return keras.optimizers.AdamW(weight_decay=0.1)
"""


def expanded(text, inputs):
    """A text whose ${{ }} are filled in, as the runner does."""

    def value(found):
        name = found[1].strip()
        if name == "github.action_path":
            return str(FOLDER)
        return inputs[name.removeprefix("inputs.")]

    return re.sub(r"\$\{\{(.*?)\}\}", value, text)


@pytest.fixture
def step(tmp_path):
    """Runs a step of the action; (exit code, output, summary)."""
    (tmp_path / "schedules.py").write_text(SCHEDULES)
    (tmp_path / "network.py").write_text(MODEL)
    (tmp_path / "runs.csv").write_text(RUNS)
    summary = tmp_path / "summary.md"

    def run(name, **given):
        unknown = set(given) - set(ACTION["inputs"])
        assert not unknown
        inputs = {
            key: given.get(key, about["default"])
            for key, about in ACTION["inputs"].items()
        }
        (found,) = [s for s in ACTION["runs"]["steps"] if s["name"] == name]
        # What is expanded in a script could be run as code.
        assert "${{" not in found["run"]
        path = f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"
        environment = {
            key: expanded(text, inputs) for key, text in found["env"].items()
        }
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c"]
            + [found["run"]],
            cwd=tmp_path,
            env=os.environ
            | environment
            | {"PATH": path, "GITHUB_STEP_SUMMARY": str(summary)},
            capture_output=True,
            text=True,
            timeout=300,
        )
        text = summary.read_text() if summary.exists() else ""
        return done.returncode, done.stdout + done.stderr, text

    return run


def test_a_schedule(step):
    flags = "--total_steps=100"
    code, out, summary = step(
        "Schedule", schedule="schedules:good", schedule_flags=flags
    )
    assert code == 0, out
    assert summary.startswith("### ✅ Learning rate schedule\n\n~~~\n")
    code, out, summary = step(
        "Schedule", schedule="schedules:jumps", schedule_flags=flags
    )
    assert code == 1
    _, _, second = summary.partition("### ❌ Learning rate schedule")
    assert "~~~" in second and out.splitlines()[0] in second


def test_an_audit_is_strict(step):
    code, out, summary = step(
        "Audit",
        model="network:build",
        audit_flags="--optimizer=network:optimizer",
    )
    assert code == 1 and "dense/bias" in summary
    assert "### ❌ What the optimizer decays" in summary


@pytest.mark.parametrize(
    ("margin", "undecided", "code", "mark"),
    [
        ("0.01", "pass", 0, "✅"),
        ("0.2", "pass", 0, "⚠️"),
        ("0.2", "fail", 1, "❌"),
    ],
)
def test_a_verdict(step, margin, undecided, code, mark):
    found, out, summary = step(
        "Verdict",
        runs="runs.csv",
        judge_flags=f"--challengers=mine\n--margin={margin}",
        undecided=undecided,
    )
    assert found == code, out
    assert summary.startswith(f"### {mark} Verdict")
    assert out.splitlines()[0] in summary


def test_what_is_refused_fails_with_its_code(step):
    code, _, summary = step(
        "Verdict", runs="nowhere.csv", judge_flags="--challengers=mine"
    )
    assert code == 2 and "### ❌ Verdict" in summary
    assert "nowhere.csv" in summary


def test_inputs_are_no_code(step, tmp_path):
    evil = '$(touch evil); `touch evil` "; touch evil #'
    code, _, summary = step("Schedule", schedule=evil, schedule_flags=evil)
    assert code == 2 and not (tmp_path / "evil").exists()
    code, _, _ = step("Schedule", schedule="--format=json")
    assert code == 2  # a name, not a flag


def test_every_input_is_used_and_every_step_is_asked_for():
    text = (FOLDER / "action.yml").read_text()
    for name in ACTION["inputs"]:
        assert f"inputs.{name} }}}}" in text, name
    for found in ACTION["runs"]["steps"]:
        assert found["if"] and found["shell"] == "bash"
