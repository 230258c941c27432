"""Names that other distributions add, and that files of lbcheck are found."""

import importlib
import pathlib
import subprocess
import sys
import textwrap

import pytest
from absl import app

from lbcheck.search import arm
from lbcheck.support import errors
from lbcheck.support import flagfiles
from lbcheck.support import plugins
from lbcheck.support import shipped
from lbcheck.trials import workload

ROOT = pathlib.Path(__file__).resolve().parents[2]

MODULE = """
import lbcheck

def build_model():
    pass

mine = lbcheck.Arm("mine", "lamb", {"learning_rate": {"value": 1}})

class Arms:
    mine = mine


def small(batch_size=64, steps=5):
    return lbcheck.Workload(build_model, None, None, batch_size, steps)
"""


@pytest.fixture
def distribution(tmp_path, monkeypatch):
    """Adds a distribution to sys.path: (name, entry points of each group)."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def add(name, module=MODULE, **groups):
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
        )
        lines = [
            line
            for group, entries in groups.items()
            for line in (f"[lbcheck.{group}]", *entries)
        ]
        (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
        (tmp_path / f"{name}.py").write_text(module)
        importlib.invalidate_caches()

    yield add
    for name in [n for n in sys.modules if n.startswith("addon")]:
        del sys.modules[name]


def test_an_arm_and_a_workload_of_a_distribution(distribution):
    distribution(
        "addon_one",
        arms=["mine = addon_one:mine"],
        workloads=["small = addon_one:small"],
    )
    assert plugins.names(plugins.ARMS) == ["mine"]
    assert "addon_one" not in sys.modules
    found = arm.load("mine")
    assert (found.name, found.optimizer) == ("mine", "lamb")
    made = workload.load("small", ["steps=7"], batch_size=32)
    assert (made.batch_size, made.steps) == (32, 7)
    # As the specification of entry points has them.
    values = ["addon_two:Arms.mine", "addon_two : mine [gpu]"]
    distribution(
        "addon_two", arms=[f"n{i} = {v}" for i, v in enumerate(values)]
    )
    assert [arm.load(name).optimizer for name in ("n0", "n1")] == 2 * ["lamb"]


def test_an_unknown_name_lists_those_that_are_added(distribution):
    distribution(
        "addon_one",
        arms=["mine = addon_one:mine"],
        workloads=["small = addon_one:small"],
    )
    with pytest.raises(ValueError, match="nesterov.*, mine, JSON files"):
        arm.load("mien")
    with pytest.raises(app.UsageError, match="distributions add small"):
        workload.load("smal")
    assert "addon_one" not in sys.modules


@pytest.mark.parametrize(
    ("module", "entry", "message"),
    [
        ("import nowhere", "addon_bad:arm", "added by addon_bad .*'nowhere'"),
        ("1 / 0", "addon_bad:arm", "addon_bad.*ZeroDivisionError"),
        ("x = (", "addon_bad:arm", r"addon_bad.*addon_bad.py:1: SyntaxError"),
        ("", "addon_bad:arm", "addon_bad.*has no 'arm'"),
        ("", "addon_none:arm", "added by addon_bad.*no module 'addon_none'"),
        ("", "addon_bad", "addon_bad.*must be module:function"),
        ("arm = 3", "addon_bad:arm", "'broken': expected an lbcheck.Arm"),
    ],
)
def test_a_broken_one_is_one_sentence(distribution, module, entry, message):
    distribution("addon_bad", module, arms=[f"broken = {entry}"])
    assert arm.load("lamb").name == "lamb"
    with pytest.raises(ValueError, match=message) as raised:
        arm.load("broken")
    assert errors.sentence(raised.value).count("\n") == 0


def test_a_name_that_is_taken_is_refused(distribution):
    distribution("addon_one", arms=["lamb = addon_one:mine"])
    with pytest.raises(ValueError, match="'lamb' is a name of lbcheck.*_one"):
        arm.load("lamb")
    # Of the optimizer, which is another name.
    assert arm.Arm("other", "lamb").space is not None
    distribution("addon_two", arms=["lamb = addon_two:mine"])
    distribution("addon_three", arms=["a = addon_three:mine"])
    distribution("addon_four", arms=["a = addon_four:mine"])
    with pytest.raises(ValueError, match="more than once, by .*_four.*_three"):
        arm.load("a")


def test_builtin_names_are_files_under_flags(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert shipped.resolved("builtin:quick") == str(ROOT / "flags/quick.flags")
    lines = dict(flagfiles.expanded(["--flagfile=builtin:quick"]))
    assert lines["--batch_size=512"].startswith(str(ROOT / "flags/quick.f"))
    found = arm.load("builtin:grid_mini/nesterov")
    assert found.name == "nesterov" and "momentum" in found.describe()["fixed"]
    with pytest.raises(
        app.UsageError, match="--flagfile: builtin:quikc: .*bui"
    ):
        flagfiles.expanded(["--flagfile=builtin:quikc"])
    with pytest.raises(ValueError, match="no such file; there are builtin:"):
        shipped.resolved("builtin:../setup.py")


def test_a_file_is_named_as_it_can_be_typed(tmp_path, monkeypatch):
    path = shipped.path("flags/resnet/lars.flags")
    monkeypatch.chdir(ROOT)
    assert shipped.named(path) == "flags/resnet/lars.flags"
    monkeypatch.chdir(tmp_path)
    assert shipped.named(path) == "builtin:resnet/lars.flags"
    assert shipped.resolved(shipped.named(path)) == str(path)
    with pytest.raises(ValueError, match="no such file or folder"):
        shipped.path("flags/no.flags")


def test_an_installed_package_has_its_own(tmp_path):
    """A package folder with `shipped` in it, as a wheel has."""
    package = tmp_path / "lbcheck"
    (package / "support").mkdir(parents=True)
    (package / "shipped/flags").mkdir(parents=True)
    (package / "shipped/flags/mine.flags").write_text("--seed=1\n")
    for name in ("__init__.py", "support/__init__.py"):
        (package / name).write_text("")
    source = pathlib.Path(shipped.__file__).read_text()
    (package / "support/shipped.py").write_text(source)
    code = "from lbcheck.support import shipped; print(shipped.resolved("
    done = subprocess.run(
        [sys.executable, "-c", f"{code}'builtin:mine'))"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == str(package / "shipped/flags/mine.flags")


def test_a_library_that_is_missing_is_a_sentence():
    code = textwrap.dedent(
        """
        import sys
        sys.modules["tf_keras"] = None
        from lbcheck.support import errors
        try:
            import lbcheck.tf_keras
        except ImportError as error:
            print(errors.sentence(error))
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout.startswith("tf_keras is not installed: pip install 'lb")
    assert "--keras=keras3" in done.stdout
