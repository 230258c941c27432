"""The optimizers for tf_keras: `from lbcheck.tf_keras import LAMB`."""

import tf_keras

from lbcheck.optimizers import definitions
from lbcheck.optimizers import diagnostics
from lbcheck.optimizers.tf_keras_adapter import TFKerasOptimizer
from lbcheck.schedules import tf_keras_schedule  # noqa: F401 (registers)

_register = tf_keras.utils.register_keras_serializable(package="lbcheck")


@_register
class Momentum(definitions.Momentum, TFKerasOptimizer):
    __doc__ = definitions.Momentum.__doc__


@_register
class Nesterov(definitions.Nesterov, TFKerasOptimizer):
    __doc__ = definitions.Nesterov.__doc__


@_register
class LARS(definitions.LARS, TFKerasOptimizer):
    __doc__ = definitions.LARS.__doc__


@_register
class LAMB(definitions.LAMB, TFKerasOptimizer):
    __doc__ = definitions.LAMB.__doc__


@_register
class AdamW(definitions.AdamW, TFKerasOptimizer):
    __doc__ = definitions.AdamW.__doc__


@_register
class Adagrad(definitions.Adagrad, TFKerasOptimizer):
    __doc__ = definitions.Adagrad.__doc__


class DiagnosticsCallback(
    diagnostics.DiagnosticsWriter, tf_keras.callbacks.Callback
):
    __doc__ = diagnostics.DiagnosticsWriter.__doc__
