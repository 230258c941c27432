"""Workloads for `lbcheck compare`: a model, its data, a batch and a length.

    lbcheck compare --workload=resnet.workloads:digits

`build_model` of each takes `label_smoothing`, which a search space may have.
"""

import functools
import importlib
import random

import numpy as np

from lbcheck.support import kerases
from lbcheck.trials.workload import Workload
from resnet import data
from resnet import losses
from resnet import models

_NOISY = 1_000
"""Training examples of `noisy_digits`."""


def digits(
    keras: str = "tf_keras", batch_size: int = 512, steps: int = 100
) -> Workload:
    """A small network with batch normalisation on scikit-learn's digits.

    1,437 images of 8x8 for training and 360 for validation: a batch is a
    third of the training set.

    Args:
        keras: "tf_keras" or "keras3".
        batch_size: Examples of one update, at least 1.
        steps: Updates of one trial, at least 1.

    Example: `lbcheck compare --workload=resnet.workloads:digits`
    """
    return _workload("digits", _convolutional, keras, batch_size, steps)


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
    network = functools.partial(_named, model)
    return _workload("mnist", network, keras, batch_size, steps, data_dir)


def cifar10(
    keras: str = "tf_keras",
    batch_size: int = 512,
    steps: int = 2344,
    model: str = "davidnet",
    data_dir: str | None = None,
) -> Workload:
    """DavidNet on CIFAR-10 for 24 epochs, without augmentation.

    Args:
        keras: "tf_keras" or "keras3".
        batch_size: Examples of one update, at least 1; the ghost batches of
            64 must divide it.
        steps: Updates of one trial, at least 1.
        model: One of `resnet.models.NAMES`.
        data_dir: As for `resnet.data.load`.

    Example: `lbcheck compare --workload=resnet.workloads:cifar10`

    Source: You et al. 2019, Table 6, there with augmentation.
    """
    network = functools.partial(_named, model)
    return _workload("cifar10", network, keras, batch_size, steps, data_dir)


def _workload(name, network, keras, batch_size, steps, data_dir=None):
    if keras not in kerases.LIBRARIES:
        raise ValueError(
            f"`keras` must be one of {', '.join(kerases.LIBRARIES)}, "
            f"received {keras!r}."
        )
    source = data.load(name, data_dir=data_dir, augment="none")

    def build_model(label_smoothing=0.0):
        module = importlib.import_module(kerases.LIBRARIES[keras])
        model = network(module, source.image_shape, source.num_classes)
        accuracy = module.metrics.SparseCategoricalAccuracy(name="accuracy")
        model.compile(
            loss=losses.cross_entropy(module, label_smoothing),
            metrics=[accuracy],
        )
        return model

    return Workload(
        build_model,
        train=next(source.train(source.num_train)),
        validation=next(source.validation(source.num_validation))[:2],
        batch_size=batch_size,
        steps=steps,
        name=name,
    )


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


def _named(name, keras, image_shape, num_classes):
    """A model of `resnet.models`."""
    return models.build(
        name,
        keras,
        image_shape=image_shape,
        num_classes=num_classes,
        # These models draw from a seed of their own: let set_random_seed
        # decide, as for other models.
        seed=random.getrandbits(31),
    )
