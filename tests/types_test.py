"""Public signatures: annotated throughout, and where `make types` looks."""

import inspect
import pathlib
import re

import lbcheck
from lbcheck import schedules
from lbcheck import verdict

ROOT = pathlib.Path(__file__).resolve().parent.parent


def public():
    """Everything exported, and the classes that it returns."""
    found = [getattr(lbcheck, name) for name in lbcheck._NAMES]
    for room in (schedules, verdict):
        found += [getattr(room, name) for name in room.__all__]
    found = [thing for thing in found if callable(thing)]
    for thing in found:
        for _, function in functions(thing):
            kind = inspect.signature(function).return_annotation
            ours = getattr(kind, "__module__", "").startswith("lbcheck.")
            if isinstance(kind, type) and ours and kind not in found:
                found.append(kind)
    return found


def functions(thing):
    """(name, function) of a function or of a class's own methods."""
    if not isinstance(thing, type):
        yield thing.__name__, thing
        return
    for name, value in vars(thing).items():
        inherited = any(name in vars(base) for base in thing.__mro__[1:-1])
        if name.startswith("_") and name not in ("__init__", "__call__"):
            continue
        if inherited and name != "__init__":
            continue  # with its base's annotations
        value = value.fget if isinstance(value, property) else value
        value = getattr(value, "__func__", value)
        if inspect.isfunction(value):
            yield f"{thing.__name__}.{name}", value


def unannotated():
    for thing in public():
        for name, function in functions(thing):
            signature = inspect.signature(function)
            for argument, parameter in signature.parameters.items():
                if argument in ("self", "cls"):
                    continue
                if parameter.annotation is parameter.empty:
                    yield f"{name}({argument})"
            returns = signature.return_annotation
            if returns is signature.empty and not name.endswith("__init__"):
                yield f"{name}(return)"


def test_public_signatures_are_annotated():
    names = {name for thing in public() for name, _ in functions(thing)}
    assert {"compare", "Comparison.table", "Schedule.__call__"} <= names
    assert not set(unannotated())


def test_make_types_checks_where_public_names_are_defined():
    settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (listed,) = re.findall(r"\[tool\.mypy\]\nfiles = \[(.*?)\]", settings, re.S)
    patterns = re.findall(r'"(.+?)"', listed)
    checked = {path for pattern in patterns for path in ROOT.glob(pattern)}
    assert all(list(ROOT.glob(pattern)) for pattern in patterns)
    defined = {pathlib.Path(inspect.getfile(thing)) for thing in public()}
    missing = {str(p.relative_to(ROOT)) for p in defined - checked}
    assert not missing
