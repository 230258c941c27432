"""A program in a process that ends with the worker that started it.

    python -m lbcheck.programs.child LOCK MODULE [ARGUMENTS]

It holds the file LOCK while it lives, so that of two processes with one run,
the first of which still saves what it has, the second waits. When standard
input ends, it gets a SIGTERM, at which programs save and stop.
"""

import os
import runpy
import subprocess
import sys

from lbcheck.support import files
from lbcheck.support import processes


def start(command: list[str], lock, output) -> subprocess.Popen:
    """Starts a program.

    Args:
        command: Its module and arguments.
        lock: File that it holds; its folder must be there.
        output: File for what it prints.
    """
    return subprocess.Popen(
        [sys.executable, "-m", "lbcheck.programs.child", str(lock), *command],
        stdin=subprocess.PIPE,  # its end tells that this process is gone
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # Ctrl-C is for this process
    )


def main() -> None:
    """Runs the program as if it had been called."""
    lock, module, *arguments = sys.argv[1:]
    processes.stop_with_parent()
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    sys.argv = [module, *arguments]
    with files.lock(lock):
        runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    # Python puts the working folder first in any case.
    main()
