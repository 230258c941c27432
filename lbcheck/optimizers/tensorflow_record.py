"""How the diagnostics of an update are recorded in TensorFlow.

Where a whole training step is compiled, XLA copies what a record reads and
the update then overwrites, at every update, whether a record is due or not.
So a record reads what stays: the gradient, the direction (or the moments, of
which it is made) and the weight after the update, from which the one before
is computed back. For small variables without a kernel the record comes first.
"""

import numpy as np
import tensorflow as tf

_LEAST_KEPT = 1e-3
"""Part of a weight from which the whole is computed back, to 1e-4 of it."""


class Recorder:
    """Measures the updates of one rule: the five numbers of `Diagnostics`.

    `due` is (row, period, step): the tf.Variable of shape (5,) to fill, and
    the number of updates before this one, of which it must be a multiple.

    Args:
        rule: The rule.
        arrays: The array namespace that it computes in.
    """

    def __init__(self, rule, arrays):
        self._rule = rule
        self._arrays = arrays
        self._recall_compiled = tf.function(self._recall, jit_compile=True)

    def before(
        self,
        due,
        variable,
        gradient,
        slots,
        rate,
        count,
        decay,
        adapt,
    ):
        """Records an update that is still to come."""
        dtype = gradient.dtype
        _when(
            *due,
            lambda: self._predict(
                tf.cast(variable, dtype),
                gradient,
                [tf.cast(slot, dtype) for slot in slots],
                rate,
                count,
                decay,
                adapt,
            ),
        )

    def after(
        self,
        due,
        variable,
        gradient,
        direction,
        outside,
        keep,
        ratio,
        rate,
        large,
    ):
        """Records w = keep w - outside direction, which has been done.

        Args:
            due: See the class.
            variable: tf.Variable, float32.
            gradient: Dense tensor of its shape.
            direction: Function that returns the same, called if it is due.
            outside: Scalar.
            keep: Scalar or None, for 1.
            ratio: Trust ratio or None, for 1.
            rate: Learning rate.
            large: Whether the variable is worth a compiled cluster.
        """
        recall = self._recall_compiled if large else self._recall
        scalars = [
            tf.convert_to_tensor(1.0 if number is None else number, tf.float32)
            for number in (outside, keep, ratio, rate)
        ]
        _when(
            *due,
            lambda: recall(
                tf.convert_to_tensor(variable), gradient, direction(), *scalars
            ),
        )

    def _predict(self, weight, gradient, slots, rate, count, decay, adapt):
        new, _, ratio = self._rule.update(
            self._arrays,
            weight,
            gradient,
            tuple(slots),
            rate,
            count,
            decay=decay,
            adapt=adapt,
        )
        return self._numbers(ratio, weight, gradient, new - weight, rate)

    def _recall(self, weight, gradient, direction, outside, keep, ratio, rate):
        step = outside * direction
        # Where less is kept, rounding leaves too little to tell.
        told = tf.abs(keep) >= _LEAST_KEPT
        before = (weight + step) / tf.where(told, keep, np.nan)
        update = (keep - 1.0) * before - step
        return self._numbers(ratio, before, gradient, update, rate)

    def _numbers(self, ratio, weight, gradient, update, rate):
        norms = map(self._arrays.norm, (weight, gradient, update))
        return tf.stack([tf.cast(x, tf.float32) for x in (ratio, *norms, rate)])


def _when(row, period, step, measure):
    """Fills `row` at every `period`-th update; else only looks at step."""

    def write():
        row.assign(measure())
        return step

    tf.cond(step % period == 0, write, lambda: step)
