"""What study.json and trials.jsonl hold: one schema for all who use them.

Nothing that a file names is imported, called or made: texts stay texts.
"""

import re
from collections.abc import Mapping
from typing import Annotated
from typing import Any
from typing import Literal
from typing import get_args

from msgspec import Meta
from typing_extensions import NotRequired
from typing_extensions import TypedDict

from lbcheck.support import schema
from lbcheck.support.schema import LARGEST_METRIC
from lbcheck.support.schema import Count
from lbcheck.support.schema import Index
from lbcheck.support.schema import Name
from lbcheck.support.schema import Number
from lbcheck.support.schema import Whole

FORMAT = 1
Part = Literal["validation", "training"]
"""Whose metric: the validation data's, or as many training examples'."""
PARTS = get_args(Part)
ALL_PARTS = ("test", *PARTS)
MOST_ARMS = 100
MOST_POINTS = 10_000
"""Points of its space that an arm can try."""
MOST_SEEDS = 1_000

_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufffe\uffff]"
)
"""What a terminal obeys, what turns a line around, or a page cannot hold."""

Metric = Annotated[float, Meta(ge=-LARGEST_METRIC, le=LARGEST_METRIC)]
Amount = Annotated[float, Meta(ge=0, le=LARGEST_METRIC)]
Value = Number | str | bool | None
"""Value of a hyperparameter."""
Margin = Annotated[float, Meta(gt=0, le=LARGEST_METRIC)] | None
Points = Annotated[int, Meta(ge=1, le=MOST_POINTS)]


class Judged(TypedDict):
    """The metric that trials are judged by."""

    name: Name
    mode: Literal["max", "min"]


class Facts(TypedDict):
    """What the workload is, as far as the report reads it."""

    num_train: NotRequired[Count | None]
    num_validation: NotRequired[Count | None]
    num_test: NotRequired[Count | None]
    chance: NotRequired[Annotated[float, Meta(ge=0, le=1)] | None]
    only_validation: NotRequired[bool]
    compiled_for_each_trial: NotRequired[str]
    same_initial_weights: NotRequired[bool]


class Assignment(TypedDict):
    """What an optimizer does to one variable."""

    variable: str
    shape: list[Index]
    decay: bool
    adapt: bool
    rule: str


class Arm(TypedDict):
    """One arm; its space is checked by `Space.from_dict`."""

    optimizer: str
    schedule: str
    layer_wise: bool
    space: dict[str, Any]
    fixed: dict[str, Any]
    fallback: NotRequired[str | None]
    audit: NotRequired[list[Assignment]]


class Parent(TypedDict):
    """The study that another one follows, see `lineage`."""

    name: Name
    digest: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    steps: Count
    best: dict[Name, dict[Name, Value]]


class Study(TypedDict):
    """study.json."""

    name: Name
    workload: str
    lbcheck: str
    command: Annotated[list[str], Meta(min_length=1)] | str
    flagfile: NotRequired[str | None]
    facts: NotRequired[Facts]
    batch_size: Count
    steps: Count
    seed: Whole
    threads: NotRequired[Annotated[int, Meta(ge=1, le=100_000)]]
    metric: Judged
    selection: Part
    margin: Margin
    first_margin: NotRequired[Margin]
    target: Metric | None
    trials: Points
    refined_trials: Annotated[int, Meta(ge=0, le=MOST_POINTS)]
    challenge_trials: NotRequired[Annotated[int, Meta(ge=0, le=MOST_POINTS)]]
    searches: NotRequired[Annotated[int, Meta(ge=1, le=MOST_SEEDS)]]
    control_batch_size: NotRequired[Count | None]
    seeds: Annotated[int, Meta(ge=1, le=MOST_SEEDS)]
    search_seeds: NotRequired[Annotated[int, Meta(ge=1, le=MOST_SEEDS)]]
    feasible: NotRequired[bool]
    parent: NotRequired[Parent]
    arms: Annotated[
        dict[Name, dict[str, Any]], Meta(min_length=1, max_length=MOST_ARMS)
    ]
    environment: NotRequired[dict[str, Value | list[str]]]
    challengers: NotRequired[Annotated[list[Name], Meta(max_length=MOST_ARMS)]]
    baselines: NotRequired[Annotated[list[Name], Meta(max_length=MOST_ARMS)]]


class Bad(TypedDict):
    """Where a trial diverged."""

    step: Annotated[int, Meta(ge=-1, le=schema.COUNT)]
    variable: str | None


class Point(TypedDict):
    """A point of a curve."""

    step: Count
    validation: NotRequired[dict[str, Metric | None]]
    training: NotRequired[dict[str, Metric | None]]


class Layer(TypedDict):
    """Diagnostics of one variable, one number per step."""

    path: str
    shape: list[Index]
    trust_ratio: list[Amount | None]
    effective_rate: list[Amount | None]
    relative_update: list[Amount | None]


class Diagnostics(TypedDict):
    """What the layers of a run took."""

    steps: Annotated[list[Index], Meta(min_length=1)]
    variables: Annotated[list[Layer], Meta(min_length=1)]


class Finding(TypedDict):
    """One thing that the schedule doctor says."""

    step: int | None
    severity: str
    code: str
    size: str
    what: str
    fix: str


class Schedule(TypedDict):
    """The learning rates of a run, and what the doctor says of them."""

    steps: list[Index]
    rates: list[Metric | None]
    findings: list[Finding]


class Record(TypedDict):
    """A line of trials.jsonl."""

    arm: str
    stage: Literal["broad", "replacement", "refined", "challenge", "confirm"]
    index: Index
    trial: NotRequired[Index]
    seed: Whole
    hyperparameters: dict[Name, Value]
    status: Literal["finished", "diverged"]
    steps: Index
    examples: Whole
    seconds: Annotated[float, Meta(ge=0, le=1e12)]
    metrics: NotRequired[dict[str, dict[str, Metric | None]] | None]
    test_groups: NotRequired[
        Annotated[list[Metric | None], Meta(min_length=1, max_length=1_000)]
    ]
    bad: NotRequired[Bad | None]
    curve: list[Point]
    diagnostics: NotRequired[Diagnostics | None]
    schedule: NotRequired[Schedule | None]


def parts_of(study: Mapping[str, Any]) -> tuple[str, ...]:
    """The parts of the data that confirming runs are evaluated on.

    The first is what they are judged by: the test data where there are any.
    """
    facts = study.get("facts") or {}
    if facts.get("only_validation"):
        return PARTS[:1]
    return PARTS if facts.get("num_test") is None else ALL_PARTS


def check_study(study: Any, where: str) -> dict:
    """The study itself, if it is one.

    Args:
        study: Content of study.json.
        where: The file, for messages.

    Raises:
        ValueError: Says where in it, what was expected and what was received.
    """
    from lbcheck.search import space
    from lbcheck.study import protocol

    schema.check(study, dict[str, Any], where)
    if "format" not in study or study["format"] != FORMAT:
        raise ValueError(
            f"{where}: the format of the study must be {FORMAT}, received "
            f"{schema.shown(study.get('format'))}; it was written by another "
            "version of lbcheck."
        )
    schema.check(study, Study, where)
    _check_texts(study, where)
    for name, arm in study["arms"].items():
        schema.check(arm, Arm, f"{where}: arm {name!r}")
        space.Space.from_dict(arm["space"], f"{where}: arm {name!r}")
    _check_sides(study, where)
    try:
        protocol.Protocol(study)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    return study


def _check_sides(study, where):
    sides = [study.get(name) for name in ("challengers", "baselines")]
    if sides == [None, None]:
        return
    if None in sides:
        raise ValueError(
            f"{where}: challengers and baselines must be given together."
        )
    named = [arm for side in sides for arm in side]
    if len(set(named)) < len(named) or not set(named) <= set(study["arms"]):
        raise ValueError(
            f"{where}: challengers and baselines must name arms, each once: "
            f"{', '.join(study['arms'])}; received "
            f"{', '.join(map(schema.shown, named))}."
        )


def check_record(record: Any, study: dict, where: str) -> dict:
    """The record of a trial itself, if it is one of this study.

    Args:
        record: A line of trials.jsonl.
        study: As `check_study` returns it.
        where: File and line, for messages.

    Raises:
        ValueError: Says where in it, what was expected and what was received.
    """
    check_outcome(record, study, where)
    if record["arm"] not in study["arms"]:
        raise ValueError(
            f"{where}: arm must be one of {', '.join(study['arms'])}, "
            f"received {schema.shown(record['arm'])}."
        )
    _check_place(record, study, where)
    return record


def check_outcome(record: Any, study: dict, where: str) -> None:
    """The same of a record whose task is known to be one of the study.

    The study may have more seeds and trials elsewhere than here.
    """
    schema.check(record, Record, where)
    _check_texts(record, where)
    _check_steps(record, study["steps"], where)
    _check_metrics(record, study, where)


SIZES = {"broad": "trials", "refined": "refined_trials", "confirm": "seeds"}
"""{stage: the study's number of trials in it}."""


def most_replacements(study: Mapping[str, Any]) -> int:
    """Points of an arm that can replace trials that diverged."""
    return 2 * study["trials"] if study.get("feasible") else 0


def _check_place(record, study, where):
    """Indices count within a stage; a challenge goes on where broad ends."""
    stage, first = record["stage"], study["trials"]
    further = range(first, first + study.get("challenge_trials", 0))
    ranges = {"index": further}
    if stage == "replacement":
        ranges["index"] = range(most_replacements(study))
    elif stage != "challenge":
        repeats = study.get("search_seeds", 1) if stage == "broad" else 1
        ranges["index"] = range(study[SIZES[stage]] * repeats)
    if "trial" in record:
        ranges["trial"] = further if stage == "confirm" else range(0)
    for name, numbers in ranges.items():
        if record[name] not in numbers:
            raise ValueError(
                f"{where}: {name} must be at least {numbers.start} and below "
                f"{numbers.stop} in stage {stage!r} of this study, received "
                f"{record[name]}."
            )


def _check_texts(value, where):
    """Refuses what could command a terminal or break a page."""
    waiting = [value]
    while waiting:
        found = waiting.pop()
        if isinstance(found, dict):
            waiting += [*found, *found.values()]
        elif isinstance(found, list):
            waiting += found
        elif isinstance(found, str) and _CONTROL.search(found):
            raise ValueError(
                f"{where}: a text has control characters: "
                f"{schema.shown(found)}."
            )


def _check_steps(record, steps, where):
    diagnostics = record.get("diagnostics") or {"steps": [], "variables": []}
    schedule = record.get("schedule") or {"steps": [], "rates": []}
    for what, found, first, last in (
        ("steps", [record["steps"]], 0, steps),
        ("curve", [point["step"] for point in record["curve"]], 1, steps),
        ("diagnostics.steps", diagnostics["steps"], 0, steps - 1),
        ("schedule.steps", schedule["steps"], 0, steps - 1),
    ):
        ordered = found == sorted(set(found))
        if found and not (first <= found[0] and found[-1] <= last and ordered):
            raise ValueError(
                f"{where}: {what}: expected increasing steps from {first} to "
                f"{last}, received {schema.shown(found)}."
            )
    for what, numbers, expected in (
        ("schedule.rates", schedule["rates"], schedule["steps"]),
        *(
            (f"diagnostics.{name}", variable[name], diagnostics["steps"])
            for variable in diagnostics["variables"]
            for name in ("trust_ratio", "effective_rate", "relative_update")
        ),
    ):
        if len(numbers) != len(expected):
            raise ValueError(
                f"{where}: {what}: expected {len(expected)} numbers, one "
                f"per step, received {len(numbers)}."
            )


def _check_metrics(record, study, where):
    name = study["metric"]["name"]
    parts = parts_of(study)
    if record["stage"] != "confirm":
        parts = tuple(part for part in parts if part in PARTS)
    for point in record["curve"]:
        if "validation" not in point:
            raise ValueError(
                f"{where}: curve: step {point['step']} has no validation."
            )
        for part in PARTS:
            if name not in point.get(part, {name: None}):
                raise ValueError(
                    f"{where}: curve: step {point['step']} has no {part} "
                    f"{schema.shown(name)}."
                )
    if record["status"] == "diverged":
        return
    for part in dict.fromkeys((*parts, study["selection"])):
        value = ((record.get("metrics") or {}).get(part) or {}).get(name)
        if value is None:
            raise ValueError(
                f"{where}: a finished trial has a number in metrics, {part}, "
                f"{schema.shown(name)}; received {value!r}."
            )
