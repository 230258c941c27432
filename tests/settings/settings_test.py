"""Flags, their refusals and flagfiles; no framework but where optimizers are
made."""

import ast
import inspect
import math
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import pytest
from absl import app
from absl import flags
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import lbcheck
from lbcheck import optimizers
from lbcheck.settings import command_line
from lbcheck.settings import flag_usage
from lbcheck.settings import optimizer
from lbcheck.settings import schedule
from lbcheck.settings import training


def parsed(*arguments, define=(optimizer, schedule, training)):
    values = flags.FlagValues()
    for module in define:
        module.define(values)
    command_line.parse(values, ["program", *arguments])
    return values


# --- optimizers -----------------------------------------------------------

# Each line gives every flag that the optimizer has, with no value that is a
# default, and what its constructor is to be told.
EVERY_FLAG = {
    "nesterov": (
        "--momentum=0.8 --weight_decay=0.02 --dialect=flax "
        "--exclude_from_weight_decay=a,b --global_clipnorm=2",
        dict(
            momentum=0.8,
            weight_decay=0.02,
            dialect="flax",
            exclude_from_weight_decay=["a", "b"],
            global_clipnorm=2.0,
        ),
    ),
    "momentum": ("--momentum=0.7", dict(momentum=0.7, nesterov=False)),
    "adamw": (
        "--beta_1=0.8 --beta_2=0.9 --epsilon=1e-3 --weight_decay=0.3 "
        "--nobias_correction --diagnostics_every=7",
        dict(
            beta_1=0.8,
            beta_2=0.9,
            epsilon=1e-3,
            weight_decay=0.3,
            bias_correction=False,
            diagnostics_every=7,
        ),
    ),
    "adagrad": (
        "--initial_accumulator_value=0.5 --epsilon=1e-3 --weight_decay=0.3",
        dict(initial_accumulator_value=0.5, epsilon=1e-3, weight_decay=0.3),
    ),
    "lars": (
        "--momentum=0.8 --weight_decay=0.02 --trust_coefficient=0.5 "
        "--epsilon=1e-4 --exclude_from_layer_adaptation=",
        dict(
            momentum=0.8,
            weight_decay=0.02,
            trust_coefficient=0.5,
            epsilon=1e-4,
            exclude_from_layer_adaptation=[],
        ),
    ),
    "lamb": (
        "--beta_1=0.8 --beta_2=0.9 --epsilon=1e-3 --weight_decay=0.3 "
        "--nobias_correction --norm=linf --nesterov_form=both",
        dict(
            beta_1=0.8,
            beta_2=0.9,
            epsilon=1e-3,
            weight_decay=0.3,
            bias_correction=False,
            norm="linf",
            nesterov="both",
        ),
    ),
}


@pytest.mark.parametrize("name", EVERY_FLAG)
@pytest.mark.parametrize("room", ["tf_keras", "keras3"])
def test_the_optimizer_is_told_what_the_flags_say(name, room):
    line, expected = EVERY_FLAG[name]
    values = parsed(f"--optimizer={name}", *line.split())
    made = optimizer.make(values, getattr(lbcheck, room), 0.125)
    assert type(made).__name__.lower() == name
    assert type(made).__module__ == f"lbcheck.{room}"
    config = made.get_config()
    assert {key: config[key] for key in expected} == expected
    default = type(made)(0.125).get_config()
    told = set(expected)
    assert all(config[key] == default[key] for key in set(config) - told)


def test_the_fallback_has_its_own_numbers_and_the_common_rate():
    values = parsed(
        "--optimizer=lamb",
        "--epsilon=1e-6",
        "--fallback=adamw",
        "--fallback_epsilon=1e-8",
        "--fallback_beta_2=0.95",
    )
    config = optimizer.make(values, lbcheck.tf_keras, 0.5).get_config()
    assert config["epsilon"] == 1e-6 and config["beta_2"] == 0.999
    assert config["fallback"]["class_name"] == "AdamW"
    fallback = config["fallback"]["config"]
    assert fallback["epsilon"] == 1e-8 and fallback["beta_2"] == 0.95
    assert "learning_rate" not in fallback


# Every (optimizer, flag) pair, from the signatures written out by hand.
USED = {
    "momentum": "lars momentum muon nesterov",
    "beta_1": "adamw ademamix lamb lion nadamw schedulefreeadamw soap",
    "beta_2": "adamw ademamix lamb lion nadamw schedulefreeadamw soap",
    "beta_3": "ademamix",
    "beta_preconditioner": "soap",
    "epsilon": "adagrad adamw ademamix lamb lars muon nadamw "
    "schedulefreeadamw soap",
    "trust_coefficient": "lars",
    "norm": "lamb",
    "alpha": "ademamix",
    "slow_warmup_steps": "ademamix",
    "update_rms": "muon",
    "fallback_rate_ratio": "muon",
    "precondition_frequency": "soap",
    "bias_correction": "adamw lamb muon soap",
    "initial_accumulator_value": "adagrad",
    "exclude_from_layer_adaptation": "lamb lars muon",
    "fallback": "lamb lars muon",
    "nesterov_form": "lamb",
}
EXAMPLE = {
    "norm": "l1",
    "bias_correction": "true",
    "fallback": "adamw",
    "nesterov_form": "first",
    "precondition_frequency": "2.5",
}


@pytest.mark.parametrize("flag", USED)
@pytest.mark.parametrize("name", optimizers.BY_NAME)
def test_a_flag_that_the_optimizer_does_not_use_is_refused(name, flag):
    value = EXAMPLE.get(flag, "0.5")
    values = parsed(f"--optimizer={name}", f"--{flag}={value}")
    if name in USED[flag].split():
        optimizer.check(values)
        return
    with pytest.raises(app.UsageError) as error:
        optimizer.check(values)
    message = str(error.value)
    assert f"--{flag} does not apply to --optimizer={name}; only" in message
    used_by = message.partition("only")[2].partition("use")[0]
    assert sorted(re.findall("[a-z]+", used_by)) == sorted(
        [*USED[flag].split(), *["and"] * (len(USED[flag].split()) > 1)]
    )
    received = {"bias_correction": "True"}.get(flag, value)
    assert message.endswith(f"(received {received}).")


@pytest.mark.parametrize(
    "arguments, expected",
    [
        (
            "--fallback_epsilon=1",
            "--fallback_epsilon does not apply without --fallback; ",
        ),
        (
            "--fallback=momentum --fallback_epsilon=1",
            "does not apply to --fallback=momentum; only adagrad, adamw, ",
        ),
        ("--dialect=hearsay", "unknown dialect 'hearsay'"),
    ],
)
def test_other_refusals_of_the_optimizer(arguments, expected):
    values = parsed("--optimizer=lars", *arguments.split())
    with pytest.raises(app.UsageError, match=expected):
        optimizer.check(values)


def test_an_optimizer_is_needed():
    with pytest.raises(app.UsageError, match="--optimizer is needed"):
        optimizer.check(parsed())


@pytest.mark.parametrize(
    "line, expected",
    [
        ("nesterov --momentum=1", "optimizer=nesterov: Nesterov: `momentum`"),
        ("nesterov --dialect=keras --momentum=-0.0001", "lower|momentum"),
        ("lamb --fallback=adamw --fallback_beta_2=1", "fallback=adamw: Adam"),
        ("adamw --exclude_from_weight_decay=bias,", "`exclude_from_w.*''.*"),
        ("lars --exclude_from_layer_adaptation=(", "regular expression"),
        ("lamb --dialect=keras --exclude_from_layer_adaptation=same", "'same'"),
        ("lamb --dialect=nvlamb --fallback=adamw", "`fallback`.*none here"),
        ("adamw --global_clipnorm=0", "`global_clipnorm`.*above 0.*0.0"),
    ],
)
def test_values_that_the_optimizer_refuses(line, expected):
    """Where the flags are checked, before anything is made."""
    with pytest.raises((app.UsageError, flags.Error), match=expected):
        optimizer.check(parsed(*f"--optimizer={line}".split()))


@pytest.mark.parametrize(
    "optimizer_name, dialect, flag, contradicts",
    [
        ("adamw", "bert_original", "--bias_correction", "=False.*=True"),
        ("adamw", "keras", "--nobias_correction", "=True.*=False"),
        ("lamb", "keras", "--nobias_correction", "=True.*=False"),
        ("lamb", "tfa", "--nesterov_form=first", "=None.*='first'"),
        ("lamb", "optax", "--norm=linf", "='l2'.*='linf'"),
        ("lars", "mlperf", "--epsilon=0", "=1e-07.*=0.0"),
    ],
)
def test_a_flag_against_the_dialect_is_refused(
    optimizer_name, dialect, flag, contradicts
):
    values = parsed(
        f"--optimizer={optimizer_name}", f"--dialect={dialect}", flag
    )
    with pytest.raises(app.UsageError, match=f"{dialect}.*{contradicts}"):
        optimizer.check(values)


@pytest.mark.parametrize(
    "line, expected",
    [
        (
            "adamw --dialect=bert_original --nobias_correction",
            dict(bias_correction=False, epsilon_hat=False),
        ),
        ("adamw --nobias_correction", dict(bias_correction=False)),
        ("adamw --bias_correction", dict(bias_correction=True)),
        ("adamw --dialect=keras", dict(bias_correction=True, epsilon_hat=True)),
        ("lars --dialect=mlperf", dict(epsilon=1e-7)),
        ("lars --dialect=mlperf --epsilon=1e-3", dict(epsilon=1e-3)),
        (
            "lamb --exclude_from_layer_adaptation=same --dialect=mlperf",
            dict(exclude_from_layer_adaptation="same"),
        ),
        (
            "lamb --dialect=keras",
            dict(exclude_from_layer_adaptation=[], decay_placement="decoupled"),
        ),
    ],
)
def test_what_flags_and_dialect_agree_on_is_computed(line, expected):
    values = parsed(*f"--optimizer={line}".split())
    config = optimizer.make(values, lbcheck.tf_keras, 0.1).get_config()
    assert {name: config[name] for name in expected} == expected


def test_arguments_without_a_flag_are_those_that_dialects_set():
    """A new constructor argument is given a flag, or is listed here."""
    left = {
        name
        for cls in optimizers.ALL
        for name in inspect.signature(cls).parameters
    } - set(USED)
    assert left == {
        "average",
        "coefficients",
        "constant_norm",
        "correct",
        "correction",
        "decay_placement",
        "decay_times_rate",
        "denominator",
        "dialect",
        "diagnostics_every",
        "epsilon_hat",
        "exclude_from_weight_decay",
        "flatten",
        "kwargs",
        "l2",  # in the loss, where every optimizer has it alike
        "learning_rate",
        "max_precondition_size",
        "momentum_schedule",
        "name",
        "nesterov",
        "newton_schulz_steps",
        "normalize",
        "phi_bounds",
        "rate_in_buffer",
        "scale",
        "warmup_from_zero",
        "weight_decay",
        "zero_norm",
    }


# --- schedules ------------------------------------------------------------


def cosine(t, total, peak, final):
    return final + (peak - final) * (1 + math.cos(math.pi * t / total)) / 2


def rising(t, steps, low, high, power):
    return low + (high - low) * (t / steps) ** power


SCHEDULES = {
    "--schedule=constant --learning_rate=0.3": lambda t: 0.3,
    "--schedule=constant --learning_rate=0.3 --warmup_steps=20": (
        lambda t: 0.3 * min(t / 20, 1)
    ),
    "--learning_rate=0.3": lambda t: 0.3,
    "--schedule=cosine --learning_rate=2 --final_learning_rate=0.5": (
        lambda t: cosine(t, 100, 2, 0.5)
    ),
    "--schedule=warmup_cosine --learning_rate=2 --final_learning_rate=0.5 "
    "--warmup_steps=20 --warmup_power=2 --initial_learning_rate=0.1": (
        lambda t: (
            rising(t, 20, 0.1, 2, 2) if t < 20 else cosine(t - 20, 80, 2, 0.5)
        )
    ),
    "--schedule=warmup_polynomial --learning_rate=2 --warmup_steps=20 "
    "--final_learning_rate=0.5 --warmup_power=3 --decay_power=2 "
    "--initial_learning_rate=0.1": (
        lambda t: (
            rising(t, 20, 0.1, 2, 3)
            if t < 20
            else rising(100 - t, 80, 0.5, 2, 2)
        )
    ),
    "--schedule=warmup_polynomial --learning_rate=2 --warmup_steps=20 "
    "--decay_end_step=60": (
        lambda t: (
            rising(t, 20, 0, 2, 1)
            if t < 20
            else rising(max(60 - t, 0), 40, 0, 2, 1)
        )
    ),
    "--schedule=goyal --learning_rate=2 --warmup_steps=20 "
    "--boundaries=30,60 --boundary_factor=0.5 --initial_learning_rate=1": (
        lambda t: (
            rising(t, 20, 1, 2, 1)
            if t < 20
            else 2 * 0.5 ** sum((t >= 30, t >= 60))
        )
    ),
}


@pytest.mark.parametrize("line", SCHEDULES)
def test_the_schedule_is_what_the_flags_say(line):
    made = schedule.make(parsed(*line.split()), total_steps=100)
    for t in range(100):
        assert made(t) == pytest.approx(
            SCHEDULES[line](t), rel=1e-12, abs=1e-15
        )


@pytest.mark.parametrize(
    "line",
    [
        "--schedule=constant",
        "--schedule=goyal --boundaries=",
        "--schedule=warmup_polynomial",
    ],
)
def test_a_warm_up_may_last_the_whole_run(line):
    given = [*line.split(), "--learning_rate=2", "--warmup_steps=100"]
    made = schedule.make(parsed(*given), total_steps=100)
    for t in range(100):
        assert made(t) == pytest.approx(2 * t / 100, rel=1e-12)


@pytest.mark.parametrize(
    "line, expected",
    [
        (
            "--schedule=cosine --learning_rate=1 --decay_power=2",
            "--decay_power does not apply to --schedule=cosine; only "
            r"warmup_polynomial uses it \(received 2.0\)",
        ),
        ("--learning_rate=1 --boundaries=3", "only goyal uses it"),
        ("--schedule=goyal --learning_rate=1", "needs --warmup_steps"),
        ("--schedule=cosine", "needs --learning_rate"),
        (
            "--schedule=warmup_polynomial --learning_rate=1 --warmup_steps=101",
            "--schedule=warmup_polynomial: .*warmup_steps=101",
        ),
        (
            "--schedule=warmup_cosine --learning_rate=1 --warmup_steps=100",
            "leaves nothing of the 100 updates",
        ),
        (
            "--schedule=constant --learning_rate=1 --warmup_steps=101",
            "warmup_steps=101 and total_steps=100",
        ),
        (
            "--schedule=goyal --learning_rate=1 --warmup_steps=101 "
            "--boundaries=",
            "warmup_steps=101 and total_steps=100",
        ),
        (
            "--schedule=goyal --learning_rate=1 --warmup_steps=1 "
            "--boundaries=5,100",
            "step 100 is not before the end",
        ),
        (
            "--schedule=goyal --learning_rate=1 --warmup_steps=1 "
            "--boundaries=five",
            "boundaries must be steps, received .'five'.",
        ),
    ],
)
def test_refusals_of_the_schedule(line, expected):
    with pytest.raises(app.UsageError, match=expected):
        schedule.make(parsed(*line.split()), total_steps=100)


# --- training -------------------------------------------------------------

NEEDED = ("--output_dir=there", "--batch_size=32768")


@pytest.mark.parametrize(
    "line, steps",
    [
        ("--train_steps=7", 7),
        ("--train_epochs=64 --epoch_rule=mlperf4", 2512),
        ("--train_epochs=64", 2502),
        ("--train_epochs=68 --epoch_rule=floor", 2658),
    ],
)
def test_the_length_of_the_run(line, steps):
    values = parsed(*NEEDED, *line.split())
    assert training.options(values, 1_281_167).total_steps == steps


@pytest.mark.parametrize(
    "line, expected",
    [
        (NEEDED, "one of --train_steps and --train_epochs"),
        ((*NEEDED, "--train_steps=1", "--train_epochs=1"), "one of"),
        (
            (*NEEDED, "--train_steps=1", "--epoch_rule=floor"),
            "--epoch_rule does not apply to --train_steps.*floor",
        ),
        ((*NEEDED, "--train_epochs=0.1"), "less than one update"),
        (("--output_dir=a", "--train_steps=1"), "--batch_size is needed"),
        (("--batch_size=1", "--train_steps=1"), "--output_dir is needed"),
        (
            (*NEEDED, "--train_steps=1", "--log_every=4", "--evaluate_every=6"),
            "evaluate_every=6 is not a multiple of log_every=4",
        ),
    ],
)
def test_refusals_of_the_training_flags(line, expected):
    with pytest.raises((app.UsageError, ValueError), match=expected):
        training.options(parsed(*line), 1000)


def test_every_training_option_has_its_flag():
    line = (
        "--output_dir=there --batch_size=64 --train_steps=12 "
        "--microbatch_size=8 --evaluation_batch_size=16 --seed=5 "
        "--log_every=2 --evaluate_every=4 --checkpoint_every=6 "
        "--distribution=tpu --tpu=local --steps_per_execution=2 --xla "
        "--mixed_precision=bfloat16 --deterministic --diagnostics_every=3 "
        "--noprogress"
    )
    made = training.options(parsed(*line.split()), 1000)
    assert made == type(made)(
        output_dir="there",
        batch_size=64,
        total_steps=12,
        microbatch_size=8,
        evaluation_batch_size=16,
        seed=5,
        log_every=2,
        evaluate_every=4,
        checkpoint_every=6,
        distribution="tpu",
        tpu="local",
        steps_per_execution=2,
        xla=True,
        mixed_precision="bfloat16",
        deterministic=True,
        diagnostics=True,
        keras="tf_keras",
        progress=False,
    )
    plain = training.options(parsed(*NEEDED, "--train_steps=1"), 1000)
    assert plain == type(made)("there", 32768, 1)


# --- flagfiles ------------------------------------------------------------

_CHARACTERS = st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"])
_TEXT = st.text(_CHARACTERS).map(str.strip)
_VALUES = {
    "float": st.floats(0, 1),
    "int": st.integers(1, 2**60),
    "bool": st.booleans(),
    "string": _TEXT,
    "comma separated list of strings": st.lists(_TEXT),
}


@st.composite
def settings_drawn(draw):
    values = parsed()
    names = sorted({*values} - {"progress"})  # decides nothing of the run
    for name in draw(st.sets(st.sampled_from(names))):
        flag = values[name]
        if flag.flag_type() == "string enum":
            flag.value = draw(st.sampled_from(flag.parser.enum_values))
        else:
            value = draw(_VALUES[flag.flag_type()])
            highest = getattr(flag.parser, "upper_bound", None)
            flag.value = value if highest is None else min(value, highest)
    return values


@hypothesis_settings(max_examples=100, deadline=None)
@given(settings_drawn())
def test_the_flagfile_gives_identical_settings(values):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "flags")
        path.write_text(command_line.flagfile(values), encoding="utf-8")
        again = parsed(f"--flagfile={path}")
    assert command_line.values(again) == command_line.values(values)
    assert command_line.flagfile(again) == command_line.flagfile(values)


def test_the_flagfile_is_one_flag_a_line_by_module_and_name():
    values = parsed(
        "--optimizer=lamb",
        "--exclude_from_weight_decay=bias$,(a|b){1",
        "--batch_size=8",
        "--xla",
        "--noprogress",
    )
    assert "progress" not in command_line.flagfile(values)
    lines = command_line.flagfile(values).splitlines()
    assert lines[:2] == [
        "--exclude_from_weight_decay=bias$,(a|b){1",
        "--optimizer=lamb",
    ]
    assert lines[2] == "--schedule=constant"
    assert lines[3:] == sorted(lines[3:], key=lambda x: x.replace("--no", "--"))
    assert "--batch_size=8" in lines and "--xla" in lines
    assert "--nodeterministic" in lines


@pytest.mark.parametrize("bad", ["two\nlines", " blank", "blank ", "a\rb"])
def test_what_no_line_can_hold_is_refused(bad):
    values = parsed("--output_dir=x")
    values.output_dir = bad
    with pytest.raises(ValueError, match="--output_dir"):
        command_line.flagfile(values)


def test_a_file_is_no_folder_of_a_run(tmp_path):
    path = tmp_path / "README.md"
    path.touch()
    with pytest.raises(flags.Error, match="README.md: is a file; expected"):
        parsed(f"--output_dir={path}")
    parsed(f"--output_dir={tmp_path}")


def test_an_unknown_flag_is_told_with_what_may_be_meant(tmp_path):
    with pytest.raises(flags.Error, match="mean: optimizer"):
        parsed("--optimiser=lamb")
    path = tmp_path / "mine.flags"
    path.write_text("# comment\n--seed=1\n--bach_size=1\n")
    with pytest.raises(app.UsageError, match=r"mine.flags.*mean: batch_size"):
        parsed(f"--flagfile={path}")


@pytest.mark.parametrize(
    "argument, expected",
    [
        ("--seed=x", "--seed=x"),
        ("--optimizer=sgd", "adagrad|adamw"),
        ("--flagfile=nowhere.flags", "nowhere.flags"),
        ("seed=1", "must be flags"),
    ],
)
def test_bad_arguments_are_refused(argument, expected):
    with pytest.raises((flags.Error, app.UsageError), match=expected):
        parsed(argument)


def test_the_later_value_holds(tmp_path):
    path = tmp_path / "mine.flags"
    path.write_text("--seed=1\n")
    assert parsed(f"--flagfile={path}", "--seed=2").seed == 2
    assert parsed("--seed=2", f"--flagfile={path}").seed == 1


# --- programs -------------------------------------------------------------

PROGRAM = """
import os, signal, sys
from absl import flags
from lbcheck.settings import command_line
FLAGS = flags.FlagValues()
flags.DEFINE_string("end", "", "How it ends.", flag_values=FLAGS)
def main():
    if FLAGS.end == "refused":
        raise ValueError("not this")
    if FLAGS.end == "bug":
        raise KeyError("not mine")
    if FLAGS.end == "terminated":
        os.kill(os.getpid(), signal.SIGTERM)
    return 75
command_line.start(main, FLAGS, "The manual.")
"""


def started(*arguments):
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        capture_output=True,
        text=True,
        cwd=pathlib.Path(__file__).parents[2],
        env=os.environ | {"PYTHONPATH": "."},
    )


@pytest.mark.parametrize(
    "arguments, code, printed",
    [
        ([], 75, ""),
        (["--end=refused"], 2, "not this"),
        (["--ent=refused"], 2, "mean: end"),
        (["--help"], 0, "How it ends."),
        (["--end=terminated"], 75, "interrupted."),
    ],
)
def test_a_program_exits_with_its_code_and_without_traceback(
    arguments, code, printed
):
    done = started(*arguments)
    assert done.returncode == code
    assert printed in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_a_bug_keeps_its_traceback():
    done = started("--end=bug")
    assert done.returncode == 1 and "Traceback" in done.stderr


# --- the room -------------------------------------------------------------


def test_importing_the_room_imports_no_framework():
    code = (
        "import sys\n"
        "from lbcheck.settings import command_line, dry_run, optimizer\n"
        "from lbcheck.settings import flag_usage, schedule, training\n"
        "print({'tensorflow', 'keras', 'tf_keras', 'jax'} & set(sys.modules))"
    )
    root = pathlib.Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=root
    )
    assert done.stdout.strip() == "set()", done.stderr


def test_flags_that_only_some_use_have_no_default():
    values = parsed()
    for module in (optimizer, schedule):
        own = flags.FlagValues()
        module.define(own)
        for name in own:
            if name != "schedule":
                assert values[name].value is None, name


@pytest.mark.parametrize(
    "module", [optimizer, command_line, schedule, training, flag_usage]
)
def test_doctests(module):
    import doctest

    assert doctest.testmod(module).failed == 0


def test_help_is_one_short_sentence():
    for name, flag in parsed()._flags().items():
        text = flag.help.rpartition(">: ")[2]  # after <the choices>
        assert text.endswith(".") and len(text) <= 80, (name, text)


def test_the_room_does_not_know_the_programs():
    for path in pathlib.Path(lbcheck.__file__).parent.glob("settings/*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [getattr(node, "module", None) or ""]
            names += [a.name for a in getattr(node, "names", [])]
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                assert not any(n.startswith(("resnet", "bert")) for n in names)
