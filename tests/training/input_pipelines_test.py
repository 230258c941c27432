"""Input pipelines of several hosts, by contexts made by hand."""

import io
import math

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from bert import models
from bert import pretraining_records
from bert import pretraining_source
from bert import squad_source
from lbcheck import training
from lbcheck.training.backends import engines
from resnet import data

CORES = 8
SIZE = 2
"""Examples of a core at once."""
HOSTS = (
    1,
    pytest.param(2, marks=pytest.mark.slow),
    4,
    pytest.param(8, marks=pytest.mark.slow),
)
FILES = 8
RECORDS = 12
"""Records of a file."""
SIDE = 16
TOKENS, PREDICTIONS = 16, 3


class Hosts:
    """What of a strategy makes the input pipelines: one a host."""

    def __init__(self, hosts):
        self._hosts = hosts

    def distribute_datasets_from_function(self, function):
        return [
            function(tf.distribute.InputContext(self._hosts, host, CORES))
            for host in range(self._hosts)
        ]


def engine(hosts):
    """An engine of 8 cores; two microbatches of 2 examples a core."""
    options = training.Options(
        "unwritten",
        batch_size=2 * SIZE * CORES,
        microbatch_size=SIZE,
        total_steps=1,
        distribution="tpu",
        tpu=f"none:{CORES}",
    )
    made = engines.make(options)
    made.strategy = Hosts(hosts)
    return made


def shapes(pipelines):
    return {
        spec.shape[0] if spec.shape.is_fully_defined() else None
        for pipeline in pipelines
        for spec in tf.nest.flatten(pipeline.element_spec)
    }


def batches(pipelines, cores, count):
    """The first whole batches: of each the cores' elements in turn."""
    streams = [iter(pipeline) for pipeline in pipelines]
    for _ in range(count):
        yield [
            tf.nest.map_structure(np.asarray, next(stream))
            for stream in streams
            for _ in range(cores)
        ]


def ids(element, name):
    """What tells the examples of an element apart."""
    return element[0][name] if name is not None else element[0]


def jpeg(number):
    """An image whose brightness says which it is."""
    buffer = io.BytesIO()
    pixels = np.full((20, 20, 3), 2 * number, np.uint8)
    Image.fromarray(pixels).save(buffer, "JPEG", quality=100)
    return buffer.getvalue()


def write(folder, split, example):
    for file in range(FILES):
        path = folder / f"{split}-{file:05}-of-{FILES:05}"
        with tf.io.TFRecordWriter(str(path)) as writer:
            for record in range(RECORDS):
                features = example(file * RECORDS + record)
                content = tf.train.Features(feature=features)
                whole = tf.train.Example(features=content)
                writer.write(whole.SerializeToString())


def integers(*values):
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


def imagenet(folder):
    def example(number):
        image = tf.train.BytesList(value=[jpeg(number)])
        return {
            "image/encoded": tf.train.Feature(bytes_list=image),
            "image/class/label": integers(number + 1),
        }

    for split in ("train", "validation"):
        write(folder, split, example)
    return data.load("imagenet", data_dir=str(folder), image_size=SIDE)


def pretraining(folder):
    def example(number):
        weights = [1.0] * (1 + number % PREDICTIONS)
        weights += [0.0] * (PREDICTIONS - len(weights))
        return {
            "input_ids": integers(number, *[1] * (TOKENS - 1)),
            "input_mask": integers(*[1] * TOKENS),
            "segment_ids": integers(*[0] * TOKENS),
            "masked_lm_positions": integers(*range(PREDICTIONS)),
            "masked_lm_ids": integers(*[2] * PREDICTIONS),
            "masked_lm_weights": tf.train.Feature(
                float_list=tf.train.FloatList(value=weights)
            ),
            "next_sentence_labels": integers(number % 2),
        }

    for split in ("train", "held_out"):
        write(folder, split, example)
    found = [
        pretraining_records.find([str(folder / f"{split}-*")])
        for split in ("train", "held_out")
    ]
    settings = models.config("2x64", vocab_size=FILES * RECORDS)
    size = 2 * SIZE * CORES
    return pretraining_source.Source(*found, settings, size, 0, 50)


class Windows:
    """What `squad_source.Source` reads of features."""

    max_seq_length = TOKENS
    start_positions = end_positions = np.arange(FILES * RECORDS) % TOKENS

    def __len__(self):
        return FILES * RECORDS

    def inputs(self, chosen):
        tokens = np.repeat(np.asarray(chosen)[:, None], TOKENS, 1)
        names = ("input_word_ids", "input_mask", "input_type_ids")
        return dict.fromkeys(names, tokens.astype(np.int32))


SOURCES = {
    "digits": (lambda folder: data.load("digits"), None),
    "imagenet": (imagenet, None),
    "pretraining": (pretraining, "input_word_ids"),
    "squad": (
        lambda folder: squad_source.Source(Windows(), seed=0),
        "input_word_ids",
    ),
}


@pytest.fixture(scope="module", params=SOURCES)
def source(request, tmp_path_factory):
    """(name of the data, source, which input tells examples apart)."""
    make, key = SOURCES[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    return request.param, make(folder), key


@pytest.mark.parametrize("hosts", HOSTS)
def test_every_core_is_given_the_same_static_shape(source, hosts):
    name, made, _ = source
    one = engine(hosts)
    training_data = one._training_data(made, 0)
    assert shapes(training_data) == {SIZE}
    size = engines.evaluation_size(one.options, one.layout)
    for part in engines.parts(made):
        found = one._evaluation_data(getattr(made, part), size)
        assert len(found) == hosts
        assert shapes(found) == {SIZE}


@pytest.mark.parametrize("name", ["digits", "squad"])
@pytest.mark.parametrize("hosts", HOSTS[1:])
def test_arrays_give_the_same_batches_however_many_hosts(name, hosts, tmp_path):
    make, key = SOURCES[name]
    made = make(tmp_path)
    for step in (0, 3):
        alone, many = (
            list(batches(engine(n)._training_data(made, step), CORES // n, 4))
            for n in (1, hosts)
        )
        for one, other in zip(alone, many):
            for a, b in zip(one, other):
                np.testing.assert_array_equal(ids(a, key), ids(b, key))
                tf.nest.map_structure(np.testing.assert_array_equal, a, b)


def example_of(name, element):
    """Numbers of the examples of an element of the record files."""
    if name == "imagenet":
        return element[1]
    return element[0]["input_word_ids"][:, 0]


@pytest.mark.parametrize("name", ["imagenet", "pretraining"])
@pytest.mark.parametrize("hosts", HOSTS)
def test_hosts_read_their_own_files_and_all_of_them(name, hosts, tmp_path):
    """An epoch of 96 records is 6 batches of 16."""
    made = SOURCES[name][0](tmp_path)
    pipelines = engine(hosts)._training_data(made, 0)
    every = FILES * RECORDS
    found = list(batches(pipelines, CORES // hosts, every // (SIZE * CORES)))
    by_host = [
        np.concatenate(
            [
                example_of(name, element)
                for batch in found
                for element in batch[host * CORES // hosts :][: CORES // hosts]
            ]
        )
        for host in range(hosts)
    ]
    for host, numbers in enumerate(by_host):
        files = {number // RECORDS for number in numbers}
        assert files == {*range(host, FILES, hosts)}
    np.testing.assert_array_equal(
        np.sort(np.concatenate(by_host)), np.arange(every)
    )


@pytest.mark.parametrize("hosts", HOSTS)
def test_evaluation_reads_every_example_once_and_pads(source, hosts):
    name, made, _ = source
    one = engine(hosts)
    for part in engines.parts(made):
        pipelines = one._evaluation_data(getattr(made, part), SIZE)
        count = getattr(made, f"num_{part}")
        steps = math.ceil(count / (SIZE * CORES))
        found = list(batches(pipelines, CORES // hosts, steps))
        weights = np.concatenate([e[2] for batch in found for e in batch])
        assert weights.shape == (steps * SIZE * CORES,)
        assert weights.sum() == count
        for pipeline in pipelines:  # which all end together
            length = sum(1 for _ in pipeline)
            assert length == steps * CORES // hosts
        if name in ("imagenet", "pretraining"):
            numbers = np.concatenate(
                [example_of(name, e) for batch in found for e in batch]
            )
            seen = np.sort(numbers[weights > 0])
            np.testing.assert_array_equal(seen, np.unique(seen))


@pytest.mark.parametrize("hosts", HOSTS[1:])
def test_masked_lm_weights_are_those_of_a_hosts_examples(hosts, tmp_path):
    """The denominator of the loss: mean weight of the update's examples, of
    one host; the mean of the hosts' gradients is taken."""
    made = pretraining(tmp_path)
    cores = CORES // hosts
    pipelines = engine(hosts)._training_data(made, 0)
    both = list(batches(pipelines, cores, 2))  # an update of 2 microbatches
    for host in range(hosts):
        elements = [
            element
            for batch in both
            for element in batch[host * cores :][:cores]
        ]
        weights = [e[1]["masked_lm_weights"] for e in elements]
        expected = np.concatenate(weights).astype(float).sum(-1).mean()
        for element in elements:
            given = element[1]["masked_lm_weight_per_example"]
            np.testing.assert_allclose(given, expected, rtol=1e-5)


def test_too_few_files_for_the_hosts_are_refused(tmp_path):
    for name, folder in (("imagenet", "a"), ("pretraining", "b")):
        place = tmp_path / folder
        place.mkdir()
        made = SOURCES[name][0](place)
        with pytest.raises(ValueError, match="too few for 9"):
            made.train(2, 0, shard=8, num_shards=9)
