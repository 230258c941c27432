"""Workloads for `lbcheck compare`: BERT pretraining that fits two cores.

    lbcheck compare --flagfile=flags/bert/compare.flags

`phase1` and `phase2` are the two phases of published runs, on any records:

    lbcheck compare --workload=bert.workloads:phase1 --workload_arguments=\\
    bert_config=tiny,train_data=data/train-*,validation_data=data/held_out-* \\
      --arms=flags/bert/arms/nado2021_table6_32k_phase_1.json
"""

import tempfile

from lbcheck.trials.workload import Workload

_METRIC = "masked_lm_accuracy"


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
    _check(keras)
    found = _embedded(
        bert_config,
        max_seq_length,
        train_vocab,
        dupe_factor,
        max_position_embeddings=max_seq_length,
    )
    return _workload("bert_mini", *found, batch_size, steps)


def phase1(
    keras: str = "tf_keras",
    batch_size: int = 256,
    steps: int = 300,
    bert_config: str = "1x64",
    train_data: str | None = None,
    validation_data: str | None = None,
    max_seq_length: int = 128,
    train_vocab: int = 2000,
    dupe_factor: int = 5,
) -> Workload:
    """Phase 1 of pretraining: 128 tokens, from new weights.

    Args:
        keras: "tf_keras", which Model Garden's encoder is of.
        batch_size: Records of one update, at least 1.
        steps: Updates of one trial, at least 1.
        bert_config: As for `bert.models.config`.
        train_data: Pattern of files of records, which are read as they are
            needed. None: the text of Python's help, held in memory.
        validation_data: Pattern of held-out records; with `train_data`.
        max_seq_length: Tokens of a record that is made of Python's help, at
            least 5; files have theirs.
        train_vocab: Most tokens of the vocabulary of Python's help.
        dupe_factor: Passes over the text of Python's help.

    Raises:
        ValueError: A file is missing, damaged or does not fit the model.

    Example: `lbcheck compare --workload=bert.workloads:phase1 --arms=adamw`

    Source: Devlin et al. 2018, Appendix A.2; You et al. 2019, Section 4.1.
    """
    _check(keras)
    if (train_data is None) != (validation_data is None):
        raise ValueError(
            "`train_data` and `validation_data` must be given together, "
            f"received {train_data!r} and {validation_data!r}."
        )
    if train_data is None:
        found = _embedded(bert_config, max_seq_length, train_vocab, dupe_factor)
    else:
        found = _files(bert_config, train_data, validation_data, batch_size)
    return _workload("bert_phase1", *found, batch_size, steps)


def phase2(
    keras: str = "tf_keras",
    batch_size: int = 32,
    steps: int = 60,
    bert_config: str = "1x64",
    train_data: str | None = None,
    validation_data: str | None = None,
    init_checkpoint: str | None = None,
    max_seq_length: int = 512,
    train_vocab: int = 2000,
    dupe_factor: int = 5,
) -> Workload:
    """Phase 2 of pretraining: 512 tokens, from the weights of phase 1.

    Every trial starts from the same weights, its optimizer anew.

    Args:
        init_checkpoint: As `bert.checkpoints.read` takes it; None: new
            weights, which no published phase 2 begins with.
        keras, batch_size, steps, bert_config, train_data, validation_data,
            max_seq_length, train_vocab, dupe_factor: As for `phase1`.

    Raises:
        ValueError: A file is missing, damaged or does not fit the model.

    Example, after `python -m bert.pretrain --flagfile=flags/bert/mini.flags`:

        lbcheck compare --workload=bert.workloads:phase2 --workload_arguments=\\
          init_checkpoint=records/bert_mini/phase1,bert_config=tiny

    Source: Devlin et al. 2018, Appendix A.2; You et al. 2019, Section 4.1.
    """
    alike = phase1(
        keras=keras,
        batch_size=batch_size,
        steps=steps,
        bert_config=bert_config,
        train_data=train_data,
        validation_data=validation_data,
        max_seq_length=max_seq_length,
        train_vocab=train_vocab,
        dupe_factor=dupe_factor,
    )._replace(name="bert_phase2")
    if init_checkpoint is None:
        return alike
    from bert import checkpoints

    checkpoint = checkpoints.read(init_checkpoint)
    if train_data is not None:
        from bert import pretraining_records

        found = pretraining_records.find([train_data])
        checkpoints.check_vocabulary(checkpoint, found.vocabulary, train_data)

    def build_model():
        model = alike.build_model()
        checkpoints.load_initial(model, checkpoint)
        return model

    return alike._replace(build_model=build_model)


def _check(keras):
    if keras != "tf_keras":
        raise ValueError(
            f"`keras` must be 'tf_keras' for BERT, received {keras!r}."
        )


def _embedded(
    bert_config, max_seq_length, train_vocab, dupe_factor, **settings
):
    """(settings, training arrays, held-out arrays) of Python's help."""
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
        config = models.config(
            bert_config, vocab_size=corpus.tokens, **settings
        )
        train, validation = (
            pretraining_records.arrays(
                pretraining_records.find([pattern]), config
            )
            for pattern in patterns
        )
    return config, train, validation


def _files(bert_config, train_data, validation_data, batch_size):
    """(settings, training stream by seed, held-out stream) of files."""
    from bert import models
    from bert import pretraining_records
    from bert import pretraining_source

    train = pretraining_records.find([train_data])
    held_out = pretraining_records.find([validation_data], "validation_data")
    known = {}
    if train.vocabulary:
        known = {"vocab_size": train.vocabulary["tokens"]}
    config = models.config(bert_config, **known)

    def source(seed):
        return pretraining_source.Source(
            train, held_out, config, batch_size, seed, num_selection=1
        )

    source(0)  # refuses what does not fit

    def stream(seed):
        return source(seed).train(batch_size).map(_undivided)

    def validation():
        padded = source(0).validation(batch_size).unbatch()
        whole = padded.filter(lambda inputs, labels, weight: weight > 0)
        records = whole.map(lambda inputs, labels, weight: (inputs, labels))
        return records.batch(batch_size)

    return config, stream, validation


def _undivided(inputs, labels):
    """Without the weight of an update's predictions: it is one batch."""
    from bert import pretrainer

    return inputs, {
        k: v for k, v in labels.items() if k != pretrainer.PER_EXAMPLE
    }


def _workload(name, config, train, validation, batch_size, steps):
    from bert import models

    def build_model():
        model = models.pretrainer(config)
        model.compile()
        return model

    return Workload(
        build_model,
        train=train,
        validation=validation,
        batch_size=batch_size,
        steps=steps,
        metric=_METRIC,
        name=name,
    )
