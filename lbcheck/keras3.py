"""The optimizers for Keras 3: `from lbcheck.keras3 import LAMB`."""

import keras

from lbcheck import optimizers
from lbcheck.optimizers import diagnostics
from lbcheck.optimizers import evaluation
from lbcheck.optimizers.keras3_adapter import Keras3Optimizer
from lbcheck.schedules import keras3_schedule  # noqa: F401 (registers)

globals().update(
    optimizers.for_keras(
        Keras3Optimizer,
        keras.saving.register_keras_serializable(package="lbcheck"),
        __name__,
    )
)


class DiagnosticsCallback(
    diagnostics.DiagnosticsWriter, keras.callbacks.Callback
):
    __doc__ = diagnostics.DiagnosticsWriter.__doc__


class EvaluationPoint(
    evaluation.EvaluationPointSwitch, keras.callbacks.Callback
):
    __doc__ = evaluation.EvaluationPointSwitch.__doc__
