"""Fine-tuning as a workload for `lbcheck compare`.

    lbcheck compare --workload=bert.squad_workloads:embedded

compares optimizers on a small set of questions from one checkpoint. For other
files, name a function of your own:

    def mine():
        model = "uncased_L-12_H-768_A-12"
        return squad_workloads.squad(
            "train-v1.1.json",
            "dev-v1.1.json",
            model,
            f"{model}/vocab.txt",
            "base",
        )
"""

from bert import checkpoints
from bert import span_labeler
from bert import squad_data
from bert import squad_diagnostics
from bert import squad_settings
from bert import squad_source
from bert import tokenization
from lbcheck.trials.workload import Workload


def embedded(
    keras: str = "tf_keras", batch_size: int = 20, steps: int = 50
) -> Workload:
    """The questions of this package, from the miniature's weights.

    100 questions for training and 32 for validation; the weights are those of
    `python -m bert.pretrain --flagfile=flags/bert/mini.flags`, found in
    records/bert_mini.

    Args:
        keras: "tf_keras", which Model Garden's encoder is of.
        batch_size: Windows of one update, at least 1.
        steps: Updates of one trial, at least 1.
    """
    if keras != "tf_keras":
        raise ValueError(
            f"`keras` must be 'tf_keras' for BERT, received {keras!r}."
        )
    return squad(
        squad_settings.file("embedded", "train", version_2=False),
        squad_settings.file("embedded", "dev", version_2=False),
        "records/bert_mini/phase2",
        "records/bert_mini/records/vocab-2000.txt",
        bert_config="tiny",
        max_seq_length=128,
        doc_stride=64,
        batch_size=batch_size,
        steps=steps,
        name="squad_embedded",
    )


def squad(
    train_file: str,
    dev_file: str,
    init_checkpoint: str,
    vocab_file: str,
    bert_config: str,
    lower_case: bool = True,
    max_seq_length: int = 384,
    doc_stride: int = 128,
    batch_size: int = 24,
    steps: int = 1000,
    name: str = "squad",
) -> Workload:
    """Fine-tuning from a checkpoint, judged by windows with both ends right.

    Every trial starts from the same encoder; the seed draws the head, dropout
    and the order of the data. All windows are held in memory, 5 KB each at
    384 tokens.

    Args:
        train_file: SQuAD v1.1 JSON.
        dev_file: The same; the first answer counts.
        init_checkpoint: As `bert.checkpoints.load_initial` takes it.
        vocab_file: One token per line.
        bert_config: As `bert.models.config` takes it.
        lower_case: The model is uncased.
        max_seq_length: Tokens of a window.
        doc_stride: Tokens from one window to the next.
        batch_size: Windows of one update, at least 1.
        steps: Updates of one trial, at least 1.
        name: What the study calls it.

    Raises:
        ValueError: A file cannot be used; the message names it.
    """
    tokenizer = tokenization.Tokenizer(vocab_file, lower_case)
    settings = squad_settings.architecture(bert_config, len(tokenizer.vocab))
    squad_diagnostics.of_vocabulary(
        tokenizer, settings["vocab_size"], vocab_file
    )
    checkpoint = checkpoints.read(init_checkpoint)
    checkpoints.check_vocabulary(checkpoint, tokenizer.identity, vocab_file)

    def windows(path):
        features = squad_data.features(
            squad_data.read(path, answered=True),
            tokenizer,
            max_seq_length,
            doc_stride,
            training=True,
        )
        everything = slice(len(features))
        return features.inputs(everything), squad_source.positions(
            features, everything
        )

    def build_model():
        model = span_labeler.build(settings)
        span_labeler.start(model, checkpoint)
        model.compile(loss=span_labeler.loss(), metrics=span_labeler.metrics())
        return model

    return Workload(
        build_model,
        train=windows(train_file),
        validation=windows(dev_file),
        batch_size=batch_size,
        steps=steps,
        name=name,
    )
