"""Ghost batch normalisation as a layer of tf_keras."""

import tensorflow as tf
import tf_keras

from resnet import ghost_batch_norm
from resnet.ghost_batch_norm import tensorflow_kernel


@tf_keras.saving.register_keras_serializable(package="resnet")
class GhostBatchNormalization(ghost_batch_norm.Core, tf_keras.layers.Layer):
    """See `resnet.ghost_batch_norm.Core`."""

    _keras = tf_keras
    _kernel = tensorflow_kernel
    _options = {"experimental_autocast": False}
    _moving_options = {
        "synchronization": tf.VariableSynchronization.ON_READ,
        "aggregation": tf.VariableAggregation.MEAN,
    }
