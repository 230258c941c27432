"""The random state of a process: kept for the caller, set for a build.

What counts as random state: the generators of Python, NumPy, TensorFlow,
torch and both Kerases, and the counters that make names of layers unique.
The dtype policy of a Keras, which a build may set, is kept as well. Of
frameworks that are not loaded nothing is kept.

Neither TensorFlow nor Keras has a public way to read its seeds, so that this
file, and no other, knows where they are.
"""

import contextlib
import random
import sys

import numpy as np

from lbcheck.support import dtype_policy

_KERAS3 = ("global_random_seed", "global_seed_generator", "object_name_uids")


@contextlib.contextmanager
def kept():
    """Within, random state may be changed; after, it is as it was."""
    with contextlib.ExitStack() as stack:
        for name in loaded():
            _KEEP[name](stack.callback)
        yield


def loaded() -> list[str]:
    """The frameworks that `begin` and `kept` act on now."""
    return [name for name in _KEEP if name in sys.modules]


def begin(seed: int) -> None:
    """Sets the state to that of a process which begins with this seed.

    Equal to `set_random_seed(seed)` of both Kerases at the start of a
    process, in tf_keras with `enable_tf_random_generator()` before it; call
    it within `kept`.
    """
    begin_python(seed)
    if "tensorflow" in sys.modules:
        tf = sys.modules["tensorflow"]
        # Also lets stateful kernels of an earlier build begin anew.
        tf.random.set_seed(seed)
        tf.random.set_global_generator(tf.random.Generator.from_seed(seed))
    if "tf_keras" in sys.modules:
        from tf_keras.src import backend

        backend._SEED_GENERATOR.generator = random.Random(seed)
        backend.reset_uids()
        # Without it, dropout draws from state that cannot be reset.
        backend.enable_tf_random_generator()
    if "keras" in sys.modules:
        for name in _KERAS3:
            _keras3().set_global_attribute(name, None)
        _keras3().set_global_attribute("global_random_seed", seed)


def begin_data(seed: int) -> None:
    """The part of `begin` that data take their seeds from.

    No kernel begins anew, so that what draws in a model goes on.
    """
    begin_python(seed)
    if "tensorflow" in sys.modules:
        from tensorflow.python.eager import context

        eager = context.context()
        eager._seed, eager._rng = seed, random.Random(seed)


def begin_python(seed: int) -> None:
    """The part of `begin` that Python, NumPy and torch draw from."""
    random.seed(seed)
    np.random.seed(seed)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)


def _keep_python(later):
    later(random.setstate, random.getstate())
    later(np.random.set_state, np.random.get_state())


def _keep_torch(later):
    torch = sys.modules["torch"]
    later(torch.set_rng_state, torch.get_rng_state())


def _keep_tensorflow(later):
    from tensorflow.python.eager import context
    from tensorflow.python.ops import stateful_random_ops as shared

    eager = context.context()
    state = eager._rng.getstate() if hasattr(eager, "_rng") else None

    def restore(seed, generator):
        eager._seed = seed
        if generator is not None:
            eager._rng = generator
            generator.setstate(state)

    later(restore, eager._seed, getattr(eager, "_rng", None))
    later(setattr, shared, "global_generator", shared.global_generator)


def _keep_tf_keras(later):
    import tf_keras
    from tf_keras.src import backend

    seeds = backend._SEED_GENERATOR
    before = getattr(seeds, "generator", None)
    later(setattr, seeds, "generator", before)
    if before is not None:
        later(before.setstate, before.getstate())
    counters = backend.PER_GRAPH_OBJECT_NAME_UIDS
    later(counters.update, {k: v.copy() for k, v in counters.items()})
    later(backend.OBSERVED_NAMES.update, set(backend.OBSERVED_NAMES))
    later(backend.reset_uids)
    if not backend.is_tf_random_generator_enabled():
        later(backend.disable_tf_random_generator)
    later(dtype_policy.write, tf_keras, dtype_policy.read(tf_keras))


def _keep_keras3(later):
    import keras

    for name in _KERAS3:
        value = _keras3().get_global_attribute(name)
        if name == "object_name_uids" and value is not None:
            value = value.copy()
        later(_keras3().set_global_attribute, name, value)
    later(dtype_policy.write, keras, dtype_policy.read(keras))


def _keras3():
    from keras.src.backend.common import global_state

    return global_state


_KEEP = {
    "numpy": _keep_python,
    "torch": _keep_torch,
    "tensorflow": _keep_tensorflow,
    "tf_keras": _keep_tf_keras,
    "keras": _keep_keras3,
}
