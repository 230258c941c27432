"""Models as users write them, for either Keras, with their data.

Each function takes a Keras module and returns (build_model, train,
validation), small enough to train in seconds.
"""

import numpy as np
import tensorflow as tf

_RNG = np.random.default_rng([2021, 5])
_X = _RNG.normal(size=(90, 6)).astype("float32")
_WORDS = _RNG.integers(0, 20, size=(90, 5)).astype("int32")
_Y = (np.abs(_X).sum(1) > 4.8).astype("int32") + (_X[:, 0] > 0)


def functional(keras):
    """Uncompiled, with dropout."""

    def build_model():
        inputs = keras.Input((6,))
        x = keras.layers.Dense(16, activation="relu")(inputs)
        x = keras.layers.Dropout(0.3)(x)
        return keras.Model(inputs, keras.layers.Dense(3)(x))

    return build_model, (_X[:70], _Y[:70]), (_X[70:], _Y[70:])


def subclassed(keras):
    """Builds its layers when it is first called."""

    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.hidden = keras.layers.Dense(16, activation="tanh")
            self.drop = keras.layers.Dropout(0.2)
            self.out = keras.layers.Dense(3)

        def call(self, x, training=False):
            return self.out(self.drop(self.hidden(x), training=training))

    return (
        lambda: _compiled(keras, Net()),
        (_X[:70], _Y[:70]),
        (_X[70:], _Y[70:]),
    )


def multi_input(keras):
    """Two inputs and two outputs by name, two losses, sample weights."""

    def build_model():
        left = keras.Input((6,), name="left")
        right = keras.Input((6,), name="right")
        x = keras.layers.Concatenate()([left, right])
        x = keras.layers.Dense(16, activation="relu")(x)
        kind = keras.layers.Dense(3, name="kind")(x)
        size = keras.layers.Dense(1, name="size")(x)
        model = keras.Model(
            {"left": left, "right": right}, {"kind": kind, "size": size}
        )
        model.compile(
            "adam",
            loss={
                "kind": cross_entropy(keras),
                "size": keras.losses.MeanSquaredError(),
            },
            loss_weights={"kind": 1.0, "size": 0.1},
            metrics={"kind": ["accuracy"], "size": ["mae"]},
        )
        return model

    def data(part):
        y = {"kind": _Y[part], "size": np.abs(_X[part]).sum(1, keepdims=True)}
        return {"left": _X[part], "right": _X[part] ** 2}, y

    return build_model, data(slice(70)), data(slice(70, None))


def embedding(keras):
    """Gradients that arrive as rows of a table."""

    def build_model():
        model = keras.Sequential(
            [
                keras.layers.Input((5,), dtype="int32"),
                keras.layers.Embedding(20, 8),
                keras.layers.GlobalAveragePooling1D(),
                keras.layers.Dense(3),
            ]
        )
        return _compiled(keras, model)

    return (
        build_model,
        (_WORDS[:70], _Y[:70]),
        (_WORDS[70:], _Y[70:]),
    )


def batch_norm(keras):
    """Statistics that move with training, and dropout."""

    def build_model():
        model = keras.Sequential(
            [
                keras.layers.Input((6,)),
                keras.layers.Dense(16, use_bias=False),
                keras.layers.BatchNormalization(momentum=0.9),
                keras.layers.ReLU(),
                keras.layers.Dropout(0.25),
                keras.layers.Dense(3),
            ]
        )
        return _compiled(keras, model)

    return (
        build_model,
        (_X[:70].astype("float64"), _Y[:70], np.linspace(0.5, 1.5, 70)),
        (_X[70:], _Y[70:]),
    )


def mixed_precision(keras, policy="mixed_float16"):
    """Float16 arithmetic; Keras scales the loss."""

    def build_model():
        keras.mixed_precision.set_global_policy(policy)
        model = keras.Sequential(
            [
                keras.layers.Input((6,)),
                keras.layers.Dense(16, activation="relu"),
                keras.layers.Dense(3),
                keras.layers.Activation("linear", dtype="float32"),
            ]
        )
        return _compiled(keras, model)

    return build_model, (_X[:70], _Y[:70]), (_X[70:], _Y[70:])


def own_train_step(keras):
    """A train_step and test_step of its own, with a variable of its own."""

    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.hidden = keras.layers.Dense(16, activation="relu")
            self.out = keras.layers.Dense(3)
            self.steps = tf.Variable(0.0, trainable=False)
            self.mean = keras.metrics.Mean(name="loss")

        @property
        def metrics(self):
            return [self.mean]

        def call(self, x):
            return self.out(self.hidden(x))

        def _loss(self, data):
            x, y = data
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
                labels=y, logits=self(x)
            )
            self.mean.update_state(losses)
            return tf.reduce_mean(losses)

        def train_step(self, data):
            x, y = data
            self.steps.assign_add(1.0)
            noise = tf.random.normal(tf.shape(x)) / self.steps
            with tf.GradientTape() as tape:
                loss = self._loss((x + 0.1 * noise, y))
            variables = self.trainable_variables
            gradients = tape.gradient(loss, variables)
            self.optimizer.apply_gradients(zip(gradients, variables))
            return {"loss": self.mean.result()}

        def test_step(self, data):
            self._loss(data)
            return {"loss": self.mean.result()}

    def build_model():
        model = Net()
        model.compile("sgd")
        return model

    return build_model, (_X[:70], _Y[:70]), (_X[70:], _Y[70:])


def streamed(keras):
    """tf.data, batched otherwise than the study's batch."""

    def dataset(part):
        return tf.data.Dataset.from_tensor_slices((_X[part], _Y[part])).batch(7)

    def build_model():
        model = keras.Sequential(
            [keras.layers.Dense(16, activation="relu"), keras.layers.Dense(3)]
        )
        return _compiled(keras, model)

    return build_model, dataset(slice(70)), dataset(slice(70, None))


EIGHT = (
    functional,
    subclassed,
    multi_input,
    embedding,
    batch_norm,
    mixed_precision,
    own_train_step,
    streamed,
)


def cross_entropy(keras):
    """Of logits and integer labels."""
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def _compiled(keras, model):
    model.compile("adam", cross_entropy(keras), metrics=["accuracy"])
    return model
