"""Several workers on one machine, and how each of them is stopped."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time

from lbcheck.support.exit_codes import INTERRUPTED

_PATIENCE = 10
"""Seconds that a process has to end what it does."""
_STARTS = 3
"""How often a helper is started that ends before the study does."""
_SAME_REQUEST = 1
"""Seconds in which several signals are one request, as `timeout` sends it."""
_GRACE = 5
"""Seconds in which a request is obeyed where that is safe."""

_requested = None
"""When the first signal came that asked this process to end."""


class Helpers:
    """Processes that work on the study of this one; a context.

    One that ends before the study is done is reported and started again, a
    few times. They end when the study is done or this process leaves the
    context; when it dies, their standard input ends, and with it they.

    Args:
        command: What to run.
        count: How many processes.
    """

    def __init__(self, command: list[str], count: int):
        self._command = command
        self._ending = threading.Event()
        self._starting = threading.Lock()
        self._running = [None] * count
        self._threads = [
            threading.Thread(target=self._look_after, args=(i,), daemon=True)
            for i in range(count)
        ]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *unused):
        with self._starting:
            self._ending.set()
        running = [process for process in self._running if process]
        try:
            for process in running:
                process.terminate()
            for thread in self._threads:
                thread.join(_PATIENCE)
        finally:
            for process in running:
                process.kill()  # the ledger gives its trial to another

    def _look_after(self, which):
        for start in range(1, _STARTS + 1):
            with tempfile.TemporaryFile() as errors:
                with self._starting:
                    if self._ending.is_set():
                        return
                    try:
                        process = self._start(errors)
                    except OSError as error:
                        self._say(which, f"{error.strerror}.")
                        return
                    self._running[which] = process
                code = process.wait()
                if self._ending.is_set() or code in (0, INTERRUPTED):
                    return
                said = reason(code, errors)
            then = "It is started again."
            if start == _STARTS:
                then = f"It ended {start} times; the others go on without it."
            self._say(which, f"{said} {then}")

    def _say(self, which, text):
        print(f"Worker {which + 2} ended: {text}", file=sys.stderr, flush=True)

    def _start(self, errors):
        return subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,  # Ctrl-C is for the first process
        )


def reason(code: int, errors) -> str:
    """Why a process ended: its last words, or the signal.

    Args:
        code: What `Popen.wait` returned.
        errors: File of bytes with what it said.
    """
    if code < 0:
        return f"killed by {signal.Signals(-code).name}."
    errors.seek(0)
    lines = errors.read().decode(errors="replace").split("\n")
    words = [line.strip() for line in lines if line.strip()][-1:]
    return " ".join([*words, f"(exit code {code})."])


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
    """SIGTERM and SIGINT raise KeyboardInterrupt at the next safe point.

    That is `check_interrupted`. An exception out of nowhere is swallowed by
    some libraries and kills others, TensorFlow among them, which call Python
    from C++. Where no safe point comes within 5 seconds, or where a second
    signal comes, it is raised wherever the program is. An error that leaves
    this context after a signal counts as its consequence.
    """
    global _requested
    _requested = None

    def request(number, frame):
        global _requested
        now = time.monotonic()
        if _requested is None:
            _requested = now
            signal.setitimer(signal.ITIMER_REAL, _GRACE)
        elif now - _requested > _SAME_REQUEST:
            raise KeyboardInterrupt

    before = {
        number: signal.signal(number, request)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)
    }
    try:
        yield
    except Exception as error:
        if _requested is None:
            raise
        raise KeyboardInterrupt from error
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        _requested = None
        for number, handler in before.items():
            signal.signal(number, handler)


def check_interrupted() -> None:
    """Raises KeyboardInterrupt if a signal asked for it.

    Called wherever a study can stop: between trials, between their parts and
    between batches.
    """
    if _requested is not None:
        raise KeyboardInterrupt
