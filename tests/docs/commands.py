"""The shell commands of README.md and docs/, as their pages write them."""

import pathlib
import re
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))

_PROGRAMS = ("gcloud", "lbcheck", "make", "pip", "pytest", "python", "python3")
_SHELL = ("", "sh", "bash", "console")
_BLOCK = re.compile(
    # Fenced, at any indentation; else indented after an empty line.
    r"^( *)```(?P<kind>[^\n]*)\n(?P<fenced>.*?)^\1```$"
    r"|(?<=\n\n)(?P<indented>(?:(?: {4}[^\n]*)?\n)+)",
    re.MULTILINE | re.DOTALL,
)
_NOT_RUN = re.compile(r"<!-- not run: ((?:(?!-->).)+) -->$", re.DOTALL)
_EXIT_CODE = re.compile(r"<!-- exit code (\d+): [^<]+ -->$")
# In the text: commands that a reader may copy from there, too.
_INLINE = re.compile(r"`((?:python benchmarks/|pytest |lbcheck )[^`]*)`")


class Command(NamedTuple):
    """A command of a page.

    Attributes:
        page: Name of its file, from the root of the repository.
        text: One line, without prompt and comment.
        reason: Why it is not run, if its block is marked.
        code: Exit code that it is to have.
    """

    page: str
    text: str
    reason: str | None = None
    code: int = 0


def of_text(page: str, text: str) -> list[Command]:
    """The commands in the fenced and indented blocks of a page."""
    found = []
    for block in _BLOCK.finditer(text):
        content = block["fenced"] or block["indented"] or ""
        if block["kind"] is not None and block["kind"].strip() not in _SHELL:
            continue
        before = text[: block.start()].rstrip()
        reason, code = _NOT_RUN.search(before), _EXIT_CODE.search(before)
        found += [
            Command(
                page,
                line,
                reason and " ".join(reason[1].split()),
                int(code[1]) if code else 0,
            )
            for line in _lines(content)
        ]
    return found


def _lines(content):
    """The lines of a block that are commands, joined where continued."""
    for line in re.sub(r"\\\n\s*", "", content).splitlines():
        line = re.sub(r"^\s*(\$ )?|\s+#.*$", "", line)
        program, _, rest = bare(line).partition(" ")
        # `lbcheck report: ..` is a message of the command.
        if program in _PROGRAMS and not re.match(r"\w+:", rest):
            yield line


def bare(line: str) -> str:
    """A command without the environment that is set for it."""
    return re.sub(r"^(?:[A-Z_]+=\S+ )+", "", line)


def inline(page: str, text: str) -> list[Command]:
    """The commands that stand in the text of a page."""
    outside = _BLOCK.sub("", text)
    return [
        Command(page, " ".join(found.split()))
        for found in _INLINE.findall(outside)
    ]


def collected(of=of_text) -> list[Command]:
    """Those of all pages."""
    return [
        command
        for page in PAGES
        for command in of(
            page.relative_to(ROOT).as_posix(),
            page.read_text(encoding="utf-8"),
        )
    ]
