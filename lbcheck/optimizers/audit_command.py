"""`lbcheck audit`: the exclusion audit from the command line.

lbcheck audit my.module:build_model --optimizer=lamb --strict
lbcheck audit my.module:build_model --optimizer=my.module:make_optimizer
"""

import importlib

from absl import app
from absl import flags

from lbcheck import keras_choice
from lbcheck.naming import load

_OPTIMIZER = flags.DEFINE_string(
    "optimizer",
    None,
    "An lbcheck optimizer by name (lars, lamb, momentum, nesterov, adamw, "
    "adagrad), or module:function that returns any Keras optimizer. Default: "
    "the one that the model is compiled with.",
)
_DECAY = flags.DEFINE_list(
    "exclude_from_weight_decay", None, "Patterns, for an optimizer by name."
)
_ADAPTATION = flags.DEFINE_list(
    "exclude_from_layer_adaptation",
    None,
    "Patterns, for lars and lamb by name.",
)
_STRICT = flags.DEFINE_bool("strict", False, "Exit 1 if anything is found.")


def make_optimizer(model):
    """The optimizer that the flags ask for, None for the model's own."""
    name = _OPTIMIZER.value
    if name is None:
        return None
    if ":" in name:
        return load(name)()
    room = importlib.import_module(f"lbcheck.{keras_choice.of(model)}")
    known = {c.lower(): c for c in keras_choice.OPTIMIZERS}
    if name.lower() not in known:
        raise app.UsageError(
            f"--optimizer: unknown optimizer {name!r}; known are "
            f"{sorted(known)}, or give module:function."
        )
    settings = {"weight_decay": 0.01}
    if _DECAY.value is not None:
        settings["exclude_from_weight_decay"] = _DECAY.value
    if _ADAPTATION.value is not None:
        settings["exclude_from_layer_adaptation"] = _ADAPTATION.value
    return getattr(room, known[name.lower()])(**settings)


def main(argv):
    """Prints the audit; exit code 1 with --strict and findings."""
    from lbcheck.optimizers.audit import audit

    if len(argv) != 1:
        raise app.UsageError(
            "lbcheck audit takes one model, as module:function; received "
            f"{argv}."
        )
    model = load(argv[0])()
    result = audit(model, make_optimizer(model))
    print(result)
    return 1 if _STRICT.value and result.findings else 0
