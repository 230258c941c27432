"""`lbcheck sweep`: steps to a target against the batch size, and the knee.

    lbcheck sweep --flagfile=flags/sweep_digits.flags
    lbcheck sweep --workload=my_module:function --arm=my_arm.json \
        --batch_sizes=32,64,128,256,512 --target=0.9 --examples=100000

The arm is tuned anew at every batch size, with --trials trials. A trial sees
--examples examples, and takes --least_steps updates at least; a run counts
from where it has the target for good. The arm's schedule should be constant,
or the length of the run decides when the target is reached. Beside the knee
of the curve stands the gradient-noise scale, measured along the best run of
the largest batch that reaches the target. The same command continues where it
was stopped; with another --target it trains nothing again.

Exit codes: 0 the knee lies in the sweep, 1 it does not, 2 refused, 75
interrupted; the same command continues.
"""

import json
import math
import pathlib
import sys

from absl import app
from absl import flags

from lbcheck.instruments import sweep
from lbcheck.support import command
from lbcheck.support import errors
from lbcheck.support import exit_codes
from lbcheck.support import files
from lbcheck.support import processes

FLAGS = flags.FlagValues()
RESULT = "result.json"
_MICROBATCHES = 16
_TEXTS = {
    "workload": (None, "module:function that returns an lbcheck.Workload."),
    "arm": (
        None,
        "Name of a built-in arm, JSON file of an arm, or module:attribute of "
        "an lbcheck.Arm.",
    ),
    "output_dir": ("lbcheck_sweep", "Folder with a study a batch size."),
    "metric": (None, "Validation metric; unset: the workload's."),
}
_COUNTS = {
    "examples": (None, 1, "Examples that a trial sees at least."),
    "least_steps": (20, 1, "Fewest updates of a trial, whatever its batch."),
    "trials": (20, 1, "Trials of the search at each batch size."),
    "noise_steps": (
        8,
        0,
        "Most updates at which the gradient-noise scale is measured; 0: none.",
    ),
    "seed": (0, 0, "Seed of the searches, initial weights and data order."),
    "threads": (1, 1, "Threads, on whose number the last bits depend."),
}

for _name, (_default, _text) in _TEXTS.items():
    flags.DEFINE_string(_name, _default, _text, flag_values=FLAGS)
for _name, (_count, _least, _text) in _COUNTS.items():
    flags.DEFINE_integer(
        _name, _count, _text, lower_bound=_least, flag_values=FLAGS
    )
flags.DEFINE_float(
    "target", None, "Value of the metric to reach.", flag_values=FLAGS
)
flags.DEFINE_enum(
    "mode",
    None,
    ["max", "min"],
    "Whether a high (max) or a low (min) metric is better.",
    flag_values=FLAGS,
)
flags.DEFINE_list(
    "batch_sizes",
    [],
    "Batch sizes, such as 32,64,128,256; at least three.",
    flag_values=FLAGS,
)
flags.DEFINE_list(
    "workload_arguments",
    [],
    "Arguments of the workload's function, such as image_size=32.",
    flag_values=FLAGS,
)
flags.DEFINE_bool("progress", True, "Show progress bars.", flag_values=FLAGS)
command.define_format(FLAGS)


def main(argv):
    """Does what the flags ask for; returns the exit code."""
    from lbcheck.study import threads

    if argv:
        raise app.UsageError(
            f"lbcheck sweep takes flags only, received {' '.join(argv)}."
        )
    for name in ("workload", "arm", "target", "examples"):
        if FLAGS[name].value is None:
            raise app.UsageError(f"--{name} is needed: {FLAGS[name].help}")
    sizes = _batch_sizes()
    threads.limit(FLAGS.threads)
    try:
        with processes.interruptible(), errors.explained():
            return _run(sizes)
    except KeyboardInterrupt:
        return command.interrupted()


def _batch_sizes():
    words = FLAGS.batch_sizes
    sizes = {int(word) if word.isdecimal() else 0 for word in words}
    if 0 in sizes or len(sizes) < sweep.LEAST:
        raise app.UsageError(
            f"--batch_sizes must be at least {sweep.LEAST} different whole "
            f"numbers, received {','.join(words) or 'none'}."
        )
    return sorted(sizes)


def _run(sizes):
    from lbcheck.instruments import sweep_page

    folder = pathlib.Path(FLAGS.output_dir)
    arm, workload = _loaded()
    runs, session = [], None
    # The largest first: what data or memory are too small for is met at once.
    for size in reversed(sizes):
        session = _session(workload, arm, size, folder / f"batch_{size}")
        _work(session, folder / f"batch_{size}")
        runs += _runs(session, folder / f"batch_{size}", size)
    points = sweep.best(runs)
    curve = None
    if len(sweep.usable(points)) >= sweep.LEAST:
        curve = sweep.fit(points)
    noise = _noise(workload, arm, points, folder)
    metric = session.study["metric"]["name"]
    result = sweep_page.result(
        points, curve, noise, metric, FLAGS.target, workload.batch_size
    )
    text = json.dumps(result, indent=1)
    files.write_text(folder / RESULT, text + "\n")
    paths = sweep_page.draw(result, folder)
    print(text if FLAGS.format == "json" else sweep_page.text(result))
    if FLAGS.format == "text":
        print(f"\n{paths[0]}")
    found = result["in_sweep"]
    return exit_codes.FINISHED if found else exit_codes.FINDING


def _loaded():
    from lbcheck.search import arm
    from lbcheck.trials import workload as workloads

    loaded = arm.load(FLAGS.arm)
    workload = workloads.load(FLAGS.workload, FLAGS.workload_arguments)
    given = {n: FLAGS[n].value for n in ("metric", "mode")}
    return loaded, workload._replace(
        **{name: value for name, value in given.items() if value is not None}
    )


def _session(workload, arm, size, folder):
    """The study of one batch size."""
    from lbcheck.comparison.session import Session
    from lbcheck.study.settings import Settings

    steps = max(math.ceil(FLAGS.examples / size), FLAGS.least_steps)
    origin = {
        "name": f"{workload.name}, batch {size}",
        "workload": FLAGS.workload,
        "command": ["lbcheck", *sys.argv[1:]],
        "flagfile": None,
    }
    settings = Settings(
        trials=FLAGS.trials,
        seeds=1,
        target=_target(folder),
        seed=FLAGS.seed,
        threads=FLAGS.threads,
    )
    session = Session(
        workload._replace(batch_size=size, steps=steps), [arm], settings, origin
    )
    if FLAGS.noise_steps:
        _check_noise(session)
    return session


def _check_noise(session):
    """Refuses before any trial a model whose noise cannot be measured."""
    from lbcheck.instruments import noise_scale
    from lbcheck.support import random_state

    with random_state.kept():
        model, *_ = session.trainer.fresh(FLAGS.seed)
    try:
        noise_scale.check_model(model)
    except ValueError as error:
        raise ValueError(f"{error} Or set --noise_steps=0.") from error


def _target(folder):
    """That of a study that is there already, whose trials are of any target."""
    from lbcheck.study import study_folder

    there = None
    if (folder / study_folder.STUDY).exists():
        there = study_folder.read(folder)["target"]
    return FLAGS.target if there is None else there


def _work(session, folder):
    from lbcheck.comparison import progress

    with session.opened(folder):
        with progress.Progress(session.protocol.total, FLAGS.progress) as bar:
            session.work(bar)
        session.export()


def _runs(session, folder, size):
    """What each trial of a study reached."""
    from lbcheck.study import study_folder

    metric = session.study["metric"]
    found = []
    for record in study_folder.load(folder).records:
        curve = [
            (point["step"], point["validation"][metric["name"]])
            for point in record["curve"]
        ]
        steps = None
        if record["status"] == "finished":
            steps = sweep.steps_to_target(curve, FLAGS.target, metric["mode"])
        found.append(
            sweep.Run(
                size,
                steps,
                record["hyperparameters"],
                record["seed"],
                steps is not None and steps == curve[0][0],
            )
        )
    return found


def _noise(workload, arm, points, folder):
    """The noise scale along the best run of the largest batch that has one."""
    from lbcheck.instruments import noise_scale
    from lbcheck.support import random_state
    from lbcheck.trials import user_model

    # A batch of one example has no microbatches.
    reached = [p for p in points if p.steps is not None and p.batch_size > 1]
    if not FLAGS.noise_steps or not reached:
        return None
    point = reached[-1]
    steps = math.ceil(point.steps)
    size = point.batch_size
    session = _session(workload, arm, size, folder / f"batch_{size}")
    with random_state.kept():
        model, feed, _ = session.trainer.fresh(point.seed)
        user_model.make_optimizer(
            model, arm, point.hyperparameters, session.workload.steps, 0
        )
        return noise_scale.measure(
            model,
            feed.updates(point.seed, 0, steps),
            max(1, size // _MICROBATCHES),
            math.ceil(steps / FLAGS.noise_steps),
        )
