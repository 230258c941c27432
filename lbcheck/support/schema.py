"""Outside JSON is checked for shape, type and range before anything uses it.

A schema is a type: TypedDicts, lists, dicts, Literals and numbers with ranges
(`Whole`, `Positive`, ..., or Annotated with `msgspec.Meta`). msgspec checks.
"""

import json
import os
import pathlib
import re
import reprlib
from collections.abc import Iterator
from typing import Annotated
from typing import Any

import msgspec

COUNT = 10**9
"""More trials, updates, examples or seeds than this are a mistake."""

Whole = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
"""A whole number from 0 on, such as a seed."""
Index = Annotated[int, msgspec.Meta(ge=0, le=COUNT)]
"""A count from 0 on."""
Count = Annotated[int, msgspec.Meta(ge=1, le=COUNT)]
"""A count from 1 on."""
Number = Annotated[float, msgspec.Meta(ge=-1e300, le=1e300)]
"""A finite number."""
Seconds = Annotated[float, msgspec.Meta(ge=0)]
LONGEST_NAME = 200
"""Characters."""
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_NAME)]
"""A text that is not empty."""

LARGEST_METRIC = 1e100
"""A metric beyond this counts as diverged: its square must be a number."""
_LARGEST_FILE = 2**28
"""Bytes. A study of 10,000 trials has about 2**25."""
_LARGEST_INTEGER = 2**64
_LEVELS = 100
"""Lists and objects in one another, which Python copies by recursion."""
_PATH = re.compile(r"(.*) - at `\$([^`]*)`")


def read(path, kind=Any, limit: int = _LARGEST_FILE) -> Any:
    """The content of a JSON file.

    Args:
        path: The file.
        kind: Type that it must have; keys of a TypedDict beyond those named
            are allowed and kept.
        limit: Most bytes that the file may have.

    Raises:
        OSError: It cannot be read.
        ValueError: Names the file, where in it, what was expected and what
            was received.
    """
    return parse(read_bytes(path, limit), kind, str(path))


def read_lines(path, kind=Any) -> Iterator[tuple[str, Any]]:
    """Yields ("file:line", content) of a file with a JSON object a line.

    Raises:
        OSError: It cannot be read.
        ValueError: As of `read`; also a last line that is cut short.
    """
    lines = read_bytes(path, _LARGEST_FILE).split(b"\n")
    last = lines.pop()
    for number, line in enumerate(lines, 1):
        where = f"{path}:{number}"
        yield where, parse(line, kind, where)
    if last:
        raise ValueError(f"{path}:{len(lines) + 1}: the line is cut short.")


def read_bytes(path, limit: int = _LARGEST_FILE) -> bytes:
    """A regular file's bytes.

    Raises:
        OSError: It is no file, or cannot be read.
        ValueError: It is larger than `limit`.
    """
    path = pathlib.Path(path)
    if path.exists() and not path.is_file() and not path.is_dir():
        raise ValueError(f"{path}: expected a regular file.")
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise ValueError(
                f"{path}: has {size:,} bytes, expected at most {limit:,}."
            )
        return file.read()


def parse(content: bytes | str, kind=Any, where: str = "JSON") -> Any:
    """The content of JSON text; see `read`.

    >>> parse('{"seeds": 1}', dict[str, int])
    {'seeds': 1}
    >>> parse('{"seeds": -3}', dict[str, Count])
    Traceback (most recent call last):
        ...
    ValueError: JSON: [...]: expected `int` >= 1.
    """
    try:
        if isinstance(content, bytes):
            content = content.decode("utf-8-sig")
        value = json.loads(
            content,
            parse_constant=_refuse,
            parse_int=_integer,
            object_pairs_hook=_without_repeats,
        )
    except UnicodeError as error:
        raise ValueError(f"{where}: not UTF-8: {error.reason}.") from error
    except RecursionError as error:
        raise ValueError(f"{where}: nested too deep.") from error
    except json.JSONDecodeError as error:
        line = f", line {error.lineno}" if error.lineno > 1 else ""
        raise ValueError(
            f"{where}: not JSON: {error.msg}{line}, column {error.colno}."
        ) from error
    except ValueError as error:
        raise ValueError(f"{where}: not JSON: {error}.") from error
    return check(value, kind, where)


def check(value: Any, kind, where: str) -> Any:
    """The value itself, if it is of the type.

    Raises:
        ValueError: It is not; says where in it.
    """
    if _is_deep(value):
        raise ValueError(f"{where}: nested too deep.")
    try:
        msgspec.convert(value, kind)
        # No half of a surrogate pair in a text, which no file can hold, and
        # no number such as 1e999.
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8")
    except UnicodeError as error:
        before = error.object[max(0, error.start - 30) : error.start]
        raise ValueError(
            f"{where}: a text has half of a surrogate pair, after "
            f"{shown(before)}."
        ) from error
    except msgspec.ValidationError as error:
        message = _message(str(error), value, kind)
        raise ValueError(f"{where}: {message}.") from error
    except ValueError as error:
        raise ValueError(f"{where}: a number is not finite.") from error
    return value


def shown(value: Any) -> str:
    """A value in a message: short, and nothing that a terminal obeys.

    >>> shown("\\x1b[31m" + 50 * "a")
    "'\\\\x1b[31maaaa...aaaaaaaaaaaaa'"
    """
    return reprlib.repr(value)


def printable(text: str) -> str:
    """A text in which nothing is left that a terminal obeys, but new lines.

    >>> printable("0.5\\t--arms\\x1b[31m")
    '0.5\\\\t--arms\\\\x1b[31m'
    """
    return "".join(
        c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text
    )


def _is_deep(value):
    level = [value]
    for _ in range(_LEVELS):
        level = [
            entry
            for inside in level
            if isinstance(inside, (dict, list))
            for entry in (
                inside.values() if isinstance(inside, dict) else inside
            )
        ]
    return bool(level)


def _message(text, value, kind):
    found = _PATH.fullmatch(text)
    expected, path = found.groups() if found else (text, "")
    steps = re.findall(r"\.([^.\[]+)|\[(\d+|\.\.\.)\]", path)
    if expected.startswith("Invalid enum value"):
        choices = _choices(msgspec.inspect.type_info(kind), steps)
        expected = f"expected one of {', '.join(map(repr, choices))}"
    expected = expected[0].lower() + expected[1:]
    received = value
    for key, index in steps:
        if index == "...":
            break
        received = received[int(index)] if index else received[key]
    else:
        if "missing required" not in expected:
            expected += f", received {shown(received)}"
    return f"{path.removeprefix('.')}: {expected}" if path else expected


def _choices(info, steps):
    """Values of the Literal at a path; steps are (key, "") or ("", index)."""
    match info:
        case msgspec.inspect.UnionType(types=types):
            return [c for inner in types for c in _choices(inner, steps)]
        case msgspec.inspect.Metadata(type=inner):
            return _choices(inner, steps)
        case msgspec.inspect.LiteralType(values=values):
            return values
        case msgspec.inspect.TypedDictType(fields=fields) if steps:
            inner = {field.name: field.type for field in fields}[steps[0][0]]
            return _choices(inner, steps[1:])
        case msgspec.inspect.ListType(item_type=inner) if steps:
            return _choices(inner, steps[1:])
        case msgspec.inspect.DictType(value_type=inner) if steps:
            return _choices(inner, steps[1:])
    return ()


def _refuse(constant):
    raise ValueError(f"{constant} is no number of JSON")


def _without_repeats(pairs):
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"{shown(twice)} appears twice")
    return found


def _integer(text):
    # Before int(), which takes seconds for the longest.
    if len(text) > 20 or abs(number := int(text)) > _LARGEST_INTEGER:
        raise ValueError(f"the number {text[:20]}... is too large")
    return number
