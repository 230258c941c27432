"""gradient_accumulation_steps: a schedule counts micro-steps, not updates.

`_get_current_learning_rate` asks the schedule at `_iterations`, which counts
calls of `apply`; `iterations` counts updates.

    python keras_accumulation_schedule.py
"""

import keras
import numpy as np

schedule = keras.optimizers.schedules.PolynomialDecay(
    1.0, decay_steps=4, end_learning_rate=0.0
)
variable = keras.Variable(np.zeros(1, "float32"))
optimizer = keras.optimizers.SGD(schedule, gradient_accumulation_steps=2)
optimizer.build([variable])
for _ in range(8):  # four updates with the rates 1, 3/4, 1/2 and 1/4
    optimizer.apply([keras.ops.ones(1)], [variable])
found = float(keras.ops.convert_to_numpy(variable)[0])
print("Keras:", found, "expected:", -2.5)
print("defect:", abs(found + 2.5) > 1e-3)
