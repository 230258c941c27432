"""BERT checkpoints against the published architecture and other programs."""

import functools
import io
import json
import os
import pathlib
import sys
import tempfile
import unittest
from unittest import mock

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
import tensorflow as tf
from absl.testing import parameterized
from official.legacy.bert import configs as google_configs
from official.nlp.modeling import layers
from official.nlp.modeling import models as garden
from official.nlp.tools import tf2_bert_encoder_checkpoint_converter
from scipy import special

from bert import checkpoints
from bert import export
from bert import models
from bert.checkpoints import variables
from lbcheck import training
from lbcheck.settings import command_line
from lbcheck.support import exit_codes
from lbcheck.training import checkpoints as training_checkpoints
from tests import damage as damages

_PRETRAINED = os.environ.get("LBCHECK_BERT")

SETTINGS = {
    "attention_probs_dropout_prob": 0.1,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 24,
    "initializer_range": 0.02,
    "intermediate_size": 40,
    "max_position_embeddings": 16,
    "num_attention_heads": 3,
    "num_hidden_layers": 2,
    "type_vocab_size": 2,
    "vocab_size": 50,
}


TRANSFORMERS = {
    "add_cross_attention": False,
    "architectures": ["BertForPreTraining"],
    "bos_token_id": None,
    "classifier_dropout": None,
    "dtype": "float32",
    "eos_token_id": None,
    "is_decoder": False,
    "layer_norm_eps": 1e-12,
    "model_type": "bert",
    "pad_token_id": 0,
    "tie_word_embeddings": True,
    "transformers_version": "5.23.0",
    "use_cache": True,
}
"""What transformers 5.23 writes into config.json besides the sizes."""


def tensors(settings, heads=True, prefix="bert.", seed=0):
    """Random tensors of a Hugging Face BERT, by its own names; none is 0."""
    hidden = settings["hidden_size"]
    inner = settings["intermediate_size"]
    words = settings["vocab_size"]
    shapes = {
        "embeddings.word_embeddings.weight": (words, hidden),
        "embeddings.position_embeddings.weight": (
            settings["max_position_embeddings"],
            hidden,
        ),
        "embeddings.token_type_embeddings.weight": (2, hidden),
        "embeddings.LayerNorm.weight": (hidden,),
        "embeddings.LayerNorm.bias": (hidden,),
        "pooler.dense.weight": (hidden, hidden),
        "pooler.dense.bias": (hidden,),
    }
    for i in range(settings["num_hidden_layers"]):
        for name, shape in (
            ("attention.self.query", (hidden, hidden)),
            ("attention.self.key", (hidden, hidden)),
            ("attention.self.value", (hidden, hidden)),
            ("attention.output.dense", (hidden, hidden)),
            ("attention.output.LayerNorm", (hidden,)),
            ("intermediate.dense", (inner, hidden)),
            ("output.dense", (hidden, inner)),
            ("output.LayerNorm", (hidden,)),
        ):
            shapes[f"encoder.layer.{i}.{name}.weight"] = shape
            shapes[f"encoder.layer.{i}.{name}.bias"] = shape[:1]
    shapes = {prefix + name: shape for name, shape in shapes.items()}
    if heads:
        shapes |= {
            "cls.predictions.bias": (words,),
            "cls.predictions.transform.dense.weight": (hidden, hidden),
            "cls.predictions.transform.dense.bias": (hidden,),
            "cls.predictions.transform.LayerNorm.weight": (hidden,),
            "cls.predictions.transform.LayerNorm.bias": (hidden,),
            "cls.seq_relationship.weight": (2, hidden),
            "cls.seq_relationship.bias": (2,),
        }
    generator = np.random.default_rng(seed)
    made = {}
    for name, shape in shapes.items():
        array = generator.normal(scale=0.3, size=shape)
        if "LayerNorm.weight" in name:
            array += 1.0
        made[name] = array.astype(np.float32)
    return made


def write_tensors(folder, made, **config):
    """A Hugging Face folder; its "gelu" is the exact one."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    settings = {**SETTINGS, **TRANSFORMERS, **config}
    (folder / "config.json").write_text(json.dumps(settings))
    safetensors.numpy.save_file(made, folder / "model.safetensors")
    return str(folder)


def gelu(x):
    """Hendrycks and Gimpel 2016: x times the normal distribution function."""
    return 0.5 * x * (1.0 + special.erf(x / np.sqrt(2.0)))


def tanh_gelu(x):
    """google-research/bert, modeling.py."""
    cubic = np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)
    return 0.5 * x * (1.0 + np.tanh(cubic))


def reference(made, inputs, heads, activation=gelu, positions=None):
    """BERT in float64, after Vaswani et al. 2017 and Devlin et al. 2018.

    Args:
        made: Hugging Face's tensors, without "bert.".
        inputs: ids, mask and types, (batch, length).
        heads: Attention heads.
        activation: Of the feed-forward layers and the masked-LM head.
        positions: For the masked-LM head, (batch, predictions).

    Returns:
        Sequence output, pooled output, and logits of both heads.
    """
    w = {name: array.astype(np.float64) for name, array in made.items()}

    def dense(name, x):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(name, x):
        centered = x - x.mean(-1, keepdims=True)
        variance = (centered**2).mean(-1, keepdims=True)
        scaled = centered / np.sqrt(variance + 1e-12)
        return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]

    def split(x):
        batch, length, width = x.shape
        x = x.reshape(batch, length, heads, width // heads)
        return x.transpose(0, 2, 1, 3)

    ids, mask, types = inputs
    embeddings = w["embeddings.word_embeddings.weight"]
    x = embeddings[ids] + w["embeddings.token_type_embeddings.weight"][types]
    x = x + w["embeddings.position_embeddings.weight"][: ids.shape[1]]
    x = norm("embeddings.LayerNorm", x)
    layer = 0
    while f"encoder.layer.{layer}.output.dense.weight" in w:
        at = f"encoder.layer.{layer}."
        q, k, v = (
            split(dense(f"{at}attention.self.{name}", x))
            for name in ("query", "key", "value")
        )
        scores = q @ k.transpose(0, 1, 3, 2) / np.sqrt(q.shape[-1])
        scores = np.where(mask[:, None, None, :] == 1, scores, -np.inf)
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        context = scores / scores.sum(-1, keepdims=True) @ v
        context = context.transpose(0, 2, 1, 3).reshape(x.shape)
        x = norm(
            f"{at}attention.output.LayerNorm",
            x + dense(f"{at}attention.output.dense", context),
        )
        inner = activation(dense(f"{at}intermediate.dense", x))
        x = norm(f"{at}output.LayerNorm", x + dense(f"{at}output.dense", inner))
        layer += 1
    pooled = np.tanh(dense("pooler.dense", x[:, 0]))
    if positions is None:
        return x, pooled
    masked = np.take_along_axis(x, positions[..., None], axis=1)
    masked = activation(dense("cls.predictions.transform.dense", masked))
    masked = norm("cls.predictions.transform.LayerNorm", masked)
    logits = masked @ embeddings.T + w["cls.predictions.bias"]
    return x, pooled, logits, dense("cls.seq_relationship", pooled)


def batch(settings, length=12, seed=5):
    """Ids, mask, types; the sequences have different lengths."""
    generator = np.random.default_rng(seed)
    lengths = np.array([[length], [length - 5], [3]])
    places = np.arange(length)[None]
    mask = (places < lengths).astype(np.int32)
    ids = generator.integers(0, settings["vocab_size"], (3, length)) * mask
    types = ((places >= lengths // 2) & (mask == 1)).astype(np.int32)
    return ids.astype(np.int32), mask, types


def named(inputs, positions=None):
    """As the encoder takes them."""
    names = ("input_word_ids", "input_mask", "input_type_ids")
    found = dict(zip(names, inputs))
    if positions is not None:
        found["masked_lm_positions"] = positions
    return {name: tf.constant(array, tf.int32) for name, array in found.items()}


def weights(model):
    return {
        name: [variable.numpy() for variable in found]
        for name, found in variables.of(model).items()
    }


class Case(parameterized.TestCase, tf.test.TestCase):
    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def path(self, name):
        return str(self.folder / name)

    def assert_same(self, got, want):
        self.assertEqual(got.keys(), want.keys())
        for name in want:
            for one, other in zip(got[name], want[name], strict=True):
                np.testing.assert_array_equal(one, other, err_msg=name)


class ArchitectureTest(Case):
    """A file's weights compute what the papers say, by NumPy in float64."""

    @parameterized.parameters(("gelu", gelu), ("gelu_new", tanh_gelu))
    def test_both_outputs_and_both_heads(self, hidden_act, activation):
        made = tensors(SETTINGS)
        path = write_tensors(self.path("hf"), made, hidden_act=hidden_act)
        model = models.pretrainer(models.config(path))
        loaded = checkpoints.load_initial(model, path)
        self.assertEqual(loaded.loaded, tuple(variables.PARTS))
        inputs = batch(SETTINGS)
        positions = np.array([[1, 4, 9], [2, 3, 6], [0, 1, 2]])
        bare = {n.removeprefix("bert."): a for n, a in made.items()}
        want = reference(bare, inputs, 3, activation, positions)
        encoded = model.encoder(named(inputs))
        heads = model(named(inputs, positions))
        got = (
            encoded["sequence_output"],
            encoded["pooled_output"],
            heads["masked_lm"],
            heads["next_sentence"],
        )
        real = inputs[1][..., None] == 1  # the rest attends to padding too
        for a, b in zip(got[:1], want[:1]):
            np.testing.assert_allclose(a * real, b * real, rtol=0, atol=1e-5)
        for a, b in zip(got[1:], want[1:]):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)

    @parameterized.parameters(
        ("encoder.layer.1.attention.self.query.weight", np.transpose),
        ("encoder.layer.0.attention.output.dense.weight", np.transpose),
        ("encoder.layer.1.intermediate.dense.bias", np.zeros_like),
        ("embeddings.position_embeddings.weight", np.flipud),
        ("pooler.dense.weight", np.transpose),
    )
    def test_a_wrong_reading_would_show(self, name, mutation):
        made = tensors(SETTINGS, heads=False, prefix="")
        inputs = batch(SETTINGS)
        right = reference(made, inputs, 3)
        made[name] = mutation(made[name])
        wrong = reference(made, inputs, 3)
        self.assertGreater(np.max(np.abs(right[1] - wrong[1])), 1e-3)

    @unittest.skipUnless(
        _PRETRAINED, "LBCHECK_BERT, a Hugging Face folder of a BERT, is not set"
    )
    def test_a_pretrained_encoder(self):
        settings = models.config(_PRETRAINED)
        encoder = models.encoder(settings)
        loaded = checkpoints.load_initial(encoder, _PRETRAINED)
        self.assertEqual(loaded.fresh, ())
        made = safetensors.numpy.load_file(
            os.path.join(_PRETRAINED, "model.safetensors")
        )
        made = {name.removeprefix("bert."): a for name, a in made.items()}
        inputs = batch(settings, length=128)
        heads = settings["num_attention_heads"]
        want = reference(made, inputs, heads)
        got = encoder(named(inputs))
        real = inputs[1][..., None] == 1
        np.testing.assert_allclose(
            got["sequence_output"] * real, want[0] * real, rtol=0, atol=1e-5
        )
        np.testing.assert_allclose(
            got["pooled_output"], want[1], rtol=0, atol=1e-5
        )


class FormatsTest(Case):
    @parameterized.parameters(*checkpoints.FORMATS)
    def test_written_and_read_again_to_the_bit(self, format):
        model = randomized(models.pretrainer(SETTINGS))
        path = self.path(format)
        checkpoints.write(model, SETTINGS, path, format)
        self.assertEqual(os.listdir(self.folder), [format])
        read = checkpoints.read(path)
        self.assertEqual(read.format, format)
        self.assertEqual(read.others, ())
        self.assertEqual(read.settings, SETTINGS)
        other = models.pretrainer(SETTINGS)
        loaded = checkpoints.load_initial(other, path)
        self.assertEqual(loaded.loaded, tuple(variables.PARTS))
        self.assertEqual((loaded.fresh, loaded.unused), ((), ()))
        self.assert_same(weights(other), weights(model))

    def test_google_by_model_gardens_converter(self):
        made = google_arrays()
        path = self.path("bert_model.ckpt")
        save_as_tensorflow_1(made, path)
        read = checkpoints.read(path)
        self.assertEqual(read.format, "google")
        self.assertEqual(read.others, ("output_weights",))
        made.pop("output_weights")
        self.assertAllEqual(sorted(read.arrays), sorted(made))
        for name, array in read.arrays.items():
            np.testing.assert_array_equal(array, made[name])
        tf2_bert_encoder_checkpoint_converter.convert_checkpoint(
            google_configs.BertConfig.from_dict(SETTINGS),
            self.path("converted/ckpt"),
            path,
            converted_model="pretrainer",  # without next-sentence head
        )
        converted = checkpoints.read(self.path("converted"))
        self.assertEqual(converted.format, "garden")
        self.assertEqual(converted.settings, {"num_attention_heads": 3})
        want = [n for n in made if not n.startswith("cls/seq")]
        self.assertAllEqual(sorted(converted.arrays), sorted(want))
        for name, array in converted.arrays.items():
            np.testing.assert_array_equal(array, made[name], name)

    def test_the_newest_of_several_in_a_folder(self):
        encoder = randomized(models.encoder(SETTINGS))
        saved = tf.train.Checkpoint(encoder=encoder)
        saved.save(self.path("ckpt"))
        randomized(encoder, seed=2)
        saved.save(self.path("ckpt"))
        read = checkpoints.read(self.folder)
        self.assertEqual(read.path, self.path("ckpt-2"))
        words = encoder.get_embedding_table().numpy()
        np.testing.assert_array_equal(read.arrays[variables.WORDS], words)

    def test_a_folder_of_google_with_its_configuration(self):
        save_as_tensorflow_1(google_arrays(), self.path("bert_model.ckpt"))
        with open(self.path("bert_config.json"), "w") as file:
            json.dump(SETTINGS, file)
        self.assertEqual(checkpoints.read(self.folder).settings, SETTINGS)

    def test_model_gardens_trainer(self):
        model = garden_pretrainer()
        path = self.path("ckpt-7")
        step = tf.Variable(7)
        saved = tf.train.Checkpoint(
            global_step=step, model=model, **model.checkpoint_items
        )
        saved.write(path)
        ours = models.pretrainer(SETTINGS)
        loaded = checkpoints.load_initial(ours, path)
        self.assertEqual(loaded.loaded, tuple(variables.PARTS))
        self.assert_same_outputs(ours, model)

    def test_a_head_of_another_task_is_not_taken(self):
        model = garden_pretrainer("sentiment")
        saved = tf.train.Checkpoint(model=model, **model.checkpoint_items)
        saved.write(self.path("ckpt"))
        ours = models.pretrainer(SETTINGS)
        loaded = checkpoints.load_initial(ours, self.path("ckpt"))
        self.assertEqual(loaded.fresh, ("next-sentence head",))
        pooler = model.encoder_network.pooler_layer.kernel.numpy()
        got = ours.encoder.pooler_layer.kernel.numpy()
        np.testing.assert_array_equal(got, pooler)

    def test_garden_as_model_garden_restores_it(self):
        ours = randomized(models.pretrainer(SETTINGS))
        checkpoints.write(ours, SETTINGS, self.path("garden"), "garden")
        model = garden_pretrainer()
        items = tf.train.Checkpoint(model=model, **model.checkpoint_items)
        status = items.read(self.path("garden/bert_model.ckpt"))
        status.assert_existing_objects_matched()
        self.assert_same_outputs(ours, model)

    @parameterized.parameters("encoder", "model", None)
    def test_a_saved_encoder_of_model_garden(self, name):
        encoder = randomized(models.encoder(SETTINGS))
        saved = {name: encoder} if name else {"root": encoder}
        tf.train.Checkpoint(**saved).write(self.path("ckpt"))
        other = models.encoder(SETTINGS)
        loaded = checkpoints.load_initial(other, self.path("ckpt"))
        self.assertEqual(loaded.loaded, ("encoder", "pooler"))
        self.assert_same(weights(other), weights(encoder))

    def test_the_functional_encoder_of_model_garden(self):
        encoder = randomized(garden_encoder())
        tf.train.Checkpoint(encoder=encoder).write(self.path("ckpt"))
        other = models.encoder(SETTINGS)
        checkpoints.load_initial(other, self.path("ckpt"))
        self.assert_same(weights(other), weights(encoder))

    def test_hugging_faces_names_and_configuration(self):
        model = models.pretrainer(SETTINGS)
        checkpoints.write(model, SETTINGS, self.path("hf"), "huggingface")
        got = safetensors.numpy.load_file(self.path("hf/model.safetensors"))
        shapes = {name: array.shape for name, array in got.items()}
        want = {name: array.shape for name, array in tensors(SETTINGS).items()}
        self.assertEqual(shapes, want)
        readable = (self.folder / "hf/config.json").stat().st_mode
        mode = (self.folder / "hf/model.safetensors").stat().st_mode
        self.assertEqual(mode, readable)
        config = json.loads((self.folder / "hf/config.json").read_text())
        self.assertEqual(config["model_type"], "bert")
        self.assertEqual(config["hidden_act"], "gelu_new")
        self.assertEqual(config["architectures"], ["BertForPreTraining"])

    def test_hugging_faces_older_names_types_and_parts_of_a_file(self):
        made = tensors(SETTINGS)
        want = checkpoints.read(write_tensors(self.path("new"), made)).arrays
        older = {
            name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
                "LayerNorm.bias", "LayerNorm.beta"
            ): array
            for name, array in made.items()
        }
        older["bert.embeddings.position_ids"] = np.arange(16)[None]
        older["cls.predictions.decoder.weight"] = older[
            "bert.embeddings.word_embeddings.weight"
        ]
        path = write_tensors(self.path("older"), older)
        names = sorted(older)
        files = {}
        for i, part in enumerate((names[::2], names[1::2])):
            file = f"model-{i}.safetensors"
            files |= {name: file for name in part}
            safetensors.numpy.save_file(
                {name: older[name] for name in part},
                os.path.join(path, file),
            )
        os.remove(os.path.join(path, "model.safetensors"))
        index = os.path.join(path, "model.safetensors.index.json")
        with open(index, "w") as file:
            json.dump({"weight_map": files}, file)
        got = checkpoints.read(path)
        self.assertEqual(got.others, ())
        self.assertEqual(got.arrays.keys(), want.keys())
        for name, array in want.items():
            np.testing.assert_array_equal(got.arrays[name], array, name)
        for dtype, part in ((np.float16, 2**-11), (ml_dtypes.bfloat16, 2**-8)):
            short = {n: a.astype(dtype) for n, a in made.items()}
            path = write_tensors(self.path(np.dtype(dtype).name), short)
            got = checkpoints.read(path).arrays
            for name, array in want.items():
                self.assertEqual(got[name].dtype, np.float32)
                np.testing.assert_allclose(got[name], array, part, atol=1e-6)

    def test_a_run_of_this_project(self):
        run = self.path("run")
        trained = train(run)
        read = checkpoints.read(run)
        self.assertEqual(read.format, "record")
        self.assertEqual(read.note, "after 2 updates, finished")
        self.assertEqual(read.others, ())
        ours = models.pretrainer(SETTINGS)
        loaded = checkpoints.load_initial(ours, run)
        self.assertEqual(loaded.loaded, tuple(variables.PARTS))
        self.assert_same(weights(ours), weights(trained))
        self.assertIn("after 2 updates, finished", str(loaded))
        checkpoints.check_vocabulary(read, read.vocabulary, "vocab.txt")
        checkpoints.check_vocabulary(read, None, "records")
        other = read.vocabulary | {"sha256": "1"}
        with self.assertRaisesRegex(ValueError, f"^v.txt: .* that of {run}, "):
            checkpoints.check_vocabulary(read, other, "v.txt")

    def test_a_run_gives_the_weights_that_it_was_evaluated_at(self):
        """Those that the run itself wrote as its result."""
        run = self.path("run")
        trained = train(run, "ScheduleFreeAdamW")
        at_the_end = weights(trained)
        trained.load_weights(self.path("run/model.weights.h5"))
        ours = models.pretrainer(SETTINGS)
        checkpoints.load_initial(ours, run)
        self.assert_same(weights(ours), weights(trained))
        moved = (
            weights(ours)[variables.WORDS][0] - (at_the_end[variables.WORDS][0])
        )
        self.assertGreater(np.max(np.abs(moved)), 1e-4)
        # As written before checkpoints had them.
        kept = training_checkpoints.of(run)
        step, state = kept.newest()
        older = {n: a for n, a in state.items() if "evaluation/" not in n}
        kept.save(step, older)
        self.assertLess(len(older), len(state))
        for flag in ("optimizer", "fallback"):
            with open(self.path("run/run.json"), "w") as file:
                settings = {flag: "schedulefreeadamw"}
                json.dump({"settings": settings, "starts": []}, file)
            with self.assertRaisesRegex(ValueError, "lacks.*schedulefreeadam"):
                checkpoints.read(run)

    def assert_same_outputs(self, ours, theirs):
        inputs = named(batch(SETTINGS), np.array([[1, 4], [2, 3], [0, 1]]))
        got = ours(inputs)
        want = theirs(inputs)
        for a, b in (("masked_lm", "mlm_logits"), ("next_sentence",) * 2):
            self.assertGreater(np.std(want[b]), 0.1)
            np.testing.assert_allclose(got[a], want[b], rtol=0, atol=1e-6)


class PartsTest(Case):
    def test_heads_that_the_file_lacks_stay_as_they_are(self):
        made = tensors(SETTINGS, heads=False, prefix="")
        made["classifier.weight"] = np.ones((3, 24), np.float32)
        path = write_tensors(self.path("hf"), made)
        model = models.pretrainer(models.config(path))
        before = weights(model)
        loaded = checkpoints.load_initial(model, path)
        self.assertEqual(loaded.loaded, ("encoder", "pooler"))
        heads = ("masked-LM head", "next-sentence head")
        self.assertEqual(loaded.fresh, heads)
        self.assertEqual(loaded.unused, ("classifier.weight",))
        self.assertIn("fresh: masked-LM head, next-sentence", str(loaded))
        after = weights(model)
        for name in before:
            same = np.array_equal(before[name][0], after[name][0])
            self.assertEqual(same, name.startswith("cls/"), name)

    def test_a_span_labeler_takes_the_encoder(self):
        made = tensors(SETTINGS)
        path = write_tensors(self.path("hf"), made)
        encoder = models.encoder(models.config(path))
        labeler = garden.BertSpanLabeler(encoder)
        loaded = checkpoints.load_initial(labeler, path)
        self.assertEqual(loaded.loaded, ("encoder", "pooler"))
        heads = ("masked-LM head", "next-sentence head")
        self.assertEqual(loaded.unused, heads)
        words = encoder.get_embedding_table().numpy()
        want = made["bert.embeddings.word_embeddings.weight"]
        np.testing.assert_array_equal(words, want)


def less_one(made):
    del made["bert.encoder.layer.1.output.dense.bias"]


def half_a_head(made):
    del made["cls.predictions.transform.dense.bias"]


def three_layers(made):
    made["bert.encoder.layer.2.output.dense.bias"] = np.ones(24, np.float32)


def untied(made):
    made["cls.predictions.decoder.weight"] = np.ones((50, 24), np.float32)


def no_bert(made):
    found = {n.replace("bert.", "roberta."): a for n, a in made.items()}
    made.clear()
    made.update(found)


class RefusedTest(Case):
    """A clear message, and nothing of the model is touched."""

    @parameterized.parameters(
        (less_one, {}, "layer_1/output/dense/bias is missing (1 variables"),
        (half_a_head, {}, "cls/predictions/transform/dense/bias is missing"),
        (three_layers, {}, "3 transformer layers, the model has 2"),
        (untied, {}, "cls.predictions.decoder.weight differs from the word"),
        (no_bert, {}, "holds no embeddings.word_embeddings.weight"),
        (None, {"num_attention_heads": 4}, "heads is 4, the model has 3"),
        (None, {"hidden_act": "gelu_new"}, "hidden_act is gelu, the model has"),
        (None, {"model_type": "roberta"}, "model_type is 'roberta'"),
    )
    def test_a_file(self, damage, config, message):
        made = tensors(SETTINGS)
        if damage:
            damage(made)
        path = write_tensors(self.path("hf"), made, **config)
        self.assert_refused(path, message)

    @parameterized.parameters(
        (
            {"max_position_embeddings": 8},
            "position_embeddings has shape (8, 24), in the model it is "
            "(16, 24): 8 positions, max_position_embeddings=16",
        ),
        ({"vocab_size": 60}, "(60, 24), in the model it is (50, 24): 60 tok"),
        ({"intermediate_size": 36}, "intermediate/dense/kernel has shape"),
    )
    def test_a_shape(self, changes, message):
        made = tensors({**SETTINGS, **changes})
        path = write_tensors(self.path("hf"), made, **changes)
        self.assert_refused(path, message)

    def test_heads_of_a_checkpoint_without_configuration(self):
        settings = {**SETTINGS, "num_attention_heads": 4}
        encoder = models.encoder(settings)
        tf.train.Checkpoint(encoder=encoder).write(self.path("ckpt"))
        self.assert_refused(self.path("ckpt"), "heads is 4, the model has 3")

    def test_what_is_no_checkpoint(self):
        os.mkdir(self.path("empty"))
        self.assert_refused(self.path("nowhere"), "nowhere is none: expected")
        self.assert_refused(self.path("empty"), "empty holds none: expected")
        pathlib.Path(self.path("empty/pytorch_model.bin")).touch()
        self.assert_refused(self.path("empty"), "save_pretrained")
        for phase in ("phase1", "phase2"):
            os.makedirs(self.path(f"runs/{phase}"))
            pathlib.Path(self.path(f"runs/{phase}/flags.txt")).touch()
        one_of = f"give one of {self.path('runs/phase1')}, "
        self.assert_refused(self.path("runs"), one_of)
        write_tensors(self.path("cut"), tensors(SETTINGS))
        cut = pathlib.Path(self.path("cut/model.safetensors"))
        cut.write_bytes(cut.read_bytes()[:-1])
        self.assert_refused(self.path("cut"), "safetensors: cannot be read")

    def test_index_files(self):
        os.mkdir(self.path("hf"))
        index = pathlib.Path(self.path("hf/model.safetensors.index.json"))
        for content, message in (
            ("3", "expected `object`"),
            ("[" * 100_000, "nested too deep"),
            ('{"weight_map": {"a": 7}}', "expected `str`"),
            (
                '{"weight_map": {"a": "../x.safetensors"}}',
                "files in the same folder",
            ),
            (
                '{"weight_map": {"a": "/x.safetensors"}}',
                "files in the same folder",
            ),
            ('{"weight_map": {"a": "x.safetensors"}}', "there is no 'x.safet"),
            ('{"weight_map"', "not JSON"),
        ):
            index.write_text(content)
            self.assert_refused(self.path("hf"), message)

    def test_weights_of_other_programs(self):
        for name, whose in (
            ("model.bin", "PyTorch"),
            ("run.v2.pt", "PyTorch"),
            ("weights.h5", "Keras"),
            ("flax_model.msgpack", "Flax"),
        ):
            pathlib.Path(self.path(name)).write_bytes(b"cos\nsystem\n.")
            self.assert_refused(self.path(name), f"is read by {whose} alone")

    def test_files_of_any_size(self):
        whole = write_tensors(self.path("hf"), tensors(SETTINGS))
        weights = pathlib.Path(whole, "model.safetensors")
        os.truncate(weights, 2**40)
        self.assert_refused(whole, "expected at most 8,589,934,592")

    def test_a_number_that_is_none_of_a_layer(self):
        made = tensors(SETTINGS)
        made["bert.encoder.layer.999999.x"] = np.ones(1, np.float32)
        read = checkpoints.read(write_tensors(self.path("hf"), made))
        self.assertEqual(read.others, ("encoder.layer.999999.x",))
        self.assertEqual(variables.num_layers(read.arrays), 2)

    def test_the_file_that_names_the_newest_leads_nowhere_else(self):
        for name in ("in/a", "in/b", "out/c"):
            os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
            save_as_tensorflow_1(google_arrays(), self.path(name))
        marker = pathlib.Path(self.path("in/checkpoint"))
        last = self.path("in/b")
        said = "holds 2 checkpoints: a.index, b.index; give one of them, such"
        for named in ("../out/c", self.path("out/c"), "gone", "\\377", ""):
            marker.write_text(f'model_checkpoint_path: "{named}"\n')
            with self.assertNoLogs("tensorflow", "ERROR"):
                self.assert_refused(self.path("in"), f"{said} as {last}.")
        marker.write_bytes(b'model_checkpoint_path: "\xff"\n')
        self.assert_refused(self.path("in"), said)
        marker.write_text('model_checkpoint_path: "b"\n')
        read = checkpoints.read(self.path("in"))
        self.assertEqual(read.path, self.path("in/b"))

    def test_damaged_graphs(self):
        for graph in (b"\xff\xff", b"\x0a\x02\x0a\x00", 3):
            path = self.path("damaged")
            tf.raw_ops.SaveV2(
                prefix=path,
                tensor_names=["_CHECKPOINTABLE_OBJECT_GRAPH"],
                shape_and_slices=[""],
                tensors=[tf.constant(graph)],
            )
            self.assert_refused(path, "damaged: ")

    def test_damaged_index(self):
        save_as_tensorflow_1(google_arrays(), self.path("a"))
        index = self.folder / "a.index"
        whole = index.read_bytes()
        for place in range(0, len(whole), 97):
            changed = bytes([whole[place] ^ 255])
            index.write_bytes(whole[:place] + changed + whole[place + 1 :])
            try:
                checkpoints.read(self.path("a"))
            except ValueError as error:
                self.assertIn(self.path("a"), str(error))
                self.assertTrue(str(error).isprintable())

    def test_quantized_weights(self):
        made = tensors(SETTINGS)
        name = "bert.encoder.layer.0.output.dense.weight"
        made[name] = made[name].astype(np.int8)
        path = write_tensors(self.path("hf"), made)
        self.assert_refused(path, "is of I8, expected one of F64")

    @parameterized.parameters(
        (np.int8, "int8"),
        (np.uint8, "uint8"),
        (np.int32, "int32"),
        (bool, "bool"),
        (bytes, "string"),
        (ml_dtypes.float8_e4m3fn, "float8_e4m3fn"),
    )
    def test_tensorflow_weights_that_are_no_floating_numbers(self, kind, name):
        said = f"embeddings is of {name}, expected one of float64, float32,"
        made = google_arrays()
        made[variables.WORDS] = (100 * made[variables.WORDS]).astype(kind)
        save(made, self.path("quantized"))
        self.assert_refused(self.path("quantized"), said)

    @parameterized.parameters(np.float64, np.float16, ml_dtypes.bfloat16)
    def test_tensorflow_weights_of_any_precision(self, kind):
        made = google_arrays()
        save({n: a.astype(kind) for n, a in made.items()}, self.path("short"))
        read = checkpoints.read(self.path("short")).arrays
        for name, array in read.items():
            self.assertEqual(array.dtype, np.float32)
            want = made[name].astype(kind).astype(np.float32)
            np.testing.assert_array_equal(array, want, err_msg=name)

    def test_quantized_weights_of_model_garden(self):
        encoder = models.encoder(SETTINGS)
        saved = tf.train.Checkpoint(encoder=encoder)
        saved.write(self.path("whole"))
        reader = tf.train.load_checkpoint(self.path("whole"))
        made = {
            name: reader.get_tensor(name)
            for name in reader.get_variable_to_dtype_map()
        }
        key = next(n for n, a in made.items() if np.shape(a) == (50, 24))
        made[key] = (100 * made[key]).astype(np.int8)
        save(made, self.path("ckpt"))
        said = f"{variables.WORDS} is of int8, expected one of float64"
        self.assert_refused(self.path("ckpt"), said)

    @parameterized.parameters(np.nan, np.inf)
    def test_weights_that_are_not_finite(self, value):
        made = tensors(SETTINGS)
        made["bert.pooler.dense.bias"][[3, 5]] = value
        path = write_tensors(self.path("hf"), made, hidden_act="gelu")
        said = "2 of the 24 numbers of bert/pooler/dense/bias are not finite"
        self.assert_refused(path, said)

    def test_objects_that_are_no_variables(self):
        encoder, embeddings = tf.Module(), tf.Module()
        encoder._embedding_layer = embeddings
        embeddings.embeddings = tf.Module()
        tf.train.Checkpoint(encoder=encoder).write(self.path("ckpt"))
        said = "0 transformer layers, the model has 2"
        self.assert_refused(self.path("ckpt"), said)

    def test_any_of_its_files_names_a_checkpoint(self):
        made = google_arrays()
        save(made, self.path("a"))
        for end in (".index", ".data-00000-of-00001", ".meta"):
            read = checkpoints.read(self.path("a") + end)
            self.assertEqual(read.path, self.path("a"))
            words = read.arrays[variables.WORDS]
            np.testing.assert_array_equal(words, made[variables.WORDS])

    def test_tensorflow_checkpoints(self):
        tf.train.Checkpoint(v=tf.Variable(1.0)).write(self.path("other"))
        self.assert_refused(self.path("other"), "holds no BERT encoder of")
        save_as_tensorflow_1({"w": np.ones(2, np.float32)}, self.path("old"))
        self.assert_refused(self.path("old"), "holds no bert/embeddings/word")
        self.assert_refused(str(self.folder), "holds 2 checkpoints: old.index")
        save_as_tensorflow_1(google_arrays(), self.path("cut"))
        data = self.folder / "cut.data-00000-of-00001"
        data.write_bytes(data.read_bytes()[:1000])
        self.assert_refused(self.path("cut"), "cut: cannot be read")

    def test_a_folder_that_is_not_empty(self):
        model = models.encoder(SETTINGS)
        os.mkdir(self.path("full"))
        pathlib.Path(self.path("full/notes.txt")).write_text("mine")
        with self.assertRaisesRegex(ValueError, "full is not empty"):
            checkpoints.write(model, SETTINGS, self.path("full"), "google")
        self.assertEqual(os.listdir(self.path("full")), ["notes.txt"])

    def assert_refused(self, path, message):
        model, before = intact()
        with self.assertRaises(ValueError) as caught:
            checkpoints.load_initial(model, path)
        self.assertIn(message, str(caught.exception))
        self.assertIn(path, str(caught.exception))
        self.assert_same(weights(model), before)


class ExportTest(Case):
    def test_from_google_to_hugging_face_and_back(self):
        os.mkdir(self.path("one"))
        made = google_arrays()
        save_as_tensorflow_1(made, self.path("one/bert_model.ckpt"))
        with open(self.path("one/bert_config.json"), "w") as file:
            json.dump(SETTINGS, file)
        vocab = pathlib.Path(self.path("one/vocab.txt"))
        vocab.write_text("token\n" * (SETTINGS["vocab_size"] + 1))
        with mock.patch.object(sys, "stderr", io.StringIO()) as stderr:
            self.export("one", "none", "huggingface", code=2)
        self.assertIn("vocab.txt has 51 tokens, the en", stderr.getvalue())
        vocab.write_text("[PAD]\n")
        self.export("one", "two", "huggingface")
        self.export("two", "three", "google")
        self.assertTrue(os.path.exists(self.path("three/vocab.txt")))
        read = checkpoints.read(self.path("three"))
        self.assertEqual(read.settings, SETTINGS)
        for name, array in read.arrays.items():
            np.testing.assert_array_equal(array, made[name], name)

    def test_an_encoder_stays_an_encoder(self):
        made = tensors(SETTINGS, heads=False, prefix="")
        write_tensors(self.path("one"), made)
        self.export("one", "two", "garden")
        read = checkpoints.read(self.path("two"))
        parts = {variables.part(name) for name in read.arrays}
        self.assertEqual(parts, {"encoder", "pooler"})
        self.assertEqual(read.settings["hidden_act"], "gelu_erf")

    @parameterized.parameters("google", "huggingface")
    def test_no_pooler_is_made_up(self, format):
        """As of a run of bert.squad, which trains none."""
        for name, heads in (("encoder", False), ("whole", True)):
            made = tensors(SETTINGS, heads=heads)
            made = {n: a for n, a in made.items() if "pooler" not in n}
            write_tensors(self.path(name), made)
            with mock.patch.object(sys, "stdout", io.StringIO()) as stdout:
                self.export(name, f"{name}-out", format)
            said = f"Not in {self.path(name)}, so not written: pooler\n"
            self.assertIn(said, stdout.getvalue())
            want = checkpoints.read(self.path(name)).arrays
            got = checkpoints.read(self.path(f"{name}-out")).arrays
            self.assertEqual(want.keys(), got.keys())
            for key, array in got.items():
                np.testing.assert_array_equal(array, want[key], key)

    def test_garden_needs_a_pooler(self):
        made = tensors(SETTINGS)
        made = {n: a for n, a in made.items() if "pooler" not in n}
        write_tensors(self.path("one"), made)
        with mock.patch.object(sys, "stderr", io.StringIO()) as stderr:
            self.export("one", "two", "garden", code=2)
        self.assertIn("the weights to write have none", stderr.getvalue())
        self.assertFalse(os.path.exists(self.path("two")))

    def test_the_program_refuses_in_one_line(self):
        write_tensors(self.path("one"), tensors(SETTINGS), vocab_size=60)
        with mock.patch.object(sys, "stderr", io.StringIO()) as stderr:
            self.export("one", "two", "google", code=2)
        self.assertIn(
            "(50, 24), in the model it is (60, 24)", stderr.getvalue()
        )
        self.assertFalse(os.path.exists(self.path("two")))

    def export(self, source, target, format, code=0):
        export.FLAGS.unparse_flags()
        arguments = [
            "export",
            f"--format={format}",
            f"--checkpoint={self.path(source)}",
            f"--output_dir={self.path(target)}",
        ]
        with (
            mock.patch.object(sys, "argv", arguments),
            self.assertRaises(SystemExit) as end,
        ):
            command_line.start(export.main, export.FLAGS, export.__doc__)
        self.assertEqual(end.exception.code, code)


@damages.EXAMPLES
@pytest.mark.parametrize("name", ["bert_config.json", "config.json"])
def test_damaged_configurations(tmp_path, name, examples):
    valid = SETTINGS if name.startswith("bert") else SETTINGS | TRANSFORMERS
    models.config(str(write_json(tmp_path / name, valid)))
    damages.try_reader(
        lambda path: models.config(str(path)),
        tmp_path / name,
        damages.damaged_json(valid),
        examples,
    )


@damages.EXAMPLES
def test_damaged_tensors(tmp_path, examples):
    """The whole file; and its header alone, which is JSON."""
    made = tensors(SETTINGS)
    whole = safetensors.numpy.save(made)
    size = int.from_bytes(whole[:8], "little")
    header, data = json.loads(whole[8 : 8 + size]), whole[8 + size :]

    def with_header(text):
        return len(text).to_bytes(8, "little") + text + data

    for damaged in (
        damages.damaged_bytes(whole),
        damages.damaged_json(header).map(with_header),
    ):
        damages.try_reader(
            lambda path: checkpoints.read(path),
            tmp_path / "model.safetensors",
            damaged,
            examples // 2,
        )


@damages.EXAMPLES
def test_damaged_index_of_parts(tmp_path, examples):
    made = tensors(SETTINGS)
    safetensors.numpy.save_file(made, tmp_path / "a.safetensors")
    valid = {
        "metadata": {"total_size": 4},
        "weight_map": dict.fromkeys([*made][:5], "a.safetensors"),
    }
    index = write_json(tmp_path / "model.safetensors.index.json", valid)
    assert checkpoints.read(tmp_path).arrays
    damages.try_reader(
        lambda path: checkpoints.read(path.parent),
        index,
        damages.damaged_json(valid),
        examples,
    )


def write_json(path, content):
    path.write_text(json.dumps(content))
    return path


@functools.cache
def intact():
    """A model that no case may change, and its weights."""
    model = models.pretrainer({**SETTINGS, "hidden_act": "gelu_erf"})
    return model, weights(model)


def randomized(model, seed=1):
    """The model, with no weight at its initial value."""
    generator = np.random.default_rng(seed)
    for variable in model.trainable_variables:
        value = generator.normal(scale=0.3, size=variable.shape)
        variable.assign(value + float("gamma" in variable.name))
    return model


def garden_encoder():
    """Model Garden's encoder of its functional kind."""
    from official.nlp.modeling import networks

    return networks.BertEncoder(
        vocab_size=50,
        hidden_size=24,
        num_layers=2,
        num_attention_heads=3,
        max_sequence_length=16,
        type_vocab_size=2,
        inner_dim=40,
        dict_outputs=True,
    )


def garden_pretrainer(head="next_sentence"):
    """Model Garden's pretrainer; its two poolers differ."""
    head = layers.ClassificationHead(24, 2, name=head)
    model = garden.BertPretrainerV2(
        models.encoder(SETTINGS),
        mlm_activation=models.activation(SETTINGS),
        classification_heads=[head],
    )
    model(model.inputs)
    return randomized(model, seed=2)


def google_arrays():
    """A whole checkpoint of google-research/bert, and one thing more."""
    found = {}
    for name, array in tensors(SETTINGS).items():
        *path, leaf = name.split(".")
        path = "/".join(path).replace("/layer/", "/layer_")
        if path.endswith("_embeddings"):
            found[path] = array
        elif "LayerNorm" in path:
            gamma = {"weight": "gamma", "bias": "beta"}[leaf]
            found[f"{path}/{gamma}"] = array
        elif path == "cls/predictions":
            found["cls/predictions/output_bias"] = array
        elif path == "cls/seq_relationship":
            output = {"weight": "output_weights", "bias": "output_bias"}[leaf]
            found[f"{path}/{output}"] = array
        elif leaf == "weight":
            found[f"{path}/kernel"] = array.T
        else:
            found[f"{path}/bias"] = array
    found["output_weights"] = np.ones((2, 24), np.float32)
    return found


def save(arrays, path):
    """Under these names; a file `checkpoint` is not written."""
    tf.raw_ops.SaveV2(
        prefix=path,
        tensor_names=list(arrays),
        shape_and_slices=[""] * len(arrays),
        tensors=[tf.constant(array) for array in arrays.values()],
    )


def save_as_tensorflow_1(arrays, path):
    """With slots and step, as the original training script leaves it."""
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        for name, array in arrays.items():
            v1.get_variable(name, initializer=array)
            v1.get_variable(f"{name}/adam_m", initializer=array * 0)
        v1.get_variable("global_step", initializer=np.int64(3))
        session.run(v1.global_variables_initializer())
        v1.train.Saver().save(session, path, write_meta_graph=False)
    marker = pathlib.Path(path).parent / "checkpoint"
    marker.unlink()


def train(output_dir, rule="LAMB"):
    """Two updates of `training.run`; the model after them."""
    made = []

    class Source:
        num_train = num_validation = 8

        def train(self, batch_size, start, shard=0, num_shards=1):
            return self.validation(batch_size).map(lambda x, y, w: (x, y))

        def validation(self, batch_size, shard=0, num_shards=1):
            ids, mask, types = (np.resize(a, (8, 12)) for a in batch(SETTINGS))
            inputs = named((ids, mask, types), np.ones((8, 2), np.int32))
            labels = {
                "masked_lm_ids": tf.ones((8, 2), tf.int32),
                "masked_lm_weights": tf.ones((8, 2)),
                "next_sentence_labels": tf.ones((8, 1), tf.int32),
            }
            data = (inputs, labels, tf.ones(8))
            data = tf.data.Dataset.from_tensor_slices(data)
            return data.repeat().batch(batch_size)

    def build(keras, optimizers):
        model = randomized(models.pretrainer(SETTINGS), seed=3)
        made.append(model)
        return training.Workload(
            model, getattr(optimizers, rule)(learning_rate=0.01), None, []
        )

    options = training.Options(
        output_dir=output_dir, batch_size=8, total_steps=2, progress=False
    )
    settings = {"vocabulary": {"tokens": 50, "sha256": "0"}}
    code = training.run(options, build, Source(), "--this=test\n", settings)
    assert code == exit_codes.FINISHED
    return made[0]


if __name__ == "__main__":
    tf.test.main()
