"""Keras 3 optimizers on the tensorflow, jax and torch backends."""

import keras
import numpy as np
from keras import ops

from lbcheck.optimizers import selection

ON_TENSORFLOW = keras.backend.backend() == "tensorflow"

if ON_TENSORFLOW:
    from tensorflow import init_scope

    from lbcheck.optimizers.tensorflow_update import TensorFlowUpdate as Update
    from lbcheck.optimizers.tensorflow_update import check_training_point
    from lbcheck.optimizers.tensorflow_update import densify
else:
    from contextlib import nullcontext as init_scope

    from lbcheck.optimizers.keras_arrays import KerasUpdate as Update
    from lbcheck.optimizers.keras_arrays import densify


class Keras3Optimizer(keras.optimizers.Optimizer):
    """Adapter under `base.Optimizer`: state, update and clipping in Keras 3."""

    keras_name = "keras3"
    keras_title = "Keras 3"
    other_name = "tf_keras"
    other_title = "tf_keras"
    schedule_class = keras.optimizers.schedules.LearningRateSchedule
    keras_own = ("loss_scale_factor", "gradient_accumulation_steps")
    _count = None

    def build(self, variables):
        """Creates the state for these variables and resolves exclusions."""
        if self.built:
            return
        super().build(variables)
        self._set_up(
            variables,
            [tuple(variable.shape) for variable in variables],
            self._add_slot,
            self._add_row,
        )
        self._updates = {
            id(rule): Update(rule)
            for rule in {id(a.rule): a.rule for a in self.assignments}.values()
        }

    @property
    def update_count(self):
        """Number of updates completed."""
        return self.iterations

    def _rate_variable(self):
        """The value of the rate's variable, also while a step is traced."""
        with init_scope():
            return float(self._learning_rate.numpy())

    def _add_slot(self, variable, slot):
        def initializer(shape, dtype):
            # keras.initializers.Constant would round through float32.
            return ops.convert_to_tensor(
                np.full(shape, slot.initial), dtype=dtype
            )

        shape = slot.shape_for(tuple(variable.shape))
        if shape == tuple(variable.shape):
            return self.add_variable_from_reference(
                variable, slot.name, initializer
            )
        path = selection.clean_path(variable).replace("/", "_")
        return self.add_variable(
            shape, initializer, variable.dtype, name=f"{path}_{slot.name}"
        )

    def add_variable(self, shape, initializer="zeros", dtype=None, **kwargs):
        """As Keras's; what an optimizer keeps has 32 bits at least.

        16 cannot hold moments, nor sums of many gradients: small squares
        vanish in float16, and 0.999 times a bfloat16 rounds back to it.
        """
        if "float16" in str(dtype):
            dtype = "float32"
        return super().add_variable(shape, initializer, dtype, **kwargs)

    def apply(self, grads, trainable_variables=None):
        """Applies gradients, dense and with 32 bits at least.

        So clipping and norms see each row of a sparse one once, and no square
        is beyond float16.
        """
        if ON_TENSORFLOW:
            check_training_point(self)
        grads = [densify(gradient) for gradient in grads]
        return super().apply(grads, trainable_variables)

    @staticmethod
    def _read(variable, dtype=None):
        """The value of a variable now, in memory of its own."""
        return ops.copy(ops.cast(variable, dtype or variable.dtype))

    def _add_row(self, name):
        return self.add_variable(
            (5,),
            keras.initializers.Constant(np.nan),
            dtype="float32",
            name=name,
        )

    def update_step(self, gradient, variable, learning_rate):
        """Updates one variable; Keras calls it for each."""
        index = self._get_variable_index(variable)
        assignment = self.assignments[index]
        native = (lambda v: v.value) if ON_TENSORFLOW else (lambda v: v)
        record = None
        if self.diagnostics_every:
            record = (native(self._rows[index]), self.diagnostics_every)
        self._updates[id(assignment.rule)](
            variable,
            gradient,
            [native(slot) for slot in self._slots[index]],
            self._rate(assignment, learning_rate),
            ops.convert_to_tensor(
                self.update_count if self._count is None else self._count
            ),
            assignment.decay,
            assignment.adapt,
            record,
        )

    def finalize_variable_values(self, var_list):
        """Gives each variable its average; Keras calls it when `fit` ends.

        Keras takes the averages in order, so that a variable got another's
        where one before it has been frozen since.
        """
        if self.use_ema:
            for variable in var_list:
                index = self._get_variable_index(variable)
                average = self._model_variables_moving_average[index]
                if average is not None:  # as of the scales of float8
                    variable.assign(average)

    def _backend_apply_gradients(self, grads, trainable_variables):
        """As Keras; averages of weights count updates, as the rate does.

        Those of Keras count micro-batches, and overwrite the weights also
        between those of an update.
        """
        averages = self.use_ema
        self.use_ema = averages and not self.gradient_accumulation_steps
        try:
            super()._backend_apply_gradients(grads, trainable_variables)
        finally:
            self.use_ema = averages
        if averages and self.gradient_accumulation_steps:
            self._average_updates()

    def _average_updates(self):
        micro_batches = self._iterations + 1
        updated = micro_batches % self.gradient_accumulation_steps == 0
        overwrites = None
        if self.ema_overwrite_frequency:
            due = (self.iterations + 1) % self.ema_overwrite_frequency == 0
            overwrites = ops.logical_and(updated, due)
        for variable, average in zip(
            self._trainable_variables, self._model_variables_moving_average
        ):
            if average is None:
                continue
            momentum = self.ema_momentum * ops.cast(
                self.iterations > 0, variable.dtype
            )
            old, weight = map(ops.convert_to_tensor, (average, variable))
            new = momentum * old + (1.0 - momentum) * weight
            average.assign(ops.where(updated, new, old))
            if overwrites is not None:
                variable.assign(ops.where(overwrites, new, weight))

    def _get_current_learning_rate(self):
        # Keras evaluates a schedule at micro-steps when it accumulates
        # gradients (`_iterations`); a schedule counts updates.
        if isinstance(self._learning_rate, self.schedule_class):
            return self._learning_rate(self.iterations)
        return super()._get_current_learning_rate()

    if ON_TENSORFLOW:
        _reduced = False

        # Rate and count are read once in an update, so that what follows from
        # them is computed once and not for each variable.

        def _backend_update_step(self, grads, variables, learning_rate):
            rate = ops.convert_to_tensor(learning_rate)
            super()._backend_update_step(grads, variables, rate)

        def _distributed_tf_update_step(self, *arguments):
            self._count = ops.convert_to_tensor(self.update_count)
            try:
                super()._distributed_tf_update_step(*arguments)
            finally:
                self._count = None

        def _clip_gradients(self, grads):
            # Keras clips each replica's own gradient before summing; the
            # clip belongs on the averaged one.
            if not (self.clipnorm or self.global_clipnorm or self.clipvalue):
                return grads
            pairs = super()._all_reduce_sum_gradients(
                list(zip(grads, self._trainable_variables))
            )
            grads = super()._clip_gradients([gradient for gradient, _ in pairs])
            self._reduced = True
            return grads

        def _all_reduce_sum_gradients(self, grads_and_vars):
            if self._reduced:
                self._reduced = False
                return list(grads_and_vars)
            return super()._all_reduce_sum_gradients(grads_and_vars)
