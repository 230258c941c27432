"""Workloads for `lbcheck compare`: a model, its data, a batch and a length.

    lbcheck compare --workload=resnet.workloads:digits

What a search space may have of the model: `label_smoothing`, and of the models
of `resnet.models` also `virtual_batch_size`, `final_gamma`,
`batch_norm_momentum` and `batch_norm_epsilon`, where they use them.
"""

import importlib
import random

import numpy as np

from lbcheck.support import kerases
from lbcheck.trials.workload import Workload
from lbcheck.trials.workload import at_build
from resnet import augmentation_layer
from resnet import data
from resnet import losses
from resnet import models
from resnet.data import augmentation

_NOISY = 1_000
"""Training examples of `noisy_digits`."""


def digits(
    keras: str = "tf_keras",
    batch_size: int = 512,
    steps: int = 100,
    model: str | None = None,
) -> Workload:
    """A small network with batch normalisation on scikit-learn's digits.

    1,437 images of 8x8 for training and 360 for validation: a batch is a
    third of the training set.

    Args:
        keras: "tf_keras" or "keras3".
        batch_size: Examples of one update, at least 1.
        steps: Updates of one trial, at least 1.
        model: One of `resnet.models.NAMES`; None: three convolutions.

    Example: `lbcheck compare --workload=resnet.workloads:digits`
    """
    module = _module(keras)
    source = data.load("digits", augment="none")

    def convolutional(label_smoothing=0.0):
        model = _convolutional(module, source.image_shape, source.num_classes)
        return _compiled(module, model, label_smoothing)

    build_model = (
        convolutional if model is None else _named(model, keras, source)
    )

    return _in_memory(source, build_model, batch_size, steps)


def noisy_digits(
    keras: str = "tf_keras",
    batch_size: int = 512,
    steps: int = 60,
    noise: float = 0.5,
) -> Workload:
    """`digits` where no optimizer gets everything right.

    1,000 images for training, a part of whose labels is drawn at random, and
    the other 797, with true labels, for validation.

    Args:
        keras: "tf_keras" or "keras3".
        batch_size: Examples of one update, at least 1.
        steps: Updates of one trial, at least 1.
        noise: Part of the training labels that is random, between 0 and 1.

    Example: `lbcheck compare --workload=resnet.workloads:noisy_digits`
    """
    clean = digits(keras, batch_size, steps)
    images, labels = (
        np.concatenate(both) for both in zip(clean.train, clean.validation)
    )
    rng = np.random.default_rng(0)
    train, validation = np.split(rng.permutation(len(labels)), [_NOISY])
    wrong = rng.choice(train, round(noise * len(train)), replace=False)
    labels[wrong] = rng.integers(labels.max() + 1, size=len(wrong))
    return clean._replace(
        train=(images[train], labels[train]),
        validation=(images[validation], labels[validation]),
        name="noisy_digits",
    )


def mnist(
    keras: str = "tf_keras",
    batch_size: int = 1024,
    steps: int = 580,
    model: str = "lenet5",
    data_dir: str | None = None,
) -> Workload:
    """LeNet on MNIST, for ten epochs.

    Args:
        keras: "tf_keras" or "keras3".
        batch_size: Examples of one update, at least 1.
        steps: Updates of one trial, at least 1.
        model: One of `resnet.models.NAMES`.
        data_dir: As for `resnet.data.load`.

    Example: `lbcheck compare --workload=resnet.workloads:mnist`

    Source: You et al. 2019, Table 7, there for 30 epochs.
    """
    source = data.load("mnist", data_dir=data_dir, augment="none")
    build_model = _named(model, keras, source)
    return _in_memory(source, build_model, batch_size, steps)


def cifar10(
    keras: str = "tf_keras",
    batch_size: int = 512,
    steps: int = 2344,
    model: str = "davidnet",
    data_dir: str | None = None,
    augment: str = "none",
) -> Workload:
    """DavidNet on CIFAR-10 for 24 epochs.

    Args:
        keras: "tf_keras" or "keras3".
        batch_size: Examples of one update, at least 1; the ghost batches of
            64 must divide it.
        steps: Updates of one trial, at least 1.
        model: One of `resnet.models.NAMES`.
        data_dir: As for `resnet.data.load`.
        augment: "none", or with keras3 "davidnet": crops, flips and cutouts
            in the model, where the data are.

    Example: `lbcheck compare --workload=resnet.workloads:cifar10`

    Source: You et al. 2019, Table 6, there with augmentation.
    """
    if augment not in augmentation.NAMES:
        raise ValueError(
            f"`augment` must be one of {', '.join(augmentation.NAMES)}, "
            f"received {augment!r}."
        )
    source = data.load("cifar10", data_dir=data_dir, augment="none")
    build_model = _named(model, keras, source, augment == "davidnet")
    return _in_memory(source, build_model, batch_size, steps)


def imagenet(
    keras: str = "tf_keras",
    batch_size: int = 256,
    steps: int = 2512,
    model: str = "resnet50",
    image_size: int = data.IMAGE_SIZE,
    preprocessing: str = "paper",
    data_dir: str | None = None,
) -> Workload:
    """A residual network on ImageNet, whose images are read as they are needed.

    Only the random crops and the order depend on the seed of a trial. The
    published batch of 32,768 is for the program `resnet.train`, which cuts it;
    a study in one process holds the whole batch.

    Args:
        keras: "tf_keras" or "keras3".
        batch_size: Examples of one update, at least 1; the ghost batches
            must divide it.
        steps: Updates of one trial, at least 1.
        model: One of `resnet.models.NAMES`.
        image_size: Height and width in pixels, at least 1.
        preprocessing: "paper" or "mlperf".
        data_dir: As for `resnet.data.load`.

    Example, of a few records at 32 pixels:

        lbcheck compare --workload=resnet.workloads:imagenet \\
          --workload_arguments=image_size=32,model=resnet_small

    Source: Nado et al. 2021, Section 2.1, there at batch 32,768.
    """

    def source(seed):
        return data.load(
            "imagenet",
            data_dir=data_dir,
            seed=seed,
            image_size=image_size,
            preprocessing=preprocessing,
        )

    def train(seed):
        return source(seed).train(batch_size)

    def validation():
        padded = source(0).validation(batch_size).unbatch()
        whole = padded.filter(lambda image, label, weight: weight > 0)
        examples = whole.map(lambda image, label, weight: (image, label))
        return examples.batch(batch_size)

    return Workload(
        _named(model, keras, source(0)),
        train=train,
        validation=validation,
        batch_size=batch_size,
        steps=steps,
        name="imagenet",
    )


def _in_memory(source, build_model, batch_size, steps):
    """A workload of arrays."""
    return Workload(
        build_model,
        train=next(source.train(source.num_train)),
        validation=next(source.validation(source.num_validation))[:2],
        batch_size=batch_size,
        steps=steps,
        name=source.name,
    )


def _module(keras):
    """The module of a Keras by our name of it."""
    if keras not in kerases.LIBRARIES:
        raise ValueError(
            f"`keras` must be one of {', '.join(kerases.LIBRARIES)}, "
            f"received {keras!r}."
        )
    return importlib.import_module(kerases.LIBRARIES[keras])


def _compiled(module, model, label_smoothing):
    accuracy = module.metrics.SparseCategoricalAccuracy(name="accuracy")
    model.compile(
        loss=losses.cross_entropy(module, label_smoothing), metrics=[accuracy]
    )
    return model


def _convolutional(keras, image_shape, num_classes):
    """Three convolutions with batch normalisation, and a dense layer."""
    layers = keras.layers
    x = images = keras.Input(image_shape, name="images")
    for index, filters in enumerate((16, 32, 32), 1):
        x = layers.Conv2D(
            filters,
            3,
            strides=1 if index == 1 else 2,
            padding="same",
            use_bias=False,
            name=f"conv{index}",
        )(x)
        # 100 updates are too few for moving averages at Keras's 0.99.
        x = layers.BatchNormalization(momentum=0.9, name=f"norm{index}")(x)
        x = layers.ReLU(name=f"relu{index}")(x)
    x = layers.Flatten(name="flatten")(x)
    return keras.Model(images, layers.Dense(num_classes, name="logits")(x))


def _named(name, keras, source, augmented=False):
    """build_model of a model of `resnet.models` for a source's images."""
    module = _module(keras)
    augment = augmentation_layer.of(module) if augmented else None

    def build_model(
        label_smoothing=0.0,
        virtual_batch_size=64,
        final_gamma=0.0,
        batch_norm_momentum=0.9,
        batch_norm_epsilon=1e-5,
    ):
        # These models draw from a seed of their own: let set_random_seed
        # decide, as for other models.
        seed = random.getrandbits(31)
        model = models.build(
            name,
            module,
            image_shape=source.image_shape,
            num_classes=source.num_classes,
            seed=seed,
            # Of which a trace holds for one value only.
            virtual_batch_size=int(virtual_batch_size),
            batch_norm_epsilon=float(batch_norm_epsilon),
            batch_norm_momentum=batch_norm_momentum,
            final_gamma=at_build(final_gamma),
            augment=augment and augment(seed, name="augment"),
        )
        return _compiled(module, model, label_smoothing)

    return build_model
