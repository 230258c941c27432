"""One optimizer update, lbcheck against its peers, all in one process.

    python benchmarks/optimizer_step.py --model=bert
    python benchmarks/optimizer_step.py --model=resnet
    python benchmarks/optimizer_step.py --model=resnet --backend=jax

The rules come one after another, to fit in memory. Every way of a rule is
warmed up, then all are timed in turn, round after round, so that a machine
that slows down slows all of them. Printed: the median and minimum
in milliseconds, the median ratio to the first, TensorFlow's fused Adam kernel
(ResourceApplyAdam, about the memory limit), the bytes of state for each
parameter and, for lbcheck's rows, the ratio to the fastest peer of the same
rule. All ways of a rule share weights and gradients. Muon is the dialect of
Keras, whose choice of matrices optax is given too.

With --backend=jax the optimizers of Keras 3 run on JAX, so that the same
compiler writes their updates and optax's; the first is optax's AdamW then.
"""

import gc
import json
import os
import statistics
from concurrent import futures

import common
from absl import flags

_MODEL = flags.DEFINE_enum("model", "bert", ["bert", "resnet"], "Shapes.")
_REPEATS = flags.DEFINE_integer("repeats", 11, "Timed rounds.", 1)
_RULES = flags.DEFINE_list(
    "rules",
    "AdamW,LAMB,LARS,Lion,NAdamW,AdEMAMix,ScheduleFreeAdamW,Muon",
    "Rules.",
)
_BACKEND = flags.DEFINE_enum(
    "backend", "tensorflow", ["tensorflow", "jax"], "What Keras 3 runs on."
)
_OUTPUT = flags.DEFINE_string("output", None, "Write the rows as JSON here.")


_OURS = "lbcheck (Keras 3)"


def bert_base_shapes():
    """The 199 trainable tensors of BERT-base with pooler: 109.5 M."""
    layer = [(768, 12, 64), (12, 64)] * 3 + [
        (12, 64, 768),
        (768,),
        (768,),
        (768,),
        (768, 3072),
        (3072,),
        (3072, 768),
        (768,),
        (768,),
        (768,),
    ]
    embeddings = [(30522, 768), (512, 768), (2, 768), (768,), (768,)]
    return embeddings + layer * 12 + [(768, 768), (768,)]


def resnet50_shapes():
    """The 161 trainable tensors of ResNet-50: 25.56 M."""
    shapes = [(7, 7, 3, 64), (64,), (64,)]
    channels = 64
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for block in range(blocks):
            convolutions = [(1, 1, channels, width), (3, 3, width, width)]
            convolutions += [(1, 1, width, 4 * width)]
            if block == 0:
                convolutions += [(1, 1, channels, 4 * width)]
            for shape in convolutions:
                shapes += [shape, shape[-1:], shape[-1:]]
            channels = 4 * width
    return shapes + [(2048, 1000), (1000,)]


def values_of(shapes):
    """The weights of all ways; gradients are a tenth of them."""
    import numpy as np

    generator = np.random.default_rng(0)
    return [generator.normal(0, 0.02, s).astype("float32") for s in shapes]


_RATE, _DECAY = 1e-5, {"weight_decay": 0.01}


def keras_makers(rule):
    """{name: function} that make the optimizers of Keras 3, ours first."""
    import keras

    import lbcheck

    ours, theirs = lbcheck.keras3, keras.optimizers
    # lbcheck's settings, then Keras's class and settings.
    settings = {
        "AdamW": ({}, "AdamW", {}),
        "LAMB": ({}, "Lamb", _DECAY),
        "LARS": (_DECAY, None, {}),
        "Lion": ({}, "Lion", {"weight_decay": 0.1}),
        "NAdamW": ({}, "Nadam", _DECAY),
        "AdEMAMix": (_DECAY, None, {}),
        "ScheduleFreeAdamW": (_DECAY, "ScheduleFreeAdamW", _DECAY),
        "Muon": ({"dialect": "keras"}, "Muon", {"weight_decay": 0.1}),
    }
    mine, name, other = settings[rule]
    found = {_OURS: lambda: getattr(ours, rule)(_RATE, **mine)}
    if name:
        found["keras"] = lambda: getattr(theirs, name)(_RATE, **other)
    if rule == "Lion":
        found["lbcheck AdamW"] = lambda: ours.AdamW(_RATE)
    return found


def tensorflow_makers(rule):
    """{name: function} that make what else there is on TensorFlow."""
    import tf_keras
    from official.modeling.optimization import lamb as garden_lamb
    from official.modeling.optimization import lars as garden_lars

    import lbcheck

    garden = {"weight_decay_rate": 0.01, "exclude_from_weight_decay": ["bias"]}
    theirs = tf_keras.optimizers
    return {
        "AdamW": {"tf_keras": lambda: theirs.AdamW(_RATE)},
        "LAMB": {
            "lbcheck (tf_keras)": lambda: lbcheck.tf_keras.LAMB(_RATE),
            "lbcheck diagnostics": lambda: lbcheck.keras3.LAMB(
                _RATE, diagnostics_every=100
            ),
            "garden": lambda: garden_lamb.LAMB(_RATE, **garden),
        },
        "LARS": {"garden": lambda: garden_lars.LARS(_RATE, **garden)},
        "Lion": {"tf_keras": lambda: theirs.Lion(_RATE, weight_decay=0.1)},
        "NAdamW": {"tf_keras": lambda: theirs.Nadam(_RATE, **_DECAY)},
    }.get(rule, {})


def tensorflow_ways(shapes, rule):
    """{name: (function, bytes)} of those on TensorFlow, the kernel first."""
    import numpy as np
    import tensorflow as tf

    values = values_of(shapes)
    names = [f"layer_{i}/{_last_name(shape)}" for i, shape in enumerate(shapes)]
    variables = [
        tf.Variable(value, name=name) for value, name in zip(values, names)
    ]
    gradients = [tf.constant(0.1 * value) for value in values]

    def graph(apply, jit):
        @tf.function(jit_compile=jit)
        def update():
            apply()

        # Here, since Model Garden's keep tensors of the trace they are in.
        update.get_concrete_function()

        def run():
            update()
            # The last variable's read waits for the whole step.
            return variables[-1].numpy()

        return run

    def both(name, optimizer):
        if hasattr(optimizer, "build"):
            optimizer.build(variables)

        def apply():
            optimizer.apply_gradients(list(zip(gradients, variables)))

        return {
            f"{name} graph": graph(apply, False),
            f"{name} XLA": graph(apply, True),
        }

    moments = [
        [tf.Variable(tf.zeros_like(v)) for v in variables] for _ in range(2)
    ]
    step = tf.Variable(0.0)

    def fused():
        step.assign_add(1.0)
        powers = 0.9**step, 0.999**step
        for variable, m, v, gradient in zip(variables, *moments, gradients):
            tf.raw_ops.ResourceApplyAdam(
                var=variable.handle,
                m=m.handle,
                v=v.handle,
                beta1_power=powers[0],
                beta2_power=powers[1],
                lr=_RATE,
                beta1=0.9,
                beta2=0.999,
                epsilon=1e-7,
                grad=gradient,
            )

    ways = {"fused Adam kernel": (graph(fused, False), 8.0)}
    parameters = sum(value.size for value in values)
    makers = keras_makers(rule) | tensorflow_makers(rule)
    for name, make in makers.items():
        optimizer = make()
        if rule == "Muon" and name == "keras":
            # It asks for a path, which a tf.Variable has not.
            optimizer._should_use_adamw = lambda v: (
                len(v.shape) != 2 or "embedding" in v.name
            )
        found = both(f"{name} {rule}", optimizer)
        state = [v for v in _state(optimizer, variables) if v.shape]
        known = {id(v) for v in variables}
        size = sum(4.0 * np.prod(v.shape) for v in state if id(v) not in known)
        ways |= {way: (run, size / parameters) for way, run in found.items()}
    return ways


def jax_ways(shapes, rule):
    """{name: (function, bytes)} of Keras 3 on JAX, optax's AdamW first."""
    import keras

    ((run, size),) = optax_ways(shapes, "AdamW").values()
    ways = {"AdamW of optax": (run, size)}
    for name, make in keras_makers(rule).items():
        variables = []
        for number, value in enumerate(values_of(shapes)):
            with keras.name_scope(f"layer_{number}"):
                last = _last_name(value.shape)
                variables.append(keras.Variable(value, name=last))
        optimizer = make()
        optimizer.build(variables)

        def update(weights, state, gradients, optimizer=optimizer):
            return optimizer.stateless_apply(state, gradients, weights)

        weights = [variable.value for variable in variables]
        state = [variable.value for variable in optimizer.variables]
        ways[f"{name} {rule} jit"] = _jitted(update, weights, state)
    return ways


def _state(optimizer, variables):
    """All that an optimizer keeps, whose slots are there."""
    if hasattr(optimizer, "_create_all_weights"):  # Model Garden's, legacy
        optimizer._create_all_weights(variables)
        return optimizer.variables()
    return optimizer.variables


def _last_name(shape):
    """What a tensor of this shape is called, as patterns see it."""
    if shape and shape[0] in (30522, 512, 2) and shape[-1] == 768:
        return "embedding"
    return "kernel" if len(shape) > 1 and shape[-2:] != (12, 64) else "bias"


def optax_ways(shapes, rule):
    """{name: (function, bytes)} of optax, jitted with donated state."""
    import jax
    import optax
    from optax import contrib

    mask = [len(s) > 1 for s in shapes]
    decay = {"mask": mask, "weight_decay": 0.01}
    numbers = [
        contrib.MuonDimensionNumbers()
        if len(s) == 2 and _last_name(s) != "embedding"
        else None
        for s in shapes
    ]
    transformation = {
        "AdamW": lambda: optax.adamw(_RATE, **decay),
        "LAMB": lambda: optax.lamb(_RATE, **decay),
        "LARS": lambda: optax.lars(_RATE, 0.01, mask, trust_ratio_mask=mask),
        "Lion": lambda: optax.lion(_RATE, **decay),
        "NAdamW": lambda: optax.nadamw(_RATE, **decay),
        "AdEMAMix": lambda: contrib.ademamix(_RATE, **decay),
        "ScheduleFreeAdamW": lambda: contrib.schedule_free_adamw(
            _RATE, weight_decay=0.01
        ),
        "Muon": lambda: contrib.muon(
            _RATE,
            weight_decay=0.1,
            weight_decay_mask=mask,
            adam_weight_decay=0.1,
            muon_weight_dimension_numbers=numbers,
            consistent_rms=0.2,
        ),
    }[rule]()

    def update(parameters, state, gradients):
        updates, state = transformation.update(gradients, state, parameters)
        return optax.apply_updates(parameters, updates), state

    parameters = [jax.numpy.array(value) for value in values_of(shapes)]
    state = transformation.init(parameters)
    return {f"optax {rule} jit": _jitted(update, parameters, state)}


def _jitted(update, weights, state):
    """(function that does an update, bytes of state for each parameter)."""
    import jax

    slots = [leaf for leaf in jax.tree.leaves(state) if leaf.ndim]
    size = sum(4.0 * leaf.size for leaf in slots)
    size /= sum(weight.size for weight in weights)
    # New arrays: what is donated is gone, and Keras's variables have these.
    gradients = [0.1 * weight for weight in weights]
    holder = [[jax.numpy.copy(w) for w in weights], state]
    jitted = jax.jit(update, donate_argnums=(0, 1))

    def run():
        holder[:] = jitted(*holder, gradients)
        jax.block_until_ready(holder[0])

    return run, size


def measure(ways, repeats):
    """{name: list of seconds}, the ways in turn."""
    runs = {name: run for name, (run, _) in ways.items()}
    with futures.ThreadPoolExecutor(2) as pool:  # for their compilers
        for _ in pool.map(lambda run: run(), runs.values()):
            pass
    gc.disable()
    found = common.in_turn(runs, repeats, warm_up=1)
    gc.enable()
    return {name: times.wall for name, times in found.items()}


def tell(rule, times, sizes):
    """Ours beside every other implementation, each in its faster mode."""
    faster = {}
    for name in sorted(times, key=lambda name: statistics.median(times[name])):
        faster.setdefault(name.partition(f" {rule}")[0], name)
    ours = faster.pop(_OURS)
    where = " on JAX" if _BACKEND.value == "jax" else ""
    of = f"of {rule}{where}, shapes of {_MODEL.value}"
    for peer, name in sorted(faster.items()):
        common.tell(
            f"an update {of}",
            [1e3 * seconds for seconds in times[ours]],
            "ms",
            [1e3 * seconds for seconds in times[name]],
            peer,
            mode=name.rpartition(" ")[2],
        )
    optax = sizes[faster["optax"]]
    common.tell(
        f"state {of}",
        sizes[ours],
        "bytes a parameter",
        optax or None,
        "optax" if optax else None,
    )


def report(rule, times, sizes):
    """Prints the rows of one rule and returns them."""
    medians = {name: statistics.median(t) for name, t in times.items()}
    first, *others = times
    peers = [name for name in others if "lbcheck" not in name]
    best = min(peers, key=medians.get)
    print(
        f"\n{rule:36}{'median ms':>10}{'min ms':>9}{'x first':>9}"
        f"{'bytes':>7}  best peer"
    )
    rows = []
    for name, seconds in times.items():
        to_first = statistics.median(
            a / b for a, b in zip(seconds, times[first])
        )
        against = ""
        if "lbcheck" in name:
            against = f"x{medians[name] / medians[best]:.2f} of {best}"
        print(
            f"{name:36}{medians[name] * 1e3:10.1f}{min(seconds) * 1e3:9.1f}"
            f"{to_first:9.2f}{sizes[name]:7.1f}  {against}",
            flush=True,
        )
        rows.append(
            {
                "way": name,
                "seconds": seconds,
                "ratio_to_first": to_first,
                "state_bytes_per_parameter": sizes[name],
            }
        )
    return rows


def main(argv):
    del argv
    os.environ["KERAS_BACKEND"] = _BACKEND.value
    on_jax = _BACKEND.value == "jax"
    if not on_jax:
        common.need("official", "pip install '.[bert]'")
    common.need("optax", "pip install optax")
    shapes = bert_base_shapes() if _MODEL.value == "bert" else resnet50_shapes()
    if common.is_smoke():
        shapes = shapes[4:8]
    repeats = common.sized(_REPEATS.value, 2)
    print(f"{_MODEL.value}: {len(shapes)} tensors, {repeats} rounds")
    rows = {}
    for rule in common.sized(_RULES.value, ["LAMB"]):
        of_keras = jax_ways if on_jax else tensorflow_ways
        ways = of_keras(shapes, rule) | optax_ways(shapes, rule)
        sizes = {name: size for name, (_, size) in ways.items()}
        times = measure(ways, repeats)
        rows[rule] = report(rule, times, sizes)
        tell(rule, times, sizes)
        del ways
        gc.collect()
    if _OUTPUT.value:
        with open(_OUTPUT.value, "w", encoding="utf-8") as file:
            json.dump(rows, file, indent=1)


if __name__ == "__main__":
    common.start(main)
