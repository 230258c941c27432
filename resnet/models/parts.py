"""The layers that the image models are made of, with the common settings."""

import numbers

from resnet import ghost_batch_norm
from resnet import initializers


class Parts:
    """Makes layers and applies them; see `resnet.models.build`.

    Args:
        keras: The module `keras` or `tf_keras`.
        seed: Seed of the initial weights.
        l2: lambda.
        l2_on: "kernels" or "all".
        settings: The other settings of `build`, by name.
    """

    def __init__(self, keras, seed, l2, l2_on, settings):
        if not l2 >= 0:
            raise ValueError(f"`l2` must be at least 0, received {l2!r}.")
        if not (isinstance(seed, numbers.Integral) and seed >= 0):
            raise ValueError(
                "`seed` must be a whole number of at least 0, received "
                f"{seed!r}."
            )
        self.layers = keras.layers
        self.settings = settings
        self._keras = keras
        self._norm_class = ghost_batch_norm.of(keras)
        self._scaling_class, self._normal_class = initializers.of(keras)
        self._seed = seed
        # Keras's L2(c) is c |w|^2.
        self._on_kernels = keras.regularizers.L2(l2 / 2) if l2 else None
        self._on_others = self._on_kernels if l2_on == "all" else None

    def scaled(self, layer, **options):
        """Initializer of the kernel of a layer; lecun_normal at first."""
        return self._scaling_class(self._seed, f"{layer}/kernel", **options)

    def normal(self, layer, stddev):
        """Initializer of the kernel of a layer: N(0, stddev^2)."""
        return self._normal_class(self._seed, f"{layer}/kernel", stddev)

    def convolution(self, x, filters, size, name, initializer=None, **options):
        """A square convolution, SAME and without bias at first."""
        return self.layers.Conv2D(
            filters,
            size,
            kernel_initializer=initializer or self.scaled(name),
            kernel_regularizer=self._on_kernels,
            bias_regularizer=self._on_others,
            name=name,
            **{"padding": "same", "use_bias": False} | options,
        )(x)

    def norm(self, x, name, gamma=1.0):
        """Ghost batch normalisation."""
        return self._norm_class(
            virtual_batch_size=self.settings["virtual_batch_size"],
            momentum=self.settings["batch_norm_momentum"],
            epsilon=self.settings["batch_norm_epsilon"],
            gamma_initializer=self._keras.initializers.Constant(gamma),
            running_variance=self.settings["running_variance"],
            gamma_regularizer=self._on_others,
            beta_regularizer=self._on_others,
            name=name,
        )(x)

    def relu(self, x, name):
        """max(x, 0)."""
        return self.layers.Activation("relu", name=name)(x)

    def dense(self, x, units, name, initializer=None, **options):
        """A dense layer."""
        return self.layers.Dense(
            units,
            kernel_initializer=initializer or self.scaled(name),
            kernel_regularizer=self._on_kernels,
            bias_regularizer=self._on_others,
            name=name,
            **options,
        )(x)


def check_size(images, name, smallest):
    """Refuses images of which a model would leave nothing.

    Raises:
        ValueError: A side has fewer than `smallest` pixels.
    """
    height, width = images.shape[1:3]
    if any(side is not None and side < smallest for side in (height, width)):
        raise ValueError(
            f"Model {name!r} needs images of at least {smallest} x {smallest} "
            f"pixels; those of the data have {height} x {width}."
        )
