"""LAMB, N-LAMB and NN-LAMB: layer-wise adaptation over Adam's moments."""

import math
from typing import Any
from typing import Literal

from lbcheck.optimizers import base
from lbcheck.optimizers import rule
from lbcheck.optimizers.arrays import NORMS
from lbcheck.optimizers.selection import BIAS_AND_NORM


@rule.frozen
class LAMBRule(rule.Rule):
    """The rule of `LAMB`; the equations stand there."""

    title = "LAMB"
    dialects = {
        "paper": rule.Dialect("You et al. 2019, Algorithm 2"),
        "flax": rule.Dialect(
            "flax.optim.LAMB", {"zero_norm": "flax"}, adapts_excluded=True
        ),
        "mlperf": rule.Dialect("MLPerf BERT, lamb_optimizer_v1.py"),
        "model_garden": rule.Dialect("official.modeling.optimization.lamb"),
        "optax": rule.Dialect("optax.lamb", adapts_excluded=True),
        "keras": rule.Dialect(
            "keras.optimizers.Lamb",
            {"decay_placement": "decoupled"},
            adapts_excluded=True,
        ),
        "tfa": rule.Dialect("tensorflow_addons.optimizers.LAMB"),
        "nvlamb": rule.Dialect(
            "NVIDIA DeepLearningExamples BERT", adapts_excluded=True
        ),
    }

    beta_1: Any = 0.9
    beta_2: Any = 0.999
    epsilon: Any = 1e-6
    weight_decay: Any = 0.01
    bias_correction: bool = True
    nesterov: str | None = None
    norm: str = "l2"
    phi_bounds: tuple[float, float] | None = None
    zero_norm: str = "one"
    decay_placement: str = "inside"
    constant_norm: bool = False

    functions = ("beta_1",)
    bounds = {
        "beta_1": rule.BETA,
        "beta_2": rule.BETA,
        "epsilon": rule.NON_NEGATIVE,
    }
    choices = {
        "bias_correction": (True, False),
        "nesterov": (None, "first", "both"),
        "norm": NORMS,
        "zero_norm": ("one", "flax"),
        "decay_placement": ("inside", "decoupled"),
        "constant_norm": (True, False),
    }

    def __post_init__(self, owner):
        super().__post_init__(owner)
        if self.phi_bounds is None:
            return
        owner = owner or "LAMB"
        if (
            not isinstance(self.phi_bounds, (tuple, list))
            or len(self.phi_bounds) != 2
        ):
            raise TypeError(
                f"{owner}: `phi_bounds` must be None or a pair (low, high), "
                f"received {self.phi_bounds!r}."
            )
        low, high = map(rule.plain, self.phi_bounds)
        for number in (low,) if high == math.inf else (low, high):
            rule.check_number(owner, "phi_bounds", number, rule.NON_NEGATIVE)
        if low > high:
            raise ValueError(
                f"{owner}: `phi_bounds` must be (low, high) with low <= high, "
                f"received {self.phi_bounds!r}."
            )
        object.__setattr__(self, "phi_bounds", (low, high))

    @property
    def slots(self):
        moments = (rule.Slot("first_moment"), rule.Slot("second_moment"))
        if callable(self.beta_1):
            return (*moments, rule.Slot("beta_1_product", 1.0, scalar=True))
        return moments

    @property
    def normalizes(self):
        return "direction"

    def keeps_norm(self, adapt):
        return adapt and self.constant_norm

    def keep(self, learning_rate, decay):
        if self.decay_placement == "inside":
            return None
        return super().keep(learning_rate, decay)

    def trust_ratio(self, xp, weight, other, learning_rate, decay):
        weight_norm = xp.norm(weight, self.norm)
        keep = self.keep(learning_rate, decay)
        if keep is not None:
            weight_norm = xp.abs(keep) * weight_norm
        if self.phi_bounds is not None:
            low, high = self.phi_bounds
            weight_norm = xp.minimum(xp.maximum(weight_norm, low), high)
        direction_norm = xp.norm(other, self.norm)
        if self.zero_norm == "flax":
            return xp.where(
                weight_norm + direction_norm > 0,
                weight_norm / direction_norm,
                1.0,
            )
        usable = (weight_norm > 0) & (direction_norm > 0)
        return rule.guarded_ratio(xp, usable, weight_norm, direction_norm)

    def first_betas(self, xp, slots, step):
        """(b_t, b_{t+1}, 1 - prod to t, 1 - prod to t+1, new scalar slots)."""
        count = step + 1
        if callable(self.beta_1):
            beta, following = self.beta_1(count), self.beta_1(count + 1)
            product = slots[2] * beta
            scalars = (product,)
            by, by_following = 1.0 - product, 1.0 - product * following
        else:
            beta = following = self.beta_1
            scalars = ()
            by = rule.one_minus_power(xp, beta, count)
            by_following = rule.one_minus_power(xp, beta, count + 1)
        if not self.bias_correction:
            by = by_following = 1.0
        return beta, following, by, by_following, scalars

    def second_corrections(self, xp, step):
        """1 - beta_2^t and 1 - beta_2^(t+1), or ones."""
        if not self.bias_correction:
            return 1.0, 1.0
        return (
            rule.one_minus_power(xp, self.beta_2, step + 1),
            rule.one_minus_power(xp, self.beta_2, step + 2),
        )

    def direction(self, xp, weight, gradient, slots, step, inside, decay):
        squared = xp.square(gradient)
        beta, following, by, by_following, scalars = self.first_betas(
            xp, slots, step
        )
        by_second, by_second_following = self.second_corrections(xp, step)
        first = rule.decayed_average(beta, slots[0], gradient)
        second = rule.decayed_average(self.beta_2, slots[1], squared)
        if self.nesterov is None:
            # Scalars first: arrays are then multiplied, which is cheaper.
            mean = first * (1.0 / by)
            variance = second * (1.0 / by_second)
        else:
            mean = (following / by_following) * first + (
                (1.0 - beta) / by
            ) * gradient
            variance = (self.beta_2 / by_second) * second
        if self.nesterov == "both":
            variance = (self.beta_2 / by_second_following) * second + (
                (1.0 - self.beta_2) / by_second
            ) * squared
        direction = mean / (xp.sqrt(variance) + self.epsilon)
        if self.decay_placement == "inside" and self.decays(decay):
            direction = direction + self.weight_decay * weight
        return (first, second, *scalars), direction


class LAMB(base.Optimizer):
    """LAMB: layer-wise adaptation over Adam's moments.

    For every adapted variable w with gradient g, t counting updates from 1:

        m' = beta_1 * m + (1 - beta_1) * g
        v' = beta_2 * v + (1 - beta_2) * g^2
        r  = m' / (1 - beta_1^t) / (sqrt(v' / (1 - beta_2^t)) + epsilon)
        u  = r + weight_decay * w
        w' = w - learning_rate * phi(||w||) / ||u|| * u

    `nesterov="first"` (N-LAMB) and `"both"` (NN-LAMB) take, for the first and
    for both moments, the step that Dozat 2016 gives Adam,

        m^ = b_{t+1} m' / (1 - prod_{i<=t+1} b_i)
             + (1 - b_t) g / (1 - prod_{i<=t} b_i)

    where b_t is beta_1, in `lbcheck.rules.LAMB` also a function of t; v^ is
    the same of v', g^2 and beta_2 in NN-LAMB, and beta_2 v' / (1 - beta_2^t)
    in N-LAMB.

    The ratio is 1 where phi(||w||) or ||u|| is 0. Norms are over the whole
    variable, in float32 at least. Variables without a ratio are trained by
    `fallback`.

    Args:
        learning_rate: Step size per update: a number of at least 0, a
            schedule of lbcheck or Keras, or a callable without
            arguments. Defaults to 0.001.
        beta_1: Decay of the first moment m, in [0, 1). Defaults to 0.9.
        beta_2: Decay of the second moment v, in [0, 1). Defaults to 0.999.
        epsilon: Added to the denominator, at least 0. Defaults to 1e-6.
        weight_decay: Coefficient of weight decay, at least 0. Inside the
            ratio. Defaults to 0.01.
        bias_correction: Whether to divide by 1 - beta^t. None: True.
        nesterov: "first" (N-LAMB) or "both" (NN-LAMB): the Nesterov step in
            the first or in both moments. None: no Nesterov step.
        norm: "l2", "l1" or "linf", for both norms of the ratio. None: "l2".
        phi_bounds: (low, high) for phi(z) = min(max(z, low), high). None:
            phi(z) = z.
    {shared}
        zero_norm: "one", or "flax": the ratio is 0 where only ||w|| is 0, so
            zero-initialised variables never move. None: the dialect's, "one"
            of the paper.
        decay_placement: "inside" the ratio as above, or "decoupled" as in
            Keras: w shrinks by 1 - learning_rate * weight_decay first, and u
            is r. None: the dialect's, "inside" of the paper.
        constant_norm: True scales every variable with a ratio back to its
            norm after the step, w' = ||w|| w' / ||w'||: Hyperball, whose
            AdamH has weight_decay=0. None: False.

    Example:

    >>> import numpy as np, lbcheck
    >>> rule = lbcheck.rules.LAMB(weight_decay=0.1)
    >>> w, g = np.array([1., 2., 3., 4.]), np.array([.1, -.2, .3, .4])
    >>> w, _, _ = rule.update(
    ...     lbcheck.rules.NUMPY, w, g, (np.zeros(4), np.zeros(4)), 0.1, 0)
    >>> print(w.round(4))  # keras.optimizers.Lamb: .7189 2.2511 2.6989 3.6889
    [0.7431 2.1868 2.6964 3.673 ]

    Source: You et al. 2019, Algorithms 2, 3 and 4, with the square root that
    is lost in print; Dozat 2016 for the indices of N-LAMB; Wen et al. 2026,
    "Hyperball Optimization", for `constant_norm`.
    """

    rule_class = LAMBRule
    example = {
        "learning_rate": 0.1,
        "beta_1": 0.9,
        "beta_2": 0.999,
        "epsilon": 1e-6,
        "weight_decay": 0.1,
    }
    fallback_note = "LAMB itself with the ratio 1."

    def __init__(
        self,
        learning_rate: base.Rate = base.RATE_ADAM,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-6,
        weight_decay: float = 0.01,
        bias_correction: bool | None = None,
        nesterov: Literal["first", "both"] | None = None,
        norm: Literal["l2", "l1", "linf"] | None = None,
        phi_bounds: tuple[float, float] | None = None,
        exclude_from_weight_decay: base.Patterns = BIAS_AND_NORM,
        exclude_from_layer_adaptation: base.PatternsOrSame = None,
        fallback: base.Optimizer | None = None,
        dialect: str = rule.DEFAULT,
        zero_norm: Literal["one", "flax"] | None = None,
        decay_placement: Literal["inside", "decoupled"] | None = None,
        constant_norm: bool | None = None,
        diagnostics_every: int = 0,
        name: str | None = None,
        **kwargs,
    ):
        super().__init__(**base.received(locals()))
