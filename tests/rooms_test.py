"""Which room of lbcheck imports which, and that there is no circle."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]

# A room imports nothing but rooms that stand before it, also in functions.
ROOMS = (
    "support",
    "theory",
    "data schedules optimizers",
    "rules keras3 tf_keras",
    "conform training",
    "settings",
    "search",
    "published",
    "plan trials",
    "programs",
    "study",
    "verdict",
    "report",
    "figures",
    "comparison",
    "instruments reproductions",
    "cli",
    "completion __main__",
)
PROGRAMS = ("bert", "resnet")
LEVEL = {name: i for i, names in enumerate(ROOMS) for name in names.split()}


def imported(path):
    """Modules that a file names in imports, wherever they stand."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def wrong(room, names):
    """Those of the names that a room of lbcheck must not import."""
    for name in names:
        package, _, rest = name.partition(".")
        other = rest.partition(".")[0]
        if package in PROGRAMS:
            yield name
        if package == "lbcheck" and other in LEVEL and other != room:
            if LEVEL[other] >= LEVEL[room]:
                yield name


@pytest.mark.parametrize("room", LEVEL)
def test_a_room_imports_what_stands_before_it(room):
    folder = ROOT / "lbcheck" / room
    files = [*folder.rglob("*.py")] or [folder.with_suffix(".py")]
    for path in files:
        assert not [*wrong(room, imported(path))], path


def test_every_room_has_a_level_and_a_map():
    names = {
        path.stem
        for path in (ROOT / "lbcheck").iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert names - {"__init__"} == set(LEVEL)
    for path in ROOT.glob("lbcheck/*/__init__.py"):
        assert ast.get_docstring(ast.parse(path.read_text())), path


def test_the_programs_do_not_know_each_other():
    for program in PROGRAMS:
        for path in (ROOT / program).rglob("*.py"):
            (other,) = set(PROGRAMS) - {program}
            found = [n for n in imported(path) if n.startswith(f"{other}.")]
            assert not found, path


def test_a_circle_is_noticed():
    assert [*wrong("study", ["lbcheck.report.page", "numpy"])]
    assert [*wrong("optimizers", ["lbcheck.schedules.base"])]
    assert [*wrong("support", ["bert.text"])]
    assert not [*wrong("report", ["lbcheck.study.ledger", "lbcheck"])]
