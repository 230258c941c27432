"""Runs the trials of a study, one after the other, in one process."""

import functools
import math
import time

import numpy as np

from lbcheck.support import checks
from lbcheck.support import errors
from lbcheck.support import kerases
from lbcheck.support import processes
from lbcheck.support import random_state
from lbcheck.support import schema
from lbcheck.trials import as_numbers
from lbcheck.trials import content
from lbcheck.trials import fingerprint
from lbcheck.trials import learning_rates
from lbcheck.trials import trial_data as feeds
from lbcheck.trials import user_model as models

_ACCURACIES = (
    "acc",
    "accuracy",
    "binary_accuracy",
    "categorical_accuracy",
    "sparse_categorical_accuracy",
)
"""Metrics of which always predicting the commonest label has its share."""
_GROUPS = 50
"""Most groups of test examples whose metrics a record has."""
_TRAINING_EXAMPLES = 10_000
"""Most examples that the training metrics are of: no more than validation has,
of arrays a random subset, of a stream the first."""


class Trainer:
    """Trains a workload by any of several arms.

    Trials of an arm that differ in numbers share one traced step, on the
    TensorFlow backend of either Keras and on JAX, where several can be run
    at once. A trial is what one would get by hand:
    `set_random_seed(seed)`, build, compile with the arm's optimizer, and
    `train_on_batch` of the batches of that seed (in tf_keras after
    `enable_tf_random_generator()`, without which dropout cannot be repeated);
    as in `fit`, the end takes the averages of an optimizer with `use_ema`.
    No trial leaves anything to
    the next, nor to the caller's random state.

    Args:
        workload: `lbcheck.trials.workload.Workload`.
        arms: {name: `lbcheck.search.arm.Arm`}.
        updates: Where trials break off, to see what they take; None: at
            their end.

    Raises:
        TypeError, ValueError: A workload that no trial could run; names what
            is wrong with it.

    Example:

        trainer = Trainer(workload, {"lamb": arm.load("lamb")})
        record = trainer.run(
            {
                "arm": "lamb",
                "stage": "broad",
                "index": 0,
                "seed": 7,
                "hyperparameters": {"learning_rate": 0.01, ...},
            }
        )
    """

    def __init__(self, workload, arms, updates: int | None = None):
        workload.check()
        workload = workload._replace(
            batch_size=int(workload.batch_size), steps=int(workload.steps)
        )
        self._workload = workload
        self._updates = updates or workload.steps
        self._arms = dict(arms)
        self._train = self._train_seed = None
        with random_state.kept():
            self._look()
            self._runners = self._make_runners()

    def _look(self):
        """Builds the model once, to see what it and the data are."""
        workload = self._workload
        model = models.create(workload, self._arguments(), 0)
        self._keras = models.keras_of(model)
        self._on_tensorflow = models.on_tensorflow(model)
        self._keeps_size = models.keeps_size(model, workload.batch_size)
        self._validation, self.test = self._evaluation()
        self._train_of, self._by_seed = feeds.of_seed(workload.train, "train")
        train = self._training_data(0)
        try:
            logs = self._reported(model, train)
        except ValueError:
            if self._keeps_size or train.count is None:
                raise
            # Some take whole batches only, which nothing else shows.
            self._keeps_size = True
            for feed in (train, *filter(None, (self._validation, self.test))):
                feed.keep_size()
            model = models.create(workload, self._arguments(), 0)
            logs = self._reported(model, train)
        for name, feed in (
            ("validation", self._validation),
            ("test", self.test),
        ):
            if feed is not None:
                with errors.named(f"`{name}`"):
                    models.look(model, feed.example())
        self._is_traced = models.is_traced(model)
        self._seed_decides_more, same_weights = self._of_seeds(model, train)
        self._alone = self._why_alone(model, train)
        single = [n for n, v in logs.items() if np.shape(v) == ()]
        self.metric, self.mode = workload.judged_by(models.flat(logs), single)
        trained = model.trainable_variables
        if not trained:
            raise ValueError(
                "Workload: the model has no weights to train; all of its "
                "layers are frozen, or it has none with weights."
            )
        with errors.named("`validation`"):
            self._num_validation = self._validation.total()
        if self.test:
            with errors.named("`test`"):
                num_test = self.test.total()
        self._facts = {
            "keras": kerases.of(model),
            "backend": models.backend(model),
            "parameters": sum(math.prod(v.shape) for v in trained),
            "num_train": train.count,
            "num_validation": self._num_validation,
            "metric": self.metric,
            "mode": self.mode,
            "model": [[models.path(v), list(v.shape)] for v in trained],
            "data": [train.describe(), self._validation.describe()],
        }
        if self.test:
            self._facts["num_test"] = num_test
            self._facts["data"].append(self.test.describe())
        if same_weights:
            self._facts["same_initial_weights"] = True
        chance = self._chance(model)
        if chance is not None:
            self._facts["chance"] = chance

    def _chance(self, model):
        """What always predicting the commonest label reaches, if known."""
        judged = (self.test or self._validation).content
        weighted = models.weighs(model) if judged.has_weights else False
        if self.metric not in _ACCURACIES or weighted is None:
            return None
        return judged.chance(self.metric, weighted)

    def _of_seeds(self, model, train):
        """What a build decides by its seed.

        Returns:
            Whether it is also what no variable holds, such as an array of
            random numbers; whether all weights are the same for every seed.
        """
        example = train.example()
        other = models.build(self._workload, self._arguments(), 1, example)
        both = models.decided(model), models.decided(other)
        shapes = [[tuple(v.shape) for v in variables] for variables in both]
        if shapes[0] != shapes[1]:
            if not self._is_traced:
                return True, False
            raise ValueError(
                "Workload: `build_model` gives models of other shapes for "
                "other seeds; only initial weights may be random."
            )
        values, others = ([v.numpy() for v in variables] for variables in both)
        seen = []
        for one, variables in zip((model, other), both):
            for variable, value in zip(variables, values):
                variable.assign(value)
            one.reset_metrics()
            looked = models.flat(models.look(one, example))
            seen.append([looked, fingerprint.trained(one, example)])
        alike = as_numbers.alike(*seen, models.bits(model))
        same = all(
            np.array_equal(value, there)
            for variable, value, there in zip(both[0], values, others)
            if "float" in str(variable.dtype)
        )
        return not alike, same

    def _why_alone(self, model, train):
        """What keeps trials on JAX from sharing a step, if anything."""
        if models.backend(model) != "jax":
            return None
        if self._seed_decides_more:
            return "its seed decides what no variable holds"
        from lbcheck.trials import shared_step

        feeds = [train, self._validation, *filter(None, [self.test])]
        return shared_step.why_not(model, feeds)

    def _evaluation(self):
        """(validation data, test data or None)."""
        workload, test = self._workload, self._workload.test
        functions = {}
        for name in ("validation", "test"):
            data = getattr(workload, name)
            functions[name], by_seed = feeds.of_seed(data, name)
            if by_seed:
                raise TypeError(
                    f"`{name}` must be the same for every trial: a function "
                    "that makes it takes no argument."
                )
        if test is None:
            return self._feed(
                functions["validation"], False, 0, "validation"
            ), None
        if checks.is_number(test):
            # Once: what it gives may come in another order each time.
            validation = functools.cache(functions["validation"])
            parts = functools.partial(feeds.held_out, test)
            return tuple(
                self._feed(
                    validation,
                    False,
                    0,
                    name,
                    lambda count, place=place: parts(count)[place],
                )
                for place, name in enumerate(("validation", "test"))
            )
        found = [
            self._feed(function, False, 0, name)
            for name, function in functions.items()
        ]
        is_stream = found[1].count is None
        if is_stream and fingerprint.comes_anew(found[1], 8, 4):
            raise ValueError(
                "`test` comes in another order each time, but runs are "
                "compared on the same examples; leave out .shuffle()."
            )
        return tuple(found)

    def _reported(self, model, train):
        """What one batch reports, of a model that becomes ready by it."""
        example = train.example()
        batch = [
            f"{getattr(leaf.dtype, 'name', leaf.dtype)} {list(leaf.shape)}"
            for leaf in content.leaves(example)
        ]
        with errors.named(f"The model on a batch of {', '.join(batch)}"):
            models.ready(self._workload, model, example)
            return models.look(model, example)

    def _arguments(self):
        """Hyperparameters for build_model: those of each arm's first trial."""
        workload, arguments = self._workload, {}
        for arm in self._arms.values():
            (point,) = arm.space.points(0, 0, 1, workload.steps)
            split = arm.resolve(point, workload.model_arguments)
            if split.optimizer.get("gradient_accumulation_steps"):
                raise ValueError(
                    f"{arm}: gradient_accumulation_steps makes one update of "
                    "several batches, so that its schedule would not end and "
                    "its trials would take fewer updates than others; leave "
                    "it out, and give the study a larger batch_size."
                )
            given = split.model
            missing = [n for n in workload.needed_arguments if n not in given]
            if missing:
                taken = [n for n in missing if n in {*point, *arm.fixed}]
                raise ValueError(
                    f"Workload: `build_model` needs {taken[0]}, which the "
                    f"schedule or the optimizer of {arm} takes; give the "
                    "argument a default, or another name."
                    if taken
                    else f"Workload: `build_model` needs {', '.join(missing)}, "
                    f"which {arm} neither searches nor fixes."
                )
            arguments |= given
        return arguments

    def fresh(self, seed: int):
        """(new model, training data, validation data) of a seed."""
        train = self._training_data(seed)
        model = models.build(
            self._workload, self._arguments(), seed, train.example()
        )
        return model, train, self._validation

    def _make_runners(self):
        if self._is_traced:
            from lbcheck.trials import traced_step

            initial = traced_step.initial(self._workload)
            return {
                name: traced_step.Traced(
                    self._workload,
                    arm,
                    self._validation,
                    initial,
                    self._seed_decides_more,
                )
                for name, arm in self._arms.items()
            }
        from lbcheck.trials.rebuilt_model import Rebuilt

        runners = {n: Rebuilt(self._workload, a) for n, a in self._arms.items()}
        if self._facts["backend"] == "jax":
            runners |= self._sharing()
        return runners

    def _sharing(self):
        """The runners of arms whose trials share a step on JAX.

        Of the others the facts say why not.
        """
        from lbcheck.trials import shared_step

        steps, reasons, found = self._workload.steps, [], {}
        initial = shared_step.initial(self._workload)
        for name, arm in self._arms.items():
            if why := self._alone or shared_step.why_not_by(arm, steps):
                reasons.append(f"{name} ({why})")
            else:
                found[name] = shared_step.Shared(self._workload, arm, initial)
        if reasons:
            self._facts["compiled_for_each_trial"] = ", ".join(reasons)
        return found

    def _feed(self, function, by_seed, seed, name, kept=None):
        with errors.named(f"`{name}`"):
            feed = feeds.make(
                function,
                by_seed,
                seed,
                self._workload.batch_size,
                name,
                self._keras,
                self._on_tensorflow,
                kept,
            )
        if self._keeps_size:
            feed.keep_size()
        return feed

    def _training_data(self, seed):
        """The feed of a seed; arrays are kept for the last one."""
        known = self._train is not None and (
            not self._by_seed or self._train.count is None
        )
        if not known and seed != self._train_seed:
            self._train = self._feed(
                self._train_of, self._by_seed, seed, "train"
            )
            self._train_seed = seed
            with errors.named("`train`"):
                self._train.check_updates()
        return self._train

    @property
    def build_model(self):
        """The workload's."""
        return self._workload.build_model

    @property
    def arms(self) -> dict:
        """name -> `Arm`."""
        return dict(self._arms)

    def facts(self) -> dict:
        """What study.json says of the workload; JSON-able."""
        return dict(self._facts)

    @property
    def traces(self) -> dict[str, int]:
        """How often each arm's training step was traced."""
        return {name: runner.traces for name, runner in self._runners.items()}

    def within(self, folder) -> "Trainer":
        """Itself: trials in this process leave nothing in a study's folder."""
        del folder
        return self

    def fingerprint(self, seed: int) -> dict:
        """Of the workload and the arms; see `lbcheck.trials.fingerprint`."""
        return fingerprint.of(self, seed)

    def audit(self, arm_name: str) -> list[dict]:
        """What an arm decays and adapts, by variable; [] if unknown."""
        arm = self._arm(arm_name)
        (point,) = arm.space.points(0, 0, 1, self._workload.steps)
        optimizer = arm.make(self._facts["keras"], point, self._workload.steps)
        if not hasattr(optimizer, "plan"):
            return []
        paths, shapes = zip(*self._facts["model"])
        return [
            {
                "variable": assignment.path,
                "shape": list(assignment.shape),
                "decay": assignment.rule.shrinks(assignment.decay),
                "adapt": (
                    assignment.adapt and assignment.rule.normalizes is not None
                ),
                "rule": type(assignment.rule).__name__,
            }
            for assignment in optimizer.plan(paths, shapes)
        ]

    def at_once(self, arm_name: str, most: int) -> int:
        """How many trials of an arm gain from being run at once, up to `most`.

        One, where each is trained by itself.
        """
        return most if self._runners[arm_name].together else 1

    def run(
        self,
        task: dict,
        evaluate_at=(),
        diagnostics_every: int = 0,
        test: bool = False,
    ):
        """Trains one trial.

        Args:
            task: {"arm", "stage", "index", "seed", "hyperparameters"}.
            evaluate_at: Numbers of updates after which the curve has a
                point, in addition to the metrics at the end.
            diagnostics_every: Record the schedule's rates and, for arms with
                an optimizer of this package, trust ratios and effective rates
                every so many updates; 0: neither.
            test: Whether the end is judged on the test data as well, on all
                of them and in groups.

        Returns:
            The record: the task and what came out, JSON-able.

        Raises:
            ValueError: An unknown arm, or hyperparameters that it refuses.
        """
        (record,) = self.run_together(
            [task], evaluate_at, diagnostics_every, test
        )
        return record

    def run_together(
        self,
        tasks: list[dict],
        evaluate_at=(),
        diagnostics_every: int = 0,
        test: bool = False,
    ) -> list[dict]:
        """Trains trials of one arm, at once where they share a step.

        Args:
            tasks: As for `run`, at least one.
            evaluate_at: As for `run`, and so are the others.
            diagnostics_every: Ditto.
            test: Ditto.

        Returns:
            Their records, each with its part of the seconds.
        """
        (name,) = {task["arm"] for task in tasks}
        arm, workload = self._arm(name), self._workload
        for task in tasks:
            arm.check(
                task["hyperparameters"],
                workload.steps,
                workload.model_arguments,
            )
        settings = set(evaluate_at), diagnostics_every, test
        records, left = {}, list(range(len(tasks)))
        with random_state.kept(), errors.named(f"A trial of {arm}"):
            while left:
                places = [i for i in left if self._same_data(tasks, left[0], i)]
                found = self._part([tasks[i] for i in places], *settings)
                records |= {places[i]: record for i, record in found.items()}
                left = [i for i in left if i not in records]
        return [records[i] for i in range(len(tasks))]

    def _same_data(self, tasks, one, other):
        return not self._by_seed or tasks[one]["seed"] == tasks[other]["seed"]

    def _part(self, tasks, evaluate_at, diagnostics_every, test):
        """{place: record} of those tasks that go together with the first."""
        arm, every = self._arm(tasks[0]["arm"]), diagnostics_every
        if not self.audit(arm.name):
            every = 0
        runner = self._runners[arm.name]
        together = runner if runner.together else _Alone(runner)
        feed = self._training_data(tasks[0]["seed"])
        points = [task["hyperparameters"] for task in tasks]
        seeds = [task["seed"] for task in tasks]
        # Before training, whose generator may draw from the same global state.
        self._sample(feed, seeds[0])
        places = together.begin(points, feed, seeds, every)
        begun = time.perf_counter()
        outcomes = self._trials(
            together, feed, [seeds[i] for i in places], evaluate_at, every
        )
        if test and any(o["status"] == "finished" for o in outcomes):
            outcomes = self._tested(together, outcomes)
        seconds = (time.perf_counter() - begun) / len(places)
        return {
            place: {
                **tasks[place],
                **outcome,
                "schedule": (
                    self._schedule(arm, points[place])
                    if diagnostics_every
                    else None
                ),
                "seconds": seconds,
            }
            for place, outcome in zip(places, outcomes)
        }

    def _schedule(self, arm, point):
        steps = self._workload.steps
        return learning_rates.describe(
            arm.schedule_of(point, steps), steps, point
        )

    def _arm(self, name):
        if name not in self._arms:
            raise ValueError(
                f"Unknown arm {name!r}; there are {', '.join(self._arms)}."
            )
        return self._arms[name]

    def _trials(self, together, feed, seeds, evaluate_at, every):
        """What came of each trial."""
        steps = self._updates
        looks = {*range(every, steps, every), steps} if every else set()
        stops = {*evaluate_at, *looks, *range(0, steps, feed.longest), steps}
        courses, done = [_Course() for _ in seeds], 0
        for stop in sorted(stop for stop in stops if 0 < stop <= steps):
            processes.check_interrupted()
            found = together.train(feed, done, stop - done)
            going = [c.goes_on(*f) for c, f in zip(courses, found)]
            if not any(going):
                break
            done = stop
            if stop in looks:
                recorded = (stop - 1) // every * every
                for course, values in zip(courses, together.diagnostics()):
                    course.diagnostics.append((recorded, values))
            if stop == steps:
                together.finish()
            if stop in evaluate_at or stop == steps:
                judged = self._evaluate(together, feed, seeds[0])
                for course, metrics in zip(courses, judged):
                    course.judge(stop, metrics, stop in evaluate_at)
        return [self._outcome(c, together.optimizer, every) for c in courses]

    def _outcome(self, course, optimizer, every):
        finished = course.bad is None and all(
            found[self.metric] is not None for found in course.metrics.values()
        )
        return {
            "status": "finished" if finished else "diverged",
            "bad": (
                None
                if finished
                else {"step": course.done - 1, "variable": course.bad or None}
            ),
            "steps": course.done,
            "examples": course.done * self._workload.batch_size,
            "metrics": course.metrics if finished else None,
            "curve": course.curve,
            "diagnostics": (
                _table(course.diagnostics, optimizer.assignments)
                if finished and every
                else None
            ),
        }

    def _evaluate(self, together, feed, seed):
        """Metrics of each trial, of validation and of as many others."""
        validation = together.evaluate(self._validation.batches())
        training = together.evaluate(self._sample(feed, seed))
        return [
            {"validation": self._judged(v), "training": self._judged(t)}
            for v, t in zip(validation, training)
        ]

    def _sample(self, feed, seed):
        """The training examples that metrics are of."""
        count = min(self._num_validation, _TRAINING_EXAMPLES)
        return feed.sample(count, seed)

    def _tested(self, together, outcomes):
        """What came out, with the metrics on the test data."""
        found = together.evaluate(self.test.batches())
        groups = [
            together.evaluate(batches) for batches in self.test.groups(_GROUPS)
        ]
        return [
            self._with_test(outcome, found[i], [group[i] for group in groups])
            if outcome["status"] == "finished"
            else outcome
            for i, outcome in enumerate(outcomes)
        ]

    def _with_test(self, outcome, found, groups):
        found = self._judged(found)
        if found[self.metric] is None:
            bad = {"step": outcome["steps"] - 1, "variable": None}
            return outcome | {"status": "diverged", "metrics": None, "bad": bad}
        metrics = outcome["metrics"] | {"test": found}
        groups = [self._judged(group)[self.metric] for group in groups]
        return outcome | {"metrics": metrics, "test_groups": groups}

    def _judged(self, found):
        """Metrics as a record has them, None for what is no number.

        Where the loss is NaN, so are predictions, of which a metric may
        still make a number.
        """
        if math.isnan(found.get("loss", 0.0)):
            found = found | {self.metric: math.nan}
        return {name: _finite(value) for name, value in found.items()}


class _Course:
    """What is seen of a trial while it runs.

    Attributes:
        done: Updates taken.
        bad: What is not finite, as `Program.train` says it.
        metrics: Of the last evaluation.
        curve: [{"step", part: metrics}].
        diagnostics: [(step, of every variable)].
    """

    def __init__(self):
        self.done, self.bad, self.metrics = 0, None, None
        self.curve, self.diagnostics = [], []

    def goes_on(self, taken, bad) -> bool:
        """Whether all is finite after so many updates more."""
        if self.bad is None:
            self.done, self.bad = self.done + taken, bad
        return self.bad is None

    def judge(self, step, metrics, is_point):
        """Takes an evaluation, as a point of the curve or not."""
        if self.bad is None:
            self.metrics = metrics
            if is_point:
                self.curve.append({"step": step, **metrics})


class _Alone:
    """A runner of one trial in the place of one of several."""

    def __init__(self, runner):
        self._runner = runner

    def begin(self, points, feed, seeds, diagnostics_every):
        """Begins the first."""
        self._seed = seeds[0]
        self._runner.begin(points[0], feed, seeds[0], diagnostics_every)
        return [0]

    def train(self, feed, first, count):
        """As of the runner."""
        return [self._runner.train(feed, self._seed, first, count)]

    def evaluate(self, batches):
        """As of the runner."""
        return [self._runner.evaluate(batches)]

    def diagnostics(self):
        """What the optimizer recorded last."""
        return [self.optimizer.diagnostics()]

    @property
    def optimizer(self):
        """The runner's, now."""
        return self._runner.optimizer

    def finish(self):
        """Takes the averages of an optimizer that has some, as `fit` does."""
        if getattr(self.optimizer, "use_ema", False):
            self.optimizer.finalize_variable_values(
                self._runner.model.trainable_variables
            )


def _table(recorded, assignments) -> dict:
    """Recorded diagnostics, [(step, of every variable)], by variable."""
    steps, found = zip(*recorded)

    def row(assignment):
        values = [diagnostics[assignment.path] for diagnostics in found]
        return {
            "path": assignment.path,
            "shape": list(assignment.shape),
            "trust_ratio": [_finite(v.trust_ratio) for v in values],
            "effective_rate": [_finite(v.effective_rate) for v in values],
            "relative_update": [
                _finite(v.update_norm / v.weight_norm)
                if v.weight_norm
                else None
                for v in values
            ],
        }

    return {"steps": list(steps), "variables": list(map(row, assignments))}


def _finite(value) -> float | None:
    """A number that a report can compute with, or None."""
    return float(value) if abs(value) <= schema.LARGEST_METRIC else None
