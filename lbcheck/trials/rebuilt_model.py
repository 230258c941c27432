"""Trials with a new model for each: of the torch backend of Keras 3, of models
with `run_eagerly`, whose step cannot be traced, and on JAX of those that
`shared_step.why_not` names.

There a number that is no argument of the compiled step is a constant of it,
so that other numbers are another step in any case; Keras compiles it.
"""

import math
import warnings

from lbcheck.optimizers import evaluation
from lbcheck.support import checks
from lbcheck.support import processes
from lbcheck.support import random_state
from lbcheck.trials import user_model as models


class Rebuilt:
    """A model that is built anew for every trial; in use as a `Program`."""

    together = False

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
        """As `Program.train`, but statistics are looked at in the end only."""
        healthy, taken, before = True, 0, self._counted()
        for data in feed.updates(seed, first, count):
            processes.check_interrupted()
            if models.on_tensorflow(self.model):
                logs = self.model.train_step(data)
            else:
                logs = self.model.train_on_batch(*data, return_dict=True)
            healthy = math.isfinite(float(logs.get("loss", 0.0)))
            taken += 1
            if first + taken == 1 and before and self._counted() == before:
                raise models.other_optimizer(self.model)
            if not healthy:
                break
        bad = checks.first_not_finite(
            models.floating(self.model), lambda v: v.numpy().astype("float32")
        )
        if bad is not None:
            return taken, models.path(bad)
        return taken, None if healthy else ""

    def _counted(self):
        """What the optimizer counts; [] of one that may leave out updates."""
        if self.model.optimizer is not self.optimizer:
            return []  # loss scaling
        return [v.numpy() for v in self.optimizer.variables if not len(v.shape)]

    def evaluate(self, batches) -> dict[str, float]:
        """As `Program.evaluate`."""
        state = self.model.non_trainable_variables
        before = [variable.numpy() for variable in state]
        with (
            random_state.kept(),
            evaluation.evaluation_point(self.optimizer),
            warnings.catch_warnings(),
        ):
            # Keras warns at the end of any stream of unknown length.
            warnings.filterwarnings("ignore", "Your input ran out of data")
            logs = self._evaluated(batches)
        for variable, value in zip(state, before):
            variable.assign(value)
        return models.flat(logs)

    def _evaluated(self, batches):
        if not models.on_tensorflow(self.model):
            return self.model.evaluate(
                (batch for batch in batches), return_dict=True, verbose=0
            )
        # Keras takes no generator of what are no tuples.
        self.model.reset_metrics()
        for batch in batches:
            processes.check_interrupted()
            logs = self.model.test_step(batch)
        return logs
