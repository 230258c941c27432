"""The image program and its flagfiles against the published numbers."""

import json
import math
import os
import pathlib
import subprocess
import sys

import pytest
from absl import flags

from lbcheck.search.space import Space
from lbcheck.settings import command_line
from lbcheck.settings import optimizer
from lbcheck.settings import schedule
from lbcheck.settings import training
from resnet import settings
from resnet import train

ROOT = pathlib.Path(__file__).parents[2]
FOLDER = ROOT / "flags" / "resnet"
FILES = sorted(path.stem for path in FOLDER.glob("*.flags"))
IMAGENET = 1_281_167


def parsed(*arguments):
    values = flags.FlagValues()
    settings.define(values)
    command_line.parse(values, ["train", *arguments])
    return values


def of_file(name, *arguments):
    return parsed(f"--flagfile={FOLDER / name}.flags", *arguments)


# --- the published rows ---------------------------------------------------

# Nado et al. 2021, Table 5, column by column, in the paper's symbols.
TABLE_5 = {
    "nesterov_a": dict(
        warmup=638,
        p_warmup=2.497,
        p_decay=1.955,
        rho=0.94,
        eps=4e-6,
        init=0.12,
        peak=7.05,
        final=6e-6,
        one_minus_mu=0.02397,
        l2=5.8e-5,
        tau=0.15,
        gamma_0=0.4138,
    ),
    "nesterov_b": dict(
        warmup=706,
        p_warmup=2.0,
        p_decay=2.0,
        rho=0.9,
        eps=1e-5,
        init=0.0,
        peak=7.05,
        final=6e-6,
        one_minus_mu=0.02397,
        l2=5.8e-5,
        tau=0.15,
        gamma_0=0.4138,
    ),
    "lars": dict(
        warmup=706,
        p_warmup=1.0,
        p_decay=2.0,
        rho=0.9,
        eps=1e-5,
        init=0.0,
        peak=29.0,
        final=1e-4,
        one_minus_mu=0.071,
        decay=1e-4,
        tau=0.10,
        gamma_0=0.0,
    ),
}
A = TABLE_5["nesterov_a"]
ROWS_2512 = TABLE_5 | {
    # Table 2, left.
    "nesterov_warmup_power_1": TABLE_5["nesterov_b"] | dict(p_warmup=1.0),
    "lars_warmup_power_2": TABLE_5["lars"] | dict(p_warmup=2.0),
    # Figure 4.
    "figure4_version_1_0": A | dict(changed=dict(version="1.0")),
    "figure4_final_gamma_1": A | dict(gamma_0=1.0),
    "figure4_virtual_batch_256": A | dict(changed=dict(virtual_batch_size=256)),
    "figure4_l2_all": A | dict(changed=dict(l2_on="all")),
}

_ADAM = dict(beta_1=0.9, beta_2=0.999, bias_correction=True)
_LARS = dict(momentum=0.929, trust_coefficient=0.001, epsilon=0.0)
_DEFAULT = [r"(^|/)(bias|gamma|beta|scale)$", "rank<2"]
PIPELINE = _LARS | dict(
    exclude_from_weight_decay=_DEFAULT,
    exclude_from_layer_adaptation="same",
    fallback=None,  # the dialect's own: heavy-ball momentum, no decay
    dialect="paper",
    nesterov=False,
)


def _fallback(epsilon):
    return _ADAM | dict(epsilon=epsilon, weight_decay=0.0, dialect="paper")


# Tables 4 and 8: eta, class, its config, L2 in the loss.
ROWS_6000 = {
    "table4_nesterov": (
        1.173,
        "Nesterov",
        dict(momentum=0.98, nesterov=True, weight_decay=0.0),
        3.026e-4,
    ),
    "table4_lars": (
        14.49,
        "LARS",
        PIPELINE | dict(weight_decay=1.708e-4),
        0.0,
    ),
    "table4_lars_lars": (
        14.18,
        "LARS",
        PIPELINE
        | dict(
            weight_decay=5.278e-5,
            exclude_from_weight_decay=[],
            exclude_from_layer_adaptation=[],
        ),
        0.0,
    ),
    "table4_adam_epsilon_1e-8": (
        0.004596,
        "AdamW",
        _ADAM
        | dict(epsilon=1e-8, weight_decay=0.6182, exclude_from_weight_decay=[]),
        0.0,
    ),
    "table4_adam_epsilon_1e-6": (
        3.332e-3,
        "AdamW",
        _ADAM
        | dict(epsilon=1e-6, weight_decay=1.055, exclude_from_weight_decay=[]),
        0.0,
    ),
    "table4_lamb_lamb": (
        0.01134,
        "LAMB",
        _ADAM
        | dict(
            epsilon=1e-6,
            weight_decay=0.02657,
            exclude_from_weight_decay=[],
            dialect="flax",
            fallback=None,
        ),
        0.0,
    ),
    "table4_lamb_adam_epsilon_1e-8": (
        0.02569,
        "LAMB",
        _ADAM
        | dict(
            epsilon=1e-6,
            weight_decay=2.5,
            exclude_from_weight_decay=_DEFAULT,
            fallback=_fallback(1e-8),
        ),
        0.0,
    ),
    "table4_lamb_adam_epsilon_1e-6": (
        0.03378,
        "LAMB",
        _ADAM
        | dict(
            epsilon=1e-6,
            weight_decay=4.197,
            exclude_from_weight_decay=_DEFAULT,
            fallback=_fallback(1e-6),
        ),
        0.0,
    ),
}


def piecewise(t, total, init, peak, final, warmup, p_warmup, p_decay):
    """Section 2.1.4."""
    if t <= warmup:
        return init + (peak - init) * math.pow(t / warmup, p_warmup)
    left = (total - t) / (total - warmup)
    return final + (peak - final) * math.pow(left, p_decay)


def made(values):
    """The optimizer's config, with its fallback's."""
    from lbcheck import tf_keras

    result = optimizer.make(values, tf_keras, 1.0)
    config = result.get_config()
    if config.get("fallback"):
        assert config["fallback"]["class_name"] == "AdamW"
        config["fallback"] = config["fallback"]["config"]
    return type(result).__name__, config


def assert_holds(config, expected):
    for name, value in expected.items():
        if isinstance(value, dict):
            assert_holds(config[name], value)
        else:
            assert config[name] == value, name


# What every row of Section 2 and of Section 4 has.
COMMON = dict(
    data="imagenet",
    preprocessing="paper",
    model="resnet50",
    batch_size=32768,
    seed=0,
)
MODEL = dict(
    version="1.5",
    padding="paper",
    virtual_batch_size=64,
    running_variance="within",
)


@pytest.mark.parametrize("name", ROWS_2512)
def test_rows_of_2512_steps(name):
    row, values = ROWS_2512[name], of_file(name)
    settings.check(values)
    assert_holds(command_line.values(values), COMMON)
    assert values.label_smoothing == row["tau"]
    l2 = dict(l2=row["l2"], l2_on="kernels") if "l2" in row else dict(l2=0.0)
    assert settings.model_settings(values) == MODEL | l2 | dict(
        batch_norm_momentum=row["rho"],
        batch_norm_epsilon=row["eps"],
        final_gamma=row["gamma_0"],
    ) | row.get("changed", {})
    total = training.options(values, IMAGENET).total_steps
    assert total == 2512
    rate = schedule.make(values, total)
    keys = ("init", "peak", "final", "warmup", "p_warmup", "p_decay")
    for t in (0, 1, row["warmup"], row["warmup"] + 1, 1500, total - 1):
        expected = piecewise(t, total, *(row[key] for key in keys))
        assert rate(t) == pytest.approx(expected, rel=1e-12, abs=1e-18), t
    kind, config = made(values)
    assert config["momentum"] == pytest.approx(1 - row["one_minus_mu"])
    if "decay" in row:
        assert kind == "LARS"
        expected = PIPELINE | dict(momentum=config["momentum"])
        assert_holds(config, expected | dict(weight_decay=row["decay"]))
    else:
        assert kind == "Nesterov"
        assert_holds(config, dict(nesterov=True, weight_decay=0.0, l2=0.0))


@pytest.mark.parametrize("name", ROWS_6000)
def test_rows_of_6000_steps(name):
    eta, kind, expected, l2 = ROWS_6000[name]
    values = of_file(name)
    settings.check(values)
    assert_holds(
        command_line.values(values), COMMON | dict(label_smoothing=0.10)
    )
    given = settings.model_settings(values)
    assert given.pop("l2") == l2
    assert given.pop("l2_on", "kernels") == "kernels"
    assert given == MODEL | dict(
        batch_norm_momentum=0.9, batch_norm_epsilon=1e-5, final_gamma=1.0
    )
    total = training.options(values, IMAGENET).total_steps
    assert total == 6000
    rate = schedule.make(values, total)
    for t in (0, 1, 3000, 5999):
        half = eta * (1 + math.cos(math.pi * t / 6000)) / 2
        assert rate(t) == pytest.approx(half, rel=1e-7)
    made_kind, config = made(values)
    assert made_kind == kind
    assert_holds(config, expected)


def test_cifar10_is_the_authors_update():
    """One update against his: summed loss, rate / 512, decay * 512."""
    values = of_file("cifar10_davidnet")
    settings.check(values)
    options = training.options(values, 50_000)
    assert (options.batch_size, options.total_steps) == (512, 2343)
    rate = schedule.make(values, options.total_steps)
    for t in (0, 100, 488, 489, 2342):
        epoch = t * 512 / 50_000
        theirs = min(0.4 * epoch / 5, 0.4 * (24 - epoch) / 19)
        # His ends at 24 epochs, ours at the 2,343 whole updates of them.
        assert rate(t) == pytest.approx(theirs, abs=4e-4)
    given = settings.model_settings(values)
    assert given["l2_on"] == "all" and given["virtual_batch_size"] is None
    kind, config = made(values)
    assert kind == "Nesterov"
    weight, gradient, eta = 0.7, 0.3, 0.4
    summed = 512 * gradient + 5e-4 * 512 * weight
    theirs = weight - eta / 512 * (summed + 0.9 * summed)
    mean = gradient + given["l2"] * weight
    ours = weight - eta * (mean + config["momentum"] * mean)
    assert ours == pytest.approx(theirs, rel=1e-12)


DAVIDNETS = {
    "cifar10_adagrad": "Adagrad",
    "cifar10_adam": "AdamW",
    "cifar10_adamw": "AdamW",
    "cifar10_lamb": "LAMB",
}


@pytest.mark.parametrize("name", DAVIDNETS)
def test_table_6_of_you_et_al(name):
    """The momentum row but for the optimizer; the rate was tried."""
    values, theirs = of_file(name), of_file("cifar10_davidnet")
    settings.check(values)
    differing = {
        key
        for key, value in command_line.values(values).items()
        if value != command_line.values(theirs).get(key)
    }
    assert differing <= {
        *("optimizer", "weight_decay", "learning_rate", "output_dir"),
        *("l2", "l2_on", "momentum"),
    }
    assert training.options(values, 50_000).total_steps == 2343
    kind, config = made(values)
    assert kind == DAVIDNETS[name]
    assert config.get("l2", 0.0) == values.l2 == 0
    decays = name in ("cifar10_adamw", "cifar10_lamb")
    assert bool(config["weight_decay"]) == decays
    end = "_adamw" if name.endswith("adamw") else ""
    space = Space.load(ROOT / f"flags/spaces/you2019_table6{end}.json")
    for parameter in space.searched:
        tried = space.parameters[parameter].choices
        assert values[parameter].value in tried


YOU_90 = {
    **{f"you2019_lamb_{512 * 2**i}": "LAMB" for i in range(7)},
    "you2019_lamb_l1_32768": "LAMB",
    "you2019_lamb_linf_32768": "LAMB",
    "you2019_n_lamb_32768": "LAMB",
    "you2019_nn_lamb_32768": "LAMB",
    "you2019_nadam_32768": "NAdamW",
    "you2019_momentum_16384": "Nesterov",
    "you2019_momentum_32768": "Nesterov",
    "you2019_table9": "Adagrad",
    "you2019_table10": "Adagrad",
    **{f"you2019_table{i}": "AdamW" for i in range(11, 26)},
}


@pytest.mark.parametrize("name", YOU_90)
def test_90_epochs_of_you_et_al(name):
    values = of_file(name)
    settings.check(values)
    batch = values.batch_size
    if "table" in name:
        assert batch == 16_384
    else:
        assert name.endswith(f"_{batch}")
    total = training.options(values, IMAGENET).total_steps
    # As many updates as see every image 90 times, and not one more.
    assert (total - 1) * batch < 90 * IMAGENET <= total * batch
    rate = schedule.make(values, total)
    peak = values.learning_rate
    if values.schedule == "goyal":
        for epoch, part in ((4.5, 0.9), (6, 1), (29, 1), (31, 0.1)):
            expected = part * peak
            if part == 0.9:
                expected += 0.1 * (values.initial_learning_rate or 0)
            step = round(epoch * IMAGENET / batch)
            assert rate(step) == pytest.approx(expected, rel=0.01), epoch
        for epoch, part in ((59, 0.1), (61, 0.01), (79, 0.01), (81, 0.001)):
            step = round(epoch * IMAGENET / batch)
            assert rate(step) == pytest.approx(part * peak)
    else:
        warm = 20 * batch / 32_768 if "lamb" in name else 0
        for epoch in (warm / 2, warm, 45, 89):
            expected = peak * (90 - epoch) / (90 - warm)
            if epoch < warm:
                expected = peak / 2
            step = round(epoch * IMAGENET / batch)
            assert rate(step) == pytest.approx(expected, rel=0.02), epoch
    kind, config = made(values)
    assert kind == YOU_90[name]
    if kind == "LAMB":
        form = {"n": "first", "nn": "both"}.get(name.split("_")[1])
        assert config["nesterov"] == form
        norm = name.split("_")[2]
        assert config["norm"] == (norm if norm in ("l1", "linf") else "l2")
    if kind == "AdamW":
        times_rate = not config["weight_decay"]
        assert config["decay_times_rate"] == times_rate


@pytest.mark.parametrize(
    "name, kind",
    [
        ("momentum", "Momentum"),
        ("adagrad", "Adagrad"),
        ("adam", "AdamW"),
        ("adamw", "AdamW"),
        ("lamb", "LAMB"),
    ],
)
def test_mnist_rows(name, kind):
    values = of_file(f"mnist_{name}")
    settings.check(values)
    options = training.options(values, 60_000)
    assert (options.batch_size, options.total_steps) == (1024, 1757)
    assert values.model == "lenet5" and made(values)[0] == kind


def test_every_file_is_tested_and_has_its_own_folder():
    others = {"cifar10_davidnet", "imagenet_sample", "digits_lars"}
    others |= {"digits_nesterov", "mnist_adamw", "mnist_lamb"}
    others |= {"mnist_momentum", "mnist_adagrad", "mnist_adam"}
    others |= set(DAVIDNETS) | set(YOU_90)
    assert set(FILES) == set(ROWS_2512) | set(ROWS_6000) | others
    for name in FILES:
        assert of_file(name).output_dir == f"records/{name}"


def test_every_file_names_its_source_and_result():
    for name in FILES:
        lines = (FOLDER / f"{name}.flags").read_text().splitlines()
        comment = " ".join(x for x in lines if x.startswith("#"))
        assert "ublished" in comment, name


# --- the program ----------------------------------------------------------

RUN = (
    "--optimizer=lars --weight_decay=1e-4 --schedule=warmup_polynomial "
    "--learning_rate=5 --warmup_steps=4 --batch_size=256 --train_steps=12 "
    "--microbatch_size=64 --log_every=4 --output_dir=record --noprogress"
).split()

NEEDS_DATA = pytest.mark.skipif(
    "LBCHECK_DATA" not in os.environ,
    reason="needs MNIST, CIFAR-10 and ImageNet files: LBCHECK_DATA is unset",
)
# ResNet-50 takes seconds to build; the others are left to `make test-all`.
QUICK = {"digits_nesterov", "digits_lars", "mnist_lamb"}


@pytest.fixture
def program_run(monkeypatch, tmp_path, capsys):
    """(arguments) -> (exit code, output) of the program, in this process."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
        for name in train.FLAGS:
            train.FLAGS[name].unparse()
        with pytest.raises(SystemExit) as ended:
            command_line.start(train.main, train.FLAGS, train.__doc__)
        printed = capsys.readouterr()
        return ended.value.code, printed.out + printed.err

    return run


def _case(name):
    marks = [] if name.startswith("digits") else [NEEDS_DATA]
    marks += [] if name in QUICK else [pytest.mark.slow]
    return pytest.param(name, marks=marks)


def _case_without_data(name):
    slow = [] if name in QUICK | {"cifar10_davidnet"} else [pytest.mark.slow]
    return pytest.param(name, marks=slow)


@pytest.mark.parametrize("name", [_case(name) for name in FILES])
def test_dry_run_of_every_file(name, program_run, tmp_path):
    code, text = program_run(f"--flagfile={FOLDER / name}.flags", "--dry_run")
    assert code == 0, text
    for line in (FOLDER / f"{name}.flags").read_text().splitlines():
        flag = line.partition("=")[0]
        if flag.startswith("--"):
            assert f"  {flag}" in text
    assert not list(tmp_path.iterdir()), "a dry run writes nothing"


@NEEDS_DATA
def test_a_dry_run_says_what_resnet50_would_do(program_run):
    code, text = program_run(f"--flagfile={FOLDER}/lars.flags", "--dry_run")
    assert code == 0, text
    # 25,557,032 parameters, 2 x 26,560 moving statistics, in float32.
    for line in (
        "update 0: 0\n",
        "update 706: 29 (warm-up ends)",
        "update 1256: 14.0263\n",
        "update 2511: 0.000108891\n",
        "LARS(weight_decay=0.0001, momentum=0.929",
        "161 variables: 54 decayed by the rule, 54 with a trust ratio, 0 under",
        "107 variables by Momentum(weight_decay=0.0, momentum=0.929",
        "replica_batch: 32768",
        "microbatches: 512",
        "parameters: 97.7 MiB",
        "optimizer state: 97.5 MiB",
        "accumulators: 97.5 MiB",
    ):
        assert line in text, line


def test_the_memory_estimate_counts_by_hand(program_run):
    code, text = program_run(
        *"--data=digits --model=lenet_wide --optimizer=lamb --schedule=cosine "
        "--learning_rate=0.1 --batch_size=1024 --microbatch_size=256 "
        "--train_steps=9 --output_dir=x --dry_run".split()
    )
    assert code == 0, text
    layers = [8 * 8 * 32] * 2 + [4 * 4 * 32] + [4 * 4 * 64] * 2
    layers += [2 * 2 * 64] * 2 + [1024, 10]
    weights = 26 * 32 + 25 * 32 * 64 + 64 + 257 * 1024 + 1025 * 10
    for line, size in {
        "parameters": weights,
        "optimizer state": 2 * weights,
        "gradients": weights,
        "accumulators": weights,
        "activations of 256 examples": 256 * sum(layers),
    }.items():
        assert f"  {line}: {size * 4 / 2**20:.1f} MiB" in text, text


def test_a_row_without_data_is_refused(program_run, tmp_path):
    code, text = program_run(
        f"--flagfile={FOLDER}/lars.flags", "--data_dir=nowhere"
    )
    assert code == 2
    assert "nowhere" in text and "Traceback" not in text
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", [_case_without_data(n) for n in FILES])
def test_dry_run_of_every_file_without_data(
    name, program_run, tmp_path, monkeypatch
):
    monkeypatch.setenv("LBCHECK_DATA", str(tmp_path / "nowhere"))
    code, text = program_run(f"--flagfile={FOLDER / name}.flags", "--dry_run")
    assert code == 0, text
    values = of_file(name)
    for line in (FOLDER / f"{name}.flags").read_text().splitlines():
        flag = line.partition("=")[0]
        if flag.startswith("--"):
            assert f"  {flag}" in text
    if values.data != "digits":
        assert "missing: " in text and f"{tmp_path}/nowhere" in text
    number = {"mnist": 60_000, "cifar10": 50_000, "imagenet": IMAGENET}.get(
        values.data, 1437
    )
    steps = training.options(values, number).total_steps
    epochs = steps * values.batch_size / number
    assert f"  epochs: {epochs}\n" in text
    assert not list(tmp_path.iterdir()), "a dry run writes nothing"


def test_damaged_data_are_refused_by_a_dry_run_too(program_run, tmp_path):
    (tmp_path / "cifar10_jpeg.npz").write_bytes(b"PK\3\4 and no more")
    code, text = program_run(
        f"--flagfile={FOLDER}/cifar10_davidnet.flags",
        f"--data_dir={tmp_path}",
        "--dry_run",
    )
    assert code == 2 and "cifar10_jpeg.npz: no whole .npz file" in text, text


@NEEDS_DATA
def test_a_sample_is_not_taken_for_imagenet(program_run):
    code, text = program_run(f"--flagfile={FOLDER}/lars.flags", "--dry_run")
    assert code == 0, text
    assert "These 160 training records are not the 1,281,167 of" in text
    assert "batch_size=32768 is more than the 160 training examples" in text


def test_a_batch_beyond_the_data(program_run, tmp_path):
    batch = [f"--flagfile={FOLDER}/digits_nesterov.flags", "--batch_size=1472"]
    said = "batch_size=1472 is more than the 1437 training examples"
    code, text = program_run(*batch)
    assert (code, "Traceback" in text) == (2, False), text
    assert said in text
    assert not list(tmp_path.iterdir())
    code, text = program_run(*batch, "--dry_run", "--warmup_steps=2")
    assert code == 0 and f"refused without --dry_run: {said}" in text, text


NUMBERS = [
    name
    for name in train.FLAGS
    if train.FLAGS[name].flag_type() in ("float", "int")
]


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "-11", "1" + 12 * "0"])
def test_numbers_that_make_no_sense(name, value, program_run, tmp_path):
    code, text = program_run(*RUN, "--dry_run", f"--{name}={value}")
    assert code == 2, text
    assert name in text and "Traceback" not in text, text
    assert len(text.splitlines()) < 4, text
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "place", ["/proc/x", "/dev/null", "/dev/null/x", "/sys/kernel/x"]
)
def test_places_where_nothing_can_be_written(place, program_run):
    code, text = program_run(*RUN, f"--output_dir={place}")
    assert (code, "Traceback" in text) == (2, False), text
    assert place.rpartition("/")[0] in text
    refusal = [line for line in text.splitlines() if place[:5] in line]
    assert len(refusal) == 1, text


def test_a_dry_run_refuses_what_the_run_refuses(program_run, tmp_path):
    for arguments, said in (
        (("--virtual_batch_size=96",), "virtual_batch_size=96 does not divide"),
        (
            ("--virtual_batch_size=0",),
            "virtual_batch_size=0 takes all 256 examples of a replica "
            "together, which microbatch_size=64 divides",
        ),
        (("--model=lenet5",), "at least 12 x 12 pix"),
    ):
        texts = set()
        for dry in ((), ("--dry_run",)):
            code, text = program_run(*RUN, *arguments, *dry)
            assert code == 2 and said in text, text
            texts.add(text)
        assert len(texts) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments, expected",
    [
        ("--model=lenet5", "--final_gamma does not apply to --model=lenet5"),
        ("--resnet_version=1.0", "resnet50, resnet101 and resnet152 use it"),
        ("--data_dir=x", "to --data=digits; only mnist, cifar"),
        ("--preprocessing=paper", "only imagenet uses it"),
        ("--augment=mirror", "should be one of <none|davidnet>"),
        ("--l2=0", "--l2_on does not apply to --l2=0; only an --l2 above 0"),
        (
            "--optimizer=lamb",
            "only lars, momentum, nesterov and muon use it (received 0.9)",
        ),
        (
            "--schedule=cosine",
            "--warmup_steps does not apply to --schedule=cosine",
        ),
        ("--batch_sise=8", "mean: batch_size"),
        ("--microbatch_size=100", "100 does not divide"),
        ("--momentum=1", "momentum"),
        ("--label_smoothing=1", "label_smoothing"),
        (
            "--virtual_batch_size=96",
            "virtual_batch_size=96 does not divide the 256 examples of a rep",
        ),
        (
            "--microbatch_size=32",
            "virtual_batch_size=64 does not divide microbatch_size=32",
        ),
        ("--batch_norm_momentum=1", "expected a number in [0, 1)"),
        ("--batch_norm_epsilon=0", "epsilon=0 divides by zero where"),
        ("--train_steps=5", "one of --train_steps and --train_epochs"),
        ("--mode=eval", "holds no whole checkpoint"),
    ],
)
def test_refusals(arguments, expected, program_run, tmp_path):
    code, text = program_run(
        f"--flagfile={FOLDER}/digits_nesterov.flags", arguments
    )
    assert (code, "Traceback" in text) == (2, False), text
    assert expected in text
    assert not list(tmp_path.iterdir()), "a refusal leaves nothing behind"


# --- end to end -----------------------------------------------------------


def _started(folder, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "resnet.train", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )


def _contents(folder):
    return {
        path: path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_train_again_evaluate_and_another_run(tmp_path, program_run):
    first = _started(tmp_path, *RUN)
    assert first.returncode == 0, first.stderr
    record = tmp_path / "record"
    written = _contents(record)
    lines = (record / "measurements.jsonl").read_text().splitlines()
    measured = [json.loads(line) for line in lines]
    assert [line["step"] for line in measured] == [4, 8, 12]

    # The record's own flagfile is the same command.
    code, text = program_run("--flagfile=record/flags.txt")
    assert code == 0 and "nothing to do" in text, text
    assert _contents(record) == written

    code, text = program_run(*RUN, "--mode=eval")
    assert code == 0, text
    metrics = json.loads(text)
    assert metrics["step"] == 12
    validated = measured[-1]["validation_accuracy"]
    assert metrics["accuracy"] == pytest.approx(validated, abs=1e-6)
    assert _contents(record) == written

    code, text = program_run(*RUN, "--seed=1")
    assert code == 2
    assert "holds another run" in text and "--seed=1 (here)" in text
    assert _contents(record) == written


@pytest.mark.slow
@pytest.mark.parametrize("name", ["digits_nesterov", "digits_lars"])
def test_the_digits_files_reach_97_percent(name, tmp_path):
    done = _started(tmp_path, f"--flagfile={FOLDER / name}.flags")
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / f"records/{name}/measurements.jsonl").read_text()
    last = json.loads(lines.splitlines()[-1])
    assert last["validation_accuracy"] >= 0.97
