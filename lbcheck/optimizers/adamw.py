"""Adam with decoupled weight decay."""

from typing import Any

from lbcheck.optimizers import base
from lbcheck.optimizers import rule
from lbcheck.optimizers.selection import BIAS_AND_NORM


@rule.frozen
class AdamWRule(rule.Rule):
    """The rule of `AdamW`; the equations stand there."""

    title = "AdamW"
    dialects = {
        "paper": rule.Dialect("Loshchilov and Hutter 2019, Algorithm 2"),
        "flax": rule.Dialect("flax.optim.Adam"),
        "optax": rule.Dialect("optax.adamw"),
        "keras": rule.Dialect(
            "keras.optimizers.AdamW, tf_keras.optimizers.AdamW",
            {"epsilon_hat": True},
        ),
        "model_garden": rule.Dialect(
            "official.modeling.optimization.legacy_adamw",
            {"epsilon_hat": True},
        ),
        "tfa": rule.Dialect(
            "tensorflow_addons.optimizers.AdamW: decay not times the rate",
            {"epsilon_hat": True, "decay_times_rate": False},
        ),
        "bert_original": rule.Dialect(
            "google-research/bert optimization.py",
            {"bias_correction": False},
        ),
    }

    beta_1: Any = 0.9
    beta_2: Any = 0.999
    epsilon: Any = 1e-8
    l2: Any = 0.0
    bias_correction: bool = True
    epsilon_hat: bool = False
    decay_times_rate: bool = True

    bounds = {
        "beta_1": rule.BETA,
        "beta_2": rule.BETA,
        "epsilon": rule.NON_NEGATIVE,
        "l2": rule.NON_NEGATIVE,
    }
    choices = {
        "bias_correction": (True, False),
        "epsilon_hat": (True, False),
        "decay_times_rate": (True, False),
    }

    @property
    def slots(self):
        return (rule.Slot("first_moment"), rule.Slot("second_moment"))

    def keep(self, learning_rate, decay):
        if self.decays(decay) and not self.decay_times_rate:
            return 1.0 - self.weight_decay
        return super().keep(learning_rate, decay)

    def direction(self, xp, weight, gradient, slots, step, inside, decay):
        if decay and not rule.is_zero(self.l2):
            gradient = gradient + self.l2 * weight
        first = rule.decayed_average(self.beta_1, slots[0], gradient)
        second = rule.decayed_average(
            self.beta_2, slots[1], xp.square(gradient)
        )
        return (first, second), self.normalized(xp, first, second, step)

    def normalized(self, xp, first, second, step):
        """m^ / (sqrt(v^) + epsilon) for update number `step` from 0."""
        if not self.bias_correction:
            return first / (xp.sqrt(second) + self.epsilon)
        by_first = rule.one_minus_power(xp, self.beta_1, step + 1)
        by_second = rule.one_minus_power(xp, self.beta_2, step + 1)
        if self.epsilon_hat:
            scale = xp.sqrt(by_second) / by_first
            return scale * (first / (xp.sqrt(second) + self.epsilon))
        return (first / by_first) / (xp.sqrt(second / by_second) + self.epsilon)


class AdamW(base.Optimizer):
    """Adam with decoupled weight decay, and L2 beside it.

    With t counting updates from 1:

        g  = gradient + l2 * w
        m' = beta_1 * m + (1 - beta_1) * g
        v' = beta_2 * v + (1 - beta_2) * g^2
        r  = m' / (1 - beta_1^t) / (sqrt(v' / (1 - beta_2^t)) + epsilon)
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
        l2: Coefficient of L2 in the loss, `l2 / 2 * ||w||^2`, at least 0.
            Defaults to 0.
        bias_correction: Whether to divide by 1 - beta^t. None: the
            dialect's, False of bert_original and True of the others.
    {shared}
        epsilon_hat: True for Keras's form, in which epsilon stands beside
            sqrt(v') and is corrected with it. None: the dialect's, False of
            the paper.
        decay_times_rate: False decays by weight_decay alone, as
            tensorflow-addons. None: the dialect's, True of the paper.

    Example:

    >>> import numpy as np, lbcheck
    >>> w, g = np.array([1.0]), np.array([1e-6])
    >>> for epsilon_hat in (False, True):
    ...     rule = lbcheck.rules.AdamW(epsilon=1e-6, epsilon_hat=epsilon_hat)
    ...     new, _, _ = rule.update(
    ...         lbcheck.rules.NUMPY, w, g, (0 * w, 0 * w), 0.1, 0)
    ...     print(f"{(w - new)[0]:.4f}")
    0.0500
    0.0031

    Source: Loshchilov and Hutter 2019, Algorithm 2; Kingma and Ba 2015.
    """

    rule_class = AdamWRule
    example = {
        "beta_1": 0.9,
        "beta_2": 0.999,
        "epsilon": 1e-6,
        "weight_decay": 0.1,
        "learning_rate": 0.1,
    }

    def __init__(
        self,
        learning_rate: base.Rate = base.RATE_ADAM,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        weight_decay: float = 0.01,
        l2: float = 0.0,
        bias_correction: bool | None = None,
        exclude_from_weight_decay: base.Patterns = BIAS_AND_NORM,
        dialect: str = rule.DEFAULT,
        epsilon_hat: bool | None = None,
        decay_times_rate: bool | None = None,
        diagnostics_every: int = 0,
        name: str | None = None,
        **kwargs,
    ):
        super().__init__(**base.received(locals()))
