"""The pages of docs/reproductions say what their records say."""

import json
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from lbcheck.reproductions import index
from lbcheck.reproductions import tables
from lbcheck.reproductions import verify
from lbcheck.support import shipped

ROOT = pathlib.Path(__file__).parents[2]
ALL = index.load()
STUDIES = {s.name: s for found in ALL.values() for s in found.studies.values()}
NUMBER = re.compile(r"(?<![\w.])[-+]?\d[\d,]*\.\d+(?:e-?\d+)?")
RUN = re.compile(r"^## (Measured|Conclusion)\n(.*?)(?=^## |\Z)", re.M | re.S)


def claimed(page):
    """Numbers with a decimal point in what a page says of its records."""
    prose = "".join(m[2] for m in RUN.finditer(tables.replaced(page, EMPTY)))
    return {text.lstrip("+-") for text in NUMBER.findall(prose)}


EMPTY = dict.fromkeys(STUDIES, "")


def known(page):
    """Numbers that the tables have, and those in per cent or points."""
    found = set()
    for text in NUMBER.findall("".join(tables.blocks(page).values())):
        found |= forms(text.lstrip("+-"))
    rest = RUN.sub("", page)
    return found | {text.lstrip("+-") for text in NUMBER.findall(rest)}


def forms(text):
    """A number as it stands, and what it may be rounded to in prose."""
    value = float(text.replace(",", ""))
    scaled = {value, 100 * value}
    return {text} | {
        f"{number:.{digits}f}" for number in scaled for digits in (1, 2, 3)
    }


@pytest.mark.parametrize("name", ALL)
def test_a_page_has_the_numbers_of_its_records(name):
    reproduction = ALL[name]
    page = reproduction.page.read_text(encoding="utf-8")
    there = tables.blocks(page)
    assert set(there) == set(reproduction.studies)
    for study in reproduction.studies.values():
        assert there[study.name] == tables.block(study), study.name
    assert "## Measured" in page and "## Conclusion" in page
    assert not claimed(page) - known(page)


def test_a_number_that_no_record_has_is_noticed():
    (name, *_) = ALL
    page = ALL[name].page.read_text(encoding="utf-8")
    assert "0.123456" in claimed(f"{page}\nIt was 0.123456.\n") - known(page)


@pytest.mark.parametrize("name", STUDIES)
def test_a_record_is_of_its_flagfile_and_of_a_commit(name):
    study = STUDIES[name]
    there = study.load().study
    lines = shipped.path(study.flagfile).read_text(encoding="utf-8")
    given = {
        line.strip()
        for line in lines.splitlines()
        if line.startswith("--")
        and not line.startswith(("--num_workers", "--output_dir"))
    }
    assert not given - set(there["flagfile"].splitlines())
    # "+" says that the files were changed since; the page says to what.
    commit = there["environment"]["commit"].rstrip("+")
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout, which alone knows of commits")
    shallow = git("rev-parse", "--is-shallow-repository").stdout.strip()
    if shallow == "true":
        pytest.skip("a shallow clone does not have all commits")
    assert git("cat-file", "-e", f"{commit}^{{commit}}").returncode == 0


def git(*words):
    return subprocess.run(
        ["git", "-C", str(ROOT), *words], capture_output=True, text=True
    )


def test_another_record_makes_another_table(tmp_path, monkeypatch):
    study = next(iter(STUDIES.values()))
    shutil.copytree(study.path, tmp_path / "copy")
    lines = (tmp_path / "copy/trials.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    before = tables.block(study)
    changed = verify.first_seed(study, records)
    part = "test" if "test" in changed["metrics"] else "validation"
    metric = study.load().study["metric"]["name"]
    changed["metrics"][part][metric] -= 0.01
    text = "".join(f"{json.dumps(record)}\n" for record in records)
    (tmp_path / "copy/trials.jsonl").write_text(text)
    monkeypatch.setattr(index.Study, "path", tmp_path / "copy")
    assert tables.block(study) != before


def test_mean_has_students_interval():
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(2000):
        text = tables.mean(rng.normal(0.5, 0.1, 5).tolist())
        low, high = map(float, text.split("[")[1].rstrip("]").split(", "))
        held += low <= 0.5 <= high
    # 95 % less three binomial errors of 0.5 %; a normal quantile gives 88 %.
    assert 0.935 < held / 2000 < 0.965


def test_one_more_seed_falls_into_its_interval():
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(2000):
        *seen, new = rng.normal(0.5, 0.1, 11).tolist()
        low, high = verify.one_more(seen)
        held += low <= new <= high
    # Without the 1 of 1 + 1/n, 44 %.
    assert 0.935 < held / 2000 < 0.965


def compared(change, monkeypatch=None, processor=None):
    study = next(iter(STUDIES.values()))
    there = study.load()
    recorded = verify.first_seed(study, there.records)
    now = json.loads(json.dumps(recorded | {"seconds": 0.1}))
    change(now)
    processor = processor or verify.this_processor()
    kept = {
        name: value
        for name, value in there.study["environment"].items()
        if name not in verify._COMPUTING
    }
    there = there._replace(study=there.study | {"environment": kept})
    return verify.compared(there, recorded, now, processor)


def moved(by):
    def change(record):
        for part in record["metrics"].values():
            for name in part:
                part[name] += by

    return change


def test_bits_are_compared_on_a_machine_of_the_same_kind():
    same = compared(lambda record: None)
    assert same.same_bits and same.holds
    other = compared(moved(1e-7))
    assert not other.holds and "metrics of the record not" in str(other)

    def curve(record):
        record["curve"][0]["training"]["loss"] += 1e-7

    assert not compared(curve).holds


def test_another_machine_must_be_within_the_interval():
    assert compared(moved(1e-4), processor="another").holds
    far = compared(moved(-0.5), processor="another")
    assert not far.holds and "NOT within" in str(far)
    assert "there another" in str(far)

    def diverged(record):
        record["metrics"] = None

    assert not compared(diverged, processor="another").holds


def test_another_version_is_another_machine(monkeypatch):
    environment = {"numpy": "0.1"}
    found = verify.differs(environment, verify.this_processor())
    assert found.startswith("numpy ") and found.endswith("there 0.1")
    missing = verify.differs({"tensorflow": "1"}, verify.this_processor())
    assert "there 1" in missing


def command(*words):
    return subprocess.run(
        [sys.executable, "-m", "lbcheck", "reproductions", *words],
        capture_output=True,
        text=True,
        cwd="/",
    )


def test_the_command_lists_and_refuses():
    found = command("list")
    assert found.returncode == 0
    for name in [*ALL, *STUDIES]:
        assert name in found.stdout
    wrong = command("verify", "table70")
    assert wrong.returncode == 2
    assert "'table70'" in wrong.stderr and "collapse" in wrong.stderr
    assert command("verify").returncode == 2
    assert command("table7").returncode == 2


def test_what_no_seed_has_confirmed_is_not_verified():
    found = command("verify", "table6")
    assert found.returncode == 2
    assert "no confirming run is finished yet" in found.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in ALL if name != "table6"])
def test_a_recorded_seed_runs_again_from_any_folder(name):
    found = command("verify", name)
    assert found.returncode == 0, found.stdout + found.stderr
