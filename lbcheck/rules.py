"""The update rules as pure maths: weight, gradient, state in; the same out.

A rule is called as its optimizer and takes an array namespace, so that the
same lines run on NumPy float64, TensorFlow, JAX and PyTorch.

>>> import numpy as np
>>> w, slots, ratio = Momentum(momentum=0.5).update(
...     NUMPY, np.zeros(1), np.ones(1), (np.zeros(1),), 1.0, 0)
>>> print(w)
[-1.]
"""

from lbcheck import optimizers
from lbcheck.optimizers.arrays import NUMPY
from lbcheck.optimizers.rule import Rule

ALL = {o.rule_class.title: o.rule_class for o in optimizers.ALL}
"""{name: rule}; each is an attribute of this module too."""

globals().update(ALL)

__all__ = ["ALL", "NUMPY", "Rule", *ALL]
