"""A worker: trains the waiting trials of a ledger until the study is done."""


def work(ledger, protocol, trainer, progress=None) -> None:
    """Runs trials until none is left, here or at another worker.

    Args:
        ledger: Shared by any number of workers.
        protocol: What the study consists of.
        trainer: Has `run(task, evaluate_at=, diagnostics_every=)`.
        progress: Called with the record of each trial that this worker
            trained, and with None about once a second while it waits for
            others.
    """
    raise NotImplementedError
