"""Functions called in several processes, results in order."""

import collections
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from concurrent import futures

_AHEAD = 2  # calls that wait for each worker


def in_order(
    function: Callable, calls: Iterable[tuple], num_workers: int
) -> Iterator:
    """Yields function(*arguments) of each call.

    The workers end with this process, however it ends. The calls are asked
    for only as workers get free.

    Args:
        function: What a new process can import.
        calls: Arguments.
        num_workers: Processes; 1: this one.

    Raises:
        ChildProcessError: A worker was killed.
    """
    if num_workers == 1:
        for arguments in calls:
            yield function(*arguments)
        return
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    pool = futures.ProcessPoolExecutor(
        num_workers, context, initializer=_begin, initargs=(theirs,)
    )
    waiting = collections.deque()
    try:
        for arguments in calls:
            if len(waiting) >= num_workers * (1 + _AHEAD):
                yield waiting.popleft().result()
            waiting.append(pool.submit(function, *arguments))
        while waiting:
            yield waiting.popleft().result()
    except futures.process.BrokenProcessPool as error:
        raise ChildProcessError(
            "A worker process was killed, perhaps for want of memory. The "
            "same command continues; set a smaller --num_workers."
        ) from error
    finally:
        ours.close()
        theirs.close()
        pool.shutdown(cancel_futures=True)


def _begin(lifeline) -> None:
    """What a worker does first: leave Ctrl-C to the program, end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()


def _end_with(lifeline) -> None:
    try:
        lifeline.recv()
    except EOFError:
        os._exit(1)
