"""Every script of benchmarks/ runs, and says so where it cannot measure."""

import json
import os
import subprocess
import sys

import common
import pytest
import run


def start(name, *arguments, **environment):
    return subprocess.run(
        [sys.executable, f"benchmarks/{name}.py", *arguments],
        cwd=common.ROOT,
        env=os.environ | {"PYTHONPATH": str(common.ROOT)} | environment,
        capture_output=True,
        text=True,
    )


def lines(done):
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(x) for x in done.stdout.splitlines() if x[:1] == "{"]


def test_without_a_gpu_it_says_why_it_did_not_run():
    (line,) = lines(start("gpu", JAX_PLATFORMS="cpu"))
    assert line["skipped"].startswith("JAX finds no GPU here")


def test_surfaces_and_noise_of_the_working_folder(tmp_path):
    (tmp_path / "laws.py").write_text(
        "def flat(arm, unit):\n    return 0 * unit[:, 0] + 0.9\n"
        "def lost(rng, mean):\n    return float('nan')\n"
    )
    done = subprocess.run(
        [sys.executable, common.ROOT / "benchmarks/verdict_errors.py"]
        + ["--surface=laws:flat", "--noise=laws:lost", "--format=json"]
        + ["--draws=1", "--trials=4"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    (found,) = lines(done)
    # All search trials diverge, so that nothing is confirmed.
    assert found["trials"] == 16


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, arguments",
    [(n, s.runs[0]) for n, s in run.scripts().items()],
    ids=lambda part: part if isinstance(part, str) else "",
)
def test_every_script_runs_with_smoke(name, arguments):
    found = lines(start(name, *arguments, LBCHECK_SMOKE="1"))
    assert any("measure" in line for line in found) or name == "tpu_compile"
    for line in found:
        assert line.get("smoke") or "measure" not in line
