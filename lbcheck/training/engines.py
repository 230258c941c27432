"""What training needs of a Keras, the same for both.

An engine builds and compiles the workload, feeds `fit`, reads and sets the
state, and says what went non-finite first.
"""

import functools
import math
from typing import Any
from typing import NamedTuple

import numpy as np

from lbcheck.optimizers import selection
from lbcheck.training import checkpoints

_METRIC = "metric/"


class Workload(NamedTuple):
    """What `build` gives: an uncompiled model and what `compile` needs."""

    model: Any
    optimizer: Any
    loss: Any
    weighted_metrics: list


class Layout(NamedTuple):
    """How an update's examples are divided.

    Attributes:
        replicas: Devices that train in step.
        replica_batch: Examples of each in one update.
        element: Examples of each at once: a microbatch.
        microbatches: Passes through the network in one update.
    """

    replicas: int
    replica_batch: int
    element: int
    microbatches: int


def layout(options, replicas: int) -> Layout:
    """Divides the batch.

    Raises:
        ValueError: If it does not divide; names all numbers.
    """
    replica_batch, rest = divmod(options.batch_size, replicas)
    if rest:
        raise ValueError(
            f"batch_size={options.batch_size} does not divide among "
            f"{replicas} replicas."
        )
    element = options.microbatch_size or replica_batch
    microbatches, rest = divmod(replica_batch, element)
    if rest:
        raise ValueError(
            f"microbatch_size={element} does not divide the "
            f"{replica_batch} examples of a replica (batch_size="
            f"{options.batch_size}, {replicas} replicas)."
        )
    return Layout(replicas, replica_batch, element, microbatches)


def evaluation_size(options, divided: Layout) -> int:
    """Examples of one evaluation batch on one replica.

    Raises:
        ValueError: If evaluation_batch_size does not divide.
    """
    if options.evaluation_batch_size is None:
        return divided.element
    size, rest = divmod(options.evaluation_batch_size, divided.replicas)
    if rest:
        raise ValueError(
            f"evaluation_batch_size={options.evaluation_batch_size} does not "
            f"divide among {divided.replicas} replicas."
        )
    return size


class Engine:
    """Common part; see the module docstring.

    Args:
        options: `Options` of the run.
    """

    multi_worker = False
    writes = True

    def __init__(self, options):
        self.options = options
        self.model = None

    def build(self, build) -> None:
        """Builds and compiles the workload."""
        raise NotImplementedError

    def fit(self, source, step, epochs, steps, callbacks) -> None:
        """Trains `epochs` times `steps` updates after `step` ones."""
        raise NotImplementedError

    def evaluate(self, source, steps: int | None = None) -> dict[str, float]:
        """Metrics over all validation examples, or over some steps; without
        "loss", since the examples that fill the last batch count in it."""
        raise NotImplementedError

    def watch(self, step: int, logs) -> None:
        """Looks at the logs of each call of the train function."""

    def first_bad(self, step: int):
        """(update, variable) that was first non-finite by `step`, or None."""
        raise NotImplementedError

    def variables(self) -> dict:
        """{name: variable} of all that decides the next update."""
        optimizer = self.model.optimizer
        groups = {
            "model": self._model_variables(),
            "optimizer": list(optimizer.variables)
            + self._loss_scale(optimizer),
        }
        return {
            f"{group}/{index}": variable
            for group, variables in groups.items()
            for index, variable in enumerate(variables)
        }

    def state(self, with_metrics: bool) -> dict[str, np.ndarray]:
        """The arrays of a checkpoint."""
        state = {name: self._read(v) for name, v in self.variables().items()}
        if with_metrics:
            state |= {
                n: self._read_metric(v) for n, v in self._metrics().items()
            }
        return state

    def restore(self, step: int, arrays: dict, source):
        """Sets the state; gives back the arrays of metrics, if any."""
        metrics = {n: a for n, a in arrays.items() if n.startswith(_METRIC)}
        state = {n: a for n, a in arrays.items() if n not in metrics}
        where = f"The checkpoint after {step} updates"
        checkpoints.assign(self.variables(), state, where)
        if metrics:
            self.evaluate(source, steps=1)  # only then do they have variables
        return metrics

    def assign_metrics(self, arrays) -> None:
        """Lets metrics go on from what `state` read."""
        checkpoints.assign(self._metrics(), arrays, "The checkpoint's metrics")

    def learning_rate(self, step: int) -> float:
        """The rate of the update after `step` ones."""
        rate = getattr(self.model.optimizer, "inner_optimizer", None)
        rate = (rate or self.model.optimizer)._learning_rate
        if hasattr(rate, "get_config"):  # a schedule
            return float(rate(step))
        return float(self._read(rate))

    def _metrics(self):
        return {
            f"{_METRIC}{i}/{j}": variable
            for i, metric in enumerate(self.model.metrics)
            for j, variable in enumerate(metric.variables)
        }

    def _model_variables(self):
        return self.model.weights

    def _loss_scale(self, optimizer):
        return []

    def _read(self, variable):
        raise NotImplementedError

    def _read_metric(self, variable):
        return self._read(variable)


class TFKerasEngine(Engine):
    """tf_keras under any strategy."""

    def __init__(self, options):
        super().__init__(options)
        import tensorflow as tf
        import tf_keras

        from lbcheck.training import strategy

        self._tf, self.keras = tf, tf_keras
        if options.deterministic:
            tf.config.experimental.enable_op_determinism()
        tf_keras.utils.set_random_seed(options.seed)
        tf_keras.backend.experimental.enable_tf_random_generator()
        self.strategy = strategy.make(options.distribution, options.tpu)
        self.multi_worker = strategy.is_multi_worker(self.strategy)
        self.writes = strategy.is_chief(self.strategy)
        self.layout = layout(options, self.strategy.num_replicas_in_sync)
        evaluation_size(options, self.layout)

    @property
    def devices(self) -> list[str]:
        """What the record says of the devices."""
        logical = self._tf.config.list_logical_devices()
        return [type(self.strategy).__name__, *(d.name for d in logical)]

    def build(self, build):
        """Builds under the strategy's scope."""
        from lbcheck import tf_keras as optimizers
        from lbcheck.training import updates

        precision = self.keras.mixed_precision
        before = precision.global_policy()
        if self.options.mixed_precision:
            precision.set_global_policy(f"mixed_{self.options.mixed_precision}")
        try:
            with self.strategy.scope():
                workload = build(self.keras, optimizers)
                workload.model.compile(
                    optimizer=workload.optimizer,
                    loss=workload.loss,
                    weighted_metrics=workload.weighted_metrics,
                    steps_per_execution=self.options.steps_per_execution,
                    jit_compile=bool(self.options.xla),
                )
                self.model = workload.model
                self.model.optimizer.build(self.model.trainable_variables)
                self._update = updates.install(
                    self.model, self.layout.microbatches, self.options.seed
                )
        finally:
            precision.set_global_policy(before)

    def fit(self, source, step, epochs, steps, callbacks):
        """Feeds every worker its own part."""
        dataset = self._distribute(
            source.train,
            source,
            self.layout.element,
            step * self.layout.microbatches,
        )
        self.model.fit(
            dataset,
            epochs=epochs,
            steps_per_epoch=steps,
            callbacks=callbacks,
            verbose=0,
        )

    def evaluate(self, source, steps=None):
        """Under the strategy."""
        size = evaluation_size(self.options, self.layout)
        dataset = self._distribute(source.validation, source, size)
        everywhere = size * self.layout.replicas
        metrics = self.model.evaluate(
            dataset,
            steps=steps or math.ceil(source.num_validation / everywhere),
            return_dict=True,
            verbose=0,
        )
        return {n: float(v) for n, v in metrics.items() if n != "loss"}

    def first_bad(self, step):
        """As the train function saw it."""
        return self._update.first_bad()

    def _distribute(self, part, source, size, *start):
        tf = self._tf

        def dataset(context):
            replicas = self.layout.replicas // context.num_input_pipelines
            make = functools.partial(
                part,
                size * replicas,
                *start,
                shard=context.input_pipeline_id,
                num_shards=context.num_input_pipelines,
            )
            data = make()
            if not isinstance(data, tf.data.Dataset):
                data = tf.data.Dataset.from_generator(
                    make,
                    output_signature=self._signature(
                        source, size * replicas, weighted=not start
                    ),
                )
            if replicas > 1:
                data = data.rebatch(size)
            return data.prefetch(tf.data.AUTOTUNE)

        return self.strategy.distribute_datasets_from_function(dataset)

    def _signature(self, source, size, weighted):
        tf = self._tf
        images = tf.TensorSpec((size, *source.image_shape), tf.float32)
        labels = tf.TensorSpec((size,), tf.int32)
        weights = tf.TensorSpec((size,), tf.float32)
        return (images, labels, weights) if weighted else (images, labels)

    def _loss_scale(self, optimizer):
        scale = getattr(optimizer, "_loss_scale", None)
        return list(getattr(scale, "_weights", {}).values())

    def _read(self, variable):
        if isinstance(variable, self._tf.distribute.DistributedValues):
            # Equal on all replicas; to read the variable would take their
            # mean, which need not have the same bits.
            variable = self.strategy.experimental_local_results(variable)[0]
        return variable.numpy()

    def _read_metric(self, variable):
        return self._tf.convert_to_tensor(variable).numpy()


class Keras3Engine(Engine):
    """Keras 3 on one device, whatever its backend."""

    def __init__(self, options):
        super().__init__(options)
        import keras

        self.keras = keras
        self._bad = None
        keras.utils.set_random_seed(options.seed)
        if options.deterministic and keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            tf.config.experimental.enable_op_determinism()
        self.layout = layout(options, 1)

    @property
    def devices(self) -> list[str]:
        """What the record says of the devices."""
        backend = self.keras.backend.backend()
        return [backend, *map(str, self.keras.distribution.list_devices())]

    def build(self, build):
        """Builds with the policy set."""
        from lbcheck import keras3 as optimizers

        before = self.keras.config.dtype_policy()
        if self.options.mixed_precision:
            self.keras.config.set_dtype_policy(
                f"mixed_{self.options.mixed_precision}"
            )
        try:
            workload = build(self.keras, optimizers)
        finally:
            self.keras.config.set_dtype_policy(before)
        self.model = workload.model
        self.model.compile(
            optimizer=workload.optimizer,
            loss=workload.loss,
            weighted_metrics=workload.weighted_metrics,
            steps_per_execution=self.options.steps_per_execution,
            jit_compile=self._jit(),
        )
        self.model.optimizer.build(self.model.trainable_variables)

    def fit(self, source, step, epochs, steps, callbacks):
        """Feeds the whole batch."""
        self.model.fit(
            source.train(self.layout.element, step, 0, 1),
            shuffle=False,
            epochs=epochs,
            steps_per_epoch=steps,
            callbacks=callbacks,
            verbose=0,
        )

    def evaluate(self, source, steps=None):
        """On the one device."""
        size = evaluation_size(self.options, self.layout)
        metrics = self.model.evaluate(
            source.validation(size, 0, 1),
            steps=steps or math.ceil(source.num_validation / size),
            return_dict=True,
            verbose=0,
        )
        return {n: float(v) for n, v in metrics.items() if n != "loss"}

    def watch(self, step, logs):
        """Notes the first call whose mean loss so far is not finite."""
        if self._bad is None and not math.isfinite(logs["loss"]):
            self._bad = self._look(step) or (step - 1, None)

    def first_bad(self, step):
        """What was noticed first: by the loss, an update after the weights
        and at the end of its call, or by the weights at an interval's end."""
        return self._bad or self._look(step)

    def _look(self, step):
        if hasattr(self.model, "jax_state_sync"):
            self.model.jax_state_sync()
        for variable in self._model_variables():
            if not np.isfinite(self._read(variable)).all():
                return step - 1, selection.clean_path(variable)
        return None

    def state(self, with_metrics):
        """The arrays, also in the middle of an epoch on jax."""
        if hasattr(self.model, "jax_state_sync"):
            self.model.jax_state_sync()
        return super().state(with_metrics)

    def _model_variables(self):
        # Beside the weights: the states of random number generators.
        metrics = {id(v) for v in self.model.metrics_variables}
        return [v for v in self.model.variables if id(v) not in metrics]

    def _jit(self):
        if self.options.xla is None:
            return self.keras.backend.backend() == "jax"
        return self.options.xla

    def _read(self, variable):
        return self.keras.ops.convert_to_numpy(variable)


def make(options) -> Engine:
    """The engine that `options.keras` asks for."""
    if options.keras == "tf_keras":
        return TFKerasEngine(options)
    return Keras3Engine(options)
