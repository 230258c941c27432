"""`read`: what a checkpoint holds, whoever wrote it."""

import glob
import os
from typing import NamedTuple

import numpy as np

from bert.checkpoints import huggingface
from bert.checkpoints import records
from bert.checkpoints import tensorflow_files

_RUN = "flags.txt"
"""What a run's folder holds."""

_FOREIGN = {
    ".bin": "PyTorch",
    ".pt": "PyTorch",
    ".pth": "PyTorch",
    ".h5": "Keras",
    ".keras": "Keras",
    ".msgpack": "Flax",
}
"""{ending: whose weights}; some of them are programs that run when read."""

_EXPECTED = (
    "expected a folder with model.safetensors, a TensorFlow checkpoint such "
    "as bert_model.ckpt (the files are bert_model.ckpt.index and so on) or a "
    "folder with one, or the folder of a run."
)


class Checkpoint(NamedTuple):
    """What a checkpoint holds.

    Attributes:
        path: Where it lies.
        format: "google", "garden", "huggingface" or "record".
        arrays: {Google's name: float32 array in Google's shape}; see
            variables.py.
        others: Names of what else it holds, as it calls them.
        settings: What is known of a `bert.models.config`: all of it where a
            configuration is in the same folder, else what the shapes imply.
        note: What else to say of it; how far a run was.
        vocabulary: What tells that of a run from any other, {"tokens",
            "sha256"}; None where it is not known.
    """

    path: str
    format: str
    arrays: dict[str, np.ndarray]
    others: tuple[str, ...]
    settings: dict
    note: str = ""
    vocabulary: dict | None = None


def read(path: str | os.PathLike) -> Checkpoint:
    """Reads a checkpoint into memory; the files say what format it is.

    Args:
        path: One of
            - a folder with model.safetensors and config.json, or such a
              file, as of Hugging Face;
            - a TensorFlow checkpoint, "bert_model.ckpt", or a folder with
              one: Google's, or Model Garden's of an encoder or pretrainer;
            - the folder of a run of this project: its newest state.

    Returns:
        A `Checkpoint`.

    Raises:
        ValueError: It is none of these, damaged, or holds no BERT.

    Example: `read("uncased_L-2_H-128_A-2/bert_model.ckpt").arrays`
    """
    path = os.fspath(path)
    if os.path.isfile(os.path.join(path, _RUN)):
        return Checkpoint(path, "record", *records.read(path))
    if huggingface.is_here(path):
        return Checkpoint(path, "huggingface", *huggingface.read(path))
    prefix = tensorflow_files.prefix(path)
    if prefix:
        return Checkpoint(prefix, *tensorflow_files.read(prefix))
    weights = next(filter(os.path.isfile, _foreign(path)), None)
    if weights:
        raise ValueError(
            f"{weights} is read by {_FOREIGN[os.path.splitext(weights)[1]]} "
            "alone; `save_pretrained` of transformers writes a folder with "
            "model.safetensors, which is read here."
        )
    runs = glob.glob(os.path.join(glob.escape(path), "*", _RUN))
    if runs:
        inside = ", ".join(sorted(map(os.path.dirname, runs)))
        raise ValueError(f"{path} holds several runs; give one of {inside}.")
    there = "holds none" if os.path.isdir(path) else "is none"
    raise ValueError(f"{path} {there}: {_EXPECTED}")


def check_vocabulary(
    checkpoint: Checkpoint, vocabulary: dict | None, origin: str
) -> None:
    """Refuses a vocabulary whose numbers mean other tokens than the weights'.

    Args:
        checkpoint: What `read` returned; only a run says which it is of.
        vocabulary: As a `tokenization.Tokenizer` says it; None: not known.
        origin: What has it, for messages.

    Raises:
        ValueError: It is another one than that of the run.
    """
    known = None not in (checkpoint.vocabulary, vocabulary)
    if known and vocabulary != checkpoint.vocabulary:
        raise ValueError(
            f"{origin}: another vocabulary than that of {checkpoint.path}, "
            "whose weights know tokens by their numbers."
        )


def _foreign(path):
    """Files of `_FOREIGN` that `path` may be, or hold."""
    if os.path.splitext(path)[1] in _FOREIGN:
        return [path]
    names = ("pytorch_model.bin", "tf_model.h5", "flax_model.msgpack")
    return [os.path.join(path, name) for name in names]
