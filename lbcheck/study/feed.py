"""Training and validation data of a study: arrays, or a stream.

Of arrays, the batch of step t is the t-th slice of `lbcheck.epochs`. It
depends on (seed, t) only: all arms see the same batches.
"""

import hashlib
import warnings

import numpy as np

from lbcheck import epochs
from lbcheck import tf_data

_INDICES = 2**22
"""Most indices that are on the device at a time."""
_DIGEST_BYTES = 2**26


def make(data, batch_size: int, name: str, keras, on_tensorflow: bool):
    """The feed of what a workload calls `train` or `validation`.

    Args:
        data: (x, y) or (x, y, sample_weight), each an array, a list or dict
            of arrays, or None; or a tf.data.Dataset.
        batch_size: Examples of an update.
        name: What errors call it.
        keras: The Keras module of the model.
        on_tensorflow: Whether the arrays stay on TensorFlow's device.

    Raises:
        TypeError, ValueError: If it is none of these, or arrays are of
            unequal lengths.
    """
    if hasattr(data, "element_spec"):
        return Stream(data, batch_size, name)
    feed = Resident if on_tensorflow else Arrays
    return feed(data, batch_size, name, keras.backend.floatx())


class Arrays:
    """Examples in memory; see `make`."""

    def __init__(self, data, batch_size, name, floatx):
        if not isinstance(data, tuple) or not 1 <= len(data) <= 3:
            raise TypeError(
                f"`{name}` must be (x, y) or (x, y, sample_weight) of arrays, "
                f"or a tf.data.Dataset, received {type(data).__name__}."
            )

        def convert(leaf):
            array = np.asarray(leaf)
            if array.ndim == 0:
                raise TypeError(
                    f"`{name}` must hold arrays of examples, received {leaf!r}."
                )
            floating = np.issubdtype(array.dtype, np.floating)
            return array.astype(floatx, copy=False) if floating else array

        self._data = _tree_map(convert, data)
        self._batch_size = batch_size
        lengths = {len(leaf) for leaf in _leaves(self._data)}
        if len(lengths) != 1 or 0 in lengths:
            raise ValueError(
                f"`{name}`: x, y and weights must have one number of examples, "
                f"at least 1; received {sorted(lengths)}."
            )
        (self.count,) = lengths
        self._warn_of_non_finite(name)

    def _warn_of_non_finite(self, name):
        bad = np.zeros(self.count, bool)
        for leaf in _leaves(self._data):
            if np.issubdtype(leaf.dtype, np.floating):
                finite = np.isfinite(leaf)
                bad |= ~finite.all(axis=tuple(range(1, leaf.ndim)))
        if bad.any():
            warnings.warn(
                f"`{name}`: {bad.sum()} of {self.count} examples have numbers "
                f"that are not finite, first example {bad.argmax()} (counted "
                "from 0); most models diverge on them.",
                stacklevel=2,
            )

    def indices(self, seed: int, first: int, count: int):
        """Examples of the updates from `first` on, (count, batch)."""
        size = self._batch_size
        order = epochs.Epochs(self.count, seed)
        chosen = order.examples(first * size, count * size)
        return chosen.reshape(count, size).astype(np.int32)

    @property
    def longest(self) -> int:
        """Most updates at a time."""
        return max(1, _INDICES // self._batch_size)

    def updates(self, seed: int, first: int, count: int):
        """Yields the batches of these updates."""
        for chosen in self.indices(seed, first, count):
            yield self._part(chosen)

    def batches(self, count: int | None = None):
        """The first `count` examples in batches; the last may be shorter."""
        count = self.count if count is None else min(count, self.count)
        for start in range(0, count, self._batch_size):
            yield self._part(slice(start, min(start + self._batch_size, count)))

    def example(self):
        """Two examples."""
        return self._part(slice(2))

    def _part(self, chosen):
        return _tree_map(lambda array: array[chosen], self._data)

    def describe(self) -> list:
        """Shape, dtype and a digest of every array."""
        return [
            [list(array.shape), str(np.dtype(array.dtype)), _digest(array)]
            for array in _leaves(self._data)
        ]


class Resident(Arrays):
    """Arrays on TensorFlow's device; batches are gathered there."""

    def __init__(self, data, batch_size, name, floatx):
        import tensorflow as tf

        super().__init__(data, batch_size, name, floatx)
        self._digests = super().describe()
        self._data = _tree_map(tf.constant, self._data)

    def describe(self):
        return self._digests

    @property
    def batch_signature(self):
        """The TensorFlow type of a batch of any length."""
        import tensorflow as tf

        def spec(tensor):
            return tf.TensorSpec((None, *tensor.shape[1:]), tensor.dtype)

        return _tree_map(spec, self._data)

    @property
    def signature(self):
        """The TensorFlow type of `source`."""
        import tensorflow as tf

        indices = tf.TensorSpec((None, self._batch_size), tf.int32)
        return self.batch_signature, indices

    def source(self, seed: int, first: int, count: int):
        """What a traced function takes for these updates."""
        import tensorflow as tf

        return self._data, tf.constant(self.indices(seed, first, count))

    @staticmethod
    def take(source, step):
        """The batch of the step-th of these updates, in a traced function."""
        import tensorflow as tf

        data, indices = source
        return _tree_map(lambda array: tf.gather(array, indices[step]), data)


class Stream:
    """A batched tf.data.Dataset, which every trial begins anew.

    In which order it then comes is its own affair: one that shuffles gives
    every trial another order. A function of the seed that returns a dataset
    is the way to give all arms the same.
    """

    count = None
    longest = 2**30

    def __init__(self, dataset, batch_size: int, name: str):
        import tensorflow as tf

        endless = dataset
        if dataset.cardinality() != tf.data.INFINITE_CARDINALITY:
            endless = dataset.repeat()
        try:
            updates = endless.rebatch(batch_size, drop_remainder=True)
        except ValueError as error:
            raise ValueError(
                f"`{name}`: a tf.data.Dataset must be batched: {error}"
            ) from error
        self._dataset = tf_data.untuned(dataset)
        self._updates = tf_data.untuned(updates.prefetch(2))
        self._batch_size = batch_size
        self._iterator = None

    @property
    def batch_signature(self):
        """The TensorFlow type of a batch of the dataset."""
        return self._dataset.element_spec

    @property
    def signature(self):
        """The TensorFlow type of `source`."""
        import tensorflow as tf

        return tf.data.IteratorSpec(self._updates.element_spec)

    def source(self, seed: int, first: int, count: int):
        """What a traced function takes for the updates that come next."""
        del seed, count
        if first == 0:
            self._iterator = iter(self._updates)
        return self._iterator

    @staticmethod
    def take(source, step):
        """The next batch, in a traced function."""
        del step
        return next(source)

    def updates(self, seed: int, first: int, count: int):
        """Yields the batches of the updates that come next."""
        source = self.source(seed, first, count)
        for _ in range(count):
            yield next(source)

    def batches(self, count: int | None = None):
        """The dataset, or updates of at most `count` examples, at least one."""
        if count is None:
            return self._dataset
        return self._updates.take(max(1, count // self._batch_size))

    def example(self):
        """A batch."""
        return next(iter(self._dataset))

    def describe(self) -> list:
        """The type of its elements and the number of its batches."""
        number = int(self._dataset.cardinality())
        return [str(self._dataset.element_spec), number]


def _tree_map(function, structure):
    """The function of every leaf of lists, tuples and dicts; None stays."""
    if structure is None:
        return None
    if isinstance(structure, dict):
        return {k: _tree_map(function, v) for k, v in structure.items()}
    if isinstance(structure, (list, tuple)):
        return type(structure)(_tree_map(function, part) for part in structure)
    return function(structure)


def _leaves(structure) -> list:
    """The leaves of `_tree_map`, in order."""
    found = []
    _tree_map(found.append, structure)
    return found


def _digest(array) -> str:
    """Of the whole array or, beyond 64 MiB, of evenly spaced examples."""
    part = array[:: -(-array.nbytes // _DIGEST_BYTES)]
    if part.dtype.kind in "OU":
        content = "\0".join(map(str, part.ravel())).encode()
    else:
        content = np.ascontiguousarray(part).tobytes()
    return hashlib.sha256(content).hexdigest()[:16]
