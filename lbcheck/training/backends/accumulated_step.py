"""One optimizer update in TensorFlow: microbatches, statistics, first NaN.

An update takes `microbatches` elements of the data, sums their gradients and
applies the optimizer once. Whatever floating numbers the layers move
meanwhile (running statistics of batch norm) start every microbatch at the
same value and end at the mean over microbatches and replicas:

    mean_i(rho moving + (1 - rho) s_i) = rho moving + (1 - rho) mean_i(s_i)

which is one moving-average update with the statistics of the whole batch.

Here is what both Kerases share; tf_keras_updates.py and keras3_updates.py
add what each of them does in its own way, keras3_jax_updates.py is the same
for JAX.
"""

import tensorflow as tf

from lbcheck.optimizers import selection
from lbcheck.optimizers.tensorflow_update import compute_dtype

_SYNC = tf.VariableSynchronization.ON_READ


class Update:
    """The train function of a model, and what it saw go wrong.

    Args:
        model: Compiled model, its optimizer built.
        microbatches: Elements of the data in one update.

    Attributes:
        updates: How many were made here, with those that float16 skipped,
            which an optimizer need not count.
        first_bad_step: -1, or the first of them after which the loss or a
            variable was not finite, counted from 0.
        first_bad_index: Which of the variables and statistics then; -1 if
            all were finite and only the loss was not.
    """

    def __init__(self, model, microbatches: int):
        self._model = model
        self._microbatches = microbatches
        self._weights = model.trainable_variables
        statistics = [
            v
            for v in model.non_trainable_variables
            if _is_statistic(self._native(v))
        ]
        self._watched = [*self._weights, *statistics]
        self._statistics = [self._native(v) for v in statistics]
        self._untouched = []
        with model.distribute_strategy.scope():
            self.updates, self.first_bad_step, self.first_bad_index = (
                tf.Variable(
                    start,
                    dtype=tf.int64,
                    trainable=False,
                    synchronization=_SYNC,
                    aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
                )
                for start in (0, -1, -1)
            )
            if microbatches > 1:
                self._gradients = [
                    _accumulator(self._native(v)) for v in self._weights
                ]
                self._sums = [_accumulator(v) for v in self._statistics]

    def install(self, steps: int) -> None:
        """Makes the model's `fit` train by this, `steps` updates a call."""
        model = self._model

        def make_train_function(force=False):
            if model.train_function is None or force:

                def train_function(iterator):
                    if steps == 1:
                        return self(iterator)
                    for _ in tf.range(self._updates(steps)):
                        logs = self(iterator)
                    return logs

                model.train_function = tf.function(
                    train_function, reduce_retracing=True
                )
            return model.train_function

        model.make_train_function = make_train_function

    def __call__(self, iterator):
        """Takes its elements from `iterator`; the metrics, by name."""
        strategy = self._model.distribute_strategy
        if self._microbatches == 1:
            run = self._compiled(self._whole)
            logs = strategy.run(run, args=(next(iterator),))
        else:
            accumulate = self._compiled(self._accumulate)
            strategy.run(self._begin)
            for _ in tf.range(self._microbatches):
                strategy.run(accumulate, args=(next(iterator),))
            logs = strategy.run(self._compiled(self._apply))
        return {
            name: strategy.experimental_local_results(value)[0]
            for name, value in logs.items()
        }

    def first_bad(self, step: int):
        """(update, variable path or None) that was first not finite.

        Args:
            step: Updates of the run so far.
        """
        bad = int(self.first_bad_step.numpy())
        index = int(self.first_bad_index.numpy())
        if bad < 0:
            return None
        step += bad - int(self.updates.numpy())
        if index < 0:
            return step, None
        return step, selection.clean_path(self._watched[index])

    def _native(self, variable):
        """The tf.Variable of a variable of this Keras."""
        raise NotImplementedError

    def _updates(self, steps):
        """How many updates a call makes, of `steps` at most."""
        return steps

    def _begin(self):
        """What comes before the passes of an update, on each replica."""
        return  # AutoGraph wants a statement

    def _gradients_of(self, data):
        """One pass through the network: its gradients, metrics updated."""
        raise NotImplementedError

    def _compiled(self, function):
        if not self._model.jit_compile:
            return function
        return tf.function(function, jit_compile=True, reduce_retracing=True)

    def _whole(self, data):
        self._begin()
        context = tf.distribute.get_replica_context()
        shared = context.num_replicas_in_sync > 1
        before = [v.read_value() for v in self._statistics] if shared else []
        logs = self._model.train_step(data)
        if shared:
            self._move(
                before,
                [
                    _difference(v.read_value(), b, compute_dtype(v))
                    for v, b in zip(self._statistics, before)
                ],
            )
        return self._finish(logs)

    def _accumulate(self, data):
        before = [v.read_value() for v in self._statistics]
        gradients = self._gradients_of(data)
        self._untouched = [g is None for g in gradients]
        for total, gradient in zip(self._gradients, gradients):
            if gradient is not None:
                gradient = tf.cast(tf.convert_to_tensor(gradient), total.dtype)
                total.assign_add(gradient / self._microbatches)
        for total, variable, start in zip(self._sums, self._statistics, before):
            moved = _difference(variable.read_value(), start, total.dtype)
            total.assign_add(moved / self._microbatches)
            variable.assign(start)

    def _apply(self):
        model = self._model
        model.optimizer.apply_gradients(
            (tf.cast(total.read_value(), variable.dtype), variable)
            for total, variable, untouched in zip(
                self._gradients, self._weights, self._untouched
            )
            if not untouched
        )
        self._move(
            [v.read_value() for v in self._statistics],
            [total.read_value() for total in self._sums],
        )
        for total in (*self._gradients, *self._sums):
            total.assign(tf.zeros_like(total))
        return self._finish(model.get_metrics_result())

    def _move(self, starts, moves):
        """Moves the statistics by the mean of `moves` over the replicas.

        The mean of what they became would change by rounding those that stay,
        as of a frozen layer.
        """
        if not moves:
            return
        context = tf.distribute.get_replica_context()
        if context.num_replicas_in_sync > 1:
            moves = context.all_reduce(tf.distribute.ReduceOp.MEAN, moves)
        for variable, start, move in zip(self._statistics, starts, moves):
            moved = tf.cast(start, move.dtype) + move
            variable.assign(tf.cast(moved, start.dtype))

    def _finish(self, logs):
        """Notes the first update whose result is not finite."""
        finite = tf.stack(
            [
                # A sum is finite only if its terms are; it needs no array.
                tf.math.is_finite(
                    tf.cast(
                        tf.reduce_sum(tf.cast(v, compute_dtype(v))), tf.float32
                    )
                )
                for v in map(self._native, self._watched)
            ]
        )
        healthy = tf.reduce_all(finite)
        index = tf.where(
            healthy,
            tf.constant(-1, tf.int64),
            tf.argmin(tf.cast(finite, tf.int32), output_type=tf.int64),
        )
        if "loss" in logs:
            healthy &= tf.math.is_finite(logs["loss"])
        now = ~healthy & (self.first_bad_step < 0)
        for variable, value in (
            (self.first_bad_index, index),
            (self.first_bad_step, self.updates),
        ):
            variable.assign(tf.where(now, value, variable))
        self.updates.assign_add(1)
        return logs


def _is_statistic(variable):
    return variable.dtype.is_floating and not variable.trainable  # else frozen


def _difference(new, old, dtype):
    return tf.cast(new, dtype) - tf.cast(old, dtype)


def _accumulator(variable):
    # 16 bits cannot hold the sum of many parts.
    return tf.Variable(
        tf.zeros(variable.shape, compute_dtype(variable)),
        trainable=False,
        synchronization=_SYNC,
        aggregation=tf.VariableAggregation.SUM,
    )
