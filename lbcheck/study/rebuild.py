"""Trials of Keras 3 on the jax and torch backends: a new model for each.

There a number that is no argument of the compiled step is a constant of it,
so that other numbers are another step in any case; `fit` compiles it.
"""

import math

import keras
import numpy as np

from lbcheck.study import model as models


class Rebuilt:
    """A model that is built anew for every trial; in use as a `Program`."""

    def __init__(self, workload, arm):
        self._workload = workload
        self._arm = arm
        self.model = self.optimizer = None
        self.traces = 0

    def begin(self, hyperparameters, feed, seed, diagnostics_every) -> None:
        """Builds the model and the optimizer of a trial."""
        workload, arm = self._workload, self._arm
        split = arm.resolve(hyperparameters, workload.model_arguments)
        self.model = models.build(workload, split.model, seed, feed.example())
        self.optimizer = models.make_optimizer(
            self.model, arm, hyperparameters, workload.steps, diagnostics_every
        )
        self.traces += 1

    def train(self, feed, seed, first, count):
        """As `Program.train`, by `fit`."""
        watch = _Watch()
        self.model.fit(
            feed.updates(seed, first, count),
            steps_per_epoch=count,
            shuffle=False,  # the feed has done it
            callbacks=[watch],
            verbose=0,
        )
        for variable in models.floating(self.model):
            array = keras.ops.convert_to_numpy(variable).astype("float32")
            if not np.isfinite(array).all():
                return watch.taken, models.path(variable)
        return watch.taken, None if watch.healthy else ""

    def evaluate(self, feed, count=None) -> dict[str, float]:
        """As `Program.evaluate`."""
        state = self.model.non_trainable_variables
        before = [keras.ops.convert_to_numpy(v) for v in state]
        logs = self.model.evaluate(
            feed.batches(count), return_dict=True, verbose=0
        )
        for variable, value in zip(state, before):
            variable.assign(value)
        return logs


class _Watch(keras.callbacks.Callback):
    """Counts updates and stops at the first whose loss is not finite."""

    def __init__(self):
        super().__init__()
        self.taken = 0
        self.healthy = True

    def on_train_batch_end(self, batch, logs=None):
        """Looks at the mean of the losses so far."""
        self.taken += 1
        loss = (logs or {}).get("loss", 0.0)
        self.healthy = math.isfinite(float(loss))
        self.model.stop_training = not self.healthy
