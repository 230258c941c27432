"""Heavy-ball and Nesterov momentum."""

from typing import Any

from lbcheck.optimizers import base
from lbcheck.optimizers import rule
from lbcheck.optimizers.selection import BIAS_AND_NORM


def accumulate(momentum, nesterov, buffer, increment):
    """v' = mu v + s; returns (v', v' or the Nesterov step s + mu v')."""
    buffer = momentum * buffer + increment
    return buffer, increment + momentum * buffer if nesterov else buffer


@rule.frozen
class MomentumRule(rule.Rule):
    """The rule of `Momentum` and `Nesterov`; the equations stand there."""

    title = "Momentum"
    dialects = {
        "paper": rule.Dialect("Nado et al. 2021, section 2.1.1"),
        "flax": rule.Dialect("flax.optim.Momentum", options=("nesterov",)),
        "mlperf": rule.Dialect(
            "MLPerf ResNet TF1, tf.train.MomentumOptimizer",
            options=("nesterov",),
        ),
        "optax": rule.Dialect(
            "optax.sgd after add_decayed_weights", options=("nesterov",)
        ),
        "keras": rule.Dialect(
            "keras.optimizers.SGD, tf_keras.optimizers.SGD",
            {"rate_in_buffer": True},
            options=("nesterov",),
        ),
    }

    momentum: Any = 0.9
    nesterov: bool = False
    l2: Any = 0.0
    rate_in_buffer: bool = False

    bounds = {"momentum": rule.BETA, "l2": rule.NON_NEGATIVE}
    choices = {"nesterov": (True, False), "rate_in_buffer": (True, False)}

    @property
    def slots(self):
        return (rule.Slot("momentum"),)

    @property
    def rate_inside(self):
        return self.rate_in_buffer

    def direction(self, xp, weight, gradient, slots, step, inside, decay):
        if decay and not rule.is_zero(self.l2):
            gradient = gradient + self.l2 * weight
        buffer, direction = accumulate(
            self.momentum, self.nesterov, slots[0], inside * gradient
        )
        return (buffer,), direction


class Momentum(base.Optimizer):
    """Heavy-ball or Nesterov momentum with the rate outside the buffer.

        g  = gradient + l2 * w
        v' = momentum * v + g
        u  = v'                      (nesterov: u = g + momentum * v')
        w' = (1 - learning_rate * weight_decay) * w - learning_rate * u

    Keras's own SGD multiplies the rate into v. Under a schedule that is
    another optimizer; `dialect="keras"` gives it.

    Args:
        learning_rate: Step size per update: a number of at least 0, a
            schedule of lbcheck or Keras, or a callable without
            arguments. Defaults to 0.01.
        momentum: Decay of the buffer, in [0, 1). Defaults to 0.9.
        nesterov: Whether to take the Nesterov step. None: False, which
            `Nesterov` does not take.
        l2: Coefficient of L2 in the loss, `l2 / 2 * ||w||^2`, at least 0.
            Defaults to 0.
        weight_decay: Coefficient of weight decay, at least 0. Decoupled, times
            the rate. Defaults to 0.
    {shared}
        rate_in_buffer: True for Keras's form, v' = momentum * v + rate * g.
            None: the dialect's, False of the paper.

    Example:

    >>> import numpy as np, lbcheck
    >>> rule = lbcheck.rules.Momentum(momentum=0.9, nesterov=True)
    >>> w, v = np.array([0.0]), (np.array([0.0]),)
    >>> for step in range(5):
    ...     rate = 0.1 * (step + 1)
    ...     w, v, _ = rule.update(
    ...         lbcheck.rules.NUMPY, w, np.array([1.0]), v, rate, step)
    >>> print(w.round(3))  # Keras's SGD ends at -4.353
    [-5.745]

    Source: Nado et al. 2021, section 2.1.1; Sutskever et al. 2013.
    """

    rule_class = MomentumRule
    example = {
        "learning_rate": 0.3,
        "momentum": 0.9,
        "nesterov": True,
        "l2": 0.0,
        "weight_decay": 0.0,
    }

    def __init__(
        self,
        learning_rate: base.Rate = base.RATE_SGD,
        momentum: float = 0.9,
        nesterov: bool | None = None,
        l2: float = 0.0,
        weight_decay: float = 0.0,
        exclude_from_weight_decay: base.Patterns = BIAS_AND_NORM,
        dialect: str = rule.DEFAULT,
        rate_in_buffer: bool | None = None,
        diagnostics_every: int = 0,
        name: str | None = None,
        **kwargs,
    ):
        super().__init__(**base.received(locals()))


class Nesterov(Momentum):
    """Nesterov momentum: `Momentum` with `nesterov=True`.

        g  = gradient + l2 * w
        v' = momentum * v + g
        w' = (1 - learning_rate * weight_decay) * w
             - learning_rate * (g + momentum * v')

    {arguments}

    Example:

    >>> import numpy as np, lbcheck
    >>> rule = lbcheck.rules.Momentum(momentum=0.5, nesterov=True)
    >>> w, v, _ = rule.update(
    ...     lbcheck.rules.NUMPY, np.zeros(1), np.ones(1), (np.zeros(1),), 1, 0)
    >>> print(w)  # heavy-ball: -1
    [-1.5]

    Source: Nado et al. 2021, section 2.1.1.
    """

    fixed = {"nesterov": True}
    example = {"learning_rate": 0.3, "momentum": 0.9}
