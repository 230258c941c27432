"""SOAP: Adam in the eigenbasis of Shampoo's preconditioner."""

from typing import Any

from lbcheck.optimizers import base
from lbcheck.optimizers import rule
from lbcheck.optimizers.selection import BIAS_AND_NORM

_LARGEST = 10000
"""The authors' default: vocabularies are beyond, layers are not."""


@rule.frozen
class SOAPRule(rule.Rule):
    """The rule of `SOAP`; the equations stand there."""

    title = "SOAP"
    compiles = False
    dialects = {
        "paper": rule.Dialect(
            "Vyas et al. 2024, Algorithm 3, and their soap.py"
        )
    }

    beta_1: Any = 0.95
    beta_2: Any = 0.95
    beta_preconditioner: Any = 0.95
    epsilon: Any = 1e-8
    weight_decay: Any = 0.01
    precondition_frequency: Any = 10
    bias_correction: bool = True
    max_precondition_size: int = _LARGEST

    bounds = {
        "beta_1": rule.BETA,
        "beta_2": rule.BETA,
        "beta_preconditioner": rule.BETA,
        "epsilon": rule.NON_NEGATIVE,
        "precondition_frequency": rule.Bound(1.0),
    }
    choices = {"bias_correction": (True, False)}

    def __post_init__(self, owner):
        super().__post_init__(owner)
        rule.check_count(
            owner or self.title,
            "max_precondition_size",
            self.max_precondition_size,
            0,
        )

    @property
    def slots(self):
        # A count of its own: the optimizer's may be set by hand, and the first
        # gradient of a variable may come at any of its updates.
        return (
            rule.Slot("first_moment"),
            rule.Slot("second_moment"),
            rule.Slot("updates", scalar=True),
        )

    def slots_of(self, shape):
        found = list(self.slots)
        for axis in self.axes(shape):
            square = (shape[axis], shape[axis])
            found.append(rule.Slot(f"preconditioner_{axis}", shape=square))
            found.append(rule.Slot(f"basis_{axis}", shape=square))
        return tuple(found)

    def axes(self, shape) -> tuple[int, ...]:
        """The axes of a variable that have a basis."""
        if len(shape) < 2 or 0 in shape:
            return ()
        return tuple(
            axis
            for axis, size in enumerate(shape)
            if size <= self.max_precondition_size
        )

    def update(
        self,
        xp,
        weight,
        gradient,
        slots,
        learning_rate,
        step,
        *,
        decay=True,
        adapt=True,
    ):
        """As `Rule.update`; the first update makes the bases only."""
        axes = self.axes(tuple(weight.shape))
        first, second, updates, *matrices = slots
        preconditioners, bases = matrices[::2], matrices[1::2]
        started = updates > 0

        def project(array, back=False):
            for axis, basis in zip(axes, bases):
                array = _along(xp, array, axis, basis, back)
            return array

        projected = project(gradient)
        average = rule.decayed_average(self.beta_1, first, gradient)
        square = rule.decayed_average(self.beta_2, second, xp.square(projected))
        ratio = project(average) / (xp.sqrt(square) + self.epsilon)
        rate = learning_rate
        if self.bias_correction:
            # There is nothing to correct, nor to divide, before the first.
            count = xp.maximum(updates, 1.0 + 0 * updates)
            by_first = rule.one_minus_power(xp, self.beta_1, count)
            by_second = rule.one_minus_power(xp, self.beta_2, count)
            rate = rate * xp.sqrt(by_second) / by_first
        new = weight - rate * project(ratio, back=True)
        keep = self.keep(learning_rate, decay)
        new = new if keep is None else keep * new
        preconditioners = [
            rule.decayed_average(
                self.beta_preconditioner, old, _outer(xp, gradient, axis)
            )
            for axis, old in zip(axes, preconditioners)
        ]
        square = xp.where(started, square, second)
        square, bases = self._turned(
            xp, updates, axes, square, preconditioners, bases
        )
        pairs = zip(preconditioners, bases)
        slots = (
            xp.where(started, average, first),
            square,
            updates + 1.0,
            *(matrix for pair in pairs for matrix in pair),
        )
        return xp.where(started, new, weight), slots, 1.0

    def _turned(self, xp, updates, axes, square, preconditioners, bases):
        """The second moment and the bases for the next update."""
        if not axes:
            return square, bases

        def first():
            found = [xp.eigenvectors(p) for p in preconditioners]
            return [square, *found]

        def again():
            turned, found = square, []
            for axis, matrix, basis in zip(axes, preconditioners, bases):
                power = xp.matmul(matrix, basis)
                values = xp.sum(basis * power, 0)
                order = xp.argsort(-values)
                turned = xp.take(turned, order, axis)
                found.append(xp.orthonormal(xp.take(power, order, 1)))
            return [turned, *found]

        def later():
            due = (updates % self.precondition_frequency) < 0.5
            return xp.cond(due, again, lambda: [square, *bases])

        square, *bases = xp.cond(updates < 0.5, first, later)
        return square, bases


def _along(xp, array, axis, basis, back):
    """The array with one axis in the basis, or back from it."""
    moved = xp.moveaxis(array, axis, -1)
    moved = xp.matmul(moved, xp.transposed(basis) if back else basis)
    return xp.moveaxis(moved, -1, axis)


def _outer(xp, gradient, axis):
    """Sum over all other axes of the gradient times itself."""
    size = gradient.shape[axis]
    rows = xp.reshape(xp.moveaxis(gradient, axis, 0), (size, -1))
    return xp.matmul(rows, xp.transposed(rows))


class SOAP(base.Optimizer):
    """SOAP: Adam in the eigenbasis of Shampoo's preconditioner.

    For a matrix w, t counting its updates from 1 after the first, which moves
    nothing and makes the bases Q of L and R:

        g~ = Q_L^T g Q_R
        m' = beta_1 * m + (1 - beta_1) * g
        v' = beta_2 * v + (1 - beta_2) * g~^2
        r  = Q_L (Q_L^T m' Q_R / (sqrt(v') + epsilon)) Q_R^T
        w' = (1 - learning_rate * weight_decay)
             * (w - learning_rate * sqrt(1 - beta_2^t) / (1 - beta_1^t) * r)
        L' = beta_preconditioner * L + (1 - beta_preconditioner) * g g^T
        R' = beta_preconditioner * R + (1 - beta_preconditioner) * g^T g

    and every `precondition_frequency` updates Q = QR(L' Q) of one power
    iteration, with its columns, and those of v, by falling eigenvalue. A
    variable of a higher rank has a basis for each axis; vectors are Adam's.
    Where the first gradient has not the full rank, rounding chooses part of
    the first bases, so that other machines and programs give other runs.

    Args:
        learning_rate: Step size per update: a number of at least 0, a
            schedule of lbcheck or Keras, or a callable without
            arguments. Defaults to 0.003.
        beta_1: Decay of the first moment, in [0, 1). Defaults to 0.95.
        beta_2: Decay of the second moment, in [0, 1). Defaults to 0.95.
        beta_preconditioner: Decay of L and R, in [0, 1). Defaults to 0.95.
        epsilon: Added to the denominator, at least 0. Defaults to 1e-8.
        weight_decay: Coefficient of weight decay, at least 0. Decoupled, times
            the rate, after the step. Defaults to 0.01.
        precondition_frequency: Updates between two new bases, at least 1.
            Defaults to 10.
        max_precondition_size: Longest axis that has a basis, at least 0; a
            basis takes the square of it. None: 10,000.
        bias_correction: Whether the rate has the factor of t above. None:
            True.
    {shared}

    Example:

    >>> import numpy as np, lbcheck
    >>> rule = lbcheck.rules.SOAP(weight_decay=0.0)
    >>> w, g = np.zeros((2, 2)), np.array([[1.0, 1.0], [1.0, 1.0]])
    >>> slots = [np.zeros(s.shape_for((2, 2))) for s in rule.slots_of((2, 2))]
    >>> for step in range(2):  # Adam in the usual basis: -1 everywhere
    ...     w, slots, _ = rule.update(
    ...         lbcheck.rules.NUMPY, w, g, slots, 1.0, step)
    >>> print(w.round(2))
    [[-0.5 -0.5]
     [-0.5 -0.5]]

    Source: Vyas et al. 2024, "SOAP: Improving and Stabilizing Shampoo using
    Adam", Algorithm 3; github.com/nikhilvyas/SOAP for the first update.
    """

    rule_class = SOAPRule
    example = {
        "learning_rate": 0.1,
        "beta_1": 0.9,
        "beta_2": 0.95,
        "epsilon": 1e-6,
        "weight_decay": 0.1,
        "precondition_frequency": 3,
    }

    def __init__(
        self,
        learning_rate: base.Rate = base.RATE_SOAP,
        beta_1: float = 0.95,
        beta_2: float = 0.95,
        beta_preconditioner: float = 0.95,
        epsilon: float = 1e-8,
        weight_decay: float = 0.01,
        precondition_frequency: int = 10,
        max_precondition_size: int | None = None,
        bias_correction: bool | None = None,
        exclude_from_weight_decay: base.Patterns = BIAS_AND_NORM,
        dialect: str = rule.DEFAULT,
        diagnostics_every: int = 0,
        name: str | None = None,
        **kwargs,
    ):
        super().__init__(**base.received(locals()))
