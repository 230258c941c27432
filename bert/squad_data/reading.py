"""Files of SQuAD v1.1 and v2.0, and of predictions, read and checked."""

import gzip
import json
import pathlib
import zlib
from typing import NamedTuple

_GZIP = b"\x1f\x8b"
_KINDS = {dict: "an object", list: "a list", str: "a string", int: "a number"}


class Answer(NamedTuple):
    """An answer somebody gave.

    Attributes:
        text: The answer.
        start: Where it stands in the context, in characters from 0.
    """

    text: str
    start: int


class Question(NamedTuple):
    """A question.

    Attributes:
        id: Unique in the file.
        text: The question.
        context: Index of its context.
        answers: None where it is impossible.
        impossible: The context does not answer it (v2.0 only).
    """

    id: str
    text: str
    context: int
    answers: tuple[Answer, ...]
    impossible: bool = False


class Dataset(NamedTuple):
    """A file of questions.

    Attributes:
        origin: Path of the file, for messages.
        version_2: Some questions may be impossible.
        contexts: Texts, none of them blank.
        questions: In the order of the file, those of a context together.
        problems: One line for each answer that does not stand at its offset.
    """

    origin: str
    version_2: bool
    contexts: list[str]
    questions: list[Question]
    problems: list[str]


def read(path: str, version_2: bool = False, strict: bool = False) -> Dataset:
    """Reads SQuAD JSON, plain or gzip.

    Args:
        path: The file.
        version_2: It is v2.0, some questions have no answer.
        strict: Refuse answers that do not stand at their offset; they are
            in `problems` otherwise.

    Raises:
        ValueError: No JSON, a missing key or a value of another kind, an
            empty context, an id that occurs twice, a question without an
            answer or a v2.0 file where `version_2` is false; names the file
            and the place.
        OSError: The file cannot be read.
    """
    content = _json(path)
    version = content.get("version") if isinstance(content, dict) else None
    if not version_2 and str(version).lower().startswith(("2", "v2")):
        raise ValueError(
            f"{path}: a file of version {version}, and v1.1 was asked for; "
            "read it as v2.0 (--version_2_with_negative)."
        )
    dataset = Dataset(path, version_2, [], [], [])
    seen = set()
    for a, article in _items(content, "data", path):
        where = f"{path}: data[{a}]"
        for p, paragraph in _items(article, "paragraphs", where):
            place = f"{where}.paragraphs[{p}]"
            context = _get(paragraph, "context", str, place)
            if not context.strip():
                raise ValueError(f"{place}: an empty context.")
            dataset.contexts.append(context)
            for q, entry in _items(paragraph, "qas", place):
                question = _question(entry, dataset, f"{place}.qas[{q}]")
                if question.id in seen:
                    raise ValueError(
                        f"{place}.qas[{q}]: the id {question.id!r} is that of "
                        "an earlier question."
                    )
                seen.add(question.id)
                dataset.questions.append(question)
    if not dataset.questions:
        raise ValueError(f"{path}: no questions in it.")
    if strict and dataset.problems:
        raise ValueError(
            f"{path}: {len(dataset.problems)} answers do not stand at their "
            f"answer_start, first: {dataset.problems[0]}"
        )
    return dataset


def read_predictions(path: str) -> dict[str, str]:
    """Reads {question id: answer} from JSON, plain or gzip.

    Raises:
        ValueError: Not such a file; names the place.
        OSError: The file cannot be read.
    """
    content = _json(path)
    if not isinstance(content, dict):
        raise ValueError(
            f"{path}: expected {{question id: answer}}, received "
            f"{_kind(content)}."
        )
    for name, answer in content.items():
        if not isinstance(answer, str):
            raise ValueError(
                f"{path}: the prediction for {name!r} must be a string, "
                f"received {_kind(answer)}."
            )
    return content


def stands(answer: Answer, context: str) -> bool:
    """Whether the answer is not blank and is at its offset."""
    return (
        bool(answer.text.strip())
        and answer.start >= 0
        and context.startswith(answer.text, answer.start)
    )


def _question(entry, dataset: Dataset, where: str) -> Question:
    name = _get(entry, "id", str, where)
    text = _get(entry, "question", str, where)
    answers = []
    for i, answer in _items(entry, "answers", where):
        place = f"{where}.answers[{i}]"
        given = _get(answer, "text", str, place)
        answers.append(Answer(given, _get(answer, "answer_start", int, place)))
    impossible = entry.get("is_impossible", dataset.version_2 and not answers)
    if not isinstance(impossible, bool):
        raise ValueError(
            f"{where}: 'is_impossible' must be true or false, received "
            f"{_kind(impossible)}."
        )
    if impossible and not dataset.version_2:
        raise ValueError(
            f"{where}: an impossible question, as in v2.0, and v1.1 was asked "
            "for; read it as v2.0 (--version_2_with_negative)."
        )
    if impossible == bool(answers):
        raise ValueError(
            f"{where}: {len(answers)} answers to a question that is "
            f"{'impossible' if impossible else 'possible'}."
        )
    question = Question(
        name, text, len(dataset.contexts) - 1, tuple(answers), impossible
    )
    dataset.problems.extend(_problems(question, dataset.contexts[-1], where))
    return question


def _problems(question: Question, context: str, where: str):
    for text, start in question.answers:
        if stands(Answer(text, start), context):
            continue
        there = context[start : start + len(text)] if start >= 0 else ""
        yield (
            f"{where} ({question.id}): the answer {text!r} is not at "
            f"{start}, there is {there!r}."
        )


def _json(path: str):
    content = pathlib.Path(path).read_bytes()
    try:
        if content.startswith(_GZIP):
            content = gzip.decompress(content)
        return json.loads(content.decode("utf-8-sig"))
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path}: damaged gzip ({error}).") from error
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: not UTF-8 at byte {error.start} ({error.reason})."
        ) from error
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path}, line {error.lineno}, column {error.colno}: not JSON "
            f"({error.msg})."
        ) from error
    except RecursionError as error:
        raise ValueError(f"{path}: JSON nested too deeply.") from error


def _items(parent, key: str, where: str):
    return enumerate(_get(parent, key, list, where))


def _get(parent, key: str, kind: type, where: str):
    if not isinstance(parent, dict):
        raise ValueError(
            f"{where}: expected an object with {key!r}, received "
            f"{_kind(parent)}."
        )
    if key not in parent:
        raise ValueError(
            f"{where}: no {key!r}; there is {', '.join(parent) or 'nothing'}."
        )
    value = parent[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(
            f"{where}: {key!r} must be {_KINDS[kind]}, received {_kind(value)}."
        )
    return value


def _kind(value) -> str:
    return _KINDS.get(type(value)) or json.dumps(value)
