"""`lbcheck judge`: tables of runs, and what is refused of them."""

import json
import subprocess
import sys

import numpy as np
import pytest

from lbcheck import verdict
from lbcheck.verdict import run_tables

_GENERATOR = np.random.default_rng(4)
RUNS = {
    "muon": (0.93 + 0.001 * _GENERATOR.normal(size=20)).tolist(),
    "adamw": (0.91 + 0.001 * _GENERATOR.normal(size=20)).tolist(),
    "sgd": (0.90 + 0.001 * _GENERATOR.normal(size=20)).tolist(),
}


def csv_of(runs, header="arm,seed,accuracy"):
    rows = [
        f"{arm},{seed},{'' if value is None else repr(value)}"
        for arm, values in runs.items()
        for seed, value in enumerate(values)
    ]
    return "\n".join([header, *rows]) + "\n"


def jsonl_of(runs):
    return "".join(
        json.dumps({"arm": arm, "seed": seed, "accuracy": value}) + "\n"
        for arm, values in runs.items()
        for seed, value in enumerate(values)
    )


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "lbcheck", "judge", *map(str, arguments)],
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("form", [csv_of, jsonl_of])
def test_it_is_the_verdict_of_compare_arms(form, tmp_path):
    runs = RUNS | {"sgd": [None, *RUNS["sgd"][1:]]}
    path = tmp_path / "runs"
    path.write_text(form(runs))
    printed = run(path, "--challengers=muon", "--margin=0.005", "--format=json")
    assert (printed.returncode, printed.stderr) == (0, "")
    expected = verdict.compare_arms(runs, ["muon"], margin=0.005)
    assert json.loads(printed.stdout) == expected.to_dict()
    assert expected.answer == "needed"


def test_sides_text_and_exit_codes(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text(csv_of(RUNS))
    printed = run(path, "--challengers=adamw", "--baselines=muon")
    assert printed.returncode == 0
    assert printed.stdout.startswith("Not needed: muon is better than adamw")
    assert "sgd    -           validation    20" in printed.stdout
    few = {arm: values[:5] for arm, values in RUNS.items()}
    path.write_text(csv_of(few))
    printed = run(path, "--challengers=muon")
    assert printed.returncode == 1
    assert printed.stdout.startswith("Undecided (1 more seed)")
    printed = run(path, "--challengers=lars")
    assert printed.returncode == 2
    assert "challengers has ['lars']" in printed.stderr
    printed = run(path, "--challengers=muon,adamw,sgd")
    assert (printed.returncode, printed.stdout) == (2, "")
    assert "must leave an arm" in printed.stderr


def test_a_target_is_shown_with_how_many_runs_reach_it(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text(csv_of({"a": [0.9] * 14 + [0.8] * 6, "b": [0.7] * 20}))
    asked = (path, "--challengers=a", "--margin=0.005")
    printed = run(*asked, "--target=0.9")
    lines = printed.stdout.splitlines()
    # Clopper and Pearson 1934: 0.457 to 0.881, and 1 - 0.025**(1/20) = 0.168.
    (a,), (b,) = ([x for x in lines if x.startswith(f"{n}  ")] for n in "ab")
    assert a.endswith("14 of 20 [46%, 88%]")
    assert b.endswith("0 of 20 [0%, 17%]")
    assert "hits" not in run(*asked).stdout
    printed = run(*asked, "--target=95")
    assert printed.returncode == 2
    assert "give both as fractions, or both as per cent" in printed.stderr


def test_test_data_are_judged_and_trials_show_the_search(tmp_path):
    path = tmp_path / "runs.csv"
    rows = [
        f"{arm},{seed},{part},,{value + off}"
        for arm, values in RUNS.items()
        for seed, value in enumerate(values)
        for part, off in (("validation", 0.05), ("test", 0.0))
    ]
    # One lucky trial of each challenger, which half of the searches miss.
    trials = {
        "muon": [0.8] * 9 + [0.93],
        "adamw": [0.8] * 10,
        "sgd": [0.7] * 10,
    }
    rows += [
        f"{arm},0,validation,{trial},{value}"
        for arm, values in trials.items()
        for trial, value in enumerate(values)
    ]
    text = "\n".join(["arm,seed,part,trial,accuracy", *rows])
    path.write_text(text)
    printed = run(path, "--challengers=muon", "--margin=0.005", "--format=json")
    assert (printed.returncode, printed.stderr) == (1, "")
    found = json.loads(printed.stdout)
    assert (found["answer"], found["doubt"]) == ("undecided", "search")
    assert found["search_share"] == pytest.approx(0.5)
    assert [pair["part"] for pair in found["pairs"]] == ["test"] * 2 + [
        "validation"
    ] * 2
    expected = verdict.compare_arms(
        None,
        ["muon"],
        test=RUNS,
        searched=trials,
        margin=0.005,
    )
    assert found["arms"][0] == expected.to_dict()["arms"][0]
    assert found["pairs"][0] == expected.to_dict()["pairs"][0]
    # A trial that ran with several seeds is one, by their median.
    more = [
        f"{arm},{seed},validation,{trial},{value + (seed - 1) * 1e-4}"
        for arm, values in trials.items()
        for trial, value in enumerate(values)
        for seed in (0, 1, 2)
    ]
    head, *rows = text.splitlines()
    judged = [row for row in rows if not row.split(",")[3]]
    path.write_text("\n".join([head, *judged, *more]))
    printed = run(path, "--challengers=muon", "--margin=0.005", "--format=json")
    assert json.loads(printed.stdout) == found
    # Without the trials nothing speaks against it.
    path.write_text("\n".join([head, *judged]))
    printed = run(path, "--challengers=muon", "--margin=0.005")
    assert printed.returncode == 0
    assert "Needed: muon beats adamw and sgd in test accuracy" in printed.stdout


@pytest.mark.parametrize(
    "given, message",
    [
        ({"validation": None}, "test or validation is needed"),
        (
            {"validation": RUNS, "test": {"muon": [0.5]}},
            "validation has .'adamw', 'sgd'.; expected arms of test",
        ),
        (
            {"validation": RUNS, "searched": {"lamb": [0.5]}},
            "searched has .'lamb'.; expected arms of validation",
        ),
    ],
)
def test_parts_that_do_not_fit(given, message):
    with pytest.raises(ValueError, match=message):
        verdict.compare_arms(challengers=["muon"], **given)


def test_the_report_has_what_the_runs_show(tmp_path):
    path, page = tmp_path / "runs.csv", tmp_path / "page.html"
    path.write_text(csv_of(RUNS | {"sgd": [None, *RUNS["sgd"][1:]]}))
    printed = run(
        path, "--challengers=muon", "--margin=0.005", f"--report={page}"
    )
    assert (printed.returncode, printed.stderr) == (0, "")
    text = page.read_text()
    assert printed.stdout.splitlines()[0] in text.replace(
        ' <span class="rest">', " "
    ).replace("</span>", "")
    for name in ("difference", "arms", "pairs", "differences", "seeds"):
        assert f'id="{name}"' in text
    for name in ("budget", "best-points", "rates", "schedules", "search trial"):
        assert name not in text
    assert "19 of 20" in text and "lbcheck judge" in text


def test_parts_steps_and_what_diverged(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text(
        "\ufeffseed, arm ,part,step,val_loss,note\r\n"
        "0,a,validation,20,0.5,x\r\n"
        "0,a,validation,10,0.9,x\r\n"
        '1,a,validation,20,nan,"x, y"\r\n'
        "\r\n"
        "0,a,training,20,0.4,x\r\n"
        "0,b,validation,20,1e300,x\r\n"
    )
    found = run_tables.read(path, "val_loss")
    assert found.runs == {
        "validation": {"a": [0.5, None], "b": [None]},
        "training": {"a": [0.4]},
    }
    assert not found.notes
    path.write_text(
        '{"arm": "a", "seed": 0, "step": 9, "loss": NaN, "x": "\u2028"}\r\n'
        '{"arm": "a", "seed": 1, "step": 750, "loss": 0.5}\n'
        '{"arm": "b", "seed": 1, "step": 1000, "loss": Infinity}\n'
        '{"arm": "b", "seed": 2, "step": 1000, "loss": 0.5}\n'
    )
    found = run_tables.read(path, "loss")
    assert found.runs["validation"] == {"a": [None, 0.5], "b": [None, 0.5]}
    assert "The runs end after 750 to 1000 steps." in found.notes[0]


def test_what_is_empty_before_the_last_step_was_not_measured(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text(
        "arm,seed,step,acc\na,0,1,\na,0,2,0.5\na,1,1,0.5\na,1,2,nan\na,2,2,\n"
    )
    assert run_tables.read(path).runs == {
        "validation": {"a": [0.5, None, None]}
    }


def test_parts_are_measured_at_steps_of_their_own(tmp_path):
    path = tmp_path / "runs.csv"
    rows = [
        f"{arm},0,{part},{step},0.5"
        for arm in "ab"
        for part, step in (("training", 1000), ("validation", 800))
    ]
    head = "arm,seed,part,step,acc"
    path.write_text("\n".join([head, *rows]))
    assert not run_tables.read(path).notes
    path.write_text("\n".join([head, *rows, "b,1,validation,400,0.5"]))
    (note,) = run_tables.read(path).notes
    assert "end after 400 to 800 steps" in note


@pytest.mark.parametrize("none", ["null", "NaN", '""', '"nan"', '"None"'])
def test_no_trial_is_no_trial_however_it_is_written(none, tmp_path):
    path = tmp_path / "runs.jsonl"
    row = '{"arm": "a", "seed": 0, "trial": %s, "acc": %s}\n'
    path.write_text(row % (none, 0.5) + row % (3, 0.4))
    found = run_tables.read(path)
    assert found.runs == {"validation": {"a": [0.5]}}
    assert found.searched == {"a": [0.4]}


def test_a_page_does_not_replace_the_runs(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text(csv_of(RUNS))
    for page, told in ((path, "is a file of runs"), ("", "has no name")):
        printed = run(path, "--challengers=muon", f"--report={page}")
        assert printed.returncode == 2 and told in printed.stderr
    assert path.read_text() == csv_of(RUNS)


@pytest.mark.parametrize("text, message", [
    ("", "has no row"),
    ("arm,seed,accuracy\n", "has no row"),
    ("arm,accuracy\na,0.5\n", "has no column 'seed'"),
    ("arm,seed,accuracy\na,0\n", r"runs:2: has 2 cells, expected 3"),
    ("arm,seed,accuracy\na,0,0.5\na,0,0.6\n", "runs:3: .* stands in .*runs:2"),
    ("arm,seed,accuracy\na,0,good\n", "runs:2: 'accuracy' must be a number"),
    ("arm,seed,accuracy\na,0,1_0\n", "received '1_0'"),
    ("arm,seed,accuracy\n,0,0.5\n", "runs:2: expected the arm"),
    ("arm,seed,part,loss\na,0,holdout,1\n", "part must be one of"),
    ("arm,seed,part,loss\na,0,training,1\n", "no run of part 'validation' or"),
    ("arm,seed,step,loss\na,0,nan,1\n", "step must be a number"),
    ("arm,seed,loss,loss\na,0,1,1\n", "name comes twice"),
    ("arm,seed,a,b\na,0,1,1\n", "name one of its columns by --metric"),
    ('{"arm": "a", "seed": 0, "loss": [1]}\n', "runs:1: 'loss' must be"),
    ('{"arm": null, "seed": 0, "loss": 1}\n', "expected the arm"),
    ('{"arm": "a"\n', "runs:1"),
    ('{"arm": "a", "seed": 0, "loss": 1}\n{"arm": "a", "seed": 1}\n',
     "runs:2: has no 'loss'"),
    ("arm,seed,loss\n" + "".join(f"a,{i},1\n" for i in range(1001)),
     "has 1,001 runs"),
    ("arm,seed,loss\n" + "".join(f"{i},0,1\n" for i in range(101)),
     "has 101 arms"),
    ("\0", "no UTF-8 text"),
    ("arm,seed,loss\na,1,0.5\na,1.0,0.5\n", "runs:3: .* stands in"),
    ("arm,seed,loss\na,nan,0.5\na,nan,0.5\n", "runs:3: .* stands in"),
    ("arm,seed,loss\na,0,0.5\na,00,0.5\n", "runs:3: .* stands in"),
    ("arm,seed,loss\n\x1b[31m,1,0.5\n", "control characters: '.x1b"),
    ("arm;seed;loss\na;1;0,5\n", "separated by ';'; expected"),
    ('[{"arm": "a"}]', "is a JSON list; expected"),
    ("arm,seed,accuracy\na,1,0.76\nb,1,75\n", "all as per cent"),
    ("arm,seed,part,acc\na,1,validation,0.76\na,1,training,97\n",
     "at most 0.76 on validation, and about 97 on training"),
    ("arm,seed,step,loss\na,0,1,0.5\na,0,2,\n", "runs:3: .* write nan where"),
    ("arm,seed,acc\x1b[31m\na,1,0.5\n", "metric's name has control .*x1b"),
])  # fmt: skip
def test_tables_that_are_refused(text, message, tmp_path):
    path = tmp_path / "runs"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        run_tables.read(path)


def test_needs_no_framework_and_little_time(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text(csv_of(RUNS))
    code = f"""
import sys
from lbcheck.report import judge_command as command
from lbcheck.support import command as support
rest = support.parse(
    command.FLAGS, ["judge", {str(path)!r}, "--challengers=muon"]
)
assert command.main(rest) == 0
heavy = {{"tensorflow", "keras", "tf_keras", "jax", "optuna", "matplotlib"}}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
