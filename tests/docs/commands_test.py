"""Commands of README.md and docs/: all parse, and those that can be are run.

A command is run here for real where that takes seconds, and by `-m slow` where
it needs a framework; what trains is run with --dry_run. A page says of all
others why they are not: `<!-- not run: the reason -->` before the block.
"""

import copy
import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest
from absl import flags

from lbcheck import cli
from lbcheck.support import flagfiles
from tests.docs import commands

ROOT = commands.ROOT
ALL = commands.collected()
INLINE = commands.collected(commands.inline)

QUICK = re.compile(
    r"lbcheck (--help|figure|judge|published(?! run)|report|schedule|"
    r"reproductions (list|tables))"
    r"|python -m bert\.schedule\b"
)
SLOW = re.compile(r"lbcheck |python -m (resnet|bert)\.")
# Measurements (`make bench` runs them), and what changes the environment or
# would start these tests again (`.ci/run` gives these commands).
ELSEWHERE = re.compile(
    r"python benchmarks/|pytest |python -m pytest |pip |make "
)
FOLLOWED = "docs/contributing.md"
"""Its recipes are followed to the letter by tests/contributing_test.py."""

MODULE = """
import lbcheck


def make_schedule():
    return lbcheck.schedules.PolynomialWarmupDecay(0.0, 0.1, 0.0, 1406, 14063)


def build_model():
    import keras

    layers = keras.layers
    model = keras.Sequential([layers.Input((8,)), layers.Dense(2)])
    model.compile(loss="mse")
    return model
"""


def runnable(pattern):
    """Commands that match, are not marked and are no recipe; each once."""
    found = {
        command.text: command
        for command in ALL
        if pattern.match(commands.bare(command.text))
        and command.reason is None
        and command.page != FOLLOWED
    }
    return [
        pytest.param(command, id=command.text[:60])
        for command in found.values()
    ]


def program_flags(module):
    """The flags of `python -m module`, or of a command's module."""
    return importlib.import_module(module).FLAGS


def check_flags(words, owners, whole=True):
    """Parses words as one of the owners has them, as the programs do.

    Args:
        words: Arguments, flagfiles included.
        owners: Flags of the command, and of the program that it runs.
        whole: Whether it is all of a command; else only names are checked.
    """
    given = [[] for _ in owners]
    for argument, where in flagfiles.expanded(words):
        if not argument.startswith("-") or argument == "--help":
            continue
        name = argument.lstrip("-").partition("=")[0]
        places = [
            i
            for i, owner in enumerate(owners)
            if name in owner or name.removeprefix("no") in owner
        ]
        assert places, f"{where or 'command line'}: no flag {argument}"
        given[places[0]].append(argument)
    for owner, arguments in zip(owners, given):
        if whole:
            copy.deepcopy(owner)(["docs", *arguments])


def check_files(words):
    """Files of the repository that a command names are there."""
    for word in words:
        for name in re.split("[=,]", word):
            if re.match(r"(flags|docs|benchmarks|tests)/[\w/.-]+$", name):
                assert (ROOT / name).exists(), name


def check_benchmark(words):
    """Its flags are defined in the file."""
    known = (ROOT / words[0]).read_text(encoding="utf-8")
    for word in words[1:]:
        name, _, value = word.partition("=")
        if name == "--program":
            of_program = [*program_flags(value), "flagfile"]
            known += "".join(f'"{flag}"' for flag in of_program)
        assert name[:2] != "--" or f'"{name[2:]}"' in known, word


def check_tests(words):
    """Its files are there and -k selects something of them."""
    files = [word for word in words if word.startswith("tests/")]
    text = "".join((ROOT / file).read_text("utf-8") for file in files)
    if "-k" in words:
        for name in re.findall(r"\w+", words[words.index("-k") + 1]):
            assert name in text or name in ("and", "or", "not"), name


def check_targets(words):
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for word in words:
        assert f"\n{word}:" in makefile, word


def check_extras(words):
    setup = (ROOT / "setup.py").read_text("utf-8")
    for extra in re.findall(r"^\.\[(\w+)\]$", "\n".join(words), re.MULTILINE):
        assert f'"{extra}": ' in setup, extra


def check(command, whole=True):
    """Refuses a command that does not parse."""
    words = shlex.split(commands.bare(command.text))
    if command.reason:  # its flagfile may be one of the reader's
        words = [w for w in words if not re.match("--flagfile=(?!flags/)", w)]
    check_files(words)
    if words[0] == "lbcheck":
        if len(words) == 1 or words[1].startswith("--"):
            return
        owners = [program_flags(cli.COMMANDS[words[1]][0])]
        found = re.search(r"--program[= ]([\w.]+)", command.text)
        for argument, _ in flagfiles.expanded(words[2:]):
            found = found or re.match(r"--program=([\w.]+)", argument)
        owners += [program_flags(found[1])] if found else []
        check_flags(words[2:], owners, whole)
    elif words[0] == "make":
        check_targets(words[1:])
    elif words[0] == "pip":
        check_extras(words)
    elif words[0] == "pytest":
        check_tests(words[1:])
    elif words[:3] == ["python", "-m", "pytest"]:
        check_tests(words[3:])
    elif words[:2] == ["python", "-m"]:
        check_flags(words[3:], [program_flags(words[2])])
    elif words[0] == "python":
        check_benchmark(words[1:])
    else:
        assert command.reason, "neither checked here nor marked"


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    """Flagfiles name files from there."""
    monkeypatch.chdir(ROOT)


def test_every_command_parses():
    # Those of recipes are parsed where they are followed.
    for command in ALL:
        if command.page == FOLLOWED:
            continue
        try:
            check(command)
        except (AssertionError, KeyError, ValueError, flags.Error) as error:
            pytest.fail(f"{command.page}: {command.text}\n{error!r}")


def test_commands_in_the_text_have_the_flags_that_they_name():
    for command in INLINE:
        try:
            check(command, whole=False)
        except (AssertionError, KeyError, ValueError, flags.Error) as error:
            pytest.fail(f"{command.page}: {command.text}\n{error!r}")


def test_every_command_is_run_or_says_why_not():
    for command in ALL:
        assert (
            command.reason
            or command.page == FOLLOWED
            or ELSEWHERE.match(commands.bare(command.text))
            or SLOW.match(commands.bare(command.text))
        ), command


@pytest.mark.parametrize(
    "text",
    [
        "lbcheck compare --flagfile=flags/no.flags",
        "lbcheck compare --workload=a:b --trails=3",
        "lbcheck compare --workload=a:b --trials=many",
        "lbcheck compare --program=resnet.train --momentum=0.9 --epsilonn=1",
        "lbcheck raport my_study",
        "lbcheck published --format=yaml",
        "python -m resnet.train --flagfile=flags/quick.flags",
        "python -m resnet.trian",
        "python benchmarks/no.py",
        "python benchmarks/study.py --trails=3",
        "pytest tests/cli_test.py -k no_such_test",
        "make tset",
        "pip install '.[tensorflwo]'",
        "conda install lbcheck",
    ],
)
def test_a_wrong_command_is_noticed(text):
    with pytest.raises((AssertionError, ImportError, KeyError, flags.Error)):
        check(commands.Command("page.md", text))


def test_blocks_are_found_as_they_are_rendered():
    page = """Text

    lbcheck published \\
        table4   # a comment

1. A list

    ```sh
    $ lbcheck figure
    ```

<!-- not run: minutes -->

    make run

```text
lbcheck judge
```

<!-- exit code 1: undecided -->
```
X=1 lbcheck report a
lbcheck report: a message
```
"""
    assert commands.of_text("p", page) == [
        commands.Command("p", "lbcheck published table4"),
        commands.Command("p", "lbcheck figure"),
        commands.Command("p", "make run", "minutes"),
        commands.Command("p", "X=1 lbcheck report a", None, 1),
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A reader's folder, with the records that the pages speak of."""
    folder = tmp_path_factory.mktemp("reader")
    shutil.copytree(ROOT / "docs", folder / "docs")
    shutil.copytree(ROOT / "lbcheck/figures/miniatures", folder / "records")
    (folder / "flags").symlink_to(ROOT / "flags")
    shutil.copytree(ROOT / "docs/do_i_need_lamb", folder / "records/quick")
    (folder / "my").mkdir()
    (folder / "my/module.py").write_text(MODULE)
    rates = (f"{t},{0.1 * min(t / 781, (1562 - t) / 781)}" for t in range(1562))
    log = "\n".join(["step,learning_rate", *rates])
    (folder / "training_log.csv").write_text(log + "\n")
    return folder


def run(command, folder, *more):
    """What a command does there, with its environment and exit code."""
    bare = commands.bare(command.text)
    given = command.text.removesuffix(bare).split()
    program, *words = shlex.split(bare)
    start = {"lbcheck": ["-m", "lbcheck"], "python": []}[program]
    return subprocess.run(
        [sys.executable, *start, *words, *more],
        cwd=folder,
        env=os.environ
        | {"PYTHONPATH": f"{ROOT}:{folder}", "LBCHECK_DATA": "nowhere"}
        | dict(pair.split("=", 1) for pair in given),
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("command", runnable(QUICK))
def test_quick_commands_run(command, folder):
    done = run(command, folder)
    assert done.returncode == command.code, done.stderr[-2000:]


def test_the_walk_through_prints_what_its_page_says(folder):
    name = "docs/did_my_change_help.md"
    page = (ROOT / name).read_text("utf-8")
    judged = [c for c in ALL if c.page == name and not c.reason]
    printed = re.findall(r"```text\n(.+?)```", page, re.DOTALL)
    assert len(judged) == len(printed) == 3
    for command, expected in zip(judged, printed):
        done = run(command, folder)
        assert done.stdout.startswith(expected.rstrip()), done.stdout


def slow():
    return [
        param
        for param in runnable(SLOW)
        if not QUICK.match(commands.bare(param.values[0].text))
    ]


@pytest.mark.slow
@pytest.mark.parametrize("command", slow())
def test_slow_commands_run(command, folder):
    """As they are, or with --dry_run where they would train."""
    words = commands.bare(command.text).split()
    known = program_flags(
        cli.COMMANDS[words[1]][0] if words[0] == "lbcheck" else words[2]
    )
    trains = "dry_run" in known and "--dry_run" not in words
    done = run(command, folder, *(["--dry_run"] if trains else []))
    assert done.returncode == command.code, done.stderr[-3000:]
