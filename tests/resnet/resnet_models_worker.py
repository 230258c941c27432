"""What needs a process of its own; run by the tests of the image models.

    KERAS_BACKEND=jax python -m tests.resnet.resnet_models_worker jax FOLDER
    python -m tests.resnet.resnet_models_worker replicas FOLDER

Both write results.npz. "jax" loads model.keras and trains the small ResNet
one step where TensorFlow cannot be imported; "replicas" calls ghost batch
norm on two replicas of tf_keras.
"""

import sys

import numpy as np

SETTINGS = {
    "image_shape": (8, 8, 1),
    "num_classes": 10,
    "seed": 7,
    "l2": 1e-3,
    "virtual_batch_size": 4,
    "final_gamma": 0.5,
}
RATE = 0.1


def batch():
    """12 small images and labels."""
    generator = np.random.default_rng(5)
    images = generator.uniform(size=(12, 8, 8, 1)).astype("float32")
    return images, np.arange(12, dtype="int32") % 10


def load(keras, path):
    """Logits of a saved model, in a process that has built none."""
    from resnet import models

    models.register(keras)
    return keras.models.load_model(path).predict(batch()[0], verbose=0)


def step(keras):
    """{name: weight} of the small ResNet, before and after one step."""
    from resnet import losses
    from resnet import models

    model = models.build("resnet_small", keras, **SETTINGS)
    images, labels = batch()
    results = {"logits": model.predict(images, verbose=0)}
    results |= _weights("before", model)
    model.compile(keras.optimizers.SGD(RATE), losses.cross_entropy(keras, 0.1))
    results["loss"] = model.train_on_batch(images, labels)
    return results | _weights("after", model)


def _weights(when, model):
    return {
        f"{when}/{layer.name}/{index}": weight
        for layer in model.layers
        for index, weight in enumerate(layer.get_weights())
    }


def two_replicas(values):
    """Outputs and moving statistics of two replicas, half of `values` each."""
    import tensorflow as tf
    import tf_keras

    from resnet import ghost_batch_norm

    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * 2,
    )
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        layer = ghost_batch_norm.of(tf_keras)(virtual_batch_size=None)
        layer.build(values.shape)
    halves = np.split(values, 2)

    def share(context):
        index = context.replica_id_in_sync_group
        return tf.constant(halves[index])

    inputs = strategy.experimental_distribute_values_from_function(share)
    outputs = strategy.run(
        tf.function(lambda x: layer(x, training=True)), (inputs,)
    )
    local = strategy.experimental_local_results
    return {
        "outputs": np.concatenate(local(outputs)),
        "replica_means": np.stack(local(layer.moving_mean)),
        "moving_mean": layer.moving_mean.numpy(),
        "moving_variance": layer.moving_variance.numpy(),
    }


def main():
    case, folder = sys.argv[1:]
    if case == "jax":
        sys.modules["tensorflow"] = None
        import keras

        assert keras.backend.backend() == "jax"
        results = {"loaded": load(keras, f"{folder}/model.keras")}
        results |= step(keras)
    else:
        generator = np.random.default_rng(1)
        values = generator.normal(size=(8, 3, 3, 2)).astype("float32")
        results = {"inputs": values} | two_replicas(values)
    np.savez(f"{folder}/results.npz", **results)


if __name__ == "__main__":
    main()
