"""Dialects: what each library means by a rule's name, as switches of ours.

A dialect sets every switch that its library does not leave to the caller, and
no number, but where its library takes another for 0. The default, "paper",
leaves all switches to the caller. Lines name where the behaviour was read.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from lbcheck.rules.base import Rule
from lbcheck.rules.base import is_zero
from lbcheck.rules.base import plain

DEFAULT = "paper"


@dataclasses.dataclass(frozen=True)
class Dialect:
    """One library's reading of a rule.

    Attributes:
        source: Where this reading comes from.
        switches: Its values of the rule's switches, where they are not the
            rule's defaults.
        options: Switches that the library leaves to its caller.
        for_zero: {number: what the library takes where it is 0}, which is
            also the number's default.
        adapts_excluded: True where the library takes the trust ratio of
            every variable, also of those excluded from decay.
        heavy_ball_fallback: True where variables without a trust ratio are
            trained by heavy-ball momentum, rate outside, no decay.
    """

    source: str
    switches: dict = dataclasses.field(default_factory=dict)
    options: tuple[str, ...] = ()
    for_zero: dict = dataclasses.field(default_factory=dict)
    adapts_excluded: bool = False
    heavy_ball_fallback: bool = False


_JOINT = {"denominator": "joint"}
_NESTEROV = ("nesterov",)

DIALECTS = {
    "Momentum": {
        "paper": Dialect("Nado et al. 2021, section 2.1.1"),
        "flax": Dialect("flax.optim.Momentum", options=_NESTEROV),
        "mlperf": Dialect(
            "MLPerf ResNet TF1, tf.train.MomentumOptimizer", options=_NESTEROV
        ),
        "optax": Dialect(
            "optax.sgd after add_decayed_weights", options=_NESTEROV
        ),
        "keras": Dialect(
            "keras.optimizers.SGD, tf_keras.optimizers.SGD",
            {"rate_in_buffer": True},
            options=_NESTEROV,
        ),
    },
    "LARS": {
        "paper": Dialect(
            "flax.optim.LARS with MultiOptimizer, as Nado et al. 2021",
            heavy_ball_fallback=True,
        ),
        "flax": Dialect(
            "flax.optim.LARS on every variable",
            options=_NESTEROV,
            adapts_excluded=True,
        ),
        "mlperf": Dialect(
            "MLPerf ResNet TF2, lars_optimizer.py",
            options=_NESTEROV,
            for_zero={"epsilon": 1e-7},
        ),
        "model_garden": Dialect(
            # classic_momentum=False is normalize="momentum" and the rate
            # outside.
            "official.modeling.optimization.lars, classic_momentum=True",
            _JOINT,
            options=(*_NESTEROV, "normalize", "rate_in_buffer"),
        ),
        "optax": Dialect(
            "optax.lars", _JOINT, options=_NESTEROV, adapts_excluded=True
        ),
    },
    "LAMB": {
        "paper": Dialect("You et al. 2019, Algorithm 2"),
        "flax": Dialect(
            "flax.optim.LAMB", {"zero_norm": "flax"}, adapts_excluded=True
        ),
        "mlperf": Dialect("MLPerf BERT, lamb_optimizer_v1.py"),
        "model_garden": Dialect("official.modeling.optimization.lamb"),
        "optax": Dialect("optax.lamb", adapts_excluded=True),
        "keras": Dialect(
            "keras.optimizers.Lamb",
            {"decay_placement": "decoupled"},
            adapts_excluded=True,
        ),
        "tfa": Dialect("tensorflow_addons.optimizers.LAMB"),
        "nvlamb": Dialect(
            "NVIDIA DeepLearningExamples BERT", adapts_excluded=True
        ),
    },
    "AdamW": {
        "paper": Dialect("Loshchilov and Hutter 2019, Algorithm 2"),
        "flax": Dialect("flax.optim.Adam"),
        "optax": Dialect("optax.adamw"),
        "keras": Dialect(
            "keras.optimizers.AdamW, tf_keras.optimizers.AdamW",
            {"epsilon_hat": True},
        ),
        "model_garden": Dialect(
            "official.modeling.optimization.legacy_adamw",
            {"epsilon_hat": True},
        ),
        "tfa": Dialect(
            "tensorflow_addons.optimizers.AdamW: decay not times the rate",
            {"epsilon_hat": True, "decay_times_rate": False},
        ),
        "bert_original": Dialect(
            "google-research/bert optimization.py",
            {"bias_correction": False},
        ),
    },
    "Adagrad": {
        "paper": Dialect("Duchi, Hazan, Singer 2011"),
        "keras": Dialect("keras.optimizers.Adagrad", {"epsilon_hat": True}),
    },
}


def dialect_of(rule: type[Rule], dialect: str) -> Dialect:
    """The `Dialect` of a rule by name; ValueError lists what exists."""
    known = DIALECTS[rule.__name__]
    if not isinstance(dialect, str) or dialect not in known:
        raise ValueError(
            f"{rule.__name__}: unknown dialect {dialect!r}; {rule.__name__} "
            f"has {list(known)}."
        )
    return known[dialect]


def fixed(rule: type[Rule], dialect: str) -> dict[str, Any]:
    """{switch that the dialect sets: its value}.

    >>> from lbcheck.rules import Momentum
    >>> fixed(Momentum, "keras"), fixed(Momentum, "paper")
    ({'rate_in_buffer': True}, {})
    """
    reading = dialect_of(rule, dialect)
    if dialect == DEFAULT:
        return {}
    return {
        name: reading.switches.get(name, default)
        for name, default in rule.switches().items()
        if name not in reading.options
    }


def resolve(
    rule: type[Rule],
    dialect: str,
    given: Mapping[str, Any],
    owner: str | None = None,
) -> Rule:
    """The rule that a dialect makes of the arguments given.

    Args:
        rule: Class of the rule.
        dialect: A key of `DIALECTS[rule.__name__]`.
        given: {field: value} of what the caller gave; the rest is the
            dialect's.
        owner: Who was given it, for messages.

    Raises:
        TypeError, ValueError: A value out of its range, or one that
            contradicts the dialect; names both.
    """
    owner = owner or rule.__name__
    computed = fixed(rule, dialect)
    for name in rule.without_effect(given):
        computed.pop(name, None)
    for_zero = dialect_of(rule, dialect).for_zero
    taken = {n: v for n, v in for_zero.items() if is_zero(plain(given.get(n)))}
    for name, value in {**computed, **taken}.items():
        if name in given and _differs(given[name], value):
            raise ValueError(
                f"{owner}(dialect={dialect!r}) computes {name}={value!r}; "
                f"received {name}={given[name]!r}. Leave one out."
            )
    return rule(owner=owner, **{**computed, **for_zero, **given})


def _differs(value, computed):
    """Whether it contradicts; what is no switch at all the rule refuses."""
    value = plain(value)
    if not isinstance(value, (bool, int, float, str, tuple, list, type(None))):
        return False
    return value is not computed and value != computed
