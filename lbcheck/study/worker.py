"""A worker: trains the waiting trials of a ledger until the study is done."""

import contextlib
import itertools
import sys
import time

from lbcheck.support import errors
from lbcheck.support import processes

_PAUSE = 1
"""Seconds between looks at a ledger in which all is with other workers."""
_QUIET = 60
"""Seconds of waiting after which a worker says for whom it waits."""
_LONGEST = 3600
_TIMES = 10
"""A trial that takes longer than _LONGEST seconds and than so many times the
longest one yet is waited for no more."""
_UNKNOWN = 86_400
"""The same where none is finished yet: one that diverged says little."""


def work(
    ledger, protocol, trainer, progress=lambda record: None, batched_trials=1
) -> None:
    """Runs trials until none is left, here or at another worker.

    Args:
        ledger: Shared by any number of workers.
        protocol: What the study consists of.
        trainer: Has `run(task, evaluate_at=, diagnostics_every=)`.
        progress: Called with the record of each trial that this worker
            trained, and with None about once a second while it waits for
            others.
        batched_trials: Trials of one arm and stage to train at once; for more
            than 1 the trainer has `at_once` and `run_together` as well.

    Raises:
        Unavailable: The storage is gone, or another worker's trial does not
            end. Anything that the trainer raises: the trial is then given
            back.
        StudyError: The storage cannot be used.
    """
    arm, waiting = None, _Waiting(batched_trials)
    while True:
        processes.check_interrupted()
        # The same arm as before, whose training step is already traced.
        claim = ledger.claim(prefer_arm=arm)
        if claim:
            arm = claim.task["arm"]
            with contextlib.ExitStack() as held:
                claims = [held.enter_context(claim)]
                if batched_trials > 1:
                    most = trainer.at_once(arm, batched_trials)
                    while len(claims) < most and (
                        beside := ledger.claim_beside(claim)
                    ):
                        claims.append(held.enter_context(beside))
                for claim, record in _trained(protocol, trainer, claims):
                    if claim.finish(record):
                        progress(record)
            continue
        records = ledger.records()
        tasks = protocol.next_tasks(records)
        if not tasks:
            return
        if not ledger.add(tasks):
            waiting.look(ledger.running(), records)
            progress(None)
            time.sleep(_PAUSE)


def _trained(protocol, trainer, claims):
    """Yields (claim, record); at once what is observed alike."""
    if len(claims) == 1:
        (claim,) = claims
        yield claim, trainer.run(claim.task, **_observation(protocol, claim))
        return
    alike = itertools.groupby(
        claims, lambda claim: _observation(protocol, claim)
    )
    for observation, group in alike:
        group = list(group)
        tasks = [claim.task for claim in group]
        yield from zip(group, trainer.run_together(tasks, **observation))


def _observation(protocol, claim):
    return protocol.observation(claim.task)


class _Waiting:
    """For whom a worker waits, and since when.

    Args:
        batched_trials: Trials at once, whose records have a part each of the
            seconds that all of them take.
    """

    def __init__(self, batched_trials):
        self._trials = None
        self._times = _TIMES * batched_trials

    def look(self, running, records):
        """Says after a while what is waited for, and gives up at last.

        Args:
            running: {trial: since when} of what others train.
            records: Records of all trials that are done.
        """
        now = time.monotonic()
        if running != self._trials:
            self._trials, self._since, self._told = running, now, False
        waited = now - self._since
        took = [r["seconds"] for r in records if r["status"] == "finished"]
        limit = max(_LONGEST, self._times * max(took)) if took else _UNKNOWN
        if waited > limit:
            raise errors.Unavailable(
                f"Waited {waited / 60:.0f} minutes for {self._names()}, which "
                "another worker trains without finishing. Stop that worker; "
                "the same command continues the study."
            )
        if waited > _QUIET and not self._told:
            self._told = True
            print(
                f"Waiting for {self._names()}, which another worker trains, "
                f"for {limit / 60:.0f} minutes at most.",
                file=sys.stderr,
                flush=True,
            )

    def _names(self):
        return ", ".join(
            f"{trial} (since {begun:%Y-%m-%d %H:%M:%S})"
            for trial, begun in self._trials.items()
        )
