"""Shared by the tests: a problem to step, and how far two runs are apart."""

import numpy as np

SHAPES = ((6, 5), (4, 3), (5,), (3,))
DECAY = (True, True, False, False)
NAMES = ("a/kernel", "b/kernel", "a/bias", "norm/gamma")


def problem(steps, peak, seed=0, dtype=np.float64, shapes=SHAPES):
    """Weights of four norms, gradients that turn, a rate that changes."""
    generator = np.random.default_rng(seed)
    weights = [
        (generator.normal(size=shape) * 4.0**-k).astype(dtype)
        for k, shape in enumerate(shapes)
    ]
    drift = [generator.normal(size=shape) for shape in shapes]
    gradients = [
        [
            (
                (0.3 * d * np.cos(0.2 * step) + generator.normal(size=d.shape))
                * 10.0 ** (k - 2)
            ).astype(dtype)
            for k, d in enumerate(drift)
        ]
        for step in range(steps)
    ]
    rates = [
        float(peak * (0.5 + 0.4 * np.sin(1.0 + 0.3 * step)))
        for step in range(steps)
    ]
    return weights, gradients, rates


def step_reference(function, case, decay=DECAY, adapt=DECAY, **settings):
    """Weights after all updates by one of `lbcheck.conform.reference`."""
    weights, gradients, rates = case
    current = [np.float64(weight) for weight in weights]
    states = [{} for _ in weights]
    for step, rate in enumerate(rates):
        current = [
            function(
                weight,
                np.float64(gradient),
                state,
                rate,
                step + 1,
                decays,
                adapts,
                **settings,
            )
            for weight, gradient, state, decays, adapts in zip(
                current, gradients[step], states, decay, adapt
            )
        ]
    return current


def distance(weights, exact, start):
    """Largest difference over all variables, relative to the movement."""
    return max(
        np.abs(np.float64(a) - b).max() / np.abs(b - np.float64(c)).max()
        for a, b, c in zip(weights, exact, start)
    )
