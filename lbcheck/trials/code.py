"""Digests of the code of a user's classes and functions.

They are of the bytecode, since the file may have been edited after it was
loaded, and see what it refers to: other functions and classes of the user's,
constants of the module, defaults and what a closure holds. Libraries count by
name only.
"""

import functools
import hashlib
import importlib.metadata
import pathlib
import sys
import types

_LIBRARIES = ("site-packages", "dist-packages", "<frozen")
"""Parts of the paths of what is not the user's; see also `_is_installed`, for
other folders, such as of `pip install --target`."""
_RECIPE = 2
_CONSTANTS = (int, float, complex, str, bytes, bool, type(None))


def digest(*sources) -> str:
    """Versions and digest, such as "3.11.2:0123456789abcdef".

    The versions are those of Python and of what is looked at here.

    Args:
        *sources: Functions, classes, partial functions, or plain values.

    >>> digest(0.1, "relu") == digest(0.1, "relu")
    True
    >>> digest(0.1, "relu") == digest(0.2, "relu")
    False
    """
    parts = []
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
    value = getattr(value, "__wrapped__", value)
    if isinstance(value, _CONSTANTS):
        parts.append(repr(value))
    elif isinstance(value, (tuple, list)):
        for item in value:
            _collect(item, parts, seen)
    elif isinstance(value, (set, frozenset)):
        parts.append(repr(sorted(map(repr, value))))
    elif isinstance(value, dict):
        for key in sorted(value, key=repr):
            parts.append(repr(key))
            _collect(value[key], parts, seen)
    elif id(value) in seen:
        parts.append("again")
    else:
        seen.add(id(value))
        _collect_object(value, parts, seen)


def _collect_object(value, parts, seen):
    if isinstance(value, functools.partial):
        _collect([value.func, value.args, value.keywords], parts, seen)
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
    elif hasattr(value, "tobytes"):
        parts.append(hashlib.sha256(value.tobytes()).hexdigest())
    elif callable(value) and not _is_library_class(type(value)):
        _collect(type(value), parts, seen)
        _collect_state(value, "__call__", parts, seen)
    else:
        parts.append(type(value).__qualname__)


def _collect_state(owner, method, parts, seen):
    """Adds what a method reads of its object; the rest may change freely."""
    if isinstance(owner, type) or _is_library_class(type(owner)):
        _collect(owner if isinstance(owner, type) else None, parts, seen)
        return
    names, waiting = set(), [method]
    while waiting:
        found = getattr(type(owner), waiting.pop(), None)
        found = getattr(found, "fget", found)  # of a property
        inner = getattr(found, "__code__", None)
        new = _names(inner) - names if inner else set()
        names |= new
        waiting += new
    state = getattr(owner, "__dict__", {})
    for name in sorted(names & state.keys()):
        parts.append(name)
        _collect(state[name], parts, seen)


def _names(code):
    """What a code object and those in it refer to."""
    inner = (c for c in code.co_consts if isinstance(c, types.CodeType))
    return set(code.co_names).union(*map(_names, inner))


def _is_library_class(kind):
    module = sys.modules.get(kind.__module__)
    file = getattr(module, "__file__", None) or ""
    return _in_library(kind.__module__, file)


def _collect_function(function, parts, seen):
    if _in_library(function.__module__, function.__code__.co_filename):
        parts.append(f"{function.__module__}:{function.__qualname__}")
        return
    names = _collect_code(function.__code__, parts, function.__doc__)
    cells = [_content(cell) for cell in function.__closure__ or ()]
    _collect([function.__defaults__, function.__kwdefaults__], parts, seen)
    _collect(cells, parts, seen)
    scope = function.__globals__
    for name in sorted(names & scope.keys()):
        parts.append(name)
        _collect(scope[name], parts, seen)


def _collect_code(code, parts, manual=None):
    """Adds a code object without its lines; the names that it refers to.

    Args:
        manual: The docstring, which is among the constants.
    """
    names = set(code.co_names)
    parts.append(code.co_code.hex())
    parts.append(repr((code.co_names, code.co_varnames, code.co_argcount)))
    for constant in code.co_consts:
        if manual is not None and constant == manual:
            continue
        if isinstance(constant, types.CodeType):
            names |= _collect_code(constant, parts)
        elif isinstance(constant, frozenset):
            parts.append(repr(sorted(map(repr, constant))))
        else:
            parts.append(repr(constant))
    return names


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
    _collect(list(cls.__bases__), parts, seen)


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
        or any(part in filename for part in _LIBRARIES)
        or _is_installed(root)
    )


@functools.cache
def _is_installed(root):
    """Whether pip says of a package or module that it put it where it is."""
    module = sys.modules.get(root)
    places = list(getattr(module, "__path__", None) or ())
    if not places and getattr(module, "__file__", None):
        places = [module.__file__]
    for place in map(pathlib.Path, places):
        for about in place.parent.glob("*.dist-info"):
            files = importlib.metadata.Distribution.at(about).files or ()
            if place.name in {file.parts[0] for file in files}:
                return True
    return False
