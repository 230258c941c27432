"""The convergence bounds of both papers, and how near a run comes to them.

    >>> from lbcheck import theory
    >>> problem = theory.Problem.random("cosine", layers=4, layer_size=8)
    >>> known = problem.constants(steps=64, batch_size=64, beta_2=0.9)
    >>> found = theory.measure(problem, "lamb", known)
    >>> print(found.bound.left_side)
    E ||grad f(x_a)||^2
    >>> found.left_side < found.bound.value
    True

constants    what the theorems assume, with units
bounds       You et al. 2019, Theorems 1 to 3; Nado et al. 2021, Appendix A
problem      a function whose constants are known exactly
worst_cases  problems on which an algorithm comes near to its bound
measurement  the algorithms of the theorems on it, beside their bounds

docs/theory.md has the inequalities, what is wrong in print, and measurements.
"""

from lbcheck.theory.bounds import LAYER_NORMS
from lbcheck.theory.bounds import ONE_NORM
from lbcheck.theory.bounds import SQUARED_NORM
from lbcheck.theory.bounds import Bound
from lbcheck.theory.bounds import LeftSide
from lbcheck.theory.bounds import adam
from lbcheck.theory.bounds import lamb
from lbcheck.theory.bounds import lars
from lbcheck.theory.bounds import sgd
from lbcheck.theory.constants import Constants
from lbcheck.theory.measurement import ALGORITHMS
from lbcheck.theory.measurement import Measurement
from lbcheck.theory.measurement import measure
from lbcheck.theory.problem import SHAPES
from lbcheck.theory.problem import Problem
from lbcheck.theory.worst_cases import WORST_CASES
from lbcheck.theory.worst_cases import worst_case

__all__ = [
    "ALGORITHMS",
    "Bound",
    "Constants",
    "LAYER_NORMS",
    "LeftSide",
    "Measurement",
    "ONE_NORM",
    "Problem",
    "SHAPES",
    "SQUARED_NORM",
    "WORST_CASES",
    "adam",
    "lamb",
    "lars",
    "measure",
    "sgd",
    "worst_case",
]
