"""What the optimizers of Keras 3 and tf_keras really compute.

Each is stepped under one condition after another and compared with its
paper's float64 reference; where they part, the reading that it follows names
the term. Each backend of Keras 3 is a process of its own.
"""

import contextlib
import importlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any
from typing import NamedTuple

import numpy as np

from lbcheck.conform import subjects
from lbcheck.conform import trajectory
from lbcheck.support import kerases

BACKENDS = ("tensorflow", "jax", "torch")
EVERY = "every optimizer"
SHAPES = {
    "dense/kernel": (6, 5),
    "more/kernel": (4, 3),
    "dense/bias": (5,),
    "norm/gamma": (3,),
    "sequence/kernel": (3, 2, 4),
    "image/kernel": (2, 3, 2, 4),
    "scale": (),
}
"""{name of a variable: its shape}."""
STEPS, PEAK, DECAY = 16, 0.05, 0.3
_ROUNDING = 1e-5
_ATTENTION = {
    "attention/query/kernel": (6, 2, 3),
    "attention/query/bias": (2, 3),
    "hidden/kernel": (6, 8),
    "logits/kernel": (8, 4),
}


class Row(NamedTuple):
    """One optimizer under one condition.

    Attributes:
        optimizer: Name of the subject.
        condition: Name of the condition.
        backend: Backend of Keras 3, or the library.
        difference: From the paper's nearest form, relative to the movement;
            None where nothing is stepped.
        finding: What differs; "" if nothing does.
    """

    optimizer: str
    condition: str
    backend: str
    difference: float | None
    finding: str


class Case(NamedTuple):
    """A trajectory and what a reference has to make of it.

    Attributes:
        weights: First weights.
        gradients: As the optimizer is to use them, by update.
        rates: Rate of each update.
        decays: Which variables decay.
        counts: Number of each update, from 1; None: 1, 2, 3, ...
    """

    weights: list
    gradients: list
    rates: list
    decays: tuple
    counts: list | None = None


def make_case(seed: int, changes: bool, shapes=None) -> Case:
    """Weights, turning gradients and rates of a seed; every variable decays."""
    shapes = shapes or (*SHAPES.values(),)
    generator = np.random.default_rng(seed)
    weights = [
        np.float32(generator.normal(size=shape) * 2.0**-k)
        for k, shape in enumerate(shapes)
    ]
    # A single number goes on: back at its start, no difference is small.
    drifts = [0.0 if shape else 3.0 for shape in shapes]
    gradients = [
        [
            np.float32(drift + generator.normal(size=shape))
            for drift, shape in zip(drifts, shapes)
        ]
        for _ in range(STEPS)
    ]
    phase = generator.uniform(0, 6)
    rates = [
        PEAK * (0.6 + 0.4 * np.sin(phase + 0.7 * step) if changes else 1.0)
        for step in range(STEPS)
    ]
    rates = [float(np.float32(rate)) for rate in rates]
    return Case(weights, gradients, rates, (True,) * len(shapes))


class Library:
    """How the optimizers of one Keras are made and stepped."""

    def __init__(self, name: str):
        self.name = name
        self.module = importlib.import_module(kerases.LIBRARIES[name])
        self.backend = "tf_keras"
        self._compiled = (None, None)
        if name == "keras3":
            self.backend = self.module.backend.backend()

    def has(self, subject) -> bool:
        """Whether the installed release has this class."""
        return hasattr(self.module.optimizers, subject.attribute)

    def make(self, subject, rate, **more):
        """The optimizer of a subject."""
        cls = getattr(self.module.optimizers, subject.attribute)
        made = {**subject.numbers, **subject.others, **more}
        # Keras decays by None nothing, and its AdamW takes no None.
        none = 0.0 if subject.attribute == "AdamW" else None
        made.setdefault("weight_decay", none)
        if subject.attribute == "Muon":
            made["adam_weight_decay"] = made["weight_decay"]
        return cls(learning_rate=rate, **made)

    def variables(self, weights, names=(*SHAPES,)):
        """Variables of these values, called by their whole path."""
        if self.name == "tf_keras":
            import tensorflow as tf

            return [tf.Variable(w, name=n) for w, n in zip(weights, names)]
        made = []
        for weight, name in zip(weights, names):
            *layers, last = name.split("/")
            with contextlib.ExitStack() as scopes:
                for layer in layers:
                    scopes.enter_context(self.module.name_scope(layer))
                made.append(self.module.Variable(weight, name=last))
        return made

    def tensor(self, array):
        """The array as a tensor."""
        if self.name == "tf_keras":
            import tensorflow as tf

            return tf.constant(array)
        return self.module.ops.convert_to_tensor(array)

    def values(self, variables):
        """Their values in float64."""
        if self.name == "tf_keras":
            return [np.float64(v.numpy()) for v in variables]
        to_numpy = self.module.ops.convert_to_numpy
        return [np.float64(to_numpy(v)) for v in variables]

    def apply(self, optimizer, gradients, variables):
        """One call of the optimizer, as `fit` calls it."""
        tensors = list(map(self.tensor, gradients))
        if self.backend != "jax":
            optimizer.apply_gradients(list(zip(tensors, variables)))
            return
        every = (variables, optimizer.variables)
        trained, state = [[v.value for v in some] for some in every]
        if self._compiled[0] is not optimizer:
            import jax

            self._compiled = optimizer, jax.jit(optimizer.stateless_apply)
        results = self._compiled[1](state, tensors, trained)
        for some, new in zip(every, results):
            for variable, value in zip(some, new):
                variable.assign(value)

    def scaled(self, optimizer, gradients, scale):
        """What a loss-scaling optimizer is given of these gradients."""
        scaled = [g * np.float32(scale) for g in gradients]
        if self.name == "keras3":
            return scaled
        unscaled = optimizer.get_unscaled_gradients(
            list(map(self.tensor, scaled))
        )
        return [g.numpy() for g in unscaled]

    def table(self, rates):
        """A schedule of this Keras that reads the rates."""
        base = self.module.optimizers.schedules.LearningRateSchedule
        if self.name == "tf_keras":
            import tensorflow as ops

            take = ops.gather
        else:
            ops = self.module.ops
            take = ops.take
        values = np.float32(rates)

        class Table(base):
            """Rates by step; the last for ever."""

            def __call__(self, step):
                last = len(values) - 1
                index = ops.minimum(ops.cast(step, "int32"), last)
                return take(ops.convert_to_tensor(values), index)

            def get_config(self):
                """Nothing."""
                return {}

        return Table()


def stepped(library, subject, case, **more):
    """Weights after all updates, the rate set before each."""
    variables = library.variables(case.weights)
    optimizer = library.make(subject, 1.0, **more)
    optimizer.build(variables)
    for rate, row in zip(case.rates, case.gradients):
        optimizer.learning_rate = rate
        library.apply(optimizer, row, variables)
    return library.values(variables)


def _constant(library, subject, seed):
    case = make_case(seed, False)
    return case, stepped(library, subject, case)


def _changing(library, subject, seed):
    case = make_case(seed, True)
    return case, stepped(library, subject, case)


def _decaying(library, subject, seed):
    """Under a changing rate, which the decay is multiplied by."""
    case = make_case(seed, True)
    return case, stepped(library, subject, case, weight_decay=DECAY)


def _excluding(library, subject, seed):
    """By a layer's name, as with `exclude_from_weight_decay=["norm"]`."""
    decays = tuple(name != "norm/gamma" for name in SHAPES)
    case = make_case(seed, False)._replace(decays=decays)
    variables = library.variables(case.weights)
    optimizer = library.make(subject, 1.0, weight_decay=DECAY)
    optimizer.exclude_from_weight_decay(var_names=["norm"])
    optimizer.build(variables)
    for rate, row in zip(case.rates, case.gradients):
        optimizer.learning_rate = rate
        library.apply(optimizer, row, variables)
    return case, library.values(variables)


def _accumulating(library, subject, seed):
    """Two micro-steps an update under a schedule."""
    case = make_case(seed, True)
    generator = np.random.default_rng(seed + 1)
    variables = library.variables(case.weights)
    optimizer = library.make(
        subject, library.table(case.rates), gradient_accumulation_steps=2
    )
    optimizer.build(variables)
    exact = []
    for row in case.gradients:
        noise = [np.float32(generator.normal(size=g.shape)) for g in row]
        halves = [[g + n for g, n in zip(row, noise)]]
        halves.append([g - n for g, n in zip(row, noise)])
        exact.append([(np.float64(a) + b) / 2 for a, b in zip(*halves)])
        for half in halves:
            library.apply(optimizer, half, variables)
    return case._replace(gradients=exact), library.values(variables)


def _clipping(library, subject, seed):
    """To half of the usual norm over all variables."""
    case = make_case(seed, False)
    norms = [
        np.sqrt(sum((np.float64(g) ** 2).sum() for g in row))
        for row in case.gradients
    ]
    limit = float(np.median(norms)) / 2
    found = stepped(library, subject, case, global_clipnorm=limit)
    clipped = [
        [np.float64(g) * min(1.0, limit / norm) for g in row]
        for row, norm in zip(case.gradients, norms)
    ]
    return case._replace(gradients=clipped), found


def _scaling(library, subject, seed):
    """Mixed precision: a scaled loss under a schedule, one overflow."""
    case = make_case(seed, True)
    variables = library.variables(case.weights)
    inner = library.make(subject, library.table(case.rates))
    wrapper = library.module.mixed_precision.LossScaleOptimizer
    if library.name == "keras3":
        wrapper = library.module.optimizers.LossScaleOptimizer
    optimizer = wrapper(inner, initial_scale=8.0)
    optimizer.build(variables)
    scale = 8.0
    for step, row in enumerate(case.gradients):
        if step == 3:
            over = library.scaled(optimizer, row, np.inf)
            library.apply(optimizer, over, variables)
            scale /= 2
        given = library.scaled(optimizer, row, scale)
        library.apply(optimizer, given, variables)
    return case, library.values(variables)


class Condition(NamedTuple):
    """What an optimizer is stepped under.

    Attributes:
        name: What the table calls it.
        run: (library, subject, seed) -> (case, weights found).
        otherwise: What it means if the reading of `changed` fits.
        changed: Case -> what a library makes of it that goes wrong here.
        only: Names of the Kerases that have it.
    """

    name: str
    run: Callable[..., Any]
    otherwise: str = ""
    changed: Callable[[Case], Case] | None = None
    only: tuple[str, ...] = ("keras3", "tf_keras")


def _micro_steps(case):
    """The rate of the second micro-step of each update."""
    last = len(case.rates) - 1
    return case._replace(
        rates=[case.rates[min(2 * t + 1, last)] for t in range(len(case.rates))]
    )


def _counts_skipped(case):
    """The rates and numbers of one step later after the overflow."""
    rates = case.rates[:3] + case.rates[4:] + case.rates[-1:]
    counts = [t + 1 + (t >= 3) for t in range(len(rates))]
    return case._replace(rates=rates, counts=counts)


CONDITIONS = (
    Condition("constant rate", _constant),
    Condition("changing rate", _changing),
    Condition("weight decay", _decaying),
    Condition(
        "exclusion",
        _excluding,
        "a layer's name excludes nothing: var_names are searched in a "
        "variable's last name only",
        lambda case: case._replace(decays=(True,) * len(case.decays)),
    ),
    Condition(
        "accumulation",
        _accumulating,
        "the schedule counts micro-steps, not updates",
        _micro_steps,
        ("keras3",),
    ),
    Condition("clipping", _clipping),
    Condition(
        "loss scaling",
        _scaling,
        "a skipped step counts as an update, for the schedule and for bias "
        "correction",
        _counts_skipped,
    ),
)


def exact(subject, reading, case, weight_decay):
    """The weights that a reading comes to."""
    words = {**subject.numbers, **reading.switches}
    if weight_decay:
        words["weight_decay"] = weight_decay
    elif reading.function.__name__ in ("adamw", "nadamw"):
        words["weight_decay"] = 0.0
    adapts = [not subject.matrices or w.ndim == 2 for w in case.weights]
    if subject.matrices:
        words["adam"] = (0.9, 0.999, 1e-7, True)
    return trajectory.run_reference(
        reading.function,
        (case.weights, case.gradients, case.rates),
        list(zip(case.decays, adapts)),
        case.counts,
        **words,
    )[-1]


def compared(library, subject, condition, seed, tolerance, known=()) -> Row:
    """The row of a subject under a condition.

    `known` has the names of conditions in which every optimizer goes wrong
    alike, so that a subject is compared with what that comes to.
    """
    case, found = condition.run(library, subject, seed)
    if condition.name in known:
        case = condition.changed(case)
    decay = condition.run in (_decaying, _excluding)

    def far(reading, case):
        weights = exact(subject, reading, case, DECAY if decay else 0.0)
        return trajectory.distance(found, weights, case.weights)

    papers = [far(r, case) for r in subject.readings if not r.differs]
    best = min(papers)
    row = Row(subject.name, condition.name, library.backend, best, "")
    if best <= tolerance:
        return row
    for reading in subject.readings:
        if (
            condition.changed
            and condition.name not in known
            and far(reading, condition.changed(case)) <= tolerance
        ):
            why = [condition.otherwise, reading.differs]
            return row._replace(finding="; ".join(filter(None, why)))
        if reading.differs and far(reading, case) <= tolerance:
            return row._replace(finding=reading.differs)
    return row._replace(finding="equals no reading that is known here")


def without_effect(library, subject, seed) -> list[Row]:
    """A row for each number that changes nothing."""
    case = make_case(seed, True)
    usual = stepped(library, subject, case)
    rows = []
    for name, value in subject.numbers.items():
        other = subject._replace(numbers={**subject.numbers, name: 0.7 * value})
        found = stepped(library, other, case)
        moved = trajectory.distance(found, usual, case.weights)
        why = f"`{name}` has no effect" if moved < _ROUNDING else ""
        rows.append(
            Row(subject.name, f"effect of {name}", library.backend, None, why)
        )
    return rows


def evaluated(library, subject, seed, tolerance) -> Row:
    """Whether the average can be had, after `fit` or by a method."""
    case = make_case(seed, False)
    variables = library.variables(case.weights)
    optimizer = library.make(subject, case.rates[0])
    optimizer.build(variables)
    for row in case.gradients:
        library.apply(optimizer, row, variables)
    optimizer.finalize_variable_values(variables)
    found = library.values(variables)
    states = [{} for _ in case.weights]
    current = [np.float64(w) for w in case.weights]
    for step, row in enumerate(case.gradients):
        current = [
            subject.readings[0].function(
                w,
                np.float64(g),
                s,
                case.rates[step],
                step + 1,
                **subject.numbers,
            )
            for w, g, s in zip(current, row, states)
        ]
    averages = [state["x"] for state in states]
    difference = trajectory.distance(found, averages, case.weights)
    why = ""
    if difference > tolerance:
        why = "the average x is never given to the model: no evaluation point"
    return Row(
        subject.name, "evaluation point", library.backend, difference, why
    )


def selected(library, subject, seed, tolerance) -> Row:
    """Which tensors of a Transformer's head are orthogonalised by default."""
    generator = np.random.default_rng(seed)
    weights = [
        np.float32(generator.normal(size=shape))
        for shape in _ATTENTION.values()
    ]
    variables = library.variables(weights, tuple(_ATTENTION))
    gradients = [np.float32(generator.normal(size=w.shape)) for w in weights]
    optimizer = library.make(subject, 0.1)
    optimizer.build(variables)
    library.apply(optimizer, gradients, variables)
    found = library.values(variables)
    taken = []
    for name, a, w, g in zip(_ATTENTION, found, weights, gradients):
        # The first update of Adam is the sign of the gradient.
        plain = np.allclose(a, w - 0.1 * np.sign(g), atol=1e-3)
        taken += [] if plain else [name]
    right = ["attention/query/kernel", "hidden/kernel"]
    wrong = [f"{name} is orthogonalised" for name in taken if name not in right]
    wrong += [f"{name} is not" for name in right if name not in taken]
    return Row(
        subject.name, "selection", library.backend, None, "; ".join(wrong)
    )


def rows_of(library, names, seed, tolerance):
    """Yields the rows of one Keras on one backend.

    What plain SGD, which has no state, gets wrong is the base class's, and is
    said once, of every optimizer.
    """
    plain, known = subjects.SUBJECTS[0], []
    for condition in CONDITIONS:
        if condition.changed and library.name in condition.only:
            row = compared(library, plain, condition, seed, tolerance)
            if row.finding:
                known.append(condition.name)
                yield row._replace(optimizer=EVERY)
    for subject in subjects.SUBJECTS:
        if names and subject.name not in names:
            continue
        if not library.has(subject):
            if names:
                why = "not in this release"
                yield Row(subject.name, "-", library.backend, None, why)
            continue
        for condition in CONDITIONS:
            if library.name in condition.only:
                yield compared(
                    library, subject, condition, seed, tolerance, known
                )
        yield from without_effect(library, subject, seed)
        if subject.averages:
            yield evaluated(library, subject, seed, tolerance)
        if subject.matrices:
            yield selected(library, subject, seed, tolerance)


def backends(library: str) -> tuple[str, ...]:
    """The installed backends of a Keras."""
    if library == "tf_keras":
        return ("tf_keras",)
    return tuple(b for b in BACKENDS if importlib.util.find_spec(b))


def main(argv):
    """One backend, in its process: rows as lines of JSON."""
    name, names, seed, tolerance = argv
    library = Library(name)
    chosen = names.split(",") if names else []
    for row in rows_of(library, chosen, int(seed), float(tolerance)):
        print(json.dumps(row._asdict()), flush=True)


def rows(library: str, names, seed: int, tolerance: float):
    """Yields the rows of all backends, each in a process of its own.

    Raises:
        RuntimeError: A backend that does not start; with what it said.
    """
    for backend in backends(library):
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
        if library == "keras3":
            environment["KERAS_BACKEND"] = backend
        arguments = (library, ",".join(names), str(seed), str(tolerance))
        ran = subprocess.run(
            [sys.executable, "-m", "lbcheck.conform.watch", *arguments],
            env=environment,
            capture_output=True,
            text=True,
        )
        if ran.returncode:
            raise RuntimeError(
                f"{library} on {backend}: {ran.stderr.strip()[-2000:]}"
            )
        for line in ran.stdout.splitlines():
            if line.startswith("{"):
                yield Row(**json.loads(line))


if __name__ == "__main__":
    main(sys.argv[1:])
