"""A schedule as the `LearningRateSchedule` of tf_keras."""

import tf_keras

from lbcheck.schedules import keras_schedule


@tf_keras.saving.register_keras_serializable(package="lbcheck")
class KerasSchedule(
    keras_schedule.Adapter, tf_keras.optimizers.schedules.LearningRateSchedule
):
    """See `keras_schedule.Adapter`."""
