"""The package from outside: imports, the command, the README, the manuals."""

import doctest
import importlib
import os
import pathlib
import pkgutil
import re
import subprocess
import sys
import textwrap

import keras
import pytest

import lbcheck
from lbcheck.support import load_object
from tests import programs

ROOT = pathlib.Path(__file__).resolve().parent.parent
FRAMEWORKS = ("tensorflow", "keras", "tf_keras", "jax", "torch", "optax")


def python(code, **environment):
    """Runs code in a fresh interpreter and returns what it printed."""
    finished = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
        timeout=300,
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    return finished.stdout


def command(*arguments, cwd=ROOT):
    process = programs.Program("lbcheck", arguments, cwd)
    said = process.communicate(timeout=300)
    return subprocess.CompletedProcess(arguments, process.returncode, *said)


def test_import_loads_no_framework():
    loaded = python(
        f"""
        import sys, lbcheck, lbcheck.rules, lbcheck.cli, lbcheck.theory
        print([name for name in {FRAMEWORKS} if name in sys.modules])
        """
    )
    assert loaded.strip() == "[]"


@pytest.mark.parametrize(
    ("legacy", "expected"),
    [("0", "lbcheck.keras3"), ("1", "lbcheck.tf_keras")],
)
def test_names_follow_tf_keras(legacy, expected):
    printed = python(
        """
        import lbcheck, tensorflow as tf
        optimizer = lbcheck.LAMB()
        assert isinstance(optimizer, tf.keras.optimizers.Optimizer)
        print(type(optimizer).__module__)
        """,
        TF_USE_LEGACY_KERAS=legacy,
    )
    assert printed.strip() == expected


def test_saved_model_loads_with_nothing_but_keras(tmp_path):
    """`import lbcheck` alone must be enough to load a .keras file."""
    path = str(tmp_path / "model.keras")
    model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1)])
    model.compile(lbcheck.LARS(fallback=lbcheck.AdamW()), "mse")
    model.save(path)
    for imports in ("keras, lbcheck", "lbcheck, keras"):
        printed = python(
            f"""
            import {imports}
            print(repr(keras.models.load_model({path!r}).optimizer.rule))
            """
        )
        assert printed.startswith("LARS(")


def test_citation_and_changelog_have_the_version():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {lbcheck.__version__}\n" in citation
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"\b{re.escape(lbcheck.__version__)}\b", changes)


def test_readme_lines_run(tmp_path):
    _, block = re.findall(
        r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL
    )
    assert len([line for line in block.splitlines() if line]) <= 11
    printed = python(block)
    accuracies = re.findall(r"accuracy: ([0-9.]+)", printed)
    assert float(accuracies[-1]) > 0.9
    assert "nothing suspicious" in printed


def modules():
    """Every module of lbcheck that can be imported in this process."""
    skipped = ("lbcheck.conform.addons",)
    for found in pkgutil.walk_packages(lbcheck.__path__, "lbcheck."):
        if found.name not in skipped:
            yield found.name


@pytest.mark.parametrize("name", modules())
def test_examples_in_docstrings(name):
    for each in ("keras3", "tf_keras"):  # an adapter belongs to one of them
        importlib.import_module(f"lbcheck.{each}")
    module = importlib.import_module(name)
    result = doctest.testmod(module)
    assert result.failed == 0
    assert (module.__doc__ or "").strip()


def test_command_without_arguments_lists_the_commands():
    finished = command()
    assert finished.returncode == 0
    assert "conform" in finished.stdout and "audit" in finished.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "unknown command 'trian'"),
        (["audit"], "takes one model"),
        (["audit", "no_colon"], "must be module:function"),
        (["audit", "no_such_module:f"], "no module 'no_such_module'"),
        (["audit", "math:nothing"], "has no 'nothing'"),
        (["audit", "math:pi", "--optimzer=lamb"], "optimzer"),
        (["conform", "--rules=SGD"], "unknown rule 'SGD'"),
        (["conform", "extra"], "takes flags only"),
        (["audit", "math:pi"], "must be a Keras model"),
        (["audit", "sys:exit"], "its code ends the process"),
        (["audit", "shutil:copy"], "shutil:copy failed: copy() missing 2"),
    ],
)
def test_bad_commands(arguments, message):
    finished = command(*arguments)
    assert finished.returncode == 2
    assert message in finished.stderr
    assert "Traceback" not in finished.stderr


def test_what_a_named_module_lacks_itself_is_its_own_error(
    tmp_path, monkeypatch
):
    (tmp_path / "nets_of_mine.py").write_text("import nets_of")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="'nets_of'"):
        load_object.load("nets_of_mine:build")


def test_audit_command(tmp_path):
    (tmp_path / "my_model.py").write_text(
        textwrap.dedent(
            """
            import keras

            def build():
                return keras.Sequential([
                    keras.layers.Input((4,)),
                    keras.layers.Dense(3),
                    keras.layers.BatchNormalization(name="bn"),
                ])

            def optimizer():
                adamw = keras.optimizers.AdamW(weight_decay=0.1)
                adamw.exclude_from_weight_decay(var_names=["bias"])
                return adamw
            """
        )
    )
    clean = command(
        "audit", "my_model:build", "--optimizer=lars", "--strict", cwd=tmp_path
    )
    assert clean.returncode == 0, clean.stderr
    assert "Momentum (fallback)" in clean.stdout
    dirty = command(
        "audit",
        "my_model:build",
        "--optimizer=my_model:optimizer",
        "--strict",
        cwd=tmp_path,
    )
    assert dirty.returncode == 1
    assert "bn/gamma (BatchNormalization) decays" in dirty.stdout


def test_conform_command():
    finished = command("conform", "--rules=LAMB", "--seed=11")
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "within 1e-05" in finished.stdout
    assert "not installed" not in finished.stdout
    for who in (
        "official LAMB",
        "optax lamb",
        "keras Lamb",
        "tensorflow-addons",
    ):
        assert who in finished.stdout
