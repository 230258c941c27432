"""Update rules as pure maths: weight, gradient, state in; weight, state out.

No file in this room imports a framework. Each rule takes an array namespace
(``arrays.py``), so the same lines run on NumPy float64, TensorFlow, JAX and
PyTorch. The optimizers that Keras sees are built on them in
``lbcheck/optimizers``.
"""

from lbcheck.rules.adagrad import Adagrad
from lbcheck.rules.adamw import AdamW
from lbcheck.rules.arrays import NUMPY
from lbcheck.rules.base import Rule
from lbcheck.rules.base import Slot
from lbcheck.rules.dialects import DEFAULT
from lbcheck.rules.dialects import DIALECTS
from lbcheck.rules.dialects import dialect_of
from lbcheck.rules.dialects import fixed
from lbcheck.rules.dialects import resolve
from lbcheck.rules.lamb import LAMB
from lbcheck.rules.lars import LARS
from lbcheck.rules.moments import one_minus_power
from lbcheck.rules.momentum import Momentum

__all__ = [
    "Adagrad",
    "AdamW",
    "DEFAULT",
    "DIALECTS",
    "LAMB",
    "LARS",
    "Momentum",
    "NUMPY",
    "Rule",
    "Slot",
    "dialect_of",
    "fixed",
    "one_minus_power",
    "resolve",
]
