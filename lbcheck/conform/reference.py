"""Float64 references, written from the papers and the libraries' sources.

Plain NumPy functions that share no code with ``lbcheck/optimizers``: each
takes one variable through one update. `w` weight, `g` gradient, `s` dict of
state (empty before the first update), `lr` rate, `t` number of this update
from 1, `decay` and `adapt` whether the variable decays and takes a trust
ratio. They return the new weight and change `s`.
"""

import numpy as np

REFERENCES = {}
"""(rule, dialect) -> (function, the arguments that make it that dialect)."""

ADAPTS_ALL = set()
"""Dialects that take the trust ratio of variables excluded from decay too."""


def reference_of(rule, adapts_all=(), **dialects):
    """Decorator: the function is the reference of these dialects of a rule.

    Args:
        rule: Name of the rule.
        adapts_all: Those of its dialects that `ADAPTS_ALL` lists.
        **dialects: {dialect: the arguments that make it that dialect}.
    """

    def register(function):
        for dialect, arguments in dialects.items():
            REFERENCES[rule, dialect] = (function, arguments)
        ADAPTS_ALL.update((rule, dialect) for dialect in adapts_all)
        return function

    return register


def l2_norm(x):
    """Root of the sum of squares over the whole array."""
    return float(np.sqrt((np.asarray(x, np.float64) ** 2).sum()))


@reference_of(
    "Momentum",
    paper={},
    flax={},
    mlperf={},
    optax={},
    keras={"keras_form": True},
)
def momentum(
    w,
    g,
    s,
    lr,
    t,
    decay=True,
    adapt=True,
    *,
    momentum=0.9,
    nesterov=False,
    l2=0.0,
    weight_decay=0.0,
    keras_form=False,
):
    """Nado et al. 2021, 2.1.1; `keras_form`: m = mu m - lr g, w += m."""
    wd = weight_decay if decay else 0.0
    g = g + (l2 if decay else 0.0) * w
    if keras_form:
        s["m"] = momentum * s.get("m", 0.0) - lr * g
        step = momentum * s["m"] - lr * g if nesterov else s["m"]
        return w - lr * wd * w + step
    s["v"] = momentum * s.get("v", 0.0) + g
    step = momentum * s["v"] + g if nesterov else s["v"]
    return w - lr * wd * w - lr * step


def heavy_ball_plain(w, g, s, lr, momentum):
    """What trains biases and norms in the paper's LARS pipeline."""
    s["v"] = momentum * s.get("v", 0.0) + g
    return w - lr * s["v"]


@reference_of(
    "LARS",
    paper={},
    flax={},
    model_garden={"joint": True, "excluded": "same"},
    optax={"joint": True, "excluded": "same"},
    adapts_all=("flax", "optax"),
)
def lars(
    w,
    g,
    s,
    lr,
    t,
    decay=True,
    adapt=True,
    *,
    momentum=0.9,
    weight_decay=0.0,
    trust_coefficient=0.001,
    epsilon=0.0,
    nesterov=False,
    joint=False,
    rate_outside=False,
    normalize_momentum=False,
    excluded="heavy_ball",
):
    """flax.optim.LARS; `joint` as Model Garden and optax, and Algorithm 1."""
    if not adapt and excluded == "heavy_ball":
        return heavy_ball_plain(w, g, s, lr, momentum)
    wd = weight_decay if decay else 0.0
    decayed = g + wd * w
    if normalize_momentum:
        s["v"] = momentum * s.get("v", 0.0) + decayed
        u = momentum * s["v"] + decayed if nesterov else s["v"]
        ratio = 1.0
        if adapt and l2_norm(w) > 0 and l2_norm(u) > 0:
            ratio = trust_coefficient * l2_norm(w) / (l2_norm(u) + epsilon)
        return w - lr * ratio * u
    measured = l2_norm(decayed) if joint else l2_norm(g)
    ratio = 1.0
    if adapt and l2_norm(w) > 0 and measured > 0:
        below = measured + epsilon
        if not joint:
            below = below + wd * l2_norm(w)
        ratio = trust_coefficient * l2_norm(w) / below
    increment = ratio * decayed if rate_outside else lr * ratio * decayed
    s["m"] = momentum * s.get("m", 0.0) + increment
    u = increment + momentum * s["m"] if nesterov else s["m"]
    return w - lr * u if rate_outside else w - u


@reference_of("LARS", mlperf={})
def lars_mlperf(w, g, s, lr, t, decay=True, adapt=True, *, epsilon=0.0, **kw):
    """MLPerf ResNet TF2 lars_optimizer.py: `epsilon or 1e-7`, w += m."""
    mu, wd = kw.get("momentum", 0.9), kw.get("weight_decay", 0.0)
    scaled = lr
    if adapt and l2_norm(w) > 0 and l2_norm(g) > 0:
        below = l2_norm(g) + wd * l2_norm(w) + (epsilon or 1e-7)
        scaled = lr * kw.get("trust_coefficient", 0.001) * l2_norm(w) / below
    if decay:
        g = g + wd * w
    s["m"] = mu * s.get("m", 0.0) - scaled * g
    return w + (mu * s["m"] - scaled * g if kw.get("nesterov") else s["m"])


def _whole_norm(x, kind):
    x = np.abs(np.asarray(x, np.float64))
    return {"l2": l2_norm(x), "l1": x.sum(), "linf": x.max()}[kind]


@reference_of(
    "LAMB",
    paper={},
    flax={"flax_zero": True},
    mlperf={},
    model_garden={},
    optax={},
    keras={"keras_decay": True},
    tfa={},
    nvlamb={},
    adapts_all=("flax", "optax", "keras", "nvlamb"),
)
def lamb(
    w,
    g,
    s,
    lr,
    t,
    decay=True,
    adapt=True,
    *,
    beta_1=0.9,
    beta_2=0.999,
    epsilon=1e-6,
    weight_decay=0.01,
    bias_correction=True,
    nesterov=None,
    norm="l2",
    phi_bounds=None,
    flax_zero=False,
    keras_decay=False,
):
    """You et al. 2019, Algorithms 2-4; `beta_1` may be a function of t."""
    b = beta_1 if callable(beta_1) else (lambda i: beta_1)
    wd = weight_decay if decay else 0.0
    s["m"] = b(t) * s.get("m", 0.0) + (1 - b(t)) * g
    s["v"] = beta_2 * s.get("v", 0.0) + (1 - beta_2) * g * g
    to_t = 1 - np.prod([b(i) for i in range(1, t + 1)])
    to_next = 1 - np.prod([b(i) for i in range(1, t + 2)])
    second_t, second_next = 1 - beta_2**t, 1 - beta_2 ** (t + 1)
    if not bias_correction:
        to_t = to_next = second_t = second_next = 1.0
    m_hat, v_hat = s["m"] / to_t, s["v"] / second_t
    if nesterov is not None:
        m_hat = b(t + 1) * s["m"] / to_next + (1 - b(t)) * g / to_t
        v_hat = beta_2 * s["v"] / second_t
    if nesterov == "both":
        v_hat = beta_2 * s["v"] / second_next + (1 - beta_2) * g * g / second_t
    if keras_decay:
        w = w - lr * wd * w
        wd = 0.0
    u = m_hat / (np.sqrt(v_hat) + epsilon) + wd * w
    above, below = _whole_norm(w, norm), _whole_norm(u, norm)
    if phi_bounds is not None:
        above = min(max(above, phi_bounds[0]), phi_bounds[1])
    if not adapt:
        ratio = 1.0
    elif flax_zero:
        ratio = above / below if above + below > 0 else 1.0
    else:
        ratio = above / below if above > 0 and below > 0 else 1.0
    return w - lr * ratio * u


@reference_of(
    "AdamW",
    paper={},
    flax={},
    optax={},
    keras={"keras_epsilon": True},
    model_garden={"keras_epsilon": True},
    tfa={"keras_epsilon": True, "decay_without_rate": True},
    bert_original={"bias_correction": False},
)
def adamw(
    w,
    g,
    s,
    lr,
    t,
    decay=True,
    adapt=True,
    *,
    beta_1=0.9,
    beta_2=0.999,
    epsilon=1e-8,
    weight_decay=0.01,
    l2=0.0,
    bias_correction=True,
    keras_epsilon=False,
    decay_without_rate=False,
):
    """Loshchilov and Hutter 2019; `keras_epsilon` folds the correction."""
    wd = weight_decay if decay else 0.0
    g = g + (l2 if decay else 0.0) * w
    s["m"] = beta_1 * s.get("m", 0.0) + (1 - beta_1) * g
    s["v"] = beta_2 * s.get("v", 0.0) + (1 - beta_2) * g * g
    shrunk = w - (wd if decay_without_rate else lr * wd) * w
    if not bias_correction:
        return shrunk - lr * s["m"] / (np.sqrt(s["v"]) + epsilon)
    if keras_epsilon:
        alpha = lr * np.sqrt(1 - beta_2**t) / (1 - beta_1**t)
        return shrunk - alpha * s["m"] / (np.sqrt(s["v"]) + epsilon)
    m_hat, v_hat = s["m"] / (1 - beta_1**t), s["v"] / (1 - beta_2**t)
    return shrunk - lr * m_hat / (np.sqrt(v_hat) + epsilon)


@reference_of(
    "Adagrad",
    paper={},
    keras={"epsilon_under_root": True},
)
def adagrad(
    w,
    g,
    s,
    lr,
    t,
    decay=True,
    adapt=True,
    *,
    initial_accumulator_value=0.1,
    epsilon=1e-7,
    weight_decay=0.0,
    l2=0.0,
    epsilon_under_root=False,
):
    """Duchi et al. 2011, diagonal; Keras puts epsilon under the root."""
    g = g + (l2 if decay else 0.0) * w
    s["a"] = s.get("a", initial_accumulator_value) + g * g
    root = (
        np.sqrt(s["a"] + epsilon)
        if epsilon_under_root
        else np.sqrt(s["a"]) + epsilon
    )
    return w - lr * (weight_decay if decay else 0.0) * w - lr * g / root
