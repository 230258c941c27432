"""Makes the records that BERT is pretrained on, from text.

    python -m bert.create_pretraining_data --input='wiki/*.txt.gz' \
        --vocab_file=vocab.txt --output_prefix=records/wiki --num_workers=8
    python -m bert.create_pretraining_data --input=embedded \
        --train_vocab=4000 --output_prefix=records/embedded

The text has one sentence per line and a blank line between documents (or, with
--split_sentences, one paragraph per line). The output is the same, byte for
byte, for any number of workers. The same command continues where it was
stopped. Exit codes: 0 finished, 2 refused, 75 interrupted by SIGTERM or
Ctrl-C.
"""

import functools
import os

from absl import app
from absl import flags

from bert.pretraining_data import pipeline
from bert.pretraining_data import shards
from bert.pretraining_data import text_sources
from lbcheck.settings import command_line
from lbcheck.support import command
from lbcheck.support import exit_codes

FLAGS = flags.FlagValues()

# The module's name also where this is __main__.
_own = {"flag_values": FLAGS, "module_name": "bert.create_pretraining_data"}
_text = functools.partial(flags.DEFINE_string, **_own)
_bool = functools.partial(flags.DEFINE_bool, **_own)
_count = functools.partial(flags.DEFINE_integer, lower_bound=1, **_own)
_part = functools.partial(
    flags.DEFINE_float, lower_bound=0.0, upper_bound=1.0, **_own
)

flags.DEFINE_list(
    "input",
    None,
    "Text files or patterns of them, plain or compressed (gzip, bzip2, xz); "
    "`embedded`; or tfds:NAME[:SPLIT].",
    **_own,
)
_text("output_prefix", None, "Shards are written to PREFIX-00000-of-0000N.")
_text("vocab_file", None, "Vocabulary, one token per line.")
flags.DEFINE_integer(
    "train_vocab",
    None,
    "Size of a vocabulary to learn and write to PREFIX.vocab.txt, 6 to a "
    "million.",
    lower_bound=6,
    upper_bound=10**6,
    **_own,
)
_bool("lower_case", True, "Lower-case and strip accents (uncased models).")
_bool(
    "split_sentences",
    False,
    "Lines are paragraphs; split them into sentences by rule.",
)
_bool("whole_word_masking", False, "Mask all pieces of a word or none.")
flags.DEFINE_integer(
    "max_seq_length",
    128,
    "Tokens per record, >= 5; BERT has positions for 512.",
    lower_bound=shards.SHORTEST,
    upper_bound=shards.LONGEST,
    **_own,
)
_count(
    "max_predictions_per_seq",
    20,
    "Masked tokens per record, >= 1, less than its tokens that can be masked.",
)
_part("masked_lm_prob", 0.15, "Fraction of the tokens to mask, in (0, 1].")
_part(
    "short_seq_prob",
    0.1,
    "Probability that a document is cut into shorter records, in [0, 1].",
)
_count(
    "dupe_factor",
    10,
    "Passes over the text, each with new masks, 1 to 1,000.",
    upper_bound=shards.MOST_PASSES,
)
flags.DEFINE_integer(
    "seed", 12345, "Seed of all random choices, >= 0.", 0, 2**63 - 1, **_own
)
_count(
    "num_shards",
    None,
    "Output files, 1 to 99,999; unset: one for every 10 MB of text.",
    upper_bound=99_999,
)
_count("num_workers", 1, "Worker processes, >= 1.")
_bool("progress", True, "Show progress bars on a terminal.")

_SUMMARY = """\
{documents:,} documents, {sentences:,} sentences, {tokens:,} tokens, \
{unknown:.3%} of them unknown.
{instances:,} records in {shards:,} shards {prefix}-*, of {max_seq_length} \
tokens ({filled:.1%} filled), {masked:.2%} of the tokens masked, \
{random:.1%} with a random next sentence."""


def main() -> int:
    """Does what the flags ask for; returns the exit code."""
    _check()
    try:
        done = _run()
    except KeyboardInterrupt:
        return command.interrupted()
    print(_summary(done))
    return exit_codes.FINISHED


def _check() -> None:
    for name in ("input", "output_prefix"):
        if not FLAGS[name].value:
            raise app.UsageError(f"--{name} must be given.")
    prefix = FLAGS.output_prefix
    if os.path.isdir(prefix) or not os.path.basename(prefix):
        raise app.UsageError(
            f"--output_prefix={prefix} is a folder; expected a folder and the "
            "beginning of the files' names, for instance "
            f"{os.path.join(prefix, 'records')}."
        )
    if (FLAGS.vocab_file is None) == (FLAGS.train_vocab is None):
        raise app.UsageError(
            "Either --vocab_file or --train_vocab must be given, received "
            f"--vocab_file={FLAGS.vocab_file} and "
            f"--train_vocab={FLAGS.train_vocab}."
        )
    if not FLAGS.masked_lm_prob:
        raise app.UsageError("--masked_lm_prob=0.0: expected more than 0.")
    shards.check_lengths(FLAGS.max_seq_length, FLAGS.max_predictions_per_seq)
    cores = os.cpu_count() or 1
    if FLAGS.num_workers > 8 * cores:
        raise app.UsageError(
            f"--num_workers={FLAGS.num_workers}: this machine has {cores} "
            f"cores, expected at most {8 * cores} processes."
        )


def _run() -> dict:
    prefix = FLAGS.output_prefix
    vocab_file = FLAGS.vocab_file or f"{prefix}.vocab.txt"
    given = command_line.values(FLAGS) | {"vocab_file": vocab_file}
    return pipeline.run(
        text_sources.sources(FLAGS.input),
        shards.Settings(**{n: given[n] for n in shards.Settings._fields}),
        prefix,
        train_vocab=FLAGS.train_vocab,
        split_sentences=FLAGS.split_sentences,
        num_shards=FLAGS.num_shards,
        num_workers=FLAGS.num_workers,
        progress=FLAGS.progress,
    )


def _summary(done: dict) -> str:
    text = done["text"]
    total = shards.Counts(*map(sum, zip(*(s.values() for s in done["shards"]))))
    return _SUMMARY.format(
        **text,
        unknown=text["unknown_tokens"] / text["tokens"],
        instances=total.instances,
        shards=len(done["shards"]),
        prefix=FLAGS.output_prefix,
        max_seq_length=FLAGS.max_seq_length,
        filled=total.tokens / total.instances / FLAGS.max_seq_length,
        masked=total.predictions / total.tokens,
        random=total.random_next / total.instances,
    )


if __name__ == "__main__":
    command_line.start(main, FLAGS, __doc__)
