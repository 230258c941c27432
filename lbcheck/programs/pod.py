"""Several hosts that train one trial together: those of TF_CONFIG.

Every host is given the same command. The first one works on the study; before
a trial it writes the program's command into a file of the study's folder,
which all hosts must see, and the others run it along. A TPU slice, of however
many hosts, is driven from one process and needs none of this.
"""

import contextlib
import json
import math
import pathlib
import secrets
import sys
import tempfile
import time
from typing import TypedDict

from lbcheck.programs import child
from lbcheck.support import errors
from lbcheck.support import exit_codes
from lbcheck.support import files
from lbcheck.support import processes
from lbcheck.support import schema
from lbcheck.training import cluster

FILE = "pod.json"
_PAUSE = 0.2


class _Announced(TypedDict):
    number: str
    command: list[str] | None


def announce(folder: pathlib.Path, command: list[str] | None) -> None:
    """Tells the other hosts, if there are any, what to run.

    Args:
        folder: Of the study.
        command: Module and arguments; None: the study is done.
    """
    if cluster.read().others:
        said = {"number": secrets.token_hex(8), "command": command}
        files.write_text(folder / FILE, json.dumps(said) + "\n")


def follows() -> bool:
    """Whether this host runs along with the study of another one."""
    return not cluster.read().leads


def follow(folder: pathlib.Path) -> None:
    """Runs along until the study is done.

    What was announced last is begun at once, and ended where another thing is
    announced: it was of a first host that is gone.

    Raises:
        errors.Unavailable: The first host announces nothing for
            `cluster.WAITING_SECONDS`; perhaps it was done before this one
            began.
    """
    seen = _read(folder)
    if seen["command"] is not None:
        seen = _Announced(number="", command=None)
    hosts = cluster.read()
    own = folder / f".host-{hosts.own.replace(':', '-')}.lock"
    print(f"{hosts.own} waits for {hosts.others[0]}.", file=sys.stderr)
    until = time.monotonic() + cluster.WAITING_SECONDS
    process = output = None
    with contextlib.ExitStack() as running:
        while True:
            processes.check_interrupted()
            said = _read(folder)
            if said["number"] == seen["number"]:
                if time.monotonic() > until:
                    raise errors.Unavailable(
                        f"{folder / FILE}: {hosts.others[0]} announced nothing "
                        f"for {cluster.WAITING_SECONDS} s. Give it the same "
                        "command, unless the study is done."
                    )
                if process and process.poll() is not None:
                    _tell_failure(hosts.own, process, output)
                    process = None
                time.sleep(_PAUSE)
                continue
            until = math.inf
            running.close()
            if said["command"] is None:
                return
            seen = said
            output = running.enter_context(tempfile.TemporaryFile())
            process = child.start(said["command"], own, output)
            running.callback(process.wait)
            running.callback(process.terminate)


def _tell_failure(host, process, output):
    """The first host sees only that this one does not answer."""
    code = process.returncode
    if code not in (exit_codes.FINISHED, exit_codes.DIVERGED):
        said = processes.reason(code, output)
        print(f"{host}: a trial ended: {said}", file=sys.stderr, flush=True)


def _read(folder) -> _Announced:
    path = folder / FILE
    if not path.exists():
        return {"number": "", "command": None}
    return schema.read(path, _Announced)
