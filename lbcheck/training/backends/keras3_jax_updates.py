"""An update of several microbatches in Keras 3 on JAX; see accumulated_step.py.

Keras's state is four lists of arrays: weights, other variables, the
optimizer's and the metrics'. The floating ones of the others are statistics.
"""

import jax

from lbcheck.training.backends import keras3_updates


class Update:
    """The train function of a model.

    Args:
        model: Compiled model, its optimizer built.
        microbatches: Elements of the data in one update.
    """

    def __init__(self, model, microbatches: int):
        self._model = model
        self._microbatches = microbatches
        self._steps = [_zeros, self._accumulate, self._apply]
        if model.jit_compile:
            # Donated arrays are written over, so that none is there twice.
            self._steps = [
                jax.jit(_zeros),
                jax.jit(self._accumulate, donate_argnums=(0, 1)),
                jax.jit(self._apply, donate_argnums=0),
            ]

    def install(self, steps: int) -> None:
        """Makes the model's `fit` train by this, `steps` updates a call."""

        def train_function(state, iterator):
            for _ in range(steps):
                logs, state = self(state, iterator)
            return logs, state

        def make_train_function(force=False):
            self._model.train_function = train_function

        self._model.make_train_function = make_train_function

    def __call__(self, state, iterator):
        """Takes its elements from `iterator`; (metrics, state)."""
        zeros, accumulate, apply = self._steps
        sums = zeros(state)
        for _ in range(self._microbatches):
            logs, state, sums = accumulate(state, sums, next(iterator))
        return logs, apply(state, sums)

    def _accumulate(self, state, sums, data):
        gradients, (logs, moved) = keras3_updates.train_step(
            self._model, state, data
        )
        weights, others, slots, _ = state
        _, new_others, _, metrics = moved
        pairs = list(zip(others, new_others))
        # Of statistics the difference: a frozen weight is among them and
        # stays exactly as it is.
        parts = [*gradients, *(b - a for a, b in pairs if _is_statistic(a))]
        sums = [
            _add(s, part.astype(s.dtype) / self._microbatches)
            for s, part in zip(sums, parts)
        ]
        others = [a if _is_statistic(a) else b for a, b in pairs]
        return logs, (weights, others, slots, metrics), sums

    def _apply(self, state, sums):
        weights, others, slots, metrics = state
        moves = iter(sums[len(weights) :])
        gradients = [s.astype(w.dtype) for s, w in zip(sums, weights)]
        weights, slots = self._model.optimizer.stateless_apply(
            slots, gradients, weights
        )
        others = [
            (a + next(moves)).astype(a.dtype) if _is_statistic(a) else a
            for a in others
        ]
        return weights, others, slots, metrics


def _zeros(state):
    weights, others, *_ = state
    moved = [*weights, *filter(_is_statistic, others)]
    return [_sum_of(array) for array in moved]


def _sum_of(array):
    # 16 bits cannot hold the sum of many parts.
    dtype = jax.numpy.promote_types(array.dtype, "float32")
    return jax.numpy.zeros_like(array, dtype)


def _is_statistic(array):
    return jax.numpy.issubdtype(array.dtype, jax.numpy.floating)


def _add(total, part):
    return total + part
