"""Threads of a worker, on whose number the last bits of a sum depend."""

import contextlib
import os
import sys

_TENSORFLOW = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
_TORCH = ("OMP_NUM_THREADS",)
_JAX = ("PJRT_NPROC", "NPROC")


def limit(count: int) -> None:
    """Lets every framework that has not started compute with so many threads.

    What has started stays as it is: see `in_force`.
    """
    for name in _TORCH:
        os.environ[name] = str(count)
    if not _jax_has_started():
        for name in _JAX:
            os.environ[name] = str(count)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(count)
    if "tensorflow" not in sys.modules:
        for name in _TENSORFLOW:
            os.environ[name] = str(count)
        return
    threading = sys.modules["tensorflow"].config.threading
    with contextlib.suppress(RuntimeError):  # it has started
        threading.set_intra_op_parallelism_threads(count)
        threading.set_inter_op_parallelism_threads(count)


def in_force(backend: str, asked: int | None) -> int:
    """The number of threads that this process computes with.

    Args:
        backend: "tensorflow", "jax" or "torch".
        asked: What it should be; None takes any.

    Raises:
        ValueError: It is another, and too late to change.
    """
    found = _number(backend)
    if asked is not None and found != asked:
        raise ValueError(
            f"threads is {asked}, but {backend} has started with {found} in "
            "this process, and the number can only be set before its first "
            f"operation. Start a new process, or give threads={found}."
        )
    return found


def _number(backend):
    if backend == "torch":
        return sys.modules["torch"].get_num_threads()
    names = _JAX
    if backend == "tensorflow":
        import tensorflow as tf

        count = tf.config.threading.get_intra_op_parallelism_threads()
        if count:
            return count
        names = _TENSORFLOW[:1]
    for name in names:
        if os.environ.get(name, "").isdecimal() and int(os.environ[name]):
            return int(os.environ[name])
    return len(os.sched_getaffinity(0))


def _jax_has_started():
    bridge = sys.modules.get("jax._src.xla_bridge")
    return bridge is not None and bridge.backends_are_initialized()
