"""Masked-LM and next-sentence pretraining as a tf_keras model.

    loss = sum(w nll) / (sum(w) + 1e-5) + mean(next-sentence cross-entropy)

with w the weights of the predictions. The first denominator is that of the
whole update: where the data say what it is (`PER_EXAMPLE`), the gradients of
microbatches and replicas average to that of the undivided batch.
"""

import tensorflow as tf
import tf_keras
from official.nlp.modeling import layers

from bert import models

PER_EXAMPLE = "masked_lm_weight_per_example"
"""Label (batch,): (sum(w) + 1e-5) / examples, of the whole update."""

_EPSILON = 1e-5


def weight_per_example(weights):
    """`PER_EXAMPLE` of a whole update's weights (examples, predictions)."""
    examples = tf.cast(tf.shape(weights)[0], weights.dtype)
    return (tf.reduce_sum(weights) + _EPSILON) / examples


class Pretrainer(tf_keras.Model):
    """An encoder with the heads and the loss of pretraining.

    Inputs are those of the encoder and masked_lm_positions (batch,
    predictions); labels are masked_lm_ids and masked_lm_weights (batch,
    predictions) and next_sentence_labels (batch, 1), as in the records, and
    optionally `PER_EXAMPLE`. The output is a dict of logits: "masked_lm"
    (batch, predictions, vocabulary) and "next_sentence" (batch, 2).

    It is compiled without a loss. The logged losses and accuracies are means
    over predictions, by their weights, and over examples.

    Args:
        settings: What `models.config` returned.

    Attributes:
        encoder: The encoder.
        masked_lm: The masked-LM head, tied to the encoder's embeddings.
        next_sentence: The next-sentence head, on the encoder's pooled output.

    Source: Devlin et al. 2018, Section 3.1; google-research/bert,
    run_pretraining.py, get_masked_lm_output and get_next_sentence_output.
    """

    def __init__(self, settings: dict, name: str = "bert"):
        super().__init__(name=name)

        def initializer():
            return tf_keras.initializers.TruncatedNormal(
                stddev=settings["initializer_range"]
            )

        self._settings = settings
        self.encoder = encoder = models.encoder(settings)
        self.masked_lm = layers.MaskedLM(
            embedding_table=encoder.get_embedding_table(),
            activation=models.activation(settings),
            initializer=initializer(),
            name="cls/predictions",
        )
        self.next_sentence = tf_keras.layers.Dense(
            2, kernel_initializer=initializer(), name="next_sentence"
        )
        self._meters = _Meters()
        some = tf.zeros((1, 2), tf.int32)
        self({name: some for name in (*encoder.inputs, "masked_lm_positions")})

    def get_config(self):
        """The arguments of the constructor."""
        return {"settings": dict(self._settings), "name": self.name}

    @property
    def metrics(self):
        """Those of this model, and what it was compiled with."""
        return [*vars(self._meters).values(), *super().metrics]

    def call(self, inputs):
        """Logits of both heads."""
        encoded = self.encoder(inputs)
        return {
            "masked_lm": self.masked_lm(
                encoded["sequence_output"], inputs["masked_lm_positions"]
            ),
            "next_sentence": self.next_sentence(encoded["pooled_output"]),
        }

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
        """The loss of a microbatch; see the module for its denominator."""
        nll = _cross_entropy(y["masked_lm_ids"], y_pred["masked_lm"])
        sentence = _cross_entropy(
            y["next_sentence_labels"][:, 0], y_pred["next_sentence"]
        )
        weights = _prediction_weights(y, sample_weight)
        if PER_EXAMPLE in y:
            per_example = y[PER_EXAMPLE][0]
        else:
            per_example = weight_per_example(weights)
        masked = tf.reduce_sum(weights * nll, axis=1) / per_example
        loss = tf.reduce_mean(masked) + tf.reduce_mean(sentence)
        self._meters.loss.update_state(loss)
        self._meters.masked_lm_loss.update_state(nll, weights)
        self._meters.next_sentence_loss.update_state(sentence, sample_weight)
        # The optimizer sums over the replicas.
        return loss / tf.distribute.get_strategy().num_replicas_in_sync

    def compute_metrics(self, x, y, y_pred, sample_weight):
        """Updates the accuracies; all metrics by name."""
        self._meters.masked_lm_accuracy.update_state(
            y["masked_lm_ids"],
            y_pred["masked_lm"],
            _prediction_weights(y, sample_weight),
        )
        self._meters.next_sentence_accuracy.update_state(
            y["next_sentence_labels"], y_pred["next_sentence"], sample_weight
        )
        return self.get_metrics_result()


class _Meters:
    """The metrics; in an object of its own, for the model would take those
    that are its attributes for weights."""

    def __init__(self):
        metrics = tf_keras.metrics
        for name in ("loss", "masked_lm_loss", "next_sentence_loss"):
            setattr(self, name, metrics.Mean(name=name))
        for name in ("masked_lm_accuracy", "next_sentence_accuracy"):
            setattr(self, name, metrics.SparseCategoricalAccuracy(name=name))


def _cross_entropy(labels, logits):
    return tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels, tf.cast(logits, tf.float32)
    )


def _prediction_weights(labels, sample_weight):
    weights = labels["masked_lm_weights"]
    return (
        weights if sample_weight is None else weights * sample_weight[:, None]
    )
