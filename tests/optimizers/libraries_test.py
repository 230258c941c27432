"""Against the original libraries, on trajectories made here and recorded."""

import json
import unittest

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

import lbcheck
from lbcheck.conform import addons
from lbcheck.conform import libraries
from lbcheck.conform import run
from lbcheck.conform import trajectory as conform_trajectory
from tests.optimizers import trajectory
from tests.optimizers.optimizers_test import step_optimizer

CLOSE = 1e-5
STEPS = 40
HYPERPARAMETERS = {
    "Momentum": [
        {"momentum": 0.9, "nesterov": True, "weight_decay": 0.0, "l2": 0.0},
        {"momentum": 0.97, "nesterov": False, "weight_decay": 0.2, "l2": 0.0},
    ],
    "LARS": [
        {
            "momentum": 0.9,
            "weight_decay": 0.1,
            "trust_coefficient": 0.02,
            "epsilon": 0.0,
        },
        {
            "momentum": 0.8,
            "weight_decay": 0.0,
            "trust_coefficient": 0.01,
            "epsilon": 0.0,
            "nesterov": True,
        },
    ],
    "LAMB": [
        {
            "beta_1": 0.9,
            "beta_2": 0.999,
            "epsilon": 1e-6,
            "weight_decay": 0.1,
        },
        {"beta_1": 0.8, "beta_2": 0.95, "epsilon": 1e-3, "weight_decay": 0.5},
    ],
    "Adagrad": [
        {
            "initial_accumulator_value": 0.2,
            "epsilon": 1e-3,
            "weight_decay": 0.1,
        }
    ],
}
HYPERPARAMETERS["AdamW"] = HYPERPARAMETERS["LAMB"]
HYPERPARAMETERS["NAdamW"] = HYPERPARAMETERS["LAMB"]
HYPERPARAMETERS["ScheduleFreeAdamW"] = HYPERPARAMETERS["LAMB"]
HYPERPARAMETERS["Lion"] = [
    {"beta_1": 0.9, "beta_2": 0.99, "weight_decay": 0.1},
    {"beta_1": 0.7, "beta_2": 0.95, "weight_decay": 0.5},
]
HYPERPARAMETERS["AdEMAMix"] = [
    {**HYPERPARAMETERS["LAMB"][0], "beta_3": 0.99, "alpha": 3.0},
    {
        **HYPERPARAMETERS["LAMB"][1],
        "beta_3": 0.98,
        "alpha": 5.0,
        "slow_warmup_steps": 30,
    },
]
HYPERPARAMETERS["Muon"] = [
    {"momentum": 0.95, "weight_decay": 0.1},
    {"momentum": 0.8, "weight_decay": 0.5},
]
PEAK = dict.fromkeys(HYPERPARAMETERS, 0.1)
PEAK |= {"Momentum": 0.1, "LARS": 5.0, "Adagrad": 1.0}


def as_arguments(rule, name, hyper):
    """The settings in this optimizer's words; optax's SGD decays as L2."""
    hyper = dict(hyper)
    if name == "optax sgd":
        hyper["l2"], hyper["weight_decay"] = hyper["weight_decay"], 0.0
    return hyper


class LibrariesTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.product(
        library=sorted(libraries.LIBRARIES),
        variant=[0, 1],
        kind=["keras3", "tf_keras"],
    )
    def test_dialect_is_the_library(self, library, variant, kind):
        rule, dialect, make = libraries.LIBRARIES[library]
        variants = HYPERPARAMETERS[rule]
        hyper = as_arguments(rule, library, variants[variant % len(variants)])
        case = trajectory.problem(
            STEPS, PEAK[rule], seed=variant + 5, dtype=np.float32
        )
        adapt = run.adapted(rule, dialect)
        theirs = make()(*case, hyper, trajectory.DECAY, adapt)[-1]
        optimizer = getattr(getattr(lbcheck, kind), rule)(
            1.0, dialect=dialect, **hyper, **run.selection(rule, dialect)
        )
        ours = step_optimizer(kind, optimizer, case)
        self.assertLess(trajectory.distance(ours, theirs, case[0]), CLOSE)

    @parameterized.parameters(0, 1)
    def test_momentum_normalised_lars_is_model_gardens(self, variant):
        hyper = HYPERPARAMETERS["LARS"][variant]
        case = trajectory.problem(STEPS, 5.0, seed=3, dtype=np.float32)
        theirs = libraries.garden_lars_popular()(
            *case, hyper, trajectory.DECAY, trajectory.DECAY
        )[-1]
        optimizer = lbcheck.LARS(
            1.0,
            dialect="model_garden",
            normalize="momentum",
            rate_in_buffer=False,
            **hyper,
        )
        ours = step_optimizer("keras3", optimizer, case)
        self.assertLess(trajectory.distance(ours, theirs, case[0]), CLOSE)

    @parameterized.product(case=[0, 1, 2], kind=["keras3", "tf_keras"])
    def test_tensorflow_addons_as_recorded(self, case, kind):
        recorded, decay, hyper = libraries.recorded_addons(case)
        start, gradients, rates, theirs = recorded
        names = ["kernel", "other", "bias", "gamma"]
        # As addons.CASES has them: None copies the list of the decay.
        adapt_out = addons.CASES[case].get("adapt_out")
        optimizer = getattr(lbcheck, kind).LAMB(
            1.0,
            dialect="tfa",
            exclude_from_weight_decay=[
                name for name, decays in zip(names, decay) if not decays
            ],
            exclude_from_layer_adaptation=(
                "same"
                if adapt_out is None
                else [name for name in adapt_out if name in names]
            ),
            **hyper,
        )
        ours = step_optimizer(kind, optimizer, (start, gradients, rates), names)
        self.assertLess(trajectory.distance(ours, theirs[-1], start), CLOSE)

    def test_a_weight_that_is_no_number_is_infinitely_far(self):
        start = [np.zeros(2), np.zeros(1)]
        exact = [np.ones(2), np.ones(1)]
        for lost in range(2):
            found = [weight.copy() for weight in exact]
            found[lost][0] = np.nan
            far = conform_trajectory.distance(found, exact, start)
            self.assertEqual(far, np.inf)
            rows = [("LAMB", "paper", "lbcheck", (1e-7, far))]
            run.FLAGS(["conform"])
            described = run._described(rows, float(far))
            json.dumps(described, allow_nan=False)
            self.assertFalse(described["within"])

    def test_keras_lamb_is_not_the_papers(self):
        """What a user would not see without a dialect."""
        case = trajectory.problem(STEPS, 0.1, dtype=np.float32)
        hyper = HYPERPARAMETERS["LAMB"][0]
        theirs = libraries.keras_lamb()(
            *case, hyper, trajectory.DECAY, trajectory.DECAY
        )[-1]
        ours = step_optimizer("keras3", lbcheck.LAMB(1.0, **hyper), case)
        self.assertGreater(trajectory.distance(ours, theirs, case[0]), 1e-2)


if __name__ == "__main__":
    unittest.main()
