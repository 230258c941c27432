"""Muon: which variables, as which matrices, and the mutants that must fail."""

import warnings

import keras
import numpy as np
import pytest

import lbcheck
from lbcheck import rules
from lbcheck.conform import reference
from lbcheck.optimizers import muon
from lbcheck.optimizers import selection
from tests.optimizers import trajectory
from tests.optimizers.optimizers_test import KERAS
from tests.optimizers.optimizers_test import step_optimizer
from tests.optimizers.rules_test import step_rule

EXACT, CLOSE, MUTANT = 1e-12, 1e-5, 1e-3
SHAPES = ((6, 5), (4, 7), (8, 2, 4), (2, 4, 8), (3, 2, 4, 5))
NAMES = ("in/kernel", "up/kernel", "query/kernel", "out/kernel", "conv/kernel")
ALL = (True,) * len(SHAPES)


def case_of(steps=40, dtype=np.float64, shapes=SHAPES):
    return trajectory.problem(steps, 0.1, dtype=dtype, shapes=shapes)


def exact(case, dialect, **given):
    function, switches = reference.REFERENCES["Muon", dialect]
    return trajectory.step_reference(
        function, case, decay=ALL, adapt=ALL, **switches, **given
    )


@pytest.mark.parametrize("dialect", muon.MuonRule.dialects)
def test_every_rank_equals_the_reference(dialect):
    # Keras 3.12 leaves convolutions to Adam.
    shapes = SHAPES[:-1] if dialect == "keras_3_12" else SHAPES
    case = case_of(200, shapes=shapes)
    rule = rules.Muon.resolve(dialect, {"weight_decay": 0.2})
    found = step_rule(rule, case, decay=ALL, adapt=ALL)
    expected = exact(case, dialect, weight_decay=0.2)
    assert trajectory.distance(found, expected, case[0]) < EXACT


@pytest.mark.parametrize(
    "given",
    [
        {"nesterov": False},
        {"scale": "width"},
        {"update_rms": 0.5, "epsilon": 1e-3},
        {"newton_schulz_steps": 3, "coefficients": (1.5, -0.5, 0.0)},
    ],
)
def test_options_equal_the_reference(given):
    case = case_of(200)
    found = step_rule(rules.Muon(**given), case, decay=ALL, adapt=ALL)
    expected = exact(case, "paper", **given)
    assert trajectory.distance(found, expected, case[0]) < EXACT


class _GradientOfThePast(muon.MuonRule):
    """Momentum after the step: the gradient enters it one update late."""

    def direction(self, xp, weight, gradient, slots, step, inside, decay):
        _, direction = super().direction(
            xp, weight, 0 * gradient, slots, step, inside, decay
        )
        new, _ = super().direction(
            xp, weight, gradient, slots, step, inside, decay
        )
        return new, direction


class _ScaleOfTheOtherSide(muon.MuonRule):
    def factor(self, shape):
        rows, columns = muon.matrix_shape(shape)
        return self.update_rms * np.sqrt(min(rows, columns))


class _WrongMatrices(muon.MuonRule):
    def orthogonalized(self, xp, array):
        flat = xp.reshape(array, (array.shape[0], -1))
        return xp.reshape(super().orthogonalized(xp, flat), array.shape)


@pytest.mark.parametrize(
    "mutant",
    [
        rules.Muon(coefficients=(3.4445, -4.7750, 2.1)),
        rules.Muon(newton_schulz_steps=6),
        rules.Muon(nesterov=False),
        rules.Muon(bias_correction=True),
        rules.Muon(update_rms=0.201),
        rules.Muon(weight_decay=0.0),
        rules.Muon(flatten=False),
        _GradientOfThePast(),
        _ScaleOfTheOtherSide(),
        _WrongMatrices(),
    ],
    ids=str,
)
def test_mutants_fail(mutant):
    case = case_of()
    expected = exact(case, "paper")
    found = step_rule(mutant, case, decay=ALL, adapt=ALL)
    assert trajectory.distance(found, expected, case[0]) > MUTANT


def test_the_iteration_is_nearly_orthogonal():
    """Against the singular value decomposition, whatever the spectrum."""
    generator = np.random.default_rng(0)
    rule = rules.Muon(newton_schulz_steps=10)
    for shape in ((6, 6), (3, 9), (9, 3)):
        matrix = generator.normal(size=shape) * 10.0 ** generator.uniform(
            -2, 2, shape
        )
        left, _, right = np.linalg.svd(matrix, full_matrices=False)
        found = rule.orthogonalized(rules.NUMPY, matrix)
        values = np.diag(left.T @ found @ right.T)
        assert np.all((values > 0.6) & (values < 1.3)), values
        np.testing.assert_allclose(
            left @ np.diag(values) @ right, found, atol=1e-9
        )


@pytest.mark.parametrize(
    ("shape", "sides"),
    [
        ((768, 3072), (768, 3072)),
        ((768, 12, 64), (768, 768)),
        ((12, 64, 768), (768, 768)),
        ((3, 3, 64, 128), (576, 128)),
        ((5, 5, 1, 2), (25, 2)),
        ((3, 3, 3, 8, 16), (216, 16)),
        ((7,), (1, 7)),
        ((), (1, 1)),
    ],
)
def test_matrix_of_a_shape(shape, sides):
    assert muon.matrix_shape(shape) == sides


@pytest.mark.parametrize("kind", KERAS)
@pytest.mark.parametrize("large", [False, True])
def test_each_keras_takes_the_same_matrices(kind, large):
    """Attention and convolutions too, on the compiled path and the plain."""
    shapes, updates = SHAPES, 10
    if large:
        updates = 3
        shapes = ((260, 256), (256, 4, 70), (4, 64, 260), (3, 3, 64, 128))
    names = NAMES[-len(shapes) :]
    case = case_of(updates, np.float32, shapes)
    made = getattr(lbcheck, kind).Muon(
        1.0, weight_decay=0.2, exclude_from_layer_adaptation=()
    )
    found = step_optimizer(kind, made, case, names)
    expected = trajectory.step_reference(
        reference.muon,
        case,
        decay=ALL[: len(shapes)],
        adapt=ALL[: len(shapes)],
        weight_decay=0.2,
    )
    assert trajectory.distance(found, expected, case[0]) < CLOSE


@pytest.mark.parametrize("kind", KERAS)
def test_who_is_left_to_the_fallback(kind):
    layers = KERAS[kind].layers
    model = KERAS[kind].Sequential(
        [
            layers.Input((8,)),
            layers.Embedding(20, 16, name="tokens"),
            layers.Dense(16, name="hidden"),
            layers.LayerNormalization(name="norm"),
            layers.Dense(4, name="answers"),
        ]
    )
    optimizer = getattr(lbcheck, kind).Muon()
    rows = {row.path: row for row in lbcheck.audit(model, optimizer).rows}
    rule = {"/".join(path.split("/")[-2:]): row for path, row in rows.items()}
    by_muon = {path for path, row in rule.items() if row.rule == "Muon"}
    assert {path.rpartition("/")[0] for path in by_muon} == {"hidden"}
    assert all(
        row.rule == "AdamW (fallback)"
        for path, row in rule.items()
        if path not in by_muon
    )


def test_attention_of_keras_is_taken_by_its_kernels():
    """The kernels of rank 3, not the biases of rank 2 nor the output."""
    attention = keras.layers.MultiHeadAttention(2, 4, name="attention")
    attention.build((None, 5, 8), (None, 5, 8))
    variables = attention.trainable_variables
    paths = [selection.clean_path(v) for v in variables]
    shapes = [tuple(v.shape) for v in variables]
    paths += ["logits/kernel", "logits/bias"]
    shapes += [(8, 3), (3,)]
    plan = lbcheck.keras3.Muon().plan(paths, shapes)
    adapted = {a.path for a in plan if a.adapt}
    assert adapted == {p for p in paths if p.endswith("kernel")} - {
        "logits/kernel"
    }


def test_rank_patterns():
    shapes = [(), (3,), (3, 1), (3, 4), (2, 3, 4), (2, 2, 3, 4), (2, 2, 3, 1)]
    paths = [f"v{i}" for i in range(len(shapes))]

    def chosen(pattern):
        flags = selection.match([pattern], paths, shapes).flags
        return [i for i, flag in enumerate(flags) if flag]

    assert chosen("rank<2") == [0, 1]
    assert chosen("rank>3") == [5, 6]
    assert chosen("rank!=2") == [0, 1, 4, 5, 6]
    assert chosen("no matrix") == [0, 1, 2, 6]
    # The last is one column; what stands beside it has the same inputs.
    assert chosen("last matrix") == [5]
    assert not chosen("last")  # an expression as any other


WIDE, OUT, RNN = (20, 32), (32, 10), (32, 128)


@pytest.mark.parametrize(
    ("variables", "taken"),
    [
        # The output is the last kernel,
        ({"a/kernel": WIDE, "b/kernel": OUT}, ["a/kernel"]),
        # which may be one column,
        ({"a/kernel": WIDE, "b/kernel": (32, 1)}, ["a/kernel"]),
        ({"a/kernel": (3, 3, 2, 4), "b/kernel": (1, 1, 4, 1)}, ["a/kernel"]),
        # have a bias that is no vector or be before a row,
        ({"a/kernel": WIDE, "b/kernel": OUT, "b/bias": (2, 5)}, ["a/kernel"]),
        ({"a/kernel": WIDE, "b/kernel": OUT, "token": (1, 9)}, ["a/kernel"]),
        ({"a/kernel": WIDE, "b/kernel": OUT, "embedding": OUT}, ["a/kernel"]),
        # or stand elsewhere, if its name says so.
        ({"head/kernel": OUT, "a/kernel": WIDE}, ["a/kernel"]),
        ({"head/kernel": (32, 1), "a/kernel": WIDE}, ["a/kernel"]),
        (
            {
                "a/kernel": WIDE,
                "predictions/kernel": OUT,
                "next_sentence/kernel": (32, 2),
            },
            ["a/kernel"],
        ),
        # A name of what is no kernel says nothing.
        (
            {"a/kernel": WIDE, "head/bias": (2, 5), "b/kernel": OUT},
            ["a/kernel"],
        ),
        # A name that is one by chance does not hide the last,
        (
            {
                "a/head/dense/kernel": (32, 8),
                "b/kernel": (32, 32),
                "c/kernel": OUT,
            },
            ["b/kernel"],
        ),
        (
            {
                "a/kernel": WIDE,
                "classification_head/dense/kernel": OUT,
                "box_head/dense/kernel": (32, 4),
            },
            ["a/kernel"],
        ),
        # which a named one may follow, though it was made before,
        (
            {
                "head/kernel": OUT,
                "rnn/kernel": WIDE,
                "rnn/recurrent_kernel": RNN,
            },
            ["rnn/kernel", "rnn/recurrent_kernel"],
        ),
        (
            {"head/kernel": OUT, "query/kernel": (20, 4, 8)},
            ["query/kernel"],
        ),
        # nor are the hidden matrices of a named layer outputs.
        (
            {
                "a/kernel": WIDE,
                "next_sentence/pooler_dense/kernel": (32, 16),
                "next_sentence/logits/kernel": (16, 2),
            },
            ["a/kernel", "next_sentence/pooler_dense/kernel"],
        ),
        (
            {
                "a/kernel": WIDE,
                "head/classes/kernel": OUT,
                "head/boxes/kernel": (32, 4),
                "b/head/kernel": (32, 7),
            },
            ["a/kernel"],
        ),
        (
            {
                "a/kernel": WIDE,
                "cls/predictions/transform/dense/kernel": (32, 32),
                "next_sentence/kernel": (32, 2),
            },
            ["a/kernel", "cls/predictions/transform/dense/kernel"],
        ),
        # Beside a column are others that take what it takes,
        (
            {
                "a/kernel": (20, 32),
                "mean/kernel": (32, 4),
                "scale/kernel": (32, 4),
                "value/kernel": (32, 1),
            },
            ["a/kernel"],
        ),
        # not what gives it that.
        ({"a/kernel": (32, 32), "b/kernel": (32, 1)}, ["a/kernel"]),
        (
            {"kernel": WIDE, "recurrent_kernel": RNN, "b/kernel": (32, 1)},
            ["kernel", "recurrent_kernel"],
        ),
        (
            {"conv/kernel": (3, 3, 2, 4), "b/kernel": (64, 1)},
            ["conv/kernel"],
        ),
        (
            {"value/kernel": (32, 2, 16), "b/kernel": (32, 1)},
            ["value/kernel"],
        ),
        # The name of the model, or of one around it, says nothing.
        (
            {
                "classifier/a/kernel": WIDE,
                "classifier/a/bias": (32,),
                "classifier/b/kernel": OUT,
            },
            ["classifier/a/kernel"],
        ),
        (
            {
                "outer/head/a/kernel": WIDE,
                "outer/head/logits/kernel": (32, 1),
                "outer/head/b/kernel": (20, 32),
            },
            ["outer/head/a/kernel", "outer/head/b/kernel"],
        ),
        (
            {
                "embedding_model/tokens/embeddings": (50, 20),
                "embedding_model/a/kernel": WIDE,
                "embedding_model/b/kernel": OUT,
            },
            ["embedding_model/a/kernel"],
        ),
    ],
)
def test_the_output_is_left_out_and_nothing_else(variables, taken):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plan = lbcheck.keras3.Muon().plan(
            list(variables), list(variables.values())
        )
    assert [a.path for a in plan if a.adapt] == taken


@pytest.mark.parametrize("kind", KERAS)
def test_muon_that_orthogonalises_nothing_is_found(kind):
    layers = KERAS[kind].layers
    model = KERAS[kind].Sequential([layers.Input((8,)), layers.Dense(4)])
    optimizer = getattr(lbcheck, kind).Muon()
    (finding,) = lbcheck.audit(model, optimizer).findings
    assert "Muon orthogonalises nothing" in finding
    with pytest.warns(UserWarning, match="Muon orthogonalises nothing"):
        optimizer.build(model.trainable_variables)


@pytest.mark.parametrize("kind", KERAS)
def test_a_model_may_be_called_as_an_output(kind):
    """A subclass gives its paths its own name."""

    class Classifier(KERAS[kind].Model):
        def __init__(self):
            super().__init__()
            self.first = KERAS[kind].layers.Dense(5)
            self.last = KERAS[kind].layers.Dense(3)

        def call(self, inputs):
            return self.last(self.first(inputs))

    model = Classifier()
    model(np.zeros((1, 4), np.float32))
    rows = lbcheck.audit(model, getattr(lbcheck, kind).Muon()).rows
    assert [row.shape for row in rows if row.rule == "Muon"] == [(4, 5)]


def test_who_leaves_muon_nothing_is_named():
    for given, message in (
        ({}, "nothing: by the dialect 'paper' no variable is a hidden matrix"),
        (
            {"exclude_from_layer_adaptation": ["kernel"]},
            "nothing: `exclude_from_layer_adaptation` selects every variable",
        ),
    ):
        with pytest.warns(UserWarning, match=message):
            lbcheck.keras3.Muon(**given).plan(["kernel"], [(4, 3)])


def test_keras_muon_that_orthogonalises_nothing_is_found():
    model = keras.Sequential(
        [keras.layers.Input((8,)), keras.layers.Dense(4, name="one")]
    )
    (finding,) = lbcheck.audit(
        model,
        keras.optimizers.Muon(exclude_layers=["one"], adam_weight_decay=None),
    ).findings
    assert "Muon orthogonalises nothing" in finding


def test_defaults_of_a_dialect_do_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lbcheck.keras3.Muon(dialect="keras").plan(
            ["a/kernel", "b/bias"], [(3, 2), (2,)]
        )


@pytest.mark.parametrize("kind", KERAS)
def test_the_fallback_takes_its_share_of_the_rate(kind):
    case = trajectory.problem(5, 0.1, dtype=np.float32)
    room = getattr(lbcheck, kind)
    found = {}
    for ratio in (1.0, 0.5):
        made = room.Muon(1.0, weight_decay=0.1, fallback_rate_ratio=ratio)
        found[ratio] = step_optimizer(kind, made, case)
    expected = trajectory.step_reference(
        reference.muon,
        case,
        adapt=trajectory.ADAPTED["Muon"],
        weight_decay=0.1,
        fallback_rate_ratio=0.5,
    )
    assert trajectory.distance(found[0.5], expected, case[0]) < CLOSE
    np.testing.assert_array_equal(found[0.5][0], found[1.0][0])
    assert not np.allclose(found[0.5][2], found[1.0][2])


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"newton_schulz_steps": 0}, ValueError, r"`newton_schulz.*\[1, 20\]"),
        ({"newton_schulz_steps": 5.0}, TypeError, "must be a whole number"),
        ({"coefficients": (1.0, 2.0)}, TypeError, r"three numbers \(a, b, c\)"),
        ({"coefficients": (1.0, 2.0, "3")}, TypeError, "`coefficients` must"),
        ({"scale": "spectral"}, ValueError, "`scale` must be one of"),
        ({"dialect": "keras", "scale": "width"}, ValueError, "scale='rms'"),
    ],
)
def test_bad_input(given, error, message):
    with pytest.raises(error, match=message):
        lbcheck.keras3.Muon(**given)


def test_no_gradient_is_no_step():
    rule = rules.Muon(epsilon=0.0, weight_decay=0.0)
    weight = np.ones((3, 2))
    new, _, _ = rule.update(
        rules.NUMPY, weight, 0 * weight, (0 * weight,), 0.1, 0
    )
    np.testing.assert_array_equal(new, weight)
