"""The optimizers: each is one file, and one line here.

momentum, lars, lamb, adamw, adagrad, nadamw, lion, ademamix,
schedule_free_adamw, muon, soap
                   an optimizer: rule, dialects, signature, manual, example
rule               what every rule is: one update in pure maths
base               what every optimizer is, whichever Keras it is for
manual             the parts that all their manuals have in common
selection          which variables decay and which take a trust ratio
keras_arguments    Keras's own keywords, checked
arrays             NumPy as the array namespace of a rule
keras3_adapter, tf_keras_adapter
                   the only code that calls a Keras
tensorflow_update, tensorflow_record
                   a rule on TensorFlow, in few passes
keras_arrays       a rule on the jax and torch backends
audit, treatment, audit_command
                   what an optimizer does with each variable of a model
diagnostics        the callback that records trust ratios

Importing this package imports no framework.
"""

from lbcheck.optimizers.adagrad import Adagrad
from lbcheck.optimizers.adamw import AdamW
from lbcheck.optimizers.ademamix import AdEMAMix
from lbcheck.optimizers.base import Optimizer
from lbcheck.optimizers.lamb import LAMB
from lbcheck.optimizers.lars import LARS
from lbcheck.optimizers.lion import Lion
from lbcheck.optimizers.momentum import Momentum
from lbcheck.optimizers.momentum import Nesterov
from lbcheck.optimizers.muon import Muon
from lbcheck.optimizers.nadamw import NAdamW
from lbcheck.optimizers.schedule_free_adamw import ScheduleFreeAdamW
from lbcheck.optimizers.soap import SOAP

ALL: tuple[type[Optimizer], ...] = tuple(
    found
    for found in tuple(globals().values())
    if isinstance(found, type)
    and issubclass(found, Optimizer)
    and found is not Optimizer
)
"""Every optimizer that is imported above."""

BY_NAME = {definition.__name__.lower(): definition for definition in ALL}
"""{name in flags, arms and files: optimizer}."""


def for_keras(adapter: type, register, module: str) -> dict[str, type]:
    """{name: class} of all optimizers for one Keras.

    Args:
        adapter: The optimizer of that Keras which they are mixed with.
        register: Its decorator that makes saved models load.
        module: Where the classes are found by name.
    """
    return {
        definition.__name__: register(
            type(
                definition.__name__,
                (definition, adapter),
                {"__module__": module, "__doc__": definition.__doc__},
            )
        )
        for definition in ALL
    }
