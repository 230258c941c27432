"""BERT's variables: Google's names for them, and where Model Garden has them.

The names and shapes of Google's checkpoints are what all formats are turned
into: kernels are (in, out) with the heads of attention flattened, only the
next-sentence kernel is (out, in). Model Garden's models are walked by their
attributes, which are the edges of its checkpoints' object graphs too.
"""

import math
import re
from typing import NamedTuple

import numpy as np


class Place(NamedTuple):
    """Where Model Garden has a variable.

    Attributes:
        root: "encoder", "masked_lm", "next_sentence" or "pooler", the one
            that Model Garden's next-sentence head brings along.
        attributes: Path from there, such as "_pooler_layer/kernel".
        tail: End of the variable's own name, "pooler_transform/kernel".
    """

    root: str
    attributes: str
    tail: str


_DENSE = ("kernel", "bias")
_NORM = ("gamma", "beta")

_EMBEDDINGS = {
    "word_embeddings": ("_embedding_layer/embeddings", "word_embeddings"),
    "token_type_embeddings": (
        "_type_embedding_layer/embeddings",
        "type_embeddings",
    ),
    "position_embeddings": (
        "_position_embedding_layer/_position_embeddings",
        "position_embedding",
    ),
}
"""{Google's name: (attributes, layer)}."""

_LAYER = (
    ("attention/self/query", "_attention_layer/_query_dense", _DENSE),
    ("attention/self/key", "_attention_layer/_key_dense", _DENSE),
    ("attention/self/value", "_attention_layer/_value_dense", _DENSE),
    ("attention/output/dense", "_attention_layer/_output_dense", _DENSE),
    ("attention/output/LayerNorm", "_attention_layer_norm", _NORM),
    ("intermediate/dense", "_intermediate_dense", _DENSE),
    ("output/dense", "_output_dense", _DENSE),
    ("output/LayerNorm", "_output_layer_norm", _NORM),
)
"""(Google's name, attributes, leaves) inside a transformer layer."""

_TAILS = (
    ("attention/self", "self_attention"),
    ("attention/output/dense", "self_attention/attention_output"),
    ("attention/output/LayerNorm", "self_attention_layer_norm"),
    ("intermediate/dense", "intermediate"),
    ("output/dense", "output"),
    ("output/LayerNorm", "output_layer_norm"),
)
"""(how Google's name begins, Model Garden's layer) inside of it."""

WORDS = "bert/embeddings/word_embeddings"
POSITIONS = "bert/embeddings/position_embeddings"
_NEXT_SENTENCE_KERNEL = "cls/seq_relationship/output_weights"

PARTS = {
    "encoder": r"bert/(embeddings|encoder)/",
    "pooler": r"bert/pooler/",
    "masked-LM head": r"cls/predictions/",
    "next-sentence head": r"cls/seq_relationship/",
}
"""{part of the model: pattern of Google's names}."""


def places(num_layers: int) -> dict[str, tuple[Place, ...]]:
    """{Google's name: its places} of BERT with both heads.

    Model Garden's pretrainer trains the pooler of its next-sentence head, not
    the encoder's, so that one comes first; `bert.pretrainer` has the original's
    head, on the encoder's.

    Args:
        num_layers: Transformer layers, >= 1.

    Example:
        >>> places(2)["bert/pooler/dense/bias"][1].attributes
        '_pooler_layer/bias'
    """
    found = {}

    def add(name, *at, leaves):
        for leaf in leaves:
            found[f"{name}/{leaf}"] = tuple(
                Place(root, attributes + leaf, f"{tail}/{leaf}")
                for root, attributes, tail in at
            )

    for name, (attributes, layer) in _EMBEDDINGS.items():
        found[f"bert/embeddings/{name}"] = (
            Place("encoder", attributes, f"{layer}/embeddings"),
        )
    norm = ("encoder", "_embedding_norm_layer/", "embeddings/layer_norm")
    add("bert/embeddings/LayerNorm", norm, leaves=_NORM)
    for i in range(num_layers):
        for name, attributes, leaves in _LAYER:
            tail = next(
                name.replace(start, theirs)
                for start, theirs in _TAILS
                if name.startswith(start)
            )
            at = (
                "encoder",
                f"_transformer_layers/{i}/{attributes}/",
                f"transformer/layer_{i}/{tail}",
            )
            add(f"bert/encoder/layer_{i}/{name}", at, leaves=leaves)
    add(
        "bert/pooler/dense",
        ("pooler", "", "next_sentence/pooler_dense"),
        ("encoder", "_pooler_layer/", "pooler_transform"),
        leaves=_DENSE,
    )
    head = "cls/predictions/transform"
    for layer, attribute, leaves in (
        ("dense", "dense/", _DENSE),
        ("LayerNorm", "layer_norm/", _NORM),
    ):
        at = ("masked_lm", attribute, f"{head}/{layer}")
        add(f"{head}/{layer}", at, leaves=leaves)
    bias = "cls/predictions/output_bias"
    found[bias] = (Place("masked_lm", "bias", f"{bias}/bias"),)
    for name, leaf in (
        (_NEXT_SENTENCE_KERNEL, "kernel"),
        ("cls/seq_relationship/output_bias", "bias"),
    ):
        found[name] = tuple(
            Place("next_sentence", attributes + leaf, f"next_sentence/{tail}")
            for attributes, tail in (
                ("out_proj/", f"logits/{leaf}"),
                ("", leaf),
            )
        )
    return found


def part(name: str) -> str | None:
    """Which of `PARTS` a variable with Google's name is in, if any."""
    found = (p for p, names in PARTS.items() if re.match(names, name))
    return next(found, None)


def num_layers(names) -> int:
    """Transformer layers that appear in names of any format.

    A number beyond the count of names is none of a layer.
    """
    names = list(names)
    found = (re.search(r"\blayer[_.](\d{1,6})[/.]", name) for name in names)
    counts = (int(match[1]) + 1 for match in found if match)
    return max((n for n in counts if n <= len(names)), default=0)


def google_shape(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape in Google's checkpoints of what Model Garden gives `shape`.

    >>> google_shape("bert/encoder/layer_0/attention/self/key/bias", (2, 64))
    (128,)
    """
    if name == _NEXT_SENTENCE_KERNEL:
        return shape[::-1]
    if "/attention/self/" in name:
        flat = 0 if name.endswith("bias") else 1
        return (*shape[:flat], math.prod(shape[flat:]))
    if name.endswith("/attention/output/dense/kernel"):
        return (math.prod(shape[:-1]), shape[-1])
    return tuple(shape)


def to_google(name: str, array: np.ndarray) -> np.ndarray:
    """Model Garden's array in Google's shape."""
    shape = google_shape(name, array.shape)
    if name == _NEXT_SENTENCE_KERNEL:
        array = array.T
    return array.reshape(shape)


def encoder(model):
    """The encoder of a model, or the model if it is one.

    Raises:
        TypeError: If there is no BERT encoder of Model Garden in it.
    """
    items = getattr(model, "checkpoint_items", {})
    for found in (model, getattr(model, "encoder", None), items.get("encoder")):
        if hasattr(found, "transformer_layers"):
            return found
    raise TypeError(
        "Expected a BERT encoder of Model Garden, or a model with one as its "
        f"encoder or its checkpoint_items['encoder']; received {model!r}."
    )


def of(model) -> dict[str, list]:
    """{Google's name: its variables} of a model.

    Args:
        model: See `load_initial`.

    Raises:
        TypeError: If there is no BERT encoder of Model Garden in it.
        ValueError: If its variables are not made yet.
    """
    head = _next_sentence(model)
    roots = {
        "encoder": encoder(model),
        "masked_lm": getattr(model, "masked_lm", None),
        "next_sentence": head,
        "pooler": getattr(head, "dense", None),
    }
    roots = {name: root for name, root in roots.items() if root is not None}
    for root in roots.values():
        if not root.built:
            raise ValueError(f"{root.name} has no variables yet; call it.")
    found = {}
    for name, at in places(len(roots["encoder"].transformer_layers)).items():
        found[name] = [
            variable
            for place in at
            if place.root in roots
            and (variable := _walk(roots[place.root], place)) is not None
        ]
    return {name: variables for name, variables in found.items() if variables}


def _next_sentence(model):
    """The head of `bert.pretrainer`, or of Model Garden's pretrainer."""
    heads = getattr(model, "classification_heads", ())
    named = (head for head in heads if head.name == "next_sentence")
    return getattr(model, "next_sentence", next(named, None))


def _walk(item, place):
    for attribute in place.attributes.split("/"):
        if attribute.isdecimal():
            item = item[int(attribute)]
        else:
            item = getattr(item, attribute, None)
    return item


def assign(targets: dict[str, list], arrays: dict[str, np.ndarray]) -> None:
    """Assigns Google's arrays to what `of` gave, all that are in both."""
    for name in targets.keys() & arrays.keys():
        array = arrays[name]
        if name == _NEXT_SENTENCE_KERNEL:
            array = array.T
        for variable in targets[name]:
            variable.assign(array.reshape(tuple(variable.shape)))
