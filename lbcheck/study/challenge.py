"""The challenge of an answer: more trials for the side that it says loses.

Twenty trials an arm find a good setting by luck, or miss it. So an answer that
the confirming runs give is put to the test before it is given. "Needed" says
that no setting of the baselines is as good: their arms get up to 28 times the
trials, in rounds that double, and what is then best is confirmed with the
same seeds and judged again. Where it falls, the challengers get up to 6 times
the trials to restore it, so that luck of theirs decides as little. "Not needed"
takes one good setting of a baseline, so the challengers get half as many
trials again. What a search finds best may be luck of one run: of all trials
that an arm has confirmed the best one by the median of its seeds is judged, so
that more trials make no arm worse. The sizes are the least found by
`benchmarks/verdict_errors.py`, where that last rule changes next to nothing.
"""

import math
import statistics
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

from lbcheck.study import formats
from lbcheck.study import protocol

DENIED, RESTORED, DOUBTED = 28, 6, 1.5
"""Times the trials: of baselines, of challengers that fall, of challengers."""

Answer = Callable[[Mapping[str, Any], list[dict]], str]


class Trials(NamedTuple):
    """Search trials of an arm of each side."""

    challengers: int
    baselines: int


class Step(NamedTuple):
    """What is judged at a number of trials.

    Attributes:
        trials: Search trials of an arm of each side; the broad and the
            refined search count as one.
        answer: "needed", "not needed" or "undecided"; None while runs are
            missing.
        missing: {arm: (stage, index, trial)} of these: points of the broad
            sequence, then confirming runs of trial number `trial`.
    """

    trials: Trials
    answer: str | None
    missing: dict[str, list[tuple[str, int, int | None]]]


def plan(study: Mapping[str, Any], answer: Answer) -> protocol.Protocol:
    """The protocol of a study, with the challenge of its answer.

    Args:
        study: As in study.json.
        answer: What the confirming runs of records say.
    """
    return protocol.Protocol(
        study, lambda records: course(study, records, answer)[-1].missing
    )


def most_trials(trials: int) -> int:
    """Further trials of an arm that "needed" takes."""
    return min((DENIED - 1) * trials, formats.MOST_POINTS)


def most_runs(study: Mapping[str, Any]) -> int:
    """Trials that a challenge can take beyond all others of a study.

    Every arm of the side gets its trials in every round, and a new best of
    each round is confirmed.
    """
    first, further = study["trials"], _further(study)
    if not further:
        return 0
    challengers, baselines = map(len, protocol.sides(study))

    def runs(times):
        most, now, rounds = min(int(times * first), first + further), first, 0
        while now < most:
            now, rounds = min(2 * now, most), rounds + 1
        return most - first + rounds * study["seeds"]

    return max(
        baselines * runs(DENIED) + challengers * runs(RESTORED),
        challengers * runs(DOUBTED),
    )


def course(
    study: Mapping[str, Any], records: list[dict], answer: Answer
) -> list[Step]:
    """The steps of the challenge so far, from equal numbers of trials on.

    Args:
        study: As in study.json; all its other stages are done.
        records: All of its records.
        answer: What the confirming runs of records say.

    Returns:
        At least one step; the last is the one that counts, and has no answer
        while runs are missing.
    """
    first = study["trials"]
    steps, trials = [], Trials(first, first)
    while trials is not None:
        missing = _missing(study, records, trials)
        found = None
        path = [*(step.trials for step in steps), trials]
        if not missing:
            found = answer(study, at(study, records, path))
        steps.append(Step(trials, found, missing))
        trials = _next(steps, first, _further(study))
    return steps


def survived(steps: list[Step]) -> bool:
    """Whether the first answer is still given by the last step."""
    return steps[-1].answer == steps[0].answer


def at(study, records: list[dict], path: Sequence[Trials]) -> list[dict]:
    """The records of a study at the last of these steps.

    Args:
        study: As in study.json.
        records: All of its records.
        path: Trials of the steps up to it, each with all of its runs.
    """
    kept = []
    for arm in study["arms"]:
        own = [r for r in records if r["arm"] == arm]
        numbers = set()
        for trials in path:
            search = _search(study, own, arm, trials)
            best = protocol.best(study, search, arm)
            numbers |= {None if best is None else protocol.number(best)}
        kept += search + _judged(study, own, numbers)
    return kept


def _judged(study, own, numbers):
    """The confirming runs that count, of those of several trials of an arm.

    Those of the best trial by the metric that selects, the median over its
    seeds; of equals the one of lower loss, then the earlier.
    """
    sign = {"max": -1, "min": 1}[study["metric"]["mode"]]

    def order(number):
        scores = [protocol.score(study, record) for record in runs[number]]
        costs = [math.inf if s is None else sign * s for s in scores]
        losses = [protocol.loss(study, record) for record in runs[number]]
        earlier = -1 if number is None else number
        return statistics.median(costs), statistics.median(losses), earlier

    runs: dict[int | None, list[dict]] = {}
    for record in own:
        if record["stage"] == "confirm" and record.get("trial") in numbers:
            runs.setdefault(record.get("trial"), []).append(record)
    return runs[min(runs, key=order)] if runs else []


def _further(study):
    """Further trials of an arm; several searches challenge each other."""
    if study.get("searches", 1) > 1:
        return 0
    return study.get("challenge_trials", 0)


def _next(steps, first, further):
    """The trials to judge next; None where the challenge ends."""
    start, last = steps[0].answer, steps[-1]
    challengers, baselines = last.trials
    most = {
        "needed": min(DENIED * first, first + further),
        "restored": min(RESTORED * first, first + further),
        "not needed": min(int(DOUBTED * first), first + further),
    }
    if last.answer is None or start == "undecided":
        return None
    if start == "not needed":
        more = most["not needed"] if last.answer == start else challengers
        return Trials(more, baselines) if more > challengers else None
    if last.answer == "needed":
        more = min(2 * baselines, most["needed"])
        return Trials(challengers, more) if more > baselines else None
    more = min(2 * challengers, most["restored"])
    return Trials(more, baselines) if more > challengers else None


def _missing(study, records, trials):
    """Runs without which these numbers of trials cannot be judged."""
    missing = {}
    for arm in study["arms"]:
        own = [r for r in records if r["arm"] == arm]
        done = {r["index"] for r in own if r["stage"] == "challenge"}
        points = range(study["trials"], _trials(study, arm, trials))
        lacking = [("challenge", i, None) for i in points if i not in done]
        search = _search(study, own, arm, trials)
        best = protocol.best(study, search, arm)
        if not lacking and best is not None:
            number = protocol.number(best)
            done = {
                r["index"]
                for r in own
                if r["stage"] == "confirm" and r.get("trial") == number
            }
            lacking = [
                ("confirm", i, number)
                for i in range(study["seeds"])
                if i not in done
            ]
        if lacking:
            missing[arm] = lacking
    return missing


def _search(study, own, arm, trials):
    most = _trials(study, arm, trials)
    return [
        r
        for r in own
        if r["stage"] != "confirm"
        and (r["stage"] != "challenge" or r["index"] < most)
    ]


def _trials(study, arm, trials):
    """Points of its broad sequence that an arm has; a grid may have fewer."""
    challengers, baselines = protocol.sides(study)
    count = study["trials"]
    if arm in challengers:
        count = trials.challengers
    elif arm in baselines:
        count = trials.baselines
    points = protocol.num_points(study, arm)
    return count if points is None else min(count, points)
