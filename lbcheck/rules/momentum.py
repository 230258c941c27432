"""Heavy-ball and Nesterov momentum."""

import dataclasses
from typing import Any

from lbcheck.rules.base import BETA
from lbcheck.rules.base import NON_NEGATIVE
from lbcheck.rules.base import Rule
from lbcheck.rules.base import Slot
from lbcheck.rules.base import is_zero


def accumulate(momentum, nesterov, buffer, increment):
    """v' = mu v + s; returns (v', v' or the Nesterov step s + mu v')."""
    buffer = momentum * buffer + increment
    return buffer, increment + momentum * buffer if nesterov else buffer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Momentum(Rule):
    """Momentum with the rate outside the buffer, or inside as in Keras.

        g  = gradient + l2 * w
        v' = mu v + g            (rate_in_buffer: v' = mu v + eta g)
        u  = v'                  (nesterov: u = mu v' + g)
        w' = (1 - eta lambda) w - eta u

    Source: Nado et al. 2021, section 2.1.1; the inside form is Keras's.
    """

    momentum: Any = 0.9
    nesterov: bool = False
    l2: Any = 0.0
    rate_in_buffer: bool = False

    bounds = {"momentum": BETA, "l2": NON_NEGATIVE}
    choices = {"nesterov": (True, False), "rate_in_buffer": (True, False)}

    @property
    def slots(self):
        return (Slot("momentum"),)

    @property
    def rate_inside(self):
        return self.rate_in_buffer

    def direction(self, xp, weight, gradient, slots, step, inside, decay):
        if decay and not is_zero(self.l2):
            gradient = gradient + self.l2 * weight
        buffer, direction = accumulate(
            self.momentum, self.nesterov, slots[0], inside * gradient
        )
        return (buffer,), direction
