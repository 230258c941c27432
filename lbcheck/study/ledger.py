"""Which trials are waiting, running and done, in a storage of Optuna's.

Every (arm, stage) of a study is one Optuna study and every task one trial of
it, with the task and, when it is done, its record as attributes: COMPLETE
with the selection metric as its value, or PRUNED if it diverged. A trial that
crashed is FAIL; its task then gets another trial. Of a task's trials the
first that is not FAIL counts, and no other. What Optuna's dashboard or command
line made, or ended without a record, counts as FAIL.
"""

import contextlib
import datetime
import json
import random
import sys
import threading
import time

from lbcheck.study import formats
from lbcheck.study import optuna_storage
from lbcheck.study import optuna_trials
from lbcheck.study import protocol
from lbcheck.study import study_folder
from lbcheck.study.study_folder import StudyError
from lbcheck.support.errors import Unavailable

_GONE = (StudyError, Unavailable)
_TASK = ("arm", "stage", "index", "trial", "seed", "hyperparameters")
_PAUSE = 0.5
"""Seconds between calls of a storage that is away."""
_LOST_CLAIMS = 3
"""Trials claimed by others before a worker looks again which are waiting."""
_TASKS_AT_FIRST = 10
"""Tasks that a worker puts before it looks whether others put them, too."""


class Ledger:
    """The trials of one study in an Optuna storage.

    Safe to share between processes and machines: a task is claimed by one
    worker, a record is counted once, and what a killed worker had claimed is
    run again.

    Args:
        url: SQLAlchemy's URL of the storage, see `records.storage_url`.
        study: As `records.open_study` returned it.
        heartbeat: Seconds between signs of life of a running trial; silent
            for five times as long, it is given to another worker.

    Attributes:
        url: URL of the storage without its password, for messages.
        patience: Seconds for which the storage may be away. Each method
            waits so long for it, and then raises `Unavailable`.

    Raises:
        StudyError: The storage cannot be reached, or holds a study of this
            name with other settings.

    Example:

        ledger = Ledger(records.storage_url(folder), study)
        ledger.add(Protocol(study).next_tasks(ledger.records()))
        with ledger.claim() as claim:
            claim.finish(trainer.run(claim.task))
    """

    def __init__(self, url: str, study: dict, heartbeat: float = 3):
        self.heartbeat = heartbeat
        self._study = study
        self._queue = {}  # arm -> waiting trials when last looked at
        self._url = url
        self.url = optuna_storage.readable(url)
        self.patience = optuna_storage.OUTAGE
        self._last_outage = -float("inf")
        further = {
            "replacement": "feasible",
            "refined": "refined_trials",
            "challenge": "challenge_trials",
        }
        try:
            with self.errors():
                self.storage = optuna_storage.connect(url, heartbeat)
                self._places = {
                    (arm, stage): self._open(arm, stage)
                    for arm in study["arms"]
                    for stage in study_folder.STAGES
                    if stage not in further or study.get(further[stage])
                }
        except Unavailable as error:
            raise StudyError(str(error)) from None

    def add(self, tasks: list[dict]) -> int:
        """Puts tasks on the waiting list that are not in the ledger yet.

        Trials of dead workers do not count as in the ledger. Where another
        worker puts tasks at the same time, not all are put by this call.

        Returns:
            The number of tasks put; 0 if all are in the ledger.
        """
        return self.patiently(self._add, tasks)

    def _add(self, tasks):
        with self.errors():
            self._fail_stale()
            # In any order, so that workers that add at the same time seldom
            # put the same task.
            rest = random.Random().sample(tasks, len(tasks))
            missing, added, count = self._missing(rest), 0, _TASKS_AT_FIRST
            others_add = False
            while missing and not others_add:
                now, rest = missing[:count], missing[count:]
                for task in now:
                    space = self._study["arms"][task["arm"]]["space"]
                    place = self._places[task["arm"], task["stage"]]
                    place.add_trial(optuna_trials.of_task(task, space))
                added += len(now)
                missing = self._missing(rest)
                others_add = len(missing) < len(rest)
                count *= 2  # all trials are read for each of these rounds
            self._fail_spare()
        return added

    def _missing(self, tasks):
        """Those of the tasks that no trial stands for, in their order."""
        standing = self._standing()
        return [
            task
            for task in tasks
            if study_folder.place(task)
            not in standing[task["arm"], task["stage"]]
        ]

    def put(self, records: list[dict], ended: datetime.datetime) -> None:
        """Puts records that another storage of the study had.

        They count from here on; who trains one of their tasks is too late.
        Those of a stage that the study was not asked for are left out.

        Args:
            records: Of the study, see `formats.check_record`.
            ended: When their trials had ended, at the latest.
        """
        self.patiently(self._put, records, ended)

    def _put(self, records, ended):
        from optuna.trial import TrialState

        with self.errors():
            there = {}
            for (arm, _), place in self._places.items():
                for trial in _not_failed(place):
                    key = (arm, *optuna_trials.place(trial))
                    there.setdefault(key, []).append(trial)
            for record in records:
                if (record["arm"], record["stage"]) not in self._places:
                    continue
                trials = there.get(study_folder.key(record), [])
                if not any(trial.state.is_finished() for trial in trials):
                    self._put_one(record, ended)
                for trial in trials:
                    self._set_state(trial, TrialState.FAIL)  # if not finished

    def _put_one(self, record, ended):
        task = {key: record[key] for key in _TASK if key in record}
        value, text = self.checked(task, record)
        trial = optuna_trials.of_task(
            task,
            self._study["arms"][task["arm"]]["space"],
            "PRUNED" if value is None else "COMPLETE",
            value,
            optuna_trials.attributes(text),
        )
        trial.datetime_start = trial.datetime_complete = ended
        self._places[task["arm"], task["stage"]].add_trial(trial)

    def claim(self, prefer_arm: str | None = None) -> "Claim | None":
        """Takes a waiting task, of this arm if it has any; None if none."""
        return self.patiently(self._claim, prefer_arm)

    def _claim(self, prefer_arm):
        with self.errors():
            lost = 0
            if not self._queue.get(prefer_arm):
                self._queue = self._waiting()
            while trial := self._next(prefer_arm):
                if self._take(trial):
                    return Claim(self, trial)
                lost += 1
                if lost % _LOST_CLAIMS == 0:
                    self._queue = self._waiting()
                else:
                    self._go_elsewhere(trial.user_attrs["task"]["arm"])
        return None

    def _next(self, prefer_arm):
        """The next waiting trial, of this arm if it has any; None if none."""
        for arm in sorted(self._queue, key=lambda arm: arm != prefer_arm):
            if self._queue[arm]:
                return self._queue[arm].pop(0)
        return None

    def _go_elsewhere(self, arm):
        """Leaves the place in the queue at which another worker claims."""
        queue = self._queue[arm]
        if queue:
            first = random.Random().randrange(len(queue))
            self._queue[arm] = queue[first:] + queue[:first]

    def claim_beside(self, claim: "Claim") -> "Claim | None":
        """Takes a waiting task of the arm and stage of one in hand, if any."""
        return self.patiently(self._claim_beside, claim.task)

    def _claim_beside(self, task):
        queue = self._queue.get(task["arm"], [])
        with self.errors():
            for trial in list(queue):
                if trial.user_attrs["task"]["stage"] == task["stage"]:
                    queue.remove(trial)
                    if self._take(trial):
                        return Claim(self, trial)
        return None

    def records(self) -> list[dict]:
        """The records of all done trials in canonical order."""
        try:
            done = [optuna_trials.record(trial) for trial in self._done()]
        except json.JSONDecodeError as error:
            raise StudyError(
                f"{self.url}: the record of a trial is damaged: {error}. "
                "Delete that trial or the ledger; the same command goes on "
                "with what trials.jsonl has."
            ) from error
        return study_folder.canonical(self._study, done)

    def ends(self) -> list[datetime.datetime]:
        """When the done trials ended, in the storage's time, sorted."""
        return sorted(trial.datetime_complete for trial in self._done())

    def running(self) -> dict[str, datetime.datetime]:
        """What is being trained, here and elsewhere, and since when."""
        return {
            "{arm} {stage} {index}".format(**trial.user_attrs["task"]): (
                trial.datetime_start
            )
            for trial in self.patiently(self._trials)
            if trial.state.name == "RUNNING"
        }

    def _done(self):
        found = self.patiently(self._trials)
        return [trial for trial in found if trial.state.is_finished()]

    def _trials(self):
        with self.errors():
            return [
                trial
                for standing in self._standing().values()
                for trial in standing.values()
            ]

    def counts(self) -> dict[tuple[str, str], dict[str, int]]:
        """(arm, stage) -> {"finished", "diverged", "running", "waiting"}."""
        names = {
            "COMPLETE": "finished",
            "PRUNED": "diverged",
            "RUNNING": "running",
            "WAITING": "waiting",
        }
        counts = {
            place: dict.fromkeys(names.values(), 0) for place in self._places
        }
        for trial in self.patiently(self._trials):
            task = trial.user_attrs["task"]
            counts[task["arm"], task["stage"]][names[trial.state.name]] += 1
        return counts

    def checked(self, task: dict, record: dict) -> tuple[float | None, str]:
        """The value that selects, None if diverged, and the record as JSON."""
        what = "{arm}/{stage}/{index}".format(**task)
        if {key: record.get(key) for key in task} != task:
            raise ValueError(f"{what}: the record is of another task.")
        text = json.dumps(record)
        read = json.loads(text)  # as every reader of the ledger has it
        formats.check_outcome(read, self._study, what)
        return protocol.score(self._study, read), text

    def delete(self) -> None:
        """Takes the study out of its storage, trials and all."""
        import optuna

        with self.errors(), optuna_storage.quiet():
            for place in self._places.values():
                optuna.delete_study(
                    study_name=place.study_name, storage=self.storage
                )

    def close(self) -> None:
        """Closes the connections."""
        self.storage.remove_session()
        self.storage.engine.dispose()

    @contextlib.contextmanager
    def errors(self):
        """Remembers outages of the storage; see `storage.errors`."""
        try:
            with optuna_storage.errors(self._url):
                yield
        except Unavailable:
            self._last_outage = time.monotonic()
            raise

    def patiently(self, function, *arguments):
        """Calls the function again until the storage is back.

        Raises:
            Unavailable: It stays away.
        """
        gone = None
        while True:
            try:
                result = function(*arguments)
            except Unavailable as error:
                now = time.monotonic()
                if gone is None and self.patience:
                    gone = now
                    self._say(f"{error} Trying for {self.patience} seconds.")
                if not self.patience or now - gone > self.patience:
                    raise Unavailable(
                        f"{error} The same command continues the study "
                        "when it is back."
                    ) from None
                time.sleep(_PAUSE)
            else:
                if gone is not None:
                    self._say(f"{self.url}: the ledger is back.")
                return result

    def _say(self, text):
        print(text, file=sys.stderr, flush=True)

    def _open(self, arm, stage):
        import optuna

        name = f"{self._study['name']}/{arm}/{stage}"
        mode = self._study["metric"]["mode"]
        with optuna_storage.quiet():
            place = optuna.create_study(
                study_name=name,
                storage=self.storage,
                direction={"max": "maximize", "min": "minimize"}[mode],
                load_if_exists=True,
            )
        there = place.user_attrs.get("study")
        if there is None:
            place.set_user_attr("study", study_folder.identity(self._study))
        elif difference := study_folder.another(there, self._study):
            raise StudyError(
                f"{self.url} holds another study {self._study['name']!r}: "
                f"{difference}. Give this study another name or storage."
            )
        return place

    def _standing(self):
        """(arm, stage) -> place -> the trial that counts."""
        standing = {place: {} for place in self._places}
        for place, optuna_study in self._places.items():
            for trial in _not_failed(optuna_study):
                standing[place].setdefault(optuna_trials.place(trial), trial)
        return standing

    def _waiting(self):
        """arm -> waiting trials; first the arms that fewest workers are on."""
        waiting = {arm: [] for arm in self._study["arms"]}
        running = dict.fromkeys(waiting, 0)
        for (arm, _), standing in self._standing().items():
            for _, trial in sorted(standing.items()):
                running[arm] += trial.state.name == "RUNNING"
                if trial.state.name == "WAITING":
                    waiting[arm].append(trial)
        return {arm: waiting[arm] for arm in sorted(running, key=running.get)}

    def _take(self, trial):
        from optuna.trial import TrialState

        # A heartbeat before the claim: a trial without any never counts as
        # stale, and a worker may die before its first.
        self.storage.record_heartbeat(trial._trial_id)
        return self._set_state(trial, TrialState.RUNNING)

    def _set_state(self, trial, state):
        from optuna import exceptions

        try:
            return self.storage.set_trial_state_values(trial._trial_id, state)
        except exceptions.UpdateFinishedTrialError:
            return False

    def _fail_spare(self):
        """Keeps the first where two workers enqueued a trial for one task."""
        from optuna.trial import TrialState

        for place in self._places.values():
            first = {}
            for trial in _not_failed(place):
                kept = first.setdefault(optuna_trials.place(trial), trial)
                if kept is not trial and trial.state is TrialState.WAITING:
                    self._set_state(trial, TrialState.FAIL)

    def _fail_stale(self):
        import optuna

        # While the storage was away nobody could give a sign of life.
        silence = optuna_storage.SILENT_BEATS * self.heartbeat
        if time.monotonic() - self._last_outage < silence:
            return
        with optuna_storage.quiet():
            for place in self._places.values():
                optuna.storages.fail_stale_trials(place)


class Claim:
    """A task in the hands of this worker; a context that keeps it alive.

    Left without `finish`, the task goes back to the waiting ones.
    """

    def __init__(self, ledger: Ledger, trial):
        self.task: dict = trial.user_attrs["task"]
        self._ledger = ledger
        self._id = trial._trial_id
        self._ended = threading.Event()
        self._heart = threading.Thread(target=self._beat, daemon=True)
        self._heart.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if not self._ended.is_set():
            self.abandon()

    def finish(self, record: dict) -> bool:
        """Puts the record in the ledger.

        Returns:
            False if this worker was silent for so long that the trial was
            given to another; the record is dropped then.

        Raises:
            ValueError: The record is not of this task, or is none that
                trials.jsonl may have; says what is wrong in it.
        """
        value, text = self._ledger.checked(self.task, record)
        state, values = "COMPLETE", [value]
        if value is None:
            state, values = "PRUNED", None
        attributes = optuna_trials.attributes(text)
        try:
            return self._ledger.patiently(
                self._write, state, values, attributes
            )
        finally:
            self._end()

    def abandon(self) -> None:
        """Gives the task back; a storage that is away does so by itself."""
        try:
            with contextlib.suppress(*_GONE):
                self._write("FAIL", None, {})
        finally:
            self._end()

    def _write(self, state, values, attributes):
        from optuna import exceptions
        from optuna.trial import TrialState

        database = self._ledger.storage
        try:
            with self._ledger.errors():
                for key, value in attributes.items():
                    database.set_trial_user_attr(self._id, key, value)
                return database.set_trial_state_values(
                    self._id, TrialState[state], values
                )
        except exceptions.UpdateFinishedTrialError:
            return False

    def _end(self):
        self._ended.set()
        self._heart.join(self._ledger.heartbeat)

    def _beat(self):
        database = self._ledger.storage
        while not self._ended.wait(self._ledger.heartbeat):
            # If the storage stays away, `finish` says so.
            with contextlib.suppress(*_GONE), self._ledger.errors():
                database.record_heartbeat(self._id)
        database.remove_session()  # this thread's connection


def _not_failed(optuna_study):
    """Its trials in the order of their numbers, but for those of others."""
    found = optuna_study.get_trials(deepcopy=False)
    return [trial for trial in found if optuna_trials.counts(trial)]
