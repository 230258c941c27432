"""A study for TensorBoard's HParams page: a run per trial.

    tensorboard --logdir=FOLDER/tensorboard

Runs are named arm/stage/index. Hyperparameters are the trial's own and its
arm and stage; metrics are validation and training, curves included. The seeds
of a confirmed point make one group, which the page averages.
"""

import importlib.util
import pathlib

from lbcheck.study.formats import ALL_PARTS
from lbcheck.support import event_file
from lbcheck.support import files

FOLDER = "tensorboard"


def write(folder, records: list[dict]) -> None:
    """Writes the trials that TensorBoard's folder has not; no TensorFlow.

    Each run appears whole or not at all, so that many calls, as trials end
    and of several processes, write each trial once. Does nothing where
    tensorboard is not installed.

    Args:
        folder: Folder of the study.
        records: Trial records.

    Raises:
        OSError: The folder cannot be written.
    """
    if importlib.util.find_spec("tensorboard") is None:
        return
    folder = pathlib.Path(folder)
    for record in records:
        run = f"{record['arm']}/{_stage(record)}/{record['index']:04d}"
        _write_run(folder, run, lambda file, r=record: _write_trial(file, r))


def _write_run(folder, run, fill):
    final = folder / FOLDER / run
    if final.exists():
        return
    # Not below the log directory, where TensorBoard would take it for a run,
    # but on its disk, where it is a link to another.
    beside = (folder / FOLDER).resolve().parent
    with files.making_folder(final, beside=beside) as part:
        file = event_file.EventFile(part)
        fill(file)
        file.close()


def _stage(record):
    """The stage, with the trial of a challenge that a run confirms."""
    trial = record.get("trial")
    return record["stage"] + ("" if trial is None else f"-{trial}")


def _write_trial(file, record):
    from tensorboard.plugins.hparams import api_pb2
    from tensorboard.plugins.hparams import summary_v2

    hparams = {
        "arm": record["arm"],
        "stage": record["stage"],
        **record["hyperparameters"],
    }
    group = f"{record['arm']}/{_stage(record)}"
    if record["stage"] != "confirm":
        group += f"/{record['index']}"
    file.add(0, summary_v2.hparams_pb(hparams, trial_id=group))
    for point in record["curve"]:
        _write_metrics(file, point["step"], point)
    if not record["curve"] or record["curve"][-1]["step"] < record["steps"]:
        _write_metrics(file, record["steps"], record["metrics"] or {})
    ended = "SUCCESS" if record["status"] == "finished" else "FAILURE"
    file.add(0, _session_end(api_pb2.Status.Value(f"STATUS_{ended}")))


def _write_metrics(file, step, metrics):
    for part in ALL_PARTS:
        for name, value in (metrics.get(part) or {}).items():
            if value is not None:
                file.scalar(step, f"{part}/{name}", value)


def _session_end(status):
    """As tensorboard's session_end_pb, whose module imports TensorFlow."""
    from tensorboard.compat.proto import summary_pb2
    from tensorboard.plugins.hparams import metadata
    from tensorboard.plugins.hparams import plugin_data_pb2

    data = plugin_data_pb2.HParamsPluginData(
        session_end_info=plugin_data_pb2.SessionEndInfo(status=status)
    )
    summary = summary_pb2.Summary()
    summary.value.add(
        tag=metadata.SESSION_END_INFO_TAG,
        metadata=metadata.create_summary_metadata(data),
        tensor=metadata.NULL_TENSOR,
    )
    return summary
