"""LARS: layer-wise adaptive rate scaling over momentum."""

from typing import Any
from typing import Literal

from lbcheck.optimizers import base
from lbcheck.optimizers import rule
from lbcheck.optimizers.momentum import MomentumRule
from lbcheck.optimizers.momentum import accumulate
from lbcheck.optimizers.selection import BIAS_AND_NORM


@rule.frozen
class LARSRule(rule.Rule):
    """The rule of `LARS`; the equations stand there."""

    title = "LARS"
    dialects = {
        "paper": rule.Dialect(
            "flax.optim.LARS with MultiOptimizer, as Nado et al. 2021",
            fallback={},
        ),
        "flax": rule.Dialect(
            "flax.optim.LARS on every variable",
            options=("nesterov",),
            adapts_excluded=True,
        ),
        "mlperf": rule.Dialect(
            "MLPerf ResNet TF2, lars_optimizer.py",
            options=("nesterov",),
            for_zero={"epsilon": 1e-7},
        ),
        "model_garden": rule.Dialect(
            # classic_momentum=False is normalize="momentum" and the rate
            # outside.
            "official.modeling.optimization.lars, classic_momentum=True",
            {"denominator": "joint"},
            options=("nesterov", "normalize", "rate_in_buffer"),
        ),
        "optax": rule.Dialect(
            "optax.lars",
            {"denominator": "joint"},
            options=("nesterov",),
            adapts_excluded=True,
        ),
    }

    momentum: Any = 0.9
    trust_coefficient: Any = 0.001
    epsilon: Any = 0.0
    nesterov: bool = False
    denominator: str = "sum"
    normalize: str = "gradient"
    rate_in_buffer: bool = True

    bounds = {
        "momentum": rule.BETA,
        "trust_coefficient": rule.NON_NEGATIVE,
        "epsilon": rule.NON_NEGATIVE,
    }
    choices = {
        "nesterov": (True, False),
        "denominator": ("sum", "joint"),
        "normalize": ("gradient", "momentum"),
        "rate_in_buffer": (True, False),
    }

    def __post_init__(self, owner):
        super().__post_init__(owner)
        if self.normalize != "momentum":
            return
        owner = owner or "LARS"
        if self.rate_in_buffer:
            raise ValueError(
                f"{owner}: `normalize='momentum'` divides by the norm of the "
                "buffer, in which a rate would cancel; pass "
                "`rate_in_buffer=False` with it."
            )
        if self.denominator != "sum":
            raise ValueError(
                f"{owner}: `denominator` has no effect with "
                "normalize='momentum', whose ratio divides by the norm of "
                f"the step; received denominator={self.denominator!r}. "
                "Leave it out."
            )

    @classmethod
    def without_effect(cls, given):
        momentum = given.get("normalize") == "momentum"
        return ("denominator",) if momentum else ()

    @property
    def slots(self):
        return (rule.Slot("momentum"),)

    def fallback(self, settings):
        return MomentumRule(momentum=self.momentum, **settings)

    @property
    def rate_inside(self):
        return self.rate_in_buffer

    @property
    def normalizes(self):
        return "gradient" if self.normalize == "gradient" else "direction"

    def keep(self, learning_rate, decay):
        return None  # the decay is part of the increment

    def trust_ratio(self, xp, weight, other, learning_rate, decay):
        weight_norm = xp.norm(weight)
        decays = self.decays(decay) and self.normalizes == "gradient"
        if decays and self.denominator == "joint":
            other = other + self.weight_decay * weight
        measured = xp.norm(other)
        below = measured
        if decays and self.denominator == "sum":
            below = below + self.weight_decay * weight_norm
        return rule.guarded_ratio(
            xp,
            (weight_norm > 0) & (measured > 0),
            self.trust_coefficient * weight_norm,
            below + self.epsilon,
        )

    def direction(self, xp, weight, gradient, slots, step, inside, decay):
        if self.decays(decay):
            gradient = gradient + self.weight_decay * weight
        buffer, direction = accumulate(
            self.momentum, self.nesterov, slots[0], inside * gradient
        )
        return (buffer,), direction


class LARS(base.Optimizer):
    """LARS: layer-wise adaptive rate scaling over momentum.

    For every adapted variable w with gradient g:

        ratio = trust_coefficient * ||w||
                / (||g|| + weight_decay * ||w|| + epsilon)
        s  = learning_rate * ratio * (g + weight_decay * w)
        m' = momentum * m + s
        w' = w - m'                      (nesterov: w - (s + momentum * m'))

    The ratio is 1 where ||w|| or ||g|| is 0. Norms are L2 over the whole
    variable, in float32 at least. Variables without a ratio are trained by
    `fallback`. Published rates such as 29.0 go with
    `trust_coefficient=0.001` and with the raw rate for biases and norms.

    Args:
        learning_rate: Step size per update: a number of at least 0, a
            schedule of lbcheck or Keras, or a callable without
            arguments. Defaults to 0.01.
        momentum: Decay of the buffer, in [0, 1). Defaults to 0.9.
        weight_decay: Coefficient of weight decay, at least 0. Inside the ratio
            and the step. Defaults to 0.
        trust_coefficient: Factor of the trust ratio, at least 0. Defaults to
            0.001.
        epsilon: Added to the denominator, at least 0. None: the dialect's,
            1e-7 of mlperf, which takes no 0, and 0 of the others.
        nesterov: Whether to take the Nesterov step. None: False.
    {shared}
        rate_in_buffer: Whether the rate multiplies s or the step. None: the
            dialect's, True of the paper.
        denominator: "sum" as above, or "joint":
            ||g + weight_decay * w|| + epsilon. None: the dialect's, "sum" of
            the paper.
        normalize: "gradient", or "momentum" to divide by the norm of the
            step as Algorithm 1 of You et al. 2019 (with
            `trust_coefficient=1` and `rate_in_buffer=False`). None: the
            dialect's, "gradient" of the paper.

    Example:

    >>> import numpy as np, lbcheck
    >>> rule = lbcheck.rules.LARS(weight_decay=0.05)
    >>> w, g = np.array([1., 2., 3., 4.]), np.array([.1, -.2, .3, .4])
    >>> _, _, ratio = rule.update(
    ...     lbcheck.rules.NUMPY, w, g, (np.zeros(4),), 1.0, 0)
    >>> print(f"{ratio:.6f}")  # 0.007101 with denominator="joint"
    0.006667

    Source: You, Gitman, Ginsburg 2017; flax and MLPerf code as used by Nado
    et al. 2021; You et al. 2019, Algorithm 1.
    """

    rule_class = LARSRule
    fallback_note = (
        "heavy-ball momentum with the same `momentum` and rate, the rate\n"
        "    outside the buffer and no decay, as the paper's pipeline; in the\n"
        "    other dialects LARS itself with the ratio 1."
    )
    example = {
        "learning_rate": 10.0,
        "momentum": 0.9,
        "weight_decay": 0.05,
        "trust_coefficient": 0.02,
    }

    def __init__(
        self,
        learning_rate: base.Rate = base.RATE_SGD,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust_coefficient: float = 0.001,
        epsilon: float | None = None,
        nesterov: bool | None = None,
        exclude_from_weight_decay: base.Patterns = BIAS_AND_NORM,
        exclude_from_layer_adaptation: base.PatternsOrSame = None,
        fallback: base.Optimizer | None = None,
        dialect: str = rule.DEFAULT,
        rate_in_buffer: bool | None = None,
        denominator: Literal["sum", "joint"] | None = None,
        normalize: Literal["gradient", "momentum"] | None = None,
        diagnostics_every: int = 0,
        name: str | None = None,
        **kwargs,
    ):
        super().__init__(**base.received(locals()))
