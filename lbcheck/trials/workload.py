"""What a study trains: a model, its data, how long, and what it is judged by.

Importing this module imports no framework.
"""

import inspect
import json
import numbers
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import msgspec
from absl import app

from lbcheck.support import checks
from lbcheck.support import load_object
from lbcheck.support import metric_names
from lbcheck.support import plugins

_LISTED = 20
"""Most names of metrics in a message."""


class Workload(NamedTuple):
    """A model and its data.

    Args:
        build_model: Function that returns a new Keras model, of either Keras;
            layers of all models may be frozen or adapted before, not trained.
            A compiled model keeps its loss and metrics, its optimizer is
            replaced, clipping included. Hyperparameters that a search space
            calls as one of its arguments are passed as scalars.
        train: (x, y), (x, y, sample_weight), or (x,) for a model that has a
            loss of its own, with arrays, sparse matrices of SciPy, or lists
            or dicts of them; a tf.data.Dataset, PyDataset or loader that is
            batched as for `fit`; or a function of the seed or of nothing that
            gives one of these or a generator of batches.
        validation: The same, with an end; not a function of the seed.
        batch_size: Examples of one update, at least 1.
        steps: Updates of one trial, at least 1.
        metric: Name of what trials are judged by; None for the first metric
            that the model is compiled with, or "loss".
        mode: "max" or "min"; None to tell it by the metric's name.
        loss: For `compile`, where build_model returns an uncompiled model;
            beside a compiled one it is refused.
        metrics: For `compile`, too.
        name: What the study's files call it.
        test: Data like `validation` that nothing is selected by, on which the
            runs that are compared are judged; or the part of the validation
            examples that is held out for it, between 0 and 1. None: they are
            judged on `validation`.

    Example:

        Workload(build_model, (x, y), (x_test, y_test), 512, steps=100)
    """

    build_model: Callable[..., Any]
    train: Any
    validation: Any
    batch_size: int
    steps: int
    metric: str | None = None
    mode: str | None = None
    loss: Any = None
    metrics: Any = None
    name: str = "workload"
    test: Any = None

    @property
    def model_arguments(self) -> tuple[str, ...]:
        """Names that build_model takes."""
        return tuple(
            name
            for name, parameter in inspect.signature(
                self.build_model
            ).parameters.items()
            if parameter.kind
            in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        )

    @property
    def needed_arguments(self) -> tuple[str, ...]:
        """Those that have no default."""
        parameters = inspect.signature(self.build_model).parameters
        return tuple(
            name
            for name in self.model_arguments
            if parameters[name].default is inspect.Parameter.empty
        )

    def check(self) -> None:
        """Refuses what no trial could run.

        Raises:
            TypeError, ValueError: Names the argument.
        """
        if not callable(self.build_model):
            raise TypeError(
                "Workload: `build_model` must be a function that returns a "
                f"new Keras model, received {self.build_model!r}."
            )
        for name in ("batch_size", "steps"):
            value = getattr(self, name)
            if not checks.is_number(value, numbers.Integral) or value < 1:
                raise ValueError(
                    f"Workload: `{name}` must be a whole number of at least "
                    f"1, received {value!r}."
                )
        if checks.is_number(self.test) and not 0 < self.test < 1:
            raise ValueError(
                "Workload: `test` must be data, or a part of the validation "
                f"examples between 0 and 1, received {self.test!r}."
            )
        if self.mode not in (None, "max", "min"):
            raise ValueError(
                "Workload: `mode` must be 'max', 'min' or None, received "
                f"{self.mode!r}."
            )

    def trainer(self, arms: Mapping[str, Any]) -> Any:
        """What trains it by these arms: a `Trainer`."""
        from lbcheck.trials import trainer

        return trainer.Trainer(self, arms)

    def judged_by(
        self, names: Collection[str], single: Collection[str]
    ) -> tuple[str, str]:
        """(metric, mode) among the names that evaluation reports.

        Args:
            names: All of them; several of a metric that is a vector.
            single: Those of metrics that are one number.

        Raises:
            ValueError: If the metric is not among them, there are only
                vectors to choose from, or its name does not tell whether
                high is good.
        """
        own = [name for name in single if not name.endswith("loss")]
        vectors = [name for name in names if name not in single]
        if vectors and not own and self.metric is None:
            raise ValueError(
                "Workload: the model reports several numbers of a metric; set "
                f"`metric` to one of {', '.join(vectors[:_LISTED])}."
            )
        metric = self.metric or (own[0] if own else "loss")
        if metric not in names:
            listed = ", ".join([*names][:_LISTED])
            more = ", ..." if len(names) > _LISTED else ""
            raise ValueError(
                f"Workload: the model reports {listed}{more}, but no "
                f"{metric!r}; set `metric` to one of them."
            )
        return metric, self.mode or metric_names.mode_of(metric)


def at_build(value: Any) -> Any:
    """The number of a hyperparameter that only decides initial weights.

    A study may give `build_model` a variable, so that one trace serves all
    trials. Initial weights come from a build of their own for every trial;
    to say that nothing else depends on a hyperparameter saves its traces.

    Args:
        value: A number, or the variable that a study gives for one.

    Returns:
        The number.

    >>> at_build(0.4138)
    0.4138
    """
    return getattr(value, "now", value)


def load(name: str, own: Sequence[str] = (), **arguments: Any) -> Workload:
    """The workload of a function that is named as `module:function`.

    Args:
        name: Such as "resnet.workloads:digits"; it may also name a
            `Workload`. Or a name that a distribution adds by an entry point
            in `lbcheck.workloads`.
        own: Arguments that only this function has, each as "name=value" with
            a value of JSON or else a text.
        **arguments: Passed on where the function has such a parameter, as
            keras="tf_keras".

    Raises:
        app.UsageError: If there is none of that name, it is no workload, or
            it takes no argument of a name in `own`.
    """
    found = _named(name)
    known = inspect.signature(found).parameters if callable(found) else {}
    given = _parsed(name, own, known)
    if callable(found):
        taken = {k: v for k, v in arguments.items() if k in known}
        found = found(**taken | given)
    if not isinstance(found, Workload):
        raise app.UsageError(
            f"{name!r} must be a function that returns an lbcheck.Workload; "
            f"it gives {found!r}."
        )
    return found


def _named(name):
    """The function or workload that a word of a command line names."""
    found = None
    if ":" not in name:
        found = plugins.load(plugins.WORKLOADS, name)
    if found is not None:
        return found
    try:
        return load_object.load(name)
    except app.UsageError as error:
        added = plugins.names(plugins.WORKLOADS)
        if ":" in name or not added:
            raise
        raise app.UsageError(
            f"{error} Installed distributions add {', '.join(added)}."
        ) from error


def _parsed(name, own, known):
    """{argument: value} of texts "argument=value"."""
    given = {}
    for text in own:
        argument, equals, value = text.partition("=")
        if not equals or argument not in known:
            raise app.UsageError(
                f"{name}: expected argument=value with one of "
                f"{', '.join(known) or 'no argument at all'}, received "
                f"{text!r}."
            )
        try:
            given[argument] = json.loads(value)
        except ValueError:
            given[argument] = value
        _check_kind(name, argument, given[argument], known[argument])
    return given


_KINDS = {"bool": bool, "int": int, "float": float}


def _check_kind(name, argument, value, parameter):
    """Refuses what is no number where the function's signature asks for one."""
    annotation = parameter.annotation  # a text under postponed evaluation
    kind = _KINDS.get(getattr(annotation, "__name__", annotation))
    if kind is None or value is None:
        return
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        raise app.UsageError(
            f"{name}: {argument} must be {kind.__name__}, received {value!r}."
        ) from None
