"""The recipes of docs/contributing.md, followed to the letter in a copy."""

import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import pytest

from tests import programs
from tests.report import synthetic_study

ROOT = pathlib.Path(__file__).resolve().parent.parent
COPIED = ("bert", "docs", "flags", "lbcheck", "resnet", "tests")


def blocks(title):
    """(file that the paragraph before begins with or None, kind, text)."""
    text = (ROOT / "docs/contributing.md").read_text(encoding="utf-8")
    (section,) = re.findall(
        rf"^## {title}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE
    )
    parts = re.split(r"^```(.*)\n", section, flags=re.MULTILINE)
    for before, kind, content in zip(parts[::4], parts[1::4], parts[2::4]):
        paragraph = before.strip().rpartition("\n\n")[2]
        named = re.match(r"`([\w/.]+)`", paragraph)
        yield named and named[1], kind, content


def patched(text, diff):
    """The text with a diff's lines, where those around them stand."""
    for hunk in diff.split("@@\n"):
        lines = hunk.splitlines(keepends=True)
        old = "".join(line[1:] for line in lines if line[0] in " -")
        new = "".join(line[1:] for line in lines if line[0] in " +")
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


class Copy:
    """A copy of the repository that recipes are applied to."""

    def __init__(self, folder):
        self.folder = folder
        for name in COPIED:
            shutil.copytree(
                ROOT / name,
                folder / name,
                ignore=shutil.ignore_patterns("__pycache__"),
            )
        shutil.copy(ROOT / "pyproject.toml", folder)

    def follow(self, title):
        """Writes what a recipe says; returns what its commands print."""
        commands, written = [], []
        for name, kind, content in blocks(title):
            if kind == "sh":
                commands += content.splitlines()
                continue
            assert name, content
            path = self.folder / name
            if kind == "diff":
                content = patched(path.read_text(encoding="utf-8"), content)
            else:
                assert not path.exists(), f"{name} is there already"
            path.write_text(content, encoding="utf-8")
            written += [name] if path.suffix == ".py" else []
        for way in (["check"], ["format", "--check"]):
            ruff = [sys.executable, "-m", "ruff", *way, *written]
            subprocess.run(ruff, cwd=self.folder, check=True)
        return [self.run(command) for command in commands]

    def run(self, command):
        """What a command prints, as the recipes write it."""
        program, *arguments = shlex.split(command)
        if program == "lbcheck":
            arguments = ["-m", "lbcheck", *arguments]
        assert program in ("lbcheck", "python") and arguments[0] == "-m"
        # As on a machine without any data.
        changed = {"LBCHECK_DATA": str(self.folder / "nowhere")}
        started = programs.Program(
            "tests.fresh_program", arguments[1:], self.folder, changed
        )
        said = "".join(started.communicate(timeout=300))
        assert started.returncode == 0, said[-3000:]
        return said


@pytest.fixture
def copy(tmp_path):
    return Copy(tmp_path / "lbcheck")


def test_an_optimizer(copy):
    tested, conform, dry_run = copy.follow("An optimizer")
    assert " passed" in tested
    assert re.search(r"^Signum +paper +lbcheck ", conform, re.MULTILINE)
    assert ": within " in conform
    assert "Signum(weight_decay=0.0, momentum=0.8)" in dry_run


def test_a_schedule(copy):
    tested, dry_run = copy.follow("A schedule")
    assert " passed" in tested
    # 0.2 (40 / t)^(1/2) after 40 updates of warm-up.
    assert "update 40: 0.2 (warm-up ends)\n" in dry_run
    assert "update 100: 0.126491\n" in dry_run


def test_a_workload(copy):
    (dry_run,) = copy.follow("A workload")
    assert "426 training and 143 validation examples" in dry_run
    assert re.search(r"^lamb +20 +10 ", dry_run, re.MULTILINE)


def test_a_published_row(copy):
    tested, dry_run = copy.follow("A published row")
    assert " passed" in tested
    assert "Momentum(" in dry_run and "  --l2=0.0001\n" in dry_run
    # Five epochs of warm-up, ninety in all.
    assert "update 782: 3.2 (warm-up ends)\n" in dry_run


def test_a_figure_of_the_report(copy):
    study = synthetic_study.make_study()
    records = synthetic_study.make_records(study)
    folder = synthetic_study.write(copy.folder / "study", study, records)
    tested, printed = copy.follow("A figure of the report")
    assert " passed" in tested
    assert printed.strip() == "study/report.html"
    page = (folder / "report.html").read_text(encoding="utf-8")
    (figure,) = re.findall(
        r'<figure id="profiles">(.*?)</figure>', page, re.DOTALL
    )
    assert figure.count('<div class="panel">') == 2
    # Four arms on each part, besides the axes.
    assert len(re.findall("var\\(--arm-", figure)) >= 8
