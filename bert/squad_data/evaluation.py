"""The official metrics of SQuAD v1.1 and v2.0."""

from bert.squad_data import reading


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
        "best_f1_thresh" and "pr_exact_ap", "pr_f1_ap", "pr_oracle_ap".

    Raises:
        ValueError: No prediction for any question, or null odds missing.
    """
    raise NotImplementedError
