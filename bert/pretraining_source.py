"""Pretraining records as a source of `lbcheck.training`.

A shard of the training stream is made of the files shard, shard + num_shards,
and so on. Epoch e of it is a function of (seed, e, shard, num_shards): its
files in random order, ten read in turn, the records shuffled in a buffer.
"""

import math

import tensorflow as tf

from bert import pretrainer
from bert import pretraining_records
from bert.pretraining_data import inputs
from lbcheck.data import tfrecords
from lbcheck.training import loop

_PARALLEL = tf.data.AUTOTUNE


class Source:
    """A source (see `lbcheck.training.run`) of pretraining records.

    A training element is (inputs, labels) of `pretrainer.Pretrainer`, with
    the weight of the whole update's predictions.

    Args:
        train: What `pretraining_records.find` returned.
        validation: The same of held-out records, or None.
        settings: The model's configuration, as `bert.models.config` returned.
        batch_size: Examples of one update, over all replicas.
        seed: Seed of the order, at least 0.
        num_selection: How many training examples are evaluated, at most.

    Attributes:
        parts: "selection", the fixed set of training examples, and
            "validation", if there are held-out records.
        vocabulary: What tells that of the training records from any other,
            {"tokens", "sha256"}; None where no file says it.

    Raises:
        ValueError: Records do not fit the model, the batch or each other.
    """

    def __init__(
        self, train, validation, settings, batch_size, seed, num_selection
    ):
        if validation is not None:
            inputs.check_once(
                "train_data and --validation_data",
                [*train.paths, *validation.paths],
            )
        self.num_train = train.total
        self.num_selection = min(num_selection, train.total)
        self.parts = ("selection",)
        if validation is not None:
            self.num_validation = validation.total
            self.parts += ("validation",)
        self.max_seq_length = train.max_seq_length
        self.max_predictions_per_seq = train.max_predictions_per_seq
        self.vocabulary = train.vocabulary
        if batch_size > train.total:
            raise ValueError(
                f"batch_size={batch_size:,} is more than the {train.total:,} "
                f"training records of {train.paths[0]} and the others."
            )
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
        if records.vocabulary is None:
            return
        tokens, wanted = records.vocabulary["tokens"], self._settings
        if tokens != wanted["vocab_size"]:
            raise ValueError(
                f"{records.described}: made with a vocabulary of {tokens} "
                f"tokens, the model has {wanted['vocab_size']} (vocab_size)."
            )
        if self.vocabulary not in (None, records.vocabulary):
            raise ValueError(
                f"{records.described}: made with another vocabulary than "
                f"{self._train.described}."
            )

    def train(self, batch_size, start=0, shard=0, num_shards=1):
        """The shard's endless training stream, a tf.data.Dataset."""
        paths = self._train.paths[shard::num_shards]
        if num_shards > len(self._train.paths):
            raise ValueError(
                f"{self._train.paths[0]} and the others are "
                f"{len(self._train.paths)} training files, too few for "
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
            .map(self._parser(self._train, paths), _PARALLEL)
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

    def constant_answer(self, part: str) -> float:
        """Next-sentence accuracy on a part of always giving one answer."""
        total = random = 0.0
        batches = getattr(self, part)(1024)
        for _, labels, weights in batches.as_numpy_iterator():
            total += weights.sum()
            random += (labels["next_sentence_labels"][:, 0] * weights).sum()
        return float(max(random, total - random) / total)

    def _once(self, records, count, batch_size, shard, num_shards):
        """(inputs, labels, weights); examples of weight 0 fill up the end."""
        blocks = math.ceil(count / (batch_size * num_shards))
        files = tf.range(len(records.paths), dtype=tf.int64)
        found = tfrecords.read(records.paths, files).take(count)
        parse = self._parser(records, records.paths)

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

    def _parser(self, records, paths):
        return pretraining_records.parser(records, paths, self._settings)

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

    def verify(self) -> None:
        """Reads all files with their checksums and records.

        Raises:
            ValueError: Names the file and the record that is damaged.
        """
        for records in filter(None, (self._train, self._validation)):
            pretraining_records.verify(records)

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
            for _ in examples.map(
                self._parser(records, records.paths), _PARALLEL
            ):
                pass
        except (tf.errors.OpError, UnicodeDecodeError) as error:
            raise ValueError(loop.named(error, self)) from error


def _add_weight_per_example(inputs, labels):
    """To the microbatches of an update, (microbatches, examples, ...)."""
    weights = labels["masked_lm_weights"]
    shape = tf.shape(weights)
    per_example = pretrainer.weight_per_example(
        tf.reshape(weights, [-1, shape[2]])
    )
    per_example = tf.fill(shape[:2], per_example)
    return inputs, labels | {pretrainer.PER_EXAMPLE: per_example}
