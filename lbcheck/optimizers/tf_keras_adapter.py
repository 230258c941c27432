"""tf_keras optimizers."""

import numpy as np
import tensorflow as tf
import tf_keras

from lbcheck.optimizers.tensorflow_update import TensorFlowUpdate
from lbcheck.optimizers.tensorflow_update import densify


class TFKerasOptimizer(tf_keras.optimizers.Optimizer):
    """Adapter under `Core`: state and update in tf_keras."""

    keras_name = "tf_keras"
    keras_title = "tf_keras"
    other_name = "keras3"
    other_title = "Keras 3"

    def __init__(self, learning_rate, name, **kwargs):
        super().__init__(name, weight_decay=None, **kwargs)
        self._learning_rate = self._build_learning_rate(learning_rate)

    def build(self, var_list):
        """Creates the state for these variables and resolves exclusions."""
        super().build(var_list)
        if getattr(self, "_built", False):
            return
        self._built = True
        self._set_up(
            var_list,
            [tuple(variable.shape) for variable in var_list],
            self._add_slot,
            self._add_row,
        )
        self._updates = {
            id(rule): TensorFlowUpdate(rule)
            for rule in {id(a.rule): a.rule for a in self.assignments}.values()
        }

    def _add_slot(self, variable, slot):
        shape = () if slot.scalar else variable.shape
        return self.add_variable_from_reference(
            variable,
            slot.name,
            initial_value=tf.fill(
                shape, tf.constant(slot.initial, variable.dtype)
            ),
        )

    def _add_row(self, name):
        return self.add_variable(
            (5,),
            tf.float32,
            tf_keras.initializers.Constant(np.nan),
            name=name,
        )

    def update_step(self, gradient, variable):
        """Updates one variable; tf_keras calls it for each."""
        index = self._index_dict[self._var_key(variable)]
        assignment = self.assignments[index]
        record = None
        if self.diagnostics_every:
            record = (self._rows[index], self.diagnostics_every)
        self._updates[id(assignment.rule)](
            variable,
            densify(gradient),
            self._slots[index],
            self._rate(assignment, self.learning_rate),
            self.iterations,
            assignment.decay,
            assignment.adapt,
            record,
        )

    def get_config(self):
        """The settings of tf_keras, to which it does not add the rate."""
        rate = self._serialize_hyperparameter(self._learning_rate)
        return {**super().get_config(), "learning_rate": rate}

    def _clip_gradients(self, grads):
        # A clip norm over IndexedSlices would count repeated rows apart.
        return super()._clip_gradients([densify(g) for g in grads])
