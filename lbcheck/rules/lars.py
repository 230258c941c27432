"""LARS: layer-wise adaptive rate scaling over momentum."""

import dataclasses
from typing import Any

from lbcheck.rules.base import BETA
from lbcheck.rules.base import NON_NEGATIVE
from lbcheck.rules.base import Rule
from lbcheck.rules.base import Slot
from lbcheck.rules.base import guarded_ratio
from lbcheck.rules.momentum import accumulate


@dataclasses.dataclass(frozen=True, kw_only=True)
class LARS(Rule):
    """LARS with the switches in which its implementations differ.

        ratio = c ||w|| / (||g|| + lambda ||w|| + epsilon)   denominator "sum"
        ratio = c ||w|| / (||g + lambda w|| + epsilon)       "joint"
        s  = eta ratio (g + lambda w)
        m' = mu m + s
        w' = w - m'                          (nesterov: w - (s + mu m'))

    `rate_in_buffer=False` moves eta from s to the last line.
    `normalize="momentum"` (You et al. 2019, Algorithm 1; needs the rate
    outside) accumulates g + lambda w and divides by the norm of the step:
    ratio = c ||w|| / (||u|| + epsilon). Where a norm is 0 the ratio is 1.

    Source: You, Gitman, Ginsburg 2017; the form of the flax and MLPerf code
    that Nado et al. 2021 ran.
    """

    momentum: Any = 0.9
    trust_coefficient: Any = 0.001
    epsilon: Any = 0.0
    nesterov: bool = False
    denominator: str = "sum"
    normalize: str = "gradient"
    rate_in_buffer: bool = True

    bounds = {
        "momentum": BETA,
        "trust_coefficient": NON_NEGATIVE,
        "epsilon": NON_NEGATIVE,
    }
    choices = {
        "nesterov": (True, False),
        "denominator": ("sum", "joint"),
        "normalize": ("gradient", "momentum"),
        "rate_in_buffer": (True, False),
    }

    def __post_init__(self, owner):
        super().__post_init__(owner)
        if self.normalize != "momentum":
            return
        owner = owner or "LARS"
        if self.rate_in_buffer:
            raise ValueError(
                f"{owner}: `normalize='momentum'` divides by the norm of the "
                "buffer, in which a rate would cancel; pass "
                "`rate_in_buffer=False` with it."
            )
        if self.denominator != "sum":
            raise ValueError(
                f"{owner}: `denominator` has no effect with "
                "normalize='momentum', whose ratio divides by the norm of "
                f"the step; received denominator={self.denominator!r}. "
                "Leave it out."
            )

    @classmethod
    def without_effect(cls, given):
        momentum = given.get("normalize") == "momentum"
        return ("denominator",) if momentum else ()

    @property
    def slots(self):
        return (Slot("momentum"),)

    @property
    def rate_inside(self):
        return self.rate_in_buffer

    @property
    def normalizes(self):
        return "gradient" if self.normalize == "gradient" else "direction"

    def keep(self, learning_rate, decay):
        return None  # the decay is part of the increment

    def trust_ratio(self, xp, weight, other, learning_rate, decay):
        weight_norm = xp.norm(weight)
        decays = self.decays(decay) and self.normalizes == "gradient"
        if decays and self.denominator == "joint":
            other = other + self.weight_decay * weight
        measured = xp.norm(other)
        below = measured
        if decays and self.denominator == "sum":
            below = below + self.weight_decay * weight_norm
        return guarded_ratio(
            xp,
            (weight_norm > 0) & (measured > 0),
            self.trust_coefficient * weight_norm,
            below + self.epsilon,
        )

    def direction(self, xp, weight, gradient, slots, step, inside, decay):
        if self.decays(decay):
            gradient = gradient + self.weight_decay * weight
        buffer, direction = accumulate(
            self.momentum, self.nesterov, slots[0], inside * gradient
        )
        return (buffer,), direction
