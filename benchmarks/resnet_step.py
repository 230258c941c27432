"""ResNet-50 training through Keras `fit`, ours against its peers.

    python benchmarks/resnet_step.py --virtual_batch_size=4
    python benchmarks/resnet_step.py --mixed_precision=bfloat16
    python benchmarks/resnet_step.py --version=1.0

v1.5 has 6 % more arithmetic than v1.0, which tf_keras.applications builds;
Model Garden's is v1.5. "training" is ours under the update function of
lbcheck.training, which also looks for the first non-finite variable.

All models live in one process, with synthetic images and SGD with momentum,
and are timed in turn, round after round, so that a machine that slows down
slows all of them. Printed: images/s (best and median round) and the ratio of
ours to each peer: of the best rounds, as the median over rounds, and of the
least processor seconds, which other programs disturb least.
"""

import functools
import statistics

import common
from absl import flags

_BATCH = flags.DEFINE_integer("batch_size", 16, "Images a step.", 1)
_GHOST = flags.DEFINE_integer(
    "virtual_batch_size",
    None,
    "Examples of a ghost batch in our model; unset: the whole batch.",
    1,
)
_PRECISION = flags.DEFINE_enum(
    "mixed_precision", None, ["bfloat16", "float16"], "Compute type."
)
_IMAGE = flags.DEFINE_integer("image_size", 224, "Pixels.", 32)
_STEPS = flags.DEFINE_integer("steps", 4, "Steps a round.", 1)
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Timed rounds.", 1)
_VERSION = flags.DEFINE_enum(
    "version", "1.5", ["1.5", "1.0"], "Version of our ResNet-50."
)
_PEERS = flags.DEFINE_list(
    "peers", ["applications", "garden"], "Models to compare with."
)
_OURS = "lbcheck"
_ROOM = "training"
_PEER_NAMES = {
    "applications": "tf_keras.applications",
    "garden": "Model Garden",
}


def ours():
    import tf_keras

    from resnet import models

    return models.build(
        "resnet50",
        tf_keras,
        image_shape=(_IMAGE.value, _IMAGE.value, 3),
        num_classes=1000,
        virtual_batch_size=_GHOST.value,
        version=_VERSION.value,
    )


def applications():
    import tf_keras

    return tf_keras.applications.ResNet50(
        weights=None,
        input_shape=(_IMAGE.value, _IMAGE.value, 3),
        classifier_activation=None,
    )


def garden():
    import tf_keras
    from official.vision.modeling import backbones
    from official.vision.modeling import classification_model

    specs = tf_keras.layers.InputSpec(shape=[None, *[_IMAGE.value] * 2, 3])
    return classification_model.ClassificationModel(
        backbones.ResNet(50, input_specs=specs), 1000, input_specs=specs
    )


def main(argv):
    del argv
    if "garden" in _PEERS.value:
        common.need("official", "pip install '.[bert]', or --peers")
    import tensorflow as tf
    import tf_keras

    from lbcheck.data import pipeline
    from lbcheck.training.backends import tf_keras_updates

    if _PRECISION.value:
        tf_keras.mixed_precision.set_global_policy(f"mixed_{_PRECISION.value}")
    makers = {_OURS: ours, _ROOM: ours}
    for peer in _PEERS.value:
        makers[peer] = {"applications": applications, "garden": garden}[peer]
    size = (_BATCH.value, _IMAGE.value, _IMAGE.value, 3)
    data = tf.data.Dataset.from_tensors(
        (
            tf.random.stateless_normal(size, (0, 0)),
            tf.random.stateless_uniform(size[:1], (0, 1), 0, 1000, tf.int32),
        )
    ).repeat()
    data = pipeline.untuned(data)  # its end would be timed, too
    loss = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    fits = {}
    for name, make in makers.items():
        model = make()
        model.compile(tf_keras.optimizers.SGD(0.01, momentum=0.9), loss)
        if name == _ROOM:
            model.optimizer.build(model.trainable_variables)
            tf_keras_updates.Update(model, 1, seed=0).install(steps=1)
        model.fit(data, steps_per_epoch=2, verbose=0)
        fits[name] = functools.partial(
            model.fit, data, steps_per_epoch=_STEPS.value, verbose=0
        )
    times = common.in_turn(fits, _ROUNDS.value)
    seconds = {name: found.wall for name, found in times.items()}
    processor = {name: found.processor for name, found in times.items()}
    images = _BATCH.value * _STEPS.value
    for name, rounds in seconds.items():
        line = (
            f"{name:14}{images / min(rounds):8.2f} images/s best "
            f"{images / statistics.median(rounds):8.2f} median"
        )
        if name != _OURS:
            best = min(rounds) / min(seconds[_OURS])
            cpu = min(processor[name]) / min(processor[_OURS])
            pairs = [a / b for a, b in zip(rounds, seconds[_OURS])]
            line += (
                f"   {_OURS} is x{best:.3f} best, "
                f"x{statistics.median(pairs):.3f} median, x{cpu:.3f} processor"
            )
        print(line, flush=True)
    for peer in _PEERS.value:
        common.tell(
            f"training, ResNet-50 v{_VERSION.value}, batch {_BATCH.value}, "
            f"{_IMAGE.value} pixels",
            [images / x for x in seconds[_ROOM]],
            "images/s",
            [images / x for x in seconds[peer]],
            _PEER_NAMES[peer],
            better="more",
        )


if __name__ == "__main__":
    common.start(
        main,
        batch_size=2,
        image_size=32,
        steps=1,
        rounds=2,
        peers=["applications"],
    )
