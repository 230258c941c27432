"""Training: exact accumulation, resume, records and how runs end."""

import collections
import concurrent.futures
import contextlib
import functools
import json
import os
import pathlib
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from lbcheck import training
from lbcheck.support import errors
from lbcheck.support import exit_codes
from lbcheck.training import checkpoints
from lbcheck.training import cluster
from lbcheck.training import loop
from lbcheck.training import record
from lbcheck.training.backends import engines
from tests import damage
from tests import programs
from tests.training import training_worker


def start(*arguments, keras_backend="tensorflow", cluster=None):
    environment = {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": keras_backend}
    if cluster:
        environment["TF_CONFIG"] = cluster
    arguments = [str(argument) for argument in arguments]
    if keras_backend == "tensorflow":
        return programs.Program(
            "tests.training.training_worker", arguments, environment=environment
        )
    return subprocess.Popen(
        [sys.executable, "-m", "tests.training.training_worker", *arguments],
        cwd=programs.ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    """(exit code, output)."""
    output = "".join(process.communicate(timeout=300))
    return process.returncode, output


def train(folder, *arguments, **settings):
    return finish(start(f"--output_dir={folder}", *arguments, **settings))


def final_state(folder):
    """Arrays of the last checkpoint and the measurements."""
    step, arrays = checkpoints.of(folder).newest()
    lines = (pathlib.Path(folder) / "measurements.jsonl").read_text()
    return step, arrays, lines


def assert_same_run(ours, theirs):
    step, arrays, lines = final_state(ours)
    other_step, others, other_lines = final_state(theirs)
    assert step == other_step
    assert lines == other_lines
    assert arrays.keys() == others.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, others[name], err_msg=name)


def kill_until_finished(folder, kills, arguments, generator):
    """Starts again and again, killed after a random time; the last ends."""
    for _ in range(kills):
        process = start(f"--output_dir={folder}", *arguments)
        time.sleep(generator.uniform(1.0, 5.0))
        process.kill()
        process.communicate()
    code, output = train(folder, *arguments)
    assert code == exit_codes.FINISHED, output


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("training")


@pytest.fixture(scope="module")
def reference(folder):
    """A run that nothing disturbed."""
    code, output = train(folder / "reference")
    assert code == exit_codes.FINISHED, output
    return folder / "reference"


@pytest.fixture(scope="module")
def exactness(folder):
    """(of EXACT, rule) -> {(rule, way, moment): {variable: array}}."""

    def cases(where, rule):
        return made(where, OFTEN if rule in OFTEN else RARELY)

    @functools.cache
    def made(where, rules):
        keras, backend = where.split()
        file = folder / f"cases-{keras}-{backend}-{rules[0]}.npz"
        code, output = finish(
            start(
                f"--cases={file}",
                f"--keras={keras}",
                f"--rules={','.join(rules)}",
                keras_backend=backend,
            )
        )
        assert code == 0, output
        found = collections.defaultdict(dict)
        with np.load(file) as stored:
            for key in stored.files:
                rule, way, moment, name = key.split("|")
                found[rule, way, moment][name] = stored[key]
        return found

    return cases


def distance(cases, rule, way):
    """Largest difference from the whole batch, as part of the movement."""
    largest = 0.0
    for name, before in cases[rule, "whole", "start"].items():
        whole = cases[rule, "whole", "end"][name]
        other = cases[rule, way, "end"][name]
        moved = np.linalg.norm(whole - before)
        if moved:
            largest = max(largest, np.linalg.norm(other - whole) / moved)
    return largest


OFTEN = ("Nesterov", "LARS")
RARELY = tuple(name for name in training_worker.RULES if name not in OFTEN)
EXACT = {
    "tf_keras tensorflow": training_worker.WAYS,
    **{f"keras3 {b}": w for b, w in training_worker.KERAS3_WAYS.items()},
}
PARTS = [
    (k, way) for k, ways in EXACT.items() for way in ways if way != "whole"
]


@pytest.mark.parametrize(
    "rule",
    # Each is compiled in every way, which takes half a minute.
    [*OFTEN, *(pytest.param(rule, marks=pytest.mark.slow) for rule in RARELY)],
)
@pytest.mark.parametrize(("where", "way"), PARTS)
def test_parts_are_the_whole_batch(exactness, rule, where, way):
    cases = exactness(where, rule)
    assert len(cases[rule, "whole", "end"]) >= 9
    assert distance(cases, rule, way) < 1e-5


@pytest.mark.parametrize(("where", "way"), PARTS)
def test_metrics_are_those_of_the_whole_batch(exactness, where, way):
    cases = exactness(where, "LARS")
    whole, ours = (cases["LARS", which, "end"] for which in ("whole", way))
    totals = [name for name in whole if name.startswith("metric/")]
    assert len(totals) == 4  # sums and counts of loss and accuracy
    assert 10 * 512 in [ours[name] for name in totals]
    for name in totals:
        np.testing.assert_allclose(ours[name], whole[name], rtol=1e-5)


@pytest.mark.parametrize("where", EXACT)
@pytest.mark.parametrize("way", training_worker.MUTANTS)
def test_mutants_are_not_the_whole_batch(exactness, where, way):
    cases = exactness(where, "Nesterov")
    assert distance(cases, "Nesterov", way) > 1e-3


def test_record(reference):
    assert (reference / "flags.txt").read_text() == "--rate=2.0\n"
    assert json.loads((reference / "status.json").read_text()) == {
        "status": "finished",
        "step": 40,
    }
    described = json.loads((reference / "run.json").read_text())
    assert described["seed"] == 0
    assert described["settings"] == {"rule": 1}
    (start,) = described["starts"]
    assert start["after_step"] == 0 and "tensorflow" in start["versions"]
    assert "kernel" in (reference / "selection.txt").read_text()
    lines = [
        json.loads(line)
        for line in (reference / "measurements.jsonl").read_text().splitlines()
    ]
    assert [line["step"] for line in lines] == [10, 20, 30, 40]
    assert ["validation_accuracy" in line for line in lines] == [
        False,
        True,
        False,
        True,
    ]
    assert lines[-1]["epoch"] == pytest.approx(40 * 256 / 1437)
    assert lines[-1]["loss"] < 0.8 * lines[0]["loss"]
    table = (reference / "measurements.csv").read_text().splitlines()
    assert len(table) == 5 and table[0].startswith("step,epoch,")
    assert list((reference / "tensorboard").iterdir())
    assert (reference / "model.weights.h5").stat().st_size > 1000


def test_finished_run_is_left_alone(reference):
    before = (reference / "status.json").stat().st_mtime_ns
    code, output = train(reference)
    assert code == exit_codes.FINISHED
    assert "nothing to do" in output
    assert (reference / "status.json").stat().st_mtime_ns == before


def test_another_run_in_the_folder_is_refused(reference):
    code, output = train(reference, "--learning_rate=0.1")
    assert code != exit_codes.FINISHED
    assert "holds another run" in output
    assert "--rate=2.0 (there), --rate=0.1 (here)" in output


def test_sigterm_in_an_interval_saves_and_resumes(folder, reference):
    run = folder / "terminated"
    code, output = train(run, "--terminate_at=26", "--pause=0.05")
    assert code == exit_codes.INTERRUPTED, output
    status = json.loads((run / "status.json").read_text())
    assert status["status"] == "interrupted"
    assert (
        status["step"] % 10
        and status["step"] == (checkpoints.of(run).newest()[0])
    )
    code, output = train(run)
    assert code == exit_codes.FINISHED, output
    assert f"Continues after {status['step']} updates" in output
    starts = json.loads((run / "run.json").read_text())["starts"]
    assert [s["after_step"] for s in starts] == [0, status["step"]]
    assert_same_run(run, reference)


@pytest.mark.parametrize(
    "moment", [19, pytest.param(6, marks=pytest.mark.slow)]
)
def test_sigterm_at_the_end_of_an_interval_loses_no_line(folder, moment):
    whole, run = folder / f"lines-{moment}", folder / f"lines-cut-{moment}"
    arguments = ["--log_every=1", "--total_steps=20"]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        undisturbed = pool.submit(train, whole, *arguments)
        stop = [f"--terminate_at={moment}", "--pause=0.05"]
        code, output = train(run, *arguments, *stop)
    assert undisturbed.result()[0] == exit_codes.FINISHED
    if code != exit_codes.FINISHED:  # the signal came before the last update
        assert code == exit_codes.INTERRUPTED, output
        code, output = train(run, *arguments)
    assert code == exit_codes.FINISHED, output
    assert_same_run(run, whole)


def test_cut_short_checkpoint_is_passed_over(folder, reference):
    run = folder / "cut"
    train(run, "--terminate_at=35", "--pause=0.05")
    newest = max((run / "checkpoints").iterdir())
    newest.write_bytes(newest.read_bytes()[:-1000])
    code, output = train(run)
    assert code == exit_codes.FINISHED, output
    assert f"{newest.name} is damaged" in output
    assert "Continues after 30 updates" in output
    assert_same_run(run, reference)


def test_sigkill(folder, reference):
    generator = random.Random(0)
    run = folder / "killed"
    kill_until_finished(run, 2, ["--pause=0.1"], generator)
    assert_same_run(run, reference)


@pytest.mark.slow  # 20 starts of TensorFlow
def test_twenty_sigkills(folder):
    generator = random.Random(1)
    arguments = ["--pause=0.1", "--microbatch_size=128", "--total_steps=95"]
    code, output = train(folder / "undisturbed", *arguments)
    assert code == exit_codes.FINISHED, output
    kill_until_finished(folder / "killed20", 20, arguments, generator)
    assert_same_run(folder / "killed20", folder / "undisturbed")


@pytest.mark.parametrize(
    ("steps", "a_call", "more"),
    [
        (3, 10, ()),
        (12, 5, ("--microbatch_size=64",)),
        (12, 5, ("--distribution=mirrored",)),
    ],
)
def test_a_shorter_last_call_is_as_single_updates(folder, steps, a_call, more):
    runs = [folder / f"{steps}-by-{n}{''.join(more)}" for n in (1, a_call)]
    processes = [
        start(
            f"--output_dir={run}",
            f"--steps_per_execution={n}",
            f"--total_steps={steps}",
            *more,
        )
        for run, n in zip(runs, (1, a_call))
    ]
    for code, output in map(finish, processes):
        assert code == exit_codes.FINISHED, output
    assert_same_run(*runs)
    assert final_state(runs[1])[1]["optimizer/0"] == steps  # its counter


def test_a_shorter_last_call_after_a_resume(folder):
    arguments = ["--total_steps=38", "--log_every=20"]
    several = [*arguments, "--steps_per_execution=5"]
    whole, run = folder / "38-by-1", folder / "38-resumed"
    with concurrent.futures.ThreadPoolExecutor() as pool:
        undisturbed = pool.submit(train, whole, *arguments)
        stop = ["--terminate_at=26", "--pause=0.05"]
        code, output = train(run, *several, *stop)
    assert undisturbed.result()[0] == exit_codes.FINISHED
    assert code == exit_codes.INTERRUPTED, output
    assert 20 < final_state(run)[0] < 38
    code, output = train(run, *several)
    assert code == exit_codes.FINISHED, output
    assert_same_run(run, whole)


def test_non_finite_numbers_stop_the_run(folder):
    run = folder / "diverged"
    code, output = train(run, "--break_at=13", "--steps_per_execution=5")
    assert code == exit_codes.DIVERGED
    status = json.loads((run / "status.json").read_text())
    assert status["status"] == "diverged"
    assert status["first_non_finite_step"] == 13
    assert status["first_non_finite_variable"] == "conv2d/kernel"
    assert status["step"] == 20
    assert checkpoints.of(run).newest()[0] == 10


@pytest.mark.parametrize(
    ("backend", "noticed"),
    [
        ("tensorflow", 13),
        # At the end of the call; another start of jax.
        pytest.param("jax", 14, marks=pytest.mark.slow),
    ],
)
def test_keras3_notices_non_finite_numbers(folder, backend, noticed):
    run = folder / f"diverged-{backend}"
    code, output = train(
        run,
        "--keras=keras3",
        "--microbatch_size=64",
        f"--break_at={13 * 4 + 2}",  # the third part of update 13
        "--steps_per_execution=5",
        keras_backend=backend,
    )
    assert code == exit_codes.DIVERGED, output
    status = json.loads((run / "status.json").read_text())
    assert status["status"] == "diverged"
    assert status["first_non_finite_step"] == noticed
    assert status["first_non_finite_variable"] == "sequential/conv2d/kernel"
    assert checkpoints.of(run).newest()[0] == 10


def test_non_finite_numbers_are_not_saved_by_sigterm(folder):
    run = folder / "diverged-stopped"
    arguments = ["--break_at=12", "--pause=0.1"]
    code, output = train(run, *arguments, "--terminate_at=15")
    if code == exit_codes.INTERRUPTED:  # the data is read ahead
        code, output = train(run, *arguments)
    assert code == exit_codes.DIVERGED, output
    status = json.loads((run / "status.json").read_text())
    assert status["first_non_finite_step"] == 12


def test_broken_data_leaves_no_half_record(folder):
    code, output = train(folder / "never", "--fail_at=0")
    assert code != exit_codes.FINISHED
    assert "images.bin: record 17 is not an image." in output
    assert not (folder / "never").exists()


def test_broken_data_later_is_recorded(folder):
    code, output = train(folder / "refused", "--fail_at=15")
    assert code == exit_codes.REFUSED
    status = json.loads((folder / "refused" / "status.json").read_text())
    assert status == {
        "status": "refused",
        "step": 15,
        "message": "images.bin: record 17 is not an image.",
    }


@pytest.mark.parametrize(
    ("backend", "microbatch"),
    [
        ("tensorflow", 64),
        pytest.param("jax", 64, marks=pytest.mark.slow),
        # Three more starts of each.
        pytest.param("tensorflow", 256, marks=pytest.mark.slow),
        pytest.param("jax", 256, marks=pytest.mark.slow),
    ],
)
def test_keras3_resumes(folder, backend, microbatch):
    arguments = ["--keras=keras3", f"--microbatch_size={microbatch}"]
    name = f"{backend}-{microbatch}"
    whole, parts = folder / f"{name}-whole", folder / f"{name}-parts"
    with concurrent.futures.ThreadPoolExecutor() as pool:
        runs = [
            pool.submit(train, run, *arguments, *more, keras_backend=backend)
            for run, more in ((whole, ()), (parts, ("--terminate_at=15",)))
        ]
    codes = [run.result()[0] for run in runs]
    assert codes == [exit_codes.FINISHED, exit_codes.INTERRUPTED], runs
    code, output = train(parts, *arguments, keras_backend=backend)
    assert code == exit_codes.FINISHED, output
    assert_same_run(whole, parts)


def two_workers(folder, *arguments):
    return [
        start(
            f"--output_dir={folder}",
            "--distribution=multi_worker",
            *arguments,
            cluster=cluster,
        )
        for cluster in programs.two_workers()
    ]


@pytest.mark.slow  # three starts of two TensorFlows, and heartbeats
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_worker_stops_the_other_and_both_resume(folder, victim):
    whole, killed = folder / f"two-{victim}", folder / f"two-killed-{victim}"
    for code, output in map(finish, two_workers(whole)):
        assert code == exit_codes.FINISHED, output
    workers = two_workers(killed, "--pause=0.3")
    checkpoint = killed / "checkpoints"
    while not checkpoint.exists() or not list(checkpoint.glob("*.npz")):
        assert all(worker.poll() is None for worker in workers)
        time.sleep(0.1)
    workers[victim].send_signal(signal.SIGKILL)
    code, output = finish(workers[1 - victim])
    finish(workers[victim])
    assert code == exit_codes.UNAVAILABLE, output
    assert "Another worker is gone. Start all workers again" in output
    for code, output in map(finish, two_workers(killed)):
        assert code == exit_codes.FINISHED, output
        assert "Continues after" in output
    assert_same_run(whole, killed)


def test_two_workers_are_one_device(folder, reference):
    run = folder / "two"
    for code, output in map(finish, two_workers(run, "--dropout=0")):
        assert code == exit_codes.FINISHED, output
    code, output = train(folder / "one", "--dropout=0")
    assert code == exit_codes.FINISHED, output
    _, ours, _ = final_state(run)
    _, theirs, _ = final_state(folder / "one")
    for name, array in ours.items():
        scale = np.linalg.norm(theirs[name])
        assert np.linalg.norm(array - theirs[name]) <= 1e-4 * scale, name


class Told:
    """An engine whose other worker gives a text."""

    def __init__(self, other):
        self._other = other

    def texts(self, text):
        return [text, self._other]


def test_workers_that_would_train_two_runs():
    ours = "--output_dir=/mnt/a\n--rate=0.1\n"
    counts = {"train examples": 8}
    for other, differs in (
        ("--output_dir=b\n--rate=0.1\ntrain examples: 8\n", None),
        ("--rate=0.2\ntrain examples: 8\n", r"--rate=0.2 \(th.*=0.1 \(here"),
        ("--rate=0.1\ntrain examples: 9\n", r"train examples: 9 \(there"),
    ):
        alike = pytest.raises(ValueError, match=f"differs .*{differs}")
        with alike if differs else contextlib.nullcontext():
            loop._check_alike(Told(other), ours, counts)


@pytest.mark.slow  # two TensorFlows, twice
def test_workers_of_two_commands_or_folders_are_refused(folder):
    """Each would go its own way, and nothing would show it."""
    begun = folder / "begun"
    code, _ = train(begun, "--terminate_at=15")
    assert code == exit_codes.INTERRUPTED
    for name, others, message in (
        ("apart", ["--learning_rate=0.1"], r"--rate=0.1 \((there|here)\)"),
        ("begun", [f"--output_dir={folder / 'new'}"], "updates until now: 0"),
    ):
        workers = [
            start(
                f"--output_dir={folder / name}",
                "--distribution=multi_worker",
                *more,
                cluster=cluster,
            )
            for more, cluster in zip(([], others), programs.two_workers())
        ]
        for code, output in map(finish, workers):
            assert code == exit_codes.REFUSED, output
            assert re.search(f"The workers of TF_CONFIG .*{message}", output)
        assert not (folder / "apart").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, received 0"),
        ({"seed": -1}, "seed must be at least 0"),
        (
            {"virtual_batch_size": -1},
            "virtual_batch_size must be at least 0, received -1",
        ),
        ({"distribution": "gpu"}, "distribution must be one of"),
        ({"evaluate_every": 150}, "evaluate_every=150 is not a multiple"),
        ({"steps_per_execution": 30}, "multiple of steps_per_execution=30"),
        (
            {"keras": "keras3", "distribution": "tpu"},
            "needs keras='tf_keras'",
        ),
        ({"keras": "keras3", "tpu": "local"}, "tpu='local' needs"),
        (
            {"keras": "keras3", "steps_per_execution": 4},
            "total_steps=10 is not a multiple of steps_per_execution=4",
        ),
    ],
)
def test_bad_options(settings, message):
    options = {"output_dir": "x", "batch_size": 512, "total_steps": 10}
    with pytest.raises(ValueError, match=message):
        training.Options(**{**options, **settings})


def test_keras3_does_not_leave_other_workers_alone(monkeypatch):
    two = {
        "cluster": {"worker": ["a:1", "b:1"]},
        "task": {"type": "worker", "index": 0},
    }
    monkeypatch.setenv("TF_CONFIG", json.dumps(two))
    with pytest.raises(ValueError, match="TF_CONFIG names other workers"):
        training.Options("x", 512, 10, keras="keras3")
    for settings in (
        {"keras": "tf_keras"},
        {"keras": "keras3", "distribution": "one_device"},
    ):
        training.Options("x", 512, 10, **settings)


def test_strategies_by_name(monkeypatch):
    import tensorflow as tf

    from lbcheck.training import strategy

    monkeypatch.delenv("TF_CONFIG", raising=False)
    for name in ("auto", "one_device"):
        made = strategy.make(name)
        assert made is tf.distribute.get_strategy()
        assert strategy.is_chief(made) and not strategy.is_multi_worker(made)
    mirrored = strategy.make("mirrored")
    assert isinstance(mirrored, tf.distribute.MirroredStrategy)
    assert mirrored.num_replicas_in_sync == 1
    for arguments, message in (
        (("multi_worker",), "needs the environment variable TF_CONFIG"),
        (("mirrored", "local"), "tpu='local' does not apply to distribution="),
        (("tpu",), "tpu='local': no TPU answers"),
        (("auto", "local"), "tpu='local': no TPU answers"),
    ):
        with pytest.raises(ValueError, match=message):
            strategy.make(*arguments)


@pytest.mark.parametrize(
    ("config", "others"),
    [
        (None, ()),
        ('{"cluster": {"worker": ["a:1"]}}', ()),
        (
            '{"cluster": {"chief": ["a:1"], "worker": ["b:1", "c:1"]}, '
            '"task": {"type": "worker", "index": 1}}',
            ("a:1", "b:1"),
        ),
        ('{"task": {"type": "worker", "index": 0}}', ()),
        (
            '{"cluster": {"worker": ["a:1", "[::1]:65535"]}, "environment": '
            '"cloud", "task": {"type": "worker", "index": 0, "trial": "1"}}',
            ("[::1]:65535",),
        ),
    ],
)
def test_workers_of_tf_config(monkeypatch, config, others):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if config:
        monkeypatch.setenv("TF_CONFIG", config)
    assert cluster.read().others == others


def of_two(**task):
    """TF_CONFIG of two workers and a task."""
    cluster = {"worker": ["localhost:2001", "[::1]:2002"]}
    return json.dumps({"cluster": cluster, "task": task})


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("worker0:2222", "TF_CONFIG: not JSON"),
        ("[]", "TF_CONFIG: expected `object`, got `array`"),
        ('"worker"', "TF_CONFIG: expected `object`, got `str`"),
        ('{"cluster": ["a:1"]}', "cluster: expected `object`, got `array`"),
        ('{"cluster": {"worker": 2}}', "cluster.*expected `array`, got `int`"),
        ('{"cluster": {"worker": "a:1"}}', "expected `array`, got `str`"),
        ('{"cluster": {"worker": [7]}}', r"\[0\]: expected `str`, got `int`"),
        ('{"cluster": {"worker": [""]}}', r"\[0\]: expected `str` of length"),
        ('{"cluster": {"worker": []}}', "cluster.worker: expected an address"),
        ('{"cluster": {"worker": ["a"]}}', r"worker\[0\]: expected host:port"),
        ('{"cluster": {"worker": ["a:70000"]}}', "port of 1 to 65535.*'a:7000"),
        ('{"cluster": {"worker": ["a:0"]}}', "port of 1 to 65535"),
        ('{"cluster": {"worker": ["a:"]}}', "expected host:port"),
        ('{"cluster": {"worker": ["http://a:1"]}}', "expected host:port"),
        ('{"cluster": {"worker": ["a:1", "a:1"]}}', "'a:1' appears twice"),
        ('{"cluster": {"chief": ["a:1"], "worker": ["a:1"]}}', "twice"),
        ('{"cluster": {"chief": ["a:1", "b:1"]}}', "chief: expected one addr"),
        ('{"cluster": {"worker": ["a:1"], "ps": ["b:1"]}}', "cluster.ps: exp"),
        ('{"cluster": {"evaluator": ["b:1"]}}', "cluster.evaluator: expected"),
        ('{"cluster": {"worker": ["a:1", "b:1"]}}', "task is missing"),
        (of_two(), "task: object missing required field `type`"),
        (of_two(type="worker"), "missing required field `index`"),
        (of_two(type="ps", index=0), "task.type: expected one of 'chief', 'wo"),
        (of_two(type="chief", index=0), "task.type: .*jobs 'worker', received"),
        (of_two(type="worker", index=-1), "task.index: expected `int` >= 0"),
        (of_two(type="worker", index=2), "task.index: expected 0 to 1"),
        (of_two(type="worker", index="1"), "task.index: expected `int`, got"),
        (of_two(type="worker", index=0.5), "task.index: expected `int`, got"),
        ('{"cluster": ' + "[" * 99999, "TF_CONFIG: nested too deep"),
    ],
)
def test_tf_config_that_is_not_right(monkeypatch, config, message):
    monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(ValueError, match=message) as refused:
        cluster.read()
    assert "TF_CONFIG" in str(refused.value)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 300


def two_on_this_machine(monkeypatch, other="localhost"):
    """TF_CONFIG of this worker and one that is not there."""
    hosts = ("localhost", other)
    addresses = [f"{host}:{programs.free_port()}" for host in hosts]
    config = {
        "cluster": {"worker": addresses},
        "task": {"type": "worker", "index": 0},
    }
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))
    return addresses


@pytest.mark.parametrize("other", ["localhost", "no-such-host.invalid"])
def test_a_worker_says_for_whom_it_waits_and_ends(monkeypatch, capsys, other):
    own, missing = two_on_this_machine(monkeypatch, other)
    monkeypatch.setattr(cluster, "WAITING_SECONDS", 5)
    with pytest.raises(errors.Unavailable, match=f"{missing} .* for 5 s"):
        cluster.meet(cluster.read())
    assert f"{own} waits for {missing} (" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_a_worker_that_waits(monkeypatch, number):
    two_on_this_machine(monkeypatch)
    before = signal.getsignal(number)
    threading.Timer(1, os.kill, (os.getpid(), number)).start()
    with pytest.raises(KeyboardInterrupt), cluster.signals_end():
        cluster.meet(cluster.read())
    assert signal.getsignal(number) == before


def test_workers_that_come_late_meet(monkeypatch):
    own, other = two_on_this_machine(monkeypatch)
    port = int(other.partition(":")[2])
    with concurrent.futures.ThreadPoolExecutor() as pool:
        met = pool.submit(cluster.meet, cluster.read())
        time.sleep(1)
        assert not met.done()
        with socket.create_server(("localhost", port)):
            # What answers to it while it waits.
            where = ("localhost", int(own.partition(":")[2]))
            socket.create_connection(where, 5).close()
            met.result(10)


def test_a_port_that_is_taken_is_said(monkeypatch):
    own, _ = two_on_this_machine(monkeypatch)
    port = int(own.partition(":")[2])
    with socket.create_server(("", port)):
        with pytest.raises(
            ValueError, match=f"TF_CONFIG: .* port {port} of th"
        ):
            cluster.meet(cluster.read())


def test_a_start_that_hangs_in_c_ends_with_its_code():
    script = (
        "import ctypes\n"
        "from lbcheck.training import cluster\n"
        "cluster.STARTING_SECONDS = 1\n"
        "with cluster.starting():\n"
        "    pass\n"
        "holds_the_lock = ctypes.PyDLL(None).sleep\n"
        "holds_the_lock(2)\n"
        "print('the first timer is gone')\n"
        "with cluster.starting():\n"
        "    holds_the_lock(60)\n"
    )
    done = subprocess.run(
        [sys.executable, "-uc", script], capture_output=True, text=True
    )
    assert done.returncode == exit_codes.UNAVAILABLE, done.stderr
    assert done.stdout == "the first timer is gone\n"
    assert "does not start within 1 s ends them with code 69" in done.stderr


def test_sigterm_ends_a_program_that_waits_for_a_worker(folder):
    config = programs.two_workers()[1]
    missing = json.loads(config)["cluster"]["worker"][0]
    process = start(
        f"--output_dir={folder / 'alone'}",
        "--distribution=multi_worker",
        cluster=config,
    )
    process.wait_until_said(f"waits for {missing}")
    process.send_signal(signal.SIGTERM)
    code, output = finish(process)
    assert code == exit_codes.INTERRUPTED, output
    assert "training_worker: interrupted." in output
    assert "Traceback" not in output
    assert not (folder / "alone").exists()


@pytest.mark.parametrize(
    ("batch", "microbatch", "replicas", "expected"),
    [
        (32768, 64, 1, (1, 32768, 64, 512)),
        (32768, None, 8, (8, 4096, 4096, 1)),
        (512, 64, 2, (2, 256, 64, 4)),
        (100, None, 3, "batch_size=100 does not divide among 3 replicas"),
        (512, 96, 2, "microbatch_size=96 does not divide the 256 examples"),
    ],
)
def test_how_a_batch_is_divided(batch, microbatch, replicas, expected):
    options = training.Options("x", batch, 10, microbatch)
    if isinstance(expected, str):
        with pytest.raises(ValueError, match=expected):
            engines.layout(options, replicas)
    else:
        assert engines.layout(options, replicas) == expected


def test_options_by_position():
    given = training.Options("x", 8, 10, 4, 2, 7, 20)
    assert (given.microbatch_size, given.evaluation_batch_size) == (4, 2)
    assert (given.seed, given.log_every) == (7, 20)


MORE_REPLICAS = """
import dataclasses, json, sys
from lbcheck import training
from resnet import data
from tests.training import training_worker

training_worker.divide_cpu()
source = data.load("digits")
build = training_worker.builder("Momentum", {"learning_rate": 0.05}, False)
folder = sys.argv[1]
one = training.Options(
    folder, 64, 2, distribution="one_device", virtual_batch_size=64
)
training.run(one, build, source, "", {})
two = dataclasses.replace(one, distribution="mirrored")
print(json.dumps(training.evaluate(two, build, source, "")))
two = dataclasses.replace(two, output_dir=folder + "/other")
for trains in (
    lambda: training.run(two, build, source, "", {}),
    lambda: training.plan(two, source, ""),
    lambda: training.tpu_problems(two, build, source, cores=2),
):
    try:
        trains()
    except ValueError as error:
        print(error)
"""


def test_more_replicas_evaluate_than_could_train_ghost_batches(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", MORE_REPLICAS, str(tmp_path / "record")],
        cwd=programs.ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    evaluated, *refused = done.stdout.splitlines()[-4:]
    measured = (tmp_path / "record/measurements.jsonl").read_text()
    expected = json.loads(measured.splitlines()[-1])["validation_accuracy"]
    assert json.loads(evaluated) == {"step": 2, "accuracy": expected}
    said = (
        "virtual_batch_size=64 does not divide the 32 examples of a replica "
        "(batch_size=64, 2 replicas)."
    )
    assert refused == [said] * 3
    assert not (tmp_path / "record/other").exists()


def begun(folder, flagfile="--a=1\n"):
    kept = record.Record(folder, flagfile)
    kept.begin({}, {"after_step": 0}, "table")
    return kept


def test_two_processes_cannot_write_one_record(tmp_path):
    first = begun(tmp_path)
    with pytest.raises(ValueError, match="another process is writing"):
        begun(tmp_path)
    first.release()
    begun(tmp_path).release()


def test_whose_folder_it_is(tmp_path):
    begun(tmp_path / "ours", "--a=1\n--output_dir=x\n").release()
    record.Record(tmp_path / "ours", "--output_dir=y\n--a=1\n")
    with pytest.raises(ValueError, match=r"--a=1 \(there\), --a=2 \(here\)"):
        record.Record(tmp_path / "ours", "--a=2\n--output_dir=x\n")
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "flags.txt.part").write_text("killed here")
    record.Record(tmp_path / "theirs", "--a=1\n")
    (tmp_path / "theirs" / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="holds no record of a run"):
        record.Record(tmp_path / "theirs", "--a=1\n")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("status.json", b"[1]", "status.json: expected `object`"),
        ("status.json", b'{"status": 3}', "status.json: status: expected"),
        ("status.json", b"", "status.json: not JSON"),
        (
            "status.json",
            b'{"status": "finished", "step": "20"}',
            "status.json: step: expected `int`, .*received '20'",
        ),
        (
            "measurements.jsonl",
            b'{"step": 4}\n{"step": 2}\n',
            "measurements.jsonl:2: step must be more .*, 4, received 2",
        ),
        ("run.json", b'{"seed": 0}', "run.json: .*required field `starts`"),
        ("run.json", b'{"starts": {}}', "run.json: starts: expected `array`"),
        ("measurements.jsonl", b'{"step": 1}\n[]\n', "measurements.jsonl:2: "),
        ("measurements.jsonl", b'{"step": -1}\n', "measurements.jsonl:1: step"),
        ("measurements.jsonl", b"\xff\n", "measurements.jsonl:1: not UTF-8"),
        ("timing.jsonl", b'{"loss": 1}\n', "timing.jsonl:1: .*`step`"),
        ("flags.txt", b"\x89PNG\xff", "flags.txt: not UTF-8"),
        ("checkpoints", b"a file", "checkpoints: expected a folder"),
        ("tensorboard", b"a file", "tensorboard: expected a folder"),
    ],
)
def test_a_damaged_record_is_refused(tmp_path, name, content, message):
    kept = begun(tmp_path)
    kept.measure({"step": 1}, {"step": 1})
    kept.release()
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{tmp_path}/{message}"):
        record.Record(tmp_path, "--a=1\n")


def test_what_files_say_stays_as_it_was(tmp_path):
    """A run with --train_epochs went on with twice the data, and updates."""
    data, config = {"train": 640}, {"layers": 2, "act": "gelu"}
    kept = record.Record(tmp_path, "--a=1\n")
    kept.begin(
        {"examples": data, "settings": {"config": config, "data": "mnist"}},
        {"after_step": 0},
        "table",
    )
    kept.release()
    kept.check_continues(data, {"config": config, "data": "other"})
    kept.check_continues({**data, "validation": 9}, {"schedule": {"rate": 1}})
    for examples, settings, message in (
        ({"train": 1280}, {}, "examples: train 640, now it is 1280"),
        (data, {"config": {**config, "act": "relu"}}, "config: act 'gelu', n"),
    ):
        with pytest.raises(ValueError, match=f"run.json: .*with {message}"):
            kept.check_continues(examples, settings)


def test_places_where_no_record_can_be(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    os.symlink(tmp_path / "loop", tmp_path / "loop")
    os.symlink("/nowhere/at/all", tmp_path / "dangling")
    for name in ("file/x", "loop", "loop/x", "dangling/x"):
        place = record.Record(tmp_path / name, "--a=1\n")
        with pytest.raises(NotADirectoryError) as refused:
            place.check_place()
        assert str(tmp_path / name.partition("/")[0]) in str(refused.value)
    record.Record(tmp_path / "new" / "folders", "--a=1\n").check_place()
    assert not (tmp_path / "new").exists()


def checkpointed(folder, steps, measured):
    """A record with checkpoints and lines after these updates."""
    kept = begun(folder)
    for step in steps:
        kept.checkpoints.save(step, {"a": np.arange(step)})
    for step in measured:
        kept.measure({"step": step}, {"step": step})
    kept.release()
    return kept


@pytest.mark.parametrize(
    ("steps", "measured", "found"),
    [
        ((10, 20), (10, 20), 20),
        ((10, 20), (10,), 10),  # the line after 20 updates was cut short
        ((10, 23), (10, 20), 23),  # a signal in the middle of an interval
        ((20, 25), (10, 20), 20),  # 25 is the end, which has a line
        ((20, 25), (10, 20, 25), 25),
        ((7,), (), 7),
        ((), (), None),
    ],
)
def test_what_is_resumed_has_all_its_lines(tmp_path, steps, measured, found):
    kept = checkpointed(tmp_path, steps, measured)
    with open(tmp_path / "measurements.jsonl", "a") as file:
        file.write('{"step": 99')
    resumed = kept.resumable(every=10, total=25)
    assert (resumed and resumed[0]) == found


def test_lines_that_no_checkpoint_gives_again_are_missed(tmp_path):
    kept = checkpointed(tmp_path, (10, 20), ())
    with pytest.raises(ValueError, match="jsonl ends after 0 updates, .* 10:"):
        kept.resumable(every=10, total=40)


def test_a_line_that_was_cut_comes_back(folder, reference):
    run = folder / "cut-line"
    train(run, "--terminate_at=35", "--pause=0.05")
    path = run / "measurements.jsonl"
    path.write_bytes(path.read_bytes()[:-5])
    code, output = train(run)
    assert code == exit_codes.FINISHED, output
    assert path.read_bytes() == (reference / path.name).read_bytes()


class Unpickled:
    """Leaves a trace where it is unpickled."""

    def __init__(self, path):
        self._path = path

    def __reduce__(self):
        return os.mkdir, (self._path,)


def test_a_checkpoint_is_never_unpickled(tmp_path):
    stored = checkpoints.of(tmp_path)
    stored.save(1, {"a": np.arange(3)})
    trace = tmp_path / "unpickled"
    stored.save(2, {"a": np.array([Unpickled(str(trace))], object)})
    assert stored.newest()[0] == 1
    assert not trace.exists()


@damage.EXAMPLES
def test_damaged_checkpoints(tmp_path, examples, caplog):
    stored = checkpoints.of(tmp_path)
    arrays = {"model/0": np.arange(200.0), "optimizer/0": np.ones((3, 2), "f4")}
    stored.save(7, arrays)
    path = tmp_path / "checkpoints" / "step-000000007.npz"

    def read(_):
        found = stored.newest()
        assert found is None or found[0] == 7

    damaged = damage.damaged_bytes(path.read_bytes())
    damage.try_reader(read, path, damaged, examples)
    assert "is damaged" in caplog.text


RECORDED = {
    "status.json": {"status": "interrupted", "step": 20, "message": "by you"},
    "run.json": {"seed": 0, "settings": {"a": 1}, "starts": [{"after": 0}]},
}
LINES = [{"step": 10, "loss": 1.5, "epoch": 0.1}, {"step": 20, "loss": 1.25}]


@damage.EXAMPLES
@pytest.mark.parametrize(
    "name", [*RECORDED, "measurements.jsonl", "timing.jsonl", "flags.txt"]
)
def test_damaged_records(tmp_path, name, examples):
    checkpointed(tmp_path, (10, 20), (10, 20))
    if name in RECORDED:
        damaged = damage.damaged_json(RECORDED[name])
    elif name == "flags.txt":
        damaged = damage.damaged_bytes(b"--a=1\n--output_dir=there\n")
    else:
        damaged = damage.damaged_lines(LINES)

    def read(path):
        try:
            kept = record.Record(tmp_path, "--a=1\n")
        except ValueError as error:
            if "another run" not in str(error):
                raise
            return
        kept.status()
        kept.resumable(10, 40)

    damage.try_reader(read, tmp_path / name, damaged, examples)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a small disk")
def test_a_full_disk(folder, reference):
    disk = folder / "disk"
    disk.mkdir()
    size = ["-o", "size=200k"]
    subprocess.run(["mount", "-t", "tmpfs", *size, "tmpfs", disk], check=True)
    try:
        code, output = train(disk / "run")
        assert code == exit_codes.REFUSED, output
        assert output.count("No space left on device") == 1, output
        assert "Traceback" not in output, output
        left = checkpoints.of(disk / "run").newest()
        more = ["-o", "remount,size=20m"]
        subprocess.run(["mount", *more, disk], check=True)
        code, output = train(disk / "run")
        assert code == exit_codes.FINISHED, output
        assert ("Continues after" in output) == (left is not None)
        assert_same_run(disk / "run", reference)
        assert not [p for p in disk.rglob("*") if p.name.endswith(".part")]
    finally:
        subprocess.run(["umount", disk], check=True)


def test_half_a_line_is_forgotten(tmp_path):
    kept = begun(tmp_path)
    for step in (1, 2, 3):
        kept.measure({"step": step}, {"step": step})
    with open(tmp_path / "measurements.jsonl", "a") as file:
        file.write('{"step": 4, "lo')
    kept.forget_after(2)
    assert kept.measurements() == [{"step": 1}, {"step": 2}]
    kept.release()


def test_checkpoints_keep_the_newest(tmp_path):
    stored = checkpoints.of(tmp_path)
    assert stored.newest() is None
    for step in (1, 2, 3, 4):
        stored.save(step, {"a/b": np.full((2, 3), step, "float32")})
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == [
        "step-000000002.npz",
        "step-000000003.npz",
        "step-000000004.npz",
    ]
    step, arrays = stored.newest()
    assert step == 4
    np.testing.assert_array_equal(arrays["a/b"], np.full((2, 3), 4.0))


@pytest.mark.parametrize("position", [0.0, 0.3, 0.6, 0.9, 0.999])
def test_damaged_checkpoint_is_noticed(tmp_path, position):
    stored = checkpoints.of(tmp_path)
    array = np.random.default_rng(0).normal(size=1000)
    stored.save(1, {"a": array})
    stored.save(2, {"a": array + 1})
    path = tmp_path / "checkpoints" / "step-000000002.npz"
    content = bytearray(path.read_bytes())
    path.write_bytes(content[: int(position * len(content))])
    assert stored.newest()[0] == 1
    content[int(position * len(content))] ^= 0x55
    path.write_bytes(content)
    step, arrays = stored.newest()
    if step == 2:  # the bit was in no array: a header's spare bytes
        np.testing.assert_array_equal(arrays["a"], array + 1)
