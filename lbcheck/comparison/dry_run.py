"""What a study would take, before it is begun: for --dry_run.

A few updates of every arm are measured, without and with evaluation, after
the step is traced. The rest is arithmetic: search trials evaluate once,
confirming runs as often as their curves have points.
"""

import shlex
import time

from lbcheck.study import challenge
from lbcheck.study import companions
from lbcheck.support import text_table
from lbcheck.trials import trainer as trainers

_UPDATES = 20


def commands(session, folder, workers: int) -> str:
    """The first trial of every arm as a command; nothing is run.

    Args:
        session: A `Session` of a program that is not open.
        folder: Of the study.
        workers: Processes that will share the work.
    """
    first, trainer = {}, session.trainer.within(folder)
    for task in session.protocol.next_tasks([]):
        first.setdefault(task["arm"], task)
    lines = [
        f"{session.protocol.total} trials before a challenge, "
        f"{workers} at a time. The first of every arm; with --dry_run it "
        "shows its settings:"
    ]
    for arm, task in first.items():
        command = ["python", "-m", *trainer.command(task)]
        lines += ["", f"{arm}:", shlex.join(command)]
    return "\n".join(lines)


def report(session, workers: int) -> str:
    """The text of a dry run; trains a little, writes nothing.

    Args:
        session: A `Session` that is not open.
        workers: Processes that will share the work.
    """
    study, facts = session.study, session.study["facts"]
    plans = [_plan(session, name) for name in session.arms]
    hours = sum(plan["hours"] for plan in plans)
    rows = [
        [
            plan["arm"],
            str(plan["trials"]),
            str(plan["seeds"]),
            f"{plan['steps']:,}",
            f"{plan['examples']:,}",
            f"{plan['seconds']:.2g}",
            f"{plan['hours']:.2g}",
        ]
        for plan in plans
    ]
    table = text_table.text_table(
        [
            "arm",
            "search trials",
            "seeds",
            "steps",
            "examples",
            "seconds per trial",
            "hours",
        ],
        rows,
        numeric=range(1, 7),
    )
    searches = study.get("searches", 1)
    hours *= searches
    trials = searches * session.protocol.total
    total = f"{trials} trials, {hours:.2g} hours"
    if workers > 1:
        total += (
            f" for one worker; {workers} workers would take "
            f"{hours / workers:.2g} on as many machines, longer on one"
        )
    return "\n".join(
        [
            f"{study['name']}: {facts['parameters']:,} parameters, "
            f"{facts['keras']} on {facts['backend']}, "
            f"{_count(facts['num_train'])} training and "
            f"{_count(facts['num_validation'])} validation examples, "
            f"{study['steps']:,} updates of {study['batch_size']:,} examples "
            f"per trial; {study['metric']['name']} "
            f"({study['metric']['mode']}).",
            "",
            table,
            "",
            f"{total}.{_challenge(study, plans)}{_control(study)} Nothing was "
            "written.",
        ]
    )


def _control(study):
    """That a small batch is trained as well."""
    if "control_batch_size" not in study:
        return ""
    return (
        f" The control at batch {study['control_batch_size']:,} takes "
        f"{companions.control_steps(study):,} updates a trial, of one arm more."
    )


def _challenge(study, plans):
    """What a challenge can add."""
    most = challenge.most_runs(study)
    if not most:
        return ""
    seconds = max(plan["seconds"] for plan in plans)
    return (
        f" An answer is then challenged with up to {most:,} trials more, "
        f"{most * seconds / 3600:.2g} hours."
    )


def _count(number):
    return "unknown" if number is None else f"{number:,}"


def _plan(session, name):
    """What one arm takes."""
    study = session.study
    sizes = session.protocol.sizes
    searches = sizes["broad"] + sizes["refined"]
    trials = searches + study["seeds"]
    steps = trials * study["steps"]
    task = next(
        task for task in session.protocol.next_tasks([]) if task["arm"] == name
    )
    points = len(
        session.protocol.observation(task | {"stage": "confirm"})["evaluate_at"]
    )
    trace, update, evaluation = _measure(session, name, task)
    trial = study["steps"] * update + evaluation
    total = trace + trials * trial + study["seeds"] * (points - 1) * evaluation
    return {
        "arm": name,
        "trials": searches,
        "seeds": study["seeds"],
        "steps": steps,
        "examples": steps * study["batch_size"],
        "seconds": trial,
        "hours": total / 3600,
    }


def _measure(session, name, task):
    """Seconds of the first run, of an update and of an evaluation."""
    count = min(_UPDATES, session.workload.steps)
    trainer = trainers.Trainer(
        session.workload, {name: session.arms[name]}, updates=count
    )

    def seconds(**observation):
        start = time.perf_counter()
        trainer.run(task, **observation)
        return time.perf_counter() - start

    trace = seconds(evaluate_at=(1, count))
    plain = seconds(evaluate_at=(count,))
    evaluation = max(0.0, seconds(evaluate_at=(1, count)) - plain)
    update = max(0.0, plain - evaluation) / count
    return trace, update, evaluation
