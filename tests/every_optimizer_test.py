"""What holds of every optimizer: all that `lbcheck.optimizers.ALL` lists.

A new one is tested here by its entry there, its `example` and its reference;
what only some have is tested in optimizers_test.py and rules_test.py.
"""

import doctest
import importlib
import inspect
import os
import pkgutil

import numpy as np
import tensorflow as tf
from absl import flags
from absl.testing import parameterized

import lbcheck
from lbcheck import optimizers
from lbcheck import rules
from lbcheck.conform import reference
from lbcheck.optimizers import base
from lbcheck.optimizers import tensorflow_update
from lbcheck.search import arm
from lbcheck.settings import optimizer as optimizer_flags
from tests import trajectory
from tests.optimizers_test import KERAS
from tests.optimizers_test import small_data
from tests.optimizers_test import small_model
from tests.optimizers_test import step_optimizer
from tests.rules_test import step_rule

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
    words = {**ALL[name].fixed, **given, **switches}
    return trajectory.step_reference(function, case, adapt=adapt, **words)


def rule_of(name, **given):
    return ALL[name].rule_of("paper", given)


class RegistryTest(tf.test.TestCase, parameterized.TestCase):
    def test_all_is_what_there_is(self):
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
        self.assertEqual(there - {base.Optimizer}, set(optimizers.ALL))
        self.assertEqual(len(ALL), len(optimizers.ALL))

    @parameterized.parameters(*ALL)
    def test_is_derived_everywhere(self, name):
        definition, lower = ALL[name], name.lower()
        self.assertIn(name, lbcheck.__all__)
        title = definition.rule_class.title
        self.assertIs(rules.ALL[title], definition.rule_class)
        self.assertIs(getattr(rules, title), definition.rule_class)
        for dialect in definition.rule_class.dialects:
            self.assertIn((title, dialect), reference.REFERENCES)
        for module in (lbcheck.keras3, lbcheck.tf_keras):
            cls = getattr(module, name)
            self.assertEqual(cls.__module__, module.__name__)
            self.assertTrue(issubclass(cls, definition))
            self.assertEqual(
                inspect.signature(cls), inspect.signature(definition)
            )
        values = flags.FlagValues()
        optimizer_flags.define(values)
        values(["program", f"--optimizer={lower}", "--weight_decay=0.5"])
        made = optimizer_flags.make(values, lbcheck.tf_keras, 0.1)
        self.assertEqual(made.get_config()["weight_decay"], 0.5)
        space = {"learning_rate": {"min": 0.1, "max": 1.0, "scale": "log"}}
        mine = arm.Arm("mine", lower, space, "constant")
        self.assertEqual(mine.layer_wise, definition.adapts())
        given = {"learning_rate": 0.25}
        made = mine.make("keras3", given, 10)
        self.assertIsInstance(made, getattr(lbcheck.keras3, name))

    @parameterized.parameters(*ALL)
    def test_help_is_the_manual(self, name):
        manual = ALL[name].__doc__
        for part in ("Args:", "Raises:", "Example:", "Source:", "dialect:"):
            self.assertIn(part, manual)
        self.assertNotRegex(manual, r"\{(shared|arguments)\}")
        self.assertLessEqual(max(map(len, manual.splitlines())), 80)
        for argument in inspect.signature(ALL[name]).parameters:
            if argument != "kwargs":
                self.assertTrue(ALL[name].about(argument), argument)
        runner = doctest.DocTestRunner()
        finder = doctest.DocTestFinder(recurse=False)
        for test in finder.find(ALL[name], name):
            runner.run(test)
        self.assertEqual(runner.failures, 0)
        self.assertGreater(runner.tries, 2)


class RuleTest(tf.test.TestCase, parameterized.TestCase):
    """In NumPy float64 against the reference, which shares no code."""

    @parameterized.parameters(*ALL)
    def test_equals_reference(self, name):
        peak, given = example(name)
        case = trajectory.problem(200, peak)
        rule = rule_of(name, **given)
        found = step_rule(rule, case)
        if rule.dialects["paper"].heavy_ball_fallback:
            fallen = step_rule(rule.heavy_ball(), case)
            found = np.where(trajectory.DECAY, *_objects(found, fallen))
        expected = exact(name, case, **given)
        self.assertLess(trajectory.distance(found, expected, case[0]), EXACT)

    @parameterized.parameters(*ALL)
    def test_mutants_fail(self, name):
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
        if rule.slots:
            mutants["no state"] = step_rule(rule, case, update=_forgets(rule))
        for mutant, found in mutants.items():
            # Those that decay, or where all is to decay those that do not.
            chosen = slice(2, 4) if mutant == "decay of all" else slice(0, 2)
            far = trajectory.distance(
                found[chosen], expected[chosen], case[0][chosen]
            )
            self.assertGreater(far, MUTANT, mutant)


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
            np.full_like(s, d.initial) for s, d in zip(slots, rule.slots)
        )
        return rule.update(xp, weight, gradient, fresh, *arguments, **flags)

    return update


class KerasTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.product(kind=list(KERAS), name=list(ALL), jit=[False, True])
    def test_equals_reference(self, kind, name, jit):
        peak, given = example(name)
        case = trajectory.problem(40, peak, dtype=np.float32)
        made = getattr(getattr(lbcheck, kind), name)(1.0, **given)
        found = step_optimizer(kind, made, case, jit=jit)
        expected = exact(name, case, **given)
        self.assertLess(trajectory.distance(found, expected, case[0]), CLOSE)

    @parameterized.product(kind=list(KERAS), name=list(ALL))
    def test_large_variables_equal_reference(self, kind, name):
        """Past the size from which the compiled path is taken."""
        peak, given = example(name)
        side = int(np.ceil(np.sqrt(tensorflow_update.LARGE)))
        shapes = ((side, side), (side + 1, side), (side,), (3,))
        case = trajectory.problem(10, peak, dtype=np.float32, shapes=shapes)
        made = getattr(getattr(lbcheck, kind), name)(1.0, **given)
        found = step_optimizer(kind, made, case)
        expected = exact(name, case, **given)
        self.assertLess(trajectory.distance(found, expected, case[0]), CLOSE)

    @parameterized.product(kind=list(KERAS), name=list(ALL))
    def test_saved_it_continues_the_trajectory(self, kind, name):
        """Configuration and state, by the name that Keras has registered."""
        _, given = example(name)
        cls = getattr(getattr(lbcheck, kind), name)
        model = small_model(kind, optimizer=cls(0.01, **given))
        x, y = small_data()
        model.fit(x, y, batch_size=32, shuffle=False, verbose=0)
        path = os.path.join(self.get_temp_dir(), f"{kind}{name}.keras")
        model.save(path)
        loaded = KERAS[kind].models.load_model(path)
        self.assertIs(type(loaded.optimizer), cls)
        self.assertEqual(
            loaded.optimizer.get_config(), model.optimizer.get_config()
        )
        for each in (model, loaded):
            each.fit(x, y, batch_size=32, shuffle=False, verbose=0)
        self.assertEqual(int(loaded.optimizer.iterations), 4)
        for a, b in zip(model.get_weights(), loaded.get_weights()):
            self.assertAllEqual(a, b)

    @parameterized.product(kind=list(KERAS), name=list(ALL))
    def test_bfloat16_variables_are_updated_in_float32(self, kind, name):
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


if __name__ == "__main__":
    tf.test.main()
