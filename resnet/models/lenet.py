"""LeNet-5 with rectified linear units and max-pooling, and a wider form.

Source: LeCun, Bottou, Bengio and Haffner 1998, "Gradient-based learning
applied to document recognition" (61,706 parameters on MNIST); the wider form
is that of the TensorFlow MNIST tutorials (3,274,634).
"""

_FORMS = {"lenet5": ((6, 16), (120, 84)), "lenet_wide": ((32, 64), (1024,))}
_PADDINGS = {"lenet5": ("same", "valid"), "lenet_wide": ("same", "same")}


def build(parts, images, name, num_classes):
    """Logits of the model `name` for `images`."""
    filters, units = _FORMS[name]
    x = images
    for index, (width, padding) in enumerate(zip(filters, _PADDINGS[name]), 1):
        x = parts.convolution(
            x, width, 5, f"conv{index}", use_bias=True, padding=padding
        )
        x = parts.relu(x, f"conv{index}_relu")
        x = parts.layers.MaxPooling2D(2, name=f"conv{index}_pool")(x)
    x = parts.layers.Flatten(name="flatten")(x)
    for index, width in enumerate(units, 1):
        x = parts.dense(x, width, f"dense{index}", activation="relu")
    return parts.dense(x, num_classes, "logits", dtype="float32")
