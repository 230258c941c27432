"""Optuna's storage, as a ledger needs it: atomic claims, plain errors."""

import contextlib
import sqlite3
import time
import warnings

from lbcheck.study.records import StudyError

_PATIENCE = 60
"""Seconds to wait while other processes write to an SQLite file."""
_SILENT_BEATS = 5
"""After so many heartbeats left out, a worker is taken for dead."""


def connect(url, heartbeat):
    """Optuna's storage, with claims that are atomic in SQLite too."""
    import optuna
    import sqlalchemy

    is_file = sqlalchemy.engine.make_url(url).get_backend_name() == "sqlite"
    options = {"pool_pre_ping": True}
    if is_file:
        options["connect_args"] = {
            "factory": _WriteAhead,
            "isolation_level": None,
            "timeout": _PATIENCE,
        }
    with quiet():
        storage = _made_once(
            lambda: optuna.storages.RDBStorage(
                url,
                engine_kwargs=options,
                heartbeat_interval=heartbeat,
                grace_period=_SILENT_BEATS * heartbeat,
            )
        )
    if is_file:
        sqlalchemy.event.listen(storage.engine, "begin", _begin_writing)
    return storage


def _made_once(make):
    """Tries again where another process made the same tables meanwhile."""
    import sqlalchemy.exc

    for attempt in range(10):
        try:
            return make()
        except sqlalchemy.exc.DBAPIError as error:
            raced = isinstance(error, sqlalchemy.exc.IntegrityError)
            if not raced and "already exists" not in str(error.orig):
                raise
            if attempt == 9:
                raise
            time.sleep(0.1)


class _WriteAhead(sqlite3.Connection):
    """Commits without waiting for the disk: 1 ms instead of 20.

    A loss of power may take the last trials, which are then run again; the
    file stays whole.
    """

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.execute("PRAGMA journal_mode=WAL")
        self.execute("PRAGMA synchronous=NORMAL")


def _begin_writing(connection):
    """SQLite has no SELECT ... FOR UPDATE, on which Optuna relies.

    Without a lock from the start of the transaction, two workers can both
    read that a trial is waiting and both make it theirs.
    """
    connection.exec_driver_sql("BEGIN IMMEDIATE")


@contextlib.contextmanager
def errors(url: str):
    """Says of a storage's error which storage it was.

    Args:
        url: As `readable` gives it.

    Raises:
        StudyError: In place of SQLAlchemy's and Optuna's errors.
    """
    import optuna
    import sqlalchemy.exc

    try:
        yield
    except (
        sqlalchemy.exc.SQLAlchemyError,
        optuna.exceptions.StorageInternalError,
        ImportError,  # no driver for this kind of database
    ) as error:
        cause = error
        if isinstance(error, optuna.exceptions.StorageInternalError):
            cause = error.__cause__ or error
        message = str(getattr(cause, "orig", None) or cause).strip()
        raise StudyError(
            f"{url}: the ledger cannot be used: {message}{_advice(message)}"
        ) from error


@contextlib.contextmanager
def quiet():
    """Without Optuna's news of studies and of what it calls experimental."""
    import optuna

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", optuna.exceptions.ExperimentalWarning
            )
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)


def readable(url):
    """The URL without its password."""
    import sqlalchemy

    try:
        return sqlalchemy.engine.make_url(url).render_as_string()
    except sqlalchemy.exc.ArgumentError as error:
        raise StudyError(
            f"{url!r} is no storage: expected a URL such as "
            "sqlite:///folder/ledger.db or postgresql://user@host/database."
        ) from error


def _advice(message):
    """What to do about the commonest of a database's complaints."""
    for words, advice in (
        ("locked", f"; another program has held it for {_PATIENCE} seconds"),
        ("readonly", "; it must be writable"),
        ("unable to open", "; its folder must exist and be writable"),
        ("No module named", "; install this driver of the database"),
    ):
        if words in message:
            return advice + "."
    return ""
