"""The training room: Keras `fit` with accumulation, resume and records.

A program gives `run` its options, a function that builds a workload and a
source of data; both Kerases train here, tf_keras also over many replicas.
Importing this package imports no framework.
"""

from lbcheck.training.engines import check_data
from lbcheck.training.loop import Workload
from lbcheck.training.loop import evaluate
from lbcheck.training.loop import plan
from lbcheck.training.loop import run
from lbcheck.training.options import Options

__all__ = [
    "Options",
    "Workload",
    "check_data",
    "evaluate",
    "plan",
    "run",
]
