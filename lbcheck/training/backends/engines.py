"""What training needs of a Keras, the same for both.

An engine builds and compiles the workload, feeds `fit`, reads and sets the
state, and says what went non-finite first.
"""

import contextlib
import math
from typing import Any
from typing import NamedTuple

import numpy as np

from lbcheck.optimizers import evaluation
from lbcheck.training import checkpoints

_EVALUATED = "evaluation/"
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


def ghost_batch(options, divided: Layout) -> int | None:
    """Examples that a layer takes together in training; None: no layer."""
    if options.virtual_batch_size == 0:
        return divided.replica_batch
    return options.virtual_batch_size


def check_ghost_batches(options, divided: Layout) -> None:
    """Refuses to train on a part of a ghost batch; inference has none.

    Raises:
        ValueError: virtual_batch_size does not divide what a replica computes
            at once.
    """
    ghost, element = ghost_batch(options, divided), divided.element
    if ghost and element % ghost:
        if options.virtual_batch_size == 0:
            raise ValueError(
                f"virtual_batch_size=0 takes all {ghost} examples of a "
                f"replica together, which microbatch_size={element} divides; "
                f"expected a virtual_batch_size that divides {element}, or no "
                "microbatch_size."
            )
        at_once = (
            f"microbatch_size={element}"
            if options.microbatch_size
            else f"the {element} examples of a replica (batch_size="
            f"{options.batch_size}, {divided.replicas} replicas)"
        )
        raise ValueError(
            f"virtual_batch_size={ghost} does not divide {at_once}."
        )


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


def check_data(options, source) -> None:
    """Refuses a batch that would have examples twice.

    Raises:
        ValueError: The training data are fewer than a batch.
    """
    if options.batch_size > source.num_train:
        raise ValueError(
            f"batch_size={options.batch_size} is more than the "
            f"{source.num_train} training examples."
        )


def parts(source) -> tuple[str, ...]:
    """What of a source is evaluated; see `lbcheck.training.run`."""
    return getattr(source, "parts", ("validation",))


def check_train_step(model, model_class, microbatches: int) -> None:
    """Refuses to divide what only the model knows how to do.

    Args:
        model: The workload's.
        model_class: `Model` of its Keras.
        microbatches: Passes through the network in one update.

    Raises:
        ValueError: Several, and the model has a train_step of its own.
    """
    if (
        microbatches > 1
        and type(model).train_step is not model_class.train_step
    ):
        raise ValueError(
            f"{type(model).__name__} has its own train_step, which cannot be "
            "divided into microbatches; override compute_loss instead, or "
            "leave microbatch_size out."
        )


class Engine:
    """Common part; see the module docstring.

    Args:
        options: `Options` of the run.
    """

    keras = None
    """The Keras module, set by the subclass."""
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
        self.model.fit(
            self._training_data(source, step),
            shuffle=False,  # the source has done it
            epochs=epochs,
            steps_per_epoch=steps,
            callbacks=callbacks,
            verbose=0,
        )

    def evaluate(self, source, part: str) -> dict[str, float]:
        """Metrics over all examples of a part; without "loss", since the
        examples that fill the last batch count in it."""
        size = evaluation_size(self.options, self.layout)
        everywhere = size * self.layout.replicas
        with self.evaluated():
            metrics = self.model.evaluate(
                self._evaluation_data(getattr(source, part), size),
                steps=math.ceil(getattr(source, f"num_{part}") / everywhere),
                return_dict=True,
                verbose=0,
            )
        return {n: float(v) for n, v in metrics.items() if n != "loss"}

    @contextlib.contextmanager
    def evaluated(self):
        """The weights that are measured and handed on, for a `with` block.

        Those of the optimizer's evaluation point, or the averages of its
        `use_ema`; afterwards the model has its own again, bit by bit.
        """
        variables = self.model.trainable_variables
        with evaluation.evaluation_point(self.model.optimizer):
            own = []
            if any(part.use_ema for part in self._parts()):
                own = [self._read(variable) for variable in variables]
                self._average(variables)
                for variable in variables:
                    # jax evaluates in the memory of the weights, which here
                    # is that of the averages.
                    variable.assign(np.array(self._read(variable)))
            try:
                yield
            finally:
                for variable, value in zip(variables, own):
                    variable.assign(value)

    def meet(self) -> None:
        """Waits until all workers are here; alone it does nothing."""

    def texts(self, text: str) -> list[str]:
        """The texts that all workers give here, at least their own."""
        return [text]

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
        evaluated = self._evaluated_state()  # notes the weights of training
        state = {name: self._read(v) for name, v in self.variables().items()}
        state |= evaluated
        if with_metrics:
            state |= {
                n: self._read_metric(v) for n, v in self._metrics().items()
            }
        return state

    def restore(self, step: int, arrays: dict, source):
        """Sets the state; gives back the arrays of metrics, if any."""
        metrics = {n: a for n, a in arrays.items() if n.startswith(_METRIC)}
        state = {
            n: a
            for n, a in arrays.items()
            if n not in metrics and not n.startswith(_EVALUATED)
        }
        where = f"The checkpoint after {step} updates"
        checkpoints.assign(self.variables(), state, where)
        if metrics:
            # Only then do they have variables.
            data = self._training_data(source, step)
            self.model.evaluate(data, steps=1, verbose=0)
        return metrics

    def assign_metrics(self, arrays) -> None:
        """Lets metrics go on from what `state` read."""
        checkpoints.assign(self._metrics(), arrays, "The checkpoint's metrics")

    def learning_rate(self) -> float:
        """The rate of the last update that was made; float16 skips some."""
        optimizer = self.model.optimizer
        optimizer = getattr(optimizer, "inner_optimizer", optimizer)
        rate = optimizer._learning_rate
        if hasattr(rate, "get_config"):  # a schedule
            # In tf_keras `iterations` also counts those that were skipped.
            count = getattr(optimizer, "update_count", optimizer.iterations)
            made = int(self._read(count))
            return float(rate(max(made - 1, 0)))
        return float(self._read(rate))

    def _evaluated_state(self):
        """The model's arrays as they are evaluated; {} where they are those
        of training."""
        if not any(
            part.use_ema
            or getattr(part, "at_evaluation_point", None) is not None
            for part in self._parts()
        ):
            return {}
        with self.evaluated():
            return {
                f"{_EVALUATED}{index}": self._read(variable)
                for index, variable in enumerate(self._model_variables())
            }

    def _parts(self):
        """The optimizer without its loss scale; all of Keras's of several."""
        optimizer = self.model.optimizer
        optimizer = getattr(optimizer, "inner_optimizer", optimizer)
        return getattr(optimizer, "optimizers", [optimizer])

    def _metrics(self):
        return {
            f"{_METRIC}{i}/{j}": variable
            for i, metric in enumerate(self.model.metrics)
            for j, variable in enumerate(metric.variables)
        }

    def _training_data(self, source, step):
        """What `fit` takes: the stream from the update after `step` on."""
        raise NotImplementedError

    def _evaluation_data(self, part, size):
        """What `evaluate` takes, `size` examples a replica."""
        raise NotImplementedError

    def _compile(self, workload, xla):
        self.model = workload.model
        self.model.compile(
            optimizer=workload.optimizer,
            loss=workload.loss,
            weighted_metrics=workload.weighted_metrics,
            steps_per_execution=self.options.steps_per_execution,
            jit_compile=xla,
        )
        optimizer = self.model.optimizer
        optimizer.build(self.model.trainable_variables)
        # `fit` would give the averages of `use_ema` to the model whenever it
        # ends, which is also where a run is resumed.
        self._average = optimizer.finalize_variable_values
        optimizer.finalize_variable_values = lambda variables: None
        check_train_step(self.model, self.keras.Model, self.layout.microbatches)

    def _model_variables(self):
        return self.model.weights

    def _loss_scale(self, optimizer):
        return []

    def _read(self, variable):
        raise NotImplementedError

    def _read_metric(self, variable):
        return self._read(variable)


def make(options) -> Engine:
    """The engine that `options.keras` asks for."""
    if options.keras == "tf_keras":
        from lbcheck.training.backends.tf_keras import TFKerasEngine

        return TFKerasEngine(options)
    from lbcheck.training.backends import keras3

    return keras3.make(options)
