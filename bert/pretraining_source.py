"""Pretraining records as a source of `lbcheck.training`.

TFRecords of tf.train.Example as `bert.create_pretraining_data`, Google's and
NVIDIA's scripts and Model Garden write them. A shard of the training stream
is made of the files shard, shard + num_shards, and so on. Epoch e of it is a
function of (seed, e, shard, num_shards): its files in random order, ten read
in turn, the records shuffled in a buffer.

Beside PREFIX-00000-of-0000N a PREFIX.json may say how many records there are
and of what vocabulary; other files are counted. The names of files and
records are in every error.
"""

import glob
import json
import math
import os
import re
from typing import NamedTuple

import tensorflow as tf

from bert import objective
from lbcheck import tfrecords

_SHARD = re.compile(r"(.*)-(\d{5})-of-(\d{5})")
_TOKENS = ("input_ids", "input_mask", "segment_ids")
_PREDICTIONS = ("masked_lm_positions", "masked_lm_ids")
_WEIGHTS = "masked_lm_weights"
_NEXT = "next_sentence_labels"
_PARALLEL = tf.data.AUTOTUNE


class Records(NamedTuple):
    """Files of records.

    Attributes:
        paths: The files.
        counts: How many records each has.
        max_seq_length: Tokens of a record.
        max_predictions_per_seq: Masked tokens of a record.
        description: What PREFIX.json says of those files that have one.
    """

    paths: list[str]
    counts: list[int]
    max_seq_length: int
    max_predictions_per_seq: int
    description: dict | None

    @property
    def total(self) -> int:
        """How many records there are."""
        return sum(self.counts)


def find(patterns: list[str]) -> Records:
    """The records in files.

    Args:
        patterns: Each a file or a pattern of files.

    Raises:
        ValueError: There is no such file, it is empty or damaged, or its
            first record is none of pretraining; the message names it.
    """
    paths = []
    for pattern in patterns:
        found = [pattern] if os.path.exists(pattern) else glob.glob(pattern)
        if not found:
            raise ValueError(f"{pattern}: there is no such file.")
        paths.extend(sorted(found))
    described = [_described(path) for path in paths]
    counts = [count for _, count in described]
    unknown = [path for path, n in zip(paths, counts) if n is None]
    if unknown:
        counted = dict(zip(unknown, tfrecords.count(unknown)))
        counts = [counted.get(path, n) for path, n in zip(paths, counts)]
    if not all(counts):
        empty = paths[counts.index(0)]
        raise ValueError(f"{empty}: there is no record in it.")
    lengths = _lengths(paths[0])
    return Records(paths, counts, *lengths, described[0][0])


def _described(path):
    """(what PREFIX.json says, records of this file), or None for both."""
    shard = _SHARD.fullmatch(path)
    try:
        with open(f"{shard[1]}.json", encoding="utf-8") as file:
            found = json.load(file)
        made = found["shards"][int(shard[2])]
        if os.path.getsize(path) == made["bytes"]:
            return found["made_with"], made["instances"]
    except (TypeError, ValueError, KeyError, IndexError, OSError):
        pass  # no such file, or not one of ours
    return None, None


def _lengths(path):
    """(tokens, predictions) of a record, by the first of a file."""
    example = tf.train.Example()
    try:
        example.ParseFromString(tfrecords.first(path))
    except Exception as error:  # google.protobuf's, which may be C++'s
        raise ValueError(
            f"{path}: record 0: no tf.train.Example ({error})."
        ) from error
    features = example.features.feature
    missing = [
        name
        for name in (*_TOKENS, *_PREDICTIONS, _WEIGHTS, _NEXT)
        if name not in features
    ]
    if missing:
        raise ValueError(
            f"{path}: record 0: no pretraining record, it lacks "
            f"{', '.join(missing)}; it has {', '.join(sorted(features))}."
        )
    return tuple(
        len(features[name].int64_list.value)
        for name in (_TOKENS[0], _PREDICTIONS[0])
    )


class Source:
    """A source (see `lbcheck.training.run`) of pretraining records.

    A training element is (inputs, labels) of `objective.Pretrainer`, with
    the weight of the whole update's predictions.

    Args:
        train: What `find` returned.
        validation: The same of held-out records, or None.
        settings: Of the model, what `bert.models.config` returned.
        batch_size: Examples of one update, over all replicas.
        seed: Of the order, at least 0.
        num_selection: How many training examples are evaluated, at most.

    Attributes:
        parts: "selection", the fixed set of training examples, and
            "validation", if there are held-out records.

    Raises:
        ValueError: Records do not fit the model or each other.
    """

    def __init__(
        self, train, validation, settings, batch_size, seed, num_selection
    ):
        self.num_train = train.total
        self.num_selection = min(num_selection, train.total)
        self.parts = ("selection",)
        if validation is not None:
            self.num_validation = validation.total
            self.parts += ("validation",)
        self.max_seq_length = train.max_seq_length
        self.max_predictions_per_seq = train.max_predictions_per_seq
        self._train = train
        self._validation = validation
        self._settings = settings
        self._batch_size = batch_size
        self._seed = seed
        for records in (train, validation):
            if records is not None:
                self._check_fits(records)

    def _check_fits(self, records):
        path, limit = (
            records.paths[0],
            self._settings["max_position_embeddings"],
        )
        if records.max_seq_length > limit:
            raise ValueError(
                f"{path}: record 0 has {records.max_seq_length} tokens, the "
                f"model has positions for {limit} (max_position_embeddings)."
            )
        ours = (self.max_seq_length, self.max_predictions_per_seq)
        if records[2:4] != ours:
            raise ValueError(
                f"{path}: record 0 has {records.max_seq_length} tokens and "
                f"{records.max_predictions_per_seq} predictions, those of "
                f"{self._train.paths[0]} have {ours[0]} and {ours[1]}."
            )
        made_with = records.description or {}
        tokens = made_with.get("vocabulary", {}).get("tokens")
        if tokens not in (None, self._settings["vocab_size"]):
            raise ValueError(
                f"{path}: made with a vocabulary of {tokens} tokens, the "
                f"model has {self._settings['vocab_size']} (vocab_size)."
            )
        both = (made_with, self._train.description or {})
        digests = [d.get("vocabulary", {}).get("sha256") for d in both]
        if None not in digests and digests[0] != digests[1]:
            raise ValueError(
                f"{path}: made with another vocabulary than "
                f"{self._train.paths[0]}."
            )

    def train(self, batch_size, start=0, shard=0, num_shards=1):
        """The shard's endless training stream, a tf.data.Dataset."""
        paths = self._train.paths[shard::num_shards]
        if not paths:
            raise ValueError(
                f"{len(self._train.paths)} training files are too few for "
                f"{num_shards} workers; make more shards."
            )
        size = sum(self._train.counts[shard::num_shards])
        microbatches = self._batch_size // (batch_size * num_shards)
        epoch, offset = divmod(start * batch_size, size)
        files = tf.range(len(paths), dtype=tf.int64)

        def read_epoch(number):
            part = number * num_shards + shard
            order = tf.random.experimental.stateless_shuffle(
                files, seed=[self._seed, number]
            )
            records = tfrecords.read(paths, order)
            return tfrecords.shuffle(records, self._seed, part)

        return tfrecords.finish(
            tf.data.Dataset.counter(epoch)
            .flat_map(read_epoch)
            .skip(offset)
            .batch(batch_size, drop_remainder=True)
            .map(self._parser(paths), _PARALLEL)
            .batch(microbatches, drop_remainder=True)
            .map(_add_weight_per_example)
            .unbatch()
        )

    def selection(self, batch_size, shard=0, num_shards=1):
        """The fixed training examples once, padded, a tf.data.Dataset."""
        return self._once(
            self._train, self.num_selection, batch_size, shard, num_shards
        )

    def validation(self, batch_size, shard=0, num_shards=1):
        """Every held-out example once, padded, a tf.data.Dataset."""
        return self._once(
            self._validation, self.num_validation, batch_size, shard, num_shards
        )

    def _once(self, records, count, batch_size, shard, num_shards):
        """(inputs, labels, weights); examples of weight 0 fill up the end."""
        blocks = math.ceil(count / (batch_size * num_shards))
        files = tf.range(len(records.paths), dtype=tf.int64)
        found = tfrecords.read(records.paths, files).take(count)
        parse = self._parser(records.paths)

        def weighted(weight):
            return lambda name, example: (name, example, tf.constant(weight))

        return tfrecords.finish(
            found.shard(num_shards, shard)
            .map(weighted(1.0))
            .concatenate(found.repeat().map(weighted(0.0)))
            .take(blocks * batch_size)
            .batch(batch_size, drop_remainder=True)
            .map(lambda *batch: (*parse(*batch[:2]), batch[2]), _PARALLEL)
        )

    def check(self) -> list[str]:
        """What was found; reads every record once."""
        lines = []
        for part, records in (
            ("training", self._train),
            ("held-out", self._validation),
        ):
            if records is None:
                continue
            self._read_all(records)
            lines.append(
                f"{records.total:,} {part} records of {self.max_seq_length} "
                f"tokens, {self.max_predictions_per_seq} predictions, in "
                f"{len(records.paths)} files such as {records.paths[0]}"
            )
        return lines

    def _read_all(self, records):
        counts = tfrecords.count(records.paths)
        for path, found, expected in zip(records.paths, counts, records.counts):
            if found != expected:
                raise ValueError(
                    f"{path}: there are {found} records, expected {expected}."
                )
        files = tf.range(len(records.paths), dtype=tf.int64)
        examples = tfrecords.read(records.paths, files).batch(1024)
        try:
            for _ in examples.map(self._parser(records.paths), _PARALLEL):
                pass
        except tf.errors.OpError as error:
            raise ValueError(error.message) from error

    def _parser(self, paths):
        """Function of a batch of names and examples: (inputs, labels)."""
        features = {
            name: tf.io.FixedLenFeature([size], dtype)
            for names, size, dtype in (
                (_TOKENS, self.max_seq_length, tf.int64),
                (_PREDICTIONS, self.max_predictions_per_seq, tf.int64),
                ((_WEIGHTS,), self.max_predictions_per_seq, tf.float32),
                ((_NEXT,), 1, tf.int64),
            )
            for name in names
        }
        limits = {
            "input_ids": self._settings["vocab_size"],
            "segment_ids": self._settings["type_vocab_size"],
            "masked_lm_positions": self.max_seq_length,
            "masked_lm_ids": self._settings["vocab_size"],
            "next_sentence_labels": 2,
        }

        def parse(names, examples):
            names = tf.strings.join(
                [
                    tf.gather(paths, names // tfrecords.FILE),
                    ": record ",
                    tf.strings.as_string(names % tfrecords.FILE),
                ]
            )
            found = tf.io.parse_example(examples, features, names)
            checks = [
                _assert_below(found[name], limit, name, names)
                for name, limit in limits.items()
            ]
            with tf.control_dependencies(checks):
                found = {
                    name: tf.cast(value, tf.int32)
                    if value.dtype == tf.int64
                    else tf.identity(value)
                    for name, value in found.items()
                }
            inputs = {
                "input_word_ids": found["input_ids"],
                "input_mask": found["input_mask"],
                "input_type_ids": found["segment_ids"],
                "masked_lm_positions": found["masked_lm_positions"],
            }
            labels = ("masked_lm_ids", _WEIGHTS, _NEXT)
            return inputs, {name: found[name] for name in labels}

        return parse


def _assert_below(values, limit, feature, names):
    """Numbers out of range, that a GPU would not notice, are an error."""
    wrong = tf.reduce_any((values < 0) | (values >= limit), axis=1)
    first = names[tf.argmax(tf.cast(wrong, tf.int32))]
    message = tf.strings.join(
        [first, f": {feature} outside 0 to {limit - 1}; the record is of "]
        + ["another vocabulary or damaged."]
    )
    return tf.debugging.Assert(~tf.reduce_any(wrong), [message])


def _add_weight_per_example(inputs, labels):
    """To the microbatches of an update, (microbatches, examples, ...)."""
    weights = labels[_WEIGHTS]
    shape = tf.shape(weights)
    per_example = objective.weight_per_example(
        tf.reshape(weights, [-1, shape[2]])
    )
    per_example = tf.fill(shape[:2], per_example)
    return inputs, labels | {objective.PER_EXAMPLE: per_example}
