"""The noise scale of gradients whose mean and covariance are known."""

import math
import warnings

import numpy as np
import pytest
from scipy import stats

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
    assert inside >= 0.93
    assert np.median([one.high / one.low for one in found]) < 4


@pytest.mark.slow  # tens of thousands of intervals
@pytest.mark.parametrize("dimensions, least", [(1, 0.82), (10, 0.94)])
def test_the_interval_holds_as_often_as_the_page_says(dimensions, least):
    generator, draws = np.random.default_rng(4), 1_000
    held = []
    for microbatches, steps in ((3, 1), (3, 4), (8, 1), (8, 2), (16, 8)):
        for signal in (0.3, 1.0, 3.0):  # |G| over the noise of a microbatch
            mean = np.full(dimensions, signal / math.sqrt(dimensions))
            deviations = np.full(dimensions, math.sqrt(8 / dimensions))
            given = (mean, deviations, 8, microbatches, steps)
            found = [
                noise_scale.estimate(grams(generator, *given), 8)
                for _ in range(draws)
            ]
            ratio = 8 / signal**2
            held.append(np.mean([x.low <= ratio <= x.high for x in found]))
    assert min(held) == pytest.approx(least, abs=0.02)
    assert 0.96 < max(held) <= 1


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


def parts(gradients, size):
    """(|G|^2, tr(Sigma)) by mean and variance of the gradients themselves."""
    trace = size * np.sum(np.var(gradients, axis=0, ddof=1))
    mean = gradients.mean(axis=0)
    return np.array([mean @ mean - trace / size / len(gradients), trace])


@pytest.mark.parametrize("dimensions, microbatches", [(1, 3), (2, 4), (3, 8)])
def test_the_interval_is_the_hull_of_fiellers_set(dimensions, microbatches):
    """One step: every ratio above 0 that the t test does not exclude."""
    generator = np.random.default_rng(3)
    ratios = np.append(0.0, np.geomspace(1e-9, 1e12, 20_000))
    step = ratios[2] / ratios[1] * 1.001
    both = 0
    for _ in range(200):
        shape = (microbatches, dimensions)
        g = generator.normal(0.2, 0.35, size=shape)
        squared, trace = parts(g, 8)
        left = [parts(np.delete(g, i, 0), 8) for i in range(microbatches)]
        covariance = np.cov(np.transpose(left)) * (microbatches - 1) ** 2
        covariance /= microbatches
        sides = np.stack([-ratios, np.ones_like(ratios)])
        variance = np.einsum("ir,ij,jr->r", sides, covariance, sides)
        t = stats.t.ppf(0.975, microbatches - 1)
        held = (trace - ratios * squared) ** 2 <= t**2 * variance
        found = noise_scale.estimate([g @ g.T], 8)
        assert found.low <= found.value <= found.high
        if not held.any():  # all are below 0, with |G|^2
            assert squared < 0 and found[1:3] == (0.0, math.inf)
            continue
        low, high = ratios[held][[0, -1]]
        both += low == 0 and high == ratios[-1]
        assert low / step <= found.low <= low
        assert high <= found.high
        assert held[-1] == (found.high == math.inf) or squared < 0
        assert held[-1] or found.high <= high * step or squared < 0
    assert both > 5


def test_where_nothing_varies_there_is_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        still = noise_scale.estimate([np.zeros((4, 4))], 8)
        apart = noise_scale.estimate([np.eye(4)], 8)
    assert still[:3] == (math.inf, 0.0, math.inf)  # neither is seen
    assert apart[:3] == (math.inf, math.inf, math.inf)  # noise alone
    same = np.full((3, 3), 0.1) + np.diag([0.0, 0.0, -1e-17])
    found = noise_scale.estimate([same], 8)
    assert found[:2] == (0.0, 0.0) and found.high < 1e-12


def test_two_microbatches_have_no_interval():
    found = noise_scale.estimate([np.array([[2.0, 1.0], [1.0, 2.0]])], 4)
    assert found.value == 4.0 and found[1:3] == (0.0, math.inf)


@pytest.mark.parametrize(
    "matrices", [[], [np.ones((1, 1))], [np.ones((4, 3))], [np.float64(1.0)]]
)
def test_refused(matrices):
    with pytest.raises(ValueError, match="at least 2 microbatches"):
        noise_scale.estimate(matrices, 4)


@pytest.mark.parametrize("size", [0, 8.0, True, None])
def test_refused_sizes(size):
    with pytest.raises(ValueError, match="`microbatch_size` must be a whole"):
        noise_scale.estimate([np.eye(3)], size)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_gradients_that_are_not_finite_are_no_infinite_scale(value):
    bad = np.eye(3)
    bad[1, 2] = bad[2, 1] = value
    with pytest.raises(ValueError, match="finite gradients.* step 1: the mod"):
        noise_scale.estimate([np.eye(3), bad], 8)
