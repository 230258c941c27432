"""TensorBoard event files, written without TensorFlow, and read."""

import itertools
import os
import socket
import sys
import time
from collections.abc import Iterator

from lbcheck.support import errors

_numbers = itertools.count()
"""Of the event files of this process."""


def _use_no_tensorflow(folder):
    """Lets TensorBoard write to a disk without importing TensorFlow.

    It imports what is installed, unless its module has `notf`.
    """
    from tensorboard import compat

    if "tensorflow" not in sys.modules and "://" not in folder:
        compat.notf = True


class EventFile:
    """Writes scalars and histograms into a new event file of a folder.

    Args:
        folder: Folder of the event file; it is created.

    Raises:
        ModuleNotFoundError: If tensorboard is not installed.
    """

    def __init__(self, folder):
        _use_no_tensorflow(str(folder))
        from tensorboard.compat.proto import event_pb2
        from tensorboard.plugins.histogram import summary_v2 as histogram
        from tensorboard.plugins.scalar import summary_v2 as scalar
        from tensorboard.summary.writer import record_writer

        self._event = event_pb2.Event
        self._scalar_pb = scalar.scalar_pb
        self._histogram_pb = histogram.histogram_pb
        # TensorBoard's own writer is a thread, whose errors, as of a full
        # disk, get lost where the file is closed.
        self._file = _opened(str(folder))
        self._records = record_writer.RecordWriter(self._file)
        self._write(file_version="brain.Event:2")

    def scalar(self, step: int, name: str, value: float) -> None:
        """Adds a number under `name` at `step`."""
        self.add(step, self._scalar_pb(name, value))

    def histogram(self, step: int, name: str, values: list[float]) -> None:
        """Adds a histogram of numbers under `name` at `step`."""
        self.add(step, self._histogram_pb(name, values))

    def add(self, step: int, summary) -> None:
        """Adds a Summary message of TensorBoard at `step`."""
        self._write(step=step, summary=summary)

    def _write(self, **content):
        event = self._event(wall_time=time.time(), **content)
        self._records.write(event.SerializeToString())

    def flush(self) -> None:
        """Puts on disk what was added."""
        self._file.flush()

    def close(self) -> None:
        """Ends the file."""
        self._file.close()


def _opened(folder):
    """A new file of a name that no other process has."""
    unique = f"{socket.gethostname()}.{os.getpid()}.{next(_numbers)}"
    name = f"events.out.tfevents.{int(time.time()):010d}.{unique}"
    path = os.path.join(folder, name)
    if "://" in folder:  # which TensorFlow reaches
        from tensorboard.compat import tf

        tf.io.gfile.makedirs(folder)
        return tf.io.gfile.GFile(path, "wb")
    os.makedirs(folder, exist_ok=True)
    return open(path, "wb")


def open_if_installed(folder) -> EventFile | None:
    """An event file in `folder`, None where tensorboard is not installed."""
    try:
        return EventFile(folder)
    except ModuleNotFoundError:
        return None


def scalars(path) -> Iterator[tuple[int, str, float]]:
    """Yields (step, name, value) of the scalars of one event file.

    Raises:
        ValueError: It is damaged, or tensorboard is not installed.
    """
    try:
        from tensorboard.backend.event_processing import event_file_loader
        from tensorboard.util import tensor_util
    except ImportError as error:
        raise ValueError(
            f"{path}: event files are read by the package tensorboard, which "
            "is not installed; or download the scalar as CSV."
        ) from error
    with errors.named(f"{path}: reading TensorBoard's events"):
        for event in event_file_loader.EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                if value.HasField("tensor"):
                    array = tensor_util.make_ndarray(value.tensor)
                    if array.size == 1 and array.dtype.kind in "fiu":
                        yield event.step, value.tag, float(array.reshape(()))
