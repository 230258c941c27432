"""Where every number of every flagfile comes from.

A number is printed by a paper (a table of `lbcheck.published`), follows from
printed ones by a formula below, is the released code's (`CODE`), or is ours
(`OURS`), which the file then says. A number without such an origin fails.
"""

import math
import pathlib
import re

import pytest

from lbcheck import published

ROOT = pathlib.Path(__file__).resolve().parents[2] / "flags"
FILES = {str(p.relative_to(ROOT))[:-6]: p for p in ROOT.rglob("*.flags")}

CODE = {
    # The published LARS pipeline; flax's LARS.
    "trust_coefficient": 0.001,
    # google-research/bert, optimization.py and run_squad.py; its README for
    # BERT-Large's batch and rate. Devlin et al. 2018.
    "global_clipnorm": 1.0,
    "weight_decay": 0.01,
    "epsilon": 1e-6,
    "squad": (
        "max_seq_length=384 doc_stride=128 max_query_length=64 "
        "n_best_size=20 max_answer_length=30 learning_rate=3e-5 "
        "warmup_proportion=0.1 train_epochs=2 batch_size=24"
    ),
    # Adam's defaults, flax's and TensorFlow's.
    "beta_1": 0.9,
    "beta_2": 0.999,
    # tensorflow/tpu, models/official/resnet/resnet_model.py.
    "resnet": (
        "resnet_version=1.5 batch_norm_momentum=0.9 batch_norm_epsilon=1e-5 "
        "final_gamma=0"
    ),
    "adam_epsilon": 1e-8,
    "initial_accumulator_value": 0.1,
    # Goyal et al. 2017, Sections 2.2, 2.3 and 5.1.
    "goyal": (
        "momentum=0.9 l2=1e-4 virtual_batch_size=32 initial_learning_rate=0.1"
    ),
    "boundary_factor": 0.1,
    # Dozat 2016, by You et al. 2019, Appendix D.
    "nadam": "beta_1=0.975 beta_2=0.999 epsilon=1e-8",
    # Devlin et al. 2018, Appendix A.2; google-research/bert's warm-up.
    "bert": (
        "learning_rate=1e-4 warmup_steps=10000 phase2_warmup_steps=10000 "
        "batch_size=512"
    ),
    # The baseline of DavidNet on DAWNBench, which You et al. 2019 name.
    "davidnet": (
        "momentum=0.9 l2=5e-4 learning_rate=0.4 batch_norm_momentum=0.9 "
        "batch_norm_epsilon=1e-5 virtual_batch_size=0"
    ),
}

_BERT = "seed=0 log_every=50 evaluate_every=500 checkpoint_every=250 "
_DIGITS = (
    "virtual_batch_size=64 batch_norm_momentum=0.9 momentum=0.9 "
    "warmup_steps=40 decay_power=2 train_epochs=30 batch_size=256 seed=0 "
    "log_every=10 evaluate_every=40 "
)
_PROSE = (
    "weight_decay=0.01 global_clipnorm=1 warmup_steps=4 train_steps=24 "
    "batch_size=4096 microbatch_size=256 seed=0 log_every=1 evaluate_every=24 "
)
_YOU = "microbatch_size=64 seed=0 log_every=50 evaluate_every=500 "
_CIFAR10 = "evaluation_batch_size=1000 seed=0 log_every=97 "
_MNIST = "warmup_steps=117 evaluation_batch_size=2000 seed=0 log_every=50 "
OURS = {
    r"quick": (
        "batch_size=512 steps=60 trials=12 challenge_trials=24 seeds=12 "
        "margin=0.02 test_fraction=0.5 num_workers=2"
    ),
    r"challengers_digits": (
        "batch_size=1024 steps=12 trials=20 challenge_trials=120 seeds=20 "
        "margin=0.02 num_workers=2"
    ),
    r"challengers_mnist": (
        "batch_size=1024 steps=58 trials=10 challenge_trials=24 seeds=12 "
        "margin=0.003 test_fraction=0.5 num_workers=2"
    ),
    r"challengers_bert": (
        "batch_size=1024 steps=200 trials=6 challenge_trials=12 seeds=6 "
        "margin=0.02 test_fraction=0.5 seed=1 num_workers=2"
    ),
    r"figure4_mini": (
        "trials=1 challenge_trials=0 seeds=10 target=0.97 margin=0.01 "
        "train_steps=100 batch_size=256 log_every=20 evaluate_every=20"
    ),
    r"figure1_mini|figure3_mini": (
        "batch_size=512 steps=60 trials=8 challenge_trials=0 seeds=5 "
        "margin=0.02"
    ),
    r"figure6_mini/base": (
        "train_vocab=1000 max_seq_length=32 max_predictions_per_seq=5 "
        "dupe_factor=10 num_selection_examples=256 weight_decay=0.01 "
        "global_clipnorm=1 seed=0"
    ),
    r"figure7_mini": (
        "learning_rate=0.07 warmup_steps=50 train_steps=256 batch_size=512 "
        "phase2_max_seq_length=64 phase2_max_predictions_per_seq=10 "
        "phase2_learning_rate=0.05 phase2_warmup_steps=28 "
        "phase2_train_steps=56 phase2_batch_size=256 log_every=8"
    ),
    r"fine_tuning_mini/base": (
        "max_seq_length=64 doc_stride=32 max_query_length=24 "
        "learning_rate=1e-3 train_epochs=20 batch_size=20 seed=0 log_every=20"
    ),
    r"fine_tuning_mini/[\d_]+": "num_seeds=6",
    r"grid_mini": (
        "batch_size=512 steps=60 trials=100 challenge_trials=0 seeds=1 "
        "margin=0.02"
    ),
    r"figure2/digits": (
        "batch_size=512 steps=60 trials=12 challenge_trials=0 seeds=10 "
        "margin=0.02"
    ),
    r"sweep_digits": (
        "batch_sizes=16,32,64,128,256,512,1024 target=0.95 examples=5000 "
        "least_steps=60 trials=6"
    ),
    r"reproductions/bert_bugs": (
        "batch_size=256 steps=60 trials=8 challenge_trials=16 seeds=10 "
        "margin=0.01 num_workers=2"
    ),
    r"reproductions/bert_bugs_long": (
        "batch_size=256 steps=150 trials=8 challenge_trials=16 seeds=10 "
        "margin=0.05 test_fraction=0.5 num_workers=2"
    ),
    r"reproductions/collapse_lenet": (
        "batch_size=1024 steps=116 margin=0.003 trials=8 "
        "challenge_trials=16 seeds=10 test_fraction=0.5 num_workers=2"
    ),
    r"reproductions/collapse_lenet_digits": (
        "batch_size=256 steps=100 margin=0.01 trials=8 "
        "challenge_trials=16 seeds=10 test_fraction=0.5 num_workers=2"
    ),
    r"reproductions/collapse_residual_0": (
        "batch_size=256 steps=100 margin=0.02 trials=8 "
        "challenge_trials=16 seeds=10 test_fraction=0.5 num_workers=2"
    ),
    r"reproductions/collapse_residual_0_mnist": (
        "batch_size=256 steps=60 margin=0.005 trials=8 "
        "challenge_trials=16 seeds=10 test_fraction=0.5 num_workers=2"
    ),
    r"reproductions/collapse_residual_1": (
        "batch_size=256 steps=100 margin=0.02 trials=8 "
        "challenge_trials=16 seeds=10 test_fraction=0.5 num_workers=2"
    ),
    r"reproductions/small_batch_16": (
        "batch_size=16 steps=2400 trials=6 challenge_trials=12 seeds=8 "
        "margin=0.05 test_fraction=0.5 num_workers=2"
    ),
    r"reproductions/small_batch_256": (
        "batch_size=256 steps=150 trials=6 challenge_trials=12 seeds=8 "
        "margin=0.05 test_fraction=0.5 num_workers=2"
    ),
    r"reproductions/squad_bias_correction": (
        "batch_size=20 steps=100 trials=8 challenge_trials=16 seeds=10 "
        "margin=0.02 num_workers=2"
    ),
    r"reproductions/table6": (
        "batch_size=512 steps=2344 trials=4 challenge_trials=0 seeds=3 "
        "margin=0.003"
    ),
    r"reproductions/table7": (
        "batch_size=1024 steps=1757 trials=4 challenge_trials=0 seeds=5 "
        "margin=0.0005 target=0.9933 num_workers=2"
    ),
    r"reproductions/table7_caffe": (
        "batch_size=1024 steps=1757 trials=1 challenge_trials=0 seeds=3 "
        "margin=0.0005 target=0.9933 num_workers=2"
    ),
    r"reproductions/table7_check": (
        "batch_size=1024 steps=174 trials=8 challenge_trials=16 seeds=10 "
        "margin=0.001 test_fraction=0.5 control_batch_size=128 "
        "num_workers=2"
    ),
    r"bert/compare": (
        "margin=0.01 trials=20 challenge_trials=20 seeds=10 num_workers=2"
    ),
    r"bert/mini": (
        "train_vocab=2000 max_seq_length=64 max_predictions_per_seq=10 "
        "dupe_factor=20 weight_decay=0.01 beta_2=0.98 epsilon=1e-6 "
        "global_clipnorm=1 learning_rate=2e-3 warmup_steps=80 "
        "train_steps=800 batch_size=128 phase2_max_seq_length=128 "
        "phase2_max_predictions_per_seq=20 phase2_learning_rate=1e-3 "
        "phase2_warmup_steps=20 phase2_train_steps=150 phase2_batch_size=64 "
        "seed=0 log_every=50 num_selection_examples=2000"
    ),
    r"bert/prose_adamw": _PROSE + "learning_rate=0.005",
    r"bert/prose_lamb": _PROSE + "learning_rate=0.06",
    r"bert/(nado|you).*": _BERT + "microbatch_size=32 phase2_microbatch_size=8",
    r"squad/mini": (
        "max_seq_length=128 doc_stride=64 max_query_length=32 "
        "learning_rate=1e-3 train_epochs=60 batch_size=20 seed=0 log_every=20"
    ),
    r"squad/large": "seed=0 log_every=100 checkpoint_every=500",
    r"resnet/(nesterov|lars|figure4|table4).*": (
        "microbatch_size=64 seed=0 log_every=16 evaluate_every=160"
    ),
    # At least a ghost batch.
    r"resnet/figure4_virtual_batch_256": "microbatch_size=256",
    r"resnet/digits_lars": _DIGITS
    + "final_gamma=0 label_smoothing=0.1 trust_coefficient=1e-3 "
    "weight_decay=1e-4 learning_rate=10 warmup_power=1",
    r"resnet/digits_nesterov": _DIGITS
    + "final_gamma=0.4138 label_smoothing=0.15 l2=1e-4 learning_rate=0.2 "
    "warmup_power=2",
    r"resnet/imagenet_sample": (
        "learning_rate=0.5 warmup_steps=2 train_steps=5 batch_size=128 "
        "microbatch_size=64 seed=0 log_every=1 checkpoint_every=5"
    ),
    r"resnet/you2019_.*": _YOU,
    r"resnet/you2019_(?!momentum).*": "virtual_batch_size=64",
    r"resnet/you2019_lamb_(512|1024|2048)": "evaluate_every=2500",
    # The best of Table 12.
    r"resnet/you2019_nadam_32768": "learning_rate=0.002",
    r"resnet/cifar10_davidnet": _CIFAR10,
    r"resnet/cifar10_adagrad": _CIFAR10 + "learning_rate=0.04",
    r"resnet/cifar10_adam": _CIFAR10 + "learning_rate=2e-3",
    r"resnet/cifar10_adamw": _CIFAR10 + "weight_decay=0.01 learning_rate=2e-3",
    r"resnet/cifar10_lamb": _CIFAR10 + "learning_rate=0.02",
    r"resnet/mnist_adagrad": _MNIST + "learning_rate=0.1",
    r"resnet/mnist_adam": _MNIST + "learning_rate=0.001",
    r"resnet/mnist_momentum": _MNIST + "momentum=0.9 l2=1e-3 learning_rate=0.1",
    r"resnet/mnist_adamw": _MNIST + "weight_decay=0.1 learning_rate=0.005",
    r"resnet/mnist_lamb": _MNIST + "learning_rate=0.01",
}
_SAYS_SO = (
    "Ours:",
    "No published result",
    "no published result",
    "rates are not tuned",
    "lbcheck compare",  # Its questions are asked by nobody else.
)


def text(name):
    """A flagfile with its comment in one line."""
    return re.sub(r"\n# ?", " ", FILES[name].read_text(encoding="utf-8"))


def numbers(name):
    """{flag: number} of every flag whose value is one, or a list of them."""
    found = {}
    for line in FILES[name].read_text(encoding="utf-8").splitlines():
        flag, _, value = line.removeprefix("--").partition("=")
        if line.startswith("--") and re.search(r"\d", value):
            parts = value.split(",")
            try:
                given = [float(part) for part in parts]
            except ValueError:
                continue  # names of files and models
            found[flag] = given if len(given) > 1 else given[0]
    return found


def parsed(flags):
    """{flag: number, or a list of them} of "flag=number flag=1,2 ..."."""
    found = {}
    for pair in flags.split():
        flag, _, value = pair.partition("=")
        given = [float(part) for part in value.split(",")]
        found[flag] = given if len(given) > 1 else given[0]
    return found


def ours(name):
    found = {}
    for pattern, flags in OURS.items():
        if re.fullmatch(pattern, name):
            found |= parsed(flags)
    return found


def settings(table, *runs):
    """{parameter: value} of what a paper's text gives for the runs."""
    return {
        row["parameter"]: row["value"]
        for row in published.load(f"{table}_settings")["rows"]
        if row["run"] in runs
    }


# --- Printed numbers and formulas -----------------------------------------


def table_5(column):
    rows = published.load("nado2021_table5")["rows"]
    found = {row["parameter"]: row[column] for row in rows}
    found["momentum"] = 1 - found.pop("one minus momentum")
    if column == "lars":
        found["weight_decay"] = found.pop("l2")
        found["trust_coefficient"] = CODE["trust_coefficient"]
    return found | settings("nado2021", "resnet")


def figure_6_mini(batch):
    """Table 1's rules: a rate with the root of the batch, a warm-up with it."""
    batch = int(batch)
    steps = 65_536 // batch
    rate = 0.05 * (batch / 256) ** 0.5
    return {
        "learning_rate": float(f"{rate:.4g}"),
        "warmup_steps": max(1, round(steps * batch / 32 / 320)),
        "train_steps": steps,
        "batch_size": batch,
        "log_every": steps // 32,
    }


def figure_4(change):
    """Configuration A with the one change, whose number is in the table."""
    rows = published.load("nado2021_figure4")["rows"]
    parameter, name = {
        "final_gamma_1": ("final_gamma", "BN init"),
        "l2_all": (None, "L2 variables"),
        "version_1_0": ("resnet_version", "ResNet version"),
        "virtual_batch_256": ("virtual_batch_size", "Virtual BN"),
    }[change]
    found = table_5("nesterov_a")
    if parameter:
        (row,) = (row for row in rows if row["name"] == name)
        found[parameter] = float(re.search(r"\d+\.?\d*$", row["change"])[0])
    return found


def figure_4_mini():
    """Configuration A, its rates by the batch, its warm-up by the length."""
    whole = table_5("nesterov_a")
    parts = {"batch_norm_momentum", "batch_norm_epsilon", "label_smoothing"}
    parts |= {"momentum", "l2", "warmup_power", "decay_power"}
    rates = {name for name in whole if name.endswith("learning_rate")}
    small = parsed(OURS["figure4_mini"])
    batch = small["batch_size"] / whole["batch_size"]
    length = small["train_steps"] / whole["train_steps"]
    found = {name: whole[name] for name in parts}
    found |= {name: whole[name] * batch for name in rates}
    return found | {"warmup_steps": round(whole["warmup_steps"] * length)}


def figure_4_arm(change):
    """What is different from arm to arm."""
    whole = figure_4(change) if change != "base" else table_5("nesterov_a")
    return {n: whole[n] for n in ("virtual_batch_size", "final_gamma")}


TABLE_4 = {
    "nesterov": ("Nesterov", "Nesterov"),
    "lars": ("LARS", "heavy-ball momentum"),
    "lars_lars": ("LARS", "LARS"),
    "adam_epsilon_1e-8": ("Adam, epsilon 1e-8",) * 2,
    "adam_epsilon_1e-6": ("Adam, epsilon 1e-6",) * 2,
    "lamb_lamb": ("LAMB", "LAMB"),
    "lamb_adam_epsilon_1e-8": ("LAMB", "Adam, epsilon 1e-8"),
    "lamb_adam_epsilon_1e-6": ("LAMB", "Adam, epsilon 1e-6"),
}


def table_4(row):
    """Tables 4 and 8; "all other hyperparameters" are the LARS pipeline's."""
    weights, others = TABLE_4[row]
    best = {
        r["hyperparameter"]: r["best"]
        for r in published.load("nado2021_table8")["rows"]
        if (r["weights"], r["biases_and_batch_norm"]) == (weights, others)
    }
    pipeline = table_5("lars")
    kept = ("batch_norm_momentum", "batch_norm_epsilon", "label_smoothing")
    found = {name: pipeline[name] for name in kept}
    found |= settings("nado2021", "resnet", "table4")
    found["learning_rate"] = best["eta"]
    decay = "l2" if weights == "Nesterov" else "weight_decay"
    found[decay] = best["lambda"]
    if weights in ("Nesterov", "LARS"):
        found |= settings("nado2021", f"table4 {weights.lower()}")
    else:
        found |= {name: CODE[name] for name in ("beta_1", "beta_2")}
        found |= settings("nado2021", "table4 lamb")  # its epsilon
    if weights == "LARS":
        found["trust_coefficient"] = CODE["trust_coefficient"]
    if weights.startswith("Adam"):
        found["epsilon"] = float(weights.split()[-1])
    elif others.startswith("Adam"):
        found |= {f"fallback_{n}": CODE[n] for n in ("beta_1", "beta_2")}
        found["fallback_epsilon"] = float(others.split()[-1])
        found["fallback_weight_decay"] = 0.0  # Appendix D.3
    return found


def sample_of_b():
    found = table_5("nesterov_b")
    return {
        name: found[name]
        for name in (
            "resnet_version",
            "virtual_batch_size",
            "batch_norm_momentum",
            "batch_norm_epsilon",
            "final_gamma",
            "label_smoothing",
            "momentum",
            "l2",
            "warmup_power",
            "decay_power",
        )
    }


def davidnet():
    found = settings("you2019", "cifar10") | parsed(CODE["davidnet"])
    # Warm-up of five epochs of 50,000 images, rounded down.
    return found | {"warmup_steps": 5 * 50_000 // found["batch_size"]}


def small(kind):
    """You et al.'s Tables 6 and 7: an optimizer that has no numbers of its
    own, but LAMB's decay and Adam's none."""
    decay = {"adam": 0.0, "lamb": settings("you2019", "lamb")["weight_decay"]}
    return {"weight_decay": decay[kind]} if kind in decay else {}


def cifar10(kind):
    """DavidNet as its author has it, but for the optimizer."""
    shared = davidnet()
    for of_momentum in ("momentum", "l2", "learning_rate"):
        del shared[of_momentum]
    return shared | small(kind)


def resnet_steps(batch, *epochs):
    """Updates of epochs of ImageNet, rounded up."""
    return [math.ceil(epoch * 1_281_167 / batch) for epoch in epochs]


def resnet_90(batch):
    """What all of You et al.'s runs of ResNet-50 share."""
    (steps,) = resnet_steps(batch, 90)
    if batch == 16_384:
        assert steps == settings("you2019", "resnet 16384")["steps"]
    found = parsed(CODE["resnet"])
    return found | {"batch_size": batch, "train_steps": steps}


def resnet_lamb(batch):
    """Table 5."""
    (row,) = (
        r
        for r in published.load("you2019_table5")["rows"]
        if r["batch_size"] == int(batch)
    )
    (warmup,) = resnet_steps(int(batch), row["warmup_epochs"])
    rate = 4e-2 * (int(batch) / 32_768) ** 0.5
    assert row["learning_rate"] == pytest.approx(rate, rel=1e-9)
    return (
        resnet_90(int(batch))
        | settings("you2019", "lamb")
        | {"learning_rate": row["learning_rate"], "warmup_steps": warmup}
    )


def goyal_steps(batch):
    warmup, *boundaries = resnet_steps(batch, 5, 30, 60, 80)
    return {
        "warmup_steps": warmup,
        "boundaries": boundaries,
        "boundary_factor": CODE["boundary_factor"],
    }


def resnet_momentum(batch):
    """Goyal et al.'s linear rule."""
    found = resnet_90(int(batch)) | parsed(CODE["goyal"])
    found["learning_rate"] = 0.1 * int(batch) / 256
    return found | goyal_steps(int(batch))


def figure_1(name):
    """N-LAMB and NN-LAMB with LAMB's schedule, Nadam with Goyal's."""
    nadam = parsed(CODE["nadam"])
    if name == "nadam":
        found = resnet_90(32_768) | goyal_steps(32_768)
        return found | nadam | {"weight_decay": 0.0}
    return resnet_lamb(32_768) | nadam


def points(table):
    """The points of one of Tables 9 to 25."""
    return [
        row
        for row in published.load("you2019_tables9_to_25")["rows"]
        if row["table"] == int(table)
    ]


def best_point(table):
    """The best of one of Tables 9 to 25."""
    row = max(points(table), key=lambda row: row["top1_accuracy"])
    found = resnet_90(16_384) | {"learning_rate": row["learning_rate"]}
    if row["optimizer"] == "adagrad":
        name = "initial_accumulator_value"
        found[name] = CODE[name]
    else:
        found |= {name: CODE[name] for name in ("beta_1", "beta_2")}
        found["epsilon"] = CODE["adam_epsilon"]
        found["weight_decay"] = row["weight_decay"] or 0.0
        found |= (
            {"l2": row["l2_regularization"]} if row["l2_regularization"] else {}
        )
    if row["schedule"] == "goyal":
        return found | goyal_steps(16_384)
    return found | {"warmup_steps": 0}


def table_7(run):
    """Nado et al.'s Table 7, its row for each phase."""
    rows = published.load("nado2021_table7")["rows"]
    first, second = {
        "32k": (rows[0], rows[1]),
        "65k_32k": (rows[2], rows[3]),
        "65k": (rows[2], rows[4]),
    }[run]
    found = {}
    for prefix, row in (("", first), ("phase2_", second)):
        for column in (
            "beta_1",
            "beta_2",
            "weight_decay",
            "learning_rate",
            "warmup_steps",
            "power",
            "batch_size",
        ):
            found[prefix + column] = row[column]
        found[f"{prefix}train_steps"] = row["steps"]
    found["epsilon"] = settings("nado2021", "bert")["epsilon"]
    return found | {"global_clipnorm": CODE["global_clipnorm"]}


def lamb_rate(batch):
    """You et al., Section 4.3: the square root rule, 5e-3 at 32,768."""
    return 5e-3 * (batch / 32_768) ** 0.5


def lamb_settings():
    found = settings("you2019", "lamb")
    return found | {"global_clipnorm": CODE["global_clipnorm"]}


def lamb(batch):
    """Table 4; phase 2 by linear-epoch warm-up from what is printed at 32k."""
    (row,) = (
        r
        for r in published.load("you2019_table4")["rows"]
        if r["batch_size"] == batch
    )
    (total,) = (
        r["steps"]
        for r in published.load("you2019_table1")["rows"]
        if (r["solver"], r["batch_size"]) == ("LAMB", batch)
    )
    at_32k = settings("you2019", "bert 32768")
    part = settings("you2019", "bert")["phase_1_part_of_epochs"]
    first = at_32k["phase_1_steps"] if batch == 32_768 else part * total
    second = total - first
    printed = published.load("nado2021_table7")["rows"][1]
    share = printed["warmup_steps"] / printed["steps"] * batch / 32_768
    assert row["learning_rate"] == pytest.approx(lamb_rate(batch), rel=1e-9)
    return lamb_settings() | {
        "learning_rate": row["learning_rate"],
        "warmup_steps": row["warmup_ratio"] * total,
        "train_steps": first,
        "batch_size": batch,
        "phase2_train_steps": second,
        "phase2_warmup_steps": int(share * second),
    }


def lamb_mixed():
    """Steps and warm-ups of Nado et al.'s Table 7: "identical to You et al."""
    first, second = published.load("nado2021_table7")["rows"][2:4]
    return lamb_settings() | {
        "learning_rate": lamb_rate(first["batch_size"]),
        "warmup_steps": first["warmup_steps"],
        "train_steps": first["steps"],
        "batch_size": first["batch_size"],
        "phase2_learning_rate": lamb_rate(second["batch_size"]),
        "phase2_warmup_steps": second["warmup_steps"],
        "phase2_train_steps": second["steps"],
        "phase2_batch_size": second["batch_size"],
    }


def table_8(percent, rate):
    """AdamW at 16,384; phase 2 warms up for the same part of its updates."""
    (row,) = (
        r
        for r in published.load("you2019_table8")["rows"]
        if r["warmup_ratio"] == int(percent) / 100
        and r["learning_rate"] == float(rate)
    )
    total = 31_250
    part = settings("you2019", "bert")["phase_1_part_of_epochs"]
    names = ("beta_1", "beta_2", "epsilon", "weight_decay", "global_clipnorm")
    return {name: CODE[name] for name in names} | {
        "learning_rate": row["learning_rate"],
        "warmup_steps": int(row["warmup_ratio"] * total),
        "train_steps": part * total,
        "batch_size": 16_384,
        "phase2_train_steps": total - part * total,
        "phase2_warmup_steps": int(
            row["warmup_ratio"] * (total - part * total)
        ),
    }


def baseline():
    """Devlin et al.'s BERT-Large, in Table 1."""
    row = published.load("you2019_table1")["rows"][0]
    assert row["solver"] == "Baseline"
    part = settings("you2019", "bert")["phase_1_part_of_epochs"]
    names = ("beta_1", "beta_2", "epsilon", "weight_decay", "global_clipnorm")
    found = {name: CODE[name] for name in names} | parsed(CODE["bert"])
    assert found["batch_size"] == row["batch_size"]
    return found | {
        "train_steps": part * row["steps"],
        "phase2_train_steps": (1 - part) * row["steps"],
    }


def squad_large():
    names = ("beta_1", "beta_2", "epsilon", "weight_decay", "global_clipnorm")
    found = parsed(CODE["squad"]) | settings("nado2021", "squad")
    return found | {name: CODE[name] for name in names}


ORIGINS = {
    r"resnet/(nesterov_a|nesterov_b|lars)": table_5,
    r"resnet/(nesterov|lars)_warmup_power_(.)": lambda name, power: (
        table_5({"nesterov": "nesterov_b"}.get(name, name))
        | {"warmup_power": float(power)}  # Table 2, left
    ),
    r"resnet/figure4_(.*)": figure_4,
    r"figure4_mini": figure_4_mini,
    r"figure4_mini/(.*)": figure_4_arm,
    r"figure6_mini/(\d+)": figure_6_mini,
    r"resnet/table4_(.*)": table_4,
    r"resnet/imagenet_sample": sample_of_b,
    r"resnet/cifar10_davidnet": davidnet,
    r"resnet/mnist_.*": lambda: settings("you2019", "mnist"),
    r"resnet/mnist_(.*)": small,
    r"resnet/cifar10_(?!davidnet)(.*)": cifar10,
    r"resnet/you2019_lamb_(\d+)": resnet_lamb,
    r"resnet/you2019_lamb_(?:l1|linf)_(\d+)": resnet_lamb,
    r"resnet/you2019_momentum_(\d+)": resnet_momentum,
    r"resnet/you2019_(n_lamb|nn_lamb|nadam)_32768": figure_1,
    r"resnet/you2019_table(\d+)": best_point,
    r"bert/nado2021_(.*)": table_7,
    r"bert/you2019_baseline": baseline,
    r"bert/you2019_lamb_(\d+)": lambda batch: lamb(int(batch)),
    r"bert/you2019_lamb_65536_32768": lamb_mixed,
    r"bert/you2019_adamw_warmup_(\d+)_rate_(.*)": table_8,
    r"squad/large": squad_large,
}
"""{pattern of files: function of its groups, the numbers with an origin}."""


def origin(name):
    found = {}
    for pattern, function in ORIGINS.items():
        if match := re.fullmatch(pattern, name):
            found |= function(*match.groups())
    return found


@pytest.mark.parametrize("name", sorted(FILES))
def test_every_number_has_an_origin(name):
    found = numbers(name)
    assert found
    wanted = origin(name)
    own = ours(name)
    assert not wanted.keys() & own.keys(), "two origins"
    everything = wanted | own
    assert found.keys() == everything.keys()
    for flag, value in found.items():
        assert value == pytest.approx(everything[flag], rel=1e-9), flag
    if own:
        assert any(words in text(name) for words in _SAYS_SO)


def test_every_origin_is_of_some_file():
    for pattern in (*ORIGINS, *OURS):
        assert any(re.fullmatch(pattern, name) for name in FILES), pattern


def test_a_changed_or_new_number_is_noticed(tmp_path, monkeypatch):
    name = "bert/you2019_lamb_4096"
    original = FILES[name].read_text()
    changed = tmp_path / "changed.flags"
    monkeypatch.setitem(FILES, name, changed)
    for content in (
        original.replace("phase2_warmup_steps=781", "phase2_warmup_steps=312"),
        original + "--power=2\n",
        original.replace("--epsilon=1e-06\n", ""),
    ):
        assert content != original
        changed.write_text(content)
        with pytest.raises(AssertionError):
            test_every_number_has_an_origin(name)
    changed.write_text(original)
    test_every_number_has_an_origin(name)


# --- What the comments say -------------------------------------------------


def test_results_in_the_comments_are_those_of_the_tables():
    for row in published.load("you2019_table5")["rows"]:
        found = text(f"resnet/you2019_lamb_{row['batch_size']}")
        assert f"top-1 {row['top1']:.4f}, top-5 {row['top5']:.4f}." in found
    third = {
        (row["optimizer"], schedule): row[column]
        for row in published.load("you2019_table3")["rows"]
        for schedule, column in (("default", "top1"), ("goyal", "top1_goyal"))
    }
    named = set()
    for table in range(9, 26):
        best = max(points(table), key=lambda row: row["top1_accuracy"])
        found = text(f"resnet/you2019_table{table}")
        assert f"top-1 {best['top1_accuracy']:.4f}." in found
        assert f"The best of {len(points(table))} points" in found
        key = best["optimizer"], best["schedule"]
        plus = "+" if best["schedule"] == "goyal" else ""
        if f"which is {key[0]}{plus} of Table 3" in found:
            named.add(key)
            assert best["top1_accuracy"] == pytest.approx(third[key], abs=6e-5)
    kinds = ("adagrad", "adam", "adamw")
    assert named == {(k, s) for k in kinds for s in ("default", "goyal")}
    assert "top-1 0.7520" in text("resnet/you2019_momentum_16384")
    for table, data in (
        ("you2019_table6", "cifar10"),
        ("you2019_table7", "mnist"),
    ):
        for row in published.load(table)["rows"]:
            name = f"resnet/{data}_{row['optimizer']}"
            name = name.replace("cifar10_momentum", "cifar10_davidnet")
            percent = f"{100 * row['test_accuracy']:.2f} %"
            assert f"Published: {percent}" in text(name), name
    row = published.load("you2019_table1")["rows"][0]
    assert f"F1 {row['f1']:.3f}" in text("bert/you2019_baseline")


def test_medians_in_the_comments_are_those_of_the_tables():
    hits = {
        row["configuration"]: row["test_accuracy"]
        for row in published.load("nado2021_target_hits")["rows"]
    }
    left = {
        row["warmup_power"]: row
        for row in published.load("nado2021_table2_left")["rows"]
    }
    expected = {
        "nesterov_a": hits["Nesterov A"],
        "nesterov_b": hits["Nesterov B"],
        "lars": hits["LARS"],
        "nesterov_warmup_power_1": left[1]["nesterov"],
        "lars_warmup_power_2": left[2]["lars"],
    }
    for row in published.load("nado2021_table4")["rows"]:
        pair = (row["weights"], row["biases_and_batch_norm"])
        (name,) = (n for n, wanted in TABLE_4.items() if wanted == pair)
        expected[f"table4_{name}"] = row["test_accuracy"]
    for name, median in expected.items():
        assert f"Published: median top-1 {median} %" in text(f"resnet/{name}")


def test_phase_2_of_lamb_says_what_its_warm_up_rests_on():
    for name in FILES:
        if "bert/you2019_lamb" in name:
            assert "Nado et al. 2021" in text(name) and "781" in text(name)
            inferred = "Inferred: phase 2 warms up" in text(name)
            assert inferred == ("32768" not in name)


def test_pure_rows_of_table_4_decay_every_variable():
    """Appendix D.3 spares biases and batch norm beside another optimizer."""
    for name, (weights, others) in TABLE_4.items():
        lines = FILES[f"resnet/table4_{name}"].read_text().splitlines()
        spared = "--exclude_from_weight_decay=" not in lines
        assert spared == (weights != others or weights == "Nesterov"), name
