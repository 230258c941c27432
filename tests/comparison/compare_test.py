"""`lbcheck compare` end to end, in both Kerases, with tiny settings."""

import dataclasses
import inspect
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tests import programs

ROOT = pathlib.Path(__file__).resolve().parents[2]

WORKLOAD = "tests.comparison.compare_workload"
ARGUMENTS = (
    "compare",
    f"--workload={WORKLOAD}:small",
    f"--arms=nesterov,lamb,{WORKLOAD}:MINE",
    "--trials=2",
    "--seeds=6",
    "--challenge_trials=0",
    "--target=0.6",
    "--output_dir=study",
)
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(ROOT),
    "TF_CPP_MIN_LOG_LEVEL": "3",
}


def start(cwd, *arguments):
    return programs.Program("lbcheck", arguments, cwd, ENVIRONMENT)


def finish(process):
    output, errors = process.communicate(timeout=300)
    return subprocess.CompletedProcess(
        process.args, process.returncode, output, errors
    )


def run(cwd, *arguments):
    return finish(start(cwd, *arguments))


def records_of(folder):
    lines = (folder / "trials.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def without_seconds(value):
    """Without what two runs of the same study may differ in."""
    if isinstance(value, dict):
        return {
            key: without_seconds(inner)
            for key, inner in value.items()
            if "seconds" not in key and key not in ("command", "environment")
        }
    if isinstance(value, list):
        return [without_seconds(inner) for inner in value]
    return value


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A whole study by the command: (its folder, what the command gave)."""
    cwd = tmp_path_factory.mktemp("finished")
    result = run(cwd, *ARGUMENTS)
    assert result.returncode == 0, result.stderr[-3000:]
    return cwd / "study", result


# --- the command ----------------------------------------------------------


def test_command_prints_json(finished):
    folder, _ = finished
    result = run(folder.parent, *ARGUMENTS, "--format=json")
    assert result.returncode == 0, result.stderr[-3000:]
    found = json.loads(result.stdout)
    written = json.loads((folder / "results.json").read_text())
    assert found["finished"] is True
    for key in ("answer", "more_seeds", "sentence"):
        assert found[key] == written["verdict"][key]
    assert found["arms"] == written["tables"]["arms"]
    assert found["report"] == "study/report.html"
    assert found["news"].startswith("0 of 24 trials were run now")


def test_command_prints_the_answer_and_the_report(finished):
    folder, result = finished
    answer = json.loads((folder / "results.json").read_text())["verdict"]
    assert result.stdout.startswith(answer["sentence"])
    assert result.stdout.splitlines()[-1] == "study/report.html"
    page = re.sub("</?span.*?>", "", (folder / "report.html").read_text())
    assert answer["sentence"] in page
    for arm in ("nesterov", "lamb", "mine"):
        assert f"\n{arm} " in result.stdout
    # No bar off a terminal, and nothing else to worry about.
    assert "trial/s" not in result.stderr


def test_every_arm_gets_the_same(finished):
    records = records_of(finished[0])
    stages = [(r["arm"], r["stage"], r["index"]) for r in records]
    assert stages == [
        (arm, stage, index)
        for arm in ("nesterov", "lamb", "mine")
        for stage, count in (("broad", 2), ("confirm", 6))
        for index in range(count)
    ]
    assert {record["examples"] for record in records} == {12 * 64}
    seeds = {}
    for record in records:
        seeds.setdefault(record["arm"], []).append(record["seed"])
    nesterov, lamb, mine = seeds.values()
    assert nesterov == lamb == mine
    assert nesterov[0] == nesterov[1]  # of the search
    assert len(set(nesterov)) == 7


def test_study_says_what_it_is(finished):
    study = json.loads((finished[0] / "study.json").read_text())
    assert study["name"] == "small"
    assert study["workload"] == f"{WORKLOAD}:small"
    assert study["command"] == ["lbcheck", *ARGUMENTS]
    assert "--trials=2\n" in study["flagfile"]
    assert "progress" not in study["flagfile"]
    assert study["metric"] == {"name": "accuracy", "mode": "max"}
    assert study["facts"]["num_train"] == 256
    for name in ("python", "tensorflow", "optuna", "platform", "devices"):
        assert study["environment"][name]
    rows = study["arms"]["lamb"]["audit"]
    adapted = [row["variable"] for row in rows if row["adapt"]]
    assert adapted == ["dense/kernel", "dense_1/kernel"]


def test_flagfile_of_a_study_goes_on_with_it(finished):
    """The recorded flagfile is the study's own settings."""
    folder, first = finished
    before = (folder / "results.json").read_bytes()
    flagfile = folder.parent / "again.flags"
    study = json.loads((folder / "study.json").read_text())
    flagfile.write_text(study["flagfile"])
    again = run(folder.parent, "compare", f"--flagfile={flagfile}")
    assert again.returncode == 0, again.stderr
    answer, news, *rest = again.stdout.split("\n\n")
    assert news.startswith("0 of 24 trials were run now; all 24 are from 20")
    assert "\n\n".join([answer, *rest]) == first.stdout
    assert (folder / "results.json").read_bytes() == before


def test_another_number_of_threads_is_refused(finished):
    """Sums depend on it."""
    folder, _ = finished
    assert json.loads((folder / "study.json").read_text())["threads"] == 1
    refused = run(folder.parent, *ARGUMENTS, "--threads=2")
    assert refused.returncode == 2
    assert "threads is 1 there, 2 here" in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_threads_of_a_process_that_has_started(monkeypatch):
    import tensorflow as tf

    from lbcheck.study import threads

    tf.constant(0.0)
    monkeypatch.setattr(os, "environ", os.environ.copy())
    now = threads.in_force("tensorflow", None)
    threads.limit(now + 75)
    assert threads.in_force("tensorflow", now) == now
    with pytest.raises(ValueError, match=f"has started with {now} in this"):
        threads.in_force("tensorflow", now + 75)


@pytest.mark.slow
def test_interrupted_and_with_two_workers_it_is_the_same_study(
    finished, tmp_path
):
    from lbcheck.study import ledger
    from lbcheck.study import study_folder

    folder = tmp_path / "study"
    process = start(tmp_path, *ARGUMENTS)
    done = 0
    while done < 2 and process.poll() is None:
        time.sleep(0.2)
        if (folder / "ledger.db").exists():
            book = ledger.Ledger(
                study_folder.storage_url(folder), study_folder.read(folder)
            )
            done = len(book.records())
            book.close()
    process.send_signal(signal.SIGTERM)
    stopped = finish(process)
    assert stopped.returncode == 75, stopped.stderr
    kept = records_of(folder)
    assert f"Interrupted after {len(kept)} of 24 trials" in stopped.stderr
    assert 2 <= len(kept) < 24
    resumed = run(tmp_path, *ARGUMENTS, "--num_workers=2")
    assert resumed.returncode == 0, resumed.stderr
    whole = records_of(folder)
    # What was done is kept, seconds and all.
    assert [record for record in whole if record in kept] == kept
    assert without_seconds(whole) == without_seconds(records_of(finished[0]))
    results = [
        json.loads((place / "results.json").read_text())
        for place in (folder, finished[0])
    ]
    assert without_seconds(results[0]) == without_seconds(results[1])


def test_status_counts_without_a_framework(finished):
    folder, _ = finished
    code = f"""
import sys
from lbcheck.study import study_command
print(study_command.as_text(study_command.status({str(folder)!r})))
heavy = {{"tensorflow", "keras", "tf_keras", "optuna", "sqlalchemy"}}
assert not heavy & set(sys.modules)
"""
    printed = subprocess.run(
        [sys.executable, "-c", code],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "24 of 24 trials are done" in printed
    assert printed.split()[-10:-5] == ["mine", "broad", "2", "0", "0"]


def test_tensorboard_reads_the_hyperparameters(finished):
    """TensorBoard's own reader, as its HParams page asks it."""
    from tensorboard import context
    from tensorboard.backend.event_processing import data_provider
    from tensorboard.backend.event_processing import plugin_event_multiplexer
    from tensorboard.plugins import base_plugin
    from tensorboard.plugins.hparams import api_pb2
    from tensorboard.plugins.hparams import backend_context
    from tensorboard.plugins.hparams import list_session_groups

    folder, _ = finished
    events = plugin_event_multiplexer.EventMultiplexer()
    events.AddRunsFromDirectory(str(folder / "tensorboard"))
    events.Reload()
    backend = backend_context.Context(
        base_plugin.TBContext(
            data_provider=data_provider.MultiplexerDataProvider(events, "")
        )
    )
    request = api_pb2.ListSessionGroupsRequest(
        allowed_statuses=[api_pb2.STATUS_SUCCESS, api_pb2.STATUS_FAILURE],
        slice_size=100,
    )
    response = list_session_groups.Handler(
        context.RequestContext(), backend, "", request
    ).run()
    groups = {group.name: group for group in response.session_groups}
    records = records_of(folder)
    searches = [r for r in records if r["stage"] == "broad"]
    assert len(groups) == len(searches) + 3
    for record in searches:
        group = groups[f"{record['arm']}/broad/{record['index']}"]
        given = {
            name: value.number_value or value.string_value
            for name, value in group.hparams.items()
        }
        expected = {k: v for k, v in record["hyperparameters"].items() if v}
        assert {k: v for k, v in given.items() if v} == {
            **expected,
            "arm": record["arm"],
            "stage": "broad",
        }
        metrics = {m.name.tag: m.value for m in group.metric_values}
        for part in ("validation", "training"):
            assert metrics[f"{part}/accuracy"] == pytest.approx(
                record["metrics"][part]["accuracy"], rel=1e-6
            )
    assert len(groups["mine/confirm"].sessions) == 6


# --- the function ---------------------------------------------------------


def digits_of_two_classes(count, seed):
    import numpy as np

    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 8)).astype("float32")
    return x, (x.sum(1) > 0).astype("int32")


def test_eight_lines_of_a_user(tmp_path):
    """An unmodified Keras 3 model; an optimizer of one's own in one line."""
    import keras

    import lbcheck

    x, y = digits_of_two_classes(256, 0)

    def build_model():
        model = keras.Sequential(
            [keras.layers.Input((8,)), keras.layers.Dense(2)]
        )
        model.compile(
            "adam",
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        return model

    lion = lbcheck.Arm(
        "lion",
        keras.optimizers.Lion,
        {"learning_rate": {"min": 1e-3, "max": 1e-1, "scale": "log"}},
    )
    name = keras.layers.Dense(1).name
    keras.utils.set_random_seed(3)
    expected = draws()
    keras.utils.set_random_seed(3)
    comparison = lbcheck.compare(
        build_model,
        (x, y),
        (x[:128], y[:128]),
        batch_size=64,
        steps=8,
        arms=["lars", lion],
        trials=2,
        seeds=2,
        output_dir=tmp_path / "study",
    )
    assert draws() == expected
    assert keras.layers.Dense(1).name == following(name)
    assert str(comparison.verdict).startswith("undecided")
    assert comparison.table().count("2 of 2") == 4
    assert comparison.report_path == tmp_path / "study" / "report.html"
    assert comparison.report_path.exists()
    assert len(comparison.records) == 8
    assert callable(lbcheck.compare)  # and no module of that name


def draws():
    """What the next random numbers of every kind are."""
    import random

    import keras
    import numpy as np
    import tensorflow as tf

    return [
        random.random(),
        float(np.random.rand()),
        float(tf.random.uniform(())),
        float(keras.random.uniform(())),
    ]


def following(name):
    """The name that Keras gives to the layer after this one."""
    stem, _, number = name.partition("_")
    return f"{stem}_{int(number or 0) + 1}"


def test_lines_of_the_readme(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    block, *_ = re.findall(
        r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL
    )
    assert len(block.splitlines()) <= 10
    small = block.replace("steps=100", "steps=5, trials=1, seeds=1")
    exec(small, {})
    printed = capsys.readouterr().out
    assert printed.startswith("Undecided")
    assert printed.strip().endswith("lbcheck_study/report.html")


@pytest.mark.parametrize(
    "workers", [1, pytest.param(2, marks=pytest.mark.slow)]
)
def test_several_searches_and_a_control(here, workers):
    arguments = (
        "compare",
        f"--workload={WORKLOAD}:small",
        "--arms=nesterov,lamb",
        "--trials=2",
        "--seeds=2",
        "--searches=2",
        "--control_batch_size=16",
        f"--output_dir=several_{workers}",
    )
    number = f"--num_workers={workers}"
    result = run(here, *arguments, number, "--format=json")
    assert result.returncode == 0, result.stderr[-3000:]
    assert "Control: at batch 16, with as many" in result.stdout
    folder = here / f"several_{workers}"
    studies = {
        name: json.loads((folder / name / "study.json").read_text())
        for name in ("", "search_1", "control")
    }
    assert len({study["seed"] for study in studies.values()}) == 3
    assert studies["control"]["batch_size"] == 16
    assert studies["control"]["steps"] == 12 * 64 // 16
    (arm,) = studies["control"]["arms"]
    assert arm == "nesterov"
    done = {name: records_of(folder / name) for name in studies}
    assert {name: len(r) for name, r in done.items()} == {
        "": 8, "search_1": 8, "control": 4,
    }  # fmt: skip
    assert all(r["examples"] == 12 * 64 for own in done.values() for r in own)
    points = {
        name: [r["hyperparameters"] for r in own if r["arm"] == "nesterov"]
        for name, own in done.items()
    }
    assert points[""] != points["search_1"] != points["control"]
    # The same call has nothing left to do.
    again = run(here, *arguments, "--format=json")
    assert "0 of 20 trials were run now" in json.loads(again.stdout)["news"]


def test_python_has_every_setting_of_a_study(tmp_path):
    import lbcheck
    from lbcheck.study import settings

    parameters = inspect.signature(lbcheck.compare).parameters
    for field in dataclasses.fields(settings.Settings):
        assert parameters[field.name].default == field.default, field.name
    data = np.zeros((8, 2)), np.zeros(8)
    words = "several search_seeds .*received search_seeds 3 with feasible"
    with pytest.raises(ValueError, match=words):
        lbcheck.compare(
            lambda: None,
            data,
            data,
            batch_size=4,
            steps=2,
            search_seeds=3,
            feasible=True,
            output_dir=tmp_path / "study",
        )


def test_tf_data_and_a_loss_without_a_margin(tmp_path):
    import tensorflow as tf
    import tf_keras

    import lbcheck

    x, _ = digits_of_two_classes(256, 0)
    data = tf.data.Dataset.from_tensor_slices((x, x.sum(1))).batch(32)

    def build_model():
        return tf_keras.Sequential(
            [tf_keras.layers.Input((8,)), tf_keras.layers.Dense(1)]
        )

    with pytest.raises(TypeError, match="arms must be a list.*'lamb'"):
        lbcheck.compare(
            build_model, data, data, batch_size=64, steps=8, arms="lamb"
        )
    comparison = lbcheck.compare(
        build_model,
        data,
        data.take(4),
        batch_size=np.int64(64),
        steps=np.int32(8),
        loss="mse",
        arms=["lamb", "adamw"],
        challengers=["adamw"],
        trials=np.int64(2),
        seeds=np.uint8(2),
        seed=np.int64(3),
        target=np.float32(0.25),
        output_dir=tmp_path / "study",
        name="regression",
        test=data.skip(4),
    )
    text = str(comparison)
    assert "loss" in text
    for record in comparison.records:
        confirms = record["stage"] == "confirm"
        assert ("test" in record["metrics"]) is confirms
        # Four batches; a loss is a mean.
        if confirms:
            groups = record["test_groups"]
            assert len(groups) == 4
            loss = record["metrics"]["test"]["loss"]
            assert sum(groups) / 4 == pytest.approx(loss, rel=1e-5)
    assert all(record["examples"] == 512 for record in comparison.records)
    pairs = {(pair.arm, pair.other_arm) for pair in comparison.verdict.pairs}
    assert pairs == {("adamw", "lamb")}
    assert comparison.verdict.pairs[0].part == "test"
    study = json.loads((tmp_path / "study/study.json").read_text())
    assert study["challengers"] == ["adamw"] and study["baselines"] == ["lamb"]
    margins = {pair.margin for pair in comparison.verdict.pairs}
    assert all(margin > 0 for margin in margins)


# --- bad input ------------------------------------------------------------


def command(*arguments):
    """`lbcheck compare` in this process: its exit code, or its refusal."""
    from absl import app
    from absl import flags
    from absl.testing import flagsaver

    from lbcheck.comparison import compare_command
    from lbcheck.study import threads

    # Those of the tests before, which cannot be changed any more.
    arguments = [
        f"--threads={threads.in_force('tensorflow', None)}",
        *arguments,
    ]
    saved = flagsaver.save_flag_values(compare_command.FLAGS)
    try:
        rest = compare_command.FLAGS(["lbcheck compare", *arguments])[1:]
        return compare_command.main(rest)
    except (flags.Error, app.UsageError) as error:
        return str(error)
    finally:
        flagsaver.restore_flag_values(saved, compare_command.FLAGS)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a_file").touch()
    return tmp_path


SHORT = ("--arms=nesterov,lars", "--trials=2", "--seeds=2", "--steps=4")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["extra"], "takes flags only"),
        ([], "--workload=module:function or --program=module is needed"),
        (["--workload=small"], "must be module:function"),
        (["--workload=no_such_module:f"], "no module 'no_such_module'"),
        ([f"--workload={WORKLOAD}:f"], "has no 'f'"),
        ([f"--workload={WORKLOAD}:a_number"], "it gives 3"),
        (
            [f"--workload={WORKLOAD}:fails"],
            "RuntimeError: no data today",
        ),
        ([f"--workload={WORKLOAD}:fails_to_build"], "no model today"),
        ([f"--workload={WORKLOAD}:broken"], "no such loss"),
        ([f"--workload={WORKLOAD}:too_short"], "batch_size=512 is more"),
        (
            [
                f"--workload={WORKLOAD}:of_one_batch_size",
                "--control_batch_size=8",
            ],
            "takes batches of 64 examples, received batch_size=8",
        ),
        (["--metric=auc"], "no 'auc'"),
        (["--arms="], "at least one arm"),
        (["--arms=lars,lars"], "Several arms are called lars"),
        (["--arms=lars,sdg"], "'sdg'"),
        (["--challengers=lion"], "challengers must name arms of the study"),
        (
            ["--challengers=lars", "--baselines=lars,nesterov"],
            "received both for 'lars'",
        ),
        (["--baselines=nesterov,lars"], "needs a challenger and a baseline"),
        (["--trials=0"], "--trials"),
        (["--margin=-1"], "margin must be above 0"),
        (["--target=nan"], "target must be a number"),
        (["--trails=3"], "trails"),
        (["--output_dir=a_file"], "a_file"),
        (["--output_dir=a_file/study"], "a_file"),
        (["--output_dir=."], "holds no study"),
        (["--output_dir=.", "--storage=sqlite:///x.db"], "holds no study"),
        (["--output_dir=a_file/x", "--storage=sqlite:///x.db"], "a_file"),
        (["--storage=nonsense"], "The storage is not a URL"),
        (["--output_dir=what?"], "cannot have a '?'"),
        (["--storage=sqlite:////no/such/folder/x.db"], "/no/such/folder"),
        (
            ["--storage=mysql://me:secret@127.0.0.1:1/x"],
            "mysql://127.0.0.1:1/x",
        ),
    ],
)
def test_refused_and_nothing_written(here, arguments, message):
    if arguments not in (["extra"], []) and "--workload" not in arguments[0]:
        arguments = [f"--workload={WORKLOAD}:small", *arguments]
    refusal = command(*SHORT, *arguments)
    assert isinstance(refusal, str) and message in refusal
    assert "secret" not in refusal
    assert [path.name for path in here.iterdir()] == ["a_file"]


def test_all_diverged(here):
    with pytest.raises(FloatingPointError) as raised:
        command(*SHORT, f"--workload={WORKLOAD}:not_a_number")
    assert "All 4 trials diverged, the first at update 0" in str(raised.value)
    statuses = {r["status"] for r in records_of(here / "lbcheck_study")}
    assert statuses == {"diverged"}
    assert (here / "lbcheck_study" / "report.html").exists()


def test_a_metric_that_is_no_number_is_named(here):
    with pytest.raises(FloatingPointError) as raised:
        command(*SHORT, f"--workload={WORKLOAD}:metric_not_a_number")
    said = str(raised.value)
    assert "no weight was seen that is not finite" in said
    assert "the metric ratio is no finite number" in said


def test_folder_of_other_settings(here):
    arguments = [*SHORT, f"--workload={WORKLOAD}:small"]
    assert command(*arguments) == 0
    before = {
        path: path.read_bytes()
        for path in here.glob("lbcheck_study/*")
        if path.is_file()
    }
    refusal = command(*arguments, "--steps=5")
    assert "steps is 4 there, 5 here" in refusal
    assert all(path.read_bytes() == content for path, content in before.items())


def test_dry_run_times_an_arm_whose_warm_up_is_fixed(here, capsys):
    values = {"learning_rate": {"values": [0.1, 0.2]}}
    arm = {
        "optimizer": "lamb",
        "space": {"points": "grid", "parameters": values},
        "fixed": {"warmup_steps": 50},
    }
    (here / "mine.json").write_text(json.dumps(arm))
    arguments = [f"--workload={WORKLOAD}:small", "--steps=60", "--dry_run"]
    arguments += ["--arms=mine.json", "--trials=2", "--seeds=2"]
    assert command(*arguments) == 0
    assert "60 updates" in capsys.readouterr().out


def test_dry_run_writes_nothing(here, capsys):
    arguments = [*SHORT, f"--workload={WORKLOAD}:small", "--dry_run"]
    assert command(*arguments) == 0
    printed = capsys.readouterr().out
    assert "nesterov              2      2     16     1,024" in printed
    assert "8 trials" in printed and "Nothing was written" in printed
    assert not (here / "lbcheck_study").exists()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:se/cret@host/x",
        "postgresql://host/x?password=se/cret",
        "postgresql://me:se%2Fcret@host/x",
        "postgresql://me:se%2fcret@host/x?sslmode=require",
    ],
)
def test_passwords_are_not_recorded(url):
    from lbcheck.study import optuna_storage

    for words in (
        [f"--storage={url}", "--seed=1"],
        ["-storage", url, "--seed=1"],
        [f"--storage={url.replace('host', 'old')}", f"--storage={url}"],
        ["--storage=postgresql:/me:se/cret@host", f"--storage={url}"],
        ["train.py", f"db='{url}'", "--password", "se/cret"],
        ["train.py", "--password=se%2Fcret"],
    ):
        kept = optuna_storage.without_credentials(words, url)
        assert not any(re.search("cret", word) for word in kept)
        assert [w for w in kept if "1" in w] == [w for w in words if "1" in w]
    words = ["lbcheck", "--storage=sqlite:////me@home/l.db", "--workload=a:b"]
    assert optuna_storage.without_credentials(words, words[1][10:]) == words
    words = ["--workload_arguments=data=gs://bucket/x,size=3"]  # no secret
    assert optuna_storage.without_credentials(words, url) == words
