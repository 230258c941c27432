"""AdEMAMix: AdamW with a second, slow average of the gradients."""

import numbers
from typing import Any

from lbcheck.optimizers import base
from lbcheck.optimizers import rule
from lbcheck.optimizers.selection import BIAS_AND_NORM


@rule.frozen
class AdEMAMixRule(rule.Rule):
    """The rule of `AdEMAMix`; the equations stand there."""

    title = "AdEMAMix"
    dialects = {
        "paper": rule.Dialect("Pagliardini et al. 2024, Algorithm 1"),
        "optax": rule.Dialect(
            "optax.contrib.ademamix, its schedules those of apple/ml-ademamix",
            {"warmup_from_zero": True},
        ),
    }

    beta_1: Any = 0.9
    beta_2: Any = 0.999
    beta_3: Any = 0.9999
    alpha: Any = 5.0
    slow_warmup_steps: Any = 0
    epsilon: Any = 1e-8
    warmup_from_zero: bool = False

    bounds = {
        "beta_1": rule.BETA,
        "beta_2": rule.BETA,
        "beta_3": rule.BETA,
        "alpha": rule.NON_NEGATIVE,
        "slow_warmup_steps": rule.NON_NEGATIVE,
        "epsilon": rule.NON_NEGATIVE,
    }
    choices = {"warmup_from_zero": (True, False)}

    @property
    def slots(self):
        names = ("first_moment", "slow_moment", "second_moment")
        return tuple(map(rule.Slot, names))

    def mixture(self, xp, step):
        """(beta_3, 1 - beta_3, alpha) of the update after `step` ones.

        The half-life of the slow average and its share rise linearly.
        """
        if rule.is_zero(self.slow_warmup_steps):
            return self.beta_3, 1.0 - self.beta_3, self.alpha
        count = step if self.warmup_from_zero else step + 1
        steps = self.slow_warmup_steps
        if not isinstance(steps, numbers.Number):
            steps = xp.maximum(steps, 1e-9)
        passed = xp.minimum(count / steps, 1.0)
        slow = 1.0 / rule.logarithm(xp, self.beta_3)
        fast = 1.0 / rule.logarithm(xp, self.beta_1)
        half_life = (1.0 - passed) * fast + passed * slow
        # A beta_1 of 0 has a half-life of 0, of which 0 is the power.
        usable = half_life < 0
        power = 1.0 / xp.where(usable, half_life, -1.0)
        beta = xp.where(usable, xp.exp(power), 0.0)
        rest = xp.where(usable, -xp.expm1(power), 1.0)
        # Rounding must not move it once it has arrived.
        rises = (passed < 1.0) & (beta < self.beta_3)
        return (
            xp.where(rises, beta, self.beta_3),
            xp.where(rises, rest, 1.0 - self.beta_3),
            passed * self.alpha,
        )

    def direction(self, xp, weight, gradient, slots, step, inside, decay):
        beta_3, rest, alpha = self.mixture(xp, step)
        first = rule.decayed_average(self.beta_1, slots[0], gradient)
        slow = beta_3 * slots[1] + rest * gradient
        second = rule.decayed_average(
            self.beta_2, slots[2], xp.square(gradient)
        )
        # Scalars first: arrays are then multiplied, which is cheaper.
        mean = first * (1.0 / rule.one_minus_power(xp, self.beta_1, step + 1))
        variance = second * (
            1.0 / rule.one_minus_power(xp, self.beta_2, step + 1)
        )
        direction = (mean + alpha * slow) / (xp.sqrt(variance) + self.epsilon)
        return (first, slow, second), direction


class AdEMAMix(base.Optimizer):
    """AdEMAMix: AdamW with a second, slow average of the gradients.

    With t counting updates from 1 and T of `slow_warmup_steps`:

        m1' = beta_1 * m1 + (1 - beta_1) * g
        m2' = b(t) * m2 + (1 - b(t)) * g
        v'  = beta_2 * v + (1 - beta_2) * g^2
        u   = m1' / (1 - beta_1^t) + alpha * min(t / T, 1) * m2'
        r   = u / (sqrt(v' / (1 - beta_2^t)) + epsilon)
        w'  = (1 - learning_rate * weight_decay) * w - learning_rate * r

    where 1 / ln b(t) goes linearly from 1 / ln beta_1 to 1 / ln beta_3 in T
    updates: the half-life of m2 rises linearly.

    Args:
        learning_rate: Step size per update: a number of at least 0, a
            schedule of lbcheck or Keras, or a callable without
            arguments. Defaults to 0.001.
        beta_1: Decay of the fast first moment, in [0, 1). Defaults to 0.9.
        beta_2: Decay of the second moment, in [0, 1). Defaults to 0.999.
        beta_3: Decay of the slow first moment, in [0, 1). Its half-life should
            be well below the updates of the run. Defaults to 0.9999.
        alpha: Weight of the slow moment, at least 0. Defaults to 5.
        slow_warmup_steps: Updates T until beta_3 and alpha are reached, at
            least 0. The paper takes all of the run. 0, the default: from
            the first on.
        epsilon: Added to the denominator, at least 0. Defaults to 1e-8.
        weight_decay: Coefficient of weight decay, at least 0. Decoupled, times
            the rate. Defaults to 0.
    {shared}
        warmup_from_zero: Whether t counts from 0 in the warm-up, as in the
            JAX code of the authors. None: the dialect's, False of the paper.

    Example:

    >>> import lbcheck
    >>> rule = lbcheck.rules.AdEMAMix(slow_warmup_steps=100)
    >>> for step in (0, 49, 99):  # 1 / ln b is linear, b is not
    ...     beta_3, _, alpha = rule.mixture(lbcheck.rules.NUMPY, step)
    ...     print(f"{beta_3:.5f} {alpha:.2f}")
    0.99090 0.05
    0.99980 2.50
    0.99990 5.00

    Source: Pagliardini et al. 2024, "The AdEMAMix Optimizer: Better, Faster,
    Older", Algorithm 1 and Section 3.
    """

    rule_class = AdEMAMixRule
    example = {
        "learning_rate": 0.05,
        "beta_1": 0.9,
        "beta_2": 0.999,
        "beta_3": 0.99,
        "alpha": 5.0,
        "slow_warmup_steps": 30,
        "epsilon": 1e-6,
        "weight_decay": 0.1,
    }

    def __init__(
        self,
        learning_rate: base.Rate = base.RATE_ADAM,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        beta_3: float = 0.9999,
        alpha: float = 5.0,
        slow_warmup_steps: int = 0,
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
        exclude_from_weight_decay: base.Patterns = BIAS_AND_NORM,
        dialect: str = rule.DEFAULT,
        warmup_from_zero: bool | None = None,
        diagnostics_every: int = 0,
        name: str | None = None,
        **kwargs,
    ):
        super().__init__(**base.received(locals()))
