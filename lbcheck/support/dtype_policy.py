"""The dtype policy that a process has set, in either Keras.

A process that has set none goes by floatx. What Keras answers then is a policy
made of it; put back in place of none, it would stay whatever floatx becomes.
"""

import contextlib
from typing import Any


def read(keras: Any) -> Any:
    """The policy that was set; None where models go by floatx."""
    if keras.__name__ == "tf_keras":
        from tf_keras.src.mixed_precision import policy

        return policy._global_policy
    return _keras3().get_global_attribute("dtype_policy")


def write(keras: Any, policy: Any) -> None:
    """Sets what `read` gave, or a policy by name."""
    if keras.__name__ == "tf_keras":
        keras.mixed_precision.set_global_policy(policy)
    elif policy is None:
        _keras3().set_global_attribute("dtype_policy", None)
    else:
        keras.config.set_dtype_policy(policy)


@contextlib.contextmanager
def mixed(keras: Any, precision: str | None):
    """Within, models are built to compute in this type.

    Args:
        keras: The module of a Keras.
        precision: "bfloat16" or "float16"; None: as the process has it.
    """
    before = read(keras)
    if precision:
        write(keras, f"mixed_{precision}")
    try:
        yield
    finally:
        write(keras, before)


def _keras3():
    from keras.src.backend.common import global_state

    return global_state
