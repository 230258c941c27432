"""What the verdict consists of: arms, pairs of arms, the answer."""

import dataclasses
import math
from typing import Any

from lbcheck.verdict import sentences


@dataclasses.dataclass(frozen=True)
class ArmSummary:
    """One arm's runs on one part of the data; None where there is no number.

    Attributes:
        arm: Its name.
        side: "challenger" or "baseline"; None of an arm that is not judged.
        part: "test", "validation" or "training".
        runs: Number of seeds.
        diverged: How many of them diverged; they rank below every other run.
        median: Over seeds.
        low: Low end of the median's 95 % interval (order statistics).
        high: High end.
        hits: Runs that reached the target at the end; of the part that is
            judged only, as all that follows.
        hit_rate: The same as a fraction.
        hit_low: Low end of its exact 95 % interval.
        hit_high: High end.
        steps_to_target: Median of the first step at which the target was
            seen reached; None if half of the runs never did.
        steps_low: Low end of its interval.
        steps_high: High end.
    """

    arm: str
    side: str | None
    part: str
    runs: int
    diverged: int
    median: float | None = None
    low: float | None = None
    high: float | None = None
    hits: int | None = None
    hit_rate: float | None = None
    hit_low: float | None = None
    hit_high: float | None = None
    steps_to_target: float | None = None
    steps_low: float | None = None
    steps_high: float | None = None


@dataclasses.dataclass(frozen=True)
class PairVerdict:
    """A challenger against a baseline, on one part of the data.

    Attributes:
        arm: The challenger.
        other_arm: The baseline.
        part: "test", "validation" or "training".
        runs: Seeds of the challenger.
        other_runs: Seeds of the baseline.
        margin: Differences below it do not matter; in the metric's unit.
        margin_share: The margin over what the baseline leaves to gain; None
            where a metric has no end, or nothing is left.
        answer: "needed", "not needed" or "undecided".
        relation: "challenger better", "baseline better", "equal" (the interval
            lies within the margins), "baseline not worse", "unclear", or on
            training "saturated", where no more than the margin is left.
        median_difference: Difference of medians, positive: challenger better.
        difference: Hodges and Lehmann's estimate of the same.
        low: Low end of its interval; see `difference.Shift`.
        high: High end.
        seeds_low: Low end of the interval without the choice of the examples.
        seeds_high: High end.
        example_error: The same over the test examples; None where runs do
            not say how well they did on which.
        seeds_answer: The answer without the error over the examples.
        p_superior: P-value of a difference above 0.
        p_needed: P-value of a difference above 0 and above the margin.
        p_not_needed: P-value of a difference below the margin.
        p_equivalent: P-value of a difference within the margins, the greater
            of two one-sided tests.
        improvement: Probability that a run of the challenger beats one of
            the baseline.
        improvement_low: Low end of its 95 % interval.
        improvement_high: High end.
        hits_p: Fisher's p-value of equal target hit rates; of the part that
            is judged only.
        detectable: Least true difference called needed with 80 % here; None
            where none would be.
        more_seeds: Seeds an arm to add for an 80 % chance of an answer, 0 if
            there is one; None if more than 1,000.
        failures: Runs of the challenger that diverged, or lie further
            below the pooled median than 5 interquartile ranges and 5 margins.
        other_failures: The same of the baseline.
        doubt: Why it is undecided: "seeds"; "failures", where the arm that
            the answer favours may fail in 10 % of runs more than the other;
            "ceiling", where the baseline leaves no more than the margin
            to gain; "examples", where seeds alone would decide, and the test
            examples are too few; "edge" of a control whose best values lie at
            an end of their range. None where it is decided.
    """

    arm: str
    other_arm: str
    part: str
    runs: int
    other_runs: int
    margin: float
    margin_share: float | None = None
    answer: str = "undecided"
    relation: str = "unclear"
    median_difference: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    seeds_low: float | None = None
    seeds_high: float | None = None
    example_error: float | None = None
    seeds_answer: str = "undecided"
    p_superior: float | None = None
    p_needed: float | None = None
    p_not_needed: float | None = None
    p_equivalent: float | None = None
    improvement: float | None = None
    improvement_low: float | None = None
    improvement_high: float | None = None
    hits_p: float | None = None
    detectable: float | None = None
    more_seeds: int | None = None
    failures: int = 0
    other_failures: int = 0
    doubt: str | None = None


@dataclasses.dataclass(frozen=True)
class ChallengeStep:
    """What the confirming runs say at these numbers of search trials.

    Attributes:
        challengers: Search trials of each challenger.
        baselines: Of each baseline.
        answer: "needed", "not needed" or "undecided"; None while runs are
            missing.
    """

    challengers: int
    baselines: int
    answer: str | None


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The answer and everything it rests on; `str` of it is the answer.

    Attributes:
        answer: "needed", "not needed" or "undecided", by the metric on the
            test data, or on validation where there are none; "no verdict" of
            a study with one arm.
        doubt: What an undecided answer lacks: "seeds"; "search", where other
            trials might have turned it; "edge", where a baseline that is
            beaten lies at an edge of its space; "failures", "ceiling" or
            "examples", as of a pair; "floor", where no arm is better than
            chance. None where it is decided.
        more_seeds: Seeds an arm to add for an 80 % chance of an answer; 0 if
            there is one or seeds are not what is missing, None if no number
            up to 1,000 is enough.
        sentence: The answer in one or two sentences.
        search_share: Share of searches with half of the trials whose best
            challenger is ahead by the margin; None without a search. See
            `search_luck.share`.
        search_shares: The same of searches with 1, 2, .. trials.
        challenge: The steps of the challenge, from equal numbers of trials
            on; empty where an answer is not challenged.
        times_examples: With the doubt "examples", how many times the test
            examples an answer can be expected to take; else None.
        unit: What the runs are that an arm has several of: "seed", or "search"
            where each is the mean of a search's seeds.
        control: The best baseline at a small batch, compared with itself at
            the large one; None without a control.
        training_answer: The answer by the training metric; None without one.
        pairs: Every pair on every part.
        arms: Every arm on every part.
        notes: What a reader must know to trust the answer, in sentences.
    """

    answer: str
    doubt: str | None
    more_seeds: int | None
    sentence: str
    search_share: float | None
    search_shares: tuple[float, ...]
    challenge: tuple[ChallengeStep, ...]
    times_examples: float | None
    unit: str
    control: PairVerdict | None
    training_answer: str | None
    pairs: tuple[PairVerdict, ...]
    arms: tuple[ArmSummary, ...]
    notes: tuple[str, ...]

    def __str__(self):
        return sentences.answer(
            self.answer, self.doubt, self.more_seeds, self.unit
        )

    def to_dict(self) -> dict[str, Any]:
        """The same as a dict that JSON can hold; no bound becomes None."""
        return _plain(dataclasses.asdict(self))


def _plain(value):
    """JSON-able: lists for tuples, None for numbers without bound."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
