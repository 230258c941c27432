"""Digests of the code of a user's classes and functions.

They are of the bytecode, since the file may have been edited after it was
loaded, and see what it refers to: other functions and classes of the user's,
constants of the module, defaults and what a closure holds. Libraries count by
name only.
"""

import dis
import functools
import hashlib
import importlib.metadata
import inspect
import pathlib
import sys
import types

import numpy as np

LIBRARIES = ("site-packages", "dist-packages", "<frozen")
"""Parts of the paths of what is not the user's; see also `put_by_pip`, for
other folders, such as of `pip install --target`."""
_RECIPE = 2
_CONSTANTS = (int, float, complex, str, bytes, bool, type(None))


class _Parts(list):
    """What is digested.

    Args:
        data: Whether lists, dicts, arrays and what objects hold count.
    """

    def __init__(self, data: bool):
        super().__init__()
        self.data = data


def digest(*sources, data: bool = True) -> str:
    """Versions and digest, such as "3.11.2:0123456789abcdef".

    The versions are those of Python and of what is looked at here.

    Args:
        *sources: Functions, classes, partial functions, or plain values.
        data: Whether what they refer to counts if it can change: lists,
            dicts, arrays, what objects hold.

    >>> digest(0.1, "relu") == digest(0.1, "relu")
    True
    >>> digest(0.1, "relu") == digest(0.2, "relu")
    False
    """
    parts = _Parts(data)
    seen = set()
    for source in sources:
        _collect(source, parts, seen)
    version = "{}.{}.{}".format(*sys.version_info[:2], _RECIPE)
    content = "\n".join(parts).encode(errors="surrogatepass")
    return f"{version}:{hashlib.sha256(content).hexdigest()[:16]}"


def same(one: str, other: str) -> bool:
    """Whether two digests agree, as far as can be told across versions."""
    if one.partition(":")[0] != other.partition(":")[0]:
        return True  # bytecode differs between them in any case
    return one == other


def _collect(value, parts, seen):
    if isinstance(value, (types.FunctionType, types.MethodType, type)):
        value = getattr(value, "__wrapped__", value)
    if isinstance(value, _CONSTANTS):
        parts.append(repr(value))
    elif isinstance(value, tuple):
        for item in value:
            _collect(item, parts, seen)
    elif isinstance(value, (list, set, frozenset, dict, np.ndarray)):
        if parts.data:
            _collect_data(value, parts, seen)
    elif id(value) in seen:
        parts.append("again")
    else:
        seen.add(id(value))
        _collect_object(value, parts, seen)


def _collect_data(value, parts, seen):
    if isinstance(value, list):
        for item in value:
            _collect(item, parts, seen)
    elif isinstance(value, dict):
        for name, key in sorted((_alone(key), key) for key in value):
            parts.append(name)
            _collect(value[key], parts, seen)
    elif isinstance(value, np.ndarray):
        kind = f"{value.dtype} {value.shape}"
        if value.dtype.hasobject:  # whose bytes are addresses
            _collect([kind, value.ravel().tolist()], parts, seen)
        else:
            content = np.ascontiguousarray(value).view(np.uint8)
            parts.append(f"{kind} {hashlib.sha256(content).hexdigest()}")
    else:
        parts += sorted(map(_alone, value))


def _alone(value):
    """What one value of a set, or a key, is digested to."""
    parts = _Parts(data=True)
    _collect(value, parts, set())
    return "\n".join(parts)


def _collect_object(value, parts, seen):
    if isinstance(value, functools.partial):
        for part in (value.func, *value.args, *value.keywords.items()):
            _collect(part, parts, seen)
    elif isinstance(value, (property, staticmethod, classmethod)):
        inner = getattr(value, "__func__", None) or value.fget
        _collect(inner, parts, seen)
    elif isinstance(value, types.MethodType):
        _collect(value.__func__, parts, seen)
        _collect_state(value.__self__, value.__func__.__name__, parts, seen)
    elif isinstance(value, types.FunctionType):
        _collect_function(value, parts, seen)
    elif isinstance(value, type):
        _collect_class(value, parts, seen)
    elif isinstance(value, np.generic):
        parts.append(repr(value))
    elif callable(value) and not _is_library_class(type(value)):
        _collect(type(value), parts, seen)
        _collect_state(value, "__call__", parts, seen)
    else:
        parts.append(type(value).__qualname__)


def _collect_state(owner, method, parts, seen):
    """Adds what a method reads of its object; the rest may change freely."""
    if isinstance(owner, type):
        _collect(owner, parts, seen)
        return
    if _is_library_class(type(owner)):
        return
    names, waiting = set(), [method]
    while waiting:
        found = inspect.getattr_static(type(owner), waiting.pop(), None)
        found = getattr(found, "fget", found)  # of a property
        if not isinstance(found, types.FunctionType):
            continue
        _collect(found, parts, seen)
        new = _names(found.__code__, "_ATTR", "_METHOD") - names
        names |= new
        waiting += sorted(new)
    state = getattr(owner, "__dict__", {}) if parts.data else {}
    for name in sorted(names & state.keys()):
        parts.append(name)
        _collect(state[name], parts, seen)


def _names(code, *kinds):
    """Names that a code object, and those in it, read by such operations."""
    names = {
        step.argval
        for step in dis.get_instructions(code)
        if step.opname.startswith("LOAD") and step.opname.endswith(kinds)
    }
    inner = (c for c in code.co_consts if isinstance(c, types.CodeType))
    return names.union(*(_names(c, *kinds) for c in inner))


def _is_library_class(kind):
    module = sys.modules.get(kind.__module__)
    file = getattr(module, "__file__", None) or ""
    return _in_library(kind.__module__, file)


def _collect_function(function, parts, seen):
    if _in_library(function.__module__, function.__code__.co_filename):
        parts.append(f"{function.__module__}:{function.__qualname__}")
        return
    _collect_code(function.__code__, parts, function.__doc__)
    keywords = sorted((function.__kwdefaults__ or {}).items())
    cells = [_content(cell) for cell in function.__closure__ or ()]
    for part in (function.__defaults__, *keywords, *cells):
        _collect(part, parts, seen)
    scope = function.__globals__
    names = _names(function.__code__, "_GLOBAL", "_NAME")
    for name in sorted(names & scope.keys()):
        parts.append(name)
        _collect(scope[name], parts, seen)


def _collect_code(code, parts, manual=None):
    """Adds a code object without its lines.

    Args:
        manual: The docstring, which is among the constants.
    """
    parts.append(code.co_code.hex())
    parts.append(repr((code.co_names, code.co_varnames, code.co_argcount)))
    for constant in code.co_consts:
        if manual is not None and constant == manual:
            continue
        if isinstance(constant, types.CodeType):
            _collect_code(constant, parts)
        elif isinstance(constant, frozenset):
            parts.append(repr(sorted(map(repr, constant))))
        else:
            parts.append(repr(constant))


def _collect_class(cls, parts, seen):
    parts.append(f"{cls.__module__}:{cls.__qualname__}")
    if _is_library_class(cls):
        return
    for name, value in sorted(vars(cls).items()):
        if name not in (
            "__dict__",
            "__weakref__",
            "__doc__",
            "__firstlineno__",
        ):
            parts.append(name)
            _collect(value, parts, seen)
    _collect(cls.__bases__, parts, seen)


def _content(cell):
    try:
        return cell.cell_contents
    except ValueError:
        return None  # not yet filled


def _in_library(module, filename):
    root = (module or "").partition(".")[0]
    return (
        root in sys.stdlib_module_names - {"__main__"}
        or root == "lbcheck"
        or any(part in filename for part in LIBRARIES)
        or _is_installed(root)
    )


@functools.cache
def _is_installed(root):
    """Whether pip put a package or module where it was imported from."""
    module = sys.modules.get(root)
    places = list(getattr(module, "__path__", None) or ())
    if not places and getattr(module, "__file__", None):
        places = [module.__file__]
    return any(map(put_by_pip, map(pathlib.Path, places)))


def put_by_pip(place: pathlib.Path) -> bool:
    """Whether pip says of a package's folder or a module that it put it there.

    Args:
        place: The folder, or the module's file.
    """
    for about in place.parent.glob("*.dist-info"):
        files = importlib.metadata.Distribution.at(about).files or ()
        if place.name in {file.parts[0] for file in files}:
            return True
    return False
