"""What every dialect computes, written out by hand from the libraries.

Nothing here is taken from ``lbcheck/optimizers``.
"""

VALUES = {
    "Momentum": {"nesterov": (True, False), "rate_in_buffer": (True, False)},
    "LARS": {
        "nesterov": (True, False),
        "denominator": ("sum", "joint"),
        "normalize": ("gradient", "momentum"),
        "rate_in_buffer": (True, False),
    },
    "LAMB": {
        "bias_correction": (True, False),
        "nesterov": (None, "first", "both"),
        "norm": ("l2", "l1", "linf"),
        "phi_bounds": (None, (0.0, 0.5)),
        "zero_norm": ("one", "flax"),
        "decay_placement": ("inside", "decoupled"),
        "constant_norm": (True, False),
    },
    "AdamW": {
        "bias_correction": (True, False),
        "epsilon_hat": (True, False),
        "decay_times_rate": (True, False),
    },
    "Adagrad": {"epsilon_hat": (True, False)},
    "Lion": {},
    "NAdamW": {
        "correction": ("next", "same"),
        "momentum_schedule": (True, False),
    },
    "AdEMAMix": {"warmup_from_zero": (True, False)},
    "ScheduleFreeAdamW": {"correct": ("rate", "moment")},
    "Muon": {
        "nesterov": (True, False),
        "average": (True, False),
        "bias_correction": (True, False),
        "scale": ("rms", "width", "author", "transposed"),
        "flatten": (True, False),
        "newton_schulz_steps": (5, 6),
        "coefficients": ((3.4445, -4.7750, 2.0315), (3.0, -3.2, 1.2)),
    },
    "SOAP": {
        "bias_correction": (True, False),
        "max_precondition_size": (10000, 4),
    },
}
"""{rule: {switch: its values, the paper's first of LAMB's}}."""

_MOMENTUM = {"rate_in_buffer": False}
_LARS = {
    "denominator": "sum",
    "normalize": "gradient",
    "rate_in_buffer": True,
}
_LAMB = {
    "bias_correction": True,
    "nesterov": None,
    "norm": "l2",
    "phi_bounds": None,
    "zero_norm": "one",
    "decay_placement": "inside",
    "constant_norm": False,
}
_ADAM = {
    "bias_correction": True,
    "epsilon_hat": False,
    "decay_times_rate": True,
}

_NADAMW = {"correction": "next", "momentum_schedule": False}
_MUON = {
    "nesterov": True,
    "average": True,
    "bias_correction": False,
    "scale": "rms",
    "flatten": True,
    "newton_schulz_steps": 5,
    "coefficients": (3.4445, -4.7750, 2.0315),
}


def _muon(*left, **switches):
    """What a dialect of Muon sets, but for what is left to its caller."""
    fixed = _MUON | switches
    return {name: fixed[name] for name in fixed if name not in left}


_KERAS_MUON = ("newton_schulz_steps", "nesterov", "coefficients")

SETS = {
    ("Momentum", "paper"): {},
    ("Momentum", "flax"): _MOMENTUM,
    ("Momentum", "mlperf"): _MOMENTUM,
    ("Momentum", "optax"): _MOMENTUM,
    ("Momentum", "keras"): {"rate_in_buffer": True},
    ("LARS", "paper"): {},
    ("LARS", "flax"): _LARS,
    ("LARS", "mlperf"): _LARS,
    # Its `classic_momentum` is the caller's.
    ("LARS", "model_garden"): {"denominator": "joint"},
    ("LARS", "optax"): _LARS | {"denominator": "joint"},
    ("LAMB", "paper"): {},
    ("LAMB", "flax"): _LAMB | {"zero_norm": "flax"},
    ("LAMB", "mlperf"): _LAMB,
    ("LAMB", "model_garden"): _LAMB,
    ("LAMB", "optax"): _LAMB,
    ("LAMB", "keras"): _LAMB | {"decay_placement": "decoupled"},
    ("LAMB", "tfa"): _LAMB,
    ("LAMB", "nvlamb"): _LAMB,
    ("AdamW", "paper"): {},
    ("AdamW", "flax"): _ADAM,
    ("AdamW", "optax"): _ADAM,
    ("AdamW", "keras"): _ADAM | {"epsilon_hat": True},
    ("AdamW", "model_garden"): _ADAM | {"epsilon_hat": True},
    ("AdamW", "tfa"): _ADAM | {"epsilon_hat": True, "decay_times_rate": False},
    ("AdamW", "bert_original"): _ADAM | {"bias_correction": False},
    ("Adagrad", "paper"): {},
    ("Adagrad", "keras"): {"epsilon_hat": True},
    ("Lion", "paper"): {},
    ("Lion", "optax"): {},
    ("Lion", "keras"): {},
    ("NAdamW", "paper"): {},
    ("NAdamW", "optax"): _NADAMW,
    ("NAdamW", "algoperf"): _NADAMW | {"correction": "same"},
    ("NAdamW", "keras"): _NADAMW | {"momentum_schedule": True},
    ("AdEMAMix", "paper"): {},
    ("AdEMAMix", "optax"): {"warmup_from_zero": True},
    ("ScheduleFreeAdamW", "paper"): {},
    ("ScheduleFreeAdamW", "schedulefree"): {"correct": "moment"},
    ("ScheduleFreeAdamW", "optax"): {"correct": "moment"},
    ("Muon", "paper"): {},
    ("Muon", "keller_jordan"): _muon("newton_schulz_steps", scale="author"),
    ("Muon", "moonlight"): _muon(
        "newton_schulz_steps", "nesterov", average=False
    ),
    ("Muon", "keras"): _muon(*_KERAS_MUON, average=False),
    ("Muon", "keras_3_12"): _muon(
        *_KERAS_MUON, average=False, scale="transposed", flatten=False
    ),
    ("Muon", "optax"): _muon(*_KERAS_MUON, "scale", bias_correction=True),
    ("SOAP", "paper"): {},
}
"""{(rule, dialect): {switch that the library leaves no choice of: value}}."""

PAPER = {
    "Momentum": {"nesterov": False, "rate_in_buffer": False},
    "LARS": {"nesterov": False, **_LARS},
    "LAMB": _LAMB,
    "AdamW": _ADAM,
    "Adagrad": {"epsilon_hat": False},
    "Lion": {},
    "NAdamW": _NADAMW,
    "AdEMAMix": {"warmup_from_zero": False},
    "ScheduleFreeAdamW": {"correct": "rate"},
    "Muon": _MUON,
    "SOAP": {"bias_correction": True, "max_precondition_size": 10000},
}
"""{rule: {switch: what is computed where nothing is said}}."""


def computed(rule, dialect, given=None):
    """{switch: value} of a rule of a dialect and arguments that agree."""
    given = given or {}
    found = PAPER[rule] | SETS[rule, dialect] | given
    if given.get("normalize") == "momentum":  # no decay to join
        found["denominator"] = PAPER[rule]["denominator"]
    return found


def cases():
    """Yields (rule, dialect, switch, value, whether it is to be refused)."""
    for rule, dialect in SETS:
        for switch, values in VALUES[rule].items():
            for value in values:
                set_to = SETS[rule, dialect].get(switch, value)
                yield rule, dialect, switch, value, value != set_to
