"""The optimizers for Keras 3: `from lbcheck.keras3 import LAMB`."""

import keras

from lbcheck.optimizers import definitions
from lbcheck.optimizers import diagnostics
from lbcheck.optimizers.keras3_adapter import Keras3Optimizer
from lbcheck.schedules import keras3_schedule  # noqa: F401 (registers)

_register = keras.saving.register_keras_serializable(package="lbcheck")


@_register
class Momentum(definitions.Momentum, Keras3Optimizer):
    __doc__ = definitions.Momentum.__doc__


@_register
class Nesterov(definitions.Nesterov, Keras3Optimizer):
    __doc__ = definitions.Nesterov.__doc__


@_register
class LARS(definitions.LARS, Keras3Optimizer):
    __doc__ = definitions.LARS.__doc__


@_register
class LAMB(definitions.LAMB, Keras3Optimizer):
    __doc__ = definitions.LAMB.__doc__


@_register
class AdamW(definitions.AdamW, Keras3Optimizer):
    __doc__ = definitions.AdamW.__doc__


@_register
class Adagrad(definitions.Adagrad, Keras3Optimizer):
    __doc__ = definitions.Adagrad.__doc__


class DiagnosticsCallback(
    diagnostics.DiagnosticsWriter, keras.callbacks.Callback
):
    __doc__ = diagnostics.DiagnosticsWriter.__doc__
