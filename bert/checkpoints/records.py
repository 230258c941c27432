"""The folder of a run of this project, as a checkpoint of BERT.

The arrays of a run's checkpoints have numbers; selection.txt says which
variable is which.
"""

import pathlib
import re
from typing import TypedDict

from bert import models
from bert.checkpoints import variables
from lbcheck import optimizers
from lbcheck.support import schema
from lbcheck.training import checkpoints

_RUN = "run.json"


class _Settings(TypedDict, total=False):
    vocabulary: dict | None


class _Run(TypedDict, total=False):
    settings: _Settings


class _Status(TypedDict):
    status: schema.Name


def read(folder: str):
    """Arrays, other names, settings, note, vocabulary; see
    `reading.Checkpoint`."""
    found = checkpoints.of(folder).newest()
    if found is None:
        raise ValueError(f"{folder} holds no whole checkpoint of a run.")
    step, state = found
    weights = _evaluated(folder, state)
    paths = _paths(folder, weights)
    named = {path: a for path, a in zip(paths, weights) if path}
    settings = _settings(folder)
    arrays = {}
    for name, at in variables.places(variables.num_layers(named)).items():
        for place in reversed(at):
            path = _ending(place.tail, named)
            if path:
                array = named.pop(path)
                arrays[name] = variables.to_google(name, array)
                if name.endswith("/attention/self/query/bias"):
                    settings["num_attention_heads"] = array.shape[0]
    if variables.WORDS not in arrays:
        raise ValueError(f"{folder}: the run of another model than BERT.")
    status = schema.read(pathlib.Path(folder, "status.json"), _Status)
    note = f"after {step} updates, {status['status']}"
    return arrays, tuple(named), settings, note, vocabulary(folder)


def vocabulary(folder) -> dict | None:
    """What tells the vocabulary of a run from any other, where it is known."""
    if not pathlib.Path(folder, _RUN).exists():
        return None
    return _run(folder).get("vocabulary")


def _evaluated(folder, state):
    """The arrays of the model, as they were evaluated where training was at
    others."""
    found = [a for name, a in state.items() if name.startswith("evaluation/")]
    if found:
        return found
    rules = [_run(folder).get(name) for name in ("optimizer", "fallback")]
    for name, optimizer in optimizers.BY_NAME.items():
        if name in rules and optimizer.rule_class.has_evaluation_point():
            raise ValueError(
                f"{folder}: its checkpoint lacks the averages that {name} is "
                "evaluated at, as an older lbcheck wrote it; train it again."
            )
    return [a for name, a in state.items() if name.startswith("model/")]


def _run(folder):
    return schema.read(pathlib.Path(folder, _RUN), _Run).get("settings", {})


def _settings(folder):
    run = _run(folder)
    for name in ("bert_config", "encoder"):  # of bert.pretrain, bert.squad
        if isinstance(run.get(name), dict):
            return models.checked(run[name], f"{folder}/run.json")
    return {}


def _paths(folder, weights):
    """The path of each weight; None of one that is not trained.

    The rows of the table begin with path and shape and are of the trained
    ones alone, in the order of the weights.
    """
    file = pathlib.Path(folder, "selection.txt")
    table = schema.read_bytes(file).decode("utf-8", "replace")
    rows = table.partition("\n\n")[0].splitlines()[1:]
    rows = [(re.split(" {2,}", row) + [""])[:2] for row in rows][::-1]
    paths = []
    for array in weights:
        shape = "x".join(map(str, array.shape)) or "scalar"
        trained = bool(rows) and rows[-1][1] == shape
        paths.append(rows.pop()[0] if trained else None)
    if rows:
        raise ValueError(
            f"{file} lists other variables than the checkpoint holds."
        )
    return paths


def _ending(tail, paths):
    found = (p for p in paths if f"/{p}".endswith(f"/{tail}"))
    return next(found, None)
