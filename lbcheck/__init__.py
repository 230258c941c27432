"""lbcheck: the large-batch optimizer reality check for Keras.

Names are resolved when they are first used, so importing this package imports
no framework. `lbcheck.LAMB` and the other optimizers belong to the Keras that
`tf.keras` is in this process: Keras 3, or tf_keras where TF_USE_LEGACY_KERAS=1.
"""

import importlib
import os
from typing import TYPE_CHECKING

from lbcheck.support import kerases

if TYPE_CHECKING:
    # What type checkers know of the lazy names; an optimizer is of one Keras
    # or the other, which they cannot know.
    from lbcheck import schedules as schedules
    from lbcheck import theory as theory
    from lbcheck import verdict as verdict
    from lbcheck.comparison.compare import compare as compare
    from lbcheck.optimizers.audit import audit as audit
    from lbcheck.optimizers.evaluation import (
        evaluation_point as evaluation_point,
    )
    from lbcheck.optimizers.selection import BIAS_AND_NORM as BIAS_AND_NORM
    from lbcheck.optimizers.selection import NOT_HIDDEN as NOT_HIDDEN
    from lbcheck.search.arm import Arm as Arm
    from lbcheck.trials.workload import Workload as Workload

__version__ = "0.1.0"

_MODULES = ("keras3", "rules", "schedules", "tf_keras", "theory", "verdict")
_NAMES = {
    "Arm": "lbcheck.search.arm",
    "BIAS_AND_NORM": "lbcheck.optimizers.selection",
    "NOT_HIDDEN": "lbcheck.optimizers.selection",
    "Workload": "lbcheck.trials.workload",
    "audit": "lbcheck.optimizers.audit",
    "compare": "lbcheck.comparison.compare",
    "evaluation_point": "lbcheck.optimizers.evaluation",
}


def default_keras() -> str:
    """Module of this package for what `tf.keras` is in this process."""
    legacy = os.environ.get("TF_USE_LEGACY_KERAS", "")
    return "tf_keras" if legacy in ("1", "true", "True") else "keras3"


def _per_keras():
    optimizers = importlib.import_module("lbcheck.optimizers")
    names = [definition.__name__ for definition in optimizers.ALL]
    return [*names, "DiagnosticsCallback", "EvaluationPoint"]


def __getattr__(name):
    if name in _MODULES:
        return importlib.import_module(f"lbcheck.{name}")
    if name in _NAMES:
        return getattr(importlib.import_module(_NAMES[name]), name)
    if name == "__all__":
        # Not the modules: `from lbcheck import *` may not need both Kerases.
        return [*_per_keras(), *_NAMES]
    if not name.startswith("_") and name in _per_keras():
        keras = importlib.import_module(f"lbcheck.{default_keras()}")
        return getattr(keras, name)
    raise AttributeError(f"module 'lbcheck' has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *__getattr__("__all__"), *_MODULES])


kerases.register_when_imported()
