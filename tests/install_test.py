"""setup.py: its extras, as docs/install.md says, and the oldest versions."""

import pathlib
import re
import runpy
import shlex

import pytest
import setuptools
from packaging import requirements
from packaging import specifiers

from lbcheck.support import extras
from lbcheck.support import shipped

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs/install.md").read_text()


@pytest.fixture
def definition(monkeypatch):
    """The arguments of setuptools.setup."""
    found = {}
    monkeypatch.setattr(setuptools, "setup", found.update)
    monkeypatch.chdir(ROOT)
    runpy.run_path(str(ROOT / "setup.py"))
    return found


def names(texts):
    return {requirements.Requirement(text).name for text in texts}


def specified(texts, name):
    (found,) = {
        str(made.specifier)
        for made in map(requirements.Requirement, texts)
        if made.name == name
    }
    return specifiers.SpecifierSet(found)


def test_the_extras_are_those_of_the_page(definition):
    found = definition["extras_require"]
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", PAGE, re.MULTILINE))
    assert {*rows} == {*found} - {"docs", "oracles", "test"}
    for extra, said in rows.items():
        expected = names(found[extra])
        for other in re.findall("`(\\w+)`", said):
            expected -= names(found[other])
        if extra != "all":
            expected -= {"importlib_resources"}
            assert all(name in said for name in expected), extra
    assert names(found["all"]) == set().union(*map(names, map(found.get, rows)))


def test_tensorflow_and_the_tf_keras_of_its_version(definition):
    found = definition["extras_require"]
    for extra in ("tensorflow", "bert", "all", "test"):
        for name in ("tensorflow", "tf-keras"):
            allowed = specified(found[extra], name)
            assert [
                v
                for v in ("2.19.1", "2.20.0", "2.20.1", "2.21.0", "2.22.0")
                if v in allowed
            ] == ["2.20.0", "2.20.1", "2.21.0"]
    garden = specified(found["bert"], "tf-models-official")
    assert "2.20.0" in garden and "2.21.0" not in garden
    for extra in ("jax", "torch"):
        assert not {"tensorflow", "tf-keras"} & names(found[extra])


def test_pythons(definition):
    allowed = specifiers.SpecifierSet(definition["python_requires"])
    classified = re.findall(
        r"Python :: 3\.(\d+)", " ".join(definition["classifiers"])
    )
    for minor in range(8, 18):
        assert (f"3.{minor}.0" in allowed) == (str(minor) in classified)
    assert (classified[0], classified[-1]) == ("10", "14")


def test_what_is_missing_names_an_extra_that_brings_it(definition):
    distributions = {"official": "tf-models-official"}
    for module, extra in extras._EXTRAS.items():
        name = distributions.get(module, module.replace("_", "-"))
        if module == "tensorflow_text":
            name = "tf-models-official"  # which asks for it
        assert name in names(definition["extras_require"][extra]), module


def test_the_oldest_versions_are_the_least_that_are_allowed(definition):
    lines = (ROOT / ".ci/oldest.txt").read_text().splitlines()
    pinned = dict(n.split("==") for n in lines if not n.startswith("#"))
    asked = [
        *definition["install_requires"],
        *definition["extras_require"]["tensorflow"],
        *definition["extras_require"]["jax"],
    ]
    assert {*pinned} == names(asked) | {"jaxlib"}  # jax asks for its own
    for name in names(asked):
        least = re.search(r">=([\d.]+)", str(specified(asked, name)))[1]
        # The first release of a minor version may be missing.
        assert f"{pinned[name]}.".startswith(f"{least}."), name


def test_a_wheel_carries_the_files_that_are_looked_for(definition):
    folders = definition["package_dir"]
    for package, folder in folders.items():
        assert package in definition["packages"]
        assert definition["package_data"][package] == ["**/*"]
        # Where support/shipped.py looks for it in a package.
        place = package.removeprefix("lbcheck.shipped.").replace(".", "/")
        assert place == folder and shipped.path(folder).is_dir()


def test_the_recipe_without_tensorflow_installs_all_else(definition):
    """What `--no-deps` leaves out on a TPU VM, docs/resnet.md has by name."""
    page = (ROOT / "docs/resnet.md").read_text().replace("\\\n", " ")
    lines = re.findall(r"^    pip install (.+)$", page, re.MULTILINE)
    recipe = {word for line in lines for word in shlex.split(line)}
    needed = [
        *definition["install_requires"],
        *definition["extras_require"]["datasets"],
        "keras",
    ]
    assert names(needed) <= recipe
    (alone,) = [line for line in lines if "--no-deps" in line]
    assert "tf-keras" in alone  # it asks for tensorflow itself


def test_a_wheel_has_every_file_that_the_packages_read(definition):
    """Data that lie beside modules, but what explains them."""
    carried = {
        path
        for package, patterns in definition["package_data"].items()
        if package not in definition["package_dir"]
        for pattern in patterns
        for path in ROOT.joinpath(*package.split(".")).glob(pattern)
    }
    there = {
        path
        for room in ("bert", "lbcheck", "resnet")
        for path in ROOT.joinpath(room).rglob("*.*")
        if path.is_file() and path.suffix not in (".md", ".py", ".pyc")
    }
    assert {str(path) for path in there - carried} == set()
