"""The training room: Keras `fit` with accumulation, resume and records.

A program gives `run` its options, a function that builds a workload and a
source of data; both Kerases train here, tf_keras also over many replicas.
Importing this package imports no framework.

options       options of a run, apart from model and data
loop          from these to a finished record
run_callback  measures, evaluates, saves and stops at the right update
record        the folder of a run
checkpoints   its checkpoints
cluster       the workers of TF_CONFIG
strategy      tf.distribute strategies by name
streams       a part of a source as a tf.data.Dataset
backends/     what training needs of a Keras, and each of them
"""

from lbcheck.training.backends.engines import check_data
from lbcheck.training.loop import Workload
from lbcheck.training.loop import evaluate
from lbcheck.training.loop import plan
from lbcheck.training.loop import run
from lbcheck.training.loop import tpu_problems
from lbcheck.training.options import Options

__all__ = [
    "Options",
    "Workload",
    "check_data",
    "evaluate",
    "plan",
    "run",
    "tpu_problems",
]
