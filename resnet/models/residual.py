"""ResNet of 18 to 152 layers, version 1.0 and 1.5, and a small form of it.

Source: He, Zhang, Ren and Sun 2016, "Deep residual learning for image
recognition"; version 1.5, the initial weights and gamma of 0 as in Goyal et
al. 2017, "Accurate, large minibatch SGD", and the MLPerf reference.
"""

from typing import NamedTuple


class _Form(NamedTuple):
    """Blocks of one stage after another, and their form."""

    blocks: tuple[int, ...]
    width: int = 64
    bottleneck: bool = True
    large_stem: bool = True


_FORMS = {
    "resnet18": _Form((2, 2, 2, 2), bottleneck=False),
    "resnet34": _Form((3, 4, 6, 3), bottleneck=False),
    "resnet50": _Form((3, 4, 6, 3)),
    "resnet101": _Form((3, 4, 23, 3)),
    "resnet152": _Form((3, 8, 36, 3)),
    "resnet_small": _Form((1, 1, 1), 16, bottleneck=False, large_stem=False),
}


def build(parts, images, name, num_classes):
    """Logits of the model `name` for `images`."""
    form = _FORMS[name]
    x = _stem(parts, images, form)
    for stage, blocks in enumerate(form.blocks):
        width = form.width * 2**stage
        for index in range(blocks):
            block = f"stage{stage + 1}_block{index + 1}"
            stride = 2 if stage and not index else 1
            x = _block(parts, x, form, width, stride, block)
    # In float32 from here: 49 values a channel are summed.
    x = parts.layers.GlobalAveragePooling2D(name="pool", dtype="float32")(x)
    return parts.dense(
        x,
        num_classes,
        "logits",
        initializer=parts.normal("logits", 0.01),
        dtype="float32",
    )


def _stem(parts, images, form):
    if not form.large_stem:
        x = parts.convolution(images, form.width, 3, "stem_conv")
        return parts.relu(parts.norm(x, "stem_bn"), "stem_relu")
    padding = parts.settings["padding"]
    explicit = padding in ("paper", "symmetric")
    x = _strided(parts, images, form.width, 7, 2, "stem_conv", explicit)
    x = parts.relu(parts.norm(x, "stem_bn"), "stem_relu")
    if padding == "symmetric":  # after a relu, zeros never are the maximum
        x = parts.layers.ZeroPadding2D(1, name="stem_pool_pad")(x)
    return parts.layers.MaxPooling2D(
        3,
        2,
        padding="valid" if padding == "symmetric" else "same",
        name="stem_pool",
    )(x)


def _block(parts, x, form, width, stride, name):
    """A basic block (3x3, 3x3) or a bottleneck (1x1, 3x3, 1x1)."""
    if form.bottleneck:
        early = parts.settings["version"] == "1.0"
        convolutions = (
            (width, 1, stride if early else 1),
            (width, 3, 1 if early else stride),
            (4 * width, 1, 1),
        )
    else:
        convolutions = ((width, 3, stride), (width, 3, 1))
    explicit = parts.settings["padding"] == "symmetric"
    outputs = convolutions[-1][0]
    shortcut = x
    if stride > 1 or x.shape[-1] != outputs:
        shortcut = parts.convolution(
            x, outputs, 1, f"{name}_shortcut_conv", strides=stride
        )
        shortcut = parts.norm(shortcut, f"{name}_shortcut_bn")
    for number, (filters, size, step) in enumerate(convolutions, 1):
        last = number == len(convolutions)
        x = _strided(
            parts, x, filters, size, step, f"{name}_conv{number}", explicit
        )
        gamma = parts.settings["final_gamma"] if last else 1.0
        x = parts.norm(x, f"{name}_bn{number}", gamma)
        if not last:
            x = parts.relu(x, f"{name}_relu{number}")
    x = parts.layers.Add(name=f"{name}_add")([shortcut, x])
    return parts.relu(x, f"{name}_relu")


def _strided(parts, x, filters, size, stride, name, explicit):
    """A convolution, padded equally on both sides where `explicit`.

    With stride 1, SAME is that already.
    """
    if stride == 1 or size == 1 or not explicit:
        return parts.convolution(x, filters, size, name, strides=stride)
    x = parts.layers.ZeroPadding2D(size // 2, name=f"{name}_pad")(x)
    return parts.convolution(
        x, filters, size, name, strides=stride, padding="valid"
    )
