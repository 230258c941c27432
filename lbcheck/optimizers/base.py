"""What every lbcheck optimizer has, whichever Keras it is built for.

An optimizer is a subclass of `Optimizer` in a file of its own, which has its
signature, its manual and its rule. For each Keras it is mixed with an adapter
(``keras3_adapter.py``, ``tf_keras_adapter.py``: the only code that calls a
Keras) by ``lbcheck/keras3.py`` and ``lbcheck/tf_keras.py``.
"""

import dataclasses
import functools
import importlib
import inspect
import numbers
import operator
import reprlib
import warnings
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import ClassVar
from typing import Literal
from typing import NamedTuple

from lbcheck.optimizers import arrays
from lbcheck.optimizers import evaluation
from lbcheck.optimizers import keras_arguments
from lbcheck.optimizers import manual
from lbcheck.optimizers import rule as rules
from lbcheck.optimizers import selection
from lbcheck.support import kerases

Rate = float | Callable[..., float]
"""A number, a schedule, or a callable without arguments."""
Patterns = Sequence[str]
PatternsOrSame = Patterns | Literal["same"] | None

SAME = "same"

_WHOLE_MODEL = (
    "clipnorm",
    "clipvalue",
    "global_clipnorm",
    "use_ema",
    "loss_scale_factor",
    "gradient_accumulation_steps",
    "diagnostics_every",
)
"""Settings that act on all variables at once, so not on a fallback's."""


class DefaultRate(float):
    """A rate nobody gave: as a fallback, such an optimizer takes the main
    optimizer's rate. A float in every other way."""


_POINT = rules.Slot("training_point")
_FLAG = rules.Slot("at_evaluation_point", scalar=True)

RATE_SGD = DefaultRate(0.01)
RATE_ADAM = DefaultRate(0.001)
RATE_LION = DefaultRate(0.0001)
RATE_SCHEDULE_FREE = DefaultRate(0.0025)
RATE_SOAP = DefaultRate(0.003)


class Assignment(NamedTuple):
    """How one variable is updated.

    Attributes:
        path: Clean full path of the variable.
        shape: Its shape.
        rule: The update rule.
        decay: Whether the rule's decay acts on it.
        adapt: Whether its rate is scaled by a trust ratio.
        rate: None for the optimizer's rate, else a number or a schedule.
        fallback: Whether the rule is the fallback's.
        rate_ratios: What the rate is multiplied by, the first the outermost.
    """

    path: str
    shape: tuple[int, ...]
    rule: rules.Rule
    decay: bool
    adapt: bool
    rate: Any
    fallback: bool
    rate_ratios: tuple[Any, ...] = ()


class Diagnostics(NamedTuple):
    """What one update did to one variable, as recorded.

    Attributes:
        trust_ratio: Factor on the rate; 1.0 where the rule has none.
        weight_norm: L2 norm before the update; not a number, as update_norm,
            where a compiled update leaves less than a thousandth of a weight.
        gradient_norm: L2 norm of the gradient that the rule received.
        update_norm: L2 norm of the change of the variable.
        learning_rate: The rate before the trust ratio.
    """

    trust_ratio: float
    weight_norm: float
    gradient_norm: float
    update_norm: float
    learning_rate: float

    @property
    def effective_rate(self) -> float:
        """learning_rate * trust_ratio."""
        return self.learning_rate * self.trust_ratio


def check_rate(owner: str, learning_rate, schedule: type):
    """A rate as Keras takes it: a float, or a schedule or callable as is.

    Args:
        owner: Who was given it, for messages.
        learning_rate: A number, a schedule or a callable.
        schedule: Class of this Keras's schedules.
    """
    rate = rules.plain(learning_rate)
    if isinstance(rate, schedule):
        return rate
    if not rules.is_number(rate):
        _check_callable(owner, rate)
        return rate
    if not (rate >= 0 and rules.is_finite(rate)):
        raise ValueError(
            f"{owner}: `learning_rate` must be a finite number of at least "
            f"0, received {reprlib.repr(rate)}."
        )
    return rate if isinstance(rate, float) else float(rate)


def _check_callable(owner, rate):
    """Refuses what cannot be called for a rate, without arguments."""
    of_keras = hasattr(rate, "get_config")  # a layer, say
    if isinstance(rate, type) or of_keras or not callable(rate):
        raise TypeError(
            f"{owner}: `learning_rate` must be a number of at least 0, a "
            "schedule or a callable without arguments, received "
            f"{reprlib.repr(rate)}."
        )
    try:
        parameters = inspect.signature(rate).parameters.values()
    except (TypeError, ValueError):  # some builtins have none
        return
    needed = [
        p.name
        for p in parameters
        if p.default is p.empty
        and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    if needed:
        raise TypeError(
            f"{owner}: a callable `learning_rate` is called without arguments "
            f"at every update, received one that needs {', '.join(needed)}; "
            "give a schedule of lbcheck or Keras instead."
        )


def _check_name(owner: str, name) -> None:
    """Refuses a name that is no text or empty."""
    if not isinstance(name, str) or not name:
        raise TypeError(
            f"{owner}: `name` must be a text that is not empty, received "
            f"{name!r}."
        )


def _checked_period(owner, updates):
    """Updates between two records, as an int."""
    if isinstance(updates, bool) or not (
        isinstance(updates, numbers.Integral) and updates >= 0
    ):
        raise ValueError(
            f"{owner}: `diagnostics_every` must be a whole number of "
            f"updates, or 0 for off, received {updates!r}."
        )
    return int(updates)


def unique(paths) -> list[str]:
    """The paths, with #2, #3, ... on those that occur again."""
    seen, labels = {}, []
    for path in paths:
        seen[path] = seen.get(path, 0) + 1
        labels.append(path if seen[path] == 1 else f"{path}#{seen[path]}")
    return labels


def received(scope: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a constructor, from its `locals()`.

    >>> def constructor(self, a, b=2, **kwargs):
    ...     return received(locals())
    >>> constructor(None, 1, c=3)
    {'a': 1, 'b': 2, 'c': 3}
    """
    unsaid = ("self", "__class__", "kwargs")
    named = {n: value for n, value in scope.items() if n not in unsaid}
    return named | scope["kwargs"]


class Optimizer:
    """Settings and selection; see the module docstring.

    Attributes:
        rule_class: Class of its update rules.
        fixed: {switch: value} that the class sets, whatever the dialect.
        fallback_note: What trains the variables without a trust ratio, for
            the manual; only where there is a ratio.
        example: {argument: value} with which it is tested and compared with
            other libraries; the rate is the peak of one that changes.
        optional: Arguments that are None where they are the dialect's.
        rule: The update rule, `lbcheck.rules.Rule`.
        update_count: Number of updates completed; an array or variable.
        keras_name: Module under lbcheck, such as "keras3"; `keras_title` is
            its Keras in words; `other_*` name the other Keras.
        schedule_class: Class of this Keras's learning rate schedules.
        keras_own: Keywords of an optimizer that only this Keras has.
    """

    rule_class: ClassVar[type[rules.Rule]]
    fixed: ClassVar[dict[str, Any]] = {}
    fallback_note: ClassVar[str | None] = None
    example: ClassVar[dict[str, Any]]
    optional: ClassVar[frozenset[str]] = frozenset()
    keras_name: str
    keras_title: str
    other_name: str
    other_title: str
    schedule_class: type
    keras_own: tuple[str, ...]
    _built_into: str | None = None

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if "example" in vars(cls):  # the file of an optimizer
            parameters = inspect.signature(cls).parameters
            left = [n for n, p in parameters.items() if p.default is None]
            cls.optional = frozenset(left) - {"name"}
            cls.__doc__ = manual.of(cls)

    def __init__(
        self,
        *,
        learning_rate,
        dialect: str,
        exclude_from_weight_decay,
        exclude_from_layer_adaptation=None,
        fallback=None,
        diagnostics_every: int = 0,
        name: str | None = None,
        **others,
    ):
        owner = type(self).__name__
        fields = self.rule_class.fields()
        given = {n: value for n, value in others.items() if n in fields}
        others = {n: v for n, v in others.items() if n not in fields}
        rule = self.rule_of(dialect, given, owner)
        if rule.normalizes is None:
            self._refuse_adaptation(
                exclude_from_layer_adaptation=exclude_from_layer_adaptation,
                fallback=fallback,
            )
        name = type(self).__name__.lower() if name is None else name
        _check_name(owner, name)
        for_keras = keras_arguments.check(type(self), others, self.keras_own)
        diagnostics_every = _checked_period(owner, diagnostics_every)
        undecayed = selection.check_patterns(
            owner, "exclude_from_weight_decay", exclude_from_weight_decay
        )
        unadapted = self._checked_adaptation(
            dialect, exclude_from_layer_adaptation
        )
        if isinstance(fallback, dict):
            fallback = self._load_fallback(fallback)
        if fallback is not None:
            self._check_fallback(fallback)
            self._check_any_falls_back(undecayed, unadapted)
            self._check_ratio(rule, fallback)
        found = [rule, *(part.rule for part in _parts(fallback))]
        averages = [part.title for part in found if part.has_evaluation_point()]
        if averages and others.get("use_ema"):
            raise ValueError(
                f"{owner}: the result of {averages[0]} is an average already; "
                f"leave use_ema out, received use_ema={others['use_ema']!r}."
            )
        learning_rate = self._checked_rate(learning_rate)
        super().__init__(learning_rate=learning_rate, name=name, **for_keras)
        self.rule = rule
        self.dialect = dialect
        self.diagnostics_every = diagnostics_every
        self._given_rate = learning_rate
        if rules.is_number(learning_rate):
            self._first_rate = self._rate_variable()  # as Keras rounds it
        self._exclude_decay = undecayed
        self._exclude_adaptation = unadapted
        self._fallback = FallbackChoice(fallback)
        self._rule_arguments = tuple(given)
        self._assignments = ()
        self._rows = ()
        self._points = None

    @classmethod
    def adapts(cls) -> bool:
        """Whether its rate is scaled by a trust ratio."""
        return cls.rule_class().normalizes is not None

    @classmethod
    def rule_of(
        cls, dialect: str, given: Mapping[str, Any], owner: str | None = None
    ) -> rules.Rule:
        """The rule that these arguments make.

        Args:
            dialect: As the constructor's.
            given: {argument: value} of the rule's numbers and switches; what
                is left out, or None, is the dialect's.
            owner: Who was given them, for messages.

        Raises:
            TypeError, ValueError: A value out of its range, or one that
                contradicts the dialect; names both.
        """
        owner = owner or cls.__name__
        given = {
            name: value
            for name, value in given.items()
            if value is not None or name not in cls.optional
        }
        for name, value in cls.fixed.items():
            if rules.plain(given.setdefault(name, value)) is not value:
                raise ValueError(
                    f"{owner} computes {name}={value!r}; received "
                    f"{name}={given[name]!r}. Use "
                    f"{cls.rule_class.title} for it."
                )
        return cls.rule_class.resolve(dialect, given, owner)

    def _refuse_adaptation(self, **given):
        """Refuses what only a rule with a trust ratio has a use for."""
        for name, value in given.items():
            if value is not None:
                raise TypeError(
                    f"{type(self).__name__}: `{name}` is for LARS, LAMB and "
                    "Muon; "
                    f"{type(self).__name__} has no trust ratio."
                )

    @classmethod
    def check(cls, given: Mapping[str, Any]) -> None:
        """Refuses what the constructor would, and makes nothing.

        Args:
            given: {argument: value}; `fallback` may be anything.

        Raises:
            TypeError, ValueError: As the constructor.
        """
        dialect = given.get("dialect", rules.DEFAULT)
        fields = cls.rule_class.fields()
        cls.rule_of(dialect, {n: v for n, v in given.items() if n in fields})
        undecayed = selection.check_patterns(
            cls.__name__,
            "exclude_from_weight_decay",
            given.get("exclude_from_weight_decay", selection.BIAS_AND_NORM),
        )
        unadapted = cls._checked_adaptation(
            dialect, given.get("exclude_from_layer_adaptation")
        )
        if given.get("fallback") is not None:
            cls._check_any_falls_back(undecayed, unadapted)
        keras_arguments.check(
            cls, {n: given[n] for n in keras_arguments.CLIPS if n in given}
        )

    @classmethod
    def _checked_adaptation(cls, dialect, patterns):
        """The patterns, SAME, or the dialect's where they are None."""
        owner = cls.__name__
        argument = "exclude_from_layer_adaptation"
        reading = cls.rule_class.dialect(dialect)
        everything = reading.adapts_excluded
        if patterns is None and reading.unadapted is not None:
            return reading.unadapted
        if patterns is None:
            return () if everything else SAME
        if not isinstance(patterns, str) or patterns != SAME:
            return selection.check_patterns(owner, argument, patterns)
        if everything:
            raise ValueError(
                f"{owner}(dialect={dialect!r}) computes {argument}=(), a trust "
                f"ratio for every variable; received {argument}={SAME!r}. "
                "Leave one out, or give the patterns themselves."
            )
        return SAME

    def _checked_rate(self, rate):
        """The rate as this Keras takes it."""
        owner = type(self).__name__
        if hasattr(rate, "as_keras") and not isinstance(rate, type):
            rate = rate.as_keras(self.keras_name)
        parents = {parent.__name__ for parent in type(rate).__mro__}
        if "LearningRateSchedule" in parents and (
            kerases.of(rate) != self.keras_name
        ):
            raise TypeError(
                f"{owner} is for {self.keras_title}; received as "
                f"`learning_rate` a schedule of {self.other_title}, "
                f"{type(rate).__name__}."
            )
        return check_rate(owner, rate, self.schedule_class)

    def _load_fallback(self, config):
        """The fallback of a saved configuration, from this class's Keras."""
        from lbcheck import optimizers

        name = str(config.get("class_name"))
        known = [definition.__name__ for definition in optimizers.ALL]
        if name not in known or not isinstance(config.get("config"), dict):
            raise ValueError(
                f"{type(self).__name__}: a saved `fallback` must have a "
                f"class_name of {', '.join(known)} and its config, received "
                f"{reprlib.repr(config)}."
            )
        room = importlib.import_module(f"lbcheck.{self.keras_name}")
        return getattr(room, name).from_config(config["config"])

    def _check_fallback(self, fallback):
        """Refuses what could not act as a part of this optimizer."""
        owner = type(self).__name__
        if not isinstance(fallback, Optimizer):
            raise TypeError(
                f"{owner}: `fallback` must be an lbcheck optimizer such as "
                f"lbcheck.AdamW(), received {fallback!r}."
            )
        if fallback.keras_name != self.keras_name:
            raise TypeError(
                f"{owner} is for {self.keras_title}; `fallback` must be so "
                f"too, received {fallback!r}."
            )
        for name in _WHOLE_MODEL:
            if getattr(fallback, name, None):
                raise ValueError(
                    f"{owner}: give `{name}` to {owner}, not to its "
                    f"`fallback`; received "
                    f"{name}={getattr(fallback, name)!r} there."
                )

    @classmethod
    def _check_any_falls_back(cls, undecayed, unadapted):
        """Refuses a fallback that no variable could fall back on."""
        if not (undecayed if unadapted == SAME else unadapted):
            raise ValueError(
                f"{cls.__name__}: `fallback` trains the variables that "
                "`exclude_from_layer_adaptation` selects, which is none here: "
                "every variable has a trust ratio. Leave `fallback` out, or "
                "give patterns."
            )

    @classmethod
    def _check_ratio(cls, rule, fallback):
        """Refuses a multiple of the rate where the rate is not multiplied."""
        ratio = getattr(rule, "fallback_rate_ratio", 1.0)
        if rules.is_number(ratio) and ratio == 1:
            return
        for part in _parts(fallback):
            rate = part.own_rate()
            if rate is not None:
                raise ValueError(
                    f"{cls.__name__}: `fallback_rate_ratio` multiplies the "
                    "rate of a `fallback` that has none of its own, received "
                    f"fallback_rate_ratio={ratio!r} and the learning_rate "
                    f"{reprlib.repr(rate)} of {type(part).__name__}. Leave "
                    "one out."
                )

    @property
    def learning_rate(self):
        """The rate now, as this Keras has it; a number where it is fixed."""
        if self._built_into and hasattr(self._learning_rate, "assign"):
            return self._rate_variable()
        return super().learning_rate

    @learning_rate.setter
    def learning_rate(self, rate):
        if self._built_into:
            raise AttributeError(
                f"{type(self).__name__}: `learning_rate` is fixed since it is "
                f"the `fallback` of {self._built_into}, which is built, "
                f"received {reprlib.repr(rate)}. Give a new "
                f"{self._built_into} a new {type(self).__name__} of that rate."
            )
        if not rules.is_live(rules.plain(rate)):
            rate = self._checked_rate(rate)
        if callable(rate) and self._assignments:
            warnings.warn(
                f"{type(self).__name__}: a step that is traced keeps the "
                "`learning_rate` of before, and does not notice "
                f"{reprlib.repr(rate)}; compile the model again, or trace your "
                "own step again.",
                stacklevel=2,
            )
        super(Optimizer, type(self)).learning_rate.fset(self, rate)

    @property
    def weight_decay(self):
        """The rule's decay coefficient; fixed when the optimizer is made."""
        return self.rule.weight_decay

    @weight_decay.setter
    def weight_decay(self, value):
        # Keras sets its own decay, None here, before there is a rule.
        if value is not None:
            raise AttributeError(
                f"{type(self).__name__}: `weight_decay` is part of the update "
                "rule; pass it when you make the optimizer."
            )

    def _apply_weight_decay(self, variables):
        """Keras's decay outside the rule: none."""

    def exclude_from_weight_decay(self, var_list=None, var_names=None):
        """Keras's method, which would have no effect on the rule.

        Raises:
            TypeError: Always; exclusions are an argument here.
        """
        raise TypeError(
            f"{type(self).__name__}: pass exclude_from_weight_decay=[...] "
            "(patterns on the full variable path) when you make the "
            f"optimizer; received var_list={var_list!r}, "
            f"var_names={var_names!r}."
        )

    def plan(self, paths, shapes) -> tuple[Assignment, ...]:
        """Decides for every variable which rule, decay and ratio it gets.

        Args:
            paths: Clean full paths, one for each trainable variable.
            shapes: Their shapes.

        Returns:
            One `Assignment` for each variable. Warns of patterns that match
            nothing.
        """
        undecayed = self._match("exclude_from_weight_decay", paths, shapes)
        if self.rule.normalizes is None:
            unadapted = (True,) * len(paths)
        elif self._exclude_adaptation == SAME:
            unadapted = undecayed
        else:
            unadapted = self._match(
                "exclude_from_layer_adaptation", paths, shapes
            )
        fallback = self._plan_fallback(paths, shapes, undecayed)
        if self._fallback.optimizer is not None and not any(unadapted):
            warnings.warn(
                f"{type(self).__name__}: every variable takes a trust ratio, "
                "so `fallback` trains none.",
                stacklevel=2,
            )
        if self.rule.normalizes == "spectrum" and all(unadapted):
            argument = "`exclude_from_layer_adaptation`"
            why = f"{argument} selects every variable"
            reading = self.rule_class.dialect(self.dialect).unadapted
            if self._exclude_adaptation == reading:
                why = (
                    f"by the dialect {self.dialect!r} no variable is a hidden "
                    f"matrix; give {argument} if some are"
                )
            warnings.warn(
                f"{type(self).__name__} orthogonalises nothing: {why}.",
                stacklevel=2,
            )
        labels = unique(paths)
        return tuple(
            fallback[index]._replace(path=labels[index])
            if fallback is not None and unadapted[index]
            else Assignment(
                path=labels[index],
                shape=tuple(shape),
                rule=self.rule,
                decay=not undecayed[index],
                adapt=not unadapted[index],
                rate=None,
                fallback=False,
            )
            for index, shape in enumerate(shapes)
        )

    def _plan_fallback(self, paths, shapes, undecayed):
        """What the fallback would do with each variable; None: there is none.

        It is the fallback's own plan, so that its variables are updated as
        by that optimizer alone.
        """
        if self.rule.normalizes is None:
            return None
        other = self._fallback.optimizer
        # One that is a variable has its value in the step, not here.
        ratios = ()
        if hasattr(self.rule, "fallback_rate_ratio"):
            ratios = (self.rule.fallback_rate_ratio,)
        if other is not None:
            self._check_ratio(self.rule, other)  # a rate assigned since
            rate = other.own_rate()
            return [
                assignment._replace(
                    rate=rate if assignment.rate is None else assignment.rate,
                    fallback=True,
                    rate_ratios=ratios + assignment.rate_ratios,
                )
                for assignment in other.plan(paths, shapes)
            ]
        settings = self.rule_class.dialect(self.dialect).fallback
        if settings is None:
            return None
        rule = self.rule.fallback(settings)
        return [
            Assignment(
                "", tuple(shape), rule, not excluded, False, None, True, ratios
            )
            for shape, excluded in zip(shapes, undecayed)
        ]

    def _match(self, argument, paths, shapes):
        patterns = {
            "exclude_from_weight_decay": self._exclude_decay,
            "exclude_from_layer_adaptation": self._exclude_adaptation,
        }[argument]
        matches = selection.match(patterns, paths, shapes)
        reading = self.rule_class.dialect(self.dialect)
        if patterns != reading.unadapted:
            selection.warn_unmatched(
                type(self).__name__, argument, matches, patterns
            )
        return matches.flags

    def own_rate(self):
        """The rate this optimizer was given, None where it was left out."""
        if callable(self._learning_rate) or hasattr(
            self._learning_rate, "get_config"
        ):
            return self._learning_rate
        now, given = self._rate_variable(), self._given_rate
        if now != self._first_rate:  # assigned since
            return now
        return None if isinstance(given, DefaultRate) else given

    def _set_up(self, variables, shapes, add_slot, add_row):
        """Makes the plan and the state; the adapters give the makers.

        Args:
            variables: Trainable variables of this Keras.
            shapes: Their shapes.
            add_slot: (variable, slot) -> optimizer variable.
            add_row: (name) -> float32 variable of shape (5,), not a number
                at first.
        """
        paths = [selection.clean_path(variable) for variable in variables]
        if self.use_ema:
            self._check_average(variables, paths)
        self._assignments = self.plan(paths, shapes)
        for part in _parts(self._fallback.optimizer):
            part._built_into = type(self).__name__
        self._slots = [
            [
                add_slot(variable, slot)
                for slot in assignment.rule.slots_of(assignment.shape)
            ]
            for variable, assignment in zip(variables, self._assignments)
        ]
        if any(a.rule.has_evaluation_point() for a in self._assignments):
            self._points = evaluation.Points(
                variables,
                self._assignments,
                self._slots,
                [add_slot(variable, _POINT) for variable in variables],
                add_slot(variables[0], _FLAG),
            )
        # Last, so that the state before has the same places without them.
        self._rows = [
            add_row(f"diagnostics_{index}")
            for index in range(len(paths))
            if self.diagnostics_every
        ]

    def _check_average(self, variables, paths):
        """Refuses averages that Keras would keep and weigh in 16 bits."""
        for variable, path in zip(variables, paths):
            if arrays.has_16_bits(variable):
                raise ValueError(
                    f"{type(self).__name__}: `use_ema` needs variables of 32 "
                    f"bits, received {path} of {variable.dtype}, in which an "
                    "average cannot move by 0.001 of a weight. Keep them in "
                    "float32, as the policy mixed_bfloat16 does."
                )

    def _rate(self, assignment, learning_rate):
        """The rate of one variable in this update."""
        rate = assignment.rate
        if rate is None:
            rate = learning_rate
        elif hasattr(rate, "get_config"):  # a schedule
            rate = rate(self.update_count)
        elif callable(rate):
            rate = rate()
        return functools.reduce(operator.mul, assignment.rate_ratios, rate)

    def evaluation_point(self):
        """`lbcheck.evaluation_point` of this optimizer."""
        return evaluation.evaluation_point(self)

    @property
    def at_evaluation_point(self):
        """A variable, not 0 while the model has the weights of evaluation;
        None where there are no others."""
        return None if self._points is None else self._points.flag

    @property
    def assignments(self) -> tuple[Assignment, ...]:
        """How each variable is updated; empty until the optimizer is built."""
        return self._assignments

    def diagnostics(self) -> dict[str, Diagnostics]:
        """What the last recorded update did, by variable path.

        Recorded at updates 0, k, 2k, ... with `diagnostics_every=k`.

        Raises:
            RuntimeError: If diagnostics are off or the optimizer not built.
        """
        if not self.diagnostics_every:
            raise RuntimeError(
                "Diagnostics are off: build the optimizer with "
                f"{type(self).__name__}(..., diagnostics_every=100)."
            )
        if not self._assignments:
            raise RuntimeError(
                f"{type(self).__name__} has no variables yet: train a step "
                "or call build(model.trainable_variables)."
            )
        return {
            assignment.path: Diagnostics(*(float(x) for x in row.numpy()))
            for assignment, row in zip(self._assignments, self._rows)
        }

    def completed_updates(self) -> int:
        """Number of updates completed, as a Python number."""
        count = self.update_count
        return int(count.numpy() if hasattr(count, "numpy") else count)

    def trust_ratios(self) -> dict[str, float]:
        """{path: trust ratio really applied} of the last recorded update."""
        return {
            path: values.trust_ratio
            for path, values in self.diagnostics().items()
        }

    def _state(self):
        """The variables that decide the next update."""
        rows = {id(row) for row in self._rows}
        return [v for v in self.variables if id(v) not in rows]

    def save_own_variables(self, store):
        """Saves the state; what diagnostics recorded is not part of it."""
        for index, variable in enumerate(self._state()):
            store[str(index)] = variable.numpy()

    def load_own_variables(self, store):
        """Loads the state, whether or not diagnostics were on.

        As in Keras, a state of other variables is left out with a warning.
        """
        state = self._state()
        if len(store.keys()) != len(state):
            warnings.warn(
                f"{type(self).__name__}: state not loaded; what was saved has "
                f"{len(store.keys())} variables, this optimizer {len(state)}. "
                "Was it saved before it was built, or with other settings?",
                stacklevel=2,
            )
            return
        for index, variable in enumerate(state):
            variable.assign(store[str(index)])

    def get_config(self):
        """What is computed, with both exclusion lists, for `from_config`."""
        config = super().get_config()
        config.update((n, getattr(self.rule, n)) for n in self._rule_arguments)
        config["dialect"] = self.dialect
        config["diagnostics_every"] = self.diagnostics_every
        config["exclude_from_weight_decay"] = list(self._exclude_decay)
        if self.rule.normalizes is not None:
            adaptation = self._exclude_adaptation
            config["exclude_from_layer_adaptation"] = (
                SAME if adaptation == SAME else list(adaptation)
            )
            config["fallback"] = self._fallback.config()
        return config

    def __repr__(self):
        # Keras prints this when it is given the other Keras's optimizer.
        name = type(self).__name__
        return (
            f"<lbcheck.{self.keras_name}.{name} {self.rule}; it trains "
            f"{self.keras_title} models, for a {self.other_title} model use "
            f"lbcheck.{self.other_name}.{name}>"
        )


def _parts(optimizer):
    """The optimizer, its fallback, that one's, and so on."""
    while optimizer is not None:
        yield optimizer
        optimizer = optimizer._fallback.optimizer


@dataclasses.dataclass(frozen=True)
class FallbackChoice:
    """Holds the fallback so that no Keras tracks it as a part of itself."""

    optimizer: Optimizer | None

    def config(self):
        """A dict for `get_config`, without a rate that was never given."""
        if self.optimizer is None:
            return None
        config = self.optimizer.get_config()
        if self.optimizer.own_rate() is None:
            del config["learning_rate"]
        return {
            "class_name": type(self.optimizer).__name__,
            "config": config,
        }
