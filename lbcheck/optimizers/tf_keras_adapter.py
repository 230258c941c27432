"""tf_keras optimizers."""

import numpy as np
import tensorflow as tf
import tf_keras

from lbcheck.optimizers.tensorflow_update import TensorFlowUpdate
from lbcheck.optimizers.tensorflow_update import check_training_point
from lbcheck.optimizers.tensorflow_update import compute_dtype
from lbcheck.optimizers.tensorflow_update import densify

SCHEDULE = tf_keras.optimizers.schedules.LearningRateSchedule


class CallableRate(SCHEDULE):
    """A callable without arguments, asked at every update as in Keras 3."""

    def __init__(self, function):
        self._function = function

    def __call__(self, step):
        """The rate now, whatever the step."""
        return self._function()

    def get_config(self):
        """A function has no configuration.

        Raises:
            TypeError: Always.
        """
        raise TypeError(
            "A callable learning rate cannot be saved; use a schedule."
        )


class TFKerasOptimizer(tf_keras.optimizers.Optimizer):
    """Adapter under `base.Optimizer`: state and update in tf_keras."""

    keras_name = "tf_keras"
    keras_title = "tf_keras"
    other_name = "keras3"
    other_title = "Keras 3"
    schedule_class = SCHEDULE
    keras_own = ("jit_compile", "is_legacy_optimizer")

    def __init__(self, learning_rate, name, **kwargs):
        super().__init__(name, weight_decay=None, **kwargs)
        if callable(learning_rate) and not hasattr(learning_rate, "get_config"):
            learning_rate = CallableRate(learning_rate)
        self._learning_rate = self._build_learning_rate(learning_rate)
        # `iterations` also counts the steps that loss scaling skips.
        with tf.init_scope():
            self.update_count = tf.Variable(
                0,
                name="update_count",
                dtype=tf.int64,
                trainable=False,
                aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
            )
        self._variables.append(self.update_count)
        self._rate_now = self._count_now = None

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

    def _rate_variable(self):
        """The value of the rate's variable, also while a step is traced."""
        with tf.init_scope():
            return float(self._learning_rate.numpy())

    def _add_slot(self, variable, slot):
        shape = slot.shape_for(tuple(variable.shape))
        dtype = compute_dtype(variable)
        if dtype != variable.dtype or slot.shape is not None:
            # 16 bits cannot hold moments: small squares vanish in float16,
            # and 0.999 times a bfloat16 rounds back to it.
            return self.add_variable(
                shape,
                dtype,
                tf_keras.initializers.Constant(slot.initial),
                name=f"{slot.name}/{variable._shared_name}",
            )
        return self.add_variable_from_reference(
            variable,
            slot.name,
            initial_value=tf.fill(shape, tf.constant(slot.initial, dtype)),
        )

    @staticmethod
    def _read(variable, dtype=None):
        """The value of a variable now."""
        return tf.cast(variable, dtype or variable.dtype)

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
        rate, count = self._rate_now, self._count_now
        if rate is None:
            rate, count = self.learning_rate, self.update_count
        self._updates[id(assignment.rule)](
            variable,
            densify(gradient),
            self._slots[index],
            self._rate(assignment, rate),
            count,
            assignment.decay,
            assignment.adapt,
            record,
        )

    def _compute_current_learning_rate(self):
        # As tf_keras does, at the number of updates instead of iterations.
        if isinstance(self._learning_rate, SCHEDULE):
            rate = self._learning_rate(self.update_count)
            if not hasattr(self, "_current_learning_rate"):
                self._current_learning_rate = tf.Variable(
                    rate, name="current_learning_rate", trainable=False
                )
            self._current_learning_rate.assign(rate)

    def _distributed_apply_gradients_fn(
        self, distribution, grads_and_vars, **kwargs
    ):
        check_training_point(self)
        if not self.jit_compile:  # whose functions would keep these numbers
            # Read once, so that what all variables need is computed once.
            self._rate_now = tf.convert_to_tensor(self.learning_rate)
            self._count_now = tf.convert_to_tensor(self.update_count)
        try:
            iterations = super()._distributed_apply_gradients_fn(
                distribution, grads_and_vars, **kwargs
            )
        finally:
            self._rate_now = self._count_now = None
        self.update_count.assign_add(1)
        return iterations

    def get_config(self):
        """The settings of tf_keras, to which it does not add the rate."""
        rate = self._serialize_hyperparameter(self._learning_rate)
        return {**super().get_config(), "learning_rate": rate}

    def _clip_gradients(self, grads):
        # A clip norm over IndexedSlices would count repeated rows apart, and
        # the square of 256 is beyond float16.
        return super()._clip_gradients([densify(g) for g in grads])
