"""keras.optimizers.Lamb: weight decay stands outside the trust ratio.

You et al. 2019, Algorithm 2: u = m / (sqrt(v) + epsilon) + decay * w, and the
step is rate * ||w|| / ||u|| * u, so that decay cannot change its length.

    python keras_lamb_decay.py
"""

import keras
import numpy as np

w, g, rate, decay = np.array([3.0, 4.0]), np.array([0.4, -0.3]), 0.1, 0.1
variable = keras.Variable(w.astype("float32"))
optimizer = keras.optimizers.Lamb(rate, weight_decay=decay, epsilon=1e-12)
optimizer.build([variable])
optimizer.apply([keras.ops.convert_to_tensor(g.astype("float32"))], [variable])
found = keras.ops.convert_to_numpy(variable)
u = np.sign(g) + decay * w  # the first update of Adam is the sign
expected = w - rate * np.linalg.norm(w) / np.linalg.norm(u) * u
print("Keras:", found, "Algorithm 2:", expected)
print("defect:", bool(np.abs(found - expected).max() > 1e-3))
