"""Records tensorflow-addons LAMB trajectories as JSON (`make oracles`).

Runs alone, in an environment with tensorflow-cpu 2.15.1 and
tensorflow-addons 0.23.0, which do not import beside TensorFlow 2.20:

    python lbcheck/conform/addons.py --output=FILE
"""

import json

import numpy as np
from absl import app
from absl import flags

_OUTPUT = flags.DEFINE_string("output", None, "JSON file to write.")

SHAPES = {"kernel": (6, 5), "other": (4, 3), "bias": (5,), "gamma": (3,)}
STEPS = 40
CASES = (
    {"weight_decay": 0.01, "decay_out": ["bias", "gamma"]},
    {
        "weight_decay": 0.1,
        "beta_1": 0.95,
        "beta_2": 0.98,
        "epsilon": 1e-4,
        "decay_out": ["bias"],
        "adapt_out": ["gamma", "bias"],
    },
    {"weight_decay": 0.0, "decay_out": ["bias"], "adapt_out": ["nothing"]},
)


def rounded(array):
    """float32 values as short exact decimals."""
    return [float(f"{x:.9g}") for x in np.ravel(array)]


def record(index, case):
    """One trajectory: weights after every update."""
    import tensorflow as tf
    import tensorflow_addons as tfa

    generator = np.random.default_rng(index)
    variables = {
        name: tf.Variable(
            (generator.normal(size=shape) * 10.0**-k).astype("float32"),
            name=name,
        )
        for k, (name, shape) in enumerate(SHAPES.items())
    }
    optimizer = tfa.optimizers.LAMB(
        learning_rate=0.1,
        beta_1=case.get("beta_1", 0.9),
        beta_2=case.get("beta_2", 0.999),
        epsilon=case.get("epsilon", 1e-6),
        weight_decay=case["weight_decay"],
        exclude_from_weight_decay=case["decay_out"],
        exclude_from_layer_adaptation=case.get("adapt_out"),
    )
    start = {name: rounded(v.numpy()) for name, v in variables.items()}
    steps = []
    for step in range(STEPS):
        optimizer.learning_rate = rate = 0.02 * (1 + step) / STEPS
        gradients = {
            name: generator.normal(size=v.shape).astype("float32")
            for name, v in variables.items()
        }
        optimizer.apply_gradients(
            [(tf.constant(gradients[name]), v) for name, v in variables.items()]
        )
        steps.append(
            {
                "rate": rate,
                "gradients": {n: rounded(g) for n, g in gradients.items()},
                "weights": {n: rounded(v) for n, v in variables.items()},
            }
        )
    return {**case, "start": start, "steps": steps}


def main(argv):
    """Writes all cases as JSON."""
    if len(argv) > 1 or not _OUTPUT.value:
        raise app.UsageError("give --output=FILE and nothing else")
    import tensorflow as tf
    import tensorflow_addons as tfa

    recorded = {
        "tensorflow": tf.__version__,
        "tensorflow_addons": tfa.__version__,
        "shapes": SHAPES,
        "cases": [record(i, case) for i, case in enumerate(CASES)],
    }
    with open(_OUTPUT.value, "w", encoding="utf-8") as file:
        json.dump(recorded, file)
        file.write("\n")


if __name__ == "__main__":
    app.run(main)
