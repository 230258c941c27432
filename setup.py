"""Package definition of lbcheck."""

import pathlib
import re

import setuptools

_HERE = pathlib.Path(__file__).parent
_VERSION = re.search(
    r'__version__ = "(.+)"', (_HERE / "lbcheck/__init__.py").read_text()
).group(1)

# Each tf-keras asks itself for the TensorFlow of its own minor version, which
# no requirement here can say.
_TENSORFLOW = [
    "tensorflow>=2.20,<2.22",
    "tf-keras>=2.20,<2.22",
    "keras>=3.10",
]
_JAX = ["jax>=0.4.30", "keras>=3.10"]
_TORCH = ["keras>=3.10", "torch>=2.6"]
# Model Garden's own requirement is TensorFlow 2.20.
_BERT = [
    *_TENSORFLOW,
    "google-crc32c>=1.5",
    "safetensors>=0.5.3",
    "tf-models-official>=2.20,<2.21",
]
# tensorflow-datasets imports importlib_resources without saying so.
_DATASETS = ["tensorflow-datasets>=4.9", "importlib_resources"]

_DOCS = ["mkdocs>=1.6,<2", "mkdocs-material>=9.6", "mkdocstrings[python]>=0.29"]

# lbcheck/support/shipped.py finds them, here or installed.
_SHIPPED = {
    f"lbcheck.shipped.{folder.replace('/', '.')}": folder
    for folder in ("docs/reproductions", "flags")
}
_ROOMS = ("bert", "lbcheck", "resnet")

setuptools.setup(
    name="lbcheck",
    version=_VERSION,
    description="The large-batch optimizer reality check for Keras",
    license="Apache-2.0",
    license_files=["LICENSE"],
    keywords="keras tensorflow large-batch optimizer LARS LAMB ResNet BERT",
    # Add the repository once it has a public address.
    project_urls={"Paper": "https://arxiv.org/abs/2102.06356"},
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Environment :: Console",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX",
        "Programming Language :: Python :: 3 :: Only",
        *(f"Programming Language :: Python :: 3.{n}" for n in range(10, 15)),
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    long_description=(_HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    packages=[
        *setuptools.find_packages(
            include=[f"{room}{n}" for room in _ROOMS for n in ("", ".*")]
        ),
        *_SHIPPED,
    ],
    package_dir=_SHIPPED,
    package_data={
        **dict.fromkeys(_SHIPPED, ["**/*"]),
        "bert": ["py.typed", "squad_data/embedded/*.json"],
        "lbcheck": ["py.typed"],
        "lbcheck.conform": ["*.json"],
        "lbcheck.figures": ["miniatures/*/*", "miniatures/*/*/*"],
        "lbcheck.published": ["*.csv", "*.json"],
        "lbcheck.report": ["*.css", "*.html"],
        "lbcheck.reproductions": ["*.json"],
        "lbcheck.search": ["arms/*.json"],
        "lbcheck.training.backends": ["tpu_operations.json"],
        "resnet": ["py.typed"],
    },
    python_requires=">=3.10,<3.15",
    install_requires=[
        "absl-py>=1.4",
        "jinja2>=3.1",
        "matplotlib>=3.7",
        "msgspec>=0.19",
        "numpy>=1.26",
        "optuna>=4.3",
        "pillow>=10",
        "scikit-learn>=1.3",
        "scipy>=1.15",
        "tqdm>=4.60",
        "typing_extensions>=4.12",
    ],
    extras_require={
        "tensorflow": _TENSORFLOW,
        "jax": _JAX,
        "torch": _TORCH,
        "bert": _BERT,
        "datasets": _DATASETS,
        "docs": _DOCS,
        "all": [*_BERT, *_DATASETS, *_JAX, *_TORCH],
        # In an environment of its own, Python 3.10 or 3.11: does not import
        # beside TensorFlow 2.20.
        "oracles": ["tensorflow-cpu==2.15.1", "tensorflow-addons==0.23.0"],
        "test": [
            *_BERT,
            *_DATASETS,
            *_DOCS,
            *_JAX,
            "hypothesis>=6",
            "ipykernel>=6",
            "mypy>=2",
            "nbclient>=0.10",
            "optax>=0.2.3",
            "optuna-dashboard>=0.21",
            "psycopg[binary]>=3.1",
            "pytest>=8",
            "pytest-xdist>=3.6",
            "ruff>=0.8",
        ],
    },
    entry_points={"console_scripts": ["lbcheck=lbcheck.cli:main"]},
)
