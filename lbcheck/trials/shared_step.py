"""One compiled step for all trials of an arm, several at once: Keras 3 on JAX.

Whatever differs between trials is an argument of the step: hyperparameters,
the rate of each update, weights, state, seeds and the order of the data. A
whole stretch of updates is one loop on the device, which every trial leaves
when something is not finite; `vmap` makes it one of several trials.

XLA's compiler for CPUs writes plain loops for convolutions inside of a loop,
20 times slower than those outside, and `vmap` makes grouped ones of them: there
a model that has some takes its updates one call at a time, and each of several
trials has a thread that calls the same compiled step.
"""

import os
import sys
from concurrent import futures
from typing import Any
from typing import NamedTuple

import jax
import keras
import numpy as np
from jax import numpy as jnp

from lbcheck.optimizers import evaluation
from lbcheck.support import checks
from lbcheck.support import processes
from lbcheck.trials import as_numbers
from lbcheck.trials import content
from lbcheck.trials import guard
from lbcheck.trials import initial_values
from lbcheck.trials import scalar_argument
from lbcheck.trials import user_model as models

_PROGRAMS = 4
"""Compiled steps that an arm keeps: of one trial and of several, and more
where values cannot be arguments."""


class State(NamedTuple):
    """Where a trial is; with a leading axis, several.

    Attributes:
        taken: Updates taken.
        healthy: Whether all was finite so far.
        weights: Values of the model's trainable variables.
        others: Of its others: statistics, seeds.
        slots: Of the optimizer's variables.
        loss: Of the last update in training.
    """

    taken: Any
    healthy: Any
    weights: list
    others: list
    slots: list
    loss: Any


def why_not(model, feeds) -> str | None:
    """What keeps trials of a model from sharing a step; None: nothing."""
    if model.run_eagerly or not model.jit_compile:
        return "the model is not compiled"
    if type(model).train_step is not keras.Model.train_step:
        return "the model has a train_step of its own"
    if keras.distribution.distribution() is not None:
        return "keras.distribution is set"
    if any(feed.count is None for feed in feeds):
        return "the data come in batches, not in arrays"
    if any(leaf.dtype.kind in "SU" for f in feeds for leaf in f.leaves()):
        return "the data hold texts"
    return None


def why_not_by(arm, steps: int) -> str | None:
    """What keeps trials by an arm from sharing a step; None: nothing."""
    (point,) = arm.space.points(0, 0, 1, steps)
    free = {*arm.variable_names(point), *arm.resolve(point).schedule}
    parameters = arm.space.parameters
    kept = [
        name
        for name in arm.space.searched
        if name not in free and not parameters[name].choices
    ]
    if kept:
        return f"its optimizer takes {', '.join(kept)} as a constant"
    optimizer = arm.make("keras3", point, steps)
    if getattr(optimizer, "use_ema", False):
        return "its optimizer averages weights"
    if hasattr(optimizer, "_optimizer_map"):
        return "its optimizer consists of several"
    return None


class Shared:
    """The trials of an arm.

    Args:
        workload: `Workload`.
        arm: `Arm`.
        initial: What `initial` gives.

    Attributes:
        traces: How many steps were compiled.
    """

    together = True

    def __init__(self, workload, arm, initial):
        self._workload = workload
        self._arm = arm
        self._initial = initial
        self._programs = []
        self._now = None
        self._model_arguments = True
        self.traces = 0

    def begin(self, points, feed, seeds, diagnostics_every) -> list[int]:
        """Sets as many of the trials that go together to where they begin.

        Args:
            points: Hyperparameters of each.
            feed: Training data of all.
            seeds: Seed of each.
            diagnostics_every: As in the optimizers of this package; other
                than 0, it takes a step of its own.

        Returns:
            The places of those trials, the first among them.
        """
        program = self._program(points[0], feed, len(points), diagnostics_every)
        fitting = [i for i, point in enumerate(points) if program.fits(point)]
        places = fitting[: program.width]
        self._begin(
            program,
            [points[i] for i in places],
            feed,
            [seeds[i] for i in places],
        )
        self._now = program
        return places

    def _program(self, point, feed, count, diagnostics_every):
        for program in self._programs:
            if not diagnostics_every and program.serves(count, point, feed):
                return program
        program = self._make(point, feed, count, diagnostics_every)
        self.traces += 1
        if not diagnostics_every:
            self._programs = [program, *self._programs][:_PROGRAMS]
        return program

    def _make(self, point, feed, count, diagnostics_every):
        def make(point, model_arguments, count):
            return Program(
                self._workload,
                self._arm,
                point,
                feed,
                count,
                diagnostics_every,
                model_arguments,
            )

        taken = self._workload.model_arguments
        if self._model_arguments and self._arm.resolve(point, taken).model:
            try:
                program = make(point, True, count)
                if any(one.fits(point) for one in self._programs):
                    return program  # compared when it was first made
                if as_numbers.agree(
                    self._arm,
                    program,
                    point,
                    self._workload.steps,
                    lambda one: make(one, False, 1),
                    lambda found, one: self._seen(found, one, feed),
                ):
                    return program
            except Exception:
                # A mistake of the user's comes again.
                pass
            # What takes them cannot compute with arguments, or does another
            # thing with them: numbers, and a step for each.
            self._model_arguments = False
        return make(point, False, count)

    def _begin(self, program, points, feed, seeds):
        taken = self._workload.model_arguments
        initial = [
            self._initial.of(self._arm.resolve(point, taken).model, feed, seed)
            for point, seed in zip(points, seeds, strict=True)
        ]
        program.begin(points, feed, seeds, initial)

    def _seen(self, program, point, feed):
        """Metrics of a few examples, and training losses, of some updates."""
        self._begin(program, [point], feed, [0])
        seen = program.evaluate([feed.example()])[:1]
        for step in range(min(as_numbers.UPDATES, self._workload.steps)):
            program.train(feed, step, 1)
            seen.append({"loss": program.loss})
        return seen + program.evaluate([feed.example()])[:1]

    def finish(self):
        """Nothing: no optimizer here averages weights; see `why_not_by`."""

    def __getattr__(self, name):
        return getattr(self._now, name)


def initial(workload):
    """`Initial` with a model's (weights, other values).

    Copies: Keras's own steps delete the values of what models share.
    """
    return initial_values.Initial(
        workload,
        lambda model: [
            [jnp.array(value) for value in _values(variables)]
            for variables in (
                model.trainable_variables,
                model.non_trainable_variables,
            )
        ],
    )


class Program:
    """A model and an optimizer whose numbers are arguments, compiled once.

    Args:
        workload: `Workload`.
        arm: `Arm`.
        hyperparameters: Hyperparameters of the first trial.
        feed: Training data.
        count: Trials at once, at least 1; fewer where memory is short.
        diagnostics_every: As in the optimizers of this package.
        model_arguments: Whether build_model takes scalars.

    Attributes:
        model: The user's, with the arm's optimizer.
        optimizer: That optimizer.
        width: Trials at once.
    """

    def __init__(
        self,
        workload,
        arm,
        hyperparameters,
        feed,
        count,
        diagnostics_every,
        model_arguments,
    ):
        self._arm, self._steps = arm, workload.steps
        self._count = count
        self._chunk = min(workload.steps, feed.longest)
        self._shapes = _shapes(feed)
        self._model_arguments = model_arguments
        split = arm.resolve(hyperparameters, workload.model_arguments)
        self._of_model = set(split.model)
        self._names = self._argument_names(hyperparameters)
        self._constants = self._without_arguments(hyperparameters)
        self._rates = scalar_argument.Rates()
        self._scalars = {
            name: self._scalar(name, hyperparameters[name])
            for name in self._names
        }
        given = {**hyperparameters, **self._scalars}
        arguments = {name: given[name] for name in split.model if name in given}
        self.model = models.create(workload, split.model | arguments, 0)
        for argument in arguments.values():
            guard.release(argument)
        models.ready(workload, self.model, feed.example())
        models.make_variables(self.model, feed.example())
        self._settings = (
            arm,
            given,
            workload.steps,
            diagnostics_every,
            self._rates,
        )
        self.optimizer = models.make_optimizer(self.model, *self._settings)
        self.model.reset_metrics()
        self._metrics = _values(self.model.metrics_variables)
        self._slots = _values(self.model.optimizer.variables)
        self._compile(hyperparameters, feed)

    def _scalar(self, name, value):
        guarded = name in self._of_model
        kind = scalar_argument.Guarded if guarded else scalar_argument.Scalar
        return kind(value, name=name)

    def _argument_names(self, hyperparameters):
        """Hyperparameters that are arguments; `Rates` has the schedule's."""
        left = set(self._arm.resolve(hyperparameters).schedule)
        if not self._model_arguments:
            left |= self._of_model
        names = self._arm.variable_names(hyperparameters)
        return tuple(name for name in names if name not in left)

    def _without_arguments(self, hyperparameters):
        schedule = self._arm.resolve(hyperparameters).schedule
        return {
            k: v
            for k, v in hyperparameters.items()
            if k not in self._names and k not in schedule
        }

    def fits(self, hyperparameters) -> bool:
        """Whether these would be compiled the same."""
        return (
            self._argument_names(hyperparameters) == self._names
            and self._without_arguments(hyperparameters) == self._constants
            and all(
                scalar_argument.fits(scalar, hyperparameters[name])
                for name, scalar in self._scalars.items()
            )
        )

    def serves(self, count: int, hyperparameters, feed) -> bool:
        """Whether it is for so many trials on such data, this one of them."""
        enough = self._count == 1 if count == 1 else self._count >= count
        same = self._shapes == _shapes(feed)
        return enough and same and self.fits(hyperparameters)

    def _compile(self, hyperparameters, feed):
        """Compiles the step for as many trials as there is memory for."""
        one = (
            _begun(
                _values(self.model.trainable_variables),
                self._own(_values(self.model.non_trainable_variables)),
                self._slots,
            ),
            self._given(hyperparameters),
            jnp.asarray(feed.indices(0, 0, self._chunk)),
        )
        rest = feed.placed(jnp.asarray), jnp.int32(0), jnp.int32(1)
        self.width, free = self._count, _free_memory()
        while True:
            self._run = self._compiled(one, rest)
            needed = _needed(self._run) * self.width // self._breadth
            if needed <= free or self.width == 1:
                break
            self.width = max(1, int(self.width * free / needed))
            _say(
                f"Arm {self._arm.name}: {self._count} trials at once take "
                f"{needed / 2**30:.2g} GiB, of which {free / 2**30:.2g} are "
                f"free; {self.width} at once."
            )
        self._test = jax.jit(self._together(self._tested, 4, 1))

    def _compiled(self, one, rest):
        """The compiled stretch, or the compiled update; see the top."""
        self._whole, self._breadth = True, self.width
        if jax.default_backend() == "cpu":
            lowered = jax.jit(self._next).lower(*one, *rest)
            if "stablehlo.convolution" in lowered.as_text():
                self._whole, self._breadth = False, 1
                return lowered.compile()
        arguments = *(_wide(part, self._breadth) for part in one), *rest
        together = self._together(self._stretch, 3, 3)
        return jax.jit(together).lower(*arguments).compile()

    def _together(self, function, own, common):
        """The function of several trials, if a call is of several.

        Args:
            function: Of `own` arguments that are a trial's own and of
                `common` ones.
        """
        if self._breadth == 1:
            return function
        return jax.vmap(function, (0,) * own + (None,) * common)

    def _stretch(self, state, given, indices, data, base, stop):
        """State after the update `stop`, or after one that is not finite."""
        return jax.lax.while_loop(
            lambda state: (state.taken < stop) & state.healthy,
            lambda state: self._update(state, given, indices, data, base),
            state,
        )

    def _next(self, state, given, indices, data, base, stop):
        """State after one update."""
        del stop
        return self._update(state, given, indices, data, base)

    def _update(self, state, given, indices, data, base):
        chosen = indices[state.taken - base]
        batch = content.tree_map(lambda array: array[chosen], data)
        with self._arguments(given):
            # Metrics begin anew, so that none is computed but the loss.
            logs, (weights, others, slots, _) = self.model.train_step(
                (
                    state.weights,
                    self._all(state.others),
                    state.slots,
                    self._metrics,
                ),
                batch,
            )
        others = self._own(others)
        terms = [*filter(_is_floating, [*weights, *others]), logs["loss"]]
        # 0 times a term that is not finite is nan.
        sums = [jnp.sum(term.astype("float32") * 0) for term in terms]
        healthy = jnp.isfinite(sum(sums))
        loss = jnp.sum(logs["loss"].astype("float32"))
        return State(state.taken + 1, healthy, weights, others, slots, loss)

    def _tested(self, state, given, others, metrics, batch):
        with self._arguments(given):
            logs, (_, others, metrics) = self.model.test_step(
                (self._evaluated(state), self._all(others), metrics), batch
            )
        return logs, self._own(others), metrics

    def _evaluated(self, state):
        """The weights to evaluate."""
        variables = self.model.trainable_variables
        pairs = [
            *zip(variables, state.weights, strict=True),
            *zip(self.model.optimizer.variables, state.slots, strict=True),
        ]
        values = {id(variable): value for variable, value in pairs}

        def read(thing, dtype=None):
            value = values.get(id(thing), thing)
            return value if dtype is None else value.astype(dtype)

        return evaluation.weights(self.optimizer, variables, read)

    def _arguments(self, given):
        scalars, rates = given
        holders = [*self._scalars.values(), self._rates]
        return scalar_argument.given(holders, [*scalars, rates])

    def _given(self, hyperparameters):
        """(scalars, rates by update) of a trial."""
        steps = np.arange(self._steps)
        schedule = self._arm.schedule_of(hyperparameters, self._steps)
        rates = np.broadcast_to(schedule(steps), steps.shape)
        scalars = [
            jnp.asarray(hyperparameters[name], scalar.dtype)
            for name, scalar in self._scalars.items()
        ]
        return scalars, jnp.asarray(rates, "float32")

    def _own(self, others):
        """Values of the model's other variables, without scalars' places."""
        return [
            value
            for variable, value in zip(
                self.model.non_trainable_variables, others, strict=True
            )
            if not isinstance(variable, scalar_argument.Scalar)
        ]

    def _all(self, others):
        """The same with the places of scalars that layers hold."""
        rest = iter(others)
        return [
            variable.value
            if isinstance(variable, scalar_argument.Scalar)
            else next(rest)
            for variable in self.model.non_trainable_variables
        ]

    def begin(self, points, feed, seeds, initial) -> None:
        """Sets the state to where trials begin, no more than `width`.

        Args:
            points: Hyperparameters, which this program `fits`.
            feed: Training data.
            seeds: Seed of each trial.
            initial: (weights, others) that the build decides for each seed.
        """
        self._trials = len(points)
        # A place that is left over trains the last trial again.
        more = self._breadth - len(points)
        points = [*points, *points[-1:] * more]
        self._seeds = [*seeds, *seeds[-1:] * more]
        initial = [*initial, *initial[-1:] * more]
        self._data, self._base = feed.placed(jnp.asarray), None
        self._states = self._by_call(
            [
                _begun(weights, others, self._slots_at(weights))
                for weights, others in initial
            ]
        )
        self._points = self._by_call([self._given(point) for point in points])

    def _slots_at(self, weights):
        """What the optimizer's variables begin with at these weights."""
        for variable, value in zip(self.model.trainable_variables, weights):
            variable.assign(value)
        pairs = models.at_weights(self.optimizer, self.model, *self._settings)
        begun = {id(variable): first.value for variable, first in pairs}
        return [
            begun.get(id(variable), value)
            for variable, value in zip(
                self.model.optimizer.variables, self._slots, strict=True
            )
        ]

    def _by_call(self, parts):
        """Parts of all trials as the parts of each call, stacked."""
        if self._breadth == 1:
            return parts
        return [jax.tree.map(lambda *leaves: jnp.stack(leaves), *parts)]

    def train(self, feed, first: int, count: int):
        """Takes updates; of a trial until one is not finite.

        Args:
            feed: Training data.
            first: Updates before these.
            count: Updates to take.

        Returns:
            For each trial (updates taken, None if all were finite; else the
            path of the first variable that is not, "" if only the loss is
            not).
        """
        base = first // self._chunk * self._chunk
        if base != self._base:
            self._indices = self._by_call(
                [
                    jnp.asarray(feed.indices(seed, base, self._chunk))
                    for seed in self._seeds
                ]
            )
            self._base = base
        bounds = jnp.int32(base), jnp.int32(first + count)

        def trained(state, point, indices):
            for _ in range(1 if self._whole else count):
                processes.check_interrupted()
                state = self._run(state, point, indices, self._data, *bounds)
                if not np.any(state.healthy):
                    break
            return state

        before = self._of_each("taken")
        with futures.ThreadPoolExecutor(len(self._states)) as threads:
            self._states = list(
                threads.map(trained, self._states, self._points, self._indices)
            )
        taken = self._of_each("taken") - before
        return [(int(taken[i]), self._bad(i)) for i in range(self._trials)]

    def _of_each(self, name):
        """A number of the state of each trial."""
        return np.hstack([getattr(state, name) for state in self._states])

    def _of(self, calls, place):
        """What a trial has of the parts of each call."""
        call, place = divmod(place, self._breadth)
        if self._breadth == 1:
            return calls[call]
        return jax.tree.map(lambda leaf: leaf[place], calls[call])

    @property
    def loss(self) -> float:
        """That of the first trial's last update in training."""
        return float(self._of_each("loss")[0])

    def _bad(self, place):
        """What is not finite; see `train`."""
        if self._of_each("healthy")[place]:
            return None
        self.show(place)
        bad = checks.first_not_finite(
            models.floating(self.model), lambda v: v.numpy().astype("float32")
        )
        return "" if bad is None else models.path(bad)

    def show(self, place: int) -> None:
        """Gives the model and the optimizer the values of a trial."""
        state = self._of(self._states, place)
        others = self.model.non_trainable_variables
        for variables, values in (
            (self.model.trainable_variables, state.weights),
            (others, self._all(state.others)),
            (self.model.optimizer.variables, state.slots),
        ):
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)

    def diagnostics(self) -> list[dict]:
        """What the optimizer recorded last, by trial."""
        found = []
        for place in range(self._trials):
            self.show(place)
            found.append(self.optimizer.diagnostics())
        return found

    def evaluate(self, batches) -> list[dict[str, float]]:
        """What test_step reports on these batches, at least one, by trial."""
        calls = range(len(self._states))
        others = [state.others for state in self._states]
        metrics = self._by_call([self._metrics] * self._breadth) * len(calls)
        logs = [None for _ in calls]
        for batch in batches:
            processes.check_interrupted()
            for i in calls:
                logs[i], others[i], metrics[i] = self._test(
                    self._states[i],
                    self._points[i],
                    others[i],
                    metrics[i],
                    batch,
                )
        logs = jax.tree.map(np.asarray, logs)
        return [models.flat(self._of(logs, i)) for i in range(self._trials)]


def _begun(weights, others, slots):
    start = jnp.int32(0), jnp.bool_(True)
    return State(*start, weights, others, slots, jnp.float32(0))


def _values(variables):
    return [variable.value for variable in variables]


def _shapes(feed):
    """Of the arrays, which may have another length with another seed."""
    return [leaf.shape for leaf in feed.leaves()]


def _is_floating(array):
    return jnp.issubdtype(array.dtype, jnp.floating)


def _wide(tree, width):
    """Types of a trial's arguments, or of those of several."""
    more = (width,) if width > 1 else ()
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(more + leaf.shape, leaf.dtype), tree
    )


def _needed(compiled) -> int:
    """Bytes that a compiled function works in."""
    found = compiled.memory_analysis()
    return (
        found.argument_size_in_bytes
        + found.output_size_in_bytes
        + found.temp_size_in_bytes
    )


def _free_memory() -> int:
    """Bytes that are free where the step runs."""
    stats = jax.devices()[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")


def _say(text):
    print(text, file=sys.stderr, flush=True)
