"""Model Garden, which BERT is built of: whether the one installed fits.

Its requirements are exact, and pip refuses others; but an environment may hold
a TensorFlow that is newer than the newest Model Garden.
"""

import importlib.metadata

_NAME = "tf-models-official"
_VERSION = "2.20"
"""Minor version of it, of TensorFlow and of tf-keras."""


def check() -> None:
    """Refuses an environment that the BERT programs cannot run in.

    Raises:
        ImportError: Says what is installed and what is expected.
    """
    found = {
        name: _installed(name) for name in (_NAME, "tensorflow", "tf-keras")
    }
    if all(
        f"{version}.".startswith(f"{_VERSION}.") for version in found.values()
    ):
        return
    said = ", ".join(f"{name} {version}" for name, version in found.items())
    raise ImportError(
        f"The BERT programs are built of Model Garden and need {_NAME} "
        f"{_VERSION} with tensorflow and tf-keras {_VERSION}; installed: "
        f"{said}. Install 'lbcheck[bert]' into an environment of its own."
    )


def _installed(name):
    # TensorFlow has distributions of several names, such as tensorflow-cpu.
    for variant in (name, f"{name}-cpu"):
        try:
            return importlib.metadata.version(variant)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "none"
