"""Training in Keras 3, on one device of any backend."""

import math

import keras

from lbcheck import keras3 as optimizers
from lbcheck.optimizers import selection
from lbcheck.support import checks
from lbcheck.support import dtype_policy
from lbcheck.training.backends import engines


class Keras3Engine(engines.Engine):
    """Keras 3 on any backend, trained by Keras's own train function unless a
    batch is divided."""

    keras = keras

    def __init__(self, options):
        super().__init__(options)
        self._bad = None
        keras.utils.set_random_seed(options.seed)
        if options.deterministic and keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            tf.config.experimental.enable_op_determinism()
        self.layout = engines.layout(options, 1)

    @property
    def devices(self) -> list[str]:
        """What the record says of the devices."""
        backend = keras.backend.backend()
        return [backend, *map(str, keras.distribution.list_devices())]

    def build(self, build):
        """Builds with the policy set."""
        with dtype_policy.mixed(keras, self.options.mixed_precision):
            workload = build(keras, optimizers)
        self._compile(workload, xla=self._jit())
        self._install()

    def _training_data(self, source, step):
        start = step * self.layout.microbatches
        return source.train(self.layout.element, start, 0, 1)

    def _evaluation_data(self, part, size):
        return part(size, 0, 1)

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
        bad = checks.first_not_finite(self._model_variables(), self._read)
        return None if bad is None else (step - 1, selection.clean_path(bad))

    def state(self, with_metrics):
        """The arrays, also in the middle of an epoch on jax."""
        if hasattr(self.model, "jax_state_sync"):
            self.model.jax_state_sync()
        return super().state(with_metrics)

    def _install(self):
        """Replaces Keras's train function where a batch is divided."""
        if self.layout.microbatches == 1:
            return
        backend = keras.backend.backend()
        if backend != "jax":
            raise ValueError(
                f"microbatch_size={self.layout.element} needs Keras 3 on "
                f"tensorflow or jax, not on {backend}; leave it out, or set "
                "the environment variable KERAS_BACKEND."
            )
        from lbcheck.training.backends import keras3_jax_updates

        self._update = keras3_jax_updates.Update(
            self.model, self.layout.microbatches
        )
        self._update.install(self.options.steps_per_execution)

    def _model_variables(self):
        # Beside the weights: the states of random number generators.
        metrics = {id(v) for v in self.model.metrics_variables}
        return [v for v in self.model.variables if id(v) not in metrics]

    def _jit(self):
        if self.options.xla is None:
            return keras.backend.backend() == "jax"
        return self.options.xla

    def _read(self, variable):
        return keras.ops.convert_to_numpy(variable)


class Keras3TensorFlowEngine(Keras3Engine):
    """Keras 3 on TensorFlow, which trains as tf_keras does."""

    def watch(self, step, logs):
        """Nothing to do: the train function looks."""

    def first_bad(self, step):
        """As the train function saw it."""
        return self._update.first_bad(step)

    def _training_data(self, source, step):
        start = step * self.layout.microbatches
        return self._stream(source.train, self.layout.element, start)

    def _evaluation_data(self, part, size):
        return self._stream(part, size)

    def _stream(self, *arguments):
        from lbcheck.training import streams

        return streams.dataset(*arguments)

    def _install(self):
        from lbcheck.training.backends import keras3_tensorflow_updates

        self._update = keras3_tensorflow_updates.Update(
            self.model, self.layout.microbatches
        )
        self._update.install(self.options.steps_per_execution)


def make(options) -> Keras3Engine:
    """The engine for the backend of this process."""
    if keras.backend.backend() == "tensorflow":
        return Keras3TensorFlowEngine(options)
    return Keras3Engine(options)
