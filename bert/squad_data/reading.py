"""Files of SQuAD v1.1 and v2.0, and of predictions, read and checked."""

from typing import NamedTuple


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
    raise NotImplementedError


def read_predictions(path: str) -> dict[str, str]:
    """Reads {question id: answer} from JSON, plain or gzip.

    Raises:
        ValueError: Not such a file; names the place.
        OSError: The file cannot be read.
    """
    raise NotImplementedError
