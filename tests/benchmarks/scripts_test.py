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
