"""How a rule is evaluated on TensorFlow: the same formula, in few passes.

An update is bound by memory, so what counts is how often each array crosses
it. Small variables and other dtypes take `Rule.update` as it stands. For large
float32 variables without a norm the whole update is one XLA cluster that works
in place; with one the direction is, norms are TensorFlow's l2_loss, and the
weight moves by one fused kernel; AdamW is TensorFlow's own fused Adam kernel
behind an in-place scaling by `keep`. ``benchmarks/optimizer_step.py`` measures
it. On a TPU, where the whole step is one XLA program, every variable takes
`Rule.update`: XLA fuses it there, and a program within one is not compiled.
"""

import functools
import platform

import numpy as np
import tensorflow as tf

from lbcheck.optimizers import rule as rules
from lbcheck.optimizers import tensorflow_record
from lbcheck.optimizers.adamw import AdamWRule
from lbcheck.optimizers.arrays import NUMPY
from lbcheck.optimizers.arrays import has_16_bits

LARGE = 2**16
"""Elements from which a variable is worth a compiled cluster of its own:
below, starting the cluster costs more than the passes it saves."""

LARGE_SCALED = 2**21
"""The same for the scaling by `keep`: a cluster saves no passes there, but does
not need the memory of a new array, which is slow to get when it is large."""

_CAN_COMPILE = tf.test.is_built_with_xla() and platform.system() != "Windows"


class TensorFlowArrays:
    """The functions of `lbcheck.rules.NUMPY` in TensorFlow."""

    sqrt = staticmethod(tf.sqrt)
    exp = staticmethod(tf.exp)
    square = staticmethod(tf.square)
    abs = staticmethod(tf.abs)
    sign = staticmethod(tf.sign)
    log = staticmethod(tf.math.log)
    expm1 = staticmethod(tf.math.expm1)
    maximum = staticmethod(tf.maximum)
    minimum = staticmethod(tf.minimum)
    where = staticmethod(tf.where)

    @staticmethod
    def norm(array, kind="l2"):
        """Norm over the whole array, as a scalar."""
        if kind == "l2":
            return tf.sqrt(2.0 * tf.nn.l2_loss(array))
        reduce = tf.reduce_sum if kind == "l1" else tf.reduce_max
        return reduce(tf.abs(array))

    sum = staticmethod(tf.reduce_sum)
    reshape = staticmethod(tf.reshape)
    matmul = staticmethod(tf.linalg.matmul)
    transposed = staticmethod(tf.linalg.matrix_transpose)
    cond = staticmethod(tf.cond)

    @staticmethod
    def moveaxis(array, source, destination):
        """The array with one axis elsewhere."""
        axes = list(range(array.shape.rank))
        moved = axes.pop(source)
        axes.insert(destination % array.shape.rank, moved)
        return tf.transpose(array, axes)

    @staticmethod
    def take(array, indices, axis):
        """The array at these indices of an axis."""
        return tf.gather(array, indices, axis=axis)

    @staticmethod
    def argsort(array):
        """Indices of the rising order, of equal values the first first."""
        return tf.argsort(array, stable=True)

    @staticmethod
    def matrix_norm(array):
        """Norm over the last two axes, which stay, of length 1."""
        return tf.norm(array, axis=(-2, -1), keepdims=True)

    @staticmethod
    def eigenvectors(matrix):
        """Columns of a symmetric matrix's basis, by falling eigenvalue."""
        finite = tf.reduce_all(tf.math.is_finite(matrix))
        matrix = tf.where(finite, matrix, tf.zeros_like(matrix))
        return tf.reverse(tf.linalg.eigh(matrix)[1], [1])

    @staticmethod
    def orthonormal(matrix):
        """Q of the matrix's QR decomposition."""
        # It does not depend on the length of a column, whose square, which
        # TensorFlow takes, may be beyond float32.
        largest = tf.reduce_max(tf.abs(matrix), 0)
        return tf.linalg.qr(matrix / tf.where(largest > 0, largest, 1.0)).q


ARRAYS = TensorFlowArrays()


def compute_dtype(variable) -> tf.DType:
    """The dtype of the arithmetic: 16-bit variables compute in float32."""
    dtype = tf.as_dtype(variable.dtype)
    return tf.float32 if dtype.size < 4 else dtype


def check_training_point(optimizer) -> None:
    """An error in the step if the model has the weights of evaluation."""
    if optimizer.at_evaluation_point is not None:
        tf.debugging.assert_equal(
            tf.cast(optimizer.at_evaluation_point, tf.float32),
            0.0,
            f"{type(optimizer).__name__}: an update at the evaluation point, "
            "where no gradient is taken. End its block, or give fit the "
            "callback lbcheck.EvaluationPoint().",
        )


def _within_program() -> bool:
    """Whether a TPU compiles the whole step."""
    tpus = (tf.distribute.TPUStrategy, tf.distribute.experimental.TPUStrategy)
    return isinstance(tf.distribute.get_strategy(), tpus)


def densify(gradient):
    """A dense tensor of 32 bits at least; rows that occur twice are summed."""
    if has_16_bits(gradient):
        gradient = tf.cast(gradient, tf.float32)
    if isinstance(gradient, tf.IndexedSlices):
        return tf.convert_to_tensor(gradient)
    return gradient


def _slot_of_direction(rule):
    """Number of the slot that is the direction, of heavy-ball; else None."""
    if not rule.compiles:
        return None
    probe = np.ones((1, 1))
    slots, direction = rule.direction(
        NUMPY,
        probe,
        probe,
        tuple(
            np.ones(slot.shape_for(probe.shape))
            for slot in rule.slots_of(probe.shape)
        ),
        0,
        1.0,
        True,
    )
    return next((i for i, slot in enumerate(slots) if slot is direction), None)


@tf.function(jit_compile=True)
def _scale(handle, factor):
    value = tf.raw_ops.ReadVariableOp(resource=handle, dtype=factor.dtype)
    tf.raw_ops.AssignVariableOp(resource=handle, value=value * factor)


class TensorFlowUpdate:
    """Applies one rule to TensorFlow variables, in graph, eager or XLA."""

    def __init__(self, rule: rules.Rule):
        self._rule = rule
        self._direction_slot = _slot_of_direction(rule)
        self._advance = tf.function(self._direction, jit_compile=True)
        self._replace = tf.function(self._whole, jit_compile=True)

    @functools.cached_property
    def _recorder(self):
        return tensorflow_record.Recorder(self._rule, ARRAYS)

    def __call__(
        self, variable, gradient, slots, rate, step, decay, adapt, record=None
    ):
        """Updates `variable` and `slots` in place.

        Args:
            variable: Local tf.Variable.
            gradient: Dense tensor of its shape.
            slots: List of tf.Variable, one for each slot of the rule.
            rate: Learning rate, scalar.
            step: Updates before this one, scalar integer.
            decay: See `Rule.update`; a Python bool, as `adapt`.
            record: None, or (tf.Variable of shape (5,), period).
        """
        dtype = compute_dtype(variable)
        gradient = tf.cast(gradient, dtype)
        rate = tf.cast(rate, dtype)
        count = tf.cast(step, dtype)
        kernels = not _within_program()
        large = (
            kernels
            and _CAN_COMPILE
            and self._rule.compiles
            and dtype == variable.dtype == tf.float32
            and variable.shape.num_elements() >= LARGE
        )
        arguments = (gradient, slots, rate, count, decay, adapt)
        due = None if record is None else (*record, step)
        if kernels and self._fits_adam_kernel(variable):
            self._adam(variable, *arguments, due, large)
        elif large and self._measures:
            self._compiled(variable, *arguments, due)
        elif large:
            self._in_place(variable, *arguments, due)
        else:
            if due is not None:
                self._recorder.before(due, variable, *arguments)
            self._plain(variable, *arguments)

    def _plain(self, variable, gradient, slots, rate, count, decay, adapt):
        dtype = gradient.dtype
        weight, new_slots, _ = self._rule.update(
            ARRAYS,
            tf.cast(variable, dtype),
            gradient,
            tuple(tf.cast(slot, dtype) for slot in slots),
            rate,
            count,
            decay=decay,
            adapt=adapt,
        )
        variable.assign(tf.cast(weight, variable.dtype))
        for slot, value in zip(slots, new_slots):
            slot.assign(tf.cast(value, slot.dtype))

    def _compiled(
        self, variable, gradient, slots, rate, count, decay, adapt, due
    ):
        weight = tf.convert_to_tensor(variable)
        inside, early_ratio = self._rule.inside(
            ARRAYS, weight, gradient, rate, decay, adapt
        )
        outputs = self._advance(
            weight,
            gradient,
            [slot.handle for slot in slots],
            tf.convert_to_tensor(inside, gradient.dtype),
            count,
            decay,
        )
        if self._direction_slot is None:
            (direction,) = outputs
        else:
            direction = slots[self._direction_slot].read_value()
        outside, late_ratio = self._rule.outside(
            ARRAYS, weight, direction, rate, decay, adapt
        )
        outside = tf.convert_to_tensor(outside, gradient.dtype)
        keep = self._rule.keep(rate, decay)
        keeps_norm = self._rule.keeps_norm(adapt)
        norm = ARRAYS.norm(weight) if keeps_norm else None
        del weight  # eagerly, a live reading makes the kernel copy
        self._scale(variable, keep, large=True)
        tf.raw_ops.ResourceApplyGradientDescent(
            var=variable.handle, alpha=outside, delta=direction
        )
        if keeps_norm:
            back = self._rule.norm_back(ARRAYS, norm, variable.read_value())
            self._scale(variable, back, large=True)
            keep = back if keep is None else back * keep
            outside = back * outside
        if due is not None:
            self._recorder.after(
                due,
                variable,
                gradient,
                lambda: direction,
                outside,
                keep,
                late_ratio if early_ratio is None else early_ratio,
                rate,
                large=True,
            )

    @property
    def _measures(self):
        """Whether norms or a buffer come between the state and the weight."""
        return (
            self._rule.normalizes in ("gradient", "direction")
            or self._direction_slot is not None
        )

    def _in_place(
        self, variable, gradient, slots, rate, count, decay, adapt, due
    ):
        outputs = self._replace(
            variable.handle,
            gradient,
            [slot.handle for slot in slots],
            rate,
            count,
            decay,
            adapt,
            due is not None,
        )
        if due is not None:
            direction, outside = outputs
            self._recorder.after(
                due,
                variable,
                gradient,
                lambda: direction,
                outside,
                self._rule.keep(rate, decay),
                None,
                rate,
                large=True,
            )

    def _whole(
        self, handle, gradient, handles, rate, count, decay, adapt, record
    ):
        """The update in place, behind the handles of variable and state.

        Returns what a record needs, if there is to be one.
        """
        weight = tf.raw_ops.ReadVariableOp(resource=handle, dtype=tf.float32)
        weight.set_shape(gradient.shape)
        state = self._read(handles, weight)
        slots, step = self._rule.step(
            ARRAYS, weight, gradient, state, rate, count, decay, adapt
        )
        for place, value in zip(
            (handle, *handles), (step.moved(weight), *slots)
        ):
            tf.raw_ops.AssignVariableOp(resource=place, value=value)
        return (step.direction, step.outside) if record else ()

    def _read(self, handles, weight):
        """The state behind the handles."""
        shape = tuple(weight.shape)
        values = []
        for handle, slot in zip(handles, self._rule.slots_of(shape)):
            value = tf.raw_ops.ReadVariableOp(
                resource=handle, dtype=weight.dtype
            )
            value.set_shape(slot.shape_for(shape))
            values.append(value)
        return tuple(values)

    def _direction(self, weight, gradient, handles, inside, count, decay):
        """The elementwise part; state stays in place, behind its handles."""
        slots = self._read(handles, weight)
        new_slots, direction = self._rule.direction(
            ARRAYS, weight, gradient, slots, count, inside, decay
        )
        for handle, value in zip(handles, new_slots):
            tf.raw_ops.AssignVariableOp(resource=handle, value=value)
        return () if self._direction_slot is not None else (direction,)

    @staticmethod
    def _scale(variable, keep, large):
        if keep is None:
            return
        keep = tf.convert_to_tensor(keep, variable.dtype)
        if large and variable.shape.num_elements() >= LARGE_SCALED:
            _scale(variable.handle, keep)
        else:
            variable.assign(keep * variable)

    def _fits_adam_kernel(self, variable):
        rule = self._rule
        return (
            isinstance(rule, AdamWRule)
            and tf.as_dtype(variable.dtype) == tf.float32
            and all(
                isinstance(number, (int, float))
                for number in (rule.beta_1, rule.beta_2, rule.l2)
            )
            and rule.l2 == 0
            # Beyond, the rounded beta is 1, and what the kernel adds to v, a
            # part of g^2 - v, loses a g^2 that is small beside v.
            and max(map(np.float32, (rule.beta_1, rule.beta_2))) < 1
            and rule.beta_2 >= 0.5
        )

    def _adam(
        self, variable, gradient, slots, rate, count, decay, adapt, due, large
    ):
        """AdamW by TensorFlow's fused kernel, corrected to the paper's form.

        The kernel computes w -= rate m / (sqrt(v) + epsilon) with moments of
        betas of its own rounding: 1 - 0.999 in float32 is off by 1e-5. Its
        moments are sums of weights 1 - b^t with the rounded b, the rule's of
        1 - beta^t; rate and epsilon take the quotient back, which bias
        correction by b does in one.
        """
        rule = self._rule

        def total(beta):
            return rules.one_minus_power(ARRAYS, beta, count + 1)

        first, second = (
            total(float(np.float32(beta)))
            for beta in (rule.beta_1, rule.beta_2)
        )
        if not rule.bias_correction:
            first = first / total(rule.beta_1)
            second = second / total(rule.beta_2)
        rate_scale = tf.sqrt(second) / first
        epsilon = rule.epsilon * tf.sqrt(second)
        if rule.epsilon_hat and rule.bias_correction:
            epsilon = epsilon / tf.sqrt(total(rule.beta_2))
        keep = rule.keep(rate, decay)
        self._scale(variable, keep, large)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=slots[0].handle,
            v=slots[1].handle,
            beta1_power=0.0,
            beta2_power=0.0,
            lr=rate * rate_scale,
            beta1=rule.beta_1,
            beta2=rule.beta_2,
            epsilon=epsilon,
            grad=gradient,
        )
        if due is not None:
            mean, square = slots
            self._recorder.after(
                due,
                variable,
                gradient,
                lambda: mean / (tf.sqrt(square) + epsilon),
                rate * rate_scale,
                keep,
                None,
                rate,
                large,
            )
