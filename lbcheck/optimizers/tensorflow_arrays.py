"""TensorFlow as the array namespace of a rule."""

import tensorflow as tf


class TensorFlowArrays:
    """The functions of `lbcheck.rules.NUMPY` in TensorFlow."""

    sqrt = staticmethod(tf.sqrt)
    square = staticmethod(tf.square)
    abs = staticmethod(tf.abs)
    sign = staticmethod(tf.sign)
    log = staticmethod(tf.math.log)
    expm1 = staticmethod(tf.math.expm1)
    maximum = staticmethod(tf.maximum)
    minimum = staticmethod(tf.minimum)
    where = staticmethod(tf.where)

    @staticmethod
    def norm(array, kind="l2"):
        """Norm over the whole array, as a scalar."""
        if kind == "l2":
            return tf.sqrt(2.0 * tf.nn.l2_loss(array))
        reduce = tf.reduce_sum if kind == "l1" else tf.reduce_max
        return reduce(tf.abs(array))


ARRAYS = TensorFlowArrays()
