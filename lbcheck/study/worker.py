"""A worker: trains the waiting trials of a ledger until the study is done."""

import time

_PAUSE = 1
"""Seconds between looks at a ledger in which all is with other workers."""


def work(ledger, protocol, trainer, progress=lambda record: None) -> None:
    """Runs trials until none is left, here or at another worker.

    Args:
        ledger: Shared by any number of workers.
        protocol: What the study consists of.
        trainer: Has `run(task, evaluate_at=, diagnostics_every=)`.
        progress: Called with the record of each trial that this worker
            trained, and with None about once a second while it waits for
            others.

    Raises:
        StudyError: The storage is gone. Anything that the trainer raises: the
            trial is then given back.
    """
    arm = None
    while True:
        # The same arm as before, whose training step is already traced.
        claim = ledger.claim(prefer_arm=arm)
        if claim:
            arm = claim.task["arm"]
            with claim:
                record = trainer.run(
                    claim.task, **protocol.observation(claim.task)
                )
                counted = claim.finish(record)
            if counted:
                progress(record)
            continue
        tasks = protocol.next_tasks(ledger.records())
        if not tasks:
            return
        if not ledger.add(tasks):
            progress(None)
            time.sleep(_PAUSE)
