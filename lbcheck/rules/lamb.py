"""LAMB, N-LAMB and NN-LAMB: layer-wise adaptation over Adam's moments."""

import dataclasses
import math
from typing import Any

from lbcheck.rules.arrays import NORMS
from lbcheck.rules.base import BETA
from lbcheck.rules.base import NON_NEGATIVE
from lbcheck.rules.base import Rule
from lbcheck.rules.base import Slot
from lbcheck.rules.base import check_number
from lbcheck.rules.base import guarded_ratio
from lbcheck.rules.base import plain
from lbcheck.rules.moments import decayed_average
from lbcheck.rules.moments import one_minus_power


@dataclasses.dataclass(frozen=True, kw_only=True)
class LAMB(Rule):
    """LAMB with the switches in which its implementations differ.

        m' = beta_1 m + (1 - beta_1) g
        v' = beta_2 v + (1 - beta_2) g^2
        r  = m^ / (sqrt(v^) + epsilon)
        u  = r + lambda w
        w' = w - eta phi(||w||) / ||u|| u

    with m^ = m' / (1 - beta_1^t) and v^ = v' / (1 - beta_2^t), t from 1.
    `nesterov="first"` (N-LAMB) and `"both"` (NN-LAMB) take

        m^ = b_{t+1} m' / (1 - prod_{i<=t+1} b_i)
             + (1 - b_t) g / (1 - prod_{i<=t} b_i)

    where b_t is beta_1, a number or a function of t; NN-LAMB does the same
    to v' and g^2 with beta_2, N-LAMB has v^ = beta_2 v' / (1 - beta_2^t).
    Without bias correction the denominators are 1.
    `phi_bounds=(low, high)` clips ||w||; None is the identity.
    `zero_norm`: "one" makes the ratio 1 where a norm is 0; "flax" gives
    0 where only ||w|| is 0, which freezes zero-initialised variables.
    `decay_placement="decoupled"` (Keras 3) first takes w to
    (1 - eta lambda) w and leaves lambda out of u.

    Source: You et al. 2019, Algorithms 2, 3 and 4, with the square root that
    is lost in print; Dozat 2016 for the indices of N-LAMB.
    """

    beta_1: Any = 0.9
    beta_2: Any = 0.999
    epsilon: Any = 1e-6
    weight_decay: Any = 0.01
    bias_correction: bool = True
    nesterov: str | None = None
    norm: str = "l2"
    phi_bounds: tuple[float, float] | None = None
    zero_norm: str = "one"
    decay_placement: str = "inside"

    functions = ("beta_1",)
    bounds = {"beta_1": BETA, "beta_2": BETA, "epsilon": NON_NEGATIVE}
    choices = {
        "bias_correction": (True, False),
        "nesterov": (None, "first", "both"),
        "norm": NORMS,
        "zero_norm": ("one", "flax"),
        "decay_placement": ("inside", "decoupled"),
    }

    def __post_init__(self, owner):
        super().__post_init__(owner)
        if self.phi_bounds is None:
            return
        owner = owner or "LAMB"
        if (
            not isinstance(self.phi_bounds, (tuple, list))
            or len(self.phi_bounds) != 2
        ):
            raise TypeError(
                f"{owner}: `phi_bounds` must be None or a pair (low, high), "
                f"received {self.phi_bounds!r}."
            )
        low, high = map(plain, self.phi_bounds)
        for number in (low,) if high == math.inf else (low, high):
            check_number(owner, "phi_bounds", number, NON_NEGATIVE)
        if low > high:
            raise ValueError(
                f"{owner}: `phi_bounds` must be (low, high) with low <= high, "
                f"received {self.phi_bounds!r}."
            )
        object.__setattr__(self, "phi_bounds", (low, high))

    @property
    def slots(self):
        moments = (Slot("first_moment"), Slot("second_moment"))
        if callable(self.beta_1):
            return (*moments, Slot("beta_1_product", 1.0, scalar=True))
        return moments

    @property
    def normalizes(self):
        return "direction"

    def keep(self, learning_rate, decay):
        if self.decay_placement == "inside":
            return None
        return super().keep(learning_rate, decay)

    def trust_ratio(self, xp, weight, other, learning_rate, decay):
        weight_norm = xp.norm(weight, self.norm)
        keep = self.keep(learning_rate, decay)
        if keep is not None:
            weight_norm = xp.abs(keep) * weight_norm
        if self.phi_bounds is not None:
            low, high = self.phi_bounds
            weight_norm = xp.minimum(xp.maximum(weight_norm, low), high)
        direction_norm = xp.norm(other, self.norm)
        if self.zero_norm == "flax":
            return xp.where(
                weight_norm + direction_norm > 0,
                weight_norm / direction_norm,
                1.0,
            )
        usable = (weight_norm > 0) & (direction_norm > 0)
        return guarded_ratio(xp, usable, weight_norm, direction_norm)

    def first_betas(self, xp, slots, step):
        """(b_t, b_{t+1}, 1 - prod to t, 1 - prod to t+1, new scalar slots)."""
        count = step + 1
        if callable(self.beta_1):
            beta, following = self.beta_1(count), self.beta_1(count + 1)
            product = slots[2] * beta
            scalars = (product,)
            by, by_following = 1.0 - product, 1.0 - product * following
        else:
            beta = following = self.beta_1
            scalars = ()
            by = one_minus_power(xp, beta, count)
            by_following = one_minus_power(xp, beta, count + 1)
        if not self.bias_correction:
            by = by_following = 1.0
        return beta, following, by, by_following, scalars

    def second_corrections(self, xp, step):
        """1 - beta_2^t and 1 - beta_2^(t+1), or ones."""
        if not self.bias_correction:
            return 1.0, 1.0
        return (
            one_minus_power(xp, self.beta_2, step + 1),
            one_minus_power(xp, self.beta_2, step + 2),
        )

    def direction(self, xp, weight, gradient, slots, step, inside, decay):
        squared = xp.square(gradient)
        beta, following, by, by_following, scalars = self.first_betas(
            xp, slots, step
        )
        by_second, by_second_following = self.second_corrections(xp, step)
        first = decayed_average(beta, slots[0], gradient)
        second = decayed_average(self.beta_2, slots[1], squared)
        if self.nesterov is None:
            mean = first / by
            variance = second / by_second
        else:
            mean = (
                following * first / by_following + (1.0 - beta) * gradient / by
            )
            variance = self.beta_2 * second / by_second
        if self.nesterov == "both":
            variance = (
                self.beta_2 * second / by_second_following
                + (1.0 - self.beta_2) * squared / by_second
            )
        direction = mean / (xp.sqrt(variance) + self.epsilon)
        if self.decay_placement == "inside" and self.decays(decay):
            direction = direction + self.weight_decay * weight
        return (first, second, *scalars), direction
