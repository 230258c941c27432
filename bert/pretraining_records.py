"""TFRecords of pretraining: which there are, what is in them, read for a model.

The features are those of `bert.create_pretraining_data`, of Google's and
NVIDIA's scripts and of Model Garden. Beside PREFIX-00000-of-0000N a
PREFIX.json may say how many records there are and of what vocabulary; other
files are counted. The names of files and records are in every error.
"""

import os
import re
from typing import NamedTuple
from typing import TypedDict

import tensorflow as tf
from google.protobuf import message

from bert.pretraining_data import inputs
from lbcheck.data import tfrecords
from lbcheck.support import schema

_LEAST_BYTES = 16  # of a record: length, its checksum, the data's checksum
_SHARD = re.compile(r"(.*)-(\d{5})-of-(\d{5})")
_TOKENS = ("input_ids", "input_mask", "segment_ids")
_PREDICTIONS = ("masked_lm_positions", "masked_lm_ids")
_WEIGHTS = "masked_lm_weights"
_NEXT = "next_sentence_labels"


class _Vocabulary(TypedDict):
    tokens: schema.Whole
    sha256: str


class _MadeWith(TypedDict, total=False):
    vocabulary: _Vocabulary


class _Shard(TypedDict):
    bytes: schema.Whole
    instances: schema.Whole


class _Description(TypedDict):
    """What is read of PREFIX.json."""

    made_with: _MadeWith
    shards: list[_Shard]


class Records(NamedTuple):
    """Files of records.

    Attributes:
        paths: The files.
        counts: How many records each has.
        max_seq_length: Tokens of a record.
        max_predictions_per_seq: Masked tokens of a record.
        vocabulary: What a PREFIX.json says of it, {"tokens", "sha256"}; None
            where there is none.
        described: The first file that it is said of, or None.
    """

    paths: list[str]
    counts: list[int]
    max_seq_length: int
    max_predictions_per_seq: int
    vocabulary: dict | None
    described: str | None

    @property
    def total(self) -> int:
        """How many records there are."""
        return sum(self.counts)


def find(patterns: list[str], flag: str = "train_data") -> Records:
    """The records in files.

    Args:
        patterns: Each a file or a pattern of files.
        flag: What names them, for messages.

    Raises:
        inputs.Missing: There is no such file.
        ValueError: One is empty or damaged, or its first record is none of
            pretraining, or it was made with another vocabulary than the
            others; the message names it.
    """
    paths = []
    for pattern in patterns:
        paths.extend(inputs.named(flag, pattern, patterns))
    inputs.check_once(flag, paths)
    _check_one_set(flag, paths)
    described = [_described(path) for path in paths]
    counts = [count for _, count in described]
    unknown = [path for path, n in zip(paths, counts) if n is None]
    if unknown:
        counted = dict(zip(unknown, tfrecords.count(unknown)))
        counts = [counted.get(path, n) for path, n in zip(paths, counts)]
    if not all(counts):
        empty = paths[counts.index(0)]
        raise ValueError(f"{empty}: there is no record in it.")
    vocabularies = {
        path: made["vocabulary"]
        for path, (made, _) in zip(paths, described)
        if made and "vocabulary" in made
    }
    vocabulary, first = _one_vocabulary(vocabularies)
    return Records(paths, counts, *_lengths(paths[0]), vocabulary, first)


def _check_one_set(flag, paths):
    """Refuses shards that were made at another time than others beside them."""
    totals = {}
    for shard in filter(None, map(_SHARD.fullmatch, paths)):
        total = totals.setdefault(shard[1], shard[3])
        if total != shard[3]:
            raise ValueError(
                f"--{flag}: {shard[1]}-* is a set of {int(total):,} files and "
                f"one of {int(shard[3]):,}; name one of them, such as "
                f"{shard[1]}-*-of-{shard[3]}."
            )


def _one_vocabulary(found):
    """(the vocabulary of {file: vocabulary}, the first file), or None for both.

    Refuses files in which a number means another token than in the first.
    """
    if not found:
        return None, None
    first, expected = next(iter(found.items()))
    for path, vocabulary in found.items():
        if vocabulary != expected:
            raise ValueError(
                f"{path}: made with another vocabulary than {first}."
            )
    return expected, first


def _described(path):
    """(what PREFIX.json says, records of this file), or None for both."""
    shard = _SHARD.fullmatch(path)
    if not shard:
        return None, None
    try:
        found = schema.read(f"{shard[1]}.json", _Description)
        made = found["shards"][int(shard[2])]
    except (ValueError, IndexError, OSError):
        return None, None  # no such file, or not one of ours
    size = os.path.getsize(path)
    if size != made["bytes"] or made["instances"] * _LEAST_BYTES > size:
        return None, None
    return found["made_with"], made["instances"]


def _lengths(path):
    """(tokens, predictions) of a record, by the first of a file."""
    example = tf.train.Example()
    try:
        example.ParseFromString(tfrecords.first(path))
    except message.DecodeError as error:
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
            f"{', '.join(missing)}; it has {_shown(features)}."
        )
    return _checked_lengths(path, features)


def _shown(names) -> str:
    """Names that a file gives, for a message; some of them are enough."""
    found = sorted(names)
    more = ", ..." if len(found) > 12 else ""
    return ", ".join(ascii(name[:40])[1:-1] for name in found[:12]) + more


def _checked_lengths(path, features):
    sizes = {}
    for name in (*_TOKENS, *_PREDICTIONS, _WEIGHTS, _NEXT):
        kind = "float_list" if name == _WEIGHTS else "int64_list"
        if features[name].WhichOneof("kind") != kind:
            raise ValueError(
                f"{path}: record 0: {name} is a "
                f"{features[name].WhichOneof('kind')}, expected {kind}."
            )
        sizes[name] = len(getattr(features[name], kind).value)
    tokens, predictions = sizes[_TOKENS[0]], sizes[_PREDICTIONS[0]]
    for names, wanted in (
        (_TOKENS, max(1, tokens)),
        ((*_PREDICTIONS, _WEIGHTS), max(1, predictions)),
        ((_NEXT,), 1),
    ):
        for name in names:
            if sizes[name] != wanted:
                raise ValueError(
                    f"{path}: record 0: {name} has {sizes[name]} numbers, "
                    f"expected {wanted}."
                )
    return tokens, predictions


def parser(records: Records, paths: list[str], settings: dict):
    """What reads records for a model.

    Args:
        records: What `find` returned.
        paths: Those of its files that names of records count from.
        settings: The model's configuration, as `bert.models.config` returned.

    Returns:
        Function of tensors (names, serialized examples): (inputs, labels) of
        `bert.pretrainer.Pretrainer`. It raises InvalidArgumentError with the
        record's name where one has other lengths or ids out of range.
    """
    features = {
        name: tf.io.FixedLenFeature([size], dtype)
        for names, size, dtype in (
            (_TOKENS, records.max_seq_length, tf.int64),
            (_PREDICTIONS, records.max_predictions_per_seq, tf.int64),
            ((_WEIGHTS,), records.max_predictions_per_seq, tf.float32),
            ((_NEXT,), 1, tf.int64),
        )
        for name in names
    }
    highest = {
        "input_ids": settings["vocab_size"] - 1,
        "input_mask": 1,
        "segment_ids": settings["type_vocab_size"] - 1,
        "masked_lm_positions": records.max_seq_length - 1,
        "masked_lm_ids": settings["vocab_size"] - 1,
        _WEIGHTS: 1,
        _NEXT: 1,
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
            _assert_within(found[name], limit, name, names)
            for name, limit in highest.items()
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


def verify(records: Records) -> None:
    """Reads the files whole, with their checksums and as tf.train.Examples.

    Raises:
        ValueError: Names the file and the record that is damaged.
    """
    for path in records.paths:
        tfrecords.read_whole(path)
        found = tf.data.TFRecordDataset(path).as_numpy_iterator()
        for number, data in enumerate(found):
            try:
                tf.train.Example.FromString(data)
            except message.DecodeError as error:
                raise ValueError(
                    f"{path}: record {number}: no tf.train.Example ({error})."
                ) from error


def arrays(records: Records, settings: dict):
    """(inputs, labels) of all records, as dicts of NumPy arrays."""
    files = tf.range(len(records.paths), dtype=tf.int64)
    batch = tfrecords.read(records.paths, files).batch(records.total)
    parsed = batch.map(parser(records, records.paths, settings))
    return next(parsed.as_numpy_iterator())


def _assert_within(values, highest, feature, names):
    """Numbers out of range, that a GPU would not notice, are an error."""
    # So that nan is outside, too.
    wrong = ~tf.reduce_all((values >= 0) & (values <= highest), axis=1)
    first = names[tf.argmax(tf.cast(wrong, tf.int32))]
    message = tf.strings.join(
        [first, f": {feature} outside 0 to {highest}; the record is of "]
        + ["another vocabulary or damaged."]
    )
    return tf.debugging.Assert(~tf.reduce_any(wrong), [message])
