"""One optimizer update, lbcheck against its peers, all in one process.

    python benchmarks/optimizer_step.py --model=bert
    python benchmarks/optimizer_step.py --model=resnet

The rules come one after another, to fit in memory. Every way of a rule is
warmed up, then all are timed in turn, round after round, so that a machine
that slows down slows all of them. Printed: the median and minimum
in milliseconds, and the median ratio to TensorFlow's fused Adam kernel
(ResourceApplyAdam, about the memory limit) and, for lbcheck's rows, to the
fastest peer of the same rule. All ways of a
rule share weights and gradients.
"""

import gc
import json
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from absl import app
from absl import flags

_MODEL = flags.DEFINE_enum("model", "bert", ["bert", "resnet"], "Shapes.")
_REPEATS = flags.DEFINE_integer("repeats", 11, "Timed rounds.", 1)
_RULES = flags.DEFINE_list("rules", ["AdamW", "LAMB", "LARS"], "Rules.")
_OUTPUT = flags.DEFINE_string("output", None, "Write the rows as JSON here.")


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
    names = [
        f"layer_{i}/{'kernel' if len(s) > 1 and s[-2:] != (12, 64) else 'bias'}"
        for i, s in enumerate(shapes)
    ]
    variables = [
        tf.Variable(value, name=name) for value, name in zip(values, names)
    ]
    gradients = [tf.constant(0.1 * value) for value in values]
    excluded = ["bias"]

    def graph(apply, jit):
        @tf.function(jit_compile=jit)
        def update():
            apply()

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
    makers = {
        "lbcheck AdamW (Keras 3)": lambda: lbcheck.keras3.AdamW(rate),
        "lbcheck LAMB (Keras 3)": lambda: lbcheck.keras3.LAMB(rate),
        "lbcheck LAMB (tf_keras)": lambda: lbcheck.tf_keras.LAMB(rate),
        "lbcheck LAMB diagnostics": lambda: lbcheck.keras3.LAMB(
            rate, diagnostics_every=100
        ),
        "lbcheck LARS (Keras 3)": lambda: lbcheck.keras3.LARS(
            rate, weight_decay=0.01
        ),
        "keras AdamW": lambda: keras.optimizers.AdamW(rate),
        "tf_keras AdamW": lambda: tf_keras.optimizers.AdamW(rate),
        "keras LAMB": lambda: keras.optimizers.Lamb(rate, weight_decay=0.01),
        "garden LAMB": lambda: garden_lamb.LAMB(
            rate, weight_decay_rate=0.01, exclude_from_weight_decay=excluded
        ),
        "garden LARS": lambda: garden_lars.LARS(
            rate, weight_decay_rate=0.01, exclude_from_weight_decay=excluded
        ),
    }
    ways = {"fused Adam kernel": graph(fused, False)}
    for name, make in makers.items():
        if rule in name:
            ways |= both(name, make())
    return ways


def optax_ways(shapes, rule):
    """{name: function} of optax, jitted with donated state."""
    import jax
    import numpy as np
    import optax

    generator = np.random.default_rng(0)
    values = [generator.normal(0, 0.02, s).astype("float32") for s in shapes]
    gradients = [jax.numpy.asarray(0.1 * value) for value in values]
    mask = [len(s) > 1 for s in shapes]
    transformation = {
        "AdamW": optax.adamw(1e-5, mask=mask, weight_decay=0.01),
        "LAMB": optax.lamb(1e-5, mask=mask, weight_decay=0.01),
        "LARS": optax.lars(1e-5, 0.01, mask, trust_ratio_mask=mask),
    }[rule]

    def update(parameters, state, gradients):
        updates, state = transformation.update(gradients, state, parameters)
        return optax.apply_updates(parameters, updates), state

    jitted = jax.jit(update, donate_argnums=(0, 1))
    parameters = [jax.numpy.array(value) for value in values]
    holder = [parameters, transformation.init(parameters)]

    def run():
        holder[:] = jitted(*holder, gradients)
        jax.block_until_ready(holder[0])

    return {f"optax {rule} jit": run}


def measure(ways, repeats):
    """{name: list of seconds}, the ways in turn."""
    times = {name: [] for name in ways}
    for run in ways.values():
        run()
        run()
    gc.disable()
    for _ in range(repeats):
        for name, run in ways.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    gc.enable()
    return times


def report(rule, times):
    """Prints the rows of one rule and returns them."""
    medians = {name: statistics.median(t) for name, t in times.items()}
    kernel, *others = times
    peers = [name for name in others if "lbcheck" not in name]
    best = min(peers, key=medians.get)
    print(f"\n{rule:34}{'median ms':>10}{'min ms':>9}{'x fused':>9}  best peer")
    rows = []
    for name, seconds in times.items():
        to_fused = statistics.median(
            a / b for a, b in zip(seconds, times[kernel])
        )
        against = ""
        if "lbcheck" in name:
            against = f"x{medians[name] / medians[best]:.2f} of {best}"
        print(
            f"{name:34}{medians[name] * 1e3:10.1f}{min(seconds) * 1e3:9.1f}"
            f"{to_fused:9.2f}  {against}",
            flush=True,
        )
        rows.append(
            {"way": name, "seconds": seconds, "ratio_to_fused": to_fused}
        )
    return rows


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    shapes = bert_base_shapes() if _MODEL.value == "bert" else resnet50_shapes()
    print(f"{_MODEL.value}: {len(shapes)} tensors, {_REPEATS.value} rounds")
    rows = {}
    for rule in _RULES.value:
        ways = tensorflow_ways(shapes, rule) | optax_ways(shapes, rule)
        rows[rule] = report(rule, measure(ways, _REPEATS.value))
        del ways
        gc.collect()
    if _OUTPUT.value:
        with open(_OUTPUT.value, "w", encoding="utf-8") as file:
            json.dump(rows, file, indent=1)


if __name__ == "__main__":
    app.run(main)
