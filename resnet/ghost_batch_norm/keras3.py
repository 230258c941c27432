"""Ghost batch normalisation as a layer of Keras 3, on any backend."""

import keras

from resnet import ghost_batch_norm

if keras.backend.backend() == "tensorflow":
    from resnet.ghost_batch_norm import tensorflow_kernel as kernel
else:
    from resnet.ghost_batch_norm import ops_kernel as kernel


@keras.saving.register_keras_serializable(package="resnet")
class GhostBatchNormalization(ghost_batch_norm.Core, keras.layers.Layer):
    """See `resnet.ghost_batch_norm.Core`."""

    _keras = keras
    _kernel = kernel
    _options = {"autocast": False}
