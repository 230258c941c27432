"""BERT as Hugging Face stores it: model.safetensors and config.json."""

import json
import os
import shutil
from typing import TypedDict

import numpy as np

from bert import models
from bert.checkpoints import variables
from lbcheck.support import errors
from lbcheck.support import schema

_FILE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_CONFIG = "config.json"
_TIED = "cls.predictions.decoder.weight"
_IMPLIED = ("embeddings.position_ids", "cls.predictions.decoder.bias", _TIED)
"""What follows from other tensors."""

_RENAMED = {
    "cls/predictions/output_bias": "cls.predictions.bias",
    "cls/seq_relationship/output_weights": "cls.seq_relationship.weight",
    "cls/seq_relationship/output_bias": "cls.seq_relationship.bias",
}
_ACTIVATIONS = {"gelu": "gelu_new", "gelu_erf": "gelu"}
"""{hidden_act of `bert.models`: of Hugging Face}."""

_LARGEST = 2**33
"""Bytes of weights; BERT-Large has 2**30."""

_FLOATS = ("F64", "F32", "F16", "BF16")
"""Other types hold numbers, or weights that were quantized."""

_LEAVES = {"kernel": "weight", "gamma": "weight", "beta": "bias"}


class _Index(TypedDict):
    weight_map: dict[str, str]


def tensor_name(name: str) -> str:
    """Hugging Face's name, without "bert.", of what Google calls `name`.

    >>> tensor_name("bert/encoder/layer_1/output/LayerNorm/gamma")
    'encoder.layer.1.output.LayerNorm.weight'
    """
    if name in _RENAMED:
        return _RENAMED[name]
    name = name.removeprefix("bert/").replace("/layer_", "/layer/")
    *path, leaf = name.split("/")
    if leaf.endswith("_embeddings"):
        return ".".join([*path, leaf, "weight"])
    return ".".join([*path, _LEAVES.get(leaf, leaf)])


def is_here(path: str) -> bool:
    """Whether `path` is such a file or a folder with one."""
    if path.endswith(".safetensors"):
        return os.path.isfile(path)
    names = (_FILE, _INDEX)
    return any(os.path.isfile(os.path.join(path, name)) for name in names)


def read(path: str):
    """Arrays, other names, settings; see `reading.Checkpoint`."""
    folder = os.path.dirname(path) if os.path.isfile(path) else path
    tensors = {}
    paths = _files(path)
    size = sum(map(os.path.getsize, paths))
    if size > _LARGEST:
        raise ValueError(
            f"{paths[0]}: {size:,} bytes of weights, expected at most "
            f"{_LARGEST:,}."
        )
    for file in paths:
        tensors |= _read_file(file)
    places = variables.places(variables.num_layers(tensors))
    arrays = {}
    for name in places:
        array = tensors.pop(tensor_name(name), None)
        if array is not None:
            arrays[name] = array.T if name.endswith("/kernel") else array
    if variables.WORDS not in arrays:
        raise ValueError(
            f"{path}: holds no {tensor_name(variables.WORDS)}, but "
            f"{', '.join(map(schema.shown, sorted(tensors)[:3]))}, ..."
        )
    tied = tensors.get(_TIED)
    if tied is not None and not np.array_equal(tied, arrays[variables.WORDS]):
        raise ValueError(
            f"{path}: {_TIED} differs from the word embeddings, with which "
            "BERT's masked-LM head shares it."
        )
    others = tuple(sorted(tensors.keys() - set(_IMPLIED)))
    config = os.path.join(folder, _CONFIG)
    settings = models.config(config) if os.path.exists(config) else {}
    return arrays, others, settings


def write(folder: str, arrays: dict, settings: dict) -> None:
    """Writes both files.

    Args:
        folder: Where to; it is there.
        arrays: {Google's name: array}.
        settings: A `bert.models.config`.
    """
    import safetensors.numpy

    heads = any(name.startswith("cls/") for name in arrays)
    tensors = {}
    for name, array in arrays.items():
        prefix = "bert." if heads and name.startswith("bert/") else ""
        array = array.T if name.endswith("/kernel") else array
        tensors[prefix + tensor_name(name)] = np.ascontiguousarray(array)
    architecture = "BertForPreTraining" if heads else "BertModel"
    activation = settings["hidden_act"]
    config = settings | {
        "architectures": [architecture],
        "hidden_act": _ACTIVATIONS.get(activation, activation),
        "layer_norm_eps": 1e-12,
        "model_type": "bert",
    }
    path = os.path.join(folder, _CONFIG)
    with open(path, "w", encoding="utf-8") as file:
        json.dump(config, file, indent=2, sort_keys=True)
        file.write("\n")
    whole = os.path.join(folder, _FILE)
    safetensors.numpy.save_file(tensors, whole, metadata={"format": "pt"})
    shutil.copymode(path, whole)  # it is its owner's alone


def _files(path):
    if os.path.isfile(path):
        return [path]
    whole = os.path.join(path, _FILE)
    if os.path.isfile(whole):
        return [whole]
    index = os.path.join(path, _INDEX)
    names = set(schema.read(index, _Index)["weight_map"].values())
    if not names:
        raise ValueError(f"{index}: its weight_map names no files.")
    for name in names:
        if os.path.basename(name) != name or name in ("", ".", ".."):
            raise ValueError(
                f"{index}: expected names of files in the same folder, "
                f"received {schema.shown(name)}."
            )
        if not os.path.isfile(os.path.join(path, name)):
            raise ValueError(
                f"{index}: there is no {schema.shown(name)} in the same folder."
            )
    return [os.path.join(path, name) for name in sorted(names)]


def _read_file(path):
    """{name without "bert." and in its newer form: float32 array}."""
    import ml_dtypes  # noqa: F401, by which NumPy knows bfloat16
    import safetensors

    found = {}
    try:
        with safetensors.safe_open(path, "np") as file:
            for name in file.keys():
                if not name.isprintable():
                    raise ValueError(
                        f"{path}: {schema.shown(name)} is not a tensor's name."
                    )
                newer = (
                    name.removeprefix("bert.")
                    .replace("LayerNorm.gamma", "LayerNorm.weight")
                    .replace("LayerNorm.beta", "LayerNorm.bias")
                )
                kind = file.get_slice(name).get_dtype()
                if kind not in _FLOATS:
                    if newer not in _IMPLIED:
                        raise ValueError(
                            f"{path}: {schema.shown(name)} is of {kind}, "
                            f"expected one of {', '.join(_FLOATS)}."
                        )
                    continue
                found[newer] = np.asarray(file.get_tensor(name), np.float32)
    except safetensors.SafetensorError as error:
        raise ValueError(
            f"{path}: cannot be read: {errors.brief(error)}"
        ) from error
    return found
