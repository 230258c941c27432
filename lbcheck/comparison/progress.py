"""The progress bar of a study."""

import sys
from collections.abc import Callable


class Progress:
    """Trials done of all workers, with the time left; a context.

    Args:
        total: Trials of the whole study.
        shown: Whether to show it; it is not shown off a terminal either.
    """

    def __init__(self, total: int, shown: bool = True):
        import tqdm

        self._bar = tqdm.tqdm(
            total=total,
            unit="trial",
            file=sys.stderr,
            disable=None if shown else True,
            dynamic_ncols=True,
        )
        self._started = False

    def __call__(self, count: Callable[[], dict]) -> None:
        """Shows what is counted; off a terminal nothing is.

        Args:
            count: Gives the ledger's counts, for which all trials are read.
        """
        if self._bar.disable:
            return
        counts = count()
        done = sum(n["finished"] + n["diverged"] for n in counts.values())
        if not self._started:
            # What an earlier call did says nothing on the time left.
            self._bar.initial = done
            self._started = True
        now = [
            f"{arm} {stage}"
            for (arm, stage), n in counts.items()
            if n["running"]
        ]
        self._bar.set_postfix_str(", ".join(now), refresh=False)
        self._bar.n = done
        # A challenge adds trials.
        known = sum(sum(n.values()) for n in counts.values())
        self._bar.total = max(self._bar.total, known)
        self._bar.refresh()

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self._bar.close()
