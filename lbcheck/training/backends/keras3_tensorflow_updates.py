"""An update in Keras 3 on TensorFlow; see accumulated_step.py."""

import tensorflow as tf

from lbcheck.training.backends import accumulated_step
from lbcheck.training.backends import keras3_updates


class Update(accumulated_step.Update):
    """The train function of a Keras 3 model on TensorFlow."""

    def _native(self, variable):
        return variable.value

    def _gradients_of(self, data):
        gradients, _ = keras3_updates.train_step(self._model, data)
        return gradients

    def _compiled(self, function):
        # Keras 3 takes AutoGraph to no model, loss or metric.
        return super()._compiled(
            tf.autograph.experimental.do_not_convert(function)
        )
