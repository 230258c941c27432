"""Trains or evaluates an image model; everything is a flag.

    python -m resnet.train --flagfile=flags/resnet/digits_nesterov.flags

Flags after the flagfile override it. The same command continues where a run
was stopped; --dry_run shows what would happen. Exit codes: 0 finished, 2
refused, 3 diverged, 69 another worker is lost, 75 interrupted by SIGTERM.
"""

import functools
import json

from absl import flags

from lbcheck import plan
from lbcheck import schedules
from lbcheck import training
from lbcheck.settings import command_line
from lbcheck.settings import dry_run
from lbcheck.settings import optimizer
from lbcheck.settings import schedule
from lbcheck.support import exit_codes
from resnet import losses
from resnet import settings

FLAGS = flags.FlagValues()
settings.define(FLAGS)
flags.DEFINE_enum(
    "mode",
    "train",
    ["train", "eval"],
    "Train, or print the metrics of the newest checkpoint as JSON.",
    flag_values=FLAGS,
    module_name="resnet.train",  # also where this is __main__
)
flags.DEFINE_bool(
    "dry_run",
    False,
    "Print the settings and check the data; write nothing.",
    flag_values=FLAGS,
    module_name="resnet.train",
)


def build(source, rate, keras, optimizers):
    """The workload; see `lbcheck.training.run`."""
    accuracy = keras.metrics.SparseCategoricalAccuracy(name="accuracy")
    return training.Workload(
        model=settings.model(FLAGS, keras, source),
        optimizer=optimizer.make(FLAGS, optimizers, rate),
        loss=losses.cross_entropy(keras, FLAGS.label_smoothing),
        weighted_metrics=[accuracy],
    )


def planned() -> list[plan.Run]:
    """The run that the flags describe, for `lbcheck plan`."""
    settings.check(FLAGS)
    source = settings.load_or_published(FLAGS)
    options = settings.options(FLAGS, source)
    rate = schedule.make(FLAGS, options.total_steps)
    return [
        plan.Run(
            title=f"{FLAGS.model} on {FLAGS.data}",
            options=options,
            build=functools.partial(build, source, rate),
            example=lambda size: (
                ((size, *source.image_shape), "float32"),
                ((size,), "int32"),
            ),
            assumed=tuple(getattr(source, "assumed", ())),
        )
    ]


def main():
    """Does what the flags ask for; returns the exit code."""
    settings.check(FLAGS)
    load = settings.load_or_published if FLAGS.dry_run else settings.load
    source = load(FLAGS)
    options = settings.options(FLAGS, source)
    if not FLAGS.dry_run:
        training.check_data(options, source)
    rate = schedule.make(FLAGS, options.total_steps)
    workload = functools.partial(build, source, rate)
    flagfile = command_line.flagfile(FLAGS)
    if FLAGS.dry_run:
        layout = training.plan(options, source, flagfile)
        checks = source.check()
        print(dry_run.report(flagfile, options, layout, checks, workload, rate))
        return exit_codes.FINISHED
    if FLAGS.mode == "eval":
        metrics = training.evaluate(options, workload, source, flagfile)
        print(json.dumps(metrics))
        return exit_codes.FINISHED
    resolved = command_line.values(FLAGS) | {
        "schedule": schedules.serialize(rate),
        "total_steps": options.total_steps,
    }
    return training.run(options, workload, source, flagfile, resolved)


if __name__ == "__main__":
    command_line.start(main, FLAGS, __doc__)
