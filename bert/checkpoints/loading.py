"""`load_initial`: a model starts from the weights of a checkpoint."""

import os
from typing import NamedTuple

import numpy as np

from bert.checkpoints import reading
from bert.checkpoints import variables


class Loaded(NamedTuple):
    """What `load_initial` did; `str()` of it is a text to print.

    Attributes:
        checkpoint: What was read; its arrays are dropped.
        loaded: Parts of the model that the checkpoint gave.
        fresh: Parts that it lacks; they are as they were.
        unused: What the checkpoint has and the model has not.
    """

    checkpoint: reading.Checkpoint
    loaded: tuple[str, ...]
    fresh: tuple[str, ...]
    unused: tuple[str, ...]

    def __str__(self):
        read = self.checkpoint
        kind = ", ".join(filter(None, (read.format, read.note)))
        lines = [f"Initial weights from {read.path} ({kind}):"]
        for parts, what in (
            (self.loaded, "loaded"),
            (self.fresh, "not in it, so fresh"),
            (self.unused, "in it, not used"),
        ):
            if parts:
                lines.append(f"  {what}: {', '.join(parts)}")
        return "\n".join(lines)


def load_initial(model, path: str | os.PathLike | reading.Checkpoint) -> Loaded:
    """Sets a model's encoder and heads to the weights of a checkpoint.

    The checkpoint must have the whole encoder; a head that it lacks stays
    as it is. Nothing is set where anything does not fit.

    Args:
        model: `bert.models.encoder` or `pretrainer`, Model Garden's
            BertSpanLabeler on such an encoder, or any model with
            `checkpoint_items["encoder"]`; its variables made.
        path: As `bert.checkpoints.read` takes it, or what that returned.

    Returns:
        What was loaded and what not.

    Raises:
        ValueError: The checkpoint cannot be read or does not fit; the
            message names file, variable, and both shapes or settings.

    Example: `print(load_initial(models.pretrainer(settings), "phase_1"))`
    """
    read = isinstance(path, reading.Checkpoint)
    checkpoint = path if read else reading.read(path)
    targets = variables.of(model)
    given = checkpoint.arrays
    _check_settings(model, checkpoint)
    _check_layers(targets, checkpoint)
    loaded, fresh, unused = [], [], []
    for part in variables.PARTS:
        wanted = {n for n in targets if variables.part(n) == part}
        there = {n for n in given if variables.part(n) == part}
        if wanted and (there or part == "encoder"):
            _check_names(wanted - there, checkpoint)
            loaded.append(part)
        elif wanted:
            fresh.append(part)
        elif there:
            unused.append(part)
    targets = {n: v for n, v in targets.items() if n in given}
    _check_shapes(targets, checkpoint)
    _check_finite(targets, checkpoint)
    variables.assign(targets, given)
    return Loaded(
        checkpoint._replace(arrays={}),
        tuple(loaded),
        tuple(fresh),
        (*unused, *checkpoint.others),
    )


def _check_settings(model, checkpoint):
    """What no shape tells: heads and activation."""
    from bert import models

    layer = variables.encoder(model).transformer_layers[0]
    heads = checkpoint.settings.get("num_attention_heads")
    ours = layer.get_config()["num_attention_heads"]
    if heads not in (None, ours):
        raise ValueError(
            f"{checkpoint.path}: num_attention_heads is {heads}, the model "
            f"has {ours}."
        )
    name = checkpoint.settings.get("hidden_act")
    if name and not _same(models.activation(checkpoint.settings), layer):
        raise ValueError(
            f"{checkpoint.path}: hidden_act is {name}, the model has another "
            "activation."
        )


def _same(activation, layer):
    """Whether a layer has this activation: tried, since it has no name."""
    import tensorflow as tf
    import tf_keras

    points = tf.linspace(-3.0, 3.0, 13)
    ours = tf_keras.activations.get(layer.get_config()["inner_activation"])
    return np.allclose(activation(points), ours(points), rtol=0, atol=1e-6)


def _check_layers(targets, checkpoint):
    theirs = variables.num_layers(checkpoint.arrays)
    ours = variables.num_layers(targets)
    if theirs != ours:
        raise ValueError(
            f"{checkpoint.path}: {theirs} transformer layers, the model has "
            f"{ours}."
        )


def _check_names(missing, checkpoint):
    if missing:
        raise ValueError(
            f"{checkpoint.path}: {min(missing)} is missing ({len(missing)} "
            "variables in all)."
        )


def _check_finite(names, checkpoint):
    for name in sorted(names):
        array = checkpoint.arrays[name]
        count = np.count_nonzero(~np.isfinite(array))
        if count:
            raise ValueError(
                f"{checkpoint.path}: {count:,} of the {array.size:,} numbers "
                f"of {name} are not finite."
            )


def _check_shapes(targets, checkpoint):
    for name, (variable, *_) in targets.items():
        theirs = checkpoint.arrays[name].shape
        ours = variables.google_shape(name, tuple(variable.shape))
        if theirs == ours:
            continue
        message = (
            f"{checkpoint.path}: {name} has shape {theirs}, in the model it "
            f"is {ours}"
        )
        if name == variables.POSITIONS and theirs[1:] == ours[1:]:
            message += (
                f": {theirs[0]} positions, max_position_embeddings={ours[0]}"
            )
        if name == variables.WORDS and theirs[1:] == ours[1:]:
            message += f": {theirs[0]} tokens, vocab_size={ours[0]}"
        raise ValueError(f"{message}.")
