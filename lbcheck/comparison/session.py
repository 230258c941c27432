"""A study in this process: from its settings to its report."""

import contextlib
import dataclasses
import datetime
import importlib
import importlib.metadata
import json
import os
import pathlib
import re
import sys
import time
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import lbcheck
from lbcheck import report
from lbcheck import verdict
from lbcheck.comparison import tensorboard
from lbcheck.study import challenge
from lbcheck.study import companions
from lbcheck.study import ledger
from lbcheck.study import protocol
from lbcheck.study import study_folder
from lbcheck.study import threads
from lbcheck.study import worker
from lbcheck.study.settings import Settings
from lbcheck.support import errors
from lbcheck.support import files
from lbcheck.support import schema
from lbcheck.training.record import describe_start


class Ends(NamedTuple):
    """When trials ended: those of earlier calls, and all, sorted."""

    earlier: list[datetime.datetime]
    all: list[datetime.datetime]


def news(studies: Sequence[Ends]) -> str | None:
    """Which trials are from earlier calls, in words; None if none are.

    Args:
        studies: Of the study, and of those that it takes besides.
    """
    earlier = sorted(end for ends in studies for end in ends.earlier)
    if not earlier:
        return None
    total = sum(len(ends.all) for ends in studies)
    dates = [f"{end:%Y-%m-%d}" for end in earlier]
    when = " to ".join(dict.fromkeys((dates[0], dates[-1])))
    which = f"the other {len(earlier)}"
    if len(earlier) == total:
        which = f"all {total}"
    return (
        f"{total - len(earlier)} of {total} trials were run now; {which} are "
        f"from {when}."
    )


_EXPORT_SECONDS = 10
_NAME = re.compile(r"(?=\w)[\w .+=(),-]{0,99}[\w)+=]")


class Session:
    """A study of a workload, ready to be worked on.

    Args:
        workload: An `lbcheck.Workload`, or a `Program`.
        arms: `lbcheck.Arm`s, or `ProgramArm`s, at least one, each with a name
            of its own.
        settings: A `Settings`.
        origin: What study.json says on where the study comes from: "name",
            "workload", "command" and "flagfile".
        trainer: Of the same workload and arms, if there is one.

    Raises:
        TypeError, ValueError: Settings, workload or arms cannot be used;
            nothing is written yet.
    """

    def __init__(
        self, workload, arms, settings: Settings, origin: dict, trainer=None
    ):
        self.arms = _by_name(arms)
        self.workload = workload
        self._settings, self._origin = settings, origin
        if settings.threads is not None:
            threads.limit(settings.threads)
        self.trainer = trainer or workload.trainer(self.arms)
        facts = self.trainer.facts()
        backend = facts.get("backend")  # a program has it to itself
        _check_batched_trials(settings.batched_trials, facts)
        self.study = {
            "format": 1,
            "lbcheck": lbcheck.__version__,
            **origin,
            "facts": facts,
            "batch_size": int(workload.batch_size),
            "steps": int(workload.steps),
            "seed": settings.seed,
            **_threads(backend, settings.threads),
            "metric": {"name": facts["metric"], "mode": facts["mode"]},
            "selection": settings.selection,
            "margin": settings.margin,
            "target": settings.target,
            "trials": settings.trials,
            "refined_trials": settings.refined_trials,
            "challenge_trials": _challenge_trials(settings, self.arms),
            "seeds": settings.seeds,
            "arms": {
                name: arm.describe() | {"audit": self.trainer.audit(name)}
                for name, arm in self.arms.items()
            },
            "environment": _environment(backend),
            **_sides(self.arms, settings),
            **_besides(settings, workload),
        }
        self.protocol = challenge.plan(self.study, verdict.answer)
        if settings.control_batch_size is not None:
            # What it cannot train is refused now, not after the study.
            self._control_workload(self.study).trainer(self.arms)
        self.study["fingerprint"] = self.trainer.fingerprint(settings.seed)

    @contextlib.contextmanager
    def opened(self, folder, storage: str | None = None):
        """Makes or finds the study's folder and its ledger; a context.

        A study that is new and fails before its first trial is done, such as
        one with a broken train_step, is taken back.

        Args:
            folder: Folder of the study.
            storage: URL for Optuna; None is a file in the folder.

        Raises:
            records.StudyError: They hold another study, or cannot be used.
        """
        self.folder = pathlib.Path(folder)
        is_new = not os.path.exists(self.folder / study_folder.STUDY)
        url = storage or study_folder.storage_url(self.folder)
        if storage:
            # First, since a folder without its ledger would be half a study.
            as_read = json.loads(json.dumps(self.study))
            study_folder.check_place(self.folder, as_read)
            self._ledger = ledger.Ledger(url, as_read)
        self.study = study_folder.open_study(self.folder, self.study)
        self.protocol = challenge.plan(self.study, verdict.answer)
        if storage and self.study != as_read:
            self._ledger.close()  # the folder remembers more trials
        if not storage or self.study != as_read:
            self._ledger = ledger.Ledger(url, self.study)
        self._exported, self._warned = time.monotonic(), False
        try:
            with files.lock(self.folder / study_folder.LOCK):
                self._records()
            self._earlier = self._ledger.ends()
            yield
        except Exception:
            if is_new:
                # A storage that failed cannot say more than it has.
                self._ledger.patience = 0
                # Why the study failed is to be said, not why this did.
                with contextlib.suppress(
                    OSError, study_folder.StudyError, errors.Unavailable
                ):
                    self._take_back()
            raise
        finally:
            self._ledger.close()

    def _take_back(self):
        begun = ("finished", "diverged", "running")
        counts = self._ledger.counts().values()
        if any(count[state] for count in counts for state in begun):
            return  # also where only another machine has begun
        self._ledger.delete()
        self._ledger.close()
        study_folder.remove(self.folder)

    def work(self, progress) -> None:
        """Trains until the study is done, here and at all other workers.

        Args:
            progress: Called whenever a trial ended, with the ledger's `counts`.
        """

        def after(record):
            progress(self._ledger.counts)
            if time.monotonic() - self._exported > _EXPORT_SECONDS:
                self._export_meanwhile()

        progress(self._ledger.counts)
        trainer = self.trainer.within(self.folder)
        worker.work(
            self._ledger,
            self.protocol,
            trainer,
            after,
            self._settings.batched_trials,
        )

    def ends(self) -> "Ends":
        """When its trials ended, while it is open."""
        return Ends(self._earlier, self._ledger.ends())

    def export(self) -> list[dict]:
        """Writes into the folder what the ledger holds; the records.

        Raises:
            OSError, StudyError: The folder cannot be written.
        """
        with files.lock(self.folder / study_folder.LOCK):
            return self._export()

    def interrupted(self) -> str:
        """Exports what is done without waiting, and says how much it is."""
        self._ledger.patience = 0
        self._export_meanwhile()
        after = ""
        with contextlib.suppress(errors.Unavailable):
            done = len(self._ledger.ends())
            total = max(done, self.protocol.total)
            after = f" after {done} of {total} trials"
        return f"Interrupted{after}; run the same command again to continue."

    def _export_meanwhile(self):
        """Exports unless another process does; an error warns, only once."""
        self._exported = time.monotonic()
        try:
            with files.lock(self.folder / study_folder.LOCK, wait=False):
                self._export()
        except BlockingIOError:
            pass
        except (OSError, study_folder.StudyError, errors.Unavailable) as error:
            if not self._warned:
                why = str(error)
                if isinstance(error, OSError):
                    why = f"{errors.of_system(error)}."
                print(
                    f"{why} Training goes on; the records are in the ledger.",
                    file=sys.stderr,
                    flush=True,
                )
            self._warned = True

    def _export(self):
        done = self._records()
        study_folder.export(self.folder, self.study, done)
        tensorboard.write(self.folder, done)
        return done

    def _records(self):
        """The ledger's, and those that only trials.jsonl has, put there too.

        As where the storage is another one, or the folder was copied without.
        """
        done = self._ledger.records()
        found = {study_folder.key(record): record for record in done}
        missing = []
        # Another call may have let it grow meanwhile.
        study = study_folder.read(self.folder)
        for record in study_folder.read_trials(self.folder, study):
            other = found.get(study_folder.key(record))
            if other is None:
                missing.append(record)
            elif other | {"seconds": 0} != record | {"seconds": 0}:
                raise study_folder.StudyError(
                    f"{self.folder / study_folder.TRIALS} and the ledger "
                    f"{self._ledger.url} hold different results of "
                    "{arm} {stage} {index}: ".format(**record)
                    + "give the --storage that the study was begun with, or "
                    "another --output_dir."
                )
        if missing:
            self._ledger.put(missing, study_folder.written(self.folder))
        return study_folder.canonical(study, done + missing)

    def companions(self):
        """(name of the folder, Session) of each further study, in order.

        The study's own trials must be in its folder.
        """
        for name in companions.names(self.study):
            yield name, self.companion(name, self.folder)

    def companion(self, name: str, folder) -> "Session":
        """One of the further searches, or the control.

        Args:
            name: Of its folder, see `lbcheck.study.companions`.
            folder: The study's own.
        """
        read = study_folder.load(folder)
        study = read.study  # which may remember more than this call asks for
        known = companions.names(study)
        if name not in known:
            raise ValueError(
                f"{folder}: the study takes no {name!r} besides itself; it "
                f"takes {', '.join(known) or 'none'}."
            )
        origin = self._origin | {"name": companions.title(study, name)}
        settings = dataclasses.replace(
            self._settings,
            seed=protocol.derived_seed(study["seed"], name),
            seeds=study["seeds"],
            margin=study["margin"],
            searches=1,
            challenge_trials=0,
            control_batch_size=None,
        )
        if name != companions.CONTROL:
            return Session(
                self.workload,
                self.arms.values(),
                settings,
                origin,
                self.trainer,
            )
        control = read.companions.get(name)
        (arm,) = control.study["arms"] if control else [verdict.leading(*read)]
        settings = dataclasses.replace(
            settings, challengers=None, baselines=None
        )
        workload = self._control_workload(study)
        return Session(workload, [self.arms[arm]], settings, origin)

    def _control_workload(self, study):
        return self.workload._replace(
            batch_size=study["control_batch_size"],
            steps=companions.control_steps(study),
        )

    def publish(self, *, is_beside: bool = False) -> pathlib.Path:
        """Writes the records and the report; the report's path.

        Args:
            is_beside: Whether this is a further search or a control, which
                says something also if every trial diverged.

        Raises:
            FloatingPointError: If every trial of every arm diverged.
            OSError, StudyError: The folder cannot be written.
        """
        done = self.export()
        path = pathlib.Path(report.write(self.folder))
        ended = any(record["status"] == "finished" for record in done)
        if not (ended or is_beside):
            raise FloatingPointError(_all_diverged(done, self.study, path))
        return path


def _check_batched_trials(count, facts):
    if count > 1 and facts.get("backend") != "jax":
        where = "a program"
        if "backend" in facts:
            where = f"{facts['keras']} on {facts['backend']}"
        raise ValueError(
            "batched_trials is for Keras 3 on JAX (--keras=keras3 with the "
            f"environment variable KERAS_BACKEND=jax), received {count} for "
            f"{where}."
        )


def _threads(backend, asked):
    """What study.json says of threads: a program may take any number."""
    if backend is not None:
        return {"threads": threads.in_force(backend, asked)}
    return {} if asked is None else {"threads": asked}


def _besides(settings, workload):
    """What study.json says of further searches and of a control."""
    found = {}
    if settings.feasible:
        found["feasible"] = True
    if settings.search_seeds > 1:
        found["search_seeds"] = settings.search_seeds
    if settings.searches > 1:
        found["searches"] = settings.searches
    if settings.control_batch_size is not None:
        if settings.control_batch_size >= workload.batch_size:
            raise ValueError(
                "control_batch_size must be smaller than the batch of "
                f"{workload.batch_size}, received "
                f"{settings.control_batch_size}."
            )
        found["control_batch_size"] = settings.control_batch_size
    return found


def _challenge_trials(settings, arms):
    if len(arms) == 1 or not settings.can_be_challenged:
        return 0
    if settings.challenge_trials is not None:
        return settings.challenge_trials
    return challenge.most_trials(settings.trials)


def _sides(arms, settings):
    """{"challengers": names, "baselines": names}; {} for the usual ones."""
    given = {
        "challengers": settings.challengers,
        "baselines": settings.baselines,
    }
    if not any(given.values()):
        layer_wise = {arm.describe()["layer_wise"] for arm in arms.values()}
        if len(arms) > 1 and len(layer_wise) == 1:
            raise ValueError(
                f"{'all' if layer_wise.pop() else 'none'} of the arms "
                f"{', '.join(arms)} are layer-wise; say by challengers or "
                "baselines which are asked whether they are needed."
            )
        return {}
    for name, side in given.items():
        unknown = [arm for arm in side or () if arm not in arms]
        if unknown:
            raise ValueError(
                f"{name} must name arms of the study, {', '.join(arms)}; "
                f"received {unknown[0]!r}."
            )
    names = tuple(given)
    for name, other in (names, reversed(names)):
        if given[name] is None:
            given[name] = [arm for arm in arms if arm not in given[other]]
    both = set(given["challengers"]) & set(given["baselines"])
    if both:
        raise ValueError(
            f"an arm is a challenger or a baseline, received both for "
            f"{sorted(both)[0]!r}."
        )
    if not all(given.values()):
        raise ValueError(
            "a comparison needs a challenger and a baseline, received "
            f"challengers {given['challengers']} and baselines "
            f"{given['baselines']}."
        )
    return {
        name: [arm for arm in arms if arm in side]
        for name, side in given.items()
    }


def _by_name(arms):
    names = [arm.name for arm in arms]
    if not arms:
        raise ValueError("A study needs at least one arm, received none.")
    found = {}
    for name in names:
        if (
            not isinstance(name, str)
            or not _NAME.fullmatch(name)
            or len(name.encode()) > 200
        ):
            raise ValueError(
                f"An arm's name is up to 100 letters, digits and the signs "
                "'_ .+-=(),' and begins with a letter or digit, since folders "
                f"are named after it; received {schema.shown(name)}."
            )
        # As disks that do not tell a from A, or one form of e-acute from the
        # other.
        plain = unicodedata.normalize("NFKC", name).casefold()
        if found.setdefault(plain, name) != name:
            raise ValueError(
                f"Two arms are called {found[plain]} and {name}, names that "
                "some disks do not distinguish."
            )
        if names.count(name) > 1:
            raise ValueError(f"Several arms are called {name}.")
    return dict(zip(names, arms))


def _environment(backend):
    start = describe_start(0, _devices(backend))
    versions = dict(start["versions"])
    del versions["lbcheck"]  # study.json begins with it
    for package in ("optuna", "scipy"):
        versions[package] = importlib.metadata.version(package)
    return {
        **versions,
        "platform": start["machine"],
        "devices": start["devices"],
        "commit": start["commit"],
        **({"variables": start["variables"]} if start["variables"] else {}),
    }


def _devices(backend):
    if backend is None:
        return []
    framework = importlib.import_module(backend)
    if backend == "tensorflow":
        devices = framework.config.list_logical_devices()
        return [device.name for device in devices]
    if backend == "jax":
        return [str(device) for device in framework.devices()]
    return ["cuda" if framework.cuda.is_available() else "cpu"]


def _all_diverged(done, study, path):
    first = done[0]["bad"]
    if all(
        record["steps"] == study["steps"] and not record["bad"]["variable"]
        for record in done
    ):
        return (
            f"All {len(done)} trials took all {study['steps']:,} updates and "
            "no weight was seen that is not finite, but the loss or the "
            f"metric {study['metric']['name']} is no finite number: look at "
            f"the metric and at the data. Every trial is in {path}."
        )
    variable = f" in {first['variable']}" if first["variable"] else ""
    return (
        f"All {len(done)} trials diverged, the first at update "
        f"{first['step']}{variable}: look for NaN in the data or the loss, "
        f"or search lower learning rates. Every trial is in {path}."
    )
