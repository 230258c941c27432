"""The weights that are evaluated, where an optimizer trains at others."""

import contextlib
import warnings
from typing import Any

import numpy as np


class Points:
    """Changes the weights of a model between both, bit by bit.

    Args:
        variables: The trainable variables.
        assignments: `base.Assignment` of each.
        slots: The state of each.
        points: A variable of the optimizer for each, which has the weights of
            training while the model has those of evaluation.
        flag: Scalar variable, 1 in that time and else 0.
    """

    def __init__(self, variables, assignments, slots, points, flag):
        self._places = list(zip(variables, assignments, slots, points))
        self.flag = flag

    def evaluate(self, read) -> bool:
        """Gives the model the weights of evaluation; False: it had them.

        Args:
            read: (variable or array, dtype) -> its value.
        """
        if float(read(self.flag)):
            return False
        for variable, assignment, slots, point in self._places:
            weight = read(variable, point.dtype)
            found = assignment.rule.evaluation_point(
                weight, [read(slot) for slot in slots]
            )
            point.assign(weight)
            if found is not None:
                variable.assign(read(found, variable.dtype))
        self.flag.assign(1.0)
        return True

    def weights(self, read) -> list:
        """The weights of evaluation; the model stays as it is.

        Args:
            read: As for `evaluate`.
        """
        found = []
        for variable, assignment, slots, point in self._places:
            new = assignment.rule.evaluation_point(
                read(variable, point.dtype), [read(slot) for slot in slots]
            )
            found.append(
                read(variable) if new is None else read(new, variable.dtype)
            )
        return found

    def train(self, read) -> None:
        """Gives the model its own weights back, if it has not got them.

        Weights that somebody else has changed in the meantime are kept.
        """
        if not float(read(self.flag)):
            return
        changed = False
        for variable, assignment, slots, point in self._places:
            found = assignment.rule.evaluation_point(
                read(point), [read(slot) for slot in slots]
            )
            own = read(point, variable.dtype)
            given = own if found is None else read(found, variable.dtype)
            # Bits, so that what is not a number equals itself.
            if _bits(given) == _bits(read(variable)):
                variable.assign(own)
            else:
                changed = True
        self.flag.assign(0.0)
        if changed:
            warnings.warn(
                "Weights were changed at the evaluation point, where "
                "ScheduleFreeAdamW does not train, as by load_weights, "
                "set_weights or a fit without the callback "
                "lbcheck.EvaluationPoint(); they are kept, and training goes "
                "on from them.",
                stacklevel=2,
            )


def _bits(array):
    return np.asarray(array).tobytes()


def _points(optimizer):
    """(Points, how a variable is read) of all parts that have some."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    parts = [optimizer]
    if hasattr(optimizer, "_optimizer_map"):  # Keras's MultiOptimizer
        parts = optimizer.optimizers
    return [
        (part._points, part._read)
        for part in parts
        if getattr(part, "_points", None) is not None
    ]


def _evaluate(optimizer):
    """The parts that were not at the point before."""
    return [
        (points, read)
        for points, read in _points(optimizer)
        if points.evaluate(read)
    ]


def weights(optimizer, variables, read) -> list:
    """The weights to evaluate; nothing is changed.

    Args:
        optimizer: Any but Keras's of several.
        variables: The trainable variables.
        read: (variable or array, dtype) -> its value.
    """
    for points, _ in _points(optimizer):
        return points.weights(read)
    return [read(variable) for variable in variables]


@contextlib.contextmanager
def _evaluating(optimizer):
    """Changes the weights of all parts, for the time of a block."""
    changed = _evaluate(optimizer)
    try:
        yield
    finally:
        for points, read in changed:
            points.train(read)


def evaluation_point(trained: Any) -> contextlib.AbstractContextManager[None]:
    """The weights to evaluate and save, for the time of a `with` block.

    Where the optimizer trains at others, as `ScheduleFreeAdamW`, the model has
    them in the block and its own afterwards, bit by bit; else nothing happens.
    A block in another leaves it to the outer one to end. Not inside a
    tf.function.

    Args:
        trained: A compiled model, or any optimizer of a Keras, also one that
            scales the loss or holds several.

    Example:

        with lbcheck.evaluation_point(model):
            model.save("model.keras")

    Source: Defazio et al. 2024, Section 4: x is what is evaluated.
    """
    return _evaluating(getattr(trained, "optimizer", trained))


class EvaluationPointSwitch:
    """Callback: validation, other callbacks and the end see the average.

    For `ScheduleFreeAdamW`, which trains at other weights than it gives as
    its result; with other optimizers it does nothing. In `fit` the model has
    the weights of evaluation in the validation, from the end of an epoch to
    the begin of the next, and after the last; a model that is saved there
    goes on bit by bit with this callback. It must be the first of the list,
    so that the others see what it does.

    Example:

        model.compile(optimizer=lbcheck.ScheduleFreeAdamW(), ...)
        model.fit(x, y, validation_data=(x_test, y_test), callbacks=[
            lbcheck.EvaluationPoint(),
            keras.callbacks.ModelCheckpoint("best.keras"),
        ])

    Source: Defazio et al. 2024, Section 4: where x is evaluated.
    """

    _changed = ()

    def _train(self):
        for points, read in _points(self.model.optimizer):
            points.train(read)

    def on_train_begin(self, logs=None):
        """Goes on where training was."""
        # A checkpoint of TensorFlow gives what it has to variables as they
        # are made, which for tf_keras is in the first update: too late.
        model = self.model
        optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
        if model.built and hasattr(optimizer, "_points"):
            optimizer.build(model.trainable_variables)
        self._train()

    def on_epoch_begin(self, epoch, logs=None):
        """As at the begin of training."""
        self._train()

    def on_epoch_end(self, epoch, logs=None):
        """The weights of evaluation, for the callbacks after this."""
        _evaluate(self.model.optimizer)

    def on_train_end(self, logs=None):
        """The weights of evaluation, for whatever comes."""
        _evaluate(self.model.optimizer)

    def on_test_begin(self, logs=None):
        """The weights of evaluation."""
        self._changed = _evaluate(self.model.optimizer)

    def on_test_end(self, logs=None):
        """Back to where it was."""
        for points, read in self._changed:
            points.train(read)
        self._changed = ()

    on_predict_begin = on_test_begin
    on_predict_end = on_test_end
