"""Ghost batch normalisation in both Kerases, against float64 NumPy."""

import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import lbcheck
from resnet import ghost_batch_norm

ROOT = str(pathlib.Path(__file__).parents[2])
BOTH = pytest.mark.parametrize(
    "kind", [keras, tf_keras], ids=["keras3", "tf_keras"]
)
CLOSE = 2e-5
EPSILON = 1e-3  # large enough to be seen


def problem(batch=8, image=(3, 2), channels=5):
    """Inputs whose groups differ in mean and spread, and what comes back."""
    generator = np.random.default_rng(batch)
    x = generator.normal(size=(batch, *image, channels))
    offsets = generator.normal(size=(batch, *[1] * len(image), channels))
    x = x * generator.uniform(0.5, 2, size=offsets.shape) + offsets
    upstream = generator.normal(size=x.shape)
    gamma, beta = generator.normal(size=(2, channels)) + 1
    return [a.astype("float32") for a in (x, upstream, gamma, beta)]


def reference(
    x,
    upstream,
    gamma,
    beta,
    size,
    momentum=0.9,
    updates=1,
    running_variance="within",
    strided=False,
    bessel=False,
    swapped=False,
):
    """Outputs, gradients and moving statistics, one group after another."""
    x, upstream = x.astype("float64"), upstream.astype("float64")
    axes = tuple(range(x.ndim - 1))
    batch = len(x)
    order = np.arange(batch).reshape(batch // size, size)
    if strided:
        order = np.arange(batch).reshape(size, batch // size).T
    y, dx = np.zeros_like(x), np.zeros_like(x)
    dgamma, dbeta = np.zeros(len(gamma)), np.zeros(len(gamma))
    means, variances = [], []
    for rows in order:
        mean, variance = x[rows].mean(axes), x[rows].var(axes)
        scale = 1 / np.sqrt(variance + EPSILON)
        normal = (x[rows] - mean) * scale
        y[rows] = gamma * normal + beta
        dy = upstream[rows] * gamma
        dx[rows] = scale * (
            dy - dy.mean(axes) - normal * (dy * normal).mean(axes)
        )
        dgamma += (upstream[rows] * normal).sum(axes)
        dbeta += upstream[rows].sum(axes)
        samples = x[rows][..., 0].size
        variances.append(variance * (samples / (samples - 1) if bessel else 1))
        means.append(mean)
    mean, variance = np.mean(means, 0), np.mean(variances, 0)
    if running_variance == "total":
        variance = x.var(axes)
    kept = (1 - momentum if swapped else momentum) ** updates
    return {
        "y": y,
        "dx": dx,
        "dgamma": dgamma,
        "dbeta": dbeta,
        "moving_mean": (1 - kept) * mean,
        "moving_variance": kept + (1 - kept) * variance,
    }


def make(kind, size, gamma=None, beta=None, **settings):
    """A layer with given gamma and beta."""
    layer = ghost_batch_norm.of(kind)(
        virtual_batch_size=size, epsilon=EPSILON, **settings
    )
    if gamma is not None:
        layer.build((None, 3, 2, len(gamma)))
        layer.gamma.assign(gamma)
        layer.beta.assign(beta)
    return layer


def tensor(variable):
    """What a gradient tape watches of a variable of either Keras."""
    return variable if isinstance(variable, tf.Variable) else variable.value


def distance(found, exact):
    """Largest difference of any of the arrays."""
    return max(np.abs(found[name] - exact[name]).max() for name in exact)


def run(kind, case, size, updates=1, mode="known", **settings):
    """The layer's counterpart of `reference`.

    Args:
        mode: Whether the batch size is "known" or "unknown" as the graph is
            built, and compiled with "xla".
    """
    x, upstream, gamma, beta = case
    layer = make(kind, size, gamma, beta, **settings)
    unknown = tf.TensorSpec([None, *x.shape[1:]])
    known = tf.TensorSpec(x.shape)

    @tf.function(
        input_signature=[unknown if "unknown" in mode else known] * 2,
        jit_compile="xla" in mode,
    )
    def step(x, upstream):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True)
        sources = [x, *(tensor(v) for v in (layer.gamma, layer.beta))]
        return y, tape.gradient(y, sources, upstream)

    for _ in range(updates):
        y, (dx, dgamma, dbeta) = step(tf.constant(x), tf.constant(upstream))
    return {
        "y": y,
        "dx": dx,
        "dgamma": dgamma,
        "dbeta": dbeta,
        "moving_mean": layer.moving_mean,
        "moving_variance": layer.moving_variance,
    }


@BOTH
@pytest.mark.parametrize(
    "mode", ["known", "unknown", "known xla", "unknown xla"]
)
@pytest.mark.parametrize("running_variance", ["within", "total"])
def test_equals_each_group_alone(kind, mode, running_variance):
    case = problem()
    settings = {"running_variance": running_variance, "momentum": 0.7}
    found = run(kind, case, 2, updates=3, mode=mode, **settings)
    exact = reference(*case, 2, updates=3, **settings)
    assert distance(found, exact) < CLOSE


@BOTH
@pytest.mark.parametrize("size", [1, 2, 40, None])
@pytest.mark.parametrize("mode", ["known", "unknown"])
def test_group_sizes(kind, size, mode):
    """Few and many groups, and one, which take different kernels."""
    case = problem(40)
    found = run(kind, case, size, mode=mode)
    assert distance(found, reference(*case, size or 40)) < CLOSE


@BOTH
@pytest.mark.parametrize(
    "mutant",
    [
        {"strided": True},
        {"bessel": True},
        {"swapped": True},
        {"running_variance": "total"},
        {"size": 4},
        {"size": 8},
        {"updates": 4},
    ],
    ids=str,
)
def test_mutants_fail(kind, mutant):
    """The comparisons above would see each of these errors."""
    case = problem()
    found = run(kind, case, 2, momentum=0.7)
    wrong = reference(*case, **{"size": 2, "momentum": 0.7} | mutant)
    assert distance(found, wrong) > 100 * CLOSE


@BOTH
def test_equals_plain_batch_norm_of_each_group(kind):
    x, _, gamma, beta = problem()
    layer = make(kind, 4, gamma, beta)
    plain = kind.layers.BatchNormalization(epsilon=EPSILON)
    plain.build(x.shape)
    plain.gamma.assign(gamma)
    plain.beta.assign(beta)
    expected = [plain(half, training=True) for half in np.split(x, 2)]
    found = layer(x, training=True)
    np.testing.assert_allclose(found, np.concatenate(expected), atol=CLOSE)


@BOTH
@pytest.mark.parametrize("shape", [(6, 5), (6, 4, 5), (6, 2, 2, 3, 5)])
def test_any_rank(kind, shape):
    case = problem(6, shape[1:-1])
    layer = ghost_batch_norm.of(kind)(virtual_batch_size=3, epsilon=EPSILON)
    layer.build(shape)
    layer.gamma.assign(case[2])
    layer.beta.assign(case[3])
    y = layer(case[0], training=True)
    assert tuple(y.shape) == shape
    np.testing.assert_allclose(y, reference(*case, 3)["y"], atol=CLOSE)


@BOTH
@pytest.mark.parametrize("batch", [1, 3, 7])
def test_inference_takes_any_batch(kind, batch):
    x, _, gamma, beta = problem()
    layer = make(kind, 4, gamma, beta)
    layer.moving_mean.assign(mean := np.linspace(-1, 1, 5))
    layer.moving_variance.assign(variance := np.linspace(0.1, 3, 5))
    x = x[:batch]
    exact = gamma * (x - mean) / np.sqrt(variance + EPSILON) + beta
    np.testing.assert_allclose(layer(x), exact, atol=CLOSE)
    layer.trainable = False
    np.testing.assert_allclose(layer(x, training=True), exact, atol=CLOSE)
    np.testing.assert_array_equal(layer.moving_mean, np.float32(mean))


@BOTH
def test_bfloat16_computes_statistics_in_float32(kind):
    x, upstream, gamma, beta = problem(64)
    x = tf.cast(x + 30, tf.bfloat16)  # 8 bits hold neither sum nor square
    layer = make(kind, 16, gamma, beta, dtype="mixed_bfloat16")
    y = layer(x, training=True)
    x = tf.cast(x, tf.float64).numpy()
    exact = reference(x, upstream, gamma, beta, 16)
    assert y.dtype == tf.bfloat16
    for variable in layer.weights:
        assert tf.as_dtype(variable.dtype) == tf.float32
    np.testing.assert_allclose(
        layer.moving_mean, exact["moving_mean"], rtol=1e-5
    )
    np.testing.assert_allclose(
        layer.moving_variance, exact["moving_variance"], rtol=1e-4
    )
    # One rounding of the output, of 8 bits.
    np.testing.assert_allclose(
        tf.cast(y, tf.float64), exact["y"], rtol=2**-8, atol=2**-12
    )


@BOTH
@pytest.mark.parametrize("mode", ["known", "unknown"])
def test_batch_that_is_no_multiple(kind, mode):
    with pytest.raises(
        (ValueError, tf.errors.InvalidArgumentError),
        match=r"virtual_batch_size=3 does not divide(.|\n)*8",
    ):
        run(kind, problem(), 3, mode=mode)


@BOTH
def test_batch_that_is_no_multiple_under_xla(kind):
    """XLA knows no assertions; 8 x 6 pixels could be cut in 2 without one."""
    with pytest.raises(tf.errors.InvalidArgumentError, match="reshape"):
        run(kind, problem(), 3, mode="unknown xla")


@BOTH
@pytest.mark.parametrize(
    "setting, value",
    [
        ("virtual_batch_size", 0),
        ("virtual_batch_size", 2.5),
        ("momentum", 1.5),
        ("epsilon", 0.0),
        ("running_variance", "between"),
    ],
)
def test_bad_settings(kind, setting, value):
    with pytest.raises(ValueError, match=f"{setting}.*received {value!r}"):
        ghost_batch_norm.of(kind)(**{setting: value})


@BOTH
def test_saved_and_loaded(kind, tmp_path):
    settings = {
        "virtual_batch_size": 2,
        "momentum": 0.7,
        "epsilon": 0.01,
        "running_variance": "total",
    }
    layer = ghost_batch_norm.of(kind)(
        gamma_initializer=kind.initializers.Constant(0.25),
        beta_regularizer=kind.regularizers.L2(0.5),
        **settings,
    )
    model = kind.Sequential([kind.layers.Input((3,)), layer])
    x = np.arange(12, dtype="float32").reshape(4, 3)
    model(x, training=True)
    model.save(tmp_path / "model.keras")
    loaded = kind.models.load_model(tmp_path / "model.keras")
    config = loaded.layers[-1].get_config()
    assert {name: config[name] for name in settings} == settings
    assert config == layer.get_config()
    np.testing.assert_array_equal(loaded.layers[-1].gamma, [0.25] * 3)
    np.testing.assert_array_equal(loaded(x), model(x))
    assert np.abs(layer.moving_mean).min() > 0


@BOTH
def test_default_exclusions_hold_for_it(kind):
    model = kind.Sequential(
        [
            kind.layers.Input((4,)),
            kind.layers.Dense(3),
            ghost_batch_norm.of(kind)(),
        ]
    )
    room = getattr(lbcheck, "keras3" if kind is keras else "tf_keras")
    optimizer = room.LAMB(
        weight_decay=0.1, exclude_from_weight_decay=lbcheck.BIAS_AND_NORM
    )
    audit = lbcheck.audit(model, optimizer)
    decayed = {row.path.rpartition("/")[2]: row.decayed for row in audit.rows}
    assert decayed == {
        "kernel": True,
        "bias": False,
        "gamma": False,
        "beta": False,
    }
    assert not audit.findings


def test_replicas_share_no_statistics(tmp_path):
    subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.resnet.resnet_models_worker",
            "replicas",
            str(tmp_path),
        ],
        cwd=ROOT,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        check=True,
        timeout=300,
    )
    found = np.load(tmp_path / "results.npz")
    halves = np.split(found["inputs"].astype("float64"), 2)
    means = np.stack([half.mean((0, 1, 2)) for half in halves])
    variances = np.stack([half.var((0, 1, 2)) for half in halves])
    exact = np.concatenate(
        [
            (half - mean) / np.sqrt(variance + 1e-5)
            for half, mean, variance in zip(halves, means, variances)
        ]
    )
    np.testing.assert_allclose(found["outputs"], exact, atol=CLOSE)
    np.testing.assert_allclose(found["replica_means"], 0.1 * means, atol=1e-6)
    np.testing.assert_allclose(
        found["moving_mean"], 0.1 * means.mean(0), atol=1e-6
    )
    np.testing.assert_allclose(
        found["moving_variance"], 0.9 + 0.1 * variances.mean(0), atol=1e-6
    )
