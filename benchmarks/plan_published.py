"""Published times beside planned ones: You et al. 2019, Table 1.

    python benchmarks/plan_published.py

Both phases of each row's flagfile are planned on a slice with as many TPUv3
chips as the table says. The implied utilisation is the time that the plan gives
at the whole peak, by the time that is published.
"""

import csv
import functools
import pathlib

import common

from lbcheck import published
from lbcheck.plan import network
from lbcheck.plan import plan_command
from lbcheck.plan import planning
from lbcheck.plan import topologies
from lbcheck.support import flagfiles
from lbcheck.support import text_table

FLAGS = pathlib.Path(__file__).parents[1] / "flags/bert"
HOURS = {"h": 1.0, "m": 1 / 60}
UTILIZATION = 0.25


@functools.cache
def traced(length):
    """The network of a phase, whatever its optimizer and microbatch."""
    run = next(run for run in RUNS if length_of(run) == length)
    return network.trace(run, 8)


def length_of(run):
    """Tokens of a record."""
    return run.example(1)[0]["input_word_ids"][0][1]


RUNS = []


def planned(row):
    """The plans of both phases of a row."""
    solver = row["solver"].lower()
    name = f"lamb_{row['batch_size']}".replace("/", "_")
    path = FLAGS / f"you2019_{name if solver == 'lamb' else solver}.flags"
    small = ["--microbatch_size=8", "--phase2_microbatch_size=8"]
    pretrain = flagfiles.expanded([f"--flagfile={path}", *small])
    RUNS[:] = plan_command.described("bert.pretrain", pretrain)
    topology = topologies.find(f"v3-{int(row['tpus']) * 2}")
    return [
        planning.plan(
            run,
            topology,
            UTILIZATION,
            trace=lambda run, size: traced(length_of(run)),
        )
        for run in RUNS
    ]


def line(row):
    """A row of the table."""
    hours = sum(plan.hours for plan in planned(row))
    time = float(row["time"][:-1]) * HOURS[row["time"][-1]]
    common.tell(
        f"planned time of {row['solver']}, batch {row['batch_size']}, "
        f"{row['tpus']} chips, at a utilisation of {UTILIZATION:g}",
        hours,
        "h",
        time,
        "published",
    )
    return [
        row["solver"],
        row["batch_size"],
        row["tpus"],
        f"{time:.2f}",
        f"{hours:.2f}",
        f"{100 * hours * UTILIZATION / time:.0f} %",
    ]


def main(argv):
    """Prints the table."""
    del argv
    heads = [
        "solver",
        "batch_size",
        "chips",
        "published h",
        f"planned h at {UTILIZATION:g}",
        "implied utilisation",
    ]
    with published.path("you2019_table1").open(newline="") as file:
        rows = list(csv.DictReader(file))[: common.sized(None, 1)]
    print(text_table.text_table(heads, [*map(line, rows)], (2, 3, 4, 5)))


if __name__ == "__main__":
    common.start(main)
