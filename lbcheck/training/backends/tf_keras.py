"""Training in tf_keras, under any tf.distribute strategy."""

import tensorflow as tf
import tf_keras

from lbcheck import tf_keras as optimizers
from lbcheck.support import dtype_policy
from lbcheck.training import strategy
from lbcheck.training import streams
from lbcheck.training.backends import engines
from lbcheck.training.backends import tf_keras_updates


class TFKerasEngine(engines.Engine):
    """tf_keras under any strategy."""

    keras = tf_keras

    def __init__(self, options):
        super().__init__(options)
        if options.deterministic:
            tf.config.experimental.enable_op_determinism()
        tf_keras.utils.set_random_seed(options.seed)
        tf_keras.backend.experimental.enable_tf_random_generator()
        self.strategy = strategy.make(options.distribution, options.tpu)
        self.multi_worker = strategy.is_multi_worker(self.strategy)
        self.writes = strategy.is_chief(self.strategy)
        self.layout = engines.layout(
            options, self.strategy.num_replicas_in_sync
        )
        engines.evaluation_size(options, self.layout)

    @property
    def devices(self) -> list[str]:
        """What the record says of the devices."""
        logical = tf.config.list_logical_devices()
        return [type(self.strategy).__name__, *(d.name for d in logical)]

    def build(self, build):
        """Builds under the strategy's scope."""
        precision = self.options.mixed_precision
        with dtype_policy.mixed(tf_keras, precision), self.strategy.scope():
            workload = build(tf_keras, optimizers)
            self._compile(workload, xla=bool(self.options.xla))
            self._update = tf_keras_updates.Update(
                self.model, self.layout.microbatches, self.options.seed
            )
            self._update.install(self.options.steps_per_execution)

    def _training_data(self, source, step):
        start = step * self.layout.microbatches
        return self._distribute(source.train, self.layout.element, start)

    def _evaluation_data(self, part, size):
        return self._distribute(part, size)

    def functions(self, source) -> dict:
        """{"train" or the part that is evaluated: concrete function}."""
        data = iter(self._training_data(source, 0))
        train = self.model.make_train_function()
        found = {"train": train.get_concrete_function(data)}
        size = engines.evaluation_size(self.options, self.layout)
        evaluate = self.model.make_test_function()
        for part in engines.parts(source):
            data = iter(self._evaluation_data(getattr(source, part), size))
            found[part] = evaluate.get_concrete_function(data)
        return found

    def tpu_problems(self, source) -> list[str]:
        """See `lbcheck.training.tpu_problems`."""
        from lbcheck.training.backends import tpu_programs

        return [
            f"{name}: {problem}"
            for name, function in self.functions(source).items()
            for problem in tpu_programs.problems(function)
        ]

    def meet(self):
        """By a sum over all workers."""
        if self.multi_worker:
            ones = self.strategy.run(tf.function(lambda: tf.ones(())))
            self.strategy.reduce("SUM", ones, axis=None).numpy()

    def texts(self, text):
        """Of all replicas, each of which has its worker's."""
        if not self.multi_worker:
            return [text]
        ours = tf.constant([*text.encode(), 0])
        each = self.strategy.run(tf.function(lambda: tf.identity(ours)))
        codes = self.strategy.gather(each, axis=0).numpy()
        return bytes(codes.tolist()).decode().split("\0")[:-1]

    def first_bad(self, step):
        """As the train function saw it."""
        return self._update.first_bad(step)

    def _distribute(self, part, size, *start):
        def dataset(context):
            pipelines = context.num_input_pipelines
            return streams.dataset(
                part,
                size,
                *start,
                replicas=self.layout.replicas // pipelines,
                shard=context.input_pipeline_id,
                num_shards=pipelines,
            )

        return self.strategy.distribute_datasets_from_function(dataset)

    def _loss_scale(self, optimizer):
        scale = getattr(optimizer, "_loss_scale", None)
        return list(getattr(scale, "_weights", {}).values())

    def _read(self, variable):
        if isinstance(variable, tf.distribute.DistributedValues):
            # Equal on all replicas; to read the variable would take their
            # mean, which need not have the same bits.
            variable = self.strategy.experimental_local_results(variable)[0]
        return variable.numpy()

    def _read_metric(self, variable):
        return tf.convert_to_tensor(variable).numpy()
