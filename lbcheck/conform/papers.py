"""Float64 references of the optimizers that lbcheck does not have itself.

As in ``reference.py``: written from the papers, one variable, one update, `s`
its state. What else a library is known to compute is an argument.
"""

import numpy as np


def _decayed(w, lr, decay, weight_decay):
    return w - lr * (weight_decay if decay else 0.0) * w


def rmsprop(
    w,
    g,
    s,
    lr,
    t,
    decay=True,
    adapt=True,
    *,
    rho=0.9,
    epsilon=1e-7,
    weight_decay=0.0,
):
    """Tieleman and Hinton 2012, Lecture 6.5, which has no epsilon."""
    s["v"] = rho * s.get("v", 0.0) + (1 - rho) * g * g
    step = g / np.sqrt(s["v"] + epsilon)
    return _decayed(w, lr, decay, weight_decay) - lr * step


def adadelta(
    w,
    g,
    s,
    lr,
    t,
    decay=True,
    adapt=True,
    *,
    rho=0.95,
    epsilon=1e-7,
    weight_decay=0.0,
):
    """Zeiler 2012, Algorithm 1, times a rate."""
    s["g"] = rho * s.get("g", 0.0) + (1 - rho) * g * g
    step = np.sqrt(s.get("x", 0.0) + epsilon) / np.sqrt(s["g"] + epsilon) * g
    s["x"] = rho * s.get("x", 0.0) + (1 - rho) * step * step
    return _decayed(w, lr, decay, weight_decay) - lr * step


def adamax(
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
    epsilon=1e-7,
    weight_decay=0.0,
):
    """Kingma and Ba 2015, Algorithm 2, with an epsilon beside u."""
    s["m"] = beta_1 * s.get("m", 0.0) + (1 - beta_1) * g
    s["u"] = np.maximum(beta_2 * s.get("u", 0.0), np.abs(g))
    step = s["m"] / (1 - beta_1**t) / (s["u"] + epsilon)
    return _decayed(w, lr, decay, weight_decay) - lr * step


def adafactor(
    w,
    g,
    s,
    lr,
    t,
    decay=True,
    adapt=True,
    *,
    beta_2_decay=-0.8,
    epsilon_1=1e-30,
    epsilon_2=1e-3,
    clip_threshold=1.0,
    weight_decay=0.0,
    decays_first=True,
):
    """Shazeer and Stern 2018, Algorithms 4 and 5, rho_t = min(lr, t^-1/2).

    `decays_first`: the step is a multiple of the decayed weight's size.
    """
    beta = 1 - t**beta_2_decay
    square = g * g + epsilon_1
    if g.ndim > 1:
        s["r"] = beta * s.get("r", 0.0) + (1 - beta) * square.mean(-1)
        s["c"] = beta * s.get("c", 0.0) + (1 - beta) * square.mean(-2)
        v = s["r"][..., None] * s["c"][..., None, :]
        v = v / s["r"].mean(-1, keepdims=True)[..., None]
    else:
        v = s["v"] = beta * s.get("v", 0.0) + (1 - beta) * square
    u = g / np.sqrt(v)
    u = u / max(1.0, np.sqrt((u * u).mean()) / clip_threshold)
    kept = _decayed(w, lr, decay, weight_decay)
    sized = kept if decays_first else w
    size = max(epsilon_2, np.sqrt((sized * sized).mean()))
    return kept - size * min(lr, t**-0.5) * u


def ftrl(
    w,
    g,
    s,
    lr,
    t,
    decay=True,
    adapt=True,
    *,
    initial_accumulator_value=0.1,
    beta=0.0,
    weight_decay=0.0,
):
    """McMahan et al. 2013, Algorithm 1, without regularization."""
    w = _decayed(w, lr, decay, weight_decay)
    old = s.get("n", initial_accumulator_value)
    s["n"] = old + g * g
    sigma = (np.sqrt(s["n"]) - np.sqrt(old)) / lr
    s["z"] = s.get("z", 0.0) + g - sigma * w
    return -s["z"] / ((beta + np.sqrt(s["n"])) / lr)


def nadam(
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
    epsilon=1e-7,
    weight_decay=0.0,
    constant_average=False,
):
    """Dozat 2016, Algorithm 2, mu_t = beta_1 (1 - 0.96^t / 2).

    `constant_average`: the moment itself decays by beta_1.
    """
    mu = [beta_1 * (1 - 0.5 * 0.96**i) for i in range(1, t + 2)]
    own = beta_1 if constant_average else mu[-2]
    s["m"] = own * s.get("m", 0.0) + (1 - own) * g
    s["n"] = beta_2 * s.get("n", 0.0) + (1 - beta_2) * g * g
    mean = mu[-1] * s["m"] / (1 - np.prod(mu))
    mean = mean + (1 - mu[-2]) * g / (1 - np.prod(mu[:-1]))
    step = mean / (np.sqrt(s["n"] / (1 - beta_2**t)) + epsilon)
    return _decayed(w, lr, decay, weight_decay) - lr * step


def schedule_free_of_keras(
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
    aliased=False,
):
    """What keras.optimizers.ScheduleFreeAdamW computes, as it is written.

    The average has the weights 1 / t, decay acts on y alone; `aliased`: z is
    read after it has moved, so that x is taken from y by the new one.
    """
    z = s.get("z", w)
    w = _decayed(w, lr, decay, weight_decay)
    s["v"] = beta_2 * s.get("v", 0.0) + (1 - beta_2) * g * g
    new = z - lr * g / (np.sqrt(s["v"] / (1 - beta_2**t)) + epsilon)
    x = (w - (1 - beta_1) * (new if aliased else z)) / beta_1
    x = (1 - 1 / t) * x + new / t
    s["z"] = new
    return (1 - beta_1) * new + beta_1 * x
