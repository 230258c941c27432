"""BERT's pretraining step, ours against Model Garden's own task.

    python benchmarks/bert_step.py --bert_config=mini --batch_size=64
    python benchmarks/bert_step.py --bert_config=base --optimizer=lamb
    python benchmarks/bert_step.py --mixed_precision=bfloat16 --xla

"training" is `bert.pretrainer.Pretrainer` under the update function of
lbcheck.training, as `bert.pretrain` runs it, with lbcheck's optimizer;
"garden" is the train_step of Model Garden's MaskedLMTask, its model and its
optimizer. Both have the same sizes, dropout, weight decay, exclusions and
clipping; Model Garden's next-sentence head has one more pooler and dropout.

Both live in one process, with synthetic records, and are timed in turn, round
after round, so that a machine that slows down slows both. Printed: sequences/s
(best and median round) and the ratio of ours: of the best rounds, as the
median over rounds, and of the least processor seconds, which other programs
disturb least. --xla compiles both steps whole.
"""

import functools
import statistics
import sys
import time
import types

import common
from absl import flags

_CONFIG = flags.DEFINE_string("bert_config", "mini", "As bert.pretrain has it.")
_BATCH = flags.DEFINE_integer("batch_size", 64, "Records a step.", 1)
_LENGTH = flags.DEFINE_integer("max_seq_length", 128, "Tokens a record.", 8)
_OPTIMIZER = flags.DEFINE_enum("optimizer", "adamw", ["adamw", "lamb"], "Rule.")
_PRECISION = flags.DEFINE_enum(
    "mixed_precision", None, ["bfloat16"], "Compute type."
)
_XLA = flags.DEFINE_bool("xla", False, "Compile both steps with XLA.")
_STEPS = flags.DEFINE_integer("steps", 2, "Steps a round.", 1)
_ROUNDS = flags.DEFINE_integer("rounds", 7, "Timed rounds.", 1)

_RATE = 1e-4
_DECAY = 0.01
_EPSILON = 1e-6
_EXCLUDED = ["LayerNorm", "layer_norm", "bias"]


def records(settings):
    """One batch, as Model Garden's reader gives it."""
    import numpy as np

    batch, length = _BATCH.value, _LENGTH.value
    predictions = 20 if length == 128 else max(1, round(0.15 * length))
    generator = np.random.default_rng(0)
    words = settings["vocab_size"]
    types = np.arange(length) >= length // 2
    positions = generator.permuted(
        np.tile(np.arange(1, length - 1), (batch, 1)), axis=1
    )[:, :predictions]
    return {
        "input_word_ids": generator.integers(5, words, (batch, length)),
        "input_mask": np.ones((batch, length)),
        "input_type_ids": np.tile(types, (batch, 1)),
        "masked_lm_positions": np.sort(positions, axis=1),
        "masked_lm_ids": generator.integers(5, words, positions.shape),
        "masked_lm_weights": np.ones(positions.shape),
        "next_sentence_labels": generator.integers(0, 2, (batch, 1)),
    }


def endless(batch):
    """A data set that repeats a batch; all but the weights are integers."""
    import tensorflow as tf

    from lbcheck.data import pipeline

    weights = "masked_lm_weights"
    cast = {
        name: tf.cast(v, tf.float32 if name == weights else tf.int32)
        for name, v in batch.items()
    }
    data = tf.data.Dataset.from_tensors(cast).repeat()
    return pipeline.untuned(data)  # its end would be timed, too


def ours(settings, data):
    """Function that does a number of steps."""
    from bert import models
    from lbcheck import tf_keras as optimizers
    from lbcheck.training.backends import tf_keras_updates

    rule = {"adamw": optimizers.AdamW, "lamb": optimizers.LAMB}
    model = models.pretrainer(settings)
    optimizer = rule[_OPTIMIZER.value](
        learning_rate=_RATE,
        weight_decay=_DECAY,
        epsilon=_EPSILON,
        exclude_from_weight_decay=_EXCLUDED,
        global_clipnorm=1.0,
    )
    model.compile(optimizer, jit_compile=_XLA.value)
    model.optimizer.build(model.trainable_variables)
    tf_keras_updates.Update(model, 1, seed=0).install(steps=1)
    labels = ("masked_lm_ids", "masked_lm_weights", "next_sentence_labels")
    pairs = data.map(
        lambda batch: (
            {name: batch[name] for name in batch if name not in labels},
            {name: batch[name] for name in labels},
        )
    )

    def run(steps):
        model.fit(pairs, steps_per_epoch=steps, verbose=0)

    return run


def garden(settings, data):
    """The same of Model Garden's task."""
    import tensorflow as tf

    # official.nlp.tasks imports it, and it a module that setuptools dropped.
    sys.modules.setdefault("tensorflow_hub", types.ModuleType("unused"))
    from official.modeling.optimization import lamb
    from official.modeling.optimization import legacy_adamw
    from official.nlp.configs import bert
    from official.nlp.configs import encoders
    from official.nlp.data import pretrain_dataloader
    from official.nlp.tasks import masked_lm

    encoder = encoders.BertEncoderConfig(
        vocab_size=settings["vocab_size"],
        hidden_size=settings["hidden_size"],
        num_layers=settings["num_hidden_layers"],
        num_attention_heads=settings["num_attention_heads"],
        intermediate_size=settings["intermediate_size"],
        max_position_embeddings=settings["max_position_embeddings"],
        type_vocab_size=settings["type_vocab_size"],
    )
    head = bert.ClsHeadConfig(
        inner_dim=settings["hidden_size"],
        num_classes=2,
        dropout_rate=0.1,
        name="next_sentence",
    )
    task = masked_lm.MaskedLMTask(
        masked_lm.MaskedLMConfig(
            model=bert.PretrainerConfig(
                encoder=encoders.EncoderConfig(bert=encoder), cls_heads=[head]
            ),
            train_data=pretrain_dataloader.BertPretrainDataConfig(),
        )
    )
    model = task.build_model()
    metrics = task.build_metrics()
    shared = {
        "weight_decay_rate": _DECAY,
        "epsilon": _EPSILON,
        "exclude_from_weight_decay": _EXCLUDED,
    }
    if _OPTIMIZER.value == "adamw":
        optimizer = legacy_adamw.AdamWeightDecay(
            _RATE, gradient_clip_norm=1.0, **shared
        )
    else:
        optimizer = lamb.LAMB(_RATE, global_clipnorm=1.0, **shared)

    @tf.function(jit_compile=_XLA.value)
    def step(batch):
        return task.train_step(batch, model, optimizer, metrics)

    batches = iter(data)

    @tf.function
    def loop(steps):
        for _ in tf.range(steps):
            step(next(batches))

    return lambda steps: loop(tf.constant(steps))


def main(argv):
    del argv
    common.need("official", "pip install '.[bert]'")
    import tf_keras

    from bert import models

    if _PRECISION.value:
        tf_keras.mixed_precision.set_global_policy(f"mixed_{_PRECISION.value}")
    settings = models.config(_CONFIG.value)
    data = endless(records(settings))
    runs = {"training": ours(settings, data), "garden": garden(settings, data)}
    for name, run in runs.items():
        start = time.perf_counter()
        run(2)
        print(f"{name:10}first 2 steps {time.perf_counter() - start:6.1f} s")
    times = common.in_turn(
        {
            name: functools.partial(run, _STEPS.value)
            for name, run in runs.items()
        },
        _ROUNDS.value,
    )
    seconds = {name: found.wall for name, found in times.items()}
    processor = {name: found.processor for name, found in times.items()}
    sequences = _BATCH.value * _STEPS.value
    for name, rounds in seconds.items():
        print(
            f"{name:10}{sequences / min(rounds):8.2f} sequences/s best "
            f"{sequences / statistics.median(rounds):8.2f} median"
        )
    theirs, mine = seconds["garden"], seconds["training"]
    pairs = [a / b for a, b in zip(theirs, mine)]
    cpu = min(processor["garden"]) / min(processor["training"])
    print(
        f"training is x{min(theirs) / min(mine):.3f} best, "
        f"x{statistics.median(pairs):.3f} median, x{cpu:.3f} processor"
    )
    compiled = ", XLA" if _XLA.value else ""
    precision = f", {_PRECISION.value}" if _PRECISION.value else ""
    common.tell(
        f"training, BERT {_CONFIG.value}, {_OPTIMIZER.value}, batch "
        f"{_BATCH.value}, {_LENGTH.value} tokens{precision}{compiled}",
        [sequences / x for x in mine],
        "sequences/s",
        [sequences / x for x in theirs],
        "Model Garden",
        better="more",
        processor_ratio=cpu,
    )


if __name__ == "__main__":
    common.start(
        main,
        bert_config="tiny",
        batch_size=2,
        max_seq_length=16,
        steps=1,
        rounds=2,
    )
