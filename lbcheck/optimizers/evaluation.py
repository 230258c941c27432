"""The weights that are evaluated, where an optimizer trains at others."""

import contextlib


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

    def train(self, read) -> None:
        """Gives the model its own weights back, if it has not got them."""
        if float(read(self.flag)):
            for variable, *_, point in self._places:
                variable.assign(read(point, variable.dtype))
            self.flag.assign(0.0)


def _points(optimizer):
    """(Points or None, how a variable is read) of any Keras's optimizer."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    points = getattr(optimizer, "_points", None)
    return points, getattr(optimizer, "_read", None)


@contextlib.contextmanager
def of(optimizer):
    """`Optimizer.evaluation_point`, of any optimizer of a Keras.

    A block in another leaves it to the outer one to end.
    """
    points, read = _points(optimizer)
    changed = points is not None and points.evaluate(read)
    try:
        yield
    finally:
        if changed:
            points.train(read)


class EvaluationPointSwitch:
    """Callback: validation, other callbacks and the end see the average.

    For `ScheduleFreeAdamW`, which trains at other weights than it gives as
    its result; with other optimizers it does nothing. In `fit` the model has
    the weights of evaluation from the validation, or the end of the epoch, to
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

    _training = False

    def _evaluate(self):
        points, read = _points(self.model.optimizer)
        return points is not None and points.evaluate(read)

    def _train(self):
        points, read = _points(self.model.optimizer)
        if points is not None:
            points.train(read)

    def on_train_begin(self, logs=None):
        """Goes on where training was."""
        self._training = True
        self._train()

    def on_epoch_begin(self, epoch, logs=None):
        """As at the begin of training."""
        self._train()

    def on_epoch_end(self, epoch, logs=None):
        """The weights of evaluation, for the callbacks after this."""
        self._evaluate()

    def on_train_end(self, logs=None):
        """The weights of evaluation, for whatever comes."""
        self._training = False
        self._evaluate()

    def on_test_begin(self, logs=None):
        """The weights of evaluation."""
        self._changed = self._evaluate()

    def on_test_end(self, logs=None):
        """Back again, if it is not the validation of `fit`."""
        if self._changed and not self._training:
            self._train()

    on_predict_begin = on_test_begin
    on_predict_end = on_test_end
