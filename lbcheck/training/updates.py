"""One optimizer update in tf_keras: microbatches, statistics, first NaN.

`install` replaces the train function of a compiled tf_keras model. An update
then takes `microbatches` elements of the data, sums their gradients and
applies the optimizer once. Whatever floating numbers the layers move
meanwhile (running statistics of batch norm) start every microbatch at the
same value and end at the mean over microbatches and replicas:

    mean_i(rho moving + (1 - rho) s_i) = rho moving + (1 - rho) mean_i(s_i)

which is one moving-average update with the statistics of the whole batch.
"""

import tensorflow as tf
import tf_keras

from lbcheck.optimizers import selection

_SYNC = tf.VariableSynchronization.ON_READ


class Update:
    """The train function of a model, and what it saw go wrong.

    Args:
        model: Compiled tf_keras model, its optimizer built.
        microbatches: Elements of the data in one update.
        seed: Of the random numbers that layers draw.

    Raises:
        ValueError: Several microbatches of a model with its own train_step.

    Attributes:
        first_bad_step: -1, or the first update after which the loss or a
            variable was not finite.
        first_bad_index: Which of the variables and statistics then; -1 if
            all were finite and only the loss was not.
    """

    def __init__(self, model, microbatches: int, seed: int):
        self._model = model
        self._microbatches = microbatches
        self._seed = seed
        self._statistics = [
            v
            for v in model.non_trainable_variables
            if v.dtype.is_floating and not v.trainable  # else it is frozen
        ]
        self._watched = [*model.trainable_variables, *self._statistics]
        self._generators = random_generators(model)
        self._untouched = []
        own_step = type(model).train_step is not tf_keras.Model.train_step
        if microbatches > 1 and own_step:
            raise ValueError(
                f"{type(model).__name__} has its own train_step, which "
                "cannot be divided into microbatches; override compute_loss "
                "instead, or leave microbatch_size out."
            )
        with model.distribute_strategy.scope():
            self.first_bad_step, self.first_bad_index = (
                tf.Variable(
                    -1,
                    dtype=tf.int64,
                    trainable=False,
                    synchronization=_SYNC,
                    aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
                )
                for _ in range(2)
            )
            if microbatches > 1:
                self._gradients = [
                    _accumulator(v) for v in model.trainable_variables
                ]
                self._sums = [_accumulator(v) for v in self._statistics]

    def __call__(self, iterator):
        """Takes its elements from `iterator`; the metrics, by name."""
        strategy = self._model.distribute_strategy
        if self._microbatches == 1:
            run = self._compiled(self._whole)
            logs = strategy.run(run, args=(next(iterator),))
        else:
            accumulate = self._compiled(self._accumulate)
            strategy.run(self._seed_generators)
            for _ in tf.range(self._microbatches):
                strategy.run(accumulate, args=(next(iterator),))
            logs = strategy.run(self._compiled(self._apply))
        return {
            name: strategy.experimental_local_results(value)[0]
            for name, value in logs.items()
        }

    def first_bad(self):
        """(update, variable path or None) that was first not finite."""
        step = int(self.first_bad_step.numpy())
        index = int(self.first_bad_index.numpy())
        if step < 0:
            return None
        if index < 0:
            return step, None
        variable = self._watched[index]
        return step, selection.clean_path(variable)

    def _compiled(self, function):
        if not self._model.jit_compile:
            return function
        return tf.function(function, jit_compile=True, reduce_retracing=True)

    def _whole(self, data):
        self._seed_generators()
        logs = self._model.train_step(data)
        if tf.distribute.get_replica_context().num_replicas_in_sync > 1:
            self._share([v.read_value() for v in self._statistics])
        return self._finish(logs)

    def _accumulate(self, data):
        model = self._model
        x, y, weight = tf_keras.utils.unpack_x_y_sample_weight(data)
        before = [v.read_value() for v in self._statistics]
        with tf.GradientTape() as tape:
            predicted = model(x, training=True)
            loss = model.compute_loss(x, y, predicted, weight)
            scaled = _scaled(model.optimizer, loss)
        gradients = tape.gradient(scaled, model.trainable_variables)
        gradients = _unscaled(model.optimizer, gradients)
        self._untouched = [g is None for g in gradients]
        for total, gradient in zip(self._gradients, gradients):
            if gradient is not None:
                gradient = tf.convert_to_tensor(gradient)
                total.assign_add(gradient / self._microbatches)
        for total, variable, start in zip(self._sums, self._statistics, before):
            total.assign_add(variable.read_value() / self._microbatches)
            variable.assign(start)
        model.compute_metrics(x, y, predicted, weight)

    def _apply(self):
        model = self._model
        model.optimizer.apply_gradients(
            (total.read_value(), variable)
            for total, variable, untouched in zip(
                self._gradients, model.trainable_variables, self._untouched
            )
            if not untouched
        )
        self._share([total.read_value() for total in self._sums])
        for total in (*self._gradients, *self._sums):
            total.assign(tf.zeros_like(total))
        return self._finish(model.get_metrics_result())

    def _share(self, values):
        """Sets the statistics to the mean of `values` over the replicas."""
        if not values:
            return
        context = tf.distribute.get_replica_context()
        if context.num_replicas_in_sync > 1:
            values = context.all_reduce(tf.distribute.ReduceOp.MEAN, values)
        for variable, value in zip(self._statistics, values):
            variable.assign(value)

    def _finish(self, logs):
        """Notes the first update whose result is not finite; counts it."""
        step = self._model.optimizer.iterations
        finite = tf.stack(
            [
                # A sum is finite only if its terms are; it needs no array.
                tf.math.is_finite(tf.cast(tf.reduce_sum(v), tf.float32))
                for v in self._watched
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
        # The counter is one further by now: updates are numbered from 0.
        for variable, value in (
            (self.first_bad_index, index),
            (self.first_bad_step, tf.cast(step, tf.int64) - 1),
        ):
            variable.assign(tf.where(now, value, variable))
        self._model._train_counter.assign_add(1)
        return logs

    def _seed_generators(self):
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


def install(model, microbatches: int, seed: int) -> Update:
    """Makes `model.fit` train by `Update`; returns it."""
    update = Update(model, microbatches, seed)

    def make_train_function(force=False):
        if model.train_function is None or force:
            several = model._steps_per_execution.numpy().item() > 1

            def train_function(iterator):
                if not several:
                    return update(iterator)
                for _ in tf.range(model._steps_per_execution):
                    logs = update(iterator)
                return logs

            model.train_function = tf.function(
                train_function, reduce_retracing=True
            )
        return model.train_function

    model.make_train_function = make_train_function
    return update


def random_generators(model) -> list:
    """The tf.random.Generators that the model's layers draw from."""
    found = []
    for layer in model._flatten_layers():
        backend = getattr(layer, "_random_generator", None)
        generator = getattr(backend, "_generator", None)
        if generator is not None:
            found.append(generator)
    return found


def _accumulator(variable):
    return tf.Variable(
        tf.zeros(variable.shape, variable.dtype),
        trainable=False,
        synchronization=_SYNC,
        aggregation=tf.VariableAggregation.SUM,
    )


def _scaled(optimizer, loss):
    scale = getattr(optimizer, "get_scaled_loss", None)
    return scale(loss) if scale else loss


def _unscaled(optimizer, gradients):
    unscale = getattr(optimizer, "get_unscaled_gradients", None)
    return unscale(gradients) if unscale else gradients
