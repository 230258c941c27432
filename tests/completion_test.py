"""The scripts of `lbcheck completion`, tried by the shells themselves."""

import pathlib
import shlex
import shutil
import subprocess

import pytest
from absl import app

from lbcheck import cli
from lbcheck import completion

ASK = r"""
source completion.bash
COMP_LINE=$1 COMP_POINT=${#1}
COMP_WORDS=($1) COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
compopt() { echo "compopt $*"; }
function_of=$(complete -p lbcheck); function_of=${function_of##*-F }
${function_of% *}
printf '%s\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the three scripts and two files."""
    folder = tmp_path_factory.mktemp("completion")
    found = completion.commands()
    for shell, script in completion._SCRIPTS.items():
        (folder / f"completion.{shell}").write_text(script(found) + "\n")
    (folder / "runs.csv").write_text("")
    (folder / "quick.flags").write_text("")
    return folder


def bash(folder, line):
    """What bash offers at the end of a line."""
    done = subprocess.run(
        ["bash", "--norc", "-c", ASK, "ask", line],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    return done.stdout.split("\n")[:-1]


def test_commands(folder):
    assert bash(folder, "lbcheck ") == [*cli.COMMANDS]
    assert bash(folder, "lbcheck comp") == ["compare", "completion"]


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("lbcheck compare --works", [""]),
        ("lbcheck compare --trial", ["compopt -o nospace", "--trials="]),
        ("lbcheck compare --seeds=3 --nodry", ["--nodry_run"]),
        ("lbcheck compare --mode=", ["max", "min"]),
        ("lbcheck compare --mode=ma", ["max"]),
        ("lbcheck report --mode=qui", ["quick.flags"]),
        ("lbcheck compare --arms=lamb,adamw,lar", ["lamb,adamw,lars"]),
        ("lbcheck compare --flagfile=qu", ["quick.flags"]),
        ("lbcheck judge ru", ["runs.csv"]),
        ("lbcheck published di", ["diff"]),
        ("lbcheck study st", ["status"]),
        ("lbcheck reproductions ver", ["verify"]),
        ("lbcheck nonsense --", [""]),
    ],
)
def test_flags_values_and_files(folder, line, offered):
    assert bash(folder, line)[: len(offered)] == offered


def test_every_flag_of_every_command_is_offered(folder):
    for name, found in completion.commands().items():
        offered = bash(folder, f"lbcheck {name} --")
        typed = {completion._typed(flag) for flag in found}
        assert set(offered) == typed, name
        assert {"--flagfile=", "--help"} <= typed


def test_bash_itself_knows_the_function(folder):
    """As a key press would, not by a call of the function."""
    done = subprocess.run(
        ["bash", "--norc", "-ic", "source completion.bash; complete -p"],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert "complete -o filenames -F _lbcheck lbcheck" in done.stdout


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_accept_theirs(folder, shell):
    script = (folder / f"completion.{shell}").read_text()
    for name, found in completion.commands().items():
        assert name in script
        assert all(flag.name in script for flag in found)
    if shell == "zsh":
        # What bash can say of it: that all quotes end.
        assert shlex.split(script, comments=True)
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    file = str(pathlib.Path(folder, f"completion.{shell}"))
    done = subprocess.run([shell, "-n", file], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    if shell == "fish":
        line = f"source {file}; complete -C 'lbcheck compare --mode='"
        done = subprocess.run(["fish", "-c", line], capture_output=True)
        assert {b"--mode=max", b"--mode=min"} <= set(done.stdout.split())


def test_another_shell_is_refused():
    with pytest.raises(app.UsageError, match="bash, zsh, fish, received tcsh"):
        completion.main(["tcsh"])
