"""One optimizer update, lbcheck against its peers, all in one process.

    python benchmarks/optimizer_step.py --model=bert
    python benchmarks/optimizer_step.py --model=resnet

The rules come one after another, to fit in memory. Every way of a rule is
warmed up, then all are timed in turn, round after round, so that a machine
that slows down slows all of them. Printed: the median and minimum
in milliseconds, the median ratio to TensorFlow's fused Adam kernel
(ResourceApplyAdam, about the memory limit), the bytes of state for each
parameter and, for lbcheck's rows, the ratio to the fastest peer of the same
rule. All ways of a rule share weights and gradients. Muon is the dialect of
Keras, whose choice of matrices optax is given too.
"""

import gc
import json
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


def tensorflow_ways(shapes, rule):
    """{name: function} of what runs on TensorFlow, the kernel first."""
    import keras
    import numpy as np
    import tensorflow as tf
    import tf_keras
    from official.modeling.optimization import lamb as garden_lamb
    from official.modeling.optimization import lars as garden_lars

    import lbcheck

    generator = np.random.default_rng(0)
    values = [generator.normal(0, 0.02, s).astype("float32") for s in shapes]
    names = [f"layer_{i}/{_last_name(shape)}" for i, shape in enumerate(shapes)]
    variables = [
        tf.Variable(value, name=name) for value, name in zip(values, names)
    ]
    gradients = [tf.constant(0.1 * value) for value in values]
    excluded = ["bias"]

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
                lr=1e-5,
                beta1=0.9,
                beta2=0.999,
                epsilon=1e-7,
                grad=gradient,
            )

    rate = 1e-5
    mine, theirs = lbcheck.keras3, keras.optimizers
    decay = {"weight_decay": 0.01}
    makers = {
        "AdamW": {
            "lbcheck (Keras 3)": lambda: mine.AdamW(rate),
            "keras": lambda: theirs.AdamW(rate),
            "tf_keras": lambda: tf_keras.optimizers.AdamW(rate),
        },
        "LAMB": {
            "lbcheck (Keras 3)": lambda: mine.LAMB(rate),
            "lbcheck (tf_keras)": lambda: lbcheck.tf_keras.LAMB(rate),
            "lbcheck diagnostics": lambda: mine.LAMB(
                rate, diagnostics_every=100
            ),
            "keras": lambda: theirs.Lamb(rate, **decay),
            "garden": lambda: garden_lamb.LAMB(
                rate, weight_decay_rate=0.01, exclude_from_weight_decay=excluded
            ),
        },
        "LARS": {
            "lbcheck (Keras 3)": lambda: mine.LARS(rate, **decay),
            "garden": lambda: garden_lars.LARS(
                rate, weight_decay_rate=0.01, exclude_from_weight_decay=excluded
            ),
        },
        "Lion": {
            "lbcheck (Keras 3)": lambda: mine.Lion(rate),
            "lbcheck AdamW": lambda: mine.AdamW(rate),
            "keras": lambda: theirs.Lion(rate, weight_decay=0.1),
            "tf_keras": lambda: tf_keras.optimizers.Lion(
                rate, weight_decay=0.1
            ),
        },
        "NAdamW": {
            "lbcheck (Keras 3)": lambda: mine.NAdamW(rate),
            "keras": lambda: theirs.Nadam(rate, **decay),
            "tf_keras": lambda: tf_keras.optimizers.Nadam(rate, **decay),
        },
        "AdEMAMix": {"lbcheck (Keras 3)": lambda: mine.AdEMAMix(rate, **decay)},
        "ScheduleFreeAdamW": {
            "lbcheck (Keras 3)": lambda: mine.ScheduleFreeAdamW(rate, **decay),
            "keras": lambda: theirs.ScheduleFreeAdamW(rate, **decay),
        },
        "Muon": {
            "lbcheck (Keras 3)": lambda: mine.Muon(rate, dialect="keras"),
            "keras": lambda: theirs.Muon(rate, weight_decay=0.1),
        },
    }
    ways = {"fused Adam kernel": (graph(fused, False), 8.0)}
    parameters = sum(value.size for value in values)
    for name, make in makers[rule].items():
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
    """{name: function} of optax, jitted with donated state."""
    import jax
    import numpy as np
    import optax
    from optax import contrib

    generator = np.random.default_rng(0)
    values = [generator.normal(0, 0.02, s).astype("float32") for s in shapes]
    gradients = [jax.numpy.asarray(0.1 * value) for value in values]
    mask = [len(s) > 1 for s in shapes]
    decay = {"mask": mask, "weight_decay": 0.01}
    numbers = [
        contrib.MuonDimensionNumbers()
        if len(s) == 2 and _last_name(s) != "embedding"
        else None
        for s in shapes
    ]
    transformation = {
        "AdamW": lambda: optax.adamw(1e-5, **decay),
        "LAMB": lambda: optax.lamb(1e-5, **decay),
        "LARS": lambda: optax.lars(1e-5, 0.01, mask, trust_ratio_mask=mask),
        "Lion": lambda: optax.lion(1e-5, **decay),
        "NAdamW": lambda: optax.nadamw(1e-5, **decay),
        "AdEMAMix": lambda: contrib.ademamix(1e-5, **decay),
        "ScheduleFreeAdamW": lambda: contrib.schedule_free_adamw(
            1e-5, weight_decay=0.01
        ),
        "Muon": lambda: contrib.muon(
            1e-5,
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

    jitted = jax.jit(update, donate_argnums=(0, 1))
    parameters = [jax.numpy.array(value) for value in values]
    holder = [parameters, transformation.init(parameters)]

    def run():
        holder[:] = jitted(*holder, gradients)
        jax.block_until_ready(holder[0])

    leaves = jax.tree.leaves(holder[1])
    size = sum(4.0 * leaf.size for leaf in leaves if leaf.ndim)
    size /= sum(value.size for value in values)
    return {f"optax {rule} jit": (run, size)}


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
    for peer, name in sorted(faster.items()):
        common.tell(
            f"an update of {rule}, shapes of {_MODEL.value}",
            [1e3 * seconds for seconds in times[ours]],
            "ms",
            [1e3 * seconds for seconds in times[name]],
            peer,
            mode=name.rpartition(" ")[2],
        )
    optax = sizes[faster["optax"]]
    common.tell(
        f"state of {rule}, shapes of {_MODEL.value}",
        sizes[ours],
        "bytes a parameter",
        optax or None,
        "optax" if optax else None,
    )


def report(rule, times, sizes):
    """Prints the rows of one rule and returns them."""
    medians = {name: statistics.median(t) for name, t in times.items()}
    kernel, *others = times
    peers = [name for name in others if "lbcheck" not in name]
    best = min(peers, key=medians.get)
    print(
        f"\n{rule:36}{'median ms':>10}{'min ms':>9}{'x fused':>9}"
        f"{'bytes':>7}  best peer"
    )
    rows = []
    for name, seconds in times.items():
        to_fused = statistics.median(
            a / b for a, b in zip(seconds, times[kernel])
        )
        against = ""
        if "lbcheck" in name:
            against = f"x{medians[name] / medians[best]:.2f} of {best}"
        print(
            f"{name:36}{medians[name] * 1e3:10.1f}{min(seconds) * 1e3:9.1f}"
            f"{to_fused:9.2f}{sizes[name]:7.1f}  {against}",
            flush=True,
        )
        rows.append(
            {
                "way": name,
                "seconds": seconds,
                "ratio_to_fused": to_fused,
                "state_bytes_per_parameter": sizes[name],
            }
        )
    return rows


def main(argv):
    del argv
    common.need("official", "pip install '.[bert]'")
    common.need("optax", "pip install optax")
    shapes = bert_base_shapes() if _MODEL.value == "bert" else resnet50_shapes()
    if common.is_smoke():
        shapes = shapes[4:8]
    repeats = common.sized(_REPEATS.value, 2)
    print(f"{_MODEL.value}: {len(shapes)} tensors, {repeats} rounds")
    rows = {}
    for rule in common.sized(_RULES.value, ["LAMB"]):
        ways = tensorflow_ways(shapes, rule) | optax_ways(shapes, rule)
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
