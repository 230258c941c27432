"""Dialects: what each library means by a rule's name, as switches of ours.

A dialect sets switches only; learning rates, betas, epsilons and decay stay
what the caller gives. Lines name where the behaviour was read.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Dialect:
    """One library's reading of a rule.

    Attributes:
        source: Where this reading comes from.
        switches: Fields of the rule that it fixes.
        adapts_excluded: True where the library takes the trust ratio of
            every variable, also of those excluded from decay.
        heavy_ball_fallback: True where variables without a trust ratio are
            trained by heavy-ball momentum, rate outside, no decay.
    """

    source: str
    switches: dict = dataclasses.field(default_factory=dict)
    adapts_excluded: bool = False
    heavy_ball_fallback: bool = False


_JOINT = {"denominator": "joint"}

DIALECTS = {
    "Momentum": {
        "paper": Dialect("Nado et al. 2021, section 2.1.1"),
        "flax": Dialect("flax.optim.Momentum"),
        "mlperf": Dialect("MLPerf ResNet TF1, tf.train.MomentumOptimizer"),
        "optax": Dialect("optax.sgd after add_decayed_weights"),
        "keras": Dialect(
            "keras.optimizers.SGD, tf_keras.optimizers.SGD",
            {"rate_in_buffer": True},
        ),
    },
    "LARS": {
        "paper": Dialect(
            "flax.optim.LARS with MultiOptimizer, as Nado et al. 2021",
            heavy_ball_fallback=True,
        ),
        "flax": Dialect(
            "flax.optim.LARS on every variable", adapts_excluded=True
        ),
        "mlperf": Dialect(
            "MLPerf ResNet TF2, lars_optimizer.py", {"zero_epsilon": 1e-7}
        ),
        "model_garden": Dialect(
            "official.modeling.optimization.lars, classic_momentum=True",
            _JOINT,
        ),
        "optax": Dialect("optax.lars", _JOINT, adapts_excluded=True),
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
            {"decay": "decoupled"},
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


def switches(rule: str, dialect: str) -> Dialect:
    """The `Dialect` of a rule by name; ValueError lists what exists."""
    known = DIALECTS[rule]
    if not isinstance(dialect, str) or dialect not in known:
        raise ValueError(
            f"{rule}: unknown dialect {dialect!r}; {rule} has {list(known)}."
        )
    return known[dialect]
