"""Optuna's storage, as a ledger needs it: atomic claims, plain errors."""

import contextlib
import re
import sqlite3
import time
import urllib.parse
import warnings

from lbcheck.study.study_folder import StudyError
from lbcheck.support.errors import Unavailable

OUTAGE = 300
"""Seconds for which a storage may be away before a worker ends."""

_PATIENCE = 60
"""Seconds to wait while other processes write to an SQLite file."""
SILENT_BEATS = 5
"""After so many heartbeats left out, a worker is taken for dead."""

_DELETED = "Record does not exist."
"""Optuna's word of what is no longer in a storage."""
_LOST = "8s2b"
"""SQLAlchemy's code of a connection that went within a transaction."""
_FILES = ("sqlite", "sqlite+pysqlite")
_MEMORY = (None, "", ":memory:")
_PACKAGES = {
    "psycopg": "psycopg[binary]",
    "psycopg2": "psycopg2-binary",
    "MySQLdb": "mysqlclient",
}
"""Where they are not called as their modules."""
_PLACE = re.compile(r"[\w.\-/:,\[\]]*")
_HIDDEN = "***"
"""Stands for a host and database in which parts of a password may be."""
_LOGIN = re.compile(r":.*@")
_PUBLIC = re.compile(r"[^:@?]*://[\w.-]*(:\d+)?(/[^@?]*)?")
"""A URL of a host and a path alone, also after a name and =."""


def connect(url, heartbeat):
    """Optuna's storage, with claims that are atomic in SQLite too."""
    import optuna
    import sqlalchemy

    is_file = _parsed(url).get_backend_name() == "sqlite"
    options = {"pool_pre_ping": True}
    if is_file:
        options["connect_args"] = {
            "factory": _WriteAhead,
            "isolation_level": None,
            "timeout": _PATIENCE,
        }
    try:
        with quiet():
            storage = _made_once(
                lambda: optuna.storages.RDBStorage(
                    # Optuna fills in braces.
                    url.replace("{", "{{").replace("}", "}}"),
                    engine_kwargs=options,
                    heartbeat_interval=heartbeat,
                    grace_period=SILENT_BEATS * heartbeat,
                )
            )
    # The driver's, of odd URLs, and Optuna's, of another version's tables.
    except (RuntimeError, TypeError, ValueError) as error:
        raise StudyError(
            f"{readable(url)}: no storage: {_message(url, error)}"
        ) from None
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
    """Says of a storage's error which storage it was; a context.

    The message holds no password, and the error no other that might.

    Args:
        url: The storage's.

    Raises:
        Unavailable: The storage does not answer, which may pass.
        StudyError: In place of all other errors of SQLAlchemy and Optuna.
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
        kind = Unavailable if _may_pass(cause) else StudyError
        raise kind(
            f"{readable(url)}: the ledger cannot be used: "
            f"{_message(url, cause)}"
        ) from None
    except KeyError as error:
        if error.args != (_DELETED,):
            raise
        raise StudyError(
            f"{readable(url)}: a study or a trial of the ledger was deleted "
            "meanwhile; the same command goes on with what is recorded."
        ) from None


def _may_pass(cause):
    import sqlalchemy.exc

    passing = (
        sqlalchemy.exc.InterfaceError,
        sqlalchemy.exc.OperationalError,
        sqlalchemy.exc.TimeoutError,
    )
    return (
        isinstance(cause, passing)
        or getattr(cause, "connection_invalidated", False)
        or getattr(cause, "code", None) == _LOST
    )


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


def readable(url: str) -> str:
    """The URL without credentials and options; an SQLite file's as it is.

    Raises:
        StudyError: It is none; what was received is not shown, since it may
            hold a password.
    """
    parsed = _parsed(url)
    if parsed.drivername in _FILES and parsed.host is parsed.username is None:
        return url
    _, _, rest = url.partition("://")
    place, _, options = rest.partition("?")
    place = place.rpartition("@")[2]
    if "@" in options or not _PLACE.fullmatch(place):
        place = _HIDDEN
    return f"{parsed.drivername}://{place}"


def without_credentials(texts: list[str], url: str | None) -> list[str]:
    """Words of a command line, to be written down.

    Args:
        texts: The words.
        url: The storage's URL, which may stand in any of them, as may its
            password; None without a storage.
    """
    return [_without_credentials(text, url) for text in texts]


def _without_credentials(text, url):
    if url and url in text:
        text = text.replace(url, readable(url))
    elif url:
        text = _without_secrets(text, url, whole=3)
    if text.startswith("-") and "=" in text:
        flag, _, value = text.partition("=")
        return f"{flag}={_without_credentials(value, None)}"
    is_url = "://" in text and not _PUBLIC.fullmatch(text)
    if not is_url and not _LOGIN.search(text):
        return text
    try:
        return readable(text)
    except StudyError:
        return "***"


def _parsed(url):
    import sqlalchemy

    parsed = None
    if isinstance(url, str) and url == url.strip() and url.isprintable():
        # Also their messages show parts of the URL.
        with contextlib.suppress(sqlalchemy.exc.ArgumentError, ValueError):
            parsed = sqlalchemy.engine.make_url(url)
    if parsed is None:
        raise StudyError(
            "The storage is not a URL: expected one such as "
            "sqlite:////folder/ledger.db or postgresql://user@host/database. "
            "What was received is not shown, since it may hold a password."
        )
    if "@" in (parsed.host or ""):
        raise StudyError(
            "The storage's URL has an '@' in its user name or password: "
            "write %40 for it. The URL is not shown."
        )
    if parsed.drivername in _FILES and parsed.database in _MEMORY:
        raise StudyError(
            f"{parsed.drivername}:// names no file: expected a URL such as "
            "sqlite:////folder/ledger.db."
        )
    return parsed


def _message(url, error):
    """A database's complaint without secrets, and what to do about it."""
    if isinstance(error, ImportError):
        driver = getattr(error.__cause__, "name", None) or "database driver"
        package = _PACKAGES.get(driver, driver)
        return f"{driver} is not installed: pip install '{package}'."
    if readable(url).endswith(_HIDDEN):
        return (
            "its host or database contains characters that seem to belong to "
            "the password, where each must be written as % and two digits; "
            "the database's own message is not shown."
        )
    message = str(getattr(error, "orig", None) or error).strip()
    message = " ".join(_without_secrets(message, url).split())
    for words, advice in (
        ("locked", f"another program has held it for {_PATIENCE} seconds"),
        ("readonly", "it must be writable"),
        ("unable to open", "its folder must exist and be writable"),
        ("dialects:postgres", "PostgreSQL's URLs begin with postgresql://"),
    ):
        if re.search(rf"{words}\b", message):
            return f"{message}; {advice}."
    return message if message.endswith((".", "?")) else f"{message}."


def _without_secrets(text, url, whole=0):
    """A text without the URL's password and options, in any spelling.

    Args:
        whole: Secrets of so many characters or fewer are the text or not in
            it.
    """
    parsed = _parsed(url)
    if parsed.drivername in _FILES:
        return text
    raw = url.partition("://")[2].rpartition("@")[0].partition(":")[2]
    secrets = {raw, parsed.password or ""}
    for value in parsed.query.values():
        secrets |= {value} if isinstance(value, str) else set(value)
    spelled = {
        spelling
        for secret in secrets
        for spelling in (
            secret,
            urllib.parse.quote(secret, safe=""),
            urllib.parse.quote_plus(secret),
            urllib.parse.unquote(secret),
            urllib.parse.unquote_plus(secret),
        )
    }
    for secret in sorted(spelled - {""}, key=len, reverse=True):
        if text == secret or len(secret) > whole:
            text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", "***", text)
    return text
