"""The image models by name, for either Keras."""

import inspect

from resnet import augmentation_layer
from resnet import ghost_batch_norm
from resnet import initializers
from resnet import losses
from resnet.models import davidnet
from resnet.models import lenet
from resnet.models import residual
from resnet.models.parts import Parts

_NORM = (
    "virtual_batch_size",
    "batch_norm_momentum",
    "batch_norm_epsilon",
    "running_variance",
)
_BASIC = (*_NORM, "final_gamma", "padding")
_BOTTLENECK = (*_BASIC, "version")

_MODELS = {
    "resnet18": (residual.build, _BASIC),
    "resnet34": (residual.build, _BASIC),
    "resnet50": (residual.build, _BOTTLENECK),
    "resnet101": (residual.build, _BOTTLENECK),
    "resnet152": (residual.build, _BOTTLENECK),
    "resnet_small": (residual.build, _BASIC),
    "davidnet": (davidnet.build, _NORM),
    "lenet5": (lenet.build, ()),
    "lenet_caffe": (lenet.build, ()),
    "lenet_wide": (lenet.build, ()),
}
"""{name: (builder, the settings it uses in addition to those of all)}."""

NAMES = tuple(_MODELS)

_CHOICES = {
    "l2_on": ("kernels", "all"),
    "version": ("1.0", "1.5"),
    "padding": ("paper", "same", "symmetric"),
}


def build(
    name,
    keras,
    *,
    image_shape,
    num_classes,
    seed=0,
    l2=0.0,
    l2_on="kernels",
    virtual_batch_size=64,
    batch_norm_momentum=0.9,
    batch_norm_epsilon=1e-5,
    final_gamma=0.0,
    running_variance="within",
    version="1.5",
    padding="paper",
    augment=None,
):
    """An uncompiled model: float images (batch, height, width, channels) to
    float32 logits (batch, num_classes).

    Its other layers compute in the global dtype policy of `keras`.

    Args:
        name: One of `NAMES`.
        keras: The module `keras` or `tf_keras`.
        image_shape: (height, width, channels).
        num_classes: At least 2.
        seed: Seed of the initial weights, a whole number of at least 0.
        l2: lambda; the loss gains lambda/2 |w|^2, the gradient lambda w.
        l2_on: "kernels": of convolutions and dense layers. "all": every
            trainable variable.
        virtual_batch_size: Examples in a ghost batch, None for the batch of
            a replica; see `resnet.ghost_batch_norm.Core`.
        batch_norm_momentum: Kept part of the moving statistics.
        batch_norm_epsilon: Added to the variance.
        final_gamma: Initial gamma of the last norm of each residual block.
        running_variance: "within" or "total" groups.
        version: "1.5": the 3x3 convolution of a bottleneck block strides.
            "1.0": its first 1x1.
        padding: "paper": 3 on each side before the 7x7 stem, SAME elsewhere.
            "same": SAME everywhere, as Model Garden. "symmetric": equal on
            both sides everywhere, as tf_keras.applications and torchvision.
        augment: A layer that the images pass first, or None.

    Returns:
        A functional model of `keras`.

    Raises:
        ValueError: For an unknown name, a value out of range or a setting
            that the model does not use.

    Example:

        model = build(
            "resnet50", tf_keras, image_shape=(224, 224, 3), num_classes=1000
        )

    Source: see the modules of this package.
    """
    settings = dict(
        virtual_batch_size=virtual_batch_size,
        batch_norm_momentum=batch_norm_momentum,
        batch_norm_epsilon=batch_norm_epsilon,
        final_gamma=final_gamma,
        running_variance=running_variance,
        version=version,
        padding=padding,
    )
    if name not in _MODELS:
        raise ValueError(
            f"Unknown model {name!r}; there are {', '.join(NAMES)}."
        )
    builder, used = _MODELS[name]
    defaults = inspect.signature(build).parameters
    for setting, value in settings.items():
        if setting not in used and value != defaults[setting].default:
            raise ValueError(
                f"Model {name!r} does not use `{setting}` (received "
                f"{value!r}); leave it at {defaults[setting].default!r}."
            )
    for setting, value in (settings | {"l2_on": l2_on}).items():
        if setting in _CHOICES and value not in _CHOICES[setting]:
            raise ValueError(
                f"Model {name!r}: `{setting}` must be one of "
                f"{_CHOICES[setting]}, received {value!r}."
            )
    if len(image_shape) != 3:
        raise ValueError(
            f"Model {name!r}: `image_shape` must be (height, width, "
            f"channels), received {image_shape!r}."
        )
    if num_classes < 2:
        raise ValueError(
            f"Model {name!r}: `num_classes` must be at least 2, received "
            f"{num_classes!r}."
        )
    parts = Parts(keras, seed, l2, l2_on, settings)
    images = keras.Input(tuple(image_shape), name="images")
    first = images if augment is None else augment(images)
    logits = builder(parts, first, name, num_classes)
    return keras.Model(images, logits, name=name)


def register(keras):
    """Lets a Keras load saved models of this package; `build` needs it not.

    Args:
        keras: The module `keras` or `tf_keras`.

    Example:

        models.register(tf_keras)
        model = tf_keras.models.load_model("model.keras")
    """
    for part in (ghost_batch_norm, initializers, losses):
        part.of(keras)
    if hasattr(keras, "ops"):  # tf_keras has no such layer
        augmentation_layer.of(keras)
