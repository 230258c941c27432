"""`lbcheck compare`: is a layer-wise optimizer needed for this model?

    lbcheck compare --flagfile=flags/quick.flags
    lbcheck compare --workload=my_module:function --output_dir=my_study

The function returns an `lbcheck.Workload`. Every arm is searched with the
same number of trials, its best hyperparameters are run again with fresh
seeds, and the answer is the first line of the report in the output folder.
--dry_run estimates the time beforehand. The same command continues where it
was stopped; run on several machines with one --storage, it shares the work.

Exit codes: 0 finished, 2 refused, 3 every trial diverged, 69 the storage or
another worker is gone, 75 interrupted; after these two the same command
continues the study.
"""

import contextlib
import dataclasses
import os
import pathlib
import sys

from absl import app
from absl import flags

from lbcheck import report
from lbcheck.comparison import progress
from lbcheck.comparison.compare import Comparison
from lbcheck.settings import command_line
from lbcheck.study import formats
from lbcheck.study import optuna_storage
from lbcheck.study import threads
from lbcheck.study.settings import Settings
from lbcheck.support import command
from lbcheck.support import errors
from lbcheck.support import exit_codes
from lbcheck.support import processes

FLAGS = flags.FlagValues()

_OWN = "study"
"""What --join calls the study itself."""

_TEXTS = {
    "workload": (None, "module:function that returns an lbcheck.Workload."),
    "output_dir": ("lbcheck_study", "Folder of the study and its report."),
    "storage": (
        None,
        "URL of a database for several machines, such as "
        "postgresql://user@host/name; unset: a file in the output folder.",
    ),
    "metric": (
        None,
        "Metric that trials are judged by; unset: the workload's.",
    ),
    "name": (None, "Name of the study in the report; unset: the workload's."),
    "join": (
        None,
        "Only run trials of a study that another process began and reports: "
        f"{_OWN}, or search_1, search_2, .. or control, which it takes "
        "besides.",
    ),
}
_COUNTS = {
    "batch_size": (None, 1, "Examples per update; unset: the workload's."),
    "steps": (None, 1, "Updates per trial; unset: the workload's."),
    "trials": (Settings.trials, 1, "Trials of each arm's broad search."),
    "refined_trials": (
        Settings.refined_trials,
        0,
        "Further trials of each arm, in a refined search around its best one.",
    ),
    "seeds": (
        Settings.seeds,
        1,
        "Runs of each arm's best hyperparameters, each with a fresh seed.",
    ),
    "challenge_trials": (
        None,
        0,
        "Further trials that an arm may get before an answer is given that "
        "goes against its side; unset: 27 times --trials, 0: none.",
    ),
    "searches": (
        Settings.searches,
        1,
        "Independent searches of every arm; each then counts once.",
    ),
    "control_batch_size": (
        None,
        1,
        "A small batch at which the best baseline is tuned as well, with as "
        "many examples, to see what the large batch costs.",
    ),
    "seed": (
        Settings.seed,
        0,
        "Seed of the search, the initial weights and the order of the data.",
    ),
    "num_workers": (1, 1, "Worker processes on this machine."),
    "threads": (
        1,
        1,
        "Threads per process; the last bits of sums depend on their number.",
    ),
}
_REALS = {
    "margin": "Smallest difference of the metric that matters to you.",
    "target": "Value of the metric to reach; the report counts the hits.",
    "test_fraction": "Part of the validation examples that is held out: the "
    "search does not see it, and the runs are judged on it.",
}
_CHOICES = {
    "keras": (
        None,
        ["keras3", "tf_keras"],
        "Which Keras to use, if the workload's function leaves the choice.",
    ),
    "mode": (
        None,
        ["max", "min"],
        "Whether a high (max) or a low (min) metric is better.",
    ),
    "selection": (
        Settings.selection,
        formats.PARTS,
        "Data whose metric selects each arm's best trial.",
    ),
}
_SWITCHES = {
    "dry_run": (
        False,
        "Time a few updates, print how long the study would take, and stop.",
    ),
    "progress": (True, "Show a progress bar."),
}
_OF_THE_CALL = ("dry_run", "format", "join", "num_workers", "progress")

command.define_format(FLAGS)
for _name, (_default, _text) in _TEXTS.items():
    flags.DEFINE_string(_name, _default, _text, flag_values=FLAGS)
for _name, (_default, _least, _text) in _COUNTS.items():
    flags.DEFINE_integer(
        _name, _default, _text, lower_bound=_least, flag_values=FLAGS
    )
for _name, _text in _REALS.items():
    flags.DEFINE_float(_name, None, _text, flag_values=FLAGS)
for _name, (_default, _values, _text) in _CHOICES.items():
    flags.DEFINE_enum(_name, _default, _values, _text, flag_values=FLAGS)
for _name, (_default, _text) in _SWITCHES.items():
    flags.DEFINE_bool(_name, _default, _text, flag_values=FLAGS)
flags.DEFINE_list(
    "arms",
    ["nesterov", "lars", "adamw", "lamb"],
    "Arms by name, JSON files of arms, or module:attribute of lbcheck.Arms.",
    flag_values=FLAGS,
)
flags.DEFINE_list(
    "challengers",
    None,
    "Names of the arms that are asked whether they are needed; unset: the "
    "layer-wise ones, or all but the baselines.",
    flag_values=FLAGS,
)
flags.DEFINE_list(
    "baselines",
    None,
    "Names of the arms that they are compared with; unset: all others.",
    flag_values=FLAGS,
)


def main(argv):
    """Does what the flags ask for; returns the exit code."""
    if argv:
        words = optuna_storage.without_credentials(argv, FLAGS.storage)
        raise app.UsageError(
            f"lbcheck compare takes flags only, received {words}."
        )
    if FLAGS.dry_run and FLAGS.format == "json":
        raise app.UsageError("--format=json: a dry run prints text only.")
    if FLAGS.workload is None:
        raise app.UsageError("--workload=module:function is needed.")
    threads.limit(FLAGS.threads)
    if FLAGS.num_workers > 1:
        # TensorFlow takes all of a GPU's memory otherwise.
        os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    try:
        with processes.interruptible(), errors.explained():
            return _run()
    except KeyboardInterrupt as error:
        return command.interrupted(*error.args)


def _given(names):
    """{name: value} of those flags that have a value."""
    values = {name: FLAGS[name].value for name in names}
    return {name: v for name, v in values.items() if v is not None}


def _run():
    from lbcheck.comparison import session as sessions

    session = _session()
    processes.check_interrupted()
    if FLAGS.dry_run:
        from lbcheck.comparison import dry_run

        print(dry_run.report(session, FLAGS.num_workers))
        return exit_codes.FINISHED
    if FLAGS.join:
        return _join(session)
    ends = [_finish(session, FLAGS.output_dir)]
    for name, companion in session.companions():
        ends.append(_finish(companion, session.folder / name, name))
        report.write(session.folder)
    comparison = Comparison(session.folder, sessions.news(ends))
    print(comparison.to_json() if FLAGS.format == "json" else comparison)
    return exit_codes.FINISHED


def _join(session):
    """Helps with the study, or with one that it takes besides."""
    processes.stop_with_parent()
    folder = pathlib.Path(FLAGS.output_dir)
    if FLAGS.join != _OWN:
        session = session.companion(FLAGS.join, folder)
        folder /= FLAGS.join
    with session.opened(folder, FLAGS.storage):
        session.work(lambda counts: None)
    return exit_codes.FINISHED


def _finish(session, folder, name=_OWN):
    """Works on a study until its report stands; when its trials ended."""
    with session.opened(folder, FLAGS.storage):
        try:
            _work(session, f"--join={name}")
        except KeyboardInterrupt as error:
            raise KeyboardInterrupt(session.interrupted()) from error
        session.publish(is_beside=name != _OWN)
        return session.ends()


def _session():
    from lbcheck.comparison import session
    from lbcheck.search import arm
    from lbcheck.trials import workload as workloads

    if FLAGS.storage:
        optuna_storage.readable(
            FLAGS.storage
        )  # refused before it is written down
    settings = Settings(
        **_given(field.name for field in dataclasses.fields(Settings))
    )
    arms = [arm.load(text) for text in FLAGS.arms]
    sizes = _given(("batch_size", "steps"))
    workload = workloads.load(FLAGS.workload, **_given(("keras",)), **sizes)
    workload = workload._replace(**sizes, **_given(("metric", "mode", "name")))
    if FLAGS.test_fraction is not None:
        if workload.test is not None:
            raise app.UsageError(
                f"--test_fraction: {FLAGS.workload} has test data of its own."
            )
        workload = workload._replace(test=FLAGS.test_fraction)
    origin = {
        "name": workload.name,
        "workload": FLAGS.workload,
        "command": [
            "lbcheck",
            *optuna_storage.without_credentials(sys.argv[1:], FLAGS.storage),
        ],
        "flagfile": _flagfile(),
    }
    return session.Session(workload, arms, settings, origin)


def _flagfile():
    lines = command_line.flagfile(FLAGS, _OF_THE_CALL).splitlines()
    lines = optuna_storage.without_credentials(lines, FLAGS.storage)
    return "".join(f"{line}\n" for line in lines)


def _work(session, join):
    helpers = contextlib.nullcontext()
    if FLAGS.num_workers > 1:
        helpers = processes.Helpers(
            [sys.executable, "-m", "lbcheck.cli", *sys.argv[1:]]
            + [join, "--num_workers=1"],
            FLAGS.num_workers - 1,
        )
    bar = progress.Progress(session.protocol.total, FLAGS.progress)
    with helpers, bar:
        session.work(bar)
