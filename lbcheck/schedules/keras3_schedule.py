"""A schedule as the `LearningRateSchedule` of Keras 3."""

import keras

from lbcheck.schedules import keras_schedule


@keras.saving.register_keras_serializable(package="lbcheck")
class KerasSchedule(
    keras_schedule.Adapter, keras.optimizers.schedules.LearningRateSchedule
):
    """See `keras_schedule.Adapter`."""
