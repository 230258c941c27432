"""The site: builds strictly, has every public name, loads nothing from afar."""

import html
import json
import os
import re
import subprocess
import sys
import zlib

import pytest

import lbcheck
from lbcheck import optimizers
from lbcheck import rules
from lbcheck import schedules
from lbcheck import theory
from lbcheck import training
from lbcheck import verdict
from tests.docs import commands

ROOT = commands.ROOT


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict"]
        + ["--config-file=docs/site/mkdocs.yml", f"--site-dir={folder}"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


def names_of(site):
    """The names that the API pages describe, from the site's inventory."""
    *_, packed = (site / "objects.inv").read_bytes().split(b"\n", 4)
    lines = zlib.decompress(packed).decode().splitlines()
    return {line.split(" ")[0] for line in lines}


@pytest.mark.parametrize("module", [schedules, theory, training, verdict])
def test_every_public_name_of_a_module_is_described(site, module):
    described = names_of(site)
    for name in module.__all__:
        found = getattr(module, name)
        if callable(found) and module is not training:
            assert f"{module.__name__}.{name}" in described


def test_every_public_name_of_the_package_is_described(site):
    described = {name.rpartition(".")[2] for name in names_of(site)}
    of_callbacks = {
        "DiagnosticsCallback": "DiagnosticsWriter",
        "EvaluationPoint": "EvaluationPointSwitch",
    }
    for name in lbcheck.__all__:
        assert of_callbacks.get(name, name) in described, name
    assert "Rule" in described and "Rule" in rules.__all__


def test_manuals_are_whole_and_examples_are_code(site):
    page = (site / "api/optimizers.html").read_text("utf-8")
    assert "{shared}" not in page and "{arguments}" not in page
    text = html.unescape(re.sub("<[^>]+>", "", page))
    for definition in optimizers.ALL:
        first = definition.__doc__.splitlines()[0].replace("`", "")
        assert first in text
        for line in re.findall("^>>> .+$", definition.__doc__, re.MULTILINE):
            assert line in text
    assert text.count("exclude_from_weight_decay") >= len(optimizers.ALL)
    # An example outside of code would be three quotations within another.
    assert "<blockquote>" not in page


def test_nothing_is_loaded_from_elsewhere(site):
    remote = re.compile(
        r"""(?:src|data)=["']?(?:https?:)?//|<link(?![^>]*canonical)[^>]*"""
        r"""href=["']?(?:https?:)?//|@import|url\(["']?(?:https?:)?//"""
    )
    pages = [p for p in site.rglob("*.html") if p.name != "report.html"]
    assert len(pages) > 25
    for page in [*pages, *site.glob("site/*.css")]:
        assert not remote.search(page.read_text("utf-8")), page


def test_figures_show_the_answers_of_their_records(site):
    page = (site / "index.html").read_text("utf-8")
    assert page.count('<figure class="study not-needed">') == 1
    assert "<strong>Not needed: nesterov is as good as lars" in page
    assert "--arm-3" in page and "<!-- study" not in page


def test_tables_of_dialects_are_those_of_the_code():
    text = (ROOT / "docs/optimizers.md").read_text("utf-8")
    listed = re.findall(
        r"^\| (\w+) \| `(\w+)` \| (.+?) \| (.*?) \|", text, re.M
    )
    expected = [
        (
            definition.__name__,
            name,
            dialect.source,
            ", ".join(f"`{k}={v!r}`" for k, v in dialect.switches.items()),
        )
        for definition in optimizers.ALL
        if definition is not optimizers.Nesterov  # those of Momentum
        for name, dialect in definition.rule_class.dialects.items()
    ]
    assert listed == expected


def test_walk_through_has_the_numbers_of_its_study():
    folder = ROOT / "docs/do_i_need_lamb"
    study = json.loads((folder / "study.json").read_text("utf-8"))
    page = (ROOT / "docs/do_i_need_lamb.md").read_text("utf-8")
    found = lbcheck.verdict.decide(*_records(folder, study))
    assert found.answer == "not needed"
    for arm in found.arms:
        if arm.part == "test":
            shown = f"| {arm.arm} | {arm.median:.4f} ("
            assert shown in page, shown


def _records(folder, study):
    lines = (folder / "trials.jsonl").read_text("utf-8").splitlines()
    return study, [json.loads(line) for line in lines]
