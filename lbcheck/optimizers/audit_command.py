"""`lbcheck audit`: the exclusion audit from the command line.

lbcheck audit my.module:build_model --optimizer=lamb --strict
lbcheck audit my.module:build_model --optimizer=my.module:make_optimizer

Prints for each variable whether it is decayed, whether it has a trust ratio and
by which rule it is updated, and what of it is probably not meant so. What is
named is a Keras model or a function that returns one.

Exit codes: 0 audited; 1 with --strict, if anything was found; 2 bad input.
"""

import contextlib
import importlib
import json
import sys

from absl import app
from absl import flags

from lbcheck import optimizers
from lbcheck.support import command
from lbcheck.support import errors
from lbcheck.support import exit_codes
from lbcheck.support import kerases
from lbcheck.support.load_object import load

FLAGS = flags.FlagValues()
_OPTIMIZER = flags.DEFINE_string(
    "optimizer",
    None,
    f"An lbcheck optimizer by name ({', '.join(optimizers.BY_NAME)}), or "
    "module:function that returns any Keras optimizer. Default: the one that "
    "the model is compiled with.",
    flag_values=FLAGS,
)
_DECAY = flags.DEFINE_multi_string(
    "exclude_from_weight_decay",
    None,
    "A pattern, for an optimizer by name; give the flag again for another.",
    flag_values=FLAGS,
)
_ADAPTATION = flags.DEFINE_multi_string(
    "exclude_from_layer_adaptation",
    None,
    "A pattern, for lars, lamb and muon by name.",
    flag_values=FLAGS,
)
_STRICT = flags.DEFINE_bool(
    "strict", False, "Exit 1 if anything is found.", flag_values=FLAGS
)
_FORMAT = command.define_format(FLAGS)


def make_optimizer(model):
    """The optimizer that the flags ask for, None for the model's own."""
    name = _OPTIMIZER.value
    known = optimizers.BY_NAME
    patterns = {
        flag.name: flag.value
        for flag in (_DECAY, _ADAPTATION)
        if flag.value is not None
    }
    if name is None or ":" in name:
        if patterns:
            raise app.UsageError(
                f"--{next(iter(patterns))} goes with an optimizer by name, "
                f"not with --optimizer={name}."
            )
        return _made_by(name) if name else None
    if name.lower() not in known:
        raise app.UsageError(
            f"--optimizer: unknown optimizer {name!r}; known are "
            f"{sorted(known)}, or give module:function."
        )
    definition = known[name.lower()]
    if _ADAPTATION.name in patterns and not definition.adapts():
        raise app.UsageError(
            f"--{_ADAPTATION.name}: {name} takes no trust ratio."
        )
    room = importlib.import_module(f"lbcheck.{kerases.of(model)}")
    cls = getattr(room, definition.__name__)
    return cls(weight_decay=0.01, **patterns)


def _made_by(name):
    """The optimizer itself, or what the named function returns."""
    found = load(name)
    if not hasattr(found, "learning_rate") and callable(found):
        with errors.named(f"--optimizer={name}"):
            found = found()
    if found is None:
        raise app.UsageError(
            f"--optimizer={name}: must give an optimizer, and gives None."
        )
    return found


def find_model(name):
    """The model itself, or what the named function returns."""
    found = load(name)
    if not hasattr(found, "trainable_variables") and callable(found):
        with errors.named(name):
            found = found()
    if not hasattr(found, "trainable_variables"):
        raise app.UsageError(
            f"{name!r} must be a Keras model or a function that returns one; "
            f"it gives {found!r}."
        )
    return found


def main(argv):
    """Prints the audit; exit code 1 with --strict and findings."""
    from lbcheck.optimizers.audit import audit

    if len(argv) != 1:
        raise app.UsageError(
            "lbcheck audit takes one model, as module:function; received "
            f"{argv}."
        )
    # What a user's code prints is no part of the result.
    try:
        with contextlib.redirect_stdout(sys.stderr):
            model = find_model(argv[0])
            result = audit(model, make_optimizer(model))
    except SystemExit as error:
        raise app.UsageError(
            f"{argv[0]!r} must give a model; its code ends the process, with "
            f"sys.exit({error.code!r})."
        ) from error
    described = result._asdict() | {"rows": [r._asdict() for r in result.rows]}
    print(
        json.dumps(described, indent=2) if _FORMAT.value == "json" else result
    )
    found = _STRICT.value and result.findings
    return exit_codes.FINDING if found else exit_codes.FINISHED
