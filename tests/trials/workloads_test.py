"""The image workloads: what they hold, and that a study can train them."""

import gzip
import io
import json
import pathlib
import struct

import numpy as np
import pytest
from absl import app

from lbcheck.search import arm as arms
from lbcheck.support import random_state
from lbcheck.trials import trainer as trainers
from lbcheck.trials import workload as workload_module
from resnet import workloads

KERASES = ("tf_keras", "keras3")
FLAGS = pathlib.Path(__file__).parents[2] / "flags"
ARMS = {
    path.stem: path
    for path in sorted((FLAGS / "resnet" / "arms").glob("*.json"))
}
OF_BERT = {
    path.stem: path
    for path in sorted((FLAGS / "bert" / "arms").glob("*20*.json"))
}
"""Arms of published searches."""


@pytest.fixture(scope="module")
def mnist_folder(tmp_path_factory):
    """Idx files of 96 and 32 random images."""
    folder = tmp_path_factory.mktemp("mnist")
    generator = np.random.default_rng(0)
    for kind, count in (("train", 96), ("t10k", 32)):
        images = generator.integers(0, 256, (count, 28, 28), np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        for name, magic, array in (
            (f"{kind}-images-idx3-ubyte.gz", 2051, images),
            (f"{kind}-labels-idx1-ubyte.gz", 2049, labels),
        ):
            header = struct.pack(f">{1 + array.ndim}I", magic, *array.shape)
            with gzip.open(folder / name, "wb") as file:
                file.write(header + array.tobytes())
    return str(folder)


@pytest.mark.parametrize("keras", KERASES)
def test_digits(keras):
    workload = workload_module.load("resnet.workloads:digits", keras=keras)
    assert (workload.batch_size, workload.name) == (512, "digits")
    images, labels = workload.train
    assert images.shape == (1437, 8, 8, 1) and labels.shape == (1437,)
    np.testing.assert_allclose([images.mean(), images.std()], [0, 1], atol=1e-4)
    assert len(workload.validation[0]) == len(workload.validation[1]) == 360
    # Every image is there once: the labels are scikit-learn's.
    counts = np.bincount(np.r_[labels, workload.validation[1]])
    assert counts.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    model = workload.build_model()
    assert type(model).__module__.split(".")[0] == (
        "keras" if keras == "keras3" else keras
    )
    assert model.output_shape == (None, 10)


@pytest.mark.parametrize("keras", KERASES)
def test_a_study_trains_digits(keras):
    """A known good point learns, in one trace for all values of smoothing."""
    arm = arms.Arm(
        "adamw",
        "adamw",
        {
            "learning_rate": {"value": 0.03},
            "label_smoothing": {"values": [0.0, 0.1, 0.3]},
        },
    )
    workload = workloads.digits(keras=keras, steps=40)
    trainer = trainers.Trainer(workload, {"adamw": arm})
    assert (trainer.metric, trainer.mode) == ("accuracy", "max")
    found = {}
    for smoothing in (0.3, 0.0):
        record = trainer.run(
            {
                "arm": "adamw",
                "stage": "broad",
                "index": 0,
                "seed": 1,
                "hyperparameters": {
                    "learning_rate": 0.03,
                    "label_smoothing": smoothing,
                },
            }
        )
        assert record["status"] == "finished"
        found[smoothing] = record["metrics"]["training"]
        assert found[smoothing]["accuracy"] > 0.97
    assert trainer.traces == {"adamw": 1}
    # The entropy of targets of 0.73 and nine times 0.03, and none.
    least = -0.73 * np.log(0.73) - 9 * 0.03 * np.log(0.03)
    assert found[0.3]["loss"] > least > 10 * found[0.0]["loss"]


@pytest.mark.parametrize("keras", KERASES)
def test_mnist_by_seed(keras, mnist_folder):
    workload = workloads.mnist(keras=keras, data_dir=mnist_folder)
    assert (workload.batch_size, workload.steps) == (1024, 580)
    assert len(workload.train[0]) == 96 and len(workload.validation[0]) == 32

    def weights(seed):
        with random_state.kept():
            random_state.begin(seed)
            model = workload.build_model()
        assert model.count_params() == 61_706  # LeNet-5
        return np.concatenate([w.ravel() for w in model.get_weights()])

    np.testing.assert_array_equal(weights(1), weights(1))
    assert np.abs(weights(1) - weights(2)).max() > 0.1


def test_cifar10(tmp_path):
    generator = np.random.default_rng(0)

    def rows(count):
        labels = np.arange(count, dtype=np.uint8)[:, None] % 10
        pixels = generator.integers(0, 256, (count, 3072), np.uint8)
        return np.concatenate([labels, pixels], axis=1)

    for index in range(1, 6):
        (tmp_path / f"data_batch_{index}.bin").write_bytes(rows(20).tobytes())
    test = rows(20)
    (tmp_path / "test_batch.bin").write_bytes(test.tobytes())
    workload = workloads.cifar10(model="resnet_small", data_dir=str(tmp_path))
    assert workload.train[0].shape == (100, 32, 32, 3)
    # Without augmentation: standardised by the training images, no more.
    images = test[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    red = np.corrcoef(
        workload.validation[0][..., 0].ravel(), images[..., 0].ravel()
    )
    np.testing.assert_allclose(red, 1, atol=1e-6)
    assert workload.build_model().name == "resnet_small"
    for settings, error in (
        ({"augment": "mix"}, "none, davidnet, received 'mix'"),
        ({"augment": "davidnet"}, "keras3"),
    ):
        with pytest.raises(ValueError, match=error):
            workloads.cifar10(data_dir=str(tmp_path), **settings)
    augmented = workloads.cifar10(
        "keras3",
        model="resnet_small",
        data_dir=str(tmp_path),
        augment="davidnet",
    )
    model = augmented.build_model()
    assert model.layers[1].name == "augment"
    images = workload.train[0][:64]  # a ghost batch
    in_training = [np.array(model(images, training=True)) for _ in range(2)]
    assert (in_training[0] != in_training[1]).any()
    np.testing.assert_array_equal(model(images), model(images))


@pytest.fixture(scope="module")
def imagenet_folder(tmp_path_factory):
    """Two files of 40 and 9 random images; the tenth for validation is bad."""
    import tensorflow as tf
    from PIL import Image

    folder = tmp_path_factory.mktemp("imagenet")
    generator = np.random.default_rng(0)
    for split, count in (("train", 40), ("validation", 9)):
        path = str(folder / f"{split}-00000-of-00001")
        with tf.io.TFRecordWriter(path) as writer:
            for index in range(count):
                encoded = io.BytesIO()
                pixels = generator.integers(0, 256, (48, 40, 3), np.uint8)
                Image.fromarray(pixels).save(encoded, "JPEG")
                example = tf.train.Example()
                feature = example.features.feature
                image = feature["image/encoded"].bytes_list
                image.value.append(encoded.getvalue())
                label = feature["image/class/label"].int64_list
                label.value.append(index + 1)
                writer.write(example.SerializeToString())
    return str(folder)


def imagenet(folder, **arguments):
    """The workload at 32 pixels as the command line has it."""
    own = {"image_size": 32, "model": "resnet_small", "data_dir": folder}
    return workload_module.load(
        "resnet.workloads:imagenet",
        [f"{name}={value}" for name, value in own.items()],
        **arguments,
    )


def test_imagenet_by_seed(imagenet_folder):
    workload = imagenet(imagenet_folder, batch_size=16, steps=3)
    assert (workload.name, workload.steps) == ("imagenet", 3)

    def taken(seed):
        batches = workload.train(seed).as_numpy_iterator()
        return [next(batches) for _ in range(5)]

    one, again, other = map(taken, (1, 1, 2))
    assert one[0][0].shape == (16, 32, 32, 3)
    for (images, labels), (same, alike) in zip(one, again):
        np.testing.assert_array_equal(images, same)
        np.testing.assert_array_equal(labels, alike)
    assert any((a[1] != b[1]).any() for a, b in zip(one, other))
    # Two and a half epochs, which do not end.
    seen = np.bincount(np.concatenate([labels for _, labels in one]))
    assert seen.shape == (40,) and set(seen) == {2}
    found = list(workload.validation().as_numpy_iterator())
    labels = np.concatenate([labels for _, labels in found])
    assert sorted(labels) == list(range(9))  # none is filling


@pytest.mark.parametrize(
    "keras",
    ["tf_keras", pytest.param("keras3", marks=pytest.mark.slow)],
)
def test_a_study_trains_what_table_21_searches(imagenet_folder, keras):
    """One trace for all trials, each with the gamma of its own."""
    arm = arms.load(str(ARMS["nado2021_table21"]))
    workload = imagenet(imagenet_folder, keras=keras, batch_size=64, steps=2)
    trainer = trainers.Trainer(workload, {arm.name: arm})
    points = arm.space.points(0, 0, 2, steps=2)
    gammas = []
    for index, point in enumerate(points):
        assert point["warmup_steps"] == 1  # 638 of 2,512, of two updates
        record = trainer.run(
            {
                "arm": arm.name,
                "stage": "broad",
                "index": index,
                "seed": 3,
                "hyperparameters": point | {"learning_rate": 1e-9},
            }
        )
        assert record["status"] == "finished"
        model = trainer._runners[arm.name].model
        norm = model.get_layer("stage2_block1_bn2")
        # At rates of 1e-9 and of 0.12 at first: gamma moves a little.
        gammas.append(np.asarray(norm.gamma).mean())
        assert norm.virtual_batch_size == 64
        assert float(norm.momentum) == pytest.approx(0.94)
        assert float(norm.epsilon) == pytest.approx(4e-6)
    assert trainer.traces == {arm.name: 1}
    wanted = [point["final_gamma"] for point in points]
    assert np.diff(gammas) == pytest.approx(np.diff(wanted), rel=0.1)


def model_arguments(workload):
    """What build_model of a workload's model takes, without its data."""
    source = type("Source", (), {"image_shape": (32, 32, 3), "num_classes": 9})
    build_model = workloads._named(workload, "tf_keras", source)
    return workload_module.Workload(build_model, (), (), 1, 1).model_arguments


def taken_points(arm, steps, seeds, arguments):
    """Points of a space, all of which the arm must take."""
    size = arm.space.size
    for seed in seeds:
        for point in arm.space.points(seed, 0, min(3, size or 3), steps):
            arm.check(point, steps, arguments)
            yield point


@pytest.mark.parametrize("name", [*ARMS, *OF_BERT])
def test_every_published_search_can_be_made(name):
    """Every point at seeds 0 to 50, at the paper's length and in miniature."""
    arm = arms.load(str((ARMS | OF_BERT)[name]))
    arguments = () if name in OF_BERT else model_arguments("resnet50")
    for steps in (arm.space.facts.get("steps", 2343), 96):
        for point in taken_points(arm, steps, range(51), arguments):
            split = arm.resolve(point, arguments)
            assert set(split.model) <= set(arguments)
        rate = arm.schedule_of(point, steps)
        assert 0 <= rate(0) < np.inf and 0 <= rate(steps - 1) < np.inf
        made = arm.make("tf_keras", point, steps)
    assert made.learning_rate is not None


def test_every_space_has_an_arm():
    spaces = {
        (path.parent / described["space"]).resolve()
        for path in (*ARMS.values(), *OF_BERT.values())
        for described in [json.loads(path.read_text())]
    }
    # Of Table 6 of Nado et al. each phase has one.
    left = FLAGS / "spaces" / "nado2021_table6.json"
    assert spaces == set((FLAGS / "spaces").glob("*.json")) - {left}


def test_what_decays_in_the_chronology():
    """All variables in Tables 9 and 10, then not biases and norms."""
    paths = ["conv/kernel", "conv/bias", "bn/gamma"]
    shapes = [(3, 3, 8, 8), (8,), (8,)]
    for table in range(9, 24):
        arm = arms.load(str(ARMS[f"nado2021_table{table}"]))
        [point] = arm.space.points(0, 0, 1, 100)
        plan = arm.make("tf_keras", point, 100).plan(paths, shapes)
        decays = [assignment.decay for assignment in plan]
        assert decays == [True, table < 11, table < 11], table
        rules = {assignment.rule for assignment in plan}
        by_l2 = {rule.l2 for rule in rules} != {0.0}
        assert by_l2 == (table >= 20)
        assert {bool(rule.weight_decay) for rule in rules} == {not by_l2}


def test_decay_of_lambs_tables_is_not_times_the_rate():
    for table in (*range(13, 26), 11):
        arm = arms.load(str(ARMS[f"you2019_table{table}"]))
        [point] = arm.space.points(0, 0, 1, 100)
        rule = arm.make("tf_keras", point, 100).rule
        assert rule.decay_times_rate == (table == 11)


def test_bad_arguments_of_a_workload():
    for text, message in (
        ("image_size", "expected argument=value with one of keras, batch_size"),
        ("size=32", "received 'size=32'"),
        ("image_size=wide", "image_size must be int, received 'wide'"),
        ("image_size=22.5", "image_size must be int, received 22.5"),
    ):
        with pytest.raises(app.UsageError, match=message):
            workload_module.load("resnet.workloads:imagenet", [text])
    with pytest.raises(ValueError, match="unknown `preprocessing` 'mine'"):
        workload_module.load(
            "resnet.workloads:imagenet", ["preprocessing=mine", "data_dir=x"]
        )
    lenet = workloads._named(
        "lenet5",
        "tf_keras",
        type("Source", (), {"image_shape": (28, 28, 1), "num_classes": 10}),
    )
    with pytest.raises(ValueError, match="'lenet5' does not use `final_gamma`"):
        lenet(final_gamma=0.5)


def test_unknown_keras():
    with pytest.raises(ValueError, match="`keras` must be one of.*'keras2'"):
        workloads.digits(keras="keras2")
