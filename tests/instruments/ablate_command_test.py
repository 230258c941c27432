"""`lbcheck ablate` over a program whose active flags are known."""

import json
import re
import subprocess
import sys

import pytest

from lbcheck.instruments import ladder_folder
from lbcheck.programs import command_lines
from lbcheck.programs import program
from tests import programs

FAKE = "tests.instruments.fake_response"
BASE = "--optimizer=lars\n--schedule=constant\n--batch_size=10\n"
BASE += "--learning_rate=1\n--train_steps=3\n"


@pytest.fixture(scope="module")
def arms(tmp_path_factory):
    folder = tmp_path_factory.mktemp("arms")
    (folder / "a.flags").write_text(
        BASE + "--l2=1\n--warmup=1\n--schedule_end=4\n--nesterov=1\n"
        "--seed=9\n--decay=0.0001\n"
    )
    (folder / "b.flags").write_text(
        BASE.replace("rate=1", "rate=1.0") + "--l2=0.5\n--decay=1e-4\n"
    )
    return folder / "a.flags", folder / "b.flags"


def ablate(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "lbcheck", "ablate", *map(str, arguments)],
        cwd=programs.ROOT,
        capture_output=True,
        text=True,
    )


def line_of(arms, folder, *further):
    return (
        *arms,
        f"--program={FAKE}",
        "--metric=accuracy",
        "--margin=0.005",
        "--seeds=6",
        "--together=warmup,schedule_end",
        "--num_workers=4",
        f"--output_dir={folder}",
        *further,
    )


@pytest.fixture(scope="module")
def done(arms, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ladder")
    found = ablate(*line_of(arms, folder))
    assert found.returncode == 0, found.stderr
    return folder, found.stdout


def test_the_needed_flags_are_found(done):
    folder, said = done
    result = json.loads((folder / "result.json").read_text())
    assert result["needed"] == ["l2", "nesterov"] == result["minimal"]
    names = [row["rung"] for row in result["rungs"]]
    assert names == [
        "A",
        "without l2",
        "without warmup+schedule_end",
        "without nesterov",
        "B",
        "A again",
        "minimal",
    ]
    losses = [row["loss"] for row in result["rungs"] if "loss" in row]
    assert losses == pytest.approx([0.03, 0.0, 0.02, 0.0], abs=1e-3)
    assert "Needed of 3 settings" in said and "l2, nesterov" in said
    assert (folder / "ladder.png").stat().st_size > 10_000
    records = (folder / "runs.jsonl").read_text().splitlines()
    assert len(records) == 7 * 6
    seeds = {}
    for record in map(json.loads, records):
        seeds.setdefault(record["arm"], {})[record["index"]] = record["seed"]
    assert seeds["A"] == seeds["without l2"] == seeds["B"]
    assert seeds["A again"] == seeds["minimal"]
    assert not set(seeds["A"].values()) & set(seeds["minimal"].values())


def test_it_goes_on_where_it_was(done, arms):
    folder, said = done
    path = folder / "runs.jsonl"
    whole = path.read_text()
    # A line that was cut short, and one whose run is not there.
    lost = json.loads(whole.splitlines()[-1])
    place = folder / "runs" / lost["arm"] / f"seed-{lost['index']}"
    place.rename(folder / "moved")
    path.write_text(whole[: len(whole) - 20])
    again = ablate(*line_of(arms, folder))
    assert again.returncode == 0, again.stderr
    assert again.stdout == said
    assert len(path.read_text().splitlines()) == len(whole.splitlines())
    other = ablate(*line_of(arms, folder, "--seeds=7"))
    assert other.returncode == 2
    assert "another ladder: seeds is 6 there, 7 here" in other.stderr


@pytest.mark.parametrize(
    "metrics, message",
    [
        ("{}", r"runs.jsonl:1: .*validation"),
        ('{"validation": {"loss": 1}}', "runs.jsonl:1: .*'accuracy'; .* None"),
        ('{"validation": {"accuracy": "x"}}', "runs.jsonl:1: .* 'x'"),
        ('{"validation": {"accuracy": null}}', "runs.jsonl:1: .* None"),
    ],
)
def test_a_damaged_record_is_named(tmp_path, metrics, message):
    (tmp_path / "runs.jsonl").write_text(
        f'{{"arm": "A", "index": 0, "metrics": {metrics}}}\n'
    )
    made = program.Program(FAKE, "fake", (10,), (3,), "accuracy", "max")
    with pytest.raises(ValueError, match=message):
        ladder_folder.LadderFolder(tmp_path, made, None, {}, 0)


def test_an_edit_of_the_program_is_not_mixed_in(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text("RATE = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    made = program.Program("mine", "mine", (10,), (3,), "accuracy", "max")

    def ladder_of_it():
        return ladder_folder.LadderFolder(tmp_path / "x", made, None, {}, 0)

    begun = ladder_of_it()
    (tmp_path / "mine.py").write_text("RATE = 2\n")
    refused = "is of another ladder: code.mine is '3"
    with pytest.raises(ValueError, match=refused):
        begun.score("A", {}, 0)
    with pytest.raises(ValueError, match=refused):
        ladder_of_it()
    (tmp_path / "mine.py").write_text("RATE = 1  # as in the paper\n")
    ladder_of_it()


@pytest.mark.slow
def test_low_can_be_good(done, arms):
    """--metric=loss, of which a low one is better."""
    folder = done[0] / "loss"
    found = ablate(*line_of(arms, folder, "--metric=loss", "--format=json"))
    assert found.returncode == 0, found.stderr
    result = json.loads(found.stdout)
    assert result["mode"] == "min" and result["needed"] == ["l2", "nesterov"]
    first = result["rungs"][0]
    assert first["median"] == pytest.approx(1 - 0.55, abs=1e-3)


def test_dry_run(arms, tmp_path):
    found = ablate(*line_of(arms, tmp_path / "x", "--dry_run"))
    assert found.returncode == 0 and not (tmp_path / "x").exists()
    assert "30 runs of 3 updates, and at least 12" in found.stdout
    line = re.search(r"without nesterov: (.*)", found.stdout)[1]
    assert line.startswith(f"python -m {FAKE} ") and "--l2=1" in line
    assert "nesterov=" not in line and "seed" not in line


@pytest.mark.parametrize(
    "one, other, same",
    [
        ("--ema", "--ema=true", True),
        ("--ema=1", "--ema", True),
        ("--ema=True", "--ema=t", True),
        ("--noema", "--ema=false", True),
        ("--ema=0", "--noema", True),
        ("--ema", "--noema", False),
        ("--ema=true", "--noema", False),
        ("--noema", "--ema=1", False),
        ("--noema", "--noema", True),
        ("--l2=1e-4", "--l2=0.0001", True),
        ("--betas=0.9,0.990", "--betas=.9,.99", True),
        ("--betas=0.9,0.99", "--betas=0.99,0.9", False),
        ("--betas=0.9", "--betas=0.9,0.9", False),
        ("-model=a", "--model=a", True),
        ("--model=a", "--model=b", False),
    ],
)
def test_a_flag_is_compared_by_what_it_means(one, other, same):
    runs = [command_lines.of_run([(word, None)]) for word in (one, other)]
    found, there = command_lines.alike(*runs)
    assert found.keys() == there.keys() and (found == there) is same
    assert [*found.values()] == [one]
    assert [*there.values()] == [one if same else other]


def test_what_begins_with_no_is_a_name_of_its_own():
    runs = {"normalize": "--normalize"}, {"rmalize": "--rmalize=x"}
    assert command_lines.alike(*runs) == runs


def test_a_switch_is_one_flag_in_all_its_spellings(tmp_path):
    written = {"a": "--ema\n--xla\n--l2=0.1\n", "b": "--noema\n--xla=true\n"}
    for name, flags in written.items():
        (tmp_path / f"{name}.flags").write_text(BASE + flags)
    files = [tmp_path / f"{name}.flags" for name in written]
    line = [
        a for a in line_of(files, tmp_path / "x") if "together" not in str(a)
    ]
    found = ablate(*line, "--dry_run")
    assert found.returncode == 0, found.stderr
    rungs = dict(r.split(": ") for r in found.stdout.split("\n\n")[:-1])
    assert [*rungs] == ["A", "B", "without ema", "without l2"]
    told = {name: set(words.split()) for name, words in rungs.items()}
    assert told["A"] - told["without ema"] == {"--ema"}
    assert told["without ema"] - told["A"] == {"--noema"}


@pytest.mark.parametrize(
    "further, message",
    [
        (
            ("--together=l2,nesterov",),
            "without schedule_end, seed 0: .*fake: --warmup needs",
        ),
        (("--margin=0",), "--margin must be above 0, received 0"),
        (("--together=l2,decay",), "'decay' is the same; .* l2, warmup"),
        (
            ("--l2=2", "--nesterov=1", "--warmup=1", "--schedule_end=1"),
            "same settings",
        ),
        (("--batch_size=x",), "--batch_size must be a whole number"),
    ],
)
def test_refused(arms, tmp_path, further, message):
    line = line_of(arms, tmp_path / "x")
    if "l2" in message or "fake" in message:
        line = [a for a in line if not str(a).startswith("--together")]
    found = ablate(*line, *further)
    assert found.returncode == 2
    assert re.search(message, found.stderr), found.stderr


def test_runs_of_one_name_in_two_folders_have_one_batch_size(arms, tmp_path):
    files = [tmp_path / place / "run.flags" for place in ("new", "old")]
    for arm, file in zip(arms, files):
        file.parent.mkdir()
        file.write_text(arm.read_text())
    files[1].write_text(files[1].read_text() + "--batch_size=20\n")
    found = ablate(*line_of(files, tmp_path / "x"), "--dry_run")
    assert found.returncode == 2
    assert "old/run.flags has 3 updates of 20" in found.stderr


def test_a_search_space_is_no_run(arms, tmp_path):
    file = tmp_path / "b.json"
    file.write_text(f'{{"flagfile": "{arms[1]}", "space": {{}}}}')
    found = ablate(*line_of((arms[0], file), tmp_path / "x"), "--dry_run")
    assert found.returncode == 2
    assert "b.json: expected a flagfile" in found.stderr


def test_two_files_are_needed(arms):
    found = ablate(arms[0], f"--program={FAKE}", "--margin=1")
    assert found.returncode == 2
    assert "expected two flagfiles" in found.stderr
