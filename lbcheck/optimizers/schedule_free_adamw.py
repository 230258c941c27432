"""ScheduleFreeAdamW: AdamW that averages instead of decaying its rate."""

from typing import Any
from typing import Literal

from lbcheck.optimizers import base
from lbcheck.optimizers import rule
from lbcheck.optimizers.selection import BIAS_AND_NORM


@rule.frozen
class ScheduleFreeAdamWRule(rule.Rule):
    """The rule of `ScheduleFreeAdamW`; the equations stand there.

    The state has z - y for z, which begins at 0 whatever the weights, so that
    y' = y + c (z - y) - (1 - beta_1 (1 - c)) s and
    z' - y' = (1 - c) (z - y - beta_1 s) with the step s.
    """

    title = "ScheduleFreeAdamW"
    dialects = {
        "paper": rule.Dialect("Defazio et al. 2024, Algorithm 1"),
        "schedulefree": rule.Dialect(
            "facebookresearch/schedule_free, AdamWScheduleFree from 1.3 on",
            {"correct": "moment"},
        ),
        "optax": rule.Dialect(
            "optax.contrib.schedule_free_adamw", {"correct": "moment"}
        ),
    }

    beta_1: Any = 0.9
    beta_2: Any = 0.999
    epsilon: Any = 1e-8
    correct: str = "rate"

    bounds = {
        "beta_1": rule.Bound(0.0, 1.0, open_low=True, open_high=True),
        "beta_2": rule.BETA,
        "epsilon": rule.NON_NEGATIVE,
    }
    choices = {"correct": ("rate", "moment")}

    @property
    def slots(self):
        return (
            rule.Slot("offset"),
            rule.Slot("second_moment"),
            rule.Slot("largest_rate", scalar=True),
            rule.Slot("sum_of_weights", scalar=True),
        )

    @property
    def rate_inside(self):
        return True

    def keep(self, learning_rate, decay):
        return None  # the decay is part of the step

    def direction(self, xp, weight, gradient, slots, step, inside, decay):
        offset, second, largest, total = slots
        second = rule.decayed_average(self.beta_2, second, xp.square(gradient))
        correction = rule.one_minus_power(xp, self.beta_2, step + 1)
        rate, variance = inside, second
        if self.correct == "rate":
            rate = inside * xp.sqrt(correction)
        else:
            variance = second * (1.0 / correction)
        move = gradient / (xp.sqrt(variance) + self.epsilon)
        if self.decays(decay):
            move = move + self.weight_decay * weight
        move = rate * move
        largest = xp.maximum(largest, rate)
        total = total + xp.square(largest)
        # A warm-up may begin with a rate of 0.
        share = xp.where(
            total > 0, xp.square(largest) / xp.where(total > 0, total, 1.0), 0.0
        )
        direction = (1.0 - self.beta_1 * (1.0 - share)) * move - share * offset
        offset = (1.0 - share) * (offset - self.beta_1 * move)
        return (offset, second, largest, total), direction

    def evaluation_point(self, weight, slots):
        return weight - (1.0 - self.beta_1) / self.beta_1 * slots[0]


class ScheduleFreeAdamW(base.Optimizer):
    """ScheduleFreeAdamW: AdamW that averages instead of decaying its rate.

    The model's weights are y, where gradients are taken. With t counting
    updates from 1 and learning_rate(t) the rate of update t:

        v' = beta_2 * v + (1 - beta_2) * g^2
        r  = learning_rate(t) * sqrt(1 - beta_2^t)
        z' = z - r * (g / (sqrt(v') + epsilon) + weight_decay * y)
        c  = R(t)^2 / sum_{i<=t} R(i)^2, R(i) the largest r up to i
        x' = (1 - c) * x + c * z'
        y' = beta_1 * x' + (1 - beta_1) * z'

    The average x is the result: evaluate and save there. `with
    lbcheck.evaluation_point(model):` gives the model these weights and takes
    them back bit by bit; the callback `lbcheck.EvaluationPoint()`, the first
    of its list, does it for validation, other callbacks and the end of `fit`.
    An update at x is an error on TensorFlow, but not in a compiled step
    (`jit_compile=True`) nor on jax, where it warns when training goes on. The
    programs and studies of lbcheck do all this by themselves.

    Args:
        learning_rate: Step size per update: a number of at least 0, a
            schedule of lbcheck or Keras, or a callable without
            arguments. It may warm up,
            `schedules.Warmup(schedules.Constant(0.0025), 100)`, and does not
            decay. Defaults to 0.0025.
        beta_1: Share of x in y, in (0, 1). Defaults to 0.9.
        beta_2: Decay of the second moment, in [0, 1). Defaults to 0.999.
        epsilon: Added to the denominator, at least 0. Defaults to 1e-8.
        weight_decay: Coefficient of weight decay, at least 0. Of y, in the
            step of z. Defaults to 0.
    {shared}
        correct: "moment" divides v' by 1 - beta_2^t instead of multiplying
            the rate by its root; only epsilon and c notice. None: the
            dialect's, "rate" of the paper.

    Example:

    >>> import numpy as np, lbcheck
    >>> rule = lbcheck.rules.ScheduleFreeAdamW(beta_1=0.5, epsilon=0.0)
    >>> y, slots = np.zeros(1), (np.zeros(1), np.zeros(1), 0.0, 0.0)
    >>> for step in (0, 1):  # z moves by 1 each time
    ...     y, slots, _ = rule.update(
    ...         lbcheck.rules.NUMPY, y, -np.ones(1), slots, 1.0, step)
    >>> print(y.round(3), rule.evaluation_point(y, slots).round(3))
    [1.833] [1.667]

    Source: Defazio et al. 2024, "The Road Less Scheduled", Algorithm 1.
    """

    rule_class = ScheduleFreeAdamWRule
    example = {
        "learning_rate": 0.1,
        "beta_1": 0.9,
        "beta_2": 0.999,
        "epsilon": 1e-6,
        "weight_decay": 0.1,
    }

    def __init__(
        self,
        learning_rate: base.Rate = base.RATE_SCHEDULE_FREE,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
        exclude_from_weight_decay: base.Patterns = BIAS_AND_NORM,
        dialect: str = rule.DEFAULT,
        correct: Literal["rate", "moment"] | None = None,
        diagnostics_every: int = 0,
        name: str | None = None,
        **kwargs,
    ):
        super().__init__(**base.received(locals()))
