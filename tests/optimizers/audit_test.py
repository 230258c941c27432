"""The audit against what moves: with no gradient, only decay moves a weight."""

import json
import os
import subprocess
import sys

import keras
import pytest

import lbcheck

layers, optimizers = keras.layers, keras.optimizers


def transformer():
    """Embedding, attention, norm and an output that is not called so."""
    inputs = layers.Input((5,), dtype="int32")
    x = layers.Embedding(11, 8, name="tokens")(inputs)
    x = x + layers.MultiHeadAttention(2, 4, name="attention")(x, x)
    x = layers.LayerNormalization(name="norm")(x)
    x = layers.Dense(8, activation="gelu", name="hidden")(x)
    x = layers.Dense(11, name="words")(x)
    return keras.Model(inputs, layers.Softmax()(x))


def excluding(optimizer, *names):
    optimizer.exclude_from_weight_decay(var_names=list(names))
    return optimizer


def several():
    return optimizers.MultiOptimizer(
        optimizers.OptimizerMap(
            optimizers.SGD(0.1, weight_decay=0.1),
            {
                ".*norm.*": optimizers.Adam(0.1),
                "tokens/.*": excluding(
                    optimizers.AdamW(0.1, weight_decay=0.1), "embeddings"
                ),
            },
        )
    )


MAKERS = {
    "by layer": lambda: excluding(
        optimizers.AdamW(0.1, weight_decay=0.1), "norm", "attention/query"
    ),
    "by name": lambda: excluding(
        optimizers.SGD(0.1, weight_decay=0.1), "bias", "gamma"
    ),
    "Lamb": lambda: optimizers.Lamb(0.1, weight_decay=0.1),
    "Muon": lambda: excluding(
        optimizers.Muon(0.1, weight_decay=0.1, adam_weight_decay=0.1),
        "norm",
        "bias",
    ),
    "Muon alone": lambda: optimizers.Muon(
        0.1, weight_decay=0.1, adam_weight_decay=None
    ),
    "several": several,
    "scaled": lambda: optimizers.LossScaleOptimizer(
        excluding(optimizers.AdamW(0.1, weight_decay=0.1), "norm")
    ),
    "lbcheck Muon": lambda: lbcheck.keras3.Muon(0.1, weight_decay=0.1),
}


def moved(model, optimizer):
    """Which variables an update without a gradient moves."""
    variables = model.trainable_variables
    for variable in variables:
        variable.assign(variable + 1.0)
    before = model.get_weights()
    optimizer.build(variables)
    optimizer.apply(
        [keras.ops.zeros_like(v) for v in variables], list(variables)
    )
    return [bool((a != b).any()) for a, b in zip(before, model.get_weights())]


@pytest.mark.parametrize("name", MAKERS)
def test_what_is_said_to_decay_is_what_moves(name):
    model, optimizer = transformer(), MAKERS[name]()
    said = [row.decayed for row in lbcheck.audit(model, optimizer).rows]
    assert said == moved(model, optimizer)
    assert any(said) and (name == "Lamb" or not all(said))


def test_looking_changes_nothing():
    """Keras keeps the answers to its own questions, and acts by them."""
    found = {}
    for look in (False, True):
        model = transformer()
        optimizer = MAKERS["by layer"]()
        if look:
            lbcheck.audit(model, optimizer)
        found[look] = moved(model, optimizer)
    assert found[True] == found[False]


ON_JAX = """
import json, keras, lbcheck, numpy as np
from tests.optimizers import audit_test as t
model, optimizer = t.transformer(), t.MAKERS["by layer"]()
audit = lbcheck.audit(model, optimizer)
said = [row.decayed for row in audit.rows]
variables = model.trainable_variables
before = [np.array(v) for v in variables]
optimizer.build(variables)
optimizer.apply([keras.ops.zeros(v.shape) for v in variables], variables)
moved = [bool((a != np.array(v)).any()) or not a.any()
         for a, v in zip(before, variables)]
print(json.dumps([said, moved, len(audit.findings)]))
"""


def test_on_jax_layers_names_select_nothing():
    ran = subprocess.run(
        [sys.executable, "-c", ON_JAX],
        env={**os.environ, "KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    said, really, findings = json.loads(ran.stdout.splitlines()[-1])
    assert said == really  # a zero does not move, and is not looked at
    assert all(said) and findings


def findings_of(optimizer):
    """{the last two parts of a path: what is found}."""
    found = {}
    for finding in lbcheck.audit(transformer(), optimizer).findings:
        path, _, rest = finding.partition(" ")
        found.setdefault("/".join(path.split("/")[-2:]), []).append(rest)
    return found


def test_keras_muon_takes_the_wrong_tensors():
    found = findings_of(optimizers.Muon(weight_decay=None))
    why = {
        path: rest[0].rpartition(": it is ")[2] for path, rest in found.items()
    }
    assert why["query/bias"] == "a bias"
    assert why["words/kernel"] == "of the output layer"
    assert "kernel of attention" in why["query/kernel"]
    assert "hidden/kernel" not in why
    rows = lbcheck.audit(transformer(), optimizers.Muon()).rows
    rule = {row.path.rpartition("attention/")[2]: row.rule for row in rows}
    assert rule["query/kernel"] == "AdamW (in Muon)"
    assert rule["query/bias"] == "Muon"


def test_embeddings_under_muon_are_found():
    muon = optimizers.Muon(exclude_embeddings=False, weight_decay=None)
    assert "it is an embedding" in findings_of(muon)["tokens/embeddings"][0]


def test_our_muon_is_not_suspicious():
    assert not findings_of(lbcheck.keras3.Muon())


def test_two_rules_for_one_variable_are_found():
    mapped = optimizers.OptimizerMap(
        optimizers.SGD(0.1),
        {".*hidden.*": optimizers.Adam(), ".*kernel": optimizers.SGD()},
    )
    found = findings_of(optimizers.MultiOptimizer(mapped))
    assert found["hidden/kernel"] == [
        "has 2 rules: the patterns '.*hidden.*', '.*kernel' of MultiOptimizer "
        "match it."
    ]


def test_an_error_of_a_function_of_several_is_the_users():
    def choose(variable):
        raise ValueError(f"no optimizer for {variable.name}")

    several = optimizers.MultiOptimizer(choose)
    with pytest.raises(ValueError, match="^no optimizer for embeddings"):
        lbcheck.audit(transformer(), several)


def _of_tf_keras():
    import tf_keras

    return excluding(tf_keras.optimizers.AdamW(), "gamma", "(bias")


@pytest.mark.parametrize(
    ("library", "make", "name"),
    [
        ("tf_keras", _of_tf_keras, "AdamW"),
        ("keras", lambda: optimizers.Muon(exclude_layers=["(bias"]), "Muon"),
        (
            "keras",
            lambda: optimizers.MultiOptimizer(
                optimizers.OptimizerMap(
                    optimizers.SGD(), {"(bias": optimizers.Adam()}
                )
            ),
            "MultiOptimizer",
        ),
    ],
)
def test_a_broken_pattern_is_named(library, make, name):
    """Of the optimizer that will end training by it."""
    library = pytest.importorskip(library)
    model = library.Sequential(
        [library.layers.Input((3,)), library.layers.Dense(2)]
    )
    with pytest.raises(ValueError, match=rf"^{name} .*'\(bias', which is no"):
        lbcheck.audit(model, make())


def test_muon_inside_several_is_followed():
    mapped = optimizers.OptimizerMap(
        optimizers.AdamW(0.1), {".*words.*": optimizers.Muon(0.1)}
    )
    found = findings_of(optimizers.MultiOptimizer(mapped))
    assert any("of the output layer" in rest for rest in found["words/kernel"])


def test_only_the_last_layer_of_a_nested_model_is_the_output():
    inner = keras.Sequential(
        [
            layers.Input((4,)),
            layers.Dense(8, name="one"),
            layers.Dense(8, name="two"),
            layers.Dense(3, name="end"),
        ]
    )
    inputs = layers.Input((4,))
    model = keras.Model(inputs, inner(layers.Rescaling(2.0)(inputs)))
    muon = lbcheck.keras3.Muon(exclude_from_layer_adaptation=["bias"])
    (finding,) = lbcheck.audit(model, muon).findings
    assert "end/kernel" in finding and "of the output layer" in finding


class _Partly(keras.Model):
    """A model of which a part is built."""

    def __init__(self):
        super().__init__()
        self.backbone = keras.Sequential([layers.Input((4,)), layers.Dense(5)])
        self.drop, self.head = layers.Dropout(0.5), layers.Dense(2, name="head")

    def call(self, x):
        """Backbone and head."""
        return self.head(self.drop(self.backbone(x)))


def test_layers_that_are_not_built_are_found():
    model, adamw = _Partly(), excluding(optimizers.AdamW(0.1), "bias")
    (found,) = lbcheck.audit(model, adamw).findings
    assert found.startswith("head (Dense) is not built, so that its weights")
    model(keras.ops.ones((1, 4)))
    assert not lbcheck.audit(model, adamw).findings
    assert len(lbcheck.audit(model, adamw).rows) == 4


def test_what_ftrl_decays_is_what_moves():
    model = keras.Sequential([layers.Input((4,)), layers.Dense(5)])
    for given in (
        {},
        {"l1_regularization_strength": 0.5},
        {"l2_regularization_strength": 0.5},
        {"l2_shrinkage_regularization_strength": 0.5},
    ):
        rows = lbcheck.audit(model, optimizers.Ftrl(0.1, **given)).rows
        assert {row.decayed for row in rows} == {"l2" in str(given)}


def test_an_optimizer_of_another_keras_is_refused():
    import tf_keras

    model = keras.Sequential([layers.Input((4,)), layers.Dense(5)])
    other = tf_keras.optimizers.SGD(0.1)
    with pytest.raises(TypeError, match="is of keras and .* SGD, of tf_keras"):
        lbcheck.audit(model, other)


def test_scales_of_float8_are_no_weights():
    model = keras.Sequential([layers.Input((4,)), layers.Dense(5, name="d")])
    model.quantize("float8")
    assert len(model.trainable_variables) > 2
    for optimizer in (optimizers.AdamW(0.1), lbcheck.LAMB(weight_decay=0.1)):
        rows = lbcheck.audit(model, optimizer).rows
        assert [row.path.split("/")[-2:] for row in rows] == [
            ["d", "kernel"],
            ["d", "bias"],
        ]
