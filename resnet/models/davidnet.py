"""DavidNet, the nine-layer residual network for CIFAR-10.

Source: David Page 2018, "How to train your ResNet" (6,573,120 parameters).
"""

from resnet.models.parts import check_size

_LOGITS_SCALE = 0.125
_TORCH = {"scale": 1 / 3, "distribution": "uniform"}
"""Initial kernels as in PyTorch, where the network was tuned."""


def build(parts, images, name, num_classes):
    """Logits of DavidNet for `images` (32 x 32 pixels, or n x 8)."""
    check_size(images, name, 2**3)  # it is halved three times
    x = _convolution(parts, images, 64, "prep")
    x = _layer(parts, x, 128, "layer1", residual=True)
    x = _layer(parts, x, 256, "layer2", residual=False)
    x = _layer(parts, x, 512, "layer3", residual=True)
    # The 4 x 4 pool of 32-pixel images, whatever the size.
    x = parts.layers.GlobalMaxPooling2D(name="pool")(x)
    x = parts.dense(
        x,
        num_classes,
        "linear",
        initializer=parts.scaled("linear", **_TORCH),
        use_bias=False,
        dtype="float32",
    )
    return parts.layers.Rescaling(
        _LOGITS_SCALE, name="logits", dtype="float32"
    )(x)


def _convolution(parts, x, filters, name):
    convolution = f"{name}_conv"
    x = parts.convolution(
        x,
        filters,
        3,
        convolution,
        initializer=parts.scaled(convolution, **_TORCH),
    )
    return parts.relu(parts.norm(x, f"{name}_bn"), f"{name}_relu")


def _layer(parts, x, filters, name, residual):
    x = _convolution(parts, x, filters, name)
    x = parts.layers.MaxPooling2D(2, name=f"{name}_pool")(x)
    if not residual:
        return x
    branch = _convolution(parts, x, filters, f"{name}_residual1")
    branch = _convolution(parts, branch, filters, f"{name}_residual2")
    return parts.layers.Add(name=f"{name}_add")([x, branch])
