"""The SQuAD program, from reading to scores, and the set of this package."""

import collections
import itertools
import json
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import time
import types

import numpy as np
import pytest
from absl import app
from absl import flags

from bert import squad
from bert import squad_data
from bert import squad_diagnostics
from bert import squad_settings as settings
from bert import squad_source
from bert import squad_stability
from bert import tokenization
from lbcheck.settings import command_line
from lbcheck.settings import optimizer
from lbcheck.settings import training as training_flags
from lbcheck.support import exit_codes
from lbcheck.training import checkpoints

WORDS = "bert/embeddings/word_embeddings"
ROOT = pathlib.Path(__file__).parents[2]
FLAGS = ROOT / "flags" / "squad"


def embedded(part, version_2=False):
    path = settings.file("embedded", part, version_2)
    return squad_data.read(path, version_2, strict=True)


# --- the questions of this package ----------------------------------------


@pytest.mark.parametrize("part, least", [("train", 90), ("dev", 30)])
def test_every_answer_stands_at_its_offset(part, least):
    path = settings.file("embedded", part, False)
    count = 0
    for article in json.loads(pathlib.Path(path).read_text())["data"]:
        (paragraph,) = article["paragraphs"]
        context = paragraph["context"]
        for question in paragraph["qas"]:
            assert question["question"].endswith("?")
            count += 1
            for answer in question["answers"]:
                start, text = answer["answer_start"], answer["text"]
                end = start + len(text)
                assert context[start:end] == text
                # It cuts no word.
                if text[0].isalnum():
                    assert not context[start - 1 : start].isalnum()
                if text[-1].isalnum():
                    assert not context[end : end + 1].isalnum()
    assert count >= least


def test_the_two_versions_and_the_two_parts_of_the_set():
    contexts = {}
    for part in ("train", "dev"):
        first, second = embedded(part), embedded(part, version_2=True)
        assert first.contexts == second.contexts
        assert not first.problems and not second.problems
        possible = [q for q in second.questions if not q.impossible]
        assert possible == first.questions
        assert len(second.questions) == len(first.questions) + len(
            first.contexts
        )
        contexts[part] = set(first.contexts)
        perfect = {q.id: q.answers[0].text for q in first.questions}
        # An answer of punctuation alone would score 0 in F1.
        scores = squad_data.evaluate(first, perfect)
        assert (scores["exact_match"], scores["f1"]) == (100, 100)
    assert not contexts["train"] & contexts["dev"]


# --- flags and the protocol -----------------------------------------------


def parsed(*arguments):
    values = flags.FlagValues()
    settings.define(values)
    command_line.parse(values, ["squad", *arguments])
    return values


def checked(*arguments):
    given = "--train_file=a --predict_file=b --output_dir=c".split()
    values = parsed(*given, *arguments)
    settings.check(values)
    return values


def config(values):
    from lbcheck import tf_keras

    return optimizer.make(values, tf_keras, 1.0).get_config()


def test_the_protocol():
    """google-research/bert, README and run_squad.py, for BERT-Large."""
    values = checked()
    total = training_flags.options(values, 87_599).total_steps
    assert total == int(87_599 / 24 * 2) == 7299
    rate = settings.rate(values, total)
    warmup = int(total * 0.1)
    for step in (0, 1, warmup - 1):
        assert rate(step) == pytest.approx(3e-5 * step / warmup, rel=1e-12)
    for step in (warmup, warmup + 1, 7298):
        assert rate(step) == pytest.approx(3e-5 * (1 - step / 7299), rel=1e-12)
    expected = dict(
        max_seq_length=384,
        doc_stride=128,
        max_query_length=64,
        n_best_size=20,
        max_answer_length=30,
        null_score_diff_threshold=0.0,
        batch_size=24,
        lower_case=True,
        version_2_with_negative=False,
    )
    for name, value in expected.items():
        assert values[name].value == value, name
    found = config(values)
    for name, value in dict(
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-6,
        weight_decay=0.01,
        bias_correction=False,
        global_clipnorm=1.0,
    ).items():
        assert found[name] == value, name


def test_the_two_bugs_can_be_switched_off():
    values = checked("--schedule=fixed", "--bias_correction")
    assert config(values)["bias_correction"] is True
    rate = settings.rate(values, 7299)
    assert rate(729) == pytest.approx(3e-5, rel=1e-12)


def test_large_is_the_protocol():
    values = parsed(f"--flagfile={FLAGS / 'large.flags'}")
    settings.check(values)
    protocol = checked()
    own = {"train_file", "predict_file", "output_dir", "bert_config"}
    own |= {"flagfile", "num_seeds", "checkpoint_every"}
    for name in set(values) - own:
        assert values[name].value == protocol[name].value, name


def test_another_optimizer_has_its_own_flags():
    values = checked("--optimizer=lamb", "--epsilon=1e-3")
    assert values.weight_decay is None and values.epsilon == 1e-3
    values = checked("--optimizer=momentum", "--momentum=0.9")
    assert values.beta_1 is None


# --- the source -----------------------------------------------------------


@pytest.fixture(scope="module")
def vocab(tmp_path_factory):
    """Words of the set, and pieces of one letter for all others."""
    texts = [
        q.text for part in ("train", "dev") for q in embedded(part).questions
    ]
    texts += [c for part in ("train", "dev") for c in embedded(part).contexts]
    words = sorted(
        {w for t in texts for w in tokenization.split_words(t, True)}
    )
    letters = sorted({letter for word in words for letter in word})
    tokens = ["[PAD]", *tokenization.SPECIAL, *words]
    tokens += [f"##{letter}" for letter in letters]
    path = tmp_path_factory.mktemp("vocabulary") / "vocab.txt"
    path.write_text("".join(f"{token}\n" for token in tokens))
    return path


@pytest.fixture(scope="module")
def windows(vocab):
    tokenizer = tokenization.Tokenizer(str(vocab))
    return squad_data.features(
        embedded("train"), tokenizer, 96, 48, 32, training=True
    )


def numbers(windows, batches):
    """Which windows they are, by what they hold."""
    rows = windows.inputs(slice(len(windows)))["input_word_ids"].tolist()
    assert len(set(map(tuple, rows))) == len(windows)
    number = {tuple(row): i for i, row in enumerate(rows)}
    found = []
    for inputs, labels in batches:
        chosen = [
            number[tuple(row)] for row in np.array(inputs["input_word_ids"])
        ]
        expected = squad_source.positions(windows, np.array(chosen))
        np.testing.assert_array_equal(labels, expected)
        found.append(chosen)
    return found


def test_an_epoch_is_every_window_once(windows):
    source = squad_source.Source(windows, seed=3)
    stream = itertools.islice(source.train(7), 3 * len(windows))
    order = sum(numbers(windows, stream), [])
    epochs = [order[i * len(windows) :][: len(windows)] for i in range(3)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(len(windows)))
    assert epochs[0] != epochs[1] != epochs[2]
    late = itertools.islice(source.train(7, start=40), 5)
    assert sum(numbers(windows, late), []) == order[40 * 7 : 45 * 7]
    other = squad_source.Source(windows, seed=4)
    assert numbers(windows, itertools.islice(other.train(7), 1))[0] != order[:7]


def test_shards_are_the_parts_of_a_block(windows):
    source = squad_source.Source(windows, seed=3)
    whole = numbers(windows, itertools.islice(source.train(12, start=2), 9))
    parts = [
        numbers(windows, itertools.islice(source.train(4, 2, shard, 3), 9))
        for shard in range(3)
    ]
    assert whole == [sum(blocks, []) for blocks in zip(*parts)]


# --- the model ------------------------------------------------------------


@pytest.fixture(scope="module")
def model(vocab):
    import tf_keras

    from bert import span_labeler

    tf_keras.utils.set_random_seed(0)
    tokens = len(vocab.read_text().splitlines())
    return span_labeler.build(settings.architecture("1x64", tokens))


def test_the_loss_is_model_gardens(model, windows, monkeypatch):
    """Its own task's loss on the same logits; 1e-5 as elsewhere."""
    import tensorflow as tf

    # The task imports it for models that this test does not use.
    hub = types.ModuleType("tensorflow_hub")
    monkeypatch.setitem(sys.modules, "tensorflow_hub", hub)
    from official.nlp.tasks import question_answering

    from bert import span_labeler

    some = np.arange(0, len(windows), 5)
    labels = squad_source.positions(windows, some)
    logits = model(windows.inputs(some), training=False) * 30.0  # not all alike
    ours = span_labeler.loss()(labels, logits)
    task = question_answering.QuestionAnsweringTask(
        question_answering.QuestionAnsweringConfig(validation_data=None)
    )
    theirs = task.build_losses(
        {"start_positions": labels[:, 0], "end_positions": labels[:, 1]},
        tf.unstack(logits, axis=1),
    )
    assert float(ours) == pytest.approx(float(theirs), rel=1e-5)
    swapped = span_labeler.loss()(labels[:, ::-1], logits)
    assert abs(float(swapped) - float(ours)) > 1e-3 * float(ours)


def test_the_accuracy_wants_both_ends(model):
    from bert import span_labeler

    (metric,) = span_labeler.metrics()
    logits = np.zeros((4, 2, 9), np.float32)
    for row, ends in enumerate([(2, 3), (2, 5), (1, 3), (0, 0)]):
        logits[row, [0, 1], ends] = 1
    metric.update_state(np.tile(np.int32([[2, 3]]), (4, 1)), logits)
    assert float(metric.result()) == 0.25


def test_the_logits_are_the_heads_of_the_last_layer(model, windows):
    """Against a dense layer by hand on the encoder's output."""
    inputs = windows.inputs(slice(3))
    encoded = model.get_layer("encoder")(inputs, training=False)
    kernel, bias = model.get_layer("span_labeling").get_weights()
    by_hand = encoded["sequence_output"].numpy() @ kernel + bias
    from bert import span_labeler

    starts, ends = span_labeler.predict(model, windows, batch_size=32)
    assert starts.shape == (len(windows), 96)
    np.testing.assert_allclose(starts[:3], by_hand[..., 0], atol=1e-5)
    np.testing.assert_allclose(ends[:3], by_hand[..., 1], atol=1e-5)
    assert abs(starts - ends).max() > 1e-2


@pytest.fixture(scope="module")
def checkpoint(model, vocab, tmp_path_factory):
    """The model's encoder as a Hugging Face folder, with its vocabulary."""
    from bert import checkpoints as bert_checkpoints

    tokens = len(vocab.read_text().splitlines())
    folder = tmp_path_factory.mktemp("checkpoint") / "huggingface"
    bert_checkpoints.write(
        model.get_layer("encoder"),
        settings.architecture("1x64", tokens),
        folder,
        "huggingface",
        vocab_file=vocab,
    )
    return folder


def test_training_starts_from_the_checkpoint(
    model, checkpoint, vocab, monkeypatch
):
    from bert import span_labeler

    for name in squad.FLAGS:
        squad.FLAGS[name].unparse()
    line = f"squad --init_checkpoint={checkpoint} --learning_rate=1e-3"
    command_line.parse(squad.FLAGS, line.split())
    monkeypatch.setattr(squad.FLAGS["optimizer"], "value", "adamw")
    questions = squad.Questions()  # its settings and vocabulary lie there
    from lbcheck import tf_keras

    workload = squad.build(questions, 1e-3, None, tf_keras)
    ours = {v.name: v.numpy() for v in workload.model.weights}
    theirs = {v.name: v.numpy() for v in model.weights}
    assert ours.keys() == theirs.keys()
    same = {n for n in ours if (ours[n] == theirs[n]).all()}
    head = {n for n in ours if "span" in n or "predictions" in n}
    kernel = {n for n in head if n.endswith("kernel:0")}
    assert len(kernel) == 1 and same == ours.keys() - kernel
    assert questions.settings["num_hidden_layers"] == 1
    assert span_labeler.metrics()[0].name == "span_accuracy"


def test_what_is_trained_and_decayed(model):
    trained = {v.name for v in model.trainable_variables}
    assert not any("pooler" in name for name in trained)
    assert any("pooler" in v.name for v in model.weights)
    import lbcheck
    from lbcheck import tf_keras

    model.compile(optimizer=tf_keras.AdamW(weight_decay=0.01))
    table = str(lbcheck.audit(model))
    kernels = [n for n in trained if n.endswith(("kernel:0", "embeddings:0"))]
    decayed = [line for line in table.splitlines() if " yes " in line]
    assert len(kernels) == 3 + 6 + 1  # embeddings, one layer, the head
    assert len(decayed) >= len(kernels), table


# --- diagnostics and stability --------------------------------------------


def test_diagnostics_of_predictions():
    dataset = embedded("dev")
    texts = {q.id: q.answers[0].text for q in dataset.questions}
    first, second, third, *_ = texts
    predictions = texts | {first: "", second: "ASSERTION", third: "x y z"}
    del predictions[list(texts)[-1]]
    predictions["elsewhere"] = "a"
    found = {"answers": squad_diagnostics.of_predictions(dataset, predictions)}
    found["predict"] = collections.Counter(tokens=200, unknown_tokens=3)
    assert found["answers"] == dict(
        answered=31, empty=1, not_in_context=1, other_case=1
    )
    scores = squad_data.evaluate(dataset, predictions)
    told = "\n".join(squad_diagnostics.lines(found, scores, dataset))
    for text in (
        "1 questions have no prediction",
        "1 predictions belong to no question",
        "1 predictions are empty, which v1.1 counts as wrong",
        "1 predictions occur in their context with other case only",
        "1 predictions do not occur in their context",
        "1.5% of the tokens of --predict_file are unknown",
    ):
        assert f"warning: {text}" in told, told


def test_diagnostics_of_the_wrong_version():
    second = embedded("dev", version_2=True)
    texts = {q.id: "x" for q in second.questions}
    found = {"answers": squad_diagnostics.of_predictions(second, texts)}
    scores = squad_data.evaluate(second, texts)
    told = squad_diagnostics.lines(found, scores, second)
    assert "warning: no prediction is empty: a v1.1 model?" in told
    path = settings.file("embedded", "dev", version_2=False)
    first = squad_data.read(path, version_2=True)
    scores = squad_data.evaluate(first, texts)
    told = squad_diagnostics.lines(found, scores, first)
    assert any("has no impossible question: a v1.1 file" in t for t in told)
    with pytest.raises(ValueError, match="v1.1 was asked for"):
        squad_data.read(settings.file("embedded", "dev", True))


def test_diagnostics_of_the_vocabulary(tmp_path, vocab):
    cased = tmp_path / "cased.txt"
    text = vocab.read_text()
    names = "".join(f"Name{i}\n" for i in range(200))
    cased.write_text(text + names)

    def told(path, lower_case, tokens):
        tokenizer = tokenization.Tokenizer(str(path), lower_case)
        return " ".join(
            squad_diagnostics.of_vocabulary(tokenizer, tokens, path.name)
        )

    size = len(text.splitlines())
    assert told(vocab, True, size) == ""
    assert told(cased, False, size + 200) == ""
    assert "cased.txt is cased" in told(cased, True, size + 200)
    assert "is uncased, but" in told(vocab, False, size)
    assert f"the encoder {size + 9}" in told(vocab, True, size + 9)
    with pytest.raises(ValueError, match="of another model"):
        told(vocab, True, size - 1)


def test_skipped_updates():
    """Seven overflows, none in the last 2,000 updates but one doubling."""
    assert squad_diagnostics.skipped_updates(2.0**15) == 0
    assert squad_diagnostics.skipped_updates(2.0**8) == 7
    assert squad_diagnostics.skipped_updates(2.0**17) == 0


def test_the_box_of_six_runs(tmp_path):
    f1 = [90.0, 91.0, 89.0, 93.0, 92.0, 91.5]
    scores = {
        seed: {"exact_match": value - 7, "f1": value}
        for seed, value in enumerate(f1, 5)
    }
    told = squad_stability.write(tmp_path, scores)
    record = json.loads((tmp_path / "stability.json").read_text())
    assert record["seeds"] == [5, 6, 7, 8, 9, 10]
    box = record["f1"]
    assert box["values"] == f1
    assert box["median"] == 91.25
    # Six runs: the smallest and the largest, 96.9 %.
    assert box["median_interval"] == [89.0, 93.0]
    assert box["quartiles"] == [90.25, 91.875]
    assert box["mean"] == pytest.approx(546.5 / 6)
    squares = sum((x - 546.5 / 6) ** 2 for x in f1)
    assert box["standard_deviation"] == pytest.approx((squares / 5) ** 0.5)
    assert record["exact_match"]["median"] == 84.25
    assert "f1: median 91.25 (95 % interval 89.00 to 93.00)" in told[2]
    assert (tmp_path / "stability.png").stat().st_size > 5000
    del scores[10]
    assert squad_stability.summary(scores)["f1"]["median_interval"] is None


# --- the program ----------------------------------------------------------


@pytest.fixture
def program_run(monkeypatch, tmp_path, capfd):
    """(arguments) -> (exit code, output) of the program, in this process."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["squad.py", *arguments])
        for name in squad.FLAGS:
            squad.FLAGS[name].unparse()
        with pytest.raises(SystemExit) as ended:
            command_line.start(squad.main, squad.FLAGS, squad.__doc__)
        printed = capfd.readouterr()
        return ended.value.code, printed.out + printed.err

    return run


def command(vocab, *more):
    return (
        *"--train_file=embedded --predict_file=embedded --bert_config=1x64 "
        "--max_seq_length=96 --doc_stride=48 --max_query_length=32 "
        "--batch_size=20 --train_steps=6 --log_every=2 --output_dir=run "
        "--num_workers=1 --noprogress".split(),
        f"--vocab_file={vocab}",
        *more,
    )


def content(folder, name):
    return json.loads((pathlib.Path(folder) / name).read_text())


def test_the_whole_chain(program_run, vocab):
    code, text = program_run(*command(vocab))
    assert code == 0, text
    for line in (
        "training: 100 questions in ",
        "prediction: 32 questions in ",
        "updates skipped for overflow: none",
    ):
        assert line in text, text
    assert "warning" not in text, text
    dataset = embedded("dev")
    predictions = content("run", "predictions.json")
    nbest = content("run", "nbest_predictions.json")
    ids = [q.id for q in dataset.questions]
    assert list(predictions) == list(nbest) == ids
    for question in dataset.questions:
        context = dataset.contexts[question.context]
        assert predictions[question.id] == nbest[question.id][0]["text"]
        for answer in nbest[question.id]:
            assert answer["text"] in context
    scores = content("run", "eval_results.json")
    assert scores == squad_data.evaluate(dataset, predictions)
    assert text.splitlines()[-1] == json.dumps(scores)

    # Once more: nothing is trained, and everything is as it was.
    before = {
        p.name: p.read_bytes() for p in pathlib.Path("run").glob("*.json")
    }
    code, text = program_run(*command(vocab))
    assert code == 0 and "finished before; nothing to do" in text
    for name, found in before.items():
        assert pathlib.Path("run", name).read_bytes() == found, name

    # Apart from training, into another folder.
    apart = command(vocab, "--mode=predict,evaluate", "--finetuned=run")
    tokens = len(vocab.read_text().splitlines())
    encoder = settings.architecture("1x64", tokens)
    alike = encoder | {"hidden_dropout_prob": 0.3}
    pathlib.Path("alike.json").write_text(json.dumps(alike))
    code, text = program_run(
        *apart, "--output_dir=apart", "--bert_config=alike.json"
    )
    assert code == 0 and content("apart", "predictions.json") == predictions

    # Not with another model, which the weights alone would not always tell.
    trained = pathlib.Path("run/run.json").read_text()
    deeper = json.loads(trained)
    deeper["settings"]["encoder"]["num_hidden_layers"] = 2
    other = encoder | {"hidden_act": "relu"}
    pathlib.Path("other.json").write_text(json.dumps(other))
    lines = vocab.read_text().splitlines()
    turned = [*lines[:5], *reversed(lines[5:])]
    pathlib.Path("turned.txt").write_text("\n".join(turned))
    for more, described, message in (
        ("--bert_config=other.json", trained, "hidden_act 'gelu'.*'relu'"),
        ("--bert_config=2x64", trained, "num_hidden_layers 1, .* 2"),
        ("--bert_config=1x64", json.dumps(deeper), "num_hidden_layers 2, .* 1"),
        ("--nolower_case", trained, "lower_case True, .* False"),
        ("--vocab_file=turned.txt", trained, "vocabulary {.*sha256"),
    ):
        pathlib.Path("run/run.json").write_text(described)
        for dry_run in ("--nodry_run", "--dry_run"):
            refused = (*apart, "--output_dir=refused", more, dry_run)
            code, text = program_run(*refused)
            assert code == 2, text
            assert re.search(f"run/run.json: .*{message}", text), text
        assert not pathlib.Path("refused").exists()
    pathlib.Path("run/run.json").write_text(trained)

    # Its encoder is a checkpoint, without the pooler that was not trained.
    from bert import checkpoints as bert_checkpoints
    from bert import span_labeler

    read = bert_checkpoints.read("run")
    tokens = len(read.arrays[WORDS])
    assert read.settings == settings.architecture("1x64", tokens)
    assert not any("pooler" in name for name in read.arrays)
    again = span_labeler.build(read.settings)
    told = str(span_labeler.start(again, read))
    assert "not in it, so fresh: pooler" in told and "logits" in told
    state = checkpoints.of("run").newest()[1]
    trained = [a for n, a in state.items() if n.startswith("model/")]
    ours = again.get_layer("encoder").get_weights()
    assert len(trained) == len(ours) + 2  # the head
    for one, other in zip(ours[:-2], trained):
        np.testing.assert_array_equal(one, other)

    more = ("--init_checkpoint=run", "--vocab_file=turned.txt")
    code, text = program_run(*command(vocab, *more, "--output_dir=refused"))
    assert code == 2, text
    assert "turned.txt: another vocabulary than that of run, whose" in text
    assert not pathlib.Path("refused").exists()

    # Another run is refused.
    code, text = program_run(*command(vocab, "--learning_rate=1"))
    assert code == 2 and "--learning_rate=1.0 (here)" in text


def test_a_dry_run_writes_nothing(program_run, vocab, tmp_path, windows):
    arguments = [x for x in command(vocab) if "train_steps" not in x]
    code, text = program_run(*arguments, "--train_epochs=3", "--dry_run")
    assert code == 0, text
    assert len(windows) > 110, "else the updates do not tell what is counted"
    for line in (
        "--nobias_correction",
        "without_answer_window: 0",
        "AdamW(weight_decay=0.01, beta_1=0.9, beta_2=0.999, epsilon=1e-06",
        "steps: 15",  # 3 epochs of 100 questions, not of the windows
        "update 1: 2.8e-05 (warm-up ends)",
        "sum without activations",
    ):
        assert line in text, text
    assert not list(tmp_path.iterdir())


def test_the_vocabulary_is_looked_at_before_training(
    program_run, vocab, tmp_path
):
    from bert import squad_workloads

    tokens = len(vocab.read_text().splitlines())
    config = settings.architecture("1x64", tokens - 1)
    (tmp_path / "small.json").write_text(json.dumps(config))
    for more in ([], ["--dry_run"], ["--mode=train"], ["--mode=predict"]):
        code, text = program_run(
            *command(vocab, "--bert_config=small.json", *more)
        )
        said = f"{vocab} has {tokens} tokens, the encoder {tokens - 1} (vocab_"
        assert code == 2 and said in text, text
    with pytest.raises(ValueError, match=f"{tokens} tokens, the encoder"):
        squad_workloads.squad("", "", "", str(vocab), "small.json")
    for more in (["--batch_size=100000"], ["--mode=predict"]):
        code, text = program_run(*command(vocab, "--nolower_case", *more))
        assert code == 2
        assert f"warning: {vocab} is uncased, but the text is not" in text
    assert {p.name for p in tmp_path.iterdir()} == {"small.json"}


def test_a_dry_run_without_data(program_run, tmp_path):
    """Of every published file: all settings, and what is missing."""
    for file, absent in (
        ("large", ["--train_file=train-v1.1.json", "--vocab_file is needed"]),
        ("mini", ["--init_checkpoint=records/bert_mini/phase2"]),
    ):
        flagfile = f"--flagfile={FLAGS / file}.flags"
        code, text = program_run("--dry_run", flagfile)
        assert code == 0, text
        for line in (FLAGS / f"{file}.flags").read_text().splitlines():
            name = line.partition("=")[0]
            assert line.startswith("#") or name in text, line
        assert all(f"missing: {name}" in text for name in absent), text
    assert not list(tmp_path.iterdir())


def test_nothing_but_the_scores_in_json(tmp_path):
    texts = {q.id: q.answers[0].text for q in embedded("dev").questions}
    (tmp_path / "answers.json").write_text(json.dumps(texts))
    line = "squad --mode=evaluate --predict_file=embedded --format=json"
    line += " --predictions_file=answers.json --output_dir=out"
    ended = subprocess.run(
        [sys.executable, "-m", "bert.squad", *line.split()[1:]],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(ended.stdout)["f1"] == 100


def test_version_2(program_run, vocab):
    second = command(vocab, "--version_2_with_negative", "--train_steps=2")
    code, text = program_run(*second)
    assert code == 0, text
    odds = content("run", "null_odds.json")
    predictions = content("run", "predictions.json")
    for name, answer in predictions.items():
        assert (answer == "") == (odds[name] > 0), name
    scores = content("run", "eval_results.json")
    assert (scores["HasAns_total"], scores["NoAns_total"]) == (32, 6)
    high = program_run(
        *second, "--mode=predict,evaluate", "--null_score_diff_threshold=1e9"
    )
    assert high[0] == 0, high[1]
    assert "" not in content("run", "predictions.json").values()
    assert content("run", "eval_results.json")["NoAns_exact"] == 0


def test_null_odds_beside_the_predictions(program_run, tmp_path):
    line = "--mode=evaluate --predict_file=embedded --version_2_with_negative"
    given = [*line.split(), "--predictions_file=answers.json"]
    path = settings.file("embedded", "dev", True)
    questions = squad_data.read(path, True).questions
    texts = {q.id: q.answers[0].text if q.answers else "x" for q in questions}
    odds = {q.id: 0.0 if q.answers else 1.0 for q in questions}
    (tmp_path / "answers.json").write_text(json.dumps(texts))
    code, text = program_run(*given, "--output_dir=without")
    assert code == 0 and "null_odds.json" not in text
    assert content("without", "eval_results.json")["NoAns_exact"] == 0
    (tmp_path / "null_odds.json").write_text(json.dumps(odds))
    code, text = program_run(*given, "--output_dir=with")
    assert code == 0 and "Null odds of the predictions: null_odds.json" in text
    assert content("with", "eval_results.json")["NoAns_exact"] == 100
    lost = questions[3].id
    del odds[lost]
    (tmp_path / "null_odds.json").write_text(json.dumps(odds))
    code, text = program_run(*given, "--output_dir=half")
    said = "answers.json with null_odds.json: no null odds for 1 of 38 predi"
    assert code == 2 and said in text and lost in text, text
    assert not (tmp_path / "half").exists()


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_of_tf_config(monkeypatch, workers):
    addresses = [f"localhost:{2000 + n}" for n in range(workers)]
    task = {"type": "worker", "index": 0}
    config = {"cluster": {"worker": addresses}, "task": task}
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))

    def check(*more):
        flag_values = flags.FlagValues()
        settings.define(flag_values)
        flag_values(["squad", *command("vocab.txt", *more)])
        settings.check(flag_values)

    check("--mode=train")
    check("--distribution=one_device")
    if workers == 1:
        check()
        return
    with pytest.raises(app.UsageError, match="the several workers of TF_CONF"):
        check()


def test_seeds_begin_alike_and_end_apart(program_run, vocab):
    arguments = command(
        vocab, "--num_seeds=2", "--train_steps=2", "--learning_rate=1e-3"
    )
    code, text = program_run(*arguments)
    assert code == 0, text
    record = content("run", "stability.json")
    assert record["seeds"] == [0, 1]
    files = [f"run/seed-{seed}" for seed in (0, 1)]
    for place, folder in enumerate(files):
        f1 = content(folder, "eval_results.json")["f1"]
        assert record["f1"]["values"][place] == f1
    weights = [checkpoints.of(folder).newest()[1] for folder in files]
    assert any((weights[0][n] != weights[1][n]).any() for n in weights[0])
    # Each is a run by itself.
    code, text = program_run(
        "--flagfile=run/seed-1/flags.txt",
        "--mode=train",
        "--output_dir=alone",
    )
    assert code == 0, text
    alone = checkpoints.of("alone").newest()[1]
    for name, array in weights[1].items():
        np.testing.assert_array_equal(alone[name], array, name)


def test_refusals(program_run, vocab, tmp_path):
    pathlib.Path("other.json").write_text('{"no": "question"}')
    for arguments, message in (
        (["--mode=test"], "--mode=test: expected any of train,predict"),
        (["--mode=predict"], "holds no finished run (no model.weights.h5)"),
        (["--max_seq_length=513"], "the encoder has only 512 positions"),
        (["--max_seq_length=30"], "leaves no room for a context"),
        (["--train_file=none.json"], "none.json: No such file or directory"),
        (["--train_file=other.json"], "other.json: expected SQuAD's"),
        (["--train_epochs=2"], "Give one of --train_steps and --train_epochs"),
        (["--finetuned=run"], "use it with --mode=predict alone (received run"),
        (["--mode=evaluate", "--finetuned=x"], "not apply to --mode=evaluate:"),
        (
            ["--predictions_file=x.json"],
            "only --mode=evaluate alone reads what it names (received x.json)",
        ),
        (["--keras=keras3"], "--keras=keras3: Model Garden's encoder needs"),
        (["--bert_config=huge"], "'huge' is no configuration of BERT"),
        (["--init_checkpoint=none"], "none"),
        (["--momentum=0.5"], "--momentum does not apply"),
        (["--mode=train", "--format=json"], "it applies to --mode=evaluate"),
        (["--dry_run", "--format=json"], "not to --dry_run"),
        (["--null_score_diff_threshold=nan"], "threshold=nan: expected a fin"),
        (["--null_score_diff_threshold=1"], "does not apply to v1.1, in whi"),
        (["--evaluate_every=20"], "--evaluate_every does not apply: no wind"),
        (["--evaluation_batch_size=8"], "--evaluation_batch_size does not a"),
        (["--max_seq_length=1000000000"], "--max_seq_length"),
        (["--num_seeds=1000000000"], "--num_seeds"),
        (["--num_workers=1000000000"], "--num_workers"),
        (["--n_best_size=0"], "--n_best_size"),
        (["--batch_size=100000"], "--batch_size=100000 is more than the "),
        (["--predict_file=other.json"], "other.json: expected SQuAD's"),
        (
            ["--num_seeds=2", "--predictions_file=x"],
            "as it names one run (received x)",
        ),
        (
            ["--mode=evaluate", "--predictions_file=other.json"],
            "none of its 32 questions is among the 1 predictions",
        ),
    ):
        code, text = program_run(*command(vocab, *arguments))
        assert code == 2 and message in text, (arguments, text)
        assert "Traceback" not in text
        assert {p.name for p in tmp_path.iterdir()} == {"other.json"}, arguments


def evaluation(*arguments, code):
    """Runs `code` after the program, in a process of its own."""
    line = [sys.executable, "-c", code, *arguments]
    return subprocess.run(
        line, capture_output=True, text=True, cwd=ROOT, check=False
    )


def test_evaluation_needs_no_tensorflow(tmp_path):
    dataset = embedded("dev")
    texts = {q.id: q.answers[-1].text.upper() for q in dataset.questions}
    file = tmp_path / "answers.json"
    file.write_text(json.dumps(texts))
    ended = evaluation(
        "--mode=evaluate",
        "--predict_file=embedded",
        f"--predictions_file={file}",
        f"--output_dir={tmp_path / 'scores'}",
        code="import sys\n"
        "for name in ('tensorflow', 'keras', 'tf_keras', 'official'):\n"
        "    sys.modules[name] = None\n"
        "from bert import model_garden\n"
        "model_garden._installed = lambda name: 'none'\n"
        "from bert import squad\n"
        "from lbcheck.settings import command_line\n"
        "command_line.start(squad.main, squad.FLAGS, '')\n",
    )
    assert ended.returncode == 0, ended.stderr
    assert content(tmp_path / "scores", "eval_results.json")["f1"] == 100
    assert "predictions occur in their context with other case" in ended.stdout


SCORES = pytest.mark.skipif(
    "LBCHECK_DATA" not in os.environ, reason="needs LBCHECK_DATA/squad"
)


@SCORES
def test_published_predictions(program_run):
    folder = pathlib.Path(os.environ["LBCHECK_DATA"], "squad")
    scores = content(folder / "predictions", "expected_scores.json")
    name = "bert-ensemble-google-ai-language"
    code, text = program_run(
        "--mode=evaluate",
        f"--predict_file={folder / 'dev-v1.1.json.gz'}",
        f"--predictions_file={folder / 'predictions' / name}.json.gz",
        "--output_dir=scores",
    )
    assert code == 0, text
    found = content("scores", "eval_results.json")
    for metric in ("exact_match", "f1"):
        assert found[metric] == pytest.approx(scores[name][metric], abs=1e-9)


@pytest.mark.slow  # traces a model
def test_a_workload_for_compare(checkpoint, vocab):
    from bert import squad_workloads
    from lbcheck.search import arm
    from lbcheck.trials.trainer import Trainer

    def file(part):
        return settings.file("embedded", part, version_2=False)

    workload = squad_workloads.squad(
        file("train"),
        file("dev"),
        str(checkpoint),
        str(vocab),
        "1x64",
        max_seq_length=128,
        doc_stride=64,
        batch_size=20,
        steps=60,
    )
    trainer = Trainer(workload, {"adamw": arm.load("adamw")})
    assert trainer.facts()["metric"] == "span_accuracy"
    (point,) = arm.load("adamw").space.points(0, 0, 1, 60)
    task = {"arm": "adamw", "stage": "broad", "index": 0, "seed": 0}
    point |= {"learning_rate": 3e-3, "weight_decay": 0.0}
    record = trainer.run(task | {"hyperparameters": point})
    assert record["status"] == "finished"
    assert record["metrics"]["training"]["loss"] < 4.5 < np.log(128)
    assert 0 <= record["metrics"]["validation"]["span_accuracy"] <= 1
    with pytest.raises(ValueError, match="must be 'tf_keras' for BERT"):
        squad_workloads.embedded(keras="keras3")


# --- killed ---------------------------------------------------------------


@pytest.mark.slow  # starts TensorFlow again and again
def test_killed_runs_answer_alike(vocab, tmp_path):
    def start(folder):
        arguments = command(vocab, f"--output_dir={folder}", "--train_steps=60")
        line = [sys.executable, "-m", "bert.squad", *arguments]
        return subprocess.Popen(line, cwd=ROOT)

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    begun = time.monotonic()
    assert start(whole).wait() == exit_codes.FINISHED
    seconds = time.monotonic() - begun
    generator, kills = random.Random(0), 0
    while kills < 6:
        process = start(killed)
        time.sleep(generator.uniform(0.4, 0.9) * seconds)
        if process.poll() is None:
            kills += 1
            process.kill()
            process.wait()
        else:
            break
    assert kills, "never killed"
    assert start(killed).wait() == exit_codes.FINISHED
    for name in ("predictions.json", "nbest_predictions.json"):
        ours, theirs = (f / name for f in (killed, whole))
        assert ours.read_bytes() == theirs.read_bytes(), name
    assert content(killed, "diagnostics.json") == content(
        whole, "diagnostics.json"
    )


@pytest.mark.slow  # starts TensorFlow three times
def test_an_interrupted_run_measures_alike(vocab, tmp_path):
    """SIGTERM within an interval, whose metrics go on."""

    def start(folder):
        arguments = command(vocab, f"--output_dir={folder}", "--mode=train")
        line = [sys.executable, "-m", "bert.squad", *arguments]
        line += ["--train_steps=400", "--log_every=200"]
        return subprocess.Popen(line, cwd=ROOT)

    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    process = start(stopped)
    while not (stopped / "status.json").exists():
        assert process.poll() is None
        time.sleep(0.1)
    time.sleep(1.0)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == exit_codes.INTERRUPTED
    step, _ = checkpoints.of(stopped).newest()
    assert step % 200
    for folder in (stopped, whole):
        assert start(folder).wait() == exit_codes.FINISHED
    ours, theirs = (f / "measurements.jsonl" for f in (stopped, whole))
    assert ours.read_bytes() == theirs.read_bytes()
