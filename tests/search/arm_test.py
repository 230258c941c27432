"""Arms: who takes which hyperparameter, optimizers over variables, files."""

import functools
import itertools
import json
import math
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from absl import app

import lbcheck
from lbcheck.comparison import session
from lbcheck.search import arm as arms
from lbcheck.search import space as spaces

KERASES = {"tf_keras": tf_keras, "keras3": keras}
RATE = {"min": 0.01, "max": 1.0, "scale": "log"}
STEPS = 20

MINE = arms.Arm("mine", "adamw", {"learning_rate": RATE})


class Own(keras.optimizers.SGD):
    """A user's optimizer."""


# --- who takes what -----------------------------------------------------------


def test_split():
    arm = arms.Arm(
        "lamb",
        "lamb",
        {
            "learning_rate": RATE,
            "beta_1": {"values": [0.8, 0.9]},
            "fallback_epsilon": {"values": [1e-8, 1e-6]},
            "label_smoothing": {"values": [0.0, 0.1]},
        },
        fallback="adamw",
        warmup_steps=3,
        global_clipnorm=2.0,
        fallback_beta_2=0.99,
    )
    point = {
        "learning_rate": 0.5,
        "beta_1": 0.8,
        "fallback_epsilon": 1e-6,
        "label_smoothing": 0.1,
    }
    split = arm.resolve(point, model_arguments=["label_smoothing", "width"])
    assert split.schedule == {"learning_rate": 0.5, "warmup_steps": 3}
    assert split.optimizer == {"beta_1": 0.8, "global_clipnorm": 2.0}
    # Moments are shared with the rule, unless given apart.
    assert split.fallback == {"beta_1": 0.8, "beta_2": 0.99, "epsilon": 1e-6}
    assert split.model == {"label_smoothing": 0.1}
    with pytest.raises(
        ValueError,
        match="Arm lamb: `label_smoothing` is not an argument.*width",
    ):
        arm.resolve(point, model_arguments=["width"])


def test_what_a_schedule_needs():
    family = {"learning_rate": RATE}
    assert arms.Arm("a", "lars", family).fixed == {"warmup_steps": 0}
    assert not arms.Arm("a", "lars", family, "constant").fixed
    with pytest.raises(ValueError, match="goyal needs `boundaries`"):
        arms.Arm("a", "lars", family, "goyal")
    steps = arms.Arm("a", "lars", family, "goyal", boundaries=[5, 9])
    rate = steps.schedule_of({"learning_rate": 2.0}, STEPS)
    np.testing.assert_allclose([rate(4), rate(5), rate(9)], [2, 0.2, 0.02])


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(optimizer="sgd"), "`optimizer` must be one of.*received 'sgd'"),
        (dict(schedule="linear"), "`schedule` must be one of.*'linear'"),
        (dict(schedule=[{"a": 1}, *range(9)]), r"`schedule` must.*4, \.\.\.\]"),
        (dict(fallback="adam"), "`fallback` must be one of.*'adam'"),
        (
            dict(optimizer="adamw", fallback="nesterov"),
            "`fallback` is for the optimizers lars, lamb and muon",
        ),
        (dict(learning_rate=0.1), "learning_rate must be either fixed or"),
        (dict(space={"momentum": RATE}), "needs `learning_rate`"),
        (dict(fallback_epsilon=1e-6), "`fallback_epsilon` is not an argument"),
        (
            dict(optimizer=Own, space=None),
            "optimizer of your own needs `space`",
        ),
        (dict(optimizer=keras.optimizers.SGD()), "or an optimizer class"),
        (dict(space={"learning_rate": {"min": 1}}), "Arm mine: learning_rate"),
        (dict(momentum=math.nan), "`momentum` must be a finite number.*nan"),
        (dict(clipnorm=math.tanh), "`clipnorm` must be .*built-in.*tanh"),
        (dict(space=5), "`space` must be a dict of parameters.*received 5"),
    ],
)
def test_refused(arguments, message):
    given = dict(optimizer="lars", space={"learning_rate": RATE})
    with pytest.raises((TypeError, ValueError), match=message):
        arms.Arm("mine", **given | arguments)


def described(optimizer, fixed, **searched):
    """An arm as its JSON file has it."""
    space = {"learning_rate": RATE, **searched}
    return {"optimizer": optimizer, "space": space, "fixed": fixed}


@pytest.mark.parametrize(
    "arm, message",
    [
        (
            described("adamw", dict(dialect="keras", bias_correction=False)),
            "keras.*bias_correction=True.*received bias_correction=False",
        ),
        (
            described(
                "lars",
                {"dialect": "optax"},
                denominator={"values": ["joint", "sum"]},
            ),
            "optax.*denominator='joint'.*received denominator='sum'",
        ),
        (
            described(
                "adamw",
                {"bias_correction": True},
                dialect={"values": ["paper", "keras", "bert_original"]},
            ),
            "bert_original.*bias_correction=False.*=True",
        ),
        (
            described(
                "adamw",
                {},
                dialect={"values": ["paper", "tfa"]},
                epsilon_hat={"values": [True, False]},
            ),
            "tfa.*epsilon_hat=True.*received epsilon_hat=False",
        ),
        (
            described(
                "lars", {"dialect": "mlperf"}, epsilon={"values": [1e-3, 0.0]}
            ),
            "mlperf.*epsilon=1e-07.*received epsilon=0.0",
        ),
        (
            described("lamb", {"dialect": "nvlamb"}) | {"fallback": "adamw"},
            "`fallback`.*none here",
        ),
        (
            described(
                "lamb",
                dict(fallback_dialect="keras", fallback_epsilon_hat=False),
            )
            | {"fallback": "adamw"},
            "AdamW.dialect='keras'.*epsilon_hat=True",
        ),
        (described("nesterov", {"nesterov": False}), "Nesterov computes"),
        (
            described("momentum", {}, momentum={"values": [0.9, 1.0]}),
            r"`momentum` must lie in \[0, 1\), received 1.0",
        ),
        (
            described(
                "lamb", {}, beta_1={"min": 0.5, "max": 1.2, "scale": "linear"}
            ),
            r"`beta_1` must lie in \[0, 1\), received 1.1999",
        ),
        (
            described("adamw", {}, global_clipnorm={"values": [1.0, 0.0]}),
            "`global_clipnorm` must be.*above 0, received 0.0",
        ),
        (
            described("lamb", {"exclude_from_weight_decay": [""]}),
            "matches the empty text",
        ),
        (described("lamb", {"weight_decay": "0.1"}), "must be a number"),
    ],
)
def test_values_that_no_trial_could_have_are_refused(arm, message, tmp_path):
    """When the arm is read, not at its first trial."""
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(arm))
    with pytest.raises((TypeError, ValueError), match=f"Arm mine: .*{message}"):
        arms.load(str(path))


@pytest.mark.parametrize(
    "arm, computed",
    [
        (
            described("adamw", dict(dialect="tfa", epsilon_hat=True)),
            dict(epsilon_hat=True, decay_times_rate=False),
        ),
        (
            described(
                "lars", {"dialect": "mlperf"}, nesterov={"values": [True]}
            ),
            dict(nesterov=True, epsilon=1e-7),
        ),
        (
            described("lamb", {}, bias_correction={"values": [False]}),
            dict(bias_correction=False),
        ),
        (
            described(
                "momentum",
                {},
                momentum={"min": 0, "max": 1, "scale": "linear"},
            ),
            dict(nesterov=False),
        ),
    ],
)
def test_what_an_arm_and_its_dialect_agree_on_is_computed(arm, computed):
    made = arms.Arm.from_dict("mine", arm)
    (point,) = made.space.points(0, 0, 1, STEPS)
    made.check(point, STEPS)
    config = made.make("keras3", point, STEPS).get_config()
    assert {name: config[name] for name in computed} == computed


@pytest.mark.parametrize(
    "schedule, message",
    [
        ("os:system", "must take `total_steps`; received 'os:system'"),
        ("math:hypot", "Arm mine: the schedule 'math:hypot': no signature"),
        ("math:pi", "Arm mine: the schedule 'math:pi': 3.14.* callable"),
    ],
)
def test_a_schedule_that_is_none_is_named(schedule, message):
    with pytest.raises((TypeError, ValueError), match=message):
        arms.Arm("mine", "adamw", {"learning_rate": RATE}, schedule)


def test_an_optimizer_without_a_rate():
    with pytest.raises(TypeError, match="must take `learning_rate`"):
        arms.Arm("mine", lambda rate: Own(rate), {"learning_rate": RATE})


@pytest.mark.parametrize(
    "point, message",
    [
        ({"momentum": 1.2}, r"Arm lars: LARS: `momentum` must lie in \[0, 1\)"),
        ({"warmup_steps": 30}, "Arm lars.*warmup_steps.*30"),
        ({"weight_decay": -1.0}, "Arm lars: LARS: `weight_decay`"),
    ],
)
def test_out_of_range(point, message):
    arm = arms.load("lars")
    good = arm.space.points(0, 0, 1, STEPS)[0]
    arm.check(good, STEPS)
    with pytest.raises(ValueError, match=message):
        arm.check(good | point, STEPS)


# --- optimizers -----------------------------------------------------------


def variable(keras_name, value):
    whole = isinstance(value, int)
    if keras_name == "tf_keras":
        return tf.Variable(value, dtype=tf.int64 if whole else tf.float32)
    return keras.Variable(value, dtype="int64" if whole else "float32")


class Training:
    """Updates of an optimizer on a quadratic, traced once for many runs."""

    def __init__(self, keras_name, optimizer):
        generator = np.random.default_rng(0)
        self.start = [
            generator.normal(1, 0.5, shape).astype(np.float32)
            for shape in ((260, 260), (8,), (3, 4))  # the first is compiled
        ]
        make = tf.Variable if keras_name == "tf_keras" else keras.Variable
        names = ("first_kernel", "first_bias", "second_kernel")
        self.weights = [make(w, name=n) for w, n in zip(self.start, names)]
        optimizer.build(self.weights)
        self.state = [
            getattr(v, "value", v) if keras_name == "keras3" else v
            for v in optimizer.variables
        ]
        self.first = [tf.identity(v) for v in self.state]
        self.optimizer = optimizer
        self.traces = 0
        self._step = tf.function(self._update)

    def _update(self):
        self.traces += 1
        gradients = [0.3 * tf.convert_to_tensor(w) + 0.05 for w in self.weights]
        self.optimizer.apply_gradients(zip(gradients, self.weights))

    def run(self):
        for weight, start in zip(self.weights, self.start):
            weight.assign(start)
        for state, first in zip(self.state, self.first):
            state.assign(first)
        for _ in range(STEPS):
            self._step()
        return [np.asarray(tf.convert_to_tensor(w)) for w in self.weights]


def changes(training, result):
    return [after - start for after, start in zip(result, training.start)]


@pytest.mark.parametrize(
    "keras_name, name, schedule",
    [
        # SOAP's first bases are in part what rounding chooses.
        *itertools.product(
            KERASES,
            sorted({*arms.BUILT_IN} - {"soap"}),
            ["warmup_polynomial"],
        ),
        ("tf_keras", "nesterov", "warmup_cosine"),
        ("keras3", "nesterov", "cosine"),
        ("keras3", "lars", "constant"),
    ],
)
def test_variables_do_as_numbers(keras_name, name, schedule):
    """One trace over variables gives what an optimizer of numbers gives."""
    built_in = arms.load(name)
    specs = dict(built_in.space.parameters)
    described = built_in.space.to_dict()
    if schedule in ("cosine", "constant"):
        del described["parameters"]["warmup_steps"]
        del specs["warmup_steps"]
    arm = arms.Arm(
        name,
        built_in.optimizer,
        described,
        schedule,
        fallback=built_in.fallback,
        **built_in.fixed,
    )
    points = arm.space.points(3, 0, 2, STEPS)
    names = arm.variable_names(points[0])
    assert set(names) == set(specs)
    held = {n: variable(keras_name, points[0][n]) for n in names}
    shared = Training(keras_name, arm.make(keras_name, held, STEPS))
    moved = []
    for point in points:
        for held_name, number in held.items():
            number.assign(point[held_name])
        moved.append(changes(shared, shared.run()))
        own = Training(keras_name, arm.make(keras_name, point, STEPS))
        for got, expected in zip(moved[-1], changes(own, own.run())):
            np.testing.assert_allclose(
                got, expected, rtol=0, atol=1e-4 * np.abs(expected).max()
            )
    assert shared.traces == 1
    assert np.abs(moved[0][0] - moved[1][0]).max() > 1e-3  # points differ


def test_the_cosine_follows_a_warmup_variable():
    arm = arms.Arm("a", "lars", {"learning_rate": RATE}, "warmup_cosine")
    warmup = tf.Variable(5, dtype=tf.int64)
    held = {"learning_rate": tf.Variable(1.0), "warmup_steps": warmup}
    rate = arm.schedule_of(held, STEPS)
    traced = tf.function(lambda step: rate(step))
    for steps in (5, 12):
        warmup.assign(steps)
        numbers = {"learning_rate": 1.0, "warmup_steps": steps}
        plain = arm.schedule_of(numbers, STEPS)
        for step in range(STEPS):
            np.testing.assert_allclose(
                traced(tf.constant(step, tf.int64)), plain(step), atol=1e-6
            )


@pytest.mark.parametrize("keras_name", KERASES)
def test_fallback_and_settings(keras_name):
    arm = arms.Arm(
        "lamb",
        "lamb",
        {"learning_rate": RATE, "beta_1": {"values": [0.8, 0.9]}},
        fallback="adamw",
        fallback_epsilon=1e-3,
        dialect="nvlamb",
        exclude_from_layer_adaptation=["bias"],
    )
    made = arm.make(keras_name, {"learning_rate": 0.1, "beta_1": 0.8}, STEPS)
    training = Training(keras_name, made)
    rows = {a.path: a for a in training.optimizer.assignments}
    kernel = next(
        a for path, a in rows.items() if path.endswith("first_kernel")
    )
    bias = next(a for path, a in rows.items() if path.endswith("bias"))
    assert isinstance(kernel.rule, lbcheck.rules.LAMB)
    assert isinstance(bias.rule, lbcheck.rules.AdamW)
    assert (kernel.rule.epsilon, bias.rule.epsilon) == (1e-6, 1e-3)
    assert bias.rule.beta_1 == 0.8
    assert made.dialect == "nvlamb"


def test_own_optimizer():
    arm = arms.Arm(
        "own",
        Own,
        {
            "learning_rate": RATE,
            "momentum": {"values": [0.5, 0.9]},
            "warmup_steps": {"value": 0.25, "of": "steps"},
        },
        nesterov=True,
    )
    [point] = arm.space.points(0, 0, 1, STEPS)
    # Keras's own optimizers check and branch on their numbers.
    assert arm.variable_names(point) == ("learning_rate", "warmup_steps")
    made = arm.make("keras3", point, STEPS)
    assert type(made) is Own and made.nesterov
    assert made.momentum == point["momentum"]
    np.testing.assert_allclose(
        float(made._learning_rate(5)), point["learning_rate"], rtol=1e-6
    )
    assert not arm.layer_wise
    assert arms.Arm("own", Own, arm.space, layer_wise=True).layer_wise
    with pytest.raises(ValueError, match="layer_wise.*received 'yes'"):
        arms.Arm("own", Own, arm.space, layer_wise="yes")
    with pytest.raises(TypeError, match="Arm own: the model is of tf_keras"):
        arm.make("tf_keras", point, STEPS)


_made_once = functools.cache(tf_keras.optimizers.SGD)


def _same(learning_rate):
    made = _made_once()
    made._learning_rate = learning_rate
    return made


_OWN_FACTORIES = [
    (lambda learning_rate: None, "must make .*optimizers, received None"),
    (lambda learning_rate: "sgd", "must make .*optimizers, received 'sgd'"),
    (lambda learning_rate: tf_keras.optimizers.SGD, "must make .*<class"),
    (tf_keras.optimizers.legacy.SGD, "must make .*legacy"),
    (
        lambda learning_rate: keras.optimizers.SGD(0.1),
        "the model is of tf_keras, the optimizer keras",
    ),
    (
        lambda learning_rate: tf_keras.optimizers.SGD(0.1),
        "must have the `learning_rate` that it is made with",
    ),
    (
        lambda learning_rate: tf_keras.optimizers.SGD(
            tf_keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9)
        ),
        "must have the `learning_rate` that it is made with",
    ),
    (
        lambda learning_rate: tf_keras.optimizers.SGD(2 * learning_rate),
        "given as a schedule of Keras, failed: .*arm_test.py",
    ),
    (_same, "makes the same optimizer every time"),
]


@pytest.mark.parametrize(
    ("factory", "message"), _OWN_FACTORIES, ids=map(str, range(9))
)
def test_own_factories_that_no_study_can_use(factory, message):
    arm = arms.Arm("mine", factory, {"learning_rate": RATE})
    refused = pytest.raises(
        (TypeError, ValueError), match=f"^Arm mine: .*{message}"
    )
    with refused:
        for _ in range(2):
            arm.make("tf_keras", {"learning_rate": 0.1}, STEPS)


def test_classes_of_this_package_are_known():
    for cls in (lbcheck.keras3.LARS, lbcheck.tf_keras.LARS):
        arm = arms.Arm("mine", cls, {"learning_rate": RATE})
        assert arm.optimizer == "lars" and arm.layer_wise
        made = arm.make("tf_keras", {"learning_rate": 0.1}, STEPS)
        assert isinstance(made, lbcheck.tf_keras.LARS)


# --- files -----------------------------------------------------------------


def test_built_in():
    assert {"adamw", "lamb", "lars", "nesterov"} <= set(arms.BUILT_IN)
    sizes = {}
    for name in arms.BUILT_IN:
        arm = arms.load(name)
        assert arm.name == arm.optimizer == name
        assert arm.layer_wise == (name in ("lamb", "lars", "muon"))
        volume = arm.space.volume()
        sizes[name] = len(volume)
        assert volume["learning_rate"] == pytest.approx(2.477, abs=1e-3), name
        for steps in (60, 3000):
            for point in arm.space.points(0, 0, 50, steps):
                arm.check(point, steps, model_arguments=())
    assert set(sizes.values()) == {4}
    # The numbers of the published fallback: nado2021, Table 4.
    assert arms.load("lamb").fixed == {"fallback_epsilon": 1e-6}


@pytest.mark.parametrize("name", [*arms.BUILT_IN, "own", "partial"])
def test_describe(name):
    optimizers = {"own": Own, "partial": functools.partial(Own, nesterov=True)}
    arm = (
        arms.Arm(name, optimizers[name], {"learning_rate": RATE}, clipnorm=1.0)
        if name in optimizers
        else arms.load(name)
    )
    described = json.loads(json.dumps(arm.describe()))
    if name == "partial":
        assert described["optimizer"] == "functools:partial"
        return
    assert arms.Arm.from_dict(name, described).describe() == described
    if name == "own":
        assert described["optimizer"] == f"{__name__}:Own"
        assert arms.Arm.from_dict(name, described).optimizer is Own


def test_load(tmp_path):
    assert arms.load(f"{__name__}:MINE") is MINE
    path = tmp_path / "careful.json"
    described = arms.load("nesterov").describe()
    described["fixed"] = {"warmup_power": 2.0}
    path.write_text(json.dumps(described))
    arm = arms.load(str(path))
    assert (arm.name, arm.fixed) == ("careful", {"warmup_power": 2.0})

    space = tmp_path / "space.json"
    space.write_text(json.dumps(described["space"]))
    assert arms.Arm("a", "nesterov", space).space == arm.space
    assert arms.Arm("a", "nesterov").space == arm.space
    given = spaces.Space.from_dict(described["space"])
    assert arms.Arm("a", "nesterov", given).space is given

    # A file of an arm names a space from its own folder.
    (tmp_path / "inside").mkdir()
    inner = tmp_path / "inside" / "inner.json"
    inner.write_text('{"optimizer": "nesterov", "space": "../space.json"}')
    assert arms.load(str(inner)).space == arm.space


@pytest.mark.parametrize(
    "content, message",
    [
        ("{", "broken.json: not JSON: Expecting"),
        ("[]", "broken.json: expected `object`, got `array`"),
        ('{"optimizer": "lars"}', r"broken.json.*missing \['space'\]"),
        ('{"rule": 1}', r"broken.json.*unknown \['rule'\]"),
        (
            '{"optimizer": "lars", "space": {"learning_rate": {"value": 1}}, '
            '"fixed": {"learning_rate": 1}}',
            "broken.json: Arm broken: learning_rate must be either",
        ),
    ],
)
def test_broken_files(tmp_path, content, message):
    path = tmp_path / "broken.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        arms.load(str(path))


def test_unknown_names(tmp_path):
    with pytest.raises(ValueError, match="Unknown arm 'sgd'; there are adag"):
        arms.load("sgd")
    with pytest.raises(app.UsageError, match="no_such_module"):
        arms.load("no_such_module:ARM")
    with pytest.raises(ValueError, match="expected an lbcheck.Arm"):
        arms.load(f"{__name__}:RATE")
    with pytest.raises(OSError, match="missing.json"):
        arms.load(str(tmp_path / "missing.json"))


def test_imports_no_framework():
    code = (
        "import sys; from lbcheck.search import arm; arm.load('lamb'); "
        "print({'tensorflow', 'keras', 'tf_keras', 'scipy'} & set(sys.modules))"
    )
    root = pathlib.Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "set()"


class Named:
    def __init__(self, name):
        self.name = name


@pytest.mark.parametrize(
    "name",
    [
        "/etc/cron",
        "../up",
        "..",
        ".hidden",
        "a/b",
        "a\\b",
        "nul\0",
        "line\nbreak",
        "\x1b[31mred",
        "=cmd|' /C calc'!A0",
        "-rf",
        " ",
        "",
        "x" * 101,
        "é" * 101,
        "half\ud800",
        7,
        None,
    ],
)
def test_a_name_that_no_folder_has_is_refused(name):
    with pytest.raises(ValueError, match="An arm's name is up to 100"):
        session._by_name([Named("lamb"), Named(name)])


@pytest.mark.parametrize(
    "one, other", [("lamb", "LAMB"), ("caf\u00e9", "cafe\u0301"), ("a", "a")]
)
def test_names_that_a_disk_may_confuse_are_refused(one, other):
    with pytest.raises(ValueError, match="distinguish|Several arms|is up to"):
        session._by_name([Named(one), Named(other)])


@pytest.mark.parametrize("name", ["my arm 2", "lr=0.1,wd=0", "Größe_x", "β2"])
def test_usual_names_are_taken(name):
    assert list(session._by_name([Named("lamb"), Named(name)])) == [
        "lamb",
        name,
    ]
