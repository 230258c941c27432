"""Several workers on one machine, and how each of them is stopped."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading

from lbcheck.support.exit_codes import INTERRUPTED

_PATIENCE = 10
"""Seconds that a process has to end what it does."""


def share_machine(workers: int) -> None:
    """Divides this machine among workers that have not begun to compute.

    Sets what frameworks read when they start, unless it is set already: the
    number of threads, and GPU memory as it is needed rather than all of it.

    Args:
        workers: Processes that will run at the same time, at least 1.
    """
    if workers == 1:
        return
    threads = str(max(1, len(_cores()) // workers))
    for name in (
        "OMP_NUM_THREADS",
        "TF_NUM_INTRAOP_THREADS",
        "TF_NUM_INTEROP_THREADS",
    ):
        os.environ.setdefault(name, threads)
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")


def _cores():
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return range(os.cpu_count() or 1)


class Helpers:
    """Processes that work on the study of this one; a context.

    They end when the study is done; when this process leaves the context, or
    dies, their standard input ends, and with it they.

    Args:
        command: What to run.
        count: How many processes.
    """

    def __init__(self, command: list[str], count: int):
        self._command = command
        self._count = count
        self._running = []

    def __enter__(self):
        for _ in range(self._count):
            errors = tempfile.TemporaryFile()
            process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,  # Ctrl-C is for the first process
            )
            self._running.append((process, errors))
        return self

    def __exit__(self, *unused):
        for process, _ in self._running:
            process.stdin.close()
        for process, errors in self._running:
            try:
                process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()  # the ledger gives its trial to another
                continue
            errors.seek(0)
            if process.returncode not in (0, INTERRUPTED):
                lines = errors.read().decode(errors="replace").splitlines()
                print(
                    f"A worker ended with code {process.returncode}: "
                    f"{' '.join(lines[-1:])}",
                    file=sys.stderr,
                )


def stop_with_parent() -> None:
    """Lets this helper be interrupted when its standard input ends."""

    def wait():
        # Not sys.stdin, whose lock would be held when the process ends.
        while os.read(0, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


@contextlib.contextmanager
def interruptible():
    """SIGTERM and SIGINT raise one KeyboardInterrupt, and no second one.

    What is then cleaned up is not interrupted again.
    """
    requested = False

    def interrupt(number, frame):
        nonlocal requested
        if not requested:
            requested = True
            raise KeyboardInterrupt

    before = {
        number: signal.signal(number, interrupt)
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
