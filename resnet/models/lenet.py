"""LeNet-5 with rectified linear units and max-pooling, and two wider forms.

Source: LeCun, Bottou, Bengio and Haffner 1998, "Gradient-based learning
applied to document recognition" (61,706 parameters on MNIST); the wider forms
have the sizes of Caffe's example (431,080) and of the TensorFlow MNIST
tutorials (3,274,634).
"""

from resnet.models.parts import check_size

_FORMS = {
    "lenet5": ((6, "same"), (16, "valid"), (120, 84)),
    "lenet_caffe": ((20, "valid"), (50, "valid"), (500,)),
    "lenet_wide": ((32, "same"), (64, "same"), (1024,)),
}
"""Filters and padding of both convolutions, units of the dense layers."""


def build(parts, images, name, num_classes):
    """Logits of the model `name` for `images`."""
    *convolutions, units = _FORMS[name]
    smallest = 1
    for _, padding in reversed(convolutions):
        smallest = 2 * smallest + (4 if padding == "valid" else 0)
    check_size(images, name, smallest)
    x = images
    for index, (filters, padding) in enumerate(convolutions, 1):
        x = parts.convolution(
            x, filters, 5, f"conv{index}", use_bias=True, padding=padding
        )
        x = parts.relu(x, f"conv{index}_relu")
        x = parts.layers.MaxPooling2D(2, name=f"conv{index}_pool")(x)
    x = parts.layers.Flatten(name="flatten")(x)
    for index, width in enumerate(units, 1):
        x = parts.dense(x, width, f"dense{index}", activation="relu")
    return parts.dense(x, num_classes, "logits", dtype="float32")
