"""The image data sets: streams, shards, formats, preprocessing, bad input."""

import gzip
import io
import os
import pathlib
import pickle
import struct
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from PIL import Image
from scipy import stats

from lbcheck.data import tfrecords
from lbcheck.training import streams
from lbcheck.trials import trial_data
from resnet import augmentation_layer
from resnet import data
from resnet.data import arrays
from resnet.data import augmentation
from resnet.data import preprocessing
from resnet.data import records
from tests import damage

ROOT = str(pathlib.Path(__file__).parents[2])
SIZE = 24


def take(dataset, count):
    """The first elements, each a list of arrays."""
    iterator = iter(dataset)
    return [[np.asarray(part) for part in next(iterator)] for _ in range(count)]


def equal(first, second):
    return len(first) == len(second) and all(
        np.array_equal(a, b)
        for one, other in zip(first, second)
        for a, b in zip(one, other)
    )


def joined(batches):
    """One batch of all batches."""
    return [np.concatenate(column) for column in zip(*batches)]


# Arrays.


def numbered(examples=103, validation=50, seed=3, augment="none", side=1):
    """A source whose every pixel says which example it is, label = it % 7."""

    def split(count):
        images = np.zeros((count, side, side, 2), np.uint8)
        images += (
            np.stack([np.arange(count), np.arange(count) * 2], -1)
            .astype(np.uint8)
            .reshape(count, 1, 1, 2)
        )
        return arrays.Split(images, np.arange(count) % 7, "test")

    return arrays.ArraySource(
        "numbered", split(examples), split(validation), 7, seed, augment
    )


def which(source, images):
    """The example each image of `numbered` is."""
    pixels = images[:, 0, 0, 0] * source.standard_deviation[0] + source.mean[0]
    return np.rint(pixels).astype(int)


def test_each_epoch_is_another_permutation():
    source = numbered()
    images, labels = joined(take(source.train(10), 31))
    found = which(source, images)
    np.testing.assert_array_equal(labels, found % 7)
    epochs = found[: 3 * 103].reshape(3, 103)
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(103))
    assert (epochs[0] != epochs[1]).any() and (epochs[1] != epochs[2]).any()
    other = joined(take(numbered(seed=4).train(10), 31))
    assert (which(source, other[0]) != found).any()


def test_epoch_follows_the_seed_and_its_number():
    source = numbered(seed=5)
    images, _ = joined(take(source.train(103), 3))
    for epoch in range(3):
        expected = np.random.default_rng([5, epoch]).permutation(103)
        found = which(source, images[103 * epoch :][:103])
        np.testing.assert_array_equal(found, expected)


def test_a_stream_of_tensorflow_feeds_the_replicas_in_turn():
    source = numbered()
    stream = streams.dataset(
        source.train, 4, 2, replicas=3, shard=1, num_shards=2
    )
    batches = list(stream.take(6).as_numpy_iterator())
    assert {len(labels) for _, labels in batches} == {4}
    expected = take(source.train(12, 2, 1, 2), 2)
    assert equal([joined(batches)], [joined(expected)])


def test_no_thread_tunes_what_fit_and_trials_read():
    source = numbered()
    of_tensorflow = tf.data.Dataset.from_tensors((np.zeros(8), np.zeros(8)))
    trial = trial_data.make(
        lambda seed: of_tensorflow, False, 0, 8, "train", tf_keras, True
    )
    for read in (
        streams.dataset(source.train, 4, 0),
        streams.dataset(source.validation, 4),
        trial._dataset(0),
    ):
        assert read.options().autotune.enabled is False


@pytest.mark.parametrize("augment", ["none", "davidnet"])
def test_array_stream_is_a_function_of_position(augment):
    source = numbered(augment=augment, side=32)
    whole = joined(take(source.train(12), 30))
    # A later start, another batch size, batches longer than an epoch.
    assert equal([whole], [joined(take(source.train(36), 10))])
    assert equal([whole], [joined(take(source.train(180), 2))])
    tail = joined(take(source.train(12, start=7), 23))
    assert equal([[part[7 * 12 :] for part in whole]], [tail])
    # Three shards side by side are the single stream.
    shards = [
        take(source.train(4, start=2, shard=shard, num_shards=3), 28)
        for shard in range(3)
    ]
    side_by_side = joined([part for row in zip(*shards) for part in row])
    assert equal([[part[2 * 12 :] for part in whole]], [side_by_side])


def test_far_start_costs_nothing():
    source = numbered()
    images, _ = take(source.train(10, start=10**12), 1)[0]
    assert len(set(which(source, images))) == 10


@pytest.mark.parametrize("shards", [1, 3])
def test_array_validation_covers_each_once(shards):
    source = numbered()
    batches = [
        list(source.validation(8, shard, shards)) for shard in range(shards)
    ]
    assert {len(part) for part in batches} == {-(-50 // (8 * shards))}
    images, labels, weights = joined(sum(batches, []))
    assert images.shape[0] % 8 == 0 and weights.dtype == np.float32
    found = which(source, images[weights == 1])
    np.testing.assert_array_equal(np.sort(found), np.arange(50))
    np.testing.assert_array_equal(labels[weights == 1], found % 7)
    assert not images[weights == 0].any() and weights.sum() == 50


def test_standardised_by_the_training_images():
    source = data.load("digits")
    images, _ = joined(take(source.train(1437), 1))
    assert images.dtype == np.float32
    assert abs(images.mean(dtype=np.float64)) < 1e-6
    assert abs(images.std(dtype=np.float64) - 1) < 1e-6


def test_digits_split_is_fixed_and_stratified():
    first, second = (data.load("digits", seed=seed) for seed in (0, 1))
    assert (first.num_train, first.num_validation) == (1437, 360)
    assert first.image_shape == (8, 8, 1) and first.num_classes == 10
    validations = [joined(list(s.validation(90))) for s in (first, second)]
    assert equal(validations[:1], validations[1:])
    counts = np.bincount(validations[0][1])
    assert counts.min() >= 34 and counts.max() <= 38
    assert "1437 images of 8x8x1" in first.check()[0]


def crops(image, mode):
    """{(top, left, flip): crop} of an image padded by 4."""
    padded = np.pad(image, ((4, 4), (4, 4), (0, 0)), mode)
    return {
        (top, left, flip): padded[top : top + 32, left : left + 32][
            :, :: -1 if flip else 1
        ]
        for top in range(9)
        for left in range(9)
        for flip in range(2)
    }


def explain(image, result, mode="reflect"):
    """The (top, left, flip, cut top, cut left) that makes it, or None."""
    zero = (result == 0).all(-1)
    rows, columns = zero.any(1).nonzero()[0], zero.any(0).nonzero()[0]
    if zero.sum() != 64 or len(rows) != 8 or len(columns) != 8:
        return None
    for key, crop in crops(image, mode).items():
        if np.array_equal(crop[~zero], result[~zero]):
            return (*key, rows[0], columns[0])
    return None


def test_davidnet_is_crop_flip_cutout():
    images = np.random.default_rng(0).normal(size=(24, 32, 32, 3))
    images = images.astype(np.float32)
    results = augmentation.davidnet(images, seed=1, position=1000)
    pairs = list(zip(images, results))
    assert all(explain(*pair) for pair in pairs)
    # A mutant that pads by zeros, or by the edge, is found out.
    for mode in ("constant", "edge"):
        assert not all(explain(*pair, mode) for pair in pairs)
    # Nothing is written into what came in.
    assert (images != 0).all()


def test_the_layer_does_what_the_stream_does_with_the_same_draws():
    images = np.random.default_rng(0).normal(size=(64, 32, 24, 3))
    images = images.astype("float32")
    limits = (9, 9, 2, 25, 17)
    draws = augmentation._uniform(3, 7, 64, limits).T.astype("int32")
    there = augmentation.davidnet(images, seed=3, position=7)
    here = augmentation_layer.crops(np, images, *draws)
    np.testing.assert_array_equal(here, there)
    layer = augmentation_layer.of(keras)(0)
    np.testing.assert_array_equal(layer(images), images)
    seen = [np.array(layer(images, training=True)) for _ in range(2)]
    again = augmentation_layer.of(keras)(0)(images, training=True)
    np.testing.assert_array_equal(seen[0], again)
    assert (seen[0] != seen[1]).any(axis=(1, 2, 3)).all()
    cut = (seen[0] == 0).all(axis=-1)
    assert (cut.sum(axis=(1, 2)) == 64).all()
    # Every position of the cutout's corner is drawn as often.
    tops = np.concatenate(
        [
            np.array(layer(images, training=True) == 0)
            .all(axis=-1)
            .any(axis=2)
            .argmax(axis=1)
            for _ in range(40)
        ]
    )
    counts = np.bincount(tops, minlength=25)
    assert len(counts) == 25 and stats.chisquare(counts).pvalue > 1e-3
    with pytest.raises(ValueError, match="keras3"):
        augmentation_layer.of(tf_keras)


def test_davidnet_draws_evenly():
    count = 20_000
    images = np.ones((1, 32, 32, 1), np.float32)
    images = images * np.arange(1, 33)[:, None, None] * 100
    images = images + np.arange(32)[None, :, None]
    images = np.repeat(images, count, 0).astype(np.float32)
    results = augmentation.davidnet(images, seed=0, position=0)[..., 0]
    zero = results == 0
    for axis in (1, 2):
        starts = zero.any(axis).argmax(1)
        assert_even(starts, 25)
    # The middle of the result tells the crop, unless it is cut out.
    middle = results[:, 16, 16].astype(int)
    flipped = results[:, 16, 15] > results[:, 16, 16]
    visible = ~zero[:, 16, 15:17].any(1)
    tops = middle // 100 - 1 - 12
    lefts = middle % 100 - np.where(flipped, 11, 12)
    for draws, kinds in ((tops, 9), (lefts, 9), (flipped.astype(int), 2)):
        assert_even(draws[visible], kinds)


def assert_even(draws, kinds):
    """Chi square of equally likely kinds, at five standard deviations."""
    counts = np.bincount(draws, minlength=kinds)
    assert len(counts) == kinds
    expected = len(draws) / kinds
    chi = ((counts - expected) ** 2 / expected).sum()
    assert abs(chi - (kinds - 1)) < 5 * np.sqrt(2 * (kinds - 1)) + 1


# Formats of the small sets.


def write_idx(path, array, opener=open):
    header = bytes([0, 0, 8, array.ndim])
    header += struct.pack(f">{array.ndim}I", *array.shape)
    with opener(path, "wb") as file:
        file.write(header + array.astype(np.uint8).tobytes())


def mnist_arrays(count=6):
    images = np.random.default_rng(count).integers(0, 256, (count, 28, 28))
    return images, np.arange(count) % 10


def write_mnist(folder, opener=open, end=""):
    for kind, count in (("train", 12), ("t10k", 6)):
        images, labels = mnist_arrays(count)
        write_idx(folder / f"{kind}-images-idx3-ubyte{end}", images, opener)
        write_idx(folder / f"{kind}-labels-idx1-ubyte{end}", labels, opener)
    return str(folder)


@pytest.mark.parametrize("opener, end", [(open, ""), (gzip.open, ".gz")])
def test_mnist_files(tmp_path, opener, end):
    source = data.load("mnist", data_dir=write_mnist(tmp_path, opener, end))
    assert (source.num_train, source.num_validation) == (12, 6)
    images, labels, _ = next(iter(source.validation(6)))
    pixels, expected = mnist_arrays(6)
    train = mnist_arrays(12)[0]
    expected_images = (pixels - train.mean()) / train.std()
    np.testing.assert_allclose(images[..., 0], expected_images, atol=1e-5)
    np.testing.assert_array_equal(labels, expected)


def cifar_pixels(count, seed):
    return np.random.default_rng(seed).integers(
        0, 256, (count, 3072), dtype=np.uint8
    )


def write_cifar(folder, form):
    """Six official files of four images each."""
    names = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]
    for seed, name in enumerate(names):
        pixels, labels = cifar_pixels(4, seed), [seed, 1, 2, 9]
        if form == "bin":
            rows = np.column_stack([np.array(labels, np.uint8), pixels])
            (folder / f"{name}.bin").write_bytes(rows.tobytes())
        else:
            content = {b"data": pixels, b"labels": labels}
            (folder / name).write_bytes(pickle.dumps(content, protocol=2))
    return str(folder)


@pytest.mark.parametrize(
    "form, subfolder",
    [("bin", ""), ("py", ""), ("bin", "cifar-10-batches-bin")],
)
def test_cifar10_official_files(tmp_path, form, subfolder):
    folder = tmp_path / subfolder
    folder.mkdir(exist_ok=True)
    write_cifar(folder, form)
    source = data.load("cifar10", data_dir=str(tmp_path))
    assert (source.num_train, source.num_validation) == (20, 4)
    images, labels, _ = next(iter(source.validation(4)))
    planes = cifar_pixels(4, 5).reshape(4, 3, 32, 32)
    train = np.concatenate([cifar_pixels(4, seed) for seed in range(5)])
    train = train.reshape(20, 3, -1).astype(np.float64)
    for channel in range(3):
        expected = (planes[:, channel] - train[:, channel].mean()) / train[
            :, channel
        ].std()
        np.testing.assert_allclose(images[..., channel], expected, atol=1e-5)
    np.testing.assert_array_equal(labels, [5, 1, 2, 9])


def jpeg(pixels, **settings):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", **settings)
    return buffer.getvalue()


def write_cifar_jpegs(folder, broken=()):
    content = {}
    for kind, count in (("train", 12), ("test", 5)):
        files = [
            jpeg(cifar_pixels(1, index).reshape(32, 32, 3))
            for index in range(count)
        ]
        if kind == "train":
            for index in broken:
                files[index] = files[index][:300]
        content[f"{kind}_jpeg"] = np.frombuffer(b"".join(files), np.uint8)
        content[f"{kind}_offsets"] = np.cumsum([0] + [len(f) for f in files])
        content[f"{kind}_labels"] = np.arange(count).astype(np.uint8) % 10
    np.savez(folder / "cifar10_jpeg.npz", **content)
    return str(folder)


def test_cifar10_jpegs(tmp_path):
    source = data.load("cifar10", data_dir=write_cifar_jpegs(tmp_path))
    assert (source.num_train, source.num_validation) == (12, 5)
    images, labels, _ = next(iter(source.validation(5)))
    encoded = jpeg(cifar_pixels(1, 3).reshape(32, 32, 3))
    expected = tf.io.decode_jpeg(encoded, dct_method="INTEGER_ACCURATE")
    pixels = images[3] * source.standard_deviation + source.mean
    np.testing.assert_allclose(pixels, expected, atol=1.01)
    np.testing.assert_array_equal(labels, range(5))


def test_cifar10_broken_jpegs(tmp_path):
    folder = write_cifar_jpegs(tmp_path, broken=(2, 7))
    with pytest.raises(ValueError, match=r"cifar10_jpeg.npz: train record 2: "):
        data.load("cifar10", data_dir=folder)
    with pytest.raises(ValueError, match="record 7: .* max_bad_records is 1"):
        data.load("cifar10", data_dir=folder, max_bad_records=1)
    source = data.load("cifar10", data_dir=folder, max_bad_records=2)
    assert source.num_train == 10
    _, labels = joined(take(source.train(10), 1))
    kept = [index % 10 for index in range(12) if index not in (2, 7)]
    np.testing.assert_array_equal(np.sort(labels), np.sort(kept))


TEXT = {"mnist": "none", "cifar10": "id", "imagenet2012": "file_name"}


def write_tfds(root, name, version, features, encode, **splits):
    """A data set as TFDS lays it out: root/name/version."""
    import tensorflow_datasets as tfds

    folder = os.path.join(str(root), name, version)
    os.makedirs(folder)
    template = tfds.core.ShardedFileTemplate(
        data_dir=folder, dataset_name=name, filetype_suffix="tfrecord"
    )
    infos = []
    for kind, count in splits.items():
        path = os.path.join(folder, f"{name}-{kind}.tfrecord-00000-of-00001")
        with tf.io.TFRecordWriter(path) as writer:
            for index in range(count):
                text = tf.train.BytesList(value=[f"{index}".encode()])
                image = tf.train.BytesList(value=[encode(index)])
                label = tf.train.Int64List(value=[index % 10])
                feature = {
                    TEXT[name]: tf.train.Feature(bytes_list=text),
                    "image": tf.train.Feature(bytes_list=image),
                    "label": tf.train.Feature(int64_list=label),
                }
                record = tf.train.Example(
                    features=tf.train.Features(feature=feature)
                )
                writer.write(record.SerializeToString())
        infos.append(
            tfds.core.SplitInfo(
                name=kind,
                shard_lengths=[count],
                num_bytes=os.path.getsize(path),
                filename_template=template.replace(split=kind),
            )
        )
    tfds.folder_dataset.write_metadata(
        data_dir=folder,
        features=tfds.features.FeaturesDict(features),
        split_infos=infos,
        check_data=False,
    )
    return folder


@pytest.mark.parametrize(
    "name, version, shape",
    [("mnist", "3.0.1", (28, 28, 1)), ("cifar10", "3.0.2", (32, 32, 3))],
)
def test_tfds_arrays(tmp_path, name, version, shape):
    import tensorflow_datasets as tfds

    def image(index):
        generator = np.random.default_rng(index)
        return generator.integers(0, 256, shape, dtype=np.uint8)

    features = {
        "image": tfds.features.Image(shape=shape),
        "label": tfds.features.ClassLabel(num_classes=10),
    }
    if name == "cifar10":
        features["id"] = tfds.features.Text()

    def encode(index):
        return tf.io.encode_png(image(index)).numpy()

    folder = write_tfds(
        tmp_path, name, version, features, encode, train=9, test=4
    )
    for place in (folder, tmp_path):
        source = data.load(name, data_dir=f"tfds:{place}")
        assert (source.num_train, source.num_validation) == (9, 4)
        images, labels, _ = next(iter(source.validation(4)))
        pixels = images * source.standard_deviation + source.mean
        for row, label in zip(pixels, labels):
            np.testing.assert_allclose(row, image(label), atol=1e-3)
    with pytest.raises(ValueError, match="expected 'imagenet2012'"):
        data.load("imagenet", data_dir=f"tfds:{folder}")


def test_tfds_not_prepared(tmp_path):
    with pytest.raises(ValueError, match=f"{tmp_path}.*tfds build mnist"):
        data.load("mnist", data_dir=f"tfds:{tmp_path}")


def test_arrays_need_no_tensorflow(tmp_path):
    script = """
import sys
sys.modules["tensorflow"] = None
from resnet import data
for name, folder in (("digits", None), ("mnist", sys.argv[1]),
                     ("cifar10", sys.argv[2])):
    source = data.load(name, data_dir=folder)
    next(source.train(5, start=3))
    next(source.validation(5))
    print(name, source.num_train, len(source.check()))
"""
    folders = [tmp_path / name for name in ("mnist", "cifar")]
    for folder in folders:
        folder.mkdir()
    finished = subprocess.run(
        [
            sys.executable,
            "-c",
            script,
            write_mnist(folders[0]),
            write_cifar_jpegs(folders[1]),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert finished.returncode == 0, finished.stderr[-2000:]
    assert finished.stdout.split() == (
        "digits 1437 2 mnist 12 2 cifar10 12 2".split()
    )


def test_lbcheck_data_is_where_sets_are_found(tmp_path, monkeypatch):
    (tmp_path / "mnist").mkdir()
    write_mnist(tmp_path / "mnist")
    monkeypatch.setenv("LBCHECK_DATA", str(tmp_path))
    assert data.load("mnist").num_train == 12
    with pytest.raises(ValueError, match=f"{tmp_path}/cifar10 is no folder"):
        data.load("cifar10")
    with pytest.raises(ValueError, match=f"{tmp_path}/imagenet-sample is no"):
        data.load("imagenet")


def spoil(folder, name, change):
    path = os.path.join(folder, name)
    with open(path, "rb") as file:
        content = file.read()
    with open(path, "wb") as file:
        file.write(change(content))


@pytest.mark.parametrize(
    "name, change, message",
    [
        (
            "train-labels-idx1-ubyte",
            lambda c: c[:-1],
            "has 11 bytes after its header, expected 12",
        ),
        ("t10k-images-idx3-ubyte", lambda c: c[:10], "cut short"),
        ("train-images-idx3-ubyte", lambda c: b"GIF8" + c[4:], "47494638"),
        ("t10k-labels-idx1-ubyte", lambda c: c[:-1] + b"\x0b", "label 11"),
        (
            "train-labels-idx1-ubyte",
            lambda c: c[:7] + b"\x0b" + c[8:-1],
            "11 labels",
        ),
    ],
)
def test_bad_mnist(tmp_path, name, change, message):
    folder = write_mnist(tmp_path)
    spoil(folder, name, change)
    with pytest.raises(ValueError, match=f"{name}.*{message}"):
        data.load("mnist", data_dir=folder)


def test_bad_mnist_gzip_and_missing(tmp_path):
    folder = write_mnist(tmp_path, gzip.open, ".gz")
    name = "train-images-idx3-ubyte.gz"
    spoil(folder, name, lambda content: content[:-20])
    with pytest.raises(ValueError, match=f"{name}: broken gzip"):
        data.load("mnist", data_dir=folder)
    os.remove(os.path.join(folder, name))
    with pytest.raises(ValueError, match="has no train-images-idx3-ubyte or"):
        data.load("mnist", data_dir=folder)
    with pytest.raises(ValueError, match="/nowhere is no folder"):
        data.load("mnist", data_dir="/nowhere")


def test_bad_cifar10(tmp_path):
    with pytest.raises(ValueError, match=f"{tmp_path} holds none of: cifar10_"):
        data.load("cifar10", data_dir=str(tmp_path))
    folder = write_cifar(tmp_path, "bin")
    spoil(folder, "data_batch_3.bin", lambda content: content[:-5])
    with pytest.raises(ValueError, match="data_batch_3.bin.*record 3 is cut"):
        data.load("cifar10", data_dir=folder)
    spoil(folder, "data_batch_3.bin", lambda content: b"\x0c" * 3073)
    with pytest.raises(ValueError, match="_3.bin: record 0 has label 12"):
        data.load("cifar10", data_dir=folder)
    os.remove(os.path.join(folder, "data_batch_5.bin"))
    spoil(folder, "data_batch_3.bin", lambda content: b"\x01" * 3073)
    with pytest.raises(ValueError, match="has no data_batch_5.bin"):
        data.load("cifar10", data_dir=folder)


class Evil:
    def __reduce__(self):
        return os.system, ("echo unsafe",)


def test_cifar10_pickle_runs_no_code(tmp_path):
    folder = write_cifar(tmp_path, "py")
    spoil(folder, "test_batch", lambda _: pickle.dumps(Evil(), protocol=2))
    with pytest.raises(ValueError, match="test_batch: .*posix.system"):
        data.load("cifar10", data_dir=folder)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"name": "svhn"}, "unknown data set 'svhn'.*digits, mnist"),
        ({"name": "digits", "seed": -1}, "`seed`.*-1"),
        ({"name": "digits", "max_bad_records": -1}, "`max_bad_records`"),
        ({"name": "digits", "data_dir": "/x"}, "no `data_dir`"),
        ({"name": "digits", "augment": "mix"}, "'mix' for digits.*davidnet"),
        ({"name": "digits", "augment": "davidnet"}, "least 16; .* have 8"),
        ({"name": "imagenet", "augment": "none"}, "no `augment`"),
        (
            {"name": "imagenet", "preprocessing": "x", "data_dir": "/x"},
            "'x'.*paper, mlperf",
        ),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        data.load(**settings)


@pytest.mark.parametrize(
    "part, message",
    [
        ({"batch_size": 0}, "`batch_size` must be at least 1, received 0"),
        ({"batch_size": 1, "start": -1}, "`start`"),
        ({"batch_size": 1, "shard": 2, "num_shards": 2}, "0 to 1, received 2"),
    ],
)
def test_bad_part_of_a_stream(part, message):
    with pytest.raises(ValueError, match=message):
        numbered().train(**part)


def small(shape, dtype=np.uint8, seed=0):
    generator = np.random.default_rng(seed)
    return generator.integers(0, 10, shape).astype(dtype)


@pytest.mark.parametrize(
    "images, labels, message",
    [
        (small((0, 4, 4, 1)), small(0), "received .0, 4, 4, 1. of uint8"),
        (small((5, 4, 0, 1)), small(5), "received .5, 4, 0, 1."),
        (small((5, 4, 4)), small(5), "received .5, 4, 4. of uint8"),
        (small((5, 4, 4, 1), float), small(5), "of float64"),
        (small((5, 3, 4, 1)), small(5), "images of .3, 4, 1., expected those"),
        (small((5, 4, 4, 1)), small(4), "expected 5 whole numbers .* .4,."),
        (small((5, 4, 4, 1)), small((5, 1)), "5 whole numbers .* .5, 1."),
        (small((5, 4, 4, 1)), small(5, float), "whole numbers .* of float64"),
    ],
)
def test_arrays_that_are_no_images(images, labels, message):
    good = arrays.Split(small((6, 4, 4, 1)), small(6), "good")
    bad = arrays.Split(images, labels, "bad")
    with pytest.raises(ValueError, match=f"bad: .*{message}"):
        arrays.ArraySource("x", good, bad, 10, 0, "none")


def test_one_grey_cannot_be_standardised():
    flat = arrays.Split(np.full((3, 2, 2, 1), 9, np.uint8), small(3), "flat")
    with pytest.raises(ValueError, match="flat: all pixels of a channel are"):
        arrays.ArraySource("x", flat, flat, 10, 0, "none")


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda c: c.pop("test_labels"),
            "has no array 'test_labels', only",
        ),
        (
            lambda c: c.update(train_offsets=c["train_offsets"][::-1]),
            "train_offsets: expected to rise from 0 to",
        ),
        (
            lambda c: c.update(train_offsets=c["train_offsets"] * 10**9),
            "train_offsets: expected to rise",
        ),
        (
            lambda c: c.update(test_labels=c["test_labels"][:-1]),
            ".*one of test_offsets more than labels, received uint8, 6 and 4",
        ),
        (
            lambda c: c.update(test_jpeg=c["test_jpeg"].astype(float)),
            "test_jpeg: expected a row of whole numbers, .* of float64",
        ),
        (
            lambda c: c.update(test_labels=np.array([[1, 2, 3, 4, 5]])),
            "test_labels: expected a row",
        ),
        (
            lambda c: c.update(test_labels=np.array(list("abcde"), object)),
            ".*test_labels.npy holds Python objects",
        ),
    ],
)
def test_bad_cifar10_npz(tmp_path, change, message):
    write_cifar_jpegs(tmp_path)
    path = tmp_path / "cifar10_jpeg.npz"
    content = dict(np.load(path))
    change(content)
    np.savez(path, **content)
    with pytest.raises(ValueError, match=f"cifar10_jpeg.npz: {message}"):
        data.load("cifar10", data_dir=str(tmp_path))


@pytest.mark.parametrize("form", ["PNG", "GIF", "size"])
def test_other_images_in_cifar10(tmp_path, form):
    write_cifar_jpegs(tmp_path)
    path = tmp_path / "cifar10_jpeg.npz"
    content = dict(np.load(path))
    side = 16 if form == "size" else 32
    buffer = io.BytesIO()
    Image.new("RGB", (side, side)).save(
        buffer, "JPEG" if form == "size" else form
    )
    encoded = np.frombuffer(buffer.getvalue(), np.uint8)
    content["test_jpeg"] = encoded
    content["test_offsets"] = np.array([0, len(encoded)])
    content["test_labels"] = np.array([3])
    np.savez(path, **content)
    with pytest.raises(ValueError, match="cifar10_jpeg.npz: test record 0: "):
        data.load("cifar10", data_dir=str(tmp_path))


@pytest.mark.parametrize("content", [b"", b"PK", b"\x93NUMPY\x01\x00v\x00{"])
def test_what_is_no_npz(tmp_path, content):
    (tmp_path / "cifar10_jpeg.npz").write_bytes(content)
    with pytest.raises(ValueError, match="cifar10_jpeg.npz: no whole .npz"):
        data.load("cifar10", data_dir=str(tmp_path))


@pytest.mark.parametrize(
    "content, message",
    [
        (b"cnothing.there\nname\n.", "UnpicklingError"),
        (b"cnumpy.nowhere\nndarray\n.", "ModuleNotFoundError"),
        (pickle.dumps({b"data": 1, b"labels": [1]}), "'int' object"),
        (pickle.dumps({b"data": np.zeros((1, 3072)), b"labels": [1]}), "float"),
        (pickle.dumps([1, 2]), "TypeError"),
        (b"r\xff\xff\xff\x7f.", "Error"),  # a memo of 2**31 entries
        (b"\x8e" + b"\xff" * 7 + b"\x0f", "Error"),  # 2**60 bytes
    ],
)
def test_other_pickles(tmp_path, content, message):
    folder = write_cifar(tmp_path, "py")
    spoil(folder, "test_batch", lambda _: content)
    with damage.limited():
        with pytest.raises(ValueError, match=f"test_batch: .*{message}"):
            data.load("cifar10", data_dir=folder)


def test_a_header_that_promises_much(tmp_path):
    """Neither the file nor what it promises is read into memory."""
    folder = write_mnist(tmp_path, gzip.open, ".gz")
    path = os.path.join(folder, "train-images-idx3-ubyte.gz")
    for shape in ((2**31, 2**31, 28), (12, 28, 28)):
        with gzip.open(path, "wb", 1) as file:
            file.write(bytes([0, 0, 8, 3]) + struct.pack(">3I", *shape))
            for _ in range(2**9):
                file.write(bytes(2**21))
        with damage.limited():
            with pytest.raises(ValueError, match="idx3-ubyte.gz: (its|has)"):
                data.load("mnist", data_dir=folder)


SMALL_FILES = {
    "mnist": ("train-images-idx3-ubyte", lambda f: write_mnist(f)),
    "mnist gz": (
        "t10k-images-idx3-ubyte.gz",
        lambda f: write_mnist(f, gzip.open, ".gz"),
    ),
    "cifar10": ("cifar10_jpeg.npz", write_cifar_jpegs),
    "cifar10 bin": ("data_batch_2.bin", lambda f: write_cifar(f, "bin")),
    "cifar10 py": ("data_batch_2", lambda f: write_cifar(f, "py")),
}


@damage.EXAMPLES
@pytest.mark.parametrize("kind", SMALL_FILES)
def test_damaged_small_sets(tmp_path, kind, examples):
    name, write = SMALL_FILES[kind]
    folder = write(tmp_path)
    path = tmp_path / name

    def read(_):
        source = data.load(kind.split()[0], data_dir=folder)
        source.check()
        next(source.train(2))

    damaged = damage.damaged_bytes(path.read_bytes())
    damage.try_reader(read, path, damaged, examples)


# ImageNet.


def picture(index):
    """A JPEG of its own size; every fifth is grey.

    Without subsampled colour, whose decoding depends on the crop's edge.
    """
    generator = np.random.default_rng(index)
    height, width = generator.integers(40, 90, 2)
    coarse = generator.integers(0, 256, (6, 7, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((int(width), int(height)))
    if index % 5 == 4:
        image = image.convert("L")
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90, subsampling=0)
    return buffer.getvalue()


def example(encoded, label, boxes=()):
    """Serialised, in the standard layout."""
    feature = {
        "image/encoded": tf.train.Feature(
            bytes_list=tf.train.BytesList(value=[encoded])
        ),
        "image/class/label": tf.train.Feature(
            int64_list=tf.train.Int64List(value=[label])
        ),
    }
    for side, name in enumerate(("ymin", "xmin", "ymax", "xmax")):
        feature[f"image/object/bbox/{name}"] = tf.train.Feature(
            float_list=tf.train.FloatList(value=[box[side] for box in boxes])
        )
    features = tf.train.Features(feature=feature)
    return tf.train.Example(features=features).SerializeToString()


BOXES = ((0.1, 0.2, 0.5, 0.6), (0.3, 0.3, 0.9, 0.8))
TRAIN = (5, 7, 6, 4)  # Records a file; example i of all has class i.
VALIDATION = (6, 7)


def write_imagenet(folder, change=lambda split, index, content: content):
    """Records as `example` makes them, where `change` does nothing else."""
    for split, counts in (("train", TRAIN), ("validation", VALIDATION)):
        index = 0
        for file, count in enumerate(counts):
            name = f"{split}-{file:05}-of-{len(counts):05}"
            with tf.io.TFRecordWriter(str(folder / name)) as writer:
                for _ in range(count):
                    content = example(
                        picture(index), index + 1, BOXES[: index % 3]
                    )
                    writer.write(change(split, index, content))
                    index += 1
    return str(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_imagenet(tmp_path_factory.mktemp("imagenet"))


def imagenet(folder, **settings):
    return data.load("imagenet", data_dir=folder, image_size=SIZE, **settings)


def rewrite_train(chain, index, key, **mutant):
    """What a training image should be, from the whole decoded image."""
    paper = chain == "paper"
    encoded = picture(index)
    boxes = [list(box) for box in BOXES[: index % 3]] or [[0, 0, 1, 1]]
    begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.image.extract_jpeg_shape(encoded),
        [[[0.0, 0.0, 1.0, 1.0]] if paper else boxes],
        seed=key,
        min_object_covered=0.1,
        aspect_ratio_range=mutant.get("aspect", (0.75, 1.33)),
        area_range=mutant.get("area", (0.05, 1.0)),
        max_attempts=mutant.get("attempts", 10 if paper else 100),
    )
    (top, left, _), (height, width, _) = begin.numpy(), size.numpy()
    image = tf.image.decode_jpeg(encoded, channels=3).numpy()
    image = image[top : top + height, left : left + width].astype(np.float32)
    inverse = tf.constant([~part for part in key], tf.int64)
    flip = tf.random.stateless_uniform([], seed=inverse) < 0.5
    flip_first = mutant.get("flip_first", not paper)
    if flip and flip_first:
        image = image[:, ::-1]
    if mutant.get("bicubic", paper):
        image = tf.raw_ops.ResizeBicubic(
            images=image[None], size=[SIZE, SIZE], half_pixel_centers=True
        )
    else:
        image = tf.raw_ops.ResizeBilinear(
            images=image[None],
            size=[SIZE, SIZE],
            half_pixel_centers=mutant.get("half_pixel_centers", paper),
        )
    image = image[0].numpy()
    if flip and not flip_first:
        image = image[:, ::-1]
    return normalised(chain, image)


def normalised(chain, image):
    image = image.astype(np.float64)
    if chain == "mlperf":
        return image - [123.68, 116.78, 103.94]
    image = image / 255 - [0.485, 0.456, 0.406]
    return image / [0.229, 0.224, 0.225]


TOLERANCE = {"paper": 1e-4, "mlperf": 5e-3}
MUTANTS = {
    "paper": [
        {"bicubic": False},
        {"attempts": 1},
        {"area": (0.08, 1.0)},
        {"aspect": (3 / 4, 4 / 3)},
    ],
    "mlperf": [
        {"flip_first": False},
        {"half_pixel_centers": True},
        {"bicubic": True},
        {"area": (0.08, 1.0)},
        {"aspect": (3 / 4, 4 / 3)},
    ],
}


@pytest.mark.parametrize("chain", ["paper", "mlperf"])
def test_training_images_equal_a_rewrite(folder, chain):
    source = imagenet(folder, preprocessing=chain, seed=9)
    images, labels = joined(take(source.train(4), 11))
    assert images.shape == (44, SIZE, SIZE, 3) and labels.dtype == np.int32

    def distance(**mutant):
        return max(
            abs(rewrite_train(chain, label, [9, position], **mutant) - image)
            .max()
            .item()
            for position, (image, label) in enumerate(zip(images, labels))
        )

    assert distance() < TOLERANCE[chain]
    for mutant in MUTANTS[chain]:
        assert distance(**mutant) > 100 * TOLERANCE[chain], mutant


def test_mlperf_evaluation_equals_model_garden():
    from official.legacy.image_classification.resnet import (
        imagenet_preprocessing as garden,
    )

    for index in range(6):
        found = preprocessing.CHAINS["mlperf"].evaluate(picture(index), 224)
        expected = garden.preprocess_image(
            picture(index), None, 224, 224, 3, is_training=False
        )
        np.testing.assert_allclose(found, expected, atol=1e-4)
        other = preprocessing.CHAINS["paper"].evaluate(picture(index), 224)
        assert abs(other - expected).numpy().max() > 1


@pytest.mark.parametrize("size", [SIZE, 224])
def test_paper_evaluation_equals_a_rewrite(size):
    for index in range(6):
        image = tf.image.decode_jpeg(picture(index), channels=3).numpy()
        height, width = image.shape[:2]
        crop = int(size / (size + 32) * min(height, width))
        top, left = (height - crop + 1) // 2, (width - crop + 1) // 2
        image = image[top : top + crop, left : left + crop]
        image = tf.raw_ops.ResizeBicubic(
            images=image[None], size=[size, size], half_pixel_centers=True
        )
        found = preprocessing.CHAINS["paper"].evaluate(picture(index), size)
        expected = normalised("paper", image[0].numpy())
        np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("chain", preprocessing.CHAINS)
@pytest.mark.parametrize(
    "size, height, width",
    [
        (SIZE, 1, 1),
        (SIZE, 1, 70),
        (SIZE, 70, 1),
        (SIZE, 27, 40),  # MLPerf's evaluation resizes the smaller side to 27.
        (1, 31, 33),  # The paper's takes 1 / 33 of 31 pixels.
        (3, 37, 41),
        (1, 1, 1),
    ],
)
def test_a_jpeg_of_any_size_is_good(chain, size, height, width):
    encoded = jpeg(np.full((height, width, 3), (200, 30, 90), np.uint8))
    colour = tf.image.decode_jpeg(encoded)[0, 0].numpy()
    expected = normalised(chain, np.tile(colour, (size, size, 1)))
    chain = preprocessing.CHAINS[chain]
    whole = tf.constant([preprocessing.WHOLE_IMAGE])
    for found in (
        chain.evaluate(encoded, size),
        chain.train(encoded, whole, tf.constant([0, 0]), size),
    ):
        np.testing.assert_allclose(found, expected, atol=5e-3)


def test_imagenet_stream_is_a_function_of_position(folder):
    source = imagenet(folder, seed=2)
    whole = joined(take(source.train(6), 13))
    assert equal([whole], [joined(take(source.train(26), 3))])
    # Into the first epoch, beyond it, and after another global seed.
    tf.random.set_seed(5)
    for start in (2, 9):
        tail = joined(take(imagenet(folder, seed=2).train(6, start), 2))
        expected = [part[6 * start :][:12] for part in whole]
        assert equal([expected], [tail])
    tf.random.set_seed(6)
    assert equal([whole], [joined(take(source.train(6), 13))])
    epochs = whole[1][:66].reshape(3, 22)
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(22))
    assert (epochs[0] != epochs[1]).any() and (epochs[1] != epochs[2]).any()
    other = joined(take(imagenet(folder, seed=3).train(6), 13))
    assert (other[1] != whole[1]).any()


def test_imagenet_shards_read_their_own_files(folder):
    source = imagenet(folder)
    files = np.split(np.arange(22), np.cumsum(TRAIN)[:-1])
    for shard in range(2):
        own = np.concatenate(files[shard::2])
        batches = take(source.train(4, 0, shard, 2), 8)
        labels = joined(batches)[1]
        for epoch in range(2):
            found = np.sort(labels[epoch * len(own) :][: len(own)])
            np.testing.assert_array_equal(found, own)
        assert equal(batches[5:], take(source.train(4, 5, shard, 2), 3))
    with pytest.raises(ValueError, match="4 training files, too few for 5"):
        source.train(4, 0, 4, 5)


@pytest.mark.parametrize("shards", [1, 3])
def test_imagenet_validation_covers_each_once(folder, shards):
    source = imagenet(folder)
    batches = [
        take(source.validation(4, shard, shards), -(-13 // (4 * shards)))
        for shard in range(shards)
    ]
    images, labels, weights = joined(sum(batches, []))
    np.testing.assert_array_equal(np.sort(labels[weights == 1]), np.arange(13))
    assert weights.sum() == 13 and weights.dtype == np.float32
    assert not images[weights == 0].any()
    evaluate = preprocessing.CHAINS["paper"].evaluate
    for image, label in zip(images[weights == 1], labels[weights == 1]):
        np.testing.assert_array_equal(image, evaluate(picture(label), SIZE))
    for shard in range(shards):
        found = source.validation(4, shard, shards)
        assert len(list(found)) == len(batches[shard])


def test_imagenet_check_and_count(folder):
    source = imagenet(folder)
    assert (source.num_train, source.num_validation) == (22, 13)
    assert "22 records in 4 files" in source.check()[0]
    given = imagenet(folder, num_train_examples=22)
    batches = take(source.train(8), 2)
    assert equal(batches, take(given.train(8), 2))
    assert equal(
        take(source.train(4, 3, 1, 2), 2), take(given.train(4, 3, 1, 2), 2)
    )
    with pytest.raises(ValueError, match="hold 22 records, expected 30"):
        imagenet(folder, num_train_examples=30).check()
    with pytest.raises(tf.errors.InvalidArgumentError, match="fewer than 30"):
        take(imagenet(folder, num_train_examples=30).train(8), 4)


def test_imagenet_from_tfds(tmp_path):
    import tensorflow_datasets as tfds

    features = {
        "image": tfds.features.Image(encoding_format="jpeg"),
        "label": tfds.features.ClassLabel(num_classes=1000),
        "file_name": tfds.features.Text(),
    }
    place = write_tfds(
        tmp_path,
        "imagenet2012",
        "5.1.0",
        features,
        picture,
        train=10,
        validation=6,
    )
    for path in (place, tmp_path):
        source = imagenet(f"tfds:{path}", seed=4)
        assert (source.num_train, source.num_validation) == (10, 6)
    source.check()
    images, labels = joined(take(source.train(5), 2))
    np.testing.assert_array_equal(np.sort(labels), np.arange(10))
    for position, (image, label) in enumerate(zip(images, labels)):
        expected = rewrite_train("paper", label, [4, position])
        np.testing.assert_allclose(image, expected, atol=1e-4)
    weights = joined(list(source.validation(4)))[2]
    assert weights.sum() == 6
    with pytest.raises(ValueError, match="`num_train_examples` is 11, .* 10"):
        imagenet(f"tfds:{place}", num_train_examples=11)


# Bad ImageNet input.


def breaking(*broken):
    """A change that cuts the JPEGs of (split, index) pairs short."""

    def change(split, index, content):
        if (split, index) not in broken:
            return content
        return example(picture(index)[:200], index + 1)

    return change


def test_broken_jpeg_is_named(tmp_path):
    place = write_imagenet(tmp_path, breaking(("train", 7), ("validation", 12)))
    source = imagenet(place)
    pattern = "train-00001-of-00004: record 2: broken JPEG"
    with pytest.raises(tf.errors.InvalidArgumentError, match=pattern):
        take(source.train(8), 4)
    pattern = "validation-00001-of-00002: record 6: broken JPEG"
    with pytest.raises(tf.errors.InvalidArgumentError, match=pattern):
        list(source.validation(8))


def test_broken_jpegs_are_replaced(tmp_path, folder):
    place = write_imagenet(
        tmp_path, breaking(("train", 7), ("train", 20), ("validation", 3))
    )
    with pytest.raises(
        tf.errors.InvalidArgumentError, match="number 2, max_bad_records is 1"
    ):
        take(imagenet(place, max_bad_records=1).train(6), 4)
    source = imagenet(place, max_bad_records=3)
    found = take(source.train(6), 12)
    for batch, whole in zip(found, take(imagenet(folder).train(6), 12)):
        bad = np.isin(whole[1], (7, 20))
        for slot in range(6):
            other = slot
            while bad[other]:
                other = (other + 1) % 6
            assert batch[1][slot] == whole[1][other]
            np.testing.assert_array_equal(batch[0][slot], whole[0][other])
    assert equal(found[7:], take(source.train(6, start=7), 5))
    images, labels, weights = joined(list(source.validation(5)))
    assert weights.sum() == 12 and not images[weights == 0].any()
    assert 3 not in labels[weights == 1]


def test_all_of_a_batch_broken(tmp_path):
    place = write_imagenet(
        tmp_path, breaking(*[("train", index) for index in range(22)])
    )
    source = imagenet(place, max_bad_records=50)
    with pytest.raises(tf.errors.InvalidArgumentError, match="none is left"):
        take(source.train(4), 1)
    with pytest.raises(ValueError, match="train-00000.*record 0: broken JPEG"):
        imagenet(place).check()


@pytest.mark.parametrize(
    "bad, message",
    [
        (example(picture(0), 1001), "record 3 has label 1001, exp.*1 to 1000"),
        (example(picture(0), 0), "record 3 has label 0, expected 1 to 1000"),
        (b"\x12nothing", "record 3: not a tf.train.Example with the features"),
    ],
)
def test_bad_record_is_named(tmp_path, bad, message):
    place = write_imagenet(
        tmp_path,
        lambda split, index, content: bad if index == 3 else content,
    )
    source = imagenet(place, max_bad_records=9)
    pattern = f"train-00000-of-00004: {message}"
    with pytest.raises(tf.errors.InvalidArgumentError, match=pattern):
        take(source.train(8), 4)


OTHER_FORMATS = {
    "PNG": "is a PNG",
    "GIF": "is a GIF",
    "BMP": "is a BMP",
    "WEBP": "is a WebP",
    "TIFF": "is a TIFF",
    "text": "is no image",
    "empty": "is no image",
}


def in_format(form):
    """Bytes of an image in it, or of none."""
    if form in ("text", "empty"):
        return b"<html>404 Not Found</html>" if form == "text" else b""
    buffer = io.BytesIO()
    Image.new("RGB", (50, 60), (200, 30, 90)).save(buffer, form)
    return buffer.getvalue()


@pytest.mark.parametrize("chain", preprocessing.CHAINS)
@pytest.mark.parametrize("form", OTHER_FORMATS)
def test_other_formats_are_named_everywhere(tmp_path, form, chain):
    content = in_format(form)
    bad = {("train", 6): 7, ("validation", 8): 9}

    def change(split, index, whole):
        label = bad.get((split, index))
        return example(content, label) if label else whole

    source = imagenet(write_imagenet(tmp_path, change), preprocessing=chain)
    train = f"train-00001-of-00004: record 1: .*{OTHER_FORMATS[form]}, exp"
    with pytest.raises(ValueError, match=train):
        source.check()
    source = imagenet(str(tmp_path), preprocessing=chain)
    with pytest.raises(tf.errors.InvalidArgumentError, match=train):
        take(source.train(8), 4)
    source = imagenet(str(tmp_path), preprocessing=chain)
    validation = "validation-00001-of-00002: record 2: "
    with pytest.raises(
        tf.errors.InvalidArgumentError,
        match=f"{validation}.*{OTHER_FORMATS[form]}, expected a JPEG",
    ):
        list(source.validation(8))


@pytest.mark.parametrize("chain", preprocessing.CHAINS)
@pytest.mark.parametrize(
    "form", [{"mode": "CMYK"}, {"mode": "L"}, {"progressive": True}]
)
def test_every_kind_of_jpeg_is_read(tmp_path, form, chain):
    settings = dict(form)
    image = Image.fromarray(small((64, 70, 3)) * 25)
    buffer = io.BytesIO()
    image.convert(settings.pop("mode", "RGB")).save(buffer, "JPEG", **settings)

    def change(split, index, whole):
        return example(buffer.getvalue(), 1) if index == 3 else whole

    source = imagenet(write_imagenet(tmp_path, change), preprocessing=chain)
    source.check()
    take(source.train(8), 3)
    assert sum(np.sum(weights) for _, _, weights in source.validation(8)) == 13


@pytest.mark.parametrize("label", [2**32 + 1, -(2**32) + 1, 2**63 - 1])
def test_labels_beyond_32_bits(tmp_path, label):
    place = write_imagenet(
        tmp_path,
        lambda split, index, content: (
            example(picture(0), label) if index == 3 else content
        ),
    )
    pattern = f"record 3 has label {label}, expected 1 to 1000"
    with pytest.raises(tf.errors.InvalidArgumentError, match=pattern):
        take(imagenet(place).train(8), 4)


def test_a_file_without_records_is_named(tmp_path):
    place = write_imagenet(tmp_path)
    spoil(place, "train-00002-of-00004", lambda content: b"")
    with pytest.raises(ValueError, match="train-00002-of-00004: holds no rec"):
        imagenet(place)
    with pytest.raises(ValueError, match="train-00002-of-00004: holds no rec"):
        imagenet(place, num_train_examples=16).check()


def test_a_damaged_checksum_is_named(tmp_path):
    place = write_imagenet(tmp_path)
    name = "train-00003-of-00004"
    spoil(place, name, lambda c: c[:-900] + bytes([c[-900] ^ 1]) + c[-899:])
    with pytest.raises(ValueError, match=f"{name}: record 3 is .* damaged"):
        imagenet(place).check()
    with pytest.raises(ValueError, match=f"{name}: record 3 is .* damaged"):
        imagenet(place).verify()


@damage.EXAMPLES
def test_damaged_tfrecords(tmp_path, examples):
    for split in ("train", "validation"):
        path = tmp_path / f"{split}-00000-of-00001"
        with tf.io.TFRecordWriter(str(path)) as writer:
            for index in range(2):
                writer.write(example(picture(index), index + 1, BOXES))
    path = tmp_path / "train-00000-of-00001"

    def read(_):
        imagenet(str(tmp_path), preprocessing="mlperf").check()

    damaged = damage.damaged_bytes(path.read_bytes())
    damage.try_reader(read, path, damaged, examples)


@pytest.mark.slow
@damage.EXAMPLES
def test_damaged_examples_in_whole_records(tmp_path, examples):
    """Past the checksums."""
    for split in ("train", "validation"):
        path = tmp_path / f"{split}-00000-of-00001"
        with tf.io.TFRecordWriter(str(path)) as writer:
            writer.write(example(picture(1), 5, BOXES))

    def read(path):
        record = tmp_path / "train-00000-of-00001"
        with tf.io.TFRecordWriter(str(record)) as writer:
            writer.write(path.read_bytes())
        imagenet(str(tmp_path), preprocessing="mlperf").check()

    damaged = damage.damaged_bytes(example(picture(1), 5, BOXES))
    # The message names the file of records.
    path = tmp_path / "00000-of-00001"
    damage.try_reader(read, path, damaged, examples)


def test_truncated_file_is_named(tmp_path):
    place = write_imagenet(tmp_path)
    name = "train-00002-of-00004"
    for kept, record in ((-1, 5), (-700, 5), (5, 0)):
        write_imagenet(tmp_path)
        spoil(place, name, lambda content, kept=kept: content[:kept])
        with pytest.raises(
            ValueError, match=f"{name}: record {record}, at byte .* cut short"
        ):
            imagenet(place)
    with pytest.raises(ValueError, match=f"{name}: record 0"):
        imagenet(place, num_train_examples=22).check()
    write_imagenet(tmp_path)
    spoil(place, name, lambda content: content[:-700])
    with pytest.raises(ValueError, match=f"{name}: record 5 is cut short"):
        tfrecords.count([f"file://{place}/{name}"])


def test_missing_files_are_named(tmp_path):
    with pytest.raises(ValueError, match="/nowhere is no folder; .*train-0000"):
        imagenet("/nowhere")
    with pytest.raises(ValueError, match=f"{tmp_path} has no train files"):
        imagenet(str(tmp_path))
    place = write_imagenet(tmp_path)
    os.remove(os.path.join(place, "train-00001-of-00004"))
    with pytest.raises(ValueError, match="train-00000-of-00003 to train-00002"):
        imagenet(place)


def test_record_counts_equal_tensorflow(folder):
    paths = records.find(folder, "train")
    assert tfrecords.count(paths) == list(TRAIN)
    # As what only tf.io.gfile can read.
    assert tfrecords.count(["file://" + path for path in paths]) == list(TRAIN)
    assert [
        sum(1 for _ in tf.data.TFRecordDataset(path)) for path in paths
    ] == list(TRAIN)


# Real data.

needs_data = pytest.mark.skipif(
    "LBCHECK_DATA" not in os.environ, reason="LBCHECK_DATA is not set"
)


@needs_data
@pytest.mark.parametrize(
    "name, sizes, means",
    [
        ("mnist", (60_000, 10_000), [0.1307]),
        ("cifar10", (50_000, 10_000), [0.4914, 0.4822, 0.4465]),
    ],
)
def test_real_arrays(name, sizes, means):
    source = data.load(name)
    assert (source.num_train, source.num_validation) == sizes
    np.testing.assert_allclose(source.mean / 255, means, atol=2e-3)


@needs_data
def test_real_imagenet_records():
    source = data.load("imagenet", preprocessing="mlperf")
    assert source.check()
    images, labels = take(source.train(8), 1)[0]
    assert images.shape == (8, 224, 224, 3) and len(set(labels)) == 8
