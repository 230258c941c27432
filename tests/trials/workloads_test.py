"""The image workloads: what they hold, and that a study can train them."""

import gzip
import struct

import numpy as np
import pytest

from lbcheck.search import arm as arms
from lbcheck.support import random_state
from lbcheck.trials import trainer as trainers
from lbcheck.trials import workload as workload_module
from resnet import workloads

KERASES = ("tf_keras", "keras3")


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


def test_unknown_keras():
    with pytest.raises(ValueError, match="`keras` must be one of.*'keras2'"):
        workloads.digits(keras="keras2")
