"""TensorFlow checkpoints of BERT: Google's by name, Model Garden's by object.

Google's hold each variable under its name. Model Garden's hold the graph of
the objects that were saved; the way to a variable is the attributes of
places in variables.py, from wherever the encoder and the heads are.
"""

import contextlib
import glob
import json
import os
import re

import numpy as np

from bert import models
from bert.checkpoints import variables
from lbcheck.support import errors

_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
_NAME = "bert_model.ckpt"
_CONFIG = "bert_config.json"
_FLOATS = ("float64", "float32", "float16", "bfloat16")
"""Other types hold numbers, or weights that were quantized."""
_OF_TRAINING = ("adam_m", "adam_v", "global_step", "lamb_m", "lamb_v")


def prefix(path: str) -> str | None:
    """What TensorFlow calls the checkpoint at `path`, if there is one.

    Where a folder holds several, it is the one that the folder's file
    `checkpoint` names; that may not name one elsewhere.

    Raises:
        ValueError: A folder holds several, and no such file.
    """
    path = re.sub(r"\.(index|meta|data-\d{5}-of-\d{5})$", "", path)
    if os.path.isfile(f"{path}.index"):
        return path
    found = sorted(glob.glob(os.path.join(glob.escape(path), "*.index")))
    if len(found) > 1:
        import tensorflow as tf

        with contextlib.suppress(ValueError):  # such as of bytes, not text
            state = tf.train.get_checkpoint_state(path)
            if state and f"{state.model_checkpoint_path}.index" in found:
                return state.model_checkpoint_path
        names = ", ".join(os.path.basename(f) for f in found)
        raise ValueError(
            f"{path} holds {len(found)} checkpoints: {names}; give one of "
            f"them, such as {found[-1].removesuffix('.index')}."
        )
    return found[0].removesuffix(".index") if found else None


def read(prefix: str):
    """Format, arrays, other names, settings; see `reading.Checkpoint`."""
    import tensorflow as tf
    from google.protobuf import message

    damaged = (
        tf.errors.OpError,
        message.DecodeError,
        IndexError,
        RuntimeError,
        TypeError,
        UnicodeDecodeError,
    )
    try:
        reader = tf.train.load_checkpoint(prefix)
        if reader.has_tensor(_GRAPH):
            return ("garden", *_garden(reader, prefix))
        return ("google", *_google(reader, prefix))
    except damaged as error:
        raise ValueError(
            f"{prefix}: cannot be read: {errors.brief(error)}"
        ) from error


def _google(reader, prefix):
    names = reader.get_variable_to_shape_map()
    places = variables.places(variables.num_layers(names))
    arrays = {n: _array(reader, prefix, n, n) for n in places if n in names}
    if variables.WORDS not in arrays:
        raise ValueError(
            f"{prefix}: holds no {variables.WORDS}, but {_some(names)}."
        )
    others = [
        name
        for name in names
        if name not in places and not name.endswith(_OF_TRAINING)
    ]
    return arrays, tuple(sorted(others)), _settings(prefix)


def _settings(prefix):
    beside = os.path.join(os.path.dirname(prefix), _CONFIG)
    return models.config(beside) if os.path.exists(beside) else {}


def _garden(reader, prefix):
    graph = _Graph(reader.get_tensor(_GRAPH))
    roots = _roots(graph)
    if "encoder" not in roots:
        raise ValueError(
            f"{prefix}: holds no BERT encoder of Model Garden, but "
            f"{_some(graph.children(0))}."
        )
    layers = graph.children(graph.find("_transformer_layers", roots["encoder"]))
    arrays = {}
    heads = None
    for name, at in variables.places(len(layers)).items():
        keys = (graph.key(p.attributes, roots.get(p.root)) for p in at)
        key = next(filter(None, keys), None)
        if key:
            array = _array(reader, prefix, key, name)
            if name.endswith("/attention/self/query/bias"):
                heads = array.shape[0]
            arrays[name] = variables.to_google(name, array)
    return arrays, (), {"num_attention_heads": heads, **_settings(prefix)}


def _roots(graph):
    """{root of a place: its node}, wherever the model was in the checkpoint."""
    found = {}

    def note(root, node, holds):
        if graph.find(holds, node) is not None:
            found.setdefault(root, node)

    note("pooler", graph.find("next_sentence.pooler_dense", 0), "kernel")
    for top in (0, graph.find("model", 0)):
        for name in ("encoder", "encoder_network", "_network"):
            note("encoder", graph.find(name, top), "_embedding_layer")
        note("encoder", top, "_embedding_layer")
        note("masked_lm", graph.find("masked_lm", top), "bias")
        note("next_sentence", graph.find("next_sentence", top), "kernel")
        heads = graph.children(graph.find("classification_heads", top))
        for head in heads.values():
            # Heads have no names there, but this one's pooler has.
            if graph.find("dense", head) == found.get("pooler", 0):
                note("next_sentence", head, "out_proj")
    return found


class _Graph:
    """The objects of a checkpoint; 0 is the node of the outermost one."""

    def __init__(self, serialized):
        from tensorflow.core.protobuf import trackable_object_graph_pb2

        graph = trackable_object_graph_pb2.TrackableObjectGraph()
        self._nodes = graph.FromString(serialized).nodes

    def children(self, node):
        """{attribute: node} of a node; {} of None."""
        if node is None:
            return {}
        return {c.local_name: c.node_id for c in self._nodes[node].children}

    def find(self, path, node):
        """The node at the end of `path`, or None."""
        for name in path.split("/"):
            node = self.children(node).get(name)
        return node

    def key(self, path, node):
        """Under what name the checkpoint holds a variable, or None."""
        node = self.find(path, node)
        if node is None:
            return None
        attributes = self._nodes[node].attributes
        return attributes[0].checkpoint_key if attributes else None


def _array(reader, prefix, key, name):
    """What the checkpoint holds under `key`; `name` is Google's for it."""
    array = reader.get_tensor(key)
    kind = reader.get_variable_to_dtype_map()[key].name
    if kind not in _FLOATS:
        raise ValueError(
            f"{prefix}: {name} is of {kind}, expected one of "
            f"{', '.join(_FLOATS)}."
        )
    return np.asarray(array, np.float32)


def _some(names):
    return ", ".join(sorted(names)[:3]) + ", ..."


def write_google(folder: str, arrays: dict, settings: dict) -> None:
    """Writes bert_model.ckpt and bert_config.json.

    Args:
        folder: Where to; it is there.
        arrays: {Google's name: array}.
        settings: A `bert.models.config`.
    """
    import tensorflow as tf

    tf.raw_ops.SaveV2(
        prefix=os.path.join(folder, _NAME),
        tensor_names=list(arrays),
        shape_and_slices=[""] * len(arrays),
        tensors=[tf.constant(array) for array in arrays.values()],
    )
    _write_config(folder, settings)


def write_garden(folder: str, arrays: dict, settings: dict) -> None:
    """Writes bert_model.ckpt of a `BertPretrainerV2`, or of an encoder.

    Arguments are those of `write_google`.

    Raises:
        ValueError: There is no pooler, and one of random numbers would be
            taken for trained.
    """
    import tensorflow as tf
    from official.nlp.modeling import layers
    from official.nlp.modeling import models as garden

    encoder = model = models.encoder(settings)
    items = {"encoder": encoder}
    parts = {variables.part(name) for name in arrays}
    if "pooler" not in parts:
        raise ValueError(
            "format=garden has a pooler, and the weights to write have none, "
            "as after fine-tuning on SQuAD; google and huggingface do without."
        )
    if "masked-LM head" in parts:
        heads = []
        if "next-sentence head" in parts:
            heads.append(
                layers.ClassificationHead(
                    settings["hidden_size"], 2, name="next_sentence"
                )
            )
        model = garden.BertPretrainerV2(
            encoder,
            mlm_activation=models.activation(settings),
            classification_heads=heads,
        )
        model(model.inputs)
        items |= {"model": model, **model.checkpoint_items}
    variables.assign(variables.of(model), arrays)
    tf.train.Checkpoint(**items).write(os.path.join(folder, _NAME))
    _write_config(folder, settings)


def _write_config(folder, settings):
    with open(os.path.join(folder, _CONFIG), "w", encoding="utf-8") as file:
        json.dump(settings, file, indent=2)
        file.write("\n")
