"""Muon: momentum, orthogonalised by Newton and Schulz's iteration."""

import math
from typing import Any
from typing import Literal

from lbcheck.optimizers import base
from lbcheck.optimizers import rule
from lbcheck.optimizers.adamw import AdamWRule
from lbcheck.optimizers.nadamw import NAdamWRule
from lbcheck.optimizers.selection import BIAS_AND_NORM
from lbcheck.optimizers.selection import NOT_HIDDEN

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Jordan et al. 2024: the steepest quintic at 0 that stays near 1."""

_STEPS = 20
"""More iterations than anybody takes."""


def matrix_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    """The (rows, columns) that a variable is orthogonalised as.

    Rows are inputs and columns outputs, in Keras's order of axes. Of rank 3
    (the kernels of attention) the axis of the cut is that which gives the
    matrix nearest to a square, of two the later; of a higher rank
    (convolutions) all axes but the last are rows.

    >>> matrix_shape((768, 12, 64)), matrix_shape((12, 64, 768))
    ((768, 768), (768, 768))
    >>> matrix_shape((3, 3, 64, 128))
    (576, 128)
    """
    cuts = [len(shape) - 1] if len(shape) != 3 else [2, 1]
    sides = [(math.prod(shape[:cut]), math.prod(shape[cut:])) for cut in cuts]
    return max(sides, key=min)


@rule.frozen
class MuonRule(rule.Rule):
    """The rule of `Muon`; the equations stand there."""

    title = "Muon"
    dialects = {
        "paper": rule.Dialect(
            "Jordan et al. 2024, scaled as Liu et al. 2025, Equation 4",
            unadapted=NOT_HIDDEN,
            fallback={"beta_2": 0.95},
        ),
        "keller_jordan": rule.Dialect(
            "KellerJordan/Muon, SingleDeviceMuonWithAuxAdam",
            {"scale": "author"},
            options=("newton_schulz_steps",),
            unadapted=NOT_HIDDEN,
            fallback={"beta_2": 0.95, "epsilon": 1e-10},
        ),
        "moonlight": rule.Dialect(
            "MoonshotAI/Moonlight, examples/toy_train.py",
            {"average": False},
            options=("newton_schulz_steps", "nesterov"),
            unadapted=(*NOT_HIDDEN, "rank!=2"),
            fallback={"beta_2": 0.95, "epsilon_hat": True},
        ),
        "keras": rule.Dialect(
            "keras.optimizers.Muon from 3.13 on",
            {"average": False},
            options=("newton_schulz_steps", "nesterov", "coefficients"),
            unadapted=("rank!=2", "(?i)embedding"),
            fallback={"epsilon": 1e-7, "epsilon_hat": True},
        ),
        "keras_3_12": rule.Dialect(
            "keras.optimizers.Muon to 3.12",
            {"average": False, "scale": "transposed", "flatten": False},
            options=("newton_schulz_steps", "nesterov", "coefficients"),
            unadapted=("rank<2", "rank>3", "(?i)embedding"),
            fallback={"epsilon": 1e-7, "epsilon_hat": True},
        ),
        "optax": rule.Dialect(
            "optax.contrib.muon; consistent_rms is the scale 'rms'",
            {"bias_correction": True},
            options=(
                "newton_schulz_steps",
                "nesterov",
                "coefficients",
                "scale",
            ),
            unadapted=("rank!=2",),
            fallback={"follows": True},
        ),
    }

    momentum: Any = 0.95
    update_rms: Any = 0.2
    epsilon: Any = 1e-7
    weight_decay: Any = 0.1
    fallback_rate_ratio: Any = 1.0
    nesterov: bool = True
    average: bool = True
    bias_correction: bool = False
    scale: str = "rms"
    flatten: bool = True
    newton_schulz_steps: int = 5
    coefficients: tuple[float, float, float] = COEFFICIENTS

    bounds = {
        "momentum": rule.BETA,
        "update_rms": rule.NON_NEGATIVE,
        "epsilon": rule.NON_NEGATIVE,
        "fallback_rate_ratio": rule.NON_NEGATIVE,
    }
    choices = {
        "nesterov": (True, False),
        "average": (True, False),
        "bias_correction": (True, False),
        "scale": ("rms", "width", "author", "transposed"),
        "flatten": (True, False),
    }

    def __post_init__(self, owner):
        super().__post_init__(owner)
        owner = owner or self.title
        rule.check_count(
            owner, "newton_schulz_steps", self.newton_schulz_steps, 1, _STEPS
        )
        given = self.coefficients
        if not isinstance(given, (tuple, list)) or len(given) != 3:
            raise TypeError(
                f"{owner}: `coefficients` must be three numbers (a, b, c), "
                f"received {given!r}."
            )
        numbers = tuple(map(rule.plain, given))
        for number in numbers:
            rule.check_number(owner, "coefficients", number, rule.ANY)
        object.__setattr__(self, "coefficients", numbers)

    @property
    def slots(self):
        return (rule.Slot("momentum"),)

    @property
    def normalizes(self):
        return "spectrum"

    def fallback(self, settings):
        numbers = {**settings, "weight_decay": self.weight_decay}
        if numbers.pop("follows", False):  # optax's takes both from Muon
            numbers["epsilon"] = self.epsilon
            if self.nesterov:
                return NAdamWRule(**numbers)
        return AdamWRule(**numbers)

    def direction(self, xp, weight, gradient, slots, step, inside, decay):
        mine = 1.0 - self.momentum if self.average else 1.0
        momentum = self.momentum * slots[0] + mine * gradient
        average = momentum
        if self.bias_correction:
            ahead = step + 2 if self.nesterov else step + 1
            average = momentum / rule.one_minus_power(xp, self.momentum, ahead)
            mine = mine / rule.one_minus_power(xp, self.momentum, step + 1)
        if self.nesterov:
            average = self.momentum * average + mine * gradient
        direction = self.orthogonalized(xp, average)
        return (momentum,), self.factor(tuple(weight.shape)) * direction

    def factor(self, shape):
        """What the orthogonal matrix of a variable is multiplied by."""
        rows, columns = self._sides(shape)
        if self.scale == "rms":
            return self.update_rms * math.sqrt(max(rows, columns))
        filters = self.scale == "author" and len(shape) == 4
        if filters or (self.scale == "transposed" and len(shape) > 1):
            # Of filters height and width, in torch the last two axes.
            columns, rows = shape[:2]
        return math.sqrt(max(1.0, columns / rows))

    def _whole(self, shape):
        """Whether a variable is one matrix."""
        return self.flatten or len(shape) < 3

    def _sides(self, shape):
        return matrix_shape(shape) if self._whole(shape) else shape[-2:]

    def orthogonalized(self, xp, array):
        """U V^T of the array, nearly: singular values of about 0.7 to 1.2."""
        shape = tuple(array.shape)
        rows, columns = sides = self._sides(shape)
        matrix = xp.reshape(array, sides) if self._whole(shape) else array
        tall = rows > columns
        if tall:
            matrix = xp.transposed(matrix)
        norm = xp.matrix_norm(matrix) + self.epsilon
        matrix = matrix / xp.where(norm > 0, norm, 1.0)
        a, b, c = self.coefficients
        for _ in range(self.newton_schulz_steps):
            square = xp.matmul(matrix, xp.transposed(matrix))
            polynomial = b * square + c * xp.matmul(square, square)
            matrix = a * matrix + xp.matmul(polynomial, matrix)
        if tall:
            matrix = xp.transposed(matrix)
        return xp.reshape(matrix, shape)


class Muon(base.Optimizer):
    """Muon: momentum, orthogonalised by Newton and Schulz's iteration.

    For every hidden matrix w of `rows` inputs and `columns` outputs:

        m' = momentum * m + (1 - momentum) * g
        n  = momentum * m' + (1 - momentum) * g
        X  = n / (||n|| + epsilon)
        X  = a X + (b X X^T + c (X X^T)^2) X   `newton_schulz_steps` times
        w' = (1 - learning_rate * weight_decay) * w
             - learning_rate * update_rms * sqrt(max(rows, columns)) * X

    so that a step has the root mean square `update_rms` times the rate,
    about that of AdamW. All other variables are trained by `fallback`. A
    kernel of rank 3 is taken as the matrix nearest to a square, one of a
    convolution with all axes but the last as rows. The iteration is computed
    in float32 at least; its authors take bfloat16.

    Args:
        learning_rate: Step size per update: a number of at least 0, a
            schedule of lbcheck or Keras, or a callable without
            arguments. Defaults to 0.001.
        momentum: Decay of the momentum, in [0, 1). Defaults to 0.95.
        nesterov: Whether n is as above, or m'. None: the dialect's, True.
        weight_decay: Coefficient of weight decay, at least 0. Decoupled, times
            the rate; the default fallback's too. Defaults to 0.1.
        update_rms: Root mean square of a step at the rate 1, at least 0.
            Defaults to 0.2.
        epsilon: Added to the norm, at least 0. Defaults to 1e-7.
        fallback_rate_ratio: Rate of the fallback, as a multiple of
            `learning_rate`, at least 0. An error beside a `fallback` with a
            rate of its own. Defaults to 1.
    {shared}
        scale: Factor of X: "rms" as above; "width", sqrt(max(1, columns /
            rows)), for rates of about 0.02; "author", which is 1 for
            convolutions; "transposed", sqrt(max(1, rows / columns)) as Keras
            3.12. None: the dialect's, "rms".
        average: False leaves 1 - momentum out of m' and n, as Moonlight and
            Keras; only epsilon notices. None: the dialect's, True.
        bias_correction: Whether both terms of n are divided by 1 - momentum^t
            for their updates, as optax. None: the dialect's, False.
        flatten: False takes the last two axes as matrices, as Keras 3.12.
            None: the dialect's, True.
        newton_schulz_steps: Iterations, 1 to 20. None: 5.
        coefficients: (a, b, c) of the iteration. None: (3.4445, -4.7750,
            2.0315).

    Example:

    >>> import numpy as np, lbcheck
    >>> rule = lbcheck.rules.Muon(scale="width", newton_schulz_steps=10)
    >>> w, g = np.zeros((2, 2)), np.array([[3.0, 0.0], [0.0, 0.003]])
    >>> w, _, _ = rule.update(
    ...     lbcheck.rules.NUMPY, w, g, (0 * g,), 1.0, 0)
    >>> print(np.abs(w).round(1))  # Adam: 1 everywhere that g is not 0
    [[1.1 0. ]
     [0.  1. ]]

    Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural
    networks"; Liu et al. 2025, "Muon is Scalable for LLM Training", Equation 4.
    """

    rule_class = MuonRule
    example = {
        "learning_rate": 0.1,
        "momentum": 0.9,
        "weight_decay": 0.1,
    }
    fallback_note = (
        "AdamW with the weight decay of this optimizer and the numbers of\n"
        "    the dialect: beta_1 0.9, beta_2 0.95, epsilon 1e-8 for the paper."
    )

    def __init__(
        self,
        learning_rate: base.Rate = base.RATE_ADAM,
        momentum: float = 0.95,
        nesterov: bool | None = None,
        weight_decay: float = 0.1,
        update_rms: float = 0.2,
        epsilon: float = 1e-7,
        fallback_rate_ratio: float = 1.0,
        exclude_from_weight_decay: base.Patterns = BIAS_AND_NORM,
        exclude_from_layer_adaptation: base.PatternsOrSame = None,
        fallback: base.Optimizer | None = None,
        dialect: str = rule.DEFAULT,
        scale: Literal["rms", "width", "author", "transposed"] | None = None,
        average: bool | None = None,
        bias_correction: bool | None = None,
        flatten: bool | None = None,
        newton_schulz_steps: int | None = None,
        coefficients: tuple[float, float, float] | None = None,
        diagnostics_every: int = 0,
        name: str | None = None,
        **kwargs,
    ):
        super().__init__(**base.received(locals()))
