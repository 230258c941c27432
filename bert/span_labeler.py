"""The model that answers questions: Model Garden's span labeler.

    loss = (cross-entropy of the start + cross-entropy of the end) / 2

over all positions of a window, averaged over windows. The two are stacked
to one output, logits (batch, 2, length), labels (batch, 2), which makes it a
plain tf_keras model with a plain loss.
"""

import numpy as np
import tensorflow as tf
import tf_keras
import tqdm
from official.nlp.modeling import models as garden

from bert import checkpoints
from bert import models


def build(settings: dict):
    """A new model.

    Args:
        settings: What `bert.models.config` returned.

    Returns:
        An uncompiled tf_keras model: {"input_word_ids", "input_mask",
        "input_type_ids"} (batch, length) to logits (batch, 2, length).

    Example: `build(models.config("tiny"))`

    Source: Devlin et al. 2018, Section 4.2.
    """
    encoder = models.encoder(settings)
    encoder.pooler_layer.trainable = False  # no answer comes from it
    labeler = garden.BertSpanLabeler(
        encoder,
        initializer=tf_keras.initializers.TruncatedNormal(
            stddev=settings["initializer_range"]
        ),
    )
    logits = tf_keras.layers.Lambda(_stack, name="logits", dtype=tf.float32)
    return tf_keras.Model(
        encoder.inputs, logits(labeler.outputs), name="span_labeler"
    )


def start(model, checkpoint: checkpoints.Checkpoint) -> checkpoints.Loaded:
    """Sets the encoder to what `bert.checkpoints.read` read.

    Raises:
        ValueError: It is of another architecture; names what differs.
    """
    return checkpoints.load_initial(model.get_layer("encoder"), checkpoint)


def _stack(outputs):
    return tf.stack([tf.cast(x, tf.float32) for x in outputs], axis=1)


def loss():
    """The loss for `compile`."""
    return tf_keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, name="span"
    )


def metrics() -> list:
    """For `compile`: the part of windows with both ends right."""
    return [tf_keras.metrics.MeanMetricWrapper(_right, name="span_accuracy")]


def _right(labels, logits):
    found = tf.argmax(logits, axis=-1, output_type=tf.int32)
    right = tf.reduce_all(tf.cast(labels, tf.int32) == found, axis=-1)
    return tf.cast(right, tf.float32)


def predict(model, features, batch_size: int, progress: bool = False):
    """The logits of all windows.

    Args:
        model: What `build` returned.
        features: `bert.squad_data.Features`.
        batch_size: Windows at once, at least 1.
        progress: Show a bar on a terminal.

    Returns:
        (start_logits, end_logits), float32 (windows, max_seq_length) each.
    """
    length = features.max_seq_length
    signature = {
        name: tf.TensorSpec((None, length), tf.int32) for name in model.input
    }
    run = tf.function(
        lambda inputs: model(inputs, training=False),
        input_signature=[signature],
    )
    logits = np.empty((2, len(features), length), np.float32)
    bar = tqdm.tqdm(
        total=len(features), unit=" windows", disable=None if progress else True
    )
    with bar:
        for first in range(0, len(features), batch_size):
            part = slice(first, min(first + batch_size, len(features)))
            found = run(features.inputs(part)).numpy()
            logits[:, part] = found.swapaxes(0, 1)
            bar.update(len(found))
    return logits[0], logits[1]
