"""tf_keras LossScaleOptimizer: a skipped step counts as an update.

`iterations` grows though nothing is updated, so that the schedule goes on and
Adam corrects a bias that its moments do not have.

    python tf_keras_skipped_steps.py
"""

import numpy as np
import tensorflow as tf
import tf_keras

schedule = tf_keras.optimizers.schedules.PolynomialDecay(
    1.0, decay_steps=2, end_learning_rate=0.0
)
optimizer = tf_keras.mixed_precision.LossScaleOptimizer(
    tf_keras.optimizers.SGD(schedule)
)
variable = tf.Variable([0.0])
for gradient in (np.inf, 1.0):  # the first is skipped; then the rate is 1
    optimizer.apply_gradients([(tf.constant([gradient], tf.float32), variable)])
found = float(variable.numpy()[0])
print("tf_keras:", found, "expected:", -1.0)
print("defect:", abs(found + 1.0) > 1e-3)
