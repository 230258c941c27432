"""Lion: the sign of an interpolated momentum."""

import numbers
from typing import Any

from lbcheck.optimizers import base
from lbcheck.optimizers import rule
from lbcheck.optimizers.selection import BIAS_AND_NORM


@rule.frozen
class LionRule(rule.Rule):
    """The rule of `Lion`; the equations stand there."""

    title = "Lion"
    dialects = {
        "paper": rule.Dialect("Chen et al. 2023, Algorithm 2"),
        "optax": rule.Dialect("optax.lion"),
        "keras": rule.Dialect("keras.optimizers.Lion, tf_keras's Lion"),
    }

    beta_1: Any = 0.9
    beta_2: Any = 0.99

    bounds = {"beta_1": rule.BETA, "beta_2": rule.BETA}

    @property
    def slots(self):
        return (rule.Slot("momentum"),)

    def direction(self, xp, weight, gradient, slots, step, inside, decay):
        momentum = rule.decayed_average(self.beta_2, slots[0], gradient)
        if isinstance(self.beta_2, numbers.Number) and self.beta_2 >= 0.5:
            # The same of the new momentum, so that a compiler can put that in
            # the place of the old one, which nothing needs any more.
            old = self.beta_1 / self.beta_2
            new = (1.0 - self.beta_1) - old * (1.0 - self.beta_2)
            interpolated = old * momentum + new * gradient
        else:
            interpolated = rule.decayed_average(self.beta_1, slots[0], gradient)
        return (momentum,), xp.sign(interpolated)


class Lion(base.Optimizer):
    """Lion: the sign of an interpolated momentum.

        c  = beta_1 * m + (1 - beta_1) * g
        w' = (1 - learning_rate * weight_decay) * w - learning_rate * sign(c)
        m' = beta_2 * m + (1 - beta_2) * g

    Every element moves by the rate, so that the rate is some 3 to 10 times
    smaller and the decay as much larger than those of `AdamW`.

    Args:
        learning_rate: Step size per update: a number of at least 0, a
            schedule of lbcheck or Keras, or a callable without
            arguments. Defaults to 0.0001.
        beta_1: Weight of the momentum in the step, in [0, 1). Defaults to
            0.9.
        beta_2: Decay of the momentum, in [0, 1). Defaults to 0.99.
        weight_decay: Coefficient of weight decay, at least 0. Decoupled, times
            the rate. Defaults to 0.1.
    {shared}

    Example:

    >>> import numpy as np, lbcheck
    >>> rule = lbcheck.rules.Lion(beta_1=0.5)
    >>> w, m, _ = rule.update(
    ...     lbcheck.rules.NUMPY, np.zeros(2), np.array([3.0, -0.1]),
    ...     (np.array([-1.0, 0.0]),), 0.1, 0)
    >>> print(w)  # with beta_1 above 3/4 the first would be 0.1
    [-0.1  0.1]

    Source: Chen et al. 2023, "Symbolic Discovery of Optimization Algorithms",
    Algorithm 2.
    """

    rule_class = LionRule
    example = {
        "learning_rate": 0.1,
        "beta_1": 0.9,
        "beta_2": 0.99,
        "weight_decay": 0.1,
    }

    def __init__(
        self,
        learning_rate: base.Rate = base.RATE_LION,
        beta_1: float = 0.9,
        beta_2: float = 0.99,
        weight_decay: float = 0.1,
        exclude_from_weight_decay: base.Patterns = BIAS_AND_NORM,
        dialect: str = rule.DEFAULT,
        diagnostics_every: int = 0,
        name: str | None = None,
        **kwargs,
    ):
        super().__init__(**base.received(locals()))
