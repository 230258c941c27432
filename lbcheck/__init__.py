"""lbcheck: the large-batch optimizer reality check for Keras.

Names are resolved when they are first used, so importing this package imports
no framework. `lbcheck.LAMB` and the other optimizers belong to the Keras that
`tf.keras` is in this process: Keras 3, or tf_keras where TF_USE_LEGACY_KERAS=1.
"""

import importlib
import sys

from lbcheck import keras_choice

__version__ = "0.1.0"

_PER_KERAS = (*keras_choice.OPTIMIZERS, "DiagnosticsCallback")
_MODULES = ("keras3", "rules", "tf_keras")
_NAMES = {
    "BIAS_AND_NORM": "lbcheck.optimizers.selection",
    "audit": "lbcheck.optimizers.audit",
}

__all__ = [*_PER_KERAS, *_MODULES, *_NAMES]


def __getattr__(name):
    if name in _MODULES:
        return importlib.import_module(f"lbcheck.{name}")
    if name in _PER_KERAS:
        keras = importlib.import_module(f"lbcheck.{keras_choice.default()}")
        return getattr(keras, name)
    if name in _NAMES:
        return getattr(importlib.import_module(_NAMES[name]), name)
    raise AttributeError(f"module 'lbcheck' has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *__all__])


# A saved model names its optimizer, and Keras finds it only if registered.
for _keras, _room in (("keras", "keras3"), ("tf_keras", "tf_keras")):
    if hasattr(sys.modules.get(_keras), "optimizers"):
        importlib.import_module(f"lbcheck.{_room}")
