"""Learning rate schedules: step in, rate out; and the schedule doctor.

A step is the number of updates completed before this one, from 0. Importing
this package imports no framework.
"""

from lbcheck.schedules.base import Schedule
from lbcheck.schedules.base import deserialize
from lbcheck.schedules.base import serialize
from lbcheck.schedules.bias_correction import BiasCorrected
from lbcheck.schedules.constant import Constant
from lbcheck.schedules.cosine import Cosine
from lbcheck.schedules.doctor import examine
from lbcheck.schedules.doctor.findings import Examination
from lbcheck.schedules.doctor.findings import Finding
from lbcheck.schedules.goyal import GoyalSteps
from lbcheck.schedules.phases import Phases
from lbcheck.schedules.polynomial import Linear
from lbcheck.schedules.polynomial import Polynomial
from lbcheck.schedules.scaling import Settings
from lbcheck.schedules.scaling import epochs_to_steps
from lbcheck.schedules.scaling import goyal_imagenet
from lbcheck.schedules.scaling import lamb_bert
from lbcheck.schedules.scaling import lamb_imagenet
from lbcheck.schedules.scaling import linear_rule
from lbcheck.schedules.scaling import square_root_rule
from lbcheck.schedules.warmup import Warmup
from lbcheck.schedules.warmup_decay import PolynomialWarmupDecay

__all__ = [
    "BiasCorrected",
    "Constant",
    "Cosine",
    "Examination",
    "FAMILIES",
    "Finding",
    "GoyalSteps",
    "Linear",
    "Phases",
    "Polynomial",
    "PolynomialWarmupDecay",
    "Schedule",
    "Settings",
    "Warmup",
    "deserialize",
    "epochs_to_steps",
    "examine",
    "goyal_imagenet",
    "lamb_bert",
    "lamb_imagenet",
    "linear_rule",
    "serialize",
    "square_root_rule",
]

FAMILIES: dict[str, type[Schedule]] = {
    name: kind
    for name, kind in dict(globals()).items()
    if isinstance(kind, type)
    and issubclass(kind, Schedule)
    and kind is not Schedule
}
"""The schedules above by class name, as `serialize` writes them."""
