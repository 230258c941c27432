"""Which extra of lbcheck brings a library that is not installed."""

_EXTRAS = {
    "google_crc32c": "bert",
    "jax": "jax",
    "keras": "tensorflow",
    "official": "bert",
    "safetensors": "bert",
    "tensorflow": "tensorflow",
    "tensorflow_datasets": "datasets",
    "tensorflow_text": "bert",
    "tf_keras": "tensorflow",
    "torch": "torch",
}
"""{module: the smallest extra that has it}."""

_WITHOUT_TENSORFLOW = (
    " Studies of models of Keras 3 do without TensorFlow: --keras=keras3, with "
    "KERAS_BACKEND=jax or torch in the environment."
)


def missing(error: ModuleNotFoundError) -> str | None:
    """What to install; None where the module is not one of the extras.

    >>> missing(ModuleNotFoundError(name="safetensors"))
    "safetensors is not installed: pip install 'lbcheck[bert]' brings it."
    """
    name = (error.name or "").partition(".")[0]
    if error.name != name or name not in _EXTRAS:
        return None
    extra = _EXTRAS[name]
    further = _WITHOUT_TENSORFLOW if extra == "tensorflow" else ""
    return (
        f"{name} is not installed: pip install 'lbcheck[{extra}]' brings "
        f"it.{further}"
    )
