"""The index of rows: what it covers, differences, and that faults are told."""

import json
import pathlib
import re
import shutil

import pytest
from absl import app

from lbcheck import published
from lbcheck.published import check
from lbcheck.published import differences
from lbcheck.published import flagged
from lbcheck.published import miniature
from lbcheck.published import plans
from lbcheck.published import rows
from lbcheck.support import shipped
from tests.published import published_cli

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture
def changed(tmp_path, monkeypatch):
    """Replaces text in a copy of rows.json, which is then the index."""

    def change(old, new):
        text = pathlib.Path(rows.__file__).with_name("rows.json").read_text()
        assert text.count(old) >= 1, old
        copy = tmp_path / "rows.json"
        copy.write_text(text.replace(old, new, 1))
        monkeypatch.setattr(rows, "INDEX", copy)

    return change


@pytest.fixture
def flag_files(tmp_path, monkeypatch):
    """A copy of flags/ that can be damaged."""
    copy = tmp_path / "flags"
    shutil.copytree(ROOT / "flags", copy)
    monkeypatch.setattr(shipped, "ROOT", tmp_path)
    return copy


def replace(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def faults(name):
    """What the check says of a row, found in its run or its length."""
    row = rows.find(name)
    return [*check._of_run(row), *check._length(row)]


# --- The whole index -------------------------------------------------------


def test_nothing_is_wrong():
    """Every printed row, every file, every flag and every length."""
    code, printed = published_cli.run("--check", "--format=json")
    found = json.loads(printed)
    assert found["problems"] == [] and code == 0
    assert found["tables"] == len(published.index())
    assert found["printed_rows"] > 600 and found["runs"] > 100


def test_every_row_of_the_settings_page_has_a_run():
    """Configurations, Tables 4 and 8, 9 to 23, 7; batches, 344 points."""
    found = rows.load()
    runs = {name for name, row in found.items() if row.no_run is None}
    assert {
        f"nado2021_table5_{n}" for n in ("nesterov_a", "nesterov_b", "lars")
    } <= runs
    assert {f"nado2021_tables9_to_23_{n}" for n in range(9, 24)} <= runs
    for batch in (512, 1024, 2048, 4096, 8192, 16384, 32768):
        assert {f"you2019_table4_{batch}", f"you2019_table5_{batch}"} <= runs
    points = [
        cells
        for n in range(9, 26)
        for cells in found[f"you2019_tables9_to_25_{n}_space"].cells
    ]
    assert len(points) == 344
    eight = [row for row in found.values() if row.table == "nado2021_table8"]
    assert len({row.space for row in eight} - {None}) == 16
    no_run = {row.name for row in found.values() if row.no_run}
    assert sum("table2_lars" in name for name in no_run) == 7  # not published


def test_scores_are_the_tables():
    assert rows.find("nado2021_table4_lamb_lamb").expected() == "27.3"
    assert rows.find("table2_left_lars_2").expected() == "75.69"
    assert rows.find("you2019_table2_lars_32768").expected() == "diverged"
    best = rows.find("you2019_tables9_to_25_22_space")
    assert best.expected() == "0.73065186"
    assert rows.find("you2019_table8_space").expected() == "88.540"
    assert rows.find("table1_lars").expected() == ""


def test_values_of_a_study_are_the_printed_steps_and_not_the_searched():
    settings = rows.find("nado2021_tables9_to_23_10").settings()
    assert settings["train_steps"] == "2658"
    assert settings["exclude_from_weight_decay"] == ""
    space = flagged.space("spaces/nado2021_table10.json")["parameters"]
    assert not {*space, "l2", "l2_on"} & set(settings)


def test_a_switch_is_true_or_false():
    names = ("you2019_table8_warmup_5_rate_1e-4", "nado2021_table7_32k")
    found = [rows.find(name).settings()["bias_correction"] for name in names]
    assert found == ["false", "true"]


# --- Differences -----------------------------------------------------------


def test_table_1_comes_out():
    """LARS against Nesterov B, in the paper's terms, numbers and order."""
    found = differences.compare(
        rows.find("nado2021_table5_nesterov_b"),
        rows.find("nado2021_table5_lars"),
    )
    named = [
        {
            "parameter": line["parameter"],
            "symbol": line["symbol"],
            "nesterov_b": line["a"],
            "lars": line["b"],
        }
        for line in found["differ"]
        if line["symbol"]
    ]
    assert named == published.load("nado2021_table1")["rows"]
    rest = [line for line in found["differ"] if not line["symbol"]]
    assert [line["parameter"] for line in rest] == ["optimizer"]
    assert found["only_a"] == {"l2_on": "kernels"}
    assert found["only_b"] == {"trust_coefficient": 0.001}


def test_differences_are_what_was_changed(flag_files):
    lars = flag_files / "resnet" / "lars.flags"
    replace(lars, "--padding=paper", "--padding=same")
    replace(lars, "--warmup_steps=706", "--warmup_steps=706.0")
    replace(lars, "--momentum=0.929", "--momentum=0.92900")
    one, other = rows.find("table1_lars"), rows.find("table2_left_lars_2")
    found = differences.compare(one, other)
    assert [(n["parameter"], n["a"], n["b"]) for n in found["differ"]] == [
        ("warmup_power", 1, 2),
        ("padding", "same", "paper"),
    ]


@pytest.mark.parametrize(
    "one, other, differ",
    [
        (
            "tables9_to_23_13",
            "tables9_to_23_14",
            {
                "one minus momentum": ("[0.0001, 0.1] log", "[0.005, 0.1] log"),
                "weight_decay": ("[0.0001, 0.1] log", "[0.01, 0.1] log"),
            },
        ),
        (
            "table8_lars_initial",
            "table4_lars",
            {
                "learning_rate": ("[1, 100] log, 10 values", 14.49),
                "l2": ("[1e-05, 0.01] log, 10 values", 0.0001708),
            },
        ),
        (
            "table8_space",
            "you2019_table8_warmup_20_rate_1e-4",
            {
                "warmup_steps": ("{0.05, 0.1, 0.2} x steps", 6250),
                "learning_rate": ("{0.0001, 0.0002, 0.0003}", 0.0001),
                "schedule": ("warmup_polynomial", "original"),
                "train_steps": (31250, 28125),
            },
        ),
    ],
)
def test_what_is_searched_differs_too(one, other, differ):
    found = differences.compare(rows.find(one), rows.find(other))
    assert differ == {
        line["parameter"]: (line["a"], line["b"]) for line in found["differ"]
    }


def test_every_row_can_be_compared():
    known = [row for row in rows.load().values() if row.no_run is None]
    for row in known:
        lines = differences.lines(differences.compare(known[0], row))
        assert all(len(cell) <= 60 for cell in sum(lines, []))


def test_diff_prints_a_line_for_each():
    words = ("diff", "table1_nesterov_b", "table1_lars")
    code, printed = published_cli.run(*words)
    assert code == 0
    assert re.search(
        r"^1?.*one minus momentum +1 - mu +0.02397 +0.071$", printed, re.M
    )
    found = json.loads(published_cli.run(*words, "--format=json")[1])
    assert len(found["differ"]) == 8
    assert len(printed.splitlines()) == 1 + 8 + 2
    same = published_cli.run("diff", "table1_lars", "table5_lars")[1]
    assert "have the same settings" in same
    with pytest.raises(app.UsageError, match="takes two rows; received one"):
        published_cli.run("diff", "one")
    with pytest.raises(app.UsageError, match="lars_512 has no settings: LARS"):
        published_cli.run("diff", "you2019_table2_lars_512", "table1_lars")


# --- A row -----------------------------------------------------------------


def test_a_row_says_all():
    found = json.loads(
        published_cli.run("table4_lamb_lamb", "--format=json")[1]
    )
    assert found["expected"]["score"] == "27.3"
    assert found["expected"]["seeds"] == 5
    assert found["settings"]["dialect"] == "flax"
    assert found["inferred"].startswith("no warm-up")
    (command,) = found["commands"]
    assert command.startswith(
        "python -m resnet.train --flagfile=flags/resnet/table4_lamb_lamb.flags"
    )
    assert found["miniature_settings"]["train_steps"] == "60"
    bert = json.loads(
        published_cli.run("you2019_table1_lamb_512", "--format=json")[1]
    )
    assert ["bert.pretrain" in c for c in bert["commands"]] == [True, False]
    assert "--init_checkpoint=" in bert["commands"][1]
    assert "floor(100,000 B / 65536)" in bert["inferred"]
    one_of_each = {row.table: row for row in rows.load().values()}
    for table, row in one_of_each.items():
        printed = published_cli.run(row.name)[1]
        assert published.index()[table]["source"] in printed
        assert (row.no_run or "In miniature") in printed


def test_unknown_names_get_suggestions():
    with pytest.raises(
        ValueError, match="no published row; .*nado2021_table4_lars"
    ):
        rows.find("table4_lrs")
    with pytest.raises(
        ValueError, match="more than one published row; .*table5_"
    ):
        monkey = {"a_x": 1, "b_x": 2}
        published.named("x", monkey, "row; table5_")
    with pytest.raises(app.UsageError, match="no published row.*table4_lars"):
        published_cli.run("table4_lrs")


# --- Faults are told -------------------------------------------------------


def test_a_damaged_index_is_refused(changed, tmp_path):
    for old, new, message in (
        ('"tables": {', '"tables": [', "not JSON"),
        (
            '"column": "lars"',
            '"column": "adam"',
            "table1: row 'lars': .*no column 'adam'; expected one of parameter",
        ),
        (
            '"score": "nesterov"',
            '"score": 3',
            "table2_left: row 'nesterov_1': score: expected `str`.*got `int`",
        ),
        (
            '{"warmup_power": "1"}',
            '{"warmup_power": "7"}',
            "table2_left: row 'nesterov_1': the table has no row with",
        ),
        (
            '"flags": "resnet/lars.flags"',
            '"flag": "resnet/lars.flags"',
            "row 'lars': unknown flag",
        ),
        (
            '"flags": "resnet/lars.flags"',
            '"column": "lars"',
            'either "flags" or "no_run"',
        ),
        (
            '"flags": "resnet/lars.flags"',
            '"flags": "lars.flags"',
            "a flagfile in one of bert, resnet, squad, received 'lars.flags'",
        ),
        (
            '"nado2021_table1": {',
            '"nado2021_table0": {',
            "no table is called nado2021_table0",
        ),
    ):
        changed(old, new)
        with pytest.raises(ValueError, match=message) as error:
            rows.load()
        assert str(tmp_path / "rows.json") in str(error.value)


def test_a_row_that_nobody_has_is_told(changed):
    changed('"where": {"name": "L2 variables"}', '"where": {"name": "Base"}')
    (problem,) = check._uncovered(rows.load().values())
    assert (
        "nado2021_figure4.csv:7: no row of rows.json has L2 variables"
        in problem
    )


def test_a_file_that_no_row_has_is_told(flag_files):
    shutil.copy(
        flag_files / "resnet/lars.flags", flag_files / "resnet/new.flags"
    )
    shutil.copy(
        flag_files / "spaces/you2019_table7.json",
        flag_files / "spaces/new.json",
    )
    study = flag_files / "study.flags"
    study.write_text("--arms=lars\n")  # of a comparison, not of a run
    found = [*check._unused(rows.load().values())]
    assert [re.search(r"new\.\w+", line)[0] for line in found] == [
        "new.flags",
        "new.json",
    ]


@pytest.mark.parametrize(
    ("row", "file", "old", "new", "message"),
    [
        (
            "table1_lars",
            "resnet/lars.flags",
            "--seed=0",
            "--seed=0\n--beta_1=0.9",
            "--beta_1 does not apply to --optimizer=lars",
        ),
        (
            "table1_lars",
            "resnet/lars.flags",
            "--seed=0",
            "--sed=0",
            "Unknown command line flag 'sed'",
        ),
        (
            "table1_lars",
            "resnet/lars.flags",
            "2512",
            "2500",
            "2500 updates of 32768, expected .*2512 for the 64 epochs",
        ),
        (
            "table1_lars",
            "resnet/lars.flags",
            "=32768",
            "=16384",
            "updates of 16384, expected 5004",
        ),
        (
            "you2019_table7_lamb",
            "resnet/mnist_lamb.flags",
            "epochs=30",
            "epochs=20",
            "1171 updates of 1024, expected 1757",
        ),
        (
            "you2019_table1_lamb_512",
            "bert/you2019_lamb_512.flags",
            "=900000",
            "=900",
            "updates times batch are 51,660,800 sequences, stated",
        ),
        (
            "nado2021_tables9_to_23_21",
            "spaces/nado2021_table21.json",
            '"final_gamma"',
            '"gamma"',
            "Unknown command line flag 'gamma'",
        ),
        (
            "nado2021_tables9_to_23_21",
            "spaces/nado2021_table21.json",
            '"steps": 2512',
            '"steps": 2658',
            "2658 updates of 32768, expected",
        ),
        (
            "nado2021_tables9_to_23_21",
            "spaces/nado2021_table21.json",
            '"min": 1.5',
            '"min": "x"',
            "min",
        ),
    ],
)
def test_a_damaged_file_is_told(flag_files, row, file, old, new, message):
    assert faults(row) == []
    replace(flag_files / file, old, new)
    found = faults(row)
    assert any(re.search(message, line) for line in found), found


def test_a_missing_file_is_told(flag_files, monkeypatch):
    (flag_files / "resnet/lars.flags").unlink()
    assert any(
        "lars.flags: no such file" in line for line in faults("table1_lars")
    )
    shutil.rmtree(flag_files)
    with pytest.raises(ValueError, match="flags: no such file or folder. It"):
        rows.find("table1_lars").settings()


# --- Miniatures ------------------------------------------------------------


def test_a_miniature_keeps_what_the_papers_are_about():
    """By hand: 60 of 2,512 updates, 256 of 32,768 images."""
    row = rows.find("table1_nesterov_b")
    paper = row.settings()
    small = miniature.settings("resnet.train", paper)
    differ = {n: v for n, v in small.items() if paper.get(n) != v}
    assert differ == {
        "data": "digits",
        "model": "resnet_small",
        "train_steps": "60",
        "batch_size": "256",
        "warmup_steps": "17",
        "learning_rate": "0.055078125",
        "final_learning_rate": "4.6875e-08",
        "log_every": "20",
        "checkpoint_every": "20",
    }
    assert float(small["learning_rate"]) == 7.05 * 256 / 32768
    assert set(paper) - set(small) == {
        "preprocessing",
        "resnet_version",
        "evaluate_every",
    }
    lamb = rows.find("you2019_table5_32768").settings()
    assert (
        miniature.settings("resnet.train", lamb)["learning_rate"]
        == lamb["learning_rate"]
    )
    recipe = rows.find("you2019_table3_adam_goyal").settings()
    assert (
        miniature.settings("resnet.train", recipe)["boundaries"] == "20,40,53"
    )


def test_both_phases_shrink_alike():
    paper = rows.find("nado2021_table7_65k_32k").settings()
    small = miniature.settings("bert.pretrain", paper)
    found = [
        small[f"{phase}{name}"]
        for phase in ("", "phase2_")
        for name in (
            "train_steps",
            "warmup_steps",
            "batch_size",
            "beta_1",
            "power",
        )
    ]
    # 60 / 8,599 of the updates, 128 / 65,536 of the records.
    assert found == [
        "49",
        "14",
        "128",
        "0.952378",
        "2.0",
        "11",
        "6",
        "64",
        "0.952647",
        "2.0",
    ]


def test_a_space_shrinks_with_its_run():
    row = rows.find("nado2021_tables9_to_23_21")
    found = miniature.space(flagged.space(row.space), row.settings())
    parameters = found["parameters"]
    assert parameters["learning_rate"] == {"value": 7.05 / 128}
    assert parameters["warmup_steps"] == {
        "value": 638,
        "per": 2512,
        "of": "steps",
    }
    assert parameters["l2"] == {"min": 5e-5, "max": 1e-3, "scale": "log"}
    absolute = {
        "points": "grid",
        "parameters": {"warmup_steps": {"values": [250, 500]}},
    }
    settings = row.settings() | {"train_steps": "3000"}
    found = miniature.space(absolute, settings)
    assert found["parameters"]["warmup_steps"] == {"values": [5, 10]}


def test_plans(tmp_path):
    study = plans.plan(
        rows.find("nado2021_tables9_to_23_21"), "paper", tmp_path
    )
    (command,) = study.commands
    assert "--program=resnet.train" in command and "--trials=15" in command
    arm = json.loads(study.files["nado2021_tables9_to_23_21.json"])
    assert arm["space"] == flagged.space("spaces/nado2021_table21.json")
    with pytest.raises(ValueError, match="lars_512 has no run: LARS was tuned"):
        plans.plan(rows.find("you2019_table2_lars_512"), "mini", tmp_path)
