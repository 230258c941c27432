"""The order of the test files, and what each must leave as it was.

Those of minutes come first: otherwise one of two processes ends with such a
file while the other waits.
"""

import os
import sys

import pytest

from lbcheck.support import dtype_policy
from tests import programs

_FIRST = (
    "training_test.py",
    "trainer_test.py",
    "distribution_test.py",
    "compare_test.py",
)


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.name not in _FIRST)
    programs.collect_rarely()


@pytest.fixture(scope="module", autouse=True)
def process_is_left_as_it_was():
    """Whichever file comes next in this process relies on it."""
    before = _of_process()
    yield
    after = _of_process()
    changed = {name for name, value in before.items() if value != after[name]}
    assert not changed, {name: after[name] for name in changed}


def _of_process():
    found = {
        "folder": os.getcwd(),
        # Some libraries set variables of their own when they are imported.
        "environment": {
            name: value
            for name, value in os.environ.items()
            if name.startswith(("JAX_", "KERAS_", "LBCHECK_", "TF_CONFIG"))
        },
    }
    if "tensorflow" in sys.modules:
        import tensorflow as tf

        scope = tf.compat.v1.get_variable_scope()
        found["strategy"] = tf.distribute.has_strategy()
        found["caching device"] = scope.caching_device
    for name in ("keras", "tf_keras"):
        if name in sys.modules:
            keras = sys.modules[name]
            found[f"{name} type"] = keras.backend.floatx()
            # To ask Keras would set a policy, that of floatx.
            policy = dtype_policy.read(keras)
            floatx = found[f"{name} type"]
            found[f"{name} policy"] = policy.name if policy else floatx
    return found
