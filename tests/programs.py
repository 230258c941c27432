"""Programs in processes of their own, forked from one that has TensorFlow.

To import it takes longer than most programs of the tests run. A program gets
its own environment, folder and output, and its real exit code; it must not be
about how Python starts or ends, nor need another backend of Keras.
"""

import atexit
import gc
import json
import multiprocessing
import os
import pathlib
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).parent.parent

# Read when TensorFlow is imported; the programs' own comes later.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

PROCESSES = multiprocessing.get_context("forkserver")
"""What all tests fork with: a process of the tests has one such server."""
PROCESSES.set_forkserver_preload(
    [
        "lbcheck.keras3",
        "lbcheck.tf_keras",
        "lbcheck.training",
        "optuna",
        "scipy.stats",
        "tensorflow",
        "tests.study.ledger_worker",
    ]
)


def collect_rarely():
    """Garbage: traced graphs are thousands of objects that refer to each
    other, and to look through them takes a sixth of the tests' time."""
    gc.freeze()
    gc.set_threshold(200_000, 20, 100)


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


def two_workers() -> list[str]:
    """TF_CONFIG of each of two workers on this machine."""
    cluster = {"worker": [f"localhost:{free_port()}" for _ in range(2)]}
    return [
        json.dumps(
            {"cluster": cluster, "task": {"type": "worker", "index": index}}
        )
        for index in range(2)
    ]


class Program:
    """`python -m module arguments`; what is used of `subprocess.Popen`."""

    def __init__(self, module, arguments, cwd=ROOT, environment=None):
        self.args = [module, *arguments]
        self._folder = tempfile.TemporaryDirectory()
        self._files = [
            os.path.join(self._folder.name, name) for name in ("out", "err")
        ]
        for file in self._files:
            pathlib.Path(file).touch()
        self._process = PROCESSES.Process(
            target=_run,
            args=(self.args, str(cwd), environment or {}, self._files),
        )
        self._process.start()

    @property
    def pid(self):
        return self._process.pid

    @property
    def returncode(self):
        return self._process.exitcode

    def poll(self):
        return self._process.exitcode

    def wait(self, timeout=None):
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self.args, timeout)
        return self.returncode

    def communicate(self, timeout=None):
        """(standard output, standard error) once it has ended."""
        try:
            self.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            self._process.join()
            raise
        return self._said()

    def wait_until_said(self, text):
        while not any(text in said for said in self._said()):
            assert self.poll() is None, self._said()
            time.sleep(0.05)

    def _said(self):
        return tuple(pathlib.Path(file).read_text() for file in self._files)

    def send_signal(self, number):
        os.kill(self.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)


def _run(arguments, folder, environment, files):
    for number, file in zip((1, 2), files):
        opened = os.open(file, os.O_WRONLY | os.O_APPEND)
        os.dup2(opened, number)
    os.environ.update(environment)
    os.chdir(folder)
    sys.path[:0] = [folder, str(ROOT)]
    module, *sys.argv[1:] = arguments
    collect_rarely()
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        # Removes TensorFlow's temporary files; a fork ends without it.
        atexit._run_exitfuncs()
