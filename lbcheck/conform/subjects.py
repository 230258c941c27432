"""The optimizers of Keras and tf_keras as `lbcheck conform` watches them.

A subject is a class of a library with the readings of it: what its paper says,
which may have several forms, and what it is known to compute instead.
"""

from collections.abc import Callable
from typing import Any
from typing import NamedTuple

from lbcheck.conform import papers
from lbcheck.conform import reference


class Reading(NamedTuple):
    """One formula.

    Attributes:
        function: As in ``reference.py``.
        switches: Its arguments.
        differs: What is not the paper's in it; "" if it is the paper's.
    """

    function: Callable[..., Any]
    switches: dict[str, Any] = {}
    differs: str = ""


class Subject(NamedTuple):
    """One optimizer under one setting.

    Attributes:
        name: What the table calls it.
        attribute: Its class in the library's `optimizers`.
        numbers: {argument: value}, of the library and of the readings; each is
            expected to have an effect.
        readings: The paper's first.
        others: Arguments that only the library has.
        averages: Whether it is to be evaluated at other weights.
        matrices: Whether it is for hidden matrices only.
    """

    name: str
    attribute: str
    numbers: dict[str, float]
    readings: tuple[Reading, ...]
    others: dict[str, Any] = {}
    averages: bool = False
    matrices: bool = False


_ADAM = {"beta_1": 0.8, "beta_2": 0.97, "epsilon": 0.01}
_INSIDE = "the rate stands inside the momentum buffer"


def _momentum(name, nesterov):
    return Subject(
        name,
        "SGD",
        {"momentum": 0.8},
        (
            Reading(reference.momentum, {"nesterov": nesterov}),
            Reading(
                reference.momentum,
                {"nesterov": nesterov, "keras_form": True},
                _INSIDE,
            ),
        ),
        {"nesterov": nesterov},
    )


def _adam(name):
    return Subject(
        name,
        name,
        _ADAM,
        (
            Reading(reference.adamw),
            # Kingma and Ba 2015, before Section 2.1.
            Reading(reference.adamw, {"keras_epsilon": True}),
        ),
    )


SUBJECTS = (
    Subject("SGD", "SGD", {}, (Reading(reference.momentum, {"momentum": 0}),)),
    _momentum("SGD(momentum)", False),
    _momentum("SGD(nesterov)", True),
    Subject(
        "RMSprop",
        "RMSprop",
        {"rho": 0.8, "epsilon": 0.01},
        (Reading(papers.rmsprop),),
    ),
    _adam("Adam"),
    _adam("AdamW"),
    Subject(
        "Adadelta",
        "Adadelta",
        {"rho": 0.8, "epsilon": 1e-3},
        (Reading(papers.adadelta),),
    ),
    Subject(
        "Adagrad",
        "Adagrad",
        {"initial_accumulator_value": 0.2, "epsilon": 0.01},
        (
            Reading(reference.adagrad),
            Reading(reference.adagrad, {"epsilon_under_root": True}),
        ),
    ),
    Subject("Adamax", "Adamax", _ADAM, (Reading(papers.adamax),)),
    Subject(
        "Adafactor",
        "Adafactor",
        {"beta_2_decay": -0.7, "epsilon_2": 0.5, "clip_threshold": 0.8},
        (
            Reading(papers.adafactor),
            Reading(papers.adafactor, {"decays_first": False}),
        ),
    ),
    Subject(
        "Nadam",
        "Nadam",
        _ADAM,
        (
            Reading(papers.nadam),
            Reading(
                papers.nadam,
                {"constant_average": True},
                "the first moment decays by beta_1 where the paper has mu_t",
            ),
        ),
    ),
    Subject(
        "Ftrl",
        "Ftrl",
        {"initial_accumulator_value": 0.2, "beta": 0.3},
        (Reading(papers.ftrl),),
    ),
    Subject(
        "Lion",
        "Lion",
        {"beta_1": 0.8, "beta_2": 0.95},
        (Reading(reference.lion),),
    ),
    Subject(
        "Lamb",
        "Lamb",
        _ADAM,
        (
            Reading(reference.lamb, {"weight_decay": 0.0}),
            Reading(
                reference.lamb,
                {"weight_decay": 0.0, "keras_decay": True},
                "weight decay stands outside the trust ratio",
            ),
        ),
    ),
    Subject(
        "Muon",
        "Muon",
        {"momentum": 0.8},
        (Reading(reference.muon, {"form": "moonlight", "weight_decay": 0.0}),),
        matrices=True,
    ),
    Subject(
        "ScheduleFreeAdamW",
        "ScheduleFreeAdamW",
        _ADAM,
        (
            Reading(reference.schedule_free_adamw),
            Reading(reference.schedule_free_adamw, {"correct_moment": True}),
            Reading(
                papers.schedule_free_of_keras,
                {},
                "the average has equal weights whatever the rate, and weight "
                "decay never reaches z",
            ),
            Reading(
                papers.schedule_free_of_keras,
                {"aliased": True},
                "z is read after it has moved: beta_1 has no effect, and the "
                "variable is an average without it; weight decay never "
                "reaches z",
            ),
        ),
        averages=True,
    ),
)
