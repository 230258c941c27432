r"""Trains on SQuAD, answers its questions, and evaluates answers.

    python -m bert.squad --flagfile=flags/squad/mini.flags
    python -m bert.squad --mode=evaluate --predict_file=dev-v1.1.json \
        --predictions_file=predictions.json --output_dir=records/evaluated

Files of SQuAD v1.1, or v2.0 with --version_2_with_negative; --mode is any of
train,predict,evaluate. Without further flags the protocol is that of Devlin et
al. 2018. --num_seeds=6 fine-tunes six times from one checkpoint and reports the
spread. The same command continues where it was stopped. --dry_run shows every
setting and what is missing; --format=json prints nothing but the scores. Exit
codes: 0 finished, 2 refused, 3 diverged, 69 another worker is lost, 75
interrupted by SIGTERM.
"""

import contextlib
import functools
import json
import os
import pathlib
import sys
import types
from typing import Any

from absl import app
from absl import flags
from typing_extensions import NotRequired
from typing_extensions import TypedDict

from bert import checkpoints as bert_checkpoints
from bert import model_garden
from bert import models
from bert import squad_data
from bert import squad_diagnostics
from bert import squad_settings as settings
from bert import squad_source
from bert import squad_stability
from bert import tokenization
from lbcheck import plan
from lbcheck import schedules
from lbcheck import training
from lbcheck.settings import command_line
from lbcheck.settings import dry_run
from lbcheck.settings import optimizer
from lbcheck.settings import training as training_flags
from lbcheck.support import dtype_policy
from lbcheck.support import exit_codes
from lbcheck.support import files
from lbcheck.support import schema
from lbcheck.training import checkpoints
from lbcheck.training import record

FLAGS = flags.FlagValues()
settings.define(FLAGS)

PREDICTIONS = "predictions.json"
NBEST = "nbest_predictions.json"
NULL_ODDS = "null_odds.json"
SCORES = "eval_results.json"
DIAGNOSTICS = "diagnostics.json"

_ONLY_OF_TRAINING = (
    "attention_probs_dropout_prob",
    "hidden_dropout_prob",
    "initializer_range",
)
"""Settings of an encoder that its answers do not depend on."""

_PUBLISHED_QUESTIONS = {False: 87_599, True: 130_319}
"""{whether it is v2.0: questions of the training set}: Rajpurkar et al. 2016
and 2018, as counted in the published files."""


class _Counts(TypedDict):
    questions: schema.Index
    windows: schema.Index
    truncated_questions: schema.Index
    unusable_answers: schema.Index
    without_answer_window: schema.Index
    cut_answers: schema.Index
    tokens: schema.Whole
    unknown_tokens: schema.Whole
    long_answers: schema.Index
    whole_word_answers: NotRequired[schema.Index]  # newer than the others
    trained_exact_match: NotRequired[schema.Number | None]


class _Settings(TypedDict):
    encoder: dict[str, Any]
    lower_case: bool
    vocabulary: NotRequired[dict[str, Any]]  # newer than the others


class _Run(TypedDict):
    settings: _Settings


class _Diagnostics(TypedDict):
    warnings: NotRequired[list[str]]
    train: NotRequired[_Counts]
    predict: NotRequired[_Counts]
    skipped_updates: NotRequired[schema.Index | None]


class Questions:
    """The files and the model that the flags name, each read when needed."""

    @functools.cached_property
    def tokenizer(self) -> tokenization.Tokenizer:
        """The tokenizer of --vocab_file."""
        return tokenization.Tokenizer(
            settings.vocab_file(FLAGS), FLAGS.lower_case
        )

    @functools.cached_property
    def checkpoint(self) -> bert_checkpoints.Checkpoint:
        """Where training starts."""
        return bert_checkpoints.read(FLAGS.init_checkpoint)

    @functools.cached_property
    def settings(self) -> dict:
        """The configuration of the encoder."""
        if FLAGS.bert_config:
            tokens = len(self.tokenizer.vocab)
            return settings.architecture(FLAGS.bert_config, tokens)
        if not FLAGS.init_checkpoint:
            raise app.UsageError(
                "--bert_config is needed where there is no --init_checkpoint."
            )
        known = self.checkpoint.settings
        missing = models.config("base").keys() - known.keys()
        if missing:
            raise app.UsageError(
                f"--bert_config is needed: {FLAGS.init_checkpoint} does not "
                f"tell {', '.join(sorted(missing))}."
            )
        return known

    @functools.cached_property
    def warnings(self) -> list[str]:
        """On the vocabulary, which is to be that of the first weights."""
        vocab_file = settings.vocab_file(FLAGS)
        if "train" in FLAGS.mode and FLAGS.init_checkpoint:
            bert_checkpoints.check_vocabulary(
                self.checkpoint, self.tokenizer.identity, vocab_file
            )
        return squad_diagnostics.of_vocabulary(
            self.tokenizer, self.settings["vocab_size"], vocab_file
        )

    @functools.cached_property
    def train(self):
        """Questions to train on."""
        return self._read("train")

    @functools.cached_property
    def train_features(self):
        """Their windows."""
        return self._features(self.train, training=True)

    @functools.cached_property
    def dev(self):
        """Questions to answer."""
        return self._read("predict")

    @functools.cached_property
    def dev_features(self):
        """Their windows."""
        return self._features(self.dev)

    def _read(self, kind):
        part = "dev" if kind == "predict" else kind
        second = FLAGS.version_2_with_negative
        path = settings.file(FLAGS[f"{kind}_file"].value, part, second)
        answered = kind == "train" or "evaluate" in FLAGS.mode
        dataset = squad_data.read(path, second, FLAGS.strict, answered)
        if dataset.problems:
            print(
                f"warning: {path}: {len(dataset.problems):,} answers do not "
                f"stand at their answer_start, first: {dataset.problems[0]}"
            )
        return dataset

    def _features(self, dataset, training=False):
        length = FLAGS.max_seq_length
        positions = self.settings["max_position_embeddings"]
        if length > positions:
            raise ValueError(
                f"--max_seq_length={length}: the encoder has only "
                f"{positions} positions."
            )
        found = squad_data.features(
            dataset,
            self.tokenizer,
            length,
            FLAGS.doc_stride,
            FLAGS.max_query_length,
            training,
            FLAGS.num_workers,
            FLAGS.cache_dir,
        )
        if training and not len(found):
            raise ValueError(f"{dataset.origin}: no question to train on.")
        return found


def main() -> int:
    """Does what the flags ask for; returns the exit code."""
    settings.check(FLAGS)
    if FLAGS.dry_run:
        print(_description(Questions()))
        return exit_codes.FINISHED
    if FLAGS.mode != ["evaluate"]:
        model_garden.check()
    if FLAGS.format == "text":
        return _all(Questions())
    result = SCORES if FLAGS.num_seeds == 1 else squad_stability.RECORD
    path = pathlib.Path(FLAGS.output_dir, result)
    with contextlib.redirect_stdout(sys.stderr):
        code = _all(Questions())
    if code == exit_codes.FINISHED:
        print(json.dumps(schema.read(path)))
    return code


def _all(questions) -> int:
    """The run, or one for each seed."""
    for line in _vocabulary_warnings(questions):
        print(line, flush=True)
    if FLAGS.mode != ["train"]:
        questions.dev  # noqa: B018, refused before training if at all
    if FLAGS.num_seeds == 1:
        return _run(questions)
    folder, scores = FLAGS.output_dir, {}
    for seed in range(FLAGS.seed, FLAGS.seed + FLAGS.num_seeds):
        _choose_seed(folder, seed)
        print(f"Seed {seed}:", flush=True)
        code = _run(questions)
        if code != exit_codes.FINISHED:
            return code
        if "evaluate" in FLAGS.mode:
            scores[seed] = _read_json(SCORES, dict[str, schema.Number])
    if scores:
        print("\n".join(squad_stability.write(folder, scores)))
    return exit_codes.FINISHED


def _choose_seed(folder, seed):
    FLAGS.seed = seed
    FLAGS.output_dir = os.path.join(folder, f"seed-{seed}")


def _run(questions) -> int:
    """One run: its training, predictions and scores."""
    if "train" in FLAGS.mode:
        code = _train(questions)
        if code != exit_codes.FINISHED:
            return code
    if "predict" in FLAGS.mode:
        _predict(questions)
    if "evaluate" in FLAGS.mode:
        _evaluate(questions)
    return exit_codes.FINISHED


def build(questions, rate, keras, optimizers):
    """The workload; see `lbcheck.training.run`."""
    del keras  # Model Garden's encoder is tf_keras
    from bert import span_labeler

    model = span_labeler.build(questions.settings)
    if FLAGS.init_checkpoint:
        print(span_labeler.start(model, questions.checkpoint), flush=True)
    return training.Workload(
        model=model,
        optimizer=optimizer.make(FLAGS, optimizers, rate),
        loss=span_labeler.loss(),
        weighted_metrics=span_labeler.metrics(),
    )


def planned() -> list[plan.Run]:
    """The fine-tuning that the flags describe, for `lbcheck plan`."""
    settings.check(FLAGS)
    if "train" not in FLAGS.mode:
        raise app.UsageError(
            f"--mode={','.join(FLAGS.mode)}: only --mode=train is planned."
        )
    questions = Questions()
    num_train, assumed = _questions_to_train(questions)
    options = training_flags.options(FLAGS, num_train)
    encoder, also_assumed = _planned_encoder(questions)
    FLAGS.init_checkpoint = None  # the values of weights play no part
    known = types.SimpleNamespace(settings=encoder)
    rate = settings.rate(FLAGS, options.total_steps)
    return [
        plan.Run(
            title="SQuAD",
            options=options,
            build=functools.partial(build, known, rate),
            example=_example,
            assumed=(*assumed, *also_assumed),
        )
    ]


def _questions_to_train(questions):
    """How many there are, and what is assumed of that."""
    version_2 = FLAGS.version_2_with_negative
    path = settings.file(FLAGS.train_file, "train", version_2)
    if os.path.exists(path):
        return len(questions.train.questions), ()
    number = _PUBLISHED_QUESTIONS[version_2]
    text = f"{number:,} questions as published; {path} is not here."
    return number, (text,)


def _planned_encoder(questions):
    """The configuration, and what is assumed of it."""
    gone = [line for line in settings.missing(FLAGS) if "vocab_file" in line]
    if not (gone and FLAGS.bert_config):
        return questions.settings, ()
    encoder = models.config(FLAGS.bert_config)
    tokens = encoder["vocab_size"]
    return encoder, (f"{tokens:,} tokens; the vocabulary is not here.",)


def _example(size):
    """Inputs and labels of the span labeler, for `plan.Run`."""
    names = ("input_word_ids", "input_mask", "input_type_ids")
    of_tokens = ((size, FLAGS.max_seq_length), "int32")
    return {name: of_tokens for name in names}, ((size, 2), "int32")


def _options(questions):
    # The protocol counts questions, not windows.
    counts = questions.train_features.diagnostics
    usable = counts["questions"] - counts["unusable_answers"]
    return training_flags.options(FLAGS, usable)


def _flagfile():
    return command_line.flagfile(FLAGS, settings.OF_THE_CALL)


def _description(questions) -> str:
    """What a dry run prints."""
    shown = command_line.flagfile(FLAGS, ("dry_run",))
    checks = settings.missing(FLAGS)
    if checks or "train" not in FLAGS.mode:
        if not checks:
            if "predict" in FLAGS.mode:
                _check_trained(questions)
            checks = _vocabulary_warnings(questions)
            checks += [f"questions to answer: {len(questions.dev.questions)}"]
        sections = {"Settings": shown.splitlines(), "Data": checks}
        return dry_run.listing(sections)
    checks += _vocabulary_warnings(questions)
    if FLAGS.num_seeds > 1:
        checks.append(f"the first of {FLAGS.num_seeds} runs is shown")
        _choose_seed(FLAGS.output_dir, FLAGS.seed)
    if FLAGS.mode != ["train"]:
        checks.append(f"questions to answer: {len(questions.dev.questions)}")
    counts = _counts(questions.train, questions.train_features)
    checks += [f"{name}: {count}" for name, count in counts.items()]
    checks += _training_warnings(counts)
    options = _options(questions)
    source = squad_source.Source(questions.train_features, FLAGS.seed)
    rate = settings.rate(FLAGS, options.total_steps)
    layout = training.plan(options, source, _flagfile())
    workload = functools.partial(build, questions, rate)
    return dry_run.report(shown, options, layout, checks, workload, rate)


def _train(questions) -> int:
    features = questions.train_features
    options = _options(questions)
    if options.batch_size > len(features):
        raise ValueError(
            f"--batch_size={options.batch_size} is more than the "
            f"{len(features)} windows of {questions.train.origin}."
        )
    counts = _counts(questions.train, features)
    for line in _training_warnings(counts):
        print(line, flush=True)
    rate = settings.rate(FLAGS, options.total_steps)
    source = squad_source.Source(features, FLAGS.seed)
    workload = functools.partial(build, questions, rate)
    resolved = command_line.values(FLAGS) | {
        "encoder": questions.settings,
        "vocabulary": questions.tokenizer.identity,
        "schedule": schedules.serialize(rate),
        "total_steps": options.total_steps,
    }
    code = training.run(options, workload, source, _flagfile(), resolved)
    if code == exit_codes.FINISHED:
        _diagnose(
            warnings=questions.warnings,
            train=counts,
            skipped_updates=_skipped(options),
        )
    return code


def _vocabulary_warnings(questions):
    if not {"train", "predict"} & set(FLAGS.mode):
        return []
    return [f"warning: {text}" for text in questions.warnings]


def _training_warnings(counts):
    return [f"warning: {t}" for t in squad_diagnostics.of_training(counts)]


def _counts(dataset, features):
    return squad_diagnostics.of_features(
        dataset, features, FLAGS.max_answer_length
    )


def _skipped(options):
    """Updates that float16 skipped; None in types that skip none."""
    if options.mixed_precision != "float16":
        return None
    _, state = checkpoints.of(options.output_dir).newest()
    optimizers = [
        a for name, a in state.items() if name.startswith("optimizer")
    ]
    scale, _ = optimizers[-2:]  # the loss scale, and its count of updates
    return squad_diagnostics.skipped_updates(float(scale))


def _predict(questions) -> None:
    import tf_keras

    from bert import span_labeler

    folder = _trained()
    weights = folder / settings.WEIGHTS
    if not weights.exists():
        raise ValueError(
            f"{folder} holds no finished run (no {weights.name}): train "
            "first, or name one by --finetuned."
        )
    _check_trained(questions)
    dataset, features = questions.dev, questions.dev_features
    with dtype_policy.mixed(tf_keras, FLAGS.mixed_precision):
        model = span_labeler.build(questions.settings)
    _load(model, weights)
    logits = span_labeler.predict(
        model, features, FLAGS.predict_batch_size, FLAGS.progress
    )
    decoded = squad_data.decode(
        dataset,
        features,
        *logits,
        FLAGS.n_best_size,
        FLAGS.max_answer_length,
        FLAGS.null_score_diff_threshold,
    )
    _write(NBEST, decoded.nbest)
    if dataset.version_2:
        _write(NULL_ODDS, decoded.null_odds)
    _write(PREDICTIONS, decoded.predictions)
    _diagnose(warnings=questions.warnings, predict=_counts(dataset, features))


def _trained():
    """The folder of the run whose model answers."""
    return pathlib.Path(FLAGS.finetuned or FLAGS.output_dir)


def _check_trained(questions):
    """Refuses to answer with another model than the run's; not all of it
    shows in the shapes of the weights, and layers may be left out of them."""
    path = _trained() / record.RUN
    trained = schema.read(path, _Run)["settings"]
    ours = questions.settings | {"lower_case": FLAGS.lower_case}
    if "vocabulary" in trained:
        ours |= {"vocabulary": questions.tokenizer.identity}
    trained = trained | trained["encoder"]
    for name, value in ours.items():
        there = trained.get(name)
        if name not in _ONLY_OF_TRAINING and there != value:
            raise ValueError(
                f"{path}: the run trained a model with {name} "
                f"{schema.shown(there)}, the flags describe one with "
                f"{schema.shown(value)}."
            )


def _load(model, weights):
    try:
        model.load_weights(weights)
    except (OSError, ValueError, LookupError, RuntimeError, TypeError) as error:
        raise ValueError(
            f"{weights} is not of the encoder that the flags describe: {error}"
        ) from error


def _evaluate(questions) -> None:
    dataset = questions.dev
    path = FLAGS.predictions_file or os.path.join(FLAGS.output_dir, PREDICTIONS)
    predictions = squad_data.read_predictions(path)
    odds_file = pathlib.Path(path).with_name(NULL_ODDS)
    if dataset.version_2 and odds_file.exists():
        print(f"Null odds of the predictions: {odds_file}", flush=True)
        odds = schema.read(odds_file, dict[str, schema.Number])
        threshold = FLAGS.null_score_diff_threshold
        try:
            scores = squad_data.evaluate(dataset, predictions, odds, threshold)
        except ValueError as error:
            raise ValueError(f"{path} with {odds_file}: {error}") from error
    else:
        scores = squad_data.evaluate(dataset, predictions)
    _write(SCORES, scores)
    found = {"answers": squad_diagnostics.of_predictions(dataset, predictions)}
    if not FLAGS.predictions_file:
        found |= _known()
    print("\n".join(squad_diagnostics.lines(found, scores, dataset)))
    print(json.dumps(scores), flush=True)


def _diagnose(**found):
    """Adds to what is known of the run."""
    _write(DIAGNOSTICS, _known() | found)


def _known():
    path = pathlib.Path(FLAGS.output_dir, DIAGNOSTICS)
    return _read_json(DIAGNOSTICS, _Diagnostics) if path.exists() else {}


def _read_json(name, kind):
    return schema.read(pathlib.Path(FLAGS.output_dir, name), kind)


def _write(name, content):
    path = pathlib.Path(FLAGS.output_dir, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    files.write_text(path, text)


if __name__ == "__main__":
    command_line.start(main, FLAGS, __doc__)
