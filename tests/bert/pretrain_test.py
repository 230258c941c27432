"""BERT pretraining: the step, the stream of records, the two phases."""

import contextlib
import dataclasses
import gzip
import io
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time
import types

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from absl import app
from absl import flags
from packaging import version

import lbcheck.tf_keras
from bert import checkpoints as bert_checkpoints
from bert import clipping
from bert import embedded
from bert import families
from bert import handover
from bert import models
from bert import pretrain
from bert import pretrainer
from bert import pretraining_records
from bert import pretraining_source
from bert import schedule as bert_schedule
from bert import settings
from bert import workloads
from bert.pretraining_data import records as writer
from lbcheck import optimizers
from lbcheck import rules
from lbcheck.data import tfrecords
from lbcheck.search import arm
from lbcheck.settings import command_line
from lbcheck.support import errors
from lbcheck.support import files
from lbcheck.training import checkpoints
from lbcheck.training import loop
from lbcheck.training import record
from lbcheck.trials import trainer
from tests import damage
from tests import programs

ROOT = pathlib.Path(__file__).parents[2]
LENGTH, PREDICTIONS, VOCABULARY = 16, 4, 60
COUNTS = (11, 7, 9)
CONFIG = dict(
    vocab_size=VOCABULARY,
    max_position_embeddings=LENGTH,
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
)


def features(count, seed, length=LENGTH, predictions=PREDICTIONS):
    """Random records with 1 to `predictions` masked tokens."""
    rng = np.random.default_rng(seed)
    filled = rng.integers(8, length + 1, count)[:, None]
    place = np.arange(length)[None]
    masked = rng.integers(1, predictions + 1, count)[:, None]
    weights = (np.arange(predictions)[None] < masked).astype(np.float32)
    positions = 1 + np.arange(predictions)[None] * weights.astype(int)
    return {
        "input_ids": rng.integers(5, VOCABULARY, (count, length))
        * (place < filled),
        "input_mask": (place < filled).astype(int),
        "segment_ids": ((place >= 5) & (place < filled)).astype(int),
        "masked_lm_positions": positions * weights.astype(int),
        "masked_lm_ids": rng.integers(5, VOCABULARY, (count, predictions))
        * weights.astype(int),
        "masked_lm_weights": weights,
        "next_sentence_labels": rng.integers(0, 2, (count, 1)),
    }


def write(path, found):
    examples = writer.examples(found)
    path.write_bytes(b"".join(writer.frame(e) for e in examples))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Folder of three training files, a held-out one and a configuration."""
    folder = tmp_path_factory.mktemp("data")
    for index, count in enumerate(COUNTS):
        write(folder / f"train-{index}", features(count, index))
    write(folder / "held", features(5, 9))
    (folder / "config.json").write_text(json.dumps(small()))
    return folder


def small(**changes):
    return models.config("1x64", **{**CONFIG, **changes})


def source(data, batch_size=6, num_selection=10, seed=3):
    return pretraining_source.Source(
        pretraining_records.find([f"{data}/train-*"]),
        pretraining_records.find([f"{data}/held"]),
        small(),
        batch_size,
        seed,
        num_selection,
    )


def batch(count=48, seed=5):
    """(inputs, labels) of random records."""
    found = {k: tf.constant(v) for k, v in features(count, seed).items()}
    found = {
        k: tf.cast(v, tf.int32) if v.dtype == tf.int64 else v
        for k, v in found.items()
    }
    inputs = {
        "input_word_ids": found["input_ids"],
        "input_mask": found["input_mask"],
        "input_type_ids": found["segment_ids"],
        "masked_lm_positions": found["masked_lm_positions"],
    }
    names = ("masked_lm_ids", "masked_lm_weights", "next_sentence_labels")
    return inputs, {name: found[name] for name in names}


# --- the step -------------------------------------------------------------


def gardens_task():
    """Model Garden's own pretraining task, and its model of this size."""
    # tensorflow_hub, which all its tasks import, wants this of setuptools,
    # whose newer versions have it no more.
    stub = types.SimpleNamespace(parse_version=version.parse)
    sys.modules.setdefault("pkg_resources", stub)
    from official.nlp.configs import bert
    from official.nlp.configs import encoders
    from official.nlp.data import pretrain_dataloader
    from official.nlp.tasks import masked_lm

    if sys.modules["pkg_resources"] is stub:
        del sys.modules["pkg_resources"]  # pytest would use it, too

    encoder = encoders.EncoderConfig(
        type="bert_v2",
        bert_v2=encoders.BertEncoderConfig(
            vocab_size=VOCABULARY,
            hidden_size=64,
            num_layers=1,
            num_attention_heads=1,
            intermediate_size=256,
            dropout_rate=0.0,
            attention_dropout_rate=0.0,
            max_position_embeddings=LENGTH,
        ),
    )
    head = bert.ClsHeadConfig(
        inner_dim=64, num_classes=2, dropout_rate=0.0, name="next_sentence"
    )
    task = masked_lm.MaskedLMTask(
        masked_lm.MaskedLMConfig(
            model=bert.PretrainerConfig(
                encoder=encoder, cls_heads=[head], mlm_activation="gelu"
            ),
            train_data=pretrain_dataloader.BertPretrainDataConfig(),
        )
    )
    return task, task.build_model()


def counterpart(name):
    """What Model Garden's task calls a variable of ours."""
    for ours, theirs in (
        ("encoder/pooler_transform", "next_sentence/pooler_dense"),
        ("bert/next_sentence", "next_sentence/logits"),
        ("bert/cls", "cls"),
        ("encoder/", "bert_encoder_v2/"),
    ):
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    raise ValueError(name)


def of_garden():
    """({our name: value}, loss, {our name: gradient}) of the task's model."""
    task, model = gardens_task()
    inputs, labels = batch()
    everything = {**inputs, **labels}
    metrics = task.build_metrics()
    model(everything)
    variables = {v.name.removeprefix("bert/"): v for v in model.variables}
    rng = np.random.default_rng(1)
    for variable in model.variables:
        noise = rng.normal(size=variable.shape)
        variable.assign(0.07 * noise + ("gamma" in variable.name))
    with tf.GradientTape() as tape:
        outputs = model(everything, training=True)
        loss = task.build_losses(everything, outputs, metrics)
    names = list(variables)
    gradients = tape.gradient(loss, [variables[name] for name in names])
    task.process_metrics(metrics, everything, outputs)
    return (
        {name: variables[name].numpy() for name in names},
        {"loss": float(loss)}
        | {metric.name: float(metric.result()) for metric in metrics},
        {
            name: None if g is None else tf.convert_to_tensor(g).numpy()
            for name, g in zip(names, gradients)
        },
    )


GARDENS_METRICS = {
    "loss": "loss",
    "lm_example_loss": "masked_lm_loss",
    "masked_lm_accuracy": "masked_lm_accuracy",
    "next_sentence_accuracy": "next_sentence_accuracy",
    "next_sentence_loss": "next_sentence_loss",
}


def differences(garden, changes=()):
    """Largest difference of loss, metrics and (relative) gradients."""
    values, metrics, gradients = garden
    model = models.pretrainer(small(**dict(changes)))
    for variable in model.variables:
        name = counterpart(variable.name)
        variable.assign(values[name])
    inputs, labels = batch()
    model.compile()
    with tf.GradientTape() as tape:
        outputs = model(inputs, training=True)
        loss = model.compute_loss(inputs, labels, outputs, None)
    found = model.compute_metrics(inputs, labels, outputs, None)
    ours = tape.gradient(loss, model.trainable_variables)
    assert metrics["masked_lm_accuracy"] > 0  # or it would tell nothing
    worst = abs(float(loss) - metrics["loss"])
    for theirs, own in GARDENS_METRICS.items():
        worst = max(worst, abs(float(found[own]) - metrics[theirs]))
    seen = set()
    scale = max(np.abs(g).max() for g in gradients.values() if g is not None)
    for variable, gradient in zip(model.trainable_variables, ours):
        name = counterpart(variable.name)
        seen.add(name)
        gap = tf.convert_to_tensor(gradient).numpy() - gradients[name]
        worst = max(worst, np.abs(gap).max() / scale)
    # Its encoder has a pooler of its own, which its loss does not reach.
    unused = {name for name in gradients if gradients[name] is None}
    assert all("/pooler_transform/" in name for name in unused)
    assert seen == set(gradients) - unused
    return worst


@pytest.fixture(scope="module")
def garden():
    return of_garden()


def test_step_equals_model_gardens_task(garden):
    assert differences(garden) < 1e-5


def _without_weights(monkeypatch):
    monkeypatch.setattr(
        pretrainer,
        "_prediction_weights",
        lambda labels, weight: tf.ones_like(labels["masked_lm_weights"]),
    )


def _mean_over_examples(monkeypatch):
    monkeypatch.setattr(
        pretrainer, "weight_per_example", lambda w: tf.constant(4.0)
    )


def _sentence_twice(monkeypatch):
    plain = pretrainer._cross_entropy
    monkeypatch.setattr(
        pretrainer,
        "_cross_entropy",
        lambda y, p: plain(y, p) * (2.0 if p.shape[-1] == 2 else 1.0),
    )


@pytest.mark.parametrize(
    "mutate", [_without_weights, _mean_over_examples, _sentence_twice]
)
def test_another_loss_is_noticed(garden, monkeypatch, mutate):
    mutate(monkeypatch)
    assert differences(garden) > 1e-3


def test_another_activation_is_noticed(garden):
    assert differences(garden, {"hidden_act": "gelu_erf"}.items()) > 2e-5


def test_decay_spares_what_bert_spares():
    model = models.pretrainer(small())
    optimizer = lbcheck.tf_keras.LAMB(1e-3, weight_decay=0.01)
    optimizer.build(model.trainable_variables)
    original = re.compile("LayerNorm|layer_norm|bias")
    for assignment in optimizer.assignments:
        spared = bool(original.search(assignment.path))
        assert assignment.decay != spared, assignment.path
        assert assignment.adapt != spared, assignment.path


def test_named_sizes():
    # Devlin et al. 2018, Section 3, and Turc et al. 2019, Table 1: heads,
    # feed-forward width; parameters of the encoder in millions, Google's
    # count for base and large (110M, 340M), Turc's with pooler for others.
    for name, heads, inner, millions in (
        ("large", 16, 4096, 335.1),
        ("base", 12, 3072, 109.5),
        ("medium", 8, 2048, 41.4),
        ("small", 8, 2048, 28.8),
        ("mini", 4, 1024, 11.2),
        ("tiny", 2, 512, 4.4),
    ):
        c = models.config(name)
        assert (c["num_attention_heads"], c["intermediate_size"]) == (
            heads,
            inner,
        )
        h, f = c["hidden_size"], c["intermediate_size"]
        layer = 4 * (h * h + h) + 2 * h * f + f + h + 4 * h
        embeddings = (c["vocab_size"] + 512 + 2) * h + 2 * h
        total = embeddings + c["num_hidden_layers"] * layer + h * h + h
        assert total / 1e6 == pytest.approx(millions, abs=0.06), name
    made = models.encoder(models.config("tiny"))
    assert sum(int(np.prod(v.shape)) for v in made.weights) == 4_385_920


@pytest.mark.parametrize(
    "content, message",
    [
        ("{", "not JSON"),
        ("[]", "expected `object`, got `array`"),
        ('{"hidden_size": 8}', "missing attention_probs_dropout_prob, "),
        ({"new_key": 1}, "unknown new_key"),
        ({"hidden_size": 0}, "hidden_size must be int in"),
        ({"hidden_size": 1.5}, "hidden_size must be int in"),
        ({"hidden_act": "swish"}, "hidden_act must be one of gelu"),
        ({"num_attention_heads": 3}, "does not divide"),
        ({"model_type": "roberta"}, "model_type is 'roberta'"),
        ({"pruned_heads": {"0": [1]}}, r"pruned_heads is \{'0': \[1\]\}; this"),
        ({"layer_norm_eps": 1e-5}, "layer_norm_eps is 1e-05"),
    ],
)
def test_configuration_refused(tmp_path, content, message):
    path = tmp_path / "config.json"
    if isinstance(content, dict):
        content = json.dumps({**models.config("tiny"), **content})
    path.write_text(content)
    with pytest.raises(ValueError, match=message) as error:
        models.config(str(path))
    assert str(path) in str(error.value)


def test_configuration_of_hugging_face(tmp_path):
    given = {
        **models.config("tiny"),
        "model_type": "bert",
        "layer_norm_eps": 1e-12,
        "pad_token_id": 0,
        "architectures": ["BertModel"],
        # As transformers wrote them for years, or writes them now.
        "_num_labels": 9,
        "_attn_implementation_autoset": True,
        "do_sample": False,
        "eos_token_ids": 0,
        "finetuning_task": None,
        "is_encoder_decoder": False,
        "language": "english",
        "length_penalty": 1.0,
        "max_length": 20,
        "num_beams": 1,
        "num_return_sequences": 1,
        "output_attentions": False,
        "output_hidden_states": False,
        "problem_type": None,
        "pruned_heads": {},
        "top_k": 50,
        "torchscript": False,
        "use_bfloat16": False,
    }
    (tmp_path / "config.json").write_text(json.dumps(given))
    assert models.config(str(tmp_path)) == {
        **models.config("tiny"),
        "hidden_act": "gelu_erf",
    }
    del given["model_type"]  # of Hugging Face it is by what lies beside it
    (tmp_path / "config.json").write_text(json.dumps(given))
    assert models.config(str(tmp_path))["hidden_act"] == "gelu"
    (tmp_path / "model.safetensors").touch()
    assert models.config(str(tmp_path))["hidden_act"] == "gelu_erf"
    with pytest.raises(ValueError, match="'huge' is no configuration"):
        models.config("huge")


# --- the records ----------------------------------------------------------


def key(inputs):
    """What tells the records of a batch apart."""
    return [tuple(row) for row in np.asarray(inputs["input_word_ids"])]


def take(dataset, count):
    return list(dataset.take(count).as_numpy_iterator())


def test_stream_is_every_record_once_an_epoch_and_goes_on(data):
    made = source(data)
    assert made.num_train == sum(COUNTS) and made.num_validation == 5
    stream = take(made.train(3), 18)  # two epochs of 27
    keys = [k for inputs, _ in stream for k in key(inputs)]
    expected = {
        tuple(row)
        for index, count in enumerate(COUNTS)
        for row in features(count, index)["input_ids"]
    }
    assert set(keys[:27]) == set(keys[27:]) == expected
    assert keys[:27] != keys[27:]
    for start in (2, 4, 10, 12):
        (inputs, labels), *_ = take(made.train(3, start), 1)
        assert key(inputs) == key(stream[start][0])
        np.testing.assert_array_equal(
            labels["masked_lm_ids"], stream[start][1]["masked_lm_ids"]
        )
    other = take(source(data, seed=4).train(3), 1)
    assert key(other[0][0]) != key(stream[0][0])


def test_shards_share_the_records(data):
    seen = []
    for shard, size in ((0, 20), (1, 7)):
        found = take(source(data).train(1, 0, shard, 2), size)
        seen += [k for inputs, _ in found for k in key(inputs)]
    assert len(set(seen)) == 27
    with pytest.raises(ValueError, match="3 training files, too few for 4"):
        source(data, 8).train(1, 0, 0, 4)


def test_updates_carry_their_weight(data):
    made = source(data, batch_size=6)
    parts = take(made.train(2), 9)
    for update in range(3):
        three = [labels for _, labels in parts[3 * update : 3 * update + 3]]
        total = sum(labels["masked_lm_weights"].sum() for labels in three)
        for labels in three:
            np.testing.assert_allclose(
                labels[pretrainer.PER_EXAMPLE], (total + 1e-5) / 6, rtol=1e-6
            )


def test_evaluation_sees_every_record_once(data):
    made = source(data, num_selection=10)
    for part, count in (("selection", 10), ("validation", 5)):
        whole = []
        for shard in range(2):
            for inputs, _, weights in take(getattr(made, part)(4, shard, 2), 9):
                whole += [k for k, w in zip(key(inputs), weights) if w]
        assert len(whole) == len(set(whole)) == count
    held = features(5, 9)["next_sentence_labels"].mean()
    assert made.constant_answer("validation") == pytest.approx(
        max(held, 1 - held)
    )
    first = take(made.selection(10), 1)[0]
    again = take(source(data, seed=8).selection(10), 1)[0]
    assert key(first[0]) == key(again[0])  # a fixed set


def described(folder, name, tokens, digest, count=3):
    """The path of a file of records that says its vocabulary."""
    path = folder / f"{name}-00000-of-00001"
    write(path, features(count, 0))
    description = {
        "made_with": {"vocabulary": {"tokens": tokens, "sha256": digest}},
        "shards": [{"bytes": path.stat().st_size, "instances": count}],
    }
    (folder / f"{name}.json").write_text(json.dumps(description))
    return str(path)


def test_foreign_names_counts_and_description(data, tmp_path):
    find = pretraining_records.find
    made = find([f"{data}/train-*", f"{data}/held"])
    assert made.counts == [*COUNTS, 5] and made.vocabulary is None

    path = described(tmp_path, "x", 99, "0")
    for found in (find([f"{tmp_path}/x-*-of-*"]), find([f"{data}/held", path])):
        assert found.counts[-1] == 3  # the first that is known counts
        with pytest.raises(ValueError, match="x-0.* of 99 tokens, .* has 60"):
            pretraining_source.Source(found, None, small(), 2, 0, 2)
    assert find([path, described(tmp_path, "y", 99, "0")]).total == 6
    other = described(tmp_path, "z", 99, "1")
    with pytest.raises(ValueError, match="z-0.* another vocabulary than .*x-0"):
        find([path, f"{data}/held", other])


def _other_length(folder):
    write(folder / "train-1", features(3, 0, length=12))


def _other_vocabulary(folder):
    found = features(3, 0)
    found["masked_lm_ids"][2, 0] = VOCABULARY
    write(folder / "train-1", found)


def _cut(folder):
    path = folder / "train-1"
    path.write_bytes(path.read_bytes()[:-5])


def _packed(folder):
    path = folder / "train-1"
    path.write_bytes(gzip.compress(path.read_bytes()))


def _flipped(folder):
    """A bit of the third record, so that its checksum is another."""
    path = folder / "train-1"
    content = bytearray(path.read_bytes())
    content[len(content) * 5 // 14] ^= 4  # seven records of about one size
    path.write_bytes(content)


def _not_a_number(folder):
    found = features(7, 1)
    found["masked_lm_weights"][4, 0] = np.nan
    write(folder / "train-1", found)


def _no_example(folder):
    """Right checksums around bytes that are no UTF-8 and no protobuf."""
    valid = list(writer.examples(features(3, 1)))
    content = [valid[0], valid[1][1:], valid[2]]
    (folder / "train-1").write_bytes(b"".join(map(writer.frame, content)))


def _blank(folder):
    """The same, but text."""
    valid = list(writer.examples(features(3, 1)))
    content = [*valid, b" "]
    (folder / "train-1").write_bytes(b"".join(map(writer.frame, content)))


def _masked_twice(folder):
    found = features(7, 1)
    found["input_mask"][5, 0] = 2
    write(folder / "train-1", found)


@pytest.mark.parametrize(
    "spoil, message",
    [
        (
            _other_length,
            r"train-1: record 0, Key: segment_ids.* 12 but .* \[16\]$",
        ),
        (
            _other_vocabulary,
            r"train-1: record 2: masked_lm_ids outside 0 to 59",
        ),
        (_cut, r"train-1: record 6, at byte \d+, is cut short"),
        (_packed, "train-1: is compressed by gzip, expected a plain TFRecord"),
        (_flipped, r"train-1: record 2 is cut short or damaged"),
        (_no_example, r"train-1: record 1: no tf.train.Example"),
        (_blank, r"train-1: record 3: no tf.train.Example"),
        (_not_a_number, r"train-1: record 4: masked_lm_weights outside 0 to 1"),
        (_masked_twice, r"train-1: record 5: input_mask outside 0 to 1"),
    ],
)
def test_bad_record_is_named(tmp_path, spoil, message):
    for index, count in enumerate(COUNTS):
        write(tmp_path / f"train-{index}", features(count, index))
    spoil(tmp_path)
    with pytest.raises(ValueError, match=message):
        pretraining_source.Source(
            pretraining_records.find([f"{tmp_path}/train-*"]),
            None,
            small(),
            6,
            0,
            5,
        ).check()


def test_what_does_not_fit_is_named(data, tmp_path):
    train = pretraining_records.find([f"{data}/train-*"])
    with pytest.raises(ValueError, match="16 tokens, the model has .* for 8"):
        pretraining_source.Source(
            train, None, small(max_position_embeddings=8), 6, 0, 5
        )
    write(tmp_path / "short", features(3, 0, length=12))
    held = pretraining_records.find([f"{tmp_path}/short"])
    with pytest.raises(ValueError, match="12 tokens and 4 predictions, .* 16"):
        pretraining_source.Source(train, held, small(), 6, 0, 5)
    for name, content, message in (
        ("empty", b"", "there is no record"),
        ("text", b"hello, this is no record", "record 0"),
        ("no_example", writer.frame(b"\xff\xff"), "record 0: no tf.train"),
        (
            "others",
            writer.frame(next(writer.examples({"x": np.ones((1, 1), int)}))),
            "lacks input_ids, .*it has x",
        ),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"{name}: .*{message}"):
            pretraining_records.find([f"{tmp_path}/{name}"])
    with pytest.raises(ValueError, match="nothing: there is no such file"):
        pretraining_records.find(["nothing"])


def test_no_record_counts_twice(data, tmp_path):
    find = pretraining_records.find
    train = find([f"{data}/train-*"])
    with pytest.raises(ValueError, match="^--train_data: .* is named twice"):
        find([f"{data}/train-*", train.paths[0]])
    held = find([os.path.relpath(train.paths[1])], "validation_data")
    with pytest.raises(ValueError, match="--validation_data: .* named twice"):
        pretraining_source.Source(train, held, small(), 6, 0, 5)
    for name in ("x-00000-of-00001", "x-00000-of-00002", "x-00001-of-00002"):
        write(tmp_path / name, features(3, 0))
    with pytest.raises(ValueError, match="is a set of 1 files and one of 2; n"):
        find([f"{tmp_path}/x-*"])
    assert find([f"{tmp_path}/x-*-of-00002"]).counts == [3, 3]


def _example(**changes):
    """A record of pretraining with other features than it should have."""
    found = {**features(1, 0), **changes}
    return writer.frame(next(writer.examples(found)))


def test_features_of_another_kind_are_named(tmp_path):
    for changes, message in (
        (dict(input_ids=np.ones((1, 16))), "input_ids is a float_list"),
        (
            dict(masked_lm_weights=np.ones((1, 4), int)),
            "masked_lm_weights is a int64_list, expected float_list",
        ),
        (
            dict(segment_ids=np.ones((1, 15), int)),
            "segment_ids has 15 numbers, expected 16",
        ),
        (
            dict(masked_lm_ids=np.ones((1, 5), int)),
            "masked_lm_ids has 5 numbers, expected 4",
        ),
        (
            dict(next_sentence_labels=np.ones((1, 2), int)),
            "next_sentence_labels has 2 numbers, expected 1",
        ),
    ):
        (tmp_path / "other").write_bytes(_example(**changes))
        with pytest.raises(ValueError, match=f"other: record 0: {message}"):
            pretraining_records.find([f"{tmp_path}/other"])


@damage.EXAMPLES
def test_damaged_records(tmp_path, examples):
    """The file that is counted, its first record, and all of it read."""
    path = tmp_path / "train-0"
    write(path, features(3, 0))
    model = small()

    def read(damaged):
        found = pretraining_records.find([str(damaged)])
        pretraining_source.Source(found, None, model, 1, 0, 1)

    damage.try_reader(
        read, path, damage.damaged_bytes(path.read_bytes()), examples
    )


def test_damaged_records_with_right_checksums(tmp_path):
    """Damage below the checksums, through the parser that trains."""
    path = tmp_path / "train-0"
    write(path, features(3, 0))
    found = pretraining_records.find([str(path)])
    parse = tf.function(
        pretraining_records.parser(found, found.paths, small()),
        input_signature=[
            tf.TensorSpec([1], tf.int64),
            tf.TensorSpec([1], tf.string),
        ],
    )
    valid = next(writer.examples(features(1, 0)))

    # TensorFlow's threads need more addresses than `damage.limited` leaves.
    @hypothesis.settings(max_examples=300, deadline=None)
    @hypothesis.given(content=damage.damaged_bytes(valid))
    def one(content):
        try:
            parse([2], [content])
        except UnicodeDecodeError:
            pass  # TensorFlow's message of the bytes; see `loop.named`
        except tf.errors.InvalidArgumentError as error:
            message = loop.brief(error)
            if any(text in message for text in loop._UNNAMED):
                return  # for `loop.named`, too
            assert f"{path}: record 2" in message
            assert message.isprintable() and len(message) < 2000

    one()


@damage.EXAMPLES
def test_damaged_description_of_shards(tmp_path, examples):
    """PREFIX.json: what it wrongly says is not believed, or is refused."""
    path = tmp_path / "x-00000-of-00001"
    write(path, features(3, 0))
    record = tmp_path / "x.json"
    valid = {
        "made_with": {"vocabulary": {"tokens": VOCABULARY, "sha256": "0"}},
        "shards": [{"bytes": path.stat().st_size, "instances": 3}],
    }

    model = small()

    def read(_):
        try:
            found = pretraining_records.find([str(path)])
            assert 0 < found.total <= path.stat().st_size // 16
            pretraining_source.Source(found, None, model, 1, 0, 1)
        except ValueError as error:
            assert str(path) in str(error)

    damage.try_reader(read, record, damage.damaged_json(valid), examples)


def test_first_record_is_read_as_tensorflow_does(data):
    path = f"{data}/train-0"
    (expected,) = tf.data.TFRecordDataset(path).take(1).as_numpy_iterator()
    assert tfrecords.first(path) == expected


# --- flags ----------------------------------------------------------------


def line(data, output_dir, *more):
    return [
        "pretrain",
        f"--bert_config={data}/config.json",
        f"--train_data={data}/train-*",
        f"--validation_data={data}/held",
        "--optimizer=adamw",
        "--weight_decay=0.01",
        "--learning_rate=1e-3",
        "--warmup_steps=1",
        "--train_steps=4",
        "--batch_size=6",
        "--log_every=2",
        "--num_selection_examples=10",
        f"--output_dir={output_dir}",
        "--noprogress",
        *more,
    ]


PLAIN = ("--optimizer=momentum", "--learning_rate=0.1")
"""A linear rule: AdamW would make steps of what is 0 but for rounding."""

SECOND = (
    "--phase2_train_steps=2",
    "--phase2_batch_size=8",
    "--phase2_learning_rate=0.05",
)


def parsed(*arguments):
    values = flags.FlagValues()
    settings.define(values)
    command_line.parse(values, ["pretrain", *arguments])
    return values


def test_second_phase_inherits(data):
    values = parsed(
        *line(data, "out", *SECOND, "--power=2", "--global_clipnorm=0.5")[1:]
    )
    settings.check(values)
    first, second = (settings.phase(values, number) for number in (1, 2))
    assert (first.train_steps, second.train_steps) == (4, 2)
    assert (first.batch_size, second.batch_size) == (6, 8)
    assert (first.learning_rate, second.learning_rate) == (1e-3, 0.05)
    assert second.power == 2 and second.weight_decay == 0.01
    assert second.global_clipnorm == 0.5
    assert second.output_dir == "out/phase2"
    values = parsed(
        *line(
            data,
            "out",
            *SECOND,
            "--power=2",
            "--phase2_optimizer=lamb",
            "--phase2_schedule=constant",
            "--phase2_train_data=b",
            "--init_checkpoint=c",
        )[1:]
    )
    settings.check(values)
    second = settings.phase(values, 2)
    assert (second.optimizer, second.weight_decay) == ("lamb", None)
    assert (second.warmup_steps, second.power) == (None, None)
    assert second.learning_rate == 0.05
    assert (second.train_data, second.validation_data) == (["b"], None)
    assert second.init_checkpoint is None


@pytest.mark.parametrize(
    "more, message",
    [
        (
            ["--phase2_beta_1=0.9"],
            "phase2_beta_1=0.9 does not apply.*train_steps",
        ),
        (["--keep_optimizer_state"], "keep_optimizer_state.* does not apply"),
        (["--phase=2"], "phase=2 does not apply"),
        ([*SECOND, "--phase2_beta_1=1.5"], "phase2_beta_1"),
        ([*SECOND, "--phase2_momentum=0.5"], "Phase 2: --momentum does not"),
        (
            [*SECOND, "--keep_optimizer_state", "--phase2_optimizer=lamb"],
            "one optimizer for both",
        ),
        (
            [*SECOND, "--keep_optimizer_state", "--phase2_init_checkpoint=x"],
            "takes no --phase2_init_checkpoint=x",
        ),
        (["--max_seq_length=64"], "max_seq_length does not apply.*received 64"),
        (["--train_data=embedded"], "validation_data does not apply.*received"),
        (["--keras=keras3"], "needs --keras=tf_keras"),
        (["--clip=per_replica", "--mixed_precision=float16"], "float16"),
        (["--schedule=cosine"], "warmup_steps does not apply"),
        (["--clip=none", "--global_clipnorm=2"], "apply to --clip=none.*2.0"),
        (
            [*SECOND, "--clip=none", "--phase2_global_clipnorm=1"],
            "phase2_global_clipnorm does not apply to --clip=none",
        ),
    ],
)
def test_flags_refused(data, more, message):
    with pytest.raises((app.UsageError, flags.Error), match=message):
        settings.check(parsed(*line(data, "out", *more)[1:]))


def test_schedules_are_those_of_bert():
    steps = np.arange(20)
    for name, variant in bert_schedule.VARIANTS.items():
        made = families.FAMILIES[name](20, 0.5, 8)
        np.testing.assert_array_equal(made(steps), variant(0.5, 8, 20)(steps))
    assert families.original(20, 0.5, 8)(8) == pytest.approx(0.5 * 12 / 20)
    assert families.fixed(20, 0.5, 8, 2.0)(8) == pytest.approx(0.5)


def test_refusal_needs_no_tensorflow():
    script = """
import sys
sys.modules["tensorflow"] = sys.modules["tf_keras"] = None
from bert import pretrain
from lbcheck.settings import command_line
command_line.start(pretrain.main, pretrain.FLAGS, pretrain.__doc__)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, "--bert_config=tiny", "--output_dir=x"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 2
    assert "--optimizer is needed" in done.stderr
    assert len(done.stderr.splitlines()) == 1


# --- runs -----------------------------------------------------------------


def run(*arguments):
    """Exit code and printed text of the program, in this process."""
    pretrain.FLAGS.unparse_flags()
    for name in pretrain.FLAGS:
        pretrain.FLAGS[name].unparse()
    command_line.parse(pretrain.FLAGS, list(arguments))
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = pretrain.main()
    return code, printed.getvalue()


def weights(folder):
    step, state = checkpoints.of(folder).newest()
    return step, {n: a for n, a in state.items() if n.startswith("model/")}


def measurements(folder):
    text = (pathlib.Path(folder) / "measurements.jsonl").read_text()
    return [json.loads(row) for row in text.splitlines()]


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """A run of both phases; its folder and what it printed."""
    folder = tmp_path_factory.mktemp("whole") / "out"
    code, printed = run(*line(data, folder, *PLAIN, *SECOND))
    assert code == 0
    return folder, printed


def test_both_phases(data, whole):
    folder, printed = whole
    rows = {
        name: values.split()
        for name, values in re.findall(
            r"^  (.{1,30}?) {2,}(.+)$", printed, re.M
        )
    }
    assert rows["update counter"] == "0 to 4 0 to 2".split()
    assert rows["optimizer state"] == ["zero", "zero"]
    assert rows["weights"] == ["random", str(folder / "phase1")]
    assert rows["highest rate"] == ["0.1", "0.05"]
    assert rows["rate of the first update"] == ["0", "0"]
    assert rows["batch_size"] == ["6", "8"]
    assert [m["step"] for m in measurements(folder / "phase2")] == [2]
    for number in (1, 2):
        last = measurements(folder / f"phase{number}")[-1]
        for part in ("selection", "validation"):
            value = last[f"{part}_masked_lm_loss"]
            assert f"{value:.4f}" in printed
    code, again = run(*line(data, folder, *PLAIN, *SECOND))
    assert code == 0 and again.count("finished before") == 2


def test_evaluation_and_dry_run(data, whole, tmp_path):
    folder, printed = whole
    command = line(data, folder, *PLAIN, *SECOND, "--mode=eval", "--phase=2")
    code, found = run(*command)
    last = measurements(folder / "phase2")[-1]
    metrics = json.loads(found.splitlines()[-1])
    assert code == 0 and metrics.pop("phase") == 2
    assert metrics == {name: last[name] for name in metrics}
    assert len(metrics) == 9
    out = tmp_path / "out"
    code, found = run(*line(data, out, *PLAIN, *SECOND, "--dry_run"))
    assert code == 0 and not out.exists()
    assert "27 training records of 16 tokens, 4 predictions, in 3" in found
    told = printed[printed.index("Hand-over") : printed.index("Initial")]
    assert told.replace(str(folder), str(out)).split() == (
        found[found.index("Hand-over") :].split()
    )


@pytest.mark.slow  # a run of phase 2
def test_what_cannot_be_resumed_begins_with_the_weights_of_phase_1(
    data, whole, tmp_path
):
    """The newest checkpoint lacks its line, the one before it is damaged."""
    folder = tmp_path / "out"
    shutil.copytree(whole[0], folder)
    second = folder / "phase2"
    (second / "status.json").write_text('{"status": "running"}')
    (second / "measurements.jsonl").write_text("")
    (second / "checkpoints/step-000000001.npz").write_text("damaged")
    code, printed = run(*line(data, folder, *PLAIN, *SECOND))
    assert code == 0 and "Hand-over" in printed
    assert measurements(second) == measurements(whole[0] / "phase2")


def test_another_model_is_not_evaluated(data, whole, tmp_path):
    """Shapes do not tell an activation, nor do the flags name it."""
    shutil.copytree(whole[0], tmp_path / "out")
    config = data / "config.json"
    before = config.read_text()
    command = line(data, tmp_path / "out", *PLAIN, *SECOND, "--mode=eval")
    try:
        other = {**json.loads(before), "hidden_act": "tanh"}
        config.write_text(json.dumps(other))
        with pytest.raises(ValueError, match="config: hidden_act 'gelu', now"):
            run(*command)
    finally:
        config.write_text(before)


def test_phases_are_of_one_vocabulary(data, tmp_path):
    """Of as many tokens, but others: phase 2 would begin with their weights."""
    out = tmp_path / "out"
    first, second = (
        described(tmp_path, name, VOCABULARY, name, 12) for name in "xy"
    )
    command = line(data, out, *PLAIN, *SECOND, f"--train_data={first}")
    command.append(f"--phase2_train_data={second}")
    message = "--phase2_train_data: made with another vocabulary"
    with pytest.raises(ValueError, match=message):
        run(*command)
    assert not out.exists()
    # The same where phase 1 was trained by another call.
    flagfile = command_line.flagfile(pretrain.FLAGS, settings.OF_THE_CALL)
    begun = record.Record(out / "phase1", settings.flagfile(flagfile, 1))
    known = pretraining_records.find([first]).vocabulary
    begun.begin({"settings": {"vocabulary": known}}, {}, "table")
    begun.set_status("finished", step=4)
    begun.release()
    with pytest.raises(ValueError, match=message):
        run(*command, "--phase=2")
    assert not (out / "phase2").exists()
    # And where a phase begins with the weights of another run.
    third = tmp_path / "third"
    for prefix in ("", "phase2_"):
        more = [
            f"--train_data={first}",
            f"--{prefix}train_data={second}",
            f"--{prefix}init_checkpoint={out}/phase1",
        ]
        with pytest.raises(
            ValueError, match=f"--{prefix}train_data: .*phase1,"
        ):
            run(*line(data, third, *PLAIN, *SECOND, *more))
    assert not third.exists()


def test_a_study_of_phase_2_is_of_one_vocabulary(data, whole, tmp_path):
    shutil.copytree(whole[0] / "phase1", tmp_path / "run")
    path = tmp_path / "run" / "run.json"
    made = json.loads(path.read_text())
    made["settings"]["vocabulary"] = {"tokens": VOCABULARY, "sha256": "x"}
    path.write_text(json.dumps(made))
    given = dict(
        bert_config=f"{data}/config.json",
        validation_data=f"{data}/held",
        batch_size=6,
        init_checkpoint=str(tmp_path / "run"),
    )
    x, y = (described(tmp_path, n, VOCABULARY, n, 12) for n in "xy")
    workloads.phase2(train_data=x, **given)
    with pytest.raises(ValueError, match=f"^{y}: another vocab.*{tmp_path}"):
        workloads.phase2(train_data=y, **given)


def _planted(value, name):
    """A JSON value with a name in place of each of its texts."""
    if isinstance(value, dict):
        return {key: _planted(entry, name) for key, entry in value.items()}
    if isinstance(value, list):
        return [_planted(entry, name) for entry in value]
    return name if isinstance(value, str) else value


@pytest.mark.parametrize(
    "files, name",
    [
        (["run.json"], "evil:function"),
        pytest.param(
            ["status.json", "*.jsonl"],
            "evil.function",
            marks=pytest.mark.slow,  # as the first, half a minute
        ),
    ],
)
def test_nothing_that_a_run_names_is_run(
    data, whole, tmp_path, monkeypatch, files, name
):
    out = tmp_path / "out"
    shutil.copytree(whole[0], out)
    planted = [p for file in files for p in out.glob(f"phase*/{file}")]
    assert len(planted) >= 2
    for path in planted:
        rows = [_planted(json.loads(r), name) for r in _documents(path)]
        path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    for folder in (tmp_path, out, out / "phase1"):
        (folder / "evil.py").write_text("raise SystemExit('it ran')")
        monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    monkeypatch.chdir(out)
    first = line(data, tmp_path / "new", *PLAIN, "--train_steps=1")
    for command in (
        line(data, out, *PLAIN, *SECOND),
        line(data, out, *PLAIN, *SECOND, "--dry_run"),
        line(data, out, *PLAIN, *SECOND, "--mode=eval", "--phase=2"),
        [*first, f"--init_checkpoint={out / 'phase1'}"],
    ):
        with contextlib.suppress(ValueError):
            code, _ = run(*command)
            assert code == 0
    assert "evil" not in sys.modules


def _documents(path):
    text = path.read_text()
    return text.splitlines() if path.suffix == ".jsonl" else [text]


@pytest.mark.slow  # two workers of one phase are in training_test.py
def test_two_workers_train_one_phase_after_the_other(data, tmp_path):
    """A phase 2 of rate 0 has the weights and metrics of phase 1."""
    folder = tmp_path / "two"
    second = (*SECOND, "--phase2_learning_rate=0", "--phase2_batch_size=6")
    _, *arguments = line(data, folder, *PLAIN, *second)
    workers = [
        programs.Program(
            "bert.pretrain",
            [*arguments, "--distribution=multi_worker"],
            environment={"TF_CONFIG": config},
        )
        for config in programs.two_workers()
    ]
    for worker in workers:
        out, error = worker.communicate(300)
        assert worker.returncode == 0, error
        assert out.count("Hand-over") == 1
    first, second = (folder / f"phase{number}" for number in (1, 2))
    step, expected = weights(first)
    again, found = weights(second)
    assert (step, again) == (4, 2)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)
    ours, theirs = (measurements(f)[-1] for f in (second, first))
    for name, value in theirs.items():
        if name.startswith(("selection", "validation")):
            assert ours[name] == pytest.approx(value, rel=1e-6), name


def test_second_phase_begins_with_the_weights_alone(data, whole, tmp_path):
    """A phase 2 of rate 0, from phase 1's folder, changes no weight."""
    folder, _ = whole
    code, _ = run(
        *line(data, tmp_path / "out", *PLAIN, "--train_steps=2"),
        "--learning_rate=0",
        f"--init_checkpoint={folder / 'phase1'}",
    )
    assert code == 0
    step, ours = weights(tmp_path / "out/phase1")
    _, theirs = weights(folder / "phase1")
    assert step == 2
    for name, array in theirs.items():
        np.testing.assert_array_equal(ours[name], array, err_msg=name)
    # The metrics are those of these weights on all examples, once each.
    ours, theirs = (
        measurements(f)[-1]
        for f in (tmp_path / "out/phase1", folder / "phase1")
    )
    for name, value in theirs.items():
        if name.startswith(("selection", "validation")):
            assert ours[name] == pytest.approx(value, rel=1e-6), name


def test_second_phase_begins_where_the_first_was_evaluated(data, tmp_path):
    """A phase 2 of rate 0 measures what Schedule-Free measured at its end."""
    code, _ = run(
        *line(data, tmp_path, "--optimizer=schedulefreeadamw", *SECOND),
        "--phase2_optimizer=momentum",
        "--phase2_learning_rate=0",
    )
    assert code == 0
    ours, theirs = (
        measurements(tmp_path / phase)[-1] for phase in ("phase2", "phase1")
    )
    for name, value in theirs.items():
        if name.startswith(("selection", "validation")):
            assert ours[name] == pytest.approx(value, rel=1e-6), name


def test_accumulation_equals_the_whole_batch(
    data, whole, tmp_path, monkeypatch
):
    folder, _ = whole
    _, expected = weights(folder / "phase1")

    def gap(name):
        run(*line(data, tmp_path / name, *PLAIN, "--microbatch_size=2"))
        _, found = weights(tmp_path / name / "phase1")
        return max(np.abs(found[n] - expected[n]).max() for n in expected)

    assert gap("whole") < 2e-6
    # Each microbatch by its own weights is another loss.
    monkeypatch.setattr(
        pretraining_source, "_add_weight_per_example", lambda x, y: (x, y)
    )
    assert gap("mutant") > 1e-4


@pytest.mark.parametrize("name", ["you2019_lamb_2048", "prose_lamb"])
def test_dry_run_without_data_shows_every_setting(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    path = ROOT / f"flags/bert/{name}.flags"
    wanted = [
        line
        for line in path.read_text().splitlines()
        if line.startswith("--") and "output_dir" not in line
    ]
    # As a small model, for the memory of the test alone.
    code, found = run(
        "x", f"--flagfile={path}", "--bert_config=1x64", "--dry_run"
    )
    assert code == 0 and not list(tmp_path.iterdir())
    for line in wanted:
        flag, _, value = line[2:].partition("=")
        if flag.endswith("data"):
            assert f"missing: --{flag.removeprefix('phase2_')}=" in found
        if flag != "bert_config":
            shown = re.search(rf"^  --{flag}(=(.*))?$", found, re.M)
            assert shown, line
            if value and shown[2] != value:
                assert float(shown[2]) == float(value)
    rates = re.findall(r"update (\d+): \S+ \(warm-up ends\)", found)
    assert rates == {"you2019_lamb_2048": ["3125", "781"]}.get(name, ["4"])
    assert "MiB" in found


def test_dry_run_without_data_in_epochs(data, tmp_path):
    given = line(data, tmp_path / "out", f"--train_data={tmp_path}/gone")
    given.remove("--train_steps=4")
    code, found = run(
        *given,
        "--train_epochs=2",
        f"--init_checkpoint={tmp_path}/weights",
        "--dry_run",
    )
    assert code == 0 and "--train_epochs=2.0" in found
    assert f"missing: --train_data={tmp_path}/gone: there is no" in found
    assert f"missing: --init_checkpoint={tmp_path}/weights" in found
    (tmp_path / "phase10").mkdir()
    (tmp_path / "[a]*.ckpt.index").touch()
    for name, missing in (("phase1", 1), ("phase10", 0), ("[a]*.ckpt", 0)):
        checkpoint = f"--init_checkpoint={tmp_path / name}"
        _, found = run(*given, "--train_epochs=2", checkpoint, "--dry_run")
        assert (f"missing: {checkpoint}" in found) == missing
    with pytest.raises(ValueError, match="gone: there is no such file"):
        run(*line(data, tmp_path / "out", f"--train_data={tmp_path}/gone"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--batch_size=28"], "28 is more than the 27 training records of .*0"),
        (["--learning_rate=nan"], "learning_rate=nan"),
        (["--phase2_power=inf", *SECOND], "phase2_power=inf"),
        (["--vocab_size=3000000000"], "vocab_size=3000000000"),
        (["--bert_config=96x65536"], "a model of .* billion weights"),
        (["--train_data=/etc"], "/etc is a folder"),
    ],
)
def test_sizes_without_sense(data, tmp_path, more, message):
    with pytest.raises(
        (ValueError, app.UsageError, flags.Error), match=message
    ):
        run(*line(data, tmp_path / "out", *more))
    assert not (tmp_path / "out").exists()


def test_embedded_records_must_fit_the_model(tmp_path):
    command = [
        "pretrain",
        f"--flagfile={ROOT}/flags/bert/mini.flags",
        f"--output_dir={tmp_path / 'out'}",
    ]
    for more, message in (
        ("--max_seq_length=600", "max_seq_length=600 in phase 1: .* for 512"),
        ("--phase2_max_seq_length=513", "513 in phase 2: the model has"),
        ("--max_predictions_per_seq=62", "62: of max_seq_length=64 .* 61"),
        ("--dupe_factor=1001", "dupe_factor=1001"),
        ("--train_vocab=5", "train_vocab=5"),
        ("--bert_config=1x65", "1x65. is no configuration of BERT"),
        ("--bert_config=nowhere.json", "nowhere.json"),
        (f"--init_checkpoint={tmp_path}/no", "/no is none: expected a folder"),
        (f"--phase2_init_checkpoint={tmp_path}", "holds none: expected a fold"),
        ("--steps_per_execution=7", "=50 is not a multiple of steps_per_e"),
        ("--phase=2", "phase 1 is not begun; phase 2 begins with"),
        ("--mode=eval", "phase1 holds no whole checkpoint to evaluate"),
    ):
        with pytest.raises((ValueError, flags.Error), match=message):
            run(*command, more)
    assert not (tmp_path / "out").exists()


def test_embedded_phases_one_after_the_other(tmp_path, monkeypatch):
    out = tmp_path / "out"
    command = [
        "pretrain",
        f"--flagfile={ROOT}/flags/bert/mini.flags",
        *"--train_vocab=200 --dupe_factor=1".split(),
        f"--output_dir={out}",
        f"--phase2_init_checkpoint={out / 'phase1'}",  # that is not there yet
    ]

    def killed(phase):
        phase.record.begin({}, {"after_step": 0}, "table")
        phase.record.checkpoints.save(1, {"a": np.zeros(1)})
        phase.record.release()
        return 10 + phase.number

    monkeypatch.setattr(pretrain.Phase, "run", killed)
    assert run(*command)[0] == 11
    # Phase 1 can be evaluated, whatever there is of phase 2.
    monkeypatch.setattr(pretrain.Phase, "run", lambda phase: 20 + phase.number)
    assert run(*command, "--mode=eval")[0] == 21
    with pytest.raises(ValueError, match="phase2 holds no whole checkpoint"):
        run(*command, "--mode=eval", "--phase=2")


def test_second_phase_waits_for_the_first(data, tmp_path):
    with pytest.raises(ValueError, match="phase 1 is not begun"):
        run(*line(data, tmp_path / "out", *SECOND, "--phase=2"))
    assert not (tmp_path / "out").exists()


def test_kept_state_goes_on_bias_corrected(tmp_path):
    beta_1, beta_2, rate, epsilon = 0.9, 0.98, 0.01, 1e-6
    later_1, later_2 = 0.8, 0.7
    rng = np.random.default_rng(0)
    gradients = rng.normal(size=(5, 3)).astype(np.float32)

    def built(beta_1, beta_2, **more):
        variable = tf.Variable(np.ones(3, np.float32), name="kernel")
        made = lbcheck.tf_keras.AdamW(
            rate,
            weight_decay=0.0,
            beta_1=beta_1,
            beta_2=beta_2,
            epsilon=epsilon,
            **more,
        )
        made.build([variable])
        return made, variable

    first, variable = built(beta_1, beta_2)
    for gradient in gradients[:3]:
        first.apply_gradients([(tf.constant(gradient), variable)])
    state = {f"optimizer/{i}": v.numpy() for i, v in enumerate(first.variables)}
    checkpoints.of(tmp_path).save(5, state)  # float16 has skipped two
    second, variable = built(later_1, later_2, bias_correction=False)
    corrected = {False: True}
    handover.keep_state(second, tmp_path, first, corrected)
    assert second.completed_updates() == 0
    before = variable.numpy()
    # By hand: corrected moments of three updates, then two more averages.
    m = v = np.zeros(3)
    for gradient in gradients[:3].astype(np.float64):
        m = beta_1 * m + (1 - beta_1) * gradient
        v = beta_2 * v + (1 - beta_2) * gradient**2
    m, v = m / (1 - beta_1**3), v / (1 - beta_2**3)
    expected = before.astype(np.float64)
    for gradient in gradients[3:]:
        m = later_1 * m + (1 - later_1) * gradient
        v = later_2 * v + (1 - later_2) * gradient**2
        expected -= rate * m / (np.sqrt(v) + epsilon)
        second.apply_gradients([(tf.constant(gradient), variable)])
    np.testing.assert_allclose(variable.numpy(), expected, rtol=2e-6)
    with pytest.raises(ValueError, match="no whole checkpoint"):
        handover.keep_state(second, tmp_path / "nothing", first, corrected)
    # Of no update at all the moments are 0, not 0 / 0.
    new = {name: np.zeros_like(array) for name, array in state.items()}
    checkpoints.of(tmp_path / "skipped").save(2, new)
    handover.keep_state(second, tmp_path / "skipped", first, corrected)
    assert not any(v.numpy().any() for slots in second._slots for v in slots)


@pytest.mark.parametrize("name", sorted(optimizers.BY_NAME))
def test_no_state_is_kept_that_would_be_taken_for_new(data, name):
    """Refused where the count of updates changes what a full state does."""
    rule = optimizers.BY_NAME[name].rule_class()
    if hasattr(rule, "bias_correction"):  # phase 2 turns it off
        rule = dataclasses.replace(rule, bias_correction=False)
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(3, 3))
    slots = [np.zeros(s.shape_for((3, 3))) for s in rule.slots_of((3, 3))]

    def update(step):
        gradient = rng.normal(size=(3, 3))
        return rule.update(rules.NUMPY, weight, gradient, slots, 0.01, step)

    for step in range(20):
        weight, slots, _ = update(step)
    state = rng.bit_generator.state
    later = update(20)[0]
    rng.bit_generator.state = state
    counts = not np.allclose(update(0)[0], later, rtol=1e-9)
    arguments = line(data, "out", *SECOND, "--keep_optimizer_state")
    values = parsed(*arguments[1:], f"--optimizer={name}")
    if name not in ("adamw", "lamb"):
        values["weight_decay"].unparse()
    if counts:
        with pytest.raises(app.UsageError, match=f"apply to {name}, which"):
            settings.check(values)
    else:
        settings.check(values)


def test_clipping_per_replica_is_global_on_one():
    gradients = [tf.constant([3.0, 0.0]), tf.constant([[0.0], [4.0]])]

    def step(change):
        variables = [tf.Variable(tf.zeros_like(g)) for g in gradients]
        made = lbcheck.tf_keras.Momentum(1.0, 0.0, global_clipnorm=1.0)
        change(made).apply_gradients(zip(gradients, variables))
        return np.concatenate([v.numpy().ravel() for v in variables])

    expected = [-0.6, 0.0, 0.0, -0.8]
    np.testing.assert_allclose(step(lambda made: made), expected, rtol=1e-6)
    np.testing.assert_allclose(step(clipping.per_replica), expected, rtol=1e-6)


def test_embedded_text(tmp_path):
    made = embedded.corpus(tmp_path, 300)
    texts = [pathlib.Path(p).read_text() for p in (made.train, made.validation)]
    share = len(texts[1]) / sum(map(len, texts))
    assert 0.05 < share <= 0.11
    assert not set(texts[1].split("\n\n")) & set(texts[0].split("\n\n")) - {""}
    # By hand, from the vocabulary's pieces of the training text.
    vocabulary = pathlib.Path(made.vocab_file).read_text().splitlines()
    assert len(vocabulary) == made.tokens <= 300
    from bert import tokenization

    pieces = tokenization.Tokenizer(made.vocab_file).tokenize(texts[0])
    _, counts = np.unique(pieces, return_counts=True)
    p = counts / counts.sum()
    assert made.entropy == pytest.approx(-(p * np.log(p)).sum(), rel=1e-6)


CORPUS = """
import pathlib, sys
from bert import embedded
made = embedded.corpus(sys.argv[1], 200)
found = embedded.records(made, "phase1", 16, 2, 1, 0)
times = sorted(
    (path.name, path.stat().st_mtime_ns)
    for path in pathlib.Path(sys.argv[1]).iterdir()
    if path.name != "lock"
)
print(found, times)
"""


@pytest.mark.slow
def test_several_processes_make_the_embedded_records_once(tmp_path):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CORPUS, str(tmp_path / "records")],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for _ in range(3)
    ]
    outputs = [process.communicate(timeout=300) for process in processes]
    assert [p.returncode for p in processes] == [0] * 3, outputs
    # The same names, and the same times: nothing was written again.
    assert len({output.splitlines()[-1] for output, _ in outputs}) == 1
    names = {path.name for path in (tmp_path / "records").iterdir()}
    assert names == {
        "lock",
        "train.txt",
        "validation.txt",
        "vocab-200.txt",
        "phase1-train.json",
        "phase1-validation.json",
        "phase1-validation-00000-of-00001",
        *(f"phase1-train-0000{k}-of-00004" for k in range(4)),
    }


def test_waiting_for_the_embedded_records_ends(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(embedded, "_LONGEST_WAIT", 0)
    with files.lock(tmp_path / "lock"):
        with pytest.raises(errors.Unavailable, match=f"{tmp_path}: another"):
            embedded.corpus(tmp_path, 200)
    assert "waits for it" in capsys.readouterr().out


REPLICAS = """
import sys
import numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(
    cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import lbcheck.tf_keras
from bert import clipping
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
local = tf.constant([[3.0, 4.0], [0.3, 0.0]])  # norms 5 and 0.3
with strategy.scope():
    for change in (lambda made: made, clipping.per_replica):
        w = tf.Variable([0.0, 0.0])
        made = change(
            lbcheck.tf_keras.Momentum(1.0, 0.0, global_clipnorm=1.0))
        made.build([w])
        def step():
            r = tf.distribute.get_replica_context().replica_id_in_sync_group
            made.apply_gradients([(local[r] / 2, w)])
        strategy.run(tf.function(step))
        print(*w.numpy())
"""


@pytest.mark.slow
def test_clipping_on_two_replicas():
    done = subprocess.run(
        [sys.executable, "-c", REPLICAS],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    after, before = (
        np.array(row.split(), float) for row in done.stdout.splitlines()[-2:]
    )
    mean = np.array([1.65, 2.0])
    np.testing.assert_allclose(after, -mean / np.hypot(*mean), rtol=1e-6)
    np.testing.assert_allclose(before, [-(0.6 + 0.3) / 2, -0.4], rtol=1e-6)


@pytest.mark.slow
def test_workload_and_its_arms():
    folder = ROOT / "flags/bert/arms"
    arms = {
        path.stem: arm.load(str(path))
        for path in folder.glob("*.json")
        if "20" not in path.stem  # the arms of published searches
    }
    assert set(arms) == {
        "adamw",
        "adamw_no_bias_correction",
        "adamw_original_schedule",
        "lamb",
    }
    made = trainer.Trainer(
        workloads.mini(batch_size=64, steps=4, dupe_factor=1), arms
    )
    assert (made.metric, made.mode) == ("masked_lm_accuracy", "max")
    point = dict(
        learning_rate=0.01, beta_1=0.9, weight_decay=0.01, warmup_steps=2
    )
    task = dict(stage="broad", index=0, seed=1, hyperparameters=point)
    losses = {}
    for name in arms:
        record = made.run({"arm": name, **task})
        assert record["status"] == "finished"
        losses[name] = record["metrics"]["training"]["masked_lm_loss"]
    assert len(set(losses.values())) == 4  # each bug makes a difference
    # By hand: the rates of updates 0 to 3, with and without the drop.
    for name, expected in (
        ("adamw", [0, 0.005, 0.01, 0.005]),
        ("adamw_original_schedule", [0, 0.005, 0.005, 0.0025]),
    ):
        rate = arms[name].schedule_of(point, 4)
        np.testing.assert_allclose(rate(np.arange(4)), expected)


@pytest.fixture(scope="module")
def small_records(tmp_path_factory):
    """(folder, pattern of training records, of held-out ones), 64 tokens."""
    folder = tmp_path_factory.mktemp("records")
    corpus = embedded.corpus(folder, 300)
    return folder, *embedded.records(corpus, "small", 64, 10, 1, seed=0)


def test_phases_of_given_records(small_records, tmp_path):
    _, train, held_out = small_records
    given = dict(
        bert_config="1x64",
        train_data=train,
        validation_data=held_out,
        batch_size=16,
        steps=2,
    )
    first = workloads.phase1(**given)
    one, again, other = (
        next(first.train(seed).as_numpy_iterator()) for seed in (1, 1, 2)
    )
    assert one[0]["input_word_ids"].shape == (16, 64)
    assert set(one[1]) == {
        *("masked_lm_ids", "masked_lm_weights", "next_sentence_labels"),
    }
    for name in one[0]:
        np.testing.assert_array_equal(one[0][name], again[0][name])
    assert (one[0]["input_word_ids"] != other[0]["input_word_ids"]).any()
    sizes = [len(b[1]["masked_lm_ids"]) for b in first.validation()]
    assert sum(sizes) == pretraining_records.find([held_out]).total
    model = first.build_model()
    assert model.count_params() > 0
    # Phase 2 of every trial starts with the weights of a checkpoint.
    config = model.get_config()["settings"]
    bert_checkpoints.write(model, config, tmp_path / "phase1", "huggingface")
    second = workloads.phase2(init_checkpoint=str(tmp_path / "phase1"), **given)
    assert (first.name, second.name) == ("bert_phase1", "bert_phase2")
    for ours, theirs in zip(
        second.build_model().trainable_variables, model.trainable_variables
    ):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
    scratch = workloads.phase2(**given).build_model().trainable_variables
    assert not np.allclose(scratch[0], model.trainable_variables[0])
    with pytest.raises(ValueError, match="given together.*and None"):
        workloads.phase1(train_data=train)
    with pytest.raises(ValueError, match="must be 'tf_keras'.*'keras3'"):
        workloads.phase2("keras3")


MIRRORED = """
import sys
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(
    cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from bert import pretrain
from lbcheck.settings import command_line
command_line.start(pretrain.main, pretrain.FLAGS, pretrain.__doc__)
"""


@pytest.mark.slow
def test_two_replicas_equal_one(data, whole, tmp_path):
    folder, _ = whole
    command = line(data, tmp_path / "two", *PLAIN, "--distribution=mirrored")
    done = subprocess.run(
        [sys.executable, "-c", MIRRORED, *command[1:], "--phase=1"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    _, expected = weights(folder / "phase1")
    _, found = weights(tmp_path / "two/phase1")
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, atol=2e-6, rtol=0)
    one, two = (
        measurements(f / "phase1")[-1] for f in (folder, tmp_path / "two")
    )
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert two[name] == pytest.approx(value, rel=1e-5), name


@pytest.mark.slow
@pytest.mark.parametrize(
    "more", [["--xla"], ["--xla", "--mixed_precision=bfloat16"]]
)
def test_every_step_compiles_under_xla(data, tmp_path, more):
    flag_values = ["--microbatch_size=2", "--steps_per_execution=2", *more]
    command = line(data, tmp_path / "xla", "--optimizer=lamb", *flag_values)
    done = subprocess.run(
        [sys.executable, "-m", "bert.pretrain", *command[1:]],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    last = measurements(tmp_path / "xla/phase1")[-1]
    assert 3.5 < last["masked_lm_loss"] < 4.7  # about log(60)


@pytest.mark.slow
@pytest.mark.parametrize("number", [1, 2])
def test_killed_and_resumed_is_the_same_run(data, tmp_path, number):
    """Killed in a phase, or between them; the same command continues."""
    more = (
        *SECOND,
        "--train_steps=12",
        "--phase2_train_steps=12",
        "--keep_optimizer_state",
    )
    command = [sys.executable, "-m", "bert.pretrain"]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}

    def start(folder):
        return subprocess.Popen(
            [*command, *line(data, folder, *more)[1:]],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    assert start(tmp_path / "whole").wait() == 0
    killed = start(tmp_path / "killed")
    waited = tmp_path / f"killed/phase{number}/checkpoints"
    while not list(waited.glob("step-*.npz")):
        assert killed.poll() is None
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    between = start(tmp_path / "killed")
    status = tmp_path / "killed/phase1/status.json"
    while not json.loads(status.read_text())["status"] == "finished":
        assert between.poll() is None
        time.sleep(0.002)
    between.send_signal(signal.SIGKILL)
    between.wait()
    assert start(tmp_path / "killed").wait() == 0
    for phase in ("phase1", "phase2"):
        one, other = (tmp_path / name / phase for name in ("whole", "killed"))
        assert measurements(one) == measurements(other)
        for name, array in weights(one)[1].items():
            np.testing.assert_array_equal(array, weights(other)[1][name])
