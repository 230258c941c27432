"""ImageNet from TFRecords, in the usual layout or as TFDS writes them.

A shard of the training stream is made of the files shard, shard + num_shards,
and so on. Epoch e of a shard is a function of (seed, e, shard, num_shards):
its files in random order, ten read in turn, the records shuffled in a buffer.
The example at a position of the stream is cropped and mirrored by numbers
drawn from (seed, position), whatever the parallelism.

A broken JPEG is found where it is decoded; damage below a crop is not seen. Up
to `max_bad_records` of them are logged and replaced by the next good example
of their batch (in validation, left out: weight 0); one more is an error that
names it. As the position of no other example changes, a restart sees the same
stream. Each process counts for itself, a record once.

Records whose number is not known are counted by their headers, in seconds on
a local disk. Elsewhere (gs://) that reads the files: let TFDS prepare the
data, which stores the counts, or give `num_train_examples`.
"""

import logging
import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from lbcheck.data import tfrecords
from lbcheck.support import errors
from resnet.data import arrays
from resnet.data import preprocessing as chains
from resnet.data import records
from resnet.data import tfds

_CLASSES = 1000
_SIDES = ("ymin", "xmin", "ymax", "xmax")
_PADDING = np.int64(-1)
_PARALLEL = tf.data.AUTOTUNE
_WHOLE = 1_281_167
"""Training images of ILSVRC 2012."""
_CHECKED = 256
"""Records of each split that `check` decodes."""
_FORMATS = {
    b"\x89PNG": "a PNG",
    b"GIF8": "a GIF",
    b"BM": "a BMP",
    b"RIFF": "a WebP",
    b"II*\0": "a TIFF",
    b"MM\0*": "a TIFF",
}
_JPEG = b"\xff\xd8"


class Layout(NamedTuple):
    """How a record holds an example.

    Attributes:
        image: Feature with the JPEG.
        label: Feature with the label.
        first_label: Label of class 0.
        box: Beginning of the features with the boxes, None if it has none.
    """

    image: str
    label: str
    first_label: int
    box: str | None


_STANDARD = Layout("image/encoded", "image/class/label", 1, "image/object/bbox")
_TFDS = Layout("image", "label", 0, None)


class Split(NamedTuple):
    """Files of a split and, unless it was not counted, records of each."""

    paths: list[str]
    counts: list[int] | None


def source(
    data_dir,
    seed,
    image_size=224,
    preprocessing="paper",
    max_bad_records=0,
    num_train_examples=None,
):
    """ImageNet's training and validation images, (size, size, 3)."""
    if preprocessing not in chains.CHAINS:
        raise ValueError(
            f"unknown `preprocessing` {preprocessing!r}; expected one of "
            f"{', '.join(chains.CHAINS)}."
        )
    if image_size < 1:
        raise ValueError(
            f"`image_size` must be at least 1, received {image_size}."
        )
    if tfds.names(data_dir):
        splits = tfds.files("imagenet2012", data_dir, ("train", "validation"))
        train, validation = (Split(*found) for found in splits)
        layout = _TFDS
    else:
        paths = records.find(data_dir, "train")
        counted = num_train_examples is None
        train = Split(paths, _count(paths) if counted else None)
        paths = records.find(data_dir, "validation")
        validation = Split(paths, _count(paths))
        layout = _STANDARD
    return ImageNet(
        data_dir,
        train,
        validation,
        layout,
        seed,
        image_size,
        chains.CHAINS[preprocessing],
        max_bad_records,
        num_train_examples,
    )


def _count(paths):
    counts = tfrecords.count(paths)
    for path, number in zip(paths, counts):
        if not number:
            raise ValueError(f"{path}: holds no record.")
    return counts


class ImageNet:
    """A source (see `resnet.data`) of tf.data.Datasets; see the module."""

    name = "imagenet"
    num_classes = _CLASSES

    def __init__(
        self,
        data_dir,
        train,
        validation,
        layout,
        seed,
        image_size,
        chain,
        max_bad_records,
        num_train_examples,
    ):
        self.num_train = num_train_examples
        if train.counts is not None:
            self.num_train = sum(train.counts)
            if num_train_examples not in (None, self.num_train):
                raise ValueError(
                    f"`num_train_examples` is {num_train_examples}, but "
                    f"{data_dir} has {self.num_train}."
                )
        self.num_validation = sum(validation.counts)
        self.image_shape = (image_size, image_size, 3)
        self._data_dir = data_dir
        self._train = train
        self._validation = validation
        self._layout = layout
        self._seed = seed
        self._size = image_size
        self._chain = chain
        self._max_bad_records = max_bad_records
        self._broken = set()

    def train(self, batch_size, start=0, shard=0, num_shards=1):
        """The shard's endless training stream, a tf.data.Dataset."""
        arrays.check_shard(batch_size, start, shard, num_shards)
        paths = self._train.paths[shard::num_shards]
        if not paths:
            raise ValueError(
                f"imagenet: {self._data_dir} has {len(self._train.paths)} "
                f"training files, too few for {num_shards} shards."
            )
        size = self._shard_size(shard, num_shards)
        epoch, offset = divmod(start * batch_size, size)

        def read_epoch(number):
            order = tf.random.experimental.stateless_shuffle(
                tf.range(len(paths), dtype=tf.int64),
                seed=[self._seed, number],
            )
            found = tfrecords.read(paths, order).concatenate(
                self._too_few(size)
            )
            part = number * num_shards + shard
            return tfrecords.shuffle(found.take(size), self._seed, part)

        def prepare(encoded, boxes, position):
            key = tf.stack([self._seed, position * num_shards + shard])
            return self._chain.train(encoded, boxes, key, self._size)

        batches = (
            tf.data.Dataset.counter(epoch)
            .flat_map(read_epoch)
            .skip(offset)
            .batch(batch_size, drop_remainder=True)
            .enumerate(start)
        )
        decoded = self._decode(batches, paths, prepare, substitute=True)
        return tfrecords.finish(
            decoded.map(lambda images, labels, _: (images, labels))
        )

    def validation(self, batch_size, shard=0, num_shards=1):
        """Every validation example once, padded, a tf.data.Dataset.

        Each shard reads all files and decodes its own records.
        """
        arrays.check_shard(batch_size, 0, shard, num_shards)
        blocks = math.ceil(self.num_validation / (batch_size * num_shards))
        paths = self._validation.paths
        padding = tf.data.Dataset.from_tensors((_PADDING, b"")).repeat()

        def prepare(encoded, boxes, position):
            del boxes, position
            return self._chain.evaluate(encoded, self._size)

        batches = (
            tfrecords.read(paths, tf.range(len(paths), dtype=tf.int64))
            .shard(num_shards, shard)
            .concatenate(padding)
            .take(blocks * batch_size)
            .batch(batch_size, drop_remainder=True)
            .enumerate()
        )
        return tfrecords.finish(
            self._decode(batches, paths, prepare, substitute=False)
        )

    def check(self):
        """What was found; reads all record lengths and some images."""
        lines = []
        for kind, split, examples in (
            ("train", self._train, self.num_train),
            ("validation", self._validation, self.num_validation),
        ):
            found = sum(_count(split.paths))
            if found != examples:
                raise ValueError(
                    f"{self._data_dir}: the {kind} files hold {found} "
                    f"records, expected {examples}."
                )
            decoded = self._check_images(split.paths)
            lines.append(
                f"imagenet {kind}: {examples} records in {len(split.paths)} "
                f"files, from {self._data_dir}; the first {decoded} were "
                "decoded"
            )
        if self.num_train != _WHOLE:
            lines.append(
                f"These {self.num_train:,} training records are not the "
                f"{_WHOLE:,} of ImageNet: epochs below are passes over "
                "them, and no published result can be expected."
            )
        return lines

    def verify(self):
        """Reads all files with their checksums; see `lbcheck.training.run`."""
        for path in (*self._train.paths, *self._validation.paths):
            tfrecords.read_whole(path)

    def _check_images(self, paths):
        """How many records were decoded, of the first files."""
        number = 0
        for path in paths:
            found = tf.data.TFRecordDataset(path).take(_CHECKED - number)
            try:
                for record, example in enumerate(found.as_numpy_iterator()):
                    name = f"{path}: record {record}"
                    reason = self._examine(name, example)
                    if reason is not None:
                        self._count_broken(name, reason)
                    number += 1
            except tf.errors.DataLossError:
                tfrecords.read_whole(path)
                raise
            if number == _CHECKED:
                break
        return number

    def _shard_size(self, shard, num_shards):
        if num_shards == 1:
            return self.num_train
        if self._train.counts is None:
            return sum(tfrecords.count(self._train.paths[shard::num_shards]))
        return sum(self._train.counts[shard::num_shards])

    def _too_few(self, size):
        """A dataset to read from when the files of an epoch are at an end."""

        def fail(_):
            message = (
                f"imagenet: the training files hold fewer than {size} "
                "records, see `num_train_examples`."
            )
            with tf.control_dependencies(
                [tf.debugging.Assert(False, [message])]
            ):
                return tf.constant(_PADDING), tf.constant(b"")

        return tf.data.Dataset.from_tensors(0).map(fail)

    def _parse(self, example):
        """(JPEG, class, boxes) of a serialised tf.train.Example."""
        layout = self._layout
        features = {
            layout.image: tf.io.FixedLenFeature([], tf.string),
            layout.label: tf.io.FixedLenFeature([], tf.int64),
        }
        annotated = self._chain.boxes and layout.box is not None
        if annotated:
            sides = [f"{layout.box}/{side}" for side in _SIDES]
            features |= {
                side: tf.io.FixedLenSequenceFeature(
                    [], tf.float32, allow_missing=True
                )
                for side in sides
            }
        found = tf.io.parse_single_example(example, features)
        boxes = (
            tf.stack([found[side] for side in sides], -1)
            if annotated
            else tf.constant(chains.WHOLE_IMAGE)
        )
        label = found[layout.label] - layout.first_label
        return found[layout.image], label, boxes[None]

    def _decode(self, batches, paths, prepare, substitute):
        """(images, labels, weights) of (number, (names, examples)) batches.

        A record that fails leaves a gap. It costs less to look for gaps once
        a batch than to guard each record, which is why a batch is a dataset.
        """

        def repair(*batch):
            return self._repair(paths, substitute, *batch)

        def decode_batch(number, batch):
            names, examples = batch
            batch_size = names.shape[0]

            def decode(slot, example):
                encoded, label, boxes = self._parse(example)
                position = number * batch_size + slot
                # Clipped: a cast would make a class of 2**32.
                label = tf.cast(tf.clip_by_value(label, -1, _CLASSES), tf.int32)
                return slot, prepare(encoded, boxes, position), label

            slots = tf.range(batch_size, dtype=tf.int64)
            good = (
                tf.data.Dataset.from_tensor_slices((slots, examples))
                .map(decode, num_parallel_calls=_PARALLEL)
                .ignore_errors()
                .batch(batch_size)
            )
            none = tf.data.Dataset.from_tensors(
                (
                    tf.zeros([0], tf.int64),
                    tf.zeros([0, *self.image_shape]),
                    tf.zeros([0], tf.int32),
                )
            )
            return (
                good.concatenate(none)
                .take(1)
                .map(
                    lambda *found: self._complete(
                        repair, names, examples, *found
                    )
                )
            )

        return batches.interleave(
            decode_batch,
            cycle_length=2,
            num_parallel_calls=2,
            deterministic=True,
        )

    def _complete(self, repair, names, examples, slots, images, labels):
        """(images, labels, weights); `repair` says what fills the gaps."""
        batch_size = names.shape[0]

        def repaired():
            rows, weights = tf.numpy_function(
                repair,
                [names, examples, slots, labels],
                [tf.int64, tf.float32],
            )
            blank = tf.zeros([1, *self.image_shape])
            return (
                tf.gather(tf.concat([images, blank], 0), rows),
                tf.gather(tf.concat([labels, [0]], 0), rows),
                weights,
            )

        valid = (labels >= 0) & (labels < _CLASSES)
        whole = tf.math.count_nonzero(valid) == batch_size
        images, labels, weights = tf.cond(
            whole, lambda: (images, labels, tf.ones(batch_size)), repaired
        )
        return (
            tf.ensure_shape(images, [batch_size, *self.image_shape]),
            tf.ensure_shape(labels, [batch_size]),
            tf.ensure_shape(weights, [batch_size]),
        )

    def _repair(self, paths, substitute, names, examples, slots, labels):
        """(row, weight) of each slot; the row after the last is blank."""
        rows = np.full(len(names), len(slots))
        rows[slots] = np.arange(len(slots))
        usable = np.zeros(len(names), bool)
        usable[slots] = (labels >= 0) & (labels < _CLASSES)
        for slot in np.flatnonzero(~usable & (names != _PADDING)):
            file, record = divmod(int(names[slot]), tfrecords.FILE)
            name = f"{paths[file]}: record {record}"
            reason = self._examine(name, examples[slot])
            self._count_broken(name, reason or "cannot be prepared")
        if substitute:
            if not len(slots):
                raise ValueError(
                    f"{name} and all others of its batch are broken JPEGs; "
                    "none is left to replace them."
                )
            rows = np.searchsorted(slots, np.arange(len(names))) % len(slots)
        return rows, usable.astype(np.float32)

    def _examine(self, name, example):
        """What is wrong with the JPEG of a record, None if nothing is.

        Raises:
            ValueError: The record is wrong otherwise.
        """
        try:
            encoded, label, boxes = self._parse(example)
        except (tf.errors.OpError, UnicodeDecodeError) as error:
            raise ValueError(
                f"{name}: not a tf.train.Example with the features "
                f"{self._layout.image} and {self._layout.label}: "
                f"{errors.brief(error)}"
            ) from error
        if not 0 <= label < _CLASSES:
            first = self._layout.first_label
            raise ValueError(
                f"{name} has label {label + first}, expected {first} to "
                f"{first + _CLASSES - 1}."
            )
        content = encoded.numpy()
        if not content.startswith(_JPEG):
            found = (n for m, n in _FORMATS.items() if content.startswith(m))
            return f"is {next(found, 'no image')}, expected a JPEG"
        try:
            self._chain.train(encoded, boxes, tf.constant([0, 0]), self._size)
            self._chain.evaluate(encoded, self._size)
        except tf.errors.OpError as error:
            return error.message
        return None

    def _count_broken(self, name, reason):
        self._broken.add(name)
        message = (
            f"{name}: broken JPEG number {len(self._broken)}, max_bad_records "
            f"is {self._max_bad_records}: {reason}"
        )
        if len(self._broken) > self._max_bad_records:
            raise ValueError(message)
        logging.warning(message)
