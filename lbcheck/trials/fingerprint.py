"""What a study is about, in numbers: another model or other data is noticed.

The call that goes on with a study builds the model and looks at the data
again. What it sees must be what study.json says was seen when the study
began:

layers   class and configuration of every layer, as digests
numbers  loss and metrics of the new model on one fixed batch at the study's
         seed, before, during and after one update: they see an edited loss,
         activation, initializer, augmentation or train_step
data     the first and the last batch, and how many examples there are; of
         data that come in another order each time, means and deviations
code     bytecode of the user's own classes and functions

`fingerprint_difference` compares two.
"""

import hashlib
import itertools
import json
import math
import time
import types

import numpy as np

from lbcheck.search.arm import Arm
from lbcheck.support import kerases
from lbcheck.support import random_state
from lbcheck.trials import code
from lbcheck.trials import content
from lbcheck.trials import fingerprint_difference
from lbcheck.trials import user_model as models

_SECONDS = 2
"""Time that the last batch of a stream may take to come."""
_SAMPLE = 512
"""Examples of a random stream, at least, unless it ends before."""


def of(trainer, seed: int) -> dict:
    """The fingerprint of a trainer's workload and arms, JSON-able.

    Args:
        trainer: `lbcheck.trials.trainer.Trainer`.
        seed: The study's.

    Raises:
        ValueError: The user's code fails; says where.
    """
    with random_state.kept():
        model, train, validation = trainer.fresh(seed)
        with kerases.no_tensorflow():
            layers = _layers(model)
        try:
            numbers = _numbers(model, _first(validation))
            size = None
        except Exception:
            # Some train on whole batches only. A mistake comes again.
            size = train.batch_size
            model, *_ = trainer.fresh(seed)
            numbers = _numbers(model, _whole(_first(validation), size))
        # What the seed does not decide says nothing.
        again, *_ = trainer.fresh(seed)
        example = _whole(_first(validation), size)
        return {
            "layers": layers,
            "numbers": _agreed(numbers, _numbers(again, example)),
            "tolerance": fingerprint_difference.TOLERANCE[models.bits(model)],
            "data": {
                "train": _data(train),
                "validation": _data(validation),
                **({"test": _data(trainer.test)} if trainer.test else {}),
            },
            "code": {
                # What it refers to may grow with every build.
                "the model": f"{code.digest(type(model))} "
                + code.digest(trainer.build_model, data=False),
                **{
                    f"arm {name}": code.digest(*arm.sources())
                    for name, arm in trainer.arms.items()
                },
            },
        }


def _whole(batch, size):
    """The batch, its examples repeated or left out to be `size`, if any."""
    arrays = content.leaves(batch)
    if size is None or not all(hasattr(leaf, "__array__") for leaf in arrays):
        return batch

    def resized(leaf):
        values = np.resize(leaf, (size, *leaf.shape[1:]))
        if isinstance(leaf, np.ndarray):
            return values
        import tensorflow as tf

        return tf.constant(values)

    return content.tree_map(resized, batch)


def _layers(model):
    """[[name, class, digest of the configuration]] of every layer."""
    found = []
    for layer in getattr(model, "layers", []):
        kind = type(layer)
        found.append(
            [layer.name, kind.__name__, _digest(_configuration(layer))]
        )
        if getattr(layer, "layers", None):
            found += _layers(layer)
    return found


def _configuration(layer):
    try:
        config = layer.get_config()
    except Exception:
        return None  # a subclassed one may have none; the numbers see it
    function = getattr(layer, "function", None)
    if isinstance(config, dict) and isinstance(function, types.FunctionType):
        # Of a Lambda, whose configuration holds its lines' numbers.
        config = {**config, "function": code.digest(function)}
    return config


def _digest(value):
    text = json.dumps(value, sort_keys=True, default=_plain, skipkeys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(value):
    """A part of a configuration that is not JSON-able; no address in it."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, (type, types.FunctionType)):
        return code.digest(value)
    if hasattr(value, "get_config"):
        return [type(value).__name__, value.get_config()]
    return type(value).__name__


def _numbers(model, example):
    """{name: [before, during, after an update]} on one batch."""
    _make_optimizer(model)
    seen = [_logs(model, step, example) for step in ("test", "train", "test")]
    return {
        name: [_finite(logs.get(name)) for logs in seen]
        for name in seen[0] | seen[1]
    }


def _make_optimizer(model):
    plain = Arm("step", "momentum", {"learning_rate": {"value": 0.01}})
    models.make_optimizer(model, plain, {"learning_rate": 0.01}, 1, 0)


def trained(model, example) -> dict[str, float]:
    """What a step of training reports, after which the model is of no use.

    {} of one that fails: some take whole batches only, and a mistake comes
    again.
    """
    try:
        _make_optimizer(model)
        return _logs(model, "train", example)
    except Exception:
        return {}


def _logs(model, step, example):
    """{name: number} that the model's own step reports on one batch."""
    model.reset_metrics()
    if models.on_tensorflow(model):
        logs = getattr(model, f"{step}_step")(example)
    else:
        logs = getattr(model, f"{step}_on_batch")(*example, return_dict=True)
    # A train_step of the user's may also report what no trial records.
    return models.flat(
        {n: v for n, v in logs.items() if np.size(v) <= models.LARGEST_METRIC}
    )


def _agreed(one, other):
    """The numbers that came out twice, None for the others."""
    return {
        name: [
            a if fingerprint_difference.close(a, b) else None
            for a, b in zip(values, other[name])
        ]
        for name, values in one.items()
        if name in other
    }


def _finite(value):
    if value is None or not math.isfinite(value):
        return None if value is None else str(float(value))
    return float(value)


def _data(feed):
    """Digests of arrays; for a stream, what its batches hold."""
    if feed.count is not None:
        return {"arrays": feed.describe()}
    if comes_anew(feed):
        return {"sample": _sample(feed)}
    return {"first": _batch(_first(feed)), **_end(feed)}


def comes_anew(feed, batches: int = 1, passes: int = 2) -> bool:
    """Whether data come in another order, or otherwise, each time.

    Args:
        feed: A stream, or arrays.
        batches: How many are looked at.
        passes: How often; few batches may come in the same order by chance.
    """

    def seen():
        return [
            _batch(batch) for batch in itertools.islice(feed.batches(), batches)
        ]

    first = seen()
    return any(seen() != first for _ in range(passes - 1))


def _first(feed):
    """The first batch; of a stream read anew, which may be random."""
    return feed.example() if feed.count else next(iter(feed.batches()))


def _end(feed):
    """The last batch and the number of batches, if they come soon."""
    limit = time.monotonic() + _SECONDS
    last, count = None, 0
    for batch in feed.batches():
        last, count = batch, count + 1
        if time.monotonic() > limit:
            return {"last": None, "batches": None}
    return {"last": last if last is None else _batch(last), "batches": count}


def _batch(batch):
    """One row per leaf: its shape and a digest, or sums of floating numbers."""
    return [_leaf(np.asarray(leaf)) for leaf in _leaves(batch)]


def _leaf(array):
    kind = [list(array.shape), str(array.dtype)]
    if array.dtype.kind == "f":
        flat = array.astype(np.float64).ravel()
        weights = np.random.default_rng(0).normal(size=flat.size)
        projection = float(weights @ flat) / math.sqrt(max(1, flat.size))
        return [*kind, [_finite(x) for x in (*_moments(flat), projection)]]
    if array.dtype.kind in "OSU":
        content = "\0".join(map(str, array.ravel())).encode()
    else:
        content = array.tobytes()
    return [*kind, hashlib.sha256(content).hexdigest()[:16]]


def _moments(flat):
    return (flat.mean(), flat.std()) if flat.size else (0.0, 0.0)


def _sample(feed):
    """[[type, mean, deviation, and the errors of both]], by leaf."""
    rows, count = [], 0
    limit = time.monotonic() + _SECONDS
    for batch in itertools.islice(feed.batches(), _SAMPLE):
        leaves = [np.asarray(leaf) for leaf in _leaves(batch)]
        rows.append([_by_example(leaf) for leaf in leaves])
        count += len(leaves[0])
        if count >= _SAMPLE or time.monotonic() > limit:
            break
    return [[str(parts[0][1]), *_spread(parts)] for parts in zip(*rows)]


def _by_example(array):
    """(means, deviations) of each example of a numeric leaf."""
    if array.dtype.kind not in "fiub":
        return np.zeros((len(array), 2)), array.dtype
    flat = array.astype(np.float64).reshape(len(array), -1)
    return np.stack([flat.mean(1), flat.std(1)], axis=1), array.dtype


def _spread(parts):
    values = np.concatenate([values for values, _ in parts])
    error = values.std(axis=0) / math.sqrt(len(values))
    return [_finite(x) for x in (*values.mean(axis=0), *error)]


def _leaves(structure):
    if structure is None:
        return []
    if isinstance(structure, dict):
        return [x for key in sorted(structure) for x in _leaves(structure[key])]
    if isinstance(structure, (list, tuple)):
        return [x for part in structure for x in _leaves(part)]
    return [_dense(structure)]


def _dense(leaf):
    """The array of a leaf; of a ragged or sparse one its values."""
    for name in ("flat_values", "values"):
        if hasattr(leaf, name) and not isinstance(leaf, np.ndarray):
            inner = getattr(leaf, name)
            return inner() if callable(inner) else inner
    return leaf
