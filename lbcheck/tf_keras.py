"""The optimizers for tf_keras: `from lbcheck.tf_keras import LAMB`."""

import tf_keras

from lbcheck import optimizers
from lbcheck.optimizers import diagnostics
from lbcheck.optimizers import evaluation
from lbcheck.optimizers.tf_keras_adapter import TFKerasOptimizer
from lbcheck.schedules import tf_keras_schedule  # noqa: F401 (registers)

globals().update(
    optimizers.for_keras(
        TFKerasOptimizer,
        tf_keras.utils.register_keras_serializable(package="lbcheck"),
        __name__,
    )
)


class DiagnosticsCallback(
    diagnostics.DiagnosticsWriter, tf_keras.callbacks.Callback
):
    __doc__ = diagnostics.DiagnosticsWriter.__doc__


class EvaluationPoint(
    evaluation.EvaluationPointSwitch, tf_keras.callbacks.Callback
):
    __doc__ = evaluation.EvaluationPointSwitch.__doc__
