"""The verdict: is a challenger needed, at these seeds and this budget?

Every challenger is compared with every baseline: on the test data, or where
there are none on validation, which decides, and on training. Differences are
challenger minus baseline, positive where the challenger is better. From the
interval of a difference:

    needed      the interval is above 0, and ranks and means agree, with an
                error of 5 % each, that the difference is above the margin
    not needed  the interval is below the margin
    undecided   neither, or an arm has fewer than 6 seeds

Nor is there an answer where the arm that it favours fails in more seeds than
the other, unless the bound of the difference is below 10 %; where the baseline
leaves no more than the margin to gain; where no arm is better than chance; or
where a baseline that is beaten lies at an edge of its space. The intervals hold
the choice of the test examples, where runs say how well they did on which.

The answer over all pairs: "needed" if one challenger is needed against
every baseline, "not needed" if no challenger is needed against one
baseline. In a study, the answer must hold while the arms that it goes against
get more trials, see `challenge`, and sub-searches, which draw half of the
trials, must agree, see `search_luck`. Several searches are judged by their
results.

A pair is wrong with a probability of about 1 % where the arms differ by a
shift, so the best of up to five arms a side is wrong in at most 5 %; with more
arms the intervals widen accordingly. At 20 seeds a true difference of twice
the margin is found in more than 55 % while the standard deviation over seeds
is at most 1.5 margins, one of 0.9 margins in at most 5 %. What a whole study
errs is in docs/statistics.md.
"""

import dataclasses
import math
import numbers
import types
from collections.abc import Collection
from collections.abc import Mapping
from collections.abc import Set
from typing import Any
from typing import NamedTuple

import numpy as np

from lbcheck.study import challenge
from lbcheck.study import companions
from lbcheck.study import protocol
from lbcheck.study.formats import PARTS
from lbcheck.study.formats import parts_of
from lbcheck.study.study_folder import Folder
from lbcheck.support import checks
from lbcheck.support import schema
from lbcheck.verdict import decision
from lbcheck.verdict import difference
from lbcheck.verdict import parts
from lbcheck.verdict import sentences
from lbcheck.verdict import several
from lbcheck.verdict import statistics
from lbcheck.verdict.decision import Runs
from lbcheck.verdict.results import ArmSummary
from lbcheck.verdict.results import ChallengeStep
from lbcheck.verdict.results import PairVerdict
from lbcheck.verdict.results import Verdict

NO_VERDICT = "no verdict"
_OF_THE_SPACE = ("broad", "replacement", "challenge")


def decide(
    study: Mapping[str, Any],
    records: list[dict],
    beside: Mapping[str, Folder] = types.MappingProxyType({}),
) -> Verdict:
    """The verdict of a study, from its records alone.

    Search budgets that differ are cut to what all arms have, and a note says
    so; confirming runs of a trial that is then no longer the best do not
    count. An arm all of whose trials diverged is left out, with a note. A
    study of one arm has the answer "no verdict".

    Args:
        study: The content of study.json.
        records: Trial records; the last stage, "confirm", is judged.
        beside: Its further searches and its control; those that are not done
            do not count.

    Raises:
        ValueError: A record without the study's metric, or a margin that is
            not positive.
    """
    if companions.searches(study):
        decided = _of_searches(study, records, beside)
    else:
        decided = _of_one(study, records)
    if len(study["arms"]) == 1:
        decided = dataclasses.replace(
            decided,
            answer=NO_VERDICT,
            doubt=None,
            more_seeds=0,
            sentence=sentences.alone(
                next(iter(study["arms"])),
                decided.arms,
                study["metric"]["name"],
                decided.unit,
            ),
        )
    if companions.CONTROL in several.done(study, beside):
        return _with_control(decided, study, records, beside)
    return decided


def _with_control(decided, study, records, beside):
    """The verdict with what the large batch costs, at equal trials."""
    control = beside[companions.CONTROL]
    large, small = (
        protocol.cut_to_common(one, protocol.before_challenge(own)).records
        for one, own in ((study, records), control[:2])
    )
    pair = several.control(
        study,
        _confirmed(study, large)[0],
        _confirmed(control.study, small)[0],
        [_groups(large), _groups(small)],
    )
    if pair is None:
        return decided
    ((arm, found),) = _edges(control.study, small).items()
    edges = [edge.name for edge in found if edge.is_likely]
    if edges and pair.answer != "needed":
        pair = dataclasses.replace(pair, answer="undecided", doubt="edge")
    text = sentences.control(
        pair,
        arm,
        control.study["batch_size"],
        study["batch_size"],
        study["metric"]["name"],
        edges,
    )
    return dataclasses.replace(
        decided, control=pair, sentence=f"{decided.sentence} {text}"
    )


def leading(
    study: Mapping[str, Any],
    records: list[dict],
    beside: Mapping[str, Folder] = types.MappingProxyType({}),
) -> str:
    """The arm that a control tunes: the best baseline, or the only arm."""
    return several.leading(study, decide(study, records, beside).arms)


def search_means(
    study: Mapping[str, Any],
    records: list[dict],
    beside: Mapping[str, Folder],
) -> dict[str, dict[str, list[float | None]]]:
    """{part: {arm: its result in each search that is done}}."""
    found = several.searches(study, records, beside)
    confirmed = [_confirmed(s, judged(s, r).records)[0] for s, r in found]
    return {
        part: {
            arm: several.means(confirmed, part, arm) for arm in study["arms"]
        }
        for part in parts_of(study)
    }


def _of_searches(study, records, beside):
    """The verdict on several searches, each of which counts once."""
    metric, values = study["metric"], search_means(study, records, beside)
    found = several.searches(study, records, beside)
    distinct = [_distinct(s, judged(s, r).records) for s, r in found]
    kept = [records for records, _ in distinct]
    groups = several.mean_groups([_groups(own) for own in kept])
    edges = several.common_edges(
        [_edges(one, own) for (one, _), own in zip(found, kept)]
    )
    notes = [sentences.searches(len(found), study["trials"], study["seeds"])]
    notes += [
        sentences.common_edge(arm, name, count, len(found))
        for arm, own in edges.items()
        for name, count in own.items()
    ]
    notes += _margin_changed(study)
    notes += distinct[0][1]
    notes += _sampling(study, groups, values[parts_of(study)[0]])
    return decision.judge(
        values,
        *protocol.sides(study),
        metric=metric["name"],
        mode=metric["mode"],
        margin=study.get("margin"),
        target=study.get("target"),
        notes=notes,
        groups=groups,
        edges={
            arm: [f"{arm}.{name}" for name in own] for arm, own in edges.items()
        },
        unit="search",
        chance=_chance(study),
    )


def _chance(study):
    """What is reached without having learnt anything; None: unknown."""
    return study.get("facts", {}).get("chance")


def _of_one(study, records):
    """The verdict on one search, with its luck."""
    found = judged(study, records)
    kept, same_weights = _distinct(study, found.records)
    notes = [] if found.note is None else [found.note]
    first = protocol.before_challenge(kept)
    if any(r["stage"] != "confirm" for r in first):
        notes += _feasible(study, first)
        if len(study["arms"]) > 1:
            trials = _searched(study, first)
            notes.append(sentences.one_search(trials))
    edges = _edges(study, kept)
    notes += [
        sentences.edge(arm, edge) for arm, own in edges.items() for edge in own
    ]
    notes += _margin_changed(study)
    notes += same_weights
    values, left_out = _confirmed(study, kept)
    notes += [sentences.left_out(arm) for arm in left_out]
    judged_values = values[parts_of(study)[0]]
    groups = _groups(kept)
    notes += _sampling(study, groups, judged_values)
    target, metric = study.get("target"), study["metric"]
    steps = None
    if target is not None:
        steps = {
            arm: [
                _first_step(r, metric, target)
                for r in kept
                if (r["arm"], r["stage"]) == (arm, "confirm")
            ]
            for arm in judged_values
        }
    return decision.judge(
        values,
        *protocol.sides(study),
        metric=metric["name"],
        mode=metric["mode"],
        margin=study.get("margin"),
        target=target,
        steps=steps,
        notes=notes,
        searched=_scores(study, kept, judged_values),
        edges={
            arm: [f"{arm}.{edge.name}" for edge in own if edge.is_likely]
            for arm, own in edges.items()
        },
        challenge=found.steps,
        points={
            arm: number
            for arm in study["arms"]
            if (number := protocol.num_points(study, arm)) is not None
        },
        groups=groups,
        chance=_chance(study),
    )


def _margin_changed(study):
    first, now = study.get("first_margin"), study.get("margin")
    if "first_margin" not in study or first == now:
        return []
    return [sentences.margin_changed(first)]


def answer(study: Mapping[str, Any], records: list[dict]) -> str:
    """What the confirming runs of a study say, whatever luck its search had.

    It is what is challenged: a verdict may be more careful.
    """
    records, _ = _distinct(study, records)
    metric, (values, _) = study["metric"], _confirmed(study, records)
    pairs = decision.judge(
        values,
        *protocol.sides(study),
        metric=metric["name"],
        mode=metric["mode"],
        margin=study.get("margin"),
        groups=_groups(records),
    ).pairs
    return decision.overall(parts.judged(pairs))[0]


def is_finished(
    study: Mapping[str, Any], records: list[dict], beside: Mapping[str, Folder]
) -> bool:
    """Whether no trial is left to run, of the study or of those beside it."""
    own = challenge.plan(study, answer).is_done(records)
    return own and {*companions.names(study)} <= several.done(study, beside)


class Judged(NamedTuple):
    """The records that a verdict rests on, and how they were come by."""

    records: list[dict]
    note: str | None
    steps: list[ChallengeStep]


def judged(study: Mapping[str, Any], records: list[dict]) -> Judged:
    """The records of a study that its verdict rests on.

    Of equal search budgets and, after a challenge, of its last step that is
    whole.

    Args:
        study: The content of study.json.
        records: All its records.
    """
    first = protocol.before_challenge(records)
    if all(r["stage"] == "confirm" for r in first):
        return Judged(first, None, [])
    cut = protocol.cut_to_common(study, first)
    if not study.get("challenge_trials") or cut.note:
        return Judged(*cut, [])
    course = challenge.course(study, records, answer)
    whole = [step for step in course if step.answer is not None]
    if not whole:
        return Judged(*cut, [])
    steps = [ChallengeStep(*step.trials, step.answer) for step in course]
    path = [step.trials for step in whole]
    return Judged(challenge.at(study, records, path), None, steps)


def _confirmed(study, records):
    """{part: {arm: metrics of its confirming runs}}, arms that are left out."""
    confirmed = {arm: [] for arm in study["arms"]}
    failed = {arm: True for arm in study["arms"]}
    for record in records:
        failed[record["arm"]] &= record["status"] != "finished"
        if record["stage"] == "confirm":
            confirmed[record["arm"]].append(record)
    left_out = [
        arm
        for arm in confirmed
        if not confirmed[arm]
        and failed[arm]
        and any(r["arm"] == arm for r in records)
    ]
    values = {
        part: {
            arm: [_value(study, record, part) for record in runs]
            for arm, runs in confirmed.items()
            if arm not in left_out
        }
        for part in parts_of(study)
    }
    return values, left_out


def _alike(one, other):
    """Whether metrics of two runs are equal but for rounding."""
    if one is None or other is None:
        return False
    pairs = [
        (value, other[part].get(name))
        for part, metrics in one.items()
        for name, value in metrics.items()
    ]
    return all(
        None not in pair and math.isclose(*pair, rel_tol=1e-5) for pair in pairs
    )


def _distinct(study, records):
    """The records without runs that repeat another, and a note on them.

    Where seeds decide no initial weight they may decide nothing at all.
    """
    if not study.get("facts", {}).get("same_initial_weights"):
        return records, []
    runs: dict[str, list] = {}
    for record in records:
        if record["stage"] == "confirm":
            runs.setdefault(record["arm"], []).append(record)
    repeated = [
        arm
        for arm, own in runs.items()
        if len(own) > 1
        and all(_alike(r["metrics"], own[0]["metrics"]) for r in own)
    ]
    kept = [
        r
        for r in records
        if r["stage"] != "confirm"
        or r["arm"] not in repeated
        or r is runs[r["arm"]][0]
    ]
    return kept, [sentences.same_weights(repeated)]


def _groups(records):
    """{arm: metrics of its confirming runs on groups of the test examples}.

    Of those that have one of every group, as many groups as most of them.
    """
    found = {}
    for record in records:
        groups = record.get("test_groups") or [None]
        if record["stage"] == "confirm" and None not in groups:
            found.setdefault(record["arm"], []).append(groups)
    sizes = [len(groups) for runs in found.values() for groups in runs]
    usual = max(set(sizes), key=sizes.count, default=0)
    found = {
        arm: [groups for groups in runs if len(groups) == usual]
        for arm, runs in found.items()
    }
    return {arm: runs for arm, runs in found.items() if runs}


def side(study: Mapping[str, Any], arm: str) -> str | None:
    """ "challenger", "baseline", or None of an arm that is not judged."""
    challengers, baselines = protocol.sides(study)
    if arm in challengers:
        return "challenger"
    return "baseline" if arm in baselines else None


def compare_arms(
    validation: Runs | None,
    challengers: Collection[str],
    training: Runs | None = None,
    metric: str = "accuracy",
    mode: str = "max",
    margin: float | None = None,
    target: float | None = None,
    baselines: Collection[str] | None = None,
    look_every: int | None = None,
    planned_seeds: int | None = None,
    test: Runs | None = None,
    searched: Runs | None = None,
) -> Verdict:
    """The verdict on numbers that come from anywhere.

    Args:
        validation: {arm: one final validation metric per seed}; None or
            a number that is not finite stands for a run that diverged, which
            ranks below every other run. It may be None where `test` is given.
        challengers: Which arms are asked whether they are needed.
        training: The same on training data, for "regularization rather than
            optimization".
        metric: Its name, for the sentences.
        mode: "max" or "min": which values are better.
        margin: Differences below it do not matter, in the metric's unit.
            Default: 0.005 of a fraction to be maximized and 0.5 of a
            percentage, but at most a quarter of what the baseline's median
            leaves to gain; else 1 % of that median.
        target: Value to reach, for hit rates.
        baselines: What they are compared with; None: all other arms. An arm
            of neither side is only summarized.
        look_every: Seeds an arm between two looks, if the verdict is asked
            for again and again until it decides; None: one look. Needs
            `planned_seeds`.
        planned_seeds: Seeds an arm at the last look.
        test: As `validation`, on examples that nothing was selected by: these
            are judged then.
        searched: {arm: one metric per search trial}, of which another search
            might have had others: the answer then takes that sub-searches
            agree, as that of a study.

    Raises:
        TypeError: Runs that are no numbers; names the arm and the run.
        ValueError: A margin that is not positive, another mode, a look at
            arms of unequal numbers of runs, an arm of
            `challengers`, `baselines` or another part that is not among those
            that are judged, or one of both sides.

    Example:
        >>> runs = {
        ...     "lars": [0.91, 0.93, 0.92, 0.94, 0.92, 0.93],
        ...     "nesterov": [0.81, 0.82, 0.80, 0.83, 0.82, 0.81],
        ... }
        >>> str(compare_arms(runs, challengers=["lars"]))
        'needed'

    Source: Nado et al. 2021, section 2.1.5; Agarwal et al. 2021; for several
        looks Lan and DeMets 1983.
    """
    values = {
        name: runs
        for name, runs in (
            ("test", test),
            ("validation", validation),
            ("training", training),
        )
        if runs is not None
    }
    _check_arms(values, searched, challengers, baselines)
    margin, target = _number("margin", margin), _number("target", target)
    if target is not None and not math.isfinite(target):
        raise ValueError(f"target is {target}; expected a finite number.")
    judged_runs = next(iter(values.values()))
    error, looks, notes = 1.0, None, _of_runs(judged_runs, searched or {})
    if look_every is not None or planned_seeds is not None:
        error, looks = _spent(judged_runs, look_every, planned_seeds)
        notes.append(sentences.looks(look_every, planned_seeds, error))
    return decision.judge(
        values,
        set(challengers),
        None if baselines is None else set(baselines),
        metric,
        mode,
        margin,
        target,
        notes=notes,
        searched=searched,
        error=error,
        looks=looks,
    )


def _number(name, value):
    """The number, which JSON can hold; None where it is none."""
    if value is not None and not checks.is_number(value):
        raise TypeError(f"{name} must be a number or None, received {value!r}.")
    return None if value is None else float(value)


def _of_runs(runs, searched):
    """Notes on runs that no study made, of which less is known."""
    notes = []
    trials = {arm: len(values) for arm, values in searched.items()}
    if len({*trials.values()}) > 1:
        notes.append(sentences.unequal_trials(trials))
    for arm, values in runs.items():
        known = statistics.finite(values)
        if len(known) == len(values) > 1 and known.min() == known.max():
            notes.append(sentences.all_alike(arm, len(values)))
    return notes


def _check_arms(values, searched, challengers, baselines):
    """Refuses runs that are no numbers, and arms that have no runs."""
    for name, runs in (*values.items(), ("searched", searched or {})):
        _check_runs(name, runs)
    named = {"challengers": challengers, "baselines": baselines}
    for name, arms in named.items():
        is_list = isinstance(arms, Collection) and not isinstance(arms, str)
        if arms is not None and not is_list:
            raise TypeError(
                f"{name} must be a list of arms, received {arms!r}."
            )
    if not {"test", "validation"} & set(values):
        raise ValueError("test or validation is needed, received neither.")
    judged_part, judged_runs = next(iter(values.items()))
    for name, arms in {**values, **named, "searched": searched}.items():
        unknown = set(arms or ()) - set(judged_runs)
        if unknown:
            raise ValueError(
                f"{name} has {sorted(unknown)}; expected arms of "
                f"{judged_part}: {sorted(judged_runs)}."
            )
    lacking = set(judged_runs) - set(searched or judged_runs)
    if lacking:
        raise ValueError(
            f"searched lacks {sorted(lacking)}; expected search trials of "
            "every arm, or of none."
        )
    both = set(challengers) & set(baselines or ())
    if both:
        raise ValueError(f"challengers and baselines both have {sorted(both)}.")


def _spent(runs, look_every, planned_seeds):
    r"""(part of the error that a look spends, of 1 for all; the looks).

    Up to a part t of the planned seeds, \(t^2\) of the error is spent: by the
    union bound the looks err no more than one look does, and the last ones
    have most of it.
    """
    for name, value in (
        ("look_every", look_every),
        ("planned_seeds", planned_seeds),
    ):
        if not checks.is_number(value, numbers.Integral) or value < 1:
            raise ValueError(
                f"{name} must be a whole number of at least 1, received "
                f"{value!r}; look_every and planned_seeds belong together."
            )
    counts = {arm: len(values) for arm, values in runs.items()}
    if len({*counts.values()}) > 1:
        listed = ", ".join(f"{arm} {count}" for arm, count in counts.items())
        raise ValueError(
            "a look is at the same number of seeds of every arm, received "
            f"{listed}; leave out the later runs of the others."
        )
    seeds = max(counts.values(), default=0)
    if seeds > planned_seeds:
        raise ValueError(
            f"planned_seeds is {planned_seeds}, but an arm has {seeds} runs."
        )
    if seeds % look_every and seeds != planned_seeds:
        raise ValueError(
            f"look_every is {look_every}, so looks are at multiples of it; "
            f"received {seeds} runs of an arm."
        )
    before = (seeds - 1) // look_every * look_every
    spent = max(seeds**2 - before**2, 1) / planned_seeds**2
    return spent, (int(look_every), int(planned_seeds))


def from_summaries(
    medians: Mapping[str, Mapping[str, float]],
    challengers: Collection[str],
    runs: int,
    hits: Mapping[str, int] | None = None,
    metric: str = "accuracy",
    margin: float | None = None,
) -> Verdict:
    """The verdict on published medians, without the runs behind them.

    Nothing is known of the spread, so medians are only compared with the
    margin; a difference counts as "needed" only if the hit rates differ too.

    Args:
        medians: {arm: {"validation": median, "training": median}}, greater is
            better; training may be missing.
        challengers: Which arms are asked whether they are needed.
        runs: Runs an arm.
        hits: {arm: how many of them reached the target}.
        metric: Its name, for the sentences.
        margin: As in `compare_arms`.

    Example:
        >>> published = {
        ...     "Nesterov": {"validation": 75.93, "training": 78.97},
        ...     "LARS": {"validation": 75.97, "training": 78.07},
        ... }
        >>> print(from_summaries(published, ["LARS"], 50).sentence)
        Not needed: Nesterov is as good as LARS in validation accuracy, with \
a margin of 0.5. LARS against Nesterov: equal on validation, Nesterov \
better on training: regularization rather than optimization.
    """
    hits = hits or {}
    arms, pairs = [], []
    listed = {a: [*parts.values()] for a, parts in medians.items()}
    top = decision.ceiling([listed], metric, "max")
    for part in PARTS:
        known = {a: m[part] for a, m in medians.items() if part in m}
        for arm, median in known.items():
            reached = {}
            if part == "validation" and arm in hits:
                reached = decision.hit_rate(hits[arm], runs)
            arms.append(
                ArmSummary(
                    arm,
                    "challenger" if arm in challengers else "baseline",
                    part,
                    runs,
                    0,
                    median,
                    **reached,
                )
            )
        for other in [a for a in known if a not in challengers]:
            least = decision.default_margin(
                margin, list(known.values()), known[other], "max", top
            )
            for arm in [a for a in known if a in challengers]:
                pair = PairVerdict(arm, other, part, runs, runs, least)
                p = None
                if part == "validation" and arm in hits and other in hits:
                    p = statistics.rates_p_value(
                        hits[arm], runs, hits[other], runs
                    )
                pairs.append(_of_medians(pair, (known[arm], known[other]), p))
    return decision.conclude(
        pairs, arms, metric, 0, notes=[sentences.MEDIANS_ONLY]
    )


def _check_runs(part, runs):
    if not isinstance(runs, Mapping):
        raise TypeError(
            f"{part} must be {{arm: one number per seed}}, received "
            f"{schema.shown(runs)}."
        )
    for arm, values in runs.items():
        if not isinstance(values, Collection) or isinstance(
            values, (str, Mapping, Set)
        ):
            raise TypeError(
                f"{part}: {arm}: must be a list of numbers, one per seed, "
                f"received {schema.shown(values)}."
            )
        for seed, value in enumerate(values):
            if value is not None and not checks.is_number(value):
                raise TypeError(
                    f"{part}: {arm}: run {seed} must be a number, or None "
                    f"where it diverged, received {schema.shown(value)}."
                )
            if value is not None and _is_too_large(value):
                raise ValueError(
                    f"{part}: {arm}: run {seed} must be at most "
                    f"{schema.LARGEST_METRIC:g} in size, or None where it "
                    f"diverged, received {schema.shown(value)}."
                )


def _is_too_large(value):
    """Whether it is finite, and its square may be no number."""
    try:
        return schema.LARGEST_METRIC < abs(float(value)) < math.inf
    except OverflowError:
        return True


def _of_medians(pair, medians, hits_p):
    difference = medians[0] - medians[1]
    reached = statistics.less_rounding(pair.margin, medians)
    answer, relation = "not needed", "baseline better"
    if abs(difference) < reached:
        relation = "equal"
    elif difference > 0:
        differ = hits_p is not None and hits_p <= decision.HITS_ERROR
        answer = "needed" if differ else "undecided"
        relation = "challenger better"
    return dataclasses.replace(
        pair,
        answer=answer,
        relation=relation,
        median_difference=difference,
        hits_p=hits_p,
    )


def _edges(study, records):
    """{arm: edges of its space that the best trials of it lie at}."""
    from lbcheck.search import edges
    from lbcheck.search import space

    sign = -1 if study["metric"]["mode"] == "max" else 1
    found = {}
    for arm, described in study["arms"].items():
        scored = [
            (sign * protocol.score(study, r), r["index"], r["hyperparameters"])
            for r in records
            if r["arm"] == arm
            and r["stage"] in _OF_THE_SPACE
            and protocol.score(study, r) is not None
        ]
        points = [point for *_, point in sorted(scored, key=lambda s: s[:2])]
        found[arm] = edges.find(
            space.Space.from_dict(described["space"]), points, study["steps"]
        )
    return found


def _scores(study, records, arms):
    """{arm: the numbers by which trials of its whole space are selected}."""
    found = {arm: [] for arm in arms}
    for record in records:
        if record["stage"] in _OF_THE_SPACE and record["arm"] in found:
            found[record["arm"]].append(protocol.score(study, record))
    return found if all(found.values()) else None


def _feasible(study, records):
    """A note where diverging left arms unequal numbers of settings."""
    searched = [r for r in records if r["stage"] != "confirm"]
    found = {
        arm: sum(
            r["arm"] == arm and r["status"] == "finished" for r in searched
        )
        for arm in study["arms"]
    }
    return [sentences.feasible(found)] if len(set(found.values())) > 1 else []


def _searched(study, records):
    """Search trials of each arm: the same number, or the largest."""
    return max(
        sum(r["arm"] == arm and r["stage"] != "confirm" for r in records)
        for arm in study["arms"]
    )


def _sampling(study, groups, values):
    """A note on the examples that are judged on, if their number is known."""
    part = parts_of(study)[0]
    examples = study.get("facts", {}).get(f"num_{part}")
    found = [v for runs in values.values() for v in runs if v is not None]
    if not examples or not found:
        return []
    if part == "test":
        sizes = [len(rows[0]) for rows in groups.values()]
        by_example = min(sizes, default=0) >= difference.LEAST_GROUPS
        return [sentences.test_data(examples, by_example)]
    middle = float(np.median(found))
    name = study["metric"]["name"]
    accuracy = middle if "acc" in name and 0 <= middle <= 1 else None
    selects = study.get("selection") == "validation"
    return [sentences.sampling(examples, selects, accuracy)]


def _value(study, record, part):
    """The study's metric of a run; None where it diverged."""
    if record["status"] != "finished":
        return None
    name = study["metric"]["name"]
    metrics = (record["metrics"] or {}).get(part) or {}
    if name not in metrics:
        raise ValueError(
            f"Arm {record['arm']}, {record['stage']} trial {record['index']} "
            f"has no {part} metric {name!r}; expected it among "
            f"{sorted(metrics)}."
        )
    return metrics[name]


def _first_step(record, metric, target):
    """The first update at which validation was seen to reach the target."""
    sign = 1 if metric["mode"] == "max" else -1
    least = statistics.less_rounding(sign * target, [target])
    for point in record.get("curve") or []:
        value = point["validation"][metric["name"]]
        if value is not None and sign * value >= least:
            return point["step"]
    return None
