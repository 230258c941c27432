"""Pretrains BERT in one or two phases; everything is a flag.

    python -m bert.pretrain --flagfile=flags/bert/mini.flags

Phase 2 (flags --phase2_...) begins with phase 1's weights, an update counter
of zero and zero optimizer state. The phases' records are the folders phase1
and phase2 of --output_dir. The same command continues where it was stopped;
--phase=1 stops after phase 1, --dry_run shows what would happen. Exit codes:
0 finished, 2 refused, 3 diverged, 69 another worker is lost, 75 interrupted
by SIGTERM.
"""

import contextlib
import copy
import functools
import gc
import json
import os
import pathlib
import tempfile
import types

from absl import app
from absl import flags

from bert import families
from bert import handover
from bert import model_garden
from bert import settings
from bert.checkpoints import records
from bert.pretraining_data import inputs
from lbcheck import plan
from lbcheck import schedules
from lbcheck import training
from lbcheck.settings import command_line
from lbcheck.settings import dry_run
from lbcheck.settings import optimizer
from lbcheck.settings import schedule
from lbcheck.settings import training as training_flags
from lbcheck.support import exit_codes
from lbcheck.training import checkpoints
from lbcheck.training import record

FLAGS = flags.FlagValues()
settings.define(FLAGS)

_RECORDS = "records"
_PUBLISHED_LENGTHS = {1: (128, 20), 2: (512, 80)}
"""{phase: (tokens, predictions) of a record}: Devlin et al. 2018, Appendix A.2,
and google-research/bert's README for the predictions."""
_METRICS = (
    "masked_lm_loss",
    "masked_lm_accuracy",
    "next_sentence_loss",
    "next_sentence_accuracy",
)


def main() -> int:
    """Does what the flags ask for; returns the exit code."""
    settings.check(FLAGS)
    model_garden.check()
    numbers = _numbers()
    with _corpus(numbers) as corpus:
        phases = [Phase(number, corpus) for number in numbers]
        for phase in phases:
            phase.check_vocabulary(phases)
        for phase in phases:
            code = phase.run()
            if code != exit_codes.FINISHED:
                return code
            gc.collect()  # the phase's model
    if FLAGS.dry_run:
        known = all(phase.options for phase in phases)
        if len(phases) > 1 and phases[1].follows and known:
            print(phases[1].hand_over(phases[0].options.total_steps))
    elif FLAGS.mode == "train":
        print(summary(phases, corpus))
    return exit_codes.FINISHED


@contextlib.contextmanager
def _corpus(numbers):
    """The embedded text, or None where files are given."""
    if FLAGS.train_data != [settings.EMBEDDED]:
        yield None
        return
    from bert import embedded

    for number in numbers:  # refused before anything is written
        _Planned(number, _to_learn()).check_start()
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(FLAGS.output_dir, _RECORDS)
        if FLAGS.dry_run:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
        yield embedded.corpus(folder, FLAGS.train_vocab)


class Phase:
    """One phase: what it trains on, from where, and how.

    Args:
        number: 1 or 2.
        corpus: The embedded text, or None.

    Attributes:
        number: The same.
        flags: Its flags; `init_checkpoint` of phase 2 is set.
        follows: Whether it begins with phase 1's weights.
        record: The record of its run.
        missing: What a dry run does without: files that are not there.
        source: Its data; None where it is missing.
        options: For the training room; None where the number of updates
            depends on data that is missing.
        rate: Its schedule; None in the same case.
    """

    def __init__(self, number, corpus):
        self.number = number
        self.flags = settings.phase(FLAGS, number)
        self.follows = number == 2 and self.flags.init_checkpoint is None
        if self.follows:
            self.flags.init_checkpoint = settings.phase(FLAGS, 1).output_dir
        text = command_line.flagfile(FLAGS, settings.OF_THE_CALL)
        self.flagfile = settings.flagfile(text, number)
        self.record = record.Record(self.flags.output_dir, self.flagfile)
        self.model_settings = settings.model_settings(
            FLAGS, corpus and corpus.tokens
        )
        self.missing = self._missing() if FLAGS.dry_run else []
        self.source = None if self.missing else self._load(corpus)
        self.options = self.rate = None
        if self.source is None and self.flags.train_steps is None:
            return
        num_train = self.source.num_train if self.source else None
        self.options = training_flags.options(self.flags, num_train)
        self.rate = schedule.make(
            self.flags, self.options.total_steps, families.FAMILIES
        )

    def _missing(self):
        """A line for each of the phase's files that is not there."""
        found = []
        for flag in ("train_data", "validation_data"):
            names = self.flags[flag].value or []
            for name in names if names != [settings.EMBEDDED] else []:
                try:
                    inputs.named(flag, name, names)
                except inputs.Missing as error:
                    found.append(f"missing: {error}")
        checkpoint = not self.follows and self.flags.init_checkpoint
        if checkpoint and not any(
            os.path.exists(checkpoint + end) for end in ("", ".index")
        ):
            found.append(f"missing: --init_checkpoint={checkpoint}")
        return found

    def _load(self, corpus):
        """The source of this phase's records."""
        from bert import pretraining_records
        from bert import pretraining_source

        train, validation = self.flags.train_data, self.flags.validation_data
        if corpus is not None:
            from bert import embedded

            train, validation = (
                [pattern]
                for pattern in embedded.records(
                    corpus,
                    f"phase{self.number}",
                    self.flags.max_seq_length,
                    self.flags.max_predictions_per_seq,
                    self.flags.dupe_factor,
                    FLAGS.seed,
                )
            )
        return pretraining_source.Source(
            pretraining_records.find(train),
            pretraining_records.find(validation, "validation_data")
            if validation
            else None,
            self.model_settings,
            self.flags.batch_size,
            FLAGS.seed,
            FLAGS.num_selection_examples,
        )

    def run(self) -> int:
        """Trains, evaluates or describes it; an exit code."""
        build = functools.partial(self.build, begins=False)
        if FLAGS.dry_run:
            print(f"Phase {self.number}\n{self.describe()}")
            return exit_codes.FINISHED
        if FLAGS.mode == "eval":
            self.record.check_continues({}, self._identity())
            metrics = training.evaluate(
                self.options, build, self.source, self.flagfile
            )
            print(json.dumps({"phase": self.number, **metrics}))
            return exit_codes.FINISHED
        print(
            f"Phase {self.number}: {self.options.total_steps} updates of "
            f"{self.options.batch_size} records",
            flush=True,
        )
        begins = not self.record.resumable(
            self.options.log_every, self.options.total_steps
        )
        if self.follows and begins:
            steps_before = self._steps_before()
            print(self.hand_over(steps_before), flush=True)
        return training.run(
            self.options,
            functools.partial(self.build, begins=begins),
            self.source,
            self.flagfile,
            command_line.values(self.flags)
            | self._identity()
            | {
                "schedule": schedules.serialize(self.rate),
                "total_steps": self.options.total_steps,
            },
        )

    def _identity(self):
        """What is the same however often the run is resumed or evaluated."""
        return {
            "bert_config": self.model_settings,
            "vocabulary": self.vocabulary,
        }

    @property
    def vocabulary(self):
        """That of its records; None where it is not known."""
        return self.source and self.source.vocabulary

    def check_vocabulary(self, phases) -> None:
        """Refuses records in which a number means another token than before.

        Args:
            phases: Those of this call, in order.

        Raises:
            ValueError: The phase begins with the weights of a run whose
                records are of another vocabulary.
        """
        start = self.flags.init_checkpoint
        before = start and records.vocabulary(start)
        if self.follows and len(phases) > 1:
            before = phases[0].vocabulary
        if None not in (before, self.vocabulary) and before != self.vocabulary:
            prefix = settings.SECOND if self.number == 2 else ""
            raise ValueError(
                f"--{prefix}train_data: made with another vocabulary than the "
                f"records of the run {start}, with whose weights phase "
                f"{self.number} begins; give records of that one, or another "
                f"--{prefix}init_checkpoint."
            )

    def describe(self) -> str:
        """What a dry run prints of the phase."""
        checks = self.source.check() if self.source else self.missing
        if self.options is None:
            unknown = "the updates of --train_epochs depend on missing data"
            lines = self.flagfile.splitlines()
            return dry_run.listing(
                {"Settings": lines, "Data": [*checks, unknown]}
            )
        return dry_run.report(
            self.flagfile,
            self.options,
            training.plan(self.options, self.source, self.flagfile),
            checks,
            functools.partial(self.build, begins=False),
            self.rate,
        )

    def build(self, keras, optimizers, begins):
        """The workload, see `lbcheck.training.run`.

        Args:
            keras: The module `tf_keras`.
            optimizers: The module `lbcheck.tf_keras`.
            begins: Whether initial weights and state are needed.
        """
        from bert import checkpoints as weights
        from bert import clipping
        from bert import models

        model = models.pretrainer(self.model_settings)
        flag_values = copy.deepcopy(self.flags)
        kept = self.follows and flag_values.keep_optimizer_state
        corrected = kept and handover.without_correction(
            flag_values, optimizers
        )
        made = optimizer.make(flag_values, optimizers, self.rate)
        if FLAGS.clip == "per_replica":
            clipping.per_replica(made)
        elif FLAGS.clip == "none":
            made.global_clipnorm = None
        if begins and flag_values.init_checkpoint is not None:
            print(weights.load_initial(model, flag_values.init_checkpoint))
            if kept:
                made.build(model.trainable_variables)
                first = settings.phase(FLAGS, 1)
                handover.keep_state(
                    made,
                    flag_values.init_checkpoint,
                    optimizer.make(first, optimizers, 0.0),
                    corrected,
                )
        return training.Workload(model, made, None, [])

    def _steps_before(self):
        """Updates of phase 1, which must be finished."""
        first = settings.phase(FLAGS, 1)
        text = settings.flagfile(self.flagfile, 1)
        status = record.Record(first.output_dir, text).status()
        if status.get("status") != "finished":
            raise ValueError(
                f"{first.output_dir}: phase 1 is "
                f"{status.get('status', 'not begun')}; phase 2 begins with "
                f"its weights, or with --{settings.SECOND}init_checkpoint."
            )
        return status["step"]

    def hand_over(self, steps_before):
        """What phase 1, of so many updates, hands over, as a table."""
        first = settings.phase(FLAGS, 1)
        rates = (
            schedule.make(first, steps_before, families.FAMILIES),
            self.rate,
        )
        steps = (steps_before, self.options.total_steps)
        return handover.table(first, self.flags, steps, rates)


def _to_learn():
    """The embedded text before its vocabulary, of --train_vocab tokens at
    most, is there."""
    return types.SimpleNamespace(tokens=FLAGS.train_vocab)


class _Planned(Phase):
    """A phase of which only the lengths are known where data is missing."""

    def _load(self, corpus):
        return None if corpus else super()._load(corpus)

    def check_start(self):
        """Refuses a phase that lacks what it starts from, unless a phase
        before it in this call is to make that."""
        begins = checkpoints.of(self.record.folder).newest() is None
        if FLAGS.dry_run or not begins:
            return
        if self.number > _numbers()[0]:
            before = settings.phase(FLAGS, 1).output_dir
            start = self.flags.init_checkpoint
            made = os.path.realpath(start) == os.path.realpath(before)
            if made or FLAGS.mode == "eval":
                return
        if FLAGS.mode == "eval":
            raise ValueError(
                f"{self.record.folder} holds no whole checkpoint to evaluate."
            )
        if self.follows:
            self._steps_before()
        elif self.flags.init_checkpoint is not None:
            from bert import checkpoints as weights

            weights.read(self.flags.init_checkpoint)

    def lengths(self):
        """(tokens, predictions) of a record, and where they are from."""
        known = self.source or self.flags
        found = (known.max_seq_length, known.max_predictions_per_seq)
        if None not in found:
            return found, ()
        found = _PUBLISHED_LENGTHS[self.number]
        return found, (
            f"records of {found[0]} tokens and {found[1]} predictions, as "
            f"published for phase {self.number}; --train_data is not here.",
        )

    def planned(self):
        """What `lbcheck plan` needs of it."""
        if self.options is None:
            raise app.UsageError(
                f"Phase {self.number}: the updates of --train_epochs depend "
                "on data that is not here; give --train_steps."
            )
        (tokens, predictions), assumed = self.lengths()
        return plan.Run(
            title=f"{FLAGS.bert_config} BERT, phase {self.number}",
            options=self.options,
            build=functools.partial(self.build, begins=False),
            example=functools.partial(_example, tokens, predictions),
            microbatch_flag="microbatch_size"
            if self.number == 1
            else f"{settings.SECOND}microbatch_size",
            assumed=assumed,
        )


def _example(tokens, predictions, size):
    """Inputs and labels of `bert.pretrainer.Pretrainer`, for `plan.Run`."""
    of_tokens = ((size, tokens), "int32")
    of_predictions = ((size, predictions), "int32")
    names = ("input_word_ids", "input_mask", "input_type_ids")
    inputs = {name: of_tokens for name in names}
    labels = {
        "masked_lm_ids": of_predictions,
        "masked_lm_weights": ((size, predictions), "float32"),
        "next_sentence_labels": ((size, 1), "int32"),
    }
    return inputs | {"masked_lm_positions": of_predictions}, labels


def planned() -> list[plan.Run]:
    """The phases that the flags describe, for `lbcheck plan`."""
    settings.check(FLAGS)
    FLAGS.dry_run = True  # what is missing is told, not refused
    embedded = FLAGS.train_data == [settings.EMBEDDED]
    corpus = _to_learn() if embedded else None
    return [_Planned(number, corpus).planned() for number in _numbers()]


def _numbers():
    """The phases that the flags ask for."""
    if FLAGS.phase != "all":
        return [int(FLAGS.phase)]
    return [1, 2][: settings.num_phases(FLAGS)]


def summary(phases, corpus) -> str:
    """The metrics at the end of the phases, as a table.

    Args:
        phases: Those that are finished.
        corpus: The embedded text, or None.
    """
    parts = {"selection": "training examples", "validation": "held out"}
    lines = []
    for phase in phases:
        last = phase.record.measurements()[-1]
        for part in phase.source.parts:
            numbers = "  ".join(
                f"{name.replace('_', ' ')} {last[f'{part}_{name}']:.4f}"
                for name in _METRICS
            )
            chance = phase.source.constant_answer(part)
            lines.append(
                f"Phase {phase.number}, {parts[part]}: {numbers} (with one "
                f"answer for all: {chance:.4f})"
            )
    if corpus is not None:
        lines.append(
            f"Unigram entropy of the training text: {corpus.entropy:.4f} nats "
            "per token, the unit of the losses."
        )
    return "\n".join(lines)


if __name__ == "__main__":
    command_line.start(main, FLAGS, __doc__)
