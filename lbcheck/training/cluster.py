"""The workers of TF_CONFIG: who they are, and waiting until all are there.

TensorFlow waits for them inside C++, where no signal reaches Python and
nothing says for whom; so each worker first looks for all others itself.
Importing this module imports no TensorFlow.
"""

import contextlib
import ctypes
import os
import re
import signal
import socket
import sys
import time
from typing import Literal
from typing import NamedTuple
from typing import TypedDict

from lbcheck.support import errors
from lbcheck.support import exit_codes
from lbcheck.support import schema

WAITING_SECONDS = 600
"""How long a worker looks for the others."""
STARTING_SECONDS = 120
"""How long they may take to start once each has seen the others."""

_EXAMPLE = (
    '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, '
    '"task": {"type": "worker", "index": 0}}'
)
_ADDRESS = re.compile(r"(\[[^\[\]\s/]+\]|[^\[\]\s:/]+):([0-9]{1,5})")
_PAUSE_SECONDS = 0.5
_SAID_AFTER_SECONDS = 3
_CONNECT_SECONDS = 2


_SIGEV_THREAD = 2


class _Sigevent(ctypes.Structure):
    """`struct sigevent` of Linux with 64 bits: function(value) in a thread."""

    _fields_ = [
        ("value", ctypes.c_void_p),
        ("signal", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("function", ctypes.c_void_p),
        ("attributes", ctypes.c_void_p),
        ("reserved", ctypes.c_char * 32),
    ]


class _Task(TypedDict):
    type: Literal["chief", "worker"]
    index: schema.Index


class _Config(TypedDict, total=False):
    cluster: dict[str, list[schema.Name]]
    task: _Task


class Cluster(NamedTuple):
    """Who trains along.

    Attributes:
        own: Address of this worker; "" where it is alone.
        others: Addresses of the others, the first worker first.
        jobs: {"chief" or "worker": number of workers}.
        leads: Whether this worker is the first, or alone.
    """

    own: str
    others: tuple[str, ...]
    jobs: dict[str, int]
    leads: bool


def read() -> Cluster:
    """The cluster that the environment variable TF_CONFIG describes.

    Raises:
        ValueError: It is none; names the field.
    """
    text = os.environ.get("TF_CONFIG") or "{}"
    config = schema.parse(text, _Config, "TF_CONFIG")
    jobs = config.get("cluster", {})
    for job, addresses in jobs.items():
        _check_job(job, addresses)
    everyone = [a for job in sorted(jobs) for a in jobs[job]]
    for address in everyone:
        if everyone.count(address) > 1:
            raise ValueError(
                f"TF_CONFIG: cluster: {address!r} appears twice; each worker "
                "needs an address of its own."
            )
    own = _own(config.get("task"), jobs) if everyone else ""
    others = tuple(a for a in everyone if a != own)
    sizes = {job: len(jobs[job]) for job in jobs}
    return Cluster(own, others, sizes, own in ("", *everyone[:1]))


def check_several() -> None:
    """Refuses to train with several workers without TF_CONFIG.

    Raises:
        ValueError: It is not set, or names no worker.
    """
    if not read().jobs:
        raise ValueError(
            "distribution='multi_worker' needs the environment variable "
            f"TF_CONFIG, for instance {_EXAMPLE}."
        )


@contextlib.contextmanager
def signals_end():
    """While it is entered, SIGTERM ends the program as Ctrl-C does."""
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {n: signal.signal(n, signal.default_int_handler) for n in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def signals_wait():
    """Signals that come while it is entered are handled at its end, by
    `signals_end`, whose handlers TensorFlow replaces by its own."""
    numbers = (signal.SIGTERM, signal.SIGINT)
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)


@contextlib.contextmanager
def starting():
    """Within it TensorFlow starts on all workers; where one does not, it
    waits for ever, and nothing of Python runs: a timer of the C library ends
    the process with code 69 after `STARTING_SECONDS`.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "timer_create"):  # not on Linux
        yield
        return
    print(
        f"All workers answer; one that does not start within "
        f"{STARTING_SECONDS} s ends them with code {exit_codes.UNAVAILABLE}.",
        file=sys.stderr,
        flush=True,
    )
    event = _Sigevent(exit_codes.UNAVAILABLE, 0, _SIGEV_THREAD)
    event.function = ctypes.cast(libc._exit, ctypes.c_void_p)
    timer = ctypes.c_void_p()
    clock = time.CLOCK_MONOTONIC
    if libc.timer_create(clock, ctypes.byref(event), ctypes.byref(timer)):
        raise OSError(ctypes.get_errno(), "a timer cannot be made")
    after = (ctypes.c_long * 4)(0, 0, STARTING_SECONDS, 0)
    libc.timer_settime(timer, 0, after, None)
    try:
        yield
    finally:
        libc.timer_delete(timer)


def meet(cluster: Cluster) -> None:
    """Waits until every other worker answers at its address.

    Raises:
        ValueError: This worker's own port cannot be had.
        errors.Unavailable: One does not answer for `WAITING_SECONDS`.
    """
    begin = time.monotonic()
    missing = dict.fromkeys(cluster.others, "")
    said = False
    with _listening(cluster.own):
        while missing:
            missing = _absent(missing)
            waited = time.monotonic() - begin
            if missing and waited > WAITING_SECONDS:
                raise errors.Unavailable(
                    f"{_names(missing)} did not answer for "
                    f"{WAITING_SECONDS} s. Start all workers of TF_CONFIG "
                    "with the same command."
                )
            if missing and not said and waited > _SAID_AFTER_SECONDS:
                said = True
                print(
                    f"{cluster.own} waits for {_names(missing)}, for "
                    f"{WAITING_SECONDS} s at most.",
                    file=sys.stderr,
                    flush=True,
                )
            if missing:
                time.sleep(_PAUSE_SECONDS)


def _check_job(job, addresses):
    where = f"TF_CONFIG: cluster.{job}"
    if job not in ("chief", "worker"):
        raise ValueError(
            f"{where}: expected the jobs 'chief' and 'worker' only; "
            "parameter servers and evaluators do not train here."
        )
    if not addresses or (job == "chief" and len(addresses) > 1):
        expected = "one address" if job == "chief" else "an address a worker"
        raise ValueError(
            f"{where}: expected {expected}, received {len(addresses)}."
        )
    for index, address in enumerate(addresses):
        found = _ADDRESS.fullmatch(address)
        if not found or not 1 <= int(found[2]) <= 65535:
            raise ValueError(
                f"{where}[{index}]: expected host:port with a port of 1 to "
                f"65535, received {schema.shown(address)}."
            )


def _own(task, jobs):
    if task is None:
        if sum(map(len, jobs.values())) > 1:
            raise ValueError(
                "TF_CONFIG: task is missing, which says who of the cluster "
                f"this worker is, for instance {_EXAMPLE}."
            )
        task = {"type": next(iter(jobs)), "index": 0}
    job, index = task["type"], task["index"]
    if job not in jobs:
        raise ValueError(
            f"TF_CONFIG: task.type: expected one of the cluster's jobs "
            f"{', '.join(map(repr, jobs))}, received {job!r}."
        )
    if index >= len(jobs[job]):
        raise ValueError(
            f"TF_CONFIG: task.index: expected 0 to {len(jobs[job]) - 1}, as "
            f"cluster.{job} has {len(jobs[job])}, received {index}."
        )
    return jobs[job][index]


def _host_and_port(address):
    host, port = _ADDRESS.fullmatch(address).groups()
    return host.strip("[]"), int(port)


@contextlib.contextmanager
def _listening(address):
    """Answers the others until TensorFlow does."""
    port = _host_and_port(address)[1]
    dual = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dual else socket.AF_INET
    try:
        server = socket.create_server(
            ("", port), family=family, dualstack_ipv6=dual
        )
    except OSError as error:
        raise ValueError(
            f"TF_CONFIG: cannot listen on port {port} of this worker, "
            f"{address}: {error.strerror}."
        ) from error
    with server:
        yield


def _absent(addresses):
    """{address: why it does not answer} of those that do not."""
    found = {}
    for address in addresses:
        try:
            where = _host_and_port(address)
            socket.create_connection(where, _CONNECT_SECONDS).close()
        except (OSError, UnicodeError) as error:
            found[address] = getattr(error, "strerror", None) or str(error)
    return found


def _names(missing):
    return ", ".join(f"{a} ({why})" for a, why in missing.items())
