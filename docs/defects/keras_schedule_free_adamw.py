"""keras.optimizers.ScheduleFreeAdamW on TensorFlow: beta_1 has no effect.

`momentum_old = momentum.value` is the variable itself there, so that z is read
after it has moved. On jax, whose arrays do not change, beta_1 has its effect.

    python keras_schedule_free_adamw.py
    KERAS_BACKEND=jax python keras_schedule_free_adamw.py
"""

import keras
import numpy as np


def trained(beta_1):
    """A weight after 10 updates with turning gradients."""
    variable = keras.Variable(np.ones(3, "float32"))
    optimizer = keras.optimizers.ScheduleFreeAdamW(0.1, beta_1=beta_1)
    optimizer.build([variable])
    gradients = np.random.default_rng(0).normal(size=(10, 3)).astype("float32")
    for gradient in gradients:
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [variable])
    return keras.ops.convert_to_numpy(variable)


results = [trained(beta_1) for beta_1 in (0.5, 0.9)]
print(keras.backend.backend(), *results)
same = bool(np.allclose(*results, atol=1e-5))
print("expected two results; defect:", same)
