"""The rates of anybody's schedule, or of a training log, at given steps."""

import csv
import functools
import numbers
import os
from collections.abc import Callable
from typing import Any
from typing import NamedTuple

import numpy as np

from lbcheck.schedules import arrays
from lbcheck.schedules import base


class Samples(NamedTuple):
    """Rates at increasing steps.

    Attributes:
        steps: Integers, increasing.
        rates: float64, one for each step.
        evaluate: (steps) -> rates at any other steps; None for a log.
        resumed: Steps that a log holds more than once, with other rates.
    """

    steps: np.ndarray
    rates: np.ndarray
    evaluate: Callable[[np.ndarray], np.ndarray] | None
    resumed: tuple[int, ...] = ()


def sample(schedule: Any, total_steps: int) -> Samples:
    """The rates of every update of a run, or of those that a log holds.

    Args:
        schedule: A schedule of lbcheck, Keras 3, tf_keras or optax, any
            other callable of one step, the path of a CSV file, or the
            sequence of the rates of updates 0, 1, 2, ...
        total_steps: Updates of the run.

    Returns:
        The samples.

    Raises:
        TypeError, ValueError: If it is none of these, or it raises, or it
            returns no number.
    """
    if isinstance(schedule, (str, os.PathLike)):
        return read_csv(schedule)
    if isinstance(schedule, (list, tuple, np.ndarray)):
        rates = np.asarray(schedule, np.float64)
        if rates.ndim != 1 or not rates.size:
            raise ValueError(
                "examine: a sequence of rates must have one number for each "
                f"update, received shape {rates.shape}."
            )
        return Samples(np.arange(len(rates)), rates, None)
    if not callable(schedule):
        raise TypeError(
            "examine: `schedule` must be a schedule, a function of the step, "
            f"a sequence of rates or a CSV file, received {schedule!r}."
        )
    evaluate = evaluator(schedule)
    steps = np.arange(total_steps)
    return Samples(steps, evaluate(steps), evaluate)


def evaluator(schedule) -> Callable[[np.ndarray], np.ndarray]:
    """(steps) -> rates of a schedule, each step evaluated on its own."""
    inner = getattr(schedule, "schedule", schedule)  # made by as_keras()
    for exact in (schedule, inner):
        if isinstance(exact, base.Schedule):
            return exact
    root = arrays.root(_one(schedule, 0))
    if root == "tensorflow":
        return _on_tensorflow(schedule)
    if root == "jax":
        return _on_jax(schedule)
    return functools.partial(_one_by_one, schedule)


def _one(schedule, step: int):
    try:
        value = schedule(step)
    except Exception as error:
        raise ValueError(
            f"examine: the schedule raised {type(error).__name__} at step "
            f"{step}: {error}. It must take the number of completed updates, "
            "from 0, and return the rate."
        ) from error
    if arrays.root(value):
        return value
    if isinstance(value, np.ndarray) and value.size == 1:
        return value.item()
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise ValueError(
            "examine: the schedule must return one number, received "
            f"{value!r} at step {step}."
        )
    return value


def _one_by_one(schedule, steps):
    return np.array([float(_one(schedule, int(step))) for step in steps])


def _on_tensorflow(schedule):
    import tensorflow as tf

    @tf.function
    def together(steps):
        return tf.cast(schedule(steps), tf.float64)

    @tf.function
    def in_turn(steps):
        return tf.map_fn(
            lambda step: tf.reshape(tf.cast(schedule(step), tf.float64), ()),
            steps,
            fn_output_signature=tf.float64,
        )

    def evaluate(steps):
        try:
            rates = together(tf.constant(steps, tf.int64)).numpy()
            probe = np.unique(np.linspace(0, len(steps) - 1, 64).astype(int))
            exact = _one_by_one(schedule, steps[probe])
            # Only a schedule that is elementwise may take all at once.
            if rates.shape == steps.shape and np.allclose(
                rates[probe], exact, rtol=1e-6, atol=0.0, equal_nan=True
            ):
                return rates
        except Exception:
            pass  # it takes single steps only; its own error comes below
        try:
            return in_turn(tf.constant(steps, tf.int64)).numpy()
        except Exception:
            # Not traceable, for instance a Python `if` on the step.
            return _one_by_one(schedule, steps)

    return evaluate


def _on_jax(schedule):
    import jax

    together = jax.jit(jax.vmap(schedule))

    def evaluate(steps):
        try:
            rates = together(jax.numpy.asarray(steps, jax.numpy.int32))
        except Exception:
            return _one_by_one(schedule, steps)
        return np.asarray(rates, np.float64).reshape(len(steps))

    return evaluate


def read_csv(path) -> Samples:
    """The samples of a CSV file with the columns step and rate.

    Columns are found by their names: step, global_step or update; then
    learning_rate, lr, rate or, as TensorBoard exports it, value. Without
    names the first two columns are taken. Lines that start with # are left
    out. A step may occur again after a resume; its last rate counts.

    Raises:
        ValueError: If the file is not there or a line is not two numbers.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = [
                row
                for row in csv.reader(file)
                if row and not row[0].startswith("#")
            ]
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: is no UTF-8 text: {error}.") from error
    columns, first = _columns(path, rows)
    found, resumed = {}, []
    for number, row in enumerate(rows[first:], first + 1):
        step, rate = _numbers(path, number, row, columns)
        before = found.get(step, rate)
        if abs(before - rate) > 1e-4 * max(abs(before), abs(rate)):
            resumed.append(step)
        found[step] = rate
    if len(found) < 3:
        raise ValueError(
            f"{path}: must hold at least 3 steps with their rates, received "
            f"{len(found)}."
        )
    steps = np.array(sorted(found))
    rates = np.array([found[step] for step in steps])
    return Samples(steps, rates, None, tuple(resumed))


_STEP = (("step", "global_step", "update"), "step", "update", "iter")
_RATE = (("learning_rate", "lr", "rate"), "learning", "lr", "rate", "value")
"""What a column may be called: in full, or by a part, best first."""


def _columns(path, rows):
    """((column of the step, of the rate), first row of numbers)."""
    names = [name.strip().lower() for name in rows[0]] if rows else []
    try:
        [float(name) for name in names[:2]]
        return (0, 1), 0
    except ValueError:
        pass
    step = _column(path, names, _STEP, None)
    return (step, _column(path, names, _RATE, step)), 1


def _column(path, names, wanted, taken):
    """The one column with the best of the names wanted."""
    full, *parts = wanted
    free = [i for i in range(len(names)) if i != taken]
    for match in (full, *parts):
        hits = [
            i
            for i in free
            if (match in names[i] if match in parts else names[i] in match)
        ]
        if len(hits) == 1:
            return hits[0]
        if hits:
            raise ValueError(
                f"{path}: cannot tell which column is meant, "
                f"{[names[i] for i in hits]}; leave the right one."
            )
    raise ValueError(
        f"{path}: must have a column named {' or '.join(full)}, received "
        f"{names}."
    )


def _numbers(path, line, row, columns):
    try:
        step, rate = (float(row[column]) for column in columns)
        if step < 0 or step != int(step):
            raise ValueError
    except (ValueError, IndexError, OverflowError):
        raise ValueError(
            f"{path}, line {line}: must be a whole step of at least 0 and a "
            f"rate, received {','.join(row)!r}."
        ) from None
    return int(step), rate
