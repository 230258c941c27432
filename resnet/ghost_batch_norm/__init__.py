"""Ghost batch normalisation: batch statistics of small groups.

`of(keras)` gives the layer for a Keras; importing this imports none. The
layer is one core (settings, variables, running statistics) and, for each
Keras, an adapter; the arithmetic is a kernel, for TensorFlow or for any
Keras 3 backend.
"""

import importlib
import numbers

_ROOMS = {"keras": "keras3", "tf_keras": "tf_keras"}


def of(keras):
    """The class `GhostBatchNormalization` of a Keras, registered there.

    Args:
        keras: The module `keras` or `tf_keras`.

    Returns:
        The class; see `Core` for its arguments.

    Example:

        import tf_keras
        from resnet import ghost_batch_norm

        layer = ghost_batch_norm.of(tf_keras)(virtual_batch_size=64)
    """
    root = keras.layers.Layer.__module__.partition(".")[0]
    room = importlib.import_module(f"{__name__}.{_ROOMS[root]}")
    return room.GhostBatchNormalization


class Core:
    """Normalises each group of `virtual_batch_size` examples by itself.

    In training, the examples of a call are cut into contiguous groups g with
    mean m_g and biased variance v_g of each channel, in float32 whatever the
    layer computes in:

        y = gamma * (x - m_g) / sqrt(v_g + epsilon) + beta
        moving_mean = momentum * moving_mean + (1 - momentum) * mean_g(m_g)

    and likewise `moving_variance`, one update a call. Outside training, or
    with `trainable` False, the moving statistics take the place of m_g, v_g
    and any batch size will do. Replicas share no statistics in training.

    Args:
        virtual_batch_size: Examples in a group, at least 1; it must divide
            the batch that one replica sees in a call. None: one group.
        momentum: Kept part of the moving statistics, in [0, 1].
        epsilon: Added to the variance, above 0.
        gamma_initializer: Keras initializer of gamma; beta starts at 0.
        running_variance: "within": mean_g(v_g), as in the paper's code.
            "total": mean_g(v_g + m_g^2) - mean_g(m_g)^2, the variance over
            all groups of the call; of several calls that make one batch
            (microbatches, replicas) the mean of it.
        gamma_regularizer: Keras regularizer or None.
        beta_regularizer: Keras regularizer or None.
        **kwargs: Arguments of any Keras layer, such as `name` and `dtype`.

    Raises:
        ValueError: If a setting is out of range, or the batch is no multiple
            of `virtual_batch_size`; where the batch is unknown as long as
            the graph is built, an `InvalidArgumentError` when it runs.

    Source: Hoffer, Hubara and Soudry 2017, "Train longer, generalize
    better", algorithm 1; statistics as in Nado et al. 2021's code.
    """

    _keras = None
    """The Keras module, set by the adapter."""
    _kernel = None
    """Module with `normalize`, `infer` and `average`, set by the adapter."""
    _options = {}
    """Arguments of `add_weight` against autocast, set by the adapter."""
    _moving_options = {}
    """Further ones for the moving statistics, set by the adapter."""

    def __init__(
        self,
        virtual_batch_size=64,
        momentum=0.9,
        epsilon=1e-5,
        gamma_initializer="ones",
        running_variance="within",
        gamma_regularizer=None,
        beta_regularizer=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if virtual_batch_size is not None and not (
            isinstance(virtual_batch_size, numbers.Integral)
            and virtual_batch_size >= 1
        ):
            raise ValueError(
                f"Layer {self.name!r}: `virtual_batch_size` must be a whole "
                "number of examples, at least 1, or None for one group, "
                f"received {virtual_batch_size!r}."
            )
        if not 0 <= momentum <= 1:
            raise ValueError(
                f"Layer {self.name!r}: `momentum` must be in [0, 1], "
                f"received {momentum!r}."
            )
        if not epsilon > 0:
            raise ValueError(
                f"Layer {self.name!r}: `epsilon` must be above 0, received "
                f"{epsilon!r}."
            )
        if running_variance not in ("within", "total"):
            raise ValueError(
                f"Layer {self.name!r}: `running_variance` must be 'within' "
                f"or 'total', received {running_variance!r}."
            )
        self.virtual_batch_size = virtual_batch_size
        self.momentum = momentum
        self.epsilon = epsilon
        self.running_variance = running_variance
        initializers, regularizers = (
            self._keras.initializers,
            self._keras.regularizers,
        )
        self.gamma_initializer = initializers.get(gamma_initializer)
        self.gamma_regularizer = regularizers.get(gamma_regularizer)
        self.beta_regularizer = regularizers.get(beta_regularizer)
        self.supports_masking = True

    def build(self, input_shape):
        """Makes gamma, beta and the two moving statistics, all float32."""
        channels = input_shape[-1]
        if channels is None:
            raise ValueError(
                f"Layer {self.name!r}: the last axis, the channels, must "
                f"have a known size, received shape {tuple(input_shape)}."
            )
        self.gamma = self._add(
            "gamma", channels, self.gamma_initializer, self.gamma_regularizer
        )
        self.beta = self._add("beta", channels, "zeros", self.beta_regularizer)
        moving = {"trainable": False, **self._moving_options}
        self.moving_mean = self._add("moving_mean", channels, "zeros", **moving)
        self.moving_variance = self._add(
            "moving_variance", channels, "ones", **moving
        )
        self.built = True

    def _add(self, name, channels, initializer, regularizer=None, **options):
        return self.add_weight(
            name=name,
            shape=(channels,),
            initializer=initializer,
            regularizer=regularizer,
            dtype="float32",
            **self._options,
            **options,
        )

    def call(self, inputs, training=None):
        """The normalised inputs; updates the moving statistics in training."""
        if not (training and self.trainable):
            return self._kernel.infer(
                inputs,
                self.gamma,
                self.beta,
                self.moving_mean,
                self.moving_variance,
                self.epsilon,
            )
        batch = inputs.shape[0]
        if batch is not None and batch % (self.virtual_batch_size or 1):
            raise ValueError(
                f"Layer {self.name!r}: virtual_batch_size="
                f"{self.virtual_batch_size} does not divide the {batch} "
                "examples that one replica sees in a call."
            )
        outputs, means, variances = self._kernel.normalize(
            inputs, self.gamma, self.beta, self.virtual_batch_size, self.epsilon
        )
        average = self._kernel.average
        mean, variance = average(means), average(variances)
        if self.running_variance == "total":
            variance += average((means - mean) ** 2)
        self._move(self.moving_mean, mean)
        self._move(self.moving_variance, variance)
        return outputs

    def _move(self, moving, statistic):
        # Linear in the statistic: the mean of the updates of several calls
        # from one start is the update with their mean.
        moving.assign(self.momentum * moving + (1 - self.momentum) * statistic)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        serialize = self._keras.initializers.serialize
        return {
            **super().get_config(),
            "virtual_batch_size": self.virtual_batch_size,
            "momentum": self.momentum,
            "epsilon": self.epsilon,
            "gamma_initializer": serialize(self.gamma_initializer),
            "running_variance": self.running_variance,
            "gamma_regularizer": self._keras.regularizers.serialize(
                self.gamma_regularizer
            ),
            "beta_regularizer": self._keras.regularizers.serialize(
                self.beta_regularizer
            ),
        }
