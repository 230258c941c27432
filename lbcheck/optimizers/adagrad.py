"""Adagrad, a baseline of the LAMB paper."""

from typing import Any

from lbcheck.optimizers import base
from lbcheck.optimizers import rule
from lbcheck.optimizers.selection import BIAS_AND_NORM


@rule.frozen
class AdagradRule(rule.Rule):
    """The rule of `Adagrad`; the equations stand there."""

    title = "Adagrad"
    dialects = {
        "paper": rule.Dialect("Duchi, Hazan, Singer 2011"),
        "keras": rule.Dialect(
            "keras.optimizers.Adagrad", {"epsilon_hat": True}
        ),
    }

    initial_accumulator_value: Any = 0.1
    epsilon: Any = 1e-7
    l2: Any = 0.0
    epsilon_hat: bool = False

    bounds = {
        "initial_accumulator_value": rule.NON_NEGATIVE,
        "epsilon": rule.NON_NEGATIVE,
        "l2": rule.NON_NEGATIVE,
    }
    choices = {"epsilon_hat": (True, False)}

    @property
    def slots(self):
        return (rule.Slot("accumulator", self.initial_accumulator_value),)

    def direction(self, xp, weight, gradient, slots, step, inside, decay):
        if decay and not rule.is_zero(self.l2):
            gradient = gradient + self.l2 * weight
        accumulator = slots[0] + xp.square(gradient)
        if self.epsilon_hat:
            divisor = xp.sqrt(accumulator + self.epsilon)
        else:
            divisor = xp.sqrt(accumulator) + self.epsilon
        return (accumulator,), gradient / divisor


class Adagrad(base.Optimizer):
    """Diagonal Adagrad, a baseline of the LAMB paper.

        g  = gradient + l2 * w
        a' = a + g^2                 a starts at initial_accumulator_value
        w' = (1 - learning_rate * weight_decay) * w
             - learning_rate * g / (sqrt(a') + epsilon)

    Args:
        learning_rate: Step size per update: a number of at least 0, a
            schedule of lbcheck or Keras, or a callable without
            arguments. Defaults to 0.001.
        initial_accumulator_value: First value of the sum of squares, at
            least 0. Defaults to 0.1.
        epsilon: Added to the denominator, at least 0. Defaults to 1e-7.
        weight_decay: Coefficient of weight decay, at least 0. Decoupled, times
            the rate. Defaults to 0.
        l2: Coefficient of L2 in the loss, `l2 / 2 * ||w||^2`, at least 0.
            Defaults to 0.
    {shared}
        epsilon_hat: True adds epsilon under the root, as Keras and optax do.
            None: the dialect's, False of the paper.

    Example:

    >>> import numpy as np, lbcheck
    >>> rule = lbcheck.rules.Adagrad(initial_accumulator_value=0.0)
    >>> w, state = np.array([0.0]), (np.array([0.0]),)
    >>> for step in range(2):
    ...     w, state, _ = rule.update(
    ...         lbcheck.rules.NUMPY, w, np.array([3.0]), state, 1.0, step)
    >>> print(w.round(4))  # 1 + 1 / sqrt(2)
    [-1.7071]

    Source: Duchi, Hazan, Singer 2011.
    """

    rule_class = AdagradRule
    example = {
        "learning_rate": 1.0,
        "initial_accumulator_value": 0.1,
        "epsilon": 1e-5,
        "weight_decay": 0.0,
    }

    def __init__(
        self,
        learning_rate: base.Rate = base.RATE_ADAM,
        initial_accumulator_value: float = 0.1,
        epsilon: float = 1e-7,
        weight_decay: float = 0.0,
        l2: float = 0.0,
        exclude_from_weight_decay: base.Patterns = BIAS_AND_NORM,
        dialect: str = rule.DEFAULT,
        epsilon_hat: bool | None = None,
        diagnostics_every: int = 0,
        name: str | None = None,
        **kwargs,
    ):
        super().__init__(**base.received(locals()))
