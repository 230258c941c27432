"""Checks of what only a log can have wrong: its steps."""

from lbcheck.schedules.doctor.evidence import Case
from lbcheck.schedules.doctor.evidence import whole_ratio
from lbcheck.schedules.doctor.findings import ERROR
from lbcheck.schedules.doctor.findings import NOTE
from lbcheck.schedules.doctor.findings import Finding

_EARLY = 0.02
"""A log of this part of the run, with the schedule over, counts epochs."""


def ends_early(case: Case) -> list[Finding]:
    """A log that stops before the run does."""
    last = int(case.steps[-1]) + 1
    if case.samples.evaluate is not None or last + case.gap >= case.total:
        return []
    done = bool(case.rates[-1] <= 1e-2 * case.highest)
    epochs = done and last <= _EARLY * case.total
    return [
        Finding(
            "epochs_for_steps" if epochs else "log_incomplete",
            ERROR if epochs else NOTE,
            f"the log ends at step {last - 1:,} of {case.total:,}"
            + ", with the schedule over: it counts epochs." * epochs
            + "." * (not epochs),
            last - 1,
            100.0 * last / case.total,
            "%",
            "what the rate does after is unknown.",
            "log the rate over the whole run, by update.",
        )
    ]


def counter(case: Case) -> list[Finding]:
    """Steps of a log that go beyond the run, or that come twice."""
    found = []
    beyond = int(case.samples.steps[-1]) + 1
    if case.samples.evaluate is None and beyond > case.total:
        ratio = whole_ratio(beyond, case.total)
        cause = f": {ratio} micro-steps to an update are counted"
        found.append(
            Finding(
                "micro_steps" if ratio else "steps_beyond_total",
                ERROR,
                f"the log counts to {beyond:,}, the run has {case.total:,} "
                "updates" + (cause if ratio else "") + ".",
                case.total,
                beyond / case.total,
                "x",
                "a schedule on that counter runs ahead of the training.",
                "count updates, not micro-batches.",
            )
        )
    if case.samples.resumed:
        found.append(
            Finding(
                "resume_mismatch",
                ERROR,
                "the log holds steps twice, with different rates.",
                case.samples.resumed[0],
                float(len(case.samples.resumed)),
                "updates",
                "after the resume the run follows another schedule.",
                "save and restore the optimizer's step counter.",
            )
        )
    return found


CHECKS = (ends_early, counter)
"""Each takes a `Case` and returns its findings."""
