"""The `lbcheck` command: codes, output, flagfiles, pipes and Ctrl-C."""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest
from absl import app
from absl import flags

from lbcheck import cli
from lbcheck.support import command
from lbcheck.support import flagfiles
from tests import damage
from tests.report import synthetic_study

LBCHECK = pathlib.Path(sys.executable).with_name("lbcheck")
ENVIRONMENT = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A study's folder."""
    study = synthetic_study.make_study(("adamw", "lamb"), trials=2, seeds=6)
    records = synthetic_study.make_records(study)
    folder = tmp_path_factory.mktemp("study")
    return synthetic_study.write(folder, study, records)


def run(*arguments, **settings):
    return subprocess.run(
        [LBCHECK, *arguments],
        text=True,
        env=ENVIRONMENT,
        timeout=300,
        **{"capture_output": True} | settings,
    )


def shell(line):
    """A line for bash, in which $lbcheck is the command."""
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        capture_output=True,
        text=True,
        env=ENVIRONMENT | {"lbcheck": str(LBCHECK)},
        timeout=300,
    )


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_a_manual(name):
    done = run(name, "--help")
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.startswith(f"`lbcheck {name}`: ")
    assert "Exit code" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["raport"], "lbcheck: .*'raport'; did you mean `lbcheck report`?"),
        (["x"], "lbcheck: unknown command 'x'; expected one of ablate, au"),
        (["\x1b[2J"], r"lbcheck: unknown command '\\x1b\[2J'; expected"),
        (["report"], "lbcheck report: expected the folder of one study"),
        (["study", "state", "."], "expected `status` and the folder of a stu"),
        (["study", "status", "nowhere"], "nowhere: there is no such folder"),
        (["report", ".", "--fromat=json"], "flag 'fromat'. Did you mean: form"),
        (["report", ".", "--format=yaml"], "--format=yaml: value should be on"),
        (["report", "--flagfile"], "--flagfile: expected the name of a file"),
        (["report", "--flagfile=no"], "--flagfile: no: No such file"),
        (["compare", "--target=nan"], "--target=nan: expected a finite number"),
    ],
)
def test_what_is_refused_ends_with_2_and_one_line(arguments, message):
    done = run(*arguments)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1
    pytest.raises(ValueError, _raise, done.stderr).match(message)


def _raise(text):
    raise ValueError(text)


def test_results_as_json(folder):
    found = json.loads(run("report", str(folder), "--format=json").stdout)
    assert found["report"] == str(folder / "report.html")
    assert found["finished"] and found["answer"] in (
        "needed",
        "not needed",
        "undecided",
    )
    assert {row["arm"] for row in found["arms"]} == {"adamw", "lamb"}
    text = (folder / "report.html").read_text()
    assert found["sentence"].partition(". ")[0] in text
    found = json.loads(
        run("study", "--format=json", "status", str(folder)).stdout
    )
    assert (found["done"], found["total"]) == (16, 16)
    assert found["stages"][0] == {
        "arm": "adamw",
        "stage": "broad",
        "finished": 2,
        "diverged": 0,
        "to_do": 0,
    }


@pytest.mark.parametrize(
    ("line", "codes"),
    [
        ("$lbcheck --help | head -1", {0}),
        ("$lbcheck published | head -1", {0}),
        ("$lbcheck study status {} | head -1", {0}),
        ("$lbcheck compare --help | :", {0}),
        ("$lbcheck study status {} >&-", {0}),
        ("$lbcheck report {} --format=json >&- 2>&-", {0}),
        ("$lbcheck study status nowhere 2>&-", {2}),
        ("$lbcheck study status nowhere 2>&1 >/dev/null | :", {2}),
    ],
)
def test_streams_that_are_closed(folder, line, codes):
    done = shell(line.format(folder))
    assert done.returncode in codes
    assert done.stderr == ""


def test_a_stream_that_is_full_says_so(folder):
    done = shell(f"$lbcheck study status {folder} > /dev/full")
    assert done.returncode == 2
    assert done.stderr == "lbcheck study: <stdout>: No space left on device\n"


def test_any_name_in_any_encoding(tmp_path):
    study = synthetic_study.make_study(
        ("lamb", "adamw"), name="日本語 – größer"
    )
    synthetic_study.write(tmp_path, study, [])
    for encoding, shown in (("latin-1", "größer"), ("ascii", r"gr\xf6\xdfer")):
        done = subprocess.run(
            [LBCHECK, "study", "status", tmp_path],
            capture_output=True,
            env=ENVIRONMENT | {"PYTHONIOENCODING": encoding},
        )
        assert done.returncode == 0 and done.stderr == b""
        assert shown in done.stdout.decode(encoding)
        assert r"\u65e5" in done.stdout.decode(encoding)


@pytest.mark.parametrize("arguments", [["compare"], ["report", "nowhere"]])
def test_ctrl_c_at_any_moment_is_one_line(arguments):
    ended = {}
    moments = random.Random(0)
    for _ in range(12):
        process = subprocess.Popen(
            [LBCHECK, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT
            | {"PYTHONPATH": str(pathlib.Path(__file__).parent)},
        )
        time.sleep(moments.uniform(0.25, 0.9))
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert errors.count("\n") <= 1, errors
        ended.setdefault(process.returncode, errors)
    assert set(ended) <= {2, 75, 1, -signal.SIGINT}, ended


# --- flagfiles ------------------------------------------------------------


def defined():
    """Flags as a command has them."""
    values = flags.FlagValues()
    flags.DEFINE_integer("seeds", 1, "", flag_values=values)
    flags.DEFINE_float("margin", None, "", flag_values=values)
    flags.DEFINE_bool("progress", True, "", flag_values=values)
    flags.DEFINE_list("arms", [], "", flag_values=values)
    return values


def parsed(*arguments):
    values = defined()
    rest = command.parse(values, ["program", *map(str, arguments)])
    return values, rest


def test_arms_and_flagfiles_lie_beside_the_flagfile(tmp_path, monkeypatch):
    deep = tmp_path / "deep"
    deep.mkdir()
    (deep / "mine.json").write_text("{}")
    (deep / "theirs.json").write_text("{}")
    (deep / "sizes.flags").write_text("--seeds=7\r\n// a comment\r\n")
    (deep / "all.flags").write_text(
        "\ufeff# arms\n\n  --flagfile=sizes.flags\n-arms=lamb,mine.json,"
        "theirs.json,no.json\n--noprogress"
    )
    for place, beside in ((tmp_path, f"{deep}/mine.json"), (deep, "mine.json")):
        monkeypatch.chdir(place)
        values, rest = parsed("one", f"--flagfile={deep}/all.flags", "two")
        assert rest == ["one", "two"]
        assert values.seeds == 7 and not values.progress
        assert values.arms[0] == "lamb" and values.arms[3] == "no.json"
        assert values.arms[1] == beside
    # What is here goes before what is there.
    monkeypatch.chdir(tmp_path)
    (tmp_path / "theirs.json").write_text("{}")
    values, _ = parsed("--flagfile", deep / "all.flags", "--seeds=9")
    assert values.arms[2] == "theirs.json" and values.seeds == 9


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x89PNG\r\n\x1a\n\x00\xff", "x.flags: expected a flagfile, .*UTF-8"),
        (b"\x00\x01\x02", r"x.flags:1: expected a flag .*'\\x00"),
        (b"seeds=1", "x.flags:1: expected a flag such as .* with 'seeds'"),
        (b"--seeds=1\n--sedes=2", "x.flags:2: Unknown .*mean: seeds"),
        (b"\n--seeds=x", "x.flags:2: flag --seeds=x"),
        (b"--margin=inf", "x.flags:1: .*--margin=inf: expected a finite"),
        (b"--noprogress=1", "x.flags:1: .*noprogress=1 does not take"),
        (b"--flagfile=x.flags", "x.flags: the flagfile includes itself: x.fl"),
        (b"--flagfile=y.flags", "includes itself: x.flags -> y.flags -> x.fl"),
        (b"--flagfile", "x.flags:1: expected --flagfile=FILE"),
        (b"--flagfile=no.flags", "--flagfile: no.flags: No such file"),
        (b"--flagfile=/dev/zero", "--flagfile: /dev/zero: expected a regular"),
        (b"#" * 2**21, "--flagfile: .*x.flags: has 2,097,152 bytes"),
    ],
)
def test_what_is_no_flagfile(tmp_path, monkeypatch, content, message):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("y.flags").write_text("--flagfile=x.flags")
    pathlib.Path("x.flags").write_bytes(content)
    with pytest.raises(app.UsageError, match=message):
        parsed("--flagfile=x.flags")


@damage.EXAMPLES
def test_damaged_flagfiles(tmp_path, examples):
    valid = b"# Comment\n--seeds=3\n--margin=0.5\n--arms=lamb,a.json\n"
    damage.try_reader(
        lambda path: parsed(f"--flagfile={path}"),
        tmp_path / "x.flags",
        damage.damaged_bytes(valid),
        examples,
        (app.UsageError,),
    )
    assert flagfiles.expanded(["--", "--flagfile=no"])[1][1] is None


def test_home_after_an_equals_sign(tmp_path, monkeypatch):
    """Where no shell puts it: a folder named ~ was made."""
    monkeypatch.setenv("HOME", r"/home/a\1")
    (tmp_path / "x.flags").write_text("--arms=~/a.json,lamb\n--data=~\n")
    line = ["--output_dir=~/b", "--title=a ~/b,~c", "~/d", "--regex=~"]
    found = flagfiles.expanded([*line, f"--flagfile={tmp_path / 'x.flags'}"])
    assert [argument for argument, _ in found] == [
        r"--output_dir=/home/a\1/b",
        "--title=a ~/b,~c",
        "~/d",
        r"--regex=/home/a\1",
        r"--arms=/home/a\1/a.json,lamb",
        r"--data=/home/a\1",
    ]


def test_a_tab_in_a_flagfile_is_shown_as_one(tmp_path):
    (tmp_path / "x.flags").write_text("--margin=0.5\t--arms=lamb\n")
    with pytest.raises(app.UsageError) as caught:
        parsed(f"--flagfile={tmp_path / 'x.flags'}")
    assert "x.flags:1: flag --margin=0.5\\t--arms=lamb" in str(caught.value)


# --- modules of the user --------------------------------------------------


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def model(:\n", r"mine.py:1: SyntaxError: "),
        ("x = 1\nimport nothing_of_the_kind\n", "mine.py:2: ModuleNotFound"),
        (
            "\n\nraise RuntimeError('no data')\n",
            "mine.py:3: RuntimeError: no d",
        ),
        ("\ndef model():\n  return 1 / 0\n", "mine.py:3: ZeroDivisionError"),
        ("class model:\n  pass\n", "mine:model"),
    ],
)
@pytest.mark.parametrize("line", ["compare --workload=mine:model"])
def test_an_error_of_the_users_module(tmp_path, code, message, line):
    (tmp_path / "mine.py").write_text(code)
    done = run(*line.split(), cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    pytest.raises(ValueError, _raise, done.stderr).match(message)
