"""Steps optimizers under tf.distribute strategies; run by distribution_test.

    python -m tests.optimizers.replica_worker --result_folder=FOLDER

Writes the weights after all updates of each optimizer, of one device and of two
replicas in each Keras; or of two workers, where TF_CONFIG names them.
"""

import json
import os
import tempfile

import numpy as np
import tensorflow as tf
from absl import app
from absl import flags

from lbcheck import optimizers
from tests.optimizers import trajectory

_OUTPUT = flags.DEFINE_string(
    "result_folder", None, "For KERAS.STRATEGY.npz.", required=True
)

SHAPES = ((300, 300), (4, 3), (5,), (3,))
CASES = {
    **{o.__name__: {"weight_decay": 0.1} for o in optimizers.ALL},
    "LAMB clipped": {"global_clipnorm": 0.5},
    "LAMB recorded": {"diagnostics_every": 2},
    "LARS": {"weight_decay": 0.1, "trust_coefficient": 1.0},
    "LAMB with": {"fallback": "Nesterov"},
    "AdamW accumulated": {"gradient_accumulation_steps": 2},
}
WORKERS = ("LAMB", "LAMB clipped", "LAMB recorded", "LARS")
"""What two workers step, of which each takes a processor."""
SHARES = (0.25, 0.75)


def step(strategy, library, name, settings):
    """Weights after 8 updates; each replica has its share of the gradient."""
    import keras

    import lbcheck

    weights, gradients, _ = trajectory.problem(
        8, 0.05, dtype=np.float32, shapes=SHAPES
    )
    with strategy.scope():
        if library == "keras3":
            variables = []
            for weight, path in zip(weights, trajectory.NAMES):
                layer, _, last = path.partition("/")
                with keras.name_scope(layer):
                    variables.append(keras.Variable(weight, name=last))
        else:
            variables = [
                tf.Variable(weight, name=path)
                for weight, path in zip(weights, trajectory.NAMES)
            ]
        module = getattr(lbcheck, library)
        if "fallback" in settings:
            fallback = getattr(module, settings["fallback"])(0.01)
            settings = {**settings, "fallback": fallback}
        optimizer = getattr(module, name)(0.05, **settings)
        optimizer.build(variables)
    replicas = strategy.num_replicas_in_sync

    @tf.function
    def update(values):
        def replica():
            context = tf.distribute.get_replica_context()
            share = tf.constant(1.0)
            if replicas == 2:
                number = context.replica_id_in_sync_group
                share = tf.gather(tf.constant(SHARES), number)
            optimizer.apply_gradients(
                [(share * g, v) for g, v in zip(values, variables)]
            )

        strategy.run(replica)

    for row in gradients:
        update([tf.constant(g) for g in row])
    last = [
        strategy.experimental_local_results(getattr(v, "value", v))[-1]
        if library == "keras3"
        else strategy.experimental_local_results(v)[-1]
        for v in variables
    ]
    result = [np.ravel(v.numpy()) for v in last]
    if optimizer.diagnostics_every:
        result.append(list(optimizer.trust_ratios().values()))
    return result


def fit(strategy, library):
    """Weights of a model after two epochs of `fit`."""
    import keras
    import tf_keras

    import lbcheck

    module = getattr(lbcheck, library)
    library = keras if library == "keras3" else tf_keras
    library.utils.set_random_seed(3)
    generator = np.random.default_rng(0)
    x = generator.normal(size=(64, 6)).astype("float32")
    y = (x[:, 0] > 0).astype("int64")
    with strategy.scope():
        model = library.Sequential(
            [
                library.layers.Input((6,)),
                library.layers.Dense(8, activation="relu"),
                library.layers.LayerNormalization(),
                library.layers.Dense(2),
            ]
        )
        model.compile(
            optimizer=module.LAMB(0.02, diagnostics_every=3),
            loss=library.losses.SparseCategoricalCrossentropy(True),
        )
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(16)
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = (
        tf.data.experimental.AutoShardPolicy.DATA
    )
    with tempfile.TemporaryDirectory() as folder:
        model.fit(
            data.with_options(options),
            epochs=2,
            verbose=0,
            callbacks=[module.DiagnosticsCallback(folder)],
        )
    return [np.ravel(weight) for weight in model.get_weights()]


def run(strategy, library, cases):
    """{case: weights after its updates}."""
    results = {}
    for case in cases:
        name, _, rest = case.partition(" ")
        if rest == "accumulated" and library == "tf_keras":
            continue
        if rest == "accumulated" and strategy.num_replicas_in_sync > 1:
            continue  # Keras itself cannot: merge_call inside a cond
        results[case] = step(strategy, library, name, CASES[case])
    return results | {"fit": fit(strategy, library)}


def write(results, library, strategy):
    arrays = {
        f"{case}/{number}": array
        for case, found in results.items()
        for number, array in enumerate(found)
    }
    np.savez(f"{_OUTPUT.value}/{library}.{strategy}.npz", **arrays)


def main(argv):
    del argv
    if "TF_CONFIG" in os.environ:
        workers = tf.distribute.MultiWorkerMirroredStrategy()
        results = run(workers, "tf_keras", WORKERS)
        if json.loads(os.environ["TF_CONFIG"])["task"]["index"] == 0:
            write(results, "tf_keras", "workers")
        return
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * 2,
    )
    strategies = {
        "one": tf.distribute.get_strategy(),
        "mirrored": tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]),
    }
    for name, strategy in strategies.items():
        for library in ("keras3", "tf_keras"):
            write(run(strategy, library, CASES), library, name)


if __name__ == "__main__":
    app.run(main)
