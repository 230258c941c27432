"""`lbcheck compare`: is a layer-wise optimizer needed for this model?

    lbcheck compare --flagfile=flags/quick.flags
    lbcheck compare --workload=my_module:function --output_dir=my_study

    lbcheck compare --program=resnet.train --arms=lars.flags,nesterov.json

The function returns an `lbcheck.Workload`. With --program each trial is a run
of that program: an arm is a flagfile of it, or a JSON file with a search space
over its flags, and flags that this command does not have are the program's, on
the command line and in flagfiles. Every arm is searched with the
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
from lbcheck.programs import command_lines
from lbcheck.programs import pod
from lbcheck.settings import command_line
from lbcheck.study import formats
from lbcheck.study import optuna_storage
from lbcheck.study import study_folder
from lbcheck.study import threads
from lbcheck.study.settings import Settings
from lbcheck.support import command
from lbcheck.support import errors
from lbcheck.support import exit_codes
from lbcheck.support import flagfiles
from lbcheck.support import processes
from lbcheck.training import cluster

FLAGS = flags.FlagValues()

_OWN = "study"
"""What --join calls the study itself."""

_TEXTS = {
    "workload": (None, "module:function that returns an lbcheck.Workload."),
    "program": (
        None,
        "Program that every trial is a run of, such as resnet.train, "
        "bert.pretrain or bert.squad; in place of --workload.",
    ),
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
    "parent": (
        None,
        "Folder of a finished study that this one follows; its digest and "
        "what was best there are recorded.",
    ),
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
    "search_seeds": (
        Settings.search_seeds,
        1,
        "Runs of every search trial, whose median selects; with several, no "
        "challenge.",
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
    "batched_trials": (
        Settings.batched_trials,
        1,
        "Trials of one arm that a worker trains at once, on Keras 3 with JAX; "
        "fewer where memory is short.",
    ),
    "threads": (
        None,
        1,
        "Threads per process, on whose number the last bits of sums depend; "
        "unset: 1, and as many as it takes for a program.",
    ),
}
_REALS = {
    "refine": "With --parent: search around what was best there, in spaces "
    "this many times as wide, between 0 and 1.",
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
    "feasible": (
        Settings.feasible,
        "Count only trials that do not diverge: a further point replaces each "
        "that does.",
    ),
    "dry_run": (
        False,
        "Time a few updates, print how long the study would take, and stop.",
    ),
    "progress": (True, "Show a progress bar."),
}
_OF_THE_CALL = (
    "batched_trials",
    "dry_run",
    "format",
    "join",
    "num_workers",
    "progress",
)

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
    "workload_arguments",
    [],
    "Arguments of the workload's function, such as image_size=32.",
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


def parse(argv):
    """Parses a command line; the flags of the program, if there is one.

    Raises:
        flags.Error, app.UsageError: As of `command.parse`.
    """
    expanded = flagfiles.expanded(argv[1:])
    names = {argument.lstrip("-").split("=")[0] for argument, _ in expanded}
    if "program" not in names:
        return command.parse(FLAGS, argv)
    given = command_lines.split(expanded, set(FLAGS))
    rest = command.parse(FLAGS, [argv[0], *given.own])
    return given._replace(own=rest)


def main(argv):
    """Does what the flags ask for; returns the exit code."""
    given = argv if FLAGS.program else command_lines.Given(argv, {}, {})
    if given.own:
        words = optuna_storage.without_credentials(given.own, FLAGS.storage)
        raise app.UsageError(
            f"lbcheck compare takes flags only, received {words}."
        )
    if FLAGS.dry_run and FLAGS.format == "json":
        raise app.UsageError("--format=json: a dry run prints text only.")
    if (FLAGS.workload is None) == (FLAGS.program is None):
        raise app.UsageError(
            "--workload=module:function or --program=module is needed, "
            f"received {'both' if FLAGS.workload else 'neither'}."
        )
    if FLAGS.threads is None and FLAGS.workload:
        FLAGS.threads = 1
    if FLAGS.threads is not None:
        threads.limit(FLAGS.threads)
    if FLAGS.num_workers > 1:
        # TensorFlow takes all of a GPU's memory otherwise, JAX most of it.
        os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    try:
        with processes.interruptible(), errors.explained():
            return _run(given)
    except KeyboardInterrupt as error:
        return command.interrupted(*error.args)


def _given(names):
    """{name: value} of those flags that have a value."""
    values = {name: FLAGS[name].value for name in names}
    return {name: v for name, v in values.items() if v is not None}


def _run(given):
    from lbcheck.comparison import session as sessions

    folder = pathlib.Path(FLAGS.output_dir)
    if FLAGS.program and pod.follows():
        pod.follow(folder)
        return exit_codes.FINISHED
    session = _program(given) if FLAGS.program else in_process()
    processes.check_interrupted()
    if FLAGS.dry_run:
        from lbcheck.comparison import dry_run

        if FLAGS.program:
            print(dry_run.commands(session, folder, FLAGS.num_workers))
        else:
            print(dry_run.report(session, FLAGS.num_workers))
        return exit_codes.FINISHED
    if FLAGS.join:
        return _join(session)
    ends = [_finish(session, FLAGS.output_dir)]
    for name, companion in session.companions():
        ends.append(_finish(companion, session.folder / name, name))
        report.write(session.folder)
    if FLAGS.program:
        pod.announce(folder, None)
    comparison = Comparison(session.folder, sessions.news(ends))
    print(comparison.to_json() if FLAGS.format == "json" else comparison)
    return exit_codes.FINISHED


def _join(session):
    """Helps with the study, or with one that it takes besides."""
    folder = pathlib.Path(FLAGS.output_dir)
    if not FLAGS.storage:
        study_folder.read(folder)  # refused where no other process began it
    if FLAGS.join != _OWN:
        session = session.companion(FLAGS.join, folder)
        folder /= FLAGS.join
    processes.stop_with_parent()
    with session.opened(folder, FLAGS.storage):
        session.work(lambda count: None)
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


def _settings():
    if FLAGS.storage:
        optuna_storage.readable(
            FLAGS.storage
        )  # refused before it is written down
    return Settings(
        **_given(field.name for field in dataclasses.fields(Settings))
    )


def _following(arms):
    """The arms, around what was best in the study before if asked for."""
    if FLAGS.refine is None:
        return arms
    if FLAGS.parent is None:
        raise app.UsageError("--refine needs --parent, the study to refine.")
    from lbcheck.comparison import lineage

    return [
        arm.with_space(lineage.refined(FLAGS.parent, arm.name, FLAGS.refine))
        for arm in arms
    ]


def _program(given):
    from lbcheck.comparison import session
    from lbcheck.programs import program
    from lbcheck.programs import program_arm

    for name in ("steps", "test_fraction", "control_batch_size"):
        if FLAGS[name].value is not None:
            raise app.UsageError(
                f"--{name} does not apply to --program, whose flags say what "
                f"a trial is (received {FLAGS[name].value})."
            )
    for name in ("searches", "num_workers"):
        if FLAGS[name].value > 1 and cluster.read().others:
            raise app.UsageError(
                f"--{name}={FLAGS[name].value}: the hosts of TF_CONFIG run "
                "one trial at a time, of one search."
            )
    if not FLAGS["arms"].present:
        raise app.UsageError(
            "--program needs --arms: flagfiles of the program, or JSON files "
            "with a search space over its flags."
        )
    settings = _settings()
    arms = [
        program_arm.load(text, given.base, given.explicit)
        for text in FLAGS.arms
    ]
    arms = _following(arms)
    made = program.make(
        FLAGS.program, arms, **_given(("name", "metric", "mode"))
    )
    lines = [*given.base.values(), *given.explicit.values()]
    origin = _origin(made.name, FLAGS.program, [f"{line}\n" for line in lines])
    return session.Session(made, arms, settings, origin)


def in_process():
    """The `Session` that the flags describe, of trials in this process."""
    from lbcheck.comparison import session
    from lbcheck.search import arm
    from lbcheck.trials import workload as workloads

    settings = _settings()
    arms = _following([arm.load(text) for text in FLAGS.arms])
    sizes = _given(("batch_size", "steps"))
    workload = workloads.load(
        FLAGS.workload, FLAGS.workload_arguments, **_given(("keras",)), **sizes
    )
    workload = workload._replace(**sizes, **_given(("metric", "mode", "name")))
    if FLAGS.test_fraction is not None:
        if workload.test is not None:
            raise app.UsageError(
                f"--test_fraction: {FLAGS.workload} has test data of its own."
            )
        workload = workload._replace(test=FLAGS.test_fraction)
    origin = _origin(workload.name, FLAGS.workload)
    return session.Session(workload, arms, settings, origin)


def _origin(name, workload, further=()):
    """Where the study comes from; `further` lines end its flagfile."""
    lines = command_line.flagfile(FLAGS, _OF_THE_CALL).splitlines()
    lines = optuna_storage.without_credentials(lines, FLAGS.storage)
    origin = {}
    if FLAGS.parent is not None:
        from lbcheck.comparison import lineage

        origin["parent"] = lineage.parent(FLAGS.parent)
    return origin | {
        "name": name,
        "workload": workload,
        "command": [
            "lbcheck",
            *optuna_storage.without_credentials(sys.argv[1:], FLAGS.storage),
        ],
        "flagfile": "".join(f"{line}\n" for line in lines) + "".join(further),
    }


def _work(session, join):
    helpers = contextlib.nullcontext()
    if FLAGS.num_workers > 1:
        helpers = processes.Helpers(
            [sys.executable, "-m", "lbcheck", *sys.argv[1:]]
            + [join, "--num_workers=1"],
            FLAGS.num_workers - 1,
        )
    bar = progress.Progress(session.protocol.total, FLAGS.progress)
    with helpers, bar:
        session.work(bar)
