"""Which Keras is meant, in this process or by an object; and registration.

A saved model names its optimizer, and Keras finds only classes that are
registered. So lbcheck's classes register as soon as both lbcheck and that
Keras are imported, in either order, and no Keras is imported for it.
"""

import contextlib
import importlib
import importlib.abc
import importlib.util
import sys

LIBRARIES = {"tf_keras": "tf_keras", "keras3": "keras"}
"""The Keras itself for each module of this package that is for one."""


def of(thing) -> str:
    """Module of `lbcheck` for a model, layer or optimizer, or its class."""
    cls = thing if isinstance(thing, type) else type(thing)
    roots = {c.__module__.partition(".")[0] for c in cls.__mro__}
    return "tf_keras" if "tf_keras" in roots else "keras3"


@contextlib.contextmanager
def no_tensorflow():
    """Within, Keras 3 does not import TensorFlow if nobody has.

    To write down a configuration it looks whether there is one, which takes
    seconds that a study on another backend has no use for.
    """
    if "tensorflow" in sys.modules or "keras" not in sys.modules:
        yield
        return
    from keras.src.utils import module_utils

    lazy = module_utils.tensorflow
    before, lazy._available = lazy._available, False
    try:
        yield
    finally:
        lazy._available = before


class _AfterImport(importlib.abc.MetaPathFinder):
    """Imports our module after one of `rooms` has been imported."""

    def __init__(self, rooms):
        self._rooms = dict(rooms)

    def find_spec(self, name, path=None, target=None):
        room = self._rooms.pop(name, None)
        if room is None:
            return None
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            importlib.import_module(room)

        spec.loader.exec_module = exec_module
        return spec


def register_when_imported() -> None:
    """Registers now for each Keras that is there, later for the others."""
    later = {}
    for room, name in LIBRARIES.items():
        if hasattr(sys.modules.get(name), "optimizers"):
            importlib.import_module(f"lbcheck.{room}")
        else:
            later[name] = f"lbcheck.{room}"
    sys.meta_path.insert(0, _AfterImport(later))
