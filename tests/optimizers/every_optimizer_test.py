"""What holds of every optimizer: all that `lbcheck.optimizers.ALL` lists.

A new one is tested here by its entry there, its `example` and its reference;
what only some have is tested in optimizers_test.py and rules_test.py.
"""

import doctest
import importlib
import inspect
import pkgutil
import re

import numpy as np
import pytest
import tensorflow as tf
from absl import flags

import lbcheck
from lbcheck import optimizers
from lbcheck import rules
from lbcheck.conform import reference
from lbcheck.optimizers import base
from lbcheck.optimizers import manual as manuals
from lbcheck.optimizers import tensorflow_update
from lbcheck.search import arm
from lbcheck.settings import optimizer as optimizer_flags
from tests.optimizers import trajectory
from tests.optimizers.optimizers_test import KERAS
from tests.optimizers.optimizers_test import small_data
from tests.optimizers.optimizers_test import small_model
from tests.optimizers.optimizers_test import step_optimizer
from tests.optimizers.rules_test import step_rule
from tests.optimizers.trajectory import ADAPTED

ALL = {definition.__name__: definition for definition in optimizers.ALL}
DECAY = 0.1
EXACT, CLOSE, MUTANT = 1e-12, 1e-5, 1e-3


def example(name):
    """(peak of the rate, the other arguments), with decay."""
    given = {**ALL[name].example, "weight_decay": DECAY}
    return given.pop("learning_rate"), given


def exact(name, case, dialect="paper", **given):
    """Weights after all updates by the float64 reference."""
    rule = ALL[name].rule_class
    function, switches = reference.REFERENCES[rule.title, dialect]
    everything = (rule.title, dialect) in reference.ADAPTS_ALL
    adapt = tuple(d or everything for d in trajectory.DECAY)
    adapt = ADAPTED.get(name, adapt)
    words = {**ALL[name].fixed, **given, **switches}
    return trajectory.step_reference(function, case, adapt=adapt, **words)


def rule_of(name, **given):
    return ALL[name].rule_of("paper", given)


def test_all_is_what_there_is():
    """Every optimizer in a file of the room is listed, by its name."""
    there = {
        found
        for module in pkgutil.iter_modules(optimizers.__path__)
        if not module.name.endswith(("_adapter", "_command"))
        for found in vars(
            importlib.import_module(f"lbcheck.optimizers.{module.name}")
        ).values()
        if inspect.isclass(found) and issubclass(found, base.Optimizer)
    }
    assert there - {base.Optimizer} == set(optimizers.ALL)
    assert len(ALL) == len(optimizers.ALL)


@pytest.mark.parametrize("name", ALL)
def test_is_derived_everywhere(name):
    definition, lower = ALL[name], name.lower()
    assert name in lbcheck.__all__
    title = definition.rule_class.title
    assert rules.ALL[title] is definition.rule_class
    assert getattr(rules, title) is definition.rule_class
    for dialect in definition.rule_class.dialects:
        assert (title, dialect) in reference.REFERENCES
    for module in (lbcheck.keras3, lbcheck.tf_keras):
        cls = getattr(module, name)
        assert cls.__module__ == module.__name__
        assert issubclass(cls, definition)
        assert inspect.signature(cls) == inspect.signature(definition)
    values = flags.FlagValues()
    optimizer_flags.define(values)
    values(["program", f"--optimizer={lower}", "--weight_decay=0.5"])
    made = optimizer_flags.make(values, lbcheck.tf_keras, 0.1)
    assert made.get_config()["weight_decay"] == 0.5
    space = {"learning_rate": {"min": 0.1, "max": 1.0, "scale": "log"}}
    mine = arm.Arm("mine", lower, space, "constant")
    assert mine.layer_wise == definition.adapts()
    given = {"learning_rate": 0.25}
    made = mine.make("keras3", given, 10)
    assert isinstance(made, getattr(lbcheck.keras3, name))


@pytest.mark.parametrize("name", ALL)
def test_help_is_the_manual(name):
    manual = ALL[name].__doc__
    for part in ("Args:", "Raises:", "Example:", "Source:", "dialect:"):
        assert part in manual
    assert not re.search(r"\{(shared|arguments)\}", manual)
    assert max(map(len, manual.splitlines())) <= 80
    for argument in inspect.signature(ALL[name]).parameters:
        if argument != "kwargs":
            assert manuals.about(ALL[name], argument), argument
    runner = doctest.DocTestRunner()
    finder = doctest.DocTestFinder(recurse=False)
    for test in finder.find(ALL[name], name):
        runner.run(test)
    assert not runner.failures
    assert runner.tries > 2


@pytest.mark.parametrize("name", ALL)
def test_the_rule_equals_the_reference(name):
    """In NumPy float64; the two share no code."""
    peak, given = example(name)
    case = trajectory.problem(200, peak)
    rule = rule_of(name, **given)
    found = step_rule(rule, case)
    settings = rule.dialects["paper"].fallback
    if settings is not None:
        fallen = step_rule(rule.fallback(settings), case)
        adapted = ADAPTED.get(name, trajectory.DECAY)
        found = np.where(adapted, *_objects(found, fallen))
    expected = exact(name, case, **given)
    assert trajectory.distance(found, expected, case[0]) < EXACT


@pytest.mark.parametrize("name", ALL)
def test_mutants_fail(name):
    """Decay left out or everywhere, state lost, the next update's rate."""
    peak, given = example(name)
    case = trajectory.problem(40, peak)
    rule = rule_of(name, **given)
    expected = exact(name, case, **given)
    late = (*case[:2], case[2][1:] + case[2][:1])
    mutants = {
        "no decay": step_rule(rule_of(name, **given | no_decay), case),
        "decay of all": step_rule(rule, case, decay=(True,) * 4),
        "the next rate": step_rule(rule, late),
    }
    if rule.slots and rule.compiles:  # SOAP's first update moves nothing
        mutants["no state"] = step_rule(rule, case, update=_forgets(rule))
    if name in ADAPTED:  # the reference's second is the fallback's
        expected = expected[:1] + step_rule(rule, case)[1:]
    for mutant, found in mutants.items():
        # Those that decay, or where all is to decay those that do not.
        chosen = slice(2, 4) if mutant == "decay of all" else slice(0, 2)
        far = trajectory.distance(
            found[chosen], expected[chosen], case[0][chosen]
        )
        assert far > MUTANT, mutant


no_decay = {"weight_decay": 0.0}


def _objects(*lists):
    """Lists of arrays of many shapes as arrays of them."""
    arrays = [np.empty(len(found), object) for found in lists]
    for array, found in zip(arrays, lists):
        array[:] = found
    return arrays


def _forgets(rule):
    def update(xp, weight, gradient, slots, *arguments, **flags):
        fresh = tuple(
            np.full_like(s, d.initial)
            for s, d in zip(slots, rule.slots_of(weight.shape))
        )
        return rule.update(xp, weight, gradient, fresh, *arguments, **flags)

    return update


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("kind", KERAS)
@pytest.mark.parametrize("name", ALL)
def test_each_keras_equals_the_reference(kind, name, jit):
    peak, given = example(name)
    case = trajectory.problem(40, peak, dtype=np.float32)
    made = getattr(getattr(lbcheck, kind), name)(1.0, **given)
    found = step_optimizer(kind, made, case, jit=jit)
    expected = exact(name, case, **given)
    assert trajectory.distance(found, expected, case[0]) < CLOSE


@pytest.mark.parametrize("kind", KERAS)
@pytest.mark.parametrize("name", ALL)
def test_large_variables_equal_reference(kind, name):
    """Past the size from which the compiled path is taken."""
    if not ALL[name].rule_class.compiles:
        pytest.skip(f"{name} takes the same path at every size")
    peak, given = example(name)
    side = int(np.ceil(np.sqrt(tensorflow_update.LARGE)))
    shapes = ((side, side), (side + 1, side), (side,), (3,))
    case = trajectory.problem(10, peak, dtype=np.float32, shapes=shapes)
    made = getattr(getattr(lbcheck, kind), name)(1.0, **given)
    found = step_optimizer(kind, made, case)
    expected = exact(name, case, **given)
    for a, b, start in zip(found, expected, case[0]):
        # But for a few elements where an update with a sign in it jumps.
        far = np.quantile(np.abs(a - b), 1 - 1e-4)
        assert far < CLOSE * np.abs(b - start).max()


@pytest.mark.parametrize("kind", KERAS)
@pytest.mark.parametrize("name", ALL)
def test_saved_it_continues_the_trajectory(kind, name, tmp_path):
    """Configuration and state, by the name that Keras has registered."""
    _, given = example(name)
    cls = getattr(getattr(lbcheck, kind), name)
    model = small_model(kind, optimizer=cls(0.01, **given))
    x, y = small_data()
    model.fit(x, y, batch_size=32, shuffle=False, verbose=0)
    path = str(tmp_path / "model.keras")
    model.save(path)
    loaded = KERAS[kind].models.load_model(path)
    assert type(loaded.optimizer) is cls
    assert loaded.optimizer.get_config() == model.optimizer.get_config()
    for each in (model, loaded):
        each.fit(x, y, batch_size=32, shuffle=False, verbose=0)
    assert int(loaded.optimizer.iterations) == 4
    for a, b in zip(model.get_weights(), loaded.get_weights()):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("kind", KERAS)
@pytest.mark.parametrize("name", ALL)
def test_bfloat16_variables_are_updated_in_float32(kind, name):
    """The first update, rounded once: at most a bfloat16's last bit."""
    peak, given = example(name)
    weights, *rest = trajectory.problem(1, peak, dtype=np.float32)
    narrow = [tf.cast(weight, tf.bfloat16).numpy() for weight in weights]
    case = ([np.float32(weight) for weight in narrow], *rest)
    expected = exact(name, case, **given)
    made = getattr(getattr(lbcheck, kind), name)(1.0, **given)
    found = step_optimizer(kind, made, (narrow, *rest))
    for a, b in zip(found, expected):
        np.testing.assert_allclose(np.float32(a), b, rtol=2**-8, atol=1e-6)
