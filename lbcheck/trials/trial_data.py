"""Training and validation data of a study: arrays, or a stream.

Of arrays, the batch of step t is the t-th slice of a shuffled order. It
depends on (seed, t) only: all arms see the same batches.
"""

import functools
import hashlib
import inspect
import itertools
import numbers

import numpy as np

from lbcheck.data import shuffled_order
from lbcheck.trials import content
from lbcheck.trials import stream

_INDICES = 2**22
"""Most indices that are on the device at a time."""
_DIGEST_BYTES = 2**26
_ENDS = 64
_STRETCH = 256
"""Updates of sparse matrices whose examples are chosen at a time."""


def of_seed(data, name: str):
    """(function seed -> data, whether it depends on the seed).

    Args:
        data: Data, or a function of the seed or of nothing that returns them.
        name: What errors call it.

    Raises:
        TypeError: A function of something else.
    """
    if not callable(data) or stream.is_stream(data):
        return (lambda seed: data), False
    try:
        parameters = inspect.signature(data).parameters.values()
    except ValueError:  # some functions in C have none
        return data, True
    needed = [
        p
        for p in parameters
        if p.default is p.empty
        and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    if len(needed) > 1 or any(
        p.kind is p.KEYWORD_ONLY and p.default is p.empty for p in parameters
    ):
        raise TypeError(
            f"`{name}`: a function that gives data takes the seed or nothing, "
            f"received one of {', '.join(p.name for p in parameters)}."
        )
    if needed:
        return data, True
    if any(p.name == "seed" for p in parameters):
        return (lambda seed: data(seed=seed)), True
    return (lambda seed: data()), False


def make(
    function,
    by_seed: bool,
    seed: int,
    batch_size: int,
    name: str,
    keras,
    on_tensorflow: bool,
    kept=None,
):
    """The feed of what a workload calls `train`, `validation` or `test`.

    Args:
        function: Seed -> (x, y) or (x, y, sample_weight), each an array, a
            matrix of SciPy, a list or dict of them, or None; or a
            tf.data.Dataset, PyDataset, generator or loader of batches.
        by_seed: Whether the data depend on the seed.
        seed: Seed of the order, for arrays.
        batch_size: Examples of an update.
        name: What errors call it.
        keras: The Keras module of the model.
        on_tensorflow: Whether the arrays stay on TensorFlow's device, and
            streams give tensors.
        kept: Function of the number of examples that says which of them the
            feed has, for arrays; None: all.

    Raises:
        TypeError, ValueError: If it is none of these, or arrays are of
            unequal lengths.
    """
    data = stream.made(function, seed)
    floatx = keras.backend.floatx()
    if stream.is_stream(data):
        if kept is not None:
            raise ValueError(
                f"`{name}`: a part of the validation data can be held out "
                "where they are arrays; give `test` data of their own."
            )
        return stream.Stream(
            function, by_seed, batch_size, name, floatx, on_tensorflow
        )
    if not isinstance(data, tuple) or not 1 <= len(data) <= 3:
        raise TypeError(
            f"`{name}` must be (x, y) or (x, y, sample_weight) of arrays, "
            "a tf.data.Dataset, a PyDataset, a loader or a function that "
            f"makes a generator of batches, received {type(data).__name__}."
        )
    while data[1:] and data[-1] is None:
        data = data[:-1]  # no signature of a function holds None
    if any(part is None for part in data):
        raise ValueError(
            f"`{name}`: (x, None, sample_weight) weighs a loss of no labels; "
            "leave out the weights, or give y."
        )
    convert = functools.partial(_converted, name=name, floatx=floatx)
    data = content.tree_map(convert, data)
    if kept is not None:
        data = content.tree_map(_chosen(data, kept), data)
    special = [x for x in content.leaves(data) if not _is_array(x)]
    if special and not on_tensorflow:
        raise TypeError(
            f"`{name}`: sparse and ragged tensors are for Keras on "
            f"TensorFlow, received {type(special[0]).__name__}."
        )
    if any(hasattr(leaf, "tocsr") for leaf in special):
        feed = Sparse
    else:
        feed = Resident if on_tensorflow else Arrays
    return feed(data, batch_size, name)


def held_out(fraction: float, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of (the others, a random fraction) of examples, in order.

    >>> [part.tolist() for part in held_out(0.5, 4)]
    [[1, 3], [0, 2]]

    Raises:
        ValueError: One of them would be empty.
    """
    size = round(fraction * count)
    if not 0 < size < count:
        raise ValueError(
            f"{fraction:g} of {count} validation examples are {size}; a part "
            "for the search and one for the test must be left."
        )
    order = np.random.default_rng(0).permutation(count)
    return np.sort(order[size:]), np.sort(order[:size])


def _chosen(data, kept):
    """A function that takes a leaf's examples that are kept."""
    counts = content.sizes(data)
    chosen = kept(min(counts, default=0))

    def take(leaf):
        if _is_array(leaf) or hasattr(leaf, "tocsr"):
            return leaf[chosen]
        return _gathered(leaf, chosen)

    return take if len(counts) == 1 else lambda leaf: leaf


def _is_array(leaf):
    return isinstance(leaf, np.ndarray)


def _converted(leaf, name, floatx):
    """A leaf as an array; a ragged tensor, or a matrix of SciPy in CSR."""
    if hasattr(leaf, "nrows") and hasattr(leaf, "flat_values"):
        return leaf
    if hasattr(leaf, "dense_shape"):
        leaf = _matrix(leaf, name)
    if hasattr(leaf, "tocsr"):
        rows = leaf.tocsr()
        return rows.astype(floatx) if rows.dtype.kind == "f" else rows
    if hasattr(leaf, "detach"):
        leaf = leaf.detach().cpu()
    array = np.asarray(leaf)
    if array.ndim == 0:
        raise TypeError(
            f"`{name}` must hold arrays of examples, received {leaf!r}; lists "
            "of numbers become one by np.asarray."
        )
    if array.dtype.kind == "O":
        array = _without_objects(array, name)
    if array.dtype.kind in "mMV":
        raise TypeError(
            f"`{name}` must hold numbers or texts, received an array of "
            f"{array.dtype}."
        )
    return (
        array.astype(floatx, copy=False) if array.dtype.kind == "f" else array
    )


def _matrix(tensor, name):
    from scipy import sparse

    if len(tensor.dense_shape) != 2:
        raise TypeError(
            f"`{name}`: a sparse tensor must be a matrix, received one of "
            f"{len(tensor.dense_shape)} dimensions."
        )
    rows, columns = np.asarray(tensor.indices).T
    values, shape = np.asarray(tensor.values), np.asarray(tensor.dense_shape)
    return sparse.csr_matrix((values, (rows, columns)), shape=tuple(shape))


def _without_objects(array, name):
    """An array of Python objects, as pandas may give, as what they are."""
    kinds = {type(x) for x in array.ravel()}
    if kinds <= {str, bytes, np.str_, np.bytes_}:
        return array
    if all(issubclass(kind, numbers.Number) for kind in kinds):
        return array.astype(np.float64)
    raise TypeError(
        f"`{name}` must hold numbers or texts, received an array of Python "
        f"objects ({', '.join(sorted(kind.__name__ for kind in kinds))})."
    )


class Arrays:
    """Examples in memory; see `make`."""

    def __init__(self, data, batch_size, name):
        self._data = data
        self._batch_size = batch_size
        self._name = name
        self._look = 2
        self._placed = None
        lengths = content.sizes(data)
        if len(lengths) != 1 or 0 in lengths:
            raise ValueError(
                f"`{name}`: x, y and weights must have one number of examples, "
                f"at least 1; received {sorted(lengths)}."
            )
        (self.count,) = lengths
        self.content = content.Content(name)
        self.content.add(data)
        self.content.check()

    def check_updates(self) -> None:
        """Refuses data of which no update can be made.

        Raises:
            ValueError: Fewer examples than an update takes.
        """
        if self.count < self._batch_size:
            raise ValueError(
                f"Workload: batch_size={self._batch_size} is more than the "
                f"{self.count} examples of `{self._name}`."
            )

    @property
    def batch_size(self) -> int:
        """Examples of an update."""
        return self._batch_size

    def keep_size(self) -> None:
        """From now on all batches have `batch_size` examples.

        Raises:
            ValueError: They are no multiple of it.
        """
        self._look = self._batch_size

    @property
    def _keeps_size(self):
        return self._look == self._batch_size

    def total(self) -> int:
        """How many examples are evaluated, all of them.

        Raises:
            ValueError: The last batch would be one that the model does not
                take.
        """
        rest = self.count % self._batch_size
        if self._keeps_size and rest:
            raise ValueError(
                f"Workload: the model takes batches of {self._batch_size} "
                f"examples only, the last one of `{self._name}` has {rest}; "
                f"leave out {rest} of its {self.count} examples."
            )
        return self.count

    def indices(self, seed: int, first: int, count: int):
        """Examples of the updates from `first` on, (count, batch)."""
        size = self._batch_size
        order = shuffled_order.Epochs(self.count, seed)
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

    def batches(self):
        """All examples in batches; the last may be shorter."""
        for start in range(0, self.count, self._batch_size):
            yield self._part(slice(start, start + self._batch_size))

    def groups(self, most: int):
        """All examples in random groups of one size, each as batches.

        Args:
            most: How many groups, unless there are fewer examples.
        """
        size = self._batch_size if self._keeps_size else 1
        order = np.random.default_rng(0).permutation(self.count)
        units = order.reshape(-1, size).astype(np.int32)
        for part in np.array_split(units, min(most, len(units))):
            chosen = np.sort(part.ravel())
            yield (
                self._part(chosen[start : start + self._batch_size])
                for start in range(0, len(chosen), self._batch_size)
            )

    def sample(self, count: int, seed: int):
        """Batches of a random subset, the same for every trial.

        Args:
            count: How many examples, unless there are fewer.
            seed: The trial's seed; the subset does not depend on it.
        """
        del seed
        if self._keeps_size:
            count = max(1, count // self._batch_size) * self._batch_size
        chosen = np.random.default_rng(0).permutation(self.count)[:count]
        chosen.sort()
        for start in range(0, len(chosen), self._batch_size):
            part = chosen[start : start + self._batch_size]
            yield self._part(part.astype(np.int32))

    def example(self):
        """Two examples, or a whole batch where the model takes no other."""
        return self._part(slice(self._look))

    def _part(self, chosen):
        return content.tree_map(lambda array: array[chosen], self._data)

    def leaves(self) -> list:
        """All arrays."""
        return content.leaves(self._data)

    def placed(self, place):
        """The arrays where a framework wants them, which are put there once.

        Args:
            place: Function of an array.
        """
        if self._placed is None:
            self._placed = content.tree_map(place, self._data)
        return self._placed

    def describe(self) -> list:
        """Shape, dtype and a digest of every array."""
        return [
            [list(leaf.shape), str(np.dtype(array.dtype)), _digest(array)]
            for leaf in content.leaves(self._data)
            for array in [content.dense(leaf)]
        ]


class Resident(Arrays):
    """Arrays on TensorFlow's device; batches are gathered there."""

    def __init__(self, data, batch_size, name):
        import tensorflow as tf

        super().__init__(data, batch_size, name)
        self._digests = super().describe()
        self._data = content.tree_map(
            lambda x: tf.constant(x) if _is_array(x) else x, self._data
        )

    def describe(self):
        return self._digests

    @property
    def batch_signature(self):
        """The TensorFlow type of a batch of any length."""
        length = self._batch_size if self._keeps_size else None
        return self._specs(length)

    def _specs(self, length):
        import tensorflow as tf

        def spec(tensor):
            shape = length, *tensor.shape[1:]
            if isinstance(tensor, tf.RaggedTensor):
                return tf.RaggedTensorSpec(
                    shape,
                    tensor.dtype,
                    tensor.ragged_rank,
                    tensor.row_splits.dtype,
                )
            return tf.TensorSpec(shape, tensor.dtype)

        return content.tree_map(spec, self._data)

    @property
    def signature(self):
        """The TensorFlow type of `source`."""
        import tensorflow as tf

        indices = tf.TensorSpec((None, self._batch_size), tf.int32)
        return self._specs(None), indices

    def source(self, seed: int, first: int, count: int):
        """What a traced function takes for these updates."""
        import tensorflow as tf

        return self._data, tf.constant(self.indices(seed, first, count))

    @staticmethod
    def take(source, step):
        """The batch of the step-th of these updates, in a traced function."""
        data, indices = source
        return _gathered(data, indices[step])

    def _part(self, chosen):
        if isinstance(chosen, slice):
            return super()._part(chosen)
        return _gathered(self._data, chosen)


class Sparse(Arrays):
    """Arrays and matrices of SciPy, whose batches are gathered by SciPy."""

    def __init__(self, data, batch_size, name):
        super().__init__(data, batch_size, name)
        self._iterator = None

    @property
    def batch_signature(self):
        """The TensorFlow type of a batch of any length."""
        import tensorflow as tf

        length = self._batch_size if self._keeps_size else None

        def spec(leaf):
            shape = length, *leaf.shape[1:]
            kind = tf.TensorSpec if _is_array(leaf) else tf.SparseTensorSpec
            return kind(shape, tf.as_dtype(leaf.dtype))

        return content.tree_map(spec, self._data)

    @property
    def signature(self):
        """The TensorFlow type of `source`."""
        import tensorflow as tf

        return tf.data.IteratorSpec(self.batch_signature)

    def source(self, seed: int, first: int, count: int):
        """What a traced function takes for these updates, in order."""
        import tensorflow as tf

        if first == 0:
            endless = functools.partial(self._endless, seed)
            updates = tf.data.Dataset.from_generator(
                endless, output_signature=self.batch_signature
            )
            self._iterator = iter(updates.prefetch(2))
        return self._iterator

    def _endless(self, seed):
        for first in itertools.count(0, _STRETCH):
            yield from self.updates(seed, first, _STRETCH)

    take = staticmethod(stream.Stream.take)

    def _part(self, chosen):
        import tensorflow as tf

        def part(leaf):
            if _is_array(leaf):
                return tf.constant(leaf[chosen])
            return stream.sparse_tensor(leaf[chosen], leaf.dtype)

        return content.tree_map(part, self._data)


def _gathered(data, chosen):
    import tensorflow as tf

    return content.tree_map(lambda array: tf.gather(array, chosen), data)


def _digest(array) -> str:
    """Digest of the whole array or, beyond 64 MiB, of evenly spaced examples.

    The first and last examples are included: edits most often change those.
    """
    step = -(-array.nbytes // _DIGEST_BYTES) or 1
    part = array
    if step > 1:
        part = np.concatenate([array[:_ENDS], array[::step], array[-_ENDS:]])
    if part.dtype.kind in "OU":
        held = "\0".join(map(str, part.ravel())).encode()
    else:
        held = np.ascontiguousarray(part).tobytes()
    return hashlib.sha256(held).hexdigest()[:16]
