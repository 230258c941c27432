"""Settings of a study, apart from its workload and its arms."""

import dataclasses
import math
import numbers
from collections.abc import Collection

from lbcheck.study import formats
from lbcheck.support import checks
from lbcheck.support import schema


@dataclasses.dataclass(frozen=True)
class Settings:
    """How arms are tuned and compared; every arm gets the same.

    Args:
        trials: Trials of each arm's broad search, at least 1.
        refined_trials: Further trials of each arm, in a refined search around
            the best one.
        seeds: Runs of each arm's best hyperparameters, each with a fresh
            seed, at least 1.
        search_seeds: Runs of every search trial, each with a seed of its own,
            whose median selects. With several there is no challenge.
        feasible: Whether `trials` counts those that do not diverge: each that
            does is replaced by a further point, until an arm has tried three
            times as many. There is no challenge then.
        challenge_trials: Further trials that an arm may get before an answer
            is given that goes against its side, in the challenge; None: 27
            times `trials`, which is all that it takes; 0: no challenge.
        searches: Independent searches of every arm, at least 1; with several
            each counts once, by the mean of its seeds, and none is challenged.
        control_batch_size: Batch at which the best baseline is searched and
            confirmed as well, with as many examples, to see what the large
            batch costs; None: no such control.
        margin: Smallest difference of the metric that matters to you, above 0
            and in the metric's unit.
        target: Value of the metric to reach, or None.
        selection: Part of the data whose metric selects each arm's best
            trial: "validation" or "training".
        seed: Seed of the search, the initial weights and the order of the
            data; at least 0.
        challengers: Arms that are asked whether they are needed; None: the
            layer-wise ones, or all but `baselines`.
        baselines: Arms that they are compared with; None: all others. An arm
            of neither side is searched and shown, and not judged.
        threads: Threads per worker, at least 1; None: as many as this process
            uses.
        batched_trials: Trials of one arm that a worker trains at once, at
            least 1, where memory allows; more than 1 on Keras 3 with JAX only.

    Raises:
        ValueError: A number out of range or an unknown choice.
    """

    trials: int = 20
    refined_trials: int = 0
    seeds: int = 10
    search_seeds: int = 1
    feasible: bool = False
    challenge_trials: int | None = None
    searches: int = 1
    control_batch_size: int | None = None
    margin: float | None = None
    target: float | None = None
    selection: str = "validation"
    seed: int = 0
    threads: int | None = None
    batched_trials: int = 1
    challengers: Collection[str] | None = None
    baselines: Collection[str] | None = None

    def __post_init__(self):
        for name, least, most in (
            ("trials", 1, formats.MOST_POINTS),
            ("refined_trials", 0, formats.MOST_POINTS),
            ("seeds", 1, formats.MOST_SEEDS),
            ("search_seeds", 1, formats.MOST_SEEDS),
            ("seed", 0, 2**63 - 1),
            ("threads", 1, 1024),
            ("batched_trials", 1, formats.MOST_POINTS),
            ("challenge_trials", 0, formats.MOST_POINTS),
            ("searches", 1, formats.MOST_SEEDS),
            ("control_batch_size", 1, schema.COUNT),
        ):
            value = getattr(self, name)
            if value is None and getattr(Settings, name) is None:
                continue
            is_whole = checks.is_number(value, numbers.Integral)
            if not is_whole or not least <= value <= most:
                raise ValueError(
                    f"{name} must be a whole number of at least {least} and "
                    f"at most {most:,}, received {value!r}."
                )
            object.__setattr__(self, name, int(value))  # NumPy's is no JSON
        for name in ("margin", "target"):
            value = getattr(self, name)
            if value is not None and not (
                checks.is_number(value) and math.isfinite(value)
            ):
                raise ValueError(
                    f"{name} must be a number, received {value!r}."
                )
            if value is not None:
                object.__setattr__(self, name, float(value))
        for name in ("challengers", "baselines"):
            value = getattr(self, name)
            is_list = isinstance(value, Collection) and not isinstance(
                value, str
            )
            if value is not None and not (is_list and len(value)):
                raise ValueError(
                    f"{name} must be a list of arms, received {value!r}."
                )
        if self.margin is not None and not self.margin > 0:
            raise ValueError(f"margin must be above 0, received {self.margin}.")
        if self.selection not in formats.PARTS:
            raise ValueError(
                f"selection must be one of {formats.PARTS}, received "
                f"{self.selection!r}."
            )
        self._check_together()

    @property
    def can_be_challenged(self) -> bool:
        """Whether more of its points are a search like the first."""
        return self.searches == self.search_seeds == 1 and not self.feasible

    def _check_together(self):
        """Refuses settings that exclude each other."""
        if self.searches > 1 and self.challenge_trials:
            raise ValueError(
                f"several searches, {self.searches}, are compared with each "
                "other instead of a challenge; leave out challenge_trials, or "
                f"set it to 0, received {self.challenge_trials}."
            )
        if self.search_seeds > 1 and (self.feasible or self.refined_trials):
            raise ValueError(
                "several search_seeds are of one broad search of all trials, "
                f"received search_seeds {self.search_seeds} with "
                f"{'feasible' if self.feasible else 'refined_trials'}."
            )
        if self.challenge_trials and not self.can_be_challenged:
            several = f"search_seeds {self.search_seeds}"
            raise ValueError(
                f"{'feasible' if self.feasible else several}: the search is "
                "not challenged with more trials; leave out challenge_trials, "
                f"received {self.challenge_trials}."
            )
