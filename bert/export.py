r"""Writes a checkpoint of BERT in another format.

    python -m bert.export --checkpoint=uncased_L-24_H-1024_A-16 \
        --format=huggingface --output_dir=exported

reads what `bert.checkpoints.read` reads: Google's, Model Garden's and Hugging
Face's checkpoints, and the folder of a run; the encoder and the heads of
pretraining are written. Exit codes: 0 written, 2 refused.
"""

import os

from absl import app
from absl import flags

from bert import checkpoints
from bert import models
from bert import tokenization
from lbcheck.settings import command_line

FLAGS = flags.FlagValues()
_OWN = {"flag_values": FLAGS, "module_name": "bert.export"}
flags.DEFINE_string("checkpoint", None, "Checkpoint to read.", **_OWN)
flags.DEFINE_string("output_dir", None, "New folder to write.", **_OWN)
flags.DEFINE_enum(
    "format", None, checkpoints.FORMATS, "Format to write.", **_OWN
)
flags.DEFINE_string(
    "bert_config",
    None,
    "Architecture, a name or a JSON file; unset: the checkpoint's own.",
    **_OWN,
)
flags.DEFINE_string(
    "vocab_file",
    None,
    "Vocabulary to copy as well; unset: the checkpoint's, if it has one.",
    **_OWN,
)


def main():
    """Does what the flags ask for; returns the exit code."""
    for name in ("checkpoint", "output_dir", "format"):
        if FLAGS[name].value is None:
            raise app.UsageError(f"--{name} is needed.")
    read = checkpoints.read(FLAGS.checkpoint)
    settings = _settings(read)
    vocab_file = FLAGS.vocab_file or _vocabulary(read)
    if vocab_file:
        tokens, identity = tokenization.read(vocab_file)
        size = settings["vocab_size"]
        tokenization.check_size(vocab_file, len(tokens), size)
        checkpoints.check_vocabulary(read, identity, vocab_file)
    heads = any(name.startswith("cls/") for name in read.arrays)
    model = (models.pretrainer if heads else models.encoder)(settings)
    loaded = checkpoints.load_initial(model, read)
    checkpoints.write(
        model,
        settings,
        FLAGS.output_dir,
        FLAGS.format,
        loaded.loaded,
        vocab_file,
    )
    print(f"{FLAGS.output_dir}: {', '.join(loaded.loaded)} ({FLAGS.format})")
    if loaded.fresh:
        print(f"Not in {read.path}, so not written: {', '.join(loaded.fresh)}")
    if loaded.unused:
        print(f"Not written: {', '.join(loaded.unused)}")
    return 0


def _settings(read):
    if FLAGS.bert_config:
        return models.config(FLAGS.bert_config)
    if "hidden_size" not in read.settings:
        raise app.UsageError(
            f"--bert_config is needed: there is no configuration next to "
            f"{read.path}."
        )
    return read.settings


def _vocabulary(read):
    folder = (
        read.path if os.path.isdir(read.path) else os.path.dirname(read.path)
    )
    path = os.path.join(folder, "vocab.txt")
    return path if os.path.exists(path) else None


if __name__ == "__main__":
    command_line.start(main, FLAGS, __doc__)
