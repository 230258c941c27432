"""The rates of a schedule, whatever it is: asked, given, or read from a log."""

import decimal
import functools
import inspect
import itertools
import numbers
import os
import sys
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Set
from typing import Any
from typing import NamedTuple

import numpy as np

from lbcheck.schedules import arrays
from lbcheck.schedules import base
from lbcheck.schedules.doctor import log_files
from lbcheck.support import errors
from lbcheck.support import schema

LONGEST = 5 * 10**6
"""Updates of the longest run whose every rate is asked for."""


class Samples(NamedTuple):
    """Rates at increasing steps.

    Attributes:
        steps: Integers, increasing.
        rates: float64, one for each step.
        evaluate: (steps) -> rates at any other steps; None for a log.
        resumed: Steps that a log holds more than once, with other rates.
        unit: What the last digit of all rates of a log is worth, where that
            is known; else 0.
    """

    steps: np.ndarray
    rates: np.ndarray
    evaluate: Callable[[np.ndarray], np.ndarray] | None
    resumed: tuple[int, ...] = ()
    unit: float = 0.0


def sample(
    schedule: Any,
    total_steps: int | None,
    column: str | None = None,
    steps_per_epoch: int | None = None,
) -> Samples:
    """The rates of every update of a run, or of those that a log holds.

    Args:
        schedule: What `examine` takes.
        total_steps: Updates of the run; None for a log.
        column: Column of a log that holds the rate; None finds it.
        steps_per_epoch: Updates of an epoch, for a log that counts epochs.

    Returns:
        The samples.

    Raises:
        TypeError, ValueError: If it is none of these, or it raises, or it
            returns no number.
    """
    if isinstance(schedule, (str, os.PathLike)):
        return _of_log(schedule, total_steps, column, steps_per_epoch)
    if column is not None:
        raise ValueError(
            f"examine: `column`={column!r} goes with a log, received "
            f"{schema.shown(schedule)}."
        )
    if not callable(schedule) and hasattr(schedule, "__iter__"):
        return _given(schedule)
    _check_callable(schedule)
    _check_parameters(schedule)
    if total_steps > LONGEST:
        raise ValueError(
            f"examine: `total_steps` must be at most {LONGEST:,}, since the "
            f"rate of every update is looked at, received {total_steps:,}; "
            "examine the same schedule over a shorter run."
        )
    evaluate = evaluator(schedule)
    steps = np.arange(total_steps)
    return Samples(steps, evaluate(steps), evaluate)


def _of_log(path, total_steps, column, steps_per_epoch):
    log = log_files.read(path, column, steps_per_epoch)
    last = int(log.steps[-1])
    if log.epochs and total_steps and total_steps > 4 * (last + 1):
        raise ValueError(
            f"{path}: counts epochs, {last} at the end, and total_steps="
            f"{total_steps} counts updates; give steps_per_epoch as well."
        )
    return Samples(log.steps, log.rates, None, log.resumed, log.unit)


def _given(rates):
    """The samples of a sequence of rates."""
    found = np.empty(0)
    # Of these only keys, an order of hashing or codes would be had.
    if not isinstance(rates, (Mapping, Set, bytes, bytearray)):
        try:
            listed = list(itertools.islice(rates, LONGEST))
            found = np.array([_number(rate) for rate in listed])
        except (TypeError, ValueError):
            found = np.empty(0)
    if not found.size:
        raise ValueError(
            "examine: a sequence of rates must have one number for each "
            f"update, received {schema.shown(rates)}."
        )
    return Samples(np.arange(len(found)), found, None)


def _check_callable(schedule):
    """Refuses what is no function of the step; says what would be."""
    if callable(schedule) and not isinstance(schedule, type):
        return
    cure = ""
    if isinstance(schedule, type):
        cure = ", a class: call it first"
    elif hasattr(schedule, "get_last_lr"):
        cure = ", which gives no rate for a step: pass the list of its rates"
    elif hasattr(schedule, "on_epoch_begin"):
        cure = ", which counts epochs: pass the list of its rates"
    raise TypeError(
        "examine: `schedule` must be a schedule, a function of the step, a "
        f"sequence of rates or the file of a log, received {schedule!r}{cure}."
    )


def unwrapped(schedule: Any) -> Any:
    """The schedule that an optimizer, or a model's optimizer, goes by.

    Raises:
        ValueError: The optimizer has none.
    """
    if hasattr(schedule, "trainable_variables"):
        schedule = getattr(schedule, "optimizer", None) or schedule
    schedule = getattr(schedule, "inner_optimizer", schedule)
    if not hasattr(schedule, "apply_gradients"):
        return schedule
    rate = getattr(schedule, "_learning_rate", None)
    if rate is None or not callable(rate):
        raise ValueError(
            f"examine: the optimizer {type(schedule).__name__} has a constant "
            "learning rate and no schedule to examine."
        )
    every = getattr(schedule, "gradient_accumulation_steps", None)
    if every and not hasattr(schedule, "update_count"):  # as lbcheck's have
        return _OfMicroSteps(rate, every)
    return rate


class _OfMicroSteps:
    """A schedule as Keras asks for it with `gradient_accumulation_steps`.

    Its optimizers count micro-steps; the last of an update decides.
    """

    def __init__(self, rate, every: int):
        self._rate, self._every = rate, every

    def __call__(self, step):
        return self._rate(step * self._every + (self._every - 1))

    def get_config(self):
        """What the schedule says of itself."""
        return self._rate.get_config()


def _check_parameters(schedule):
    """Refuses what needs more than the step: its rates are of something else.

    Raises:
        ValueError: Says what it takes.
    """
    try:
        parameters = inspect.signature(schedule).parameters.values()
    except (TypeError, ValueError):
        return
    needed = [
        p.name
        for p in parameters
        if p.default is p.empty
        and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    if len(needed) > 1:
        of_callback = (
            "; a function of a LearningRateScheduler gives a rate for each "
            "epoch: pass the list of its rates"
        )
        raise ValueError(
            "examine: the schedule must take the number of completed updates "
            f"alone, received a function of {', '.join(needed)}"
            f"{of_callback if needed[0] == 'epoch' else ''}."
        )


def evaluator(schedule) -> Callable[[np.ndarray], np.ndarray]:
    """(steps) -> rates of a schedule, each step evaluated on its own."""
    inner = getattr(schedule, "schedule", schedule)  # made by as_keras()
    for exact in (schedule, inner):
        if isinstance(exact, base.Schedule):
            return exact
    kind = _kind(schedule)
    root = arrays.root(_called(schedule, 0, kind))
    if root == "tensorflow":
        return _on_tensorflow(schedule, kind)
    if root == "jax":
        return _on_jax(schedule, kind)
    return functools.partial(_one_by_one, schedule, kind)


def _tensor(step):
    return sys.modules["tensorflow"].constant(step, "int64")


def _float_tensor(step):
    return sys.modules["tensorflow"].constant(step, "float32")


def _jax(step):
    return sys.modules["jax"].numpy.asarray(step)


_KINDS = {
    int: "",
    float: "",
    np.int64: "",
    _tensor: "tensorflow",
    _float_tensor: "tensorflow",
    _jax: "jax",
}
"""What a step may be given as, and the module that must be there for it."""


def _kind(schedule):
    """The first of `_KINDS` that a schedule takes."""
    refused = None
    for kind, module in _KINDS.items():
        if module and module not in sys.modules:
            continue
        try:
            _one(schedule, 0, kind)
            _one(schedule, 1, kind)
            return kind
        except ValueError as error:
            refused = refused or error
    raise refused


def _called(schedule, step: int, kind):
    try:
        return schedule(kind(step))
    except (Exception, SystemExit) as error:
        raise ValueError(
            f"examine: the schedule raised {type(error).__name__} at step "
            f"{step}: {errors.cleaned(error)}. It must take the number of "
            "completed updates, from 0, and return the rate."
        ) from error


def _one(schedule, step: int, kind=int) -> float:
    value = _called(schedule, step, kind)
    try:
        return _number(value)
    except (TypeError, ValueError):
        raise ValueError(
            "examine: the schedule must return one number, received "
            f"{schema.shown(value)} at step {step}."
        ) from None


def _number(value) -> float:
    """A number, or an array of one element of any framework, as a float."""
    if isinstance(value, (numbers.Real, decimal.Decimal)):
        if isinstance(value, bool):
            raise TypeError
        return float(value)
    value = arrays.unwrap(value)
    try:
        # NumPy takes no bfloat16 of TensorFlow's as it is.
        array = np.asarray(getattr(value, "numpy", lambda: value)())
    except RuntimeError as error:  # a torch tensor with a gradient
        raise TypeError from error
    # bfloat16 is of kind V.
    if array.size != 1 or array.dtype.kind not in "fiuV":
        raise TypeError
    return float(array.astype(np.float64).reshape(()))


def _one_by_one(schedule, kind, steps):
    return np.array([_one(schedule, int(step), kind) for step in steps])


def _on_tensorflow(schedule, kind):
    import tensorflow as tf

    dtype = tf.float32 if kind in (float, _float_tensor) else tf.int64

    @tf.function
    def together(steps):
        return tf.cast(schedule(steps), tf.float64)

    @tf.function(input_signature=[tf.TensorSpec((), dtype)])
    def single(step):
        return tf.reshape(tf.cast(schedule(step), tf.float64), ())

    @tf.function
    def in_turn(steps):
        return tf.map_fn(single, steps, fn_output_signature=tf.float64)

    def evaluate(steps):
        try:
            rates = together(tf.constant(steps, dtype)).numpy()
            probe = np.unique(np.linspace(0, len(steps) - 1, 64).astype(int))
            exact = _one_by_one(schedule, kind, steps[probe])
            # Only a schedule that is elementwise may take all at once.
            if rates.shape == steps.shape and np.allclose(
                rates[probe], exact, rtol=1e-6, atol=0.0, equal_nan=True
            ):
                return rates
        except Exception:
            pass  # it takes single steps only; its own error comes below
        try:
            # Traced here: an error within tf.map_fn would leave its variable
            # scope behind, in which no strategy of the process can be entered.
            single.get_concrete_function()
            return in_turn(tf.constant(steps, dtype)).numpy()
        except Exception:
            # Not traceable, for instance a Python `if` on the step.
            return _one_by_one(schedule, kind, steps)

    return evaluate


def _on_jax(schedule, kind):
    import jax

    together = jax.jit(jax.vmap(schedule))

    def evaluate(steps):
        try:
            rates = together(jax.numpy.asarray(steps, jax.numpy.int32))
        except Exception:
            return _one_by_one(schedule, kind, steps)
        return np.asarray(rates, np.float64).reshape(len(steps))

    return evaluate
