"""What every update rule is: settings, dialects, state slots, one update.

All rules share one shape, with w the weight, g the gradient, eta the rate:

    inside    what multiplies the gradient before it enters the state: the
              rate, the trust ratio of the gradient, or nothing
    u         direction(g, w, state; inside): decay as L2, momentum, moments
    outside   what multiplies u: the rate, the trust ratio of u, or nothing
    keep      1 - eta * weight_decay where decay is decoupled, else 1
    w' = keep * w - outside * u

A rule differs from another in its direction, in where the rate stands, and in
what its trust ratio measures. `Rule.update` is the definition; the adapters
may evaluate its parts in another order for speed, never another formula.

A dialect is what one library means by a rule's name: it sets every switch that
its library does not leave to the caller, and no number, but where its library
takes another for 0. The default, "paper", leaves all switches to the caller.
"""

import dataclasses
import functools
import math
import numbers
import reprlib
import sys
from collections.abc import Mapping
from typing import Any
from typing import ClassVar
from typing import NamedTuple

DEFAULT = "paper"
"""The dialect that nothing has to be said for."""

frozen = functools.partial(
    dataclasses.dataclass, frozen=True, kw_only=True, repr=False
)
"""Decorator of the rules: their fields are keywords and do not change."""


class Slot(NamedTuple):
    """One piece of state that a rule keeps for every variable.

    `scalar` slots have shape (), those with a `shape` that one, the others
    the shape of their variable.
    """

    name: str
    initial: float = 0.0
    scalar: bool = False
    shape: tuple[int, ...] | None = None

    def shape_for(self, variable: tuple[int, ...]) -> tuple[int, ...]:
        """Its shape beside a variable of this shape."""
        if self.scalar:
            return ()
        return tuple(variable) if self.shape is None else self.shape


class Bound(NamedTuple):
    """The range a number must lie in; open ends are excluded."""

    low: float = 0.0
    high: float = math.inf
    open_high: bool = False
    open_low: bool = False

    def __contains__(self, value):
        above = self.low < value if self.open_low else self.low <= value
        below = value < self.high if self.open_high else value <= self.high
        return above and below

    def __str__(self):
        opening = "(" if self.open_low or math.isinf(self.low) else "["
        closing = ")" if self.open_high or math.isinf(self.high) else "]"
        return f"{opening}{self.low:g}, {self.high:g}{closing}"


BETA = Bound(0.0, 1.0, open_high=True)
NON_NEGATIVE = Bound()
ANY = Bound(-math.inf)


def is_zero(value) -> bool:
    """True for the Python number 0, which switches a term off for good."""
    return isinstance(value, numbers.Number) and value == 0


def plain(value):
    """A constant scalar of NumPy or of a framework as a Python value.

    Variables, and what is only known in a traced step, stay what they are.
    """
    if getattr(value, "shape", None) == () and not hasattr(value, "assign"):
        try:
            value = getattr(value, "item", lambda: value.numpy().item())()
        except (AttributeError, NotImplementedError, TypeError):
            return value
    if isinstance(value, numbers.Real) and not isinstance(value, (int, float)):
        return float(value)
    return value


def is_number(value) -> bool:
    """Whether it is a Python number; True and False are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_finite(value) -> bool:
    """Whether a Python number is one that a float can hold."""
    return abs(value) <= sys.float_info.max


def is_live(value) -> bool:
    """Whether it is a scalar number that only a step knows."""
    kind = str(getattr(value, "dtype", ""))
    return getattr(value, "shape", None) == () and (
        "float" in kind or "int" in kind
    )


def check_number(owner: str, name: str, value, bound: Bound) -> None:
    """Refuses a Python value outside `bound`, and what is no scalar."""
    if not is_number(value):
        if is_live(value):
            return
        raise TypeError(
            f"{owner}: `{name}` must be a number, received "
            f"{reprlib.repr(value)} of type {type(value).__name__}."
        )
    if not (value in bound and is_finite(value)):
        raise ValueError(
            f"{owner}: `{name}` must lie in {bound}, received "
            f"{reprlib.repr(value)}."
        )


def check_count(
    owner: str, name: str, value, low: int, high: float = math.inf
) -> None:
    """Refuses what is no whole Python number in [low, high]."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(
            f"{owner}: `{name}` must be a whole number, received "
            f"{reprlib.repr(value)} of type {type(value).__name__}."
        )
    check_number(owner, name, value, Bound(low, high))


def check_choice(owner: str, name: str, value, choices) -> None:
    """Refuses a value that is not one of `choices`."""
    plain = value is None or isinstance(value, (str, bool))
    if not plain or value not in choices:
        raise ValueError(
            f"{owner}: `{name}` must be one of {list(choices)}, "
            f"received {value!r}."
        )


class Step(NamedTuple):
    """How a weight moves: keep * w - outside * direction.

    Attributes:
        direction: Array of the weight's shape.
        outside: What it is multiplied by.
        keep: What the weight is multiplied by; None: 1.
        ratio: Trust ratio, 1 where there is none.
    """

    direction: Any
    outside: Any
    keep: Any
    ratio: Any

    def moved(self, weight):
        """The new weight."""
        kept = weight if self.keep is None else self.keep * weight
        return kept - self.outside * self.direction


@dataclasses.dataclass(frozen=True)
class Dialect:
    """One library's reading of a rule.

    Attributes:
        source: Where this reading comes from.
        switches: Its values of the rule's switches, where they are not the
            rule's defaults.
        options: Switches that the library leaves to its caller.
        for_zero: {number: what the library takes where it is 0}, which is
            also the number's default.
        adapts_excluded: True where the library takes the trust ratio of
            every variable, also of those excluded from decay.
        unadapted: Patterns of the variables without a trust ratio; None: those
            excluded from decay.
        fallback: Settings of `Rule.fallback`, which trains the variables
            without a trust ratio; None: the rule itself does, at the ratio 1.
    """

    source: str
    switches: dict = dataclasses.field(default_factory=dict)
    options: tuple[str, ...] = ()
    for_zero: dict = dataclasses.field(default_factory=dict)
    adapts_excluded: bool = False
    unadapted: tuple[str, ...] | None = None
    fallback: dict | None = None


@frozen
class Rule:
    """Base of the update rules; see the module docstring for the shape.

    A number field may hold a scalar variable instead, so that many settings
    can share one traced step.

    Args:
        owner: Who has this rule, for messages; None: the rule itself.

    Attributes:
        title: Name of the rule, which is its optimizer's.
        dialects: {name: `Dialect`}, "paper" first.
        weight_decay: Decay coefficient lambda, at least 0. What it multiplies
            is the rule's own affair.
        bounds: Range of each number field.
        choices: Values of each switch.
        functions: Number fields that may be a function of the update number.
        compiles: Whether XLA gains from it, on TensorFlow.
    """

    weight_decay: Any = 0.0
    owner: dataclasses.InitVar[str | None] = None

    title: ClassVar[str]
    dialects: ClassVar[dict[str, Dialect]]
    bounds: ClassVar[dict[str, Bound]] = {"weight_decay": NON_NEGATIVE}
    choices: ClassVar[dict[str, tuple]] = {}
    functions: ClassVar[tuple[str, ...]] = ()
    compiles: ClassVar[bool] = True

    def __post_init__(self, owner):
        owner = owner or self.title
        for field in dataclasses.fields(self):
            value = plain(getattr(self, field.name))
            object.__setattr__(self, field.name, value)
        for name, bound in self.numbers().items():
            value = getattr(self, name)
            is_function = callable(value) and not isinstance(value, type)
            if not (is_function and name in self.functions):
                check_number(owner, name, value, bound)
        for name, choices in self.choices.items():
            check_choice(owner, name, getattr(self, name), choices)

    @classmethod
    def numbers(cls) -> dict[str, Bound]:
        """{field that is a number: its range}."""
        return Rule.bounds | cls.bounds

    @classmethod
    def switches(cls) -> dict[str, Any]:
        """{field that is no number: its default}."""
        numbers = cls.numbers()
        return {
            field.name: field.default
            for field in dataclasses.fields(cls)
            if field.name not in numbers
        }

    def __repr__(self):
        values = (
            f"{field.name}={getattr(self, field.name)!r}"
            for field in dataclasses.fields(self)
        )
        return f"{self.title}({', '.join(values)})"

    @classmethod
    def dialect(cls, name: str) -> Dialect:
        """The `Dialect` of this name; ValueError lists what exists."""
        if not isinstance(name, str) or name not in cls.dialects:
            raise ValueError(
                f"{cls.title}: unknown dialect {name!r}; {cls.title} has "
                f"{list(cls.dialects)}."
            )
        return cls.dialects[name]

    @classmethod
    def fixed(cls, dialect: str) -> dict[str, Any]:
        """{switch that the dialect sets: its value}.

        >>> from lbcheck import rules
        >>> rules.Momentum.fixed("keras"), rules.Momentum.fixed("paper")
        ({'rate_in_buffer': True}, {})
        """
        reading = cls.dialect(dialect)
        if dialect == DEFAULT:
            return {}
        return {
            name: reading.switches.get(name, default)
            for name, default in cls.switches().items()
            if name not in reading.options
        }

    @classmethod
    def resolve(
        cls, dialect: str, given: Mapping[str, Any], owner: str | None = None
    ) -> "Rule":
        """The rule that a dialect makes of the arguments given.

        Args:
            dialect: A key of `dialects`.
            given: {field: value} of what the caller gave; the rest is the
                dialect's.
            owner: Who was given it, for messages.

        Raises:
            TypeError, ValueError: A value out of its range, or one that
                contradicts the dialect; names both.
        """
        owner = owner or cls.title
        computed = cls.fixed(dialect)
        for name in cls.without_effect(given):
            computed.pop(name, None)
        for_zero = cls.dialect(dialect).for_zero
        taken = {
            name: value
            for name, value in for_zero.items()
            if is_zero(plain(given.get(name)))
        }
        for name, value in {**computed, **taken}.items():
            if name in given and _differs(given[name], value):
                raise ValueError(
                    f"{owner}(dialect={dialect!r}) computes {name}={value!r}; "
                    f"received {name}={given[name]!r}. Leave one out."
                )
        return cls(owner=owner, **{**computed, **for_zero, **given})

    @classmethod
    def without_effect(cls, given) -> tuple[str, ...]:
        """Switches that change nothing beside {field: value} in `given`."""
        return ()

    @classmethod
    def fields(cls) -> tuple[str, ...]:
        """Names of its numbers and switches."""
        return (*cls.numbers(), *cls.switches())

    def fallback(self, settings: Mapping[str, Any]) -> "Rule":
        """The rule of variables without a ratio; see `Dialect.fallback`."""
        raise NotImplementedError

    @property
    def slots(self) -> tuple[Slot, ...]:
        """The state kept for each variable, in the order of `update`."""
        raise NotImplementedError

    def slots_of(self, shape: tuple[int, ...]) -> tuple[Slot, ...]:
        """The state kept for a variable of this shape."""
        return self.slots

    def evaluation_point(self, weight, slots):
        """The weights to evaluate, where they are not those of training.

        None: they are the same.
        """
        return None

    @classmethod
    def has_evaluation_point(cls) -> bool:
        """Whether `evaluation_point` gives other weights."""
        return cls.evaluation_point is not Rule.evaluation_point

    @property
    def rate_inside(self) -> bool:
        """Whether the rate multiplies what enters the state."""
        return False

    @property
    def normalizes(self) -> str | None:
        """What is measured: gradient, direction, spectrum or None.

        The trust ratio divides by the norm of the first two; a direction with
        a spectrum of its own has the ratio in it.
        """
        return None

    def decays(self, decay: bool) -> bool:
        """Whether any decay term acts on a variable with this flag."""
        return decay and not is_zero(self.weight_decay)

    def shrinks(self, decay: bool) -> bool:
        """Whether weight decay or L2 acts on a variable with this flag."""
        return self.decays(decay) or (
            decay and not is_zero(getattr(self, "l2", 0.0))
        )

    def keep(self, learning_rate, decay: bool):
        """1 - eta * lambda where decay is decoupled; None means 1."""
        if not self.decays(decay):
            return None
        return 1.0 - learning_rate * self.weight_decay

    def trust_ratio(self, xp, weight, other, learning_rate, decay: bool):
        """Ratio for one variable; `other` is what `normalizes` names."""
        raise NotImplementedError

    def direction(self, xp, weight, gradient, slots, step, inside, decay):
        """Elementwise part: returns (new slots, direction)."""
        raise NotImplementedError

    def inside(self, xp, weight, gradient, learning_rate, decay, adapt):
        """Returns (factor of what enters the state, trust ratio or None)."""
        ratio = None
        if adapt and self.normalizes == "gradient":
            ratio = self.trust_ratio(xp, weight, gradient, learning_rate, decay)
        factor = learning_rate if self.rate_inside else 1.0
        return (factor if ratio is None else factor * ratio), ratio

    def outside(self, xp, weight, direction, learning_rate, decay, adapt):
        """Returns (factor of the direction, trust ratio or None)."""
        ratio = None
        if adapt and self.normalizes == "direction":
            ratio = self.trust_ratio(
                xp, weight, direction, learning_rate, decay
            )
        factor = 1.0 if self.rate_inside else learning_rate
        return (factor if ratio is None else factor * ratio), ratio

    def update(
        self,
        xp,
        weight,
        gradient,
        slots,
        learning_rate,
        step,
        *,
        decay: bool = True,
        adapt: bool = True,
    ):
        """One update of one variable.

        Args:
            xp: Array namespace (`lbcheck.rules.NUMPY` for NumPy).
            weight: Array of any shape.
            gradient: Array of the same shape, of the mean loss.
            slots: Tuple of arrays, one for each of `self.slots`.
            learning_rate: Rate of this update, at least 0.
            step: Number of updates completed before this one, from 0.
            decay: False where the variable is excluded from decay.
            adapt: False where it is excluded from the trust ratio.

        Returns:
            (new weight, tuple of new slots, trust ratio; 1.0 where none).
        """
        slots, step = self.step(
            xp, weight, gradient, slots, learning_rate, step, decay, adapt
        )
        new = step.moved(weight)
        if self.keeps_norm(adapt):
            new = self.norm_back(xp, xp.norm(weight), new) * new
        return new, slots, step.ratio

    def keeps_norm(self, adapt: bool) -> bool:
        """Whether a variable is scaled back to the norm that it had."""
        return False

    @staticmethod
    def norm_back(xp, norm, new):
        """What scales a variable back to a norm; 1 where that is 0."""
        now = xp.norm(new)
        return guarded_ratio(xp, (norm > 0) & (now > 0), norm, now)

    def step(
        self, xp, weight, gradient, slots, learning_rate, step, decay, adapt
    ):
        """(new slots, `Step`) of an update; the arguments are its own."""
        inside, ratio = self.inside(
            xp, weight, gradient, learning_rate, decay, adapt
        )
        slots, direction = self.direction(
            xp, weight, gradient, slots, step, inside, decay
        )
        outside, late_ratio = self.outside(
            xp, weight, direction, learning_rate, decay, adapt
        )
        ratio = late_ratio if ratio is None else ratio
        return slots, Step(
            direction,
            outside,
            self.keep(learning_rate, decay),
            1.0 if ratio is None else ratio,
        )


def guarded_ratio(xp, usable, above, below):
    """above / below where `usable`, else 1, with no division by zero."""
    return xp.where(usable, above / xp.where(usable, below, 1.0), 1.0)


def one_minus_power(xp, beta, count):
    """1 - beta**count, accurate in float32 too, where 1 - 0.999 is not."""
    return -xp.expm1(count * logarithm(xp, beta))


def logarithm(xp, beta):
    """ln(beta), of a Python number too; -inf at 0."""
    if not isinstance(beta, numbers.Number):
        return xp.log(beta)
    return math.log(beta) if beta else -math.inf


def decayed_average(beta, average, value):
    """beta * average + (1 - beta) * value."""
    return beta * average + (1.0 - beta) * value


def _differs(value, computed):
    """Whether it contradicts; what is no switch at all the rule refuses."""
    value = plain(value)
    if isinstance(value, list) and isinstance(computed, tuple):
        value = tuple(value)  # as a saved configuration has it
    if not isinstance(value, (bool, int, float, str, tuple, list, type(None))):
        return False
    return value is not computed and value != computed
