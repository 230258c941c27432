"""Flags of the pretraining program, and what they resolve to.

Most flags belong to a phase. `--phase2_X` is the flag X of the second phase;
unset, it is as in the first. But a phase with its own optimizer, schedule or
data has none of the first phase's flags that go with those, and its length
and initial weights are never the first phase's.
"""

import copy
import functools
import os

from absl import app
from absl import flags

from bert import families
from bert import models
from bert.pretraining_data import shards
from lbcheck.settings import flag_usage
from lbcheck.settings import optimizer
from lbcheck.settings import schedule
from lbcheck.settings import training

SECOND = "phase2_"
"""Before the name of a flag that is the second phase's."""

EMBEDDED = "embedded"
"""Value of --train_data: records of the text that ships with Python."""

OF_THE_CALL = ("dry_run", "mode", "phase", "progress")
"""Flags that decide nothing of a run."""

CLIPS = ("after_averaging", "per_replica", "none")

_MOST_TOKENS = 10**6
_MOST_PARAMETERS = 10**10

_LENGTH = ("train_steps", "train_epochs", "epoch_rule")
_DATA = (
    "validation_data",
    "max_seq_length",
    "max_predictions_per_seq",
    "dupe_factor",
)
_EMBEDDED_ONLY = ("max_seq_length", "max_predictions_per_seq", "dupe_factor")
_COUNTING = ("ademamix", "nadamw", "schedulefreeadamw")
"""Optimizers that correct their moments and have no switch for it."""
_OF_BOTH_PHASES = (
    "deterministic",
    "distribution",
    "keras",
    "mixed_precision",
    "output_dir",
    "progress",
    "seed",
    "tpu",
    "xla",
)
"""Flags of the training room that are not a phase's."""


def define(flag_values: flags.FlagValues) -> None:
    """Defines all flags of the program."""
    phase = flags.FlagValues()
    _define_phase(phase)
    for name in phase_flags():
        second = copy.deepcopy(phase[name])
        second.name = SECOND + name
        second.help = f"In phase 2: {second.help}"
        second.unparse()
        second._set_default(None)
        flags.DEFINE_flag(second, flag_values, "bert.settings")
    _define_phase(flag_values)
    _define_common(flag_values)
    _define_call(flag_values)


def _define_phase(flag_values):
    optimizer.define(flag_values)
    schedule.define(flag_values, families.FAMILIES, "fixed")
    training.define(flag_values)
    flag_values.set_default("global_clipnorm", 1.0)
    own = {"flag_values": flag_values, "module_name": "bert.settings"}
    count = functools.partial(
        flags.DEFINE_integer, default=None, lower_bound=1, **own
    )
    flags.DEFINE_list(
        "train_data",
        None,
        "TFRecords to train on, files or patterns separated by commas; or "
        "`embedded`, the text that ships with Python.",
        **own,
    )
    flags.DEFINE_list(
        "validation_data",
        None,
        "TFRecords held out for validation, likewise.",
        **own,
    )
    flags.DEFINE_string(
        "init_checkpoint",
        None,
        "Initial weights; unset: random ones, in phase 2 those of phase 1.",
        **own,
    )
    flags.DEFINE_integer(
        "max_seq_length",
        None,
        "Tokens per record made of the embedded text, >= 5, at most the "
        "model's positions.",
        shards.SHORTEST,
        shards.LONGEST,
        **own,
    )
    count(
        "max_predictions_per_seq",
        help="Masked tokens per record made of the embedded text, >= 1.",
    )
    count(
        "dupe_factor",
        help=f"Passes over the embedded text, 1 to {shards.MOST_PASSES:,}.",
        upper_bound=shards.MOST_PASSES,
    )


def _define_common(flag_values):
    own = {"flag_values": flag_values, "module_name": "bert.settings"}
    flags.DEFINE_string(
        "bert_config",
        None,
        "Architecture: large, base, medium, small, mini, tiny, LxH (layers x "
        "hidden size) such as 4x128, or a JSON file.",
        **own,
    )
    flags.DEFINE_integer(
        "vocab_size",
        None,
        "Size of the vocabulary; unset: the configuration's.",
        1,
        _MOST_TOKENS,
        **own,
    )
    flags.DEFINE_integer(
        "train_vocab",
        None,
        "Size of the vocabulary to learn from the embedded text, >= 6.",
        6,
        _MOST_TOKENS,
        **own,
    )
    flags.DEFINE_enum(
        "clip",
        CLIPS[0],
        list(CLIPS),
        "When gradients are clipped to --global_clipnorm: after they are "
        "averaged over the replicas, or on each replica before, as in the "
        "original.",
        **own,
    )
    flags.DEFINE_bool(
        "keep_optimizer_state",
        False,
        "Phase 2 continues with the optimizer state (moments) of phase 1.",
        **own,
    )
    flags.DEFINE_integer(
        "num_selection_examples",
        10_000,
        "Training examples to evaluate on, a fixed set, >= 1.",
        1,
        **own,
    )


def _define_call(flag_values):
    """Which phases run, and what is done with them."""
    own = {"flag_values": flag_values, "module_name": "bert.settings"}
    flags.DEFINE_enum(
        "phase", "all", ["all", "1", "2"], "Which phases to train.", **own
    )
    flags.DEFINE_enum(
        "mode",
        "train",
        ["train", "eval"],
        "Train, or print the metrics of the newest checkpoint as JSON.",
        **own,
    )
    flags.DEFINE_bool(
        "dry_run",
        False,
        "Print the settings and check the data; write nothing.",
        **own,
    )


@functools.cache
def phase_flags() -> tuple[str, ...]:
    """Names of the flags that a phase has."""
    defined = flags.FlagValues()
    _define_phase(defined)
    return tuple(n for n in defined if n not in _OF_BOTH_PHASES)


@functools.cache
def _group(define_group) -> tuple[str, ...]:
    defined = flags.FlagValues()
    define_group(defined)
    return tuple(defined)


def num_phases(flag_values: flags.FlagValues) -> int:
    """1 or 2; there is a second one where its length is given."""
    lengths = flag_usage.given(flag_values, [SECOND + n for n in _LENGTH])
    return 2 if lengths else 1


def phase(flag_values: flags.FlagValues, number: int) -> flags.FlagValues:
    """The flags of one phase, under the names they have in the first.

    Args:
        flag_values: Parsed flags.
        number: 1 or 2.
    """
    made = copy.deepcopy(flag_values)
    if number == 2:
        _inherit(made)
    if made.output_dir is not None:
        made.output_dir = os.path.join(made.output_dir, f"phase{number}")
    return made


def _inherit(flag_values):
    """Turns the flags into those of phase 2."""
    given = {
        name: flag_values[SECOND + name].value
        for name in phase_flags()
        if flag_values[SECOND + name].value is not None
    }
    groups = {
        "optimizer": _group(optimizer.define),
        "schedule": schedule.names(families.FAMILIES),
        "train_data": _DATA,
    }
    dropped = [*_LENGTH, "init_checkpoint"]
    for chooser, members in groups.items():
        if chooser in given:
            dropped.extend(members)
    for name in dropped:
        flag_values[name].unparse()
    for name, value in given.items():
        flag_values[name].value = value


def flagfile(text: str, number: int) -> str:
    """The lines of a flagfile that decide the given phase."""
    lines = text.splitlines(keepends=True)
    later = (f"--{SECOND}", f"--no{SECOND}")
    kept = [n for n in lines if number == 2 or not n.startswith(later)]
    alone = ("--keep_optimizer_state", "--nokeep_optimizer_state")
    return "".join(n for n in kept if number == 2 or n.rstrip() not in alone)


def check(flag_values: flags.FlagValues) -> None:
    """Refuses flags of a phase that no choice made uses, or that are missing.

    Raises:
        app.UsageError: Names the flag, the choice and what would use it.
        ValueError: An unknown dialect.
    """
    phases = num_phases(flag_values)
    second = flag_usage.given(flag_values, [SECOND + n for n in phase_flags()])
    if phases == 1:
        unused = next(iter(second), None)
        if flag_values["keep_optimizer_state"].value:
            unused = "keep_optimizer_state"
        if flag_values["phase"].value == "2":
            unused = "phase"
        if unused is not None:
            raise app.UsageError(
                f"--{unused}={flag_values[unused].value} does not apply: there "
                f"is no second phase without --{SECOND}train_steps or "
                f"--{SECOND}train_epochs."
            )
    for name in ("bert_config", "output_dir"):
        if flag_values[name].value is None:
            raise app.UsageError(f"--{name} is needed.")
    for number in range(1, phases + 1):
        try:
            _check_phase(phase(flag_values, number))
        except app.UsageError as error:
            if number == 1:
                raise
            raise app.UsageError(f"Phase 2: {error}") from error
    if flag_values["keep_optimizer_state"].value:
        _check_kept(flag_values)
    for name in ("global_clipnorm", f"{SECOND}global_clipnorm"):
        if flag_values["clip"].value == "none" and flag_values[name].present:
            raise app.UsageError(
                f"--{name} does not apply to --clip=none (received "
                f"{flag_values[name].value})."
            )


def _check_phase(flag_values):
    optimizer.check(flag_values)
    schedule.check(flag_values, families.FAMILIES)
    if flag_values["batch_size"].value is None:
        raise app.UsageError("--batch_size is needed.")
    data = flag_values["train_data"].value
    if not data:
        raise app.UsageError("--train_data is needed.")
    embedded = data == [EMBEDDED]
    for name, wanted in (
        ("validation_data", False),
        *((name, True) for name in (*_EMBEDDED_ONLY, "train_vocab")),
    ):
        value = flag_values[name].value
        if value is not None and wanted != embedded:
            raise app.UsageError(
                f"--{name} does not apply to --train_data={','.join(data)}; "
                f"only {EMBEDDED if wanted else 'record files'} "
                f"{'uses' if wanted else 'use'} it (received {value})."
            )
        if value is None and wanted and embedded:
            raise app.UsageError(f"--train_data={EMBEDDED} needs --{name}.")
    if embedded:
        shards.check_lengths(
            flag_values["max_seq_length"].value,
            flag_values["max_predictions_per_seq"].value,
        )
    if flag_values["keras"].value != "tf_keras":
        raise app.UsageError(
            f"--keras={flag_values['keras'].value}: Model Garden's BERT needs "
            "--keras=tf_keras."
        )
    if (
        flag_values["clip"].value == "per_replica"
        and flag_values["mixed_precision"].value == "float16"
    ):
        raise app.UsageError(
            "--clip=per_replica does not apply to --mixed_precision=float16, "
            "whose gradients are scaled until they are averaged."
        )


def _check_kept(flag_values):
    first, second = (phase(flag_values, number) for number in (1, 2))
    for name in ("optimizer", "dialect", "fallback"):
        if first[name].value != second[name].value:
            raise app.UsageError(
                f"--keep_optimizer_state needs one {name} for both phases, "
                f"received {first[name].value} and {second[name].value}."
            )
    for name in (second.optimizer, second.fallback):
        if name in _COUNTING:
            raise app.UsageError(
                f"--keep_optimizer_state does not apply to {name}, which "
                "corrects its moments by the count of updates, as if those "
                "that are kept were new in phase 2."
            )
    if second.init_checkpoint is not None:
        raise app.UsageError(
            "--keep_optimizer_state continues phase 1, so it takes no "
            f"--{SECOND}init_checkpoint={second.init_checkpoint}."
        )


def model_settings(flag_values: flags.FlagValues, tokens: int | None) -> dict:
    """The settings of the model, see `bert.models.config`.

    Args:
        flag_values: Parsed flags.
        tokens: Size of a vocabulary that was learned, or None.

    Raises:
        ValueError: There is no such configuration, or it is too large, or
            has fewer positions than an embedded record has tokens.
    """
    size = flag_values["vocab_size"].value or tokens
    changes = {} if size is None else {"vocab_size": size}
    name = flag_values["bert_config"].value
    found = models.config(name, **changes)
    width, inner = found["hidden_size"], found["intermediate_size"]
    tables = found["vocab_size"] + found["max_position_embeddings"]
    layers = found["num_hidden_layers"] * (4 * width + 2 * inner)
    weights = (tables + found["type_vocab_size"] + layers) * width
    if weights > _MOST_PARAMETERS:
        raise ValueError(
            f"--bert_config={name}: a model of {weights / 1e9:,.0f} billion "
            f"weights, expected at most {_MOST_PARAMETERS / 1e9:,.0f}."
        )
    for number in range(1, num_phases(flag_values) + 1):
        length = phase(flag_values, number)["max_seq_length"].value
        if length and length > found["max_position_embeddings"]:
            raise ValueError(
                f"--max_seq_length={length} in phase {number}: the model has "
                f"positions for {found['max_position_embeddings']} "
                f"(max_position_embeddings of --bert_config={name})."
            )
    return found
