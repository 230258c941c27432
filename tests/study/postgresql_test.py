"""A study in a PostgreSQL that stops and starts: nothing lost or shown."""

import concurrent.futures
import json
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
import threading
import time

import pytest

from lbcheck.study import ledger
from lbcheck.study import protocol
from lbcheck.study import study_folder
from tests import programs
from tests.study import ledger_worker

_PASSWORD = "pass/w@rd 42"
_QUOTED = "pass%2Fw%40rd%2042"


class Server:
    """Debian's PostgreSQL on loopback, in a folder of its own; a context."""

    def __init__(self, programs):
        self._programs = programs
        self._folder = tempfile.mkdtemp()
        os.chmod(self._folder, 0o755)
        self._data = f"{self._folder}/data"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    def url(self, password=_QUOTED):
        return f"postgresql://ann:{password}@127.0.0.1:{self.port}/postgres"

    def __enter__(self):
        secret = pathlib.Path(self._folder, "secret")
        secret.write_text(_PASSWORD)
        os.mkdir(self._data)
        if os.geteuid() == 0:
            shutil.chown(self._data, "postgres")
            shutil.chown(self._folder, "postgres")
        self._run(
            "initdb", "--username=ann", f"--pwfile={secret}", "--auth=md5"
        )
        self.start()
        return self

    def __exit__(self, *unused):
        self.stop()
        shutil.rmtree(self._folder)

    def start(self):
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -k /tmp"
        log = f"{self._folder}/log"
        self._run("pg_ctl", "-w", "-l", log, "-o", options, "start")

    def stop(self):
        self._run("pg_ctl", "-w", "-m", "immediate", "stop")

    def _run(self, program, *arguments):
        root = os.geteuid() == 0
        subprocess.run(
            [self._programs / program, "-D", self._data, *arguments],
            check=True,
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            user="postgres" if root else None,
            group="postgres" if root else None,
            extra_groups=[] if root else None,
        )


@pytest.fixture(scope="module")
def server():
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    found = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.skip("Debian's package postgresql is not installed")
    with Server(found[-1].parent) as running:
        yield running


def test_server_stops_and_starts(server, tmp_path):
    """Two processes with a folder each find the same, and all of it."""
    study = ledger_worker.make_study()
    ledger_worker.run_study(
        tmp_path / "calm", study, 3, ledger_worker.Trainer()
    )
    shared = ledger.Ledger(server.url(), study)
    with concurrent.futures.ProcessPoolExecutor(2, programs.PROCESSES) as pool:
        futures = [
            pool.submit(
                ledger_worker.run_in_storage,
                tmp_path / name,
                study,
                server.url(),
                seconds=0.3,
            )
            for name in ("one", "two")
        ]
        wait_for_records(shared, 3)
        server.stop()
        later = threading.Timer(2, server.start)
        later.start()
        for future in futures:
            future.result()
        later.join()
    calm, one, two = (
        without_seconds(tmp_path / name) for name in ("calm", "one", "two")
    )
    assert one == two == calm
    assert len(calm) == protocol.Protocol(study).total


def wait_for_records(shared, count):
    deadline = time.monotonic() + 60
    while len(shared.records()) < count and time.monotonic() < deadline:
        time.sleep(0.1)


def without_seconds(folder):
    lines = (folder / study_folder.TRIALS).read_text().splitlines()
    return [json.loads(line) | {"seconds": 0} for line in lines]


def test_wrong_password(server):
    with pytest.raises(
        study_folder.StudyError, match="password authentication failed"
    ) as raised:
        ledger.Ledger(server.url("hunter%2F2"), ledger_worker.make_study())
    assert f"postgresql://127.0.0.1:{server.port}/postgres" in str(raised.value)
    assert "hunter" not in str(raised.value)
