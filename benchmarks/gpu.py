"""Everything that a GPU is for, on JAX and Keras alone, in under 12 minutes.

    LBCHECK_DATA=... python benchmarks/gpu.py
    python benchmarks/gpu.py --parts=davidnet --minutes=3
    python benchmarks/gpu.py --smoke

Needs `pip install '.[jax]' optax` with JAX's CUDA wheels, and no TensorFlow.
Without a GPU it says so; --smoke runs tiny shapes on any processor. Parts:

optimizers  A step of LAMB, LARS, AdamW and Muon on BERT-Large's tensors beside
            optax, Keras and what memory allows: the bytes of weights,
            gradients and slots that a step must read and write, by the
            bandwidth of a copy.
study       Trials a minute of `lbcheck compare` on digits, one after the other
            and batched.
davidnet    An epoch of CIFAR-10 through Keras `fit`, lbcheck's Nesterov beside
            Keras's SGD.

What is not begun when the minutes are over is said to be left out.
"""

import functools
import os
import pathlib
import subprocess
import sys
import tempfile
import time

os.environ["KERAS_BACKEND"] = "jax"

import common
from absl import flags

_PARTS = ("optimizers", "study", "davidnet")
_SELECTED = flags.DEFINE_list("parts", list(_PARTS), "What to measure.")
_MINUTES = flags.DEFINE_float("minutes", 11.0, "After them nothing begins.")
_ROUNDS = flags.DEFINE_integer("rounds", 7, "Timed rounds.", 1)
_AT_ONCE = flags.DEFINE_integer("batched_trials", 8, "As for compare.", 2)
_RULES = ("LAMB", "LARS", "AdamW", "Muon")
_STEPS = 20
"""Steps of a timed round."""
_BEGUN = time.monotonic()


def in_time(what):
    """Skips what would begin after the minutes."""
    if time.monotonic() > _BEGUN + 60 * _MINUTES.value:
        raise common.Skipped(
            f"{what} was left out, --minutes={_MINUTES.value:g} were over."
        )


def tell(*arguments, **more):
    """`common.tell`, with the device."""
    import jax

    device = jax.devices()[0].device_kind
    common.tell(*arguments, machine=f"{device}, {common.machine()}", **more)


def bert_shapes(layers=24, hidden=1024, words=30522):
    """BERT-Large's tensors, attention's as the matrices that they are."""
    layer = [(hidden, hidden), (hidden,)] * 4
    layer += [(hidden, 4 * hidden), (4 * hidden,)]
    layer += [(4 * hidden, hidden), (hidden,)] + [(hidden,)] * 4
    embeddings = [(words, hidden), (512, hidden), (2, hidden)]
    return embeddings + [(hidden,)] * 2 + layer * layers + [(hidden, hidden)]


def name_of(number, shape):
    """What patterns and Muon see of a tensor."""
    if number < 3:
        return "embedding"
    return "kernel" if len(shape) > 1 else "bias"


def tensors(shapes):
    """(weights, gradients), new arrays on the device."""
    import jax

    keys = jax.random.split(jax.random.key(0), len(shapes))
    weights = [0.02 * jax.random.normal(k, s) for k, s in zip(keys, shapes)]
    return weights, [0.1 * weight for weight in weights]


def stepping(step, weights, state, gradients):
    """(function that does `_STEPS` steps, bytes that one moves at least).

    The steps are a loop on the device: a call from the host with a thousand
    arrays takes longer than the step.
    """
    import jax

    held = [weights, state]

    def steps(weights, state, gradients):
        def body(_, held):
            # What depends on gradients alone is computed in every step.
            given = jax.lax.optimization_barrier((*held, gradients))
            return step(*given)

        return jax.lax.fori_loop(0, _STEPS, body, (weights, state))

    jitted = jax.jit(steps, donate_argnums=(0, 1))

    def run():
        held[:] = jitted(*held, gradients)
        jax.block_until_ready(held)

    # Weights and slots are read and written, gradients are read.
    slots = [a for a in jax.tree.leaves(state) if getattr(a, "ndim", 0)]
    moved = 2 * sum(a.nbytes for a in [*weights, *slots])
    return run, moved + sum(a.nbytes for a in gradients)


def keras_way(shapes, optimizer):
    """A step of a Keras 3 optimizer, stateless."""
    import keras

    weights, gradients = tensors(shapes)
    variables = []
    for number, weight in enumerate(weights):
        with keras.name_scope(f"layer_{number}"):
            name = name_of(number, weight.shape)
            variables.append(keras.Variable(weight, name=name))
    optimizer.build(variables)

    def step(weights, state, gradients):
        return optimizer.stateless_apply(state, gradients, weights)

    weights = [variable.value for variable in variables]
    state = [variable.value for variable in optimizer.variables]
    return stepping(step, weights, state, gradients)


def optax_way(shapes, transformation):
    """A step of an optax transformation."""
    import optax

    weights, gradients = tensors(shapes)

    def step(weights, state, gradients):
        updates, state = transformation.update(gradients, state, weights)
        return optax.apply_updates(weights, updates), state

    return stepping(step, weights, transformation.init(weights), gradients)


def makers(rule, shapes):
    """{name: function that makes (run, bytes) of an implementation}."""
    import keras
    import optax

    import lbcheck

    rate, decay = 1e-5, {"weight_decay": 0.01}
    mask = [len(shape) > 1 for shape in shapes]
    masked = decay | {"mask": mask}
    numbers = [
        optax.contrib.MuonDimensionNumbers()
        if name_of(i, shape) == "kernel"
        else None
        for i, shape in enumerate(shapes)
    ]
    ours, theirs = lbcheck.keras3, keras.optimizers
    settings = {"Muon": {"dialect": "keras"}, "LAMB": decay, "LARS": decay}
    optimizers = {
        "LAMB": lambda: theirs.Lamb(rate, **decay),
        "AdamW": lambda: theirs.AdamW(rate, **decay),
        "Muon": lambda: theirs.Muon(rate, **decay),
    }
    transformations = {
        "LAMB": lambda: optax.lamb(rate, **masked),
        "LARS": lambda: optax.lars(rate, 0.01, mask, trust_ratio_mask=mask),
        "AdamW": lambda: optax.adamw(rate, **masked),
        "Muon": lambda: optax.contrib.muon(
            rate,
            weight_decay=0.1,
            weight_decay_mask=mask,
            adam_weight_decay=0.1,
            muon_weight_dimension_numbers=numbers,
            consistent_rms=0.2,
        ),
    }
    own = functools.partial(getattr(ours, rule), rate, **settings.get(rule, {}))
    found = {"lbcheck": lambda: keras_way(shapes, own())}
    if rule in optimizers:
        found["keras"] = lambda: keras_way(shapes, optimizers[rule]())
    found["optax"] = lambda: optax_way(shapes, transformations[rule]())
    return found


def bandwidth():
    """Bytes a second that a copy reads and writes."""
    import jax

    size = common.sized(2**28, 2**16)
    held = [jax.numpy.ones(size)]
    copy = jax.jit(lambda x: x + 1.0)

    def run():
        for _ in range(10):
            held[0] = copy(held[0])
        held[0].block_until_ready()

    seconds = common.in_turn({"copy": run}, 5, warm_up=2)["copy"].wall
    found = 10 * 2 * 4 * size / min(seconds)
    tell("bandwidth of a copy", found / 1e9, "GB/s", better="more")
    return found


def optimizers():
    """Steps of every rule beside peers and the floor."""
    common.need("optax", "pip install optax")
    speed = bandwidth()
    shapes = bert_shapes(*common.sized((), (1, 16, 64)))
    for rule in _RULES:
        in_time(f"a step of {rule}")
        made = {name: make() for name, make in makers(rule, shapes).items()}
        runs = {name: run for name, (run, _) in made.items()}
        rounds = common.sized(_ROUNDS.value, 2)
        times = common.in_turn(runs, rounds, warm_up=2)
        steps = {
            name: [1e3 * seconds / _STEPS for seconds in found.wall]
            for name, found in times.items()
        }
        ours = steps.pop("lbcheck")
        least = 1e3 * made["lbcheck"][1] / speed
        steps["the memory floor"] = [least] * rounds
        for peer, found in steps.items():
            what = f"a step of {rule}, shapes of BERT-Large"
            tell(what, ours, "ms", found, peer)


def compared(folder, *arguments):
    """Trials a minute of a study by the command line."""
    trials, seeds = common.sized((40, 4), (2, 1))
    command = [
        *(sys.executable, "-m", "lbcheck", "compare"),
        "--workload=resnet.workloads:digits",
        "--keras=keras3",
        "--arms=nesterov",
        f"--trials={trials}",
        f"--seeds={seeds}",
        f"--steps={common.sized(100, 4)}",
        "--challenge_trials=0",
        "--num_workers=1",
        "--noprogress",
        f"--output_dir={folder}",
        *arguments,
    ]
    begun = time.perf_counter()
    done = subprocess.run(
        command,
        env=common.environment(),
        cwd=common.ROOT,
        capture_output=True,
        text=True,
    )
    seconds = time.perf_counter() - begun
    records = pathlib.Path(folder, "trials.jsonl")
    if done.returncode not in (0, 1) or not records.exists():
        raise common.Skipped(f"lbcheck compare: {done.stderr.strip()[-300:]}")
    return 60 * len(records.read_text().splitlines()) / seconds


def study():
    """Batched against sequential, each a whole command."""
    at_once = f"--batched_trials={common.sized(_AT_ONCE.value, 2)}"
    found = {"batched": [], "sequential": []}
    for number in range(common.sized(2, 1)):
        for name, extra in (("batched", [at_once]), ("sequential", [])):
            in_time(f"the {name} study of round {number}")
            with tempfile.TemporaryDirectory() as home:
                found[name].append(compared(f"{home}/study", *extra))
    tell(
        f"a study of digits on JAX, {at_once}",
        found["batched"],
        "trials a minute",
        found["sequential"],
        "one trial after the other",
        better="more",
    )


def program(flagfile, *arguments):
    """(workload, source, updates) of a flagfile of resnet.train on Keras 3."""
    import keras

    import lbcheck
    from lbcheck.settings import schedule
    from lbcheck.settings import training
    from resnet import settings
    from resnet import train

    path = common.ROOT / "flags/resnet" / f"{flagfile}.flags"
    train.FLAGS(["resnet.train", f"--flagfile={path}", *arguments])
    source = settings.load(train.FLAGS)
    options = training.options(train.FLAGS, source.num_train)
    rate = schedule.make(train.FLAGS, options.total_steps)
    made = train.build(source, rate, keras, lbcheck.keras3)
    return made, source, options.total_steps


def cifar10():
    """Arguments that name the data."""
    common.data("cifar10")
    return [f"--data_dir={os.environ['LBCHECK_DATA']}"]


def davidnet():
    """Seconds an epoch, ours and Keras's, on arrays without augmentation."""
    import keras

    ways, batch = {}, common.sized(512, 16)
    cifar10()
    for name in ("lbcheck", "keras"):
        made, source, _ = program("cifar10_davidnet", "--augment=none")
        optimizer = made.optimizer
        if name == "keras":
            optimizer = keras.optimizers.SGD(0.4, momentum=0.9, nesterov=True)
        made.model.compile(
            optimizer, made.loss, weighted_metrics=made.weighted_metrics
        )
        images = batch * common.sized(source.num_train // batch, 1)
        x, y = next(source.train(images))
        ways[name] = functools.partial(
            made.model.fit, x, y, batch_size=batch, verbose=0
        )
    rounds = common.sized(5, 1)
    times = common.in_turn(ways, rounds, warm_up=1)
    tell(
        f"an epoch of DavidNet on CIFAR-10, batch {batch}, Nesterov",
        times["lbcheck"].wall,
        "s",
        times["keras"].wall,
        "keras.optimizers.SGD",
    )


def main(argv):
    """Runs the parts asked for; says what was left out."""
    del argv
    common.need("jax", "pip install '.[jax]' with JAX's CUDA wheels")
    import jax

    if jax.default_backend() != "gpu" and not common.is_smoke():
        raise common.Skipped(
            f"JAX finds no GPU here, but {jax.devices()}; benchmarks/gpu.py "
            "runs by the same command where one is lent."
        )
    try:
        common.run_parts(
            _SELECTED.value, {name: globals()[name] for name in _PARTS}
        )
    finally:
        if "tensorflow" in sys.modules:
            raise RuntimeError("TensorFlow was imported.")


if __name__ == "__main__":
    common.start(main)
