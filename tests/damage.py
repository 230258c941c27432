"""Damaged files for hypothesis, and what every reader of a file must do.

A reader may read what still makes sense, or refuse it with an error that
names the file. It never fails otherwise, hangs, or takes much memory.
"""

import contextlib
import copy
import json
import pathlib
import resource
import signal

import hypothesis
import pytest
from hypothesis import strategies as st

SECONDS = 10
BYTES = 2**30
_LIMITS = (signal.SIGPROF, signal.SIGALRM)

EXAMPLES = pytest.mark.parametrize(
    "examples", [300, pytest.param(3000, marks=pytest.mark.slow)]
)
"""How many damaged files a test tries."""

_RAW = "@@raw@@"
"""Stands in a JSON document for a text that `json.dumps` cannot write."""
_RAW_VALUES = (
    "NaN",
    "Infinity",
    "-Infinity",
    "1e999",
    "-1e308",
    "-0.0",
    "1" + "0" * 30,
    "9" * 5000,
    "-" + "9" * 4300,
    "[" * 100_000 + "]" * 100_000,
    '{"a":' * 50_000 + "1" + "}" * 50_000,
    '"\\ud800"',
    '"\\u0000"',
    '"\x00"',
    "",
)
_VALUES = (
    None,
    True,
    False,
    0,
    1,
    -1,
    -3,
    0.5,
    1e300,
    10**9,
    10**12,
    2**63,
    2**70,
    "",
    "sideways",
    "os:system",
    "x" * 10_000,
    "\x1b[31m\x1b]0;title\x07",
    "../../x",
    "=cmd|' /C calc'!A0",
    "<script>alert(1)</script>",
    "{0.__class__}",
    "日本語 \u202e",
    [],
    [None],
    [[]],
    [1, "a"],
    list(range(1000)),
    {},
    {"a": None},
    {"": 1},
)


@st.composite
def damaged_bytes(draw, valid: bytes):
    """Bytes of a valid file with one to three damages."""
    found = bytearray(valid)
    for _ in range(draw(st.integers(1, 3))):
        start, end = sorted(draw(st.integers(0, len(found))) for _ in range(2))
        match draw(st.sampled_from("flip cut drop double insert nul".split())):
            case "flip" if start < len(found):
                found[start] ^= draw(st.integers(1, 255))
            case "cut":
                del found[start:]
            case "drop":
                del found[start:end]
            case "double":
                found[start:start] = found[start:end]
            case "insert":
                found[start:start] = draw(st.binary(min_size=1, max_size=20))
            case "nul":
                found[start:end] = bytes(end - start)
    return bytes(found)


@st.composite
def damaged_json(draw, valid):
    """Bytes of the JSON document of a value that is damaged in structure.

    Values of another type, size or sign, missing and extra keys, deep
    nesting, texts that no file or terminal should see.
    """
    root, raw = [copy.deepcopy(valid)], []
    for _ in range(draw(st.integers(1, 3))):
        _damage(draw, *draw(st.sampled_from(_places(root))), raw)
    text = json.dumps(root[0])
    for value in raw:
        text = text.replace(f'"{_RAW}"', value, 1)
    return text.encode()


@st.composite
def damaged_lines(draw, valid: list):
    """Bytes of a file with a JSON value a line, some of it damaged."""
    lines = [json.dumps(value).encode() + b"\n" for value in valid]
    for _ in range(draw(st.integers(1, 2))):
        number = draw(st.integers(0, len(lines) - 1)) if lines else 0
        match draw(st.sampled_from("json bytes double drop swap cut".split())):
            case "json" if lines:
                value = valid[number % len(valid)]
                lines[number] = draw(damaged_json(value)) + b"\n"
            case "bytes" if lines:
                lines[number] = draw(damaged_bytes(lines[number]))
            case "double":
                lines[number:number] = lines[number : number + 1]
            case "drop":
                del lines[number : number + 1]
            case "swap":
                lines.reverse()
            case "cut" if lines:
                end = draw(st.integers(0, len(lines[-1])))
                lines[-1] = lines[-1][:end]
    return b"".join(lines)


def _places(root):
    """Every (container, key) of a document."""
    places, waiting = [], [root]
    while waiting:
        inside = waiting.pop()
        keys = inside if isinstance(inside, dict) else range(len(inside))
        for key in keys:
            places.append((inside, key))
            if isinstance(inside[key], (dict, list)):
                waiting.append(inside[key])
    return places


def _damage(draw, inside, key, raw):
    kinds = "near near near value value raw delete key many".split()
    match draw(st.sampled_from(kinds)):
        case "near" if _is_number(inside[key]):
            inside[key] = draw(st.sampled_from(_near(inside[key])))
        case "near" if isinstance(inside[key], str):
            texts = [text for text in _VALUES if isinstance(text, str)]
            inside[key] = draw(st.sampled_from(texts))
        case "delete" if isinstance(inside, dict):
            inside.pop(key, None)
        case "key" if isinstance(inside, dict):
            name = draw(st.sampled_from(["", "extra", "\x1b[2J", "a" * 500]))
            inside[name] = inside.get(key)
        case "many" if isinstance(inside[key], list):
            inside[key] *= draw(st.sampled_from([0, 2, 50]))
        case "raw":
            inside[key] = _RAW
            raw.append(draw(st.sampled_from(_RAW_VALUES)))
        case _:
            inside[key] = copy.deepcopy(draw(st.sampled_from(_VALUES)))


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _near(number):
    """Numbers of the same type that a reader may well accept."""
    if isinstance(number, int):
        return [0, 1, 2, number - 1, number + 1, 10 * number, -number]
    factors = (1e-300, 1e-12, 1e6, 1e99, -1.0)
    return [0.0, 5e-324, 1e100, *(factor * number for factor in factors)]


def try_reader(
    read,
    path: pathlib.Path,
    damaged: st.SearchStrategy[bytes],
    examples: int,
    refusals=(ValueError, OSError),
) -> None:
    """Has a reader read damaged files; fails unless it does as it must.

    Args:
        read: Function of the path.
        path: Where each damaged file is written.
        damaged: Contents of the file.
        examples: Number of files.
        refusals: Errors that it may raise; they must name the file.
    """

    @hypothesis.settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(content=damaged)
    def one(content):
        path.write_bytes(content)
        with limited():
            try:
                read(path)
            except refusals as error:
                message = str(error)
                assert path.name in message, message[:500]
                assert message.isprintable(), repr(message[:500])
                assert len(message) < 2000, message[:500]

    one()


@contextlib.contextmanager
def limited():
    """A context that may take `SECONDS` and `BYTES`, in the main thread."""
    limits = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + BYTES

    def late(number, frame):
        raise AssertionError(f"no end after {SECONDS} s of processor time")

    # Of this process's work, as other tests share the machine; what only
    # waits ends too.
    before = [signal.signal(number, late) for number in _LIMITS]
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.setitimer(signal.ITIMER_REAL, 10 * SECONDS)
    resource.setrlimit(resource.RLIMIT_AS, (most, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in zip(_LIMITS, before):
            signal.signal(number, handler)
