"""Which trials a study consists of: a pure function of study and records.

Every arm gets the same number of trials in its own broad space; if asked for,
the same number of trials in a refined space around the best of them; and its
best hyperparameters are run again with fresh seeds, the same seeds for every
arm. All search trials have one seed, thus the same initial weights and order
of the data. Where trials count only if they do not diverge, each that does is
replaced by the next point of the sequence. Nado et al. 2021, Appendix D. An
answer that follows is then challenged with more trials, see `challenge`.

Seeds are hashes of the study's seed and of what they are for: arms draw their
hyperparameters independently of one another, and studies of neighbouring seeds
have no run in common.
"""

import hashlib
import math
import statistics
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any
from typing import NamedTuple

from lbcheck.study import formats
from lbcheck.study.study_folder import STAGES

_REFINED_WIDTH = 0.3
"""Width of the refined space over the broad one: 3 decades become about 1."""
_EVALUATIONS = 20
_DIAGNOSTICS = 50
_MOST_TRIALS = 100_000
_BROAD = ("broad", "replacement")
"""Stages of the broad search; the second only where trials must be feasible."""
_SPENT = ("steps", "examples", "seconds")
_BEFORE_CHALLENGE = (*_BROAD, "refined", "confirm")


class Cut(NamedTuple):
    """Records of equal search budgets, and what was left out (or None)."""

    records: list[dict]
    note: str | None


class Protocol:
    """The trials of one study.

    Args:
        study: As in study.json.
        challenge: {arm: its (stage, index, trial) that are missing} of
            records to which nothing else is missing; see `challenge`.

    Raises:
        ValueError: An arm has fewer points than trials are asked for, or a
            grid, which has no finer points, is to be refined.

    Example:

        protocol = Protocol(study)  # four arms, 20 trials, 10 seeds
        protocol.total, len(protocol.next_tasks([]))  # 120, 80
    """

    def __init__(
        self,
        study: Mapping[str, Any],
        challenge: Callable[[list[dict]], dict[str, list]] = lambda _: {},
    ):
        self._study = study
        self._challenge = challenge
        self._sizes = {
            "broad": study["trials"] * runs_of_a_trial(study),
            "refined": study["refined_trials"],
            "confirm": study["seeds"],
        }
        for arm in study["arms"]:
            self._check(arm)
        if self.total > _MOST_TRIALS:
            raise ValueError(
                f"a study has at most {_MOST_TRIALS:,} trials of all arms "
                f"together, received {self.total:,}."
            )

    @property
    def sizes(self) -> dict[str, int]:
        """Trials of each stage that every arm gets."""
        return dict(self._sizes)

    @property
    def total(self) -> int:
        """Number of trials before a challenge if every arm can be confirmed."""
        return len(self._study["arms"]) * sum(self._sizes.values())

    def next_tasks(self, records: list[dict]) -> list[dict]:
        """Tasks that can run now and have no record yet; [] when done.

        Arms do not wait for one another: one is confirmed while another is
        still searched. The same records give the same tasks, so a task that
        another worker runs at this moment is among them.
        """
        tasks = []
        for arm, stage, missing in self._waiting(records):
            points = self._points(arm, stage, records)
            tasks += [
                self._task(arm, stage, i, points[i]) for i in missing if points
            ]
        if tasks:
            return tasks
        for arm, runs in self._challenge(records).items():
            tasks += self._challenge_tasks(records, arm, runs)
        return tasks

    def is_done(self, records: list[dict]) -> bool:
        """Whether no task is left; `next_tasks` without their points."""
        first = before_challenge(records)
        return not any(
            stage in _BROAD or best(self._study, first, arm)
            for arm, stage, _ in self._waiting(records)
        ) and not self._challenge(records)

    def _challenge_tasks(self, records, arm, runs):
        """Tasks of (stage, index, trial) of one arm."""
        numbers = [i if stage == "challenge" else n for stage, i, n in runs]
        known = [n for n in numbers if n is not None]
        points, first = [], min(known, default=0)
        if known:
            points = _space(self._study, arm).points(
                derived_seed(self._study["seed"], "points", arm),
                first,
                max(known) - first + 1,
                self._study["steps"],
            )
        for (stage, index, trial), number in zip(runs, numbers):
            if number is None:
                # Of the first best, which needs more seeds.
                earlier = before_challenge(records)
                point = best(self._study, earlier, arm)["hyperparameters"]
            else:
                point = points[number - first]
            task = self._task(arm, stage, index, point)
            yield task if trial is None else task | {"trial": trial}

    def _waiting(self, records):
        """(arm, first stage that is not whole, its missing indices)."""
        done = {
            (r["arm"], r["stage"], r["index"])
            for r in before_challenge(records)
        }
        for arm in self._study["arms"]:
            sizes = self._sizes | {
                "replacement": replacements(self._study, records, arm)
            }
            for stage in _BEFORE_CHALLENGE:
                size = sizes[stage]
                missing = [
                    i for i in range(size) if (arm, stage, i) not in done
                ]
                if missing:
                    yield arm, stage, missing
                    break

    def observation(self, task: dict) -> dict:
        """What to look at during a task: keyword arguments of `Trainer.run`.

        Confirming runs have curves, and the first of each arm diagnostics;
        search trials have curves if there is a target to reach.

        Returns:
            {"evaluate_at": steps, "diagnostics_every": steps, 0 for never};
            "test" as well where there are test data.
        """
        steps = self._study["steps"]
        confirms = task["stage"] == "confirm"
        count = min(_EVALUATIONS, steps)
        has_test = "test" in formats.parts_of(self._study)
        watched = confirms or self._study["target"] is not None
        return {
            "evaluate_at": tuple(
                steps * (i + 1) // count for i in range(count) if watched
            ),
            "diagnostics_every": max(1, steps // _DIAGNOSTICS)
            if confirms and task["index"] == 0
            else 0,
            **({"test": True} if confirms and has_test else {}),
        }

    def _points(self, arm, stage, records):
        """The stage's hyperparameters; [] if every trial before diverged."""
        steps = self._study["steps"]
        seed = derived_seed(self._study["seed"], "points", arm)
        space, size = _space(self._study, arm), self._sizes.get(stage)
        if stage == "broad":
            repeats = runs_of_a_trial(self._study)
            points = space.points(seed, 0, size // repeats, steps)
            return [point for point in points for _ in range(repeats)]
        records = before_challenge(records)
        if stage == "replacement":
            count = replacements(self._study, records, arm)
            return space.points(seed, self._sizes["broad"], count, steps)
        if stage == "refined":
            records = [r for r in records if r["stage"] in _BROAD]
        chosen = best(self._study, records, arm)
        if chosen is None:
            return []
        point = chosen["hyperparameters"]
        if stage == "confirm":
            return [point] * size
        finer = space.refined(point, _REFINED_WIDTH, steps)
        return finer.points(seed, self._sizes["broad"], size, steps)

    def _task(self, arm, stage, index, point):
        repeat = index % runs_of_a_trial(self._study) if stage == "broad" else 0
        use = ("search", *([str(repeat)] if repeat else []))
        if stage == "confirm":
            use = ("confirm", str(index))
        return {
            "arm": arm,
            "stage": stage,
            "index": index,
            "seed": derived_seed(self._study["seed"], *use),
            "hyperparameters": point,
        }

    def _check(self, arm):
        trials, points = self._study["trials"], num_points(self._study, arm)
        if points is not None and points < trials:
            raise ValueError(
                f"arm {arm!r}: its space has {points} points, fewer than the "
                f"{trials} trials that every arm gets; widen the space, or set "
                f"trials to {points}."
            )
        if points is not None and self._sizes["refined"]:
            raise ValueError(
                f"arm {arm!r}: a grid has no finer points to search; set "
                "refined_trials to 0, or search ranges instead of lists."
            )


def num_points(study: Mapping[str, Any], arm: str) -> int | None:
    """Points that an arm's space has; None without end."""
    space = _space(study, arm)
    return space.size if space.searched else 1


def replacements(
    study: Mapping[str, Any], records: list[dict], arm: str
) -> int:
    """Points that replace broad trials of an arm which diverged, so far.

    Where the study counts only trials that do not diverge; at most twice the
    trials, and what a grid has left. The same points whatever order the
    trials end in: a trial diverges wherever it runs.
    """
    most = formats.most_replacements(study)
    points = num_points(study, arm)
    if points is not None:
        most = min(most, points - study["trials"])
    diverged = sum(
        r["arm"] == arm and r["stage"] in _BROAD and r["status"] == "diverged"
        for r in records
    )
    return min(diverged, most)


def sides(study: Mapping[str, Any]) -> tuple[set[str], set[str]]:
    """(challengers, baselines) of a study.

    Unless study.json names them, layer-wise arms challenge all others.
    """
    arms = study["arms"]
    challengers = {name for name, arm in arms.items() if arm["layer_wise"]}
    if "challengers" not in study:
        return challengers, set(arms) - challengers
    return set(study["challengers"]), set(study["baselines"])


def before_challenge(records: list[dict]) -> list[dict]:
    """Records of the stages in which all arms get the same."""
    return [
        r
        for r in records
        if r["stage"] != "challenge" and r.get("trial") is None
    ]


def derived_seed(seed: int, *use: str) -> int:
    """A seed of 31 bits for one use; the same in every process.

    >>> derived_seed(0, "search") == derived_seed(0, "confirm", "0")
    False
    """
    text = "/".join((str(seed), *use))
    digest = hashlib.sha256(text.encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def score(study: Mapping[str, Any], record: dict) -> float | None:
    """The number that selects: the study's metric, None if diverged."""
    if record["status"] != "finished":
        return None
    return record["metrics"][study["selection"]][study["metric"]["name"]]


def loss(study: Mapping[str, Any], record: dict) -> float:
    """The loss of the data that select; 0.0 of a model that reports none.

    Of a run that diverged it is infinite.
    """
    if record["status"] != "finished":
        return math.inf
    found = record["metrics"][study["selection"]].get("loss")
    return 0.0 if found is None else found


def number(best: dict) -> int | None:
    """What confirming runs of a search trial have as "trial".

    None where there was no challenge yet.
    """
    return best["index"] if best["stage"] == "challenge" else None


def confirmed(
    study: Mapping[str, Any], records: list[dict], arm: str
) -> dict | None:
    """The arm's search trial whose confirming runs are among the records.

    Without such runs its best one.

    Args:
        study: As in study.json.
        records: Those that are judged, with the runs of one trial of an arm.
        arm: Its name.
    """
    numbers = {
        record.get("trial")
        for record in records
        if record["arm"] == arm and record["stage"] == "confirm"
    }
    for record in _search(records, arm):
        if record["stage"] == "challenge" and record["index"] in numbers:
            return record
    first = before_challenge(records) if numbers else records
    return best(study, first, arm)


def best(
    study: Mapping[str, Any], records: list[dict], arm: str
) -> dict | None:
    """The arm's best search trial, None if none is finished.

    Ties go to the trial with the lower loss, then to the earlier one.
    """
    found = [
        record
        for record in _search(trials(study, records), arm)
        if score(study, record) is not None
    ]
    sign = {"max": -1, "min": 1}[study["metric"]["mode"]]

    def order(record):
        return sign * score(study, record), loss(study, record)

    return min(found, key=order, default=None)


def runs_of_a_trial(study: Mapping[str, Any]) -> int:
    """Runs of every search trial, each with a seed of its own."""
    return study.get("search_seeds", 1)


def trials(study: Mapping[str, Any], records: list[dict]) -> list[dict]:
    """The records, of a search trial with several seeds one with its medians.

    It diverged if one of its runs did; its index is that of the trial, and its
    seconds are those of all runs. A trial whose runs are not all there is left
    out. What this returned stays as it is.
    """
    if runs_of_a_trial(study) == 1:
        return records
    found, runs = [], {}
    for record in records:
        if record["stage"] != "broad" or "runs" in record:
            found.append(record)
            continue
        trial = record["arm"], record["index"] // runs_of_a_trial(study)
        group = runs.setdefault(trial, [])
        group.append(record)
        if len(group) == runs_of_a_trial(study):
            found.append(_with_medians(group, trial[1]))
    return found


def _with_medians(group, index):
    diverged = [r for r in group if r["status"] != "finished"]
    one = (diverged or group)[0]
    metrics = None
    if not diverged:
        metrics = {
            part: {name: _median(group, part, name) for name in found}
            for part, found in one["metrics"].items()
        }
    sums = {key: sum(r[key] for r in group) for key in _SPENT}
    whole = {"index": index, "runs": len(group), "metrics": metrics}
    return one | sums | whole


def _median(group, part, name):
    values = [record["metrics"][part].get(name) for record in group]
    return None if None in values else statistics.median(values)


def excluded(study: Mapping[str, Any], records: list[dict]) -> dict[str, str]:
    """Arms that are not confirmed because every trial diverged: name -> why."""
    reasons = {}
    for arm in study["arms"]:
        search = _search(trials(study, before_challenge(records)), arm)
        size = study["trials"]
        size += replacements(study, records, arm)
        whole = sum(r["stage"] in _BROAD for r in search) >= size
        if whole and best(study, records, arm) is None:
            reasons[arm] = f"all {len(search)} search trials diverged"
    return reasons


def cut_to_common(study: Mapping[str, Any], records: list[dict]) -> Cut:
    """Cuts every arm to the first search trials that all arms have.

    Arms have unequal numbers of them when a study was interrupted. Confirming
    runs of a trial that is no longer its arm's best go as well. An arm all of
    whose trials diverged is not waited for.

    Returns:
        The records left, in their order, and a sentence for the report.
    """
    records = trials(study, records)
    failed = excluded(study, records)
    arms = [arm for arm in study["arms"] if arm not in failed]
    planned = [r for r in records if r["stage"] != "replacement"]
    searches = {arm: _search(planned, arm) for arm in arms}
    common = min(map(_unbroken(study), searches.values()), default=0)
    if all(len(search) == common for search in searches.values()):
        return Cut(records, None)
    kept = [r for arm in arms for r in searches[arm][:common]]
    if common >= study["trials"]:
        kept += [r for r in records if r["stage"] == "replacement"]
    points = {arm: best(study, kept, arm) for arm in arms}
    stale = set()
    for record in records:
        arm = record["arm"]
        if arm in points and record["stage"] == "confirm":
            point = points[arm] and points[arm]["hyperparameters"]
            if record["hyperparameters"] == point:
                kept.append(record)
            else:
                stale.add(arm)
        elif arm in failed:
            kept.append(record)
    numbers = ", ".join(f"{arm} {len(s)}" for arm, s in searches.items())
    note = (
        f"Unequal numbers of search trials ({numbers}): every arm is cut to "
        f"its first {common}."
    )
    if stale:
        names = ", ".join(arm for arm in arms if arm in stale)
        note += (
            f" The confirming runs of {names} used a later trial's "
            "hyperparameters and are left out."
        )
    identities = {id(record) for record in kept}
    return Cut([r for r in records if id(r) in identities], note)


def _unbroken(study):
    """A function: search trials of an arm before the first missing one."""
    order = [
        (stage, index)
        for stage, size in (
            ("broad", study["trials"]),
            ("refined", study["refined_trials"]),
        )
        for index in range(size)
    ]

    def count(search):
        there = [(record["stage"], record["index"]) for record in search]
        same = [a == b for a, b in zip(there, order)]
        return same.index(False) if False in same else len(same)

    return count


def _search(records, arm):
    """Search trials of an arm in the order in which they were chosen."""
    found = [r for r in records if r["arm"] == arm and r["stage"] != "confirm"]
    return sorted(found, key=lambda r: (STAGES.index(r["stage"]), r["index"]))


def _space(study, arm):
    from lbcheck.search import space

    return space.Space.from_dict(study["arms"][arm]["space"], f"arm {arm!r}")
