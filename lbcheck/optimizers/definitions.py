"""Signatures and manuals of the optimizers, the same for both Kerases."""

import inspect
import textwrap
from collections.abc import Callable
from collections.abc import Sequence
from typing import Literal

from lbcheck import rules
from lbcheck.optimizers.core import Core
from lbcheck.optimizers.core import DefaultRate
from lbcheck.optimizers.selection import BIAS_AND_NORM

Rate = float | Callable[..., float]
"""A number, a schedule, or a callable without arguments."""
Patterns = Sequence[str]

_RATE_SGD = DefaultRate(0.01)
_RATE_ADAM = DefaultRate(0.001)

_SELECTION = """
exclude_from_weight_decay: List of regular expressions, searched
    (`re.search`) in each variable's full path such as
    `encoder/layer_0/query/kernel` when the optimizer is built; the entry
    `"rank<2"` selects every variable of rank 0 or 1. What is selected does
    not decay. `()` excludes nothing. A pattern that matches nothing warns.
    Defaults to `lbcheck.BIAS_AND_NORM`: biases, gamma, beta, scale and all
    of rank below 2.
"""

_ADAPTATION = """
exclude_from_layer_adaptation: The same kind of list for the trust ratio,
    or "same" as `exclude_from_weight_decay`. None (default): the dialect's,
    which is "same", or () where every variable has a ratio:
    {everything}.
fallback: An lbcheck optimizer for the variables without trust ratio, with
    its own hyperparameters and lists. It takes this optimizer's rate or
    schedule unless it was given one itself. None (default):
    {fallback}
"""

_DIALECT = """
dialect: Whose reading of the rule, one of
    {dialects}.
    It sets the switches of the rule that its library leaves no choice of,
    so that they can be left out; a value that contradicts it is an error.
    Numbers stay as given. "paper" (default) takes every switch as given.
    `lbcheck conform` shows each beside its library.
"""

_KERAS = """
diagnostics_every: Record trust ratio, norms and rate of every variable at
    updates 0, k, 2k, ...; 0, the default, records nothing and costs
    nothing. See `diagnostics()`.
name: Name of the optimizer.
**kwargs: Keras's own keywords: `clipnorm`, `clipvalue`, `global_clipnorm`
    (over all variables, after averaging over replicas and before the
    update), `use_ema` and its companions, and in Keras 3
    `gradient_accumulation_steps` (schedule and bias correction count
    updates) and `loss_scale_factor`.
"""

_RAISES = """
Raises:
    TypeError: A string or other non-number for a number, a bare string for a
        list of patterns, a schedule or fallback of the other Keras, an
        argument that there is not.
    ValueError: A negative rate, a beta outside [0, 1), an unknown dialect or
        option, an argument that contradicts the dialect or another argument.

"""


def _define(cls):
    """Fills in what the signature says, and the docstring's common parts."""
    cls._optional = frozenset(
        name
        for name, parameter in inspect.signature(cls).parameters.items()
        if parameter.default is None
    )
    if cls.__doc__ is None:  # python -OO
        return cls
    readings = rules.DIALECTS[cls._rule_class.__name__]
    shared = _SELECTION
    if hasattr(cls, "_fallback_note"):
        shared += _ADAPTATION.format(
            everything=", ".join(
                d for d, reading in readings.items() if reading.adapts_excluded
            ),
            fallback=cls._fallback_note,
        )
    shared += _DIALECT.format(dialects=", ".join(readings))
    before, after = inspect.cleandoc(cls.__doc__).split("{shared}\n")
    own, _, example = after.partition("Example:")
    cls.__doc__ = "".join(
        [
            before,
            _indented(shared),
            own.rstrip("\n") + "\n" if own.strip() else "",
            _indented(_KERAS),
            _RAISES,
            "Example:",
            example,
        ]
    )
    return cls


def _indented(text):
    """Entries of the Args section, without blank lines between them."""
    lines = [line for line in text.splitlines() if line]
    return textwrap.indent("\n".join(lines), "    ") + "\n"


@_define
class Momentum(Core):
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
        momentum: In [0, 1). Defaults to 0.9.
        nesterov: Whether to take the Nesterov step. None: False.
        l2: Coefficient of L2 in the loss, `l2 / 2 * ||w||^2`, at least 0.
            Defaults to 0.
        weight_decay: Decoupled decay, times the rate, at least 0. Defaults
            to 0.
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

    _rule_class = rules.Momentum

    def __init__(
        self,
        learning_rate: Rate = _RATE_SGD,
        momentum: float = 0.9,
        nesterov: bool | None = None,
        l2: float = 0.0,
        weight_decay: float = 0.0,
        exclude_from_weight_decay: Patterns = BIAS_AND_NORM,
        dialect: str = rules.DEFAULT,
        rate_in_buffer: bool | None = None,
        diagnostics_every: int = 0,
        name: str = "momentum",
        **kwargs,
    ):
        super().__init__(
            learning_rate=learning_rate,
            dialect=dialect,
            given={
                "momentum": momentum,
                "nesterov": nesterov,
                "l2": l2,
                "weight_decay": weight_decay,
                "rate_in_buffer": rate_in_buffer,
            },
            exclude_from_weight_decay=exclude_from_weight_decay,
            diagnostics_every=diagnostics_every,
            name=name,
            **kwargs,
        )


@_define
class Nesterov(Momentum):
    """Nesterov momentum: `Momentum` with `nesterov=True`.

        g  = gradient + l2 * w
        v' = momentum * v + g
        w' = (1 - learning_rate * weight_decay) * w
             - learning_rate * (g + momentum * v')

    Args:
        learning_rate: Step size per update: a number of at least 0, a
            schedule of lbcheck or Keras, or a callable without
            arguments. Defaults to 0.01.
        momentum: In [0, 1). Defaults to 0.9.
        nesterov: True; None is the same.
        l2: Coefficient of L2 in the loss, `l2 / 2 * ||w||^2`, at least 0.
            Defaults to 0.
        weight_decay: Decoupled decay, times the rate, at least 0. Defaults
            to 0.
    {shared}
        rate_in_buffer: True for Keras's form, v' = momentum * v + rate * g.
            None: the dialect's, False of the paper.

    Example:

    >>> import numpy as np, lbcheck
    >>> rule = lbcheck.rules.Momentum(momentum=0.5, nesterov=True)
    >>> w, v, _ = rule.update(
    ...     lbcheck.rules.NUMPY, np.zeros(1), np.ones(1), (np.zeros(1),), 1, 0)
    >>> print(w)  # heavy-ball: -1
    [-1.5]

    Source: Nado et al. 2021, section 2.1.1.
    """

    _fixed = {"nesterov": True}

    def __init__(
        self,
        learning_rate: Rate = _RATE_SGD,
        momentum: float = 0.9,
        nesterov: bool | None = None,
        l2: float = 0.0,
        weight_decay: float = 0.0,
        exclude_from_weight_decay: Patterns = BIAS_AND_NORM,
        dialect: str = rules.DEFAULT,
        rate_in_buffer: bool | None = None,
        diagnostics_every: int = 0,
        name: str = "nesterov",
        **kwargs,
    ):
        super().__init__(
            learning_rate=learning_rate,
            momentum=momentum,
            nesterov=nesterov,
            l2=l2,
            weight_decay=weight_decay,
            exclude_from_weight_decay=exclude_from_weight_decay,
            dialect=dialect,
            rate_in_buffer=rate_in_buffer,
            diagnostics_every=diagnostics_every,
            name=name,
            **kwargs,
        )


@_define
class LARS(Core):
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
        momentum: In [0, 1). Defaults to 0.9.
        weight_decay: Decay inside the ratio and the step, at least 0.
            Defaults to 0.
        trust_coefficient: At least 0. Defaults to 0.001.
        epsilon: Added to the denominator, at least 0. None: the dialect's,
            1e-7 of mlperf, which takes no 0, and 0 of the others.
        nesterov: Whether to take the Nesterov step. None: False.
    {shared}
        denominator: "sum" as above, or "joint":
            ||g + weight_decay * w|| + epsilon. None: the dialect's, "sum" of
            the paper.
        normalize: "gradient", or "momentum" to divide by the norm of the
            step as Algorithm 1 of You et al. 2019 (with
            `trust_coefficient=1` and `rate_in_buffer=False`). None: the
            dialect's, "gradient" of the paper.
        rate_in_buffer: Whether the rate multiplies s or the step. None: the
            dialect's, True of the paper.

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

    _rule_class = rules.LARS
    _fallback_note = (
        "heavy-ball momentum with the same `momentum` and rate, the rate\n"
        "    outside the buffer and no decay, as the paper's pipeline; in the\n"
        "    other dialects LARS itself with the ratio 1."
    )

    def __init__(
        self,
        learning_rate: Rate = _RATE_SGD,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust_coefficient: float = 0.001,
        epsilon: float | None = None,
        nesterov: bool | None = None,
        exclude_from_weight_decay: Patterns = BIAS_AND_NORM,
        exclude_from_layer_adaptation: Patterns | Literal["same"] | None = None,
        fallback: Core | None = None,
        dialect: str = rules.DEFAULT,
        denominator: Literal["sum", "joint"] | None = None,
        normalize: Literal["gradient", "momentum"] | None = None,
        rate_in_buffer: bool | None = None,
        diagnostics_every: int = 0,
        name: str = "lars",
        **kwargs,
    ):
        super().__init__(
            learning_rate=learning_rate,
            dialect=dialect,
            given={
                "momentum": momentum,
                "weight_decay": weight_decay,
                "trust_coefficient": trust_coefficient,
                "epsilon": epsilon,
                "nesterov": nesterov,
                "denominator": denominator,
                "normalize": normalize,
                "rate_in_buffer": rate_in_buffer,
            },
            exclude_from_weight_decay=exclude_from_weight_decay,
            exclude_from_layer_adaptation=exclude_from_layer_adaptation,
            fallback=fallback,
            diagnostics_every=diagnostics_every,
            name=name,
            **kwargs,
        )


@_define
class LAMB(Core):
    """LAMB: layer-wise adaptation over Adam's moments.

    For every adapted variable w with gradient g, t counting updates from 1:

        m' = beta_1 * m + (1 - beta_1) * g
        v' = beta_2 * v + (1 - beta_2) * g^2
        r  = m' / (1 - beta_1^t) / (sqrt(v' / (1 - beta_2^t)) + epsilon)
        u  = r + weight_decay * w
        w' = w - learning_rate * phi(||w||) / ||u|| * u

    The ratio is 1 where phi(||w||) or ||u|| is 0. Norms are over the whole
    variable, in float32 at least. Variables without a ratio are trained by
    `fallback`.

    Args:
        learning_rate: Step size per update: a number of at least 0, a
            schedule of lbcheck or Keras, or a callable without
            arguments. Defaults to 0.001.
        beta_1: In [0, 1). Defaults to 0.9.
        beta_2: In [0, 1). Defaults to 0.999.
        epsilon: Added to the root, at least 0. Defaults to 1e-6.
        weight_decay: Decay inside the ratio, at least 0. Defaults to 0.01.
        bias_correction: Whether to divide by 1 - beta^t. None: True.
        nesterov: "first" (N-LAMB) or "both" (NN-LAMB): the Nesterov step in
            the first or in both moments; the equations are in
            `help(lbcheck.rules.LAMB)`. None: no Nesterov step.
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

    Example:

    >>> import numpy as np, lbcheck
    >>> rule = lbcheck.rules.LAMB(weight_decay=0.1)
    >>> w, g = np.array([1., 2., 3., 4.]), np.array([.1, -.2, .3, .4])
    >>> w, _, _ = rule.update(
    ...     lbcheck.rules.NUMPY, w, g, (np.zeros(4), np.zeros(4)), 0.1, 0)
    >>> print(w.round(4))  # keras.optimizers.Lamb: .7189 2.2511 2.6989 3.6889
    [0.7431 2.1868 2.6964 3.673 ]

    Source: You et al. 2019, Algorithms 2 to 4.
    """

    _rule_class = rules.LAMB
    _fallback_note = "LAMB itself with the ratio 1."

    def __init__(
        self,
        learning_rate: Rate = _RATE_ADAM,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-6,
        weight_decay: float = 0.01,
        bias_correction: bool | None = None,
        nesterov: Literal["first", "both"] | None = None,
        norm: Literal["l2", "l1", "linf"] | None = None,
        phi_bounds: tuple[float, float] | None = None,
        exclude_from_weight_decay: Patterns = BIAS_AND_NORM,
        exclude_from_layer_adaptation: Patterns | Literal["same"] | None = None,
        fallback: Core | None = None,
        dialect: str = rules.DEFAULT,
        zero_norm: Literal["one", "flax"] | None = None,
        decay_placement: Literal["inside", "decoupled"] | None = None,
        diagnostics_every: int = 0,
        name: str = "lamb",
        **kwargs,
    ):
        super().__init__(
            learning_rate=learning_rate,
            dialect=dialect,
            given={
                "beta_1": beta_1,
                "beta_2": beta_2,
                "epsilon": epsilon,
                "weight_decay": weight_decay,
                "bias_correction": bias_correction,
                "nesterov": nesterov,
                "norm": norm,
                "phi_bounds": phi_bounds,
                "zero_norm": zero_norm,
                "decay_placement": decay_placement,
            },
            exclude_from_weight_decay=exclude_from_weight_decay,
            exclude_from_layer_adaptation=exclude_from_layer_adaptation,
            fallback=fallback,
            diagnostics_every=diagnostics_every,
            name=name,
            **kwargs,
        )


@_define
class AdamW(Core):
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
        beta_1: In [0, 1). Defaults to 0.9.
        beta_2: In [0, 1). Defaults to 0.999.
        epsilon: Added to the root, at least 0. Defaults to 1e-8.
        weight_decay: Decoupled decay, times the rate, at least 0. Defaults
            to 0.01.
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

    _rule_class = rules.AdamW

    def __init__(
        self,
        learning_rate: Rate = _RATE_ADAM,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        weight_decay: float = 0.01,
        l2: float = 0.0,
        bias_correction: bool | None = None,
        exclude_from_weight_decay: Patterns = BIAS_AND_NORM,
        dialect: str = rules.DEFAULT,
        epsilon_hat: bool | None = None,
        decay_times_rate: bool | None = None,
        diagnostics_every: int = 0,
        name: str = "adamw",
        **kwargs,
    ):
        super().__init__(
            learning_rate=learning_rate,
            dialect=dialect,
            given={
                "beta_1": beta_1,
                "beta_2": beta_2,
                "epsilon": epsilon,
                "weight_decay": weight_decay,
                "l2": l2,
                "bias_correction": bias_correction,
                "epsilon_hat": epsilon_hat,
                "decay_times_rate": decay_times_rate,
            },
            exclude_from_weight_decay=exclude_from_weight_decay,
            diagnostics_every=diagnostics_every,
            name=name,
            **kwargs,
        )


@_define
class Adagrad(Core):
    """Diagonal Adagrad, a baseline of the LAMB paper.

        g  = gradient + l2 * w
        a' = a + g^2                 a starts at initial_accumulator_value
        w' = (1 - learning_rate * weight_decay) * w
             - learning_rate * g / (sqrt(a') + epsilon)

    Args:
        learning_rate: Step size per update: a number of at least 0, a
            schedule of lbcheck or Keras, or a callable without
            arguments. Defaults to 0.001.
        initial_accumulator_value: At least 0. Defaults to 0.1.
        epsilon: Added to the root, at least 0. Defaults to 1e-7.
        weight_decay: Decoupled decay, times the rate, at least 0. Defaults
            to 0.
        l2: Coefficient of L2 in the loss, `l2 / 2 * ||w||^2`, at least 0.
            Defaults to 0.
    {shared}
        epsilon_hat: True adds epsilon under the root, as Keras and optax do.
            None: the dialect's, False of the paper.

    Example:

    >>> import numpy as np, lbcheck
    >>> rule = lbcheck.rules.Adagrad(initial_accumulator_value=0.0)
    >>> w, state = np.array([0.0]), (np.array([0.0]),)
    >>> for step in range(2):
    ...     w, state, _ = rule.update(
    ...         lbcheck.rules.NUMPY, w, np.array([3.0]), state, 1.0, step)
    >>> print(w.round(4))  # 1 + 1 / sqrt(2)
    [-1.7071]

    Source: Duchi, Hazan, Singer 2011.
    """

    _rule_class = rules.Adagrad

    def __init__(
        self,
        learning_rate: Rate = _RATE_ADAM,
        initial_accumulator_value: float = 0.1,
        epsilon: float = 1e-7,
        weight_decay: float = 0.0,
        l2: float = 0.0,
        exclude_from_weight_decay: Patterns = BIAS_AND_NORM,
        dialect: str = rules.DEFAULT,
        epsilon_hat: bool | None = None,
        diagnostics_every: int = 0,
        name: str = "adagrad",
        **kwargs,
    ):
        super().__init__(
            learning_rate=learning_rate,
            dialect=dialect,
            given={
                "initial_accumulator_value": initial_accumulator_value,
                "epsilon": epsilon,
                "weight_decay": weight_decay,
                "l2": l2,
                "epsilon_hat": epsilon_hat,
            },
            exclude_from_weight_decay=exclude_from_weight_decay,
            diagnostics_every=diagnostics_every,
            name=name,
            **kwargs,
        )
