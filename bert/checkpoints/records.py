"""The folder of a run of this project, as a checkpoint of BERT.

The arrays of a run's checkpoints have numbers; selection.txt says which
variable is which.
"""

import json
import pathlib
import re

from bert.checkpoints import variables
from lbcheck.training import checkpoints


def read(folder: str):
    """Arrays, other names, settings, note; see `reading.Checkpoint`."""
    found = checkpoints.of(folder).newest()
    if found is None:
        raise ValueError(f"{folder} holds no whole checkpoint of a run.")
    step, state = found
    weights = [a for name, a in state.items() if name.startswith("model/")]
    named = dict(zip(_paths(folder, weights), weights))
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
    status = json.loads((pathlib.Path(folder) / "status.json").read_text())
    note = f"after {step} updates, {status['status']}"
    return arrays, tuple(named), settings, note


def _settings(folder):
    run = json.loads((pathlib.Path(folder) / "run.json").read_text())
    settings = run["settings"].get("bert_config")
    return settings if isinstance(settings, dict) else {}


def _paths(folder, weights):
    """The paths of the trained weights, which come first.

    The rows of the table begin with path and shape.
    """
    table = (pathlib.Path(folder) / "selection.txt").read_text()
    rows = table.partition("\n\n")[0].splitlines()[1:]
    cells = [re.split(" {2,}", row)[:2] for row in rows]
    shapes = ["x".join(map(str, a.shape)) or "scalar" for a in weights]
    if [shape for _, shape in cells] != shapes[: len(cells)]:
        raise ValueError(
            f"{folder}: selection.txt lists other variables than the "
            "checkpoint holds."
        )
    return [path for path, _ in cells]


def _ending(tail, paths):
    found = (p for p in paths if f"/{p}".endswith(f"/{tail}"))
    return next(found, None)
