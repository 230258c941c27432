"""An arm of a study: an optimizer with its schedule and its search space.

Importing this module imports no framework.
"""

import copy
import dataclasses
import importlib
import json
import pathlib
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Mapping
from typing import Any

from lbcheck import optimizers
from lbcheck import schedules
from lbcheck.schedules import arrays
from lbcheck.schedules import base
from lbcheck.search import routing
from lbcheck.search import space as spaces
from lbcheck.settings import schedule as families
from lbcheck.support import errors
from lbcheck.support import kerases
from lbcheck.support import load_object
from lbcheck.support import plugins
from lbcheck.support import schema
from lbcheck.support import shipped

_FOLDER = pathlib.Path(__file__).parent / "arms"

BUILT_IN = tuple(sorted(path.stem for path in _FOLDER.glob("*.json")))
"""Names of the arms that come with this package."""

_WITHIN = 1e-9
"""How far from the ends of a range, as a share of it, its values start."""

_KEYS = ("optimizer", "space", "schedule", "layer_wise", "fallback", "fixed")


class Arm:
    """One side of a comparison: an optimizer and how it is tuned.

    A hyperparameter is called as the argument that takes it: an argument of
    the schedule, of the optimizer, `fallback_X` for the argument X of the
    fallback, or an argument of the workload's build_model.

    Args:
        name: What tables and figures call it.
        optimizer: An optimizer of this package in lower case, such as "lars";
            or a Keras optimizer class or any function
            (learning_rate, hyperparameters...) -> optimizer; or the latter
            as "module:attribute".
        space: What is searched: an `lbcheck.search.space.Space`, its dict or
            its JSON file, or a dict {hyperparameter: specification}. None
            takes that of the built-in arm of this optimizer.
        schedule: A family of `lbcheck.settings.schedule.FAMILIES`, or such a
            function elsewhere, as "module:function". Where it needs
            `warmup_steps` and neither the space nor `fixed` has it, there is
            no warm-up.
        layer_wise: Whether the rates are layer-wise, so that this arm is
            compared with those that are not. None: for lars, lamb
            and muon.
        fallback: For lars and lamb: the optimizer by name of the variables
            without trust ratio. Numbers that both have, it has from the
            optimizer, unless `fallback_X` is given.
        **fixed: Hyperparameters that are not searched.

    Raises:
        TypeError, ValueError: An unknown optimizer, schedule or fallback; a
            hyperparameter that is both fixed and searched, or that the
            schedule needs and nobody gives.

    Example:

        mine = lbcheck.Arm(
            "lion",
            keras.optimizers.Lion,
            {"learning_rate": {"min": 1e-5, "max": 1e-2, "scale": "log"}},
        )

    Source: Nado et al. 2021, Sections 2 and 3, for what is tuned.
    """

    def __init__(
        self,
        name: str,
        optimizer: str | Callable,
        space: spaces.Space
        | Mapping[str, Any]
        | str
        | pathlib.Path
        | None = None,
        schedule: str = "warmup_polynomial",
        layer_wise: bool | None = None,
        fallback: str | None = None,
        **fixed: Any,
    ):
        self.name = name
        self.schedule = schedule
        if not isinstance(schedule, str) or ":" not in schedule:
            self._checked("schedule", schedule, families.FAMILIES)
        self.optimizer, self._definition = self._found(optimizer)
        self.space = self._space(space)
        adapts = self._definition is not None and self._definition.adapts()
        if layer_wise not in (None, True, False):
            raise ValueError(
                f"{self}: `layer_wise` must be true, false or None, received "
                f"{schema.shown(layer_wise)}."
            )
        self.layer_wise = adapts if layer_wise is None else bool(layer_wise)
        if fallback is not None:
            self._checked("fallback", fallback, optimizers.BY_NAME)
            if not adapts:
                raise ValueError(
                    f"{self}: `fallback` is for the optimizers lars, lamb "
                    "and muon, "
                    f"received {fallback!r}."
                )
        self.fallback = fallback
        self._arguments = routing.Arguments(
            str(self),
            schedule,
            self._definition or self.optimizer,
            None if fallback is None else optimizers.BY_NAME[fallback],
        )
        self.fixed = {n: self._constant(n, v) for n, v in fixed.items()}
        self._check_names()

    def _constant(self, name, value):
        """A fixed value as study.json can hold it."""
        value = spaces.plain(value)
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{self}: `{name}` must be a finite number, a text, True, "
                "False, None, or a list or dict of these, received "
                f"{schema.shown(value)}."
            ) from error
        return value

    def _checked(self, argument, value, choices):
        if not isinstance(value, str) or value not in choices:
            raise ValueError(
                f"{self}: `{argument}` must be one of {sorted(choices)}, "
                f"received {schema.shown(value)}."
            )
        return value

    def _found(self, optimizer):
        """(name or callable, definition of this package or None)."""
        if isinstance(optimizer, str) and ":" in optimizer:
            optimizer = load_object.load(optimizer)
        if getattr(optimizer, "__module__", "").startswith("lbcheck."):
            optimizer = optimizer.__name__.lower()
        if callable(optimizer):
            return optimizer, None
        if (
            not isinstance(optimizer, str)
            or optimizer not in optimizers.BY_NAME
        ):
            raise ValueError(
                f"{self}: `optimizer` must be one of "
                f"{sorted(optimizers.BY_NAME)} or an optimizer class, received "
                f"{schema.shown(optimizer)}."
            )
        return optimizer, optimizers.BY_NAME[optimizer]

    def _space(self, space):
        if space is None:
            if self._definition is None:
                raise ValueError(
                    f"{self}: an optimizer of your own needs `space`, such as "
                    '{"learning_rate": {"min": 1e-4, "max": 1.0, "scale": '
                    '"log"}}.'
                )
            return _built_in(self.optimizer).space
        if isinstance(space, spaces.Space):
            return space
        if isinstance(space, (str, pathlib.Path)):
            return spaces.Space.load(space)
        if not isinstance(space, Mapping):
            raise TypeError(
                f"{self}: `space` must be a dict of parameters, the file of a "
                f"space or a Space, received {schema.shown(space)}."
            )
        if "parameters" not in space:
            space = {"points": "halton", "parameters": space}
        return spaces.Space.from_dict(space, origin=str(self))

    def _check_names(self):
        searched = self.space.parameters
        twice = sorted(set(self.fixed) & set(searched))
        if twice:
            raise ValueError(
                f"{self}: {', '.join(twice)} must be either fixed or in the "
                "space, not both."
            )
        for name in self._arguments.needed:
            if name in self.fixed or name in searched:
                continue
            if name != "warmup_steps":
                raise ValueError(
                    f"{self}: the schedule {self.schedule} needs `{name}`; "
                    f"put it into the space or fix it: Arm(..., {name}=...)."
                )
            self.fixed[name] = 0
        self.resolve(dict.fromkeys(searched))
        self._check_values()

    def _check_values(self):
        """Refuses values that no trial could be made with.

        Each value of each list is tried beside the first of the others, and
        with each dialect; of a range what lies just within its ends.
        """
        values = {
            name: parameter.choices
            or (parameter.value(_WITHIN), parameter.value(1 - _WITHIN))
            for name, parameter in self.space.parameters.items()
            if parameter.of is None
        }
        first = {name: choices[0] for name, choices in values.items()}
        for dialect in values.get("dialect", (None,)):
            given = first if dialect is None else first | {"dialect": dialect}
            for name, choices in values.items():
                for value in choices if name != "dialect" else (dialect,):
                    self._arguments.check(self.resolve(given | {name: value}))

    def resolve(
        self,
        hyperparameters: Mapping[str, Any],
        model_arguments: Collection[str] | None = None,
    ) -> routing.Split:
        """Who takes which hyperparameter, the fixed ones included.

        Args:
            hyperparameters: {name: value}, a point of the space.
            model_arguments: Names that build_model takes; None where they
                are not known, so that what nobody else takes is the model's.

        Returns:
            A `Split` into the dicts optimizer, fallback, schedule and model.

        Raises:
            ValueError: A name that is no argument of any of them.
        """
        return self._arguments.split(
            {**self.fixed, **hyperparameters}, model_arguments
        )

    def variable_names(
        self, hyperparameters: Mapping[str, Any]
    ) -> tuple[str, ...]:
        """The hyperparameters that `make` takes as scalar variables, too.

        They are the numbers of the schedule, of the model and of this
        package's optimizers, but for what their state starts with. Other
        optimizers check or branch on theirs when they are made, so those
        stay numbers.

        Args:
            hyperparameters: {name: number or text}, a point of the space.
        """
        return self._arguments.variables(hyperparameters)

    def check(
        self,
        hyperparameters: Mapping[str, Any],
        steps: int,
        model_arguments: Collection[str] | None = None,
    ) -> None:
        """Refuses numbers out of range, which no variable would tell.

        Args:
            hyperparameters: {name: number or text}, a point of the space.
            steps: Updates of the run, at least 1.
            model_arguments: As for `resolve`.

        Raises:
            ValueError: Names the arm and the argument, with its range.
        """
        self._arguments.check(self.resolve(hyperparameters, model_arguments))
        self.schedule_of(hyperparameters, steps)

    def schedule_of(
        self, hyperparameters: Mapping[str, Any], steps: int
    ) -> schedules.Schedule:
        """The learning rate schedule of a point of the space.

        Args:
            hyperparameters: {name: number or scalar variable}.
            steps: Updates of the run, at least 1.

        Returns:
            A schedule of `lbcheck.schedules`.

        Raises:
            ValueError: A number that the schedule refuses.
        """
        given = self.resolve(hyperparameters).schedule
        if any(base.is_array(value) for value in given.values()):
            return _Live(self.schedule, steps, tuple(given.items()))
        with routing.named(str(self)):
            return families.family(self.schedule)(steps, **given)

    def make(
        self,
        keras_name: str,
        hyperparameters: Mapping[str, Any],
        steps: int,
        rate: Any = None,
    ) -> Any:
        """A new optimizer.

        Args:
            keras_name: "keras3" or "tf_keras".
            hyperparameters: {name: number or text}, a point of the space;
                those of `variable_names` may be scalar variables of that
                Keras instead, which may be assigned to between runs. Those
                of the model are left out.
            steps: Updates of the run, at least 1.
            rate: A learning rate schedule of that Keras in place of the
                arm's; None: the arm's.

        Returns:
            An optimizer of that Keras.

        Raises:
            TypeError: An optimizer of the other Keras.
            ValueError: A number that the optimizer or the schedule refuses.
        """
        given = {
            name: _native(value) for name, value in hyperparameters.items()
        }
        split = self.resolve(given)
        if rate is None:
            rate = self.schedule_of(given, steps).as_keras(keras_name)
        if self._definition is None:
            return self._made_by_user(keras_name, rate, split.optimizer)
        room = importlib.import_module(f"lbcheck.{keras_name}")
        with routing.named(str(self)):
            given = dict(split.optimizer)
            if self.fallback is not None:
                name = optimizers.BY_NAME[self.fallback].__name__
                other = getattr(room, name)
                given["fallback"] = other(**split.fallback)
            cls = getattr(room, self._definition.__name__)
            return cls(learning_rate=rate, **given)

    def _made_by_user(self, keras_name, rate, given):
        if isinstance(self.optimizer, type):
            # Before it meets a schedule of the wrong Keras.
            self._check_keras(self.optimizer, keras_name)
        with errors.named(
            f"{self}: making the optimizer, whose `learning_rate` is given "
            "as a schedule of Keras,"
        ):
            made = self.optimizer(learning_rate=rate, **given)
        if hasattr(made, "apply_gradients") and not isinstance(made, type):
            self._check_keras(type(made), keras_name)
        library = importlib.import_module(kerases.LIBRARIES[keras_name])
        if not isinstance(made, library.optimizers.Optimizer):
            raise TypeError(
                f"{self}: must make an optimizer of "
                f"{library.__name__}.optimizers, received {made!r}."
            )
        if getattr(made, "_lbcheck_has_it", False):
            raise ValueError(
                f"{self}: makes the same optimizer every time, so that a "
                "trial would begin with what the last one left in it; it "
                "must make a new one."
            )
        made._lbcheck_has_it = True
        inner = getattr(made, "inner_optimizer", made)
        if inner._learning_rate is not rate:
            raise ValueError(
                f"{self}: the optimizer must have the `learning_rate` that it "
                "is made with, or the study would search and report rates "
                "that it does not use; a schedule of your own goes into "
                "Arm(..., schedule='module:function')."
            )
        return made

    def _check_keras(self, cls, keras_name):
        if kerases.of(cls) != keras_name:
            raise TypeError(
                f"{self}: the model is of {keras_name}, the optimizer "
                f"{cls.__module__}.{cls.__name__} is not."
            )

    def with_space(self, space: spaces.Space) -> "Arm":
        """The same arm, which searches another space.

        Raises:
            ValueError: A hyperparameter that it cannot take.
        """
        other = copy.copy(self)
        other.fixed, other.space = dict(self.fixed), space
        other._check_names()
        return other

    def sources(self) -> list[Callable[..., Any]]:
        """The user's own classes and functions that this arm runs."""
        own = [self.optimizer] if callable(self.optimizer) else []
        if ":" in self.schedule:
            own.append(families.family(self.schedule))
        return own

    def describe(self) -> dict[str, Any]:
        """The arm as JSON-able values; `from_dict` makes it again."""
        optimizer = self.optimizer
        if callable(optimizer):
            # A partial function has no name of its own.
            named = (
                optimizer
                if hasattr(optimizer, "__qualname__")
                else (type(optimizer))
            )
            optimizer = f"{named.__module__}:{named.__qualname__}"
        return {
            "optimizer": optimizer,
            "space": self.space.to_dict(),
            "schedule": self.schedule,
            "layer_wise": self.layer_wise,
            "fallback": self.fallback,
            "fixed": dict(self.fixed),
        }

    @classmethod
    def from_dict(cls, name: str, described: Mapping[str, Any]) -> "Arm":
        """The arm that `describe` or an arm's JSON file describes.

        Raises:
            ValueError: A key that is unknown or missing.
        """
        unknown = sorted(set(described) - set(_KEYS))
        missing = [key for key in _KEYS[:2] if key not in described]
        if unknown or missing:
            raise ValueError(
                f"Arm {name}: expected the keys {list(_KEYS)}, the first two "
                f"at least; missing {missing}, unknown {unknown}."
            )
        given = dict(described)
        return cls(name, **given.pop("fixed", {}), **given)

    def __str__(self):
        return f"Arm {self.name}"

    def __repr__(self):
        return f"<{self}: {self.describe()['optimizer']}, {self.schedule}>"


def load(text: str) -> Arm:
    """The arm that a word of a command line names.

    Args:
        text: A name of `BUILT_IN`, or one that a distribution adds by an
            entry point in `lbcheck.arms`; the JSON file of an arm, which is
            called as the file and may name a file of a space, from its own
            folder, or builtin:NAME for one under flags/; or
            "module:attribute" of an `Arm`.

    Raises:
        ValueError, OSError: Nothing of that name, or it is no arm.
        absl.app.UsageError: The module or attribute is not there.
    """
    text = shipped.resolved(text)
    if text.endswith(".json"):
        return _read(pathlib.Path(text))
    if ":" in text:
        found = load_object.load(text)
    else:
        found = plugins.load(plugins.ARMS, text, BUILT_IN)
    if found is None:
        return _built_in(text)
    if not isinstance(found, Arm):
        raise ValueError(
            f"Arm {text!r}: expected an lbcheck.Arm, received {found!r}."
        )
    return found


def _built_in(name):
    if name not in BUILT_IN:
        known = ", ".join([*BUILT_IN, *plugins.names(plugins.ARMS)])
        raise ValueError(
            f"Unknown arm {name!r}; there are {known}, JSON "
            "files such as my_arm.json, and module:attribute."
        )
    return _read(_FOLDER / f"{name}.json")


def _read(path):
    described = schema.read(path, dict[str, Any])
    if isinstance(described.get("space"), str):
        described["space"] = str(path.parent / described["space"])
    try:
        return Arm.from_dict(path.stem, described)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error
    except OSError as error:
        place = schema.shown(described.get("space"))
        raise ValueError(
            f"{path}: the space {place} cannot be read: {error.strerror}."
        ) from error


def _native(value):
    """The TensorFlow variable in one of Keras 3, which mixes with NumPy."""
    inner = arrays.unwrap(value)
    return inner if arrays.root(inner) == "tensorflow" else value


@dataclasses.dataclass(frozen=True)
class _Live(schedules.Schedule):
    """A family over variables, built anew for every rate.

    What a family derives from a variable, such as the updates that a warm-up
    leaves, is so derived in the traced step, from the value at that time.
    """

    family: str
    total_steps: int
    arguments: tuple[tuple[str, Any], ...]

    def rate(self, xp, step):
        family = families.family(self.family)
        return family(self.total_steps, **dict(self.arguments)).rate(xp, step)

    def leaves(self):
        return tuple(value for _, value in self.arguments)
