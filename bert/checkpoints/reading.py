"""`read`: what a checkpoint holds, whoever wrote it."""

import os
from typing import NamedTuple

import numpy as np


class Checkpoint(NamedTuple):
    """What a checkpoint holds.

    Attributes:
        path: Where it lies.
        format: "google", "garden", "huggingface" or "record".
        arrays: {Google's name: float32 array in Google's shape}; see
            variables.py.
        others: Names of what else it holds, as it calls them.
        settings: Those keys of a `bert.models.config` that are known: all
            where a configuration lies beside it, else what shapes tell.
    """

    path: str
    format: str
    arrays: dict[str, np.ndarray]
    others: tuple[str, ...]
    settings: dict


def read(path) -> Checkpoint:
    """Reads a checkpoint into memory; the files say what format it is.

    Args:
        path: One of
            - a folder with `model.safetensors` and `config.json`, or such a
              file, as of Hugging Face;
            - a TensorFlow checkpoint, `bert_model.ckpt` (the files are
              `bert_model.ckpt.index` and so on), or a folder with one:
              Google's, or Model Garden's of an encoder or a pretrainer;
            - the folder of a run of this project: its newest state.

    Returns:
        A `Checkpoint`.

    Raises:
        ValueError: It is none of these, damaged, or holds no BERT.

    Example: `read("uncased_L-2_H-128_A-2/bert_model.ckpt").arrays`
    """
    path = os.fspath(path)
    raise NotImplementedError(path)
