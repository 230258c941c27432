"""Which reproductions there are, and where their files lie.

>>> load()["table7"].studies["table7"].published["lamb"]
'you2019_table7_lamb'
"""

import pathlib
from typing import NamedTuple

from typing_extensions import NotRequired
from typing_extensions import TypedDict

from lbcheck.published import rows
from lbcheck.study import study_folder
from lbcheck.support import schema
from lbcheck.support import shipped

INDEX = pathlib.Path(__file__).with_name("index.json")
FOLDER = "docs/reproductions"


class _Study(TypedDict):
    flagfile: schema.Name
    published: NotRequired[dict[schema.Name, schema.Name]]


class _Entry(TypedDict):
    title: schema.Name
    processor: schema.Name
    verify: schema.Name
    studies: dict[schema.Name, _Study]


class Study(NamedTuple):
    """A study of a reproduction.

    Attributes:
        name: Its folder, under docs/reproductions.
        flagfile: From the top of a checkout.
        published: {arm: row of `lbcheck published` that it is after}.
    """

    name: str
    flagfile: str
    published: dict[str, str]

    @property
    def path(self) -> pathlib.Path:
        """The folder of its record."""
        return shipped.path(f"{FOLDER}/{self.name}")

    def load(self) -> study_folder.Folder:
        """The record, checked.

        Raises:
            ValueError: It is missing or damaged; names the file.
        """
        return study_folder.load(self.path)

    def expected(self, arm: str) -> str:
        """The published score that an arm is after, as printed; "" if none."""
        row = self.published.get(arm)
        return rows.find(row).expected() if row else ""


class Reproduction(NamedTuple):
    """A claim that was run again.

    Attributes:
        name: Of its page, docs/reproductions/NAME.md.
        title: What is reproduced.
        processor: Of the machine that made the records.
        verify: The study of which `verify` runs one seed again.
        studies: {name: Study}.
    """

    name: str
    title: str
    processor: str
    verify: str
    studies: dict[str, Study]

    @property
    def page(self) -> pathlib.Path:
        """Its page."""
        return shipped.path(f"{FOLDER}/{self.name}.md")


def load() -> dict[str, Reproduction]:
    """{name: reproduction}.

    Raises:
        ValueError: index.json is damaged; names the entry.
    """
    found = {}
    for name, entry in schema.read(INDEX, dict[schema.Name, dict]).items():
        schema.check(entry, _Entry, f"{INDEX}: {name}")
        studies = {
            study: Study(study, about["flagfile"], about.get("published", {}))
            for study, about in entry["studies"].items()
        }
        if entry["verify"] not in studies:
            raise ValueError(
                f'{INDEX}: {name}: "verify" must be one of '
                f"{', '.join(studies)}, received {entry['verify']!r}."
            )
        found[name] = Reproduction(
            name, entry["title"], entry["processor"], entry["verify"], studies
        )
    return found


def find(name: str) -> Reproduction:
    """The reproduction of a name.

    Raises:
        ValueError: There is none; says which there are.
    """
    found = load()
    if name not in found:
        raise ValueError(
            f"no reproduction is called {name!r}; expected one of "
            f"{', '.join(found)}."
        )
    return found[name]
