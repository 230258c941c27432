"""keras.optimizers.SGD(momentum): the rate stands inside the momentum buffer.

m = momentum * m - rate * g; w = w + m. When a schedule lowers the rate, old
gradients keep the rate of their time. PyTorch, optax and Nado et al. 2021 have
v = momentum * v + g; w = w - rate * v.

    python keras_sgd_rate_in_buffer.py
"""

import keras
import numpy as np

rates, momentum = (1.0, 0.0), 0.9
variable = keras.Variable(np.zeros(1, "float32"))
optimizer = keras.optimizers.SGD(1.0, momentum=momentum, nesterov=True)
optimizer.build([variable])
outside, buffer = 0.0, 0.0
for rate in rates:
    optimizer.learning_rate = rate
    optimizer.apply([keras.ops.ones(1)], [variable])
    buffer = momentum * buffer + 1.0
    outside -= rate * (momentum * buffer + 1.0)
found = float(keras.ops.convert_to_numpy(variable)[0])
print("Keras:", found, "rate outside:", outside)
print("a rate of 0 moves the weight; defect:", abs(found - outside) > 1e-3)
