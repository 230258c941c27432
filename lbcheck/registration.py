"""Makes saved models load: registers the optimizers when Keras is imported.

A saved model names its optimizer, and Keras finds only classes that are
registered. So lbcheck's classes register as soon as both lbcheck and that
Keras are imported, in either order, and no Keras is imported for it.
"""

import importlib
import importlib.abc
import importlib.util
import sys


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


def watch(rooms: dict[str, str]) -> None:
    """Registers now for each Keras that is there, later for the others.

    Args:
        rooms: {name of a Keras: module of `lbcheck` for it}.
    """
    later = {}
    for name, room in rooms.items():
        if hasattr(sys.modules.get(name), "optimizers"):
            importlib.import_module(f"lbcheck.{room}")
        else:
            later[name] = f"lbcheck.{room}"
    sys.meta_path.insert(0, _AfterImport(later))
