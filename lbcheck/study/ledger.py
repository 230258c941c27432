"""Which trials are waiting, running and done, in a storage of Optuna's."""


class Ledger:
    """The trials of one study in an Optuna storage.

    Args:
        url: SQLAlchemy's URL of the storage, see `records.storage_url`.
        study: As `records.open_study` returned it.
        heartbeat: Seconds between signs of life of a running trial; silent
            for five times as long, it is given to another worker.

    Raises:
        StudyError: The storage cannot be reached, or holds a study of this
            name with other settings.
    """

    def __init__(self, url: str, study: dict, heartbeat: float = 3):
        raise NotImplementedError

    def add(self, tasks: list[dict]) -> int:
        """Puts tasks on the waiting list that are not in the ledger yet.

        Trials of dead workers do not count as in the ledger.

        Returns:
            The number of tasks put.
        """
        raise NotImplementedError

    def claim(self, prefer_arm: str | None = None) -> "Claim | None":
        """Takes a waiting task, of this arm if it has any; None if none."""
        raise NotImplementedError

    def records(self) -> list[dict]:
        """The records of all done trials in canonical order."""
        raise NotImplementedError

    def counts(self) -> dict[tuple[str, str], dict[str, int]]:
        """(arm, stage) -> {"finished", "diverged", "running", "waiting"}."""
        raise NotImplementedError

    def close(self) -> None:
        """Closes the connections."""
        raise NotImplementedError


class Claim:
    """A task in the hands of this worker; a context that keeps it alive.

    Left without `finish`, the task goes back to the waiting ones.
    """

    task: dict

    def finish(self, record: dict) -> bool:
        """Puts the record in the ledger; False if the trial was given away."""
        raise NotImplementedError

    def abandon(self) -> None:
        """Gives the task back."""
        raise NotImplementedError
