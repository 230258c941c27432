"""The report: numbers against an oracle, bytes, errors, a real browser."""

import csv
import html.parser
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from lbcheck import report
from lbcheck import verdict
from lbcheck.report import chronology
from lbcheck.report import figures
from lbcheck.report import page_tables
from lbcheck.report import results
from lbcheck.report import tables
from lbcheck.report.figures import drawing
from lbcheck.report.rows import budget
from lbcheck.settings import schedule as families
from lbcheck.study import study_folder
from lbcheck.trials import learning_rates
from tests.report import chromium
from tests.report import synthetic_study

FILES = (
    "report.html",
    "results.csv",
    "results.json",
    "tables.md",
    "tables.tex",
)
FIGURES = [entry.name for entry in figures.ALL]
HOSTILE = "a<b&\"$x_1$'</script>%#\\|*\u65e5\u672c"
PARTS = ("validation", "training")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(folder with a report, its study, its records, its results)."""
    study = synthetic_study.make_study()
    records = synthetic_study.make_records(study)
    folder = tmp_path_factory.mktemp("study")
    synthetic_study.write(folder, study, records)
    report.write(folder)
    found = json.loads((folder / "results.json").read_text())
    return folder, study, records, found


def write(tmp_path, study, records):
    """The page and the results of a study."""
    synthetic_study.write(tmp_path, study, records)
    text = report.write(tmp_path).read_text()
    return text, json.loads((tmp_path / "results.json").read_text())


class Reader(html.parser.HTMLParser):
    """What a page consists of, by the standard library's parser."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self.cells, self._open = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "link"):
            self._open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if "body" in self._open and data.strip():
            self.words.append(data.strip())
        if {"td", "th"} & set(self._open):
            self.cells[-1] += data


def test_the_answer_is_the_first_line(made):
    folder, study, records, found = made
    sentence = verdict.decide(study, records).sentence
    text = (folder / "report.html").read_text()
    assert " ".join(Reader(text).words).startswith(sentence)
    assert found["verdict"]["sentence"] == sentence


def test_same_records_same_bytes_in_any_process_folder_and_order(
    made, tmp_path
):
    folder, study, records, _ = made
    other = tmp_path / "another place"
    synthetic_study.write(other, study, records[::-1])
    subprocess.run(
        [sys.executable, "-m", "lbcheck", "report", str(other)],
        check=True,
        env=os.environ | {"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"},
        cwd=pathlib.Path(__file__).parents[2],
    )
    for name in FILES:
        written = (folder / name).read_bytes()
        assert (other / name).read_bytes() == written, name
        assert str(folder).encode() not in written
    assert sorted(p.name for p in other.iterdir()) == sorted(
        [*FILES, "study.json", "trials.jsonl"]
    )


def feasible(records, arm, stage, part):
    return [
        r["metrics"][part]["accuracy"]
        for r in records
        if (r["arm"], r["stage"], r["status"]) == (arm, stage, "finished")
    ]


def of_arm(records, arm, stage):
    return [r for r in records if (r["arm"], r["stage"]) == (arm, stage)]


def rows(found, table, **match):
    return [
        row
        for row in found["tables"][table]
        if all(row[key] == wanted for key, wanted in match.items())
    ]


@pytest.mark.parametrize("arm", synthetic_study.ARMS)
@pytest.mark.parametrize("part", PARTS)
def test_search_numbers_against_counting(made, arm, part):
    """Kills: diverged left out of the count; `>` for `>=`; worst per arm."""
    _, study, records, found = made
    values = feasible(records, arm, "broad", part)
    worst = min(min(feasible(records, a, "broad", part)) for a in study["arms"])
    lost = study["trials"] - len(values)
    for row in rows(found, "targets", arm=arm, part=part):
        reached = sum(value >= row["target"] for value in values)
        assert row["fraction"] == reached / study["trials"]
    shown = {row["target"] for row in rows(found, "targets", part=part)}
    shown -= {study["target"]}
    everything = np.concatenate(
        [feasible(records, a, "broad", part) for a in study["arms"]]
    )
    assert max(shown) == max(everything)
    np.testing.assert_allclose(min(shown), np.median(everything))
    curve = rows(found, "best_so_far", arm=arm, part=part)
    assert [row["trials"] for row in curve] == list(range(1, 21))
    ordered = sorted([*values, *[worst] * lost])
    assert curve[0]["median"] == ordered[9]
    assert curve[-1]["median"] == max(values)
    assert all(np.diff([row["median"] for row in curve]) >= 0)
    spent = sum(r["seconds"] for r in of_arm(records, arm, "broad"))
    assert curve[4]["seconds"] == pytest.approx(spent * 5 / 20)
    # Kolmogorov and Smirnov's 10 % for 20 trials is 0.265.
    assert (curve[0]["low"], curve[0]["high"]) == (ordered[4], ordered[15])
    assert curve[-1]["low"] == ordered[14] and curve[-1]["high"] is None


@pytest.mark.parametrize("arm", synthetic_study.ARMS)
def test_confirmation_numbers_against_numpy(made, arm):
    """Kills: means for medians; the search's trials among the seeds."""
    _, study, records, found = made
    for part in PARTS:
        values = feasible(records, arm, "confirm", part)
        (box,) = rows(found, "boxes", arm=arm, part=part)
        assert box["median"] == np.median(values) != np.mean(values)
        assert (box["least"], box["most"]) == (min(values), max(values))
        assert box["seeds"] == len(values)
        for point in rows(found, "curves", arm=arm, part=part):
            at_step = [
                entry[part]["accuracy"]
                for r in records
                if (r["arm"], r["stage"]) == (arm, "confirm")
                for entry in r["curve"]
                if entry["step"] == point["step"]
            ]
            assert point["median"] == np.median(at_step)
    (summary,) = rows(found, "arms", arm=arm, part="validation")
    hits = sum(
        value >= study["target"]
        for value in feasible(records, arm, "confirm", "validation")
    )
    assert summary["hits"] == hits


@pytest.mark.parametrize("arm", synthetic_study.ARMS)
def test_budget_failures_and_best_points(made, arm):
    _, study, records, found = made
    for stage in ("broad", "confirm"):
        own = [r for r in records if (r["arm"], r["stage"]) == (arm, stage)]
        (row,) = rows(found, "budget", arm=arm, stage=stage)
        assert row["total"] == len(own)
        assert row["feasible"] == sum(r["status"] == "finished" for r in own)
        for key in ("steps", "examples", "seconds"):
            np.testing.assert_allclose(row[key], sum(r[key] for r in own))
    lost = [r for r in records if r["arm"] == arm and r["bad"]]
    shown = rows(found, "failures", arm=arm)
    assert [(f["step"], f["variable"]) for f in shown] == [
        (r["bad"]["step"], r["bad"]["variable"]) for r in lost
    ]
    best = max(
        (r for r in records if r["arm"] == arm and r["stage"] == "broad"),
        key=lambda r: (
            r["metrics"]["validation"]["accuracy"] if r["metrics"] else -1
        ),
    )
    assert {
        row["parameter"]: row["setting"]
        for row in rows(found, "best_points", arm=arm)
    } == best["hyperparameters"]
    widths = {
        r["parameter"]: r["width"] for r in rows(found, "spaces", arm=arm)
    }
    assert widths["warmup_steps"] == 0.5 and widths["epsilon"] == 0
    np.testing.assert_allclose(widths["learning_rate"], 3)


def test_numbers_per_updates_are_shown_as_parts():
    space = {
        "points": "halton",
        "parameters": {
            "a": {
                **{"min": 300, "max": 800, "scale": "linear"},
                **{"per": 2512, "of": "steps"},
            },
            "b": {"value": 638, "per": 2512, "of": "steps"},
            "c": {"values": [1, 3], "per": 4, "of": "steps"},
        },
    }
    arms = {"mine": {"space": space, "fixed": {}}}
    shown = {r["parameter"]: r for r in budget.spaces({"arms": arms})}
    texts = {name: row["range"] for name, row in shown.items()}
    assert texts == {
        "a": "[300, 800] / 2512",
        "b": "638 / 2512",
        "c": "{1, 3} / 4",
    }
    assert shown["a"]["width"] == pytest.approx(500 / 2512)


@pytest.mark.parametrize("arm", synthetic_study.ARMS)
def test_decay_bins_part_the_settings_by_decay(made, arm):
    """Kills: bins by rate; the best of a bin by training; a lost setting."""
    _, _, records, found = made
    parts = rows(found, "bins", arm=arm)
    assert [row["settings"] for row in parts] == [7, 7, 6]
    edges = [(row["decay_low"], row["decay_high"]) for row in parts]
    assert edges == sorted(edges)
    for low, high in zip(edges, edges[1:]):
        assert low[1] < high[0]
    decay = "l2" if arm == "nesterov" else "weight_decay"
    for row in parts:
        own = [
            (
                r["metrics"]["validation"]["accuracy"],
                r["hyperparameters"]["learning_rate"],
            )
            for r in records
            if (r["arm"], r["stage"], r["status"]) == (arm, "broad", "finished")
            and row["decay_low"]
            <= r["hyperparameters"][decay]
            <= row["decay_high"]
        ]
        assert (row["best_validation"], row["best_rate"]) == max(own)


def test_schedules_are_those_of_the_best_points(made):
    """Kills: fixed arguments forgotten; warm-up of another trial."""
    _, study, _, found = made
    for arm in study["arms"]:
        point = {
            row["parameter"]: row["setting"]
            for row in rows(found, "best_points", arm=arm)
        }
        peak, warmup = point["learning_rate"], point["warmup_steps"]
        for row in rows(found, "schedules", arm=arm):
            step = row["step"]
            expected = (
                peak * step / warmup
                if step < warmup
                # The decay power is 2, and fixed.
                else peak * ((100 - step) / (100 - warmup)) ** 2
            )
            np.testing.assert_allclose(row["learning_rate"], expected)
        assert not [
            row
            for row in rows(found, "findings", arm=arm)
            if row["severity"] == "error"
        ]


def test_the_schedule_doctor_speaks(tmp_path):
    study = synthetic_study.make_study()
    records = synthetic_study.make_records(study)
    ends = families.warmup_polynomial(100, 2.0, 10, decay_end_step=60)
    described = learning_rates.describe(ends, 100, {"learning_rate": 2.0})
    assert described["steps"] == list(range(100))
    assert described["rates"] == [float(ends(step)) for step in range(100)]
    for record in records:
        if record["arm"] == "lars" and record.get("schedule"):
            record["schedule"] = described
    text, found = write(tmp_path, study, records)
    assert [
        (row["arm"], row["code"])
        for row in found["tables"]["findings"]
        if row["severity"] == "error"
    ] == [("lars", "ends_early")]
    assert "error: ends_early" in text


@pytest.mark.parametrize(
    "point",
    [
        {},
        {"learning_rate": 0.0, "warmup_steps": 5},
        {"learning_rate": "high", "warmup_steps": 0.1},
        {"learning_rate": True, "warmup_steps": 10**9},
    ],
)
@pytest.mark.parametrize("steps", [1, 3, 4, 1000])
def test_any_point_and_length_of_a_run_has_rates(point, steps):
    found = learning_rates.describe(lambda step: 0.5, steps, point)
    assert set(found["rates"]) == {0.5}
    assert len(found["steps"]) == min(steps, 200)
    assert found["steps"][-1] == steps - 1


def test_studies_without_recorded_rates_say_so(made, tmp_path):
    _, study, records, _ = made
    old = [{k: r[k] for k in r if k != "schedule"} for r in records]
    text, found = write(tmp_path, study, old)
    assert found["tables"]["schedules"] == []
    assert 'id="schedules"' not in text
    assert "These records hold no learning rates" in text
    assert "hold no learning rates" not in (made[0] / "report.html").read_text()


def test_csv_holds_what_json_holds(made):
    folder, _, _, found = made
    with open(folder / "results.csv", newline="") as file:
        written = list(csv.DictReader(file))
    shown = {(r["table"], r["name"]) for r in written}
    for table in ("boxes", "curves", "targets", "layers", "arms", "pairs"):
        lines = [r for r in written if r["table"] == table]
        keys = [k for k in lines[0] if k not in ("table", "name", "value")]
        expected = {}
        for row in found["tables"][table]:
            key = tuple("" if row.get(k) is None else str(row[k]) for k in keys)
            for name, value in row.items():
                if name not in keys and value is not None:
                    expected[(*key, name)] = str(value)
        assert {
            (*(r[k] for k in keys), r["name"]): r["value"] for r in lines
        } == expected
    assert ("trials", "hyperparameters/learning_rate") in shown


def forms(number):
    """How a number may stand in a table."""
    if isinstance(number, int):
        return {f"{number:,}", str(number)}
    return {
        format(number, form)
        for form in "g .4f .4g .3g .2g +.4f +.4g .2f .0% ,.1f ,.0f".split()
    }


def numbers_of(entry):
    if isinstance(entry, dict):
        entry = [*entry.values(), *entry]
    if isinstance(entry, list):
        return set().union(*map(numbers_of, entry))
    if isinstance(entry, str):
        return set(re.findall(NUMBER, entry))
    if entry is None or isinstance(entry, bool):
        return set()
    return forms(entry)


NUMBER = r"(?<![\w.])[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]\d+)?%?(?!\w)"


def test_every_number_in_a_table_is_in_the_json(made):
    """Kills: a table that computes what results.json does not hold."""
    folder, _, _, found = made
    known = numbers_of(found)
    text = (folder / "report.html").read_text()
    seen = set()
    for cell in Reader(text).cells:
        shown = {n.rstrip(",") for n in re.findall(NUMBER, cell)}
        # The settings were written as such: "epsilon 1e-07".
        assert shown <= known, cell
        seen |= shown
    assert len(seen) > 150


def paths(svg, color):
    """Vertices of the stroked lines of a color in a panel."""
    found = re.findall(
        rf'<path d="([^"]*)"[^>]*style="fill: none; [^"]*stroke: {color};', svg
    )
    return [np.array(re.findall(r"[ML] (\S+) (\S+)", d), float) for d in found]


def axis(svg, anchor):
    """Slope and offset from position to value, by the labels of an axis."""
    labels = re.findall(
        rf'<text style="[^"]*text-anchor: {anchor}[^"]*" x="(\S+)" y="(\S+)"'
        r"[^>]*>([\d.]+)</text>",
        svg,
    )
    which = 0 if anchor == "middle" else 1
    positions, values = np.array(labels, float)[:, [which, 2]].T
    assert len(values) > 2
    return np.polyfit(positions, values, 1)


def count_panels(text):
    """How many panels each figure has, those that the page lacks, too."""
    found = dict.fromkeys(FIGURES, 0)
    for name, body in re.findall(
        r'<figure id="([^"]*)">(.*?)</figure>', text, re.S
    ):
        found[name] = body.count('<div class="panel">')
    return found


def panel(text, name):
    """The SVG of the panel whose identifiers begin with a name."""
    panels = re.findall(r'<div class="panel">(.*?)</div>', text, re.S)
    (found,) = [p for p in panels if f'id="{name}-' in p]
    return found


@pytest.mark.parametrize(
    ("name", "table", "column", "value"),
    [
        ("curves-training", "curves", "step", "median"),
        ("best-so-far-validation", "best_so_far", "trials", "median"),
        ("targets-training", "targets", "target", "fraction"),
    ],
)
def test_lines_lie_where_the_tables_say(made, name, table, column, value):
    """Kills: another arm's color, the other part, a shifted step."""
    folder, study, _, found = made
    svg = panel((folder / "report.html").read_text(), name)
    across, up = axis(svg, "middle"), axis(svg, "end")
    errors = []
    for number, arm in enumerate(study["arms"]):
        own = rows(found, table, arm=arm, part=name.rsplit("-", 1)[1])
        points = np.array(sorted((row[column], row[value]) for row in own))
        (line,) = paths(svg, rf"var\(--arm-{number}\)")
        expected = np.interp(np.polyval(across, line[:, 0]), *points.T)
        drawn = np.polyval(up, line[:, 1])
        # Beyond the axes a line is cut off.
        inside = drawn > up[1] + up[0] * 200
        assert np.count_nonzero(inside) > 5
        errors.append((drawn - expected)[inside])
    # Labels stand a little below what they label; 180 units are the height.
    errors = np.concatenate(errors) / up[0]
    assert abs(np.median(errors)) < 5
    errors -= np.median(errors)
    assert np.quantile(np.abs(errors), 0.9) < 0.5
    assert np.max(np.abs(errors)) < 4


def with_test_data(study, records):
    """Runs on test data: each arm has examples that are hard for it."""
    random = np.random.default_rng(5)
    off = {arm: 0.02 * random.normal(size=40) for arm in study["arms"]}
    study["facts"]["num_test"] = 400
    for record in records:
        if record["stage"] == "confirm" and record["metrics"]:
            found = dict(record["metrics"]["validation"])
            found["accuracy"] -= 0.01
            record["metrics"]["test"] = found
            record["test_groups"] = [
                found["accuracy"] + d for d in off[record["arm"]]
            ]


def test_what_a_difference_rests_on(made, tmp_path):
    """Against the pairs, and against counting for the luck."""
    study = synthetic_study.make_study()
    records = synthetic_study.make_records(study)
    with_test_data(study, records)
    page, found = write(tmp_path, study, records)
    pairs = rows(found, "pairs", part="test")
    assert len(pairs) == 4 == len(found["tables"]["differences"])
    for row, pair in zip(found["tables"]["differences"], pairs):
        assert pair["example_error"] > 0
        for key in ("arm", "other_arm", "difference", "low", "high", "margin"):
            assert row[key] == pair[key]
        assert row["low"] < row["seeds_low"] < row["seeds_high"] < row["high"]
        seeds = (row["seeds_high"] - row["seeds_low"]) / 2
        both = (row["high"] - row["low"]) / 2
        rest = both**2 - seeds**2
        assert row["half"] == pytest.approx(both)
        assert row["half_with_seeds"] ** 2 == pytest.approx(seeds**2 / 2 + rest)
        assert row["half_with_examples"] ** 2 == pytest.approx(
            seeds**2 + rest / 2
        )
        assert row["search_low"] < row["search_high"]
    assert "twice the examples" in page and "in test accuracy" in page
    usual = count_panels((made[0] / "report.html").read_text())
    assert count_panels(page) == usual | {"seeds": 3}
    for row in found["tables"]["optimism"]:
        own = {"broad": [], "confirm": []}
        for r in records:
            if r["arm"] == row["arm"]:
                metrics = r["metrics"] or {"validation": {"accuracy": -np.inf}}
                own[r["stage"]].append(metrics["validation"]["accuracy"])
        lost = max(own["broad"]) - np.median(own["confirm"])
        assert row["optimism"] == pytest.approx(lost)
        (arm,) = rows(found, "arms", arm=row["arm"], part="validation")
        assert row["confirmed"] == arm["median"]
    # Without test data nothing is said of examples.
    page = (made[0] / "report.html").read_text()
    assert "twice the seeds" in page and "twice the examples" not in page


def test_what_diverged_is_in_no_box_and_said(made, tmp_path):
    text = (made[0] / "report.html").read_text()
    for place in ("box", "line"):
        assert f"Seeds that diverged are in no {place}: lamb 1 of 20." in text
    study = synthetic_study.make_study(("lars",), trials=4, seeds=8)
    records = synthetic_study.make_records(study)
    gone = {"status": "diverged", "metrics": None, "curve": []}
    lost = [r for r in records if r["stage"] == "confirm"]
    for count, told in (
        (1, "over 8 seeds (95 %: diverged to 0."),
        (5, "study; 5 of 8 seeds with its best hyperparameters diverged."),
    ):
        for record in lost[:count]:
            record.update(gone)
        page, found = write(tmp_path, study, records)
        assert told in found["verdict"]["sentence"] and "inf" not in page
    (row,) = found["tables"]["optimism"]
    assert row["confirmed"] is row["optimism"] is None
    only = [r | gone for r in records if r["stage"] == "broad"]
    study = synthetic_study.make_study(("lars", "adamw"), trials=4, seeds=8)
    other = [r | {"arm": "adamw"} for r in only]
    _, found = write(tmp_path, study, only + other)
    assert "every search trial of every" in found["verdict"]["sentence"]


def test_box_plots_have_a_point_a_seed(made):
    folder, study, records, _ = made
    text = (folder / "report.html").read_text()
    for part in PARTS:
        svg = panel(text, f"seeds-{part}")
        for number, arm in enumerate(study["arms"]):
            points = re.findall(rf"<use [^>]*--arm-{number}\)", svg)
            assert len(points) == len(feasible(records, arm, "confirm", part))


def test_layer_wise_and_generic_arms_share_the_axis_of_relative_updates(made):
    text = (made[0] / "report.html").read_text()
    labels = [
        re.findall(r">([\d.e-]+)</text>", panel(text, f"relative-update-{n}"))
        for n in range(4)
    ]
    assert labels[0] == labels[1] == labels[2] == labels[3]


def test_page_stands_alone_and_is_well_formed(made):
    text = (made[0] / "report.html").read_text()
    reader = Reader(text)
    identifiers = [a["id"] for _, a in reader.tags if "id" in a]
    assert len(identifiers) == len(set(identifiers))
    assert set(FIGURES) <= set(identifiers)
    links = [
        a[key] for _, a in reader.tags for key in ("href", "src") if key in a
    ]
    links += re.findall(r"url\(([^)]*)\)", text)
    assert {link for link in links if not link.startswith("#")} == {"data:,"}
    assert {link[1:] for link in links if link[0] == "#"} <= set(identifiers)
    assert not [tag for tag, _ in reader.tags if tag == "script"]
    images = [a for _, a in reader.tags if a.get("role") == "img"]
    panels = count_panels(text)
    assert list(panels) == FIGURES
    # One for the study, each part of the data, scale, layer-wise arm or arm.
    assert set(panels.values()) == {1, 2, 4}
    assert len(images) == sum(panels.values())
    assert all(len(image["aria-label"]) > 40 for image in images)
    assert text.count("<figcaption>") == len(FIGURES)
    used = set(re.findall(r"var\((--[\w-]+)\)", text))
    light, dark = text.split("@media screen", 1)
    dark = dark.split("\n}\n", 1)[0]
    assert {f"--arm-{n}" for n in range(drawing.NUM_COLORS)} <= set(
        re.findall(r"(--[\w-]+):", dark)
    )
    for block in (light, dark):
        assert used <= set(re.findall(r"(--[\w-]+):", block))
    assert not re.findall(r"#0[1-9a-f]0[0-9a-f]{3}\b", text)


def test_docs_list_exactly_the_figures():
    docs = pathlib.Path(__file__).parents[2] / "docs" / "report.md"
    rows = [
        f"| `{entry.name}` | {entry.make.__doc__.splitlines()[0]} |\n"
        for entry in figures.ALL
    ]
    table = "| figure | what it shows |\n|---|---|\n" + "".join(rows) + "\n"
    assert table in docs.read_text(encoding="utf-8")


def test_docs_list_exactly_the_tables():
    page = pathlib.Path(__file__).parents[2] / "docs" / "report.md"
    listed = page.read_text(encoding="utf-8").partition("| a row is |")[2]
    cells = re.findall(r"^\| (`.*?) \|", listed, re.MULTILINE)
    names = re.findall(r"`(\w+)`", " ".join(cells))
    assert sorted(names) == sorted(results._TABLES)


def test_names_are_escaped_everywhere(made, tmp_path):
    _, study, records, _ = made

    def renamed(entry):
        text = json.dumps(entry).replace('"lars"', json.dumps(HOSTILE))
        return json.loads(text)

    study = renamed(study) | {"name": HOSTILE, "workload": HOSTILE}
    study["flagfile"] = f"--name={HOSTILE}"
    text, found = write(tmp_path, study, renamed(records))
    assert HOSTILE not in text
    reader = Reader(text)
    assert HOSTILE in reader.cells
    assert HOSTILE in Reader(f"<body>{panel(text, 'rates-1')}</body>").words
    assert any(f"--name={HOSTILE}" in word for word in reader.words)
    assert not [tag for tag, _ in reader.tags if tag in ("script", "b")]
    assert HOSTILE in found["study"]["arms"]
    latex = (tmp_path / "tables.tex").read_text()
    assert r"a\textless{}b\&" in latex and r"\$x\_1\$" in latex
    assert r"\%\#\textbackslash{}\textbar{}" in latex
    markdown = (tmp_path / "tables.md").read_text()
    assert "a\\<b&\"$x\\_1$'\\</script\\>%\\#\\\\\\|\\*" in markdown
    for line in markdown.splitlines():
        if line.startswith("| nesterov"):
            width = len(re.findall(r"(?<!\\)\|", line))
            assert width in (8, 6, 10)


def test_a_metric_of_any_size_shows_something():
    shown = [tables.metric(v) for v in (2.345678e-5, 0.0, 6e-5, 0.7654, 76.237)]
    assert shown == ["2.346e-05", "0.0000", "0.0001", "0.7654", "76.24"]
    assert [tables.metric(v, "+") for v in (3e-6, -0.0123)] == [
        "+3e-06", "-0.0123",
    ]  # fmt: skip


def test_markdown_and_latex_hold_the_tables_of_the_papers(made):
    folder, study, _, found = made
    printed = page_tables.for_papers(found)
    assert [table.name for table in printed] == [
        "arms",
        "pairs",
        "spaces",
        "best-points",
        "budget",
    ]
    markdown = (folder / "tables.md").read_text()
    latex = (folder / "tables.tex").read_text()
    assert latex == tables.to_latex(printed)
    for kind in (r"\begin{tabular}", r"\toprule", r"\end{table}"):
        assert latex.count(kind) == 5
    assert "| lars | learning\\_rate | \\[0.1, 100\\] | log | 3 decades |" in (
        markdown
    )
    assert r"lars & learning\_rate & [0.1, 100] & log & 3 decades \\" in latex
    rules = re.findall(r"^\| (?:---:? \| ?)+$", markdown, re.M)
    assert len(rules) == 5


def test_a_running_study_has_no_verdict(made, tmp_path):
    _, study, records, _ = made
    text, found = write(tmp_path, study, records[:-1])
    first = "No verdict yet: the study is still running, 159 of 160 trials"
    assert Reader(text).words[0].startswith(first)
    assert found["verdict"] is None and not found["finished"]
    assert not found["tables"]["pairs"] and 'id="pairs"' not in text
    text, found = write(tmp_path, study, [])
    assert "0 of 160" in Reader(text).words[0]
    (tmp_path / "trials.jsonl").unlink()
    report.write(tmp_path)
    assert (tmp_path / "report.html").read_text() == text


def _as_loss(study, records):
    study["metric"] = {"name": "loss", "mode": "min"}
    study["target"] = study["margin"] = None
    for record in records:
        for metrics in (record["metrics"] or {}).values():
            metrics["loss"] = (10 * metrics["loss"]) ** 4
        for point in record["curve"]:
            for part in PARTS:
                point[part]["loss"] = 1 - point[part]["accuracy"]


def _diverge(record):
    record.update(status="diverged", metrics=None, curve=[], bad=None)


def _lamb_diverges(study, records):
    records[:] = [
        r for r in records if r["arm"] != "lamb" or r["stage"] == "broad"
    ]
    for record in records:
        if record["arm"] == "lamb":
            _diverge(record)


def _all_diverge(study, records):
    records[:] = [r for r in records if r["stage"] == "broad"]
    for record in records:
        _diverge(record)


def _bare(study, records):
    for arm in study["arms"].values():
        arm["audit"] = []
        arm["space"]["parameters"]["epsilon"] = {"values": [1e-7, 1e-6]}
    for record in records:
        record.update(curve=[], diagnostics=None)
        record["hyperparameters"].pop("l2", None)


def _one_value(study, records):
    for record in records:
        for metrics in (record["metrics"] or {}).values():
            metrics["accuracy"] = 1.0


def _deep_model(study, records):
    for record in records:
        if record["diagnostics"]:
            record["diagnostics"]["variables"] = [
                variable | {"path": f"layer_{number}/{variable['path']}"}
                for number in range(27)
                for variable in record["diagnostics"]["variables"]
            ]


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize(
    ("change", "panels"),
    [
        (_as_loss, {}),
        (_one_value, {}),
        (_deep_model, {}),
        (_all_diverge, dict.fromkeys(FIGURES, 0)),
    ],
)
def test_uncommon_studies(made, change, panels, tmp_path):
    """`panels`: how many the figures have that have not as many as usual."""
    usual = count_panels((made[0] / "report.html").read_text())
    assert _panels_after(change, tmp_path) == usual | panels


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize(
    ("change", "curves", "trust_ratios", "others"),
    [(_lamb_diverges, 2, 1, 3), (_bare, 0, 0, 0)],
)
def test_studies_that_lack_runs(change, curves, trust_ratios, others, tmp_path):
    panels = {
        "seeds": 2,
        "curves": curves,
        "best-so-far": 4,
        "targets": 2,
        "rates": 4,
        "schedules": 2,
        "trust-ratios": trust_ratios,
        "relative-updates": others,
        "effective-rates": others,
    }
    assert panels.items() <= _panels_after(change, tmp_path).items()


def _panels_after(change, tmp_path):
    study = synthetic_study.make_study()
    records = synthetic_study.make_records(study)
    change(study, records)
    text, found = write(tmp_path, study, records)
    assert found["finished"]
    assert "nan" not in re.findall(r'd="([^"]*)"', text)
    assert (tmp_path / "results.json").read_text().count("NaN") == 0
    return count_panels(text)


def test_one_trial_and_one_seed(tmp_path):
    study = synthetic_study.make_study(("nesterov", "lars"), trials=1, seeds=1)
    text, _ = write(tmp_path, study, synthetic_study.make_records(study, 1))
    assert Reader(text).words[0].startswith("Undecided")


def test_a_large_study_stays_small(tmp_path):
    study = synthetic_study.make_study(trials=500)
    text, _ = write(tmp_path, study, synthetic_study.make_records(study))
    assert len(text.encode()) < 3_000_000


def _change_line(number, change):
    def apply(folder):
        path = folder / "trials.jsonl"
        lines = path.read_text().splitlines(keepends=True)
        lines[number - 1] = change(lines[number - 1])
        path.write_text("".join(lines))

    return apply


def _change_record(number, **changes):
    return _change_line(
        number, lambda line: json.dumps(json.loads(line) | changes) + "\n"
    )


def _change_study(**changes):
    def apply(folder):
        path = folder / "study.json"
        study = json.loads(path.read_text()) | changes
        study = {k: v for k, v in study.items() if v != "gone"}
        path.write_text(json.dumps(study))

    return apply


def _change_arm(**changes):
    arms = synthetic_study.make_study()["arms"]
    return _change_study(arms=arms | {"lars": arms["lars"] | changes})


def _many(count):
    arm = synthetic_study.make_study()["arms"]["lars"]
    return {f"arm{number}": arm for number in range(count)}


def _diagnostics(ratios):
    variable = {"path": "kernel", "shape": [3], "trust_ratio": ratios}
    for name in ("effective_rate", "relative_update"):
        variable[name] = [0.5, None]
    return {"steps": [0, 50], "variables": [variable]}


def _folder(path):
    path.unlink()
    path.mkdir()


def _cut_study(folder):
    path = folder / "study.json"
    path.write_text("".join(path.read_text().splitlines(True)[:5]))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: shutil.rmtree(f), "no such folder"),
        (lambda f: (f / "study.json").unlink(), "there is no study.json"),
        (lambda f: _folder(f / "study.json"), "study.json: Is a directory"),
        (lambda f: _folder(f / "trials.jsonl"), "trials.jsonl: Is a directory"),
        (_cut_study, r"study.json: not JSON: .*line \d+"),
        (_change_study(format=0), "format of the study must be 1, received 0"),
        (_change_study(steps="gone"), "study.json: .*missing .*`steps`"),
        (_change_study(steps=0), "study.json: steps: expected `int` >= 1"),
        (_change_study(arms=[]), "study.json: arms: expected `object`"),
        (_change_study(arms={}), "study.json: arms: expected `object` of len"),
        (_change_study(target="x"), "study.json: target: expected `float"),
        (_change_study(seeds=10**9), "seeds: expected `int` <= 1000, rec"),
        (_change_study(trials=-3), "trials: expected `int` >= 1, rec.* -3"),
        (
            _change_study(trials=10**4, arms=_many(51)),
            "100,000 trials .*511,020",
        ),
        (_change_study(selection="test"), "selection: expected one of .train"),
        (_change_study(command=[]), "command: expected `array` of length >= 1"),
        (_change_study(command=["a", None]), r"command\[1\]: expected `str`"),
        (_change_study(environment=[]), "environment: expected `object`"),
        (_change_study(name="a\x1b[2Jb"), r"control characters: 'a\\x1b\[2Jb'"),
        (_change_study(metric={"name": "x", "mode": "up"}), "one of 'max', "),
        (_change_study(facts={"num_validation": 0.5}), "facts.num_validation"),
        (_change_arm(space="x"), "arm 'lars': space: expected `object`"),
        (_change_arm(layer_wise=None), "arm 'lars': layer_wise: expected `b"),
        (_change_arm(space={"points": "x"}), "study.json: arm 'lars': "),
        (_change_study(metric={"name": "x"}), "study.json: metric: .*missing"),
        (_change_line(7, lambda line: line[:40]), "trials.jsonl:7: not JSON"),
        (_change_line(160, lambda line: line[:-1]), "jsonl:160: .*cut short"),
        (_change_line(7, lambda _: "[]\n"), "trials.jsonl:7: expected `obj"),
        (
            _change_line(9, lambda line: line.replace("512", "NaN")),
            "trials.jsonl:9: .*NaN is no number of JSON",
        ),
        (
            _change_line(9, lambda line: line.replace("512", "9" * 4000)),
            "trials.jsonl:9: .*99999... is too large",
        ),
        (_change_record(3, arm="sgd"), r"jsonl:3: arm .*received 'sgd'"),
        (_change_record(3, arm=[]), r"jsonl:3: arm: expected `str`"),
        (_change_record(3, stage="x"), r"jsonl:3: stage: .*received 'x'"),
        (_change_record(3, status="?"), r"jsonl:3: status: .*received '\?'"),
        (_change_record(3, index="0"), r"jsonl:3: index: expected `int`"),
        (_change_record(3, index=-5), r"jsonl:3: index: expected `int` >= 0"),
        (
            _change_record(3, index=20),
            r"jsonl:3: index must be at least 0 and below 20",
        ),
        (_change_record(3, index=0), r"jsonl:3: .*jsonl:1 already"),
        (_change_record(3, steps=101), r"jsonl:3: steps: .* 0 to 100"),
        (_change_record(3, metrics={}), r"jsonl:3: a finished trial .*accur"),
        (_change_record(3, metrics=[]), r"jsonl:3: metrics: expected `object"),
        (
            _change_record(3, metrics={"validation": [], "training": {}}),
            r"jsonl:3: metrics\[...\]: expected `object`",
        ),
        (_change_record(3, hyperparameters={"a": {}}), "hyperparameters"),
        (_change_record(3, curve=[1, 2]), r"jsonl:3: curve\[0\]: expected"),
        (
            _change_record(3, curve=[{"step": 9}, {"step": 9}]),
            "jsonl:3: curve: expected increasing steps",
        ),
        (
            _change_record(3, curve=[{"step": 9, "training": {}}]),
            "jsonl:3: curve: step 9 has no validation",
        ),
        (
            _change_record(
                3,
                curve=[
                    {"step": 9, "validation": {"accuracy": 1}, "training": {}}
                ],
            ),
            "jsonl:3: curve: step 9 has no training 'accuracy'",
        ),
        (_change_record(3, diagnostics={"steps": [0]}), "jsonl:3: diagnostic"),
        (
            _change_record(3, diagnostics=_diagnostics(ratios=[1.0])),
            "jsonl:3: diagnostics.trust_ratio: expected 2 numbers, .* 1",
        ),
        (
            _change_record(3, schedule={"steps": [0], "rates": [1, 2]}),
            "jsonl:3: schedule: .*missing .*findings",
        ),
    ],
)
def test_damage_is_named_with_file_and_line(made, tmp_path, damage, message):
    folder = tmp_path / "study"
    synthetic_study.write(folder, made[1], made[2])
    damage(folder)
    with pytest.raises((OSError, ValueError), match=message):
        report.write(folder)
    if folder.exists():
        left = {p.name for p in folder.iterdir()}
        assert left <= {"study.json", "trials.jsonl"}


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "lbcheck", "report", *arguments],
        capture_output=True,
        text=True,
        cwd=pathlib.Path(__file__).parents[2],
    )


def test_command_says_what_is_wrong(tmp_path):
    for arguments, message in (
        ([], "expected the folder of one study"),
        ([str(tmp_path)], "holds no study: there is no study.json"),
        ([str(tmp_path / "no")], "no such folder"),
    ):
        done = run(*arguments)
        assert done.returncode == 2
        assert message in done.stderr and "Traceback" not in done.stderr


def test_a_file_that_cannot_be_replaced(made, tmp_path):
    synthetic_study.write(tmp_path, made[1], made[2])
    (tmp_path / "report.html").mkdir()
    done = run(str(tmp_path))
    assert done.returncode == 2 and "report.html" in done.stderr
    assert not [p for p in tmp_path.iterdir() if p.suffix == ".part"]


def test_no_framework_is_imported(made):
    code = (
        "import sys; from lbcheck import report; report.write(sys.argv[1]); "
        "print([m for m in ('tensorflow', 'keras', 'tf_keras', 'optuna') "
        "if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(made[0])],
        capture_output=True,
        text=True,
        cwd=pathlib.Path(__file__).parents[2],
    )
    assert done.stdout == "[]\n", done.stderr


def test_user_settings_of_matplotlib_do_not_matter(made, tmp_path):
    import matplotlib

    folder, study, records, _ = made
    before = dict(matplotlib.rcParams)
    with matplotlib.rc_context({"lines.linewidth": 9, "font.size": 30}):
        text, _ = write(tmp_path, study, records)
        assert matplotlib.rcParams["font.size"] == 30
    assert text == (folder / "report.html").read_text()
    assert dict(matplotlib.rcParams) == before


def test_results_without_a_page(made):
    folder, study, _, found = made
    collected = results.collect(study_folder.load(folder))
    assert json.loads(results.to_json(collected)) == found
    table = page_tables.arms(collected)
    assert [row[0] for row in table.rows] == list(study["arms"])


needs_chromium = pytest.mark.skipif(
    chromium.PROGRAM is None, reason="no Chromium on this machine"
)

BREADTH = "document.documentElement.scrollWidth"
EMPTY_PANELS = """
[...document.querySelectorAll('figure .panel svg')].filter(svg => {
  const box = svg.getBoundingClientRect();
  const drawn = svg.querySelectorAll('path, use, text').length;
  return box.width < 250 || box.height < 150 || drawn < 20;
}).length"""
STRAY_TEXT = """
[...document.querySelectorAll('.panel svg text')].filter(text => {
  const box = text.getBoundingClientRect();
  return box.left < 0 || box.right > WIDTH || box.height < 8;
}).length"""
INK = """
JSON.stringify([getComputedStyle(document.body).color,
  getComputedStyle(document.body).backgroundColor,
  getComputedStyle(document.querySelector('.panel svg text')).fill])"""


def brightness(color):
    return sum(map(int, re.findall(r"\d+", color)[:3]))


@needs_chromium
def test_the_page_in_a_real_browser(made):
    folder, study, records, found = made
    sentence = found["verdict"]["sentence"]
    with chromium.page() as page:
        for width in (1280, 390):
            for dark in (False, True):
                page.open(folder / "report.html", width, dark)
                words = page.evaluate("document.body.innerText").split()
                assert " ".join(words).startswith(sentence)
                figures = page.evaluate(
                    "[...document.querySelectorAll('figure')]"
                    ".map(f => f.id).join()"
                )
                assert set(figures.split(",")) == set(FIGURES)
                assert page.evaluate(EMPTY_PANELS) == 0
                stray = STRAY_TEXT.replace("WIDTH", str(width))
                assert page.evaluate(stray) == 0
                # Not innerWidth, which a phone lets grow with the page.
                assert page.evaluate(BREADTH) <= width
                ink, paper, text = json.loads(page.evaluate(INK))
                assert text == ink
                assert (brightness(ink) > brightness(paper)) == dark
        assert page.messages == []
        address = (folder / "report.html").as_uri()
        assert set(page.requests) <= {address, "data:,"}


@needs_chromium
def test_the_browser_test_can_fail(made, tmp_path):
    text = (made[0] / "report.html").read_text()
    text = re.sub("<meta http-equiv[^>]*>", "", text)
    broken = (
        '<img src="http://127.0.0.1:9/x.png"><script>nonsense()</script>'
        '<div style="width:3000px">wide</div></body>'
    )
    text = re.sub("(?s)<path.*?>|<use.*?>", "", text)
    (tmp_path / "report.html").write_text(text.replace("</body>", broken))
    with chromium.page() as page:
        page.open(tmp_path / "report.html", 390)
        assert any("nonsense" in message for message in page.messages)
        assert "http://127.0.0.1:9/x.png" in page.requests
        assert page.evaluate(BREADTH) > 390
        assert page.evaluate(EMPTY_PANELS) > 0


def test_the_chronology_counts_trials_not_their_runs(tmp_path):
    study = synthetic_study.make_study(("lars",), trials=6, seeds=2)
    runs = synthetic_study.make_records(study)
    values = []
    for record in runs:
        if record["stage"] == "broad":
            accuracy = 0.5 + record["index"] / 100
            record |= {"status": "finished", "bad": None, "steps": 100}
            part = {"accuracy": accuracy, "loss": 1.0}
            record["metrics"] = {"validation": part, "training": part}
            values.append(accuracy)
    study |= {"trials": 3, "search_seeds": 2, "challenge_trials": 0}
    synthetic_study.write(tmp_path, study, runs)
    (table,) = chronology.printed([str(tmp_path)])
    best = sum(values[-2:]) / 2
    assert "3 trials, 3 of them feasible" in table.caption
    assert f"Best validation accuracy: {best:.4f}" in table.caption
