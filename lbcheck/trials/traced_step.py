"""One traced training loop for all trials of an arm that differ in numbers.

The loop takes whole stretches of updates on the device, through the model's
own train_step. Every variable that the traced functions touch is known from
their graphs, so that setting those back undoes a trial completely, whoever
made them: weights, slots, counters, statistics, metrics, loss scales, random
generators. TensorFlow, under either Keras.
"""

import itertools

import tensorflow as tf
from tensorflow.python.eager import context

from lbcheck.optimizers import evaluation
from lbcheck.support import kerases
from lbcheck.support import processes
from lbcheck.support import random_state
from lbcheck.trials import as_numbers
from lbcheck.trials import guard
from lbcheck.trials import guarded_variable
from lbcheck.trials import initial_values
from lbcheck.trials import user_model as models

_PROGRAMS = 2
"""Traces that an arm keeps; more than one where values cannot be variables."""


def initial(workload):
    """`Initial` with tensors in the order of `models.decided`."""
    return initial_values.Initial(
        workload, lambda model: _read(map(_native, models.decided(model)))
    )


class Traced:
    """The trials of an arm.

    Args:
        workload: `Workload`.
        arm: `Arm`.
        validation: Validation data.
        initial: What `initial` gives.
        by_seed: Whether a build decides by its seed what no variable holds,
            so that every seed has a trace of its own.

    Attributes:
        traces: How often the training step was traced.
    """

    together = False

    def __init__(self, workload, arm, validation, initial, by_seed):
        self._workload = workload
        self._arm = arm
        self._validation = validation
        self._initial = initial
        self._by_seed = by_seed
        self._programs = []
        self._now = None
        self._model_variables = True
        self.traces = 0

    def begin(self, hyperparameters, feed, seed, diagnostics_every) -> None:
        """Sets everything to where this trial begins.

        Args:
            hyperparameters: A trial's hyperparameters.
            feed: Training data.
            seed: Seed of the model's initial weights.
            diagnostics_every: As in the optimizers of this package; other
                than 0, it takes a trace of its own.
        """
        self._now = self._program(
            hyperparameters, feed, seed, diagnostics_every
        )
        self._begin(self._now, hyperparameters, feed, seed)

    def _begin(self, program, hyperparameters, feed, seed):
        taken = self._workload.model_arguments
        split = self._arm.resolve(hyperparameters, taken)
        initial = self._initial.of(split.model, feed, seed)
        program.begin(hyperparameters, initial)

    def _program(self, hyperparameters, feed, seed, diagnostics_every):
        for program in self._programs:
            known = not program.draws and not self._by_seed
            if (
                not diagnostics_every
                and (known or program.seed == seed)
                and program.fits(hyperparameters)
            ):
                return program
        program = self._make(hyperparameters, feed, seed, diagnostics_every)
        self.traces += program.traces
        if not diagnostics_every:
            self._programs = [program, *self._programs][:_PROGRAMS]
        return program

    def _make(self, hyperparameters, feed, seed, diagnostics_every):
        def make(point, model_variables):
            return Program(
                self._workload,
                self._arm,
                self._validation,
                point,
                feed,
                seed,
                diagnostics_every,
                model_variables,
            )

        takes = self._arm.resolve(hyperparameters).model
        if self._model_variables and takes:
            try:
                program = make(hyperparameters, True)
                if any(one.fits(hyperparameters) for one in self._programs):
                    return program  # compared when it was first made
                if as_numbers.agree(
                    self._arm,
                    program,
                    hyperparameters,
                    self._workload.steps,
                    lambda point: make(point, False),
                    lambda one, point: self._seen(one, point, feed, seed),
                ):
                    return program
            except Exception:
                # A mistake of the user's comes again.
                pass
            # What takes them cannot compute with variables, or does another
            # thing with them: numbers, and a trace for each.
            self._model_variables = False
        return make(hyperparameters, False)

    def _seen(self, program, hyperparameters, feed, seed):
        """Metrics of a few examples, and training losses, of some updates."""
        self._begin(program, hyperparameters, feed, seed)
        seen = [program.evaluate([feed.example()])]
        for step in range(min(as_numbers.UPDATES, self._workload.steps)):
            program.model.reset_metrics()  # of which the loss is a mean
            program.train(feed, seed, step, 1)
            seen.append({"loss": float(program.loss)})
        return [*seen, program.evaluate([feed.example()])]

    def __getattr__(self, name):
        return getattr(self._now, name)


class Program:
    """A model and an optimizer whose numbers are variables, traced once.

    Args:
        workload: `Workload`.
        arm: `Arm`.
        validation: Validation data.
        hyperparameters: Hyperparameters of the first trial.
        feed: Training data; others of the same type may come later.
        seed: Of what the build decides that no variable holds.
        diagnostics_every: As in the optimizers of this package.
        model_variables: Whether build_model takes variables.

    Raises:
        ValueError: If the model does not train by `model.optimizer`, or has
            layers that only training builds.

    Attributes:
        model: The user's, with the arm's optimizer.
        optimizer: That optimizer.
        traces: How often the training step was traced.
        seed: As given.
        loss: Of the last update in training.
        draws: Whether it draws random numbers whose state no variable holds.
    """

    def __init__(
        self,
        workload,
        arm,
        validation,
        hyperparameters,
        feed,
        seed,
        diagnostics_every,
        model_variables,
    ):
        self._arm = arm
        self._model_variables = model_variables
        self._take = feed.take
        self.seed = seed
        self.loss = None
        self.traces = 0
        split = arm.resolve(hyperparameters, workload.model_arguments)
        self._names = self._variable_names(hyperparameters)
        self._constants = self._without_variables(hyperparameters)
        self._scalars = {
            name: guarded_variable.variable(
                name, hyperparameters[name], guarded=name in split.model
            )
            for name in self._names
        }
        given = {**hyperparameters, **self._scalars}
        arguments = {n: given.get(n, v) for n, v in split.model.items()}
        self.model = models.create(workload, arguments, seed)
        for argument in arguments.values():
            guard.release(argument)
        models.ready(workload, self.model, feed.example())
        # A call would move variables of TensorFlow that Keras 3 does not know;
        # in tf_keras a trace takes seeds, as none by hand does at this time.
        known = kerases.of(self.model) == "tf_keras"
        make = models.look if known else models.make_variables
        make(self.model, feed.example())
        self._settings = arm, given, workload.steps, diagnostics_every, None
        self.optimizer = models.make_optimizer(self.model, *self._settings)
        self._watched = models.floating(self.model)
        decided = self._decided()
        graphs = self._trace(feed, validation)
        if len(self._decided()) != len(decided):
            raise ValueError(
                f"Model {self.model.name!r} has layers that only training "
                "builds, so that their initial weights cannot be set; build "
                "them in __init__ or build()."
            )
        known = _by_handle([*decided, *self._scalars.values()])
        touched = _by_handle(v for graph in graphs for v in graph.variables)
        # Fused kernels take handles of slots, of which a graph says nothing.
        touched |= _by_handle(map(_native, self.optimizer.variables))
        others = [v for key, v in touched.items() if key not in known]
        self._clean = _read(others)
        self._variables = [*decided, *others]
        self.draws = any(map(_has_stateful_draws, graphs))
        # Some mistakes come to light only when a graph is run.
        self._train(feed.source(0, 0, 1), tf.constant(0))

    def _decided(self):
        """What a build decides, without scalars that layers hold."""
        variables = map(_native, models.decided(self.model))
        own = _by_handle(self._scalars.values())
        return [v for v in variables if id(v.handle) not in own]

    def _variable_names(self, hyperparameters):
        names = self._arm.variable_names(hyperparameters)
        if self._model_variables:
            return names
        model = self._arm.resolve(hyperparameters).model
        return tuple(name for name in names if name not in model)

    def _without_variables(self, hyperparameters):
        return {
            k: v for k, v in hyperparameters.items() if k not in self._names
        }

    def fits(self, hyperparameters) -> bool:
        """Whether these would be traced the same."""
        return (
            self._variable_names(hyperparameters) == self._names
            and self._without_variables(hyperparameters) == self._constants
            and all(
                guarded_variable.fits(variable, hyperparameters[name])
                for name, variable in self._scalars.items()
            )
        )

    def _trace(self, feed, validation):
        self._train = tf.function(
            self._loop,
            input_signature=(feed.signature, tf.TensorSpec((), tf.int32)),
        )
        self._test = self._as_in_fit(lambda batch: self.model.test_step(batch))
        batches = feed.batch_signature, validation.batch_signature
        graphs = [
            self._train.get_concrete_function().graph,
            *(self._test.get_concrete_function(b).graph for b in batches),
        ]
        own = _by_handle(map(_native, self.optimizer.variables))
        if not own.keys() & _by_handle(graphs[0].variables).keys():
            raise models.other_optimizer(self.model)
        return graphs

    def begin(self, hyperparameters, initial) -> None:
        """Sets every variable to where a trial begins.

        Args:
            hyperparameters: Those of the trial, which this program `fits`.
            initial: What the build decides for its seed.
        """
        self._set([*initial, *self._clean])
        for name, variable in self._scalars.items():
            variable.assign(hyperparameters[name])
        for variable, first in models.at_weights(
            self.optimizer, self.model, *self._settings
        ):
            variable.assign(first)
        if self.draws:
            # tf.random.normal and the like keep their state in their kernels.
            context.context().clear_kernel_cache()

    def _set(self, values):
        for variable, value in zip(self._variables, values, strict=True):
            variable.assign(value, read_value=False)

    def train(self, feed, seed: int, first: int, count: int):
        """Takes updates until one is not finite.

        Args:
            feed: Training data.
            seed: Seed of the order of the data.
            first: Updates before these.
            count: Updates to take.

        Returns:
            (updates taken, None if all were finite; else the path of the
            first variable that is not, "" if only the loss is not).
        """
        taken, healthy, finite, self.loss = self._train(
            feed.source(seed, first, count), tf.constant(count)
        )
        if healthy.numpy():
            return int(taken), None
        finite = finite.numpy()
        if finite.all():
            return int(taken), ""
        return int(taken), models.path(self._watched[finite.argmin()])

    def evaluate(self, batches) -> dict[str, float]:
        """What test_step reports on these batches, at least one."""
        before = _read(self._variables)
        self.model.reset_metrics()
        with random_state.kept(), evaluation.evaluation_point(self.optimizer):
            for batch in batches:
                processes.check_interrupted()
                logs = self._test(batch)
        logs = models.flat(logs)
        self._set(before)
        return logs

    def _as_in_fit(self, step):
        """The step traced, by XLA where `fit` does so, whose noise differs."""
        return tf.function(step, jit_compile=self.model.jit_compile or None)

    def _loop(self, source, count):
        self.traces += 1
        train_step = self.model.train_step
        if self.model.jit_compile:
            train_step = self._as_in_fit(train_step)
        step = tf.constant(0)
        healthy = tf.constant(True)
        loss = tf.constant(0.0)
        while (step < count) & healthy:
            logs = train_step(self._take(source, step))
            terms = [tf.cast(v, tf.float32) for v in self._watched]
            losses = _losses(logs)
            loss = tf.add_n([tf.reduce_sum(part) for part in losses])
            terms += losses
            sums = [tf.reduce_sum(term) for term in terms]
            healthy = tf.math.is_finite(tf.add_n(sums))
            if not healthy:  # a sum of finite terms may be too large
                healthy = tf.reduce_all(_finite(terms))
            step += 1
        return step, healthy, _finite(self._watched), loss


def _finite(terms):
    """Whether each is finite throughout, as one tensor."""
    return tf.stack(
        [
            tf.reduce_all(tf.math.is_finite(tf.cast(term, tf.float32)))
            for term in terms
        ]
    )


def _losses(logs):
    """What train_step reports as "loss", or all of it."""
    losses = [logs["loss"]] if "loss" in logs else tf.nest.flatten(logs)
    return [tf.cast(loss, tf.float32) for loss in losses]


def _native(variable):
    """The tf.Variable of a Keras 3 variable."""
    return variable.value if hasattr(variable, "path") else variable


def _by_handle(variables) -> dict:
    """{identity of the resource: variable}; mixed precision wraps some."""
    return {id(variable.handle): variable for variable in variables}


def _read(variables) -> list:
    """Values of variables; reading copies nothing."""
    return [variable.read_value() for variable in variables]


def _has_stateful_draws(graph) -> bool:
    """Whether random operations in a graph have state of their own."""
    found = graph.as_graph_def()
    nodes = [found.node, *(f.node_def for f in found.library.function)]
    return any("seed2" in n.attr for n in itertools.chain.from_iterable(nodes))
