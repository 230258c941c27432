"""One hyperparameter of a search space: what is tried for it."""

import dataclasses
import math

from lbcheck.support import checks
from lbcheck.support import schema

_FORMS = {
    "a range": frozenset({"min", "max", "scale"}),
    "a grid": frozenset({"min", "max", "scale", "count"}),
    "a list": frozenset({"values"}),
    "a constant": frozenset({"value"}),
}
_SWITCHES = ("one_minus", "integer")
_NUMBERS = ("min", "max", "value", "values")
_MOST_VALUES = 10_000
STEPS = "steps"
_LARGEST = 2**53
"""Largest whole number; above it, floating-point numbers skip some."""


@dataclasses.dataclass(frozen=True)
class Parameter:
    """What a search tries for one hyperparameter, by a number u in [0, 1).

        x = min (max / min)^u            scale "log"
            min + (max - min) u          scale "linear"
            choices[floor(n u)]          one of n choices
        value = base * x,   or   base * (1 - x)   with one_minus

    rounded where `integer` or where `of` is "steps". The base is 1, or what
    `of` names: the updates of the run, or another hyperparameter. Numbers
    `per` N updates, such as the 638 of 2,512 that a paper prints, are that
    part of the updates of any run.

    Args:
        choices: What it can be; empty for a range.
        min: Lower end of a range, above 0 on a log scale.
        max: Upper end of a range.
        scale: "log" or "linear"; None without a range.
        one_minus: Whether x is 1 - value, as for a momentum.
        integer: Whether the value is rounded.
        of: "steps", the name of another hyperparameter, or None.

    Example:
        >>> spec = {"min": 0.001, "max": 0.1, "scale": "log", "one_minus": True}
        >>> round(Parameter.from_spec(spec).value(0.5), 12)
        0.99

    Source: Nado et al. 2021, Appendix D.
    """

    choices: tuple = ()
    min: float | None = None
    max: float | None = None
    scale: str | None = None
    one_minus: bool = False
    integer: bool = False
    of: str | None = None

    @classmethod
    def from_spec(cls, spec: dict) -> "Parameter":
        """The parameter that a JSON object describes.

        Raises:
            ValueError: Says what is wrong with the object.
        """
        if not isinstance(spec, dict):
            raise ValueError(f"must be an object, received {_shown(spec)}.")
        spec = _as_part(spec)
        form = frozenset(spec) - {*_SWITCHES, "of"}
        if form not in _FORMS.values():
            expected = "; ".join(
                f"{what}: {', '.join(sorted(keys))}"
                for what, keys in _FORMS.items()
            )
            raise ValueError(
                f"received the keys {sorted(form)}, expected those of one of "
                f'{expected}; and optionally "one_minus", "integer", "of", '
                '"per".'
            )
        for switch in _SWITCHES:
            if not isinstance(spec.get(switch, False), bool):
                raise ValueError(
                    f"{switch} must be true or false, received "
                    f"{_shown(spec[switch])}."
                )
        if not isinstance(spec.get("of", ""), str):
            raise ValueError(
                f'"of" must be a name, received {_shown(spec["of"])}.'
            )
        choices, ends = (), {}
        if "value" in spec:
            choices = (spec["value"],)
        elif "values" in spec:
            choices = _alike(_checked_list(spec["values"]))
        else:
            ends = _checked_range(spec)
            if "count" in spec:
                choices = _alike(_spaced(**ends, count=spec["count"]))
        parameter = cls(
            choices,
            **ends,
            one_minus=spec.get("one_minus", False),
            integer=spec.get("integer", False),
            of=spec.get("of"),
        )
        parameter._check_numbers()
        return parameter

    def _check_numbers(self):
        numeric = self.one_minus or self.integer or self.of
        for number in self.choices or (self.min, self.max):
            if not isinstance(number, (bool, int, float, str)) or (
                _is_number(number) and not _is_in_reach(number)
            ):
                raise ValueError(
                    "must be a finite number (a whole one of at most 2**53), "
                    f"a text, true or false, received {_shown(number)}."
                )
            if numeric and not _is_number(number):
                raise ValueError(
                    'with "one_minus", "integer" or "of" it must be a number, '
                    f"received {_shown(number)}."
                )
            if self.within_one and not 0 <= number <= 1:
                raise ValueError(
                    'with "one_minus" or "of": "steps" it must be in [0, 1], '
                    f"received {_shown(number)}."
                )

    @property
    def within_one(self) -> bool:
        """Whether x cannot leave [0, 1]."""
        return self.one_minus or self.of == STEPS

    @property
    def is_searched(self) -> bool:
        """Whether it has more than one value."""
        return len(self.choices) != 1

    @property
    def width(self) -> float:
        """Decades of a log range, length of a linear one, number of choices."""
        if self.choices:
            return len(self.choices)
        if self.scale == "log":
            return math.log10(self.max / self.min)
        return self.max - self.min

    def value(self, u: float, base: float = 1):
        """The value at u in [0, 1), a Python number, text or bool."""
        if self.choices:
            x = self.choices[int(u * len(self.choices))]
        elif self.scale == "log":
            x = self.min * (self.max / self.min) ** u
        else:
            x = self.min + (self.max - self.min) * u
        if self.one_minus:
            x = 1 - x
        if self.of:
            x = base * x
        return round(x) if self.integer or self.of == STEPS else x

    def place(self, value, base: float = 1) -> float | None:
        """The u in [0, 1] whose value this is; None but of a range, and of
        what is no number or no part of one.
        """
        is_range = self.scale is not None and not self.choices
        if not is_range or not _is_number(value) or not _is_number(base):
            return None
        if base == 0:
            return None
        x = self._inside(self._before(value, base))
        if self.scale == "log":
            return math.log(x / self.min) / math.log(self.max / self.min)
        return (x - self.min) / (self.max - self.min)

    def narrowed(self, best, factor: float, base: float = 1) -> dict:
        """The spec `factor` times as wide around the value `best`.

        A log range may leave its parent; a linear one, which is often of
        a bounded quantity, may not, and a log range that ends below 1, where
        a momentum must, goes no higher; one of whole numbers goes no lower,
        since they end at 1. Of a list of numbers the neighbours
        of the best stay; all stays of what is a part of 0.
        """
        if len(self.choices) == 1:
            return {"value": self.choices[0]}
        if base == 0:
            return self._spec()
        x = self._before(best, base)
        if self.scale is None:
            return {"values": list(self._neighbours(x, factor))}
        x = self._inside(x)
        if self.scale == "log":
            half = (self.max / self.min) ** (factor / 2)
            ends = x / half, x * half
            if self.within_one:
                ends = ends[0], min(ends[1], 1.0)
            elif self.max < 1:
                ends = ends[0], min(ends[1], self.max)
            if self.integer:
                ends = max(ends[0], self.min), ends[1]  # not rounded to 0
        else:
            half = (self.max - self.min) * factor / 2
            ends = max(x - half, self.min), min(x + half, self.max)
        return self._spec(*ends)

    def _before(self, value, base):
        """The x whose value, as a part of `base`, this is."""
        x = value if base == 1 else value / base
        return 1 - x if self.one_minus else x

    def _inside(self, x):
        """What was rounded may lie outside the range."""
        return min(max(x, self.min), self.max)

    def _spec(self, low=None, high=None):
        """What is tried, without its transforms, between other ends."""
        if self.scale is None:
            return {"values": list(self.choices)}
        return {
            "min": self.min if low is None else low,
            "max": self.max if high is None else high,
            "scale": self.scale,
        } | ({"count": len(self.choices)} if self.choices else {})

    def _neighbours(self, x, factor):
        if not all(map(_is_number, self.choices)):
            return self.choices
        ordered = sorted(self.choices)
        nearest = min(range(len(ordered)), key=lambda i: abs(ordered[i] - x))
        kept = max(1, round(factor * len(ordered)))
        first = min(max(nearest - kept // 2, 0), len(ordered) - kept)
        return ordered[first : first + kept]


def _as_part(spec):
    """Numbers of `per` updates as parts of them."""
    if "per" not in spec:
        return spec
    per = spec["per"]
    if spec.get("of") != STEPS or not checks.is_number(per, int) or per < 1:
        raise ValueError(
            '"per" must be a whole number of updates, at least 1, beside '
            f'"of": "steps", received {_shown(per)} and '
            f"{_shown(spec.get('of'))}."
        )
    parts = {key: _divided(spec[key], per) for key in _NUMBERS if key in spec}
    return {k: v for k, v in (spec | parts).items() if k != "per"}


def _divided(value, per):
    if isinstance(value, list):
        return [_divided(part, per) for part in value]
    return value / per if _is_number(value) else value


def _is_number(value):
    return checks.is_number(value, (int, float))


def _is_in_reach(number):
    if isinstance(number, int):
        return abs(number) <= _LARGEST
    return math.isfinite(number)


def _shown(value):
    """As Python writes it, but not all digits of a huge number."""
    if isinstance(value, int) and not _is_in_reach(value):
        return f"a whole number of {value.bit_length()} bits"
    return schema.shown(value)


def _alike(choices):
    """The choices, all floating numbers if one of several numbers is.

    A value that a training step holds as a variable has one type.
    """
    if not all(map(_is_number, choices)):
        return choices
    if not all(map(_is_in_reach, choices)):
        return choices  # refused later
    if any(isinstance(number, float) for number in choices):
        return tuple(map(float, choices))
    return choices


def _checked_list(values):
    if not isinstance(values, list) or not values:
        raise ValueError(f"values must be a list, received {_shown(values)}.")
    if len(values) > _MOST_VALUES:
        raise ValueError(
            f"values must be at most {_MOST_VALUES:,}, received "
            f"{len(values):,}."
        )
    seen = set()
    for value in values:
        # What is no number or text is refused later.
        if isinstance(value, (bool, int, float, str)):
            if value in seen:
                raise ValueError(f"values has {_shown(value)} twice.")
            seen.add(value)
    return tuple(values)


def _checked_range(spec):
    ends = {end: spec[end] for end in ("min", "max")}
    for end, number in ends.items():
        if not _is_number(number) or not _is_in_reach(number):
            raise ValueError(
                f"{end} must be a finite number, received {_shown(number)}."
            )
    if spec["scale"] not in ("log", "linear"):
        raise ValueError(
            'scale must be "log" or "linear", received '
            f"{_shown(spec['scale'])}."
        )
    if not ends["min"] < ends["max"]:
        raise ValueError(
            f"min must be below max, received {ends['min']} and {ends['max']}."
        )
    if spec["scale"] == "log" and ends["min"] <= 0:
        raise ValueError(
            f"min of a log scale must be above 0, received {ends['min']}."
        )
    width = Parameter(**ends, scale=spec["scale"]).width
    if not math.isfinite(width):
        raise ValueError(
            "the range is wider than a number can be, received "
            f"{ends['min']} to {ends['max']}."
        )
    return {**ends, "scale": spec["scale"]}


def _spaced(min, max, scale, count):
    is_whole = checks.is_number(count, int)
    if not is_whole or not 2 <= count <= _MOST_VALUES:
        raise ValueError(
            f"count must be a whole number from 2 to {_MOST_VALUES:,}, "
            f"received {_shown(count)}."
        )
    line = Parameter(min=min, max=max, scale=scale)
    inner = (line.value(i / (count - 1)) for i in range(1, count - 1))
    return (min, *inner, max)
