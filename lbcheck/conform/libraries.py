"""The original libraries, each as a function that runs a trajectory.

Every maker returns `run(weights, gradients, rates, hyperparameters, decay,
adapt)` -> list of weight lists after each update, or raises ImportError where
its library is not installed. `decay` and `adapt` are one bool a variable.
Variables are named so that the library's own patterns select as asked.
"""

import json
import pathlib

import numpy as np

_UNDECAYED, _UNADAPTED = "nodecay", "noadapt"


def _names(decay, adapt):
    return [
        f"v{index}_{'' if d else _UNDECAYED}_{'' if a else _UNADAPTED}"
        for index, (d, a) in enumerate(zip(decay, adapt))
    ]


def _tensorflow(make, module, variable=None):
    """Runs a TF optimizer whose rate is set before every update.

    Args:
        make: (hyperparameters, variables, decay) -> optimizer.
        module: What has to be installed.
        variable: Class of its variables; None: tf.Variable.
    """

    def run(weights, gradients, rates, hyper, decay, adapt):
        import tensorflow as tf

        variables = [
            (variable or tf.Variable)(np.float32(weight), name=name)
            for weight, name in zip(weights, _names(decay, adapt))
        ]
        optimizer = make(hyper, variables, decay)
        trajectory = []
        for step, rate in enumerate(rates):
            optimizer.learning_rate = rate
            optimizer.apply_gradients(
                [
                    (tf.constant(np.float32(g)), variable)
                    for g, variable in zip(gradients[step], variables)
                ]
            )
            trajectory.append([v.numpy().astype("float64") for v in variables])
        return trajectory

    __import__("tensorflow")
    __import__(module)
    return run


def _garden_lars(classic):
    def make(hyper, variables, decay):
        from official.modeling.optimization import lars

        return lars.LARS(
            learning_rate=0.1,
            momentum=hyper["momentum"],
            weight_decay_rate=hyper["weight_decay"],
            eeta=hyper["trust_coefficient"],
            nesterov=hyper.get("nesterov", False),
            classic_momentum=classic,
            exclude_from_weight_decay=[_UNDECAYED],
            exclude_from_layer_adaptation=[_UNADAPTED],
        )

    return _tensorflow(make, "official.modeling.optimization.lars")


def garden_lars():
    """Model Garden LARS with `classic_momentum=True`."""
    return _garden_lars(True)


def garden_lars_popular():
    """Model Garden LARS with `classic_momentum=False`."""
    return _garden_lars(False)


def garden_lamb():
    """Model Garden LAMB."""

    def make(hyper, variables, decay):
        from official.modeling.optimization import lamb

        return lamb.LAMB(
            learning_rate=0.1,
            beta_1=hyper["beta_1"],
            beta_2=hyper["beta_2"],
            epsilon=hyper["epsilon"],
            weight_decay_rate=hyper["weight_decay"],
            exclude_from_weight_decay=[_UNDECAYED],
            exclude_from_layer_adaptation=[_UNADAPTED],
        )

    return _tensorflow(make, "official.modeling.optimization.lamb")


def garden_adamw():
    """Model Garden AdamWeightDecay, its built-in clipping out of reach."""

    def make(hyper, variables, decay):
        from official.modeling.optimization import legacy_adamw

        return legacy_adamw.AdamWeightDecay(
            learning_rate=0.1,
            beta_1=hyper["beta_1"],
            beta_2=hyper["beta_2"],
            epsilon=hyper["epsilon"],
            weight_decay_rate=hyper["weight_decay"],
            exclude_from_weight_decay=[_UNDECAYED],
            gradient_clip_norm=0,
        )

    return _tensorflow(make, "official.modeling.optimization.legacy_adamw")


def _excluding(optimizer, variables, decay):
    undecayed = [v for v, flag in zip(variables, decay) if not flag]
    optimizer.exclude_from_weight_decay(var_list=undecayed)
    return optimizer


def _moments(hyper):
    return {
        name: hyper[name]
        for name in ("beta_1", "beta_2", "epsilon", "weight_decay")
    }


def keras_lamb():
    """keras.optimizers.Lamb."""

    def make(hyper, variables, decay):
        import keras

        optimizer = keras.optimizers.Lamb(0.1, **_moments(hyper))
        return _excluding(optimizer, variables, decay)

    return _tensorflow(make, "keras")


def _keras_like(module, name, settings):
    def make(hyper, variables, decay):
        optimizers = __import__(module).optimizers
        optimizer = getattr(optimizers, name)(0.1, **settings(hyper))
        return _excluding(optimizer, variables, decay)

    return _tensorflow(make, module)


def _sgd_settings(hyper):
    return {
        "momentum": hyper["momentum"],
        "nesterov": hyper["nesterov"],
        "weight_decay": hyper["weight_decay"] or None,
    }


def keras_adamw():
    """keras.optimizers.AdamW."""
    return _keras_like("keras", "AdamW", _moments)


def tf_keras_adamw():
    """tf_keras.optimizers.AdamW."""
    return _keras_like("tf_keras", "AdamW", _moments)


def keras_sgd():
    """keras.optimizers.SGD."""
    return _keras_like("keras", "SGD", _sgd_settings)


def tf_keras_sgd():
    """tf_keras.optimizers.SGD."""
    return _keras_like("tf_keras", "SGD", _sgd_settings)


def keras_adagrad():
    """keras.optimizers.Adagrad."""

    def settings(hyper):
        return {
            "initial_accumulator_value": hyper["initial_accumulator_value"],
            "epsilon": hyper["epsilon"],
            "weight_decay": hyper["weight_decay"] or None,
        }

    return _keras_like("keras", "Adagrad", settings)


def _lion(hyper):
    return {name: hyper[name] for name in ("beta_1", "beta_2", "weight_decay")}


def keras_lion():
    """keras.optimizers.Lion."""
    return _keras_like("keras", "Lion", _lion)


def tf_keras_lion():
    """tf_keras.optimizers.Lion."""
    return _keras_like("tf_keras", "Lion", _lion)


def keras_nadam():
    """keras.optimizers.Nadam."""
    return _keras_like("keras", "Nadam", _moments)


def tf_keras_nadam():
    """tf_keras.optimizers.Nadam."""
    return _keras_like("tf_keras", "Nadam", _moments)


def keras_muon():
    """keras.optimizers.Muon, of the installed release."""

    def make(hyper, variables, decay):
        import keras

        optimizer = keras.optimizers.Muon(
            0.1,
            momentum=hyper["momentum"],
            weight_decay=hyper["weight_decay"],
            adam_weight_decay=hyper["weight_decay"],
            exclude_layers=[_UNADAPTED],
        )
        return _excluding(optimizer, variables, decay)

    import keras

    if not hasattr(keras.optimizers.Muon(), "rms_rate"):
        raise ImportError("keras.optimizers.Muon is of before 3.13")
    return _tensorflow(make, "keras", keras.Variable)


def _optax(transformation):
    """Runs an optax transformation; `make(hyper, rates, decay, adapt)`."""
    import jax
    import optax

    def run(weights, gradients, rates, hyper, decay, adapt):
        table = jax.numpy.asarray(rates, "float32")
        optimizer = transformation(
            hyper, lambda step: table[step], list(decay), list(adapt)
        )
        parameters = [jax.numpy.asarray(w, "float32") for w in weights]
        state = optimizer.init(parameters)
        update = jax.jit(optimizer.update)
        trajectory = []
        for step in range(len(rates)):
            updates, state = update(
                [jax.numpy.asarray(g, "float32") for g in gradients[step]],
                state,
                parameters,
            )
            parameters = optax.apply_updates(parameters, updates)
            trajectory.append([np.float64(p) for p in parameters])
        return trajectory

    return run


def optax_lars():
    """optax.lars."""
    import optax

    return _optax(
        lambda hyper, rate, decay, adapt: optax.lars(
            rate,
            hyper["weight_decay"],
            weight_decay_mask=decay,
            trust_coefficient=hyper["trust_coefficient"],
            eps=hyper.get("epsilon", 0.0),
            trust_ratio_mask=adapt,
            momentum=hyper["momentum"],
            nesterov=hyper.get("nesterov", False),
        )
    )


def _optax_with_moments(name):
    import optax

    return _optax(
        lambda hyper, rate, decay, adapt: getattr(optax, name)(
            rate,
            hyper["beta_1"],
            hyper["beta_2"],
            hyper["epsilon"],
            weight_decay=hyper["weight_decay"],
            mask=decay,
        )
    )


def optax_lamb():
    """optax.lamb."""
    return _optax_with_moments("lamb")


def optax_adamw():
    """optax.adamw."""
    return _optax_with_moments("adamw")


def optax_lion():
    """optax.lion."""
    import optax

    return _optax(
        lambda hyper, rate, decay, adapt: optax.lion(
            rate,
            hyper["beta_1"],
            hyper["beta_2"],
            weight_decay=hyper["weight_decay"],
            mask=decay,
        )
    )


def optax_nadamw():
    """optax.nadamw."""
    return _optax_with_moments("nadamw")


def optax_ademamix():
    """optax.contrib.ademamix, with the schedules of apple/ml-ademamix."""
    import jax.numpy as jnp
    from optax import contrib

    def make(hyper, rate, decay, adapt):
        steps = max(1, hyper.get("slow_warmup_steps", 0))

        def half_life(beta):
            return jnp.log(0.5) / jnp.log(beta) - 1

        def beta_3(step):
            part = step / steps
            life = (1 - part) * half_life(hyper["beta_1"])
            life = life + part * half_life(hyper["beta_3"])
            rising = 0.5 ** (1 / (life + 1))
            return jnp.where(step < steps, rising, hyper["beta_3"])

        if steps > 1:
            slow = (
                beta_3,
                lambda step: hyper["alpha"] * jnp.minimum(step / steps, 1.0),
            )
        else:
            slow = hyper["beta_3"], hyper["alpha"]
        return contrib.ademamix(
            rate,
            hyper["beta_1"],
            hyper["beta_2"],
            *slow,
            hyper["epsilon"],
            weight_decay=hyper["weight_decay"],
            mask=decay,
        )

    return _optax(make)


def optax_schedule_free():
    """optax.contrib.schedule_free over AdamW's parts, with a mask of decay.

    Its shortcut for AdamW takes no mask. It asks the rate of update t for t
    from 1, the optimizer inside from 0, so that each is given its own.
    """
    import jax.numpy as jnp
    import optax
    from optax import contrib

    def make(hyper, rate, decay, adapt):
        inner = optax.chain(
            optax.scale_by_rms(
                hyper["beta_2"],
                hyper["epsilon"],
                eps_in_sqrt=False,
                bias_correction=True,
            ),
            optax.add_decayed_weights(hyper["weight_decay"], decay),
            optax.scale_by_learning_rate(rate),
        )
        return contrib.schedule_free(
            inner, lambda t: rate(jnp.maximum(t - 1, 0)), hyper["beta_1"]
        )

    return _optax(make)


def optax_muon():
    """optax.contrib.muon on what is adapted, scaled as Liu et al. 2025."""
    from optax import contrib

    def make(hyper, rate, decay, adapt):
        numbers = contrib.MuonDimensionNumbers()
        chosen = [numbers if a else None for a in adapt]
        return contrib.muon(
            rate,
            beta=hyper["momentum"],
            eps=1e-7,
            weight_decay=hyper["weight_decay"],
            weight_decay_mask=decay,
            adam_weight_decay=0.0,
            muon_weight_dimension_numbers=chosen,
            consistent_rms=0.2,
        )

    return _optax(make)


def optax_sgd():
    """optax.sgd after optax.add_decayed_weights: decay as L2."""
    import optax

    return _optax(
        lambda hyper, rate, decay, adapt: optax.chain(
            optax.add_decayed_weights(hyper["l2"], mask=decay),
            optax.sgd(rate, hyper["momentum"], hyper["nesterov"]),
        )
    )


RECORDED = pathlib.Path(__file__).with_name("tensorflow_addons.json")


def recorded_addons(index):
    """One tensorflow-addons LAMB trajectory, recorded by `make oracles`.

    Returns:
        ((start, gradients, rates, weights after each update), decay flags,
        hyperparameters), variables in the order kernel, other, bias, gamma.
    """
    with open(RECORDED, encoding="utf-8") as file:
        recorded = json.load(file)
    case = recorded["cases"][index]
    shapes = recorded["shapes"]

    def arrays(values):
        return [
            np.reshape(values[name], shape).astype("float32")
            for name, shape in shapes.items()
        ]

    steps = case["steps"]
    trajectory = (
        arrays(case["start"]),
        [arrays(step["gradients"]) for step in steps],
        [step["rate"] for step in steps],
        [arrays(step["weights"]) for step in steps],
    )
    hyper = {
        name: case.get(name, default)
        for name, default in (
            ("beta_1", 0.9),
            ("beta_2", 0.999),
            ("epsilon", 1e-6),
            ("weight_decay", 0.0),
        )
    }
    decay = [name not in case["decay_out"] for name in shapes]
    return trajectory, decay, hyper


LIBRARIES = {
    "official LARS": ("LARS", "model_garden", garden_lars),
    "official LAMB": ("LAMB", "model_garden", garden_lamb),
    "official AdamWeightDecay": ("AdamW", "model_garden", garden_adamw),
    "keras Lamb": ("LAMB", "keras", keras_lamb),
    "keras AdamW": ("AdamW", "keras", keras_adamw),
    "tf_keras AdamW": ("AdamW", "keras", tf_keras_adamw),
    "keras SGD": ("Momentum", "keras", keras_sgd),
    "tf_keras SGD": ("Momentum", "keras", tf_keras_sgd),
    "keras Adagrad": ("Adagrad", "keras", keras_adagrad),
    "optax lars": ("LARS", "optax", optax_lars),
    "optax lamb": ("LAMB", "optax", optax_lamb),
    "optax adamw": ("AdamW", "optax", optax_adamw),
    "optax sgd": ("Momentum", "optax", optax_sgd),
    "keras Lion": ("Lion", "keras", keras_lion),
    "tf_keras Lion": ("Lion", "keras", tf_keras_lion),
    "optax lion": ("Lion", "optax", optax_lion),
    "keras Nadam": ("NAdamW", "keras", keras_nadam),
    "tf_keras Nadam": ("NAdamW", "keras", tf_keras_nadam),
    "optax nadamw": ("NAdamW", "optax", optax_nadamw),
    "optax ademamix": ("AdEMAMix", "optax", optax_ademamix),
    "optax schedule_free": (
        "ScheduleFreeAdamW",
        "optax",
        optax_schedule_free,
    ),
    "keras Muon": ("Muon", "keras", keras_muon),
    "optax muon": ("Muon", "optax", optax_muon),
}
"""name -> (rule, dialect that claims to be it, maker)."""
