"""A study's files are data: nothing in them runs, and damage is refused."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from lbcheck import report
from lbcheck.comparison import tensorboard
from lbcheck.report import page
from lbcheck.report import page_tables
from lbcheck.report import results
from lbcheck.report import tables
from lbcheck.search import arm
from lbcheck.search import space
from lbcheck.study import protocol
from lbcheck.study import study_command
from lbcheck.study import study_folder
from lbcheck.support import errors
from lbcheck.support import files
from tests import damage
from tests.report import synthetic_study
from tests.study import ledger_worker

EVIL = """
import pathlib
pathlib.Path({sentinel!r}).touch()
def function(*arguments, **more):
    return 0.1
"""
NAMES = ("evil:function", "os:system", "subprocess:run", "evil.function")
SHADOWS = ("jinja2", "matplotlib", "msgspec", "numpy", "scipy", "resnet")
WATCH = """
import pathlib, sys
def watch(event, arguments):
    if event in ("os.system", "os.exec", "subprocess.Popen", "os.posix_spawn",
                 "pickle.find_class"):
        pathlib.Path({sentinel!r}).touch()
sys.addaudithook(watch)
sys.argv = ["lbcheck", *{arguments!r}]
from lbcheck import cli
try:
    cli.main()
except SystemExit as end:
    assert "evil" not in sys.modules
    assert not [p for p in sys.path if p in ("", {folder!r})], sys.path
    raise
"""


@pytest.fixture
def small():
    """(study, records) as small as they can be with something of each."""
    study = synthetic_study.make_study(("nesterov", "lars"), trials=3, seeds=2)
    for described in study["arms"].values():
        del described["audit"][2:]
    records = synthetic_study.make_records(study)
    for record in records:
        del record["curve"][2:]
        for lists in (record.get("schedule"), record["diagnostics"]):
            _shorten(lists)
    return study, records


def _shorten(value):
    if isinstance(value, list):
        del value[3:]
    for entry in value.values() if isinstance(value, dict) else value or ():
        if isinstance(entry, (dict, list)):
            _shorten(entry)


def places(value):
    """(container, key) of every text in a JSON value."""
    found = []
    for key in value if isinstance(value, dict) else range(len(value)):
        if isinstance(value[key], (dict, list)):
            found += places(value[key])
        elif isinstance(value[key], str):
            found.append((value, key))
    return found


def plant(study, records, name):
    """A name in every text that a study may choose."""
    fixed = "mode selection arm stage status scale points of".split()
    for inside, key in places([study, records]):
        if key not in fixed and inside[key] != "accuracy":
            inside[key] = name
    for described in study["arms"].values():
        described["fixed"] = {
            "args": name,
            "cmd": name,
            name: name,
            "x": [name],
        }
        described["fallback"] = name


@pytest.mark.parametrize(
    "name, as_module",
    [*((name, False) for name in NAMES), ("evil:function", True)],
)
@pytest.mark.parametrize("command", [["report", "."], ["study", "status", "."]])
def test_nothing_that_a_study_names_is_run(
    tmp_path, small, name, command, as_module
):
    sentinel = tmp_path / "it ran"
    folder = tmp_path / "study"
    study, records = small
    plant(study, records, name)
    synthetic_study.write(folder, study, records)
    for module in ("evil", *SHADOWS):
        (folder / f"{module}.py").write_text(
            EVIL.format(sentinel=str(sentinel))
        )
    (folder / "matplotlibrc").write_text(
        "backend: module://evil\ntext.usetex: True\nsavefig.format: evil\n"
    )
    code = WATCH.format(
        sentinel=str(sentinel), arguments=command, folder=str(folder)
    )
    program = [sys.executable, "-P", "-c", code]
    if as_module:
        program = [sys.executable, "-m", "lbcheck", *command]
    done = subprocess.run(
        program, capture_output=True, text=True, cwd=folder, timeout=300
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert not sentinel.exists()
    if command[0] == "report":
        written = json.loads((folder / "results.json").read_text())
        assert written["study"]["arms"]["lars"]["schedule"] == name


def test_the_test_above_can_fail(tmp_path):
    """An import from the folder is seen, and so is a started process."""
    sentinel = tmp_path / "it ran"
    (tmp_path / "evil.py").write_text(EVIL.format(sentinel=str(sentinel)))
    code = WATCH.partition("sys.argv")[0].format(sentinel=str(sentinel))
    for attack in ("import evil", "import os; os.system('true')"):
        subprocess.run(
            [sys.executable, "-c", f"{code}\n{attack}"],
            cwd=tmp_path,
            check=True,
            env=os.environ | {"PYTHONPATH": ""},
        )
        assert sentinel.exists()
        sentinel.unlink()


def everything(folder):
    """All that is made of a study but the page, which takes a second."""
    found = study_folder.load(folder)
    study_command.as_text(study_command.status(folder))
    collected = results.collect(found)
    results.to_csv(collected)
    json.dumps(results.summary(collected, "x"), allow_nan=False)
    printed = page_tables.for_papers(collected)
    tables.to_markdown(printed), tables.to_latex(printed)
    text = results.to_json(collected)
    return collected, found.study, text


@damage.EXAMPLES
@pytest.mark.parametrize(
    "file, kind",
    [
        ("study.json", "values"),
        ("study.json", "bytes"),
        ("trials.jsonl", "values"),
    ],
)
def test_damaged_studies(tmp_path, small, file, kind, examples):
    study, records = small
    folder = synthetic_study.write(tmp_path / "study", study, records)
    valid = (folder / file).read_bytes()
    if kind == "bytes":
        damaged = damage.damaged_bytes(valid)
    elif file == "study.json":
        damaged = damage.damaged_json(study)
    else:
        damaged = damage.damaged_lines(records)
    done = []

    def read(path):
        try:
            collected, found, _ = everything(path.parent)
        except ValueError as error:
            # Records may be what no longer fits the study.
            if "trials.jsonl:" not in str(error):
                raise
            raise ValueError(f"{path.name}: {error}") from error
        done.append(found)
        if len(done) % 20 == 1:
            page.render(collected, found)

    damage.try_reader(read, folder / file, damaged, examples)
    assert len(done) > examples / 100


@damage.EXAMPLES
@pytest.mark.parametrize("read", [arm.load, space.Space.load])
@pytest.mark.parametrize("kind", ["values", "bytes"])
def test_damaged_arms_and_spaces(tmp_path, read, kind, examples):
    described = synthetic_study.make_study()["arms"]["nesterov"]
    described = {k: v for k, v in described.items() if k != "audit"}
    described["schedule"] = "constant"
    described["fixed"] = {}
    described["space"]["parameters"] = {
        "learning_rate": {"min": 0.1, "max": 1.0, "scale": "log", "count": 3},
        "momentum": {
            "min": 0.01,
            "max": 0.1,
            "scale": "log",
            "one_minus": True,
        },
        "weight_decay": {"values": [0.0, 1e-4]},
    }
    if read is not arm.load:
        described = described["space"]
    damaged = damage.damaged_json(described)
    if kind == "bytes":
        damaged = damage.damaged_bytes(json.dumps(described).encode())

    def use(path):
        found = read(str(path))
        points = getattr(found, "space", found)
        points.points(0, 0, 3, 100)

    path = tmp_path / "mine.json"
    path.write_text(json.dumps(described))
    use(path)
    damage.try_reader(use, path, damaged, examples)


@pytest.mark.parametrize(
    "name", ["=cmd|' /C calc'!A0", "+1+1", "-1+1", "@SUM(A1)", "\t=1"]
)
def test_no_cell_is_a_formula(tmp_path, small, name):
    study, records = small
    text = json.dumps([study, records]).replace('"lars"', json.dumps(name))
    study, records = json.loads(text)
    synthetic_study.write(tmp_path, study, records)
    report.write(tmp_path)
    cells = (tmp_path / "results.csv").read_text().replace("\n", ",").split(",")
    for cell in cells:
        cell = cell.strip('"')
        numeric = cell.lstrip("+-").replace(".", "").replace("e-", "")
        assert cell[:1] not in ("=", "+", "-", "@", "\t") or numeric.isdecimal()
    assert f"'{name}" in (tmp_path / "results.csv").read_text()
    found = json.loads((tmp_path / "results.json").read_text())
    assert name in found["study"]["arms"]


def _one_seed(study, records):
    study["seeds"] = 1
    return [r for r in records if (r["stage"], r["index"]) != ("confirm", 1)]


def _one_step(study, records):
    study["steps"] = 1
    for record in records:
        record |= {"steps": 1, "curve": record["curve"][:1]}
        for point in record["curve"]:
            point["step"] = 1
        if record["status"] == "diverged":
            record["bad"] = {"step": 0, "variable": None}
        if record["diagnostics"]:
            record["diagnostics"]["steps"] = [0]
            for variable in record["diagnostics"]["variables"]:
                for name in ("trust_ratio", "effective_rate"):
                    variable[name] = [0.5]
                variable["relative_update"] = [None]
            record["schedule"] |= {"steps": [0], "rates": [0.0]}
    return records


def _metric(number):
    def change(study, records):
        for index, record in enumerate(records):
            for found in (record["metrics"] or {}).values():
                found["accuracy"] = number(index)
        return records

    return change


def _long_names(study, records):
    text = json.dumps([study["arms"], records])
    text = text.replace('"lars"', json.dumps("l" * 100 + "arms &<\\_$%#"))
    study["arms"], records = json.loads(text)
    return records


def _rates(*numbers):
    def change(study, records):
        for record in records:
            if record.get("schedule"):
                record["schedule"]["rates"] = list(numbers)
        return records

    return change


def _points(number):
    def change(study, records):
        for record in records:
            record["hyperparameters"]["learning_rate"] = number
            record["hyperparameters"]["l2"] = number
        return records

    return change


ODD_METRICS = [
    _metric(lambda index: 0.0),
    _metric(lambda index: 1e100 * (-1) ** index),
    _metric(lambda index: 1e-300 * index),
    _metric(lambda index: -(10.0**index)),
]


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize(
    "change",
    [
        _one_seed,
        _one_step,
        _long_names,
        *ODD_METRICS,
        _rates(None, None, None),
        _rates(-1.0, 0.0, 1e100),
        _points(1e300),
        _points(5e-324),
        _points(True),
        _points("high"),
        _points(None),
        _points(-1),
    ],
)
def test_odd_numbers_give_a_page(tmp_path, small, change):
    assert_gives_a_page(tmp_path, *small, change, "max")


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("change", ODD_METRICS)
def test_odd_metrics_to_be_small_give_a_page(tmp_path, small, change):
    assert_gives_a_page(tmp_path, *small, change, "min")


def assert_gives_a_page(tmp_path, study, records, change, mode):
    study["metric"]["mode"] = mode
    synthetic_study.write(tmp_path, study, change(study, records))
    text = report.write(tmp_path).read_text()
    assert ">nan<" not in text and 'd="nan' not in text
    written = json.loads((tmp_path / "results.json").read_text())
    assert written["finished"]


def test_every_file_of_the_folder_may_be_a_pickle(tmp_path, small):
    """A folder with other files of any kind is read like one without."""
    synthetic_study.write(tmp_path, *small)
    page_alone = report.write(tmp_path).read_bytes()
    for name in ("ledger.db", "study.pkl", "__init__.py", "conftest.py"):
        pathlib.Path(tmp_path, name).write_bytes(b"\x80\x04cos\nsystem\n.")
    assert report.write(tmp_path).read_bytes() == page_alone


@pytest.mark.parametrize(
    "name, reason",
    [
        ("gone/a", "No such file or directory"),
        ("file/a", "Not a directory"),
    ],
)
def test_what_cannot_be_written_is_named_as_it_was_given(
    tmp_path, name, reason
):
    (tmp_path / "file").touch()
    path = tmp_path / name
    with pytest.raises(OSError) as caught:
        files.write_text(path, "x")
    assert errors.of_system(caught.value) == f"{path}: {reason}"
    with (
        pytest.raises(OSError) as caught,
        files.making_folder(tmp_path / "b") as folder,
    ):
        (folder / "file").touch()
        (folder / name).write_text("x")
    assert errors.of_system(caught.value) == f"{tmp_path}/b/{name}: {reason}"
    assert [inner.name for inner in tmp_path.iterdir()] == ["file"]


def test_a_lock_that_is_refused_is_named(tmp_path):
    """As where a disk has no locks, whose error names no file either."""
    path = tmp_path / ".lock"
    with files.lock(path), pytest.raises(BlockingIOError) as caught:
        with files.lock(path, wait=False):
            pass
    assert caught.value.filename == str(path)
    # What fails while it is held is not the lock's.
    with pytest.raises(OSError) as caught, files.lock(path):
        raise OSError(5, "Input/output error")
    assert caught.value.filename is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a small disk")
def test_what_a_full_disk_has_no_room_for_is_named(tmp_path, capfd):
    disk = tmp_path / "disk"
    disk.mkdir()
    size = ["-o", "size=64k"]
    subprocess.run(["mount", "-t", "tmpfs", *size, "tmpfs", disk], check=True)
    try:
        with pytest.raises(OSError) as caught:
            files.write_text(disk / "a.json", 100_000 * "x")
        message = f"{disk}/a.json: No space left on device"
        assert errors.of_system(caught.value) == message
        with (
            pytest.raises(OSError) as caught,
            files.making_folder(disk / "b") as folder,
        ):
            (folder / "c").write_bytes(bytes(100_000))
        message = f"{disk}/b: No space left on device"
        assert errors.of_system(caught.value) == message
        assert not list(disk.iterdir())
        # TensorBoard's runs of a study, the folder of which is a link to it.
        folder = tmp_path / "study"
        folder.mkdir()
        (folder / "tensorboard").symlink_to(disk / "runs")
        (disk / "runs").mkdir()
        study = ledger_worker.make_study(trials=20)
        tasks = protocol.Protocol(study).next_tasks([])
        done = [ledger_worker.make_record(task) for task in tasks]
        with pytest.raises(OSError) as caught:
            tensorboard.write(folder, done)
        assert caught.value.filename.startswith(f"{folder}/tensorboard/")
        assert "No space left" in str(caught.value)
        assert [path.name for path in disk.iterdir()] == ["runs"]
        assert 0 < len([*disk.glob("runs/*/*/*/*")]) < len(done)
        assert capfd.readouterr().err == ""
    finally:
        subprocess.run(["umount", disk], check=True)
