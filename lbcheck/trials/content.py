"""What data hold, looked at once: numbers that are not finite, labels."""

import math
import warnings

import numpy as np

_MOST_CLASSES = 100_000


class Content:
    """What the batches hold that were shown to it.

    Args:
        name: What messages call the data.

    Attributes:
        count: Examples that were shown.
        has_weights: Whether they have weights.
    """

    def __init__(self, name: str):
        self._name = name
        self.count = 0
        self.has_weights = False
        self._bad = 0
        self._first_bad = None
        self._finite = {}
        self._labels = {}
        self._counts = {}
        self._width = 1

    def add(self, batch) -> None:
        """Looks at (x, y, ...), at leaves of NumPy arrays or tensors."""
        size = sizes(batch)[0]
        bad = np.zeros(size, bool)
        for place, leaf in enumerate(leaves(batch)):
            values = dense(leaf)
            if values.dtype.kind != "f":
                continue
            finite = np.isfinite(values)
            known = self._finite.get(place, False)
            self._finite[place] = known or bool(finite.any())
            if len(values) == size and not finite.all():
                bad |= ~finite.all(axis=tuple(range(1, values.ndim)))
        if bad.any() and self._first_bad is None:
            self._first_bad = self.count + int(bad.argmax())
        self._bad += int(bad.sum())
        self.count += size
        if isinstance(batch, tuple) and len(batch) > 1:
            weights = leaves(batch[2]) if len(batch) == 3 else []
            self.has_weights |= bool(weights)
            self._add_labels(leaves(batch[1]), weights)

    def _add_labels(self, labels, weights):
        for place, leaf in enumerate(labels):
            self._count(place, leaf, weights)
            values = dense(leaf)
            if not len(values):
                continue
            first = self._labels.setdefault(place, values[0])
            same = first is not None and np.shape(first) == values.shape[1:]
            if not same or values.ndim > 2 or not (values == first).all():
                self._labels[place] = None

    def _count(self, place, leaf, weights):
        """Counts the examples of each class; None of what has no classes."""
        counts = self._counts.setdefault(place, {})
        classes = None if counts is None else _classes(leaf)
        weight = dense(weights[0]).ravel() if len(weights) == 1 else None
        if classes is None or weights and np.shape(weight) != classes.shape:
            self._counts[place] = None
            return
        labels, places = np.unique(classes, return_inverse=True)
        numbers = np.bincount(places)
        parts = zip(numbers, np.bincount(places, weight), strict=True)
        for label, part in zip(map(int, labels), parts):
            counts[label] = counts.get(label, 0) + np.array(part)
        self._width = math.prod(leaf.shape[1:])
        if len(counts) > _MOST_CLASSES:
            self._counts[place] = None

    def chance(self, metric: str, weighted: bool) -> float | None:
        """What always predicting the commonest label reaches of an accuracy.

        None where the labels are no classes, one for each example.

        Args:
            metric: Name of the accuracy.
            weighted: Whether examples count by their weights.
        """
        found = list(self._counts.values())
        if len(found) != 1 or not found[0]:
            return None
        numbers = np.array(list(found[0].values()))[:, int(weighted)]
        if not numbers.sum() > 0:
            return None
        shares = numbers / numbers.sum()
        if metric == "binary_accuracy" and self._width > 1:
            # Of each column of one-hot rows, most of which are 0.
            return float(1 - np.minimum(shares, 1 - shares).sum() / self._width)
        return float(shares.max())

    def check(self) -> None:
        """Refuses data that cannot be judged; warns of suspicious data.

        Raises:
            ValueError: No example, or nothing but NaN and infinity.
        """
        if not self.count:
            raise ValueError(f"`{self._name}` has no example.")
        if not all(self._finite.values()):
            raise ValueError(
                f"`{self._name}`: x, y or the weights hold no finite number, "
                "nothing but NaN or infinity, so that nothing can be measured."
            )
        if self._bad:
            warnings.warn(
                f"`{self._name}`: {self._bad} of {self.count} examples have "
                "numbers that are not finite, first example "
                f"{self._first_bad} (counted from 0); most models diverge on "
                "them.",
                stacklevel=2,
            )
        # Some of several, such as the weights of tokens, may well be constant.
        constant = [x is not None for x in self._labels.values()]
        if constant and all(constant) and self.count > 1:
            warnings.warn(
                f"`{self._name}`: all {self.count} labels are the same, so "
                "that a model that always predicts it would be perfect.",
                stacklevel=2,
            )


def _classes(leaf):
    """The class of each example, of integers or one-hot rows; else None."""
    if hasattr(leaf, "nrows") or hasattr(leaf, "dense_shape"):
        return None
    values = dense(leaf)
    if values.dtype.kind not in "iubf" or not len(values):
        return None
    values = values.reshape(len(values), -1)
    if values.shape[1] == 1:
        is_whole = (values == np.round(values)) & (abs(values) < 2**31)
        return values[:, 0] if is_whole.all() else None
    if ((values == 0) | (values == 1)).all() and (
        values.sum(axis=1) == 1
    ).all():
        return values.argmax(axis=1)
    return None


def tree_map(function, structure):
    """The function of every leaf of lists, tuples and dicts; None stays."""
    if structure is None:
        return None
    if isinstance(structure, dict):
        return {k: tree_map(function, v) for k, v in structure.items()}
    if isinstance(structure, (list, tuple)):
        parts = [tree_map(function, part) for part in structure]
        if hasattr(structure, "_fields"):
            return type(structure)(*parts)
        return type(structure)(parts)
    return function(structure)


def leaves(structure) -> list:
    """The leaves of `tree_map`, in order."""
    found = []
    tree_map(found.append, structure)
    return found


def sizes(batch) -> list[int]:
    """The numbers of examples of the leaves, each once; [0] without any."""
    found = dict.fromkeys(map(size, leaves(batch)))
    return list(found) or [0]


def size(leaf) -> int:
    """Examples of an array, or of a ragged or sparse tensor."""
    if hasattr(leaf, "dense_shape"):
        return int(leaf.dense_shape[0])
    return int(leaf.nrows()) if hasattr(leaf, "nrows") else int(leaf.shape[0])


def dense(leaf) -> np.ndarray:
    """The array of a leaf; of a ragged or sparse one what it stores."""
    if hasattr(leaf, "nrows"):
        leaf = leaf.flat_values
    elif hasattr(leaf, "dense_shape"):
        leaf = leaf.values
    elif hasattr(leaf, "tocsr"):
        leaf = leaf.data
    return np.asarray(leaf)
