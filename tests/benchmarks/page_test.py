"""docs/benchmarks.md is what the lines give; shortfalls have a cause."""

import json

import page
import pytest

LINE = {
    "benchmark": "study",
    "arguments": ["--rounds=3"],
    "machine": "2 cores",
    "date": "2026-11-29",
    "measure": "a trial",
    "unit": "s",
    "ours": 2.0,
    "peer": 4.0,
    "peer_name": "kerastuner",
    "ratio": 0.5,
    "range": [0.4, 0.6],
    "rounds": 3,
    "better": "less",
}
SKIPPED = {
    **{key: LINE[key] for key in ("benchmark", "arguments", "machine", "date")},
    "skipped": "no data here.",
}


def bars():
    return json.loads(page.BARS.read_text("utf-8"))


def write(path, *lines):
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path


def test_the_page_is_what_the_lines_give():
    made = page.render(page.read(), bars())
    assert page.PAGE.read_text("utf-8") == made, "python benchmarks/page.py"


def test_every_shortfall_of_the_page_has_a_cause():
    measures, _ = page.newest(page.read())
    for line in measures:
        bar = page.bar_of(line, bars())
        if bar and page.is_short(line, bar):
            assert bar["cause"], (line["measure"], line["peer_name"])


def test_every_bar_has_a_name_and_a_number():
    for bar in bars():
        assert bar.keys() <= {*page._NAMES, "bar", "cause"}, bar
        assert (page.ROOT / f"benchmarks/{bar['benchmark']}.py").exists(), bar
        assert bar["bar"] > 0


def test_a_row_shows_ratio_range_and_bar():
    text = page.render(
        [LINE], [{"benchmark": "study", "bar": 0.45, "cause": "why"}]
    )
    row = "| a trial | 2 s | 4 kerastuner | 0.5 | 0.4 to 0.6 | at most 0.45: "
    assert f"{row}**short** |\n" in text
    assert (
        "`python benchmarks/study.py --rounds=3`: 2 cores, 2026-11-29." in text
    )
    short = "| study: a trial, beside kerastuner | 0.5 | at most 0.45 | why |"
    assert short in text


def test_a_bar_holds_for_the_measure_and_peer_that_it_names():
    of_peer = {"benchmark": "study", "peer_name": "optuna", "bar": 0.1}
    assert page.bar_of(LINE, [of_peer]) is None
    assert page.bar_of(LINE, [of_peer | {"peer_name": "kerastuner"}])


@pytest.mark.parametrize(
    "better, bar, short",
    [("less", 0.4, True), ("less", 0.5, False), ("more", 0.6, True),
     ("more", 0.5, False)],
)  # fmt: skip
def test_a_measure_may_equal_its_bar(better, bar, short):
    assert page.is_short(LINE | {"better": better}, {"bar": bar}) == short


def test_a_measure_without_a_peer_is_held_to_its_own_number():
    alone = LINE | {"peer": None, "peer_name": None, "ratio": None}
    assert page.is_short(alone, {"bar": 1.9})
    assert not page.is_short(alone, {"bar": 2.1})


def test_the_newest_line_counts_and_ends_a_skip(tmp_path):
    later = LINE | {"ours": 1.0}
    other = SKIPPED | {"arguments": ["--rounds=9"]}
    lines = page.read(write(tmp_path / "x", LINE, SKIPPED, other, later))
    assert page.newest(lines) == ([later], [other])
    assert page.newest([LINE, SKIPPED]) == ([LINE], [SKIPPED])
    assert "no data here." in page.render([SKIPPED], [])


def test_lines_of_smoke_runs_are_left_out(tmp_path):
    path = write(tmp_path / "x", LINE | {"smoke": True})
    assert page.read(path) == []


@pytest.mark.parametrize("text", ["{", "[]", '{"benchmark": "study"}'])
def test_a_damaged_line_is_named(tmp_path, text):
    path = tmp_path / "x"
    path.write_text(f"{json.dumps(LINE)}\n{text}\n")
    with pytest.raises(ValueError, match=r"x, line 2: .*expected a line"):
        page.read(path)
