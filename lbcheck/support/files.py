"""Files and folders that are there whole or not at all.

Everything that several processes or hosts may write at once goes through
here: each writes under a name of its own next to the target, and a rename puts
it in place.
"""

import contextlib
import errno
import fcntl
import os
import pathlib
import secrets
import shutil
import time

PART = ".part"
"""Ends the name of what is not whole yet."""

_ABANDONED_SECONDS = 3600
"""Parts older than this are of a writer that was killed."""
_TAKEN = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR)


@contextlib.contextmanager
def replacing(path, mode: str = "wb"):
    """A file to write to that becomes `path` when the context ends well.

    It is on the disk before it is seen; of several writers the last one stays.
    Left with an exception, nothing remains.

    Args:
        path: The file; its folder must be there.
        mode: "wb" for bytes, "w" for UTF-8 text.

    Raises:
        OSError: It cannot be written; names `path`.

    Example:

        with files.replacing("study.json", "w") as file:
            json.dump(study, file)
    """
    path = pathlib.Path(path)
    if path.exists() and not path.is_file():
        raise OSError(errno.EEXIST, "Is no file that could be replaced", path)
    part = _part(path)
    encoding = None if "b" in mode else "utf-8"
    try:
        with _named(path, part):
            with open(part, mode.replace("w", "x"), encoding=encoding) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
    finally:
        # On a disk that no longer takes anything it has to stay.
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def write_text(path, text: str) -> None:
    """Writes a UTF-8 file, whole or not at all; see `replacing`."""
    with replacing(path, "w") as file:
        file.write(text)


@contextlib.contextmanager
def making_folder(path, beside=None):
    """A new folder to fill that becomes `path` when the context ends well.

    Where another process was first its folder stays and this one is dropped
    without an error, since both hold the same.

    Args:
        path: The folder; one that is there and empty is replaced. The folder
            it is in is made when needed.
        beside: Folder on the same disk to fill it in; None: the one that
            `path` is in.

    Raises:
        OSError: It cannot be written; names `path`, or the file in it.
    """
    path = pathlib.Path(path)
    part = _part(path if beside is None else pathlib.Path(beside, path.name))
    try:
        with _named(path, part):
            part.mkdir(parents=True)
            yield part
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                part.rename(path)
            except OSError as error:
                if error.errno not in _TAKEN or not path.is_dir():
                    raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


@contextlib.contextmanager
def lock(path, wait: bool = True):
    """Holds a lock file; a context. Its end, or the process's, frees it.

    Args:
        path: The lock file; made if needed and left there.
        wait: Whether to wait for another holder.

    Raises:
        BlockingIOError: Another process holds it and `wait` is false.
        OSError: The disk has no locks; names `path`.
    """
    with open(path, "ab") as file:
        with _named(path, path):
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield


@contextlib.contextmanager
def _named(path, part):
    """Errors within that name no file, or the part of this one, name it."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)  # as of a full disk
        elif str(part) in str(error.filename):
            error.filename = str(error.filename).replace(str(part), str(path))
        raise


def _part(path):
    """A name no other process has; parts that a killed one left are removed."""
    for old in path.parent.glob(f".{_escaped(path.name)}.*{PART}"):
        with contextlib.suppress(OSError):
            if time.time() - old.stat().st_mtime < _ABANDONED_SECONDS:
                continue
            if old.is_dir():
                shutil.rmtree(old, ignore_errors=True)
            else:
                old.unlink()
    # Begins with a dot: below a log directory TensorBoard passes it over.
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}{PART}")


def _escaped(name):
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)
