"""Flags of the SQuAD program; unset, they are the published protocol.

Devlin et al. 2018 for BERT-Large, which You et al. 2019 and Nado et al. 2021
leave untouched: AdamW at 3e-5 without bias correction, batch 24, 2 epochs,
warm-up over a tenth of the updates by the original schedule, gradients
clipped to norm 1; windows of 384 tokens every 128, questions of 64, the 20
best answers of at most 30 tokens.
"""

import functools
import os
import pathlib

from absl import app
from absl import flags

from bert import models
from bert import schedule
from bert import squad_data
from bert.pretraining_data import shards
from lbcheck.settings import optimizer
from lbcheck.settings import training
from lbcheck.support import command
from lbcheck.training import cluster

WEIGHTS = "model.weights.h5"
"""What a finished run leaves."""

MODES = ("train", "predict", "evaluate")

ADAMW = {
    "beta_1": 0.9,
    "beta_2": 0.999,
    "epsilon": 1e-6,
    "weight_decay": 0.01,
    "bias_correction": False,
    "global_clipnorm": 1.0,
}
"""What the flags of --optimizer=adamw are where they are not set."""

OF_THE_CALL = (
    "cache_dir",
    "dry_run",
    "finetuned",
    "format",
    "max_answer_length",
    "mode",
    "n_best_size",
    "null_score_diff_threshold",
    "num_seeds",
    "num_workers",
    "predict_batch_size",
    "predict_file",
    "predictions_file",
    "progress",
    "strict",
)
"""Flags that decide nothing of the training."""

_EMBEDDED = pathlib.Path(squad_data.__file__).parent / "embedded"

_TEXTS = {
    "train_file": "Questions to train on, JSON, plain or compressed; or "
    "`embedded`.",
    "predict_file": "Questions to answer, likewise.",
    "predictions_file": "Answers to evaluate; unset: those in --output_dir.",
    "finetuned": "Folder of the run whose model answers; unset: --output_dir.",
    "bert_config": "Architecture: large, base, 4x128, ... or a JSON file; "
    "unset: that of --init_checkpoint.",
    "init_checkpoint": "Pretrained weights; unset: random ones.",
    "vocab_file": "Vocabulary, one token per line; unset: vocab.txt of "
    "--init_checkpoint.",
    "cache_dir": "Folder to cache the tokenized questions in.",
}
_COUNTS = {
    "max_seq_length": (384, shards.LONGEST, "Tokens per window"),
    "doc_stride": (128, shards.LONGEST, "Tokens from one window to the next"),
    "max_query_length": (64, shards.LONGEST, "Most tokens of a question"),
    "n_best_size": (20, 1000, "Candidate answers kept per question"),
    "max_answer_length": (30, shards.LONGEST, "Most tokens of an answer"),
    "predict_batch_size": (32, 10_000, "Windows per prediction step"),
    "num_workers": (1, 256, "Processes that tokenize"),
    "num_seeds": (
        1,
        1000,
        "Fine-tuning runs from one checkpoint, each in a folder of its own",
    ),
}
"""{flag: (default, highest, meaning)}."""


def define(flag_values: flags.FlagValues) -> None:
    """Defines all flags of the program."""
    optimizer.define(flag_values)
    training.define(flag_values)
    command.define_format(flag_values)
    own = {"flag_values": flag_values, "module_name": "bert.squad"}
    text = functools.partial(flags.DEFINE_string, default=None, **own)
    real = functools.partial(flags.DEFINE_float, **own)
    for name, meaning in _TEXTS.items():
        text(name, help=meaning)
    for name, (default, highest, meaning) in _COUNTS.items():
        meaning = f"{meaning}, 1 to {highest:,}."
        flags.DEFINE_integer(name, default, meaning, 1, highest, **own)
    flags.DEFINE_list(
        "mode", list(MODES), f"What to do: any of {', '.join(MODES)}.", **own
    )
    flags.DEFINE_bool("lower_case", True, "The model is uncased.", **own)
    flags.DEFINE_bool(
        "version_2_with_negative",
        False,
        "The files are v2.0: some questions have no answer.",
        **own,
    )
    flags.DEFINE_bool(
        "strict",
        False,
        "Refuse a file in which an answer is not at its answer_start.",
        **own,
    )
    flags.DEFINE_bool(
        "dry_run", False, "Print the settings; write nothing.", **own
    )
    real(
        "null_score_diff_threshold",
        0.0,
        "v2.0: predict no answer if its score exceeds that of the best answer "
        "by more than this.",
    )
    flags.DEFINE_enum(
        "schedule",
        "original",
        list(schedule.VARIANTS),
        "original: the rate drops when warm-up ends; fixed: it does not.",
        **own,
    )
    real("learning_rate", 3e-5, "Peak learning rate, >= 0.", lower_bound=0.0)
    real(
        "warmup_proportion",
        0.1,
        "Fraction of the updates that are warm-up, in [0, 1].",
        lower_bound=0.0,
        upper_bound=1.0,
    )
    flag_values.set_default("optimizer", "adamw")
    flag_values.set_default("batch_size", 24)


def check(flag_values: flags.FlagValues) -> None:
    """Sets what the protocol says of unset flags; refuses what is missing.

    Raises:
        app.UsageError: Names the flag.
        ValueError: An unknown dialect.
    """
    modes = flag_values["mode"].value
    for mode in modes:
        if mode not in MODES:
            raise app.UsageError(
                f"--mode={mode}: expected any of {','.join(MODES)}."
            )
    if not modes:
        raise app.UsageError(f"--mode is empty; any of {','.join(MODES)}.")
    needed = ["output_dir"]
    needed += ["train_file"] if "train" in modes else []
    needed += ["predict_file"] if modes != ["train"] else []
    for name in needed:
        if not flag_values[name].value:
            raise app.UsageError(
                f"--{name} is needed for --mode={','.join(modes)}."
            )
    dry_run = flag_values["dry_run"].value
    if flag_values["format"].value == "json":
        if dry_run or "evaluate" not in modes:
            raise app.UsageError(
                "--format=json prints scores: it applies to --mode=evaluate, "
                "not to --dry_run."
            )
    if flag_values["num_seeds"].value > 1:
        _check_seeds(flag_values)
    _check_unused(flag_values)
    if "train" not in modes:
        return
    if flag_values["finetuned"].value:
        raise app.UsageError(
            "--finetuned does not apply to --mode=train, which predicts with "
            "the weights that it trained; use it with --mode=predict alone "
            f"(received {flag_values['finetuned'].value})."
        )
    if flag_values["keras"].value != "tf_keras":
        raise app.UsageError(
            f"--keras={flag_values['keras'].value}: Model Garden's encoder "
            "needs --keras=tf_keras."
        )
    alone = flag_values["distribution"].value not in ("auto", "multi_worker")
    if modes != ["train"] and not alone and cluster.read().others:
        raise app.UsageError(
            f"--mode={','.join(modes)}: the several workers of TF_CONFIG train "
            "with --mode=train; predict and evaluate then in one process."
        )
    if flag_values["optimizer"].value == "adamw":
        for name, value in ADAMW.items():
            if flag_values[name].value is None:
                flag_values[name].value = value
    length = [flag_values[n].value for n in ("train_steps", "train_epochs")]
    if length == [None, None]:
        flag_values["train_epochs"].value = 2.0
    optimizer.check(flag_values)


def _check_unused(flag_values):
    for name in ("evaluate_every", "evaluation_batch_size"):
        value = flag_values[name].value
        if value is not None:
            raise app.UsageError(
                f"--{name} does not apply: no windows are held out while "
                f"questions are trained (received {value}); --mode=evaluate "
                "scores answers."
            )
    threshold = flag_values["null_score_diff_threshold"].value
    if threshold and not flag_values["version_2_with_negative"].value:
        raise app.UsageError(
            "--null_score_diff_threshold does not apply to v1.1, in which "
            "every question has an answer; only --version_2_with_negative "
            f"uses it (received {threshold})."
        )
    modes = flag_values["mode"].value
    for name, used, only in (
        ("finetuned", "predict" in modes, "predict answers with"),
        ("predictions_file", modes == ["evaluate"], "evaluate alone reads"),
    ):
        value = flag_values[name].value
        if value and not used:
            raise app.UsageError(
                f"--{name} does not apply to --mode={','.join(modes)}: "
                f"only --mode={only} what it names (received {value})."
            )


def _check_seeds(flag_values):
    for name in ("finetuned", "predictions_file"):
        if flag_values[name].value:
            raise app.UsageError(
                f"--{name} does not apply to --num_seeds above 1, as it names "
                f"one run (received {flag_values[name].value})."
            )


def missing(flag_values: flags.FlagValues) -> list[str]:
    """A line for each file that the modes need and that is not there."""
    modes = flag_values["mode"].value
    needed = ["train_file"] if "train" in modes else []
    needed += ["predict_file"] if modes != ["train"] else []
    needed += ["vocab_file"] if {"train", "predict"} & set(modes) else []
    needed += ["predictions_file"] if "evaluate" in modes else []
    given = {name: flag_values[name].value for name in needed}
    found = [
        f"missing: --{name}={value}"
        for name, value in given.items()
        if value not in (None, "embedded") and not os.path.exists(value)
    ]
    checkpoint = flag_values["init_checkpoint"].value
    places = (checkpoint, f"{checkpoint}.index")
    if checkpoint and not any(map(os.path.exists, places)):
        found.append(f"missing: --init_checkpoint={checkpoint}")
    if "predict" in modes and "train" not in modes:
        folder = (
            flag_values["finetuned"].value or flag_values["output_dir"].value
        )
        weights = os.path.join(folder, WEIGHTS)
        if not os.path.exists(weights):
            found.append(f"missing: {weights} of a finished run")
    if "vocab_file" in needed and not given["vocab_file"]:
        try:
            vocab_file(flag_values)
        except app.UsageError as error:
            found.append(f"missing: {error}")
    return found


def file(name: str, part: str, version_2: bool) -> str:
    """A file of questions; `embedded` means the set of this package.

    Args:
        name: Value of the flag.
        part: "train" or "dev".
        version_2: Whether v2.0 is meant.
    """
    if name != "embedded":
        return name
    version = "v2.0" if version_2 else "v1.1"
    return str(_EMBEDDED / f"{part}-{version}.json")


def vocab_file(flag_values: flags.FlagValues) -> str:
    """The vocabulary's file.

    Raises:
        app.UsageError: It is not given, and not next to the checkpoint.
    """
    given = flag_values["vocab_file"].value
    if given:
        return given
    checkpoint = flag_values["init_checkpoint"].value or ""
    for folder in (checkpoint, os.path.dirname(checkpoint)):
        path = os.path.join(folder, "vocab.txt")
        if checkpoint and os.path.isfile(path):
            return path
    raise app.UsageError(
        "--vocab_file is needed: "
        + (
            f"there is no vocab.txt in {checkpoint}."
            if checkpoint
            else "--init_checkpoint, which may bring one, is not set either."
        )
    )


def architecture(bert_config: str, num_tokens: int) -> dict:
    """`bert.models.config`; one that is no file has `num_tokens` tokens."""
    sized = {} if os.path.exists(bert_config) else {"vocab_size": num_tokens}
    return models.config(bert_config, **sized)


def rate(flag_values: flags.FlagValues, total_steps: int):
    """The schedule of `bert.schedule` that the flags describe.

    Args:
        flag_values: Parsed flags.
        total_steps: Updates of the run, at least 1.
    """
    name = flag_values["schedule"].value
    warmup = int(total_steps * flag_values["warmup_proportion"].value)
    try:
        return schedule.VARIANTS[name](
            flag_values["learning_rate"].value, warmup, total_steps
        )
    except ValueError as error:
        raise app.UsageError(f"--schedule={name}: {error}") from error
