"""Why a SQuAD score may be off: what is counted on the way, and its words."""

import numpy as np

from bert import squad_data
from bert import tokenization

_MANY_WIDENED = 0.01
_MANY_UNKNOWN = 0.01
_MANY_CAPITALS = 0.01
_MANY_ELSEWHERE = 0.01


def of_features(dataset, features, max_answer_length: int) -> dict:
    """Counts over the questions and windows of one file.

    Args:
        dataset: `bert.squad_data.Dataset`.
        features: Its `bert.squad_data.Features`.
        max_answer_length: Tokens that a predicted answer has at most.

    Returns:
        `features.diagnostics`, "long_answers": questions whose trained
        answer has more tokens, so that it cannot be predicted,
        "whole_word_answers": questions whose answer begins or ends inside a
        word and is trained as the whole word, and "trained_exact_match": the
        official score of the trained answers themselves, None without any.
    """
    lengths = features.end_positions - features.start_positions + 1
    long = np.unique(features.questions[lengths > max_answer_length])
    return {
        **features.diagnostics,
        "long_answers": len(long),
        **_trained(dataset, features),
    }


def _trained(dataset, features):
    texts, widened = {}, 0
    for number, begin, end in zip(*(x.tolist() for x in features.trained())):
        question = dataset.questions[number]
        texts[question.id] = dataset.contexts[question.context][begin:end]
        widened += not any(
            start <= begin and end <= start + len(text)
            for text, start in question.answers
        )
    score = None
    if texts:
        asked = [q for q in dataset.questions if q.id in texts]
        asked = dataset._replace(questions=asked)
        score = squad_data.evaluate(asked, texts)["exact_match"]
    return {"whole_word_answers": widened, "trained_exact_match": score}


def of_training(counts: dict) -> list[str]:
    """What is wrong with the file to train on, one line each.

    Args:
        counts: What `of_features` returned.
    """
    told = []
    widened = counts.get("whole_word_answers", 0)
    questions = counts["questions"]
    if widened > _MANY_WIDENED * questions:
        told.append(
            f"{widened:,} of {questions:,} answers of --train_file begin or "
            "end inside a word and are trained as the whole word, up to the "
            "blanks around it: what is trained has an exact match of at most "
            f"{counts['trained_exact_match']:.1f}."
        )
    return told


def of_vocabulary(tokenizer, vocab_size: int, vocab_file: str) -> list[str]:
    """Warnings on the vocabulary; it is read by the encoder's ids.

    Args:
        tokenizer: `bert.tokenization.Tokenizer`.
        vocab_size: Number of tokens that the encoder has embeddings for.
        vocab_file: For messages.

    Raises:
        ValueError: It has more tokens than the encoder.
    """
    found = len(tokenizer.vocab)
    tokenization.check_size(vocab_file, found, vocab_size)
    warnings = []
    if found < vocab_size:
        warnings.append(
            f"{vocab_file} has {found} tokens, the encoder {vocab_size}: "
            "unless the rest is padding, it is that of another model."
        )
    capitals = sum(t != t.lower() and t[:1] != "[" for t in tokenizer.vocab)
    cased = capitals > _MANY_CAPITALS * found
    if cased and tokenizer.lower_case:
        warnings.append(
            f"{vocab_file} is cased ({capitals} tokens with capitals), but "
            "the text is lower-cased: --nolower_case."
        )
    if not cased and not tokenizer.lower_case:
        warnings.append(
            f"{vocab_file} is uncased, but the text is not lower-cased: "
            "--lower_case."
        )
    return warnings


def of_predictions(dataset, predictions: dict[str, str]) -> dict[str, int]:
    """Counts over answers, whoever gave them.

    Args:
        dataset: `bert.squad_data.Dataset`.
        predictions: {question id: answer}.

    Returns:
        "answered" questions, those of them whose answer is "empty", is
        "not_in_context" or stands there in "other_case" only.
    """
    counts = dict(answered=0, empty=0, not_in_context=0, other_case=0)
    for question in dataset.questions:
        answer = predictions.get(question.id)
        if answer is None:
            continue
        counts["answered"] += 1
        context = dataset.contexts[question.context]
        if not answer:
            counts["empty"] += 1
        elif answer not in context:
            other = answer.lower() in context.lower()
            counts["other_case" if other else "not_in_context"] += 1
    return counts


def skipped_updates(loss_scale: float, initial: float = 2.0**15) -> int:
    """Least number of updates that float16 skipped, by the last loss scale.

    Each overflow skips an update and halves the scale; 2,000 updates without
    one double it, so that for 2,000 updates or less the number is exact.
    """
    return max(0, round(np.log2(initial / loss_scale)))


def lines(found: dict, scores: dict, dataset) -> list[str]:
    """What to report along with a score.

    Args:
        found: What diagnostics.json holds: any of "train", "predict" (what
            `of_features` returned), "skipped_updates" (None: it cannot
            happen), "warnings", and "answers" (what `of_predictions` did).
        scores: What `bert.squad_data.evaluate` returned.
        dataset: The questions that it evaluated.

    Returns:
        Lines; those that begin with "warning: " say that something is wrong.
    """
    told = []
    for part, text in (("train", "training"), ("predict", "prediction")):
        if part in found:
            told.append(_windows(text, found[part]))
    skipped = found.get("skipped_updates")
    if skipped is not None:
        told.append(f"updates skipped for overflow: at least {skipped}")
    elif "train" in found:
        told.append("updates skipped for overflow: none (not float16)")
    warnings = list(found.get("warnings", ()))
    if skipped:
        warnings.append(f"at least {skipped} updates changed nothing.")
    if "train" in found:
        warnings += of_training(found["train"])
    for part in ("train", "predict"):
        warnings += _unknown(part, found.get(part))
    warnings += _answers(found["answers"], scores, dataset)
    return told + [f"warning: {text}" for text in warnings]


def _windows(text, counts):
    return (
        f"{text}: {counts['questions']:,} questions in {counts['windows']:,} "
        f"windows; {counts['without_answer_window']:,} questions without a "
        f"window that holds an answer, {counts['cut_answers']:,} windows that "
        f"cut one, {counts['long_answers']:,} answers too long to predict, "
        f"{counts.get('whole_word_answers', 0):,} trained as the whole word, "
        f"{counts['unusable_answers']:,} not at their answer_start, "
        f"{counts['truncated_questions']:,} questions cut"
    )


def _unknown(part, counts):
    if not counts or not counts["tokens"]:
        return
    share = counts["unknown_tokens"] / counts["tokens"]
    if share > _MANY_UNKNOWN:
        yield (
            f"{share:.1%} of the tokens of --{part}_file are unknown: "
            "another vocabulary, or a cased one with uncased text?"
        )


def _answers(counts, scores, dataset):
    impossible = sum(q.impossible for q in dataset.questions)
    if scores["missing"]:
        yield f"{scores['missing']:,} questions have no prediction."
    if scores["unknown"]:
        yield (
            f"{scores['unknown']:,} predictions belong to no question of "
            f"{dataset.origin}: another file?"
        )
    if counts["empty"] and not dataset.version_2:
        yield (
            f"{counts['empty']:,} predictions are empty, which v1.1 counts "
            "as wrong: a v2.0 model?"
        )
    if dataset.version_2 and not impossible:
        yield (
            f"{dataset.origin} has no impossible question: a v1.1 file, "
            "read with --version_2_with_negative."
        )
    if dataset.version_2 and impossible and not counts["empty"]:
        yield "no prediction is empty: a v1.1 model?"
    if counts["other_case"] > _MANY_ELSEWHERE * counts["answered"]:
        yield (
            f"{counts['other_case']:,} predictions occur in their context with "
            "other case only: they were not mapped back to the text."
        )
    if counts["not_in_context"] > _MANY_ELSEWHERE * counts["answered"]:
        yield (
            f"{counts['not_in_context']:,} predictions do not occur in their "
            "context: joined from tokens?"
        )
