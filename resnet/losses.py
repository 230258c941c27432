"""Cross-entropy of logits and integer labels, with label smoothing."""

import functools


def cross_entropy(keras, label_smoothing=0.0):
    """Loss of logits (batch, K) against integer labels (batch,).

    The target is onehot * (1 - tau) + tau / K with tau = `label_smoothing`;
    the loss is the mean over the batch, weighted by `sample_weight`.

    Args:
        keras: The module `keras` or `tf_keras`.
        label_smoothing: tau, in [0, 1).

    Returns:
        A loss of that Keras for `model.compile(loss=...)`.

    Raises:
        ValueError: If `label_smoothing` is out of range.

    Example: `cross_entropy(tf_keras, 0.1)([3], [[0.0, 1.0, 0.0, 2.0]])`

    Source: Szegedy et al. 2016, "Rethinking the Inception architecture",
    section 7.
    """
    if not 0 <= label_smoothing < 1:
        raise ValueError(
            "`label_smoothing` must be in [0, 1), received "
            f"{label_smoothing!r}."
        )
    return of(keras)(label_smoothing=label_smoothing)


@functools.cache
def of(keras):
    """The class of these losses in a Keras, registered there."""
    arrays = getattr(keras, "ops", keras.backend)

    @keras.saving.register_keras_serializable(package="resnet")
    class SmoothedCrossEntropy(keras.losses.CategoricalCrossentropy):
        """See `cross_entropy`."""

        def __init__(self, from_logits=True, name="cross_entropy", **kwargs):
            super().__init__(from_logits=from_logits, name=name, **kwargs)

        def call(self, y_true, y_pred):
            # Keras may have made floats of the labels, or a column.
            labels = arrays.cast(arrays.reshape(y_true, (-1,)), "int32")
            onehot = arrays.one_hot(labels, y_pred.shape[-1])
            return super().call(onehot, y_pred)

    return SmoothedCrossEntropy
