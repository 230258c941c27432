"""Files of SQuAD v1.1 and v2.0, and of predictions, read and checked."""

import io
from collections.abc import Iterator
from typing import Any
from typing import NamedTuple

from typing_extensions import NotRequired
from typing_extensions import TypedDict

from bert.pretraining_data import inputs
from lbcheck.support import schema

_LARGEST = 2**28
"""Bytes of a file's JSON; SQuAD has 2**25."""
_LAYOUT = (
    "expected SQuAD's {'data': [{'paragraphs': [{'context', 'qas'}]}]}, or "
    "objects with 'id', 'question', 'context' and 'answers' in a list or one "
    "a line"
)


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


class _Answer(TypedDict):
    text: str
    answer_start: schema.Number  # 30.0 where a table was in between


class _Columns(TypedDict):
    """Answers of a question as Hugging Face's datasets hold them."""

    text: list[str]
    answer_start: list[schema.Number]


class _Entry(TypedDict):
    id: schema.Number | str
    question: str
    answers: NotRequired[list[_Answer] | _Columns | None]
    is_impossible: NotRequired[bool | None]


class _Row(_Entry):
    """A question with its context, as Hugging Face's datasets have them."""

    context: str


class _Paragraph(TypedDict):
    context: str
    qas: list[_Entry]


class _Article(TypedDict):
    paragraphs: list[_Paragraph]


class _Articles(TypedDict):
    data: list[_Article]


class _Rows(TypedDict):
    data: list[_Row]


def read(
    path: str,
    version_2: bool = False,
    strict: bool = False,
    answered: bool = False,
) -> Dataset:
    """Reads SQuAD JSON, or one JSON object per line; also compressed.

    Args:
        path: The file.
        version_2: It is v2.0, some questions have no answer.
        strict: Refuse answers that do not stand at their offset; they are
            in `problems` otherwise.
        answered: For training and evaluation: refuse questions without an
            answer that are not said to be impossible, with which nothing but
            a prediction can do.

    Raises:
        ValueError: No JSON, a missing key or a value of another kind, an
            empty context, an id that occurs twice, a question without an
            answer or an impossible one where `version_2` is false; names the
            file and the place.
        OSError: The file cannot be read.
    """
    dataset = Dataset(path, version_2, [], [], [])
    seen = set()
    for where, context, entry in _entries(path):
        if not context.strip():
            raise ValueError(f"{where}: an empty context.")
        if not dataset.contexts or dataset.contexts[-1] != context:
            dataset.contexts.append(context)
        question = _question(entry, dataset, answered, where)
        if question.id in seen:
            raise ValueError(
                f"{where}: the id {schema.shown(question.id)} is that of an "
                "earlier question."
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
    """Reads {question id: answer} from JSON, plain or compressed.

    Raises:
        ValueError: Not such a file; names the place.
        OSError: The file cannot be read.
    """
    content = schema.parse(_bytes(path), Any, path)
    if not isinstance(content, dict):
        raise ValueError(
            f"{path}: expected {{question id: answer}}, received "
            f"{schema.shown(content)}."
        )
    for name, answer in content.items():
        if not isinstance(answer, str):
            raise ValueError(
                f"{path}: the prediction for {schema.shown(name)} must be a "
                f"string, received {schema.shown(answer)}."
            )
    return content


def stands(answer: Answer, context: str) -> bool:
    """Whether the answer is not blank and is at its offset."""
    return (
        bool(answer.text.strip())
        and answer.start >= 0
        and context.startswith(answer.text, answer.start)
    )


def _entries(path: str) -> Iterator[tuple[str, str, _Entry]]:
    """(its place, its context, the question) of each question of a file."""
    text = _bytes(path)
    if text.lstrip().partition(b"\n")[0].rstrip().endswith(b"}"):
        lines = enumerate(text.splitlines(), 1)
        rows = [(f"{path}:{n}", line) for n, line in lines if line.strip()]
        if len(rows) > 1:
            yield from _of_lines(rows)
            return
    content = schema.parse(text, Any, path)
    if isinstance(content, dict) and "data" not in content:
        content = [content]
    entries = content["data"] if isinstance(content, dict) else content
    first = entries[0] if isinstance(entries, list) and entries else {}
    keys = first.keys() if isinstance(first, dict) else ()
    if entries != [] and not {"context", "paragraphs"} & set(keys):
        raise ValueError(
            f"{path}: {_LAYOUT}, received {schema.shown(content)}."
        )
    flat = "context" in keys
    if entries is content:
        schema.check(content, list[_Row if flat else _Article], path)
    else:
        schema.check(content, _Rows if flat else _Articles, path)
    for index, item in enumerate(entries):
        where = f"{path}: {'' if entries is content else 'data'}[{index}]"
        if flat:
            yield where, item["context"], item
        else:
            yield from _of_article(item, where)


def _of_lines(rows):
    for where, line in rows:
        row = schema.parse(line, _Row, where)
        yield where, row["context"], row


def _of_article(article: _Article, where: str):
    for p, paragraph in enumerate(article["paragraphs"]):
        for q, entry in enumerate(paragraph["qas"]):
            place = f"{where}.paragraphs[{p}].qas[{q}]"
            yield place, paragraph["context"], entry


def _question(entry, dataset: Dataset, answered: bool, where: str) -> Question:
    answers = tuple(_answers(entry.get("answers") or [], where))
    impossible = entry.get("is_impossible")
    if impossible is None:
        impossible = dataset.version_2 and answered and not answers
    if impossible and not dataset.version_2:
        raise ValueError(
            f"{where}: an impossible question, as in v2.0, and v1.1 was asked "
            "for; read it as v2.0 (--version_2_with_negative)."
        )
    if impossible and answers:
        raise ValueError(
            f"{where}: {len(answers)} answers to a question that is impossible "
            "(is_impossible)."
        )
    if answered and not answers and not impossible:
        raise ValueError(
            f"{where}: no answers, which only --mode=predict does without; "
            "questions that have none are v2.0's (is_impossible is true, "
            "--version_2_with_negative)."
        )
    question = Question(
        _text(entry["id"]),
        entry["question"],
        len(dataset.contexts) - 1,
        answers,
        impossible,
    )
    dataset.problems.extend(_problems(question, dataset.contexts[-1], where))
    return question


def _text(name) -> str:
    """An id as text: 262 and 262.0 are "262"."""
    whole = isinstance(name, float) and name.is_integer()
    return str(int(name) if whole else name)


def _answers(given, where: str) -> Iterator[Answer]:
    if isinstance(given, dict):
        texts, starts = given["text"], given["answer_start"]
        if len(texts) != len(starts):
            raise ValueError(
                f"{where}.answers: {len(texts)} texts and {len(starts)} "
                "answer_start."
            )
    else:
        texts = [answer["text"] for answer in given]
        starts = [answer["answer_start"] for answer in given]
    for text, start in zip(texts, starts):
        if start != int(start):
            raise ValueError(
                f"{where}.answers: answer_start must be a whole number, "
                f"received {start!r}."
            )
        yield Answer(text, int(start))


def _problems(question: Question, context: str, where: str):
    for text, start in question.answers:
        if stands(Answer(text, start), context):
            continue
        there = context[start : start + len(text)] if start >= 0 else ""
        yield (
            f"{where} ({schema.shown(question.id)}): the answer "
            f"{schema.shown(text)} is not at {start}, there is "
            f"{schema.shown(there)}."
        )


def _bytes(path: str) -> bytes:
    """What a file holds when it is unpacked."""
    content = schema.read_bytes(path)
    name, opener = inputs.compression(path)
    if name:
        try:
            with opener(io.BytesIO(content)) as file:
                content = file.read(_LARGEST + 1)
        except inputs.BROKEN as error:
            raise ValueError(f"{path}: damaged {name} ({error}).") from error
    if len(content) > _LARGEST:
        raise ValueError(f"{path}: has more than {_LARGEST:,} bytes.")
    what = inputs.binary(content[:4096])
    if what:
        raise ValueError(f"{path}: {what}")
    return content
