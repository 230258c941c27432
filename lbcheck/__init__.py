"""lbcheck: the large-batch optimizer reality check for Keras.

Names are resolved when they are first used, so importing this package imports
no framework. `lbcheck.LAMB` and the other optimizers belong to the Keras that
`tf.keras` is in this process: Keras 3, or tf_keras where TF_USE_LEGACY_KERAS=1.
"""

import importlib
import os

__version__ = "0.1.0"

_OPTIMIZERS = ("Adagrad", "AdamW", "LAMB", "LARS", "Momentum", "Nesterov")
_MODULES = ("keras3", "rules", "tf_keras")
_NAMES = {
    "BIAS_AND_NORM": "lbcheck.optimizers.selection",
    "audit": "lbcheck.optimizers.audit",
    "DiagnosticsCallback": "lbcheck.optimizers.diagnostics",
}

__all__ = [*_OPTIMIZERS, *_MODULES, *_NAMES]


def _follows_tf_keras() -> bool:
    """What `tf.keras` is: Keras 3 unless TensorFlow is told otherwise."""
    legacy = os.environ.get("TF_USE_LEGACY_KERAS", "").lower()
    return legacy in ("1", "true")


def __getattr__(name):
    if name in _MODULES:
        return importlib.import_module(f"lbcheck.{name}")
    if name in _OPTIMIZERS:
        keras = "tf_keras" if _follows_tf_keras() else "keras3"
        return getattr(importlib.import_module(f"lbcheck.{keras}"), name)
    if name in _NAMES:
        return getattr(importlib.import_module(_NAMES[name]), name)
    raise AttributeError(f"module 'lbcheck' has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *__all__])
