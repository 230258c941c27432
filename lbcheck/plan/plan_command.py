r"""`lbcheck plan`: what a run will need, before there is a machine.

    lbcheck plan --program=resnet.train --topology=v3-128 \
        --flagfile=flags/resnet/nesterov_b.flags
    lbcheck plan --program=bert.pretrain --topology=8xH200 \
        --flagfile=flags/bert/nado2021_32k.flags --mixed_precision=bfloat16

All other flags are the program's: resnet.train, bert.pretrain, bert.squad, or
a module of your own with FLAGS and a function `planned` that returns
`lbcheck.plan.Run`s. Topologies are TPU slices v2-N to v6e-N, GPUs NxA100,
NxH100, NxH200, and cpu, this machine. No data is needed and nothing is
trained. Exit code 0: it fits; 2: it does not, or a flag is refused.
"""

import contextlib
import json
import sys

from absl import app
from absl import flags

from lbcheck.plan import page
from lbcheck.plan import planning
from lbcheck.plan import topologies
from lbcheck.plan.run import Run
from lbcheck.support import command
from lbcheck.support import exit_codes
from lbcheck.support import flagfiles
from lbcheck.support import schema
from lbcheck.support.load_object import load

FLAGS = flags.FlagValues()
flags.DEFINE_string(
    "program",
    None,
    "Module of the program: resnet.train, bert.pretrain, bert.squad, or yours.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "topology",
    None,
    f"Where it is to run, one of {', '.join(topologies.KNOWN)}.",
    flag_values=FLAGS,
)
flags.DEFINE_float(
    "utilization",
    0.25,
    "Part of the peak FLOP/s that is reached, in (0, 1]; You et al. 2019 "
    "reached 0.21 to 0.28 on TPUv3 with BERT-Large (docs/plan.md).",
    lower_bound=0.001,
    upper_bound=1.0,
    flag_values=FLAGS,
)
flags.DEFINE_float(
    "price_per_chip_hour",
    None,
    "Dollars for a chip (TPU), a GPU or this machine for an hour, >= 0.",
    lower_bound=0.0,
    upper_bound=1e6,
    flag_values=FLAGS,
)
command.define_format(FLAGS)


def parse(argv: list[str]) -> flagfiles.Arguments:
    """Parses the command's own flags; returns those of the program.

    Raises:
        flags.Error, app.UsageError: As of `command.parse`.
    """
    own, others = [], []
    rest = flagfiles.expanded(argv[1:])
    while rest:
        argument, where = rest.pop(0)
        name, equals, _ = argument.partition("=")
        mine = name.startswith("-") and name.lstrip("-") in FLAGS
        (own if mine else others).append((argument, where))
        if mine and not equals and rest:
            own.append(rest.pop(0))
    command.parse_expanded(FLAGS, argv[0], own)
    return others


def main(argv):
    """Prints the plan; 2 where it does not fit."""
    for name in ("program", "topology"):
        if FLAGS[name].value is None:
            raise app.UsageError(f"--{name} is needed.")
    with contextlib.redirect_stdout(sys.stderr):
        topology = topologies.find(FLAGS.topology)
        runs = described(FLAGS.program, argv)
        plans = [
            planning.plan(
                run, topology, FLAGS.utilization, FLAGS.price_per_chip_hour
            )
            for run in runs
        ]
    if FLAGS.format == "json":
        print(json.dumps(as_json(plans, topology), indent=2))
    else:
        print(page.text(plans, topology, FLAGS.program))
    refused = [p for p in plans if p.verdict == planning.TOO_LARGE]
    for plan in refused:
        print(f"lbcheck plan: {page.refusal(plan, topology)}", file=sys.stderr)
    return exit_codes.REFUSED if refused else exit_codes.FINISHED


def described(program: str, arguments: flagfiles.Arguments) -> list:
    """The runs that a program says its flags describe.

    Args:
        program: Name of its module.
        arguments: Its command line, without the program, flagfiles read.

    Raises:
        app.UsageError, ValueError: There is no such program, it cannot be
            planned, or it refuses its flags.
    """
    flag_values = load(f"{program}:FLAGS")
    planned = load(f"{program}:planned")
    _check_is_program(flag_values, planned, program)
    rest = command.parse_expanded(flag_values, program, arguments)
    if rest:
        raise app.UsageError(
            f"Arguments must be flags such as --seed=1, received {rest}."
        )
    found = planned()
    runs = [*found] if isinstance(found, (list, tuple)) else []
    if not runs or not all(isinstance(run, Run) for run in runs):
        raise app.UsageError(
            f"--program={program}: `planned` must return a list of "
            f"lbcheck.plan.Run, received {schema.shown(found)}."
        )
    return [*runs]


def _check_is_program(flag_values, planned, program):
    if not isinstance(flag_values, flags.FlagValues) or not callable(planned):
        raise app.UsageError(
            f"--program={program}: expected a module with FLAGS, an "
            "absl.flags.FlagValues, and a function `planned`."
        )


def as_json(plans, topology) -> dict:
    """A plan as data."""
    return {
        "topology": topology._asdict()
        | {"peak": {k or "float32": v for k, v in topology.peak.items()}},
        "runs": [
            plan._asdict()
            | {
                "memory": plan.memory._asdict()
                | {"most": plan.memory.most, "least": plan.memory.least},
                "total_flops": plan.total_flops,
            }
            for plan in plans
        ],
        "hours": sum(plan.hours for plan in plans),
        "dollars": None
        if plans[0].dollars is None
        else sum(plan.dollars for plan in plans),
    }
