"""Data that come in batches: tf.data, generators, PyDatasets, loaders.

All of them are read as a tf.data.Dataset, anew for every trial. Where `train`
is a function of the seed, it is called anew as well, so that a trial sees the
same whatever was read before it.
"""

import functools
import itertools
import operator
import statistics
import time

import numpy as np

from lbcheck.data import pipeline
from lbcheck.support import random_state
from lbcheck.trials import content

_LOOK = 50
"""Batches that show which sizes and shapes come."""
_PEEK = 8
"""Batches that show which shapes a generator gives."""
_EXAMPLES = 1_000_000
_SECONDS = 60
"""Bounds of validation data of which nobody knows whether they end."""
_SAMPLE_BYTES = 2**30


def is_stream(data) -> bool:
    """Whether these are data that come in batches."""
    if hasattr(data, "element_spec") or _is_indexed(data):
        return True
    held = isinstance(data, (str, bytes, tuple, list, dict))
    return hasattr(data, "__iter__") and not (held or hasattr(data, "shape"))


def _is_indexed(data):
    """Whether it is a PyDataset of Keras 3 or a Sequence of tf_keras."""
    kinds = {cls.__name__ for cls in type(data).__mro__}
    return bool(kinds & {"PyDataset", "Sequence"})


def made(of_seed, seed: int):
    """Data of a seed, from the random state of a process that begins with it.

    What shuffles in tf.data takes part of its seed from there, also where it is
    given one.

    Args:
        of_seed: Function seed -> data.
        seed: At least 0.
    """
    with random_state.kept():
        random_state.begin_data(seed)
        return of_seed(seed)


class Stream:
    """Batches that come one after the other.

    In which order they come is their own affair: a dataset that shuffles
    gives every trial another order. A function of the seed that returns a
    dataset is the way to give all arms the same. A PyDataset that a function
    makes begins its epochs anew in every trial.

    An update takes `batch_size` examples: where the shapes of the examples
    are known, batches of another size are cut and joined, also across the
    end of an epoch. Where shapes differ (padded, bucketed, ragged, sparse),
    batches must have that size and pass as they are, a shorter one as well,
    as in `fit`.

    Args:
        of_seed: Function seed -> data.
        by_seed: Whether the data differ from seed to seed.
        batch_size: Examples of an update.
        name: What errors call it.
        floatx: Type of floating numbers that are no tensors yet.
        on_tensorflow: Whether batches are tensors, as they come; else they
            are tuples of arrays.

    Raises:
        TypeError, ValueError: Data of no such kind, or without a batch.
    """

    count = None
    longest = 2**30

    def __init__(
        self, of_seed, by_seed, batch_size, name, floatx, on_tensorflow
    ):
        self._of_seed = of_seed
        self._by_seed = by_seed
        self._batch_size = batch_size
        self._name = name
        self._floatx = floatx
        self._on_tensorflow = on_tensorflow
        self._iterator = None
        self._example = self._sample = None
        self._first = made(of_seed, 0)
        if hasattr(self._first, "__next__") and of_seed(0) is self._first:
            raise TypeError(
                f"`{name}` is a generator or an iterator, which can be read "
                "only once, but every trial begins anew; give the function "
                f"that makes it, `{name}=batches` instead of "
                f"`{name}=batches()`."
            )
        self._is_tf_data = hasattr(self._first, "element_spec") and not (
            hasattr(self._first, "__next__")
        )
        self._check_batched()

    def _check_batched(self):
        import tensorflow as tf

        specs = tf.nest.flatten(self.batch_signature)
        special = [s for s in specs if not isinstance(s, tf.TensorSpec)]
        if special and not self._on_tensorflow:
            raise TypeError(
                f"`{self._name}`: sparse and ragged tensors are for Keras on "
                f"TensorFlow, received {special[0]}."
            )
        example = self.example()
        if any(spec.shape.rank is None for spec in specs):
            raise ValueError(
                f"`{self._name}`: TensorFlow does not know how many dimensions "
                "its elements have; say so after a function of Python, such as "
                "by tf.ensure_shape(x, (None, 28, 28))."
            )
        rank_0 = [s for s in specs if s.shape.rank == 0]
        if rank_0 or len(content.sizes(example)) != 1:
            raise ValueError(
                f"`{self._name}` must come in batches, as for `fit`: (x, y) "
                "with as many examples in x as in y; received elements of the "
                f"shapes {[list(x.shape) for x in content.leaves(example)]}. "
                "Use .batch(...)."
            )

    def _dataset(self, seed, epoch=None):
        """The tf.data.Dataset of a seed, anew: one epoch, or without end."""
        import tensorflow as tf

        if self._is_tf_data:
            return pipeline.untuned(made(self._of_seed, seed))
        return tf.data.Dataset.from_generator(
            functools.partial(self._epoch, seed, epoch),
            output_signature=self.batch_signature,
        )

    def _read(self, seed, epoch=None):
        """Yields the batches of `_dataset` as the model's steps take them."""
        random_state.begin_python(seed)
        batch = None
        for batch in self._dataset(seed, epoch):
            yield self._given(batch)
        if batch is None:
            raise ValueError(self._without_batch)

    def _given(self, batch):
        if self._on_tensorflow:
            return batch
        batch = batch if isinstance(batch, tuple) else (batch,)
        return content.tree_map(np.asarray, batch)

    @property
    def _without_batch(self):
        if self._example is None:
            return f"`{self._name}` has no batch."
        return (
            f"`{self._name}` has no batch when it is read again, but every "
            "trial reads it anew; what it is made from must be made by the "
            "function that tf.data.Dataset.from_generator takes, or by a "
            f"function that is given as `{self._name}`."
        )

    def _epoch(self, seed, epoch, data=None):
        """Batches of data that are no tf.data, in the order of an epoch.

        Args:
            seed: The trial's seed.
            epoch: Number of the epoch; None for the order of the data.
            data: PyDataset of the epochs before; None for data made anew.
        """
        data = self._of_seed(seed) if data is None else data
        if _is_indexed(data):
            return self._indexed(data, seed, epoch)
        return map(self._converted, data)

    def _indexed(self, data, seed, epoch):
        if hasattr(data, "on_epoch_begin"):
            data.on_epoch_begin()
        count = _batches_of(data)
        order = itertools.count() if count is None else range(count)
        if epoch is not None and count is not None:
            # As `fit` shuffles them.
            generator = np.random.default_rng([seed, epoch])
            order = generator.permutation(count).tolist()
        for index in order:
            yield self._converted(data[index])
        if hasattr(data, "on_epoch_end"):
            data.on_epoch_end()

    def _converted(self, batch):
        """As tf.data takes it: tuples, floating numbers of one type."""
        if isinstance(batch, (list, tuple)):
            while batch and batch[-1] is None:
                batch = batch[:-1]
            batch = tuple(batch)
        return _without_lists(content.tree_map(self._array, batch))

    def _array(self, leaf):
        import tensorflow as tf

        if isinstance(leaf, (tf.RaggedTensor, tf.SparseTensor)):
            return leaf
        if hasattr(leaf, "tocsr"):
            return sparse_tensor(leaf, self._floatx)
        if hasattr(leaf, "detach"):
            leaf = leaf.detach().cpu()
        array = np.asarray(leaf)
        floating = array.dtype.kind == "f"
        return array.astype(self._floatx) if floating else array

    @functools.cached_property
    def batch_signature(self):
        """The TensorFlow type of a batch of the dataset."""
        if self._is_tf_data:
            return self._first.element_spec
        peeked = list(itertools.islice(self._epoch(0, None), _PEEK))
        if not peeked:
            raise ValueError(self._without_batch)
        return _signature(peeked, self._name)

    @functools.cached_property
    def _is_static(self):
        """Whether all examples have one shape, which is known."""
        import tensorflow as tf

        return all(
            isinstance(spec, tf.TensorSpec)
            and spec.shape.rank is not None
            and spec.shape[1:].is_fully_defined()
            for spec in tf.nest.flatten(self.batch_signature)
        )

    @functools.cached_property
    def _joins(self):
        """Whether batches are cut and joined; see the class.

        Raises:
            ValueError: Fewer examples than an update takes, or batches of
                another size that cannot be joined.
        """
        found, seen = [], content.Content(self._name)
        shapes = set()
        for batch in self._read(0):
            seen.add(batch)
            found.append(content.sizes(batch)[0])
            shapes.add(_inner_shapes(batch))
            looked = self._is_static or len(found) >= _LOOK
            if looked and seen.count >= self._batch_size:
                break
        seen.check()
        if seen.count < self._batch_size:
            raise ValueError(
                f"Workload: batch_size={self._batch_size} is more than the "
                f"{seen.count} examples of `{self._name}`."
            )
        if self._is_static:
            return True
        if statistics.mode(found) == max(found) == self._batch_size:
            return False
        if len(shapes) == 1 and None not in shapes:
            return True
        raise ValueError(
            f"`{self._name}`: its batches have {_range(found)} examples, and "
            "those of other shapes, ragged or sparse ones cannot be joined to "
            f"batch_size={self._batch_size}; batch them by it, such as "
            f".padded_batch({self._batch_size}), or set batch_size to theirs."
        )

    def _updates(self, seed):
        """The dataset of the updates of a seed, without end."""
        import tensorflow as tf

        if self._is_tf_data:
            dataset = self._dataset(seed)
            if dataset.cardinality() != tf.data.INFINITE_CARDINALITY:
                dataset = dataset.repeat()
            dataset = dataset.concatenate(
                tf.data.Dataset.from_generator(
                    self._refuse_end, output_signature=self.batch_signature
                )
            )
        else:
            dataset = tf.data.Dataset.from_generator(
                functools.partial(self._endless, seed),
                output_signature=self.batch_signature,
            )
        if self._joins:
            dataset = dataset.rebatch(self._batch_size, drop_remainder=True)
        return pipeline.untuned(dataset)

    def _endless(self, seed):
        data = self._of_seed(seed) if _is_indexed(self._first) else None
        for epoch in itertools.count():
            batch = None
            for batch in self._epoch(seed, epoch, data):
                yield batch
            if batch is None:
                raise ValueError(self._without_batch)

    def _refuse_end(self):
        """What comes after data without end: of data that are read once."""
        raise ValueError(self._without_batch)

    @property
    def batch_size(self) -> int:
        """Examples of an update."""
        return self._batch_size

    def keep_size(self) -> None:
        """From now on all batches must have `batch_size` examples.

        Raises:
            ValueError: The first batch has another number.
        """
        found = content.sizes(self.example())[0]
        if found != self._batch_size:
            raise ValueError(
                f"Workload: the model takes batches of {self._batch_size} "
                f"examples only, those of `{self._name}` have {found}."
            )

    def check_updates(self) -> None:
        """Refuses data whose batches cannot be updates.

        Raises:
            ValueError: Says what to do.
        """
        self._joins  # noqa: B018

    @functools.cached_property
    def signature(self):
        """The TensorFlow type of `source`."""
        import tensorflow as tf

        return tf.data.IteratorSpec(self._updates(0).element_spec)

    def source(self, seed: int, first: int, count: int):
        """What a traced function takes for the updates that come next."""
        del count
        if first == 0:
            updates = self._begun(seed)
            # Other data may draw from global state, as what an evaluation
            # reads, and must not do so when the trial is over.
            self._iterator = iter(
                updates.prefetch(2) if self._is_tf_data else updates
            )
        return self._iterator

    def _begun(self, seed):
        """The dataset of `_updates`, and what it may draw from at its seed."""
        random_state.begin_python(seed)
        return self._updates(seed)

    @staticmethod
    def take(source, step):
        """The next batch, in a traced function."""
        del step
        return next(source)

    def updates(self, seed: int, first: int, count: int):
        """Yields the batches of the updates that come next.

        None is read before it is asked for: the model may draw from the same
        global state, and an evaluation sets it back.
        """
        if first == 0:
            self._iterator = iter(self._begun(seed))
        for _ in range(count):
            yield self._given(next(self._iterator))

    def batches(self):
        """Yields the batches of the dataset, at least one."""
        return self._read(0)

    def example(self):
        """The first batch that was read."""
        if self._example is None:
            self._example = next(self._read(0))
        return self._example

    def total(self) -> int:
        """How many examples there are; reads them all and looks at them.

        Raises:
            ValueError: They do not end, there is none, or they are NaN.
        """
        import tensorflow as tf

        number = int(self._dataset(0).cardinality())
        endless = number == tf.data.INFINITE_CARDINALITY
        if endless or number > _EXAMPLES:
            raise ValueError(
                f"`{self._name}` has "
                f"{'no end' if endless else f'{number:,} batches'}: "
                f"{self._how_to_end()}."
            )
        seen = content.Content(self._name)
        limit = time.monotonic() + _SECONDS
        self._sizes = []
        for batch in self._read(0):
            seen.add(batch)
            self._sizes.append(content.sizes(batch)[0])
            if number >= 0:
                continue  # it ends
            if time.monotonic() > limit or seen.count > _EXAMPLES:
                raise ValueError(
                    f"`{self._name}` did not end within {seen.count:,} "
                    "examples; where nobody knows how many there are, at most "
                    f"{_EXAMPLES:,} are read, within {_SECONDS} seconds: "
                    f"{self._how_to_end()}."
                )
        seen.check()
        self.content = seen
        return seen.count

    def _how_to_end(self):
        if self._is_tf_data:
            return (
                "leave out .repeat(), or end it with .take(n); if it ends, "
                "say when with "
                ".apply(tf.data.experimental.assert_cardinality(n)), n batches"
            )
        return "let it end after the last batch"

    def groups(self, most: int):
        """As `Arrays.groups`, of batches that follow one another.

        A short batch, as the last may be, goes with the one before. `total`
        must have been asked for.
        """
        sizes = np.array(self._sizes)
        count = max(1, min(most, sizes.sum() // sizes.max()))
        middles = np.cumsum(sizes) - sizes / 2
        places = (middles * count // sizes.sum()).astype(int).tolist()
        placed = zip(places, self.batches())
        for _, found in itertools.groupby(placed, operator.itemgetter(0)):
            yield (batch for _, batch in found)

    def sample(self, count: int, seed: int) -> list:
        """Batches of the first examples of a seed, kept for the last seed.

        They are read once, in the order and with the augmentation of
        training, and at most a gigabyte of them.

        Args:
            count: How many examples, unless there are fewer.
            seed: Seed of the data.
        """
        key = count, seed if self._by_seed else 0
        if self._sample is None or self._sample[0] != key:
            self._sample = key, self._taken(*key)
        return self._sample[1]

    def _taken(self, count, seed):
        import tensorflow as tf

        found, size = [], 0
        for batch in self._read(seed, epoch=0):
            (examples,) = content.sizes(batch)
            if examples > count and self._is_static and not self._keeps_size:
                first = operator.itemgetter(slice(count))
                batch = tf.nest.map_structure(first, batch)
            found.append(batch)
            count -= examples
            size += sum(content.dense(x).nbytes for x in content.leaves(batch))
            if count <= 0 or size > _SAMPLE_BYTES:
                break
        return found

    @property
    def _keeps_size(self):
        """Whether all batches must have the size that they have."""
        import tensorflow as tf

        specs = tf.nest.flatten(self.batch_signature)
        return any(spec.shape[0] is not None for spec in specs)

    def describe(self) -> list:
        """The type of its elements and the number of its batches."""
        number = int(self._dataset(0).cardinality())
        return [str(self.batch_signature), number]


def sparse_tensor(matrix, floatx):
    """The tf.SparseTensor of a matrix of SciPy, rows in order."""
    import tensorflow as tf

    rows = matrix.tocsr().sorted_indices().tocoo()
    floating = rows.data.dtype.kind == "f"
    values = rows.data.astype(floatx) if floating else rows.data
    indices = np.stack([rows.row, rows.col], axis=1).astype(np.int64)
    return tf.SparseTensor(indices, values, rows.shape)


def _batches_of(data):
    """Batches of an epoch of a PyDataset; None where it has no end."""
    count = data.num_batches if hasattr(data, "num_batches") else len(data)
    return None if count is None or count == float("inf") else int(count)


def _without_lists(structure):
    """The structure with tuples for lists, which tf.data would stack."""
    if isinstance(structure, dict):
        return {k: _without_lists(v) for k, v in structure.items()}
    if isinstance(structure, (list, tuple)):
        return tuple(map(_without_lists, structure))
    return structure


def _signature(batches, name):
    """The TensorFlow type of these batches; None for lengths that differ."""
    import tensorflow as tf

    def common(*arrays):
        first = arrays[0]
        if isinstance(first, tf.RaggedTensor):
            ranks = first.ragged_rank, first.shape.rank
            shape = (None,) * ranks[1]
            return tf.RaggedTensorSpec(shape, first.dtype, ranks[0])
        shapes = [tuple(array.shape) for array in arrays]
        if len(set(map(len, shapes))) > 1:
            raise ValueError(
                f"`{name}`: its batches have the shapes {shapes[:4]}; expected "
                "one number of dimensions."
            )
        inner = [
            lengths[0] if len(set(lengths)) == 1 else None
            for lengths in list(zip(*shapes))[1:]
        ]
        shape = (None, *inner)
        if isinstance(first, tf.SparseTensor):
            return tf.SparseTensorSpec(shape, first.dtype)
        if not shapes[0]:
            return tf.TensorSpec((), first.dtype)
        dtype = tf.string if first.dtype.kind in "OSU" else first.dtype
        return tf.TensorSpec(shape, dtype)

    return tf.nest.map_structure(common, *batches)


def _inner_shapes(batch):
    """Shapes of the examples of dense leaves; None with another leaf."""
    found = content.leaves(batch)
    if any(hasattr(x, "nrows") or hasattr(x, "dense_shape") for x in found):
        return None
    return tuple(tuple(x.shape[1:]) for x in found)


def _range(numbers):
    low, high = min(numbers), max(numbers)
    return str(low) if low == high else f"{low} to {high}"
