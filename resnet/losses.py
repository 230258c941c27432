"""Cross-entropy of logits and integer labels, with label smoothing."""

import functools


def cross_entropy(keras, label_smoothing=0.0):
    """Loss of logits (batch, K) against integer labels (batch,).

    The target is onehot * (1 - tau) + tau / K with tau = `label_smoothing`;
    the loss is the mean over the batch, weighted by `sample_weight`.

    Args:
        keras: The module `keras` or `tf_keras`.
        label_smoothing: tau, in [0, 1); also a scalar variable, which may be
            assigned to later.

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

        def __init__(
            self,
            label_smoothing=0.0,
            from_logits=True,
            name="cross_entropy",
            **kwargs,
        ):
            super().__init__(from_logits=from_logits, name=name, **kwargs)
            self.label_smoothing = label_smoothing

        def call(self, y_true, y_pred):
            # Keras may have made floats of the labels, or a column.
            labels = arrays.cast(arrays.reshape(y_true, (-1,)), "int32")
            num_classes = y_pred.shape[-1]
            onehot = arrays.one_hot(labels, num_classes)
            # Here, as Keras would ask whether a variable is 0.
            tau = self.label_smoothing
            target = onehot * (1.0 - tau) + tau / num_classes
            return super().call(target, y_pred)

        def get_config(self):
            tau = float(self.label_smoothing)
            return {**super().get_config(), "label_smoothing": tau}

    return SmoothedCrossEntropy
