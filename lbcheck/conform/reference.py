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
    constant_norm=False,
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
    new = w - lr * ratio * u
    if constant_norm and adapt and l2_norm(w) > 0:
        # Wen et al. 2026: R Normalize(w - lr R Normalize(u)), R = ||w||.
        new = new * (l2_norm(w) / l2_norm(new))
    return new


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


@reference_of("Lion", paper={}, optax={}, keras={})
def lion(
    w,
    g,
    s,
    lr,
    t,
    decay=True,
    adapt=True,
    *,
    beta_1=0.9,
    beta_2=0.99,
    weight_decay=0.0,
):
    """Chen et al. 2023, Algorithm 2."""
    m = s.get("m", 0.0)
    u = np.sign(m + (1 - beta_1) * (g - m))
    s["m"] = m + (1 - beta_2) * (g - m)
    return w - lr * (u + (weight_decay if decay else 0.0) * w)


@reference_of(
    "NAdamW",
    paper={},
    optax={},
    algoperf={"algoperf": True},
    keras={"keras_schedule": True},
)
def nadamw(
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
    algoperf=False,
    keras_schedule=False,
):
    """Dozat 2016, Algorithm 2; AlgoPerf's form; Keras's schedule of beta_1."""
    s["m"] = beta_1 * s.get("m", 0.0) + (1 - beta_1) * g
    s["n"] = beta_2 * s.get("n", 0.0) + (1 - beta_2) * g**2
    n_hat = s["n"] / (1 - beta_2**t)
    if algoperf:
        m_hat = (beta_1 * s["m"] + (1 - beta_1) * g) / (1 - beta_1**t)
    elif keras_schedule:
        mu = [beta_1 * (1 - 0.5 * 0.96**i) for i in range(1, t + 2)]
        m_hat = mu[-1] * s["m"] / (1 - np.prod(mu))
        m_hat = m_hat + (1 - mu[-2]) * g / (1 - np.prod(mu[:-1]))
    else:
        m_hat = beta_1 * s["m"] / (1 - beta_1 ** (t + 1))
        m_hat = m_hat + (1 - beta_1) * g / (1 - beta_1**t)
    wd = weight_decay if decay else 0.0
    return w - lr * (m_hat / (np.sqrt(n_hat) + epsilon) + wd * w)


@reference_of("AdEMAMix", paper={}, optax={"first": 0})
def ademamix(
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
    beta_3=0.9999,
    alpha=5.0,
    slow_warmup_steps=0,
    epsilon=1e-8,
    weight_decay=0.0,
    first=1,
):
    """Pagliardini et al. 2024, Algorithm 1, with f_alpha and f_beta_3.

    The paper's exp(ln b_1 ln b_3 / ((1 - t/T) ln b_3 + t/T ln b_1)).
    """
    now = t - 1 + first
    mixed, slow = alpha, beta_3
    if now < slow_warmup_steps:
        part = now / slow_warmup_steps
        mixed = part * alpha
        one, three = np.log(beta_1), np.log(beta_3)
        slow = np.exp(one * three / ((1 - part) * three + part * one))
        slow = min(slow, beta_3)
    s["fast"] = beta_1 * s.get("fast", 0.0) + (1 - beta_1) * g
    s["slow"] = slow * s.get("slow", 0.0) + (1 - slow) * g
    s["v"] = beta_2 * s.get("v", 0.0) + (1 - beta_2) * g * g
    above = s["fast"] / (1 - beta_1**t) + mixed * s["slow"]
    below = np.sqrt(s["v"] / (1 - beta_2**t)) + epsilon
    return w - lr * (above / below + (weight_decay if decay else 0.0) * w)


@reference_of(
    "ScheduleFreeAdamW",
    paper={},
    schedulefree={"correct_moment": True},
    optax={"correct_moment": True},
)
def schedule_free_adamw(
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
    weight_decay=0.0,
    correct_moment=False,
):
    """Defazio et al. 2024, Algorithm 1: x, y and z, all three kept; w is y."""
    z, x = s.get("z", w), s.get("x", w)
    s["v"] = beta_2 * s.get("v", 0.0) + (1 - beta_2) * g * g
    unbias = 1 - beta_2**t
    if correct_moment:
        step = g / (np.sqrt(s["v"] / unbias) + epsilon)
    else:
        step = g / (np.sqrt(s["v"]) + epsilon)
        lr = lr * np.sqrt(unbias)
    s["max"] = max(s.get("max", 0.0), lr)
    s["sum"] = s.get("sum", 0.0) + s["max"] ** 2
    c = s["max"] ** 2 / s["sum"] if s["sum"] else 0.0
    z = z - lr * (step + (weight_decay if decay else 0.0) * w)
    x = (1 - c) * x + c * z
    s["z"], s["x"] = z, x
    return (1 - beta_1) * z + beta_1 * x


def newton_schulz(x, steps, coefficients, epsilon):
    """Jordan et al. 2024, with the polynomial written out; a matrix."""
    a, b, c = coefficients
    x = x / (np.sqrt((x * x).sum()) + epsilon)
    if x.shape[0] > x.shape[1]:
        x = x.T
        for _ in range(steps):
            x = a * x + b * (x @ x.T) @ x + c * (x @ x.T) @ (x @ x.T) @ x
        return x.T
    for _ in range(steps):
        x = a * x + b * x @ (x.T @ x) + c * x @ (x.T @ x) @ (x.T @ x)
    return x


def as_matrices(x, batched):
    """(the matrices that Muon takes of an array, how they go back)."""
    if batched and x.ndim > 2:
        return list(x), np.stack
    if x.ndim == 3:
        one = x.reshape(x.shape[0], -1)
        two = x.reshape(-1, x.shape[2])
        # The nearer to a square; of two the second.
        x2 = two if min(two.shape) >= min(one.shape) else one
    else:
        x2 = x.reshape(-1, x.shape[-1])
    return [x2], lambda parts: parts[0].reshape(x.shape)


@reference_of(
    "Muon",
    paper={"adam": (0.9, 0.95, 1e-8, False)},
    keller_jordan={"form": "jordan", "adam": (0.9, 0.95, 1e-10, False)},
    moonlight={"form": "moonlight", "adam": (0.9, 0.95, 1e-8, True)},
    keras={"form": "moonlight", "adam": (0.9, 0.999, 1e-7, True)},
    keras_3_12={"form": "keras_3_12", "adam": (0.9, 0.999, 1e-7, True)},
    optax={"form": "optax", "adam": (0.9, 0.999, 1e-8, False)},
)
def muon(
    w,
    g,
    s,
    lr,
    t,
    decay=True,
    adapt=True,
    *,
    momentum=0.95,
    nesterov=True,
    update_rms=0.2,
    epsilon=1e-7,
    weight_decay=0.1,
    fallback_rate_ratio=1.0,
    scale="rms",
    newton_schulz_steps=5,
    coefficients=(3.4445, -4.7750, 2.0315),
    form="paper",
    adam=(0.9, 0.95, 1e-8, False),
):
    """Jordan et al. 2024, Liu et al. 2025 and the forms of the libraries."""
    if not adapt:
        b1, b2, eps, keras_epsilon = adam
        rate = fallback_rate_ratio * lr
        if form == "optax" and nesterov:  # Nesterov's step there too
            return nadamw(
                w,
                g,
                s,
                rate,
                t,
                decay,
                epsilon=epsilon,
                weight_decay=weight_decay,
            )
        return adamw(
            w,
            g,
            s,
            rate,
            t,
            decay,
            beta_1=b1,
            beta_2=b2,
            epsilon=eps,
            weight_decay=weight_decay,
            keras_epsilon=keras_epsilon,
        )
    if form in ("moonlight", "keras_3_12"):
        s["m"] = momentum * s.get("m", 0.0) + g
        n = g + momentum * s["m"] if nesterov else s["m"]
    else:
        s["m"] = s.get("m", 0.0) + (1 - momentum) * (g - s.get("m", 0.0))
        n = g + momentum * (s["m"] - g) if nesterov else s["m"]
    if form == "optax":
        n = s["m"] / (1 - momentum**t)
        if nesterov:
            n = momentum * s["m"] / (1 - momentum ** (t + 1))
            n = n + (1 - momentum) * g / (1 - momentum**t)
    parts, whole = as_matrices(n, batched=form == "keras_3_12")
    fan_in, fan_out = parts[0].shape
    factor = update_rms * np.sqrt(max(fan_in, fan_out))
    if form == "jordan" and w.ndim == 4:
        factor = max(1, w.shape[0] / w.shape[1]) ** 0.5
    elif form == "jordan" or scale == "width":
        factor = max(1, fan_out / fan_in) ** 0.5
    elif form == "keras_3_12":
        factor = max(1, w.shape[0] / w.shape[1]) ** 0.5
    step = whole(
        [
            newton_schulz(part, newton_schulz_steps, coefficients, epsilon)
            for part in parts
        ]
    )
    wd = weight_decay if decay else 0.0
    return w - lr * wd * w - lr * factor * step


@reference_of("SOAP", paper={})
def soap(
    w,
    g,
    s,
    lr,
    t,
    decay=True,
    adapt=True,
    *,
    beta_1=0.95,
    beta_2=0.95,
    beta_preconditioner=0.95,
    epsilon=1e-8,
    weight_decay=0.01,
    precondition_frequency=10,
    max_precondition_size=10000,
    bias_correction=True,
):
    """nikhilvyas/SOAP, soap.py: the first moment kept in the eigenbasis."""

    def turn(x, back=False):
        for q in s["Q"]:  # each takes the first axis, and puts it last
            if q is None:
                x = np.moveaxis(x, 0, -1)
            else:
                x = np.tensordot(x, q, ([0], [1 if back else 0]))
        return x

    def precondition():
        for axis, matrix in enumerate(s["GG"]):
            if matrix is not None:
                others = [i for i in range(g.ndim) if i != axis]
                outer = np.tensordot(g, g, (others, others))
                s["GG"][axis] = matrix + (1 - beta_preconditioner) * (
                    outer - matrix
                )

    if t == 1:
        s["GG"] = [
            np.zeros((n, n))
            if g.ndim > 1 and n <= max_precondition_size
            else None
            for n in g.shape
        ]
        precondition()
        s["Q"] = [
            None if m is None else np.flip(np.linalg.eigh(m)[1], 1)
            for m in s["GG"]
        ]
        return w
    count = t - 1
    turned = turn(g)
    s["m"] = beta_1 * s.get("m", 0.0) + (1 - beta_1) * turned
    s["v"] = beta_2 * s.get("v", 0.0) + (1 - beta_2) * turned * turned
    size = lr
    if bias_correction:
        size = lr * np.sqrt(1 - beta_2**count) / (1 - beta_1**count)
    w = w - size * turn(s["m"] / (np.sqrt(s["v"]) + epsilon), back=True)
    w = w - lr * (weight_decay if decay else 0.0) * w
    plain = turn(s["m"], back=True)
    precondition()
    if count % precondition_frequency == 0:
        for axis, (matrix, q) in enumerate(zip(s["GG"], s["Q"])):
            if matrix is None:
                continue
            order = np.argsort(-np.diag(q.T @ matrix @ q), kind="stable")
            s["v"] = s["v"].take(order, axis)
            s["Q"][axis] = np.linalg.qr(matrix @ q[:, order])[0]
    s["m"] = turn(plain)
    return w
