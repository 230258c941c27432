"""The order of examples in memory: shuffled epochs, one after the other."""

import functools

import numpy as np


class Epochs:
    """An endless order of examples, a function of (seed, position) only.

        permutation(seed, 0) permutation(seed, 1) ...

    No rest is left out between epochs. It keeps the last permutation drawn.

    Args:
        count: Examples of an epoch, at least 1.
        seed: Seed of the order, at least 0.
    """

    def __init__(self, count: int, seed: int):
        def draw(epoch):
            return np.random.default_rng([seed, epoch]).permutation(count)

        self._count = count
        self._permutation = functools.lru_cache(maxsize=1)(draw)

    def examples(self, first: int, number: int) -> np.ndarray:
        """The examples at `number` positions from `first` on, int64.

        >>> order = Epochs(4, seed=0)
        >>> order.examples(0, 8)
        array([2, 0, 1, 3, 3, 0, 2, 1])
        >>> order.examples(3, 3)
        array([3, 3, 0])
        """
        parts = [np.empty(0, np.int64)]
        while number:
            epoch, place = divmod(first, self._count)
            part = self._permutation(epoch)[place : place + number]
            parts.append(part)
            first += len(part)
            number -= len(part)
        return np.concatenate(parts)
