"""A workload whose trials are milliseconds: linear regression."""

import numpy as np

import lbcheck


def linear(batch_size=32, steps=10, own_step=False):
    import keras

    class Own(keras.Sequential):
        def train_step(self, data):
            return super().train_step(data)

    generator = np.random.default_rng(0)
    x = generator.normal(size=(512, 4)).astype("float32")
    y = x @ np.arange(1.0, 5.0, dtype="float32")[:, None]
    y += generator.normal(size=y.shape).astype("float32") / 4

    def build_model():
        model = (Own if own_step else keras.Sequential)(
            [keras.layers.Input((4,)), keras.layers.Dense(1)]
        )
        model.compile("sgd", loss="mse")
        return model

    return lbcheck.Workload(
        build_model, (x, y), (x[:64], y[:64]), batch_size, steps
    )
