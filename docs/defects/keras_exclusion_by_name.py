"""exclude_from_weight_decay(var_names=[layer]) depends on the backend.

The pattern is searched in `variable.name`, the last part of the path, but on
TensorFlow that of the tf.Variable inside, which is the whole path. So a layer's
name excludes its variables on TensorFlow and nothing elsewhere.

    KERAS_BACKEND=jax python keras_exclusion_by_name.py
"""

import keras
import numpy as np

model = keras.Sequential(
    [keras.layers.Input((3,)), keras.layers.LayerNormalization(name="norm")]
)
optimizer = keras.optimizers.AdamW(0.1, weight_decay=0.5)
optimizer.exclude_from_weight_decay(var_names=["norm"])
model.compile(optimizer, "mse")
zeros = np.zeros((8, 3), "float32")
model.fit(zeros, zeros, batch_size=8, verbose=0)  # no gradient: only decay
gamma = keras.ops.convert_to_numpy(model.layers[0].gamma)
print(keras.backend.backend(), "norm/gamma:", gamma, "expected: ones")
print("defect:", bool((gamma != 1.0).any()))
