"""Figures of the papers: numbers, index, pictures, refusals."""

import csv
import json
import math
import subprocess
import sys

import matplotlib.figure
import numpy as np
import pytest
from absl import app

from lbcheck import published
from lbcheck import verdict
from lbcheck.figures import content
from lbcheck.figures import figure_command
from lbcheck.figures import grid as grids
from lbcheck.figures import index
from lbcheck.figures import painter
from lbcheck.support import command
from lbcheck.support import event_file
from tests.figures import synthetic_grid
from tests.report import synthetic_study

NAMES = {
    *(f"nado2021_figure{n}" for n in range(1, 5)),
    *(f"nado2021_iclr_figure{n}" for n in range(6, 13)),
    *(f"you2019_figure{n}" for n in range(1, 15)),
}
GRID = [f"nado2021_iclr_figure{n}" for n in range(6, 13)]


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    return synthetic_grid.write(tmp_path_factory.mktemp("grid"))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Four arms of 20 seeds, of which one of lamb's diverged."""
    described = synthetic_study.make_study(trials=5)
    records = synthetic_study.make_records(described)
    folder = tmp_path_factory.mktemp("study")
    return synthetic_study.write(folder, described, records)


@pytest.fixture
def run_command():
    """Calls `lbcheck figure` in this process."""

    def call(*arguments):
        figure_command.FLAGS.unparse_flags()
        line = ["lbcheck figure", *map(str, arguments)]
        return figure_command.main(command.parse(figure_command.FLAGS, line))

    yield call
    for name in ("output", "records", "format"):
        figure_command.FLAGS[name].unparse()


def lines_of(figure, panel=0):
    """{label: (across, up)} of a panel."""
    return {
        mark.label: (mark.across, mark.up)
        for mark in figure.panels[panel].marks
        if hasattr(mark, "up")
    }


def write_run(folder, lines, status="finished"):
    folder.mkdir(parents=True)
    (folder / "status.json").write_text(json.dumps({"status": status}))
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "measurements.jsonl").write_text(text)


# The index.


def test_every_figure_of_both_papers_is_there():
    assert set(index.ENTRIES) == NAMES


@pytest.mark.parametrize("name", sorted(NAMES))
def test_without_records_it_is_drawn(name):
    entry = index.ENTRIES[name]
    origin = entry.numbers_from()
    figure = index.make(name)
    assert figure.numbers_from == origin
    told = {
        "published data": "published data",
        "a shipped miniature": "not comparable with the paper",
    }
    assert told[origin] in figure.caption[0]
    assert any(panel.marks for panel in figure.panels)
    json.dumps(figure.to_dict(), allow_nan=False)


def test_the_manual_has_every_figure():
    text = (index.MINIATURES.parents[2] / "docs" / "figures.md").read_text()
    for name, entry in index.ENTRIES.items():
        cells = name, entry.numbers_from(), entry.title, entry.needs or "–"
        assert "| `{}` | {} | {} | {} |".format(*cells) in text, name


def test_flagfiles_that_make_records_are_there():
    commands = [entry.command for entry in index.ENTRIES.values()]
    for line in (*commands, *index.MADE_BY.values()):
        for word in line.replace(";", " ").split():
            if word.startswith("--flagfile="):
                name = word.partition("=")[2]
                for variable in ("$batch", "$run"):
                    name = name.replace(variable, "512")
                assert (index.MINIATURES.parents[2] / name).is_file()


def test_rows_that_make_records_are_there():
    from lbcheck.published import rows

    for entry in index.ENTRIES.values():
        words = entry.command.split()
        if words[:3] == ["lbcheck", "published", "run"]:
            for word in words[3:]:
                if not word.startswith("--"):
                    assert rows.find(word).no_run is None


def test_miniatures_are_small_and_say_what_made_them():
    files = [f for f in index.MINIATURES.rglob("*") if f.is_file()]
    assert sum(file.stat().st_size for file in files) < 1_000_000
    for file in files:
        if file.name == "study.json":
            found = json.loads(file.read_text())
            assert found["command"] and found["environment"]["commit"]
        if file.name == "run.json":
            (start,) = json.loads(file.read_text())["starts"]
            assert start["command"] and start["commit"]
    folders = {file.relative_to(index.MINIATURES).parts[0] for file in files}
    assert folders == {"README.md", *index.MADE_BY}


def test_batches_are_in_their_order():
    labels = [m.label for m in index.make("you2019_figure6").panels[0].marks]
    assert labels == ["32", "64", "128", "256", "512", "1024", "2048"]


# Published data.


def rows_of(table):
    with published.path(table).open(newline="") as file:
        return list(csv.DictReader(file))


def test_figure_8_is_the_published_times():
    hours = []
    for row in rows_of("you2019_table1")[1:]:
        unit = {"h": 60.0, "m": 1.0}[row["time"][-1]]
        hours.append(float(row["time"][:-1]) * unit)
    lines = lines_of(index.make("you2019_figure8"))
    across, up = lines["batch in proportion to the TPUs"]
    assert across == [16, 32, 64, 128, 256, 512, 1024]
    assert up == pytest.approx([hours[0] / h for h in hours[:7]], rel=1e-12)
    assert lines["64k/32k mixed batch"][1] == pytest.approx([65.2], abs=0.05)
    assert lines["perfect scaling"] == ([16, 1024], [1.0, 64.0])


def test_figure_4_of_lamb_is_table_6():
    figure = index.make("you2019_figure4")
    assert [(m.label, m.values) for m in figure.panels[0].marks] == [
        (row["optimizer"], [float(row["test_accuracy"])])
        for row in rows_of("you2019_table6")
    ]


def test_figure_1_is_the_schedules_of_table_5():
    settings = {"LARS": (29.0, 1e-4, 1.0), "Nesterov (B)": (7.05, 6e-6, 2.0)}
    lines = lines_of(index.make("nado2021_figure1"))
    for name, (peak, final, power) in settings.items():
        t = np.array(lines[name][0], float)
        decay = final + (peak - final) * ((2512 - t) / (2512 - 706)) ** 2
        expected = np.where(t <= 706, peak * (t / 706) ** power, decay) / peak
        np.testing.assert_allclose(lines[name][1], expected, atol=1e-12)


def test_figure_2_drops_when_warm_up_ends():
    figure = index.make("nado2021_figure2")
    lines = lines_of(figure)
    across, up = lines["original code"]
    at = dict(zip(across, up))
    peak = 5.9415e-4
    assert at[3124] == pytest.approx(peak * 3124 / 3125)
    assert at[3125] == pytest.approx(peak * (1 - 3125 / 14063))
    assert dict(zip(*lines["without the drop"]))[3125] == pytest.approx(peak)
    assert "22.2%" in figure.caption[1]


def test_figure_2_of_lamb_is_the_correction():
    across, up = lines_of(index.make("you2019_figure2"))[
        "bias correction, beta 0.9 and 0.999"
    ]
    t = np.array(across, float)
    expected = np.sqrt(1 - 0.999**t) / (1 - 0.9**t)
    np.testing.assert_allclose(up, expected, rtol=1e-9)
    assert across[0] == 1 and across[np.argmin(up)] == 12


# The grid.


def test_figures_6_and_7_count_the_settings_that_reach_a_target(grid):
    for name, error in (
        ("nado2021_iclr_figure6", synthetic_grid.error),
        ("nado2021_iclr_figure7", synthetic_grid.training_error),
    ):
        for arm, (across, up) in lines_of(index.make(name, grid)).items():
            errors = np.array(
                [
                    error(arm, rate, decay)
                    for rate in synthetic_grid.RATES[arm]
                    for decay in synthetic_grid.DECAYS
                    if synthetic_grid.error(arm, rate, decay) is not None
                ]
            )
            assert len(errors) == {"nesterov": 97, "lars": 100}[arm]
            for target in np.linspace(0.19, 0.6, 50):
                drawn = max(
                    (u for a, u in zip(across, up) if a <= target), default=0
                )
                reached = np.mean(
                    np.append(errors, [9] * (100 - len(errors))) <= target
                )
                assert drawn == pytest.approx(reached, abs=1e-9)


def test_figure_8_draws_every_decay(grid):
    figure = index.make("iclr_figure8", grid)
    assert [panel.title for panel in figure.panels] == ["nesterov", "lars"]
    for panel in figure.panels:
        drawn, lost = {}, []
        for mark in panel.marks:
            if mark.style == "dots":
                rate = mark.label.removeprefix("rate ")
                drawn |= {(rate, d): e for d, e in zip(mark.across, mark.up)}
            elif mark.style == "lost":
                lost += mark.across
        for rate in synthetic_grid.RATES[panel.title]:
            for decay in synthetic_grid.DECAYS:
                error = synthetic_grid.error(panel.title, rate, decay)
                key = f"{rate:.3g}", decay
                if error is None:
                    assert key not in drawn and decay in lost
                else:
                    assert drawn.pop(key) == pytest.approx(error, abs=1e-12)
        assert not drawn and len(lost) == (
            3 if panel.title == "nesterov" else 0
        )


def test_figure_9_finds_how_the_best_rate_depends_on_the_decay(grid):
    figure = index.make("iclr_figure9", grid)
    for arm, (decays, rates) in lines_of(figure).items():
        np.testing.assert_allclose(decays, synthetic_grid.DECAYS)
        best = [10.0] * 10 if arm == "lars" else 1e-4 / synthetic_grid.DECAYS
        np.testing.assert_allclose(rates, best)
    for text in (
        "nesterov: best rate in proportion to decay^-1; at 2 of 10",
        "lars: best rate in proportion to decay^0; at 0 of 10",
    ):
        assert any(said.startswith(text) for said in figure.caption)
    rules = [m.value for m in figure.panels[0].marks if not hasattr(m, "up")]
    np.testing.assert_allclose(sorted(rules), [0.01, 0.1, 10, 100])


def test_what_a_logarithmic_axis_cannot_show_is_counted(tmp_path):
    folder = synthetic_grid.write(tmp_path / "grid")
    path = folder / "trials.jsonl"
    weakest = json.dumps(float(synthetic_grid.DECAYS[0]))
    text = path.read_text()
    assert text.count(weakest) == 20
    path.write_text(text.replace(weakest, "0.0"))
    figure = index.make("iclr_figure9", folder)
    assert figure.caption[-1].endswith("points that are not drawn, 2.")
    said = [text for text in figure.caption if "in proportion to" in text]
    assert [text.partition(":")[0] for text in said] == ["nesterov", "lars"]
    assert not any("not drawn" in c for c in index.make("iclr_figure8").caption)


@pytest.mark.parametrize(
    "number, column, asked", [(10, 6, 1e-3), (11, 5, 3e-4), (12, 3, 1e-4)]
)
def test_figures_10_to_12_are_a_slice_at_the_nearest_decay(
    grid, number, column, asked
):
    decay = synthetic_grid.DECAYS[column]
    gaps = np.abs(np.log(synthetic_grid.DECAYS / asked))
    if number != 11:  # 3e-4 lies between two
        assert np.argmin(gaps) == column
    else:
        decay = synthetic_grid.DECAYS[np.argmin(gaps)]
    lines = lines_of(index.make(f"iclr_figure{number}", grid))
    assert len(lines) == 2
    for arm in ("nesterov", "lars"):
        across, up = lines[f"{arm}, decay {decay:.3g}"]
        np.testing.assert_allclose(across, synthetic_grid.RATES[arm])
        expected = [synthetic_grid.error(arm, r, decay) for r in across]
        np.testing.assert_allclose(up, expected, atol=1e-12)


def test_refined_trials_are_no_settings_of_the_grid(tmp_path):
    described = synthetic_study.make_study(
        ("adamw", "lamb"), 4, seeds=1, refined_trials=1
    )
    records = synthetic_study.make_records(described)
    records.append(records[0] | {"stage": "refined", "index": 0})
    folder = synthetic_study.write(tmp_path / "study", described, records)
    assert {a: len(s) for a, s in grids.settings(folder).items()} == {
        "adamw": 4,
        "lamb": 4,
    }


def test_the_nearest_decay_is_so_by_its_logarithm(grid):
    # 2.15e-4 is nearer to it by 0.4e-4, 4.64e-4 by its ratio.
    drawn = grids.at_decay(grid, 3.2e-4)
    assert {m.label for m in drawn.panels[0].marks} == {
        "nesterov, decay 0.000464",
        "lars, decay 0.000464",
    }


# Boxes.


def test_figure_4_has_a_box_an_arm_with_hits_and_the_verdict(study):
    described = json.loads((study / "study.json").read_text())
    records = [
        json.loads(line)
        for line in (study / "trials.jsonl").read_text().splitlines()
    ]
    figure = index.make("nado2021_figure4", study)
    *boxes, rule = figure.panels[0].marks
    assert rule.value == described["target"]
    assert {box.label for box in boxes} == set(described["arms"])
    for box in boxes:
        runs = [
            r["metrics"] and r["metrics"]["validation"]["accuracy"]
            for r in records
            if (r["arm"], r["stage"]) == (box.label, "confirm")
        ]
        ended = [value for value in runs if value is not None]
        assert sorted(box.values) == sorted(ended)
        assert box.diverged == len(runs) - len(ended)
        hits = sum(value >= described["target"] for value in ended)
        assert box.note == f"{hits} of 20 hits"
    assert verdict.decide(described, records).sentence in figure.caption
    published_line = figure.caption[-1]
    assert (
        "above the target of 75.9 % for Base, BN & LR tuning" in published_line
    )


def test_figure_3_has_a_box_a_setting(tmp_path):
    scores = {"32k": [90.9, 91.58, 91.7], "65k": [90.1, 90.5]}
    for setting, values in scores.items():
        (tmp_path / "squad" / setting).mkdir(parents=True)
        (tmp_path / "squad" / setting / "stability.json").write_text(
            json.dumps({"seeds": [0, 1], "f1": {"values": values}})
        )
    figure = index.make("nado2021_figure3", tmp_path)
    boxes = {box.label: box.values for box in figure.panels[0].marks}
    assert boxes == scores
    assert "91.58 (32768)" in figure.caption[-1]
    (alone,) = (
        index.make("nado2021_figure3", tmp_path / "squad" / "32k")
        .panels[0]
        .marks
    )
    assert alone.label == "32k"


# Curves.


def test_accuracy_of_folders_of_runs(tmp_path):
    for name, values in (("lamb", [0.5, 0.75]), ("nadam", [0.25, 0.5])):
        lines = [
            {"step": 20 * (i + 1), "loss": 1.0, "validation_accuracy": value}
            for i, value in enumerate(values)
        ]
        lines.insert(1, {"step": 30, "loss": 1.0})
        write_run(tmp_path / "resnet" / name / "run", lines)
    figure = index.make("you2019_figure1", tmp_path)
    assert lines_of(figure) == {
        "lamb": ([20, 40], [0.5, 0.75]),
        "nadam": ([20, 40], [0.25, 0.5]),
    }
    assert figure.caption[1] == "At the end: lamb 0.7500, nadam 0.5000."


def test_phases_follow_one_another_and_fine_tuning_is_left_out(tmp_path):
    for phase, loss in ((1, 8.0), (2, 2.0)):
        lines = [
            {"step": step, "loss": loss / step, "masked_lm_loss": 1.0}
            for step in (10, 20)
        ]
        write_run(tmp_path / "mixed" / "run" / f"phase{phase}", lines)
    write_run(tmp_path / "mixed" / "squad", [{"step": 5, "loss": 9.0}])
    lines = lines_of(index.make("you2019_figure7", tmp_path))
    assert list(lines.values()) == [([10, 20, 30, 40], [0.8, 0.4, 0.2, 0.1])]
    lines = lines_of(index.make("you2019_figure6", tmp_path))
    assert list(lines.values()) == [
        ([0.25, 0.5, 0.75, 1.0], [0.8, 0.4, 0.2, 0.1])
    ]


def test_runs_that_are_not_finished_are_named(tmp_path):
    for name, steps in (("32", (10, 20)), ("64", (10,))):
        lines = [
            {"step": step, "loss": 8.0 / step, "masked_lm_loss": 1.0}
            | {"validation_accuracy": 0.5}
            for step in steps
        ]
        write_run(tmp_path / name, lines)
    status = tmp_path / "64" / "status.json"
    status.write_text('{"status": "diverged", "step": 12}')
    named = "Not finished: 64 (diverged, step 10)."
    figure = index.make("you2019_figure6", tmp_path)
    assert list(lines_of(figure)) == ["32"]
    assert figure.caption[1:] == ["Training loss at the end: 32 0.4.", named]
    for name in ("you2019_figure1", "you2019_figure7"):
        figure = index.make(name, tmp_path)
        assert list(lines_of(figure)) == ["32", "64"]
        assert "64" not in figure.caption[1] and figure.caption[2] == named
    (tmp_path / "32" / "status.json").write_text('{"status": "running"}')
    with pytest.raises(ValueError, match="no finished run. Not finished: 32"):
        index.make("you2019_figure6", tmp_path)


def test_curves_of_a_study_are_medians_over_the_seeds(study):
    lines = lines_of(index.make("you2019_figure3", study))
    records = map(json.loads, (study / "trials.jsonl").read_text().splitlines())
    found = {}
    for record in records:
        if record["arm"] == "adamw" and record["status"] == "finished":
            for point in record["curve"]:
                found.setdefault(point["step"], []).append(
                    point["validation"]["accuracy"]
                )
    assert lines["adamw"][0] == sorted(found)
    np.testing.assert_allclose(
        lines["adamw"][1], [np.median(found[s]) for s in sorted(found)]
    )


def test_seeds_of_a_study_that_diverged_are_named(study):
    """One of lamb's; no median holds it."""
    for name in ("you2019_figure1", "you2019_figure3"):
        said = index.make(name, study).caption[-1]
        assert said == "Seeds that diverged, in no median: lamb 1 of 20."


def test_figure_5_says_where_a_lower_loss_has_a_lower_accuracy(tmp_path):
    ends = {"a": (0.5, 0.75), "b": (0.25, 0.5), "c": (0.9, 0.25)}
    for name, (loss, accuracy) in ends.items():
        line = {
            "step": 10,
            "validation_loss": loss,
            "validation_accuracy": accuracy,
        }
        write_run(tmp_path / name, [line])
    figure = index.make("you2019_figure5", tmp_path)
    assert lines_of(figure, 0)["b"] == ([10], [0.25])
    assert lines_of(figure, 1)["b"] == ([10], [0.5])
    assert figure.caption[1] == (
        "A lower validation loss with a lower accuracy, at the end: "
        "b (0.25; 0.5000) against a (0.5; 0.7500)."
    )


# Trust ratios.


def test_trust_ratios_of_a_study_at_six_iterations(study):
    shown = []
    for number in range(9, 15):
        figure = index.make(f"you2019_figure{number}", study)
        assert [p.title.split(",")[0] for p in figure.panels] == [
            "lars",
            "lamb",
        ]
        panel = figure.panels[1]
        kernels = [n for n in synthetic_study.LAYERS if n.endswith("kernel")]
        assert panel.names == tuple(kernels)
        step = int(panel.title.rpartition(" ")[2])
        shown.append(step)
        expected = [
            0.01 * (synthetic_study.LAYERS.index(name) + 1) * (1 + step / 100)
            for name in kernels
        ]
        np.testing.assert_allclose(panel.marks[0].up, expected, rtol=1e-9)
    assert shown == [0, 20, 40, 55, 75, 95]


def test_trust_ratios_of_event_files(tmp_path):
    writer = event_file.EventFile(tmp_path / "run" / "tensorboard")
    for step in range(0, 600, 100):
        writer.scalar(step, "trust_ratio/a/kernel", 0.5 + step)
        writer.scalar(step, "trust_ratio/a/bias", 1.0)
        writer.scalar(step, "weight_norm/a/kernel", 7.0)
    writer.close()
    figure = index.make("you2019_figure11", tmp_path)
    (panel,) = figure.panels
    assert panel.names == ("a/kernel",)
    assert panel.marks[0].up == [200.5]


# Pictures.


def test_what_is_painted_is_what_json_prints(grid, tmp_path, monkeypatch):
    painted = []
    monkeypatch.setattr(
        matplotlib.figure.Figure,
        "savefig",
        lambda self, *_, **__: painted.append(self),
    )
    figure = index.make("iclr_figure8", grid)
    painter.write(figure, tmp_path / "figure.png")
    for axes, panel in zip(painted[0].axes, figure.panels):
        drawn = {line.get_label(): line for line in axes.lines}
        for mark in panel.marks:
            if mark.style != "lost":
                line = drawn[mark.label]
                assert list(line.get_xdata()) == mark.across
                assert list(line.get_ydata()) == mark.up
    texts = " ".join(t.get_text() for t in painted[0].texts)
    assert "your records" in texts.replace("\n", " ")


@pytest.mark.parametrize(
    "ending, start", [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")]
)
def test_files_are_whole_and_equal(study, tmp_path, ending, start):
    figure = index.make("nado2021_figure4", study)
    paths = [tmp_path / f"{name}.{ending}" for name in "ab"]
    for path in paths:
        painter.write(figure, path)
    first, second = (path.read_bytes() for path in paths)
    assert first.startswith(start) and first == second


def test_a_failure_leaves_what_was_there(study, tmp_path, monkeypatch):
    path = tmp_path / "figure.svg"
    path.write_text("before")

    def fail(self, file, **_):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", fail)
    with pytest.raises(OSError):
        painter.write(index.make("nado2021_figure4", study), path)
    assert [p.name for p in tmp_path.iterdir()] == ["figure.svg"]
    assert path.read_text() == "before"


def test_equal_runs_are_dots_beside_one_another(monkeypatch, tmp_path):
    painted = []
    monkeypatch.setattr(
        matplotlib.figure.Figure,
        "savefig",
        lambda self, *_, **__: painted.append(self),
    )
    box = content.Box("a", [0.5, 0.75, 0.5, 0.5])
    panel = content.Panel("", "", "accuracy", [box])
    painter.write(
        content.Figure("a", "", "", "", [""], [panel]), tmp_path / "a.png"
    )
    (dots,) = (
        line for line in painted[0].axes[0].lines if line.get_marker() == "o"
    )
    assert list(dots.get_ydata()) == box.values
    first, alone, middle, last = dots.get_xdata()
    assert first < middle < last and alone == middle == 1.0


# The command.


def test_the_command_lists_draws_and_prints(run_command, capsys, tmp_path):
    assert run_command() == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in NAMES)
    path = tmp_path / "figure8.svg"
    assert run_command("you2019_figure8", f"--output={path}") == 0
    assert capsys.readouterr().out.startswith(f"{path}\nDrawn from published")
    assert path.read_bytes().startswith(b"<?xml")
    assert run_command("you2019_figure8", "--format=json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["numbers_from"] == "published data"
    assert found["output"] is None
    assert found["panels"][0]["marks"][0]["kind"] == "line"
    assert math.isclose(found["panels"][0]["marks"][2]["up"][1], 64)


def test_bad_input_is_refused(run_command, study, grid, tmp_path):
    (tmp_path / "empty").mkdir()
    described = synthetic_study.make_study(("adamw", "lamb"), 4, seeds=6)
    described["metric"] = {"name": "bleu", "mode": "max"}
    other = synthetic_study.write(tmp_path / "bleu", described, [])
    for arguments, message in (
        (["figure99"], "no figure; expected .*`lbcheck figure` lists them"),
        (["figure4"], "more than one figure; expected nado2021_figure4 or"),
        (["you2019_figure8", "x"], "expected one figure, received"),
        (["you2019_figure8", "--output=a.gif"], r"a\.gif: expected .*\.pdf"),
        (["you2019_figure8", "--output=/no/a.png"], "there is no folder /no"),
        (["you2019_figure8", f"--records={study}"], "do not apply"),
        (["--output=a.png"], "--output needs the name of a figure"),
        (["you2019_figure6", f"--records={tmp_path}/no"], "no such folder"),
        (["you2019_figure6", f"--records={tmp_path}/empty"], "no curve of"),
        (["you2019_figure9", f"--records={grid}"], "no trust ratios"),
        (["nado2021_figure3", f"--records={grid}"], "no stability.json"),
        (["nado2021_figure4", f"--records={grid}"], "no arm has a confirming"),
        (["iclr_figure8", f"--records={tmp_path}/empty"], "holds no study"),
        (["iclr_figure8", f"--records={other}"], "received 'bleu'"),
    ):
        with pytest.raises((app.UsageError, ValueError), match=message):
            run_command(*arguments)


def test_no_decay_that_is_near_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(synthetic_grid, "DECAYS", np.geomspace(3e-3, 3e-2, 10))
    folder = synthetic_grid.write(tmp_path / "grid")
    with pytest.raises(ValueError, match="factor of 2 of 0.001; there are 0.0"):
        index.make("iclr_figure10", folder)


def test_few_iterations_are_refused(study, tmp_path):
    described = json.loads((study / "study.json").read_text())
    records = [
        json.loads(line)
        for line in (study / "trials.jsonl").read_text().splitlines()
    ]
    for record in records:
        if found := record["diagnostics"]:
            found["steps"] = found["steps"][:5]
            for variable in found["variables"]:
                variable |= {
                    name: values[:5]
                    for name, values in variable.items()
                    if name not in ("path", "shape")
                }
    folder = synthetic_study.write(tmp_path / "short", described, records)
    with pytest.raises(ValueError, match="ratios of 5 iterations; expected"):
        index.make("you2019_figure9", folder)


def test_importing_it_imports_no_framework():
    code = (
        "import sys; import lbcheck.figures.figure_command; "
        "print([n for n in ('tensorflow', 'keras', 'jax', 'tf_keras') "
        "if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True
    )
    assert done.stdout == "[]\n", done.stderr
