"""A user's model as a study needs it: built, compiled, with another optimizer.

Nothing here knows a backend.
"""

import importlib

import numpy as np

from lbcheck.optimizers import selection
from lbcheck.support import errors
from lbcheck.support import kerases
from lbcheck.support import random_state

LARGEST_METRIC = 1_000
"""Most numbers of one metric."""


def build(workload, arguments, seed: int, example):
    """A new model, from the random state of a process that begins with seed.

    Args:
        workload: `Workload`.
        arguments: Hyperparameters for build_model.
        seed: At least 0.
        example: A small batch, for a model that waits for its first.

    Raises:
        TypeError, ValueError: If what build_model returns is no model, or is
            not compiled and the workload has no loss.
    """
    return ready(workload, create(workload, arguments, seed), example)


def create(workload, arguments, seed: int):
    """What build_model returns; the first half of `build`."""
    loaded = random_state.loaded()
    random_state.begin(seed)
    with errors.named("`build_model`"):
        model = workload.build_model(**arguments)
        if random_state.loaded() != loaded:
            # It has imported a framework, whose state no seed had set.
            random_state.begin(seed)
            model = workload.build_model(**arguments)
    if not hasattr(model, "train_step"):
        raise TypeError(
            "Workload: `build_model` must return a Keras model, received "
            f"{model!r}."
        )
    if getattr(model, "_lbcheck_has_it", False):
        raise ValueError(
            "Workload: `build_model` returns the same model every time, so "
            "that each trial would begin with what the one before has learnt; "
            "it must return a new model."
        )
    model._lbcheck_has_it = True
    _refuse_other_ways(model)
    return model


_WAYS = ("fit", "make_train_function", "evaluate", "make_test_function")
"""What calls a model's steps, in place of which a trial does."""
_STRATEGIES = ("_DefaultDistributionStrategy", "OneDeviceStrategy")
"""Those of TensorFlow whose variables are as without any."""


def _refuse_other_ways(model):
    """Refuses a model that Keras would train in another way than a trial."""
    plain = keras_of(model).Model
    for name in _WAYS:
        if getattr(type(model), name) is not getattr(plain, name):
            raise ValueError(
                f"Workload: {type(model).__name__}, which build_model returns, "
                f"has its own `{name}`, which no trial would call; what it "
                "does belongs into train_step, test_step or the data."
            )
    if on_tensorflow(model):
        strategy = type(model.distribute_strategy).__name__
        if strategy not in _STRATEGIES:
            raise ValueError(
                f"Workload: build_model makes its model for {strategy}, but a "
                "trial has one device; leave out the strategy's scope."
            )


def ready(workload, model, example):
    """The model compiled and with weights; the second half of `build`.

    Raises:
        ValueError: It is not compiled and the workload has no loss, it is
            compiled and the workload has one, too, or it holds what an
            earlier model of the workload has trained.
    """
    if getattr(model, "compiled", getattr(model, "_is_compiled", False)):
        _refuse_second_loss(workload)
    else:
        plain_step = keras_of(model).Model.train_step
        if workload.loss is None and type(model).train_step is plain_step:
            raise ValueError(
                "Workload: build_model returns a model that is not compiled; "
                "compile it, or set `loss` and `metrics`."
            )
        model.compile(loss=workload.loss, metrics=workload.metrics)
    if not model.built:
        make_variables(model, example)
    _refuse_trained(workload, model)
    if kerases.of(model) == "keras3" and on_tensorflow(model):
        from keras.src.random import seed_generator

        # What layers draw from that have no generator of their own.
        shared = seed_generator.global_seed_generator()
        object.__setattr__(model, "_lbcheck_generator", shared)
    return model


def _refuse_second_loss(workload):
    """Refuses what a compiled model would not be compiled with."""
    for name in ("loss", "metrics"):
        if getattr(workload, name) is not None:
            raise ValueError(
                f"Workload: `{name}` is for a model that is not compiled, and "
                "build_model compiles its own; leave one out, received "
                f"{name}={getattr(workload, name)!r}."
            )


def _refuse_trained(workload, model):
    """Refuses variables of an earlier model that training changes.

    Frozen weights and what is adapted before may be shared: what another
    variable has when it is met again, it must have ever after. Random
    generators begin by the seed, as those that build_model makes.
    """
    trained = {id(variable) for variable in model.trainable_variables}
    drawn = {id(variable) for variable in _random_states(model)}
    for variable in {id(v): v for v in decided(model)}.values():
        known, value = getattr(variable, "_lbcheck_met", (None, None))
        if known is not workload:
            variable._lbcheck_met = workload, None
            continue
        now = np.asarray(variable.numpy())
        if id(variable) in drawn:
            state = np.random.randint(2**31 - 1, size=now.shape)
            variable.assign(state.astype(now.dtype))
            continue
        variable._lbcheck_met = workload, value or now.tobytes()
        if id(variable) in trained or value not in (None, now.tobytes()):
            raise ValueError(
                f"Workload: `build_model` uses {_holder(model, variable)} "
                "again, which an earlier model had, so that each trial would "
                "begin with what the one before has changed; make, load or "
                "copy it (keras.models.clone_model and set_weights) inside "
                "build_model."
            )


def _holder(model, variable):
    """The layer of a model that has a variable, or the variable, in words."""
    for layer in getattr(model, "layers", []):
        if any(variable is weight for weight in layer.variables):
            return f"the layer {layer.name!r}"
    return f"the variable {path(variable)!r}"


def make_variables(model, example) -> None:
    """Makes weights and what metrics count in, as the first step of `fit`.

    Nothing is computed: that would draw from generators and count calls, so
    that a trial would begin where training by hand comes later.
    """
    try:
        if on_tensorflow(model):
            import tensorflow as tf

            step = tf.function(lambda batch: model.test_step(batch))
            step.get_concrete_function(example)
        else:
            model._symbolic_build(data_batch=example)
    except Exception:
        # What cannot be traced is run; a mistake of the user's comes again.
        look(model, example)


def other_optimizer(model) -> ValueError:
    """What refuses a model that has an optimizer besides `model.optimizer`."""
    return ValueError(
        f"Model {model.name!r} does not train by `model.optimizer`, so that "
        "no other optimizer can take its place; use self.optimizer in "
        "train_step."
    )


def look(model, example) -> dict:
    """Evaluates one batch; what its step reports, loss first."""
    if on_tensorflow(model):
        logs = model.test_step(example)
    else:
        # One step is said, or Keras warns that the data ran out.
        model.evaluate((batch for batch in [example]), steps=1, verbose=0)
        logs = model.get_metrics_result()
    for layer in _stateful(model):
        # No variables of the model, so that no trial would set them back.
        layer.reset_states()
    return logs


def _stateful(model) -> list:
    """The recurrent layers whose state goes from batch to batch."""
    return [
        layer
        for layer in model._flatten_layers()
        if getattr(layer, "stateful", False)
        and hasattr(layer, "return_sequences")
    ]


def weighs(model) -> bool | None:
    """Whether its metrics count examples by their weights; None: unknown."""
    plain = keras_of(model).Model
    own = any(
        getattr(type(model), step) is not getattr(plain, step)
        for step in ("test_step", "compute_metrics")
    )
    is_keras3 = kerases.of(model) == "keras3"
    name = "_compile_metrics" if is_keras3 else "compiled_metrics"
    compiled = getattr(model, name, None)
    given = [
        bool(getattr(compiled, f"_user_{kind}metrics", None))
        for kind in ("", "weighted_")
    ]
    return None if own or all(given) else given[1]


def flat(logs) -> dict[str, float]:
    """Numbers by name, of metrics that may be vectors or dicts.

    A dict stands for its items, as in Keras; the numbers of a vector are
    called `f1_score_0`, `f1_score_1`, those of a matrix `matrix_0_1`.
    """
    found = {}
    for name, value in logs.items():
        if isinstance(value, dict):
            parts = flat(value)
        else:
            parts = _numbers(name, np.asarray(value))
        for part, number in parts.items():
            found[f"{name}_{part}" if part in found else part] = number
    return found


def _numbers(name, values):
    if not np.issubdtype(values.dtype, np.number) and values.dtype != bool:
        raise TypeError(
            f"Workload: the metric {name!r} must be numbers, received "
            f"{values.dtype}."
        )
    if values.size > LARGEST_METRIC:
        raise ValueError(
            f"Workload: the metric {name!r} has {values.size:,} numbers, of "
            f"which every trial would record all; at most {LARGEST_METRIC:,}."
        )
    return {
        "_".join([name, *map(str, place)]): float(value)
        for place, value in np.ndenumerate(values)
    }


def keras_of(model):
    """The Keras module of a model."""
    name = kerases.LIBRARIES[kerases.of(model)]
    return importlib.import_module(name)


def is_traced(model) -> bool:
    """Whether its steps can be traced by TensorFlow."""
    return on_tensorflow(model) and not model.run_eagerly


def keeps_size(model, batch_size: int) -> bool:
    """Whether it takes batches of `batch_size` examples only.

    Raises:
        ValueError: It takes batches of another size only.
    """
    inputs = getattr(model, "inputs", None) or []
    sizes = {tensor.shape[0] for tensor in inputs} - {None}
    if sizes - {batch_size}:
        raise ValueError(
            f"Workload: the model takes batches of {max(sizes)} examples, "
            f"received batch_size={batch_size}."
        )
    return bool(sizes) or bool(_stateful(model))


def on_tensorflow(model) -> bool:
    """Whether the model's backend is TensorFlow."""
    return backend(model) == "tensorflow"


def backend(model) -> str:
    """Name of the model's backend."""
    return keras_of(model).backend.backend()


_LOSS_SCALE = ("dynamic", "initial_scale", "dynamic_growth_steps")
"""How the loss is scaled, in the configuration of both Kerases."""


def make_optimizer(
    model, arm, hyperparameters, steps, diagnostics_every, rate=None
):
    """Compiles the model with an arm's optimizer instead of its own.

    Where the loss is scaled for mixed precision, the optimizer is wrapped in
    the same way.

    Args:
        model: Built and compiled.
        arm: `Arm`.
        hyperparameters: As for `Arm.make`.
        steps: Updates of the run.
        diagnostics_every: As in the optimizers of this package.
        rate: As for `Arm.make`.

    Returns:
        The optimizer, without what wraps it.
    """
    optimizer = _new_optimizer(
        model, arm, hyperparameters, steps, diagnostics_every, rate
    )
    wrapped = optimizer
    if hasattr(model.optimizer, "inner_optimizer"):
        precision = keras_of(model).mixed_precision
        given = model.optimizer.get_config()
        scale = {n: given[n] for n in _LOSS_SCALE if given.get(n) is not None}
        wrapped = precision.LossScaleOptimizer(optimizer, **scale)
    model.optimizer = wrapped
    wrapped.build(model.trainable_variables)
    return optimizer


def _new_optimizer(model, arm, hyperparameters, steps, every, rate):
    optimizer = arm.make(kerases.of(model), hyperparameters, steps, rate)
    if every:
        optimizer.diagnostics_every = every
    return optimizer


def at_weights(optimizer, model, *settings) -> list:
    """(variable of an optimizer, what it begins with at the model's weights).

    Averages and slow weights begin there. [] of this package's optimizers
    without averages, which begin alike at all weights.

    Args:
        optimizer: As `make_optimizer` returned it.
        model: The model, with the weights of a trial.
        *settings: The other arguments of `make_optimizer`.
    """
    if hasattr(optimizer, "plan") and not optimizer.use_ema:
        return []
    fresh = _new_optimizer(model, *settings)
    fresh.build(model.trainable_variables)
    return list(zip(optimizer.variables, fresh.variables, strict=True))


def decided(model) -> list:
    """What a build decides: weights, statistics, random generators."""
    metrics = {id(v) for metric in model.metrics for v in metric.variables}
    variables = [v for v in model.variables if id(v) not in metrics]
    if hasattr(model, "_lbcheck_generator"):
        variables.append(model._lbcheck_generator.state)
    if kerases.of(model) == "tf_keras":
        variables += _random_states(model)
    return variables


def _random_states(model) -> list:
    """States of the random generators of a model's layers."""
    if kerases.of(model) == "tf_keras":
        from lbcheck.training.backends.tf_keras_updates import random_generators

        return [generator.state for generator in random_generators(model)]
    return [
        generator.state
        for layer in model._flatten_layers()
        for generator in layer._seed_generators
    ]


def bits(model) -> int:
    """Bits of the narrowest type that a model computes in: 16 or 32."""
    layers = [model, *getattr(model, "layers", [])]
    kinds = {str(getattr(layer, "compute_dtype", "")) for layer in layers}
    return 16 if kinds & {"float16", "bfloat16"} else 32


def floating(model) -> list:
    """Those of `decided` that hold floating numbers."""
    return [v for v in decided(model) if "float" in str(v.dtype)]


path = selection.clean_path
