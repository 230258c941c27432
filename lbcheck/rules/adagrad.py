"""Adagrad, a baseline of the LAMB paper."""

import dataclasses
from typing import Any

from lbcheck.rules.base import NON_NEGATIVE
from lbcheck.rules.base import Rule
from lbcheck.rules.base import Slot
from lbcheck.rules.base import is_zero


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adagrad(Rule):
    """Diagonal Adagrad, with L2 and decoupled decay.

        g  = gradient + l2 * w
        a' = a + g^2                          a starts at the initial value
        w' = (1 - eta lambda) w - eta g / (sqrt(a') + epsilon)

    `epsilon_hat=True` (Keras, optax) divides by sqrt(a' + epsilon).

    Source: Duchi, Hazan, Singer 2011, Figure 1 (diagonal form).
    """

    initial_accumulator_value: Any = 0.1
    epsilon: Any = 1e-7
    l2: Any = 0.0
    epsilon_hat: bool = False

    bounds = {
        "initial_accumulator_value": NON_NEGATIVE,
        "epsilon": NON_NEGATIVE,
        "l2": NON_NEGATIVE,
    }
    choices = {"epsilon_hat": (True, False)}

    @property
    def slots(self):
        return (Slot("accumulator", self.initial_accumulator_value),)

    def direction(self, xp, weight, gradient, slots, step, inside, decay):
        if decay and not is_zero(self.l2):
            gradient = gradient + self.l2 * weight
        accumulator = slots[0] + xp.square(gradient)
        if self.epsilon_hat:
            divisor = xp.sqrt(accumulator + self.epsilon)
        else:
            divisor = xp.sqrt(accumulator) + self.epsilon
        return (accumulator,), gradient / divisor
