"""The ledger and the folder: shared by processes, and what they refuse."""

import concurrent.futures
import contextlib
import datetime
import json
import logging
import os
import pathlib
import sqlite3
import tempfile
import threading
import time
import wsgiref.util

import optuna
import pytest

from lbcheck.study import ledger
from lbcheck.study import optuna_storage
from lbcheck.study import optuna_trials
from lbcheck.study import protocol
from lbcheck.study import study_command
from lbcheck.study import study_folder
from lbcheck.study import worker
from lbcheck.support import errors
from tests import programs
from tests.study import ledger_worker
from tests.study.ledger_worker import make_record
from tests.study.ledger_worker import make_study


def open_ledger(folder, study, **options):
    pathlib.Path(folder).mkdir(exist_ok=True)
    return ledger.Ledger(study_folder.storage_url(folder), study, **options)


def first_tasks(study, count=None):
    return protocol.Protocol(study).next_tasks([])[:count]


def edit(folder, statement):
    """Changes the ledger's tables by hand."""
    with contextlib.closing(
        sqlite3.connect(folder / study_folder.LEDGER)
    ) as file:
        file.execute(statement)
        file.commit()


def let_time_pass(folder):
    """Every heartbeat so far was an hour ago."""
    earlier = "datetime(heartbeat, '-1 hour')"
    edit(folder, f"UPDATE trial_heartbeats SET heartbeat={earlier}")


def test_tasks_come_back_as_records(tmp_path):
    study = make_study()
    shared = open_ledger(tmp_path, study)
    tasks = first_tasks(study)
    assert shared.add(tasks[::-1]) == 12
    assert shared.add(tasks) == 0  # they are there
    waiting = {"finished": 0, "diverged": 0, "running": 0, "waiting": 6}
    assert shared.counts()["lars", "broad"] == waiting
    expected = []
    for _ in range(3):
        with shared.claim("lars") as claim:
            expected.append(make_record(claim.task))
            assert claim.finish(expected[-1])
    claim = shared.claim("lars")
    assert [r["index"] for r in expected] == [0, 1, 2]
    assert [{k: r[k] for k in tasks[0]} for r in expected] == tasks[6:9]
    assert shared.records() == expected
    # Another process sees the same.
    other = open_ledger(tmp_path, study)
    assert other.records() == expected
    assert other.counts() == shared.counts()
    diverged = sum(r["status"] == "diverged" for r in expected)
    assert shared.counts()["lars", "broad"] == {
        "finished": 3 - diverged,
        "diverged": diverged,
        "running": 1,
        "waiting": 2,
    }
    claim.abandon()
    assert set(shared.counts()) == {
        (arm, stage)
        for arm in study["arms"]
        for stage in protocol.Protocol(study).sizes
    }


def test_records_of_another_storage(tmp_path):
    study = make_study()
    shared, other = open_ledger(tmp_path, study), open_ledger(tmp_path, study)
    tasks = first_tasks(study)
    shared.add(tasks[:4])
    with shared.claim() as claim:
        own = make_record(claim.task)
        claim.finish(own)
    late = shared.claim()
    done = [make_record(task) for task in tasks[:7]]
    when = datetime.datetime(2020, 2, 3)
    for book in (shared, other):  # as two workers that begin
        book.put(done, when)
    assert not late.finish(make_record(late.task))
    assert shared.records() == [own, *done[1:]]
    assert shared.ends()[:6] == [when] * 6
    assert shared.add(tasks) == 5
    diverged = sum(r["status"] == "diverged" for r in [own, *done[1:6]])
    assert shared.counts()["nesterov", "broad"] == {
        "finished": 6 - diverged,
        "diverged": diverged,
        "running": 0,
        "waiting": 0,
    }


def test_status_counts_what_is_to_be_done(tmp_path):
    study = study_folder.open_study(tmp_path, make_study())
    total = protocol.Protocol(study).total
    assert f": 0 of {total} trials" in study_command.as_text(
        study_command.status(tmp_path)
    )
    done = [make_record(task) for task in first_tasks(study, 8)]
    study_folder.export(tmp_path, study, done)
    said = study_command.as_text(study_command.status(tmp_path))
    assert f": 8 of {total} trials" in said
    rows = [line.split() for line in said.splitlines()[3:]]
    sizes = protocol.Protocol(study).sizes
    rows = [row for row in rows if row and row[1] in sizes]
    assert len(rows) == len(study["arms"]) * len(
        [stage for stage in sizes if sizes[stage]]
    )
    for arm, stage, *numbers in rows:
        assert sum(map(int, numbers)) == sizes[stage]
        ended = [r for r in done if (r["arm"], r["stage"]) == (arm, stage)]
        for state, number in zip(("finished", "diverged"), numbers):
            assert int(number) == sum(r["status"] == state for r in ended)
    (tmp_path / study_folder.TRIALS).write_text("{}\n")
    with pytest.raises(
        study_folder.StudyError, match="trials.jsonl:1: .*`arm`"
    ):
        study_command.status(tmp_path)


@pytest.mark.parametrize(
    ("changes", "to_do"),
    [
        ({}, {"broad": 0}),
        ({"feasible": True}, {"broad": 0, "replacement": 6, "confirm": 3}),
    ],
)
def test_status_of_an_arm_that_only_diverges(tmp_path, changes, to_do):
    study = make_study(**changes)
    if changes:
        study["refined_trials"] = 0
    study_folder.open_study(tmp_path, study)
    done = [make_record(task) for task in first_tasks(study)]
    for record in done:
        if record["arm"] == "lars":
            record |= {"status": "diverged", "metrics": None}
    study_folder.export(tmp_path, study, done)
    rows = study_command.status(tmp_path)["stages"]
    found = {r["stage"]: r["to_do"] for r in rows if r["arm"] == "lars"}
    assert found == to_do


def test_values_for_optuna(tmp_path):
    study = make_study(selection="training")
    shared = open_ledger(tmp_path, study)
    shared.add(first_tasks(study, 2))
    with shared.claim() as claim:
        record = make_record(claim.task, status="finished")
        record["metrics"] = {
            "training": {"accuracy": 0.25},
            "validation": {"accuracy": 0.5},
        }
        claim.finish(record)
    with shared.claim() as claim:
        claim.finish(make_record(claim.task, status="diverged", metrics=None))
    found = optuna.load_study(
        study_name="pretended/nesterov/broad",
        storage=study_folder.storage_url(tmp_path),
    )
    trials = sorted(found.trials, key=lambda t: t.user_attrs["task"]["index"])
    assert [t.state.name for t in trials] == ["COMPLETE", "PRUNED"]
    assert trials[0].value == 0.25
    assert found.direction.name == "MAXIMIZE"
    hyperparameters = dict(record["hyperparameters"])
    assert hyperparameters.pop("nesterov") is True  # not a number
    assert trials[0].params == hyperparameters
    rate = trials[0].distributions["learning_rate"]
    assert (rate.low, rate.high, rate.log) == (0.01, 10.0, True)


def test_arms_are_shared_out(tmp_path):
    study = make_study(arms=("a", "b", "c"))
    one, two = open_ledger(tmp_path, study), open_ledger(tmp_path, study)
    one.add(first_tasks(study))
    first = one.claim()
    second = two.claim()
    assert (first.task["arm"], second.task["arm"]) == ("a", "b")
    assert one.claim("a").task["arm"] == "a"
    assert two.claim("b").task["arm"] == "b"
    while one.claim("a").task["arm"] == "a":
        pass
    # Nothing was left of a; nobody is at c.
    assert one.counts()["a", "broad"]["waiting"] == 0
    assert one.counts()["c", "broad"]["running"] == 1


def test_a_task_is_claimed_once(tmp_path):
    """Two processes add and claim as fast as they can."""
    study = make_study(trials=20)
    with concurrent.futures.ProcessPoolExecutor(2, programs.PROCESSES) as pool:
        futures = [
            pool.submit(ledger_worker.claim_all, tmp_path, study, workers=2)
            for _ in range(2)
        ]
        claimed = [task for future in futures for task in future.result()]
    claimed = sorted((task["arm"], task["index"]) for task in claimed)
    assert claimed == [
        (arm, index) for arm in sorted(study["arms"]) for index in range(20)
    ]


def test_many_workers_share_many_tasks_with_little_reading(
    tmp_path, monkeypatch
):
    """Sixteen of them once spent minutes on 640 trials before the first."""
    study = make_study(trials=32)
    tasks = first_tasks(study)
    books = [open_ledger(tmp_path, study) for _ in range(8)]
    reads, takes = [], []
    read, take = ledger._not_failed, ledger.Ledger._take
    monkeypatch.setattr(
        ledger, "_not_failed", lambda place: reads.append(place) or read(place)
    )
    monkeypatch.setattr(
        ledger.Ledger,
        "_take",
        lambda book, trial: takes.append(trial) or take(book, trial),
    )
    assert books[0].add(tasks) == len(tasks) == 64
    assert len(reads) < len(tasks)
    claims, busy = [], list(books)
    while busy:
        for book in list(busy):
            if claim := book.claim():
                claims.append(claim)
            else:
                busy.remove(book)
    places = {(c.task["arm"], c.task["index"]) for c in claims}
    for claim in claims:
        claim.abandon()
    assert len(claims) == len(places) == len(tasks)
    assert len(takes) < 3 * len(tasks)  # of 8 times as many


def test_workers_that_put_the_same_tasks_leave_them_to_each_other(
    tmp_path, monkeypatch
):
    study = make_study(trials=32)
    tasks = first_tasks(study)
    shared, other = open_ledger(tmp_path, study), open_ledger(tmp_path, study)
    missing, found = ledger.Ledger._missing, []

    def as_the_other_puts(book, some):
        found.append(len(some))
        if len(found) == 2:
            other._places["lars", "broad"].add_trial(
                optuna_trials.of_task(some[0], study["arms"]["lars"]["space"])
            )
        return missing(book, some)

    monkeypatch.setattr(ledger.Ledger, "_missing", as_the_other_puts)
    lars = [task for task in tasks if task["arm"] == "lars"]
    first = shared.add(lars)
    assert 0 < first < len(lars) - 1
    monkeypatch.undo()
    assert shared.add(lars) == len(lars) - 1 - first
    assert shared.counts()["lars", "broad"]["waiting"] == len(lars)


def test_a_task_put_twice_counts_once(tmp_path):
    study = make_study()
    shared = open_ledger(tmp_path, study)
    tasks = first_tasks(study, 2)
    shared.add(tasks)
    in_optuna = optuna.load_study(
        study_name="pretended/nesterov/broad",
        storage=study_folder.storage_url(tmp_path),
    )
    in_optuna.add_trials(in_optuna.trials)  # as by another worker
    expected = []
    while claim := shared.claim():
        expected.append(make_record(claim.task))
        claim.finish(expected[-1])
    assert shared.records() == study_folder.canonical(study, expected)
    assert len(expected) == 2
    assert shared.add(tasks) == 0
    states = [trial.state.name for trial in in_optuna.trials]
    assert states.count("FAIL") == 2 and "WAITING" not in states


def test_dead_worker(tmp_path):
    """Its trial is run again; what it had finished stays."""
    study = make_study()
    dead, alive = open_ledger(tmp_path, study), open_ledger(tmp_path, study)
    tasks = first_tasks(study, 2)
    dead.add(tasks)
    with dead.claim() as claim:
        kept = make_record(claim.task)
        claim.finish(kept)
    claim = dead.claim()
    assert alive.claim() is None and alive.add(tasks) == 0
    let_time_pass(tmp_path)
    assert alive.add(tasks) == 1
    assert alive.add(tasks) == 0
    with alive.claim() as second:
        assert second.task == claim.task
        record = make_record(second.task)
        assert second.finish(record)
    assert alive.records() == [kept, record]


@pytest.mark.parametrize("late", ["before", "after"])
def test_paused_worker_comes_back(tmp_path, late):
    """Its late record is dropped, whether the other has finished or not."""
    study = make_study()
    paused, other = open_ledger(tmp_path, study), open_ledger(tmp_path, study)
    tasks = first_tasks(study, 1)
    paused.add(tasks)
    claim = paused.claim()
    let_time_pass(tmp_path)
    other.add(tasks)
    second = other.claim()
    if late == "before":
        assert not claim.finish(make_record(claim.task, seconds=1.0))
    record = make_record(second.task, seconds=2.0)
    assert second.finish(record)
    if late == "after":
        assert not claim.finish(make_record(claim.task, seconds=1.0))
    claim.abandon()  # changes nothing any more
    assert paused.records() == other.records() == [record]
    counts = other.counts()["nesterov", "broad"]
    assert counts["finished"] + counts["diverged"] == 1


def test_claim_keeps_itself_alive(tmp_path):
    study = make_study()
    shared = open_ledger(tmp_path, study, heartbeat=0.2)
    tasks = first_tasks(study, 1)
    shared.add(tasks)
    with shared.claim() as claim:
        let_time_pass(tmp_path)
        deadline = time.monotonic() + 30
        stale = True
        while stale and time.monotonic() < deadline:
            time.sleep(0.1)
            stale = shared.storage._get_stale_trial_ids(1)
        assert not stale
        assert shared.add(tasks) == 0
        assert claim.finish(make_record(claim.task))


def test_failure_gives_the_task_back(tmp_path):
    study = make_study()
    shared = open_ledger(tmp_path, study)
    tasks = first_tasks(study, 1)

    class Broken:
        def run(self, task, **_):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        worker.work(shared, protocol.Protocol(study), Broken())
    running = [counts["running"] for counts in shared.counts().values()]
    assert sum(running) == 0
    assert shared.add(tasks) == 1  # at once
    assert [shared.claim("nesterov").task["index"] for _ in range(6)]


def test_worker_runs_the_whole_study(tmp_path):
    study = make_study()
    shared = open_ledger(tmp_path, study)
    plan, seen = protocol.Protocol(study), []
    worker.work(shared, plan, ledger_worker.Trainer(), seen.append)
    assert study_folder.canonical(study, seen) == shared.records()
    assert len(seen) == plan.total == 2 * (6 + 4 + 3)
    assert plan.next_tasks(shared.records()) == []
    # Once more: nothing is left.
    worker.work(shared, plan, None, seen.append)
    assert len(seen) == plan.total


class Together(ledger_worker.Trainer):
    """Of lars four trials at once, of nesterov one."""

    def __init__(self, fails=False):
        super().__init__()
        self.batches, self._fails = [], fails

    def at_once(self, arm, most):
        return most if arm == "lars" else 1

    def run_together(self, tasks, **observation):
        if self._fails:
            raise KeyboardInterrupt
        self.batches.append((tasks, observation))
        return [self.run(task, **observation) for task in tasks]


def test_trials_at_once_are_of_one_arm_stage_and_observation(tmp_path):
    study = make_study()
    shared = open_ledger(tmp_path, study)
    plan, seen, trainer = protocol.Protocol(study), [], Together()
    worker.work(shared, plan, trainer, seen.append, batched_trials=4)
    assert study_folder.canonical(study, seen) == shared.records()
    assert len(seen) == plan.total  # each of them once
    places = [
        [(t["arm"], t["stage"], t["index"]) for t in tasks]
        for tasks, _ in trainer.batches
    ]
    # Of four and two, four, and of three those that are observed alike.
    assert places == [
        [("lars", "broad", i) for i in range(4)],
        [("lars", "broad", i) for i in (4, 5)],
        [("lars", "refined", i) for i in range(4)],
        [("lars", "confirm", 0)],
        [("lars", "confirm", i) for i in (1, 2)],
    ]
    for tasks, observation in trainer.batches:
        assert all(plan.observation(task) == observation for task in tasks)


def test_failure_gives_all_tasks_of_a_batch_back(tmp_path):
    study = make_study(("lars",))
    shared = open_ledger(tmp_path, study)
    plan = protocol.Protocol(study)
    with pytest.raises(KeyboardInterrupt):
        worker.work(shared, plan, Together(fails=True), batched_trials=4)
    running = [counts["running"] for counts in shared.counts().values()]
    assert sum(running) == 0
    assert shared.add(first_tasks(study)) == 4


def test_long_records(tmp_path):
    study = make_study(steps=40_000)
    shared = open_ledger(tmp_path, study)
    shared.add(first_tasks(study, 1))
    rates = [step / 7 for step in range(40_000)]
    schedule = {"steps": [*range(40_000)], "rates": rates, "findings": []}
    with shared.claim() as claim:
        record = make_record(claim.task, schedule=schedule)
        claim.finish(record)
    assert open_ledger(tmp_path, study).records() == [record]
    with contextlib.closing(
        sqlite3.connect(tmp_path / study_folder.LEDGER)
    ) as file:
        [[longest]] = file.execute(
            "SELECT max(length(value_json)) FROM trial_user_attributes"
        )
    assert longest < 65_535  # bytes of a MySQL text


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"index": 5}, "nesterov/broad/0: the record is of another task"),
        # What no reader of trials.jsonl accepts, or Optuna could order.
        ({"seconds": float("nan")}, "nesterov/broad/0: seconds: expected"),
        (
            {
                "status": "finished",
                "metrics": {"validation": {"accuracy": None}},
            },
            "nesterov/broad/0: a finished trial has a number .* validation",
        ),
        (
            {
                "status": "finished",
                "metrics": {"validation": {"accuracy": "0.5"}},
            },
            "nesterov/broad/0: metrics.* got `str`",
        ),
        ({"steps": 101}, "nesterov/broad/0: steps: expected .* to 100"),
        ({"examples": 5.5}, "nesterov/broad/0: examples: expected `int`"),
        (
            {"curve": [{"step": 2, "validation": {}}]},
            "nesterov/broad/0: curve: step 2 has no validation 'accuracy'",
        ),
        ({"metrics": {"\x1b": {}}}, "nesterov/broad/0: a text has control"),
    ],
)
def test_records_refused(tmp_path, changes, message):
    study = make_study()
    shared = open_ledger(tmp_path, study)
    tasks = first_tasks(study, 1)
    shared.add(tasks)
    with pytest.raises(ValueError, match=message):
        with shared.claim() as claim:
            claim.finish(make_record(claim.task, **changes))
    assert shared.records() == []
    assert shared.add(tasks) == 1


def test_optuna_is_left_as_it_was(tmp_path, capfd):
    verbosity = optuna.logging.get_verbosity()
    assert verbosity == logging.INFO
    study = make_study()
    shared = open_ledger(tmp_path, study)
    worker.work(
        shared, protocol.Protocol(study), ledger_worker.Trainer(), print
    )
    assert optuna.logging.get_verbosity() == verbosity
    assert capfd.readouterr().err == ""


def test_dashboard_opens_the_ledger(tmp_path):
    dashboard = pytest.importorskip(
        "optuna_dashboard", reason="optuna-dashboard is not installed"
    )
    study = make_study()
    shared = open_ledger(tmp_path, study)
    shared.add(first_tasks(study))
    with shared.claim() as claim:
        claim.finish(make_record(claim.task))
    shared.claim()
    application = dashboard.wsgi(shared.storage)

    def get(path, query=""):
        answered = []
        environment = {"PATH_INFO": path, "QUERY_STRING": query}
        wsgiref.util.setup_testing_defaults(environment)
        body = application(
            environment,
            lambda status, headers, *_: answered.append(status),
        )
        assert answered == ["200 OK"]
        return json.loads(b"".join(body))

    listed = get("/api/studies")["study_summaries"]
    assert {found["study_name"] for found in listed} == {
        f"pretended/{arm}/{stage}"
        for arm in study["arms"]
        for stage in protocol.Protocol(study).sizes
    }
    [ours] = [s for s in listed if s["study_name"].endswith("nesterov/broad")]
    details = get(f"/api/studies/{ours['study_id']}", "after=0")
    states = [trial["state"] for trial in details["trials"]]
    assert states.count("Waiting") == 4


@pytest.fixture
def open_folder():
    """A folder that other users reach, which pytest's own is not."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        folder.chmod(0o755)
        yield folder


@contextlib.contextmanager
def not_writable(folder):
    """Also where the tests are run by root, for whom all is writable."""
    folder.chmod(0o555)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o755)


@pytest.mark.parametrize(
    "url, message",
    [
        ("nowhere", "is not a URL: expected one such as"),
        ("sqlite://", "names no file"),
        ("sqlite:////no/such/ledger.db", "/no/such/ledger.db: .*must exist"),
        (
            "postgresql+nosuchdriver://ann:secret@host/db",
            r"postgresql\+nosuchdriver://host/db",
        ),
    ],
)
def test_unreachable_storage(url, message):
    with pytest.raises(study_folder.StudyError, match=message) as raised:
        ledger.Ledger(url, make_study())
    assert "secret" not in str(raised.value)


def test_what_others_do_in_the_ledger(tmp_path):
    """By Optuna's command line and dashboard, and by hand."""
    study = make_study()
    shared, plan = open_ledger(tmp_path, study), protocol.Protocol(study)
    shared.add(first_tasks(study))
    claims = [shared.claim("lars") for _ in range(2)]
    url, name = study_folder.storage_url(tmp_path), "pretended/lars/broad"
    theirs = optuna.load_study(study_name=name, storage=url)
    numbers = {trial._trial_id: trial.number for trial in theirs.trials}
    theirs.tell(numbers[claims[0]._id], 0.5)
    pruned = optuna.trial.TrialState.PRUNED
    theirs.tell(numbers[claims[1]._id], state=pruned)
    theirs.enqueue_trial({"learning_rate": 0.1})
    assert not any(claim.finish(make_record(claim.task)) for claim in claims)
    worker.work(shared, plan, ledger_worker.Trainer())
    theirs.ask()
    assert len(shared.records()) == plan.total
    assert not any(counts["running"] for counts in shared.counts().values())
    damaged = "value_json='\"{\"' WHERE key='record'"
    edit(tmp_path, f"UPDATE trial_user_attributes SET {damaged}")
    with pytest.raises(study_folder.StudyError, match="ledger.db: the record"):
        open_ledger(tmp_path, study).records()
    optuna.delete_study(study_name=name, storage=url)
    with pytest.raises(study_folder.StudyError, match="was deleted meanwhile"):
        shared.records()


def test_tables_of_another_optuna(tmp_path):
    study = make_study()
    open_ledger(tmp_path, study).close()
    edit(tmp_path, "UPDATE alembic_version SET version_num='v9.9.9.a'")
    with pytest.raises(study_folder.StudyError, match="ledger.db: .*optuna"):
        open_ledger(tmp_path, study)


def test_not_a_ledger(tmp_path):
    (tmp_path / study_folder.LEDGER).write_text(
        "a note of mine, and a long one"
    )
    with pytest.raises(
        study_folder.StudyError, match="ledger.db: .*not a database"
    ):
        open_ledger(tmp_path, make_study())


def test_locked_ledger(tmp_path, monkeypatch):
    monkeypatch.setattr(optuna_storage, "_PATIENCE", 0.1)
    study = make_study()
    shared = open_ledger(tmp_path, study)
    shared.patience = 0
    with contextlib.closing(
        sqlite3.connect(tmp_path / study_folder.LEDGER)
    ) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(errors.Unavailable, match="ledger.db: .*locked"):
            shared.records()
        with pytest.raises(
            study_folder.StudyError, match="ledger.db: .*locked"
        ):
            open_ledger(tmp_path, study)
    assert shared.records() == []


def test_read_only_ledger(open_folder):
    study = make_study()
    open_ledger(open_folder, study).close()
    with (
        not_writable(open_folder),
        pytest.raises(
            study_folder.StudyError, match="ledger.db: .*cannot be used"
        ),
    ):
        open_ledger(open_folder, study)


def test_ledger_of_another_study(tmp_path):
    study = make_study()
    open_ledger(tmp_path, study)
    open_ledger(tmp_path, {**study, "name": "another", "seed": 8})
    open_ledger(tmp_path, {**study, "seeds": 30, "lbcheck": "2"})
    with pytest.raises(
        study_folder.StudyError, match="ledger.db .*'pretended': seed is 7 .* 8"
    ):
        open_ledger(tmp_path, {**study, "seed": 8})


@pytest.mark.parametrize("name", ["a b", "{x}", "50%", "größe", "a#b"])
def test_names_of_folders(tmp_path, name):
    folder = tmp_path / name
    study = study_folder.open_study(folder, make_study())
    shared = open_ledger(folder, study)
    assert shared.add(first_tasks(study)) == 12
    shared.close()
    names = sorted(path.name for path in folder.iterdir())
    assert names == [study_folder.LOCK, study_folder.LEDGER, study_folder.STUDY]


def test_folder_is_made_and_found_again(tmp_path):
    folder = tmp_path / "deep" / "study"
    study = make_study()
    assert study_folder.open_study(folder, study) == study
    written = (folder / study_folder.STUDY).read_bytes()
    later = {**study, "command": ["again"], "environment": {"python": "4"}}
    assert study_folder.open_study(folder, later) == study
    assert (folder / study_folder.STUDY).read_bytes() == written
    assert study_folder.read(folder) == study


def test_margin_and_more_seeds(tmp_path):
    study = study_folder.open_study(tmp_path, make_study())
    more = study_folder.open_study(
        tmp_path, {**study, "seeds": 9, "margin": 0.1}
    )
    assert (
        more
        == study_folder.read(tmp_path)
        == {**study, "seeds": 9, "margin": 0.1, "first_margin": 0.005}
    )
    third = study_folder.open_study(tmp_path, {**study, "margin": 0.2})
    assert (third["margin"], third["first_margin"]) == (0.2, 0.005)
    back = study_folder.open_study(tmp_path, {**study, "margin": 0.005})
    assert (back["margin"], back["first_margin"]) == (0.005, 0.005)
    fewer = study_folder.open_study(tmp_path, {**study, "seeds": 2})
    assert fewer["seeds"] == 9


def test_a_parent_that_goes_on_is_the_same(tmp_path):
    """More seeds change its study.json, and perhaps what is best there."""
    best = {"lars": {"learning_rate": 0.1}}
    parent = {"name": "grid", "digest": "a" * 64, "steps": 10, "best": best}
    study = make_study(parent=parent)
    study_folder.open_study(tmp_path, study)
    later = study | {"parent": parent | {"digest": "b" * 64, "best": {}}}
    assert study_folder.open_study(tmp_path, later) == study
    with pytest.raises(study_folder.StudyError, match="parent.name is 'grid'"):
        study_folder.open_study(
            tmp_path, study | {"parent": parent | {"name": "other"}}
        )


def other_rate(study):
    arm = study["arms"]["lars"]["space"]["parameters"]["learning_rate"]
    arm["max"] = 20.0


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda s: s.update(batch_size=256), "batch_size is 512 there, 256"),
        (
            other_rate,
            "arms.lars.space.parameters.learning_rate.max is 10.0 there, 20",
        ),
        (lambda s: s["arms"].pop("lars"), "arms.lars is set only there"),
        (
            lambda s: s["facts"]["model"][0].__setitem__(1, [3, 5]),
            "facts.model.0.1.1 is 4 there, 5 here",
        ),
    ],
)
def test_folder_of_another_study(tmp_path, change, message):
    study_folder.open_study(tmp_path, make_study())
    before = (tmp_path / study_folder.STUDY).read_bytes()
    other = json.loads(json.dumps(make_study()))
    other["environment"]["python"] = "4"
    change(other)
    with pytest.raises(study_folder.StudyError, match=message) as raised:
        study_folder.open_study(tmp_path, other)
    assert str(tmp_path) in str(raised.value)
    assert "Versions differ: python 3 there, 4 here." in str(raised.value)
    assert (tmp_path / study_folder.STUDY).read_bytes() == before


def test_folder_of_other_things(tmp_path):
    with pytest.raises(ValueError, match="This study: name: .*<= 200"):
        study_folder.check_place(tmp_path, make_study(name=201 * "x"))
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(study_folder.StudyError, match="there is thesis.tex"):
        study_folder.open_study(tmp_path, make_study())
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(
        study_folder.StudyError, match="thesis.tex: .*File exists"
    ):
        study_folder.open_study(tmp_path / "thesis.tex", make_study())
    with pytest.raises(study_folder.StudyError, match="holds no study"):
        study_folder.read(tmp_path)
    (tmp_path / study_folder.STUDY).write_text("{")
    with pytest.raises(study_folder.StudyError, match="study.json: not JSON"):
        study_folder.read(tmp_path)


def test_read_only_folder(open_folder):
    with not_writable(open_folder):
        for folder in (open_folder, open_folder / "new"):
            with pytest.raises(
                study_folder.StudyError, match=f"{folder}: .*Permission denied"
            ):
                study_folder.open_study(folder, make_study())
        with pytest.raises(
            study_folder.StudyError, match="trials.jsonl: cannot"
        ):
            study_folder.export(open_folder, make_study(), [])
    assert list(open_folder.iterdir()) == []


def test_export(tmp_path):
    study = make_study()
    done = [make_record(task, seconds=1.5) for task in first_tasks(study)]
    study_folder.export(tmp_path, study, done[::-1])
    text = (tmp_path / study_folder.TRIALS).read_text()
    assert [json.loads(line) for line in text.splitlines()] == done
    first = json.loads(text.splitlines()[0])
    assert list(first) == sorted(first)
    study_folder.export(tmp_path, study, done[5:] + done[:5])
    assert (tmp_path / study_folder.TRIALS).read_text() == text
    with pytest.raises(ValueError):
        study_folder.export(
            tmp_path, study, [{**done[0], "seconds": float("inf")}]
        )
    assert [p.name for p in tmp_path.iterdir()] == [study_folder.TRIALS]


def scalars(run):
    """{tag: [value]} of a TensorBoard run, by TensorBoard's own reader."""
    from tensorboard.backend.event_processing import event_file_loader

    [file] = run.iterdir()
    found = {}
    for event in event_file_loader.EventFileLoader(str(file)).Load():
        for value in event.summary.value:
            if value.tensor.float_val:
                found.setdefault(value.tag, []).append(
                    value.tensor.float_val[0]
                )
    return found


def test_eight_processes_export_at_once(tmp_path):
    """Each run holds its own trial, and every file is whole."""
    study = make_study(trials=12)
    done = [make_record(task) for task in first_tasks(study)]
    with concurrent.futures.ProcessPoolExecutor(8, programs.PROCESSES) as pool:
        futures = [
            pool.submit(ledger_worker.export_often, tmp_path, study, done, 200)
            for _ in range(8)
        ]
        for future in futures:
            future.result()
    lines = (tmp_path / study_folder.TRIALS).read_text().splitlines()
    assert [json.loads(line) for line in lines] == done
    assert len(list((tmp_path / "tensorboard").glob("*/*/*"))) == len(done)
    for record in done:
        run = tmp_path / "tensorboard" / "{arm}/{stage}".format(**record)
        found = scalars(run / f"{record['index']:04d}")
        expected = {
            f"{part}/{name}": [pytest.approx(value, rel=1e-6)]
            for part, metrics in (record["metrics"] or {}).items()
            for name, value in metrics.items()
        }
        assert found == expected
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "tensorboard",
        study_folder.TRIALS,
    ]


def test_many_open_one_new_folder(tmp_path):
    """None sees half a study, and the largest number of seeds stays."""
    with concurrent.futures.ProcessPoolExecutor(6, programs.PROCESSES) as pool:
        for turn in range(20):
            folder = tmp_path / str(turn)
            futures = [
                pool.submit(
                    ledger_worker.open_new, folder, make_study(seeds=seeds)
                )
                for seeds in range(3, 9)
            ]
            for future in futures:
                assert isinstance(future.result(), dict), future.result()
            assert study_folder.read(folder)["seeds"] == 8


def test_a_connection_lost_within_a_transaction_may_come_back(tmp_path):
    shared = open_ledger(tmp_path, make_study())
    with (
        pytest.raises(errors.Unavailable, match="ledger.db: .*reconnect"),
        optuna_storage.errors(shared.url),
        shared.storage.engine.connect() as connection,
    ):
        connection.exec_driver_sql("SELECT 1")
        connection.invalidate()
        connection.exec_driver_sql("SELECT 1")


def test_storage_that_comes_back(tmp_path, capsys):
    """What was trained meanwhile is kept, and nobody takes it away."""
    study = make_study()
    shared = open_ledger(tmp_path, study)
    tasks = first_tasks(study, 1)
    shared.add(tasks)
    away = tmp_path / "away"
    with shared.claim() as claim:
        shared.storage.engine.dispose()
        (tmp_path / study_folder.LEDGER).rename(away)
        (tmp_path / study_folder.LEDGER).mkdir()  # which no database can be

        def back():
            time.sleep(2)
            (tmp_path / study_folder.LEDGER).rmdir()
            away.rename(tmp_path / study_folder.LEDGER)

        returning = threading.Thread(target=back)
        returning.start()
        record = make_record(claim.task)
        assert claim.finish(record)
        returning.join()
    assert shared.records() == [record]
    told = capsys.readouterr().err.splitlines()
    assert "ledger.db: the ledger cannot be used: " in told[0]
    assert told[-1].endswith("the ledger is back.")
    shared.storage.engine.dispose()
    (tmp_path / study_folder.LEDGER).rename(away)
    (tmp_path / study_folder.LEDGER).mkdir()
    shared.patience = 0.1
    with pytest.raises(errors.Unavailable, match="The same command continues"):
        shared.records()


def test_a_worker_says_for_whom_it_waits(tmp_path, capsys, monkeypatch):
    study = make_study(trials=2)
    busy, shared = open_ledger(tmp_path, study), open_ledger(tmp_path, study)
    busy.add(first_tasks(study, 1))
    claim = busy.claim()
    monkeypatch.setattr(worker, "_PAUSE", 0.05)
    monkeypatch.setattr(worker, "_QUIET", 0.1)
    monkeypatch.setattr(worker, "_UNKNOWN", 0.5)
    with pytest.raises(errors.Unavailable) as raised:
        worker.work(shared, One(study), ledger_worker.Trainer())
    claim.abandon()
    trial = f"nesterov broad 0 (since {datetime.date.today():%Y-}"
    assert f"for {trial}" in str(raised.value)
    assert capsys.readouterr().err.count(f"Waiting for {trial}") == 1


class One(protocol.Protocol):
    """A study of nothing but its first trial."""

    def next_tasks(self, records):
        return super().next_tasks(records)[:1]
