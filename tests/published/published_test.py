"""The published tables: against each other, and the command."""

import csv
import io
import json
import pathlib
import subprocess
import sys

import pytest
from absl import app

from lbcheck import published
from tests.published import published_cli

ROOT = pathlib.Path(__file__).resolve().parents[2]


def rows(name, key):
    return {row[key]: row for row in published.load(name)["rows"]}


def command(*arguments):
    """What `lbcheck published` prints."""
    code, printed = published_cli.run(*arguments)
    assert code == 0
    return printed


def test_every_table_has_its_file_and_its_columns():
    folder = pathlib.Path(published.__file__).parent
    names = {path.stem for path in folder.glob("*.csv")}
    assert names == set(published.index())
    for name in names:
        table = published.load(name)
        with (folder / f"{name}.csv").open(newline="") as file:
            cells = list(csv.reader(file))
        assert cells[0] == list(table["columns"])
        assert {len(row) for row in cells} == {len(table["columns"])}, name
        assert len(table["rows"]) == len(cells) - 1 > 0
        assert table["title"] and table["source"]


def test_what_the_verdict_reads():
    right = rows("table2_right", "optimizer")
    found = {
        name: (row["train_accuracy"], row["test_accuracy"])
        for name, row in right.items()
    }
    assert found == {"Nesterov": (78.97, 75.93), "LARS": (78.07, 75.97)}
    hits = rows("nado2021_target_hits", "configuration")
    counts = {name: (row["hits"], row["runs"]) for name, row in hits.items()}
    assert counts == {
        "LARS": (35, 50),
        "Nesterov A": (34, 50),
        "Nesterov B": (29, 50),
    }


def test_numbers_have_their_types():
    first = published.load("tables9_to_25")["rows"][0]
    assert first == {
        "table": 9,
        "optimizer": "adagrad",
        "schedule": "default",
        "learning_rate": 0.0001,
        "weight_decay": None,
        "l2_regularization": None,
        "top1_accuracy": 0.0026855469,
    }
    assert published.load("you2019_table2")["rows"][-1] == {
        "batch_size": 32768,
        "lars_f1": "diverged",
        "lamb_f1": 91.475,
    }


def test_names_may_leave_the_paper_out():
    assert published.find("table2_left") == "nado2021_table2_left"
    with pytest.raises(ValueError, match="more than one.*nado2021_table5, you"):
        published.find("table5")
    with pytest.raises(ValueError, match="'table99' is no published table"):
        published.load("table99")
    with pytest.raises(ValueError, match="'tabel4' .*of nado2021_table4, "):
        published.load("tabel4")


# --- Tables against tables ------------------------------------------------


def test_tuning_points_of_lamb():
    """344 points; the best of each optimizer is the number of Table 3."""
    points = published.load("you2019_tables9_to_25")["rows"]
    assert len(points) == 344
    counts = [
        sum(point["table"] == table for point in points)
        for table in range(9, 26)
    ]
    assert counts == [27, 27, 11, 19] + [20] * 13
    best = rows("you2019_table3", "optimizer")
    for optimizer in ("adagrad", "adam", "adamw"):
        for schedule, column in (("default", "top1"), ("goyal", "top1_goyal")):
            found = max(
                point["top1_accuracy"]
                for point in points
                if (point["optimizer"], point["schedule"])
                == (optimizer, schedule)
            )
            assert found == pytest.approx(best[optimizer][column], abs=6e-5)


def test_what_is_printed_twice_agrees():
    by_batch = rows("you2019_table4", "batch_size")
    for row in published.load("you2019_table2")["rows"]:
        assert by_batch[row["batch_size"]]["f1"] == row["lamb_f1"]
    for row in published.load("you2019_table1")["rows"]:
        if row["solver"] == "LAMB" and row["batch_size"] in by_batch:
            assert by_batch[row["batch_size"]]["f1"] == row["f1"]
            examples = row["batch_size"] * row["steps"]
            assert examples == 512 * 1_000_000  # a fixed number of epochs
    differing = rows("nado2021_table1", "symbol")
    for symbol, row in rows("nado2021_table5", "symbol").items():
        same = row["nesterov_b"] == row["lars"]
        assert same == (symbol not in differing)
        if not same:
            assert row["nesterov_b"] == differing[symbol]["nesterov_b"]
            assert row["lars"] == differing[symbol]["lars"]


def test_lamb_scales_by_the_square_root():
    for name, at_32k in (("you2019_table4", 5e-3), ("you2019_table5", 4e-2)):
        for row in published.load(name)["rows"]:
            expected = at_32k * (row["batch_size"] / 32768) ** 0.5
            assert row["learning_rate"] == pytest.approx(expected, rel=1e-9)
    for row in published.load("you2019_table4")["rows"]:
        assert row["warmup_ratio"] == row["batch_size"] / 32768 / 5
    for row in published.load("you2019_table5")["rows"]:
        assert row["warmup_epochs"] == 20 * row["batch_size"] / 32768


# --- The command ----------------------------------------------------------


def test_command_lists_every_table():
    lines = command().splitlines()
    assert [line.split()[0] for line in lines] == list(published.index())
    assert max(map(len, lines)) <= 120


def test_command_prints_a_table_as_text():
    printed = command("table2_right")
    lines = printed.splitlines()
    assert "Nado et al. 2021, Table 2 (right)" in lines[0]
    assert lines[2].split() == ["optimizer", "train_accuracy", "test_accuracy"]
    assert lines[4].split() == ["Nesterov", "78.97", "75.93"]
    assert "75.92" in printed  # the doubt is told
    assert lines[-1].strip() == "nado2021_table2_right_lars"
    for name in published.index():
        assert published.load(name)["source"] in command(name)


def test_command_prints_csv_and_json():
    assert json.loads(command("--format=json")) == published.index()
    for name in published.index():
        table = json.loads(command(name, "--format=json"))
        assert table == published.load(name)
        text = command(name, "--format=csv")
        found = list(csv.DictReader(io.StringIO(text)))
        assert len(found) == len(table["rows"])
        assert list(found[0]) == list(table["columns"])
    rows = json.loads(command("rows", "--format=json"))
    text = command("rows", "--format=csv")
    assert [*csv.DictReader(io.StringIO(text))] == [
        {name: value or "" for name, value in row.items()} for row in rows
    ]


def test_command_refuses():
    for arguments, message in (
        (["table99"], "no published table"),
        (["nado_table5"], "expected one of nado2021_table5"),
        (["table2_left", "table2_right"], "takes one table or row"),
        (["--format=csv"], "needs a table"),
    ):
        with pytest.raises(app.UsageError, match=message):
            command(*arguments)


def test_nothing_needs_a_framework():
    code = """
import sys
from lbcheck import published
from tests.published import published_cli
from lbcheck.search import space
space.Space.load(sys.argv[1]).volume()
published.load("nado2021_table5")
heavy = ("tensorflow", "keras", "tf_keras", "scipy", "matplotlib", "optuna")
print([name for name in heavy if name in sys.modules])
"""
    path = ROOT / "flags" / "spaces" / "nado2021_table20.json"
    printed = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    ).stdout
    assert printed.strip() == "[]"
