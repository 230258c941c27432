"""keras.optimizers.Nadam: the moment decays by beta_1, the correction by mu_t.

Dozat 2016, Algorithm 2: m_t = mu_t m_{t-1} + (1 - mu_t) g_t with the same mu_t
as in the correction, so that m_t / (1 - prod mu) is a mean of the gradients.

    python keras_nadam_average.py
"""

import keras
import numpy as np

variable = keras.Variable(np.zeros(1, "float32"))
optimizer = keras.optimizers.Nadam(1.0, epsilon=1e-12)
optimizer.build([variable])
optimizer.apply([keras.ops.ones(1)], [variable])
found = -float(keras.ops.convert_to_numpy(variable)[0])
mu = [0.9 * (1 - 0.5 * 0.96**t) for t in (1, 2)]
moment = 1 - mu[0]
expected = mu[1] * moment / (1 - mu[0] * mu[1]) + (1 - mu[0]) / (1 - mu[0])
print("Keras:", found, "Algorithm 2:", expected)
print("defect:", abs(found - expected) > 1e-3)
