"""Adam with decoupled weight decay."""

import dataclasses
from typing import Any

from lbcheck.rules.base import BETA
from lbcheck.rules.base import NON_NEGATIVE
from lbcheck.rules.base import Rule
from lbcheck.rules.base import Slot
from lbcheck.rules.base import is_zero
from lbcheck.rules.moments import decayed_average
from lbcheck.rules.moments import one_minus_power


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdamW(Rule):
    """AdamW as in the paper, with the switches of its other forms.

        g  = gradient + l2 * w
        m' = beta_1 m + (1 - beta_1) g
        v' = beta_2 v + (1 - beta_2) g^2
        m^ = m' / (1 - beta_1^t),  v^ = v' / (1 - beta_2^t)
        w' = (1 - eta lambda) w - eta m^ / (sqrt(v^) + epsilon)

    t is the number of this update from 1. `bias_correction=False` (original
    BERT) takes m^ = m', v^ = v'. `epsilon_hat=True` (Keras) adds epsilon to
    sqrt(v') and corrects afterwards. `decay_times_rate=False`
    (tensorflow-addons) decays by lambda, not by eta lambda.

    Source: Loshchilov and Hutter 2019, Algorithm 2; Kingma and Ba 2015.
    """

    beta_1: Any = 0.9
    beta_2: Any = 0.999
    epsilon: Any = 1e-8
    l2: Any = 0.0
    bias_correction: bool = True
    epsilon_hat: bool = False
    decay_times_rate: bool = True

    bounds = {
        "beta_1": BETA,
        "beta_2": BETA,
        "epsilon": NON_NEGATIVE,
        "l2": NON_NEGATIVE,
    }
    choices = {
        "bias_correction": (True, False),
        "epsilon_hat": (True, False),
        "decay_times_rate": (True, False),
    }

    @property
    def slots(self):
        return (Slot("first_moment"), Slot("second_moment"))

    def keep(self, learning_rate, decay):
        if self.decays(decay) and not self.decay_times_rate:
            return 1.0 - self.weight_decay
        return super().keep(learning_rate, decay)

    def direction(self, xp, weight, gradient, slots, step, inside, decay):
        if decay and not is_zero(self.l2):
            gradient = gradient + self.l2 * weight
        first = decayed_average(self.beta_1, slots[0], gradient)
        second = decayed_average(self.beta_2, slots[1], xp.square(gradient))
        return (first, second), self.normalized(xp, first, second, step)

    def normalized(self, xp, first, second, step):
        """m^ / (sqrt(v^) + epsilon) for update number `step` from 0."""
        if not self.bias_correction:
            return first / (xp.sqrt(second) + self.epsilon)
        by_first = one_minus_power(xp, self.beta_1, step + 1)
        by_second = one_minus_power(xp, self.beta_2, step + 1)
        if self.epsilon_hat:
            scale = xp.sqrt(by_second) / by_first
            return scale * (first / (xp.sqrt(second) + self.epsilon))
        return (first / by_first) / (xp.sqrt(second / by_second) + self.epsilon)
