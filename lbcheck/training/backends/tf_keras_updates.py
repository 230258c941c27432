"""An update in tf_keras; see accumulated_step.py."""

import tensorflow as tf
import tf_keras

from lbcheck.training.backends import accumulated_step


class Update(accumulated_step.Update):
    """The train function of a tf_keras model.

    Args:
        model: Compiled model, its optimizer built.
        microbatches: Elements of the data in one update.
        seed: Seed of the random numbers that layers draw.
    """

    def __init__(self, model, microbatches: int, seed: int):
        super().__init__(model, microbatches)
        self._seed = seed
        self._generators = random_generators(model)

    def _native(self, variable):
        return variable

    def _updates(self, steps):
        return self._model._steps_per_execution  # `fit` lowers it at the end

    def _begin(self):
        """Makes random numbers a function of seed, step, layer and replica."""
        context = tf.distribute.get_replica_context()
        step = tf.cast(self._model.optimizer.iterations, tf.int64)
        for layer, generator in enumerate(self._generators):
            replica = tf.cast(context.replica_id_in_sync_group, tf.int64)
            key = (self._seed * 1_000_003 + layer) % 2**31 * 2**16 + replica
            # Philox: 128 bits of counter, then the key.
            generator.state.assign(
                tf.stack([tf.constant(0, tf.int64), step, key])
            )

    def _gradients_of(self, data):
        model = self._model
        x, y, weight = tf_keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            predicted = model(x, training=True)
            loss = model.compute_loss(x, y, predicted, weight)
            scaled = _scaled(model.optimizer, loss)
        gradients = tape.gradient(scaled, model.trainable_variables)
        model.compute_metrics(x, y, predicted, weight)
        return _unscaled(model.optimizer, gradients)

    def _finish(self, logs):
        self._model._train_counter.assign_add(1)
        return super()._finish(logs)


def random_generators(model) -> list:
    """The tf.random.Generators that the model's layers draw from."""
    found = []
    for layer in model._flatten_layers():
        backend = getattr(layer, "_random_generator", None)
        generator = getattr(backend, "_generator", None)
        if generator is not None:
            found.append(generator)
    return found


def _scaled(optimizer, loss):
    scale = getattr(optimizer, "get_scaled_loss", None)
    return scale(loss) if scale else loss


def _unscaled(optimizer, gradients):
    unscale = getattr(optimizer, "get_unscaled_gradients", None)
    return unscale(gradients) if unscale else gradients
