"""NAdamW: Adam with a Nesterov step and decoupled weight decay."""

from typing import Any
from typing import Literal

from lbcheck.optimizers import base
from lbcheck.optimizers import rule
from lbcheck.optimizers.selection import BIAS_AND_NORM

_SCHEDULE_BASE = 0.96
"""Dozat 2016, Section 3.2: beta_1 rises as 1 - 0.96^t / 2."""


@rule.frozen
class NAdamWRule(rule.Rule):
    """The rule of `NAdamW`; the equations stand there."""

    title = "NAdamW"
    dialects = {
        "paper": rule.Dialect("Dozat 2016, Algorithm 2, with decoupled decay"),
        "optax": rule.Dialect("optax.nadamw"),
        "algoperf": rule.Dialect(
            "MLCommons algorithmic_efficiency, the baseline nadamw",
            {"correction": "same"},
        ),
        "keras": rule.Dialect(
            "keras.optimizers.Nadam, tf_keras.optimizers.Nadam",
            {"momentum_schedule": True},
        ),
    }

    beta_1: Any = 0.9
    beta_2: Any = 0.999
    epsilon: Any = 1e-8
    weight_decay: Any = 0.01
    correction: str = "next"
    momentum_schedule: bool = False

    bounds = {
        "beta_1": rule.BETA,
        "beta_2": rule.BETA,
        "epsilon": rule.NON_NEGATIVE,
    }
    choices = {
        "correction": ("next", "same"),
        "momentum_schedule": (True, False),
    }

    def __post_init__(self, owner):
        super().__post_init__(owner)
        if self.momentum_schedule and self.correction != "next":
            raise ValueError(
                f"{owner or self.title}: `correction` must be 'next' with "
                f"momentum_schedule=True, received {self.correction!r}."
            )

    @property
    def slots(self):
        moments = (rule.Slot("first_moment"), rule.Slot("second_moment"))
        if self.momentum_schedule:
            return (*moments, rule.Slot("beta_1_product", 1.0, scalar=True))
        return moments

    def direction(self, xp, weight, gradient, slots, step, inside, decay):
        count = step + 1
        first = rule.decayed_average(self.beta_1, slots[0], gradient)
        second = rule.decayed_average(
            self.beta_2, slots[1], xp.square(gradient)
        )
        now = following = self.beta_1
        scalars = ()
        if self.momentum_schedule:
            now = self._scheduled(xp, count)
            following = self._scheduled(xp, count + 1)
            product = slots[2] * now
            scalars = (product,)
            by, by_following = 1.0 - product, 1.0 - product * following
        else:
            by = rule.one_minus_power(xp, self.beta_1, count)
            by_following = by
            if self.correction == "next":
                by_following = rule.one_minus_power(xp, self.beta_1, count + 1)
        # Scalars first: arrays are then multiplied, which is cheaper.
        mean = (following / by_following) * first + (
            (1.0 - now) / by
        ) * gradient
        variance = second * (1.0 / rule.one_minus_power(xp, self.beta_2, count))
        direction = mean / (xp.sqrt(variance) + self.epsilon)
        return (first, second, *scalars), direction

    def _scheduled(self, xp, count):
        """beta_1 (1 - 0.96^t / 2) for update t, from 1."""
        power = 1.0 - rule.one_minus_power(xp, _SCHEDULE_BASE, count)
        return self.beta_1 * (1.0 - 0.5 * power)


class NAdamW(base.Optimizer):
    """NAdamW: Adam with a Nesterov step and decoupled weight decay.

    With t counting updates from 1:

        m' = beta_1 * m + (1 - beta_1) * g
        v' = beta_2 * v + (1 - beta_2) * g^2
        m^ = beta_1 * m' / (1 - beta_1^(t+1))
             + (1 - beta_1) * g / (1 - beta_1^t)
        r  = m^ / (sqrt(v' / (1 - beta_2^t)) + epsilon)
        w' = (1 - learning_rate * weight_decay) * w - learning_rate * r

    Args:
        learning_rate: Step size per update: a number of at least 0, a
            schedule of lbcheck or Keras, or a callable without
            arguments. Defaults to 0.001.
        beta_1: Decay of the first moment, in [0, 1). Defaults to 0.9.
        beta_2: Decay of the second moment, in [0, 1). Defaults to 0.999.
        epsilon: Added to the denominator, at least 0. Defaults to 1e-8.
        weight_decay: Coefficient of weight decay, at least 0. Decoupled, times
            the rate. Defaults to 0.01.
    {shared}
        correction: "next", by which m' is divided above, or "same": by
            1 - beta_1^t, as AlgoPerf. None: the dialect's, "next" of the
            paper.
        momentum_schedule: True takes beta_1 (1 - 0.96^t / 2) for beta_1 in
            m^, and its product over the updates for the power, as Keras's
            Nadam. None: the dialect's, False of the paper.

    Example:

    >>> import numpy as np, lbcheck
    >>> w, g = np.zeros(1), np.ones(1)
    >>> for correction in ("next", "same"):
    ...     rule = lbcheck.rules.NAdamW(epsilon=0.0, correction=correction)
    ...     new, _, _ = rule.update(
    ...         lbcheck.rules.NUMPY, w, g, (w, w), 1.0, 0)
    ...     print(f"{new[0]:.3f}")
    -1.474
    -1.900

    Source: Dozat 2016, "Incorporating Nesterov Momentum into Adam"; Dahl et
    al. 2023, "Benchmarking Neural Network Training Algorithms", Section 7.
    """

    rule_class = NAdamWRule
    example = {
        "learning_rate": 0.1,
        "beta_1": 0.9,
        "beta_2": 0.999,
        "epsilon": 1e-6,
        "weight_decay": 0.1,
    }

    def __init__(
        self,
        learning_rate: base.Rate = base.RATE_ADAM,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        weight_decay: float = 0.01,
        exclude_from_weight_decay: base.Patterns = BIAS_AND_NORM,
        dialect: str = rule.DEFAULT,
        correction: Literal["next", "same"] | None = None,
        momentum_schedule: bool | None = None,
        diagnostics_every: int = 0,
        name: str | None = None,
        **kwargs,
    ):
        super().__init__(**base.received(locals()))
