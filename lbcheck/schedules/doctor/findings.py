"""What the schedule doctor says: findings, as text, JSON and a figure."""

import dataclasses
import json
import math
import os
from typing import Any

import numpy as np

ERROR = "error"
NOTE = "note"


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing found in a schedule.

    Attributes:
        code: Short name, such as "jump".
        severity: "error" for a defect, "note" for a choice worth knowing.
        what: What is the matter, in a few words.
        step: Where: the update it starts at, from 0.
        amount: How much; in per cent, a ratio or updates, see `unit`.
        unit: Unit of `amount`: "%", "x" or "updates".
        why: Why it matters.
        fix: What to change.
    """

    code: str
    severity: str
    what: str
    step: int
    amount: float
    unit: str
    why: str
    fix: str

    @property
    def size(self) -> str:
        """The amount with its unit: "22.2 %", "1.529x", "3 updates"."""
        if self.unit == "%":
            digits = ".1f" if self.amount >= 0.05 else ".2g"
            return f"{self.amount:{digits}} %"
        if self.unit == "x":
            return f"{self.amount:.4g}x"
        unit = "update" if self.amount == 1 else self.unit
        return f"{self.amount:,.0f} {unit}"

    def __str__(self):
        return (
            f"{self.severity.upper()} {self.code} at step {self.step:,} "
            f"({self.size}): {self.what}\n"
            f"  why: {self.why}\n"
            f"  fix: {self.fix}"
        )


@dataclasses.dataclass(frozen=True)
class Examination:
    """All findings about one schedule, errors first.

    Attributes:
        findings: Tuple of `Finding`.
        total_steps: Updates of the run.
        steps: The sampled steps.
        rates: Their rates, float64.
    """

    findings: tuple[Finding, ...]
    total_steps: int
    steps: np.ndarray = dataclasses.field(repr=False, compare=False)
    rates: np.ndarray = dataclasses.field(repr=False, compare=False)

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that are defects."""
        return tuple(f for f in self.findings if f.severity == ERROR)

    def __str__(self):
        errors, notes = len(self.errors), len(self.findings)
        notes -= errors
        first, last = self.rates[0], self.rates[-1]
        finite = self.rates[np.isfinite(self.rates)]
        highest = finite.max() if finite.size else float("nan")
        head = (
            f"{self.total_steps:,} updates: first rate {first:.4g}, highest "
            f"{highest:.4g}, last {last:.4g}; {errors} error"
            f"{'s' * (errors != 1)}, {notes} note{'s' * (notes != 1)}"
        )
        return "\n".join([head, *(str(f) for f in self.findings)])

    def to_json(self) -> str:
        """The findings as a JSON object; see `Finding` for the fields."""
        return json.dumps(self._described(), indent=2)

    def _described(self) -> dict[str, Any]:
        return {
            "total_steps": self.total_steps,
            "errors": len(self.errors),
            "findings": [
                dataclasses.asdict(f)
                | {"size": f.size}
                # JSON has no infinity, such as a leap from 0.
                | ({} if math.isfinite(f.amount) else {"amount": None})
                for f in self.findings
            ],
        }

    def save_figure(self, path: str | os.PathLike[str]) -> None:
        """Draws the rate with the findings marked; PNG, SVG or PDF by name."""
        from lbcheck.schedules import figures

        figures.draw_examination(self, path)
