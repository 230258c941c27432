"""Digests of a program's source, by which an edit between trials is noticed.

Nothing is imported: each trial is a process, which reads the source anew.
"""

import ast
import contextlib
import hashlib
import importlib.util
import pathlib
import sys
import sysconfig
import warnings
from collections.abc import Mapping

from lbcheck.trials import code

_LIBRARIES = (
    *code.LIBRARIES,
    *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib")),
)


def digests(module: str) -> dict[str, str]:
    """{module: digest} of a program and of what it imports of the user's.

    Import statements are followed wherever they stand. Comments and the
    layout of the lines do not count, nor do libraries, nor lbcheck itself.

    Args:
        module: As after `python -m`.
    """
    found: dict[str, str] = {}
    seen = {""}
    waiting = [module, f"{module}.__main__"]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        waiting.append(name.rpartition(".")[0])  # whose __init__.py runs first
        path = _file(name)
        if path:
            found[name], imported = _read(path, name)
            waiting += imported
    return dict(sorted(found.items()))


def edited(one: Mapping[str, str], other: Mapping[str, str]) -> str | None:
    """The first module of which the other has not the same digest, if any."""
    for name, digest in one.items():
        if name not in other or not code.same(digest, other[name]):
            return name
    return None


def _file(name):
    """The file of a module of the user's; None of any other."""
    *parents, last = name.split(".")
    for folder in map(pathlib.Path, sys.path):
        place = folder.joinpath(*parents)
        for path in (place / last / "__init__.py", place / f"{last}.py"):
            if path.is_file():
                return None if _is_library(path, folder) else path
    return None


def _is_library(path, folder):
    first = path.relative_to(folder).parts[0]
    return (
        first == "lbcheck"
        or any(part in str(path.absolute()) for part in _LIBRARIES)
        or code.put_by_pip(folder / first)
    )


def _read(path, name):
    """The digest of a file, and the modules that its imports name."""
    content = path.read_bytes()
    imported = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(content)
    except (SyntaxError, ValueError):  # the program itself will say so
        tree = None
    if tree:
        content = ast.dump(tree).encode(errors="surrogatepass")
        package = name
        if path.name != "__init__.py":
            package = name.rpartition(".")[0]
        imported = [*_imported(tree, package)]
    version = "{}.{}".format(*sys.version_info)
    return f"{version}:{hashlib.sha256(content).hexdigest()[:16]}", imported


def _imported(tree, package):
    """Names of modules, and of what may be one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            relative = "." * node.level + (node.module or "")
            with contextlib.suppress(ImportError):  # above all packages
                base = importlib.util.resolve_name(relative, package)
                yield base
                yield from (f"{base}.{alias.name}" for alias in node.names)
