"""Which of several parts of the data is judged."""

from collections.abc import Sequence
from typing import Protocol
from typing import TypeVar


class OfPart(Protocol):
    """What is known of a part of the data, such as an arm or a pair."""

    @property
    def part(self) -> str: ...


Found = TypeVar("Found", bound=OfPart)


def judged(found: Sequence[Found]) -> list[Found]:
    """Those of the test data; of validation, where there are no test data."""
    has_test = any(one.part == "test" for one in found)
    part = "test" if has_test else "validation"
    return [one for one in found if one.part == part]
