"""Data and models as users bring them: as `fit` takes them, or a sentence."""

import functools
import itertools
import time
import warnings

import keras
import numpy as np
import pytest
import scipy.sparse
import tensorflow as tf
import tf_keras

from lbcheck.search import arm as arms
from lbcheck.support import random_state
from lbcheck.trials import content
from lbcheck.trials import trainer as trainers
from lbcheck.trials import trial_data
from lbcheck.trials import user_model
from lbcheck.trials import workload as workloads

KERASES = pytest.mark.parametrize("module", [keras, tf_keras])
_RNG = np.random.default_rng(14)
_X = _RNG.normal(size=(60, 5)).astype("float32")
_Y = (_X[:, 0] > 0).astype("int32") + (_X[:, 1] > 0.4)
_TRAIN, _VALIDATION = (_X[:40], _Y[:40]), (_X[40:], _Y[40:])
_TASK = {
    "arm": "adamw",
    "stage": "broad",
    "index": 0,
    "seed": 3,
    "hyperparameters": {"learning_rate": 0.05},
}


def dense(module, width=5, **settings):
    def build_model():
        model = module.Sequential(
            [module.layers.Input((width,)), module.layers.Dense(3)]
        )
        loss = module.losses.SparseCategoricalCrossentropy(from_logits=True)
        given = {"loss": loss, "metrics": ["accuracy"]} | settings
        model.compile("sgd", **given)
        return model

    return build_model


def trainer_of(build_model, train, validation, batch_size=8, **changes):
    workload = workloads.Workload(build_model, train, validation, batch_size, 5)
    space = {"learning_rate": {"value": 0.05}}
    return trainers.Trainer(
        workload._replace(**changes),
        {"adamw": arms.Arm("adamw", "adamw", space)},
    )


def check_as_keras(trainer, validation):
    """Runs twice the same, and reports what Keras's own evaluate does."""
    record = trainer.run(_TASK)
    assert record["status"] == "finished"
    assert trainer.run(_TASK)["metrics"] == record["metrics"]
    data = validation if isinstance(validation, tuple) else (validation,)
    model = trainer._runners["adamw"].model
    want = model.evaluate(*data, batch_size=None, verbose=0, return_dict=True)
    for name, value in want.items():
        got = record["metrics"]["validation"][name]
        np.testing.assert_allclose(got, value, rtol=2e-5)
    return record


def batched(arrays, size):
    def batches():
        for start in range(0, len(arrays[0]), size):
            yield tuple(array[start : start + size] for array in arrays)

    return batches


def py_dataset(module, arrays, size):
    base = (
        module.utils.PyDataset if module is keras else (module.utils.Sequence)
    )

    class Batches(base):
        def __len__(self):
            return -(-len(arrays[0]) // size)

        def __getitem__(self, index):
            part = slice(index * size, (index + 1) * size)
            return tuple(array[part] for array in arrays)

    return Batches()


@KERASES
@pytest.mark.parametrize("kind", ["generator", "of_seed", "indexed", "sparse"])
def test_what_fit_takes(module, kind):
    train, validation = {
        "generator": lambda: (batched(_TRAIN, 7), batched(_VALIDATION, 6)),
        "of_seed": lambda: (
            lambda seed: batched((_X[:40] + seed, _Y[:40]), 8)(),
            batched(_VALIDATION, 20),
        ),
        "indexed": lambda: (
            py_dataset(module, _TRAIN, 8),
            py_dataset(module, _VALIDATION, 9),
        ),
        "sparse": lambda: (
            (scipy.sparse.csr_matrix(_X[:40]), _Y[:40]),
            (scipy.sparse.coo_matrix(_X[40:]), _Y[40:]),
        ),
    }[kind]()
    trainer = trainer_of(dense(module), train, validation)
    assert trainer.facts()["num_validation"] == 20
    record = check_as_keras(trainer, _VALIDATION)
    if kind == "sparse":
        plain = trainer_of(dense(module), _TRAIN, _VALIDATION).run(_TASK)
        for part, found in plain["metrics"].items():
            for name, value in found.items():
                got = record["metrics"][part][name]
                np.testing.assert_allclose(got, value, rtol=1e-4)


@KERASES
def test_batches_of_different_lengths_pass(module):
    def build_model():
        layers = module.layers
        model = module.Sequential(
            [
                layers.Input((None,), dtype="int32"),
                layers.Embedding(9, 4),
                layers.GlobalAveragePooling1D(),
                layers.Dense(3),
            ]
        )
        loss = module.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile("sgd", loss, metrics=["accuracy"])
        return model

    words = tf.ragged.constant(
        [list(range(1, 2 + i % 7)) for i in range(60)], dtype=tf.int32
    )
    # Mapped, since a row of a ragged tensor is no tensor to `padded_batch`.
    data = tf.data.Dataset.from_tensor_slices((words, _Y)).map(
        lambda words, label: (words + 0, label)
    )
    train, validation = data.take(44), data.skip(44).padded_batch(5)
    check_as_keras(
        trainer_of(build_model, train.padded_batch(8), validation), validation
    )
    with pytest.raises(
        ValueError, match="`train`: its batches have 2 to 6.*joined"
    ):
        trainer_of(build_model, train.padded_batch(6), validation)


@KERASES
@pytest.mark.parametrize(
    "kind", ["none", "alone", "dataset", "generator", "eager"]
)
def test_a_model_may_have_its_own_loss_and_no_labels(module, kind):
    class Autoencoder(module.Model):
        def __init__(self):
            super().__init__()
            self.dense = module.layers.Dense(5)

        def call(self, x):
            x = x["x"] if isinstance(x, dict) else x
            decoded = self.dense(x)
            self.add_loss(tf.reduce_mean((decoded - x) ** 2))
            return decoded

    def build_model():
        model = Autoencoder()
        model.compile("sgd", run_eagerly=kind == "eager")
        return model

    data = {
        "none": lambda x: (x, None),
        "alone": lambda x: (x,),
        "dataset": lambda x: tf.data.Dataset.from_tensor_slices(x).batch(8),
        "generator": lambda x: lambda: iter(np.split(x, 4)),
        "eager": lambda x: lambda: ({"x": p} for p in np.split(x, 4)),
    }[kind]
    trainer = trainer_of(build_model, data(_X[:44]), data(_X[44:]))
    record = trainer.run(_TASK)
    weights = [np.asarray(w) for w in trainer._runners["adamw"].model.weights]
    decoded = _X[44:] @ weights[0] + weights[1]
    want = np.mean((decoded - _X[44:]) ** 2)
    got = record["metrics"]["validation"]["loss"]
    assert got == pytest.approx(want, rel=1e-4)


def test_labels_that_are_texts_are_told_with_the_batch():
    names = np.array(["pos", "neg"] * 20)
    said = r"batch of float32 \[8, 5\], (string|object|<U3) \[8\] failed"
    with pytest.raises(ValueError, match=said):
        trainer_of(dense(keras), (_X[:40], names), _VALIDATION)


def test_weights_of_no_labels_are_refused():
    train = (_X[:40], None, np.ones(40))
    with pytest.raises(ValueError, match="`train`: .* or give y"):
        trainer_of(dense(keras), train, _VALIDATION)


@KERASES
def test_the_loss_is_scaled_as_the_model_asks(module):
    scaled = module.mixed_precision.LossScaleOptimizer
    model = dense(module)()
    settings = {"initial_scale": 64, "dynamic_growth_steps": 7}
    model.compile(scaled(module.optimizers.SGD(), **settings), "mse")
    arm = arms.Arm("adamw", "adamw", {"learning_rate": {"value": 0.05}})
    user_model.make_optimizer(model, arm, {"learning_rate": 0.05}, 5, None)
    found = model.optimizer.get_config()
    assert {name: found[name] for name in settings} == settings
    assert type(model.optimizer.inner_optimizer).__name__ == "AdamW"


def endless():
    batch = np.tile(_X, (2000, 1)), np.tile(_Y, 2000)
    return (batch for _ in itertools.count())


def stream(arrays=_VALIDATION):
    return tf.data.Dataset.from_tensor_slices(arrays).batch(8)


@pytest.mark.parametrize(
    "validation, message",
    [
        (stream().repeat(), "has no end: leave out .repeat"),
        (endless, "did not end within 1,[0-9,]+ examples"),
        (stream().take(0), "`validation` has no batch"),
        (stream().unbatch(), "must come in batches"),
        (batched(_VALIDATION, 5)(), "can be read only once"),
        ((_X[40:] * np.nan, _Y[40:]), "no finite number"),
        (stream((_X[40:] * np.inf, _Y[40:])), "no finite number"),
        (lambda seed: _VALIDATION, "takes no argument"),
    ],
)
def test_validation_data_that_cannot_be(validation, message):
    with pytest.raises((TypeError, ValueError), match=message):
        trainer_of(dense(keras), _TRAIN, validation)


def once(arrays):
    """A dataset whose function gives one generator every time."""
    one = batched(arrays, 8)()
    specs = tuple(tf.TensorSpec((None, *a.shape[1:]), a.dtype) for a in arrays)
    return tf.data.Dataset.from_generator(lambda: one, output_signature=specs)


def test_tf_data_that_can_be_read_once_are_told():
    with pytest.raises(ValueError, match="`validation` has no batch when it"):
        trainer_of(dense(keras), _TRAIN, once(_VALIDATION)).run(_TASK)
    train = tuple(np.repeat(part, 3, axis=0) for part in _TRAIN)
    trainer = trainer_of(dense(keras), once(train), _VALIDATION)
    with pytest.raises(ValueError, match="`train` has no batch when it is"):
        for _ in range(5):
            trainer.run(_TASK)


def feed_of(train, batch_size=8):
    return trial_data.make(
        lambda seed: train() if callable(train) else train,
        False,
        0,
        batch_size,
        "train",
        keras,
        True,
    )


@pytest.mark.parametrize("kind", ["dataset", "indexed"])
def test_an_update_may_take_many_small_batches(kind):
    data = {
        "dataset": tf.data.Dataset.from_tensor_slices((_X, _Y)).batch(1),
        "indexed": py_dataset(keras, (_X, _Y), 1),
    }[kind]
    feed = feed_of(data, 60)
    feed.check_updates()
    ((x, y),) = feed.updates(0, 0, 1)
    order = np.argsort(x[:, 0])
    np.testing.assert_array_equal(x.numpy()[order], _X[_X[:, 0].argsort()])
    np.testing.assert_array_equal(y.numpy()[order], _Y[_X[:, 0].argsort()])
    with pytest.raises(ValueError, match="=61 is more than the 60 examples"):
        feed_of(data, 61).check_updates()


def test_other_backends_get_tuples_of_arrays():
    def feed(data):
        return trial_data.make(
            lambda seed: data, False, 0, 8, "train", keras, False
        )

    batches = feed(tf.data.Dataset.from_tensor_slices({"x": _X}).batch(8))
    for (batch,) in (
        batches.example(),
        next(batches.updates(0, 0, 1)),
        next(batches.batches()),
        batches.sample(8, 0)[0],
    ):
        assert isinstance(batch["x"], np.ndarray)
        np.testing.assert_array_equal(batch["x"], _X[:8])
    rows = tf.RaggedTensor.from_row_lengths(np.arange(60), [1, 2] * 20)
    with pytest.raises(TypeError, match="`train`: .* are for Keras on Tens"):
        feed(tf.data.Dataset.from_tensor_slices(rows).batch(8))


def test_epochs_begin_and_end_as_in_fit():
    """And those of a trial are of one PyDataset, where a function makes it."""

    class Growing(keras.utils.PyDataset):
        epoch, within = 0, False

        def __len__(self):
            return 2

        def __getitem__(self, index):
            assert self.within
            return np.full((8, 1), self.epoch, "float32"), _Y[:8]

        def on_epoch_begin(self):
            self.epoch, self.within = self.epoch + 1, True

        def on_epoch_end(self):
            self.within = False

    feed = feed_of(Growing)
    for _ in range(2):
        seen = [float(x[0, 0]) for x, _ in feed.updates(0, 0, 6)]
        assert seen == [1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize("kind", ["arrays", "generator"])
def test_a_look_at_the_metrics_leaves_a_generator_as_it_was(kind):
    """The first sample of training data, too, which is read once."""

    def batches(count=None):
        for _ in itertools.count() if count is None else range(count):
            chosen = np.random.randint(len(_X), size=8)
            yield _X[chosen], _Y[chosen]

    drawn = functools.partial(batches, count=3)
    validation = {"arrays": _VALIDATION, "generator": drawn}[kind]
    looked = trainer_of(dense(keras), lambda: batches(), validation)
    first = looked.run(_TASK, evaluate_at=(2, 4))["metrics"]
    unseen = trainer_of(dense(keras), lambda: batches(), validation).run(_TASK)
    assert first == unseen["metrics"] == looked.run(_TASK)["metrics"]


def test_a_generator_draws_nothing_after_a_trial():
    """From the next trial's state, or the caller's."""

    def batches():
        while True:
            time.sleep(0.02)
            chosen = np.random.randint(len(_X), size=8)
            yield _X[chosen], _Y[chosen]

    trainer = trainer_of(dense(keras), batches, _VALIDATION)
    first = trainer.run(_TASK)["metrics"]
    before = np.random.get_state()[1:3]
    assert trainer.run(_TASK)["metrics"] == first
    time.sleep(0.05)
    for now, then in zip(np.random.get_state()[1:3], before):
        np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize("given", [True, False])
def test_a_function_of_the_seed_shuffles_the_same_each_time(given):
    """Whatever was built before, though tf.data asks TensorFlow's seed."""
    slices = tf.data.Dataset.from_tensor_slices((_X, _Y))

    def train(seed):
        return slices.shuffle(60, seed=seed if given else None).batch(8)

    feed = trial_data.make(train, True, 0, 8, "train", keras, True)
    seen = []
    with random_state.kept():
        for other, seed in ((1, 3), (2, 3), (2, 4)):
            random_state.begin(other)
            (batch,) = feed.updates(seed, 0, 1)
            seen.append(batch[0].numpy().tolist())
        tf.random.set_seed(3)  # as by hand
        ((x, _),) = train(3).take(1)
    assert seen[0] == seen[1] != seen[2]
    assert not given or seen[0] == x.numpy().tolist()


def test_a_function_of_arrays_may_draw_from_the_state_of_its_seed():
    def train(seed):
        chosen = np.random.permutation(60)
        return _X[chosen], _Y[chosen]

    def first(seed):
        feed = trial_data.make(train, True, seed, 8, "train", keras, True)
        return feed.example()[0].numpy().tolist()

    assert first(3) == first(3) != first(4)


def test_constant_labels_are_told_of():
    with pytest.warns(UserWarning, match="all 20 labels are the same"):
        trainer_of(dense(keras), _TRAIN, (_X[40:], _Y[40:] * 0))
    one_of_two = content.Content("validation")
    one_of_two.add((_X[40:], {"tokens": _Y[40:], "weights": _Y[40:] * 0}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one_of_two.check()


@pytest.mark.parametrize("validation, chance", [
    (_VALIDATION, max(np.bincount(_Y[40:])) / 20),
    ((_X[40:], np.eye(3, dtype="float32")[_Y[40:]]), "as before"),
    ((_X[40:], _Y[40:, None]), "as before"),
    (stream(), "as before"),
    ((_X[40:], _X[40:]), None),
    ((_X[40:], _X[40:, 0]), None),
])  # fmt: skip
def test_chance_is_the_commonest_label(validation, chance):
    if chance == "as before":
        chance = max(np.bincount(_Y[40:])) / 20
    data = trial_data.make(
        lambda seed: validation, False, 0, 8, "validation", keras, True
    )
    data.total()
    assert data.content.chance("accuracy", False) == chance


@KERASES
@pytest.mark.parametrize("kind", ["arrays", "stream", "held_out"])
def test_chance_counts_as_the_judged_accuracy_does(module, kind):
    y, weights = np.array([1] * 18 + [0] * 2), np.repeat([0.5, 6.0], [18, 2])
    judged = _X[40:], y, weights
    loss = module.losses.SparseCategoricalCrossentropy(from_logits=True)

    class Own(module.Sequential):
        def test_step(self, *arguments):
            return super().test_step(*arguments)

    def chance(own=False, **metrics):
        def build_model():
            model = (Own if own else module.Sequential)(
                [module.layers.Input((5,)), module.layers.Dense(3)]
            )
            model.compile("sgd", loss, **metrics)
            return model

        data = {
            "arrays": {"validation": judged},
            "stream": {"validation": stream(judged)},
            "held_out": {
                "validation": tuple(np.tile(p.T, 2).T for p in judged),
                "test": 0.5,
            },
        }[kind]
        trainer = trainer_of(build_model, _TRAIN, **{"validation": None} | data)
        return trainer.facts().get("chance")

    if kind == "held_out":
        _, chosen = trial_data.held_out(0.5, 40)
        y, weights = np.tile(y, 2)[chosen], np.tile(weights, 2)[chosen]
    sums = [weights[y == label].sum() for label in (0, 1)]
    assert chance(metrics=["accuracy"]) == pytest.approx(np.mean(y))
    assert chance(weighted_metrics=["accuracy"]) == pytest.approx(
        max(sums) / sum(sums)
    )
    if kind == "arrays":
        both = {"metrics": ["accuracy"], "weighted_metrics": ["accuracy"]}
        assert chance(**both) is None
        assert chance(own=True, metrics=["accuracy"]) is None


def test_chance_of_binary_accuracy_is_of_each_column():
    one_hot = np.eye(4, dtype="float32")[[0, 0, 0, 1, 2]]
    data = trial_data.make(
        lambda seed: (_X[:5], one_hot), False, 0, 8, "test", keras, True
    )
    best = max(
        np.mean(one_hot == guess)
        for guess in itertools.product([0, 1], repeat=4)
    )
    found = data.content.chance("binary_accuracy", False)
    assert found == pytest.approx(best)
    assert data.content.chance("categorical_accuracy", False) == 0.6


def test_a_loss_that_is_nan_is_no_result():
    """Though accuracy would be a number."""
    x = _X[40:].copy()
    x[:, 2] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = trainer_of(dense(keras), _TRAIN, (x, _Y[40:]))
    assert trainer.run(_TASK)["status"] == "diverged"


@KERASES
def test_a_stream_is_read_as_often_as_it_is_used(module):
    reads = []

    def look(x):
        reads.append(len(x))
        return x

    def read(x, y):
        x = tf.numpy_function(look, [x], tf.float32)
        return tf.ensure_shape(x, (None, 5)), y

    train = stream(_TRAIN).map(read)
    trainer = trainer_of(dense(module), train, stream())
    for seed in range(3):
        del reads[:]
        trainer.run(_TASK | {"seed": seed}, evaluate_at=(1, 2, 3))
    # 5 updates of 8, and what is prefetched; nothing for the metrics.
    assert 40 <= sum(reads) <= 40 + 4 * 8


def test_the_training_metric_is_of_all_classes():
    x = np.repeat(np.arange(10.0, dtype="float32"), 30)[:, None]
    data = trial_data.make(
        lambda seed: (x, x[:, 0]), False, 0, 16, "train", keras, True
    )
    seen = [np.concatenate([y for _, y in data.sample(60, s)]) for s in (0, 5)]
    np.testing.assert_array_equal(*seen)
    assert len(seen[0]) == 60 and len(set(seen[0])) == 10


@KERASES
@pytest.mark.parametrize("kind", ["arrays", "sparse", "stream", "held_out"])
def test_the_test_data_are_judged_on_all_of_them_and_in_groups(module, kind):
    x, y = _X[20:], _Y[20:]
    test = {
        "arrays": (x, y),
        "sparse": (scipy.sparse.csr_matrix(x), y),
        "stream": stream((x, y)),
        "held_out": 0.25,
    }[kind]
    trainer = trainer_of(dense(module), _TRAIN, (_X, _Y), test=test)
    count = 15 if kind == "held_out" else 40
    assert trainer.facts()["num_test"] == count
    assert 0.3 < trainer.facts()["chance"] < 0.8
    assert trainer.facts()["num_validation"] == 60 - count % 40
    assert "test" not in trainer.run(_TASK)["metrics"]
    record = trainer.run(_TASK | {"stage": "confirm"}, test=True)
    if kind == "held_out":
        rest, chosen = trial_data.held_out(0.25, 60)
        assert sorted([*rest, *chosen]) == list(range(60))
        x, y = _X[chosen], _Y[chosen]
        parts = {"validation": (_X[rest], _Y[rest]), "test": (x, y)}
    else:
        parts = {"validation": (_X, _Y), "test": (x, y)}
    model = trainer._runners["adamw"].model
    for part, data in parts.items():
        want = model.evaluate(*data, verbose=0, return_dict=True)
        for name, value in want.items():
            got = record["metrics"][part][name]
            np.testing.assert_allclose(got, value, rtol=2e-5)
    # 5 batches of 8 of a stream; of arrays each example is a group here.
    groups = record["test_groups"]
    assert len(groups) == (5 if kind == "stream" else count)
    accuracy = record["metrics"]["test"]["accuracy"]
    assert np.mean(groups) == pytest.approx(accuracy)
    assert trainer.run(_TASK, test=True)["test_groups"] == groups


def test_groups_are_of_one_size_and_hold_every_example():
    numbers = np.arange(203.0)
    for size in (3, 203):
        data = trial_data.make(
            lambda seed: (numbers, numbers), False, 0, size, "test", keras, True
        )
        found = [
            np.concatenate([x for x, _ in batches])
            for batches in data.groups(50)
        ]
        assert len(found) == 50 and set(map(len, found)) == {4, 5}
        assert sorted(np.concatenate(found)) == list(numbers)
        assert any(np.ptp(group) > 100 for group in found)
    data.keep_size()
    assert [len(list(b)) for b in data.groups(50)] == [1]


@pytest.mark.parametrize("sizes, groups", [
    ([8, 8, 8, 3], [8, 8, 11]),
    ([8] * 5 + [1], [8, 8, 8, 8, 9]),
    ([4] * 100 + [2], [8] * 49 + [10]),
    ([7], [7]),
])  # fmt: skip
def test_a_short_last_batch_is_no_group_of_its_own(sizes, groups):
    ends = np.cumsum([0, *sizes])
    x = np.arange(ends[-1], dtype="float32")[:, None]

    def batches():
        for start, end in itertools.pairwise(ends):
            yield x[start:end], x[start:end]

    data = trial_data.make(
        lambda seed: batches(), False, 0, 8, "test", keras, True
    )
    data.total()
    found = [np.concatenate([x for x, _ in group]) for group in data.groups(50)]
    assert sorted(map(len, found)) == sorted(groups)
    np.testing.assert_array_equal(np.concatenate(found), x)


@pytest.mark.parametrize(
    "test, message",
    [
        (1.5, "between 0 and 1, received 1.5"),
        (0, "between 0 and 1, received 0"),
        (0.01, "0.01 of 20 validation examples are 0; a part"),
        (lambda seed: _VALIDATION, "`test` must be the same for every trial"),
        (
            stream().unbatch().shuffle(20).batch(8),
            "`test` comes in another order each time",
        ),
        ((_X[40:] * np.nan, _Y[40:]), "`test`.*no finite number"),
        ("half", "`test` must be .x, y."),
    ],
)
def test_test_data_that_cannot_be(test, message):
    with pytest.raises((TypeError, ValueError), match=message):
        trainer_of(dense(keras), _TRAIN, _VALIDATION, test=test)


def test_a_function_of_validation_data_is_called_once_for_both_parts():
    random = np.random.default_rng(3)

    def shuffled():
        order = random.permutation(60)
        return _X[order], _Y[order]

    trainer = trainer_of(dense(keras), _TRAIN, shuffled, test=0.5)
    feeds = trainer._validation, trainer.test
    parts = [
        np.concatenate([x for x, _ in feed.batches()])[:, 0] for feed in feeds
    ]
    np.testing.assert_array_equal(np.sort(np.hstack(parts)), np.sort(_X[:, 0]))


def test_a_part_of_a_stream_cannot_be_held_out():
    with pytest.raises(ValueError, match="where they are arrays; give `test`"):
        trainer_of(dense(keras), _TRAIN, stream(), test=0.5)


@KERASES
def test_metrics_of_several_numbers(module):
    one_hot = np.eye(3, dtype="float32")[_Y]
    data = (_X[:40], one_hot[:40]), (_X[40:], one_hot[40:])
    build_model = dense(
        module,
        loss=module.losses.CategoricalCrossentropy(from_logits=True),
        metrics=[module.metrics.F1Score(name="f/1")],
    )
    trainer = trainer_of(build_model, *data, metric="f/1_2", mode="max")
    found = trainer.run(_TASK)["metrics"]["validation"]
    assert list(found) == ["loss", "f/1_0", "f/1_1", "f/1_2"]
    model = trainer._runners["adamw"].model
    want = model.evaluate(*data[1], verbose=0, return_dict=True)["f/1"]
    got = [found[f"f/1_{i}"] for i in range(3)]
    np.testing.assert_allclose(got, want, rtol=1e-5)
    with pytest.raises(ValueError, match="set `metric` to one of f/1_0, f/1_1"):
        trainer_of(build_model, *data)


@KERASES
@pytest.mark.parametrize("kind", ["reshaped", "eager"])
def test_models_of_whole_batches_and_of_python(module, kind):
    class Net(module.Model):
        def __init__(self):
            super().__init__()
            self.out = module.layers.Dense(3)

        def call(self, x):
            if kind == "eager":
                float(tf.reduce_mean(x).numpy())
                return self.out(x)
            return self.out(tf.reshape(x, (10, 5)))

    def build_model():
        model = Net()
        loss = module.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(
            "sgd", loss, metrics=["accuracy"], run_eagerly=kind == "eager"
        )
        return model

    trainer = trainer_of(build_model, _TRAIN, _VALIDATION, batch_size=10)
    record = trainer.run(_TASK)
    assert record["status"] == "finished"
    assert trainer.run(_TASK)["metrics"] == record["metrics"]
    if kind == "reshaped":
        with pytest.raises(ValueError, match="leave out 3 of its 13"):
            trainer_of(build_model, _TRAIN, (_X[:13], _Y[:13]), batch_size=10)


@KERASES
def test_state_behind_fused_kernels_is_set_back(module):
    """Of Adam's kernel, and of a variable that is large enough for XLA's."""
    x = _RNG.normal(size=(40, 700)).astype("float32")

    def build_model():
        model = module.Sequential(
            [
                module.layers.Input((700,)),
                module.layers.Dense(100),
                module.layers.Dense(3),
            ]
        )
        loss = module.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile("sgd", loss)
        return model

    for name in ("adamw", "lamb"):
        space = {"learning_rate": {"value": 0.01}}
        workload = workloads.Workload(
            build_model, (x, _Y[:40]), (x, _Y[:40]), 8, 5
        )
        trainer = trainers.Trainer(
            workload, {"adamw": arms.Arm("adamw", name, space)}
        )
        task = _TASK | {"hyperparameters": {"learning_rate": 0.01}}
        first = trainer.run(task)["metrics"]
        assert trainer.run(task)["metrics"] == first


def test_errors_of_the_user_s_own_code():
    def picture(x):
        raise RuntimeError("no picture 17")

    def read(x, y):
        x = tf.numpy_function(picture, [x], tf.float32)
        return tf.ensure_shape(x, (None, 5)), y

    broken = stream().concatenate(stream().map(read))
    said = (
        r"`validation` failed: .*study_data_test.py:\d+: RuntimeError: no pic"
    )
    with pytest.raises(ValueError, match=said):
        trainer_of(dense(keras), _TRAIN, broken)
    with pytest.raises(ValueError, match="needs width, which Arm adamw"):
        trainer_of(lambda width: dense(keras)(), _TRAIN, _VALIDATION)

    def frozen():
        model = dense(keras)()
        model.trainable = False
        return model

    with pytest.raises(ValueError, match="no weights to train"):
        trainer_of(frozen, _TRAIN, _VALIDATION)

    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer_of(interrupted, _TRAIN, _VALIDATION)
