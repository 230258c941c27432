"""Steps every optimizer on a Keras 3 backend; run by backends_test.

    KERAS_BACKEND=jax python -m tests.optimizers.backend_worker OUTPUT.json

TensorFlow cannot be imported here, as on a machine that lacks it.
"""

import contextlib
import json
import logging
import sys

import numpy as np

import lbcheck
from lbcheck import optimizers
from tests.optimizers import trajectory

MORE = {
    "Nesterov": {"l2": 0.2},
    "LARS": {"diagnostics_every": 4},
    "LAMB": {"global_clipnorm": 1e6},
    "Adagrad": {"l2": 0.3},
}
CASES = {
    definition.__name__: {
        **definition.example,
        "weight_decay": 0.3,
        **MORE.get(definition.__name__, {}),
    }
    for definition in optimizers.ALL
}


@contextlib.contextmanager
def compiled():
    """The list of what jax compiles meanwhile; empty on torch."""
    said = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    jax = sys.modules.get("jax")
    logger = logging.getLogger("jax")
    with jax.log_compiles() if jax else contextlib.nullcontext():
        logger.addHandler(handler)
        yield said
        logger.removeHandler(handler)


def step(name, settings):
    """Weights after 40 updates under a changing rate, and what jax compiled
    for the last one."""
    import keras

    settings = dict(settings)
    peak = settings.pop("learning_rate")
    case = trajectory.problem(40, peak, dtype=np.float32)
    weights, gradients, rates = case
    variables = []
    for weight, path in zip(weights, trajectory.NAMES):
        layer, _, last = path.partition("/")
        with keras.name_scope(layer):
            variables.append(keras.Variable(weight, name=last))
    optimizer = getattr(lbcheck, name)(1.0, **settings)
    optimizer.build(variables)
    for row, rate in zip(gradients, rates, strict=True):
        optimizer.learning_rate = rate
        row = [keras.ops.convert_to_tensor(g) for g in row]
        with compiled() as again:
            optimizer.apply(row, variables)
    weights = [keras.ops.convert_to_numpy(v).tolist() for v in variables]
    return {"weights": weights, "compiled": again}


def fit(accumulate=None):
    """Losses before and after `fit`, and the trust ratios written."""
    import keras

    keras.utils.set_random_seed(0)
    generator = np.random.default_rng(0)
    x = generator.normal(size=(64, 6)).astype("float32")
    y = (x[:, 0] > 0).astype("int64")
    model = keras.Sequential(
        [
            keras.layers.Input((6,)),
            keras.layers.Dense(8, activation="relu"),
            keras.layers.LayerNormalization(),
            keras.layers.Dense(2),
        ]
    )
    schedule = keras.optimizers.schedules.PolynomialDecay(0.05, 30, 0.01)
    model.compile(
        optimizer=lbcheck.LAMB(
            schedule,
            diagnostics_every=2,
            gradient_accumulation_steps=accumulate,
        ),
        loss=keras.losses.SparseCategoricalCrossentropy(True),
    )
    before = float(model.evaluate(x, y, verbose=0))
    model.fit(x, y, batch_size=32, epochs=8, verbose=0)
    after = float(model.evaluate(x, y, verbose=0))
    return [before, after, sorted(model.optimizer.trust_ratios().values())]


def main():
    sys.modules["tensorflow"] = None
    results = {name: step(name, s) for name, s in CASES.items()}
    results["fit"] = fit()
    results["fit accumulated"] = fit(2)
    import keras

    results["backend"] = keras.backend.backend()
    with open(sys.argv[1], "w", encoding="utf-8") as file:
        json.dump(results, file)


if __name__ == "__main__":
    main()
