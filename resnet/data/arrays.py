"""A data set that fits in memory: its stream, its shards, its validation.

NumPy only, so that it serves every Keras backend.
"""

import math
from typing import NamedTuple

import numpy as np

from lbcheck.data import shuffled_order
from resnet.data import augmentation


class Split(NamedTuple):
    """Images and labels of one part of a data set.

    Attributes:
        images: uint8 (examples, height, width, channels).
        labels: Integers (examples,).
        origin: File or set they come from, for messages.
    """

    images: np.ndarray
    labels: np.ndarray
    origin: str


class ArraySource:
    """A source (see `resnet.data`) held in two arrays.

    Each channel is standardised by the training images:

        x = (image - mean) / standard_deviation

    Their order is that of `lbcheck.data.shuffled_order`; an example is
    augmented by numbers drawn from (seed, its position in the stream),
    whatever the batch size and the shards.

    Attributes:
        mean: Mean of each channel of the training images, in their units.
        standard_deviation: The same.
    """

    def __init__(self, name, train, validation, num_classes, seed, augment):
        for split in (train, validation):
            _check(split, train.images.shape[1:])
            check_labels(split.labels, num_classes, split.origin)
        if augment not in augmentation.NAMES:
            raise ValueError(
                f"unknown `augment` {augment!r} for {name}; expected one of "
                f"{', '.join(augmentation.NAMES)}."
            )
        side = min(train.images.shape[1:3])
        if augment == "davidnet" and side < augmentation.SMALLEST:
            raise ValueError(
                f"`augment` 'davidnet' cuts 8x8 pixels out of images of at "
                f"least {augmentation.SMALLEST}; those of {name} have {side}."
            )
        self.name = name
        self.num_classes = num_classes
        self.num_train = len(train.labels)
        self.num_validation = len(validation.labels)
        self.image_shape = train.images.shape[1:]
        self.mean, self.standard_deviation = _statistics(train.images)
        if not self.standard_deviation.all():
            raise ValueError(
                f"{train.origin}: all pixels of a channel are equal in the "
                "training images, so that they cannot be standardised."
            )
        self._train = train
        self._validation = validation
        self._seed = seed
        self._augment = augmentation.NAMES[augment]

    def train(self, batch_size, start=0, shard=0, num_shards=1):
        """The training stream, an endless iterator; see `resnet.data`."""
        check_shard(batch_size, start, shard, num_shards)
        return self._stream(batch_size, start, shard, num_shards)

    def _stream(self, batch_size, block, shard, num_shards):
        order = shuffled_order.Epochs(self.num_train, self._seed)
        while True:
            first = (block * num_shards + shard) * batch_size
            chosen = order.examples(first, batch_size)
            images = self._standardise(self._train.images[chosen])
            if self._augment is not None:
                images = self._augment(images, self._seed, first)
            yield images, self._train.labels[chosen].astype(np.int32)
            block += 1

    def validation(self, batch_size, shard=0, num_shards=1):
        """Every validation example once, padded; see `resnet.data`."""
        check_shard(batch_size, 0, shard, num_shards)
        return self._validation_batches(batch_size, shard, num_shards)

    def _validation_batches(self, batch_size, shard, num_shards):
        blocks = math.ceil(self.num_validation / (batch_size * num_shards))
        for block in range(blocks):
            first = (block * num_shards + shard) * batch_size
            part = slice(first, first + batch_size)
            found = self._standardise(self._validation.images[part])
            images = np.zeros((batch_size, *self.image_shape), np.float32)
            labels = np.zeros(batch_size, np.int32)
            weights = np.zeros(batch_size, np.float32)
            images[: len(found)] = found
            labels[: len(found)] = self._validation.labels[part]
            weights[: len(found)] = 1
            yield images, labels, weights

    def _standardise(self, images):
        scale = (1 / self.standard_deviation).astype(np.float32)
        return (images - self.mean.astype(np.float32)) * scale

    def check(self):
        """What was found, one line per split."""
        shape = "x".join(str(size) for size in self.image_shape)
        return [
            f"{self.name} {kind}: {len(split.labels)} images of {shape}, "
            f"{self.num_classes} classes, from {split.origin}"
            for kind, split in (
                ("train", self._train),
                ("validation", self._validation),
            )
        ]


def _check(split, shape):
    """Raises unless it has images of the shape and a label for each."""
    images, labels = split.images, split.labels
    if images.ndim != 4 or images.dtype != np.uint8 or not images.size:
        raise ValueError(
            f"{split.origin}: expected images as bytes of (examples, height, "
            f"width, channels), received {images.shape} of {images.dtype}."
        )
    if images.shape[1:] != shape:
        raise ValueError(
            f"{split.origin}: has images of {images.shape[1:]}, expected those "
            f"of training, {shape}."
        )
    if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu":
        raise ValueError(
            f"{split.origin}: expected {len(images)} whole numbers as labels, "
            f"received {labels.shape} of {labels.dtype}."
        )


def check_labels(labels, num_classes, origin):
    """Raises if a label is not in 0..num_classes-1, naming the first."""
    wrong = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if len(wrong):
        raise ValueError(
            f"{origin}: record {wrong[0]} has label {labels[wrong[0]]}, "
            f"expected 0 to {num_classes - 1}."
        )


def check_shard(batch_size, start, shard, num_shards):
    """Raises if they are no part of a stream, naming the wrong one."""
    for name, value, least in (
        ("batch_size", batch_size, 1),
        ("start", start, 0),
        ("num_shards", num_shards, 1),
    ):
        if value < least:
            raise ValueError(
                f"`{name}` must be at least {least}, received {value}."
            )
    if not 0 <= shard < num_shards:
        raise ValueError(
            f"`shard` must be 0 to {num_shards - 1}, received {shard}."
        )


def _statistics(images):
    """Mean and standard deviation of each channel, in float64."""
    total = squares = np.zeros(images.shape[-1])
    # In parts: the whole of CIFAR-10 in float64 would take 1.2 GB.
    for first in range(0, len(images), 1000):
        part = images[first : first + 1000].astype(np.float64)
        total = total + part.sum((0, 1, 2))
        squares = squares + (part**2).sum((0, 1, 2))
    mean = total / math.prod(images.shape[:-1])
    variance = squares / math.prod(images.shape[:-1]) - mean**2
    return mean, np.sqrt(variance)
