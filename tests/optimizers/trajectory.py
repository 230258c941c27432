"""Shared by the tests: a problem to step, and how far two runs are apart."""

import numpy as np

from lbcheck.conform.trajectory import distance  # noqa: F401 (for tests)
from lbcheck.conform.trajectory import run_reference

SHAPES = ((6, 5), (4, 3), (5,), (3,))
DECAY = (True, True, False, False)
ADAPTED = {"Muon": (True, False, False, False)}
"""{optimizer: what it adapts, where that is not what decays}: the last matrix
is taken for the output."""
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
    treatments = list(zip(decay, adapt))
    return run_reference(function, case, treatments, **settings)[-1]
