"""The noise scale of gradients whose mean and covariance are known."""

import math

import numpy as np
import pytest

from lbcheck.instruments import noise_scale


def grams(generator, mean, deviations, size, microbatches, steps):
    """Of gradients of one example that are normal with these parameters."""
    shape = (steps, microbatches, len(mean))
    spread = deviations / math.sqrt(size)
    gradients = mean + spread * generator.standard_normal(shape)
    return [g @ g.T for g in gradients]


def test_both_parts_are_unbiased_and_the_interval_holds_the_ratio():
    generator = np.random.default_rng(0)
    mean = generator.normal(size=50) / 10
    deviations = generator.uniform(0.5, 2, size=50)
    squared, trace = mean @ mean, np.sum(deviations**2)
    found = [
        noise_scale.estimate(grams(generator, mean, deviations, 16, 12, 4), 16)
        for _ in range(400)
    ]
    for name, known in (("squared_norm", squared), ("trace", trace)):
        values = np.array([getattr(one, name) for one in found])
        error = values.std() / math.sqrt(len(values))
        assert abs(values.mean() - known) < 3 * error
        assert error < 0.02 * known
    ratio = trace / squared
    inside = np.mean([one.low <= ratio <= one.high for one in found])
    assert inside >= 0.93  # the jackknife errs on the wide side
    assert np.median([one.high / one.low for one in found]) < 4


def test_they_are_those_of_two_batch_sizes():
    """McCandlish et al. 2018, Equations A.2 and A.3, of norms alone."""
    generator = np.random.default_rng(1)
    gradients = generator.normal(1, 1, size=(8, 30))
    small, big = 4, 32
    norm_small = np.mean(np.sum(gradients**2, axis=1))
    norm_big = np.sum(gradients.mean(axis=0) ** 2)
    squared = (big * norm_big - small * norm_small) / (big - small)
    trace = (norm_small - norm_big) / (1 / small - 1 / big)
    found = noise_scale.estimate([gradients @ gradients.T], small)
    assert found.squared_norm == pytest.approx(squared, rel=1e-12)
    assert found.trace == pytest.approx(trace, rel=1e-12)
    assert found.value == pytest.approx(trace / squared, rel=1e-12)


def test_where_noise_hides_the_gradient_the_interval_is_open():
    generator = np.random.default_rng(2)
    still = np.zeros(20)
    found = [
        noise_scale.estimate(grams(generator, still, np.ones(20), 4, 8, 2), 4)
        for _ in range(100)
    ]
    assert np.mean([one.high == math.inf for one in found]) >= 0.9
    exact = noise_scale.estimate([np.full((3, 3), 2.0)], 4)
    assert exact[:3] == (0.0, 0.0, 0.0)


def test_two_microbatches_have_no_interval():
    found = noise_scale.estimate([np.array([[2.0, 1.0], [1.0, 2.0]])], 4)
    assert found.value == 4.0 and found[1:3] == (0.0, math.inf)


@pytest.mark.parametrize("matrices", [[], [np.ones((1, 1))]])
def test_refused(matrices):
    with pytest.raises(ValueError, match="at least 2 microbatches"):
        noise_scale.estimate(matrices, 4)
