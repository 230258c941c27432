"""The theorems: what each algorithm's gradients cannot exceed on average."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np

from lbcheck.theory import constants as _constants
from lbcheck.theory.constants import Constants


@dataclasses.dataclass(frozen=True)
class LeftSide:
    """What a bound is about: a mean over runs and over x_1 ... x_T.

    Attributes:
        formula: The left side as the papers write it, x_a drawn from x_1 ...
            x_T with equal chances.
        of_gradient: Its value at one iterate, from grad f of shape
            (..., h, d/h), that of f and not of a batch.
        power: The mean is raised to this power.
    """

    formula: str
    of_gradient: Callable[[np.ndarray], np.ndarray]
    power: int

    def __str__(self):
        return self.formula


def _squared_norm(gradient):
    return np.sum(gradient**2, axis=(-2, -1))


def _layer_norms(gradient):
    norms = np.linalg.norm(gradient, axis=-1)
    return norms.sum(axis=-1) / math.sqrt(gradient.shape[-2])


def _one_norm(gradient):
    parameters = gradient.shape[-2] * gradient.shape[-1]
    return np.abs(gradient).sum(axis=(-2, -1)) / math.sqrt(parameters)


# Named functions, so that a bound can be sent to another process.
SQUARED_NORM = LeftSide("E ||grad f(x_a)||^2", _squared_norm, power=1)
LAYER_NORMS = LeftSide(
    "(E sum_i ||grad_i f(x_a)|| / sqrt(h))^2", _layer_norms, power=2
)
ONE_NORM = LeftSide("(E ||grad f(x_a)||_1 / sqrt(d))^2", _one_norm, power=2)


@dataclasses.dataclass(frozen=True)
class Bound:
    """A number that a left side cannot exceed.

    Attributes:
        value: The bound, in [f]^2/[x]^2 as every left side.
        left_side: What it bounds.
        learning_rate: The constant rate for which it holds.
    """

    value: float
    left_side: LeftSide
    learning_rate: float


def sgd(constants: Constants, learning_rate: float | None = None) -> Bound:
    """Theorem 1: stochastic gradient descent, x' = x - eta g.

        E ||grad f(x_a)||^2 <= [(f(x_1) - f*) / (T eta)
                                + L_inf eta ||sigma||^2 / (2 b)]
                               / (1 - L_inf eta / 2)

    which is 2 L_inf (f(x_1) - f*) / T + ||sigma||^2 / b at the rate 1 / L_inf,
    the O() of the theorem with its constants 2 and 1. It cannot be improved:
    on a quadratic with one curvature and alike noise it is reached, but for
    ||sigma||^2 / (b T).

    The theorem is printed without a proof and with "appropriate learning
    rate"; this is the usual one: a step gains (eta - L_inf eta^2 / 2)
    ||grad f||^2 and loses L_inf eta^2 ||sigma||^2 / (2 b) to the noise.

    Args:
        constants: What is known. L_inf is the largest `smoothness`.
        learning_rate: eta, above 0 and below 2 / L_inf, in [x]^2/[f]. None:
            1 / L_inf.

    Returns:
        The bound, on `SQUARED_NORM`.

    Raises:
        TypeError, ValueError: A rate outside its range.

    Example:
        >>> known = Constants([1.0, 4.0], [[3.0], [4.0]], 2.0, 10, 5)
        >>> sgd(known).value  # 2 * 4 * 2 / 10 + 25 / 5
        6.6

    Source: You et al. 2019, Theorem 1, after Ghadimi and Lan 2013.
    """
    largest = constants.smoothness.max()
    eta = _rate("sgd", learning_rate, 1 / largest)
    if not largest * eta < 2:
        raise ValueError(
            "sgd: `learning_rate` must be below 2 over the largest "
            f"smoothness, {2 / largest:g}, received {learning_rate!r}."
        )
    progress = constants.initial_gap / (constants.steps * eta)
    variance = np.sum(constants.deviations**2) / constants.batch_size
    noise = largest * eta * variance / 2
    value = (progress + noise) / (1 - largest * eta / 2)
    return Bound(float(value), SQUARED_NORM, eta)


def lars(constants: Constants, learning_rate: float | None = None) -> Bound:
    """Theorem 2: LARS, x_i' = x_i - eta phi(||x_i||) g_i / ||g_i||.

        E sum_i ||grad_i f(x_a)|| <= (f(x_1) - f*) / (T eta alpha_l)
                                     + 2 alpha_u ||sigma||_1 / (alpha_l sqrt b)
                                     + eta alpha_u^2 ||L||_1 / (2 alpha_l)

    the last line of the proof, before the O(). At the theorem's rate, divided
    by sqrt(h) and squared:

        (alpha_u / alpha_l)^2 (sqrt(2 (f(x_1) - f*) L_avg / T)
                               + 2 ||sigma||_1 / sqrt(b h))^2

    Without noise it cannot be improved: a quadratic reaches it. beta_1 = 0,
    weight_decay = 0, no epsilon; a layer whose gradient is 0 stays. (The last
    line of Equation 4 has lost a phi; what follows has it.)

    Args:
        constants: What is known.
        learning_rate: eta, above 0, without a unit. None: the theorem's,
            sqrt(2 (f(x_1) - f*) / (alpha_u^2 ||L||_1 T)), which makes the
            bound the smallest.

    Returns:
        The bound, on `LAYER_NORMS`.

    Raises:
        TypeError, ValueError: A rate that is no number above 0.

    Example:
        >>> known = Constants([1.0, 4.0], [[0.0], [3.0]], 2.0, 10, 5)
        >>> print(round(lars(known).value, 4))  # (1 + 6 / sqrt(10))^2
        8.3947

    Source: You et al. 2019, Theorem 2 and its proof in Appendix A.
    """
    eta = _rate("lars", learning_rate, _layerwise_rate(constants))
    total = _layerwise(constants, eta, 2 * constants.layer_deviations.sum())
    return Bound(total**2 / constants.layers, LAYER_NORMS, eta)


def lamb(constants: Constants, learning_rate: float | None = None) -> Bound:
    """Theorem 3: LAMB, x_i' = x_i - eta phi(||x_i||) r_i / ||r_i||.

    With r = g / sqrt(v^), v^ the second moment with bias correction, and

        X = (f(x_1) - f*) / (T eta alpha_l)
            + alpha_u ||sigma~||_1 / (alpha_l sqrt b)
            + eta alpha_u^2 ||L||_1 / (2 alpha_l)
          = (alpha_u / alpha_l) (sqrt(2 (f(x_1) - f*) ||L||_1 / T)
                                 + ||sigma~||_1 / sqrt b)  at the theorem's rate

    the two cases are

        beta_2 > 0:  E ||grad f(x_a)||^2 <= sqrt(G^2 d / (h (1 - beta_2))) X
        beta_2 = 0:  (E ||grad f(x_a)||_1 / sqrt d)^2 <= X^2 / h

    The first is the last line of the proof. Of the second only the beginning
    is printed, and that is wrong: where a gradient's sign is not that of
    grad f, the right side counts -|grad f| + |grad f| for what is +|grad f|.
    It is true all the same with the proof's noise term, because

        |grad_j f| P(signs differ) <= sigma~_j / (2 sqrt b)    (Cantelli)

    is half of what the proof takes, and what is to be added is, times
    alpha_u, at most (1 + sqrt(h / d)) times this. Dividing by sqrt(h) gives
    the theorem's ||sigma~||_1^2 / (T h).

    beta_1 = 0, weight_decay = 0, epsilon = 0 (with one, ||r_i|| and the signs
    are others); r is 0 where g and v^ are. Misprints: Algorithm 2 divides by
    v + epsilon, its square root is lost; the last line of Equation 9 has a
    minus for a plus; the first of the last two lines has eta/2 ||L||_1 for
    eta alpha_u^2 / (2 alpha_l) ||L||_1.

    Args:
        constants: What is known. `gradient_bound` is needed where `beta_2` is
            above 0.
        learning_rate: As in `lars`, whose default it shares.

    Returns:
        The bound, on `SQUARED_NORM`, or on `ONE_NORM` where beta_2 is 0.

    Raises:
        TypeError, ValueError: A rate that is no number above 0, or no
            `gradient_bound`.

    Example:
        >>> import dataclasses
        >>> known = Constants([1.0, 4.0], [[0.0], [3.0]], 2.0, 20, 9,
        ...                   gradient_bound=5.0, beta_2=0.75)
        >>> print(round(lamb(known).value, 4))  # 5 * 2 * (1 + 1)
        20.0
        >>> sign = dataclasses.replace(known, beta_2=0.0)
        >>> print(round(lamb(sign).value, 4))  # (1 + 1)^2 / 2
        2.0

    Source: You et al. 2019, Theorem 3 and its proof in Appendix B.
    """
    eta = _rate("lamb", learning_rate, _layerwise_rate(constants))
    total = _layerwise(constants, eta, constants.deviations.sum())
    if constants.beta_2 == 0:
        return Bound(total**2 / constants.layers, ONE_NORM, eta)
    largest = _gradient_bound("lamb with beta_2 above 0", constants)
    per_layer = constants.parameters / constants.layers
    factor = largest * math.sqrt(per_layer / (1 - constants.beta_2))
    return Bound(factor * total, SQUARED_NORM, eta)


def adam(constants: Constants, learning_rate: float | None = None) -> Bound:
    """Appendix A of Nado et al.: Adam, x' = x - eta g / sqrt(v^).

        E ||grad f(x_a)||^2 <= G [(f(x_1) - f*) / (T eta sqrt(1 - beta_2))
                                  + c ||sigma~||_1 / sqrt b
                                  + ||L||_1 eta d / (2 (1 - beta_2)^(3/2))]
        c = max(1, 1 / (2 sqrt(1 - beta_2)))

    v^ is the second moment with bias correction. Printed is c = 1. This does
    not follow: above Equation 3, where signs differ, sqrt(1 - beta_2^t) /
    sqrt(v) is replaced by sqrt(1 - beta_2) / G, which is smaller, in a term
    that must not become smaller. Equation 4, which is about one step from a
    known x and v, is false where v is small. What does follow, as
    sqrt(v^) <= G and |g| / sqrt(v^) <= 1 / sqrt(1 - beta_2), and by the
    inequality of Cantelli that `lamb` uses, is

        G [(f(x_1) - f*) / (T eta) + ||sigma~||_1 / (2 sqrt((1 - beta_2) b))
           + ||L||_1 eta d / (2 (1 - beta_2))]

    so that the printed bound is proven for beta_2 up to 3/4, and above with
    this c. No problem is known that exceeds the printed one.

    At the printed rate the bound is G (1 + 1 / (1 - beta_2)^2) / 2
    sqrt(2 (f(x_1) - f*) ||L||_1 d / T) and the noise. (1 - beta_2 there is
    likely meant above the line: the rate that makes the bound smallest is
    sqrt(2 (f(x_1) - f*) (1 - beta_2) / (T ||L||_1 d)), and gives
    1 / (1 - beta_2) in place of (1 + 1 / (1 - beta_2)^2) / 2.) beta_1 = 0,
    weight_decay = 0, epsilon = 0; an element whose g and v^ are 0 stays.

    Args:
        constants: What is known; `gradient_bound` is needed, alpha_l and
            alpha_u are not used.
        learning_rate: eta, above 0, in [x]. None: the paper's,
            sqrt(2 (f(x_1) - f*) / (T ||L||_1 (1 - beta_2) d)).

    Returns:
        The bound, on `SQUARED_NORM`.

    Raises:
        TypeError, ValueError: A rate that is no number above 0, or no
            `gradient_bound`.

    Example:
        >>> known = Constants([1.0, 1.0], [[0.0], [3.0]], 2.0, 16, 9,
        ...                   gradient_bound=5.0, beta_2=0.75)
        >>> print(round(adam(known).value, 4))  # 5 * (17 / 2 + 1)
        47.5

    Source: Nado et al. 2021, Appendix A.
    """
    left = 1 - constants.beta_2
    curvature = constants.smoothness.sum() * constants.parameters
    gap, steps = constants.initial_gap, constants.steps
    published = math.sqrt(2 * gap / (steps * curvature * left))
    eta = _rate("adam", learning_rate, published)
    noise = constants.deviations.sum() / math.sqrt(constants.batch_size)
    value = _gradient_bound("adam", constants) * (
        gap / (steps * eta * math.sqrt(left))
        + max(1, 1 / (2 * math.sqrt(left))) * noise
        + curvature * eta / (2 * left**1.5)
    )
    return Bound(float(value), SQUARED_NORM, eta)


def _rate(owner, given, published):
    """The rate that was given, else that of the theorem."""
    if given is None:
        return float(published)
    return _constants.check_real(owner, "learning_rate", given)


def _layerwise_rate(constants):
    """The rate of Theorems 2 and 3."""
    curvature = constants.alpha_u**2 * constants.smoothness.sum()
    return math.sqrt(2 * constants.initial_gap / (curvature * constants.steps))


def _layerwise(constants, eta, deviation):
    """What Theorems 2 and 3 have in common: X in the docstring of `lamb`.

    `deviation` is what the proof sums over layers or parameters, of one
    example.
    """
    noise = deviation / math.sqrt(constants.batch_size)
    curvature = constants.alpha_u**2 * constants.smoothness.sum()
    progress = constants.initial_gap / (constants.steps * eta)
    total = progress + constants.alpha_u * noise + eta * curvature / 2
    return float(total / constants.alpha_l)


def _gradient_bound(owner, constants):
    if constants.gradient_bound is None:
        raise ValueError(
            f"{owner}: `gradient_bound` of the constants must be given, "
            "received None."
        )
    return constants.gradient_bound
