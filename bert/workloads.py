"""Workloads for `lbcheck compare`: BERT pretraining that fits two cores.

lbcheck compare --flagfile=flags/bert/compare.flags
"""

import tempfile

from lbcheck.trials.workload import Workload


def mini(
    keras: str = "tf_keras",
    batch_size: int = 512,
    steps: int = 300,
    bert_config: str = "1x64",
    max_seq_length: int = 32,
    train_vocab: int = 1000,
    dupe_factor: int = 10,
) -> Workload:
    """Masked-LM and next-sentence pretraining on the text of Python's help.

    Trials are judged by the accuracy of masked tokens. The records, their
    vocabulary and the held-out tenth are made anew, the same each time.

    Args:
        keras: "tf_keras", which Model Garden's encoder is of.
        batch_size: Records of one update, at least 1.
        steps: Updates of one trial, at least 1.
        bert_config: As for `bert.models.config`.
        max_seq_length: Tokens of a record, at least 5.
        train_vocab: Most tokens of the vocabulary.
        dupe_factor: Passes over the text, with other masks.

    Example: `lbcheck compare --workload=bert.workloads:mini --arms=adamw,lamb`
    """
    if keras != "tf_keras":
        raise ValueError(
            f"`keras` must be 'tf_keras' for BERT, received {keras!r}."
        )
    from bert import embedded
    from bert import models
    from bert import pretraining_records

    with tempfile.TemporaryDirectory() as folder:
        corpus = embedded.corpus(folder, train_vocab)
        patterns = embedded.records(
            corpus,
            "mini",
            max_seq_length,
            max(1, round(0.15 * max_seq_length)),
            dupe_factor,
            seed=0,
        )
        settings = models.config(
            bert_config,
            vocab_size=corpus.tokens,
            max_position_embeddings=max_seq_length,
        )
        train, validation = (
            pretraining_records.arrays(
                pretraining_records.find([pattern]), settings
            )
            for pattern in patterns
        )

    def build_model():
        model = models.pretrainer(settings)
        model.compile()
        return model

    return Workload(
        build_model,
        train=train,
        validation=validation,
        batch_size=batch_size,
        steps=steps,
        metric="masked_lm_accuracy",
        name="bert_mini",
    )
