"""A study in this process: from its settings to its report."""

import importlib
import importlib.metadata
import pathlib
import re
import time

import lbcheck
from lbcheck import report
from lbcheck.study import ledger
from lbcheck.study import protocol
from lbcheck.study import records
from lbcheck.study import tensorboard
from lbcheck.study import trainer
from lbcheck.study import worker
from lbcheck.study.settings import Settings
from lbcheck.training.record import describe_start

FRACTION_MARGIN = 0.005
"""Half a percentage point: the margin of metrics between 0 and 1."""

_FRACTIONS = r"acc|auc|precision|recall|f1|iou|top_?k"
_EXPORT_SECONDS = 10


class Session:
    """A study of a workload, ready to be worked on.

    Args:
        workload: An `lbcheck.Workload`.
        arms: `lbcheck.Arm`s, at least two, each with a name of its own.
        settings: A `Settings`.
        origin: What study.json says on where the study comes from: "name",
            "workload", "command" and "flagfile".

    Raises:
        TypeError, ValueError: Settings, workload or arms cannot be used;
            nothing is written yet.
    """

    def __init__(self, workload, arms, settings: Settings, origin: dict):
        self.arms = _by_name(arms)
        self.workload = workload
        self.trainer = trainer.Trainer(workload, self.arms)
        facts = self.trainer.facts()
        self.study = {
            "format": 1,
            "lbcheck": lbcheck.__version__,
            **origin,
            "facts": facts,
            "batch_size": workload.batch_size,
            "steps": workload.steps,
            "seed": settings.seed,
            "metric": {"name": facts["metric"], "mode": facts["mode"]},
            "selection": settings.selection,
            "margin": settings.margin or default_margin(facts["metric"]),
            "target": settings.target,
            "trials": settings.trials,
            "refined_trials": settings.refined_trials,
            "seeds": settings.seeds,
            "arms": {
                name: arm.describe() | {"audit": self.trainer.audit(name)}
                for name, arm in self.arms.items()
            },
            "environment": _environment(facts["backend"]),
        }
        self.protocol = protocol.Protocol(self.study)

    def open(self, folder, storage: str | None = None) -> None:
        """Makes or finds the study's folder and its ledger.

        Args:
            folder: Of the study.
            storage: URL for Optuna; None is a file in the folder.

        Raises:
            records.StudyError: They hold another study, or cannot be used.
        """
        self.folder = pathlib.Path(folder)
        self.study = records.open_study(self.folder, self.study)
        self.protocol = protocol.Protocol(self.study)
        self.ledger = ledger.Ledger(
            storage or records.storage_url(self.folder), self.study
        )
        self._exported = time.monotonic()

    def work(self, progress) -> None:
        """Trains until the study is done, here and at all other workers.

        Args:
            progress: Called with the ledger's counts whenever a trial ended.
        """

        def after(record):
            progress(self.ledger.counts())
            if time.monotonic() - self._exported > _EXPORT_SECONDS:
                self.export()

        progress(self.ledger.counts())
        worker.work(self.ledger, self.protocol, self.trainer, after)

    def export(self) -> list[dict]:
        """Writes into the folder what the ledger holds; the records."""
        done = self.ledger.records()
        records.export(self.folder, self.study, done)
        tensorboard.write(self.folder, done)
        self._exported = time.monotonic()
        return done

    def publish(self) -> pathlib.Path:
        """Writes the records and the report; the report's path.

        Raises:
            FloatingPointError: If every trial of every arm diverged.
        """
        done = self.export()
        path = pathlib.Path(report.write(self.folder))
        if not any(record["status"] == "finished" for record in done):
            raise FloatingPointError(_all_diverged(done, path))
        return path


def default_margin(metric: str) -> float:
    """The margin of a metric between 0 and 1, by its name.

    Raises:
        ValueError: If the name does not tell such a metric.
    """
    if not re.search(_FRACTIONS, metric.lower()):
        raise ValueError(
            f"Set `margin`: the difference of {metric!r} that does not matter "
            f"to you. Only metrics between 0 and 1 have a default, "
            f"{FRACTION_MARGIN}."
        )
    return FRACTION_MARGIN


def _by_name(arms):
    names = [arm.name for arm in arms]
    if len(arms) < 2:
        raise ValueError(f"A comparison takes two arms or more, not {names}.")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"Several arms are called {', '.join(twice)}.")
    return dict(zip(names, arms))


def _environment(backend):
    start = describe_start(0, _devices(backend))
    versions = dict(start["versions"])
    for package in ("optuna", "scipy"):
        versions[package] = importlib.metadata.version(package)
    return {
        **versions,
        "platform": start["machine"],
        "devices": start["devices"],
        "commit": start["commit"],
    }


def _devices(backend):
    framework = importlib.import_module(backend)
    if backend == "tensorflow":
        devices = framework.config.list_logical_devices()
        return [device.name for device in devices]
    if backend == "jax":
        return [str(device) for device in framework.devices()]
    return ["cuda" if framework.cuda.is_available() else "cpu"]


def _all_diverged(done, path):
    first = done[0]["bad"]
    variable = f" in {first['variable']}" if first["variable"] else ""
    return (
        f"All {len(done)} trials diverged, the first at update "
        f"{first['step']}{variable}: look for NaN in the data or the loss, "
        f"or search lower rates. Every trial is in {path}."
    )
