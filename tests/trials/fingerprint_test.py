"""The fingerprint: an edited study is noticed, the same one is not refused."""

import functools
import importlib
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from lbcheck import Arm
from lbcheck import Workload
from lbcheck.trials import code
from lbcheck.trials import fingerprint
from lbcheck.trials import fingerprint_difference
from lbcheck.trials import trainer

GENERATOR = np.random.default_rng(3)
X = GENERATOR.normal(size=(96, 5)).astype("float32")
Y = (X.sum(axis=1) > 0).astype("int32")
RATE = {"learning_rate": {"min": 0.001, "max": 0.1, "scale": "log"}}


class Penalized(keras.Model):
    """A train_step of its own, whose penalty shows in the update only."""

    def __init__(self, penalty):
        super().__init__()
        self.dense = keras.layers.Dense(2)
        self.penalty = penalty

    def call(self, x):
        return self.dense(x)

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x, y, self(x, training=True))
        variables = self.trainable_variables
        gradients = tape.gradient(loss, variables)
        gradients = [g + self.penalty * v for g, v in zip(gradients, variables)]
        self.optimizer.apply(gradients, variables)
        return {"loss": loss}


def dense_model(
    kind=keras,
    activation="relu",
    dropout=0.0,
    from_logits=True,
    smoothing=0.0,
    initializer="glorot_uniform",
    seed=None,
    norm=False,
):
    layers = [
        kind.layers.Input((5,)),
        kind.layers.Dense(
            8, activation=activation, kernel_initializer=initializer
        ),
        kind.layers.Dropout(dropout, seed=seed),
        *([kind.layers.LayerNormalization()] if norm else []),
        kind.layers.Dense(2),
    ]
    model = kind.Sequential(layers)
    if smoothing:
        loss = functools.partial(smoothed, smoothing)
    else:
        loss = kind.losses.SparseCategoricalCrossentropy(from_logits)
    model.compile(loss=loss, metrics=["accuracy"])
    return model


def smoothed(smoothing, y, logits):
    targets = tf.one_hot(tf.cast(tf.reshape(y, [-1]), tf.int32), 2)
    targets = targets * (1 - smoothing) + smoothing / 2
    return tf.keras.losses.categorical_crossentropy(
        targets, logits, from_logits=True
    )


class WholeOnly(keras.layers.Layer):
    """Scales; trains on multiples of `multiple` examples, as ghost batches."""

    def __init__(self, factor=1.0, multiple=16):
        super().__init__()
        self.factor = factor
        self.multiple = multiple

    def call(self, x, training=None):
        if training and x.shape[0] % self.multiple:
            raise ValueError(f"{x.shape[0]} examples are no whole batches")
        return self.factor * x


def whole_only_model(**settings):
    layers = [keras.Input((5,)), WholeOnly(**settings), keras.layers.Dense(3)]
    model = keras.Sequential(layers)
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(True))
    return model


def penalized_model(penalty=0.0):
    model = Penalized(penalty)
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(True))
    return model


def stream(scale=1.0, count=96, shuffled=False, labels=0):
    data = tf.data.Dataset.from_tensor_slices((X[:count], Y[:count] ^ labels))
    data = data.map(lambda x, y: (x * scale, y))
    if shuffled:
        data = data.shuffle(count).map(lambda x, y: (x + noise(), y))
    return data.batch(16)


def noise():
    return tf.random.normal((5,), stddev=0.1)


def taken(
    build=dense_model, train=(X, Y), validation=(X[:48], Y[:48]), arms=None
):
    workload = Workload(
        build, train, validation, 16, 4, metric="loss", mode="min"
    )
    arms = arms or [Arm("adamw", "adamw", RATE)]
    found = trainer.Trainer(workload, {arm.name: arm for arm in arms})
    return fingerprint.of(found, seed=5)


def between(one, other):
    return fingerprint_difference.difference(one, other)


@pytest.mark.parametrize("kind", [keras, tf_keras])
@pytest.mark.parametrize(
    "edit, expected",
    [
        ({"activation": "tanh"}, "'dense' (Dense) has another configuration"),
        ({"dropout": 0.25}, "'dropout' (Dropout) has another"),
        ({"initializer": "he_normal"}, "'dense' (Dense) has another"),
        ({"norm": True}, "(LayerNormalization) is only here"),
        ({"from_logits": False}, "loss of the new model on one batch is"),
        ({"smoothing": 0.1}, "loss of the new model on one batch is"),
    ],
)
def test_an_edited_model_is_noticed(kind, edit, expected):
    before = taken(lambda: dense_model(kind))
    after = taken(lambda: dense_model(kind, **edit))
    assert expected in between(before, after)


@pytest.mark.parametrize("held_out", [(X[:9], Y[:9]), stream(count=9)])
def test_a_model_that_trains_on_whole_batches_only(held_out):
    """Nine held-out examples are repeated; an edit is noticed all the same."""

    def seen(**settings):
        build = functools.partial(whole_only_model, **settings)
        return taken(build, validation=held_out)

    one = seen()
    values = [value for values in one["numbers"].values() for value in values]
    assert values and None not in values
    assert between(one, seen()) is None
    assert "loss of the new model on one batch is" in between(
        one, seen(factor=1.1)
    )
    with pytest.raises(ValueError, match="16 examples are no whole batches"):
        seen(multiple=32)


def test_an_edited_train_step_is_noticed():
    before, same, after = (
        taken(lambda p=p: penalized_model(p)) for p in (0.0, 0.0, 0.3)
    )
    assert between(before, same) is None
    assert "loss after one update" in between(before, after)


@pytest.mark.parametrize("part", ["train", "validation"])
@pytest.mark.parametrize(
    "edit, expected",
    [
        ({"scale": 1.01}, "the first batch of the {} data is another"),
        ({"labels": 1}, "the first batch of the {} data is another"),
        ({"count": 80}, "the last batch of the {} data is another"),
        ({"shuffled": True}, "the {} data are of another kind or order"),
    ],
)
def test_an_edited_stream_is_noticed(part, edit, expected):
    before = taken(**{part: stream()})
    assert between(before, taken(**{part: stream()})) is None
    after = taken(**{part: stream(**edit)})
    assert expected.format(part) in between(before, after)


@pytest.mark.parametrize("part", ["train", "validation"])
def test_a_random_stream_is_compared_by_its_statistics(part):
    before = taken(**{part: stream(shuffled=True)})
    for _ in range(3):
        again = taken(**{part: stream(shuffled=True)})
        assert between(before, again) is None
    after = taken(**{part: stream(scale=3.0, shuffled=True)})
    assert "deviation" in between(before, after)


def test_other_arrays_are_noticed():
    changed = X.copy()
    changed[70, 2] += 1e-3
    assert "train arrays hold other" in between(
        taken(), taken(train=(changed, Y))
    )


@pytest.mark.parametrize("kind", [keras, tf_keras])
def test_the_same_study_is_the_same(kind):
    def build():
        return dense_model(kind, dropout=0.3, norm=True)

    before = taken(build)
    np.random.seed(9)
    keras.utils.set_random_seed(4)
    build()
    assert taken(build) == before


def test_lambda_layers_are_compared_by_their_code():
    def build(function):
        model = keras.Sequential(
            [
                keras.layers.Input((5,)),
                keras.layers.Lambda(function),
                keras.layers.Dense(2),
            ]
        )
        model.compile(loss=keras.losses.SparseCategoricalCrossentropy(True))
        return model

    before = taken(lambda: build(lambda x: x * 2.0))
    # The same on another line.
    assert between(before, taken(lambda: build(lambda x: x * 2.0))) is None
    after = taken(lambda: build(lambda x: x * 2.5))
    assert "(Lambda) has another configuration" in between(before, after)


def own_arm(decay):
    scale = 1.0

    class Own(keras.optimizers.SGD):
        def update_step(self, gradient, variable, learning_rate):
            variable.assign_sub(decay * scale * variable)
            super().update_step(gradient, variable, learning_rate)

    return Arm("own", Own, RATE)


def test_an_edited_optimizer_is_noticed():
    before, same, after = (taken(arms=[own_arm(d)]) for d in (0.1, 0.1, 0.2))
    assert between(before, same) is None
    assert between(before, after).startswith("the code of arm own was edited")


def test_a_study_of_an_older_version_is_not_gone_on_with():
    assert "kept no fingerprint" in between(None, taken())


MODULE = '''
import functools
STRENGTH = {strength}
def helper(x):
    return x * STRENGTH
def named(x, scale=1.0):
    """{words}"""
    # {words}
    return [helper(y) * scale for y in x]
class Base:
    def step(self): return {step}
class Derived(Base):
    def go(self): return self.step()
part = functools.partial(named, scale={scale})
'''


def load(**values):
    values = {"strength": 1, "words": "a", "step": 2, "scale": 3} | values
    scope = {"__name__": "users_module"}
    exec(textwrap.dedent(MODULE.format(**values)), scope)
    return scope


@pytest.mark.parametrize(
    "edit, noticed",
    [
        ({"words": "b"}, set()),
        ({"strength": 1.5}, {"named", "part"}),
        ({"step": 7}, {"Derived"}),
        ({"scale": 0.5}, {"part"}),
    ],
)
def test_code_is_seen_through_what_it_refers_to(edit, noticed):
    before, after = load(), load(**edit)
    changed = {
        name
        for name in ("named", "Derived", "part")
        if code.digest(before[name]) != code.digest(after[name])
    }
    assert changed == noticed


class Factory:
    """A factory of optimizers with a state that it reads, and another."""

    def __init__(self, momentum):
        self.momentum = momentum
        self.calls = []

    def __call__(self, learning_rate):
        self.calls.append(learning_rate)
        return self.made(learning_rate)

    def made(self, learning_rate):
        return keras.optimizers.SGD(learning_rate, self.momentum)


def test_an_object_counts_by_what_its_method_reads():
    before, after = Factory(0.9), Factory(0.0)
    for method in ("__call__", "made"):
        one, other = (getattr(f, method) for f in (before, after))
        assert code.digest(one) != code.digest(other)
        assert code.digest(one) == code.digest(getattr(Factory(0.9), method))
    assert code.digest(before) != code.digest(after)
    assert code.digest(before) == code.digest(Factory(0.9))
    # What only other methods read may change.
    one = code.digest(before.made)
    before.made(0.1)
    before.calls.append(0.1)
    assert code.digest(before.made) == one


def test_what_may_change_between_two_calls_is_no_edit():
    built, metrics = [], 0.5

    def build():
        built.append(1)
        keras.metrics.AUC()
        return dense_model()

    one = code.digest(build, data=False)
    assert taken(build)["code"] == taken(build)["code"]
    build.__globals__["metrics"] = metrics  # a name of an attribute only
    try:
        assert code.digest(build, data=False) == one
    finally:
        del build.__globals__["metrics"]


def test_no_address_is_digested():
    program = (
        "import numpy as np; from lbcheck.trials import code\n"
        "words = np.array(['a', 'b', None], dtype=object)\n"
        "def helper(): pass\n"
        "def own(x={helper: 1, 'a': 2}, y={helper, 'b'}): return words\n"
        "own.__module__ = 'own'\n"
        "print(code.digest(own))"
    )
    command = [sys.executable, "-c", program]
    found = {
        subprocess.run(
            command, check=True, capture_output=True, text=True
        ).stdout
        for _ in range(3)
    }
    assert len(found) == 1, found
    assert code.digest(np.arange(3)) != code.digest(np.arange(3.0))


def test_a_branch_of_build_model_that_one_arm_takes_is_noticed():
    def workload(epsilon):
        def build(norm="none"):
            if norm == "layer":
                keras.layers.LayerNormalization(epsilon=epsilon)
            return dense_model()

        return taken(build)

    before, same, after = (workload(e) for e in (1e-3, 1e-3, 10.0))
    assert between(before, same) is None
    assert between(before, after).startswith("the code of the model was edited")


def test_code_has_one_digest_in_every_process():
    program = (
        "from tests.trials.fingerprint_code import Optimizer; "
        "from lbcheck.trials import code; print(code.digest(Optimizer))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": str(seed), "PATH": ""},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in range(3)
    }
    assert len(found) == 1, found


def test_a_library_counts_by_name_wherever_it_was_installed(
    tmp_path, monkeypatch
):
    # As `pip install --target` does.
    (tmp_path / "aside_library.py").write_text(
        "SEEN = []\nclass Model:\n    def call(self): return SEEN\n"
    )
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    library = importlib.import_module("aside_library")

    def seen():
        code._is_installed.cache_clear()
        before = code.digest(library.Model)
        library.SEEN.append(1)
        return before, code.digest(library.Model)

    before, after = seen()
    assert before != after  # a module of the user's
    for name, files in (
        ("another", "another.py,,\n"),
        (
            "aside_library",
            "aside_library.py,,\naside_library-1.0.dist-info/X,,\n",
        ),
    ):
        (tmp_path / f"{name}-1.0.dist-info").mkdir()
        (tmp_path / f"{name}-1.0.dist-info/RECORD").write_text(files)
        before, after = seen()
        # Beside another's it is the user's, as in a project with its
        # requirements in it.
        assert (before == after) == (name == "aside_library")
    code._is_installed.cache_clear()


def test_code_of_another_python_cannot_be_compared():
    assert code.same("3.10:00", "3.11:ff")
    assert not code.same("3.11:00", "3.11:ff")
    assert code.same("3.11:00", "3.11.2:ff")  # of an earlier recipe


def test_what_the_seed_does_not_decide_is_not_compared():
    def build():
        first = np.random.default_rng().normal(size=(5, 2))
        model = keras.Sequential([keras.layers.Input((5,)), Constant(first)])
        model.compile(loss=keras.losses.SparseCategoricalCrossentropy(True))
        return model

    class Constant(keras.layers.Layer):
        def __init__(self, first):
            super().__init__()
            self.first = first

        def build(self, shape):
            self.kernel = self.add_weight(shape=self.first.shape)
            self.kernel.assign(self.first)

        def call(self, x):
            return x @ self.kernel

    before = taken(build)
    assert before["numbers"]["loss"] == [None] * 3
    assert between(before, taken(build)) is None
