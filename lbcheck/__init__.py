"""lbcheck: the large-batch optimizer reality check for Keras.

Names are resolved when they are first used, so importing this package imports
no framework. `lbcheck.LAMB` and the other optimizers belong to the Keras that
`tf.keras` is in this process: Keras 3, or tf_keras where TF_USE_LEGACY_KERAS=1.
"""

import importlib
from typing import TYPE_CHECKING

from lbcheck.support import kerases

if TYPE_CHECKING:
    # What type checkers know of the lazy names; an optimizer is of one Keras
    # or the other, which they cannot know.
    from lbcheck import schedules as schedules
    from lbcheck import verdict as verdict
    from lbcheck.comparison.compare import compare as compare
    from lbcheck.optimizers.audit import audit as audit
    from lbcheck.optimizers.selection import BIAS_AND_NORM as BIAS_AND_NORM
    from lbcheck.search.arm import Arm as Arm
    from lbcheck.trials.workload import Workload as Workload

__version__ = "0.1.0"

_PER_KERAS = (*kerases.OPTIMIZERS, "DiagnosticsCallback")
_MODULES = ("keras3", "rules", "schedules", "tf_keras", "verdict")
_NAMES = {
    "Arm": "lbcheck.search.arm",
    "BIAS_AND_NORM": "lbcheck.optimizers.selection",
    "Workload": "lbcheck.trials.workload",
    "audit": "lbcheck.optimizers.audit",
    "compare": "lbcheck.comparison.compare",
}

# Without the modules: `from lbcheck import *` may not need both Kerases.
__all__ = [*_PER_KERAS, *_NAMES]


def __getattr__(name):
    if name in _MODULES:
        return importlib.import_module(f"lbcheck.{name}")
    if name in _PER_KERAS:
        keras = importlib.import_module(f"lbcheck.{kerases.default()}")
        return getattr(keras, name)
    if name in _NAMES:
        return getattr(importlib.import_module(_NAMES[name]), name)
    raise AttributeError(f"module 'lbcheck' has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *__all__, *_MODULES])


kerases.register_when_imported()
