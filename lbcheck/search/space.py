"""Search spaces: what a study tunes, and which point it tries i-th.

A space is a JSON file:

    {"source": "Nado et al. 2021, Table 20", "points": "halton", "trials": 229,
     "parameters": {
       "learning_rate": {"min": 5.0, "max": 9.0, "scale": "log"},
       "momentum": {"value": 0.02397, "one_minus": true},
       "decay_power": {"values": [1, 2]},
       "warmup_steps": {"min": 300, "max": 800, "scale": "linear",
                        "per": 2512, "of": "steps"}}}

A parameter has the name of the argument that it is given to: of the
optimizer, of the schedule family, `fallback_*` of the fallback's, or of
`build_model`.
"""

import copy
import dataclasses
import math
import os
from typing import Any

import numpy as np

from lbcheck.search.parameter import STEPS
from lbcheck.search.parameter import Parameter
from lbcheck.support import schema

SEQUENCES = ("halton", "sobol", "grid")
_FACTS = (
    "source",
    "trials",
    "search_seeds",
    "feasible",
    "seeds",
    "steps",
    "batch_size",
    "note",
    "parent",
)
_LARGEST_GRID = 10**6


@dataclasses.dataclass(frozen=True)
class Space:
    """The hyperparameters of a study, and the order of the points tried.

    "halton" and "sobol" are scrambled quasi-random sequences, "grid" all
    combinations in a random order. Point i is a function of (space, seed, i)
    only: not of the slice asked for, of the process, or of the order of the
    parameters in the file.

    Args:
        parameters: name -> what is tried for it.
        sequence: "halton", "sobol" or "grid".
        facts: What else the file says: source, how it is searched (trials,
            search_seeds, feasible, seeds), steps, batch_size, note, parent.
        specs: The parameters as the file has them.
        origin: File or owner, for messages.

    Example:
        >>> space = Space.from_dict({"points": "halton", "parameters": {
        ...     "learning_rate": {"min": 0.01, "max": 1, "scale": "log"},
        ...     "warmup_steps": {"value": 0.25, "of": "steps"}}})
        >>> [point] = space.points(seed=0, start=5, count=1, steps=1000)
        >>> point["warmup_steps"], 0.01 <= point["learning_rate"] < 1
        (250, True)

    Source: the search spaces of Nado et al. 2021, Appendix D.
    """

    parameters: dict[str, Parameter]
    sequence: str
    facts: dict
    specs: dict
    origin: str = dataclasses.field(default="space", compare=False)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Space":
        """The space in a JSON file.

        Raises:
            OSError: The file cannot be read.
            ValueError: Names the file, the parameter and what is wrong.
        """
        return cls.from_dict(schema.read(path), origin=str(path))

    @classmethod
    def from_dict(cls, described: dict, origin: str = "space") -> "Space":
        """The space that a dict describes, as the JSON file would.

        Args:
            described: "points", "parameters" and facts.
            origin: File or owner, for messages.

        Raises:
            ValueError: Names the origin, the parameter and what is wrong.
        """
        if not isinstance(described, dict):
            raise ValueError(
                f"{origin}: must be an object, received "
                f"{schema.shown(described)}."
            )
        described = plain(described)
        unknown = set(described) - {"points", "parameters", *_FACTS}
        if unknown:
            raise ValueError(
                f"{origin}: unknown {', '.join(sorted(map(repr, unknown)))}; "
                f'expected "points", "parameters" and optionally '
                f"{', '.join(_FACTS)}."
            )
        specs = described.get("parameters")
        if not isinstance(specs, dict) or not specs:
            raise ValueError(
                f'{origin}: "parameters" must be an object of at least one '
                f"parameter, received {schema.shown(specs)}."
            )
        if described.get("points") not in SEQUENCES:
            raise ValueError(
                f'{origin}: "points" must be one of {", ".join(SEQUENCES)}, '
                f"received {schema.shown(described.get('points'))}."
            )
        parameters = {}
        for name, spec in specs.items():
            if not str(name).isidentifier():
                raise ValueError(
                    f"{origin}: the name of a parameter must be a Python "
                    f"identifier, received {schema.shown(name)}."
                )
            try:
                parameters[name] = Parameter.from_spec(spec)
            except ValueError as error:
                raise ValueError(f"{origin}: {name}: {error}") from error
        space = cls(
            parameters,
            described["points"],
            {key: described[key] for key in _FACTS if key in described},
            specs,
            origin,
        )
        space._check()
        return space

    def _check(self):
        if STEPS in self.parameters:
            raise ValueError(
                f"{self.origin}: a parameter cannot be called {STEPS!r}."
            )
        for name, parameter in self.parameters.items():
            of = parameter.of
            if of is None or of == STEPS:
                continue
            base = self.parameters.get(of)
            if base is None or base.of or of == name:
                raise ValueError(
                    f'{self.origin}: {name}: "of" must be {STEPS!r} or a '
                    'parameter of this space without "of", received '
                    f"{schema.shown(of)}."
                )
            if isinstance(base.value(0.0), (str, bool)):
                raise ValueError(
                    f'{self.origin}: {name}: "of" is {of!r}, which is not a '
                    "number."
                )
        if self.sequence == "grid":
            for name in self.searched:
                if not self.parameters[name].choices:
                    raise ValueError(
                        f"{self.origin}: {name}: a range in a grid needs a "
                        '"count"; or give "values" instead.'
                    )
            if self.size > _LARGEST_GRID:
                raise ValueError(
                    f"{self.origin}: a grid of {self.size} points, more than "
                    f'{_LARGEST_GRID}; "points": "halton" samples it instead.'
                )

    def to_dict(self) -> dict:
        """The dict, JSON-able, that `from_dict` makes this space of."""
        return copy.deepcopy(
            {**self.facts, "points": self.sequence, "parameters": self.specs}
        )

    @property
    def searched(self) -> tuple[str, ...]:
        """Names of the parameters with more than one value."""
        return tuple(
            name
            for name, parameter in self.parameters.items()
            if parameter.is_searched
        )

    @property
    def size(self) -> int | None:
        """Points of a grid; None for a sequence, which has no end."""
        if self.sequence != "grid":
            return None
        # Parameters of a grid have choices only: these are whole numbers.
        widths: dict[str, Any] = self.volume()
        return math.prod(widths.values())

    def volume(self) -> dict[str, float]:
        """name -> decades, length or number of choices, of what is searched."""
        return {name: self.parameters[name].width for name in self.searched}

    def points(
        self, seed: int, start: int, count: int, steps: int
    ) -> list[dict]:
        """Points start to start + count - 1 of the sequence of a seed.

        Args:
            seed: At least 0.
            start: Index of the first point, at least 0.
            count: Number of points, at least 0.
            steps: Updates of a run, which fractions of the steps are of.

        Returns:
            One dict a point, name -> Python number, text or bool.

        Raises:
            ValueError: Beyond the end of a grid, or a negative argument.
        """
        if min(seed, start, count) < 0:
            raise ValueError(
                f"seed, start and count must be at least 0, received {seed}, "
                f"{start}, {count}."
            )
        if self.size is not None and start + count > self.size:
            raise ValueError(
                f"{self.origin}: points {start} to {start + count - 1} were "
                f"asked for, but the grid only has {self.size}."
            )
        names = sorted(self.searched)
        rows = self.unit_points(seed, start, count).tolist()
        return [self._point(dict(zip(names, row)), steps) for row in rows]

    def unit_points(self, seed: int, start: int, count: int) -> np.ndarray:
        """The same points in the unit cube, before their ranges: an array
        of shape (count, searched), its columns in the order of their names.
        """
        names = sorted(self.searched)
        generator = np.random.default_rng([seed])
        if not names or not count:
            return np.zeros((count, len(names)))
        if self.sequence == "grid":
            shape = [len(self.parameters[name].choices) for name in names]
            order = generator.permutation(self.size)[start : start + count]
            levels = np.stack(np.unravel_index(order, shape), axis=-1)
            return (levels + 0.5) / shape
        from scipy.stats import qmc  # takes half a second to import

        maker = {"halton": qmc.Halton, "sobol": qmc.Sobol}[self.sequence]
        engine = maker(len(names), scramble=True, rng=generator)
        if start:
            engine.fast_forward(start)
        # Sobol warns of a first draw that is no power of 2.
        return engine.random(2 ** (count - 1).bit_length())[:count]

    def _point(self, unit, steps):
        bases = {STEPS: steps}
        for name, parameter in self.parameters.items():
            if parameter.of is None:
                bases[name] = parameter.value(unit.get(name, 0.0))
        return {
            name: bases[name]
            if parameter.of is None
            else parameter.value(unit.get(name, 0.0), bases[parameter.of])
            for name, parameter in self.parameters.items()
        }

    def places(self, point: dict, steps: int) -> dict[str, float]:
        """Where in the unit cube a point lies, by the ranges searched."""
        found = {}
        for name in self.searched:
            parameter = self.parameters[name]
            place = parameter.place(
                point.get(name), self.base(name, point, steps)
            )
            if place is not None:
                found[name] = place
        return found

    def base(self, name: str, point: dict, steps: int) -> Any:
        """What a parameter's values of a point are parts of; 1 of none."""
        of = self.parameters[name].of
        return {None: 1, STEPS: steps}.get(of, point.get(of))

    def refined(self, best: dict, factor: float, steps: int) -> "Space":
        """The space around a best point, `factor` times as wide.

        A log range may leave this space unless it ends below 1, as that of a
        momentum; a linear one may not. Records where
        it comes from as "parent".

        Args:
            best: A point of this space, as `points` gives it.
            factor: Width over this space's, in decades on a log scale, in
                (0, 1).
            steps: Updates of the run that `best` is of.

        Raises:
            ValueError: A parameter that `best` lacks, or a factor outside
                its range.

        Example:
            >>> space = Space.from_dict({"points": "sobol", "parameters": {
            ...     "rate": {"min": 0.01, "max": 1, "scale": "log"}}})
            >>> finer = space.refined({"rate": 0.5}, 0.5, steps=100)
            >>> round(finer.parameters["rate"].max, 6)
            1.581139
        """
        if not 0 < factor < 1:
            raise ValueError(f"factor must be in (0, 1), received {factor}.")
        missing = [name for name in self.parameters if name not in best]
        if missing:
            raise ValueError(
                f"{self.origin}: the best trial has no {', '.join(missing)}."
            )
        specs = {}
        for name, parameter in self.parameters.items():
            kept = {
                key: self.specs[name][key]
                for key in ("one_minus", "integer", "of")
                if key in self.specs[name]
            }
            base = self.base(name, best, steps)
            specs[name] = {
                **parameter.narrowed(best[name], factor, base),
                **kept,
            }
        described = {
            "points": self.sequence,
            "parameters": specs,
            "parent": {
                "space": self.to_dict(),
                "best": dict(best),
                "factor": factor,
            },
        }
        return Space.from_dict(described, f"{self.origin}, refined")


def plain(value):
    """A copy with Python's numbers and lists for those of NumPy."""
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    return value
