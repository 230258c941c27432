"""Where no dtype policy is set, floatx decides, before and after a call."""

import keras
import pytest
import tf_keras

from lbcheck.support import dtype_policy
from lbcheck.support import random_state

KERAS = {"keras3": keras, "tf_keras": tf_keras}


@pytest.fixture(params=KERAS)
def library(request):
    """A Keras in which no policy is set."""
    found = KERAS[request.param]
    before = dtype_policy.read(found)
    dtype_policy.write(found, None)
    yield found
    dtype_policy.write(found, before)
    found.backend.set_floatx("float32")


def dtype(library):
    library.backend.set_floatx("float64")
    layer = library.layers.Dense(1)
    layer.build((None, 1))
    return str(layer.kernel.dtype)


def test_floatx_decides_within_what_is_kept_and_after_it(library):
    with random_state.kept():
        assert "float64" in dtype(library)
        dtype_policy.write(library, "mixed_bfloat16")
    assert dtype_policy.read(library) is None
    assert "float64" in dtype(library)


@pytest.mark.parametrize("precision", ["bfloat16", None])
def test_a_type_is_of_its_block_alone(library, precision):
    with dtype_policy.mixed(library, precision):
        name = library.layers.Dense(1).compute_dtype
        assert name == (precision or "float32")
    assert "float64" in dtype(library)


def test_a_policy_that_is_set_comes_back(library):
    dtype_policy.write(library, "float16")
    with dtype_policy.mixed(library, "bfloat16"), random_state.kept():
        dtype_policy.write(library, "float64")
    assert dtype_policy.read(library).name == "float16"
