"""Which Keras is meant, in this process or by an object."""

import os

LIBRARIES = {"tf_keras": "tf_keras", "keras3": "keras"}
"""The Keras itself for each module of this package that is for one."""

OPTIMIZERS = ("Adagrad", "AdamW", "LAMB", "LARS", "Momentum", "Nesterov")


def default() -> str:
    """Module of `lbcheck` for what `tf.keras` is in this process."""
    legacy = os.environ.get("TF_USE_LEGACY_KERAS", "")
    return "tf_keras" if legacy in ("1", "true", "True") else "keras3"


def of(thing) -> str:
    """Module of `lbcheck` for a model, layer or optimizer, or its class."""
    cls = thing if isinstance(thing, type) else type(thing)
    roots = {c.__module__.partition(".")[0] for c in cls.__mro__}
    return "tf_keras" if "tf_keras" in roots else "keras3"
