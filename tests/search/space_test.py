"""Search spaces: the papers' transcribed, which point is the i-th, refining."""

import json
import math
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
from scipy.stats import qmc

from lbcheck import published
from lbcheck.search import arm
from lbcheck.search.parameter import Parameter
from lbcheck.search.space import Space

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDER = ROOT / "flags" / "spaces"

RICH = {
    "source": "a test",
    "points": "halton",
    "parameters": {
        "warmup_steps": {
            "min": 0,
            "max": 0.4,
            "scale": "linear",
            "of": "steps",
        },
        "learning_rate": {"min": 0.01, "max": 1, "scale": "log"},
        "momentum": {
            "min": 1e-3,
            "max": 0.1,
            "scale": "log",
            "one_minus": True,
        },
        "final_learning_rate": {"values": [0.1, 0.01], "of": "learning_rate"},
        "norm": {"values": ["l1", "l2", "linf"]},
        "decay_end_step": {
            "min": 100,
            "max": 900,
            "scale": "linear",
            "integer": True,
        },
        "l2": {"value": 5e-5},
    },
}

PINNED = {
    "halton": [0.3489290315223428, 0.06252731375239336],
    "sobol": [0.4575215242803097, 0.18157068639993668],
}
"""Sixth point of seed 7, of SciPy 1.15 and 1.17."""


def load(name):
    return Space.load(FOLDER / f"{name}.json")


# --- The transforms -------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "u", "expected"),
    [
        ({"min": 1e-4, "max": 1e-2, "scale": "log"}, 0.5, 1e-3),
        ({"min": 1e-4, "max": 1e-2, "scale": "log"}, 0.25, 10**-3.5),
        ({"min": 5, "max": 9, "scale": "linear"}, 0.25, 6.0),
        (
            {"min": 1e-3, "max": 1e-1, "scale": "log", "one_minus": True},
            0.5,
            0.99,
        ),
        ({"value": 0.02397, "one_minus": True}, 0.9, 0.97603),
        ({"values": [1, 2, 4]}, 0.34, 2),
        ({"values": ["l1", "l2"]}, 0.49, "l1"),
        (
            {"min": 300, "max": 800, "scale": "linear", "integer": True},
            0.1,
            350,
        ),
        ({"min": 1, "max": 100, "scale": "log", "count": 3}, 0.4, 10.0),
    ],
)
def test_value_by_hand(spec, u, expected):
    value = Parameter.from_spec(spec).value(u)
    assert type(value) is type(expected)
    if isinstance(expected, str):
        assert value == expected
    else:
        assert value == pytest.approx(expected, rel=1e-14)


def test_a_fraction_of_the_steps_is_whole_updates():
    fraction = Parameter.from_spec({"value": 0.1, "of": "steps"})
    found = fraction.value(0.0, 998)
    assert (found, type(found)) == (100, int)


def test_what_is_of_another_parameter_follows_it():
    for point in load("nado2021_table16").points(0, 0, 54, 2815):
        ratio = point["final_learning_rate"] / point["learning_rate"]
        assert ratio == pytest.approx(8.144e-5, rel=1e-12)
    powers = load("nado2021_table6").points(0, 0, 20, 14063)
    assert {point["warmup_power"] for point in powers} == {1, 2}
    assert all(p["warmup_power"] == p["decay_power"] for p in powers)


# --- Which point is the i-th ----------------------------------------------


def reference(sequence, seed, index, steps, mutant=""):
    """Point `index` of RICH, written out; a mutant is wrong in one way."""
    maker = {"halton": qmc.Halton, "sobol": qmc.Sobol}[sequence]
    engine = maker(6, rng=np.random.default_rng([seed]))
    row = index + 1 if mutant == "index" else index
    # By alphabet: decay_end_step, final_learning_rate, learning_rate,
    # momentum, norm, warmup_steps.
    end, final, rate, momentum, norm, warmup = engine.random(64)[row]
    x = 10 ** (-3 + 2 * momentum)
    learning_rate = 10 ** (-2 + 2 * rate)
    if mutant == "log":
        learning_rate = 0.01 + 0.99 * rate
    return {
        "warmup_steps": int(0.4 * warmup * (1 if mutant == "of" else steps)),
        "learning_rate": learning_rate,
        "momentum": x if mutant == "one_minus" else 1 - x,
        "final_learning_rate": learning_rate * (0.1 if final < 0.5 else 0.01),
        "norm": ["l1", "l2", "linf"][int(norm * 3)],
        "decay_end_step": round(100 + 800 * end),
        "l2": 5e-5,
    }


def agrees(point, expected):
    """Whether two points are the same but for rounding."""
    return all(
        point[name] == expected[name]
        if isinstance(expected[name], str)
        else point[name] == pytest.approx(expected[name], rel=1e-9)
        if isinstance(expected[name], float)
        else abs(point[name] - expected[name]) <= 1
        for name in expected
    ) and set(point) == set(expected)


@pytest.mark.parametrize("sequence", ["halton", "sobol"])
def test_points_equal_what_is_written_out(sequence):
    points = Space.from_dict({**RICH, "points": sequence}).points(3, 0, 40, 998)
    for index, point in enumerate(points):
        assert agrees(point, reference(sequence, 3, index, 998))
    for mutant in ("log", "one_minus", "of", "index"):
        wrong = [reference(sequence, 3, i, 998, mutant) for i in range(40)]
        assert not any(map(agrees, points, wrong)), mutant


@pytest.mark.parametrize("sequence", ["halton", "sobol", "grid"])
def test_a_point_does_not_depend_on_the_slice(sequence):
    described = {**RICH, "points": sequence}
    if sequence == "grid":
        described["parameters"] = {
            name: {**spec, "count": 3} if "min" in spec else spec
            for name, spec in RICH["parameters"].items()
        }
    space = Space.from_dict(described)
    whole = space.points(5, 0, 33, 1000)
    assert [space.points(5, i, 1, 1000)[0] for i in range(33)] == whole
    assert space.points(5, 7, 13, 1000) == whole[7:20]
    assert space.points(5, 0, 0, 1000) == []
    assert space.points(6, 0, 33, 1000) != whole
    keys = [json.dumps(point, sort_keys=True) for point in whole]
    assert len(set(keys)) == 33


@pytest.mark.parametrize("sequence", ["halton", "sobol"])
def test_a_point_is_the_same_in_another_process(sequence):
    """Of a file whose keys are in another order, with other hash seeds."""
    described = {**RICH, "points": sequence}
    code = (
        "import json, sys; from lbcheck.search.space import Space;"
        "space = Space.from_dict(json.loads(sys.argv[1]));"
        "print(json.dumps(space.points(11, 20, 3, 500)))"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code, json.dumps(described, sort_keys=True)],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={"PYTHONHASHSEED": "77", "PYTHONPATH": str(ROOT)},
    ).stdout
    here = Space.from_dict(described).points(11, 0, 40, 500)
    assert json.loads(printed) == here[20:23]


def test_the_global_random_state_is_left_alone():
    np.random.seed(1)
    before = np.random.get_state()[1].copy()
    Space.from_dict(RICH).points(0, 3, 4, 10)
    np.testing.assert_array_equal(np.random.get_state()[1], before)


def test_points_of_today_are_those_of_tomorrow():
    """Fails where SciPy or NumPy would continue an old study otherwise."""
    unit = {"min": 0, "max": 1, "scale": "linear"}
    for sequence, expected in PINNED.items():
        space = Space.from_dict(
            {"points": sequence, "parameters": {"a": unit, "b": unit}}
        )
        [point] = space.points(7, 5, 1, 1)
        assert [point["a"], point["b"]] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("sequence", ["halton", "sobol"])
@pytest.mark.parametrize("start", [0, 64])
def test_points_are_spread_better_than_random(sequence, start):
    logs = {"min": 1e-5, "max": 1e-1, "scale": "log"}
    space = Space.from_dict(
        {
            "points": sequence,
            "parameters": {
                "a": logs,
                "b": {**logs, "one_minus": True},
                "c": {"min": 2, "max": 4, "scale": "linear"},
            },
        }
    )
    points = space.points(0, start, 64, 100)
    unit = [
        [
            (math.log10(p["a"]) + 5) / 4,
            (math.log10(1 - p["b"]) + 5) / 4,
            p["c"] / 2 - 1,
        ]
        for p in points
    ]
    generator = np.random.default_rng(0)
    random = [qmc.discrepancy(generator.random((64, 3))) for _ in range(200)]
    assert qmc.discrepancy(unit) < 0.5 * np.quantile(random, 0.01)


def test_grid_has_every_combination_once():
    space = load("nado2021_table18")
    assert space.size == 77
    points = space.points(0, 0, 77, 2815)
    pairs = {
        (p["batch_norm_momentum"], p["batch_norm_epsilon"]) for p in points
    }
    assert len(pairs) == 77
    # A part of it is no corner of it.
    first = space.points(0, 0, 20, 2815)
    assert len({p["batch_norm_momentum"] for p in first}) > 6
    assert len({p["batch_norm_epsilon"] for p in first}) > 4
    with pytest.raises(ValueError, match=r"table18.json.*70 to 77.*has 77"):
        space.points(0, 70, 8, 2815)


def test_constants_alone_are_a_space():
    space = Space.from_dict(
        {"points": "halton", "parameters": {"learning_rate": {"value": 7.05}}}
    )
    assert space.points(0, 4, 2, 10) == [{"learning_rate": 7.05}] * 2
    assert (space.searched, space.volume()) == ((), {})


def test_volume():
    volume = Space.from_dict(RICH).volume()
    assert volume == pytest.approx(
        {
            "warmup_steps": 0.4,
            "learning_rate": 2,
            "momentum": 2,
            "final_learning_rate": 2,
            "norm": 3,
            "decay_end_step": 800,
        }
    )
    assert "l2" not in Space.from_dict(RICH).searched


# --- Refining -------------------------------------------------------------


def test_refined_by_hand():
    best = {
        "warmup_steps": 250,
        "learning_rate": 0.9,
        "momentum": 0.99,
        "final_learning_rate": 0.009,
        "norm": "l2",
        "decay_end_step": 880,
        "l2": 5e-5,
    }
    space = Space.from_dict(RICH)
    finer = space.refined(best, 0.5, steps=1000)
    half = math.sqrt(10)
    ends = {
        name: (parameter.min, parameter.max)
        for name, parameter in finer.parameters.items()
        if parameter.scale
    }
    assert ends["learning_rate"] == pytest.approx((0.9 / half, 0.9 * half))
    assert ends["momentum"] == pytest.approx((0.01 / half, 0.01 * half))
    # 0.25 and a tenth each side; 880 and 200, but not beyond 900.
    assert ends["warmup_steps"] == pytest.approx((0.15, 0.35))
    assert ends["decay_end_step"] == pytest.approx((680, 900))
    assert finer.parameters["final_learning_rate"].choices == (0.01,)
    assert finer.parameters["norm"].choices == ("l1", "l2", "linf")
    assert finer.facts["parent"] == {
        "space": RICH,
        "best": best,
        "factor": 0.5,
    }
    again = Space.from_dict(json.loads(json.dumps(finer.to_dict())))
    assert again.points(1, 2, 3, 1000) == finer.points(1, 2, 3, 1000)
    for point in finer.points(0, 0, 50, 1000):
        assert 0.968 < point["momentum"] < 0.997
        assert 150 <= point["warmup_steps"] <= 350


def test_refined_stays_where_one_minus_makes_sense():
    space = load("nado2021_table9")
    [best] = space.points(0, 0, 1, 2815)
    best["momentum"] = 0.01
    finer = space.refined(best, 0.5, 2815)
    assert finer.parameters["momentum"].max == 1.0
    assert all(0 <= p["momentum"] < 1 for p in finer.points(0, 0, 64, 2815))


def test_refined_momentum_stays_below_one():
    space = Space.from_dict(
        {
            "points": "halton",
            "parameters": {
                "momentum": {"min": 0.5, "max": 0.99, "scale": "log"},
                "rate": {"min": 0.01, "max": 1, "scale": "log"},
            },
        }
    )
    finer = space.refined({"momentum": 0.97, "rate": 0.9}, 0.3, 100)
    assert finer.parameters["momentum"].max == 0.99
    assert finer.parameters["momentum"].min < 0.9
    assert finer.parameters["rate"].max > 1.5


def test_refined_whole_numbers_stay_above_nothing():
    groups = {"min": 1, "max": 100, "scale": "log", "integer": True}
    space = Space.from_dict(
        {"points": "halton", "parameters": {"groups": groups}}
    )
    finer = space.refined({"groups": 1}, 0.9, 100)
    found = {point["groups"] for point in finer.points(0, 0, 64, 100)}
    assert min(found) == 1 < max(found)


def test_refined_part_of_nothing_stays_as_it_is():
    part = {"min": 0.1, "max": 0.9, "scale": "linear", "of": "a"}
    space = Space.from_dict(
        {
            "points": "sobol",
            "parameters": {"a": {"values": [0, 1]}, "b": part},
        }
    )
    finer = space.refined({"a": 0, "b": 0.0}, 0.3, 100)
    assert finer.to_dict()["parameters"]["b"] == part


def test_refined_grid_is_a_finer_grid():
    space = load("nado2021_table8_nesterov_initial")
    best = {"learning_rate": 1.0, "l2": 3e-4, "momentum": 0.98}
    finer = space.refined(best, 0.25, 6000)
    assert finer.size == 100
    choices = finer.parameters["learning_rate"].choices
    assert choices == pytest.approx(np.logspace(-0.125, 0.125, 10), rel=1e-12)


@pytest.mark.parametrize(
    "path", sorted(FOLDER.glob("*.json")), ids=lambda path: path.stem
)
def test_every_best_point_can_be_refined(path):
    space = Space.load(path)
    steps = space.facts.get("steps", 1000)
    for index in range(4):
        [best] = space.points(1, index, 1, steps)
        finer = space.refined(best, 0.3, steps)
        assert finer.points(0, 0, 1, steps)
        for name, width in finer.volume().items():
            assert width <= space.volume()[name], name


# --- The papers' spaces ---------------------------------------------------

SYMBOLS = {
    "eta_0": "learning_rate",
    "eta_peak": "learning_rate",
    "eta_final": "final_learning_rate",
    "decay_factor": "final_learning_rate",
    "t_decay": "decay_end_step",
    "1-mu": "momentum",
    "lambda": "weight_decay",
    "tau": "label_smoothing",
    "rho": "batch_norm_momentum",
    "eps": "batch_norm_epsilon",
    "gamma_0": "final_gamma",
    "t_warmup": "warmup_steps",
    "p_warmup": "warmup_power",
    "p_decay": "decay_power",
    "p": "warmup_power",
    "eta": "learning_rate",
    "1 - beta1": "beta_1",
    "1 - beta2": "beta_2",
}
ADDED = {
    "virtual_batch_size",
    "warmup_steps",
    "warmup_power",
    "decay_power",
    "epsilon",
    "fallback_epsilon",
    "momentum",
}
"""Constants that the captions or the text give, not the tables' rows."""

MODEL = {
    "virtual_batch_size",
    "label_smoothing",
    "batch_norm_momentum",
    "batch_norm_epsilon",
    "final_gamma",
}

TABLE_16 = [k * 10.0**a for a in range(-3, 3) for k in range(1, 10)]
TABLE_17 = {
    round(k / 2 * 10.0**a, 9) for a in range(-3, 1) for k in range(1, 20)
}


def check(spec, text, scale, where):
    """Compares a parameter's spec with a table's cell."""
    numbers = [float(n) for n in re.findall(r"-?[\d.]+(?:e-?\d+)?", text)]
    if text.startswith("logspace"):
        low, high, count = numbers
        choices = Parameter.from_spec(spec).choices
        assert choices == pytest.approx(
            np.logspace(low, high, int(count)), rel=1e-12
        ), where
    elif text.startswith("["):
        assert [spec["min"], spec["max"]] == numbers, where
        assert spec["scale"] == scale, where
        assert "count" not in spec, where
    elif text.startswith("{"):
        assert spec["values"] == numbers, where
    else:
        assert [spec["value"]] == numbers, where


def chronology():
    rows = {}
    for row in published.load("tables9_to_23_spaces")["rows"]:
        rows.setdefault(row["table"], []).append(row)
    return rows


@pytest.mark.parametrize("table", range(9, 24))
def test_chronology_is_as_printed(table):
    space = load(f"nado2021_table{table}")
    seen = set()
    for row in chronology()[table]:
        symbol = row["hyperparameter"]
        name = SYMBOLS[symbol]
        if symbol == "eta_0" and table >= 20:
            name = "initial_learning_rate"
        if symbol == "lambda" and table >= 20:
            name = "l2"
        spec = space.specs[name]
        seen.add(name)
        assert spec.get("one_minus", False) == (symbol == "1-mu")
        if symbol == "decay_factor":
            assert spec["of"] == "learning_rate"
        if name in ("warmup_steps", "decay_end_step") and "min" in spec:
            assert spec["integer"] is True
        if "..." not in str(row["range"]):
            check(spec, str(row["range"]), row["scale"], (table, name))
    assert set(space.specs) - seen <= ADDED - seen
    if table == 16:
        assert space.specs["learning_rate"]["values"] == pytest.approx(TABLE_16)
    if table == 17:
        assert space.specs["weight_decay"]["values"] == sorted(TABLE_17)


def test_chronology_captions():
    for row in published.load("tables9_to_23")["rows"]:
        space = load(f"nado2021_table{row['table']}")
        trials = row["trials"] or space.size
        assert space.facts["trials"] == trials
        assert space.facts["steps"] == row["steps"]
        assert space.facts["batch_size"] == 32768
        size = space.parameters["virtual_batch_size"].choices
        assert size == (row["virtual_batch_size"],)
        assert ("l2" in space.specs) == (row["lambda_is"] == "L2")
        assert row["lambda_is"].split(",")[0] in space.facts["note"]
        if "quadratic" in (row["schedule"] or ""):
            [point] = space.points(0, 0, 1, row["steps"])
            shape = ("warmup_steps", "warmup_power", "decay_power")
            assert tuple(point[name] for name in shape) == (500, 1, 2)


def test_table_12_has_two_sisters():
    middle = load("nado2021_table12").specs
    for steps in (250, 977):
        sister = load(f"nado2021_table12_warmup_{steps}").specs
        warmup = {"value": steps, "per": 2658, "of": "steps"}
        assert sister == {**middle, "warmup_steps": warmup}


ROWS = (
    "nesterov",
    "lars_heavy_ball",
    "lars_lars",
    "adam_epsilon_1e-8",
    "adam_epsilon_1e-6",
    "lamb_lamb",
    "lamb_adam_epsilon_1e-8",
    "lamb_adam_epsilon_1e-6",
)


def test_table_8_is_as_printed():
    rows = published.load("nado2021_table8")["rows"]
    assert len(rows) == 2 * len(ROWS)
    for index, row in enumerate(rows):
        key = ROWS[index // 2]
        name = "learning_rate"
        if row["hyperparameter"] == "lambda":
            name = "l2" if key == "nesterov" else "weight_decay"
        for stage, trials in (("initial", 50), ("final", 25)):
            space = load(f"nado2021_table8_{key}_{stage}")
            text = row[f"{stage}_range"]
            check(space.specs[name], text, "log", (key, stage, name))
            assert (space.sequence == "grid") == ("logspace" in text)
            assert space.facts["steps"] == 6000
            assert space.facts["trials"] == trials
        assert len(space.searched) == 2
        parameter = space.parameters[name]
        assert parameter.min <= row["best"] <= parameter.max


def test_table_8_constants():
    for stage in ("initial", "final"):
        for key, name, value in (
            ("nesterov", "momentum", 0.98),
            ("lars_heavy_ball", "momentum", 0.929),
            ("lars_lars", "momentum", 0.929),
            ("adam_epsilon_1e-8", "epsilon", 1e-8),
            ("adam_epsilon_1e-6", "epsilon", 1e-6),
            ("lamb_adam_epsilon_1e-8", "fallback_epsilon", 1e-8),
            ("lamb_adam_epsilon_1e-6", "fallback_epsilon", 1e-6),
        ):
            space = load(f"nado2021_table8_{key}_{stage}")
            assert space.specs[name] == {"value": value}


def test_table_6_is_as_printed():
    space = load("nado2021_table6")
    seen = set()
    for row in published.load("nado2021_table6")["rows"]:
        name = SYMBOLS[row["hyperparameter"]]
        seen.add(name)
        check(space.specs[name], row["range"], row["scale"], name)
        one_minus = row["hyperparameter"].startswith("1 -")
        assert space.specs[name].get("one_minus", False) == one_minus
    assert set(space.searched) == seen
    assert space.specs["epsilon"] == {"value": 1e-11}
    # The phases have their steps and warm-ups of Table 7.
    runs = {"32k": (0, 1), "65k": (2, 4)}
    rows = published.load("nado2021_table7")["rows"]
    for run, numbers in runs.items():
        for phase, number in enumerate(numbers, 1):
            own = load(f"nado2021_table6_{run}_phase_{phase}")
            row = rows[number]
            assert own.facts["steps"] == row["steps"]
            assert own.facts["batch_size"] == row["batch_size"]
            [point] = own.points(0, 0, 1, row["steps"])
            assert point["warmup_steps"] == row["warmup_steps"]
            specs = {**own.specs}
            del specs["warmup_steps"]
            assert specs == space.specs
    # Every published best point is inside.
    for row in published.load("nado2021_table7")["rows"]:
        for name in ("learning_rate", "beta_1", "beta_2", "weight_decay"):
            parameter = space.parameters[name]
            x = 1 - row[name] if parameter.one_minus else row[name]
            assert parameter.min <= x <= parameter.max


def test_the_spaces_of_lamb():
    rates = (
        [k * 10.0**a for a in (-4, -3, -2, -1) for k in (1, 2, 4, 6, 8)]
        + [1, 2, 4, 6, 8]
        + [10, 15, 20, 25, 30, 35, 40, 45, 50]
    )
    for name in ("you2019_table6", "you2019_table6_adamw"):
        found = load(name).specs["learning_rate"]["values"]
        assert found == pytest.approx(rates, rel=1e-12)
    decays = load("you2019_table6_adamw").specs["weight_decay"]["values"]
    assert decays == [1e-4, 1e-3, 1e-2, 1e-1, 1]
    mnist = load("you2019_table7")
    assert mnist.specs == {"learning_rate": {"values": [1e-4, 1e-3, 1e-2, 0.1]}}
    assert mnist.facts["batch_size"] == 1024
    tried = {
        (row["learning_rate"], round(31250 * row["warmup_ratio"]))
        for row in published.load("you2019_table8")["rows"]
    }
    adamw = load("you2019_table8")
    points = adamw.points(0, 0, adamw.size, adamw.facts["steps"])
    assert {(p["learning_rate"], p["warmup_steps"]) for p in points} == tried
    assert len(points) == len(tried) == 9


def test_figure_1_of_lamb():
    nadam = load("you2019_figure1_nadam")
    rates = [k * 10.0**a for a in (-4, -3) for k in range(1, 10)] + [0.01]
    assert nadam.specs["learning_rate"]["values"] == pytest.approx(rates)
    constants = {
        name: parameter.choices
        for name, parameter in nadam.parameters.items()
        if name not in nadam.searched
    }
    assert constants == {
        "beta_1": (0.975,),
        "beta_2": (0.999,),
        "epsilon": (1e-8,),
        "weight_decay": (0.0,),
    }


@pytest.mark.parametrize("table", range(9, 26))
def test_tuning_points_of_lamb(table):
    """A grid has the points that were tried and no others."""
    rows = [
        row
        for row in published.load("you2019_tables9_to_25")["rows"]
        if row["table"] == table
    ]
    space = load(f"you2019_table{table}")
    assert space.size == space.facts["trials"] == len(rows)
    assert space.facts["batch_size"] == 16_384
    assert space.facts["steps"] == 7038
    tried = sorted(
        (row["learning_rate"], row["weight_decay"], row["l2_regularization"])
        for row in rows
    )
    points = space.points(0, 0, space.size, 7038)
    found = sorted(
        (p["learning_rate"], p.get("weight_decay"), p.get("l2")) for p in points
    )
    if rows[0]["optimizer"] == "adam":  # that has no decay
        assert {point.pop("weight_decay") for point in points} == {0.0}
        found = sorted((p["learning_rate"], None, None) for p in points)
    assert found == tried


def test_every_space_names_its_table():
    expected = {f"nado2021_table{n}" for n in [6, *range(9, 24)]}
    expected |= {f"nado2021_table12_warmup_{n}" for n in (250, 977)}
    expected |= {
        f"nado2021_table8_{key}_{stage}"
        for key in ROWS
        for stage in ("initial", "final")
    }
    expected |= {
        f"nado2021_table6_{run}_phase_{phase}"
        for run in ("32k", "65k")
        for phase in (1, 2)
    }
    expected |= {f"you2019_table{n}" for n in ("6", "6_adamw", "7", "8")}
    expected |= {f"you2019_table{n}" for n in range(9, 26)}
    expected |= {"you2019_figure1_nadam"}
    assert {path.stem for path in FOLDER.glob("*.json")} == expected
    for name in expected:
        space = load(name)
        paper = "Nado" if name.startswith("nado") else "You"
        kind, number = re.search(r"(table|figure)(\d+)", name).groups()
        assert re.match(
            rf"{paper} et al. 20\d\d, {kind.title()} {number}\b",
            space.facts["source"],
        )
        assert Space.from_dict(space.to_dict()) == space


@pytest.mark.parametrize("table", range(9, 24))
def test_an_arm_takes_the_names_of_the_chronology(table):
    space = load(f"nado2021_table{table}")
    nesterov = arm.Arm("nesterov", "nesterov", space)
    steps = space.facts["steps"]
    for point in space.points(0, 0, 4, steps):
        rate = nesterov.schedule_of(point, steps)
        peak = point["warmup_steps"]
        assert rate(peak) == pytest.approx(point["learning_rate"])
        end = point.get("decay_end_step", steps)
        assert rate(end) == pytest.approx(point["final_learning_rate"])
        split = nesterov.resolve(point)
        assert set(split.optimizer) <= {"momentum", "weight_decay", "l2"}
        assert set(split.model) <= MODEL


# --- Bad input ------------------------------------------------------------

LOG = {"min": 0.1, "max": 1, "scale": "log"}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (3, "rate: must be an object, received 3"),
        ({**LOG, "scale": "logarithmic"}, "rate: scale.*'logarithmic'"),
        ({**LOG, "min": 0}, "rate: min of a log scale must be above 0"),
        ({**LOG, "min": 2}, "rate: min must be below max, received 2 and 1"),
        ({**LOG, "max": "1"}, "rate: max must be a finite number.*'1'"),
        ({**LOG, "max": math.inf}, "not JSON: Infinity"),
        ({**LOG, "max": True}, "rate: max must be a finite number.*True"),
        ({**LOG, "step": 3}, "rate: received the keys.*'step'"),
        ({"min": 1, "max": 2}, "rate: received the keys.*expected"),
        ({**LOG, "value": 1}, "rate: received the keys"),
        ({**LOG, "count": 1}, "rate: count.*received 1"),
        ({**LOG, "one_minus": "yes"}, "rate: one_minus must be true or false"),
        ({**LOG, "max": 3, "one_minus": True}, r"rate: .*\[0, 1\].*3"),
        ({**LOG, "max": 3, "of": "steps"}, r"rate: .*\[0, 1\].*3"),
        ({**LOG, "of": 1}, 'rate: "of" must be a name, received 1'),
        ({**LOG, "of": "rat"}, "rate: \"of\" must be 'steps' or a.*'rat'"),
        ({**LOG, "of": "rate"}, "rate: \"of\" must be 'steps' or a.*'rate'"),
        (
            {**LOG, "of": "norm"},
            "rate: \"of\" is 'norm', which is not a number",
        ),
        ({"values": []}, r"rate: values must be a list, received \[\]"),
        ({"values": [1, 2, 1]}, "rate: values has 1 twice"),
        ({"values": [1, None]}, "rate: must be a finite number.*None"),
        ({"value": math.nan}, "not JSON: NaN"),
        (
            {"values": ["a"], "integer": True},
            'rate: with "one_minus", "integer"',
        ),
    ],
)
def test_bad_parameter(tmp_path, spec, message):
    path = tmp_path / "mine.json"
    parameters = {"rate": spec, "norm": {"values": ["l1", "l2"]}}
    path.write_text(json.dumps({"points": "halton", "parameters": parameters}))
    with pytest.raises(ValueError, match=f"mine.json: {message}"):
        Space.load(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "mine.json: not JSON"),
        ("[]", r"mine.json: must be an object, received \[\]"),
        ('{"points": "halton"}', 'mine.json: "parameters" must be'),
        ('{"points": "halton", "parameters": {}}', 'mine.json: "parameters"'),
        (
            '{"points": "random", "parameters": {"a": {"value": 1}}}',
            'mine.json: "points" must be one of halton, sobol, grid.*\'ran',
        ),
        (
            '{"points": "grid", "parameters": {"a b": {"value": 1}}}',
            "mine.json: the name of a parameter must be a Python ident.*'a b'",
        ),
        (
            '{"points": "grid", "parameter": {"a": {"value": 1}}}',
            "mine.json: unknown 'parameter'",
        ),
        (
            '{"points": "grid", "parameters": {"a": '
            '{"min": 0, "max": 1, "scale": "linear"}}}',
            'mine.json: a: a range in a grid needs a "count"',
        ),
        (
            '{"points": "grid", "parameters": {"a": {"value": 1}, '
            '"a": {"value": 2}}}',
            "mine.json: .*'a' appears twice",
        ),
        (
            '{"points": "grid", "parameters": {"steps": {"value": 1}}}',
            "mine.json: a parameter cannot be called 'steps'",
        ),
    ],
)
def test_bad_file(tmp_path, text, message):
    path = tmp_path / "mine.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        Space.load(path)


def test_bad_arguments():
    space = Space.from_dict(RICH)
    with pytest.raises(OSError, match="nowhere.json"):
        Space.load("nowhere.json")
    for bad in ((-1, 0, 1), (0, -1, 1), (0, 0, -1)):
        with pytest.raises(ValueError, match="at least 0.*-1"):
            space.points(*bad, 100)
    with pytest.raises(ValueError, match="factor.*1.5"):
        space.refined(space.points(0, 0, 1, 100)[0], 1.5, 100)
    with pytest.raises(ValueError, match="no warmup_steps, momentum"):
        best = space.points(0, 0, 1, 100)[0]
        del best["momentum"], best["warmup_steps"]
        space.refined(best, 0.5, 100)
    wide = {f"p{i}": {"values": list(range(50))} for i in range(4)}
    with pytest.raises(ValueError, match="6250000 points.*halton"):
        Space.from_dict({"points": "grid", "parameters": wide})


def test_numbers_per_updates_are_parts_of_any_run():
    space = load("nado2021_table20")
    assert space.specs["warmup_steps"]["per"] == 2512
    for point in space.points(0, 0, 20, steps=2512):
        assert 300 <= point["warmup_steps"] <= 800
    for point in space.points(0, 0, 20, steps=157):  # a sixteenth
        assert 300 / 16 - 1 < point["warmup_steps"] < 800 / 16 + 1
        assert isinstance(point["warmup_steps"], int)
    best = space.points(0, 0, 1, steps=2512)[0]
    finer = space.refined(best, 0.5, steps=2512)
    again = finer.points(0, 0, 20, steps=2512)
    low = min(point["warmup_steps"] for point in again)
    high = max(point["warmup_steps"] for point in again)
    assert 300 <= low <= best["warmup_steps"] <= high <= 800
    assert high - low <= 251
    whole = {"min": 100, "max": 300, "scale": "linear", "count": 3, "per": 400}
    grid = Parameter.from_spec({**whole, "of": "steps"})
    assert [grid.value(u, 40) for u in (0, 0.5, 0.9)] == [10, 20, 30]
    listed = Parameter.from_spec({"values": [1, 3], "per": 4, "of": "steps"})
    assert [listed.value(u, 40) for u in (0, 0.5)] == [10, 30]
    for spec, message in (
        ({"value": 1, "per": 2}, '"of": "steps", received 2 and None'),
        ({"value": 1, "per": 2, "of": "rate"}, "received 2 and 'rate'"),
        ({"value": 1, "per": 0, "of": "steps"}, "at least 1"),
        ({"value": 1, "per": 1.5, "of": "steps"}, "a whole number"),
        ({"value": 3, "per": 2, "of": "steps"}, r"in \[0, 1\], received 1.5"),
        ({"value": "x", "per": 2, "of": "steps"}, "must be a number"),
    ):
        with pytest.raises(ValueError, match=message):
            Parameter.from_spec(spec)


def test_a_value_has_one_type_at_any_seed():
    """Of the published spaces and of lists and grids that begin whole."""
    own = Space.from_dict(
        {
            "points": "grid",
            "parameters": {
                "a": {"values": [2, 0.5]},
                "b": {"min": 1, "max": 10, "scale": "log", "count": 3},
                "c": {"values": [3, 1]},
                "d": {"values": [True, False]},
                "e": {"values": ["x", "y"]},
                "f": {"values": [1, 2], "of": "a"},
            },
        }
    )
    loaded = [Space.load(path) for path in sorted(FOLDER.glob("*.json"))]
    assert len(loaded) >= 17
    for space in [own, *loaded]:
        found = {name: set() for name in space.parameters}
        for seed in range(0, 501, 12):
            count = 4 if space.size is None else min(4, space.size)
            for point in space.points(seed, 0, count, steps=100):
                for name, value in point.items():
                    found[name].add(type(value))
        assert all(len(types) == 1 for types in found.values()), found
    point = own.points(0, 0, 1, 10)[0]
    kinds = [type(point[name]) for name in "abcdef"]
    assert kinds == [float, float, int, bool, str, float]


def test_numbers_of_numpy_are_python_s():
    space = Space.from_dict(
        {
            "points": "halton",
            "parameters": {
                "a": {"values": np.float32([0.5, 2.0])},
                "b": {"values": (np.int64(3), np.int64(4))},
                "c": {"min": np.float32(0.25), "max": 1, "scale": "linear"},
            },
        }
    )
    point = space.points(0, 0, 1, 10)[0]
    assert [type(x) for x in point.values()] == [float, int, float]
    assert json.loads(json.dumps(space.to_dict())) == space.to_dict()


@pytest.mark.parametrize(
    "spec",
    [
        {"values": [1, 10**400]},
        {"value": -(2**53) - 1},
        {"min": 1, "max": 10**400, "scale": "log"},
    ],
)
def test_whole_numbers_that_no_variable_holds(spec):
    described = {"points": "halton", "parameters": {"a": spec}}
    with pytest.raises(ValueError, match="a: .*whole number of [0-9]+ bits"):
        Space.from_dict(described)
