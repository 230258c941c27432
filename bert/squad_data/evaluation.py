"""The official metrics of SQuAD v1.1 and v2.0.

Source: evaluate-v1.1.py and evaluate-v2.0.py of Rajpurkar et al., the same as
in official/nlp/tools of TensorFlow Model Garden.
"""

import collections
import re
import string

from bert.squad_data import reading

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def evaluate(
    dataset: reading.Dataset,
    predictions: dict[str, str],
    null_odds: dict[str, float] | None = None,
    null_threshold: float = 1.0,
) -> dict[str, float]:
    """Scores predictions, in percent.

    Args:
        dataset: Which says whether v1.1 or v2.0 is meant.
        predictions: {question id: answer}, "" for no answer (v2.0).
        null_odds: v2.0 only: {question id: number that is greater the less
            likely an answer is}; None: 0 for each.
        null_threshold: v2.0 only: greater null odds count as no answer
            (`--na-prob-thresh` of the official script).

    Returns:
        "exact_match", "f1" and the counts "questions", "missing" (questions
        without a prediction: 0 points in v1.1, left out of the means in
        v2.0, as officially) and "unknown" (predictions of no question). For
        v2.0 also "HasAns_exact", "HasAns_f1", "HasAns_total" and the same
        with "NoAns_", "best_exact", "best_exact_thresh", "best_f1",
        "best_f1_thresh" and "pr_exact_ap", "pr_f1_ap", "pr_oracle_ap"; of
        these, what needs answerable or impossible questions only if there
        are some.

    Raises:
        ValueError: No prediction for any question, or null odds missing.
    """
    exact, f1 = _scores(dataset, predictions)
    if not exact:
        raise ValueError(
            f"{dataset.origin}: none of its {len(dataset.questions)} questions "
            f"is among the {len(predictions)} predictions; are they for "
            "another file?"
        )
    counts = {
        "questions": len(dataset.questions),
        "missing": len(dataset.questions) - len(exact),
        "unknown": len(predictions) - len(exact),
    }
    if not dataset.version_2:
        total = len(dataset.questions)
        return {
            "exact_match": 100 * sum(exact.values()) / total,
            "f1": 100 * sum(f1.values()) / total,
            **counts,
        }
    if null_odds is None:
        null_odds = dict.fromkeys(predictions, 0.0)
    without = [name for name in exact if name not in null_odds]
    if without:
        raise ValueError(
            f"no null odds for {len(without)} of {len(exact)} predictions, "
            f"first {without[0]!r}."
        )
    # Ties are taken in the order in which the odds are given, as officially.
    odds = {name: x for name, x in null_odds.items() if name in exact}
    return _version_2(
        dataset, predictions, exact, f1, odds, null_threshold, counts
    )


def _scores(dataset: reading.Dataset, predictions: dict[str, str]):
    """({id: exact match}, {id: F1}) of the questions that have a prediction."""
    normal = _Normal()
    exact, f1 = {}, {}
    for question in dataset.questions:
        prediction = predictions.get(question.id)
        if prediction is None:
            continue
        ours = normal[prediction]
        golds = {normal[answer.text] for answer in question.answers}
        if dataset.version_2:
            golds = golds - {""} or {""}
        exact[question.id] = int(ours in golds)
        # Two empty answers share no token, says v1.1.
        if ours in golds and (ours or dataset.version_2):
            f1[question.id] = 1
        else:
            tokens = ours.split()
            f1[question.id] = max(_f1(tokens, gold.split()) for gold in golds)
    return exact, f1


class _Normal(dict):
    """{text: lower case, without punctuation, articles and extra spaces}."""

    def __missing__(self, text: str) -> str:
        plain = text.lower().translate(_PUNCTUATION)
        self[text] = found = " ".join(_ARTICLES.sub(" ", plain).split())
        return found


def _f1(prediction: list[str], gold: list[str]) -> float:
    """2 precision recall / (precision + recall) of the tokens."""
    common = collections.Counter(prediction) & collections.Counter(gold)
    shared = sum(common.values())
    if not shared:
        return 0
    precision = shared / len(prediction)
    recall = shared / len(gold)
    return 2 * precision * recall / (precision + recall)


def _version_2(
    dataset, predictions, exact, f1, odds, null_threshold, counts
) -> dict[str, float]:
    answerable = {
        question.id: bool(question.answers)
        for question in dataset.questions
        if question.id in exact
    }
    final = [
        {
            name: float(not answerable[name])
            if odds[name] > null_threshold
            else score
            for name, score in scores.items()
        }
        for scores in (exact, f1)
    ]
    found = _means(final, exact)
    found = {"exact_match": found["exact"], "f1": found["f1"], **counts}
    for prefix, wanted in (("HasAns", True), ("NoAns", False)):
        names = [name for name, has in answerable.items() if has == wanted]
        if names:
            means = _means(final, names) | {"total": len(names)}
            found |= {f"{prefix}_{key}": x for key, x in means.items()}
    ranked = sorted(odds, key=odds.get)
    for key, scores in (("exact", exact), ("f1", f1)):
        best, threshold = _best(ranked, predictions, scores, odds, answerable)
        found |= {f"best_{key}": best, f"best_{key}_thresh": threshold}
    if any(answerable.values()):
        for key, scores in (("exact", exact), ("f1", f1), ("oracle", None)):
            scores = answerable if scores is None else scores
            precision = _average_precision(ranked, scores, odds, answerable)
            found[f"pr_{key}_ap"] = precision
    return found


def _means(scores: list[dict], names) -> dict[str, float]:
    exact, f1 = (100 * sum(s[n] for n in names) / len(names) for s in scores)
    return {"exact": exact, "f1": f1}


def _best(ranked, predictions, scores, odds, answerable):
    """(best score over all thresholds of the null odds, that threshold)."""
    score = best = sum(not has for has in answerable.values())
    threshold = 0.0
    for name in ranked:
        if answerable[name]:
            score += scores[name]
        elif predictions[name]:
            score -= 1
        if score > best:
            best, threshold = score, odds[name]
    return 100 * best / len(scores), threshold


def _average_precision(ranked, scores, odds, answerable) -> float:
    """Area under precision and recall as the null odds' threshold rises."""
    total = sum(answerable.values())
    hits = recall = area = 0.0
    for i, name in enumerate(ranked):
        if answerable[name]:
            hits += scores[name]
        last = i == len(ranked) - 1
        if last or odds[name] != odds[ranked[i + 1]]:
            area += hits / (i + 1) * (hits / total - recall)
            recall = hits / total
    return 100 * area
