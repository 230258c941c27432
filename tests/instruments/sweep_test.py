"""Knees of curves: of formulas, and of a noisy quadratic that is trained."""

import math

import numpy as np
import pytest

from lbcheck.instruments import sweep


def points(steps):
    return [sweep.Point(b, s, {}, 1, 1) for b, s in steps.items()]


class NoisyQuadratic:
    """SGD on 1/2 sum h x^2 with gradients h x + sigma sqrt(h / B) z.

    Its expected loss has a closed form, and with it the fewest steps over
    all rates; the critical batch size is where these are twice the line of
    perfect scaling, which is that of tiny batches.
    """

    def __init__(self, dimensions, power, sigma, part):
        self.h = np.arange(1.0, dimensions + 1) ** -power
        self.variance = sigma**2 * self.h
        self.target = part * 0.5 * self.h.sum()
        self.largest = 1.99 / self.h.max()

    def fewest_steps(self, batch):
        """By bisection over real steps, for all rates at once."""
        rates = self.largest * np.exp2(-np.linspace(0, 20, 400))[:, None]
        keep = (1 - rates * self.h) ** 2
        floor = rates**2 * self.variance / batch / (1 - keep)
        usable = 0.5 * (self.h * floor).sum(axis=1) < self.target
        keep, floor = keep[usable], floor[usable]
        low, high = np.zeros(len(keep)), np.full(len(keep), 2.0**32)
        for _ in range(40):
            middle = (low + high) / 2
            power = keep ** middle[:, None]
            loss = 0.5 * (self.h * (power + (1 - power) * floor)).sum(axis=1)
            above = loss > self.target
            low = np.where(above, middle, low)
            high = np.where(above, high, middle)
        return high.min()

    def knee(self):
        sizes = np.exp2(np.arange(-6, 14, 0.5))
        examples = np.array([b * self.fewest_steps(b) for b in sizes])
        ratios = np.log2(examples / examples[0])
        return float(np.exp2(np.interp(1.0, ratios, np.log2(sizes))))

    def run(self, batch, steps, rates, generator):
        """(step, loss) at 20 evaluations of a run for each rate."""
        x = np.ones((len(rates), len(self.h)))
        spread = np.sqrt(self.variance / batch)
        at = {steps * (i + 1) // 20 for i in range(20)}
        found = []
        for step in range(1, steps + 1):
            noise = spread * generator.standard_normal(x.shape)
            x = x - rates[:, None] * (self.h * x + noise)
            if step in at:
                found.append((step, 0.5 * (self.h * x**2).sum(axis=1)))
        return [
            [(step, losses[i]) for step, losses in found]
            for i in range(len(rates))
        ]


@pytest.mark.parametrize(
    "dimensions, power, sigma, part",
    [(60, 1.0, 1.0, 0.03), (60, 1.0, 0.3, 0.02), (80, 0.5, 3.0, 0.04)],
)
def test_the_knee_of_a_noisy_quadratic(dimensions, power, sigma, part):
    """Within an octave, of a sweep that is tuned anew at each batch."""
    problem = NoisyQuadratic(dimensions, power, sigma, part)
    known = problem.knee()
    middle = round(math.log2(known))
    for draw in range(2):
        generator = np.random.default_rng(draw)
        runs = []
        for exponent in range(max(0, middle - 4), middle + 5):
            batch = 2**exponent
            steps = math.ceil(3 * problem.fewest_steps(batch))
            rates = problem.largest * np.exp2(-8 * generator.random(16))
            runs += [
                sweep.Run(
                    batch,
                    sweep.steps_to_target(curve, problem.target, "min"),
                    {"learning_rate": rate},
                )
                for curve, rate in zip(
                    problem.run(batch, steps, rates, generator), rates
                )
            ]
        curve = sweep.fit(sweep.best(runs))
        assert known / 2 <= curve.knee <= known * 2
        assert curve.low < curve.knee < curve.high < 16 * curve.low
        assert curve.place(known / 16) == "inside"
        assert curve.place(known * 16) == "beyond"


def test_the_interval_holds_the_knee_that_made_the_curve():
    """95 % of it, of curves with 10 % of noise."""
    generator = np.random.default_rng(0)
    inside = []
    for _ in range(300):
        knee = 2 ** generator.uniform(4, 9)
        curve = sweep.fit(
            points(
                {
                    2**k: 50
                    * (1 + knee / 2**k)
                    * math.exp(0.1 * generator.standard_normal())
                    for k in range(2, 12)
                }
            )
        )
        inside.append(curve.low <= knee <= curve.high)
    assert 0.91 <= np.mean(inside) <= 0.99


def test_a_sweep_that_ends_before_the_knee():
    curve = sweep.fit(points({8: 1000, 16: 500, 32: 250, 64: 125}))
    assert curve.knee == curve.high == math.inf
    assert curve.examples == pytest.approx(8000)
    assert curve.steps(16) == pytest.approx(500)
    assert curve.place(64) == "inside" and 64 < curve.low < math.inf


def test_a_sweep_that_begins_after_it():
    curve = sweep.fit(points({8: 100, 16: 100, 32: 101, 64: 100}))
    assert curve.low == 0 and curve.place(64) == "beyond"
    assert curve.steps(8) == pytest.approx(100, rel=0.05)
    flat = sweep.fit(points({8: 50, 16: 50, 32: 50}))
    assert flat.low == flat.knee == 0 < flat.high < 8


def test_its_line_is_that_of_the_small_batches():
    curve = sweep.fit(points({b: 10 + 2560 / b for b in (8, 32, 128, 512)}))
    assert curve.examples == pytest.approx(2560, rel=0.02)
    assert curve.least_steps == pytest.approx(10, rel=0.02)
    assert curve.steps(1024) == pytest.approx(12.5, rel=0.02)


def test_a_target_that_is_touched_is_not_reached():
    touched = [(10, 0.9), (20, 0.4), (30, 0.9), (40, 0.45), (50, 0.3)]
    assert sweep.steps_to_target(touched, 0.5, "min") == pytest.approx(
        30 + 10 * 0.4 / 0.45
    )
    assert sweep.steps_to_target(touched[:3], 0.5, "min") is None
    assert sweep.steps_to_target([(10, 0.2), (20, 0.1)], 0.5, "min") == 10.0
    assert sweep.steps_to_target([(10, None), (20, 0.1)], 0.5, "min") == 20.0
    assert sweep.steps_to_target([], 0.5, "min") is None


def test_the_best_is_of_those_that_reached_the_target():
    runs = [
        sweep.Run(8, 40.0, {"rate": 1}, 5),
        sweep.Run(4, None, {"rate": 2}, 6),
        sweep.Run(8, 30.0, {"rate": 3}, 7, True),
        sweep.Run(8, None, {"rate": 4}, 8),
    ]
    assert sweep.best(runs) == [
        sweep.Point(4, None, None, 1, 0),
        sweep.Point(8, 30.0, {"rate": 3}, 3, 2, 7, True),
    ]
    with pytest.raises(ValueError, match="received 0 of 2"):
        sweep.fit(sweep.best(runs))


def test_the_grid_of_evaluations_is_not_fitted():
    """Runs of 6400 examples that have the target at their first evaluation
    seem to scale perfectly."""
    steps = {b: 10 + 2560 / b for b in (8, 32, 128, 512)}
    at_first = [
        sweep.Point(b, 6400 / b / 20, {}, 1, 1, at_first=True)
        for b in (16, 64, 256)
    ]
    assert sweep.fit(points(steps) + at_first) == sweep.fit(points(steps))
