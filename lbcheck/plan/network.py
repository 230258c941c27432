"""A run's train step, traced at one microbatch.

Only shapes are traced: variables are made without values, so that a network
of any size takes the memory of its graph and no more.
"""

import importlib
import math
from typing import TYPE_CHECKING
from typing import NamedTuple

from lbcheck.plan.run import Run
from lbcheck.support import dtype_policy
from lbcheck.support import schema
from lbcheck.training.backends import engines

if TYPE_CHECKING:
    from lbcheck.plan.graph import Found


class Network(NamedTuple):
    """What one replica computes and keeps.

    Attributes:
        examples: Of the microbatch that was traced.
        parameters: Number of trainable weights.
        trainable_bytes: Of the trainable weights, and so of their gradients.
        weight_bytes: Of all weights, moving statistics included.
        slot_bytes: Of the optimizer's state for them, its numbers apart.
        found: `lbcheck.plan.graph.Found` of the microbatch.
    """

    examples: int
    parameters: int
    trainable_bytes: int
    weight_bytes: int
    slot_bytes: int
    found: "Found"


def trace(run: Run, examples: int) -> Network:
    """Traces a run's forward and backward pass.

    Args:
        run: What the program said.
        examples: Microbatch, at least 1, a multiple of a ghost batch.

    Raises:
        ValueError: The network cannot be built so, with its own message, or
            what an operation computes is not known before it runs.
    """
    import tensorflow as tf
    import tf_keras

    # It has no public name.
    from tensorflow.python.autograph.core import ag_ctx

    from lbcheck.plan import graph

    optimizers = importlib.import_module("lbcheck.tf_keras")
    traced = {}

    def step(inputs, labels):
        # Layers with loops over tensors are converted, as in training; this
        # function is not.
        converted = ag_ctx.ControlStatusCtx(ag_ctx.Status.UNSPECIFIED)
        with converted, tf.variable_creator_scope(_unfilled):
            workload = run.build(tf_keras, optimizers)
            _check_is_workload(workload)
            model = workload.model
            with tf.init_scope():  # else a name is that of a legacy optimizer
                model.compile(workload.optimizer, workload.loss)
            with tf.GradientTape() as tape:
                predicted = model(inputs, training=True)
                loss = model.compute_loss(inputs, labels, predicted, None)
            operations = tf.compat.v1.get_default_graph().get_operations()
            traced.update(model=model, forward=len(operations))
            gradients = tape.gradient(loss, model.trainable_variables)
            _check_builds(model.optimizer)
            model.optimizer.build(model.trainable_variables)
        return [tf.convert_to_tensor(g) for g in gradients if g is not None]

    with dtype_policy.mixed(tf_keras, run.options.mixed_precision):
        function = tf.function(step, autograph=False).get_concrete_function(
            *_specs(tf, run.example(examples))
        )
    model = traced["model"]
    trainable = model.trainable_variables
    outputs = [t for t in function.graph.outputs if t.dtype.is_floating]
    return Network(
        examples=examples,
        parameters=sum(math.prod(v.shape) for v in trainable),
        trainable_bytes=_bytes(trainable),
        weight_bytes=_bytes(model.weights),
        slot_bytes=_bytes(v for v in model.optimizer.variables if v.shape.rank),
        found=graph.examine(function.graph, outputs, traced["forward"]),
    )


def _check_is_workload(workload):
    if not isinstance(workload, engines.Workload):
        raise ValueError(
            "build: expected an lbcheck.training.Workload, received "
            f"{schema.shown(workload)}."
        )


def _check_builds(optimizer):
    """Legacy optimizers make their state when they are applied."""
    if not hasattr(optimizer, "build"):
        kind = type(optimizer)
        raise ValueError(
            f"optimizer: expected one that has `build`, of lbcheck or of "
            f"tf_keras.optimizers, received {kind.__module__}.{kind.__name__}."
        )


def _unfilled(next_creator, **given):
    """A variable of the shape that is asked for, without values.

    Scalars are 0: some, such as a rate, are read while a network is built.
    """
    import tensorflow as tf

    # It has no public name.
    from tensorflow.python.ops import resource_variable_ops

    shape, dtype = given.get("shape"), given.get("dtype")
    value = given.get("initial_value")
    if shape is None or tf.TensorShape(shape).rank is None or dtype is None:
        value = tf.convert_to_tensor(
            value() if callable(value) else value, dtype
        )
        shape, dtype = value.shape, value.dtype
    with tf.init_scope():
        if not tf.TensorShape(shape).rank:
            return resource_variable_ops.ResourceVariable(0, dtype=dtype)
        return resource_variable_ops.UninitializedVariable(
            shape=shape,
            dtype=dtype,
            trainable=given.get("trainable") is not False,
            name=given.get("name"),
        )


def _specs(tf, nested):
    """(shape, dtype) in dicts and tuples as `tf.TensorSpec`s."""
    if isinstance(nested, dict):
        return {name: _specs(tf, value) for name, value in nested.items()}
    shape, dtype = nested
    if isinstance(dtype, str):
        return tf.TensorSpec(shape, dtype)
    return tuple(_specs(tf, value) for value in nested)


def _bytes(variables):
    return sum(math.prod(v.shape) * v.dtype.size for v in variables)
