"""The verdict in words."""

import math
import types

from lbcheck.verdict import parts

MEDIANS_ONLY = (
    "Judged by published medians alone: without the runs behind them no "
    "interval can be given, so differences are only compared with the margin."
)
_NOT_BETTER = ("equal", "baseline better", "baseline not worse")


def answer(
    word: str, doubt: str | None, more_seeds: int | None, unit: str = "seed"
) -> str:
    """The answer with what it lacks: "undecided (4 more seeds)"."""
    if doubt not in (None, "seeds"):
        return f"undecided ({doubt})"
    if word != "undecided" or more_seeds == 0:
        return word
    return f"undecided ({_more(more_seeds, unit)})"


def sentence(
    found,
    deciding,
    narrow,
    metric,
    chance=None,
    points=types.MappingProxyType({}),
) -> str:
    """The first line of a report.

    Args:
        found: The `Verdict`; its own sentence is not looked at.
        deciding: The pairs that the answer rests on, or would without the
            doubt, all of the part that is judged.
        narrow: Hyperparameters of baselines at an edge, for "edge".
        metric: Its name.
        chance: What is reached without having learnt anything, for "floor".
        points: {arm: all points of its space}, where that has an end.
    """
    pairs = found.pairs
    if not pairs:
        return _one_sided(found.arms)
    if found.doubt == "floor":
        text = _floor(found.arms, metric, chance)
    elif found.doubt == "search":
        text = _search(found, deciding, metric, points)
    elif found.doubt == "edge":
        text = _edge(deciding, narrow, metric)
    elif found.doubt == "ceiling":
        text = _ceiling(pairs, found.arms, metric)
    elif found.doubt == "failures":
        text = _failures(pairs, metric, found.unit)
    elif found.doubt == "examples":
        text = _examples(found.times_examples, pairs, metric)
    elif all(0 < a.runs == a.diverged for a in parts.judged(found.arms)):
        text = "Undecided: every run of every arm diverged."
    elif found.answer == "undecided":
        text = _undecided(found.more_seeds, pairs, metric, found.unit)
    elif found.answer == "needed":
        text = (
            f"Needed: {_beats(deciding, metric)}, more than chance explains "
            f"and more than the margin of {_margins(deciding)}."
        )
    else:
        verb = "is as good as"
        if all(p.relation == "baseline better" for p in deciding):
            verb = "is better than"
        text = (
            f"Not needed: {deciding[0].other_arm} {verb} "
            f"{_names(p.arm for p in deciding)} in {_on(deciding)} {metric}, "
            f"with a margin of {_margins(deciding)}"
            f"{_behind(deciding, found.unit)}."
        )
    texts = [text]
    if found.doubt is None:
        texts += _failed(deciding, found.unit)
    if found.unit == "search" and found.doubt is None:
        count = _counts(parts.judged(pairs), found.unit)
        texts.append(f"It rests on {count} per arm.")
    if found.answer != "undecided" and len(found.challenge) > 1:
        texts.append(f"The answer holds with {_trials(found, points)}.")
    told = deciding or parts.judged(pairs)
    compared = [both(pair, pairs) for pair in told]
    if not any(pair.part == "training" for pair in pairs):
        compared = []
    elif len(told) > 1:
        compared = [text for text in compared if " rather than " in text][:1]
    return " ".join([*texts, *compared])


def _behind(pairs, unit):
    """How far a baseline may be behind, by the ends of the intervals."""
    ends = [p.high for p in pairs if p.high is not None]
    if len(ends) < len(pairs):
        return ""
    if max(ends) < 0:
        return f", and ahead by {_number(-max(ends))} at least"
    return (
        f", and at most {_number(max(ends))} behind over {_counts(pairs, unit)}"
    )


def _failed(pairs, unit):
    """A sentence on each arm of these pairs that failed in some runs."""
    found = {
        arm: (failures, runs)
        for pair in pairs
        for arm, failures, runs in _arms_of(pair)
        if failures
    }
    return [
        f"{arm} failed in {failures} of {runs} {_plural(unit)}."
        for arm, (failures, runs) in found.items()
    ]


def _arms_of(pair):
    """(name, runs that failed, all runs) of both arms."""
    yield pair.arm, pair.failures, pair.runs
    yield pair.other_arm, pair.other_failures, pair.other_runs


def both(pair, pairs) -> str:
    """A pair on what is judged and on training: optimization or not.

    Source: Nado et al. 2021, section 2.1.5.
    """
    match = (pair.arm, pair.other_arm, "training")
    training = [p for p in pairs if (p.arm, p.other_arm, p.part) == match]
    seen = [pair, *training]
    relations = [p.relation for p in seen]
    if {"unclear", "saturated"} & set(relations):
        label = ""
    else:
        label = _label(*relations) if training else ""
    text = ", ".join(_relation(p) for p in seen)
    return f"{pair.arm} against {pair.other_arm}: {text}{label}."


def notes(pairs, arms, metric, least_seeds, unit) -> list[str]:
    """What a reader must know to trust the answer."""
    texts = []
    judged = parts.judged(pairs)
    if len(judged) > 1:
        texts += [both(pair, pairs) for pair in judged]
    by_margin = {}
    for part in dict.fromkeys(p.part for p in pairs):
        margins = _margins([p for p in pairs if p.part == part])
        by_margin.setdefault(margins, []).append(part)
    texts += [
        f"A difference of less than {margins} in {_names(own)} {metric} does "
        "not matter (the margin)."
        for margins, own in by_margin.items()
    ]
    left = [p.margin_share for p in judged if p.margin_share is not None]
    if left:
        digits = 0 if max(left) >= 0.01 else 2
        texts.append(
            f"The margin is {max(left):.{digits}%} of what the best baseline "
            "leaves to gain."
        )
    found = _detectable(judged)
    if found:
        texts.append(
            f"With {_counts(judged, unit)} per arm, a true difference of "
            f'{_number(max(found))} would give the answer "needed" in 80 % of '
            "studies."
        )
    few = [p for p in judged if min(p.runs, p.other_runs) < least_seeds]
    if few:
        texts.append(
            f"With fewer than {least_seeds} {_plural(unit)} no 95 % interval "
            "of a median exists, so no answer is given."
        )
    for arm in parts.judged(arms):
        if arm.diverged:
            texts.append(
                f"{arm.diverged} of {arm.runs} {_plural(unit)} of {arm.arm} "
                "diverged; they count as worse than every other run."
            )
    return texts


def feasible(found: dict[str, int]) -> str:
    """That trials diverged, of some arms more than of others."""
    numbers = ", ".join(f"{arm} {count}" for arm, count in found.items())
    return (
        "Every arm had the same number of search trials. Those that did not "
        f"diverge: {numbers}."
    )


def same_weights(repeated: list[str]) -> str:
    """That seeds decide no initial weight, and of which arms nothing."""
    text = (
        "Every run began with the same weights, as `build_model` sets or loads "
        "them: its seeds differ in the order of the data and in noise alone, "
        "and the intervals hold for these weights."
    )
    if repeated:
        text += (
            f" All runs of {_names(repeated)} are equal but for rounding, "
            "and count as one."
        )
    return text


def unequal_trials(found: dict[str, int]) -> str:
    """That arms were not searched equally hard."""
    numbers = ", ".join(f"{arm} {count}" for arm, count in found.items())
    return (
        f"Unequal numbers of search trials ({numbers}): an arm with more finds "
        "better hyperparameters, whatever its optimizer."
    )


def all_alike(arm: str, runs: int) -> str:
    """That the seeds of an arm may decide nothing."""
    return (
        f"All {runs} runs of {arm} are equal. If its seeds decide nothing, "
        "they are one run, and the answer is surer than it should be."
    )


def one_search(trials: int) -> str:
    """That the seeds do not show how lucky the search was."""
    return (
        "This verdict holds for the hyperparameters chosen by one search of "
        f"{trials} trial{'s' if trials != 1 else ''} per arm. More seeds "
        "cannot show how another search would have turned out. Before you "
        "rely on it, repeat the study with another seed."
    )


def edge(arm: str, found) -> str:
    """That an arm's best values lie at an end of their range."""
    low, high = sorted((found.end, found.other_end))
    end = "lower" if found.end == low else "upper"
    where = f"at the {end} end of its range, {low:.4g} to {high:.4g}"
    text = f"{arm}: the best {found.name}, {found.value:.4g}, lies {where}"
    if not found.is_best:
        text = f"{arm}: two of the best three {found.name} lie {where}"
    elif found.is_likely:
        text += ", and so does another of the best three"
    return f"{text}; a wider one may hold better values."


def common_edge(arm: str, name: str, count: int, searches: int) -> str:
    """That an arm's best values lie at an end in most of several searches."""
    return (
        f"{arm}: the best {name} lie at an end of its range in {count} of "
        f"{searches} searches; a wider one may hold better values."
    )


def luck(
    share: float, needed: float, not_needed: float, since: int | None
) -> str:
    """How searches with half of the trials would have turned out.

    Args:
        share: Of them with a challenger ahead.
        needed: Least share that "needed" is given at.
        not_needed: Greatest share that "not needed" is given at.
        since: Least number of trials from which on the share is sure.
    """
    text = (
        "Of searches with half of the trials of this one, "
        f"{share:.0%} would have put a challenger ahead by the margin. "
        f'"Needed" takes at least {needed:.0%} here, "not needed" at most '
        f"{not_needed:.0%}."
    )
    if since is not None:
        text += (
            f" That is so with {since} trial{'s' if since != 1 else ''} per "
            "arm and more."
        )
    return text


def sampling(examples: int, selects: bool, accuracy: float | None) -> str:
    """What the seeds do not show: the choice of the validation examples.

    Args:
        examples: Validation examples.
        selects: Whether hyperparameters were selected on them.
        accuracy: Accuracy of a typical run, if the metric is one; its standard
            error over examples is sqrt(accuracy (1 - accuracy) / examples).
    """
    also = ", which also selected the hyperparameters" if selects else ""
    text = (
        "Seeds vary the initial weights and the order of the data, but not "
        f"the {examples:,} validation examples{also}"
    )
    if accuracy is None:
        return f"{text}."
    error = math.sqrt(accuracy * (1 - accuracy) / examples)
    return (
        f"{text}; the standard error of an accuracy of {accuracy:.4g} over "
        f"that many examples is {_number(error)}."
    )


def test_data(examples: int, by_example: bool) -> str:
    """That the runs are judged on examples that nothing was selected by."""
    text = (
        f"The runs are judged on {examples:,} test examples that nothing was "
        "selected by"
    )
    if by_example:
        return (
            f"{text}; the intervals of differences hold seeds and the choice "
            "of these examples."
        )
    return f"{text}; the intervals of differences hold seeds only."


def searches(count: int, trials: int, seeds: int) -> str:
    """What the unit is where several searches are compared."""
    return (
        f"Each of {count} independent searches of {trials} trials per arm "
        f"counts once, by the mean of {seeds} fresh seed"
        f"{'s' if seeds != 1 else ''} of its best hyperparameters: the "
        "intervals hold the luck of the search, and the answer is on arms that "
        "are tuned with so many trials."
    )


def control(pair, arm: str, small: int, large: int, metric: str, edges) -> str:
    """What the large batch costs, by a control at a small one.

    Args:
        pair: The small batch against the large one.
        arm: What was trained at both.
        small, large: Examples of an update.
        metric: Its name.
        edges: Hyperparameters whose best values at the small batch lie at an
            end of their range.
    """
    at = f"at batch {small:,}, with as many examples,"
    if pair.difference is None:
        return f"Control: {arm} {at} has no run to compare with."
    word = "better" if pair.difference >= 0 else "worse"
    by = f"{pair.part} {metric} of {arm} is {word} by "
    by += _number(abs(pair.difference))
    if math.isfinite(pair.low) and math.isfinite(pair.high):
        by += f" (lead {pair.low:+.2g} to {pair.high:+.2g})"
    if pair.answer == "needed":
        return f"Control: {at} {by}: the large batch of {large:,} costs that."
    if edges:
        return (
            f"Control: {at} {by}, but its best {_names(edges)} lie at an end "
            "of the range there; a wider one can decide whether the large "
            f"batch of {large:,} costs the margin."
        )
    if pair.answer == "not needed" or pair.doubt == "ceiling":
        return (
            f"Control: {at} {by}, less than the margin: the large batch of "
            f"{large:,} costs nothing that matters here, so it is not in the "
            "regime that the question is about."
        )
    return (
        f"Control: {at} {by}; whether the large batch of {large:,} costs the "
        "margin is undecided."
    )


def looks(look_every, planned_seeds, error: float) -> str:
    """That the verdict is asked for several times, and what this one spends."""
    return (
        f"A look every {look_every} of {planned_seeds} planned seeds: this one "
        f"spends {error:.1%} of the error, so that all of them together err "
        "no more than a single one."
    )


def margin_changed(first: float | None) -> str:
    """That the margin is not the one that the study was begun with."""
    was = "was not given" if first is None else f"was {first:g}"
    return (
        f"The margin {was} when the study was begun, and has been changed "
        "since. A margin that is chosen after the results are known proves "
        "little."
    )


def left_out(arm: str) -> str:
    """That an arm takes no part."""
    return f"{arm} is left out: all of its search trials diverged."


def alone(arm: str, arms, metric: str, unit: str = "seed") -> str:
    """What one arm reached, compared with none."""
    text = f"No verdict: {arm} is the only arm of this study"
    for found in parts.judged(arms):
        count = f"{found.runs} {unit if found.runs == 1 else _plural(unit)}"
        if found.median is None:
            continue
        if not math.isfinite(found.median):
            return (
                f"{text}; {found.diverged} of {count} with its best "
                "hyperparameters diverged."
            )
        text += (
            f"; its best hyperparameters reach a median {found.part} {metric} "
            f"of {found.median:.4g} over {count}"
        )
        if found.low is not None:
            ends = [_end(end) for end in (found.low, found.high)]
            text += f" (95 %: {ends[0]} to {ends[1]})"
    return f"{text}."


def _end(end):
    return f"{end:.4g}" if math.isfinite(end) else "diverged"


def _one_sided(arms):
    if not arms:
        return "Undecided: every search trial of every arm diverged."
    challenged = any(arm.side == "challenger" for arm in arms)
    side = "baseline" if challenged else "challenger"
    return f"Undecided: there is no {side} left to compare with."


def _search(found, deciding, metric, points):
    """Seeds decide, and other trials turned it, or might have."""
    steps, share = found.challenge, found.search_share
    if steps and steps[-1].answer != steps[0].answer:
        first = (
            f"Undecided (search): {steps[0].answer} with {steps[0].baselines} "
            "search trials per arm"
        )
        if steps[-1].answer is None:
            return f"{first}; the challenge by further trials has not ended."
        return (
            f"{first}, but no longer with {_trials(found, points)}. Which "
            "settings were tried decides here, not more seeds."
        )
    if not deciding:
        return "Undecided (search): which settings were tried decides here."
    if deciding[0].answer == "needed":
        seen, said = _beats(deciding, metric), f"only {share:.0%}"
    else:
        seen = (
            f"{deciding[0].other_arm} is as good as "
            f"{_names(p.arm for p in deciding)} in {_on(deciding)} {metric}"
        )
        said = f"{share:.0%}"
    return (
        f"Undecided (search): {seen} with the settings that were found, but "
        f"of searches with half of the trials {said} would have put a "
        f"challenger ahead by the margin of {_margins(deciding)}. More "
        "trials, not more seeds, can decide it."
    )


def _trials(found, points):
    """The search trials of both sides at the end of a challenge."""
    last = found.challenge[-1]
    sides = [
        (last.challengers, [p.arm for p in found.pairs]),
        (last.baselines, [p.other_arm for p in found.pairs]),
    ]
    more, fewer = sorted(sides, key=lambda side: side[0], reverse=True)
    each = " each" if len(set(more[1])) > 1 else ""
    return (
        f"{more[0]} search trials{each} for {_of_side(*more, points)} "
        f"against {fewer[0]} for {_of_side(*fewer, points)}"
    )


def _of_side(trials, arms, points):
    """Names of arms; a grid that ends before has fewer trials."""
    return _names(
        f"{arm} (which has {points[arm]} in all)"
        if points.get(arm, trials) < trials
        else arm
        for arm in dict.fromkeys(arms)
    )


def _beats(deciding, metric):
    return (
        f"{deciding[0].arm} beats {_names(p.other_arm for p in deciding)} in "
        f"{_on(deciding)} {metric}{_by(deciding)}"
    )


def _edge(deciding, narrow, metric):
    """A baseline is beaten, and may do better in a wider space."""
    return (
        f"Undecided (edge): {_beats(deciding, metric)}, but the best trials "
        f"lie at the edge of the space of {_names(narrow)}. A wider space "
        "there can decide it."
    )


def _ceiling(pairs, arms, metric):
    """The best baseline leaves less than the margin to gain."""
    best = max(
        (
            a
            for a in parts.judged(arms)
            if a.side == "baseline" and a.median is not None
        ),
        key=lambda arm: arm.median,
    )
    own = [p for p in parts.judged(pairs) if p.other_arm == best.arm]
    return (
        f"Undecided (ceiling): {best.arm} reaches a {best.part} {metric} of "
        f"{best.median:.4g}, so that no arm can be ahead of it by the margin "
        f"of {_margins(own)}. A harder task or a smaller margin can decide it."
    )


def _floor(arms, metric, chance):
    """Nothing was learnt, which all arms do equally well."""
    found = [
        arm
        for arm in parts.judged(arms)
        if arm.median is not None and math.isfinite(arm.median)
    ]
    best = max(found, key=lambda arm: arm.median)
    return (
        f"Undecided (floor): no arm learns anything here; the best, "
        f"{best.arm}, reaches a {best.part} {metric} of {best.median:.4g}, and "
        f"always predicting the commonest label {chance:.4g}. More steps, "
        "other spaces or another model can decide it."
    )


def _failures(pairs, metric, unit):
    """An arm that would do fails in some seeds."""
    doubted = [p for p in parts.judged(pairs) if p.doubt == "failures"]
    rates = [
        sorted(((n / m, n, m, arm) for arm, n, m in _arms_of(p)), reverse=True)
        for p in doubted
    ]
    (_, failed, runs, arm), (_, fewer, others, other) = max(
        rates, key=lambda rate: rate[0][0] - rate[1][0]
    )
    of_others = "" if others == runs else f" of {others}"
    return (
        f"Undecided (failures): {arm} failed in {failed} of {runs} "
        f"{_plural(unit)}, {other} in {fewer}{of_others}: it diverged or ended "
        f"far below all others in {doubted[0].part} {metric}. Where it did "
        "not, it would have decided."
    )


def _undecided(more_seeds, pairs, metric, unit):
    judged = parts.judged(pairs)
    found = _detectable(judged)
    limit = ""
    if found:
        limit = (
            ", enough at this noise to detect a true difference of "
            f"{_number(max(found))}"
        )
    return (
        f"{answer('undecided', 'seeds', more_seeds, unit).capitalize()}: "
        f"{_on(judged)} {metric} was measured with {_counts(judged, unit)} "
        f"per arm{limit}; the margin is {_margins(judged)}."
    )


def _detectable(pairs):
    """Differences that would be detected, unless no arm can have them."""
    return [
        p.detectable
        for p in pairs
        if p.detectable is not None
        and not (p.margin_share and p.detectable > p.margin / p.margin_share)
    ]


def _examples(times, pairs, metric):
    """Seeds would decide, but other examples might say otherwise."""
    doubted = [p for p in parts.judged(pairs) if p.doubt == "examples"]
    widest = max(doubted, key=lambda pair: pair.example_error)
    more = "More examples"
    if times is not None:
        more = f"About {max(2, math.ceil(times))} times as many examples"
    return (
        f"Undecided (examples): the runs decide between {widest.arm} and "
        f"{widest.other_arm} on these test examples, but their difference in "
        f"{metric} has a standard error of {_number(widest.example_error)} "
        f"over the choice of the examples; the margin is {_margins([widest])}. "
        f"{more} can decide it, more seeds cannot."
    )


def _on(pairs):
    """The part of the data that pairs are compared on."""
    return pairs[0].part


def _more(more_seeds, unit):
    if more_seeds is None:
        return f"more than 1,000 more {_plural(unit)}"
    return f"{more_seeds} more {unit if more_seeds == 1 else _plural(unit)}"


def _plural(unit):
    return {"seed": "seeds", "search": "searches"}[unit]


def _label(validation, training):
    better, worse = "challenger better", "baseline better"
    if (validation == better and training in _NOT_BETTER) or (
        validation == "equal" and training == worse
    ):
        return ": regularization rather than optimization"
    if training == better and validation in _NOT_BETTER:
        return ": optimization rather than generalization"
    return ""


def _relation(pair):
    words = {
        "challenger better": f"{pair.arm} better",
        "baseline better": f"{pair.other_arm} better",
        "baseline not worse": f"{pair.other_arm} not worse",
        "equal": "equal",
        "unclear": "undecided",
        "saturated": "saturated",
    }
    return f"{words[pair.relation]} on {pair.part}"


def _by(pairs):
    if any(None in (p.difference, p.median_difference) for p in pairs):
        return ""  # nothing was measured, or most runs diverged
    ends = sorted({_number(p.difference) for p in pairs}, key=float)
    text = f" by {' to '.join([ends[0], ends[-1]][: len(ends)])}"
    low, high = min(p.low for p in pairs), max(p.high for p in pairs)
    return f"{text} (interval {_number(low)} to {_number(high)})"


def _margins(pairs):
    ends = sorted({p.margin for p in pairs})
    return " to ".join(dict.fromkeys(f"{m:.4g}" for m in (ends[0], ends[-1])))


def _counts(pairs, unit):
    counts = sorted({n for p in pairs for n in (p.runs, p.other_runs)})
    text = " to ".join(dict.fromkeys(f"{n}" for n in (counts[0], counts[-1])))
    return f"{text} {unit if text == '1' else _plural(unit)}"


def _names(names):
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def _number(value):
    return f"{value + 0.0:.2g}" if math.isfinite(value) else "any size"
