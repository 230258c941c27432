"""Who takes a hyperparameter: schedule, optimizer, fallback or model.

The signatures say so. A name that several take is the schedule's before the
optimizer's before the model's; `fallback_X` is the fallback's X.
"""

import contextlib
import inspect
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Mapping
from typing import Any
from typing import NamedTuple
from typing import TypeGuard

from lbcheck.optimizers.base import Optimizer
from lbcheck.optimizers.keras_arguments import CLIPS
from lbcheck.settings import schedule as families
from lbcheck.support import checks

_FALLBACK = "fallback_"

_SLOT_VALUES = ("initial_accumulator_value",)
"""Numbers that are only read when the optimizer's state is made."""


class Split(NamedTuple):
    """Hyperparameters by who takes them, each under its argument's name."""

    optimizer: dict[str, Any]
    fallback: dict[str, Any]
    schedule: dict[str, Any]
    model: dict[str, Any]


class Arguments:
    """The arguments of an arm's schedule, optimizer and fallback.

    Args:
        owner: Whose they are, for messages.
        schedule: Name for `lbcheck.settings.schedule.family`.
        optimizer: One of `lbcheck.optimizers.ALL`, or any function of
            `learning_rate` and more.
        fallback: Another of `ALL`, or None.

    Raises:
        TypeError: If the optimizer takes no `learning_rate`.
    """

    def __init__(
        self,
        owner: str,
        schedule: str,
        optimizer: Callable,
        fallback: type[Optimizer] | None,
    ):
        self._owner = owner
        self._schedule = schedule
        self._optimizer = optimizer
        self._fallback = fallback
        with named(f"{owner}: the schedule {schedule!r}"):
            family = inspect.signature(families.family(schedule))
        self._family = dict(family.parameters)
        if self._family.pop("total_steps", None) is None:
            raise TypeError(
                f"{owner}: the schedule must take `total_steps`; received "
                f"{schedule!r}, which takes {family}."
            )
        if "learning_rate" not in inspect.signature(optimizer).parameters:
            raise TypeError(
                f"{owner}: the optimizer must take `learning_rate`; received "
                f"{optimizer!r}{inspect.signature(optimizer)}."
            )
        self._of_optimizer = _taken(optimizer)
        self._of_fallback = _taken(fallback) if fallback else set()

    @property
    def needed(self) -> tuple[str, ...]:
        """What the schedule cannot do without."""
        return tuple(
            name
            for name, parameter in self._family.items()
            if parameter.default is parameter.empty
        )

    def split(
        self,
        values: Mapping[str, Any],
        model_arguments: Collection[str] | None = None,
    ) -> Split:
        """The values by who takes them; see `Arm.resolve`."""
        split = Split({}, {}, {}, {})
        for name, value in values.items():
            short = name.removeprefix(_FALLBACK)
            known = model_arguments is None or name in model_arguments
            if name in self._family:
                split.schedule[name] = value
            elif name in self._of_optimizer:
                split.optimizer[name] = value
            elif short != name and short in self._of_fallback:
                split.fallback[short] = value
            elif short == name and known:
                split.model[name] = value
            else:
                raise ValueError(self._unknown(name, model_arguments or ()))
        for name in self._shared() & split.optimizer.keys():
            split.fallback.setdefault(name, split.optimizer[name])
        return split

    def _unknown(self, name, model_arguments):
        known = {
            f"the schedule {self._schedule}": self._family,
            "the optimizer": self._of_optimizer,
            "the fallback": {_FALLBACK + n for n in self._of_fallback},
            "build_model": model_arguments,
        }
        takers = {who: names for who, names in known.items() if names}
        listed = [
            f"{who} accepts {', '.join(sorted(names))}"
            for who, names in takers.items()
        ]
        return (
            f"{self._owner}: `{name}` is not an argument of "
            f"{' or of '.join(takers)}; {'; '.join(listed)}."
        )

    def _shared(self):
        """What the fallback has from the optimizer."""
        if self._fallback is None:
            return set()
        both = _numbers(self._optimizer) & _numbers(self._fallback)
        return both | {"exclude_from_weight_decay"}

    def variables(self, values: Mapping[str, Any]) -> tuple[str, ...]:
        """Names whose values may be variables; see `Arm.variable_names`."""
        split = self.split(values)
        of_rules = _numbers(self._optimizer)
        of_rules |= {_FALLBACK + name for name in _numbers(self._fallback)}
        whole = {*split.schedule, *split.model}
        return tuple(
            name
            for name, value in values.items()
            if name not in _SLOT_VALUES
            and checks.is_number(value)
            # A rule computes with no variable that holds whole numbers.
            and (
                name in whole
                or (name in of_rules and not isinstance(value, int))
            )
        )

    def check(self, split: Split) -> None:
        """Refuses what this package's optimizers refuse; the error says why."""
        fallback = {"fallback": self._fallback}
        for definition, given in (
            (self._optimizer, split.optimizer | fallback),
            (self._fallback, split.fallback),
        ):
            if _is_ours(definition):
                with named(self._owner):
                    definition.check(given)


@contextlib.contextmanager
def named(owner: str):
    """Puts the owner before the message of a refusal."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise type(error)(f"{owner}: {error}") from error


def _taken(optimizer) -> set[str]:
    """Arguments of an optimizer, without what every optimizer has."""
    parameters = inspect.signature(optimizer).parameters
    taken = {n for n, p in parameters.items() if p.kind is not p.VAR_KEYWORD}
    if len(taken) < len(parameters):
        taken |= set(CLIPS)  # which **kwargs hand on to Keras
    return taken - {"learning_rate", "name"}


def _numbers(optimizer) -> set[str]:
    """Arguments that are numbers of the rule, of this package's optimizers."""
    if not _is_ours(optimizer):
        return set()
    arguments = inspect.signature(optimizer).parameters
    return set(optimizer.rule_class.numbers()) & set(arguments)


def _is_ours(optimizer: Any) -> TypeGuard[type[Optimizer]]:
    """Whether it is an optimizer of this package."""
    return isinstance(optimizer, type) and issubclass(optimizer, Optimizer)
